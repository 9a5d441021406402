//! What is switched on at the overlay side of a bridge: each option as the kernel's vxlan device has it.

use weft_vxlan::{Encapsulation, ReservedBits};

use super::scene::{A, B, BLUE, C, NO_OFFLOADS, P0, P1, Peer, Scene, frame, udp4, vxlan};
use crate::{bridge::DropReason, fdb::Limit, ids::Endpoint, wire::MacAddr};

/// Two ports and a peer, all in BLUE; the hosts are A, at the first port, and C behind the peer.
fn scene() -> (Scene, Peer) {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    scene.join_overlay();
    let peer = scene.add_peer(2);
    (scene, peer)
}

fn arrives(scene: &mut Scene, peer: &mut Peer, tos: u8, inner: &[u8]) {
    peer.send(tos, &vxlan(42, inner));
    scene.turn();
}

/// The cases of the kernel's selftest vxlan_reserved: nothing tolerated, then one bit, and a few groups of them.
#[test]
fn of_the_reserved_bits_those_outside_the_mask_pass() {
    let (mut scene, mut peer) = scene();
    let bits: Vec<u32> = (0..64).filter(|bit| *bit != 4 && !(32..56).contains(bit)).collect();
    let all = ReservedBits::Drop.mask();
    let groups = [(all, 0), (0xf7ff_ffff_0000_0000, 8), (0xf700_0000_0000_00ff, 24), (0, 39)];
    let single = [0, 10, 31, 56, 63].map(|bit| (all & !(1 << (63 - bit)), 1));
    for (mask, passing) in groups.into_iter().chain(single) {
        let refused = ReservedBits::of_mask(mask).unwrap();
        scene.overlay().refused_bits = refused.mask();
        let before = scene.counters().underlay.drops_in[DropReason::VxlanReservedBits.index()];
        for bit in &bits {
            let mut datagram = vxlan(42, &frame(MacAddr::BROADCAST, C, 60));
            datagram[*bit as usize / 8] |= 0x80 >> (bit % 8);
            peer.send(0, &datagram);
            scene.turn();
        }
        assert_eq!(scene.received(P0).len(), passing, "{mask:#x}");
        let after = scene.counters().underlay.drops_in[DropReason::VxlanReservedBits.index()];
        assert_eq!(after - before, 39 - passing as u64, "{mask:#x}");
    }
}

/// Statement 31: the kernel's bridge takes the frame of an unknown tunnel id as an untagged one, for its PVID.
#[test]
fn a_bridge_may_take_the_frames_of_unknown_vnis_and_answers_with_its_own() {
    let (mut scene, mut peer) = scene();
    let unknown = vxlan(44, &frame(MacAddr::BROADCAST, C, 60));
    peer.send(0, &unknown);
    scene.turn();
    assert_eq!(scene.drops(), [(DropReason::VniUnknown, 1)]);
    scene.overlay().unknown_vni = Some(BLUE);
    peer.send(0, &unknown);
    scene.turn();
    assert_eq!((scene.received(P0).len(), scene.received(P1).len()), (1, 1));
    scene.send(P0, &frame(C, A, 60));
    let [(_, datagram)] = &peer.received()[..] else { panic!("one answer") };
    assert_eq!(datagram[..8], [8, 0, 0, 0, 0, 0, 42, 0]);
}

#[test]
fn an_unknown_vni_opens_the_door_to_no_unknown_peer() {
    let (mut scene, mut peer) = scene();
    scene.overlay().unknown_vni = Some(BLUE);
    scene.bridge(BLUE).known_vteps.clear();
    peer.send(0, &vxlan(44, &frame(MacAddr::BROADCAST, C, 60)));
    scene.turn();
    assert_eq!(scene.drops(), [(DropReason::VtepUnknown, 1)]);
}

#[test]
fn a_tunnel_that_does_not_learn_leaves_the_ports_learning() {
    let (mut scene, mut peer) = scene();
    scene.bridge(BLUE).tunnel.learning = false;
    arrives(&mut scene, &mut peer, 0, &frame(A, C, 60));
    scene.send(P0, &frame(MacAddr::BROADCAST, A, 60));
    assert_eq!(scene.shared.fdb.lookup(BLUE, C), None);
    assert_eq!(scene.shared.fdb.lookup(BLUE, A), Some(Endpoint::Port(P0)));
}

/// The kernel's table: "smac has static entry at another VTEP - learning on: drop; nolearning: accepted".
#[test]
fn without_learning_a_source_that_is_static_elsewhere_passes() {
    let (mut scene, mut peer) = scene();
    let other = scene.add_peer(3);
    scene.shared.fdb.add_static(BLUE, C, Endpoint::Vtep(other.vtep), crate::fdb::Origin::Static, scene.now);
    arrives(&mut scene, &mut peer, 0, &frame(MacAddr::BROADCAST, C, 60));
    assert_eq!(scene.drops(), [(DropReason::SourceStatic, 1)]);
    scene.bridge(BLUE).tunnel.learning = false;
    arrives(&mut scene, &mut peer, 0, &frame(MacAddr::BROADCAST, C, 60));
    assert_eq!(scene.received(P0).len(), 1);
    assert_eq!(scene.shared.fdb.lookup(BLUE, C), Some(Endpoint::Vtep(other.vtep)));
}

/// The kernel's vxlan device takes them without learning; the bridge behind it does not.
#[test]
fn an_impossible_source_ends_at_the_tunnel_or_behind_it() {
    let (mut scene, mut peer) = scene();
    for source in [MacAddr::ZERO, MacAddr::BROADCAST] {
        arrives(&mut scene, &mut peer, 0, &frame(A, source, 60));
        // Cut off as well, which the tunnel sees after the source if it learns.
        arrives(&mut scene, &mut peer, 0, &udp4(A, source, 0, 0)[..33]);
    }
    assert_eq!(scene.drops(), [(DropReason::SourceInvalid, 4)]);
    scene.bridge(BLUE).tunnel.learning = false;
    arrives(&mut scene, &mut peer, 0, &udp4(A, MacAddr::ZERO, 0, 0)[..33]);
    assert_eq!(scene.drops(), [(DropReason::SourceInvalid, 4), (DropReason::InnerIpTruncated, 1)]);
    arrives(&mut scene, &mut peer, 0, &frame(A, MacAddr::ZERO, 60));
    assert_eq!(scene.drops(), [(DropReason::SourceInvalid, 5), (DropReason::InnerIpTruncated, 1)]);
}

/// Statement 33: the tunnel learns, then looks at the packet; what the bridge keeps to itself comes last.
#[test]
fn a_frame_that_ends_for_its_ecn_has_taught_its_source_and_its_group_is_not_asked() {
    const CE: u8 = 3;
    let (mut scene, mut peer) = scene();
    let reserved = MacAddr::new([0x01, 0x80, 0xc2, 0, 0, 0x0e]);
    arrives(&mut scene, &mut peer, CE, &udp4(reserved, C, 0, 10));
    assert_eq!(scene.drops(), [(DropReason::EcnNotCapable, 1)]);
    assert_eq!(scene.shared.fdb.lookup(BLUE, C), Some(Endpoint::Vtep(peer.vtep)));
    arrives(&mut scene, &mut peer, 0, &udp4(reserved, C, 0, 10));
    assert_eq!(scene.drops(), [(DropReason::ReservedGroup, 1), (DropReason::EcnNotCapable, 1)]);
}

#[test]
fn what_is_past_the_limit_of_addresses_is_forwarded_and_not_learned() {
    let (mut scene, mut peer) = scene();
    scene.bridge(BLUE).limit = Limit { max_remote: Some(1), ..Limit::NONE };
    arrives(&mut scene, &mut peer, 0, &frame(MacAddr::BROADCAST, C, 60));
    arrives(&mut scene, &mut peer, 0, &frame(MacAddr::BROADCAST, B, 60));
    assert_eq!(scene.received(P0).len(), 2);
    assert_eq!(scene.shared.fdb.lookup(BLUE, B), None);
    scene.send(P0, &frame(B, A, 60));
    assert_eq!((peer.received().len(), scene.received(P1).len()), (1, 3), "unknown: flooded");
}

#[test]
fn a_ports_group_policy_leaves_with_its_frames() {
    let (mut scene, mut peer) = scene();
    scene.port(P0).options.gbp_policy = 0x1234;
    let mut leaves = |scene: &mut Scene, port| {
        scene.send(port, &frame(MacAddr::BROADCAST, A, 60));
        let [(_, datagram)] = &peer.received()[..] else { panic!("one copy") };
        datagram[..8].to_vec()
    };
    assert_eq!(leaves(&mut scene, P0), [8, 0, 0, 0, 0, 0, 42, 0], "gbp is off");
    scene.bridge(BLUE).encapsulation = Encapsulation::VxlanGbp;
    assert_eq!(leaves(&mut scene, P0), [0x88, 0, 0x12, 0x34, 0, 0, 42, 0]);
    assert_eq!(leaves(&mut scene, P1), [8, 0, 0, 0, 0, 0, 42, 0], "the kernel's: no mark, no policy");
}

#[test]
fn group_policies_that_arrive_are_counted_by_number() {
    let (mut scene, mut peer) = scene();
    let mut datagram = vxlan(42, &frame(MacAddr::BROADCAST, C, 60));
    datagram[..4].copy_from_slice(&[0x88, 0x48, 0x00, 0x07]);
    peer.send(0, &datagram);
    scene.turn();
    assert_eq!(scene.drops(), [(DropReason::VxlanReservedBits, 1)], "gbp is off");
    scene.bridge(BLUE).encapsulation = Encapsulation::VxlanGbp;
    for _ in 0..3 {
        peer.send(0, &datagram);
        scene.turn();
    }
    let policies = scene.counters().policies;
    assert_eq!(policies.iter().position(|count| *count > 0), Some(7));
    assert_eq!(policies[7], 3);
    assert_eq!(scene.received(P0).len(), 3);
    assert!(scene.shared.fdb.lookup(BLUE, C).is_some(), "the kernel learns although D is set");
}
