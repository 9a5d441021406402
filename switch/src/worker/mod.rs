//! Workers: threads that carry frames from where they come in to where they leave, to completion.
//!
//! A [`Worker`] has a queue of every port, an end of the underlay, and its own counters; it shares two things with the
//! others, the tables (an immutable snapshot, loaded once a batch) and the FDB. [`Worker::turn_port`] and
//! [`Worker::turn_underlay`] carry one batch; [`thread`] calls them when the poller says that something waits, and tests
//! call them directly, without threads, clocks or root.
//!
//! What a worker finds out goes up on one bounded channel as a [`Fact`]; when it is full the fact is dropped and counted.

mod busy_poll;
mod checks;
pub mod counters;
mod egress;
mod entrance;
pub mod explain;
#[cfg(test)]
mod fuzz;
mod oversize;
mod poller;
mod precedence;
mod probes;
mod run;
pub mod sampling;
mod share;
mod snooping;
pub mod thread;
mod tunnel;
mod tunnel_header;
pub mod vteps;
mod walk;

use std::{
    io,
    net::IpAddr,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use arrayvec::ArrayVec;
use crossbeam_channel::Sender;
use weft_vxlan::HeaderFormat;

use self::{
    counters::Counters,
    egress::Egress,
    oversize::Answers,
    probes::ProbeAnswers,
    sampling::Sampling,
    vteps::VtepCache,
    walk::{Walk, Way},
};
use crate::{
    bridge::{PortOptions, Tables},
    buffer::MAX_FRAME_LEN,
    fdb::{Fdb, FdbCache, Stamp},
    ids::{BridgeId, Endpoint, PortId},
    offload::{Coalescer, coalesce},
    port::{Offloads, Port, PortError, PortQueue, RxBatch},
    underlay::{GsoReport, Underlay, UnderlayBatch, UnderlayEnd, udp},
    wire::MacAddr,
};

pub use probes::{ProbeNews, UsedVteps};
pub use snooping::{MAX_SNOOPED_LEN, Snooped};
pub use tunnel_header::TunnelHeader;
pub use vteps::SharedVteps;

/// Something that a worker found out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// An address is new.
    Learned {
        /// Its bridge.
        bridge: BridgeId,
        /// The address.
        mac: MacAddr,
        /// Where it is.
        at: Endpoint,
    },
    /// An address was seen elsewhere than before.
    Moved {
        /// Its bridge.
        bridge: BridgeId,
        /// The address.
        mac: MacAddr,
        /// Where it was.
        from: Endpoint,
        /// Where it is.
        to: Endpoint,
    },
    /// A frame was for a unicast address that no VTEP is known for, in a bridge without flood list.
    L2Miss {
        /// Its bridge.
        bridge: BridgeId,
        /// The address.
        mac: MacAddr,
    },
    /// `proxy` or `rsc` did not find the neighbour with an IP address.
    L3Miss {
        /// Its bridge.
        bridge: BridgeId,
        /// The address.
        ip: IpAddr,
    },
    /// A port can't be read and is no longer polled by this worker until it is told to ([`thread::Command::Rearm`]).
    PortFailed {
        /// The port.
        port: PortId,
        /// Whether its interface is gone for good.
        gone: bool,
        /// What the kernel said.
        message: String,
    },
}

/// The way up for facts.
#[derive(Clone)]
pub struct Facts {
    sender: Sender<Fact>,
    /// Where frames about groups go.
    snooped: Option<SnoopedTo>,
    /// Where news of probes go.
    probes: Option<Sender<ProbeNews>>,
    lost: u64,
}

impl Facts {
    /// Facts go to `sender`.
    pub fn new(sender: Sender<Fact>) -> Self {
        Self { sender, snooped: None, probes: None, lost: 0 }
    }

    /// Frames about multicast groups go there.
    #[must_use]
    pub fn with_snooped(self, to: SnoopedTo) -> Self {
        Self { snooped: Some(to), ..self }
    }

    /// News of probes go to `sender`.
    #[must_use]
    pub fn with_probes(self, sender: Sender<ProbeNews>) -> Self {
        Self { probes: Some(sender), ..self }
    }

    fn probe_news(&mut self, news: ProbeNews) {
        let Some(sender) = &self.probes else { return };
        self.lost += u64::from(sender.try_send(news).is_err());
    }

    fn tell(&mut self, fact: Fact) {
        self.lost += u64::from(self.sender.try_send(fact).is_err());
    }

    /// As [`Facts::tell`], for what any sender can cause with every frame: half of the room is kept for better news.
    fn mention(&mut self, fact: Fact) {
        match self.sender.capacity() {
            Some(capacity) if self.sender.len() >= capacity.div_ceil(2) => self.lost += 1,
            Some(_) | None => self.tell(fact),
        }
    }

    fn snooped(&mut self, bridge: BridgeId, from: Endpoint, checksum_is_pending: bool, frame: &[u8]) {
        let Some(SnoopedTo { sender, sent }) = &self.snooped else { return };
        let is_heard = ArrayVec::try_from(frame)
            .is_ok_and(|bytes| sender.try_send(Snooped { bridge, from, checksum_is_pending, bytes }).is_ok());
        self.lost += u64::from(!is_heard);
        sent.fetch_add(u64::from(is_heard), Ordering::Release);
    }
}

/// The way up for frames about multicast groups.
#[derive(Clone)]
pub struct SnoopedTo {
    /// Where they go.
    pub sender: Sender<Snooped>,
    /// How many went there, from all workers together: whoever hears them knows whether some are still on their way.
    pub sent: Arc<AtomicU64>,
}

/// What all workers of a switch share.
#[derive(Clone)]
pub struct Shared {
    /// The tables' current snapshot.
    pub tables: Arc<ArcSwap<Tables>>,
    /// The forwarding database.
    pub fdb: Arc<Fdb>,
    /// The numbers of VTEPs.
    pub vteps: SharedVteps,
    /// Which of them are sent frames.
    pub used: Arc<UsedVteps>,
    /// Makes the source ports of this switch's tunnels unpredictable.
    pub flow_seed: u64,
}

impl Shared {
    /// An empty switch.
    pub fn new(flow_seed: u64) -> Self {
        Self {
            tables: Arc::default(),
            fdb: Arc::default(),
            vteps: SharedVteps::default(),
            used: Arc::default(),
            flow_seed,
        }
    }
}

/// One worker's state.
pub struct Worker {
    shared: Shared,
    facts: Facts,
    vteps: VtepCache,
    cache: FdbCache,
    /// By [`PortId`].
    ports: Vec<Option<Slot>>,
    underlay: Option<Underlay>,
    counters: Counters,
    probe_answers: ProbeAnswers,
    /// Frames of this turn so far that were not simply handed on; see [`Turned`].
    unusual: u32,
    received: RxBatch,
    arrived: UnderlayBatch,
    touched: Vec<PortId>,
    room: coalesce::Room,
    scratch: Box<[u8]>,
    answers: Answers,
    /// `None` while nobody wants to see frames.
    sampling: Option<Box<Sampling>>,
}

/// What a turn of a port came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Turned {
    /// Frames that were read.
    frames: usize,
    /// Those that the switch did something else with than handing them on to a known station: copied them to everybody, learned
    /// from them, dropped them. One of which several are true counts as several.
    unusual: u32,
}

impl Turned {
    /// Whether this is no traffic between stations that know each other.
    fn is_flood(self) -> bool {
        self.unusual as usize > self.frames / 2
    }
}

/// A port's queue, and what is between two flushes of it.
struct Slot {
    queue: PortQueue,
    /// Whether frames are put together for it.
    takes_super_frames: bool,
    /// The bridge whose frames it was given since it was last flushed.
    sent_for: Option<BridgeId>,
    /// How many wire frames and bytes those were.
    sent: (u64, u64),
}

/// A copy of what a worker counted, made between two batches.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its share of the ledger.
    pub counters: Counters,
    /// What the kernel dropped before the worker could read it, by [`PortId`].
    pub kernel_drops: Vec<u64>,
    /// The same for the underlay's sockets.
    pub underlay_kernel_drops: u64,
    /// How its end of the underlay fares with UDP_SEGMENT.
    pub gso: GsoReport,
    /// Facts that nobody had room for.
    pub facts_lost: u64,
}

impl Worker {
    /// A worker without ports.
    pub fn new(shared: Shared, facts: Facts) -> Self {
        Self {
            vteps: VtepCache::new(shared.vteps.clone()),
            shared,
            facts,
            cache: FdbCache::default(),
            ports: Vec::new(),
            underlay: None,
            counters: Counters::default(),
            probe_answers: ProbeAnswers::default(),
            unusual: 0,
            received: RxBatch::new(),
            arrived: UnderlayBatch::new(),
            touched: Vec::with_capacity(64),
            room: coalesce::Room::new(),
            scratch: vec![0; MAX_FRAME_LEN].into_boxed_slice(),
            answers: Answers::default(),
            sampling: None,
        }
    }

    /// Gives the worker its queue of a port.
    pub fn add_port(&mut self, id: PortId, queue: PortQueue) {
        if self.ports.len() <= id.index() {
            self.ports.resize_with(id.index() + 1, || None);
        }
        let Offloads { csum, tso4, tso6, uso } = queue.offloads();
        let takes_super_frames = csum && (tso4 || tso6 || uso);
        self.ports[id.index()] = Some(Slot { queue, takes_super_frames, sent_for: None, sent: (0, 0) });
    }

    /// Takes the queue away again; the counts stay in the ledger.
    pub fn remove_port(&mut self, id: PortId) -> Option<PortQueue> {
        let slot = self.ports.get_mut(id.index())?.take();
        self.counters.retire_port(id);
        slot.map(|slot| slot.queue)
    }

    /// Moves the counts of a bridge that is gone, so that its id can be another's.
    pub fn retire_bridge(&mut self, id: BridgeId) {
        self.counters.retire_bridge(id);
    }

    /// Gives the worker its end of the underlay, or takes it away.
    pub fn set_underlay(&mut self, underlay: Option<Underlay>) -> Option<Underlay> {
        std::mem::replace(&mut self.underlay, underlay)
    }

    /// Listens for the receiver's format as well.
    pub fn add_receiver(&mut self, receiver: udp::Receiver) {
        if let Some(Underlay::Udp(underlay)) = &mut self.underlay {
            underlay.add_receiver(receiver);
        }
    }

    /// Listens for a format no more.
    pub fn remove_receiver(&mut self, format: HeaderFormat) {
        if let Some(Underlay::Udp(underlay)) = &mut self.underlay {
            underlay.remove_receiver(format);
        }
    }

    /// The worker's queue of a port.
    pub fn port(&self, id: PortId) -> Option<&PortQueue> {
        self.ports.get(id.index())?.as_ref().map(|slot| &slot.queue)
    }

    /// The worker's end of the underlay.
    pub fn underlay(&self) -> Option<&Underlay> {
        self.underlay.as_ref()
    }

    /// Carries one batch of a port's frames to their fates. Returns how many were read: less than
    /// [`RxBatch::CAPACITY`] means that nothing waits any more.
    ///
    /// # Errors
    /// What [`Port::recv`] says.
    pub fn turn_port(&mut self, id: PortId, now: Stamp) -> Result<usize, PortError> {
        self.turn_port_for(id, RxBatch::CAPACITY, now).map(|turned| turned.frames)
    }

    /// The same for a batch of `limit` frames at most.
    fn turn_port_for(&mut self, id: PortId, limit: usize, now: Stamp) -> Result<Turned, PortError> {
        let Some(Some(slot)) = self.ports.get_mut(id.index()) else { return Ok(Turned::default()) };
        self.received.clear_for(limit);
        self.unusual = 0;
        let count = slot.queue.recv(&mut self.received)?;
        if count > 0 {
            let tables = self.shared.tables.load();
            match self.sampling {
                None => self.carry_frames(&tables, id, 0..count, now),
                Some(_) => self.carry_sampled_frames(&tables, id, count, now),
            }
        }
        Ok(Turned { frames: count, unusual: self.unusual })
    }

    /// How much of the worker's time floods from a port may take, in percent.
    fn flood_share(&self, id: PortId) -> u8 {
        let usual = PortOptions::default().flood_share;
        self.shared.tables.load().port(id).map_or(usual, |port| port.options.flood_share)
    }

    /// Carries some of the frames that were received, and sends what has to be sent.
    fn carry_frames(&mut self, tables: &Tables, id: PortId, range: Range<usize>, now: Stamp) {
        if range.is_empty() {
            return;
        }
        let (mut walk, received, _) = self.walk(tables, now, range.len() > 1);
        walk.take_frames(id, received.range_mut(range));
        walk.egress.flush();
    }

    /// Carries one batch of datagrams of one format to their fates. Returns how many buffers were filled: less than
    /// [`UnderlayBatch::CAPACITY`] means that nothing waits any more.
    ///
    /// # Errors
    /// What [`UnderlayEnd::recv`] says.
    pub fn turn_underlay(&mut self, format: HeaderFormat, now: Stamp) -> io::Result<usize> {
        let Some(underlay) = &mut self.underlay else { return Ok(0) };
        let count = underlay.recv(format, &mut self.arrived)?;
        if count > 0 {
            let tables = self.shared.tables.load();
            match self.sampling {
                None => self.carry_datagrams(&tables, now),
                Some(_) => self.carry_sampled_datagrams(&tables, now),
            }
        }
        Ok(count)
    }

    /// Carries all datagrams that arrived, and sends what has to be sent.
    fn carry_datagrams(&mut self, tables: &Tables, now: Stamp) {
        let are_several = self.arrived.len() > 1 || self.arrived.holds_a_run();
        let (mut walk, _, arrived) = self.walk(tables, now, are_several);
        for (arrival, bytes) in arrived.iter_mut() {
            walk.take_datagrams(arrival, bytes);
        }
        walk.egress.flush();
    }

    /// A copy of what the worker counted so far.
    pub fn report(&self) -> Report {
        Report {
            counters: self.counters.clone(),
            kernel_drops: self
                .ports
                .iter()
                .map(|slot| slot.as_ref().map_or(0, |slot| slot.queue.kernel_drops()))
                .collect(),
            underlay_kernel_drops: self.underlay.as_ref().map_or(0, UnderlayEnd::kernel_drops),
            gso: self.underlay.as_ref().map(UnderlayEnd::gso).unwrap_or_default(),
            facts_lost: self.facts.lost,
        }
    }

    /// What is needed for a batch, of one frame or of several.
    fn walk<'w>(
        &'w mut self,
        tables: &'w Tables,
        now: Stamp,
        are_several: bool,
    ) -> (Walk<'w>, &'w mut RxBatch, &'w mut UnderlayBatch) {
        let egress = Egress {
            tables,
            counters: &mut self.counters,
            ports: &mut self.ports,
            exit: None,
            touched: &mut self.touched,
            coalescer: are_several.then(|| Coalescer::new(&mut self.room)),
            underlay: self.underlay.as_mut(),
            vteps: &mut self.vteps,
            used: &self.shared.used,
            flow_seed: self.shared.flow_seed,
            scratch: &mut self.scratch,
            now,
            probes: false,
            answers: &mut self.answers,
            told: None,
        };
        let Self { cache, facts, probe_answers, unusual, .. } = self;
        let fdb = &self.shared.fdb;
        let (last_tunnel, last_way) = (None, Way::NONE);
        let walk = Walk { tables, fdb, cache, now, last_tunnel, last_way, facts, probe_answers, unusual, egress };
        (walk, &mut self.received, &mut self.arrived)
    }
}

#[cfg(test)]
mod tests;
