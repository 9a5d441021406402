//! What is seldom switched on at ports and bridges, frame by frame.

use super::scene::*;
use crate::{
    bridge::{DropReason, Neigh, PortSecurity, Prefix, Station, StpState},
    fdb::Origin,
    ids::Endpoint,
    wire::{MacAddr, Tpid, arp::Arp},
};

const LLDP: MacAddr = MacAddr::new([1, 0x80, 0xc2, 0, 0, 0xe]);

fn where_is(scene: &Scene, mac: MacAddr) -> Option<Endpoint> {
    scene.shared.fdb.lookup(BLUE, mac)
}

fn is_locked(scene: &Scene, mac: MacAddr) -> bool {
    scene.shared.fdb.entries().iter().any(|entry| entry.mac == mac && entry.locked)
}

#[test]
fn a_port_that_only_learns_passes_nothing_on_and_one_that_blocks_learns_nothing() {
    for state in [StpState::Learning, StpState::Blocking, StpState::Listening, StpState::Disabled] {
        let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
        scene.port(P0).options.state = state;
        scene.send(P0, &frame(B, A, 60));
        assert!(scene.received(P1).is_empty());
        assert_eq!(scene.drops(), [(DropReason::PortState, 1)]);
        assert_eq!(where_is(&scene, A).is_some(), state == StpState::Learning, "{state:?}");
        scene.send(P1, &frame(MacAddr::BROADCAST, B, 60));
        assert!(scene.received(P0).is_empty());
    }
}

#[test]
fn a_reserved_group_teaches_what_the_state_allows_and_the_lock_does_not_ask() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 3]);
    scene.port(P0).options.state = StpState::Blocking;
    scene.port(P1).options.locked = true;
    scene.send(P0, &frame(LLDP, A, 60));
    scene.send(P1, &frame(LLDP, B, 60));
    assert_eq!(scene.drops(), [(DropReason::ReservedGroup, 2)]);
    assert_eq!((where_is(&scene, A), where_is(&scene, B)), (None, Some(Endpoint::Port(P1))));
    scene.bridge(BLUE).no_linklocal_learn = true;
    scene.send(P2, &frame(LLDP, C, 60));
    assert_eq!(where_is(&scene, C), None);
}

#[test]
fn a_port_that_names_its_stations_learns_nobody_else_and_takes_nothing_said_in_anothers_name() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 3]);
    let address = Prefix { address: [10, 0, 0, 1].into(), len: 32 };
    let guest = Station { mac: A, addresses: vec![address] };
    scene.port(P0).security = PortSecurity::new(&[guest, Station { mac: B, addresses: vec![] }]);
    scene.send(P1, &frame(MacAddr::BROADCAST, C, 60));
    scene.received(P0);

    scene.send(P0, &frame(MacAddr::BROADCAST, C, 60));
    assert_eq!(where_is(&scene, C), Some(Endpoint::Port(P1)), "nobody takes another's place");
    let mut elsewhere = udp4(C, A, 0, 10);
    elsewhere[29] = 7; // 10.0.0.7
    scene.send(P0, &elsewhere);
    assert_eq!(where_is(&scene, A), None, "what is refused teaches nothing");
    assert_eq!(scene.drops(), [(DropReason::MacSpoofed, 1), (DropReason::IpSpoofed, 1)]);
    assert!(scene.received(P1).is_empty());

    for good in [udp4(C, A, 0, 10), frame(C, A, 60), frame(C, B, 60)] {
        scene.send(P0, &good);
        assert_eq!(scene.received(P1), [good]);
    }
    assert_eq!(where_is(&scene, A), Some(Endpoint::Port(P0)));
    // A lock beside it is a lock still.
    scene.port(P0).options.locked = true;
    scene.send(P0, &frame(C, B, 60));
    scene.shared.fdb.remove(BLUE, B);
    scene.send(P0, &frame(C, B, 60));
    assert_eq!(scene.drops().last(), Some(&(DropReason::IpSpoofed, 1)));
    assert_eq!(scene.drops()[0], (DropReason::Locked, 1));
}

#[test]
fn a_locked_port_lets_in_whom_it_knows_and_nobody_moves_to_it() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 3]);
    scene.port(P0).options.locked = true;
    scene.send(P0, &frame(B, A, 60));
    assert_eq!(where_is(&scene, A), None);
    scene.send(P1, &frame(B, C, 60));
    scene.received(P2);
    for _ in 0..2 {
        scene.send(P0, &frame(B, C, 60)); // known at another port, also to the cache
    }
    assert_eq!(where_is(&scene, C), Some(Endpoint::Port(P1)));
    assert_eq!(scene.drops(), [(DropReason::Locked, 3)]);

    scene.shared.fdb.add_static(BLUE, A, Endpoint::Port(P0), Origin::Static, scene.now);
    scene.send(P0, &frame(B, A, 60));
    assert_eq!(scene.received(P2).len(), 1);
}

#[test]
fn the_bridges_own_address_is_no_key_to_a_locked_port() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    scene.port(P0).options.locked = true;
    scene.port(P0).options.mab = true;
    scene.bridge(BLUE).local_macs.push(A);
    scene.send(P0, &frame(B, A, 60));
    assert_eq!((scene.drops(), where_is(&scene, A)), (vec![(DropReason::Locked, 1)], None));
}

#[test]
fn with_mab_an_unknown_address_is_seen_locked_until_it_is_let_in_or_moves() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    scene.port(P0).options.locked = true;
    scene.port(P0).options.mab = true;
    scene.send(P0, &frame(B, A, 60));
    scene.now.0 += 1000;
    scene.send(P0, &frame(B, A, 60));
    assert!(is_locked(&scene, A));
    assert_eq!(scene.shared.fdb.entries()[0].updated, scene.now, "a locked entry is kept alive");
    assert_eq!(scene.drops(), [(DropReason::Locked, 2)]);
    scene.send(P1, &frame(A, B, 60));
    assert_eq!(scene.received(P0).len(), 1, "frames to it pass");

    scene.send(P1, &frame(B, A, 60));
    assert_eq!((where_is(&scene, A), is_locked(&scene, A)), (Some(Endpoint::Port(P1)), false));
    scene.send(P0, &frame(B, A, 60));
    assert_eq!(where_is(&scene, A), Some(Endpoint::Port(P1)), "not back to the locked port");
}

#[test]
fn a_bridge_that_learns_nothing_makes_no_locked_entries() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    scene.port(P0).options.locked = true;
    scene.port(P0).options.mab = true;
    scene.bridge(BLUE).learning = false;
    scene.send(P0, &frame(B, A, 60));
    assert_eq!(where_is(&scene, A), None);
}

#[test]
fn a_full_port_forwards_what_it_does_not_learn() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    scene.port(P0).options.fdb_max_learned = 1;
    for src in [A, B, A] {
        scene.send(P0, &frame(C, src, 60));
    }
    assert_eq!(scene.received(P1).len(), 3);
    assert_eq!((where_is(&scene, A), where_is(&scene, B)), (Some(Endpoint::Port(P0)), None));
}

/// A asks for 10.0.0.2.
fn arp_request() -> Vec<u8> {
    let mut frame = [MacAddr::BROADCAST.octets(), A.octets()].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(A.octets());
    frame.extend([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    frame
}

/// Three ports, B with 10.0.0.2 known at the second, which suppresses.
fn suppressing() -> Scene {
    let mut scene = Scene::access(&[NO_OFFLOADS; 3]);
    scene.port(P1).options.neigh_suppress = true;
    let neigh = Neigh { mac: B, router: false };
    scene.bridge(BLUE).neighs = [("10.0.0.2".parse().unwrap(), neigh)].into_iter().collect();
    scene.bridge(BLUE).answers = true;
    scene.shared.fdb.add_static(BLUE, B, Endpoint::Port(P1), Origin::Static, scene.now);
    scene
}

#[test]
fn a_question_is_answered_in_the_name_of_who_is_asked_for_and_flooded_to_the_others() {
    let mut scene = suppressing();
    scene.send(P0, &arp_request());
    let answers = scene.received(P0);
    let answer = Arp::parse(&answers[0]).unwrap();
    assert_eq!((answers.len(), answer.sender_mac, answer.target_mac), (1, B, A));
    assert!(scene.received(P1).is_empty());
    assert_eq!(scene.received(P2), [arp_request()]);
    assert!(scene.drops().is_empty());
}

#[test]
fn a_question_that_nobody_else_is_to_get_ends_under_its_name() {
    let mut scene = suppressing();
    scene.port(P2).options.bcast_flood = false;
    scene.send(P0, &arp_request());
    assert_eq!(scene.received(P0).len(), 1);
    assert_eq!(scene.drops(), [(DropReason::NeighSuppressed, 1)]);
}

#[test]
fn who_asks_in_a_vlan_is_answered_there() {
    let mut scene = suppressing();
    let trunk = scene.add_port(trunk(&[(10, BLUE)], None), NO_OFFLOADS);
    scene.send(trunk, &tagged(&arp_request(), 0x600a));
    let answers = scene.received(trunk);
    assert_eq!((answers.len(), &answers[0][12..16]), (1, &[0x81, 0, 0x60, 0x0a][..]));
}

#[test]
fn a_question_from_a_peer_is_answered_over_the_overlay() {
    let mut scene = suppressing();
    scene.join_overlay();
    let mut peer = scene.add_peer(2);
    peer.send(0, &vxlan(42, &arp_request()));
    scene.turn();
    let received = peer.received();
    assert_eq!(Arp::parse(&received[0].1[8..]).unwrap().sender_mac, B);
    assert_eq!((received.len(), scene.received(P0).len(), scene.received(P1).len()), (1, 1, 0));
}

#[test]
fn a_backup_port_takes_the_frames_of_one_that_is_down() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 3]);
    scene.shared.fdb.add_static(BLUE, B, Endpoint::Port(P1), Origin::Static, scene.now);
    scene.port(P1).options.backup_port = Some(P2);
    scene.port(P1).up = false;
    scene.send(P0, &frame(B, A, 60));
    assert_eq!((scene.received(P1).len(), scene.received(P2).len()), (0, 1));
}

/// Statements 27 and 29: a provider's tags decide, and customers' are payload.
#[test]
fn a_trunk_of_a_provider_takes_its_own_tags_off_and_puts_them_on() {
    let mut scene = Scene::new();
    for _ in 0..2 {
        let port = scene.add_port(trunk(&[(10, BLUE)], Some(GREEN)), NO_OFFLOADS);
        scene.port(port).options.vlan_protocol = Tpid::Service;
    }
    let access = scene.add_port(crate::bridge::Membership::Access(BLUE), NO_OFFLOADS);
    let inner = tagged(&frame(MacAddr::BROADCAST, A, 60), 10);
    let outer = tagged_by(Tpid::Service, &inner, 0xb00a);
    scene.send(P0, &outer);
    assert_eq!(scene.received(P1), std::slice::from_ref(&outer));
    assert_eq!(scene.received(access), std::slice::from_ref(&inner), "the customer's tag stays on");
    scene.send(access, &inner);
    assert_eq!(scene.received(P0), [tagged_by(Tpid::Service, &inner, 10)]);
    scene.received(P1);
    scene.send(P0, &inner);
    assert_eq!(scene.received(P1), [inner], "native");
    assert!(scene.received(access).is_empty());
}
