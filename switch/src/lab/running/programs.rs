//! Programs of a lab that outlive the command that started them.

use std::{
    fs,
    path::Path,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::PATIENCE;
use crate::{
    lab::{LabError, Namespace},
    sys::netns::Netns,
};

/// Lets a program go on by itself. If it ends before this process does, it is waited for, so that it leaves no zombie.
pub(in crate::lab) fn let_go(mut child: Child) {
    thread::spawn(move || child.wait());
}

/// Ends the programs of a host whose arguments `is_meant`, and waits until they are gone.
pub(in crate::lab) fn end(host: &Namespace, is_meant: impl Fn(&[String]) -> bool) -> Result<(), LabError> {
    let begun = Instant::now();
    let mut signal = Signal::TERM;
    loop {
        let meant: Vec<_> = inside(host.netns()).into_iter().filter(|pid| is_meant(&arguments(*pid))).collect();
        if meant.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(LabError::Invalid(format!("a program in {} does not end", host.name())));
        }
        for pid in meant {
            kill(pid, host.netns(), signal);
        }
        if begun.elapsed() > Duration::from_secs(3) {
            signal = Signal::KILL;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The processes whose main thread is in a namespace, this one excepted.
fn inside(netns: &Netns) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|&pid| pid != std::process::id() && Netns::of_pid(pid).is_ok_and(|other| other.same_as(netns))).collect()
}

fn arguments(pid: u32) -> Vec<String> {
    let line = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default();
    line.split(|&byte| byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

/// The descriptor is opened before the question is asked, so that the answer is about the very process that is ended.
fn kill(pid: u32, netns: &Netns, signal: Signal) {
    let Some(process) = Pid::from_raw(pid.cast_signed()) else { return };
    let Ok(pidfd) = rustix::process::pidfd_open(process, PidfdFlags::empty()) else { return };
    if Netns::of_pid(pid).is_ok_and(|other| other.same_as(netns)) {
        let _ = rustix::process::pidfd_send_signal(&pidfd, signal);
    }
}

/// The argument by which the program that holds a port is found again.
const HOLDER: &str = "hold-port";

/// Starts a program in a host that holds a UDP port of all its addresses and does nothing with it.
pub(in crate::lab) fn occupy(host: &Namespace, weft: &Path, port: u16) -> Result<(), LabError> {
    let failed = |error| LabError::step(format!("hold UDP port {port} in {}", host.name()), error);
    let mut command = std::process::Command::new(weft);
    command.args(["lab", HOLDER, &port.to_string()]);
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = host.netns().within(|| command.spawn()).and_then(|spawned| spawned).map_err(failed)?;
    // It says a line when it holds the port, and none if it can't.
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut said).map_err(failed)?;
    }
    if said.is_empty() {
        let mut why = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut why).map_err(failed)?;
        }
        let _ = child.wait();
        return Err(failed(std::io::Error::other(why.trim().to_owned())));
    }
    let_go(child);
    Ok(())
}

/// Ends that program.
pub(in crate::lab) fn vacate(host: &Namespace, port: u16) -> Result<(), LabError> {
    let port = port.to_string();
    end(host, |arguments| arguments.windows(2).any(|pair| pair[0] == HOLDER && pair[1] == port))
}
