//! What a datagram costs on its way into and out of the underlay: queueing alone, and with the kernel over loopback.
//!
//! `cargo bench -p weft-bench --bench underlay`
//!
//! Each figure is for a batch; what is not being measured (reading what was sent, say) is done with the clock stopped.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use weft::{
    ids::{BridgeId, VtepId},
    underlay::{
        Target, UnderlayBatch, UnderlayEnd,
        memory::{Conditions, MemoryNet},
        sockets::{Gso, UnderlaySettings, UnderlaySockets},
        udp::UdpUnderlay,
    },
};
use weft_vxlan::HeaderFormat;

/// Segments of a super-frame of 64 KiB.
const SEGMENT_COUNT: usize = 44;
const SEGMENT_LEN: usize = 1458;
/// A batch of small frames.
const SMALL_COUNT: usize = 32;
const SMALL_LEN: usize = 108;

fn loopback(c: &mut Criterion) {
    let mut group = c.benchmark_group("underlay, loopback");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1)).sample_size(30);
    for (name, gso) in [("with", Gso::Auto), ("without", Gso::Off)] {
        let mut ends = Pair::new(gso);
        group.throughput(Throughput::Elements(SEGMENT_COUNT as u64));
        if gso == Gso::Auto {
            group.bench_function("reserve 44 segments", |b| {
                ends.bench(b, Clock::Reserve, |a, to| super_frame(a, &target(to)))
            });
        }
        group.bench_function(format!("flush 44 segments {name} GSO"), |b| {
            ends.bench(b, Clock::Flush, |a, to| super_frame(a, &target(to)));
        });
        group.bench_function(format!("receive 44 segments {name} GSO"), |b| {
            ends.bench(b, Clock::Receive, |a, to| super_frame(a, &target(to)));
        });
    }
    group.throughput(Throughput::Elements(SMALL_COUNT as u64));
    for source_ports in [1, 4, 16, 64, 256] {
        let mut ends = Pair::with_source_ports(Gso::Auto, source_ports);
        for clock in [Clock::Flush, Clock::Receive] {
            group.bench_function(
                format!("{} 32 small frames of 32 flows, {source_ports} source ports", clock.name()),
                |b| {
                    ends.bench(b, clock, flows);
                },
            );
        }
    }
    let mut ends = Pair::new(Gso::Auto);
    for clock in [Clock::Reserve, Clock::Flush, Clock::Receive] {
        group.bench_function(format!("{} 32 small frames to 32 VTEPs", clock.name()), |b| {
            ends.bench(b, clock, flood);
        });
        group.bench_function(format!("{} 32 small frames of one flow to 16 VTEPs", clock.name()), |b| {
            ends.bench(b, clock, flood_twice);
        });
    }
    group.finish();
}

fn memory(c: &mut Criterion) {
    let mut group = c.benchmark_group("underlay, memory");
    let net = MemoryNet::new(1);
    net.set_conditions(Conditions { aggregate: true, ..Conditions::default() });
    let address = |text: &str| text.parse().expect("an address");
    let mut a = net.attach(address("192.0.2.1:4789")).expect("a descriptor is free");
    let mut b = net.attach(address("192.0.2.2:4789")).expect("a descriptor is free");
    let mut batch = UnderlayBatch::new();
    let target = target(b.address());
    group.throughput(Throughput::Elements(SEGMENT_COUNT as u64));
    group.bench_function("44 segments there", |bencher| {
        bencher.iter(|| {
            super_frame(&mut a, &target);
            a.flush(&mut |sent| assert!(sent.result.is_ok()));
            b.recv(HeaderFormat::Vxlan, &mut batch).expect("memory does not fail")
        });
    });
    group.finish();
}

#[derive(Clone, Copy)]
enum Clock {
    Reserve,
    Flush,
    Receive,
}

impl Clock {
    fn name(self) -> &'static str {
        match self {
            Self::Reserve => "reserve",
            Self::Flush => "flush",
            Self::Receive => "receive",
        }
    }
}

struct Pair {
    a: UdpUnderlay,
    b: UdpUnderlay,
    to: SocketAddr,
    batch: UnderlayBatch,
}

impl Pair {
    fn new(gso: Gso) -> Self {
        Self::with_source_ports(gso, UnderlaySettings::new(Ipv4Addr::LOCALHOST.into()).source_ports)
    }

    fn with_source_ports(gso: Gso, source_ports: u16) -> Self {
        let open = || {
            let settings =
                UnderlaySettings { port: 0, gso, source_ports, ..UnderlaySettings::new(Ipv4Addr::LOCALHOST.into()) };
            let sockets = UnderlaySockets::open(&settings).expect("loopback is up");
            let address = sockets.local_address();
            (sockets.into_ends().pop().expect("one worker has one end"), address)
        };
        let ((a, _), (b, to)) = (open(), open());
        Self { a, b, to, batch: UnderlayBatch::new() }
    }

    /// Reserves, sends and receives what `put` makes, measuring one of the three.
    fn bench(&mut self, bencher: &mut Bencher<'_>, clock: Clock, put: impl Fn(&mut UdpUnderlay, SocketAddr)) {
        let Self { a, b, to, batch } = self;
        bencher.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                let begin = Instant::now();
                put(a, *to);
                let reserved = Instant::now();
                a.flush(&mut |sent| assert!(sent.result.is_ok()));
                let flushed = Instant::now();
                while b.recv(HeaderFormat::Vxlan, batch).expect("loopback does not fail") > 0 {}
                total += match clock {
                    Clock::Reserve => reserved - begin,
                    Clock::Flush => flushed - reserved,
                    Clock::Receive => flushed.elapsed(),
                };
            }
            total
        });
    }
}

fn super_frame(end: &mut impl UnderlayEnd, target: &Target) {
    for _ in 0..SEGMENT_COUNT {
        end.reserve(target, 0x1234_5678, SEGMENT_LEN)[0] = 1;
    }
}

/// One flow to many VTEPs: as many groups of one socket.
fn flood(end: &mut impl UnderlayEnd, to: SocketAddr) {
    for vtep in 0..SMALL_COUNT as u16 {
        end.reserve(&Target { vtep: VtepId(vtep), ..target(to) }, 0x1234_5678, SMALL_LEN)[0] = 1;
    }
}

/// Frames of one flow, each to all VTEPs of a flood list: each VTEP's two are one run.
fn flood_twice(end: &mut impl UnderlayEnd, to: SocketAddr) {
    for frame in 0..SMALL_COUNT as u16 {
        end.reserve(&Target { vtep: VtepId(frame % 16), ..target(to) }, 0x1234_5678, SMALL_LEN)[0] = 1;
    }
}

/// Many flows to one VTEP: as many groups as sockets.
fn flows(end: &mut impl UnderlayEnd, to: SocketAddr) {
    for flow in 0..SMALL_COUNT as u32 {
        end.reserve(&target(to), flow.wrapping_mul(0x9e37_79b9), SMALL_LEN)[0] = 1;
    }
}

fn target(address: SocketAddr) -> Target {
    let (bridge, vtep) = (BridgeId(1), VtepId(1));
    Target { bridge, vtep, address, tos: 0, ttl: 64, dont_fragment: true, header_len: 8 }
}

criterion_group!(benches, loopback, memory);
criterion_main!(benches);
