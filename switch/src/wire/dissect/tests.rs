use etherparse::{
    IpFragOffset, IpNumber, Ipv4Header, Ipv6Header, LaxNetSlice, LaxSlicedPacket, PacketBuilder, TransportSlice, VlanId,
};
use proptest::{collection::vec, prelude::*};

use super::*;

const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);

fn udp4(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MACS.0, MACS.1)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(1111, 2222)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

#[test]
fn a_frame_that_ends_within_its_ip_header_is_known_behind_tags_too() {
    let plain = udp4(b"");
    let tagged = [&plain[..12], &[0x81, 0, 0, 5], &plain[12..]].concat();
    let twice = [&tagged[..12], &[0x88, 0xa8, 0, 6], &tagged[12..]].concat();
    for (whole, header_at) in [(plain, 14), (tagged, 18), (twice, 22)] {
        for len in 0..whole.len() {
            let ends_within_ip = dissect(&whole[..len]).ends_within_ip(len);
            assert_eq!(ends_within_ip, (header_at..header_at + 20).contains(&len), "{len} of {}", whole.len());
        }
    }
    let v6 = ipv6_with(&[], 59, b"");
    assert!(dissect(&v6[..53]).ends_within_ip(53) && !dissect(&v6).ends_within_ip(54));
    let mut nonsense = udp4(b"");
    nonsense[14] = 0;
    assert!(!dissect(&nonsense).ends_within_ip(nonsense.len()), "it makes no sense, but is all there");
}

/// An IPv6 packet with these extension headers, given as (its own number, bytes behind the next header's number).
fn ipv6_with(extensions: &[(u8, Vec<u8>)], last: u8, rest: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let numbers = extensions.iter().map(|(number, _)| *number).chain([last]).collect::<Vec<_>>();
    for ((_, body), next) in extensions.iter().zip(&numbers[1..]) {
        packet.push(*next);
        packet.extend(body);
    }
    packet.extend(rest);
    let mut header = Ipv6Header { next_header: IpNumber(numbers[0]), hop_limit: 7, ..Default::default() };
    header.traffic_class = 0xb9;
    header.set_payload_length(packet.len()).unwrap();
    let mut frame = [MACS.1, MACS.0].concat();
    frame.extend([0x86, 0xdd]);
    header.write(&mut frame).unwrap();
    frame.extend(packet);
    frame
}

const UDP_HEADER: [u8; 8] = [0x11, 0x11, 0x22, 0x22, 0, 8, 0, 0];

#[test]
fn ports_of_udp_are_found() {
    let found = dissect(&udp4(b"x"));
    let l4 = L4 { offset: 34, kind: L4Kind::Udp, src_port: 1111, dst_port: 2222 };
    assert_eq!(found.l4, Some(l4));
    assert_eq!((found.ether_type, found.tag_count, found.ip_truncated), (ETHER_TYPE_IPV4, 0, false));
    let l3 = found.l3.unwrap();
    assert_eq!((l3.offset, l3.version, l3.header_len), (14, IpVersion::V4, 20));
    assert_eq!((l3.ttl, l3.protocol, l3.total_len), (64, PROTOCOL_UDP, 29));
}

#[test]
fn padding_behind_the_packet_is_no_transport_header() {
    let mut frame = udp4(b"");
    frame[16..18].copy_from_slice(&27_u16.to_be_bytes());
    frame.resize(60, 0);
    assert_eq!(dissect(&frame).l4, None);
    // A length of zero is one that did not fit.
    frame[16..18].copy_from_slice(&[0, 0]);
    assert!(dissect(&frame).l4.is_some());
}

#[test]
fn a_truncated_ip_header_shows_only_before_tags() {
    let frame = udp4(b"");
    assert!(!dissect(&frame[..34]).ip_truncated);
    assert!(dissect(&frame[..33]).ip_truncated);
    assert!(dissect(&frame[..14]).ip_truncated);
    let v6 = ipv6_with(&[], PROTOCOL_UDP, &UDP_HEADER);
    assert!(!dissect(&v6[..54]).ip_truncated);
    assert!(dissect(&v6[..53]).ip_truncated);
    let mut tagged = frame[..12].to_vec();
    tagged.extend([0x81, 0, 0, 1, 8, 0]);
    assert_eq!(dissect(&tagged), Dissected { ether_type: ETHER_TYPE_IPV4, tag_count: 1, ..Default::default() });
}

#[test]
fn fragments_have_no_ports_not_even_the_first() {
    for flags_offset in [0x2000_u16, 0x2001, 0x0001, 0x6000] {
        let mut frame = udp4(b"12345678");
        frame[20..22].copy_from_slice(&flags_offset.to_be_bytes());
        let found = dissect(&frame);
        assert!(found.l3.unwrap().fragment);
        assert_eq!(found.l4, None);
    }
    let mut whole = udp4(b"");
    whole[20] = 0x40;
    let found = dissect(&whole);
    assert!(found.l3.unwrap().dont_fragment && !found.l3.unwrap().fragment);
    assert!(found.l4.is_some());
}

#[test]
fn extension_headers_are_walked_to_the_ports() {
    let short = vec![0; 7];
    let long = [vec![2], vec![0; 22]].concat();
    let frame = ipv6_with(&[(0, short.clone()), (60, long), (43, short)], PROTOCOL_UDP, &UDP_HEADER);
    let found = dissect(&frame);
    let l3 = found.l3.unwrap();
    assert_eq!((usize::from(l3.header_len), l3.protocol), (40 + 8 + 24 + 8, PROTOCOL_UDP));
    assert_eq!((l3.tos, l3.ttl, l3.dont_fragment), (0xb9, 7, true));
    let ports = found.l4.map(|l4| (usize::from(l4.offset), l4.src_port, l4.dst_port));
    assert_eq!(ports, Some((14 + 80, 0x1111, 0x2222)));
}

#[test]
fn first_and_later_ipv6_fragments_look_alike_and_atomic_ones_are_whole() {
    // Destination options behind the fragment header exist in the first fragment only.
    let first = ipv6_with(&[(44, vec![0, 0, 1, 0, 0, 0, 9])], 60, &[PROTOCOL_UDP, 0, 0, 0, 0, 0, 0, 0]);
    let later = ipv6_with(&[(44, vec![0, 5, 0x38, 0, 0, 0, 9])], 60, &[0xaa; 8]);
    for frame in [first, later] {
        let found = dissect(&frame);
        let l3 = found.l3.unwrap();
        assert_eq!((l3.fragment, l3.protocol, l3.header_len, found.l4), (true, 60, 48, None));
    }
    let atomic = dissect(&ipv6_with(&[(44, vec![0, 0, 0, 0, 0, 0, 9])], PROTOCOL_UDP, &UDP_HEADER));
    assert!(!atomic.l3.unwrap().fragment && atomic.l4.is_some());
}

#[test]
fn the_walk_through_extension_headers_ends() {
    let nine = vec![(60, vec![0; 7]); 9];
    let found = dissect(&ipv6_with(&nine, PROTOCOL_UDP, &UDP_HEADER));
    assert_eq!(found.l3.unwrap().protocol, 60);
    assert_eq!(found.l4.map(|l4| l4.kind), Some(L4Kind::Other));
    let longest = vec![(60, [vec![255], vec![0; 2046]].concat()); 8];
    let found = dissect(&ipv6_with(&longest, PROTOCOL_UDP, &UDP_HEADER));
    assert_eq!(found.l4.map(|l4| (usize::from(l4.offset), l4.kind)), Some((14 + 40 + 8 * 2048, L4Kind::Udp)));
}

#[test]
fn two_tags_are_skipped_and_a_third_is_not() {
    let inner = &udp4(b"")[12..];
    for (tags, count) in [(1, 1), (2, 2), (3, 2)] {
        let mut frame = [MACS.1, MACS.0].concat();
        frame.extend([0x88, 0xa8, 0, 9, 0x81, 0, 0, 1, 0x81, 0, 0, 2][12 - 4 * tags..].iter());
        frame.extend(inner);
        let found = dissect(&frame);
        assert_eq!(found.tag_count, count);
        assert_eq!(found.l4.map(|l4| usize::from(l4.offset)), (tags < 3).then_some(34 + 4 * tags));
        assert_eq!(found.ether_type, if tags < 3 { ETHER_TYPE_IPV4 } else { TPID_8021Q });
    }
}

#[test]
fn another_version_than_the_type_says_is_no_header() {
    let mut frame = udp4(b"");
    frame[14] = 0x65;
    assert_eq!(dissect(&frame).l3, None);
    frame[14] = 0x44;
    assert_eq!(dissect(&frame).l3, None);
}

proptest! {
    #[test]
    fn agrees_with_etherparse(
        tags in 0..3usize, v6: bool, tcp: bool, ports: (u16, u16), ttl: u8, payload in vec(any::<u8>(), 0..30),
    ) {
        let step = PacketBuilder::ethernet2(MACS.0, MACS.1);
        let id = |id| VlanId::try_new(id).unwrap();
        let step = match tags {
            0 => if v6 { step.ipv6([1; 16], [2; 16], ttl) } else { step.ipv4([1; 4], [2; 4], ttl) },
            1 => {
                let step = step.single_vlan(id(5));
                if v6 { step.ipv6([1; 16], [2; 16], ttl) } else { step.ipv4([1; 4], [2; 4], ttl) }
            }
            _ => {
                let step = step.double_vlan(id(5), id(6));
                if v6 { step.ipv6([1; 16], [2; 16], ttl) } else { step.ipv4([1; 4], [2; 4], ttl) }
            }
        };
        let mut frame = Vec::new();
        if tcp {
            step.tcp(ports.0, ports.1, 1, 2).write(&mut frame, &payload).unwrap();
        } else {
            step.udp(ports.0, ports.1).write(&mut frame, &payload).unwrap();
        }
        let found = dissect(&frame);
        let l3 = found.l3.unwrap();
        prop_assert_eq!(usize::from(found.tag_count), tags);
        prop_assert_eq!(usize::from(l3.offset), 14 + 4 * tags);
        prop_assert_eq!(l3.version, if v6 { IpVersion::V6 } else { IpVersion::V4 });
        prop_assert_eq!(l3.total_len as usize, frame.len() - usize::from(l3.offset));
        prop_assert_eq!(l3.ttl, ttl);
        let l4 = found.l4.unwrap();
        prop_assert_eq!(l4.kind, if tcp { L4Kind::Tcp } else { L4Kind::Udp });
        prop_assert_eq!((l4.src_port, l4.dst_port), ports);
    }

    /// Whatever etherparse finds in damaged frames we find too, and the other way round.
    #[test]
    fn damaged_frames_give_what_etherparse_finds(
        v6: bool, payload in vec(any::<u8>(), 0..30), damage in vec((12..60usize, any::<u8>()), 0..3),
    ) {
        let mut frame = if v6 { ipv6_with(&[(0, vec![0; 7])], PROTOCOL_UDP, &UDP_HEADER) } else { udp4(&payload) };
        for (at, value) in damage {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        // An EtherType that contradicts the version: etherparse believes the version, the kernel and weft neither.
        let version = frame[14] >> 4;
        prop_assume!(match frame[12..14] {
            [0x08, 0x00] => version == 4,
            [0x86, 0xdd] => version == 6,
            _ => true,
        });
        let found = dissect(&frame);
        let theirs = LaxSlicedPacket::from_ethernet(&frame).unwrap();
        if let Some(TransportSlice::Udp(udp)) = &theirs.transport
            // Where the packet's length is shorter than its header, etherparse takes the frame's; the packet has none.
            && found.l3.is_some_and(|l3| !l3.fragment && l3.total_len >= u32::from(l3.header_len))
            && theirs.stop_err.is_none()
        {
            let ports = found.l4.map(|l4| (l4.src_port, l4.dst_port));
            prop_assert_eq!(ports, Some((udp.source_port(), udp.destination_port())));
        }
        match (found.l3.map(|l3| (l3, l3.version)), &theirs.net) {
            (Some((l3, IpVersion::V4)), Some(LaxNetSlice::Ipv4(ip))) => {
                let header: Ipv4Header = ip.header().to_header();
                prop_assert_eq!(usize::from(l3.header_len), header.header_len());
                prop_assert_eq!((l3.protocol, l3.ttl), (header.protocol.0, header.time_to_live));
                prop_assert_eq!(l3.tos, header.dscp.value() << 2 | header.ecn.value());
                prop_assert_eq!(l3.dont_fragment, header.dont_fragment);
                let fragment = header.more_fragments || header.fragment_offset != IpFragOffset::ZERO;
                prop_assert_eq!(l3.fragment, fragment);
            }
            (Some((l3, IpVersion::V6)), Some(LaxNetSlice::Ipv6(ip))) => {
                prop_assert_eq!((l3.tos, l3.ttl), (ip.header().traffic_class(), ip.header().hop_limit()));
                prop_assert_eq!(l3.total_len, 40 + u32::from(ip.header().payload_length()));
            }
            (None, Some(LaxNetSlice::Ipv4(_) | LaxNetSlice::Ipv6(_))) => {
                prop_assert!(false, "missed {:?}", theirs.net);
            }
            // Options that are cut off are no header to etherparse; here only their transport header is missing.
            (Some((l3, _)), None) => {
                prop_assert!(usize::from(l3.offset + l3.header_len) > frame.len() && found.l4.is_none());
            }
            _ => {}
        }
    }

    #[test]
    fn ecn_is_set_and_the_checksum_stays_right(tos: u8, ecn in 0..4_u8, id: u16, options in 0..3usize) {
        let mut header = Ipv4Header::new(0, 64, IpNumber::ICMP, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
        header.identification = id;
        header.dscp = etherparse::IpDscp::try_new(tos >> 2).unwrap();
        header.ecn = etherparse::IpEcn::try_new(tos & 3).unwrap();
        header.options = vec![1; options * 4].as_slice().try_into().unwrap();
        header.header_checksum = header.calc_header_checksum();
        let mut frame = [MACS.1, MACS.0].concat();
        frame.extend([8, 0]);
        header.write_raw(&mut frame).unwrap();

        let l3 = dissect(&frame).l3.unwrap();
        set_ecn(&mut frame, &l3, ecn);
        header.ecn = etherparse::IpEcn::try_new(ecn).unwrap();
        header.header_checksum = header.calc_header_checksum();
        let mut expected = Vec::new();
        header.write_raw(&mut expected).unwrap();
        prop_assert_eq!(&frame[14..], expected);
    }

    #[test]
    fn ecn_of_ipv6_is_set_and_nothing_else(class: u8, label in 0..1_u32 << 20, ecn in 0..4_u8) {
        let flow_label = label.try_into().unwrap();
        let mut header = Ipv6Header { traffic_class: class, flow_label, ..Default::default() };
        let mut frame = [MACS.1, MACS.0].concat();
        frame.extend([0x86, 0xdd]);
        header.write(&mut frame).unwrap();
        let l3 = dissect(&frame).l3.unwrap();
        set_ecn(&mut frame, &l3, ecn);
        header.traffic_class = class & !3 | ecn;
        prop_assert_eq!(&frame[14..], header.to_bytes());
    }

    #[test]
    fn any_bytes_give_offsets_inside(
        mut bytes in vec(any::<u8>(), 0..120),
        head in prop::sample::select(vec![
            &[0x08, 0x00, 0x45][..], &[0x86, 0xdd, 0x60], &[0x81, 0x00, 0, 0, 0x86, 0xdd, 0x60], &[],
        ]),
    ) {
        if bytes.len() >= 12 + head.len() {
            bytes[12..12 + head.len()].copy_from_slice(head);
        }
        let found = dissect(&bytes);
        if let Some(l3) = found.l3 {
            let fixed = if l3.version == IpVersion::V4 { 20 } else { 40 };
            prop_assert!(usize::from(l3.offset) + fixed <= bytes.len() && usize::from(l3.header_len) >= fixed);
            prop_assert!(!found.ip_truncated);
            set_ecn(&mut bytes, &l3, 3);
            prop_assert_eq!(dissect(&bytes).l3, Some(L3 { tos: l3.tos | 3, ..l3 }));
            set_ecn(&mut bytes[..20.min(usize::from(l3.offset))], &l3, 3);
        }
        if let Some(l4) = found.l4 {
            let fixed = match l4.kind {
                L4Kind::Tcp => TCP_HEADER_LEN,
                L4Kind::Udp => UDP_HEADER_LEN,
                L4Kind::Other => 1,
            };
            prop_assert!(usize::from(l4.offset) + fixed <= bytes.len());
        }
    }
}
