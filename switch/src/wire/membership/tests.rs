use etherparse::{LaxNetSlice, LaxSlicedPacket};
use proptest::{collection::vec, prelude::*};

use super::{testing::*, *};

const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 1, 2, 3));
const GROUP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 7));

fn message(frame: &[u8]) -> Option<Message<'_>> {
    let Ok(Some(packet)) = parse(frame, false) else { panic!("{frame:?}") };
    packet.message
}

/// Changes a byte of an IPv4 packet and makes the header's checksum right again.
fn with(frame: &[u8], at: usize, value: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at] = value;
    frame[24..26].copy_from_slice(&[0, 0]);
    let len = usize::from(frame[14] & 0xf) * 4;
    let checksum = sum(&frame[14..(14 + len).min(frame.len())]).checksum();
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}

#[test]
fn reports_and_leaves_name_their_group() {
    for group in [GROUP, GROUP_V6] {
        assert_eq!(message(&report(group)), Some(Message::Report(group)));
        assert_eq!(message(&leave(group)), Some(Message::Leave(group)));
        let traffic = traffic(if group.is_ipv4() { HOST.into() } else { HOST_V6.into() }, group);
        let packet = parse(&traffic, false).unwrap().unwrap();
        assert_eq!((packet.dst, packet.message), (group, None));
    }
    let v1 = igmp_frame(HOST, Ipv4Addr::new(239, 1, 2, 3), vec![igmp::V1_REPORT, 0, 0, 0, 239, 1, 2, 3]);
    assert_eq!(message(&v1), Some(Message::Report(GROUP)));
}

#[test]
fn one_tag_is_looked_behind_and_two_are_not() {
    let frame = report(GROUP);
    for (tags, is_seen) in [(1, true), (2, false)] {
        let mut tagged = frame[..12].to_vec();
        tagged.extend([0x81, 0, 0, 5].repeat(tags));
        tagged.extend(&frame[12..]);
        assert_eq!(parse(&tagged, false).unwrap().is_some(), is_seen);
    }
    assert_eq!(parse(&frame[..13], false), Ok(None));
}

#[test]
fn a_version_1_query_asks_for_all_groups() {
    let query = |code, group: [u8; 4]| {
        let [a, b, c, d] = group;
        let frame = igmp_frame(HOST, ALL_HOSTS, vec![igmp::QUERY, code, 0, 0, a, b, c, d]);
        let Some(Message::Query(query)) = message(&frame) else { panic!() };
        query
    };
    let seconds = Duration::from_secs;
    assert_eq!(query(0, [0; 4]), Query { scope: Scope::General, max_delay: seconds(10) });
    assert_eq!(query(0, [239, 1, 2, 3]).scope, Scope::General);
    assert_eq!(query(50, [0; 4]), Query { scope: Scope::General, max_delay: seconds(5) });
    assert_eq!(query(50, [239, 1, 2, 3]).scope, Scope::Group { group: GROUP, suppress: false });
}

#[test]
fn a_version_3_query_has_a_flag_and_perhaps_sources() {
    let query = |rest: &[u8], group: [u8; 4]| {
        let frame = igmp_frame(HOST, ALL_HOSTS, [&[igmp::QUERY, 0x8a, 0, 0][..], &group, rest].concat());
        let Some(Message::Query(query)) = message(&frame) else { panic!() };
        query
    };
    // 0x8a: exponent 0, mantissa 10.
    let general = Query { scope: Scope::General, max_delay: Duration::from_millis(26 * 8 * 100) };
    assert_eq!(query(&[2, 125, 0, 0], [0; 4]), general);
    let group = |suppress| Scope::Group { group: GROUP, suppress };
    assert_eq!(query(&[2, 125, 0, 0], [239, 1, 2, 3]).scope, group(false));
    assert_eq!(query(&[10, 125, 0, 0], [239, 1, 2, 3]).scope, group(true));
    assert_eq!(query(&[2, 125, 0, 1, 10, 0, 0, 9], [239, 1, 2, 3]).scope, Scope::Ignored);
}

#[test]
fn an_mld_query_without_a_delay_is_not_followed() {
    let query = |delay: [u8; 2], rest: &[u8]| {
        let head = [mld::QUERY, 0, 0, 0, delay[0], delay[1], 0, 0];
        let frame = mld_frame(HOST_V6, ALL_NODES, &[&head[..], &[0; 16], rest].concat());
        let Some(Message::Query(query)) = message(&frame) else { panic!() };
        query
    };
    assert_eq!(query([0, 0], &[]).scope, Scope::Ignored);
    assert_eq!(query([0x27, 0x10], &[]), Query { scope: Scope::General, max_delay: Duration::from_secs(10) });
    assert_eq!(query([0x80, 1], &[2, 125, 0, 0]).max_delay, Duration::from_millis(0x1001 << 3));
    assert_eq!(query([0, 0], &[2, 125, 0, 0]), Query { scope: Scope::General, max_delay: SHORTEST_DELAY });
}

#[test]
fn routers_say_that_they_are_routers() {
    let hello = [0x20, 0, 0, 0];
    let mut frame = Vec::new();
    let builder = |dst: Ipv4Addr| {
        etherparse::PacketBuilder::ethernet2([2; 6], group_mac(dst.into())).ipv4([10, 0, 0, 9], dst.octets(), 1)
    };
    builder(ALL_PIM_ROUTERS).write(&mut frame, PROTOCOL_PIM.into(), &hello).unwrap();
    assert_eq!(message(&frame), Some(Message::Router));
    frame.clear();
    builder(ALL_PIM_ROUTERS).write(&mut frame, PROTOCOL_PIM.into(), &[0x21, 0, 0, 0]).unwrap();
    assert_eq!(message(&frame), None, "a PIM Register is no Hello");
    let discovery = igmp_frame(HOST, ALL_SNOOPERS, vec![igmp::ROUTER_ADVERTISEMENT, 20, 0, 0, 0, 125, 0, 2]);
    assert_eq!(message(&discovery), Some(Message::Router));
    let discovery = mld_frame(HOST_V6, ALL_SNOOPERS_V6, &[mld::ROUTER_ADVERTISEMENT, 20, 0, 0, 0, 125, 0, 2]);
    assert_eq!(message(&discovery), Some(Message::Router));
}

#[test]
fn what_the_kernel_finds_malformed_is_malformed() {
    let good = report(GROUP);
    let bad = |what: &str, frame: Vec<u8>| assert_eq!(parse(&frame, false), Err(Malformed), "{what}");
    let mut checksum = good.clone();
    checksum[24] ^= 1;
    bad("the header's checksum", checksum);
    let mut checksum = good.clone();
    checksum[36] ^= 1;
    assert!(parse(&checksum, true).is_ok());
    bad("the message's checksum", checksum);
    bad("a length beyond the frame", with(&good, 17, 200));
    bad("a length within the header", with(&good, 17, 19));
    bad("a header of 16 bytes", with(&good, 14, 0x44));
    bad("another version", with(&good, 14, 0x65));
    bad("a cut header", good[..33].to_vec());
    bad("a message of 7 bytes", with(&good, 17, 27));
    bad("an empty packet", good[..14].to_vec());
    bad("traffic of a wrong length", with(&traffic(HOST.into(), GROUP), 17, 255));
    let general_to_a_group = igmp_frame(HOST, Ipv4Addr::new(239, 1, 2, 3), vec![igmp::QUERY, 100, 0, 0, 0, 0, 0, 0]);
    bad("a general query to a group", general_to_a_group);
    bad("a query of 9 bytes", igmp_frame(HOST, ALL_HOSTS, vec![igmp::QUERY, 100, 0, 0, 0, 0, 0, 0, 0]));

    let good = report(GROUP_V6);
    let bad_byte = |what: &str, at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        assert_eq!(parse(&frame, false), Err(Malformed), "{what}");
    };
    bad_byte("another version", 14, 0x40);
    bad_byte("no payload", 19, 0);
    bad_byte("a length beyond the frame", 18, 9);
    bad_byte("the checksum", 65, 0xee);
    bad_byte("options beyond the packet", 55, 9);
    let global = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    bad("a query from afar", query(global.into()));
}

#[test]
fn mld_without_a_router_alert_is_traffic() {
    let frame = report(GROUP_V6);
    let mut plain = [&frame[..54], &frame[62..]].concat();
    plain[20] = PROTOCOL_ICMPV6;
    plain[19] -= 8;
    assert_eq!(message(&plain), None);
}

#[test]
fn records_come_in_order_and_unknown_ones_are_passed_over() {
    let source = |last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
    let frame = records_of(
        HOST.into(),
        &[
            (RecordKind::IsInclude, GROUP, vec![source(1), source(2)]),
            (RecordKind::Block, GROUP, vec![]),
            (RecordKind::ToExclude, GROUP, vec![source(3)]),
        ],
    );
    let kinds = |frame: &[u8]| {
        let Some(Message::Records(records)) = message(frame) else { panic!() };
        assert!(records.are_whole());
        records.iter().map(|record| record.map(|record| (record.kind, record.sources().count()))).collect::<Vec<_>>()
    };
    let ok = |kind, count| Ok((kind, count));
    assert_eq!(kinds(&frame), [ok(RecordKind::IsInclude, 2), ok(RecordKind::Block, 0), ok(RecordKind::ToExclude, 1)]);
    let mut body = frame[34..].to_vec();
    body[8] = 7;
    let unknown = igmp_frame(HOST, IGMPV3_ROUTERS, body);
    assert_eq!(kinds(&unknown), [ok(RecordKind::Block, 0), ok(RecordKind::ToExclude, 1)]);
}

#[test]
fn records_that_are_cut_off_end_the_report() {
    for host in [IpAddr::from(HOST), HOST_V6.into()] {
        let (group, source) = if host.is_ipv4() { (GROUP, host) } else { (GROUP_V6, host) };
        let records = [(RecordKind::Allow, group, vec![source]), (RecordKind::Allow, group, vec![source])];
        let frame = records_of(host, &records);
        let message_at = if host.is_ipv4() { 34 } else { 62 };
        for cut in 1..12 {
            let body = frame[message_at..frame.len() - cut].to_vec();
            let frame = match host {
                IpAddr::V4(host) => igmp_frame(host, IGMPV3_ROUTERS, body),
                IpAddr::V6(host) => mld_frame(host, MLDV2_ROUTERS, &body),
            };
            let Some(Message::Records(records)) = message(&frame) else { panic!() };
            assert!(!records.are_whole());
            assert_eq!(records.iter().map(|record| record.is_ok()).collect::<Vec<_>>(), [true, false]);
        }
    }
}

fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let source = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let records = [(RecordKind::IsInclude, GROUP, vec![source]), (RecordKind::ToInclude, GROUP, vec![])];
    let of_v6 = [(RecordKind::IsInclude, GROUP_V6, vec![HOST_V6.into()]), (RecordKind::ToInclude, GROUP_V6, vec![])];
    let frames = vec![
        report(GROUP),
        leave(GROUP),
        report(GROUP_V6),
        query(HOST.into()),
        query(HOST_V6.into()),
        records_of(HOST.into(), &records),
        records_of(HOST_V6.into(), &of_v6),
        traffic(HOST.into(), GROUP),
        traffic(HOST_V6.into(), GROUP_V6),
    ];
    let damage = vec((0..110usize, any::<u8>()), 0..4);
    (prop::sample::select(frames), damage, 0..120usize).prop_map(|(mut frame, damage, len)| {
        for (at, value) in damage {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        frame.truncate(len.max(14));
        frame
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..120), checksum_is_pending: bool) {
        if let Ok(Some(Packet { message: Some(Message::Records(records)), .. })) = parse(&bytes, checksum_is_pending) {
            records.iter().flatten().for_each(|record| _ = record.sources().count());
        }
    }

    #[test]
    fn no_damage_makes_it_panic_and_whoever_sent_it_is_whom_etherparse_finds(frame in damaged()) {
        let Ok(found) = parse(&frame, true) else { return Ok(()) };
        if let Some(Packet { message: Some(Message::Records(records)), .. }) = found {
            records.iter().flatten().for_each(|record| _ = record.sources().count());
        }
        let theirs = LaxSlicedPacket::from_ethernet(&frame).unwrap();
        let addresses: Option<(IpAddr, IpAddr)> = match &theirs.net {
            Some(LaxNetSlice::Ipv4(ip)) => {
                Some((ip.header().source_addr().into(), ip.header().destination_addr().into()))
            }
            Some(LaxNetSlice::Ipv6(ip)) => {
                Some((ip.header().source_addr().into(), ip.header().destination_addr().into()))
            }
            _ => None,
        };
        if let Some(packet) = found && theirs.vlan().is_none() {
            prop_assert_eq!(Some((packet.src, packet.dst)), addresses);
        }
    }
}
