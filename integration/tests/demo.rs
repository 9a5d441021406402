//! `weft demo` as a user runs it: what it shows is so, and nothing of it stays behind, however it ends.

// Clippy takes only what the standard harness runs for tests.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, ensure};
use weft::lab::Signal;
use weft_integration::{
    Needs, main_with,
    traceless::{Traceless, text},
    trial,
    weft::binary,
};

/// How long a demo may take.
const LIMIT: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let all = Needs::ROOT_AND_TUN.programs(&["ping"]);
    main_with(vec![
        trial("the_demo_shows_what_it_says_and_leaves_nothing", all, shows_and_leaves_nothing),
        trial("two_demos_work_side_by_side", all, two_side_by_side),
        trial("an_interrupted_demo_leaves_nothing", all, || interrupted(Signal::INT)),
        trial("a_terminated_demo_leaves_nothing", all, || interrupted(Signal::TERM)),
        trial("a_step_that_fails_is_told_and_leaves_nothing", all, a_failing_step),
        trial("a_machine_without_ping_is_told_so_before_anything_is_built", all, no_ping),
        trial("a_machine_without_privileges_is_told_so", all.programs(&["setpriv", "unshare"]), no_privileges),
    ])
}

fn start(command: Command) -> anyhow::Result<Traceless> {
    Traceless::start(command, "weft-demo", LIMIT)
}

fn demo() -> anyhow::Result<Command> {
    let mut command = Command::new(binary()?);
    command.arg("demo");
    Ok(command)
}

fn shows_and_leaves_nothing() -> anyhow::Result<()> {
    let demo = start(demo()?)?;
    let prefix = demo.prefix().to_owned();
    let output = demo.end()?;
    let said = text(&output.stdout);
    ensure!(output.status.code() == Some(0), "{}:\n{said}{}", output.status, text(&output.stderr));
    ensure!(output.stderr.is_empty(), "{}", text(&output.stderr));
    for line in [
        format!("blue1 stands for {prefix}0-blue1"),
        "     no entries".into(),
        "     blue    02:00:00:00:42:02  vtep 192.0.2.2   learned".into(),
        "   ok: flooded once, learned, then straight".into(),
        "     green1  knows 10.10.0.2 at 02:00:00:00:43:02".into(),
        "     green2    0".into(),
        "     1430 bytes from 10.10.0.2".into(),
        "     overlay MTU    =  1450".into(),
        "     From 10.10.0.2 icmp_seq=1 Frag needed and DF set (mtu = 1450)".into(),
        "          1  vtep 192.0.2.2:4789  out  oversize_answered".into(),
        "     green   02:00:00:00:43:03  vtep 192.0.2.3    learned".into(),
        "  balanced".into(),
        "   ok: both books balance".into(),
        "   ok: the wefts ended when asked".into(),
        "\nAll of it was so, in ".into(),
    ] {
        ensure!(said.contains(&line), "{line:?} is missing:\n{said}");
    }
    let oks = said.lines().filter(|line| line.starts_with("   ok: ")).count();
    ensure!(oks == 8, "{oks} of 8 steps:\n{said}");
    ensure!(!said.contains('\x1b'), "colours are for terminals");
    let widest = said.lines().map(|line| line.chars().count()).max();
    ensure!(widest <= Some(110), "a line of {widest:?} characters:\n{said}");
    Ok(())
}

fn two_side_by_side() -> anyhow::Result<()> {
    let demos = [start(demo()?)?, start(demo()?)?];
    for demo in demos {
        let output = demo.end()?;
        ensure!(output.status.code() == Some(0), "{}:\n{}", output.status, text(&output.stdout));
    }
    Ok(())
}

/// At the beginning, while the scene is built, and in the midst of the steps.
fn interrupted(signal: Signal) -> anyhow::Result<()> {
    for after in [30, 80, 150, 300, 700, 1500].map(Duration::from_millis) {
        let demo = start(demo()?)?;
        demo.interrupt(signal, after)?;
        let output = demo.end().with_context(|| format!("{signal:?} after {after:?}"))?;
        let said = text(&output.stdout);
        ensure!(output.status.code() == Some(130), "{signal:?} after {after:?}: {}\n{said}", output.status);
        ensure!(!said.contains("NOT SO"), "its own end is no failure of the demo:\n{said}");
    }
    Ok(())
}

/// A folder with a `ping` in it, to stand first on `PATH`.
fn with_ping(script: &str) -> anyhow::Result<(tempfile::TempDir, Command)> {
    let folder = tempfile::tempdir()?;
    let ping = folder.path().join("ping");
    fs::write(&ping, script)?;
    fs::set_permissions(&ping, fs::Permissions::from_mode(0o755))?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([folder.path().to_owned()].into_iter().chain(env::split_paths(&path)))?;
    let mut command = demo()?;
    command.env("PATH", path);
    Ok((folder, command))
}

fn a_failing_step() -> anyhow::Result<()> {
    let (_folder, command) =
        with_ping("#!/bin/sh\n[ \"$1\" = -V ] && echo 'ping from iputils' && exit 0\necho lost\nexit 1\n")?;
    let output = start(command)?.end()?;
    let said = text(&output.stdout);
    ensure!(output.status.code() == Some(1), "{}:\n{said}", output.status);
    ensure!(said.contains("\n   NOT SO: a ping\n   expected: an answer\n   seen:     ping -c 3"), "{said}");
    ensure!(said.contains("lost") && said.ends_with("everything is removed again.\n"), "{said}");
    ensure!(!said.contains("\n3. "), "it ends with the step that failed:\n{said}");
    Ok(())
}

/// What a demo says that does not begin.
fn refused(command: Command) -> anyhow::Result<String> {
    let output = start(command)?.end()?;
    ensure!(
        output.status.code() == Some(2) && output.stdout.is_empty(),
        "{}:\n{}",
        output.status,
        text(&output.stdout)
    );
    Ok(text(&output.stderr))
}

fn no_ping() -> anyhow::Result<()> {
    let (_folder, command) = with_ping("#!/bin/sh\necho another ping\n")?;
    let said = refused(command)?;
    ensure!(said.starts_with("weft: the demo can't run here. It lacks\n  - the program ping of iputils"), "{said}");
    Ok(())
}

fn no_privileges() -> anyhow::Result<()> {
    // Nor may it have a user namespace to get them in.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script, "sh", "setpriv"]);
    command.args(["--bounding-set", "-net_admin,-sys_admin"]).arg(binary()?).arg("demo");
    let said = refused(command)?;
    ensure!(said.contains("\n  - the capability CAP_NET_ADMIN") && said.contains("run it as root"), "{said}");
    ensure!(
        said.contains("\n  - or else a user namespace") && said.contains("user.max_user_namespaces is 0"),
        "{said}"
    );
    Ok(())
}
