//! What a fuzzer holds this floor to: [`crate::fuzzing`].

use super::{Coalescer, Departure, Gso, Segments, VnetHeader, coalesce::Room, complete, unfinished, wire_frames};
use crate::{
    fuzzing::{Script, inputs},
    ids::PortId,
    wire::{
        checksum::sum,
        dissect::{IpVersion, L4Kind, dissect},
    },
};

/// A virtio-net header and a frame: counted as it is cut; cut, every segment has right checksums, and all together the payload.
#[test]
fn fuzz_segment() {
    inputs(|input| {
        let Some((header, frame)) = input.split_first_chunk() else { return };
        let Ok(vnet) = VnetHeader::parse(header) else { return };
        assert_eq!(
            VnetHeader::parse(&vnet.to_bytes(frame)).map(|read| (read.gso, read.gso_ecn)),
            Ok((vnet.gso, vnet.gso_ecn))
        );
        // Of a header from a hostile guest more segments come than a test wants to write; all are counted.
        let segments = match (Segments::new(frame, &vnet), wire_frames(frame, &vnet)) {
            (Ok(segments), Ok(count)) => {
                assert_eq!(segments.count(), count as usize);
                segments
            }
            (Err(one), Err(other)) => return assert_eq!(one, other),
            (_, other) => panic!("cutting and counting disagree: {other:?}"),
        };
        let mut payload_len = 0;
        let headers_len = headers_len(frame, &vnet);
        for i in 0..segments.count() {
            let mut segment = vec![0; segments.len(i)];
            segments.write(i, &mut segment);
            if vnet.gso.is_some() {
                let at = headers_len + payload_len;
                assert_eq!(segment[headers_len..], frame[at..at + segment.len() - headers_len]);
                payload_len += segment.len() - headers_len;
                transport_holds(&segment);
            }
        }
        if vnet.gso.is_some() {
            assert_eq!(headers_len + payload_len, frame.len());
        }
        if let Some(csum) = vnet.csum {
            let mut whole = frame.to_vec();
            let _ = complete(&mut whole, csum);
        }
    });
}

/// Bytes of all headers of a super-frame that can be cut.
fn headers_len(frame: &[u8], vnet: &VnetHeader) -> usize {
    let Some(l4) = dissect(frame).l4.filter(|_| vnet.gso.is_some()) else { return frame.len() };
    let at = usize::from(l4.offset);
    at + if l4.kind == L4Kind::Tcp { usize::from(frame[at + 12] >> 4) * 4 } else { 8 }
}

/// A segment without IPv6 extension headers, behind which another address than the header's may count, has the right checksums.
fn transport_holds(segment: &[u8]) {
    let found = dissect(segment);
    let Some(l3) = found.l3 else { panic!("no IP any more: {segment:02x?}") };
    let packet = &segment[usize::from(l3.offset)..];
    let header_len = usize::from(l3.header_len);
    if l3.version == IpVersion::V4 {
        assert_eq!(sum(&packet[..header_len]).checksum(), 0);
    } else if header_len > 40 {
        return;
    }
    assert_eq!(l3.total_len as usize, packet.len());
    let pseudo =
        sum(l3.addresses(segment).unwrap()).add16(u16::from(l3.protocol)).add32((packet.len() - header_len) as u32);
    assert_eq!(sum(&packet[header_len..]).combine(pseudo).checksum(), 0);
}

/// What a sender left undone and a datagram does not say is found so that it can be done.
#[test]
fn fuzz_unfinished() {
    inputs(|input| {
        let mut script = Script::new(input);
        let mtu = script.u16();
        let frame = script.rest();
        let vnet = unfinished(frame, &dissect(frame), || mtu);
        // TCP whose header is longer than the packet is no super-frame, which is found when it is cut.
        let Ok(segments) = Segments::new(frame, &vnet) else {
            return assert!(vnet.gso.is_some(), "{vnet:?} of {frame:02x?}");
        };
        for i in 0..segments.count() {
            let mut segment = vec![0; segments.len(i)];
            segments.write(i, &mut segment);
            let l3_offset = dissect(frame).l3.map_or(0, |l3| usize::from(l3.offset));
            assert!(vnet.gso.is_none() || segment.len() - l3_offset <= usize::from(mtu));
        }
    });
}

/// Frames of a few flows, one octet here and there another, offered to be put together: what leaves, cut again, is what was
/// offered, each flow in its order.
#[test]
fn fuzz_coalesce() {
    inputs(|input| {
        let mut script = Script::new(input);
        let takes: [bool; 3] = std::array::from_fn(|_| !script.u8().is_multiple_of(8));
        let mut next = [[(0_u32, 0_u8); 2]; 2];
        let mut frames = Vec::new();
        while !script.is_empty() && frames.len() < 60 {
            let shape = script.u8();
            let (is_tcp, is_v6, flow) = (shape & 1 == 0, shape & 2 == 2, usize::from(shape >> 2 & 1));
            let len = if shape & 8 == 8 { 1 + usize::from(script.u8()) } else { 100 };
            let (seq, id) = &mut next[flow][usize::from(is_v6)];
            let mut frame = wire_frame(is_tcp, is_v6, flow as u8, (*seq, *id), len);
            (*seq, *id) = (seq.wrapping_add(len as u32), id.wrapping_add(1));
            if shape & 0x70 == 0x70 {
                let at = usize::from(script.u8()) % frame.len();
                frame[at] = script.u8();
            }
            if shape & 0x70 == 0x60 && is_tcp {
                // Other flags, with the right checksum.
                let l4 = if is_v6 { 54 } else { 34 };
                frame[l4 + 13] = script.u8();
                finish(&mut frame);
            }
            frames.push(frame);
        }
        let mut room = Room::new();
        let mut coalescer = Coalescer::new(&mut room);
        let mut sent = Vec::new();
        let mut send =
            |departure: &Departure<'_>| sent.push((departure.bytes.to_vec(), departure.vnet, departure.frames));
        for bytes in &frames {
            let departure = Departure { port: PortId(0), tag: None, bytes, vnet: VnetHeader::NONE, frames: 1 };
            if !coalescer.offer(departure, |gso: Gso| takes[gso as usize], &mut send) {
                send(&departure);
            }
        }
        coalescer.flush(&mut send);
        let mut cut = Vec::new();
        for (bytes, vnet, count) in &sent {
            assert_eq!(wire_frames(bytes, vnet), Ok(*count));
            assert!(vnet.gso.is_none_or(|(gso, _)| takes[gso as usize]));
            let segments = Segments::new(bytes, vnet).unwrap();
            for i in 0..segments.count() {
                let mut segment = vec![0; segments.len(i)];
                segments.write(i, &mut segment);
                cut.push(segment);
            }
        }
        let by_flow = |mut frames: Vec<Vec<u8>>| {
            // The order within each flow counts: sorting is stable.
            frames.sort_by_key(|frame| flow_of(frame));
            frames
        };
        assert_eq!(by_flow(cut), by_flow(frames.clone()));
    });
}

fn flow_of(frame: &[u8]) -> Vec<u8> {
    let found = dissect(frame);
    let ports = found.l4.map(|l4| [l4.src_port, l4.dst_port, l4.kind as u16].map(u16::to_be_bytes).concat());
    let addresses = found.l3.and_then(|l3| l3.addresses(frame));
    [addresses.unwrap_or_default(), &ports.unwrap_or_default()].concat()
}

/// A finished segment or datagram of a flow.
fn wire_frame(is_tcp: bool, is_v6: bool, flow: u8, (seq, id): (u32, u8), len: usize) -> Vec<u8> {
    let l4_len = if is_tcp { 20 } else { 8 } + len;
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if is_v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((l4_len as u16).to_be_bytes());
        frame.extend([if is_tcp { 6 } else { 17 }, 64]);
        frame.extend([[1; 16], [2; 16]].concat());
    } else {
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + l4_len as u16).to_be_bytes());
        frame.extend([0, id, 0x40, 0, 64, if is_tcp { 6 } else { 17 }, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    }
    frame.extend([0x10, flow, 0x20, 0]);
    if is_tcp {
        frame.extend(seq.to_be_bytes());
        frame.extend([0, 0, 0, 9, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    } else {
        frame.extend((l4_len as u16).to_be_bytes());
        frame.extend([0, 0]);
    }
    frame.extend((0..len).map(|n| n as u8));
    finish(&mut frame);
    frame
}

/// Puts the checksums right.
fn finish(frame: &mut [u8]) {
    let found = dissect(frame);
    let (Some(l3), Some(l4)) = (found.l3, found.l4) else { return };
    let (at, start) = (usize::from(l3.offset), usize::from(l4.offset));
    if l3.version == IpVersion::V4 {
        frame[at + 10..at + 12].copy_from_slice(&[0, 0]);
        let checksum = sum(&frame[at..start]).checksum();
        frame[at + 10..at + 12].copy_from_slice(&checksum.to_be_bytes());
    }
    let field = start + if l4.kind == L4Kind::Tcp { 16 } else { 6 };
    frame[field..field + 2].copy_from_slice(&[0, 0]);
    let pseudo = sum(l3.addresses(frame).unwrap()).add16(u16::from(l3.protocol)).add32((frame.len() - start) as u32);
    let checksum = sum(&frame[start..]).combine(pseudo).checksum();
    frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
}
