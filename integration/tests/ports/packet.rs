//! Packet sockets on a veth pair: weft has `v0`, the rest of the world is behind `v1`.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    net::UdpSocket,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::event::PollFlags;
use weft::{
    bridge::DropReason,
    offload::{Gso, PartialCsum, Segments, VNET_HEADER_LEN, VnetHeader, wire_frames},
    port::{
        Offloads, Port, PortError, PortQueue, RxBatch, TxFrame,
        packet::{self, PacketError, PacketQueue},
        tap,
    },
    sys::{netns::Netns, packet_socket},
    wire::{Tag, Tpid},
};

use crate::{
    Test,
    scene::{
        Injector, Need, Witness, events, eventually, internet_sum, ip, number_of, numbered, quiet, receive, tap_host,
        tcp_between, udp_frame, veth, with_tag,
    },
};

const NEEDS: &[Need] = &[Need::Namespace, Need::Program("ip")];
const NEEDS_TUN: &[Need] = &[Need::Namespace, Need::Program("ip"), Need::Tun];
const NEEDS_PYTHON: &[Need] = &[Need::Namespace, Need::Program("ip"), Need::Program("python3")];
const NEEDS_TCPDUMP: &[Need] = &[Need::Namespace, Need::Program("ip"), Need::Program("tcpdump")];

pub(crate) const TESTS: &[Test] = &[
    ("packet_names_are_refused_for_what_is_wrong_with_them", NEEDS, names),
    ("packet_port_needs_permission", NEEDS, permission),
    ("packet_port_reads_what_is_for_others_byte_for_byte", NEEDS_PYTHON, reads_everything),
    ("packet_port_does_not_read_what_leaves_the_interface", NEEDS_PYTHON, outgoing_is_not_read),
    ("packet_port_puts_tags_back", NEEDS_PYTHON, tags_are_put_back),
    ("packet_port_writes_tags", NEEDS_TCPDUMP, tags_are_written),
    ("packet_queues_see_each_frame_once_and_each_flow_in_one_place", NEEDS_PYTHON, fanout),
    ("packet_queues_see_no_frame_twice_while_they_are_opened", NEEDS_PYTHON, opening_under_load),
    ("packet_port_hands_on_open_checksums", NEEDS, open_checksums),
    ("packet_port_super_frames_of_a_tcp_connection_pass_whole", NEEDS_TUN, tcp_super_frames),
    ("packet_port_carries_tagged_super_frames", NEEDS_TUN, tagged_super_frames),
    ("packet_port_cuts_super_frames_that_the_kernel_refuses", NEEDS, gso_fallback),
    ("packet_port_names_frames_that_are_too_long", NEEDS, too_long),
    ("packet_sockets_send_many_frames_in_one_call", NEEDS, sends_many),
    ("packet_port_drops_of_the_kernel_balance_the_ledger", NEEDS_PYTHON, kernel_drops),
    ("packet_port_follows_its_interface_down_and_up", NEEDS_PYTHON, down_and_up),
    ("packet_port_opens_on_an_interface_that_is_down", NEEDS_PYTHON, opened_down),
    ("packet_port_whose_interface_is_deleted_is_gone", NEEDS, deleted),
    ("packet_port_keeps_its_namespace_alive", NEEDS, namespace_stays),
];

fn names() {
    assert!(matches!(packet::open("sixteen-bytes-xx", 1, true).err().unwrap(), PacketError::Name { .. }));
    assert!(matches!(packet::open("v0", 1, true).err().unwrap(), PacketError::NoInterface(_)));
    veth();
    assert!(matches!(packet::open("v0", 0, true).err().unwrap(), PacketError::QueueCount(0)));
    assert!(matches!(packet::open("lo", 1, true).err().unwrap(), PacketError::NotEthernet { kind: 772, .. }));
    let queues = packet::open("v0", 2, true).unwrap();
    assert_eq!(queues[0].offloads(), Offloads { csum: true, tso4: true, tso6: true, uso: true });
    assert_eq!(packet::open("v0", 1, false).unwrap()[0].offloads(), Offloads::default());
}

fn permission() {
    veth();
    let refused = thread::spawn(|| {
        use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
        let all = capabilities(None).unwrap();
        let less = all.effective.difference(CapabilitySet::NET_RAW);
        set_capabilities(None, CapabilitySets { effective: less, ..all }).unwrap();
        let refused = packet::open("v0", 1, true).err();
        set_capabilities(None, all).unwrap();
        refused
    });
    assert!(matches!(refused.join().unwrap(), Some(PacketError::NoPermission { .. })));
}

fn reads_everything() {
    veth();
    let mut port = open("v0");
    let link = Command::new("ip").args(["-d", "link", "show", "v0"]).output().unwrap().stdout;
    assert!(String::from_utf8(link).unwrap().contains("promiscuity 1"));
    assert_eq!(events(&port), PollFlags::empty());
    let mut frames: Vec<_> = (0..100).map(numbered).collect();
    frames[50].truncate(14 + 4);
    Injector::send("v1", &frames);
    assert_eq!(events(&port), PollFlags::IN);
    let received = receive(&mut port, 100, Duration::from_secs(2));
    assert_eq!(received, frames.into_iter().map(|frame| (frame, Some(VnetHeader::NONE))).collect::<Vec<_>>());
    assert_eq!(port.recv(&mut RxBatch::new()).unwrap(), 0);
}

fn outgoing_is_not_read() {
    veth();
    for queue_count in [1, 2] {
        let mut queues = packet::open("v0", queue_count, true).unwrap();
        // The stack's, and weft's own.
        Injector::send("v0", &(0..20).map(numbered).collect::<Vec<_>>());
        for queue in &mut queues {
            queue.send(&TxFrame::plain(&numbered(100))).unwrap();
        }
        Injector::send("v1", &[numbered(200)]);
        let mut got = Vec::new();
        for queue in &mut queues {
            got.extend(receive(queue, usize::MAX, Duration::from_millis(100)));
        }
        assert_eq!(got, [(numbered(200), Some(VnetHeader::NONE))], "{queue_count} queues");
    }
}

fn tags_are_put_back() {
    veth();
    let mut port = open("v0");
    let plain = numbered(1);
    let frames = [
        with_tag(&plain, 0x8100, 5),
        with_tag(&plain, 0x8100, 0xffff),
        with_tag(&plain, 0x8100, 0x6000),
        with_tag(&plain, 0x8100, 0),
        with_tag(&plain, 0x88a8, 0x1064),
        with_tag(&with_tag(&plain, 0x8100, 20), 0x88a8, 10),
        with_tag(&with_tag(&plain, 0x8100, 20), 0x8100, 10),
        plain,
    ];
    Injector::send("v1", &frames);
    let received = receive(&mut port, frames.len(), Duration::from_secs(2));
    assert_eq!(received.into_iter().map(|(bytes, _)| bytes).collect::<Vec<_>>(), frames);
}

fn tags_are_written() {
    veth();
    let mut port = open("v0");
    let capture = Capture::start("v1");
    port.send(&TxFrame {
        bytes: &numbered(1),
        tag: Some(Tag(0xa07b).to_bytes(Tpid::Customer)),
        vnet: VnetHeader::NONE,
    })
    .unwrap();
    let text = capture.one_line();
    assert!(text.contains("vlan 123, p 5") && text.contains("ethertype Unknown (0x88b5)"), "{text}");
}

fn fanout() {
    veth();
    let mut queues = packet::open("v0", 2, true).unwrap();
    let frames: Vec<_> =
        (0..200).flat_map(|n: u16| [udp_frame(10_000 + n, b"first"), udp_frame(10_000 + n, b"again")]).collect();
    Injector::send("v1", &frames);
    let mut got = Vec::new();
    let mut queue_of = HashMap::new();
    for (index, queue) in queues.iter_mut().enumerate() {
        let received = receive(queue, usize::MAX, Duration::from_millis(200));
        assert!(!received.is_empty(), "a queue without a flow");
        for (bytes, _) in received {
            assert_eq!(*queue_of.entry([bytes[34], bytes[35]]).or_insert(index), index, "a flow in two queues");
            got.push(bytes);
        }
    }
    got.sort();
    let mut expected = frames;
    expected.sort();
    assert_eq!(got, expected);
}

fn opening_under_load() {
    veth();
    for round in 0..5 {
        let first = round << 28;
        let flood = Injector::flood("v1", first);
        let mut queues = packet::open("v0", 4, true).unwrap();
        // All frames are one flow: its queue changes as the group grows, and a socket outside the group would see it, too.
        let mut seen = Vec::new();
        eventually(Duration::from_secs(10), || {
            for queue in &mut queues {
                let received = receive(queue, 10_000, Duration::from_millis(5));
                seen.extend(received.iter().filter_map(|(bytes, _)| number_of(bytes)));
            }
            seen.len() >= 1000
        });
        drop(flood);
        seen.sort_unstable();
        assert!(seen[0] > first, "nothing came before the opening");
        let twice: Vec<_> = seen.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "of {} frames from {} on some were read twice: {twice:?}", seen.len(), seen[0]);
    }
}

fn open_checksums() {
    let far = Netns::create().unwrap();
    let mut port = veth_host(&far, "10.9.9.2", false);
    far.within(|| {
        ip("neigh add 10.9.9.1 lladdr 02:00:00:00:00:01 dev v1");
        let socket = UdpSocket::bind("10.9.9.2:1000").unwrap();
        socket.send_to(b"unfinished", "10.9.9.1:2000").unwrap();
    })
    .unwrap();
    let frames = receive(&mut port, 1, Duration::from_secs(2));
    let (bytes, vnet) = &frames[0];
    let vnet = vnet.unwrap();
    assert_eq!(vnet, VnetHeader { csum: Some(PartialCsum { start: 34, offset: 6 }), ..VnetHeader::NONE });
    assert_eq!(port.offloads(), Offloads::default());
    // Completed as the worker does, the checksum is right.
    let mut finished = vec![0; bytes.len()];
    Segments::new(bytes, &vnet).unwrap().write(0, &mut finished);
    let pseudo_header = [&finished[26..34], &[0, 17, 0, 18]].concat();
    assert_eq!(internet_sum(&[&pseudo_header, &finished[34..]].concat()), 0xffff);
    assert_ne!(internet_sum(&[&pseudo_header, &bytes[34..]].concat()), 0xffff);
}

/// A stack behind a veth and one behind a tap, super-frames on either side.
fn tcp_super_frames() {
    for offload in [true, false] {
        let (client, server) = (Netns::create().unwrap(), Netns::create().unwrap());
        let packet = veth_host(&server, "10.9.9.2", offload);
        let tap = tap_host(&client, "10.9.9.1");
        let carried = tcp_between((PortQueue::Tap(tap), PortQueue::Packet(packet)), &client, &server, 4 << 20);
        assert_eq!(carried.refused, 0, "{carried:?}");
        assert!(carried.super_frames > 10, "{carried:?}");

        let (client, server) = (Netns::create().unwrap(), Netns::create().unwrap());
        let packet = veth_host(&client, "10.9.9.1", offload);
        let tap = tap_host(&server, "10.9.9.2");
        let carried = tcp_between((PortQueue::Packet(packet), PortQueue::Tap(tap)), &client, &server, 4 << 20);
        assert_eq!(carried.refused, 0, "{carried:?}");
        assert!(carried.super_frames > 10, "{carried:?}");
    }
}

/// What one port writes with a tag, the other end reads with the same tag, still whole, offsets in the right place.
fn tagged_super_frames() {
    let (client, server) = (Netns::create().unwrap(), Netns::create().unwrap());
    let (one, two) = (tap_host(&client, "10.9.9.1"), tap_host(&server, "10.9.9.2"));
    let carried = tcp_between((PortQueue::Tap(one), PortQueue::Tap(two)), &client, &server, 1 << 20);
    let (bytes, vnet) = carried.sample.unwrap();

    veth();
    let (mut here, mut there) = (open("v0"), open("v1"));
    here.send(&TxFrame { bytes: &bytes, tag: Some(Tag(42).to_bytes(Tpid::Customer)), vnet }).unwrap();
    assert_eq!(here.gso_fallbacks(), 0);
    let frames = receive(&mut there, 1, Duration::from_secs(2));
    let (got, got_vnet) = &frames[0];
    assert_eq!(*got, with_tag(&bytes, 0x8100, 42));
    assert_eq!(got_vnet.unwrap(), vnet.shifted(4));
    assert_eq!(wire_frames(got, &got_vnet.unwrap()), wire_frames(&bytes, &vnet));

    // And out of a tap, where the kernel writes the tag into the frame.
    let mut tap = tap::open("t1", 1).unwrap().remove(0);
    ip("link set t1 up");
    let mut beside = open("t1");
    beside.send(&TxFrame { bytes: &bytes, tag: Some(Tag(43).to_bytes(Tpid::Customer)), vnet }).unwrap();
    let frames = receive(&mut tap, 1, Duration::from_secs(2));
    assert_eq!(frames, [(with_tag(&bytes, 0x8100, 43), Some(vnet.shifted(4)))]);
    tap.send(&TxFrame { bytes: &bytes, tag: Some(Tag(44).to_bytes(Tpid::Customer)), vnet }).unwrap();
    assert_eq!(tap.gso_fallbacks(), 0);
    let frames = receive(&mut beside, 1, Duration::from_secs(2));
    assert_eq!(frames, [(with_tag(&bytes, 0x8100, 44), Some(vnet.shifted(4)))]);
}

/// As the tap's test of this kind: more segments than the kernel makes of a UDP super-frame.
fn gso_fallback() {
    veth();
    let mut port = open("v0");
    let witness = Witness::new();
    let mut bytes = udp_frame(77, &[0x42; 1500]);
    let pseudo = internet_sum(&[&bytes[26..34], &[0, 17], &1508u16.to_be_bytes()].concat());
    bytes[40..42].copy_from_slice(&pseudo.to_be_bytes());
    let vnet =
        VnetHeader { csum: Some(PartialCsum { start: 34, offset: 6 }), gso: Some((Gso::Udp, 10)), gso_ecn: false };
    port.send(&TxFrame { bytes: &bytes, tag: None, vnet }).unwrap();
    assert_eq!(port.gso_fallbacks(), 1);
    let segment = witness.find(|bytes| bytes.len() == 52).unwrap();
    assert_eq!(internet_sum(&[&segment[26..34], &[0, 17, 0, 18], &segment[34..]].concat()), 0xffff);
}

fn too_long() {
    veth();
    let mut port = open("v0");
    let mut frame = numbered(1);
    frame.resize(1500 + 14, 0);
    assert_eq!(port.send(&TxFrame::plain(&frame)), Ok(()));
    assert_eq!(
        port.send(&TxFrame { tag: Some(Tag(5).to_bytes(Tpid::Customer)), ..TxFrame::plain(&frame) }),
        Ok(()),
        "a tag is extra"
    );
    frame.push(0);
    assert_eq!(port.send(&TxFrame::plain(&frame)), Err(DropReason::EgressMtu));
    assert_eq!(port.send(&TxFrame::plain(&frame[..13])), Err(DropReason::Malformed));
}

fn sends_many() {
    veth();
    let socket = packet_socket::open("v0", 1).unwrap().remove(0);
    let mut far = open("v1");
    let mut frames: Vec<_> = (0..100).map(|n| [&[0; VNET_HEADER_LEN][..], &numbered(n)].concat()).collect();
    let send = |from: usize, frames: &[Vec<u8>]| socket.send_many(frames[from..].iter().map(Vec::as_slice));
    assert_eq!((send(0, &frames).unwrap(), send(64, &frames).unwrap(), send(100, &frames).unwrap()), (64, 36, 0));
    // One that can't be sent ends the count, and is said in the next call.
    frames[2].resize(4000, 0);
    assert_eq!(send(0, &frames).unwrap(), 2);
    assert_eq!(send(2, &frames).unwrap_err().raw_os_error(), Some(rustix::io::Errno::MSGSIZE.raw_os_error()));
    let received = receive(&mut far, 103, Duration::from_millis(200));
    let numbers: Vec<_> = received.iter().filter_map(|(frame, _)| number_of(frame)).collect();
    assert_eq!(numbers, (0..100).chain(0..2).collect::<Vec<_>>());
    assert_eq!(received[0], (numbered(0), Some(VnetHeader::NONE)));
}

fn kernel_drops() {
    veth();
    let mut queues = packet::open("v0", 2, true).unwrap();
    let frames: Vec<_> = (0..40_000).map(numbered).collect();
    Injector::send("v1", &frames);
    let mut received = 0;
    for queue in &mut queues {
        received += receive(queue, usize::MAX, Duration::from_millis(200)).len() as u64;
    }
    let drops = || queues.iter().map(Port::kernel_drops).sum::<u64>();
    let count = drops();
    assert!(count > 0);
    assert_eq!(received + count, 40_000);
    assert_eq!(drops(), count, "asking again must not lose the count");
}

fn down_and_up() {
    veth();
    let mut port = open("v0");
    ip("link set v0 down");
    assert!(events(&port).contains(PollFlags::ERR));
    assert!(matches!(port.recv(&mut RxBatch::new()), Err(PortError::Down)));
    assert_eq!(events(&port), PollFlags::empty());
    assert_eq!(port.recv(&mut RxBatch::new()).unwrap(), 0);
    assert_eq!(port.send(&TxFrame::plain(&numbered(1))), Err(DropReason::PortDown));
    ip("link set v0 up");
    Injector::send("v1", &[numbered(2)]);
    assert_eq!(receive(&mut port, 1, Duration::from_secs(2)), [(numbered(2), Some(VnetHeader::NONE))]);
    port.send(&TxFrame::plain(&numbered(3))).unwrap();
}

fn opened_down() {
    ip("link add v0 type veth peer name v1");
    for queue_count in [1, 2] {
        let mut queues = packet::open("v0", queue_count, true).unwrap();
        for queue in &mut queues {
            assert!(matches!(queue.recv(&mut RxBatch::new()), Err(PortError::Down)));
        }
        ip("link set v0 up");
        ip("link set v1 up");
        Injector::send("v1", &[numbered(2)]);
        let mut got = Vec::new();
        for queue in &mut queues {
            got.extend(receive(queue, usize::MAX, Duration::from_millis(100)));
        }
        assert_eq!(got, [(numbered(2), Some(VnetHeader::NONE))], "{queue_count} queues");
        ip("link set v0 down");
    }
}

fn deleted() {
    veth();
    let mut queues = packet::open("v0", 2, true).unwrap();
    ip("link del v0");
    for port in &mut queues {
        assert!(events(port).contains(PollFlags::ERR));
        // Down may come first: the kernel says both.
        let patience = Instant::now() + Duration::from_secs(2);
        while !matches!(port.recv(&mut RxBatch::new()), Err(PortError::Gone)) {
            assert!(Instant::now() < patience);
        }
        assert!(matches!(port.recv(&mut RxBatch::new()), Err(PortError::Gone)));
        assert_eq!(port.send(&TxFrame::plain(&numbered(1))), Err(DropReason::PortDown));
    }
}

fn namespace_stays() {
    let namespace = Netns::create().unwrap();
    let mut port = namespace
        .within(|| {
            quiet();
            veth();
            open("v0")
        })
        .unwrap();
    drop(namespace);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(events(&port), PollFlags::empty());
    assert_eq!(port.send(&TxFrame::plain(&numbered(2))), Ok(()));
}

fn open(interface: &str) -> PacketQueue {
    packet::open(interface, 1, true).unwrap().remove(0)
}

/// A veth pair whose end `v1` has a stack with this address, and a port on `v0`, both in `namespace`.
fn veth_host(namespace: &Netns, address: &str, offload: bool) -> PacketQueue {
    let make = || {
        quiet();
        veth();
        ip(&format!("addr add {address}/24 dev v1"));
        packet::open("v0", 1, offload).unwrap().remove(0)
    };
    namespace.within(make).unwrap()
}

/// tcpdump, for one frame.
pub(crate) struct Capture(Child);

impl Capture {
    pub(crate) fn start(interface: &str) -> Self {
        let mut child = Command::new("tcpdump")
            .args(["-e", "-nn", "-l", "--immediate-mode", "-c", "1", "-i", interface])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump can be run");
        let mut errors = BufReader::new(child.stderr.take().expect("is piped"));
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert_ne!(errors.read_line(&mut line).expect("tcpdump speaks"), 0, "tcpdump ended");
        }
        // Nobody reads the rest; tcpdump's few lines of statistics fit into the pipe.
        thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        Self(child)
    }

    pub(crate) fn one_line(mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().expect("is piped")).read_line(&mut line).expect("tcpdump speaks");
        line
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
