//! Finds work that a sender left undone where no virtio-net header can say so: in a datagram of the underlay.
//!
//! A sender's kernel leaves the inner checksum of an encapsulated packet, and the cutting of inner TCP, to the network card
//! (`CHECKSUM_PARTIAL` and `SKB_GSO_UDP_TUNNEL`). Where there is no card but a veth, or a virtual machine's virtio-net on
//! the same host, nobody ever does it: the kernels at both ends know beside the packet what is missing, and trust each
//! other. A UDP socket hears nothing of that knowledge. It gets the octets: a checksum field that holds the bare sum of the
//! pseudo header, and TCP packets of up to 64 KiB. Handed on like that, the receiver refuses them all; ICMP is never left
//! undone, so that pings pass and nothing else does.
//!
//! So a field that holds just that sum is taken as open. That never harms: completing gives the sum of everything
//! but the field, complemented; a packet that was complete and happens to hold the pseudo header's sum holds that very
//! value already. (Of damaged packets one in 65,536 passes a checksum anyhow, and the outer one covers them.)

use super::{
    checksum::{TCP_CHECKSUM_OFFSET, UDP_CHECKSUM_OFFSET},
    vnet::{Gso, PartialCsum, VnetHeader},
};
use crate::wire::{
    checksum::{Sum, sum},
    dissect::{Dissected, IpVersion, L3, L4, L4Kind},
};

/// What was left undone about a frame from the underlay.
///
/// TCP that is longer than `mtu` (an IP packet's length that fits everywhere it may go) and whose checksum is open is a
/// super-frame. How long its segments were to be, only the sender knew; to TCP it makes no difference.
#[inline]
pub fn unfinished(frame: &[u8], dissected: &Dissected, mtu: impl FnOnce() -> u16) -> VnetHeader {
    let (Some(l3), Some(l4)) = (&dissected.l3, &dissected.l4) else { return VnetHeader::NONE };
    let Some(csum) = open_checksum(frame, l3, l4) else { return VnetHeader::NONE };
    let done = VnetHeader { csum: Some(csum), ..VnetHeader::NONE };
    if l4.kind != L4Kind::Tcp {
        return done;
    }
    let mtu = mtu();
    if l3.total_len <= u32::from(mtu) {
        return done;
    }
    super_frame(frame, l3, l4, mtu).map_or(done, |super_frame| VnetHeader { csum: Some(csum), ..super_frame })
}

/// The open checksum of a TCP or UDP packet; `None` if it is complete, if it has none, or if something follows the packet,
/// over which whoever completes it would sum as well. With an IPv6 routing header it is not found.
#[inline]
fn open_checksum(frame: &[u8], l3: &L3, l4: &L4) -> Option<PartialCsum> {
    let offset = match l4.kind {
        L4Kind::Tcp => TCP_CHECKSUM_OFFSET,
        L4Kind::Udp => UDP_CHECKSUM_OFFSET,
        L4Kind::Other => return None,
    };
    let end = usize::from(l3.offset) + l3.total_len as usize;
    let field = usize::from(l4.offset) + usize::from(offset);
    if end != frame.len() {
        return None;
    }
    let held = u16::from_be_bytes(*frame.get(field..)?.first_chunk()?);
    let pseudo = addresses(frame, l3)?.add16(u16::from(l3.protocol)).add32((end - usize::from(l4.offset)) as u32);
    (held == pseudo.fold()).then_some(PartialCsum { start: l4.offset, offset })
}

/// The sum of source and destination, which lie side by side in both headers.
#[inline(always)]
pub(super) fn addresses(frame: &[u8], l3: &L3) -> Option<Sum> {
    let header = frame.get(usize::from(l3.offset)..)?;
    match l3.version {
        IpVersion::V4 => header.get(12..20).map(sum),
        IpVersion::V6 => header.get(8..40).map(sum),
    }
}

/// How to cut TCP into packets of `mtu`; `None` if that leaves no room for payload.
#[cold]
fn super_frame(frame: &[u8], l3: &L3, l4: &L4, mtu: u16) -> Option<VnetHeader> {
    const DATA_OFFSET: usize = 12;
    const CWR: u8 = 0x80;
    let tcp = frame.get(usize::from(l4.offset)..)?;
    let &[data_offset, flags] = tcp.get(DATA_OFFSET..)?.first_chunk()?;
    let header_len = (l4.offset - l3.offset) + u16::from(data_offset >> 4) * 4;
    let gso_size = mtu.checked_sub(header_len).filter(|size| *size > 0)?;
    let gso = match l3.version {
        IpVersion::V4 => Gso::Tcp4,
        IpVersion::V6 => Gso::Tcp6,
    };
    Some(VnetHeader { csum: None, gso: Some((gso, gso_size)), gso_ecn: flags & CWR != 0 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        offload::{
            Segments, complete,
            testing::{Sample, samples},
        },
        wire::dissect::dissect,
    };

    fn found(frame: &[u8]) -> Option<PartialCsum> {
        unfinished(frame, &dissect(frame), || u16::MAX).csum
    }

    #[test]
    fn tcp_longer_than_the_mtu_is_cut_to_it_and_other_things_are_not() {
        let Sample { frame, vnet, .. } = Sample::tcp4(20_000);
        let found = unfinished(&frame, &dissect(&frame), || 1450);
        assert_eq!(found.csum, vnet.csum);
        let segments = Segments::new(&frame, &found).unwrap();
        assert_eq!(segments.len(0), 14 + 1450);
        assert!(segments.count() > 10);
        // It fits, or nothing would.
        assert_eq!(unfinished(&frame, &dissect(&frame), || (frame.len() - 14) as u16).gso, None);
        assert_eq!(unfinished(&frame, &dissect(&frame), || 40).gso, None);
        let Sample { frame, .. } = Sample::udp4(20_000);
        assert_eq!(unfinished(&frame, &dissect(&frame), || 1450).gso, None);
        // Finished, and merely too long: none of our business.
        let mut sample = Sample::tcp4(20_000);
        complete(&mut sample.frame, sample.vnet.csum.unwrap()).unwrap();
        assert_eq!(unfinished(&sample.frame, &dissect(&sample.frame), || 1450), VnetHeader::NONE);
    }

    #[test]
    fn a_packet_with_something_behind_it_is_left_alone() {
        let Sample { mut frame, vnet, .. } = Sample::udp4(100);
        assert_eq!(found(&frame), vnet.csum);
        frame.push(0);
        assert_eq!(found(&frame), None);
    }

    #[test]
    fn udp_without_a_checksum_stays_without() {
        let Sample { mut frame, .. } = Sample::udp4(100);
        frame[40..42].copy_from_slice(&[0, 0]);
        assert_eq!(found(&frame), None);
    }

    proptest! {
        #[test]
        fn what_a_kernel_left_open_is_found(sample in samples()) {
            const ROUTING: u8 = 43;
            let l3 = dissect(&sample.frame).l3.unwrap();
            let is_routed = l3.version == IpVersion::V6 && sample.frame[usize::from(l3.offset) + 6] == ROUTING;
            // Where a routing header says so, the sum is of a destination that the header does not show. Rare enough.
            prop_assert_eq!(found(&sample.frame), sample.vnet.csum.filter(|_| !is_routed));
        }

        #[test]
        fn completing_what_was_complete_changes_nothing(sample in samples(), seed in any::<u16>()) {
            let mut frame = sample.frame.clone();
            let csum = sample.vnet.csum.unwrap();
            // Some complete frames are made to hold the sum that looks open: the word makes up for the rest.
            let last = frame.len() - 2;
            if (frame.len() - usize::from(csum.start)) % 2 == 0 && last > usize::from(csum.start) + 20 && seed % 2 == 0 {
                frame[last..].copy_from_slice(&[0, 0]);
                let field = usize::from(csum.start) + usize::from(csum.offset);
                let open = u16::from_be_bytes([frame[field], frame[field + 1]]);
                let rest = sum(&frame[usize::from(csum.start)..]).add16(open).checksum();
                frame[last..].copy_from_slice(&rest.to_be_bytes());
            }
            complete(&mut frame, csum).unwrap();
            let whole = frame.clone();
            if let Some(csum) = found(&frame) {
                complete(&mut frame, csum).unwrap();
            }
            prop_assert_eq!(frame, whole);
        }
    }
}
