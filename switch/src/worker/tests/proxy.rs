//! `proxy`, `rsc`, `l2miss` and `l3miss`: what leaves for VTEPs is looked at, as by the kernel's vxlan device.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    super::Fact,
    scene::{A, ALL_OFFLOADS, B, BLUE, C, NO_OFFLOADS, P0, P1, Peer, Scene, frame, udp4, unfinished_tcp4},
};
use crate::{
    bridge::{DropReason, Neigh, TunnelOptions},
    fdb::Origin,
    ids::Endpoint,
    wire::{MacAddr, arp::Arp, ndisc::Neighbour},
};

const ASKER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const ASKED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const ASKED6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const L3_EVERYTHING: TunnelOptions =
    TunnelOptions { learning: true, proxy: true, rsc: true, l2miss: true, l3miss: true };

/// Two ports and a peer in BLUE, and the neighbours 10.0.0.2 and fd00::2, which C has.
fn scene(options: TunnelOptions) -> (Scene, Peer) {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    scene.join_overlay();
    let peer = scene.add_peer(2);
    let neigh = Neigh { mac: C, router: false };
    scene.bridge(BLUE).neighs = [(ASKED.into(), neigh), (ASKED6.into(), neigh)].into_iter().collect();
    scene.bridge(BLUE).tunnel = options;
    (scene, peer)
}

fn proxy() -> TunnelOptions {
    TunnelOptions { proxy: true, l3miss: true, ..TunnelOptions::default() }
}

/// A asks for `target`.
fn request(dst: MacAddr, target: Ipv4Addr) -> Vec<u8> {
    let question = Arp {
        hardware: 1,
        operation: 2,
        sender_mac: dst,
        sender_ip: target,
        target_mac: MacAddr::ZERO,
        target_ip: ASKER,
    };
    let mut frame = question.reply(A).to_vec();
    frame[21] = 1;
    frame
}

fn solicitation(target: Ipv6Addr) -> Vec<u8> {
    let mut frame =
        [&[0x33, 0x33, 0xff, 0, 0, 2][..], &A.octets(), &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 58, 255]].concat();
    frame.extend(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).octets());
    frame.extend(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 2).octets());
    frame.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend(target.octets());
    frame
}

#[test]
fn a_request_for_a_known_neighbour_is_answered_and_does_not_leave() {
    let (mut scene, mut peer) = scene(proxy());
    scene.send(P0, &request(MacAddr::BROADCAST, ASKED));
    assert!(peer.received().is_empty());
    assert_eq!(scene.received(P1).len(), 1, "other ports hear it");
    let [answer] = &scene.received(P0)[..] else { panic!("one answer") };
    let answer = Arp::parse(answer).unwrap();
    assert_eq!((answer.operation, answer.sender_mac, answer.sender_ip), (2, C, ASKED));
    assert_eq!((answer.target_mac, answer.target_ip), (A, ASKER));
    assert_eq!(scene.drops(), [(DropReason::NeighProxied, 1)]);
    let total = scene.counters().total();
    assert_eq!((total.frames_in, total.copies, total.frames_out), (1, 2, 2));
}

#[test]
fn a_solicitation_for_a_known_neighbour_is_answered() {
    let (mut scene, mut peer) = scene(proxy());
    scene.send(P0, &solicitation(ASKED6));
    let [answer] = &scene.received(P0)[..] else { panic!("one answer") };
    assert_eq!(Neighbour::parse(answer).unwrap().target, ASKED6);
    assert_eq!((answer[54], &answer[6..12]), (136, &C.octets()[..]));
    assert!(peer.received().is_empty());
}

#[test]
fn who_is_unknown_is_lost_and_told_of() {
    let (mut scene, mut peer) = scene(proxy());
    let nobody = Ipv4Addr::new(10, 0, 0, 9);
    scene.send(P0, &request(MacAddr::BROADCAST, nobody));
    scene.send(P0, &solicitation(Ipv6Addr::LOCALHOST));
    scene.send(P0, &request(MacAddr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)));
    assert!(peer.received().is_empty() && scene.received(P0).is_empty());
    assert_eq!(scene.drops(), [(DropReason::NeighProxied, 3)]);
    let missed = |ip: IpAddr| Fact::L3Miss { bridge: BLUE, ip };
    let told: Vec<_> = scene.facts().into_iter().filter(|fact| matches!(fact, Fact::L3Miss { .. })).collect();
    assert_eq!(told, [missed(nobody.into()), missed(Ipv6Addr::LOCALHOST.into())]);
}

#[test]
fn all_arp_stays_unicast_and_replies_too_and_nothing_else_does() {
    let (mut scene, mut peer) = scene(proxy());
    scene.shared.fdb.add_static(BLUE, C, Endpoint::Vtep(peer.vtep), Origin::Static, scene.now);
    scene.send(P0, &request(C, ASKED));
    assert_eq!(scene.received(P0).len(), 1);
    let mut reply = request(C, ASKED);
    reply[21] = 2;
    scene.send(P0, &reply);
    scene.send(P0, &request(C, ASKED)[..30]);
    assert!(peer.received().is_empty() && scene.received(P0).is_empty());
    assert_eq!(scene.drops(), [(DropReason::NeighProxied, 3)]);
    scene.send(P0, &udp4(C, A, 0, 10));
    assert_eq!(peer.received().len(), 1);
}

#[test]
fn a_neighbour_behind_a_port_answers_for_itself() {
    let (mut scene, _peer) = scene(proxy());
    scene.shared.fdb.add_static(BLUE, C, Endpoint::Port(P1), Origin::Static, scene.now);
    scene.send(P0, &request(MacAddr::BROADCAST, ASKED));
    assert_eq!((scene.received(P0).len(), scene.received(P1).len()), (0, 1));
}

/// B is a router behind the peer; 10.0.0.2, whom the packet is for, is C.
fn routed(scene: &mut Scene, peer: &Peer) {
    let neighs = [
        (ASKED.into(), Neigh { mac: C, router: false }),
        (Ipv4Addr::new(10, 0, 0, 254).into(), Neigh { mac: B, router: true }),
    ];
    scene.bridge(BLUE).neighs = neighs.into_iter().collect();
    scene.shared.fdb.add_static(BLUE, B, Endpoint::Vtep(peer.vtep), Origin::Static, scene.now);
}

#[test]
fn a_packet_to_a_router_goes_straight_to_its_station() {
    let (mut scene, mut peer) = scene(L3_EVERYTHING);
    routed(&mut scene, &peer);
    let packet = udp4(B, A, 0, 10);
    assert_eq!(packet[30..34], ASKED.octets(), "what the frames of the scene are for");
    let expected = [&C.octets()[..], &B.octets(), &packet[12..]].concat();
    // Nobody knows C: the flood list does.
    scene.send(P0, &packet);
    assert_eq!(peer.received()[0].1[8..], expected);
    // C is at a port.
    scene.shared.fdb.add_static(BLUE, C, Endpoint::Port(P1), Origin::Static, scene.now);
    scene.send(P0, &packet);
    assert_eq!(scene.received(P1), [expected]);
    // Nobody knows C, and there is nobody to ask.
    scene.shared.fdb.remove(BLUE, C);
    scene.bridge(BLUE).flood_list.clear();
    scene.facts();
    scene.send(P0, &packet);
    assert_eq!(scene.drops(), [(DropReason::NoFloodTarget, 1)]);
    assert_eq!(scene.facts(), [Fact::L2Miss { bridge: BLUE, mac: C }]);
}

#[test]
fn a_super_frame_to_a_router_is_cut_for_its_station() {
    let mut scene = Scene::access(&[ALL_OFFLOADS; 2]);
    scene.join_overlay();
    let peer = scene.add_peer(2);
    scene.bridge(BLUE).tunnel = L3_EVERYTHING;
    routed(&mut scene, &peer);
    scene.shared.fdb.add_static(BLUE, C, Endpoint::Port(P1), Origin::Static, scene.now);
    let (bytes, vnet) = unfinished_tcp4(B, A, 3000, Some(1000));
    scene.send_with(P0, &bytes, vnet);
    let received = scene.received(P1);
    assert_eq!(received.len(), 3);
    assert!(received.iter().all(|frame| frame[..12] == [C.octets(), B.octets()].concat()));
}

#[test]
fn a_packet_to_a_router_for_nobody_known_goes_to_the_router() {
    let (mut scene, mut peer) = scene(L3_EVERYTHING);
    routed(&mut scene, &peer);
    scene.bridge(BLUE).neighs =
        [(Ipv4Addr::new(10, 0, 0, 254).into(), Neigh { mac: B, router: true })].into_iter().collect();
    let packet = udp4(B, A, 0, 10);
    scene.send(P0, &packet);
    assert_eq!(peer.received()[0].1[8..], packet);
    assert!(scene.facts().contains(&Fact::L3Miss { bridge: BLUE, ip: ASKED.into() }));
}

#[test]
fn unknown_unicast_is_told_of_where_there_is_no_flood_list() {
    let (mut scene, mut peer) = scene(TunnelOptions { l2miss: true, ..TunnelOptions::default() });
    scene.send(P0, &frame(C, A, 60));
    assert_eq!(peer.received().len(), 1);
    scene.bridge(BLUE).flood_list.clear();
    scene.facts();
    scene.send(P0, &frame(C, A, 60));
    scene.send(P0, &frame(MacAddr::BROADCAST, A, 60));
    assert_eq!(scene.facts(), [Fact::L2Miss { bridge: BLUE, mac: C }]);
    assert_eq!(scene.received(P1).len(), 3, "the ports hear it all the same");
}

#[test]
fn misses_leave_room_for_other_news() {
    let (mut scene, _peer) = scene(TunnelOptions { l2miss: true, ..TunnelOptions::default() });
    scene.bridge(BLUE).flood_list.clear();
    for n in 0..1000 {
        scene.send(P0, &frame(MacAddr::from_u64(0x0200_0000_1000 + n), A, 60));
    }
    assert!(scene.worker.report().facts_lost > 0);
    scene.send(P1, &frame(A, B, 60));
    assert!(scene.facts().contains(&Fact::Learned { bridge: BLUE, mac: B, at: Endpoint::Port(P1) }));
}
