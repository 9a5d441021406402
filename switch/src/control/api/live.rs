//! `POST /v1/explain/live`: which frames are wanted, and what is told of those that pass, a line each.
//! `docs/explain.md` has every name.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::explanation::{Explanation, VerdictSaid};
use crate::wire::MacAddr;

/// What a frame has to be, and how many are wanted. What is not said does not matter.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LiveRequest {
    /// The full name of the port that it comes in by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The VTEP that it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vtep: Option<IpAddr>,
    /// The VNI that it comes in by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// Source address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<MacAddr>,
    /// Destination address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst: Option<MacAddr>,
    /// VLAN of the outermost tag, 0 for a priority alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// EtherType, behind tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ether_type: Option<u16>,
    /// Source or destination of IP, sender or target of ARP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// Source of IP, sender of ARP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_ip: Option<IpAddr>,
    /// Destination of IP, target of ARP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst_ip: Option<IpAddr>,
    /// Operation of ARP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arp: Option<u16>,
    /// Protocol of IP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    /// Source port of TCP or UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sport: Option<u16>,
    /// Destination port of TCP or UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
    /// One in so many of the frames that fit, of each worker; 1 if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// Frames a second at most; 10 if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// Frames in all; no end if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Seconds in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// Something that is told, a line of JSON.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum LiveEvent {
    /// Every frame that comes in from now on is looked at.
    Begin,
    /// A frame passed.
    Frame(Box<Passed>),
    /// That was all.
    End {
        /// Why.
        why: Ending,
        /// What was counted.
        sampled: SampledSaid,
    },
}

/// Why nothing more is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// So many frames were wanted.
    Count,
    /// So long it was to last.
    Seconds,
    /// The port that frames were to come in by was taken out.
    Gone,
}

/// A frame that passed: how its way is explained, and how it really ended.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Passed {
    /// Its way as it is explained now, by the tables that it was forwarded by.
    pub explanation: Explanation,
    /// How long ago it had passed when it was explained, in milliseconds.
    pub age_ms: u64,
    /// How many of its bytes were taken; those behind are thought to be zeros.
    pub taken: usize,
    /// How it really ended.
    pub end: VerdictSaid,
    /// What each place really got of it.
    pub copies: Vec<CopiesSaid>,
    /// Places beyond those.
    pub more_places: usize,
    /// Whether it ended as it is explained.
    pub agrees: bool,
    /// If not, in what.
    pub differences: Vec<String>,
    /// What else might make the explanation another than it was.
    pub notes: Vec<String>,
    /// What was counted so far.
    pub sampled: SampledSaid,
}

/// What one place got of a frame.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CopiesSaid {
    /// The port; null if it is a VTEP.
    pub port: Option<String>,
    /// The VTEP; null if it is a port.
    pub vtep: Option<SocketAddr>,
    /// Wire frames.
    pub frames: u64,
    /// Why they did not leave: the drop reason's name; null if they did.
    pub reason: Option<String>,
}

/// Frames that fitted. A super-frame is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SampledSaid {
    /// All of them.
    pub matched: u64,
    /// Those that were explained.
    pub explained: u64,
    /// Those that were passed over, since only one in so many was wanted.
    pub passed_over: u64,
    /// Those that came faster than they were to be explained.
    pub too_soon: u64,
    /// Those that were taken, but got lost on the way to be explained.
    pub lost: u64,
}
