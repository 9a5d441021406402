//! Ports: where frames enter and leave the switch.
//!
//! A port has one queue per worker; a [`PortQueue`] is one of them and belongs to that worker alone. Reading fills an
//! [`RxBatch`]; writing takes a [`TxFrame`]. What a port can take as it is stands in its [`Offloads`]; the worker cuts
//! and completes everything else before ([`crate::offload`]).

pub mod fault;
mod gather;
pub mod losses;
pub mod memory;
pub mod packet;
pub mod plain_tap;
pub mod tap;

use std::{io, ops::Range, os::fd::BorrowedFd};

use self::losses::LinkLosses;
use crate::{
    bridge::DropReason,
    buffer::Buffer,
    offload::VnetHeader,
    wire::{TagBytes, vlan::TAG_LEN},
};

/// One worker's end of a port.
pub trait Port {
    /// Fills `batch` with what is waiting, at most its capacity, and returns how many frames that were. 0: nothing waits.
    ///
    /// # Errors
    /// [`PortError::Gone`] when the interface no longer exists; anything else is passing.
    fn recv(&mut self, batch: &mut RxBatch) -> Result<usize, PortError>;

    /// Takes one frame for sending, now or at the next [`Port::flush`].
    ///
    /// # Errors
    /// The reason under which the frame is to be counted.
    fn send(&mut self, frame: &TxFrame<'_>) -> Result<(), DropReason>;

    /// Sends what [`Port::send`] kept back; returns the frames that were lost in doing so, by reason.
    fn flush(&mut self) -> Flushed {
        Flushed::default()
    }

    /// What this port takes without help.
    fn offloads(&self) -> Offloads;

    /// What to poll for readability; `None` for a queue that this worker does not read, or that has no descriptor.
    fn poll_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Frames that the kernel dropped on this queue before weft could read them, since the queue was made. The first queue
    /// of a port also counts what the interface lost, until [`Port::take_link_losses`]; that may have to wait.
    fn kernel_drops(&self) -> u64 {
        0
    }

    /// Takes out what asks for the interface's own losses, for somebody who can wait for the answer. `None`: there is
    /// nothing to ask, or not on this queue.
    fn take_link_losses(&mut self) -> Option<LinkLosses> {
        None
    }
}

/// Why reading from a port failed.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// The interface was deleted, perhaps with its namespace.
    #[error("the interface is gone")]
    Gone,
    /// The interface exists but was set down. Said once; then nothing waits until it is up again.
    #[error("the interface is down")]
    Down,
    /// Anything else the kernel says.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What a port takes as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offloads {
    /// Frames with a partial checksum.
    pub csum: bool,
    /// TCP super-frames over IPv4.
    pub tso4: bool,
    /// TCP super-frames over IPv6.
    pub tso6: bool,
    /// UDP super-frames.
    pub uso: bool,
}

/// Frames lost by a flush.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flushed {
    /// Wire frames (segments) and bytes that could not be sent after all, and why.
    pub lost: Option<(DropReason, u64, u64)>,
}

impl Flushed {
    /// Adds to the losses. Of several reasons the last one's name stands for all.
    fn add(&mut self, reason: DropReason, frame_count: u64, byte_count: u64) {
        let (frames, bytes) = self.lost.map_or((0, 0), |(_, frames, bytes)| (frames, bytes));
        self.lost = Some((reason, frames + frame_count, bytes + byte_count));
    }
}

/// One frame on its way out, always held untagged; the tag to put on travels beside it, so that a flooded frame is
/// written tagged and untagged from the same bytes.
#[derive(Clone, Copy, Debug)]
pub struct TxFrame<'a> {
    /// The frame without the tag, from the Ethernet header on.
    pub bytes: &'a [u8],
    /// The tag to insert behind the addresses.
    pub tag: Option<TagBytes>,
    /// Offsets count in `bytes`, as if there were no tag: a port that writes the tag adds [`TAG_LEN`] to `csum.start`.
    pub vnet: VnetHeader,
}

impl<'a> TxFrame<'a> {
    /// A whole untagged frame.
    pub const fn plain(bytes: &'a [u8]) -> Self {
        Self { bytes, tag: None, vnet: VnetHeader::NONE }
    }

    /// Bytes on the wire, tag included.
    pub const fn wire_len(&self) -> usize {
        self.bytes.len() + if self.tag.is_some() { TAG_LEN } else { 0 }
    }
}

/// A fixed number of received frames, each with its virtio-net header parsed beside it.
pub struct RxBatch {
    buffers: Box<[Buffer]>,
    headers: Box<[Option<VnetHeader>]>,
    len: usize,
    /// How many of its buffers may be filled now.
    limit: usize,
}

impl RxBatch {
    /// Frames that one batch holds: enough to spread the cost of a wake-up and of the tables' load, few enough that the
    /// frames of a batch stay in the second-level cache. Into a tunnel 8 carried a fifth less small frames than 32, and 16 and
    /// 64 as many; from tap to tap all four were alike (`docs/performance.md`).
    pub const CAPACITY: usize = 32;

    /// An empty batch with all its buffers.
    pub fn new() -> Self {
        Self {
            buffers: (0..Self::CAPACITY).map(|_| Buffer::new()).collect(),
            headers: vec![Some(VnetHeader::NONE); Self::CAPACITY].into_boxed_slice(),
            len: 0,
            limit: Self::CAPACITY,
        }
    }

    /// Forgets all frames, and has room for as many as it can hold.
    pub fn clear(&mut self) {
        self.clear_for(Self::CAPACITY);
    }

    /// Forgets all frames, and has room for so many, or for as many as it can hold.
    pub fn clear_for(&mut self, limit: usize) {
        self.len = 0;
        self.limit = limit.min(Self::CAPACITY);
    }

    /// How many frames it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The next free buffer, if there is one; [`RxBatch::push`] makes it part of the batch.
    pub fn next_buffer(&mut self) -> Option<&mut Buffer> {
        self.buffers[..self.limit].get_mut(self.len)
    }

    /// All free buffers, for a reader that fills several at once; each [`RxBatch::push`] makes the next of them part of the
    /// batch.
    fn free_buffers(&mut self) -> &mut [Buffer] {
        &mut self.buffers[self.len..self.limit]
    }

    /// Adds the buffer that [`RxBatch::next_buffer`] gave out. `None`: its virtio-net header made no sense; the worker
    /// counts the frame as [`DropReason::BadOffload`].
    pub fn push(&mut self, vnet: Option<VnetHeader>) {
        debug_assert!(self.len < Self::CAPACITY);
        self.headers[self.len] = vnet;
        self.len += 1;
    }

    /// The frames, to be changed in place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&mut [u8], &Option<VnetHeader>)> {
        self.range_mut(0..self.len)
    }

    /// Some of the frames; the range lies within the batch.
    pub fn range(&self, range: Range<usize>) -> impl Iterator<Item = (&[u8], &Option<VnetHeader>)> {
        self.buffers[range.clone()].iter().map(Buffer::frame).zip(&self.headers[range])
    }

    /// The same, to be changed in place.
    #[inline]
    pub fn range_mut(&mut self, range: Range<usize>) -> impl Iterator<Item = (&mut [u8], &Option<VnetHeader>)> {
        self.buffers[range.clone()].iter_mut().map(Buffer::frame_mut).zip(&self.headers[range])
    }
}

impl Default for RxBatch {
    fn default() -> Self {
        Self::new()
    }
}

/// One worker's queue of any kind of port. An enum, not a trait object: the call is made for every frame.
pub enum PortQueue {
    /// A tap with offloads.
    Tap(tap::TapQueue),
    /// A tap without (`offload = false`).
    PlainTap(plain_tap::PlainTapQueue),
    /// A packet socket on an existing interface.
    Packet(packet::PacketQueue),
    /// A queue in memory.
    Memory(memory::MemoryPort),
    /// Any of these behind injected faults.
    Fault(Box<fault::FaultPort>),
}

macro_rules! each_port {
    ($self:ident, $port:ident => $call:expr) => {
        match $self {
            PortQueue::Tap($port) => $call,
            PortQueue::PlainTap($port) => $call,
            PortQueue::Packet($port) => $call,
            PortQueue::Memory($port) => $call,
            PortQueue::Fault($port) => $call,
        }
    };
}

impl Port for PortQueue {
    fn recv(&mut self, batch: &mut RxBatch) -> Result<usize, PortError> {
        each_port!(self, port => port.recv(batch))
    }

    #[inline(always)]
    fn send(&mut self, frame: &TxFrame<'_>) -> Result<(), DropReason> {
        each_port!(self, port => port.send(frame))
    }

    fn flush(&mut self) -> Flushed {
        each_port!(self, port => port.flush())
    }

    #[inline]
    fn offloads(&self) -> Offloads {
        each_port!(self, port => port.offloads())
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        each_port!(self, port => port.poll_fd())
    }

    fn kernel_drops(&self) -> u64 {
        each_port!(self, port => port.kernel_drops())
    }

    fn take_link_losses(&mut self) -> Option<LinkLosses> {
        each_port!(self, port => port.take_link_losses())
    }
}
