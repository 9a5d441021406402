//! Addresses: of VTEPs, of interfaces, of stations, of multicast groups.

use std::net::{IpAddr, SocketAddr};

use super::{Checked, Wrong};
use crate::{
    bridge::{Prefix, Station},
    control::config::types::Cidr,
    snoop::Group,
    wire::{MacAddr, membership::is_for_everybody},
};

/// An underlay address that can be somebody's: no multicast, no wildcard, no link-local.
pub(in crate::control::config) fn vtep_ip(text: &str) -> Checked<IpAddr> {
    if let Some((address, _)) = text.split_once('%') {
        return Err(link_local(address));
    }
    if let Some((address, _)) = text.split_once('/') {
        let message = format!("`{text}` has a prefix length, and a VTEP is one address");
        return Err(Wrong::new(message, format!("\"{address}\"")));
    }
    let address = text.parse().map_err(|_| {
        let help = "an address such as \"192.0.2.1\" or \"2001:db8::1\"; names are not looked up";
        Wrong::new(format!("`{text}` is not an IP address"), help)
    })?;
    usable_vtep(address)?;
    Ok(address)
}

/// A remote VTEP: an address, or address and port; without a port it has `default_port`.
pub(in crate::control::config) fn vtep(text: &str, default_port: u16) -> Checked<SocketAddr> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(Wrong::new(format!("port 0 in `{text}`"), "1 to 65535")),
        Ok(SocketAddr::V6(address)) if address.scope_id() != 0 => Err(link_local(&address.ip().to_string())),
        Ok(address) => usable_vtep(address.ip()).map(|()| address),
        Err(_) if text.parse::<IpAddr>().is_ok() || text.contains(['%', '/']) => {
            vtep_ip(text).map(|address| SocketAddr::new(address, default_port))
        }
        Err(_) => {
            let help = "an address, perhaps with a port: \"192.0.2.2\", \"192.0.2.2:8472\", \"2001:db8::2\", \
                        \"[2001:db8::2]:8472\"";
            Err(Wrong::new(format!("`{text}` is not a VTEP's address"), help))
        }
    }
}

fn usable_vtep(address: IpAddr) -> Checked<()> {
    let refuse = |what: &str, help: &str| Err(Wrong::new(format!("{address} is {what}, and no VTEP has it"), help));
    match address {
        _ if address.is_multicast() => {
            refuse("multicast", "name each VTEP by its own address: weft sends a copy to each (head-end replication)")
        }
        _ if address.is_unspecified() => refuse("the unspecified address", "the VTEP's own underlay address"),
        IpAddr::V4(v4) if v4.is_broadcast() => refuse("broadcast", "the VTEP's own underlay address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Err(link_local(&v6.to_string())),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => refuse("an IPv4 address in IPv6's clothes", &format!("\"{v4}\"")),
            None => Ok(()),
        },
        IpAddr::V4(_) => Ok(()),
    }
}

fn link_local(address: &str) -> Wrong {
    let message = format!("{address} is link-local, which weft does not support as an underlay address");
    Wrong::new(message, "a global or unique local address, such as \"2001:db8::1\" or \"fd00::1\"")
}

/// An interface's address with its prefix length.
pub(in crate::control::config) fn cidr(text: &str) -> Checked<Cidr> {
    let help = "an address with its prefix length, such as \"10.10.0.1/24\" or \"2001:db8::1/64\"";
    let bad = |why: &str| Wrong::new(format!("`{text}` {why}"), help);
    let (address, prefix) = text.split_once('/').ok_or_else(|| bad("has no prefix length"))?;
    let address: IpAddr = address.parse().map_err(|_| bad("is not an IP address with a prefix length"))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let digits = !prefix.is_empty() && prefix.len() <= 3 && prefix.bytes().all(|b| b.is_ascii_digit());
    let prefix_len = Some(prefix).filter(|_| digits).and_then(|prefix| prefix.parse::<u8>().ok());
    let Some(prefix_len) = prefix_len.filter(|&len| len <= most) else {
        return Err(Wrong::new(format!("`/{prefix}` is not a prefix length"), format!("/0 to /{most}")));
    };
    if address.is_multicast() || address.is_unspecified() {
        return Err(bad("is not an address that an interface can have"));
    }
    Ok(Cidr { address, prefix_len })
}

/// An address that one station can have.
pub(in crate::control::config) fn station_mac(text: &str) -> Checked<MacAddr> {
    let example = "such as \"02:00:00:00:00:0a\"";
    let mac: MacAddr = text.parse().map_err(|_| {
        Wrong::new(format!("`{text}` is not a MAC address"), format!("six pairs of hexadecimal digits, {example}"))
    })?;
    match mac {
        _ if mac.is_zero() => Err(Wrong::new(format!("{mac} is nobody's address"), example)),
        _ if mac.is_broadcast() => Err(Wrong::new(format!("{mac} is the broadcast address"), example)),
        _ if mac.is_multicast() => {
            let [first, rest @ ..] = mac.octets();
            let [b, c, d, e, f] = rest;
            let help = format!("the first octet must be even, such as {}", MacAddr::new([first & !1, b, c, d, e, f]));
            Err(Wrong::new(format!("{mac} is a multicast address"), help))
        }
        _ => Ok(mac),
    }
}

/// The IP address of a station, for which it can be asked with ARP or a neighbour solicitation.
pub(in crate::control::config) fn station_ip(text: &str) -> Checked<IpAddr> {
    let example = "such as \"10.10.0.2\" or \"fd00:10::2\"";
    let ip: IpAddr = text.parse().map_err(|_| match text.split_once('/') {
        Some((address, _)) => {
            Wrong::new(format!("`{text}` has a prefix length, and a station is one address"), format!("\"{address}\""))
        }
        None => Wrong::new(format!("`{text}` is not an IP address"), example),
    })?;
    let what = match ip {
        _ if ip.is_multicast() => "a multicast address",
        _ if ip.is_unspecified() => "the unspecified address",
        _ if ip.is_loopback() => "a loopback address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4 address in IPv6's clothes",
        IpAddr::V4(_) | IpAddr::V6(_) => return Ok(ip),
    };
    Err(Wrong::new(format!("{ip} is {what}, and no station has it"), example))
}

/// A station that may speak at a port: its MAC address, and perhaps IP addresses or prefixes behind it, as OVN writes it
/// (ovn-nb(5), `port_security`).
pub(in crate::control::config) fn station(text: &str) -> Checked<Station> {
    let mut words = text.split_ascii_whitespace();
    let help =
        "a MAC address, perhaps with IP addresses or prefixes behind it: \"02:00:00:00:00:0a 10.10.0.1 fd00::/64\"";
    let mac = words.next().ok_or_else(|| Wrong::new("an empty text names no station", help))?;
    let address = |word: &str| {
        let Some((address, len)) = word.split_once('/') else {
            let address = station_ip(word)?;
            return Ok(Prefix { address, len: if address.is_ipv4() { 32 } else { 128 } });
        };
        let address: IpAddr =
            address.parse().map_err(|_| Wrong::new(format!("`{word}` is no IP address with a prefix length"), help))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let len = len.parse::<u8>().ok().filter(|len| *len <= most);
        let len =
            len.ok_or_else(|| Wrong::new(format!("`{word}` has no good prefix length"), format!("/0 to /{most}")))?;
        Ok(Prefix { address, len })
    };
    Ok(Station { mac: station_mac(mac)?, addresses: words.map(address).collect::<Result<_, _>>()? })
}

/// A multicast group that can be joined.
pub(in crate::control::config) fn group(text: &str) -> Checked<Group> {
    let example = "a group's address, such as \"239.1.1.1\", \"ff0e::1\" or \"01:02:03:04:05:06\"";
    if let Ok(group) = text.parse::<IpAddr>() {
        let help = match is_for_everybody(group) {
            _ if !group.is_multicast() => "an address from 224.0.0.0/4 or ff00::/8",
            true => "everybody gets its frames anyway",
            false => return Ok(Group::Ip(group)),
        };
        return Err(Wrong::new(format!("{group} is no group that can be joined"), help));
    }
    let mac: MacAddr = text.parse().map_err(|_| Wrong::new(format!("`{text}` is not a group's address"), example))?;
    match mac {
        _ if !mac.is_multicast() => Err(Wrong::new(format!("{mac} is a station's address"), example)),
        MacAddr::BROADCAST => Err(Wrong::new("the broadcast address is no group", example)),
        _ => Ok(Group::Mac(mac)),
    }
}

/// A source of `group`.
pub(in crate::control::config) fn group_source(text: &str, group: Group) -> Checked<IpAddr> {
    let source = station_ip(text)?;
    match group {
        Group::Ip(group) if group.is_ipv4() != source.is_ipv4() => {
            Err(Wrong::new(format!("{source} and the group {group} are of two IP versions"), "a source of the group's"))
        }
        Group::Mac(mac) if !mac.is_zero() => Err(Wrong::new(
            format!("the Ethernet group {mac} has no sources"),
            "take `source` out, or name an IP group",
        )),
        Group::Ip(_) | Group::Mac(_) => Ok(source),
    }
}
