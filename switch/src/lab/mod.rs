//! Namespace topologies as code: hosts, cables, kernel bridges and kernel vxlan devices, for `weft demo`, comparisons with
//! the kernel, and tests.
//!
//! ```no_run
//! use weft::lab::Lab;
//!
//! # fn main() -> Result<(), weft::lab::LabError> {
//! let lab = Lab::new("weft-demo");
//! let (left, right) = (lab.namespace("left")?, lab.namespace("right")?);
//! lab.veth((&left, "eth0"), (&right, "eth0"), 1500)?;
//! left.address("eth0", "10.0.0.1/24")?;
//! right.address("eth0", "10.0.0.2/24")?;
//! left.run(&["ping", "-c1", "10.0.0.2"])?.ok()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Theory of operation
//! **Nothing stays behind.** All that a lab makes lives in namespaces of its own, so that taking those away takes
//! everything away: interfaces, addresses, routes, and the processes inside, which are killed first. Files go into the
//! lab's [folder](Lab::folder), which is taken away with it. That happens when
//! the [`Lab`] is dropped (a panic drops it too), on [`Remover::remove`] from elsewhere, and on a signal after
//! [`Lab::remove_on_signals`]. Against SIGKILL no process can help itself; so each living lab holds a lock on each of its
//! namespaces, which the kernel lets go of with the process, and [`Lab::remove_stale`] takes away what nobody holds. A
//! process id in the name would not do: ids are reused.
//!
//! **Labs don't meet.** Names carry the process id and a number, so that any number of labs can live side by side, and no
//! interface of a lab is ever, not even for a moment, in the namespace the program was started in.
//!
//! **Callers are synchronous**, tests above all. Each change is a short visit: a fresh thread, a small runtime, a netlink
//! socket in the namespace, gone again before the call returns. Nothing is held open, and it works inside a runtime too.

mod bpf;
mod build;
pub mod builtin;
mod conntrack;
pub mod cpu;
mod devices;
pub mod drawing;
mod error;
mod machine;
mod mib;
mod namespace;
mod ovs;
mod process;
pub mod rtnl;
pub mod running;
mod signals;
pub mod topology;
mod weft_config;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub use rustix::process::Signal;

pub use self::{
    devices::{BridgeOptions, BridgePortFlag, VxlanOptions},
    error::LabError,
    machine::{Machine, find_program, missing_capabilities},
    mib::Mib,
    namespace::Namespace,
    ovs::Ovs,
    process::{Command, Output, Process},
    weft_config::namespace_name,
};
use crate::sys::netns::{self, Netns};

/// A set of network namespaces that vanishes with this value, and everything in them.
#[derive(Debug)]
pub struct Lab {
    remover: Remover,
    name: String,
}

/// Takes a lab away from somewhere else than its owner: a signal handler, another thread.
#[derive(Clone, Debug)]
pub struct Remover {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    namespaces: Vec<Namespace>,
    folder: Option<PathBuf>,
    removed: bool,
    /// A signal has come, and its handler is about to end the process.
    ending: bool,
}

impl Lab {
    /// An empty lab. Its namespaces are named `PREFIX-PID-N-NAME`, N counting the labs of this process.
    pub fn new(prefix: &str) -> Self {
        static LABS: AtomicU32 = AtomicU32::new(0);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        Self { remover: Remover { state: Arc::default() }, name: format!("{prefix}-{}-{number}", std::process::id()) }
    }

    /// Makes a namespace: loopback up, and no looking for duplicate IPv6 addresses, so that addresses can be used at once.
    ///
    /// # Errors
    /// Needs CAP_SYS_ADMIN and CAP_NET_ADMIN; the name is taken, or can't be a file's name.
    pub fn namespace(&self, name: &str) -> Result<Namespace, LabError> {
        let full_name = format!("{}-{name}", self.name);
        // Held while the name appears, so that a removal meanwhile can't overlook it.
        let mut state = self.remover.state();
        if state.removed {
            return Err(LabError::Invalid(format!("namespace {full_name} comes too late, the lab was removed")));
        }
        let failed = |error| LabError::step(format!("make namespace {full_name}"), error);
        let netns = Netns::create().map_err(failed)?.labelled(&format!("namespace {full_name}"));
        netns.try_lock().map_err(failed)?;
        netns.bind_name(&full_name).map_err(failed)?;
        let namespace = Namespace::new(name, &full_name, netns, Arc::downgrade(&self.remover.state));
        state.namespaces.push(namespace.clone());
        drop(state);
        namespace.prepare()?;
        Ok(namespace)
    }

    /// A folder for the lab's files, for its owner alone, made when it is first asked for. It goes with the lab.
    ///
    /// # Errors
    /// It can't be made among the temporary files, or the lab was removed already.
    pub fn folder(&self) -> Result<PathBuf, LabError> {
        let mut state = self.remover.state();
        if let Some(folder) = &state.folder {
            return Ok(folder.clone());
        }
        // Random, since whoever may write there could take a name that is known in advance.
        let folder = std::env::temp_dir().join(format!("{}-{:016x}", self.name, fastrand::u64(..)));
        if state.removed {
            return Err(LabError::Invalid(format!("folder {} comes too late, the lab was removed", folder.display())));
        }
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| LabError::step(format!("make folder {}", folder.display()), error))?;
        state.folder = Some(folder.clone());
        Ok(folder)
    }

    /// What the names of its namespaces begin with, but for the last `-`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lays a cable: a veth pair with an end in each namespace, both of this MTU and up.
    pub fn veth(&self, one: (&Namespace, &str), other: (&Namespace, &str), mtu: u32) -> Result<(), LabError> {
        one.0.veth(one.1, other, mtu)
    }

    /// Removes everything now. Removing twice is no error.
    ///
    /// # Errors
    /// The first thing that could not be removed; the rest is removed nevertheless.
    pub fn remove(&self) -> Result<(), LabError> {
        self.remover.remove()
    }

    /// A handle that removes the lab from elsewhere.
    pub fn remover(&self) -> Remover {
        self.remover.clone()
    }

    /// Removes the lab and ends the process with status 130 on SIGINT, SIGTERM or SIGHUP, from now on and for good; all
    /// labs of the process that asked for it are removed then. A lab dropped meanwhile waits for that end, so that its
    /// owner doesn't come to report the failures it causes.
    ///
    /// # Errors
    /// No signal handler can be installed.
    pub fn remove_on_signals(&self) -> Result<(), LabError> {
        signals::watch(&self.remover.state).map_err(|error| LabError::step("wait for signals", error))
    }

    /// Takes away what labs of this prefix left behind whose process no longer lives; gives the namespaces' names.
    /// Labs that live, of this process or any other, are not touched.
    ///
    /// # Errors
    /// The first namespace that could not be removed; the rest is removed nevertheless.
    pub fn remove_stale(prefix: &str) -> Result<Vec<String>, LabError> {
        let names = netns::names().map_err(|error| LabError::step("look for stale namespaces", error))?;
        let mut removed = Vec::new();
        let mut outcome = Ok(());
        for name in names {
            let Some(pid) = creator(&name, prefix) else { continue };
            match remove_if_stale(&name, pid) {
                Ok(true) => removed.push(name),
                Ok(false) => {}
                Err(error) if outcome.is_ok() => {
                    outcome = Err(LabError::step(format!("remove namespace {name}"), error));
                }
                Err(_) => {}
            }
        }
        outcome.map(|()| removed)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(error = &error as &dyn std::error::Error, "a lab could not be removed whole");
        }
        // The removal makes everything fail that its owner is doing; that must not decide how the process ends.
        while self.remover.state().ending {
            thread::park();
        }
    }
}

impl Remover {
    /// As [`Lab::remove`].
    ///
    /// # Errors
    /// As [`Lab::remove`].
    pub fn remove(&self) -> Result<(), LabError> {
        let mut state = self.state();
        state.removed = true;
        let mut outcome = Ok(());
        for namespace in state.namespaces.drain(..) {
            kill_processes(namespace.netns());
            let name = namespace.full_name();
            let removed =
                netns::remove_name(name).map_err(|error| LabError::step(format!("remove namespace {name}"), error));
            outcome = outcome.and(removed);
        }
        if let Some(folder) = state.folder.take() {
            let removed = remove_folder(&folder);
            outcome = outcome.and(removed);
        }
        outcome
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // A panic elsewhere must not keep a lab from being removed; the lists are whole after each step.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remove_folder(folder: &Path) -> Result<(), LabError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LabError::step(format!("remove folder {}", folder.display()), error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The process id in a lab's namespace name, `PREFIX-PID-N-NAME`; `None`: not of this prefix.
fn creator(name: &str, prefix: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(prefix)?.strip_prefix('-')?.splitn(3, '-');
    let pid = parts.next()?.parse().ok()?;
    parts.next()?.parse::<u32>().ok()?;
    parts.next().map(|_| pid)
}

fn remove_if_stale(name: &str, creator: u32) -> io::Result<bool> {
    match Netns::named(name) {
        Ok(netns) => {
            if !netns.try_lock()? {
                return Ok(false);
            }
            kill_processes(&netns);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        // A plain file: its maker is about to mount the namespace on it, or was killed just before.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            if Path::new(&format!("/proc/{creator}")).exists() {
                return Ok(false);
            }
        }
        Err(error) => return Err(error),
    }
    netns::remove_name(name)?;
    Ok(true)
}

/// Puts the eBPF program of the lab `ebpf` on an interface of the namespace that this process is in.
///
/// # Errors
/// There is no such interface, or the kernel can't do it.
pub fn attach_here(program: &topology::Bpf) -> Result<(), LabError> {
    let netns = Netns::own().map_err(|error| LabError::step("open the own namespace", error))?;
    bpf::attach(&Namespace::new("here", "here", netns, std::sync::Weak::new()), program)
}

/// Kills what runs inside a namespace and waits until it is gone, for a second at most.
fn kill_processes(netns: &Netns) {
    const PATIENCE: Duration = Duration::from_secs(1);
    const PAUSE: Duration = Duration::from_millis(2);
    let start = Instant::now();
    while netns.kill_processes() > 0 && start.elapsed() < PATIENCE {
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_very_prefix_are_recognised() {
        assert_eq!(creator("weft-12-0-host1", "weft"), Some(12));
        assert_eq!(creator("weft-12-0-host-1", "weft"), Some(12));
        assert_eq!(creator("weft-demo-12-0-host1", "weft"), None, "another prefix that begins alike");
        assert_eq!(creator("weft-demo-12-0-host1", "weft-demo"), Some(12));
        for name in ["weft", "weft-", "weft-12", "weft-12-0", "weft-x-0-a", "weft-12-x-a", "other-12-0-a"] {
            assert_eq!(creator(name, "weft"), None, "{name}");
        }
    }

    #[test]
    fn removing_an_empty_lab_twice_is_no_error() {
        let lab = Lab::new("weft-empty");
        lab.remove().unwrap();
        lab.remove().unwrap();
        let error = lab.namespace("late").unwrap_err().to_string();
        assert!(error.contains("comes too late"), "{error}");
        let error = lab.folder().unwrap_err().to_string();
        assert!(error.contains("comes too late"), "{error}");
    }

    #[test]
    fn files_go_with_the_lab_and_are_nobody_elses_to_read() {
        let lab = Lab::new("weft-files");
        let folder = lab.folder().unwrap();
        assert_eq!(lab.folder().unwrap(), folder, "a lab has one");
        fs::write(folder.join("a"), "b").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&folder).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o700);
        drop(lab);
        assert!(!folder.exists());
    }
}
