//! Tunnels whose flood list is a multicast group of the underlay, and those that answer for neighbours themselves.

use super::{
    Walker,
    bridge::group_mac,
    filter::{self, Outcome, Place},
    frames::{Frame, Spread},
    packet::Packet,
    tunnels::Wrapping,
};
use crate::{
    doctor::{
        Finding,
        step::Trouble,
        survey::values::{NeighbourState, Tunnel},
        world::At,
    },
    wire::MacAddr,
};

impl Walker<'_> {
    /// To all on the segment of the device's interface who have joined the group.
    pub(super) fn through_group(&mut self, wrapping: &Wrapping, frame: Frame, spread: &mut Spread) {
        let (at, group) = (wrapping.from, wrapping.remote);
        let device = self.survey.link(at).details.tunnel().and_then(|tunnel| tunnel.device);
        let device = device.map(|link| At { space: at.space, link });
        let Some(out) = device else {
            let why = format!("it sends to the group {group} by no certain interface");
            return spread.out_of_sight.push((at, why));
        };
        let Some(source) = wrapping.local.or_else(|| self.asks_from(out, group)) else {
            let text = format!("{} has no address to send to the group {group} from", self.at(out));
            let space = self.survey.space(out.space);
            let trouble = Trouble::new(Finding::VtepAddressMissing, self.at(at), text);
            return spread.end(at, trouble.row(space.inside("ip address"), self.addresses_row(out)));
        };
        let outer = wrapping.outer(source, frame);
        let mtu = self.survey.link(out).mtu;
        if outer.len > mtu {
            return spread.end(at, self.too_long(wrapping, outer, frame, (out, mtu)));
        }
        let destination = group_mac(&group.to_string()).unwrap_or(MacAddr::BROADCAST);
        let mac = self.survey.link(out).mac.unwrap_or(MacAddr::ZERO);
        let carrier = Frame { source: mac, destination, vlan: None, packet: outer, arp: false };
        self.depth += 1;
        let heard = self.spread(out, carrier);
        self.depth -= 1;
        let heard_by: Vec<At> = heard.arrivals.iter().copied().filter(|it| it.space != at.space).collect();
        let mut received = false;
        for by in &heard_by {
            let joined = |tunnel: &Tunnel| {
                let by_this = tunnel.device.is_none_or(|link| link == by.link);
                tunnel.remote == Some(group) && tunnel.port == wrapping.port && tunnel.vni == wrapping.vni && by_this
            };
            let members =
                self.survey.tunnels().filter(|(far, link, tunnel)| far.space == by.space && link.up && joined(tunnel));
            let members: Vec<At> = members.map(|(far, ..)| far).collect();
            for far in members {
                received = true;
                match self.filtered_at(*by, outer) {
                    Some(trouble) => spread.end(at, trouble),
                    None => self.decapsulate(far, source, frame, spread),
                }
            }
        }
        if received {
            return;
        }
        if let Some((_, trouble)) = heard.ends.into_iter().next() {
            return spread.end(at, trouble);
        }
        if let Some((place, why)) = heard.out_of_sight.into_iter().next() {
            return spread.out_of_sight.push((at, format!("the underlay at {}: {why}", self.at(place))));
        }
        spread.end(at, self.nobody_has_joined(wrapping, &heard_by));
    }

    /// A host's filters against a tunnel's packet to a group.
    fn filtered_at(&self, at: At, outer: Packet) -> Option<Trouble> {
        let space = self.survey.space(at.space);
        let name = space.link_name(at.link);
        ["prerouting", "input"].into_iter().find_map(|hook| {
            let place = Place { hook, iif: Some(&name), oif: None, bridged: false, arp: false, frame: None };
            match filter::pass(space.nft.as_ref()?, place, outer).outcome {
                Outcome::Drop { chain, rule } => {
                    let trouble = self.dropped_by_rule(at.space, &self.at(at), chain, rule, outer);
                    Some(Trouble { finding: Finding::UdpFiltered, ..trouble })
                }
                Outcome::Accept | Outcome::Translate { .. } => None,
            }
        })
    }

    /// Of the tunnels where the group was heard, the one that comes nearest.
    fn nobody_has_joined(&self, wrapping: &Wrapping, heard_by: &[At]) -> Trouble {
        let near: Vec<_> =
            self.survey.tunnels().filter(|(far, ..)| heard_by.iter().any(|by| by.space == far.space)).collect();
        let (at, group) = (wrapping.from, wrapping.remote);
        let same_vni = near.iter().find(|(.., tunnel)| tunnel.vni == wrapping.vni);
        let same_group = near.iter().find(|(.., tunnel)| tunnel.remote == Some(group));
        let (finding, far, text) = match (same_vni, same_group) {
            (Some((far, .., tunnel)), _) if tunnel.remote != Some(group) => {
                let theirs = tunnel.remote.map_or_else(|| "none".to_owned(), |remote| remote.to_string());
                let text = format!("{} sends to the group {group}, and {} is in {theirs}", self.at(at), self.at(*far));
                (Finding::VtepRemoteWrong, *far, text)
            }
            (Some((far, .., tunnel)), _) if tunnel.port != wrapping.port => {
                let text = format!(
                    "{} sends to UDP port {}, and {} listens on {}",
                    self.at(at),
                    wrapping.port,
                    self.at(*far),
                    tunnel.port
                );
                (Finding::VtepPortMismatch, *far, text)
            }
            (None, Some((far, ..))) => {
                let text = format!("{} and {} are in the group {group} with other VNIs", self.at(at), self.at(*far));
                (Finding::VniMismatch, *far, text)
            }
            (Some(_) | None, _) => {
                let text = format!("nobody on the segment of {} has joined the group {group}", self.at(at));
                (Finding::VtepSilent, at, text)
            }
        };
        let trouble = Trouble::new(finding, self.at(at), text);
        let trouble = trouble.row(self.survey.space(at.space).inside("ip -d link"), self.row(at));
        let there = self.survey.space(far.space);
        if far == at { trouble } else { trouble.row(there.inside("ip -d link"), self.row(far)) }
            .next(there.inside("ip -d link show type vxlan"))
    }

    /// Who asks for a neighbour by a device with `proxy` is answered by it, or by nobody; and answers don't pass it either
    /// (`drivers/net/vxlan/vxlan_core.c:arp_reduce`).
    pub(super) fn answers_itself(&self, at: At, frame: Frame, spread: &mut Spread) {
        let space = self.survey.space(at.space);
        let name = space.link_name(at.link);
        if !frame.destination.is_multicast() {
            // An answer, for somebody who would have to know without.
            let (asked, asker) = (frame.packet.source, frame.packet.destination);
            let text =
                format!("{name} lets no ARP pass (proxy): {asker} gets no answer, and needs an entry for {asked}");
            return spread.end(
                at,
                Trouble::new(Finding::NeighbourMissing, self.at(at), text)
                    .row(space.inside("ip -d link"), self.row(at))
                    .next(format!("ip neighbour add {asked} lladdr {} dev INTERFACE, where {asker} is", frame.source)),
            );
        }
        let address = frame.packet.destination;
        let unusable =
            [NeighbourState::Failed, NeighbourState::Incomplete, NeighbourState::None, NeighbourState::Stale];
        if let Some((Some(mac), state)) = space.neighbour(at.link, address)
            && !unusable.contains(&state)
        {
            return spread.answers.push((at, mac));
        }
        let text = format!("{name} answers for neighbours itself (proxy), asks nobody, and has no entry for {address}");
        spread.end(
            at,
            Trouble::new(Finding::NeighbourMissing, self.at(at), text)
                .row(space.inside("ip neighbour"), space.neighbour_row(at.link, address))
                .next(space.inside(&format!("ip neighbour add {address} lladdr MAC dev {name}"))),
        );
    }
}
