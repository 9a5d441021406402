//! Frames to multicast groups in a bridge that snoops.

use std::{net::IpAddr, sync::Arc, time::Duration};

use super::scene::{A, ALL_OFFLOADS, B, BLUE, NO_OFFLOADS, P0, P1, P2, Scene, frame, tagged, trunk, vxlan};
use crate::{
    bridge::{DropReason, StpState},
    ids::{Endpoint, PortId},
    offload::VnetHeader,
    snoop::{Group, Member, PortSettings, Router, Settings, Snooper, StaticEntry},
    wire::{
        MacAddr,
        membership::testing::{HOST, STATION, group_mac, leave, report, traffic},
    },
};

const GROUP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(239, 1, 2, 3));

/// A table of BLUE, whose querier is settled, with these members of [`GROUP`] and these routers.
fn snoop(scene: &mut Scene, members: &[Member], routers: &[Member]) {
    let mut snooper = Snooper::new(Settings { querier: true, ..Settings::default() }, A, Duration::ZERO);
    let router = PortSettings { router: Router::Always, ..PortSettings::default() };
    snooper.set_ports(&routers.iter().map(|member| (*member, router)).collect::<Vec<_>>(), Duration::ZERO);
    let entry = |member: &Member| StaticEntry { group: Group::Ip(GROUP), source: None, member: *member };
    snooper.set_static(&members.iter().map(entry).collect::<Vec<_>>());
    snooper.poll(Duration::from_secs(10));
    scene.bridge(BLUE).mdb = snooper.mdb().map(Arc::new);
}

fn data() -> Vec<u8> {
    traffic(HOST.into(), GROUP)
}

#[test]
fn a_group_s_frames_go_to_members_and_nobody_else() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 3]);
    snoop(&mut scene, &[Member::Port(P1)], &[]);
    scene.send(P0, &data());
    assert_eq!((scene.received(P1), scene.received(P2)), (vec![data()], vec![]));
    scene.send(P1, &data());
    assert_eq!((scene.received(P0), scene.received(P1)), (vec![], vec![]), "its own frames do not come back");
    assert_eq!(scene.drops(), [(DropReason::NoMcastMember, 1)]);
}

#[test]
fn the_gate_for_multicast_is_for_what_nobody_asked_for() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    snoop(&mut scene, &[Member::Port(P1)], &[]);
    scene.port(P1).options.mcast_flood = false;
    scene.send(P0, &data());
    assert_eq!(scene.received(P1), [data()]);
    scene.send(P0, &leave(GROUP));
    assert_eq!(scene.received(P1), Vec::<Vec<u8>>::new());
}

#[test]
fn isolation_and_state_hold_for_members_too() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 3]);
    snoop(&mut scene, &[Member::Port(P1), Member::Port(P2)], &[]);
    scene.port(P0).options.isolated = true;
    scene.port(P1).options.isolated = true;
    scene.port(P2).up = false;
    scene.send(P0, &data());
    assert_eq!(scene.drops(), [(DropReason::NoMcastMember, 1)]);
}

#[test]
fn what_is_said_about_groups_is_told_and_goes_to_routers() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 3]);
    snoop(&mut scene, &[], &[Member::Port(P2)]);
    scene.send(P0, &report(GROUP));
    assert_eq!((scene.received(P1), scene.received(P2)), (vec![], vec![report(GROUP)]));
    let told = scene.snooped();
    assert_eq!((told.len(), told[0].bridge, told[0].from), (1, BLUE, Endpoint::Port(P0)));
    assert_eq!(told[0].bytes[..], report(GROUP));
    scene.send(P0, &data());
    assert_eq!(scene.snooped(), [], "traffic says nothing");
}

#[test]
fn the_tag_of_a_trunk_is_off_before_a_report_is_told() {
    let mut scene = Scene::access(&[NO_OFFLOADS]);
    let port = scene.add_port(trunk(&[(7, BLUE)], None), NO_OFFLOADS);
    snoop(&mut scene, &[], &[Member::Port(P0)]);
    scene.send(port, &tagged(&report(GROUP), 7));
    assert_eq!((scene.snooped()[0].bytes.to_vec(), scene.received(P0)), (report(GROUP), vec![report(GROUP)]));
}

#[test]
fn reports_that_find_no_room_are_counted() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    snoop(&mut scene, &[], &[]);
    for _ in 0..6 {
        scene.send(P0, &leave(GROUP));
    }
    assert_eq!((scene.snooped().len(), scene.worker.report().facts_lost), (4, 2));
}

#[test]
fn malformed_packets_are_dropped_only_where_the_bridge_snoops() {
    let mut bad = data();
    bad[24] ^= 1;
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    scene.send(P0, &bad);
    assert_eq!(scene.received(P1), [bad.clone()]);
    snoop(&mut scene, &[Member::Port(P1)], &[]);
    scene.send(P0, &bad);
    assert_eq!((scene.received(P1), scene.drops()), (vec![], vec![(DropReason::McastMalformed, 1)]));
}

#[test]
fn a_report_that_there_is_no_room_for_goes_nowhere_and_is_heard() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    let mut snooper = Snooper::new(Settings { querier: true, ..Settings::default() }, A, Duration::ZERO);
    let limited = PortSettings { max_groups: 1, ..PortSettings::default() };
    let router = PortSettings { router: Router::Always, ..PortSettings::default() };
    snooper.set_ports(&[(Member::Port(P0), limited), (Member::Port(P1), router)], Duration::ZERO);
    let first = report(GROUP);
    let packet = crate::wire::membership::parse(&first, false).unwrap().unwrap();
    snooper.on_packet(Member::Port(P0), STATION, &packet, Duration::ZERO);
    snooper.poll(Duration::from_secs(10));
    scene.bridge(BLUE).mdb = snooper.mdb().map(Arc::new);
    scene.send(P0, &first);
    scene.send(P0, &report(IpAddr::from([239, 1, 2, 4])));
    assert_eq!((scene.received(P1), scene.snooped().len()), (vec![first], 2));
    assert_eq!(scene.drops(), [(DropReason::McastFull, 1)]);
}

#[test]
fn a_port_that_only_learns_learns_who_is_in_which_group() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    snoop(&mut scene, &[], &[Member::Port(P1)]);
    scene.port(P0).options.state = StpState::Learning;
    scene.send(P0, &report(GROUP));
    scene.send(P0, &data());
    assert_eq!((scene.snooped().len(), scene.received(P1)), (1, vec![]));
    assert_eq!(scene.drops(), [(DropReason::PortState, 2)]);
}

#[test]
fn frames_that_are_not_ip_and_broadcasts_are_flooded() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    snoop(&mut scene, &[], &[]);
    for dst in [MacAddr::new(group_mac(GROUP)), MacAddr::BROADCAST] {
        scene.send(P0, &frame(dst, B, 60));
        assert_eq!(scene.received(P1).len(), 1, "{dst}");
    }
}

#[test]
fn each_host_gets_the_frame_at_its_own_address() {
    for offloads in [NO_OFFLOADS, ALL_OFFLOADS] {
        let mut scene = Scene::access(&[NO_OFFLOADS, offloads]);
        let mut snooper = Snooper::new(Settings { querier: true, ..Settings::default() }, A, Duration::ZERO);
        let settings = PortSettings { to_unicast: true, ..PortSettings::default() };
        snooper.set_ports(&[(Member::Port(P1), settings)], Duration::ZERO);
        for host in [A, B] {
            let report = report(GROUP);
            let packet = crate::wire::membership::parse(&report, false).unwrap().unwrap();
            snooper.on_packet(Member::Port(P1), host, &packet, Duration::ZERO);
        }
        snooper.poll(Duration::from_secs(10));
        scene.bridge(BLUE).mdb = snooper.mdb().map(Arc::new);
        scene.send(P0, &data());
        let to = |host: MacAddr| [&host.octets()[..], &data()[6..]].concat();
        assert_eq!(scene.received(P1), [to(A), to(B)]);
        assert_eq!(scene.counters().total().copies, 1);
    }
}

#[test]
fn the_overlay_gets_a_group_s_frames_when_it_is_in_it() {
    for (members, copies) in [(vec![Member::Overlay], 1), (vec![Member::Port(P1)], 0)] {
        let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
        scene.join_overlay();
        let mut peers = [scene.add_peer(2), scene.add_peer(3)];
        snoop(&mut scene, &members, &[]);
        scene.send(P0, &data());
        for peer in &mut peers {
            assert_eq!(peer.received().len(), copies);
        }
        peers[0].send(0, &vxlan(42, &report(GROUP)));
        scene.turn();
        let told = scene.snooped();
        assert_eq!((told.len(), told[0].from), (1, Endpoint::Vtep(peers[0].vtep)));
        assert_eq!(peers[1].received().len(), 0, "split horizon");
    }
}

#[test]
fn the_switch_s_own_frames_are_in_the_account() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    scene.join_overlay();
    let mut peers = [scene.add_peer(2), scene.add_peer(3)];
    scene.turn();
    let query = frame(MacAddr::new([1, 0, 0x5e, 0, 0, 1]), STATION, 46);
    for to in [Member::Port(P1), Member::Overlay, Member::Port(PortId(9))] {
        scene.worker.send_own(BLUE, to, &query, scene.now);
    }
    assert_eq!((scene.received(P0), scene.received(P1)), (vec![], vec![query]));
    assert!(peers.iter_mut().all(|peer| peer.received().len() == 1));
    let own = scene.counters().own;
    assert_eq!((own.frames_in, own.bytes_in, own.copies), (3, 138, 1));
    assert_eq!(scene.drops(), [(DropReason::PortRemoved, 1)]);
    scene.assert_balanced();
}

#[test]
fn a_started_checksum_says_nothing_about_a_report() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    snoop(&mut scene, &[], &[Member::Port(P1)]);
    let mut started = report(GROUP);
    started[36..38].copy_from_slice(&[0, 0]);
    let csum = Some(crate::offload::PartialCsum { start: 34, offset: 2 });
    scene.send_with(P0, &started, VnetHeader { csum, ..VnetHeader::NONE });
    assert_eq!((scene.snooped().len(), scene.received(P1)), (1, vec![report(GROUP)]));
}
