//! A cable with something in it: it loses, delays, filters or spoils frames on their way between two interfaces.
//!
//! A thread reads wire frames from either end through packet sockets and writes them to the other. Losses are those of the fault
//! wrapper ([`crate::port::fault`]), which knows no clock; a delay is the cable's own, the same for each frame, so that their
//! order stays. At most [`MAX_WAITING`] frames are under way in each direction; one more is lost, and counted apart.
//!
//! Whoever sends into the cable must have its super-frames cut before: `Namespace::gso_max_segments`.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd},
    io::Errno,
};

use super::error::ExperimentError;
use crate::{
    lab::Namespace,
    offload::{self, VnetHeader},
    port::{
        Port, PortQueue, RxBatch, TxFrame,
        fault::{FaultCounters, FaultPort, Faults},
        packet,
    },
    wire::dissect::{IpVersion, L4Kind, dissect},
};

/// Frames that are under way in one direction at most: a second of full Ethernet frames at 100 Mbit/s.
pub const MAX_WAITING: usize = 10_000;

/// What a cable does to frames.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct CableSettings {
    /// How likely a frame is lost: 0 never, 1 always.
    pub loss: f64,
    /// How long a frame is under way.
    pub delay: Duration,
    /// What the losses are drawn from.
    pub seed: u64,
    /// Who looks into the frames.
    pub middlebox: Middlebox,
}

/// A device that looks into packets and should not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Middlebox {
    /// There is none.
    #[default]
    None,
    /// A firewall that lets no ICMP error pass, as many do because "ICMP is dangerous".
    IcmpFilter,
    /// Something that rewrites UDP and gets the checksum wrong: broken offloads, broken NAT. A datagram without a checksum
    /// stays without (RFC 768: zero means that there is none).
    ChecksumSpoiler,
}

/// What a cable did, both ways together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CableCounts {
    /// Frames handed on.
    pub passed: u64,
    /// Frames lost on purpose.
    pub lost: u64,
    /// Frames that were one too many, or that the interface did not take.
    pub overflowed: u64,
    /// ICMP errors that the filter stopped.
    pub filtered: u64,
    /// Checksums that were spoiled.
    pub spoiled: u64,
}

/// A cable at work, until it is dropped.
pub struct Cable {
    stop: Arc<OwnedFd>,
    worker: Option<thread::JoinHandle<()>>,
    counts: Arc<Mutex<CableCounts>>,
    faults: [FaultCounters; 2],
}

impl Cable {
    /// Joins two interfaces of a namespace, which nothing else uses.
    ///
    /// # Errors
    /// An interface can't be opened, or no thread be started.
    pub fn start(place: &Namespace, ends: [&str; 2], settings: &CableSettings) -> Result<Self, ExperimentError> {
        let settings = *settings;
        let open = |name: &str| place.within(|| packet::open(name, 1, true));
        let [mut one, mut other] = [open(ends[0])??, open(ends[1])??];
        let (Some(one), Some(other)) = (one.pop(), other.pop()) else {
            return Err(ExperimentError::Broken("a packet socket without a queue".to_owned()));
        };
        let loss = Faults { loss: settings.loss, ..Faults::default() };
        let behind_faults = |queue, seed| FaultPort::new(PortQueue::Packet(queue), seed, Faults::default(), loss);
        let (one, one_faults) = behind_faults(one, settings.seed);
        let (other, other_faults) = behind_faults(other, settings.seed.wrapping_add(1));
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let stop = Arc::new(stop.map_err(|errno| ExperimentError::step("make an eventfd")(errno.into()))?);
        let counts = Arc::<Mutex<CableCounts>>::default();
        let mut work = Work {
            ends: [End::new(one), End::new(other)],
            batch: RxBatch::new(),
            settings,
            counts: Arc::clone(&counts),
        };
        let stopped = Arc::clone(&stop);
        let worker = thread::Builder::new().name("cable".into()).spawn(move || work.run(&stopped));
        let worker = Some(worker.map_err(ExperimentError::step("start a cable's thread"))?);
        Ok(Self { stop, worker, counts, faults: [one_faults, other_faults] })
    }

    /// What it did so far.
    pub fn counts(&self) -> CableCounts {
        let lost = self.faults.iter().map(|faults| faults.send().lost).sum();
        CableCounts { lost, ..*lock(&self.counts) }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // Can't fail: the counter is far from its limit.
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let Some(worker) = self.worker.take() {
            // Its panic was printed when it happened.
            let _ = worker.join();
        }
    }
}

fn lock(counts: &Mutex<CableCounts>) -> MutexGuard<'_, CableCounts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One end, and what is on its way to it.
struct End {
    port: FaultPort,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    due: Instant,
    bytes: Vec<u8>,
    vnet: VnetHeader,
}

impl End {
    fn new(port: FaultPort) -> Self {
        Self { port, waiting: VecDeque::new() }
    }
}

struct Work {
    ends: [End; 2],
    batch: RxBatch,
    settings: CableSettings,
    counts: Arc<Mutex<CableCounts>>,
}

impl Work {
    fn run(&mut self, stop: &OwnedFd) {
        while self.wait(stop) {
            for from in [0, 1] {
                self.take(from);
            }
            for to in [0, 1] {
                self.deliver(to);
            }
        }
    }

    /// Sleeps until something comes or is due; false: it is to end.
    fn wait(&self, stop: &OwnedFd) -> bool {
        let due = self.ends.iter().filter_map(|end| end.waiting.front()).map(|next| next.due).min();
        let pause = due.map(|due| due.saturating_duration_since(Instant::now()));
        let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
        let [one, other] = &self.ends;
        let (Some(one), Some(other)) = (one.port.poll_fd(), other.port.poll_fd()) else { return false };
        let mut fds = [
            PollFd::new(stop, PollFlags::IN),
            PollFd::from_borrowed_fd(one.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(other.as_fd(), PollFlags::IN),
        ];
        match rustix::event::poll(&mut fds, pause.as_ref()) {
            Ok(_) | Err(Errno::INTR) => !fds[0].revents().contains(PollFlags::IN),
            Err(_) => false,
        }
    }

    /// Reads what has come in at one end.
    fn take(&mut self, from: usize) {
        loop {
            self.batch.clear();
            // An interface that is gone says so once, and then nothing: the scene is being removed.
            let count = self.ends[from].port.recv(&mut self.batch).unwrap_or(0);
            let due = Instant::now() + self.settings.delay;
            let mut counts = lock(&self.counts);
            for (frame, vnet) in self.batch.iter_mut() {
                let Some(vnet) = *vnet else {
                    counts.overflowed += 1;
                    continue;
                };
                let vnet = match self.settings.middlebox {
                    Middlebox::None => vnet,
                    Middlebox::IcmpFilter if is_icmp_error(frame) => {
                        counts.filtered += 1;
                        continue;
                    }
                    Middlebox::IcmpFilter => vnet,
                    Middlebox::ChecksumSpoiler => {
                        let (vnet, is_spoiled) = spoil(frame, vnet);
                        counts.spoiled += u64::from(is_spoiled);
                        vnet
                    }
                };
                let waiting = &mut self.ends[1 - from].waiting;
                if waiting.len() < MAX_WAITING {
                    waiting.push_back(Waiting { due, bytes: frame.to_vec(), vnet });
                } else {
                    counts.overflowed += 1;
                }
            }
            if count < RxBatch::CAPACITY {
                return;
            }
        }
    }

    /// Writes what is due at one end.
    fn deliver(&mut self, to: usize) {
        let End { port, waiting } = &mut self.ends[to];
        let now = Instant::now();
        let lost_before = port_losses(port);
        let (mut sent, mut refused) = (0, 0);
        while let Some(next) = waiting.pop_front_if(|next| next.due <= now) {
            match port.send(&TxFrame { bytes: &next.bytes, tag: None, vnet: next.vnet }) {
                Ok(()) => sent += 1,
                Err(_) => refused += 1,
            }
        }
        refused += port.flush().lost.map_or(0, |(_, frames, _)| frames);
        let lost = port_losses(port) - lost_before;
        let mut counts = lock(&self.counts);
        counts.passed += sent - lost;
        counts.overflowed += refused;
    }
}

fn port_losses(port: &FaultPort) -> u64 {
    port.counters().send().lost
}

/// Whether a frame is an ICMP error (RFC 792: types 3, 11, 12; RFC 4443: types below 128).
fn is_icmp_error(frame: &[u8]) -> bool {
    const ICMP: u8 = 1;
    const ICMPV6: u8 = 58;
    let Some(l3) = dissect(frame).l3 else { return false };
    let kind = frame.get(usize::from(l3.offset) + usize::from(l3.header_len)).copied();
    match (l3.version, l3.protocol) {
        (IpVersion::V4, ICMP) => matches!(kind, Some(3 | 11 | 12)),
        (IpVersion::V6, ICMPV6) => kind.is_some_and(|kind| kind < 128),
        (IpVersion::V4 | IpVersion::V6, _) => false,
    }
}

/// Makes the UDP checksum of a frame wrong; says whether it had one.
fn spoil(frame: &mut [u8], vnet: VnetHeader) -> (VnetHeader, bool) {
    const CHECKSUM_AT: usize = 6;
    let Some(l4) = dissect(frame).l4.filter(|l4| l4.kind == L4Kind::Udp) else { return (vnet, false) };
    let finished = match vnet.csum {
        Some(csum) => offload::complete(frame, csum).is_ok(),
        None => true,
    };
    let at = usize::from(l4.offset) + CHECKSUM_AT;
    let Some([high, low]) = frame.get_mut(at..at + 2) else { return (vnet, false) };
    if !finished || (*high, *low) == (0, 0) {
        return (vnet, false);
    }
    // Zero would say that there is none.
    *high ^= 0x55;
    if (*high, *low) == (0, 0) {
        *low = 1;
    }
    (VnetHeader::NONE, true)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::wire::checksum::{pseudo_v4, sum};

    fn udp(payload: &[u8]) -> Vec<u8> {
        let packet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
            .udp(50_000, 4789);
        let mut frame = Vec::new();
        packet.write(&mut frame, payload).unwrap();
        frame
    }

    fn is_right(frame: &[u8]) -> bool {
        let pseudo = pseudo_v4([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), 17, (frame.len() - 34) as u16);
        pseudo.combine(sum(&frame[34..])).checksum() == 0
    }

    #[test]
    fn a_spoiled_checksum_is_wrong_and_no_other_byte_changes() {
        for payload in [&b""[..], b"x", b"some more bytes"] {
            let good = udp(payload);
            assert!(is_right(&good));
            let mut frame = good.clone();
            assert_eq!(spoil(&mut frame, VnetHeader::NONE), (VnetHeader::NONE, true));
            assert!(!is_right(&frame));
            assert_ne!(frame[40..42], [0, 0]);
            frame[40..42].copy_from_slice(&good[40..42]);
            assert_eq!(frame, good);
        }
    }

    #[test]
    fn a_checksum_that_is_only_started_is_finished_before_it_is_spoiled() {
        let good = udp(b"payload");
        let mut frame = good.clone();
        let started = pseudo_v4([192, 0, 2, 1].into(), [192, 0, 2, 2].into(), 17, (good.len() - 34) as u16).fold();
        frame[40..42].copy_from_slice(&started.to_be_bytes());
        let csum = Some(offload::PartialCsum { start: 34, offset: 6 });
        assert_eq!(spoil(&mut frame, VnetHeader { csum, ..VnetHeader::NONE }), (VnetHeader::NONE, true));
        assert_eq!(frame[40] ^ 0x55, good[40]);
        assert!(!is_right(&frame));
    }

    #[test]
    fn a_datagram_without_a_checksum_stays_without() {
        let mut frame = udp(b"payload");
        frame[40..42].copy_from_slice(&[0, 0]);
        let before = frame.clone();
        assert_eq!(spoil(&mut frame, VnetHeader::NONE), (VnetHeader::NONE, false));
        assert_eq!(frame, before);
    }

    #[test]
    fn errors_are_told_from_other_icmp() {
        let icmp = |kind| {
            let mut frame = Vec::new();
            let packet = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([192, 0, 2, 9], [192, 0, 2, 1], 64);
            packet.icmpv4_raw(kind, 4, [0, 0, 5, 120]).write(&mut frame, b"quoted").unwrap();
            frame
        };
        let icmpv6 = |kind| {
            let mut frame = Vec::new();
            let packet = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([1; 16], [2; 16], 64);
            packet.icmpv6_raw(kind, 0, [0, 0, 5, 120]).write(&mut frame, b"quoted").unwrap();
            frame
        };
        assert!(is_icmp_error(&icmp(3)) && is_icmp_error(&icmp(11)));
        assert!(!is_icmp_error(&icmp(8)) && !is_icmp_error(&icmp(0)));
        assert!(is_icmp_error(&icmpv6(2)) && !is_icmp_error(&icmpv6(135)));
        assert!(!is_icmp_error(&udp(b"x")));
    }
}
