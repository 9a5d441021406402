//! `POST /v1/explain`: what is asked and what is answered, and what `weft explain --json` prints.
//! `docs/explain.md` has every name.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A frame, and where it is to be thought to come in: at a port, or from a VTEP.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExplainRequest {
    /// The port's full name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The VTEP's address, instead of a port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vtep: Option<IpAddr>,
    /// The VNI that the VTEP sends; that of the only bridge that knows the VTEP, if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// How it is wrapped, which the UDP port tells: `vxlan`, `vxlan-gbp`, `vxlan-gpe` or `geneve`. If it is not said, as the
    /// bridge of the VNI has it; with `payload` as `[vtep]` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encapsulation: Option<String>,
    /// The outer TOS or traffic class of what comes from a VTEP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outer_tos: Option<u8>,
    /// The frame in hexadecimal, from its Ethernet header on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
    /// From a VTEP, instead of `frame` and `vni`: the whole UDP payload in hexadecimal, tunnel header first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

/// A frame's way through the switch.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// The frame.
    pub frame: FrameSeen,
    /// The port that it comes in by; null if it comes from a VTEP.
    pub port: Option<String>,
    /// The outer address that it comes from; null if it comes in by a port.
    pub vtep: Option<IpAddr>,
    /// The bridge that it reaches; null if it reaches none.
    pub bridge: Option<String>,
    /// Each step, in order.
    pub stages: Vec<Stage>,
    /// How it ends.
    pub verdict: VerdictSaid,
}

/// A frame as it came.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FrameSeen {
    /// One line about it.
    pub summary: String,
    /// Bytes from the Ethernet header on; of a datagram without a frame in it, of that.
    pub length: usize,
    /// How many wire frames it is: more than one for a super-frame.
    pub wire_frames: u32,
    /// Its bytes in hexadecimal.
    pub hex: String,
}

/// One step.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Stage {
    /// Which.
    pub stage: StageName,
    /// Whether the frame goes on from here.
    pub outcome: Outcome,
    /// Why not: the drop reason's name.
    pub reason: Option<String>,
    /// What happens, in words.
    pub text: String,
    /// More of it, a line each.
    pub notes: Vec<String>,
    /// What in the configuration decided it.
    pub config: Vec<Decider>,
    /// Where the kernel does the same: file and function, several separated by semicolons; null where it does not.
    pub kernel: Option<String>,
    /// What was looked at and found; `docs/explain.md` lists the names of each stage.
    pub fields: Map<String, Value>,
}

/// The steps there are, in their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageName {
    /// From a VTEP: the tunnel header is read.
    Header,
    /// From a VTEP: the bridge of the VNI, and whether it takes frames from there.
    Tunnel,
    /// The Ethernet header is read.
    Parse,
    /// From a port: which bridge is it, by port and tag?
    Classify,
    /// May it enter?
    Admit,
    /// From a port that is locked, does not forward, or holds few addresses: does it let the frame in?
    Guard,
    /// From a VTEP: the inner packet is looked at.
    Inspect,
    /// The source.
    Learn,
    /// From a bridge that answers in others' names: is it a question that it answers?
    Answer,
    /// The destination.
    LookUp,
    /// Drop, one endpoint, or everybody.
    Decide,
    /// From a port to VTEPs, in a bridge with `proxy`: is it a question for a neighbour?
    Proxy,
    /// From a port to a VTEP, in a bridge with `rsc`: can a packet to a router go straight to its station?
    ShortCircuit,
    /// A copy leaves; once for each.
    Egress,
}

impl StageName {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Header,
        Self::Tunnel,
        Self::Parse,
        Self::Classify,
        Self::Admit,
        Self::Guard,
        Self::Inspect,
        Self::Learn,
        Self::Answer,
        Self::LookUp,
        Self::Decide,
        Self::Proxy,
        Self::ShortCircuit,
        Self::Egress,
    ];

    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Tunnel => "tunnel",
            Self::Parse => "parse",
            Self::Classify => "classify",
            Self::Admit => "admit",
            Self::Guard => "guard",
            Self::Inspect => "inspect",
            Self::Learn => "learn",
            Self::Answer => "answer",
            Self::LookUp => "look_up",
            Self::Decide => "decide",
            Self::Proxy => "proxy",
            Self::ShortCircuit => "short_circuit",
            Self::Egress => "egress",
        }
    }
}

/// What becomes of the frame, or of the copy, at a stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It goes on; of an egress: it leaves.
    Pass,
    /// It ends here.
    Drop,
}

/// A key of the configuration that decided something.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decider {
    /// The table it belongs to: `vtep`, `bridge blue`, `port left/eth0`, `fdb blue 02:00:00:00:00:01`.
    pub part: String,
    /// The key.
    pub key: String,
    /// Its value, as the configuration writes it.
    pub value: String,
    /// The file that says so; `request` for what a command added; null if it stands at its default.
    pub file: Option<String>,
    /// The line, counted from 1; null if it stands at its default.
    pub line: Option<usize>,
}

/// How a frame ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerdictSaid {
    /// Whether anybody gets it.
    pub result: Fate,
    /// Why nobody does: the drop reason's name.
    pub reason: Option<String>,
    /// The drop reason in a sentence.
    pub explanation: Option<String>,
    /// The ports that get it, by full name.
    pub ports: Vec<String>,
    /// The VTEPs that get it.
    pub vteps: Vec<SocketAddr>,
}

/// Whether anybody gets a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// At least one copy leaves.
    Delivered,
    /// None does, but the switch answers itself.
    Answered,
    /// None does.
    Dropped,
}
