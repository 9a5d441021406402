//! `[[fault]]`: what can be broken on purpose, and what is changed for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Bpf, BridgePort, FdbEntry, Interface, Neighbour, Prefix, Route, Setting, VlanMember};
use crate::wire::MacAddr;

/// `[[fault]]`: something that can be broken on purpose.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What `weft lab break` calls it.
    pub name: String,
    /// What is broken, and how it shows.
    pub text: String,
    /// The code of the finding that `weft doctor` must name first.
    pub finding: String,
    /// What is done, in this order.
    pub change: Vec<Change>,
}

/// One change of a fault: to a `host`, or to an interface `at` "host/interface".
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The host; `at` says it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// `"host/interface"`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Sets the interface up or down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<bool>,
    /// Gives it an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_address: Option<Prefix>,
    /// Takes an address from it, and with the address the routes that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove_address: Option<Prefix>,
    /// Sets its MTU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Sets its hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Puts it into another bridge; `""` into none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Turns its options as a bridge's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<BridgePort>,
    /// Takes it out of a VLAN of its bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove_vlan: Option<u16>,
    /// Puts it into a VLAN of its bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_vlan: Option<VlanMember>,
    /// Makes it anew, with these keys of `[[host.interface]]` changed: `{ id = 43 }`. Its addresses, and the host's routes
    /// and entries that need it, are made anew with it. `{}` makes it as the lab says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anew: Option<toml::Table>,
    /// Deletes it.
    #[serde(default)]
    pub delete: bool,
    /// Adds an interface that the lab does not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_interface: Option<Interface>,
    /// Adds a route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_route: Option<Route>,
    /// Removes a route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove_route: Option<Route>,
    /// Adds a neighbour, or changes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_neighbour: Option<Neighbour>,
    /// Removes a neighbour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove_neighbour: Option<Neighbour>,
    /// Adds an FDB entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_fdb: Option<FdbEntry>,
    /// Removes an FDB entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove_fdb: Option<FdbEntry>,
    /// Sets kernel parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, Setting>,
    /// Commands for `nft -f`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nft: Option<String>,
    /// Restarts the host's weft with these keys changed, each as its way through the tables: `"vtep.port"`,
    /// `"bridge.blue.vni"`. `{}` restarts it as the lab says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weft: Option<toml::Table>,
    /// Stops the host's weft.
    #[serde(default)]
    pub stop_weft: bool,
    /// Starts a process in the host that holds this UDP port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occupy: Option<u16>,
    /// Ends that process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vacate: Option<u16>,
    /// Fills the host's table of connections to its limit with entries that stay.
    #[serde(default)]
    pub fill_conntrack: bool,
    /// Empties the host's table of connections.
    #[serde(default)]
    pub empty_conntrack: bool,
    /// Takes the eBPF program off the interface.
    #[serde(default)]
    pub remove_bpf: bool,
    /// Puts an eBPF program on an interface, in place of one that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_bpf: Option<Bpf>,
    /// Runs a command of a shell in the host, after everything else of this change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The command that undoes what `run` did, if it did anything that stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<String>,
}
