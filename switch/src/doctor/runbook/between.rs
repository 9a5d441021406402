//! Step 4: what stands between the interfaces: bridges and their ports, forwarding, filters and translation, queues.

use std::collections::BTreeSet;

use super::{Focus, count};
use crate::doctor::{
    Finding,
    step::{Step, Trouble},
    survey::{
        Survey,
        values::{Details, PortPhase, Space},
    },
    world::{At, Other},
};

pub(super) fn step(survey: &Survey, focus: &Focus) -> Step {
    let mut step = Step::new(4, "bridges, forwarding, filters");
    let (mut bridges, mut rules, mut forwarding) = (0, 0, Vec::new());
    for index in concerned(survey, focus) {
        let space = survey.space(index);
        bridges += of_bridges(&mut step, survey, index);
        if space.sysctl("net/ipv4/ip_forward") == Some(1) {
            forwarding.push(space.label());
        }
        of_forwarding(&mut step, space);
        rules += of_filters(&mut step, space);
        of_queues(&mut step, survey, index);
        of_connections(&mut step, space);
        of_programs(&mut step, survey, index);
    }
    let mut words = vec![count(bridges, "bridge", "bridges"), count(rules, "rule of nftables", "rules of nftables")];
    words.push(match forwarding.as_slice() {
        [] => "nobody forwards".to_owned(),
        [one] => format!("{one} forwards"),
        many => format!("{} forward", count(many.len(), "namespace", "namespaces")),
    });
    if !focus.moved.is_empty() {
        let rows: usize = focus.moved.iter().map(|evidence| evidence.rows.len()).sum();
        words.push(count(rows, "counter moved", "counters moved"));
        step.evidence.extend(focus.moved.clone());
    }
    step.summary = words.join(", ");
    step.judged()
}

/// The namespaces looked at, and those that their interfaces lead to.
fn concerned(survey: &Survey, focus: &Focus) -> BTreeSet<usize> {
    let mut found: BTreeSet<usize> = focus.spaces.iter().copied().collect();
    for (at, _) in survey.all().filter(|(at, _)| focus.spaces.contains(&at.space)) {
        if let Other::At(other) = survey.other(at) {
            found.insert(other.space);
        }
    }
    found
}

fn of_bridges(step: &mut Step, survey: &Survey, index: usize) -> usize {
    let space = survey.space(index);
    let mut number = 0;
    for link in &space.links {
        let Details::Bridge(bridge) = &link.details else { continue };
        number += 1;
        let at = At { space: index, link: link.index };
        let mut row = format!("{}:", link.name);
        for (flag, word) in
            [(bridge.stp, "stp"), (bridge.vlan_filtering, "vlan_filtering"), (bridge.snooping, "mcast_snooping")]
        {
            if flag {
                row.push_str(&format!(" {word}"));
            }
        }
        let mut rows = vec![row];
        for port in survey.ports(at) {
            let it = survey.link(port);
            let Some(options) = &it.port else { continue };
            let mut row = format!("  {} {}", it.name, options.state.name());
            for (differs, word) in [
                (options.isolated, " isolated"),
                (options.locked, " locked"),
                (!options.learning, " learning off"),
                (!options.flood, " flood off"),
                (!options.bcast_flood, " bcast_flood off"),
                (!it.up, " DOWN"),
            ] {
                if differs {
                    row.push_str(word);
                }
            }
            rows.push(row);
            if it.up && options.state != PortPhase::Forwarding {
                let text = format!("{} is in the state {}", it.name, options.state.name());
                let trouble = Trouble::new(Finding::BridgePortBlocked, survey.label(port), text).warning();
                let command = space.inside(&format!("bridge -d link show dev {}", it.name));
                let row = format!("{} state {}", it.name, options.state.name());
                step.troubles.push(trouble.row(&command, row).next(command));
            }
        }
        step.evidence(space.inside("bridge -d link"), rows);
        let entries = space.fdb.iter().filter(|entry| entry.master && !entry.local);
        let ports = survey.ports(at);
        let entries = entries.filter(|entry| ports.iter().any(|port| port.link == entry.link));
        let rows: Vec<_> = entries
            .map(|entry| {
                let vlan = entry.vlan.map(|vlan| format!(" vlan {vlan}")).unwrap_or_default();
                let kind = if entry.fixed { " static" } else { "" };
                format!("{} dev {}{vlan}{kind}", entry.mac.0, space.link_name(entry.link))
            })
            .collect();
        step.evidence(space.inside(&format!("bridge fdb show br {}", link.name)), rows);
        if bridge.vlan_filtering {
            let rows = survey.ports(at).into_iter().map(|port| {
                let it = survey.link(port);
                let vlans = it.port.iter().flat_map(|port| &port.vlans);
                let word = |vlan: &crate::doctor::survey::values::PortVlan| {
                    format!(
                        "{}{}{}",
                        vlan.id,
                        if vlan.pvid { " PVID" } else { "" },
                        if vlan.untagged { " untagged" } else { "" }
                    )
                };
                format!("{} {}", it.name, vlans.map(word).collect::<Vec<_>>().join(", "))
            });
            step.evidence(space.inside("bridge vlan"), rows.collect::<Vec<_>>());
        }
        let groups = space.groups.iter().filter(|group| group.bridge == link.index);
        let rows: Vec<_> =
            groups.map(|group| format!("{} port {}", group.group, space.link_name(group.port))).collect();
        step.evidence(space.inside(&format!("bridge mdb show dev {}", link.name)), rows);
    }
    number
}

fn of_forwarding(step: &mut Step, space: &Space) {
    let mut rows = Vec::new();
    for key in ["net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter", "net/bridge/bridge-nf-call-iptables"] {
        if let Some(value) = space.sysctls.get(key) {
            rows.push(format!("{} = {value}", key.replace('/', ".")));
        }
    }
    for link in space.links.iter().filter(|link| !link.loopback) {
        for key in ["rp_filter", "proxy_arp"] {
            let value = space.own(link, key);
            if value != 0 {
                rows.push(format!("net.ipv4.conf.{}.{key} = {value}", link.name));
            }
        }
    }
    step.evidence(space.inside("sysctl -a"), rows);
    if let Some(drops) = space.counters.get("TcpExt.IPReversePathFilter").filter(|drops| **drops > 0) {
        step.evidence(space.inside("nstat -a"), [format!("TcpExtIPReversePathFilter {drops}")]);
    }
}

fn of_filters(step: &mut Step, space: &Space) -> usize {
    for table in ["nft", "iptables-legacy"] {
        if let Some(why) = space.unread.get(table) {
            step.unknown.push(format!("filters of {}: {why}", space.label()));
        }
    }
    let Some(ruleset) = &space.nft else { return 0 };
    let mut number = 0;
    let mut rows = Vec::new();
    for chain in &ruleset.chains {
        number += chain.rules.len();
        if chain.is_base() && (chain.policy == "drop" || !chain.rules.is_empty()) {
            rows.push(format!("{}: {} at {}, policy {}", chain.path(), chain.kind, chain.hook, chain.policy));
        }
        let drops = |rule: &crate::doctor::survey::nft::Rule| {
            rule.expr
                .iter()
                .any(|expr| ["drop", "reject", "masquerade", "snat", "dnat"].iter().any(|it| expr.get(it).is_some()))
        };
        rows.extend(chain.rules.iter().filter(|rule| drops(rule)).map(|rule| format!("  {}", rule.words())));
    }
    step.evidence(space.inside("nft list ruleset"), rows);
    number
}

fn of_queues(step: &mut Step, survey: &Survey, index: usize) {
    let space = survey.space(index);
    for qdisc in &space.qdiscs {
        let at = At { space: index, link: qdisc.link };
        let name = space.link_name(qdisc.link);
        let command = space.inside(&format!("tc -s qdisc show dev {name}"));
        if let Some(loss) = qdisc.loss.filter(|loss| *loss > 0) {
            let share = f64::from(loss) / f64::from(u32::MAX) * 100.0;
            let text = format!("its qdisc netem loses {share:.1} % of what is sent by {name}");
            let row = format!("qdisc netem loss {share:.1}% dropped {}", qdisc.drops);
            let trouble = Trouble::new(Finding::QdiscLoss, survey.label(at), text).row(command, row);
            step.troubles.push(trouble.next(space.inside(&format!("tc qdisc del dev {name} root"))));
        } else if qdisc.drops > 0 {
            step.evidence(
                command,
                [format!("qdisc {} dropped {} backlog {}p", qdisc.kind, qdisc.drops, qdisc.backlog_packets)],
            );
        }
    }
    for filter in &space.filters {
        let name = space.link_name(filter.link);
        let what = match &filter.program {
            Some(program) => format!("program {} ({})", program.id, program.name),
            None => filter.actions.join(", "),
        };
        let way = if filter.ingress { "ingress" } else { "egress" };
        step.evidence(
            space.inside(&format!("tc filter show dev {name} {way}")),
            [format!("pref {} {} {what}", filter.priority, filter.kind)],
        );
    }
    for link in &space.links {
        let programs = link.tcx_ingress.iter().map(|program| ("tcx ingress", program));
        for (way, program) in programs.chain(link.tcx_egress.iter().map(|program| ("tcx egress", program))) {
            let row = format!("{} {way}: program {} ({})", link.name, program.id, program.name);
            step.evidence(space.inside("bpftool net"), [row]);
        }
    }
}

fn of_connections(step: &mut Step, space: &Space) {
    let Some(table) = space.conntrack else { return };
    let row = format!("nf_conntrack_count {} of nf_conntrack_max {}", table.count, table.limit);
    if table.count >= table.limit && table.limit > 0 {
        let text =
            format!("the table of connections is full ({} of {}): new ones are dropped", table.count, table.limit);
        let command = space.inside("sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max");
        step.troubles.push(Trouble::new(Finding::ConntrackFull, space.label(), text).row(command, row));
    } else if table.count > 0 {
        step.evidence(space.inside("sysctl net.netfilter"), [row]);
    }
}

/// Programs that send packets past the bridge by a map from addresses to interfaces.
fn of_programs(step: &mut Step, survey: &Survey, index: usize) {
    let space = survey.space(index);
    let at = |link: u32| At { space: index, link };
    let programs: Vec<_> =
        space.links.iter().filter_map(|link| Some((link, survey.program_at(at(link.index))?))).collect();
    for (link, program) in &programs {
        let command = space.inside(&format!("tc filter show dev {} ingress", link.name));
        for (address, target) in &program.targets {
            let row = format!("{}: {address} -> {}", link.name, space.link_name(*target));
            step.evidence(format!("bpftool map dump, of program {} ({})", program.id, program.name), [row.clone()]);
            let leads_to = match survey.other(at(*target)) {
                Other::At(other) => other.space,
                Other::OutOfSight | Other::None => continue,
            };
            let owners = survey.owners(*address);
            if !owners.is_empty() && owners.iter().all(|owner| owner.space != leads_to) {
                let text = format!(
                    "the map of the program at {} sends {address} to {}, and it is at {}",
                    link.name,
                    space.link_name(*target),
                    survey.label(owners[0])
                );
                let trouble = Trouble::new(Finding::EbpfMapWrong, survey.label(at(link.index)), text);
                step.troubles.push(trouble.row(&command, row).next(command.clone()));
            }
            if !programs.iter().any(|(other, _)| other.index == *target) && space.link(*target).is_some() {
                let name = space.link_name(*target);
                let text = format!(
                    "what is for {address} takes the shortcut to {name}, which has no program itself: its answers go another way"
                );
                let command = space.inside(&format!("tc filter show dev {name} ingress"));
                let trouble = Trouble::new(Finding::EbpfMissing, survey.label(at(*target)), text);
                step.troubles.push(trouble.row(&command, "(no filter)").next(command));
            }
        }
    }
}
