//! Frames that say something about groups, for tests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{Icmpv6Header, Icmpv6Type, PacketBuilder};

use super::*;
use crate::wire::MacAddr;

/// The station that sends.
pub(crate) const STATION: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 0x11]);
/// Its IPv4 address.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Its link-local address.
pub(crate) const HOST_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// One group record.
pub(crate) type RecordOf = (RecordKind, IpAddr, Vec<IpAddr>);

/// The Ethernet address of an IP group (RFC 1112 section 6.4, RFC 2464 section 7).
pub(crate) fn group_mac(group: IpAddr) -> [u8; 6] {
    match group {
        IpAddr::V4(group) => {
            let [_, b, c, d] = group.octets();
            [1, 0, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(group) => {
            let [.., c, d, e, f] = group.octets();
            [0x33, 0x33, c, d, e, f]
        }
    }
}

/// IGMP with these bytes, whose checksum is filled in.
pub(crate) fn igmp_frame(src: Ipv4Addr, dst: Ipv4Addr, mut message: Vec<u8>) -> Vec<u8> {
    message[2..4].copy_from_slice(&[0, 0]);
    let checksum = sum(&message).checksum();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = Vec::new();
    let ip = PacketBuilder::ethernet2(STATION.octets(), group_mac(dst.into())).ipv4(src.octets(), dst.octets(), 1);
    ip.write(&mut frame, PROTOCOL_IGMP.into(), &message).unwrap();
    frame
}

/// MLD with these bytes behind a router alert; the checksum is etherparse's.
pub(crate) fn mld_frame(src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let icmp_type =
        Icmpv6Type::Unknown { type_u8: message[0], code_u8: message[1], bytes5to8: message[4..8].try_into().unwrap() };
    let header = Icmpv6Header::with_checksum(icmp_type, src.octets(), dst.octets(), &message[8..]).unwrap();
    let mut payload = vec![PROTOCOL_ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    payload.extend(header.to_bytes());
    payload.extend(&message[8..]);
    let mut frame = [group_mac(dst.into()), STATION.octets()].concat();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([0, 1]);
    frame.extend(src.octets());
    frame.extend(dst.octets());
    frame.extend(payload);
    frame
}

/// A report of the versions that know no sources.
pub(crate) fn report(group: IpAddr) -> Vec<u8> {
    match group {
        IpAddr::V4(group) => igmp_frame(HOST, group, [&[igmp::V2_REPORT, 0, 0, 0][..], &group.octets()].concat()),
        IpAddr::V6(group) => {
            mld_frame(HOST_V6, group, &[&[mld::REPORT, 0, 0, 0, 0, 0, 0, 0][..], &group.octets()].concat())
        }
    }
}

/// A leave, a done.
pub(crate) fn leave(group: IpAddr) -> Vec<u8> {
    match group {
        IpAddr::V4(group) => {
            let routers = Ipv4Addr::new(224, 0, 0, 2);
            igmp_frame(HOST, routers, [&[igmp::LEAVE, 0, 0, 0][..], &group.octets()].concat())
        }
        IpAddr::V6(group) => {
            let routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
            mld_frame(HOST_V6, routers, &[&[mld::DONE, 0, 0, 0, 0, 0, 0, 0][..], &group.octets()].concat())
        }
    }
}

/// A report with sources from `host`, of whose IP version all records are.
pub(crate) fn records_of(host: IpAddr, records: &[RecordOf]) -> Vec<u8> {
    let mut body = Vec::new();
    let octets = |address: &IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    for (kind, group, sources) in records {
        body.extend([kind.code(), 0]);
        body.extend((sources.len() as u16).to_be_bytes());
        body.extend(octets(group));
        sources.iter().for_each(|source| body.extend(octets(source)));
    }
    let [n0, n1] = (records.len() as u16).to_be_bytes();
    let head = |kind| vec![kind, 0, 0, 0, 0, 0, n0, n1];
    match host {
        IpAddr::V4(host) => igmp_frame(host, IGMPV3_ROUTERS, [head(igmp::V3_REPORT), body].concat()),
        IpAddr::V6(host) => mld_frame(host, MLDV2_ROUTERS, &[head(mld::V2_REPORT), body].concat()),
    }
}

/// A query about all groups from `router`.
pub(crate) fn query(router: IpAddr) -> Vec<u8> {
    match router {
        IpAddr::V4(router) => igmp_frame(router, ALL_HOSTS, vec![igmp::QUERY, 100, 0, 0, 0, 0, 0, 0]),
        IpAddr::V6(router) => {
            let message = [&[mld::QUERY, 0, 0, 0, 0x27, 0x10, 0, 0][..], &[0; 16]].concat();
            mld_frame(router, ALL_NODES, &message)
        }
    }
}

/// Traffic: a UDP packet.
pub(crate) fn traffic(src: IpAddr, dst: IpAddr) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(STATION.octets(), group_mac(dst));
    let mut frame = Vec::new();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => builder.ipv4(src.octets(), dst.octets(), 8).udp(9, 9),
        (IpAddr::V6(src), IpAddr::V6(dst)) => builder.ipv6(src.octets(), dst.octets(), 8).udp(9, 9),
        _ => panic!("two IP versions in one packet"),
    }
    .write(&mut frame, b"traffic")
    .unwrap();
    frame
}
