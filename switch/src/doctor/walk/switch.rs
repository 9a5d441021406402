//! Frames through a running weft, by what its control socket says of its bridges, ports, FDB and VTEPs.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::{
    Walker,
    frames::{Behind, Decision, Domain, Frame, Spread},
    tunnels::Wrapping,
};
use crate::control::api::model::{LinkState, PortState};
use crate::doctor::{
    Finding,
    step::Trouble,
    survey::values::WeftState,
    world::{At, WeftAt, WeftPort},
};

impl Walker<'_> {
    /// Into a weft by one of its ports.
    pub(super) fn enter_weft(&mut self, port: WeftPort, frame: Frame, spread: &mut Spread) {
        let Some(state) = self.survey.weft(port.weft) else { return };
        let ingress = &state.ports[port.port];
        let Some(at) = self.survey.weft_port_link(port.weft, &ingress.name) else { return };
        if let Some(trouble) = self.port_refuses(port.weft, ingress, frame) {
            return spread.end(at, trouble);
        }
        let (bridge, frame) = match (&ingress.bridge, &ingress.trunk, frame.vlan) {
            (Some(bridge), _, _) => (bridge, frame),
            (None, Some(trunk), Some(vlan)) if trunk.contains_key(&vlan) => {
                (&trunk[&vlan], Frame { vlan: None, ..frame })
            }
            (None, _, None) if ingress.native.is_some() => match &ingress.native {
                Some(native) => (native, frame),
                None => return,
            },
            (None, _, vlan) => {
                let what = vlan.map_or_else(|| "untagged frames".to_owned(), |vlan| format!("VLAN {vlan}"));
                let text = format!("the trunk {} does not carry {what}", ingress.name);
                let trouble = Trouble::new(Finding::VlanMissing, self.at(at), text);
                return spread.end(at, trouble.row("weft show ports", port_row(ingress)));
            }
        };
        let Some(number) = state.bridges.iter().position(|it| it.name == *bridge) else { return };
        self.learned.insert((Domain::Weft(port.weft, number), 0, frame.source), Behind::Port(at));
        self.in_weft(port.weft, number, Some(at), None, frame, spread);
    }

    /// Into a weft from another VTEP.
    pub(super) fn enter_weft_by_tunnel(
        &mut self,
        weft: WeftAt,
        bridge: usize,
        from: IpAddr,
        frame: Frame,
        spread: &mut Spread,
    ) {
        let Some(state) = self.survey.weft(weft) else { return };
        let known = state.vteps.iter().any(|vtep| vtep.address == from);
        let dropped = state.drops.iter().find(|drop| drop.reason == "vtep_unknown");
        if !known && let Some(dropped) = dropped {
            let text = format!("weft takes nothing from the VTEP {from}, which nobody named");
            let row = format!("{} {}: {} frames", dropped.name, dropped.reason, dropped.frames);
            let place = self.survey.space(weft.space).label();
            let at = self.weft_place(weft, bridge).unwrap_or(At { space: weft.space, link: 0 });
            return spread.end(at, Trouble::new(Finding::VtepUnknownPeer, place, text).row("weft show drops", row));
        }
        self.learned.insert((Domain::Weft(weft, bridge), 0, frame.source), Behind::Remote(from));
        self.in_weft(weft, bridge, None, Some(from), frame, spread);
    }

    /// An interface that stands for a bridge of weft.
    fn weft_place(&self, weft: WeftAt, bridge: usize) -> Option<At> {
        let state = self.survey.weft(weft)?;
        state.bridges[bridge].ports.iter().find_map(|name| self.survey.weft_port_link(weft, name))
    }

    fn in_weft(
        &mut self,
        weft: WeftAt,
        number: usize,
        ingress: Option<At>,
        from: Option<IpAddr>,
        frame: Frame,
        spread: &mut Spread,
    ) {
        let Some(state) = self.survey.weft(weft) else { return };
        let bridge = &state.bridges[number];
        let learned = self.learned.get(&(Domain::Weft(weft, number), 0, frame.destination)).copied();
        let entry = state.fdb.iter().find(|entry| entry.bridge == bridge.name && entry.mac == frame.destination);
        let by_entry = entry.and_then(|entry| match (&entry.port, entry.vtep) {
            (Some(port), _) => self.survey.weft_port_link(weft, port).map(Behind::Port),
            (None, Some(vtep)) => Some(Behind::Remote(vtep)),
            (None, None) => None,
        });
        match learned.or(by_entry) {
            Some(Behind::Port(at)) if !frame.destination.is_multicast() => {
                if learned.is_none()
                    && let Some(entry) = entry
                {
                    let text = format!("weft's FDB says that {} is behind {}", entry.mac, self.at(at));
                    let row = format!("{} {} {}", entry.bridge, entry.mac, entry.port.as_deref().unwrap_or("-"));
                    let cure = format!("weft fdb del --bridge {} --mac {}", entry.bridge, entry.mac);
                    let trouble = Trouble::new(Finding::FdbEntryWrong, self.at(at), text);
                    let trouble = trouble.row("weft show fdb", row).next(cure);
                    spread.decisions.push(Decision { at, remote: None, trouble });
                }
                self.out_of_weft(weft, ingress, at, state, number, frame, spread);
            }
            // Never from VTEP to VTEP.
            Some(Behind::Remote(remote)) if !frame.destination.is_multicast() => {
                if from.is_none() {
                    let port = state.vteps.iter().find(|vtep| vtep.address == remote).map_or(4789, |vtep| vtep.port);
                    self.weft_sends(weft, number, ingress, SocketAddr::new(remote, port), frame, spread);
                }
            }
            Some(_) | None => {
                for name in &bridge.ports {
                    if let Some(at) = self.survey.weft_port_link(weft, name).filter(|at| Some(*at) != ingress) {
                        self.out_of_weft(weft, ingress, at, state, number, frame, spread);
                    }
                }
                if from.is_none() {
                    for remote in &bridge.remotes {
                        self.weft_sends(weft, number, ingress, *remote, frame, spread);
                    }
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn out_of_weft(
        &mut self,
        weft: WeftAt,
        ingress: Option<At>,
        at: At,
        state: &WeftState,
        number: usize,
        frame: Frame,
        spread: &mut Spread,
    ) {
        let port =
            |at: At| self.survey.weft_port(at).filter(|port| port.weft == weft).map(|port| &state.ports[port.port]);
        let Some(out) = port(at) else { return };
        if out.state != LinkState::Up {
            let trouble = if self.survey.link(at).up && self.survey.link(at).carrier {
                Trouble::new(Finding::NoCarrier, self.at(at), format!("weft's port {} is {:?}", out.name, out.state))
                    .row("weft show ports", port_row(out))
            } else {
                self.no_carrier(at)
            };
            return spread.end(at, trouble);
        }
        if let Some(trouble) = self.port_refuses(weft, out, frame) {
            return spread.end(at, trouble);
        }
        let isolated = |port: &PortState| port.options.get("isolated") == Some(&Value::Bool(true));
        if isolated(out) && ingress.and_then(port).is_some_and(isolated) {
            let text = format!("both ports are isolated; {} gets nothing from the other", out.name);
            return spread.end(
                at,
                Trouble::new(Finding::BridgePortIsolated, self.at(at), text).row("weft show ports", port_row(out)),
            );
        }
        let key = if frame.destination.is_broadcast() {
            "bcast_flood"
        } else if frame.destination.is_multicast() {
            "mcast_flood"
        } else {
            "flood"
        };
        let is_known = self.learned.contains_key(&(Domain::Weft(weft, number), 0, frame.destination));
        if !is_known && out.options.get(key) == Some(&Value::Bool(false)) {
            let text = format!("{} has {key} = false, and weft does not know where {} is", out.name, frame.destination);
            return spread.end(
                at,
                Trouble::new(Finding::BridgeFloodOff, self.at(at), text).row("weft show ports", port_row(out)),
            );
        }
        let bridge = &state.bridges[number].name;
        let tag = out.trunk.iter().flatten().find(|(_, to)| *to == bridge).map(|(vlan, _)| *vlan);
        let vlan = if out.native.as_ref() == Some(bridge) { None } else { tag.or(frame.vlan) };
        let frame = Frame { vlan, ..frame };
        if self.survey.link(at).kind == "tun" {
            self.arrive(at, frame, spread);
        } else {
            self.transmit(at, frame, spread);
        }
    }

    fn weft_sends(
        &mut self,
        weft: WeftAt,
        number: usize,
        ingress: Option<At>,
        remote: SocketAddr,
        frame: Frame,
        spread: &mut Spread,
    ) {
        let Some(state) = self.survey.weft(weft) else { return };
        let bridge = &state.bridges[number];
        let Some(from) = ingress.or_else(|| self.weft_place(weft, number)) else { return };
        let space = self.weft_sockets(weft).map(|(space, _)| space).next().unwrap_or(weft.space);
        let wrapping = Wrapping {
            space,
            from,
            local: state.mtu.underlay.as_ref().map(|underlay| underlay.address),
            remote: remote.ip(),
            port: remote.port(),
            vni: bridge.vni,
            encapsulation: bridge.encapsulation.clone().unwrap_or_else(|| "vxlan".to_owned()),
            whole: true,
            ttl: 0,
            bare: false,
        };
        self.through_underlay(wrapping, frame, spread);
    }

    /// A port whose configuration lets nothing pass.
    fn port_refuses(&self, weft: WeftAt, port: &PortState, frame: Frame) -> Option<Trouble> {
        let word = port.options.get("state").and_then(Value::as_str).unwrap_or("forwarding");
        let at = self.survey.weft_port_link(weft, &port.name)?;
        if word != "forwarding" {
            let text = format!("weft's port {} has state = \"{word}\"", port.name);
            return Some(
                self.with_drops(weft, &port.name, Trouble::new(Finding::WeftDrops, self.at(at), text))
                    .row("weft show ports", port_row(port)),
            );
        }
        let locked = port.options.get("locked") == Some(&Value::Bool(true));
        let state = self.survey.weft(weft)?;
        let let_in =
            || state.fdb.iter().any(|entry| entry.mac == frame.source && entry.port.as_ref() == Some(&port.name));
        if locked && self.survey.link(at).mac == Some(frame.source) && !let_in() {
            let text = format!("weft's port {} is locked, and nothing lets {} in", port.name, frame.source);
            return Some(self.with_drops(weft, &port.name, Trouble::new(Finding::WeftDrops, self.at(at), text)));
        }
        None
    }

    /// What weft counted there.
    fn with_drops(&self, weft: WeftAt, place: &str, trouble: Trouble) -> Trouble {
        let Some(state) = self.survey.weft(weft) else { return trouble };
        let drops = state.drops.iter().filter(|drop| drop.name == place);
        let rows: Vec<_> = drops.map(|drop| format!("{} {} {}", drop.name, drop.reason, drop.frames)).collect();
        if rows.is_empty() { trouble } else { trouble.rows("weft show drops", rows) }
    }
}

fn port_row(port: &PortState) -> String {
    let options: Vec<_> = port.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let bridge = port.bridge.as_deref().or(port.native.as_deref()).unwrap_or("trunk");
    format!("{} {bridge} {:?} {}", port.name, port.state, options.join(" ")).trim_end().to_owned()
}
