//! Steps as the commands that do the same by hand: `ip`, `bridge`, `sysctl`, `nft`, `weft`.

use crate::wire::MacAddr;

use super::step::{Action, Device, Step, VlanPort};
use crate::lab::{
    running::folder,
    topology::{BridgePort, FdbEntry, Interface, Kind, Neighbour, Route, VlanMember},
    weft_config::namespace_name,
};

/// A script for sh(1) that does these steps for a lab of this name.
pub(in crate::lab) fn script(lab: &str, steps: &[Step]) -> String {
    steps.iter().map(|step| command(lab, step) + "\n").collect()
}

fn command(lab: &str, step: &Step) -> String {
    let namespace = namespace_name(lab, &step.host);
    let ip = |words: String| format!("ip -n {namespace} {words}");
    let bridge = |words: String| format!("bridge -n {namespace} {words}");
    let inside = |words: String| format!("ip netns exec {namespace} {words}");
    match &step.action {
        Action::Namespace => format!("ip netns add {namespace}\nip -n {namespace} link set lo up"),
        Action::Make(device) => make(lab, &namespace, device),
        Action::Delete(name) => ip(format!("link delete {name}")),
        Action::Up(name, up) => ip(format!("link set {name} {}", if *up { "up" } else { "down" })),
        Action::Mtu(name, mtu) => ip(format!("link set {name} mtu {mtu}")),
        Action::Mac(name, mac) => ip(format!("link set {name} address {mac}")),
        Action::Enslave(name, Some(master)) => ip(format!("link set {name} master {master}")),
        Action::Enslave(name, None) => ip(format!("link set {name} nomaster")),
        Action::Port(name, port) => bridge(format!("link set dev {name}{}", port_words(*port))),
        Action::AddVlan(port, member) => bridge(format!("vlan add {}", vlan_words(port, member))),
        Action::RemoveVlan(port, id) => {
            bridge(format!("vlan del dev {} vid {id}{}", port.interface, if port.itself { " self" } else { "" }))
        }
        // Nobody else on the cable can have it, so that nobody need be asked.
        Action::AddAddress(name, prefix) => {
            let nodad = if prefix.address.is_ipv6() { " nodad" } else { "" };
            ip(format!("address add {prefix} dev {name}{nodad}"))
        }
        Action::RemoveAddress(name, prefix) => ip(format!("address del {prefix} dev {name}")),
        Action::AddRoute(route) => ip(format!("route add {}", route_words(route))),
        Action::RemoveRoute(route) => ip(format!("route del {}", route_words(route))),
        Action::AddNeighbour(neighbour) => ip(format!("neighbour {}", neighbour_words("replace", neighbour))),
        Action::RemoveNeighbour(neighbour) => ip(format!("neighbour {}", neighbour_words("del", neighbour))),
        Action::AddFdb(entry) => bridge(format!("fdb {}", fdb_words(entry, true))),
        Action::RemoveFdb(entry) => bridge(format!("fdb {}", fdb_words(entry, false))),
        Action::Sysctl(parameter) => {
            let if_there = if parameter.if_there { "e" } else { "" };
            inside(format!("sysctl -q{if_there}w {}={}", parameter.key, quoted(&parameter.value.to_string())))
        }
        Action::Nft(text) => inside(format!("nft -f - <<'END'\n{}\nEND", text.trim_end())),
        Action::Weft(config) => {
            let file = folder(lab).join(format!("{}.toml", step.host));
            let (folder, file) = (folder(lab).display().to_string(), file.display().to_string());
            let socket = file.replace(".toml", ".sock");
            let log = file.replace(".toml", ".log");
            format!(
                "mkdir -p {folder}\ncat >{file} <<'END'\n{}\nEND\n{} 2>{log} &\nuntil grep -q 'weft runs' {log}; do sleep 0.05; done",
                config.trim_end(),
                inside(format!("weft run {file} --socket {socket}"))
            )
        }
        Action::StopWeft => format!("pkill -f {}", folder(lab).join(format!("{}.toml", step.host)).display()),
        Action::AddBpf(bpf) => {
            let redirect: Vec<_> =
                bpf.redirect.iter().map(|(address, interface)| format!(" --redirect {address}={interface}")).collect();
            inside(format!("weft lab attach {}{}", bpf.interface, redirect.concat()))
        }
        Action::RemoveBpf(name) => inside(format!("tc filter del dev {name} ingress")),
    }
}

fn make(lab: &str, namespace: &str, device: &Device) -> String {
    let Device { interface, other } = device;
    let own = own_words(interface);
    // The new interface is made where its parent is, and put into its own host at once.
    let parent = other.as_ref().map(|(host, parent)| (namespace_name(lab, host), parent.name.as_str()));
    let on_parent = |words: String| match &parent {
        Some((parent_namespace, name)) if parent_namespace != namespace => {
            format!("ip -n {parent_namespace} link add link {name} {own} netns {namespace} {words}")
        }
        Some((_, name)) => format!("ip -n {namespace} link add link {name} {own} {words}"),
        None => format!("ip -n {namespace} link add {own} {words}"),
    };
    let mode = interface.mode.map_or("", |mode| mode.word());
    match interface.kind {
        Kind::Veth => {
            let peer = other
                .as_ref()
                .map(|(host, peer)| format!(" peer {} netns {}", own_words(peer), namespace_name(lab, host)));
            format!("ip -n {namespace} link add {own} type veth{}", peer.unwrap_or_default())
        }
        Kind::Bridge => {
            let mut words = String::new();
            let on = |on: bool| if on { 1 } else { 0 };
            if let Some(stp) = interface.stp {
                words += &format!(" stp_state {}", on(stp));
            }
            if let Some(filtering) = interface.vlan_filtering {
                words += &format!(" vlan_filtering {}", on(filtering));
            }
            if let Some(seconds) = interface.ageing {
                words += &format!(" ageing_time {}", u64::from(seconds) * 100);
            }
            if let Some(snooping) = interface.snooping {
                words += &format!(" mcast_snooping {}", on(snooping));
            }
            format!("ip -n {namespace} link add {own} type bridge{words}")
        }
        Kind::Vxlan => {
            let mut words = format!("type vxlan id {}", interface.id.unwrap_or_default());
            if let Some(local) = interface.local {
                words += &format!(" local {local}");
            }
            words += &format!(" dstport {}", interface.udp_port.unwrap_or(VXLAN_PORT));
            if let Some(ttl) = interface.ttl {
                words += &format!(" ttl {ttl}");
            }
            if let Some(df) = interface.df {
                words += &format!(" df {}", df.word());
            }
            if interface.learning == Some(false) {
                words += " nolearning";
            }
            if let Some((_, parent)) = &parent {
                words += &format!(" dev {parent}");
            }
            format!("ip -n {namespace} link add {own} {words}")
        }
        Kind::Vlan => on_parent(format!("type vlan id {}", interface.id.unwrap_or_default())),
        Kind::Macvlan => on_parent(format!("type macvlan mode {mode}")),
        Kind::Ipvlan => on_parent(format!("type ipvlan mode {mode}")),
        Kind::Tap | Kind::Loopback => String::new(),
    }
}

/// IANA's port of VXLAN.
pub(super) const VXLAN_PORT: u16 = 4789;

fn own_words(interface: &Interface) -> String {
    let mut words = format!("name {}", interface.name);
    if let Some(mac) = interface.mac {
        words += &format!(" address {mac}");
    }
    if let Some(mtu) = interface.mtu {
        words += &format!(" mtu {mtu}");
    }
    words
}

fn port_words(port: BridgePort) -> String {
    let BridgePort { isolated, hairpin, learning, flood, bcast_flood, mcast_flood, locked, neigh_suppress, state } =
        port;
    let flags = [
        ("isolated", isolated),
        ("hairpin", hairpin),
        ("learning", learning),
        ("flood", flood),
        ("bcast_flood", bcast_flood),
        ("mcast_flood", mcast_flood),
        ("locked", locked),
        ("neigh_suppress", neigh_suppress),
    ];
    let set = flags.into_iter().filter_map(|(word, flag)| Some((word, flag?)));
    let mut words: String = set.map(|(word, on)| format!(" {word} {}", if on { "on" } else { "off" })).collect();
    if let Some(state) = state {
        words += &format!(" state {}", state.word());
    }
    words
}

fn vlan_words(port: &VlanPort, member: &VlanMember) -> String {
    let mut words = format!("dev {} vid {}", port.interface, member.id);
    for (word, on) in [(" pvid", member.pvid), (" untagged", member.untagged), (" self", port.itself)] {
        if on {
            words += word;
        }
    }
    words
}

fn route_words(route: &Route) -> String {
    let mut words = match route.refuse {
        Some(refuse) => format!("{} {}", refuse.word(), route.prefix()),
        None => route.to.to_string(),
    };
    if let Some(via) = route.via {
        words += &format!(" via {via}");
    }
    if let Some(interface) = &route.interface {
        words += &format!(" dev {interface}");
    }
    if let Some(source) = route.source {
        words += &format!(" src {source}");
    }
    if let Some(mtu) = route.mtu {
        words += &format!(" mtu {mtu}");
    }
    if route.onlink {
        words += " onlink";
    }
    words
}

fn neighbour_words(verb: &str, neighbour: &Neighbour) -> String {
    let Neighbour { interface, address, mac, .. } = neighbour;
    match mac {
        Some(mac) => format!("{verb} {address} lladdr {mac} dev {interface} nud permanent"),
        None => format!("{verb} proxy {address} dev {interface}"),
    }
}

fn fdb_words(entry: &FdbEntry, add: bool) -> String {
    let FdbEntry { interface, mac, remote } = entry;
    match (remote, add) {
        (Some(remote), true) => {
            let verb = if *mac == MacAddr::ZERO { "append" } else { "replace" };
            format!("{verb} {mac} dev {interface} dst {remote} self permanent")
        }
        (Some(remote), false) => format!("del {mac} dev {interface} dst {remote} self"),
        (None, true) => format!("replace {mac} dev {interface} master static"),
        (None, false) => format!("del {mac} dev {interface} master"),
    }
}

/// In quotes if a shell would take it apart.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
