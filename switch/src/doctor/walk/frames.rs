//! Where an Ethernet frame goes: out of an interface and into those that receive it. What stands between them has files of its
//! own: `bridge`, `vlans`, `children`, `tunnels`, `switch`; what is at the interface itself, `hooks`.

use std::collections::BTreeSet;

use super::{Walker, packet::Packet};
use crate::{
    doctor::{
        Finding,
        step::Trouble,
        survey::values::Details,
        world::{At, Other, WeftAt},
    },
    wire::MacAddr,
};

/// A frame on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Frame {
    pub(super) source: MacAddr,
    pub(super) destination: MacAddr,
    pub(super) vlan: Option<u16>,
    /// What is inside; of an ARP request, the packet that waits for its answer.
    pub(super) packet: Packet,
    pub(super) arp: bool,
}

impl Frame {
    /// Bytes behind the Ethernet header, without a tag.
    pub(super) const fn len(&self) -> u32 {
        if self.arp { 28 } else { self.packet.len }
    }
}

/// A set of ports that learn together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Domain {
    /// A kernel bridge.
    Bridge(At),
    /// A bridge of a weft, by its place in the list.
    Weft(WeftAt, usize),
    /// A vxlan device's own table.
    Tunnel(At),
}

/// Where an address was learned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Behind {
    Port(At),
    Remote(std::net::IpAddr),
}

/// An entry that sent a frame somewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Decision {
    /// The port or the device that it chose.
    pub(super) at: At,
    /// The VTEP that it chose.
    pub(super) remote: Option<std::net::IpAddr>,
    /// What is wrong with it, if the destination is not there.
    pub(super) trouble: Trouble,
}

/// All that became of a frame and its copies.
#[derive(Clone, Debug, Default)]
pub(super) struct Spread {
    /// Interfaces whose namespace got it.
    pub(super) arrivals: Vec<At>,
    /// Where copies ended, and why.
    pub(super) ends: Vec<(At, Trouble)>,
    /// Bridges whose own device got no copy, and why: those behind their ports don't care.
    pub(super) unheard: Vec<(At, Trouble)>,
    /// Devices that answered for the neighbour that was asked for, and with which address.
    pub(super) answers: Vec<(At, MacAddr)>,
    /// Interfaces by which copies left to where doctor can't see.
    pub(super) out_of_sight: Vec<(At, String)>,
    /// Every interface it passed, in order.
    pub(super) passed: Vec<At>,
    /// FDB entries that sent it somewhere: the port or device chosen, and the trouble if that was wrong.
    pub(super) decisions: Vec<Decision>,
    seen: BTreeSet<(At, Option<u16>, bool)>,
}

impl Spread {
    pub(super) fn end(&mut self, at: At, trouble: Trouble) {
        self.ends.push((at, trouble));
    }

    fn enter(&mut self, at: At, vlan: Option<u16>, inwards: bool) -> bool {
        self.passed.push(at);
        self.seen.insert((at, vlan, inwards))
    }
}

impl Walker<'_> {
    /// Sends a frame by an interface and follows all of it.
    pub(super) fn spread(&mut self, from: At, frame: Frame) -> Spread {
        let mut spread = Spread::default();
        self.transmit(from, frame, &mut spread);
        spread
    }

    /// Out of an interface.
    pub(super) fn transmit(&mut self, at: At, frame: Frame, spread: &mut Spread) {
        if !spread.enter(at, frame.vlan, false) {
            return;
        }
        let link = self.survey.link(at);
        if !link.up {
            return spread.end(at, self.link_down(at));
        }
        if let Some(trouble) = self.lossy(at) {
            return spread.end(at, trouble);
        }
        if let Some(trouble) = self.tc_drops(at, false).or_else(|| self.device_filter_drops(at, "egress", frame)) {
            return spread.end(at, trouble);
        }
        match (&link.details, link.kind.as_str()) {
            (Details::Bridge(_), _) => self.bridge(at, None, frame, spread),
            (Details::Tunnel(tunnel), _) => self.encapsulate(at, tunnel, frame, spread),
            (Details::Vlan(vlan), _) => {
                let tagged = Frame { vlan: Some(vlan.id), ..frame };
                match self.survey.other(at) {
                    Other::At(lower) => self.transmit(lower, tagged, spread),
                    Other::OutOfSight | Other::None => spread.out_of_sight.push((at, "its parent is".to_owned())),
                }
            }
            (Details::Macvlan(mode), _) => self.macvlan_sends(at, *mode, frame, spread),
            (Details::Ipvlan(ipvlan), _) => self.ipvlan_sends(at, ipvlan, frame, spread),
            (Details::Tun { .. }, _) => self.tap_sends(at, frame, spread),
            (Details::None | Details::Vrf { .. }, "veth" | "netkit") => match self.survey.other(at) {
                Other::At(peer) => self.arrive(peer, frame, spread),
                Other::OutOfSight => {
                    let why = "the cable's other end is in a namespace that doctor can't see".to_owned();
                    spread.out_of_sight.push((at, why));
                }
                Other::None => spread.end(at, self.no_carrier(at)),
            },
            (Details::None | Details::Vrf { .. }, "dummy") => {
                let text = format!("{} is a dummy: what is sent by it goes nowhere", link.name);
                spread.end(at, Trouble::new(Finding::RouteWrong, self.at(at), text));
            }
            (Details::None | Details::Vrf { .. }, _) => {
                spread.out_of_sight.push((at, format!("{} leads to the outside", link.name)));
            }
        }
    }

    /// Into an interface from what is at its other end.
    pub(super) fn arrive(&mut self, at: At, frame: Frame, spread: &mut Spread) {
        if !spread.enter(at, frame.vlan, true) {
            return;
        }
        let link = self.survey.link(at);
        if !link.up {
            return spread.end(at, self.link_down(at));
        }
        // What is longer than the receiving end allows is lost without a trace (`net/core/dev.c:is_skb_forwardable`).
        if frame.len() > link.mtu + if frame.vlan.is_some() { 0 } else { 4 } {
            return spread.end(at, self.too_long_to_receive(at, frame));
        }
        if let Some(trouble) = self.tc_drops(at, true).or_else(|| self.device_filter_drops(at, "ingress", frame)) {
            return spread.end(at, trouble);
        }
        if let Some((target, trouble)) = self.redirected(at, frame) {
            spread.decisions.extend(trouble.map(|trouble| Decision { at: target, remote: None, trouble }));
            let text = format!("a program sends it on to {}", self.at(target));
            self.note(self.at(at), text);
            return self.transmit(target, frame, spread);
        }
        self.take_in(at, frame, spread);
    }

    /// What an interface does with what has come in.
    pub(super) fn take_in(&mut self, at: At, frame: Frame, spread: &mut Spread) {
        let link = self.survey.link(at);
        if let Some(port) = self.survey.weft_port(at)
            && link.kind != "tun"
        {
            // A packet port: weft reads what comes in by an interface that exists.
            self.enter_weft(port, frame, spread);
            if frame.vlan.is_some() {
                return;
            }
        }
        if let Some(id) = frame.vlan
            && let Some(child) = self.vlan_interface(at, id)
        {
            // Before a bridge gets to see it (`net/core/dev.c:__netif_receive_skb_core`).
            return self.arrive(child, Frame { vlan: None, ..frame }, spread);
        }
        if link.port.is_some()
            && let Some(bridge) = self.survey.bridge_of(at)
        {
            return self.bridge(bridge, Some(at), frame, spread);
        }
        if let Some(id) = frame.vlan {
            return spread.end(at, self.tag_is_not_understood(at, id));
        }
        let taken = self.reach_children(at, frame, spread);
        let mine = frame.destination.is_multicast() || Some(frame.destination) == link.mac;
        if mine && !taken {
            spread.arrivals.push(at);
        }
    }

    fn tap_sends(&mut self, at: At, frame: Frame, spread: &mut Spread) {
        if let Some(port) = self.survey.weft_port(at) {
            return self.enter_weft(port, frame, spread);
        }
        if self.survey.link(at).carrier {
            let why = "a process that doctor doesn't know has the tap open".to_owned();
            spread.out_of_sight.push((at, why));
        } else {
            spread.end(at, self.no_carrier(at));
        }
    }

    /// The interface in `ip link`'s words.
    pub(super) fn row(&self, at: At) -> String {
        self.survey.space(at.space).link_row(self.survey.link(at))
    }
}
