//! Which frames are looked for.
//!
//! The question is asked of every frame that comes in where it is looked for, so it is asked in two steps: one comparison of
//! the twelve bytes of addresses, and only for who passes that, and only if something further in is wanted, a look at
//! the headers.

use std::net::IpAddr;

use weft_vxlan::Vni;

use crate::{
    ids::PortId,
    wire::{
        MacAddr, Tag,
        dissect::{Dissected, L4Kind, dissect},
        ethernet::{ETHER_TYPE_ARP, ETHER_TYPE_IPV4, ETHER_TYPE_IPV6},
        vlan::{TAG_LEN, TPID_8021AD, TPID_8021Q},
    },
};

/// Bytes of both addresses.
const ADDRESSES_LEN: usize = 12;
/// Tags that are looked behind, as by [`dissect`].
const MAX_TAG_COUNT: usize = 2;

/// What a frame has to be; what is `None` does not matter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Where it comes in.
    pub enters_by: Option<EntersBy>,
    /// The VNI that it comes in by; frames of ports have none.
    pub vni: Option<Vni>,
    /// Source address.
    pub src: Option<MacAddr>,
    /// Destination address.
    pub dst: Option<MacAddr>,
    /// VLAN of the outermost tag; 0 for a priority tag.
    pub vlan: Option<u16>,
    /// Type behind at most two tags.
    pub ether_type: Option<u16>,
    /// Source and destination of IP, or sender and target of ARP.
    pub ip: Ips,
    /// Operation of ARP: 1 for a question, 2 for an answer.
    pub arp_operation: Option<u16>,
    /// Protocol of IP, behind extension headers.
    pub protocol: Option<u8>,
    /// Source port of TCP or UDP. Fragments have none.
    pub src_port: Option<u16>,
    /// Destination port likewise.
    pub dst_port: Option<u16>,
}

/// Where a frame comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntersBy {
    /// By this port.
    Port(PortId),
    /// Over the underlay, from this address.
    Vtep(IpAddr),
}

/// IP addresses of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ips {
    /// They don't matter.
    #[default]
    Any,
    /// Either is this one.
    Either(IpAddr),
    /// The source, the destination.
    Both(Option<IpAddr>, Option<IpAddr>),
}

/// A filter, ready to be asked.
pub(super) struct Matcher {
    filter: Filter,
    /// What of the addresses matters, and what it has to be, in the order in which they lie in memory.
    mask: u128,
    wanted: u128,
    looks_further: bool,
}

impl Matcher {
    pub(super) fn new(filter: Filter) -> Self {
        let (mut mask, mut wanted) = ([0; 16], [0; 16]);
        for (at, mac) in [(0, filter.dst), (6, filter.src)] {
            let Some(mac) = mac else { continue };
            mask[at..at + 6].fill(0xff);
            wanted[at..at + 6].copy_from_slice(&mac.octets());
        }
        let by_addresses = Filter {
            enters_by: filter.enters_by,
            vni: filter.vni,
            src: filter.src,
            dst: filter.dst,
            ..Filter::default()
        };
        let looks_further = filter != by_addresses;
        Self { filter, mask: u128::from_ne_bytes(mask), wanted: u128::from_ne_bytes(wanted), looks_further }
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Whether it can be one that a port reads.
    pub(super) fn looks_at_port(&self, port: PortId) -> bool {
        let by_port = self.filter.enters_by.is_none_or(|way| way == EntersBy::Port(port));
        by_port && self.filter.vni.is_none()
    }

    /// Whether it can be one that comes from this address over the underlay.
    pub(super) fn looks_at_vtep(&self, source: IpAddr) -> bool {
        self.filter.enters_by.is_none_or(|way| way == EntersBy::Vtep(source))
    }

    /// Whether the VNI of a datagram fits.
    pub(super) fn fits_vni(&self, vni: impl FnOnce() -> Option<Vni>) -> bool {
        self.filter.vni.is_none_or(|wanted| vni() == Some(wanted))
    }

    /// Whether the frame is one.
    #[inline]
    pub(super) fn fits(&self, frame: &[u8]) -> bool {
        addresses(frame) & self.mask == self.wanted && (!self.looks_further || self.fits_further_in(frame))
    }

    /// What is cheap is asked first: most frames end there.
    fn fits_further_in(&self, frame: &[u8]) -> bool {
        let Filter { vlan, ether_type, ip, arp_operation, protocol, src_port, dst_port, .. } = &self.filter;
        let Some(packet) = Packet::of(frame) else { return false };
        if ether_type.is_some_and(|wanted| wanted != packet.ether_type)
            || !ip.fit(|| packet.addresses())
            || vlan.is_some_and(|wanted| packet.vlan != Some(wanted))
            || arp_operation.is_some_and(|wanted| packet.arp_operation() != Some(wanted))
        {
            return false;
        }
        if protocol.is_none() && src_port.is_none() && dst_port.is_none() {
            return true;
        }
        let Dissected { l3, l4, .. } = dissect(frame);
        let l4 = l4.filter(|l4| !matches!(l4.kind, L4Kind::Other));
        protocol.is_none_or(|wanted| l3.is_some_and(|l3| l3.protocol == wanted))
            && src_port.is_none_or(|wanted| l4.is_some_and(|l4| l4.src_port == wanted))
            && dst_port.is_none_or(|wanted| l4.is_some_and(|l4| l4.dst_port == wanted))
    }
}

/// What is behind the Ethernet header and at most two tags.
struct Packet<'f> {
    /// VLAN of the outermost tag.
    vlan: Option<u16>,
    ether_type: u16,
    bytes: &'f [u8],
}

impl<'f> Packet<'f> {
    fn of(frame: &'f [u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
        let (mut at, mut vlan) = (ADDRESSES_LEN, None);
        while matches!(word(at)?, TPID_8021Q | TPID_8021AD) && at < ADDRESSES_LEN + MAX_TAG_COUNT * TAG_LEN {
            vlan = vlan.or(Some(Tag(word(at + 2)?).vid()));
            at += TAG_LEN;
        }
        Some(Self { vlan, ether_type: word(at)?, bytes: &frame[at + 2..] })
    }

    /// Source and destination of IP, sender and target of ARP.
    fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        let v4 = |at: usize| Some(IpAddr::from(*self.bytes.get(at..)?.first_chunk::<4>()?));
        let v6 = |at: usize| Some(IpAddr::from(*self.bytes.get(at..)?.first_chunk::<16>()?));
        match self.ether_type {
            ETHER_TYPE_IPV4 => Some((v4(12)?, v4(16)?)),
            ETHER_TYPE_IPV6 => Some((v6(8)?, v6(24)?)),
            // Of IPv4 over Ethernet (RFC 826); what else there may be has its addresses elsewhere.
            ETHER_TYPE_ARP if self.bytes.get(2..6) == Some(&[0x08, 0x00, 6, 4]) => Some((v4(14)?, v4(24)?)),
            _ => None,
        }
    }

    fn arp_operation(&self) -> Option<u16> {
        (self.ether_type == ETHER_TYPE_ARP).then_some(())?;
        Some(u16::from_be_bytes(*self.bytes.get(6..)?.first_chunk()?))
    }
}

impl Ips {
    fn fit(self, found: impl FnOnce() -> Option<(IpAddr, IpAddr)>) -> bool {
        match self {
            Self::Any => true,
            Self::Either(wanted) => found().is_some_and(|(src, dst)| src == wanted || dst == wanted),
            Self::Both(src, dst) => found().is_some_and(|(found_src, found_dst)| {
                src.is_none_or(|wanted| found_src == wanted) && dst.is_none_or(|wanted| found_dst == wanted)
            }),
        }
    }
}

/// The first 16 bytes of a frame, zeros behind its end.
#[inline(always)]
fn addresses(frame: &[u8]) -> u128 {
    match frame.first_chunk() {
        Some(bytes) => u128::from_ne_bytes(*bytes),
        None => short(frame),
    }
}

#[cold]
fn short(frame: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(frame).for_each(|(byte, there)| *byte = *there);
    u128::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::tests::scene::{A, B, C, frame, tagged, tcp4, udp4, udp6};

    fn fits(filter: &Filter, frame: &[u8]) -> bool {
        Matcher::new(filter.clone()).fits(frame)
    }

    /// A asks for 10.0.0.2, from 10.0.0.1.
    fn question() -> Vec<u8> {
        let mut frame = [&B.octets()[..], &A.octets(), &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &A.octets()].concat();
        frame.extend([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        frame
    }

    #[test]
    fn no_wish_is_met_by_every_frame_however_short() {
        for len in [0, 1, 13, 14, 15, 16, 60] {
            assert!(fits(&Filter::default(), &vec![0xff; len]), "{len}");
        }
    }

    #[test]
    fn addresses_are_compared_whole() {
        let frame = frame(B, A, 60);
        for (src, dst, expected) in [
            (Some(A), None, true),
            (None, Some(B), true),
            (Some(A), Some(B), true),
            (Some(B), Some(A), false),
            (Some(A), Some(C), false),
            (Some(MacAddr::ZERO), None, false),
        ] {
            let filter = Filter { src, dst, ..Filter::default() };
            assert_eq!(fits(&filter, &frame), expected, "{filter:?}");
            assert_eq!(fits(&filter, &frame[..13]), expected, "a runt's addresses: {filter:?}");
        }
        assert!(!fits(&Filter { src: Some(A), ..Filter::default() }, &frame[..11]));
    }

    #[test]
    fn each_wish_is_met_by_what_has_it_alone() {
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        let v6 = udp6(B, A, 0, 20);
        let frames = [frame(B, A, 60), udp4(B, A, 0, 20), tcp4(B, A, 20), v6, question(), tagged(&question(), 7)];
        let any = Filter::default;
        for (filter, expected) in [
            (Filter { ether_type: Some(0x88b5), ..any() }, [true, false, false, false, false, false]),
            (Filter { ether_type: Some(0x0806), ..any() }, [false, false, false, false, true, true]),
            (Filter { vlan: Some(7), ..any() }, [false, false, false, false, false, true]),
            (Filter { vlan: Some(0), ..any() }, [false; 6]),
            (Filter { ip: Ips::Either(ip(2)), ..any() }, [false, true, true, false, true, true]),
            (Filter { ip: Ips::Both(Some(ip(1)), None), ..any() }, [false, true, true, false, true, true]),
            (Filter { ip: Ips::Both(Some(ip(2)), None), ..any() }, [false; 6]),
            (Filter { ip: Ips::Both(None, Some(ip(2))), ..any() }, [false, true, true, false, true, true]),
            (Filter { ip: Ips::Either("::".parse().unwrap()), ..any() }, [false, false, false, true, false, false]),
            (Filter { arp_operation: Some(1), ..any() }, [false, false, false, false, true, true]),
            (Filter { arp_operation: Some(2), ..any() }, [false; 6]),
            (Filter { protocol: Some(6), ..any() }, [false, false, true, false, false, false]),
            (Filter { protocol: Some(17), ..any() }, [false, true, false, true, false, false]),
            (Filter { src_port: Some(1000), ..any() }, [false, true, true, true, false, false]),
            (Filter { dst_port: Some(1000), ..any() }, [false; 6]),
            (Filter { dst_port: Some(2000), protocol: Some(6), ..any() }, [false, false, true, false, false, false]),
        ] {
            let found: Vec<_> = frames.iter().map(|frame| fits(&filter, frame)).collect();
            assert_eq!(found, expected, "{filter:?}");
        }
    }

    #[test]
    fn where_it_comes_in_is_asked_before_any_frame() {
        let source = IpAddr::from([192, 0, 2, 2]);
        let looks = |filter: &Filter| {
            let matcher = Matcher::new(filter.clone());
            (matcher.looks_at_port(PortId(1)), matcher.looks_at_port(PortId(2)), matcher.looks_at_vtep(source))
        };
        let any = Filter::default;
        assert_eq!(looks(&any()), (true, true, true));
        assert_eq!(looks(&Filter { enters_by: Some(EntersBy::Port(PortId(1))), ..any() }), (true, false, false));
        assert_eq!(looks(&Filter { enters_by: Some(EntersBy::Vtep(source)), ..any() }), (false, false, true));
        let of_vni = Filter { vni: Vni::new(42), ..any() };
        assert_eq!(looks(&of_vni), (false, false, true));
        let matcher = Matcher::new(of_vni);
        assert!(matcher.fits_vni(|| Vni::new(42)) && !matcher.fits_vni(|| Vni::new(43)) && !matcher.fits_vni(|| None));
    }
}
