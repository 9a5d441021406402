//! Members that choose their sources: IGMP version 3 and MLD version 2.

use std::net::IpAddr;

use super::{asked, data, families, from_four, with_sources};
use crate::compare::{
    case::Case,
    frame::groups::{Kind, record, records, report, source, traffic},
};

const KINDS: [(Kind, &str); 6] = [
    (Kind::IsInclude, "is include"),
    (Kind::IsExclude, "is exclude"),
    (Kind::ToInclude, "to include"),
    (Kind::ToExclude, "to exclude"),
    (Kind::Allow, "allow"),
    (Kind::Block, "block"),
];

/// Each kind of record on each state of a membership, about one source that is listed and one that is not; then traffic of four
/// sources (the state tables of RFC 3376 section 6.4 and RFC 3810 section 7.4).
pub(super) fn cases((version, group, _): (&str, IpAddr, IpAddr)) -> Vec<Case> {
    let asked = |name: &str| with_sources(asked(&format!("{version} with sources: {name}"), group));
    let list = |numbers: &[u8]| -> Vec<_> { numbers.iter().map(|number| source(*number, group)).collect() };
    let states = [
        ("nobody", None),
        ("a member of two sources", Some((Kind::IsInclude, list(&[1, 2])))),
        ("a member of all but two", Some((Kind::IsExclude, list(&[1, 2])))),
        ("a member of all", Some((Kind::IsExclude, vec![]))),
    ];
    let mut cases = Vec::new();
    for (before, first) in &states {
        for (kind, word) in KINDS {
            for (what, named) in [("two sources", list(&[2, 3])), ("no source", vec![])] {
                if first.is_none() && kind == Kind::Allow && named.is_empty() {
                    continue; // ruling empty_member
                }
                let mut case = asked(&format!("{before}, then {word} of {what}"));
                if let Some((kind, sources)) = first {
                    case = case.send(1, record(1, *kind, group, sources));
                }
                cases.push(from_four(case.send(1, record(1, kind, group, &named)), group));
            }
        }
    }
    cases.extend([
        from_four(
            asked("two ports want different sources")
                .send(1, record(1, Kind::IsInclude, group, &list(&[1, 2])))
                .send(2, record(2, Kind::IsExclude, group, &list(&[1]))),
            group,
        ),
        from_four(
            asked("with mcast_fast_leave the last host that blocks a source ends it")
                .port(1, "mcast_fast_leave", true)
                .send(1, record(1, Kind::Allow, group, &list(&[1, 2])))
                .send(1, record(2, Kind::Allow, group, &list(&[2])))
                .send(1, record(1, Kind::Block, group, &list(&[1, 2]))),
            group,
        ),
        from_four(
            asked("with mcast_fast_leave a host that wants nothing more")
                .port(1, "mcast_fast_leave", true)
                .send(1, record(1, Kind::ToExclude, group, &[]))
                .send(1, record(1, Kind::ToInclude, group, &[])),
            group,
        ),
        from_four(
            asked("sources run out")
                .bridge("mcast_membership_interval", 300)
                .send(1, record(1, Kind::IsInclude, group, &list(&[1, 2])))
                .wait(150)
                .send(1, record(1, Kind::Allow, group, &list(&[2])))
                .wait(220),
            group,
        ),
        data(asked("an old report is a membership of all").send(1, report(1, group)), group),
        from_four(
            asked("an old report after a list of sources")
                .send(1, record(1, Kind::IsInclude, group, &list(&[1])))
                .send(1, report(1, group)),
            group,
        ),
        data(
            asked("a host that only ever said that it wants nothing")
                .ruling("empty_member")
                .send(1, record(1, Kind::Allow, group, &[])),
            group,
        ),
        asked("a report with several records")
            .send(
                1,
                records(1, &[(Kind::ToExclude, group, vec![]), (Kind::IsInclude, families_other(group), list(&[1]))]),
            )
            .send(3, traffic(3, source(1, group), group))
            .send(3, traffic(3, source(1, group), families_other(group)))
            .send(3, traffic(3, source(2, group), families_other(group))),
    ]);
    cases
}

/// The family's other group.
fn families_other(group: IpAddr) -> IpAddr {
    families().into_iter().find(|(_, one, _)| *one == group).map_or(group, |(_, _, other)| other)
}
