//! `weft show mdb` for people.

use super::tables::{
    self,
    Column::{Left, Right},
    lines, or_dash,
};
use crate::control::api::mdb::{Filter, MdbEntry, MdbMember, MdbSource, MdbState};

/// The members of all groups, then where queriers and routers are.
pub(super) fn table(states: &[MdbState]) -> String {
    let columns = [
        Left("BRIDGE"),
        Left("GROUP"),
        Left("SOURCE"),
        Left("MEMBER"),
        Left("ORIGIN"),
        Left("WANTS"),
        Right("EXPIRES"),
    ];
    let rows = states.iter().flat_map(|state| {
        let rows = |entry: &MdbEntry| {
            let row = |member| row(&state.bridge, entry, member);
            entry.members.iter().map(row).collect::<Vec<_>>()
        };
        state.entries.iter().flat_map(rows).collect::<Vec<_>>()
    });
    let mut parts = vec![tables::table(&columns, rows.collect(), "no members of any group")];
    parts.extend(states.iter().flat_map(around));
    parts.join("\n")
}

fn row(bridge: &str, entry: &MdbEntry, member: &MdbMember) -> Vec<String> {
    let host = member.host.map(|host| format!("host {host}"));
    vec![
        bridge.to_owned(),
        entry.group.clone(),
        or_dash(entry.source),
        lines([place(member.port.as_deref())].into_iter().chain(host)),
        if member.permanent { "permanent" } else { "learned" }.to_owned(),
        wants(member),
        or_dash(member.expires_s.map(|seconds| format!("{seconds} s"))),
    ]
}

fn place(port: Option<&str>) -> String {
    port.map_or_else(|| "overlay".to_owned(), |port| format!("port {port}"))
}

/// Which sources a member wants.
fn wants(member: &MdbMember) -> String {
    let listed = |is_wanted: bool| {
        let named = member.sources.iter().filter(move |source| source.expires_s.is_some() == is_wanted);
        named.map(|MdbSource { address, .. }| address.to_string())
    };
    match member.filter {
        Filter::Include => lines(listed(true)),
        Filter::Exclude => {
            lines(["all".to_owned()].into_iter().chain(listed(false).map(|source| format!("not {source}"))))
        }
    }
}

/// What else a bridge knows: one line for each querier and router.
fn around(state: &MdbState) -> Vec<String> {
    let bridge = &state.bridge;
    if !state.snooping {
        return vec![format!("bridge {bridge} does not snoop: it floods all groups")];
    }
    let left = |seconds: Option<u64>| seconds.map(|seconds| format!(", for {seconds} s")).unwrap_or_default();
    let queriers = state.queriers.iter().map(|querier| {
        let at = if querier.own { "itself".to_owned() } else { place(querier.port.as_deref()) };
        format!("bridge {bridge}: querier {} at {at}{}", querier.address, left(querier.expires_s))
    });
    let routers = state.routers.iter();
    let routers = routers.map(|router| {
        format!("bridge {bridge}: router at {}{}", place(router.port.as_deref()), left(router.expires_s))
    });
    let mut lines: Vec<_> = queriers.chain(routers).collect();
    if state.queriers.is_empty() {
        lines.insert(0, format!("bridge {bridge}: nobody asks for members, so it floods all groups"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::mdb::{MdbQuerier, MdbRouter};

    #[test]
    fn members_queriers_and_routers_are_shown() {
        let member = |port: Option<&str>, filter, sources| MdbMember {
            port: port.map(str::to_owned),
            host: None,
            permanent: port.is_none(),
            filter,
            sources,
            expires_s: port.map(|_| 260),
        };
        let source = |last, expires_s| MdbSource { address: [10, 0, 0, last].into(), expires_s };
        let members = vec![
            member(Some("left/eth0"), Filter::Exclude, vec![source(2, None), source(3, Some(9))]),
            member(Some("right/eth0"), Filter::Include, vec![source(4, Some(200))]),
            member(None, Filter::Exclude, vec![]),
        ];
        let state = MdbState {
            bridge: "blue".into(),
            snooping: true,
            entries: vec![MdbEntry { group: "239.1.1.1".into(), source: None, members }],
            queriers: vec![MdbQuerier {
                address: [10, 0, 0, 9].into(),
                own: false,
                port: Some("up".into()),
                expires_s: Some(250),
            }],
            routers: vec![MdbRouter { port: None, expires_s: None }],
        };
        let expected = "\
BRIDGE  GROUP      SOURCE  MEMBER           ORIGIN     WANTS             EXPIRES
blue    239.1.1.1  -       port left/eth0   learned    all not 10.0.0.2    260 s
blue    239.1.1.1  -       port right/eth0  learned    10.0.0.4            260 s
blue    239.1.1.1  -       overlay          permanent  all                     -
bridge blue: querier 10.0.0.9 at port up, for 250 s
bridge blue: router at overlay";
        let shown = table(&[state]);
        assert_eq!(shown, expected, "\n{shown}\n");
    }

    #[test]
    fn what_floods_says_why() {
        let state =
            |snooping| MdbState { bridge: "blue".into(), snooping, entries: vec![], queriers: vec![], routers: vec![] };
        let nobody = "no members of any group\nbridge blue: nobody asks for members, so it floods all groups";
        assert_eq!(table(&[state(true)]), nobody);
        let off = "no members of any group\nbridge blue does not snoop: it floods all groups";
        assert_eq!(table(&[state(false)]), off);
    }
}
