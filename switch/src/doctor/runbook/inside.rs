//! Step 2: addresses, routes, neighbours, sockets and their owners inside a namespace.

use super::{Focus, count, spaces};
use crate::doctor::{
    Finding,
    step::{Step, Trouble},
    survey::{
        Survey,
        values::{NeighbourState, Protocol, RouteKind, Space},
    },
    walk::socket_row,
    world::At,
};

pub(super) fn step(survey: &Survey, focus: &Focus) -> Step {
    let mut step = Step::new(2, "inside");
    let (mut addresses, mut routes, mut neighbours, mut sockets) = (0, 0, 0, 0);
    for (index, space) in spaces(survey, focus) {
        for table in ["netlink", "sockets"] {
            if let Some(why) = space.unread.get(table) {
                step.unknown.push(format!("{}: {table}: {why}", space.label()));
            }
        }
        let own: Vec<_> =
            space.addresses.iter().filter(|it| !it.prefix.address.is_loopback() && !it.link_local).collect();
        let outer: Vec<_> =
            space.routes.iter().filter(|it| is_worth_showing(it.table, it.kind, it.destination.address)).collect();
        addresses += own.len();
        routes += outer.len();
        neighbours += space.neighbours.len();
        sockets += space.sockets.iter().filter(|socket| socket.remote.is_none()).count();
        step.evidence(
            space.inside("ip link"),
            space.links.iter().filter(|it| !it.loopback).map(|it| space.link_row(it)).collect::<Vec<_>>(),
        );
        step.evidence(space.inside("ip address"), own.iter().map(|it| space.address_row(it)).collect::<Vec<_>>());
        step.evidence(
            space.inside("ip route show table all"),
            outer.iter().map(|it| space.route_row(it)).collect::<Vec<_>>(),
        );
        let rows = space.neighbours.iter().filter(|it| it.state != NeighbourState::Noarp || it.mac.is_some());
        let rows = rows.filter(|it| !is_group(it.address));
        step.evidence(
            space.inside("ip neighbour"),
            rows.map(|it| space.neighbour_row(it.link, it.address)).collect::<Vec<_>>(),
        );
        let rows = space.sockets.iter().filter(|socket| socket.remote.is_none() || socket.protocol == Protocol::Udp);
        step.evidence(space.inside("ss -lntup"), rows.map(socket_row).collect::<Vec<_>>());
        judge(&mut step, survey, index, space);
    }
    step.summary = [
        count(addresses, "address", "addresses"),
        count(routes, "route", "routes"),
        count(neighbours, "neighbour", "neighbours"),
        count(sockets, "socket that waits", "sockets that wait"),
    ]
    .join(", ");
    step.judged()
}

/// Not what the kernel has by itself for every address.
fn is_worth_showing(table: u32, kind: RouteKind, destination: std::net::IpAddr) -> bool {
    const LOCAL: u32 = 255;
    let link_local = matches!(destination, std::net::IpAddr::V6(it) if it.is_unicast_link_local() || it.is_multicast());
    table != LOCAL && kind != RouteKind::Multicast && !link_local
}

fn is_group(address: std::net::IpAddr) -> bool {
    address.is_multicast() || matches!(address, std::net::IpAddr::V4(address) if address.is_broadcast())
}

fn judge(step: &mut Step, survey: &Survey, index: usize, space: &Space) {
    for address in space.addresses.iter().filter(|address| address.dad_failed) {
        let at = At { space: index, link: address.link };
        let text =
            format!("{} is somebody else's already (duplicate address detection), and can't be used", address.prefix);
        let trouble = Trouble::new(Finding::AddressUnusable, survey.label(at), text);
        step.troubles.push(trouble.row(space.inside("ip address"), space.address_row(address)));
    }
    for entry in space.neighbours.iter().filter(|entry| entry.state == NeighbourState::Failed) {
        let at = At { space: index, link: entry.link };
        let text = format!("nobody answered for {} when it was last asked for", entry.address);
        let trouble = Trouble::new(Finding::NeighbourFailed, survey.label(at), text).warning();
        let row = space.neighbour_row(entry.link, entry.address);
        let next = format!("weft doctor --netns {} --to {}", space.label(), entry.address);
        step.troubles.push(trouble.row(space.inside("ip neighbour"), row).next(next));
    }
    for socket in space.sockets.iter().filter(|socket| socket.drops > 0) {
        let text = format!("the socket {} lost {} datagrams, its buffer being full", socket.local, socket.drops);
        step.evidence(space.inside("ss -lunpm"), [format!("{} ({text})", socket_row(socket))]);
    }
}
