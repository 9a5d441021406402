//! From hop to hop as an IP packet: routes, filters, translation, forwarding, receiving.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    Stop, Walker,
    filter::{self, Outcome, Place},
    packet::Packet,
    path,
    route::{self, Answer, Question},
    tunnels::socket_row,
};
use crate::doctor::{
    Finding,
    step::Trouble,
    survey::values::{Address, Protocol, RouteKind, RuleAction, Space},
    world::{At, Other},
};

impl Walker<'_> {
    /// Carries a packet from a namespace to where it is received; gives that namespace and the packet as it is there.
    pub(super) fn carry(&mut self, from: usize, packet: Packet) -> Result<(usize, Packet), Stop> {
        // The default TTL of Linux; a longer way is a loop anyway.
        const TTL: usize = 64;
        let (mut space, mut packet) = (from, packet);
        let mut iif: Option<At> = None;
        let mut visited = BTreeSet::new();
        for _ in 0..TTL {
            let here = self.survey.space(space);
            if !visited.insert((space, iif, packet.source, packet.destination)) {
                let text = format!("{packet} comes by {} again: it goes round until its TTL ends", here.label());
                let question =
                    Question { destination: packet.destination, source: Some(packet.source), iif: None, mark: 0 };
                let trouble = Trouble::new(Finding::RouteLoop, here.label(), text);
                return Err(match route::lookup(here, question) {
                    Answer::By { route, .. } => trouble.row(here.inside("ip route"), here.route_row(route)).into(),
                    Answer::Local | Answer::Refused(_) | Answer::RuleRefused(_) | Answer::Nothing => trouble.into(),
                });
            }
            let name = iif.map(|at| here.link_name(at.link));
            let question = Question {
                destination: packet.destination,
                source: Some(packet.source),
                iif: name.as_deref(),
                mark: packet.mark,
            };
            let (route_row, out, neighbour) = match route::lookup(here, question) {
                Answer::Local => {
                    self.hook(space, "input", iif, None, &mut packet)?;
                    return Ok((space, packet));
                }
                Answer::By { route, hop } => {
                    let out = At { space, link: hop.link };
                    (here.route_row(route), out, hop.via.unwrap_or(packet.destination))
                }
                Answer::Refused(route) => return Err(self.refused(space, route, packet).into()),
                Answer::RuleRefused(rule) => {
                    let text = format!("a rule of policy routing drops {packet}");
                    let trouble = Trouble::new(Finding::RuleDiverts, here.label(), text)
                        .row(here.inside("ip rule"), route::rule_row(rule));
                    return Err(trouble.into());
                }
                Answer::Nothing => return Err(self.no_route(space, packet.destination, Some(packet.source)).into()),
            };
            match iif {
                None => self.hook(space, "output", None, Some(out), &mut packet)?,
                Some(iif) => {
                    self.forwards(space, iif, out, packet)?;
                    self.forwarders.push(out);
                    packet.ttl = self.one_hop_less(space, iif, packet)?;
                    self.hook(space, "forward", Some(iif), Some(out), &mut packet)?;
                }
            }
            self.note(here.label(), format!("route {route_row}"));
            self.hook(space, "postrouting", iif, Some(out), &mut packet)?;
            if let Some(back) = self.back_at_exit(space, packet) {
                self.note(here.label(), format!("translated back: now {} > {}", back.source, back.destination));
                packet = back;
            }
            packet.len = self.fits(space, out, iif.is_some(), packet)?;
            let arrived = self.reach_neighbour(out, neighbour, &mut packet)?;
            self.note(self.at(arrived), "arrives");
            (space, iif) = (arrived.space, Some(arrived));
            self.received(arrived, &mut packet)?;
        }
        let text = format!("{packet} goes round until its TTL ends");
        Err(Trouble::new(Finding::RouteLoop, self.survey.space(space).label(), text).into())
    }

    /// What a namespace does with a packet before it asks where it is to go.
    fn received(&mut self, at: At, packet: &mut Packet) -> Result<(), Stop> {
        let space = self.survey.space(at.space);
        if let Some(back) = self.back_at_entry(at.space, *packet) {
            if back.destination != packet.destination {
                self.note(space.label(), format!("translated back: now {} > {}", back.source, back.destination));
            }
            *packet = back;
        } else {
            self.conntrack_has_room(at.space)?;
            self.hook(at.space, "prerouting", Some(at), None, packet)?;
        }
        self.comes_by_the_right_interface(at, *packet)
    }

    /// Asks the filters of a hook, and does what they say.
    pub(super) fn hook(
        &mut self,
        space: usize,
        hook: &str,
        iif: Option<At>,
        oif: Option<At>,
        packet: &mut Packet,
    ) -> Result<(), Stop> {
        let here = self.survey.space(space);
        let Some(ruleset) = &here.nft else { return Ok(()) };
        let name = |at: Option<At>| at.map(|at| self.survey.link(at).name.as_str());
        let place = Place { hook, iif: name(iif), oif: name(oif), bridged: false, arp: false, frame: None };
        let passage = filter::pass(ruleset, place, *packet);
        let label = match (iif, oif) {
            (_, Some(at)) | (Some(at), None) => self.at(at),
            (None, None) => here.label(),
        };
        for (chain, rule) in passage.maybe {
            let mut trouble = self.dropped_by_rule(space, &label, chain, Some(rule), *packet);
            trouble.text = format!("depending on what doctor can't know, {}", trouble.text);
            // A limit that has dropped nothing so far is how limits are meant to be.
            if rule.packets() != Some(0) {
                self.warn(trouble);
            }
        }
        packet.mark = passage.mark;
        match passage.outcome {
            Outcome::Accept => Ok(()),
            Outcome::Drop { chain, rule } => Err(self.dropped_by_rule(space, &label, chain, rule, *packet).into()),
            Outcome::Translate { chain, rule, to } => {
                if let Some(translated) = self.translate(space, *packet, to, oif, iif) {
                    let (source, destination) = (translated.source, translated.destination);
                    self.note(label, format!("{} {}: now {source} > {destination}", chain.path(), rule.words()));
                    *packet = translated;
                }
                Ok(())
            }
        }
    }

    fn one_hop_less(&self, space: usize, iif: At, packet: Packet) -> Result<u8, Stop> {
        if packet.ttl > 1 {
            return Ok(packet.ttl - 1);
        }
        let here = self.survey.space(space);
        let text = format!("{packet} has no hops left at {}, which would have to pass it on", here.label());
        let row = format!("ttl {} at {}", packet.ttl, self.at(iif));
        Err(Trouble::new(Finding::TtlTooSmall, self.at(iif), text).row("the packet", row).into())
    }

    fn forwards(&self, space: usize, iif: At, out: At, packet: Packet) -> Result<(), Stop> {
        let here = self.survey.space(space);
        let link = self.survey.link(iif);
        if here.forwards(link, packet.is_ipv6()) {
            return Ok(());
        }
        if iif == out {
            let text =
                format!("{packet} is routed by {}, which is no router and would only send it back", here.label());
            let trouble = Trouble::new(Finding::RouteWrong, self.at(iif), text);
            let rows = [
                ("ip address", self.addresses_row(iif)),
                ("sysctl net.ipv4.ip_forward", "net.ipv4.ip_forward = 0".to_owned()),
            ];
            let trouble =
                rows.into_iter().fold(trouble, |trouble, (command, row)| trouble.row(here.inside(command), row));
            let sender = self.survey.owners(packet.source).first().map(|owner| self.survey.space(owner.space));
            return Err(match sender {
                Some(sender) => trouble
                    .rows(sender.inside("ip route"), self.routes_rows(sender, packet.is_ipv6()))
                    .next(sender.inside("ip route"))
                    .into(),
                None => trouble.into(),
            });
        }
        let key = if packet.is_ipv6() { "net.ipv6.conf.all.forwarding" } else { "net.ipv4.ip_forward" };
        let path = key.replace('.', "/");
        let own = format!("net.ipv4.conf.{}.forwarding", link.name);
        let value = |path: &str| here.sysctls.get(path).cloned().unwrap_or_else(|| "?".to_owned());
        let text = format!("{} is to pass {packet} on, and does not forward", here.label());
        let mut trouble = Trouble::new(Finding::ForwardingOff, self.at(iif), text)
            .row(here.inside("sysctl net.ipv4.ip_forward"), format!("{key} = {}", value(&path)));
        if !packet.is_ipv6() {
            let row = format!("{own} = {}", value(&format!("net/ipv4/conf/{}/forwarding", link.name)));
            trouble = trouble.row(here.inside("sysctl net.ipv4.ip_forward"), row);
        }
        Err(trouble.next(here.inside(&format!("sysctl -w {key}=1"))).into())
    }

    /// `net/ipv4/fib_frontend.c:__fib_validate_source`.
    fn comes_by_the_right_interface(&self, at: At, packet: Packet) -> Result<(), Stop> {
        let space = self.survey.space(at.space);
        let link = self.survey.link(at);
        if packet.is_ipv6() {
            return Ok(());
        }
        let name = &link.name;
        if space.has(packet.source) && space.own(link, "accept_local") == 0 {
            let text = format!("{} gets a packet from its own address {}, and drops it", self.at(at), packet.source);
            let rows = space.addresses.iter().filter(|address| address.prefix.address == packet.source);
            let rows: Vec<_> = rows.map(|address| space.address_row(address)).collect();
            return Err(Trouble::new(Finding::DuplicateIp, self.at(at), text)
                .rows(space.inside("ip address"), rows)
                .into());
        }
        let mode = space.largest(link, "rp_filter");
        if mode == 0 {
            return Ok(());
        }
        let back =
            Question { destination: packet.source, source: Some(packet.destination), iif: None, mark: packet.mark };
        let answer = route::lookup(space, back);
        let (fits, row) = match answer {
            Answer::By { route, hop } => (mode == 2 || hop.link == at.link, space.route_row(route)),
            Answer::Local => (false, "local".to_owned()),
            Answer::Refused(route) => (false, space.route_row(route)),
            Answer::RuleRefused(rule) => (false, route::rule_row(rule)),
            Answer::Nothing => (false, format!("(no route to {})", packet.source)),
        };
        if fits {
            return Ok(());
        }
        let how = if mode == 2 { "by no interface" } else { "not by that interface" };
        let text = format!(
            "{} drops {packet}: the way back to {} leads {how} (rp_filter = {mode})",
            self.at(at),
            packet.source
        );
        let setting = |of: &str| {
            let value = space.sysctl(&format!("net/ipv4/conf/{of}/rp_filter")).unwrap_or(0);
            format!("net.ipv4.conf.{of}.rp_filter = {value}")
        };
        let mut trouble = Trouble::new(Finding::RpFilter, self.at(at), text)
            .row(space.inside(&format!("ip route get {}", packet.source)), row)
            .rows(space.inside("sysctl -a"), [setting("all"), setting(name)]);
        if let Some(drops) = space.counters.get("TcpExt.IPReversePathFilter").filter(|drops| **drops > 0) {
            trouble = trouble.row(space.inside("nstat -a"), format!("TcpExtIPReversePathFilter {drops}"));
        }
        Err(trouble.next(space.inside(&format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2"))).into())
    }

    fn conntrack_has_room(&self, space: usize) -> Result<(), Stop> {
        let here = self.survey.space(space);
        let uses = |chain: &crate::doctor::survey::nft::Chain| {
            chain.kind == "nat" || chain.rules.iter().any(|rule| rule.words().contains("ct "))
        };
        let tracks = here.nft.as_ref().is_some_and(|ruleset| ruleset.chains.iter().any(uses));
        match here.conntrack {
            Some(table) if tracks && table.count >= table.limit && table.limit > 0 => {
                let text = format!(
                    "{} tracks {} connections of {}: new ones are dropped",
                    here.label(),
                    table.count,
                    table.limit
                );
                let rows = [
                    format!("net.netfilter.nf_conntrack_count = {}", table.count),
                    format!("net.netfilter.nf_conntrack_max = {}", table.limit),
                ];
                let trouble = Trouble::new(Finding::ConntrackFull, here.label(), text)
                    .rows(here.inside("sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max"), rows);
                Err(trouble.next(here.inside("conntrack -L")).into())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A packet against the MTU of the interface that it leaves by; gives the length that goes on: of a packet that may be cut, or
    /// whose sender is told to send smaller ones, what fits.
    fn fits(&mut self, space: usize, out: At, forwarded: bool, packet: Packet) -> Result<u32, Stop> {
        let Some((_, mtu)) = self.way_out(space, packet) else { return Ok(packet.len) };
        if packet.len <= mtu || !packet.whole {
            return Ok(packet.len.min(mtu));
        }
        let here = self.survey.space(space);
        let text = format!(
            "a packet of {} bytes that may not be fragmented does not fit {} (MTU {mtu})",
            packet.len,
            self.at(out)
        );
        let trouble =
            Trouble::new(Finding::PathMtuBlackHole, self.at(out), text).row(here.inside("ip link"), self.row(out));
        if !forwarded {
            // The sender sees it itself, and sends smaller ones.
            return Ok(mtu);
        }
        // The sender is told by ICMP; that it hears of it is what must be so.
        let told = self.icmp_comes_back(space, packet);
        match told {
            // A segment that a tunnel carries has one MTU for all on it: nobody there expects a smaller one.
            Ok(()) if self.must_be_whole || self.depth > 0 => {
                let mut trouble = trouble;
                trouble.finding = Finding::MtuTooSmall;
                trouble.text = format!("{}: its sender is told so, and has to send smaller ones", trouble.text);
                Err(trouble.into())
            }
            Ok(()) => {
                self.note(self.at(out), format!("packets of more than {mtu} bytes: the sender is told by ICMP"));
                Ok(mtu)
            }
            Err(why) => {
                let mut trouble = trouble;
                trouble.text = format!("{}, and its sender is not told: {}", trouble.text, why.text);
                trouble.evidence.extend(why.evidence);
                Err(trouble.into())
            }
        }
    }

    /// Whether an ICMP error about a packet would come back to who sent it.
    fn icmp_comes_back(&self, space: usize, packet: Packet) -> Result<(), Box<Trouble>> {
        let here = self.survey.space(space);
        let Some(own) = here
            .addresses
            .iter()
            .find(|it| it.prefix.address.is_ipv6() == packet.is_ipv6() && !it.prefix.address.is_loopback())
        else {
            let text = format!("{} has no address to send ICMP from", here.label());
            return Err(Box::new(Trouble::new(Finding::PathMtuBlackHole, here.label(), text)));
        };
        let mut scout = Self::new(self.survey);
        let error = Packet {
            source: own.prefix.address,
            destination: packet.source,
            protocol: Protocol::Icmp,
            len: 576,
            error: true,
            ..packet
        };
        match scout.carry_icmp_error(space, error) {
            Ok(_) | Err(Stop::OutOfSight { .. }) => Ok(()),
            Err(Stop::Fault(trouble)) => Err(trouble),
        }
    }

    fn carry_icmp_error(&mut self, space: usize, error: Packet) -> Result<(usize, Packet), Stop> {
        self.depth = 2;
        self.carry(space, Packet { whole: false, ..error })
    }

    /// The interface that a packet leaves a namespace by, and the largest packet that fits there.
    pub(super) fn way_out(&self, space: usize, packet: Packet) -> Option<(u32, u32)> {
        let here = self.survey.space(space);
        let question =
            Question { destination: packet.destination, source: Some(packet.source), iif: None, mark: packet.mark };
        match route::lookup(here, question) {
            Answer::By { route, hop } => {
                let mtu = here.link(hop.link)?.mtu;
                Some((hop.link, route.mtu.map_or(mtu, |own| own.min(mtu))))
            }
            Answer::Local | Answer::Refused(_) | Answer::RuleRefused(_) | Answer::Nothing => None,
        }
    }

    /// Whether an address is routed by another interface than the one that asks.
    pub(super) fn leads_elsewhere(&self, at: At, address: IpAddr) -> bool {
        let space = self.survey.space(at.space);
        let name = space.link_name(at.link);
        let question = Question { destination: address, source: None, iif: Some(&name), mark: 0 };
        matches!(route::lookup(space, question), Answer::By { hop, .. } if hop.link != at.link)
    }

    /// The receiver's last word: pings that it ignores, ports that nobody listens on.
    pub(super) fn accepted(&mut self, space: usize, packet: Packet, listening: bool) -> Result<(), Stop> {
        let here = self.survey.space(space);
        let (path, key) = if packet.is_ipv6() {
            ("net/ipv6/icmp/echo_ignore_all", "net.ipv6.icmp.echo_ignore_all")
        } else {
            ("net/ipv4/icmp_echo_ignore_all", "net.ipv4.icmp_echo_ignore_all")
        };
        if packet.protocol == Protocol::Icmp && here.sysctl(path).unwrap_or(0) != 0 {
            let text = format!("{} is told to answer no pings", here.label());
            let trouble = Trouble::new(Finding::EchoIgnored, here.label(), text)
                .row(here.inside(&format!("sysctl {key}")), format!("{key} = 1"));
            return Err(trouble.next(here.inside(&format!("sysctl -w {key}=0"))).into());
        }
        if !listening || packet.protocol == Protocol::Icmp {
            return Ok(());
        }
        let on_port = here.sockets.iter().filter(|socket| {
            socket.protocol == packet.protocol
                && socket.local.port() == packet.destination_port
                && socket.remote.is_none()
        });
        let on_port: Vec<_> = on_port.collect();
        let takes =
            on_port.iter().find(|socket| socket.local.ip().is_unspecified() || socket.local.ip() == packet.destination);
        if let Some(socket) = takes {
            self.note(here.label(), format!("socket {}", socket_row(socket)));
            return Ok(());
        }
        let port = packet.destination_port;
        let text = match on_port.first() {
            Some(socket) => format!("port {port} is listened on at {} only", socket.local.ip()),
            None => format!("nobody listens on {} port {port}", packet.protocol),
        };
        let command = here.inside(&format!("ss -lntup sport = {port}"));
        let rows: Vec<_> = on_port.iter().map(|socket| socket_row(socket)).collect();
        let rows = if rows.is_empty() { vec!["(nobody)".to_owned()] } else { rows };
        Err(Trouble::new(Finding::NotListening, here.label(), text).rows(&command, rows).next(command).into())
    }

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

    pub(super) fn refused(
        &self,
        space: usize,
        route: &crate::doctor::survey::values::Route,
        packet: Packet,
    ) -> Trouble {
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

    fn routes_rows(&self, space: &Space, ipv6: bool) -> Vec<String> {
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
