//! The bridge's own questions, as frames.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use super::{Member, Settings};
use crate::wire::{
    MacAddr,
    checksum::sum,
    ethernet::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6},
    membership::{ALL_HOSTS, ALL_NODES, PROTOCOL_IGMP, icmpv6_sum, igmp, mld},
    ndisc::PROTOCOL_ICMPV6,
};

/// A query to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueryFrame {
    /// Where.
    pub to: Member,
    /// The frame, from the Ethernet header on, untagged.
    pub bytes: Vec<u8>,
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Question {
    /// The group; unspecified: all.
    pub(super) group: IpAddr,
    /// Whether it goes to the group itself rather than to all hosts.
    pub(super) to_group: bool,
    /// Sources of the group; none: all.
    pub(super) sources: Vec<IpAddr>,
    /// Whether routers are to leave their timers alone.
    pub(super) suppress: bool,
}

impl Question {
    /// Which groups have members at all?
    /// The source of an IGMP query from a bridge without an address.
    pub(super) const UNKNOWN_V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    pub(super) const fn general(is_v4: bool) -> Self {
        let group = if is_v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        Self { group, to_group: false, sources: Vec::new(), suppress: false }
    }

    /// The frame, from the bridge's own address `from`.
    pub(super) fn to_frame(&self, from: MacAddr, settings: &Settings) -> Vec<u8> {
        let max_delay = match self.group.is_unspecified() {
            true => settings.query_response_interval,
            false => settings.last_member_interval,
        };
        match self.group {
            IpAddr::V4(group) => self.igmp(group, from, max_delay, settings),
            IpAddr::V6(group) => self.mld(group, from, max_delay, settings),
        }
    }

    /// `br_multicast.c`: `br_ip4_multicast_alloc_query`. The source is 0.0.0.0: the bridge has no address of its own.
    fn igmp(&self, group: Ipv4Addr, from: MacAddr, max_delay: Duration, settings: &Settings) -> Vec<u8> {
        let dst = if self.to_group { group } else { ALL_HOSTS };
        let tenths = (max_delay.as_millis() / 100) as u8;
        let mut message = vec![igmp::QUERY, tenths, 0, 0];
        message.extend(group.octets());
        if settings.igmp_version == 3 {
            self.append_sources(&mut message, settings);
        }
        let checksum = sum(&message).checksum();
        message[2..4].copy_from_slice(&checksum.to_be_bytes());

        const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];
        let mut header = vec![0x46, TOS_CONTROL];
        header.extend((24 + message.len() as u16).to_be_bytes());
        header.extend([0, 0, 0x40, 0, 1, PROTOCOL_IGMP, 0, 0]);
        header.extend(Ipv4Addr::UNSPECIFIED.octets());
        header.extend(dst.octets());
        header.extend(ROUTER_ALERT);
        let checksum = sum(&header).checksum();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());

        let [_, b, c, d] = dst.octets();
        frame([1, 0, 0x5e, b & 0x7f, c, d], from, ETHER_TYPE_IPV4, &[&header, &message])
    }

    /// `br_multicast.c`: `br_ip6_multicast_alloc_query`. The source is the link-local address that belongs to `from`
    /// (RFC 4291 appendix A).
    fn mld(&self, group: Ipv6Addr, from: MacAddr, max_delay: Duration, settings: &Settings) -> Vec<u8> {
        let (src, dst) = (link_local(from), if self.to_group { group } else { ALL_NODES });
        let milliseconds = max_delay.as_millis() as u16;
        let mut message = vec![mld::QUERY, 0, 0, 0];
        message.extend(milliseconds.to_be_bytes());
        message.extend([0, 0]);
        message.extend(group.octets());
        if settings.mld_version == 2 {
            self.append_sources(&mut message, settings);
        }
        let checksum = icmpv6_sum(src, dst, &message).checksum();
        message[2..4].copy_from_slice(&checksum.to_be_bytes());

        const ROUTER_ALERT: [u8; 8] = [PROTOCOL_ICMPV6, 0, 5, 2, 0, 0, 0, 0];
        let mut header = vec![0x60, 0, 0, 0];
        header.extend((ROUTER_ALERT.len() as u16 + message.len() as u16).to_be_bytes());
        header.extend([0, 1]);
        header.extend(src.octets());
        header.extend(dst.octets());
        header.extend(ROUTER_ALERT);

        let [.., c, d, e, f] = dst.octets();
        frame([0x33, 0x33, c, d, e, f], from, ETHER_TYPE_IPV6, &[&header, &message])
    }

    /// What the newer versions have behind the group: robustness, the query interval, the sources.
    fn append_sources(&self, message: &mut Vec<u8>, settings: &Settings) {
        const ROBUSTNESS: u8 = 2;
        message.push(if self.suppress { 0x08 } else { 0 } | ROBUSTNESS);
        message.push(settings.query_interval.as_secs() as u8);
        message.extend((self.sources.len() as u16).to_be_bytes());
        for source in &self.sources {
            match source {
                IpAddr::V4(source) => message.extend(source.octets()),
                IpAddr::V6(source) => message.extend(source.octets()),
            }
        }
    }
}

/// Internetwork control (RFC 2474).
const TOS_CONTROL: u8 = 0xc0;

/// The address in fe80::/64 that an interface of this Ethernet address gives itself (RFC 4291 appendix A).
pub(super) fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.octets();
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

fn frame(dst: [u8; 6], src: MacAddr, ether_type: u16, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = dst.to_vec();
    bytes.extend(src.octets());
    bytes.extend(ether_type.to_be_bytes());
    parts.iter().for_each(|part| bytes.extend(*part));
    bytes
}
