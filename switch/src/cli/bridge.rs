//! `weft bridge add` and `del`: bridges of the running switch.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{SocketArg, output, wait};
use crate::control::api::request::{BridgeRequest, GeneveOptionRequest};

#[derive(Args, Debug)]
pub(super) struct BridgeArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Add a bridge
    Add(AddArgs),
    /// Take a bridge out that has no ports any more
    Del {
        /// The bridge
        name: String,
        #[command(flatten)]
        socket: SocketArg,
    },
}

#[derive(Args, Debug)]
struct AddArgs {
    /// The new bridge
    name: String,
    /// Its VXLAN network identifier; without one it never leaves the host
    #[arg(long)]
    vni: Option<u32>,
    /// How its frames are wrapped for VTEPs [default: as [vtep] has it]
    #[arg(long, value_name = "WORD", requires = "vni", value_parser = ["vxlan", "vxlan-gbp", "vxlan-gpe", "geneve"])]
    encapsulation: Option<String>,
    /// What is sent with each frame in Geneve, such as 0xff01:1:c0ffee00: class, type and hexadecimal data; can be given several
    /// times
    #[arg(long = "geneve-option", value_name = "CLASS:TYPE:DATA", requires = "vni", value_parser = geneve_option)]
    geneve_options: Vec<GeneveOptionRequest>,
    /// A VTEP of its flood list, perhaps with a port; can be given several times
    #[arg(long = "remote", value_name = "ADDRESS", requires = "vni")]
    remotes: Vec<String>,
    /// Do not learn source addresses
    #[arg(long)]
    no_learning: bool,
    /// Do not learn source addresses of what comes from VTEPs
    #[arg(long)]
    no_vxlan_learning: bool,
    /// Answer ARP and neighbour solicitations for known neighbours instead of sending them to VTEPs
    #[arg(long)]
    proxy: bool,
    /// Send packets to a router straight to the station that they are for
    #[arg(long)]
    rsc: bool,
    /// Tell of unicast that nobody knows a VTEP for
    #[arg(long)]
    l2miss: bool,
    /// Tell of IP addresses that the neighbours do not have
    #[arg(long)]
    l3miss: bool,
    /// Most entries behind VTEPs; 0 for no limit
    #[arg(long, value_name = "COUNT")]
    maxaddress: Option<u32>,
    /// Hold TCP that crosses the overlay to segments that fit
    #[arg(long)]
    mss_clamp: bool,
    /// How long a learned address lives without traffic from it, such as 300s
    #[arg(long, value_name = "DURATION")]
    ageing: Option<String>,
    /// Most learned entries; 0 for no limit
    #[arg(long, value_name = "COUNT")]
    fdb_max_learned: Option<u64>,
    /// What happens at that limit
    #[arg(long, value_parser = ["evict", "refuse"])]
    fdb_full: Option<String>,
    /// Reserved groups 01-80-C2-00-00-0X that are forwarded, a bit each
    #[arg(long, value_name = "MASK", value_parser = mask)]
    group_fwd_mask: Option<u16>,
    /// A customers' bridge, or one of their provider, which passes on what is for theirs
    #[arg(long, value_parser = ["802.1Q", "802.1ad"])]
    vlan_protocol: Option<String>,
    /// Frames to reserved groups that stay in the bridge teach nothing
    #[arg(long)]
    no_linklocal_learn: bool,
    /// Spare VTEPs questions for addresses that weft can answer
    #[arg(long)]
    neigh_suppress: bool,
    /// Flood all multicast groups
    #[arg(long)]
    no_mcast_snooping: bool,
    /// Ask for members of multicast groups, if nobody else does
    #[arg(long)]
    mcast_querier: bool,
    #[command(flatten)]
    socket: SocketArg,
}

pub(super) fn run(args: &BridgeArgs) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Add(args) => {
            wait(args.socket.client().add_bridge(&request(args)))?;
            output::print(&format!("added bridge {}", args.name))?;
        }
        Verb::Del { name, socket } => {
            wait(socket.client().del_bridge(name))?;
            output::print(&format!("removed bridge {name}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn request(args: &AddArgs) -> BridgeRequest {
    BridgeRequest {
        name: args.name.clone(),
        vni: args.vni,
        encapsulation: args.encapsulation.clone(),
        geneve_option: args.geneve_options.clone(),
        remotes: args.remotes.clone(),
        learning: args.no_learning.then_some(false),
        vxlan_learning: args.no_vxlan_learning.then_some(false),
        proxy: args.proxy.then_some(true),
        rsc: args.rsc.then_some(true),
        l2miss: args.l2miss.then_some(true),
        l3miss: args.l3miss.then_some(true),
        maxaddress: args.maxaddress,
        mss_clamp: args.mss_clamp.then_some(true),
        ageing: args.ageing.clone(),
        fdb_max_learned: args.fdb_max_learned,
        fdb_full: args.fdb_full.clone(),
        group_fwd_mask: args.group_fwd_mask,
        vlan_protocol: args.vlan_protocol.clone(),
        no_linklocal_learn: args.no_linklocal_learn.then_some(true),
        neigh_suppress: args.neigh_suppress.then_some(true),
        mcast_snooping: args.no_mcast_snooping.then_some(false),
        mcast_querier: args.mcast_querier.then_some(true),
        ..BridgeRequest::default()
    }
}

/// A mask, also as 0x4000.
pub(super) fn mask(text: &str) -> Result<u16, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => text.parse(),
    }
}

/// `CLASS:TYPE:DATA`; the switch looks at the data.
fn geneve_option(text: &str) -> Result<GeneveOptionRequest, String> {
    let mut parts = text.splitn(3, ':');
    let (Some(class), Some(kind), data) = (parts.next(), parts.next(), parts.next().unwrap_or_default()) else {
        return Err("an option is CLASS:TYPE:DATA, such as 0xff01:1:c0ffee00".to_owned());
    };
    let class = mask(class).map_err(|error| format!("class {class}: {error}"))?;
    let kind_number = mask(kind).map_err(|error| format!("type {kind}: {error}"))?;
    let kind = u8::try_from(kind_number).map_err(|_| format!("type {kind}: at most 255"))?;
    Ok(GeneveOptionRequest { class, kind, data: data.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        add: AddArgs,
    }

    #[test]
    fn a_line_becomes_a_request_with_the_keys_of_the_file() {
        let line =
            "weft blue --vni 42 --remote 192.0.2.2 --remote 192.0.2.3:8472 --no-learning --group-fwd-mask 0x4000";
        let line = <Line as clap::Parser>::try_parse_from(line.split(' ')).unwrap();
        let expected = json!({"name": "blue", "vni": 42, "remotes": ["192.0.2.2", "192.0.2.3:8472"], "learning": false,
            "group_fwd_mask": 0x4000});
        assert_eq!(to_value(request(&line.add)).unwrap(), expected);

        let line = "weft blue --vni 42 --encapsulation geneve --geneve-option 0xff01:1:c0ffee00 --geneve-option 1:0x82";
        let line = <Line as clap::Parser>::try_parse_from(line.split(' ')).unwrap();
        let expected = json!({"name": "blue", "vni": 42, "encapsulation": "geneve",
            "geneve_option": [{"class": 0xff01, "type": 1, "data": "c0ffee00"}, {"class": 1, "type": 0x82}]});
        assert_eq!(to_value(request(&line.add)).unwrap(), expected);
        for wrong in ["1", "x:1:00", "1:256:00", "65536:1:00"] {
            let line = ["weft", "blue", "--vni", "42", "--geneve-option", wrong];
            assert!(<Line as clap::Parser>::try_parse_from(line).is_err(), "{wrong}");
        }
    }
}
