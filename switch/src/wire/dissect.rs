//! One pass over an inner frame: where its IP and transport headers are, and the few fields that decide about it.
//!
//! Everything later (the flow hash, the MTU check, ECN, segmentation) works with these offsets and parses nothing again.
//! Dissecting never fails: it stops at the first thing that is cut off or makes no sense, and what it has found so far
//! holds. Whatever is reported lies inside the frame, except where a field says otherwise.

use super::{
    checksum::update16,
    ethernet::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, ETHER_TYPE_OFFSET, HEADER_LEN},
    vlan::{TAG_LEN, TPID_8021AD, TPID_8021Q},
};

/// IP protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER_LEN: usize = 20;
/// Bytes of an IPv6 header without extension headers.
pub const IPV6_HEADER_LEN: usize = 40;
/// Bytes of a TCP header without options.
pub const TCP_HEADER_LEN: usize = 20;
/// Bytes of a UDP header.
pub const UDP_HEADER_LEN: usize = 8;

/// What was found in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dissected {
    /// The type behind the tags that were skipped; 0 for a frame without a whole Ethernet header.
    pub ether_type: u16,
    /// Tags skipped: 0, 1 or 2 of protocol identifier 0x8100 or 0x88a8. A third one stays as `ether_type`.
    pub tag_count: u8,
    /// The type at offset 12 says IP, and fewer bytes follow than an IPv4 (20) or IPv6 (40) header has.
    ///
    /// For this the kernel's vxlan driver refuses a packet, and for nothing behind a tag (`pskb_inet_may_pull` in
    /// `include/net/ip_tunnels.h`).
    pub ip_truncated: bool,
    /// The IP header.
    pub l3: Option<L3>,
    /// The transport header. `None` for fragments, the first one included, so that all of them look alike.
    pub l4: Option<L4>,
}

impl Dissected {
    /// Whether the frame, `len` bytes long, ends within the IP header that its type says, behind tags as well.
    ///
    /// Such a frame the kernel's vxlan driver does not send (`skb_vlan_inet_prepare` in `include/net/ip_tunnels.h`).
    #[inline]
    pub const fn ends_within_ip(&self, len: usize) -> bool {
        let header_len = match self.ether_type {
            ETHER_TYPE_IPV4 => IPV4_HEADER_LEN,
            ETHER_TYPE_IPV6 => IPV6_HEADER_LEN,
            _ => return false,
        };
        self.l3.is_none() && len < HEADER_LEN + TAG_LEN * self.tag_count as usize + header_len
    }
}

/// Which IP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// An IP header. Its first 20 (IPv4) or 40 (IPv6) bytes lie inside the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct L3 {
    /// Where it begins, in bytes from the start of the frame.
    pub offset: u16,
    /// Which IP.
    pub version: IpVersion,
    /// Bytes from here to the transport header, options and extension headers included, as the headers say; where they
    /// are cut off, the transport header is `None`.
    pub header_len: u16,
    /// Type of service or traffic class: DSCP and, in the low two bits, ECN.
    pub tos: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Bytes of the whole packet as the header says, IP header included.
    pub total_len: u32,
    /// No router may fragment it: the DF bit of IPv4, always so for IPv6.
    pub dont_fragment: bool,
    /// It is a fragment, first one or later. An IPv6 packet with a fragment header that is whole ("atomic", RFC 6946) is
    /// none.
    pub fragment: bool,
    /// Protocol of what is behind `header_len`.
    pub protocol: u8,
}

impl L3 {
    /// Source and destination, which lie side by side in both headers, of the packet in this very frame.
    #[inline]
    pub fn addresses<'f>(&self, frame: &'f [u8]) -> Option<&'f [u8]> {
        let packet = frame.get(usize::from(self.offset)..)?;
        match self.version {
            IpVersion::V4 => packet.get(12..20),
            IpVersion::V6 => packet.get(8..40),
        }
    }
}

/// A transport header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct L4 {
    /// Where it begins, in bytes from the start of the frame. Its fixed part (TCP 20 bytes, UDP 8, others 1) lies inside
    /// the frame and the IP packet.
    pub offset: u16,
    /// Which transport.
    pub kind: L4Kind,
    /// Source port; 0 if there are no ports.
    pub src_port: u16,
    /// Destination port; 0 if there are no ports.
    pub dst_port: u16,
}

/// Which transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum L4Kind {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Anything else: see [`L3::protocol`].
    Other,
}

/// Dissects `frame`, which begins with its Ethernet header.
#[inline]
pub fn dissect(frame: &[u8]) -> Dissected {
    let Some(mut ether_type) = read16(frame, ETHER_TYPE_OFFSET) else { return Dissected::default() };
    let ip_truncated = match ether_type {
        ETHER_TYPE_IPV4 => frame.len() < HEADER_LEN + IPV4_HEADER_LEN,
        ETHER_TYPE_IPV6 => frame.len() < HEADER_LEN + IPV6_HEADER_LEN,
        _ => false,
    };
    let mut offset = HEADER_LEN;
    let mut tag_count = 0;
    while tag_count < MAX_TAG_COUNT && matches!(ether_type, TPID_8021Q | TPID_8021AD) {
        let Some(behind) = read16(frame, offset + 2) else { break };
        ether_type = behind;
        offset += TAG_LEN;
        tag_count += 1;
    }
    let l3 = match ether_type {
        ETHER_TYPE_IPV4 => ipv4(frame, offset),
        ETHER_TYPE_IPV6 => ipv6(frame, offset),
        _ => None,
    };
    let l4 = l3.and_then(|l3| transport(frame, &l3));
    Dissected { ether_type, tag_count, ip_truncated, l3, l4 }
}

/// Sets the ECN field (the low two bits of `ecn`) of the packet that [`dissect`] found at `l3`, and corrects the header
/// checksum of IPv4.
#[inline]
pub fn set_ecn(frame: &mut [u8], l3: &L3, ecn: u8) {
    let ecn = ecn & 0b11;
    let Some(packet) = frame.get_mut(usize::from(l3.offset)..) else { return };
    match l3.version {
        IpVersion::V4 => {
            let Some(header) = packet.first_chunk_mut::<IPV4_HEADER_LEN>() else { return };
            let old = u16::from_be_bytes([header[0], header[1]]);
            let new = (old & !0b11) | u16::from(ecn);
            let checksum = update16(u16::from_be_bytes([header[10], header[11]]), old, new);
            header[..2].copy_from_slice(&new.to_be_bytes());
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        // version (4 bits), traffic class (8), flow label (20): the class's low bits are bits 4 and 5 of the second byte.
        IpVersion::V6 => {
            let Some([_, second, ..]) = packet.first_chunk_mut::<2>() else { return };
            *second = (*second & !0x30) | (ecn << 4);
        }
    }
}

const MAX_TAG_COUNT: u8 = 2;
/// Extension headers that are walked. Real packets carry one or two; without a bound, a packet of 8-byte headers costs
/// eight thousand steps.
const MAX_EXTENSION_COUNT: usize = 8;

// IPv6 extension headers (IANA protocol numbers, RFC 8200 section 4).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

#[inline(always)]
fn read16(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().copied().map(u16::from_be_bytes)
}

#[inline(always)]
fn ipv4(frame: &[u8], offset: usize) -> Option<L3> {
    let &[version_ihl, tos, len0, len1, _, _, frag0, frag1, ttl, protocol, ..] =
        frame.get(offset..)?.first_chunk::<IPV4_HEADER_LEN>()?;
    let header_len = u16::from(version_ihl & 0x0f) * 4;
    if version_ihl >> 4 != 4 || usize::from(header_len) < IPV4_HEADER_LEN {
        return None;
    }
    let flags_offset = u16::from_be_bytes([frag0, frag1]);
    Some(L3 {
        offset: offset as u16,
        version: IpVersion::V4,
        header_len,
        tos,
        ttl,
        total_len: u32::from(u16::from_be_bytes([len0, len1])),
        dont_fragment: flags_offset & 0x4000 != 0,
        // More-fragments bit or an offset.
        fragment: flags_offset & 0x3fff != 0,
        protocol,
    })
}

#[inline(always)]
fn ipv6(frame: &[u8], offset: usize) -> Option<L3> {
    let packet = frame.get(offset..)?;
    let &[b0, b1, _, _, len0, len1, next, ttl, ..] = packet.first_chunk::<IPV6_HEADER_LEN>()?;
    if b0 >> 4 != 6 {
        return None;
    }
    let mut protocol = next;
    let mut header_len = IPV6_HEADER_LEN;
    let mut fragment = false;
    for _ in 0..MAX_EXTENSION_COUNT {
        if !matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
            break;
        }
        let Some(&[next, len, field0, field1]) = packet.get(header_len..).and_then(<[u8]>::first_chunk) else { break };
        // All four begin with the next protocol; the fragment header alone has no length, but 8 bytes.
        header_len += if protocol == FRAGMENT { 8 } else { (usize::from(len) + 1) * 8 };
        if protocol == FRAGMENT {
            // Offset (13 bits), two reserved, more fragments.
            fragment = u16::from_be_bytes([field0, field1]) & 0xfff9 != 0;
        }
        protocol = next;
        if fragment {
            break;
        }
    }
    Some(L3 {
        offset: offset as u16,
        version: IpVersion::V6,
        header_len: header_len as u16,
        tos: (b0 << 4) | (b1 >> 4),
        ttl,
        total_len: IPV6_HEADER_LEN as u32 + u32::from(u16::from_be_bytes([len0, len1])),
        dont_fragment: true,
        fragment,
        protocol,
    })
}

#[inline(always)]
fn transport(frame: &[u8], l3: &L3) -> Option<L4> {
    if l3.fragment {
        return None;
    }
    let start = usize::from(l3.offset) + usize::from(l3.header_len);
    let end = frame.len().min(usize::from(l3.offset) + packet_len(l3, frame.len()));
    let segment = frame.get(start..end)?;
    let (kind, header_len) = match l3.protocol {
        PROTOCOL_TCP => (L4Kind::Tcp, TCP_HEADER_LEN),
        PROTOCOL_UDP => (L4Kind::Udp, UDP_HEADER_LEN),
        _ => (L4Kind::Other, 1),
    };
    if segment.len() < header_len {
        return None;
    }
    let (src_port, dst_port) = match (kind, segment) {
        (L4Kind::Tcp | L4Kind::Udp, &[s0, s1, d0, d1, ..]) => {
            (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]))
        }
        (L4Kind::Tcp | L4Kind::Udp | L4Kind::Other, _) => (0, 0),
    };
    Some(L4 { offset: start as u16, kind, src_port, dst_port })
}

/// Bytes of the packet. A length field of zero is one that did not fit 16 bits (a jumbogram, or a super-frame of more
/// than 64 KiB): then the frame's length says it.
#[inline(always)]
fn packet_len(l3: &L3, frame_len: usize) -> usize {
    let unknown = match l3.version {
        IpVersion::V4 => l3.total_len == 0,
        IpVersion::V6 => l3.total_len == IPV6_HEADER_LEN as u32,
    };
    if unknown { frame_len } else { l3.total_len as usize }
}

#[cfg(test)]
mod tests {
    use etherparse::{
        IpFragOffset, IpNumber, Ipv4Header, Ipv6Header, LaxNetSlice, LaxSlicedPacket, PacketBuilder, TransportSlice,
        VlanId,
    };
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);

    fn udp4(payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(MACS.0, MACS.1)
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(1111, 2222)
            .write(&mut frame, payload)
            .unwrap();
        frame
    }

    #[test]
    fn a_frame_that_ends_within_its_ip_header_is_known_behind_tags_too() {
        let plain = udp4(b"");
        let tagged = [&plain[..12], &[0x81, 0, 0, 5], &plain[12..]].concat();
        let twice = [&tagged[..12], &[0x88, 0xa8, 0, 6], &tagged[12..]].concat();
        for (whole, header_at) in [(plain, 14), (tagged, 18), (twice, 22)] {
            for len in 0..whole.len() {
                let ends_within_ip = dissect(&whole[..len]).ends_within_ip(len);
                assert_eq!(ends_within_ip, (header_at..header_at + 20).contains(&len), "{len} of {}", whole.len());
            }
        }
        let v6 = ipv6_with(&[], 59, b"");
        assert!(dissect(&v6[..53]).ends_within_ip(53) && !dissect(&v6).ends_within_ip(54));
        let mut nonsense = udp4(b"");
        nonsense[14] = 0;
        assert!(!dissect(&nonsense).ends_within_ip(nonsense.len()), "it makes no sense, but is all there");
    }

    /// An IPv6 packet with these extension headers, given as (its own number, bytes behind the next header's number).
    fn ipv6_with(extensions: &[(u8, Vec<u8>)], last: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        let numbers = extensions.iter().map(|(number, _)| *number).chain([last]).collect::<Vec<_>>();
        for ((_, body), next) in extensions.iter().zip(&numbers[1..]) {
            packet.push(*next);
            packet.extend(body);
        }
        packet.extend(rest);
        let mut header = Ipv6Header { next_header: IpNumber(numbers[0]), hop_limit: 7, ..Default::default() };
        header.traffic_class = 0xb9;
        header.set_payload_length(packet.len()).unwrap();
        let mut frame = [MACS.1, MACS.0].concat();
        frame.extend([0x86, 0xdd]);
        header.write(&mut frame).unwrap();
        frame.extend(packet);
        frame
    }

    const UDP_HEADER: [u8; 8] = [0x11, 0x11, 0x22, 0x22, 0, 8, 0, 0];

    #[test]
    fn ports_of_udp_are_found() {
        let found = dissect(&udp4(b"x"));
        let l4 = L4 { offset: 34, kind: L4Kind::Udp, src_port: 1111, dst_port: 2222 };
        assert_eq!(found.l4, Some(l4));
        assert_eq!((found.ether_type, found.tag_count, found.ip_truncated), (ETHER_TYPE_IPV4, 0, false));
        let l3 = found.l3.unwrap();
        assert_eq!((l3.offset, l3.version, l3.header_len), (14, IpVersion::V4, 20));
        assert_eq!((l3.ttl, l3.protocol, l3.total_len), (64, PROTOCOL_UDP, 29));
    }

    #[test]
    fn padding_behind_the_packet_is_no_transport_header() {
        let mut frame = udp4(b"");
        frame[16..18].copy_from_slice(&27_u16.to_be_bytes());
        frame.resize(60, 0);
        assert_eq!(dissect(&frame).l4, None);
        // A length of zero is one that did not fit.
        frame[16..18].copy_from_slice(&[0, 0]);
        assert!(dissect(&frame).l4.is_some());
    }

    #[test]
    fn a_truncated_ip_header_shows_only_before_tags() {
        let frame = udp4(b"");
        assert!(!dissect(&frame[..34]).ip_truncated);
        assert!(dissect(&frame[..33]).ip_truncated);
        assert!(dissect(&frame[..14]).ip_truncated);
        let v6 = ipv6_with(&[], PROTOCOL_UDP, &UDP_HEADER);
        assert!(!dissect(&v6[..54]).ip_truncated);
        assert!(dissect(&v6[..53]).ip_truncated);
        let mut tagged = frame[..12].to_vec();
        tagged.extend([0x81, 0, 0, 1, 8, 0]);
        assert_eq!(dissect(&tagged), Dissected { ether_type: ETHER_TYPE_IPV4, tag_count: 1, ..Default::default() });
    }

    #[test]
    fn fragments_have_no_ports_not_even_the_first() {
        for flags_offset in [0x2000_u16, 0x2001, 0x0001, 0x6000] {
            let mut frame = udp4(b"12345678");
            frame[20..22].copy_from_slice(&flags_offset.to_be_bytes());
            let found = dissect(&frame);
            assert!(found.l3.unwrap().fragment);
            assert_eq!(found.l4, None);
        }
        let mut whole = udp4(b"");
        whole[20] = 0x40;
        let found = dissect(&whole);
        assert!(found.l3.unwrap().dont_fragment && !found.l3.unwrap().fragment);
        assert!(found.l4.is_some());
    }

    #[test]
    fn extension_headers_are_walked_to_the_ports() {
        let short = vec![0; 7];
        let long = [vec![2], vec![0; 22]].concat();
        let frame = ipv6_with(&[(0, short.clone()), (60, long), (43, short)], PROTOCOL_UDP, &UDP_HEADER);
        let found = dissect(&frame);
        let l3 = found.l3.unwrap();
        assert_eq!((usize::from(l3.header_len), l3.protocol), (40 + 8 + 24 + 8, PROTOCOL_UDP));
        assert_eq!((l3.tos, l3.ttl, l3.dont_fragment), (0xb9, 7, true));
        let ports = found.l4.map(|l4| (usize::from(l4.offset), l4.src_port, l4.dst_port));
        assert_eq!(ports, Some((14 + 80, 0x1111, 0x2222)));
    }

    #[test]
    fn first_and_later_ipv6_fragments_look_alike_and_atomic_ones_are_whole() {
        // Destination options behind the fragment header exist in the first fragment only.
        let first = ipv6_with(&[(44, vec![0, 0, 1, 0, 0, 0, 9])], 60, &[PROTOCOL_UDP, 0, 0, 0, 0, 0, 0, 0]);
        let later = ipv6_with(&[(44, vec![0, 5, 0x38, 0, 0, 0, 9])], 60, &[0xaa; 8]);
        for frame in [first, later] {
            let found = dissect(&frame);
            let l3 = found.l3.unwrap();
            assert_eq!((l3.fragment, l3.protocol, l3.header_len, found.l4), (true, 60, 48, None));
        }
        let atomic = dissect(&ipv6_with(&[(44, vec![0, 0, 0, 0, 0, 0, 9])], PROTOCOL_UDP, &UDP_HEADER));
        assert!(!atomic.l3.unwrap().fragment && atomic.l4.is_some());
    }

    #[test]
    fn the_walk_through_extension_headers_ends() {
        let nine = vec![(60, vec![0; 7]); 9];
        let found = dissect(&ipv6_with(&nine, PROTOCOL_UDP, &UDP_HEADER));
        assert_eq!(found.l3.unwrap().protocol, 60);
        assert_eq!(found.l4.map(|l4| l4.kind), Some(L4Kind::Other));
        let longest = vec![(60, [vec![255], vec![0; 2046]].concat()); 8];
        let found = dissect(&ipv6_with(&longest, PROTOCOL_UDP, &UDP_HEADER));
        assert_eq!(found.l4.map(|l4| (usize::from(l4.offset), l4.kind)), Some((14 + 40 + 8 * 2048, L4Kind::Udp)));
    }

    #[test]
    fn two_tags_are_skipped_and_a_third_is_not() {
        let inner = &udp4(b"")[12..];
        for (tags, count) in [(1, 1), (2, 2), (3, 2)] {
            let mut frame = [MACS.1, MACS.0].concat();
            frame.extend([0x88, 0xa8, 0, 9, 0x81, 0, 0, 1, 0x81, 0, 0, 2][12 - 4 * tags..].iter());
            frame.extend(inner);
            let found = dissect(&frame);
            assert_eq!(found.tag_count, count);
            assert_eq!(found.l4.map(|l4| usize::from(l4.offset)), (tags < 3).then_some(34 + 4 * tags));
            assert_eq!(found.ether_type, if tags < 3 { ETHER_TYPE_IPV4 } else { TPID_8021Q });
        }
    }

    #[test]
    fn another_version_than_the_type_says_is_no_header() {
        let mut frame = udp4(b"");
        frame[14] = 0x65;
        assert_eq!(dissect(&frame).l3, None);
        frame[14] = 0x44;
        assert_eq!(dissect(&frame).l3, None);
    }

    proptest! {
        #[test]
        fn agrees_with_etherparse(
            tags in 0..3usize, v6: bool, tcp: bool, ports: (u16, u16), ttl: u8, payload in vec(any::<u8>(), 0..30),
        ) {
            let step = PacketBuilder::ethernet2(MACS.0, MACS.1);
            let id = |id| VlanId::try_new(id).unwrap();
            let step = match tags {
                0 => if v6 { step.ipv6([1; 16], [2; 16], ttl) } else { step.ipv4([1; 4], [2; 4], ttl) },
                1 => {
                    let step = step.single_vlan(id(5));
                    if v6 { step.ipv6([1; 16], [2; 16], ttl) } else { step.ipv4([1; 4], [2; 4], ttl) }
                }
                _ => {
                    let step = step.double_vlan(id(5), id(6));
                    if v6 { step.ipv6([1; 16], [2; 16], ttl) } else { step.ipv4([1; 4], [2; 4], ttl) }
                }
            };
            let mut frame = Vec::new();
            if tcp {
                step.tcp(ports.0, ports.1, 1, 2).write(&mut frame, &payload).unwrap();
            } else {
                step.udp(ports.0, ports.1).write(&mut frame, &payload).unwrap();
            }
            let found = dissect(&frame);
            let l3 = found.l3.unwrap();
            prop_assert_eq!(usize::from(found.tag_count), tags);
            prop_assert_eq!(usize::from(l3.offset), 14 + 4 * tags);
            prop_assert_eq!(l3.version, if v6 { IpVersion::V6 } else { IpVersion::V4 });
            prop_assert_eq!(l3.total_len as usize, frame.len() - usize::from(l3.offset));
            prop_assert_eq!(l3.ttl, ttl);
            let l4 = found.l4.unwrap();
            prop_assert_eq!(l4.kind, if tcp { L4Kind::Tcp } else { L4Kind::Udp });
            prop_assert_eq!((l4.src_port, l4.dst_port), ports);
        }

        /// Whatever etherparse finds in damaged frames we find too, and the other way round.
        #[test]
        fn damaged_frames_give_what_etherparse_finds(
            v6: bool, payload in vec(any::<u8>(), 0..30), damage in vec((12..60usize, any::<u8>()), 0..3),
        ) {
            let mut frame = if v6 { ipv6_with(&[(0, vec![0; 7])], PROTOCOL_UDP, &UDP_HEADER) } else { udp4(&payload) };
            for (at, value) in damage {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            // An EtherType that contradicts the version: etherparse believes the version, the kernel and weft neither.
            let version = frame[14] >> 4;
            prop_assume!(match frame[12..14] {
                [0x08, 0x00] => version == 4,
                [0x86, 0xdd] => version == 6,
                _ => true,
            });
            let found = dissect(&frame);
            let theirs = LaxSlicedPacket::from_ethernet(&frame).unwrap();
            if let Some(TransportSlice::Udp(udp)) = &theirs.transport
                // Where the packet's length is shorter than its header, etherparse takes the frame's; the packet has none.
                && found.l3.is_some_and(|l3| !l3.fragment && l3.total_len >= u32::from(l3.header_len))
                && theirs.stop_err.is_none()
            {
                let ports = found.l4.map(|l4| (l4.src_port, l4.dst_port));
                prop_assert_eq!(ports, Some((udp.source_port(), udp.destination_port())));
            }
            match (found.l3.map(|l3| (l3, l3.version)), &theirs.net) {
                (Some((l3, IpVersion::V4)), Some(LaxNetSlice::Ipv4(ip))) => {
                    let header: Ipv4Header = ip.header().to_header();
                    prop_assert_eq!(usize::from(l3.header_len), header.header_len());
                    prop_assert_eq!((l3.protocol, l3.ttl), (header.protocol.0, header.time_to_live));
                    prop_assert_eq!(l3.tos, header.dscp.value() << 2 | header.ecn.value());
                    prop_assert_eq!(l3.dont_fragment, header.dont_fragment);
                    let fragment = header.more_fragments || header.fragment_offset != IpFragOffset::ZERO;
                    prop_assert_eq!(l3.fragment, fragment);
                }
                (Some((l3, IpVersion::V6)), Some(LaxNetSlice::Ipv6(ip))) => {
                    prop_assert_eq!((l3.tos, l3.ttl), (ip.header().traffic_class(), ip.header().hop_limit()));
                    prop_assert_eq!(l3.total_len, 40 + u32::from(ip.header().payload_length()));
                }
                (None, Some(LaxNetSlice::Ipv4(_) | LaxNetSlice::Ipv6(_))) => {
                    prop_assert!(false, "missed {:?}", theirs.net);
                }
                // Options that are cut off are no header to etherparse; here only their transport header is missing.
                (Some((l3, _)), None) => {
                    prop_assert!(usize::from(l3.offset + l3.header_len) > frame.len() && found.l4.is_none());
                }
                _ => {}
            }
        }

        #[test]
        fn ecn_is_set_and_the_checksum_stays_right(tos: u8, ecn in 0..4_u8, id: u16, options in 0..3usize) {
            let mut header = Ipv4Header::new(0, 64, IpNumber::ICMP, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
            header.identification = id;
            header.dscp = etherparse::IpDscp::try_new(tos >> 2).unwrap();
            header.ecn = etherparse::IpEcn::try_new(tos & 3).unwrap();
            header.options = vec![1; options * 4].as_slice().try_into().unwrap();
            header.header_checksum = header.calc_header_checksum();
            let mut frame = [MACS.1, MACS.0].concat();
            frame.extend([8, 0]);
            header.write_raw(&mut frame).unwrap();

            let l3 = dissect(&frame).l3.unwrap();
            set_ecn(&mut frame, &l3, ecn);
            header.ecn = etherparse::IpEcn::try_new(ecn).unwrap();
            header.header_checksum = header.calc_header_checksum();
            let mut expected = Vec::new();
            header.write_raw(&mut expected).unwrap();
            prop_assert_eq!(&frame[14..], expected);
        }

        #[test]
        fn ecn_of_ipv6_is_set_and_nothing_else(class: u8, label in 0..1_u32 << 20, ecn in 0..4_u8) {
            let flow_label = label.try_into().unwrap();
            let mut header = Ipv6Header { traffic_class: class, flow_label, ..Default::default() };
            let mut frame = [MACS.1, MACS.0].concat();
            frame.extend([0x86, 0xdd]);
            header.write(&mut frame).unwrap();
            let l3 = dissect(&frame).l3.unwrap();
            set_ecn(&mut frame, &l3, ecn);
            header.traffic_class = class & !3 | ecn;
            prop_assert_eq!(&frame[14..], header.to_bytes());
        }

        #[test]
        fn any_bytes_give_offsets_inside(
            mut bytes in vec(any::<u8>(), 0..120),
            head in prop::sample::select(vec![
                &[0x08, 0x00, 0x45][..], &[0x86, 0xdd, 0x60], &[0x81, 0x00, 0, 0, 0x86, 0xdd, 0x60], &[],
            ]),
        ) {
            if bytes.len() >= 12 + head.len() {
                bytes[12..12 + head.len()].copy_from_slice(head);
            }
            let found = dissect(&bytes);
            if let Some(l3) = found.l3 {
                let fixed = if l3.version == IpVersion::V4 { 20 } else { 40 };
                prop_assert!(usize::from(l3.offset) + fixed <= bytes.len() && usize::from(l3.header_len) >= fixed);
                prop_assert!(!found.ip_truncated);
                set_ecn(&mut bytes, &l3, 3);
                prop_assert_eq!(dissect(&bytes).l3, Some(L3 { tos: l3.tos | 3, ..l3 }));
                set_ecn(&mut bytes[..20.min(usize::from(l3.offset))], &l3, 3);
            }
            if let Some(l4) = found.l4 {
                let fixed = match l4.kind {
                    L4Kind::Tcp => TCP_HEADER_LEN,
                    L4Kind::Udp => UDP_HEADER_LEN,
                    L4Kind::Other => 1,
                };
                prop_assert!(usize::from(l4.offset) + fixed <= bytes.len());
            }
        }
    }
}
