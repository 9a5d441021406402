//! What a survey holds: the state of namespaces as plain values, which can be written as JSON and read back.
//!
//! Each value's `Display` is its line in the words of the tool that shows it (`ip`, `bridge`, `ss`), so that evidence looks
//! like what an engineer would have typed for.

mod interfaces;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

pub(crate) use self::interfaces::{
    Bridge, BridgePort, Details, Ipvlan, Link, LinkStats, MacvlanMode, PortPhase, PortVlan, Program, Tunnel, Vlan,
};
use super::{nft::Ruleset, prefix::Prefix};
use crate::{
    control::api::{
        model::{BridgeState, DropCount, FdbEntry, PortState, VtepState},
        mtu::MtuState,
    },
    isolation::Held,
    wire::MacAddr,
};

/// A network namespace.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Space {
    /// The inode of its file, by which `lsns` and `/proc/PID/ns/net` name it.
    pub(crate) inode: u64,
    /// Its names under `/run/netns`.
    pub(crate) names: Vec<String>,
    /// Files elsewhere that it is mounted on (`/run/docker/netns/...`).
    pub(crate) paths: Vec<String>,
    /// Whether it is that of process 1: the host's own.
    pub(crate) host: bool,
    /// What could not be read: the table, and why.
    pub(crate) unread: BTreeMap<String, String>,
    /// The other namespaces by the numbers that this one has for them (`ip netns list-id`): number to inode.
    pub(crate) ids: BTreeMap<i32, u64>,
    pub(crate) links: Vec<Link>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) routes: Vec<Route>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) fdb: Vec<Forwarding>,
    pub(crate) groups: Vec<Group>,
    /// Ports of bridges that get every group, since a multicast router is behind them.
    pub(crate) router_ports: Vec<u32>,
    pub(crate) qdiscs: Vec<Qdisc>,
    pub(crate) filters: Vec<TcFilter>,
    /// Those that matter, by their names: `net.ipv4.ip_forward`.
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) processes: Vec<Process>,
    /// nft's rules; `None` if they could not be read.
    pub(crate) nft: Option<Ruleset>,
    pub(crate) conntrack: Option<Conntrack>,
    /// Counters of the network stack, by nstat's names: `Udp.InCsumErrors`.
    pub(crate) counters: BTreeMap<String, u64>,
    /// The wefts that run in it.
    pub(crate) wefts: Vec<Weft>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Address {
    pub(crate) link: u32,
    pub(crate) prefix: Prefix,
    /// The other end's, on a point-to-point link.
    #[serde(default)]
    pub(crate) peer: Option<IpAddr>,
    #[serde(default)]
    pub(crate) link_local: bool,
    #[serde(default)]
    pub(crate) tentative: bool,
    #[serde(default)]
    pub(crate) dad_failed: bool,
}

/// A route.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Route {
    pub(crate) table: u32,
    pub(crate) destination: Prefix,
    #[serde(default)]
    pub(crate) kind: RouteKind,
    #[serde(default)]
    pub(crate) metric: u32,
    #[serde(default)]
    pub(crate) hops: Vec<NextHop>,
    #[serde(default)]
    pub(crate) source: Option<IpAddr>,
    /// Who made it: `kernel`, `static`, `bird`, or the protocol's number.
    #[serde(default)]
    pub(crate) protocol: String,
    #[serde(default)]
    pub(crate) scope_link: bool,
    #[serde(default)]
    pub(crate) mtu: Option<u32>,
    /// Learned from ICMP, and forgotten again.
    #[serde(default)]
    pub(crate) cached: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RouteKind {
    #[default]
    Unicast,
    Local,
    Broadcast,
    Anycast,
    Multicast,
    Blackhole,
    Unreachable,
    Prohibit,
    Throw,
    Other,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct NextHop {
    pub(crate) link: u32,
    #[serde(default)]
    pub(crate) via: Option<IpAddr>,
    /// The interface is down, or without carrier and to be passed over.
    #[serde(default)]
    pub(crate) dead: bool,
    /// The gateway counts as reachable whatever the addresses say.
    #[serde(default)]
    pub(crate) onlink: bool,
}

/// A rule of policy routing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Rule {
    pub(crate) priority: u32,
    pub(crate) ipv6: bool,
    #[serde(default)]
    pub(crate) invert: bool,
    #[serde(default)]
    pub(crate) from: Option<Prefix>,
    #[serde(default)]
    pub(crate) to: Option<Prefix>,
    #[serde(default)]
    pub(crate) iif: Option<String>,
    #[serde(default)]
    pub(crate) oif: Option<String>,
    /// Mark and mask.
    #[serde(default)]
    pub(crate) mark: Option<(u32, u32)>,
    #[serde(default)]
    pub(crate) l3mdev: bool,
    /// It asks for something that doctor's packet has not: a port, a user, a TOS.
    #[serde(default)]
    pub(crate) other: bool,
    pub(crate) action: RuleAction,
    /// Routes with at most this prefix length don't count.
    #[serde(default)]
    pub(crate) suppress_prefix_len: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RuleAction {
    Table(u32),
    Goto(u32),
    Nop,
    Blackhole,
    Unreachable,
    Prohibit,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Neighbour {
    pub(crate) link: u32,
    pub(crate) address: IpAddr,
    #[serde(default)]
    pub(crate) mac: Option<MacAddr>,
    pub(crate) state: NeighbourState,
    /// Answered for by this interface (`ip neigh add proxy`).
    #[serde(default)]
    pub(crate) proxy: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NeighbourState {
    None,
    Incomplete,
    Reachable,
    Stale,
    Delay,
    Probe,
    Failed,
    Noarp,
    Permanent,
}

/// An entry of a bridge's or a vxlan device's forwarding database.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Forwarding {
    pub(crate) link: u32,
    pub(crate) mac: MacAddrOrZero,
    /// In the database of the bridge that `link` is a port of; else in `link`'s own.
    pub(crate) master: bool,
    pub(crate) vlan: Option<u16>,
    /// The VTEP, of a vxlan device's entry.
    pub(crate) remote: Option<IpAddr>,
    pub(crate) port: Option<u16>,
    pub(crate) vni: Option<u32>,
    /// The bridge's own address (`permanent` in its database).
    pub(crate) local: bool,
    /// Doesn't age.
    pub(crate) fixed: bool,
    pub(crate) sticky: bool,
    pub(crate) ext_learned: bool,
}

/// A MAC address whose default is all zeros, the flood entry of vxlan devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct MacAddrOrZero(pub(crate) MacAddr);

impl Default for MacAddrOrZero {
    fn default() -> Self {
        Self(MacAddr::ZERO)
    }
}

/// A member of a multicast group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) bridge: u32,
    pub(crate) port: u32,
    pub(crate) group: String,
    #[serde(default)]
    pub(crate) vlan: u16,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Qdisc {
    pub(crate) link: u32,
    pub(crate) kind: String,
    pub(crate) handle: u32,
    pub(crate) parent: u32,
    pub(crate) drops: u32,
    pub(crate) backlog_packets: u32,
    /// netem: of 2^32 frames, how many are lost.
    pub(crate) loss: Option<u32>,
}

/// A tc filter.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TcFilter {
    pub(crate) link: u32,
    pub(crate) ingress: bool,
    pub(crate) kind: String,
    pub(crate) priority: u16,
    pub(crate) program: Option<Program>,
    /// What it does with what it takes: `drop`, `redirect to 7`.
    pub(crate) actions: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Socket {
    pub(crate) protocol: Protocol,
    pub(crate) local: SocketAddr,
    /// Nobody in particular, if it listens.
    #[serde(default)]
    pub(crate) remote: Option<SocketAddr>,
    pub(crate) inode: u64,
    /// Processes that have it open; none: the kernel's own, or out of sight.
    #[serde(default)]
    pub(crate) owners: Vec<Owner>,
    /// Bytes that wait to be read.
    #[serde(default)]
    pub(crate) queued: u64,
    /// Datagrams lost since its buffer was full.
    #[serde(default)]
    pub(crate) drops: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    Icmp,
    Tcp,
    Udp,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    pub(crate) name: String,
}

/// A process in the namespace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) command: String,
    /// The control group, which names the container.
    #[serde(default)]
    pub(crate) cgroup: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Conntrack {
    pub(crate) count: u64,
    pub(crate) limit: u64,
    /// New connections refused for want of room, and room made by throwing others out.
    #[serde(default)]
    pub(crate) drops: u64,
}

/// A running weft, as its control socket tells.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Weft {
    pub(crate) pid: u32,
    pub(crate) socket: String,
    /// Why it does not answer.
    #[serde(default)]
    pub(crate) silent: Option<String>,
    #[serde(default)]
    pub(crate) state: Option<WeftState>,
    /// What the process holds of privileges.
    #[serde(default)]
    pub(crate) held: Option<Held>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct WeftState {
    pub(crate) bridges: Vec<BridgeState>,
    pub(crate) ports: Vec<PortState>,
    pub(crate) fdb: Vec<FdbEntry>,
    pub(crate) vteps: Vec<VtepState>,
    pub(crate) drops: Vec<DropCount>,
    pub(crate) mtu: MtuState,
    /// What it says itself of its privileges.
    #[serde(default)]
    pub(crate) held: Option<Held>,
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unicast => "unicast",
            Self::Local => "local",
            Self::Broadcast => "broadcast",
            Self::Anycast => "anycast",
            Self::Multicast => "multicast",
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibit",
            Self::Throw => "throw",
            Self::Other => "other",
        })
    }
}

impl fmt::Display for NeighbourState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "NONE",
            Self::Incomplete => "INCOMPLETE",
            Self::Reachable => "REACHABLE",
            Self::Stale => "STALE",
            Self::Delay => "DELAY",
            Self::Probe => "PROBE",
            Self::Failed => "FAILED",
            Self::Noarp => "NOARP",
            Self::Permanent => "PERMANENT",
        })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.pid)
    }
}
