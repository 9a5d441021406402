//! The answer to a packet that is too big for its way: ICMP "fragmentation needed" (RFC 792, RFC 1191 section 4) and ICMPv6
//! "packet too big" (RFC 4443 section 3.2).
//!
//! A router would answer with its own address. A bridge has none, so the answer comes from where the packet was going:
//! addresses and MACs change sides, and what was to be sent is quoted. That is what the kernel's tunnels do where they are
//! ports of a bridge (`net/ipv4/ip_tunnel_core.c`: `iptunnel_pmtud_build_icmp`, `iptunnel_pmtud_build_icmpv6`), and what is
//! written here is theirs byte for byte: TTL copied from the packet, DF set, identification and TOS zero.
//!
//! ```text
//!  Ethernet, tags | IP | ICMP | IP packet that was too big, its first bytes
//!  <- as it came, |    |      |
//!   ends swapped  | <------- 576 (IPv4) or 1280 (IPv6) bytes ----------->
//! ```
//!
//! What is quoted of a super-frame are its own first bytes, as the kernel quotes its buffers: the length of the whole and a
//! checksum that is only started. Who gets the answer looks at addresses, ports and TCP's sequence number.
//!
//! Tags stay. The kernel answers nothing that is tagged, because it looks at the outermost type.

use std::net::{Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;

use crate::wire::{
    MacAddr,
    checksum::{pseudo_v6, sum},
    dissect::{Dissected, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpVersion},
    ethernet::HEADER_LEN,
    vlan::TAG_LEN,
};

/// Bytes of the longest answer: an IPv6 packet of the smallest MTU, behind two tags.
pub const MAX_ANSWER_LEN: usize = HEADER_LEN + 2 * TAG_LEN + IPV6_MIN_MTU;

/// What every IPv4 host takes in one piece (RFC 791 section 3.1). An answer is no longer, and offers no less.
const IPV4_MIN_MTU: usize = 576;
/// What every link of IPv6 carries (RFC 8200 section 5); likewise.
const IPV6_MIN_MTU: usize = 1280;

/// Bytes of both ICMP headers.
const ICMP_HEADER_LEN: usize = 8;

/// Why nobody is told that a packet was too big.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoAnswer {
    /// No IP packet, or one whose header is cut off.
    #[error("it is not IP, and only IP has a message for that")]
    NotIp,
    /// DF is clear: the packet may be cut.
    #[error("it may be fragmented")]
    MayBeFragmented,
    /// It is a fragment: with DF, or one of IPv6 that is not the first.
    #[error("it is a fragment that may not be fragmented further")]
    Fragment,
    /// The MTU to tell is less than what every host and link must take.
    #[error("no host takes so small an MTU for an answer: 576 (IPv4) and 1280 (IPv6) are the least")]
    MtuTooSmall,
    /// It comes from an IP address that is nobody's, or goes to one of a group.
    #[error("its addresses are not those of one sender and one receiver")]
    Addresses,
    /// Its Ethernet destination is a group, in whose name nobody speaks.
    #[error("it goes to a group, and the answer would have to come from there")]
    FromGroup,
    /// Errors are not answered by errors.
    #[error("it is itself an ICMP error")]
    IcmpError,
    /// Extension headers of IPv6 that end nowhere, so that nobody knows whether it is an ICMPv6 error.
    #[error("nothing can be found behind its IPv6 extension headers")]
    NothingBehind,
}

/// The frame that tells the sender of `frame` that packets of at most `mtu` bytes pass. It goes back to where `frame` came
/// from.
///
/// # Errors
/// [`NoAnswer`]: it gets none.
pub fn answer(frame: &[u8], dissected: &Dissected, mtu: usize) -> Result<ArrayVec<u8, MAX_ANSWER_LEN>, NoAnswer> {
    let l3 = dissected.l3.ok_or(NoAnswer::NotIp)?;
    let (link, packet) = frame.split_at_checked(usize::from(l3.offset)).ok_or(NoAnswer::NotIp)?;
    let Some((&dst, &src, types)) = link.split_first_chunk::<6>().and_then(|(dst, rest)| {
        let (src, types) = rest.split_first_chunk::<6>()?;
        Some((dst, src, types))
    }) else {
        return Err(NoAnswer::NotIp);
    };
    let mut out = ArrayVec::new();
    let mut write = |bytes: &[u8]| out.try_extend_from_slice(bytes).expect("no more than two tags are skipped");
    match l3.version {
        IpVersion::V4 => {
            let header = packet.first_chunk().ok_or(NoAnswer::NotIp)?;
            check_v4(header, packet.get(usize::from(l3.header_len)..), mtu)?;
            check_link(dst)?;
            let quoted = &packet[..packet.len().min(IPV4_MIN_MTU - IPV4_HEADER_LEN - ICMP_HEADER_LEN)];
            let icmp = fragmentation_needed(quoted, mtu);
            let ip = answering_v4(header, icmp.len() + quoted.len());
            [&src[..], &dst, types, &ip, &icmp, quoted].into_iter().for_each(&mut write);
        }
        IpVersion::V6 => {
            let header = packet.first_chunk().ok_or(NoAnswer::NotIp)?;
            check_v6(header, packet, mtu)?;
            check_link(dst)?;
            let quoted = &packet[..packet.len().min(IPV6_MIN_MTU - IPV6_HEADER_LEN - ICMP_HEADER_LEN)];
            let ip = answering_v6(header, ICMP_HEADER_LEN + quoted.len());
            let icmp = packet_too_big(&ip, quoted, mtu);
            [&src[..], &dst, types, &ip, &icmp, quoted].into_iter().for_each(&mut write);
        }
    }
    Ok(out)
}

/// The answer comes from the receiver's MAC, and no frame comes from a group. The kernel makes such answers, and its bridge
/// drops them.
fn check_link(dst: [u8; 6]) -> Result<(), NoAnswer> {
    if MacAddr::new(dst).is_valid_source() { Ok(()) } else { Err(NoAnswer::FromGroup) }
}

/// `iptunnel_pmtud_check_icmp`
fn check_v4(header: &[u8; IPV4_HEADER_LEN], behind: Option<&[u8]>, mtu: usize) -> Result<(), NoAnswer> {
    const DF: u16 = 0x4000;
    let &[.., frag0, frag1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = header;
    match u16::from_be_bytes([frag0, frag1]) {
        DF => {}
        flags if flags & DF == 0 => return Err(NoAnswer::MayBeFragmented),
        _ => return Err(NoAnswer::Fragment),
    }
    if mtu < IPV4_MIN_MTU {
        return Err(NoAnswer::MtuTooSmall);
    }
    let (src, dst) = (Ipv4Addr::new(s0, s1, s2, s3), Ipv4Addr::new(d0, d1, d2, d3));
    let is_group = |ip: Ipv4Addr| ip.is_broadcast() || ip.is_multicast();
    if is_group(dst) || is_group(src) || src.is_unspecified() || src.is_loopback() {
        return Err(NoAnswer::Addresses);
    }
    let kind = behind.and_then(<[u8]>::first);
    match (protocol, kind) {
        (PROTOCOL_ICMP, None | Some(3 | 4 | 5 | 11 | 12)) => Err(NoAnswer::IcmpError),
        _ => Ok(()),
    }
}

/// What `iptunnel_pmtud_check_icmpv6` means to do. It compares whole types of addresses where it should look at their bits, so
/// that it answers loopback and group sources; and it looks for extension headers 14 bytes too early (`ipv6_skip_exthdr` counts
/// from the Ethernet header there), so that it finds something else behind them.
fn check_v6(header: &[u8; IPV6_HEADER_LEN], packet: &[u8], mtu: usize) -> Result<(), NoAnswer> {
    if mtu < IPV6_MIN_MTU {
        return Err(NoAnswer::MtuTooSmall);
    }
    let (src, dst) = ends_v6(header);
    if src.is_unspecified() || src.is_multicast() || src.is_loopback() || dst.is_multicast() {
        return Err(NoAnswer::Addresses);
    }
    let (protocol, at) = behind_extensions(header, packet)?;
    match (protocol, packet.get(at)) {
        // Errors are 1 to 127, but a host hears of those that it does not know; 137 is a redirect.
        (PROTOCOL_ICMPV6, None | Some(1..=4 | 137)) => Err(NoAnswer::IcmpError),
        _ => Ok(()),
    }
}

/// What protocol is behind the extension headers, and where it begins (`net/ipv6/exthdrs_core.c`: `ipv6_skip_exthdr`).
fn behind_extensions(header: &[u8; IPV6_HEADER_LEN], packet: &[u8]) -> Result<(u8, usize), NoAnswer> {
    // IANA protocol numbers; RFC 8200 section 4, RFC 4302 section 2.2.
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const NO_NEXT_HEADER: u8 = 59;
    const DESTINATION_OPTIONS: u8 = 60;
    let (mut protocol, mut at) = (header[6], IPV6_HEADER_LEN);
    // More than eight of them are nobody's honest packet.
    for _ in 0..8 {
        let extension = || packet.get(at..).and_then(<[u8]>::first_chunk::<4>).ok_or(NoAnswer::NothingBehind);
        let (next, len) = match protocol {
            NO_NEXT_HEADER => return Err(NoAnswer::NothingBehind),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let &[next, len, ..] = extension()?;
                (next, (usize::from(len) + 1) * 8)
            }
            AUTHENTICATION => {
                let &[next, len, ..] = extension()?;
                (next, (usize::from(len) + 2) * 4)
            }
            FRAGMENT => {
                let &[next, _, offset0, offset1] = extension()?;
                if u16::from_be_bytes([offset0, offset1]) & !0x7 != 0 {
                    return Err(NoAnswer::Fragment);
                }
                (next, 8)
            }
            protocol => return Ok((protocol, at)),
        };
        (protocol, at) = (next, at + len);
    }
    Err(NoAnswer::NothingBehind)
}

/// The ICMP header: type 3, code 4, and the MTU in its last two bytes.
fn fragmentation_needed(quoted: &[u8], mtu: usize) -> [u8; ICMP_HEADER_LEN] {
    let [m0, m1] = u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes();
    let mut icmp = [3, 4, 0, 0, 0, 0, m0, m1];
    let checksum = sum(&icmp).combine(sum(quoted)).checksum();
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    icmp
}

/// The ICMPv6 header behind `ip`: type 2, and the MTU in its last four bytes.
fn packet_too_big(ip: &[u8; IPV6_HEADER_LEN], quoted: &[u8], mtu: usize) -> [u8; ICMP_HEADER_LEN] {
    let [m0, m1, m2, m3] = u32::try_from(mtu).unwrap_or(u32::MAX).to_be_bytes();
    let mut icmp = [2, 0, 0, 0, m0, m1, m2, m3];
    let (src, dst) = ends_v6(ip);
    let pseudo = pseudo_v6(src, dst, PROTOCOL_ICMPV6, (icmp.len() + quoted.len()) as u32);
    let checksum = pseudo.combine(sum(&icmp)).combine(sum(quoted)).checksum();
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    icmp
}

/// An IPv4 header the other way round.
fn answering_v4(of: &[u8; IPV4_HEADER_LEN], payload_len: usize) -> [u8; IPV4_HEADER_LEN] {
    let &[_, _, _, _, _, _, _, _, ttl, _, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = of;
    let [len0, len1] = ((IPV4_HEADER_LEN + payload_len) as u16).to_be_bytes();
    let mut ip = [
        0x45,
        0,
        len0,
        len1,
        0,
        0,
        0x40,
        0,
        ttl,
        PROTOCOL_ICMP,
        0,
        0, // checksum follows
        d0,
        d1,
        d2,
        d3,
        s0,
        s1,
        s2,
        s3,
    ];
    let checksum = sum(&ip).checksum();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    ip
}

/// An IPv6 header the other way round.
fn answering_v6(of: &[u8; IPV6_HEADER_LEN], payload_len: usize) -> [u8; IPV6_HEADER_LEN] {
    let mut ip = [0; IPV6_HEADER_LEN];
    ip[0] = 0x60;
    ip[4..6].copy_from_slice(&(payload_len as u16).to_be_bytes());
    (ip[6], ip[7]) = (PROTOCOL_ICMPV6, of[7]);
    ip[8..24].copy_from_slice(&of[24..40]);
    ip[24..40].copy_from_slice(&of[8..24]);
    ip
}

fn ends_v6(header: &[u8; IPV6_HEADER_LEN]) -> (Ipv6Addr, Ipv6Addr) {
    let address = |at: usize| Ipv6Addr::from(*header[at..].first_chunk::<16>().expect("the header has both addresses"));
    (address(8), address(24))
}

/// IANA protocol numbers.
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMPV6: u8 = 58;

#[cfg(test)]
mod tests {
    use etherparse::{
        Icmpv4Type, Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice, icmpv4::DestUnreachableHeader,
    };
    use proptest::{collection::vec, prelude::*};
    use smoltcp::{
        phy::ChecksumCapabilities,
        wire::{
            EthernetFrame, Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, Icmpv6Packet, Icmpv6Repr, Ipv4Packet,
            Ipv6Packet,
        },
    };

    use super::*;
    use crate::wire::dissect::dissect;

    const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

    /// From A to B.
    fn udp4(payload_len: usize) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2(A, B).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 61).udp(1111, 2222);
        let mut frame = Vec::new();
        builder.write(&mut frame, &vec![7; payload_len]).unwrap();
        frame
    }

    fn udp6(payload_len: usize) -> Vec<u8> {
        let (src, dst) = ("fd00::1".parse::<Ipv6Addr>().unwrap(), "fd00::2".parse::<Ipv6Addr>().unwrap());
        let builder = PacketBuilder::ethernet2(A, B).ipv6(src.octets(), dst.octets(), 61).udp(1111, 2222);
        let mut frame = Vec::new();
        builder.write(&mut frame, &vec![7; payload_len]).unwrap();
        frame
    }

    /// An IPv6 packet of 1400 bytes with `first` behind its header.
    fn ipv6_with(next: u8, first: &[u8]) -> Vec<u8> {
        let mut frame = udp6(1400);
        frame[20] = next;
        frame[54..54 + first.len()].copy_from_slice(first);
        frame
    }

    fn answer_to(frame: &[u8], mtu: usize) -> Result<Vec<u8>, NoAnswer> {
        answer(frame, &dissect(frame), mtu).map(|answer| answer.to_vec())
    }

    fn with(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    }

    #[test]
    fn an_answer_to_ipv4_comes_from_the_receiver_and_quotes_548_bytes() {
        let frame = udp4(1500);
        let answer = answer_to(&frame, 1450).unwrap();
        assert_eq!(answer.len(), 14 + 576);
        let ethernet = EthernetFrame::new_checked(&answer).unwrap();
        assert_eq!((ethernet.dst_addr().0, ethernet.src_addr().0), (A, B));
        let ip = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
        assert!(ip.verify_checksum() && ip.dont_frag());
        assert_eq!((ip.src_addr(), ip.dst_addr()), ([10, 0, 0, 2].into(), [10, 0, 0, 1].into()));
        assert_eq!((ip.hop_limit(), ip.ident(), ip.dscp(), ip.total_len()), (61, 0, 0, 576));
        let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum());
        assert_eq!(icmp.data()[..], frame[14..14 + 548]);
        let code = Icmpv4DstUnreachable::from(icmp.msg_code());
        assert_eq!((icmp.msg_type(), code), (Icmpv4Message::DstUnreachable, Icmpv4DstUnreachable::FragRequired));
        assert_eq!(answer[14 + 20 + 6..14 + 20 + 8], 1450_u16.to_be_bytes());
    }

    #[test]
    fn an_answer_to_ipv6_is_1280_bytes() {
        let frame = udp6(1500);
        let answer = answer_to(&frame, 1430).unwrap();
        assert_eq!(answer.len(), 14 + 1280);
        let ip = Ipv6Packet::new_checked(&answer[14..]).unwrap();
        assert_eq!((ip.src_addr(), ip.dst_addr()), ("fd00::2".parse().unwrap(), "fd00::1".parse().unwrap()));
        assert_eq!((ip.hop_limit(), ip.traffic_class(), ip.flow_label()), (61, 0, 0));
        let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
        assert!(icmp.verify_checksum(&ip.src_addr(), &ip.dst_addr()));
        assert_eq!(icmp.payload()[..], frame[14..14 + 1232]);
        let parsed = Icmpv6Repr::parse(&ip.src_addr(), &ip.dst_addr(), &icmp, &ChecksumCapabilities::default());
        assert!(matches!(parsed, Ok(Icmpv6Repr::PktTooBig { mtu: 1430, .. })), "{parsed:?}");
    }

    #[test]
    fn tags_stay_in_the_answer() {
        for tags in [&[0x81, 0, 0x60, 5][..], &[0x88, 0xa8, 0, 9, 0x81, 0, 0xe0, 5]] {
            for frame in [udp4(1500), udp6(1500)] {
                let tagged = [&frame[..12], tags, &frame[12..]].concat();
                let (plain, answer) = (answer_to(&frame, 1400).unwrap(), answer_to(&tagged, 1400).unwrap());
                assert_eq!(answer, [&plain[..12], tags, &plain[12..]].concat());
            }
        }
    }

    #[test]
    fn ipv4_is_answered_if_df_is_all_that_its_flags_say() {
        let flags = |bytes: [u8; 2]| answer_to(&with(udp4(1500), 20, &bytes), 1450).err();
        assert_eq!(flags([0x40, 0]), None);
        assert_eq!(flags([0, 0]), Some(NoAnswer::MayBeFragmented));
        assert_eq!(flags([0x20, 3]), Some(NoAnswer::MayBeFragmented));
        for bytes in [[0x60, 0], [0x40, 1], [0xc0, 0]] {
            assert_eq!(flags(bytes), Some(NoAnswer::Fragment), "{bytes:?}");
        }
    }

    #[test]
    fn an_mtu_that_every_host_takes_anyway_is_not_told() {
        assert_eq!(answer_to(&udp4(1500), 576).err(), None);
        assert_eq!(answer_to(&udp4(1500), 575), Err(NoAnswer::MtuTooSmall));
        assert_eq!(answer_to(&udp6(1500), 1280).err(), None);
        assert_eq!(answer_to(&udp6(1500), 1279), Err(NoAnswer::MtuTooSmall));
        assert_eq!(answer_to(&udp4(1500), 100_000).unwrap()[40..42], [0xff, 0xff]);
    }

    #[test]
    fn only_one_sender_and_one_receiver_get_answers() {
        let refused = Some(NoAnswer::Addresses);
        assert!(answer_to(&with(udp4(1500), 26, &[0, 1, 2, 3]), 1450).is_ok(), "0.0.0.0 alone is nobody");
        for src in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4]] {
            assert_eq!(answer_to(&with(udp4(1500), 26, &src), 1450).err(), refused, "from {src:?}");
        }
        for dst in [[239, 1, 1, 1], [255; 4]] {
            assert_eq!(answer_to(&with(udp4(1500), 30, &dst), 1450).err(), refused, "to {dst:?}");
        }
        for src in ["::", "::1", "ff02::1", "ff0e::1"] {
            let octets = src.parse::<Ipv6Addr>().unwrap().octets();
            assert_eq!(answer_to(&with(udp6(1500), 22, &octets), 1430).err(), refused, "from {src}");
        }
        let group = "ff02::1".parse::<Ipv6Addr>().unwrap().octets();
        assert_eq!(answer_to(&with(udp6(1500), 38, &group), 1430).err(), refused);
        for mac in [[1, 0, 0x5e, 0, 0, 1], [0xff; 6], [0; 6]] {
            assert_eq!(answer_to(&with(udp4(1500), 0, &mac), 1450), Err(NoAnswer::FromGroup));
            assert_eq!(answer_to(&with(udp6(1500), 0, &mac), 1430), Err(NoAnswer::FromGroup));
        }
    }

    #[test]
    fn errors_are_not_answered_by_errors() {
        let icmp = |kind: u8| answer_to(&with(with(udp4(1500), 23, &[1]), 34, &[kind]), 1450).err();
        for kind in [3, 4, 5, 11, 12] {
            assert_eq!(icmp(kind), Some(NoAnswer::IcmpError), "type {kind}");
        }
        assert_eq!((icmp(0), icmp(8), icmp(13)), (None, None, None));
        let icmp = |kind: u8| answer_to(&ipv6_with(58, &[kind]), 1300).err();
        for kind in [1, 2, 3, 4, 137] {
            assert_eq!(icmp(kind), Some(NoAnswer::IcmpError), "type {kind}");
        }
        assert_eq!((icmp(128), icmp(129), icmp(135)), (None, None, None));
    }

    #[test]
    fn an_error_behind_extension_headers_is_one() {
        // Destination options, a fragment header that says "first", authentication of 12 bytes, then a redirect.
        let chain = [[44, 0, 0, 0, 0, 0, 0, 0].as_slice(), &[51, 0, 0, 1, 0, 0, 0, 9], &[58, 1], &[0; 10], &[137]];
        assert_eq!(answer_to(&ipv6_with(60, &chain.concat()), 1300).err(), Some(NoAnswer::IcmpError));
        let echo = [&chain[..4].concat()[..], &[128]].concat();
        assert_eq!(answer_to(&ipv6_with(60, &echo), 1300).err(), None);
        assert_eq!(answer_to(&ipv6_with(44, &[17, 0, 0, 8, 0, 0, 0, 9]), 1300).err(), Some(NoAnswer::Fragment));
        assert_eq!(answer_to(&ipv6_with(59, &[]), 1300).err(), Some(NoAnswer::NothingBehind));
        assert_eq!(answer_to(&ipv6_with(60, &[60, 255]), 1300).err(), Some(NoAnswer::NothingBehind));
        assert_eq!(answer_to(&ipv6_with(0, &[0; 200]), 1300).err(), Some(NoAnswer::NothingBehind));
    }

    #[test]
    fn what_is_not_ip_has_no_answer() {
        let arp = with(udp4(1500), 12, &[8, 6]);
        assert_eq!(answer_to(&arp, 1450), Err(NoAnswer::NotIp));
        assert_eq!(answer_to(&udp4(1500)[..33], 1450), Err(NoAnswer::NotIp));
        assert_eq!(answer_to(&[], 1450), Err(NoAnswer::NotIp));
    }

    #[test]
    fn etherparse_reads_the_mtu() {
        let answer = answer_to(&udp4(1500), 1450).unwrap();
        let packet = SlicedPacket::from_ethernet(&answer).unwrap();
        let Some(TransportSlice::Icmpv4(icmp)) = packet.transport else { panic!("{packet:?}") };
        let told = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1450 };
        assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(told));
        assert_eq!(icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload()));
        let answer = answer_to(&udp6(1500), 1430).unwrap();
        let packet = SlicedPacket::from_ethernet(&answer).unwrap();
        let (Some(TransportSlice::Icmpv6(icmp)), Some(NetSlice::Ipv6(ip))) = (&packet.transport, &packet.net) else {
            panic!("{packet:?}")
        };
        assert_eq!(icmp.icmp_type(), Icmpv6Type::PacketTooBig { mtu: 1430 });
        assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_right_or_not_at_all(
            mut bytes in vec(any::<u8>(), 0..1400),
            v6: bool, head in vec(any::<u8>(), 0..40), mtu in 0..2000usize,
        ) {
            let whole = if v6 { udp6(0) } else { udp4(0) };
            let kept = whole.len() - head.len().min(whole.len() - 14);
            bytes.splice(0..0, whole[..kept].iter().copied());
            if let Ok(answer) = answer_to(&bytes, mtu) {
                let payload = &answer[14..];
                if v6 {
                    let ip = Ipv6Packet::new_checked(payload).unwrap();
                    let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
                    prop_assert!(icmp.verify_checksum(&ip.src_addr(), &ip.dst_addr()));
                } else {
                    let ip = Ipv4Packet::new_checked(payload).unwrap();
                    prop_assert!(ip.verify_checksum() && Icmpv4Packet::new_checked(ip.payload()).unwrap().verify_checksum());
                }
            }
        }
    }
}
