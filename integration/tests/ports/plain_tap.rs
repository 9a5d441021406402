//! Plain taps.

use std::{process::Command, time::Duration};

use rustix::event::PollFlags;
use weft::{
    bridge::DropReason,
    offload::VnetHeader,
    port::{
        Offloads, Port, PortError, PortQueue, RxBatch, TxFrame,
        plain_tap::{self, PlainTapQueue},
        tap::TapError,
    },
    sys::netns::Netns,
    wire::{Tag, Tpid},
};

use crate::{
    Test,
    scene::{Injector, Need, Witness, events, host, ip, number_of, numbered, receive, tap_host, tcp_between},
};

const NEEDS: &[Need] = &[Need::Namespace, Need::Tun, Need::Program("ip")];
const NEEDS_PYTHON: &[Need] = &[Need::Namespace, Need::Tun, Need::Program("ip"), Need::Program("python3")];
const NEEDS_ETHTOOL: &[Need] = &[Need::Namespace, Need::Tun, Need::Program("ip"), Need::Program("ethtool")];
const NEEDS_TCPDUMP: &[Need] = &[Need::Namespace, Need::Tun, Need::Program("ip"), Need::Program("tcpdump")];

pub(crate) const TESTS: &[Test] = &[
    ("plain_tap_names_are_refused_for_what_is_wrong_with_them", NEEDS, names),
    ("plain_tap_gets_no_offloads_from_the_kernel", NEEDS_ETHTOOL, offload_mask),
    ("plain_tap_is_read_by_the_first_worker_and_written_by_all", NEEDS_PYTHON, one_reads_all_write),
    ("plain_tap_writes_tags", NEEDS_TCPDUMP, tags),
    ("plain_tap_carries_a_tcp_connection_in_wire_frames", NEEDS, tcp),
    ("plain_tap_drops_of_the_kernel_balance_the_ledger", NEEDS_PYTHON, kernel_drops),
    ("plain_tap_says_down_and_gone", NEEDS, down_and_deleted),
];

fn names() {
    assert!(matches!(plain_tap::open("sixteen-bytes-xx", 1).err().unwrap(), TapError::Name { .. }));
    ip("tuntap add dev t0 mode tap");
    assert!(matches!(plain_tap::open("t0", 1).err().unwrap(), TapError::NameTaken(_)));
}

fn offload_mask() {
    let _tap = plain_tap::open("t0", 1).unwrap();
    let features = Command::new("ethtool").args(["-k", "t0"]).output().unwrap().stdout;
    let features = String::from_utf8(features).unwrap();
    for feature in ["tx-checksumming", "tcp-segmentation-offload", "tx-udp-segmentation"] {
        assert!(features.contains(&format!("{feature}: off")), "{feature}\n{features}");
    }
}

fn one_reads_all_write() {
    let mut queues = plain_tap::open("t0", 3).unwrap();
    ip("link set t0 up");
    assert_eq!(queues.iter().map(|queue| queue.poll_fd().is_some()).collect::<Vec<_>>(), [true, false, false]);
    let frames: Vec<_> = (0..50).map(numbered).collect();
    Injector::send("t0", &frames);
    for queue in &mut queues[1..] {
        assert_eq!(queue.recv(&mut RxBatch::new()).unwrap(), 0);
    }
    assert_eq!(events(&queues[0]), PollFlags::IN);
    let received = receive(&mut queues[0], 50, Duration::from_secs(2));
    assert_eq!(received, frames.into_iter().map(|frame| (frame, Some(VnetHeader::NONE))).collect::<Vec<_>>());

    let witness = Witness::new();
    std::thread::scope(|scope| {
        for (worker, queue) in (0..).zip(&mut queues) {
            scope.spawn(move || {
                for n in 0..100 {
                    queue.send(&TxFrame::plain(&numbered(worker * 100 + n))).unwrap();
                }
            });
        }
    });
    let mut seen: Vec<_> = (0..300).map(|_| witness.find(|frame| number_of(frame).is_some()).unwrap()).collect();
    seen.sort();
    assert_eq!(seen, (0..300).map(numbered).collect::<Vec<_>>());
}

fn tags() {
    let mut queues = plain_tap::open("t0", 1).unwrap();
    ip("link set t0 up");
    let capture = crate::packet::Capture::start("t0");
    let frame = numbered(0x0102_0304);
    queues[0]
        .send(&TxFrame { bytes: &frame, tag: Some(Tag(0x6005).to_bytes(Tpid::Customer)), vnet: VnetHeader::NONE })
        .unwrap();
    let text = capture.one_line();
    assert!(text.contains("vlan 5, p 3") && text.contains("ethertype Unknown (0x88b5)"), "{text}");
}

fn tcp() {
    let (client, server) = (Netns::create().unwrap(), Netns::create().unwrap());
    let (plain, tap) = (plain_host(&client, "10.9.9.1"), tap_host(&server, "10.9.9.2"));
    assert_eq!(plain.offloads(), Offloads::default());
    let carried = tcp_between((PortQueue::PlainTap(plain), PortQueue::Tap(tap)), &client, &server, 4 << 20);
    assert_eq!(carried.refused, 0, "{carried:?}");
    assert_eq!(carried.super_frames, 0, "the kernel must not give a plain tap super-frames");
    assert!(carried.frames > (4 << 20) / 1460, "{carried:?}");

    // The other way round super-frames come, and are cut for the plain tap.
    let (client, server) = (Netns::create().unwrap(), Netns::create().unwrap());
    let (tap, plain) = (tap_host(&client, "10.9.9.1"), plain_host(&server, "10.9.9.2"));
    let carried = tcp_between((PortQueue::Tap(tap), PortQueue::PlainTap(plain)), &client, &server, 4 << 20);
    assert_eq!(carried.refused, 0, "{carried:?}");
    assert!(carried.super_frames > 10, "{carried:?}");
}

fn plain_host(namespace: &Netns, address: &str) -> PlainTapQueue {
    host(namespace, address, || plain_tap::open("t0", 1).unwrap().remove(0))
}

fn kernel_drops() {
    let mut queues = plain_tap::open("t0", 2).unwrap();
    ip("link set t0 up");
    let frames: Vec<_> = (0..3000).map(numbered).collect();
    Injector::send("t0", &frames);
    let received = receive(&mut queues[0], usize::MAX, Duration::from_millis(100)).len() as u64;
    let drops: u64 = queues.iter().map(Port::kernel_drops).sum();
    assert!(drops > 0);
    assert_eq!(received + drops, 3000);
}

fn down_and_deleted() {
    let mut tap = plain_tap::open("t0", 1).unwrap().remove(0);
    assert_eq!(tap.send(&TxFrame::plain(&numbered(1))), Err(DropReason::PortDown));
    ip("link set t0 up");
    tap.send(&TxFrame::plain(&numbered(1))).unwrap();
    ip("link set t0 down");
    assert_eq!(tap.recv(&mut RxBatch::new()).unwrap(), 0);
    assert_eq!(tap.send(&TxFrame::plain(&numbered(1))), Err(DropReason::PortDown));
    ip("link del t0");
    assert_eq!(events(&tap), PollFlags::ERR);
    assert!(matches!(tap.recv(&mut RxBatch::new()), Err(PortError::Gone)));
    assert_eq!(tap.send(&TxFrame::plain(&numbered(1))), Err(DropReason::PortDown));
}
