//! Making descriptors inside a namespace: where a thread can enter it, by the thread; else by a helper process.
//!
//! # Theory of operation
//! Whoever may do something in a network namespace is for the user namespace to say that owns it. An ordinary user has all
//! capabilities over the user namespaces that he made himself (`security/commoncap.c:cap_capable`: "The owner of the user
//! namespace has all caps"), and over nothing else. That is enough to change interfaces there, by a netlink socket of that
//! namespace, and to make a tap, with a descriptor of `/dev/net/tun` that was opened there; but not to *enter*: for a network
//! namespace alone, setns(2) wants CAP_SYS_ADMIN where one comes from too (`net/core/net_namespace.c:netns_install`). One has to
//! enter the user namespace first, and a process with more than one thread can't (`kernel/user_namespace.c:userns_install`).
//!
//! So a `Helper` does: this very program, started anew with one thread ([`HELPER_VERB`]). It is handed the two namespaces,
//! enters them, opens what it is asked for, hands that back (SCM_RIGHTS), and ends with the visit. It does nothing else: what
//! is made of a descriptor, its user makes of it, who has the capability by the rule above.
//!
//! A weft that gave its privileges up has a process that makes everything, in whatever namespace: the [`opener`].
//!
//! [`Netns::making`] decides which way it is, and says so to the functions here by a variable of the visiting thread. All of
//! weft's descriptors that belong to a namespace are made by them.
#![allow(unsafe_code)]

use std::{
    cell::RefCell,
    ffi::OsStr,
    fs::{self, File},
    io::{self, ErrorKind, IoSlice, IoSliceMut, Write},
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    net::{
        AddressFamily, Protocol, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socket_with,
        socketpair,
        sockopt::{self, Timeout},
    },
    thread::{LinkNameSpaceType, UnshareFlags},
};

use super::{
    interface::InterfaceName,
    netns::Netns,
    opener::{self, Buffer, Opener, Table, TapQueue},
};

/// The verb of the command line that runs [`serve_as_helper`]; not for people.
pub const HELPER_VERB: &str = "make-inside";

/// How long a helper may take for one answer: each is a system call, but the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

thread_local! {
    /// Who makes descriptors for this thread; `None`: itself, where it is, or the opener there.
    static MAKER: RefCell<Option<Maker>> = const { RefCell::new(None) };
}

/// Who makes descriptors in a namespace that a thread visits without being there.
enum Maker {
    /// A process that is there.
    Helper(Helper),
    /// The opener, which goes there.
    Opener(&'static Opener, Netns),
}

/// A socket of the namespace that the calling thread visits, or is in.
///
/// # Errors
/// What `socket(2)` says.
pub(crate) fn socket(
    family: AddressFamily,
    kind: SocketType,
    flags: SocketFlags,
    protocol: Option<Protocol>,
) -> io::Result<OwnedFd> {
    by_opener(|opener, netns| opener.socket(netns, (family, kind, protocol), flags))
        .unwrap_or_else(|| make(&Wanted::Socket { family, kind, flags, protocol }))
}

/// An open `/dev/net/tun`, not blocking, that makes its interfaces in the namespace that the calling thread visits, or is in.
///
/// # Errors
/// What `open(2)` says.
pub(crate) fn tun() -> io::Result<OwnedFd> {
    make(&Wanted::Tun)
}

/// A new, nameless network namespace that belongs to the same user namespace as the one that the calling thread visits, or is
/// in. Where `/proc/sys` lets it, its interfaces will have no IPv6 of their own. It ends with its last handle.
///
/// # Errors
/// Needs CAP_SYS_ADMIN over that user namespace, and the limit `user.max_net_namespaces` may be reached (ENOSPC).
pub(crate) fn namespace() -> io::Result<OwnedFd> {
    by_opener(Opener::namespace).unwrap_or_else(|| make(&Wanted::Namespace))
}

/// One of the kernel's tables about the namespace that the calling thread visits, or is in.
///
/// # Errors
/// What `open(2)` says.
pub(crate) fn table(table: Table) -> io::Result<OwnedFd> {
    let here = || match MAKER.with_borrow(Option::is_some) {
        // A helper opens no files, and this thread is elsewhere.
        true => Err(ErrorKind::Unsupported.into()),
        false => Ok(File::open(table.path())?.into()),
    };
    by_opener(|opener, netns| opener.table(netns, table)).unwrap_or_else(here)
}

/// A queue of a tap in the namespace that the calling thread visits, or is in, if the opener makes it. An error says as well
/// whether the device itself could not be opened.
pub(super) fn tap_queue_by_opener(name: &InterfaceName, queue: TapQueue) -> Option<Result<OwnedFd, (io::Error, bool)>> {
    by_opener(|opener, netns| opener.tap_queue(netns, name, queue))
}

/// Gives a socket a larger buffer than `net.core.rmem_max` or `wmem_max` allows, as only those may that have CAP_NET_ADMIN.
///
/// # Errors
/// EPERM; or what `setsockopt(2)` says.
pub(crate) fn force_buffer(socket: impl AsFd, of: Buffer, bytes: usize) -> io::Result<()> {
    if let Some(opener) = opener::get() {
        return opener.set_buffer(socket.as_fd(), of, bytes);
    }
    match of {
        Buffer::Receive => sockopt::set_socket_recv_buffer_size_force(socket, bytes)?,
        Buffer::Send => sockopt::set_socket_send_buffer_size_force(socket, bytes)?,
    }
    Ok(())
}

/// Gives a UDP socket its address; also one that only the privileged may have.
///
/// # Errors
/// What `bind(2)` says.
pub(crate) fn bind(socket: impl AsFd, address: SocketAddr) -> io::Result<()> {
    match (rustix::net::bind(&socket, &address), opener::get()) {
        // Below net.ipv4.ip_unprivileged_port_start.
        (Err(Errno::ACCESS), Some(opener)) => opener.bind(socket.as_fd(), address),
        (bound, _) => Ok(bound?),
    }
}

/// Has the kernel say in a sentence why it refuses what is sent by this netlink socket, without the request behind it
/// (NETLINK_EXT_ACK, NETLINK_CAP_ACK).
pub(super) fn ask_for_sentences(socket: &OwnedFd) -> io::Result<()> {
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        super::udp::set_option(socket.as_fd(), libc::SOL_NETLINK, option, 1)?;
    }
    Ok(())
}

/// Whether somebody else makes what this thread asks for: what is made otherwise than by these functions is made elsewhere then.
pub(crate) fn is_by_other() -> bool {
    opener::get().is_some() || MAKER.with_borrow(Option::is_some)
}

/// What the opener does in the namespace that the calling thread visits, or in its own; `None`: there is no opener.
fn by_opener<T>(work: impl FnOnce(&'static Opener, Option<&Netns>) -> T) -> Option<T> {
    MAKER.with_borrow(|maker| match maker {
        Some(Maker::Helper(_)) => None,
        Some(Maker::Opener(opener, netns)) => Some(work(opener, Some(netns))),
        None => opener::get().map(|opener| work(opener, None)),
    })
}

fn make(wanted: &Wanted) -> io::Result<OwnedFd> {
    MAKER.with_borrow(|maker| match maker {
        Some(Maker::Helper(helper)) => helper.ask(wanted),
        Some(Maker::Opener(..)) | None => wanted.open(),
    })
}

/// Runs `work` on the calling thread while the opener makes inside `netns` what it asks for.
pub(super) fn with_opener<T>(opener: &'static Opener, netns: &Netns, work: impl FnOnce() -> T) -> T {
    let _visit = Visit::begin(Maker::Opener(opener, netns.clone()));
    work()
}

/// Runs `work` while a helper inside `netns` makes what it asks for.
///
/// # Errors
/// Nobody can enter the namespace on this thread's behalf. `refusal` is what the kernel said when it tried itself.
pub(super) fn with_helper<T>(netns: &Netns, refusal: io::Error, work: impl FnOnce() -> T) -> io::Result<T> {
    let helper = Helper::start(netns, refusal)?;
    let _visit = Visit::begin(Maker::Helper(helper));
    Ok(work())
}

/// The maker leaves the thread when this is dropped, however `work` ends.
struct Visit;

impl Visit {
    fn begin(maker: Maker) -> Self {
        MAKER.set(Some(maker));
        Self
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        MAKER.set(None);
    }
}

/// What can be made inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    Tun,
    Namespace,
    Socket { family: AddressFamily, kind: SocketType, flags: SocketFlags, protocol: Option<Protocol> },
}

impl Wanted {
    /// Makes it where the calling thread is.
    fn open(&self) -> io::Result<OwnedFd> {
        match *self {
            Self::Tun => {
                let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
                Ok(rustix::fs::openat(rustix::fs::CWD, "/dev/net/tun", flags, Mode::empty())?)
            }
            Self::Namespace => new_namespace(),
            Self::Socket { family, kind, flags, protocol } => Ok(socket_with(family, kind, flags, protocol)?),
        }
    }
}

/// One request: four numbers of 32 bits in host byte order, since both ends are the same program on the same machine.
const REQUEST_LEN: usize = 16;
type Request = [u8; REQUEST_LEN];

impl Wanted {
    fn to_bytes(self) -> Request {
        let words = match self {
            Self::Tun => [0, 0, 0, 0],
            Self::Namespace => [1, 0, 0, 0],
            Self::Socket { family, kind, flags, protocol } => {
                let protocol = protocol.map_or(0, |protocol| protocol.as_raw().get());
                [2, u32::from(family.as_raw()), kind.as_raw() | flags.bits(), protocol]
            }
        };
        let mut bytes = [0; REQUEST_LEN];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// `None`: no request of this program.
    fn from_bytes(bytes: &Request) -> Option<Self> {
        let mut words = bytes.as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word));
        let [what, family, kind, protocol] = [words.next()?, words.next()?, words.next()?, words.next()?];
        match what {
            0 => Some(Self::Tun),
            1 => Some(Self::Namespace),
            2 => Some(Self::Socket {
                family: AddressFamily::from_raw(u16::try_from(family).ok()?),
                kind: SocketType::from_raw(kind & !SocketFlags::all().bits()),
                flags: SocketFlags::from_bits_truncate(kind),
                protocol: std::num::NonZero::new(protocol).map(Protocol::from_raw),
            }),
            _ => None,
        }
    }
}

/// A process inside a namespace that makes descriptors there. It ends when this is dropped.
struct Helper {
    process: Child,
    line: OwnedFd,
}

impl Helper {
    fn start(netns: &Netns, refusal: io::Error) -> io::Result<Self> {
        let users = match user_namespace_of(netns) {
            Ok(users) if is_own_user_namespace(&users) => return Err(refusal),
            Ok(users) => users,
            // EPERM: it belongs to a user namespace above or beside weft's own (ns_get_owner).
            Err(_) => return Err(refusal),
        };
        let flags = SocketFlags::CLOEXEC;
        let (line, far_end) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        sockopt::set_socket_timeout(&line, Timeout::Recv, Some(PATIENCE))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg(HELPER_VERB).stdin(Stdio::from(far_end)).stdout(Stdio::null());
        let process = command.spawn().map_err(|error| about("can't start a process to enter it", &error))?;
        // The child holds the other end; if it ends, reading says so.
        drop(command);
        let helper = Self { process, line };
        send(&helper.line, &[0; REQUEST_LEN], &[users.as_fd(), netns.as_fd()])?;
        match helper.answer() {
            Ok(_) => Ok(helper),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(not_ours(netns, &users, error)),
            Err(error) => Err(error),
        }
    }

    fn ask(&self, wanted: &Wanted) -> io::Result<OwnedFd> {
        send(&self.line, &wanted.to_bytes(), &[])?;
        self.answer()?.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "an answer without a descriptor"))
    }

    /// An errno, and a descriptor if that is zero and something was asked for.
    fn answer(&self) -> io::Result<Option<OwnedFd>> {
        let mut bytes = [0; 4];
        let (len, mut descriptors) = receive(&self.line, &mut bytes)?;
        match (len, i32::from_ne_bytes(bytes)) {
            (4, 0) => Ok(descriptors.pop()),
            (4, errno) => Err(io::Error::from_raw_os_error(errno)),
            _ => Err(io::Error::new(ErrorKind::UnexpectedEof, "the process that was to enter it ended")),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It has nothing to finish, and would end by itself with the line.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The helper's side: enters the namespaces that standard input brings and makes there what it is asked for, until the
/// line ends.
pub fn serve_as_helper() -> ExitCode {
    let line = io::stdin();
    let outcome = enter(line.as_fd());
    let entered = outcome.is_ok();
    if reply(line.as_fd(), outcome.map(|()| None)).is_err() || !entered {
        return ExitCode::FAILURE;
    }
    loop {
        let mut request = [0; REQUEST_LEN];
        match receive(line.as_fd(), &mut request) {
            Ok((0, _)) | Err(_) => return ExitCode::SUCCESS,
            Ok(_) => {
                let made = match Wanted::from_bytes(&request) {
                    Some(wanted) => wanted.open(),
                    None => Err(ErrorKind::InvalidInput.into()),
                };
                if reply(line.as_fd(), made.map(Some)).is_err() {
                    return ExitCode::SUCCESS;
                }
            }
        }
    }
}

fn enter(line: BorrowedFd<'_>) -> io::Result<()> {
    let (_, descriptors) = receive(line, &mut [0; REQUEST_LEN])?;
    let [users, netns] = &descriptors[..] else {
        return Err(ErrorKind::InvalidInput.into());
    };
    rustix::thread::move_into_link_name_space(users.as_fd(), Some(LinkNameSpaceType::User))?;
    Ok(rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?)
}

fn reply(line: BorrowedFd<'_>, made: io::Result<Option<OwnedFd>>) -> io::Result<()> {
    let errno = |error: &io::Error| error.raw_os_error().unwrap_or(libc::EINVAL);
    match made {
        Ok(Some(descriptor)) => send(line, &0i32.to_ne_bytes(), &[descriptor.as_fd()]),
        Ok(None) => send(line, &0i32.to_ne_bytes(), &[]),
        Err(error) => send(line, &errno(&error).to_ne_bytes(), &[]),
    }
}

/// Descriptors in one message at most.
const MAX_DESCRIPTORS: usize = 2;

pub(super) fn send(line: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(line, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// One message and its descriptors. EMFILE: they found no room in this process, and are gone.
pub(super) fn receive(line: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(&line, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    // net/core/scm.c:scm_detach_fds
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Errno::MFILE.into());
    }
    Ok((received.bytes, descriptors))
}

/// On a thread of its own, which ends in the new namespace.
fn new_namespace() -> io::Result<OwnedFd> {
    let make = || -> io::Result<OwnedFd> {
        // SAFETY: CLONE_NEWNET touches neither memory nor descriptors, so none of the hazards of unshare(2) that make it
        // unsafe (a descriptor table of its own, CLONE_FILES) applies. The thread moved is this short-lived one.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
        // What the kernel would send there of its own accord is nobody's. Where `/proc/sys` can't be written to, it does.
        let setting = fs::OpenOptions::new().write(true).open("/proc/sys/net/ipv6/conf/default/disable_ipv6");
        let _ = setting.and_then(|mut setting| setting.write_all(b"1"));
        Ok(File::open("/proc/thread-self/ns/net")?.into())
    };
    thread::scope(|scope| {
        let maker = thread::Builder::new().name("netns".into()).spawn_scoped(scope, make)?;
        maker.join().unwrap_or_else(|_| Err(ErrorKind::Other.into()))
    })
}

// include/uapi/linux/nsfs.h: _IO(0xb7, 1) and _IO(0xb7, 4).
const NS_GET_USERNS: libc::c_ulong = 0xb701;
const NS_GET_OWNER_UID: libc::c_ulong = 0xb704;

/// The user namespace that owns a network namespace.
///
/// # Errors
/// EPERM: it is neither weft's own nor one below it.
fn user_namespace_of(netns: &Netns) -> io::Result<OwnedFd> {
    // SAFETY: the request takes no argument and writes no memory; the descriptor is open for as long as `netns` is borrowed.
    let descriptor = unsafe { libc::ioctl(netns.as_fd().as_raw_fd(), NS_GET_USERNS) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened this descriptor for the caller, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The user that made a user namespace, as this process sees him.
fn owner_of(users: &OwnedFd) -> io::Result<u32> {
    let mut owner: libc::uid_t = 0;
    // SAFETY: the request writes one uid_t through the pointer; `owner` is one and is exclusively borrowed.
    if unsafe { libc::ioctl(users.as_raw_fd(), NS_GET_OWNER_UID, &raw mut owner) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(owner)
}

fn is_own_user_namespace(users: &OwnedFd) -> bool {
    let own = rustix::fs::stat("/proc/thread-self/ns/user");
    let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    match (own, rustix::fs::fstat(users)) {
        (Ok(own), Ok(other)) => identity(own) == identity(other),
        _ => false,
    }
}

fn not_ours(netns: &Netns, users: &OwnedFd, source: io::Error) -> io::Error {
    let own = rustix::process::geteuid().as_raw();
    let whose = match owner_of(users) {
        Ok(owner) => format!("its user namespace was made by user {owner}, and weft is user {own}"),
        Err(_) => format!("its user namespace was made by somebody else than user {own}, who weft is"),
    };
    about(&format!("can't enter {netns}, {whose}: run weft as him, or as root"), &source)
}

/// Puts words in front of what the kernel said; the kind stays.
fn about(what: &str, source: &io::Error) -> io::Error {
    io::Error::new(source.kind(), format!("{what}: {source}"))
}

/// Whether these are the arguments of a helper: what `main` has to ask before anything else.
pub fn is_helper(arguments: &[impl AsRef<OsStr>]) -> bool {
    matches!(arguments, [_, verb] if verb.as_ref() == HELPER_VERB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_they_were() {
        for wanted in [
            Wanted::Tun,
            Wanted::Namespace,
            Wanted::Socket {
                family: AddressFamily::PACKET,
                kind: SocketType::RAW,
                flags: SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                protocol: None,
            },
            Wanted::Socket {
                family: AddressFamily::INET6,
                kind: SocketType::DGRAM,
                flags: SocketFlags::CLOEXEC,
                protocol: Some(rustix::net::ipproto::UDP),
            },
        ] {
            assert_eq!(Wanted::from_bytes(&wanted.to_bytes()), Some(wanted));
        }
        assert_eq!(Wanted::from_bytes(&[0xff; REQUEST_LEN]), None);
    }

    #[test]
    fn descriptors_cross_a_line() {
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let file = tempfile::tempfile().unwrap();
        rustix::io::write(&file, b"seen").unwrap();
        send(&one, b"12", &[file.as_fd()]).unwrap();
        let mut bytes = [0; 4];
        let (len, descriptors) = receive(&other, &mut bytes).unwrap();
        assert_eq!((len, &bytes[..2]), (2, &b"12"[..]));
        assert_eq!(rustix::fs::fstat(&descriptors[0]).unwrap().st_ino, rustix::fs::fstat(&file).unwrap().st_ino);
        drop(one);
        assert_eq!(receive(&other, &mut bytes).unwrap().0, 0, "the end of the line");
    }

    #[test]
    fn the_own_user_namespace_is_known() {
        let users = File::open("/proc/self/ns/user").unwrap().into();
        assert!(is_own_user_namespace(&users));
        assert!(owner_of(&users).is_ok());
    }

    #[test]
    fn without_a_visit_everything_is_made_here() {
        let made = socket(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
        assert!(sockopt::socket_type(made).is_ok_and(|kind| kind == SocketType::DGRAM));
    }
}
