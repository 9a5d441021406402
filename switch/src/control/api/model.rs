//! What the control API says, and what `--json` prints: stable names, documented here.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    control::config::{ConfigErrors, NeighConfig, Report},
    isolation::Held,
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
    /// What is left of its privileges; null if it has given none up (`weft run --sandbox off`).
    #[serde(default)]
    pub held: Option<Held>,
}

/// A bridge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BridgeState {
    /// Its name.
    pub name: String,
    /// Its VNI; null if it never leaves the host.
    pub vni: Option<u32>,
    /// How its frames are wrapped: `vxlan`, `vxlan-gbp`, `vxlan-gpe` or `geneve`; null if it never leaves the host.
    pub encapsulation: Option<String>,
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
    /// How the bridges that know it wrap its frames, each word once.
    pub encapsulations: Vec<String>,
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
    /// The largest outer IP packet that reaches it, as far as is known; null if its path does not count.
    pub path_mtu: Option<u16>,
    /// `assumed`, `learned`, `measured` or `black_hole`.
    pub path_mtu_state: Option<String>,
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
    /// The path MTU to a VTEP is another one, or larger packets vanish there now, or no longer do.
    PathMtu {
        /// The VTEP's address and port.
        vtep: String,
        /// What it was, in bytes of the outer IP packet.
        from: u16,
        /// What it is.
        path_mtu: u16,
        /// `assumed`, `learned`, `measured` or `black_hole`.
        state: String,
        /// Why, in words.
        reason: String,
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
    use crate::control::config::Config;

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
