//! Frames are taken aside, and nothing else changes.

use std::collections::BTreeMap;

use super::*;
use crate::{
    bridge::DropReason,
    fdb::Learned,
    ids::Endpoint,
    wire::MacAddr,
    worker::tests::scene::{
        A, ALL_OFFLOADS, B, C, NO_OFFLOADS, P0, P1, P2, Scene, frame, tcp4, udp4, unfinished_tcp4, vxlan,
    },
};

/// A station behind the peer.
const FAR: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 0xf]);
const EVERY_FRAME: Choice = Choice { every: 1, rate: MAX_RATE };

fn watched(scene: &mut Scene, filter: Filter, choice: Choice) -> (Arc<Sampler>, Receiver<Sample>) {
    let (sampler, samples) = Sampler::new(filter, choice);
    scene.worker.sample(vec![sampler.clone()]);
    (sampler, samples)
}

fn left(sample: &Sample) -> Vec<(Endpoint, u64)> {
    sample.witness.copies.iter().map(|copies| (copies.to, copies.frames)).collect()
}

fn from_a() -> Filter {
    Filter { src: Some(A), ..Filter::default() }
}

#[test]
fn a_sample_is_the_frame_as_it_came_and_what_became_of_it() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 3]);
    let (_, samples) = watched(&mut scene, from_a(), EVERY_FRAME);
    let bytes = frame(MacAddr::BROADCAST, A, 60);
    scene.now = Stamp(1234);
    scene.send(P0, &bytes);
    scene.send(P1, &frame(MacAddr::BROADCAST, B, 60));
    let sample = samples.try_recv().unwrap();
    assert_eq!((&sample.bytes[..], sample.len, sample.at), (&bytes[..], 60, Stamp(1234)));
    assert_eq!(sample.came, Came::Port { port: P0, vnet: Some(VnetHeader::NONE) });
    assert_eq!(left(&sample), [(Endpoint::Port(P1), 1), (Endpoint::Port(P2), 1)]);
    assert_eq!(sample.witness.learned, Some(Learned::New { evicted: None }));
    assert!(samples.is_empty(), "B was not looked for");

    scene.send(P0, &frame(A, A, 60));
    let sample = samples.try_recv().unwrap();
    assert_eq!((left(&sample), &sample.witness.dropped[..]), (vec![], &[DropReason::SameEndpoint][..]));
    assert_eq!(sample.witness.learned, None, "A is known");
}

#[test]
fn a_loss_at_the_end_is_seen_though_nobody_decided_it() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    let (_, samples) = watched(&mut scene, from_a(), EVERY_FRAME);
    scene.port(P1).mtu = 100;
    scene.send(P0, &frame(MacAddr::BROADCAST, A, 600));
    let copies = samples.try_recv().unwrap().witness.copies;
    let expected = Copies { to: Endpoint::Port(P1), frames: 1, result: Err(DropReason::EgressMtu) };
    assert_eq!(copies[..], [expected]);
}

#[test]
fn a_super_frame_is_one_sample_of_many_wire_frames_and_long_frames_are_cut_off() {
    let mut scene = Scene::access(&[ALL_OFFLOADS; 2]);
    let (sampler, samples) = watched(&mut scene, Filter::default(), EVERY_FRAME);
    let (bytes, vnet) = unfinished_tcp4(MacAddr::BROADCAST, A, 3000, Some(1000));
    scene.send_with(P0, &bytes, vnet);
    let sample = samples.try_recv().unwrap();
    assert_eq!((sample.len, &sample.bytes[..]), (3054, &bytes[..MAX_SAMPLE_LEN]));
    assert_eq!(left(&sample), [(Endpoint::Port(P1), 3)]);
    assert_eq!(sampler.sampled().matched, 1);
}

#[test]
fn datagrams_are_looked_at_inside_and_taken_whole() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    scene.join_overlay();
    let mut peer = scene.add_peer(2);
    let source = IpAddr::from([192, 0, 2, 2]);
    let (_, samples) = watched(&mut scene, from_a(), EVERY_FRAME);
    let payload = vxlan(42, &frame(MacAddr::BROADCAST, A, 60));
    // The kernel would hand over the first two in one buffer; a third breaks off.
    for payload in [&vxlan(42, &frame(B, C, 60)), &payload, &payload[..21]] {
        peer.send(3, payload);
    }
    scene.turn();
    let sample = samples.try_recv().unwrap();
    assert_eq!((&sample.bytes[..], sample.len), (&payload[..], payload.len()));
    assert_eq!(sample.came, Came::Datagram { format: HeaderFormat::Vxlan, source, tos: 3 });
    assert_eq!(left(&sample), [(Endpoint::Port(P0), 1), (Endpoint::Port(P1), 1)]);
    let cut_off = samples.try_recv().unwrap();
    assert_eq!((cut_off.len, &cut_off.witness.dropped[..]), (21, &[DropReason::InnerTruncated][..]));
    assert!(samples.is_empty());

    let (_, samples) = watched(&mut scene, Filter { vni: weft_vxlan::Vni::new(44), ..Filter::default() }, EVERY_FRAME);
    for payload in [vxlan(44, &frame(B, A, 60)), vxlan(42, &frame(B, A, 60)), vec![], vec![8]] {
        peer.send(0, &payload);
    }
    scene.turn();
    let unknown = samples.try_recv().unwrap();
    assert_eq!((unknown.len, &unknown.witness.dropped[..]), (68, &[DropReason::VniUnknown][..]));
    assert!(samples.is_empty());
}

#[test]
fn what_comes_too_soon_or_finds_no_room_is_counted() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    let (sampler, samples) = watched(&mut scene, Filter::default(), Choice { every: 1, rate: 10 });
    let bytes = frame(B, A, 60);
    for _ in 0..50 {
        scene.host(P0).send(&bytes, VnetHeader::NONE).unwrap();
    }
    scene.turn();
    assert_eq!(samples.len(), BURST as usize);
    assert_eq!(sampler.sampled(), Sampled { matched: 50, too_soon: 30, ..Sampled::default() });

    let (sampler, samples) = watched(&mut scene, Filter::default(), EVERY_FRAME);
    for n in 0..300 {
        scene.now = Stamp(1000 + n * 5);
        scene.send(P0, &bytes);
    }
    assert_eq!(samples.len(), WAITING_LEN);
    let no_room = 300 - WAITING_LEN as u64;
    assert_eq!(sampler.sampled(), Sampled { matched: 300, no_room, ..Sampled::default() });
}

#[test]
fn of_every_so_many_frames_the_first_is_taken() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    let (sampler, samples) = watched(&mut scene, Filter::default(), Choice { every: 3, ..EVERY_FRAME });
    for len in 60..70 {
        scene.send(P0, &frame(B, A, len));
    }
    assert_eq!(samples.try_iter().map(|sample| sample.len).collect::<Vec<_>>(), [60, 63, 66, 69]);
    assert_eq!(sampler.sampled(), Sampled { matched: 10, passed_over: 6, ..Sampled::default() });
}

#[test]
fn several_samplers_have_their_own_and_one_that_is_over_is_let_go() {
    let mut scene = Scene::access(&[NO_OFFLOADS; 2]);
    let ((of_a, a), (of_all, all)) =
        (Sampler::new(from_a(), EVERY_FRAME), Sampler::new(Filter::default(), EVERY_FRAME));
    scene.worker.sample(vec![of_a.clone(), of_all.clone()]);
    scene.send(P0, &frame(B, A, 60));
    scene.send(P0, &frame(B, C, 60));
    assert_eq!((a.len(), all.len()), (1, 2));
    of_a.end();
    scene.send(P0, &frame(B, A, 60));
    assert_eq!((a.len(), all.len(), Arc::strong_count(&of_a)), (1, 3, 1));
    of_all.end();
    scene.send(P0, &frame(B, A, 60));
    assert!(scene.worker.sampling.is_none() && all.len() == 3);
}

/// Two switches see the same frames in the same batches; at one of them every third is taken aside. Stations stay where they
/// are: of one that moves, the frames of a batch that were read before are decided by where it is afterwards, and the batch
/// now ends sooner.
#[test]
fn nothing_else_changes_not_even_the_order() {
    for offloads in [NO_OFFLOADS, ALL_OFFLOADS] {
        let mut scenes = [(); 2].map(|()| {
            let mut scene = Scene::access(&[offloads; 3]);
            scene.join_overlay();
            let mut peer = scene.add_peer(2);
            for (port, station) in [(P0, A), (P1, B), (P2, C)] {
                scene.send(port, &frame(MacAddr::BROADCAST, station, 60));
            }
            peer.send(0, &vxlan(42, &frame(MacAddr::BROADCAST, FAR, 60)));
            scene.turn();
            [P0, P1, P2].iter().for_each(|port| drop(scene.received(*port)));
            peer.received();
            (scene, peer)
        });
        let (sampler, samples) = watched(&mut scenes[1].0, Filter::default(), Choice { every: 3, rate: MAX_RATE });
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..200 {
            let count = random.usize(..40);
            let batch: Vec<_> = (0..count).map(|n| random_frame(&mut random, n)).collect();
            let seen: Vec<_> = scenes
                .iter_mut()
                .map(|(scene, peer)| {
                    scene.now = Stamp(round * 100);
                    for (from, bytes) in &batch {
                        match from {
                            Some(port) => scene.host(*port).send(bytes, VnetHeader::NONE).unwrap(),
                            None => peer.send(0, &vxlan(42, bytes)),
                        }
                    }
                    scene.turn();
                    let at_ports = [P0, P1, P2].map(|port| by_flow(scene.received(port), offloads == NO_OFFLOADS));
                    (at_ports, peer.received().into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>())
                })
                .collect();
            assert_eq!(seen[0], seen[1], "round {round}");
        }
        let totals = scenes.each_ref().map(|(scene, _)| scene.counters().total());
        let frames = totals.each_ref().map(|total| (total.frames_in, total.copies, total.frames_out, total.drops()));
        assert_eq!(frames[0], frames[1]);
        assert!(samples.len() > 100 && sampler.sampled().matched > 1000);
    }
}

/// What arrived at a port, in order; of frames that may have been put together only what is in each flow: where a run ends
/// differs, and flows may overtake each other.
fn by_flow(frames: Vec<Vec<u8>>, are_whole: bool) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows = BTreeMap::<_, Vec<_>>::new();
    for bytes in frames {
        match bytes.get(23) {
            Some(protocol) if !are_whole => {
                let flow = [&bytes[6..14], &[*protocol]].concat();
                let payload = flows.entry(flow).or_insert_with(|| vec![vec![]]);
                payload[0].extend(&bytes[54.min(bytes.len())..]);
            }
            _ => flows.entry(vec![]).or_default().push(bytes),
        }
    }
    flows
}

/// The `n`th frame of a batch, and where it comes from, `None` for the peer. Its last byte tells it from the others.
fn random_frame(random: &mut fastrand::Rng, n: usize) -> (Option<PortId>, Vec<u8>) {
    let stations = [(Some(P0), A), (Some(P1), B), (Some(P2), C), (None, FAR)];
    let (from, src) = stations[random.usize(..4)];
    let dst = [A, B, C, FAR, MacAddr::BROADCAST][random.usize(..5)];
    let mut bytes = match random.u8(..3) {
        0 => frame(dst, src, random.usize(12..100)),
        1 => udp4(dst, src, 0, 100),
        _ => tcp4(dst, src, 100),
    };
    if let Some(last) = bytes.last_mut() {
        *last = n as u8;
    }
    (from, bytes)
}
