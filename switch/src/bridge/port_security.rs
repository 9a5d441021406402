//! Port security: whose addresses a port's frames may carry.
//!
//! A switch believes what frames say of their senders. Whoever is free in what he says can take another's place: by the
//! Ethernet source, by ARP or neighbour discovery, by the IP source. A port that names its stations holds what comes in
//! there to them, before anything is learned from it. The rules are those of OVN's port security
//! (ovn-nb(5), `port_security`): a station without IP addresses may have any, one that has some speaks for no other, and
//! may still ask for an address (DHCP, duplicate address detection) before it has one.
//!
//! What it may not do besides: a station with addresses is a host. Router advertisements, redirects and what DHCP servers
//! say are refused from it (RFC 6105, RFC 7113, RFC 7610). A router or a DHCP server is named by its Ethernet address alone.
//!
//! Looked at is the frame as its receivers would read it, behind up to two tags and behind IPv6's extension headers, since
//! a check that looks less far than they do is none.

use std::{fmt, net::IpAddr};

use super::DropReason;
use crate::wire::{
    MacAddr,
    arp::Arp,
    dissect::{Dissected, IpVersion, L3, PROTOCOL_UDP, dissect},
    ethernet::{ETHER_TYPE_ARP, ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, ETHER_TYPE_OFFSET, HEADER_LEN},
    ndisc::{PROTOCOL_ICMPV6, link_local},
    vlan::{TAG_LEN, TPID_8021AD, TPID_8021Q},
};

/// The stations of a port; none: whoever wants.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PortSecurity(Box<[Station]>);

/// A station that may speak at a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Station {
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its IP addresses, or where they lie; none: any.
    pub addresses: Vec<Prefix>,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// One of them.
    pub address: IpAddr,
    /// How many bits of it all of them have: up to 32 or 128.
    pub len: u8,
}

impl PortSecurity {
    /// Of these stations, each named once.
    pub fn new(stations: &[Station]) -> Self {
        Self(stations.into())
    }

    /// Whether whoever wants may speak.
    #[inline]
    pub const fn is_off(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a frame from `src`, without the tag that belongs to its port, may enter.
    ///
    /// # Errors
    /// What about it is not its sender's.
    pub fn check(&self, src: MacAddr, frame: &[u8]) -> Result<(), DropReason> {
        if self.is_off() {
            return Ok(());
        }
        let station = self.0.iter().find(|station| station.mac == src).ok_or(DropReason::MacSpoofed)?;
        let dissected = dissect(frame);
        match dissected.ether_type {
            ETHER_TYPE_ARP | ETHER_TYPE_RARP => station.check_arp(frame, &dissected),
            ETHER_TYPE_IPV4 | ETHER_TYPE_IPV6 if station.is_free() => match &dissected.l3 {
                Some(l3) => station.check_neighbour(frame, l3),
                None => Ok(()),
            },
            ETHER_TYPE_IPV4 | ETHER_TYPE_IPV6 => {
                let l3 = dissected.l3.ok_or(DropReason::IpSpoofed)?;
                match l3.version {
                    IpVersion::V4 => station.check_ipv4(frame, &l3),
                    IpVersion::V6 => station.check_ipv6(frame, &l3),
                }
            }
            // More tags than anybody here looks behind.
            TPID_8021Q | TPID_8021AD if !station.is_free() => Err(DropReason::IpSpoofed),
            _ => Ok(()),
        }
    }
}

/// EtherType of reverse ARP (RFC 903), whose packets are ARP's.
const ETHER_TYPE_RARP: u16 = 0x8035;

/// UDP ports of DHCP servers and clients (RFC 2131 section 4.1), and of DHCPv6 servers (RFC 8415 section 7.2).
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const DHCPV6_SERVER: u16 = 547;

/// IP protocol number of IGMP, which a host speaks before it has an address as well (RFC 3376 section 4.2.13).
const PROTOCOL_IGMP: u8 = 2;

/// ICMPv6 types (RFC 4861 section 4; RFC 2710, RFC 3810).
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
const MLD_REPORT: u8 = 131;
const MLD_DONE: u8 = 132;
const MLD2_REPORT: u8 = 143;

/// Options that say a link-layer address (RFC 4861 section 4.6.1).
const LINK_LAYER_ADDRESSES: [u8; 2] = [1, 2];

impl Station {
    /// Whether it may have any IP address.
    fn is_free(&self) -> bool {
        self.addresses.is_empty()
    }

    fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|prefix| prefix.contains(address))
    }

    /// The same, or the link-local address that comes with its Ethernet address.
    fn has_or_derives(&self, address: IpAddr) -> bool {
        self.has(address) || address == IpAddr::V6(link_local(self.mac))
    }

    fn check_arp(&self, frame: &[u8], dissected: &Dissected) -> Result<(), DropReason> {
        // The parser reads untagged frames of ARP's own type.
        let mut untagged = [0; HEADER_LEN + crate::wire::arp::ARP_LEN];
        let at = HEADER_LEN + TAG_LEN * usize::from(dissected.tag_count);
        let packet = frame.get(at..).and_then(|rest| rest.get(..crate::wire::arp::ARP_LEN));
        let packet = packet.ok_or(DropReason::ArpSpoofed)?;
        untagged[ETHER_TYPE_OFFSET..HEADER_LEN].copy_from_slice(&ETHER_TYPE_ARP.to_be_bytes());
        untagged[HEADER_LEN..].copy_from_slice(packet);
        let arp = Arp::parse(&untagged).ok_or(DropReason::ArpSpoofed)?;
        // 0.0.0.0: a probe, or a question before it has an address (RFC 5227 section 1.1).
        let speaks_for_itself = self.is_free() || arp.sender_ip.is_unspecified() || self.has(arp.sender_ip.into());
        if arp.sender_mac == self.mac && speaks_for_itself { Ok(()) } else { Err(DropReason::ArpSpoofed) }
    }

    fn check_ipv4(&self, frame: &[u8], l3: &L3) -> Result<(), DropReason> {
        let (source, _) = addresses(frame, l3).ok_or(DropReason::IpSpoofed)?;
        let ports = udp_ports(frame, l3);
        match ports {
            Some((DHCP_SERVER, _)) => return Err(DropReason::RogueServer),
            // A fragment that ends within its ports would hide them.
            None if l3.protocol == PROTOCOL_UDP && is_first_fragment(frame, l3) => return Err(DropReason::IpSpoofed),
            Some(_) | None => {}
        }
        let has_none_yet =
            source.is_unspecified() && (ports == Some((DHCP_CLIENT, DHCP_SERVER)) || l3.protocol == PROTOCOL_IGMP);
        if self.has(source) || has_none_yet { Ok(()) } else { Err(DropReason::IpSpoofed) }
    }

    fn check_ipv6(&self, frame: &[u8], l3: &L3) -> Result<(), DropReason> {
        let (source, _) = addresses(frame, l3).ok_or(DropReason::IpSpoofed)?;
        let message = self.icmpv6_type(frame, l3)?;
        match (l3.protocol, message) {
            (PROTOCOL_UDP, _) => match udp_ports(frame, l3) {
                Some((DHCPV6_SERVER, _)) => return Err(DropReason::RogueServer),
                None if is_first_fragment(frame, l3) => return Err(DropReason::IpSpoofed),
                Some(_) | None => {}
            },
            (PROTOCOL_ICMPV6, Some(ROUTER_ADVERTISEMENT | REDIRECT)) => return Err(DropReason::RogueServer),
            _ => {}
        }
        let has_none_yet = source.is_unspecified()
            && matches!(
                message,
                Some(ROUTER_SOLICITATION | NEIGHBOUR_SOLICITATION | MLD_REPORT | MLD_DONE | MLD2_REPORT)
            );
        if !self.has_or_derives(source) && !has_none_yet {
            return Err(DropReason::IpSpoofed);
        }
        self.check_neighbour(frame, l3)
    }

    /// The type of an ICMPv6 message, if this is one whose type is here.
    ///
    /// # Errors
    /// The packet hides what it is: behind more extension headers than anybody walks, or in fragments of what is never sent in
    /// fragments (RFC 6980).
    fn icmpv6_type(&self, frame: &[u8], l3: &L3) -> Result<Option<u8>, DropReason> {
        // Hop-by-hop options, routing, fragment, destination options: the walk over them has ended before the last.
        if matches!(l3.protocol, 0 | 43 | 44 | 60) {
            return Err(DropReason::IpSpoofed);
        }
        if l3.protocol != PROTOCOL_ICMPV6 || l3.fragment && !is_first_fragment(frame, l3) {
            return Ok(None);
        }
        let message = *payload(frame, l3).first().ok_or(DropReason::IpSpoofed)?;
        let is_discovery = (ROUTER_SOLICITATION..=REDIRECT).contains(&message);
        if l3.fragment && is_discovery { Err(DropReason::ArpSpoofed) } else { Ok(Some(message)) }
    }

    /// Neighbour discovery says only what is so of this station.
    fn check_neighbour(&self, frame: &[u8], l3: &L3) -> Result<(), DropReason> {
        if l3.version != IpVersion::V6 {
            return Ok(());
        }
        let options_at = match self.icmpv6_type(frame, l3)? {
            Some(ROUTER_SOLICITATION) => 8,
            Some(ROUTER_ADVERTISEMENT) => 16,
            Some(NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT) => 24,
            Some(_) | None => return Ok(()),
        };
        let message = payload(frame, l3);
        if message[0] == NEIGHBOUR_ADVERTISEMENT && !self.is_free() {
            let target: [u8; 16] =
                message.get(8..24).and_then(|at| at.try_into().ok()).ok_or(DropReason::ArpSpoofed)?;
            if !self.has_or_derives(IpAddr::from(target)) {
                return Err(DropReason::ArpSpoofed);
            }
        }
        let mut options = message.get(options_at..).unwrap_or_default();
        while let [kind, units, ..] = *options {
            let len = usize::from(units) * 8;
            let Some((option, rest)) = options.split_at_checked(len).filter(|_| len > 0) else { break };
            if LINK_LAYER_ADDRESSES.contains(&kind) && option[2..8] != self.mac.octets() {
                return Err(DropReason::ArpSpoofed);
            }
            options = rest;
        }
        Ok(())
    }
}

impl Prefix {
    /// Whether an address begins so.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = u32::from(own) ^ u32::from(other);
                differing.checked_shr(32 - u32::from(self.len)).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = u128::from(own) ^ u128::from(other);
                differing.checked_shr(128 - u32::from(self.len)).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Whether it is one address.
    fn is_one(&self) -> bool {
        self.len == if self.address.is_ipv4() { 32 } else { 128 }
    }
}

/// As the configuration writes it.
impl fmt::Display for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.mac)?;
        self.addresses.iter().try_for_each(|prefix| match prefix.is_one() {
            true => write!(f, " {}", prefix.address),
            false => write!(f, " {}/{}", prefix.address, prefix.len),
        })
    }
}

/// Source and destination.
fn addresses(frame: &[u8], l3: &L3) -> Option<(IpAddr, IpAddr)> {
    let both = l3.addresses(frame)?;
    match l3.version {
        IpVersion::V4 => {
            let [source, destination]: [[u8; 4]; 2] = [both.first_chunk()?, both.last_chunk()?].map(|chunk| *chunk);
            Some((source.into(), destination.into()))
        }
        IpVersion::V6 => {
            let [source, destination]: [[u8; 16]; 2] = [both.first_chunk()?, both.last_chunk()?].map(|chunk| *chunk);
            Some((source.into(), destination.into()))
        }
    }
}

/// What is behind the IP header in this very frame.
fn payload<'f>(frame: &'f [u8], l3: &L3) -> &'f [u8] {
    frame.get(usize::from(l3.offset) + usize::from(l3.header_len)..).unwrap_or_default()
}

/// Whether the payload begins in this packet, be it cut into fragments or not.
fn is_first_fragment(frame: &[u8], l3: &L3) -> bool {
    let offset_at = match l3.version {
        IpVersion::V4 => usize::from(l3.offset) + 6,
        // The walk over the extension headers ends behind the fragment header, of 8 bytes.
        IpVersion::V6 if l3.fragment => usize::from(l3.offset) + usize::from(l3.header_len) - 6,
        IpVersion::V6 => return true,
    };
    let mask = if l3.version == IpVersion::V4 { 0x1fff } else { 0xfff8 };
    let field = frame.get(offset_at..).and_then(<[u8]>::first_chunk).map(|bytes| u16::from_be_bytes(*bytes));
    field.is_some_and(|field| field & mask == 0)
}

/// Source and destination port of UDP, if they are here.
fn udp_ports(frame: &[u8], l3: &L3) -> Option<(u16, u16)> {
    if l3.protocol != PROTOCOL_UDP || !is_first_fragment(frame, l3) {
        return None;
    }
    let &[a, b, c, d] = payload(frame, l3).first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

#[cfg(test)]
mod tests;
