//! `weft doctor` and `weft map` as people use them: they name what is broken, say nothing of what is not, and change nothing.

// Clippy takes only what the standard harness runs for tests.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result, clippy::print_stdout)]

mod faults;
mod quiet;
mod tunnels;

use std::{
    path::PathBuf,
    process::{Command, ExitCode, Output},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;
use weft::lab::{BridgeOptions, Lab, builtin::Builtin};
use weft_integration::{
    Needs,
    labs::{self, Up},
    main_with, trial,
    weft::binary,
};

/// What the labs' own programs and doctor itself need.
const NEEDS: Needs = Needs::ROOT_AND_TUN.programs(&["ping", "ip", "bridge", "nft", "tc"]);

fn main() -> ExitCode {
    main_with(vec![
        trial("the_fault_of_every_lab_is_the_first_that_is_named", NEEDS, faults::are_named),
        trial("nothing_is_changed_and_nothing_is_sent", NEEDS, quiet::changes_nothing),
        trial("the_capabilities_of_the_guide_are_enough", NEEDS.programs(&["setpriv", "nft"]), quiet::few_capabilities),
        trial("a_namespace_with_fifty_interfaces_is_looked_at_in_a_second", NEEDS, fifty_interfaces),
        trial("what_was_saved_says_the_same_elsewhere", NEEDS, saved_and_loaded),
        trial("tunnels_to_groups_and_with_proxies_are_followed", NEEDS, tunnels::groups_and_proxies),
        trial("the_map_shows_all_of_a_lab", NEEDS, the_map),
        trial("mistakes_have_exit_code_2", Needs::NONE, mistakes),
    ])
}

fn weft(words: &[&str]) -> anyhow::Result<Output> {
    Ok(Command::new(binary()?).args(words).output()?)
}

/// What `weft doctor --json` prints, with its exit code.
pub(crate) fn doctor(words: &[&str]) -> anyhow::Result<(i32, Value)> {
    labs::doctor(&binary()?, words)
}

fn minimal() -> &'static Builtin {
    weft::lab::builtin::find("minimal", None).unwrap()
}

fn fifty_interfaces() -> anyhow::Result<()> {
    const LIMIT: Duration = Duration::from_secs(1);
    const TRIES: usize = 5;
    let lab = Lab::new("weft-doctor-fifty");
    let (host, other) = (lab.namespace("host")?, lab.namespace("other")?);
    host.bridge("br0", &BridgeOptions::default())?;
    for number in 0..49 {
        let name = format!("p{number}");
        lab.veth((&host, &name), (&other, &name), 1500)?;
        host.enslave(&name, "br0")?;
        other.address(&name, &format!("10.{number}.0.1/24"))?;
    }
    // Others have the processors as well: the quickest of some is what it takes.
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        let begun = Instant::now();
        let (code, report) = doctor(&["--netns", host.full_name()])?;
        best = best.min(begun.elapsed());
        ensure!(code == 0, "{report:#}");
        if best < LIMIT {
            break;
        }
    }
    println!("50 interfaces in {best:?}");
    ensure!(best < LIMIT, "{best:?}");
    Ok(())
}

fn saved_and_loaded() -> anyhow::Result<()> {
    let (up, mut running) = Up::start(minimal())?;
    running.inject("route-blackhole")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("survey.json");
    let file = file.to_str().context("a path in UTF-8")?;
    let netns = format!("weft.{}.left", up.name);
    let (code, live) = doctor(&["--netns", &netns, "--to", "10.10.0.2", "--save", file])?;
    drop(up);
    let (again, loaded) = doctor(&["--netns", &netns, "--to", "10.10.0.2", "--load", file])?;
    ensure!((code, again) == (1, 1), "{code} {again}");
    ensure!(live == loaded, "{live:#}\n{loaded:#}");
    ensure!(live["first_fault"]["finding"] == "route-blackhole", "{live:#}");
    Ok(())
}

fn the_map() -> anyhow::Result<()> {
    let (up, running) = Up::start(weft::lab::builtin::find("bridge", None).unwrap())?;
    let folder = tempfile::tempdir()?;
    let svg: PathBuf = folder.path().join("map.svg");
    let output = weft(&["map", "--lab", &up.name])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for host in &running.topology().hosts {
        for interface in &host.interfaces {
            let row = text.lines().any(|line| line.contains(&interface.name));
            ensure!(row && text.contains(&host.name), "{} {}\n{text}", host.name, interface.name);
        }
    }
    ensure!(text.contains(&format!("<-> weft.{}.switch/port1", up.name)), "{text}");
    let drawn = weft(&["map", "--lab", &up.name, "--svg", svg.to_str().context("a path in UTF-8")?])?;
    ensure!(drawn.status.success());
    let svg = std::fs::read_to_string(&svg)?;
    ensure!(svg.matches("<path").count() == 3, "a line for each of three cables");
    // All of the machine's, other tests' among them.
    let all = weft(&["map", "--json"])?;
    let page: Value = serde_json::from_slice(&all.stdout)?;
    let names = page["namespaces"].as_array().context("a list")?;
    ensure!(names.iter().any(|space| space["name"] == format!("weft.{}.two", up.name)));
    Ok(())
}

fn mistakes() -> anyhow::Result<()> {
    for words in [
        vec!["doctor", "--netns", "weft-no-such-namespace"],
        vec!["doctor", "--pid", "4000000000"],
        vec!["doctor", "--pid", "1", "--netns", "left"],
        vec!["doctor", "--port", "weft-no-such-namespace/eth0"],
        vec!["doctor", "--to", "nowhere"],
    ] {
        let output = weft(&words)?;
        ensure!(output.status.code() == Some(2), "{words:?}: {output:?}");
        ensure!(!output.stderr.is_empty(), "{words:?}");
    }
    let output = weft(&["doctor", "--lab", "no-such-lab"])?;
    ensure!(output.status.code() == Some(1) && String::from_utf8_lossy(&output.stderr).contains("weft lab list"));
    Ok(())
}
