//! Between ports: learning, flooding, VLANs, offloads, limits.

use etherparse::{SlicedPacket, TransportSlice};

use super::scene::{
    A, ALL_OFFLOADS, B, BLUE, C, GREEN, NO_OFFLOADS, P0, P1, P2, QUEUE_LEN, Scene, frame, tagged, tcp4, trunk,
    unfinished_tcp4,
};
use crate::{
    bridge::{DropReason, Membership},
    ids::{BridgeId, Endpoint, PortId},
    offload::{Gso, PartialCsum, VnetHeader},
    port::{
        PortError, PortQueue,
        fault::{FaultPort, Faults},
        memory::MemoryPort,
    },
    wire::MacAddr,
    worker::Fact,
};

#[test]
fn an_unknown_address_is_flooded_and_a_learned_one_is_not() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 3]);
    let question = frame(B, A, 60);
    scene.send(P0, &question);
    assert_eq!(
        (scene.received(P0), scene.received(P1), scene.received(P2)),
        (vec![], vec![question.clone()], vec![question.clone()])
    );
    let answer = frame(A, B, 70);
    scene.send(P1, &answer);
    assert_eq!((scene.received(P0), scene.received(P2)), (vec![answer], vec![]));
    scene.send(P0, &question);
    assert_eq!((scene.received(P1), scene.received(P2)), (vec![question], vec![]));
    let learned = |mac, port| Fact::Learned { bridge: BLUE, mac, at: Endpoint::Port(port) };
    assert_eq!(scene.facts(), [learned(A, P0), learned(B, P1)]);
}

#[test]
fn an_address_that_moves_takes_its_frames_along() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 3]);
    scene.send(P1, &frame(A, B, 60));
    scene.send(P2, &frame(A, B, 60));
    assert_eq!(
        scene.facts()[1..],
        [Fact::Moved { bridge: BLUE, mac: B, from: Endpoint::Port(P1), to: Endpoint::Port(P2) }]
    );
    scene.received(P1);
    scene.received(P2);
    scene.send(P0, &frame(B, A, 60));
    assert_eq!((scene.received(P1).len(), scene.received(P2).len()), (0, 1));
}

#[test]
fn a_batch_is_learned_before_any_of_it_is_decided() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    for bytes in [frame(B, A, 60), frame(A, B, 60)] {
        scene.host(P0).send(&bytes, VnetHeader::NONE).unwrap();
    }
    scene.turn();
    assert_eq!(scene.received(P1), Vec::<Vec<u8>>::new(), "both live behind the same port");
    assert_eq!(scene.drops(), [(DropReason::SameEndpoint, 2)]);
}

#[test]
fn facts_that_find_no_room_are_counted() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    for n in 0..1010u16 {
        let [high, low] = n.to_be_bytes();
        scene.send(P0, &frame(A, MacAddr::new([2, 0, 0, 1, high, low]), 60));
        scene.received(P1);
    }
    assert_eq!((scene.facts().len(), scene.worker.report().facts_lost), (1000, 10));
    assert_eq!(scene.shared.fdb.len(), 1010);
}

#[test]
fn a_flooded_frame_is_one_in_and_its_copies_out() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 5]);
    scene.port(PortId(3)).up = false;
    scene.port(PortId(4)).options.bcast_flood = false;
    scene.send(P0, &frame(MacAddr::BROADCAST, A, 60));
    let (total, blue) = (scene.counters().total(), scene.counters().bridges[BLUE.index()].clone());
    for tally in [&total, &blue] {
        assert_eq!((tally.frames_in, tally.copies, tally.frames_out, tally.drops()), (1, 1, 2, 0));
        assert_eq!((tally.bytes_in, tally.bytes_out), (60, 120));
    }
    assert_eq!((scene.tally(P0).copies, scene.tally(P1).frames_out), (1, 1), "copies stand where the frame came in");
}

#[test]
fn nobody_to_flood_to_is_a_drop() {
    let mut scene = Scene::access(&[NO_OFFLOADS]);
    scene.send(P0, &frame(B, A, 60));
    assert_eq!(scene.drops(), [(DropReason::NoFloodTarget, 1)]);
}

#[test]
fn a_full_queue_drops_its_own_copy_only() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 3]);
    for _ in 0..QUEUE_LEN {
        scene.send(P0, &frame(B, A, 60));
        scene.received(P2);
    }
    scene.send(P0, &frame(B, A, 60));
    assert_eq!((scene.received(P1).len(), scene.received(P2).len()), (QUEUE_LEN, 1));
    assert_eq!(scene.drops(), [(DropReason::PortQueueFull, 1)]);
    assert_eq!(scene.tally(P1).drops_out[DropReason::PortQueueFull.index()], 1);
}

#[test]
fn what_a_port_loses_after_all_is_a_drop_of_its_bridge_and_not_delivered() {
    let mut scene = Scene::access(&[NO_OFFLOADS]);
    let (port, mut host) = MemoryPort::pair(1, NO_OFFLOADS);
    // Every frame waits for its successor, so its sending fails when its sender has gone on.
    let hold = Faults { reorder: 1.0, ..Faults::default() };
    let (port, faults) = FaultPort::new(PortQueue::Memory(port), 1, Faults::default(), hold);
    let late = scene.add_queue(Membership::Access(BLUE), PortQueue::Fault(Box::new(port)));
    for _ in 0..4 {
        scene.send(P0, &frame(B, A, 60));
    }
    assert_eq!((faults.send().passed, faults.send().refused, faults.send().held), (1, 2, 1));
    assert_eq!(scene.tally(late).frames_out, 2, "one is there, one is on its way");
    assert_eq!(scene.drops(), [(DropReason::PortQueueFull, 2)]);
    assert_eq!(scene.tally(late).bytes_out, 120);
    assert_eq!(scene.counters().bridges[BLUE.index()].frames_out, 2);
    assert!(host.try_recv().is_some() && host.try_recv().is_none());
}

#[test]
fn a_trunk_puts_tags_on_and_takes_them_off_and_keeps_the_priority() {
    let mut scene = Scene::access(&[NO_OFFLOADS]);
    scene.add_port(trunk(&[(10, BLUE), (20, GREEN)], None), NO_OFFLOADS);
    scene.add_port(trunk(&[(300, BLUE)], None), NO_OFFLOADS);
    let (plain, group) = (frame(B, A, 60), frame(MacAddr::BROADCAST, A, 60));

    scene.send(P1, &tagged(&group, 0xb00a));
    assert_eq!(scene.received(P0), std::slice::from_ref(&group), "an access port gets it without a tag");
    assert_eq!(scene.received(P2), [tagged(&group, 0xb12c)], "another trunk under its own identifier");

    scene.send(P0, &plain);
    assert_eq!(scene.received(P1), [tagged(&plain, 10)]);
    let tally = scene.tally(P1);
    assert_eq!((tally.bytes_in, tally.bytes_out), (64, 64), "bytes are those on the wire");
}

#[test]
fn bridges_keep_equal_addresses_apart() {
    let mut scene = Scene::new();
    scene.add_port(trunk(&[(10, BLUE), (20, GREEN)], None), NO_OFFLOADS);
    scene.add_port(Membership::Access(BLUE), NO_OFFLOADS);
    scene.add_port(Membership::Access(GREEN), NO_OFFLOADS);
    scene.send(P1, &frame(A, B, 60));
    scene.send(P2, &frame(A, B, 61));
    scene.received(P0);
    scene.send(P0, &tagged(&frame(B, A, 60), 10));
    scene.send(P0, &tagged(&frame(B, A, 61), 20));
    assert_eq!((scene.received(P1), scene.received(P2)), (vec![frame(B, A, 60)], vec![frame(B, A, 61)]));
}

#[test]
fn native_frames_come_and_go_untagged_and_vlan_0_is_a_priority() {
    let mut scene = Scene::access(&[NO_OFFLOADS]);
    scene.add_port(trunk(&[(20, GREEN)], Some(BLUE)), NO_OFFLOADS);
    scene.add_port(trunk(&[(30, BLUE)], None), NO_OFFLOADS);
    let group = frame(MacAddr::BROADCAST, A, 60);
    scene.send(P1, &group);
    assert_eq!((scene.received(P0), scene.received(P2)), (vec![group.clone()], vec![tagged(&group, 30)]));
    scene.send(P1, &tagged(&group, 0xe000));
    assert_eq!((scene.received(P0), scene.received(P2)), (vec![group.clone()], vec![tagged(&group, 0xe01e)]));
    scene.send(P0, &group);
    assert_eq!(scene.received(P1), [group]);
}

#[test]
fn what_a_trunk_does_not_carry_is_dropped_by_name() {
    let mut scene = Scene::new();
    scene.add_port(trunk(&[(10, BLUE)], None), NO_OFFLOADS);
    scene.add_port(Membership::Access(BLUE), NO_OFFLOADS);
    let plain = frame(MacAddr::BROADCAST, A, 60);
    scene.send(P0, &plain);
    scene.send(P0, &tagged(&plain, 0));
    scene.send(P0, &tagged(&plain, 11));
    scene.send(P0, &tagged(&plain, 4095));
    scene.send(P0, &tagged(&plain, 10)[..17]);
    scene.send(P0, &plain[..13]);
    assert_eq!(scene.received(P1), Vec::<Vec<u8>>::new());
    assert_eq!(
        scene.drops(),
        [
            (DropReason::Malformed, 2),
            (DropReason::VlanUntagged, 2),
            (DropReason::VlanNotMember, 1),
            (DropReason::VlanInvalid, 1)
        ]
    );
    assert!(scene.shared.fdb.is_empty(), "they teach nothing");
}

#[test]
fn tags_are_payload_on_an_access_port() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    for tci in [0, 10, 4095] {
        let bytes = tagged(&frame(MacAddr::BROADCAST, A, 60), tci);
        scene.send(P0, &bytes);
        assert_eq!(scene.received(P1), [bytes]);
    }
}

#[test]
fn a_partial_checksum_is_kept_for_a_port_that_takes_it_and_completed_for_another() {
    let mut scene = Scene::access(&[ALL_OFFLOADS, ALL_OFFLOADS, NO_OFFLOADS]);
    let (bytes, vnet) = unfinished_tcp4(B, A, 100, None);
    scene.send_with(P0, &bytes, vnet);
    assert_eq!(scene.received_with(P1), [(bytes, vnet)]);
    assert_eq!(scene.received_with(P2), [(tcp4(B, A, 100), VnetHeader::NONE)]);
}

#[test]
fn a_tag_moves_the_place_of_a_partial_checksum() {
    let mut scene = Scene::new();
    scene.add_port(trunk(&[(10, BLUE)], None), ALL_OFFLOADS);
    scene.add_port(Membership::Access(BLUE), ALL_OFFLOADS);
    scene.add_port(trunk(&[(20, BLUE)], None), ALL_OFFLOADS);
    let without = scene.add_port(trunk(&[(30, BLUE)], None), NO_OFFLOADS);
    let (bytes, vnet) = unfinished_tcp4(B, A, 100, None);
    scene.send_with(P0, &tagged(&bytes, 10), vnet.shifted(4));
    assert_eq!(scene.received_with(P1), [(bytes.clone(), vnet)]);
    assert_eq!(scene.received_with(P2), [(tagged(&bytes, 20), vnet.shifted(4))]);
    assert_eq!(scene.received_with(without), [(tagged(&tcp4(B, A, 100), 30), VnetHeader::NONE)]);
}

#[test]
fn a_super_frame_goes_whole_to_a_port_that_takes_it_and_in_segments_to_another() {
    let mut scene = Scene::access(&[ALL_OFFLOADS, ALL_OFFLOADS, NO_OFFLOADS]);
    let (bytes, vnet) = unfinished_tcp4(B, A, 2500, Some(1000));
    scene.send_with(P0, &bytes, vnet);
    assert_eq!(scene.received_with(P1), [(bytes.clone(), vnet)]);

    let segments = scene.received_with(P2);
    assert_eq!(segments.iter().map(|(segment, _)| segment.len()).collect::<Vec<_>>(), [1054, 1054, 554]);
    let payloads = segments.iter().flat_map(|(segment, vnet)| {
        assert_eq!(*vnet, VnetHeader::NONE);
        assert_checksums(segment);
        &segment[54..]
    });
    assert!(payloads.eq(&bytes[54..]));

    let total = scene.counters().total();
    assert_eq!((total.frames_in, total.copies, total.frames_out), (3, 3, 6), "the ledger counts wire frames");
    assert_eq!((scene.tally(P1).bytes_out, scene.tally(P2).bytes_out), (2554, 2 * 1054 + 554));
}

#[test]
fn a_super_frame_that_is_dropped_counts_its_segments() {
    let mut scene = Scene::access(&[ALL_OFFLOADS]);
    let (bytes, vnet) = unfinished_tcp4(B, A, 2500, Some(1000));
    scene.send_with(P0, &bytes, vnet);
    assert_eq!(scene.drops(), [(DropReason::NoFloodTarget, 3)]);
}

#[test]
fn segments_that_find_no_room_are_dropped_one_by_one() {
    let mut scene = Scene::access(&[ALL_OFFLOADS, NO_OFFLOADS]);
    let (bytes, vnet) = unfinished_tcp4(B, A, 60_000, Some(500));
    scene.send_with(P0, &bytes, vnet);
    assert_eq!(scene.tally(P1).frames_out, QUEUE_LEN as u64);
    assert_eq!(scene.drops(), [(DropReason::PortQueueFull, 120 - QUEUE_LEN as u64)]);
}

/// Statement 24 of the kernel's behaviour: at MTU 1400 an IP packet of 1404 bytes passes, one of 1405 does not.
#[test]
fn the_egress_mtu_has_room_for_one_tag() {
    let mut scene = Scene::access(&[ALL_OFFLOADS, ALL_OFFLOADS]);
    scene.port(P1).mtu = 1400;
    scene.send(P0, &frame(B, A, 14 + 1404));
    scene.send(P0, &frame(B, A, 14 + 1405));
    assert_eq!(scene.received(P1), [frame(B, A, 14 + 1404)]);
    assert_eq!(scene.drops(), [(DropReason::EgressMtu, 1)]);

    let (bytes, vnet) = unfinished_tcp4(B, A, 5000, Some(1448));
    scene.send_with(P0, &bytes, vnet);
    assert_eq!(scene.received_with(P1), [(bytes, vnet)], "a super-frame is exempt");
}

#[test]
fn reserved_groups_stay_but_teach_their_source() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    let group = |last| MacAddr::new([1, 0x80, 0xc2, 0, 0, last]);
    scene.send(P0, &frame(group(1), C, 60));
    assert_eq!(scene.shared.fdb.lookup(BLUE, C), None, "a pause frame is nobody's business");
    for last in 2..=0xf {
        scene.send(P0, &frame(group(last), A, 60));
    }
    assert_eq!(scene.shared.fdb.lookup(BLUE, A), Some(Endpoint::Port(P0)));
    assert_eq!(scene.drops(), [(DropReason::ReservedGroup, 15)]);
    scene.send(P0, &frame(group(0), A, 60));
    scene.send(P0, &frame(group(0x10), A, 60));
    scene.bridge(BLUE).group_fwd_mask = 1 << 0xe;
    scene.send(P0, &frame(group(0xe), A, 60));
    assert_eq!(scene.received(P1).len(), 3);
}

#[test]
fn a_source_that_can_not_be_is_dropped() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    for src in [MacAddr::ZERO, MacAddr::BROADCAST, MacAddr::new([1, 0, 0x5e, 0, 0, 1])] {
        scene.send(P0, &frame(B, src, 60));
    }
    assert_eq!(scene.drops(), [(DropReason::SourceInvalid, 3)]);
    assert!(scene.shared.fdb.is_empty());
}

#[test]
fn a_virtio_net_header_that_contradicts_its_frame_is_a_drop() {
    let mut scene = Scene::access(&[ALL_OFFLOADS; 2]);
    let outside = VnetHeader { csum: Some(PartialCsum { start: 59, offset: 0 }), ..VnetHeader::NONE };
    scene.send_with(P0, &frame(B, A, 60), outside);
    let not_tcp = VnetHeader { gso: Some((Gso::Tcp4, 10)), ..VnetHeader::NONE };
    scene.send_with(P0, &frame(B, A, 60), not_tcp);
    let (bytes, vnet) = unfinished_tcp4(B, A, 2500, Some(1000));
    scene.send_with(P0, &bytes, VnetHeader { gso: Some((Gso::Udp, 1000)), ..vnet });
    assert_eq!(scene.drops(), [(DropReason::BadOffload, 3)]);
    assert!(scene.shared.fdb.is_empty());
}

/// Without its tag the checksum would cover the addresses, and the receiver's kernel would write into them.
#[test]
fn a_partial_checksum_that_begins_in_the_tag_is_a_drop() {
    let mut scene = Scene::new();
    scene.add_port(trunk(&[(10, BLUE)], None), ALL_OFFLOADS);
    scene.add_port(Membership::Access(BLUE), ALL_OFFLOADS);
    for start in 14..18 {
        let vnet = VnetHeader { csum: Some(PartialCsum { start, offset: 0 }), ..VnetHeader::NONE };
        scene.send_with(P0, &tagged(&frame(B, A, 60), 10), vnet);
    }
    assert_eq!(scene.received_with(P1), []);
    assert_eq!(scene.drops(), [(DropReason::BadOffload, 4)]);
}

#[test]
fn a_removed_port_leaves_named_drops_and_its_counts_behind() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 3]);
    scene.send(P1, &frame(A, B, 60));
    let before = scene.counters().total();
    assert!(scene.worker.remove_port(P1).is_some());
    assert_eq!(scene.counters().total(), before);

    // The tables and the FDB still name it for a moment.
    scene.unplug(P1);
    scene.send(P0, &frame(B, A, 60));
    assert_eq!(scene.drops(), [(DropReason::PortRemoved, 1)]);
    scene.tables.ports[P1.index()] = None;
    scene.send(P0, &frame(B, A, 60));
    assert_eq!(scene.drops(), [(DropReason::PortRemoved, 2)]);
    scene.shared.fdb.flush(crate::fdb::Flush { at: Some(Endpoint::Port(P1)), ..Default::default() });
    scene.received(P2);
    scene.send(P0, &frame(B, A, 60));
    assert_eq!(scene.received(P2).len(), 1);
}

#[test]
fn a_port_that_only_the_worker_knows_gets_its_frames_dropped() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    scene.tables.ports[P0.index()] = None;
    scene.send(P0, &frame(B, A, 60));
    scene.tables.bridges[BLUE.index()] = None;
    scene.send(P1, &frame(B, A, 60));
    assert_eq!(scene.drops(), [(DropReason::PortRemoved, 2)]);
}

#[test]
fn a_bridge_that_is_retired_keeps_its_counts_apart() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    scene.send(P0, &frame(B, A, 60));
    scene.worker.retire_bridge(BLUE);
    assert_eq!(scene.counters().bridges[BLUE.index()], Default::default());
    assert_eq!(scene.counters().removed_bridges.frames_out, 1);
    assert_eq!(scene.counters().total().frames_out, 1);
    scene.worker.retire_bridge(BridgeId(77));
    scene.assert_balanced();
}

#[test]
fn a_port_that_is_down_is_neither_flooded_nor_reached() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 3]);
    scene.send(P1, &frame(A, B, 60));
    scene.port(P1).up = false;
    scene.send(P0, &frame(B, A, 60));
    assert_eq!(scene.drops(), [(DropReason::PortDown, 1)]);
    scene.send(P0, &frame(MacAddr::BROADCAST, A, 60));
    assert!(scene.received(P1).is_empty());
}

#[test]
fn a_port_whose_interface_is_gone_says_so() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    scene.unplug(P0);
    assert!(matches!(scene.worker.turn_port(P0, scene.now), Err(PortError::Gone)));
    scene.send(P1, &frame(B, A, 60));
    assert_eq!(scene.drops(), [(DropReason::PortDown, 1)]);
    assert_eq!(scene.worker.turn_port(PortId(99), scene.now).unwrap(), 0, "a port that never was has nothing to say");
}

#[test]
fn an_isolated_port_reaches_only_the_others() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 3]);
    scene.port(P0).options.isolated = true;
    scene.port(P1).options.isolated = true;
    scene.send(P1, &frame(MacAddr::BROADCAST, B, 60));
    scene.send(P0, &frame(B, A, 60));
    assert_eq!(scene.drops(), [(DropReason::Isolated, 1)]);
    assert_eq!((scene.received(P0).len(), scene.received(P2).len()), (0, 1));
}

fn assert_checksums(frame: &[u8]) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net else { panic!("no IPv4 packet") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("no TCP segment") };
    assert_eq!(tcp.checksum(), tcp.calc_checksum_ipv4(header.source, header.destination).unwrap());
}
