//! What is kept of a cell: one line of `cells.jsonl`, and the whole of the JSON output.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{cell::Cell, observe::Amount};

/// A cell that was measured.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The cell's key.
    pub key: String,
    /// The cell.
    pub cell: Cell,
    /// Why it could not be measured; null if it was.
    pub failed: Option<String>,
    /// What each load saw, in the order in which they ran; nothing if it could not be measured.
    pub loads: Vec<LoadRecord>,
    /// How long all of it took, in seconds.
    pub took_s: f64,
}

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// One TCP connection, as fast as it can. DF is set in all its packets.
    Tcp,
    /// UDP at a given rate, the datagrams filling the inner MTU if nothing else was asked for. DF is clear.
    Udp,
    /// Short questions and long answers over one TCP connection, one after the other.
    Request,
}

impl Load {
    /// All, in the order in which they run.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Request];

    /// As in JSON and CSV.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Request => "request",
        }
    }
}

/// What one load saw.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LoadRecord {
    /// The load.
    pub load: Load,
    /// How long it ran, in seconds.
    pub seconds: f64,
    /// Bytes that arrived at the sink (of the answers, with requests), without any header.
    pub payload_bytes: u64,
    /// The same per second, in Mbit/s.
    pub mbit_per_s: f64,
    /// Packets of the tunnel on the link in the middle, the way that the payload goes, in wire frames.
    pub wire: Amount,
    /// The other way.
    pub wire_back: Amount,
    /// Payload / bytes on the wire, both of the payload's way; null if nothing was on the wire.
    pub efficiency: Option<f64>,
    /// Fragments on the link in the middle, both ways.
    pub fragments: u64,
    /// "Too big" ICMP errors that arrived at the hosts, from the underlay.
    pub icmp_underlay: u64,
    /// "Too big" ICMP errors that arrived at the stations, from whoever carries their frames.
    pub icmp_overlay: u64,
    /// Other ICMP errors at both.
    pub icmp_other: u64,
    /// Frames that the observer of all these could not read in time: with more than 0 they are too small.
    pub observer_missed: u64,
    /// TCP segments that the stations sent again (`Tcp.RetransSegs`).
    pub retransmissions: u64,
    /// Bytes of a full TCP segment at the end; null for UDP.
    pub mss: Option<u32>,
    /// Datagrams or questions that were sent; null for bulk TCP.
    pub sent: Option<u64>,
    /// Of these: not taken by the source's own kernel.
    pub refused: Option<u64>,
    /// Datagrams that arrived, or questions that were answered.
    pub received: Option<u64>,
    /// Datagrams that arrived behind a later one.
    pub reordered: Option<u64>,
    /// Half of the datagrams were under way no longer than this, or half of the answers took no longer; in microseconds.
    pub p50_us: Option<f64>,
    /// The same of 99 percent.
    pub p99_us: Option<f64>,
    /// Frames that the wefts dropped, by host and the drop reason's name: `host1 underlay_mtu`.
    pub drops: BTreeMap<String, u64>,
    /// What cables of ours did to frames, if there were any, by link: `middle lost`.
    pub cables: BTreeMap<String, u64>,
    /// Processor time of both wefts, in seconds; null if the kernel carried the frames.
    pub switch_cpu_s: Option<f64>,
    /// Processor time of everything on the machine, in seconds.
    pub machine_cpu_s: f64,
}

impl LoadRecord {
    /// Share of what was sent that did not arrive; `None` for bulk TCP.
    pub fn loss(&self) -> Option<f64> {
        let (sent, received) = (self.sent?, self.received?);
        (sent > 0).then(|| 1.0 - received as f64 / sent as f64)
    }

    /// Processor time of the whole machine for a gigabyte of payload, in seconds.
    pub fn cpu_per_gigabyte(&self) -> Option<f64> {
        (self.payload_bytes > 0).then(|| self.machine_cpu_s / (self.payload_bytes as f64 / 1e9))
    }

    /// Fragments for each packet that was on the wire.
    pub fn fragment_share(&self) -> Option<f64> {
        let frames = self.wire.frames + self.wire_back.frames;
        (frames > 0).then(|| self.fragments as f64 / frames as f64)
    }
}

impl Record {
    /// What a load saw.
    pub fn load(&self, load: Load) -> Option<&LoadRecord> {
        self.loads.iter().find(|record| record.load == load)
    }
}
