//! Packet sockets (`packet(7)`): every frame of an existing interface, read and written whole.
//!
//! Setting one up is a matter of order. A packet socket reads from the moment it is bound to a protocol, and a socket that
//! is bound but not yet part of its fanout group reads everything that the group reads as well. So:
//!
//! 1. open with protocol 0, which reads nothing;
//! 2. set all options, and a filter that takes nothing;
//! 3. bind to the interface with ETH_P_ALL (joining a group needs a bound socket, and a member can't be bound any more);
//! 4. join the fanout group;
//! 5. when all sockets have come this far, wait until the kernel is done with frames that it had begun to hand out before
//!    the last socket joined: it walks the list of readers as it found it, without a lock;
//! 6. replace the filters by one that takes what comes in.
//!
//! Frames before step 6 are nobody's; from then on each is read by exactly one socket of the group.
//!
//! Three traps of `net/packet/af_packet.c`:
//! - PACKET_IGNORE_OUTGOING is the socket's, but a group has a hook of its own (`fanout_add`), which looks only at
//!   PACKET_FANOUT_FLAG_IGNORE_OUTGOING. Both are set. Older kernels (6.1 is one) take that flag and do nothing about it,
//!   so the filter that stays on refuses outgoing frames as well.
//! - The kernel takes the outermost tag off before a packet socket sees the frame, and says so in PACKET_AUXDATA only.
//! - An open packet socket keeps its namespace alive, as any socket does.
#![allow(unsafe_code)]

use std::{
    io,
    mem::{MaybeUninit, offset_of},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::{
    inside,
    interface::{InterfaceName, NameError},
    opener::Buffer,
};

/// Sockets that one fanout group can have by default (`net/packet/af_packet.c`: PACKET_FANOUT_MAX is 65,536, but a group
/// made without `max_num_members` takes 256).
pub const MAX_QUEUES: usize = 256;

/// Messages that [`PacketSocket::recv_many`] asks for at most in one call.
pub const RECV_MAX: usize = 32;

/// Frames that [`PacketSocket::send_many`] sends at most in one call.
pub const SEND_MAX: usize = 64;

/// Bytes that may wait in the socket. The kernel's default of 208 KiB is three super-frames; this is two batches of 32 of
/// them, at the twofold that the kernel charges.
pub const RECV_BUFFER: usize = 8 << 20;

/// What may wait in a [`watch`]. The kernel charges a super-frame whole although only its beginning is kept, so this is about
/// a thousand of them.
const WATCH_BUFFER: usize = 64 << 20;

/// Bytes of written frames that may be under way in the kernel: a batch of 32 super-frames.
const SEND_BUFFER: usize = 4 << 20;

/// Why an interface could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// The name is not one for an interface.
    #[error("`{name}` can't name an interface")]
    Name {
        /// The text in question.
        name: String,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
    /// No queues, or more than [`MAX_QUEUES`].
    #[error("a packet port has 1 to {MAX_QUEUES} queues, not {0}")]
    QueueCount(usize),
    /// The namespace has no such interface.
    #[error("there is no interface `{0}`")]
    NoInterface(InterfaceName),
    /// The interface's frames are not Ethernet frames.
    #[error("the interface `{name}` is not an Ethernet interface (its type is {kind})")]
    NotEthernet {
        /// The interface's name.
        name: InterfaceName,
        /// ARPHRD_* of `include/uapi/linux/if_arp.h`.
        kind: u16,
    },
    /// Packet sockets need CAP_NET_RAW in the namespace.
    #[error("no permission to open a packet socket on `{name}`")]
    NoPermission {
        /// The interface's name.
        name: InterfaceName,
        /// EPERM or EACCES.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a step.
    #[error("the kernel refused {step} for a packet socket on `{name}`")]
    Refused {
        /// The interface's name.
        name: InterfaceName,
        /// The step, such as `PACKET_FANOUT`.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// A packet socket that is bound to one interface, promiscuous, without the interface's own outgoing frames, not blocking.
/// Every frame read or written has a virtio-net header in front of it.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    /// The interface's index in the namespace where the socket was opened.
    pub index: u32,
}

/// What came with one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Received {
    /// Bytes read, virtio-net header included.
    pub len: usize,
    /// The outermost tag, which the kernel took off: protocol identifier and control information, in host byte order.
    pub tag: Option<(u16, u16)>,
    /// The frame was longer than the space for it, and its end is lost.
    pub truncated: bool,
    /// Bytes of the frame at the interface, without virtio-net header and tag. A [`watch`] reads only its beginning.
    pub frame_len: usize,
}

/// Opens `queue_count` sockets on an existing interface of the calling thread's namespace. Every frame is read by one of
/// them, all frames of a flow by the same.
///
/// # Errors
/// See [`PacketError`]; nothing is left behind.
pub fn open(name: &str, queue_count: usize) -> Result<Vec<PacketSocket>, PacketError> {
    let name = &InterfaceName::new(name).map_err(|source| PacketError::Name { name: name.to_owned(), source })?;
    if !(1..=MAX_QUEUES).contains(&queue_count) {
        return Err(PacketError::QueueCount(queue_count));
    }
    let refused = |step| move |source: io::Error| explain(name, step, source);
    let index = name.index().map_err(refused("SIOCGIFINDEX"))?;
    let index = index.ok_or_else(|| PacketError::NoInterface(name.clone()))?;

    let sockets = (0..queue_count).map(|_| prepare(name, index)).collect::<Result<Vec<_>, _>>()?;
    let kind = bound_to(&sockets[0].fd).map_err(refused("getsockname"))?.kind;
    if kind != libc::ARPHRD_ETHER {
        return Err(PacketError::NotEthernet { name: name.clone(), kind });
    }
    if let [first, others @ ..] = &sockets[..]
        && !others.is_empty()
    {
        let group = join_new_group(&first.fd).map_err(refused("PACKET_FANOUT"))?;
        for other in others {
            join_group(&other.fd, group, 0).map_err(refused("PACKET_FANOUT"))?;
        }
        await_readers().map_err(refused("socket(AF_PACKET)"))?;
    }
    for socket in &sockets {
        take_incoming(&socket.fd).map_err(refused("SO_ATTACH_FILTER"))?;
    }
    Ok(sockets)
}

/// Which way a frame goes at an interface, as seen by its namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The namespace receives it, whoever it is for.
    In,
    /// The namespace sends it.
    Out,
}

/// Which frames a [`watch`] sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// All of them.
    Everything,
    /// ICMP over IPv4 without options and ICMPv6 without extension headers, untagged.
    Icmp,
}

/// Opens a socket that sees the frames of one direction at an interface of the calling thread's namespace, and reads no more
/// than the first `head_len` bytes of each; [`Received::frame_len`] says how long it was. It takes nothing away from anybody, and
/// must not be written to.
///
/// What the kernel hands on as a super-frame is seen as one, with a virtio-net header that says how it is cut. Of the kernel's own
/// tunnels that is the inner packet's.
///
/// # Errors
/// See [`PacketError`].
pub fn watch(name: &str, direction: Direction, interest: Interest, head_len: u32) -> Result<PacketSocket, PacketError> {
    let name = &InterfaceName::new(name).map_err(|source| PacketError::Name { name: name.to_owned(), source })?;
    let refused = |step| move |source: io::Error| explain(name, step, source);
    let index = name.index().map_err(refused("SIOCGIFINDEX"))?;
    let index = index.ok_or_else(|| PacketError::NoInterface(name.clone()))?;
    let options = [(libc::PACKET_VNET_HDR, "PACKET_VNET_HDR"), (libc::PACKET_AUXDATA, "PACKET_AUXDATA")];
    let fd = unbound(name, &options, WATCH_BUFFER)?;
    bind(&fd, index).map_err(refused("bind"))?;
    take_one_way(&fd, direction, interest, head_len).map_err(refused("SO_ATTACH_FILTER"))?;
    Ok(PacketSocket { fd, index })
}

impl PacketSocket {
    /// Reads what is waiting into `spaces`, at most [`RECV_MAX`] frames: header and frame into each space's beginning, the
    /// rest into `received` of the same index. Returns how many; one system call.
    ///
    /// # Errors
    /// What `recvmmsg(2)` says if nothing was read. ENETDOWN: the interface went down or away, [`PacketSocket::is_gone`]
    /// tells which; said once each time. EINVAL: a frame was lost that no virtio-net header can describe.
    pub fn recv_many<'a>(
        &self,
        spaces: impl Iterator<Item = &'a mut [u8]>,
        received: &mut [Received; RECV_MAX],
    ) -> io::Result<usize> {
        // On the stack, not in the socket: pointers that live for one call only need no promise beyond it.
        let mut control = [const { Control::EMPTY }; RECV_MAX];
        let mut pieces = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; RECV_MAX];
        let mut messages = [const { MaybeUninit::<libc::mmsghdr>::zeroed() }; RECV_MAX];
        let mut count = 0;
        for (((space, control), piece), message) in spaces.zip(&mut control).zip(&mut pieces).zip(&mut messages) {
            *piece = libc::iovec { iov_base: space.as_mut_ptr().cast(), iov_len: space.len() };
            // SAFETY: `mmsghdr` is integers and pointers, for all of which zero is a value.
            let header = unsafe { &mut message.assume_init_mut().msg_hdr };
            header.msg_iov = piece;
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut control.0).cast();
            header.msg_controllen = CONTROL_LEN;
            count += 1;
        }
        // SAFETY: the first `count` messages are initialized. Each points at one iovec over a space that its caller lent
        // exclusively for 'a, and at a control buffer of the length given; all of them outlive the call. The kernel writes
        // nothing else, and no name, whose pointer is null.
        let result = unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr().cast(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let read_count = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
        for ((received, message), control) in received.iter_mut().zip(&messages).zip(&control).take(read_count) {
            // SAFETY: zeroed above, filled in by the kernel since.
            let message = unsafe { message.assume_init_ref() };
            let aux = aux_of(&control.0[..message.msg_hdr.msg_controllen.min(CONTROL_LEN)]);
            *received = Received {
                len: message.msg_len as usize,
                tag: aux.and_then(|aux| aux.tag),
                truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                frame_len: aux.map_or(0, |aux| aux.frame_len),
            };
        }
        Ok(read_count)
    }

    /// Sends frames, a virtio-net header in front of each, in order and without waiting, at most [`SEND_MAX`]; returns how
    /// many the kernel took. One system call.
    ///
    /// # Errors
    /// What `sendmmsg(2)` says about the first frame; an error about a later one only ends the count before it. ENOBUFS:
    /// the interface's queue had no room and that frame is lost; EAGAIN: the socket's send buffer is full.
    pub fn send_many<'a>(&self, frames: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
        let mut pieces = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SEND_MAX];
        let mut messages = [const { MaybeUninit::<libc::mmsghdr>::zeroed() }; SEND_MAX];
        let mut count = 0;
        for ((frame, piece), message) in frames.zip(&mut pieces).zip(&mut messages) {
            // The kernel only reads it.
            *piece = libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
            // SAFETY: `mmsghdr` is integers and pointers, for all of which zero is a value.
            let header = unsafe { &mut message.assume_init_mut().msg_hdr };
            header.msg_iov = piece;
            header.msg_iovlen = 1;
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: the first `count` messages are initialized. Each points at one iovec over a frame that is borrowed for 'a;
        // both outlive the call. Names and control messages are absent, their pointers null and their lengths zero. The
        // kernel writes nothing but `msg_len` of the messages, which are this call's own.
        let result = unsafe {
            libc::sendmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr().cast(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    /// Writes past the interface's queue (PACKET_QDISC_BYPASS): what is written is with the device when the call returns,
    /// also right after the interface came up, while its queue is not attached yet.
    ///
    /// # Errors
    /// What `setsockopt(2)` says.
    pub fn bypass_queue(&self) -> io::Result<()> {
        set_packet_option(&self.fd, libc::PACKET_QDISC_BYPASS, &1i32.to_ne_bytes())
    }

    /// What may wait in the socket, if the kernel gave less than [`RECV_BUFFER`].
    pub fn short_receive_buffer(&self) -> Option<usize> {
        // The kernel says twice what it was told (`net/core/sock.c:__sock_set_rcvbuf`).
        let given = sockopt::socket_recv_buffer_size(&self.fd).ok()? / 2;
        (given < RECV_BUFFER).then_some(given)
    }

    /// Whether the interface was deleted or left the namespace.
    pub fn is_gone(&self) -> bool {
        // af_packet.c:packet_notifier sets the index to -1 on NETDEV_UNREGISTER.
        bound_to(&self.fd).is_ok_and(|bound| bound.index < 0)
    }

    /// Frames that found the socket full since the last time this was asked: reading sets the kernel's counter back.
    ///
    /// # Errors
    /// What `getsockopt(2)` says.
    pub fn take_drops(&self) -> io::Result<u32> {
        let empty = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        // SAFETY: PACKET_STATISTICS writes `struct tpacket_stats`, two integers, for which all bytes are values.
        let stats = unsafe { option_of(&self.fd, libc::PACKET_STATISTICS, empty) }?;
        Ok(stats.tp_drops)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Steps 1 to 3 of the module's list.
fn prepare(name: &InterfaceName, index: u32) -> Result<PacketSocket, PacketError> {
    let refused = |step| move |source: io::Error| explain(name, step, source);
    let options = [
        (libc::PACKET_VNET_HDR, "PACKET_VNET_HDR"),
        (libc::PACKET_AUXDATA, "PACKET_AUXDATA"),
        (libc::PACKET_IGNORE_OUTGOING, "PACKET_IGNORE_OUTGOING"),
    ];
    let fd = unbound(name, &options, RECV_BUFFER)?;
    if inside::force_buffer(&fd, Buffer::Send, SEND_BUFFER).is_err() {
        let _ = sockopt::set_socket_send_buffer_size(&fd, SEND_BUFFER);
    }

    bind(&fd, index).map_err(refused("bind"))?;
    // struct packet_mreq: index, type, address length, address.
    let mut membership = [0; 16];
    membership[..4].copy_from_slice(&index.to_ne_bytes());
    membership[4..6].copy_from_slice(&(libc::PACKET_MR_PROMISC as u16).to_ne_bytes());
    set_packet_option(&fd, libc::PACKET_ADD_MEMBERSHIP, &membership).map_err(refused("promiscuous mode"))?;
    Ok(PacketSocket { fd, index })
}

/// A socket with these options on, whose filter takes nothing.
fn unbound(
    name: &InterfaceName,
    options: &[(libc::c_int, &'static str)],
    receive_buffer: usize,
) -> Result<OwnedFd, PacketError> {
    let refused = |step| move |source: io::Error| explain(name, step, source);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd =
        inside::socket(AddressFamily::PACKET, SocketType::RAW, flags, None).map_err(refused("socket(AF_PACKET)"))?;
    for &(option, step) in options {
        set_packet_option(&fd, option, &1i32.to_ne_bytes()).map_err(refused(step))?;
    }
    // Larger than net.core.rmem_max needs CAP_NET_ADMIN, without which the largest that is allowed has to do.
    if inside::force_buffer(&fd, Buffer::Receive, receive_buffer).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(&fd, receive_buffer);
    }
    take_nothing(&fd).map_err(refused("SO_ATTACH_FILTER"))?;
    Ok(fd)
}

fn explain(name: &InterfaceName, step: &'static str, source: io::Error) -> PacketError {
    let name = name.clone();
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => PacketError::NoPermission { name, source },
        Some(libc::ENODEV) => PacketError::NoInterface(name),
        _ => PacketError::Refused { name, step, source },
    }
}

const FANOUT: u32 = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;

/// Makes a group under an identifier that nobody uses, and returns that.
fn join_new_group(fd: &OwnedFd) -> io::Result<u16> {
    join_group(fd, 0, libc::PACKET_FANOUT_FLAG_UNIQUEID)?;
    // SAFETY: PACKET_FANOUT writes an int, for which all bytes are values.
    let group = unsafe { option_of(fd, libc::PACKET_FANOUT, 0i32) }?;
    Ok(group as u16)
}

fn join_group(fd: &OwnedFd, group: u16, flags: u32) -> io::Result<()> {
    // Identifier below, type and flags above.
    set_packet_option(fd, libc::PACKET_FANOUT, &(u32::from(group) | (FANOUT | flags) << 16).to_ne_bytes())
}

/// Waits until every frame that is being handed out now has been. Closing any packet socket does
/// (af_packet.c:packet_release calls `synchronize_net`), and nothing else that a process may do says so as plainly.
fn await_readers() -> io::Result<()> {
    drop(inside::socket(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?);
    Ok(())
}

fn take_nothing(fd: &OwnedFd) -> io::Result<()> {
    // One instruction: return 0, the bytes of the frame to keep.
    let nothing = socket2::SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
    socket2::SockRef::from(fd).attach_filter(&[nothing])
}

/// Takes every frame but the interface's own outgoing ones.
fn take_incoming(fd: &OwnedFd) -> io::Result<()> {
    take_one_way(fd, Direction::In, Interest::Everything, u32::MAX)
}

/// Takes the first `head_len` bytes of every frame of interest that goes this way.
fn take_one_way(fd: &OwnedFd, direction: Direction, interest: Interest, head_len: u32) -> io::Result<()> {
    const OUTGOING: u32 = libc::PACKET_OUTGOING as u32;
    const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
    const ETHER_TYPE_AT: u32 = 12;
    const IPV4: u32 = libc::ETH_P_IP as u32;
    const IPV4_PROTOCOL_AT: u32 = 14 + 9;
    const IPV6: u32 = libc::ETH_P_IPV6 as u32;
    const IPV6_NEXT_AT: u32 = 14 + 6;
    const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
    let instruction = |code: u32, if_so, if_not, value| socket2::SockFilter::new(code as u16, if_so, if_not, value);
    let load = |code, at| instruction(code, 0, 0, at);
    // Skips so many instructions.
    let equal = |value, if_so, if_not| instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, if_so, if_not, value);
    let take = |len| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, len);
    let (if_outgoing, if_not) = match direction {
        Direction::In => (0, 1),
        Direction::Out => (1, 0),
    };
    let mut program = vec![load(LOAD_BYTE, PACKET_TYPE), equal(OUTGOING, if_outgoing, if_not), take(0)];
    if interest == Interest::Icmp {
        program.extend([
            load(LOAD_HALF, ETHER_TYPE_AT),
            equal(IPV4, 0, 2),
            load(LOAD_BYTE, IPV4_PROTOCOL_AT),
            equal(libc::IPPROTO_ICMP as u32, 4, 3),
            equal(IPV6, 0, 2),
            load(LOAD_BYTE, IPV6_NEXT_AT),
            equal(libc::IPPROTO_ICMPV6 as u32, 1, 0),
            take(0),
        ]);
    }
    program.push(take(head_len));
    socket2::SockRef::from(fd).attach_filter(&program)
}

fn bind(fd: &OwnedFd, index: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer and the length are those of one initialized `sockaddr_ll`, which the kernel only reads.
    check(unsafe {
        libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    })
}

struct Bound {
    index: i32,
    kind: u16,
}

/// The index and hardware type of the interface that a socket is bound to.
fn bound_to(fd: &OwnedFd) -> io::Result<Bound> {
    // SAFETY: `sockaddr_ll` is integers only, for all of which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, the size of `address`, and every byte written is a value of its fields.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut len) })?;
    Ok(Bound { index: address.sll_ifindex, kind: address.sll_hatype })
}

fn set_packet_option(fd: &OwnedFd, option: libc::c_int, value: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads `value.len()` bytes from `value`.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    })
}

/// # Safety
/// Every byte pattern that the kernel may write for `option` must be a value of `T`.
unsafe fn option_of<T>(fd: &OwnedFd, option: libc::c_int, mut value: T) -> io::Result<T> {
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, the size of `value`; the caller vouches for what they mean.
    check(unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_PACKET, option, (&raw mut value).cast(), &raw mut len)
    })?;
    Ok(value)
}

/// Room for one control message with a `struct tpacket_auxdata`, aligned as `cmsghdr` wants it.
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

const CONTROL_LEN: usize = 40;

const _: () = {
    let header = size_of::<libc::cmsghdr>().next_multiple_of(align_of::<libc::cmsghdr>());
    assert!(header + size_of::<libc::tpacket_auxdata>() <= CONTROL_LEN);
    assert!(align_of::<libc::cmsghdr>() <= align_of::<Control>());
};

impl Control {
    const EMPTY: Self = Self([0; CONTROL_LEN]);
}

/// What a control message of PACKET_AUXDATA tells.
#[derive(Clone, Copy)]
struct Aux {
    tag: Option<(u16, u16)>,
    frame_len: usize,
}

/// Reads a control message. It is the only kind that these sockets ask for, so only the first message is looked at.
fn aux_of(control: &[u8]) -> Option<Aux> {
    let header_len = size_of::<libc::cmsghdr>();
    let level: i32 = i32::from_ne_bytes(field(control, offset_of!(libc::cmsghdr, cmsg_level))?);
    let kind = i32::from_ne_bytes(field(control, offset_of!(libc::cmsghdr, cmsg_type))?);
    if (level, kind) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
        return None;
    }
    let data = control.get(header_len..)?;
    let status = u32::from_ne_bytes(field(data, offset_of!(libc::tpacket_auxdata, tp_status))?);
    let len = u32::from_ne_bytes(field(data, offset_of!(libc::tpacket_auxdata, tp_len))?);
    let tci = u16::from_ne_bytes(field(data, offset_of!(libc::tpacket_auxdata, tp_vlan_tci))?);
    let tpid = u16::from_ne_bytes(field(data, offset_of!(libc::tpacket_auxdata, tp_vlan_tpid))?);
    let tag = (status & libc::TP_STATUS_VLAN_VALID != 0).then_some((tpid, tci));
    Some(Aux { tag, frame_len: len as usize })
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
