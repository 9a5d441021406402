//! IGMP and MLD: what hosts and routers say about who wants which multicast group, as a bridge that listens reads it.
//!
//! [`parse`] takes a frame to a group address and finds what the kernel's bridge finds in it, by the same checks in the same
//! order (`net/ipv4/igmp.c`: `ip_mc_check_igmp`; `net/ipv6/mcast_snoop.c`: `ipv6_mc_check_mld`). A packet that fails them is
//! [`Malformed`], be it IGMP or not: an IP header must be whole and right before anybody can say to which group it goes.
//!
//! Versions: IGMP 1 to 3 (RFC 1112, 2236, 3376), MLD 1 and 2 (RFC 2710, 3810), the PIM Hello (RFC 7761 section 4.9.2) and
//! the router advertisement of multicast router discovery (RFC 4286), by which a router is known.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use super::{
    checksum::{Sum, sum},
    dissect::{IPV4_HEADER_LEN, IPV6_HEADER_LEN},
    ethernet::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, ETHER_TYPE_OFFSET, HEADER_LEN},
    ndisc::PROTOCOL_ICMPV6,
    vlan::{TAG_LEN, TPID_8021AD, TPID_8021Q},
};

/// An IP packet to a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'f> {
    /// Who sent it.
    pub src: IpAddr,
    /// The group that it goes to.
    pub dst: IpAddr,
    /// What it says about groups; `None`: it is traffic.
    pub message: Option<Message<'f>>,
}

/// What a packet says about groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message<'f> {
    /// A host is in this group (IGMP versions 1 and 2, MLD version 1).
    Report(IpAddr),
    /// A host leaves this group (IGMP version 2, MLD version 1).
    Leave(IpAddr),
    /// A host says from which sources it wants which groups (IGMP version 3, MLD version 2).
    Records(Records<'f>),
    /// A router asks.
    Query(Query),
    /// A router says that it is one: a PIM Hello, or an advertisement of multicast router discovery.
    Router,
}

/// A router's question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query {
    /// About what.
    pub scope: Scope,
    /// Within what time hosts are to answer.
    pub max_delay: Duration,
}

/// What a query is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// All groups.
    General,
    /// One group.
    Group {
        /// Which.
        group: IpAddr,
        /// Whether routers are to leave their timers alone (S flag, RFC 3376 section 4.1.5).
        suppress: bool,
    },
    /// Nothing that a bridge follows: some sources of a group, or MLD version 1 without a delay.
    Ignored,
}

/// The group records of an IGMP version 3 or MLD version 2 report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Records<'f> {
    bytes: &'f [u8],
    count: u16,
    is_v6: bool,
}

/// One group record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'f> {
    /// What it says.
    pub kind: RecordKind,
    /// Its group.
    pub group: IpAddr,
    sources: &'f [u8],
    is_v6: bool,
}

/// What a group record says of its sources (RFC 3376 section 4.2.12, RFC 3810 section 5.2.12).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordKind {
    /// The host wants these and no others.
    IsInclude,
    /// The host wants all but these.
    IsExclude,
    /// From now on it wants these and no others.
    ToInclude,
    /// From now on it wants all but these.
    ToExclude,
    /// It wants these too.
    Allow,
    /// It no longer wants these.
    Block,
}

impl RecordKind {
    /// By their numbers on the wire, from 1.
    pub const ALL: [Self; 6] =
        [Self::IsInclude, Self::IsExclude, Self::ToInclude, Self::ToExclude, Self::Allow, Self::Block];

    /// Its number on the wire.
    pub const fn code(self) -> u8 {
        self as u8 + 1
    }
}

/// The packet breaks the rules of its protocol, and the kernel's bridge drops it when it snoops.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a whole IP packet with right checksums")]
pub struct Malformed;

/// Every host of a link (RFC 1112).
pub const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// Every node of a link (RFC 4291 section 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Where IGMP version 3 reports go (RFC 3376 section 4.2.14).
pub const IGMPV3_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
/// Where MLD version 2 reports go (RFC 3810 section 5.2.14).
pub const MLDV2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
const ALL_PIM_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 13);
const ALL_SNOOPERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 106);
const ALL_SNOOPERS_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x6a);

/// IP protocol number of IGMP.
pub const PROTOCOL_IGMP: u8 = 2;
const PROTOCOL_PIM: u8 = 103;
const HOP_BY_HOP: u8 = 0;

/// IGMP's message types.
pub mod igmp {
    /// Membership query, all versions.
    pub const QUERY: u8 = 0x11;
    /// Version 1 membership report.
    pub const V1_REPORT: u8 = 0x12;
    /// Version 2 membership report.
    pub const V2_REPORT: u8 = 0x16;
    /// Leave group.
    pub const LEAVE: u8 = 0x17;
    /// Version 3 membership report.
    pub const V3_REPORT: u8 = 0x22;
    /// Multicast router advertisement (RFC 4286).
    pub const ROUTER_ADVERTISEMENT: u8 = 0x30;
    /// Bytes of a version 2 message, and the least of any.
    pub const MESSAGE_LEN: usize = 8;
    /// Bytes of a version 3 query without sources.
    pub const V3_QUERY_LEN: usize = 12;
}

/// MLD's message types, of ICMPv6.
pub mod mld {
    /// Multicast listener query, both versions.
    pub const QUERY: u8 = 130;
    /// Version 1 report.
    pub const REPORT: u8 = 131;
    /// Done.
    pub const DONE: u8 = 132;
    /// Version 2 report.
    pub const V2_REPORT: u8 = 143;
    /// Multicast router advertisement (RFC 4286).
    pub const ROUTER_ADVERTISEMENT: u8 = 151;
    /// Bytes of a version 1 message, and the least of any.
    pub const MESSAGE_LEN: usize = 24;
    /// Bytes of a version 2 query without sources.
    pub const V2_QUERY_LEN: usize = 28;
}

/// Reads a frame to a group address, which may carry one tag. `None`: not IP. With `checksum_is_pending` its sender left the
/// transport checksum undone, and what stands there says nothing.
///
/// # Errors
/// [`Malformed`]
#[inline]
pub fn parse(frame: &[u8], checksum_is_pending: bool) -> Result<Option<Packet<'_>>, Malformed> {
    let Some(ether_type) = read16(frame, ETHER_TYPE_OFFSET) else { return Ok(None) };
    let (ether_type, offset) = match ether_type {
        TPID_8021Q | TPID_8021AD => (read16(frame, HEADER_LEN + 2).unwrap_or(0), HEADER_LEN + TAG_LEN),
        untagged => (untagged, HEADER_LEN),
    };
    let packet = frame.get(offset..).unwrap_or(&[]);
    match ether_type {
        ETHER_TYPE_IPV4 => ipv4(packet, checksum_is_pending).map(Some),
        ETHER_TYPE_IPV6 => ipv6(packet, checksum_is_pending).map(Some),
        _ => Ok(None),
    }
}

impl<'f> Packet<'f> {
    /// Whether it goes to a group that is never kept from anybody: 224.0.0.x (RFC 4541 section 2.1.2), ff02::1.
    #[inline]
    pub fn is_to_everybody(&self) -> bool {
        is_for_everybody(self.dst)
    }
}

/// Whether traffic to this group is never kept from anybody, and joining it means nothing: 224.0.0.x, ff02::1.
#[inline]
pub fn is_for_everybody(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => matches!(group.octets(), [224, 0, 0, _]),
        IpAddr::V6(group) => group == ALL_NODES,
    }
}

#[inline]
fn ipv4(packet: &[u8], checksum_is_pending: bool) -> Result<Packet<'_>, Malformed> {
    let header = packet.first_chunk::<IPV4_HEADER_LEN>().ok_or(Malformed)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_len < IPV4_HEADER_LEN {
        return Err(Malformed);
    }
    if sum(packet.get(..header_len).ok_or(Malformed)?).checksum() != 0 {
        return Err(Malformed);
    }
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let body = packet.get(header_len..total_len).ok_or(Malformed)?;
    let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    let (src, dst) = (address(12), address(16));
    let message = match header[9] {
        PROTOCOL_IGMP => igmp_message(body, dst, checksum_is_pending)?,
        // Version 2, type 0.
        PROTOCOL_PIM if dst == ALL_PIM_ROUTERS && body.len() >= 4 && body[0] == 0x20 => Some(Message::Router),
        _ => None,
    };
    Ok(Packet { src: src.into(), dst: dst.into(), message })
}

#[cold]
fn igmp_message(body: &[u8], dst: Ipv4Addr, checksum_is_pending: bool) -> Result<Option<Message<'_>>, Malformed> {
    let &[kind, code, _, _, a, b, c, d] = body.first_chunk::<{ igmp::MESSAGE_LEN }>().ok_or(Malformed)?;
    if !checksum_is_pending && sum(body).checksum() != 0 {
        return Err(Malformed);
    }
    let group = Ipv4Addr::new(a, b, c, d);
    Ok(Some(match kind {
        igmp::V1_REPORT | igmp::V2_REPORT => Message::Report(group.into()),
        igmp::LEAVE => Message::Leave(group.into()),
        igmp::V3_REPORT => {
            Message::Records(Records { bytes: &body[8..], count: u16::from_be_bytes([c, d]), is_v6: false })
        }
        igmp::QUERY => Message::Query(igmp_query(body, code, group, dst)?),
        igmp::ROUTER_ADVERTISEMENT if dst == ALL_SNOOPERS => Message::Router,
        _ => return Ok(None),
    }))
}

/// `br_multicast.c`: `br_ip4_multicast_query`, and the checks before it. Times are tenths of seconds.
fn igmp_query(body: &[u8], code: u8, group: Ipv4Addr, dst: Ipv4Addr) -> Result<Query, Malformed> {
    if group.is_unspecified() && dst != ALL_HOSTS {
        return Err(Malformed);
    }
    let tenths = |count: u32| Duration::from_millis(u64::from(count) * 100);
    let scope = |group: Ipv4Addr, suppress| match group.is_unspecified() {
        true => Scope::General,
        false => Scope::Group { group: group.into(), suppress },
    };
    if body.len() == igmp::MESSAGE_LEN {
        // Version 1 has no code, and asks for all groups.
        return Ok(match code {
            0 => Query { scope: Scope::General, max_delay: tenths(100) },
            code => Query { scope: scope(group, false), max_delay: tenths(u32::from(code)) },
        });
    }
    let &[.., flags, _, n0, n1] = body.first_chunk::<{ igmp::V3_QUERY_LEN }>().ok_or(Malformed)?;
    let max_delay = tenths(floating_point(u32::from(code), 8)).max(SHORTEST_DELAY);
    let has_sources = [n0, n1] != [0, 0];
    let scope = if has_sources { Scope::Ignored } else { scope(group, flags & SUPPRESS_FLAG != 0) };
    Ok(Query { scope, max_delay })
}

#[inline]
fn ipv6(packet: &[u8], checksum_is_pending: bool) -> Result<Packet<'_>, Malformed> {
    let header = packet.first_chunk::<IPV6_HEADER_LEN>().ok_or(Malformed)?;
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 || payload_len == 0 {
        return Err(Malformed);
    }
    let payload = packet.get(IPV6_HEADER_LEN..IPV6_HEADER_LEN + payload_len).ok_or(Malformed)?;
    let address = |at: usize| header[at..].first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |a| Ipv6Addr::from(*a));
    let (src, dst) = (address(8), address(24));
    // MLD goes behind a router alert, in hop-by-hop options, and nowhere else.
    let message = if header[6] == HOP_BY_HOP { mld_message(payload, src, dst, checksum_is_pending)? } else { None };
    Ok(Packet { src: src.into(), dst: dst.into(), message })
}

#[cold]
fn mld_message(
    payload: &[u8],
    src: Ipv6Addr,
    dst: Ipv6Addr,
    checksum_is_pending: bool,
) -> Result<Option<Message<'_>>, Malformed> {
    let (protocol, body) = skip_extension_headers(payload)?;
    if protocol != PROTOCOL_ICMPV6 {
        return Ok(None);
    }
    if body.len() < 8 || !checksum_is_pending && icmpv6_sum(src, dst, body).checksum() != 0 {
        return Err(Malformed);
    }
    let kind = body[0];
    if kind == mld::ROUTER_ADVERTISEMENT && dst == ALL_SNOOPERS_V6 {
        return Ok(Some(Message::Router));
    }
    let Some(message) = body.first_chunk::<{ mld::MESSAGE_LEN }>() else { return Ok(None) };
    let group = message[8..].first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |group| Ipv6Addr::from(*group));
    Ok(Some(match kind {
        mld::REPORT => Message::Report(group.into()),
        mld::DONE => Message::Leave(group.into()),
        mld::V2_REPORT => {
            let count = u16::from_be_bytes([message[6], message[7]]);
            Message::Records(Records { bytes: &body[8..], count, is_v6: true })
        }
        mld::QUERY => Message::Query(mld_query(body, group, src, dst)?),
        _ => return Ok(None),
    }))
}

/// `br_multicast.c`: `br_ip6_multicast_query`, and the checks before it. Times are milliseconds.
fn mld_query(body: &[u8], group: Ipv6Addr, src: Ipv6Addr, dst: Ipv6Addr) -> Result<Query, Malformed> {
    if !src.is_unicast_link_local() || group.is_unspecified() && dst != ALL_NODES {
        return Err(Malformed);
    }
    let code = u32::from(u16::from_be_bytes([body[4], body[5]]));
    let scope = |suppress| match group.is_unspecified() {
        true => Scope::General,
        false => Scope::Group { group: group.into(), suppress },
    };
    if body.len() == mld::MESSAGE_LEN {
        let scope = if code == 0 { Scope::Ignored } else { scope(false) };
        return Ok(Query { scope, max_delay: Duration::from_millis(u64::from(code)) });
    }
    let &[.., flags, _, n0, n1] = body.first_chunk::<{ mld::V2_QUERY_LEN }>().ok_or(Malformed)?;
    let max_delay = Duration::from_millis(u64::from(floating_point(code, 16))).max(SHORTEST_DELAY);
    let has_sources = [n0, n1] != [0, 0];
    Ok(Query { scope: if has_sources { Scope::Ignored } else { scope(flags & SUPPRESS_FLAG != 0) }, max_delay })
}

/// A query of the newer versions that gives hosts no time gives them this (`jiffy` of a kernel with a clock of 1 kHz).
const SHORTEST_DELAY: Duration = Duration::from_millis(1);
/// The S flag (RFC 3376 section 4.1.5, RFC 3810 section 5.1.7).
const SUPPRESS_FLAG: u8 = 0x08;

/// A time of which the highest of `bits` bits says that the others are three of exponent and a mantissa (RFC 3376 section
/// 4.1.1, RFC 3810 section 5.1.3).
const fn floating_point(code: u32, bits: u32) -> u32 {
    if code < 1 << (bits - 1) {
        return code;
    }
    let mantissa_bits = bits - 4;
    let (exponent, mantissa) = (code >> mantissa_bits & 7, code & ((1 << mantissa_bits) - 1));
    (mantissa | 1 << mantissa_bits) << (exponent + 3)
}

/// The sum of an ICMPv6 message and its pseudo header: zero as a checksum if the message carries the right one.
pub fn icmpv6_sum(src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) -> Sum {
    let pseudo = sum(&src.octets()).combine(sum(&dst.octets()));
    pseudo.add32(message.len() as u32).add16(u16::from(PROTOCOL_ICMPV6)).combine(sum(message))
}

/// The first protocol that is no extension header, and its bytes (`net/ipv6/exthdrs_core.c`: `ipv6_skip_exthdr`). Extension
/// headers that are cut off are malformed; those of a later fragment hide what follows.
fn skip_extension_headers(payload: &[u8]) -> Result<(u8, &[u8]), Malformed> {
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const NONE: u8 = 59;
    const DESTINATION_OPTIONS: u8 = 60;
    let (mut protocol, mut rest) = (HOP_BY_HOP, payload);
    loop {
        let extension_len = match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | FRAGMENT | AUTHENTICATION => {
                let &[next, len, offset0, offset1] = rest.first_chunk().ok_or(Malformed)?;
                let extension_len = match protocol {
                    FRAGMENT if u16::from_be_bytes([offset0, offset1]) & 0xfff8 != 0 => return Ok((FRAGMENT, rest)),
                    FRAGMENT => 8,
                    AUTHENTICATION => (usize::from(len) + 2) * 4,
                    _ => (usize::from(len) + 1) * 8,
                };
                protocol = next;
                extension_len
            }
            NONE => return Err(Malformed),
            _ => return Ok((protocol, rest)),
        };
        rest = rest.get(extension_len..).ok_or(Malformed)?;
    }
}

#[inline(always)]
fn read16(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().copied().map(u16::from_be_bytes)
}

impl<'f> Records<'f> {
    /// The records in order. The first that is cut off ends them with [`Malformed`]; those of unknown kind are left out.
    pub fn iter(&self) -> impl Iterator<Item = Result<Record<'f>, Malformed>> + use<'f> {
        let Self { mut bytes, count, is_v6 } = *self;
        let mut left = count;
        std::iter::from_fn(move || {
            while left > 0 {
                left -= 1;
                let Some((record, rest)) = record(bytes, is_v6) else {
                    left = 0;
                    return Some(Err(Malformed));
                };
                bytes = rest;
                if let Some(record) = record {
                    return Some(Ok(record));
                }
            }
            None
        })
    }

    /// Whether as many are there as the message says.
    pub fn are_whole(&self) -> bool {
        self.iter().all(|record| record.is_ok())
    }
}

/// The first record, unless its kind is unknown, and what is behind it. `None`: it is cut off.
fn record(bytes: &[u8], is_v6: bool) -> Option<(Option<Record<'_>>, &[u8])> {
    let address_len = if is_v6 { 16 } else { 4 };
    let (head, rest) = bytes.split_at_checked(4 + address_len)?;
    let source_count = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let (sources, rest) = rest.split_at_checked(source_count * address_len)?;
    let known = RecordKind::ALL.into_iter().find(|kind| kind.code() == head[0]);
    let record = known.map(|kind| Record { kind, group: address(&head[4..]), sources, is_v6 });
    // The words of auxiliary data are not skipped: the kernel takes what follows the sources for the next record.
    Some((record, rest))
}

impl<'f> Record<'f> {
    /// Its sources, as they stand there.
    pub fn sources(&self) -> impl Iterator<Item = IpAddr> + Clone + use<'f> {
        self.sources.chunks_exact(if self.is_v6 { 16 } else { 4 }).map(address)
    }

    /// Whether it names no source.
    pub const fn is_without_sources(&self) -> bool {
        self.sources.is_empty()
    }
}

/// Four bytes are an IPv4 address, sixteen an IPv6 address.
fn address(bytes: &[u8]) -> IpAddr {
    match (bytes.first_chunk::<16>(), bytes.first_chunk::<4>()) {
        (Some(v6), _) => Ipv6Addr::from(*v6).into(),
        (None, Some(v4)) => Ipv4Addr::from(*v4).into(),
        (None, None) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
