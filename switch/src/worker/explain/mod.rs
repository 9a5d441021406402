//! What the walk would do with a frame, step by step, without doing it.
//!
//! Nothing is sent, learned, counted or refreshed. Each step is the answer of the very function that the walk asks
//! ([`PortEntry::classify`](crate::bridge::PortEntry::classify), [`admit`], [`Tables::decide`], [`Tables::flood`], and what
//! the walk and its egress have besides), so what is said here is what would happen; a property test holds both together.
//! What nobody can know before a frame is sent, such as a queue that is full at that moment, is not foreseen.
//!
//! Here are facts; their words, and which line of the configuration they come from, are the control plane's.

mod agreement;
mod egress;
mod looking;
mod steps;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use weft_vxlan::{Encapsulation, HeaderFormat, ReservedBits, Vni, encapsulation::BASE_HEADER_LEN};

pub use self::{
    agreement::{Difference, differences},
    egress::{Departure, Exit, Oversized, Path},
    steps::{Learning, Proxied, Step, Walkthrough},
};
use super::{
    SharedVteps, TunnelHeader,
    checks::{Entry, admitted, come_out, enter_tunnel, inspect, malformed_inside, on_guard, untagged},
    probes::{asker, probe_in},
    snooping::listen,
    tunnel::Rewritten,
};
use crate::{
    bridge::{Bridge, DropReason, FloodKind, Overlay, PortEntry, Tables, Verdict, admit},
    fdb::{EntryView, Fdb, Learned, Origin, Place, Stamp, Terms},
    ids::{BridgeId, Endpoint, PortId, VtepId},
    offload::{self, VnetHeader},
    snoop::{Route, Targets},
    wire::{
        MacAddr, Tag,
        dissect::dissect,
        ethernet::{self, EtherHeader},
    },
};

/// What a walk decides by, as it is now.
pub struct Scene<'s> {
    /// The tables' snapshot.
    pub tables: &'s Tables,
    /// The forwarding database; only read.
    pub fdb: &'s Fdb,
    /// The numbers of VTEPs; none is given out.
    pub vteps: &'s SharedVteps,
    /// See [`Shared::flow_seed`](super::Shared::flow_seed).
    pub flow_seed: u64,
    /// What the frame's source has already changed in the FDB, if it has passed.
    pub learned: Option<Learned>,
    /// The time.
    pub now: Stamp,
    /// What is known of the way to a VTEP.
    pub path: &'s dyn Fn(SocketAddr) -> Path,
}

/// A frame and where it comes in.
#[derive(Clone, Copy, Debug)]
pub enum Arriving<'f> {
    /// By a port.
    Frame {
        /// The port.
        port: PortId,
        /// The frame, from its Ethernet header on.
        bytes: &'f [u8],
        /// What its sender left undone; `None` if its header made no sense.
        vnet: Option<VnetHeader>,
    },
    /// Over the underlay.
    Datagram {
        /// What the port that it comes to says that it is.
        format: HeaderFormat,
        /// The outer source address.
        source: IpAddr,
        /// The outer TOS or traffic class.
        tos: u8,
        /// The UDP payload: tunnel header and inner frame.
        payload: &'f [u8],
    },
}

impl fmt::Debug for Scene<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scene").field("tables", self.tables).finish_non_exhaustive()
    }
}

/// Walks a frame through `scene`.
pub fn explain(scene: &Scene<'_>, arriving: Arriving<'_>) -> Walkthrough {
    let walk = Walkthrough { steps: vec![], frames: 1, ingress: None, bridge: None, dropped: None };
    let mut explainer = Explainer { scene, walk, told: false };
    let taken = match arriving {
        Arriving::Frame { port, bytes, vnet } => explainer.frame(port, bytes, vnet),
        Arriving::Datagram { format, source, tos, payload } => explainer.datagram(format, source, tos, payload),
    };
    let carried = taken.and_then(|entered| explainer.carry(&entered));
    explainer.walk.dropped = carried.err();
    explainer.walk
}

/// A frame that has entered its bridge.
pub(super) struct Entered<'s> {
    bytes: Vec<u8>,
    /// As its sender knows it, if it has other addresses by now.
    sent: Option<Vec<u8>>,
    vnet: VnetHeader,
    ingress: Endpoint,
    id: BridgeId,
    bridge: &'s Bridge,
    src: MacAddr,
    dst: MacAddr,
    priority: Tag,
    /// On which terms it is to be learned from, or why not.
    teaching: Result<Terms, Learning>,
    kept: Option<DropReason>,
}

impl Entered<'_> {
    /// The same frame with other addresses.
    fn rewritten(&self, macs: Rewritten) -> Self {
        let mut bytes = self.bytes.clone();
        macs.write(&mut bytes);
        let sent = Some(self.bytes.clone());
        Self { bytes, sent, src: macs.src, dst: macs.dst, ..*self }
    }
}

struct Explainer<'s> {
    scene: &'s Scene<'s>,
    walk: Walkthrough,
    /// The frame's sender was told that it is too long.
    told: bool,
}

impl<'s> Explainer<'s> {
    fn frame(&mut self, port: PortId, bytes: &[u8], vnet: Option<VnetHeader>) -> Result<Entered<'s>, DropReason> {
        self.walk.ingress = Some(Endpoint::Port(port));
        let tables = self.scene.tables;
        let header = vnet
            .and_then(|vnet| offload::wire_frames(bytes, &vnet).ok())
            .ok_or(DropReason::BadOffload)
            .inspect(|frames| self.walk.frames = *frames)
            .and_then(|_| ethernet::parse(bytes).map_err(|_| DropReason::Malformed));
        self.walk.steps.push(Step::Parse(header));
        let header = header?;
        let mut vnet = vnet.ok_or(DropReason::BadOffload)?;

        let entry = tables.port(port);
        let classified = entry.ok_or(DropReason::PortRemoved).and_then(|entry| entry.classify(&header));
        let found = classified.and_then(|(id, tag)| Ok((id, tag, tables.bridge(id).ok_or(DropReason::PortRemoved)?)));
        let tag = entry.and_then(|entry| entry.own_tag(&header));
        self.walk.steps.push(Step::Classify { port, tag, bridge: found.map(|(id, tag, _)| (id, tag)) });
        // The walk counts a frame for the bridge that its port named, even if that is gone.
        self.walk.bridge = classified.ok().map(|(id, _)| id);
        let (id, port_tag, bridge) = found?;
        let mut bytes = bytes.to_vec();
        if port_tag.is_some() {
            let (popped, shifted) = untagged(&mut bytes, &vnet)?;
            (bytes, vnet) = (popped.to_vec(), shifted);
        }

        let entry = entry.ok_or(DropReason::PortRemoved)?;
        let mask = entry.options.group_fwd_mask;
        self.admit(id, bridge, mask, &header);
        let mut kept = admitted(bridge, mask, header.dst, header.src)?;
        let mut teaching = match entry {
            _ if !entry.options.learning => Err(Learning::PortOff),
            _ if !entry.up => Err(Learning::PortDown),
            _ if !entry.learns() => Err(Learning::PortState),
            _ => taught_by(bridge, header.src),
        };
        if let Err(reason) = entry.security.check(header.src, &bytes) {
            self.walk.steps.push(Step::Guard { port, src: header.src, standing: None, reason: Some(reason) });
            return Err(reason);
        }
        if !entry.security.is_off() && !entry.is_guarded() {
            self.walk.steps.push(Step::Guard { port, src: header.src, standing: None, reason: None });
        }
        if entry.is_guarded() {
            let terms;
            (terms, kept) = self.guard(port, entry, id, bridge, header.src, kept)?;
            teaching = teaching.and_then(|_| terms.ok_or(Learning::Locked));
        }
        let (priority, ingress) = (port_tag.unwrap_or(Tag(0)), Endpoint::Port(port));
        let EtherHeader { src, dst, .. } = header;
        Ok(Entered { bytes, sent: None, vnet, ingress, id, bridge, src, dst, priority, teaching, kept })
    }

    /// What a guarded port makes of a frame: the terms on which it is learned from, if it is, and why it goes no further.
    fn guard(
        &mut self,
        id: PortId,
        port: &PortEntry,
        bridge_id: BridgeId,
        bridge: &Bridge,
        src: MacAddr,
        kept: Option<DropReason>,
    ) -> Result<(Option<Terms>, Option<DropReason>), DropReason> {
        let by_state = if kept.is_none() { port.guard() } else { Ok(None) };
        let kept = by_state.map(|reason| kept.or(reason));
        let mut standing = None;
        let guarded = kept.map(|kept| {
            let fdb = self.scene.fdb;
            let ask = || *standing.insert(fdb.standing(Place::new(bridge_id, src), Endpoint::Port(id)));
            let (terms, by_lock) = on_guard(port, bridge, src, kept, ask);
            (terms, by_lock.or(kept), by_lock)
        });
        let reason = match guarded {
            Ok((_, _, by_lock)) => by_lock.or_else(|| by_state.ok().flatten()),
            Err(reason) => Some(reason),
        };
        self.walk.steps.push(Step::Guard { port: id, src, standing, reason });
        guarded.map(|(terms, kept, _)| (terms, kept))
    }

    fn datagram(
        &mut self,
        format: HeaderFormat,
        source: IpAddr,
        tos: u8,
        payload: &[u8],
    ) -> Result<Entered<'s>, DropReason> {
        let tables = self.scene.tables;
        let overlay = tables.overlay.as_ref().ok_or(DropReason::UnderlayAbsent)?;
        let header = self.header(overlay, format, payload)?;
        let entry = self.tunnel(overlay, source, header, payload.len())?;
        let (id, bridge, inner) = (entry.id, entry.bridge, payload[entry.frame_at..].to_vec());

        let ingress = Endpoint::Vtep(entry.vtep);
        (self.walk.ingress, self.walk.bridge) = (Some(ingress), Some(id));
        let parsed = ethernet::parse(&inner).map_err(malformed_inside);
        self.walk.steps.push(Step::Parse(parsed));
        let header = parsed?;
        let is_probe = probe_in(&inner, ingress).is_some();
        let kept_from_forwarding = |reason| {
            if is_probe && reason == DropReason::ReservedGroup { DropReason::PathMtuProbe } else { reason }
        };
        let (mut bytes, untouched) = (inner.clone(), inner);
        let came_out = come_out(tables, overlay, (ingress, bridge), &header, tos, &mut bytes);
        // In the order of the walk: a tunnel that learns looks at the source before it looks at the packet.
        if bridge.tunnel.learning {
            self.admit(id, bridge, 0, &header);
            admitted(bridge, 0, header.dst, header.src).map_err(kept_from_forwarding)?;
        }
        let passes = self.inspect(overlay, (ingress, bridge), tos, untouched);
        if !bridge.tunnel.learning && passes {
            self.admit(id, bridge, 0, &header);
        }
        let (vnet, frames, kept) = came_out.map_err(kept_from_forwarding)?;
        self.walk.frames = frames;
        let learns = bridge.tunnel.learning;
        let teaching = if learns { taught_by(bridge, header.src) } else { Err(Learning::TunnelOff) };
        let EtherHeader { src, dst, .. } = header;
        let priority = Tag(0);
        Ok(Entered { bytes, sent: None, vnet, ingress, id, bridge, src, dst, priority, teaching, kept })
    }

    fn header(&mut self, overlay: &Overlay, format: HeaderFormat, payload: &[u8]) -> Result<TunnelHeader, DropReason> {
        let header = TunnelHeader::read(format, payload);
        let bridge = header.ok().and_then(|header| self.bridge_of(overlay, header.vni()));
        let bridge = bridge.map(|(_, bridge)| bridge).filter(|bridge| bridge.encapsulation.format() == format);
        let encapsulation = bridge.map_or_else(|| format.encapsulation(), |bridge| bridge.encapsulation);
        let has_any_of = |bits: u64| match header {
            Ok(TunnelHeader::Vxlan(header) | TunnelHeader::VxlanGpe(header)) => {
                header.has_any_of(bits & !encapsulation.used_bits())
            }
            Ok(TunnelHeader::Geneve(_)) | Err(_) => false,
        };
        let policy = header.ok().filter(|_| encapsulation == Encapsulation::VxlanGbp).and_then(TunnelHeader::policy);
        let options_len = header.map_or(0, TunnelHeader::options_len);
        let options = payload.get(BASE_HEADER_LEN..BASE_HEADER_LEN + options_len).unwrap_or_default();
        self.walk.steps.push(Step::Header {
            format,
            len: payload.len(),
            header,
            reserved: has_any_of(ReservedBits::Drop.mask()),
            refused: has_any_of(overlay.refused_bits),
            policy: policy.map(|policy| policy.id),
            options: options.to_vec(),
        });
        header
    }

    fn tunnel(
        &mut self,
        overlay: &Overlay,
        source: IpAddr,
        header: TunnelHeader,
        len: usize,
    ) -> Result<Entry<'s>, DropReason> {
        let (tables, vni) = (self.scene.tables, header.vni());
        let port = overlay.port_of(header.format());
        let number = || self.scene.vteps.foresee(SocketAddr::new(source, port));
        let entered = enter_tunnel(tables, overlay, source, header, len, number);
        let bridge = self.bridge_of(overlay, vni);
        let named = bridge.is_some_and(|(_, bridge)| bridge.known_vteps.contains_key(&source));
        let bridge = bridge.map(|(id, _)| id);
        let vtep = entered.as_ref().map(|entry| entry.vtep).map_err(|reason| *reason);
        self.walk.steps.push(Step::Tunnel { vni, source, bridge, named, vtep });
        entered
    }

    /// The bridge of a VNI, whatever its encapsulation.
    fn bridge_of(&self, overlay: &Overlay, vni: Vni) -> Option<(BridgeId, &'s Bridge)> {
        let id = self.scene.tables.bridge_of(overlay, vni)?;
        Some((id, self.scene.tables.bridge(id)?))
    }

    fn admit(&mut self, id: BridgeId, bridge: &Bridge, port_mask: u16, header: &EtherHeader) {
        let (src, dst) = (header.src, header.dst);
        self.walk.steps.push(Step::Admit { bridge: id, src, dst, admission: admit(bridge, port_mask, dst, src) });
    }

    /// Whether the packet passes.
    fn inspect(&mut self, overlay: &Overlay, came: (Endpoint, &Bridge), outer_tos: u8, mut inner: Vec<u8>) -> bool {
        let tos = |bytes: &[u8]| dissect(bytes).l3.map(|l3| l3.tos);
        let (before, tag_count) = (tos(&inner), dissect(&inner).tag_count);
        let inspected = inspect(self.scene.tables, overlay, came, outer_tos, &mut inner);
        let clamped = inspected.as_ref().ok().and_then(|inspected| inspected.clamped);
        let result = inspected.map(|_| ());
        let tos = before.zip(tos(&inner));
        self.walk.steps.push(Step::Inspect { tag_count, outer_tos, tos, clamped, result });
        result.is_ok()
    }

    /// The second half of the walk.
    fn carry(&mut self, entered: &Entered<'s>) -> Result<(), DropReason> {
        let Scene { tables, fdb, .. } = *self.scene;
        let Entered { id, bridge, ingress, src, dst, .. } = *entered;
        let foresee = |terms| {
            let passed = self.scene.learned;
            passed.unwrap_or_else(|| fdb.foresee(Place::new(id, src), ingress, bridge.limit, terms))
        };
        let learning = entered.teaching.map_or_else(|why| why, |terms| Learning::Foreseen(foresee(terms)));
        self.walk.steps.push(Step::Learn { bridge: id, src, at: ingress, learning });
        let kept = match learning {
            Learning::Foreseen(Learned::StaticAtOtherVtep) => Some(DropReason::SourceStatic),
            Learning::Foreseen(_)
            | Learning::PortOff
            | Learning::PortDown
            | Learning::PortState
            | Learning::Locked
            | Learning::TunnelOff
            | Learning::BridgeOff
            | Learning::LocalAddress => entered.kept,
        };
        if let Some(reason) = kept {
            return Err(reason);
        }
        let spares = bridge.answers && self.answer(entered, learning);
        let known = self.look_up(entered, learning);
        let verdict = tables.decide(bridge, ingress, dst, known);
        let (verdict, members) = match (verdict, &bridge.mdb) {
            (Verdict::Flood(FloodKind::Multicast), Some(mdb)) => {
                match listen(mdb, ingress, [dst, src], &entered.bytes, entered.vnet.csum.is_some()).1 {
                    Ok(Route::Flood) => (verdict, None),
                    Ok(Route::Only(members)) => (verdict, Some(members)),
                    Err(reason) => (Verdict::Drop(reason), None),
                }
            }
            (verdict, _) => (verdict, None),
        };
        let step = |passed_over, vteps_passed_over| Step::Decide {
            bridge: id,
            ingress,
            dst,
            verdict,
            passed_over,
            vteps_passed_over,
            members_only: members.is_some(),
        };
        match verdict {
            Verdict::Drop(reason) => {
                self.walk.steps.push(step(vec![], vec![]));
                let is_asker = || asker(tables.overlay.as_ref(), dst, ingress).is_some();
                let is_answer = reason == DropReason::LocalDestination && is_asker();
                Err(if is_answer { DropReason::PathMtuProbe } else { reason })
            }
            Verdict::Unicast(to) => {
                self.walk.steps.push(step(vec![], vec![]));
                match to {
                    Endpoint::Vtep(vtep) => return self.leave_for(entered, learning, vtep),
                    Endpoint::Port(_) => self.depart(entered, to),
                }
                Ok(())
            }
            Verdict::Flood(kind) => {
                let is_spared = |to: &Endpoint| spares && tables.is_spared(bridge, *to);
                let targets: Vec<_> = match members {
                    Some(members) => tables.members(bridge, ingress, entered.src, members).collect(),
                    None => {
                        let targets = tables.flood(bridge, ingress, kind).filter(|to| !is_spared(to));
                        targets.map(|to| (to, None)).collect()
                    }
                };
                let nobody = match members {
                    Some(_) => DropReason::NoMcastMember,
                    None if spares => DropReason::NeighSuppressed,
                    None => DropReason::NoFloodTarget,
                };
                let (passed_over, left_out) = self.left_out(entered, kind, &targets, members);
                self.walk.steps.push(step(passed_over, left_out));
                let proxied = self.takes_flooded(entered, learning, members, spares);
                let is_sent = |(to, _): &&(Endpoint, _)| !proxied || matches!(to, Endpoint::Port(_));
                for (to, host) in targets.iter().filter(is_sent) {
                    match host {
                        Some(host) => self.depart(&entered.rewritten(Rewritten { dst: *host, src }), *to),
                        None => self.depart(entered, *to),
                    }
                }
                match (proxied, targets.is_empty()) {
                    (true, _) => Err(DropReason::NeighProxied),
                    (false, true) => Err(nobody),
                    (false, false) => Ok(()),
                }
            }
        }
    }

    /// What a bridge that answers in others' names makes of a frame: whether some are spared it. Its answer leaves.
    fn answer(&mut self, entered: &Entered<'s>, learning: Learning) -> bool {
        let Entered { id, bridge, ingress, .. } = *entered;
        let find = |mac| self.entry(entered, learning, mac).map(|entry| entry.at);
        let done = self.scene.tables.suppress(bridge, ingress, &entered.bytes, find);
        let (answered, spares) = (done.answer.is_some(), done.spares);
        self.walk.steps.push(Step::Answer { bridge: id, answered, spares });
        if let Some(answer) = &done.answer {
            let departure = egress::answer(self.scene, entered, answer.bytes(), ingress);
            self.walk.steps.push(Step::Egress(departure));
        }
        spares
    }

    /// Where the destination is, once the source was learned.
    fn look_up(&mut self, entered: &Entered<'_>, learning: Learning) -> Option<Endpoint> {
        let Entered { id, dst, .. } = *entered;
        if dst.is_multicast() {
            return None;
        }
        let entry = self.entry(entered, learning, dst);
        self.walk.steps.push(Step::LookUp { bridge: id, dst, entry });
        entry.map(|entry| entry.at)
    }

    /// What the FDB says of an address once the source was learned.
    fn entry(&self, entered: &Entered<'_>, learning: Learning, mac: MacAddr) -> Option<EntryView> {
        let Entered { id, src, ingress, .. } = *entered;
        let entry = self.scene.fdb.entry(id, mac);
        let Learning::Foreseen(learned) = learning else { return entry };
        match learned {
            Learned::New { evicted: Some(victim) } if victim == mac => None,
            // It is no longer where it was, and there is no room to say where it is.
            Learned::Full if src == mac => None,
            Learned::New { .. } | Learned::Moved { .. } if src == mac => {
                let origin = entry.map_or(Origin::Learned, |entry| entry.origin);
                let updated = self.scene.now;
                Some(EntryView { bridge: id, mac, at: ingress, origin, updated, locked: false })
            }
            Learned::Known
            | Learned::New { .. }
            | Learned::Moved { .. }
            | Learned::Sticky
            | Learned::StaticAtOtherVtep
            | Learned::Full => entry,
        }
    }

    fn left_out(
        &self,
        entered: &Entered<'_>,
        kind: FloodKind,
        targets: &[(Endpoint, Option<MacAddr>)],
        members: Option<&Targets>,
    ) -> (Vec<(PortId, Option<DropReason>)>, Vec<VtepId>) {
        let Entered { bridge, ingress, .. } = *entered;
        let tables = self.scene.tables;
        let why = |port: PortId| {
            let gate_is_closed = tables.port(port).is_some_and(|entry| !kind.passes(entry.options));
            let refused = || tables.may_deliver(ingress, Endpoint::Port(port)).err();
            match members {
                // The gate is for what nobody asked for.
                Some(members) if members.ports.iter().any(|target| target.port == port) => {
                    Some(refused().unwrap_or(DropReason::SameEndpoint))
                }
                Some(_) => Some(DropReason::NoMcastMember),
                None if gate_is_closed => None,
                // Who would get it, but does not, is spared.
                None => Some(refused().unwrap_or(DropReason::NeighSuppressed)),
            }
        };
        let is_target = |to| targets.iter().any(|(target, _)| *target == to);
        let is_left_out = |port: &&PortId| !is_target(Endpoint::Port(**port));
        let ports = bridge.ports.iter().filter(is_left_out).map(|port| (*port, why(*port))).collect();
        let vteps = bridge.flood_list.iter().filter(|vtep| !is_target(Endpoint::Vtep(**vtep)));
        (ports, vteps.copied().collect())
    }

    fn depart(&mut self, entered: &Entered<'_>, to: Endpoint) {
        let departure = egress::depart(self.scene, entered, self.walk.frames, to);
        let answer = match &departure.oversized {
            Some(Oversized::Answered(answer)) if !self.told => {
                Some(egress::answer(self.scene, entered, answer, entered.ingress))
            }
            Some(_) | None => None,
        };
        self.told |= answer.is_some();
        self.walk.steps.push(Step::Egress(departure));
        self.walk.steps.extend(answer.map(Step::Egress));
    }
}

fn taught_by(bridge: &Bridge, src: MacAddr) -> Result<Terms, Learning> {
    match (bridge.learns(src), bridge.learning) {
        (true, _) => Ok(Terms::default()),
        (false, true) => Err(Learning::LocalAddress),
        (false, false) => Err(Learning::BridgeOff),
    }
}

#[cfg(test)]
mod tests;
