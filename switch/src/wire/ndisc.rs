//! Neighbour discovery (RFC 4861), as much of it as somebody needs who answers in another's name: solicitations and
//! advertisements are read, advertisements are built.

use std::net::Ipv6Addr;

use super::{
    MacAddr, checksum,
    dissect::IPV6_HEADER_LEN,
    ethernet::{ETHER_TYPE_IPV6, ETHER_TYPE_OFFSET, HEADER_LEN},
};

/// IPv6's protocol number of ICMPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;
/// Bytes of a message without options: type, code, checksum, flags, target.
pub const MESSAGE_LEN: usize = 24;
/// Bytes of the frame that [`Neighbour::advertisement`] builds.
pub const ADVERTISEMENT_LEN: usize = MESSAGE + MESSAGE_LEN + OPTION_LEN;

const MESSAGE: usize = HEADER_LEN + IPV6_HEADER_LEN;
/// A link-layer address option for Ethernet: type, length in units of 8 bytes, address.
const OPTION_LEN: usize = 8;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
/// Flags of an advertisement (RFC 4861 section 4.4).
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// Bytes of the frame that [`solicitation`] builds.
pub const SOLICITATION_LEN: usize = ADVERTISEMENT_LEN;

/// The frame that asks one station alone, `station`, whether it has `target` (RFC 4861 section 7.2.2: a unicast solicitation, as
/// for a neighbour that is being probed). It comes from the link-local address of `asker` ([`link_local`]) and says its
/// link-layer address, so that the answer needs no question.
pub fn solicitation(asker: MacAddr, station: MacAddr, target: Ipv6Addr) -> [u8; SOLICITATION_LEN] {
    let source = link_local(asker);
    let mut frame = [0; SOLICITATION_LEN];
    frame[..6].copy_from_slice(&station.octets());
    frame[6..12].copy_from_slice(&asker.octets());
    frame[ETHER_TYPE_OFFSET..HEADER_LEN].copy_from_slice(&ETHER_TYPE_IPV6.to_be_bytes());
    let len = (MESSAGE_LEN + OPTION_LEN) as u16;
    let ip = &mut frame[HEADER_LEN..MESSAGE];
    ip[0] = 0x60;
    ip[4..6].copy_from_slice(&len.to_be_bytes());
    ip[6..8].copy_from_slice(&[PROTOCOL_ICMPV6, 255]);
    ip[8..24].copy_from_slice(&source.octets());
    ip[24..40].copy_from_slice(&target.octets());
    let message = &mut frame[MESSAGE..];
    message[0] = SOLICITATION;
    message[8..24].copy_from_slice(&target.octets());
    message[24..26].copy_from_slice(&[SOURCE_LINK_LAYER_ADDRESS, (OPTION_LEN / 8) as u8]);
    message[26..].copy_from_slice(&asker.octets());
    let pseudo = checksum::pseudo_v6(source, target, PROTOCOL_ICMPV6, u32::from(len));
    let sum = checksum::sum(message).combine(pseudo).checksum();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// The link-local address with the interface identifier that comes from a MAC address (RFC 4291 appendix A).
pub fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.octets();
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// Which message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// "Who has this address?"
    Solicitation,
    /// "This address is here."
    Advertisement {
        /// It answers a solicitation.
        solicited: bool,
    },
}

/// Whose answers an advertisement shall look like: the kernel has two pieces of code that build one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answerer {
    /// A vxlan device with `proxy` (`vxlan_core.c`: `vxlan_na_create`). Looks for the asker's address in all bytes behind
    /// the message, padding too, and answers duplicate address detection like any other question.
    Vxlan,
    /// A bridge with `neigh_suppress` (`br_arp_nd_proxy.c`: `br_nd_send`). Duplicate address detection is answered to all
    /// nodes.
    Bridge,
}

/// A solicitation or advertisement in its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour<'f> {
    /// Which of the two.
    pub kind: Kind,
    /// Where the packet comes from; unspecified in duplicate address detection.
    pub source: Ipv6Addr,
    /// Where it goes.
    pub destination: Ipv6Addr,
    /// The address that it is about.
    pub target: Ipv6Addr,
    frame: &'f [u8],
}

impl<'f> Neighbour<'f> {
    /// The message in an untagged frame, if it is one. Looks directly behind the IPv6 header, as the kernel does: no
    /// extension header belongs there.
    pub fn parse(frame: &'f [u8]) -> Option<Self> {
        let headers = frame.first_chunk::<{ MESSAGE + MESSAGE_LEN }>()?;
        let (ip, message) = (&headers[HEADER_LEN..MESSAGE], &headers[MESSAGE..]);
        let is_icmpv6 = headers[ETHER_TYPE_OFFSET..HEADER_LEN] == ETHER_TYPE_IPV6.to_be_bytes()
            && ip[0] >> 4 == 6
            && ip[6] == PROTOCOL_ICMPV6;
        let kind = match (message[0], message[1]) {
            (SOLICITATION, 0) => Kind::Solicitation,
            (ADVERTISEMENT, 0) => Kind::Advertisement { solicited: message[4] & SOLICITED != 0 },
            _ => return None,
        };
        is_icmpv6.then(|| Self {
            kind,
            source: address(&ip[8..]),
            destination: address(&ip[24..]),
            target: address(&message[8..]),
            frame,
        })
    }

    /// The frame that answers this solicitation: `mac` has the address, and is a `router` or not. `None` if the
    /// solicitation's options make no sense, so that the kernel would not answer.
    pub fn advertisement(&self, mac: MacAddr, router: bool, answerer: Answerer) -> Option<[u8; ADVERTISEMENT_LEN]> {
        let asker = self.asker(answerer)?;
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let to_all = answerer == Answerer::Bridge && self.source.is_unspecified();
        let (dst, destination) =
            if to_all { (MacAddr::new([0x33, 0x33, 0, 0, 0, 1]), all_nodes) } else { (asker, self.source) };

        let mut frame = [0; ADVERTISEMENT_LEN];
        frame[..6].copy_from_slice(&dst.octets());
        frame[6..12].copy_from_slice(&mac.octets());
        frame[ETHER_TYPE_OFFSET..HEADER_LEN].copy_from_slice(&ETHER_TYPE_IPV6.to_be_bytes());
        let len = (MESSAGE_LEN + OPTION_LEN) as u16;
        let ip = &mut frame[HEADER_LEN..MESSAGE];
        // Version, and of the traffic class the upper half: what the kernel calls `priority`.
        ip[0] = 0x60 | (self.frame[HEADER_LEN] & 0x0f);
        ip[4..6].copy_from_slice(&len.to_be_bytes());
        ip[6..8].copy_from_slice(&[PROTOCOL_ICMPV6, 255]);
        ip[8..24].copy_from_slice(&self.target.octets());
        ip[24..40].copy_from_slice(&destination.octets());
        let message = &mut frame[MESSAGE..];
        message[0] = ADVERTISEMENT;
        message[4] = OVERRIDE | if to_all { 0 } else { SOLICITED } | if router { ROUTER } else { 0 };
        message[8..24].copy_from_slice(&self.target.octets());
        message[24..26].copy_from_slice(&[TARGET_LINK_LAYER_ADDRESS, (OPTION_LEN / 8) as u8]);
        message[26..].copy_from_slice(&mac.octets());
        let pseudo = checksum::pseudo_v6(self.target, destination, PROTOCOL_ICMPV6, u32::from(len));
        let sum = checksum::sum(message).combine(pseudo).checksum();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        Some(frame)
    }

    /// The asker's link-layer address: what its option says, else where the frame came from. `None`: bad options.
    fn asker(&self, answerer: Answerer) -> Option<MacAddr> {
        let behind = &self.frame[MESSAGE + MESSAGE_LEN..];
        let mut options = match answerer {
            Answerer::Vxlan => behind,
            Answerer::Bridge => {
                let payload_len =
                    usize::from(u16::from_be_bytes([self.frame[HEADER_LEN + 4], self.frame[HEADER_LEN + 5]]));
                behind.get(..payload_len.checked_sub(MESSAGE_LEN)?)?
            }
        };
        let mut source = None;
        loop {
            let len = match *options {
                [] => break,
                [_] if answerer == Answerer::Vxlan => break,
                [_] => return None,
                [_, units, ..] => usize::from(units) * 8,
            };
            let (option, rest) = options.split_at_checked(len).filter(|_| len > 0)?;
            if option[0] == SOURCE_LINK_LAYER_ADDRESS && source.is_none() {
                source = Some(option);
            }
            if source.is_some() && answerer == Answerer::Vxlan {
                break;
            }
            options = rest;
        }
        // A bridge believes an option of Ethernet's length only (`ndisc_opt_addr_data`).
        let source = source.filter(|option| answerer == Answerer::Vxlan || option.len() == OPTION_LEN);
        let octets = source.map_or(&self.frame[6..], |option| &option[2..]);
        octets.first_chunk().map(|octets| MacAddr::new(*octets))
    }
}

fn address(bytes: &[u8]) -> Ipv6Addr {
    bytes.first_chunk().map_or(Ipv6Addr::UNSPECIFIED, |octets: &[u8; 16]| Ipv6Addr::from(*octets))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const ASKER: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);
    const OPTION_MAC: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 0x11]);
    const ASKED: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 2]);

    fn ip(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
    }

    /// `source` asks for fd00::2, with these options.
    fn solicitation(source: Ipv6Addr, options: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x33, 0x33, 0xff, 0, 0, 2];
        frame.extend(ASKER.octets());
        frame.extend([0x86, 0xdd, 0x6b, 0x80, 0, 0, 0]);
        frame.push((MESSAGE_LEN + options.len()) as u8);
        frame.extend([58, 255]);
        frame.extend(source.octets());
        frame.extend(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 2).octets());
        frame.extend([135, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend(ip(2).octets());
        frame.extend(options);
        frame
    }

    fn source_option() -> Vec<u8> {
        [&[1, 1][..], &OPTION_MAC.octets()].concat()
    }

    fn answer(frame: &[u8], answerer: Answerer) -> Option<[u8; ADVERTISEMENT_LEN]> {
        Neighbour::parse(frame)?.advertisement(ASKED, false, answerer)
    }

    #[test]
    fn a_solicitation_is_read() {
        let frame = solicitation(ip(1), &source_option());
        let found = Neighbour::parse(&frame).unwrap();
        assert_eq!((found.kind, found.source, found.target), (Kind::Solicitation, ip(1), ip(2)));
        for len in 0..MESSAGE + MESSAGE_LEN {
            assert_eq!(Neighbour::parse(&frame[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn the_advertisement_has_the_kernels_bytes() {
        for answerer in [Answerer::Vxlan, Answerer::Bridge] {
            let frame = answer(&solicitation(ip(1), &source_option()), answerer).unwrap();
            let mut expected = OPTION_MAC.octets().to_vec();
            expected.extend(ASKED.octets());
            // of the traffic class 0xb8 the upper half is left
            expected.extend([0x86, 0xdd, 0x6b, 0, 0, 0, 0, 32, 58, 255]);
            expected.extend(ip(2).octets());
            expected.extend(ip(1).octets());
            let sum = [frame[MESSAGE + 2], frame[MESSAGE + 3]];
            expected.extend([136, 0, sum[0], sum[1], 0x60, 0, 0, 0]);
            expected.extend(ip(2).octets());
            expected.extend([2, 1]);
            expected.extend(ASKED.octets());
            assert_eq!(frame.to_vec(), expected);
        }
    }

    #[test]
    fn routers_say_so() {
        let frame = solicitation(ip(1), &[]);
        let answer = Neighbour::parse(&frame).unwrap().advertisement(ASKED, true, Answerer::Vxlan).unwrap();
        assert_eq!(answer[MESSAGE + 4], 0xe0);
    }

    #[test]
    fn without_the_option_the_answer_goes_where_the_frame_came_from() {
        for answerer in [Answerer::Vxlan, Answerer::Bridge] {
            assert_eq!(answer(&solicitation(ip(1), &[]), answerer).unwrap()[..6], ASKER.octets());
            assert_eq!(
                answer(&solicitation(ip(1), &[14, 1, 0, 0, 0, 0, 0, 0]), answerer).unwrap()[..6],
                ASKER.octets()
            );
        }
    }

    #[test]
    fn duplicate_address_detection_is_answered_by_the_bridge_to_all_nodes() {
        let frame = solicitation(Ipv6Addr::UNSPECIFIED, &[]);
        let bridge = answer(&frame, Answerer::Bridge).unwrap();
        assert_eq!(bridge[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!((bridge[HEADER_LEN + 24], bridge[MESSAGE + 4]), (0xff, OVERRIDE));
        let vxlan = answer(&frame, Answerer::Vxlan).unwrap();
        assert_eq!((&vxlan[..6], vxlan[MESSAGE + 4]), (&ASKER.octets()[..], SOLICITED | OVERRIDE));
    }

    #[test]
    fn options_that_make_no_sense_are_not_answered() {
        for bad in [&[1, 0, 0, 0, 0, 0, 0, 0][..], &[14, 2, 0, 0, 0, 0, 0, 0]] {
            for answerer in [Answerer::Vxlan, Answerer::Bridge] {
                assert_eq!(answer(&solicitation(ip(1), bad), answerer), None, "{bad:?}");
            }
        }
    }

    #[test]
    fn padding_is_no_option_for_a_bridge_and_one_for_a_vxlan_device() {
        let mut frame = solicitation(ip(1), &[]);
        frame.extend([0; 6]);
        assert!(answer(&frame, Answerer::Bridge).is_some());
        assert_eq!(answer(&frame, Answerer::Vxlan), None);
    }

    #[test]
    fn a_solicitation_asks_one_station_and_is_answered_to_the_asker() {
        let frame = super::solicitation(ASKER, ASKED, ip(2));
        assert_eq!(frame[..12], [ASKED.octets(), ASKER.octets()].concat());
        let message = Neighbour::parse(&frame).unwrap();
        assert_eq!((message.kind, message.target, message.destination), (Kind::Solicitation, ip(2), ip(2)));
        assert_eq!(message.source, "fe80::ff:fe00:1".parse::<Ipv6Addr>().unwrap());
        let pseudo = checksum::pseudo_v6(message.source, message.destination, PROTOCOL_ICMPV6, 32);
        assert_eq!(checksum::sum(&frame[MESSAGE..]).combine(pseudo).checksum(), 0);
        let answer = message.advertisement(ASKED, false, Answerer::Bridge).unwrap();
        assert_eq!(answer[..6], ASKER.octets());
    }

    proptest! {
        #[test]
        fn the_checksum_of_every_answer_is_right(source: [u8; 16], target: [u8; 16], mac: [u8; 6], router: bool) {
            let mut frame = solicitation(source.into(), &[]);
            frame[MESSAGE + 8..].copy_from_slice(&target);
            for answerer in [Answerer::Vxlan, Answerer::Bridge] {
                let asked = Neighbour::parse(&frame).unwrap();
                let answer = asked.advertisement(MacAddr::new(mac), router, answerer).unwrap();
                let parsed = etherparse::PacketHeaders::from_ethernet_slice(&answer).unwrap();
                let Some(etherparse::NetHeaders::Ipv6(ip, _)) = parsed.net else { panic!("not IPv6") };
                let icmp = etherparse::Icmpv6Slice::from_slice(&answer[MESSAGE..]).unwrap();
                prop_assert!(icmp.is_checksum_valid(ip.source, ip.destination));
            }
        }

        #[test]
        fn nothing_makes_it_panic(bytes in vec(any::<u8>(), 0..120), options in vec(any::<u8>(), 0..40)) {
            for frame in [bytes, solicitation(ip(1), &options)] {
                if let Some(found) = Neighbour::parse(&frame) {
                    for answerer in [Answerer::Vxlan, Answerer::Bridge] {
                        found.advertisement(ASKED, false, answerer);
                    }
                }
            }
        }
    }
}
