//! Taps with offloads.

use std::{process::Command, time::Duration};

use rustix::event::PollFlags;
use weft::{
    bridge::DropReason,
    offload::{Gso, PartialCsum, VnetHeader, wire_frames},
    port::{
        Offloads, Port, PortError, PortQueue, RxBatch, TxFrame,
        memory::MemoryPort,
        tap::{self, TapError, TapQueue},
    },
    sys::netns::Netns,
};

use crate::{
    Test,
    scene::{
        EXPERIMENT, Injector, Need, Witness, events, eventually, internet_sum, ip, number_of, numbered, quiet, receive,
        tap_host, tcp_between, udp_frame,
    },
};

const NEEDS: &[Need] = &[Need::Namespace, Need::Tun, Need::Program("ip")];
const NEEDS_PYTHON: &[Need] = &[Need::Namespace, Need::Tun, Need::Program("ip"), Need::Program("python3")];
const NEEDS_ETHTOOL: &[Need] = &[Need::Namespace, Need::Tun, Need::Program("ip"), Need::Program("ethtool")];

pub(crate) const TESTS: &[Test] = &[
    ("tap_names_are_refused_for_what_is_wrong_with_them", NEEDS, names),
    ("tap_leaves_nothing_behind_when_its_queues_are_dropped", NEEDS, vanishes),
    ("tap_without_permission_is_a_typed_error", NEEDS, permission),
    ("tap_tells_the_kernel_what_it_takes", NEEDS_ETHTOOL, offload_mask),
    ("tap_frames_reach_the_kernel_byte_for_byte", NEEDS, written_frame_arrives),
    ("tap_kernel_answers_arp", NEEDS, arp_is_answered),
    ("tap_super_frames_of_a_tcp_connection_pass_whole", NEEDS, tcp_super_frames),
    ("tap_super_frames_that_the_kernel_refuses_are_cut_here", NEEDS, gso_fallback),
    ("tap_queues_see_each_frame_once", NEEDS_PYTHON, queues),
    ("tap_drops_of_the_kernel_balance_the_ledger", NEEDS_PYTHON, kernel_drops),
    ("tap_that_is_down_refuses_and_comes_back", NEEDS, down_and_up),
    ("tap_that_is_deleted_is_gone", NEEDS, deleted),
    ("tap_keeps_its_namespace_alive", NEEDS, namespace_stays),
    ("tap_in_a_namespace_that_dies_is_gone", NEEDS, moved_away),
];

fn names() {
    assert!(matches!(open_error("sixteen-bytes-xx"), TapError::Name { .. }));
    assert!(matches!(open_error(""), TapError::Name { .. }));
    assert!(matches!(open_error("tap%d"), TapError::Name { .. }));
    assert!(matches!(tap::open("t0", 0).err().unwrap(), TapError::QueueCount(0)));
    assert!(matches!(tap::open("t0", 257).err().unwrap(), TapError::QueueCount(257)));

    ip("link add t0 type veth peer name t1");
    assert!(matches!(open_error("t0"), TapError::NameTaken(_)));
    // An own tap as well, with and without an owner.
    ip("tuntap add dev t2 mode tap multi_queue vnet_hdr");
    assert!(matches!(open_error("t2"), TapError::NameTaken(_)));
    let _open = tap::open("t3", 2).unwrap();
    assert!(matches!(open_error("t3"), TapError::NameTaken(_)));
    assert_eq!(open_error("t3").to_string(), "an interface `t3` exists already");
}

fn vanishes() {
    let queues = tap::open("t0", 3).unwrap();
    assert_eq!(queues.len(), 3);
    assert!(exists("t0"));
    drop(queues);
    // A child that another test is just starting holds copies of all descriptors until it executes its program.
    eventually(Duration::from_secs(5), || !exists("t0"));
}

fn permission() {
    let refused = std::thread::spawn(|| {
        use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
        let all = capabilities(None).unwrap();
        let less = all.effective.difference(CapabilitySet::NET_ADMIN);
        set_capabilities(None, CapabilitySets { effective: less, ..all }).unwrap();
        let refused = tap::open("t0", 1).err();
        set_capabilities(None, all).unwrap();
        refused
    });
    assert!(matches!(refused.join().unwrap(), Some(TapError::NoPermission { .. })));
}

fn offload_mask() {
    let queues = tap::open("t0", 2).unwrap();
    assert_eq!(queues[0].offloads(), Offloads { csum: true, tso4: true, tso6: true, uso: true });
    let features = Command::new("ethtool").args(["-k", "t0"]).output().unwrap().stdout;
    let features = String::from_utf8(features).unwrap();
    for feature in ["tx-checksumming", "tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-udp-segmentation"] {
        assert!(features.contains(&format!("{feature}: on")), "{feature}\n{features}");
    }
}

fn written_frame_arrives() {
    let mut tap = open_up("t0");
    let witness = Witness::new();
    let frame = numbered(7);
    tap.send(&TxFrame::plain(&frame)).unwrap();
    assert_eq!(witness.find(|bytes| number_of(bytes).is_some()), Some(frame));
    // Shorter than Ethernet allows: the kernel takes it as it is.
    let short = [&numbered(8)[..12], &EXPERIMENT, &[1, 2, 3]].concat();
    tap.send(&TxFrame::plain(&short)).unwrap();
    assert_eq!(witness.find(|bytes| bytes.len() == short.len()), Some(short));
    // A checksum left open arrives with the header that says so, and the bytes are the same.
    let mut partial = udp_frame(9, b"partial");
    let pseudo = internet_sum(&[&partial[26..34], &[0, 17, 0, 15]].concat());
    partial[40..42].copy_from_slice(&pseudo.to_be_bytes());
    let vnet = VnetHeader { csum: Some(PartialCsum { start: 34, offset: 6 }), ..VnetHeader::NONE };
    tap.send(&TxFrame { bytes: &partial, tag: None, vnet }).unwrap();
    assert_eq!(witness.find(|bytes| bytes.ends_with(b"partial")), Some(partial));
}

fn arp_is_answered() {
    let mut tap = open_up("t0");
    ip("addr add 10.9.9.1/24 dev t0");
    let me = [2, 0, 0, 0, 0, 7];
    let request =
        [&[0xff; 6][..], &me, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &me, &[10, 9, 9, 2], &[0; 6], &[10, 9, 9, 1]].concat();
    tap.send(&TxFrame::plain(&request)).unwrap();
    let frames = receive(&mut tap, 1, Duration::from_secs(2));
    let (answer, vnet) = &frames[0];
    assert_eq!(answer[..6], me);
    assert_eq!(answer[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    assert_eq!(answer[28..32], [10, 9, 9, 1]);
    assert_eq!(*vnet, Some(VnetHeader::NONE));
}

/// Two kernel stacks, a tap each, and between them a test that hands everything on.
fn tcp_super_frames() {
    let (client, server) = (Netns::create().unwrap(), Netns::create().unwrap());
    let (one, two) = (tap_host(&client, "10.9.9.1"), tap_host(&server, "10.9.9.2"));
    let carried = tcp_between((PortQueue::Tap(one), PortQueue::Tap(two)), &client, &server, 8 << 20);
    assert_eq!(carried.refused, 0, "{carried:?}");
    assert!(carried.super_frames > 10 && carried.partial > 10, "{carried:?}");
    assert!(carried.wire_frames > 3 * carried.frames, "{} frames of {}", carried.wire_frames, carried.frames);

    // What such a frame looks like, and that a port in memory hands it on as it is.
    let (bytes, vnet) = carried.sample.unwrap();
    let (kind, gso_size) = vnet.gso.unwrap();
    assert_eq!((kind, vnet.csum), (Gso::Tcp4, Some(PartialCsum { start: 34, offset: 16 })));
    assert!((1200..=1460).contains(&gso_size));
    assert!(wire_frames(&bytes, &vnet).unwrap() > 1);
    let (mut memory, mut host) = MemoryPort::pair(4, Offloads { csum: true, tso4: true, ..Offloads::default() });
    memory.send(&TxFrame { bytes: &bytes, tag: None, vnet }).unwrap();
    assert_eq!(host.try_recv(), Some((bytes, vnet)));
}

/// More segments than the kernel cuts a UDP super-frame into (UDP_MAX_SEGMENTS, 128): a well-formed one that it refuses.
fn gso_fallback() {
    let mut tap = open_up("t0");
    let witness = Witness::new();
    let payload: Vec<u8> = (0..1500).map(|i| i as u8).collect();
    let mut bytes = udp_frame(77, &payload);
    let udp_len = (8 + payload.len()) as u16;
    let pseudo = internet_sum(&[&bytes[26..34], &[0, 17], &udp_len.to_be_bytes()].concat());
    bytes[40..42].copy_from_slice(&pseudo.to_be_bytes());
    let csum = Some(PartialCsum { start: 34, offset: 6 });
    let vnet = VnetHeader { csum, gso: Some((Gso::Udp, 10)), gso_ecn: false };
    assert_eq!(wire_frames(&bytes, &vnet), Ok(150));

    tap.send(&TxFrame { bytes: &bytes, tag: None, vnet }).unwrap();
    assert_eq!(tap.gso_fallbacks(), 1);
    assert_eq!(tap.flush().lost, None);
    let mut rebuilt = Vec::new();
    for _ in 0..150 {
        let segment = witness.find(|bytes| bytes.len() == 52).expect("a segment");
        assert_eq!(internet_sum(&[&segment[26..34], &[0, 17, 0, 18], &segment[34..]].concat()), 0xffff);
        rebuilt.extend_from_slice(&segment[42..]);
    }
    assert_eq!(rebuilt, payload);

    // The same shape within the limit goes through whole.
    let vnet = VnetHeader { gso: Some((Gso::Udp, 100)), ..vnet };
    tap.send(&TxFrame { bytes: &bytes, tag: None, vnet }).unwrap();
    assert_eq!(tap.gso_fallbacks(), 1);
    assert_eq!(witness.find(|frame| frame.len() == bytes.len()), Some(bytes));
}

fn queues() {
    let mut queues = tap::open("t0", 2).unwrap();
    ip("link set t0 up");
    let frames: Vec<_> = (0..200).map(|flow| udp_frame(10_000 + flow, b"queue")).collect();
    Injector::send("t0", &frames);
    let mut got: Vec<Vec<u8>> = Vec::new();
    for queue in &mut queues {
        let received = receive(queue, usize::MAX, Duration::from_millis(200));
        assert!(!received.is_empty(), "a queue without a flow");
        got.extend(received.into_iter().map(|(bytes, _)| bytes));
    }
    got.sort();
    assert_eq!(got, frames);
}

fn kernel_drops() {
    let mut queues = tap::open("t0", 2).unwrap();
    ip("link set t0 up");
    assert_eq!(queues[0].kernel_drops(), 0);
    let frames: Vec<_> = (0..3000).map(numbered).collect();
    Injector::send("t0", &frames);
    let received: usize =
        queues.iter_mut().map(|queue| receive(queue, usize::MAX, Duration::from_millis(100)).len()).sum();
    let drops: u64 = queues.iter().map(Port::kernel_drops).sum();
    assert!(drops > 0);
    assert_eq!(received as u64 + drops, 3000);
    // The interface's end does not take the count with it.
    ip("link del t0");
    assert_eq!(queues[0].kernel_drops(), drops);
}

fn down_and_up() {
    let mut tap = open_up("t0");
    ip("link set t0 down");
    assert_eq!(events(&tap), PollFlags::empty());
    assert_eq!(tap.recv(&mut RxBatch::new()).unwrap(), 0);
    assert_eq!(tap.send(&TxFrame::plain(&numbered(1))), Err(DropReason::PortDown));
    ip("link set t0 up");
    let witness = Witness::new();
    tap.send(&TxFrame::plain(&numbered(2))).unwrap();
    assert_eq!(witness.find(|bytes| number_of(bytes).is_some()), Some(numbered(2)));
}

fn deleted() {
    let mut queues = tap::open("t0", 2).unwrap();
    ip("link set t0 up");
    ip("link del t0");
    for tap in &mut queues {
        assert_eq!(events(tap), PollFlags::ERR);
        assert!(matches!(tap.recv(&mut RxBatch::new()), Err(PortError::Gone)));
        assert!(matches!(tap.recv(&mut RxBatch::new()), Err(PortError::Gone)));
        assert_eq!(tap.send(&TxFrame::plain(&numbered(1))), Err(DropReason::PortDown));
    }
}

fn namespace_stays() {
    let namespace = Netns::create().unwrap();
    let (mut tap, witness) = namespace
        .within(|| {
            quiet();
            (open_up("t0"), Witness::new())
        })
        .unwrap();
    // The last handle; all that refers to the namespace now is the tap (and the witness in it, until it has seen enough).
    drop(namespace);
    tap.send(&TxFrame::plain(&numbered(1))).unwrap();
    assert!(witness.find(|bytes| number_of(bytes) == Some(1)).is_some());
    drop(witness);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(events(&tap), PollFlags::empty());
    assert_eq!(tap.recv(&mut RxBatch::new()).unwrap(), 0);
    assert_eq!(tap.send(&TxFrame::plain(&numbered(2))), Ok(()));
}

fn moved_away() {
    let mut tap = open_up("t0");
    let other = Netns::create().unwrap();
    let (ready, wait) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        // `ip link set netns` wants a process: one that sleeps in the other namespace.
        let mut sleeper = other.within(|| Command::new("sleep").arg("30").spawn().unwrap()).unwrap();
        drop(other);
        scope.spawn(move || {
            ready.send(sleeper.id()).unwrap();
            std::thread::sleep(Duration::from_millis(500));
            sleeper.kill().unwrap();
            sleeper.wait().unwrap();
        });
        ip(&format!("link set t0 netns {}", wait.recv().unwrap()));
        assert_eq!(events(&tap), PollFlags::empty());
        assert_eq!(tap.send(&TxFrame::plain(&numbered(1))), Err(DropReason::PortDown));
    });
    // A kernel thread takes namespaces apart, one lot after the other, and the other tests leave theirs to it as well.
    eventually(Duration::from_secs(60), || events(&tap) == PollFlags::ERR);
    // The poll knows while the interface is still being taken apart, the read only when that is done.
    eventually(Duration::from_secs(10), || matches!(tap.recv(&mut RxBatch::new()), Err(PortError::Gone)));
}

fn open_error(name: &str) -> TapError {
    tap::open(name, 1).err().expect("must not open")
}

fn open_up(name: &str) -> TapQueue {
    let tap = tap::open(name, 1).unwrap().remove(0);
    ip(&format!("link set {name} up"));
    tap
}

fn exists(name: &str) -> bool {
    Command::new("ip").args(["link", "show", name]).output().unwrap().status.success()
}
