//! IGMP and MLD snooping: who is in which group, where routers are, and who gets a group's frames.
//!
//! Port 4 has the router, whose query a scene begins with ([`asked`]); hosts are behind ports 1 to 3, and station 3 sends.

mod messages;
mod sources;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    compare::{
        case::{Case, UNDERLAY, VNI, vtep},
        frame::{
            DOT1Q, frame,
            groups::{
                Kind, group_query, host, leave, query, query_from, records, report, router_advertisement, source,
                traffic,
            },
            station, tagged, vxlan,
        },
    },
    wire::MacAddr,
};

/// How long a query that gives no time must be known before it is believed: a tick of the kernel's clock, and some more.
const BELIEVED_MS: u64 = 30;
const TICK_MS: u64 = 12;

/// A group of each family, with its name.
fn families() -> [(&'static str, IpAddr, IpAddr); 2] {
    let v6 = |last| Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 1, last).into();
    [("IGMP", [239, 1, 1, 1].into(), [239, 1, 1, 2].into()), ("MLD", v6(1), v6(2))]
}

/// A bridge that listens.
fn listening(name: &str) -> Case {
    Case::new(name).statement(26).bridge("mcast_snooping", true)
}

/// A bridge that listens, with a router behind port 4 that has asked for members and is believed.
fn asked(name: &str, family: IpAddr) -> Case {
    ask(listening(name), family)
}

fn ask(case: Case, family: IpAddr) -> Case {
    case.send(4, query(4, family)).wait(BELIEVED_MS)
}

/// The version in which hosts choose their sources.
fn with_sources(case: Case) -> Case {
    case.bridge("mcast_igmp_version", 3).bridge("mcast_mld_version", 2)
}

/// Traffic of station 3 from a source of another network.
fn data(case: Case, group: IpAddr) -> Case {
    case.send(3, traffic(3, source(1, group), group))
}

/// Traffic from four sources, after the kernel has put away what it takes out of its table with the next tick of its clock.
fn from_four(case: Case, group: IpAddr) -> Case {
    (1..=4).fold(case.wait(TICK_MS), |case, number| case.send(3, traffic(3, source(number, group), group)))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in families() {
        cases.extend(membership(family));
        cases.extend(leaving(family));
        cases.extend(routers(family));
        cases.extend(ports(family));
        cases.extend(limits(family));
        cases.extend(sources::cases(family));
        cases.extend(by_hand(family));
    }
    cases.extend(messages::cases());
    cases.extend(clocks());
    cases.extend(states());
    cases
}

fn membership((version, group, other): (&str, IpAddr, IpAddr)) -> Vec<Case> {
    let asked = |name: &str| asked(&format!("{version}: {name}"), group);
    let listening = |name: &str| listening(&format!("{version}: {name}"));
    let of_link: IpAddr = match group {
        IpAddr::V4(_) => [224, 0, 0, 251].into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(),
    };
    vec![
        data(
            listening("without a querier a group that somebody is in is flooded").shows(26).send(1, report(1, group)),
            group,
        ),
        data(asked("with a querier a group that nobody is in goes to routers").shows(26), group),
        data(
            asked("a report goes to routers, and its group to members and routers").shows(26).send(1, report(1, group)),
            group,
        ),
        data(asked("a group has two members").send(1, report(1, group)).send(2, report(2, group)), group),
        data(asked("a member that sends does not hear itself").send(3, report(3, group)), group),
        data(asked("who is in one group is not in another").send(1, report(1, other)), group),
        data(asked("what was heard before the querier counts").send(1, report(1, group)), group),
        data(
            listening("what was heard before the querier came counts")
                .send(1, report(1, group))
                .send(4, query(4, group))
                .wait(BELIEVED_MS),
            group,
        ),
        data(asked("a group of the link can't be joined and is flooded").send(1, report(1, of_link)), of_link),
        asked("other frames are not looked at")
            .send(3, frame(MacAddr::BROADCAST, station(3)))
            .send(3, frame(station(9), station(3)))
            .send(3, frame(MacAddr::new([1, 0, 0x5e, 1, 1, 1]), station(3))),
        data(
            data(
                asked("a bridge that listens no more floods")
                    .send(1, report(1, group))
                    .set_bridge("mcast_snooping", false),
                group,
            )
            .send(2, report(2, group)),
            group,
        ),
        data(
            Case::new(&format!("{version}: a bridge that does not listen floods reports and forgets them"))
                .statement(26)
                .send(4, query(4, group))
                .send(1, report(1, group))
                .set_bridge("mcast_snooping", true),
            group,
        ),
        data(asked("a report behind a tag is heard").send(1, tagged(&report(1, group), DOT1Q, 5)), group),
        data(
            asked("a report behind two tags is not").send(1, tagged(&tagged(&report(1, group), DOT1Q, 5), DOT1Q, 6)),
            group,
        ),
        asked("traffic behind a tag goes to members")
            .send(1, report(1, group))
            .send(3, tagged(&traffic(3, source(1, group), group), DOT1Q, 5)),
    ]
}

fn leaving((version, group, other): (&str, IpAddr, IpAddr)) -> Vec<Case> {
    let asked = |name: &str| asked(&format!("{version}: {name}"), group);
    vec![
        data(
            asked("who leaves is asked for by the querier, and stays until then")
                .send(1, report(1, group))
                .send(1, leave(1, group)),
            group,
        ),
        data(
            asked("with mcast_fast_leave who leaves is gone")
                .port(1, "mcast_fast_leave", true)
                .send(1, report(1, group))
                .send(2, report(2, group))
                .send(1, leave(1, group)),
            group,
        ),
        data(
            asked("with mcast_fast_leave the last of two hosts counts as one")
                .port(1, "mcast_fast_leave", true)
                .send(1, report(1, group))
                .send(1, report(2, group))
                .send(1, leave(1, group)),
            group,
        ),
        asked("who leaves another group is in his").send(1, report(1, group)).send(1, leave(1, other)),
        data(
            asked("a query about a group that nobody answers ends it")
                .bridge("mcast_last_member_count", 1)
                .send(1, report(1, group))
                .send(4, group_query(4, group))
                .wait(600),
            group,
        ),
        data(
            asked("a query about a group that somebody answers does not")
                .send(1, report(1, group))
                .bridge("mcast_last_member_count", 1)
                .send(2, report(2, group))
                .send(4, group_query(4, group))
                .send(2, report(2, group))
                .wait(600),
            group,
        ),
        data(
            asked("a member that says nothing more is forgotten")
                .bridge("mcast_membership_interval", 300)
                .send(1, report(1, group))
                .wait(150)
                .send(2, report(2, group))
                .wait(220),
            group,
        ),
        data(
            asked("a port that goes down is in no group").send(1, report(1, group)).link(1, false).link(1, true),
            group,
        ),
        data(
            asked("a port that does not forward is in no group")
                .send(1, report(1, group))
                .set_port(1, "state", "listening")
                .set_port(1, "state", "forwarding"),
            group,
        ),
        data(
            asked("a port that is taken out of the bridge is in no group")
                .send(1, report(1, group))
                .attach(1, false)
                .attach(1, true),
            group,
        ),
    ]
}

fn routers((version, group, _): (&str, IpAddr, IpAddr)) -> Vec<Case> {
    let asked = |name: &str| asked(&format!("{version}: {name}"), group);
    let listening = |name: &str| listening(&format!("{version}: {name}"));
    let unknown = match group {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    vec![
        asked("a query is flooded, to members or not").send(1, report(1, group)).send(4, query(4, group)),
        data(listening("a query of nobody's").send(4, query_from(4, unknown)).wait(BELIEVED_MS), group),
        data(asked("a second querier with a higher address").send(2, query_from(2, host(200, group))), group),
        data(asked("a second querier with a lower address").send(2, query_from(2, host(2, group))), group),
        data(asked("a router that says so gets every group").send(2, router_advertisement(2, group)), group),
        data(asked("a port with mcast_router 2 gets every group").port(2, "mcast_router", 2), group),
        data(asked("a port with mcast_router 0 gets none").port(4, "mcast_router", 0).send(1, report(1, group)), group),
        data(
            data(asked("mcast_router turns").set_port(2, "mcast_router", 2), group).set_port(2, "mcast_router", 0),
            group,
        ),
        data(
            listening("a querier that says nothing more is forgotten")
                .bridge("mcast_querier_interval", 300)
                .send(4, query(4, group))
                .wait(400),
            group,
        ),
        data(asked("a router's port that goes down is none").link(4, false).link(4, true), group),
    ]
}

fn ports((version, group, _): (&str, IpAddr, IpAddr)) -> Vec<Case> {
    let asked = |name: &str| asked(&format!("{version}: {name}"), group).statement(20);
    vec![
        data(
            asked("mcast_flood off does not keep a group from a member")
                .port(1, "mcast_flood", false)
                .port(2, "mcast_flood", false)
                .send(1, report(1, group)),
            group,
        ),
        data(asked("mcast_flood off does not keep a group from a router").port(4, "mcast_flood", false), group),
        data(
            listening(&format!("{version}: mcast_flood off keeps a group off that nobody asked for"))
                .statement(20)
                .port(1, "mcast_flood", false)
                .send(1, report(1, group)),
            group,
        ),
        data(
            asked("a member behind a hairpin port hears itself")
                .statement(19)
                .port(3, "hairpin", true)
                .send(3, report(3, group)),
            group,
        ),
        data(
            asked("isolated members get nothing from isolated ports")
                .statement(22)
                .port(1, "isolated", true)
                .port(3, "isolated", true)
                .send(1, report(1, group))
                .send(2, report(2, group)),
            group,
        ),
        data(
            asked("with mcast_to_unicast each member gets a copy of its own")
                .statement(19)
                .port(1, "mcast_to_unicast", true)
                .send(1, report(1, group))
                .send(1, report(2, group)),
            group,
        ),
        data(
            asked("with mcast_to_unicast the sender's own address gets none")
                .shows(19)
                .port(3, "mcast_to_unicast", true)
                .port(3, "hairpin", true)
                .send(3, report(3, group))
                .send(3, report(1, group)),
            group,
        ),
        data(
            asked("with mcast_to_unicast one of two members leaves")
                .statement(19)
                .port(1, "mcast_to_unicast", true)
                .port(1, "mcast_fast_leave", true)
                .send(1, report(1, group))
                .send(1, report(2, group))
                .send(1, leave(1, group)),
            group,
        ),
        data(
            asked("with mcast_to_unicast a router's port gets the frame as it is")
                .statement(19)
                .port(4, "mcast_to_unicast", true)
                .send(4, report(1, group)),
            group,
        ),
    ]
}

fn limits((version, group, other): (&str, IpAddr, IpAddr)) -> Vec<Case> {
    let asked = |name: &str| asked(&format!("{version}: {name}"), group);
    let limited = |name: &str| asked(name).port(1, "mcast_max_groups", 1);
    vec![
        data(
            limited("a report over mcast_max_groups is dropped").send(1, report(1, group)).send(1, report(1, other)),
            other,
        ),
        data(limited("a report again is not over it").send(1, report(1, group)).send(1, report(1, group)), group),
        data(limited("another port has its own room").send(1, report(1, group)).send(2, report(2, other)), other),
        data(
            limited("who leaves makes room")
                .port(1, "mcast_fast_leave", true)
                .send(1, report(1, group))
                .send(1, leave(1, group))
                .send(1, report(1, other)),
            other,
        ),
        data(
            with_sources(limited("a report over mcast_max_groups with two records is dropped"))
                .send(1, records(1, &[(Kind::ToExclude, group, vec![]), (Kind::ToExclude, other, vec![])])),
            group,
        ),
        data(
            asked("one group more than mcast_hash_max ends it all")
                .bridge("mcast_hash_max", 1)
                .send(1, report(1, group))
                .send(2, report(2, group))
                .send(1, report(1, other)),
            group,
        ),
    ]
}

fn by_hand((version, group, _): (&str, IpAddr, IpAddr)) -> Vec<Case> {
    let asked = |name: &str| asked(&format!("{version}: {name}"), group);
    let of = source(1, group);
    vec![
        data(asked("a permanent member gets its group").mdb(group, None, 1), group),
        data(
            asked("a permanent member can't leave")
                .port(1, "mcast_fast_leave", true)
                .mdb(group, None, 1)
                .send(1, leave(1, group)),
            group,
        ),
        data(asked("a permanent member that is taken out").mdb(group, None, 1).mdb_delete(group, None, 1), group),
        data(
            asked("a permanent member whose port goes down and up").mdb(group, None, 1).link(1, false).link(1, true),
            group,
        ),
        from_four(with_sources(asked("a permanent member of one source")).mdb(group, Some(of), 1), group),
        data(
            asked("a permanent member beside one that was heard").mdb(group, None, 1).send(2, report(2, group)),
            group,
        ),
        asked("a member is permanent once").mdb(group, None, 1).mdb(group, None, 1),
        asked("who is no permanent member can't be taken out").mdb_delete(group, None, 1),
    ]
}

/// The tunnel is a port like any other: all VTEPs together.
pub(super) fn tunnels() -> Vec<Case> {
    let mut cases = Vec::new();
    for (version, group, _) in families() {
        let asked = |name: &str| asked(&format!("{version} and a tunnel: {name}"), group).overlay(&[vtep(2), vtep(3)]);
        let arriving = |frame: &[u8]| vxlan(VNI, frame);
        cases.extend([
            data(asked("a group that nobody is in does not leave"), group),
            data(
                asked("a report from a VTEP lets the group leave").arrive(vtep(2), arriving(&report(9, group))),
                group,
            ),
            data(
                listening(&format!("{version} and a tunnel: a querier behind a VTEP"))
                    .overlay(&[vtep(2), vtep(3)])
                    .arrive(vtep(2), arriving(&query(9, group)))
                    .wait(BELIEVED_MS)
                    .send(1, report(1, group)),
                group,
            ),
            data(asked("a permanent member in the tunnel").mdb(group, None, UNDERLAY), group),
            asked("a group's frame from a VTEP goes to members and routers")
                .send(1, report(1, group))
                .arrive(vtep(2), arriving(&traffic(9, source(1, group), group))),
        ]);
    }
    cases
}

/// Groups are looked at before the port's state is (statement 7).
fn states() -> Vec<Case> {
    let [(_, group, _), _] = families();
    let ask = |name: &str| ask(listening(name).statement(7).port(1, "state", "learning"), group);
    vec![
        data(
            ask("a report at a port that is learning is heard, and goes nowhere")
                .shows(7)
                .send(1, report(1, group))
                .set_port(1, "state", "forwarding"),
            group,
        ),
        data(ask("a port that is learning gets nothing of its group").send(1, report(1, group)), group),
        data(
            ask("a broken report at a port that is learning teaches its source").send(1, {
                let mut frame = report(1, group);
                frame[14 + 26] ^= 1;
                frame
            }),
            group,
        ),
    ]
}

/// What the bridge does by itself.
fn clocks() -> Vec<Case> {
    let [(_, v4, _), _] = families();
    vec![
        listening("with mcast_querier the bridge asks at once, and believes what it hears in the time it gives")
            .ruling("querier_address")
            .bridge("mcast_query_response_interval", 300)
            .set_bridge("mcast_querier", true)
            .send(1, report(1, v4))
            .send(3, traffic(3, source(1, v4), v4))
            .wait(400)
            .send(3, traffic(3, source(1, v4), v4)),
        listening("with mcast_querier who leaves is asked for")
            .ruling("querier_address")
            .bridge("mcast_query_response_interval", 100)
            .bridge("mcast_last_member_interval", 500)
            .set_bridge("mcast_querier", true)
            .wait(200)
            .send(1, report(1, v4))
            .send(1, leave(1, v4))
            .send(3, traffic(3, source(1, v4), v4))
            .wait(1300)
            .send(3, traffic(3, source(1, v4), v4)),
    ]
}
