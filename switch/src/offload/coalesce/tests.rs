//! The rules, sentence by sentence.

mod properties;

use etherparse::{
    EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header, TcpHeader, TcpOptionElement, UdpHeader,
};

use super::*;
use crate::{
    offload::{
        PartialCsum, Segments,
        testing::{KernelCase, Sample, kernel_cases},
        wire_frames,
    },
    wire::dissect::dissect,
};

#[test]
fn segments_of_the_kernel_become_the_super_frame_that_it_had_cut() {
    let cases = kernel_cases();
    for KernelCase { name, header, frame, segments } in &cases {
        let sent = send(segments);
        assert_eq!(sent.len(), 1, "{name}");
        assert_eq!((&sent[0].bytes, sent[0].frames), (frame, segments.len() as u32), "{name}");
        // One of the super-frames carries CWR without its header saying so, which ours always does.
        let gso_ecn = name.contains("without gso_ecn") || VnetHeader::parse(header).unwrap().gso_ecn;
        assert_eq!(sent[0].vnet, VnetHeader { gso_ecn, ..VnetHeader::parse(header).unwrap() }, "{name}");
    }
    assert_eq!(cases.len(), 6);
}

#[test]
fn a_lone_frame_departs_as_it_came() {
    let frame = tcp(0, |_, _| {});
    assert_eq!(send(std::slice::from_ref(&frame)), [whole(&frame)]);
}

#[test]
fn the_first_frame_sets_the_length_and_a_shorter_one_is_the_last() {
    assert_eq!(counts(&[tcp_len(0, 0, 100), tcp_len(1, 100, 100), tcp_len(2, 200, 99), tcp_len(3, 299, 100)]), [3, 1]);
    assert_eq!(counts(&[tcp_len(0, 0, 100), tcp_len(1, 100, 101), tcp_len(2, 201, 101)]), [1, 2]);
}

#[test]
fn psh_and_fin_close_a_super_frame_and_stay_on_its_last_segment() {
    for (flag, set) in [(0x08, (|tcp| tcp.psh = true) as fn(&mut TcpHeader)), (0x01, |tcp| tcp.fin = true)] {
        let frames = [0, 1, 2, 3, 4].map(|n| {
            tcp(n, |_, tcp| {
                if n == 2 {
                    set(tcp)
                }
            })
        });
        let sent = send(&frames);
        assert_eq!(counts_of(&sent), [3, 2]);
        assert_eq!((sent[0].bytes[47], sent[1].bytes[47]), (0x10 | flag, 0x10));
        assert_eq!(cut_all(&sent), frames);
        // Alone it waits for nobody.
        assert_eq!(counts(&frames[2..]), [1, 2]);
    }
}

#[test]
fn what_is_no_data_goes_alone_and_after_what_came_before() {
    let odd: [fn(&mut TcpHeader); 3] = [|tcp| tcp.syn = true, |tcp| tcp.rst = true, |tcp| tcp.urg = true];
    for set in odd {
        let frames = [0, 1, 2, 3, 4].map(|n| {
            tcp(n, |_, tcp| {
                if n == 2 {
                    set(tcp)
                }
            })
        });
        assert_eq!(counts(&frames), [2, 1, 2]);
        // Not with its like either.
        assert_eq!(counts(&[0, 1].map(|n| tcp(n, |_, tcp| set(tcp)))), [1, 1]);
    }
    let pure_ack = tcp_len(2, 200, 0);
    let frames = [tcp(0, |_, _| {}), tcp(1, |_, _| {}), pure_ack, tcp(2, |_, _| {}), tcp(3, |_, _| {})];
    assert_eq!(counts(&frames), [2, 1, 2]);
    assert_eq!(cut_all(&send(&frames)), frames);
}

#[test]
fn cwr_begins_a_super_frame_and_joins_none() {
    let frames = [0, 1, 2, 3, 4].map(|n| tcp(n, |_, tcp| tcp.cwr = n == 2));
    let sent = send(&frames);
    assert_eq!(counts_of(&sent), [2, 3]);
    assert_eq!((sent[0].vnet.gso_ecn, sent[1].vnet.gso_ecn), (false, true));
    assert_eq!(cut_all(&sent), frames);
    assert_eq!(counts(&[0, 1, 2].map(|n| tcp(n, |_, tcp| tcp.cwr = true))), [1, 1, 1]);
}

#[test]
fn any_other_difference_between_headers_begins_a_new_one() {
    type Change = fn(&mut Ipv4Header, &mut TcpHeader);
    let changes: [(&str, Change); 11] = [
        ("ECE", |_, tcp| tcp.ece = true),
        ("NS", |_, tcp| tcp.ns = true),
        ("no ACK", |_, tcp| tcp.ack = false),
        ("acknowledgment", |_, tcp| tcp.acknowledgment_number += 1),
        ("window", |_, tcp| tcp.window_size += 1),
        ("urgent pointer", |_, tcp| tcp.urgent_pointer = 1),
        ("options", |_, tcp| tcp.set_options(&[TcpOptionElement::Timestamp(7, 9)]).unwrap()),
        ("time to live", |ip, _| ip.time_to_live -= 1),
        ("DSCP", |ip, _| ip.dscp = 1.try_into().unwrap()),
        ("ECN", |ip, _| ip.ecn = 3.try_into().unwrap()),
        ("DF", |ip, _| ip.dont_fragment = false),
    ];
    for (name, change) in changes {
        let frames = [0, 1, 2, 3, 4].map(|n| {
            tcp(n, |ip, tcp| {
                tcp.set_options(&[TcpOptionElement::Timestamp(7, 8)]).unwrap();
                if n >= 2 {
                    change(ip, tcp);
                }
            })
        });
        assert_eq!(counts(&frames), [2, 3], "{name}");
        assert_eq!(cut_all(&send(&frames)), frames, "{name}");
    }
    let mut macs = [0, 1, 2, 3].map(|n| tcp(n, |_, _| {}));
    macs[2][0] ^= 0x40;
    assert_eq!(counts(&macs), [2, 1, 1]);
}

#[test]
fn a_gap_or_a_repetition_of_the_sequence_begins_a_new_one() {
    let frames = [(0, 0), (1, 100), (2, 300), (3, 400), (4, 400), (5, 500)].map(|(id, seq)| tcp_len(id, seq, 100));
    assert_eq!(counts(&frames), [2, 2, 2]);
    assert_eq!(cut_all(&send(&frames)), frames);
}

#[test]
fn identifications_must_count_up_since_they_will_when_it_is_cut() {
    let with_ids = |ids: [u16; 4]| {
        let frames = [0, 1, 2, 3].map(|n| tcp(n, |ip, _| ip.identification = ids[n as usize]));
        assert_eq!(cut_all(&send(&frames)), frames);
        counts(&frames)
    };
    assert_eq!(with_ids([0xfffe, 0xffff, 0, 1]), [4]);
    assert_eq!(with_ids([1, 2, 4, 5]), [2, 2]);
    assert_eq!(with_ids([5, 4, 3, 2]), [1, 1, 1, 1]);
    // What the kernel would put together, and can't say to a tap.
    assert_eq!(with_ids([0, 0, 0, 0]), [1, 1, 1, 1]);
}

#[test]
fn ipv6_flows_need_equal_classes_labels_and_hop_limits() {
    let frames = |change: fn(&mut Ipv6Header)| {
        let frames = [0, 1, 2, 3, 4].map(|n| {
            tcp6(n, |ip| {
                if n >= 2 {
                    change(ip)
                }
            })
        });
        assert_eq!(cut_all(&send(&frames)), frames);
        counts(&frames)
    };
    assert_eq!(frames(|_| {}), [5]);
    assert_eq!(frames(|ip| ip.traffic_class = 1), [2, 3]);
    assert_eq!(frames(|ip| ip.flow_label = 1.try_into().unwrap()), [2, 3]);
    assert_eq!(frames(|ip| ip.hop_limit = 1), [2, 3]);
}

#[test]
fn datagrams_of_equal_length_are_put_together_and_a_shorter_one_is_the_last() {
    let frames = [100, 100, 100, 7, 100, 101, 101].map(|len| udp(7, len));
    let frames = with_ids(frames);
    assert_eq!(counts(&frames), [4, 1, 2]);
    assert_eq!(cut_all(&send(&frames)), frames);
    assert_eq!(counts(&with_ids([0, 0, 0].map(|len| udp(7, len)))), [1, 1, 1]);
}

#[test]
fn no_more_than_64_datagrams_are_put_together() {
    let frames = with_ids([(); 130].map(|()| udp(7, 20)));
    assert_eq!(counts(&frames), [64, 64, 2]);
    assert_eq!(cut_all(&send(&frames)), frames);
}

#[test]
fn a_datagram_without_a_checksum_goes_alone() {
    let mut frames = with_ids([(); 4].map(|()| udp(7, 20)));
    for frame in &mut frames {
        frame[40..42].copy_from_slice(&[0, 0]);
    }
    assert_eq!(counts(&frames), [1, 1, 1, 1]);
}

#[test]
fn a_length_that_contradicts_the_packet_goes_alone() {
    let mut frames = with_ids([(); 4].map(|()| udp(7, 20)));
    frames[1][39] += 1; // UDP's
    frames[2].push(0); // padding
    assert_eq!(counts(&frames), [1, 1, 1, 1]);
    assert_eq!(cut_all(&send(&frames)), frames);

    // An open checksum excuses no length.
    let open = VnetHeader { csum: Some(PartialCsum { start: 34, offset: 6 }), ..VnetHeader::NONE };
    let mut alike = with_ids([(); 2].map(|()| udp(7, 20)));
    assert_eq!(counts_of(&run(alike.iter().map(|frame| departure(frame, open)), ALL)), [2]);
    alike.iter_mut().for_each(|frame| frame[39] += 1);
    assert_eq!(counts_of(&run(alike.iter().map(|frame| departure(frame, open)), ALL)), [1, 1]);
}

#[test]
fn a_wrong_checksum_passes_unchanged_and_alone() {
    for at in [24, 50, 60] {
        for damaged in [0, 1, 2] {
            let mut frames = [0, 1, 2, 3, 4].map(|n| tcp(n, |_, _| {}));
            frames[damaged][at] ^= 0x10;
            let sent = send(&frames);
            let expected: &[u32] = [&[1, 4][..], &[1, 1, 3], &[2, 1, 2]][damaged];
            assert_eq!(counts_of(&sent), expected, "octet {at} of frame {damaged}");
            assert!(sent.contains(&whole(&frames[damaged])));
            assert_eq!(cut_all(&sent), frames);
        }
    }
}

#[test]
fn the_form_of_zero_that_no_sender_computes_passes_unchanged() {
    let mut frames = [0, 1, 2].map(|n| tcp(n, |_, _| {}));
    // Payload that makes the checksum zero, and then the other zero in its field.
    let checksum = [frames[1][50], frames[1][51]];
    assert_eq!(frames[1][60..62], [0, 0]);
    frames[1][60..62].copy_from_slice(&checksum);
    frames[1][50..52].copy_from_slice(&[0, 0]);
    assert_eq!(counts(&frames), [3]);
    assert_eq!(cut_all(&send(&frames)), frames);
    frames[1][50..52].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(counts(&frames), [1, 1, 1]);
    assert_eq!(cut_all(&send(&frames)), frames);
}

#[test]
fn open_checksums_are_believed_where_the_transport_header_has_its_own() {
    let csum = |start, offset| VnetHeader { csum: Some(PartialCsum { start, offset }), ..VnetHeader::NONE };
    let mut damaged = [0, 1, 2].map(|n| tcp(n, |_, _| {}));
    damaged.iter_mut().for_each(|frame| frame[50] ^= 1);
    let counts_with = |vnet| counts_of(&run(damaged.iter().map(|frame| departure(frame, vnet)), ALL));
    assert_eq!(counts_with(csum(34, 16)), [3]);
    assert_eq!(counts_with(csum(34, 6)), [1, 1, 1]);
    assert_eq!(counts_with(csum(14, 10)), [1, 1, 1]);
}

#[test]
fn a_super_frame_can_be_continued_by_its_like() {
    let all = Sample::plain_tcp4(90 * 100).gso(100);
    let parts = |sizes: &[usize]| -> Vec<Sample> {
        let starts = sizes.iter().scan(0, |at, size| Some(std::mem::replace(at, *at + size)));
        starts.zip(sizes).map(|(start, size)| all.part(start, *size)).collect()
    };
    let sent = |parts: &[Sample]| {
        let sent = run(parts.iter().map(|part| departure(&part.frame, part.vnet)), ALL);
        let expected: Vec<_> = (0..parts.iter().map(Sample::segment_count).sum()).map(|i| all.segment(i)).collect();
        assert_eq!(cut_all(&sent), expected);
        counts_of(&sent)
    };
    assert_eq!(sent(&parts(&[10, 1, 20, 1])), [32]);
    let mut other = parts(&[10, 10]);
    other[1].vnet.gso = Some((Gso::Tcp4, 99));
    let sent = run(other.iter().map(|part| departure(&part.frame, part.vnet)), ALL);
    assert_eq!(counts_of(&sent), [10, 11]);
}

#[test]
fn a_super_frame_ends_where_no_further_segment_fits() {
    let frames: Vec<_> = (0..100).map(|n| tcp_len(n, u32::from(n) * 1448, 1448)).collect();
    // (65,535 - 40) / 1448
    assert_eq!(counts(&frames), [45, 45, 10]);
    assert_eq!(cut_all(&send(&frames)), frames);
    // One that is more than half as long already is not copied for the sake of what would still fit.
    let all = Sample::plain_tcp4(45 * 1448).gso(1448);
    let counts_of_parts = |first| {
        let parts = [all.part(0, first), all.part(first, 45 - first)];
        counts_of(&run(parts.iter().map(|part| departure(&part.frame, part.vnet)), ALL))
    };
    assert_eq!(counts_of_parts(22), [45]);
    assert_eq!(counts_of_parts(23), [23, 22]);
}

#[test]
fn a_flow_more_than_can_be_open_sends_off_the_one_that_was_opened_first() {
    let flows = FLOW_COUNT as u16 + 1;
    let round = |n: u16| (0..flows).map(move |flow| udp(flow, 20 + usize::from(n)));
    let sent = send(&round(0).collect::<Vec<_>>());
    assert_eq!(sent.len(), usize::from(flows));
    let mut frames: Vec<_> = (0..flows).flat_map(|flow| [udp(flow, 20), udp(flow, 19)]).collect();
    for (n, frame) in frames.iter_mut().enumerate() {
        set_id(frame, n as u16);
    }
    assert_eq!(counts(&frames), vec![2; usize::from(flows)]);
}

#[test]
fn frames_for_different_ports_or_with_different_tags_stay_apart() {
    let frames = [0, 1, 2, 3].map(|n| tcp(n, |_, _| {}));
    let ports = [0, 1, 0, 1].map(PortId);
    let offers = frames.iter().zip(ports).map(|(frame, port)| Departure { port, ..departure(frame, VnetHeader::NONE) });
    assert_eq!(counts_of(&run(offers, ALL)), [1, 1, 1, 1]);

    let tags = [Some([0x81, 0, 0, 1]), Some([0x81, 0, 0, 1]), Some([0x88, 0xa8, 0, 1]), None];
    let offers = frames.iter().zip(tags).map(|(frame, tag)| Departure { tag, ..departure(frame, VnetHeader::NONE) });
    let sent = run(offers, ALL);
    assert_eq!(
        sent.iter().map(|sent| (sent.frames, sent.tag)).collect::<Vec<_>>(),
        [(2, tags[0]), (1, tags[2]), (1, None)]
    );
}

#[test]
fn a_port_is_flushed_by_itself() {
    let frames = [0, 1].map(|flow| udp(flow, 20));
    let mut room = Room::new();
    let mut coalescer = Coalescer::new(&mut room);
    let mut sent = vec![];
    for (frame, port) in frames.iter().zip([0, 1].map(PortId)) {
        assert!(coalescer.offer(Departure { port, ..departure(frame, VnetHeader::NONE) }, ALL, |_| panic!("not yet")));
    }
    coalescer.flush_port(PortId(1), |departure| sent.push(departure.port));
    assert_eq!(sent, [PortId(1)]);
    coalescer.flush(|departure| sent.push(departure.port));
    assert_eq!(sent, [PortId(1), PortId(0)]);
}

#[test]
fn what_a_port_does_not_take_is_not_made_for_it() {
    let frames = [0, 1, 2, 3].map(|n| tcp(n, |_, _| {}));
    let offers = || frames.iter().map(|frame| departure(frame, VnetHeader::NONE));
    assert_eq!(counts_of(&run(offers(), |gso| gso != Gso::Tcp4)), [1, 1, 1, 1]);
    assert_eq!(counts_of(&run(offers(), |gso| gso == Gso::Tcp4)), [4]);
}

#[test]
fn a_fragment_comes_after_what_may_be_its_flow() {
    let mut fragment = udp(7, 20);
    fragment[20] |= 0x20;
    let frames = [udp(7, 20), fragment, udp(7, 20)];
    let sent = send(&frames);
    assert_eq!(sent.iter().map(|sent| &sent.bytes).collect::<Vec<_>>(), frames.iter().collect::<Vec<_>>());
}

#[test]
fn other_frames_let_nobody_depart() {
    let arp = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &[8, 6], &[0; 46]].concat();
    let mut icmp = tcp(0, |ip, _| ip.protocol = IpNumber::ICMP);
    icmp[34] = 8;
    let frames = [tcp(0, |_, _| {}), arp, icmp, tcp(1, |_, _| {})];
    assert_eq!(counts(&frames), [1, 1, 2]);
}

/// What a port was given.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Sent {
    port: PortId,
    tag: Option<TagBytes>,
    bytes: Vec<u8>,
    vnet: VnetHeader,
    frames: u32,
}

impl Sent {
    fn of(&Departure { port, tag, bytes, vnet, frames }: &Departure<'_>) -> Self {
        Self { port, tag, bytes: bytes.to_vec(), vnet, frames }
    }

    /// The wire frames that it is; what can't be cut counts as it is.
    fn cut(&self) -> Vec<Vec<u8>> {
        let Ok(segments) = Segments::new(&self.bytes, &self.vnet) else { return vec![self.bytes.clone()] };
        let segment = |i| {
            let mut out = vec![0; segments.len(i)];
            segments.write(i, &mut out);
            out
        };
        (0..segments.count()).map(segment).collect()
    }
}

const ALL: fn(Gso) -> bool = |_| true;

/// Carries one batch.
fn run<'b>(offers: impl Iterator<Item = Departure<'b>>, takes: impl Fn(Gso) -> bool) -> Vec<Sent> {
    let mut room = Room::new();
    let mut coalescer = Coalescer::new(&mut room);
    let mut sent = vec![];
    for departure in offers {
        if !coalescer.offer(departure, &takes, |departure| sent.push(Sent::of(departure))) {
            sent.push(Sent::of(&departure));
        }
    }
    coalescer.flush(|departure| sent.push(Sent::of(departure)));
    sent
}

fn departure(bytes: &[u8], vnet: VnetHeader) -> Departure<'_> {
    let frames = wire_frames(bytes, &vnet).unwrap_or(1);
    Departure { port: PortId(0), tag: None, bytes, vnet, frames }
}

fn send(frames: &[Vec<u8>]) -> Vec<Sent> {
    run(frames.iter().map(|frame| departure(frame, VnetHeader::NONE)), ALL)
}

fn whole(frame: &[u8]) -> Sent {
    Sent::of(&departure(frame, VnetHeader::NONE))
}

/// How many wire frames each of what departs is.
fn counts(frames: &[Vec<u8>]) -> Vec<u32> {
    counts_of(&send(frames))
}

fn counts_of(sent: &[Sent]) -> Vec<u32> {
    sent.iter().map(|sent| sent.frames).collect()
}

fn cut_all(sent: &[Sent]) -> Vec<Vec<u8>> {
    sent.iter().flat_map(Sent::cut).collect()
}

const MACS: Ethernet2Header =
    Ethernet2Header { source: [2, 0, 0, 0, 0, 1], destination: [2, 0, 0, 0, 0, 2], ether_type: EtherType::IPV4 };

/// Segment `n` of a stream of 100 octets each.
fn tcp(n: u16, change: impl FnOnce(&mut Ipv4Header, &mut TcpHeader)) -> Vec<u8> {
    tcp_with(n, u32::from(n) * 100, 100, change)
}

fn tcp_len(id: u16, seq: u32, payload_len: usize) -> Vec<u8> {
    tcp_with(id, seq, payload_len, |_, _| {})
}

fn tcp_with(id: u16, seq: u32, payload_len: usize, change: impl FnOnce(&mut Ipv4Header, &mut TcpHeader)) -> Vec<u8> {
    let mut ip = Ipv4Header::new(0, 64, IpNumber::TCP, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
    let mut tcp = TcpHeader::new(40_000, 5201, seq.wrapping_sub(150), 500);
    (ip.identification, tcp.ack, tcp.acknowledgment_number) = (id, true, 77);
    change(&mut ip, &mut tcp);
    let payload = vec![0; payload_len];
    ip.set_payload_len(tcp.header_len() + payload.len()).unwrap();
    ip.header_checksum = ip.calc_header_checksum();
    tcp.checksum = tcp.calc_checksum_ipv4(&ip, &payload).unwrap();
    let mut frame = MACS.to_bytes().to_vec();
    ip.write(&mut frame).unwrap();
    tcp.write(&mut frame).unwrap();
    frame.extend(payload);
    frame
}

fn tcp6(n: u32, change: impl FnOnce(&mut Ipv6Header)) -> Vec<u8> {
    let mut ip = Ipv6Header { next_header: IpNumber::TCP, hop_limit: 64, source: [1; 16], ..Default::default() };
    let mut tcp = TcpHeader::new(40_000, 5201, n * 100, 500);
    change(&mut ip);
    let payload = [n as u8; 100];
    ip.set_payload_length(tcp.header_len() + payload.len()).unwrap();
    tcp.checksum = tcp.calc_checksum_ipv6(&ip, &payload).unwrap();
    let mut frame = Ethernet2Header { ether_type: EtherType::IPV6, ..MACS }.to_bytes().to_vec();
    ip.write(&mut frame).unwrap();
    tcp.write(&mut frame).unwrap();
    frame.extend(payload);
    frame
}

fn udp(flow: u16, payload_len: usize) -> Vec<u8> {
    let payload = vec![0x5a; payload_len];
    let mut ip = Ipv4Header::new(0, 64, IpNumber::UDP, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
    ip.set_payload_len(8 + payload.len()).unwrap();
    ip.header_checksum = ip.calc_header_checksum();
    let udp = UdpHeader::with_ipv4_checksum(1000 + flow, 9, &ip, &payload).unwrap();
    let mut frame = MACS.to_bytes().to_vec();
    ip.write(&mut frame).unwrap();
    udp.write(&mut frame).unwrap();
    frame.extend(payload);
    frame
}

/// The frames with identifications that count up.
fn with_ids<const N: usize>(mut frames: [Vec<u8>; N]) -> [Vec<u8>; N] {
    for (id, frame) in frames.iter_mut().enumerate() {
        set_id(frame, id as u16);
    }
    frames
}

fn set_id(frame: &mut [u8], id: u16) {
    frame[18..20].copy_from_slice(&id.to_be_bytes());
    frame[24..26].copy_from_slice(&[0, 0]);
    let checksum = sum(&frame[14..34]).checksum();
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}
