//! `weft demo`: two hosts in namespaces, a weft on each, one overlay between them and the kernel's vxlan devices.
//!
//! [`scene`] builds it, [`story`] shows it step by step and checks each step, [`Voice`] prints. Exit codes: 0 if all was as
//! shown; 1 if a step was not so; 2 if this machine can't show it at all.

mod scene;
mod story;

use std::{
    fs::{File, OpenOptions},
    io,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::Context;
use clap::Args;
use rustix::mount::MountFlags;

use self::scene::{PREFIX, Scene};
use super::{NOT_SO, UsageError, voice::Voice};
use crate::{
    lab::{Lab, missing_capabilities},
    sys::userns::{self, With},
};

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
    let rootless = become_root();
    check_machine(rootless.as_ref().err())?;
    // What an earlier demo could not remove because it was killed. If that fails it is no matter of this one.
    let _ = Lab::remove_stale(PREFIX);
    let mut scene =
        Scene::build().map_err(|error| UsageError(format!("this machine can't build the demo: {error:#}")))?;
    let voice = Voice::new();
    voice.title("weft demo: an overlay between two hosts, and a third that the kernel serves")?;
    voice.say(&format!("All of it is in network namespaces. blue1 stands for {}-blue1, and so on.", scene.name()))?;
    if let Ok(true) = rootless {
        voice.say("They belong to a user namespace of your own: outside of it nobody here has a privilege.")?;
    }
    if let Err(error) = open_tun() {
        voice.say(&format!("/dev/net/tun can't be opened ({error}): each tap is a veth pair instead."))?;
    }

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

/// Makes an ordinary user root of a user namespace of his own, with a `/run/netns` of its own; `false`: there was no need.
/// To be called while there is one thread.
fn become_root() -> anyhow::Result<bool> {
    if missing_capabilities().is_empty() {
        return Ok(false);
    }
    userns::enter_new(With::Mounts)?;
    rustix::mount::mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)
        .context("can't mount a /run of its own")?;
    Ok(true)
}

fn open_tun() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/net/tun")
}

/// Says what this machine lacks, all of it at once, before anything is built. `not_root`: why this could not become root.
fn check_machine(not_root: Option<&anyhow::Error>) -> Result<(), UsageError> {
    let mut lacks = Vec::new();
    for name in missing_capabilities() {
        lacks.push(format!("the capability {name}, to make network namespaces and interfaces: run it as root"));
    }
    if let Some(error) = not_root {
        lacks.push(format!("or else a user namespace, to be root in: {error:#}"));
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
