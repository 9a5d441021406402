//! Interfaces that rest on a parent and share its wire: macvlan, and ipvlan in its three modes.

use std::net::IpAddr;

use super::{
    Stop, Walker,
    filter::{self, Outcome, Place},
    frames::{Frame, Spread},
    packet::Packet,
    route::{self, Answer, Question},
};
use crate::{
    doctor::{
        Finding,
        step::Trouble,
        survey::values::{Details, Ipvlan, MacvlanMode},
        world::{At, Other},
    },
    wire::MacAddr,
};

impl Walker<'_> {
    /// Gives what has come in to those of the children that it is for; whether one of them took it from the parent's host.
    pub(super) fn reach_children(&mut self, at: At, frame: Frame, spread: &mut Spread) -> bool {
        let mut taken = false;
        for child in self.survey.children(at) {
            let link = self.survey.link(child);
            let for_it = frame.destination.is_multicast() || Some(frame.destination) == link.mac;
            match &link.details {
                Details::Macvlan(mode) => {
                    taken |= *mode == MacvlanMode::Passthru;
                    if for_it {
                        self.arrive(child, frame, spread);
                    }
                }
                Details::Ipvlan(ipvlan) if for_it => taken |= self.reach_ipvlan(at, child, ipvlan, frame, spread),
                Details::None
                | Details::Bridge(_)
                | Details::Vlan(_)
                | Details::Tunnel(_)
                | Details::Ipvlan(_)
                | Details::Vrf { .. }
                | Details::Tun { .. } => {}
            }
        }
        taken
    }

    /// All children of an ipvlan have their parent's hardware address; the packet's tells them apart
    /// (`drivers/net/ipvlan/ipvlan_core.c:ipvlan_handle_frame`). Only in mode l2 do they hear what is for all.
    fn reach_ipvlan(&mut self, parent: At, child: At, ipvlan: &Ipvlan, frame: Frame, spread: &mut Spread) -> bool {
        if frame.destination.is_multicast() {
            if !ipvlan.is_routed() {
                self.arrive(child, frame, spread);
            }
            return false;
        }
        if !self.survey.space(child.space).has(frame.packet.destination) {
            return false;
        }
        match self.parents_filter_drops(parent, ipvlan, frame) {
            Some(trouble) => spread.end(parent, trouble),
            None => self.arrive(child, frame, spread),
        }
        true
    }

    /// Mode l3s: what children receive passes these hooks of the parent's host on its way.
    fn parents_filter_drops(&self, parent: At, ipvlan: &Ipvlan, frame: Frame) -> Option<Trouble> {
        if ipvlan.mode != "l3s" || frame.arp {
            return None;
        }
        let space = self.survey.space(parent.space);
        let name = space.link_name(parent.link);
        ["prerouting", "input"].into_iter().find_map(|hook| {
            let place = Place { hook, iif: Some(&name), oif: None, bridged: false, arp: false, frame: None };
            match filter::pass(space.nft.as_ref()?, place, frame.packet).outcome {
                Outcome::Drop { chain, rule } => {
                    Some(self.dropped_by_rule(parent.space, &self.at(parent), chain, rule, frame.packet))
                }
                Outcome::Accept | Outcome::Translate { .. } => None,
            }
        })
    }

    /// `drivers/net/macvlan.c:macvlan_queue_xmit`: to siblings in mode bridge, to the wire in all; never to the parent.
    pub(super) fn macvlan_sends(&mut self, at: At, mode: MacvlanMode, frame: Frame, spread: &mut Spread) {
        let Other::At(parent) = self.survey.other(at) else {
            return spread.out_of_sight.push((at, "its parent is".to_owned()));
        };
        if frame.arp || frame.destination.is_multicast() || mode == MacvlanMode::Bridge {
            for sibling in self.survey.children(parent).into_iter().filter(|sibling| *sibling != at) {
                let link = self.survey.link(sibling);
                let for_it = frame.destination.is_multicast() || Some(frame.destination) == link.mac;
                if !for_it {
                    continue;
                }
                if mode == MacvlanMode::Bridge && link.details == Details::Macvlan(MacvlanMode::Bridge) {
                    self.arrive(sibling, frame, spread);
                    if !frame.destination.is_multicast() {
                        return;
                    }
                } else {
                    spread.end(at, self.macvlan_apart(at, mode, sibling));
                }
            }
        }
        if !self.survey.link(parent).up {
            return spread.end(parent, self.link_down(parent));
        }
        self.transmit(parent, frame, spread);
    }

    fn macvlan_apart(&self, at: At, mode: MacvlanMode, sibling: At) -> Trouble {
        let space = self.survey.space(at.space);
        let text =
            format!("{} is a macvlan of mode {mode}: it does not reach its sibling {}", self.at(at), self.at(sibling));
        Trouble::new(Finding::MacvlanMode, self.at(at), text)
            .row(space.inside("ip -d link"), self.row(at))
            .row(self.survey.space(sibling.space).inside("ip -d link"), self.row(sibling))
    }

    /// Mode l2 (`ipvlan_xmit_mode_l2`): what is for all goes to siblings and to the wire, what is for the address that all
    /// share to the sibling that has the packet's, else to the parent's host; the rest to the wire.
    pub(super) fn ipvlan_sends(&mut self, at: At, ipvlan: &Ipvlan, frame: Frame, spread: &mut Spread) {
        let Other::At(parent) = self.survey.other(at) else {
            return spread.out_of_sight.push((at, "its parent is".to_owned()));
        };
        if frame.destination.is_multicast() {
            for sibling in self.survey.children(parent).into_iter().filter(|sibling| *sibling != at) {
                self.arrive(sibling, frame, spread);
            }
        } else if Some(frame.destination) == self.survey.link(at).mac {
            return match self.sibling(parent, at, frame.packet.destination) {
                Some(sibling) if ipvlan.keeps_apart() => spread.end(at, self.ipvlan_apart(at, sibling)),
                Some(sibling) => self.arrive(sibling, frame, spread),
                None => spread.arrivals.push(parent),
            };
        }
        self.transmit(parent, frame, spread);
    }

    /// Modes l3 and l3s (`ipvlan_xmit_mode_l3`): to the sibling that has the address, else as the parent's host routes what
    /// leaves by the parent, through that host's filters. Gives the interface that receives it.
    pub(super) fn by_parents_routes(&mut self, at: At, ipvlan: &Ipvlan, packet: &mut Packet) -> Result<At, Stop> {
        let Other::At(parent) = self.survey.other(at) else {
            let why = "its parent is in a namespace that doctor can't see".to_owned();
            return Err(Stop::OutOfSight { place: self.at(at), why });
        };
        if !self.survey.link(parent).up {
            return Err(self.link_down(parent).into());
        }
        if let Some(sibling) = self.sibling(parent, at, packet.destination) {
            if ipvlan.keeps_apart() {
                return Err(self.ipvlan_apart(at, sibling).into());
            }
            let mac = self.survey.link(at).mac.unwrap_or(MacAddr::ZERO);
            let frame = Frame { source: mac, destination: mac, vlan: None, packet: *packet, arp: false };
            let mut spread = Spread::default();
            self.arrive(sibling, frame, &mut spread);
            return match spread.ends.into_iter().next() {
                Some((_, trouble)) => Err(trouble.into()),
                None => Ok(sibling),
            };
        }
        let here = self.survey.space(parent.space);
        let question =
            Question { destination: packet.destination, source: Some(packet.source), iif: None, mark: packet.mark };
        let neighbour = match route::lookup_by(here, question, parent.link) {
            Answer::Local => {
                self.hook(parent.space, "output", None, Some(parent), packet)?;
                return Ok(parent);
            }
            Answer::By { route, hop } => {
                self.note(here.label(), format!("route {}", here.route_row(route)));
                hop.via.unwrap_or(packet.destination)
            }
            Answer::Refused(route) => return Err(self.refused(parent.space, route, *packet).into()),
            // The kernel then takes it to be on the wire (`net/ipv4/route.c:ip_route_output_key_hash_rcu`).
            Answer::RuleRefused(_) | Answer::Nothing => packet.destination,
        };
        self.hook(parent.space, "output", None, Some(parent), packet)?;
        self.hook(parent.space, "postrouting", None, Some(parent), packet)?;
        self.reach_neighbour(parent, neighbour, packet)
    }

    fn sibling(&self, parent: At, at: At, address: IpAddr) -> Option<At> {
        let has = |sibling: &At| *sibling != at && self.survey.space(sibling.space).has(address);
        self.survey.children(parent).into_iter().find(has)
    }

    fn ipvlan_apart(&self, at: At, sibling: At) -> Trouble {
        let text = format!(
            "{} keeps apart from its siblings (private or vepa): {} is not reached",
            self.at(at),
            self.at(sibling)
        );
        Trouble::new(Finding::IpvlanMode, self.at(at), text)
            .row(self.survey.space(at.space).inside("ip -d link"), self.row(at))
            .row(self.survey.space(sibling.space).inside("ip -d link"), self.row(sibling))
    }

    /// Of the owners of an address, one that answers for it to nobody, as it is an ipvlan of a mode that routes.
    pub(super) fn routed_ipvlan(&self, asker: At, owners: &[At], address: IpAddr) -> Option<Trouble> {
        let routed = |at: &&At| matches!(&self.survey.link(**at).details, Details::Ipvlan(it) if it.is_routed());
        let child = *owners.iter().find(routed)?;
        let Details::Ipvlan(ipvlan) = &self.survey.link(child).details else { return None };
        let text = format!(
            "{} has {address}, and is an ipvlan of mode {}: it answers no ARP, so that others need a route to it",
            self.at(child),
            ipvlan.mode
        );
        let mut trouble = Trouble::new(Finding::IpvlanMode, self.at(child), text)
            .row(self.survey.space(child.space).inside("ip -d link"), self.row(child));
        if let Other::At(parent) = self.survey.other(child) {
            let there = self.survey.space(parent.space);
            trouble = trouble.row(there.inside("ip address"), self.addresses_row(parent));
            let same_family = |it: &&crate::doctor::survey::values::Address| {
                it.prefix.address.is_ipv6() == address.is_ipv6() && !it.link_local
            };
            if let Some(via) = there.addresses_of(parent.link).find(same_family) {
                let cure = format!("ip route add {address} via {}", via.prefix.address);
                trouble = trouble.next(self.survey.space(asker.space).inside(&cure));
            }
        }
        Some(trouble)
    }
}
