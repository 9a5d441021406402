//! `weft experiment`: what MTUs, encapsulations and faults of the underlay do, measured in namespaces.
//!
//! Exit codes: 0 if all was measured and as it should be; 1 if something was not; 2 for bad usage, or a machine that can't.

mod blackhole;
mod encap;
mod mtu;

use std::{fs::OpenOptions, path::Path, process::ExitCode};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::{UsageError, output};
use crate::{
    experiment::{PREFIX, error::ExperimentError},
    lab::{Lab, missing_capabilities},
};

#[derive(Args, Debug)]
pub(super) struct ExperimentArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Sweep MTUs, encapsulations, offloads and DF policies, and write a report with plots
    Mtu(Box<mtu::MtuArgs>),
    /// Measure what each encapsulation adds to frames of each size, and what it costs
    Encap(encap::EncapArgs),
    /// Show the classic faults that make packets vanish, what a user sees of each, and what ends it
    Blackhole(blackhole::BlackholeArgs),
}

pub(super) fn run(args: &ExperimentArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Mtu(args) => mtu::run(args),
        What::Encap(args) => encap::run(args),
        What::Blackhole(args) => blackhole::run(args),
    }
    .map_err(|error| match error.downcast::<ExperimentError>() {
        Ok(ExperimentError::Refused(why)) => UsageError(why).into(),
        Ok(other) => other.into(),
        Err(other) => other,
    })
}

/// Says what this machine lacks, all of it at once, before anything is built. Takes away what an earlier run that was killed
/// has left behind.
fn prepare(programs: &[(&str, &str)]) -> Result<(), UsageError> {
    let mut lacks = Vec::new();
    for name in missing_capabilities() {
        lacks.push(format!("the capability {name}, to make network namespaces and interfaces: run it as root"));
    }
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        lacks.push(format!("/dev/net/tun, to make taps ({error}): `modprobe tun`, or give it to the container"));
    }
    for (program, package) in programs {
        if crate::lab::find_program(program).is_none() {
            lacks.push(format!("the program {program}: package {package}"));
        }
    }
    if !lacks.is_empty() {
        return Err(UsageError(format!("no experiment can be made here. It lacks\n  - {}", lacks.join("\n  - "))));
    }
    // If that fails it is no matter of this run.
    let _ = Lab::remove_stale(PREFIX);
    Ok(())
}

/// On standard error, and only where somebody looks at it.
fn progress(count: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} left  {msg}");
    ProgressBar::new(count as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Where things were written.
fn tell_files(files: &[impl AsRef<Path>]) {
    for file in files {
        output::complain(&format!("wrote {}", file.as_ref().display()));
    }
}
