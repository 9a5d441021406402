//! The command line: one file per verb.
//!
//! A verb parses its arguments, does its work and prints; what needs a running switch goes through [`client`]. Exit codes
//! are the same everywhere: 0 all well; 1 it ran, and what it looked for is not so; 2 bad usage or bad configuration.

mod bridge;
mod capture;
mod check;
pub mod client;
mod compare;
mod demo;
mod doctor;
mod events;
mod experiment;
mod explain;
mod fdb;
mod groups;
mod hook;
mod lab;
mod map;
mod mdb;
mod mtu;
mod neigh;
mod output;
mod port;
mod reload;
mod run;
mod shell;
mod show;
mod tables;
mod voice;

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use self::client::{Client, ClientError};
use crate::{
    control::config::{ConfigErrors, default_socket},
    isolation,
    sys::{inside, opener},
};

/// It ran, and what it looked for is not so.
const NOT_SO: u8 = 1;
/// Bad usage or bad configuration.
const BAD_USAGE: u8 = 2;

/// A userspace virtual switch and VXLAN overlay gateway.
#[derive(Parser, Debug)]
#[command(name = "weft", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the switch in the foreground
    Run(run::RunArgs),
    /// Validate a configuration and print what would be built
    Check(check::CheckArgs),
    /// Build two hosts with an overlay between them, show what happens, and remove everything again
    Demo(demo::DemoArgs),
    /// Compare weft with the kernel's bridge and vxlan devices, frame by frame
    Compare(compare::CompareArgs),
    /// Measure in namespaces what MTUs, encapsulations and faults of the underlay do
    Experiment(experiment::ExperimentArgs),
    /// Network labs in namespaces: build one, look at it, check it, break it, take it away
    Lab(lab::LabArgs),
    /// Find out what is wrong with a network, by reading its state; exit code 1 if there is a fault
    Doctor(doctor::DoctorArgs),
    /// Show every namespace, its interfaces, and how they hang together
    Map(map::MapArgs),
    /// Capture frames at several points at once, and follow each packet across them
    Capture(capture::CaptureArgs),
    /// Show the state of the running switch
    Show(show::ShowArgs),
    /// Tell what happens in the running switch, until it ends
    Events(events::EventsArgs),
    /// Change the forwarding database of the running switch
    Fdb(fdb::FdbArgs),
    /// Tell the running switch who has which IP address
    Neigh(neigh::NeighArgs),
    /// Make ports permanent members of multicast groups
    Mdb(mdb::MdbArgs),
    /// Add ports to the running switch, or take them out
    Port(port::PortArgs),
    /// Add bridges to the running switch, or take them out
    Bridge(bridge::BridgeArgs),
    /// Run a program with a port of the running switch for its network
    Shell(Box<shell::ShellArgs>),
    /// Give a container a port of the running switch, as a hook of its runtime
    OciHook(hook::HookArgs),
    /// Say what the running switch does with a frame, step by step, without sending it; exit code 1 if nobody gets it
    Explain(Box<explain::ExplainArgs>),
    /// Make the running switch read its configuration again
    Reload(reload::ReloadArgs),
}

/// Parses the arguments of this process, does what they say and tells how it went.
pub fn main() -> ExitCode {
    // Before anything else: what weft starts of itself to work in another user's namespaces has to have a single thread.
    let arguments: Vec<_> = std::env::args_os().collect();
    if inside::is_helper(&arguments) {
        return inside::serve_as_helper();
    }
    if let Some((configuration, socket)) = opener::is_opener(&arguments) {
        return isolation::run_opener(configuration, socket);
    }
    if let Some(ended) = shell::inside::run(&arguments) {
        return ended;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // help and version are "errors" too, with code 0; nothing is left to do if they can't be printed
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { BAD_USAGE } else { 0 });
        }
    };
    let done = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Experiment(args) => experiment::run(&args),
        Command::Lab(args) => lab::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Map(args) => map::run(&args),
        Command::Capture(args) => capture::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Fdb(args) => fdb::run(&args),
        Command::Neigh(args) => neigh::run(&args),
        Command::Mdb(args) => mdb::run(&args),
        Command::Port(args) => port::run(&args),
        Command::Bridge(args) => bridge::run(&args),
        Command::Shell(args) => shell::run(&args),
        Command::OciHook(args) => hook::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Reload(args) => reload::run(&args),
    };
    done.unwrap_or_else(|error| complain(&error))
}

/// Prints an error, with its place if it is one of the configuration.
fn complain(error: &anyhow::Error) -> ExitCode {
    if let Some(errors) = error.downcast_ref::<ConfigErrors>() {
        output::complain(&errors.render(std::io::stderr().is_terminal()));
        return ExitCode::from(BAD_USAGE);
    }
    output::complain(&format!("weft: {error:#}"));
    if let Some(limit) = descriptor_limit_behind(error) {
        output::complain(&format!(
            "weft: it may have {limit} files open, and a port needs one for each worker and a few more: raise the limit \
             (`ulimit -n`, or LimitNOFILE= of a systemd unit)"
        ));
    }
    if error.is::<UsageError>() {
        return ExitCode::from(BAD_USAGE);
    }
    let refused = error.downcast_ref::<ClientError>();
    ExitCode::from(refused.map_or(NOT_SO, ClientError::exit_code))
}

/// The limit of open files, if an error says that it was reached. By the kernel's words, which outlive the error's number
/// where a cause was put into words.
fn descriptor_limit_behind(error: &anyhow::Error) -> Option<u64> {
    let words = rustix::io::Errno::MFILE.to_string();
    let reached = error.chain().any(|cause| cause.to_string().contains(&words));
    reached.then(|| rustix::process::getrlimit(rustix::process::Resource::Nofile).current).flatten()
}

/// Arguments that contradict each other in a way that clap can't see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Where the running switch is.
#[derive(Args, Debug)]
struct SocketArg {
    /// The control socket of the running switch [default: /run/weft/weft.sock for root, else in $XDG_RUNTIME_DIR]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl SocketArg {
    fn client(&self) -> Client {
        Client::new(self.socket.clone().unwrap_or_else(default_socket))
    }
}

/// Runs what asks the switch to its end.
fn wait<T>(answer: impl Future<Output = Result<T, ClientError>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(answer)?)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    fn refusal(line: &str) -> ErrorKind {
        Cli::try_parse_from(line.split(' ')).unwrap_err().kind()
    }

    /// Any words, one a line.
    #[test]
    fn fuzz_command_line() {
        crate::fuzzing::inputs(|input| {
            let Ok(line) = std::str::from_utf8(input) else { return };
            if let Err(error) = Cli::try_parse_from(["weft"].into_iter().chain(line.split('\n'))) {
                assert!(!error.to_string().is_empty());
            }
        });
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_is_understood() {
        for line in [
            "weft run",
            "weft run weft.toml --socket /tmp/s --log-format json",
            "weft check weft.toml --json",
            "weft demo",
            "weft experiment mtu --quick --kernel --out /tmp/x",
            "weft experiment mtu --inner-mtu fit-100,1500,underlay --encapsulation vxlan,geneve+16 --df inherit --list",
            "weft experiment mtu --resume /tmp/x --only geneve",
            "weft experiment encap --quick --size 64,9000 --encapsulation vxlan,geneve+8 --out /tmp/x",
            "weft experiment blackhole middle-link checksum --json",
            "weft lab list --json",
            "weft lab up bridge --name mine --datapath weft",
            "weft lab up mine.toml --commands",
            "weft lab show bridge --svg /tmp/bridge.svg",
            "weft lab check mine --json",
            "weft lab break mine",
            "weft lab break mine link-down --mend",
            "weft lab mend mine",
            "weft lab exec mine one -- ping -c1 10.10.0.2",
            "weft lab down mine other",
            "weft lab down --all",
            "weft show bridges --json",
            "weft show fdb --bridge blue --socket /tmp/s",
            "weft fdb add --bridge blue --mac 02:00:00:00:00:01 --port left/eth0 --sticky",
            "weft fdb add --bridge blue --mac 02:00:00:00:00:01 --vtep 192.0.2.2:8472",
            "weft fdb del --bridge blue --mac 02:00:00:00:00:01",
            "weft events --json",
            "weft fdb flush",
            "weft neigh add --bridge blue --ip 10.0.0.2 --mac 02:00:00:00:00:02",
            "weft neigh add --bridge blue --ip fd00::1 --mac 02:00:00:00:00:01 --router",
            "weft neigh del --bridge blue --ip fd00::1",
            "weft show neigh --bridge blue",
            "weft mdb add --bridge blue --group 239.1.1.1 --source 10.0.0.2 --port left/eth0",
            "weft mdb del --bridge blue --group 01:02:03:04:05:06",
            "weft show mdb --bridge blue --json",
            "weft show mtu --json",
            "weft fdb flush --bridge blue --port left/eth0 --static",
            "weft port add left/eth0 --bridge blue --mtu 1400 --address 10.0.0.1/24 --address fd00::1/64",
            "weft port add router/t0 --trunk 10=blue,20=green --native blue --no-offload",
            "weft port del left/eth0",
            "weft bridge add blue --vni 42 --remote 192.0.2.2 --remote 192.0.2.3",
            "weft bridge del blue",
            "weft explain --port left/eth0 --dst 02:00:00:00:00:01",
            "weft explain --port left/eth0 ffffffffffff0200000000010806 --json",
            "weft explain --port left/eth0 --pcap trace.pcap 7",
            "weft explain --vtep 192.0.2.2 --vni 42 --src 02:00:00:00:00:01 --outer-tos 0x03",
            "weft explain --vtep 192.0.2.2 --outer 0800000000002a00",
            "weft reload --socket /tmp/s",
            "weft shell --bridge blue",
            "weft shell --bridge blue --address 10.0.0.5/24 --gateway 10.0.0.1 --dns 10.0.0.1 --config weft.toml -- ls -l",
            "weft oci-hook --socket /tmp/s",
            "weft map --svg /tmp/x.svg",
            "weft map --lab minimal --json",
            "weft doctor",
            "weft doctor --netns left --to 10.0.0.2:80 --udp --json",
            "weft doctor --port left/eth0 --save /tmp/x --verbose",
            "weft doctor --lab minimal --load /tmp/x",
            "weft doctor --watch 2s --netns left",
            "weft doctor --pid 7 --to fd00::2 --size 1500 --probe",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        assert_eq!(refusal("weft check"), ErrorKind::MissingRequiredArgument);
        assert_eq!(refusal("weft show cables"), ErrorKind::InvalidSubcommand);
        assert_eq!(refusal("weft port add a"), ErrorKind::MissingRequiredArgument);
        assert_eq!(refusal("weft port add a --bridge b --trunk 10=b"), ErrorKind::ArgumentConflict);
        assert_eq!(refusal("weft port add a --bridge b --native b"), ErrorKind::ArgumentConflict);
        assert_eq!(refusal("weft port add a --trunk 10"), ErrorKind::ValueValidation);
        assert_eq!(refusal("weft fdb add --bridge b --mac 02:00:00:00:00:01"), ErrorKind::MissingRequiredArgument);
        assert_eq!(refusal("weft fdb add --bridge b --mac 02:00 --port p"), ErrorKind::ValueValidation);
        assert_eq!(refusal("weft explain 00"), ErrorKind::MissingRequiredArgument);
        assert_eq!(refusal("weft explain 00 --port a --vtep 192.0.2.2"), ErrorKind::ArgumentConflict);
        assert_eq!(refusal("weft explain 00 --port a --vni 42"), ErrorKind::ArgumentConflict);
        assert_eq!(refusal("weft experiment mtu --resume a --out b"), ErrorKind::ArgumentConflict);
        assert_eq!(refusal("weft experiment mtu --encapsulation gre"), ErrorKind::ValueValidation);
        assert_eq!(refusal("weft experiment mtu --inner-mtu much"), ErrorKind::ValueValidation);
        assert_eq!(refusal("weft lab down"), ErrorKind::MissingRequiredArgument);
        assert_eq!(refusal("weft lab down a --all"), ErrorKind::ArgumentConflict);
        assert_eq!(refusal("weft lab exec a b"), ErrorKind::MissingRequiredArgument);
        assert_eq!(refusal("weft lab up a --datapath ovs"), ErrorKind::InvalidValue);
        assert_eq!(refusal("weft shell"), ErrorKind::MissingRequiredArgument);
        assert_eq!(refusal("weft shell --bridge b --config f --socket s"), ErrorKind::ArgumentConflict);
        assert_eq!(refusal("weft shell --bridge b --dns here"), ErrorKind::ValueValidation);
        assert_eq!(refusal("weft doctor --pid 1 --netns left"), ErrorKind::ArgumentConflict);
        assert_eq!(refusal("weft doctor --to nowhere"), ErrorKind::ValueValidation);
        assert_eq!(refusal("weft doctor --probe"), ErrorKind::MissingRequiredArgument);
        assert_eq!(refusal("weft run --log-format xml"), ErrorKind::InvalidValue);
    }
}
