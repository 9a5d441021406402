//! `weft experiment encap`: from arguments to a measurement, and the run of it.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{prepare, progress, tell_files};
use crate::{
    cli::{NOT_SO, UsageError, output},
    experiment::{
        cell::{Tunnel, Underlay},
        encap::{Joined, Measurement, Results},
        report,
    },
};

#[derive(Args, Debug)]
pub(super) struct EncapArgs {
    /// A few sizes, a few seconds
    #[arg(long)]
    quick: bool,
    /// Encapsulations [default: vxlan,vxlan-gbp,vxlan-gpe,geneve]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    encapsulation: Option<Vec<Tunnel>>,
    /// IP versions of the underlay [default: ipv4,ipv6]
    #[arg(long, value_name = "VERSION", value_delimiter = ',')]
    underlay: Option<Vec<Underlay>>,
    /// Lengths of inner frames, 60 to 9000 [default: 64,128,256,512,1024,1280,1514,2048,4096,9000]
    #[arg(long, value_name = "BYTES", value_delimiter = ',')]
    size: Option<Vec<u16>>,
    /// How long as many frames of each size as go through are sent [default: 0.4]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Only say what is measured
    #[arg(long)]
    list: bool,
    /// The folder for CSV, JSON and report
    #[arg(long, value_name = "DIR", default_value = "weft-experiment-encap")]
    out: PathBuf,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &EncapArgs) -> anyhow::Result<ExitCode> {
    let base = if args.quick { Measurement::quick() } else { Measurement::standard() };
    let measurement = Measurement {
        encapsulation: args.encapsulation.clone().unwrap_or(base.encapsulation),
        underlay: args.underlay.clone().unwrap_or(base.underlay),
        sizes: args.size.clone().unwrap_or(base.sizes),
        seconds: args.seconds.unwrap_or(base.seconds),
        ..base
    };
    measurement.check().map_err(UsageError)?;
    if args.list {
        for (tunnel, underlay) in measurement.paths() {
            for size in &measurement.sizes {
                output::print(&format!("{tunnel} {underlay} frame={size}"))?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    prepare(&[])?;
    let bar = progress(measurement.paths().len() * measurement.sizes.len());
    let mut records = Vec::new();
    for (tunnel, underlay) in measurement.paths() {
        bar.set_message(format!("{tunnel} {underlay}"));
        let path = Joined::build(&measurement, tunnel, underlay)?;
        for &size in &measurement.sizes {
            bar.set_message(format!("{tunnel} {underlay} frame={size}"));
            records.push(path.measure(size)?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let results = Results::of(measurement, records);
    tell_files(&results.write(&args.out)?);
    if args.json {
        output::print_json(&results)?;
    } else {
        for finding in report::encap::findings(&results) {
            output::print(&finding)?;
        }
    }
    Ok(if results.disagreements().is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NOT_SO) })
}
