//! Taps with offloads: what the kernel's stack in a namespace sends and receives as super-frames, weft gets and gives as
//! such.
//!
//! A read is one frame, its virtio-net header in front; header and frame land in one [`crate::buffer::Buffer`], the header in its
//! headroom. A write is one frame as well. The kernel's end of the tap puts a tag into the frame's bytes before a read and
//! takes it off after a write, so tags need no care here.
//!
//! # What the kernel says when something happens to the interface
//! Tried on Linux 6.18.44:
//!
//! | state | read | write | epoll |
//! |---|---|---|---|
//! | down (never up, or set down) | EAGAIN, after what was queued before | EIO | nothing; setting down is no event |
//! | up again | as before | as before | as before |
//! | being deleted | EAGAIN | EIO | EPOLLERR on every queue, from here on |
//! | deleted (`ip link del`) | EBADFD | EBADFD | EPOLLERR |
//! | moved to another namespace, down | as down; what was queued before is read | EIO | nothing |
//! | that namespace died | EBADFD | EBADFD | EPOLLERR |
//! | the namespace that it was opened in was unmounted (`ip netns del`) | as before | as before | nothing |
//!
//! The last line is worth a second look. An open queue holds a reference to the namespace in which `/dev/net/tun` was
//! opened. So a namespace that was deleted by name lives on, with everything in it, until weft closes the tap, and no
//! error ever tells. Whoever wants to know has to watch the name.
//!
//! Frames that the kernel could not queue for weft are counted by the device alone ([`LinkLosses`]); the first queue reports them for
//! all.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, read};

use super::{Flushed, Offloads, Port, PortError, RxBatch, TxFrame, gather::VnetWriter, losses::LinkLosses};
pub use crate::sys::tun::TapError;
use crate::{
    bridge::DropReason,
    offload::{VNET_HEADER_LEN, VnetHeader},
    sys::tun::{self, Tap, TunOffloads},
};

const _: () = assert!(VNET_HEADER_LEN == tun::VNET_HDR_LEN);

/// Makes a tap in the calling thread's network namespace and returns its queues, one for each worker. The interface is
/// down, with an address and MTU of the kernel's choice, and vanishes with its last queue.
///
/// # Errors
/// See [`TapError`].
pub fn open(name: &str, queues: usize) -> Result<Vec<TapQueue>, TapError> {
    let tap = Tap::create(name, queues)?;
    let offloads = tap.offloads.into();
    let mut losses = LinkLosses::of_tap(tap.index);
    let queue =
        |fd| TapQueue { fd, reads: true, index: tap.index, offloads, writer: VnetWriter::new(), losses: losses.take() };
    Ok(tap.queues.into_iter().map(queue).collect())
}

/// The queues of a tap whose descriptors are one queue and duplicates of it: the first reads, all write. To be called in its
/// namespace, or none of them will know what the interface lost.
pub(crate) fn of_one_queue(tap: Tap) -> Vec<TapQueue> {
    let offloads = tap.offloads.into();
    let queue = |(number, fd)| TapQueue {
        fd,
        reads: number == 0,
        index: tap.index,
        offloads,
        writer: VnetWriter::new(),
        losses: None,
    };
    tap.queues.into_iter().enumerate().map(queue).collect()
}

/// One worker's queue of a tap.
pub struct TapQueue {
    fd: OwnedFd,
    reads: bool,
    index: u32,
    offloads: Offloads,
    writer: VnetWriter,
    /// Only in the first queue, because the counter is the device's.
    losses: Option<LinkLosses>,
}

impl TapQueue {
    /// The interface's index in the namespace where it was made.
    pub fn interface_index(&self) -> u32 {
        self.index
    }

    /// Super-frames that the kernel refused to take whole and that were cut for it.
    pub fn gso_fallbacks(&self) -> u64 {
        self.writer.fallback_count()
    }
}

impl Port for TapQueue {
    fn recv(&mut self, batch: &mut RxBatch) -> Result<usize, PortError> {
        let before = batch.len();
        while self.reads
            && let Some(buffer) = batch.next_buffer()
        {
            let space = buffer.space_with_front(VNET_HEADER_LEN);
            match read(&self.fd, &mut *space) {
                Ok(len) => {
                    // A frame that fills the space to the end was cut off there: the space is larger than any frame of
                    // a tap, whose super-frames end at 64 KiB.
                    let whole = len >= VNET_HEADER_LEN && len < space.len();
                    let header = space.first_chunk().filter(|_| whole).and_then(|bytes| VnetHeader::parse(bytes).ok());
                    buffer.set_frame(0, len.saturating_sub(VNET_HEADER_LEN));
                    batch.push(header);
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // tun.c:tun_put_user: a frame, now lost, that no virtio-net header can describe.
                Err(Errno::INVAL) => {
                    buffer.set_frame(0, 0);
                    batch.push(None);
                }
                Err(_) if batch.len() > before => break,
                // EFAULT is what a reader gets that the deletion finds inside tun.c:tun_ring_recv.
                Err(Errno::BADFD | Errno::FAULT) => return Err(PortError::Gone),
                Err(errno) => return Err(PortError::Io(errno.into())),
            }
        }
        Ok(batch.len() - before)
    }

    fn send(&mut self, frame: &TxFrame<'_>) -> Result<(), DropReason> {
        self.writer.write(&self.fd, frame, reason)
    }

    fn flush(&mut self) -> Flushed {
        self.writer.take_lost()
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.reads.then(|| self.fd.as_fd())
    }

    /// The device's count, on its first queue; 0 on the others. Two system calls.
    fn kernel_drops(&self) -> u64 {
        self.losses.as_ref().map_or(0, LinkLosses::count)
    }

    fn take_link_losses(&mut self) -> Option<LinkLosses> {
        self.losses.take()
    }
}

/// Why a tap did not take a frame.
pub(super) fn reason(errno: Errno) -> DropReason {
    match errno {
        // tun.c:tun_alloc_skb: too many written frames are under way already (TUNSETSNDBUF), or there is no memory.
        Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM => DropReason::PortQueueFull,
        // Down, and gone.
        Errno::IO | Errno::BADFD | Errno::NODEV | Errno::NXIO | Errno::NETDOWN => DropReason::PortDown,
        _ => DropReason::PortRefused,
    }
}

impl From<TunOffloads> for Offloads {
    fn from(tun: TunOffloads) -> Self {
        Self { csum: tun.csum(), tso4: tun.tso4(), tso6: tun.tso6(), uso: tun.uso() }
    }
}
