//! IPv4 packets in fragments (RFC 791 section 3.2), for a tunnel that the whole one does not fit.
//!
//! It is the packet inside the tunnel that is cut, as a router before the tunnel would cut it. Its receiver puts it together,
//! so the far end of the tunnel, whose memory for that is everybody's, has nothing to do.
//!
//! ```text
//! packet     | Ethernet, tags | IP, all options  | payload                                |
//! fragments  | the same       | IP, all options  | a multiple of 8 |  MF                    0
//!            | the same       | IP, the copied   |                 | as much | MF           1
//!            | the same       | IP, the copied   |                           | the rest |   2, MF as it was
//! ```
//!
//! A fragment is cut like any other packet: its offset goes on from where it was. Options that are not to be copied are
//! overwritten by no-operations behind the first fragment, so that all headers are of one length (`net/ipv4/ip_options.c`:
//! `ip_options_fragment`).
//!
//! Nothing is allocated: whoever asks says where each fragment goes.

use crate::wire::{
    checksum::sum,
    dissect::{Dissected, IPV4_HEADER_LEN, IpVersion},
};

/// Why a packet can't be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unfragmentable {
    /// Not IPv4: of IPv6 only its sender makes fragments.
    #[error("only IPv4 can be fragmented on its way")]
    NotIpv4,
    /// DF is set.
    #[error("it may not be fragmented")]
    DontFragment,
    /// The frame is shorter than its packet says, or the packet shorter than its header.
    #[error("its length is not what its header says")]
    WrongLength,
    /// Not even 8 bytes of payload fit behind the headers.
    #[error("its headers leave no room for 8 bytes")]
    NoRoom,
    /// It ends behind the 65,535th byte of what it is a fragment of.
    #[error("it is a fragment of a packet that is too long for IP")]
    BeyondIp,
}

/// The fragments of one packet.
#[derive(Clone, Copy, Debug)]
pub struct Fragments<'f> {
    /// Ethernet header and tags.
    link: &'f [u8],
    header: &'f [u8],
    payload: &'f [u8],
    /// Payload bytes of each fragment but the last.
    stride: usize,
}

impl<'f> Fragments<'f> {
    /// Prepares to cut the packet of a wire frame whose checksums are complete into frames of at most `max_len` bytes. What
    /// follows the packet in its frame is padding, and left out.
    ///
    /// # Errors
    /// [`Unfragmentable`]
    pub fn new(frame: &'f [u8], dissected: &Dissected, max_len: usize) -> Result<Self, Unfragmentable> {
        let l3 = dissected.l3.filter(|l3| l3.version == IpVersion::V4).ok_or(Unfragmentable::NotIpv4)?;
        if l3.dont_fragment {
            return Err(Unfragmentable::DontFragment);
        }
        let (link, rest) = frame.split_at_checked(usize::from(l3.offset)).ok_or(Unfragmentable::WrongLength)?;
        let packet = rest.get(..l3.total_len as usize).ok_or(Unfragmentable::WrongLength)?;
        let (header, payload) =
            packet.split_at_checked(usize::from(l3.header_len)).ok_or(Unfragmentable::WrongLength)?;
        if header.len() < IPV4_HEADER_LEN {
            return Err(Unfragmentable::WrongLength);
        }
        let room = max_len.checked_sub(link.len() + header.len()).ok_or(Unfragmentable::NoRoom)?;
        let stride = if payload.len() <= room { payload.len() } else { room & !7 };
        if stride == 0 && !payload.is_empty() {
            return Err(Unfragmentable::NoRoom);
        }
        let fragments = Self { link, header, payload, stride };
        let last = usize::from(fragments.flags_offset() & OFFSET) + (fragments.count() - 1) * stride / 8;
        if last > usize::from(OFFSET) {
            return Err(Unfragmentable::BeyondIp);
        }
        Ok(fragments)
    }

    /// How many fragments there are; at least one, which is the packet itself.
    pub fn count(&self) -> usize {
        if self.stride == 0 { 1 } else { self.payload.len().div_ceil(self.stride) }
    }

    /// Bytes of the frame of fragment `i`, Ethernet header included.
    pub fn len(&self, i: usize) -> usize {
        self.link.len() + self.header.len() + self.piece(i).len()
    }

    /// Writes the frame of fragment `i`.
    ///
    /// # Panics
    /// If `out` is not exactly [`Fragments::len`] of `i` long.
    pub fn write(&self, i: usize, out: &mut [u8]) {
        let piece = self.piece(i);
        assert_eq!(out.len(), self.len(i), "a fragment goes where it just fits");
        let (link, packet) = out.split_at_mut(self.link.len());
        let (header, payload) = packet.split_at_mut(self.header.len());
        link.copy_from_slice(self.link);
        header.copy_from_slice(self.header);
        payload.copy_from_slice(piece);

        if i > 0 {
            keep_copied_options(&mut header[IPV4_HEADER_LEN..]);
        }
        let was = self.flags_offset();
        let more = if i + 1 == self.count() { was & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
        // `new` made sure that no offset is too great, and the packet was no longer than its 16 bits say.
        let offset = (was & OFFSET) + (i * self.stride / 8) as u16;
        let flags_offset = was & !(MORE_FRAGMENTS | OFFSET) | more | offset;
        let total_len = (header.len() + piece.len()) as u16;
        header[2..4].copy_from_slice(&total_len.to_be_bytes());
        header[6..8].copy_from_slice(&flags_offset.to_be_bytes());
        header[10..12].copy_from_slice(&[0, 0]);
        let checksum = sum(header).checksum();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }

    /// The payload of fragment `i`; empty behind the last.
    fn piece(&self, i: usize) -> &'f [u8] {
        let start = i.saturating_mul(self.stride).min(self.payload.len());
        &self.payload[start..(start + self.stride).min(self.payload.len())]
    }

    fn flags_offset(&self) -> u16 {
        match self.header {
            &[_, _, _, _, _, _, flags, offset, ..] => u16::from_be_bytes([flags, offset]),
            _ => 0,
        }
    }
}

// The seventh and eighth byte of an IPv4 header (RFC 791 section 3.1).
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// Overwrites the options that only the first fragment carries; what makes no sense stays, and all behind it.
fn keep_copied_options(mut options: &mut [u8]) {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    loop {
        let len = match *options {
            [] | [END, ..] => return,
            [NO_OPERATION, ..] => 1,
            [_, len, ..] if len >= 2 => usize::from(len),
            [_, ..] => return,
        };
        if len > options.len() {
            return;
        }
        let (option, rest) = options.split_at_mut(len);
        if option[0] & COPIED == 0 {
            option.fill(NO_OPERATION);
        }
        options = rest;
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{
        IpFragOffset, IpNumber, Ipv4Header, Ipv4HeaderSlice, PacketBuilder, SlicedPacket, defrag::IpDefragPool,
    };
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::wire::dissect::dissect;

    const LINK: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];

    fn header(payload_len: usize, options: &[u8]) -> Ipv4Header {
        let mut header = Ipv4Header::new(0, 64, IpNumber::UDP, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
        header.identification = 0x1234;
        header.dont_fragment = false;
        header.options = options.try_into().unwrap();
        header.set_payload_len(payload_len).unwrap();
        header.header_checksum = header.calc_header_checksum();
        header
    }

    fn frame_of(header: &Ipv4Header, payload: &[u8]) -> Vec<u8> {
        let mut frame = LINK.to_vec();
        header.write_raw(&mut frame).unwrap();
        frame.extend(payload);
        frame
    }

    fn payload(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
    }

    fn cut(frame: &[u8], max_len: usize) -> Result<Vec<Vec<u8>>, Unfragmentable> {
        let fragments = Fragments::new(frame, &dissect(frame), max_len)?;
        let written = (0..fragments.count()).map(|i| {
            let mut out = vec![0xee; fragments.len(i)];
            fragments.write(i, &mut out);
            out
        });
        Ok(written.collect())
    }

    fn ip(fragment: &[u8]) -> Ipv4HeaderSlice<'_> {
        Ipv4HeaderSlice::from_slice(&fragment[14..]).unwrap()
    }

    #[test]
    fn a_packet_that_fits_is_its_own_only_fragment() {
        let frame = frame_of(&header(100, &[]), &payload(100));
        assert_eq!(cut(&frame, frame.len()), Ok(vec![frame.clone()]));
        let padded = [&frame[..], &[0; 50]].concat();
        assert_eq!(cut(&padded, frame.len()), Ok(vec![frame]));
        let empty = frame_of(&header(0, &[]), &[]);
        assert_eq!(cut(&empty, 34), Ok(vec![empty]));
    }

    #[test]
    fn offsets_go_in_steps_of_8_and_all_but_the_last_say_more() {
        let frame = frame_of(&header(4008, &[]), &payload(4008));
        let fragments = cut(&frame, 14 + 1450).unwrap();
        let shapes: Vec<_> = fragments
            .iter()
            .map(|fragment| {
                let header = ip(fragment);
                assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
                assert_eq!((header.identification(), header.dont_fragment()), (0x1234, false));
                (header.fragments_offset().value() * 8, header.total_len(), header.more_fragments())
            })
            .collect();
        assert_eq!(shapes, [(0, 1444, true), (1424, 1444, true), (2848, 1180, false)]);
    }

    #[test]
    fn a_fragment_is_cut_further_and_says_more_if_it_did() {
        let mut middle = header(2000, &[]);
        (middle.fragment_offset, middle.more_fragments) = (IpFragOffset::try_new(100).unwrap(), true);
        middle.header_checksum = middle.calc_header_checksum();
        let fragments = cut(&frame_of(&middle, &payload(2000)), 14 + 1020).unwrap();
        let shape = |fragment: &Vec<u8>| {
            let header = ip(fragment);
            (header.fragments_offset().value(), header.more_fragments())
        };
        assert_eq!(fragments.iter().map(shape).collect::<Vec<_>>(), [(100, true), (225, true)]);
    }

    #[test]
    fn options_that_are_not_copied_stay_in_the_first_fragment() {
        // Record route (7, not copied), no operation, stream identifier (0x88, copied), end.
        let options = [7, 7, 4, 0, 0, 0, 0, 1, 0x88, 4, 0xab, 0xcd, 0, 0, 0, 0];
        let frame = frame_of(&header(3000, &options), &payload(3000));
        let fragments = cut(&frame, 14 + 1450).unwrap();
        assert_eq!(ip(&fragments[0]).options(), options);
        let rest = [1, 1, 1, 1, 1, 1, 1, 1, 0x88, 4, 0xab, 0xcd, 0, 0, 0, 0];
        assert_eq!(fragments[1..].iter().map(|f| ip(f).options()).collect::<Vec<_>>(), [rest, rest]);

        // What makes no sense is not touched.
        let broken = [7, 9, 4, 0];
        let frame = frame_of(&header(3000, &broken), &payload(3000));
        assert_eq!(ip(&cut(&frame, 14 + 1450).unwrap()[1]).options(), broken);
    }

    #[test]
    fn tags_are_on_every_fragment() {
        let plain = frame_of(&header(3000, &[]), &payload(3000));
        let tag = [0x81, 0, 0x60, 5];
        let tagged = [&plain[..12], &tag, &plain[12..]].concat();
        let expected: Vec<_> = cut(&plain, 1000).unwrap().iter().map(|f| [&f[..12], &tag, &f[12..]].concat()).collect();
        assert_eq!(cut(&tagged, 1004), Ok(expected));
    }

    #[test]
    fn what_must_not_or_can_not_be_cut_is_refused_with_the_reason() {
        let mut whole = header(3000, &[]);
        whole.dont_fragment = true;
        assert_eq!(cut(&frame_of(&whole, &payload(3000)), 1000), Err(Unfragmentable::DontFragment));
        let frame = frame_of(&header(3000, &[]), &payload(3000));
        assert_eq!(cut(&frame[..2000], 1000), Err(Unfragmentable::WrongLength));
        assert_eq!(cut(&frame, 14 + 20 + 7), Err(Unfragmentable::NoRoom));
        assert_eq!(cut(&frame, 10), Err(Unfragmentable::NoRoom));
        assert_eq!(cut(&frame, 14 + 20 + 8).unwrap().len(), 375);
        let mut far = header(3000, &[]);
        far.fragment_offset = IpFragOffset::try_new(8000).unwrap();
        assert_eq!(cut(&frame_of(&far, &payload(3000)), 1000), Err(Unfragmentable::BeyondIp));
        let mut v6 = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv6([1; 16], [2; 16], 9)
            .udp(1, 2)
            .write(&mut v6, &[0; 2000])
            .unwrap();
        assert_eq!(cut(&v6, 1000), Err(Unfragmentable::NotIpv4));
        let short = [&LINK[..], &[0x45, 0, 0, 10], &[0; 16]].concat();
        assert_eq!(cut(&short, 1000), Err(Unfragmentable::WrongLength));
    }

    /// Puts fragments together with etherparse; the payload, if they make a packet.
    fn put_together(fragments: &[Vec<u8>]) -> Option<Vec<u8>> {
        let mut pool = IpDefragPool::<(), ()>::new();
        let mut whole = None;
        for fragment in fragments {
            let sliced = SlicedPacket::from_ethernet(fragment).unwrap();
            if let Some(payload) = pool.process_sliced_packet(&sliced, (), ()).unwrap() {
                assert!(whole.replace(payload.payload).is_none(), "only the last one completes it");
            }
        }
        whole
    }

    proptest! {
        #[test]
        fn fragments_make_the_packet_again(
            len in 0..9000usize, max_len in 14 + 60 + 8..2000usize, options in 0..10usize, shuffle in any::<u64>(), tagged: bool,
        ) {
            let (options, payload) = (vec![1; options * 4], payload(len));
            let mut frame = frame_of(&header(len, &options), &payload);
            if tagged {
                frame.splice(12..12, [0x81, 0, 0, 5]);
            }
            let mut fragments = cut(&frame, max_len).unwrap();
            prop_assert!(fragments.iter().all(|fragment| fragment.len() <= max_len));
            if fragments.len() == 1 {
                prop_assert_eq!(&fragments, &[frame]);
            } else {
                fastrand::Rng::with_seed(shuffle).shuffle(&mut fragments);
                prop_assert_eq!(put_together(&fragments), Some(payload));
            }
        }

        #[test]
        fn fragments_of_fragments_make_the_packet_again(len in 2000..9000usize, first in 600..1500usize, second in 90..600usize) {
            let payload = payload(len);
            let frame = frame_of(&header(len, &[]), &payload);
            let fragments: Vec<_> = cut(&frame, first).unwrap().iter().flat_map(|f| cut(f, second).unwrap()).collect();
            prop_assert_eq!(put_together(&fragments), Some(payload));
        }

        #[test]
        fn any_bytes_are_cut_or_refused(mut bytes in vec(any::<u8>(), 0..400), max_len in 0..300usize, v4: bool) {
            if v4 && bytes.len() > 14 {
                bytes[12..15].copy_from_slice(&[8, 0, 0x45]);
            }
            if let Ok(fragments) = cut(&bytes, max_len) {
                prop_assert!(fragments.iter().all(|fragment| fragment.len() <= max_len));
            }
        }
    }
}
