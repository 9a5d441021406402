//! Frames that are too long for their VTEP: answers, fragments, named drops; and TCP that is kept from sending them.

use etherparse::{SlicedPacket, TransportSlice, defrag::IpDefragPool};
use weft_vxlan::{
    Encapsulation,
    geneve::{GeneveOption, OptionList},
};

use super::scene::*;
use crate::{
    bridge::{DropReason, Neigh, Oversize, TunnelOptions},
    fdb::{Origin, Stamp},
    ids::Endpoint,
    l3::too_big,
    offload::{Gso, PartialCsum, VnetHeader},
    snoop::Member,
    underlay::memory::Conditions,
    wire::{
        MacAddr,
        checksum::{pseudo_v4, update16},
        dissect::dissect,
    },
    worker::counters::Tally,
};

/// What fits the underlay of these scenes: 1500 less 20, 8 and 8.
const LONGEST: usize = 1464;

/// Two ports and a peer with the station B behind it, over an underlay of 1500.
fn scene() -> (Scene, Peer) {
    let mut scene = Scene::access(&[ALL_OFFLOADS, ALL_OFFLOADS]);
    scene.join_overlay();
    scene.overlay().underlay_mtu = 1500;
    scene.net.set_conditions(Conditions { mtu: 1500, ..Conditions::default() });
    for port in [P0, P1] {
        scene.port(port).mtu = 9000;
    }
    let peer = scene.add_peer(2);
    scene.shared.fdb.add_static(BLUE, B, Endpoint::Vtep(peer.vtep), Origin::Static, Stamp(0));
    (scene, peer)
}

/// UDP over IPv6 between two stations, since nobody answers the address of none.
fn udp6_between(dst: MacAddr, src: MacAddr, payload_len: usize) -> Vec<u8> {
    let mut bytes = udp6(dst, src, 0, payload_len);
    (bytes[22], bytes[37]) = (0xfd, 1);
    (bytes[38], bytes[53]) = (0xfd, 2);
    bytes
}

fn blue(scene: &Scene) -> Tally {
    scene.counters().bridges.get(BLUE.index()).cloned().unwrap_or_default()
}

/// UDP over IPv4 in a frame of `len` bytes that may be fragmented.
fn loose(dst: MacAddr, src: MacAddr, len: usize) -> Vec<u8> {
    let mut bytes = udp4(dst, src, 0, len - 42);
    bytes[20] = 0;
    // The header's checksum, less the bit.
    let checksum = update16(u16::from_be_bytes([bytes[24], bytes[25]]), 0x4000, 0);
    bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn answer_to(frame: &[u8], mtu: usize) -> Vec<u8> {
    too_big::answer(frame, &dissect(frame), mtu).unwrap().to_vec()
}

fn payloads(peer: &mut Peer) -> Vec<Vec<u8>> {
    peer.received().into_iter().map(|(_, bytes)| bytes).collect()
}

/// The UDP payloads that the fragments in these datagrams make.
fn put_together(datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut pool = IpDefragPool::<(), ()>::new();
    let whole = datagrams.iter().filter_map(|datagram| {
        let sliced = SlicedPacket::from_ethernet(&datagram[8..]).unwrap();
        pool.process_sliced_packet(&sliced, (), ()).unwrap().map(|packet| packet.payload)
    });
    whole.collect()
}

#[test]
fn what_just_fits_passes_and_a_byte_more_is_answered_where_it_came_in() {
    let (mut scene, mut peer) = scene();
    for frame in [udp4(B, A, 0, LONGEST - 42), udp6_between(B, A, LONGEST - 62), frame(B, A, LONGEST)] {
        scene.send(P0, &frame);
        assert_eq!(payloads(&mut peer), [vxlan(42, &frame)]);
    }
    assert_eq!(scene.drops(), []);
    for frame in [udp4(B, A, 0, LONGEST - 41), udp6_between(B, A, LONGEST - 61)] {
        let before = blue(&scene);
        scene.send(P0, &frame);
        assert_eq!(scene.received(P0), [answer_to(&frame, 1450)]);
        assert_eq!((payloads(&mut peer).len(), scene.received(P1).len()), (0, 0));
        let after = blue(&scene);
        let counted = |of: &Tally| (of.frames_in, of.copies, of.frames_out, of.drops());
        let (a, b) = (counted(&after), counted(&before));
        assert_eq!(
            (a.0 - b.0, a.1 - b.1, a.2 - b.2, a.3 - b.3),
            (1, 1, 1, 1),
            "one in, its answer out, itself dropped"
        );
    }
    assert_eq!(scene.drops(), [(DropReason::OversizeAnswered, 2)]);
    assert_eq!(scene.shared.fdb.lookup(BLUE, B), Some(Endpoint::Vtep(peer.vtep)), "an answer teaches nothing");
}

#[test]
fn options_of_geneve_leave_less_room() {
    let (mut scene, mut peer) = scene();
    scene.bridge(BLUE).encapsulation = Encapsulation::Geneve;
    let mut options = OptionList::new();
    options.push(GeneveOption { class: 0xff01, kind: 1, data: &[0xc0, 0xff, 0xee, 0] }).unwrap();
    scene.bridge(BLUE).geneve_options = options;
    let (header, longest) = (16, LONGEST - 8);
    let fitting = udp4(B, A, 0, longest - 42);
    scene.send(P0, &fitting);
    assert_eq!(
        payloads(&mut peer),
        [[&[2, 0, 0x65, 0x58, 0, 0, 42, 0, 0xff, 1, 1, 1, 0xc0, 0xff, 0xee, 0], &fitting[..]].concat()]
    );

    let longer = udp4(B, A, 0, longest - 41);
    scene.send(P0, &longer);
    assert_eq!(scene.received(P0), [answer_to(&longer, longest - 14)]);
    assert_eq!((scene.drops(), payloads(&mut peer).len()), (vec![(DropReason::OversizeAnswered, 1)], 0));

    let loose = loose(B, A, 3000);
    scene.send(P0, &loose);
    let fragments = payloads(&mut peer);
    let lens: Vec<_> = fragments.iter().map(|bytes| bytes.len() - header).collect();
    // 1422 bytes of each packet are left for its payload, of which a fragment holds a multiple of 8: 1416.
    assert_eq!(lens, [34 + 1416, 34 + 1416, 34 + 3000 - 34 - 2 * 1416]);
    let plain: Vec<_> = fragments.iter().map(|bytes| bytes[header - 8..].to_vec()).collect();
    assert_eq!(put_together(&plain), [&loose[34..]]);
}

#[test]
fn each_vtep_has_its_own_path() {
    let (mut scene, mut peer) = scene();
    let mut second = scene.add_peer(3);
    scene.shared.fdb.add_static(BLUE, C, Endpoint::Vtep(second.vtep), Origin::Static, Stamp(0));
    scene.overlay().path_mtus = vec![Some(1400)];
    let (near, far) = (udp4(B, A, 0, 1400 - 42), udp4(C, A, 0, 1400 - 42));
    scene.send(P0, &near);
    scene.send(P0, &far);
    assert_eq!(scene.received(P0), [answer_to(&near, 1350)]);
    assert_eq!((payloads(&mut peer).len(), payloads(&mut second)), (0, vec![vxlan(42, &far)]));
}

#[test]
fn the_sender_of_a_flooded_frame_is_told_once() {
    let (mut scene, mut peer) = scene();
    let mut second = scene.add_peer(3);
    let _third = scene.add_peer(4);
    scene.overlay().path_mtus = vec![None, Some(2000)];
    scene.net.set_conditions(Conditions { mtu: 2000, ..Conditions::default() });
    let bytes = udp4(C, A, 0, 1500);
    scene.send(P0, &bytes);
    assert_eq!(scene.received(P0), [answer_to(&bytes, 1450)]);
    assert_eq!(scene.received(P1), std::slice::from_ref(&bytes));
    assert_eq!((payloads(&mut peer).len(), payloads(&mut second)), (0, vec![vxlan(42, &bytes)]));
    assert_eq!(scene.drops(), [(DropReason::OversizeAnswered, 2)]);
    // Two frames of one batch are two.
    for _ in 0..2 {
        scene.host(P0).send(&bytes, VnetHeader::NONE).unwrap();
    }
    scene.turn();
    assert_eq!(scene.received(P0).len(), 2);
}

#[test]
fn a_broadcast_that_is_too_long_has_nobody_to_answer_in_its_name() {
    let (mut scene, mut peer) = scene();
    scene.send(P0, &udp4(MacAddr::BROADCAST, A, 0, 1500));
    assert_eq!((scene.received(P0).len(), scene.received(P1).len(), payloads(&mut peer).len()), (0, 1, 0));
    assert_eq!(scene.drops(), [(DropReason::Oversize, 1)]);
}

#[test]
fn an_answer_has_the_tag_of_its_trunk_and_the_tags_of_its_frame() {
    let mut scene = Scene::new();
    scene.add_port(trunk(&[(10, BLUE)], None), NO_OFFLOADS);
    scene.join_overlay();
    scene.overlay().underlay_mtu = 1500;
    scene.port(P0).mtu = 9000;
    let peer = scene.add_peer(2);
    scene.shared.fdb.add_static(BLUE, B, Endpoint::Vtep(peer.vtep), Origin::Static, Stamp(0));
    let plain = udp4(B, A, 0, 1500);
    scene.send(P0, &tagged(&plain, 0x600a));
    assert_eq!(scene.received(P0), [tagged(&answer_to(&plain, 1450), 0x600a)]);
    // A tag of its own takes room in the tunnel.
    let inner = tagged(&plain, 0x2005);
    scene.send(P0, &tagged(&inner, 10));
    assert_eq!(scene.received(P0), [tagged(&answer_to(&inner, 1446), 10)]);
    assert_eq!(answer_to(&inner, 1446)[12..18], [0x81, 0, 0x20, 5, 8, 0]);
}

#[test]
fn a_super_frame_gets_one_answer_that_quotes_its_own_head() {
    let (mut scene, mut peer) = scene();
    let (bytes, vnet) = unfinished_tcp4(B, A, 20_000, Some(1460));
    scene.send_with(P0, &bytes, vnet);
    assert_eq!(scene.received(P0), [answer_to(&bytes, 1450)]);
    assert!(payloads(&mut peer).is_empty());
    assert_eq!(scene.drops(), [(DropReason::OversizeAnswered, 14)], "20,000 bytes are 14 segments");
    let (bytes, vnet) = unfinished_tcp4(B, A, 20_000, Some(1410));
    scene.send_with(P0, &bytes, vnet);
    assert!(payloads(&mut peer).iter().all(|datagram| datagram.len() <= 8 + LONGEST));
    assert!(scene.received(P0).is_empty());
}

#[test]
fn without_df_the_packet_inside_is_fragmented() {
    let (mut scene, mut peer) = scene();
    for len in [LONGEST + 1, 4042, 8000] {
        let bytes = loose(B, A, len);
        let before = blue(&scene);
        scene.send(P0, &bytes);
        let datagrams = payloads(&mut peer);
        assert!(datagrams.len() > 1 && datagrams.iter().all(|datagram| datagram.len() <= 8 + LONGEST));
        assert_eq!(put_together(&datagrams), [bytes[34..].to_vec()]);
        let after = blue(&scene);
        assert_eq!(after.copies - before.copies, datagrams.len() as u64 - 1);
        assert_eq!(after.frames_out - before.frames_out, datagrams.len() as u64);
    }
    assert_eq!((scene.drops(), scene.received(P0)), (vec![], vec![]));
}

/// A UDP frame as a tap hands it over, its checksum only started.
fn unfinished_udp(len: usize, gso_size: Option<u16>) -> (Vec<u8>, VnetHeader) {
    let mut bytes = loose(B, A, len);
    let started = pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 17, (len - 34) as u16).fold();
    bytes[40..42].copy_from_slice(&started.to_be_bytes());
    let csum = Some(PartialCsum { start: 34, offset: 6 });
    (bytes, VnetHeader { csum, gso: gso_size.map(|size| (Gso::Udp, size)), gso_ecn: false })
}

#[test]
fn a_checksum_is_finished_before_the_packet_is_cut() {
    let (mut scene, mut peer) = scene();
    let (bytes, vnet) = unfinished_udp(4042, None);
    scene.send_with(P0, &bytes, vnet);
    let whole = put_together(&payloads(&mut peer));
    assert_eq!(whole, [loose(B, A, 4042)[34..].to_vec()]);
}

#[test]
fn each_segment_of_a_udp_super_frame_is_fragmented() {
    let (mut scene, mut peer) = scene();
    let (bytes, vnet) = unfinished_udp(42 + 5000, Some(2000));
    scene.send_with(P0, &bytes, vnet);
    let datagrams = payloads(&mut peer);
    assert_eq!(datagrams.len(), 2 + 2 + 1);
    // What fits is none.
    assert_eq!(datagrams[4].len(), 8 + 42 + 1000);
    let whole = put_together(&datagrams);
    let expected: Vec<_> = bytes[42..].chunks(2000).take(2).map(<[u8]>::to_vec).collect();
    assert_eq!(whole.iter().map(|packet| packet[8..].to_vec()).collect::<Vec<_>>(), expected);
    let blue = blue(&scene);
    assert_eq!((blue.frames_in, blue.copies, blue.frames_out), (3, 2, 5));
}

#[test]
fn outer_fragments_are_made_of_whatever_is_not_answered() {
    let (mut scene, mut peer) = scene();
    scene.overlay().oversize = Oversize::Outer;
    let mut to_group = udp4(B, A, 0, 4000);
    to_group[30] = 239;
    for bytes in [loose(B, A, 4000), frame(B, A, 4000), to_group] {
        scene.send(P0, &bytes);
        assert_eq!(payloads(&mut peer), [vxlan(42, &bytes)]);
    }
    assert!(scene.received(P0).is_empty());
    let answered = udp4(B, A, 0, 4000);
    scene.send(P0, &answered);
    assert_eq!(scene.received(P0), [answer_to(&answered, 1450)]);
    scene.port(P0).mtu = u16::MAX;
    scene.send(P0, &frame(B, A, 65_500));
    assert_eq!(scene.drops(), [(DropReason::OversizeAnswered, 1), (DropReason::UnderlayMtu, 1)]);
}

#[test]
fn what_is_neither_answered_nor_fragmented_is_dropped_by_name() {
    let (mut scene, mut peer) = scene();
    scene.send(P0, &frame(B, A, LONGEST + 1));
    assert_eq!(scene.drops(), [(DropReason::OversizeNotIp, 1)]);
    // An ICMP error gets none.
    let mut error = udp4(B, A, 0, 1500);
    (error[23], error[34]) = (1, 3);
    scene.send(P0, &error);
    assert_eq!(scene.drops(), [(DropReason::OversizeNotIp, 1), (DropReason::Oversize, 1)]);
    scene.overlay().oversize = Oversize::Drop;
    scene.send(P0, &loose(B, A, 1500));
    assert_eq!(scene.drops(), [(DropReason::OversizeNotIp, 1), (DropReason::Oversize, 2)]);
    assert_eq!((payloads(&mut peer).len(), scene.received(P0).len()), (0, 0));
}

#[test]
fn answers_are_limited_and_what_had_none_is_another_drop() {
    let (mut scene, _peer) = scene();
    let bytes = udp4(B, A, 0, 1500);
    for _ in 0..60 {
        scene.send(P0, &bytes);
    }
    assert_eq!(scene.received(P0).len(), 12);
    assert_eq!(scene.drops(), [(DropReason::OversizeAnswered, 12), (DropReason::OversizeMuted, 48)]);
    // Another sender behind the same port is answered all the same.
    scene.send(P0, &udp4(B, C, 0, 1500));
    assert_eq!(scene.received(P0).len(), 1);
    scene.now = Stamp(28);
    for _ in 0..10 {
        scene.send(P0, &bytes);
    }
    assert_eq!(scene.received(P0).len(), 7);
}

#[test]
fn what_the_interface_refuses_all_the_same_has_a_name_of_its_own() {
    let (mut scene, _peer) = scene();
    scene.overlay().underlay_mtu = 1600;
    scene.send(P0, &udp4(B, A, 0, LONGEST - 41));
    assert_eq!((scene.drops(), scene.received(P0).len()), (vec![(DropReason::UnderlayMtu, 1)], 0));
}

#[test]
fn fragments_of_what_is_sent_round_its_router_have_the_new_addresses() {
    let (mut scene, mut peer) = scene();
    let router = MacAddr::new([2, 0, 0, 0, 0, 0x11]);
    scene.shared.fdb.add_static(BLUE, router, Endpoint::Vtep(peer.vtep), Origin::Static, Stamp(0));
    scene.bridge(BLUE).tunnel = TunnelOptions { rsc: true, ..TunnelOptions::default() };
    scene.bridge(BLUE).neighs = [
        ([10, 0, 0, 2].into(), Neigh { mac: B, router: false }),
        ([10, 0, 0, 254].into(), Neigh { mac: router, router: true }),
    ]
    .into_iter()
    .collect();
    scene.send(P0, &loose(router, A, 4000));
    let datagrams = payloads(&mut peer);
    assert_eq!(datagrams.len(), 3);
    assert!(datagrams.iter().all(|datagram| datagram[8..20] == [B.octets(), router.octets()].concat()));
}

fn mss_of(frame: &[u8]) -> u16 {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("{packet:?}") };
    assert_eq!(Ok(tcp.checksum()), tcp.calc_checksum_ipv4([10, 0, 0, 1], [10, 0, 0, 2]));
    u16::from_be_bytes([tcp.options()[2], tcp.options()[3]])
}

#[test]
fn tcp_is_held_to_segments_that_fit_both_ways_and_between_ports_is_not() {
    let (mut scene, mut peer) = scene();
    scene.bridge(BLUE).mss_clamp = true;
    scene.send(P0, &syn4(C, A, 8960));
    let [datagram] = &payloads(&mut peer)[..] else { panic!("one copy") };
    assert_eq!(mss_of(&datagram[8..]), 1410);
    assert_eq!(scene.received(P1), [syn4(C, A, 8960)]);
    peer.send(0, &vxlan(42, &syn4(A, B, 8960)));
    scene.turn();
    assert_eq!(scene.received(P0).iter().map(|frame| mss_of(frame)).collect::<Vec<_>>(), [1410]);
    peer.send(0, &vxlan(42, &syn4(A, B, 536)));
    scene.turn();
    assert_eq!(scene.received(P0), [syn4(A, B, 536)]);

    // Left undone by its sender: the checksum is completed when it leaves.
    let (open, vnet) = open(&syn4(C, A, 1460));
    scene.send_with(P0, &open, vnet);
    assert_eq!(mss_of(&payloads(&mut peer)[0][8..]), 1410);
    // And it arrives so: the port hands it on with the sum of the pseudo header, which is none of the option's.
    scene.received(P1);
    peer.send(0, &vxlan(42, &self::open(&syn4(A, B, 1460)).0));
    scene.turn();
    let [(bytes, vnet)] = &scene.received_with(P0)[..] else { panic!("one frame") };
    assert!(vnet.csum.is_some());
    let mut done = bytes.clone();
    crate::offload::complete(&mut done, vnet.csum.unwrap()).unwrap();
    assert_eq!(mss_of(&done), 1410);

    scene.bridge(BLUE).mss_clamp = false;
    scene.send(P0, &syn4(C, A, 8960));
    assert_eq!(payloads(&mut peer), [vxlan(42, &syn4(C, A, 8960))]);
}

/// The same frame with a checksum that is only started.
fn open(frame: &[u8]) -> (Vec<u8>, VnetHeader) {
    let mut bytes = frame.to_vec();
    let started = pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 6, (bytes.len() - 34) as u16).fold();
    bytes[50..52].copy_from_slice(&started.to_be_bytes());
    (bytes, VnetHeader { csum: Some(PartialCsum { start: 34, offset: 16 }), gso: None, gso_ecn: false })
}

#[test]
fn segments_are_held_to_the_path_of_their_vtep_and_to_the_room_that_a_tag_leaves() {
    let (mut scene, mut peer) = scene();
    scene.bridge(BLUE).mss_clamp = true;
    scene.overlay().path_mtus = vec![Some(1300)];
    scene.send(P0, &tagged(&syn4(B, A, 8960), 5));
    let datagram = payloads(&mut peer).remove(0);
    assert_eq!(mss_of(&datagram[8..]), 1300 - 54 - 40);
    assert_eq!(scene.drops(), []);
}

#[test]
fn a_frame_of_the_switchs_own_leaves_however_long_it_is() {
    let (mut scene, mut peer) = scene();
    let own = udp4(B, A, 0, 2000);
    scene.turn();
    scene.net.set_conditions(Conditions { mtu: 9000, ..Conditions::default() });
    scene.worker.send_own(BLUE, Member::Overlay, &own, scene.now);
    assert_eq!((scene.drops(), payloads(&mut peer)), (vec![], vec![vxlan(42, &own)]));
    scene.net.set_conditions(Conditions { mtu: 1500, ..Conditions::default() });
    scene.worker.send_own(BLUE, Member::Overlay, &own, scene.now);
    assert_eq!(scene.drops(), [(DropReason::UnderlayMtu, 1)]);
    scene.assert_balanced();
    assert!(scene.received(P0).is_empty());
}
