//! The opener: the process beside a weft without privileges that has them, and opens what they are needed for.
//!
//! # Theory of operation
//! A switch reads what strangers send. What it needs privileges for is only to open things: taps, packet sockets, sockets in
//! other namespaces; and to set up what it opened. So `weft run` starts this very program once more ([`VERB`]), gives all its
//! privileges up, and from then on asks the opener for each descriptor, by the requests of `request.rs`: there are twelve.
//! The two are joined by a pair of unix sockets; descriptors come back by SCM_RIGHTS. What is made in a namespace stays in it
//! whoever uses it, so the one process can make what the other uses.
//!
//! There is one opener in a process or none ([`Opener::install`]). Everybody who makes something that belongs to a namespace
//! does it by the functions of [`super::inside`], and these ask the opener if there is one. The opener itself does what is
//! asked by the same functions, without an opener.
//!
//! A capability is looked for where a call is *made*, for some calls: TUNSETIFF, rtnetlink's changes
//! (`net/netlink/af_netlink.c:netlink_net_capable` asks the sender as well as the opener of the socket), SO_RCVBUFFORCE,
//! ports below 1024. Those it makes for weft.
//!
//! It ends when weft does, since its line does, and the kernel kills it if weft is killed (PR_SET_PDEATHSIG). If it ends before,
//! weft goes on with what it has open, and says what can't be done any more.
#![allow(unsafe_code)]

mod change;
mod request;
mod serve;

use std::{
    ffi::OsStr,
    fmt,
    fs::{self, File},
    io::{self, ErrorKind, Read},
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock},
    time::Duration,
};

use rustix::net::{
    AddressFamily, Protocol, SocketFlags, SocketType, socketpair,
    sockopt::{self, Timeout},
};

use self::request::{Answer, Refused, Request, SocketKind};
pub(crate) use self::request::{Buffer, SocketOwner, Table, TapQueue};
pub use self::{request::NamespaceName, serve::serve};
use super::{
    inside::{receive, send},
    interface::InterfaceName,
    netns::Netns,
};

/// The verb of the command line that runs an opener; not for people.
pub const VERB: &str = "open-for-run";

/// What it calls itself, so that `pidof weft` is the switch.
const NAME: &str = "weft-opener";

/// How long it may take for one answer: each is a few system calls, but the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// No request and no answer is longer: those of changes carry an rtnetlink message.
const MAX_LEN: usize = 64 * 1024;

static OPENER: OnceLock<Opener> = OnceLock::new();

/// The opener of this process, as it sees it.
pub struct Opener {
    pid: u32,
    line: Mutex<Option<OwnedFd>>,
    process: Mutex<Child>,
    /// What it could not take off itself when it started.
    pub shortcomings: Vec<String>,
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opener({})", self.pid)
    }
}

impl Opener {
    /// Starts one, with the privileges that this process has now. It reads `configuration` again when it is asked to, and
    /// removes `socket`.
    ///
    /// To be called on the main thread: the opener ends with the thread that started it.
    ///
    /// # Errors
    /// It can't be started, or ends at once.
    pub fn start(configuration: &Path, socket: &Path) -> io::Result<Self> {
        let (line, far_end) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_timeout(&line, Timeout::Recv, Some(PATIENCE))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0(NAME).arg(VERB).arg(configuration).arg(socket);
        command.stdin(Stdio::from(far_end)).stdout(Stdio::null());
        let process = command.spawn()?;
        // The child alone holds the other end now; if it ends, reading says so.
        drop(command);
        match ask(&line, None, &[])? {
            (Answer::Ready(shortcomings), _) => {
                let pid = process.id();
                Ok(Self { pid, line: Mutex::new(Some(line)), process: Mutex::new(process), shortcomings })
            }
            (answer, _) => Err(unexpected(&answer)),
        }
    }

    /// Makes it the one of this process: from now on it opens what this process wants.
    ///
    /// # Panics
    /// There is one.
    pub fn install(self) {
        OPENER.set(self).expect("a process has one opener");
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has ended. A switch goes on without, but opens and changes nothing any more.
    pub fn has_ended(&self) -> bool {
        let mut process = self.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // An error says that it was waited for already.
        process.try_wait().map_or(true, |status| status.is_some())
    }

    /// Lets it end, and waits until it has.
    pub fn end(&self) {
        drop(self.line().take());
        let mut process = self.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // It ends with its line. That it can't be waited for would say that somebody did already.
        let _ = process.wait();
    }

    fn line(&self) -> std::sync::MutexGuard<'_, Option<OwnedFd>> {
        self.line.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn ask(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> io::Result<(Answer, Option<OwnedFd>)> {
        let mut line = self.line();
        let open = line.as_ref().ok_or_else(ended)?;
        let answered = ask(open, Some(request), descriptors);
        if let Err(error) = &answered
            && error.kind() != ErrorKind::InvalidInput
            && error.raw_os_error() != Some(libc::EMFILE)
        {
            // It has ended, or what it says next would be the answer to this.
            *line = None;
            return Err(ended());
        }
        answered
    }

    fn descriptor(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> io::Result<OwnedFd> {
        match self.ask(request, descriptors)? {
            (Answer::Done, Some(descriptor)) => Ok(descriptor),
            (Answer::Refused(refused), _) => Err(refused.into()),
            (answer, _) => Err(unexpected(&answer)),
        }
    }

    fn done(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        match self.ask(request, descriptors)? {
            (Answer::Done, _) => Ok(()),
            (Answer::Refused(refused), _) => Err(refused.into()),
            (answer, _) => Err(unexpected(&answer)),
        }
    }
}

/// The opener of this process, if it has one.
pub fn get() -> Option<&'static Opener> {
    OPENER.get()
}

/// Whether these are the arguments of an opener; the paths of the configuration and of the control socket.
pub fn is_opener<A: AsRef<OsStr>>(arguments: &[A]) -> Option<(&Path, &Path)> {
    match arguments {
        [_, verb, configuration, socket] if verb.as_ref() == VERB => {
            Some((Path::new(configuration.as_ref()), Path::new(socket.as_ref())))
        }
        _ => None,
    }
}

impl NamespaceName {
    /// Opens it: by the opener if there is one.
    ///
    /// # Errors
    /// As [`Netns::open`] and its siblings.
    pub fn open(&self) -> io::Result<Netns> {
        if let Some(opener) = get() {
            let descriptor = opener.descriptor(&Request::Namespace(self.clone()), &[])?;
            return Netns::from_descriptor(descriptor, &self.label());
        }
        self.open_here()
    }

    fn open_here(&self) -> io::Result<Netns> {
        match self {
            Self::Own => Netns::own(),
            Self::Named(name) => Netns::named(name),
            Self::Path(path) => Netns::open(path),
            Self::Pid(pid) => Netns::of_pid(*pid),
        }
    }

    fn label(&self) -> String {
        match self {
            Self::Own => Netns::OWN_LABEL.to_owned(),
            Self::Named(name) => format!("namespace {name}"),
            Self::Path(path) => format!("namespace {}", path.display()),
            Self::Pid(pid) => format!("namespace of process {pid}"),
        }
    }
}

/// The bytes of the configuration file.
///
/// # Errors
/// What `open(2)` or `read(2)` says.
pub fn read_configuration(path: &Path) -> io::Result<Vec<u8>> {
    let Some(opener) = get() else { return fs::read(path) };
    let mut bytes = Vec::new();
    File::from(opener.descriptor(&Request::Configuration, &[])?).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Removes the control socket's file, `path`.
///
/// # Errors
/// What `unlink(2)` says.
pub fn remove_socket(path: &Path) -> io::Result<()> {
    match get() {
        Some(opener) => opener.done(&Request::RemoveSocket, &[]),
        None => fs::remove_file(path),
    }
}

impl Opener {
    pub(super) fn socket(
        &self,
        netns: Option<&Netns>,
        (family, kind, protocol): (AddressFamily, SocketType, Option<Protocol>),
        flags: SocketFlags,
    ) -> io::Result<OwnedFd> {
        let kind = SocketKind::of(family, kind, protocol)
            .ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "weft's opener makes no such sockets"))?;
        let nonblocking = flags.contains(SocketFlags::NONBLOCK);
        self.descriptor(&Request::Socket { kind, nonblocking }, &of(netns))
    }

    pub(super) fn namespace(&self, netns: Option<&Netns>) -> io::Result<OwnedFd> {
        self.descriptor(&Request::NewNamespace, &of(netns))
    }

    pub(super) fn table(&self, netns: Option<&Netns>, table: Table) -> io::Result<OwnedFd> {
        self.descriptor(&Request::Table(table), &of(netns))
    }

    /// An error says as well whether the device itself could not be opened.
    pub(super) fn tap_queue(
        &self,
        netns: Option<&Netns>,
        name: &InterfaceName,
        queue: TapQueue,
    ) -> Result<OwnedFd, (io::Error, bool)> {
        let request = Request::TapQueue { name: name.as_str().to_owned(), queue };
        match self.ask(&request, &of(netns)) {
            Ok((Answer::Done, Some(descriptor))) => Ok(descriptor),
            Ok((Answer::Refused(refused), _)) => {
                let at_device = refused.at_device;
                Err((refused.into(), at_device))
            }
            Ok((answer, _)) => Err((unexpected(&answer), false)),
            Err(error) => Err((error, false)),
        }
    }

    pub(super) fn tap_namespace(&self, queue: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        self.descriptor(&Request::TapNamespace, &[queue])
    }

    pub(super) fn set_buffer(&self, socket: BorrowedFd<'_>, of: Buffer, bytes: usize) -> io::Result<()> {
        self.done(&Request::Buffer { of, bytes }, &[socket])
    }

    pub(super) fn bind(&self, socket: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
        self.done(&Request::Bind { address }, &[socket])
    }

    pub(crate) fn socket_owner(&self, inode: u64) -> io::Result<SocketOwner> {
        match self.ask(&Request::SocketOwner { inode }, &[])? {
            (Answer::Owner(owner), _) => Ok(owner),
            (Answer::Refused(refused), _) => Err(refused.into()),
            (answer, _) => Err(unexpected(&answer)),
        }
    }

    /// Has an rtnetlink message sent in a namespace; the kernel's answer. `far` is the other namespace of a new veth pair.
    ///
    /// # Errors
    /// The message is none that weft's control plane sends, or it can't be sent.
    pub(crate) fn change(&self, netns: &Netns, far: Option<&Netns>, message: Vec<u8>) -> io::Result<Vec<u8>> {
        let descriptors: Vec<_> = [Some(netns), far].into_iter().flatten().map(AsFd::as_fd).collect();
        match self.ask(&Request::Change { message }, &descriptors)? {
            (Answer::Netlink(answer), _) => Ok(answer),
            (Answer::Refused(refused), _) => Err(refused.into()),
            (answer, _) => Err(unexpected(&answer)),
        }
    }
}

fn of(netns: Option<&Netns>) -> Vec<BorrowedFd<'_>> {
    netns.map(AsFd::as_fd).into_iter().collect()
}

fn ask(
    line: &OwnedFd,
    request: Option<&Request>,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<(Answer, Option<OwnedFd>)> {
    if let Some(request) = request {
        let bytes = serde_json::to_vec(request).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        if bytes.len() > MAX_LEN {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the request is too long"));
        }
        send(line, &bytes, descriptors)?;
    }
    let mut bytes = vec![0; MAX_LEN];
    let (len, mut descriptors) = receive(line, &mut bytes)?;
    if len == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let answer =
        serde_json::from_slice(&bytes[..len]).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    Ok((answer, descriptors.pop()))
}

fn ended() -> io::Error {
    io::Error::new(
        ErrorKind::BrokenPipe,
        "weft's opener has ended: frames go on, but nothing can be opened or changed until weft is started again",
    )
}

fn unexpected(answer: &Answer) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("weft's opener answered something else: {answer:?}"))
}

/// An answer that is none of a descriptor.
fn refused(error: &io::Error) -> Answer {
    Answer::Refused(Refused::new(error))
}
