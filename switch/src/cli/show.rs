//! `weft show`: the state of the running switch.

use std::{process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{NOT_SO, SocketArg, groups, mtu, output, tables, wait};
use crate::control::api::model::{Status, Totals};

#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// The process: since when it runs, and what it holds of privileges
    Status(Common),
    /// Bridges, what is in them, and how much they learned
    Bridges(Common),
    /// Ports and their interfaces
    Ports(Common),
    /// Which address is behind which port or VTEP
    Fdb {
        /// Only this bridge
        #[arg(long)]
        bridge: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Who has which IP address
    Neigh {
        /// Only this bridge
        #[arg(long)]
        bridge: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Multicast groups, who is in them, who asks and where routers are
    Mdb {
        /// Only this bridge
        #[arg(long)]
        bridge: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// How large a packet reaches each VTEP, what remains of it inside, and the ports' MTUs
    Mtu(Common),
    /// VTEPs, why they are known, and their traffic
    Vteps(Common),
    /// Frames that ended here, each with its reason
    Drops(Common),
    /// The account of all frames; exit code 1 if it does not balance
    Ledger(Common),
}

#[derive(Args, Debug)]
struct Common {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArg,
}

impl Common {
    fn print<T: Serialize>(&self, answer: &T, table: impl Fn(&T) -> String) -> anyhow::Result<()> {
        if self.json { output::print_json(answer) } else { output::print(&table(answer)) }
    }
}

pub(super) fn run(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Status(common) => common.print(&wait(common.socket.client().status())?, status)?,
        What::Bridges(common) => {
            common.print(&wait(common.socket.client().bridges())?, |bridges| tables::bridges(bridges))?;
        }
        What::Ports(common) => common.print(&wait(common.socket.client().ports())?, |ports| tables::ports(ports))?,
        What::Fdb { bridge, common } => {
            common.print(&wait(common.socket.client().fdb(bridge.as_deref()))?, |entries| tables::fdb(entries))?;
        }
        What::Mdb { bridge, common } => {
            common.print(&wait(common.socket.client().mdb(bridge.as_deref()))?, |states| groups::table(states))?;
        }
        What::Neigh { bridge, common } => {
            common.print(&wait(common.socket.client().neigh(bridge.as_deref()))?, |entries| tables::neigh(entries))?;
        }
        What::Mtu(common) => common.print(&wait(common.socket.client().mtu())?, mtu::text)?,
        What::Vteps(common) => common.print(&wait(common.socket.client().vteps())?, |vteps| tables::vteps(vteps))?,
        What::Drops(common) => common.print(&wait(common.socket.client().drops())?, |drops| tables::drops(drops))?,
        What::Ledger(common) => {
            let ledger = wait(common.socket.client().ledger())?;
            common.print(&ledger, tables::ledger)?;
            return Ok(verdict(&ledger.totals));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn status(status: &Status) -> String {
    let Status { version, pid, uptime_s, workers, config, held } = status;
    let config = config.as_deref().map(|file| format!(", configuration {file}")).unwrap_or_default();
    let uptime = humantime::format_duration(Duration::from_secs(*uptime_s));
    let held = held.as_ref().map_or_else(|| "all that it was started with".to_owned(), ToString::to_string);
    format!("weft {version}, process {pid}, for {uptime}, workers {workers}{config}\nholds: {held}")
}

/// Believes the numbers, not the word beside them.
fn verdict(totals: &Totals) -> ExitCode {
    let Totals { in_frames, copies, out_frames, drops, balanced } = *totals;
    let good = balanced && Totals::new(in_frames, copies, out_frames, drops).balanced;
    if good { ExitCode::SUCCESS } else { ExitCode::from(NOT_SO) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_and_what_it_holds_are_told() {
        let mut process = Status {
            version: "0.1.0".to_owned(),
            pid: 7,
            uptime_s: 3605,
            workers: 2,
            config: Some("/etc/weft/weft.toml".to_owned()),
            held: None,
        };
        let first = "weft 0.1.0, process 7, for 1h 5s, workers 2, configuration /etc/weft/weft.toml\nholds: ";
        assert_eq!(status(&process), format!("{first}all that it was started with"));
        process.held = serde_json::from_str(
            r#"{"uid": 995, "gid": 994, "capabilities": [], "no_new_privs": true, "seccomp": true, "landlock": 7, "opener": 8}"#,
        )
        .unwrap();
        let held = "user 995, group 994, capabilities none, no-new-privs yes, seccomp filter yes, landlock 7, opener 8";
        assert_eq!(status(&process), format!("{first}{held}"));
    }

    #[test]
    fn an_account_that_does_not_balance_is_a_failure() {
        assert_eq!(verdict(&Totals::new(3, 1, 2, 2)), ExitCode::SUCCESS);
        assert_eq!(verdict(&Totals::new(3, 1, 2, 1)), ExitCode::from(1));
        assert_eq!(verdict(&Totals { balanced: true, ..Totals::new(3, 1, 2, 1) }), ExitCode::from(1));
    }
}
