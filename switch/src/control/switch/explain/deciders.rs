//! Which line of the configuration decided, or which default.

use std::net::{IpAddr, SocketAddr};

use super::narrator::Narrator;
use crate::{
    bridge::FloodKind,
    control::{
        api::explanation::Decider,
        config::{
            BridgeConfig, Df, ECN_WORDS, FdbFull, FdbKind, FdbTarget, InnerVlan, Membership, OVERSIZE_WORDS, Part,
            Peers, PortConfig, STATE_WORDS, Tos, Ttl, VtepConfig, reserved_bits_text, word_of,
        },
    },
    ids::Endpoint,
    wire::{MacAddr, Tag},
};

impl Narrator<'_> {
    /// A key that may be written, or else stands at its default.
    fn decider(&self, part: Part<'_>, key: &str, default: impl ToString) -> Decider {
        self.element(part, key, key, default)
    }

    /// The same of an element, `place`, of a list or table, which is called `key`.
    fn element(&self, part: Part<'_>, place: &str, key: &str, default: impl ToString) -> Decider {
        let written = self.config.written(part, place);
        let (file, line, value) = match written {
            Some(written) => (Some(written.file), Some(written.line), written.text),
            None => (None, None, default.to_string()),
        };
        let part = match part {
            Part::Switch => "switch".to_owned(),
            Part::Vtep => "vtep".to_owned(),
            Part::Bridge(name) => format!("bridge {name}"),
            Part::Port(name) => format!("port {name}"),
            Part::Fdb(bridge, mac) => format!("fdb {bridge} {mac}"),
            Part::Neigh(bridge, ip) => format!("neigh {bridge} {ip}"),
        };
        Decider { part, key: key.to_owned(), value, file, line }
    }

    /// A switch of a port.
    pub(super) fn flag(&self, port: &str, key: &str, of: impl Fn(&PortConfig) -> bool) -> Decider {
        let is_on = self.config.port(port).is_some_and(of);
        self.decider(Part::Port(port), key, is_on)
    }

    /// The gate of a port for one kind of flooding.
    pub(super) fn gate(&self, port: &str, kind: FloodKind) -> Decider {
        if self.config.port(port).is_some_and(|port| port.proxy_arp) {
            return self.flag(port, "proxy_arp", |port| port.proxy_arp);
        }
        match kind {
            FloodKind::UnknownUnicast => self.flag(port, "flood", |port| port.flood),
            FloodKind::Multicast => self.flag(port, "mcast_flood", |port| port.mcast_flood),
            FloodKind::Broadcast => self.flag(port, "bcast_flood", |port| port.bcast_flood),
        }
    }

    /// What puts frames with this tag into their bridge at a port.
    pub(super) fn membership(&self, port: &str, tag: Option<Tag>) -> Vec<Decider> {
        let part = Part::Port(port);
        match self.config.port(port).map(|port| &port.membership) {
            Some(Membership::Access(bridge)) => vec![self.decider(part, "bridge", quoted(bridge))],
            Some(Membership::Trunk { vlans, native }) => match tag.map(Tag::vid).filter(|vid| *vid != 0) {
                None => vec![self.decider(part, "native", native.as_ref().map_or_else(|| "none".to_owned(), quoted))],
                Some(vid) => {
                    let place = vlans.iter().position(|(other, _)| other.get() == vid);
                    let named = |index| self.element(part, &format!("trunk.{index}"), &format!("trunk.{vid}"), "");
                    vec![place.map_or_else(|| self.decider(part, "trunk", ""), named)]
                }
            },
            None => vec![],
        }
    }

    /// What says with which tag frames of a bridge leave a port.
    pub(super) fn exit(&self, port: &str, bridge: &str, tag: Option<Tag>) -> Vec<Decider> {
        let part = Part::Port(port);
        match self.config.port(port).map(|port| &port.membership) {
            Some(Membership::Trunk { vlans, native }) if native.as_deref() != Some(bridge) => {
                let found = vlans.iter().enumerate().find(|(_, (_, name))| name == bridge);
                let named = |(index, (vid, _)): (usize, &(crate::wire::VlanId, String))| {
                    self.element(part, &format!("trunk.{index}"), &format!("trunk.{vid}"), quoted(bridge))
                };
                let untagged = tag.is_none().then(|| self.decider(part, "untagged", ""));
                found.map(named).into_iter().chain(untagged).collect()
            }
            Some(Membership::Trunk { .. }) => vec![self.decider(part, "native", quoted(bridge))],
            Some(Membership::Access(_)) => vec![self.decider(part, "bridge", quoted(bridge))],
            None => vec![],
        }
    }

    /// Who is spared questions that have an answer.
    pub(super) fn neigh_suppress(&self, bridge: &str) -> Vec<Decider> {
        let mut config: Vec<_> =
            self.of_bridge(bridge, "neigh_suppress", |it| it.neigh_suppress.to_string()).into_iter().collect();
        for port in self.config.ports.iter().filter(|port| port.membership.contains(bridge)) {
            let name = port.full_name();
            let keys = [
                ("neigh_suppress", port.neigh_suppress),
                ("proxy_arp", port.proxy_arp),
                ("proxy_arp_wifi", port.proxy_arp_wifi),
            ];
            let on = keys.into_iter().filter(|(_, is_on)| *is_on);
            config.extend(on.map(|(key, is_on)| self.decider(Part::Port(&name), key, is_on)));
        }
        config
    }

    /// Whether a bridge answers for VTEPs.
    pub(super) fn proxy(&self, bridge: &str) -> Option<Decider> {
        self.of_bridge(bridge, "proxy", |bridge| bridge.proxy.to_string())
    }

    /// Whether it sends packets to routers straight to their stations.
    pub(super) fn rsc(&self, bridge: &str) -> Option<Decider> {
        self.of_bridge(bridge, "rsc", |bridge| bridge.rsc.to_string())
    }

    /// Who has an IP address.
    pub(super) fn neighbour(&self, bridge: &str, ip: IpAddr) -> Option<Decider> {
        let neigh = self.config.neigh.iter().find(|neigh| neigh.bridge == bridge && neigh.ip == ip)?;
        Some(self.decider(Part::Neigh(bridge, ip), "mac", quoted(neigh.mac)))
    }

    /// How far a port takes part in forwarding.
    pub(super) fn state(&self, port: &str) -> Option<Decider> {
        let state = self.config.port(port)?.state;
        Some(self.decider(Part::Port(port), "state", quoted(word_of(STATE_WORDS, &state))))
    }

    /// How many addresses may be learned at a port.
    pub(super) fn port_limit(&self, port: &str) -> Option<Decider> {
        let most = self.config.port(port)?.fdb_max_learned;
        (most > 0).then(|| self.decider(Part::Port(port), "fdb_max_learned", most))
    }

    /// Who may speak at a port, if not everybody.
    pub(super) fn port_security(&self, port: &str) -> Option<Decider> {
        let stations = &self.config.port(port)?.port_security;
        let named: Vec<_> = stations.iter().map(quoted).collect();
        (!named.is_empty()).then(|| self.decider(Part::Port(port), "port_security", format!("[{}]", named.join(", "))))
    }

    /// A port's MTU.
    pub(super) fn mtu(&self, port: &str, mtu: u16) -> Decider {
        self.decider(Part::Port(port), "mtu", mtu)
    }

    /// A key of a bridge.
    fn of_bridge(&self, name: &str, key: &str, default: impl Fn(&BridgeConfig) -> String) -> Option<Decider> {
        let bridge = self.config.bridge(name)?;
        Some(self.decider(Part::Bridge(name), key, default(bridge)))
    }

    pub(super) fn vni(&self, bridge: &str) -> Option<Decider> {
        self.of_bridge(bridge, "vni", |bridge| bridge.vni.map_or_else(|| "none".to_owned(), |vni| vni.to_string()))
    }

    /// How a bridge's frames are wrapped: what it says itself, or what all of the VTEP's have.
    pub(super) fn encapsulation(&self, bridge: &str) -> Option<Decider> {
        let word = self.config.bridge(bridge)?.encapsulation.word();
        let is_there = |part, key| self.config.written(part, key).is_some();
        let (part, key) = if is_there(Part::Bridge(bridge), "encapsulation") {
            (Part::Bridge(bridge), "encapsulation")
        } else if is_there(Part::Vtep, "gbp") && !is_there(Part::Vtep, "encapsulation") {
            (Part::Vtep, "gbp")
        } else {
            (Part::Vtep, "encapsulation")
        };
        Some(self.decider(part, key, quoted(word)))
    }

    pub(super) fn group_fwd_mask(&self, bridge: &str) -> Option<Decider> {
        self.of_bridge(bridge, "group_fwd_mask", |bridge| format!("{:#06x}", bridge.group_fwd_mask))
    }

    /// Why a bridge learns nothing.
    pub(super) fn bridge_learning(&self, name: &str) -> Option<Decider> {
        let bridge = self.config.bridge(name)?;
        if !bridge.learning {
            return self.of_bridge(name, "learning", |bridge| bridge.learning.to_string());
        }
        let ageing = quoted(humantime::format_duration(bridge.ageing));
        let inherited = self.config.written(Part::Bridge(name), "ageing").is_none();
        let part = if inherited { Part::Switch } else { Part::Bridge(name) };
        Some(self.decider(part, "ageing", ageing))
    }

    /// Whether a bridge learns from VTEPs.
    pub(super) fn tunnel_learning(&self, bridge: &str) -> Option<Decider> {
        self.of_bridge(bridge, "vxlan_learning", |bridge| bridge.vxlan_learning.to_string())
    }

    /// What bounds how much a bridge learns, here at a VTEP or at a port.
    pub(super) fn limit(&self, bridge: &str, at: Endpoint) -> Vec<Decider> {
        if let Endpoint::Port(port) = at
            && let Some(limit) = self.port_limit(&(self.port_name)(port))
        {
            return vec![limit];
        }
        let most = self.config.bridge(bridge).and_then(|bridge| bridge.maxaddress);
        if let (Endpoint::Vtep(_), Some(most)) = (at, most) {
            return self.of_bridge(bridge, "maxaddress", |_| most.to_string()).into_iter().collect();
        }
        let most = self.of_bridge(bridge, "fdb_max_learned", |bridge| bridge.fdb_max_learned.to_string());
        let full = self.of_bridge(bridge, "fdb_full", |bridge| quoted(word_of(FdbFull::WORDS, &bridge.fdb_full)));
        most.into_iter().chain(full).collect()
    }

    /// The static entry of an address.
    pub(super) fn static_entry(&self, bridge: &str, mac: MacAddr) -> Option<Decider> {
        let entry = self.config.fdb.iter().find(|entry| entry.bridge == bridge && entry.mac == mac)?;
        let (key, value) = match &entry.at {
            FdbTarget::Port(port) => ("port", quoted(port)),
            FdbTarget::Vtep(vtep) => ("vtep", quoted(vtep)),
            FdbTarget::Bridge => ("permanent", "true".to_owned()),
        };
        Some(self.decider(Part::Fdb(bridge, mac), key, value))
    }

    /// Whether an entry stays where it is.
    pub(super) fn sticky(&self, bridge: &str, mac: MacAddr) -> Option<Decider> {
        let entry = self.config.fdb.iter().find(|entry| entry.bridge == bridge && entry.mac == mac)?;
        Some(self.decider(Part::Fdb(bridge, mac), "sticky", entry.kind == FdbKind::Sticky))
    }

    /// What names a VTEP for a bridge: the flood list, or a static entry.
    pub(super) fn naming(&self, bridge: &str, vtep: impl Fn(&SocketAddr) -> bool) -> Option<Decider> {
        let remotes = &self.config.bridge(bridge)?.remotes;
        if let Some(index) = remotes.iter().position(&vtep) {
            let value = quoted(remotes[index]);
            return Some(self.element(Part::Bridge(bridge), &format!("remotes.{index}"), "remotes", value));
        }
        let names_it = |at: &FdbTarget| matches!(at, FdbTarget::Vtep(address) if vtep(address));
        let entry = self.config.fdb.iter().find(|entry| entry.bridge == bridge && names_it(&entry.at))?;
        self.static_entry(bridge, entry.mac)
    }

    /// A key of `[vtep]`.
    fn of_vtep(&self, key: &str, default: impl Fn(&VtepConfig) -> String) -> Option<Decider> {
        let vtep = self.config.vtep.as_ref()?;
        Some(self.decider(Part::Vtep, key, default(vtep)))
    }

    /// A key that follows `profile` unless it is written itself.
    fn of_profile(&self, key: &str, default: impl Fn(&VtepConfig) -> String) -> Option<Decider> {
        let is_there = |key| self.config.written(Part::Vtep, key).is_some();
        if !is_there(key) && is_there("profile") {
            return self.of_vtep("profile", |_| String::new());
        }
        self.of_vtep(key, default)
    }

    pub(super) fn peers(&self) -> Option<Decider> {
        self.of_vtep("peers", |vtep| quoted(word_of(Peers::WORDS, &vtep.peers)))
    }

    pub(super) fn reserved_bits(&self) -> Option<Decider> {
        self.of_profile("reserved_bits", |vtep| quoted(reserved_bits_text(vtep.reserved_bits)))
    }

    pub(super) fn inner_vlan(&self) -> Option<Decider> {
        self.of_profile("inner_vlan", |vtep| quoted(word_of(InnerVlan::WORDS, &vtep.inner_vlan)))
    }

    /// Everything that makes the outer header.
    pub(super) fn outer_header(&self) -> Vec<Decider> {
        let ttl = self.of_vtep("ttl", |vtep| match vtep.ttl {
            Ttl::Fixed(ttl) => ttl.to_string(),
            Ttl::Inherit => quoted("inherit"),
        });
        let tos = self.of_vtep("tos", |vtep| match vtep.tos {
            Tos::Fixed(tos) => tos.to_string(),
            Tos::Inherit => quoted("inherit"),
        });
        let ecn = self.of_profile("ecn", |vtep| quoted(word_of(ECN_WORDS, &vtep.ecn)));
        let range = self.of_vtep("source_port_range", |vtep| {
            let (min, max) = vtep.source_port_range;
            format!("[{min}, {max}]")
        });
        let ports = self.of_vtep("source_ports", |vtep| vtep.source_ports.to_string());
        let address = self.of_vtep("address", |vtep| quoted(vtep.address));
        [address, ttl, tos, ecn, self.df(), range, ports].into_iter().flatten().collect()
    }

    pub(super) fn oversize(&self) -> Option<Decider> {
        self.of_vtep("oversize", |vtep| quoted(word_of(OVERSIZE_WORDS, &vtep.oversize)))
    }

    pub(super) fn df(&self) -> Option<Decider> {
        self.of_vtep("df", |vtep| quoted(word_of(Df::WORDS, &vtep.df)))
    }
}

/// A TOML string.
fn quoted(text: impl ToString) -> String {
    format!("\"{}\"", text.to_string())
}
