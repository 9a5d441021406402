//! Configuration and open ports in, tables out.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use weft_vxlan::vtep::TableFull;

use super::{Slots, port::OpenPort, snooping::Snooping};
use crate::{
    bridge::{
        Bridge, Membership, Neigh, Overlay, PROVIDER_GROUPS, PortEntry, PortOptions, PortSecurity, Tables,
        TunnelOptions,
    },
    control::config::{
        self, BridgeConfig, Config, Df, FdbConfig, FdbFull, FdbKind, FdbTarget, InnerVlan, Peers, PortConfig, Tos, Ttl,
        VtepConfig,
    },
    fdb::Limit,
    ids::{BridgeId, PortId, VtepId},
    wire::Tpid,
    worker::SharedVteps,
};

/// Builds the snapshot that workers forward by.
///
/// # Errors
/// The configuration names more VTEPs than there is room for.
pub(super) fn tables(
    config: &Config,
    ports: &Slots<OpenPort>,
    bridges: &Slots<String>,
    vteps: &SharedVteps,
    snooping: &Snooping,
    underlay_mtu: Option<u32>,
) -> Result<Tables, TableFull> {
    let overlay = config.vtep.as_ref().map(|vtep| overlay(vtep, bridges, underlay_mtu));
    let mut tables = Tables { overlay, ..Tables::default() };
    for (id, port) in ports.iter().filter(|(_, port)| !port.is_gone()) {
        let entry = port_entry(port, ports, bridges);
        put(&mut tables.ports, id, entry);
    }
    for (id, name) in bridges.iter() {
        let Some(config_of) = config.bridge(name) else { continue };
        let mut bridge = bridge(config, config_of, BridgeId(id), ports, &tables, vteps)?;
        bridge.mdb = snooping.mdb(BridgeId(id));
        if let Some(vni) = bridge.vni {
            tables.by_vni.insert(vni, BridgeId(id));
        }
        put(&mut tables.bridges, id, bridge);
    }
    Ok(tables)
}

fn put<T>(row: &mut Vec<Option<T>>, id: u16, thing: T) {
    let index = usize::from(id);
    if row.len() <= index {
        row.resize_with(index + 1, || None);
    }
    row[index] = Some(thing);
}

/// Without an open underlay, and so without its MTU, nothing is sent.
fn overlay(vtep: &VtepConfig, bridges: &Slots<String>, underlay_mtu: Option<u32>) -> Overlay {
    Overlay {
        local: SocketAddr::new(vtep.address, vtep.port),
        gpe_port: vtep.gpe_port,
        geneve_port: vtep.geneve_port,
        any_peer: vtep.peers == Peers::Any,
        unknown_vni: vtep.unknown_vni.as_ref().and_then(|name| bridge_id(name, bridges)),
        refused_bits: vtep.reserved_bits.mask(),
        ecn: vtep.ecn,
        inner_vlan_passes: vtep.inner_vlan == InnerVlan::Pass,
        ttl: match vtep.ttl {
            Ttl::Fixed(ttl) => Some(ttl),
            Ttl::Inherit => None,
        },
        tos: match vtep.tos {
            Tos::Fixed(tos) => Some(tos),
            Tos::Inherit => None,
        },
        dont_fragment: match vtep.df {
            Df::Set => Some(true),
            Df::Unset => Some(false),
            Df::Inherit => None,
        },
        oversize: vtep.oversize,
        underlay_mtu: underlay_mtu.unwrap_or(u32::MAX),
        path_mtus: Vec::new(),
        stations_wanted: Vec::new(),
    }
}

fn port_entry(port: &OpenPort, ports: &Slots<OpenPort>, bridges: &Slots<String>) -> PortEntry {
    PortEntry {
        membership: membership(&port.config, bridges),
        options: options(&port.config, ports),
        security: PortSecurity::new(&port.config.port_security),
        mtu: u16::try_from(port.link.mtu).unwrap_or(u16::MAX),
        up: port.is_up(),
    }
}

fn options(config: &PortConfig, ports: &Slots<OpenPort>) -> PortOptions {
    let backup_port = config.backup_port.as_ref().and_then(|name| {
        let (id, _) = ports.find(|port| port.config.full_name() == *name)?;
        Some(PortId(id))
    });
    PortOptions {
        state: config.state,
        locked: config.locked,
        mab: config.mab,
        group_fwd_mask: config.group_fwd_mask,
        fdb_max_learned: config.fdb_max_learned,
        neigh_suppress: config.neigh_suppress,
        proxy_arp: config.proxy_arp,
        proxy_arp_wifi: config.proxy_arp_wifi,
        backup_port,
        vlan_protocol: config.vlan_protocol,
        learning: config.learning,
        // Nothing is flooded to a port that asks for answers (`br_forward.c`: `br_flood`).
        flood: config.flood && !config.proxy_arp,
        mcast_flood: config.mcast_flood && !config.proxy_arp,
        bcast_flood: config.bcast_flood && !config.proxy_arp,
        hairpin: config.hairpin,
        isolated: config.isolated,
        gbp_policy: config.gbp_policy,
        flood_share: config.flood_share,
    }
}

/// A bridge that a checked configuration names has a number before anything is built.
fn bridge_id(name: &String, bridges: &Slots<String>) -> Option<BridgeId> {
    bridges.find(|other| other == name).map(|(id, _)| BridgeId(id))
}

fn membership(config: &PortConfig, bridges: &Slots<String>) -> Membership {
    let id = |name: &String| bridge_id(name, bridges);
    match &config.membership {
        config::Membership::Access(bridge) => match id(bridge) {
            Some(bridge) => Membership::Access(bridge),
            None => Membership::trunk(&[], None),
        },
        config::Membership::Trunk { vlans, native } => {
            let vlans: Vec<_> = vlans.iter().filter_map(|(vid, bridge)| Some((*vid, id(bridge)?))).collect();
            let native = native.as_ref().and_then(id);
            match &config.untagged {
                None => Membership::trunk(&vlans, native),
                Some(untagged) => Membership::trunk_untagging(&vlans, native, |vid, _| untagged.contains(&vid)),
            }
        }
    }
}

fn bridge(
    config: &Config,
    bridge: &BridgeConfig,
    id: BridgeId,
    ports: &Slots<OpenPort>,
    tables: &Tables,
    vteps: &SharedVteps,
) -> Result<Bridge, TableFull> {
    let member = |port: &u16| tables.port(PortId(*port)).is_some_and(|entry| entry.membership.carries(id));
    let members: Vec<u16> = ports.iter().map(|(port, _)| port).filter(member).collect();
    let mut known_vteps: HashMap<IpAddr, VtepId, _> = HashMap::default();
    let mut flood_list = Vec::new();
    for remote in &bridge.remotes {
        let vtep = vteps.intern(*remote)?;
        flood_list.push(vtep);
        known_vteps.insert(remote.ip(), vtep);
    }
    for entry in config.fdb.iter().filter(|entry| entry.bridge == bridge.name) {
        if let FdbTarget::Vtep(address) = &entry.at {
            let vtep = vteps.intern(*address)?;
            known_vteps.entry(address.ip()).or_insert(vtep);
        }
    }
    let wants_answers = |port: &u16| {
        tables.port(PortId(*port)).is_some_and(|entry| {
            let PortOptions { neigh_suppress, proxy_arp, proxy_arp_wifi, .. } = entry.options;
            neigh_suppress || proxy_arp || proxy_arp_wifi
        })
    };
    let answers = bridge.neigh_suppress || members.iter().any(wants_answers);
    let permanent = |entry: &&FdbConfig| entry.bridge == bridge.name && entry.kind == FdbKind::Permanent;
    let permanent = config.fdb.iter().filter(permanent).map(|entry| entry.mac);
    Ok(Bridge {
        vni: bridge.vni,
        encapsulation: bridge.encapsulation,
        geneve_options: bridge.geneve_options.clone(),
        local_macs: members.iter().filter_map(|port| ports.get(*port)?.local_mac()).chain(permanent).collect(),
        ports: members.into_iter().map(PortId).collect(),
        flood_list,
        known_vteps,
        learning: bridge.learning && !bridge.ageing.is_zero(),
        ageing: bridge.ageing,
        tunnel: TunnelOptions {
            learning: bridge.vxlan_learning,
            proxy: bridge.proxy,
            rsc: bridge.rsc,
            l2miss: bridge.l2miss,
            l3miss: bridge.l3miss,
        },
        limit: Limit {
            max_learned: bridge.fdb_max_learned,
            evict: bridge.fdb_full == FdbFull::Evict,
            max_remote: bridge.maxaddress.map(|most| max_remote(config, bridge, most)),
        },
        group_fwd_mask: bridge.group_fwd_mask
            | match bridge.vlan_protocol {
                Tpid::Customer => 0,
                Tpid::Service => PROVIDER_GROUPS,
            },
        neighs: config
            .neigh
            .iter()
            .filter(|neigh| neigh.bridge == bridge.name)
            .map(|neigh| (neigh.ip, Neigh { mac: neigh.mac, router: neigh.router }))
            .collect(),
        no_linklocal_learn: bridge.no_linklocal_learn,
        neigh_suppress: bridge.neigh_suppress,
        answers,
        mdb: None,
        mss_clamp: bridge.mss_clamp,
    })
}

/// What `maxaddress` leaves to be learned: the kernel counts every entry of the vxlan device, static ones and the default
/// one (the flood list) too (`vxlan_core.c`: `vxlan_fdb_create`).
fn max_remote(config: &Config, bridge: &BridgeConfig, most: u32) -> usize {
    let remote = |entry: &&FdbConfig| entry.bridge == bridge.name && matches!(entry.at, FdbTarget::Vtep(_));
    let named = config.fdb.iter().filter(remote).count() + usize::from(!bridge.remotes.is_empty());
    (most as usize).saturating_sub(named)
}
