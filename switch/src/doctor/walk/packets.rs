//! From hop to hop as an IP packet: routes, filters, translation, forwarding. What a host does with what it receives is in
//! `receiving`, and why it has no route in `routeless`.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    Stop, Walker,
    filter::{self, Outcome, Place},
    packet::Packet,
    route::{self, Answer, Question},
};
use crate::doctor::{Finding, step::Trouble, survey::values::Protocol, world::At};

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
}
