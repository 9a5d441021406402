//! A page that shows every namespace, its interfaces, and how they hang together, for `weft map`.
//!
//! A [`Page`] is made of a survey: boxes with rows, and lines between rows. [`Page::text`] and [`svg::draw`] show it.

mod svg;
mod text;

use std::net::IpAddr;

use serde::Serialize;

pub(crate) use self::svg::draw;
use super::{
    survey::{
        Survey,
        values::{Details, Link, PortPhase, Tunnel},
    },
    world::{At, Other, WeftAt},
};

/// Everything that is drawn.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Page {
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) lines: Vec<Line>,
}

/// A namespace: a box.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Namespace {
    pub(crate) name: String,
    /// `net:[4026531840], 3 processes`.
    pub(crate) about: String,
    pub(crate) rows: Vec<Row>,
}

/// An interface, or a bridge of a weft.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// Its place in lines; `namespace/interface`.
    pub(crate) label: String,
    /// 1: below the bridge or interface that it belongs to.
    pub(crate) depth: usize,
    pub(crate) up: bool,
    /// Addresses, kind, MTU where it is not 1500.
    pub(crate) words: String,
}

/// What hangs together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) kind: LineKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LineKind {
    /// A veth pair.
    Cable,
    /// A VLAN, macvlan or ipvlan, and what it rests on in another namespace.
    Rests,
    /// A port of a weft.
    Port,
    /// VTEPs of one network that know each other.
    Tunnel,
}

impl Page {
    pub(crate) fn of(survey: &Survey) -> Self {
        let mut namespaces: Vec<_> = (0..survey.spaces.len()).map(|index| namespace(survey, index)).collect();
        namespaces.sort_by(|one, other| one.name.cmp(&other.name));
        Self { namespaces, lines: lines(survey) }
    }
}

fn namespace(survey: &Survey, index: usize) -> Namespace {
    let space = survey.space(index);
    let mut rows = Vec::new();
    let at = |link: &Link| At { space: index, link: link.index };
    let is_top = |link: &&Link| {
        let below = matches!(link.kind.as_str(), "vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap");
        let parent_is_here = matches!(survey.other(at(link)), Other::At(parent) if parent.space == index);
        !link.loopback && link.master.is_none() && !(below && parent_is_here)
    };
    for link in space.links.iter().filter(is_top) {
        rows.push(row(survey, at(link), 0));
        let ports = space.links.iter().filter(|port| port.master == Some(link.index)).map(at);
        for below in ports.chain(survey.children(at(link)).into_iter().filter(|child| child.space == index)) {
            rows.push(row(survey, below, 1));
        }
    }
    for (number, weft) in space.wefts.iter().enumerate() {
        let of = WeftAt { space: index, number };
        for bridge in weft.state.iter().flat_map(|state| &state.bridges) {
            let vni = bridge.vni.map(|vni| format!(" VNI {vni}")).unwrap_or_default();
            rows.push(Row {
                name: bridge.name.clone(),
                label: weft_label(survey, of, &bridge.name),
                depth: 0,
                up: true,
                words: format!("weft bridge{vni}"),
            });
        }
    }
    let processes = match space.processes.len() {
        0 => String::new(),
        1 => format!(", {}", space.processes[0].name),
        many => format!(", {many} processes"),
    };
    Namespace { name: space.label(), about: format!("net:[{}]{processes}", space.inode), rows }
}

fn row(survey: &Survey, at: At, depth: usize) -> Row {
    let space = survey.space(at.space);
    let link = survey.link(at);
    let mut words: Vec<String> = Vec::new();
    let kind = match &link.details {
        Details::Bridge(_) => "bridge".to_owned(),
        Details::Vlan(vlan) => format!("VLAN {}", vlan.id),
        Details::Tunnel(tunnel) => format!("{} {}", link.kind, tunnel.words()),
        Details::Macvlan(mode) => format!("macvlan {mode}"),
        Details::Ipvlan(ipvlan) => format!("ipvlan {}", ipvlan.mode),
        Details::Vrf { table } => format!("vrf table {table}"),
        Details::Tun { tap: true } => "tap".to_owned(),
        Details::Tun { tap: false } => "tun".to_owned(),
        Details::None if link.kind == "veth" => String::new(),
        Details::None => link.kind.clone(),
    };
    words.extend(Some(kind).filter(|kind| !kind.is_empty()));
    let addresses = space.addresses_of(at.link).filter(|address| !address.link_local);
    words.extend(addresses.map(|address| address.prefix.to_string()));
    const USUAL_MTU: u32 = 1500;
    if link.mtu != USUAL_MTU {
        words.push(format!("mtu {}", link.mtu));
    }
    if let Some(port) = link.port.as_ref().filter(|port| port.state != PortPhase::Forwarding) {
        words.push(port.state.name().to_owned());
    }
    match (link.up, link.carrier) {
        (false, _) => words.push("DOWN".to_owned()),
        (true, false) => words.push("no carrier".to_owned()),
        (true, true) => {}
    }
    Row {
        name: link.name.clone(),
        label: survey.label(at),
        depth,
        up: link.up && link.carrier,
        words: words.join(", "),
    }
}

fn weft_label(survey: &Survey, weft: WeftAt, bridge: &str) -> String {
    format!("{}#{}/{bridge}", survey.space(weft.space).label(), weft.number)
}

fn lines(survey: &Survey) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut add = |from: String, to: String, kind| lines.push(Line { from, to, kind });
    for (at, link) in survey.all() {
        let Other::At(other) = survey.other(at) else { continue };
        match &link.details {
            Details::None if link.kind == "veth" => {
                if at < other {
                    add(survey.label(at), survey.label(other), LineKind::Cable);
                }
            }
            Details::Vlan(_) | Details::Macvlan(_) | Details::Ipvlan(_) if other.space != at.space => {
                add(survey.label(at), survey.label(other), LineKind::Rests);
            }
            Details::None
            | Details::Bridge(_)
            | Details::Vlan(_)
            | Details::Tunnel(_)
            | Details::Macvlan(_)
            | Details::Ipvlan(_)
            | Details::Vrf { .. }
            | Details::Tun { .. } => {}
        }
    }
    for (weft, state) in survey.wefts() {
        for bridge in &state.bridges {
            for port in bridge.ports.iter().filter_map(|name| survey.weft_port_link(weft, name)) {
                add(weft_label(survey, weft, &bridge.name), survey.label(port), LineKind::Port);
            }
        }
    }
    let ends = tunnel_ends(survey);
    for (place, one) in ends.iter().enumerate() {
        for other in &ends[place + 1..] {
            let know =
                |one: &TunnelEnd, other: &TunnelEnd| other.local.is_some_and(|local| one.remotes.contains(&local));
            if one.vni == other.vni && (know(one, other) || know(other, one)) {
                add(one.label.clone(), other.label.clone(), LineKind::Tunnel);
            }
        }
    }
    lines
}

struct TunnelEnd {
    label: String,
    vni: Option<u32>,
    local: Option<IpAddr>,
    remotes: Vec<IpAddr>,
}

fn tunnel_ends(survey: &Survey) -> Vec<TunnelEnd> {
    let of_device = |(at, _, tunnel): (At, &Link, &Tunnel)| {
        let fdb = survey.space(at.space).fdb.iter().filter(|entry| entry.link == at.link);
        let remotes = fdb.filter_map(|entry| entry.remote).chain(tunnel.remote);
        TunnelEnd { label: survey.label(at), vni: tunnel.vni, local: tunnel.local, remotes: remotes.collect() }
    };
    let mut ends: Vec<_> = survey.tunnels().map(of_device).collect();
    for (weft, state) in survey.wefts() {
        for bridge in state.bridges.iter().filter(|bridge| bridge.vni.is_some()) {
            ends.push(TunnelEnd {
                label: weft_label(survey, weft, &bridge.name),
                vni: bridge.vni,
                local: state.mtu.underlay.as_ref().map(|underlay| underlay.address),
                remotes: bridge.remotes.iter().map(|remote| remote.ip()).collect(),
            });
        }
    }
    ends
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A bridge `br0` in `switch` with a cable to `left`, and a VLAN of `left`'s.
    pub(crate) fn survey() -> Survey {
        serde_json::from_value(json!({"spaces": [
            {"inode": 1, "names": ["switch"], "ids": {"0": 2}, "links": [
                {"index": 1, "name": "lo", "loopback": true, "up": true, "carrier": true},
                {"index": 2, "name": "br0", "kind": "bridge", "details": {"bridge": {}}, "up": true, "carrier": true, "mtu": 1500},
                {"index": 3, "name": "p1", "kind": "veth", "master": 2, "lower": 2, "lower_netns": 0, "port": {},
                    "up": true, "carrier": true, "mtu": 1500}],
                "processes": [{"pid": 7, "name": "sleep"}]},
            {"inode": 2, "names": ["left"], "ids": {"0": 1}, "links": [
                {"index": 2, "name": "eth0", "kind": "veth", "lower": 3, "lower_netns": 0, "up": true, "carrier": true, "mtu": 1400},
                {"index": 3, "name": "eth0.7", "kind": "vlan", "lower": 2, "details": {"vlan": {"id": 7}}, "mtu": 1400}],
                "addresses": [{"link": 2, "prefix": "10.0.0.1/24"}]},
        ]}))
        .unwrap()
    }

    #[test]
    fn boxes_rows_and_lines_are_what_the_survey_says() {
        let page = Page::of(&survey());
        assert_eq!(page.lines, [Line { from: "switch/p1".into(), to: "left/eth0".into(), kind: LineKind::Cable }]);
        let rows: Vec<_> =
            page.namespaces[0].rows.iter().map(|row| (row.name.as_str(), row.depth, row.words.as_str())).collect();
        assert_eq!(rows, [("eth0", 0, "10.0.0.1/24, mtu 1400"), ("eth0.7", 1, "VLAN 7, mtu 1400, DOWN")]);
        assert_eq!(page.namespaces[1].about, "net:[1], sleep");
        assert_eq!(page.namespaces[1].rows[1].depth, 1, "a port below its bridge");
    }
}
