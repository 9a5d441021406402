//! A lab as data: TOML in, [`Topology`] out, or its mistakes with file, line and what would be right.
//!
//! ```text
//! text --serde--> Topology --checks--> Topology
//!        |                   |
//!        +---> mistakes <----+     places: where in the text a key stands
//! ```
//! The structures here are the format: each field is a key, and `docs/labs.md` documents them all. What one value may be
//! is checked as it is read (`values`), what may not be together in `checks`. Building is the business of
//! `lab::build`.

mod checks;
mod fault;
mod interface;
mod places;
mod values;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::Arc,
};

use miette::NamedSource;
use serde::{Deserialize, Serialize};

pub(in crate::lab) use self::checks::{NAME_RULE, is_name};
pub use self::{
    fault::{Change, Fault},
    interface::{BridgePort, Df, Interface, Kind, Mode, PortState, VlanMember},
    values::{Destination, NoPrefix, Prefix},
};
use super::weft_config;
use crate::{control::config::ConfigErrors, wire::MacAddr};

/// A lab: its hosts and what is in them, what must work, and what can be broken.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// What it is called; with `weft lab up --name` another name takes its place.
    pub name: String,
    /// What it shows, in one line.
    pub title: String,
    /// What it teaches.
    pub text: String,
    /// What of the kernel it needs that many are built without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Feature>,
    /// `[[host]]`
    #[serde(default, rename = "host", skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Host>,
    /// `[[check]]`
    #[serde(default, rename = "check", skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// `[[fault]]`
    #[serde(default, rename = "fault", skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

/// Something that not every kernel has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// VLAN filtering on bridges.
    VlanFiltering,
    /// ipvlan devices.
    Ipvlan,
    /// Bridges that hand packets to the IP filter.
    BrNetfilter,
    /// eBPF programs on interfaces (`cls_bpf`).
    TcBpf,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::VlanFiltering, Self::Ipvlan, Self::BrNetfilter, Self::TcBpf];

    /// What it is, for "this kernel has no ...".
    pub const fn text(self) -> &'static str {
        match self {
            Self::VlanFiltering => "VLAN filtering on bridges (CONFIG_BRIDGE_VLAN_FILTERING)",
            Self::Ipvlan => "ipvlan devices (CONFIG_IPVLAN)",
            Self::BrNetfilter => "br_netfilter (CONFIG_BRIDGE_NETFILTER, `modprobe br_netfilter`)",
            Self::TcBpf => "eBPF programs on interfaces (CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_BPF)",
        }
    }
}

/// `[[host]]`: a network namespace.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its name within the lab.
    pub name: String,
    /// What it stands for, for the drawing: "container", "router".
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub role: String,
    /// Where it is drawn: column and row, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<[usize; 2]>,
    /// Kernel parameters, set after the interfaces were made: `{ "net.ipv4.ip_forward" = 1 }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, Setting>,
    /// A ruleset as `nft -f` takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nft: Option<String>,
    /// `[[host.interface]]`
    #[serde(default, rename = "interface", skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// `[[host.route]]`
    #[serde(default, rename = "route", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// `[[host.neighbour]]`
    #[serde(default, rename = "neighbour", skip_serializing_if = "Vec::is_empty")]
    pub neighbours: Vec<Neighbour>,
    /// `[[host.fdb]]`
    #[serde(default, rename = "fdb", skip_serializing_if = "Vec::is_empty")]
    pub fdb: Vec<FdbEntry>,
    /// `[[host.bpf]]`
    #[serde(default, rename = "bpf", skip_serializing_if = "Vec::is_empty")]
    pub bpf: Vec<Bpf>,
    /// `[host.weft]`: the configuration of a weft that runs here. Where it names a namespace, it names a host of the lab.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weft: Option<toml::Table>,
}

/// The value of a kernel parameter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// A number.
    Number(i64),
    /// Text.
    Text(String),
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// `[[host.route]]`
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// `"10.1.0.0/16"`, or `"default"`, which is IPv4 unless `via` is IPv6.
    pub to: Destination,
    /// The next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// By which interface; by default where the next hop is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// `blackhole`, `unreachable` or `prohibit` instead of a next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuse: Option<Refuse>,
    /// The address that packets by this route come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The next hop is taken to be on the interface though no address says so.
    #[serde(default)]
    pub onlink: bool,
    /// The largest packet that this route takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

impl Route {
    /// The network it leads to.
    pub fn prefix(&self) -> Prefix {
        match (self.to, self.via) {
            (Destination::To(prefix), _) => prefix,
            (Destination::Default, Some(IpAddr::V6(_))) => Prefix { address: Ipv6Addr::UNSPECIFIED.into(), len: 0 },
            (Destination::Default, _) => Prefix { address: Ipv4Addr::UNSPECIFIED.into(), len: 0 },
        }
    }
}

/// A route that leads nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refuse {
    /// Drops silently.
    Blackhole,
    /// Answers "host unreachable".
    Unreachable,
    /// Answers "administratively prohibited".
    Prohibit,
}

impl Refuse {
    /// The word of iproute2.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibit",
        }
    }
}

/// `[[host.neighbour]]`: who has an address, for good; nobody is asked on the wire.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    /// On which interface.
    pub interface: String,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its hardware address; not with `proxy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// This host answers for the address instead (proxy ARP).
    #[serde(default)]
    pub proxy: bool,
}

/// `[[host.fdb]]`: where a hardware address is, for good.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FdbEntry {
    /// A bridge's port, or a vxlan device if there is a `remote`.
    pub interface: String,
    /// The address; 00:00:00:00:00:00 with a `remote` is the flood list.
    pub mac: MacAddr,
    /// The VTEP behind which it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<IpAddr>,
}

/// `[[host.bpf]]`: the eBPF program of the lab `ebpf` on what an interface receives: it sends IPv4 packets for an address
/// straight to the interface where that is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bpf {
    /// Whose received packets it sees.
    pub interface: String,
    /// Address to interface: where it sends which packets; others go on as without it.
    pub redirect: BTreeMap<IpAddr, String>,
}

/// `[[check]]`: what must be so while nothing is broken.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What is so, as a sentence.
    pub name: String,
    /// The host that tries.
    pub from: String,
    /// This address answers pings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ping: Option<IpAddr>,
    /// Bytes of a ping's payload; the packet is 28 longer (IPv6: 48) and may not be fragmented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u16>,
    /// A TCP connection to this address and port carries 64 KiB each way; the lab listens there meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<std::net::SocketAddr>,
    /// The host where `tcp` arrives; by default the one that has its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The port where `tcp` arrives, if it is translated on the way; by default its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<u16>,
    /// This command of a shell ends well in the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// What `run` prints has this in it; what the other end of `tcp` sees as the source begins with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    /// It must **not** be so: nobody answers, the command fails.
    #[serde(default)]
    pub fails: bool,
}

/// Two that must reach each other.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Pair {
    /// The host that asks.
    pub from: String,
    /// Whom it asks.
    pub to: IpAddr,
}

impl Topology {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file can't be read, or what is wrong in it.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let text = fs::read_to_string(path)
            .map_err(|error| ConfigErrors::unreadable(path, error, "name the file of a lab: weft lab up FILE.toml"))?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Checks a text, called `name` in messages.
    ///
    /// # Errors
    /// What is wrong in it: everything that is, or only the first thing that has no place in the format.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigErrors> {
        let source = Arc::new(NamedSource::new(name, text.to_owned()));
        let mut topology: Self = toml::from_str(text).map_err(|error| values::not_understood(&source, &error))?;
        ConfigErrors::check(checks::all(&topology, &source))?;
        for (host, tap) in weft_config::taps(&topology) {
            if let Some(host) = topology.hosts.iter_mut().find(|candidate| candidate.name == host) {
                host.interfaces.push(tap);
            }
        }
        Ok(topology)
    }

    /// The host of this name.
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// The host and the interface of `"host/interface"`.
    pub fn interface(&self, full_name: &str) -> Option<(&Host, &Interface)> {
        let (host, name) = full_name.split_once('/')?;
        let host = self.host(host)?;
        Some((host, host.interface(name)?))
    }

    /// The fault of this name.
    pub fn fault(&self, name: &str) -> Option<&Fault> {
        self.faults.iter().find(|fault| fault.name == name)
    }

    /// The host that has an address.
    pub fn holder(&self, address: IpAddr) -> Option<&Host> {
        let has = |host: &&Host| {
            host.interfaces.iter().flat_map(|interface| &interface.address).any(|prefix| prefix.address == address)
        };
        self.hosts.iter().find(has)
    }

    /// Who must reach whom: what the checks of pings and TCP try, each once.
    pub fn pairs(&self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for check in self.checks.iter().filter(|check| !check.fails) {
            let Some(to) = check.ping.or_else(|| check.tcp.map(|to| to.ip())) else { continue };
            let pair = Pair { from: check.from.clone(), to };
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
        pairs
    }
}

impl Host {
    /// The interface of this name.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }
}
