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
use weft_vxlan::{Encapsulation, pattern::HeaderPattern};

use super::{
    Fact, Facts, TunnelHeader,
    checks::{come_out, enter_tunnel, malformed_inside, on_guard},
    counters::{Counters, Entered},
    egress::Egress,
    entrance::{Entrance, Ingress, Refused, classify, entrance, receive},
    probes::ProbeAnswers,
    tunnel_header,
};
use crate::{
    bridge::{Bridge, DropReason, FloodKind, Overlay, Tables, Verdict},
    fdb::{Fdb, FdbCache, Learned, Place, Stamp},
    ids::{BridgeId, Endpoint, PortId},
    offload::VnetHeader,
    port::RxBatch,
    underlay::Arrival,
    wire::{
        MacAddr, Tag,
        ethernet::{self, EtherHeader},
    },
};

/// Datagrams that are decapsulated before any of them is forwarded: as many as UDP_GRO puts into one buffer.
const STAGE_LEN: usize = 64;

/// Where frames of the switch's own come in. No port has this number.
const NOWHERE: Endpoint = Endpoint::Port(PortId(u16::MAX));

/// A frame that has entered its bridge.
pub(super) struct Staged<'b> {
    /// The frame without the tag that belonged to its port.
    pub(super) bytes: &'b [u8],
    pub(super) bridge: &'b Bridge,
    pub(super) src: Place,
    pub(super) dst: Place,
    /// What is left to do about it; offsets count in `bytes`.
    pub(super) vnet: VnetHeader,
    /// How many wire frames it is.
    pub(super) frames: u32,
    pub(super) ingress: Endpoint,
    /// The tag that was taken off, for its priority.
    pub(super) priority: Tag,
    pub(super) teaches: Teaches,
    /// It goes no further.
    pub(super) kept: Option<DropReason>,
}

impl<'b> Staged<'b> {
    /// Where it came in.
    pub(super) const fn ingress(&self) -> Endpoint {
        self.ingress
    }

    #[inline(always)]
    pub(super) const fn bridge_id(&self) -> BridgeId {
        self.src.bridge()
    }

    /// Its source address.
    pub(super) const fn src(&self) -> MacAddr {
        self.src.mac()
    }

    /// Its destination address.
    pub(super) const fn dst(&self) -> MacAddr {
        self.dst.mac()
    }

    /// A wire frame of the switch's own that goes back to where this one came in.
    pub(super) fn answer<'a>(&self, bytes: &'a [u8]) -> Staged<'a>
    where
        'b: 'a,
    {
        Staged { bytes, vnet: VnetHeader::NONE, frames: 1, ..*self }
    }

    /// Whether it is a frame of the switch's own.
    #[inline]
    pub(super) fn is_own(&self) -> bool {
        self.ingress == NOWHERE
    }

    /// A frame of the switch's own. It came from nowhere, and nothing asks where.
    pub(super) const fn own(id: BridgeId, bridge: &'b Bridge, bytes: &'b [u8]) -> Self {
        let nobody = Place::new(id, MacAddr::ZERO);
        Self {
            bytes,
            bridge,
            src: nobody,
            dst: nobody,
            vnet: VnetHeader::NONE,
            frames: 1,
            ingress: NOWHERE,
            priority: Tag(0),
            teaches: Teaches::Nothing,
            kept: None,
        }
    }
}

/// What the FDB makes of a frame's source.
#[derive(Clone, Copy)]
pub(super) enum Teaches {
    /// Nothing.
    Nothing,
    /// It learns it.
    Source,
    /// Its port has the last word: [`Walk::learn_guarded`].
    Guarded,
}

impl Teaches {
    #[inline(always)]
    pub(super) const fn source_if(learns: bool) -> Self {
        if learns { Self::Source } else { Self::Nothing }
    }
}

/// A way through a bridge where frames are only looked up. Whoever takes it after another in the same batch, under the same
/// tables, may take it too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    bridge: BridgeId,
    from: Endpoint,
    to: Endpoint,
}

impl Way {
    /// Nobody's.
    pub(super) const NONE: Self = Self { bridge: BridgeId(0), from: NOWHERE, to: NOWHERE };
}

/// Where datagrams of one VNI from one source enter.
#[derive(Clone, Copy)]
pub(super) struct Tunnel<'w> {
    pub(super) id: BridgeId,
    pub(super) bridge: &'w Bridge,
    pub(super) ingress: Endpoint,
}

/// The tunnel of a datagram that was taken, and what others of it look like.
pub(super) struct KnownTunnel<'w> {
    source: IpAddr,
    pattern: HeaderPattern,
    tunnel: Tunnel<'w>,
}

/// Everything that a walk needs, borrowed from its worker for one batch.
pub(super) struct Walk<'w> {
    pub(super) tables: &'w Tables,
    pub(super) fdb: &'w Fdb,
    pub(super) cache: &'w mut FdbCache,
    pub(super) now: Stamp,
    /// Where the last datagram entered: the next one most likely does too. All of a batch came to one port.
    pub(super) last_tunnel: Option<KnownTunnel<'w>>,
    /// Which way the last frame took.
    pub(super) last_way: Way,
    pub(super) facts: &'w mut Facts,
    /// Questions about the path MTU that may still be answered.
    pub(super) probe_answers: &'w mut ProbeAnswers,
    /// Counts frames that are not simply handed on ([`super::Turned`]).
    pub(super) unusual: &'w mut u32,
    pub(super) egress: Egress<'w>,
}

impl<'w> Walk<'w> {
    /// The frames of one port.
    pub(super) fn take_frames(
        &mut self,
        port: PortId,
        frames: impl Iterator<Item = (&'w mut [u8], &'w Option<VnetHeader>)>,
    ) {
        let tables = self.tables;
        let entry = tables.port(port);
        let ingress = Ingress { at: Endpoint::Port(port), port: entry };
        let access = entry.and_then(|entry| entrance(tables, entry, entry.membership.access()?));
        // A loop for either, so that what an access port need not ask of every frame is not asked.
        match access {
            Some(access) => self.take_frames_by(&ingress, frames, |_, _| Ok((access, None))),
            None => self.take_frames_by(&ingress, frames, |header, frames| classify(tables, entry, header, frames)),
        }
    }

    /// `classify` tells which bridge a frame enters, and with which tag of its port.
    #[inline(always)]
    fn take_frames_by(
        &mut self,
        ingress: &Ingress<'w>,
        frames: impl Iterator<Item = (&'w mut [u8], &'w Option<VnetHeader>)>,
        classify: impl Fn(&EtherHeader, u32) -> Result<(Entrance<'w>, Option<Tag>), Refused>,
    ) {
        let mut stage = ArrayVec::<Staged<'_>, { RxBatch::CAPACITY }>::new();
        let mut entered = Entered::default();
        for (bytes, vnet) in frames {
            let len = bytes.len();
            match receive(ingress, bytes, vnet, &classify) {
                Ok(staged) => {
                    entered.add(ingress.at, staged.bridge_id(), staged.frames, len, self.counters());
                    stage.push(staged);
                }
                Err(refused) => self.refuse(ingress.at, &refused, len),
            }
        }
        entered.count(self.counters());
        self.carry(&mut stage);
    }

    /// The datagrams of one receive buffer, all from one source.
    pub(super) fn take_datagrams(&mut self, arrival: Arrival, bytes: &'w mut [u8]) {
        let Some(overlay) = &self.tables.overlay else {
            let datagrams = bytes.len().div_ceil(arrival.stride).max(1);
            return self.refuse_datagrams(DropReason::UnderlayAbsent, datagrams as u64);
        };
        if bytes.is_empty() {
            return self.refuse_datagrams(tunnel_header::empty(arrival.format), 1);
        }
        for some in bytes.chunks_mut(arrival.stride * STAGE_LEN) {
            let mut stage = ArrayVec::<Staged<'_>, STAGE_LEN>::new();
            let mut entered = Entered::default();
            for datagram in some.chunks_mut(arrival.stride) {
                let (tunnel, inner) = match self.open(overlay, &arrival, datagram) {
                    Ok(opened) => opened,
                    Err(reason) => {
                        self.refuse_datagrams(reason, 1);
                        continue;
                    }
                };
                let Tunnel { ingress, id, .. } = tunnel;
                let len = inner.len();
                match self.decapsulate(overlay, tunnel, arrival.tos, inner) {
                    // What turns out to be a super-frame came as one datagram, but counts as many.
                    Ok(staged) => {
                        entered.add(ingress, id, staged.frames, len, self.counters());
                        stage.push(staged);
                    }
                    Err(reason) => self.refuse(ingress, &Refused { reason, bridge: Some(id), frames: 1 }, len),
                }
            }
            entered.count(self.counters());
            if !overlay.stations_wanted.is_empty() {
                self.look_for_stations(overlay, &stage);
            }
            self.carry(&mut stage);
        }
    }

    /// Reads the tunnel header: whose is it, and where does the inner frame begin?
    ///
    /// The order of checks, here and behind, is the kernel's (`vxlan_core.c`: `vxlan_rcv`; `geneve.c`: `geneve_rx`), with the
    /// check of the peer, which the kernel does not make, before anything is counted for it or learned from it. They are made
    /// for the first datagram of a tunnel; those that look like it are the same tunnel's.
    #[inline]
    fn open<'b>(
        &mut self,
        overlay: &Overlay,
        arrival: &Arrival,
        datagram: &'b mut [u8],
    ) -> Result<(Tunnel<'w>, &'b mut [u8]), DropReason> {
        let known = self.last_tunnel.as_ref().filter(|known| known.source == arrival.source);
        let known = known.and_then(|known| Some((known.tunnel, known.pattern.frame_at(datagram)?)));
        let (tunnel, frame_at) = match known {
            Some(found) => found,
            None => self.find_tunnel(overlay, arrival, datagram)?,
        };
        if tunnel.bridge.encapsulation == Encapsulation::VxlanGbp {
            self.note_policy(arrival, datagram);
        }
        Ok((tunnel, &mut datagram[frame_at..]))
    }

    #[inline(never)]
    fn find_tunnel(
        &mut self,
        overlay: &Overlay,
        arrival: &Arrival,
        datagram: &[u8],
    ) -> Result<(Tunnel<'w>, usize), DropReason> {
        let Arrival { format, source, .. } = *arrival;
        let header = TunnelHeader::read(format, datagram)?;
        let vteps = &mut *self.egress.vteps;
        let number = || vteps.of_source(source, overlay.port_of(format));
        let entry = enter_tunnel(self.tables, overlay, source, header, datagram.len(), number)?;
        let tunnel = Tunnel { id: entry.id, bridge: entry.bridge, ingress: Endpoint::Vtep(entry.vtep) };
        let pattern = HeaderPattern::new(entry.bridge.encapsulation, header.vni(), overlay.refused_bits);
        self.last_tunnel = Some(KnownTunnel { source, pattern, tunnel });
        Ok((tunnel, entry.frame_at))
    }

    #[inline(never)]
    fn note_policy(&mut self, arrival: &Arrival, datagram: &[u8]) {
        let policy = TunnelHeader::read(arrival.format, datagram).ok().and_then(TunnelHeader::policy);
        if let Some(policy) = policy {
            self.counters().policy_arrived(policy);
        }
    }

    /// Takes the frame out of a datagram.
    #[inline]
    fn decapsulate<'b>(
        &mut self,
        overlay: &Overlay,
        tunnel: Tunnel<'w>,
        outer_tos: u8,
        inner: &'b mut [u8],
    ) -> Result<Staged<'b>, DropReason>
    where
        'w: 'b,
    {
        let Tunnel { id, bridge, ingress, .. } = tunnel;
        let header = ethernet::parse(inner).map_err(malformed_inside)?;
        let (vnet, frames, kept) = match come_out(self.tables, overlay, (ingress, bridge), &header, outer_tos, inner) {
            Ok(came_out) => came_out,
            Err(DropReason::ReservedGroup) => return Err(self.on_reserved_group(&tunnel, inner)),
            Err(reason) => return Err(reason),
        };
        Ok(Staged {
            bytes: inner,
            bridge,
            src: Place::new(id, header.src),
            dst: Place::new(id, header.dst),
            vnet,
            frames,
            ingress,
            priority: Tag(0),
            teaches: Teaches::source_if(bridge.tunnel.learning && bridge.learns(header.src)),
            kept,
        })
    }

    /// The second half of the walk, for a whole batch.
    fn carry(&mut self, stage: &mut [Staged<'w>]) {
        if self.cache.is_large() {
            for staged in &*stage {
                self.cache.prefetch(self.fdb, staged.src);
                self.cache.prefetch(self.fdb, staged.dst);
            }
        }
        stage.iter_mut().for_each(|staged| self.learn(staged));
        stage.iter().for_each(|staged| self.forward(staged));
    }

    #[inline(always)]
    fn learn(&mut self, staged: &mut Staged<'_>) {
        match staged.teaches {
            Teaches::Nothing => {}
            Teaches::Source => {
                match self.cache.learn(self.fdb, staged.src, staged.ingress, self.now, &staged.bridge.limit) {
                    Learned::Known | Learned::Sticky | Learned::Full => {}
                    learned @ (Learned::New { .. } | Learned::Moved { .. } | Learned::StaticAtOtherVtep) => {
                        self.note(staged, learned);
                    }
                }
            }
            Teaches::Guarded => self.learn_guarded(staged),
        }
    }

    /// Learning at a port that is locked, or holds no more than some addresses, or only learns.
    #[cold]
    fn learn_guarded(&mut self, staged: &mut Staged<'_>) {
        let Staged { ingress, bridge, src, .. } = *staged;
        let Endpoint::Port(id) = ingress else { return };
        let Some(port) = self.tables.port(id) else { return };
        let (terms, kept) = on_guard(port, bridge, src.mac(), staged.kept, || self.fdb.standing(src, ingress));
        if let Some(terms) = terms {
            let learned = self.fdb.learn_on_terms(src, ingress, self.now, bridge.limit, terms);
            self.note(staged, learned);
        }
        staged.kept = kept.or(staged.kept);
    }

    /// Something is new about a frame's source.
    #[cold]
    fn note(&mut self, staged: &mut Staged<'_>, learned: Learned) {
        let Staged { ingress, src, .. } = *staged;
        let (bridge, mac) = (src.bridge(), src.mac());
        *self.unusual += 1;
        self.counters().learned(learned);
        match learned {
            Learned::Known | Learned::Sticky | Learned::Full => {}
            Learned::New { .. } => self.facts.tell(Fact::Learned { bridge, mac, at: ingress }),
            Learned::Moved { from } => self.facts.tell(Fact::Moved { bridge, mac, from, to: ingress }),
            Learned::StaticAtOtherVtep => staged.kept = Some(DropReason::SourceStatic),
        }
    }

    #[inline(always)]
    fn forward(&mut self, staged: &Staged<'w>) {
        let Staged { ingress, bridge, dst, .. } = *staged;
        let known = if dst.mac().is_multicast() { None } else { self.cache.lookup(self.fdb, dst) };
        if let (Some(to), None) = (known, staged.kept)
            && self.last_way == (Way { bridge: staged.bridge_id(), from: ingress, to })
        {
            return self.egress.deliver(staged, to);
        }
        if bridge.answers && staged.kept.is_none() && self.answer(staged) {
            return;
        }
        let verdict = match staged.kept {
            Some(reason) => {
                if reason == DropReason::PortState {
                    self.hear(staged);
                }
                Verdict::Drop(reason)
            }
            None => self.tables.decide(bridge, ingress, dst.mac(), known),
        };
        if bridge.tunnel.looks_at_what_leaves()
            && matches!(ingress, Endpoint::Port(_))
            && self.forward_looking(staged, verdict, false)
        {
            return;
        }
        match verdict {
            Verdict::Unicast(to) => {
                if known == Some(to) && bridge.passes_unseen() {
                    self.last_way = Way { bridge: staged.bridge_id(), from: ingress, to };
                }
                self.egress.deliver(staged, to);
            }
            Verdict::Flood(kind) => self.flood(staged, kind),
            Verdict::Drop(DropReason::LocalDestination) => {
                let reason = self.on_local_destination(staged);
                self.give_up(staged, reason);
            }
            Verdict::Drop(reason) => self.give_up(staged, reason),
        }
    }

    #[inline(never)]
    fn flood(&mut self, staged: &Staged<'w>, kind: FloodKind) {
        match &staged.bridge.mdb {
            Some(mdb) if kind == FloodKind::Multicast => self.forward_group(staged, mdb),
            Some(_) | None => self.flood_to_all(staged, kind),
        }
    }

    pub(super) fn flood_to_all(&mut self, staged: &Staged<'w>, kind: FloodKind) {
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
        *self.unusual += 1;
        let mut targets = 0;
        for to in self.tables.flood(staged.bridge, staged.ingress, kind).filter(|to| !spared(*to)) {
            targets += 1;
            self.egress.deliver(staged, to);
        }
        self.count_copies(staged, targets, nobody);
    }

    /// Counts that a frame went to so many places; if to none, it was dropped, and why.
    pub(super) fn count_copies(&mut self, staged: &Staged<'_>, targets: u64, nobody: DropReason) {
        match targets {
            0 => self.give_up(staged, nobody),
            _ => self.counters().copied(staged.ingress, staged.bridge_id(), (targets - 1) * u64::from(staged.frames)),
        }
    }

    pub(super) fn give_up(&mut self, staged: &Staged<'_>, reason: DropReason) {
        *self.unusual += 1;
        self.counters().dropped_in(staged.ingress, Some(staged.bridge_id()), reason, u64::from(staged.frames));
    }

    /// Answers who asks for an address, and floods the question to those that are not spared it. `false`: the frame goes
    /// the way of all others. An answer is a copy in the ledger: one more frame leaves than came in.
    #[cold]
    fn answer(&mut self, staged: &Staged<'w>) -> bool {
        let Staged { ingress, bridge, dst, .. } = *staged;
        let bridge_id = staged.bridge_id();
        let fdb = self.fdb;
        let done = self.tables.suppress(bridge, ingress, staged.bytes, |mac| fdb.lookup(bridge_id, mac));
        if let Some(answer) = &done.answer {
            self.counters().copied(ingress, bridge_id, 1);
            self.egress.deliver_now(&staged.answer(answer.bytes()), ingress);
        }
        let known = if dst.mac().is_multicast() { None } else { fdb.lookup(bridge_id, dst.mac()) };
        let verdict = self.tables.decide(bridge, ingress, dst.mac(), known);
        match verdict {
            Verdict::Flood(kind) if done.spares && self.members_only(staged, kind).is_none() => {
                if let Endpoint::Port(_) = ingress
                    && self.forward_looking(staged, verdict, true)
                {
                    return true;
                }
                let tables = self.tables;
                self.flood_but(staged, kind, |to| tables.is_spared(bridge, to), DropReason::NeighSuppressed);
                true
            }
            Verdict::Flood(_) | Verdict::Unicast(_) | Verdict::Drop(_) => false,
        }
    }

    /// Counts a frame of so many bytes that came in at `at` and ends there.
    #[cold]
    fn refuse(&mut self, at: Endpoint, refused: &Refused, len: usize) {
        let Refused { reason, bridge, frames } = *refused;
        *self.unusual += 1;
        self.counters().entered(at, bridge, u64::from(frames), len as u64);
        self.counters().dropped_in(at, bridge, reason, u64::from(frames));
    }

    /// Counts datagrams that end before their VTEP and bridge are known.
    fn refuse_datagrams(&mut self, reason: DropReason, datagrams: u64) {
        self.counters().refused(reason, datagrams);
    }

    pub(super) fn counters(&mut self) -> &mut Counters {
        self.egress.counters
    }
}
