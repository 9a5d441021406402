//! Receiving: a batch of buffers with one `recvmmsg`, each holding a datagram or a run that UDP_GRO put together.

use std::{
    cell::Cell,
    io,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::io::Errno;
use socket2::Socket;
use weft_vxlan::HeaderFormat;

use super::{Arrival, UnderlayBatch};
use crate::{
    buffer::{Buffer, MAX_FRAME_LEN},
    sys::udp::{RecvArrays, receive_drops},
};

// What `Buffer::space` gives takes the longest datagram, and so the longest run.
const _: () = assert!(MAX_FRAME_LEN > u16::MAX as usize);

/// What receiving has cost so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RxCounts {
    /// Calls of `recvmmsg`.
    pub calls: u64,
    /// Buffers that they filled.
    pub buffers: u64,
}

/// What an underlay's end receives with at the port of one format.
pub struct Receiver {
    format: HeaderFormat,
    socket: Socket,
    arrays: RecvArrays,
    counts: RxCounts,
    drops: Cell<Drops>,
}

impl Receiver {
    pub(super) fn new(format: HeaderFormat, socket: Socket) -> Self {
        let arrays = RecvArrays::new(UnderlayBatch::CAPACITY);
        Self { format, socket, arrays, counts: RxCounts::default(), drops: Cell::default() }
    }

    /// What the datagrams are that come here.
    pub fn format(&self) -> HeaderFormat {
        self.format
    }

    /// See [`UnderlayEnd::recv`](super::UnderlayEnd::recv).
    pub(super) fn recv(&mut self, batch: &mut UnderlayBatch) -> io::Result<usize> {
        batch.len = 0;
        self.counts.calls += 1;
        let buffers = batch.buffers.iter_mut().map(Buffer::space);
        let count = match self.arrays.recv(self.socket.as_fd(), buffers) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        self.counts.buffers += count as u64;
        for (index, (buffer, arrival)) in batch.buffers.iter_mut().zip(&mut batch.arrivals).take(count).enumerate() {
            let received = self.arrays.received(index);
            debug_assert!(!received.truncated, "the buffer takes the longest datagram");
            // A cut datagram must not pass for a whole one; an empty one is counted as truncated.
            let len = if received.truncated { 0 } else { received.len };
            buffer.set_frame(0, len);
            let stride = received.segment_len.unwrap_or(len).max(1);
            *arrival = Arrival { format: self.format, source: received.source, tos: received.tos, stride };
        }
        batch.len = count;
        Ok(count)
    }

    /// See [`UnderlayEnd::kernel_drops`](super::UnderlayEnd::kernel_drops).
    ///
    /// Asked of the kernel (SO_MEMINFO) and not taken from the datagrams (SO_RXQ_OVFL), which tell the number only with the
    /// next one that finds room: after a burst the last drops would stay unknown until somebody sends again.
    pub(super) fn kernel_drops(&self) -> u64 {
        let mut drops = self.drops.get();
        if let Ok(now) = receive_drops(self.socket.as_fd()) {
            drops = drops.advanced_to(now);
            self.drops.set(drops);
        }
        drops.total
    }

    pub(super) fn counts(&self) -> RxCounts {
        self.counts
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A count that the kernel keeps modulo 2^32, and its true value as long as it is looked at before it goes round once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Drops {
    last: u32,
    total: u64,
}

impl Drops {
    fn advanced_to(self, now: u32) -> Self {
        Self { last: now, total: self.total + u64::from(now.wrapping_sub(self.last)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_go_on_counting_when_the_kernels_number_starts_anew() {
        let drops = Drops::default().advanced_to(u32::MAX - 1).advanced_to(3);
        assert_eq!(drops, Drops { last: 3, total: u64::from(u32::MAX) + 4 });
    }
}
