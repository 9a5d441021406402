//! Probes of the path MTU on their way through a worker.

use std::net::IpAddr;

use super::scene::{A, B, BLUE, NO_OFFLOADS, P0, Peer, Scene, frame, udp4, vxlan};
use crate::{
    bridge::DropReason,
    ids::VtepId,
    wire::{
        MacAddr, arp,
        probe::{Kind, Probe, own_address},
    },
    worker::ProbeNews,
};

const QUESTION: Probe = Probe { kind: Kind::Question, nonce: 7, len: 1000 };

fn scene() -> (Scene, Peer) {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    scene.join_overlay();
    let peer = scene.add_peer(2);
    (scene, peer)
}

fn local() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

fn inner(peer: &mut Peer) -> Vec<Vec<u8>> {
    peer.received().into_iter().map(|(_, bytes)| bytes[8..].to_vec()).collect()
}

#[test]
fn a_question_is_answered_and_both_are_in_the_account() {
    let (mut scene, mut peer) = scene();
    peer.send(0, &vxlan(42, &QUESTION.frame(B)));
    scene.turn();
    let [answer] = &inner(&mut peer)[..] else { panic!() };
    assert_eq!(Probe::parse(answer), Some(QUESTION.answer()));
    assert_eq!(answer[6..12], own_address(local(), 0).octets());
    assert_eq!(scene.drops(), [(DropReason::PathMtuProbe, 1)]);
    let tally = scene.counters().total();
    assert_eq!((tally.frames_in, tally.copies, tally.frames_out, tally.drops()), (1, 1, 1, 1));
    assert_eq!(scene.probe_news(), [ProbeNews::Asked { vtep: peer.vtep }]);
    assert!(scene.received(P0).is_empty(), "no station hears of it");
    assert!(scene.shared.fdb.entries().is_empty(), "nothing is learned");
}

#[test]
fn an_answer_is_told_to_who_asked() {
    let (mut scene, mut peer) = scene();
    peer.send(0, &vxlan(42, &QUESTION.answer().frame(B)));
    scene.turn();
    let expected = ProbeNews::Answered { vtep: peer.vtep, bridge: BLUE, nonce: 7, len: 1000 };
    assert_eq!(scene.probe_news(), [expected]);
    assert!(peer.received().is_empty());
    assert_eq!(scene.drops(), [(DropReason::PathMtuProbe, 1)]);
}

#[test]
fn who_was_not_named_gets_no_answer() {
    let (mut scene, _) = scene();
    scene.overlay().any_peer = true;
    let mut stranger = scene.add_stranger(9);
    stranger.send(0, &vxlan(42, &QUESTION.frame(B)));
    scene.turn();
    assert!(stranger.received().is_empty() && scene.probe_news().is_empty());
    assert_eq!(scene.drops(), [(DropReason::PathMtuProbe, 1)]);
}

#[test]
fn questions_are_answered_at_a_bounded_rate() {
    let (mut scene, mut peer) = scene();
    let mut answers = 0;
    for _ in 0..30 {
        for _ in 0..50 {
            peer.send(0, &vxlan(42, &QUESTION.frame(B)));
        }
        scene.turn();
        answers += peer.received().iter().map(|(arrival, bytes)| bytes.len().div_ceil(arrival.stride)).sum::<usize>();
    }
    assert_eq!(answers, 1000);
    assert_eq!(scene.drops(), [(DropReason::PathMtuProbe, 1500)]);
}

#[test]
fn what_else_goes_to_that_group_is_a_reserved_group_as_ever() {
    let (mut scene, mut peer) = scene();
    let mut cut = QUESTION.frame(B);
    cut.truncate(500);
    let pause = frame(MacAddr::new([1, 0x80, 0xc2, 0, 0, 1]), B, 60);
    for bytes in [cut, pause] {
        peer.send(0, &vxlan(42, &bytes));
    }
    scene.turn();
    assert_eq!(scene.drops(), [(DropReason::ReservedGroup, 2)]);
    // And from a port it is nobody's question.
    scene.send(P0, &QUESTION.frame(A));
    assert_eq!(scene.drops(), [(DropReason::ReservedGroup, 3)]);
    assert!(peer.received().is_empty());
}

#[test]
fn a_probe_that_is_sent_is_a_frame_of_the_switchs_own_and_no_use_of_the_vtep() {
    let (mut scene, mut peer) = scene();
    scene.turn();
    scene.worker.send_probe(BLUE, peer.vtep, &QUESTION.frame(A), scene.now);
    scene.assert_balanced();
    assert_eq!(inner(&mut peer), [QUESTION.frame(A)]);
    let own = scene.counters().own;
    assert_eq!((own.frames_in, own.copies, own.drops()), (1, 0, 0));
    assert!(!scene.shared.used.take(peer.vtep));
    scene.send(P0, &frame(MacAddr::BROADCAST, A, 60));
    assert!(scene.shared.used.take(peer.vtep) && !scene.shared.used.take(peer.vtep));
}

#[test]
fn answering_is_no_use_of_the_vtep_or_two_wefts_would_keep_each_other_awake() {
    let (mut scene, mut peer) = scene();
    peer.send(0, &vxlan(42, &QUESTION.frame(B)));
    scene.turn();
    assert_eq!(peer.received().len(), 1);
    assert!(!scene.shared.used.take(peer.vtep));
}

#[test]
fn stations_are_looked_for_only_where_they_are_wanted() {
    let (mut scene, mut peer) = scene();
    let mut other = scene.add_peer(3);
    peer.send(0, &vxlan(42, &udp4(A, B, 0, 10)));
    scene.turn();
    assert!(scene.probe_news().is_empty());
    scene.overlay().stations_wanted = vec![peer.vtep];
    peer.send(0, &vxlan(42, &udp4(A, B, 0, 10)));
    other.send(0, &vxlan(42, &udp4(A, MacAddr::new([2, 0, 0, 0, 0, 9]), 0, 10)));
    scene.turn();
    let ip = "10.0.0.1".parse().unwrap();
    let expected = ProbeNews::Station { vtep: peer.vtep, bridge: BLUE, mac: B, ip, is_certain: false };
    assert_eq!(scene.probe_news(), [expected]);
}

#[test]
fn a_stations_answer_ends_in_the_switch_and_nobody_else_hears_it() {
    let (mut scene, mut peer) = scene();
    let asker = own_address(local(), 5);
    let question = arp::Arp::parse(&arp::probe(asker, B, "10.0.0.2".parse().unwrap())).unwrap();
    scene.bridge(BLUE).local_macs.push(asker);
    peer.send(0, &vxlan(42, &question.reply(B)));
    // It may look for the asker, too.
    peer.send(0, &vxlan(42, &frame(asker, B, 60)));
    scene.turn();
    assert_eq!(scene.probe_news(), [ProbeNews::StationAnswered { vtep: peer.vtep, mac: B, index: 5 }]);
    assert_eq!(scene.drops(), [(DropReason::PathMtuProbe, 2)]);
    assert!(scene.received(P0).is_empty());
    // An address of the host's own that is none of these is that, whoever it comes from.
    let own = MacAddr::new([2, 0, 0, 0, 0, 0x99]);
    scene.bridge(BLUE).local_macs.push(own);
    peer.send(0, &vxlan(42, &frame(own, B, 60)));
    scene.send(P0, &frame(asker, A, 60));
    assert_eq!(scene.drops(), [(DropReason::LocalDestination, 2), (DropReason::PathMtuProbe, 2)]);
}

#[test]
fn news_that_nobody_has_room_for_are_counted_as_lost() {
    let (mut scene, mut peer) = scene();
    for _ in 0..150 {
        peer.send(0, &vxlan(42, &QUESTION.answer().frame(B)));
    }
    scene.turn();
    assert_eq!(scene.probe_news().len(), 100);
    assert_eq!(scene.worker.report().facts_lost, 50);
    assert_eq!(VtepId(0), peer.vtep);
}
