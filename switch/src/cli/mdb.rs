//! `weft mdb add` and `del`: permanent members of multicast groups.

use std::{net::IpAddr, process::ExitCode};

use clap::{Args, Subcommand};

use super::{SocketArg, output, wait};
use crate::control::api::mdb::MdbRequest;

#[derive(Args, Debug)]
pub(super) struct MdbArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Make a port, or the overlay, a permanent member of a group
    Add(Entry),
    /// Take a permanent member out
    Del(Entry),
}

#[derive(Args, Debug)]
struct Entry {
    /// The bridge
    #[arg(long)]
    bridge: String,
    /// The group: an IP address, or an Ethernet address for frames that are not IP
    #[arg(long)]
    group: String,
    /// Only from this source
    #[arg(long)]
    source: Option<IpAddr>,
    /// The port; without it, the overlay
    #[arg(long, value_name = "NETNS/INTERFACE")]
    port: Option<String>,
    #[command(flatten)]
    socket: SocketArg,
}

pub(super) fn run(args: &MdbArgs) -> anyhow::Result<ExitCode> {
    let (Verb::Add(entry) | Verb::Del(entry)) = &args.verb;
    let request = MdbRequest {
        bridge: entry.bridge.clone(),
        group: entry.group.clone(),
        source: entry.source.map(|source| source.to_string()),
        port: entry.port.clone(),
    };
    let client = entry.socket.client();
    let member = entry.port.as_deref().unwrap_or("the overlay");
    let Entry { bridge, group, .. } = entry;
    let done = match args.verb {
        Verb::Add(_) => {
            wait(client.add_mdb(&request))?;
            format!("added {member} to group {group} in bridge {bridge}")
        }
        Verb::Del(_) => {
            wait(client.del_mdb(&request))?;
            format!("removed {member} from group {group} in bridge {bridge}")
        }
    };
    output::print(&done)?;
    Ok(ExitCode::SUCCESS)
}
