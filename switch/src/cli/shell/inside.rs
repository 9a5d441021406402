//! The process that becomes the program of `weft shell`: it makes its namespaces, waits for its port, and sets up the rest.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{Read, Write},
    net::IpAddr,
    os::unix::{net::UnixStream, process::CommandExt},
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::Context;
use rustix::process::{DumpableBehavior, Signal};
use serde::{Deserialize, Serialize};

use super::ShellArgs;
use crate::{
    control::link::Links,
    sys::{
        inherited,
        netns::Netns,
        signals,
        userns::{self, With},
    },
};

/// The verb of the command line that starts this; not for people.
pub(in crate::cli) const VERB: &str = "shell-inside";

/// What is said when the namespaces are there.
pub(super) const READY: &str = "ready";

/// What shells say of a program that is not there.
pub(super) const NO_PROGRAM: u8 = 127;

/// What is to be set up besides the port.
#[derive(Serialize, Deserialize, Debug)]
pub(super) struct Setting {
    interface: String,
    gateways: Vec<IpAddr>,
    dns: Vec<IpAddr>,
}

impl Setting {
    pub(super) fn of(args: &ShellArgs) -> Self {
        Self { interface: args.name.clone(), gateways: args.gateways.clone(), dns: args.dns.clone() }
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("words and addresses can be written")
    }
}

/// Whether these are the arguments of this process, and if so does its work. It returns only if that fails.
pub(in crate::cli) fn run(arguments: &[OsString]) -> Option<ExitCode> {
    let [_, verb, line, setting, program @ ..] = arguments else { return None };
    if verb != VERB {
        return None;
    }
    // Without its line there is nobody to say anything to.
    let number = line.to_str()?.parse().ok()?;
    let mut line = UnixStream::from(inherited::adopt(number).ok()?);
    let Err(error) = become_program(&mut line, setting, program);
    // One line is what the other side reads.
    let _ = writeln!(line, "{}", format!("{error:#}").replace('\n', " "));
    Some(ExitCode::from(NO_PROGRAM))
}

fn become_program(
    line: &mut UnixStream,
    setting: &OsStr,
    program: &[OsString],
) -> anyhow::Result<std::convert::Infallible> {
    let setting: Setting = serde_json::from_slice(setting.as_encoded_bytes())?;
    userns::enter_new(With::MountsAndNetwork)?;
    // Whoever started this may be killed; the program must not go on without its port.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // weft, as the same user, is to look at this process's namespaces (`kernel/ptrace.c:__ptrace_may_access`).
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    writeln!(line, "{READY}")?;
    if line.read(&mut [0])? == 0 {
        anyhow::bail!("weft shell ended");
    }
    set_up(&setting)?;
    signals::release_all()?;
    let [name, arguments @ ..] = program else { anyhow::bail!("no program") };
    let failed = Command::new(name).args(arguments).exec();
    Err(failed).with_context(|| format!("can't run {}", name.display()))
}

fn set_up(setting: &Setting) -> anyhow::Result<()> {
    if !setting.dns.is_empty() {
        replace_resolv_conf(&setting.dns).context("can't put `--dns` in the place of /etc/resolv.conf")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let links = Links::open(&Netns::own()?)?;
        links.set_up("lo", true).await?;
        for gateway in &setting.gateways {
            links.add_default_route(&setting.interface, *gateway).await?;
        }
        Ok(())
    })
}

/// For the program alone: a file is mounted on the host's, in a mount namespace that is the program's own.
fn replace_resolv_conf(servers: &[IpAddr]) -> anyhow::Result<()> {
    const RESOLV_CONF: &str = "/etc/resolv.conf";
    let text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    let file = std::env::temp_dir().join(format!("weft-resolv-{:016x}", fastrand::u64(..)));
    fs::write(&file, text)?;
    let mounted = mount_on(&file, RESOLV_CONF);
    // What is mounted needs no name.
    fs::remove_file(&file)?;
    mounted
}

fn mount_on(file: &Path, target: &str) -> anyhow::Result<()> {
    rustix::mount::mount_bind(file, target).with_context(|| format!("can't mount on {target}"))
}
