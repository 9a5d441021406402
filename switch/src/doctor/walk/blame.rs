//! Which of the ends of a frame is the one that matters, and the troubles that interfaces, bridges and cables make.

use super::{
    Stop, Walker,
    frames::{Decision, Frame, Spread},
    packet::Packet,
    path,
};
use crate::{
    control::api::model::PortState,
    doctor::{
        Finding,
        step::Trouble,
        survey::{
            nft::{Chain, Rule},
            values::{Details, Forwarding, PortPhase},
        },
        world::{At, Other},
    },
    wire::MacAddr,
};

impl Walker<'_> {
    /// Why a frame from one interface did not come to another.
    pub(super) fn blame(&self, from: At, to: At, spread: &Spread) -> Stop {
        let Some(path) = path::path(self.survey, from, to) else { return self.apart(from, to, spread) };
        for (place, at) in path.iter().enumerate() {
            let next_was_passed = path.get(place + 1).is_none_or(|next| spread.passed.contains(next));
            // An entry that leads to another VTEP than the one that the way has next.
            let astray = |decision: &&Decision| {
                let elsewhere =
                    |next: &At| decision.remote.is_some_and(|remote| !self.survey.space(next.space).has(remote));
                decision.at == *at && path.get(place + 1).is_some_and(elsewhere)
            };
            if let Some(decision) = spread.decisions.iter().find(astray).filter(|_| !next_was_passed) {
                return decision.trouble.clone().into();
            }
            if let Some((_, trouble)) = spread.ends.iter().find(|(end, _)| end == at) {
                return trouble.clone().into();
            }
        }
        if let Some((_, trouble)) = spread.unheard.iter().find(|(at, _)| *at == to) {
            return trouble.clone().into();
        }
        if let Some(decision) = spread.decisions.iter().find(|decision| !path.contains(&decision.at)) {
            return decision.trouble.clone().into();
        }
        let reached = path.iter().rposition(|at| spread.passed.contains(at)).unwrap_or(0);
        let (last, next) = (path[reached], path.get(reached + 1).copied().unwrap_or(to));
        if let Some(trouble) = self.not_in_one_bridge(last, next) {
            return trouble.into();
        }
        if matches!(self.survey.link(next).details, Details::Tunnel(_)) || self.survey.weft_port(last).is_some() {
            let text = format!("{} sends nothing to the VTEP that {} is behind", self.at(last), self.at(to));
            let space = self.survey.space(last.space);
            let command = space.inside(&format!("bridge fdb show dev {}", space.link_name(last.link)));
            let rows = space.fdb.iter().filter(|entry| entry.link == last.link && entry.remote.is_some());
            let rows: Vec<_> = rows.map(|entry| self.tunnel_entry_row(entry)).collect();
            return Trouble::new(Finding::VtepRemoteMissing, self.at(last), text).rows(command, rows).into();
        }
        if let Some((at, why)) = spread.out_of_sight.first() {
            return Stop::OutOfSight { place: self.at(*at), why: why.clone() };
        }
        let trouble = match spread.ends.first() {
            Some((_, trouble)) => trouble.clone(),
            None => Trouble::new(
                Finding::NeighbourFailed,
                self.at(last),
                format!("frames get from {} to {} and no further", self.at(from), self.at(last)),
            ),
        };
        trouble.into()
    }

    /// Nothing connects the two: which of them is where it should not be?
    fn apart(&self, from: At, to: At, spread: &Spread) -> Stop {
        for end in [to, from] {
            // What the cable leads to, in a host that has bridges and no use for it otherwise.
            let Other::At(peer) = self.survey.other(end) else { continue };
            if peer.space == end.space || self.survey.link(end).kind != "veth" {
                continue;
            }
            let space = self.survey.space(peer.space);
            let bridges: Vec<_> =
                space.links.iter().filter(|link| matches!(link.details, Details::Bridge(_))).collect();
            if self.survey.bridge_of(peer).is_none()
                && !bridges.is_empty()
                && space.addresses_of(peer.link).all(|address| address.link_local)
            {
                let text = format!("{} is the other end of {}, and no port of a bridge", self.at(peer), self.at(end));
                let command = space.inside("ip link");
                let name = &self.survey.link(peer).name;
                let cure = space.inside(&format!("ip link set {name} master {}", bridges[0].name));
                return Trouble::new(Finding::BridgePortMissing, self.at(peer), text)
                    .row(command, self.row(peer))
                    .next(cure)
                    .into();
            }
        }
        let bridge_at = |end: At| match self.survey.other(end) {
            Other::At(peer) => self.survey.bridge_of(peer).map(|bridge| (peer, bridge)),
            Other::OutOfSight | Other::None => None,
        };
        if let (Some((one, here)), Some((other, there))) = (bridge_at(from), bridge_at(to))
            && here.space == there.space
        {
            let text = format!(
                "{} is a port of {}, {} of {}, and nothing joins the two bridges",
                self.at(one),
                self.survey.link(here).name,
                self.at(other),
                self.survey.link(there).name
            );
            let space = self.survey.space(here.space);
            return Trouble::new(Finding::BridgeWrong, self.at(other), text)
                .rows(space.inside("ip link"), [self.row(one), self.row(other)])
                .next(space.inside(&format!(
                    "ip link set {} master {}",
                    self.survey.link(other).name,
                    self.survey.link(here).name
                )))
                .into();
        }
        let misplaced = self.not_in_one_bridge(from, to).or_else(|| self.tunnel_beside_its_bridge(from, to));
        if let Some(trouble) = misplaced.or_else(|| self.tunnel_of_bridge_is_gone(from, to)) {
            return trouble.into();
        }
        if let Some((at, why)) = spread.out_of_sight.first() {
            return Stop::OutOfSight { place: self.at(*at), why: why.clone() };
        }
        if let Some((_, trouble)) = spread.ends.first() {
            return trouble.clone().into();
        }
        self.not_on_the_segment(from, to).into()
    }

    /// Two ports of one weft that share no bridge.
    fn not_in_one_bridge(&self, from: At, to: At) -> Option<Trouble> {
        let (here, there) = (self.survey.weft_port(from)?, self.survey.weft_port(to)?);
        let state = self.survey.weft(here.weft).filter(|_| here.weft == there.weft)?;
        let [one, other] = [here, there].map(|it| &state.ports[it.port]);
        let bridges = |port: &PortState| {
            let trunk = port.trunk.iter().flatten().map(|(vlan, bridge)| format!("{vlan}={bridge}"));
            port.bridge.iter().chain(&port.native).cloned().chain(trunk).collect::<Vec<_>>().join(" ")
        };
        let text = format!("{} is a port of weft's {}, {} of {}", one.name, bridges(one), other.name, bridges(other));
        let rows = [one, other].map(|port| format!("{} {}", port.name, bridges(port)));
        let is_trunk = one.trunk.is_some() || other.trunk.is_some();
        let finding = if is_trunk { Finding::VlanMismatch } else { Finding::BridgeWrong };
        Some(Trouble::new(finding, self.at(to), text).rows("weft show ports", rows).next("weft show bridges"))
    }

    /// A tunnel device that stands beside the bridge whose frames it should carry.
    fn tunnel_beside_its_bridge(&self, from: At, to: At) -> Option<Trouble> {
        [from, to].into_iter().find_map(|end| {
            let Other::At(peer) = self.survey.other(end) else { return None };
            let bridge = self.survey.bridge_of(peer)?;
            let space = self.survey.space(bridge.space);
            let mut tunnels = self.survey.tunnels().filter(|(at, link, _)| {
                at.space == bridge.space && link.master.is_none() && space.addresses_of(at.link).all(|it| it.link_local)
            });
            let (at, link, _) = tunnels.next()?;
            let text = format!("{} is no port of {}, whose frames it should carry", self.at(at), self.at(bridge));
            let cure = format!("ip link set {} master {}", link.name, self.survey.link(bridge).name);
            Some(
                Trouble::new(Finding::BridgePortMissing, self.at(at), text)
                    .row(space.inside("ip -d link"), self.row(at))
                    .next(space.inside(&cure)),
            )
        })
    }

    /// A bridge in a host that others take for a VTEP, and that has no tunnel device.
    fn tunnel_of_bridge_is_gone(&self, from: At, to: At) -> Option<Trouble> {
        [from, to].into_iter().find_map(|end| {
            let Other::At(peer) = self.survey.other(end) else { return None };
            let bridge = self.survey.bridge_of(peer)?;
            let here = self.survey.space(bridge.space);
            if self.survey.tunnels().any(|(at, ..)| at.space == bridge.space) || !here.wefts.is_empty() {
                return None;
            }
            let (sender, _, tunnel) = self.survey.tunnels().find(|(at, _, tunnel)| {
                let entries = self.survey.space(at.space).fdb.iter().filter(|entry| entry.link == at.link);
                entries.filter_map(|entry| entry.remote).chain(tunnel.remote).any(|remote| here.has(remote))
            })?;
            Some(self.no_tunnel(sender, bridge.space, &tunnel.words()))
        })
    }

    /// A host without a tunnel device, which another one takes for a VTEP.
    pub(super) fn no_tunnel(&self, sender: At, space: usize, words: &str) -> Trouble {
        let here = self.survey.space(space);
        let text = format!(
            "{} sends to a VTEP in {}, which has neither a tunnel device nor a weft ({words})",
            self.at(sender),
            here.label()
        );
        let links = here.links.iter().filter(|link| !link.loopback);
        Trouble::new(Finding::TunnelMissing, here.label(), text)
            .row(self.survey.space(sender.space).inside("ip -d link"), self.row(sender))
            .rows(here.inside("ip -d link"), links.map(|link| here.link_row(link)).collect::<Vec<_>>())
            .next(here.inside("ip -d link show type vxlan"))
    }

    /// An address is taken for a neighbour's that is behind a router, or the other way round.
    fn not_on_the_segment(&self, from: At, to: At) -> Trouble {
        let (space, other) = (self.survey.space(from.space), self.survey.space(to.space));
        let rows = space.addresses_of(from.link).map(|address| space.address_row(address)).collect::<Vec<_>>();
        let theirs = other.addresses_of(to.link).map(|address| other.address_row(address)).collect::<Vec<_>>();
        let text = format!(
            "{} takes {} for a neighbour by its address's prefix, but nothing connects the two",
            self.at(from),
            self.at(to)
        );
        Trouble::new(Finding::PrefixMismatch, self.at(from), text)
            .rows(space.inside("ip address"), rows)
            .rows(other.inside("ip address"), theirs)
    }

    pub(super) fn link_down(&self, at: At) -> Trouble {
        let space = self.survey.space(at.space);
        let name = space.link_name(at.link);
        Trouble::new(Finding::LinkDown, self.at(at), format!("{name} is set down"))
            .row(space.inside("ip link"), self.row(at))
            .next(space.inside(&format!("ip link set {name} up")))
    }

    /// An interface without carrier: usually its other end is down.
    pub(super) fn no_carrier(&self, at: At) -> Trouble {
        if !self.survey.link(at).up {
            return self.link_down(at);
        }
        if let Other::At(peer) = self.survey.other(at)
            && !self.survey.link(peer).up
        {
            return self.link_down(peer);
        }
        let space = self.survey.space(at.space);
        let why = match (self.survey.link(at).kind.as_str(), self.survey.weft_port(at)) {
            ("tun", Some(_)) => "weft has the tap open, so somebody switched its carrier off",
            ("tun", None) => "nobody has the tap open",
            (..) => "the cable leads nowhere",
        };
        let text = format!("{} is up, but has no carrier: {why}", self.survey.link(at).name);
        Trouble::new(Finding::NoCarrier, self.at(at), text).row(space.inside("ip link"), self.row(at))
    }

    pub(super) fn too_long_to_receive(&self, at: At, frame: Frame) -> Trouble {
        let link = self.survey.link(at);
        let text = format!(
            "a packet of {} bytes is longer than the MTU of {} ({}), which loses it without a word",
            frame.len(),
            self.at(at),
            link.mtu
        );
        let mut trouble = Trouble::new(Finding::MtuMismatch, self.at(at), text)
            .row(self.survey.space(at.space).inside("ip link"), self.row(at));
        if let Other::At(peer) = self.survey.other(at) {
            let theirs = self.survey.space(peer.space);
            let same = if peer.space == at.space { String::new() } else { theirs.inside("ip link") };
            let command = if same.is_empty() { theirs.inside("ip link") } else { same };
            trouble = trouble.row(command, self.row(peer));
            let name = &link.name;
            let mtu = self.survey.link(peer).mtu;
            trouble = trouble.next(self.survey.space(at.space).inside(&format!("ip link set {name} mtu {mtu}")));
        }
        trouble
    }

    /// A bridge's port that is too narrow for what its bridge gives it.
    pub(super) fn too_long_to_leave(&self, port: At, frame: Frame) -> Trouble {
        let link = self.survey.link(port);
        let text = format!(
            "a packet of {} bytes is longer than the MTU of the bridge's port {} ({}), and is lost without a word",
            frame.len(),
            self.at(port),
            link.mtu
        );
        // The inner frames are as long as their hosts may make them: it is they that don't fit the tunnel.
        let finding = if link.details.tunnel().is_some() { Finding::MtuTooLarge } else { Finding::MtuTooSmall };
        Trouble::new(finding, self.at(port), text).row(self.survey.space(port.space).inside("ip link"), self.row(port))
    }

    pub(super) fn port_blocked(&self, at: At, state: PortPhase) -> Trouble {
        if state == PortPhase::Disabled && !self.survey.link(at).carrier {
            // The bridge disables a port that has no carrier (`net/bridge/br_if.c:br_port_carrier_check`).
            return self.no_carrier(at);
        }
        let space = self.survey.space(at.space);
        let name = &self.survey.link(at).name;
        let text = format!("the bridge's port {name} is in the state {}", state.name());
        Trouble::new(Finding::BridgePortBlocked, self.at(at), text)
            .row(self.port_command(at), self.port_row(at))
            .next(space.inside(&format!("bridge link set dev {name} state 3")))
    }

    pub(super) fn not_flooded(&self, bridge: At, port: At, vlan: u16, frame: Frame) -> Trouble {
        let space = self.survey.space(port.space);
        let name = &self.survey.link(port).name;
        let trouble = if frame.destination.is_multicast() && !frame.destination.is_broadcast() {
            let group = frame.destination;
            let options = self.survey.link(port).port.as_ref();
            let why = if options.is_some_and(|options| options.mcast_flood) {
                format!("the bridge asks who wants which group (mcast_querier), and nobody behind {name} told it so")
            } else {
                format!("{name} gets no multicast (mcast_flood off)")
            };
            let text = format!("the group {group} is not sent to those behind {name}: {why}");
            let bridge = space.link_name(bridge.link);
            let members: Vec<_> = space.groups.iter().filter(|entry| entry.port == port.link).collect();
            let mut rows: Vec<_> =
                members.iter().map(|entry| format!("dev {bridge} port {name} grp {}", entry.group)).collect();
            if rows.is_empty() {
                rows.push(format!("(no group at {name})"));
            }
            Trouble::new(Finding::McastFiltered, self.at(port), text)
                .rows(space.inside(&format!("bridge mdb show dev {bridge}")), rows)
                .next(space.inside(&format!("bridge link set dev {name} mcast_flood on")))
        } else if frame.destination.is_broadcast() {
            let text = format!("{name} gets no broadcast, so that nobody behind it is found");
            Trouble::new(Finding::BridgeFloodOff, self.at(port), text)
                .next(space.inside(&format!("bridge link set dev {name} bcast_flood on")))
        } else {
            let mac = frame.destination;
            let text = format!("the FDB has no entry for {mac}, and {name} gets no unknown unicast");
            let cure = format!("bridge fdb add {mac} dev {name} master static");
            let shown = format!("bridge fdb show br {}", space.link_name(bridge.link));
            Trouble::new(Finding::FdbEntryMissing, self.at(port), text)
                .row(space.inside(&shown), format!("(no entry for {mac}{})", in_vlan(vlan)))
                .next(space.inside(&cure))
        };
        trouble.row(self.port_command(port), self.port_row(port))
    }

    /// A rule or a policy that drops a packet.
    pub(super) fn dropped_by_rule(
        &self,
        space: usize,
        place: &str,
        chain: &Chain,
        rule: Option<&Rule>,
        packet: Packet,
    ) -> Trouble {
        let space = self.survey.space(space);
        let path = chain.path();
        let text = match rule {
            Some(rule) => format!("a rule of {path} drops {packet}: {}", rule.words()),
            None => format!("the policy of {path} drops {packet}, since no rule accepts it"),
        };
        let command = space.inside(&format!("nft -a list chain {path}"));
        let mut trouble = Trouble::new(Finding::NftDrop, place, text);
        trouble = match rule {
            Some(rule) => trouble.row(&command, format!("{} # handle {}", rule.words(), rule.handle)),
            None => trouble.row(&command, format!("type {} hook {}; policy {};", chain.kind, chain.hook, chain.policy)),
        };
        trouble.next(command)
    }

    pub(super) fn port_command(&self, at: At) -> String {
        let space = self.survey.space(at.space);
        space.inside(&format!("bridge -d link show dev {}", space.link_name(at.link)))
    }

    /// A bridge's port in `bridge -d link`'s words.
    pub(super) fn port_row(&self, at: At) -> String {
        let space = self.survey.space(at.space);
        let link = self.survey.link(at);
        let Some(port) = &link.port else { return self.row(at) };
        let mut row = format!("{} state {}", link.name, port.state.name());
        if let Some(master) = link.master {
            row.push_str(&format!(" master {}", space.link_name(master)));
        }
        let switches = [
            (port.learning, "learning", true),
            (port.flood, "flood", true),
            (port.mcast_flood, "mcast_flood", true),
            (port.bcast_flood, "bcast_flood", true),
            (port.isolated, "isolated", false),
            (port.locked, "locked", false),
            (port.hairpin, "hairpin", false),
            (port.neigh_suppress, "neigh_suppress", false),
        ];
        for (is_on, name, usual) in switches {
            if is_on != usual {
                row.push_str(&format!(" {name} {}", if is_on { "on" } else { "off" }));
            }
        }
        row
    }

    /// An entry in `bridge fdb`'s words.
    pub(super) fn fdb_row(&self, bridge: At, entry: &Forwarding) -> String {
        let space = self.survey.space(bridge.space);
        let mut row = format!("{} dev {}", entry.mac.0, space.link_name(entry.link));
        if let Some(vlan) = entry.vlan {
            row.push_str(&format!(" vlan {vlan}"));
        }
        row.push_str(&format!(" master {}", space.link_name(bridge.link)));
        for (flag, word) in [(entry.fixed, "static"), (entry.sticky, "sticky"), (entry.ext_learned, "extern_learn")] {
            if flag {
                row.push_str(&format!(" {word}"));
            }
        }
        row
    }

    pub(super) fn tunnel_entry_row(&self, entry: &Forwarding) -> String {
        let mac = if entry.mac.0 == MacAddr::ZERO { "00:00:00:00:00:00".to_owned() } else { entry.mac.0.to_string() };
        let remote = entry.remote.map(|remote| format!(" dst {remote}")).unwrap_or_default();
        let port = entry.port.map(|port| format!(" port {port}")).unwrap_or_default();
        let vni = entry.vni.map(|vni| format!(" vni {vni}")).unwrap_or_default();
        format!("{mac}{remote}{port}{vni}{}", if entry.fixed { " permanent" } else { "" })
    }
}

fn in_vlan(vlan: u16) -> String {
    if vlan == 0 { String::new() } else { format!(" in VLAN {vlan}") }
}
