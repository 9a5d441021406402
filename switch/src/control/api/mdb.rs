//! What the control API says of multicast groups.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{control::config::MdbConfig, snoop::Group, wire::MacAddr};

/// The multicast database of a bridge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MdbState {
    /// The bridge.
    pub bridge: String,
    /// Whether it snoops; not if it is told not to, and not after it had more groups than `mcast_hash_max`.
    pub snooping: bool,
    /// Groups and who is in them.
    pub entries: Vec<MdbEntry>,
    /// Who asks for members: for IGMP, for MLD. Without one, groups are flooded.
    pub queriers: Vec<MdbQuerier>,
    /// Where routers are.
    pub routers: Vec<MdbRouter>,
}

/// A group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MdbEntry {
    /// An IP or Ethernet group address.
    pub group: String,
    /// Of a permanent entry for one source: that source.
    pub source: Option<IpAddr>,
    /// Who is in it.
    pub members: Vec<MdbMember>,
}

/// A member of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MdbMember {
    /// The port; null for the overlay.
    pub port: Option<String>,
    /// The host, where each has a copy of its own (`mcast_to_unicast`).
    pub host: Option<MacAddr>,
    /// Whether a user wrote it down.
    pub permanent: bool,
    /// What its sources are.
    pub filter: Filter,
    /// Sources that it named.
    pub sources: Vec<MdbSource>,
    /// Seconds until it is forgotten, if nothing is heard; null: not by itself.
    pub expires_s: Option<u64>,
}

/// What a member's sources are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// It wants these and no others.
    Include,
    /// It wants all but those of these that have no time left.
    Exclude,
}

/// A source.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MdbSource {
    /// Its address.
    pub address: IpAddr,
    /// Seconds for which it is still wanted; null: it is not.
    pub expires_s: Option<u64>,
}

/// Who asks for members.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MdbQuerier {
    /// Its address; 0.0.0.0 for this bridge's own of IGMP.
    pub address: IpAddr,
    /// Whether it is this bridge.
    pub own: bool,
    /// The port that it is behind; null for the overlay and for this bridge.
    pub port: Option<String>,
    /// Seconds until it is believed gone.
    pub expires_s: Option<u64>,
}

/// A router.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MdbRouter {
    /// The port; null for the overlay.
    pub port: Option<String>,
    /// Seconds until it is believed gone; null: it is there by configuration.
    pub expires_s: Option<u64>,
}

/// `[[mdb]]` as a request.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MdbRequest {
    /// `bridge`
    pub bridge: String,
    /// `group`
    pub group: String,
    /// `source`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `port`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
}

impl From<&MdbConfig> for MdbRequest {
    fn from(entry: &MdbConfig) -> Self {
        let MdbConfig { bridge, group, source, port } = entry;
        Self {
            bridge: bridge.clone(),
            group: match group {
                Group::Ip(group) => group.to_string(),
                Group::Mac(group) => group.to_string(),
            },
            source: source.map(|source| source.to_string()),
            port: port.clone(),
        }
    }
}
