//! A port with faults: what a bad cable, a bad switch or a bad moment does, on purpose and repeatably.
//!
//! [`FaultPort`] wraps any other port and loses, doubles, delays and corrupts frames, in either direction, each by its own
//! probability, all drawn from one seed. It counts what it did, so that a test can still balance its ledger to the frame:
//!
//! ```text
//! offered + duplicated = passed + lost + refused + held
//! ```
//!
//! Each frame meets the faults in this order: lost, or else corrupted, then doubled, then held back until the next frame of
//! its direction has passed (the doubled one stays in front of it). One frame at most is held in each direction; a receiving
//! port that finds nothing else hands it over at last, a sending one keeps it until the next frame is sent.
//!
//! For tests: it copies and allocates.

use std::{
    collections::VecDeque,
    os::fd::BorrowedFd,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Flushed, Offloads, Port, PortError, PortQueue, RxBatch, TxFrame, losses::LinkLosses};
use crate::{bridge::DropReason, offload::VnetHeader, wire::TagBytes};

/// How likely each fault is for each frame: 0 never, 1 always.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Faults {
    /// The frame vanishes.
    pub loss: f64,
    /// The frame comes twice.
    pub duplicate: f64,
    /// The frame comes after its successor.
    pub reorder: f64,
    /// One bit of the frame, any bit, is flipped. In a frame whose checksum is still partial, no receiver can see it.
    pub corrupt: f64,
}

/// What happened to the frames of one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FaultCounts {
    /// Frames that came to the port.
    pub offered: u64,
    /// Frames that left it, doubled ones twice.
    pub passed: u64,
    /// Frames that were lost on purpose.
    pub lost: u64,
    /// Frames that were doubled.
    pub duplicated: u64,
    /// Frames that were held back, whether their successor has come yet or not.
    pub reordered: u64,
    /// Frames that had a bit flipped.
    pub corrupted: u64,
    /// Frames that the wrapped port refused (sending only).
    pub refused: u64,
    /// Frames that are being held back at the moment: 0 or 1.
    pub held: u64,
}

/// The counts of a [`FaultPort`], to be read from outside while a worker owns the port.
#[derive(Clone, Debug)]
pub struct FaultCounters(Arc<Mutex<(FaultCounts, FaultCounts)>>);

impl FaultCounters {
    /// What happened to received frames.
    pub fn receive(&self) -> FaultCounts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// What happened to sent frames.
    pub fn send(&self) -> FaultCounts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn change(&self, change: impl FnOnce(&mut FaultCounts, &mut FaultCounts)) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (receive, send) = &mut *counts;
        change(receive, send);
    }
}

/// Another port behind faults.
pub struct FaultPort {
    inner: PortQueue,
    rng: fastrand::Rng,
    receive: Faults,
    send: Faults,
    /// What the wrapped port delivers, before the faults.
    arrivals: RxBatch,
    /// Received frames behind the faults, until a batch has room for them.
    ready: VecDeque<Received>,
    held_received: Option<Received>,
    held_sent: Option<Sent>,
    /// What became of a held frame whose sending failed when nobody waited for its result any more.
    late_losses: Flushed,
    counts: FaultCounters,
}

type Received = (Vec<u8>, Option<VnetHeader>);

struct Sent {
    bytes: Vec<u8>,
    tag: Option<TagBytes>,
    vnet: VnetHeader,
}

impl Sent {
    fn as_frame(&self) -> TxFrame<'_> {
        TxFrame { bytes: &self.bytes, tag: self.tag, vnet: self.vnet }
    }
}

impl FaultPort {
    /// Wraps `inner`. Equal seeds and equal frames have equal faults.
    pub fn new(inner: PortQueue, seed: u64, receive: Faults, send: Faults) -> (Self, FaultCounters) {
        let counts = FaultCounters(Arc::default());
        let port = Self {
            inner,
            rng: fastrand::Rng::with_seed(seed),
            receive,
            send,
            arrivals: RxBatch::new(),
            ready: VecDeque::new(),
            held_received: None,
            held_sent: None,
            late_losses: Flushed::default(),
            counts: counts.clone(),
        };
        (port, counts)
    }

    /// What happened so far.
    pub fn counters(&self) -> &FaultCounters {
        &self.counts
    }

    fn send_through(&mut self, frame: &TxFrame<'_>) -> Result<(), DropReason> {
        let result = self.inner.send(frame);
        self.counts.change(|_, send| match result {
            Ok(()) => send.passed += 1,
            Err(_) => send.refused += 1,
        });
        result
    }

    /// Sends a frame that its sender believes sent.
    fn send_late(&mut self, frame: &Sent) {
        if let Err(reason) = self.send_through(&frame.as_frame()) {
            self.late_losses.add(reason, 1, frame.as_frame().wire_len() as u64);
        }
    }
}

/// Draws the faults of one frame and applies those that concern its bytes.
fn draw(rng: &mut fastrand::Rng, faults: Faults, bytes: &mut [u8]) -> Fate {
    // All are drawn for every frame, so that changing one probability leaves the other faults where they were.
    let [lost, duplicated, reordered, corrupted] =
        [faults.loss, faults.duplicate, faults.reorder, faults.corrupt].map(|probability| rng.f64() < probability);
    let bit = rng.usize(..(bytes.len() * 8).max(1));
    let corrupted = corrupted && !lost && !bytes.is_empty();
    if corrupted {
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    Fate { lost, duplicated: duplicated && !lost, reordered: reordered && !lost, corrupted }
}

struct Fate {
    lost: bool,
    duplicated: bool,
    reordered: bool,
    corrupted: bool,
}

impl Fate {
    fn count(&self, counts: &mut FaultCounts) {
        counts.offered += 1;
        counts.lost += u64::from(self.lost);
        counts.duplicated += u64::from(self.duplicated);
        counts.reordered += u64::from(self.reordered);
        counts.corrupted += u64::from(self.corrupted);
    }
}

impl Port for FaultPort {
    fn recv(&mut self, batch: &mut RxBatch) -> Result<usize, PortError> {
        let before = batch.len();
        if self.ready.is_empty() {
            self.arrivals.clear();
            // Whatever the port still has comes before its error, which it will repeat.
            let arrived = self.inner.recv(&mut self.arrivals);
            if arrived.is_err() && self.held_received.is_none() {
                return arrived;
            }
            for (bytes, vnet) in self.arrivals.iter_mut() {
                let fate = draw(&mut self.rng, self.receive, bytes);
                self.counts.change(|receive, _| fate.count(receive));
                if fate.lost {
                    continue;
                }
                let frame = (bytes.to_vec(), *vnet);
                if fate.duplicated {
                    self.ready.push_back(frame.clone());
                }
                if fate.reordered {
                    // A second frame to be held changes places with the first.
                    self.ready.extend(self.held_received.replace(frame));
                } else {
                    self.ready.push_back(frame);
                    self.ready.extend(self.held_received.take());
                }
            }
            if self.arrivals.is_empty() {
                self.ready.extend(self.held_received.take());
            }
        }
        while let Some(buffer) = batch.next_buffer() {
            let Some((bytes, vnet)) = self.ready.pop_front() else { break };
            buffer.space()[..bytes.len()].copy_from_slice(&bytes);
            buffer.set_frame(0, bytes.len());
            batch.push(vnet);
        }
        let passed = batch.len() - before;
        let held = u64::from(self.held_received.is_some()) + self.ready.len() as u64;
        self.counts.change(|receive, _| {
            receive.passed += passed as u64;
            receive.held = held;
        });
        Ok(passed)
    }

    fn send(&mut self, frame: &TxFrame<'_>) -> Result<(), DropReason> {
        let mut sent = Sent { bytes: frame.bytes.to_vec(), tag: frame.tag, vnet: frame.vnet };
        let fate = draw(&mut self.rng, self.send, &mut sent.bytes);
        self.counts.change(|_, send| fate.count(send));
        if fate.lost {
            return Ok(());
        }
        if fate.duplicated {
            // The sender knows of one frame only: what becomes of the other is counted here alone.
            let _ = self.send_through(&sent.as_frame());
        }
        let result = if fate.reordered {
            // A second frame to be held changes places with the first.
            if let Some(earlier) = self.held_sent.replace(sent) {
                self.send_late(&earlier);
            }
            Ok(())
        } else {
            let result = self.send_through(&sent.as_frame());
            if let Some(earlier) = self.held_sent.take() {
                self.send_late(&earlier);
            }
            result
        };
        let held = u64::from(self.held_sent.is_some());
        self.counts.change(|_, send| send.held = held);
        result
    }

    /// What the wrapped port lost in flushing, and held frames that could not be sent when their turn came.
    fn flush(&mut self) -> Flushed {
        let mut lost = std::mem::take(&mut self.late_losses);
        if let Some((reason, frames, bytes)) = self.inner.flush().lost {
            lost.add(reason, frames, bytes);
        }
        lost
    }

    fn offloads(&self) -> Offloads {
        self.inner.offloads()
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.poll_fd()
    }

    fn kernel_drops(&self) -> u64 {
        self.inner.kernel_drops()
    }

    fn take_link_losses(&mut self) -> Option<LinkLosses> {
        self.inner.take_link_losses()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::port::memory::{MemoryHost, MemoryPort};

    #[test]
    fn without_faults_nothing_changes() {
        let (mut port, mut host, counters) = port(1, Faults::default(), Faults::default());
        for n in 0..20 {
            host.send(&frame(n), VnetHeader::NONE).unwrap();
            port.send(&TxFrame::plain(&frame(n))).unwrap();
        }
        let expected: Vec<_> = (0..20).map(frame).collect();
        assert_eq!(drain(&mut port), expected);
        assert_eq!(drain_host(&mut host), expected);
        let plain = FaultCounts { offered: 20, passed: 20, ..FaultCounts::default() };
        assert_eq!((counters.receive(), counters.send()), (plain, plain));
    }

    #[test]
    fn certain_loss_loses_everything_and_reports_success() {
        let always = Faults { loss: 1.0, duplicate: 1.0, reorder: 1.0, corrupt: 1.0 };
        let (mut port, mut host, counters) = port(1, always, always);
        for n in 0..5 {
            host.send(&frame(n), VnetHeader::NONE).unwrap();
            assert_eq!(port.send(&TxFrame::plain(&frame(n))), Ok(()));
        }
        assert!(drain(&mut port).is_empty());
        assert!(drain_host(&mut host).is_empty());
        let lost = FaultCounts { offered: 5, lost: 5, ..FaultCounts::default() };
        assert_eq!((counters.receive(), counters.send()), (lost, lost));
    }

    #[test]
    fn certain_duplication_doubles_each_frame() {
        let always = Faults { duplicate: 1.0, ..Faults::default() };
        let (mut port, mut host, _) = port(1, always, always);
        for n in 0..3 {
            host.send(&frame(n), VnetHeader::NONE).unwrap();
            port.send(&TxFrame::plain(&frame(n))).unwrap();
        }
        let expected: Vec<_> = [0, 0, 1, 1, 2, 2].map(frame).into();
        assert_eq!(drain(&mut port), expected);
        assert_eq!(drain_host(&mut host), expected);
    }

    #[test]
    fn a_full_batch_keeps_the_doubled_rest_for_the_next() {
        let always = Faults { duplicate: 1.0, ..Faults::default() };
        let (mut port, mut host, counters) = port(1, always, Faults::default());
        for n in 0..32 {
            host.send(&frame(n), VnetHeader::NONE).unwrap();
        }
        let mut batch = RxBatch::new();
        assert_eq!(port.recv(&mut batch).unwrap(), 32);
        assert_eq!(counters.receive().held, 32);
        assert_eq!(drain(&mut port).len(), 32);
        assert_eq!(counters.receive().held, 0);
    }

    #[test]
    fn a_held_frame_comes_after_its_successor_or_when_nothing_follows() {
        let always = Faults { reorder: 1.0, ..Faults::default() };
        let (mut port, mut host, counters) = port(1, always, always);
        for n in 0..2 {
            host.send(&frame(n), VnetHeader::NONE).unwrap();
            port.send(&TxFrame::plain(&frame(n))).unwrap();
        }
        let mut batch = RxBatch::new();
        assert_eq!(port.recv(&mut batch).unwrap(), 1);
        assert_eq!(counters.receive().held, 1);
        assert_eq!(drain(&mut port), [frame(1)]);
        assert_eq!(drain_host(&mut host), [frame(0)]);
        assert_eq!(counters.send().held, 1);
    }

    #[test]
    fn reordering_swaps_neighbours_when_only_the_first_is_held() {
        // Seeds are tried until the first of two frames is held and the second is not.
        let half = Faults { reorder: 0.5, ..Faults::default() };
        let swapped = (0..64).any(|seed| {
            let (mut port, mut host, _) = port(seed, half, Faults::default());
            for n in 0..2 {
                host.send(&frame(n), VnetHeader::NONE).unwrap();
            }
            drain(&mut port) == [frame(1), frame(0)]
        });
        assert!(swapped);
    }

    #[test]
    fn corruption_flips_one_bit_of_one_copy() {
        let always = Faults { corrupt: 1.0, ..Faults::default() };
        let (mut port, mut host, counters) = port(7, always, always);
        let original = frame(9);
        host.send(&original, VnetHeader::NONE).unwrap();
        port.send(&TxFrame::plain(&original)).unwrap();
        for got in drain(&mut port).iter().chain(&drain_host(&mut host)) {
            let flipped: u32 = got.iter().zip(&original).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert_eq!((got.len(), flipped), (original.len(), 1));
        }
        assert_eq!((counters.receive().corrupted, counters.send().corrupted), (1, 1));
    }

    #[test]
    fn a_held_frame_that_is_refused_later_shows_up_in_the_flush() {
        let always = Faults { reorder: 1.0, ..Faults::default() };
        let (mut port, host, counters) = port(1, Faults::default(), always);
        drop(host);
        for n in 0..3 {
            assert_eq!(port.send(&TxFrame::plain(&frame(n))), Ok(()));
        }
        assert_eq!(port.flush(), Flushed { lost: Some((DropReason::PortDown, 2, 120)) });
        assert_eq!(port.flush(), Flushed::default());
        assert_eq!((counters.send().refused, counters.send().held), (2, 1));
    }

    proptest! {
        #[test]
        fn the_counts_balance_and_a_seed_repeats(
            seed: u64,
            rates in [0.0..0.6f64, 0.0..0.6, 0.0..0.6, 0.0..0.6],
            count in 0u8..200,
        ) {
            let faults = Faults { loss: rates[0], duplicate: rates[1], reorder: rates[2], corrupt: rates[3] };
            let run = || {
                let (mut port, mut host, counters) = port(seed, faults, faults);
                for n in 0..count {
                    host.send(&frame(n), VnetHeader::NONE).unwrap();
                    port.send(&TxFrame::plain(&frame(n))).unwrap();
                }
                (drain(&mut port), drain_host(&mut host), counters.receive(), counters.send())
            };
            let (received, sent, receive, send) = run();
            for (frames, counts) in [(&received, receive), (&sent, send)] {
                prop_assert_eq!(counts.offered, u64::from(count));
                prop_assert_eq!(counts.passed, frames.len() as u64);
                prop_assert_eq!(
                    counts.offered + counts.duplicated,
                    counts.passed + counts.lost + counts.refused + counts.held
                );
            }
            prop_assert_eq!((received, sent, receive, send), run());
        }
    }

    fn port(seed: u64, receive: Faults, send: Faults) -> (FaultPort, MemoryHost, FaultCounters) {
        let (inner, host) = MemoryPort::pair(512, Offloads::default());
        let (port, counters) = FaultPort::new(PortQueue::Memory(inner), seed, receive, send);
        (port, host, counters)
    }

    fn frame(n: u8) -> Vec<u8> {
        (0..60).map(|i| n ^ i).collect()
    }

    fn drain(port: &mut FaultPort) -> Vec<Vec<u8>> {
        let (mut frames, mut batch) = (Vec::new(), RxBatch::new());
        while port.recv(&mut batch).unwrap() > 0 {
            frames.extend(batch.iter_mut().map(|(bytes, _)| bytes.to_vec()));
            batch.clear();
        }
        frames
    }

    fn drain_host(host: &mut MemoryHost) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| host.try_recv()).map(|(bytes, _)| bytes).collect()
    }
}
