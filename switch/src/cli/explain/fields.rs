//! A frame by its fields: what `--src`, `--ip` and the others say, and the frame that is made of them.
//!
//! What is not said has a value that makes a frame of the kind that is; so `--dst` alone is enough.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::{Args, ValueEnum};
use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, IpDscp, IpEcn, IpHeaders, Ipv4Header, Ipv6Header, PacketBuilder,
};

use super::UsageError;
use crate::{
    buffer::MAX_FRAME_LEN,
    wire::{
        MacAddr, Tag, Tpid,
        vlan::{self, TAG_LEN},
    },
};

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "The frame by its fields")]
pub(super) struct Fields {
    /// Source address [default: that of the port's interface]
    #[arg(long, value_name = "MAC")]
    pub(super) src: Option<MacAddr>,
    /// Destination address [default: what fits the packet, or everybody]
    #[arg(long, value_name = "MAC")]
    pub(super) dst: Option<MacAddr>,
    /// 802.1Q tag: a VLAN (0 for a priority alone), perhaps with a priority
    #[arg(long, value_name = "VID[:PCP]", value_parser = tag)]
    pub(super) vlan: Option<Tag>,
    /// IP source and destination, with a comma or > between them; with --live also one address that is either
    #[arg(long, value_name = "SRC,DST", value_parser = addresses, conflicts_with_all = ["src_ip", "dst_ip"])]
    pub(super) ip: Option<Ips>,
    /// IP source
    #[arg(long, value_name = "ADDRESS")]
    pub(super) src_ip: Option<IpAddr>,
    /// IP destination
    #[arg(long, value_name = "ADDRESS")]
    pub(super) dst_ip: Option<IpAddr>,
    /// What is in the IP packet [default: icmp, an echo request; udp or tcp if there are ports]
    #[arg(long)]
    pub(super) proto: Option<Proto>,
    /// Source port
    #[arg(long, value_name = "PORT")]
    pub(super) sport: Option<u16>,
    /// Destination port
    #[arg(long, value_name = "PORT")]
    pub(super) dport: Option<u16>,
    /// Bytes of the whole frame, tag included
    #[arg(long, value_name = "BYTES")]
    pub(super) len: Option<usize>,
    /// TTL or hop limit [default: 64]
    #[arg(long)]
    pub(super) ttl: Option<u8>,
    /// TOS or traffic class: DSCP and ECN, such as 0xb8 [default: 0]
    #[arg(long, value_parser = byte)]
    pub(super) tos: Option<u8>,
    /// IPv4's "don't fragment"
    #[arg(long)]
    pub(super) df: bool,
    /// An ARP packet between the IP addresses
    #[arg(long, conflicts_with_all = ["proto", "sport", "dport", "ttl", "tos", "df"])]
    pub(super) arp: Option<Arp>,
}

/// `--ip`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ips {
    /// One address.
    One(IpAddr),
    /// Source and destination.
    Two(IpAddr, IpAddr),
}

/// `--proto`
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Proto {
    /// ICMP or ICMPv6: an echo request
    Icmp,
    /// UDP
    Udp,
    /// TCP: a SYN
    Tcp,
}

/// `--arp`
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Arp {
    /// A request: the source asks for the destination
    WhoHas,
    /// A reply: the source has its address
    IsAt,
}

impl Fields {
    /// Whether nothing is said, so that the frame comes from elsewhere.
    pub(super) fn are_empty(&self) -> bool {
        let Self { src, dst, vlan, ip, src_ip, dst_ip, proto, sport, dport, len, ttl, tos, df, arp } = self;
        let addresses = src.is_none() && dst.is_none() && ip.is_none() && src_ip.is_none() && dst_ip.is_none();
        let transport = proto.is_none() && sport.is_none() && dport.is_none() && arp.is_none();
        addresses && transport && vlan.is_none() && len.is_none() && ttl.is_none() && tos.is_none() && !df
    }

    /// The frame; `own` is the source address if none is said.
    pub(super) fn frame(&self, own: Option<MacAddr>) -> Result<Vec<u8>, UsageError> {
        let src = self.src.or(own).ok_or_else(|| usage("whose frame is it? Say --src MAC"))?;
        let ips = match (self.ip, self.src_ip, self.dst_ip) {
            (Some(Ips::Two(src, dst)), ..) | (None, Some(src), Some(dst)) => Some((src, dst)),
            (None, None, None) => None,
            (Some(Ips::One(_)), ..) => return Err(usage("--ip takes two addresses, such as 10.0.0.1,10.0.0.2")),
            (None, Some(_), None) => {
                return Err(usage("an IP packet also has a destination: --dst-ip, or --ip SRC,DST"));
            }
            (None, None, Some(_)) => return Err(usage("an IP packet also has a source: --src-ip, or --ip SRC,DST")),
        };
        let tag_len = if self.vlan.is_some() { TAG_LEN } else { 0 };
        let len = match self.len {
            Some(len) if len > MAX_FRAME_LEN => {
                return Err(usage(format!("no frame has {len} bytes: {MAX_FRAME_LEN} are the most")));
            }
            Some(len) => Some(len.checked_sub(tag_len).ok_or_else(|| too_short(len))?),
            None => None,
        };
        let untagged = match (ips, self.arp) {
            (Some(ips), Some(operation)) => self.arp_packet(src, ips, operation, len)?,
            (None, Some(_)) => return Err(usage("--arp needs two addresses: --ip SRC,DST")),
            (Some(ips), None) => self.ip_packet(src, ips, len)?,
            (None, None) => self.plain(src, len)?,
        };
        let Some(tag) = self.vlan else { return Ok(untagged) };
        let mut room = [&[0; TAG_LEN], untagged.as_slice()].concat();
        let tagged = vlan::push(&mut room, tag.to_bytes(Tpid::Customer)).map(|frame| frame.to_vec());
        tagged.ok_or_else(|| usage("a frame without a header has no place for a tag"))
    }

    /// Neither IP nor ARP: the type for local experiments, which no host answers.
    fn plain(&self, src: MacAddr, len: Option<usize>) -> Result<Vec<u8>, UsageError> {
        let named = [
            self.proto.is_some(),
            self.sport.is_some(),
            self.dport.is_some(),
            self.ttl.is_some(),
            self.tos.is_some(),
            self.df,
        ];
        if named.contains(&true) {
            return Err(usage("--proto, --sport, --dport, --ttl, --tos and --df go with IP addresses: --ip SRC,DST"));
        }
        let dst = self.dst.unwrap_or(MacAddr::BROADCAST);
        let mut frame = [&dst.octets()[..], &src.octets(), &[0x88, 0xb5]].concat();
        padded(&mut frame, Some(len.unwrap_or(SMALLEST)))?;
        Ok(frame)
    }

    fn arp_packet(
        &self,
        src: MacAddr,
        ips: (IpAddr, IpAddr),
        operation: Arp,
        len: Option<usize>,
    ) -> Result<Vec<u8>, UsageError> {
        let (IpAddr::V4(sender), IpAddr::V4(target)) = ips else {
            return Err(usage("ARP is IPv4's"));
        };
        let (operation, target_mac) = match operation {
            Arp::WhoHas => (ArpOperation::REQUEST, MacAddr::ZERO),
            Arp::IsAt => (ArpOperation::REPLY, self.dst.unwrap_or(MacAddr::BROADCAST)),
        };
        let (own, other) = (src.octets(), target_mac.octets());
        let packet = ArpPacket::new(
            ArpHardwareId::ETHERNET,
            EtherType::IPV4,
            operation,
            &own,
            &sender.octets(),
            &other,
            &target.octets(),
        );
        let packet = packet.map_err(|error| usage(error.to_string()))?;
        let dst = self.dst.unwrap_or(MacAddr::BROADCAST);
        let mut frame = Vec::new();
        let written = PacketBuilder::ethernet2(own, dst.octets()).arp(packet).write(&mut frame);
        written.map_err(|error| usage(error.to_string()))?;
        padded(&mut frame, len)?;
        Ok(frame)
    }

    fn ip_packet(&self, src: MacAddr, ips: (IpAddr, IpAddr), len: Option<usize>) -> Result<Vec<u8>, UsageError> {
        let dst = self.dst.or_else(|| group_address(ips.1)).ok_or_else(|| {
            usage(format!("which station has {}? Say --dst MAC (--dst ff:ff:ff:ff:ff:ff for everybody)", ips.1))
        })?;
        let is_v4 = ips.1.is_ipv4();
        let builder = PacketBuilder::ethernet2(src.octets(), dst.octets()).ip(self.ip_header(ips)?);
        let (sport, dport) = (self.sport.unwrap_or(40_000), self.dport);
        let has_ports = self.sport.is_some() || dport.is_some();
        let mut frame = Vec::new();
        // Headers first, so that the payload can be what is left.
        macro_rules! write {
            ($builder:expr, $payload_len:expr) => {{
                let builder = $builder;
                let payload_len = match len {
                    Some(len) => len.checked_sub(builder.size(0)).ok_or_else(|| too_short(len))?,
                    None => $payload_len,
                };
                let payload: Vec<u8> = (0..payload_len).map(|index| index as u8).collect();
                builder.write(&mut frame, &payload).map_err(|error| usage(error.to_string()))?;
            }};
        }
        match self.proto {
            Some(Proto::Icmp) if has_ports => return Err(usage("ICMP has no ports: leave --sport and --dport out")),
            Some(Proto::Tcp) => write!(builder.tcp(sport, dport.unwrap_or(80), 1, 64_240).syn(), 0),
            Some(Proto::Udp) => write!(builder.udp(sport, dport.unwrap_or(9)), 18),
            None if has_ports => write!(builder.udp(sport, dport.unwrap_or(9)), 18),
            Some(Proto::Icmp) | None if is_v4 => write!(builder.icmpv4_echo_request(1, 1), 56),
            Some(Proto::Icmp) | None => write!(builder.icmpv6_echo_request(1, 1), 56),
        }
        Ok(frame)
    }

    fn ip_header(&self, ips: (IpAddr, IpAddr)) -> Result<IpHeaders, UsageError> {
        let (ttl, tos) = (self.ttl.unwrap_or(64), self.tos.unwrap_or(0));
        match ips {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut header = Ipv4Header { time_to_live: ttl, dont_fragment: self.df, ..Ipv4Header::default() };
                (header.source, header.destination) = (src.octets(), dst.octets());
                (header.dscp, header.ecn) =
                    (IpDscp::try_new(tos >> 2).unwrap_or_default(), IpEcn::try_new(tos & 0b11).unwrap_or_default());
                Ok(IpHeaders::Ipv4(header, Default::default()))
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) if !self.df => {
                let mut header = Ipv6Header { traffic_class: tos, hop_limit: ttl, ..Ipv6Header::default() };
                (header.source, header.destination) = (src.octets(), dst.octets());
                Ok(IpHeaders::Ipv6(header, Default::default()))
            }
            (IpAddr::V6(_), IpAddr::V6(_)) => Err(usage("IPv6 has no DF: nobody on the way fragments it")),
            (src, dst) => Err(usage(format!("{src} and {dst} are of two families"))),
        }
    }
}

/// Ethernet's smallest frame, without its checksum (IEEE 802.3 section 3.2.8).
const SMALLEST: usize = 60;

/// Fills a frame with zeros up to its length.
fn padded(frame: &mut Vec<u8>, len: Option<usize>) -> Result<(), UsageError> {
    let len = len.unwrap_or(frame.len());
    if len < frame.len() {
        return Err(too_short(len));
    }
    frame.resize(len, 0);
    Ok(())
}

fn too_short(len: usize) -> UsageError {
    usage(format!("{len} bytes are too few for the headers"))
}

/// The Ethernet address of an IP group (RFC 1112 section 6.4, RFC 2464 section 7).
fn group_address(ip: IpAddr) -> Option<MacAddr> {
    match ip {
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some(MacAddr::BROADCAST),
        IpAddr::V4(group) if group.is_multicast() => {
            let [_, b, c, d] = group.octets();
            Some(MacAddr::new([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
        }
        IpAddr::V6(group) if group.is_multicast() => {
            let [.., a, b, c, d] = Ipv6Addr::octets(&group);
            Some(MacAddr::new([0x33, 0x33, a, b, c, d]))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

fn usage(message: impl Into<String>) -> UsageError {
    UsageError(message.into())
}

fn tag(text: &str) -> Result<Tag, String> {
    let (vid, priority) = text.split_once(':').unwrap_or((text, "0"));
    let number = |text: &str, most: u16| text.parse::<u16>().ok().filter(|number| *number <= most);
    match (number(vid, 4095), number(priority, 7)) {
        (Some(vid), Some(priority)) => Ok(Tag(vid | priority << 13)),
        (_, _) => Err("a VLAN of 0 to 4095, perhaps with a priority of 0 to 7, such as 10 or 10:3".to_owned()),
    }
}

fn addresses(text: &str) -> Result<Ips, String> {
    let address = |text: &str| text.trim().parse().map_err(|_| format!("`{}` is no IP address", text.trim()));
    match text.split_once([',', '>']) {
        Some((src, dst)) => Ok(Ips::Two(address(src)?, address(dst)?)),
        None => Ok(Ips::One(address(text)?)),
    }
}

pub(super) fn byte(text: &str) -> Result<u8, String> {
    let value = match text.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16),
        None => text.parse(),
    };
    value.map_err(|_| "0 to 255, or 0x00 to 0xff".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::describe::describe;

    const OWN: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);

    /// Fields of a frame, one a line: a frame that can be described, or an error that says what would be one.
    #[test]
    fn fuzz_fields() {
        crate::fuzzing::inputs(|input| {
            let Ok(words) = std::str::from_utf8(input) else { return };
            let _ = crate::cli::explain::bytes_of(words);
            match <Line as clap::Parser>::try_parse_from(["explain"].into_iter().chain(words.split('\n'))) {
                Ok(line) => match line.fields.frame(Some(OWN)) {
                    Ok(frame) => assert!(frame.len() >= 14 && !describe(&frame).to_string().is_empty()),
                    Err(error) => assert!(!error.to_string().is_empty()),
                },
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        });
    }

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        fields: Fields,
    }

    fn built(line: &str) -> Result<Vec<u8>, String> {
        let line = <Line as clap::Parser>::try_parse_from(format!("weft {line}").split_whitespace());
        line.map_err(|error| error.to_string())?.fields.frame(Some(OWN)).map_err(|error| error.to_string())
    }

    #[test]
    fn little_is_enough() {
        for (line, expected) in [
            ("--dst 02:00:00:00:00:02", "02:00:00:00:00:01 > 02:00:00:00:00:02 type 0x88b5, 60 bytes"),
            ("--vlan 10", "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff VLAN 10 type 0x88b5, 64 bytes"),
            (
                "--ip 10.0.0.1,10.0.0.2 --dst 02:00:00:00:00:02",
                "02:00:00:00:00:01 > 02:00:00:00:00:02 IPv4 10.0.0.1 > 10.0.0.2 ICMP echo request id 1 seq 1, 98 bytes",
            ),
            (
                "--ip fd00::1>ff02::1:ff00:2 --dport 53",
                "02:00:00:00:00:01 > 33:33:ff:00:00:02 IPv6 fd00::1 > ff02::1:ff00:2 UDP 40000 > 53, 80 bytes",
            ),
            (
                "--src-ip 10.0.0.1 --dst-ip 224.0.0.251 --proto udp --len 1400 --vlan 7:5",
                "02:00:00:00:00:01 > 01:00:5e:00:00:fb VLAN 7 priority 5 IPv4 10.0.0.1 > 224.0.0.251 UDP 40000 > 9, 1400 bytes",
            ),
            (
                "--arp who-has --ip 10.0.0.1,10.0.0.2",
                "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff ARP who-has 10.0.0.2 tell 10.0.0.1, 42 bytes",
            ),
            (
                "--arp is-at --ip 10.0.0.1,10.0.0.2 --dst 02:00:00:00:00:02 --src 02:00:00:00:00:03",
                "02:00:00:00:00:03 > 02:00:00:00:00:02 ARP 10.0.0.1 is-at 02:00:00:00:00:03, 42 bytes",
            ),
            (
                "--ip 10.0.0.1,10.0.0.2 --dst 02:00:00:00:00:02 --proto tcp --dport 443",
                "02:00:00:00:00:01 > 02:00:00:00:00:02 IPv4 10.0.0.1 > 10.0.0.2 TCP 40000 > 443 SYN seq 1, 54 bytes",
            ),
        ] {
            let frame = built(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(describe(&frame).to_string(), expected, "{line}");
        }
    }

    #[test]
    fn the_fields_of_the_ip_header_are_what_was_said() {
        let frame = built("--ip 10.0.0.1,10.0.0.2 --dst 02:00:00:00:00:02 --ttl 9 --tos 0xbb --df").unwrap();
        let l3 = crate::wire::dissect::dissect(&frame).l3.unwrap();
        assert_eq!((l3.ttl, l3.tos, l3.dont_fragment), (9, 0xbb, true));
    }

    #[test]
    fn what_makes_no_frame_is_refused_with_what_would() {
        for (line, expected) in [
            ("--ip 10.0.0.1,10.0.0.2", "which station has 10.0.0.2?"),
            ("--ip 10.0.0.1,fd00::2 --dst 02:00:00:00:00:02", "of two families"),
            ("--ip 10.0.0.1", "two addresses, such as"),
            ("--ip nobody", "`nobody` is no IP address"),
            ("--src-ip 10.0.0.1", "also has a destination"),
            ("--dst-ip 10.0.0.1", "also has a source"),
            ("--arp who-has", "--arp needs two addresses"),
            ("--arp who-has --ip fd00::1,fd00::2", "ARP is IPv4's"),
            ("--proto udp", "go with IP addresses"),
            ("--len 13", "too few"),
            ("--len 400000000000", "no frame has 400000000000 bytes"),
            ("--len 3 --vlan 1", "too few"),
            ("--ip 10.0.0.1,10.0.0.2 --dst 02:00:00:00:00:02 --len 41", "too few"),
            ("--ip 10.0.0.1,10.0.0.2 --dst 02:00:00:00:00:02 --proto icmp --dport 1", "ICMP has no ports"),
            ("--ip fd00::1,fd00::2 --dst 02:00:00:00:00:02 --df", "IPv6 has no DF"),
            ("--vlan 4096", "a VLAN of 0 to 4095"),
            ("--vlan 1:8", "a priority of 0 to 7"),
            ("--tos 256", "0 to 255"),
        ] {
            let refusal = built(line).unwrap_err();
            assert!(refusal.contains(expected), "{line}: {refusal}");
        }
    }
}
