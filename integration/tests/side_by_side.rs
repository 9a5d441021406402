//! `side_by_side` of bench/: it measures, it tells, and it leaves nothing behind. What it measures is not looked at here.

// Clippy takes only what the standard harness runs for tests.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    process::{Child, Command, ExitCode, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use weft::sys::netns;
use weft_integration::{Needs, main_with, trial, weft::built};

const NEEDS: Needs = Needs::ROOT_AND_TUN.programs(&["iperf3"]);
/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    main_with(vec![
        trial("side_by_side_measures_and_tells_the_same_in_every_form", NEEDS, measures_and_tells),
        trial("side_by_side_interrupted_leaves_nothing", NEEDS, interrupted),
        trial("side_by_side_refuses_bad_usage", Needs::NONE, bad_usage),
    ])
}

fn measures_and_tells() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (json, svg) = (folder.path().join("json"), folder.path().join("svg"));
    let mut command = side_by_side()?;
    // Loads and lengths that a debug build on a busy machine can bear.
    command.args(["--quick", "--only", "kernel-bridge,weft-tap", "--measure", "tcp,latency,frames,idle"]);
    command.args(["--loads", "2k"]).arg("--json").arg(&json).arg("--svg").arg(&svg);
    let child = command.spawn()?;
    let id = child.id();
    let output = end_of(child)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(0), "{}: {text}\n{}", output.status, String::from_utf8_lossy(&output.stderr));

    let value: Value = serde_json::from_str(&fs::read_to_string(json)?)?;
    ensure!(value["failures"] == Value::Array(vec![]), "{value:#}");
    for path in ["kernel-bridge", "weft-tap"] {
        let metrics = value["paths"].as_array().and_then(|paths| paths.iter().find(|entry| entry["path"] == path));
        let metrics = &metrics.context("a path that was asked for")?["metrics"];
        let median =
            |metric: &str| metrics[metric]["median"].as_f64().with_context(|| format!("{path} has no {metric}"));
        for metric in ["tcp_x1_gbit_s", "tcp_x4_gbit_s", "tcp_bidirectional_gbit_s", "tcp_x1_cpu_s_per_gb"] {
            ensure!(median(metric)? > 0.0, "{path}, {metric}: {metrics:#}");
        }
        ensure!(0.0 < median("round_trip_p50_us")? && median("round_trip_p50_us")? <= median("round_trip_p99_us")?);
        let (offered, received) = (median("frames_2000_offered_per_s")?, median("frames_2000_received_per_s")?);
        ensure!(0.0 < received && received <= offered && offered <= 2_001.0, "{path}: {metrics:#}");
        ensure!(median("frames_2000_disordered")? == 0.0, "{path}: {metrics:#}");
        ensure!((path == "weft-tap") == metrics["idle_cpu_percent"].is_object(), "{path}: {metrics:#}");
    }
    let figures = value["figures"].as_array().context("figures")?;
    let figure =
        figures.iter().find(|figure| figure["figure"] == "weft tap / kernel bridge, TCP x1").context("a figure")?;
    let got = figure["got"].as_f64().context("a ratio")?;
    ensure!(got > 0.0 && figure["met"] == (got >= 0.8), "{figure:#}");
    ensure!(text.contains(&format!("{got:.2}")), "{got} is not in\n{text}");
    let absent =
        figures.iter().find(|figure| figure["figure"] == "weft tap / OVS tap, p50 round trip").context("a figure")?;
    ensure!(absent["met"].is_null() && absent["not_measured"] == "not asked for", "{absent:#}");
    ensure!(fs::read_to_string(svg)?.matches("class=\"weft\"").count() > 4, "a bar in each panel");
    nothing_left_of(id)
}

fn interrupted() -> anyhow::Result<()> {
    // The second path, so that a lab that is gone already is on the list of those to remove.
    let mut command = side_by_side()?;
    let child = command.args(["--rounds", "100", "--seconds", "1", "--only", "kernel-bridge,weft-tap"]);
    let child = child.args(["--measure", "idle,tcp"]).spawn()?;
    let id = child.id();
    let started = Instant::now();
    let is_second = |name: &String| name.starts_with(&format!("weft-sbs-{id}-1-"));
    while !netns::names()?.iter().any(is_second) {
        ensure!(started.elapsed() < PATIENCE, "it does not come to the second path");
        thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_raw(id.cast_signed()).context("an id")?, Signal::INT)?;
    let output = end_of(child)?;
    ensure!(output.status.code() == Some(130), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    nothing_left_of(id)
}

fn bad_usage() -> anyhow::Result<()> {
    for arguments in [&["--only", "vpp"][..], &["--rounds", "0"], &["--loads", "many"], &["--quick", "--seconds", "2"]]
    {
        let status = side_by_side()?.args(arguments).output()?.status;
        ensure!(status.code() == Some(2), "{arguments:?}: {status}");
    }
    Ok(())
}

/// The program with the weft that was built together with this test, so that it builds none itself.
fn side_by_side() -> anyhow::Result<Command> {
    let mut command = Command::new(built("side_by_side")?);
    command.arg("--weft").arg(built("weft")?);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

fn end_of(mut child: Child) -> anyhow::Result<Output> {
    let started = Instant::now();
    // It writes less than a pipe holds.
    while child.try_wait()?.is_none() {
        if started.elapsed() > PATIENCE {
            // So that it removes what it made.
            kill_process(Pid::from_raw(child.id().cast_signed()).context("an id")?, Signal::TERM)?;
            child.wait()?;
            anyhow::bail!("it does not end");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(child.wait_with_output()?)
}

fn nothing_left_of(id: u32) -> anyhow::Result<()> {
    let own = format!("weft-sbs-{id}-");
    let mut left: Vec<_> = netns::names()?;
    for entry in fs::read_dir(std::env::temp_dir())? {
        left.push(entry?.file_name().to_string_lossy().into_owned());
    }
    left.retain(|name| name.starts_with(&own));
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}
