//! What hosts and routers say about multicast groups, and traffic to groups, put together octet by octet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{IPV4, IPV6, UDP, ethernet, ipv4, ipv6, station, sum, udp};
use crate::wire::MacAddr;

const IGMP: u8 = 2;
const PIM: u8 = 103;
const ICMPV6: u8 = 58;
const ALL_HOSTS: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 1));
const ALL_ROUTERS: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 2));
const ALL_NODES: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
const ALL_ROUTERS_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2));

/// A kind of group record by its number on the wire (RFC 3376 section 4.2.12, RFC 3810 section 5.2.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// MODE_IS_INCLUDE
    IsInclude = 1,
    /// MODE_IS_EXCLUDE
    IsExclude = 2,
    /// CHANGE_TO_INCLUDE_MODE
    ToInclude = 3,
    /// CHANGE_TO_EXCLUDE_MODE
    ToExclude = 4,
    /// ALLOW_NEW_SOURCES
    Allow = 5,
    /// BLOCK_OLD_SOURCES
    Block = 6,
}

/// The Ethernet address of an IP group (RFC 1112 section 6.4, RFC 2464 section 7).
pub fn group_mac(group: IpAddr) -> MacAddr {
    match group {
        IpAddr::V4(group) => {
            let [_, b, c, d] = group.octets();
            MacAddr::new([1, 0, 0x5e, b & 0x7f, c, d])
        }
        IpAddr::V6(group) => {
            let [.., c, d, e, f] = group.octets();
            MacAddr::new([0x33, 0x33, c, d, e, f])
        }
    }
}

/// The IPv4 or link-local IPv6 address of station `number`, as the group's family has it.
pub fn host(number: u8, group: IpAddr) -> IpAddr {
    match group {
        IpAddr::V4(_) => [10, 0, 0, number].into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, number.into()).into(),
    }
}

/// A source of traffic of the group's family: 198.51.100.N, 2001:db8::N.
pub fn source(number: u8, group: IpAddr) -> IpAddr {
    match group {
        IpAddr::V4(_) => [198, 51, 100, number].into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()).into(),
    }
}

/// Traffic of station `from` to a group, from a source of another network.
pub fn traffic(from: u8, source: IpAddr, group: IpAddr) -> Vec<u8> {
    let datagram = udp(5000, 5001, b"traffic");
    let (ether_type, packet) = match (source, group) {
        (IpAddr::V4(source), IpAddr::V4(group)) => (IPV4, ipv4(0, source, group, UDP, &datagram)),
        (IpAddr::V6(source), IpAddr::V6(group)) => (IPV6, ipv6(0, source, group, UDP, &datagram)),
        (IpAddr::V4(_) | IpAddr::V6(_), _) => return Vec::new(),
    };
    ethernet(group_mac(group), station(from), ether_type, &packet)
}

/// A report of IGMP version 2 or MLD version 1: station `from` is in the group.
pub fn report(from: u8, group: IpAddr) -> Vec<u8> {
    let head = if group.is_ipv4() { vec![0x16, 0, 0, 0] } else { vec![131, 0, 0, 0, 0, 0, 0, 0] };
    message(from, host(from, group), group, [head, octets(group)].concat())
}

/// A report of IGMP version 1.
pub fn report_v1(from: u8, group: IpAddr) -> Vec<u8> {
    message(from, host(from, group), group, [vec![0x12, 0, 0, 0], octets(group)].concat())
}

/// A leave of IGMP version 2, a done of MLD version 1.
pub fn leave(from: u8, group: IpAddr) -> Vec<u8> {
    let (head, to) = match group {
        IpAddr::V4(_) => (vec![0x17, 0, 0, 0], ALL_ROUTERS),
        IpAddr::V6(_) => (vec![132, 0, 0, 0, 0, 0, 0, 0], ALL_ROUTERS_V6),
    };
    message(from, host(from, group), to, [head, octets(group)].concat())
}

/// A report of IGMP version 3 or MLD version 2 with one record.
pub fn record(from: u8, kind: Kind, group: IpAddr, sources: &[IpAddr]) -> Vec<u8> {
    records(from, &[(kind, group, sources.to_vec())])
}

/// A report with several records, all of one family.
pub fn records(from: u8, records: &[(Kind, IpAddr, Vec<IpAddr>)]) -> Vec<u8> {
    let family = records.first().map_or(ALL_HOSTS, |(_, group, _)| *group);
    let [n0, n1] = (records.len() as u16).to_be_bytes();
    let mut body = vec![if family.is_ipv4() { 0x22 } else { 143 }, 0, 0, 0, 0, 0, n0, n1];
    for (kind, group, sources) in records {
        body.extend([*kind as u8, 0]);
        body.extend((sources.len() as u16).to_be_bytes());
        body.extend(octets(*group));
        sources.iter().for_each(|source| body.extend(octets(*source)));
    }
    let to = match family {
        IpAddr::V4(_) => IpAddr::from([224, 0, 0, 22]),
        IpAddr::V6(_) => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16).into(),
    };
    message(from, host(from, family), to, body)
}

/// A query about all groups of a family by the newer version's router, which gives hosts no time to answer: it is believed at
/// once.
pub fn query(from: u8, family: IpAddr) -> Vec<u8> {
    query_from(from, host(from, family))
}

/// The same from any address.
pub fn query_from(from: u8, router: IpAddr) -> Vec<u8> {
    match router {
        IpAddr::V4(_) => message(from, router, ALL_HOSTS, [vec![0x11, 0, 0, 0], vec![0; 8]].concat()),
        IpAddr::V6(_) => message(from, router, ALL_NODES, [vec![130, 0, 0, 0, 0, 0, 0, 0], vec![0; 20]].concat()),
    }
}

/// A query about one group, to be answered within four tenths of a second.
pub fn group_query(from: u8, group: IpAddr) -> Vec<u8> {
    let head = if group.is_ipv4() { vec![0x11, 4, 0, 0] } else { vec![130, 0, 0, 0, 1, 0x90, 0, 0] };
    message(from, host(from, group), group, [head, octets(group)].concat())
}

/// A PIM Hello of version 2 (RFC 7761 section 4.9.2): a router is there.
pub fn pim_hello(from: u8) -> Vec<u8> {
    let to = Ipv4Addr::new(224, 0, 0, 13);
    let mut hello = vec![0x20, 0, 0, 0, 0, 1, 0, 2, 0, 105];
    let checksum = !sum(&hello);
    hello[2..4].copy_from_slice(&checksum.to_be_bytes());
    ethernet(group_mac(to.into()), station(from), IPV4, &ipv4(0, [10, 0, 0, from].into(), to, PIM, &hello))
}

/// An advertisement of multicast router discovery (RFC 4286 section 4).
pub fn router_advertisement(from: u8, family: IpAddr) -> Vec<u8> {
    match family {
        IpAddr::V4(_) => message(from, host(from, family), [224, 0, 0, 106].into(), vec![0x30, 20, 0, 0, 0, 125, 0, 2]),
        IpAddr::V6(_) => {
            let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x6a);
            message(from, host(from, family), to.into(), vec![151, 20, 0, 0, 0, 125, 0, 2])
        }
    }
}

/// An IGMP or MLD message behind a router alert, its checksum filled in.
pub fn message(from: u8, src: IpAddr, dst: IpAddr, mut body: Vec<u8>) -> Vec<u8> {
    let (ether_type, packet) = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let checksum = !sum(&body);
            body[2..4].copy_from_slice(&checksum.to_be_bytes());
            (IPV4, with_router_alert(src, dst, &body))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let len = (body.len() as u32).to_be_bytes();
            let pseudo = [&src.octets()[..], &dst.octets(), &len, &[0, 0, 0, ICMPV6], &body].concat();
            body[2..4].copy_from_slice(&(!sum(&pseudo)).to_be_bytes());
            let payload = [&[ICMPV6, 0, 5, 2, 0, 0, 1, 0], &body[..]].concat();
            let mut packet = ipv6(0, src, dst, 0, &payload);
            packet[7] = 1;
            (IPV6, packet)
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => return Vec::new(),
    };
    ethernet(group_mac(dst), station(from), ether_type, &packet)
}

/// An IPv4 header of 24 octets with the option of RFC 2113, TTL 1, around an IGMP message.
fn with_router_alert(src: Ipv4Addr, dst: Ipv4Addr, body: &[u8]) -> Vec<u8> {
    let len = (24 + body.len()) as u16;
    let mut packet = vec![0x46, 0xc0, 0, 0, 0, 0, 0, 0, 1, IGMP, 0, 0];
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend([0x94, 4, 0, 0]);
    let checksum = !sum(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(body);
    packet
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::membership::{Message, Scope, parse};

    #[test]
    fn messages_are_what_they_are_called() {
        for group in [IpAddr::from([239, 1, 1, 1]), Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 1).into()] {
            let said = |frame: &[u8]| format!("{:?}", parse(frame, false).unwrap().unwrap().message);
            let is = |frame: &[u8], wanted: Message<'_>| assert_eq!(said(frame), format!("{:?}", Some(wanted)));
            is(&report(1, group), Message::Report(group));
            is(&leave(1, group), Message::Leave(group));
            is(&router_advertisement(1, group), Message::Router);
            let frame = record(1, Kind::Block, group, &[source(1, group), source(2, group)]);
            let Some(Message::Records(records)) = parse(&frame, false).unwrap().unwrap().message else { panic!() };
            let record = records.iter().next().unwrap().unwrap();
            assert_eq!((record.kind.code(), record.group, record.sources().count()), (6, group, 2));
            for (frame, is_general) in [(query(1, group), true), (group_query(1, group), false)] {
                let Some(Message::Query(query)) = parse(&frame, false).unwrap().unwrap().message else { panic!() };
                assert_eq!(query.scope == Scope::General, is_general, "{query:?}");
            }
        }
    }
}
