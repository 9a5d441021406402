//! What a station says of itself passes; what it says in another's name does not.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, PacketBuilder};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::wire::{arp, ndisc};

const OWN: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);
const OTHER: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 2]);
const ROUTER: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 3]);
const DST: [u8; 6] = [0xff; 6];
const OWN_V4: [u8; 4] = [10, 0, 0, 1];
const OTHER_V4: [u8; 4] = [10, 0, 0, 2];

fn own_v6() -> Ipv6Addr {
    "fd00::1".parse().unwrap()
}

fn other_v6() -> Ipv6Addr {
    "fd00::2".parse().unwrap()
}

/// A port where [`OWN`] has 10.0.0.1 and fd00::1, and [`ROUTER`] whatever it wants.
fn port() -> PortSecurity {
    let one = |address: IpAddr| Prefix { address, len: if address.is_ipv4() { 32 } else { 128 } };
    let addresses = vec![one(Ipv4Addr::from(OWN_V4).into()), one(own_v6().into())];
    PortSecurity::new(&[Station { mac: OWN, addresses }, Station { mac: ROUTER, addresses: vec![] }])
}

/// What becomes of a frame, and of the same behind one tag and behind two.
fn verdict(src: MacAddr, frame: &[u8]) -> Result<(), DropReason> {
    let plain = port().check(src, frame);
    let tagged = [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat();
    let twice = [&frame[..12], &[0x88, 0xa8, 0, 6, 0x81, 0, 0, 5], &frame[12..]].concat();
    assert_eq!(port().check(src, &tagged), plain, "behind a tag");
    assert_eq!(port().check(src, &twice), plain, "behind two tags");
    plain
}

fn arp_from(eth: MacAddr, sender: MacAddr, ip: [u8; 4]) -> Vec<u8> {
    let mut frame = arp::probe(sender, MacAddr::BROADCAST, Ipv4Addr::from([10, 0, 0, 9])).to_vec();
    frame[6..12].copy_from_slice(&eth.octets());
    frame[28..32].copy_from_slice(&ip);
    frame
}

fn udp4(src: MacAddr, ip: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(src.octets(), DST).ipv4(ip, [10, 0, 0, 9], 64).udp(ports.0, ports.1);
    builder.write(&mut frame, b"payload").unwrap();
    frame
}

fn ipv6(src: MacAddr, ip: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&DST[..], &src.octets(), &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([next, 255]);
    frame.extend(ip.octets());
    frame.extend(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets());
    frame.extend(payload);
    frame
}

fn udp6(src: MacAddr, ip: Ipv6Addr, ports: (u16, u16)) -> Vec<u8> {
    let udp = [&ports.0.to_be_bytes()[..], &ports.1.to_be_bytes(), &[0, 8, 0, 0]].concat();
    ipv6(src, ip, PROTOCOL_UDP, &udp)
}

/// An advertisement of `target`, which says that `mac` has it.
fn advertisement(target: Ipv6Addr, mac: MacAddr) -> Vec<u8> {
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(target.octets());
    message.extend([2, 1]);
    message.extend(mac.octets());
    message
}

#[test]
fn a_port_that_names_nobody_lets_everybody_speak() {
    assert_eq!(PortSecurity::default().check(OTHER, &udp4(OTHER, OTHER_V4, (1, 2))), Ok(()));
}

#[test]
fn only_named_stations_speak() {
    assert_eq!(verdict(OTHER, &udp4(OTHER, OWN_V4, (1, 2))), Err(DropReason::MacSpoofed));
    assert_eq!(verdict(OWN, &udp4(OWN, OWN_V4, (1, 2))), Ok(()));
    assert_eq!(verdict(ROUTER, &udp4(ROUTER, OTHER_V4, (1, 2))), Ok(()), "without addresses, any");
    let strange = [&DST[..], &OWN.octets(), &[0x88, 0xb5], &[0; 46]].concat();
    assert_eq!(verdict(OWN, &strange), Ok(()));
}

#[test]
fn nobody_speaks_arp_in_anothers_name() {
    assert_eq!(verdict(OWN, &arp_from(OWN, OWN, OWN_V4)), Ok(()));
    assert_eq!(verdict(OWN, &arp_from(OWN, OWN, [0; 4])), Ok(()), "a probe");
    assert_eq!(verdict(OWN, &arp_from(OWN, OWN, OTHER_V4)), Err(DropReason::ArpSpoofed));
    assert_eq!(verdict(OWN, &arp_from(OWN, OTHER, OWN_V4)), Err(DropReason::ArpSpoofed));
    assert_eq!(verdict(ROUTER, &arp_from(ROUTER, ROUTER, OTHER_V4)), Ok(()));
    assert_eq!(verdict(ROUTER, &arp_from(ROUTER, OTHER, OTHER_V4)), Err(DropReason::ArpSpoofed));
    let mut reverse = arp_from(OWN, OWN, OTHER_V4);
    reverse[12..14].copy_from_slice(&ETHER_TYPE_RARP.to_be_bytes());
    assert_eq!(verdict(OWN, &reverse), Err(DropReason::ArpSpoofed));
    assert_eq!(verdict(OWN, &arp_from(OWN, OWN, OWN_V4)[..30]), Err(DropReason::ArpSpoofed), "cut off");
}

#[test]
fn ipv4_has_its_senders_address_or_asks_for_one() {
    assert_eq!(verdict(OWN, &udp4(OWN, OTHER_V4, (1, 2))), Err(DropReason::IpSpoofed));
    assert_eq!(verdict(OWN, &udp4(OWN, [0; 4], (DHCP_CLIENT, DHCP_SERVER))), Ok(()));
    assert_eq!(verdict(OWN, &udp4(OWN, [0; 4], (1, DHCP_SERVER))), Err(DropReason::IpSpoofed));
    assert_eq!(verdict(OWN, &udp4(OWN, OWN_V4, (DHCP_SERVER, DHCP_CLIENT))), Err(DropReason::RogueServer));
    assert_eq!(verdict(ROUTER, &udp4(ROUTER, OTHER_V4, (DHCP_SERVER, DHCP_CLIENT))), Ok(()));
    let mut nonsense = udp4(OWN, OWN_V4, (1, 2));
    nonsense[14] = 0x41;
    assert_eq!(verdict(OWN, &nonsense), Err(DropReason::IpSpoofed), "no header that could be read");
    assert_eq!(verdict(OWN, &nonsense[..20]), Err(DropReason::IpSpoofed));
}

#[test]
fn fragments_of_ipv4_hide_nothing() {
    let fragment = |offset: u16, payload: &[u8]| {
        let mut header = Ipv4Header::new(payload.len() as u16, 64, IpNumber::UDP, OWN_V4, OTHER_V4).unwrap();
        (header.fragment_offset, header.more_fragments) = (IpFragOffset::try_new(offset).unwrap(), true);
        let mut frame = [&DST[..], &OWN.octets(), &[8, 0]].concat();
        header.write(&mut frame).unwrap();
        [&frame[..], payload].concat()
    };
    let from_server = [0, 67, 0, 68, 0, 100, 0, 0];
    assert_eq!(verdict(OWN, &fragment(0, &from_server)), Err(DropReason::RogueServer));
    assert_eq!(verdict(OWN, &fragment(0, &from_server[..2])), Err(DropReason::IpSpoofed), "it ends within its ports");
    assert_eq!(verdict(OWN, &fragment(1, &from_server)), Ok(()), "what is no header says nothing");
}

#[test]
fn ipv6_has_its_senders_address_or_asks_for_one() {
    let derived = link_local(OWN);
    for (ip, expected) in [
        (own_v6(), Ok(())),
        (derived, Ok(())),
        (other_v6(), Err(DropReason::IpSpoofed)),
        (link_local(OTHER), Err(DropReason::IpSpoofed)),
        (Ipv6Addr::UNSPECIFIED, Err(DropReason::IpSpoofed)),
    ] {
        assert_eq!(verdict(OWN, &udp6(OWN, ip, (1, 2))), expected, "{ip}");
    }
    for message in [ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION, MLD2_REPORT] {
        let frame = ipv6(OWN, Ipv6Addr::UNSPECIFIED, PROTOCOL_ICMPV6, &[message, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(verdict(OWN, &frame), Ok(()), "{message} before it has an address");
    }
    let echo = ipv6(OWN, Ipv6Addr::UNSPECIFIED, PROTOCOL_ICMPV6, &[128, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(verdict(OWN, &echo), Err(DropReason::IpSpoofed));
    assert_eq!(verdict(OWN, &udp6(OWN, own_v6(), (DHCPV6_SERVER, 546))), Err(DropReason::RogueServer));
    assert_eq!(verdict(ROUTER, &udp6(ROUTER, other_v6(), (DHCPV6_SERVER, 546))), Ok(()));
}

#[test]
fn nobody_speaks_neighbour_discovery_in_anothers_name() {
    let says = |src: MacAddr, source, message: &[u8]| verdict(src, &ipv6(src, source, PROTOCOL_ICMPV6, message));
    assert_eq!(says(OWN, own_v6(), &advertisement(own_v6(), OWN)), Ok(()));
    assert_eq!(says(OWN, own_v6(), &advertisement(other_v6(), OWN)), Err(DropReason::ArpSpoofed));
    assert_eq!(says(OWN, own_v6(), &advertisement(own_v6(), OTHER)), Err(DropReason::ArpSpoofed));
    assert_eq!(says(ROUTER, other_v6(), &advertisement(other_v6(), ROUTER)), Ok(()));
    assert_eq!(says(ROUTER, other_v6(), &advertisement(other_v6(), OTHER)), Err(DropReason::ArpSpoofed));
    let solicitation = ndisc::solicitation(OTHER, ROUTER, other_v6());
    assert_eq!(says(OWN, own_v6(), &solicitation[54..]), Err(DropReason::ArpSpoofed), "its option names another");
    for message in [ROUTER_ADVERTISEMENT, REDIRECT] {
        assert_eq!(says(OWN, own_v6(), &[message; 16]), Err(DropReason::RogueServer));
        let harmless = [&[message, 0, 0, 0][..], &[0; 12]].concat();
        assert_eq!(says(ROUTER, other_v6(), &harmless), Ok(()));
    }
}

#[test]
fn extension_headers_and_fragments_of_ipv6_hide_nothing() {
    let advertised = [&[ROUTER_ADVERTISEMENT, 0, 0, 0][..], &[0; 12]].concat();
    let behind = |headers: usize| {
        let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
        let all: Vec<u8> =
            (1..=headers).flat_map(|at| options(if at == headers { PROTOCOL_ICMPV6 } else { 60 })).collect();
        ipv6(OWN, own_v6(), 60, &[&all[..], &advertised].concat())
    };
    assert_eq!(verdict(OWN, &behind(1)), Err(DropReason::RogueServer));
    assert_eq!(verdict(OWN, &behind(8)), Err(DropReason::RogueServer));
    assert_eq!(verdict(OWN, &behind(9)), Err(DropReason::IpSpoofed), "more than anybody walks");
    let fragment = |offset: u16, payload: &[u8]| {
        let [high, low] = (offset << 3 | 1).to_be_bytes();
        ipv6(OWN, own_v6(), 44, &[&[PROTOCOL_ICMPV6, 0, high, low, 0, 0, 0, 1], payload].concat())
    };
    assert_eq!(verdict(OWN, &fragment(0, &advertisement(own_v6(), OWN))), Err(DropReason::ArpSpoofed), "RFC 6980");
    assert_eq!(verdict(OWN, &fragment(0, &[128, 0, 0, 0])), Ok(()), "a long ping");
    assert_eq!(verdict(OWN, &fragment(3, &[128, 0, 0, 0])), Ok(()));
    let hidden = ipv6(OWN, own_v6(), 44, &[60, 0, 0, 1, 0, 0, 0, 1, PROTOCOL_ICMPV6, 0, 1, 4, 0, 0, 0, 0]);
    assert_eq!(verdict(OWN, &hidden), Err(DropReason::IpSpoofed));
}

#[test]
fn prefixes_hold_what_begins_like_them() {
    let prefix = |address: &str, len| Prefix { address: address.parse().unwrap(), len };
    let holds = |prefix: Prefix, address: &str| prefix.contains(address.parse().unwrap());
    assert!(holds(prefix("10.1.2.3", 16), "10.1.255.0") && !holds(prefix("10.1.2.3", 16), "10.2.0.0"));
    assert!(holds(prefix("0.0.0.0", 0), "255.1.2.3") && !holds(prefix("0.0.0.0", 0), "::"));
    assert!(holds(prefix("fd00::", 64), "fd00::9:9") && !holds(prefix("fd00::", 64), "fd00:0:0:1::"));
    assert!(holds(prefix("::", 0), "ff02::1") && !holds(prefix("fd00::1", 128), "fd00::"));
    assert!(!holds(prefix("10.1.2.3", 32), "10.1.2.2"));
}

#[test]
fn a_station_is_written_as_the_configuration_has_it() {
    let Station { mac, mut addresses } = port().0[0].clone();
    addresses.push(Prefix { address: [10, 9, 0, 0].into(), len: 16 });
    assert_eq!(Station { mac, addresses }.to_string(), "02:00:00:00:00:01 10.0.0.1 fd00::1 10.9.0.0/16");
}

proptest! {
    /// The header's length, the options' and everything else may say what they like.
    #[test]
    fn arbitrary_frames_are_judged(kind in 0..4, bytes in vec(any::<u8>(), 14..200)) {
        let mut bytes = bytes;
        bytes[6..12].copy_from_slice(&OWN.octets());
        let ether_type: [u8; 2] = [[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0]][kind as usize];
        bytes[12..14].copy_from_slice(&ether_type);
        if bytes.len() > 20 && kind == 1 {
            (bytes[14], bytes[20]) = (0x60, [0, 44, 58, 60, 17][usize::from(bytes[20]) % 5]);
        }
        _ = port().check(OWN, &bytes);
        _ = port().check(ROUTER, &bytes);
    }
}
