//! Each encapsulation out and in: its bytes, its port, and what of it is refused.

use weft_vxlan::{
    Encapsulation, HeaderFormat,
    geneve::{GeneveOption, OptionList},
    policy,
};

use super::scene::{
    A, ALL_OFFLOADS, B, BLUE, C, GREEN, NO_OFFLOADS, P0, P1, Peer, Scene, frame, tcp4, unfinished_tcp4, wrapped,
};
use crate::{
    bridge::{DropReason, Membership},
    ids::Endpoint,
    wire::MacAddr,
};

const GENEVE: HeaderFormat = HeaderFormat::Geneve;
const GPE: HeaderFormat = HeaderFormat::VxlanGpe;

/// A port of BLUE (VNI 42), which is wrapped like this, and a peer that it knows.
fn scene(encapsulation: Encapsulation) -> (Scene, Peer) {
    let mut scene = Scene::access(&[ALL_OFFLOADS]);
    scene.join_overlay();
    let peer = scene.add_peer(2);
    scene.bridge(BLUE).encapsulation = encapsulation;
    (scene, peer)
}

fn options(some: &[(u16, u8, &[u8])]) -> OptionList {
    let mut options = OptionList::new();
    for (class, kind, data) in some {
        options.push(GeneveOption { class: *class, kind: *kind, data }).unwrap();
    }
    options
}

fn payloads(peer: &mut Peer) -> Vec<Vec<u8>> {
    peer.received().into_iter().map(|(_, bytes)| bytes).collect()
}

fn arrives(scene: &mut Scene, peer: &mut Peer, format: HeaderFormat, payload: &[u8]) {
    peer.send_to(format, 0, payload);
    scene.turn();
}

#[test]
fn each_header_goes_before_the_frame_and_is_taken_off_again() {
    let headers: [(Encapsulation, [u8; 8]); 4] = [
        (Encapsulation::Vxlan, [8, 0, 0, 0, 0, 0, 42, 0]),
        (Encapsulation::VxlanGbp, [8, 0, 0, 0, 0, 0, 42, 0]),
        (Encapsulation::VxlanGpe, [0x0c, 0, 0, 3, 0, 0, 42, 0]),
        (Encapsulation::Geneve, [0, 0, 0x65, 0x58, 0, 0, 42, 0]),
    ];
    for (encapsulation, header) in headers {
        let (mut scene, mut peer) = scene(encapsulation);
        let (question, answer) = (frame(C, A, 60), frame(A, C, 90));
        scene.send(P0, &question);
        assert_eq!(payloads(&mut peer), [[&header[..], &question].concat()], "{encapsulation}");
        arrives(&mut scene, &mut peer, encapsulation.format(), &[&header[..], &answer].concat());
        assert_eq!(scene.received(P0), [answer], "{encapsulation}");
        assert_eq!(scene.shared.fdb.lookup(BLUE, C), Some(Endpoint::Vtep(peer.vtep)), "{encapsulation}");
        let tally = scene.counters().vteps[peer.vtep.index()].clone();
        assert_eq!((tally.bytes_out, tally.bytes_in), (60, 90), "{encapsulation}: bytes are the inner frames'");
        assert_eq!(scene.drops(), [], "{encapsulation}");
    }
}

#[test]
fn options_are_sent_before_every_frame_and_are_no_bytes_of_it() {
    let (mut scene, mut peer) = scene(Encapsulation::Geneve);
    scene.bridge(BLUE).geneve_options = options(&[(0xff01, 1, &[0xc0, 0xff, 0xee, 0]), (0xff02, 0x82, &[])]);
    let bytes = frame(B, A, 60);
    scene.send(P0, &bytes);
    // three words of options, one of them critical
    let header = [3, 0x40, 0x65, 0x58, 0, 0, 42, 0, 0xff, 1, 1, 1, 0xc0, 0xff, 0xee, 0, 0xff, 2, 0x82, 0];
    assert_eq!(payloads(&mut peer), [[&header[..], &bytes].concat()]);
    assert_eq!(scene.counters().vteps[peer.vtep.index()].bytes_out, 60);
}

#[test]
fn each_segment_of_a_super_frame_has_header_and_options() {
    let (mut scene, mut peer) = scene(Encapsulation::Geneve);
    scene.bridge(BLUE).geneve_options = options(&[(0xff01, 1, &[1, 2, 3, 4])]);
    let (bytes, vnet) = unfinished_tcp4(B, A, 2500, Some(1000));
    scene.send_with(P0, &bytes, vnet);
    let datagrams = payloads(&mut peer);
    let lens: Vec<_> = datagrams.iter().map(Vec::len).collect();
    assert_eq!(lens, [16 + 54 + 1000, 16 + 54 + 1000, 16 + 54 + 500]);
    for datagram in &datagrams {
        assert_eq!(datagram[..16], [2, 0, 0x65, 0x58, 0, 0, 42, 0, 0xff, 1, 1, 1, 1, 2, 3, 4]);
    }
    let tally = scene.counters().vteps[peer.vtep.index()].clone();
    assert_eq!((tally.frames_out, tally.bytes_out), (3, 3 * 54 + 2500));
}

#[test]
fn a_frame_that_options_make_too_long_for_any_datagram_is_a_named_drop() {
    let (mut scene, mut peer) = scene(Encapsulation::Geneve);
    scene.bridge(BLUE).geneve_options = options(&[(1, 1, &[0; 124]), (1, 1, &[0; 120])]);
    let longest = 65_507 - 8 - 252;
    scene.send(P0, &frame(B, A, longest + 1));
    assert_eq!(scene.drops(), [(DropReason::OversizeNotIp, 1)]);
    scene.send(P0, &frame(B, A, longest));
    assert_eq!(scene.drops(), [(DropReason::OversizeNotIp, 1)]);
    assert_eq!(payloads(&mut peer).len(), 1);
}

#[test]
fn options_that_come_are_passed_over_and_a_critical_one_ends_the_frame() {
    let (mut scene, mut peer) = scene(Encapsulation::Geneve);
    let bytes = frame(A, C, 60);
    let option = [0xff, 1, 0x81, 1, 0xc0, 0xff, 0xee, 0];
    // the header says nothing of a critical option, so nobody looks for one (RFC 8926 section 3.4)
    let with_option = [&[2, 0, 0x65, 0x58, 0, 0, 42, 0][..], &option, &bytes].concat();
    arrives(&mut scene, &mut peer, GENEVE, &with_option);
    // the second time by the tunnel that is known now, and with more options
    let with_two = [&[4, 0, 0x65, 0x58, 0, 0, 42, 0][..], &option, &option, &bytes].concat();
    arrives(&mut scene, &mut peer, GENEVE, &with_two);
    assert_eq!(scene.received(P0), [bytes.clone(), bytes.clone()]);
    assert_eq!(scene.counters().vteps[peer.vtep.index()].bytes_in, 120);

    let critical = [&[2, 0x40, 0x65, 0x58, 0, 0, 42, 0][..], &option, &bytes].concat();
    arrives(&mut scene, &mut peer, GENEVE, &critical);
    assert_eq!(scene.drops(), [(DropReason::GeneveCriticalOption, 1)]);
}

/// In one batch, so that the quick way of the first is tried for those behind it.
#[test]
fn what_is_no_frame_of_this_network_is_told_apart_amid_a_batch() {
    let (mut scene, mut peer) = scene(Encapsulation::Geneve);
    let good = wrapped(GENEVE, 42, &frame(MacAddr::BROADCAST, C, 60));
    let with = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        bad
    };
    for payload in [
        good.clone(),
        with(0, 0x40),
        with(1, 0x80),
        with(1, 0x40),
        with(2, 0x08),
        with(0, 63),
        with(6, 99),
        good[..7].to_vec(),
        // reserved bits of both kinds mean nothing
        with(1, 0x3f),
        with(7, 0xff),
    ] {
        peer.send_to(GENEVE, 0, &payload);
    }
    scene.turn();
    assert_eq!(scene.received(P0).len(), 3);
    let mut expected = vec![
        (DropReason::GeneveVersion, 1),
        (DropReason::GeneveTruncated, 2),
        (DropReason::VniUnknown, 1),
        (DropReason::TunnelNotEthernet, 1),
        (DropReason::TunnelControl, 1),
        (DropReason::GeneveCriticalOption, 1),
    ];
    expected.sort();
    assert_eq!(scene.drops(), expected);
    arrives(&mut scene, &mut peer, GENEVE, &[]);
    assert_eq!(scene.counters().underlay.drops_in[DropReason::GeneveTruncated.index()], 3);
}

#[test]
fn gpe_without_ethernet_inside_is_refused_in_the_kernels_order() {
    let (mut scene, mut peer) = scene(Encapsulation::VxlanGpe);
    let bytes = frame(MacAddr::BROADCAST, C, 60);
    let mut arrives_as = |header: [u8; 8]| arrives(&mut scene, &mut peer, GPE, &[&header[..], &bytes].concat());
    arrives_as([0x04, 0, 0, 3, 0, 0, 42, 0]);
    arrives_as([0x3d, 0, 1, 1, 0, 0, 42, 0]);
    arrives_as([0x39, 0, 0, 1, 0, 0, 42, 0]);
    arrives_as([0x3d, 0, 0, 1, 0, 0, 42, 0]);
    arrives_as([0x0d, 0, 0, 1, 0, 0, 42, 0]);
    arrives_as([0x0c, 0, 0, 1, 0, 0, 42, 0]);
    assert_eq!(
        scene.drops(),
        [
            (DropReason::VxlanNoVniFlag, 1),
            (DropReason::VxlanReservedBits, 1),
            (DropReason::GpeNoProtocol, 1),
            (DropReason::GpeVersion, 1),
            (DropReason::TunnelNotEthernet, 1),
            (DropReason::TunnelControl, 1),
        ]
    );
    assert_eq!(scene.received(P0).len(), 0);
}

#[test]
fn reserved_bits_are_those_that_the_bridges_encapsulation_does_not_use() {
    let mut scene = Scene::access(&[NO_OFFLOADS]);
    scene.add_port(Membership::Access(GREEN), NO_OFFLOADS);
    scene.join_overlay();
    let mut peer = scene.add_peer(2);
    scene.bridge(GREEN).encapsulation = Encapsulation::VxlanGbp;
    let with_policy = |vni: u8| [&[0x88, 0, 0, 7, 0, 0, vni, 0][..], &frame(MacAddr::BROADCAST, C, 60)].concat();
    arrives(&mut scene, &mut peer, HeaderFormat::Vxlan, &with_policy(42));
    arrives(&mut scene, &mut peer, HeaderFormat::Vxlan, &with_policy(43));
    assert_eq!(scene.drops(), [(DropReason::VxlanReservedBits, 1)]);
    assert_eq!((scene.received(P0).len(), scene.received(P1).len()), (0, 1));
    assert_eq!(scene.counters().policies[7], 1);
    assert_ne!(policy::USED_BITS, 0);
}

#[test]
fn a_frame_enters_only_a_bridge_of_its_own_encapsulation() {
    let mut scene = Scene::access(&[NO_OFFLOADS]);
    scene.add_port(Membership::Access(GREEN), NO_OFFLOADS);
    scene.join_overlay();
    let mut peer = scene.add_peer(2);
    scene.bridge(BLUE).encapsulation = Encapsulation::Geneve;
    let bytes = frame(MacAddr::BROADCAST, C, 60);
    for format in HeaderFormat::ALL {
        for vni in [42, 43] {
            arrives(&mut scene, &mut peer, format, &wrapped(format, vni, &bytes));
        }
    }
    assert_eq!((scene.received(P0), scene.received(P1)), (vec![bytes.clone()], vec![bytes.clone()]));
    assert_eq!(scene.drops(), [(DropReason::EncapsulationDiffers, 4)]);

    // whose VNI nobody has is unknown, also where somebody takes such frames in another encapsulation
    scene.overlay().unknown_vni = Some(BLUE);
    for format in [GPE, GENEVE] {
        arrives(&mut scene, &mut peer, format, &wrapped(format, 77, &bytes));
    }
    assert_eq!(scene.drops(), [(DropReason::VniUnknown, 1), (DropReason::EncapsulationDiffers, 4)]);
    assert_eq!(scene.received(P0), [bytes]);
}

#[test]
fn a_vtep_that_was_learned_is_reached_at_the_port_of_what_it_spoke() {
    for encapsulation in Encapsulation::ALL {
        let mut scene = Scene::access(&[NO_OFFLOADS]);
        scene.join_overlay();
        let mut stranger = scene.add_stranger(9);
        scene.bridge(BLUE).encapsulation = encapsulation;
        scene.overlay().any_peer = true;
        scene.overlay().gpe_port = 14790;
        let port = match encapsulation {
            Encapsulation::Vxlan | Encapsulation::VxlanGbp => 4789,
            Encapsulation::VxlanGpe => 14790,
            Encapsulation::Geneve => 6081,
        };
        let payload = wrapped(encapsulation.format(), 42, &frame(A, C, 60));
        arrives(&mut scene, &mut stranger, encapsulation.format(), &payload);
        let Some(Endpoint::Vtep(vtep)) = scene.shared.fdb.lookup(BLUE, C) else { panic!("{encapsulation}: learned") };
        assert_eq!(scene.shared.vteps.address(vtep).unwrap().to_string(), format!("192.0.2.9:{port}"));
    }
}

#[test]
fn what_came_in_one_encapsulation_is_put_together_as_in_any_other() {
    let (mut scene, mut peer) = scene(Encapsulation::Geneve);
    let segments: Vec<_> = (0..4).map(|_| tcp4(A, C, 100)).collect();
    for segment in &segments {
        peer.send_to(GENEVE, 0, &[&[1, 0, 0x65, 0x58, 0, 0, 42, 0, 0xff, 1, 1, 0][..], segment].concat());
    }
    scene.turn();
    let tally = scene.counters().vteps[peer.vtep.index()].clone();
    assert_eq!((tally.frames_in, tally.bytes_in), (4, 4 * (54 + 100)));
    assert_eq!(scene.tally(P0).frames_out, 4);
    assert!(!scene.received(P0).is_empty());
}
