//! A frame's walk: its parts alone, and whole batches of 32 frames of 64 bytes through a worker between ports in memory.
//! What is shown is time a frame.
//!
//! `cargo bench -p weft-bench --bench walk`

use std::{hint::black_box, time::Duration};

use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use weft::{
    bridge::Membership,
    ids::{Endpoint, PortId},
    port::RxBatch,
    wire::{MacAddr, VlanId},
};
use weft_bench::{
    frames::tagged,
    switch::{BRIDGE, Switch, VNI, frame, mac},
};
use weft_vxlan::{
    Encapsulation, Vni,
    codec::{decap, encap},
    header::{HEADER_LEN, ReservedBits},
};

const LEN: usize = 64;
const PORT: PortId = PortId(0);
const PER_BATCH: Throughput = Throughput::Elements(RxBatch::CAPACITY as u64);

fn parts(c: &mut Criterion) {
    let mut switch = Switch::new();
    let (from, _) = switch.add_access(vec![]);
    let (to, _) = switch.add_access(vec![]);
    let tables = switch.shared.tables.load_full();
    let bridge = tables.bridge(BRIDGE).expect("it was made with the switch");
    let mut group = c.benchmark_group("parts");
    group.bench_function("decide, unicast", |b| {
        b.iter(|| tables.decide(bridge, Endpoint::Port(from), black_box(mac(2)), Some(Endpoint::Port(to))));
    });
    let vni = Vni::new(VNI).expect("it has 24 bits");
    let inner = frame(mac(2), mac(1), LEN);
    let mut datagram = vec![0; HEADER_LEN + LEN];
    group.bench_function("encapsulate: header and copy", |b| {
        b.iter(|| encap(black_box(vni), black_box(&inner), &mut datagram));
    });
    group.bench_function("decapsulate: header", |b| {
        b.iter(|| decap(black_box(&datagram), ReservedBits::Drop).map(|(vni, inner)| (vni, inner.len())));
    });
    group.finish();
}

fn walks(c: &mut Criterion) {
    let mut group = c.benchmark_group("walk");
    group.throughput(PER_BATCH);

    let empty = {
        let mut switch = Switch::new();
        switch.add_access(vec![vec![0; 13]]);
        switch
    };
    turn(&mut group, "runts, dropped at once", empty);

    for (name, hosts) in [("two hosts", 2), ("1 k hosts", 1_000), ("1 M hosts", 1_000_000)] {
        turn(&mut group, &format!("port to port, {name}"), Switch::between_ports(hosts, LEN));
    }

    let mut trunks = Switch::new();
    trunks.add_port(trunk(10), vec![tagged(&frame(mac(2), mac(1), LEN), 10)]);
    let (to, _) = trunks.add_port(trunk(20), vec![]);
    trunks.learn(2..3, Endpoint::Port(to));
    turn(&mut group, "trunk to trunk", trunks);

    let mut flood = Switch::new();
    flood.add_access(vec![frame(MacAddr::BROADCAST, mac(1), LEN)]);
    (0..8).for_each(|_| drop(flood.add_access(vec![])));
    turn(&mut group, "flooded to 8 ports", flood);

    for encapsulation in Encapsulation::ALL {
        let name = match encapsulation {
            Encapsulation::Vxlan => String::new(),
            Encapsulation::VxlanGbp | Encapsulation::VxlanGpe | Encapsulation::Geneve => format!(" in {encapsulation}"),
        };
        let mut switch = Switch::new();
        switch.add_access(vec![frame(mac(2), mac(1), LEN)]);
        let mut peer = switch.add_peer_in(encapsulation);
        switch.learn(2..3, Endpoint::Vtep(peer.vtep));
        group.bench_function(format!("port to VTEP{name}, and across the net in memory"), |b| {
            b.iter_batched(|| _ = peer.drain(), |()| switch.turn(PORT), BatchSize::PerIteration);
        });

        let mut switch = Switch::new();
        let (to, _) = switch.add_access(vec![]);
        let mut peer = switch.add_peer_in(encapsulation);
        switch.learn(2..3, Endpoint::Port(to));
        let (format, frames) = (encapsulation.format(), vec![frame(mac(2), mac(1), LEN); RxBatch::CAPACITY]);
        group.bench_function(format!("VTEP to port{name}, and out of the net in memory"), |b| {
            b.iter_batched(
                || peer.send(&frames),
                |()| switch.worker.turn_underlay(format, switch.now).expect("memory can be read"),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn turn(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut switch: Switch) {
    group.bench_function(name, |b| b.iter(|| switch.turn(PORT)));
    assert!(switch.worker.report().counters.total().balances());
}

fn trunk(vid: u16) -> Membership {
    let vid = VlanId::new(vid).expect("it is between 1 and 4094");
    Membership::trunk(&[(vid, BRIDGE)], None)
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = parts, walks
}
criterion_main!(benches);
