//! Where an Ethernet frame goes: out of an interface, over cables, through bridges, VLANs, macvlans, tunnels and wefts.

use std::collections::BTreeSet;

use super::{
    Walker,
    filter::{self, Outcome, Place},
    packet::Packet,
};
use crate::{
    doctor::{
        Finding,
        step::Trouble,
        survey::values::{Details, Link, MacvlanMode, PortPhase, PortVlan, TcFilter},
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
        if let Some(trouble) = self.tc_drops(at, false) {
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
            (Details::Ipvlan(_), _) => self.ipvlan_sends(at, frame, spread),
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
        if let Some(trouble) = self.tc_drops(at, true) {
            return spread.end(at, trouble);
        }
        if let Some(trouble) = self.ingress_drops(at, frame) {
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
        if link.port.is_some()
            && let Some(bridge) = self.survey.bridge_of(at)
        {
            return self.bridge(bridge, Some(at), frame, spread);
        }
        if let Some(port) = self.survey.weft_port(at)
            && link.kind != "tun"
        {
            // A packet port: weft reads what comes in by an interface that exists.
            self.enter_weft(port, frame, spread);
            if frame.vlan.is_some() {
                return;
            }
        }
        let children = self.survey.children(at);
        if let Some(id) = frame.vlan {
            let is_it =
                |child: &&At| matches!(&self.survey.link(**child).details, Details::Vlan(vlan) if vlan.id == id);
            return match children.iter().find(is_it) {
                Some(child) => self.arrive(*child, Frame { vlan: None, ..frame }, spread),
                None => {
                    let text = format!("a frame of VLAN {id} comes in by {}, which has no interface for it", link.name);
                    let trouble = Trouble::new(Finding::VlanMissing, self.at(at), text);
                    spread.end(at, trouble.row(self.survey.space(at.space).inside("ip link"), self.row(at)));
                }
            };
        }
        for child in children {
            self.reach_child(child, frame, spread);
        }
        let mine = frame.destination.is_multicast() || Some(frame.destination) == link.mac;
        let passthru = |child: &At| matches!(self.survey.link(*child).details, Details::Macvlan(MacvlanMode::Passthru));
        if mine && !self.survey.children(at).iter().any(passthru) {
            spread.arrivals.push(at);
        }
    }

    fn reach_child(&mut self, child: At, frame: Frame, spread: &mut Spread) {
        let link = self.survey.link(child);
        let for_it = frame.destination.is_multicast() || Some(frame.destination) == link.mac;
        match &link.details {
            Details::Macvlan(_) if for_it => self.arrive(child, frame, spread),
            // All children of an ipvlan have their parent's address; the packet's tells them apart.
            Details::Ipvlan(_) if for_it => {
                let has = self.survey.space(child.space).has(frame.packet.destination);
                if frame.arp || has {
                    self.arrive(child, frame, spread);
                }
            }
            Details::None
            | Details::Bridge(_)
            | Details::Vlan(_)
            | Details::Tunnel(_)
            | Details::Macvlan(_)
            | Details::Ipvlan(_)
            | Details::Vrf { .. }
            | Details::Tun { .. } => {}
        }
    }

    /// `drivers/net/macvlan.c:macvlan_queue_xmit`: to siblings in mode bridge, to the wire in all; never to the parent.
    fn macvlan_sends(&mut self, at: At, mode: MacvlanMode, frame: Frame, spread: &mut Spread) {
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

    fn ipvlan_sends(&mut self, at: At, frame: Frame, spread: &mut Spread) {
        let Other::At(parent) = self.survey.other(at) else {
            return spread.out_of_sight.push((at, "its parent is".to_owned()));
        };
        let apart = matches!(&self.survey.link(at).details, Details::Ipvlan(ipvlan) if ipvlan.private || ipvlan.vepa);
        for sibling in self.survey.children(parent).into_iter().filter(|sibling| *sibling != at) {
            let has = self.survey.space(sibling.space).has(frame.packet.destination);
            if !has {
                continue;
            }
            if apart {
                let text = format!(
                    "{} keeps its ipvlan children apart (private or vepa): {} is not reached",
                    self.at(parent),
                    self.at(sibling)
                );
                spread.end(at, Trouble::new(Finding::IpvlanMode, self.at(at), text).row("ip -d link", self.row(at)));
                continue;
            }
            self.arrive(
                sibling,
                Frame { destination: self.survey.link(sibling).mac.unwrap_or(MacAddr::ZERO), ..frame },
                spread,
            );
            return;
        }
        self.transmit(parent, frame, spread);
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

    /// Into a kernel bridge, by a port or from the bridge device itself (`net/bridge/br_input.c:br_handle_frame_finish`).
    fn bridge(&mut self, bridge: At, ingress: Option<At>, frame: Frame, spread: &mut Spread) {
        let link = self.survey.link(bridge);
        let Details::Bridge(options) = &link.details else { return };
        if !link.up {
            return spread.end(bridge, self.link_down(bridge));
        }
        spread.passed.push(bridge);
        let vlan = match self.vlan_in(bridge, ingress, options.vlan_filtering, frame) {
            Ok(vlan) => vlan,
            Err(trouble) => return spread.end(ingress.unwrap_or(bridge), trouble),
        };
        if let Some(at) = ingress
            && let Some(port) = &self.survey.link(at).port
        {
            if port.state != PortPhase::Forwarding {
                return spread.end(at, self.port_blocked(at, port.state));
            }
            let is_known = |entry: &crate::doctor::survey::values::Forwarding| {
                entry.link == at.link && entry.mac.0 == frame.source && entry.master
            };
            if port.locked && !self.survey.space(at.space).fdb.iter().any(is_known) {
                let text = format!("the port is locked, and no entry lets {} in", frame.source);
                let trouble = Trouble::new(Finding::BridgePortLocked, self.at(at), text);
                return spread.end(
                    at,
                    trouble.row(self.port_command(at), self.port_row(at)).next(format!(
                        "bridge fdb add {} dev {} master static",
                        frame.source,
                        self.survey.link(at).name
                    )),
                );
            }
            if port.learning && !self.is_nailed(bridge, vlan, frame.source) {
                self.learned.insert((Domain::Bridge(bridge), vlan, frame.source), Behind::Port(at));
            }
        }
        if let Some(trouble) = self.bridge_filter(bridge, "prerouting", ingress, None, frame) {
            return spread.end(ingress.unwrap_or(bridge), trouble);
        }
        self.bridge_out(bridge, ingress, vlan, frame, spread);
    }

    fn bridge_out(&mut self, bridge: At, ingress: Option<At>, vlan: u16, frame: Frame, spread: &mut Spread) {
        let is_local = |mac: MacAddr| {
            let own = self.survey.link(bridge).mac == Some(mac);
            own || self.survey.ports(bridge).iter().any(|port| self.survey.link(*port).mac == Some(mac))
        };
        if frame.destination.is_multicast() || is_local(frame.destination) {
            if ingress.is_some() {
                let inside = Frame { vlan: (vlan != 0 && frame.vlan.is_some()).then_some(vlan), ..frame };
                self.reach_bridge_device(bridge, inside, spread);
            }
            if !frame.destination.is_multicast() {
                return;
            }
        }
        if !frame.destination.is_multicast()
            && let Some((port, trouble)) = self.forwarding(bridge, vlan, frame.destination)
        {
            if let Some(trouble) = trouble {
                spread.decisions.push(Decision { at: port, remote: None, trouble });
            }
            if Some(port) == ingress && !self.survey.link(port).port.as_ref().is_some_and(|port| port.hairpin) {
                return;
            }
            return self.by_port(bridge, ingress, port, vlan, frame, spread);
        }
        for port in self.survey.ports(bridge) {
            let Some(options) = &self.survey.link(port).port else { continue };
            if Some(port) == ingress && !options.hairpin {
                continue;
            }
            let floods = match (frame.destination.is_broadcast(), frame.destination.is_multicast()) {
                (true, _) => options.bcast_flood,
                (false, true) => options.mcast_flood,
                (false, false) => options.flood,
            };
            if !floods {
                spread.end(port, self.not_flooded(bridge, port, vlan, frame));
                continue;
            }
            self.by_port(bridge, ingress, port, vlan, frame, spread);
        }
    }

    /// The bridge device is a station too.
    fn reach_bridge_device(&mut self, bridge: At, frame: Frame, spread: &mut Spread) {
        if let Some(id) = frame.vlan {
            let is_it = |child: &At| matches!(&self.survey.link(*child).details, Details::Vlan(vlan) if vlan.id == id);
            if let Some(child) = self.survey.children(bridge).into_iter().find(is_it) {
                self.arrive(child, Frame { vlan: None, ..frame }, spread);
            }
            return;
        }
        for child in self.survey.children(bridge) {
            self.reach_child(child, frame, spread);
        }
        if frame.destination.is_multicast() || self.survey.link(bridge).mac == Some(frame.destination) {
            spread.arrivals.push(bridge);
        } else {
            // The address of one of its ports: the bridge takes that for its own.
            spread.arrivals.push(bridge);
        }
    }

    /// Out of a bridge by one of its ports (`net/bridge/br_forward.c:should_deliver`).
    fn by_port(&mut self, bridge: At, ingress: Option<At>, port: At, vlan: u16, frame: Frame, spread: &mut Spread) {
        let link = self.survey.link(port);
        let Some(options) = &link.port else { return };
        if !link.up {
            return spread.end(port, self.link_down(port));
        }
        if options.state != PortPhase::Forwarding {
            return spread.end(port, self.port_blocked(port, options.state));
        }
        if let Some(ingress) = ingress
            && options.isolated
            && self.survey.link(ingress).port.as_ref().is_some_and(|port| port.isolated)
        {
            let text = format!("{} and {} are both isolated", self.at(ingress), link.name);
            let trouble = Trouble::new(Finding::BridgePortIsolated, self.at(port), text);
            let rows = [self.port_row(ingress), self.port_row(port)];
            return spread.end(
                port,
                trouble.rows(self.port_command(port), rows).next(
                    self.survey.space(port.space).inside(&format!("bridge link set dev {} isolated off", link.name)),
                ),
            );
        }
        let mut out = frame;
        if vlan != 0 {
            let Some(member) = options.vlans.iter().find(|it| it.id == vlan) else {
                return spread.end(port, self.not_in_vlan(port, vlan, &options.vlans));
            };
            out.vlan = (!member.untagged).then_some(vlan);
        }
        if let Some(trouble) = self.bridge_filter(bridge, "forward", ingress, Some(port), frame) {
            return spread.end(port, trouble);
        }
        // Dropped without a counter (`br_dev_queue_push_xmit`).
        if frame.len() > link.mtu + 4 {
            return spread.end(port, self.too_long_to_leave(port, frame));
        }
        self.transmit(port, out, spread);
    }

    /// The VLAN that a frame is in, 0 where they mean nothing (`net/bridge/br_vlan.c:__allowed_ingress`).
    fn vlan_in(&self, bridge: At, ingress: Option<At>, filtering: bool, frame: Frame) -> Result<u16, Trouble> {
        if !filtering {
            return Ok(0);
        }
        let at = ingress.unwrap_or(bridge);
        let vlans: &[PortVlan] = match (&self.survey.link(at).port, &self.survey.link(bridge).details) {
            (Some(port), _) if ingress.is_some() => &port.vlans,
            (_, Details::Bridge(options)) => &options.vlans,
            (_, _) => &[],
        };
        let vlan = match frame.vlan.filter(|vlan| *vlan != 0) {
            Some(vlan) => vlan,
            None => match vlans.iter().find(|vlan| vlan.pvid) {
                Some(vlan) => vlan.id,
                None => {
                    let text = "untagged frames have no VLAN there (no PVID)".to_owned();
                    let trouble = Trouble::new(Finding::VlanMismatch, self.at(at), text);
                    return Err(trouble.row(self.vlan_command(at), self.vlan_row(at)));
                }
            },
        };
        if vlans.iter().any(|it| it.id == vlan) { Ok(vlan) } else { Err(self.not_in_vlan(at, vlan, vlans)) }
    }

    /// Where the database of a bridge sends an address; with the trouble that it is if that is wrong.
    fn forwarding(&self, bridge: At, vlan: u16, mac: MacAddr) -> Option<(At, Option<Trouble>)> {
        let ports = self.survey.ports(bridge);
        let space = self.survey.space(bridge.space);
        let entry = space.fdb.iter().find(|entry| {
            entry.master
                && !entry.local
                && entry.mac.0 == mac
                && (vlan == 0 || entry.vlan.is_none_or(|it| it == vlan))
                && ports.iter().any(|port| port.link == entry.link)
        });
        let learned = self.learned.get(&(Domain::Bridge(bridge), vlan, mac));
        match (entry, learned) {
            (Some(entry), learned) if entry.sticky || learned.is_none() => {
                let port = At { space: bridge.space, link: entry.link };
                let row = self.fdb_row(bridge, entry);
                let text =
                    format!("the FDB of {} says that {mac} is behind {}", self.at(bridge), space.link_name(entry.link));
                let trouble = Trouble::new(Finding::FdbEntryWrong, self.at(port), text);
                let command = space.inside(&format!("bridge fdb show br {}", space.link_name(bridge.link)));
                let cure = format!("bridge fdb del {mac} dev {} master", space.link_name(entry.link));
                Some((port, Some(trouble.row(command, row).next(space.inside(&cure)))))
            }
            (_, Some(Behind::Port(port))) => Some((*port, None)),
            (_, Some(Behind::Remote(_)) | None) => None,
        }
    }

    /// Whether an address can't be learned elsewhere.
    fn is_nailed(&self, bridge: At, vlan: u16, mac: MacAddr) -> bool {
        let ports = self.survey.ports(bridge);
        self.survey.space(bridge.space).fdb.iter().any(|entry| {
            entry.master
                && (entry.sticky || entry.local)
                && entry.mac.0 == mac
                && (vlan == 0 || entry.vlan.is_none_or(|it| it == vlan))
                && ports.iter().any(|port| port.link == entry.link)
        })
    }

    /// Filters in a bridge: nftables' own family, and the host's IP filter where br_netfilter hands frames to it.
    fn bridge_filter(
        &mut self,
        bridge: At,
        hook: &str,
        ingress: Option<At>,
        port: Option<At>,
        frame: Frame,
    ) -> Option<Trouble> {
        let space = self.survey.space(bridge.space);
        let ruleset = space.nft.as_ref()?;
        let name = |at: Option<At>| at.map(|at| self.survey.link(at).name.as_str());
        let place = Place {
            hook,
            iif: name(ingress),
            oif: name(port),
            bridged: true,
            arp: frame.arp,
            frame: Some((frame.source, frame.destination, frame.vlan)),
        };
        let at = port.or(ingress).unwrap_or(bridge);
        if let Outcome::Drop { chain, rule } = filter::pass(ruleset, place, frame.packet).outcome {
            let trouble = self.dropped_by_rule(at.space, &self.at(at), chain, rule, frame.packet);
            return Some(trouble);
        }
        let (hands_over, why) = self.hands_to_ip_filter(bridge, frame.packet.is_ipv6());
        if hook != "forward" || frame.arp || ingress.is_none() || !hands_over {
            return None;
        }
        // The bridge is what comes in and goes out there, unless rules ask for the ports (`physdev`).
        let own = Some(self.survey.link(bridge).name.as_str());
        let place = Place { hook, iif: own, oif: own, bridged: false, arp: false, frame: None };
        let Outcome::Drop { chain, rule } = filter::pass(ruleset, place, frame.packet).outcome else { return None };
        let mut trouble = self.dropped_by_rule(at.space, &self.at(at), chain, rule, frame.packet);
        trouble.finding = Finding::BridgeNetfilter;
        trouble.text =
            format!("br_netfilter hands bridged packets to the host's IP filter, and there {}", trouble.text);
        Some(trouble.row("sysctl net.bridge", why).next(space.inside("sysctl -w net.bridge.bridge-nf-call-iptables=0")))
    }

    fn hands_to_ip_filter(&self, bridge: At, ipv6: bool) -> (bool, String) {
        let key = if ipv6 { "ip6tables" } else { "iptables" };
        let path = format!("net/bridge/bridge-nf-call-{key}");
        let by_sysctl = self.survey.space(bridge.space).sysctl(&path);
        let by_bridge = match &self.survey.link(bridge).details {
            Details::Bridge(options) if ipv6 => options.nf_call_ip6tables,
            Details::Bridge(options) => options.nf_call_iptables,
            Details::None
            | Details::Vlan(_)
            | Details::Tunnel(_)
            | Details::Macvlan(_)
            | Details::Ipvlan(_)
            | Details::Vrf { .. }
            | Details::Tun { .. } => false,
        };
        let row = format!("net.bridge.bridge-nf-call-{key} = {}", by_sysctl.unwrap_or(0));
        (by_sysctl.is_some() && (by_sysctl == Some(1) || by_bridge), row)
    }

    /// A filter of tc that drops what passes an interface.
    fn tc_drops(&self, at: At, ingress: bool) -> Option<Trouble> {
        let space = self.survey.space(at.space);
        let drops = |filter: &&TcFilter| {
            filter.link == at.link
                && filter.ingress == ingress
                && filter.kind == "matchall"
                && filter.actions.iter().any(|action| action == "drop")
        };
        let filter = space.filters.iter().find(drops)?;
        let way = if ingress { "ingress" } else { "egress" };
        let name = space.link_name(at.link);
        let text =
            format!("a tc filter drops all that passes {name} on the way {}", if ingress { "in" } else { "out" });
        let row = format!("filter pref {} {} action {}", filter.priority, filter.kind, filter.actions.join(", "));
        let command = space.inside(&format!("tc filter show dev {name} {way}"));
        Some(Trouble::new(Finding::TcDrop, self.at(at), text).row(command, row))
    }

    /// nftables' hook at the interface itself (family netdev), before everything else.
    fn ingress_drops(&self, at: At, frame: Frame) -> Option<Trouble> {
        let space = self.survey.space(at.space);
        let name = space.link_name(at.link);
        let place = Place {
            hook: "ingress",
            iif: Some(&name),
            oif: None,
            bridged: false,
            arp: frame.arp,
            frame: Some((frame.source, frame.destination, frame.vlan)),
        };
        match filter::pass(space.nft.as_ref()?, place, frame.packet).outcome {
            Outcome::Drop { chain, rule } => {
                Some(self.dropped_by_rule(at.space, &self.at(at), chain, rule, frame.packet))
            }
            Outcome::Accept | Outcome::Translate { .. } => None,
        }
    }

    /// A queue that loses what it is given on purpose; a little of that is told by another check.
    fn lossy(&self, at: At) -> Option<Trouble> {
        const HALF: u32 = u32::MAX / 2;
        let space = self.survey.space(at.space);
        let qdisc =
            space.qdiscs.iter().find(|qdisc| qdisc.link == at.link && qdisc.loss.is_some_and(|loss| loss > HALF))?;
        let share = f64::from(qdisc.loss?) / f64::from(u32::MAX) * 100.0;
        let name = space.link_name(at.link);
        let text = format!("its qdisc netem loses {share:.0} % of what is sent by {name}");
        let command = space.inside(&format!("tc -s qdisc show dev {name}"));
        let row = format!("qdisc netem loss {share:.0}% dropped {}", qdisc.drops);
        Some(
            Trouble::new(Finding::QdiscLoss, self.at(at), text)
                .row(command, row)
                .next(space.inside(&format!("tc qdisc del dev {name} root"))),
        )
    }

    /// Where an eBPF program sends what comes in by an interface, past bridge and routes: by its map from addresses to interfaces,
    /// if it has one; else it is taken to know which interface leads to the destination. With the trouble if that is wrong.
    fn redirected(&self, at: At, frame: Frame) -> Option<(At, Option<Trouble>)> {
        let space = self.survey.space(at.space);
        let program = self.survey.program_at(at)?;
        if frame.arp {
            return None;
        }
        let destination = frame.packet.destination;
        if let Some(index) = program.targets.get(&destination) {
            let target = At { space: at.space, link: *index };
            let text = format!("the map of the program at {} sends {destination} to {}", self.at(at), self.at(target));
            let name = space.link_name(at.link);
            let row = format!("{destination} -> {} ({index})", space.link_name(*index));
            let trouble = Trouble::new(Finding::EbpfMapWrong, self.at(at), text)
                .row(format!("bpftool map dump, of program {} ({})", program.id, program.name), row)
                .next(space.inside(&format!("tc filter show dev {name} ingress")));
            return Some((target, Some(trouble)));
        }
        if !program.targets.is_empty() {
            return None;
        }
        let leads_to = |link: &&Link| {
            let there = At { space: at.space, link: link.index };
            there != at
                && matches!(self.survey.other(there), Other::At(peer)
                    if peer.space != at.space && self.survey.space(peer.space).has(destination))
        };
        space.links.iter().find(leads_to).map(|link| (At { space: at.space, link: link.index }, None))
    }

    /// The interface in `ip link`'s words.
    pub(super) fn row(&self, at: At) -> String {
        self.survey.space(at.space).link_row(self.survey.link(at))
    }
}
