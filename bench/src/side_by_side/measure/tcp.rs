//! TCP throughput by iperf3, and what it costs.

use std::{fmt, time::Duration};

use anyhow::{Context, bail};
use serde_json::Value;
use weft::lab::{
    Command,
    cpu::{self, MachineTime},
};

use crate::side_by_side::scene::{Scene, station_address};

/// The streams of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Streams {
    /// One, from left to right.
    One,
    /// Four, from left to right.
    Four,
    /// One each way at the same time; their sum is what counts.
    Both,
}

impl Streams {
    pub(crate) const ALL: [Self; 3] = [Self::One, Self::Four, Self::Both];

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::One => &[],
            Self::Four => &["-P4"],
            Self::Both => &["--bidir"],
        }
    }
}

impl fmt::Display for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::One => "x1",
            Self::Four => "x4",
            Self::Both => "both ways",
        })
    }
}

/// How a run went.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Tcp {
    pub(crate) transfer: Transfer,
    /// Processor time of everything on the machine, stations included.
    pub(crate) machine: Duration,
    /// Processor time of the programs that carry frames; zero if the kernel does.
    pub(crate) switches: Duration,
}

/// What iperf3 says of a run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Transfer {
    /// Payload received per second, both ways together.
    pub(crate) bits_per_second: f64,
    /// Payload received.
    pub(crate) bytes: f64,
    /// Segments sent again.
    pub(crate) retransmits: f64,
}

/// Runs TCP for so many seconds.
pub(crate) fn run(scene: &mut Scene, streams: Streams, seconds: u32) -> anyhow::Result<Tcp> {
    let ids = scene.switch_ids();
    let switches_before = cpu::of_processes(&ids)?;
    let machine_before = MachineTime::now()?;
    let transfer = transfer(scene, streams, seconds, |client| client)?;
    let machine = MachineTime::now()?.busy_since(machine_before);
    let switches = cpu::of_processes(&ids)?.saturating_sub(switches_before);
    Ok(Tcp { transfer, machine, switches })
}

/// Runs iperf3's server on the right and its client on the left. `wrap` may put other programs around the client's command
/// line, the program first.
pub(crate) fn transfer(
    scene: &Scene,
    streams: Streams,
    seconds: u32,
    wrap: impl FnOnce(Vec<String>) -> Vec<String>,
) -> anyhow::Result<Transfer> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let mut server = scene.right.command("iperf3").args(["-s", "-1", "--forceflush"]).spawn()?;
    server.wait_for("Server listening", PATIENCE)?;
    let client = ["iperf3", "-J", "-c", &station_address(1).to_string(), "-t", &seconds.to_string()];
    let client = client.iter().chain(streams.arguments()).map(ToString::to_string).collect();
    let words = wrap(client);
    let (program, arguments) = words.split_first().context("a command has a program")?;
    let command: Command = scene.left.command(program).args(arguments);
    let limit = Duration::from_secs(u64::from(seconds)) + PATIENCE;
    let said = command.timeout(limit).output()?;
    parse(&said.stdout).with_context(|| format!("{said}"))
}

/// Reads what `iperf3 -J` prints.
fn parse(json: &str) -> anyhow::Result<Transfer> {
    let value: Value = serde_json::from_str(json).context("iperf3 printed no JSON")?;
    if let Some(error) = value["error"].as_str() {
        bail!("iperf3: {error}");
    }
    let number = |sum: &str, key: &str| value["end"][sum][key].as_f64();
    // The other way's sums are there only with --bidir.
    let sum = |sum: &str, key: &str| {
        let there = number(sum, key).with_context(|| format!("iperf3 printed no end.{sum}.{key}"))?;
        Ok::<_, anyhow::Error>(there + number(&format!("{sum}_bidir_reverse"), key).unwrap_or(0.0))
    };
    let transfer = Transfer {
        bits_per_second: sum("sum_received", "bits_per_second")?,
        bytes: sum("sum_received", "bytes")?,
        retransmits: sum("sum_sent", "retransmits")?,
    };
    if transfer.bytes <= 0.0 {
        bail!("iperf3 transferred nothing");
    }
    Ok(transfer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_received_counts_and_what_was_sent_again() {
        let json = r#"{"start": {}, "end": {
            "sum_sent": {"bytes": 300, "bits_per_second": 2400.0, "retransmits": 7},
            "sum_received": {"bytes": 250, "bits_per_second": 2000.5}}}"#;
        let transfer = Transfer { bits_per_second: 2000.5, bytes: 250.0, retransmits: 7.0 };
        assert_eq!(parse(json).unwrap(), transfer);
    }

    #[test]
    fn both_ways_are_added_up() {
        let json = r#"{"end": {
            "sum_sent": {"retransmits": 1}, "sum_received": {"bytes": 100, "bits_per_second": 800},
            "sum_sent_bidir_reverse": {"retransmits": 2},
            "sum_received_bidir_reverse": {"bytes": 10, "bits_per_second": 80}}}"#;
        assert_eq!(parse(json).unwrap(), Transfer { bits_per_second: 880.0, bytes: 110.0, retransmits: 3.0 });
    }

    #[test]
    fn a_failure_is_told_in_iperf3s_words() {
        let text = |json| format!("{:#}", parse(json).unwrap_err());
        let error = r#"{"start": {}, "end": {}, "error": "unable to connect to server: No route to host"}"#;
        assert_eq!(text(error), "iperf3: unable to connect to server: No route to host");
        assert_eq!(text(r#"{"end": {}}"#), "iperf3 printed no end.sum_received.bits_per_second");
        assert!(text("iperf3: command not found").starts_with("iperf3 printed no JSON"));
        let nothing =
            r#"{"end": {"sum_sent": {"retransmits": 0}, "sum_received": {"bytes": 0, "bits_per_second": 0}}}"#;
        assert_eq!(text(nothing), "iperf3 transferred nothing");
    }
}
