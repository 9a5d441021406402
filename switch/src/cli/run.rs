//! `weft run`: the switch in the foreground.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, ValueEnum};

use crate::control::config::{Config, ConfigErrors};

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
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let config = args.load()?;
    let path: &Path = &args.config;
    anyhow::bail!(
        "{} is good ({} ports, log {:?}), but this build has no engine to run it",
        path.display(),
        config.ports.len(),
        args.log_format
    )
}
