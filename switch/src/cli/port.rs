//! `weft port add` and `del`: ports of the running switch.

use std::{collections::BTreeMap, process::ExitCode};

use clap::{ArgGroup, Args, Subcommand};

use super::{SocketArg, UsageError, output, wait};
use crate::control::api::request::PortRequest;

#[derive(Args, Debug)]
pub(super) struct PortArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Add a port
    Add(Box<AddArgs>),
    /// Take a port out; an interface that weft made goes with it
    Del {
        /// The port, as `weft show ports` names it
        #[arg(value_name = "NETNS/INTERFACE")]
        name: String,
        #[command(flatten)]
        socket: SocketArg,
    },
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("membership").required(true).args(["bridge", "trunk"]))]
struct AddArgs {
    /// The interface in its namespace; without NETNS/ in that of weft. NETNS may be a name, a path or pid:1234
    #[arg(value_name = "NETNS/INTERFACE")]
    name: String,
    /// Access port: the bridge of all its frames
    #[arg(long)]
    bridge: Option<String>,
    /// Trunk: VLANs and their bridges, such as 10=blue,20=green
    #[arg(long, value_name = "VLAN=BRIDGE", value_delimiter = ',', value_parser = vlan)]
    trunk: Vec<(String, String)>,
    /// Trunk: the bridge of untagged frames
    #[arg(long, value_name = "BRIDGE", conflicts_with = "bridge")]
    native: Option<String>,
    /// Whether weft makes the interface (tap, or veth without /dev/net/tun) or takes one that exists (packet)
    #[arg(long, value_parser = ["tap", "veth", "packet"])]
    kind: Option<String>,
    /// An address with prefix length for the interface; can be given several times
    #[arg(long = "address", value_name = "CIDR")]
    addresses: Vec<String>,
    /// The interface's own address
    #[arg(long)]
    mac: Option<String>,
    /// The interface's MTU
    #[arg(long)]
    mtu: Option<u32>,
    /// Frames that a tap holds for each worker at most
    #[arg(long, value_name = "FRAMES")]
    queue_length: Option<u32>,
    /// A plain tap: frames as on a wire, one a system call
    #[arg(long)]
    no_offload: bool,
    /// Do not learn from its frames
    #[arg(long)]
    no_learning: bool,
    /// It gets no unknown unicast
    #[arg(long)]
    no_flood: bool,
    /// It gets no multicast
    #[arg(long)]
    no_mcast_flood: bool,
    /// It gets no broadcast
    #[arg(long)]
    no_bcast_flood: bool,
    /// Its frames may leave where they came in
    #[arg(long)]
    hairpin: bool,
    /// A multicast router is behind it: 0 never, 1 if it says so, 2 always
    #[arg(long, value_name = "0|1|2")]
    mcast_router: Option<i64>,
    /// A leave ends a multicast membership at once
    #[arg(long)]
    mcast_fast_leave: bool,
    /// Each host in a multicast group gets a copy of its own
    #[arg(long)]
    mcast_to_unicast: bool,
    /// No frames to or from other isolated ports
    #[arg(long)]
    isolated: bool,
    /// The group policy of its frames, from 1 to 65535; needs gbp = true below [vtep]
    #[arg(long, value_name = "POLICY")]
    gbp_policy: Option<u16>,
    /// How much of a worker's time its broadcast, unknown and other unusual frames may take
    #[arg(long, value_name = "PERCENT")]
    flood_share: Option<u8>,
    /// How far it takes part in forwarding
    #[arg(long, value_parser = ["forwarding", "learning", "blocking", "listening", "disabled"])]
    state: Option<String>,
    /// Take frames only from addresses that have an entry at this port
    #[arg(long)]
    locked: bool,
    /// Give unknown addresses at a locked port an entry that is locked, for somebody to see
    #[arg(long, requires = "locked")]
    mab: bool,
    /// Reserved groups 01-80-C2-00-00-0X that are forwarded when they come in here, a bit each
    #[arg(long, value_name = "MASK", value_parser = super::bridge::mask)]
    group_fwd_mask: Option<u16>,
    /// A station that may speak here, and perhaps with which IP addresses: "02:00:00:00:00:0a 10.10.0.1"; can be given
    /// several times
    #[arg(long, value_name = "MAC [IP]...")]
    port_security: Vec<String>,
    /// Most learned entries at this port; 0 for no limit
    #[arg(long, value_name = "COUNT")]
    fdb_max_learned: Option<u32>,
    /// Spare it questions for addresses that weft can answer
    #[arg(long)]
    neigh_suppress: bool,
    /// Answer who asks here for an address, and flood nothing here
    #[arg(long)]
    proxy_arp: bool,
    /// Answer who asks for the address of somebody here
    #[arg(long)]
    proxy_arp_wifi: bool,
    /// The port that takes frames to stations behind this one while it is down
    #[arg(long, value_name = "NETNS/INTERFACE")]
    backup_port: Option<String>,
    /// Trunk: VLANs whose frames leave untagged, such as 10,20
    #[arg(long, value_name = "VLAN", value_delimiter = ',', conflicts_with = "bridge")]
    untagged: Option<Vec<u16>>,
    /// Trunk: whose tags it reads and writes
    #[arg(long, value_parser = ["802.1Q", "802.1ad"], conflicts_with = "bridge")]
    vlan_protocol: Option<String>,
    #[command(flatten)]
    socket: SocketArg,
}

pub(super) fn run(args: &PortArgs) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::Add(args) => {
            wait(args.socket.client().add_port(&request(args)?))?;
            output::print(&format!("added port {}", args.name))?;
        }
        Verb::Del { name, socket } => {
            wait(socket.client().del_port(name))?;
            output::print(&format!("removed port {name}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn request(args: &AddArgs) -> Result<PortRequest, UsageError> {
    // a namespace's path has slashes of its own, an interface has none
    let (netns, name) = match args.name.rsplit_once('/') {
        Some((netns, name)) => (Some(netns.to_owned()), name),
        None => (None, args.name.as_str()),
    };
    let trunk: BTreeMap<_, _> = args.trunk.iter().cloned().collect();
    if trunk.len() < args.trunk.len() {
        return Err(UsageError("--trunk names a VLAN twice".to_owned()));
    }
    let off = |flag: bool| flag.then_some(false);
    let on = |flag: bool| flag.then_some(true);
    Ok(PortRequest {
        name: name.to_owned(),
        netns,
        kind: args.kind.clone(),
        bridge: args.bridge.clone(),
        trunk: (!trunk.is_empty()).then_some(trunk),
        native: args.native.clone(),
        address: args.addresses.clone(),
        mac: args.mac.clone(),
        mtu: args.mtu,
        queue_length: args.queue_length,
        offload: off(args.no_offload),
        learning: off(args.no_learning),
        flood: off(args.no_flood),
        mcast_flood: off(args.no_mcast_flood),
        bcast_flood: off(args.no_bcast_flood),
        hairpin: on(args.hairpin),
        isolated: on(args.isolated),
        gbp_policy: args.gbp_policy,
        flood_share: args.flood_share,
        state: args.state.clone(),
        locked: on(args.locked),
        mab: on(args.mab),
        group_fwd_mask: args.group_fwd_mask,
        port_security: args.port_security.clone(),
        fdb_max_learned: args.fdb_max_learned,
        neigh_suppress: on(args.neigh_suppress),
        proxy_arp: on(args.proxy_arp),
        proxy_arp_wifi: on(args.proxy_arp_wifi),
        backup_port: args.backup_port.clone(),
        untagged: args.untagged.clone(),
        vlan_protocol: args.vlan_protocol.clone(),
        mcast_router: args.mcast_router,
        mcast_fast_leave: on(args.mcast_fast_leave),
        mcast_to_unicast: on(args.mcast_to_unicast),
        mcast_max_groups: None,
    })
}

/// One `VLAN=BRIDGE`. What they may be is the configuration's to say.
fn vlan(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((vlan, bridge)) if !vlan.is_empty() && !bridge.is_empty() => Ok((vlan.to_owned(), bridge.to_owned())),
        Some(_) | None => Err("a VLAN and its bridge, such as 10=blue".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, to_value};

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        add: AddArgs,
    }

    fn requested(line: &str) -> Value {
        let line = <Line as clap::Parser>::try_parse_from(line.split(' ')).unwrap();
        to_value(request(&line.add).unwrap()).unwrap()
    }

    #[test]
    fn a_vlan_has_one_bridge() {
        let line = <Line as clap::Parser>::try_parse_from("weft a --trunk 10=blue,10=green".split(' ')).unwrap();
        assert!(request(&line.add).is_err());
    }

    #[test]
    fn a_line_becomes_a_request_with_the_keys_of_the_file() {
        assert_eq!(
            requested("weft left/eth0 --bridge blue --mtu 1400 --mac 02:00:00:00:00:01 --no-offload --isolated"),
            json!({"name": "eth0", "netns": "left", "bridge": "blue", "mtu": 1400, "mac": "02:00:00:00:00:01",
                "offload": false, "isolated": true})
        );
        assert_eq!(
            requested("weft /proc/12/ns/net/t0 --trunk 10=blue,20=green --native red --address 10.0.0.1/24"),
            json!({"name": "t0", "netns": "/proc/12/ns/net", "trunk": {"10": "blue", "20": "green"}, "native": "red",
                "address": ["10.0.0.1/24"]})
        );
        assert_eq!(
            requested("weft p --bridge blue --locked --mab --state learning --group-fwd-mask 0x4 --fdb-max-learned 5"),
            json!({"name": "p", "bridge": "blue", "locked": true, "mab": true, "state": "learning", "group_fwd_mask": 4,
                "fdb_max_learned": 5})
        );
        assert_eq!(requested("weft eth0 --bridge blue"), json!({"name": "eth0", "bridge": "blue"}));
    }
}
