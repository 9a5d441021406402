//! What weft takes out of the kernel's netlink messages, and how addresses are put into them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::{
    AddressMessageBuilder,
    packet_route::{
        address::{AddressAttribute, AddressMessage},
        link::{InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State},
        route::{RouteAttribute, RouteMessage, RouteMetric},
    },
};
use weft_vxlan::Vni;

use crate::{control::config::Cidr, wire::MacAddr};

/// An interface as it was when the kernel was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Its index, unique in its namespace and not reused soon.
    pub index: u32,
    /// Its name, which can change.
    pub name: String,
    /// Bytes behind the Ethernet header.
    pub mtu: u32,
    /// Its hardware address; `None` for tunnels and others that have none of six bytes.
    pub mac: Option<MacAddr>,
    /// Whether somebody set it up (IFF_UP).
    pub up: bool,
    /// Whether there is a carrier: a cable, a peer, an open tap.
    pub carrier: bool,
    /// What the kernel makes of both (RFC 2863).
    pub oper: OperState,
    /// Whether it is a loopback interface.
    pub loopback: bool,
    /// The kernel's name of its kind: `tun` (taps too), `veth`, `bridge`, `vxlan`; `None` for hardware.
    pub kind: Option<String>,
    /// The index of the bridge or other master it is a port of.
    pub master: Option<u32>,
}

/// Operational state of an interface: RFC 2863, `include/uapi/linux/if.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OperState {
    /// The driver doesn't say: usual for loopback and taps, and no fault.
    Unknown,
    /// Something of it is missing.
    NotPresent,
    /// Down, or without carrier.
    Down,
    /// What it rests on is down.
    LowerLayerDown,
    /// Under test.
    Testing,
    /// Up, but waiting for something outside, such as authentication.
    Dormant,
    /// Ready.
    Up,
}

/// How a packet leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// By which interface.
    pub link: Link,
    /// The largest packet in bytes: the interface's MTU, or less if the route has an MTU of its own.
    pub mtu: u32,
}

/// A vxlan device of the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VxlanDevice {
    /// The device.
    pub link: Link,
    /// Its network; `None` if each packet carries its own (`external`).
    pub vni: Option<Vni>,
    /// The UDP port it listens on (while it is up), in host order.
    pub port: u16,
    /// Its underlay address, if it is bound to one.
    pub local: Option<IpAddr>,
}

impl Link {
    pub(super) fn from_message(message: &LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mtu: 0,
            mac: None,
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            oper: OperState::Unknown,
            loopback: flags.contains(LinkFlags::Loopback),
            kind: None,
            master: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok().map(MacAddr::new),
                LinkAttribute::OperState(state) => link.oper = OperState::from_kernel(*state),
                LinkAttribute::Controller(index) => link.master = Some(*index).filter(|&index| index != 0),
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        link
    }
}

impl OperState {
    fn from_kernel(state: State) -> Self {
        match state {
            State::NotPresent => Self::NotPresent,
            State::Down => Self::Down,
            State::LowerLayerDown => Self::LowerLayerDown,
            State::Testing => Self::Testing,
            State::Dormant => Self::Dormant,
            State::Up => Self::Up,
            // Unknown, and whatever a later kernel may add.
            _ => Self::Unknown,
        }
    }
}

impl VxlanDevice {
    /// `None` if the message is about another kind of device.
    pub(super) fn from_message(message: &LinkMessage) -> Option<Self> {
        let infos = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
                LinkInfo::Data(InfoData::Vxlan(infos)) => Some(infos),
                _ => None,
            }),
            _ => None,
        })?;
        let mut device = Self { link: Link::from_message(message), vni: None, port: 0, local: None };
        for info in infos {
            match info {
                InfoVxlan::Id(vni) => device.vni = Vni::new(*vni),
                InfoVxlan::Port(port) => device.port = *port,
                InfoVxlan::Local(address) => device.local = Some((*address).into()),
                InfoVxlan::Local6(address) => device.local = Some((*address).into()),
                InfoVxlan::CollectMetadata(true) => device.vni = None,
                _ => {}
            }
        }
        Some(device)
    }
}

/// The interface's own address in an address message. On a point-to-point link IFA_ADDRESS is the peer's, and IFA_LOCAL
/// the own; IPv6 without a peer has only the former.
pub(super) fn cidr(message: &AddressMessage) -> Option<Cidr> {
    let find = |local| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) if local => Some(*address),
            AddressAttribute::Address(address) if !local => Some(*address),
            _ => None,
        })
    };
    Some(Cidr { address: find(true).or_else(|| find(false))?, prefix_len: message.header.prefix_len })
}

/// An address message about an interface, with the broadcast address that `ip address add` would set too.
pub(super) fn address_message(index: u32, cidr: Cidr) -> AddressMessage {
    match cidr.address {
        IpAddr::V4(address) => {
            AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, cidr.prefix_len).build()
        }
        IpAddr::V6(address) => {
            AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(address, cidr.prefix_len).build()
        }
    }
}

pub(super) fn output_interface(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

pub(super) fn route_mtu(route: &RouteMessage) -> Option<u32> {
    // What expires the kernel has learned from ICMP, which anybody can send.
    let expires =
        |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::CacheInfo(info) if info.expires != 0);
    if route.attributes.iter().any(expires) {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => metrics.iter().find_map(|metric| match metric {
            RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
            _ => None,
        }),
        _ => None,
    })
}
