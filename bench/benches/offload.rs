//! Super-frames cut into wire frames, beside the copy that can't be avoided.
//!
//! `cargo bench -p weft-bench --bench offload`

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weft::offload::{Gso, PartialCsum, Segments, VnetHeader, complete, wire_frames};
use weft_bench::frames;

/// Payload of the largest TCP super-frame over IPv4: 65,535 less both headers.
const SUPER_PAYLOAD_LEN: usize = 65_535 - 20 - 20;

fn super_frames(c: &mut Criterion) {
    let udp = frames::udp4(SUPER_PAYLOAD_LEN);
    let cases = [
        ("TCP over IPv4", frames::tcp4(SUPER_PAYLOAD_LEN), Gso::Tcp4, PartialCsum { start: 34, offset: 16 }),
        ("TCP over IPv6", frames::tcp6(SUPER_PAYLOAD_LEN), Gso::Tcp6, PartialCsum { start: 54, offset: 16 }),
        ("UDP over IPv4", udp, Gso::Udp, PartialCsum { start: 34, offset: 6 }),
    ];
    let mut group = c.benchmark_group("64 KiB super-frame");
    let mut out = vec![0; 70_000];
    for (name, frame, gso, csum) in &cases {
        let vnet = VnetHeader { csum: Some(*csum), gso: Some((*gso, 1448)), gso_ecn: false };
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(format!("{name}: segments of 1448 B"), |b| {
            b.iter(|| {
                let segments = Segments::new(black_box(frame), &vnet).expect("the frame is what its header says");
                let mut at = 0;
                for i in 0..segments.count() {
                    let len = segments.len(i);
                    segments.write(i, &mut out[at..at + len]);
                    at += len;
                }
                at
            });
        });
        group.bench_function(format!("{name}: wire_frames"), |b| b.iter(|| wire_frames(black_box(frame), &vnet)));
    }
    let frame = &cases[0].1;
    group.throughput(Throughput::Bytes(frame.len() as u64));
    group.bench_function("copy alone, in pieces of 1448 B", |b| {
        b.iter(|| {
            for (from, to) in black_box(frame).chunks(1448).zip(out.chunks_mut(1502)) {
                to[..from.len()].copy_from_slice(from);
            }
            black_box(&mut out);
        });
    });
    group.finish();
}

fn single_frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("1514 B frame");
    let csum = PartialCsum { start: 34, offset: 16 };
    let vnet = VnetHeader { csum: Some(csum), ..VnetHeader::NONE };
    let frame = frames::tcp4(1460);
    let mut out = frame.clone();
    group.throughput(Throughput::Bytes(frame.len() as u64));
    group.bench_function("copied with its checksum completed", |b| {
        b.iter(|| {
            let segments = Segments::new(black_box(&frame), &vnet).expect("the field lies inside");
            segments.write(0, black_box(&mut out));
        });
    });
    group.bench_function("checksum completed in place", |b| b.iter(|| complete(black_box(&mut out), csum)));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = super_frames, single_frames
}
criterion_main!(benches);
