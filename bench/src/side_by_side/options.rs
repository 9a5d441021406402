//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use super::peer::Peer;

/// Measures weft beside the kernel's bridge and vxlan devices and Open vSwitch, on this machine, in one run.
///
/// Exit codes: 0 it ran; 1 a measurement failed, or with --check a figure was missed; 2 bad usage, or a machine that can't.
#[derive(Parser, Clone, Debug)]
#[command(name = "side_by_side")]
pub struct Options {
    /// Rounds; in each, every path is built, measured and removed once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Length of each run of TCP or frames
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// One round of one second for each run
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    pub quick: bool,
    /// Only these paths: weft, kernel, ovs, or names such as weft-tap
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = peers)]
    pub only: Vec<Peers>,
    /// Only these measurements
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum)]
    pub measure: Vec<Measurement>,
    /// Offered loads of small frames, frames a second
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = load, default_value = "100k,200k,400k")]
    pub loads: Vec<u32>,
    /// Workers of each weft
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,
    /// The weft to measure, instead of the one built with this program
    #[arg(long, value_name = "PATH")]
    pub weft: Option<PathBuf>,
    /// Write everything that was measured as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw it
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Exit with status 1 if a figure is missed
    #[arg(long)]
    pub check: bool,
}

/// What can be measured on a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Measurement {
    /// Processor time when nothing is sent
    Idle,
    /// Round trips of one byte
    Latency,
    /// TCP in one stream, in four, and both ways, with processor time
    Tcp,
    /// Small frames at the offered loads
    Frames,
    /// System calls while TCP runs
    Calls,
}

/// The paths that a word of `--only` means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peers(Vec<Peer>);

impl Options {
    /// The paths to measure, in the order of the report.
    pub fn peers(&self) -> Vec<Peer> {
        let wanted = |peer: &Peer| self.only.is_empty() || self.only.iter().any(|Peers(peers)| peers.contains(peer));
        Peer::ALL.into_iter().filter(wanted).collect()
    }

    /// The measurements, in the order in which they are made.
    pub fn measurements(&self) -> Vec<Measurement> {
        let all = Measurement::value_variants().iter().copied();
        all.filter(|which| self.measure.is_empty() || self.measure.contains(which)).collect()
    }

    /// Rounds, with `--quick` considered.
    pub fn round_count(&self) -> usize {
        if self.quick { 1 } else { self.rounds as usize }
    }

    /// Seconds of a run, likewise.
    pub fn run_seconds(&self) -> u32 {
        if self.quick { 1 } else { self.seconds }
    }
}

fn peers(word: &str) -> Result<Peers, String> {
    let peers = Peer::named(word);
    if peers.is_empty() {
        let keys = Peer::ALL.map(Peer::key).join(", ");
        return Err(format!("there are weft, kernel, ovs, or one by one {keys}"));
    }
    Ok(Peers(peers))
}

/// Frames a second, "400k" or "400000".
fn load(text: &str) -> Result<u32, String> {
    let (digits, factor) = match text.strip_suffix('k') {
        Some(digits) => (digits, 1_000),
        None => (text, 1),
    };
    let load = digits.parse::<u32>().ok().and_then(|count| count.checked_mul(factor));
    load.filter(|load| (1..=10_000_000).contains(load)).ok_or_else(|| "1 to 10000k frames a second".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(["side_by_side"].into_iter().chain(line.split_whitespace()))
    }

    #[test]
    fn without_arguments_everything_is_measured_three_times() {
        let options = parse("").unwrap();
        assert_eq!((options.round_count(), options.run_seconds()), (3, 3));
        assert_eq!(options.peers(), Peer::ALL);
        assert_eq!(options.measurements(), Measurement::value_variants());
        assert_eq!(options.loads, [100_000, 200_000, 400_000]);
    }

    #[test]
    fn paths_and_measurements_keep_the_reports_order() {
        let options = parse("--quick --only weft-vxlan,kernel --measure tcp,idle --loads 50k,7").unwrap();
        assert_eq!((options.round_count(), options.run_seconds()), (1, 1));
        assert_eq!(options.peers(), [Peer::KernelBridge, Peer::KernelVxlan, Peer::WeftVxlan]);
        assert_eq!(options.measurements(), [Measurement::Idle, Measurement::Tcp]);
        assert_eq!(options.loads, [50_000, 7]);
    }

    #[test]
    fn bad_usage_is_refused_with_status_2() {
        for line in [
            "--only vpp",
            "--rounds 0",
            "--seconds 0",
            "--quick --rounds 2",
            "--loads 0",
            "--loads 5m",
            "--loads 4294968k",
            "--workers 0",
            "--measure ping",
            "surplus",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
