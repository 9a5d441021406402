//! Answers in others' names: ARP and neighbour discovery that need not cross the bridge (`br_arp_nd_proxy.c`).
//!
//! The bridge itself has no IP address in weft, so what the kernel does for its own addresses has no counterpart here.

use std::net::IpAddr;

use super::{Bridge, PortEntry, Tables};
use crate::{
    ids::Endpoint,
    wire::{
        MacAddr,
        arp::{self, Arp},
        ndisc::{ADVERTISEMENT_LEN, Answerer, Kind, Neighbour},
    },
};

/// The frame that answers a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// An ARP reply.
    Arp([u8; arp::FRAME_LEN]),
    /// A neighbour advertisement.
    Advertisement([u8; ADVERTISEMENT_LEN]),
}

impl Answer {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Arp(bytes) => bytes,
            Self::Advertisement(bytes) => bytes,
        }
    }
}

/// What becomes of a frame that asks who has an address, or says so, besides its being forwarded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Suppression {
    /// What goes back to where the frame came from.
    pub answer: Option<Answer>,
    /// The frame is not flooded to those that are spared such frames ([`Tables::is_spared`]).
    pub spares: bool,
}

impl Tables {
    /// Whether somebody at this place is spared flooded questions that have an answer.
    pub fn is_spared(&self, bridge: &Bridge, at: Endpoint) -> bool {
        match at {
            Endpoint::Vtep(_) => bridge.neigh_suppress,
            Endpoint::Port(id) => {
                self.port(id).is_some_and(|port| port.options.neigh_suppress || port.options.proxy_arp_wifi)
            }
        }
    }

    /// What a bridge with such ports makes of a frame that entered it at `ingress`. `find` is the FDB's answer.
    #[cold]
    pub fn suppress(
        &self,
        bridge: &Bridge,
        ingress: Endpoint,
        frame: &[u8],
        find: impl Fn(MacAddr) -> Option<Endpoint>,
    ) -> Suppression {
        if let Some(arp) = Arp::parse(frame) {
            return self.suppress_arp(bridge, ingress, frame, &arp, find);
        }
        match Neighbour::parse(frame) {
            Some(neighbour) if self.suppresses(bridge) => self.suppress_nd(bridge, ingress, frame, &neighbour, find),
            Some(_) | None => Suppression::default(),
        }
    }

    /// `br_do_proxy_suppress_arp`
    fn suppress_arp(
        &self,
        bridge: &Bridge,
        ingress: Endpoint,
        frame: &[u8],
        arp: &Arp,
        find: impl Fn(MacAddr) -> Option<Endpoint>,
    ) -> Suppression {
        let (nothing, spared) = (Suppression::default(), Suppression { answer: None, spares: true });
        if arp.target_ip.is_loopback() || arp.target_ip.is_multicast() {
            return nothing;
        }
        let suppresses = self.suppresses(bridge);
        if suppresses {
            if self.has_suppression(bridge, ingress) || is_unicast(frame) && arp.operation == arp::REQUEST {
                return nothing;
            }
            let is_reverse = matches!(arp.operation, arp::REVERSE_REQUEST | arp::REVERSE_REPLY);
            // A probe (RFC 5227 section 2.1.1), whose sender has no address yet, is a question like any other: Linux kept it
            // off those that are spared until 7.2, and so hid duplicates from whoever looked for them.
            if !is_reverse && arp.sender_ip == arp.target_ip {
                return spared;
            }
        }
        if arp.operation != arp::REQUEST {
            return nothing;
        }
        let Some(neigh) = bridge.neighs.get(IpAddr::V4(arp.target_ip)) else { return nothing };
        let Some(at) = find(neigh.mac) else { return nothing };
        let ingress_proxies = self.port_at(ingress).is_some_and(|port| port.options.proxy_arp);
        let target_is_wifi = self.port_at(at).is_some_and(|port| port.options.proxy_arp_wifi);
        let answers = ingress_proxies || target_is_wifi || self.has_suppression(bridge, at);
        let answer = (answers && neigh.mac != arp.sender_mac).then(|| Answer::Arp(arp.reply(neigh.mac)));
        Suppression { spares: answer.is_some() || suppresses, answer }
    }

    /// `br_do_suppress_nd`
    fn suppress_nd(
        &self,
        bridge: &Bridge,
        ingress: Endpoint,
        frame: &[u8],
        neighbour: &Neighbour<'_>,
        find: impl Fn(MacAddr) -> Option<Endpoint>,
    ) -> Suppression {
        let (nothing, spared) = (Suppression::default(), Suppression { answer: None, spares: true });
        if self.has_suppression(bridge, ingress) {
            return nothing;
        }
        match neighbour.kind {
            Kind::Advertisement { solicited: false } => return spared,
            Kind::Advertisement { solicited: true } => return nothing,
            Kind::Solicitation if is_unicast(frame) => return nothing,
            Kind::Solicitation => {}
        }
        if neighbour.source == neighbour.destination {
            return spared;
        }
        let Some(neigh) = bridge.neighs.get(IpAddr::V6(neighbour.target)) else { return nothing };
        let Some(at) = find(neigh.mac) else { return nothing };
        let answer = self.has_suppression(bridge, at);
        let answer = answer.then(|| neighbour.advertisement(neigh.mac, neigh.router, Answerer::Bridge)).flatten();
        Suppression { answer: answer.map(Answer::Advertisement), spares: true }
    }

    /// Whether any part of the bridge has `neigh_suppress`.
    fn suppresses(&self, bridge: &Bridge) -> bool {
        let port = |id: &_| self.port(*id).is_some_and(|port| port.options.neigh_suppress);
        bridge.neigh_suppress || bridge.ports.iter().any(port)
    }

    fn has_suppression(&self, bridge: &Bridge, at: Endpoint) -> bool {
        match at {
            Endpoint::Vtep(_) => bridge.neigh_suppress,
            Endpoint::Port(_) => self.port_at(at).is_some_and(|port| port.options.neigh_suppress),
        }
    }

    fn port_at(&self, at: Endpoint) -> Option<&PortEntry> {
        match at {
            Endpoint::Port(id) => self.port(id),
            Endpoint::Vtep(_) => None,
        }
    }
}

/// Whether the frame goes to one station.
fn is_unicast(frame: &[u8]) -> bool {
    frame.first().is_some_and(|octet| octet & 1 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bridge::{Membership, Neigh, PortOptions, PortSecurity},
        ids::{BridgeId, PortId, VtepId},
    };

    const ASKER: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);
    const ASKED: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 2]);
    const P0: Endpoint = Endpoint::Port(PortId(0));
    const P1: Endpoint = Endpoint::Port(PortId(1));

    /// Ports 0 and 1, and 10.0.0.2 and fd00::2 have the address [`ASKED`].
    fn tables(change: impl Fn(usize, &mut PortOptions)) -> (Tables, Bridge) {
        let port = |index| {
            let mut options = PortOptions::default();
            change(index, &mut options);
            Some(PortEntry {
                membership: Membership::Access(BridgeId(0)),
                options,
                security: PortSecurity::default(),
                mtu: 1500,
                up: true,
            })
        };
        let neigh = Neigh { mac: ASKED, router: false };
        let neighs = ["10.0.0.2", "fd00::2"].map(|ip| (ip.parse().unwrap(), neigh)).into_iter().collect();
        let bridge = Bridge { ports: vec![PortId(0), PortId(1)], neighs, ..Bridge::default() };
        (Tables { ports: vec![port(0), port(1)], ..Tables::default() }, bridge)
    }

    fn arp(operation: u8, dst: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let mut frame = dst.to_vec();
        frame.extend(ASKER.octets());
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
        frame.extend(ASKER.octets());
        frame.extend(sender);
        frame.extend([0; 6]);
        frame.extend(target);
        frame
    }

    fn request() -> Vec<u8> {
        arp(1, [0xff; 6], [10, 0, 0, 1], [10, 0, 0, 2])
    }

    /// A message from `source` about fd00::2 to its solicited-node group.
    fn nd(kind: u8, flags: u8, source: &str) -> Vec<u8> {
        let mut frame = vec![0x33, 0x33, 0xff, 0, 0, 2];
        frame.extend(ASKER.octets());
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 58, 255]);
        frame.extend(source.parse::<std::net::Ipv6Addr>().unwrap().octets());
        frame.extend("ff02::1:ff00:2".parse::<std::net::Ipv6Addr>().unwrap().octets());
        frame.extend([kind, 0, 0, 0, flags, 0, 0, 0]);
        frame.extend("fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
        frame
    }

    fn suppress_at_1(index: usize, options: &mut PortOptions) {
        options.neigh_suppress = index == 1;
    }

    #[test]
    fn a_question_for_somebody_behind_a_suppressing_port_is_answered_and_not_flooded_there() {
        let (tables, bridge) = tables(suppress_at_1);
        for frame in [request(), nd(135, 0, "fd00::1")] {
            let done = tables.suppress(&bridge, P0, &frame, |_| Some(P1));
            let answer = done.answer.unwrap();
            assert!(done.spares);
            assert_eq!(answer.bytes()[..12], [ASKER.octets(), ASKED.octets()].concat());
        }
        assert!(tables.is_spared(&bridge, P1) && !tables.is_spared(&bridge, P0));
    }

    #[test]
    fn what_is_known_behind_another_port_is_spared_but_not_answered() {
        let (tables, bridge) = tables(suppress_at_1);
        for frame in [request(), nd(135, 0, "fd00::1")] {
            let done = tables.suppress(&bridge, P0, &frame, |_| Some(P0));
            assert_eq!(done, Suppression { answer: None, spares: true });
            assert_eq!(tables.suppress(&bridge, P0, &frame, |_| None), Suppression::default(), "not in the FDB");
            assert_eq!(tables.suppress(&bridge, P1, &frame, |_| Some(P1)), Suppression::default(), "asked there");
        }
    }

    #[test]
    fn what_is_said_unasked_is_kept_off_suppressing_ports() {
        let (tables, bridge) = tables(suppress_at_1);
        let spares = |frame: &[u8]| tables.suppress(&bridge, P0, frame, |_| Some(P1));
        let only_spared = Suppression { answer: None, spares: true };
        assert_eq!(spares(&arp(1, [0xff; 6], [10, 0, 0, 2], [10, 0, 0, 2])), only_spared, "gratuitous");
        assert_eq!(spares(&arp(2, [0xff; 6], [10, 0, 0, 2], [10, 0, 0, 2])), only_spared, "gratuitous reply");
        assert_eq!(spares(&nd(136, 0, "fd00::1")), only_spared, "unsolicited advertisement");
        assert_eq!(spares(&nd(136, 0x40, "fd00::1")), Suppression::default(), "an answer");
        assert_eq!(spares(&arp(3, [0xff; 6], [0; 4], [10, 0, 0, 2])), Suppression::default(), "reverse ARP");
    }

    #[test]
    fn who_looks_for_duplicates_is_answered_like_anybody_else() {
        let (tables, bridge) = tables(suppress_at_1);
        for frame in [arp(1, [0xff; 6], [0; 4], [10, 0, 0, 2]), nd(135, 0, "::")] {
            let done = tables.suppress(&bridge, P0, &frame, |_| Some(P1));
            assert!(done.answer.is_some() && done.spares, "{done:?}");
            assert_eq!(tables.suppress(&bridge, P0, &frame, |_| None), Suppression::default(), "nobody is known");
        }
    }

    #[test]
    fn questions_to_one_station_or_about_groups_and_this_host_pass() {
        let (tables, bridge) = tables(suppress_at_1);
        for frame in [
            arp(1, ASKED.octets(), [10, 0, 0, 1], [10, 0, 0, 2]),
            arp(1, [0xff; 6], [10, 0, 0, 1], [127, 0, 0, 1]),
            arp(1, [0xff; 6], [10, 0, 0, 1], [224, 0, 0, 1]),
            arp(1, [0xff; 6], [10, 0, 0, 1], [10, 0, 0, 3]),
        ] {
            assert_eq!(tables.suppress(&bridge, P0, &frame, |_| Some(P1)), Suppression::default());
        }
    }

    #[test]
    fn nobody_is_told_his_own_address() {
        let (tables, mut bridge) = tables(suppress_at_1);
        let own = Neigh { mac: ASKER, router: false };
        bridge.neighs = [("10.0.0.2".parse().unwrap(), own)].into_iter().collect();
        let done = tables.suppress(&bridge, P0, &request(), |_| Some(P1));
        assert_eq!(done, Suppression { answer: None, spares: true });
    }

    #[test]
    fn a_proxy_answers_who_asks_there_and_a_wifi_proxy_who_asks_for_somebody_there() {
        let (proxy, bridge) = tables(|index, options| options.proxy_arp = index == 0);
        assert!(proxy.suppress(&bridge, P0, &request(), |_| Some(P1)).answer.is_some());
        assert_eq!(proxy.suppress(&bridge, P1, &request(), |_| Some(P0)), Suppression::default());
        let (wifi, bridge) = tables(|index, options| options.proxy_arp_wifi = index == 1);
        assert!(wifi.suppress(&bridge, P0, &request(), |_| Some(P1)).spares);
        assert!(wifi.is_spared(&bridge, P1));
        assert_eq!(wifi.suppress(&bridge, P0, &nd(135, 0, "fd00::1"), |_| Some(P1)), Suppression::default());
    }

    #[test]
    fn the_overlay_can_be_spared_as_a_port_can() {
        let (tables, mut bridge) = tables(|_, _| {});
        bridge.neigh_suppress = true;
        let vtep = Endpoint::Vtep(VtepId(1));
        assert!(tables.suppress(&bridge, P0, &request(), |_| Some(vtep)).answer.is_some());
        assert_eq!(tables.suppress(&bridge, vtep, &request(), |_| Some(vtep)), Suppression::default());
        assert!(tables.is_spared(&bridge, vtep));
    }
}
