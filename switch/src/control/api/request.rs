//! What the control API takes: stable names, documented here.
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
use weft_vxlan::geneve::GeneveOption;

use crate::{
    control::config::{
        BridgeConfig, FdbConfig, FdbFull, FdbKind, FdbTarget, MCAST_ROUTERS, Membership, NeighConfig, NetnsName,
        PortConfig, PortKind, STATE_WORDS, VLAN_PROTOCOL_WORDS, word_of,
    },
    snoop::Router,
    wire::{MacAddr, hex},
};

/// `[[bridge]]` as a request; what is left out has the configuration's default.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BridgeRequest {
    /// `name`
    pub name: String,
    /// `vni`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// `encapsulation`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encapsulation: Option<String>,
    /// `geneve_option`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub geneve_option: Vec<GeneveOptionRequest>,
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
    /// `mss_clamp`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mss_clamp: Option<bool>,
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

/// One of `geneve_option`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GeneveOptionRequest {
    /// `class`
    pub class: u16,
    /// `type`
    #[serde(rename = "type")]
    pub kind: u8,
    /// `data`: two hexadecimal digits a byte.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data: String,
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
    /// `flood_share`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flood_share: Option<u8>,
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
    /// `port_security`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub port_security: Vec<String>,
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
            encapsulation: bridge.vni.map(|_| bridge.encapsulation.word().to_owned()),
            geneve_option: bridge.geneve_options.iter().map(GeneveOptionRequest::from).collect(),
            remotes: bridge.remotes.iter().map(SocketAddr::to_string).collect(),
            learning: Some(bridge.learning),
            vxlan_learning: Some(bridge.vxlan_learning),
            proxy: Some(bridge.proxy),
            rsc: Some(bridge.rsc),
            l2miss: Some(bridge.l2miss),
            l3miss: Some(bridge.l3miss),
            maxaddress: bridge.maxaddress,
            mss_clamp: Some(bridge.mss_clamp),
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

impl From<GeneveOption<'_>> for GeneveOptionRequest {
    fn from(option: GeneveOption<'_>) -> Self {
        Self { class: option.class, kind: option.kind, data: hex::encode(option.data) }
    }
}

/// What of a bridge's configuration is not the default, by its keys there; without what is shown in a way of its own.
pub fn bridge_options(bridge: &BridgeConfig) -> BTreeMap<String, Value> {
    let default = BridgeConfig::new(&bridge.name);
    let shown = ["vni", "encapsulation", "remotes", "learning", "ageing", "fdb_max_learned"];
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
            flood_share: Some(port.flood_share),
            state: Some(word_of(STATE_WORDS, &port.state).to_owned()),
            locked: Some(port.locked),
            mab: Some(port.mab),
            group_fwd_mask: Some(port.group_fwd_mask),
            port_security: port.port_security.iter().map(ToString::to_string).collect(),
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

#[cfg(test)]
mod tests {
    use serde_json::to_value;

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
}
