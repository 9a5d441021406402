//! `weft neigh add` and `del`: who has which IP address, for answers in others' names.

use std::{net::IpAddr, process::ExitCode};

use clap::{Args, Subcommand};

use super::{SocketArg, output, wait};
use crate::{control::api::request::NeighRequest, wire::MacAddr};

#[derive(Args, Debug)]
pub(super) struct NeighArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Name a station of a bridge by an IP address
    Add {
        /// The bridge
        #[arg(long)]
        bridge: String,
        /// The station's IP address
        #[arg(long)]
        ip: IpAddr,
        /// The station's Ethernet address
        #[arg(long)]
        mac: MacAddr,
        /// It is a router
        #[arg(long)]
        router: bool,
        #[command(flatten)]
        socket: SocketArg,
    },
    /// Take a neighbour out
    Del {
        /// The bridge
        #[arg(long)]
        bridge: String,
        /// The station's IP address
        #[arg(long)]
        ip: IpAddr,
        #[command(flatten)]
        socket: SocketArg,
    },
}

pub(super) fn run(args: &NeighArgs) -> anyhow::Result<ExitCode> {
    let done = match &args.verb {
        Verb::Add { bridge, ip, mac, router, socket } => {
            let request =
                NeighRequest { bridge: bridge.clone(), ip: ip.to_string(), mac: mac.to_string(), router: *router };
            wait(socket.client().add_neigh(&request))?;
            format!("added {ip} in bridge {bridge} at {mac}")
        }
        Verb::Del { bridge, ip, socket } => {
            wait(socket.client().del_neigh(bridge, *ip))?;
            format!("removed {ip} from bridge {bridge}")
        }
    };
    output::print(&done)?;
    Ok(ExitCode::SUCCESS)
}
