//! What machine this is, and what it lacks.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};
use weft::lab::{self, Ovs, find_program, missing_capabilities};

use super::{
    options::Measurement,
    peer::{Kind, Peer},
};

/// What this machine lacks that these measurements can't do without, all of it at once.
pub(crate) fn lacks(measurements: &[Measurement]) -> Vec<String> {
    let mut lacks = Vec::new();
    for name in missing_capabilities() {
        lacks.push(format!("the capability {name}, to make network namespaces and interfaces: run it as root"));
    }
    let uses_tcp = measurements.iter().any(|which| matches!(which, Measurement::Tcp | Measurement::Calls));
    if uses_tcp && find_program("iperf3").is_none() {
        lacks.push("the program iperf3, to send TCP: package iperf3".to_owned());
    }
    lacks
}

/// Why a path can't be measured here.
pub(crate) fn lacks_for(peer: Peer) -> Option<String> {
    let for_kind = |kind| match kind {
        Kind::Kernel => None,
        Kind::Ovs { .. } => {
            let program = Ovs::lacks().or_else(|| find_program("ethtool").is_none().then(|| "ethtool".to_owned()));
            program.map(|program| format!("{program} is not installed"))
        }
        Kind::Weft => fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .err()
            .map(|error| format!("/dev/net/tun can't be opened: {error}")),
    };
    peer.kinds().into_iter().find_map(for_kind)
}

/// What figures were measured on and with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Machine {
    /// The machine itself.
    pub(crate) hardware: lab::Machine,
    /// What programs say of their versions; those that are there.
    pub(crate) programs: Vec<String>,
}

impl Machine {
    /// This one. `weft` is the weft that is measured, if any is.
    pub(crate) fn here(weft: Option<&Path>) -> Self {
        let programs = weft.into_iter().chain(["iperf3", "ovs-vswitchd"].map(Path::new));
        Self { hardware: lab::Machine::here(), programs: programs.filter_map(version).collect() }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hardware, programs } = self;
        write!(f, "{hardware}")?;
        programs.iter().try_for_each(|program| write!(f, "; {program}"))
    }
}

/// The first line of what a program says of its version.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
}

/// The weft to be measured: `given`, or the one that belongs to this program, which is built first if cargo started it.
pub(crate) fn weft(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(binary) = given {
        ensure!(binary.is_file(), "there is no {}", binary.display());
        // It is started from elsewhere.
        return binary.canonicalize().with_context(|| format!("can't find {}", binary.display()));
    }
    let own = env::current_exe().context("can't find out where this program is")?;
    let binary = own.with_file_name("weft");
    if let Some(cargo) = env::var_os("CARGO") {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
        let mut build = Command::new(cargo);
        // Together with this package, so that features come out alike and the library need not be built once more.
        build.args([
            "build",
            "--manifest-path",
            manifest,
            "--package",
            "weft-bench",
            "--package",
            "weft",
            "--bin",
            "weft",
        ]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        ensure!(build.status().context("can't run cargo")?.success(), "weft could not be built");
    }
    if !binary.is_file() {
        bail!("there is no {}: build it with `cargo build --release`, or name another by --weft", binary.display());
    }
    Ok(binary)
}
