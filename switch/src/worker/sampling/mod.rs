//! Some of the frames that pass, taken aside to be explained (`weft explain --live`).
//!
//! # Theory of operation
//!
//! Somebody who wants to see frames makes a [`Sampler`] and gives it to every worker. A worker without one asks once a
//! batch whether it has one, and that is all that it costs. A worker with one looks at each frame of the batch before any of
//! it is walked. Where none fits, which is seen by comparing its addresses, the batch is walked as always. Where one fits
//! and may be taken, the batch is walked in three parts:
//!
//! ```text
//! | frames before | the frame | frames behind |
//!           flush ^     flush ^         flush ^
//! ```
//!
//! so that frames leave in their order, and what is counted between the two flushes is counted for that frame alone: the
//! [`Witness`] beside the counters notes what really became of it. The frame's beginning goes up a bounded channel with it.
//! Whoever explains the frame later can compare, and say so where they differ.
//!
//! # What it costs
//!
//! A sample is a copy of [`MAX_SAMPLE_LEN`] bytes at most and two flushes more, each perhaps a system call: about five
//! microseconds. [`MAX_RATE`] of them a second are 0.1 % of a worker's time. They are counted out between all workers
//! (`Limiter`); a frame that comes too soon is not taken, but counted. So is one for which the channel has no room.

mod filter;
mod limiter;
mod witness;

use std::{
    net::IpAddr,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arrayvec::ArrayVec;
use crossbeam_channel::{Receiver, Sender, bounded};
use weft_vxlan::HeaderFormat;

use self::{filter::Matcher, limiter::Limiter};
pub use self::{
    filter::{EntersBy, Filter, Ips},
    witness::{Copies, Witness},
};
use super::{MAX_SNOOPED_LEN, Worker, tunnel_header::TunnelHeader};
use crate::{
    bridge::Tables,
    fdb::Stamp,
    ids::PortId,
    offload::VnetHeader,
    port::RxBatch,
    underlay::{Mark, UnderlayBatch},
};

/// Bytes of a frame that are taken at most. Of what is longer a walk reads the headers only: what it reads whole are messages
/// about groups, and those may have as many.
pub const MAX_SAMPLE_LEN: usize = MAX_SNOOPED_LEN;
/// Samples a second that one sampler takes at most, of all workers.
pub const MAX_RATE: u32 = 200;
/// Samples that may be taken at once: an exchange is seen whole, with its ARP.
pub const BURST: u32 = 20;
/// Samples that may wait to be explained. Whoever explains may be kept waiting by a reload for a second, at the full rate.
const WAITING_LEN: usize = 256;
const _: () = assert!(WAITING_LEN >= (MAX_RATE + BURST) as usize);

/// A frame that passed, and what became of it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When.
    pub at: Stamp,
    /// How it came in.
    pub came: Came,
    /// How long it was: the frame, or the whole UDP payload.
    pub len: usize,
    /// Its first bytes.
    pub bytes: ArrayVec<u8, MAX_SAMPLE_LEN>,
    /// What it was decided by.
    pub tables: Arc<Tables>,
    /// What became of it.
    pub witness: Witness,
}

/// How a sampled frame came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Came {
    /// By a port.
    Port {
        /// Which.
        port: PortId,
        /// What its sender left undone; `None` if the header made no sense.
        vnet: Option<VnetHeader>,
    },
    /// Over the underlay.
    Datagram {
        /// What the port that it came to says that it is.
        format: HeaderFormat,
        /// The outer source address.
        source: IpAddr,
        /// The outer TOS or traffic class.
        tos: u8,
    },
}

/// How a sampler chooses among the frames that fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// Of each worker's frames that fit, one in so many; at least 1.
    pub every: u64,
    /// Samples a second at most, 1 to [`MAX_RATE`].
    pub rate: u32,
}

/// Who wants to see some frames. Shared by all workers and whoever explains.
pub struct Sampler {
    matcher: Matcher,
    every: u64,
    limiter: Limiter,
    samples: Sender<Sample>,
    counts: Counts,
    is_over: AtomicBool,
}

/// How many frames fitted, and why they were not taken.
#[derive(Default)]
struct Counts {
    matched: AtomicU64,
    passed_over: AtomicU64,
    too_soon: AtomicU64,
    no_room: AtomicU64,
}

/// A copy of what a sampler counted. Frames are counted as they are read: a super-frame is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sampled {
    /// Frames that fitted.
    pub matched: u64,
    /// Those of them that were passed over, one in so many being wanted.
    pub passed_over: u64,
    /// Those that came when the rate was used up.
    pub too_soon: u64,
    /// Those that were taken and found no room on the way up, or were lost there.
    pub no_room: u64,
}

impl Sampler {
    /// A sampler, and where its samples come.
    pub fn new(filter: Filter, choice: Choice) -> (Arc<Self>, Receiver<Sample>) {
        let (samples, receiver) = bounded(WAITING_LEN);
        let sampler = Self {
            matcher: Matcher::new(filter),
            every: choice.every.max(1),
            limiter: Limiter::new(choice.rate.clamp(1, MAX_RATE), BURST),
            samples,
            counts: Counts::default(),
            is_over: AtomicBool::new(false),
        };
        (Arc::new(sampler), receiver)
    }

    /// What is looked for.
    pub fn filter(&self) -> &Filter {
        self.matcher.filter()
    }

    /// Nothing more is wanted.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether nothing more is wanted.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// So many samples were thrown away on their way.
    pub fn lose(&self, samples: u64) {
        self.counts.no_room.fetch_add(samples, Ordering::Relaxed);
    }

    /// What was counted so far; a worker adds to it at the end of a batch.
    pub fn sampled(&self) -> Sampled {
        let Counts { matched, passed_over, too_soon, no_room } = &self.counts;
        let [matched, passed_over, too_soon, no_room] =
            [matched, passed_over, too_soon, no_room].map(|count| count.load(Ordering::Relaxed));
        Sampled { matched, passed_over, too_soon, no_room }
    }
}

/// A worker's side of its samplers.
pub(super) struct Sampling {
    seats: Vec<Seat>,
    /// What is taken of the frame that is walked next.
    bytes: ArrayVec<u8, MAX_SAMPLE_LEN>,
    /// Stands beside the counters while a sampled frame is walked, and waits here for the next one.
    witness: Option<Box<Witness>>,
}

/// A sampler, and what one worker keeps for it.
struct Seat {
    sampler: Arc<Sampler>,
    /// Whether it looks at what comes in where the batch does.
    looks: bool,
    /// Whether it wants the frame that is walked next.
    wants: bool,
    /// Frames that fitted, ever.
    fitted: u64,
    /// Not yet added to the sampler's.
    sampled: Sampled,
}

impl Seat {
    /// Counts a frame that fits, and says whether it is taken.
    #[cold]
    fn takes(&mut self, now: Stamp) -> bool {
        self.sampled.matched += 1;
        self.fitted += 1;
        if !(self.fitted - 1).is_multiple_of(self.sampler.every) {
            self.sampled.passed_over += 1;
            return false;
        }
        let in_time = self.sampler.limiter.takes(now);
        self.sampled.too_soon += u64::from(!in_time);
        in_time
    }

    fn tell(&mut self, sample: Sample) {
        self.sampled.no_room += u64::from(self.sampler.samples.try_send(sample).is_err());
    }

    /// Adds what was counted in a batch, if anything was.
    fn add_up(&mut self) {
        if self.sampled == Sampled::default() {
            return;
        }
        let Sampled { matched, passed_over, too_soon, no_room } = std::mem::take(&mut self.sampled);
        let counts = &self.sampler.counts;
        counts.matched.fetch_add(matched, Ordering::Relaxed);
        counts.passed_over.fetch_add(passed_over, Ordering::Relaxed);
        counts.too_soon.fetch_add(too_soon, Ordering::Relaxed);
        counts.no_room.fetch_add(no_room, Ordering::Relaxed);
    }
}

impl Sampling {
    /// For these samplers; `None` if none of them wants anything.
    pub(super) fn of(samplers: Vec<Arc<Sampler>>) -> Option<Box<Self>> {
        let seat = |sampler| Seat { sampler, looks: false, wants: false, fitted: 0, sampled: Sampled::default() };
        let wanted = samplers.into_iter().filter(|sampler| !sampler.is_over());
        let seats: Vec<_> = wanted.map(seat).collect();
        let is_wanted = !seats.is_empty();
        is_wanted.then(|| Box::new(Self { seats, bytes: ArrayVec::new(), witness: None }))
    }

    /// Whether nobody looks at what comes in there.
    fn looks_away(&mut self, looks: impl Fn(&Matcher) -> bool) -> bool {
        for seat in &mut self.seats {
            seat.looks = looks(&seat.sampler.matcher);
        }
        self.seats.iter().all(|seat| !seat.looks)
    }

    /// Whether somebody takes this frame, which is then kept until it is told of.
    #[inline]
    fn takes(&mut self, now: Stamp, bytes: &[u8], fits: impl Fn(&Matcher) -> bool) -> bool {
        let mut is_taken = false;
        for seat in &mut self.seats {
            seat.wants = seat.looks && fits(&seat.sampler.matcher) && seat.takes(now);
            is_taken |= seat.wants;
        }
        if is_taken {
            self.bytes.clear();
            // As much as there is room for.
            _ = self.bytes.try_extend_from_slice(&bytes[..bytes.len().min(MAX_SAMPLE_LEN)]);
        }
        is_taken
    }

    fn tell(&mut self, sample: &Sample) {
        for seat in self.seats.iter_mut().filter(|seat| seat.wants) {
            seat.tell(sample.clone());
        }
    }
}

impl Worker {
    /// Samples for these from now on, and for nobody else.
    pub fn sample(&mut self, samplers: Vec<Arc<Sampler>>) {
        self.sampling = Sampling::of(samplers);
    }

    /// Carries a batch of a port's frames, some of which may be taken aside.
    #[inline(never)]
    pub(super) fn carry_sampled_frames(&mut self, tables: &Arc<Tables>, id: PortId, count: usize, now: Stamp) {
        self.with_sampling(|worker, sampling| {
            let mut from = 0;
            if !sampling.looks_away(|matcher| matcher.looks_at_port(id)) {
                while let Some((index, came, len)) = next_frame(sampling, &worker.received, id, from..count, now) {
                    worker.carry_frames(tables, id, from..index, now);
                    let carry = |worker: &mut Self| worker.carry_frames(tables, id, index..index + 1, now);
                    worker.carry_witnessed(sampling, tables, now, came, len, carry);
                    from = index + 1;
                }
            }
            worker.carry_frames(tables, id, from..count, now);
        });
    }

    /// The same for datagrams.
    #[inline(never)]
    pub(super) fn carry_sampled_datagrams(&mut self, tables: &Arc<Tables>, now: Stamp) {
        self.with_sampling(|worker, sampling| {
            let mut from = Mark::START;
            while let Some((mark, behind, came, len)) = next_datagram(sampling, &worker.arrived, from, now) {
                worker.carry_datagrams_between(tables, from..mark, now);
                let carry = |worker: &mut Self| worker.carry_datagrams_between(tables, mark..behind, now);
                worker.carry_witnessed(sampling, tables, now, came, len, carry);
                from = behind;
            }
            match from {
                Mark::START => worker.carry_datagrams(tables, now),
                from => worker.carry_datagrams_between(tables, from..worker.arrived.end(), now),
            }
        });
    }

    fn carry_datagrams_between(&mut self, tables: &Tables, range: Range<Mark>, now: Stamp) {
        if range.start == range.end {
            return;
        }
        let (mut walk, _, arrived) = self.walk(tables, now, true);
        for (arrival, bytes) in arrived.between_mut(range) {
            walk.take_datagrams(arrival, bytes);
        }
        walk.egress.flush();
    }

    fn with_sampling(&mut self, carry: impl FnOnce(&mut Self, &mut Sampling)) {
        let Some(mut sampling) = self.sampling.take() else { return };
        sampling.seats.retain(|seat| !seat.sampler.is_over());
        carry(self, &mut sampling);
        sampling.seats.iter_mut().for_each(Seat::add_up);
        self.sampling = (!sampling.seats.is_empty()).then_some(sampling);
    }

    /// Carries the frame that was taken, and tells what became of it.
    fn carry_witnessed(
        &mut self,
        sampling: &mut Sampling,
        tables: &Arc<Tables>,
        now: Stamp,
        came: Came,
        len: usize,
        carry: impl FnOnce(&mut Self),
    ) {
        let mut witness = sampling.witness.take().unwrap_or_default();
        *witness = Witness::default();
        self.counters.witness = Some(witness);
        carry(self);
        let Some(witness) = self.counters.witness.take() else { return };
        let (bytes, tables) = (sampling.bytes.clone(), tables.clone());
        sampling.tell(&Sample { at: now, came, len, bytes, tables, witness: (*witness).clone() });
        sampling.witness = Some(witness);
    }
}

/// The next frame of these that is taken.
fn next_frame(
    sampling: &mut Sampling,
    batch: &RxBatch,
    port: PortId,
    range: Range<usize>,
    now: Stamp,
) -> Option<(usize, Came, usize)> {
    let from = range.start;
    let (index, (bytes, vnet)) = (from..)
        .zip(batch.range(range))
        .find(|(_, (bytes, _))| sampling.takes(now, bytes, |matcher| matcher.fits(bytes)))?;
    Some((index, Came::Port { port, vnet: *vnet }, bytes.len()))
}

/// The next datagram from there on that is taken: where it begins, and where the next one does.
fn next_datagram(
    sampling: &mut Sampling,
    batch: &UnderlayBatch,
    from: Mark,
    now: Stamp,
) -> Option<(Mark, Mark, Came, usize)> {
    let mut looked_at = None;
    for (mark, behind, arrival, payload) in batch.datagrams(from) {
        if looked_at != Some(arrival.source) {
            sampling.looks_away(|matcher| matcher.looks_at_vtep(arrival.source));
            looked_at = Some(arrival.source);
        }
        let format = arrival.format;
        let vni = || TunnelHeader::read(format, payload).ok().map(TunnelHeader::vni);
        let inner = TunnelHeader::inner(format, payload).unwrap_or_default();
        if sampling.takes(now, payload, |matcher| matcher.fits_vni(vni) && matcher.fits(inner)) {
            let came = Came::Datagram { format, source: arrival.source, tos: arrival.tos };
            return Some((mark, behind, came, payload.len()));
        }
    }
    None
}

#[cfg(test)]
mod tests;
