//! A frame in a kernel bridge: in by a port or the bridge device, out by what the database says (`net/bridge/`).

use std::net::IpAddr;

use super::{
    Walker,
    filter::{self, Outcome, Place},
    frames::{Behind, Decision, Domain, Frame, Spread},
};
use crate::{
    doctor::{
        Finding,
        step::Trouble,
        survey::values::{Details, Forwarding, PortPhase},
        world::At,
    },
    wire::MacAddr,
};

impl Walker<'_> {
    /// Into a kernel bridge, by a port or from the bridge device itself (`net/bridge/br_input.c:br_handle_frame_finish`).
    pub(super) fn bridge(&mut self, bridge: At, ingress: Option<At>, frame: Frame, spread: &mut Spread) {
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
            let is_known = |entry: &Forwarding| entry.link == at.link && entry.mac.0 == frame.source && entry.master;
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
                match self.vlan_at_device(bridge, vlan, frame) {
                    Ok(tag) => self.reach_bridge_device(bridge, Frame { vlan: tag, ..frame }, spread),
                    Err(trouble) => spread.unheard.push((bridge, trouble)),
                }
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
                (false, true) => match self.is_wanted(bridge, port, vlan, frame.destination) {
                    Some(wanted) => wanted,
                    None => options.mcast_flood,
                },
                (false, false) => options.flood,
            };
            if !floods {
                spread.end(port, self.not_flooded(bridge, port, vlan, frame));
                continue;
            }
            self.by_port(bridge, ingress, port, vlan, frame, spread);
        }
    }

    /// Whether snooping sends a group to a port; `None`: it has no say, and the group is flooded.
    ///
    /// It has one as soon as somebody asks who wants what (`net/bridge/br_private.h:br_multicast_querier_exists`): here, the
    /// bridge itself. Groups that are never asked about are flooded all the same: IPv4's 224.0.0.0/24 and ff02::1.
    fn is_wanted(&self, bridge: At, port: At, vlan: u16, group: MacAddr) -> Option<bool> {
        const LOCAL_GROUPS: [u8; 5] = [0x01, 0x00, 0x5e, 0x00, 0x00];
        const ALL_NODES: MacAddr = MacAddr::new([0x33, 0x33, 0, 0, 0, 1]);
        let Details::Bridge(options) = &self.survey.link(bridge).details else { return None };
        let octets = group.octets();
        let of_ip = octets.starts_with(&LOCAL_GROUPS[..3]) || octets.starts_with(&[0x33, 0x33]);
        let everybodys = octets.starts_with(&LOCAL_GROUPS) || group == ALL_NODES;
        if !options.snooping || !options.querier || !of_ip || everybodys {
            return None;
        }
        let space = self.survey.space(bridge.space);
        let member = space.groups.iter().any(|entry| {
            entry.bridge == bridge.link
                && entry.port == port.link
                && (vlan == 0 || entry.vlan == vlan)
                && group_mac(&entry.group) == Some(group)
        });
        Some(member || space.router_ports.contains(&port.link))
    }

    /// The bridge device is a station too.
    fn reach_bridge_device(&mut self, bridge: At, frame: Frame, spread: &mut Spread) {
        if let Some(id) = frame.vlan {
            if let Some(child) = self.vlan_interface(bridge, id) {
                self.arrive(child, Frame { vlan: None, ..frame }, spread);
            }
            return;
        }
        // The address of one of its ports counts as its own.
        if !self.reach_children(bridge, frame, spread) {
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
                return spread.end(port, self.not_in_vlan(port, vlan));
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
}

/// The Ethernet address of a group, which is written as an IP address (RFC 1112 section 6.4, RFC 2464 section 7) or as it is.
pub(super) fn group_mac(group: &str) -> Option<MacAddr> {
    match group.parse() {
        Ok(IpAddr::V4(address)) => {
            let [_, b, c, d] = address.octets();
            Some(MacAddr::new([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
        }
        Ok(IpAddr::V6(address)) => {
            let [.., a, b, c, d] = address.octets();
            Some(MacAddr::new([0x33, 0x33, a, b, c, d]))
        }
        Err(_) => group.parse().ok(),
    }
}
