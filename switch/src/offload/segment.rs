//! Super-frames cut into wire frames, each complete with its checksums.
//!
//! A super-frame is one set of headers and up to 64 KiB of payload. Cutting it is what the kernel's
//! `net/ipv4/tcp_offload.c:tcp_gso_segment` and `udp_offload.c:__udp_gso_segment` do:
//!
//! ```text
//! super-frame   | Ethernet, tags | IP | TCP or UDP | payload                          |
//! segments      | the same       | IP | TCP or UDP | gso_size |                       | 0
//!               | the same       | IP | TCP or UDP |          | gso_size |            | 1
//!               | the same       | IP | TCP or UDP |                     | the rest   | 2
//! ```
//!
//! From segment to segment only these change: IPv4 total length and identification (one more each time) or IPv6 payload
//! length, the TCP sequence number, the UDP length, and both checksums. CWR stays on the first segment, FIN and PSH on
//! the last. So [`Segments::new`] sums the headers once without those fields, and a segment costs a copy, one pass over
//! its payload and a handful of additions.
//!
//! The caller asks for the segments one by one and says where each goes: behind an outer header, in a send queue.
//! Nothing is allocated, and a frame that is no super-frame goes the same way, as its own only segment.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    checksum::{TCP_CHECKSUM_OFFSET, UDP_CHECKSUM_OFFSET, complete_at, field_offset},
    vnet::{Gso, PartialCsum, VnetHeader},
};
use crate::wire::{
    checksum::{Sum, copy_and_sum, never_zero, pseudo_v4, pseudo_v6, sum},
    dissect::{
        IPV6_HEADER_LEN, IpVersion, L3, L4Kind, PROTOCOL_TCP, PROTOCOL_UDP, TCP_HEADER_LEN, UDP_HEADER_LEN, dissect,
    },
};

/// Why the virtio-net header beside a frame contradicts the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadOffload {
    /// The checksum field lies outside the frame or inside the Ethernet header.
    #[error("the checksum field lies outside the packet")]
    ChecksumOutside,
    /// A super-frame whose checksum is not that of its transport header.
    #[error("the checksum field is not the transport header's")]
    ChecksumElsewhere,
    /// A super-frame without a whole transport header behind an IP header, or a fragment.
    #[error("a super-frame without a transport header")]
    NoTransport,
    /// A super-frame of another protocol than its header says.
    #[error("a super-frame of another protocol than announced")]
    WrongProtocol,
    /// A super-frame to be cut into segments of no bytes.
    #[error("segments of no bytes")]
    GsoSizeZero,
    /// Segments longer than an IP packet can be.
    #[error("segments longer than an IP packet")]
    SegmentTooLong,
}

/// How many wire frames `frame` is: 1, or the number of segments of a super-frame.
///
/// # Errors
/// As [`Segments::new`]; both agree on every frame.
#[inline]
pub fn wire_frames(frame: &[u8], vnet: &VnetHeader) -> Result<u32, BadOffload> {
    if vnet.is_none() { Ok(1) } else { unfinished_frames(frame, vnet) }
}

#[inline(never)]
fn unfinished_frames(frame: &[u8], vnet: &VnetHeader) -> Result<u32, BadOffload> {
    match vnet.gso {
        None => check_partial(frame, vnet).map(|_| 1),
        Some((gso, gso_size)) => layout(frame, vnet, gso, gso_size).map(|layout| layout.count),
    }
}

/// The wire frames that one frame of a port is.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a> {
    frame: &'a [u8],
    plan: Plan,
}

impl<'a> Segments<'a> {
    /// Prepares to write the wire frames of `frame`.
    ///
    /// # Errors
    /// [`BadOffload`] if `vnet` contradicts the frame: a checksum field outside, or a super-frame whose headers are not
    /// what `vnet` says.
    pub fn new(frame: &'a [u8], vnet: &VnetHeader) -> Result<Self, BadOffload> {
        let plan = match vnet.gso {
            None => Plan::Whole(check_partial(frame, vnet)?),
            Some((gso, gso_size)) => Plan::Cut(Cut::new(frame, vnet, layout(frame, vnet, gso, gso_size)?)),
        };
        Ok(Self { frame, plan })
    }

    /// How many wire frames there are; at least one.
    #[inline]
    pub const fn count(&self) -> usize {
        match &self.plan {
            Plan::Whole(_) => 1,
            Plan::Cut(cut) => cut.layout.count as usize,
        }
    }

    /// Bytes of wire frame `i`, Ethernet header included.
    #[inline]
    pub fn len(&self, i: usize) -> usize {
        match &self.plan {
            Plan::Whole(_) => self.frame.len(),
            Plan::Cut(cut) => {
                let (start, end) = cut.layout.payload(self.frame.len(), i);
                cut.layout.header_len + (end - start)
            }
        }
    }

    /// Writes wire frame `i` with all its checksums.
    ///
    /// # Panics
    /// If `out` is not exactly [`Segments::len`] of `i` long.
    #[inline]
    pub fn write(&self, i: usize, out: &mut [u8]) {
        match &self.plan {
            Plan::Whole(csum) => {
                out.copy_from_slice(self.frame);
                if let Some((csum, field)) = *csum {
                    complete_at(out, csum, field);
                }
            }
            Plan::Cut(cut) => cut.write(self.frame, i, out),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Plan {
    /// One wire frame, with a checked partial checksum and where its field lies.
    Whole(Option<(PartialCsum, usize)>),
    /// A super-frame.
    Cut(Cut),
}

/// Where things are in a super-frame.
#[derive(Clone, Copy, Debug)]
struct Layout {
    l3: L3,
    l4_offset: usize,
    kind: Transport,
    /// Bytes of all headers: the payload begins here.
    header_len: usize,
    gso_size: usize,
    count: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Transport {
    Tcp,
    Udp,
}

impl Layout {
    /// Where the payload of segment `i` begins and ends in the super-frame; empty behind the last.
    #[inline(always)]
    fn payload(&self, frame_len: usize, i: usize) -> (usize, usize) {
        let start = i.saturating_mul(self.gso_size).saturating_add(self.header_len).min(frame_len);
        (start, (start + self.gso_size).min(frame_len))
    }
}

fn check_partial(frame: &[u8], vnet: &VnetHeader) -> Result<Option<(PartialCsum, usize)>, BadOffload> {
    vnet.csum.map(|csum| Ok((csum, field_offset(frame.len(), csum)?))).transpose()
}

fn layout(frame: &[u8], vnet: &VnetHeader, gso: Gso, gso_size: u16) -> Result<Layout, BadOffload> {
    let dissected = dissect(frame);
    let (Some(l3), Some(l4)) = (dissected.l3, dissected.l4) else { return Err(BadOffload::NoTransport) };
    let l4_offset = usize::from(l4.offset);
    let kind = match (gso, l3.version, l4.kind) {
        (Gso::Tcp4, IpVersion::V4, L4Kind::Tcp) | (Gso::Tcp6, IpVersion::V6, L4Kind::Tcp) => Transport::Tcp,
        (Gso::Udp, IpVersion::V4 | IpVersion::V6, L4Kind::Udp) => Transport::Udp,
        (Gso::Tcp4 | Gso::Tcp6 | Gso::Udp, IpVersion::V4 | IpVersion::V6, _) => return Err(BadOffload::WrongProtocol),
    };
    let (l4_header_len, checksum_offset) = match kind {
        Transport::Tcp => (usize::from(frame[l4_offset + 12] >> 4) * 4, TCP_CHECKSUM_OFFSET),
        Transport::Udp => (UDP_HEADER_LEN, UDP_CHECKSUM_OFFSET),
    };
    let header_len = l4_offset + l4_header_len;
    if kind == Transport::Tcp && l4_header_len < TCP_HEADER_LEN || header_len > frame.len() {
        return Err(BadOffload::NoTransport);
    }
    if vnet.csum.is_some_and(|csum| csum != PartialCsum { start: l4.offset, offset: checksum_offset }) {
        return Err(BadOffload::ChecksumElsewhere);
    }
    let gso_size = usize::from(gso_size);
    if gso_size == 0 {
        return Err(BadOffload::GsoSizeZero);
    }
    let payload_len = frame.len() - header_len;
    let count = payload_len.div_ceil(gso_size).max(1) as u32;
    let longest = header_len - usize::from(l3.offset) + payload_len.min(gso_size);
    if longest > usize::from(u16::MAX) {
        return Err(BadOffload::SegmentTooLong);
    }
    Ok(Layout { l3, l4_offset, kind, header_len, gso_size, count })
}

/// A super-frame with what all of its segments share.
#[derive(Clone, Copy, Debug)]
struct Cut {
    layout: Layout,
    /// The IPv4 header without total length, identification and checksum.
    ip_sum: Sum,
    /// Identification of the first segment (IPv4).
    id: u16,
    /// Pseudo header without length and transport header without the fields that change.
    l4_sum: Sum,
    /// Sequence number of the first segment (TCP).
    seq: u32,
    /// Data offset and flags (TCP).
    offset_flags: u16,
}

// Bits of the 13th and 14th byte of a TCP header (RFC 9293 section 3.1).
pub(super) const FIN: u16 = 0x01;
pub(super) const PSH: u16 = 0x08;
pub(super) const CWR: u16 = 0x80;

impl Cut {
    fn new(frame: &[u8], vnet: &VnetHeader, layout: Layout) -> Self {
        let packet = &frame[usize::from(layout.l3.offset)..];
        let segment = &frame[layout.l4_offset..];
        let header = &frame[layout.l4_offset..layout.header_len];
        let (ip_sum, id) = match layout.l3.version {
            IpVersion::V4 => {
                let (len, id, checksum) = (read16(packet, 2), read16(packet, 4), read16(packet, 10));
                let header = sum(&packet[..usize::from(layout.l3.header_len)]);
                (header.sub16(len).sub16(id).sub16(checksum), id)
            }
            IpVersion::V6 => (Sum::ZERO, 0),
        };
        let pseudo = pseudo_without_len(&layout, vnet, packet, segment);
        let (l4_sum, seq, offset_flags) = match layout.kind {
            Transport::Tcp => {
                let (seq0, seq1) = (read16(header, 4), read16(header, 6));
                let (offset_flags, checksum) = (read16(header, 12), read16(header, 16));
                let constant = sum(header).sub16(seq0).sub16(seq1).sub16(offset_flags).sub16(checksum);
                (pseudo.combine(constant), u32::from(seq0) << 16 | u32::from(seq1), offset_flags)
            }
            Transport::Udp => (pseudo.combine(sum(&header[..4])), 0, 0),
        };
        Self { layout, ip_sum, id, l4_sum, seq, offset_flags }
    }

    #[inline]
    fn write(&self, frame: &[u8], i: usize, out: &mut [u8]) {
        let Layout { l3, l4_offset, kind, header_len, gso_size, count } = self.layout;
        let (start, end) = self.layout.payload(frame.len(), i);
        assert_eq!(out.len(), header_len + (end - start), "a segment goes where it just fits");

        let (headers, payload) = out.split_at_mut(header_len);
        headers.copy_from_slice(&frame[..header_len]);
        let payload_sum = copy_and_sum(&frame[start..end], payload);

        let (before, l4) = headers.split_at_mut(l4_offset);
        let packet = &mut before[usize::from(l3.offset)..];
        // Layout made sure that no segment is longer than 16 bits can say.
        let l4_len = (l4.len() + payload.len()) as u16;
        match l3.version {
            IpVersion::V4 => {
                let total_len = packet.len() as u16 + l4_len;
                let id = self.id.wrapping_add(i as u16);
                write16(packet, 2, total_len);
                write16(packet, 4, id);
                write16(packet, 10, self.ip_sum.add16(total_len).add16(id).checksum());
            }
            IpVersion::V6 => write16(packet, 4, (packet.len() - IPV6_HEADER_LEN) as u16 + l4_len),
        }
        let sum = self.l4_sum.combine(payload_sum).add16(l4_len);
        match kind {
            Transport::Tcp => {
                let seq = self.seq.wrapping_add((i * gso_size) as u32);
                let mut offset_flags = self.offset_flags;
                if i != 0 {
                    offset_flags &= !CWR;
                }
                if i + 1 != count as usize {
                    offset_flags &= !(FIN | PSH);
                }
                l4[4..8].copy_from_slice(&seq.to_be_bytes());
                write16(l4, 12, offset_flags);
                write16(l4, usize::from(TCP_CHECKSUM_OFFSET), sum.add32(seq).add16(offset_flags).checksum());
            }
            Transport::Udp => {
                write16(l4, 4, l4_len);
                write16(l4, usize::from(UDP_CHECKSUM_OFFSET), never_zero(sum.add16(l4_len).checksum()));
            }
        }
    }
}

/// The sum of the pseudo header without its length.
///
/// It is computed from the addresses, because senders disagree about the length that they put into the partial
/// checksum of a super-frame. Only behind IPv6 extension headers is the sender's sum taken, less the length that Linux
/// puts in: a routing header may name another final destination than the IPv6 header does.
fn pseudo_without_len(layout: &Layout, vnet: &VnetHeader, packet: &[u8], segment: &[u8]) -> Sum {
    let (protocol, checksum_offset) = match layout.kind {
        Transport::Tcp => (PROTOCOL_TCP, TCP_CHECKSUM_OFFSET),
        Transport::Udp => (PROTOCOL_UDP, UDP_CHECKSUM_OFFSET),
    };
    match layout.l3.version {
        IpVersion::V4 => {
            pseudo_v4(Ipv4Addr::from(read::<4>(packet, 12)), Ipv4Addr::from(read::<4>(packet, 16)), protocol, 0)
        }
        IpVersion::V6 if usize::from(layout.l3.header_len) > IPV6_HEADER_LEN && vnet.csum.is_some() => {
            let len = segment.len() as u32;
            Sum::ZERO.add16(read16(segment, usize::from(checksum_offset))).add32(!len)
        }
        IpVersion::V6 => {
            pseudo_v6(Ipv6Addr::from(read::<16>(packet, 8)), Ipv6Addr::from(read::<16>(packet, 24)), protocol, 0)
        }
    }
}

#[inline(always)]
fn read<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    *bytes[offset..].first_chunk().expect("the layout was checked against the frame's length")
}

#[inline(always)]
fn read16(bytes: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes(read(bytes, offset))
}

#[inline(always)]
fn write16(bytes: &mut [u8], offset: usize, value: u16) {
    bytes[offset..offset + 2].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::offload::testing::{KernelCase, Sample, kernel_cases, samples};

    fn cut(sample: &Sample) -> Vec<Vec<u8>> {
        let segments = Segments::new(&sample.frame, &sample.vnet).unwrap();
        (0..segments.count())
            .map(|i| {
                let mut out = vec![0xee; segments.len(i)];
                segments.write(i, &mut out);
                out
            })
            .collect()
    }

    #[test]
    fn a_frame_without_offloads_is_its_own_only_segment() {
        let frame = [7; 60];
        let segments = Segments::new(&frame, &VnetHeader::NONE).unwrap();
        assert_eq!((segments.count(), segments.len(0)), (1, 60));
        let mut out = [0; 60];
        segments.write(0, &mut out);
        assert_eq!(out, frame);
    }

    #[test]
    fn a_payload_of_just_one_segment_and_one_of_none_are_one_frame() {
        for len in [0, 1, 999, 1000] {
            let sample = Sample::tcp4(len).gso(1000);
            assert_eq!(wire_frames(&sample.frame, &sample.vnet), Ok(1));
            assert_eq!(cut(&sample), [sample.segment(0)]);
        }
        let sample = Sample::tcp4(1001).gso(1000);
        assert_eq!(wire_frames(&sample.frame, &sample.vnet), Ok(2));
        assert_eq!(cut(&sample), [sample.segment(0), sample.segment(1)]);
    }

    #[test]
    fn segments_are_those_of_the_kernel() {
        let cases = kernel_cases();
        for KernelCase { name, header, frame, segments: expected } in &cases {
            let vnet = VnetHeader::parse(header).unwrap();
            assert_eq!(vnet.to_bytes(frame), *header, "{name}");

            let segments = Segments::new(frame, &vnet).unwrap();
            assert_eq!(segments.count(), expected.len(), "{name}");
            for (i, expected) in expected.iter().enumerate() {
                let mut out = vec![0; segments.len(i)];
                segments.write(i, &mut out);
                assert_eq!(out, *expected, "{name}: segment {i}");
            }
        }
        assert_eq!(cases.len(), 6);
    }

    #[test]
    fn contradictions_have_names() {
        let tcp = Sample::tcp4(3000).gso(1000);
        let with = |vnet: VnetHeader| {
            let new = Segments::new(&tcp.frame, &vnet).err();
            assert_eq!(wire_frames(&tcp.frame, &vnet).err(), new);
            new
        };
        assert_eq!(with(tcp.vnet), None);
        assert_eq!(with(VnetHeader { gso: Some((Gso::Tcp6, 1000)), ..tcp.vnet }), Some(BadOffload::WrongProtocol));
        assert_eq!(with(VnetHeader { gso: Some((Gso::Udp, 1000)), ..tcp.vnet }), Some(BadOffload::WrongProtocol));
        assert_eq!(with(VnetHeader { gso: Some((Gso::Tcp4, 0)), ..tcp.vnet }), Some(BadOffload::GsoSizeZero));
        assert_eq!(with(tcp.vnet.shifted(2)), Some(BadOffload::ChecksumElsewhere));
        let outside = Some(PartialCsum { start: 34, offset: 9000 });
        assert_eq!(with(VnetHeader { csum: outside, gso: None, gso_ecn: false }), Some(BadOffload::ChecksumOutside));
        assert_eq!(Segments::new(&tcp.frame[..50], &tcp.vnet).err(), Some(BadOffload::NoTransport));

        let mut options_outside = tcp.frame[..60].to_vec();
        options_outside[34 + 12] = 0xf0;
        assert_eq!(Segments::new(&options_outside, &tcp.vnet).err(), Some(BadOffload::NoTransport));
        let mut fragment = tcp.frame.clone();
        fragment[14 + 6] = 0x20;
        assert_eq!(Segments::new(&fragment, &tcp.vnet).err(), Some(BadOffload::NoTransport));
    }

    #[test]
    fn a_segment_that_no_length_field_can_say_is_refused() {
        let mut sample = Sample::tcp4(3000).gso(u16::MAX);
        sample.frame.resize(14 + 65_535, 0);
        assert_eq!(wire_frames(&sample.frame, &sample.vnet), Ok(1));
        sample.frame.push(0);
        assert_eq!(wire_frames(&sample.frame, &sample.vnet), Err(BadOffload::SegmentTooLong));
    }

    #[test]
    fn behind_a_routing_header_the_senders_pseudo_header_counts() {
        let sample = Sample::tcp6_source_routed(2500, 1000);
        assert_eq!(cut(&sample), [sample.segment(0), sample.segment(1), sample.segment(2)]);
    }

    proptest! {
        #[test]
        fn segments_are_those_built_one_by_one(sample in samples(), gso_size in 1..2000_u16) {
            let sample = sample.gso(gso_size);
            let segments = cut(&sample);
            let expected: Vec<_> = (0..sample.segment_count()).map(|i| sample.segment(i)).collect();
            prop_assert_eq!(wire_frames(&sample.frame, &sample.vnet), Ok(expected.len() as u32));
            prop_assert_eq!(segments, expected);
        }

        #[test]
        fn a_partial_checksum_is_completed_on_the_way(sample in samples()) {
            prop_assert_eq!(cut(&sample), [sample.complete]);
        }

        #[test]
        fn any_header_beside_any_frame_is_cut_or_refused(
            frame in vec(any::<u8>(), 0..200),
            csum in proptest::option::of((0..220_u16, 0..20_u16)),
            gso in proptest::option::of((0..3usize, 0..300_u16)),
        ) {
            check_any(&frame, csum, gso)?;
        }

        #[test]
        fn any_header_beside_a_damaged_super_frame_is_cut_or_refused(
            sample in samples(),
            gso_size in 0..2000_u16,
            damage in vec((0..90usize, any::<u8>()), 0..4),
            len in any::<prop::sample::Index>(),
            cut_off in any::<bool>(),
            which in 0..3usize,
            with_csum in any::<bool>(),
        ) {
            let mut frame = sample.frame.clone();
            for (at, value) in damage {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            if cut_off {
                frame.truncate(len.index(frame.len()));
            }
            let csum = sample.vnet.csum.filter(|_| with_csum).map(|csum| (csum.start, csum.offset));
            check_any(&frame, csum, Some((which, gso_size)))?;
        }
    }

    fn check_any(frame: &[u8], csum: Option<(u16, u16)>, gso: Option<(usize, u16)>) -> Result<(), TestCaseError> {
        let vnet = VnetHeader {
            csum: csum.map(|(start, offset)| PartialCsum { start, offset }),
            gso: gso.map(|(which, size)| ([Gso::Tcp4, Gso::Tcp6, Gso::Udp][which], size)),
            gso_ecn: false,
        };
        match Segments::new(frame, &vnet) {
            Ok(segments) => {
                prop_assert_eq!(wire_frames(frame, &vnet), Ok(segments.count() as u32));
                for i in 0..segments.count() {
                    let mut out = vec![0; segments.len(i)];
                    segments.write(i, &mut out);
                }
            }
            Err(error) => prop_assert_eq!(wire_frames(frame, &vnet), Err(error)),
        }
        Ok(())
    }
}
