//! Reloaded while the switch runs: a file applied again, single bridges, ports and FDB entries.

use std::net::IpAddr;

use serde_json::Value;
use tracing::{info, warn};

use super::{ApplyError, Gone, Switch, port::OpenPort};
use crate::{
    control::api::{mdb::MdbRequest, model::Reloaded, request::FlushRequest},
    control::config::{Config, ConfigErrors, FdbConfig, FdbTarget, NetnsName},
    fdb::Flush,
    ids::{BridgeId, Endpoint, VtepId},
    wire::MacAddr,
};

/// Why a change was refused. The switch is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// What is wanted is wrong in itself, or beside what is there.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// It could not be made so.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// It names something that is not there.
    #[error("there is no {what} {name}")]
    NotFound {
        /// `bridge`, `port`, `VTEP`, `entry`, `neighbour` or `permanent entry`.
        what: &'static str,
        /// What was named.
        name: String,
    },
}

/// Whether a static entry is among those that a flush names.
fn asks_for(which: &FlushRequest, entry: &FdbConfig) -> bool {
    let (port, vtep) = match &entry.at {
        FdbTarget::Port(port) => (Some(port), None),
        FdbTarget::Vtep(vtep) => (None, Some(vtep.ip())),
        FdbTarget::Bridge => (None, None),
    };
    which.bridge.as_ref().is_none_or(|name| *name == entry.bridge)
        && (which.port.is_none() || which.port.as_ref() == port)
        && (which.vtep.is_none() || which.vtep == vtep)
}

impl Switch {
    /// Makes the switch what a file says, and keeps what was added while it ran and the file does not mention.
    ///
    /// # Errors
    /// The file and what was added contradict each other, or see [`ApplyError`].
    pub async fn reload(&mut self, file: Config) -> Result<Reloaded, RuntimeError> {
        let wanted = file.keeping(&self.config, &self.file)?;
        let applied = self.apply(wanted, Gone::Open(&file)).await;
        if matches!(applied, Ok(_) | Err(ApplyError::PortReopen { .. })) {
            self.file = file;
        }
        let changes = applied?;
        info!(added = ?changes.added, removed = ?changes.removed, changed = ?changes.changed, "configuration applied");
        Ok(changes)
    }

    /// The first file.
    pub(super) async fn apply_file(&mut self, file: Config) -> Result<(), ApplyError> {
        self.apply(file.clone(), Gone::Open(&file)).await?;
        self.file = file;
        Ok(())
    }

    /// Adds a port; `request` has the keys of `[[port]]`.
    ///
    /// # Errors
    /// See [`RuntimeError`]. So for all that follow.
    pub async fn add_port(&mut self, request: &Value) -> Result<Reloaded, RuntimeError> {
        let wanted = self.config.with_port(request)?;
        wanted.check_last_namespace()?;
        Ok(self.apply(wanted, Gone::Stay).await?)
    }

    /// Removes a port by its full name, and the static entries behind it.
    pub async fn remove_port(&mut self, full_name: &str) -> Result<Reloaded, RuntimeError> {
        let wanted = self.config.without_port(full_name)?;
        Ok(self.apply(wanted, Gone::Stay).await?)
    }

    /// A port that was added while weft runs, for a process, goes when that has ended: nobody would take it out.
    pub(super) async fn remove_ended_ports(&mut self) {
        let is_ended = |port: &OpenPort| {
            port.is_gone()
                && matches!(port.config.netns, NetnsName::Pid(_))
                && self.file.port(&port.config.full_name()).is_none()
        };
        let ended: Vec<_> = self.ports.iter().filter(|(_, port)| is_ended(port)).collect();
        let names: Vec<_> = ended.iter().map(|(_, port)| port.config.full_name()).collect();
        for name in names {
            match self.remove_port(&name).await {
                Ok(_) => info!(port = name, "its process has ended, and it was no port of the configuration: removed"),
                Err(error) => warn!(port = name, %error, "a port whose process has ended can't be removed"),
            }
        }
    }

    /// Adds a bridge; `request` has the keys of `[[bridge]]`.
    pub async fn add_bridge(&mut self, request: &Value) -> Result<Reloaded, RuntimeError> {
        let wanted = self.config.with_bridge(request)?;
        Ok(self.apply(wanted, Gone::Stay).await?)
    }

    /// Removes a bridge that no port belongs to.
    pub async fn remove_bridge(&mut self, name: &str) -> Result<Reloaded, RuntimeError> {
        let wanted = self.config.without_bridge(name)?;
        Ok(self.apply(wanted, Gone::Stay).await?)
    }

    /// Adds a static entry; `request` has the keys of `[[fdb]]`.
    pub async fn add_entry(&mut self, request: &Value) -> Result<Reloaded, RuntimeError> {
        let wanted = self.config.with_fdb(request)?;
        Ok(self.apply(wanted, Gone::Stay).await?)
    }

    /// Removes an entry, static or learned.
    pub async fn remove_entry(&mut self, bridge: &str, mac: MacAddr) -> Result<(), RuntimeError> {
        let id = self.known_bridge(bridge)?;
        if let Ok(wanted) = self.config.without_fdb(bridge, mac) {
            self.apply(wanted, Gone::Stay).await?;
            return Ok(());
        }
        match self.shared.fdb.remove(id, mac) {
            Some(_) => Ok(()),
            None => Err(RuntimeError::NotFound { what: "entry", name: format!("for {mac} in bridge {bridge}") }),
        }
    }

    /// Adds a neighbour; `request` has the keys of `[[neigh]]`.
    pub async fn add_neigh(&mut self, request: &Value) -> Result<Reloaded, RuntimeError> {
        let wanted = self.config.with_neigh(request)?;
        Ok(self.apply(wanted, Gone::Stay).await?)
    }

    /// Removes a neighbour.
    pub async fn remove_neigh(&mut self, bridge: &str, ip: IpAddr) -> Result<Reloaded, RuntimeError> {
        self.known_bridge(bridge)?;
        let wanted = self
            .config
            .without_neigh(bridge, ip)
            .map_err(|_| RuntimeError::NotFound { what: "neighbour", name: format!("{ip} in bridge {bridge}") })?;
        Ok(self.apply(wanted, Gone::Stay).await?)
    }

    /// Adds a permanent member of a multicast group; `request` has the keys of `[[mdb]]`.
    pub async fn add_mdb(&mut self, request: &Value) -> Result<Reloaded, RuntimeError> {
        let wanted = self.config.with_mdb(request)?;
        Ok(self.apply(wanted, Gone::Stay).await?)
    }

    /// Removes one.
    pub async fn remove_mdb(&mut self, request: &MdbRequest) -> Result<Reloaded, RuntimeError> {
        self.known_bridge(&request.bridge)?;
        let member = request.port.as_deref().unwrap_or("the overlay");
        let name = || format!("of {member} in group {} of bridge {}", request.group, request.bridge);
        let wanted = self
            .config
            .without_mdb(request)
            .map_err(|_| RuntimeError::NotFound { what: "permanent entry", name: name() })?;
        Ok(self.apply(wanted, Gone::Stay).await?)
    }

    /// Flushes entries and says how many they were.
    pub async fn flush(&mut self, which: &FlushRequest) -> Result<usize, RuntimeError> {
        let bridge = which.bridge.as_ref().map(|name| self.known_bridge(name)).transpose()?;
        let port = match &which.port {
            None => None,
            Some(name) => Some(Endpoint::Port(self.port_id(name).ok_or_else(|| not_found("port", name))?)),
        };
        let places = match (port, which.vtep) {
            (None, None) => vec![None],
            (Some(port), None) => vec![Some(port)],
            (None, Some(address)) => {
                self.vteps_at(address)?.into_iter().map(|vtep| Some(Endpoint::Vtep(vtep))).collect()
            }
            // Nothing is behind both.
            (Some(_), Some(_)) => return Ok(0),
        };
        let statics = which.include_static;
        let flushed = places.into_iter().map(|at| self.shared.fdb.flush(Flush { bridge, at, statics })).sum();
        if statics {
            // Out of the configuration too, or the next change would put them back.
            self.apply(self.config.without_entries(|entry| asks_for(which, entry)), Gone::Stay).await?;
        }
        Ok(flushed)
    }

    fn known_bridge(&self, name: &str) -> Result<BridgeId, RuntimeError> {
        self.bridge_id(name).ok_or_else(|| not_found("bridge", name))
    }

    /// The VTEPs at an address, whatever their port.
    fn vteps_at(&self, address: IpAddr) -> Result<Vec<VtepId>, RuntimeError> {
        let all = (0..).map(VtepId).zip(self.shared.vteps.all());
        let found: Vec<_> = all.filter(|(_, vtep)| vtep.ip() == address).map(|(id, _)| id).collect();
        if found.is_empty() { Err(not_found("VTEP", &address.to_string())) } else { Ok(found) }
    }
}

fn not_found(what: &'static str, name: &str) -> RuntimeError {
    RuntimeError::NotFound { what, name: name.to_owned() }
}
