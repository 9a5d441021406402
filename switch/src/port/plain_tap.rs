//! Plain taps, by the `tun-tap` crate: one queue, one frame a system call, every frame as the wire would see it.
//!
//! For ports with `offload = false`: what is sent is what a capture on the interface shows, and the kernel hands over
//! neither super-frames nor open checksums. It is also the measure for what [`super::tap`] gains.
//!
//! The device has one queue, so one worker reads, the first. All may write: a write is one frame, and the kernel
//! lets any number of threads write to one descriptor.
//!
//! Down, deletion and namespaces look as in [`super::tap`]; it is the same driver.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use rustix::io::Errno;

use super::{
    Offloads, Port, PortError, RxBatch, TxFrame, gather,
    losses::LinkLosses,
    tap::{TapError, reason},
};
use crate::{bridge::DropReason, offload::VnetHeader, sys::tun::PlainTap};

/// Makes a plain tap in the calling thread's network namespace and returns a handle for each worker, at least one; the
/// first one reads. The interface is down and vanishes with its last handle.
///
/// # Errors
/// See [`TapError`].
pub fn open(name: &str, workers: usize) -> Result<Vec<PlainTapQueue>, TapError> {
    let tap = PlainTap::create(name)?;
    let losses = LinkLosses::of_tap(tap.index);
    let mut queues = of_tap(tap, workers);
    queues[0].losses = losses;
    Ok(queues)
}

/// A handle for each worker, at least one, of a plain tap of which nobody says what its interface lost.
pub(crate) fn of_tap(tap: PlainTap, workers: usize) -> Vec<PlainTapQueue> {
    let tap = Arc::new(tap);
    let queue = |worker| PlainTapQueue { tap: Arc::clone(&tap), reads: worker == 0, losses: None };
    (0..workers.max(1)).map(queue).collect()
}

/// One worker's handle of a plain tap.
pub struct PlainTapQueue {
    tap: Arc<PlainTap>,
    reads: bool,
    /// Only in the handle that reads.
    losses: Option<LinkLosses>,
}

impl PlainTapQueue {
    /// The interface's index in the namespace where it was made.
    pub fn interface_index(&self) -> u32 {
        self.tap.index
    }
}

impl Port for PlainTapQueue {
    fn recv(&mut self, batch: &mut RxBatch) -> Result<usize, PortError> {
        let before = batch.len();
        while self.reads
            && let Some(buffer) = batch.next_buffer()
        {
            match self.tap.recv(buffer.space()) {
                Ok(len) => {
                    buffer.set_frame(0, len);
                    batch.push(Some(VnetHeader::NONE));
                }
                Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                    Some(Errno::AGAIN) => break,
                    Some(Errno::INTR) => {}
                    _ if batch.len() > before => break,
                    Some(Errno::BADFD | Errno::FAULT) => return Err(PortError::Gone),
                    _ => return Err(PortError::Io(io::Error::from(error.kind()))),
                },
            }
        }
        Ok(batch.len() - before)
    }

    fn send(&mut self, frame: &TxFrame<'_>) -> Result<(), DropReason> {
        gather::write_plain(&*self.tap, frame, reason)
    }

    fn offloads(&self) -> Offloads {
        Offloads::default()
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.reads.then(|| self.tap.as_fd())
    }

    /// The device's count, on the handle that reads; 0 on the others. Two system calls.
    fn kernel_drops(&self) -> u64 {
        self.losses.as_ref().map_or(0, LinkLosses::count)
    }

    fn take_link_losses(&mut self) -> Option<LinkLosses> {
        self.losses.take()
    }
}
