//! What single values can't show: names that are taken or missing, and values that contradict each other.
//!
//! Every check works on the checked types alone, so that a configuration that was changed at run time is held to the same
//! rules; the origin gives the places for messages, and silences what only follows from another mistake.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    net::{IpAddr, SocketAddr},
};

use weft_vxlan::{Encapsulation, HeaderFormat, ReservedBits};

use super::{
    mistake::{Mistake, Place},
    origin::Places,
    reader::list,
    types::{
        BridgeConfig, Config, FdbTarget, GsoMode, MdbConfig, Membership, PortConfig, PortKind, VtepConfig,
        reserved_bits_text,
    },
    values::nearest,
};
use crate::{
    snoop::Group,
    wire::{MacAddr, Tpid},
};

/// IPv6 needs links of at least this MTU (RFC 8200 section 5); the kernel takes the addresses off below it.
const IPV6_MIN_MTU: u16 = 1280;
/// Ports, bridges and VTEPs are numbered with 16 bits inside weft.
const MAX_ITEMS: usize = 65_535;

/// Everything that is wrong between the values of `config`.
pub(super) fn all(config: &Config) -> Vec<Mistake> {
    let mut mistakes = Mistakes::default();
    sizes(config, &mut mistakes);
    vtep(config, &mut mistakes);
    for (index, bridge) in config.bridges.iter().enumerate() {
        overlay(config, bridge, config.origin.bridge(index), &mut mistakes);
    }
    bridges_are_distinct(config, &mut mistakes);
    for (index, port) in config.ports.iter().enumerate() {
        let places = config.origin.port(index);
        members(config, port, places, &mut mistakes);
        untagged(port, places, &mut mistakes);
        own_tags(port, places, &mut mistakes);
        backup(config, port, places, &mut mistakes);
        interface(port, places, &mut mistakes);
    }
    ports_are_distinct(config, &mut mistakes);
    static_entries(config, &mut mistakes);
    neighbours(config, &mut mistakes);
    group_members(config, &mut mistakes);
    mistakes.0
}

#[derive(Default)]
struct Mistakes(Vec<Mistake>);

impl Mistakes {
    fn add(&mut self, place: Option<Place>, message: impl Into<String>, help: impl Into<String>) {
        self.0.push(Mistake::new(place, message, help));
    }

    fn add_pair(&mut self, (place, first): (Option<Place>, Option<Place>), message: String, help: impl Into<String>) {
        self.0.push(Mistake::new(place, message, help).with_other(first, "first here"));
    }
}

fn sizes(config: &Config, mistakes: &mut Mistakes) {
    let counts = [("bridges", config.bridges.len()), ("ports", config.ports.len())];
    for (what, count) in counts.into_iter().filter(|&(_, count)| count > MAX_ITEMS) {
        mistakes.add(None, format!("{count} {what}"), format!("a switch has at most {MAX_ITEMS}"));
    }
}

/// What `[vtep]` can't have together.
fn vtep(config: &Config, mistakes: &mut Mistakes) {
    let Some(vtep) = &config.vtep else { return };
    let places = &config.origin.vtep;
    let without_checksums = if vtep.address.is_ipv4() { "udpcsum" } else { "udp6zerocsumtx" };
    if !vtep.sends_checksums() && vtep.gso == GsoMode::On {
        let message = "gso = \"on\" without UDP checksums: the kernel sends nothing as one then";
        mistakes.add(places.of(without_checksums), message, "gso = \"auto\" sends one by one where it must");
    }
    let encapsulation = vtep.encapsulation_of(None);
    let contradicting = match vtep.reserved_bits {
        ReservedBits::Mask(mask) => mask & encapsulation.used_bits(),
        ReservedBits::Drop | ReservedBits::Ignore => 0,
    };
    if contradicting != 0 {
        let message = format!("{encapsulation} uses bits that `reserved_bits` refuses: {contradicting:#018x}");
        let help = format!("without them, {}", reserved_bits_text_without(vtep.reserved_bits, contradicting));
        mistakes.add(places.of("reserved_bits"), message, help);
    }
    listening(config, vtep, mistakes);
    if let Some(name) = &vtep.unknown_vni {
        known_bridge(config, name, places, "unknown_vni", mistakes);
        let at = config.bridges.iter().position(|bridge| bridge.name == *name && bridge.vni.is_none());
        if at.is_some_and(|at| !config.origin.bridge(at).is_written("vni")) {
            let message = format!("bridge `{name}` has no VNI: nobody there could answer");
            mistakes.add(places.of("unknown_vni"), message, "a bridge with a `vni`: answers leave with that one");
        }
    }
    let sends_policies = |bridge: &str| {
        let bridge = config.bridge(bridge);
        bridge.is_none_or(|bridge| bridge.encapsulation == Encapsulation::VxlanGbp)
    };
    let sends_none = |port: &PortConfig| !port.membership.bridges().any(sends_policies);
    for (index, port) in config.ports.iter().enumerate().filter(|(_, port)| port.gbp_policy != 0 && sends_none(port)) {
        let message = format!("port `{}` has a group policy, and no bridge of its sends it", port.full_name());
        let help = "gbp = true below [vtep], or encapsulation = \"vxlan-gbp\" below [[bridge]]";
        mistakes.add(config.origin.port(index).of("gbp_policy"), message, help);
    }
}

/// What comes to a port is told apart by nothing else.
fn listening(config: &Config, vtep: &VtepConfig, mistakes: &mut Mistakes) {
    let formats = config.formats();
    let places = &config.origin.vtep;
    for (index, format) in formats.iter().enumerate() {
        let port = vtep.port_of(*format);
        let Some(other) = formats[..index].iter().find(|other| vtep.port_of(**other) == port) else { continue };
        let place = |format: HeaderFormat| {
            let key = VtepConfig::port_key(format);
            if places.is_written(key) { places.of(key) } else { None }
        };
        let message = format!("{other} and {format} would both come to port {port}");
        let (first, second) = (VtepConfig::port_key(*other), VtepConfig::port_key(*format));
        let help = format!("another `{first}` or `{second}`: nothing else tells them apart");
        match (place(*format), place(*other)) {
            (Some(place), Some(first)) => mistakes.add_pair((Some(place), Some(first)), message, help),
            (place, other) => mistakes.add(place.or(other).or_else(|| places.of(second)), message, help),
        }
    }
}

fn reserved_bits_text_without(bits: ReservedBits, used: u64) -> String {
    ReservedBits::of_mask(bits.mask() & !used).map(reserved_bits_text).unwrap_or_default()
}

/// A bridge's VNI, and what only has a meaning with one.
fn overlay(config: &Config, bridge: &BridgeConfig, places: &Places, mistakes: &mut Mistakes) {
    let has_vni = bridge.vni.is_some() || places.is_written("vni");
    if has_vni && config.vtep.is_none() && !config.origin.unclear.contains("vtep") {
        let help = "add [vtep] with address = \"192.0.2.1\", or take `vni` out for a bridge that stays on this host";
        mistakes.add(places.of("vni"), format!("bridge `{}` has a VNI, but there is no [vtep]", bridge.name), help);
    }
    if !has_vni && !bridge.remotes.is_empty() {
        let message = format!("bridge `{}` has remotes, but no VNI to send them", bridge.name);
        mistakes.add(places.of("remotes"), message, "add vni = 42, the same number that the remotes have");
    }
    let about_vteps = [
        ("encapsulation", places.is_written("encapsulation") && !places.is_broken("encapsulation")),
        ("geneve_option", !bridge.geneve_options.is_empty()),
        ("vxlan_learning", !bridge.vxlan_learning),
        ("proxy", bridge.proxy),
        ("rsc", bridge.rsc),
        ("l2miss", bridge.l2miss),
        ("l3miss", bridge.l3miss),
        ("maxaddress", bridge.maxaddress.is_some()),
        ("mss_clamp", bridge.mss_clamp),
        ("neigh_suppress", bridge.neigh_suppress),
    ];
    for (key, _) in about_vteps.into_iter().filter(|(_, is_set)| *is_set && !has_vni) {
        let message = format!("`{key}` is about VTEPs, and bridge `{}` has no VNI", bridge.name);
        mistakes.add(places.of(key), message, format!("give the bridge a `vni`, or take `{key}` out"));
    }
    if bridge.l3miss && !bridge.proxy && !bridge.rsc {
        let message = "nobody looks for neighbours, so none can be missing";
        mistakes.add(places.of("l3miss"), message, "set `proxy` or `rsc` as well");
    }
    let wants_options = has_vni && !bridge.geneve_options.is_empty() && !places.is_broken("encapsulation");
    if wants_options && !bridge.encapsulation.has_options() {
        let message =
            format!("`geneve_option` is for Geneve, and bridge `{}` has {}", bridge.name, bridge.encapsulation);
        mistakes.add(places.of("geneve_option"), message, "encapsulation = \"geneve\", or take `geneve_option` out");
    }
    let mut seen: HashMap<IpAddr, usize> = HashMap::new();
    for (index, remote) in bridge.remotes.iter().enumerate() {
        let place = || places.of(&format!("remotes.{index}"));
        reachable(config, *remote, place(), mistakes);
        if let Some(first) = seen.insert(remote.ip(), index) {
            let message = format!("{} is twice in the flood list of bridge `{}`", remote.ip(), bridge.name);
            let first = places.of(&format!("remotes.{first}"));
            mistakes.add_pair((place(), first), message, "once is enough: it would get two copies of each frame");
        }
    }
}

/// Whether a remote VTEP can be sent to from this one.
fn reachable(config: &Config, remote: SocketAddr, place: Option<Place>, mistakes: &mut Mistakes) {
    let Some(vtep) = config.vtep.as_ref().filter(|_| !config.origin.vtep.is_broken("address")) else { return };
    let family = |address: IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
    if remote.ip().is_ipv4() != vtep.address.is_ipv4() {
        let (theirs, ours) = (family(remote.ip()), family(vtep.address));
        let message = format!("{} is {theirs}, but this VTEP's own address {} is {ours}", remote.ip(), vtep.address);
        mistakes.add(place, message, format!("an {ours} address: one socket speaks one family"));
    } else if remote.ip() == vtep.address
        && config.formats().iter().any(|format| vtep.port_of(*format) == remote.port())
    {
        let message = format!("{remote} is this VTEP itself");
        mistakes.add(place, message, "the other VTEPs' addresses: weft would send to itself");
    }
}

fn bridges_are_distinct(config: &Config, mistakes: &mut Mistakes) {
    let named = config.bridges.iter().enumerate().filter(|(_, bridge)| !bridge.name.is_empty());
    for (index, first, bridge) in repeated(named, |bridge| bridge.name.clone()) {
        let places = (config.origin.bridge(index).of("name"), config.origin.bridge(first).of("name"));
        mistakes.add_pair(places, format!("there are two bridges `{}`", bridge.name), "each needs a name of its own");
    }
    let with_vni = config.bridges.iter().enumerate().filter(|(_, bridge)| bridge.vni.is_some());
    for (index, first, bridge) in repeated(with_vni, |bridge| bridge.vni) {
        let Some(vni) = bridge.vni else { continue };
        let places = (config.origin.bridge(index).of("vni"), config.origin.bridge(first).of("vni"));
        let message = format!("VNI {vni} belongs to bridge `{}` already", config.bridges[first].name);
        mistakes.add_pair(places, message, "each bridge needs a VNI of its own: it tells arriving frames apart");
    }
}

fn ports_are_distinct(config: &Config, mistakes: &mut Mistakes) {
    let named = config.ports.iter().enumerate();
    let named = named.filter(|(index, port)| !port.name.is_empty() && !config.origin.port(*index).is_broken("netns"));
    for (index, first, port) in repeated(named, |port| (port.netns.clone(), port.name.clone())) {
        let places = (config.origin.port(index).of("name"), config.origin.port(first).of("name"));
        let help = "one interface is one port; for several bridges give it a `trunk`";
        mistakes.add_pair(places, format!("there are two ports `{}`", port.full_name()), help);
    }
}

/// The items whose key an earlier one has: index, index of that first one, item.
fn repeated<'a, T, K: Hash + Eq>(
    items: impl Iterator<Item = (usize, &'a T)>,
    key: impl Fn(&T) -> K,
) -> Vec<(usize, usize, &'a T)> {
    let mut first = HashMap::new();
    let again = items.filter_map(|(index, item)| {
        let earlier = *first.entry(key(item)).or_insert(index);
        (earlier != index).then_some((index, earlier, item))
    });
    again.collect()
}

/// The bridges that a port names.
fn members(config: &Config, port: &PortConfig, places: &Places, mistakes: &mut Mistakes) {
    match &port.membership {
        Membership::Access(bridge) => known_bridge(config, bridge, places, "bridge", mistakes),
        Membership::Trunk { vlans, native } => {
            let mut seen: HashMap<&str, usize> = HashMap::new();
            for (index, (_, bridge)) in vlans.iter().enumerate() {
                let key = format!("trunk.{index}");
                known_bridge(config, bridge, places, &key, mistakes);
                if let Some(first) = seen.insert(bridge, index) {
                    let message = format!("bridge `{bridge}` has two VLANs of this trunk");
                    let help = "one VLAN for each bridge: frames to the port would have two tags to choose from";
                    mistakes.add_pair((places.of(&key), places.of(&format!("trunk.{first}"))), message, help);
                }
            }
            if vlans.is_empty() && !places.is_broken("trunk") && !places.is_broken("bridge") {
                let help = "trunk = { 10 = \"blue\" }, or bridge = \"blue\" for an access port";
                mistakes.add(places.of("trunk"), "this trunk carries no VLAN", help);
            }
            if let Some(native) = native {
                known_bridge(config, native, places, "native", mistakes);
            }
        }
    }
}

/// The VLANs that leave untagged must be there.
fn untagged(port: &PortConfig, places: &Places, mistakes: &mut Mistakes) {
    let Some(untagged) = port.untagged.as_ref().filter(|_| !places.is_broken("trunk")) else { return };
    let vlans = match &port.membership {
        Membership::Access(_) => {
            let help = "take it out: an access port leaves tags as they are";
            return mistakes.add(places.of("untagged"), "`untagged` is for trunks, and this is an access port", help);
        }
        Membership::Trunk { vlans, .. } => vlans,
    };
    for (_, _, vid) in repeated(untagged.iter().enumerate(), |vid| *vid) {
        mistakes.add(places.of("untagged"), format!("VLAN {vid} is twice in the list"), "each VLAN once");
    }
    for vid in untagged.iter().filter(|vid| vlans.iter().all(|(other, _)| other != *vid)) {
        let carried: Vec<_> = vlans.iter().map(|(vid, _)| vid.to_string()).collect();
        let help = format!("it carries {}", list(carried.iter().map(String::as_str)));
        mistakes.add(places.of("untagged"), format!("this trunk does not carry VLAN {vid}"), help);
    }
}

fn own_tags(port: &PortConfig, places: &Places, mistakes: &mut Mistakes) {
    if port.vlan_protocol != Tpid::Customer && matches!(port.membership, Membership::Access(_)) {
        let help = "take it out: an access port leaves tags of both kinds as they are";
        mistakes.add(places.of("vlan_protocol"), "`vlan_protocol` is for trunks, and this is an access port", help);
    }
}

/// As the kernel (`br_if.c`: `nbp_backup_change`): another port, in the same bridges.
fn backup(config: &Config, port: &PortConfig, places: &Places, mistakes: &mut Mistakes) {
    let Some(name) = &port.backup_port else { return };
    if *name == port.full_name() {
        let message = format!("port `{name}` is its own backup");
        return mistakes.add(places.of("backup_port"), message, "another port of the same bridge");
    }
    let unclear = config.origin.unclear.contains("port") || config.ports.iter().any(|port| port.name.is_empty());
    match config.port(name) {
        None if unclear => {}
        None => {
            let names: Vec<_> = config.ports.iter().map(PortConfig::full_name).collect();
            let help = match nearest(name, names.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("there are {}", list(names.iter().map(String::as_str))),
            };
            mistakes.add(places.of("backup_port"), format!("there is no port `{name}`"), help);
        }
        Some(backup) => {
            for bridge in port.membership.bridges().filter(|bridge| !backup.membership.contains(bridge)) {
                let message = format!("the backup port `{name}` does not belong to bridge `{bridge}`");
                mistakes.add(places.of("backup_port"), message, "a port that belongs to all bridges of this one");
            }
        }
    }
}

fn known_bridge(config: &Config, name: &str, places: &Places, key: &str, mistakes: &mut Mistakes) {
    // a bridge without a name may be the one that is meant
    let unclear =
        config.origin.unclear.contains("bridge") || config.bridges.iter().any(|bridge| bridge.name.is_empty());
    if config.bridge(name).is_some() || unclear || places.is_broken(key) {
        return;
    }
    let names = || config.bridges.iter().map(|bridge| bridge.name.as_str());
    let help = match nearest(name, names()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if config.bridges.is_empty() => format!("add [[bridge]] with name = \"{name}\""),
        None => format!("there are {}", list(names())),
    };
    mistakes.add(places.of(key), format!("there is no bridge `{name}`"), help);
}

/// What is to be set on a port's interface.
fn interface(port: &PortConfig, places: &Places, mistakes: &mut Mistakes) {
    if port.kind == PortKind::Packet {
        let name = port.full_name();
        let help = "set it with `ip`, or take kind = \"packet\" out if weft shall make the interface";
        for (key, is_set) in [
            ("address", !port.addresses.is_empty()),
            ("mac", port.mac.is_some()),
            ("queue_length", port.queue_length.is_some()),
        ] {
            if is_set {
                let message = format!("`{key}` on the packet port `{name}`: its interface exists and is not weft's");
                mistakes.add(places.of(key), message, help);
            }
        }
    }
    if port.kind == PortKind::Veth && port.queue_length.is_some() {
        let message = format!("`queue_length` on the veth port `{}`: only taps have a queue", port.full_name());
        mistakes.add(
            places.of("queue_length"),
            message,
            "take it out: frames wait in weft's packet sockets".to_owned(),
        );
    }
    let ipv6 = port.addresses.iter().find(|cidr| cidr.address.is_ipv6());
    if let (Some(mtu), Some(ipv6)) = (port.mtu.filter(|&mtu| mtu < IPV6_MIN_MTU), ipv6) {
        let message = format!("an MTU of {mtu} is too small for the IPv6 address {ipv6}");
        mistakes.add(places.of("mtu"), message, format!("at least {IPV6_MIN_MTU}, which IPv6 needs on every link"));
    }
    let mut seen = HashSet::new();
    for (index, cidr) in port.addresses.iter().enumerate().filter(|(_, cidr)| !seen.insert(cidr.address)) {
        let message = format!("{} is twice in the list", cidr.address);
        mistakes.add(places.of(&format!("address.{index}")), message, "each address once");
    }
}

fn static_entries(config: &Config, mistakes: &mut Mistakes) {
    for (index, entry) in config.fdb.iter().enumerate() {
        let places = config.origin.fdb(index);
        if entry.bridge.is_empty() {
            continue;
        }
        known_bridge(config, &entry.bridge, places, "bridge", mistakes);
        let Some((at, bridge)) = config.bridges.iter().enumerate().find(|(_, bridge)| bridge.name == entry.bridge)
        else {
            continue;
        };
        match &entry.at {
            FdbTarget::Port(name) => behind_port(config, name, &bridge.name, places, mistakes),
            FdbTarget::Vtep(vtep) => {
                if bridge.vni.is_none() && !config.origin.bridge(at).is_written("vni") {
                    let message = format!("bridge `{}` has no VNI, so nothing in it is behind a VTEP", bridge.name);
                    mistakes.add(places.of("vtep"), message, "give the bridge a `vni`, or the entry a `port`");
                }
                reachable(config, *vtep, places.of("vtep"), mistakes);
            }
            FdbTarget::Bridge => {}
        }
    }
    let readable = config.fdb.iter().enumerate().filter(|(_, entry)| !entry.mac.is_zero());
    for (index, first, entry) in repeated(readable, |entry| (entry.bridge.clone(), entry.mac)) {
        let places = (config.origin.fdb(index).of("mac"), config.origin.fdb(first).of("mac"));
        let message = format!("bridge `{}` has a static entry for {} already", entry.bridge, entry.mac);
        mistakes.add_pair(places, message, "an address is at one place; keep one of the two");
    }
}

fn neighbours(config: &Config, mistakes: &mut Mistakes) {
    for (index, neigh) in config.neigh.iter().enumerate().filter(|(_, neigh)| !neigh.bridge.is_empty()) {
        known_bridge(config, &neigh.bridge, config.origin.neigh(index), "bridge", mistakes);
    }
    let readable = config.neigh.iter().enumerate().filter(|(_, neigh)| !neigh.ip.is_unspecified());
    for (index, first, neigh) in repeated(readable, |neigh| (neigh.bridge.clone(), neigh.ip)) {
        let places = (config.origin.neigh(index).of("ip"), config.origin.neigh(first).of("ip"));
        let message = format!("bridge `{}` has a neighbour with {} already", neigh.bridge, neigh.ip);
        mistakes.add_pair(places, message, "one station has an address; keep one of the two");
    }
}

fn group_members(config: &Config, mistakes: &mut Mistakes) {
    for (index, entry) in config.mdb.iter().enumerate().filter(|(_, entry)| !entry.bridge.is_empty()) {
        let places = config.origin.mdb(index);
        known_bridge(config, &entry.bridge, places, "bridge", mistakes);
        let Some(bridge) = config.bridge(&entry.bridge) else { continue };
        match &entry.port {
            Some(name) => behind_port(config, name, &bridge.name, places, mistakes),
            None if bridge.vni.is_none() && !places.is_broken("port") => {
                let message = format!("bridge `{}` has no VNI, so its overlay is in no group", bridge.name);
                mistakes.add(places.of("bridge"), message, "give the entry a `port`, or the bridge a `vni`");
            }
            None => {}
        }
    }
    let readable = config.mdb.iter().enumerate().filter(|(_, entry)| entry.group != Group::Mac(MacAddr::ZERO));
    let key = |entry: &MdbConfig| (entry.bridge.clone(), entry.group, entry.source, entry.port.clone());
    for (index, first, entry) in repeated(readable, key) {
        let places = (config.origin.mdb(index).of("group"), config.origin.mdb(first).of("group"));
        let member = entry.port.as_deref().unwrap_or("the overlay");
        mistakes.add_pair(places, format!("{member} is in this group already"), "once is enough");
    }
}

fn behind_port(config: &Config, name: &str, bridge: &str, places: &Places, mistakes: &mut Mistakes) {
    if name.is_empty() && (places.is_broken("port") || places.is_broken("vtep")) {
        return;
    }
    let Some((index, port)) = config.ports.iter().enumerate().find(|(_, port)| port.full_name() == name) else {
        if config.origin.unclear.contains("port") || config.ports.iter().any(|port| port.name.is_empty()) {
            return;
        }
        let names: Vec<_> = config.ports.iter().map(PortConfig::full_name).collect();
        let help = match nearest(name, names.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if names.is_empty() => "there are no ports".to_owned(),
            None => format!("there are {}", list(names.iter().map(String::as_str))),
        };
        mistakes.add(places.of("port"), format!("there is no port `{name}`"), help);
        return;
    };
    let port_places = config.origin.port(index);
    let unclear = ["bridge", "trunk", "native"].into_iter().any(|key| port_places.is_broken(key));
    if !port.membership.contains(bridge) && !unclear {
        let belongs: Vec<_> = port.membership.bridges().collect();
        let help = format!("it belongs to {}", list(belongs.into_iter()));
        mistakes.add(places.of("port"), format!("port `{name}` does not belong to bridge `{bridge}`"), help);
    }
}
