//! Between ports and VTEPs: encapsulation, and every check on the way in, in its order.

use weft_vxlan::HeaderFormat;

use super::scene::{
    A, ALL_OFFLOADS, B, BLUE, C, GREEN, NO_OFFLOADS, P0, P1, Peer, Scene, frame, tagged, tcp4, trunk, udp4, udp6,
    unfinished_tcp4, vxlan,
};
use crate::{
    bridge::{DropReason, Membership},
    fdb::Origin,
    ids::Endpoint,
    underlay::memory::Conditions,
    wire::MacAddr,
};

/// Two access ports of BLUE (VNI 42) and a peer that it knows.
fn scene() -> (Scene, Peer) {
    let mut scene = Scene::access(&[ALL_OFFLOADS, NO_OFFLOADS]);
    scene.join_overlay();
    let peer = scene.add_peer(2);
    (scene, peer)
}

fn deliver(scene: &mut Scene, peer: &mut Peer, tos: u8, payload: &[u8]) {
    peer.send(tos, payload);
    scene.turn();
}

#[test]
fn a_flooded_frame_crosses_to_every_peer_of_its_bridge() {
    let (mut scene, mut peer) = scene();
    let mut second = scene.add_peer(3);
    scene.bridge(BLUE).flood_list.truncate(1);
    let (bytes, other) = (frame(MacAddr::BROADCAST, A, 60), frame(B, A, 60));
    scene.send(P0, &bytes);
    assert_eq!(payloads(&mut peer), [vxlan(42, &bytes)]);
    assert_eq!(payloads(&mut second), Vec::<Vec<u8>>::new());
    scene.bridge(BLUE).flood_list.push(second.vtep);
    scene.send(P0, &other);
    assert_eq!((payloads(&mut peer), payloads(&mut second)), (vec![vxlan(42, &other)], vec![vxlan(42, &other)]));
    let blue = &scene.counters().bridges[BLUE.index()];
    assert_eq!((blue.frames_in, blue.copies, blue.frames_out), (2, 3, 5));
    assert_eq!(scene.counters().vteps[peer.vtep.index()].bytes_out, 120, "bytes are the inner frame's");
}

#[test]
fn what_a_peer_on_the_same_host_left_undone_is_done_for_a_port_that_needs_it() {
    let (mut scene, mut peer) = scene();
    let (unfinished, vnet) = unfinished_tcp4(MacAddr::BROADCAST, A, 2900, Some(1460));
    deliver(&mut scene, &mut peer, 0, &vxlan(42, &unfinished));
    assert_eq!(scene.received_with(P0), [(unfinished, vnet)], "a tap takes it as it is");
    let cut: Vec<_> = scene.received(P1).iter().map(Vec::len).collect();
    assert_eq!(cut, [1514, 54 + 1440]);
    // Two wire frames came in, and two copies of both went out.
    let blue = &scene.counters().bridges[BLUE.index()];
    assert_eq!((blue.frames_in, blue.copies, blue.frames_out), (2, 2, 4));
    scene.assert_balanced();

    let (open, _) = unfinished_tcp4(MacAddr::BROADCAST, A, 100, None);
    deliver(&mut scene, &mut peer, 0, &vxlan(42, &open));
    assert_eq!(scene.received(P1), [tcp4(MacAddr::BROADCAST, A, 100)]);
}

#[test]
fn an_address_behind_a_peer_is_learned_and_reached_there_alone() {
    let (mut scene, mut peer) = scene();
    let mut second = scene.add_peer(3);
    let hello = frame(MacAddr::BROADCAST, B, 60);
    deliver(&mut scene, &mut peer, 0, &vxlan(42, &hello));
    assert_eq!((scene.received(P0), scene.received(P1)), (vec![hello.clone()], vec![hello]));
    assert_eq!(scene.shared.fdb.lookup(BLUE, B), Some(Endpoint::Vtep(peer.vtep)));
    scene.send(P0, &frame(B, A, 60));
    assert_eq!((payloads(&mut peer).len(), payloads(&mut second).len(), scene.received(P1).len()), (1, 0, 0));
    deliver(&mut scene, &mut peer, 0, &vxlan(42, &frame(A, B, 60)));
    assert_eq!((scene.received(P0).len(), scene.received(P1).len()), (1, 0));
}

#[test]
fn the_outer_header_follows_the_inner_packet() {
    let (mut scene, mut peer) = scene();
    scene.overlay().tos = None;
    scene.send(P0, &udp4(B, A, 0xb9, 20));
    scene.send(P0, &udp6(B, A, 0x2a, 20));
    scene.send(P0, &frame(B, A, 60));
    assert_eq!(peer.received().iter().map(|(arrival, _)| arrival.tos).collect::<Vec<_>>(), [0xb9, 0x2a, 0]);
}

#[test]
fn every_segment_of_a_super_frame_has_its_own_header() {
    let (mut scene, mut peer) = scene();
    let (bytes, vnet) = unfinished_tcp4(B, A, 2500, Some(1000));
    scene.send_with(P0, &bytes, vnet);
    let datagrams = payloads(&mut peer);
    assert_eq!(datagrams, scene.received(P1).iter().map(|segment| vxlan(42, segment)).collect::<Vec<_>>());
    assert_eq!(datagrams.len(), 3);
    let tally = &scene.counters().vteps[peer.vtep.index()];
    assert_eq!((tally.frames_out, tally.bytes_out), (3, 2 * 1054 + 554));
}

#[test]
fn a_partial_checksum_is_completed_behind_the_header() {
    let (mut scene, mut peer) = scene();
    let (bytes, vnet) = unfinished_tcp4(B, A, 100, None);
    scene.send_with(P0, &bytes, vnet);
    assert_eq!(payloads(&mut peer), [vxlan(42, &tcp4(B, A, 100))]);
}

#[test]
fn a_tag_of_a_trunk_stays_at_home() {
    let mut scene = Scene::new();
    scene.add_port(trunk(&[(10, BLUE), (20, GREEN)], None), NO_OFFLOADS);
    scene.join_overlay();
    let mut peer = scene.add_peer(2);
    let bytes = frame(MacAddr::BROADCAST, A, 60);
    scene.send(P0, &tagged(&bytes, 0xe014));
    assert_eq!(payloads(&mut peer), [vxlan(43, &bytes)]);
    deliver(&mut scene, &mut peer, 0, &vxlan(43, &bytes));
    assert_eq!(scene.received(P0), [tagged(&bytes, 20)]);
}

#[test]
fn what_came_from_a_peer_never_goes_to_a_peer() {
    let (mut scene, mut peer) = scene();
    let mut second = scene.add_peer(3);
    deliver(&mut scene, &mut second, 0, &vxlan(42, &frame(MacAddr::BROADCAST, C, 60)));
    deliver(&mut scene, &mut peer, 0, &vxlan(42, &frame(C, B, 60)));
    assert_eq!(scene.drops(), [(DropReason::SplitHorizon, 1)]);
    deliver(&mut scene, &mut peer, 0, &vxlan(43, &frame(MacAddr::BROADCAST, B, 60)));
    assert_eq!(scene.drops(), [(DropReason::NoFloodTarget, 1), (DropReason::SplitHorizon, 1)]);
    assert_eq!((payloads(&mut peer).len(), payloads(&mut second).len()), (0, 0));
}

/// Table 4b of the kernel's behaviour and its statement 33: length, I flag, VNI, reserved bits; here the peer follows.
#[test]
fn the_first_check_that_fails_names_the_drop() {
    let (mut scene, mut peer) = scene();
    let mut stranger = scene.add_stranger(9);
    let inner = frame(MacAddr::BROADCAST, B, 60);
    let dropped = |scene: &mut Scene, peer: &mut Peer, header: [u8; 8]| {
        let before = scene.counters().underlay;
        deliver(scene, peer, 0, &[&header[..], &inner].concat());
        let after = scene.counters().underlay;
        let fell = |reason: &&DropReason| after.drops_in[reason.index()] > before.drops_in[reason.index()];
        DropReason::ALL.iter().find(fell).copied()
    };
    let [no_flag, known, unknown, reserved] = [
        [0xf7, 0xff, 0xff, 0xff, 0, 0, 42, 0xff],
        [8, 0, 0, 0, 0, 0, 42, 0],
        [0xff, 0xff, 0xff, 0xff, 0, 0, 44, 0xff],
        [8, 0, 0, 0, 0, 0, 42, 1],
    ];
    assert_eq!(dropped(&mut scene, &mut stranger, no_flag), Some(DropReason::VxlanNoVniFlag));
    assert_eq!(dropped(&mut scene, &mut stranger, unknown), Some(DropReason::VniUnknown));
    assert_eq!(dropped(&mut scene, &mut stranger, reserved), Some(DropReason::VxlanReservedBits));
    assert_eq!(dropped(&mut scene, &mut stranger, known), Some(DropReason::VtepUnknown));
    assert!(scene.shared.fdb.is_empty());
    assert_eq!(dropped(&mut scene, &mut peer, known), None);
    for len in 0..8 {
        deliver(&mut scene, &mut peer, 0, &no_flag[..len]);
    }
    let counters = scene.counters();
    assert_eq!(counters.underlay.drops_in[DropReason::VxlanTruncated.index()], 8);
    assert_eq!((counters.underlay.frames_in, counters.underlay.drops()), (12, 12));
    assert_eq!(counters.bridges[BLUE.index()].frames_in, 1, "no bridge hears of the others");
}

#[test]
fn each_of_the_39_reserved_bits_drops_unless_they_are_ignored() {
    let (mut scene, mut peer) = scene();
    let bits = || (0..64u32).filter(|bit| *bit != 4 && !(32..56).contains(bit));
    let datagram = |bit: u32| {
        let mut datagram = vxlan(42, &frame(MacAddr::BROADCAST, B, 60));
        datagram[bit as usize / 8] |= 0x80 >> (bit % 8);
        datagram
    };
    bits().for_each(|bit| deliver(&mut scene, &mut peer, 0, &datagram(bit)));
    assert_eq!(scene.drops(), [(DropReason::VxlanReservedBits, 39)]);
    scene.overlay().refused_bits = 0;
    bits().for_each(|bit| deliver(&mut scene, &mut peer, 0, &datagram(bit)));
    assert_eq!(scene.received(P0).len(), 39);
}

#[test]
fn a_bridge_knows_its_own_peers_and_any_peer_is_everybody() {
    let (mut scene, mut peer) = scene();
    scene.bridge(GREEN).known_vteps.clear();
    deliver(&mut scene, &mut peer, 0, &vxlan(43, &frame(MacAddr::BROADCAST, B, 60)));
    assert_eq!(scene.drops(), [(DropReason::VtepUnknown, 1)]);

    scene.overlay().any_peer = true;
    let mut stranger = scene.add_stranger(9);
    deliver(&mut scene, &mut stranger, 0, &vxlan(42, &frame(MacAddr::BROADCAST, B, 60)));
    assert_eq!(scene.received(P0).len(), 1);
    scene.send(P0, &frame(B, A, 60));
    assert_eq!(payloads(&mut stranger).len(), 1, "it is answered at the port that VTEPs listen on");
}

#[test]
fn an_inner_frame_that_is_cut_off_is_dropped_by_name() {
    let (mut scene, mut peer) = scene();
    let whole = udp4(MacAddr::BROADCAST, B, 0, 0);
    for len in 0..14 {
        deliver(&mut scene, &mut peer, 0, &vxlan(42, &whole[..len]));
    }
    assert_eq!(scene.drops(), [(DropReason::InnerTruncated, 14)]);
    assert!(scene.shared.fdb.is_empty());
    for len in 14..34 {
        deliver(&mut scene, &mut peer, 0, &vxlan(42, &whole[..len]));
    }
    assert_eq!(scene.drops(), [(DropReason::InnerTruncated, 14), (DropReason::InnerIpTruncated, 20)]);
    assert_eq!(
        scene.shared.fdb.lookup(BLUE, B),
        Some(Endpoint::Vtep(peer.vtep)),
        "it was learned before, as in the kernel"
    );
    deliver(&mut scene, &mut peer, 0, &vxlan(42, &whole[..34]));
    deliver(&mut scene, &mut peer, 0, &vxlan(42, &frame(MacAddr::BROADCAST, B, 14)));
    assert_eq!(scene.received(P0), [whole[..34].to_vec(), frame(MacAddr::BROADCAST, B, 14)]);
}

/// The kernel: `vxlan_xmit_one`, which asks `skb_vlan_inet_prepare`.
#[test]
fn a_frame_that_ends_within_its_ip_header_goes_to_ports_and_not_to_vteps() {
    let (mut scene, mut peer) = scene();
    let whole = udp4(MacAddr::BROADCAST, A, 0, 0);
    let tagged = [&whole[..12], &[0x81, 0, 0, 5], &whole[12..33]].concat();
    for cut_off in [&whole[..14], &whole[..33], &tagged] {
        scene.send(P0, cut_off);
        assert_eq!(scene.received(P1), [cut_off.to_vec()]);
    }
    assert_eq!(payloads(&mut peer).len(), 0);
    assert_eq!(scene.drops(), [(DropReason::InnerIpTruncated, 3)]);
    scene.send(P0, &whole[..34]);
    assert_eq!(payloads(&mut peer).len(), 1);
}

#[test]
fn an_inner_source_that_can_not_be_is_dropped() {
    let (mut scene, mut peer) = scene();
    for src in [MacAddr::ZERO, MacAddr::new([1, 0, 0x5e, 0, 0, 1])] {
        deliver(&mut scene, &mut peer, 0, &vxlan(42, &frame(B, src, 60)));
    }
    assert_eq!(scene.drops(), [(DropReason::SourceInvalid, 2)]);
}

/// Rows 15 to 30 of vxlan_bridge_1d: inner field and outer field to what is delivered.
#[test]
fn congestion_on_the_underlay_reaches_the_inner_packet() {
    let delivered = [
        [Some(0), Some(0), Some(0), None],
        [Some(1), Some(1), Some(1), Some(3)],
        [Some(2), Some(1), Some(2), Some(3)],
        [Some(3); 4],
    ];
    type Build = fn(MacAddr, MacAddr, u8, usize) -> Vec<u8>;
    for build in [udp4 as Build, udp6] {
        for (inner, row) in delivered.iter().enumerate() {
            for (outer, expected) in row.iter().enumerate() {
                let (mut scene, mut peer) = scene();
                let packet = |ecn: u8| build(MacAddr::BROADCAST, B, 0xb8 | ecn, 20);
                deliver(&mut scene, &mut peer, 0x40 | outer as u8, &vxlan(42, &packet(inner as u8)));
                assert_eq!(scene.received(P0), expected.map(packet).into_iter().collect::<Vec<_>>());
                if expected.is_none() {
                    assert_eq!(scene.drops(), [(DropReason::EcnNotCapable, 1)]);
                    assert!(scene.shared.fdb.lookup(BLUE, B).is_some(), "learning comes first");
                }
            }
        }
    }
}

#[test]
fn congestion_does_not_concern_what_is_not_ip() {
    let (mut scene, mut peer) = scene();
    let arp = frame(MacAddr::BROADCAST, B, 60);
    deliver(&mut scene, &mut peer, 3, &vxlan(42, &arp));
    assert_eq!(scene.received(P0), [arp]);
}

#[test]
fn inner_tags_pass_unless_they_are_forbidden() {
    let (mut scene, mut peer) = scene();
    let bytes = tagged(&frame(MacAddr::BROADCAST, A, 60), 5);
    scene.send(P0, &bytes);
    deliver(&mut scene, &mut peer, 0, &vxlan(42, &bytes));
    assert_eq!((payloads(&mut peer), scene.received(P0)), (vec![vxlan(42, &bytes)], vec![bytes.clone()]));

    scene.received(P1);
    scene.overlay().inner_vlan_passes = false;
    scene.send(P0, &bytes);
    deliver(&mut scene, &mut peer, 0, &vxlan(42, &bytes));
    assert_eq!(scene.drops(), [(DropReason::InnerVlan, 2)]);
    assert_eq!((payloads(&mut peer).len(), scene.received(P0).len()), (0, 0));
    assert_eq!(scene.received(P1), [bytes], "it passes between ports");
}

#[test]
fn a_source_with_a_static_entry_at_another_peer_is_an_intruder() {
    let (mut scene, mut peer) = scene();
    let mut second = scene.add_peer(3);
    scene.shared.fdb.add_static(BLUE, B, Endpoint::Vtep(peer.vtep), Origin::Static, scene.now);
    deliver(&mut scene, &mut second, 0, &vxlan(42, &frame(MacAddr::BROADCAST, B, 60)));
    assert_eq!(scene.drops(), [(DropReason::SourceStatic, 1)]);
    deliver(&mut scene, &mut peer, 0, &vxlan(42, &frame(MacAddr::BROADCAST, B, 60)));
    assert_eq!(scene.received(P0).len(), 1);
    assert_eq!(scene.shared.fdb.lookup(BLUE, B), Some(Endpoint::Vtep(peer.vtep)));
}

#[test]
fn datagrams_that_arrive_together_are_each_their_own_frame() {
    let (mut scene, mut peer) = scene();
    scene.net.set_conditions(Conditions { aggregate: true, ..Conditions::default() });
    let frames: Vec<_> = (60..64).map(|n| frame(MacAddr::BROADCAST, MacAddr::new([2, 0, 0, 0, 1, n]), 100)).collect();
    for bytes in &frames {
        peer.send(0, &vxlan(42, bytes));
    }
    peer.send(0, &vxlan(42, &frame(A, B, 20)));
    peer.send(0, &[]);
    let read = scene.worker.turn_underlay(HeaderFormat::Vxlan, scene.now).unwrap();
    assert_eq!(read, 2, "they came in one buffer");
    assert_eq!(scene.counters().underlay.drops_in[DropReason::UnderlayAbsent.index()], 6, "there are no tables yet");

    for bytes in &frames {
        peer.send(0, &vxlan(42, bytes));
    }
    peer.send(0, &[8, 0]);
    scene.turn();
    assert_eq!(scene.received(P0), frames);
    assert_eq!(scene.counters().underlay.drops_in[DropReason::VxlanTruncated.index()], 1);
}

#[test]
fn without_an_underlay_a_copy_for_a_peer_is_a_named_drop() {
    let (mut scene, _peer) = scene();
    scene.worker.set_underlay(None);
    scene.send(P0, &frame(B, A, 60));
    assert_eq!(scene.drops(), [(DropReason::UnderlayAbsent, 1)]);
    assert_eq!(scene.received(P1).len(), 1);
}

#[test]
fn what_the_underlay_refuses_is_a_drop_at_its_peer() {
    let (mut scene, peer) = scene();
    scene.net.set_conditions(Conditions { mtu: 1500, ..Conditions::default() });
    scene.send(P0, &frame(B, A, 1464));
    scene.send(P0, &frame(B, A, 1465));
    assert_eq!(scene.drops(), [(DropReason::UnderlayMtu, 1)]);
    let tally = scene.counters().vteps[peer.vtep.index()].clone();
    assert_eq!((tally.frames_out, tally.drops_out[DropReason::UnderlayMtu.index()]), (1, 1));
    drop(peer);
    scene.send(P0, &frame(B, A, 60));
    assert_eq!(scene.drops(), [(DropReason::UnderlayMtu, 1), (DropReason::UnderlayUnreachable, 1)]);
}

#[test]
fn a_frame_too_long_for_any_datagram_is_a_named_drop() {
    let (mut scene, _peer) = scene();
    scene.port(P1).mtu = u16::MAX;
    let longest = 65_507 - 8;
    scene.send(P0, &frame(B, A, longest + 1));
    assert_eq!(scene.drops(), [(DropReason::OversizeNotIp, 1)]);
    scene.send(P0, &frame(B, A, longest));
    assert_eq!(scene.drops(), [(DropReason::OversizeNotIp, 1)]);
}

#[test]
fn a_bridge_without_vni_never_leaves_the_host() {
    let mut scene = Scene::new();
    scene.add_port(Membership::Access(GREEN), NO_OFFLOADS);
    scene.join_overlay();
    let mut peer = scene.add_peer(2);
    scene.bridge(GREEN).vni = None;
    scene.send(P0, &frame(B, A, 60));
    assert_eq!(scene.drops(), [(DropReason::UnderlayAbsent, 1)]);
    assert!(payloads(&mut peer).is_empty());
}

fn payloads(peer: &mut Peer) -> Vec<Vec<u8>> {
    peer.received().into_iter().map(|(_, bytes)| bytes).collect()
}
