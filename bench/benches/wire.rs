//! What is done to every frame: reading its headers, hashing its flow, summing its bytes.
//!
//! `cargo bench -p weft-bench --bench wire`

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weft::wire::{
    Tag, Tpid,
    checksum::{copy_and_sum, sum},
    dissect::{dissect, set_ecn},
    ethernet, flow, vlan,
};
use weft_bench::frames;

fn headers(c: &mut Criterion) {
    let plain = frames::tcp4(1448);
    let v6 = frames::tcp6(1428);
    let tagged = frames::tagged(&plain, 10);
    let mut group = c.benchmark_group("wire");
    group.bench_function("ethernet parse, untagged", |b| b.iter(|| ethernet::parse(black_box(&plain))));
    group.bench_function("ethernet parse, tagged", |b| b.iter(|| ethernet::parse(black_box(&tagged))));
    for (name, frame) in [("IPv4", &plain), ("IPv6", &v6), ("tagged IPv4", &tagged)] {
        group.bench_function(format!("dissect {name} TCP"), |b| b.iter(|| dissect(black_box(frame))));
        let dissected = dissect(frame);
        group.bench_function(format!("flow hash {name} TCP"), |b| {
            b.iter(|| flow::hash(black_box(frame), black_box(&dissected), 7));
        });
    }
    let mut marked = plain.clone();
    let l3 = dissect(&plain).l3.expect("an IPv4 frame has an IP header");
    group.bench_function("set ECN, IPv4", |b| b.iter(|| set_ecn(black_box(&mut marked), &l3, 3)));
    let mut room = tagged.clone();
    group.bench_function("vlan pop and push", |b| {
        b.iter(|| {
            let popped = vlan::pop(black_box(&mut room)).map(|(tag, _)| tag);
            vlan::push(&mut room, popped.unwrap_or(Tag(0)).to_bytes(Tpid::Customer)).is_some()
        });
    });
    group.finish();
}

fn checksums(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for len in [20, 64, 1500, 9000, 65_000] {
        let bytes = frames::random(len);
        let mut copy = bytes.clone();
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("sum {len} B"), |b| b.iter(|| sum(black_box(&bytes)).fold()));
        group.bench_function(format!("copy and sum {len} B"), |b| {
            b.iter(|| copy_and_sum(black_box(&bytes), black_box(&mut copy)).fold());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = headers, checksums
}
criterion_main!(benches);
