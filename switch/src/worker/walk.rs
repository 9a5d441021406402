//! One frame's walk, in order.
//!
//! ```text
//! port     -> [receive]     parse -> classify -> admit             \
//!                                                                   > stage -> [learn] -> [forward] look up -> decide -> egress
//! underlay -> [decapsulate] header -> VNI -> peer -> admit -> ECN  /
//! ```
//!
//! Each stage takes the whole batch before the next begins (as VPP's nodes do). Its code stays in the cache, and what the
//! FDB will be asked for is fetched from memory while the rest of the batch is still being parsed. What that costs: an address
//! that moves twice within one batch is where it was seen last, also for the frames that were read before.
//!
//! Nothing here allocates, waits, or knows what a socket is.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use weft_vxlan::{
    Vni,
    ecn::{self, Ecn},
    header::{Header, HeaderError},
};

use super::{
    Fact, Facts,
    counters::{Counters, Entered},
    egress::Egress,
};
use crate::{
    bridge::{Admission, Bridge, DropReason, FloodKind, Overlay, PortEntry, Tables, Verdict, admit},
    fdb::{Fdb, FdbCache, Learned, Place, Stamp, Standing, Terms},
    ids::{BridgeId, Endpoint, PortId},
    offload::{self, VnetHeader},
    port::RxBatch,
    underlay::Arrival,
    wire::{
        MacAddr, Tag,
        dissect::{self, dissect},
        ethernet::{self, Malformed},
        vlan,
    },
};

/// Datagrams that are decapsulated before any of them is forwarded: as many as UDP_GRO puts into one buffer.
const STAGE_LEN: usize = 64;

/// A frame that has entered its bridge.
pub(super) struct Staged<'b> {
    /// The frame without the tag that belonged to its port.
    pub(super) bytes: &'b [u8],
    /// What is left to do about it; offsets count in `bytes`.
    pub(super) vnet: VnetHeader,
    /// How many wire frames it is.
    pub(super) frames: u32,
    ingress: Endpoint,
    pub(super) bridge_id: BridgeId,
    pub(super) bridge: &'b Bridge,
    src: Place,
    dst: Place,
    /// The tag that was taken off, for its priority.
    pub(super) priority: Tag,
    teaches: Teaches,
    /// It goes no further.
    kept: Option<DropReason>,
}

impl Staged<'_> {
    /// Where it came in.
    pub(super) const fn ingress(&self) -> Endpoint {
        self.ingress
    }
}

/// What the FDB makes of a frame's source.
#[derive(Clone, Copy)]
enum Teaches {
    /// Nothing.
    Nothing,
    /// It learns it.
    Source,
    /// Its port has the last word: [`Walk::learn_guarded`].
    Guarded,
}

impl Teaches {
    #[inline(always)]
    const fn source_if(learns: bool) -> Self {
        if learns { Self::Source } else { Self::Nothing }
    }
}

/// Where a batch came in.
struct Ingress<'w> {
    at: Endpoint,
    /// Its port; `None` if it was taken out meanwhile.
    port: Option<&'w PortEntry>,
    learns: bool,
    /// The port's own mask of reserved groups that are forwarded.
    group_fwd_mask: u16,
    /// Whether the port looks at frames closer than others do ([`PortEntry::is_guarded`]).
    guarded: bool,
}

/// Where datagrams of one VNI from one source enter.
#[derive(Clone, Copy)]
pub(super) struct Tunnel<'w> {
    source: IpAddr,
    vni: Vni,
    id: BridgeId,
    bridge: &'w Bridge,
    ingress: Endpoint,
}

/// Everything that a walk needs, borrowed from its worker for one batch.
pub(super) struct Walk<'w> {
    pub(super) tables: &'w Tables,
    pub(super) fdb: &'w Fdb,
    pub(super) cache: &'w mut FdbCache,
    pub(super) now: Stamp,
    /// Where the last datagram entered: the next one most likely does too.
    pub(super) last_tunnel: Option<Tunnel<'w>>,
    pub(super) facts: &'w mut Facts,
    pub(super) egress: Egress<'w>,
}

impl<'w> Walk<'w> {
    /// The frames of one port.
    pub(super) fn take_frames(&mut self, port: PortId, batch: &'w mut RxBatch) {
        let entry = self.tables.port(port);
        let ingress = Ingress {
            at: Endpoint::Port(port),
            port: entry,
            learns: entry.is_some_and(PortEntry::learns),
            group_fwd_mask: entry.map_or(0, |entry| entry.options.group_fwd_mask),
            guarded: entry.is_some_and(PortEntry::is_guarded),
        };
        let mut stage = ArrayVec::<Staged<'_>, { RxBatch::CAPACITY }>::new();
        let mut entered = Entered::default();
        for (bytes, vnet) in batch.iter_mut() {
            let len = bytes.len() as u64;
            let counted = vnet.and_then(|vnet| Some((vnet, offload::wire_frames(bytes, &vnet).ok()?)));
            let (frames, bridge, result) = match counted {
                Some((vnet, frames)) => {
                    let mut reached = None;
                    let result = self.receive(&ingress, bytes, vnet, frames, &mut reached, &mut stage);
                    (u64::from(frames), reached, result)
                }
                None => (1, None, Err(DropReason::BadOffload)),
            };
            entered.add(ingress.at, bridge, frames, len, self.counters());
            if let Err(reason) = result {
                self.counters().dropped_in(ingress.at, bridge, reason, frames);
            }
        }
        entered.count(self.counters());
        self.carry(&mut stage);
    }

    /// Stages one frame, or says why it ends; `reached` is the bridge that it had come to.
    #[inline(always)]
    fn receive<'b>(
        &self,
        ingress: &Ingress<'_>,
        bytes: &'b mut [u8],
        mut vnet: VnetHeader,
        frames: u32,
        reached: &mut Option<BridgeId>,
        stage: &mut ArrayVec<Staged<'b>, { RxBatch::CAPACITY }>,
    ) -> Result<(), DropReason>
    where
        'w: 'b,
    {
        let header = ethernet::parse(bytes).map_err(|_| DropReason::Malformed)?;
        let port = ingress.port.ok_or(DropReason::PortRemoved)?;
        let (id, port_tag) = port.classify(&header)?;
        *reached = Some(id);
        let bridge = self.tables.bridge(id).ok_or(DropReason::PortRemoved)?;
        let bytes = match port_tag {
            None => bytes,
            Some(_) => {
                let (_, bytes) = vlan::pop(bytes).ok_or(DropReason::Malformed)?;
                vnet = vnet.shifted(-(vlan::TAG_LEN as i16));
                // A checksum may begin in the tag, and now in the addresses.
                offload::wire_frames(bytes, &vnet).map_err(|_| DropReason::BadOffload)?;
                bytes
            }
        };
        let mut kept = admitted(bridge, ingress.group_fwd_mask, header.dst, header.src)?;
        let mut teaches = Teaches::source_if(ingress.learns && bridge.learns(header.src));
        if ingress.guarded {
            if kept.is_none() {
                kept = port.guard()?;
            }
            teaches = Teaches::Guarded;
        }
        stage.push(Staged {
            bytes,
            vnet,
            frames,
            ingress: ingress.at,
            bridge_id: id,
            bridge,
            src: self.place(id, header.src),
            dst: self.place(id, header.dst),
            priority: port_tag.unwrap_or(Tag(0)),
            teaches,
            kept,
        });
        Ok(())
    }

    /// The place of an address in the FDB, which it will be asked for soon.
    #[inline(always)]
    fn place(&self, bridge: BridgeId, mac: MacAddr) -> Place {
        let place = self.fdb.place(bridge, mac);
        self.cache.prefetch(&place);
        place
    }

    /// The datagrams of one receive buffer, all from one source.
    pub(super) fn take_datagrams(&mut self, arrival: Arrival, bytes: &'w mut [u8]) {
        let Some(overlay) = &self.tables.overlay else {
            let datagrams = bytes.len().div_ceil(arrival.stride).max(1);
            return self.refuse_datagrams(DropReason::UnderlayAbsent, datagrams as u64);
        };
        if bytes.is_empty() {
            return self.refuse_datagrams(DropReason::VxlanTruncated, 1);
        }
        for some in bytes.chunks_mut(arrival.stride * STAGE_LEN) {
            let mut stage = ArrayVec::<Staged<'_>, STAGE_LEN>::new();
            let mut entered = Entered::default();
            for datagram in some.chunks_mut(arrival.stride) {
                let (tunnel, inner) = match self.open(overlay, arrival.source, datagram) {
                    Ok(opened) => opened,
                    Err(reason) => {
                        self.refuse_datagrams(reason, 1);
                        continue;
                    }
                };
                let Tunnel { ingress, id, .. } = tunnel;
                let len = inner.len() as u64;
                let staged = self.decapsulate(overlay, tunnel, arrival.tos, inner);
                // What turns out to be a super-frame came as one datagram, but counts as many.
                let frames = staged.as_ref().map_or(1, |staged| u64::from(staged.frames));
                entered.add(ingress, Some(id), frames, len, self.counters());
                match staged {
                    Ok(staged) => stage.push(staged),
                    Err(reason) => self.counters().dropped_in(ingress, Some(id), reason, frames),
                }
            }
            entered.count(self.counters());
            self.carry(&mut stage);
        }
    }

    /// Reads the VXLAN header: whose is it, and what is inside?
    ///
    /// The order of checks, here and behind, is the kernel's (`vxlan_core.c`: `vxlan_rcv`), with the check of the peer, which
    /// the kernel does not make, before anything is counted for it or learned from it.
    #[inline]
    fn open<'b>(
        &mut self,
        overlay: &Overlay,
        source: IpAddr,
        datagram: &'b mut [u8],
    ) -> Result<(Tunnel<'w>, &'b mut [u8]), DropReason> {
        let (header, inner) = Header::parse_mut(datagram).map_err(|error| match error {
            HeaderError::Truncated { .. } => DropReason::VxlanTruncated,
            HeaderError::NoVniFlag => DropReason::VxlanNoVniFlag,
        })?;
        let reserved = header.has_any_of(overlay.refused_bits);
        let tunnel = match self.last_tunnel {
            Some(last) if (last.source, last.vni) == (source, header.vni()) && !reserved => last,
            Some(_) | None => self.find_tunnel(overlay, source, header.vni(), reserved)?,
        };
        if overlay.gbp
            && let Some(policy) = header.policy()
        {
            self.counters().policy_arrived(policy);
        }
        Ok((tunnel, inner))
    }

    fn find_tunnel(
        &mut self,
        overlay: &Overlay,
        source: IpAddr,
        vni: Vni,
        reserved: bool,
    ) -> Result<Tunnel<'w>, DropReason> {
        let id = *self.tables.by_vni.get(&vni).ok_or(DropReason::VniUnknown)?;
        let bridge = self.tables.bridge(id).ok_or(DropReason::VniUnknown)?;
        if reserved {
            return Err(DropReason::VxlanReservedBits);
        }
        let vtep = match bridge.known_vteps.get(&source) {
            Some(vtep) => *vtep,
            None if overlay.any_peer => {
                self.egress.vteps.of_source(source, overlay.local.port()).map_err(|_| DropReason::VtepTableFull)?
            }
            None => return Err(DropReason::VtepUnknown),
        };
        let tunnel = Tunnel { source, vni, id, bridge, ingress: Endpoint::Vtep(vtep) };
        self.last_tunnel = Some(tunnel);
        Ok(tunnel)
    }

    /// Takes the frame out of a datagram.
    #[inline]
    fn decapsulate<'b>(
        &self,
        overlay: &Overlay,
        tunnel: Tunnel<'w>,
        outer_tos: u8,
        inner: &'b mut [u8],
    ) -> Result<Staged<'b>, DropReason>
    where
        'w: 'b,
    {
        let Tunnel { id, bridge, ingress, .. } = tunnel;
        let header = ethernet::parse(inner).map_err(|error| match error {
            Malformed::Runt => DropReason::InnerTruncated,
            Malformed::TruncatedTag => DropReason::Malformed,
        })?;
        // The tunnel looks first whether the source can be learned, if it learns at all, then at the packet. The bridge behind
        // it sees the rest.
        let admitted = admitted(bridge, 0, header.dst, header.src);
        if bridge.tunnel.learning {
            admitted?;
        }
        let (vnet, frames, kept) = match self.inspect(overlay, bridge, outer_tos, inner) {
            Ok((vnet, frames)) => (vnet, frames, admitted?),
            Err(reason) => (VnetHeader::NONE, 1, Some(reason)),
        };
        Ok(Staged {
            bytes: inner,
            vnet,
            frames,
            ingress,
            bridge_id: id,
            bridge,
            src: self.place(id, header.src),
            dst: self.place(id, header.dst),
            priority: Tag(0),
            teaches: Teaches::source_if(bridge.tunnel.learning && bridge.learns(header.src)),
            kept,
        })
    }

    /// Looks at the inner packet; tells what its sender left undone and how many wire frames it is, or why it ends.
    #[inline]
    fn inspect(
        &self,
        overlay: &Overlay,
        bridge: &Bridge,
        outer_tos: u8,
        inner: &mut [u8],
    ) -> Result<(VnetHeader, u32), DropReason> {
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
        let vnet = offload::unfinished(inner, &dissected, || mtus().min().unwrap_or(u16::MAX));
        Ok(match offload::wire_frames(inner, &vnet) {
            Ok(frames) => (vnet, frames),
            Err(_) => (VnetHeader::NONE, 1),
        })
    }

    /// The second half of the walk, for a whole batch.
    fn carry(&mut self, stage: &mut [Staged<'w>]) {
        stage.iter_mut().for_each(|staged| self.learn(staged));
        stage.iter().for_each(|staged| self.forward(staged));
    }

    #[inline]
    fn learn(&mut self, staged: &mut Staged<'_>) {
        let Staged { ingress, src, .. } = *staged;
        match staged.teaches {
            Teaches::Nothing => {}
            Teaches::Source => {
                let learned = self.cache.learn(self.fdb, &src, ingress, self.now, staged.bridge.limit);
                self.note(learned, staged);
            }
            Teaches::Guarded => self.learn_guarded(staged),
        }
    }

    /// Learning at a port that is locked, or holds no more than some addresses, or only learns (`br_input.c`:
    /// `br_handle_frame_finish`). What the bridge keeps because it is for a reserved group passes the lock, as in
    /// `__br_handle_local_finish`: that is what `no_linklocal_learn` is for.
    #[cold]
    fn learn_guarded(&mut self, staged: &mut Staged<'_>) {
        let Staged { ingress, bridge, src, .. } = *staged;
        let Endpoint::Port(id) = ingress else { return };
        let Some(port) = self.tables.port(id) else { return };
        let terms = Terms { max_learned: port.options.fdb_max_learned as usize, locked: false };
        if port.options.locked && staged.kept != Some(DropReason::ReservedGroup) {
            let is_local = bridge.local_macs.contains(&src.mac());
            match self.fdb.standing(&src, ingress) {
                Standing::Known if !is_local => {}
                Standing::Unknown | Standing::Locked
                    if port.options.mab && port.learns() && bridge.learns(src.mac()) =>
                {
                    let terms = Terms { locked: true, ..terms };
                    let learned = self.fdb.learn_on_terms(&src, ingress, self.now, bridge.limit, terms);
                    self.note(learned, staged);
                    staged.kept = Some(DropReason::Locked);
                    return;
                }
                Standing::Unknown | Standing::Elsewhere | Standing::Locked | Standing::Known => {
                    staged.kept = Some(DropReason::Locked);
                    return;
                }
            }
        }
        if port.learns() && bridge.learns(src.mac()) {
            let learned = self.fdb.learn_on_terms(&src, ingress, self.now, bridge.limit, terms);
            self.note(learned, staged);
        }
    }

    #[inline(always)]
    fn note(&mut self, learned: Learned, staged: &mut Staged<'_>) {
        let Staged { ingress, bridge_id: bridge, src, .. } = *staged;
        match learned {
            Learned::Known | Learned::Sticky | Learned::Full => {}
            Learned::New { .. } => self.facts.tell(Fact::Learned { bridge, mac: src.mac(), at: ingress }),
            Learned::Moved { from } => self.facts.tell(Fact::Moved { bridge, mac: src.mac(), from, to: ingress }),
            Learned::StaticAtOtherVtep => staged.kept = Some(DropReason::SourceStatic),
        }
    }

    #[inline]
    fn forward(&mut self, staged: &Staged<'w>) {
        let Staged { ingress, bridge_id, bridge, ref dst, frames, .. } = *staged;
        if bridge.answers && staged.kept.is_none() && self.answer(staged) {
            return;
        }
        let known = if dst.mac().is_multicast() { None } else { self.cache.lookup(self.fdb, dst) };
        let verdict = match staged.kept {
            Some(reason) => Verdict::Drop(reason),
            None => self.tables.decide(bridge, ingress, dst.mac(), known),
        };
        match verdict {
            Verdict::Unicast(to) => self.egress.deliver(staged, to),
            Verdict::Flood(kind) => self.flood(staged, kind),
            Verdict::Drop(reason) => self.counters().dropped_in(ingress, Some(bridge_id), reason, u64::from(frames)),
        }
    }

    fn flood(&mut self, staged: &Staged<'w>, kind: FloodKind) {
        self.flood_but(staged, kind, |_| false, DropReason::NoFloodTarget);
    }

    /// Floods to all whom `spared` does not name; `nobody` is why the frame ends if that is nobody.
    #[inline(always)]
    fn flood_but(
        &mut self,
        staged: &Staged<'w>,
        kind: FloodKind,
        spared: impl Fn(Endpoint) -> bool,
        nobody: DropReason,
    ) {
        let Staged { ingress, bridge_id, bridge, .. } = *staged;
        let frames = u64::from(staged.frames);
        let mut targets = 0;
        for to in self.tables.flood(bridge, ingress, kind).filter(|to| !spared(*to)) {
            targets += 1;
            self.egress.deliver(staged, to);
        }
        match targets {
            0 => self.counters().dropped_in(ingress, Some(bridge_id), nobody, frames),
            _ => self.counters().copied(ingress, bridge_id, (targets - 1) * frames),
        }
    }

    /// Answers who asks for an address, and floods the question to those that are not spared it. `false`: the frame goes
    /// the way of all others. An answer is a copy in the ledger: one more frame leaves than came in.
    #[cold]
    fn answer(&mut self, staged: &Staged<'w>) -> bool {
        let Staged { ingress, bridge_id, bridge, ref dst, .. } = *staged;
        let fdb = self.fdb;
        let done = self.tables.suppress(bridge, ingress, staged.bytes, |mac| fdb.lookup(bridge_id, mac));
        if let Some(answer) = &done.answer {
            self.counters().copied(ingress, bridge_id, 1);
            let answer = Staged { bytes: answer.bytes(), vnet: VnetHeader::NONE, frames: 1, ..*staged };
            self.egress.deliver_now(&answer, ingress);
        }
        let known = if dst.mac().is_multicast() { None } else { fdb.lookup(bridge_id, dst.mac()) };
        match self.tables.decide(bridge, ingress, dst.mac(), known) {
            Verdict::Flood(kind) if done.spares => {
                let tables = self.tables;
                self.flood_but(staged, kind, |to| tables.is_spared(bridge, to), DropReason::NeighSuppressed);
                true
            }
            Verdict::Flood(_) | Verdict::Unicast(_) | Verdict::Drop(_) => false,
        }
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

/// Whether a frame may enter: `Ok(Some)` if the bridge keeps it, but learns from it.
#[inline]
fn admitted(bridge: &Bridge, port_mask: u16, dst: MacAddr, src: MacAddr) -> Result<Option<DropReason>, DropReason> {
    match admit(bridge, port_mask, dst, src) {
        Admission::Enter => Ok(None),
        Admission::KeepAndLearn(reason) => Ok(Some(reason)),
        Admission::Refuse(reason) => Err(reason),
    }
}
