//! One frame's walk, in order.
//!
//! ```text
//! port      -> [receive]  parse -> classify -> admit -> learn \
//!                                                              > stage -> [forward] look up -> decide -> egress
//! underlay  -> [decapsulate] header -> VNI -> peer -> parse -> admit -> learn -> ECN /
//! ```
//!
//! A whole batch is learned before any of it is decided (as VPP's l2-learn and l2-fwd nodes do): the code of each stage
//! stays in the cache. What that costs: an address that moves twice within one batch is where it was seen last, also for
//! the frames that were read before.
//!
//! Nothing here allocates, waits, or knows what a socket is.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use weft_vxlan::{
    ecn::{self, Ecn},
    header::{Header, HeaderError, ReservedBits},
};

use super::{Fact, Facts, counters::Counters, egress::Egress};
use crate::{
    bridge::{Admission, Bridge, DropReason, FloodKind, Overlay, Tables, Verdict, admit},
    fdb::{Fdb, Learned, Stamp},
    ids::{BridgeId, Endpoint, PortId, VtepId},
    offload::{self, VnetHeader},
    port::RxBatch,
    underlay::Arrival,
    wire::{
        MacAddr, Tag,
        dissect::{self, dissect},
        ethernet, vlan,
    },
};

/// Datagrams that are decapsulated before any of them is forwarded: as many as UDP_GRO puts into one buffer.
const STAGE_LEN: usize = 64;

/// A frame that has entered its bridge and taught its source.
pub(super) struct Staged<'b> {
    /// The frame without the tag that belonged to its port.
    pub(super) bytes: &'b [u8],
    /// What is left to do about it; offsets count in `bytes`.
    pub(super) vnet: VnetHeader,
    /// How many wire frames it is.
    pub(super) frames: u64,
    pub(super) bridge: BridgeId,
    dst: MacAddr,
    /// The tag that was taken off, for its priority.
    pub(super) priority: Tag,
}

/// Everything that a walk needs, borrowed from its worker for one batch.
pub(super) struct Walk<'w> {
    pub(super) tables: &'w Tables,
    pub(super) fdb: &'w Fdb,
    pub(super) now: Stamp,
    pub(super) facts: &'w mut Facts,
    pub(super) egress: Egress<'w>,
}

impl<'w> Walk<'w> {
    /// The frames of one port.
    pub(super) fn take_frames(&mut self, port: PortId, batch: &mut RxBatch) {
        let mut stage = ArrayVec::<Staged<'_>, { RxBatch::CAPACITY }>::new();
        for (bytes, vnet) in batch.iter_mut() {
            stage.extend(self.receive(port, bytes, vnet));
        }
        self.forward_all(Endpoint::Port(port), &stage);
    }

    fn receive<'b>(&mut self, port: PortId, bytes: &'b mut [u8], vnet: Option<VnetHeader>) -> Option<Staged<'b>> {
        let ingress = Endpoint::Port(port);
        let counted = vnet.and_then(|vnet| Some((vnet, offload::wire_frames(bytes, &vnet).ok()?)));
        let frames = counted.map_or(1, |(_, frames)| u64::from(frames));
        self.counters().entered(ingress, frames, bytes.len() as u64);
        let Some((mut vnet, _)) = counted else {
            return self.refuse(ingress, None, DropReason::BadOffload, frames);
        };
        let Ok(header) = ethernet::parse(bytes) else {
            return self.refuse(ingress, None, DropReason::Malformed, frames);
        };
        let (bridge, port_tag) = match self.tables.classify(port, &header) {
            Ok(classified) => classified,
            Err(reason) => return self.refuse(ingress, None, reason, frames),
        };
        self.counters().entered_bridge(bridge, frames, bytes.len() as u64);
        let Some(entry) = self.tables.bridge(bridge) else {
            return self.refuse(ingress, Some(bridge), DropReason::PortRemoved, frames);
        };
        let bytes = match port_tag {
            None => bytes,
            Some(_) => match vlan::pop(bytes) {
                Some((_, bytes)) => {
                    vnet = vnet.shifted(-(vlan::TAG_LEN as i16));
                    // A checksum may begin in the tag, and now in the addresses.
                    if offload::wire_frames(bytes, &vnet).is_err() {
                        return self.refuse(ingress, Some(bridge), DropReason::BadOffload, frames);
                    }
                    bytes
                }
                None => return self.refuse(ingress, Some(bridge), DropReason::Malformed, frames),
            },
        };
        if let Err(reason) = self.enter(entry, bridge, ingress, header.dst, header.src) {
            return self.refuse(ingress, Some(bridge), reason, frames);
        }
        Some(Staged { bytes, vnet, frames, bridge, dst: header.dst, priority: port_tag.unwrap_or(Tag(0)) })
    }

    /// The datagrams of one receive buffer, all from one source.
    pub(super) fn take_datagrams(&mut self, arrival: Arrival, bytes: &mut [u8]) {
        let Some(overlay) = &self.tables.overlay else {
            let datagrams = bytes.len().div_ceil(arrival.stride).max(1);
            return self.refuse_datagrams(DropReason::UnderlayAbsent, datagrams as u64);
        };
        if bytes.is_empty() {
            return self.refuse_datagrams(DropReason::VxlanTruncated, 1);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let cut = rest.len().min(arrival.stride * STAGE_LEN);
            let (some, more) = rest.split_at_mut(cut);
            rest = more;
            let mut stage = ArrayVec::<(VtepId, Staged<'_>), STAGE_LEN>::new();
            for datagram in some.chunks_mut(arrival.stride) {
                stage.extend(self.decapsulate(overlay, &arrival, datagram));
            }
            for (vtep, staged) in &stage {
                self.forward(Endpoint::Vtep(*vtep), staged);
            }
        }
    }

    /// The order of checks is the kernel's (`vxlan_core.c`: `vxlan_rcv`), with the check of the peer, which the kernel
    /// does not make, before anything is counted for it or learned from it.
    fn decapsulate<'b>(
        &mut self,
        overlay: &Overlay,
        arrival: &Arrival,
        datagram: &'b mut [u8],
    ) -> Option<(VtepId, Staged<'b>)> {
        let (bridge_id, bridge, vtep, inner) = match self.open(overlay, arrival.source, datagram) {
            Ok(opened) => opened,
            Err(reason) => {
                self.refuse_datagrams(reason, 1);
                return None;
            }
        };
        let ingress = Endpoint::Vtep(vtep);
        self.counters().entered(ingress, 1, inner.len() as u64);
        self.counters().entered_bridge(bridge_id, 1, inner.len() as u64);
        match self.inspect(overlay, bridge_id, bridge, ingress, arrival.tos, inner) {
            Ok((dst, vnet)) => {
                let (vnet, frames) = match offload::wire_frames(inner, &vnet) {
                    Ok(frames) => (vnet, u64::from(frames)),
                    Err(_) => (VnetHeader::NONE, 1),
                };
                // What turns out to be a super-frame came as one datagram, but counts as many.
                self.counters().entered(ingress, frames - 1, 0);
                self.counters().entered_bridge(bridge_id, frames - 1, 0);
                Some((vtep, Staged { bytes: inner, vnet, frames, bridge: bridge_id, dst, priority: Tag(0) }))
            }
            Err(reason) => {
                self.counters().dropped_in(ingress, Some(bridge_id), reason, 1);
                None
            }
        }
    }

    /// Reads the VXLAN header: whose is it, and what is inside?
    fn open<'b>(
        &mut self,
        overlay: &Overlay,
        source: IpAddr,
        datagram: &'b mut [u8],
    ) -> Result<(BridgeId, &'w Bridge, VtepId, &'b mut [u8]), DropReason> {
        let (header, inner) = Header::parse_mut(datagram).map_err(|error| match error {
            HeaderError::Truncated { .. } => DropReason::VxlanTruncated,
            HeaderError::NoVniFlag => DropReason::VxlanNoVniFlag,
        })?;
        let bridge_id = *self.tables.by_vni.get(&header.vni()).ok_or(DropReason::VniUnknown)?;
        let bridge = self.tables.bridge(bridge_id).ok_or(DropReason::VniUnknown)?;
        if overlay.reserved_bits == ReservedBits::Drop && header.has_reserved_bits() {
            return Err(DropReason::VxlanReservedBits);
        }
        let vtep = match bridge.known_vteps.get(&source) {
            Some(vtep) => *vtep,
            None if overlay.any_peer => {
                self.egress.vteps.of_source(source, overlay.local.port()).map_err(|_| DropReason::VtepTableFull)?
            }
            None => return Err(DropReason::VtepUnknown),
        };
        Ok((bridge_id, bridge, vtep, inner))
    }

    /// Looks at the inner frame; tells its destination and what its sender left undone, or why it ends.
    fn inspect(
        &mut self,
        overlay: &Overlay,
        bridge_id: BridgeId,
        bridge: &Bridge,
        ingress: Endpoint,
        outer_tos: u8,
        inner: &mut [u8],
    ) -> Result<(MacAddr, VnetHeader), DropReason> {
        if inner.len() < ethernet::HEADER_LEN {
            return Err(DropReason::InnerTruncated);
        }
        let header = ethernet::parse(inner).map_err(|_| DropReason::Malformed)?;
        self.enter(bridge, bridge_id, ingress, header.dst, header.src)?;
        let dissected = dissect(inner);
        if dissected.ip_truncated {
            return Err(DropReason::InnerIpTruncated);
        }
        if dissected.tag_count > 0 && !overlay.inner_vlan_passes {
            return Err(DropReason::InnerVlan);
        }
        if let (Some(l3), 0) = (&dissected.l3, dissected.tag_count) {
            let before = Ecn::of_tos(l3.tos);
            let after = ecn::decapsulate(before, Ecn::of_tos(outer_tos)).map_err(|_| DropReason::EcnNotCapable)?;
            if after != before {
                dissect::set_ecn(inner, l3, after.in_tos(0));
            }
        }
        let mtus = || bridge.ports.iter().filter_map(|id| self.tables.port(*id)).map(|port| port.mtu);
        Ok((header.dst, offload::unfinished(inner, &dissected, || mtus().min().unwrap_or(u16::MAX))))
    }

    /// Admission and learning.
    fn enter(
        &mut self,
        bridge: &Bridge,
        bridge_id: BridgeId,
        ingress: Endpoint,
        dst: MacAddr,
        src: MacAddr,
    ) -> Result<(), DropReason> {
        let admission = admit(bridge, dst, src);
        if let Admission::Refuse(reason) = admission {
            return Err(reason);
        }
        if self.tables.learns(bridge, ingress, src) {
            match self.fdb.learn(bridge_id, src, ingress, self.now, bridge.limit) {
                Learned::Known | Learned::Sticky | Learned::Full => {}
                Learned::New { .. } => self.facts.tell(Fact::Learned { bridge: bridge_id, mac: src, at: ingress }),
                Learned::Moved { from } => {
                    self.facts.tell(Fact::Moved { bridge: bridge_id, mac: src, from, to: ingress });
                }
                Learned::StaticAtOtherVtep => return Err(DropReason::SourceStatic),
            }
        }
        match admission {
            Admission::KeepAndLearn(reason) => Err(reason),
            Admission::Enter | Admission::Refuse(_) => Ok(()),
        }
    }

    fn forward_all(&mut self, ingress: Endpoint, stage: &[Staged<'_>]) {
        for staged in stage {
            self.forward(ingress, staged);
        }
    }

    fn forward(&mut self, ingress: Endpoint, staged: &Staged<'_>) {
        let Some(bridge) = self.tables.bridge(staged.bridge) else {
            return self.counters().dropped_in(ingress, Some(staged.bridge), DropReason::PortRemoved, staged.frames);
        };
        let known = if staged.dst.is_multicast() { None } else { self.fdb.lookup(staged.bridge, staged.dst) };
        match self.tables.decide(bridge, ingress, staged.dst, known) {
            Verdict::Unicast(to) => self.egress.deliver(bridge, staged, to),
            Verdict::Flood(kind) => self.flood(bridge, ingress, staged, kind),
            Verdict::Drop(reason) => {
                self.counters().dropped_in(ingress, Some(staged.bridge), reason, staged.frames);
            }
        }
    }

    fn flood(&mut self, bridge: &Bridge, ingress: Endpoint, staged: &Staged<'_>, kind: FloodKind) {
        let mut targets = 0;
        for to in self.tables.flood(bridge, ingress, kind) {
            targets += 1;
            self.egress.deliver(bridge, staged, to);
        }
        match targets {
            0 => self.counters().dropped_in(ingress, Some(staged.bridge), DropReason::NoFloodTarget, staged.frames),
            _ => self.counters().copied(ingress, staged.bridge, (targets - 1) * staged.frames),
        }
    }

    fn refuse<T>(&mut self, ingress: Endpoint, bridge: Option<BridgeId>, reason: DropReason, frames: u64) -> Option<T> {
        self.counters().dropped_in(ingress, bridge, reason, frames);
        None
    }

    /// Counts datagrams that end before their VTEP and bridge are known.
    fn refuse_datagrams(&mut self, reason: DropReason, datagrams: u64) {
        let tally = &mut self.counters().underlay;
        tally.frames_in += datagrams;
        tally.drops_in[reason.index()] += datagrams;
    }

    fn counters(&mut self) -> &mut Counters {
        self.egress.counters
    }
}
