//! What is said where a bridge's `proxy` or `rsc` looks at what would leave for VTEPs.

use std::net::IpAddr;

use serde_json::json;

use super::{narrator::Narrator, stages::Telling};
use crate::{
    bridge::DropReason,
    control::api::explanation::StageName,
    ids::{BridgeId, Endpoint},
    wire::MacAddr,
    worker::explain::Proxied,
};

impl Narrator<'_> {
    pub(super) fn proxied(
        &self,
        bridge: BridgeId,
        asked: Option<IpAddr>,
        neigh: Option<MacAddr>,
        proxied: Proxied,
    ) -> Telling {
        let name = (self.bridge_name)(bridge);
        let whom = asked.map_or_else(String::new, |ip| ip.to_string());
        let who = neigh.map_or_else(String::new, |mac| mac.to_string());
        let text = match proxied {
            Proxied::Passes => "no ARP and no neighbour solicitation: it may leave".to_owned(),
            Proxied::Kept => {
                format!("bridge {name} lets no ARP and no neighbour solicitation leave, and this one asks nothing")
            }
            Proxied::Unknown => format!("asks for {whom}, whom nobody named: it does not leave, and has no answer"),
            Proxied::HearsItself => {
                format!("asks for {whom}, which is {who} behind a port and hears it: it does not leave")
            }
            Proxied::Senseless => format!("asks for {whom} with options that make no sense: it does not leave"),
            Proxied::Answered(Ok(())) => format!("asks for {whom}, which is {who}: answered here, it does not leave"),
            Proxied::Answered(Err(reason)) => {
                format!("asks for {whom}, which is {who}; the answer ends here: {}", reason.explanation())
            }
        };
        let taken = proxied != Proxied::Passes;
        let neighbour = asked.and_then(|ip| self.neighbour(&name, ip));
        Telling::new(StageName::Proxy, text)
            .dropped(taken.then_some(DropReason::NeighProxied))
            .config(self.proxy(&name).into_iter().chain(neighbour))
            .kernel("drivers/net/vxlan/vxlan_core.c: vxlan_xmit, arp_reduce, neigh_reduce")
            .fields([
                ("asked", json!(asked)),
                ("neighbour", json!(neigh)),
                ("answered", json!(matches!(proxied, Proxied::Answered(Ok(()))))),
            ])
    }

    pub(super) fn short_circuit(
        &self,
        bridge: BridgeId,
        dst: MacAddr,
        ip: Option<IpAddr>,
        station: Option<(MacAddr, Option<Endpoint>)>,
        result: Result<(), DropReason>,
    ) -> Telling {
        let name = (self.bridge_name)(bridge);
        let whom = ip.map_or_else(String::new, |ip| ip.to_string());
        let text = match station {
            None if ip.is_some() => format!("a packet to a router, for {whom}, whom nobody named: it goes as it is"),
            None => format!("no packet to a router that it could be spared: it goes to {dst} as it is"),
            Some((mac, Some(at))) => {
                format!("a packet to a router, for {whom}: straight to {mac} at {}, as if from {dst}", self.place(at))
            }
            Some((mac, None)) if result.is_ok() => {
                format!("a packet to a router, for {whom}: to {mac}, which is nowhere known, by the whole flood list")
            }
            Some((mac, None)) => {
                format!("a packet to a router, for {whom}: {mac} is nowhere known, and the flood list is empty")
            }
        };
        let [port, vtep] = self.place_fields(station.and_then(|(_, at)| at));
        let neighbour = ip.and_then(|ip| self.neighbour(&name, ip));
        Telling::new(StageName::ShortCircuit, text)
            .dropped(result.err())
            .config(self.rsc(&name).into_iter().chain(neighbour))
            .kernel("drivers/net/vxlan/vxlan_core.c: vxlan_xmit, route_shortcircuit")
            .fields([
                ("dst", json!(dst)),
                ("ip", json!(ip)),
                ("station", json!(station.map(|(mac, _)| mac))),
                port,
                vtep,
            ])
    }
}
