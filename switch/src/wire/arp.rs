//! ARP for IPv4 over Ethernet (RFC 826): reading a packet, and the reply that somebody gives in another's name.

use std::net::Ipv4Addr;

use super::{
    MacAddr,
    ethernet::{ETHER_TYPE_ARP, ETHER_TYPE_OFFSET, HEADER_LEN},
};

/// Bytes of an ARP packet for IPv4 over Ethernet.
pub const ARP_LEN: usize = 28;
/// Bytes of a frame that holds one, without padding.
pub const FRAME_LEN: usize = HEADER_LEN + ARP_LEN;

/// Hardware type of Ethernet (IANA, ARP parameters).
pub const HARDWARE_ETHERNET: u16 = 1;
/// Hardware type of IEEE 802 networks, which the kernel takes as Ethernet (`vxlan_core.c`: `arp_reduce`).
pub const HARDWARE_IEEE_802: u16 = 6;

/// "Who has this address?"
pub const REQUEST: u16 = 1;
/// The answer to it.
pub const REPLY: u16 = 2;
/// A question of reverse ARP (RFC 903), which some put into ARP frames.
pub const REVERSE_REQUEST: u16 = 3;
/// The answer to it.
pub const REVERSE_REPLY: u16 = 4;

/// Hardware type, protocol type IPv4, 6 and 4 bytes of address: what every packet here begins with.
const IPV4_OVER_ETHERNET: [u8; 4] = [0x08, 0x00, 6, 4];

/// An ARP packet for IPv4, whose hardware addresses have six bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    /// Hardware type: [`HARDWARE_ETHERNET`], [`HARDWARE_IEEE_802`] or something strange.
    pub hardware: u16,
    /// [`REQUEST`], [`REPLY`] or something else.
    pub operation: u16,
    /// Who says it.
    pub sender_mac: MacAddr,
    /// The sender's address; 0.0.0.0 in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// Whom it is about or to; meaningless in a request.
    pub target_mac: MacAddr,
    /// The address that is asked for.
    pub target_ip: Ipv4Addr,
}

/// The frame that asks one station alone, `station`, whether it has `ip`: an ARP probe (RFC 5227 section 2.1.1), whose sender has
/// no IP address, so that nobody's cache changes. The answer goes to `asker`.
pub fn probe(asker: MacAddr, station: MacAddr, ip: Ipv4Addr) -> [u8; FRAME_LEN] {
    let question = Arp {
        hardware: HARDWARE_ETHERNET,
        operation: REQUEST,
        sender_mac: asker,
        sender_ip: Ipv4Addr::UNSPECIFIED,
        target_mac: MacAddr::ZERO,
        target_ip: ip,
    };
    question.frame(station)
}

impl Arp {
    /// The packet in an untagged frame; `None` if there is none, or it is for other protocols than IPv4.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let frame = frame.first_chunk::<FRAME_LEN>()?;
        let packet = &frame[HEADER_LEN..];
        if frame[ETHER_TYPE_OFFSET..HEADER_LEN] != ETHER_TYPE_ARP.to_be_bytes() || packet[2..6] != IPV4_OVER_ETHERNET {
            return None;
        }
        let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let ip = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        let mac = |at: usize| packet[at..].first_chunk().map_or(MacAddr::ZERO, |octets| MacAddr::new(*octets));
        Some(Self {
            hardware: word(0),
            operation: word(6),
            sender_mac: mac(8),
            sender_ip: ip(14),
            target_mac: mac(18),
            target_ip: ip(24),
        })
    }

    /// The frame that answers this request: `mac` has the address. It comes from `mac` itself and goes to the asker, as
    /// the kernel's does (`arp_create`, called by `vxlan_core.c`: `arp_reduce` and `br_arp_nd_proxy.c`: `br_arp_send`);
    /// not padded to Ethernet's minimum, since whoever sends it does that.
    pub fn reply(&self, mac: MacAddr) -> [u8; FRAME_LEN] {
        let reply = Self {
            hardware: HARDWARE_ETHERNET,
            operation: REPLY,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        };
        reply.frame(self.sender_mac)
    }

    /// The frame that carries it from its sender to `dst`.
    fn frame(&self, dst: MacAddr) -> [u8; FRAME_LEN] {
        let mut frame = [0; FRAME_LEN];
        frame[..6].copy_from_slice(&dst.octets());
        frame[6..12].copy_from_slice(&self.sender_mac.octets());
        frame[ETHER_TYPE_OFFSET..HEADER_LEN].copy_from_slice(&ETHER_TYPE_ARP.to_be_bytes());
        let packet = &mut frame[HEADER_LEN..];
        packet[..2].copy_from_slice(&self.hardware.to_be_bytes());
        packet[2..6].copy_from_slice(&IPV4_OVER_ETHERNET);
        packet[6..8].copy_from_slice(&self.operation.to_be_bytes());
        packet[8..14].copy_from_slice(&self.sender_mac.octets());
        packet[14..18].copy_from_slice(&self.sender_ip.octets());
        packet[18..24].copy_from_slice(&self.target_mac.octets());
        packet[24..28].copy_from_slice(&self.target_ip.octets());
        frame
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ASKER: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);
    const ASKED: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 2]);

    /// 10.0.0.1 asks for 10.0.0.2.
    fn request() -> Vec<u8> {
        let mut frame = [0xff; 6].to_vec();
        frame.extend(ASKER.octets());
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(ASKER.octets());
        frame.extend([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        frame
    }

    #[test]
    fn a_request_is_read() {
        let arp = Arp::parse(&request()).unwrap();
        assert_eq!((arp.hardware, arp.operation), (HARDWARE_ETHERNET, REQUEST));
        assert_eq!((arp.sender_mac, arp.sender_ip), (ASKER, Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!((arp.target_mac, arp.target_ip), (MacAddr::ZERO, Ipv4Addr::new(10, 0, 0, 2)));
    }

    /// As a kernel's vxlan device with `proxy` answered this very request, read from its bridge.
    #[test]
    fn the_reply_has_the_kernels_bytes() {
        let mut expected = ASKER.octets().to_vec();
        expected.extend(ASKED.octets());
        expected.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        expected.extend(ASKED.octets());
        expected.extend([10, 0, 0, 2]);
        expected.extend(ASKER.octets());
        expected.extend([10, 0, 0, 1]);
        assert_eq!(Arp::parse(&request()).unwrap().reply(ASKED).to_vec(), expected);
    }

    #[test]
    fn a_probe_asks_one_station_and_says_nothing_of_the_asker() {
        let ip = Ipv4Addr::new(10, 0, 0, 2);
        let frame = probe(ASKER, ASKED, ip);
        assert_eq!(frame[..12], [ASKED.octets(), ASKER.octets()].concat());
        let arp = Arp::parse(&frame).unwrap();
        assert_eq!((arp.operation, arp.sender_mac, arp.sender_ip), (REQUEST, ASKER, Ipv4Addr::UNSPECIFIED));
        assert_eq!((arp.target_mac, arp.target_ip), (MacAddr::ZERO, ip));
        let answer = Arp::parse(&arp.reply(ASKED)).unwrap();
        assert_eq!((answer.sender_ip, answer.target_mac), (ip, ASKER));
    }

    #[test]
    fn what_is_cut_off_or_about_another_protocol_is_not_read() {
        let frame = request();
        for len in 0..frame.len() {
            assert_eq!(Arp::parse(&frame[..len]), None, "{len} bytes");
        }
        for at in [12, 13, 16, 17, 18, 19] {
            let mut other = frame.clone();
            other[at] ^= 1;
            assert_eq!(Arp::parse(&other), None, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn the_reply_to_a_reply_is_about_the_asker(mac: [u8; 6], frame: [u8; FRAME_LEN]) {
            let mut frame = frame;
            frame[12..14].copy_from_slice(&[8, 6]);
            frame[16..20].copy_from_slice(&[8, 0, 6, 4]);
            let asked = Arp::parse(&frame).unwrap();
            let answer = Arp::parse(&asked.reply(MacAddr::new(mac))).unwrap();
            prop_assert_eq!((answer.sender_ip, answer.sender_mac), (asked.target_ip, MacAddr::new(mac)));
            prop_assert_eq!((answer.target_ip, answer.target_mac), (asked.sender_ip, asked.sender_mac));
        }
    }
}
