//! The kernel's other tables out of its netlink messages: addresses, routes, rules, neighbours, FDB, groups, qdiscs, filters
//! (rtnetlink(7); the headers and attributes are those of `include/uapi/linux/`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    links::{address, mac, text, u16_of, u32_of},
    prefix::Prefix,
    values::{
        Address, Forwarding, Group, MacAddrOrZero, Neighbour, NeighbourState, NextHop, Program, Qdisc, Route,
        RouteKind, Rule, RuleAction, TcFilter,
    },
};
use crate::{
    lab::rtnl::{attribute, attributes, field},
    wire::MacAddr,
};

const AF_INET: u8 = 2;
const AF_BRIDGE: u8 = 7;
const AF_INET6: u8 = 10;

/// `struct ifaddrmsg` and what follows.
pub(super) fn address_entry(body: &[u8]) -> Option<Address> {
    const LINK_SCOPE: u8 = 253;
    let &[_, len, short_flags, scope, ..] = body else { return None };
    let attributes = body.get(8..)?;
    let own = attribute(attributes, 2).and_then(address);
    let other = attribute(attributes, 1).and_then(address);
    let flags = attribute(attributes, 8).and_then(u32_of).unwrap_or_else(|| short_flags.into());
    Some(Address {
        link: u32::from_ne_bytes(field(body, 4)?),
        prefix: Prefix { address: own.or(other)?, len },
        peer: other.filter(|other| own.is_some_and(|own| own != *other)),
        link_local: scope == LINK_SCOPE,
        tentative: flags & 0x40 != 0,
        dad_failed: flags & 0x08 != 0,
    })
}

/// `struct rtmsg` and what follows; `None` also for what is no IP route.
pub(super) fn route(body: &[u8]) -> Option<Route> {
    const CLONED: u32 = 0x200;
    let &[family, len, _, _, table, protocol, scope, kind, ..] = body else { return None };
    let unspecified = unspecified(family)?;
    let flags = u32::from_ne_bytes(field(body, 8)?);
    let rest = body.get(12..)?;
    let find = |number| attribute(rest, number);
    let mut hops = Vec::new();
    if let Some(multiple) = find(9) {
        next_hops(multiple, &mut hops);
    } else if let Some(link) = find(4).and_then(u32_of) {
        hops.push(next_hop(link, flags as u8, rest));
    }
    Some(Route {
        table: find(15).and_then(u32_of).unwrap_or_else(|| table.into()),
        destination: Prefix { address: find(1).and_then(address).unwrap_or(unspecified), len },
        kind: match kind {
            1 => RouteKind::Unicast,
            2 => RouteKind::Local,
            3 => RouteKind::Broadcast,
            4 => RouteKind::Anycast,
            5 => RouteKind::Multicast,
            6 => RouteKind::Blackhole,
            7 => RouteKind::Unreachable,
            8 => RouteKind::Prohibit,
            9 => RouteKind::Throw,
            _ => RouteKind::Other,
        },
        metric: find(6).and_then(u32_of).unwrap_or(0),
        hops,
        source: find(7).and_then(address),
        protocol: protocol_name(protocol),
        scope_link: scope == 253,
        mtu: find(8).and_then(|metrics| attribute(metrics, 2)).and_then(u32_of).filter(|&mtu| mtu > 0),
        cached: flags & CLONED != 0,
    })
}

fn unspecified(family: u8) -> Option<IpAddr> {
    match family {
        AF_INET => Some(Ipv4Addr::UNSPECIFIED.into()),
        AF_INET6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}

/// `flags`: RTNH_F_DEAD 1, RTNH_F_ONLINK 4, RTNH_F_LINKDOWN 16.
fn next_hop(link: u32, flags: u8, attributes: &[u8]) -> NextHop {
    let via = attribute(attributes, 5).and_then(address);
    // RTA_VIA: the gateway is of the other family.
    let via = via.or_else(|| attribute(attributes, 18).and_then(|value| address(value.get(2..)?)));
    NextHop { link, via, dead: flags & 1 != 0, onlink: flags & 4 != 0 }
}

/// A row of `struct rtnexthop`.
fn next_hops(mut bytes: &[u8], hops: &mut Vec<NextHop>) {
    while let (Some(len), Some(&flags), Some(link)) = (u16_of(bytes), bytes.get(2), field(bytes, 4)) {
        let len = usize::from(len).max(8);
        hops.push(next_hop(u32::from_ne_bytes(link), flags, bytes.get(8..len).unwrap_or_default()));
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// `/etc/iproute2/rt_protos`, as far as somebody would look for it.
fn protocol_name(protocol: u8) -> String {
    let name = match protocol {
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        9 => "ra",
        11 => "zebra",
        12 => "bird",
        16 => "dhcp",
        42 => "babel",
        80 => "80",
        186 => "bgp",
        188 => "ospf",
        other => return other.to_string(),
    };
    name.to_owned()
}

/// `struct fib_rule_hdr` and what follows.
pub(super) fn rule(body: &[u8]) -> Option<Rule> {
    const INVERT: u32 = 2;
    let &[family, to_len, from_len, tos, table, _, _, action, ..] = body else { return None };
    unspecified(family)?;
    let flags = u32::from_ne_bytes(field(body, 8)?);
    let rest = body.get(12..)?;
    let find = |number| attribute(rest, number);
    let number = |at| find(at).and_then(u32_of);
    let prefix = |at, len| Some(Prefix { address: find(at).and_then(address)?, len });
    let table = number(15).unwrap_or_else(|| table.into());
    Some(Rule {
        priority: number(6).unwrap_or(0),
        ipv6: family == AF_INET6,
        invert: flags & INVERT != 0,
        from: prefix(2, from_len),
        to: prefix(1, to_len),
        iif: find(3).map(text),
        oif: find(17).map(text),
        mark: number(10).map(|mark| (mark, number(16).unwrap_or(u32::MAX))),
        l3mdev: find(19).is_some_and(|value| value != [0]),
        // A tunnel id, a user, a protocol, ports.
        other: tos != 0 || [12, 20, 22, 23, 24].into_iter().any(|at| find(at).is_some()),
        action: match action {
            2 => RuleAction::Goto(number(4).unwrap_or(0)),
            3 => RuleAction::Nop,
            6 => RuleAction::Blackhole,
            7 => RuleAction::Unreachable,
            8 => RuleAction::Prohibit,
            _ => RuleAction::Table(table),
        },
        suppress_prefix_len: number(14).filter(|&len| len != u32::MAX),
    })
}

/// `struct ndmsg` and what follows, of a neighbour table.
pub(super) fn neighbour(body: &[u8]) -> Option<Neighbour> {
    const PROXY: u8 = 8;
    let rest = body.get(12..)?;
    unspecified(*body.first()?)?;
    Some(Neighbour {
        link: u32::from_ne_bytes(field(body, 4)?),
        address: attribute(rest, 1).and_then(address)?,
        mac: attribute(rest, 2).and_then(mac),
        state: match u16_of(body.get(8..)?)? {
            0x01 => NeighbourState::Incomplete,
            0x02 => NeighbourState::Reachable,
            0x04 => NeighbourState::Stale,
            0x08 => NeighbourState::Delay,
            0x10 => NeighbourState::Probe,
            0x20 => NeighbourState::Failed,
            0x40 => NeighbourState::Noarp,
            0x80 => NeighbourState::Permanent,
            _ => NeighbourState::None,
        },
        proxy: body.get(10)? & PROXY != 0,
    })
}

/// `struct ndmsg` and what follows, of a forwarding database.
pub(super) fn forwarding(body: &[u8]) -> Option<Forwarding> {
    const MASTER: u8 = 4;
    const EXT_LEARNED: u8 = 0x10;
    const STICKY: u8 = 0x40;
    const NOARP: u16 = 0x40;
    const PERMANENT: u16 = 0x80;
    if *body.first()? != AF_BRIDGE {
        return None;
    }
    let rest = body.get(12..)?;
    let find = |number| attribute(rest, number);
    let state = u16_of(body.get(8..)?)?;
    let flags = *body.get(10)?;
    let remote = find(1).and_then(address);
    // An entry of a bridge names its bridge (NDA_MASTER); one that a vxlan device or a nic has for itself doesn't.
    let master = flags & MASTER != 0 || find(9).is_some() && remote.is_none();
    Some(Forwarding {
        link: u32::from_ne_bytes(field(body, 4)?),
        mac: MacAddrOrZero(find(2).and_then(mac).unwrap_or(MacAddr::ZERO)),
        master,
        vlan: find(5).and_then(u16_of).filter(|&vlan| vlan != 0),
        remote,
        port: find(6).and_then(|value| field(value, 0)).map(u16::from_be_bytes),
        vni: find(7).and_then(u32_of),
        local: master && state & PERMANENT != 0,
        fixed: state & (NOARP | PERMANENT) != 0,
        sticky: flags & STICKY != 0,
        ext_learned: flags & EXT_LEARNED != 0,
    })
}

/// The members of a bridge's groups: `struct br_port_msg`, MDBA_MDB of MDBA_MDB_ENTRY of `struct br_mdb_entry`.
pub(super) fn groups(body: &[u8]) -> Vec<Group> {
    const ENTRY_INFO_PROTOCOL: usize = 24;
    const ETH_P_IP: u16 = 0x0800;
    const ETH_P_IPV6: u16 = 0x86dd;
    let Some(bridge) = field(body, 4).map(u32::from_ne_bytes) else { return Vec::new() };
    let table = body.get(8..).and_then(|rest| attribute(rest, 1)).unwrap_or_default();
    let entries = attributes(table).flat_map(|(_, entry)| attributes(entry));
    let group = |info: &[u8]| {
        let bytes: [u8; 16] = field(info, 8)?;
        let group = match u16::from_be_bytes(field(info, ENTRY_INFO_PROTOCOL)?) {
            ETH_P_IP => address(&bytes[..4])?.to_string(),
            ETH_P_IPV6 => address(&bytes)?.to_string(),
            _ => mac(&bytes[..6])?.to_string(),
        };
        Some(Group { bridge, port: u32::from_ne_bytes(field(info, 0)?), group, vlan: u16_of(info.get(6..)?)? })
    };
    entries.filter_map(|(_, info)| group(info)).collect()
}

/// The ports of a bridge that routers of multicast are behind: `struct br_port_msg`, MDBA_ROUTER of MDBA_ROUTER_PORT, which
/// begins with the port's index.
pub(super) fn router_ports(body: &[u8]) -> Vec<u32> {
    const MDBA_ROUTER: u16 = 2;
    let list = body.get(8..).and_then(|rest| attribute(rest, MDBA_ROUTER)).unwrap_or_default();
    attributes(list).filter_map(|(_, port)| u32_of(port)).collect()
}

/// `struct tcmsg` and what follows.
pub(super) fn qdisc(body: &[u8]) -> Option<Qdisc> {
    let rest = body.get(20..)?;
    let kind = attribute(rest, 1).map(text)?;
    // TCA_STATS2's queue, `struct gnet_stats_queue`: qlen, backlog, drops, requeues, overlimits.
    let queue = attribute(rest, 7).and_then(|stats| attribute(stats, 3)).unwrap_or_default();
    let number = |at| field(queue, at).map_or(0, u32::from_ne_bytes);
    // `struct tc_netem_qopt`: latency, limit, loss, gap, duplicate, jitter.
    let loss = attribute(rest, 2).filter(|_| kind == "netem").and_then(|options| field(options, 8));
    Some(Qdisc {
        link: u32::from_ne_bytes(field(body, 4)?),
        handle: u32::from_ne_bytes(field(body, 8)?),
        parent: u32::from_ne_bytes(field(body, 12)?),
        drops: number(8),
        backlog_packets: number(0),
        loss: loss.map(u32::from_ne_bytes),
        kind,
    })
}

/// `struct tcmsg` and what follows, of a filter.
pub(super) fn filter(body: &[u8], ingress: bool) -> Option<TcFilter> {
    let rest = body.get(20..)?;
    let kind = attribute(rest, 1).map(text)?;
    let info = u32::from_ne_bytes(field(body, 16)?);
    let options = attribute(rest, 2).unwrap_or_default();
    let program = (kind == "bpf").then(|| attribute(options, 11).and_then(u32_of)).flatten();
    let program = program.map(|id| Program {
        id,
        name: attribute(options, 7).map(text).unwrap_or_default(),
        ..Program::default()
    });
    let actions_at = match kind.as_str() {
        "bpf" => 1,
        "matchall" => 2,
        "flower" => 3,
        "u32" => 7,
        _ => 0,
    };
    let list = attribute(options, actions_at).unwrap_or_default();
    Some(TcFilter {
        link: u32::from_ne_bytes(field(body, 4)?),
        ingress,
        priority: (info >> 16) as u16,
        program,
        actions: attributes(list).filter_map(|(_, value)| action(value)).collect(),
        kind,
    })
}

/// One action of a filter, in tc's words.
fn action(value: &[u8]) -> Option<String> {
    const SHOT: u32 = 2;
    let kind = attribute(value, 1).map(text)?;
    let options = attribute(value, 2).unwrap_or_default();
    // Both begin with `tc_gen`: index, capab, action, refcnt, bindcnt; mirred goes on with eaction and ifindex.
    let parameters = attribute(options, 2).unwrap_or_default();
    let number = |at| field(parameters, at).map_or(0, u32::from_ne_bytes);
    Some(match kind.as_str() {
        "gact" if number(8) == SHOT => "drop".to_owned(),
        "mirred" => {
            let verb = if matches!(number(20), 1 | 3) { "redirect" } else { "mirror" };
            format!("{verb} to {}", number(24))
        }
        other => other.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::doctor::survey::links;

    #[test]
    fn fuzz_netlink_dumps() {
        crate::fuzzing::inputs(|body| {
            read_all(body);
        });
    }

    fn read_all(body: &[u8]) {
        links::link(body);
        links::vlans(body);
        address_entry(body);
        route(body);
        rule(body);
        neighbour(body);
        forwarding(body);
        groups(body);
        router_ports(body);
        qdisc(body);
        filter(body, true);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, family in prop::sample::select(&[0, 2, 7, 10])) {
            let mut body = vec![family];
            body.extend(bytes);
            read_all(&body);
        }
    }

    #[test]
    fn a_route_with_two_hops_is_read_whole() {
        let mut body = vec![2, 24, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
        body.extend([8, 0, 1, 0, 10, 1, 0, 0]);
        // RTA_MULTIPATH: dead by interface 3, and by 192.0.2.1 on interface 4
        let mut hops = vec![8, 0, 1, 0, 3, 0, 0, 0, 16, 0, 0, 0, 4, 0, 0, 0, 8, 0, 5, 0, 192, 0, 2, 1];
        body.extend([4 + hops.len() as u8, 0, 9, 0]);
        body.append(&mut hops);
        let route = route(&body).unwrap();
        assert_eq!((route.destination.to_string().as_str(), route.table), ("10.1.0.0/24", 254));
        assert_eq!(route.hops[0], NextHop { link: 3, via: None, dead: true, onlink: false });
        assert_eq!(route.hops[1].via, Some([192, 0, 2, 1].into()));
    }
}
