//! What a fuzzer holds this floor to: [`crate::fuzzing`].

use etherparse::{Ethernet2Slice, LaxNetSlice, LaxSlicedPacket, SingleVlanSlice, TransportSlice};

use super::{
    MacAddr, arp,
    checksum::{copy_and_sum, pseudo_v6, sum, update16},
    describe::describe,
    dissect::{IpVersion, L3, L4Kind, TCP_HEADER_LEN, UDP_HEADER_LEN, dissect, set_ecn},
    ethernet::{self, Malformed},
    flow, hex, membership,
    ndisc::{Answerer, Neighbour, PROTOCOL_ICMPV6},
    probe::Probe,
    vlan,
};
use crate::fuzzing::{Script, inputs};

const MAC: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 7]);

/// Ethernet and one tag, as etherparse reads them; a tag that is taken off goes on again.
#[test]
fn fuzz_ethernet() {
    inputs(|frame| {
        match (ethernet::parse(frame), Ethernet2Slice::from_slice_without_fcs(frame)) {
            (Ok(ours), Ok(theirs)) => {
                assert_eq!((ours.dst.octets(), ours.src.octets()), (theirs.destination(), theirs.source()));
                assert_eq!(ours.ether_type, theirs.ether_type().0);
                if let Some(tag) = ours.tag {
                    let theirs = SingleVlanSlice::from_slice(theirs.payload_slice()).unwrap();
                    assert_eq!(tag.vid(), theirs.vlan_identifier().value());
                }
            }
            (Err(Malformed::Runt), Err(_)) => {}
            (Err(Malformed::TruncatedTag), Ok(theirs)) => {
                assert!(SingleVlanSlice::from_slice(theirs.payload_slice()).is_err());
            }
            (ours, theirs) => panic!("{ours:?}, and etherparse {theirs:?}"),
        }
        let mut room = frame.to_vec();
        let tpid = [frame.get(12), frame.get(13)];
        match vlan::pop(&mut room).map(|(tag, _)| tag) {
            None => assert_eq!(room, frame),
            Some(tag) => {
                let tpid = if tpid == [Some(&0x81), Some(&0)] { vlan::Tpid::Customer } else { vlan::Tpid::Service };
                vlan::push(&mut room, tag.to_bytes(tpid)).unwrap();
                assert_eq!(room, frame);
            }
        }
    });
}

/// Offsets lie inside, headers are those that etherparse finds, and setting ECN changes nothing else.
#[test]
fn fuzz_dissect() {
    inputs(|frame| {
        let found = dissect(frame);
        let theirs = LaxSlicedPacket::from_ethernet(frame);
        assert!(!describe(frame).to_string().is_empty());
        assert_eq!(flow::hash(frame, &found, 7), flow::hash(frame, &found, 7));
        if let Some(l4) = found.l4 {
            let fixed_len = match l4.kind {
                L4Kind::Tcp => TCP_HEADER_LEN,
                L4Kind::Udp => UDP_HEADER_LEN,
                L4Kind::Other => 1,
            };
            assert!(usize::from(l4.offset) + fixed_len <= frame.len());
            if let Ok(LaxSlicedPacket { transport: Some(TransportSlice::Udp(udp)), stop_err: None, .. }) = &theirs
                && l4.kind == L4Kind::Udp
            {
                assert_eq!((l4.src_port, l4.dst_port), (udp.source_port(), udp.destination_port()));
            }
        }
        let Some(l3) = found.l3 else { return };
        let fixed_len = if l3.version == IpVersion::V4 { 20 } else { 40 };
        assert!(usize::from(l3.offset) + fixed_len <= frame.len() && usize::from(l3.header_len) >= fixed_len);
        assert!(!found.ip_truncated && !found.ends_within_ip(frame.len()));
        match theirs.map(|theirs| theirs.net) {
            Ok(Some(LaxNetSlice::Ipv4(ip))) if l3.version == IpVersion::V4 => {
                let header = ip.header();
                assert_eq!((l3.ttl, l3.total_len), (header.ttl(), u32::from(header.total_len())));
                assert_eq!(usize::from(l3.header_len), usize::from(header.ihl()) * 4);
                assert_eq!(l3.fragment, header.is_fragmenting_payload());
            }
            Ok(Some(LaxNetSlice::Ipv6(ip))) if l3.version == IpVersion::V6 => {
                assert_eq!((l3.tos, l3.ttl), (ip.header().traffic_class(), ip.header().hop_limit()));
            }
            _ => {}
        }
        for ecn in 0..4 {
            let mut marked = frame.to_vec();
            set_ecn(&mut marked, &l3, ecn);
            assert_eq!(dissect(&marked).l3, Some(L3 { tos: l3.tos & !3 | ecn, ..l3 }));
            let at = usize::from(l3.offset);
            let header = at..at + usize::from(l3.header_len);
            if let (IpVersion::V4, Some(before)) = (l3.version, frame.get(header.clone()))
                && sum(before).checksum() == 0
            {
                assert_eq!(sum(&marked[header]).checksum(), 0, "a right checksum stays right");
            }
            set_ecn(&mut marked, &l3, l3.tos);
            // Zero has two forms as a checksum.
            if frame.get(at + 10..at + 12).is_some_and(|checksum| checksum != [0; 2] && checksum != [0xff; 2]) {
                assert_eq!(marked, frame);
            }
        }
    });
}

#[test]
fn fuzz_arp() {
    inputs(|frame| {
        let Some(question) = arp::Arp::parse(frame) else { return };
        let answer = question.reply(MAC);
        let read = arp::Arp::parse(&answer).expect("what is built here is read");
        assert_eq!((read.operation, read.sender_mac, read.sender_ip), (arp::REPLY, MAC, question.target_ip));
        assert_eq!((read.target_mac, read.target_ip), (question.sender_mac, question.sender_ip));
    });
}

#[test]
fn fuzz_ndisc() {
    inputs(|frame| {
        let Some(question) = Neighbour::parse(frame) else { return };
        for answerer in [Answerer::Vxlan, Answerer::Bridge] {
            let Some(answer) = question.advertisement(MAC, true, answerer) else { continue };
            let read = Neighbour::parse(&answer).expect("what is built here is read");
            assert_eq!((read.source, read.target), (question.target, question.target));
            let message = &answer[54..];
            let pseudo = pseudo_v6(read.source, read.destination, PROTOCOL_ICMPV6, message.len() as u32);
            assert_eq!(sum(message).combine(pseudo).checksum(), 0);
        }
    });
}

/// IGMP and MLD. Without the checksum a message says the same or more.
#[test]
fn fuzz_membership() {
    inputs(|frame| {
        let (checked, unchecked) = (membership::parse(frame, false), membership::parse(frame, true));
        if checked.is_ok() {
            assert_eq!(checked, unchecked);
        }
        let Ok(Some(packet)) = unchecked else { return };
        let _ = packet.is_to_everybody();
        if let Some(membership::Message::Records(records)) = packet.message {
            let records: Vec<_> = records.iter().collect();
            let sources: usize = records.iter().flatten().map(|record| record.sources().count()).sum();
            assert!(sources * 4 + records.iter().flatten().count() * 8 <= frame.len());
            let cut_off = records.iter().position(Result::is_err);
            assert!(cut_off.is_none_or(|at| at + 1 == records.len()), "nothing follows what is cut off");
        }
    });
}

#[test]
fn fuzz_probe() {
    inputs(|frame| {
        let Some(probe) = Probe::parse(frame) else { return };
        assert_eq!(Probe::parse(&probe.front(MAC)).map(|read| read.nonce).unwrap_or(probe.nonce), probe.nonce);
        assert_eq!(Probe::parse(&probe.answer().frame(MAC)), Some(probe.answer()));
    });
}

/// The sum in wide steps and that of RFC 1071's loop; of the whole, of its parts, of the copy, and after a change.
#[test]
fn fuzz_checksum() {
    inputs(|input| {
        let mut script = Script::new(input);
        let (cut, at, new) = (script.u16(), script.u16(), script.u16());
        let bytes = script.rest();
        let whole = sum(bytes);
        assert_eq!(whole.checksum(), slow(bytes));
        let (a, b) = bytes.split_at(usize::from(cut) % (bytes.len() + 1));
        let behind = if a.len() % 2 == 1 { sum(b).swapped() } else { sum(b) };
        assert_eq!(sum(a).combine(behind).checksum(), slow(bytes));
        let mut copy = vec![0; bytes.len()];
        assert_eq!((copy_and_sum(bytes, &mut copy).fold(), &copy[..]), (whole.fold(), bytes));
        if bytes.len() >= 2 {
            let at = usize::from(at) % (bytes.len() / 2) * 2;
            let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            copy[at..at + 2].copy_from_slice(&new.to_be_bytes());
            // Of zero there are two forms: modulo 0xffff they are one.
            assert_eq!(update16(whole.checksum(), old, new) % 0xffff, slow(&copy) % 0xffff);
        }
    });
}

/// The loop of RFC 1071 section 4.1.
fn slow(bytes: &[u8]) -> u16 {
    let mut sum: u64 = 0;
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Addresses and bytes as people write them: what is read is written so that it is read again.
#[test]
fn fuzz_written() {
    inputs(|input| {
        if let Some(bytes) = hex::decode(input) {
            assert!(hex::encode(&bytes).as_bytes().eq_ignore_ascii_case(input));
        }
        let Ok(text) = std::str::from_utf8(input) else { return };
        if let Ok(mac) = text.parse::<MacAddr>() {
            assert_eq!(mac.to_string().parse(), Ok(mac));
        }
        if let Ok(vni) = text.parse::<weft_vxlan::Vni>() {
            assert_eq!(vni.to_string().parse(), Ok(vni));
        }
    });
}
