//! How `weft run` gives its privileges up: which, when, and what is left.
//!
//! # Theory of operation
//! A weft that was broken into by a frame shall be worth nothing to whoever did it. So before it reads the first one, it is
//! brought down in stages, each of which can't be taken back, on the main thread while there is no other:
//!
//! 1. The control socket is opened, the configuration read: with all that weft was started with.
//! 2. The opener is started ([`crate::sys::opener`]): the process that opens ports from now on, and has of the privileges those
//!    that this takes (`capabilities.rs`), and filters of its own (`calls.rs`).
//! 3. weft becomes the user of `--user`, loses every capability, the bounding set too, and gets no-new-privs
//!    (`capabilities.rs`).
//! 4. Files: none may be opened any more, nor is TCP to be had (`files.rs`).
//! 5. System calls: those that a switch makes are left (`calls.rs`).
//! 6. Everything else: threads are started, ports opened, the network read.
//!
//! The order matters: a filter would forbid the stages before it. passt does it in four stages around the same idea (its
//! `isolation.c`), but needs nothing more afterwards. weft's ports come and go while it runs; hence the opener, which is to weft
//! what the monitor is to OpenSSH's network process.
//!
//! What a kernel lacks, or the process may not do, is a *shortcoming*: told in the log, and an error if the user demanded
//! (`--sandbox on`).

mod calls;
mod capabilities;
mod files;
mod held;

use std::{fs, io, path::Path, process::ExitCode, sync::OnceLock};

use rustix::process::{Signal, parent_process_death_signal, set_parent_process_death_signal};
use tracing::{info, warn};

use self::calls::Filter;
pub use self::held::Held;
use crate::sys::{
    opener::{self, Opener},
    scheduling, seccomp,
    users::Identity,
};

/// How much of it is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Demand {
    /// Whatever the system has; what it lacks is told.
    Auto,
    /// All of it, or weft does not start.
    On,
}

/// Why weft could not give its privileges up.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// It has other threads, whose privileges would stay.
    #[error("the process has {0} threads, and only one can give its privileges up")]
    Threads(usize),
    /// The opener does not start.
    #[error("can't start the process that opens ports for it")]
    Opener(#[source] io::Error),
    /// It can't become the user.
    #[error("can't become user {user}: only root may (CAP_SETUID, CAP_SETGID)")]
    User {
        /// As it was named.
        user: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The user demanded all.
    #[error("--sandbox on can't be had here: {0}; --sandbox auto does without")]
    Shortcomings(String),
}

static HELD: OnceLock<Held> = OnceLock::new();

/// What this process holds, if it has given anything up.
pub fn held() -> Option<Held> {
    let mut held = HELD.get()?.clone();
    held.opener = opener::get().filter(|opener| !opener.has_ended()).map(Opener::pid);
    Some(held)
}

/// Gives up what `weft run` needs no more. To be called on the main thread, before others are started.
///
/// # Errors
/// See [`IsolationError`].
pub fn enter(
    demand: Demand,
    user: Option<&Identity>,
    configuration: &Path,
    socket: &Path,
) -> Result<(), IsolationError> {
    // Without /proc there is no telling, and no opener either.
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(IsolationError::Threads(threads));
    }
    let opener = match Opener::start(configuration, socket) {
        Ok(opener) => opener,
        Err(error) if demand == Demand::Auto && user.is_none() => {
            warn!(%error, "weft keeps its privileges, since the process that would open ports for it can't be started");
            return Ok(());
        }
        Err(error) => return Err(IsolationError::Opener(error)),
    };
    // Workers are started later, when nobody here may say so any more.
    scheduling::go_first();
    let mut shortcomings: Vec<_> = opener.shortcomings.iter().map(|what| format!("the opener: {what}")).collect();
    capabilities::forget_bounds(0, &mut shortcomings);
    if let Some(user) = user {
        let failed = |source| IsolationError::User { user: user.to_string(), source };
        // A process that becomes somebody else's forgets what it asked for (`kernel/cred.c:commit_creds`).
        let death_signal = parent_process_death_signal().unwrap_or(None);
        user.assume().map_err(failed)?;
        if let Err(error) = set_parent_process_death_signal(death_signal) {
            shortcomings.push(format!("it may outlive its starter ({error})"));
        }
    }
    let landlock = restrain(&mut shortcomings);
    let held = Held::own(landlock, opener.pid());
    opener.install();
    if demand == Demand::On && !shortcomings.is_empty() {
        return Err(IsolationError::Shortcomings(shortcomings.join("; ")));
    }
    for shortcoming in shortcomings {
        warn!("privileges that could not be given up: {shortcoming}");
    }
    info!(%held, "weft has given its privileges up");
    let _ = HELD.set(held);
    Ok(())
}

/// Stages 3 to 5, but for the user: takes from this process what a running switch does without. Returns which version of
/// Landlock keeps it from opening files.
pub fn restrain(shortcomings: &mut Vec<String>) -> Option<u32> {
    capabilities::keep(0, shortcomings);
    capabilities::no_new_privileges(shortcomings);
    let landlock = files::open_none(shortcomings);
    calls::filter(Filter::Switch, shortcomings);
    landlock
}

/// The opener's life, until its weft ends: [`crate::sys::opener`].
pub fn run_opener(configuration: &Path, socket: &Path) -> ExitCode {
    // What is typed at the terminal, or sent by a service manager to all processes, is weft's to hear.
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        seccomp::ignore(signal);
    }
    let mut shortcomings = Vec::new();
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        shortcomings.push(format!("it may outlive a weft that is killed ({error})"));
    }
    let _ = rustix::thread::set_name(c"weft-opener");
    let filter = if capabilities::may_enter() { Filter::Opener } else { Filter::RootlessOpener };
    capabilities::forget_bounds(capabilities::OPENER, &mut shortcomings);
    capabilities::keep(capabilities::OPENER, &mut shortcomings);
    capabilities::no_new_privileges(&mut shortcomings);
    calls::filter(filter, &mut shortcomings);
    opener::serve(configuration, socket, shortcomings)
}
