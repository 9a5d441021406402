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
mod tests;
