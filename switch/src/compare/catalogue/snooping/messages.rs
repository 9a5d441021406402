//! Messages of versions that only IGMP has, and messages that are no good.

use std::net::{IpAddr, Ipv6Addr};

use super::{asked, data, families, with_sources};
use crate::compare::{
    case::Case,
    frame::groups::{Kind, host, message, pim_hello, record, report, report_v1, source},
};

/// What only IGMP has, and what is no good.
pub(super) fn cases() -> Vec<Case> {
    let [(_, v4, _), (_, v6, _)] = families();
    let mut cases = vec![
        data(asked("IGMP: a report of version 1 is one", v4).send(1, report_v1(1, v4)), v4),
        data(asked("IGMP: a PIM Hello says where a router is", v4).send(2, pim_hello(2)), v4),
        data(
            asked("IGMP: a report to a bridge of version 3 joins", v4)
                .bridge("mcast_igmp_version", 3)
                .send(1, report(1, v4)),
            v4,
        ),
        data(
            asked("IGMP: a report of version 3 to a bridge of version 2 joins, whatever its sources", v4)
                .send(1, record(1, Kind::IsInclude, v4, &[source(9, v4)])),
            v4,
        ),
        data(
            asked("IGMP: a report of version 3 to a bridge of version 2 leaves", v4)
                .port(1, "mcast_fast_leave", true)
                .send(1, report(1, v4))
                .send(1, record(1, Kind::ToInclude, v4, &[])),
            v4,
        ),
        data(asked("an IGMP querier says nothing of MLD", v4).send(1, report(1, v6)), v6),
    ];
    for (version, group, _) in families() {
        let asked = |name: &str| asked(&format!("{version}: {name}"), group);
        let broken = |at: usize| {
            let mut frame = report(1, group);
            frame[at] ^= 1;
            frame
        };
        let (ip, message_checksum) = if group.is_ipv4() { (14 + 10, 14 + 24 + 2) } else { (14 + 5, 14 + 40 + 8 + 2) };
        let of = source(1, group);
        let cut = |len: usize| {
            let whole = record(1, Kind::ToExclude, group, &[of, of]);
            whole[..len].to_vec()
        };
        let header = if group.is_ipv4() { 14 + 24 } else { 14 + 48 };
        cases.extend([
            data(asked("a report with a wrong checksum is dropped").send(1, broken(message_checksum)), group),
            data(asked("a report with a wrong IP header is dropped").send(1, broken(ip)), group),
            data(asked("a report that is cut off in its record is dropped").send(1, cut(header + 10)), group),
            data(
                with_sources(asked("a report that says more records than it has is dropped")).send(1, {
                    let mut body =
                        if group.is_ipv4() { vec![0x22, 0, 0, 0, 0, 0, 0, 2] } else { vec![143, 0, 0, 0, 0, 0, 0, 2] };
                    body.extend([Kind::ToExclude as u8, 0, 0, 0]);
                    match group {
                        IpAddr::V4(group) => body.extend(group.octets()),
                        IpAddr::V6(group) => body.extend(group.octets()),
                    }
                    let to = if group.is_ipv4() {
                        IpAddr::from([224, 0, 0, 22])
                    } else {
                        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16).into()
                    };
                    message(1, host(1, group), to, body)
                }),
                group,
            ),
        ]);
    }
    cases
}
