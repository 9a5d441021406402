//! TCP's maximum segment size, held to what fits: in a SYN each end says how much it takes in one segment (RFC 9293
//! section 3.7.1), and the other sends no more. Lowered on its way, no packet of the connection is too big for the tunnel,
//! whatever the hosts believe about it and whoever filters ICMP.
//!
//! The option counts payload only: an MTU less the fixed headers of IP and TCP, 40 bytes for IPv4 and 60 for IPv6, whatever
//! options there are (RFC 6691).

use crate::wire::{
    checksum::update16,
    dissect::{Dissected, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpVersion, L4Kind, TCP_HEADER_LEN},
};

/// What was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clamped {
    /// The maximum segment size that the sender wrote.
    pub from: u16,
    /// The one that stands there now.
    pub to: u16,
}

/// The maximum segment size of a connection whose frames are to be no longer than `max_len`, if `dissected` is a TCP packet
/// that begins one.
#[inline]
pub fn wanted(frame: &[u8], dissected: &Dissected, max_len: usize) -> Option<u16> {
    const FLAGS_OFFSET: usize = 13;
    const SYN: u8 = 0x02;
    let (l3, l4) = (dissected.l3.as_ref()?, dissected.l4.as_ref()?);
    if l4.kind != L4Kind::Tcp || frame.get(usize::from(l4.offset) + FLAGS_OFFSET)? & SYN == 0 {
        return None;
    }
    let ip_header_len = match l3.version {
        IpVersion::V4 => IPV4_HEADER_LEN,
        IpVersion::V6 => IPV6_HEADER_LEN,
    };
    let most = max_len.checked_sub(usize::from(l3.offset) + ip_header_len + TCP_HEADER_LEN)?;
    // A segment of nothing would end the connection rather than help it.
    (most > 0).then(|| u16::try_from(most).unwrap_or(u16::MAX))
}

/// Lowers the maximum segment size in a SYN so that frames of the connection are no longer than `max_len`; never raises it.
/// Options that are malformed, and all behind them, stay as they are. Says what was changed, the last option if there are
/// several.
///
/// The checksum follows (RFC 1624), unless `checksum_is_pending`: then only the sum of the pseudo header stands in its
/// field, and what is summed up later is already the new option.
pub fn clamp(frame: &mut [u8], dissected: &Dissected, max_len: usize, checksum_is_pending: bool) -> Option<Clamped> {
    let to = wanted(frame, dissected, max_len)?;
    let (l3, l4) = (dissected.l3?, dissected.l4?);
    let start = usize::from(l4.offset);
    let packet_end = frame.len().min(usize::from(l3.offset) + l3.total_len as usize);
    let segment = frame.get_mut(start..packet_end)?;
    let header_len = usize::from(*segment.get(12)? >> 4) * 4;
    let header = segment.get_mut(..header_len)?;
    let mut clamped = None;
    let mut at = TCP_HEADER_LEN;
    while let Some(options) = header.get(at..) {
        match *options {
            [] | [END, ..] => break,
            [NO_OPERATION, ..] => at += 1,
            [MSS, 4, high, low, ..] => {
                let from = u16::from_be_bytes([high, low]);
                if from > to {
                    replace(header, at + 2, from, to, checksum_is_pending);
                    clamped = Some(Clamped { from, to });
                }
                at += 4;
            }
            // A maximum segment size of another length, or an option that ends in itself.
            [MSS, ..] | [_] | [_, 0 | 1, ..] => break,
            [_, len, ..] => at += usize::from(len),
        }
    }
    clamped
}

// Kinds of TCP options (RFC 9293 section 3.2).
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;

/// Puts a word into a TCP header, at an even offset or an odd one.
fn replace(header: &mut [u8], at: usize, from: u16, to: u16, checksum_is_pending: bool) {
    const CHECKSUM_OFFSET: usize = 16;
    header[at..at + 2].copy_from_slice(&to.to_be_bytes());
    if checksum_is_pending {
        return;
    }
    // At an odd offset the two bytes belong to two words, the first to the low half of one and the second to the high half
    // of the next: the sum changes as if they stood in one word the other way round (RFC 1071 section 2.B).
    let in_place = |word: u16| if at.is_multiple_of(2) { word } else { word.swap_bytes() };
    let checksum = u16::from_be_bytes([header[CHECKSUM_OFFSET], header[CHECKSUM_OFFSET + 1]]);
    let checksum = update16(checksum, in_place(from), in_place(to));
    header[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::wire::{checksum::Sum, dissect::dissect};

    struct Syn {
        v6: bool,
        tagged: bool,
        options: Vec<u8>,
        payload: Vec<u8>,
    }

    impl Syn {
        fn frame(&self) -> Vec<u8> {
            let step = PacketBuilder::ethernet2([2; 6], [4; 6]);
            let step = match self.v6 {
                true => step.ipv6([0xfd; 16], [0xfe; 16], 64),
                false => step.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64),
            };
            let step = step.tcp(1111, 80, 0x0102_0304, 65_000).syn().options_raw(&self.options).unwrap();
            let mut frame = Vec::new();
            step.write(&mut frame, &self.payload).unwrap();
            if self.tagged {
                frame.splice(12..12, [0x81, 0, 0x20, 5]);
            }
            frame
        }
    }

    fn syn4(options: &[u8]) -> Vec<u8> {
        Syn { v6: false, tagged: false, options: options.to_vec(), payload: vec![] }.frame()
    }

    fn clamp_to(frame: &mut [u8], max_len: usize) -> Option<Clamped> {
        let dissected = dissect(frame);
        clamp(frame, &dissected, max_len, false)
    }

    fn checksum_is_right(frame: &[u8]) -> bool {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { return false };
        let expected = match packet.net.as_ref().unwrap() {
            NetSlice::Ipv4(ip) => tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()),
            NetSlice::Ipv6(ip) => tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()),
            NetSlice::Arp(arp) => panic!("{arp:?}"),
        };
        Ok(tcp.checksum()) == expected
    }

    fn mss_of(frame: &[u8]) -> Option<u16> {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else { return None };
        tcp.options_iterator().find_map(|option| match option {
            Ok(TcpOptionElement::MaximumSegmentSize(mss)) => Some(mss),
            _ => None,
        })
    }

    #[test]
    fn it_is_lowered_to_what_fits_and_never_raised() {
        let mut frame = syn4(&[2, 4, 0x05, 0xb4]);
        assert_eq!(clamp_to(&mut frame, 14 + 1450), Some(Clamped { from: 1460, to: 1410 }));
        assert!(checksum_is_right(&frame) && mss_of(&frame) == Some(1410));
        assert_eq!(clamp_to(&mut frame, 14 + 1450), None);
        let mut small = syn4(&[2, 4, 0x02, 0x18]);
        assert_eq!(clamp_to(&mut small, 14 + 1450), None);
        assert_eq!(mss_of(&small), Some(536));
    }

    #[test]
    fn ipv6_takes_20_bytes_more_and_a_tag_4() {
        let options = vec![2, 4, 0x23, 0];
        let mut frame = Syn { v6: true, tagged: false, options: options.clone(), payload: vec![] }.frame();
        assert_eq!(clamp_to(&mut frame, 14 + 1450).map(|clamped| clamped.to), Some(1390));
        let mut frame = Syn { v6: false, tagged: true, options, payload: vec![] }.frame();
        assert_eq!(clamp_to(&mut frame, 14 + 1450).map(|clamped| clamped.to), Some(1406));
        assert!(mss_of(&frame) == Some(1406) && checksum_is_right(&frame));
    }

    #[test]
    fn answers_to_syns_are_syns_and_other_segments_are_not() {
        let mut frame = syn4(&[2, 4, 0x05, 0xb4]);
        frame[47] = 0x12;
        assert!(clamp_to(&mut frame, 1000).is_some());
        let mut frame = syn4(&[2, 4, 0x05, 0xb4]);
        frame[47] = 0x10;
        let before = frame.clone();
        assert_eq!(clamp_to(&mut frame, 1000), None);
        assert_eq!(frame, before);
    }

    #[test]
    fn malformed_options_stay_as_they_are() {
        for options in [
            &[2, 3, 5, 0xb4][..], // another length
            &[2, 0, 5, 0xb4],
            &[2, 6, 5, 0xb4, 0, 0, 0, 0],
            &[8, 1, 2, 4, 5, 0xb4, 0, 0],  // an option that ends in itself
            &[8, 40, 2, 4, 5, 0xb4, 0, 0], // one that ends behind the header
            &[0, 0, 0, 0, 2, 4, 5, 0xb4],  // behind the end
            &[1, 1, 1, 1, 1, 1, 1, 2],     // cut off
            &[1, 1, 1, 1, 1, 2, 4, 5],
        ] {
            let mut frame = syn4(options);
            let before = frame.clone();
            assert_eq!(clamp_to(&mut frame, 500), None, "{options:?}");
            assert_eq!(frame, before);
        }
        let mut cut_off = syn4(&[2, 4, 5, 0xb4]);
        cut_off.truncate(56);
        assert_eq!(clamp_to(&mut cut_off, 500), None);
        // The header ends before the option does.
        let mut short = syn4(&[2, 4, 5, 0xb4]);
        short[46] = 0x50;
        assert_eq!(clamp_to(&mut short, 500), None);
    }

    #[test]
    fn without_room_for_a_byte_nothing_is_promised() {
        let mut frame = syn4(&[2, 4, 0x05, 0xb4]);
        assert_eq!(clamp_to(&mut frame, 14 + 40), None);
        assert_eq!(clamp_to(&mut frame, 10), None);
        assert_eq!(clamp_to(&mut frame, 14 + 41).map(|clamped| clamped.to), Some(1));
    }

    #[test]
    fn fragments_of_a_syn_are_not_looked_at() {
        let mut frame = syn4(&[2, 4, 0x05, 0xb4]);
        frame[20] = 0x20;
        assert_eq!(clamp_to(&mut frame, 500), None);
    }

    proptest! {
        /// No-operations before it put the option at even and odd offsets.
        #[test]
        fn the_checksum_is_that_of_a_full_computation(
            v6: bool, tagged: bool, before in 0..8usize, mss: u16, max_len in 0..3000usize, payload in vec(any::<u8>(), 0..9),
        ) {
            let mut options = vec![1; before];
            options.extend([2, 4]);
            options.extend(mss.to_be_bytes());
            options.resize(options.len().next_multiple_of(4), 1);
            let mut frame = Syn { v6, tagged, options, payload }.frame();
            let untouched = frame.clone();
            let clamped = clamp_to(&mut frame, max_len);
            prop_assert!(checksum_is_right(&frame));
            match clamped {
                Some(Clamped { from, to }) => {
                    prop_assert_eq!((from, Some(to)), (mss, mss_of(&frame)));
                    let header_len = if v6 { 60 } else { 40 };
                    prop_assert!(to < from);
                    prop_assert!(14 + header_len + usize::from(to) <= max_len);
                }
                None => prop_assert_eq!(frame, untouched),
            }
        }

        /// What completes the checksum later finds the pseudo header's sum where it was.
        #[test]
        fn a_pending_checksum_stays_the_pseudo_headers(v6: bool, before in 0..4usize, payload in vec(any::<u8>(), 0..9)) {
            let mut options = vec![1; before];
            options.extend([2, 4, 0x05, 0xb4]);
            options.resize(options.len().next_multiple_of(4), 1);
            let mut frame = Syn { v6, tagged: false, options, payload }.frame();
            let (l4, field) = { let l4 = usize::from(dissect(&frame).l4.unwrap().offset); (l4, l4 + 16) };
            // The sum of the pseudo header: that of everything less that of the segment.
            let complete = u16::from_be_bytes([frame[field], frame[field + 1]]);
            frame[field..field + 2].copy_from_slice(&[0, 0]);
            let segment = crate::wire::checksum::sum(&frame[l4..]).fold();
            let pseudo = Sum::ZERO.add16(!complete).sub16(segment).fold();
            frame[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
            let dissected = dissect(&frame);
            prop_assert!(clamp(&mut frame, &dissected, 1000, true).is_some());
            prop_assert_eq!(&frame[field..field + 2], pseudo.to_be_bytes());
            let checksum = crate::wire::checksum::sum(&frame[l4..]).checksum();
            frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
            prop_assert!(checksum_is_right(&frame));
        }

        #[test]
        fn any_bytes_are_safe(mut bytes in vec(any::<u8>(), 0..120), max_len in 0..3000usize, pending: bool) {
            if bytes.len() > 48 {
                bytes[12..15].copy_from_slice(&[8, 0, 0x45]);
                bytes[20..22].copy_from_slice(&[0, 0]);
                (bytes[23], bytes[47]) = (6, 2);
            }
            let dissected = dissect(&bytes);
            let len = bytes.len();
            clamp(&mut bytes, &dissected, max_len, pending);
            prop_assert_eq!(bytes.len(), len);
        }
    }
}
