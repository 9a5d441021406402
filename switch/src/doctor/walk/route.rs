//! Which route a packet takes: policy rules, then the longest prefix of the table (`net/ipv4/fib_rules.c`, `fib_trie.c`).

use std::net::IpAddr;

use crate::doctor::survey::values::{Details, NextHop, Route, RouteKind, Rule, RuleAction, Space};

/// What a route is looked up for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) destination: IpAddr,
    pub(crate) source: Option<IpAddr>,
    /// The interface that the packet came in by; `None`: it begins here.
    pub(crate) iif: Option<&'a str>,
    pub(crate) mark: u32,
}

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer<'a> {
    /// To this address of its own.
    Local,
    By {
        route: &'a Route,
        hop: &'a NextHop,
    },
    /// A route that says no.
    Refused(&'a Route),
    /// A rule that says no.
    RuleRefused(&'a Rule),
    Nothing,
}

const LOCAL: u32 = 255;
const MAIN: u32 = 254;
const DEFAULT: u32 = 253;

/// Looks up a route.
pub(crate) fn lookup<'a>(space: &'a Space, question: Question<'_>) -> Answer<'a> {
    look_up(space, question, None)
}

/// Looks up a route by a certain interface.
pub(crate) fn lookup_by<'a>(space: &'a Space, question: Question<'_>, link: u32) -> Answer<'a> {
    look_up(space, question, Some(link))
}

fn look_up<'a>(space: &'a Space, question: Question<'_>, by: Option<u32>) -> Answer<'a> {
    let ipv6 = question.destination.is_ipv6();
    let mut rules: Vec<_> = space.rules.iter().filter(|rule| rule.ipv6 == ipv6).collect();
    rules.sort_by_key(|rule| rule.priority);
    if rules.is_empty() {
        let tables = [LOCAL, MAIN, DEFAULT].into_iter();
        return tables
            .filter_map(|table| in_table(space, table, question.destination, 0, by))
            .next()
            .unwrap_or(Answer::Nothing);
    }
    let mut at = 0;
    while let Some(rule) = rules.get(at) {
        at += 1;
        if !applies(space, rule, question) {
            continue;
        }
        let shortest = rule.suppress_prefix_len.map_or(0, |len| len + 1);
        let answer = match rule.action {
            _ if rule.l3mdev => {
                vrf_table(space, question).and_then(|it| in_table(space, it, question.destination, shortest, by))
            }
            RuleAction::Table(table) => in_table(space, table, question.destination, shortest, by),
            RuleAction::Goto(priority) => {
                at = rules.iter().position(|rule| rule.priority >= priority).unwrap_or(rules.len()).max(at);
                None
            }
            RuleAction::Nop => None,
            RuleAction::Blackhole | RuleAction::Unreachable | RuleAction::Prohibit => Some(Answer::RuleRefused(rule)),
        };
        if let Some(answer) = answer {
            return answer;
        }
    }
    Answer::Nothing
}

/// The best route of one table; `None`: it has none, or its best is a throw route.
fn in_table(space: &Space, table: u32, destination: IpAddr, shortest: u32, by: Option<u32>) -> Option<Answer<'_>> {
    let leads = |route: &Route, hop: &NextHop| {
        !hop.dead && by.is_none_or(|link| link == hop.link || route.kind == RouteKind::Local)
    };
    let usable = |route: &&Route| {
        route.table == table
            && route.destination.contains(destination)
            && u32::from(route.destination.len) >= shortest
            && !matches!(route.kind, RouteKind::Multicast | RouteKind::Broadcast | RouteKind::Other)
            && (route.hops.is_empty() || route.hops.iter().any(|hop| leads(route, hop)))
    };
    let route =
        space.routes.iter().filter(usable).min_by_key(|route| (u8::MAX - route.destination.len, metric(route)))?;
    match route.kind {
        RouteKind::Local | RouteKind::Anycast => Some(Answer::Local),
        RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit => Some(Answer::Refused(route)),
        RouteKind::Throw => None,
        RouteKind::Unicast | RouteKind::Broadcast | RouteKind::Multicast | RouteKind::Other => {
            let hop = route.hops.iter().find(|hop| leads(route, hop))?;
            Some(Answer::By { route, hop })
        }
    }
}

/// IPv6's routes without a metric count as 1024 (IP6_RT_PRIO_USER).
fn metric(route: &Route) -> u32 {
    if route.metric == 0 && route.destination.address.is_ipv6() { 1024 } else { route.metric }
}

fn applies(space: &Space, rule: &Rule, question: Question<'_>) -> bool {
    let mut fits = !rule.other;
    if let Some(from) = rule.from {
        fits &= question.source.is_some_and(|source| from.contains(source));
    }
    if let Some(to) = rule.to {
        fits &= to.contains(question.destination);
    }
    if let Some(iif) = &rule.iif {
        // What begins on the host itself comes in by `lo`.
        fits &= question.iif.unwrap_or("lo") == iif;
    }
    fits &= rule.oif.is_none();
    if let Some((mark, mask)) = rule.mark {
        fits &= question.mark & mask == mark & mask;
    }
    if rule.l3mdev {
        fits &= vrf_table(space, question).is_some();
    }
    fits != rule.invert
}

/// The table of the VRF that the packet came in by.
fn vrf_table(space: &Space, question: Question<'_>) -> Option<u32> {
    let master = space.link_named(question.iif?)?.master?;
    match space.link(master)?.details {
        Details::Vrf { table } => Some(table),
        Details::None
        | Details::Bridge(_)
        | Details::Vlan(_)
        | Details::Tunnel(_)
        | Details::Macvlan(_)
        | Details::Ipvlan(_)
        | Details::Tun { .. } => None,
    }
}

/// The rule in `ip rule`'s words.
pub(crate) fn rule_row(rule: &Rule) -> String {
    let mut row = format!("{}:{} from ", rule.priority, if rule.invert { " not" } else { "" });
    row.push_str(&rule.from.map_or_else(|| "all".to_owned(), |from| from.to_string()));
    if let Some(to) = rule.to {
        row.push_str(&format!(" to {to}"));
    }
    if let Some((mark, mask)) = rule.mark {
        row.push_str(&format!(" fwmark {mark:#x}/{mask:#x}"));
    }
    for (key, name) in [("iif", &rule.iif), ("oif", &rule.oif)] {
        if let Some(name) = name {
            row.push_str(&format!(" {key} {name}"));
        }
    }
    row.push_str(&match rule.action {
        RuleAction::Table(LOCAL) => " lookup local".to_owned(),
        RuleAction::Table(MAIN) => " lookup main".to_owned(),
        RuleAction::Table(DEFAULT) => " lookup default".to_owned(),
        RuleAction::Table(table) => format!(" lookup {table}"),
        RuleAction::Goto(priority) => format!(" goto {priority}"),
        RuleAction::Nop => " nop".to_owned(),
        RuleAction::Blackhole => " blackhole".to_owned(),
        RuleAction::Unreachable => " unreachable".to_owned(),
        RuleAction::Prohibit => " prohibit".to_owned(),
    });
    row
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn space() -> Space {
        serde_json::from_value(json!({
            "links": [{"index": 1, "name": "lo"}, {"index": 2, "name": "eth0"}, {"index": 3, "name": "eth1"}],
            "rules": [
                {"priority": 0, "ipv6": false, "action": {"table": 255}},
                {"priority": 100, "ipv6": false, "from": "10.9.0.0/16", "action": {"table": 100}},
                {"priority": 200, "ipv6": false, "mark": [1, 1], "action": "prohibit"},
                {"priority": 32766, "ipv6": false, "action": {"table": 254}},
            ],
            "routes": [
                {"table": 255, "destination": "10.0.0.1/32", "kind": "local", "hops": [{"link": 2}]},
                {"table": 254, "destination": "0.0.0.0/0", "hops": [{"link": 2, "via": "10.0.0.254"}]},
                {"table": 254, "destination": "10.1.0.0/16", "hops": [{"link": 3, "dead": true}]},
                {"table": 254, "destination": "10.2.0.0/16", "metric": 20, "hops": [{"link": 2}]},
                {"table": 254, "destination": "10.2.0.0/16", "metric": 10, "hops": [{"link": 3}]},
                {"table": 254, "destination": "10.3.0.0/16", "kind": "blackhole"},
                {"table": 100, "destination": "10.4.0.0/16", "kind": "throw"},
                {"table": 100, "destination": "0.0.0.0/0", "hops": [{"link": 3}]},
            ],
        }))
        .unwrap()
    }

    fn link_to(destination: &str, source: Option<&str>) -> String {
        let space = space();
        let source = source.map(|source| source.parse().unwrap());
        let question = Question { destination: destination.parse().unwrap(), source, iif: None, mark: 0 };
        match lookup(&space, question) {
            Answer::Local => "local".to_owned(),
            Answer::By { hop, .. } => space.link_name(hop.link),
            Answer::Refused(route) => route.kind.to_string(),
            Answer::RuleRefused(rule) => rule_row(rule),
            Answer::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn the_longest_prefix_that_lives_wins_and_then_the_smallest_metric() {
        assert_eq!(link_to("10.0.0.1", None), "local");
        assert_eq!(link_to("10.1.0.1", None), "eth0", "the better route is dead");
        assert_eq!(link_to("10.2.0.1", None), "eth1");
        assert_eq!(link_to("10.3.0.1", None), "blackhole");
        assert_eq!(link_to("2001:db8::1", None), "nothing");
    }

    #[test]
    fn rules_choose_the_table() {
        assert_eq!(link_to("10.2.0.1", Some("10.9.1.1")), "eth1", "by the default route of table 100");
        assert_eq!(link_to("10.4.0.1", Some("10.9.1.1")), "eth0", "thrown back to the next rule");
        let space = space();
        let marked = Question { destination: [10, 2, 0, 1].into(), source: None, iif: None, mark: 3 };
        let Answer::RuleRefused(rule) = lookup(&space, marked) else { panic!("the rule of the mark") };
        assert_eq!(rule_row(rule), "200: from all fwmark 0x1/0x1 prohibit");
    }
}
