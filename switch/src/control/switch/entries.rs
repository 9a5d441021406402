//! The FDB after a change: what the new tables no longer allow is forgotten, and static entries are as the configuration
//! says.

use std::{collections::HashSet, time::Duration};

use tracing::warn;
use weft_vxlan::vtep::TableFull;

use super::Switch;
use crate::{
    bridge::Tables,
    control::{
        api::model::Happening,
        config::{BridgeConfig, Config, FdbConfig, FdbTarget, Peers},
    },
    fdb::{Flush, Origin},
    ids::{BridgeId, Endpoint, PortId},
};

impl Switch {
    /// Forgets learned entries that the new tables no longer allow: of ports that left a bridge, of VTEPs that are spoken to
    /// in another format now, of VTEPs that nobody names any more.
    pub(super) fn forget_what_is_not(&self, old: &Config) {
        let tables = self.shared.tables.load();
        for (id, port) in self.ports.iter() {
            let was = old.port(&port.config.full_name());
            let before = was.map(|port| &port.membership);
            if before.is_some_and(|before| *before != port.config.membership) {
                self.flush_foreign_bridges(&tables, PortId(id));
            }
            if was.is_some_and(|was| was.mab) && !port.config.mab {
                self.shared.fdb.flush_locked(Endpoint::Port(PortId(id)));
            }
        }
        for (id, _) in tables.bridge_ids() {
            let of = |config: &Config| {
                let bridge = config.bridge(self.bridges.get(id.0)?)?;
                Some((bridge.encapsulation.format(), bridge.vni))
            };
            // They are reached at another port now, or are stations of another network.
            if of(old).is_some_and(|before| Some(before) != of(&self.config)) {
                for vtep in self.shared.fdb.vteps_learned(id) {
                    self.shared.fdb.flush(Flush { bridge: Some(id), at: Some(Endpoint::Vtep(vtep)), statics: false });
                }
            }
        }
        let known_only = self.config.vtep.as_ref().is_none_or(|vtep| vtep.peers == Peers::Known);
        for (id, bridge) in tables.bridge_ids().filter(|_| known_only) {
            let named: HashSet<_> = bridge.known_vteps.values().copied().collect();
            for vtep in self.shared.fdb.vteps_learned(id).into_iter().filter(|vtep| !named.contains(vtep)) {
                self.shared.fdb.flush(Flush { bridge: Some(id), at: Some(Endpoint::Vtep(vtep)), statics: false });
            }
        }
    }

    /// An address of the bridge's own that was learned elsewhere is forgotten there (`br_fdb.c`: `fdb_add_local`). To be
    /// called when all workers know the addresses.
    pub(super) fn forget_local_addresses(&self) {
        for (id, bridge) in self.shared.tables.load().bridge_ids() {
            for mac in bridge.local_macs.iter().filter(|mac| !self.shared.fdb.is_static(id, **mac)) {
                if let Some(entry) = self.shared.fdb.remove(id, *mac) {
                    let (bridge, at) = (self.bridge_name(id), self.endpoint_name(entry.at));
                    warn!(bridge, %mac, at, "an address of the bridge's own was seen elsewhere, and is forgotten there");
                }
            }
        }
    }

    pub(super) fn forget_what_is_old(&self) {
        let ageing = |id: BridgeId| {
            let bridge = self.bridges.get(id.0).and_then(|name| self.config.bridge(name));
            bridge.map_or(Duration::ZERO, |bridge: &BridgeConfig| bridge.ageing)
        };
        let aged = self.shared.fdb.age(self.clock.now(), ageing);
        if aged > 0 {
            tracing::debug!(entries = aged, "addresses aged out");
            self.feed.tell(|| Happening::Aged { entries: aged as u64 });
        }
    }

    fn flush_foreign_bridges(&self, tables: &Tables, port: PortId) {
        for (bridge, _) in tables.bridge_ids() {
            if !tables.port(port).is_some_and(|entry| entry.membership.carries(bridge)) {
                let at = Some(Endpoint::Port(port));
                self.shared.fdb.flush(Flush { bridge: Some(bridge), at, statics: true });
            }
        }
    }

    /// Takes out the static entries that are no longer wanted, and puts in those that are.
    pub(super) fn set_static_entries(&self, old: &Config) -> Result<(), TableFull> {
        for entry in old.fdb.iter().filter(|entry| !self.config.fdb.contains(entry)) {
            if let Some(bridge) = self.bridge_id(&entry.bridge) {
                self.shared.fdb.remove(bridge, entry.mac);
            }
        }
        for entry in &self.config.fdb {
            let (Some(bridge), Some(at)) = (self.bridge_id(&entry.bridge), self.endpoint(entry)?) else { continue };
            let Some(origin) = entry.kind.origin() else { continue };
            // An entry that is there already may have moved; it is put back only where the configuration changed. A learned
            // one took its place while its port was gone, or because it was `extern_learn`, which is to give way.
            let gave_way = || match origin {
                Origin::ExternLearn => self.shared.fdb.lookup(bridge, entry.mac).is_none(),
                Origin::Static | Origin::Sticky | Origin::Learned => !self.shared.fdb.is_static(bridge, entry.mac),
            };
            if !old.fdb.contains(entry) || gave_way() {
                self.shared.fdb.add_static(bridge, entry.mac, at, origin, self.clock.now());
            }
        }
        Ok(())
    }

    pub(super) fn endpoint(&self, entry: &FdbConfig) -> Result<Option<Endpoint>, TableFull> {
        Ok(match &entry.at {
            FdbTarget::Port(name) => self.port_id(name).map(Endpoint::Port),
            FdbTarget::Vtep(address) => Some(Endpoint::Vtep(self.shared.vteps.intern(*address)?)),
            FdbTarget::Bridge => None,
        })
    }
}
