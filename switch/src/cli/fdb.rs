//! `weft fdb add`, `del` and `flush`: the forwarding database of the running switch.

use std::{net::IpAddr, process::ExitCode};

use clap::{ArgGroup, Args, Subcommand};

use super::{SocketArg, output, wait};
use crate::{
    control::api::request::{FdbRequest, FlushRequest},
    wire::MacAddr,
};

#[derive(Args, Debug)]
pub(super) struct FdbArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Add a static entry
    Add(AddArgs),
    /// Take an entry out
    Del {
        /// The bridge
        #[arg(long)]
        bridge: String,
        /// The station's address
        #[arg(long)]
        mac: MacAddr,
        #[command(flatten)]
        socket: SocketArg,
    },
    /// Take out what was learned: everything, or what fits all that is said
    Flush(FlushArgs),
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("at").required(true).args(["port", "vtep", "permanent"]))]
#[command(group = ArgGroup::new("kind").args(["sticky", "extern_learn", "permanent"]))]
struct AddArgs {
    /// The bridge
    #[arg(long)]
    bridge: String,
    /// The station's address
    #[arg(long)]
    mac: MacAddr,
    /// The port that it is behind
    #[arg(long, value_name = "NETNS/INTERFACE")]
    port: Option<String>,
    /// The VTEP that it is behind, perhaps with a port
    #[arg(long, value_name = "ADDRESS")]
    vtep: Option<String>,
    /// The entry stays although its address is seen elsewhere
    #[arg(long)]
    sticky: bool,
    /// The entry becomes an ordinary learned one when its address is seen elsewhere
    #[arg(long)]
    extern_learn: bool,
    /// The address is the bridge's own, and what is sent to it goes no further
    #[arg(long)]
    permanent: bool,
    #[command(flatten)]
    socket: SocketArg,
}

#[derive(Args, Debug)]
struct FlushArgs {
    /// Only of this bridge
    #[arg(long)]
    bridge: Option<String>,
    /// Only what is behind this port
    #[arg(long, value_name = "NETNS/INTERFACE", conflicts_with = "vtep")]
    port: Option<String>,
    /// Only what is behind this VTEP
    #[arg(long, value_name = "ADDRESS")]
    vtep: Option<IpAddr>,
    /// Static entries too
    #[arg(long = "static")]
    include_static: bool,
    #[command(flatten)]
    socket: SocketArg,
}

pub(super) fn run(args: &FdbArgs) -> anyhow::Result<ExitCode> {
    let done = match &args.verb {
        Verb::Add(args) => {
            let request = FdbRequest {
                bridge: args.bridge.clone(),
                mac: args.mac.to_string(),
                port: args.port.clone(),
                vtep: args.vtep.clone(),
                sticky: args.sticky,
                extern_learn: args.extern_learn,
                permanent: args.permanent,
            };
            wait(args.socket.client().add_fdb(&request))?;
            let at = request.port.or(request.vtep).unwrap_or_else(|| "the bridge itself".to_owned());
            format!("added {} in bridge {} at {at}", args.mac, args.bridge)
        }
        Verb::Del { bridge, mac, socket } => {
            wait(socket.client().del_fdb(bridge, *mac))?;
            format!("removed {mac} from bridge {bridge}")
        }
        Verb::Flush(args) => {
            let request = FlushRequest {
                bridge: args.bridge.clone(),
                port: args.port.clone(),
                vtep: args.vtep,
                include_static: args.include_static,
            };
            let flushed = wait(args.socket.client().flush_fdb(&request))?.flushed;
            format!("removed {flushed} {}", if flushed == 1 { "entry" } else { "entries" })
        }
    };
    output::print(&done)?;
    Ok(ExitCode::SUCCESS)
}
