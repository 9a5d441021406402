//! What a walk that is not walked consists of.

use std::net::IpAddr;

use weft_vxlan::{HeaderFormat, Vni};

use super::{super::TunnelHeader, egress::Departure};
use crate::{
    bridge::{Admission, DropReason, Verdict},
    fdb::{EntryView, Learned, Standing},
    ids::{BridgeId, Endpoint, PortId, VtepId},
    l3::mss::Clamped,
    wire::{MacAddr, Tag, ethernet::EtherHeader},
};

/// One step of the walk.
#[derive(Clone, Debug)]
pub enum Step {
    /// The tunnel header was read.
    Header {
        /// What the port that it came to says that it is.
        format: HeaderFormat,
        /// Bytes of the datagram.
        len: usize,
        /// The header, or why there is none.
        header: Result<TunnelHeader, DropReason>,
        /// Whether it has bits that are reserved in the encapsulation of its bridge and may be refused.
        reserved: bool,
        /// Whether it is refused for one of them.
        refused: bool,
        /// The group policy, if its bridge reads policies and it has one.
        policy: Option<u16>,
        /// Geneve's options as they came; empty if there are none, or less than the header announces.
        options: Vec<u8>,
    },
    /// The VNI was looked up, and then whether its bridge takes frames from this VTEP.
    Tunnel {
        /// The VNI.
        vni: Vni,
        /// The outer source.
        source: IpAddr,
        /// The bridge of the VNI, if there is one.
        bridge: Option<BridgeId>,
        /// Whether somebody named the VTEP for this bridge.
        named: bool,
        /// The VTEP, or why the frame ends.
        vtep: Result<VtepId, DropReason>,
    },
    /// The Ethernet header was read.
    Parse(Result<EtherHeader, DropReason>),
    /// The frame came to a bridge by its port.
    Classify {
        /// The port.
        port: PortId,
        /// The frame's tag, if it has one of 802.1Q.
        tag: Option<Tag>,
        /// The bridge, and the tag that belonged to the port; or why it came to none.
        bridge: Result<(BridgeId, Option<Tag>), DropReason>,
    },
    /// The addresses were looked at.
    Admit {
        /// The bridge.
        bridge: BridgeId,
        /// The source.
        src: MacAddr,
        /// The destination.
        dst: MacAddr,
        /// Whether it may enter.
        admission: Admission,
    },
    /// The port that it came in by looked at it closer than most do.
    Guard {
        /// The port.
        port: PortId,
        /// The source.
        src: MacAddr,
        /// How the source stands there, if the port is locked and asked.
        standing: Option<Standing>,
        /// Why the frame goes no further.
        reason: Option<DropReason>,
    },
    /// The inner packet of a datagram was looked at.
    Inspect {
        /// Tags of its own.
        tag_count: u8,
        /// The outer TOS.
        outer_tos: u8,
        /// The inner TOS before and after; `None` if the frame is not IP.
        tos: Option<(u8, u8)>,
        /// Its TCP was held to segments that fit.
        clamped: Option<Clamped>,
        /// Why it ends.
        result: Result<(), DropReason>,
    },
    /// The source was looked up.
    Learn {
        /// The bridge.
        bridge: BridgeId,
        /// The source.
        src: MacAddr,
        /// Where it came in.
        at: Endpoint,
        /// What the walk makes of it.
        learning: Learning,
    },
    /// The bridge answers questions in others' names, and looked whether this is one.
    Answer {
        /// The bridge.
        bridge: BridgeId,
        /// Whether it is answered.
        answered: bool,
        /// Whether those that are spared answered questions do not get it.
        spares: bool,
    },
    /// The destination was looked up.
    LookUp {
        /// The bridge.
        bridge: BridgeId,
        /// The destination.
        dst: MacAddr,
        /// Its entry.
        entry: Option<EntryView>,
    },
    /// The verdict.
    Decide {
        /// The bridge.
        bridge: BridgeId,
        /// Where it came in.
        ingress: Endpoint,
        /// The destination.
        dst: MacAddr,
        /// The verdict.
        verdict: Verdict,
        /// Ports of the bridge that a flood leaves out, each with the reason; `None`: its gate is closed.
        passed_over: Vec<(PortId, Option<DropReason>)>,
        /// Members of the flood list that a flood leaves out: it came from a VTEP, or they are spared it.
        vteps_passed_over: Vec<VtepId>,
        /// The bridge snoops, and only members and routers of the group get it.
        members_only: bool,
    },
    /// The bridge's `proxy` looked whether what would leave for VTEPs is a question for a neighbour.
    Proxy {
        /// The bridge.
        bridge: BridgeId,
        /// Whom it asks for.
        asked: Option<IpAddr>,
        /// Who that is.
        neigh: Option<MacAddr>,
        /// What becomes of it.
        proxied: Proxied,
    },
    /// The bridge's `rsc` looked whether what would leave for a VTEP is a packet that can go straight to its station.
    ShortCircuit {
        /// The bridge.
        bridge: BridgeId,
        /// The destination, a router or not.
        dst: MacAddr,
        /// Whom the packet is for.
        ip: Option<IpAddr>,
        /// Who that is, and where the FDB has it.
        station: Option<(MacAddr, Option<Endpoint>)>,
        /// Why the packet ends.
        result: Result<(), DropReason>,
    },
    /// A copy left, or did not.
    Egress(Departure),
}

/// What the proxy of a bridge makes of a frame that would leave for VTEPs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proxied {
    /// It is no question, and leaves.
    Passes,
    /// It is kept, and there is nothing to answer.
    Kept,
    /// It is kept, and nobody knows who has the address.
    Unknown,
    /// It is kept: the neighbour is behind a port and hears the question itself.
    HearsItself,
    /// It is kept, since its options make no sense.
    Senseless,
    /// It is kept and answered; or why the answer goes to nobody.
    Answered(Result<(), DropReason>),
}

/// What the walk makes of a frame's source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Learning {
    /// The FDB is told, and this is what it would answer.
    Foreseen(Learned),
    /// The port has `learning = false`.
    PortOff,
    /// The port is down: what it still says is to be forgotten.
    PortDown,
    /// The port's `state` does not learn.
    PortState,
    /// The port is locked, and the source is not let in.
    Locked,
    /// The bridge has `vxlan_learning = false`: it learns nothing from VTEPs.
    TunnelOff,
    /// The bridge has `learning = false`, or its ageing time is 0.
    BridgeOff,
    /// It is the address of an interface under a packet port of the bridge.
    LocalAddress,
}

/// A walk that was not walked.
#[derive(Clone, Debug)]
pub struct Walkthrough {
    /// What was done, in order.
    pub steps: Vec<Step>,
    /// How many wire frames it is.
    pub frames: u32,
    /// Where it came in; `None` for a datagram that belongs to no VTEP.
    pub ingress: Option<Endpoint>,
    /// The bridge that it reached.
    pub bridge: Option<BridgeId>,
    /// Why it ended before it had an egress.
    pub dropped: Option<DropReason>,
}

impl Walkthrough {
    /// Every copy, sent or not.
    pub fn departures(&self) -> impl Iterator<Item = &Departure> {
        self.steps.iter().filter_map(|step| match step {
            Step::Egress(departure) => Some(departure),
            Step::Header { .. }
            | Step::Tunnel { .. }
            | Step::Parse(_)
            | Step::Classify { .. }
            | Step::Admit { .. }
            | Step::Guard { .. }
            | Step::Inspect { .. }
            | Step::Learn { .. }
            | Step::Answer { .. }
            | Step::LookUp { .. }
            | Step::Decide { .. }
            | Step::Proxy { .. }
            | Step::ShortCircuit { .. } => None,
        })
    }
}
