//! Many UDP datagrams in one system call: `sendmmsg` and `recvmmsg` with the control messages that a VTEP needs, and the
//! few UDP socket options that no crate wraps.
//!
//! Both calls take arrays of headers, each pointing at an address, a payload and control bytes. [`SendArrays`] and
//! [`RecvArrays`] own these arrays, allocated once; each call fills in what it uses, pointers included, so nothing is left
//! in them that a later call could believe. Addresses and control messages are written and read as bytes: their layout is
//! the kernel's ABI (`struct sockaddr_in`, `sockaddr_in6` and `cmsghdr` in native byte order), so only the calls
//! themselves are unsafe.
#![allow(unsafe_code)]

use std::{
    mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use rustix::io::Errno;

/// What one header of [`SendArrays::send`] carries: one datagram, or a run of datagrams of equal length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    /// The UDP payload, or those of a run one after the other.
    pub(crate) payload: &'a [u8],
    /// Length of each datagram of a run but the last, which may be shorter: UDP_SEGMENT. `None`: one datagram.
    pub(crate) segment_len: Option<u16>,
    /// Where it goes.
    pub(crate) address: SocketAddr,
    /// Outer TOS or traffic class.
    pub(crate) tos: u8,
    /// Outer TTL or hop limit; 0: the route's default.
    pub(crate) ttl: u8,
}

/// Headers that one `sendmmsg` takes at most.
pub(crate) const SEND_COUNT: usize = 64;

/// Arrays of `sendmmsg`.
pub(crate) struct SendArrays {
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    addresses: Box<[Address]>,
    controls: Box<[Control<SEND_CONTROL_LEN>]>,
}

/// TOS, TTL and UDP_SEGMENT: each takes 24 bytes.
const SEND_CONTROL_LEN: usize = 3 * 24;

// SAFETY: the raw pointers in `headers` and `vectors` are written and used within one `send`, which has the arrays and
// whatever they point at borrowed; between calls nobody follows them, so another thread may make the next call.
unsafe impl Send for SendArrays {}

impl SendArrays {
    pub(crate) fn new() -> Self {
        Self {
            headers: vec![EMPTY_HEADER; SEND_COUNT].into_boxed_slice(),
            vectors: vec![EMPTY_VECTOR; SEND_COUNT].into_boxed_slice(),
            addresses: vec![Address([0; _]); SEND_COUNT].into_boxed_slice(),
            controls: vec![Control([0; _]); SEND_COUNT].into_boxed_slice(),
        }
    }

    /// Sends the first [`SEND_COUNT`] messages or fewer, in order, without waiting; returns how many the kernel took.
    ///
    /// # Errors
    /// What the kernel says about the first message; an error about a later one only ends the count before it.
    pub(crate) fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        messages: impl Iterator<Item = Outgoing<'a>>,
    ) -> Result<usize, Errno> {
        let mut count = 0;
        for (index, message) in (0..SEND_COUNT).zip(messages) {
            let address_len = self.addresses[index].set(message.address);
            let control_len = set_send_control(&mut self.controls[index].0, &message);
            self.vectors[index] = libc::iovec {
                // The kernel only reads it.
                iov_base: message.payload.as_ptr().cast_mut().cast(),
                iov_len: message.payload.len(),
            };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.addresses[index]).cast();
            header.msg_namelen = address_len;
            header.msg_iov = &raw mut self.vectors[index];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.controls[index]).cast();
            header.msg_controllen = control_len;
            count = index + 1;
        }
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: the first `count` <= SEND_COUNT headers were filled in just now. Each points at elements of this object's
        // arrays, whose given lengths are within the elements, and at a payload that is borrowed for 'a, which outlives
        // this call. The kernel writes nothing but `msg_len` of the headers.
        let sent = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT as _)
        };
        usize::try_from(sent).map_err(|_| last_error())
    }
}

/// Writes the control messages of `message`; returns their length.
fn set_send_control(control: &mut [u8; SEND_CONTROL_LEN], message: &Outgoing<'_>) -> usize {
    let (level, tos, ttl) = match message.address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS, libc::IP_TTL),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, libc::IPV6_HOPLIMIT),
    };
    let mut len = push_control(control, 0, level, tos, &i32::from(message.tos).to_ne_bytes());
    if message.ttl != 0 {
        len = push_control(control, len, level, ttl, &i32::from(message.ttl).to_ne_bytes());
    }
    if let Some(segment_len) = message.segment_len {
        len = push_control(control, len, libc::SOL_UDP, libc::UDP_SEGMENT, &segment_len.to_ne_bytes());
    }
    len
}

/// What `recvmmsg` says about one buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Received {
    /// Bytes in the buffer.
    pub(crate) len: usize,
    /// Who sent it; never a v4-mapped address.
    pub(crate) source: IpAddr,
    /// Outer TOS or traffic class, if the socket was told to say it; else 0.
    pub(crate) tos: u8,
    /// Length of each datagram but the last, if the kernel put several into the buffer (UDP_GRO).
    pub(crate) segment_len: Option<usize>,
    /// The buffer was too short.
    pub(crate) truncated: bool,
}

/// Arrays of `recvmmsg`.
pub(crate) struct RecvArrays {
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    addresses: Box<[Address]>,
    controls: Box<[Control<RECV_CONTROL_LEN>]>,
}

/// TOS and UDP_GRO take 24 bytes each; the rest is for options that somebody else might have set.
const RECV_CONTROL_LEN: usize = 4 * 24;

// SAFETY: as for `SendArrays`: the pointers are written and used within one `recv`.
unsafe impl Send for RecvArrays {}

impl RecvArrays {
    /// Arrays for at most `count` buffers a call.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            headers: vec![EMPTY_HEADER; count].into_boxed_slice(),
            vectors: vec![EMPTY_VECTOR; count].into_boxed_slice(),
            addresses: vec![Address([0; _]); count].into_boxed_slice(),
            controls: vec![Control([0; _]); count].into_boxed_slice(),
        }
    }

    /// Fills as many of the buffers as something waits for, in order and without waiting; returns how many.
    /// [`RecvArrays::received`] then tells about each.
    ///
    /// # Errors
    /// What the kernel says, `AGAIN` if nothing waits.
    pub(crate) fn recv<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        buffers: impl Iterator<Item = &'a mut [u8]>,
    ) -> Result<usize, Errno> {
        let mut count = 0;
        for (index, buffer) in (0..self.headers.len()).zip(buffers) {
            self.vectors[index] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.addresses[index]).cast();
            header.msg_namelen = size_of::<Address>() as u32;
            header.msg_iov = &raw mut self.vectors[index];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.controls[index]).cast();
            header.msg_controllen = RECV_CONTROL_LEN;
            header.msg_flags = 0;
            count = index + 1;
        }
        // SAFETY: the first `count` headers were filled in just now. Each points at elements of this object's arrays, with
        // their sizes, and at a buffer of `iov_len` writable bytes that is borrowed mutably for 'a, which outlives this
        // call. No time-out is given, so no pointer to one.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count as u32,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        usize::try_from(received).map_err(|_| last_error())
    }

    /// What the last [`RecvArrays::recv`] said about the buffer with this index.
    pub(crate) fn received(&self, index: usize) -> Received {
        let header = &self.headers[index].msg_hdr;
        let control_len = RECV_CONTROL_LEN.min(header.msg_controllen);
        let mut received = Received {
            len: self.headers[index].msg_len as usize,
            source: self.addresses[index].ip(),
            tos: 0,
            segment_len: None,
            truncated: header.msg_flags & libc::MSG_TRUNC != 0,
        };
        for (level, kind, data) in control_messages(&self.controls[index].0[..control_len]) {
            match (level, kind) {
                // One byte for IPv4 (net/ipv4/ip_sockglue.c, ip_cmsg_recv_tos), an int for IPv6.
                (libc::IPPROTO_IP, libc::IP_TOS) => received.tos = data.first().copied().unwrap_or(0),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => received.tos = int(data) as u8,
                (libc::SOL_UDP, libc::UDP_GRO) => received.segment_len = usize::try_from(int(data)).ok(),
                _ => {}
            }
        }
        received
    }
}

/// Lets the kernel hand over several equal datagrams of one flow in one buffer.
pub(crate) fn set_udp_gro(socket: BorrowedFd<'_>, on: bool) -> Result<(), Errno> {
    set_option(socket, libc::SOL_UDP, libc::UDP_GRO, i32::from(on))
}

/// Accepts datagrams over IPv6 whose UDP checksum is zero (RFC 6936).
pub(crate) fn set_zero_checksums_accepted(socket: BorrowedFd<'_>, on: bool) -> Result<(), Errno> {
    set_option(socket, libc::SOL_UDP, UDP_NO_CHECK6_RX, i32::from(on))
}

/// Sends datagrams with a UDP checksum, or with zero in its place. Each option counts for its own IP.
pub(crate) fn set_checksums_sent(socket: BorrowedFd<'_>, on: bool) -> Result<(), Errno> {
    const UDP_NO_CHECK6_TX: libc::c_int = 101;
    set_option(socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, i32::from(!on))?;
    set_option(socket, libc::SOL_UDP, UDP_NO_CHECK6_TX, i32::from(!on))
}

/// Whether the kernel knows UDP_SEGMENT (Linux 4.18).
pub(crate) fn has_udp_segment(socket: BorrowedFd<'_>) -> bool {
    // 0 is the default: no segmentation but where a control message asks for it.
    set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok()
}

/// How often the kernel found no room for something that had arrived at this socket, modulo 2^32. What UDP_GRO had put
/// together counts once.
pub(crate) fn receive_drops(socket: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut values = [0u32; SK_MEMINFO_VARS];
    let mut len = size_of_val(&values) as libc::socklen_t;
    // SAFETY: `len` is the size of `values`, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(values[libc::SK_MEMINFO_DROPS as usize]) } else { Err(last_error()) }
}

/// `include/uapi/linux/udp.h`
const UDP_NO_CHECK6_RX: libc::c_int = 102;

/// `include/uapi/linux/sock_diag.h`
const SK_MEMINFO_VARS: usize = 9;

/// Whether this is a UDP socket.
pub(super) fn is_udp(socket: &impl std::os::fd::AsFd) -> bool {
    use rustix::net::{SocketType, ipproto, sockopt};
    sockopt::socket_type(socket).is_ok_and(|kind| kind == SocketType::DGRAM)
        && sockopt::socket_protocol(socket).is_ok_and(|protocol| protocol == Some(ipproto::UDP))
}

pub(super) fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> Result<(), Errno> {
    // SAFETY: the value is an int that outlives the call, with the size of an int.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

pub(super) fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

const EMPTY_VECTOR: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

pub(super) const EMPTY_HEADER: libc::mmsghdr = {
    // SAFETY: integers and pointers, for all of which zero is a value.
    unsafe { mem::zeroed() }
};

/// A `sockaddr_in` or `sockaddr_in6`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Address(pub(super) [u8; 28]);

impl Address {
    /// Returns the length of the `sockaddr`.
    fn set(&mut self, address: SocketAddr) -> libc::socklen_t {
        self.0[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => {
                self.0[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                self.0[4..8].copy_from_slice(&v4.ip().octets());
                16
            }
            SocketAddr::V6(v6) => {
                self.0[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                self.0[4..8].copy_from_slice(&v6.flowinfo().to_ne_bytes());
                self.0[8..24].copy_from_slice(&v6.ip().octets());
                self.0[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                28
            }
        }
    }

    /// `None`: it is of neither family.
    pub(super) fn socket_address(&self) -> Option<SocketAddr> {
        let family = i32::from(u16::from_ne_bytes([self.0[0], self.0[1]]));
        let port = u16::from_be_bytes([self.0[2], self.0[3]]);
        matches!(family, libc::AF_INET | libc::AF_INET6).then(|| SocketAddr::new(self.ip(), port))
    }

    fn ip(&self) -> IpAddr {
        let bytes = &self.0;
        if u16::from_ne_bytes([bytes[0], bytes[1]]) == libc::AF_INET6 as u16 {
            let mut octets = [0; 16];
            octets.copy_from_slice(&bytes[8..24]);
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        } else {
            IpAddr::V4(Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]))
        }
    }
}

/// Control messages, aligned as `struct cmsghdr`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control<const LEN: usize>(pub(super) [u8; LEN]);

/// `struct cmsghdr`: its own length with the data (native `size_t`), level and type (native `int`).
const CONTROL_HEADER_LEN: usize = size_of::<usize>() + 8;

/// `CMSG_ALIGN`
const fn align(len: usize) -> usize {
    len.next_multiple_of(size_of::<usize>())
}

/// Appends a control message behind the first `len` bytes; returns the length of all.
fn push_control(control: &mut [u8], len: usize, level: i32, kind: i32, data: &[u8]) -> usize {
    const WORD: usize = size_of::<usize>();
    let message = &mut control[len..];
    let message_len = CONTROL_HEADER_LEN + data.len();
    message[..WORD].copy_from_slice(&message_len.to_ne_bytes());
    message[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
    message[WORD + 4..WORD + 8].copy_from_slice(&kind.to_ne_bytes());
    message[CONTROL_HEADER_LEN..message_len].copy_from_slice(data);
    len + align(message_len)
}

/// Level, type and data of each control message.
pub(super) fn control_messages(mut bytes: &[u8]) -> impl Iterator<Item = (i32, i32, &[u8])> {
    const WORD: usize = size_of::<usize>();
    std::iter::from_fn(move || {
        let (len, rest) = bytes.split_first_chunk::<WORD>()?;
        let len = usize::from_ne_bytes(*len);
        let (level, kind) = (int(rest), int(rest.get(4..)?));
        let data = bytes.get(CONTROL_HEADER_LEN..len)?;
        bytes = bytes.get(align(len)..).unwrap_or(&[]);
        Some((level, kind, data))
    })
}

/// The `int` at the beginning of `data`; 0 if there is none.
pub(super) fn int(data: &[u8]) -> i32 {
    data.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn control_messages_are_laid_out_as_libc_says() {
        // SAFETY: arithmetic on constants.
        let (header, space, space2) = unsafe { (libc::CMSG_LEN(0), libc::CMSG_SPACE(4), libc::CMSG_SPACE(2)) };
        assert_eq!(header as usize, CONTROL_HEADER_LEN);
        let mut bytes = [0; SEND_CONTROL_LEN];
        assert_eq!(push_control(&mut bytes, 0, 1, 2, &[0; 4]), space as usize);
        assert_eq!(push_control(&mut bytes, 0, 1, 2, &[0; 2]), space2 as usize);
        assert_eq!(align_of::<Control<8>>() % align_of::<libc::cmsghdr>(), 0);
    }

    #[test]
    fn control_messages_are_read_as_they_were_written() {
        let mut bytes = [0; SEND_CONTROL_LEN];
        let len = push_control(&mut bytes, 0, 17, 103, &1450u16.to_ne_bytes());
        let len = push_control(&mut bytes, len, -5, 2, &7i32.to_ne_bytes());
        let all: Vec<_> = control_messages(&bytes[..len]).collect();
        assert_eq!(all, [(17, 103, &1450u16.to_ne_bytes()[..]), (-5, 2, &7i32.to_ne_bytes()[..])]);
    }

    #[test]
    fn cut_or_senseless_control_messages_end_the_list() {
        let mut bytes = [0; SEND_CONTROL_LEN];
        let len = push_control(&mut bytes, 0, 1, 2, &[9; 4]);
        for cut in 0..CONTROL_HEADER_LEN + 4 {
            assert_eq!(control_messages(&bytes[..cut]).count(), 0, "{cut} bytes");
        }
        for senseless in [0, 15, usize::MAX] {
            bytes[..8].copy_from_slice(&senseless.to_ne_bytes());
            assert_eq!(control_messages(&bytes[..len]).count(), 0, "length {senseless}");
        }
    }

    #[test]
    fn tos_and_ttl_leave_in_the_ip_header() {
        for address in ["127.0.0.1", "::1"] {
            let [sender, receiver] = [(); 2].map(|()| std::net::UdpSocket::bind((address, 0)).unwrap());
            let to = receiver.local_addr().unwrap();
            let (level, options, kinds) = match to {
                SocketAddr::V4(_) => {
                    (libc::IPPROTO_IP, [libc::IP_RECVTOS, libc::IP_RECVTTL], [libc::IP_TOS, libc::IP_TTL])
                }
                SocketAddr::V6(_) => (
                    libc::IPPROTO_IPV6,
                    [libc::IPV6_RECVTCLASS, libc::IPV6_RECVHOPLIMIT],
                    [libc::IPV6_TCLASS, libc::IPV6_HOPLIMIT],
                ),
            };
            for option in options {
                set_option(receiver.as_fd(), level, option, 1).unwrap();
            }
            let message = |tos, ttl| Outgoing { payload: &[1; 20], segment_len: None, address: to, tos, ttl };
            let messages = [message(0xb9, 7), message(0, 255), message(3, 0)];
            assert_eq!(SendArrays::new().send(sender.as_fd(), messages.into_iter()), Ok(3));

            let mut arrays = RecvArrays::new(4);
            let mut buffers = [[0; 64]; 4];
            let count = arrays.recv(receiver.as_fd(), buffers.iter_mut().map(|buffer| &mut buffer[..]));
            assert_eq!(count, Ok(3));
            for (index, (tos, ttl)) in [(0xb9, 7), (0, 255), (3, 64)].into_iter().enumerate() {
                let value = |wanted| {
                    let mut all = control_messages(&arrays.controls[index].0);
                    all.find(|(_, kind, _)| *kind == wanted).map(|(_, _, data)| data[0])
                };
                assert_eq!(kinds.map(value), [Some(tos), Some(ttl)], "{address}");
                let expected = Received { len: 20, source: to.ip(), tos, segment_len: None, truncated: false };
                assert_eq!(arrays.received(index), expected);
            }
            assert_eq!(
                arrays.recv(receiver.as_fd(), buffers.iter_mut().map(|buffer| &mut buffer[..])),
                Err(Errno::AGAIN)
            );
        }
    }

    #[test]
    fn addresses_are_read_as_they_were_written() {
        for text in ["192.0.2.1:4789", "[2001:db8::7]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut bytes = Address([0xff; 28]);
            let len = bytes.set(address) as usize;
            let expected =
                if address.is_ipv4() { size_of::<libc::sockaddr_in>() } else { size_of::<libc::sockaddr_in6>() };
            assert_eq!(len, expected);
            assert_eq!(bytes.ip(), address.ip());
        }
        let mut mapped = Address([0; 28]);
        mapped.set("[::ffff:192.0.2.9]:1".parse().unwrap());
        assert_eq!(mapped.ip(), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)));
    }
}
