//! Ends of the underlay over loopback: what the kernel really does with runs, options and errors. No privilege needed.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::{
    bridge::DropReason,
    ids::{BridgeId, VtepId},
    sys::udp::set_checksums_sent,
    underlay::{
        Arrival,
        events::UnderlayEvent,
        sockets::{UnderlayError, UnderlaySettings, UnderlaySockets, open_receivers},
    },
};

const LOOPBACKS: [&str; 2] = ["127.0.0.1", "::1"];

#[test]
fn an_end_can_be_made_on_one_thread_and_used_on_another() {
    let (mut a, _) = open("127.0.0.1", |_| ());
    let (mut b, to) = open("127.0.0.1", |_| ());
    let sender = std::thread::spawn(move || {
        a[0].reserve(&target(to), 1, 20).fill(3);
        flush(&mut a[0])
    });
    assert_eq!(sender.join().unwrap(), (1, 12, vec![]));
    assert_eq!(receive(&mut b[0], 1).1, [[3; 20]]);
}

#[test]
fn datagrams_of_three_sizes_arrive_whole_and_in_order() {
    for address in LOOPBACKS {
        for gso in [Gso::Auto, Gso::Off] {
            let (mut a, _) = open(address, |settings| settings.gso = gso);
            let (mut b, to) = open(address, |_| ());
            let lens = (0..40).map(|index| [1450, 1450, 1450, 108, 9000][index / 3 % 5]);
            let sent: Vec<Vec<u8>> = lens.enumerate().map(|(index, len)| vec![index as u8; len]).collect();
            for content in &sent {
                a[0].reserve(&target(to), 1, content.len()).copy_from_slice(content);
            }
            let total: usize = sent.iter().map(|content| content.len() - 8).sum();
            assert_eq!(flush(&mut a[0]), (40, total as u64, vec![]));
            let (_, received) = receive(&mut b[0], 40);
            assert_eq!(received, sent, "{address} {gso:?}");
            assert_eq!(a[0].tx_counts().messages < 40, gso == Gso::Auto);
            assert_eq!(a[0].tx_counts().calls, 1);
            assert_eq!(uses_gso(&a[0]), gso == Gso::Auto);
        }
    }
}

#[test]
fn a_run_arrives_as_a_run() {
    for address in LOOPBACKS {
        let (mut a, from) = open(address, |_| ());
        let (mut b, to) = open(address, |_| ());
        for byte in 0..10 {
            a[0].reserve(&target(to), 1, if byte == 9 { 70 } else { 1000 }).fill(byte);
        }
        flush(&mut a[0]);
        let mut batch = UnderlayBatch::new();
        wait(&b[0]);
        assert_eq!(b[0].recv(HeaderFormat::Vxlan, &mut batch).unwrap(), 1);
        let (arrival, bytes) = batch.iter_mut().next().unwrap();
        assert_eq!(arrival, Arrival { format: HeaderFormat::Vxlan, source: from.ip(), tos: 0, stride: 1000 });
        let parts: Vec<_> = bytes.chunks(arrival.stride).map(|part| (part.len(), part[0])).collect();
        assert_eq!(parts[8..], [(1000, 8), (70, 9)]);
        assert_eq!(parts.len(), 10);
    }
}

#[test]
fn a_run_of_64_and_one_of_65507_bytes_pass() {
    let (mut a, _) = open("127.0.0.1", |_| ());
    let (mut b, to) = open("127.0.0.1", |_| ());
    for byte in 0..64 {
        a[0].reserve(&target(to), 1, 1000).fill(byte);
    }
    let longest = Target { tos: 4, ..target(to) };
    a[0].reserve(&longest, 1, 32_754).fill(64);
    a[0].reserve(&longest, 1, 32_753).fill(65);
    assert_eq!(flush(&mut a[0]), (66, 64 * 992 + 65_507 - 16, vec![]));
    let (_, received) = receive(&mut b[0], 66);
    assert!(received.iter().enumerate().all(|(index, content)| content[0] == index as u8));
    assert!(uses_gso(&a[0]));
    assert_eq!(a[0].tx_counts().messages, 2);
}

#[test]
fn the_tos_of_the_target_is_the_tos_of_the_arrival() {
    for address in LOOPBACKS {
        let (mut a, from) = open(address, |_| ());
        let (mut b, to) = open(address, |_| ());
        for tos in [0, 0x2e << 2, 1, 2, 3, 0xff] {
            a[0].reserve(&Target { tos, ..target(to) }, 1, 20).fill(1);
            a[0].reserve(&Target { tos, ..target(to) }, 1, 20).fill(1);
            assert_eq!(flush(&mut a[0]).0, 2);
            let (arrivals, _) = receive(&mut b[0], 2);
            assert!(arrivals.iter().all(|arrival| (arrival.source, arrival.tos) == (from.ip(), tos)), "{arrivals:?}");
        }
    }
}

#[test]
fn a_datagram_without_payload_is_an_empty_buffer() {
    let (mut a, _) = open("127.0.0.1", |_| ());
    let (mut b, to) = open("127.0.0.1", |_| ());
    a[0].reserve(&target(to), 1, 20).fill(1);
    a[0].reserve(&target(to), 1, 0);
    a[0].reserve(&target(to), 1, 20).fill(1);
    assert_eq!(flush(&mut a[0]), (3, 24, vec![]));
    let mut batch = UnderlayBatch::new();
    wait(&b[0]);
    assert_eq!(b[0].recv(HeaderFormat::Vxlan, &mut batch).unwrap(), 3);
    let shapes: Vec<_> = batch.iter_mut().map(|(arrival, bytes)| (arrival.stride, bytes.len())).collect();
    assert_eq!(shapes, [(20, 20), (1, 0), (20, 20)]);
    assert_eq!(b[0].recv(HeaderFormat::Vxlan, &mut batch).unwrap(), 0);
    assert!(batch.is_empty());
}

#[test]
fn a_zero_checksum_over_ipv6_is_accepted_if_asked_for() {
    let (mut b, to) = open("::1", |settings| settings.zero_checksums_accepted = true);
    let (mut strict, strict_to) = open("::1", |_| ());
    let plain = UdpSocket::bind("[::1]:0").unwrap();
    set_checksums_sent(plain.as_fd(), false).unwrap();
    plain.send_to(&[9; 50], to).unwrap();
    assert_eq!(receive(&mut b[0], 1).1, [[9; 50]]);

    plain.send_to(&[9; 50], strict_to).unwrap();
    set_checksums_sent(plain.as_fd(), true).unwrap();
    plain.send_to(&[8; 50], strict_to).unwrap();
    assert_eq!(receive(&mut strict[0], 1).1, [[8; 50]], "only the one with a checksum");
}

#[test]
fn without_checksums_everything_leaves_one_by_one_and_arrives() {
    for address in ["127.0.0.1", "::1"] {
        let (mut a, _) = open(address, |settings| settings.checksums = false);
        let (mut b, to) = open(address, |settings| settings.zero_checksums_accepted = true);
        for byte in 0..5 {
            a[0].reserve(&target(to), 1, 100).fill(byte);
        }
        assert_eq!(flush(&mut a[0]), (5, 5 * 92, vec![]), "{address}");
        assert_eq!((a[0].gso().refused_runs, a[0].gso().off_count), (0, a[0].gso().socket_count));
        let (_, received) = receive(&mut b[0], 5);
        assert!(received.iter().enumerate().all(|(index, content)| usize::from(content[0]) == index));
    }
}

#[test]
fn when_the_kernel_refuses_runs_of_a_socket_its_datagrams_go_one_by_one_from_then_on() {
    for gso in [Gso::Auto, Gso::On] {
        let sockets = UnderlaySockets::open(&UnderlaySettings {
            port: 0,
            source_ports: 2,
            workers: 2,
            gso,
            ..UnderlaySettings::new("::1".parse().unwrap())
        })
        .unwrap();
        // The kernel sums up the segments of runs, so it refuses runs without checksums with EINVAL.
        set_checksums_sent(sockets.sender_for_test(0).as_fd(), false).unwrap();
        let [refused_flow, other_flow] = [0, 3 << 30];
        let mut a = sockets.into_ends();
        let (mut b, to) = open("::1", |settings| settings.zero_checksums_accepted = true);
        for (end, flow) in [(0, refused_flow), (0, refused_flow), (1, refused_flow), (0, other_flow), (1, other_flow)] {
            for byte in 0..5 {
                a[end].reserve(&target(to), flow, if byte == 4 { 70 } else { 100 }).fill(byte);
            }
            assert_eq!(flush(&mut a[end]), (5, 4 * 92 + 62, vec![]));
        }
        let (_, received) = receive(&mut b[0], 25);
        assert!(received.iter().enumerate().all(|(index, content)| usize::from(content[0]) == index % 5));
        assert_eq!(received.len(), 25);
        // What one worker found out about a socket holds for the other.
        let expected = if gso == Gso::Auto { ([1, 0], 1) } else { ([2, 1], 0) };
        let reports = [a[0].gso(), a[1].gso()];
        assert_eq!((reports.map(|report| report.refused_runs), reports[0].off_count), expected);
        assert_eq!((reports[0].off_count, reports[1].socket_count), (reports[1].off_count, 2));
        // Two or three attempts at a run of the one socket, and the single datagrams after it; one run each of the other.
        let messages = a.iter().map(|end| end.tx_counts().messages).sum::<u64>();
        assert_eq!(messages, 3 * 5 + 2);
    }
}

#[test]
fn flows_have_their_own_source_ports_within_the_range() {
    let range = SourcePorts::new(50_000, 50_400).unwrap();
    let sockets = UnderlaySockets::open(&UnderlaySettings {
        port: 0,
        source_port_range: range,
        source_ports: 4,
        dont_fragment: DontFragment::Inherit,
        ..UnderlaySettings::new("127.0.0.1".parse().unwrap())
    })
    .unwrap();
    let ports = sockets.source_ports().unwrap();
    assert_eq!(ports.len(), 8);
    for (index, port) in ports.iter().enumerate() {
        let (first, last) = range.bucket_ports(index % 4, 4);
        assert!((first..=last).contains(port), "{ports:?}");
    }
    let mut a = sockets.into_ends();
    let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let to = plain.local_addr().unwrap();
    for hash in (0..8u32).map(|index| (index << 29) | 1) {
        for dont_fragment in [true, false] {
            a[0].reserve(&Target { dont_fragment, ..target(to) }, hash, 8).fill(0);
            flush(&mut a[0]);
            let port = plain.recv_from(&mut [0; 8]).unwrap().1.port();
            let expected = range.bucket(hash, 4) + if dont_fragment { 0 } else { 4 };
            assert_eq!(port, ports[expected]);
        }
    }
}

#[test]
fn flows_are_spread_over_the_workers_and_each_stays_with_one() {
    for address in LOOPBACKS {
        let (mut workers, to) = open(address, |settings| settings.workers = 4);
        assert_eq!(workers.len(), 4);
        let flows: Vec<_> = (0..64).map(|_| UdpSocket::bind((address, 0)).unwrap()).collect();
        for flow in flows.iter().chain(&flows) {
            flow.send_to(&flow.local_addr().unwrap().port().to_be_bytes(), to).unwrap();
        }
        let mut seen = BTreeMap::<Vec<u8>, Vec<usize>>::new();
        for (index, worker) in workers.iter_mut().enumerate() {
            for content in receive(worker, 0).1 {
                seen.entry(content).or_default().push(index);
            }
        }
        assert_eq!(seen.len(), 64);
        assert!(seen.values().all(|workers| workers.len() == 2 && workers[0] == workers[1]), "{seen:?}");
        for index in 0..4 {
            let share = seen.values().filter(|workers| workers[0] == index).count();
            // 64 flows over 4 workers: 16 each but for chance; 3 or fewer come once in some 20,000 runs.
            assert!(share >= 3, "worker {index} has {share} of 64 flows");
        }
    }
}

#[test]
fn a_taken_port_is_an_error_that_says_who_has_it() {
    for address in LOOPBACKS {
        let (_first, to) = open(address, |settings| settings.workers = 2);
        for workers in [1, 2] {
            let again = UnderlaySettings { port: to.port(), workers, ..UnderlaySettings::new(to.ip()) };
            let error = UnderlaySockets::open(&again).err().unwrap();
            assert!(matches!(error, UnderlayError::PortTaken { .. }));
            let message = error.to_string();
            assert!(message.contains(&format!("process {} (", std::process::id())), "{message}");
        }
    }
}

#[test]
fn somebody_with_reuseport_on_all_addresses_is_in_the_way_too() {
    let other = Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    other.set_reuse_port(true).unwrap();
    other.bind(&"0.0.0.0:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let port = other.local_addr().unwrap().as_socket().unwrap().port();
    let settings = UnderlaySettings { port, ..UnderlaySettings::new("127.0.0.1".parse().unwrap()) };
    assert!(matches!(UnderlaySockets::open(&settings), Err(UnderlayError::PortTaken { owner: Some(_), .. })));
}

#[test]
fn unfit_addresses_have_clear_errors() {
    let open = |address: &str| UnderlaySockets::open(&UnderlaySettings::new(address.parse().unwrap())).err().unwrap();
    assert!(matches!(open("192.0.2.77"), UnderlayError::AddressNotLocal { .. }));
    assert!(matches!(open("2001:db8::77"), UnderlayError::AddressNotLocal { .. }));
    assert!(matches!(open("fe80::1"), UnderlayError::AddressUnfit { .. }));
    assert!(matches!(open("ff02::1"), UnderlayError::AddressUnfit { .. }));
    assert!(matches!(open("224.0.0.1"), UnderlayError::AddressUnfit { .. }));
    assert_eq!(open("192.0.2.77").to_string(), "192.0.2.77 is no address of this network namespace");
}

#[test]
fn a_bucket_without_a_free_port_is_an_error() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let settings = UnderlaySettings {
        port: 0,
        source_port_range: SourcePorts::new(port, port).unwrap(),
        ..UnderlaySettings::new("127.0.0.1".parse().unwrap())
    };
    let error = UnderlaySockets::open(&settings).err().unwrap();
    assert!(matches!(error, UnderlayError::SourcePortsTaken { first, last, .. } if (first, last) == (port, port)));
}

#[test]
fn too_long_and_unreachable_are_told_apart_and_the_others_arrive() {
    let (mut a, _) = open("127.0.0.1", |_| ());
    let (mut b, to) = open("127.0.0.1", |_| ());
    // A socket on a loopback address can't send to the world.
    let world = Target { vtep: VtepId(2), ..target("192.0.2.9:4789".parse().unwrap()) };
    a[0].reserve(&target(to), 1, 108).fill(1);
    a[0].reserve(&world, 1, 108).fill(2);
    a[0].reserve(&target(to), 1, crate::buffer::MAX_FRAME_LEN + 8).fill(3);
    a[0].reserve(&target(to), 1, 108).fill(4);
    let (frames, bytes, failures) = flush(&mut a[0]);
    assert_eq!((frames, bytes), (2, 200));
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert_eq!(failures[1], (1, DropReason::UnderlayMtu, 1));
    assert_eq!(failures[0].0, 2);
    assert_eq!(receive(&mut b[0], 2).1, [[1; 108], [4; 108]]);
}

#[test]
fn strangers_cannot_fill_a_sending_socket() {
    let sockets =
        UnderlaySockets::open(&UnderlaySettings { port: 0, ..UnderlaySettings::new("127.0.0.1".parse().unwrap()) })
            .unwrap();
    let port = sockets.source_ports().unwrap()[0];
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..100 {
        stranger.send_to(&[0; 1000], ("127.0.0.1", port)).unwrap();
    }
    let found = sockets.sender_for_test(0).recv(&mut [std::mem::MaybeUninit::uninit(); 8]);
    assert_eq!(found.unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn what_finds_no_room_is_counted() {
    let (mut b, to) = open("127.0.0.1", |_| ());
    let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(b[0].kernel_drops(), 0);
    let count = 20_000;
    for _ in 0..count {
        plain.send_to(&[0; 2000], to).unwrap();
    }
    let drops = b[0].kernel_drops();
    assert!(drops > 0, "the receive buffer takes {count} datagrams");
    assert_eq!(receive(&mut b[0], 0).1.len() as u64 + drops, count);
    assert_eq!(b[0].kernel_drops(), drops);
}

#[test]
fn what_icmp_says_of_one_vtep_is_kept_for_who_asks_and_costs_another_nothing() {
    for address in LOOPBACKS {
        let settings = UnderlaySettings { port: 0, source_ports: 1, ..UnderlaySettings::new(address.parse().unwrap()) };
        let sockets = UnderlaySockets::open(&settings).unwrap();
        let queue = sockets.error_queues().queue(0).unwrap();
        assert!(sockets.error_queues().queue(1).is_none());
        let mut a = sockets.into_ends();
        let (mut b, to) = open(address, |_| ());
        // Nobody listens there any more.
        let gone = UdpSocket::bind((address, 0)).unwrap().local_addr().unwrap();
        let header = [8, 0, 0, 0, 0, 0, 42, 0];
        for round in 0..100u8 {
            a[0].reserve(&target(gone), 1, 8).copy_from_slice(&header);
            assert_eq!(flush(&mut a[0]), (1, 0, vec![]));
            for _ in 0..3 {
                a[0].reserve(&target(to), 1, 20).fill(round);
            }
            assert_eq!(flush(&mut a[0]), (3, 36, vec![]), "{address}");
        }
        assert_eq!(receive(&mut b[0], 300).1.len(), 300);
        let told = std::iter::from_fn(|| queue.next().unwrap()).collect::<Vec<_>>();
        let expected = UnderlayEvent::Unreachable {
            peer: gone,
            from: Some(gone.ip()),
            error: Errno::CONNREFUSED,
            quoted: header.into(),
        };
        assert!(!told.is_empty() && told.iter().all(|event| *event == expected), "{told:?}");
    }
}

#[test]
fn formats_come_and_go_each_at_its_port() {
    for address in LOOPBACKS {
        let (mut a, _) = open(address, |_| ());
        let mut settings = UnderlaySettings { port: 0, workers: 2, ..UnderlaySettings::new(address.parse().unwrap()) };
        (settings.gpe_port, settings.geneve_port) = (0, free_port(address));
        settings.formats = vec![HeaderFormat::Geneve];
        let sockets = UnderlaySockets::open(&settings).unwrap();
        let geneve = sockets.local_address();
        assert_eq!(geneve.port(), settings.geneve_port);
        let mut b = sockets.into_ends();
        assert!(b[0].poll_fd(HeaderFormat::Vxlan).is_none());
        assert_eq!(b[0].recv(HeaderFormat::Vxlan, &mut UnderlayBatch::new()).unwrap(), 0);

        settings.port = free_port(address);
        let vxlan = SocketAddr::new(geneve.ip(), settings.port);
        for (end, receiver) in b.iter_mut().zip(open_receivers(&settings, HeaderFormat::Vxlan).unwrap()) {
            end.add_receiver(receiver);
        }
        let again = open_receivers(&settings, HeaderFormat::Vxlan).err().unwrap();
        assert!(matches!(again, UnderlayError::PortTaken { port, .. } if port == settings.port), "{again}");
        for (to, byte) in [(geneve, 1), (vxlan, 2)] {
            a[0].reserve(&target(to), 1, 20).fill(byte);
        }
        flush(&mut a[0]);
        for (format, byte) in [(HeaderFormat::Geneve, 1), (HeaderFormat::Vxlan, 2)] {
            // one of the two workers has it
            let has_it = |end: &UdpUnderlay| {
                let fd = end.poll_fd(format).unwrap();
                poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(1)
            };
            let end = b.iter_mut().find(|end| has_it(end)).expect("the datagram has arrived: it is loopback");
            let (arrivals, contents) = receive_at(end, format, 1);
            assert_eq!((arrivals[0].format, &contents), (format, &vec![vec![byte; 20]]));
        }
        b.iter_mut().for_each(|end| end.remove_receiver(HeaderFormat::Vxlan));
        assert!(open_receivers(&settings, HeaderFormat::Vxlan).is_ok(), "the port is free again");
    }
}

#[test]
fn no_datagram_leaves_from_a_port_that_may_be_listened_on() {
    let taken = free_port("127.0.0.1");
    let range = SourcePorts::new(taken, taken + 2).unwrap();
    let settings = UnderlaySettings {
        port: 0,
        gpe_port: taken,
        geneve_port: taken + 1,
        source_port_range: range,
        source_ports: 1,
        ..UnderlaySettings::new("127.0.0.1".parse().unwrap())
    };
    let error = UnderlaySockets::open(&settings).map(|sockets| sockets.source_ports().unwrap()).err();
    // the kernel's formula never takes the last port
    assert!(matches!(error, Some(UnderlayError::SourcePortsTaken { .. })), "{error:?}");
    let wider = UnderlaySettings { source_port_range: SourcePorts::new(taken, taken + 300).unwrap(), ..settings };
    let ports = UnderlaySockets::open(&wider).unwrap().source_ports().unwrap();
    assert!(!ports.contains(&taken) && !ports.contains(&(taken + 1)), "{ports:?}");
}

/// A port that nobody has at this moment.
fn free_port(address: &str) -> u16 {
    let address: IpAddr = address.parse().unwrap();
    loop {
        let port = UdpSocket::bind((address, 0)).unwrap().local_addr().unwrap().port();
        if port < u16::MAX - 300 {
            return port;
        }
    }
}

/// Ends on a free port, with settings that differ from the default as `change` says.
fn open(address: &str, change: impl FnOnce(&mut UnderlaySettings)) -> (Vec<UdpUnderlay>, SocketAddr) {
    let address: IpAddr = address.parse().unwrap();
    let mut settings = UnderlaySettings { port: 0, source_ports: 2, ..UnderlaySettings::new(address) };
    change(&mut settings);
    let sockets = UnderlaySockets::open(&settings).unwrap();
    let local_address = sockets.local_address();
    (sockets.into_ends(), local_address)
}

fn uses_gso(end: &UdpUnderlay) -> bool {
    end.gso().off_count == 0
}

fn target(address: SocketAddr) -> Target {
    let (bridge, vtep) = (BridgeId(1), VtepId(1));
    Target { bridge, vtep, address, tos: 0, ttl: 64, dont_fragment: true, header_len: 8 }
}

/// Frames and bytes that were sent, and VTEP, reason and frames of each failure.
fn flush(end: &mut UdpUnderlay) -> (u64, u64, Vec<(u16, DropReason, u64)>) {
    let (mut frames, mut bytes, mut failures) = (0, 0, Vec::new());
    end.flush(&mut |sent| match sent.result {
        Ok(()) => {
            frames += sent.frames;
            bytes += sent.bytes;
        }
        Err(reason) => failures.push((sent.vtep.0, reason, sent.frames)),
    });
    (frames, bytes, failures)
}

/// Datagrams, one by one: at least `count` unless that takes 5 seconds; then whatever else is there already.
fn receive(end: &mut UdpUnderlay, count: usize) -> (Vec<Arrival>, Vec<Vec<u8>>) {
    receive_at(end, HeaderFormat::Vxlan, count)
}

fn receive_at(end: &mut UdpUnderlay, format: HeaderFormat, count: usize) -> (Vec<Arrival>, Vec<Vec<u8>>) {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut batch = UnderlayBatch::new();
    let (mut arrivals, mut contents) = (Vec::new(), Vec::new());
    while end.recv(format, &mut batch).unwrap() > 0 || (contents.len() < count && Instant::now() < deadline) {
        for (arrival, bytes) in batch.iter_mut() {
            arrivals.push(arrival);
            contents.extend(bytes.chunks(arrival.stride).map(<[u8]>::to_vec));
        }
    }
    (arrivals, contents)
}

fn wait(end: &UdpUnderlay) {
    let fd = end.poll_fd(HeaderFormat::Vxlan).unwrap();
    let readable = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&Timespec { tv_sec: 5, tv_nsec: 0 }));
    assert_eq!(readable, Ok(1));
}
