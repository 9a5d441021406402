//! Frames for tests, put together octet by octet here so that weft's own encoders do not vouch for themselves.

use std::net::Ipv4Addr;

use weft::wire::MacAddr;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType for local experiments (IEEE 802): no host answers it.
pub const EXPERIMENT: u16 = 0x88b5;

/// A frame of at least 60 octets, padded with zeros.
pub fn ethernet(dst: MacAddr, src: MacAddr, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&dst.octets()[..], &src.octets(), &ether_type.to_be_bytes(), payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// A frame that no host answers.
pub fn experiment(dst: MacAddr, src: MacAddr) -> Vec<u8> {
    ethernet(dst, src, EXPERIMENT, b"weft test")
}

/// The frame with these octets of tags (TPID and TCI each) behind its addresses.
pub fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], &tags.concat(), &frame[12..]].concat()
}

/// An IPv4 packet with an ICMP echo reply, which hosts that did not ask pass over in silence.
pub fn icmp_packet(tos: u8, src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
    let mut icmp = [&[0, 0, 0, 0, 0x77, 0x65, 0, 1][..], &[0x5a; 56]].concat();
    let checksum = !internet_sum(&icmp);
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    let len = (20 + icmp.len()) as u16;
    let mut packet = vec![0x45, tos, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0];
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet.extend(src.octets());
    packet.extend(dst.octets());
    let checksum = !internet_sum(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(icmp);
    packet
}

/// An ARP request, broadcast by `mac`.
pub fn arp_request(mac: MacAddr, src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
    let fixed = [0, 1, 8, 0, 6, 4, 0, 1];
    let arp = [&fixed[..], &mac.octets(), &src.octets(), &[0; 6], &dst.octets()].concat();
    ethernet(MacAddr::BROADCAST, mac, ARP, &arp)
}

/// The header of RFC 7348 section 5 in front of a frame: I flag set, all reserved bits clear.
pub fn vxlan(vni: u32, frame: &[u8]) -> Vec<u8> {
    with_header(1 << 59 | u64::from(vni) << 8, frame)
}

/// Any 64 bits in front of a frame, bit 63 first on the wire.
pub fn with_header(header: u64, frame: &[u8]) -> Vec<u8> {
    [&header.to_be_bytes()[..], frame].concat()
}

/// A VXLAN packet over IPv4 as it was on the wire.
#[derive(Debug)]
pub struct Outer<'f> {
    /// Its TTL.
    pub ttl: u8,
    /// Its DSCP and ECN.
    pub tos: u8,
    /// The frame inside.
    pub inner: &'f [u8],
}

impl<'f> Outer<'f> {
    /// Reads a frame that carries IPv4 without options, and UDP to `port`; `None` for any other.
    pub fn of(frame: &'f [u8], port: u16) -> Option<Self> {
        let (header, inner) = frame.split_at_checked(14 + 20 + 8 + 8)?;
        let is_vxlan = header[12..15] == [8, 0, 0x45] && header[23] == 17 && header[36..38] == port.to_be_bytes();
        is_vxlan.then(|| Self { ttl: header[22], tos: header[15], inner })
    }
}

/// DSCP and ECN of the IPv4 packet in a frame, if its header's checksum is right.
pub fn tos(frame: &[u8]) -> Option<u8> {
    let header = frame.get(14..34).filter(|_| frame[12..14] == IPV4.to_be_bytes())?;
    (internet_sum(header) == 0xffff).then_some(header[1])
}

/// The sum of RFC 1071, not complemented: of what holds its own checksum, 0xffff.
pub fn internet_sum(octets: &[u8]) -> u16 {
    let mut sum: u32 =
        octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_rfc_1071() {
        // Section 3 of the RFC.
        assert_eq!(internet_sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    #[test]
    fn a_packet_has_the_checksum_that_its_reader_wants() {
        let packet = icmp_packet(0xb9, [192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let frame = ethernet(MacAddr::BROADCAST, MacAddr::ZERO, IPV4, &packet);
        assert_eq!(tos(&frame), Some(0xb9));
        assert_eq!(tos(&tagged(&frame, &[[0x81, 0, 0, 5]])), None);
    }

    #[test]
    fn the_header_is_that_of_rfc_7348() {
        assert_eq!(vxlan(0x0a_0b0c, b"x"), [8, 0, 0, 0, 0x0a, 0x0b, 0x0c, 0, b'x']);
    }
}
