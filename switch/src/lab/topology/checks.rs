//! What of a lab's file may not be together: names that nobody has, options of another kind, ends that don't meet.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use miette::NamedSource;

use super::{
    Bpf, Change, Check, Fault, FdbEntry, Host, Interface, Kind, Neighbour, Route, Topology,
    places::{Places, Way},
};
use crate::{
    control::{
        config::{Config, Mistake, nearest},
        link::is_interface_name,
    },
    lab::weft_config,
};

/// Everything that is wrong.
pub(super) fn all(topology: &Topology, source: &Arc<NamedSource<String>>) -> Vec<Mistake> {
    let mut checker = Checker { topology, places: Places::new(source) };
    checker.lab();
    checker.places.into_mistakes()
}

/// Whether this may name a lab or a host: it becomes part of a file's name and of commands.
pub(in crate::lab) fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with('-')
}

/// What [`is_name`] asks for.
pub(in crate::lab) const NAME_RULE: &str = "1 to 32 of a-z, 0-9 and -, not beginning with -";

struct Checker<'t> {
    topology: &'t Topology,
    places: Places<'t>,
}

impl<'t> Checker<'t> {
    fn lab(&mut self) {
        let root = Way::default();
        let topology = self.topology;
        if !is_name(&topology.name) {
            self.places.mistake(&root.key("name"), format!("{:?} can't name a lab", topology.name), NAME_RULE);
        }
        if topology.hosts.is_empty() {
            self.places.mistake(&root.key("name"), "the lab has no host", "begin each with `[[host]]`");
        }
        let mut names = HashSet::new();
        for (index, host) in topology.hosts.iter().enumerate() {
            let way = root.element("host", index);
            if !is_name(&host.name) {
                self.places.mistake(&way.key("name"), format!("{:?} can't name a host", host.name), NAME_RULE);
            }
            if !names.insert(&host.name) {
                self.twice(&way.key("name"), "host", &host.name);
            }
            self.host(&way, host);
        }
        let mut names = HashSet::new();
        for (index, check) in topology.checks.iter().enumerate() {
            let way = root.element("check", index);
            if !names.insert(&check.name) {
                self.twice(&way.key("name"), "check", &check.name);
            }
            self.check(&way, check);
        }
        let mut names = HashSet::new();
        for (index, fault) in topology.faults.iter().enumerate() {
            let way = root.element("fault", index);
            if !is_name(&fault.name) {
                self.places.mistake(&way.key("name"), format!("{:?} can't name a fault", fault.name), NAME_RULE);
            }
            if !names.insert(&fault.name) {
                self.twice(&way.key("name"), "fault", &fault.name);
            }
            self.fault(&way, fault);
        }
    }

    fn twice(&mut self, way: &Way, what: &str, name: &str) {
        self.places.mistake(way, format!("there are two of the {what} `{name}`"), "give one of them another name");
    }

    fn host(&mut self, way: &Way, host: &'t Host) {
        let mut names = HashSet::new();
        for (index, interface) in host.interfaces.iter().enumerate() {
            let way = way.element("interface", index);
            if !names.insert(&interface.name) {
                self.twice(&way.key("name"), "interface", &interface.name);
            }
            self.interface(&way, host, interface);
        }
        for (index, route) in host.routes.iter().enumerate() {
            self.route(&way.element("route", index), host, route);
        }
        for (index, neighbour) in host.neighbours.iter().enumerate() {
            self.neighbour(&way.element("neighbour", index), host, neighbour);
        }
        for (index, entry) in host.fdb.iter().enumerate() {
            self.fdb(&way.element("fdb", index), host, entry);
        }
        for (index, bpf) in host.bpf.iter().enumerate() {
            self.bpf(&way.element("bpf", index), host, bpf);
        }
        if let Some(weft) = &host.weft {
            let way = way.key("weft");
            match weft_config::text(self.topology, host, weft, "lab") {
                Ok(text) => {
                    if let Err(errors) = Config::parse("[host.weft]", &text) {
                        for mistake in errors.mistakes() {
                            let cure = mistake.advice().unwrap_or_default();
                            self.places.mistake(&way, format!("weft would not take this: {mistake}"), cure);
                        }
                    }
                }
                Err(what) => {
                    let cure = "name a host of the lab, or leave `netns` out for the weft's own host";
                    self.places.mistake(&way, what, cure);
                }
            }
        }
    }

    fn interface(&mut self, way: &Way, host: &'t Host, interface: &'t Interface) {
        let Interface { name, kind, .. } = interface;
        if !is_interface_name(name) {
            let cure = "1 to 15 characters, no slash, colon or space";
            self.places.mistake(&way.key("name"), format!("{name:?} can't be an interface's name"), cure);
        }
        if (name == "lo") != (*kind == Kind::Loopback) {
            let cure = "the loopback interface is `name = \"lo\"`, `kind = \"loopback\"`";
            self.places.mistake(&way.key("name"), format!("`{name}` is no {}", kind.word()), cure);
        }
        self.options(way, interface);
        if let Some(peer) = &interface.peer {
            self.peer(&way.key("peer"), &format!("{}/{name}", host.name), peer);
        }
        if let Some(bridge) = &interface.bridge {
            self.bridge(&way.key("bridge"), host, bridge);
        }
        if (interface.port.is_some() || !interface.vlan.is_empty())
            && interface.bridge.is_none()
            && *kind != Kind::Bridge
        {
            let key = if interface.port.is_some() { "port" } else { "vlan" };
            let what = format!("`{key}` is for ports of a bridge, and `{name}` is none");
            self.places.mistake(&way.key(key), what, "say which with `bridge = \"br0\"`");
        }
        if let Some(parent) = &interface.parent {
            let full_name = if parent.contains('/') { parent.clone() } else { format!("{}/{parent}", host.name) };
            self.known_interface(&way.key("parent"), &full_name);
            // Older kernels (6.1) look the name up where the parent is, not where the interface is to be.
            let parents_host = full_name.split_once('/').and_then(|(host, _)| self.topology.host(host));
            if let Some(other) = parents_host.filter(|other| other.name != host.name && other.interface(name).is_some())
            {
                let what = format!("the parent's host `{}` has an interface `{name}` too", other.name);
                self.places.mistake(&way.key("name"), what, "older kernels refuse that: give this one another name");
            }
        }
    }

    /// Options that are there and mean nothing to this kind, and those that are not there and must be.
    fn options(&mut self, way: &Way, interface: &Interface) {
        use Kind::{Bridge, Ipvlan, Macvlan, Veth, Vlan, Vxlan};
        let options: [(&str, bool, &[Kind]); 14] = [
            ("peer", interface.peer.is_some(), &[Veth]),
            ("parent", interface.parent.is_some(), &[Vlan, Macvlan, Ipvlan, Vxlan]),
            ("mode", interface.mode.is_some(), &[Macvlan, Ipvlan]),
            ("id", interface.id.is_some(), &[Vlan, Vxlan]),
            ("local", interface.local.is_some(), &[Vxlan]),
            ("remotes", !interface.remotes.is_empty(), &[Vxlan]),
            ("udp_port", interface.udp_port.is_some(), &[Vxlan]),
            ("learning", interface.learning.is_some(), &[Vxlan]),
            ("ttl", interface.ttl.is_some(), &[Vxlan]),
            ("df", interface.df.is_some(), &[Vxlan]),
            ("vlan_filtering", interface.vlan_filtering.is_some(), &[Bridge]),
            ("stp", interface.stp.is_some(), &[Bridge]),
            ("ageing", interface.ageing.is_some(), &[Bridge]),
            ("snooping", interface.snooping.is_some(), &[Bridge]),
        ];
        let kind = interface.kind;
        for (key, written, kinds) in options {
            if written && !kinds.contains(&kind) {
                let of: Vec<_> = kinds.iter().map(|kind| kind.word()).collect();
                let what = format!("a {} has no `{key}`", kind.word());
                self.places.mistake(&way.key(key), what, format!("it is an option of {}", of.join(", ")));
            }
        }
        let needed: &[(&str, &str)] = match kind {
            Veth => &[("peer", "peer = \"right/eth0\"")],
            Vxlan => &[("id", "id = 42"), ("local", "local = \"192.0.2.1\"")],
            Vlan => &[("parent", "parent = \"eth0\""), ("id", "id = 10")],
            Macvlan => &[("parent", "parent = \"host/eth0\""), ("mode", "mode = \"bridge\"")],
            Ipvlan => &[("parent", "parent = \"host/eth0\""), ("mode", "mode = \"l2\"")],
            Bridge | Kind::Tap | Kind::Loopback => &[],
        };
        for (key, example) in needed {
            if options.iter().any(|(known, written, _)| known == key && !written) {
                let what = format!("the {} `{}` has no `{key}`", kind.word(), interface.name);
                self.places.mistake(way, what, format!("such as: {example}"));
            }
        }
        let greatest = if kind == Vlan { 4094 } else { 0xff_ffff };
        if interface.id.is_some_and(|id| id > greatest || (kind == Vlan && id == 0)) {
            let cure = if kind == Vlan { "1 to 4094" } else { "0 to 16777215" };
            self.places.mistake(&way.key("id"), "this id is out of range", cure);
        }
        if interface.mode.is_some_and(|mode| mode.is_ipvlan() != (kind == Ipvlan)) && [Macvlan, Ipvlan].contains(&kind)
        {
            let cure = if kind == Ipvlan { "`l2`, `l3` or `l3s`" } else { "`bridge`, `private`, `vepa` or `passthru`" };
            self.places.mistake(&way.key("mode"), format!("a {} has no such mode", kind.word()), cure);
        }
        for (index, member) in interface.vlan.iter().enumerate() {
            if !(1..=4094).contains(&member.id) {
                let way = way.element("vlan", index).key("id");
                self.places.mistake(&way, format!("{} is no VLAN", member.id), "1 to 4094");
            }
        }
    }

    fn peer(&mut self, way: &Way, own: &str, peer: &str) {
        if peer == own {
            self.places.mistake(way, "a cable has two ends", "name the other one");
        } else if let Some(other) = self.known_interface(way, peer)
            && other.peer.as_deref() != Some(own)
        {
            let cure = format!("write `peer = \"{own}\"` there, or name another end here");
            self.places.mistake(way, format!("`{peer}` is not the other end of this cable"), cure);
        }
    }

    fn bridge(&mut self, way: &Way, host: &'t Host, name: &str) {
        let bridges = || host.interfaces.iter().filter(|interface| interface.kind == Kind::Bridge);
        if bridges().all(|bridge| bridge.name != name) {
            let known = bridges().map(|bridge| bridge.name.as_str());
            let what = format!("host `{}` has no bridge `{name}`", host.name);
            self.places.mistake(way, what, meant(name, known, "add one: `kind = \"bridge\"`"));
        }
    }

    fn known_host(&mut self, way: &Way, name: &str) -> Option<&'t Host> {
        let found = self.topology.host(name);
        if found.is_none() {
            let known = self.topology.hosts.iter().map(|host| host.name.as_str());
            self.places.mistake(
                way,
                format!("there is no host `{name}`"),
                meant(name, known, "begin one with `[[host]]`"),
            );
        }
        found
    }

    fn known_interface(&mut self, way: &Way, full_name: &str) -> Option<&'t Interface> {
        let Some((host, name)) = full_name.split_once('/') else {
            let what = format!("`{full_name}` names no interface");
            self.places.mistake(way, what, "write host and interface: \"left/eth0\"");
            return None;
        };
        let host = self.known_host(way, host)?;
        self.interface_of(way, host, name)
    }

    fn interface_of(&mut self, way: &Way, host: &'t Host, name: &str) -> Option<&'t Interface> {
        let found = host.interface(name);
        // A tap is made by weft, which says what it is called, and loopback is always there.
        if found.is_none() && name != "lo" && !weft_config::makes(self.topology, &host.name, name) {
            let known = host.interfaces.iter().map(|interface| interface.name.as_str());
            let what = format!("host `{}` has no interface `{name}`", host.name);
            self.places.mistake(way, what, meant(name, known, "add it: `[[host.interface]]`"));
        }
        found
    }

    fn route(&mut self, way: &Way, host: &'t Host, route: &Route) {
        if let Some(name) = &route.interface {
            self.interface_of(&way.key("interface"), host, name);
        }
        let to = route.prefix();
        if let Some(via) = route.via.filter(|via| via.is_ipv4() != to.address.is_ipv4()) {
            let cure = format!("the next hop to {to} is an address of the same family");
            self.places.mistake(&way.key("via"), format!("{via} can't be the next hop to {to}"), cure);
        }
        if route.refuse.is_some() == (route.via.is_some() || route.interface.is_some()) {
            let what = format!("the route to {} needs a next hop, or a reason to refuse", route.to);
            self.places.mistake(way, what, "one of `via`, `interface` and `refuse`: via = \"10.0.0.1\"");
        }
        if !host_bits_clear(to.address, to.len) {
            let what = format!("{to} has bits behind its prefix length");
            self.places.mistake(&way.key("to"), what, "clear them: \"10.1.0.0/16\"");
        }
    }

    fn neighbour(&mut self, way: &Way, host: &'t Host, neighbour: &Neighbour) {
        self.interface_of(&way.key("interface"), host, &neighbour.interface);
        if neighbour.mac.is_some() == neighbour.proxy {
            let what = format!("the neighbour {} has either a `mac` or `proxy = true`", neighbour.address);
            self.places.mistake(way, what, "such as: mac = \"02:00:00:00:00:0a\"");
        }
    }

    fn fdb(&mut self, way: &Way, host: &'t Host, entry: &FdbEntry) {
        let Some(interface) = self.interface_of(&way.key("interface"), host, &entry.interface) else { return };
        if entry.remote.is_some() && interface.kind != Kind::Vxlan {
            let what = format!("`{}` is no vxlan device, and has no remotes", entry.interface);
            self.places.mistake(&way.key("remote"), what, "leave `remote` out for a bridge's port");
        }
        if entry.remote.is_none() && interface.bridge.is_none() {
            let what = format!("`{}` is no bridge's port", entry.interface);
            self.places.mistake(
                &way.key("interface"),
                what,
                "name a port of a bridge, or add `remote` for a vxlan device",
            );
        }
    }

    fn bpf(&mut self, way: &Way, host: &'t Host, bpf: &Bpf) {
        self.interface_of(&way.key("interface"), host, &bpf.interface);
        for (address, interface) in &bpf.redirect {
            let way = way.key("redirect").key(&address.to_string());
            if address.is_ipv6() {
                self.places.mistake(&way, "the program knows IPv4 only", "an address such as 10.10.0.1");
            }
            self.interface_of(&way, host, interface);
        }
    }

    fn check(&mut self, way: &Way, check: &Check) {
        self.known_host(&way.key("from"), &check.from);
        if let Some(to) = &check.to {
            self.known_host(&way.key("to"), to);
        }
        let kinds = [check.ping.is_some(), check.tcp.is_some(), check.run.is_some()];
        if kinds.iter().filter(|&&there| there).count() != 1 {
            let what = format!("the check `{}` must have one of `ping`, `tcp` and `run`", check.name);
            self.places.mistake(way, what, "such as: ping = \"10.10.0.2\"");
        }
        if check.size.is_some() && check.ping.is_none() {
            self.places.mistake(&way.key("size"), "`size` is for `ping`", "take it out");
        }
        for (key, written) in [("to", check.to.is_some()), ("listen", check.listen.is_some())] {
            if written && check.tcp.is_none() {
                self.places.mistake(&way.key(key), format!("`{key}` is for `tcp`"), "take it out");
            }
        }
        if check.says.is_some() && check.ping.is_some() {
            self.places.mistake(&way.key("says"), "`says` is for `run` and `tcp`", "take it out");
        }
        if let Some(tcp) = check.tcp
            && check.to.is_none()
            && self.topology.holder(tcp.ip()).is_none()
            && !weft_config::holds(self.topology, tcp.ip())
        {
            let what = format!("no host has the address {}", tcp.ip());
            self.places.mistake(&way.key("tcp"), what, "say where it arrives: `to = \"right\"`");
        }
    }

    fn fault(&mut self, way: &Way, fault: &'t Fault) {
        if fault.change.is_empty() {
            self.places.mistake(
                &way.key("change"),
                "a fault changes something",
                "such as: { at = \"left/eth0\", up = false }",
            );
        }
        for (index, change) in fault.change.iter().enumerate() {
            self.change(&way.element("change", index), change);
        }
    }

    fn change(&mut self, way: &Way, change: &'t Change) {
        let host = match (&change.host, &change.at) {
            (Some(host), None) => self.known_host(&way.key("host"), host),
            (None, Some(at)) => {
                self.known_interface(&way.key("at"), at);
                at.split_once('/').and_then(|(host, _)| self.topology.host(host))
            }
            (None, None) | (Some(_), Some(_)) => {
                self.places.mistake(way, "a change is to a `host` or `at` an interface", "such as: at = \"left/eth0\"");
                None
            }
        };
        let of_interface = [
            ("up", change.up.is_some()),
            ("add_address", change.add_address.is_some()),
            ("remove_address", change.remove_address.is_some()),
            ("mtu", change.mtu.is_some()),
            ("mac", change.mac.is_some()),
            ("bridge", change.bridge.is_some()),
            ("port", change.port.is_some()),
            ("remove_vlan", change.remove_vlan.is_some()),
            ("add_vlan", change.add_vlan.is_some()),
            ("anew", change.anew.is_some()),
            ("delete", change.delete),
            ("remove_bpf", change.remove_bpf),
        ];
        if change.at.is_none()
            && let Some((key, _)) = of_interface.iter().find(|(_, written)| *written)
        {
            let what = format!("`{key}` is a change of an interface");
            self.places.mistake(&way.key(key), what, "say of which: at = \"left/eth0\"");
        }
        let Some(host) = host else { return };
        if let Some(bridge) = change.bridge.as_ref().filter(|bridge| !bridge.is_empty()) {
            self.bridge(&way.key("bridge"), host, bridge);
        }
        for (key, route) in [("add_route", &change.add_route), ("remove_route", &change.remove_route)] {
            if let Some(route) = route {
                self.route(&way.key(key), host, route);
            }
        }
        if let Some(neighbour) = &change.add_neighbour {
            self.neighbour(&way.key("add_neighbour"), host, neighbour);
        }
        for (key, entry) in [("add_fdb", &change.add_fdb), ("remove_fdb", &change.remove_fdb)] {
            if let Some(entry) = entry {
                self.fdb(&way.key(key), host, entry);
            }
        }
        if let Some(bpf) = &change.add_bpf {
            self.bpf(&way.key("add_bpf"), host, bpf);
        }
        if (change.weft.is_some() || change.stop_weft) && host.weft.is_none() {
            let key = if change.stop_weft { "stop_weft" } else { "weft" };
            let what = format!("host `{}` runs no weft", host.name);
            self.places.mistake(&way.key(key), what, "name a host with `[host.weft]`");
        }
        if let (Some(keys), Some(weft)) = (&change.weft, &host.weft)
            && let Err(what) = weft_config::changed(weft, keys)
        {
            self.places.mistake(
                &way.key("weft"),
                what,
                "the way to a key through the tables: \"vtep.port\", \"bridge.blue.vni\"",
            );
        }
        if let (Some(keys), Some((_, interface))) =
            (&change.anew, change.at.as_deref().and_then(|at| self.topology.interface(at)))
            && let Err(what) = interface.with(keys)
        {
            self.places.mistake(&way.key("anew"), what, "keys of `[[host.interface]]`");
        }
    }
}

fn meant<'a>(word: &str, known: impl Iterator<Item = &'a str>, otherwise: &str) -> String {
    nearest(word, known).map_or_else(|| otherwise.to_owned(), |meant| format!("did you mean `{meant}`?"))
}

fn host_bits_clear(address: IpAddr, len: u8) -> bool {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_shl(u32::from(len)).unwrap_or(0) == 0,
        IpAddr::V6(address) => address.to_bits().checked_shl(u32::from(len)).unwrap_or(0) == 0,
    }
}
