//! Looking things up in a survey: who is at the other end of a cable, who has an address, what rests on what.

use std::net::IpAddr;

use super::survey::{
    Survey,
    values::{Address, Details, Link, NeighbourState, NextHop, Route, RouteKind, Space, Tunnel, WeftState},
};
use crate::wire::MacAddr;

/// An interface: the namespace by its place in the survey, and the interface's index there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct At {
    pub(crate) space: usize,
    pub(crate) link: u32,
}

/// What an interface leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Other {
    /// An interface in sight.
    At(At),
    /// Something in a namespace that is out of sight.
    OutOfSight,
    /// Nothing.
    None,
}

/// A port of a running weft.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct WeftPort {
    pub(crate) weft: WeftAt,
    /// Its place in the list of ports.
    pub(crate) port: usize,
}

/// A running weft.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct WeftAt {
    pub(crate) space: usize,
    /// Its place among the wefts of that namespace.
    pub(crate) number: usize,
}

impl Survey {
    pub(crate) fn link(&self, at: At) -> &Link {
        static NONE: std::sync::LazyLock<Link> = std::sync::LazyLock::new(Link::default);
        self.spaces.get(at.space).and_then(|space| space.link(at.link)).unwrap_or(&NONE)
    }

    pub(crate) fn space(&self, index: usize) -> &Space {
        &self.spaces[index]
    }

    /// `left/eth0`.
    pub(crate) fn label(&self, at: At) -> String {
        format!("{}/{}", self.space(at.space).label(), self.link(at).name)
    }

    /// All interfaces.
    pub(crate) fn all(&self) -> impl Iterator<Item = (At, &Link)> {
        self.spaces
            .iter()
            .enumerate()
            .flat_map(|(space, it)| it.links.iter().map(move |link| (At { space, link: link.index }, link)))
    }

    /// What IFLA_LINK leads to: a cable's other end, or what an interface rests on.
    pub(crate) fn other(&self, at: At) -> Other {
        let link = self.link(at);
        let Some(lower) = link.lower else { return Other::None };
        let space = match link.lower_netns {
            None => Some(at.space),
            Some(id) => self.space(at.space).ids.get(&id).and_then(|inode| self.by_inode(*inode)),
        };
        match space.map(|space| At { space, link: lower }) {
            Some(other) if self.space(other.space).link(lower).is_some() => Other::At(other),
            // The kernel names an interface of this very namespace: then it is itself, or gone.
            Some(_) if link.lower_netns.is_none() => Other::None,
            Some(_) | None => Other::OutOfSight,
        }
    }

    /// The interfaces that rest on this one: VLANs, macvlans, ipvlans.
    pub(crate) fn children(&self, at: At) -> Vec<At> {
        let rests = |link: &Link| matches!(link.kind.as_str(), "vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap");
        self.all()
            .filter(|(child, link)| rests(link) && self.other(*child) == Other::At(at))
            .map(|(at, _)| at)
            .collect()
    }

    /// The interfaces that have an address, which can be used.
    pub(crate) fn owners(&self, address: IpAddr) -> Vec<At> {
        let has = |space: usize, it: &Address| {
            (it.prefix.address == address && !it.dad_failed).then_some(At { space, link: it.link })
        };
        self.spaces
            .iter()
            .enumerate()
            .flat_map(|(space, it)| it.addresses.iter().filter_map(move |address| has(space, address)))
            .collect()
    }

    /// The ports of a bridge.
    pub(crate) fn ports(&self, bridge: At) -> Vec<At> {
        let space = self.space(bridge.space);
        let is_port = |link: &&Link| link.port.is_some() && link.master == Some(bridge.link);
        space.links.iter().filter(is_port).map(|link| At { space: bridge.space, link: link.index }).collect()
    }

    /// The bridge that an interface is a port of.
    pub(crate) fn bridge_of(&self, at: At) -> Option<At> {
        let link = self.link(at);
        let bridge = At { space: at.space, link: link.master? };
        matches!(self.link(bridge).details, Details::Bridge(_)).then_some(bridge)
    }

    /// Whose port an interface is, if it is a running weft's.
    pub(crate) fn weft_port(&self, at: At) -> Option<WeftPort> {
        let space = self.space(at.space);
        let name = &self.link(at).name;
        self.wefts().find_map(|(weft, state)| {
            let is_it = |port: &&crate::control::api::model::PortState| {
                let (netns, interface) = port.name.rsplit_once('/').unwrap_or(("", &port.name));
                interface == name && (netns.is_empty() && weft.space == at.space || space.is_called(netns))
            };
            let port = state.ports.iter().position(|port| is_it(&port))?;
            Some(WeftPort { weft, port })
        })
    }

    /// The interface of a weft's port.
    pub(crate) fn weft_port_link(&self, weft: WeftAt, name: &str) -> Option<At> {
        let (netns, interface) = name.rsplit_once('/').unwrap_or(("", name));
        self.all()
            .find(|(at, link)| {
                link.name == interface
                    && (netns.is_empty() && at.space == weft.space || self.space(at.space).is_called(netns))
            })
            .map(|(at, _)| at)
    }

    /// The wefts that answered.
    pub(crate) fn wefts(&self) -> impl Iterator<Item = (WeftAt, &WeftState)> {
        self.spaces.iter().enumerate().flat_map(|(space, it)| {
            let states = it.wefts.iter().enumerate();
            states.filter_map(move |(number, weft)| Some((WeftAt { space, number }, weft.state.as_ref()?)))
        })
    }

    pub(crate) fn weft(&self, at: WeftAt) -> Option<&WeftState> {
        self.space(at.space).wefts.get(at.number)?.state.as_ref()
    }

    /// The vxlan and geneve devices.
    pub(crate) fn tunnels(&self) -> impl Iterator<Item = (At, &Link, &Tunnel)> {
        self.all().filter_map(|(at, link)| Some((at, link, link.details.tunnel()?)))
    }
}

impl Space {
    pub(crate) fn link(&self, index: u32) -> Option<&Link> {
        // Sorted by index, as the kernel numbers them.
        let at = self.links.binary_search_by_key(&index, |link| link.index).ok()?;
        self.links.get(at)
    }

    /// An interface's name, or its number if it is not there.
    pub(crate) fn link_name(&self, index: u32) -> String {
        self.link(index).map_or_else(|| format!("#{index}"), |link| link.name.clone())
    }

    pub(crate) fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// What people call it: its first name, or a process in it, or its inode.
    pub(crate) fn label(&self) -> String {
        if let Some(name) = self.names.first() {
            return name.clone();
        }
        if self.host {
            return "host".to_owned();
        }
        match (self.processes.first(), self.paths.first()) {
            (Some(process), _) => format!("pid:{}", process.pid),
            (None, Some(path)) => path.clone(),
            (None, None) => format!("net:[{}]", self.inode),
        }
    }

    /// Whether a configuration's `netns` means it.
    pub(crate) fn is_called(&self, netns: &str) -> bool {
        let pid = netns.strip_prefix("pid:").and_then(|pid| pid.parse::<u32>().ok());
        self.names.iter().any(|name| name == netns || netns == format!("/run/netns/{name}"))
            || self.paths.iter().any(|path| path == netns)
            || pid.is_some_and(|pid| self.processes.iter().any(|process| process.pid == pid))
    }

    /// What to put in front of a command so that it runs inside.
    pub(crate) fn inside(&self, command: &str) -> String {
        if self.host {
            return command.to_owned();
        }
        if let Some(name) = self.names.first() {
            return match command.strip_prefix("ip ").or_else(|| command.strip_prefix("bridge ")) {
                Some(rest) if command.starts_with("ip ") => format!("ip -n {name} {rest}"),
                Some(rest) => format!("bridge -n {name} {rest}"),
                None => format!("ip netns exec {name} {command}"),
            };
        }
        match (self.processes.first(), self.paths.first()) {
            (Some(process), _) => format!("nsenter -t {} -n {command}", process.pid),
            (None, Some(path)) => format!("nsenter --net={path} {command}"),
            (None, None) => command.to_owned(),
        }
    }

    /// A kernel parameter as a number.
    pub(crate) fn sysctl(&self, path: &str) -> Option<i64> {
        self.sysctls.get(path)?.parse().ok()
    }

    /// An interface's parameter of IPv4 where the larger of its own and `all`'s counts (rp_filter, arp_ignore).
    pub(crate) fn largest(&self, link: &Link, key: &str) -> i64 {
        let of = |name: &str| self.sysctl(&format!("net/ipv4/conf/{name}/{key}")).unwrap_or(0);
        of("all").max(of(&link.name))
    }

    /// An interface's own parameter of IPv4.
    pub(crate) fn own(&self, link: &Link, key: &str) -> i64 {
        self.sysctl(&format!("net/ipv4/conf/{}/{key}", link.name)).unwrap_or(0)
    }

    /// Whether packets that come in by an interface are forwarded.
    pub(crate) fn forwards(&self, link: &Link, ipv6: bool) -> bool {
        if ipv6 {
            let of = |name: &str| self.sysctl(&format!("net/ipv6/conf/{name}/forwarding")).unwrap_or(0);
            return of("all") != 0 || of(&link.name) != 0;
        }
        self.own(link, "forwarding") != 0
    }

    /// The addresses of an interface.
    pub(crate) fn addresses_of(&self, link: u32) -> impl Iterator<Item = &Address> {
        self.addresses.iter().filter(move |address| address.link == link)
    }

    /// Whether it has an address, on any interface.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.prefix.address == address && !own.dad_failed)
    }

    /// `ip link` in one line.
    pub(crate) fn link_row(&self, link: &Link) -> String {
        let mut row = format!("{}: {} mtu {}", link.index, link.name, link.mtu);
        row.push_str(match (link.up, link.carrier) {
            (true, true) => " up",
            (true, false) => " up, no carrier",
            (false, _) => " DOWN",
        });
        if let Some(master) = link.master {
            row.push_str(&format!(" master {}", self.link_name(master)));
        }
        if !link.kind.is_empty() {
            row.push_str(&format!(" {}", link.kind));
        }
        match &link.details {
            Details::Vlan(vlan) => row.push_str(&format!(" id {}", vlan.id)),
            Details::Tunnel(tunnel) => row.push_str(&format!(" {}", tunnel.words())),
            Details::Macvlan(mode) => row.push_str(&format!(" mode {mode}")),
            Details::Ipvlan(ipvlan) => row.push_str(&format!(" mode {}", ipvlan.mode)),
            Details::None | Details::Bridge(_) | Details::Vrf { .. } | Details::Tun { .. } => {}
        }
        if let Some(mac) = link.mac.filter(|_| !link.loopback) {
            row.push_str(&format!(" {mac}"));
        }
        row
    }

    /// `ip address` in one line.
    pub(crate) fn address_row(&self, address: &Address) -> String {
        let family = if address.prefix.address.is_ipv4() { "inet" } else { "inet6" };
        let mut row = format!("{family} {}", address.prefix);
        if let Some(peer) = address.peer {
            row.push_str(&format!(" peer {peer}"));
        }
        row.push_str(&format!(" dev {}", self.link_name(address.link)));
        if address.dad_failed {
            row.push_str(" dadfailed");
        } else if address.tentative {
            row.push_str(" tentative");
        }
        row
    }

    /// `ip route` in one line.
    pub(crate) fn route_row(&self, route: &Route) -> String {
        let mut row = if route.kind == RouteKind::Unicast { String::new() } else { format!("{} ", route.kind) };
        row.push_str(&match route.destination.len {
            0 => "default".to_owned(),
            _ => route.destination.to_string(),
        });
        for hop in &route.hops {
            row.push_str(&self.hop_words(hop));
        }
        if let Some(source) = route.source {
            row.push_str(&format!(" src {source}"));
        }
        if route.metric > 0 {
            row.push_str(&format!(" metric {}", route.metric));
        }
        if let Some(mtu) = route.mtu {
            row.push_str(&format!(" mtu {mtu}"));
        }
        if !matches!(route.table, 254 | 255) {
            row.push_str(&format!(" table {}", route.table));
        }
        row
    }

    fn hop_words(&self, hop: &NextHop) -> String {
        let via = hop.via.map(|via| format!(" via {via}")).unwrap_or_default();
        let dead = if hop.dead { " dead" } else { "" };
        format!("{via} dev {}{dead}", self.link_name(hop.link))
    }

    /// The neighbour entry of an address on an interface.
    pub(crate) fn neighbour(&self, link: u32, address: IpAddr) -> Option<(Option<MacAddr>, NeighbourState)> {
        let is_it =
            |entry: &&super::survey::values::Neighbour| entry.link == link && entry.address == address && !entry.proxy;
        self.neighbours.iter().find(is_it).map(|entry| (entry.mac, entry.state))
    }

    /// The neighbour entry in `ip neighbour`'s words.
    pub(crate) fn neighbour_row(&self, link: u32, address: IpAddr) -> String {
        match self.neighbour(link, address) {
            Some((mac, state)) => {
                let mac = mac.map(|mac| format!(" lladdr {mac}")).unwrap_or_default();
                format!("{address} dev {}{mac} {state}", self.link_name(link))
            }
            None => format!("(no entry for {address})"),
        }
    }
}

impl Tunnel {
    /// `id 42 local 192.0.2.1 dstport 4789`.
    pub(crate) fn words(&self) -> String {
        let mut words = match self.vni {
            Some(vni) => format!("id {vni}"),
            None => "external".to_owned(),
        };
        if let Some(local) = self.local {
            words.push_str(&format!(" local {local}"));
        }
        if let Some(remote) = self.remote {
            words.push_str(&format!(" remote {remote}"));
        }
        words.push_str(&format!(" dstport {}", self.port));
        for (flag, word) in [(self.gbp, "gbp"), (self.gpe, "gpe"), (!self.learning, "nolearning")] {
            if flag {
                words.push_str(&format!(" {word}"));
            }
        }
        words
    }
}

impl Survey {
    /// The eBPF program that takes what comes in by an interface, attached by tcx or as a filter of tc.
    pub(crate) fn program_at(&self, at: At) -> Option<super::survey::values::Program> {
        let link = self.link(at);
        if let Some(program) = link.tcx_ingress.first() {
            return Some(program.clone());
        }
        let filters = &self.space(at.space).filters;
        filters
            .iter()
            .find(|filter| filter.link == at.link && filter.ingress && filter.program.is_some())?
            .program
            .clone()
    }
}
