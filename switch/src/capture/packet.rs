//! What a frame is, for people, and which packet it is, for finding it again elsewhere.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::wire::{
    dissect::{Dissected, IpVersion, L3, L4Kind, PROTOCOL_TCP, PROTOCOL_UDP, dissect},
    ethernet::{ETHER_TYPE_ARP, HEADER_LEN},
    vlan::TAG_LEN,
};
use crate::worker::sampling::MAX_SAMPLE_LEN;

/// UDP ports of tunnels with Ethernet inside: VXLAN (IANA; and 8472, Linux's own choice of old), VXLAN-GPE, Geneve.
const TUNNEL_PORTS: [(u16, &str); 4] = [(4789, "VXLAN"), (8472, "VXLAN"), (4790, "VXLAN-GPE"), (6081, "Geneve")];
const GENEVE_PORT: u16 = 6081;
/// Bytes of a tunnel header without options, the same for all of them.
const TUNNEL_HEADER_LEN: usize = 8;
const UDP_HEADER_LEN: usize = 8;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMPV6: u8 = 58;
/// Bytes of an ARP packet for IPv4 over Ethernet; what follows is padding.
const ARP_LEN: usize = 28;

/// What a frame carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// The same wherever this packet is seen, and hardly ever another's.
    pub id: u64,
    /// Who sends what to whom.
    pub text: String,
    /// The tunnels that it is in here, the outermost first.
    pub tunnels: Vec<Tunnel>,
}

/// A tunnel that a packet is in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// How it is spoken.
    pub protocol: &'static str,
    /// Its network identifier, 24 bits.
    pub vni: u32,
    /// Its ends.
    pub from: IpAddr,
    /// Where it leads.
    pub to: IpAddr,
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, vni, from, to } = self;
        write!(f, "{protocol} {vni}, {from} > {to}")
    }
}

impl Packet {
    /// Reads a frame, through tunnels down to the innermost packet.
    ///
    /// What tells a packet from others is what routers, bridges, tunnels and NAT leave alone: of IPv4 the protocol and the
    /// identification, of IPv6 and of packets to groups the addresses, of TCP, UDP and ICMP all but ports, checksum and echo identifier, and the payload.
    /// More than a weft tells of a frame ([`MAX_SAMPLE_LEN`] bytes) is not looked at.
    /// Who cuts a super-frame into segments, fragments it, or changes TCP's options makes other packets of it.
    pub fn of(frame: &[u8]) -> Self {
        let mut tunnels = Vec::new();
        let mut frame = frame;
        while let Some((tunnel, inner)) = inside(frame) {
            tunnels.push(tunnel);
            frame = inner;
        }
        let frame = frame.get(..MAX_SAMPLE_LEN).unwrap_or(frame);
        let dissected = dissect(frame);
        let mut hasher = DefaultHasher::new();
        let text = match &dissected.l3 {
            Some(l3) => {
                hash_ip(frame, l3, &mut hasher);
                describe_ip(frame, &dissected, l3)
            }
            None => {
                let body = body(frame, &dissected);
                (dissected.ether_type, body).hash(&mut hasher);
                describe_other(dissected.ether_type, body)
            }
        };
        Self { id: hasher.finish(), text, tunnels }
    }
}

/// What is behind the Ethernet header and its tags.
fn body<'f>(frame: &'f [u8], dissected: &Dissected) -> &'f [u8] {
    let body = frame.get(HEADER_LEN + TAG_LEN * usize::from(dissected.tag_count)..).unwrap_or_default();
    if dissected.ether_type == ETHER_TYPE_ARP { body.get(..ARP_LEN).unwrap_or(body) } else { body }
}

/// The tunnel that a frame belongs to, and the frame inside.
fn inside(frame: &[u8]) -> Option<(Tunnel, &[u8])> {
    let dissected = dissect(frame);
    let (l3, l4) = (dissected.l3?, dissected.l4?);
    if l4.kind != L4Kind::Udp {
        return None;
    }
    let (port, protocol) = TUNNEL_PORTS.into_iter().find(|(port, _)| *port == l4.dst_port)?;
    let payload = frame.get(usize::from(l4.offset) + UDP_HEADER_LEN..)?;
    let header = payload.first_chunk::<TUNNEL_HEADER_LEN>()?;
    // Geneve's options are counted in words of four bytes (RFC 8926 section 3.4).
    let options = if port == GENEVE_PORT { usize::from(header[0] & 0x3f) * 4 } else { 0 };
    let inner = payload.get(TUNNEL_HEADER_LEN + options..).filter(|inner| inner.len() >= HEADER_LEN)?;
    let (from, to) = addresses(frame, &l3)?;
    let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
    Some((Tunnel { protocol, vni, from, to }, inner))
}

fn addresses(frame: &[u8], l3: &L3) -> Option<(IpAddr, IpAddr)> {
    let both = l3.addresses(frame)?;
    Some(match l3.version {
        IpVersion::V4 => {
            let (from, to) = both.split_first_chunk::<4>()?;
            (Ipv4Addr::from(*from).into(), Ipv4Addr::from(*to.first_chunk::<4>()?).into())
        }
        IpVersion::V6 => {
            let (from, to) = both.split_first_chunk::<16>()?;
            (Ipv6Addr::from(*from).into(), Ipv6Addr::from(*to.first_chunk::<16>()?).into())
        }
    })
}

fn hash_ip(frame: &[u8], l3: &L3, hasher: &mut DefaultHasher) {
    let start = usize::from(l3.offset);
    let end = frame.len().min(start + l3.total_len as usize);
    let packet = frame.get(start..end).unwrap_or_default();
    l3.protocol.hash(hasher);
    match l3.version {
        // identification, flags and fragment offset
        IpVersion::V4 => {
            packet.get(4..8).hash(hasher);
            // What hosts say of groups is alike, and NAT leaves it alone.
            if packet.get(16).is_some_and(|first| *first >= 224) {
                l3.addresses(frame).hash(hasher);
            }
        }
        IpVersion::V6 => l3.addresses(frame).hash(hasher),
    }
    let payload = packet.get(usize::from(l3.header_len)..).unwrap_or_default();
    let changes = |at: usize| match l3.protocol {
        _ if l3.fragment => false,
        // ports, checksum
        PROTOCOL_TCP => matches!(at, 0..4 | 16..18),
        PROTOCOL_UDP => matches!(at, 0..4 | 6..8),
        // checksum, and the identifier of an echo
        PROTOCOL_ICMP | PROTOCOL_ICMPV6 => matches!(at, 2..6),
        _ => false,
    };
    let kept = payload.iter().enumerate().filter(|(at, _)| !changes(*at));
    kept.for_each(|(_, byte)| byte.hash(hasher));
}

fn describe_ip(frame: &[u8], dissected: &Dissected, l3: &L3) -> String {
    let Some((from, to)) = addresses(frame, l3) else { return "IP, cut off".to_owned() };
    let len = l3.total_len;
    let with_port = |address: IpAddr, port: u16| std::net::SocketAddr::new(address, port).to_string();
    match &dissected.l4 {
        Some(l4) if l4.kind == L4Kind::Tcp => {
            let flags = frame.get(usize::from(l4.offset) + 13).copied().map_or_else(String::new, tcp_flags);
            format!("{} > {} TCP{flags}, {len} bytes", with_port(from, l4.src_port), with_port(to, l4.dst_port))
        }
        Some(l4) if l4.kind == L4Kind::Udp => {
            format!("{} > {} UDP, {len} bytes", with_port(from, l4.src_port), with_port(to, l4.dst_port))
        }
        Some(l4) if matches!(l3.protocol, PROTOCOL_ICMP | PROTOCOL_ICMPV6) => {
            format!(
                "{from} > {to} {}, {len} bytes",
                icmp(l3.protocol, frame.get(l4.offset.into()..).unwrap_or_default())
            )
        }
        _ if l3.fragment => format!("{from} > {to} fragment, {len} bytes"),
        _ => format!("{from} > {to} protocol {}, {len} bytes", l3.protocol),
    }
}

/// Which of TCP's flags are set, in tcpdump's letters.
fn tcp_flags(flags: u8) -> String {
    let letters = [(0x02, 'S'), (0x01, 'F'), (0x04, 'R'), (0x08, 'P'), (0x10, '.')];
    let set: String = letters.into_iter().filter(|(bit, _)| flags & bit != 0).map(|(_, letter)| letter).collect();
    if set.is_empty() { set } else { format!(" [{set}]") }
}

/// RFC 792; RFC 4443, RFC 4861.
fn icmp(protocol: u8, message: &[u8]) -> String {
    let &[kind, code, _, _, _, _, seq_high, seq_low, ..] = message else { return "ICMP".to_owned() };
    let seq = u16::from_be_bytes([seq_high, seq_low]);
    match (protocol, kind) {
        (PROTOCOL_ICMP, 8) | (PROTOCOL_ICMPV6, 128) => format!("echo request {seq}"),
        (PROTOCOL_ICMP, 0) | (PROTOCOL_ICMPV6, 129) => format!("echo reply {seq}"),
        (PROTOCOL_ICMP, 3) if code == 4 => format!("fragmentation needed, MTU {seq}"),
        (PROTOCOL_ICMP, 3) => format!("destination unreachable, code {code}"),
        (PROTOCOL_ICMPV6, 1) => format!("destination unreachable, code {code}"),
        (PROTOCOL_ICMPV6, 2) => {
            format!("packet too big, MTU {}", u32::from_be_bytes([message[4], message[5], seq_high, seq_low]))
        }
        (PROTOCOL_ICMP, 11) | (PROTOCOL_ICMPV6, 3) => "time exceeded".to_owned(),
        (PROTOCOL_ICMPV6, 135) => "neighbour solicitation".to_owned(),
        (PROTOCOL_ICMPV6, 136) => "neighbour advertisement".to_owned(),
        (PROTOCOL_ICMPV6, 133) => "router solicitation".to_owned(),
        (PROTOCOL_ICMPV6, 134) => "router advertisement".to_owned(),
        (PROTOCOL_ICMPV6, 130..=132 | 143) => "multicast listeners".to_owned(),
        _ => format!("ICMP type {kind}, code {code}"),
    }
}

fn describe_other(ether_type: u16, body: &[u8]) -> String {
    if ether_type != ETHER_TYPE_ARP {
        return format!("EtherType {ether_type:#06x}, {} bytes", body.len());
    }
    // RFC 826, for IPv4 over Ethernet: operation, sender and target.
    let (Some(&[_, operation]), Some(sender), Some(target)) =
        (body.get(6..8).and_then(<[u8]>::first_chunk), address_at(body, 14), address_at(body, 24))
    else {
        return "ARP, cut off".to_owned();
    };
    match operation {
        1 => format!("ARP: who has {target}, asks {sender}"),
        2 => format!("ARP: {sender} answers {target}"),
        other => format!("ARP, operation {other}"),
    }
}

fn address_at(body: &[u8], at: usize) -> Option<Ipv4Addr> {
    body.get(at..)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use weft_vxlan::{Vni, codec};

    use super::*;

    fn echo(ttl: u8, source: [u8; 4], id: u16, seq: u16) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4(source, [10, 0, 0, 2], ttl)
            .icmpv4_echo_request(id, seq);
        let mut frame = Vec::new();
        builder.write(&mut frame, b"the time of day").unwrap();
        frame
    }

    fn in_vxlan(inner: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0; TUNNEL_HEADER_LEN + inner.len()];
        codec::encap(Vni::new(42).unwrap(), inner, &mut datagram).unwrap();
        let builder =
            PacketBuilder::ethernet2([4; 6], [6; 6]).ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64).udp(50_000, 4789);
        let mut frame = Vec::new();
        builder.write(&mut frame, &datagram).unwrap();
        frame
    }

    #[test]
    fn a_packet_is_the_same_behind_routers_and_nat_and_inside_a_tunnel() {
        let sent = Packet::of(&echo(64, [10, 0, 0, 1], 7, 3));
        assert_eq!(sent.text, "10.0.0.1 > 10.0.0.2 echo request 3, 43 bytes");
        assert_eq!(Packet::of(&echo(61, [192, 0, 2, 9], 700, 3)).id, sent.id);
        let carried = Packet::of(&in_vxlan(&echo(64, [10, 0, 0, 1], 7, 3)));
        assert_eq!((carried.id, &carried.text), (sent.id, &sent.text));
        assert_eq!(carried.tunnels[0].to_string(), "VXLAN 42, 192.0.2.1 > 192.0.2.2");
    }

    #[test]
    fn another_packet_is_another() {
        let sent = Packet::of(&echo(64, [10, 0, 0, 1], 7, 3));
        assert_ne!(Packet::of(&echo(64, [10, 0, 0, 1], 7, 4)).id, sent.id);
    }

    #[test]
    fn padding_behind_ip_and_arp_does_not_count() {
        let mut padded = echo(64, [10, 0, 0, 1], 7, 3);
        let id = Packet::of(&padded).id;
        padded.resize(100, 0);
        assert_eq!(Packet::of(&padded).id, id);

        let mut arp = vec![0xff; 12];
        arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        let asked = Packet::of(&arp);
        assert_eq!(asked.text, "ARP: who has 10.0.0.2, asks 10.0.0.1");
        arp.resize(60, 0);
        assert_eq!(Packet::of(&arp), asked);
    }

    #[test]
    fn whatever_comes_is_described() {
        for len in 0..200 {
            for byte in [0, 0x45, 0x60, 0x81, 0xff] {
                let mut frame = in_vxlan(&echo(64, [10, 0, 0, 1], 7, 3));
                frame.truncate(len);
                if let Some(last) = frame.last_mut() {
                    *last = byte;
                }
                assert!(!Packet::of(&frame).text.is_empty());
            }
        }
    }
}
