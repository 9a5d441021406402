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
    bridge::{Answer, Bridge, DropReason, FloodKind, Verdict},
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
pub(super) const TUNNEL: Endpoint = Endpoint::Vtep(VtepId(u16::MAX));

/// What the proxy takes: every ARP frame and every neighbour solicitation.
pub(super) enum Question<'f> {
    Arp(arp::Arp),
    Solicitation(ndisc::Neighbour<'f>),
    /// One that asks nothing which could be answered.
    Other,
}

/// What the proxy makes of a question.
pub(super) enum Reply {
    /// There is nothing to answer.
    Nothing,
    /// Nobody knows who has the address.
    Unknown(IpAddr),
    /// The neighbour is behind a port and hears the question itself.
    HearsItself,
    /// The question's options make no sense.
    Senseless,
    /// This frame goes to the asker, `dst`, as if it came from the overlay's side.
    Answer { dst: MacAddr, answer: Answer },
}

impl<'f> Question<'f> {
    /// What the proxy of a bridge takes this frame for; `None` if it lets it leave.
    pub(super) fn of(bridge: &Bridge, frame: &'f [u8]) -> Option<Self> {
        if !bridge.tunnel.proxy {
            return None;
        }
        if frame.get(ETHER_TYPE_OFFSET..ETHER_TYPE_OFFSET + 2)? == ETHER_TYPE_ARP.to_be_bytes() {
            let is_question = |arp: &arp::Arp| {
                let of_ethernet = matches!(arp.hardware, arp::HARDWARE_ETHERNET | arp::HARDWARE_IEEE_802);
                let of_a_station = !arp.target_ip.is_loopback() && !arp.target_ip.is_multicast();
                arp.operation == arp::REQUEST && of_ethernet && of_a_station
            };
            return Some(arp::Arp::parse(frame).filter(is_question).map_or(Self::Other, Self::Arp));
        }
        let message = ndisc::Neighbour::parse(frame).filter(|message| message.kind == Kind::Solicitation)?;
        let of_a_station = !message.destination.is_loopback() && !message.target.is_multicast();
        Some(if of_a_station { Self::Solicitation(message) } else { Self::Other })
    }

    /// Whom it asks for.
    pub(super) fn asked(&self) -> Option<IpAddr> {
        match self {
            Self::Arp(arp) => Some(IpAddr::V4(arp.target_ip)),
            Self::Solicitation(message) => Some(IpAddr::V6(message.target)),
            Self::Other => None,
        }
    }

    /// What becomes of it; `find` is the FDB's answer.
    pub(super) fn reply(&self, bridge: &Bridge, find: impl FnOnce(MacAddr) -> Option<Endpoint>) -> Reply {
        let Some(ip) = self.asked() else { return Reply::Nothing };
        let Some(neigh) = bridge.neighs.get(ip) else { return Reply::Unknown(ip) };
        if let Some(Endpoint::Port(_)) = find(neigh.mac) {
            return Reply::HearsItself;
        }
        match self {
            Self::Arp(arp) => Reply::Answer { dst: arp.sender_mac, answer: Answer::Arp(arp.reply(neigh.mac)) },
            Self::Solicitation(message) => {
                let Some(frame) = message.advertisement(neigh.mac, neigh.router, Answerer::Vxlan) else {
                    return Reply::Senseless;
                };
                let [a, b, c, d, e, f, ..] = frame;
                Reply::Answer { dst: MacAddr::new([a, b, c, d, e, f]), answer: Answer::Advertisement(frame) }
            }
            Self::Other => Reply::Nothing,
        }
    }
}

/// Where route short circuit sends a frame that would leave for a VTEP (`vxlan_core.c`: `route_shortcircuit`; TTL and hop
/// limit stay as they are).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shortcut {
    /// It goes on as it is: its destination is no router, or it is no packet, or the router is whom it is for.
    Straight,
    /// So it does, because nobody knows who has the address that the packet is for.
    Unknown(IpAddr),
    /// It goes to the station that has this address, as if it came from the router.
    Station(IpAddr, Rewritten),
}

impl Shortcut {
    pub(super) fn of(bridge: &Bridge, dst: MacAddr, frame: &[u8]) -> Self {
        if !bridge.neighs.is_router(dst) {
            return Self::Straight;
        }
        let dissected = dissect(frame);
        let (Some(l3), 0) = (dissected.l3, dissected.tag_count) else { return Self::Straight };
        let ip = match (l3.version, l3.addresses(frame)) {
            (IpVersion::V4, Some(&[_, _, _, _, a, b, c, d])) => IpAddr::from([a, b, c, d]),
            (IpVersion::V6, Some(addresses)) => match addresses.last_chunk::<16>() {
                Some(octets) => IpAddr::from(*octets),
                None => return Self::Straight,
            },
            (IpVersion::V4, _) | (IpVersion::V6, None) => return Self::Straight,
        };
        match bridge.neighs.get(ip) {
            None => Self::Unknown(ip),
            Some(neigh) if neigh.mac == dst => Self::Straight,
            Some(neigh) => Self::Station(ip, Rewritten { dst: neigh.mac, src: dst }),
        }
    }
}

impl<'w> Walk<'w> {
    /// Does what has to be done otherwise than usual with a frame that came from a port. `spares`: its flood leaves out those
    /// that are spared answered questions. `false`: nothing.
    #[cold]
    pub(super) fn forward_looking(&mut self, staged: &Staged<'w>, verdict: Verdict, spares: bool) -> bool {
        let bridge = staged.bridge;
        let (Some(_), Some(_)) = (bridge.vni, &self.tables.overlay) else { return false };
        match verdict {
            Verdict::Drop(_) | Verdict::Unicast(Endpoint::Port(_)) => false,
            Verdict::Unicast(Endpoint::Vtep(_)) => {
                if let Some(question) = Question::of(bridge, staged.bytes) {
                    self.consume(staged, &question);
                    return true;
                }
                bridge.tunnel.rsc && self.short_circuit(staged)
            }
            Verdict::Flood(kind) => {
                let members = self.members_only(staged, kind);
                let leaves = members.map_or(!(spares && bridge.neigh_suppress), |members| members.overlay);
                if leaves && let Some(question) = Question::of(bridge, staged.bytes) {
                    self.flood_to_ports(staged, kind, members, spares);
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

    /// The copy for VTEPs ends here; who asked for a known neighbour gets an answer.
    fn consume(&mut self, staged: &Staged<'w>, question: &Question<'_>) {
        let (at, bridge, fdb) = (staged.ingress(), staged.bridge_id(), self.fdb);
        match question.reply(staged.bridge, |mac| fdb.lookup(bridge, mac)) {
            Reply::Answer { dst, answer } => self.send_answer(staged, dst, answer.bytes()),
            Reply::Unknown(ip) if staged.bridge.tunnel.l3miss => self.facts.mention(Fact::L3Miss { bridge, ip }),
            Reply::Unknown(_) | Reply::Nothing | Reply::HearsItself | Reply::Senseless => {}
        }
        self.counters().dropped_in(at, Some(bridge), DropReason::NeighProxied, u64::from(staged.frames));
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
    fn flood_to_ports(&mut self, staged: &Staged<'w>, kind: FloodKind, members: Option<&'w Targets>, spares: bool) {
        let (tables, bridge, ingress) = (self.tables, staged.bridge, staged.ingress());
        let to_all = members.is_none().then(|| tables.flood(bridge, ingress, kind)).into_iter().flatten();
        let to_all = to_all.filter(|to| !(spares && tables.is_spared(bridge, *to)));
        let to_members = members.into_iter().flat_map(|members| tables.members(bridge, ingress, staged.src(), members));
        for (to, host) in to_all.map(|to| (to, None)).chain(to_members) {
            if let Endpoint::Port(_) = to {
                self.counters().copied(ingress, staged.bridge_id(), u64::from(staged.frames));
                self.deliver_to_member(staged, to, host);
            }
        }
    }

    /// Route short circuit. `false`: the frame goes on as it is.
    fn short_circuit(&mut self, staged: &Staged<'w>) -> bool {
        let (bridge, id) = (staged.bridge, staged.bridge_id());
        let macs = match Shortcut::of(bridge, staged.dst(), staged.bytes) {
            Shortcut::Station(_, macs) => macs,
            Shortcut::Straight => return false,
            Shortcut::Unknown(ip) => {
                if bridge.tunnel.l3miss {
                    self.facts.mention(Fact::L3Miss { bridge: id, ip });
                }
                return false;
            }
        };
        let frames = u64::from(staged.frames);
        match self.fdb.lookup(id, macs.dst) {
            Some(to) => self.egress.deliver_rewritten(staged, to, macs),
            None if bridge.flood_list.is_empty() => {
                if bridge.tunnel.l2miss {
                    self.facts.mention(Fact::L2Miss { bridge: id, mac: macs.dst });
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
