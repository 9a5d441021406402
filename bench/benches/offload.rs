//! Super-frames cut into wire frames, beside the copy that can't be avoided; and wire frames put together.
//!
//! `cargo bench -p weft-bench --bench offload`

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weft::{
    ids::PortId,
    offload::{Coalescer, Departure, Gso, PartialCsum, Segments, VnetHeader, coalesce::Room, complete, wire_frames},
};
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

/// What one batch costs, without sending anything: for each frame, as many as can be are put together.
fn coalescing(c: &mut Criterion) {
    const TCP4: PartialCsum = PartialCsum { start: 34, offset: 16 };
    const UDP4: PartialCsum = PartialCsum { start: 34, offset: 6 };
    // Payload of 64-byte frames: what Ethernet, IPv4 and UDP leave.
    const SMALL: u16 = 64 - 14 - 20 - 8;
    let udp_flow = |flow: u16, count: usize| {
        let mut frame = frames::udp4(count * usize::from(SMALL));
        frame[34..36].copy_from_slice(&flow.to_be_bytes());
        cut(&frame, Gso::Udp, UDP4, SMALL)
    };
    let udp_flows = |flow_count: u16, count: usize| -> Vec<Vec<u8>> {
        let flows: Vec<_> = (0..flow_count).map(|flow| udp_flow(flow, count)).collect();
        (0..count).flat_map(|n| flows.iter().map(move |flow| flow[n].clone())).collect()
    };
    let acks = vec![cut(&frames::tcp4(0), Gso::Tcp4, TCP4, 1).concat(); 64];
    let open = udp_flow(0, 64);
    let cases = [
        ("44 TCP segments of 1398 B", cut(&frames::tcp4(44 * 1398), Gso::Tcp4, TCP4, 1398), None),
        ("44 TCP segments of 1398 B, checksums open", cut(&frames::tcp4(44 * 1398), Gso::Tcp4, TCP4, 1398), Some(TCP4)),
        ("64 B frames of UDP, one flow", udp_flow(0, 64), None),
        ("64 B frames of UDP, one flow, checksums open", open, Some(UDP4)),
        ("64 B frames of UDP, 8 flows in turn", udp_flows(8, 64), None),
        ("64 B frames of UDP, 64 flows in turn", udp_flows(64, 8), None),
        ("64 B frames of UDP, 64 flows once each", udp_flows(64, 1), None),
        ("pure acknowledgments", acks, None),
    ];
    let mut room = Room::new();
    let mut group = c.benchmark_group("put together");
    for (name, frames, csum) in &cases {
        let vnet = VnetHeader { csum: *csum, ..VnetHeader::NONE };
        group.throughput(Throughput::Elements(frames.len() as u64));
        group.bench_function(*name, |b| {
            b.iter(|| {
                let mut sent = 0;
                let mut coalescer = Coalescer::new(&mut room);
                for bytes in black_box(frames) {
                    let departure = Departure { port: PortId(0), tag: None, bytes, vnet, frames: 1 };
                    let kept = coalescer.offer(departure, |_| true, |departure| sent += departure.bytes.len());
                    sent += if kept { 0 } else { bytes.len() };
                }
                coalescer.flush(|departure| sent += departure.bytes.len());
                sent
            });
        });
    }
    group.finish();
}

/// The wire frames of a super-frame.
fn cut(frame: &[u8], gso: Gso, csum: PartialCsum, gso_size: u16) -> Vec<Vec<u8>> {
    let vnet = VnetHeader { csum: Some(csum), gso: Some((gso, gso_size)), gso_ecn: false };
    let segments = Segments::new(frame, &vnet).expect("the frame is what its header says");
    let segment = |i| {
        let mut out = vec![0; segments.len(i)];
        segments.write(i, &mut out);
        out
    };
    (0..segments.count()).map(segment).collect()
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = super_frames, single_frames, coalescing
}
criterion_main!(benches);
