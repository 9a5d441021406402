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
    GsoReport, Sent, Target, UnderlayBatch, UnderlayEnd,
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

    fn gso(&self) -> GsoReport {
        let senders = &self.tx.transmit().senders;
        GsoReport {
            refused_runs: self.tx.counts().refused_runs,
            socket_count: senders.sockets.len(),
            off_count: senders.sockets.iter().filter(|sender| !sender.takes_runs()).count(),
        }
    }
}

/// The sending sockets: one for each bucket of the source ports, and with [`DontFragment::Inherit`] a second such set for
/// datagrams that may be fragmented, because DF is an option of the socket and not of the datagram.
pub(super) struct Senders {
    pub(super) sockets: Box<[Sender]>,
    pub(super) choice: SenderChoice,
    pub(super) gso: Gso,
    /// The first refusal of a run has been logged.
    pub(super) refusal_logged: AtomicBool,
}

/// How a flow's hash chooses among the sending sockets.
#[derive(Clone, Copy, Debug)]
pub(super) struct SenderChoice {
    /// Sockets of one set.
    pub(super) bucket_count: usize,
    pub(super) source_ports: SourcePorts,
    pub(super) dont_fragment: DontFragment,
}

impl SenderChoice {
    #[inline]
    pub(super) fn socket(&self, hash: u32, dont_fragment: bool) -> u16 {
        let Self { bucket_count, source_ports, dont_fragment: policy } = *self;
        let bucket = source_ports.bucket(hash, bucket_count);
        let is_second_set = policy == DontFragment::Inherit && !dont_fragment;
        (bucket + if is_second_set { bucket_count } else { 0 }) as u16
    }
}

/// A sending socket.
pub(super) struct Sender {
    pub(super) socket: Socket,
    /// Runs are handed to the kernel as they are. What it refused to one worker on this socket it refuses to all.
    takes_runs: AtomicBool,
}

impl Sender {
    pub(super) fn new(socket: Socket, takes_runs: bool) -> Self {
        Self { socket, takes_runs: AtomicBool::new(takes_runs) }
    }

    #[inline]
    fn takes_runs(&self) -> bool {
        self.takes_runs.load(Ordering::Relaxed)
    }
}

struct UdpTransmit {
    senders: Arc<Senders>,
    arrays: SendArrays,
}

impl UdpTransmit {
    #[inline]
    fn sender(&self, socket: u16) -> &Sender {
        &self.senders.sockets[usize::from(socket)]
    }
}

impl Transmit for UdpTransmit {
    fn socket_count(&self) -> usize {
        self.senders.sockets.len()
    }

    #[inline]
    fn socket(&self, hash: u32, dont_fragment: bool) -> u16 {
        self.senders.choice.socket(hash, dont_fragment)
    }

    fn may_fragment(&self, socket: u16) -> bool {
        let choice = &self.senders.choice;
        match choice.dont_fragment {
            DontFragment::Set => false,
            DontFragment::Unset => true,
            DontFragment::Inherit => usize::from(socket) >= choice.bucket_count,
        }
    }

    fn takes_runs(&self, socket: u16) -> bool {
        self.sender(socket).takes_runs()
    }

    fn give_up_runs(&mut self, socket: u16, error: Errno) {
        match self.senders.gso {
            Gso::Auto => self.sender(socket).takes_runs.store(false, Ordering::Relaxed),
            Gso::On | Gso::Off => return,
        }
        // The other sockets that meet the same device or policy would only say the same; `weft show ledger` counts them.
        if !self.senders.refusal_logged.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "the kernel refuses UDP_SEGMENT; sockets where it does send datagrams one by one from now on");
        }
    }

    fn send<'a>(&mut self, socket: u16, messages: impl Iterator<Item = Outgoing<'a>>) -> Result<usize, Errno> {
        self.arrays.send(self.senders.sockets[usize::from(socket)].socket.as_fd(), messages)
    }
}

#[cfg(test)]
mod tests;
