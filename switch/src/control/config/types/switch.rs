//! `[switch]`.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
    time::Duration,
};

/// `[switch]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SwitchConfig {
    /// `workers`: threads that forward; default one per core that this process may use.
    pub workers: usize,
    /// `ageing`: how long a learned entry lives without traffic from its address; default 300 s; 0 learns nothing.
    pub ageing: Duration,
    /// `socket`: the control API's unix socket; default [`default_socket`].
    pub socket: PathBuf,
    /// `busy_poll`: for how long a worker may look for frames before it sleeps; zero, the default, sleeps at once.
    pub busy_poll: Duration,
    /// `pin`: whether each worker stays on one CPU.
    pub pin: Pin,
    /// `nice`: how workers stand against other threads of the host; `None`: [`SwitchConfig::default_nice`].
    pub nice: Option<i8>,
}

impl SwitchConfig {
    /// What `ageing` is if nothing is said: the kernel's and IEEE 802.1Q's default (table 8-6), five minutes.
    pub const DEFAULT_AGEING: Duration = Duration::from_secs(300);
    /// The kernel gives a tap at most this many queues (`MAX_TAP_QUEUES`, drivers/net/tun.c), one for each worker.
    pub const MAX_WORKERS: usize = 256;
    /// The nicest that a thread can be, and the least nice (setpriority(2)).
    pub const NICE: (i64, i64) = (-20, 19);

    /// What `nice` is if nothing is said, where weft may have it: what the kernel's own forwarding has, before everybody
    /// else. It runs in interrupts, and weft's in threads that would wait for whoever fills the CPUs. A worker that polls
    /// busily would leave nothing to others, and stays as weft was started.
    pub const fn default_nice(&self) -> Option<i8> {
        if self.busy_poll.is_zero() { Some(-20) } else { None }
    }
}

impl Default for SwitchConfig {
    fn default() -> Self {
        // Asked once: a running weft may not read the files any more that say it, and its workers stay as many.
        static CORES: OnceLock<usize> = OnceLock::new();
        let cores = *CORES.get_or_init(|| thread::available_parallelism().map_or(1, NonZeroUsize::get));
        Self {
            workers: cores.min(Self::MAX_WORKERS),
            ageing: Self::DEFAULT_AGEING,
            socket: default_socket(),
            busy_poll: Duration::ZERO,
            pin: Pin::No,
            nice: None,
        }
    }
}

/// `pin`
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pin {
    /// `false`: the scheduler puts workers where there is room.
    No,
    /// `true`: on the CPUs that weft may use, in their order.
    InOrder,
    /// `[0, 2]`: on these, each named once. Workers beyond their number begin anew with the first.
    To(Vec<usize>),
}

impl Pin {
    /// The CPUs of the worker with this index, if weft may use `allowed`, which are not none.
    pub fn cpus_of(&self, worker: usize, allowed: &[usize]) -> Vec<usize> {
        match self {
            Self::No => allowed.to_vec(),
            Self::InOrder => vec![allowed[worker % allowed.len()]],
            Self::To(cpus) => vec![cpus[worker % cpus.len()]],
        }
    }
}

/// The directory of root's default socket. It is weft's own: `weft run` makes it if it is missing.
pub const RUN_DIRECTORY: &str = "/run/weft";

/// Where the control API listens, and where the commands look for it, if nobody says otherwise: `/run/weft/weft.sock`
/// for root, `$XDG_RUNTIME_DIR/weft.sock` for everybody else, `/tmp/weft-UID.sock` without such a directory.
pub fn default_socket() -> PathBuf {
    let user = rustix::process::geteuid();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    socket_for(user.as_raw(), runtime.as_deref())
}

fn socket_for(user: u32, runtime: Option<&Path>) -> PathBuf {
    match runtime {
        _ if user == 0 => Path::new(RUN_DIRECTORY).join("weft.sock"),
        // "All paths set in these environment variables must be absolute" (XDG base directory specification)
        Some(directory) if directory.is_absolute() => directory.join("weft.sock"),
        _ => PathBuf::from(format!("/tmp/weft-{user}.sock")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_socket_is_where_its_user_may_make_one() {
        assert_eq!(socket_for(0, Some(Path::new("/run/user/0"))), Path::new("/run/weft/weft.sock"));
        assert_eq!(socket_for(1000, Some(Path::new("/run/user/1000"))), Path::new("/run/user/1000/weft.sock"));
        assert_eq!(socket_for(1000, None), Path::new("/tmp/weft-1000.sock"));
        assert_eq!(socket_for(1000, Some(Path::new("relative"))), Path::new("/tmp/weft-1000.sock"));
    }
}
