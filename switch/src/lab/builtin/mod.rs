//! The labs that weft brings along: a file each, in this folder.

use std::{collections::BTreeMap, sync::OnceLock, sync::Weak};

use super::{
    BridgeOptions, Namespace, bpf,
    topology::{Bpf, Feature, Topology},
};
use crate::{control::config::ConfigErrors, sys::netns::Netns};

/// A lab that weft brings along.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Builtin {
    /// What it is called.
    pub name: &'static str,
    /// Who forwards in it, where there is a choice.
    pub datapath: Datapath,
    /// The file's name, for messages.
    pub file: &'static str,
    /// The file.
    pub text: &'static str,
}

/// Who forwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Datapath {
    /// The kernel's own devices.
    Kernel,
    /// weft.
    Weft,
}

macro_rules! labs {
    ($($name:literal $datapath:ident $file:literal,)*) => {
        &[$(Builtin { name: $name, datapath: Datapath::$datapath, file: $file, text: include_str!($file) },)*]
    };
}

/// All of them, from the simple to the involved; of one name, the one that is taken where both can be had first.
pub const LABS: &[Builtin] = labs![
    "minimal" Kernel "minimal.toml",
    "bridge" Kernel "bridge.toml",
    "bridge" Weft "bridge-weft.toml",
    "tap" Weft "tap.toml",
    "bridge-nat" Kernel "bridge-nat.toml",
    "routed" Kernel "routed.toml",
    "firewall" Kernel "firewall.toml",
    "vxlan" Kernel "vxlan.toml",
    "overlay" Weft "overlay.toml",
    "macvlan" Kernel "macvlan.toml",
    "ipvlan" Kernel "ipvlan.toml",
    "vlan" Kernel "vlan.toml",
    "vlan" Weft "vlan-weft.toml",
    "ebpf" Kernel "ebpf.toml",
];

/// The lab of this name, with this datapath if it shall be a certain one; by default the first that this kernel can do.
pub fn find(name: &str, datapath: Option<Datapath>) -> Option<&'static Builtin> {
    let fits = |lab: &&Builtin| lab.name == name && datapath.is_none_or(|datapath| lab.datapath == datapath);
    let possible = |lab: &&Builtin| lab.topology().is_ok_and(|topology| missing(&topology.needs).is_empty());
    LABS.iter().filter(fits).find(possible).or_else(|| LABS.iter().find(fits))
}

impl Builtin {
    /// What its file says.
    ///
    /// # Errors
    /// None, which a test makes sure of.
    pub fn topology(&self) -> Result<Topology, ConfigErrors> {
        Topology::parse(self.file, self.text)
    }
}

/// Those of the features that this kernel lacks, in words. What can't be tried for want of privileges counts as there.
pub fn missing(features: &[Feature]) -> Vec<&'static str> {
    features.iter().filter(|feature| !is_there(**feature)).map(|feature| feature.text()).collect()
}

/// Tries it, once in the life of this process.
fn is_there(feature: Feature) -> bool {
    static FOUND: OnceLock<BTreeMap<&'static str, OnceLock<bool>>> = OnceLock::new();
    let found = FOUND.get_or_init(|| Feature::ALL.iter().map(|feature| (feature.text(), OnceLock::new())).collect());
    found.get(feature.text()).is_none_or(|found| *found.get_or_init(|| try_out(feature).unwrap_or(true)))
}

/// Whether it works in a namespace that nobody sees; `None`: there can be no such namespace.
fn try_out(feature: Feature) -> Option<bool> {
    let netns = Netns::create().ok()?;
    let namespace = Namespace::new("probe", "probe", netns, Weak::new());
    Some(match feature {
        Feature::VlanFiltering => {
            namespace.bridge("br0", &BridgeOptions { vlan_filtering: true, ..BridgeOptions::default() }).is_ok()
        }
        Feature::Ipvlan => {
            namespace.veth("eth0", (&namespace, "eth1"), 1500).ok()?;
            namespace.ipvlan("iv0", "eth0").is_ok()
        }
        Feature::BrNetfilter => namespace.has_sysctl("net.bridge.bridge-nf-call-iptables").ok()?,
        Feature::TcBpf => {
            let program = Bpf { interface: "lo".to_owned(), redirect: BTreeMap::new() };
            bpf::attach(&namespace, &program).is_ok()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lab_is_understood_and_says_what_it_teaches() {
        for lab in LABS {
            let topology = lab.topology().unwrap_or_else(|errors| panic!("{}", errors.render(false)));
            assert_eq!(topology.name, lab.name, "{}", lab.file);
            assert!(topology.text.len() > 100 && !topology.title.is_empty(), "{}", lab.file);
            assert!(!topology.checks.is_empty() && !topology.pairs().is_empty(), "{}", lab.file);
            assert!(!topology.faults.is_empty(), "{}", lab.file);
        }
    }

    /// The guide for users, which is not made by hand.
    const GUIDE: &str = include_str!("../../../docs/labs.md");

    #[test]
    fn the_guide_shows_every_lab_as_it_is() {
        for lab in LABS {
            let topology = lab.topology().unwrap();
            let drawing = crate::lab::drawing::Drawing::of(&topology).text();
            assert!(GUIDE.contains(drawing.trim_end()), "{} is drawn otherwise in the guide:\n{drawing}", lab.file);
            for check in &topology.checks {
                assert!(GUIDE.contains(&format!("ok      {}", check.name)), "{}: {}", lab.file, check.name);
            }
            for fault in &topology.faults {
                let row = format!("| `{}` | {} | `{}` |", fault.name, fault.text, fault.finding);
                assert!(GUIDE.contains(&row), "{} lacks the row {row}", lab.file);
            }
        }
    }

    #[test]
    fn the_guide_names_every_key() {
        let keys = ["name", "role", "at", "sysctl", "nft", "interface", "route", "neighbour", "fdb", "bpf", "weft"];
        for key in keys.into_iter().chain(KEYS) {
            assert!(GUIDE.contains(&format!("`{key}`")), "{key}");
        }
    }

    /// Of interfaces, routes, neighbours, FDB entries, programs, checks, faults and changes.
    const KEYS: [&str; 61] = [
        "kind",
        "address",
        "mac",
        "mtu",
        "bridge",
        "port",
        "vlan",
        "peer",
        "parent",
        "mode",
        "id",
        "local",
        "remotes",
        "udp_port",
        "learning",
        "ttl",
        "df",
        "vlan_filtering",
        "stp",
        "ageing",
        "snooping",
        "to",
        "via",
        "source",
        "onlink",
        "refuse",
        "mac",
        "proxy = true",
        "remote",
        "redirect",
        "from",
        "ping",
        "size",
        "tcp",
        "listen",
        "run",
        "says",
        "fails = true",
        "text",
        "finding",
        "change",
        "host",
        "up",
        "add_address",
        "remove_address",
        "add_vlan",
        "remove_vlan",
        "anew",
        "delete",
        "add_interface",
        "add_route",
        "remove_route",
        "add_neighbour",
        "remove_neighbour",
        "add_fdb",
        "remove_fdb",
        "stop_weft",
        "occupy",
        "fill_conntrack",
        "add_bpf",
        "remove_bpf",
    ];
}
