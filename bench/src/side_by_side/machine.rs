//! What machine this is, and what it lacks.

use std::{collections::BTreeMap, env, fs, path::PathBuf, process::Command};

use anyhow::{Context, bail, ensure};
use weft::lab::{Ovs, find_program, missing_capabilities};

use super::peer::{Kind, Peer};

/// Says what this machine lacks that no measurement can do without, all of it at once.
pub(crate) fn lacks() -> Vec<String> {
    let mut lacks = Vec::new();
    for name in missing_capabilities() {
        lacks.push(format!("the capability {name}, to make network namespaces and interfaces: run it as root"));
    }
    if find_program("iperf3").is_none() {
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

/// What the figures were measured on, by name.
pub(crate) fn description() -> BTreeMap<&'static str, String> {
    let file = |path| fs::read_to_string(path).unwrap_or_default();
    let processor = file("/proc/cpuinfo");
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let first_line = |program: &str| {
        let output = Command::new(program).arg("--version").output().ok()?;
        String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
    };
    let count = std::thread::available_parallelism().map_or(0, |count| count.get());
    let known = [
        ("processor", processor.map(|(_, name)| name.to_owned())),
        ("processors", Some(count.to_string())),
        ("kernel", Some(file("/proc/sys/kernel/osrelease").trim().to_owned())),
        ("iperf3", first_line("iperf3")),
        ("ovs", first_line("ovs-vswitchd")),
    ];
    known.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
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
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../switch/Cargo.toml");
        let mut build = Command::new(cargo);
        build.args(["build", "--bin", "weft", "--manifest-path", manifest]);
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
