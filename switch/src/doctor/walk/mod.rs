//! The way of a packet through everything in sight, followed in the survey: nothing is sent.
//!
//! # Theory of operation
//! A [`Walker`] carries one packet from a namespace to an address and does at each place what the kernel there would do,
//! by the tables that were read: rules and routes, netfilter's hooks, neighbours, cables, bridges, tunnels, wefts.
//!
//! - [`packets`](self) is the part that thinks in IP packets: route, filter, next hop, receive, forward.
//! - [`frames`] is the part that thinks in Ethernet frames: from an interface that sends to those that receive, with what is
//!   at the interface ([`hooks`]) and between them ([`bridge`], [`vlans`], [`children`], [`tunnels`], [`switch`]). It goes
//!   *everywhere* a frame would go, and notes where copies end. A broadcast ends in many places, most of which don't matter.
//! - [`blame`] says which of those ends is the one that matters: the first on the way that the frame should have taken, which
//!   is found by following cables, bridges and tunnels without regard to their state.
//!
//! A neighbour that is not known for good is asked for, as the kernel would: a broadcast there and an answer back, both
//! followed like any other frame. A valid neighbour entry does not hide a broken way: it is only a matter of time.
//!
//! The walk there is followed by the walk back: a packet nobody can answer is lost to who sent it.

mod blame;
mod bridge;
mod children;
mod filter;
mod frames;
mod groups;
mod hooks;
mod neighbours;
mod packet;
mod packets;
mod path;
mod receiving;
#[cfg(test)]
mod recorded;
mod route;
mod routeless;
mod switch;
mod translate;
mod tunnels;
mod vlans;

use std::{collections::BTreeMap, net::IpAddr};

use serde::Serialize;

use self::packet::Packet;
pub(crate) use self::tunnels::socket_row;
use super::{
    Finding,
    step::Trouble,
    survey::{Survey, values::Protocol},
    world::{At, WeftAt},
};
use crate::wire::MacAddr;

/// One place on the way, and what happened there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Hop {
    /// `left/eth0`, or a namespace.
    pub(crate) place: String,
    /// `route 10.10.0.0/24 dev eth0`.
    pub(crate) what: String,
    /// How deep in tunnels.
    pub(crate) depth: usize,
}

/// How a way ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum End {
    /// There, and the answer back.
    Arrived,
    /// It left by an interface to where doctor can't see.
    OutOfSight {
        place: String,
        why: String,
    },
    Fault(Box<Trouble>),
}

/// What was followed, and how far it came.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Way {
    /// The namespace it began in.
    pub(crate) from: String,
    /// `10.10.0.2`, or with a port.
    pub(crate) to: String,
    /// Bytes of the packet.
    pub(crate) len: u32,
    pub(crate) hops: Vec<Hop>,
    pub(crate) end: End,
    /// What is odd, but did not end it.
    pub(crate) warnings: Vec<Trouble>,
}

impl Way {
    /// Whether it is not one of those that are followed for their packet's size.
    pub(crate) const fn is_small(&self) -> bool {
        self.len == SMALL
    }
}

/// What to follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errand {
    /// The namespace to begin in, by its place in the survey.
    pub(crate) from: usize,
    pub(crate) to: IpAddr,
    /// A port makes it TCP or UDP instead of an echo request.
    pub(crate) port: Option<(Protocol, u16)>,
    /// Whether somebody must listen on the port.
    pub(crate) listening: bool,
    /// Bytes of the IP packet; `None`: a small one.
    pub(crate) len: Option<u32>,
    /// A packet of that length has to get there as it is.
    pub(crate) whole: bool,
}

/// Bytes of what ping sends by default.
const SMALL: u32 = 84;

/// Follows a packet there and its answer back.
pub(crate) fn follow(survey: &Survey, errand: Errand) -> Way {
    let mut walker = Walker::new(survey);
    let end = match walker.errand(errand) {
        Ok(()) => End::Arrived,
        Err(Stop::Fault(trouble)) => End::Fault(trouble),
        Err(Stop::OutOfSight { place, why }) => End::OutOfSight { place, why },
    };
    let to = match errand.port {
        Some((protocol, port)) => format!("{} {protocol} port {port}", errand.to),
        None => errand.to.to_string(),
    };
    Way {
        from: survey.space(errand.from).label(),
        to,
        len: errand.len.unwrap_or(SMALL),
        hops: walker.hops,
        end,
        warnings: walker.warnings,
    }
}

/// The MTU of the interface that a way begins with; `None`: there is no way.
pub(crate) fn first_mtu(survey: &Survey, from: usize, to: IpAddr) -> Option<u32> {
    let walker = Walker::new(survey);
    let source = walker.source_for(from, to).ok()?;
    walker.way_out(from, Packet::echo(source, to, SMALL)).map(|(_, mtu)| mtu)
}

/// What is wrong with the ways from a tunnel device to its remotes: those of its flood list, and of each of its entries.
pub(crate) fn to_all_remotes(survey: &Survey, at: At) -> Vec<Trouble> {
    let mut walker = Walker::new(survey);
    let source = survey.link(at).mac.unwrap_or(MacAddr::ZERO);
    let nobody = IpAddr::from([0, 0, 0, 0]);
    let packet = Packet::echo(nobody, nobody, SMALL);
    // ARP is what every network sends, unless the device keeps it to itself.
    let proxies = survey.tunnels().any(|(tunnel_at, _, tunnel)| tunnel_at == at && tunnel.proxy);
    let frame = frames::Frame { source, destination: MacAddr::BROADCAST, vlan: None, packet, arp: !proxies };
    let spread = walker.spread(at, frame);
    let of_this = |(end, trouble): (At, Trouble)| (end == at).then_some(trouble);
    spread.ends.into_iter().filter_map(of_this).collect()
}

/// The namespaces that a weft's underlay sockets are in.
pub(crate) fn weft_spaces(survey: &Survey, at: WeftAt) -> Vec<usize> {
    Walker::new(survey).weft_sockets(at).map(|(space, _)| space).collect()
}

/// Why a walk ends before its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    Fault(Box<Trouble>),
    OutOfSight { place: String, why: String },
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Self {
        Self::Fault(Box::new(trouble))
    }
}

/// Follows packets, and remembers what bridges and translators would have learned on the way.
pub(super) struct Walker<'a> {
    pub(super) survey: &'a Survey,
    pub(super) hops: Vec<Hop>,
    pub(super) warnings: Vec<Trouble>,
    /// What switches learned: (bridge or weft bridge, VLAN, address) to where it is.
    learned: BTreeMap<(frames::Domain, u16, MacAddr), frames::Behind>,
    translations: Vec<translate::Translation>,
    /// Interfaces by which packets were passed on.
    forwarders: Vec<At>,
    /// A packet that has to get there as it is: its sender is not to send smaller ones.
    must_be_whole: bool,
    /// How deep in tunnels it is.
    depth: usize,
}

impl<'a> Walker<'a> {
    pub(super) fn new(survey: &'a Survey) -> Self {
        Self {
            survey,
            hops: Vec::new(),
            warnings: Vec::new(),
            learned: BTreeMap::new(),
            translations: Vec::new(),
            forwarders: Vec::new(),
            must_be_whole: false,
            depth: 0,
        }
    }

    fn errand(&mut self, errand: Errand) -> Result<(), Stop> {
        let source = self.source_for(errand.from, errand.to)?;
        let mut packet = Packet::echo(source, errand.to, errand.len.unwrap_or(SMALL));
        if let Some((protocol, port)) = errand.port {
            // The first of the ports that Linux takes for clients.
            packet.protocol = protocol;
            (packet.source_port, packet.destination_port) = (32768, port);
        }
        self.must_be_whole = errand.whole;
        let (receiver, received) = self.carry(errand.from, packet).map_err(|stop| self.translated_wrongly(stop))?;
        self.accepted(receiver, received, errand.listening)?;
        self.note(
            self.survey.space(receiver).label(),
            format!("received; the answer goes back to {}", received.source),
        );
        let passed_on = self.forwarders.last().copied();
        match self.carry(receiver, received.answer()) {
            Ok(_) => Ok(()),
            Err(stop) => {
                let missing = self.not_translated(source, received, passed_on, &stop);
                let wrong = || self.disguised_wrongly(received, &stop);
                Err(missing.or_else(wrong).unwrap_or_else(|| on_the_way_back(stop)))
            }
        }
    }

    /// A destination that a rule of translation made up.
    fn translated_wrongly(&self, stop: Stop) -> Stop {
        let (Stop::Fault(mut trouble), Some((space, to))) = (stop.clone(), self.translated_to_nobody()) else {
            return stop;
        };
        let space = self.survey.space(space);
        trouble.finding = Finding::NatWrong;
        trouble.text = format!("{} translates the destination to {to}, which nobody has", space.label());
        trouble.next = Some(space.inside("nft list ruleset"));
        Stop::Fault(trouble)
    }

    /// A source that a rule of translation made up: the answers go to nobody.
    fn disguised_wrongly(&self, received: Packet, stop: &Stop) -> Option<Stop> {
        let space = self.survey.space(self.disguiser(received.source)?);
        let Stop::Fault(trouble) = stop else { return None };
        if space.has(received.source) {
            return None;
        }
        let mut trouble = trouble.clone();
        trouble.finding = Finding::NatWrong;
        trouble.text = format!(
            "{} translates the source to {}, which is not its own: the answers don't come to it",
            space.label(),
            received.source
        );
        trouble.next = Some(space.inside("nft list ruleset"));
        Some(Stop::Fault(trouble))
    }

    /// A private source that nobody beyond the last forwarder can answer, where that one should have put its own in its place.
    fn not_translated(&self, source: IpAddr, received: Packet, passed_on: Option<At>, stop: &Stop) -> Option<Stop> {
        let Stop::Fault(trouble) = stop else { return None };
        let out = passed_on?;
        let is_private = |address: IpAddr| match address {
            IpAddr::V4(address) => address.is_private(),
            IpAddr::V6(address) => address.is_unique_local(),
        };
        let wanted = self.translates(out.space) || is_private(source) && !is_private(received.destination);
        if trouble.finding != Finding::RouteMissing || received.source != source || !wanted {
            return None;
        }
        let space = self.survey.space(out.space);
        let text = format!(
            "packets leave {} with the source {source}, to which {} has no way back: no rule translates it",
            self.at(out),
            self.survey.owners(received.destination).first().map_or_else(String::new, |at| self.at(*at))
        );
        let chains = space.nft.iter().flat_map(|ruleset| &ruleset.chains).filter(|chain| chain.kind == "nat");
        let mut rows: Vec<String> = Vec::new();
        for chain in chains {
            rows.push(format!("{}: type nat hook {}", chain.path(), chain.hook));
            rows.extend(chain.rules.iter().map(|rule| format!("  {}", rule.words())));
        }
        if rows.is_empty() {
            rows.push("(no chain of type nat)".to_owned());
        }
        let mut missing =
            Trouble::new(Finding::NatMissing, self.at(out), text).rows(space.inside("nft list ruleset"), rows);
        missing.evidence.extend(trouble.evidence.clone());
        let name = space.link_name(out.link);
        let cure = format!("nft add rule ip nat postrouting oifname {name} masquerade");
        Some(missing.next(space.inside(&cure)).into())
    }

    pub(super) fn note(&mut self, place: impl Into<String>, what: impl Into<String>) {
        let hop = Hop { place: place.into(), what: what.into(), depth: self.depth };
        if self.hops.last() != Some(&hop) {
            self.hops.push(hop);
        }
    }

    pub(super) fn warn(&mut self, trouble: Trouble) {
        if !self.warnings.contains(&trouble) {
            self.warnings.push(trouble.warning());
        }
    }

    pub(super) fn at(&self, at: At) -> String {
        self.survey.label(at)
    }
}

/// The same trouble has another name when it meets the answer.
fn on_the_way_back(stop: Stop) -> Stop {
    match stop {
        Stop::Fault(mut trouble) => {
            if trouble.finding == Finding::RouteMissing {
                trouble.finding = Finding::ReturnRouteMissing;
            }
            trouble.text = format!("the answer does not come back: {}", trouble.text);
            Stop::Fault(trouble)
        }
        Stop::OutOfSight { .. } => stop,
    }
}
