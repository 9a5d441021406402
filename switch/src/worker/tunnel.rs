//! What leaves for VTEPs and has to be looked at: `proxy`, `rsc`, `l2miss` and `l3miss` of the kernel's vxlan devices
//! (`vxlan_core.c`: `vxlan_xmit`). Bridges without them never come here.
//!
//! In the kernel the bridge and the vxlan device are two, so a flooded frame reaches the device once, whatever its flood
//! list. Here they are one: what would reach the device is the copy for VTEPs, and what the device sends back to its bridge
//! goes to ports directly.

use std::net::IpAddr;

use super::{
    Fact,
    walk::{Staged, Walk},
};
use crate::{
    bridge::{DropReason, FloodKind, Verdict},
    ids::{Endpoint, VtepId},
    snoop::Targets,
    wire::{
        MacAddr, arp,
        dissect::{IpVersion, dissect},
        ethernet::{ETHER_TYPE_ARP, ETHER_TYPE_OFFSET},
        ndisc::{self, Answerer, Kind},
    },
};

/// Where answers come from: the overlay's side. No VTEP has this number.
const TUNNEL: Endpoint = Endpoint::Vtep(VtepId(u16::MAX));

/// What to do with a question for a neighbour.
enum Question<'f> {
    Arp(arp::Arp),
    Solicitation(ndisc::Neighbour<'f>),
    /// ARP that asks nothing which could be answered.
    Other,
}

impl<'w> Walk<'w> {
    /// Does what has to be done otherwise than usual with a frame that came from a port. `false`: nothing.
    #[cold]
    pub(super) fn forward_looking(&mut self, staged: &Staged<'w>, verdict: Verdict) -> bool {
        let bridge = staged.bridge;
        let (Some(_), Some(_)) = (bridge.vni, &self.tables.overlay) else { return false };
        match verdict {
            Verdict::Drop(_) | Verdict::Unicast(Endpoint::Port(_)) => false,
            Verdict::Unicast(Endpoint::Vtep(_)) => {
                if let Some(question) = self.question(staged) {
                    self.consume(staged, &question);
                    return true;
                }
                bridge.tunnel.rsc && self.short_circuit(staged)
            }
            Verdict::Flood(kind) => {
                let members = self.members_only(staged, kind);
                if members.is_none_or(|members| members.overlay)
                    && let Some(question) = self.question(staged)
                {
                    self.flood_to_ports(staged, kind, members);
                    self.consume(staged, &question);
                    return true;
                }
                if bridge.tunnel.l2miss && kind == FloodKind::UnknownUnicast && bridge.flood_list.is_empty() {
                    self.facts.mention(Fact::L2Miss { bridge: staged.bridge_id(), mac: staged.dst() });
                }
                false
            }
        }
    }

    /// What the proxy takes: every ARP frame and every neighbour solicitation.
    fn question(&self, staged: &Staged<'w>) -> Option<Question<'w>> {
        if !staged.bridge.tunnel.proxy {
            return None;
        }
        let frame = staged.bytes;
        if frame.get(ETHER_TYPE_OFFSET..ETHER_TYPE_OFFSET + 2)? == ETHER_TYPE_ARP.to_be_bytes() {
            let is_question = |arp: &arp::Arp| {
                let of_ethernet = matches!(arp.hardware, arp::HARDWARE_ETHERNET | arp::HARDWARE_IEEE_802);
                let of_a_station = !arp.target_ip.is_loopback() && !arp.target_ip.is_multicast();
                arp.operation == arp::REQUEST && of_ethernet && of_a_station
            };
            return Some(arp::Arp::parse(frame).filter(is_question).map_or(Question::Other, Question::Arp));
        }
        let message = ndisc::Neighbour::parse(frame).filter(|message| message.kind == Kind::Solicitation)?;
        let of_a_station = !message.destination.is_loopback() && !message.target.is_multicast();
        Some(if of_a_station { Question::Solicitation(message) } else { Question::Other })
    }

    /// The copy for VTEPs ends here; who asked for a known neighbour gets an answer.
    fn consume(&mut self, staged: &Staged<'w>, question: &Question<'_>) {
        let ip = match question {
            Question::Arp(arp) => Some(IpAddr::V4(arp.target_ip)),
            Question::Solicitation(message) => Some(IpAddr::V6(message.target)),
            Question::Other => None,
        };
        if let Some(ip) = ip {
            match staged.bridge.neighs.get(ip) {
                Some(neigh) => {
                    let at = self.fdb.lookup(staged.bridge_id(), neigh.mac);
                    // Behind a port it hears the question itself.
                    if !matches!(at, Some(Endpoint::Port(_))) {
                        self.answer_question(staged, question, neigh.mac, neigh.router);
                    }
                }
                None if staged.bridge.tunnel.l3miss => {
                    self.facts.mention(Fact::L3Miss { bridge: staged.bridge_id(), ip });
                }
                None => {}
            }
        }
        let (at, bridge, frames) = (staged.ingress(), staged.bridge_id(), u64::from(staged.frames));
        self.counters().dropped_in(at, Some(bridge), DropReason::NeighProxied, frames);
    }

    fn answer_question(&mut self, staged: &Staged<'w>, question: &Question<'_>, mac: MacAddr, router: bool) {
        match question {
            Question::Arp(arp) => self.send_answer(staged, arp.sender_mac, &arp.reply(mac)),
            Question::Solicitation(message) => {
                let Some(frame) = message.advertisement(mac, router, Answerer::Vxlan) else { return };
                let [a, b, c, d, e, f, ..] = frame;
                self.send_answer(staged, MacAddr::new([a, b, c, d, e, f]), &frame);
            }
            Question::Other => {}
        }
    }

    /// An answer is one more frame of the bridge, which comes from the overlay's side.
    fn send_answer(&mut self, staged: &Staged<'w>, dst: MacAddr, frame: &[u8]) {
        let (tables, bridge) = (self.tables, staged.bridge);
        let known = if dst.is_multicast() { None } else { self.fdb.lookup(staged.bridge_id(), dst) };
        match tables.decide(bridge, TUNNEL, dst, known) {
            Verdict::Unicast(to) => self.send_frame(staged, to, frame),
            Verdict::Flood(kind) => {
                for to in tables.flood(bridge, TUNNEL, kind) {
                    self.send_frame(staged, to, frame);
                }
            }
            Verdict::Drop(reason) => {
                self.counters().copied(staged.ingress(), staged.bridge_id(), 1);
                self.counters().dropped_in(staged.ingress(), Some(staged.bridge_id()), reason, 1);
            }
        }
    }

    fn send_frame(&mut self, staged: &Staged<'w>, to: Endpoint, frame: &[u8]) {
        let bridge = staged.bridge_id();
        self.counters().copied(staged.ingress(), bridge, 1);
        self.egress.deliver_now(&Staged::own(bridge, staged.bridge, frame), to);
    }

    /// The ports' part of a flood. The frame itself is still to be accounted for: each of these is an extra one.
    fn flood_to_ports(&mut self, staged: &Staged<'w>, kind: FloodKind, members: Option<&'w Targets>) {
        let (tables, bridge, ingress) = (self.tables, staged.bridge, staged.ingress());
        let to_all = members.is_none().then(|| tables.flood(bridge, ingress, kind)).into_iter().flatten();
        let to_members = members.into_iter().flat_map(|members| tables.members(bridge, ingress, staged.src(), members));
        for to in to_all.chain(to_members.map(|(to, _)| to)) {
            if let Endpoint::Port(_) = to {
                self.counters().copied(ingress, staged.bridge_id(), u64::from(staged.frames));
                self.egress.deliver(staged, to);
            }
        }
    }

    /// Route short circuit: a packet to a router goes to the station that it is for, as if it came from the router
    /// (`vxlan_core.c`: `route_shortcircuit`; TTL and hop limit stay as they are). `false`: it goes on as it is.
    fn short_circuit(&mut self, staged: &Staged<'w>) -> bool {
        let (bridge, id) = (staged.bridge, staged.bridge_id());
        if !bridge.neighs.is_router(staged.dst()) {
            return false;
        }
        let dissected = dissect(staged.bytes);
        let (Some(l3), 0) = (dissected.l3, dissected.tag_count) else { return false };
        let ip = match (l3.version, l3.addresses(staged.bytes)) {
            (IpVersion::V4, Some(&[_, _, _, _, a, b, c, d])) => IpAddr::from([a, b, c, d]),
            (IpVersion::V6, Some(addresses)) => match addresses.last_chunk::<16>() {
                Some(octets) => IpAddr::from(*octets),
                None => return false,
            },
            (IpVersion::V4, _) | (IpVersion::V6, None) => return false,
        };
        let Some(neigh) = bridge.neighs.get(ip) else {
            if bridge.tunnel.l3miss {
                self.facts.mention(Fact::L3Miss { bridge: id, ip });
            }
            return false;
        };
        if neigh.mac == staged.dst() {
            return false;
        }
        let macs = Rewritten { dst: neigh.mac, src: staged.dst() };
        let frames = u64::from(staged.frames);
        match self.fdb.lookup(id, neigh.mac) {
            Some(to) => self.egress.deliver_rewritten(staged, to, macs),
            None if bridge.flood_list.is_empty() => {
                if bridge.tunnel.l2miss {
                    self.facts.mention(Fact::L2Miss { bridge: id, mac: neigh.mac });
                }
                self.counters().dropped_in(staged.ingress(), Some(id), DropReason::NoFloodTarget, frames);
            }
            None => {
                self.counters().copied(staged.ingress(), id, (bridge.flood_list.len() as u64 - 1) * frames);
                for to in &bridge.flood_list {
                    self.egress.deliver_rewritten(staged, Endpoint::Vtep(*to), macs);
                }
            }
        }
        true
    }
}

/// The addresses that a frame gets on its way out.
#[derive(Clone, Copy)]
pub(super) struct Rewritten {
    pub(super) dst: MacAddr,
    pub(super) src: MacAddr,
}

impl Rewritten {
    /// Writes them to the beginning of a frame.
    pub(super) fn write(self, frame: &mut [u8]) {
        let addresses = self.dst.octets().into_iter().chain(self.src.octets());
        frame.iter_mut().zip(addresses).for_each(|(byte, octet)| *byte = octet);
    }
}
