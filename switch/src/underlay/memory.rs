//! An underlay without a kernel: an IP network in memory, for tests and benches.
//!
//! Ends [attach](MemoryNet::attach) to addresses of one [`MemoryNet`]. What an end has reserved crosses the net when it
//! flushes and then waits at the end that has the target's address. On the way [`Conditions`] lose, double, swap and
//! refuse datagrams; a seed decides which, so a run with one thread repeats exactly. There is no delay and no clock.
//!
//! Nothing vanishes without a number: [`Counts`] says what the net did, and for each net
//!
//! ```text
//! accepted + duplicated = lost + arrived          (accepted: reported as sent)
//! arrived               = received + waiting      (while no end is dropped)
//! ```
//!
//! An end has an eventfd for each address as its [`poll_fd`](UnderlayEnd::poll_fd), so a worker sleeps on it as on a socket.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arrayvec::ArrayVec;
use rustix::event::{EventfdFlags, eventfd};
use weft_vxlan::HeaderFormat;

use super::{Arrival, MAX_DATAGRAM_LEN, Sent, Target, UnderlayBatch, UnderlayEnd};
use crate::bridge::DropReason;

/// How the net treats what crosses it. Probabilities run from 0 (never) to 1 (always) and are drawn for each datagram.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Conditions {
    /// Probability that a datagram is lost; its sender does not hear of it.
    pub loss: f64,
    /// Probability that a datagram arrives twice.
    pub duplication: f64,
    /// Probability that a datagram overtakes the one that waits before it.
    pub reorder: f64,
    /// Largest outer IP packet in bytes. A larger one with "don't fragment" is refused; without it passes, as if it had been
    /// fragmented and put together again.
    pub mtu: usize,
    /// Datagrams that wait at an end at most; one more is refused.
    pub queue_len: usize,
    /// Hand over equal-sized neighbours of one flow in one buffer, as UDP_GRO does.
    pub aggregate: bool,
}

impl Default for Conditions {
    /// A perfect net: nothing is lost, everything fits, 4096 datagrams wait, and each has a buffer of its own.
    fn default() -> Self {
        Self { loss: 0.0, duplication: 0.0, reorder: 0.0, mtu: 65_535, queue_len: 4096, aggregate: false }
    }
}

/// What a net has done so far, in datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Taken from senders and reported to them as sent.
    pub accepted: u64,
    /// Refused, with a reason reported to the sender.
    pub refused: u64,
    /// Of the accepted: lost on the way.
    pub lost: u64,
    /// Copies that the net made.
    pub duplicated: u64,
    /// Of the arrived: have overtaken another.
    pub reordered: u64,
    /// Put into the queue of an end.
    pub arrived: u64,
    /// Handed over by [`UnderlayEnd::recv`].
    pub received: u64,
}

/// An IP network in memory. Clones are handles to the same net.
#[derive(Clone)]
pub struct MemoryNet {
    state: Arc<Mutex<State>>,
}

impl MemoryNet {
    /// A net without ends, under perfect [`Conditions`].
    pub fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                random: fastrand::Rng::with_seed(seed),
                conditions: Conditions::default(),
                counts: Counts::default(),
                ends: HashMap::new(),
                next_end: 0,
                spare: Vec::new(),
            })),
        }
    }

    /// Changes the conditions for everything that crosses from now on.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.lock().conditions = conditions;
    }

    /// What the net has done so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// A new end with this address, where it hears VXLAN, until it is dropped. Several ends with one address share what is sent
    /// there, each flow (sender and bucket of its hash) going to one of them, as sockets with SO_REUSEPORT do.
    ///
    /// # Errors
    /// No more file descriptors.
    pub fn attach(&self, address: SocketAddr) -> io::Result<MemoryUnderlay> {
        self.attach_at(address, &[(HeaderFormat::Vxlan, address.port())])
    }

    /// The same, hearing each of these formats, named once, at a port of its own. What it sends comes from `address`.
    ///
    /// # Errors
    /// No more file descriptors.
    pub fn attach_at(&self, address: SocketAddr, ports: &[(HeaderFormat, u16)]) -> io::Result<MemoryUnderlay> {
        let mut doors = ArrayVec::new();
        for (format, port) in ports {
            let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
            doors.push(Door { format: *format, address: SocketAddr::new(address.ip(), *port), wake });
        }
        let mut state = self.lock();
        let id = state.next_end;
        state.next_end += 1;
        for door in &doors {
            let inbox = Inbox { id, waiting: VecDeque::new(), wake: Arc::clone(&door.wake) };
            state.ends.entry(door.address).or_default().push(inbox);
        }
        drop(state);
        Ok(MemoryUnderlay {
            net: self.clone(),
            address,
            doors,
            id,
            bytes: Vec::new(),
            reserved: Vec::new(),
            outcomes: Vec::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked while it held the lock has failed already; the others may go on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct State {
    random: fastrand::Rng,
    conditions: Conditions,
    counts: Counts,
    ends: HashMap<SocketAddr, Vec<Inbox>>,
    next_end: u64,
    /// Buffers of datagrams that were read, so that a long run does not allocate.
    spare: Vec<Vec<u8>>,
}

struct Inbox {
    id: u64,
    waiting: VecDeque<Datagram>,
    wake: Arc<OwnedFd>,
}

struct Datagram {
    flow: (SocketAddr, u32),
    tos: u8,
    payload: Vec<u8>,
}

/// Flows of one sender that the net tells apart: the default number of source ports of a real underlay.
const BUCKETS: u64 = 16;

impl State {
    /// Takes one datagram across.
    fn cross(&mut self, from: SocketAddr, reserved: &Reserved, payload: &[u8]) -> Result<(), DropReason> {
        let outcome = self.try_cross(from, reserved, payload);
        match outcome {
            Ok(()) => self.counts.accepted += 1,
            Err(_) => self.counts.refused += 1,
        }
        outcome
    }

    fn try_cross(&mut self, from: SocketAddr, reserved: &Reserved, payload: &[u8]) -> Result<(), DropReason> {
        let target = &reserved.target;
        let header_len = if target.address.is_ipv4() { 20 + 8 } else { 40 + 8 };
        let fits = payload.len() + header_len <= self.conditions.mtu || !target.dont_fragment;
        if !fits || payload.len() > MAX_DATAGRAM_LEN {
            return Err(DropReason::UnderlayMtu);
        }
        let Some(ends) = self.ends.get_mut(&target.address) else {
            return Err(DropReason::UnderlayUnreachable);
        };
        let bucket = ((u64::from(reserved.hash) * BUCKETS) >> 32) as u32;
        let chosen = (u64::from(bucket) + u64::from(from.port())) % ends.len() as u64;
        let inbox = &mut ends[chosen as usize];
        if inbox.waiting.len() >= self.conditions.queue_len {
            return Err(DropReason::UnderlayQueueFull);
        }

        // One draw for each question, whatever the answers, so that changing one probability does not change the others'
        // luck.
        let (loss, duplication, reorder) = (self.random.f64(), self.random.f64(), self.random.f64());
        if loss < self.conditions.loss {
            self.counts.lost += 1;
            return Ok(());
        }
        let was_empty = inbox.waiting.is_empty();
        let room = self.conditions.queue_len - inbox.waiting.len();
        let copies = if duplication < self.conditions.duplication && room > 1 { 2 } else { 1 };
        for _ in 0..copies {
            let mut own = self.spare.pop().unwrap_or_default();
            own.clear();
            own.extend_from_slice(payload);
            inbox.waiting.push_back(Datagram { flow: (from, bucket), tos: target.tos, payload: own });
        }
        let len = inbox.waiting.len();
        if reorder < self.conditions.reorder && len > copies {
            inbox.waiting.swap(len - copies - 1, len - 1);
            self.counts.reordered += 1;
        }
        self.counts.duplicated += copies as u64 - 1;
        self.counts.arrived += copies as u64;
        if was_empty {
            // Can't fail: the counter is far from its limit of 2^64 - 2.
            let _ = rustix::io::write(&inbox.wake, &1u64.to_ne_bytes());
        }
        Ok(())
    }
}

/// One end of a [`MemoryNet`].
pub struct MemoryUnderlay {
    net: MemoryNet,
    address: SocketAddr,
    doors: ArrayVec<Door, { HeaderFormat::ALL.len() }>,
    id: u64,
    bytes: Vec<u8>,
    reserved: Vec<Reserved>,
    outcomes: Vec<Sent>,
}

/// Where an end hears one format.
struct Door {
    format: HeaderFormat,
    address: SocketAddr,
    wake: Arc<OwnedFd>,
}

#[derive(Clone, Copy)]
struct Reserved {
    target: Target,
    hash: u32,
    start: usize,
    len: usize,
}

impl MemoryUnderlay {
    /// The address that it is attached to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn door(&self, format: HeaderFormat) -> Option<&Door> {
        self.doors.iter().find(|door| door.format == format)
    }
}

impl UnderlayEnd for MemoryUnderlay {
    fn recv(&mut self, format: HeaderFormat, batch: &mut UnderlayBatch) -> io::Result<usize> {
        batch.len = 0;
        let Some(door) = self.door(format) else { return Ok(0) };
        let mut state = self.net.lock();
        let State { conditions, counts, ends, spare, .. } = &mut *state;
        let inbox = ends.get_mut(&door.address).and_then(|ends| ends.iter_mut().find(|end| end.id == self.id));
        let waiting = &mut inbox.expect("it is there until this end is dropped").waiting;
        while batch.len < batch.buffers.len()
            && let Some(first) = waiting.pop_front()
        {
            let buffer = &mut batch.buffers[batch.len];
            let stride = first.payload.len();
            let mut end = stride;
            let mut count = 1;
            buffer.space()[..end].copy_from_slice(&first.payload);
            while conditions.aggregate
                && let Some(next) = waiting.front()
                && next.flow == first.flow
                && next.tos == first.tos
                && (1..=stride).contains(&next.payload.len())
                && end == count * stride
                && end + next.payload.len() <= MAX_DATAGRAM_LEN
                && count < AGGREGATE_COUNT
            {
                let next = waiting.pop_front().expect("its front was just seen");
                buffer.space()[end..end + next.payload.len()].copy_from_slice(&next.payload);
                end += next.payload.len();
                count += 1;
                spare.push(next.payload);
            }
            buffer.set_frame(0, end);
            batch.arrivals[batch.len] =
                Arrival { format, source: canonical(first.flow.0), tos: first.tos, stride: stride.max(1) };
            batch.len += 1;
            counts.received += count as u64;
            spare.push(first.payload);
        }
        if waiting.is_empty() {
            // "Would block" says that it was not set.
            let _ = rustix::io::read(&door.wake, &mut [0u8; 8]);
        }
        Ok(batch.len)
    }

    fn reserve(&mut self, target: &Target, hash: u32, len: usize) -> &mut [u8] {
        let start = self.bytes.len();
        self.reserved.push(Reserved { target: *target, hash, start, len });
        self.bytes.resize(start + len, 0);
        &mut self.bytes[start..]
    }

    fn flush(&mut self, report: &mut dyn FnMut(Sent)) {
        if self.reserved.is_empty() {
            return;
        }
        let mut state = self.net.lock();
        for reserved in self.reserved.drain(..) {
            let payload = &self.bytes[reserved.start..reserved.start + reserved.len];
            let result = state.cross(self.address, &reserved, payload);
            let Target { bridge, vtep, header_len, .. } = reserved.target;
            let bytes = (reserved.len as u64).saturating_sub(u64::from(header_len));
            match self.outcomes.last_mut() {
                Some(last) if (last.bridge, last.vtep, last.result) == (bridge, vtep, result) => {
                    last.frames += 1;
                    last.bytes += bytes;
                }
                _ => self.outcomes.push(Sent { bridge, vtep, frames: 1, bytes, result }),
            }
        }
        self.bytes.clear();
        // Only now: `report` may want to ask the net something.
        drop(state);
        for outcome in self.outcomes.drain(..) {
            report(outcome);
        }
    }

    fn poll_fd(&self, format: HeaderFormat) -> Option<BorrowedFd<'_>> {
        self.door(format).map(|door| door.wake.as_fd())
    }
}

/// Datagrams that the kernel's UDP_GRO puts into one buffer at most: net/ipv4/udp_offload.c, UDP_GRO_CNT_MAX.
const AGGREGATE_COUNT: usize = 64;

fn canonical(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

impl Drop for MemoryUnderlay {
    /// Closes the end: what waits there is gone, and who sends there hears that nobody has the address.
    fn drop(&mut self) {
        let mut state = self.net.lock();
        for door in &self.doors {
            if let Some(ends) = state.ends.get_mut(&door.address) {
                ends.retain(|end| end.id != self.id);
                if ends.is_empty() {
                    state.ends.remove(&door.address);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{BridgeId, VtepId};

    #[test]
    fn what_is_flushed_arrives_with_its_source_and_tos() {
        let (_, mut a, mut b) = pair(Conditions::default());
        let target = Target { tos: 0x2b, ..target_of(&b) };
        a.reserve(&target, 7, 100).fill(5);
        assert_eq!(recv(&mut b), [], "not before it is flushed");
        assert_eq!(flush(&mut a), [(1, 92, Ok(()))]);
        let source = "192.0.2.1".parse().unwrap();
        let arrival = Arrival { format: HeaderFormat::Vxlan, source, tos: 0x2b, stride: 100 };
        assert_eq!(recv(&mut b), [(arrival, vec![5; 100])]);
        assert_eq!(recv(&mut b), []);
    }

    #[test]
    fn nobody_at_the_address_is_unreachable() {
        let (net, mut a, b) = pair(Conditions::default());
        let target = target_of(&b);
        drop(b);
        send(&mut a, &target, &[100]);
        assert_eq!(flush(&mut a), [(1, 92, Err(DropReason::UnderlayUnreachable))]);
        assert_eq!(net.counts(), Counts { refused: 1, ..Counts::default() });
    }

    #[test]
    fn too_long_is_refused_with_df_and_passes_without() {
        let (_, mut a, mut b) = pair(Conditions { mtu: 1500, ..Conditions::default() });
        let target = target_of(&b);
        send(&mut a, &target, &[1472, 1473]);
        send(&mut a, &Target { dont_fragment: false, ..target }, &[1473]);
        let mtu = Err(DropReason::UnderlayMtu);
        assert_eq!(flush(&mut a), [(1, 1464, Ok(())), (1, 1465, mtu), (1, 1465, Ok(()))]);
        assert_eq!(recv(&mut b).len(), 2);
    }

    #[test]
    fn an_ipv6_header_takes_20_bytes_more() {
        let net = MemoryNet::new(1);
        net.set_conditions(Conditions { mtu: 1500, ..Conditions::default() });
        let mut a = net.attach("[2001:db8::1]:4789".parse().unwrap()).unwrap();
        let target = target_of(&a);
        send(&mut a, &target, &[1452, 1453]);
        assert_eq!(flush(&mut a), [(1, 1444, Ok(())), (1, 1445, Err(DropReason::UnderlayMtu))]);
    }

    #[test]
    fn a_full_queue_refuses_until_it_is_read() {
        let (_, mut a, mut b) = pair(Conditions { queue_len: 2, ..Conditions::default() });
        let target = target_of(&b);
        send(&mut a, &target, &[8, 8, 8]);
        assert_eq!(flush(&mut a), [(2, 0, Ok(())), (1, 0, Err(DropReason::UnderlayQueueFull))]);
        recv(&mut b);
        send(&mut a, &target, &[8]);
        assert_eq!(flush(&mut a), [(1, 0, Ok(()))]);
    }

    #[test]
    fn equal_neighbours_of_one_flow_share_a_buffer_if_asked_for() {
        let (_, mut a, mut b) = pair(Conditions { aggregate: true, ..Conditions::default() });
        let target = target_of(&b);
        send(&mut a, &target, &[100, 100, 40, 100, 200, 0, 0]);
        a.reserve(&target, u32::MAX, 200);
        a.reserve(&Target { tos: 1, ..target }, u32::MAX, 200);
        flush(&mut a);
        let shapes: Vec<_> = recv(&mut b).into_iter().map(|(arrival, bytes)| (arrival.stride, bytes.len())).collect();
        assert_eq!(shapes, [(100, 240), (100, 100), (200, 200), (1, 0), (1, 0), (200, 200), (200, 200)]);
    }

    #[test]
    fn more_than_a_batch_waits_for_the_next() {
        let (_, mut a, mut b) = pair(Conditions::default());
        let target = target_of(&b);
        send(&mut a, &target, &[8; UnderlayBatch::CAPACITY + 1]);
        flush(&mut a);
        assert_eq!(recv(&mut b).len(), UnderlayBatch::CAPACITY);
        assert!(is_readable(&b));
        assert_eq!(recv(&mut b).len(), 1);
        assert!(!is_readable(&b));
    }

    #[test]
    fn a_sleeper_is_woken() {
        let (_, mut a, mut b) = pair(Conditions::default());
        let target = target_of(&b);
        assert!(!is_readable(&b));
        send(&mut a, &target, &[8]);
        flush(&mut a);
        assert!(is_readable(&b));
        recv(&mut b);
        assert!(!is_readable(&b));
    }

    #[test]
    fn the_account_of_a_bad_net_balances_and_a_seed_repeats_it() {
        let conditions =
            Conditions { loss: 0.1, duplication: 0.1, reorder: 0.2, queue_len: 500, ..Conditions::default() };
        let run = |seed| {
            let net = MemoryNet::new(seed);
            net.set_conditions(conditions);
            let mut a = net.attach("192.0.2.1:4789".parse().unwrap()).unwrap();
            let mut b = net.attach("192.0.2.2:4789".parse().unwrap()).unwrap();
            let target = target_of(&b);
            for number in 0..1000u32 {
                a.reserve(&target, 0, 12)[8..].copy_from_slice(&number.to_ne_bytes());
            }
            let sent: u64 = flush(&mut a).iter().filter(|sent| sent.2.is_ok()).map(|sent| sent.0).sum();
            let mut numbers = Vec::new();
            loop {
                let batch = recv(&mut b);
                if batch.is_empty() {
                    break;
                }
                numbers.extend(batch.iter().map(|(_, bytes)| u32::from_ne_bytes(bytes[8..].try_into().unwrap())));
            }
            (net.counts(), sent, numbers)
        };
        let (counts, sent, numbers) = run(7);
        assert_eq!(counts.accepted, sent);
        assert_eq!(counts.accepted + counts.refused, 1000);
        assert_eq!(counts.accepted + counts.duplicated, counts.lost + counts.arrived);
        assert_eq!(counts.received, counts.arrived);
        assert_eq!(numbers.len() as u64, counts.received);
        assert!(counts.lost > 0 && counts.duplicated > 0 && counts.reordered > 0 && counts.refused > 0, "{counts:?}");
        assert!(!numbers.is_sorted());
        assert_eq!(run(7), (counts, sent, numbers));
        assert_ne!(run(8).0, counts);
    }

    #[test]
    fn ends_with_one_address_share_its_flows() {
        let net = MemoryNet::new(1);
        let address = "192.0.2.2:4789".parse().unwrap();
        let mut a = net.attach("192.0.2.1:4789".parse().unwrap()).unwrap();
        let mut workers = [net.attach(address).unwrap(), net.attach(address).unwrap()];
        let target = target_of(&workers[0]);
        for flow in 0..16u32 {
            for _ in 0..2 {
                a.reserve(&target, flow << 28, 9).fill(flow as u8);
            }
        }
        flush(&mut a);
        let shares = workers.each_mut().map(|worker| recv(worker).into_iter().map(|(_, bytes)| bytes[0]).collect());
        let [first, second]: [Vec<u8>; 2] = shares;
        assert_eq!((first.len(), second.len()), (16, 16));
        assert!(first.iter().all(|flow| !second.contains(flow)), "a flow stays with one end");
    }

    #[test]
    fn each_format_is_heard_at_its_own_port_and_nowhere_else() {
        let (net, mut a, vxlan_only) = pair(Conditions::default());
        let ports = [(HeaderFormat::Vxlan, 4789), (HeaderFormat::Geneve, 6081)];
        let mut both = net.attach_at("192.0.2.3:4789".parse().unwrap(), &ports).unwrap();
        let to = |port| Target { address: SocketAddr::new(both.address().ip(), port), ..target_of(&both) };
        let (geneve, gpe) = (Target { header_len: 16, ..to(6081) }, to(4790));
        a.reserve(&geneve, 0, 50).fill(6);
        a.reserve(&gpe, 0, 50).fill(7);
        assert_eq!(flush(&mut a), [(1, 34, Ok(())), (1, 42, Err(DropReason::UnderlayUnreachable))]);
        assert!(is_readable_at(&both, HeaderFormat::Geneve) && !is_readable_at(&both, HeaderFormat::Vxlan));
        assert_eq!(recv_at(&mut both, HeaderFormat::Vxlan), []);
        let [(arrival, bytes)] = &recv_at(&mut both, HeaderFormat::Geneve)[..] else { panic!("one datagram") };
        assert_eq!((arrival.format, bytes), (HeaderFormat::Geneve, &vec![6; 50]));
        assert!(vxlan_only.poll_fd(HeaderFormat::Geneve).is_none());
    }

    fn pair(conditions: Conditions) -> (MemoryNet, MemoryUnderlay, MemoryUnderlay) {
        let net = MemoryNet::new(1);
        net.set_conditions(conditions);
        let a = net.attach("192.0.2.1:4789".parse().unwrap()).unwrap();
        let b = net.attach("192.0.2.2:4789".parse().unwrap()).unwrap();
        (net, a, b)
    }

    fn target_of(end: &MemoryUnderlay) -> Target {
        let address = end.address();
        let (bridge, vtep) = (BridgeId(1), VtepId(1));
        Target { bridge, vtep, address, tos: 0, ttl: 64, dont_fragment: true, header_len: 8 }
    }

    fn send(end: &mut MemoryUnderlay, target: &Target, lens: &[usize]) {
        lens.iter().for_each(|&len| end.reserve(target, 0, len).fill(1));
    }

    fn flush(end: &mut MemoryUnderlay) -> Vec<(u64, u64, Result<(), DropReason>)> {
        let mut sent = Vec::new();
        end.flush(&mut |report| sent.push((report.frames, report.bytes, report.result)));
        sent
    }

    fn recv(end: &mut MemoryUnderlay) -> Vec<(Arrival, Vec<u8>)> {
        recv_at(end, HeaderFormat::Vxlan)
    }

    fn recv_at(end: &mut MemoryUnderlay, format: HeaderFormat) -> Vec<(Arrival, Vec<u8>)> {
        let mut batch = UnderlayBatch::new();
        end.recv(format, &mut batch).unwrap();
        batch.iter_mut().map(|(arrival, bytes)| (arrival, bytes.to_vec())).collect()
    }

    fn is_readable(end: &MemoryUnderlay) -> bool {
        is_readable_at(end, HeaderFormat::Vxlan)
    }

    fn is_readable_at(end: &MemoryUnderlay, format: HeaderFormat) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let fd = end.poll_fd(format).unwrap();
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }
}
