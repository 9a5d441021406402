//! What the underlay says about datagrams that were sent: too big, or unreachable.
//!
//! Routers and hosts say so by ICMP, and the kernel keeps it in the error queue of the socket that sent the datagram which
//! the ICMP packet quotes (`sys::error_queue`). Workers send through these sockets and never read their queues: that is for
//! the control plane, which has [`ErrorQueues`].
//!
//! Nothing of it is to be believed without a look at what is quoted: anybody can send ICMP. A router may quote as little as 8
//! bytes behind the IP header (RFC 792), which is the UDP header and nothing of ours.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use arrayvec::ArrayVec;
use rustix::io::Errno;

use super::udp::Senders;
use crate::sys::error_queue::{Origin, QueuedError, next_error};

/// Bytes of a quoted datagram that are kept: the tunnel header without options.
pub const QUOTED_LEN: usize = 8;

/// One thing that the underlay said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UnderlayEvent {
    /// A datagram was too big for a link behind the first (ICMP: fragmentation needed; ICMPv6: packet too big).
    TooBig {
        /// The VTEP that it was sent to.
        peer: SocketAddr,
        /// The MTU of that link: bytes of an IP packet.
        mtu: u32,
        /// The router that says so.
        from: Option<IpAddr>,
        /// The beginning of the datagram's payload; empty if the router did not quote that far.
        quoted: ArrayVec<u8, QUOTED_LEN>,
    },
    /// A datagram was too big for the link that it was to leave by: the kernel's own word.
    TooBigForLink {
        /// The VTEP that it was for.
        peer: SocketAddr,
        /// The link's MTU.
        mtu: u32,
    },
    /// A datagram did not arrive.
    Unreachable {
        /// The VTEP that it was sent to.
        peer: SocketAddr,
        /// Who says so.
        from: Option<IpAddr>,
        /// What a system call would say.
        error: Errno,
        /// As in [`UnderlayEvent::TooBig`].
        quoted: ArrayVec<u8, QUOTED_LEN>,
    },
}

/// The error queues of an underlay's sending sockets. Keeps the sockets open.
#[derive(Clone)]
pub struct ErrorQueues {
    senders: Arc<Senders>,
}

impl ErrorQueues {
    pub(super) const fn new(senders: Arc<Senders>) -> Self {
        Self { senders }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.senders.sockets.len()
    }

    /// One of them: its descriptor has an error (EPOLLERR) when something is in it.
    pub fn queue(&self, index: usize) -> Option<ErrorQueue> {
        (index < self.count()).then(|| ErrorQueue { senders: Arc::clone(&self.senders), index })
    }
}

/// The error queue of one sending socket.
pub struct ErrorQueue {
    senders: Arc<Senders>,
    index: usize,
}

impl ErrorQueue {
    /// Takes the oldest event off the queue; `None`: it is empty.
    ///
    /// # Errors
    /// What the kernel says, if that is something else.
    pub fn next(&self) -> Result<Option<UnderlayEvent>, Errno> {
        loop {
            let mut quoted = [0; QUOTED_LEN];
            match next_error(self.as_fd(), &mut quoted) {
                Ok(error) => match event(&error, &quoted[..error.quoted_len]) {
                    Some(event) => return Ok(Some(event)),
                    None => continue,
                },
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for ErrorQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.senders.sockets[self.index].socket.as_fd()
    }
}

impl std::os::fd::AsRawFd for ErrorQueue {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// `None`: nothing that a VTEP has to know.
fn event(error: &QueuedError, quoted: &[u8]) -> Option<UnderlayEvent> {
    let peer = error.destination?;
    let from = error.offender;
    let quoted = || quoted.iter().copied().take(QUOTED_LEN).collect();
    match (error.origin, error.errno) {
        (Origin::Icmp, Errno::MSGSIZE) => Some(UnderlayEvent::TooBig { peer, mtu: error.info, from, quoted: quoted() }),
        (Origin::Icmp, errno) => Some(UnderlayEvent::Unreachable { peer, from, error: errno, quoted: quoted() }),
        (Origin::Local, Errno::MSGSIZE) => Some(UnderlayEvent::TooBigForLink { peer, mtu: error.info }),
        (Origin::Local | Origin::Other, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(origin: Origin, errno: Errno) -> QueuedError {
        QueuedError {
            destination: Some("192.0.2.2:4789".parse().unwrap()),
            origin,
            errno,
            icmp: (3, 4),
            info: 1400,
            offender: Some("198.51.100.1".parse().unwrap()),
            quoted_len: 8,
        }
    }

    #[test]
    fn routers_and_the_kernel_itself_say_different_things() {
        let (peer, from) = ("192.0.2.2:4789".parse().unwrap(), Some("198.51.100.1".parse().unwrap()));
        let header = [8, 0, 0, 0, 0, 0, 42, 0];
        let quoted: ArrayVec<_, 8> = header.into();
        let told = |origin, errno| event(&queued(origin, errno), &header);
        let too_big = UnderlayEvent::TooBig { peer, mtu: 1400, from, quoted: quoted.clone() };
        assert_eq!(told(Origin::Icmp, Errno::MSGSIZE), Some(too_big));
        let unreachable = UnderlayEvent::Unreachable { peer, from, error: Errno::CONNREFUSED, quoted };
        assert_eq!(told(Origin::Icmp, Errno::CONNREFUSED), Some(unreachable));
        let link = UnderlayEvent::TooBigForLink { peer, mtu: 1400 };
        assert_eq!(told(Origin::Local, Errno::MSGSIZE), Some(link));
        assert_eq!(told(Origin::Local, Errno::NETUNREACH), None);
        assert_eq!(told(Origin::Other, Errno::MSGSIZE), None);
        assert_eq!(event(&QueuedError { destination: None, ..queued(Origin::Icmp, Errno::MSGSIZE) }, &[]), None);
    }
}
