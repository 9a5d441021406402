//! Which counters moved between two surveys: rules that packets meet now, and places where they are lost now.

use crate::doctor::{
    step::Evidence,
    survey::{Survey, values::Space},
};

/// The counters that are higher in the later survey, each with how much.
pub(crate) fn moved(before: &Survey, after: &Survey) -> Vec<Evidence> {
    let mut found = Vec::new();
    for later in &after.spaces {
        let Some(earlier) = before.by_inode(later.inode).map(|index| before.space(index)) else { continue };
        let rows: Vec<_> = rules(earlier, later).into_iter().chain(losses(earlier, later)).collect();
        if !rows.is_empty() {
            found.push(Evidence::new(format!("counters of {} that moved", later.label()), rows));
        }
    }
    found
}

/// Packets with wrong checksums that came to a namespace between two surveys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct WrongChecksums {
    /// The namespace's inode.
    pub(crate) space: u64,
    /// By nstat's name: `Udp.InCsumErrors`.
    pub(crate) counter: String,
    pub(crate) packets: u64,
}

/// The counters of wrong checksums.
pub(crate) const CHECKSUMS: [&str; 5] =
    ["Udp.InCsumErrors", "Udp6.InCsumErrors", "Tcp.InCsumErrors", "Icmp.InCsumErrors", "Icmp6.InCsumErrors"];

/// What came with wrong checksums between two surveys.
pub(crate) fn wrong_checksums(before: &Survey, after: &Survey) -> Vec<WrongChecksums> {
    let mut found = Vec::new();
    for later in &after.spaces {
        let Some(earlier) = before.by_inode(later.inode).map(|index| before.space(index)) else { continue };
        for counter in CHECKSUMS {
            let of = |space: &Space| space.counters.get(counter).copied().unwrap_or(0);
            let packets = of(later).saturating_sub(of(earlier));
            if packets > 0 {
                found.push(WrongChecksums { space: later.inode, counter: counter.to_owned(), packets });
            }
        }
    }
    found
}

fn rules(before: &Space, after: &Space) -> Vec<String> {
    let mut rows = Vec::new();
    for chain in after.nft.iter().flat_map(|ruleset| &ruleset.chains) {
        let mut known = before.nft.iter().flat_map(|ruleset| &ruleset.chains);
        let Some(earlier) = known.find(|it| it.path() == chain.path()) else { continue };
        for rule in &chain.rules {
            let was = earlier.rules.iter().find(|it| it.handle == rule.handle).and_then(|it| it.packets());
            if let (Some(was), Some(is)) = (was, rule.packets())
                && is > was
            {
                rows.push(format!("+{} packets {}: {}", is - was, chain.path(), rule.words()));
            }
        }
    }
    rows
}

fn losses(before: &Space, after: &Space) -> Vec<String> {
    let mut rows = Vec::new();
    let mut add = |was: u64, is: u64, what: String| {
        if is > was {
            rows.push(format!("+{} {what}", is - was));
        }
    };
    for link in &after.links {
        let Some(earlier) = before.link(link.index) else { continue };
        for (was, is, what) in [
            (earlier.stats.rx_dropped, link.stats.rx_dropped, "rx dropped"),
            (earlier.stats.tx_dropped, link.stats.tx_dropped, "tx dropped"),
            (earlier.stats.rx_errors, link.stats.rx_errors, "rx errors"),
            (earlier.stats.tx_errors, link.stats.tx_errors, "tx errors"),
        ] {
            add(was, is, format!("{what} of {}", link.name));
        }
    }
    for qdisc in &after.qdiscs {
        let same = |it: &&crate::doctor::survey::values::Qdisc| (it.link, it.handle) == (qdisc.link, qdisc.handle);
        let was = before.qdiscs.iter().find(same).map_or(qdisc.drops, |it| it.drops);
        add(
            was.into(),
            qdisc.drops.into(),
            format!("dropped by the qdisc {} of {}", qdisc.kind, after.link_name(qdisc.link)),
        );
    }
    for (name, is) in after.counters.iter().filter(|(name, _)| *name != "Ip.ForwDatagrams") {
        add(before.counters.get(name).copied().unwrap_or(*is), *is, name.replace('.', ""));
    }
    for weft in &after.wefts {
        let earlier = before.wefts.iter().find(|it| it.pid == weft.pid).and_then(|it| it.state.as_ref());
        let (Some(earlier), Some(state)) = (earlier, &weft.state) else { continue };
        for drop in &state.drops {
            let same = earlier
                .drops
                .iter()
                .find(|it| (&it.name, &it.reason, it.direction) == (&drop.name, &drop.reason, drop.direction));
            add(
                same.map_or(0, |it| it.frames),
                drop.frames,
                format!("frames dropped by weft at {}: {}", drop.name, drop.reason),
            );
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn survey(packets: u64, dropped: u64) -> Survey {
        serde_json::from_value(json!({"spaces": [{"inode": 7, "names": ["left"],
            "links": [{"index": 2, "name": "eth0", "stats": {"rx_dropped": dropped}}],
            "counters": {"TcpExt.IPReversePathFilter": dropped},
            "nft": {"chains": [{"family": "inet", "table": "f", "name": "input", "rules": [
                {"handle": 4, "expr": [{"counter": {"packets": packets, "bytes": 0}}, {"drop": null}]}]}]}}]}))
        .unwrap()
    }

    #[test]
    fn what_moved_is_told_with_how_much() {
        let found = moved(&survey(3, 1), &survey(10, 2));
        assert_eq!(found[0].source, "counters of left that moved");
        assert_eq!(
            found[0].rows,
            [
                "+7 packets inet f input: counter packets 10 bytes 0 drop",
                "+1 rx dropped of eth0",
                "+1 TcpExtIPReversePathFilter"
            ]
        );
        assert!(moved(&survey(3, 1), &survey(3, 1)).is_empty());
    }
}
