//! The harness of the namespace tests: what a test needs from the machine, and what happens when the machine lacks it.
//!
//! A test that can't run here is **ignored with the reason printed**, never silently green. With `WEFT_REQUIRE_ALL=1` in
//! the environment it fails instead: that is how the one machine that has everything makes sure that nothing was skipped.
//!
//! A test file is a binary of its own (`harness = false` in a `[[test]]` section of `Cargo.toml`), because the standard
//! harness has no way to say "ignored" from inside a test:
//!
//! ```no_run
//! use weft_integration::{Needs, main_with, trial};
//!
//! fn main() -> std::process::ExitCode {
//!     main_with(vec![trial("two_hosts_ping", Needs::ROOT.programs(&["ping"]), two_hosts_ping)])
//! }
//!
//! fn two_hosts_ping() -> anyhow::Result<()> {
//!     Ok(())
//! }
//! ```
//!
//! The usual arguments of `cargo test` work: a filter, `--list`, `--test-threads`, `--ignored`.

pub mod capture;
pub mod exchange;
pub mod frames;
pub mod labs;
pub mod mutants;
pub mod scene;
pub mod shape;
pub mod traceless;
pub mod traffic;
pub mod weft;

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    num::NonZero,
    process::ExitCode,
};

use ::weft::{
    compare::kernel_release,
    lab::{find_program, missing_capabilities},
};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// Set to anything but nothing or `0`: a test that can't run fails instead of being ignored.
pub const REQUIRE_ALL: &str = "WEFT_REQUIRE_ALL";

/// What a test needs from the machine it runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Needs {
    /// User id 0 with CAP_SYS_ADMIN and CAP_NET_ADMIN: named network namespaces, mounts, anything in them.
    pub root: bool,
    /// CAP_NET_ADMIN: changing interfaces in the namespace the test was started in.
    pub net_admin: bool,
    /// `/dev/net/tun` can be opened.
    pub tun: bool,
    /// Programs that must be on `PATH`.
    pub programs: &'static [&'static str],
    /// What the release of the running kernel begins with: nothing, or a version and a dot.
    pub kernel: &'static str,
}

impl Needs {
    /// Nothing.
    pub const NONE: Self = Self { root: false, net_admin: false, tun: false, programs: &[], kernel: "" };
    /// Named network namespaces, as `weft::lab::Lab` makes them.
    pub const ROOT: Self = Self { root: true, ..Self::NONE };
    /// Named network namespaces and taps in them.
    pub const ROOT_AND_TUN: Self = Self { root: true, tun: true, ..Self::NONE };

    /// The same, and these programs on `PATH`.
    pub const fn programs(self, programs: &'static [&'static str]) -> Self {
        Self { programs, ..self }
    }

    /// The same, and a kernel of this version: `6.18.`.
    pub const fn kernel(self, kernel: &'static str) -> Self {
        Self { kernel, ..self }
    }
}

/// Whether this machine has what a test needs; the error is the reason why not, in words for the test's report.
pub fn require(needs: &Needs) -> Result<(), String> {
    if needs.root && effective_uid() != Some(0) {
        return Err("needs root".to_owned());
    }
    // Besides the user id, since root in a container may lack it.
    let missing =
        missing_capabilities().into_iter().find(|&name| needs.root || needs.net_admin && name == "CAP_NET_ADMIN");
    if let Some(name) = missing {
        return Err(format!("needs {name}"));
    }
    if needs.tun {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .map_err(|error| format!("needs /dev/net/tun: {error}"))?;
    }
    for program in needs.programs {
        find_program(program).ok_or_else(|| format!("needs the program {program} on PATH"))?;
    }
    let running = kernel_release();
    if !running.starts_with(needs.kernel) {
        return Err(format!("needs Linux {}x, and this is {running}", needs.kernel));
    }
    Ok(())
}

/// A test of this name, run if the machine has what it needs. An error is printed with its whole chain of causes.
pub fn trial(name: &str, needs: Needs, test: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || match require(&needs) {
        Ok(()) => test().map(|()| Completion::Completed).map_err(|error| Failed::from(format!("{error:#}"))),
        Err(reason) if require_all() => Err(Failed::from(format!("{reason}, and {REQUIRE_ALL} is set"))),
        Err(reason) => Ok(Completion::ignored_with(reason)),
    })
}

/// Runs the tests with the arguments of `cargo test`; the result is for `main` to return.
pub fn main_with(tests: Vec<Trial>) -> ExitCode {
    main_with_threads(1, tests)
}

/// The same, so many tests at a time for each processor unless `--test-threads` says otherwise: tests that mostly wait.
pub fn main_with_threads(per_processor: usize, tests: Vec<Trial>) -> ExitCode {
    main_with_threads_and_alone(per_processor, tests, Vec::new())
}

/// The same; when all of them are done, some more one at a time, which measure how long something takes.
pub fn main_with_threads_and_alone(per_processor: usize, tests: Vec<Trial>, alone: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    arguments.test_threads.get_or_insert(per_processor * processors);
    let mut conclusion = libtest_mimic::run(&arguments, tests);
    if !alone.is_empty() {
        arguments.test_threads = Some(1);
        let others = libtest_mimic::run(&arguments, alone);
        conclusion.num_failed += others.num_failed;
    }
    conclusion.exit_code()
}

fn require_all() -> bool {
    std::env::var_os(REQUIRE_ALL).is_some_and(|value| !value.is_empty() && value != OsStr::new("0"))
}

fn effective_uid() -> Option<u32> {
    // The second number of "Uid: real effective saved filesystem", proc_pid_status(5).
    status_field("Uid:")?.split_whitespace().nth(1)?.parse().ok()
}

fn status_field(name: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_needed_of_any_machine() {
        assert_eq!(require(&Needs::NONE), Ok(()));
    }

    #[test]
    fn a_missing_program_is_named() {
        let needs = Needs::NONE.programs(&["sh", "weft-no-such-program"]);
        assert_eq!(require(&needs), Err("needs the program weft-no-such-program on PATH".to_owned()));
    }

    #[test]
    fn another_kernel_is_named() {
        assert_eq!(require(&Needs::NONE.kernel("")), Ok(()));
        let why = require(&Needs::NONE.kernel("0.1.")).unwrap_err();
        assert!(why.starts_with("needs Linux 0.1.x, and this is "), "{why}");
    }

    #[test]
    fn the_user_is_the_one_who_runs_the_tests() {
        let folder = tempfile::tempdir().unwrap();
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(folder.path()).unwrap());
        assert_eq!(effective_uid(), Some(owner));
    }
}
