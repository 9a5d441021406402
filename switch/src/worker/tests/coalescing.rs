//! Frames put together on their way to a port, and what the ledger makes of it.

use super::scene::{
    A, ALL_OFFLOADS, B, BLUE, GREEN, NO_OFFLOADS, P0, P1, P2, QUEUE_LEN, Scene, frame, tagged, tcp4, trunk,
    unfinished_tcp4, vxlan,
};
use crate::{
    bridge::DropReason,
    offload::{Segments, VnetHeader},
    port::Offloads,
    underlay::memory::Conditions,
    wire::MacAddr,
};

const SEGMENTS: u64 = 5;

/// A super-frame, and the segments that it is cut into.
fn super_frame(dst: MacAddr, src: MacAddr) -> ((Vec<u8>, VnetHeader), Vec<Vec<u8>>) {
    let (bytes, vnet) = unfinished_tcp4(dst, src, 4500, Some(1000));
    let cut = Segments::new(&bytes, &vnet).unwrap();
    let segment = |index| {
        let mut segment = vec![0; cut.len(index)];
        cut.write(index, &mut segment);
        segment
    };
    let segments: Vec<_> = (0..cut.count()).map(segment).collect();
    assert_eq!(segments.len() as u64, SEGMENTS);
    ((bytes, vnet), segments)
}

#[test]
fn frames_of_a_flow_from_the_underlay_leave_as_one_and_count_as_many() {
    for aggregate in [false, true] {
        let mut scene = Scene::access(&[ALL_OFFLOADS, NO_OFFLOADS]);
        scene.join_overlay();
        scene.net.set_conditions(Conditions { aggregate, ..Conditions::default() });
        let mut peer = scene.add_peer(2);
        let (whole, segments) = super_frame(MacAddr::BROADCAST, A);
        for segment in &segments {
            peer.send(0, &vxlan(42, segment));
        }
        scene.turn();
        let len = whole.0.len() as u64;
        assert_eq!(scene.received_with(P0), [whole]);
        assert_eq!(scene.received(P1), segments, "a port without offloads gets them one by one");
        assert_eq!((scene.tally(P0).frames_out, scene.tally(P0).bytes_out), (SEGMENTS, len));
        let blue = &scene.counters().bridges[BLUE.index()];
        assert_eq!((blue.frames_in, blue.copies, blue.frames_out), (SEGMENTS, SEGMENTS, 2 * SEGMENTS));
    }
}

#[test]
fn frames_of_a_flow_between_ports_leave_as_one() {
    let mut scene = Scene::access(&[NO_OFFLOADS, ALL_OFFLOADS]);
    let (whole, segments) = super_frame(B, A);
    for segment in &segments {
        scene.host(P0).send(segment, VnetHeader::NONE).unwrap();
    }
    scene.turn();
    assert_eq!(scene.received_with(P1), [whole]);
    // Of a batch of one there is nothing to put together.
    for segment in &segments {
        scene.send(P0, segment);
    }
    let alone: Vec<_> = segments.into_iter().map(|segment| (segment, VnetHeader::NONE)).collect();
    assert_eq!(scene.received_with(P1), alone);
}

#[test]
fn a_port_gets_no_super_frame_of_a_kind_that_it_does_not_take() {
    let kinds = [
        (Offloads { tso4: false, ..ALL_OFFLOADS }, SEGMENTS),
        (Offloads { csum: false, ..ALL_OFFLOADS }, SEGMENTS),
        (Offloads { csum: true, tso4: true, ..NO_OFFLOADS }, 1),
    ];
    for (offloads, count) in kinds {
        let mut scene = Scene::access(&[NO_OFFLOADS, offloads]);
        for segment in super_frame(B, A).1 {
            scene.host(P0).send(&segment, VnetHeader::NONE).unwrap();
        }
        scene.turn();
        assert_eq!(scene.received(P1).len() as u64, count, "{offloads:?}");
    }
}

#[test]
fn what_a_port_refuses_was_as_many_frames_as_were_put_together() {
    let mut scene = Scene::access(&[NO_OFFLOADS, ALL_OFFLOADS]);
    for _ in 0..QUEUE_LEN {
        scene.send(P0, &frame(B, A, 60));
    }
    for segment in super_frame(B, A).1 {
        scene.host(P0).send(&segment, VnetHeader::NONE).unwrap();
    }
    scene.turn();
    assert_eq!(scene.drops(), [(DropReason::PortQueueFull, SEGMENTS)]);
    assert_eq!(scene.tally(P1).frames_out, QUEUE_LEN as u64);
}

#[test]
fn frames_of_two_bridges_stay_apart_and_are_counted_where_they_belong() {
    let mut scene = Scene::new();
    scene.add_port(trunk(&[(10, BLUE), (20, GREEN)], None), NO_OFFLOADS);
    scene.add_port(trunk(&[(30, BLUE), (40, GREEN)], None), ALL_OFFLOADS);
    let (whole, segments) = super_frame(B, A);
    let (of_blue, of_green) = segments.split_at(2);
    for (tci, frames) in [(10, of_blue), (20, of_green), (10, &[tcp4(B, A, 10)])] {
        for bytes in frames {
            scene.host(P0).send(&tagged(bytes, tci), VnetHeader::NONE).unwrap();
        }
    }
    scene.turn();
    let got = scene.received_with(P1);
    let shape: Vec<_> = got.iter().map(|(bytes, vnet)| (bytes[15], bytes.len(), vnet.gso)).collect();
    let gso = whole.1.gso;
    assert_eq!(shape, [(30, 4 + 54 + 2000, gso), (40, 4 + 54 + 2500, gso), (30, 4 + 54 + 10, None)]);
    let out = |bridge: crate::ids::BridgeId| scene.counters().bridges[bridge.index()].frames_out;
    assert_eq!((out(BLUE), out(GREEN)), (3, 3));
}

#[test]
fn of_a_flood_every_port_gets_its_own() {
    let mut scene = Scene::access(&[NO_OFFLOADS, ALL_OFFLOADS, ALL_OFFLOADS]);
    let (whole, segments) = super_frame(MacAddr::BROADCAST, A);
    for segment in &segments {
        scene.host(P0).send(segment, VnetHeader::NONE).unwrap();
    }
    scene.turn();
    assert_eq!(scene.received_with(P1), std::slice::from_ref(&whole));
    assert_eq!(scene.received_with(P2), [whole]);
}
