//! One worker, and two of the same switch side by side, each on a thread of its own: what they share, the tables and the FDB,
//! must not hold them up. Shown is the time for 64-byte frames from port to port in memory, as many in every row; two workers
//! carry half of them each.
//!
//! `cargo bench -p weft-bench --bench workers`

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weft::{
    fdb::Stamp,
    ids::{Endpoint, PortId},
    port::RxBatch,
    worker::Worker,
};
use weft_bench::switch::{Switch, frame, mac};

const FROM: PortId = PortId(0);
/// Batches that count as one measurement.
const BATCHES: u64 = 20_000;

fn scaling(c: &mut Criterion) {
    let mut group = c.benchmark_group("640 k frames");
    group.throughput(Throughput::Elements(BATCHES * RxBatch::CAPACITY as u64));
    for (name, hosts) in [("64 hosts", 64), ("64 k hosts", 64_000)] {
        let (switch, frames) = between_ports(hosts);
        for count in [1, 2] {
            group.bench_function(format!("{name}, workers: {count}"), |b| {
                b.iter_custom(|times| {
                    let workers = (0..count).map(|_| switch.another_worker(FROM, &frames)).collect();
                    carry(workers, switch.now, times * BATCHES / count)
                });
            });
        }
    }
    group.finish();
}

/// How long the workers take for `batches` each.
fn carry(workers: Vec<Worker>, now: Stamp, batches: u64) -> Duration {
    let barrier = Barrier::new(workers.len() + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = workers
            .into_iter()
            .map(|mut worker| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mut turns = |count| (0..count).for_each(|_| _ = worker.turn_port(FROM, now));
                    turns(4000); // every address is in the worker's cache, as in the steady state
                    barrier.wait();
                    turns(batches);
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        for thread in threads {
            thread.join().expect("a worker does not panic");
        }
        start.elapsed()
    })
}

/// Half of the hosts behind either port; those of the first send to those of the second.
fn between_ports(hosts: u32) -> (Switch, Vec<Vec<u8>>) {
    let half = hosts / 2;
    let frames = (0..half).map(|n| frame(mac(half + n), mac(n), 64)).collect();
    let mut switch = Switch::new();
    let (from, _) = switch.add_access(vec![]);
    let (to, _) = switch.add_access(vec![]);
    assert_eq!(from, FROM);
    switch.learn(0..half, Endpoint::Port(from));
    switch.learn(half..hosts, Endpoint::Port(to));
    (switch, frames)
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = scaling
}
criterion_main!(benches);
