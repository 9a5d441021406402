//! Taps: making them and setting them up. Reading and writing need no unsafe code and live in [`crate::port`].
//!
//! A tap's queue is a descriptor of `/dev/net/tun` that TUNSETIFF has attached to a device; with IFF_MULTI_QUEUE several
//! may be attached to one. What a descriptor hands over is one frame a read, behind a virtio-net header if the device has
//! IFF_VNET_HDR. The device lives as long as one descriptor does, and so does its namespace: a descriptor holds a reference
//! to the namespace that it was *opened* in (`drivers/net/tun.c:tun_chr_open`), so that `ip netns del` leaves both alive.
//!
//! The offload mask (TUNSETOFFLOAD) says what a *reader* can take: which checksums the kernel may leave open and which
//! super-frames it may hand over whole. It belongs to the device, not to the descriptor, and survives it. It is therefore
//! set after every open, to nothing for a tap that reads plain frames. Writing is not bound to it.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use super::{
    inside,
    interface::{InterfaceName, NameError},
    opener::TapQueue,
};

/// Queues that one tap can have (`drivers/net/tun.c`: MAX_TAP_QUEUES).
pub const MAX_QUEUES: usize = 256;

/// Bytes of the virtio-net header in front of every frame: `struct virtio_net_hdr`.
pub const VNET_HDR_LEN: usize = 10;

/// Bytes of written frames that may be under way in the kernel for each queue before a write says EAGAIN.
///
/// The kernel's default is no limit at all; then a slow device behind the tap swallows frames without a word. 4 MiB hold a
/// batch of 32 super-frames, each of which the kernel charges with up to twice its 64 KiB.
pub(super) const SEND_BUFFER: libc::c_int = 4 << 20;

/// The step that comes before all others.
const OPENING: &str = "opening /dev/net/tun";

/// Why a tap could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The name is not one for an interface.
    #[error("`{name}` can't name a tap")]
    Name {
        /// The text in question.
        name: String,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
    /// No queues, or more than [`MAX_QUEUES`].
    #[error("a tap has 1 to {MAX_QUEUES} queues, not {0}")]
    QueueCount(usize),
    /// The machine has no taps: no `/dev/net/tun`, or no driver behind it.
    #[error("there are no taps here: can't open /dev/net/tun")]
    NoDevice(#[source] io::Error),
    /// `/dev/net/tun` may not be opened: its file belongs to others.
    #[error("no permission to open /dev/net/tun")]
    DeviceForbidden(#[source] io::Error),
    /// Making the interface is forbidden; it needs CAP_NET_ADMIN in the namespace.
    #[error("no permission to make the tap `{name}`")]
    NoPermission {
        /// The tap's name.
        name: InterfaceName,
        /// EPERM or EACCES.
        #[source]
        source: io::Error,
    },
    /// The namespace has an interface of this name.
    #[error("an interface `{0}` exists already")]
    NameTaken(InterfaceName),
    /// The kernel refused a step.
    #[error("the kernel refused {step} for the tap `{name}`")]
    Refused {
        /// The tap's name.
        name: InterfaceName,
        /// The step, such as `TUNSETIFF`.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// What the kernel may leave to the reader of a tap: TUN_F_* of `include/uapi/linux/if_tun.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TunOffloads(libc::c_uint);

impl TunOffloads {
    const CSUM: Self = Self(libc::TUN_F_CSUM);
    const TSO: Self = Self(Self::CSUM.0 | libc::TUN_F_TSO4 | libc::TUN_F_TSO6);
    const TSO_ECN: Self = Self(Self::TSO.0 | libc::TUN_F_TSO_ECN);
    const ALL: Self = Self(Self::TSO_ECN.0 | libc::TUN_F_USO4 | libc::TUN_F_USO6);
    /// Nothing: whole frames with complete checksums.
    pub const NONE: Self = Self(0);

    /// From the most to nothing. Kernels before 6.2 refuse USO, and a mask is taken whole or not at all
    /// (`drivers/net/tun.c:set_offload`).
    const LADDER: [Self; 5] = [Self::ALL, Self::TSO_ECN, Self::TSO, Self::CSUM, Self::NONE];

    /// Frames whose transport checksum is only started.
    pub const fn csum(self) -> bool {
        self.0 & libc::TUN_F_CSUM != 0
    }

    /// TCP super-frames over IPv4.
    pub const fn tso4(self) -> bool {
        self.0 & libc::TUN_F_TSO4 != 0
    }

    /// TCP super-frames over IPv6.
    pub const fn tso6(self) -> bool {
        self.0 & libc::TUN_F_TSO6 != 0
    }

    /// UDP super-frames, over IPv4 and IPv6.
    pub const fn uso(self) -> bool {
        self.0 & libc::TUN_F_USO4 != 0 && self.0 & libc::TUN_F_USO6 != 0
    }
}

/// A tap with virtio-net headers, new and down.
#[derive(Debug)]
pub struct Tap {
    /// The interface's index in the namespace where it was made.
    pub index: u32,
    /// One descriptor each, not blocking.
    pub queues: Vec<OwnedFd>,
    /// What the kernel agreed to hand over unfinished.
    pub offloads: TunOffloads,
}

impl Tap {
    /// Makes a tap in the calling thread's namespace. It is never an interface that exists already: weft's taps vanish with
    /// weft, which would be wrong for one that it found.
    ///
    /// # Errors
    /// See [`TapError`]; nothing is left behind.
    pub fn create(name: &str, queue_count: usize) -> Result<Self, TapError> {
        let name = &InterfaceName::new(name).map_err(|source| TapError::Name { name: name.to_owned(), source })?;
        if !(1..=MAX_QUEUES).contains(&queue_count) {
            return Err(TapError::QueueCount(queue_count));
        }
        let queues = (0..queue_count)
            .map(|number| queue(name, if number == 0 { TapQueue::First } else { TapQueue::Further }))
            .collect::<Result<Vec<_>, TapError>>()?;

        let first = &queues[0];
        let refused = |step| move |source| TapError::Refused { name: name.clone(), step, source };
        let flags = device_flags(first).map_err(refused("TUNGETIFF"))?;
        // TUN_EXCL and NO_PI are not to be looked for: the one is not kept, the other's bit also means NOFILTER here.
        let wanted = libc::IFF_TAP | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
        if flags & wanted != wanted {
            return Err(refused("queues with virtio-net headers")(io::ErrorKind::Unsupported.into()));
        }
        set_by_pointer(first, libc::TUNSETVNETHDRSZ, VNET_HDR_LEN as libc::c_int)
            .map_err(refused("TUNSETVNETHDRSZ"))?;
        set_by_pointer(first, libc::TUNSETSNDBUF, SEND_BUFFER).map_err(refused("TUNSETSNDBUF"))?;
        let offloads = climb_down(first).map_err(refused("TUNSETOFFLOAD"))?;
        let index = name.index().and_then(|index| index.ok_or_else(|| io::ErrorKind::NotFound.into()));
        Ok(Self { index: index.map_err(refused("SIOCGIFINDEX"))?, queues, offloads })
    }
}

impl TapError {
    /// Whether this machine, or this user, has no taps at all: a veth pair may do instead.
    pub fn is_without_device(&self) -> bool {
        matches!(self, Self::NoDevice(_) | Self::DeviceForbidden(_))
    }

    /// Whether the device could not be opened, for whatever reason.
    pub(super) fn is_at_device(&self) -> bool {
        self.is_without_device() || matches!(self, Self::Refused { step: OPENING, .. })
    }

    /// What the kernel said.
    pub(super) fn into_source(self) -> io::Error {
        match self {
            Self::NoDevice(source)
            | Self::DeviceForbidden(source)
            | Self::NoPermission { source, .. }
            | Self::Refused { source, .. } => source,
            // What TUNSETIFF says then.
            Self::NameTaken(_) => io::Error::from_raw_os_error(libc::EBUSY),
            Self::Name { .. } | Self::QueueCount(_) => io::Error::new(io::ErrorKind::InvalidInput, self),
        }
    }
}

/// A tap of one queue and plain frames.
#[derive(Debug)]
pub struct PlainTap {
    queue: PlainQueue,
    /// The interface's index in the namespace where it was made.
    pub index: u32,
}

impl PlainTap {
    /// Makes a tap in the calling thread's namespace, not blocking, and forbids the kernel any offload towards it.
    ///
    /// The crate cuts a long name to 15 bytes without a word and adopts a persistent tap of the same name; both are refused
    /// here before it is asked.
    ///
    /// # Errors
    /// See [`TapError`]; nothing is left behind.
    pub fn create(name: &str) -> Result<Self, TapError> {
        let name = &InterfaceName::new(name).map_err(|source| TapError::Name { name: name.to_owned(), source })?;
        let refused = |step| move |source| TapError::Refused { name: name.clone(), step, source };
        if name.index().map_err(refused("SIOCGIFINDEX"))?.is_some() {
            return Err(TapError::NameTaken(name.clone()));
        }
        let queue = if inside::is_by_other() {
            // The crate opens the device itself, and so where this thread is and not where it visits.
            PlainQueue::Own(queue(name, TapQueue::Plain)?.into())
        } else {
            // Whether there is such a device the crate does not say.
            drop(open_device(name)?);
            let made = tun_tap::Iface::without_packet_info(name.as_str(), tun_tap::Mode::Tap);
            let iface = made.map_err(|source| attach_error(name, source))?;
            iface.set_non_blocking().map_err(refused("FIONBIO"))?;
            PlainQueue::Crate(iface)
        };
        let index = name.index().and_then(|index| index.ok_or_else(|| io::ErrorKind::NotFound.into()));
        let tap = Self { queue, index: index.map_err(refused("SIOCGIFINDEX"))? };
        set_offloads(&tap, TunOffloads::NONE).map_err(refused("TUNSETOFFLOAD"))?;
        Ok(tap)
    }

    /// A queue that is attached already, not blocking.
    pub(super) fn of_queue(queue: OwnedFd, index: u32) -> Self {
        Self { queue: PlainQueue::Own(queue.into()), index }
    }

    /// One frame, if one waits.
    ///
    /// # Errors
    /// What `read(2)` says; [`io::ErrorKind::WouldBlock`] if nothing waits.
    pub fn recv(&self, space: &mut [u8]) -> io::Result<usize> {
        match &self.queue {
            PlainQueue::Crate(iface) => iface.recv(space),
            PlainQueue::Own(file) => io::Read::read(&mut &*file, space),
        }
    }
}

#[derive(Debug)]
enum PlainQueue {
    /// Of the `tun-tap` crate.
    Crate(tun_tap::Iface),
    Own(File),
}

impl AsFd for PlainTap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.queue {
            // SAFETY: `iface` owns the descriptor as a `File` that nothing replaces, and lives at least as long as the borrow.
            PlainQueue::Crate(iface) => unsafe { BorrowedFd::borrow_raw(iface.as_raw_fd()) },
            PlainQueue::Own(file) => file.as_fd(),
        }
    }
}

/// A queue of a tap, in the namespace that the calling thread visits, or is in.
///
/// # Errors
/// See [`TapError`]; nothing is left behind.
pub(super) fn queue(name: &InterfaceName, queue: TapQueue) -> Result<OwnedFd, TapError> {
    if let Some(made) = inside::tap_queue_by_opener(name, queue) {
        return made.map_err(
            |(source, at_device)| {
                if at_device { device_error(name, source) } else { attach_error(name, source) }
            },
        );
    }
    const MANY: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
    let flags = match queue {
        // Exclusive, but for the others of many, which attach to what the first has made.
        TapQueue::First => MANY | libc::IFF_TUN_EXCL,
        TapQueue::Further => MANY,
        TapQueue::Plain => libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL,
    };
    let device = open_device(name)?;
    attach(&device, name, flags)?;
    Ok(device)
}

fn open_device(name: &InterfaceName) -> Result<OwnedFd, TapError> {
    inside::tun().map_err(|source| device_error(name, source))
}

fn device_error(name: &InterfaceName, source: io::Error) -> TapError {
    match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::ENODEV | libc::ENXIO) => TapError::NoDevice(source),
        Some(libc::EPERM | libc::EACCES) => TapError::DeviceForbidden(source),
        _ => TapError::Refused { name: name.clone(), step: OPENING, source },
    }
}

fn attach(fd: &OwnedFd, name: &InterfaceName, flags: libc::c_int) -> Result<(), TapError> {
    let mut request = InterfaceRequest { flags: flags as u16, ..InterfaceRequest::EMPTY };
    request.name[..name.as_str().len()].copy_from_slice(name.as_str().as_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`; `request` has its size and is exclusively borrowed.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    check(result).map_err(|source| attach_error(name, source))
}

fn attach_error(name: &InterfaceName, source: io::Error) -> TapError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => TapError::NoPermission { name: name.clone(), source },
        Some(libc::EBUSY) => TapError::NameTaken(name.clone()),
        _ => TapError::Refused { name: name.clone(), step: "TUNSETIFF", source },
    }
}

/// What a step that the kernel refused becomes.
pub(super) fn refused(name: &InterfaceName, step: &'static str) -> impl Fn(io::Error) -> TapError {
    let name = name.clone();
    move |source| TapError::Refused { name: name.clone(), step, source }
}

/// Puts a filter on a tap that takes every frame whole.
pub(super) fn filter_nothing(fd: &OwnedFd) -> io::Result<()> {
    // One instruction: return the most, the bytes of the frame to keep.
    let code = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut all = libc::sock_filter { code, jt: 0, jf: 0, k: u32::MAX };
    let program = libc::sock_fprog { len: 1, filter: &raw mut all };
    // SAFETY: TUNATTACHFILTER reads one `sock_fprog` and the one instruction that it points at; both outlive the call, and the
    // kernel copies them.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNATTACHFILTER, &raw const program) })
}

/// Takes it off again.
pub(super) fn filter_no_more(fd: &OwnedFd) -> io::Result<()> {
    let program = libc::sock_fprog { len: 0, filter: std::ptr::null_mut() };
    // SAFETY: TUNDETACHFILTER takes a `sock_fprog` for its form's sake and reads nothing of it.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNDETACHFILTER, &raw const program) })
}

// include/uapi/linux/if_tun.h: _IOW('T', 213, struct sock_fprog) and _IOW('T', 214, struct sock_fprog)
const TUNATTACHFILTER: libc::Ioctl = write_request(213);
const TUNDETACHFILTER: libc::Ioctl = write_request(214);

/// `_IOW` of `include/uapi/asm-generic/ioctl.h` for a number of tun's that reads a `struct sock_fprog`.
const fn write_request(number: libc::Ioctl) -> libc::Ioctl {
    1 << 30 | (size_of::<libc::sock_fprog>() as libc::Ioctl) << 16 | (b'T' as libc::Ioctl) << 8 | number
}

/// The device's flags, as far as the kernel keeps them.
fn device_flags(fd: &OwnedFd) -> io::Result<libc::c_int> {
    let mut request = InterfaceRequest::EMPTY;
    // SAFETY: TUNGETIFF writes one `struct ifreq`; `request` has its size and is exclusively borrowed.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    Ok(libc::c_int::from(request.flags))
}

pub(super) fn climb_down(fd: &OwnedFd) -> io::Result<TunOffloads> {
    let mut last = Err(io::ErrorKind::Unsupported.into());
    for offloads in TunOffloads::LADDER {
        last = set_offloads(fd, offloads).map(|()| offloads);
        if last.is_ok() {
            break;
        }
    }
    last
}

pub(super) fn set_offloads(fd: &impl AsFd, offloads: TunOffloads) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value; the kernel follows no pointer.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads.0)) })
}

pub(super) fn set_by_pointer(fd: &OwnedFd, request: libc::Ioctl, value: libc::c_int) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ and TUNSETSNDBUF, the callers' requests, read one int through the pointer; `value` is one.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw const value) })
}

/// `struct ifreq` (`include/uapi/linux/if.h`) as TUNSETIFF and TUNGETIFF use it. Spelled out rather than libc's, whose union
/// would make reading the flags unsafe.
#[repr(C)]
pub(super) struct InterfaceRequest {
    /// The name with zeros behind it; an [`InterfaceName`] always leaves one.
    pub(super) name: [u8; libc::IFNAMSIZ],
    pub(super) flags: u16,
    pub(super) rest: [u8; size_of::<libc::ifreq>() - libc::IFNAMSIZ - size_of::<u16>()],
}

const _: () = assert!(size_of::<InterfaceRequest>() == size_of::<libc::ifreq>());

impl InterfaceRequest {
    pub(super) const EMPTY: Self = Self { name: [0; _], flags: 0, rest: [0; _] };
}

pub(super) fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
