//! One worker's end of the underlay over UDP: a receiving socket of its own, and the sending sockets that all share.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::io::Errno;
use socket2::Socket;
use weft_vxlan::entropy::SourcePorts;

use super::{
    Sent, Target, UnderlayBatch, UnderlayEnd,
    rx::Rx,
    sockets::{DontFragment, Gso},
    tx::{Transmit, Tx},
};
pub use super::{rx::RxCounts, tx::TxCounts};
use crate::sys::udp::{Outgoing, SendArrays};

/// One worker's end of the underlay over UDP; [`UnderlaySockets`](super::sockets::UnderlaySockets) makes them.
pub struct UdpUnderlay {
    rx: Rx,
    tx: Tx<UdpTransmit>,
}

impl UdpUnderlay {
    pub(super) fn new(receiver: Socket, senders: Arc<Senders>) -> Self {
        Self { rx: Rx::new(receiver), tx: Tx::new(UdpTransmit { senders, arrays: SendArrays::new() }) }
    }

    /// What sending has cost so far.
    pub fn tx_counts(&self) -> TxCounts {
        self.tx.counts()
    }

    /// What receiving has cost so far.
    pub fn rx_counts(&self) -> RxCounts {
        self.rx.counts()
    }

    /// Whether runs of equal datagrams are handed to the kernel as one (UDP_SEGMENT): not if that was switched off, if the
    /// kernel does not know it, or if it has refused it since. All ends of an underlay answer alike.
    pub fn uses_gso(&self) -> bool {
        self.tx.transmit().takes_runs()
    }
}

impl UnderlayEnd for UdpUnderlay {
    fn recv(&mut self, batch: &mut UnderlayBatch) -> io::Result<usize> {
        self.rx.recv(batch)
    }

    #[inline]
    fn reserve(&mut self, target: &Target, hash: u32, len: usize) -> &mut [u8] {
        self.tx.reserve(target, hash, len)
    }

    fn flush(&mut self, report: &mut dyn FnMut(Sent)) {
        self.tx.flush(report);
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.rx.fd())
    }

    fn kernel_drops(&self) -> u64 {
        self.rx.kernel_drops()
    }
}

/// The sending sockets: one for each bucket of the source ports, and with [`DontFragment::Inherit`] a second such set for
/// datagrams that may be fragmented, because DF is an option of the socket and not of the datagram.
pub(super) struct Senders {
    pub(super) sockets: Box<[Socket]>,
    /// Sockets of one set.
    pub(super) bucket_count: usize,
    pub(super) source_ports: SourcePorts,
    pub(super) dont_fragment: DontFragment,
    pub(super) gso: Gso,
    /// Runs are handed to the kernel as they are. Shared by all workers: what it refused to one it refuses to all.
    pub(super) takes_runs: AtomicBool,
}

struct UdpTransmit {
    senders: Arc<Senders>,
    arrays: SendArrays,
}

impl Transmit for UdpTransmit {
    fn socket_count(&self) -> usize {
        self.senders.sockets.len()
    }

    #[inline]
    fn socket(&self, hash: u32, dont_fragment: bool) -> u16 {
        let Senders { bucket_count, source_ports, dont_fragment: policy, .. } = *self.senders;
        let bucket = source_ports.bucket(hash, bucket_count);
        let is_second_set = policy == DontFragment::Inherit && !dont_fragment;
        (bucket + if is_second_set { bucket_count } else { 0 }) as u16
    }

    fn may_fragment(&self, socket: u16) -> bool {
        match self.senders.dont_fragment {
            DontFragment::Set => false,
            DontFragment::Unset => true,
            DontFragment::Inherit => usize::from(socket) >= self.senders.bucket_count,
        }
    }

    fn takes_runs(&self) -> bool {
        self.senders.takes_runs.load(Ordering::Relaxed)
    }

    fn give_up_runs(&mut self, error: Errno) {
        let is_first = match self.senders.gso {
            Gso::Auto => self.senders.takes_runs.swap(false, Ordering::Relaxed),
            Gso::On | Gso::Off => false,
        };
        if is_first {
            tracing::warn!(%error, "the kernel refuses UDP_SEGMENT on this underlay; sending datagrams one by one from now on");
        }
    }

    fn send<'a>(&mut self, socket: u16, messages: impl Iterator<Item = Outgoing<'a>>) -> Result<usize, Errno> {
        self.arrays.send(self.senders.sockets[usize::from(socket)].as_fd(), messages)
    }
}

#[cfg(test)]
mod tests;
