//! Opening the underlay's sockets.
//!
//! **Receivers**: for each format that is spoken one for each worker, all bound to the VTEP's address and the format's port
//! with SO_REUSEPORT, so that the kernel spreads what arrives over them by a hash of the outer addresses and ports: one outer
//! flow always reaches the same worker.
//! SO_REUSEPORT alone would also let a second weft of the same user join unnoticed and take half of the traffic. So the first
//! receiver is bound *without* it, which fails if anybody is there, and gets it afterwards; the kernel makes it the first
//! member of the group when the second one is bound (`net/core/sock_reuseport.c`, reuseport_add_sock).
//!
//! **Senders**: the outer source port carries the entropy of the inner flow (RFC 7348 section 5). A process can't write any
//! source port it likes, so there is a socket for each bucket of the port range ([`SourcePorts::bucket`]), shared by all
//! workers: the kernel locks nothing for long while it sends. Nothing is expected to arrive there; a filter that takes nothing
//! keeps strangers from filling memory. What ICMP says of the datagrams sent there queues up apart ([`super::events`]).
//!
//! All functions work in the network namespace of the calling thread, or the one that it visits
//! ([`crate::sys::netns::Netns::making`]); the sockets stay in it wherever they are used.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, atomic::AtomicBool},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, ipproto,
        sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery},
    },
};
use socket2::{SockFilter, Socket};
use weft_vxlan::{HeaderFormat, entropy::SourcePorts};

use super::{
    events::ErrorQueues,
    owner::port_owner,
    udp::{Receiver, Sender, SenderChoice, Senders, UdpUnderlay},
};
use crate::sys::{
    error_queue::set_errors_queued,
    inside,
    opener::Buffer,
    udp::{has_udp_segment, set_checksums_sent, set_udp_gro, set_zero_checksums_accepted},
};

/// What the underlay's sockets are to be like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnderlaySettings {
    /// The VTEP's own address: source of what is sent, and the only one that is listened on.
    pub address: IpAddr,
    /// The UDP port of VXLAN, with group policy or without; 0: one that is free.
    pub port: u16,
    /// The UDP port of VXLAN-GPE; 0: one that is free.
    pub gpe_port: u16,
    /// The UDP port of Geneve; 0: one that is free.
    pub geneve_port: u16,
    /// The formats whose ports are listened on, each once.
    pub formats: Vec<HeaderFormat>,
    /// How many ends are wanted, one a worker; 0 counts as 1.
    pub workers: usize,
    /// Range of the outer source ports.
    pub source_port_range: SourcePorts,
    /// How many different source ports are used, one socket each; at least 1, at most what the range has.
    pub source_ports: u16,
    /// The outer DF bit.
    pub dont_fragment: DontFragment,
    /// Whether equal-sized datagrams are handed to the kernel as one.
    pub gso: Gso,
    /// Bytes asked for the receive buffer of each receiver.
    pub receive_buffer: usize,
    /// Bytes asked for the send buffer of each sender.
    pub send_buffer: usize,
    /// Whether what is sent has UDP checksums. The kernel sends nothing as one ([`Gso`]) from sockets without.
    pub checksums: bool,
    /// Whether datagrams over IPv6 without UDP checksum are taken (RFC 6936); over IPv4 they always are.
    pub zero_checksums_accepted: bool,
}

impl UnderlaySettings {
    /// The kernel doubles what it is asked for, for its own book-keeping, in which a datagram of 1,500 bytes takes some
    /// 2,300. So 7,000 of them find room: what arrives at a million a second while a worker is off its core for 7 ms, two
    /// or three time slices of the scheduler. More would only hide for how long a worker can't keep up.
    pub const DEFAULT_RECEIVE_BUFFER: usize = 8 << 20;
    /// The kernel's default of 208 KiB holds three runs of 64 KiB; a batch can make sixty for one socket.
    pub const DEFAULT_SEND_BUFFER: usize = 4 << 20;

    /// VXLAN at port 4789, one worker, 16 source ports of 49152 to 65535, DF set, segmentation offload as far as it works.
    pub fn new(address: IpAddr) -> Self {
        Self {
            address,
            port: HeaderFormat::Vxlan.default_port(),
            gpe_port: HeaderFormat::VxlanGpe.default_port(),
            geneve_port: HeaderFormat::Geneve.default_port(),
            formats: vec![HeaderFormat::Vxlan],
            workers: 1,
            source_port_range: SourcePorts::RECOMMENDED,
            source_ports: 16,
            dont_fragment: DontFragment::Set,
            gso: Gso::Auto,
            receive_buffer: Self::DEFAULT_RECEIVE_BUFFER,
            send_buffer: Self::DEFAULT_SEND_BUFFER,
            checksums: true,
            zero_checksums_accepted: false,
        }
    }

    /// The UDP port of a format, whether it is listened on or not.
    pub const fn port_of(&self, format: HeaderFormat) -> u16 {
        match format {
            HeaderFormat::Vxlan => self.port,
            HeaderFormat::VxlanGpe => self.gpe_port,
            HeaderFormat::Geneve => self.geneve_port,
        }
    }
}

/// The outer DF bit; for IPv6 whether the kernel may fragment at the source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DontFragment {
    /// Always set: what does not fit the path is refused.
    Set,
    /// Never set: the kernel fragments what does not fit the path.
    Unset,
    /// As each [`Target`](super::Target) says.
    Inherit,
}

/// Use of UDP_SEGMENT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gso {
    /// Used if the kernel knows it, by each socket until the kernel refuses it there.
    Auto,
    /// Used always; a run that the kernel refuses is sent again one by one, each time. A kernel that does not know it is an
    /// error.
    On,
    /// Never used.
    Off,
}

/// Why the underlay could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum UnderlayError {
    /// Somebody listens there already.
    #[error("{} is taken by {}", SocketAddr::new(*.address, *.port), .owner.as_deref().unwrap_or("a socket that is gone by now"))]
    PortTaken {
        /// The address that was asked for.
        address: IpAddr,
        /// The port that was asked for.
        port: u16,
        /// Who has it, if that could be found out: a process with its number, or the kernel.
        owner: Option<String>,
    },
    /// No interface of the network namespace has the address.
    #[error(
        "{address} is no address of this network namespace{}",
        if .address.is_ipv6() { ", or the kernel is still looking for duplicates of it" } else { "" }
    )]
    AddressNotLocal {
        /// The address that was asked for.
        address: IpAddr,
    },
    /// The address means nothing without an interface, or is not one of a single host.
    #[error("{address} can't be a VTEP's address: link-local and multicast addresses can't")]
    AddressUnfit {
        /// The address that was asked for.
        address: IpAddr,
    },
    /// All ports of one bucket of the source port range are in use.
    #[error("no source port from {first} to {last} is free on {address}")]
    SourcePortsTaken {
        /// The address that was asked for.
        address: IpAddr,
        /// The bucket's first port.
        first: u16,
        /// The bucket's last port.
        last: u16,
    },
    /// [`Gso::On`] is asked for where there is none.
    #[error("this kernel can't send many datagrams as one (UDP_SEGMENT, Linux 4.18), and gso = \"on\" asks for it")]
    GsoUnknown,
    /// Anything else that the kernel says.
    #[error("can't {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

/// All sockets of an underlay: the receivers of each worker, and the senders.
pub struct UnderlaySockets {
    receivers: Vec<Listening>,
    senders: Arc<Senders>,
    address: IpAddr,
    workers: usize,
}

/// The receivers of one format, one for each worker.
struct Listening {
    /// The port that they got.
    port: u16,
    receivers: Vec<Receiver>,
}

impl UnderlaySockets {
    /// Opens everything in the network namespace of the calling thread.
    ///
    /// # Errors
    /// See [`UnderlayError`]. Nothing stays open then.
    pub fn open(settings: &UnderlaySettings) -> Result<Self, UnderlayError> {
        let address = settings.address;
        let is_link_local = match address {
            IpAddr::V4(_) => false,
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        if is_link_local || address.is_multicast() {
            return Err(UnderlayError::AddressUnfit { address });
        }
        let receivers = settings.formats.iter().map(|format| listen(settings, *format)).collect::<Result<_, _>>()?;
        let senders = Arc::new(open_senders(settings)?);
        Ok(Self { receivers, senders, address, workers: settings.workers.max(1) })
    }

    /// Address and port that are listened on for the first of the formats.
    pub fn local_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.receivers.first().map_or(0, |first| first.port))
    }

    /// The source ports of everything that is sent, those for datagrams that may be fragmented last.
    ///
    /// # Errors
    /// None is known; what the kernel says.
    pub fn source_ports(&self) -> io::Result<Vec<u16>> {
        self.senders.sockets.iter().map(|sender| local_port(&sender.socket)).collect()
    }

    /// Which of them a flow takes.
    ///
    /// # Errors
    /// As [`UnderlaySockets::source_ports`].
    pub fn outer_ports(&self) -> io::Result<OuterPorts> {
        Ok(OuterPorts { choice: self.senders.choice, ports: self.source_ports()? })
    }

    /// Where the kernel keeps what the underlay says about what was sent.
    pub fn error_queues(&self) -> ErrorQueues {
        ErrorQueues::new(Arc::clone(&self.senders))
    }

    #[cfg(test)]
    pub(super) fn sender_for_test(&self, index: usize) -> &Socket {
        &self.senders.sockets[index].socket
    }

    /// One end for each worker.
    pub fn into_ends(self) -> Vec<UdpUnderlay> {
        let Self { receivers, senders, workers, .. } = self;
        let mut ends: Vec<_> = (0..workers).map(|_| UdpUnderlay::new(Arc::clone(&senders))).collect();
        for listening in receivers {
            ends.iter_mut().zip(listening.receivers).for_each(|(end, receiver)| end.add_receiver(receiver));
        }
        ends
    }
}

/// Opens what listens for one more format beside an underlay of these settings, one for each worker, in the network namespace
/// of the calling thread.
///
/// # Errors
/// See [`UnderlayError`]. Nothing stays open then.
pub fn open_receivers(settings: &UnderlaySettings, format: HeaderFormat) -> Result<Vec<Receiver>, UnderlayError> {
    listen(settings, format).map(|listening| listening.receivers)
}

/// The outer source port of each flow.
#[derive(Clone, Debug)]
pub struct OuterPorts {
    choice: SenderChoice,
    /// Of each sending socket.
    ports: Vec<u16>,
}

impl OuterPorts {
    /// The source port of a datagram whose inner flow has this hash.
    pub fn port(&self, hash: u32, dont_fragment: bool) -> Option<u16> {
        self.ports.get(usize::from(self.choice.socket(hash, dont_fragment))).copied()
    }
}

fn listen(settings: &UnderlaySettings, format: HeaderFormat) -> Result<Listening, UnderlayError> {
    let UnderlaySettings { address, workers, .. } = *settings;
    let wanted = SocketAddr::new(address, settings.port_of(format));
    let first = new_receiver(settings)?;
    let given = sockopt::socket_recv_buffer_size(first.as_fd());
    warn_of_less("receive_buffer", "net.core.rmem_max", settings.receive_buffer, given);
    inside::bind(&first, wanted).map_err(|error| bind_error(wanted, error))?;
    let port = local_port(&first).map_err(because("read a socket's address"))?;
    first.set_reuse_port(true).map_err(because("set SO_REUSEPORT"))?;

    let mut receivers = vec![Receiver::new(format, first)];
    let bound = SocketAddr::new(address, port);
    while receivers.len() < workers {
        let next = new_receiver(settings)?;
        next.set_reuse_port(true).map_err(because("set SO_REUSEPORT"))?;
        inside::bind(&next, bound).map_err(|error| bind_error(bound, error))?;
        receivers.push(Receiver::new(format, next));
    }
    Ok(Listening { port, receivers })
}

/// A receiver with all its options, not yet bound, so that nothing reaches it while it lacks one.
fn new_receiver(settings: &UnderlaySettings) -> Result<Socket, UnderlayError> {
    let UnderlaySettings { address, receive_buffer, .. } = *settings;
    let socket = new_socket(address)?;
    let fd = socket.as_fd();
    set_udp_gro(fd, true).or_else(unless_unknown).map_err(because("set UDP_GRO"))?;
    match address {
        IpAddr::V4(_) => socket.set_recv_tos_v4(true).map_err(because("set IP_RECVTOS"))?,
        IpAddr::V6(_) => {
            socket.set_recv_tclass_v6(true).map_err(because("set IPV6_RECVTCLASS"))?;
            if settings.zero_checksums_accepted {
                set_zero_checksums_accepted(fd, true).map_err(because("set UDP_NO_CHECK6_RX"))?;
            }
        }
    }
    // As root of the namespace's owner regardless of net.core.rmem_max; else as much as that allows.
    inside::force_buffer(fd, Buffer::Receive, receive_buffer)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(fd, receive_buffer))
        .map_err(because("set SO_RCVBUF"))?;
    Ok(socket)
}

fn open_senders(settings: &UnderlaySettings) -> Result<Senders, UnderlayError> {
    let UnderlaySettings { source_port_range, source_ports, dont_fragment, gso, .. } = *settings;
    let sets: &[bool] = match dont_fragment {
        DontFragment::Set => &[true],
        DontFragment::Unset => &[false],
        DontFragment::Inherit => &[true, false],
    };
    let most = usize::from(source_ports.clamp(1, source_port_range.distinct_count()));
    let bucket_count = bucket_count(settings, most, sets.len());
    let mut sockets = Vec::new();
    for &dont_fragment in sets {
        for bucket in 0..bucket_count {
            let sender = new_sender(settings, dont_fragment)?;
            let (first, last) = source_port_range.bucket_ports(bucket, bucket_count);
            bind_to_one_of(&sender, settings, first, last)?;
            sockets.push(sender);
        }
    }
    if let Some(first) = sockets.first() {
        let given = sockopt::socket_send_buffer_size(first.as_fd());
        warn_of_less("send_buffer", "net.core.wmem_max", settings.send_buffer, given);
    }
    let knows_runs = sockets.first().is_some_and(|sender| has_udp_segment(sender.as_fd()));
    let takes_runs = takes_runs(gso, knows_runs)? && settings.checksums;
    Ok(Senders {
        sockets: sockets.into_iter().map(|socket| Sender::new(socket, takes_runs)).collect(),
        choice: SenderChoice { bucket_count, source_ports: source_port_range, dont_fragment },
        gso,
        refusal_logged: AtomicBool::new(false),
    })
}

/// Whether runs are tried at first.
fn takes_runs(gso: Gso, kernel_knows_them: bool) -> Result<bool, UnderlayError> {
    match gso {
        Gso::Off => Ok(false),
        Gso::On if !kernel_knows_them => Err(UnderlayError::GsoUnknown),
        Gso::Auto | Gso::On => Ok(kernel_knows_them),
    }
}

fn new_sender(settings: &UnderlaySettings, dont_fragment: bool) -> Result<Socket, UnderlayError> {
    let UnderlaySettings { address, send_buffer, .. } = *settings;
    let socket = new_socket(address)?;
    let fd = socket.as_fd();
    // "Return 0": no byte of any datagram is to be kept. Attached before the socket can be reached.
    socket.attach_filter(&[SockFilter::new(BPF_RET_K, 0, 0, 0)]).map_err(because("attach a filter"))?;
    if !settings.checksums {
        set_checksums_sent(fd, false).map_err(because("send without UDP checksums"))?;
    }
    set_dont_fragment(fd, address, dont_fragment).map_err(because("set the policy of path MTU discovery"))?;
    set_errors_queued(fd, address.is_ipv4()).map_err(because("set IP_RECVERR"))?;
    inside::force_buffer(fd, Buffer::Send, send_buffer)
        .or_else(|_| sockopt::set_socket_send_buffer_size(fd, send_buffer))
        .map_err(because("set SO_SNDBUF"))?;
    Ok(socket)
}

/// `given` is what the kernel says that the buffer has: twice what it was told, or what it allows.
fn warn_of_less(key: &str, limit: &str, asked: usize, given: Result<usize, Errno>) {
    if let Ok(given) = given.map(|doubled| doubled / 2)
        && given < asked
    {
        tracing::warn!(
            asked,
            given,
            "the kernel gives the underlay less than `{key}` asks for: {limit} limits whoever has no CAP_NET_ADMIN"
        );
    }
}

/// `include/uapi/linux/bpf_common.h`: BPF_RET | BPF_K
const BPF_RET_K: u16 = 0x06;

/// With DF only the link's MTU bounds what leaves (`PROBE`): what is known of the path behind it is weft's own affair, since the
/// kernel believes every ICMP error that quotes a packet of its. Without, the kernel fragments by what it believes.
fn set_dont_fragment(fd: BorrowedFd<'_>, address: IpAddr, dont_fragment: bool) -> Result<(), Errno> {
    match (address, dont_fragment) {
        (IpAddr::V4(_), true) => sockopt::set_ip_mtu_discover(fd, Ipv4PathMtuDiscovery::PROBE),
        (IpAddr::V4(_), false) => sockopt::set_ip_mtu_discover(fd, Ipv4PathMtuDiscovery::DONT),
        (IpAddr::V6(_), true) => sockopt::set_ipv6_mtu_discover(fd, Ipv6PathMtuDiscovery::PROBE),
        (IpAddr::V6(_), false) => sockopt::set_ipv6_mtu_discover(fd, Ipv6PathMtuDiscovery::DONT),
    }
}

/// As many buckets as can be, and `most` at most, so that each has ports for so many sockets beside those that are left alone.
fn bucket_count(settings: &UnderlaySettings, most: usize, socket_count: usize) -> usize {
    let has_ports = |bucket, count| {
        let (first, last) = settings.source_port_range.bucket_ports(bucket, count);
        (first..=last).filter(|port| is_for_sending(settings, *port)).nth(socket_count - 1).is_some()
    };
    // One that has not enough is reported when its socket finds none.
    (1..=most).rev().find(|&count| (0..count).all(|bucket| has_ports(bucket, count))).unwrap_or(1)
}

/// The ports of the formats are left alone, since each may be listened on one day.
fn is_for_sending(settings: &UnderlaySettings, port: u16) -> bool {
    HeaderFormat::ALL.iter().all(|format| settings.port_of(*format) != port)
}

fn bind_to_one_of(socket: &Socket, settings: &UnderlaySettings, first: u16, last: u16) -> Result<(), UnderlayError> {
    let address = settings.address;
    for port in (first..=last).filter(|port| is_for_sending(settings, *port)) {
        match inside::bind(socket, SocketAddr::new(address, port)) {
            Ok(()) => return Ok(()),
            // Taken, or below net.ipv4.ip_unprivileged_port_start.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::ADDRINUSE | Errno::ACCESS)) => {}
            Err(source) => return Err(UnderlayError::Io { doing: "bind a sending socket", source }),
        }
    }
    Err(UnderlayError::SourcePortsTaken { address, first, last })
}

fn new_socket(address: IpAddr) -> Result<Socket, UnderlayError> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let made = inside::socket(family, SocketType::DGRAM, flags, Some(ipproto::UDP));
    let socket = Socket::from(made.map_err(because("open a socket"))?);
    if address.is_ipv6() {
        socket.set_only_v6(true).map_err(because("set IPV6_V6ONLY"))?;
    }
    Ok(socket)
}

fn local_port(socket: &Socket) -> io::Result<u16> {
    let address = socket.local_addr()?.as_socket();
    Ok(address.map_or(0, |address| address.port()))
}

fn bind_error(to: SocketAddr, source: io::Error) -> UnderlayError {
    let (address, port) = (to.ip(), to.port());
    match Errno::from_io_error(&source) {
        Some(Errno::ADDRINUSE) => UnderlayError::PortTaken { address, port, owner: port_owner(address, port) },
        Some(Errno::ADDRNOTAVAIL) => UnderlayError::AddressNotLocal { address },
        _ => UnderlayError::Io { doing: "bind the underlay's socket", source },
    }
}

/// An option that an older kernel does not know is done without.
fn unless_unknown(error: Errno) -> Result<(), Errno> {
    if error == Errno::NOPROTOOPT { Ok(()) } else { Err(error) }
}

fn because<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> UnderlayError {
    move |source| UnderlayError::Io { doing, source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_range_without_a_port_to_send_from_is_joined_to_another() {
        // The formula takes three ports of these, one of which is left alone.
        let settings = UnderlaySettings {
            source_port_range: SourcePorts::new(6081, 6084).unwrap(),
            ..UnderlaySettings::new("127.0.0.1".parse().unwrap())
        };
        let counts = |settings: &UnderlaySettings| [1, 2].map(|sockets| bucket_count(settings, 3, sockets));
        assert_eq!(counts(&settings), [2, 1]);
        assert_eq!(counts(&UnderlaySettings { geneve_port: 7000, ..settings.clone() }), [3, 1]);
        assert_eq!(counts(&UnderlaySettings { port: 6082, gpe_port: 6083, ..settings }), [1, 1], "none is left");
    }

    #[test]
    fn a_kernel_without_segmentation_is_an_error_only_if_it_was_asked_for() {
        assert!(matches!(takes_runs(Gso::On, false), Err(UnderlayError::GsoUnknown)));
        assert!(!takes_runs(Gso::Auto, false).unwrap() && !takes_runs(Gso::Off, true).unwrap());
        assert!(takes_runs(Gso::On, true).unwrap() && takes_runs(Gso::Auto, true).unwrap());
    }
}
