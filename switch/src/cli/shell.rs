//! `weft shell`: a program in namespaces of its own, with a port of a running weft for its network.
//!
//! # Theory of operation
//! Two processes. This one asks weft for the port, waits, passes signals on, and takes the port out again. The other one, which
//! becomes the program, is [`inside`]: this program started anew, since only a process with a single thread can make a user
//! namespace. They talk over a line:
//!
//! ```text
//! inside: makes its namespaces            -> "ready"
//! this:   weft makes a port in them       -> "go"
//! inside: routes, DNS, and the program    -> end of the line, or why not
//! ```
//!
//! The port is named by the program's process. If this process is killed, the kernel kills the program with it, and weft takes
//! the port out when it finds that the process has ended.

pub(super) mod inside;

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Write},
    net::IpAddr,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    path::PathBuf,
    process::{Child, Command, ExitCode, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{Pid, Signal},
};

use super::{SocketArg, UsageError, client::Client, output, wait};
use crate::{control::api::request::PortRequest, sys::signals::Held};

/// How long a weft that is started for it may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
pub(super) struct ShellArgs {
    /// The bridge of its port
    #[arg(long)]
    bridge: String,
    /// An address with prefix length for its interface; can be given several times
    #[arg(long = "address", value_name = "CIDR")]
    addresses: Vec<String>,
    /// Its interface's name
    #[arg(long, default_value = "eth0")]
    name: String,
    /// Its interface's own address
    #[arg(long)]
    mac: Option<String>,
    /// Its interface's MTU
    #[arg(long)]
    mtu: Option<u32>,
    /// Its default route leads there; can be given for IPv4 and for IPv6
    #[arg(long = "gateway", value_name = "IP")]
    gateways: Vec<IpAddr>,
    /// A name server that it asks, instead of the host's; can be given several times
    #[arg(long, value_name = "IP")]
    dns: Vec<IpAddr>,
    /// Start a weft with this configuration for it, which ends with it
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    config: Option<PathBuf>,
    #[command(flatten)]
    socket: SocketArg,
    /// The program and its arguments [default: $SHELL, or /bin/sh]
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(super) fn run(args: &ShellArgs) -> anyhow::Result<ExitCode> {
    // Before the program is there: one that comes in between must not end this process and leave the port.
    let held = Held::new(&PASSED_ON).context("can't hold signals back")?;
    let own = args.config.as_ref().map(OwnWeft::start).transpose()?;
    let client = own.as_ref().map_or_else(|| args.socket.client(), |own| own.client.clone());
    // A weft that is not there is told before anything is made.
    let bridges = wait(client.bridges())?;
    if !bridges.iter().any(|bridge| bridge.name == args.bridge) {
        let names: Vec<_> = bridges.iter().map(|bridge| bridge.name.as_str()).collect();
        return Err(UsageError(format!("weft has no bridge {}; it has {}", args.bridge, names.join(", "))).into());
    }
    let mut program = Program::start(args)?;
    let port = Port::add(&client, &request(args, program.id()))?;
    if let Some(why) = program.go()? {
        output::complain(&format!("weft: {why}"));
        return Ok(ExitCode::from(inside::NO_PROGRAM));
    }
    let ended = program.pass_signals_on(&held);
    // The port first: it must not outlive what is said about its program.
    port.remove();
    drop(own);
    Ok(exit_code(ended?))
}

/// What is passed on to the program, and what its end comes as.
const PASSED_ON: [Signal; 7] =
    [Signal::CHILD, Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT, Signal::USR1, Signal::USR2];

fn request(args: &ShellArgs, process: u32) -> PortRequest {
    PortRequest {
        name: args.name.clone(),
        netns: Some(format!("pid:{process}")),
        bridge: Some(args.bridge.clone()),
        address: args.addresses.clone(),
        mac: args.mac.clone(),
        mtu: args.mtu,
        ..PortRequest::default()
    }
}

/// As a shell says it: 128 and the signal, if that is what ended the program.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(code as u8)
}

/// The program, at first as [`inside`]. It is killed when this is dropped before its end.
struct Program {
    child: Child,
    line: BufReader<UnixStream>,
}

impl Program {
    fn start(args: &ShellArgs) -> anyhow::Result<Self> {
        let (line, far_end) = UnixStream::pair()?;
        // The one descriptor that it is to get besides the three that every program has.
        fcntl_setfd(&far_end, FdFlags::empty())?;
        let mut command = Command::new("/proc/self/exe");
        command.arg(inside::VERB).arg(far_end.as_raw_fd().to_string()).arg(inside::Setting::of(args).to_json());
        command.args(program_of(&args.command));
        let child = command.spawn().context("can't start a process for the program")?;
        drop(OwnedFd::from(far_end));
        let mut program = Self { child, line: BufReader::new(line) };
        match program.hear()?.as_deref() {
            Some(inside::READY) => Ok(program),
            Some(why) => Err(UsageError(why.to_owned()).into()),
            None => bail!("the process for the program ended"),
        }
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has it become the program; gives the reason if it can't.
    fn go(&mut self) -> anyhow::Result<Option<String>> {
        self.line.get_mut().write_all(b"\n").context("the process for the program ended")?;
        Ok(self.hear()?)
    }

    /// `None`: the end of the line.
    fn hear(&mut self) -> io::Result<Option<String>> {
        let mut said = String::new();
        self.line.read_line(&mut said)?;
        Ok((!said.is_empty()).then(|| said.trim_end().to_owned()))
    }

    /// Waits for its end. What is typed at the terminal reaches it by itself.
    fn pass_signals_on(&mut self, held: &Held) -> anyhow::Result<ExitStatus> {
        loop {
            let heard = held.wait()?;
            if heard.signal == Signal::CHILD {
                if let Some(status) = self.child.try_wait()? {
                    return Ok(status);
                }
            } else if heard.is_sent
                && let Some(pid) = Pid::from_raw(self.child.id().cast_signed())
            {
                // That it has just ended is what is heard next.
                let _ = rustix::process::kill_process(pid, heard.signal);
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn program_of(command: &[OsString]) -> Vec<OsString> {
    if command.is_empty() {
        vec![std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())]
    } else {
        command.to_vec()
    }
}

/// The program's port. It goes with this.
struct Port {
    client: Client,
    name: String,
    is_there: bool,
}

impl Port {
    fn add(client: &Client, request: &PortRequest) -> anyhow::Result<Self> {
        wait(client.add_port(request))?;
        let name = format!("{}/{}", request.netns.as_deref().unwrap_or_default(), request.name);
        Ok(Self { client: client.clone(), name, is_there: true })
    }

    fn remove(mut self) {
        self.is_there = false;
        // weft may have seen its process's end first, or have ended itself, and its ports with it.
        let _ = wait(self.client.del_port(&self.name));
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if self.is_there {
            let _ = wait(self.client.del_port(&self.name));
        }
    }
}

/// A weft that was started for the program. It ends with this.
struct OwnWeft {
    child: Child,
    client: Client,
    folder: PathBuf,
}

impl OwnWeft {
    fn start(config: &PathBuf) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("weft-shell-{:016x}", fastrand::u64(..)));
        let made = std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&folder);
        made.with_context(|| format!("can't make {}", folder.display()))?;
        let socket = folder.join("weft.sock");
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("run")
            .arg(config)
            .arg("--socket")
            .arg(&socket)
            .arg("--end-with")
            .arg(std::process::id().to_string());
        // Not in the foreground: what is typed there is for the program.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "warn");
        }
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let _ = std::fs::remove_dir(&folder);
                return Err(error).context("can't start weft");
            }
        };
        let mut own = Self { child, client: Client::new(&socket), folder };
        own.await_it()?;
        Ok(own)
    }

    fn await_it(&mut self) -> anyhow::Result<()> {
        const PAUSE: Duration = Duration::from_millis(20);
        let end = Instant::now() + PATIENCE;
        while wait(self.client.status()).is_err() {
            if self.child.try_wait()?.is_some() {
                bail!("the weft that was started for the program has ended; it says above why");
            }
            if Instant::now() > end {
                bail!("the weft that was started for the program does not answer");
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl Drop for OwnWeft {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        match self.child.wait() {
            Ok(_) => {}
            Err(error) => output::complain(&format!("weft: can't wait for the weft that was started: {error}")),
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
