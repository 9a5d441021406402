//! The kernel's own devices in a lab: cables, bridges, vxlan devices. All are set up as they are made.

use std::{
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use rtnetlink::{
    LinkBridge, LinkBridgePort, LinkIpVlan, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan,
    packet_route::link::{InfoData, InfoVeth, IpVlanMode, LinkMessage, MacVlanMode, VxlanDf},
};
use weft_vxlan::Vni;

use super::{LabError, Namespace};
use crate::{control::config::Df, wire::MacAddr};

/// How a kernel bridge is made; the default is a plain learning bridge without spanning tree, VLANs and snooping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgeOptions {
    /// Whether VLAN tags mean anything to it. Some kernels are built without.
    pub vlan_filtering: bool,
    /// How long a learned entry lives without traffic from its address, in hundredths of a second; the kernel's default
    /// is 300 s.
    pub ageing: Duration,
    /// Whether it watches IGMP and MLD to send multicast only where it is wanted.
    pub mcast_snooping: bool,
    /// Reserved groups 01-80-C2-00-00-0X that it forwards, a bit each; bits 0 to 2 are refused.
    pub group_fwd_mask: u16,
    /// The bridge's own address; by default the smallest of its ports'.
    pub mac: Option<MacAddr>,
    /// Its MTU; by default the smallest of its ports'.
    pub mtu: Option<u32>,
}

impl Default for BridgeOptions {
    fn default() -> Self {
        Self {
            vlan_filtering: false,
            ageing: Duration::from_secs(300),
            mcast_snooping: false,
            group_fwd_mask: 0,
            mac: None,
            mtu: None,
        }
    }
}

/// A switch of a kernel bridge's port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BridgePortFlag {
    /// Learns source addresses.
    Learning,
    /// Gets frames for unknown addresses.
    Flood,
    /// Gets multicast.
    MulticastFlood,
    /// Gets broadcast.
    BroadcastFlood,
    /// May get its own frames back.
    Hairpin,
    /// Doesn't talk to other isolated ports.
    Isolated,
    /// Takes frames only from addresses with a static entry on it.
    Locked,
    /// Has ARP requests and neighbour solicitations for known neighbours answered by the bridge.
    NeighbourSuppression,
}

/// How a kernel vxlan device is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VxlanOptions {
    /// The network.
    pub vni: Vni,
    /// The underlay address it sends from.
    pub local: IpAddr,
    /// The UDP port it listens on and sends to; 4789.
    pub port: u16,
    /// The flood list: FDB entries of the all-zeros address.
    pub remotes: Vec<IpAddr>,
    /// Whether it learns where addresses are; true.
    pub learning: bool,
    /// Outer TTL or hop limit; by default the route's.
    pub ttl: Option<u8>,
    /// Outer TOS or traffic class; 1 means the inner packet's. By default 0.
    pub tos: Option<u8>,
    /// Whether it sends UDP checksums, over IPv4 and IPv6; true. Without them it also takes IPv6 packets that have none.
    pub udp_checksum: bool,
    /// The outer DF bit; unset.
    pub df: Df,
    /// How long a learned entry lives; the kernel's default is 300 s.
    pub ageing: Option<Duration>,
    /// The outer source ports, from and to (never used itself); by default the host's range of local ports.
    pub source_ports: Option<(u16, u16)>,
    /// Reserved bits of the VXLAN header that it overlooks, the first octet's in the highest bits; kernel 6.14.
    pub reserved_bits: Option<u64>,
    /// The interface it rests on. With it the kernel refuses an MTU that is too large and derives the default from it.
    pub device: Option<String>,
    /// Its MTU. **Without `device` the kernel's default is 1500, whatever the underlay carries.**
    pub mtu: Option<u32>,
    /// Its own address; by default a random one.
    pub mac: Option<MacAddr>,
}

impl VxlanOptions {
    /// The defaults, with an empty flood list.
    pub fn new(vni: Vni, local: IpAddr) -> Self {
        Self {
            vni,
            local,
            port: 4789,
            remotes: Vec::new(),
            learning: true,
            ttl: None,
            tos: None,
            udp_checksum: true,
            df: Df::Unset,
            ageing: None,
            source_ports: None,
            reserved_bits: None,
            device: None,
            mtu: None,
            mac: None,
        }
    }

    /// The same with this flood list.
    #[must_use]
    pub fn remotes(self, remotes: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { remotes: remotes.into_iter().collect(), ..self }
    }
}

impl Namespace {
    /// Lays a cable to another namespace (or within this one).
    pub(super) fn veth(&self, name: &str, other: (&Self, &str), mtu: u32) -> Result<(), LabError> {
        let (other, other_name) = other;
        // The other end is made in its place: it never shows up here. Up they can be only when both are there
        // (ENOTCONN, `drivers/net/veth.c:veth_open`).
        let far_end = LinkMessageBuilder::<LinkUnspec>::new()
            .name(other_name)
            .mtu(mtu)
            .setns_by_fd(other.netns().as_fd().as_raw_fd())
            .build();
        let message =
            LinkVeth::new(name, other_name).set_info_data(InfoData::Veth(InfoVeth::Peer(far_end))).mtu(mtu).build();
        self.make(name, message, format!("lay a cable to {other_name} in {}", other.name()))?;
        self.up(name)?;
        other.up(other_name)
    }

    /// Makes a kernel bridge, with netfilter kept off it ([`Namespace::bridge_nf_off`]).
    ///
    /// # Errors
    /// The name is taken, or the kernel lacks an option.
    pub fn bridge(&self, name: &str, options: &BridgeOptions) -> Result<(), LabError> {
        self.bridge_nf_off()?;
        let mut message = LinkBridge::new(name)
            .ageing_time(u32::try_from(options.ageing.as_millis() / 10).unwrap_or(u32::MAX))
            .mcast_snooping(options.mcast_snooping);
        // A kernel built without VLANs refuses the very mention of them.
        if options.vlan_filtering {
            message = message.vlan_filtering(true);
        }
        if options.group_fwd_mask != 0 {
            message = message.group_fwd_mask(options.group_fwd_mask);
        }
        if let Some(mac) = options.mac {
            message = message.address(mac.octets().to_vec());
        }
        if let Some(mtu) = options.mtu {
            message = message.mtu(mtu);
        }
        self.make(name, message.up().build(), "make a bridge".to_owned())
    }

    /// Turns a switch of a bridge's port.
    ///
    /// # Errors
    /// The interface is no bridge's port.
    pub fn bridge_port(&self, port: &str, flag: BridgePortFlag, on: bool) -> Result<(), LabError> {
        let message = LinkBridgePort::new(0);
        let change = match flag {
            BridgePortFlag::Learning => message.learning(on),
            BridgePortFlag::Flood => message.flood(on),
            BridgePortFlag::MulticastFlood => message.mcast_flood(on),
            BridgePortFlag::BroadcastFlood => message.bcast_flood(on),
            BridgePortFlag::Hairpin => message.hairpin(on),
            BridgePortFlag::Isolated => message.isolated(on),
            BridgePortFlag::Locked => message.locked(on),
            BridgePortFlag::NeighbourSuppression => message.neigh_suppress(on),
        };
        let attempt = format!("turn {flag:?} {}", if on { "on" } else { "off" });
        self.links(async |links| links.change(port, change, attempt).await)
    }

    /// Makes a kernel vxlan device with its flood list.
    ///
    /// # Errors
    /// The name is taken, as is the VNI on this UDP port; the MTU is too large for the device below.
    pub fn vxlan(&self, name: &str, options: &VxlanOptions) -> Result<(), LabError> {
        let mut message = LinkVxlan::new(name, options.vni.get()).port(options.port).learning(options.learning).up();
        message = match options.local {
            IpAddr::V4(local) => message.local(local).udp_csum(options.udp_checksum),
            IpAddr::V6(local) => {
                message.local6(local).udp_zero_csum6_tx(!options.udp_checksum).udp_zero_csum6_rx(!options.udp_checksum)
            }
        };
        if let Some(ttl) = options.ttl {
            message = message.ttl(ttl);
        }
        if let Some(tos) = options.tos {
            message = message.tos(tos);
        }
        message = message.df(match options.df {
            Df::Set => VxlanDf::Set,
            Df::Unset => VxlanDf::Unset,
            Df::Inherit => VxlanDf::Inherit,
        });
        if let Some(ageing) = options.ageing {
            message = message.ageing(u32::try_from(ageing.as_secs()).unwrap_or(u32::MAX));
        }
        if let Some((from, to)) = options.source_ports {
            message = message.port_range(from, to);
        }
        if let Some(bits) = options.reserved_bits {
            message = message.reserved_bits(bits);
        }
        if let Some(device) = &options.device {
            message = message.dev(self.link(device)?.index);
        }
        if let Some(mtu) = options.mtu {
            message = message.mtu(mtu);
        }
        if let Some(mac) = options.mac {
            message = message.address(mac.octets().to_vec());
        }
        self.make(name, message.build(), format!("make a vxlan device of VNI {}", options.vni))?;
        options.remotes.iter().try_for_each(|&remote| self.fdb_append(name, MacAddr::ZERO, remote))
    }

    /// Makes a macvlan on an interface, in bridge mode: its siblings and the outside reach it, its parent doesn't.
    pub fn macvlan(&self, name: &str, parent: &str) -> Result<(), LabError> {
        let message = LinkMacVlan::new(name, self.link(parent)?.index, MacVlanMode::Bridge).up().build();
        self.make(name, message, format!("make a macvlan on {parent}"))
    }

    /// Makes an ipvlan on an interface, in the mode l2.
    ///
    /// # Errors
    /// The name is taken, there is no such parent, or the kernel has no ipvlan.
    pub fn ipvlan(&self, name: &str, parent: &str) -> Result<(), LabError> {
        let message = LinkIpVlan::new(name, self.link(parent)?.index, IpVlanMode::L2).build();
        self.make(name, message, format!("make an ipvlan on {parent}"))
    }

    fn make(&self, name: &str, message: LinkMessage, attempt: String) -> Result<(), LabError> {
        self.links(async |links| links.create(name, message, attempt).await)
    }
}
