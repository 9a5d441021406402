//! The forwarding database at three sizes, addresses in random order.
//!
//! `cargo bench -p weft-bench --bench fdb`

use std::{hint::black_box, time::Duration};

use criterion::{
    Criterion, Throughput, criterion_group, criterion_main,
    measurement::{Measurement, WallTime},
};
use weft::{
    fdb::{Fdb, Stamp},
    ids::{Endpoint, PortId},
    wire::MacAddr,
};
use weft_bench::switch::{BRIDGE, NO_LIMIT, mac};

const HERE: Endpoint = Endpoint::Port(PortId(0));
const THERE: Endpoint = Endpoint::Port(PortId(1));
const NOW: Stamp = Stamp(0);
/// Addresses that one measurement asks for: more than caches hold of a big table, few enough to be dealt quickly.
const ASKED: usize = 1 << 16;
/// New addresses before they are taken out again, unmeasured.
const NEW: u32 = 1000;

fn tables(c: &mut Criterion) {
    for (name, size) in [("1 k", 1_000), ("64 k", 64_000), ("1 M", 1_000_000)] {
        let fdb = Fdb::new();
        (0..size).for_each(|n| learn(&fdb, mac(n), HERE));
        let mut random = fastrand::Rng::with_seed(1);
        let known: Vec<_> = (0..ASKED).map(|_| mac(random.u32(..size))).collect();
        let unknown: Vec<_> = (0..ASKED).map(|_| mac(random.u32(size..))).collect();

        let mut group = c.benchmark_group(format!("fdb of {name}"));
        group.throughput(Throughput::Elements(1));
        for (name, macs) in [("hit", &known), ("miss", &unknown)] {
            let mut macs = macs.iter().cycle();
            group.bench_function(format!("look-up, {name}"), |b| {
                b.iter(|| fdb.lookup(BRIDGE, black_box(macs.next().copied().unwrap_or(MacAddr::ZERO))));
            });
        }
        let mut macs = known.iter().cycle();
        group.bench_function("learn, known", |b| {
            b.iter(|| fdb.learn(BRIDGE, black_box(macs.next().copied().unwrap_or(MacAddr::ZERO)), HERE, NOW, NO_LIMIT));
        });
        let mut macs = shuffled(size, &mut random).into_iter().cycle();
        let mut moves = 0;
        group.bench_function("learn, moved", |b| {
            b.iter(|| {
                // All move away before the first moves back.
                let to = if moves / size % 2 == 0 { THERE } else { HERE };
                moves += 1;
                fdb.learn(BRIDGE, black_box(macs.next().unwrap_or(MacAddr::ZERO)), to, NOW, NO_LIMIT)
            });
        });
        group.bench_function("learn, new", |b| {
            b.iter_custom(|count| {
                let mut taken = Duration::ZERO;
                for done in (0..count).step_by(NEW as usize) {
                    let until = size + NEW.min((count - done) as u32);
                    let start = WallTime.start();
                    (size..until).for_each(|n| learn(&fdb, mac(n.swap_bytes()), HERE));
                    taken += WallTime.end(start);
                    (size..until).for_each(|n| _ = fdb.remove(BRIDGE, mac(n.swap_bytes())));
                }
                taken
            });
        });
        group.finish();
    }
}

fn shuffled(size: u32, random: &mut fastrand::Rng) -> Vec<MacAddr> {
    let mut macs: Vec<_> = (0..size).map(mac).collect();
    random.shuffle(&mut macs);
    macs
}

fn learn(fdb: &Fdb, mac: MacAddr, at: Endpoint) {
    black_box(fdb.learn(BRIDGE, mac, at, NOW, NO_LIMIT));
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = tables
}
criterion_main!(benches);
