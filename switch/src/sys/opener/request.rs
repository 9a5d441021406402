//! What may be asked of the opener, and how it answers.
//!
//! Each request says what weft wants of a namespace or of a descriptor, and carries that descriptor; there is none to run a
//! program, to write a file, or to make a system call of the asker's choice. What is in a request is checked where it is
//! read, by types that admit nothing else.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    path::PathBuf,
};

use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, ipproto};
use serde::{Deserialize, Serialize};

/// What weft asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// A descriptor of a network namespace.
    Namespace(NamespaceName),
    /// A new, nameless namespace that belongs to the same user namespace as the one that is sent along.
    NewNamespace,
    /// A socket in the namespace that is sent along, or in the opener's own.
    Socket { kind: SocketKind, nonblocking: bool },
    /// A queue of a tap in the namespace that is sent along, or in the opener's own.
    TapQueue { name: String, queue: TapQueue },
    /// The namespace of the tap whose queue is sent along.
    TapNamespace,
    /// A change of an interface in the namespace that is sent along: an rtnetlink message. A new veth pair's other namespace is
    /// sent along behind it.
    Change { message: Vec<u8> },
    /// A larger buffer than others may have, for the socket that is sent along.
    Buffer { of: Buffer, bytes: usize },
    /// An address for the socket that is sent along, whose port only the privileged may have.
    Bind { address: SocketAddr },
    /// One of the kernel's tables about the namespace that is sent along, or about the opener's own.
    Table(Table),
    /// Which process has a socket open.
    SocketOwner { inode: u64 },
    /// The configuration file, whose path the opener was started with.
    Configuration,
    /// The control socket's file, whose path it was started with, shall go.
    RemoveSocket,
}

/// How a namespace is named.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NamespaceName {
    /// weft's own.
    Own,
    /// A name under `/run/netns`.
    Named(String),
    /// A file.
    Path(PathBuf),
    /// A process's.
    Pid(u32),
}

/// The kinds of sockets that weft has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum SocketKind {
    Udp4,
    Udp6,
    /// rtnetlink(7).
    Route,
    /// packet(7), raw.
    Packet,
    /// ICMP echo requests of the kernel's numbering (`net.ipv4.ping_group_range`).
    Echo4,
    Echo6,
    /// ICMP, raw.
    Icmp4,
    Icmp6,
}

impl SocketKind {
    const ALL: [Self; 8] =
        [Self::Udp4, Self::Udp6, Self::Route, Self::Packet, Self::Echo4, Self::Echo6, Self::Icmp4, Self::Icmp6];

    /// The arguments of socket(2).
    pub(super) fn arguments(self) -> (AddressFamily, SocketType, Option<Protocol>) {
        match self {
            Self::Udp4 => (AddressFamily::INET, SocketType::DGRAM, Some(ipproto::UDP)),
            Self::Udp6 => (AddressFamily::INET6, SocketType::DGRAM, Some(ipproto::UDP)),
            // No protocol is protocol 0: NETLINK_ROUTE; and for a packet socket, nothing until it is bound.
            Self::Route => (AddressFamily::NETLINK, SocketType::RAW, None),
            Self::Packet => (AddressFamily::PACKET, SocketType::RAW, None),
            Self::Echo4 => (AddressFamily::INET, SocketType::DGRAM, Some(ipproto::ICMP)),
            Self::Echo6 => (AddressFamily::INET6, SocketType::DGRAM, Some(ipproto::ICMPV6)),
            Self::Icmp4 => (AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)),
            Self::Icmp6 => (AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)),
        }
    }

    /// The kind that these arguments make; `None`: weft has no such sockets.
    pub(super) fn of(family: AddressFamily, kind: SocketType, protocol: Option<Protocol>) -> Option<Self> {
        // No protocol is UDP, for datagrams of the Internet.
        let is_udp = kind == SocketType::DGRAM && matches!(family, AddressFamily::INET | AddressFamily::INET6);
        let protocol = if is_udp { protocol.or(Some(ipproto::UDP)) } else { protocol };
        Self::ALL.into_iter().find(|known| known.arguments() == (family, kind, protocol))
    }

    pub(super) fn flags(nonblocking: bool) -> SocketFlags {
        if nonblocking { SocketFlags::CLOEXEC | SocketFlags::NONBLOCK } else { SocketFlags::CLOEXEC }
    }
}

/// The queues that a tap of weft's has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum TapQueue {
    /// The first one of many, which makes the tap.
    First,
    /// Another one, of a tap whose first the opener made.
    Further,
    /// The only one, without virtio-net headers, which makes the tap.
    Plain,
}

/// Buffers of sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Buffer {
    Receive,
    Send,
}

/// Tables of the kernel about a network namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Table {
    Snmp,
    Snmp6,
    Udp,
    Udp6,
}

impl Table {
    /// Its file, as the calling thread's namespace has it.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Snmp => "/proc/thread-self/net/snmp",
            Self::Snmp6 => "/proc/thread-self/net/snmp6",
            Self::Udp => "/proc/thread-self/net/udp",
            Self::Udp6 => "/proc/thread-self/net/udp6",
        }
    }
}

/// What the opener says; a descriptor that was asked for comes with [`Answer::Done`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    /// What the kernel answered to a [`Request::Change`].
    Netlink(Vec<u8>),
    /// To [`Request::SocketOwner`].
    Owner(SocketOwner),
    /// The first thing that it says: it has started, and this it could not take off itself.
    Ready(Vec<String>),
    Refused(Refused),
}

/// Who has a socket open.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum SocketOwner {
    /// A process.
    Process {
        /// Its number.
        pid: u32,
        /// What it calls itself (`/proc/PID/comm`).
        name: String,
    },
    /// No process.
    Nobody,
    /// Some processes could not be looked at.
    NotAllowed,
}

/// An [`io::Error`] on its way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Refused {
    errno: Option<i32>,
    kind: Kind,
    message: String,
    /// Of a tap: the device itself could not be opened.
    pub(super) at_device: bool,
}

/// The kinds of errors that weft tells apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Kind {
    NotFound,
    PermissionDenied,
    InvalidInput,
    AlreadyExists,
    Other,
}

impl Refused {
    pub(super) fn new(error: &io::Error) -> Self {
        let known = [
            (ErrorKind::NotFound, Kind::NotFound),
            (ErrorKind::PermissionDenied, Kind::PermissionDenied),
            (ErrorKind::InvalidInput, Kind::InvalidInput),
            (ErrorKind::AlreadyExists, Kind::AlreadyExists),
        ];
        let found = known.into_iter().find(|(kind, _)| *kind == error.kind());
        let kind = found.map_or(Kind::Other, |(_, kind)| kind);
        Self { errno: error.raw_os_error(), kind, message: error.to_string(), at_device: false }
    }
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        if let Some(errno) = refused.errno {
            return Self::from_raw_os_error(errno);
        }
        let kind = match refused.kind {
            Kind::NotFound => ErrorKind::NotFound,
            Kind::PermissionDenied => ErrorKind::PermissionDenied,
            Kind::InvalidInput => ErrorKind::InvalidInput,
            Kind::AlreadyExists => ErrorKind::AlreadyExists,
            Kind::Other => ErrorKind::Other,
        };
        Self::new(kind, refused.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_each_kind_is_known_by_its_arguments() {
        for kind in SocketKind::ALL {
            let (family, socket_type, protocol) = kind.arguments();
            assert_eq!(SocketKind::of(family, socket_type, protocol), Some(kind));
        }
        assert_eq!(SocketKind::of(AddressFamily::INET, SocketType::DGRAM, None), Some(SocketKind::Udp4));
        assert_eq!(SocketKind::of(AddressFamily::INET, SocketType::STREAM, None), None);
        assert_eq!(SocketKind::of(AddressFamily::INET, SocketType::RAW, None), None);
        assert_eq!(SocketKind::of(AddressFamily::UNIX, SocketType::STREAM, None), None);
        assert_eq!(SocketKind::of(AddressFamily::NETLINK, SocketType::RAW, Some(ipproto::UDP)), None);
    }

    #[test]
    fn errors_arrive_as_they_were() {
        let there = |error: &io::Error| io::Error::from(Refused::new(error));
        assert_eq!(there(&io::Error::from_raw_os_error(libc::ENOSPC)).raw_os_error(), Some(libc::ENOSPC));
        let worded = there(&io::Error::new(ErrorKind::NotFound, "there is no namespace left"));
        assert_eq!((worded.kind(), worded.to_string().as_str()), (ErrorKind::NotFound, "there is no namespace left"));
    }
}
