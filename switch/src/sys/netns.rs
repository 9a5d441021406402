//! Network namespaces: opening them, working inside them, making and naming new ones.
//!
//! # Theory of operation
//! A namespace is a property of a *thread*, not of a process, and nothing resets it: a thread that has entered a
//! namespace and then fails halfway stays there, and every socket it makes later is made in the wrong place. So no thread
//! of weft is ever moved. [`Netns::within`] starts a thread for the purpose, which enters, does the work and ends.
//!
//! What is made inside stays inside: a socket or a tap belongs to the namespace of the thread that created it, whichever
//! thread uses it afterwards. `within` is therefore for making things; using them needs no `within`.
//!
//! For making nothing but descriptors there is [`Netns::making`], which gets into namespaces of other user namespaces, too.
//!
//! A namespace lives as long as anything refers to it: a process, a [`Netns`], a socket in it, or its name. A name is a
//! file under `/run/netns` on which the namespace is mounted; that is all `ip netns` knows of it, so both see each other's.
#![allow(unsafe_code)]

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    panic,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use rustix::{
    fs::FlockOperation,
    mount::{MountPropagationFlags, UnmountFlags},
    process::{Pid, PidfdFlags, Signal},
    thread::{LinkNameSpaceType, UnshareFlags},
};

use super::{inside, opener};

/// Where named namespaces are mounted: `NETNS_RUN_DIR` of iproute2.
pub const RUN_DIR: &str = "/run/netns";

/// The calling thread's own namespace. `/proc/self` would be the main thread's.
const OWN_PATH: &str = "/proc/thread-self/ns/net";

/// A network namespace, kept alive by this handle. Cloning is cheap and refers to the same one.
///
/// Its `Display` is how it is named in messages: `namespace left`, `namespace of process 7`, `namespace /path`,
/// `weft's own namespace`.
#[derive(Clone)]
pub struct Netns {
    fd: Arc<OwnedFd>,
    label: Arc<str>,
}

impl Netns {
    /// How messages name the own namespace.
    pub(super) const OWN_LABEL: &'static str = "weft's own namespace";

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// `/proc` isn't mounted, or descriptors have run out.
    pub fn own() -> io::Result<Self> {
        Self::open_as(Path::new(OWN_PATH), Self::OWN_LABEL.into())
    }

    /// The namespace that a file stands for: `/proc/PID/ns/net`, or a mount of one.
    ///
    /// # Errors
    /// There is no such file, it may not be opened, or it is no network namespace; the message says which.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        Self::open_as(path, format!("namespace {}", path.display()))
    }

    /// The namespace of a name under `/run/netns`, as `ip netns` shows it.
    ///
    /// # Errors
    /// As [`Netns::open`]; [`ErrorKind::InvalidInput`] if the name can't be a file's.
    pub fn named(name: &str) -> io::Result<Self> {
        Self::open_as(&path_of(name)?, format!("namespace {name}"))
    }

    /// The namespace of a process (of its main thread).
    ///
    /// # Errors
    /// There is no such process, or looking at it needs CAP_SYS_PTRACE.
    pub fn of_pid(pid: u32) -> io::Result<Self> {
        let opened = Self::open_as(Path::new(&format!("/proc/{pid}/ns/net")), format!("namespace of process {pid}"));
        opened.map_err(|error| match fs::metadata(format!("/proc/{pid}")) {
            Ok(process) if error.kind() == ErrorKind::PermissionDenied => {
                let (owner, own) = (process.uid(), rustix::process::geteuid().as_raw());
                io::Error::new(error.kind(), format!("{error}, the process is user {owner}'s, and weft is user {own}"))
            }
            _ => error,
        })
    }

    /// A new, nameless namespace, empty but for a loopback interface that is down. It ends with its last handle.
    ///
    /// # Errors
    /// Needs CAP_SYS_ADMIN, and the limit `user.max_net_namespaces` may be reached (ENOSPC).
    pub fn create() -> io::Result<Self> {
        on_a_thread(|| {
            // SAFETY: CLONE_NEWNET touches neither memory nor descriptors, so none of the hazards of unshare(2) that
            // make it unsafe (a descriptor table of its own, CLONE_FILES) applies. The thread moved is this short-lived one.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
                .map_err(|error| explain("can't make a new namespace", error.into()))?;
            Self::open_as(Path::new(OWN_PATH), "a new namespace".into())
        })?
    }

    fn open_as(path: &Path, label: String) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            // A name can be anything on disk; opening a FIFO must not wait for a writer.
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|error| {
                if error.kind() == ErrorKind::NotFound {
                    return io::Error::new(ErrorKind::NotFound, format!("there is no {label}"));
                }
                explain(&format!("can't open {label}"), error)
            })?;
        Self::from_file(file, label)
    }

    fn from_file(file: File, label: String) -> io::Result<Self> {
        if namespace_type(&file) != Some(libc::CLONE_NEWNET) {
            return Err(io::Error::new(ErrorKind::InvalidInput, format!("{label} is not a network namespace")));
        }
        Ok(Self { fd: Arc::new(file.into()), label: label.into() })
    }

    /// The same namespace under another name in messages.
    #[must_use]
    pub fn labelled(self, label: &str) -> Self {
        Self { label: label.into(), ..self }
    }

    /// Whether both are the same namespace, under whatever name (device and inode of the namespace file).
    pub fn same_as(&self, other: &Self) -> bool {
        matches!((self.identity(), other.identity()), (Some(one), Some(two)) if one == two)
    }

    /// The inode of the namespace file, by which lsns(8) and `/proc/PID/ns/net` name it; 0 if the kernel does not say.
    pub fn inode(&self) -> u64 {
        self.identity().map_or(0, |(_, inode)| inode)
    }

    /// Device and inode of the namespace file, unique among living namespaces.
    fn identity(&self) -> Option<(u64, u64)> {
        rustix::fs::fstat(&self.fd).ok().map(|stat| (stat.st_dev, stat.st_ino))
    }

    /// Runs `work` on a fresh thread inside this namespace and waits for it. The caller's thread stays where it is.
    ///
    /// A panic of `work` goes on in the caller. If this is the namespace the caller is in already, nothing is entered,
    /// so that no privilege is needed.
    ///
    /// # Errors
    /// Entering needs CAP_SYS_ADMIN here and in the user namespace that owns the target; or no thread could be started.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_a_thread(|| {
            self.enter()?;
            Ok(work())
        })?
    }

    /// As [`Netns::within`], for making taps and sockets, and nothing else: they are made inside even if weft can't enter, as
    /// long as the namespace belongs to a user namespace of weft's user ([`super::inside`]). Everything else that `work` does, it
    /// does outside then. With an opener ([`super::opener`]) nothing is entered, and `work` runs on the calling thread.
    ///
    /// # Errors
    /// Neither this process nor a helper can enter the namespace; or no thread could be started.
    pub fn making<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        if let Some(opener) = opener::get() {
            return Ok(inside::with_opener(opener, self, work));
        }
        on_a_thread(|| match self.enter() {
            Ok(()) => Ok(work()),
            Err(refusal) if refusal.kind() == ErrorKind::PermissionDenied => inside::with_helper(self, refusal, work),
            Err(error) => Err(error),
        })?
    }

    /// Moves the calling thread, unless it is there.
    fn enter(&self) -> io::Result<()> {
        if Self::own().is_ok_and(|own| own.same_as(self)) {
            return Ok(());
        }
        rustix::thread::move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| explain(&format!("can't enter {self}"), error.into()))
    }

    /// A namespace by a descriptor of its file.
    ///
    /// # Errors
    /// It is none of a network namespace.
    pub(crate) fn from_descriptor(descriptor: OwnedFd, label: &str) -> io::Result<Self> {
        Self::from_file(descriptor.into(), label.into())
    }

    /// Takes the namespace's lock for this handle and its clones; `false`: somebody else holds it.
    ///
    /// The kernel lets go of it when the last clone is dropped or the process ends, however it ends. It means only what
    /// its users agree on: weft's labs mark their living namespaces so.
    ///
    /// # Errors
    /// What flock(2) says.
    pub fn try_lock(&self) -> io::Result<bool> {
        match rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(explain(&format!("can't lock {self}"), error.into())),
        }
    }

    /// Gives the namespace a name under `/run/netns`, which keeps it alive until [`remove_name`]; what `ip netns add`
    /// does after making one.
    ///
    /// # Errors
    /// Needs CAP_SYS_ADMIN and a writable `/run`; [`ErrorKind::AlreadyExists`] if the name is taken.
    pub fn bind_name(&self, name: &str) -> io::Result<()> {
        let path = path_of(name)?;
        share_run_dir().map_err(|error| explain(&format!("can't prepare {RUN_DIR}"), error))?;
        OpenOptions::new()
            .read(true)
            .create_new(true)
            .write(true)
            .mode(0o000)
            .open(&path)
            .map_err(|error| explain(&format!("can't make {}", path.display()), error))?;
        rustix::mount::mount_bind(format!("/proc/self/fd/{}", self.fd.as_raw_fd()), &path).map_err(|error| {
            // Nothing is mounted on it, so that the plain file would only be in the way of the next attempt.
            let _ = fs::remove_file(&path);
            explain(&format!("can't mount {self} on {}", path.display()), error.into())
        })
    }

    /// Sends SIGKILL to all processes whose main thread is in this namespace, this process itself excepted; gives their
    /// number. They end soon after, not at once.
    pub fn kill_processes(&self) -> usize {
        let Ok(entries) = fs::read_dir("/proc") else { return 0 };
        let own = std::process::id();
        let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter(|&pid| pid != own && self.kill_inside(pid)).count()
    }

    /// Kills a process if it is inside. The descriptor is opened before the question is asked, so that the answer is about
    /// the very process that is killed even if its id is given to another one meanwhile.
    fn kill_inside(&self, pid: u32) -> bool {
        let Some(process) = Pid::from_raw(pid.cast_signed()) else { return false };
        let Ok(pidfd) = rustix::process::pidfd_open(process, PidfdFlags::empty()) else { return false };
        Self::of_pid(pid).is_ok_and(|namespace| namespace.same_as(self))
            && rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).is_ok()
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Display for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

impl fmt::Debug for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Netns({}, {:?})", self.label, self.identity())
    }
}

/// Takes a name off its namespace, as `ip netns del` does. The namespace itself ends when nothing else refers to it. That
/// there is no such name is no error.
///
/// # Errors
/// Needs CAP_SYS_ADMIN.
pub fn remove_name(name: &str) -> io::Result<()> {
    let path = path_of(name)?;
    match rustix::mount::unmount(&path, UnmountFlags::DETACH) {
        // Not a mount point: what is left of a process that was killed between making the file and mounting on it.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(explain(&format!("can't unmount {}", path.display()), error.into())),
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(explain(&format!("can't remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// The names under `/run/netns`; none if there is no such folder.
///
/// # Errors
/// The folder can't be read.
pub fn names() -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(RUN_DIR) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| explain(&format!("can't read {RUN_DIR}"), error))?,
    };
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

fn path_of(name: &str) -> io::Result<PathBuf> {
    let usable = !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']) && name.len() <= 255;
    if usable {
        Ok(Path::new(RUN_DIR).join(name))
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, format!("{name:?} can't be the name of a namespace")))
    }
}

/// Makes `/run/netns` a shared mount point of itself, so that names made or removed here appear and vanish in every mount
/// namespace (iproute2's `ipnetns.c:netns_add`). The lock keeps two processes from mounting it on itself twice.
fn share_run_dir() -> io::Result<()> {
    fs::create_dir_all(RUN_DIR)?;
    let folder = File::open(RUN_DIR)?;
    rustix::fs::flock(&folder, FlockOperation::LockExclusive)?;
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    match rustix::mount::mount_change(RUN_DIR, shared) {
        Err(rustix::io::Errno::INVAL) => {
            rustix::mount::mount_bind_recursive(RUN_DIR, RUN_DIR)?;
            rustix::mount::mount_change(RUN_DIR, shared)?;
        }
        other => other?,
    }
    Ok(())
}

/// What kind of namespace a file stands for, as its CLONE_NEW flag; `None`: it is no namespace.
fn namespace_type(file: &File) -> Option<libc::c_int> {
    // `include/uapi/linux/nsfs.h`: _IO(0xb7, 0x3).
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the request takes no argument and writes no memory; the descriptor is open for as long as `file` is
    // borrowed. A file that is no namespace answers ENOTTY, which is -1 here.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    (kind >= 0).then_some(kind)
}

/// Runs `work` on a thread of its own and waits; its panic goes on here.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let visitor = thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, work)
            .map_err(|error| explain("can't start a thread to enter a namespace", error))?;
        visitor.join().or_else(|panicked| panic::resume_unwind(panicked))
    })
}

/// Puts what was tried in front of what the kernel said; the kind stays.
fn explain(attempt: &str, error: io::Error) -> io::Error {
    let hint = if error.kind() == ErrorKind::PermissionDenied { " (are you root?)" } else { "" };
    io::Error::new(error.kind(), format!("{attempt}: {error}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_namespace_is_the_same_as_that_of_this_process() {
        let own = Netns::own().unwrap();
        assert!(own.same_as(&Netns::of_pid(std::process::id()).unwrap()));
        assert!(own.same_as(&Netns::open("/proc/self/ns/net").unwrap()));
        assert!(own.same_as(&own.clone()));
    }

    #[test]
    fn working_within_the_own_namespace_needs_no_privilege() {
        let here = thread::current().id();
        let there = Netns::own().unwrap().within(|| thread::current().id()).unwrap();
        assert_ne!(here, there, "a thread of its own");
    }

    #[test]
    fn a_panic_within_goes_on_in_the_caller() {
        let own = Netns::own().unwrap();
        let panicked = panic::catch_unwind(panic::AssertUnwindSafe(|| own.within(|| panic!("inside"))));
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"inside"));
    }

    #[test]
    fn errors_say_which_namespace_and_what_is_wrong() {
        let text = |result: io::Result<Netns>| result.unwrap_err().to_string();
        assert_eq!(text(Netns::named("weft-nowhere")), "there is no namespace weft-nowhere");
        assert_eq!(text(Netns::of_pid(u32::MAX)), "there is no namespace of process 4294967295");
        assert_eq!(text(Netns::open("/nowhere/at/all")), "there is no namespace /nowhere/at/all");
        for path in ["/proc/self/status", "/proc/self/ns/mnt"] {
            assert_eq!(text(Netns::open(path)), format!("namespace {path} is not a network namespace"));
        }
        assert_eq!(text(Netns::named("../etc")), "\"../etc\" can't be the name of a namespace");
        assert_eq!(Netns::named("").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(Netns::named("weft-nowhere").unwrap_err().kind(), ErrorKind::NotFound);
    }
}
