//! The checked types: what the rest of weft sees of a configuration, with every default filled in. A file for each table; the
//! three whose entries are short share `entries`.

mod bridge;
mod entries;
mod netns;
mod port;
mod switch;
mod vtep;

use std::collections::BTreeSet;

use weft_vxlan::HeaderFormat;

pub use self::{bridge::*, entries::*, netns::*, port::*, switch::*, vtep::*};
use super::origin::Origin;

/// A whole configuration, checked. What was left out has its default here.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// `[switch]`
    pub switch: SwitchConfig,
    /// `[vtep]`; `None`: a local switch without overlay.
    pub vtep: Option<VtepConfig>,
    /// `[[bridge]]`, in the file's order.
    pub bridges: Vec<BridgeConfig>,
    /// `[[port]]`, in the file's order.
    pub ports: Vec<PortConfig>,
    /// `[[fdb]]`: static entries.
    pub fdb: Vec<FdbConfig>,
    /// `[[neigh]]`: who has which IP address.
    pub neigh: Vec<NeighConfig>,
    /// `[[mdb]]`: permanent members of multicast groups.
    pub mdb: Vec<MdbConfig>,
    /// Where all this stood, for messages. Equal to any other origin, so that comparing two configurations compares what
    /// they mean; `Origin::default()` for a configuration that never was a file.
    pub origin: Origin,
}

impl Config {
    /// Nothing but defaults: no overlay, no bridges, no ports.
    pub fn empty() -> Self {
        Self {
            switch: SwitchConfig::default(),
            vtep: None,
            bridges: Vec::new(),
            ports: Vec::new(),
            fdb: Vec::new(),
            neigh: Vec::new(),
            mdb: Vec::new(),
            origin: Origin::default(),
        }
    }

    /// The bridge of this name.
    pub fn bridge(&self, name: &str) -> Option<&BridgeConfig> {
        self.bridges.iter().find(|bridge| bridge.name == name)
    }

    /// The formats that are listened for: those of all bridges that reach VTEPs, and if there is none the VTEP's own.
    pub fn formats(&self) -> Vec<HeaderFormat> {
        let reaching = self.bridges.iter().filter(|bridge| bridge.vni.is_some());
        let spoken: BTreeSet<_> = reaching.map(|bridge| bridge.encapsulation.format()).collect();
        match &self.vtep {
            Some(vtep) if spoken.is_empty() => vec![vtep.encapsulation.format()],
            Some(_) => spoken.into_iter().collect(),
            None => vec![],
        }
    }

    /// The port of this full name, [`PortConfig::full_name`].
    pub fn port(&self, full_name: &str) -> Option<&PortConfig> {
        self.ports.iter().find(|port| port.full_name() == full_name)
    }
}

/// How the configuration writes `value`, by the list that it reads with; each list has all values.
pub fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word)
}
