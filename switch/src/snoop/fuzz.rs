//! What a fuzzer holds this floor to: [`crate::fuzzing`].

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use super::{Member, PortSettings, Router, Settings, Snooper};
use crate::{
    fuzzing::{Script, inputs},
    ids::PortId,
    wire::{
        MacAddr,
        membership::{
            self, RecordKind,
            testing::{HOST, HOST_V6, leave, query, records_of, report},
        },
    },
};

/// What hosts and routers say, in any order, at any time, true or not: groups and sources stay within their limit, questions are
/// read again, and what is due is in the future once it has been done.
#[test]
fn fuzz_snooper() {
    inputs(|input| {
        let mut script = Script::new(input);
        let hash_max = script.one_of(&[1, 3, 100]);
        let settings = Settings {
            querier: script.bool(),
            hash_max,
            igmp_version: script.one_of(&[2, 3]),
            mld_version: script.one_of(&[1, 2]),
            last_member_count: script.one_of(&[0, 1, 2]),
            ..Settings::default()
        };
        let mut now = Duration::ZERO;
        let mut snooper = Snooper::new(settings, MacAddr::new([2, 0, 0xbf, 0xfe, 0, 1]), now);
        let members = [Member::Port(PortId(0)), Member::Port(PortId(1)), Member::Overlay];
        snooper.set_ports(&members.map(|member| (member, PortSettings::default())), now);
        while !script.is_empty() {
            let from = script.one_of(&members);
            let src = MacAddr::new([2, 0, 0, 0, 0, script.u8() % 3]);
            let group = group(&mut script);
            let frame = match script.u8() % 8 {
                0 => report(group),
                1 => leave(group),
                2 => query(host_of(group)),
                3 | 4 => {
                    let kind = script.one_of(&RecordKind::ALL);
                    let sources = (0..script.u8() % 4).map(|_| source(group, script.u8() % 5)).collect();
                    records_of(host_of(group), &[(kind, group, sources)])
                }
                5 => {
                    now += Duration::from_millis(u64::from(script.u16()) * 10);
                    snooper.poll(now);
                    vec![]
                }
                6 => {
                    let router = script.one_of(&[Router::Never, Router::Learn, Router::Always]);
                    let port = PortSettings {
                        router,
                        fast_leave: script.bool(),
                        to_unicast: script.bool(),
                        max_groups: script.one_of(&[0, 1]),
                    };
                    snooper.set_ports(&members.map(|member| (member, port)), now);
                    vec![]
                }
                _ => script.piece().to_vec(),
            };
            for checksum_is_pending in [false, true] {
                if let Ok(Some(packet)) = membership::parse(&frame, checksum_is_pending) {
                    if let (Some(mdb), Some(message)) = (snooper.mdb(), &packet.message) {
                        let _ = mdb.has_room(from, src, message);
                        let _ = mdb.route(MacAddr::BROADCAST, Some(&packet));
                    }
                    snooper.on_packet(from, src, &packet, now);
                    break;
                }
            }
            snooper.poll(now);
            for question in snooper.take_queries() {
                assert!(matches!(
                    membership::parse(&question.bytes, false),
                    Ok(Some(membership::Packet { message: Some(membership::Message::Query(_)), .. }))
                ));
            }
            let entries = snooper.entries(now);
            assert!(entries.len() <= hash_max, "{} groups, and {hash_max} is the limit", entries.len());
            assert!(snooper.deadline().is_none_or(|deadline| deadline > now), "all that is due has been done");
        }
    });
}

fn group(script: &mut Script<'_>) -> IpAddr {
    match script.u8() % 8 {
        last @ 0..4 => Ipv4Addr::new(239, 1, 1, last).into(),
        4 => Ipv4Addr::new(224, 0, 0, 5).into(),
        last => Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, u16::from(last)).into(),
    }
}

fn host_of(group: IpAddr) -> IpAddr {
    if group.is_ipv4() { HOST.into() } else { HOST_V6.into() }
}

fn source(group: IpAddr, last: u8) -> IpAddr {
    match group {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, last).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, u16::from(last)).into(),
    }
}
