//! Names for a walk's numbers, and the account of it as a whole. What is said of each step is in [`super::stages`].

use serde_json::{Map, Value, json};

use super::stages::Telling;
use crate::{
    bridge::DropReason,
    control::{
        api::explanation::{Explanation, Fate, FrameSeen, Outcome, Stage, VerdictSaid},
        config::Config,
    },
    fdb::Stamp,
    ids::{BridgeId, Endpoint, PortId, VtepId},
    wire::{describe::describe, hex},
    worker::{
        SharedVteps, TunnelHeader,
        explain::{Arriving, Departure, Step, Walkthrough},
    },
};
use std::net::SocketAddr;

/// Whoever knows what everything is called.
pub(super) struct Narrator<'n> {
    pub(super) config: &'n Config,
    pub(super) port_name: &'n dyn Fn(PortId) -> String,
    pub(super) bridge_name: &'n dyn Fn(BridgeId) -> String,
    pub(super) vteps: &'n SharedVteps,
    /// The outer source port of a flow's hash, with DF or without.
    pub(super) outer_port: &'n dyn Fn(u32, bool) -> Option<u16>,
    pub(super) now: Stamp,
}

impl Narrator<'_> {
    pub(super) fn explanation(&self, arriving: Arriving<'_>, walk: &Walkthrough) -> Explanation {
        let (frame, port, vtep) = match arriving {
            Arriving::Frame { port, bytes, .. } => (bytes, Some((self.port_name)(port)), None),
            Arriving::Datagram { format, source, payload, .. } => {
                (TunnelHeader::inner(format, payload).unwrap_or(payload), None, Some(source))
            }
        };
        Explanation {
            frame: FrameSeen {
                summary: describe(frame).to_string(),
                length: frame.len(),
                wire_frames: walk.frames,
                hex: hex::encode(frame),
            },
            port,
            vtep,
            bridge: walk.bridge.map(self.bridge_name),
            stages: walk.steps.iter().map(|step| self.stage(step)).collect(),
            verdict: self.verdict(walk),
        }
    }

    fn stage(&self, step: &Step) -> Stage {
        let Telling { stage, reason, text, notes, config, kernel, fields } = self.tell(step);
        Stage {
            stage,
            outcome: if reason.is_some() { Outcome::Drop } else { Outcome::Pass },
            reason: reason.map(|reason| reason.name().to_owned()),
            text,
            notes,
            config,
            kernel: kernel.map(str::to_owned),
            fields,
        }
    }

    fn verdict(&self, walk: &Walkthrough) -> VerdictSaid {
        let leaves = |departure: &&Departure| departure.result.is_ok() && !departure.is_answer;
        let leaving = || walk.departures().filter(leaves).map(|departure| departure.to);
        let is_delivered = leaving().next().is_some();
        let not_sent = || walk.departures().find_map(|departure| departure.result.err());
        let reason: Option<DropReason> = if is_delivered { None } else { walk.dropped.or_else(not_sent) };
        VerdictSaid {
            result: match (is_delivered, walk.departures().any(|departure| departure.is_answer)) {
                (true, _) => Fate::Delivered,
                (false, true) => Fate::Answered,
                (false, false) => Fate::Dropped,
            },
            reason: reason.map(|reason| reason.name().to_owned()),
            explanation: reason.map(|reason| reason.explanation().to_owned()),
            ports: leaving().filter_map(|to| self.port_of(to)).collect(),
            vteps: leaving().filter_map(|to| self.vtep_of(to)).collect(),
        }
    }

    /// The name of a port.
    pub(super) fn port_of(&self, at: Endpoint) -> Option<String> {
        match at {
            Endpoint::Port(port) => Some((self.port_name)(port)),
            Endpoint::Vtep(_) => None,
        }
    }

    /// The address of a VTEP.
    pub(super) fn vtep_of(&self, at: Endpoint) -> Option<SocketAddr> {
        match at {
            Endpoint::Vtep(vtep) => self.vteps.address(vtep),
            Endpoint::Port(_) => None,
        }
    }

    /// A port or VTEP with its kind, for people.
    pub(super) fn place(&self, at: Endpoint) -> String {
        match at {
            Endpoint::Port(port) => format!("port {}", (self.port_name)(port)),
            Endpoint::Vtep(vtep) => format!("VTEP {}", self.vtep(vtep)),
        }
    }

    /// A VTEP's address; one without a number yet has none.
    pub(super) fn vtep(&self, vtep: VtepId) -> String {
        self.vteps
            .address(vtep)
            .map_or_else(|| "that is new".to_owned(), |address: SocketAddr| address.ip().to_string())
    }

    /// A port or VTEP, for programs: two keys, one of them null.
    pub(super) fn place_fields(&self, at: Option<Endpoint>) -> [(&'static str, Value); 2] {
        let (port, vtep) = match at {
            Some(Endpoint::Port(port)) => (json!((self.port_name)(port)), Value::Null),
            Some(Endpoint::Vtep(vtep)) => (Value::Null, json!(self.vteps.address(vtep).map(|address| address.ip()))),
            None => (Value::Null, Value::Null),
        };
        [("port", port), ("vtep", vtep)]
    }
}

/// An object of these fields.
pub(super) fn fields(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Map<String, Value> {
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
