//! Who should answer the walk's two questions: the table itself (dashmap), a worker's cache in front of it, or papaya, a map
//! whose readers take no lock. Several threads ask at once, at three sizes, while nobody or somebody changes the table.
//!
//! What is shown is the time that one thread takes for the two questions of 65,536 frames, a learning and a look-up each, in
//! batches of 32 as the walk asks them, addresses in random order. *Churn*: beside the askers a thread moves a thousand addresses a
//! second.
//!
//! `cargo bench -p weft-bench --bench fdb_shared`; `switch/docs/performance.md` says what was found.

use std::{
    hint::black_box,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weft::{
    fdb::{Fdb, FdbCache, Place, Stamp},
    ids::{Endpoint, PortId},
    wire::MacAddr,
};
use weft_bench::switch::{BRIDGE, NO_LIMIT, mac};

const HERE: Endpoint = Endpoint::Port(PortId(0));
const THERE: Endpoint = Endpoint::Port(PortId(1));
const NOW: Stamp = Stamp(1000);
const BATCH: usize = 32;
/// Frames whose questions one thread asks in turn.
const ASKED: usize = 1 << 16;

/// A way to answer.
trait Table: Sync {
    /// What each thread has of its own.
    type Own: Default;

    fn name() -> &'static str;
    fn with(hosts: u32) -> Self;
    fn move_to(&self, mac: MacAddr, at: Endpoint);
    /// Learns each pair's first address and looks up its second; says how many were known.
    fn ask(&self, own: &mut Self::Own, pairs: &[(MacAddr, MacAddr)]) -> usize;
}

struct Dashmap(Fdb);

impl Table for Dashmap {
    type Own = ();

    fn name() -> &'static str {
        "dashmap"
    }

    fn with(hosts: u32) -> Self {
        let fdb = Fdb::new();
        (0..hosts).for_each(|n| _ = fdb.learn(BRIDGE, mac(n), HERE, NOW, NO_LIMIT));
        Self(fdb)
    }

    fn move_to(&self, mac: MacAddr, at: Endpoint) {
        self.0.learn(BRIDGE, mac, at, NOW, NO_LIMIT);
    }

    fn ask(&self, (): &mut (), pairs: &[(MacAddr, MacAddr)]) -> usize {
        for (src, _) in pairs {
            black_box(self.0.learn(BRIDGE, *src, HERE, NOW, NO_LIMIT));
        }
        pairs.iter().filter(|(_, dst)| self.0.lookup(BRIDGE, *dst).is_some()).count()
    }
}

struct Cached(Fdb);

impl Table for Cached {
    type Own = FdbCache;

    fn name() -> &'static str {
        "cache and dashmap"
    }

    fn with(hosts: u32) -> Self {
        Self(Dashmap::with(hosts).0)
    }

    fn move_to(&self, mac: MacAddr, at: Endpoint) {
        self.0.learn(BRIDGE, mac, at, NOW, NO_LIMIT);
    }

    fn ask(&self, cache: &mut FdbCache, pairs: &[(MacAddr, MacAddr)]) -> usize {
        let mut places = [None; BATCH];
        for ((src, dst), place) in pairs.iter().zip(&mut places) {
            let both = [Place::new(BRIDGE, *src), Place::new(BRIDGE, *dst)];
            both.iter().for_each(|place| cache.prefetch(&self.0, *place));
            *place = Some(both);
        }
        for [src, _] in places.iter().flatten() {
            black_box(cache.learn(&self.0, *src, HERE, NOW, &NO_LIMIT));
        }
        places.iter().flatten().filter(|[_, dst]| cache.lookup(&self.0, *dst).is_some()).count()
    }
}

/// As much of the table as the two questions need: where an address is, and when it was seen.
struct Papaya(papaya::HashMap<u64, (Endpoint, AtomicU64), foldhash::fast::RandomState>);

impl Table for Papaya {
    type Own = ();

    fn name() -> &'static str {
        "papaya"
    }

    fn with(hosts: u32) -> Self {
        let map = papaya::HashMap::builder().hasher(foldhash::fast::RandomState::default()).build();
        let table = Self(map);
        (0..hosts).for_each(|n| table.move_to(mac(n), HERE));
        table
    }

    fn move_to(&self, mac: MacAddr, at: Endpoint) {
        self.0.pin().insert(mac.to_u64(), (at, AtomicU64::new(NOW.0)));
    }

    fn ask(&self, (): &mut (), pairs: &[(MacAddr, MacAddr)]) -> usize {
        let map = self.0.pin();
        for (src, _) in pairs {
            match map.get(&src.to_u64()) {
                Some((at, seen)) if *at == HERE => {
                    if seen.load(Ordering::Relaxed) < NOW.0 {
                        seen.store(NOW.0, Ordering::Relaxed);
                    }
                }
                Some(_) | None => _ = map.insert(src.to_u64(), (HERE, AtomicU64::new(NOW.0))),
            }
        }
        pairs.iter().filter(|(_, dst)| map.get(&dst.to_u64()).is_some()).count()
    }
}

fn tables(c: &mut Criterion) {
    for (size, hosts) in [("1 k", 1_000), ("64 k", 64_000), ("1 M", 1_000_000)] {
        compare::<Dashmap>(c, size, hosts);
        compare::<Cached>(c, size, hosts);
        compare::<Papaya>(c, size, hosts);
    }
}

fn compare<T: Table>(c: &mut Criterion, size: &str, hosts: u32) {
    let table = T::with(hosts);
    let mut group = c.benchmark_group(format!("{size} addresses"));
    group.throughput(Throughput::Elements(ASKED as u64));
    for (churn, suffix) in [(false, ""), (true, ", churn")] {
        for threads in [1, 2, 4] {
            group.bench_function(format!("{}, {threads} threads{suffix}", T::name()), |b| {
                b.iter_custom(|count| ask_together(&table, hosts, threads, churn, count));
            });
        }
    }
    group.finish();
}

/// How long the slowest of `threads` threads takes that ask all their questions `count` times each.
fn ask_together<T: Table>(table: &T, hosts: u32, threads: usize, churn: bool, count: u64) -> Duration {
    let over = AtomicBool::new(false);
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        let askers: Vec<_> = (0..threads as u64)
            .map(|seed| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    let pairs: Vec<_> =
                        (0..ASKED).map(|_| (mac(random.u32(..hosts)), mac(random.u32(..hosts)))).collect();
                    let mut own = T::Own::default();
                    // Every asker's cache has seen what it will be asked for, as in the steady state.
                    pairs.chunks(BATCH).for_each(|batch| _ = black_box(table.ask(&mut own, batch)));
                    barrier.wait();
                    let start = Instant::now();
                    for _ in 0..count {
                        pairs.chunks(BATCH).for_each(|batch| _ = black_box(table.ask(&mut own, batch)));
                    }
                    start.elapsed()
                })
            })
            .collect();
        if churn {
            let over = &over;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(99);
                while !over.load(Ordering::Relaxed) {
                    (0..10).for_each(|_| table.move_to(mac(random.u32(..hosts)), THERE));
                    thread::sleep(Duration::from_millis(10));
                }
            });
        }
        let taken = askers.into_iter().map(|asker| asker.join().expect("asking does not panic")).max();
        over.store(true, Ordering::Relaxed);
        taken.unwrap_or_default()
    })
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500));
    targets = tables
}
criterion_main!(benches);
