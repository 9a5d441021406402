//! What the control API says and takes, and what `--json` prints: stable names, documented here.
//!
//! Requests have the keys of the configuration's tables and are checked by
//! [`Config::with_port`](crate::control::config::Config::with_port) and its sisters, from the JSON as it came: a key that
//! nobody knows is refused there, with its name.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    control::config::{
        BridgeConfig, ConfigErrors, FdbConfig, FdbFull, FdbKind, FdbTarget, MCAST_ROUTERS, Membership, NeighConfig,
        NetnsName, PortConfig, PortKind, Report, STATE_WORDS, VLAN_PROTOCOL_WORDS, word_of,
    },
    snoop::Router,
    wire::MacAddr,
};

/// The running switch as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// weft's version.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Threads that forward.
    pub workers: usize,
    /// The configuration's file; null if it never was one.
    pub config: Option<String>,
}

/// A bridge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BridgeState {
    /// Its name.
    pub name: String,
    /// Its VNI; null if it never leaves the host.
    pub vni: Option<u32>,
    /// Its ports' full names.
    pub ports: Vec<String>,
    /// Its flood list.
    pub remotes: Vec<SocketAddr>,
    /// Whether it learns.
    pub learning: bool,
    /// Seconds that a learned entry lives without traffic.
    pub ageing_s: u64,
    /// Learned entries.
    pub learned: u64,
    /// Most learned entries; null for no limit.
    pub limit: Option<u64>,
    /// What else of its configuration is not the default, by its keys there.
    pub options: BTreeMap<String, Value>,
}

/// A port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortState {
    /// Its full name, `netns/interface`.
    pub name: String,
    /// `tap` or `packet`.
    pub kind: String,
    /// The bridge of an access port; null for a trunk.
    pub bridge: Option<String>,
    /// VLAN to bridge of a trunk; null for an access port.
    pub trunk: Option<BTreeMap<u16, String>>,
    /// The bridge of a trunk's untagged frames.
    pub native: Option<String>,
    /// The interface's MTU; null if the interface is gone.
    pub mtu: Option<u32>,
    /// The interface's own address; null if the interface is gone.
    pub mac: Option<MacAddr>,
    /// What becomes of frames to it.
    pub state: LinkState,
    /// The interface's index in its namespace; null if the interface is gone.
    pub ifindex: Option<u32>,
    /// What crosses it unfinished: of `csum`, `tso4`, `tso6`, `uso`.
    pub offloads: Vec<String>,
    /// Queues, one for each worker that reads it.
    pub queues: u32,
    /// What else of its configuration is not the default, by its keys there.
    pub options: BTreeMap<String, Value>,
}

/// Whether a port takes frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// It does.
    Up,
    /// Its interface is down.
    Down,
    /// Its interface was deleted.
    Gone,
}

/// An FDB entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FdbEntry {
    /// The bridge.
    pub bridge: String,
    /// The station's address.
    pub mac: MacAddr,
    /// The port that it is behind; null if it is behind a VTEP, or the bridge's own.
    pub port: Option<String>,
    /// The VTEP that it is behind; null if it is behind a port.
    pub vtep: Option<IpAddr>,
    /// Who made the entry.
    pub origin: FdbOrigin,
    /// Seconds since a frame came from the address; null for what does not age.
    pub age_s: Option<u64>,
    /// Whether it was learned at a locked port (`mab`), and frames from the address are not let in.
    #[serde(default)]
    pub locked: bool,
}

/// Who made an FDB entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FdbOrigin {
    /// A frame.
    Learned,
    /// The configuration or a command; it moves when its address is seen elsewhere.
    Static,
    /// The configuration or a command; it stays.
    Sticky,
    /// The configuration or a command, for what learned it elsewhere; it does not age until it moves.
    #[serde(rename = "extern_learn")]
    ExternLearn,
    /// The configuration or a command; the bridge's own address, behind neither port nor VTEP.
    Permanent,
}

/// A neighbour: a station of a bridge, by one of its IP addresses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NeighEntry {
    /// The bridge.
    pub bridge: String,
    /// The station's IP address.
    pub ip: IpAddr,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Whether it is a router.
    pub router: bool,
}

/// A VTEP.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VtepState {
    /// Its underlay address.
    pub address: IpAddr,
    /// The UDP port that it is sent to.
    pub port: u16,
    /// Why it is known.
    pub known_by: Vec<KnownBy>,
    /// Inner frames from it.
    pub rx_frames: u64,
    /// Inner bytes from it.
    pub rx_bytes: u64,
    /// Inner frames to it.
    pub tx_frames: u64,
    /// Inner bytes to it.
    pub tx_bytes: u64,
}

/// One reason why a VTEP is known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KnownBy {
    /// The bridge that knows it.
    pub bridge: String,
    /// How.
    pub how: How,
}

/// How a bridge knows a VTEP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// It is in the flood list.
    Flood,
    /// A static entry names it.
    Static,
    /// Its frames were taken.
    Learned,
}

/// A part of the switch that frames are counted at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A port.
    Port,
    /// A bridge.
    Bridge,
    /// A VTEP.
    Vtep,
    /// The underlay sockets.
    Underlay,
    /// weft itself.
    Own,
}

impl Place {
    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Bridge => "bridge",
            Self::Vtep => "vtep",
            Self::Underlay => "underlay",
            Self::Own => "own",
        }
    }
}

/// Which way a frame was going.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Into the switch.
    In,
    /// Out of it.
    Out,
}

/// Frames that ended at one place for one reason. Only counts above zero are listed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DropCount {
    /// What kind of place `name` is.
    pub kind: Place,
    /// The port, bridge or VTEP; `underlay` for the underlay, `(own frames)` for what weft sends by itself.
    pub name: String,
    /// Which way they were going.
    pub direction: Direction,
    /// The drop reason's name.
    pub reason: String,
    /// The drop reason in a sentence.
    pub explanation: String,
    /// Wire frames.
    pub frames: u64,
}

/// The account of all frames: `in + copies = out + drops` over the whole switch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ledger {
    /// The whole switch.
    pub totals: Totals,
    /// Each port, bridge, VTEP and the underlay. Ports, VTEPs and the underlay sum up to the totals; what came into the
    /// underlay from nobody that weft knows is the underlay's own. A bridge counts the same frames again as its own.
    pub rows: Vec<LedgerRow>,
}

/// The account of the whole switch, in wire frames: a super-frame counts as many as its segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Totals {
    /// Frames that came in by ports and from VTEPs.
    #[serde(rename = "in")]
    pub in_frames: u64,
    /// Frames that flooding made in addition: a frame that leaves three times was copied twice.
    pub copies: u64,
    /// Frames that were handed to ports and sent to VTEPs.
    #[serde(rename = "out")]
    pub out_frames: u64,
    /// Frames that ended here, each with a reason.
    pub drops: u64,
    /// Whether `in + copies = out + drops`.
    pub balanced: bool,
}

impl Totals {
    /// The account of these numbers.
    pub fn new(in_frames: u64, copies: u64, out_frames: u64, drops: u64) -> Self {
        let sum = |a: u64, b: u64| u128::from(a) + u128::from(b);
        Self { in_frames, copies, out_frames, drops, balanced: sum(in_frames, copies) == sum(out_frames, drops) }
    }
}

/// The account of one place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LedgerRow {
    /// What kind of place `name` is.
    pub kind: Place,
    /// The port, bridge or VTEP; `underlay` for the underlay.
    pub name: String,
    /// Wire frames that came in here.
    pub in_frames: u64,
    /// Their bytes, without the outer headers.
    pub in_bytes: u64,
    /// Copies made of frames that came in here.
    pub copies: u64,
    /// Wire frames that left here.
    pub out_frames: u64,
    /// Their bytes, without the outer headers.
    pub out_bytes: u64,
    /// Frames that came in here and were dropped, by the reason's name. Only counts above zero.
    pub drops_in: BTreeMap<String, u64>,
    /// Frames that were to leave here and were dropped, by the reason's name. Only counts above zero.
    pub drops_out: BTreeMap<String, u64>,
    /// What the kernel lost here before weft could read it: no part of the account. Null where the kernel does not say.
    pub kernel_drops: Option<u64>,
    /// Underlay only: datagrams that found the socket's buffer full (`RcvbufErrors`).
    pub rcvbuf_errors: Option<u64>,
    /// Underlay only: datagrams whose UDP checksum was wrong (`InCsumErrors`).
    pub checksum_errors: Option<u64>,
    /// Underlay only: runs of equal datagrams that the kernel refused to take as one (UDP_SEGMENT); they were sent one by
    /// one. Counted since the underlay was opened.
    pub gso_refusals: Option<u64>,
    /// Underlay only: sending sockets that send all datagrams one by one, with `gso = "auto"` after such a refusal.
    pub gso_off_sockets: Option<u64>,
    /// Underlay only: datagrams by the group policy that they named (`gbp`); null if none did.
    pub gbp_policies: Option<BTreeMap<u16, u64>>,
}

/// Something that happened in the switch. One JSON object a line of `GET /v1/events`, `event` saying which.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// An address is new.
    Learned {
        /// Its bridge.
        bridge: String,
        /// The address.
        mac: MacAddr,
        /// The port's full name, or the VTEP's address and port.
        at: String,
    },
    /// An address was seen elsewhere than before.
    Moved {
        /// Its bridge.
        bridge: String,
        /// The address.
        mac: MacAddr,
        /// As `at` of `learned`.
        from: String,
        /// The same.
        to: String,
    },
    /// Addresses were forgotten because nothing came from them.
    Aged {
        /// How many.
        entries: u64,
    },
    /// A frame was for a unicast address that no VTEP is known for (`l2miss`).
    L2miss {
        /// Its bridge.
        bridge: String,
        /// The address.
        mac: MacAddr,
    },
    /// `proxy` or `rsc` did not find a neighbour (`l3miss`).
    L3miss {
        /// Its bridge.
        bridge: String,
        /// The address.
        ip: IpAddr,
    },
    /// A port's interface went up or down, or is gone.
    Port {
        /// Its full name.
        port: String,
        /// How it is now.
        state: LinkState,
    },
    /// More happened than could be told.
    Lost {
        /// How many events.
        events: u64,
    },
}

/// What a flush took out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Flushed {
    /// Entries.
    pub flushed: u64,
}

/// What reading the configuration again changed; each part as `port left/eth0`, `bridge blue`, `fdb blue 02:...`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Reloaded {
    /// What is new.
    pub added: Vec<String>,
    /// What is different.
    pub changed: Vec<String>,
    /// What is gone.
    pub removed: Vec<String>,
    /// Keys that have another value now, and take it only when weft starts anew: `vtep.address`.
    pub needs_restart: Vec<String>,
}

/// Why a request was refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ApiError {
    /// What is wrong.
    pub error: String,
    /// What would be right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Each mistake of a request or configuration, if it was refused for what it says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<Report>,
}

impl From<&ConfigErrors> for ApiError {
    fn from(errors: &ConfigErrors) -> Self {
        let mistakes = errors.reports();
        let help = match mistakes.as_slice() {
            [only] => only.help.clone(),
            _ => None,
        };
        let messages: Vec<_> = mistakes.iter().map(|mistake| mistake.message.as_str()).collect();
        Self { error: messages.join("; "), help, mistakes }
    }
}

/// `[[bridge]]` as a request; what is left out has the configuration's default.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BridgeRequest {
    /// `name`
    pub name: String,
    /// `vni`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// `remotes`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remotes: Vec<String>,
    /// `learning`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning: Option<bool>,
    /// `vxlan_learning`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan_learning: Option<bool>,
    /// `proxy`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<bool>,
    /// `rsc`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rsc: Option<bool>,
    /// `l2miss`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l2miss: Option<bool>,
    /// `l3miss`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3miss: Option<bool>,
    /// `maxaddress`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maxaddress: Option<u32>,
    /// `ageing`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ageing: Option<String>,
    /// `fdb_max_learned`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fdb_max_learned: Option<u64>,
    /// `fdb_full`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fdb_full: Option<String>,
    /// `group_fwd_mask`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_fwd_mask: Option<u16>,
    /// `vlan_protocol`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan_protocol: Option<String>,
    /// `no_linklocal_learn`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_linklocal_learn: Option<bool>,
    /// `neigh_suppress`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neigh_suppress: Option<bool>,
    /// `mcast_snooping`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_snooping: Option<bool>,
    /// `mcast_querier`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_querier: Option<bool>,
    /// `mcast_igmp_version`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_igmp_version: Option<u8>,
    /// `mcast_mld_version`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_mld_version: Option<u8>,
    /// `mcast_hash_max`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_hash_max: Option<u64>,
    /// `mcast_last_member_count`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_last_member_count: Option<u32>,
    /// `mcast_last_member_interval`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_last_member_interval: Option<String>,
    /// `mcast_startup_query_count`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_startup_query_count: Option<u32>,
    /// `mcast_startup_query_interval`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_startup_query_interval: Option<String>,
    /// `mcast_query_interval`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_query_interval: Option<String>,
    /// `mcast_query_response_interval`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_query_response_interval: Option<String>,
    /// `mcast_querier_interval`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_querier_interval: Option<String>,
    /// `mcast_membership_interval`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_membership_interval: Option<String>,
}

/// `[[port]]` as a request; what is left out has the configuration's default.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PortRequest {
    /// `name`
    pub name: String,
    /// `netns`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// `kind`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `bridge`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// `trunk`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trunk: Option<BTreeMap<String, String>>,
    /// `native`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native: Option<String>,
    /// `address`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub address: Vec<String>,
    /// `mac`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// `mtu`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// `queue_length`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_length: Option<u32>,
    /// `offload`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offload: Option<bool>,
    /// `learning`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning: Option<bool>,
    /// `flood`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flood: Option<bool>,
    /// `mcast_flood`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_flood: Option<bool>,
    /// `bcast_flood`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bcast_flood: Option<bool>,
    /// `hairpin`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hairpin: Option<bool>,
    /// `isolated`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolated: Option<bool>,
    /// `gbp_policy`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gbp_policy: Option<u16>,
    /// `state`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// `locked`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked: Option<bool>,
    /// `mab`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mab: Option<bool>,
    /// `group_fwd_mask`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_fwd_mask: Option<u16>,
    /// `fdb_max_learned`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fdb_max_learned: Option<u32>,
    /// `neigh_suppress`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neigh_suppress: Option<bool>,
    /// `proxy_arp`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_arp: Option<bool>,
    /// `proxy_arp_wifi`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_arp_wifi: Option<bool>,
    /// `backup_port`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_port: Option<String>,
    /// `vlan_protocol`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan_protocol: Option<String>,
    /// `untagged`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub untagged: Option<Vec<u16>>,
    /// `mcast_router`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_router: Option<i64>,
    /// `mcast_fast_leave`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_fast_leave: Option<bool>,
    /// `mcast_to_unicast`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_to_unicast: Option<bool>,
    /// `mcast_max_groups`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcast_max_groups: Option<u64>,
}

/// `[[fdb]]` as a request.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FdbRequest {
    /// `bridge`
    pub bridge: String,
    /// `mac`
    pub mac: String,
    /// `port`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// `vtep`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vtep: Option<String>,
    /// `sticky`
    pub sticky: bool,
    /// `extern_learn`
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub extern_learn: bool,
    /// `permanent`
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub permanent: bool,
}

/// `[[neigh]]` as a request.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NeighRequest {
    /// `bridge`
    pub bridge: String,
    /// `ip`
    pub ip: String,
    /// `mac`
    pub mac: String,
    /// `router`
    pub router: bool,
}

/// Which entries a flush takes out: those that fit everything that is said, all of them if nothing is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlushRequest {
    /// Only this bridge's.
    pub bridge: Option<String>,
    /// Only those behind this port.
    pub port: Option<String>,
    /// Only those behind this VTEP.
    pub vtep: Option<IpAddr>,
    /// The static ones too; without it only what was learned.
    #[serde(rename = "static")]
    pub include_static: bool,
}

/// `?bridge=` of `GET /v1/fdb`, `GET /v1/neigh` and `GET /v1/mdb`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BridgeQuery {
    /// Only this bridge's entries.
    pub bridge: Option<String>,
}

/// `?bridge=&mac=` of `DELETE /v1/fdb`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FdbKey {
    /// The bridge.
    pub bridge: String,
    /// The entry's address.
    pub mac: MacAddr,
}

/// `?bridge=&ip=` of `DELETE /v1/neigh`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NeighKey {
    /// The bridge.
    pub bridge: String,
    /// The neighbour's address.
    pub ip: IpAddr,
}

/// `?name=` of `DELETE /v1/bridges` and `DELETE /v1/ports`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NameQuery {
    /// The bridge's name or the port's full name.
    pub name: String,
}

impl From<&BridgeConfig> for BridgeRequest {
    fn from(bridge: &BridgeConfig) -> Self {
        let interval = |time| humantime::format_duration(time).to_string();
        Self {
            name: bridge.name.clone(),
            vni: bridge.vni.map(|vni| vni.get()),
            remotes: bridge.remotes.iter().map(SocketAddr::to_string).collect(),
            learning: Some(bridge.learning),
            vxlan_learning: Some(bridge.vxlan_learning),
            proxy: Some(bridge.proxy),
            rsc: Some(bridge.rsc),
            l2miss: Some(bridge.l2miss),
            l3miss: Some(bridge.l3miss),
            maxaddress: bridge.maxaddress,
            ageing: Some(interval(bridge.ageing)),
            fdb_max_learned: Some(bridge.fdb_max_learned as u64),
            fdb_full: Some(word_of(FdbFull::WORDS, &bridge.fdb_full).to_owned()),
            group_fwd_mask: Some(bridge.group_fwd_mask),
            vlan_protocol: Some(word_of(VLAN_PROTOCOL_WORDS, &bridge.vlan_protocol).to_owned()),
            no_linklocal_learn: Some(bridge.no_linklocal_learn),
            neigh_suppress: Some(bridge.neigh_suppress),
            mcast_snooping: Some(bridge.mcast.snooping),
            mcast_querier: Some(bridge.mcast.querier),
            mcast_igmp_version: Some(bridge.mcast.igmp_version),
            mcast_mld_version: Some(bridge.mcast.mld_version),
            mcast_hash_max: Some(bridge.mcast.hash_max as u64),
            mcast_last_member_count: Some(bridge.mcast.last_member_count),
            mcast_last_member_interval: Some(interval(bridge.mcast.last_member_interval)),
            mcast_startup_query_count: Some(bridge.mcast.startup_query_count),
            mcast_startup_query_interval: Some(interval(bridge.mcast.startup_query_interval)),
            mcast_query_interval: Some(interval(bridge.mcast.query_interval)),
            mcast_query_response_interval: Some(interval(bridge.mcast.query_response_interval)),
            mcast_querier_interval: Some(interval(bridge.mcast.querier_interval)),
            mcast_membership_interval: Some(interval(bridge.mcast.membership_interval)),
        }
    }
}

/// What of a bridge's configuration is not the default, by its keys there; without what is shown in a way of its own.
pub fn bridge_options(bridge: &BridgeConfig) -> BTreeMap<String, Value> {
    let default = BridgeConfig::new(&bridge.name);
    let shown = ["vni", "remotes", "learning", "ageing", "fdb_max_learned"];
    differences(&BridgeRequest::from(bridge), &BridgeRequest::from(&default), &shown)
}

/// What of a port's configuration is not the default, by its keys there; without what is shown in a way of its own.
pub fn port_options(port: &PortConfig) -> BTreeMap<String, Value> {
    let default = PortConfig::new(port.netns.clone(), &port.name, port.membership.clone());
    let shown = ["kind", "address", "mac", "mtu"];
    differences(&PortRequest::from(port), &PortRequest::from(&default), &shown)
}

fn differences<T: Serialize>(request: &T, default: &T, shown: &[&str]) -> BTreeMap<String, Value> {
    let object = |request: &T| match serde_json::to_value(request) {
        Ok(Value::Object(keys)) => keys,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let default = object(default);
    let differs = |(key, value): &(String, Value)| default.get(key) != Some(value) && !shown.contains(&key.as_str());
    object(request).into_iter().filter(differs).collect()
}

/// The number by which the kernel knows it.
fn mcast_router(router: Router) -> i64 {
    MCAST_ROUTERS.iter().find(|(_, known)| *known == router).map_or(0, |(number, _)| *number)
}

impl From<&PortConfig> for PortRequest {
    fn from(port: &PortConfig) -> Self {
        let (bridge, trunk, native) = match &port.membership {
            Membership::Access(bridge) => (Some(bridge.clone()), None, None),
            Membership::Trunk { vlans, native } => {
                let vlans = vlans.iter().map(|(vlan, bridge)| (vlan.to_string(), bridge.clone()));
                (None, Some(vlans.collect()), native.clone())
            }
        };
        Self {
            name: port.name.clone(),
            netns: (port.netns != NetnsName::Own).then(|| port.netns.to_string()),
            kind: Some(word_of(PortKind::WORDS, &port.kind).to_owned()),
            bridge,
            trunk,
            native,
            address: port.addresses.iter().map(ToString::to_string).collect(),
            mac: port.mac.map(|mac| mac.to_string()),
            mtu: port.mtu.map(u32::from),
            queue_length: port.queue_length,
            offload: Some(port.offload),
            learning: Some(port.learning),
            flood: Some(port.flood),
            mcast_flood: Some(port.mcast_flood),
            bcast_flood: Some(port.bcast_flood),
            hairpin: Some(port.hairpin),
            isolated: Some(port.isolated),
            gbp_policy: Some(port.gbp_policy),
            state: Some(word_of(STATE_WORDS, &port.state).to_owned()),
            locked: Some(port.locked),
            mab: Some(port.mab),
            group_fwd_mask: Some(port.group_fwd_mask),
            fdb_max_learned: Some(port.fdb_max_learned),
            neigh_suppress: Some(port.neigh_suppress),
            proxy_arp: Some(port.proxy_arp),
            proxy_arp_wifi: Some(port.proxy_arp_wifi),
            backup_port: port.backup_port.clone(),
            vlan_protocol: Some(word_of(VLAN_PROTOCOL_WORDS, &port.vlan_protocol).to_owned()),
            untagged: port.untagged.as_ref().map(|vlans| vlans.iter().map(|vlan| vlan.get()).collect()),
            mcast_router: Some(mcast_router(port.mcast.router)),
            mcast_fast_leave: Some(port.mcast.fast_leave),
            mcast_to_unicast: Some(port.mcast.to_unicast),
            mcast_max_groups: Some(port.mcast.max_groups as u64),
        }
    }
}

impl From<&FdbConfig> for FdbRequest {
    fn from(entry: &FdbConfig) -> Self {
        let (port, vtep) = match &entry.at {
            FdbTarget::Port(port) => (Some(port.clone()), None),
            FdbTarget::Vtep(vtep) => (None, Some(vtep.to_string())),
            FdbTarget::Bridge => (None, None),
        };
        Self {
            bridge: entry.bridge.clone(),
            mac: entry.mac.to_string(),
            port,
            vtep,
            sticky: entry.kind == FdbKind::Sticky,
            extern_learn: entry.kind == FdbKind::ExternLearn,
            permanent: entry.kind == FdbKind::Permanent,
        }
    }
}

impl From<&NeighConfig> for NeighRequest {
    fn from(neigh: &NeighConfig) -> Self {
        let NeighConfig { bridge, ip, mac, router } = neigh;
        Self { bridge: bridge.clone(), ip: ip.to_string(), mac: mac.to_string(), router: *router }
    }
}

impl From<&NeighConfig> for NeighEntry {
    fn from(neigh: &NeighConfig) -> Self {
        let NeighConfig { bridge, ip, mac, router } = neigh;
        Self { bridge: bridge.clone(), ip: *ip, mac: *mac, router: *router }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;
    use crate::control::{api::mdb::MdbRequest, config::Config};

    #[test]
    fn a_configuration_can_be_built_anew_from_its_own_requests() {
        let config = Config::parse("weft.toml", include_str!("../../../docs/weft.toml")).unwrap();
        let mut anew = Config { switch: config.switch.clone(), vtep: config.vtep.clone(), ..Config::empty() };
        for bridge in &config.bridges {
            anew = anew.with_bridge(&to_value(BridgeRequest::from(bridge)).unwrap()).unwrap();
        }
        for port in &config.ports {
            anew = anew.with_port(&to_value(PortRequest::from(port)).unwrap()).unwrap();
        }
        for entry in &config.fdb {
            anew = anew.with_fdb(&to_value(FdbRequest::from(entry)).unwrap()).unwrap();
        }
        for neigh in &config.neigh {
            anew = anew.with_neigh(&to_value(NeighRequest::from(neigh)).unwrap()).unwrap();
        }
        for entry in &config.mdb {
            anew = anew.with_mdb(&to_value(MdbRequest::from(entry)).unwrap()).unwrap();
        }
        assert_eq!(anew, config);
    }

    #[test]
    fn an_fdb_entry_looks_as_documented() {
        let entry = FdbEntry {
            bridge: "blue".into(),
            mac: MacAddr::new([2, 0, 0, 0, 0, 10]),
            port: Some("left/eth0".into()),
            vtep: None,
            origin: FdbOrigin::Learned,
            age_s: Some(3),
            locked: false,
        };
        let expected = json!({"bridge": "blue", "mac": "02:00:00:00:00:0a", "port": "left/eth0", "vtep": null,
            "origin": "learned", "age_s": 3, "locked": false});
        assert_eq!(to_value(&entry).unwrap(), expected);
    }

    #[test]
    fn the_totals_know_whether_they_balance() {
        let totals = Totals::new(1200, 40, 1230, 10);
        assert_eq!(
            to_value(totals).unwrap(),
            json!({"in": 1200, "copies": 40, "out": 1230, "drops": 10, "balanced": true})
        );
        assert!(!Totals::new(1200, 40, 1230, 9).balanced);
        assert!(Totals::new(u64::MAX, 1, u64::MAX, 1).balanced);
    }

    #[test]
    fn a_refused_request_tells_all_its_mistakes() {
        let refused = |request| ApiError::from(&Config::empty().with_port(&request).unwrap_err());
        let one = refused(json!({"name": "a", "bridge": "blue"}));
        assert_eq!(one.error, "there is no bridge `blue`");
        assert_eq!(one.help.as_deref(), Some("add [[bridge]] with name = \"blue\""));
        let two = refused(json!({"name": "a/b", "bridge": "blue"}));
        assert_eq!(two.mistakes.len(), 2);
        assert!(two.error.contains("; ") && two.help.is_none());
    }
}
