//! The underlay: UDP datagrams to and from other VTEPs.
//!
//! Each worker has an [`Underlay`] of its own: one receiving socket on the port of each [`HeaderFormat`] that is spoken
//! (SO_REUSEPORT spreads peers' flows over the workers) and a share of the sending sockets, whose source ports carry the
//! entropy of the inner flows (RFC 7348 section 5).
//!
//! Sending reserves a place in the queue, and the caller writes tunnel header and inner frame there once, in place;
//! equal-sized neighbours to one VTEP leave as one `sendmsg` with UDP_SEGMENT, everything of a batch as one `sendmmsg`.

pub mod events;
pub mod memory;
pub mod mib;
mod owner;
mod queue;
mod rx;
pub mod sockets;
mod tx;
pub mod udp;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::Range,
    os::fd::BorrowedFd,
};

use weft_vxlan::HeaderFormat;

use crate::{
    bridge::DropReason,
    buffer::Buffer,
    ids::{BridgeId, VtepId},
};

/// Where one datagram goes, with the outer header's fields that can differ from datagram to datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// The bridge whose frame it carries, for the ledger.
    pub bridge: BridgeId,
    /// The VTEP that it goes to, for the ledger.
    pub vtep: VtepId,
    /// The VTEP's underlay address and UDP port.
    pub address: SocketAddr,
    /// Outer TOS (IPv4) or traffic class (IPv6): DSCP and ECN.
    pub tos: u8,
    /// Outer TTL (IPv4) or hop limit (IPv6).
    pub ttl: u8,
    /// Outer DF bit (IPv4); for IPv6 whether the kernel may fragment at the source.
    pub dont_fragment: bool,
    /// Bytes of the tunnel header, options included, with which the payload begins: they are not the frame's.
    pub header_len: u16,
}

/// What became of datagrams that had been queued together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The bridge and VTEP of the [`Target`].
    pub bridge: BridgeId,
    /// See `bridge`.
    pub vtep: VtepId,
    /// Inner wire frames: datagrams.
    pub frames: u64,
    /// Inner bytes: the datagrams' payloads without their tunnel headers.
    pub bytes: u64,
    /// Sent, or why not.
    pub result: Result<(), DropReason>,
}

/// One worker's end of the underlay.
pub trait UnderlayEnd {
    /// Fills `batch` with what is waiting at the port of a format, and returns how many buffers that were. 0: nothing waits, or
    /// nobody listens there.
    ///
    /// # Errors
    /// What the kernel says; the caller logs it and goes on.
    fn recv(&mut self, format: HeaderFormat, batch: &mut UnderlayBatch) -> io::Result<usize>;

    /// A place of exactly `len` bytes for one datagram's payload, which the caller must fill. `hash` is the inner
    /// flow's; equal hashes take the same source port.
    ///
    /// `len` is at most a frame of [`MAX_FRAME_LEN`](crate::buffer::MAX_FRAME_LEN) and its tunnel header; what exceeds
    /// [`MAX_DATAGRAM_LEN`] comes back as [`DropReason::UnderlayMtu`]. The place may hold old bytes.
    fn reserve(&mut self, target: &Target, hash: u32, len: usize) -> &mut [u8];

    /// Sends everything reserved so far and says what became of it.
    fn flush(&mut self, report: &mut dyn FnMut(Sent));

    /// What to poll for readability at the port of a format; `None` if nobody listens there.
    fn poll_fd(&self, format: HeaderFormat) -> Option<BorrowedFd<'_>>;

    /// Datagrams that the kernel dropped on these sockets before weft could read them, up to this moment; a run that it had
    /// put together counts once. Costs a system call: for the ledger, not for every batch.
    fn kernel_drops(&self) -> u64 {
        0
    }

    /// How sending many datagrams as one fares.
    fn gso(&self) -> GsoReport {
        GsoReport::default()
    }
}

/// How sending many datagrams as one fares at one end: UDP_SEGMENT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GsoReport {
    /// Runs of equal datagrams that the kernel refused from this end, so that they were sent one by one.
    pub refused_runs: u64,
    /// Sending sockets, which all ends share.
    pub socket_count: usize,
    /// Those of them that send one by one: because that was asked for, because the kernel does not know UDP_SEGMENT, or
    /// because it has refused a run of this socket.
    pub off_count: usize,
}

/// The largest UDP payload that IPv4 carries: 65,535 - 20 - 8.
pub const MAX_DATAGRAM_LEN: usize = 65_507;

/// What one receive buffer holds: one datagram, or several of equal length from one source that the kernel put together
/// (UDP_GRO), the last perhaps shorter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// What the port says that the datagrams are.
    pub format: HeaderFormat,
    /// The sender's address.
    pub source: IpAddr,
    /// Outer TOS or traffic class as received.
    pub tos: u8,
    /// Length of each datagram, the last perhaps shorter; at least 1, so that it is safe to cut by. A datagram without
    /// payload is an empty buffer: cutting yields nothing, and the caller counts it as truncated.
    pub stride: usize,
}

/// A fixed number of receive buffers, each with what is known about it.
pub struct UnderlayBatch {
    pub(super) buffers: Box<[Buffer]>,
    pub(super) arrivals: Box<[Arrival]>,
    pub(super) len: usize,
}

impl UnderlayBatch {
    /// Buffers of one `recvmmsg`. With UDP_GRO each can hold up to 64 KiB.
    pub const CAPACITY: usize = 32;

    /// An empty batch with all its buffers.
    pub fn new() -> Self {
        let nobody = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        let nothing = Arrival { format: HeaderFormat::Vxlan, source: nobody, tos: 0, stride: 0 };
        Self {
            buffers: (0..Self::CAPACITY).map(|_| Buffer::new()).collect(),
            arrivals: vec![nothing; Self::CAPACITY].into_boxed_slice(),
            len: 0,
        }
    }

    /// How many buffers hold something.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Behind the last datagram.
    pub fn end(&self) -> Mark {
        Mark { buffer: self.len, offset: 0 }
    }

    /// Whether a buffer holds more than one datagram.
    pub fn holds_a_run(&self) -> bool {
        let mut filled = self.buffers.iter().zip(&self.arrivals).take(self.len);
        filled.any(|(buffer, arrival)| buffer.frame().len() > arrival.stride)
    }

    /// Each datagram from there on: where it begins, where the next one does, what is known of it, and its payload.
    pub fn datagrams(&self, from: Mark) -> impl Iterator<Item = (Mark, Mark, Arrival, &[u8])> {
        self.bounds(from..self.end()).flat_map(|(buffer, bounds)| {
            let (arrival, bytes) = (self.arrivals[buffer], self.buffers[buffer].frame());
            let begins = (bounds.start..bounds.end.max(bounds.start + 1)).step_by(arrival.stride);
            begins.map(move |offset| {
                let next = offset + arrival.stride;
                let behind = if next < bytes.len() {
                    Mark { buffer, offset: next }
                } else {
                    Mark { buffer: buffer + 1, offset: 0 }
                };
                (Mark { buffer, offset }, behind, arrival, &bytes[offset..next.min(bytes.len())])
            })
        })
    }

    /// Each buffer's content; cut it by [`Arrival::stride`].
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Arrival, &mut [u8])> {
        self.arrivals.iter().copied().zip(self.buffers[..self.len].iter_mut().map(Buffer::frame_mut))
    }

    /// The same, of what lies between two marks.
    pub fn between_mut(&mut self, range: Range<Mark>) -> impl Iterator<Item = (Arrival, &mut [u8])> {
        let Range { start, end } = range;
        let buffers = self.buffers[..self.len].iter_mut().map(Buffer::frame_mut).zip(&self.arrivals).enumerate();
        buffers.skip(start.buffer).map_while(move |(index, (bytes, arrival))| {
            let bounds = bounds(index, bytes.len(), start, end)?;
            Some((*arrival, &mut bytes[bounds]))
        })
    }

    fn bounds(&self, range: Range<Mark>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let Range { start, end } = range;
        (start.buffer..self.len)
            .map_while(move |index| Some((index, bounds(index, self.buffers[index].frame().len(), start, end)?)))
    }
}

/// What of a buffer of `len` bytes lies between two marks, of which the first is not behind it; `None` if the second is before
/// its content.
fn bounds(index: usize, len: usize, start: Mark, end: Mark) -> Option<Range<usize>> {
    let from = if index == start.buffer { start.offset } else { 0 };
    match end {
        Mark { buffer, .. } if index < buffer => Some(from..len),
        Mark { buffer, offset } if index == buffer && offset > from => Some(from..offset.min(len)),
        Mark { .. } => None,
    }
}

/// A place in a batch of datagrams, where one of them begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    buffer: usize,
    offset: usize,
}

impl Mark {
    /// Before the first datagram.
    pub const START: Self = Self { buffer: 0, offset: 0 };
}

impl Default for UnderlayBatch {
    fn default() -> Self {
        Self::new()
    }
}

/// One worker's end of any kind of underlay. There is one a worker, so the variants' sizes don't matter.
#[allow(clippy::large_enum_variant)]
pub enum Underlay {
    /// UDP sockets.
    Udp(udp::UdpUnderlay),
    /// Queues in memory.
    Memory(memory::MemoryUnderlay),
}

macro_rules! each_underlay {
    ($self:ident, $underlay:ident => $call:expr) => {
        match $self {
            Underlay::Udp($underlay) => $call,
            Underlay::Memory($underlay) => $call,
        }
    };
}

impl UnderlayEnd for Underlay {
    fn recv(&mut self, format: HeaderFormat, batch: &mut UnderlayBatch) -> io::Result<usize> {
        each_underlay!(self, underlay => underlay.recv(format, batch))
    }

    fn reserve(&mut self, target: &Target, hash: u32, len: usize) -> &mut [u8] {
        each_underlay!(self, underlay => underlay.reserve(target, hash, len))
    }

    fn flush(&mut self, report: &mut dyn FnMut(Sent)) {
        each_underlay!(self, underlay => underlay.flush(report));
    }

    fn poll_fd(&self, format: HeaderFormat) -> Option<BorrowedFd<'_>> {
        each_underlay!(self, underlay => underlay.poll_fd(format))
    }

    fn kernel_drops(&self) -> u64 {
        each_underlay!(self, underlay => underlay.kernel_drops())
    }

    fn gso(&self) -> GsoReport {
        each_underlay!(self, underlay => underlay.gso())
    }
}
