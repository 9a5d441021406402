//! Interfaces out of the kernel's link messages (rtnetlink(7), `include/uapi/linux/if_link.h`).
//!
//! Read by attribute number and not through a library's types: what a later kernel adds or changes in one attribute must not
//! cost the whole table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::values::{
    Bridge, BridgePort, Details, Ipvlan, Link, LinkStats, MacvlanMode, PortPhase, PortVlan, Tunnel, Vlan,
};
use crate::{
    lab::rtnl::{attribute, attributes, field},
    wire::MacAddr,
};

// include/uapi/linux/if.h
const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const IFF_NOARP: u32 = 0x80;
const IFF_PROMISC: u32 = 0x100;
const IFF_LOWER_UP: u32 = 0x1_0000;

/// What is behind the netlink header of an RTM_NEWLINK; `None`: cut off.
pub(super) fn link(body: &[u8]) -> Option<Link> {
    let flags = u32::from_ne_bytes(field(body, 8)?);
    let has = |flag| flags & flag != 0;
    let mut link = Link {
        index: u32::from_ne_bytes(field(body, 4)?),
        up: has(IFF_UP),
        carrier: has(IFF_LOWER_UP),
        loopback: has(IFF_LOOPBACK),
        noarp: has(IFF_NOARP),
        promiscuous: has(IFF_PROMISC),
        ..Link::default()
    };
    for (number, value) in attributes(body.get(16..)?) {
        match number {
            1 => link.mac = mac(value),
            3 => link.name = text(value),
            4 => link.mtu = u32_of(value)?,
            5 => link.lower = u32_of(value).filter(|&index| index != 0),
            10 => link.master = u32_of(value).filter(|&index| index != 0),
            18 => info(&mut link, value),
            23 => link.stats = stats(value),
            37 => link.lower_netns = u32_of(value).map(u32::cast_signed),
            43 => {
                let attached = attribute(value, 2).is_some_and(|how| how != [0]);
                link.xdp = attribute(value, 4).and_then(u32_of).filter(|_| attached);
            }
            _ => {}
        }
    }
    Some(link)
}

/// The VLANs of a bridge's port or a bridge, from its AF_BRIDGE link message.
pub(super) fn vlans(body: &[u8]) -> Option<(u32, Vec<PortVlan>)> {
    const AF_SPEC: u16 = 26;
    const VLAN_INFO: u16 = 2;
    let index = u32::from_ne_bytes(field(body, 4)?);
    let specific = attribute(body.get(16..)?, AF_SPEC)?;
    let infos = attributes(specific).filter(|(number, _)| *number == VLAN_INFO).filter_map(|(_, value)| {
        let flags = u16::from_ne_bytes(field(value, 0)?);
        let id = u16::from_ne_bytes(field(value, 2)?);
        Some(PortVlan { id, pvid: flags & 2 != 0, untagged: flags & 4 != 0 })
    });
    Some((index, infos.collect()))
}

/// IFLA_LINKINFO.
fn info(link: &mut Link, value: &[u8]) {
    link.kind = attribute(value, 1).map(text).unwrap_or_default();
    if let Some(data) = attribute(value, 2) {
        link.details = details(&link.kind, data);
    }
    let port_kind = attribute(value, 4).map(text);
    if port_kind.as_deref() == Some("bridge") {
        link.port = attribute(value, 5).map(bridge_port);
    }
}

fn details(kind: &str, data: &[u8]) -> Details {
    match kind {
        "bridge" => Details::Bridge(bridge(data)),
        "vlan" => Details::Vlan(Vlan {
            id: attribute(data, 1).and_then(u16_of).unwrap_or(0),
            service: attribute(data, 5).is_some_and(|protocol| protocol == [0x88, 0xa8]),
        }),
        "vxlan" => Details::Tunnel(vxlan(data)),
        "geneve" => Details::Tunnel(geneve(data)),
        "macvlan" | "macvtap" => match attribute(data, 1).and_then(u32_of) {
            Some(1) => Details::Macvlan(MacvlanMode::Private),
            Some(2) => Details::Macvlan(MacvlanMode::Vepa),
            Some(4) => Details::Macvlan(MacvlanMode::Bridge),
            Some(8) => Details::Macvlan(MacvlanMode::Passthru),
            Some(16) => Details::Macvlan(MacvlanMode::Source),
            Some(_) | None => Details::None,
        },
        "ipvlan" | "ipvtap" => {
            let mode = match attribute(data, 1).and_then(u16_of) {
                Some(1) => "l3",
                Some(2) => "l3s",
                Some(_) | None => "l2",
            };
            let flags = attribute(data, 2).and_then(u16_of).unwrap_or(0);
            Details::Ipvlan(Ipvlan { mode: mode.to_owned(), private: flags & 1 != 0, vepa: flags & 2 != 0 })
        }
        "vrf" => Details::Vrf { table: attribute(data, 1).and_then(u32_of).unwrap_or(0) },
        // IFLA_TUN_TYPE: IFF_TUN 1, IFF_TAP 2
        "tun" => Details::Tun { tap: attribute(data, 3).is_some_and(|kind| kind == [2]) },
        _ => Details::None,
    }
}

fn bridge(data: &[u8]) -> Bridge {
    let is_on = |number| attribute(data, number).is_some_and(|value| value.iter().any(|&byte| byte != 0));
    Bridge {
        ageing_s: attribute(data, 4).and_then(u32_of).unwrap_or(0) / 100,
        stp: is_on(5),
        vlan_filtering: is_on(7),
        snooping: is_on(23),
        querier: is_on(25),
        nf_call_iptables: is_on(36),
        nf_call_ip6tables: is_on(37),
        nf_call_arptables: is_on(38),
        vlans: Vec::new(),
    }
}

fn bridge_port(data: &[u8]) -> BridgePort {
    let is = |number, default| attribute(data, number).map_or(default, |value| value != [0]);
    BridgePort {
        state: match attribute(data, 1) {
            Some([1]) => PortPhase::Listening,
            Some([2]) => PortPhase::Learning,
            Some([3]) => PortPhase::Forwarding,
            Some([4]) => PortPhase::Blocking,
            Some(_) | None => PortPhase::Disabled,
        },
        hairpin: is(4, false),
        learning: is(8, true),
        flood: is(9, true),
        proxy_arp: is(10, false),
        mcast_flood: is(27, true),
        bcast_flood: is(30, true),
        neigh_suppress: is(32, false),
        isolated: is(33, false),
        locked: is(39, false),
        vlans: Vec::new(),
    }
}

fn vxlan(data: &[u8]) -> Tunnel {
    let is_on = |number| attribute(data, number).is_some_and(|value| value != [0]);
    let address = |four, six| {
        let four = attribute(data, four).and_then(address);
        four.or_else(|| attribute(data, six).and_then(address)).filter(|address| !address.is_unspecified())
    };
    let external = is_on(25);
    Tunnel {
        vni: attribute(data, 1).and_then(u32_of).filter(|_| !external),
        remote: address(2, 16),
        device: attribute(data, 3).and_then(u32_of).filter(|&index| index != 0),
        local: address(4, 17),
        ttl: attribute(data, 5).and_then(|value| value.first().copied()).unwrap_or(0),
        learning: is_on(7),
        proxy: is_on(11),
        port: attribute(data, 15).and_then(|value| field(value, 0)).map_or(0, u16::from_be_bytes),
        udp_checksum: is_on(18),
        zero_checksum6_tx: is_on(19),
        zero_checksum6_rx: is_on(20),
        gbp: attribute(data, 23).is_some(),
        external,
        gpe: attribute(data, 27).is_some(),
        df: df(attribute(data, 29)),
    }
}

fn geneve(data: &[u8]) -> Tunnel {
    let remote = attribute(data, 2).and_then(address).or_else(|| attribute(data, 7).and_then(address));
    let external = attribute(data, 6).is_some();
    Tunnel {
        vni: attribute(data, 1).and_then(u32_of).filter(|_| !external),
        remote: remote.filter(|address| !address.is_unspecified()),
        ttl: attribute(data, 3).and_then(|value| value.first().copied()).unwrap_or(0),
        port: attribute(data, 5).and_then(|value| field(value, 0)).map_or(0, u16::from_be_bytes),
        udp_checksum: attribute(data, 8).is_some_and(|value| value != [0]),
        zero_checksum6_tx: attribute(data, 9).is_some_and(|value| value != [0]),
        zero_checksum6_rx: attribute(data, 10).is_some_and(|value| value != [0]),
        external,
        df: df(attribute(data, 13)),
        ..Tunnel::default()
    }
}

fn df(value: Option<&[u8]>) -> String {
    let word = match value {
        Some([1]) => "set",
        Some([2]) => "inherit",
        Some(_) | None => "unset",
    };
    word.to_owned()
}

/// `struct rtnl_link_stats64`.
fn stats(value: &[u8]) -> LinkStats {
    let count = |index: usize| field(value, index * 8).map_or(0, u64::from_ne_bytes);
    LinkStats {
        rx_packets: count(0),
        tx_packets: count(1),
        rx_errors: count(4),
        tx_errors: count(5),
        rx_dropped: count(6),
        tx_dropped: count(7),
    }
}

/// An IP address of four or sixteen bytes.
pub(super) fn address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(value).ok().map(|octets| Ipv6Addr::from(octets).into())
}

pub(super) fn mac(value: &[u8]) -> Option<MacAddr> {
    value.try_into().ok().map(MacAddr::new)
}

/// A string with its closing zero.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

pub(super) fn u32_of(value: &[u8]) -> Option<u32> {
    field(value, 0).map(u32::from_ne_bytes)
}

pub(super) fn u16_of(value: &[u8]) -> Option<u16> {
    field(value, 0).map(u16::from_ne_bytes)
}
