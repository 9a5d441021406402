//! What a fuzzer holds this floor to: [`crate::fuzzing`].

use super::{Fragments, mss, too_big};
use crate::{
    fuzzing::{Script, inputs},
    wire::{
        checksum::{pseudo_v6, sum},
        dissect::{IpVersion, L4Kind, dissect},
    },
};

/// Any frame and any MTU: the ICMP answer is a right packet about this one, the fragments put together are the packet, and a
/// clamped SYN promises no more than fits.
#[test]
fn fuzz_too_long() {
    inputs(|input| {
        let mut script = Script::new(input);
        let mtu = usize::from(script.u16());
        let frame = script.rest();
        answered(frame, mtu);
        fragmented(frame, mtu);
        clamped(frame, mtu);
    });
}

fn answered(frame: &[u8], mtu: usize) {
    let found = dissect(frame);
    let Ok(answer) = too_big::answer(frame, &found, mtu) else { return };
    assert_eq!((&answer[..6], &answer[6..12]), (&frame[6..12], &frame[..6]));
    let (asked, told) = (found.l3.unwrap(), dissect(&answer).l3.expect("an answer is IP"));
    assert_eq!((told.version, told.offset), (asked.version, asked.offset));
    let packet = &answer[usize::from(told.offset)..];
    assert_eq!(told.total_len as usize, packet.len());
    let (header, message) = packet.split_at(usize::from(told.header_len));
    let quoted = &frame[usize::from(asked.offset)..][..message.len() - 8];
    assert_eq!(&message[8..], quoted);
    match told.version {
        IpVersion::V4 => {
            assert_eq!((sum(header).checksum(), sum(message).checksum()), (0, 0));
            assert_eq!((message[0], message[1], packet.len() <= 576), (3, 4, true));
            assert_eq!(usize::from(u16::from_be_bytes([message[6], message[7]])), mtu);
        }
        IpVersion::V6 => {
            let address = |at: usize| <[u8; 16]>::try_from(&header[at..at + 16]).unwrap().into();
            let pseudo = pseudo_v6(address(8), address(24), 58, message.len() as u32);
            assert_eq!(sum(message).combine(pseudo).checksum(), 0);
            assert_eq!((message[0], packet.len() <= 1280), (2, true));
        }
    }
}

fn fragmented(frame: &[u8], max_len: usize) {
    let found = dissect(frame);
    let Ok(fragments) = Fragments::new(frame, &found, max_len) else { return };
    let whole = found.l3.unwrap();
    let start = usize::from(whole.offset);
    let payload = &frame[start + usize::from(whole.header_len)..start + whole.total_len as usize];
    let mut together: Vec<u8> = Vec::new();
    for i in 0..fragments.count() {
        let mut fragment = vec![0; fragments.len(i)];
        fragments.write(i, &mut fragment);
        assert!(fragment.len() <= max_len);
        let l3 = dissect(&fragment).l3.expect("a fragment is IP");
        let packet = &fragment[usize::from(l3.offset)..];
        assert_eq!((l3.total_len as usize, l3.header_len), (packet.len(), whole.header_len));
        assert_eq!(sum(&packet[..usize::from(l3.header_len)]).checksum(), 0);
        let flags_offset = |ip: &[u8]| u16::from_be_bytes([ip[6], ip[7]]);
        let (was, is) = (flags_offset(&frame[start..]), flags_offset(packet));
        assert_eq!(usize::from((is & 0x1fff) - (was & 0x1fff)) * 8, together.len());
        let is_last = i + 1 == fragments.count();
        assert_eq!(is & 0x2000 != 0, !is_last || was & 0x2000 != 0, "more follow, or not");
        together.extend(&packet[usize::from(l3.header_len)..]);
    }
    assert_eq!(together, payload);
}

fn clamped(frame: &[u8], max_len: usize) {
    let found = dissect(frame);
    let mut changed = frame.to_vec();
    let Some(clamped) = mss::clamp(&mut changed, &found, max_len, false) else {
        return assert_eq!(changed, frame);
    };
    assert!(clamped.to < clamped.from);
    assert_eq!(mss::clamp(&mut changed.clone(), &found, max_len, false), None, "once is enough");
    let (Some(l3), Some(l4)) = (found.l3, found.l4) else { panic!("it was TCP") };
    assert_eq!(l4.kind, L4Kind::Tcp);
    let end = frame.len().min(usize::from(l3.offset) + l3.total_len as usize);
    let pseudo =
        sum(l3.addresses(frame).unwrap()).add16(u16::from(l3.protocol)).add32((end - usize::from(l4.offset)) as u32);
    let checksum = |frame: &[u8]| sum(&frame[usize::from(l4.offset)..end]).combine(pseudo).checksum();
    if checksum(frame) == 0 {
        assert_eq!(checksum(&changed), 0, "a right checksum stays right");
    }
}
