//! `weft run`: the switch in the foreground.

use std::{
    fs::File,
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use rustix::process::{Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::UsageError;
use crate::{
    control::{
        self,
        api::server::ControlSocket,
        config::{Config, ConfigErrors},
    },
    isolation::{self, Demand},
    sys::{inherited, opener, scheduling, signals, users::Identity},
};

/// Where the configuration is if nobody says otherwise.
const DEFAULT_CONFIG: &str = "/etc/weft/weft.toml";

#[derive(Args, Debug)]
pub(super) struct RunArgs {
    /// The configuration
    #[arg(value_name = "CONFIG", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// The control socket to listen on, instead of the configuration's
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// How the log is written to standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Become this user once all is open that needs privileges
    #[arg(long, value_name = "NAME[:GROUP]")]
    user: Option<Identity>,
    /// Whether to give up all that a running switch needs no more: privileges, files, system calls
    #[arg(long, value_enum, default_value_t = Sandbox::Auto)]
    sandbox: Sandbox,
    /// End when this process, which has started weft, does
    #[arg(long, value_name = "PID", hide = true)]
    end_with: Option<i32>,
}

/// How much is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Sandbox {
    /// All that this system can take away; what it can't is told
    Auto,
    /// All of it, or weft does not start
    On,
    /// Nothing
    Off,
}

/// How a log is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum LogFormat {
    /// A line for people
    Text,
    /// A JSON object a line
    Json,
}

impl RunArgs {
    /// The configuration with what the command line changes of it, checked against the system it is to run on.
    fn load(&self) -> Result<Config, ConfigErrors> {
        let mut config = Config::load(&self.config)?;
        if let Some(socket) = &self.socket {
            config.switch.socket.clone_from(socket);
        }
        config.check_system()?;
        Ok(config)
    }

    fn give_up(&self, config: &Config) -> anyhow::Result<()> {
        let demand = match (self.sandbox, &self.user) {
            (Sandbox::Auto, _) => Demand::Auto,
            (Sandbox::On, _) => Demand::On,
            (Sandbox::Off, None) => return Ok(()),
            (Sandbox::Off, Some(_)) => {
                let why = "--user and --sandbox off exclude each other: another user could open no port later";
                return Err(UsageError(why.to_owned()).into());
            }
        };
        Ok(isolation::enter(demand, self.user.as_ref(), &self.config, &config.switch.socket)?)
    }
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    // Before anything is opened.
    inherited::note();
    if let Some(starter) = args.end_with {
        end_with(starter)?;
    }
    log_to_stderr(args.log_format);
    let config = args.load()?;
    make_room_for_descriptors()?;
    let_workers_go_first();
    let socket = ControlSocket::bind(&config.switch.socket)?;
    if let Some(user) = &args.user {
        socket.give_to(user)?;
    }
    args.give_up(&config)?;
    // The control plane has little to do; forwarding has threads of its own.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime
        .worker_threads(2)
        .thread_name("weft-control")
        .on_thread_start(scheduling::step_back)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(control::run::run(config, &args.config, socket));
    if let Some(opener) = opener::get() {
        opener.end();
    }
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// Ends as by SIGTERM when `starter` ends, however it does; and hears signals that it held back.
fn end_with(starter: i32) -> anyhow::Result<()> {
    signals::release_all()?;
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // It may have ended before that was said.
    let parent = getppid().map(Pid::as_raw_nonzero);
    anyhow::ensure!(
        parent.is_some_and(|parent| parent.get() == starter),
        "process {starter}, weft's starter, has ended"
    );
    Ok(())
}

/// Takes as many descriptors as the system allows: each port costs one for each worker and a few more, and the soft limit
/// that shells and service managers set, 1,024, is only there for programs that use select(2). If there is no room for
/// those of the runtime itself, says so now: it panics without.
fn make_room_for_descriptors() -> anyhow::Result<()> {
    // Some for epoll and wake-ups, a pair of sockets for signals.
    const RUNTIME: usize = 16;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, "the limit of descriptors stays as it is");
    }
    let room: io::Result<Vec<_>> = (0..RUNTIME).map(|_| File::open("/dev/null")).collect();
    room.map(drop).context("can't open the files that the runtime needs")
}

/// Workers may stand before all other programs, whatever else weft may or may not do when they start.
fn let_workers_go_first() {
    // getrlimit(2): 40 is a niceness of -20, 1 one of 19.
    let all = Some(40);
    if let Err(error) = setrlimit(Resource::Nice, Rlimit { current: all, maximum: all }) {
        tracing::debug!(%error, "workers are as nice as their limit says");
    }
}

/// Logs as `RUST_LOG` says (`info` if it says nothing): `RUST_LOG=weft=debug` shows every address that is learned.
fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => log.with_target(false).with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
}
