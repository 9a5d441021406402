//! `weft capture` in the lab of kernel VTEPs: a ping is followed through the tunnel, and tshark reads what was written.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use weft::lab::builtin::LABS;
use weft_integration::{labs::Up, trial, weft::binary};

use crate::command::NEEDS;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial(
            "a_packet_is_followed_through_the_tunnel",
            NEEDS.programs(&["ping", "ip", "nft", "tcpdump", "tshark"]),
            followed_through_the_tunnel,
        ),
        trial(
            "what_weft_drops_is_said_at_the_frame",
            NEEDS.programs(&["ping", "ip", "nft", "tcpdump", "tshark"]),
            drops_are_said_at_the_frame,
        ),
        trial("points_and_filters_that_make_no_sense_are_refused", NEEDS.programs(&["tcpdump"]), refused),
    ]
}

fn followed_through_the_tunnel() -> anyhow::Result<()> {
    let lab = LABS.iter().find(|lab| lab.file == "vxlan.toml").context("there is a lab vxlan")?;
    let (up, running) = Up::start(lab)?;
    let written = std::env::temp_dir().join(format!("{}.pcapng", up.name));
    let points = ["a/eth0", "host1/vx0", "r1/r2", "host2/under0", "b/eth0"];
    // ICMP over IPv4, as it is, and behind a VXLAN and an Ethernet header; hosts of a new lab have much else to say.
    let filter = "icmp or (udp[28:2] = 0x0800 and udp[39] = 1)";
    let mut capture = Command::new(binary()?)
        .args(["capture", "--lab", &up.name, "--filter", filter, "--count", "2", "--time", "30s", "--write"])
        .arg(&written)
        .args(points)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(capture.stdout.take().context("it has a pipe")?);
    let mut all = String::new();
    // Its first line: now nothing is missed any more.
    said.read_line(&mut all)?;
    running.host("a")?.run(&["ping", "-c", "1", "-W", "5", "10.10.0.2"])?.ok()?;
    for line in said.lines() {
        all += &line?;
        all.push('\n');
    }
    ensure!(capture.wait()?.success(), "{all}");

    let request = all.split("echo request 1").nth(1).with_context(|| format!("the request is told: {all}"))?;
    let rows: Vec<_> = request.lines().skip(1).take(points.len()).map(str::trim_start).collect();
    for (row, point) in rows.iter().zip(points) {
        ensure!(row.starts_with(point), "{point} in its turn: {all}");
        let tunnelled = matches!(point, "r1/r2" | "host2/under0");
        ensure!(row.contains("in VXLAN 42, 192.0.2.1 > 198.51.100.1") == tunnelled, "{row}");
    }
    ensure!(all.contains("2 packets") && all.contains("b/eth0 -> host2/under0: 1 packet,"), "{all}");

    let read =
        Command::new("tshark").args(["-T", "fields", "-e", "frame.interface_name", "-r"]).arg(&written).output()?;
    fs::remove_file(&written)?;
    let names = String::from_utf8_lossy(&read.stdout).into_owned();
    ensure!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    for point in points {
        ensure!(names.lines().filter(|name| *name == point).count() == 2, "two frames at {point}: {names}");
    }
    Ok(())
}

/// In the lab `tap`, whose weft lets nothing in from left.
fn drops_are_said_at_the_frame() -> anyhow::Result<()> {
    const REASON: &str = "locked";
    let lab = LABS.iter().find(|lab| lab.file == "tap.toml").context("there is a lab tap")?;
    let (up, mut running) = Up::start(lab)?;
    running.inject("port-locked")?;
    let left = running.host("left")?;
    // Else it would ask for the address, and never ping.
    left.run(&["ip", "neighbour", "replace", "10.10.0.2", "lladdr", "02:00:00:00:00:02", "dev", "eth0"])?.ok()?;
    let folder = tempfile::tempdir()?;
    let written = folder.path().join("dropped.pcapng");
    let mut capture = Command::new(binary()?)
        .args(["capture", "--lab", &up.name, "--filter", "icmp", "--count", "5", "--time", "60s", "--write"])
        .arg(&written)
        .args(["left/eth0", "right/eth0"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = BufReader::new(capture.stdout.take().context("it has a pipe")?);
    let mut all = String::new();
    said.read_line(&mut all)?;
    // Nobody answers, which is the point.
    left.run(&["ping", "-c", "5", "-i", "0.2", "-W", "1", "10.10.0.2"])?;
    for line in said.lines() {
        all += &line?;
        all.push('\n');
    }
    ensure!(capture.wait()?.success(), "{all}");
    let rows = all.lines().filter(|line| line.contains(&format!("weft of box dropped it, {REASON}: "))).count();
    ensure!(rows > 0, "it is told where the packet was seen last: {all}");
    ensure!(all.contains("weft of box dropped meanwhile: "), "and in all: {all}");

    let fields = ["-T", "fields", "-e", "frame.interface_name", "-e", "frame.comment", "-r"];
    let read = Command::new("tshark").args(fields).arg(&written).output()?;
    let read_back = String::from_utf8_lossy(&read.stdout);
    ensure!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let at_frames = read_back.lines().filter(|line| line.starts_with("left/eth0") && line.contains(REASON)).count();
    ensure!(at_frames == rows, "{rows} at the frames too: {read_back}");
    Ok(())
}

fn refused() -> anyhow::Result<()> {
    for (arguments, about) in [
        (vec!["nowhere/eth0"], "nowhere"),
        (vec!["no-such-if"], "no-such-if"),
        (vec!["lo", "--filter", "grater than"], "syntax error"),
        (vec!["left/"], "NAMESPACE/INTERFACE"),
        (vec!["--lab", "there-is-none"], "there-is-none"),
    ] {
        let output = Command::new(binary()?).arg("capture").args(&arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code().is_some_and(|code| code > 0), "{arguments:?}: {}", output.status);
        ensure!(said.contains(about), "{arguments:?} says {about}: {said}");
    }
    Ok(())
}
