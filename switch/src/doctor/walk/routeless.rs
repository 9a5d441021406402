//! The address that a packet is sent from, and why there is no route for it: often for another reason than a route that somebody
//! forgot.

use std::net::IpAddr;

use super::{
    Stop, Walker,
    packet::Packet,
    path,
    route::{self, Answer, Question},
};
use crate::doctor::{
    Finding,
    step::Trouble,
    survey::values::{Address, Route, RouteKind, RuleAction, Space},
    world::{At, Other},
};

impl Walker<'_> {
    /// The address that a namespace sends to another one from.
    pub(super) fn source_for(&self, space: usize, to: IpAddr) -> Result<IpAddr, Stop> {
        let here = self.survey.space(space);
        let question = Question { destination: to, source: None, iif: None, mark: 0 };
        let usable = |it: &&Address| it.prefix.address.is_ipv6() == to.is_ipv6() && !it.dad_failed;
        let (route, link) = match route::lookup(here, question) {
            Answer::Local => return Ok(to),
            Answer::By { route, hop } => (route, hop.link),
            Answer::Refused(route) => return Err(self.refused(space, route, Packet::echo(to, to, 84)).into()),
            Answer::RuleRefused(_) | Answer::Nothing => return Err(self.no_route(space, to, None).into()),
        };
        if let Some(source) = route.source {
            return Ok(source);
        }
        let own: Vec<_> = here.addresses_of(link).filter(usable).collect();
        let best = own.iter().find(|it| it.prefix.contains(to)).or_else(|| own.iter().find(|it| !it.link_local));
        let any = || here.addresses.iter().filter(usable).find(|it| !it.link_local && !it.prefix.address.is_loopback());
        match best.copied().or_else(any) {
            Some(address) if address.tentative => {
                let at = At { space, link: address.link };
                let text = format!("{} is still looked into for duplicates, and can't be used", address.prefix);
                let row = here.address_row(address);
                Err(Trouble::new(Finding::AddressUnusable, self.at(at), text)
                    .row(here.inside("ip address"), row)
                    .into())
            }
            Some(address) => Ok(address.prefix.address),
            None => {
                let text = format!("{} has no address to send to {to} from", here.label());
                let rows: Vec<_> =
                    here.links.iter().filter(|link| !link.loopback).map(|link| here.link_row(link)).collect();
                let trouble = Trouble::new(Finding::AddressMissing, self.at(At { space, link }), text)
                    .rows(here.inside("ip link"), rows);
                Err(trouble.next(here.inside("ip address")).into())
            }
        }
    }

    pub(super) fn refused(&self, space: usize, route: &Route, packet: Packet) -> Trouble {
        const USUAL: [u32; 3] = [253, 254, 255];
        let here = self.survey.space(space);
        if !USUAL.contains(&route.table) {
            let text = format!(
                "a rule of {} sends {packet} to the table {}, where a route drops it",
                here.label(),
                route.table
            );
            let rules = here.rules.iter().filter(|rule| rule.action == RuleAction::Table(route.table));
            return Trouble::new(Finding::RuleDiverts, here.label(), text)
                .rows(here.inside("ip rule"), rules.map(route::rule_row).collect::<Vec<_>>())
                .row(here.inside(&format!("ip route show table {}", route.table)), here.route_row(route))
                .next(here.inside("ip rule"));
        }
        let what = match route.kind {
            RouteKind::Blackhole => "without a word",
            RouteKind::Prohibit | RouteKind::Unreachable => "with an ICMP error",
            RouteKind::Unicast
            | RouteKind::Local
            | RouteKind::Broadcast
            | RouteKind::Anycast
            | RouteKind::Multicast
            | RouteKind::Throw
            | RouteKind::Other => "as it says",
        };
        let text = format!("a route of {} drops what goes to {} {what}", here.label(), packet.destination);
        let row = here.route_row(route);
        Trouble::new(Finding::RouteBlackhole, here.label(), text)
            .row(here.inside("ip route"), &row)
            .next(here.inside(&format!("ip route del {row}")))
    }

    /// Why there is no route: often the cause is something else than a route that somebody forgot.
    pub(super) fn no_route(&self, space: usize, to: IpAddr, source: Option<IpAddr>) -> Trouble {
        let here = self.survey.space(space);
        let of_family = |address: &&Address| address.prefix.address.is_ipv6() == to.is_ipv6() && !address.link_local;
        let outer: Vec<_> = here.links.iter().filter(|link| !link.loopback).collect();
        if outer.is_empty() {
            let text = format!("{} has no interface but loopback", here.label());
            return Trouble::new(Finding::InterfaceMissing, here.label(), text)
                .rows(here.inside("ip link"), here.links.iter().map(|link| here.link_row(link)));
        }
        let holds = here.addresses.iter().filter(of_family).find(|address| address.prefix.contains(to));
        if let Some(address) = holds
            && let Some(link) = here.link(address.link)
            && !link.up
        {
            // Its routes went with it.
            return self.link_down(At { space, link: link.index });
        }
        if holds.is_none()
            && let Some(down) = outer.iter().find(|link| !link.up && here.addresses_of(link.index).next().is_some())
            && outer
                .iter()
                .filter(|link| link.up)
                .all(|link| !here.addresses_of(link.index).any(|address| of_family(&address)))
        {
            return self.link_down(At { space, link: down.index });
        }
        if let Some(trouble) = self.other_prefix(space, to) {
            return trouble;
        }
        if let Some(down) = outer.iter().find(|link| !link.up && self.would_lead(At { space, link: link.index }, to)) {
            return self.link_down(At { space, link: down.index });
        }
        if !here.addresses.iter().filter(of_family).any(|address| !address.prefix.address.is_loopback())
            && source.is_none()
        {
            let text = format!("{} has no address", here.label());
            return Trouble::new(Finding::AddressMissing, here.label(), text)
                .rows(here.inside("ip link"), outer.iter().map(|link| here.link_row(link)))
                .next(here.inside("ip address"));
        }
        let text = format!("{} has no route to {to}", here.label());
        Trouble::new(Finding::RouteMissing, here.label(), text)
            .rows(here.inside("ip route"), self.routes_rows(here, to.is_ipv6()))
            .next(here.inside(&format!("ip route get {to}")))
    }

    /// Whether what is at the other end of a cable knows a way on.
    fn would_lead(&self, at: At, to: IpAddr) -> bool {
        let Other::At(peer) = self.survey.other(at) else { return false };
        let there = self.survey.space(peer.space);
        let question = Question { destination: to, source: None, iif: None, mark: 0 };
        peer.space != at.space
            && match route::lookup(there, question) {
                Answer::Local => true,
                Answer::By { hop, .. } => hop.link != peer.link,
                Answer::Refused(_) | Answer::RuleRefused(_) | Answer::Nothing => false,
            }
    }

    pub(super) fn routes_rows(&self, space: &Space, ipv6: bool) -> Vec<String> {
        let routes = space.routes.iter().filter(|route| {
            route.table != 255 && route.destination.address.is_ipv6() == ipv6 && route.kind != RouteKind::Multicast
        });
        let rows: Vec<_> = routes.map(|route| space.route_row(route)).collect();
        if rows.is_empty() { vec!["(no routes)".to_owned()] } else { rows }
    }

    /// Somebody on the same segment whose prefix holds us, while ours does not hold him: one of the masks is wrong.
    fn other_prefix(&self, space: usize, to: IpAddr) -> Option<Trouble> {
        let here = self.survey.space(space);
        for owner in self.survey.owners(to) {
            let there = self.survey.space(owner.space);
            let theirs = there.addresses_of(owner.link).find(|address| address.prefix.address == to)?;
            for address in here
                .addresses
                .iter()
                .filter(|address| theirs.prefix.contains(address.prefix.address) && !address.prefix.contains(to))
            {
                let at = At { space, link: address.link };
                if owner.space == space || path::path(self.survey, at, owner).is_none() {
                    continue;
                }
                let text = format!(
                    "{} has {}, which does not hold {to}; {} has {}, which holds both",
                    self.at(at),
                    address.prefix,
                    self.at(owner),
                    theirs.prefix
                );
                let right = format!("{}/{}", address.prefix.address, theirs.prefix.len);
                return Some(
                    Trouble::new(Finding::PrefixMismatch, self.at(at), text)
                        .row(here.inside("ip address"), here.address_row(address))
                        .row(there.inside("ip address"), there.address_row(theirs))
                        .next(here.inside(&format!("ip address add {right} dev {}", here.link_name(address.link)))),
                );
            }
        }
        None
    }
}
