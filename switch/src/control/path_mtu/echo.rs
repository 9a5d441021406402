//! ICMP echo requests of any size, with DF: what every host that answers to ping measures with.
//!
//! The kernel has a socket for this that needs no privilege (`SOCK_DGRAM` of ICMP, icmp(7)), if the sysctl
//! `net.ipv4.ping_group_range` of the underlay's namespace admits weft's group. Else a raw socket does, which needs
//! CAP_NET_RAW. With neither, nothing is sent, and [`EchoError`] says why.
//!
//! Each request carries a nonce behind the ICMP header and its lower half word as the sequence number, which is all that an ICMP
//! error about it need quote.

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, RawFd},
    sync::Arc,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, ipproto,
        sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery},
    },
};
use socket2::{SockAddr, SockFilter, Socket};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    task::JoinHandle,
};
use tracing::debug;
use weft_vxlan::mtu::{IPV4_HEADER_LEN, IPV6_HEADER_LEN};

use super::{Heard, watched};
use crate::{
    sys::{
        error_queue::{Origin, next_error, set_errors_queued},
        inside,
        netns::Netns,
    },
    wire::checksum,
};

const HEADER_LEN: usize = 8;
const NONCE_LEN: usize = 8;
/// The smallest IP packet that holds a request.
const MIN_SIZE: usize = IPV6_HEADER_LEN as usize + HEADER_LEN + NONCE_LEN;

/// Why no echo requests can be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EchoError {
    /// Neither socket is allowed.
    #[error("no ICMP echo: net.ipv4.ping_group_range does not admit weft's group, and a raw socket needs CAP_NET_RAW")]
    NotAllowed,
    /// Something else is wrong.
    #[error("no ICMP echo: {0}")]
    Io(#[from] io::Error),
}

/// The socket, and who listens to it.
pub(crate) struct Echo {
    socket: Arc<Socket>,
    is_ipv4: bool,
    /// Of a raw socket; the other kind's is the kernel's.
    id: u16,
    listener: JoinHandle<()>,
}

/// Packets and errors that are passed over in one look.
const PENDING_COUNT: usize = 64;

impl Echo {
    /// Opens a socket at this address of the namespace, and has what it hears told. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// See [`EchoError`].
    pub(crate) fn open(netns: &Netns, local: IpAddr, heard: mpsc::Sender<Heard>) -> Result<Self, EchoError> {
        let is_ipv4 = local.is_ipv4();
        let id = fastrand::u16(1..);
        let (socket, is_raw) = netns.making(|| open(local, id))??;
        let socket = Arc::new(socket);
        let watched = watched(Watched(Arc::clone(&socket)), Interest::READABLE.add(Interest::ERROR))?;
        let reader = Reader { is_ipv4, is_raw, id };
        let listener = tokio::spawn(listen(watched, reader, heard));
        Ok(Self { socket, is_ipv4, id, listener })
    }

    /// Sends a request in an IP packet of `size` bytes; whether it left.
    pub(crate) fn send(&self, to: IpAddr, size: u16, nonce: u64) -> bool {
        let size = usize::from(size).max(MIN_SIZE);
        let packet = request(self.is_ipv4, self.id, nonce, size);
        let to = SockAddr::from(SocketAddr::new(to, 0));
        // The first failure may be what ICMP said of an earlier request.
        (0..2).any(|_| match self.socket.send_to(&packet, &to) {
            Ok(_) => true,
            Err(error) => {
                debug!(%error, %size, "an echo request did not leave");
                false
            }
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// The sequence number of the request with this nonce.
pub(crate) const fn sequence(nonce: u64) -> u16 {
    nonce as u16
}

/// Returns whether it is a raw socket.
fn open(local: IpAddr, id: u16) -> Result<(Socket, bool), EchoError> {
    let (family, protocol) = match local {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let make = |kind| inside::socket(family, kind, flags, Some(protocol)).map(Socket::from);
    let (socket, is_raw) = match make(SocketType::DGRAM) {
        Ok(socket) => (socket, false),
        Err(_) => match make(SocketType::RAW) {
            Ok(socket) => (socket, true),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(EchoError::NotAllowed),
            Err(error) => return Err(error.into()),
        },
    };
    if is_raw {
        // It would be woken for every ICMP packet of the host.
        socket.attach_filter(&only_answers(local.is_ipv4(), id))?;
    }
    let fd = socket.as_fd();
    match local {
        IpAddr::V4(_) => sockopt::set_ip_mtu_discover(fd, Ipv4PathMtuDiscovery::PROBE),
        IpAddr::V6(_) => sockopt::set_ipv6_mtu_discover(fd, Ipv6PathMtuDiscovery::PROBE),
    }
    .map_err(io::Error::from)?;
    set_errors_queued(fd, local.is_ipv4()).map_err(io::Error::from)?;
    socket.bind(&SockAddr::from(SocketAddr::new(local, 0)))?;
    Ok((socket, is_raw))
}

/// "Return the packet if it is an echo reply with our identifier": a raw socket gets an IPv4 packet with its IP header, an ICMPv6
/// packet without.
fn only_answers(is_ipv4: bool, id: u16) -> Vec<SockFilter> {
    // include/uapi/linux/bpf_common.h
    const LDX_4_TIMES_LOW_NIBBLE: u16 = 0xb1; // BPF_LDX | BPF_B | BPF_MSH
    const LDX_IMMEDIATE: u16 = 0x01; // BPF_LDX | BPF_W | BPF_IMM
    const LD_BYTE_AT_X: u16 = 0x50; // BPF_LD | BPF_B | BPF_IND
    const LD_HALF_AT_X: u16 = 0x48; // BPF_LD | BPF_H | BPF_IND
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let (begin, answer) = match is_ipv4 {
        true => (SockFilter::new(LDX_4_TIMES_LOW_NIBBLE, 0, 0, 0), 0),
        false => (SockFilter::new(LDX_IMMEDIATE, 0, 0, 0), 129),
    };
    vec![
        begin,
        SockFilter::new(LD_BYTE_AT_X, 0, 0, 0),
        SockFilter::new(JUMP_IF_EQUAL, 0, 3, answer),
        SockFilter::new(LD_HALF_AT_X, 0, 0, 4),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, id.into()),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// An echo request whose IP packet is `size` bytes long. The kernel fills in ICMPv6's checksum, and everything but the sequence
/// number on a socket of its own kind.
fn request(is_ipv4: bool, id: u16, nonce: u64, size: usize) -> Vec<u8> {
    let (ip_header_len, kind) =
        if is_ipv4 { (usize::from(IPV4_HEADER_LEN), 8) } else { (usize::from(IPV6_HEADER_LEN), 128) };
    let mut packet = vec![0; size - ip_header_len];
    packet[0] = kind;
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence(nonce).to_be_bytes());
    packet[8..16].copy_from_slice(&nonce.to_be_bytes());
    if is_ipv4 {
        let sum = checksum::sum(&packet).checksum();
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// What is asked of a socket's readiness.
struct Watched(Arc<Socket>);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// How packets and errors of a socket are to be read.
#[derive(Clone, Copy)]
struct Reader {
    is_ipv4: bool,
    is_raw: bool,
    id: u16,
}

async fn listen(socket: AsyncFd<Watched>, reader: Reader, heard: mpsc::Sender<Heard>) {
    loop {
        let Ok(mut ready) = socket.ready(Interest::READABLE.add(Interest::ERROR)).await else { return };
        let socket = &socket.get_ref().0;
        while let Some(news) = reader.answer(socket).or_else(|| reader.error(socket)) {
            if heard.send(news).await.is_err() {
                return;
            }
        }
        ready.clear_ready();
    }
}

impl Reader {
    /// The next answer that waits.
    fn answer(self, socket: &Socket) -> Option<Heard> {
        // An error that is pending comes first, and is gone with that; its own queue says more.
        for _ in 0..PENDING_COUNT {
            let mut bytes = [MaybeUninit::uninit(); 128];
            // With MSG_TRUNC the length is the packet's, however little of it is read.
            let flags = RecvFlags::TRUNC;
            match rustix::net::recvfrom(socket, &mut bytes[..], flags) {
                Ok(((read, _), len, from)) => {
                    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                    let answer = from.and_then(|from| self.read(from.ip(), read, len));
                    if answer.is_some() {
                        return answer;
                    }
                }
                Err(Errno::AGAIN) => return None,
                Err(_) => {}
            }
        }
        None
    }

    fn read(self, from: IpAddr, bytes: &[u8], len: usize) -> Option<Heard> {
        let (answer, ip_header_len) = if self.is_ipv4 { (0, IPV4_HEADER_LEN) } else { (129, IPV6_HEADER_LEN) };
        let in_front = match bytes.first() {
            Some(first) if self.is_ipv4 && self.is_raw => usize::from(first & 0x0f) * 4,
            _ => 0,
        };
        let message = bytes.get(in_front..)?.first_chunk::<{ HEADER_LEN + NONCE_LEN }>()?;
        let is_ours =
            message[0] == answer && message[1] == 0 && (!self.is_raw || message[4..6] == self.id.to_be_bytes());
        let nonce = u64::from_be_bytes(*message[HEADER_LEN..].first_chunk()?);
        let size = len - in_front + usize::from(ip_header_len);
        is_ours.then_some(Heard::Echo { from, nonce, size })
    }

    /// The next error that waits.
    fn error(self, socket: &Socket) -> Option<Heard> {
        let request = if self.is_ipv4 { 8 } else { 128 };
        for _ in 0..PENDING_COUNT {
            let mut quoted = [0; HEADER_LEN];
            let error = next_error(socket.as_fd(), &mut quoted).ok()?;
            let to = error.destination.map(|to| to.ip());
            let is_ours = error.quoted_len == HEADER_LEN
                && quoted[..2] == [request, 0]
                && (!self.is_raw || quoted[4..6] == self.id.to_be_bytes());
            let sequence = u16::from_be_bytes([quoted[6], quoted[7]]);
            match (error.origin, error.errno, to) {
                (Origin::Icmp, Errno::MSGSIZE, Some(to)) if is_ours => {
                    return Some(Heard::EchoTooBig { to, mtu: error.info, from: error.offender, sequence });
                }
                (Origin::Local, Errno::MSGSIZE, Some(to)) => {
                    return Some(Heard::LinkTooSmall { to, mtu: error.info });
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_request_is_as_long_as_its_packet_shall_be() {
        let v4 = request(true, 7, 0x0102_0304_0506_0708, 1500);
        assert_eq!((v4.len(), &v4[..2], &v4[4..16]), (1480, &[8, 0][..], &[0, 7, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8][..]));
        assert_eq!(checksum::sum(&v4).checksum(), 0);
        let v6 = request(false, 7, 1, 1500);
        assert_eq!((v6.len(), v6[0]), (1460, 128));
    }

    #[test]
    fn answers_are_read_with_and_without_their_ip_header() {
        let from = "192.0.2.2".parse().unwrap();
        let mut answer = request(true, 7, 42, 1500);
        answer[0] = 0;
        let heard = Heard::Echo { from, nonce: 42, size: 1500 };
        let plain = Reader { is_ipv4: true, is_raw: false, id: 7 };
        assert_eq!(plain.read(from, &answer[..100], 1480), Some(heard.clone()));
        let raw = Reader { is_raw: true, ..plain };
        let with_header = [&[0x45; 20][..], &answer].concat();
        assert_eq!(raw.read(from, &with_header[..120], 1500), Some(heard));
        assert_eq!(Reader { id: 8, ..raw }.read(from, &with_header[..120], 1500), None);
        answer[0] = 8;
        assert_eq!(plain.read(from, &answer[..100], 1480), None, "a request");
        for len in 0..16 {
            assert_eq!(plain.read(from, &answer[..len], len), None);
        }
    }

    #[test]
    fn fuzz_echo() {
        crate::fuzzing::inputs(|packet| {
            let from = "192.0.2.2".parse().unwrap();
            for (is_ipv4, is_raw) in [(true, true), (true, false), (false, false)] {
                let read = &packet[..packet.len().min(128)];
                let heard = Reader { is_ipv4, is_raw, id: 7 }.read(from, read, packet.len());
                if let Some(Heard::Echo { size, .. }) = heard {
                    assert!(
                        size <= packet.len() + usize::from(if is_ipv4 { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN })
                    );
                }
            }
        });
    }

    #[tokio::test]
    async fn a_host_answers_to_requests_of_any_size() {
        for local in ["127.0.0.1", "::1"] {
            let local: IpAddr = local.parse().unwrap();
            let (sender, mut heard) = mpsc::channel(16);
            let echo = match Echo::open(&Netns::own().unwrap(), local, sender) {
                Ok(echo) => echo,
                // As it is for whoever is not in net.ipv4.ping_group_range.
                Err(error @ EchoError::NotAllowed) => {
                    let must_run = std::env::var_os("WEFT_REQUIRE_ALL").is_some_and(|value| value == "1");
                    assert!(!must_run, "{error}, and WEFT_REQUIRE_ALL is set");
                    return eprintln!("ignored: {error}");
                }
                Err(error) => panic!("{error}"),
            };
            for size in [64, 1500, 9001, 60_000] {
                assert!(echo.send(local, size, u64::from(size)));
                let answer = tokio::time::timeout(Duration::from_secs(5), heard.recv()).await.unwrap();
                let expected = Heard::Echo { from: local, nonce: size.into(), size: size.into() };
                assert_eq!(answer, Some(expected));
            }
        }
    }
}
