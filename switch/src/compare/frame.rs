//! Frames for cases, put together octet by octet: weft's own encoders are not to vouch for what they are tested with.

pub mod groups;

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::MacAddr;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType for local experiments (IEEE 802): no host answers it.
pub const EXPERIMENT: u16 = 0x88b5;
/// Tag protocol identifier of a customer's VLAN.
pub const DOT1Q: u16 = 0x8100;
/// Tag protocol identifier of a provider's VLAN.
pub const DOT1AD: u16 = 0x88a8;

/// IP protocol numbers.
pub const ICMP: u8 = 1;
/// UDP's.
pub const UDP: u8 = 17;

/// The address of station `number`, of whom one is behind each port in most cases: 02:00:00:00:0a:NN.
pub const fn station(number: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0x0a, number])
}

/// The own address of the interface under port `number`, on both sides of a comparison: 02:00:00:00:01:NN.
pub const fn port_mac(number: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 1, number])
}

/// A group of IPv4 multicast: 01:00:5e:01:01:NN.
pub const fn group(number: u8) -> MacAddr {
    MacAddr::new([1, 0, 0x5e, 1, 1, number])
}

/// A reserved link-local group: 01:80:c2:00:00:NN.
pub const fn reserved(number: u8) -> MacAddr {
    MacAddr::new([1, 0x80, 0xc2, 0, 0, number])
}

/// A frame of 60 octets that no host answers.
pub fn frame(dst: MacAddr, src: MacAddr) -> Vec<u8> {
    ethernet(dst, src, EXPERIMENT, b"weft compare")
}

/// A frame of at least 60 octets, padded with zeros.
pub fn ethernet(dst: MacAddr, src: MacAddr, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = unpadded(dst, src, ether_type, payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// A frame as long as its payload makes it.
pub fn unpadded(dst: MacAddr, src: MacAddr, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&dst.octets()[..], &src.octets(), &ether_type.to_be_bytes(), payload].concat()
}

/// The frame with a tag behind its addresses, outside of those that it has.
pub fn tagged(frame: &[u8], tpid: u16, tci: u16) -> Vec<u8> {
    let at = frame.len().min(12);
    [&frame[..at], &tpid.to_be_bytes(), &tci.to_be_bytes(), &frame[at..]].concat()
}

/// A customer tag's control information.
pub const fn tci(priority: u16, vid: u16) -> u16 {
    priority << 13 | vid
}

/// An IPv4 packet around `payload`, DF clear.
pub fn ipv4(tos: u8, src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_with(Ipv4 { tos, dont_fragment: false, ttl: 64 }, src, dst, protocol, payload)
}

/// What else an IPv4 header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipv4 {
    /// DSCP and ECN.
    pub tos: u8,
    /// The DF bit.
    pub dont_fragment: bool,
    /// TTL.
    pub ttl: u8,
}

/// An IPv4 packet with this header.
pub fn ipv4_with(header: Ipv4, src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let flags = if header.dont_fragment { 0x40 } else { 0 };
    let mut packet = vec![0x45, header.tos, 0, 0, 0, 0, flags, 0, header.ttl, protocol, 0, 0];
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet.extend(src.octets());
    packet.extend(dst.octets());
    let checksum = !sum(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// An IPv6 packet around `payload`.
pub fn ipv6(traffic_class: u8, src: Ipv6Addr, dst: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60 | traffic_class >> 4, traffic_class << 4, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend(payload);
    packet
}

/// An ICMP echo request with `len` octets of data.
pub fn echo(len: usize) -> Vec<u8> {
    let mut icmp = [&[8, 0, 0, 0, 0x77, 0x65, 0, 1][..], &vec![0x5a; len]].concat();
    let checksum = !sum(&icmp);
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    icmp
}

/// A UDP datagram without a checksum, which IPv4 allows.
pub fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    [&source.to_be_bytes()[..], &destination.to_be_bytes(), &len.to_be_bytes(), &[0, 0], payload].concat()
}

/// An ARP request.
pub fn arp_request(mac: MacAddr, src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
    let mut frame = arp_with(1, (mac, src), (MacAddr::ZERO, dst));
    frame[..6].copy_from_slice(&MacAddr::BROADCAST.octets());
    frame
}

/// An ARP frame of any operation, from its sender to its target.
pub fn arp_with(operation: u16, sender: (MacAddr, Ipv4Addr), target: (MacAddr, Ipv4Addr)) -> Vec<u8> {
    let mut arp = [&[0, 1, 8, 0, 6, 4][..], &operation.to_be_bytes()].concat();
    for (mac, ip) in [sender, target] {
        arp.extend(mac.octets());
        arp.extend(ip.octets());
    }
    ethernet(target.0, sender.0, ARP, &arp)
}

/// A neighbour solicitation to the group of the solicited address (RFC 4861 section 4.3), which a sender without an address
/// sends to find duplicates (RFC 4862 section 5.4.2).
pub fn neighbour_solicitation(mac: MacAddr, src: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    const ICMPV6: u8 = 58;
    let [.., x, y, z] = target.octets();
    let dst = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z];
    let mut icmp = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat();
    if !src.is_unspecified() {
        icmp.extend([1, 1]);
        icmp.extend(mac.octets());
    }
    let len = (icmp.len() as u32).to_be_bytes();
    let pseudo = [&src.octets()[..], &dst, &len, &[0, 0, 0, ICMPV6], &icmp].concat();
    icmp[2..4].copy_from_slice(&(!sum(&pseudo)).to_be_bytes());
    let mut packet = ipv6(0, src, dst.into(), ICMPV6, &icmp);
    packet[7] = 255;
    ethernet(MacAddr::new([0x33, 0x33, 0xff, x, y, z]), mac, IPV6, &packet)
}

/// The header of RFC 7348 section 5 in front of a frame: I flag set, all reserved bits clear.
pub fn vxlan(vni: u32, frame: &[u8]) -> Vec<u8> {
    with_header(1 << 59 | u64::from(vni) << 8, frame)
}

/// Any 64 bits in front of a frame, bit 63 first on the wire.
pub fn with_header(header: u64, frame: &[u8]) -> Vec<u8> {
    [&header.to_be_bytes()[..], frame].concat()
}

/// The sum of RFC 1071, not complemented: of what holds its own checksum, 0xffff.
pub fn sum(octets: &[u8]) -> u16 {
    let pair = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low));
    let mut sum: u32 = octets.chunks(2).map(pair).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::describe::describe;

    #[test]
    fn the_sum_is_that_of_rfc_1071() {
        // Section 3 of the RFC.
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    #[test]
    fn frames_are_what_they_are_called() {
        let packet = ipv4(0, [10, 0, 0, 1].into(), [10, 0, 0, 2].into(), ICMP, &echo(4));
        let inside = tagged(&ethernet(station(2), station(1), IPV4, &packet), DOT1Q, tci(5, 10));
        let text = describe(&inside).to_string();
        assert!(text.contains("VLAN 10") && text.contains("10.0.0.1 > 10.0.0.2 ICMP echo request"), "{text}");
        assert!(
            describe(&arp_request(station(1), [10, 0, 0, 1].into(), [10, 0, 0, 2].into())).to_string().contains("ARP")
        );
    }
}
