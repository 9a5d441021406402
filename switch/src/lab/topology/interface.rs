//! `[[host.interface]]`: what an interface is made as.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Prefix;
use crate::wire::MacAddr;

/// What an interface is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One end of a cable; `peer` is the other.
    #[default]
    Veth,
    /// A kernel bridge.
    Bridge,
    /// A kernel VTEP.
    Vxlan,
    /// A VLAN of its `parent`.
    Vlan,
    /// A further MAC address on its `parent`, which may be another host's interface.
    Macvlan,
    /// Further IP addresses on its `parent` with the same MAC address; the parent may be another host's interface.
    Ipvlan,
    /// A tap. They are not written here: the ports of `[host.weft]` make them.
    #[serde(skip_deserializing)]
    Tap,
    /// The loopback interface, which is there: for further addresses.
    Loopback,
}

impl Kind {
    /// The kernel's word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Veth => "veth",
            Self::Bridge => "bridge",
            Self::Vxlan => "vxlan",
            Self::Vlan => "vlan",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
            Self::Tap => "tap",
            Self::Loopback => "loopback",
        }
    }
}

/// `[[host.interface]]`
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Its name in its host.
    pub name: String,
    /// What it is.
    #[serde(default)]
    pub kind: Kind,
    /// Addresses with their prefix lengths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address: Vec<Prefix>,
    /// Its own hardware address; by default one that the kernel makes up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Its MTU; by default the kernel's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The bridge of the same host that it is a port of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Its options as a bridge's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<BridgePort>,
    /// VLANs that it carries as a port of a bridge with VLAN filtering; then it carries no other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlan: Vec<VlanMember>,
    /// veth: the other end, `"host/interface"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// vlan, macvlan, ipvlan: the interface it rests on; of another host as `"host/interface"`. vxlan: the underlay
    /// interface, if it shall be bound to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// macvlan: `bridge`, `private`, `vepa`, `passthru`. ipvlan: `l2`, `l3`, `l3s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// vlan: the VLAN id. vxlan: the VNI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// vxlan: the underlay address it sends from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<IpAddr>,
    /// vxlan: the flood list, other VTEPs' addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remotes: Vec<IpAddr>,
    /// vxlan: the UDP port; 4789.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp_port: Option<u16>,
    /// vxlan: whether it learns where addresses are; true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning: Option<bool>,
    /// vxlan: the outer TTL; by default the kernel's, 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
    /// vxlan: the outer DF bit: `set`, `unset` (the kernel's default) or `inherit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub df: Option<Df>,
    /// bridge: whether VLAN tags mean anything to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_filtering: Option<bool>,
    /// bridge: spanning tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stp: Option<bool>,
    /// bridge: seconds that a learned address lives without traffic; 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ageing: Option<u32>,
    /// bridge: IGMP and MLD snooping; true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snooping: Option<bool>,
}

/// The outer DF bit of a vxlan device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Df {
    /// A packet that is too large is dropped, and its sender told.
    Set,
    /// A packet that is too large is fragmented.
    Unset,
    /// As the inner packet says.
    Inherit,
}

impl Df {
    /// The word of iproute2.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Unset => "unset",
            Self::Inherit => "inherit",
        }
    }
}

/// The mode of a macvlan or ipvlan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// macvlan: siblings reach each other directly.
    Bridge,
    /// macvlan: siblings don't reach each other.
    Private,
    /// macvlan: frames between siblings go out to the switch, which has to send them back.
    Vepa,
    /// macvlan: the only child, which has the parent to itself.
    Passthru,
    /// ipvlan: ARP and broadcasts work.
    L2,
    /// ipvlan: only routed packets; no ARP, no broadcasts.
    L3,
    /// ipvlan: as l3, and netfilter of the parent's host sees the packets.
    L3s,
}

impl Mode {
    /// The word of iproute2.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Private => "private",
            Self::Vepa => "vepa",
            Self::Passthru => "passthru",
            Self::L2 => "l2",
            Self::L3 => "l3",
            Self::L3s => "l3s",
        }
    }

    /// Whether it is one of ipvlan's, not macvlan's.
    pub const fn is_ipvlan(self) -> bool {
        matches!(self, Self::L2 | Self::L3 | Self::L3s)
    }
}

/// Options of a bridge's port; what is not said stays as the kernel has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BridgePort {
    /// Doesn't talk to other isolated ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolated: Option<bool>,
    /// May get its own frames back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hairpin: Option<bool>,
    /// Learns source addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning: Option<bool>,
    /// Gets frames for unknown addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flood: Option<bool>,
    /// Gets broadcast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bcast_flood: Option<bool>,
    /// Gets multicast that no snooping sends elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcast_flood: Option<bool>,
    /// Takes frames only from addresses with a static entry on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked: Option<bool>,
    /// Has ARP requests for known neighbours answered by the bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neigh_suppress: Option<bool>,
    /// The state of spanning tree, if no spanning tree decides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<PortState>,
}

/// State of a bridge's port. `blocking` is not among them: without spanning tree the kernel makes it forwarding again at once
/// (`net/bridge/br_stp.c:br_port_state_selection`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortState {
    /// Passes frames.
    Forwarding,
    /// Passes none, and learns nothing.
    Listening,
    /// Passes none, as if it were down.
    Disabled,
}

impl PortState {
    /// The word of iproute2.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Forwarding => "forwarding",
            Self::Listening => "listening",
            Self::Disabled => "disabled",
        }
    }
}

/// A VLAN that a bridge's port carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VlanMember {
    /// The VLAN.
    pub id: u16,
    /// Untagged frames are in this VLAN.
    #[serde(default)]
    pub pvid: bool,
    /// Leaves without its tag.
    #[serde(default)]
    pub untagged: bool,
}

impl Interface {
    /// The same with some keys changed.
    ///
    /// # Errors
    /// What of the keys makes no sense.
    pub fn with(&self, keys: &toml::Table) -> Result<Self, String> {
        let mut table = toml::Table::try_from(self).map_err(|error| error.to_string())?;
        table.extend(keys.clone());
        table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
    }
}
