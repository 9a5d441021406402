//! The way that cables, bridges and tunnels would have, whatever their state: by it, the end of a frame that matters is told
//! from those that don't.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use crate::doctor::{
    survey::{Survey, values::Details},
    world::{At, Other},
};

/// The interfaces from one to another, both included; `None`: nothing connects them.
pub(super) fn path(survey: &Survey, from: At, to: At) -> Option<Vec<At>> {
    let mut best: BTreeMap<At, (u32, At)> = BTreeMap::from([(from, (0, from))]);
    let mut queue = BinaryHeap::from([Reverse((0, from))]);
    while let Some(Reverse((cost, at))) = queue.pop() {
        if at == to {
            let mut way = vec![at];
            while let Some((_, previous)) = best.get(way.last()?).filter(|(_, previous)| Some(previous) != way.last()) {
                way.push(*previous);
            }
            way.reverse();
            return Some(way);
        }
        for (next, step) in beside(survey, at) {
            let cost = cost + step;
            if best.get(&next).is_none_or(|(known, _)| cost < *known) {
                best.insert(next, (cost, at));
                queue.push(Reverse((cost, next)));
            }
        }
    }
    None
}

/// What is one step away, and how far: a tunnel to another network is further than any way that keeps to one.
fn beside(survey: &Survey, at: At) -> Vec<(At, u32)> {
    const NEAR: u32 = 1;
    const FAR: u32 = 100;
    let link = survey.link(at);
    let mut found = Vec::new();
    if !matches!(link.details, Details::Tunnel(_))
        && let Other::At(other) = survey.other(at)
    {
        found.push((other, NEAR));
    }
    found.extend(survey.children(at).into_iter().map(|child| (child, NEAR)));
    if matches!(link.details, Details::Bridge(_)) {
        found.extend(survey.ports(at).into_iter().map(|port| (port, NEAR)));
    }
    found.extend(survey.bridge_of(at).map(|bridge| (bridge, NEAR)));
    let mut vni = None;
    if let Details::Tunnel(tunnel) = &link.details {
        vni = Some(tunnel.vni);
    }
    if let Some(port) = survey.weft_port(at)
        && let Some(state) = survey.weft(port.weft)
    {
        let bridges = state.bridges.iter().filter(|bridge| bridge.ports.contains(&state.ports[port.port].name));
        for bridge in bridges {
            let ports = bridge.ports.iter().filter_map(|name| survey.weft_port_link(port.weft, name));
            found.extend(ports.filter(|other| *other != at).map(|other| (other, NEAR)));
            if bridge.vni.is_some() {
                vni = Some(bridge.vni);
            }
        }
    }
    if let Some(vni) = vni {
        let distance = |other: Option<u32>| if other == vni { NEAR } else { FAR };
        for (other, _, tunnel) in survey.tunnels().filter(|(other, ..)| other.space != at.space) {
            found.push((other, distance(tunnel.vni)));
        }
        for (weft, state) in survey.wefts() {
            for bridge in state.bridges.iter().filter(|bridge| bridge.vni.is_some()) {
                let ports = bridge.ports.iter().filter_map(|name| survey.weft_port_link(weft, name));
                found.extend(ports.map(|port| (port, distance(bridge.vni))));
            }
        }
    }
    found
}
