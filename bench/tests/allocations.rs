//! In the steady state a frame's walk allocates nothing, wherever it comes from and wherever it goes.

use weft::{
    bridge::Membership,
    ids::{Endpoint, PortId},
    port::RxBatch,
    wire::{MacAddr, VlanId},
    worker::sampling::{Choice, Filter, Ips, MAX_RATE, Sampler},
};
use weft_bench::{
    frames::tagged,
    switch::{BRIDGE, Switch, frame, mac},
};
use weft_vxlan::Encapsulation;

const BATCHES: usize = 100_000 / RxBatch::CAPACITY;
const PORT: PortId = PortId(0);

/// Host 1 sends to host 2 from a port of this kind.
fn question(tag: Option<u16>) -> Vec<Vec<u8>> {
    let plain = frame(mac(2), mac(1), 64);
    vec![match tag {
        Some(vid) => tagged(&plain, vid),
        None => plain,
    }]
}

fn trunk(vid: u16) -> Membership {
    Membership::trunk(&[(VlanId::new(vid).expect("a VLAN of this test"), BRIDGE)], None)
}

/// Allocations that `turn` makes in 100,000 frames after it has been warmed up.
fn allocations(mut turn: impl FnMut()) -> u64 {
    (0..200).for_each(|_| turn());
    allocation_counter::measure(|| (0..BATCHES).for_each(|_| turn())).count_total
}

fn of_port(switch: &mut Switch) -> u64 {
    allocations(|| assert_eq!(switch.turn(PORT), RxBatch::CAPACITY))
}

#[test]
fn the_counter_counts() {
    let mut kept = Vec::new();
    assert_eq!(allocation_counter::measure(|| kept.push(vec![1_u8; 100])).count_total, 2);
}

#[test]
fn unicast_between_ports() {
    let mut switch = Switch::new();
    switch.add_access(question(None));
    let (to, sent) = switch.add_access(vec![]);
    switch.learn(2..3, Endpoint::Port(to));
    assert_eq!(of_port(&mut switch), 0);
    assert!(sent.frames() > 100_000);
}

#[test]
fn a_flood_to_eight_ports() {
    let mut switch = Switch::new();
    switch.add_access(vec![frame(MacAddr::BROADCAST, mac(1), 64), frame(mac(2), mac(1), 64)]);
    let sinks: Vec<_> = (0..8).map(|_| switch.add_access(vec![]).1).collect();
    assert_eq!(of_port(&mut switch), 0);
    assert!(sinks.iter().all(|sink| sink.frames() > 100_000));
}

#[test]
fn from_trunk_to_trunk() {
    let mut switch = Switch::new();
    switch.add_port(trunk(10), question(Some(10)));
    let (to, sent) = switch.add_port(trunk(20), vec![]);
    switch.learn(2..3, Endpoint::Port(to));
    assert_eq!(of_port(&mut switch), 0);
    assert!(sent.frames() > 100_000);
}

#[test]
fn drops() {
    let mut switch = Switch::new();
    let pause = MacAddr::new([1, 0x80, 0xc2, 0, 0, 1]);
    switch.add_access(vec![vec![0; 13], frame(pause, mac(1), 64), frame(mac(2), MacAddr::ZERO, 64)]);
    assert_eq!(of_port(&mut switch), 0);
    assert!(switch.worker.report().counters.total().drops() > 100_000);
}

#[test]
fn from_a_port_to_a_peer() {
    for encapsulation in Encapsulation::ALL {
        let mut switch = Switch::new();
        switch.add_access(question(None));
        let mut peer = switch.add_peer_in(encapsulation);
        switch.learn(2..3, Endpoint::Vtep(peer.vtep));
        let count = allocations(|| {
            switch.turn(PORT);
            assert_eq!(peer.drain(), RxBatch::CAPACITY);
        });
        assert_eq!(count, 0, "{encapsulation}");
    }
}

#[test]
fn from_a_peer_to_a_port() {
    for encapsulation in Encapsulation::ALL {
        let mut switch = Switch::new();
        let (to, sent) = switch.add_access(vec![]);
        let mut peer = switch.add_peer_in(encapsulation);
        switch.learn(2..3, Endpoint::Port(to));
        let frames = vec![frame(mac(2), mac(1), 64); RxBatch::CAPACITY];
        let count = allocations(|| {
            peer.send(&frames);
            let read = switch.worker.turn_underlay(encapsulation.format(), switch.now).unwrap();
            assert_eq!(read, RxBatch::CAPACITY);
        });
        assert_eq!(count, 0, "{encapsulation}");
        assert!(sent.frames() > 100_000, "{encapsulation}");
    }
}

/// Somebody looks for frames that don't pass, and somebody takes all that may be taken.
#[test]
fn frames_that_are_looked_at_and_taken() {
    for src in [mac(7), mac(1)] {
        let mut switch = Switch::new();
        switch.add_access(question(None));
        let (to, sent) = switch.add_access(vec![]);
        switch.learn(2..3, Endpoint::Port(to));
        let filter = Filter { src: Some(src), ip: Ips::Either([10, 0, 0, 1].into()), ..Filter::default() };
        let (sampler, samples) = Sampler::new(filter, Choice { every: 1, rate: MAX_RATE });
        switch.worker.sample(vec![sampler.clone()]);
        let mut taken = 0;
        let count = allocations(|| {
            switch.now.0 += 1;
            switch.turn(PORT);
            taken += samples.try_iter().count();
        });
        assert_eq!(count, 0);
        assert!(sent.frames() > 100_000);
        assert_eq!(taken > 500, src == mac(1), "{taken} of {:?}", sampler.sampled());
    }
}

/// A second passes between batches, so every frame renews the stamp of its source.
#[test]
fn known_addresses_among_many() {
    let mut switch = Switch::new();
    switch.add_access((0..64).map(|n| frame(mac(1000 + n), mac(n), 64)).collect());
    let (to, sent) = switch.add_access(vec![]);
    switch.learn(1000..2000, Endpoint::Port(to));
    let count = allocations(|| {
        switch.now.0 += 1000;
        switch.turn(PORT);
    });
    assert_eq!(count, 0);
    assert!(sent.frames() > 100_000);
}
