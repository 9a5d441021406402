//! Ports in memory: a queue whose other end a program holds instead of a kernel.
//!
//! Three uses, one type:
//!
//! - [`MemoryPort::pair`]: a port and its [`MemoryHost`], joined by two bounded queues. Tests put hosts, and the gateway puts
//!   the switch's own interface, behind such a port.
//! - [`MemoryPort::generator`]: the same prepared frames over and over, and a counter for whatever is sent. Benches measure
//!   a walk through the switch with it, because its steady state allocates nothing and makes no system call.
//! - [`MemoryPort::sink`]: takes and counts everything, delivers nothing.
//!
//! ```text
//!            frames ->                        frames ->
//!   +------+           +-----------------+             +------+
//!   | host |           | port (a worker) |             | host |
//!   +------+           +-----------------+             +------+
//!            <- empty                         <- empty
//! ```
//! Each direction is a bounded channel of owned frames, and beside it runs a channel back with the emptied memory, so that
//! after a warm-up a frame costs two channel operations and one copy on either side.
//!
//! The host that goes away takes the "interface" with it: what is queued can still be read, then reading says
//! [`PortError::Gone`] and sending [`DropReason::PortDown`].

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use rustix::event::EventfdFlags;

use super::{Offloads, Port, PortError, RxBatch, TxFrame};
use crate::{
    bridge::DropReason,
    buffer::MAX_FRAME_LEN,
    offload::VnetHeader,
    wire::{ethernet::ETHER_TYPE_OFFSET as ADDRESSES_LEN, vlan::TAG_LEN},
};

/// One worker's queue of a port in memory.
pub struct MemoryPort {
    source: Source,
    sink: Sink,
    offloads: Offloads,
    wake: Option<Arc<OwnedFd>>,
}

/// Where a port's received frames come from.
enum Source {
    Host(Incoming),
    Replay { frames: Box<[(Vec<u8>, VnetHeader)]>, next: usize },
}

/// Where frames that the switch sends end up.
enum Sink {
    Host(Outgoing),
    Counters(Arc<Counts>),
}

impl MemoryPort {
    /// A port and the host behind it, with room for `capacity` frames in either direction. The port has no descriptor: a
    /// worker that sleeps does not notice the host's frames, so this one is for workers that are stepped by hand.
    pub fn pair(capacity: usize, offloads: Offloads) -> (Self, MemoryHost) {
        Self::join(capacity, offloads, None)
    }

    /// As [`MemoryPort::pair`], with an eventfd that becomes readable when the host's first frame arrives in an empty queue.
    ///
    /// # Errors
    /// Whatever `eventfd2(2)` says: EMFILE, ENFILE, ENOMEM.
    pub fn pair_with_wakeup(capacity: usize, offloads: Offloads) -> io::Result<(Self, MemoryHost)> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self::join(capacity, offloads, Some(Arc::new(wake))))
    }

    /// A port that receives `frames` in turn, without end, and counts what is sent to it. Every [`Port::recv`] fills the
    /// batch; with no frames at all it never delivers anything.
    /// Frames are cut off at [`MAX_FRAME_LEN`].
    pub fn generator(mut frames: Vec<(Vec<u8>, VnetHeader)>, offloads: Offloads) -> (Self, MemoryCounters) {
        for (bytes, _) in &mut frames {
            bytes.truncate(MAX_FRAME_LEN);
        }
        let counts = Arc::new(Counts::default());
        let source = Source::Replay { frames: frames.into_boxed_slice(), next: 0 };
        let port = Self { source, sink: Sink::Counters(Arc::clone(&counts)), offloads, wake: None };
        (port, MemoryCounters(counts))
    }

    /// A port that counts what is sent to it and never delivers anything.
    pub fn sink(offloads: Offloads) -> (Self, MemoryCounters) {
        Self::generator(Vec::new(), offloads)
    }

    fn join(capacity: usize, offloads: Offloads, wake: Option<Arc<OwnedFd>>) -> (Self, MemoryHost) {
        let (host_out, port_in) = queue(capacity);
        let (port_out, host_in) = queue(capacity);
        let port = Self { source: Source::Host(port_in), sink: Sink::Host(port_out), offloads, wake: wake.clone() };
        (port, MemoryHost { outgoing: host_out, incoming: host_in, wake: wake.map(Wake) })
    }
}

impl Port for MemoryPort {
    fn recv(&mut self, batch: &mut RxBatch) -> Result<usize, PortError> {
        let before = batch.len();
        match &mut self.source {
            Source::Replay { frames, next } => {
                if !frames.is_empty() {
                    while let Some(buffer) = batch.next_buffer() {
                        let (bytes, vnet) = &frames[*next];
                        buffer.space()[..bytes.len()].copy_from_slice(bytes);
                        buffer.set_frame(0, bytes.len());
                        batch.push(Some(*vnet));
                        *next = if *next + 1 < frames.len() { *next + 1 } else { 0 };
                    }
                }
            }
            Source::Host(incoming) => {
                // Cleared before the queue is looked at: a frame that arrives in between sets it again.
                if let Some(wake) = &self.wake {
                    clear(wake);
                }
                while let Some(buffer) = batch.next_buffer() {
                    match incoming.take() {
                        Ok((bytes, vnet)) => {
                            buffer.space()[..bytes.len()].copy_from_slice(&bytes);
                            buffer.set_frame(0, bytes.len());
                            batch.push(Some(vnet));
                            incoming.give_back(bytes);
                        }
                        Err(TryRecvError::Empty) => break,
                        Err(TryRecvError::Disconnected) if batch.len() == before => return Err(PortError::Gone),
                        Err(TryRecvError::Disconnected) => break,
                    }
                }
                if let Some(wake) = &self.wake
                    && !incoming.frames.is_empty()
                {
                    set(wake);
                }
            }
        }
        Ok(batch.len() - before)
    }

    #[inline(always)]
    fn send(&mut self, frame: &TxFrame<'_>) -> Result<(), DropReason> {
        if frame.bytes.len() < ADDRESSES_LEN {
            return Err(DropReason::Malformed);
        }
        match &mut self.sink {
            Sink::Counters(counts) => {
                counts.add(frame.wire_len());
                Ok(())
            }
            Sink::Host(outgoing) => outgoing.put_frame(frame),
        }
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.wake.as_ref().map(|fd| fd.as_fd())
    }
}

/// What lies behind a [`MemoryPort::pair`]: the side of the "cable" that a host would have.
pub struct MemoryHost {
    outgoing: Outgoing,
    incoming: Incoming,
    /// Last, because fields are dropped in order: the port is woken when the queues are disconnected already.
    wake: Option<Wake>,
}

impl MemoryHost {
    /// Puts one frame, as it would lie on the wire, into the port's queue.
    ///
    /// # Errors
    /// [`DropReason::PortQueueFull`] when the port holds its capacity already, [`DropReason::PortDown`] when the port is
    /// gone, [`DropReason::EgressMtu`] for more bytes than a [`crate::buffer::Buffer`] holds.
    pub fn send(&mut self, bytes: &[u8], vnet: VnetHeader) -> Result<(), DropReason> {
        self.outgoing.put(&[bytes], vnet)?;
        if let Some(Wake(wake)) = &self.wake {
            set(wake);
        }
        Ok(())
    }

    /// The next frame that the switch sent here, tag included, if one is waiting.
    pub fn try_recv(&mut self) -> Option<(Vec<u8>, VnetHeader)> {
        self.incoming.take().ok()
    }

    /// Gives the memory of a frame from [`MemoryHost::try_recv`] back to the port, for its next frame.
    pub fn recycle(&mut self, bytes: Vec<u8>) {
        self.incoming.give_back(bytes);
    }
}

/// What a [`MemoryPort::generator`] or [`MemoryPort::sink`] has been sent.
#[derive(Clone, Debug)]
pub struct MemoryCounters(Arc<Counts>);

impl MemoryCounters {
    /// Frames; a super-frame counts once.
    pub fn frames(&self) -> u64 {
        self.0.frames()
    }

    /// Bytes, tags included.
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

/// In cache lines of its own: another port's counts may be another worker's.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counts {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Counts {
    /// Only the port adds, so nothing is lost between reading and writing; a locked addition would be a large part of the
    /// walk that benches measure.
    fn add(&self, len: usize) {
        self.frames.store(self.frames() + 1, Ordering::Relaxed);
        self.bytes.store(self.bytes() + len as u64, Ordering::Relaxed);
    }

    fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// The writing end of one direction.
struct Outgoing {
    frames: Sender<(Vec<u8>, VnetHeader)>,
    empty: Receiver<Vec<u8>>,
    /// Memory that a refused frame left behind.
    spare: Option<Vec<u8>>,
}

impl Outgoing {
    #[inline(never)]
    fn put_frame(&mut self, frame: &TxFrame<'_>) -> Result<(), DropReason> {
        let Some(tag) = frame.tag else {
            return self.put(&[frame.bytes], frame.vnet);
        };
        let (addresses, rest) = frame.bytes.split_at(ADDRESSES_LEN);
        self.put(&[addresses, &tag, rest], frame.vnet.shifted(TAG_LEN as i16))
    }

    fn put(&mut self, parts: &[&[u8]], vnet: VnetHeader) -> Result<(), DropReason> {
        if parts.iter().map(|part| part.len()).sum::<usize>() > MAX_FRAME_LEN {
            return Err(DropReason::EgressMtu);
        }
        let mut bytes = self.spare.take().or_else(|| self.empty.try_recv().ok()).unwrap_or_default();
        bytes.clear();
        for part in parts {
            bytes.extend_from_slice(part);
        }
        self.frames.try_send((bytes, vnet)).map_err(|refused| match refused {
            TrySendError::Full((bytes, _)) => {
                self.spare = Some(bytes);
                DropReason::PortQueueFull
            }
            TrySendError::Disconnected(_) => DropReason::PortDown,
        })
    }
}

/// The reading end of one direction.
struct Incoming {
    frames: Receiver<(Vec<u8>, VnetHeader)>,
    empty: Sender<Vec<u8>>,
}

impl Incoming {
    fn take(&self) -> Result<(Vec<u8>, VnetHeader), TryRecvError> {
        self.frames.try_recv()
    }

    fn give_back(&self, bytes: Vec<u8>) {
        // Only foreign memory can find the channel full, and a writer that is gone needs none: either way it is freed.
        let _ = self.empty.try_send(bytes);
    }
}

fn queue(capacity: usize) -> (Outgoing, Incoming) {
    let capacity = capacity.max(1);
    let (frames_in, frames_out) = bounded(capacity);
    // One more than the frames: the writer may hold one as a spare while all others come back.
    let (empty_in, empty_out) = bounded(capacity + 1);
    (Outgoing { frames: frames_in, empty: empty_out, spare: None }, Incoming { frames: frames_out, empty: empty_in })
}

/// A host's hold on its port's eventfd.
struct Wake(Arc<OwnedFd>);

impl Drop for Wake {
    fn drop(&mut self) {
        set(&self.0);
    }
}

fn set(wake: &OwnedFd) {
    // EAGAIN: the counter is at its maximum, hence set. There is no other failure on a descriptor that is open.
    let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
}

fn clear(wake: &OwnedFd) {
    // EAGAIN: it was not set.
    let _ = rustix::io::read(wake, &mut [0; 8]);
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;
    use crate::offload::{Gso, PartialCsum};

    const CSUM: VnetHeader =
        VnetHeader { csum: Some(PartialCsum { start: 34, offset: 16 }), gso: Some((Gso::Tcp4, 1448)), gso_ecn: false };

    #[test]
    fn frames_cross_in_order_with_their_headers() {
        let (mut port, mut host) = MemoryPort::pair(8, Offloads::default());
        host.send(&frame(1, 60), VnetHeader::NONE).unwrap();
        host.send(&frame(2, 2000), CSUM).unwrap();
        let mut batch = RxBatch::new();
        assert_eq!(port.recv(&mut batch).unwrap(), 2);
        let got: Vec<_> = batch.iter_mut().map(|(bytes, vnet)| (bytes.to_vec(), *vnet)).collect();
        assert_eq!(got, [(frame(1, 60), Some(VnetHeader::NONE)), (frame(2, 2000), Some(CSUM))]);
        assert_eq!(port.recv(&mut batch).unwrap(), 0);
    }

    #[test]
    fn a_tag_is_written_behind_the_addresses_and_moves_the_checksum() {
        let (mut port, mut host) = MemoryPort::pair(8, Offloads::default());
        let bytes = frame(3, 100);
        port.send(&TxFrame { bytes: &bytes, tag: Some([0x81, 0x00, 0x60, 0x05]), vnet: CSUM }).unwrap();
        let (got, vnet) = host.try_recv().unwrap();
        assert_eq!(got[..12], bytes[..12]);
        assert_eq!(got[12..16], [0x81, 0x00, 0x60, 0x05]);
        assert_eq!(got[16..], bytes[12..]);
        assert_eq!(vnet.csum, Some(PartialCsum { start: 38, offset: 16 }));
        assert_eq!(vnet.gso, CSUM.gso);
    }

    #[test]
    fn a_full_queue_refuses_and_keeps_what_it_has() {
        let (mut port, mut host) = MemoryPort::pair(2, Offloads::default());
        for n in 0..4 {
            let bytes = frame(n, 64);
            let expected = if n < 2 { Ok(()) } else { Err(DropReason::PortQueueFull) };
            assert_eq!(port.send(&TxFrame::plain(&bytes)), expected);
            assert_eq!(host.send(&bytes, VnetHeader::NONE), expected);
        }
        assert_eq!(host.try_recv().unwrap().0, frame(0, 64));
        assert_eq!(host.try_recv().unwrap().0, frame(1, 64));
        assert!(host.try_recv().is_none());
    }

    #[test]
    fn a_batch_takes_its_capacity_and_leaves_the_rest() {
        let (mut port, mut host) = MemoryPort::pair(100, Offloads::default());
        for n in 0..40 {
            host.send(&frame(n, 64), VnetHeader::NONE).unwrap();
        }
        let mut batch = RxBatch::new();
        assert_eq!(port.recv(&mut batch).unwrap(), RxBatch::CAPACITY);
        batch.clear();
        assert_eq!(port.recv(&mut batch).unwrap(), 40 - RxBatch::CAPACITY);
        assert_eq!(batch.iter_mut().next().unwrap().0, frame(RxBatch::CAPACITY as u8, 64));
    }

    #[test]
    fn without_its_host_the_port_drains_and_is_gone() {
        let (mut port, mut host) = MemoryPort::pair(4, Offloads::default());
        host.send(&frame(1, 64), VnetHeader::NONE).unwrap();
        drop(host);
        let mut batch = RxBatch::new();
        assert_eq!(port.recv(&mut batch).unwrap(), 1);
        assert!(matches!(port.recv(&mut batch), Err(PortError::Gone)));
        assert_eq!(port.send(&TxFrame::plain(&frame(1, 64))), Err(DropReason::PortDown));
    }

    #[test]
    fn emptied_memory_is_used_again() {
        let (mut port, mut host) = MemoryPort::pair(1, Offloads::default());
        let bytes = frame(1, 1500);
        port.send(&TxFrame::plain(&bytes)).unwrap();
        let (first, _) = host.try_recv().unwrap();
        let address = first.as_ptr();
        host.recycle(first);
        for _ in 0..10 {
            port.send(&TxFrame::plain(&bytes)).unwrap();
            assert_eq!(port.send(&TxFrame::plain(&bytes)), Err(DropReason::PortQueueFull));
            let (again, _) = host.try_recv().unwrap();
            host.recycle(again);
        }
        // Two pieces of memory circulate now: the frame's and the refused frame's.
        let seen: Vec<_> = (0..2)
            .map(|_| {
                port.send(&TxFrame::plain(&bytes)).unwrap();
                let (again, _) = host.try_recv().unwrap();
                let seen = again.as_ptr();
                host.recycle(again);
                seen
            })
            .collect();
        assert!(seen.contains(&address), "{seen:?} without {address:?}");
    }

    #[test]
    fn the_eventfd_is_readable_while_frames_wait_and_when_the_host_goes() {
        let (mut port, mut host) = MemoryPort::pair_with_wakeup(100, Offloads::default()).unwrap();
        let mut batch = RxBatch::new();
        assert!(!readable(&port));
        for n in 0..40 {
            host.send(&frame(n, 64), VnetHeader::NONE).unwrap();
        }
        assert!(readable(&port));
        port.recv(&mut batch).unwrap();
        assert!(readable(&port), "eight frames are left");
        batch.clear();
        port.recv(&mut batch).unwrap();
        assert!(!readable(&port));
        drop(host);
        assert!(readable(&port));
        batch.clear();
        assert!(matches!(port.recv(&mut batch), Err(PortError::Gone)));
    }

    #[test]
    fn a_generator_fills_every_batch_in_turn_and_counts_what_it_is_sent() {
        let frames = (0..3).map(|n| (frame(n, 64), VnetHeader::NONE)).collect();
        let (mut port, counters) = MemoryPort::generator(frames, Offloads::default());
        let mut batch = RxBatch::new();
        assert_eq!(port.recv(&mut batch).unwrap(), RxBatch::CAPACITY);
        for (n, (bytes, _)) in batch.iter_mut().enumerate() {
            assert_eq!(bytes, frame((n % 3) as u8, 64));
            port.send(&TxFrame { bytes, tag: Some([0x81, 0, 0, 1]), vnet: VnetHeader::NONE }).unwrap();
        }
        assert_eq!((counters.frames(), counters.bytes()), (32, 32 * 68));
    }

    #[test]
    fn odd_lengths_are_refused_by_name() {
        let (mut port, mut host) = MemoryPort::pair(4, Offloads::default());
        assert_eq!(port.send(&TxFrame::plain(&[0; 11])), Err(DropReason::Malformed));
        assert_eq!(host.send(&vec![0; MAX_FRAME_LEN + 1], VnetHeader::NONE), Err(DropReason::EgressMtu));
        let (mut sink, counters) = MemoryPort::sink(Offloads::default());
        assert_eq!(sink.recv(&mut RxBatch::new()).unwrap(), 0);
        assert_eq!(sink.send(&TxFrame::plain(&[0; 11])), Err(DropReason::Malformed));
        assert_eq!(counters.frames(), 0);
    }

    fn frame(n: u8, len: usize) -> Vec<u8> {
        (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add(n)).collect()
    }

    fn readable(port: &MemoryPort) -> bool {
        let fd = port.poll_fd().unwrap();
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    }
}
