//! One worker's end of the underlay over UDP: receiving sockets of its own, and the sending sockets that all share.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arrayvec::ArrayVec;
use rustix::io::Errno;
use socket2::Socket;
use weft_vxlan::{HeaderFormat, entropy::SourcePorts};

use super::{
    GsoReport, Sent, Target, UnderlayBatch, UnderlayEnd,
    sockets::{DontFragment, Gso},
    tx::{Transmit, Tx},
};
pub use super::{
    rx::{Receiver, RxCounts},
    tx::TxCounts,
};
use crate::sys::udp::{Outgoing, SendArrays};

/// One worker's end of the underlay over UDP; [`UnderlaySockets`](super::sockets::UnderlaySockets) makes them.
pub struct UdpUnderlay {
    /// One for each format that is spoken.
    receivers: ArrayVec<Receiver, { HeaderFormat::ALL.len() }>,
    tx: Tx<UdpTransmit>,
}

impl UdpUnderlay {
    /// An end that hears nothing yet.
    pub(super) fn new(senders: Arc<Senders>) -> Self {
        let tx = Tx::new(UdpTransmit { senders, arrays: SendArrays::new() });
        Self { receivers: ArrayVec::new(), tx }
    }

    /// Listens for the receiver's format from now on, in place of another that did.
    pub fn add_receiver(&mut self, receiver: Receiver) {
        self.remove_receiver(receiver.format());
        self.receivers.push(receiver);
    }

    /// Listens for a format no more; what waits is lost.
    pub fn remove_receiver(&mut self, format: HeaderFormat) {
        self.receivers.retain(|receiver| receiver.format() != format);
    }

    #[inline]
    fn receiver(&self, format: HeaderFormat) -> Option<&Receiver> {
        self.receivers.iter().find(|receiver| receiver.format() == format)
    }

    /// What sending has cost so far.
    pub fn tx_counts(&self) -> TxCounts {
        self.tx.counts()
    }

    /// What receiving has cost so far at the port of a format.
    pub fn rx_counts(&self, format: HeaderFormat) -> RxCounts {
        self.receiver(format).map(Receiver::counts).unwrap_or_default()
    }
}

impl UnderlayEnd for UdpUnderlay {
    fn recv(&mut self, format: HeaderFormat, batch: &mut UnderlayBatch) -> io::Result<usize> {
        let receiver = self.receivers.iter_mut().find(|receiver| receiver.format() == format);
        match receiver {
            Some(receiver) => receiver.recv(batch),
            None => {
                batch.len = 0;
                Ok(0)
            }
        }
    }

    #[inline]
    fn reserve(&mut self, target: &Target, hash: u32, len: usize) -> &mut [u8] {
        self.tx.reserve(target, hash, len)
    }

    fn flush(&mut self, report: &mut dyn FnMut(Sent)) {
        self.tx.flush(report);
    }

    fn poll_fd(&self, format: HeaderFormat) -> Option<BorrowedFd<'_>> {
        self.receiver(format).map(Receiver::fd)
    }

    fn kernel_drops(&self) -> u64 {
        self.receivers.iter().map(Receiver::kernel_drops).sum()
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
