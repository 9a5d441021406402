//! `weft demo`: two hosts in namespaces, a weft on each, one overlay between them and the kernel's vxlan devices.
//!
//! [`scene`] builds it, [`story`] shows it step by step and checks each step, [`Voice`] prints. Exit codes: 0 if all was as
//! shown; 1 if a step was not so; 2 if this machine can't show it at all.

mod scene;
mod story;

use std::{
    fs::OpenOptions,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use clap::Args;

use self::scene::{PREFIX, Scene};
use super::{NOT_SO, UsageError, voice::Voice};
use crate::lab::{Lab, missing_capabilities};

#[derive(Args, Debug)]
pub(super) struct DemoArgs {}

type Step = fn(&mut Scene, &Voice) -> anyhow::Result<()>;

/// All steps but the last one, which takes the scene away.
const STEPS: [(&str, Step); 7] = [
    ("Two hosts with a weft, one without, and two networks across them", story::built),
    ("Network blue: the first frame is flooded, the answer teaches", story::learning),
    ("Network green: the same addresses, other machines", story::overlapping),
    ("Nothing leaks from one network into the other", story::isolation),
    ("How large a packet may be", story::full_size),
    ("The kernel as the third host", story::kernel_peer),
    ("Every frame is accounted for", story::account),
];

pub(super) fn run(_args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    check_machine()?;
    // What an earlier demo could not remove because it was killed. If that fails it is no matter of this one.
    let _ = Lab::remove_stale(PREFIX);
    let mut scene =
        Scene::build().map_err(|error| UsageError(format!("this machine can't build the demo: {error:#}")))?;
    let voice = Voice::new();
    voice.title("weft demo: an overlay between two hosts, and a third that the kernel serves")?;
    voice.say(&format!("All of it is in network namespaces. blue1 stands for {}-blue1, and so on.", scene.name()))?;

    let mut outcome = Ok(());
    for (number, (title, step)) in (1..).zip(STEPS) {
        voice.step(number, title)?;
        outcome = step(&mut scene, &voice);
        if outcome.is_err() {
            break;
        }
    }
    // Before anything is said about a failure: it may have come of a signal, and then the process ends in here.
    if let Err(error) = outcome {
        let said = scene.shortened(&format!("{error:#}"));
        let left = scene.remove();
        voice.bad(&said)?;
        voice.say(&match left {
            Ok(left) if left.is_empty() => "The demo ends here; everything is removed again.".to_owned(),
            Ok(left) => format!("The demo ends here; left behind: {}", left.join(", ")),
            Err(error) => format!("The demo ends here, and not everything could be removed: {error:#}"),
        })?;
        return Ok(ExitCode::from(NOT_SO));
    }
    voice.step(STEPS.len() + 1, "All is removed again")?;
    if let Err(error) = story::removed(scene, &voice) {
        voice.bad(&format!("{error:#}"))?;
        return Ok(ExitCode::from(NOT_SO));
    }
    voice.title(&format!("\nAll of it was so, in {:.1} s.", started.elapsed().as_secs_f64()))?;
    Ok(ExitCode::SUCCESS)
}

/// Says what this machine lacks, all of it at once, before anything is built.
fn check_machine() -> Result<(), UsageError> {
    let mut lacks = Vec::new();
    for name in missing_capabilities() {
        lacks.push(format!("the capability {name}, to make network namespaces and interfaces: run it as root"));
    }
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        lacks.push(format!("/dev/net/tun, to make taps ({error}): `modprobe tun`, or give it to the container"));
    }
    let ping = Command::new("ping").arg("-V").stdin(Stdio::null()).output();
    if !ping.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("iputils")) {
        lacks.push("the program ping of iputils, to send traffic: package iputils-ping or iputils".to_owned());
    }
    if lacks.is_empty() {
        return Ok(());
    }
    Err(UsageError(format!("the demo can't run here. It lacks\n  - {}", lacks.join("\n  - "))))
}
