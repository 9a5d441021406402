//! The error queue of a socket: what ICMP, or the kernel itself, says about packets that it sent (`IP_RECVERR`, ip(7);
//! `IPV6_RECVERR`, ipv6(7)).
//!
//! The queue is bounded by the socket's receive buffer; what finds no room there is lost. Each error that ICMP brought also makes one later
//! send fail that has nothing to do with it (`sock_error` in `sock_alloc_send_pskb`): whoever sends has to try again.
#![allow(unsafe_code)]

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, BorrowedFd},
};

use rustix::io::Errno;

use super::udp::{Address, Control, EMPTY_HEADER, control_messages, int, last_error, set_option};

/// Where an error comes from (`include/uapi/linux/errqueue.h`: `SO_EE_ORIGIN_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// The kernel, which did not let the packet leave.
    Local,
    /// A packet of ICMP or ICMPv6.
    Icmp,
    /// Something else that queues there, such as a time stamp.
    Other,
}

/// One error (`struct sock_extended_err`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct QueuedError {
    /// Where the packet was to go; `None`: the kernel does not say.
    pub(crate) destination: Option<SocketAddr>,
    pub(crate) origin: Origin,
    /// What a system call would say.
    pub(crate) errno: Errno,
    /// The ICMP packet's type and code.
    pub(crate) icmp: (u8, u8),
    /// Of EMSGSIZE: the MTU.
    pub(crate) info: u32,
    /// Who sent the ICMP packet.
    pub(crate) offender: Option<IpAddr>,
    /// How many bytes of the transport's payload it quoted.
    pub(crate) quoted_len: usize,
}

/// Lets errors queue up at a socket.
pub(crate) fn set_errors_queued(socket: BorrowedFd<'_>, is_ipv4: bool) -> Result<(), Errno> {
    match is_ipv4 {
        true => set_option(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1),
        false => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
    }
}

/// A `sock_extended_err` and the offender's address take 16 + 28 bytes behind the header; the rest is for options that
/// somebody else might have set.
const CONTROL_LEN: usize = 128;

/// Takes the oldest error off the queue, without waiting, and writes the beginning of what it quotes into `quoted`: for UDP the
/// bytes behind the UDP header, as far as the router had sent them along.
///
/// # Errors
/// `AGAIN` if there is none.
pub(crate) fn next_error(socket: BorrowedFd<'_>, quoted: &mut [u8]) -> Result<QueuedError, Errno> {
    let mut address = Address([0; _]);
    let mut control = Control::<CONTROL_LEN>([0; _]);
    let mut vector = libc::iovec { iov_base: quoted.as_mut_ptr().cast(), iov_len: quoted.len() };
    let mut header = EMPTY_HEADER.msg_hdr;
    header.msg_name = (&raw mut address).cast();
    header.msg_namelen = size_of::<Address>() as u32;
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = CONTROL_LEN;
    // SAFETY: the header points at one address, one vector and one control buffer with their sizes, and the vector at a
    // writable slice with its length; all of them outlive the call.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
    let len = usize::try_from(len).map_err(|_| last_error())?;
    let control_len = CONTROL_LEN.min(header.msg_controllen);
    let is_error = |(level, kind): (i32, i32)| {
        matches!((level, kind), (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR))
    };
    let mut messages = control_messages(&control.0[..control_len]);
    let data = messages.find(|(level, kind, _)| is_error((*level, *kind))).map_or(&[][..], |(_, _, data)| data);
    let destination = (header.msg_namelen > 0).then(|| address.socket_address()).flatten();
    Ok(QueuedError { destination, quoted_len: len.min(quoted.len()), ..read(data) })
}

/// `struct sock_extended_err`: errno, origin, type, code, padding, info, data; behind it the offender's address.
fn read(data: &[u8]) -> QueuedError {
    const OFFENDER: usize = 16;
    let byte = |at: usize| data.get(at).copied().unwrap_or(0);
    let mut offender = Address([0; _]);
    let behind = data.get(OFFENDER..).unwrap_or(&[]);
    offender.0.iter_mut().zip(behind).for_each(|(to, from)| *to = *from);
    QueuedError {
        destination: None,
        origin: match byte(4) {
            libc::SO_EE_ORIGIN_LOCAL => Origin::Local,
            libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6 => Origin::Icmp,
            _ => Origin::Other,
        },
        errno: errno(int(data)),
        icmp: (byte(5), byte(6)),
        info: int(data.get(8..).unwrap_or(&[])) as u32,
        offender: offender.socket_address().map(|address| address.ip()),
        quoted_len: 0,
    }
}

/// What is no error number (1 to 4095) is some error all the same.
fn errno(number: i32) -> Errno {
    if (1..4096).contains(&number) { Errno::from_raw_os_error(number) } else { Errno::IO }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::fd::AsFd, time::Duration};

    use super::*;

    #[test]
    fn fuzz_queued_error() {
        crate::fuzzing::inputs(|data| {
            let error = read(data);
            assert_eq!((error.destination, error.quoted_len), (None, 0));
            assert!(error.errno.raw_os_error() > 0);
        });
    }

    fn wait(socket: &UdpSocket, quoted: &mut [u8]) -> QueuedError {
        for _ in 0..200 {
            match next_error(socket.as_fd(), quoted) {
                Ok(error) => return error,
                Err(Errno::AGAIN) => std::thread::sleep(Duration::from_millis(10)),
                Err(error) => panic!("{error}"),
            }
        }
        panic!("no error came");
    }

    #[test]
    fn a_port_where_nobody_listens_is_told_of_with_what_was_sent() {
        for address in ["127.0.0.1", "::1"] {
            let [sender, gone] = [(); 2].map(|()| UdpSocket::bind((address, 0)).unwrap());
            let to = gone.local_addr().unwrap();
            drop(gone);
            set_errors_queued(sender.as_fd(), to.is_ipv4()).unwrap();
            let mut quoted = [0; 16];
            assert_eq!(next_error(sender.as_fd(), &mut quoted), Err(Errno::AGAIN));
            sender.send_to(b"what was sent is quoted", to).unwrap();
            let error = wait(&sender, &mut quoted);
            assert_eq!((error.destination, error.origin, error.errno), (Some(to), Origin::Icmp, Errno::CONNREFUSED));
            assert_eq!(error.icmp, if to.is_ipv4() { (3, 3) } else { (1, 4) });
            assert_eq!(error.offender, Some(to.ip()));
            assert_eq!((error.quoted_len, &quoted), (16, b"what was sent is"));
            assert_eq!(next_error(sender.as_fd(), &mut quoted), Err(Errno::AGAIN));
        }
    }

    /// The loopback device takes 65,536 bytes, and the longest UDP over IPv6 has 65,575 with its headers: no link is needed that
    /// is smaller.
    #[test]
    fn what_is_too_long_for_the_link_is_the_kernels_own_word() {
        use rustix::net::sockopt::{self, Ipv6PathMtuDiscovery};
        let sender = UdpSocket::bind("[::1]:0").unwrap();
        set_errors_queued(sender.as_fd(), false).unwrap();
        sockopt::set_ipv6_mtu_discover(&sender, Ipv6PathMtuDiscovery::PROBE).unwrap();
        let mtu = std::fs::read_to_string("/sys/class/net/lo/mtu").unwrap().trim().parse::<u32>().unwrap();
        sender.send_to(&[0; 65_527], ("::1", 9)).unwrap_err();
        let error = wait(&sender, &mut [0; 16]);
        assert_eq!((error.origin, error.errno, error.info), (Origin::Local, Errno::MSGSIZE, mtu));
    }

    #[test]
    fn garbage_is_no_error_of_anybody() {
        for len in 0..40 {
            let error = read(&vec![0xff; len]);
            assert_eq!((error.origin, error.offender), (Origin::Other, None), "{len} bytes");
        }
    }
}
