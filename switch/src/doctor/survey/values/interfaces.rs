//! Interfaces of all kinds, and what they are as ports of bridges.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::wire::MacAddr;

/// An interface.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// The kernel's name of its kind; empty for hardware and loopback.
    pub(crate) kind: String,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) mtu: u32,
    /// Set up by somebody (IFF_UP).
    pub(crate) up: bool,
    /// Has a carrier (IFF_LOWER_UP).
    pub(crate) carrier: bool,
    pub(crate) loopback: bool,
    /// Asks no neighbours (IFF_NOARP).
    pub(crate) noarp: bool,
    pub(crate) promiscuous: bool,
    /// The bridge, bond or VRF that it is a port of.
    pub(crate) master: Option<u32>,
    /// The interface that it rests on or is paired with (IFLA_LINK).
    pub(crate) lower: Option<u32>,
    /// The namespace of that, by this one's number for it; `None`: this one.
    pub(crate) lower_netns: Option<i32>,
    pub(crate) details: Details,
    /// As a port of a bridge.
    pub(crate) port: Option<BridgePort>,
    /// The XDP program attached to it.
    pub(crate) xdp: Option<u32>,
    /// Programs attached by tcx, on the way in and out.
    pub(crate) tcx_ingress: Vec<Program>,
    pub(crate) tcx_egress: Vec<Program>,
    pub(crate) stats: LinkStats,
}

/// An eBPF program.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) id: u32,
    #[serde(default)]
    pub(crate) name: String,
    /// What its map sends to which interface of the namespace, if it has such a map: IPv4 address to index.
    #[serde(default)]
    pub(crate) targets: BTreeMap<IpAddr, u32>,
}

/// What only some kinds of interfaces have.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Details {
    #[default]
    None,
    Bridge(Bridge),
    Vlan(Vlan),
    Tunnel(Tunnel),
    Macvlan(MacvlanMode),
    Ipvlan(Ipvlan),
    Vrf {
        table: u32,
    },
    Tun {
        /// Whether it carries Ethernet frames.
        tap: bool,
    },
}

impl Details {
    /// Of a vxlan or geneve device.
    pub(crate) const fn tunnel(&self) -> Option<&Tunnel> {
        match self {
            Self::Tunnel(tunnel) => Some(tunnel),
            Self::None
            | Self::Bridge(_)
            | Self::Vlan(_)
            | Self::Macvlan(_)
            | Self::Ipvlan(_)
            | Self::Vrf { .. }
            | Self::Tun { .. } => None,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Bridge {
    pub(crate) stp: bool,
    pub(crate) vlan_filtering: bool,
    pub(crate) snooping: bool,
    pub(crate) querier: bool,
    pub(crate) nf_call_iptables: bool,
    pub(crate) nf_call_ip6tables: bool,
    pub(crate) nf_call_arptables: bool,
    pub(crate) ageing_s: u32,
    /// VLANs of the bridge device itself.
    pub(crate) vlans: Vec<PortVlan>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Vlan {
    pub(crate) id: u16,
    /// 802.1ad instead of 802.1Q.
    #[serde(default)]
    pub(crate) service: bool,
}

/// A vxlan or geneve device.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Tunnel {
    pub(crate) vni: Option<u32>,
    pub(crate) local: Option<IpAddr>,
    /// The one remote, or the multicast group, that it was made with.
    pub(crate) remote: Option<IpAddr>,
    /// The interface that it sends by.
    pub(crate) device: Option<u32>,
    /// UDP port, in host order.
    pub(crate) port: u16,
    pub(crate) learning: bool,
    /// 0: the route's.
    pub(crate) ttl: u8,
    pub(crate) udp_checksum: bool,
    /// Over IPv6: sends without checksums (`udp6zerocsumtx`), takes what has none (`udp6zerocsumrx`).
    pub(crate) zero_checksum6_tx: bool,
    pub(crate) zero_checksum6_rx: bool,
    pub(crate) gbp: bool,
    pub(crate) gpe: bool,
    /// Each packet carries its VNI and remote (`external`).
    pub(crate) external: bool,
    /// `unset`, `set` or `inherit`.
    pub(crate) df: String,
    pub(crate) proxy: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MacvlanMode {
    Private,
    Vepa,
    Bridge,
    Passthru,
    Source,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Ipvlan {
    /// `l2`, `l3` or `l3s`.
    pub(crate) mode: String,
    pub(crate) private: bool,
    pub(crate) vepa: bool,
}

impl Ipvlan {
    /// Whether its parent's host routes for it, and it asks nobody by ARP.
    pub(crate) fn is_routed(&self) -> bool {
        self.mode != "l2"
    }

    /// Whether siblings are not reached.
    pub(crate) const fn keeps_apart(&self) -> bool {
        self.private || self.vepa
    }
}

/// A port of a kernel bridge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct BridgePort {
    pub(crate) state: PortPhase,
    pub(crate) hairpin: bool,
    pub(crate) learning: bool,
    pub(crate) flood: bool,
    pub(crate) mcast_flood: bool,
    pub(crate) bcast_flood: bool,
    pub(crate) isolated: bool,
    pub(crate) locked: bool,
    pub(crate) neigh_suppress: bool,
    pub(crate) proxy_arp: bool,
    pub(crate) vlans: Vec<PortVlan>,
}

impl Default for BridgePort {
    fn default() -> Self {
        Self {
            state: PortPhase::Forwarding,
            hairpin: false,
            learning: true,
            flood: true,
            mcast_flood: true,
            bcast_flood: true,
            isolated: false,
            locked: false,
            neigh_suppress: false,
            proxy_arp: false,
            vlans: Vec::new(),
        }
    }
}

/// The state of a bridge's port (IEEE 802.1D).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PortPhase {
    Disabled,
    Listening,
    Learning,
    Forwarding,
    Blocking,
}

impl PortPhase {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Listening => "listening",
            Self::Learning => "learning",
            Self::Forwarding => "forwarding",
            Self::Blocking => "blocking",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct PortVlan {
    pub(crate) id: u16,
    #[serde(default)]
    pub(crate) pvid: bool,
    #[serde(default)]
    pub(crate) untagged: bool,
}

/// Counters of an interface, as `ip -s link` shows them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LinkStats {
    pub(crate) rx_packets: u64,
    pub(crate) tx_packets: u64,
    pub(crate) rx_errors: u64,
    pub(crate) tx_errors: u64,
    pub(crate) rx_dropped: u64,
    pub(crate) tx_dropped: u64,
}

impl fmt::Display for MacvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Private => "private",
            Self::Vepa => "vepa",
            Self::Bridge => "bridge",
            Self::Passthru => "passthru",
            Self::Source => "source",
        })
    }
}
