//! Changes while the switch runs: a file applied again, single bridges, ports and FDB entries.

use std::net::SocketAddr;

use serde_json::Value;
use tracing::info;

use super::{ApplyError, Changes, Switch};
use crate::{
    control::config::{Config, ConfigErrors, FdbConfig, FdbTarget},
    fdb::Flush,
    ids::{BridgeId, Endpoint, VtepId},
    wire::MacAddr,
};

/// Why a change was refused. The switch is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// What is wanted is wrong in itself, or beside what is there.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// It could not be made so.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// It names something that is not there.
    #[error("there is no {what} {name}")]
    NotFound {
        /// `bridge`, `port`, `VTEP` or `entry`.
        what: &'static str,
        /// What was named.
        name: String,
    },
}

/// Which FDB entries a user wants flushed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlushRequest {
    /// Only of this bridge.
    pub bridge: Option<String>,
    /// Only at this port.
    pub port: Option<String>,
    /// Only at this VTEP.
    pub vtep: Option<SocketAddr>,
    /// Static ones too.
    pub statics: bool,
}

impl FlushRequest {
    fn matches(&self, entry: &FdbConfig) -> bool {
        let (port, vtep) = match &entry.at {
            FdbTarget::Port(port) => (Some(port), None),
            FdbTarget::Vtep(vtep) => (None, Some(*vtep)),
        };
        self.bridge.as_ref().is_none_or(|name| *name == entry.bridge)
            && (self.port.is_none() || self.port.as_ref() == port)
            && self.vtep.is_none_or(|wanted| vtep.is_some_and(|at| matches_vtep(at, wanted)))
    }
}

impl Switch {
    /// Makes the switch what a file says, and keeps what was added while it ran and the file does not mention.
    ///
    /// # Errors
    /// The file and what was added contradict each other, or see [`ApplyError`].
    pub async fn reload(&mut self, file: Config) -> Result<Changes, RuntimeError> {
        let wanted = file.keeping(&self.config, &self.file)?;
        let changes = self.apply(wanted).await?;
        self.file = file;
        info!(opened = ?changes.opened, closed = ?changes.closed, changed = ?changes.changed, "configuration applied");
        Ok(changes)
    }

    /// The first file.
    pub(super) async fn apply_file(&mut self, file: Config) -> Result<(), ApplyError> {
        self.apply(file.clone()).await?;
        self.file = file;
        Ok(())
    }

    /// Adds a port; `request` has the keys of `[[port]]`.
    ///
    /// # Errors
    /// See [`RuntimeError`]. So for all that follow.
    pub async fn add_port(&mut self, request: &Value) -> Result<Changes, RuntimeError> {
        let wanted = self.config.with_port(request)?;
        wanted.check_namespaces()?;
        Ok(self.apply(wanted).await?)
    }

    /// Removes a port by its full name, and the static entries behind it.
    pub async fn remove_port(&mut self, full_name: &str) -> Result<Changes, RuntimeError> {
        let wanted = self.config.without_port(full_name)?;
        Ok(self.apply(wanted).await?)
    }

    /// Adds a bridge; `request` has the keys of `[[bridge]]`.
    pub async fn add_bridge(&mut self, request: &Value) -> Result<Changes, RuntimeError> {
        let wanted = self.config.with_bridge(request)?;
        Ok(self.apply(wanted).await?)
    }

    /// Removes a bridge that no port belongs to.
    pub async fn remove_bridge(&mut self, name: &str) -> Result<Changes, RuntimeError> {
        let wanted = self.config.without_bridge(name)?;
        Ok(self.apply(wanted).await?)
    }

    /// Adds a static entry; `request` has the keys of `[[fdb]]`.
    pub async fn add_entry(&mut self, request: &Value) -> Result<Changes, RuntimeError> {
        let wanted = self.config.with_fdb(request)?;
        Ok(self.apply(wanted).await?)
    }

    /// Removes an entry, static or learned.
    pub async fn remove_entry(&mut self, bridge: &str, mac: MacAddr) -> Result<(), RuntimeError> {
        let id = self.known_bridge(bridge)?;
        if let Ok(wanted) = self.config.without_fdb(bridge, mac) {
            self.apply(wanted).await?;
            return Ok(());
        }
        match self.shared.fdb.remove(id, mac) {
            Some(_) => Ok(()),
            None => Err(RuntimeError::NotFound { what: "entry", name: format!("for {mac} in bridge {bridge}") }),
        }
    }

    /// Flushes entries and says how many they were.
    pub async fn flush(&mut self, which: &FlushRequest) -> Result<usize, RuntimeError> {
        let bridge = which.bridge.as_ref().map(|name| self.known_bridge(name)).transpose()?;
        let port = match &which.port {
            None => None,
            Some(name) => Some(Endpoint::Port(self.port_id(name).ok_or_else(|| not_found("port", name))?)),
        };
        let vteps = match which.vtep {
            None => vec![],
            Some(address) => self.vteps_at(address)?,
        };
        if which.statics {
            self.apply(self.config.without_entries(|entry| which.matches(entry))).await?;
        }
        let flush = |at| self.shared.fdb.flush(Flush { bridge, at, statics: which.statics });
        Ok(if vteps.is_empty() {
            flush(port)
        } else {
            vteps.into_iter().map(|vtep| flush(Some(Endpoint::Vtep(vtep)))).sum()
        })
    }

    fn known_bridge(&self, name: &str) -> Result<BridgeId, RuntimeError> {
        self.bridge_id(name).ok_or_else(|| not_found("bridge", name))
    }

    /// A VTEP that a user names by its address alone is meant at any port.
    fn vteps_at(&self, wanted: SocketAddr) -> Result<Vec<VtepId>, RuntimeError> {
        let all = (0..).map(VtepId).zip(self.shared.vteps.all());
        let found: Vec<_> = all.filter(|(_, at)| matches_vtep(*at, wanted)).map(|(id, _)| id).collect();
        if found.is_empty() { Err(not_found("VTEP", &wanted.ip().to_string())) } else { Ok(found) }
    }
}

/// Port 0 in `wanted` means any.
fn matches_vtep(at: SocketAddr, wanted: SocketAddr) -> bool {
    at.ip() == wanted.ip() && (wanted.port() == 0 || wanted.port() == at.port())
}

fn not_found(what: &'static str, name: &str) -> RuntimeError {
    RuntimeError::NotFound { what, name: name.to_owned() }
}
