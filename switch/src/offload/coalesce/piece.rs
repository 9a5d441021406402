//! Which frames can be put together: the rules of the kernel's GRO (`net/ipv4/tcp_offload.c`: `tcp_gro_receive`,
//! `udp_offload.c`: `udp_gro_receive_segment`, `af_inet.c`: `inet_gro_receive`, `include/net/gro.h`: `inet_gro_flush`),
//! and what it takes for [`Segments`](crate::offload::Segments) to give the same octets back.
//!
//! A [`Piece`] is a frame that has what every part of a super-frame must have:
//!
//! | | |
//! |---|---|
//! | IP | no options, no extension headers, no fragment, nothing behind the packet |
//! | TCP | payload; no SYN, RST or URG |
//! | UDP | payload; a checksum |
//! | checksums | right, or left open as a virtio-net header says |
//!
//! A piece continues what is there if everything of its headers is the same but for
//!
//! | field | from piece to piece |
//! |---|---|
//! | lengths and checksums | what they are of |
//! | IPv4 identification | one more with every segment |
//! | TCP sequence number | more by the payload |
//! | CWR | only in the first |
//! | PSH, FIN | only in the last |
//! | payload | as long as in the first, shorter only in the last |
//!
//! The kernel also puts packets together whose identification stays the same, and notes that beside the packet
//! (SKB_GSO_TCP_FIXEDID). A virtio-net header has no word for it; cut again, they would count.

use super::Departure;
use crate::{
    buffer::MAX_FRAME_LEN,
    offload::{
        checksum::{TCP_CHECKSUM_OFFSET, UDP_CHECKSUM_OFFSET},
        segment::{CWR, FIN, PSH},
        unfinished::addresses,
        vnet::{Gso, PartialCsum, VnetHeader},
    },
    wire::{
        checksum::{Sum, sum},
        dissect::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpVersion, L3, L4, L4Kind, TCP_HEADER_LEN, UDP_HEADER_LEN},
        ethernet::HEADER_LEN,
        vlan::TAG_LEN,
    },
};

/// Bytes behind the Ethernet header. IPv4 can't say more, and the kernel's GRO stops there for IPv6 as well
/// (`gro_max_size`). Tags count, so that whatever takes a frame takes it with one more tag.
const MAX_LEN: usize = 65_535;
const _: () = assert!(HEADER_LEN + MAX_LEN + TAG_LEN <= MAX_FRAME_LEN);
/// Segments of a UDP super-frame (`udp_offload.c`: UDP_GRO_CNT_MAX). Taps take 128 of them, and 64 before Linux 6.9
/// (UDP_MAX_SEGMENTS).
const MAX_UDP_SEGMENTS: u32 = 64;

// Bits of the 13th and 14th byte of a TCP header (RFC 9293 section 3.1).
const SYN: u16 = 0x02;
const RST: u16 = 0x04;
const URG: u16 = 0x20;

/// A frame that may be part of a super-frame: one segment, or a super-frame itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'b> {
    pub(super) departure: Departure<'b>,
    pub(super) gso: Gso,
    pub(super) l3: L3,
    pub(super) l4: L4,
    /// Bytes of all headers: the payload begins here.
    header_len: u16,
    /// Payload of each segment, the last one perhaps excepted.
    gso_size: u16,
    /// Identification (IPv4).
    id: u16,
    /// Sequence number (TCP).
    seq: u32,
    /// Data offset and flags (TCP).
    offset_flags: u16,
}

impl<'b> Piece<'b> {
    /// `None`: it goes alone. Its checksums are not looked at yet: [`Piece::checksums_hold`].
    #[inline]
    pub(super) fn of(departure: Departure<'b>, l3: &L3, l4: &L4) -> Option<Self> {
        let Departure { bytes, vnet, .. } = departure;
        let (l3_offset, l4_offset) = (usize::from(l3.offset), usize::from(l4.offset));
        let plain_len = match l3.version {
            IpVersion::V4 => IPV4_HEADER_LEN,
            IpVersion::V6 => IPV6_HEADER_LEN,
        };
        if usize::from(l3.header_len) != plain_len || l3_offset + l3.total_len as usize != bytes.len() {
            return None;
        }
        let packet = &bytes[l3_offset..];
        let segment = &bytes[l4_offset..];
        let (gso, l4_header_len, checksum_offset) = match (l4.kind, l3.version) {
            (L4Kind::Tcp, IpVersion::V4) => (Gso::Tcp4, usize::from(segment[12] >> 4) * 4, TCP_CHECKSUM_OFFSET),
            (L4Kind::Tcp, IpVersion::V6) => (Gso::Tcp6, usize::from(segment[12] >> 4) * 4, TCP_CHECKSUM_OFFSET),
            (L4Kind::Udp, IpVersion::V4 | IpVersion::V6) => (Gso::Udp, UDP_HEADER_LEN, UDP_CHECKSUM_OFFSET),
            (L4Kind::Other, IpVersion::V4 | IpVersion::V6) => return None,
        };
        let header_len = l4_offset + l4_header_len;
        let payload_len = bytes.len().checked_sub(header_len).filter(|len| *len > 0)?;
        let gso_size = match vnet.gso {
            None => payload_len,
            Some((kind, size)) if kind == gso && vnet.csum.is_some() => payload_len.min(usize::from(size)),
            Some(_) => return None,
        };
        if vnet.csum.is_some_and(|csum| csum != PartialCsum { start: l4.offset, offset: checksum_offset }) {
            return None;
        }
        let (seq, offset_flags) = match gso {
            Gso::Tcp4 | Gso::Tcp6 => {
                let offset_flags = read16(segment, 12);
                if l4_header_len < TCP_HEADER_LEN || offset_flags & (SYN | RST | URG) != 0 {
                    return None;
                }
                (u32::from(read16(segment, 4)) << 16 | u32::from(read16(segment, 6)), offset_flags)
            }
            Gso::Udp => {
                let has_checksum = vnet.csum.is_some() || read16(segment, usize::from(UDP_CHECKSUM_OFFSET)) != 0;
                if usize::from(read16(segment, 4)) != segment.len() || !has_checksum {
                    return None;
                }
                (0, 0)
            }
        };
        let id = match l3.version {
            IpVersion::V4 => read16(packet, 4),
            IpVersion::V6 => 0,
        };
        Some(Self {
            departure,
            gso,
            l3: *l3,
            l4: *l4,
            header_len: header_len as u16,
            gso_size: gso_size as u16,
            id,
            seq,
            offset_flags,
        })
    }

    #[inline]
    pub(super) fn payload(&self) -> &'b [u8] {
        &self.departure.bytes[self.header_len()..]
    }

    /// PSH and FIN, as far as they are set.
    #[inline]
    pub(super) fn last_flags(&self) -> u16 {
        self.offset_flags & (PSH | FIN)
    }

    /// Whether its first segment says that the congestion window was reduced.
    #[inline]
    pub(super) fn is_cwr(&self) -> bool {
        self.offset_flags & CWR != 0
    }

    /// Nothing can come behind it in a super-frame that begins with `first`, which may be itself.
    #[inline]
    pub(super) fn is_last(&self, first: &Self) -> bool {
        let payload_len = self.payload().len();
        let is_full = payload_len == first.gso_size() || payload_len.is_multiple_of(first.gso_size());
        self.last_flags() != 0 || !is_full
    }

    /// Whether it is worth to wait for what comes behind it: there must be room for another one like it. To add less than
    /// that to a large super-frame costs more, a copy of all that is there, than it saves.
    #[inline]
    pub(super) fn is_first(&self) -> bool {
        !self.is_last(self) && self.has_room(2 * self.payload().len(), 2 * self.departure.frames)
    }

    /// Whether it can come next behind `first` and whatever has followed that: `payload_len` bytes in `segments` segments.
    #[inline]
    pub(super) fn continues(&self, first: &Self, payload_len: usize, segments: u32) -> bool {
        let expected_seq = match self.gso {
            Gso::Tcp4 | Gso::Tcp6 => first.seq.wrapping_add(payload_len as u32),
            Gso::Udp => 0,
        };
        let expected_id = match self.l3.version {
            IpVersion::V4 => first.id.wrapping_add(segments as u16),
            IpVersion::V6 => 0,
        };
        self.seq == expected_seq
            && self.id == expected_id
            && (self.offset_flags ^ first.offset_flags) & !(CWR | PSH | FIN) == 0
            && !self.is_cwr()
            && self.gso_size <= first.gso_size
            && (self.gso_size == first.gso_size || self.departure.vnet.gso.is_none())
            && first.has_room(payload_len + self.payload().len(), segments + self.departure.frames)
            && self.header_len == first.header_len
            && self.departure.tag == first.departure.tag
            && self.has_headers_of(first)
    }

    /// Whether a super-frame that begins with it can have so much payload in so many segments.
    #[inline]
    pub(super) fn has_room(&self, payload_len: usize, segments: u32) -> bool {
        let len = self.header_len() - HEADER_LEN + payload_len;
        len <= MAX_LEN && (self.gso != Gso::Udp || segments <= MAX_UDP_SEGMENTS)
    }

    /// Whether all fields are equal that neither [`Piece::continues`] looks at nor lengths and checksums are. Both have
    /// equal kinds and lengths of headers.
    #[inline]
    fn has_headers_of(&self, first: &Self) -> bool {
        let l3 = usize::from(self.l3.offset);
        let (Some((link, packet)), Some((first_link, first_packet))) =
            (self.departure.bytes.split_at_checked(l3), first.departure.bytes.split_at_checked(l3))
        else {
            return false;
        };
        let same = |from: usize, to: usize| packet.get(from..to) == first_packet.get(from..to);
        let same_ip = match self.l3.version {
            IpVersion::V4 => same(0, 2) && same(6, 10) && same(12, 20),
            IpVersion::V6 => same(0, 4) && same(6, 40),
        };
        let l4 = self.l4_offset() - l3;
        let same_transport = match self.gso {
            Gso::Tcp4 | Gso::Tcp6 => {
                same(l4, l4 + 4)
                    && same(l4 + 8, l4 + 12)
                    && same(l4 + 14, l4 + 16)
                    && same(l4 + 18, self.header_len() - l3)
            }
            Gso::Udp => same(l4, l4 + 4),
        };
        link == first_link && same_ip && same_transport
    }

    /// Whether the checksums of IPv4 and of the transport are those that a sender computes, so that the same ones come out
    /// when the super-frame is cut: of the two forms of zero (RFC 1624 section 3) only one is.
    pub(super) fn checksums_hold(&self) -> bool {
        const ALL_ONES: u16 = 0xffff;
        let packet = &self.departure.bytes[usize::from(self.l3.offset)..];
        if self.l3.version == IpVersion::V4
            && (sum(&packet[..IPV4_HEADER_LEN]).fold() != ALL_ONES || read16(packet, 10) == ALL_ONES)
        {
            return false;
        }
        if self.departure.vnet.csum.is_some() {
            return true;
        }
        let segment = &self.departure.bytes[self.l4_offset()..];
        let is_canonical = match self.gso {
            Gso::Tcp4 | Gso::Tcp6 => read16(segment, usize::from(TCP_CHECKSUM_OFFSET)) != ALL_ONES,
            // Zero would mean that there is none, and is no piece.
            Gso::Udp => true,
        };
        is_canonical && self.pseudo(segment.len()).combine(sum(segment)).fold() == ALL_ONES
    }

    /// The sum of the pseudo header over so many bytes of transport header and payload.
    #[inline]
    pub(super) fn pseudo(&self, len: usize) -> Sum {
        let addresses = addresses(self.departure.bytes, &self.l3).unwrap_or_default();
        addresses.add16(u16::from(self.l3.protocol)).add32(len as u32)
    }

    /// What is to be said beside a super-frame that begins with it.
    pub(super) fn vnet(&self) -> VnetHeader {
        VnetHeader {
            csum: Some(PartialCsum { start: self.l4.offset, offset: self.checksum_offset() }),
            gso: Some((self.gso, self.gso_size)),
            gso_ecn: self.is_cwr(),
        }
    }

    #[inline]
    pub(super) fn header_len(&self) -> usize {
        usize::from(self.header_len)
    }

    #[inline]
    pub(super) fn gso_size(&self) -> usize {
        usize::from(self.gso_size)
    }

    /// Where the transport header begins.
    #[inline]
    pub(super) fn l4_offset(&self) -> usize {
        usize::from(self.l4.offset)
    }

    /// Where the checksum lies in the transport header.
    #[inline]
    pub(super) fn checksum_offset(&self) -> u16 {
        match self.gso {
            Gso::Tcp4 | Gso::Tcp6 => TCP_CHECKSUM_OFFSET,
            Gso::Udp => UDP_CHECKSUM_OFFSET,
        }
    }
}

#[inline(always)]
fn read16(bytes: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes([bytes[offset], bytes[offset + 1]])
}
