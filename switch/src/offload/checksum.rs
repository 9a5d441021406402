//! Completes the checksum that a sender only started.
//!
//! A partial checksum is a promise: the field holds the sum of the pseudo header, and whoever puts the frame on a wire
//! adds everything from `start` to the end (`VIRTIO_NET_HDR_F_NEEDS_CSUM`, virtio 1.2 section 5.1.6.2).

use super::{segment::BadOffload, vnet::PartialCsum};
use crate::wire::{
    checksum::{never_zero, sum},
    ethernet::HEADER_LEN,
};

/// Completes the checksum that `csum` describes, in place.
///
/// A result of zero becomes 0xffff where the field lies 6 bytes behind `start`. That is UDP, for which zero would mean
/// "no checksum" (RFC 768); UDP-Lite and DCCP keep theirs there too, and for them both values verify alike.
///
/// # Errors
/// [`BadOffload::ChecksumOutside`], and `frame` as it was, if the field lies outside the frame or inside the Ethernet
/// header, where completing it would change the addresses behind the switch's back.
pub fn complete(frame: &mut [u8], csum: PartialCsum) -> Result<(), BadOffload> {
    let field = field_offset(frame.len(), csum)?;
    complete_at(frame, csum, field);
    Ok(())
}

/// Where the checksum field of TCP lies in its header.
pub(super) const TCP_CHECKSUM_OFFSET: u16 = 16;
/// Where the checksum field of UDP lies in its header.
pub(super) const UDP_CHECKSUM_OFFSET: u16 = 6;

/// Completes a checksum whose field [`field_offset`] found in a frame of this length.
#[inline]
pub(super) fn complete_at(frame: &mut [u8], csum: PartialCsum, field: usize) {
    let total = sum(&frame[usize::from(csum.start)..]).checksum();
    let checksum = if csum.offset == UDP_CHECKSUM_OFFSET { never_zero(total) } else { total };
    frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// Where the field lies in a frame of `frame_len` bytes, if it lies inside.
pub(super) fn field_offset(frame_len: usize, csum: PartialCsum) -> Result<usize, BadOffload> {
    let field = usize::from(csum.start) + usize::from(csum.offset);
    if usize::from(csum.start) < HEADER_LEN || field + 2 > frame_len {
        return Err(BadOffload::ChecksumOutside);
    }
    Ok(field)
}

#[cfg(test)]
mod tests {
    use etherparse::{SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    use super::*;
    use crate::offload::testing::{Sample, samples};

    #[test]
    fn a_field_outside_the_frame_or_in_its_addresses_is_refused() {
        let mut frame = [0x55; 60];
        for (start, offset) in [(0, 6), (13, 20), (14, 45), (59, 0), (60, 0), (u16::MAX, u16::MAX)] {
            assert_eq!(complete(&mut frame, PartialCsum { start, offset }), Err(BadOffload::ChecksumOutside));
        }
        assert_eq!(frame, [0x55; 60]);
        assert_eq!(complete(&mut frame, PartialCsum { start: 58, offset: 0 }), Ok(()));
    }

    #[test]
    fn a_udp_checksum_of_zero_becomes_all_ones() {
        let mut sample = Sample::udp4(2);
        let csum = sample.vnet.csum.unwrap();
        let last = sample.frame.len() - 2;
        // Make the payload the complement of everything else.
        sample.frame[last..].copy_from_slice(&[0, 0]);
        let rest = sum(&sample.frame[usize::from(csum.start)..]).checksum();
        sample.frame[last..].copy_from_slice(&rest.to_be_bytes());
        complete(&mut sample.frame, csum).unwrap();
        assert_eq!(sample.frame[40..42], [0xff, 0xff]);
    }

    proptest! {
        #[test]
        fn completed_checksums_are_those_of_etherparse(sample in samples()) {
            let mut frame = sample.frame.clone();
            complete(&mut frame, sample.vnet.csum.unwrap()).unwrap();
            let packet = SlicedPacket::from_ethernet(&frame).unwrap();
            let found = match packet.transport.unwrap() {
                TransportSlice::Tcp(tcp) => tcp.checksum(),
                TransportSlice::Udp(udp) => udp.checksum(),
                other @ (TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_)) => {
                    panic!("{other:?}")
                }
            };
            prop_assert_eq!(found, sample.full_checksum());
        }
    }
}
