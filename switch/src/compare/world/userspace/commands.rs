//! What a user does to a running weft: entries, members of groups, ports in and out of their bridge.

use serde_json::json;

use super::{DEFAULT_PVID, WeftWorld, is_unknown, said};
use crate::{
    compare::{
        case::{At, FdbAdd, Kind, MdbAdd, PORTS, UNDERLAY, Value, access},
        world::{CompareError, links::counter_in},
    },
    control::{
        api::{mdb::MdbRequest, model::LinkState, request::FlushRequest},
        switch::RuntimeError,
    },
    wire::MacAddr,
};

impl WeftWorld {
    pub(super) fn fdb_add(&mut self, entry: &FdbAdd) -> Result<Result<(), String>, CompareError> {
        if let (None, At::Port(port), Some(vlans)) = (entry.vid, entry.at, &self.scene.setup.vlans) {
            // An entry for each of its VLANs.
            let vids: Vec<_> = vlans.get(&port).into_iter().flatten().map(|member| member.vid).collect();
            for vid in vids {
                if let Err(why) = self.fdb_add(&FdbAdd { vid: Some(vid), ..entry.clone() })? {
                    return Ok(Err(why));
                }
            }
            return Ok(Ok(()));
        }
        let bridge = self.bridge_of(entry.vid);
        let mut request = json!({"bridge": bridge, "mac": entry.mac});
        match entry.at {
            At::Port(port) => request["port"] = self.full_name(port).into(),
            At::Vtep(vtep) => request["vtep"] = vtep.to_string().into(),
        }
        match entry.kind {
            Kind::Static => {}
            Kind::Sticky => request["sticky"] = true.into(),
            Kind::External => request["extern_learn"] = true.into(),
            Kind::Learned | Kind::Locked => {
                return Err(CompareError::Lacks(format!("nobody adds a {} entry to weft by hand", entry.kind)));
            }
        }
        // As `bridge fdb replace`: whatever was there goes.
        let named = self.switch.config().fdb.iter().any(|other| other.bridge == bridge && other.mac == entry.mac);
        let done = self.runtime.block_on(async {
            if named {
                self.switch.remove_entry(&bridge, entry.mac).await?;
            }
            self.switch.add_entry(&request).await
        });
        match done {
            Ok(_) => Ok(Ok(())),
            Err(RuntimeError::Config(errors)) if is_unknown(&errors) => Err(CompareError::Lacks(said(&errors))),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    pub(super) fn fdb_delete(&mut self, mac: MacAddr, vid: Option<u16>) -> Result<(), String> {
        let bridge = self.bridge_of(vid);
        self.runtime.block_on(self.switch.remove_entry(&bridge, mac)).map_err(|error| error.to_string())
    }

    /// weft has no default for a PVID: the file says of each port what it is. As `br_vlan.c`: `__br_vlan_set_default_pvid`, a port
    /// that is a member of the new one stays as it is, and so does one that is none of the old one.
    pub(super) fn default_pvid(&mut self, value: &Value) -> Result<Result<(), String>, CompareError> {
        let Value::Number(new) = value else { return Ok(Err("no number".to_owned())) };
        let new = u16::try_from(*new).unwrap_or(0);
        let old = match self.scene.setup.bridge.get(DEFAULT_PVID) {
            Some(Value::Number(old)) => u16::try_from(*old).unwrap_or(0),
            Some(Value::Switch(_) | Value::Word(_)) | None => 0,
        };
        self.change(|scene| {
            scene.setup.bridge.insert(DEFAULT_PVID.to_owned(), value.clone());
            let Some(vlans) = &mut scene.setup.vlans else { return };
            for port in 1..=PORTS {
                let members = vlans.entry(port).or_default();
                let has_old = members.iter().any(|member| *member == access(old));
                if old != 0 && !has_old || members.iter().any(|member| member.vid == new) {
                    continue;
                }
                members.retain(|member| old == 0 || member.vid != old);
                if new != 0 {
                    members.iter_mut().for_each(|member| member.pvid = false);
                    members.push(access(new));
                }
            }
        })
    }

    pub(super) fn attach(&mut self, port: u8, on: bool) -> Result<(), CompareError> {
        if on {
            let refused =
                |why| CompareError::Late { world: "weft", what: format!("port {port} in its bridge ({why})") };
            self.change(|scene| _ = scene.detached.remove(&port))?.map_err(refused)?;
            return self.until(port, LinkState::Up);
        }
        let (name, counted) = (self.full_name(port), self.counters_since());
        match self.runtime.block_on(self.switch.remove_port(&name)) {
            Ok(_) => {
                self.scene.detached.insert(port);
                // Its counters go with it, and begin anew when it is back.
                for name in [counter_in(port), format!("port {port} out")] {
                    let counted = counted.get(&name).copied().unwrap_or(0);
                    self.base.insert(name, -(counted as i64));
                }
                Ok(())
            }
            Err(RuntimeError::Apply(error)) => Err(error.into()),
            Err(error) => Err(CompareError::Lacks(format!("weft does not take the port out: {error}"))),
        }
    }

    pub(super) fn mdb_add(&mut self, entry: &MdbAdd) -> Result<Result<(), String>, CompareError> {
        let mut request = json!({"bridge": self.scene.bridge(), "group": entry.group.to_string()});
        if entry.port != UNDERLAY {
            request["port"] = self.full_name(entry.port).into();
        }
        if let Some(source) = entry.source {
            request["source"] = source.to_string().into();
        }
        match self.runtime.block_on(self.switch.add_mdb(&request)) {
            Ok(_) => Ok(Ok(())),
            Err(RuntimeError::Apply(error)) => Err(error.into()),
            Err(error) => Ok(Err(error.to_string())),
        }
    }

    pub(super) fn mdb_delete(&mut self, entry: &MdbAdd) -> Result<(), String> {
        let request = MdbRequest {
            bridge: self.scene.bridge().to_owned(),
            group: entry.group.to_string(),
            source: entry.source.map(|source| source.to_string()),
            port: (entry.port != UNDERLAY).then(|| self.full_name(entry.port)),
        };
        let removed = self.runtime.block_on(self.switch.remove_mdb(&request));
        removed.map(|_| ()).map_err(|error| error.to_string())
    }

    pub(super) fn flush(&mut self, port: Option<u8>, statics: bool) -> Result<(), String> {
        let request = FlushRequest {
            bridge: None,
            port: port.map(|port| self.full_name(port)),
            vtep: None,
            include_static: statics,
        };
        self.runtime.block_on(self.switch.flush(&request)).map(|_| ()).map_err(|error| error.to_string())
    }
}
