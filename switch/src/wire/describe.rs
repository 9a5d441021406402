//! Frames as people read them: one line each, for traces, captures and error messages.
//!
//! ```text
//! 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff ARP who-has 10.10.0.2 tell 10.10.0.1, 42 bytes
//! 02:00:00:00:00:01 > 02:00:00:00:00:02 VLAN 10 IPv4 10.10.0.1 > 10.10.0.2 ICMP echo request id 3 seq 1, 102 bytes
//! ```
//!
//! Unlike [`super::dissect`] this looks at everything it knows a name for, says what is broken, and takes its time.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use etherparse::{
    ArpOperation, ArpPacketSlice, EtherType, IcmpEchoHeader, Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type,
    IpNumber, LaxIpv4Slice, LaxIpv6Slice, LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice, SingleVlanSlice,
    TcpSlice, TransportSlice, icmpv4, icmpv6::Icmpv6PayloadSlice,
};

use super::mac::MacAddr;

/// One line about `frame`, which begins with its Ethernet header. Any bytes have one.
pub fn describe(frame: &[u8]) -> Description<'_> {
    Description(frame)
}

/// See [`describe`].
#[derive(Clone, Copy, Debug)]
pub struct Description<'a>(&'a [u8]);

impl fmt::Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(packet) = LaxSlicedPacket::from_ethernet(self.0) else {
            return write!(f, "malformed: shorter than an Ethernet header, {}", Bytes(self.0.len()));
        };
        let mut ether_type = EtherType(0);
        if let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link {
            ether_type = ethernet.ether_type();
            write!(f, "{} > {}", MacAddr::new(ethernet.source()), MacAddr::new(ethernet.destination()))?;
        }
        for extension in &packet.link_exts {
            match extension {
                LaxLinkExtSlice::Vlan(tag) => {
                    write_tag(f, ether_type, tag)?;
                    ether_type = tag.ether_type();
                }
                LaxLinkExtSlice::Macsec(_) => f.write_str(" MACsec")?,
            }
        }
        match &packet.net {
            Some(LaxNetSlice::Arp(arp)) => write_arp(f, arp)?,
            Some(LaxNetSlice::Ipv4(ip)) => write_ipv4(f, ip, packet.transport.as_ref())?,
            Some(LaxNetSlice::Ipv6(ip)) => write_ipv6(f, ip, packet.transport.as_ref())?,
            None => write_ether_type(f, ether_type)?,
        }
        write!(f, ", {}", Bytes(self.0.len()))?;
        match &packet.stop_err {
            Some((error, layer)) => write!(f, "; malformed: {layer}: {error}"),
            None => Ok(()),
        }
    }
}

struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} byte{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

fn write_tag(f: &mut fmt::Formatter<'_>, tpid: EtherType, tag: &SingleVlanSlice<'_>) -> fmt::Result {
    let service = if tpid == EtherType::PROVIDER_BRIDGING { "service " } else { "" };
    write!(f, " {service}VLAN {}", tag.vlan_identifier().value())?;
    match tag.priority_code_point().value() {
        0 => Ok(()),
        priority => write!(f, " priority {priority}"),
    }
}

fn write_ether_type(f: &mut fmt::Formatter<'_>, ether_type: EtherType) -> fmt::Result {
    match ether_type {
        EtherType::ARP => f.write_str(" ARP"),
        EtherType::IPV4 => f.write_str(" IPv4"),
        EtherType::IPV6 => f.write_str(" IPv6"),
        // IEEE 802.3 section 3.2.6: up to 1500 it is a length, from 0x0600 on a type.
        EtherType(length @ 0..=1500) => write!(f, " 802.3 length {length}"),
        EtherType(other) => write!(f, " type {other:#06x}"),
    }
}

fn write_arp(f: &mut fmt::Formatter<'_>, arp: &ArpPacketSlice<'_>) -> fmt::Result {
    let (Ok(sender), Ok(target), Ok(hardware)) = (
        <[u8; 4]>::try_from(arp.sender_protocol_addr()),
        <[u8; 4]>::try_from(arp.target_protocol_addr()),
        <[u8; 6]>::try_from(arp.sender_hw_addr()),
    ) else {
        return write!(f, " ARP for protocol {:#06x}", arp.proto_addr_type().0);
    };
    let (sender, target) = (Ipv4Addr::from(sender), Ipv4Addr::from(target));
    match arp.operation() {
        ArpOperation::REQUEST => write!(f, " ARP who-has {target} tell {sender}"),
        ArpOperation::REPLY => write!(f, " ARP {sender} is-at {}", MacAddr::new(hardware)),
        ArpOperation(other) => write!(f, " ARP operation {other} {sender} > {target}"),
    }
}

fn write_ipv4(
    f: &mut fmt::Formatter<'_>,
    ip: &LaxIpv4Slice<'_>,
    transport: Option<&TransportSlice<'_>>,
) -> fmt::Result {
    let header = ip.header();
    write!(f, " IPv4 {} > {}", header.source_addr(), header.destination_addr())?;
    write_ecn(f, header.ecn().value())?;
    if ip.payload().fragmented {
        let offset = header.fragments_offset().byte_offset();
        let more = if header.more_fragments() { "" } else { " last" };
        write!(f, "{more} fragment id {} at {offset}", header.identification())?;
    }
    write_transport(f, transport, ip.payload().ip_number)
}

fn write_ipv6(
    f: &mut fmt::Formatter<'_>,
    ip: &LaxIpv6Slice<'_>,
    transport: Option<&TransportSlice<'_>>,
) -> fmt::Result {
    let header = ip.header();
    let (source, destination) = (Ipv6Addr::from(header.source()), Ipv6Addr::from(header.destination()));
    write!(f, " IPv6 {source} > {destination}")?;
    write_ecn(f, header.traffic_class() & 0b11)?;
    if ip.payload().fragmented {
        f.write_str(" fragment")?;
    }
    write_transport(f, transport, ip.payload().ip_number)
}

/// Only "congestion experienced" is worth a word.
fn write_ecn(f: &mut fmt::Formatter<'_>, ecn: u8) -> fmt::Result {
    if ecn == 0b11 { f.write_str(" CE") } else { Ok(()) }
}

fn write_transport(
    f: &mut fmt::Formatter<'_>,
    transport: Option<&TransportSlice<'_>>,
    protocol: IpNumber,
) -> fmt::Result {
    match transport {
        Some(TransportSlice::Tcp(tcp)) => write_tcp(f, tcp),
        Some(TransportSlice::Udp(udp)) => write!(f, " UDP {} > {}", udp.source_port(), udp.destination_port()),
        Some(TransportSlice::Icmpv4(icmp)) => write_icmpv4(f, icmp),
        Some(TransportSlice::Icmpv6(icmp)) => write_icmpv6(f, icmp),
        Some(TransportSlice::Igmp(igmp)) => write!(f, " IGMP type {:#04x}", igmp.type_u8()),
        None => match protocol.keyword_str() {
            Some(name) => write!(f, " {name}"),
            None => write!(f, " protocol {}", protocol.0),
        },
    }
}

fn write_tcp(f: &mut fmt::Formatter<'_>, tcp: &TcpSlice<'_>) -> fmt::Result {
    write!(f, " TCP {} > {}", tcp.source_port(), tcp.destination_port())?;
    let flags = [
        (tcp.syn(), "SYN"),
        (tcp.fin(), "FIN"),
        (tcp.rst(), "RST"),
        (tcp.psh(), "PSH"),
        (tcp.ack(), "ACK"),
        (tcp.urg(), "URG"),
        (tcp.ece(), "ECE"),
        (tcp.cwr(), "CWR"),
    ];
    let mut separator = " ";
    for (_, name) in flags.iter().filter(|(set, _)| *set) {
        write!(f, "{separator}{name}")?;
        separator = ",";
    }
    write!(f, " seq {}", tcp.sequence_number())?;
    if tcp.ack() {
        write!(f, " ack {}", tcp.acknowledgment_number())?;
    }
    Ok(())
}

fn write_icmpv4(f: &mut fmt::Formatter<'_>, icmp: &Icmpv4Slice<'_>) -> fmt::Result {
    match icmp.icmp_type() {
        Icmpv4Type::EchoRequest(echo) => write!(f, " ICMP echo request{}", Echo(echo)),
        Icmpv4Type::EchoReply(echo) => write!(f, " ICMP echo reply{}", Echo(echo)),
        Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu }) => {
            write!(f, " ICMP fragmentation needed mtu {next_hop_mtu}")
        }
        Icmpv4Type::DestinationUnreachable(why) => write!(f, " ICMP destination unreachable code {}", why.code_u8()),
        Icmpv4Type::TimeExceeded(code) => write!(f, " ICMP time exceeded code {}", code.code_u8()),
        Icmpv4Type::Redirect(_) => f.write_str(" ICMP redirect"),
        Icmpv4Type::ParameterProblem(_)
        | Icmpv4Type::TimestampRequest(_)
        | Icmpv4Type::TimestampReply(_)
        | Icmpv4Type::Unknown { .. } => write!(f, " ICMP type {} code {}", icmp.type_u8(), icmp.code_u8()),
    }
}

fn write_icmpv6(f: &mut fmt::Formatter<'_>, icmp: &Icmpv6Slice<'_>) -> fmt::Result {
    match icmp.icmp_type() {
        Icmpv6Type::EchoRequest(echo) => write!(f, " ICMPv6 echo request{}", Echo(echo)),
        Icmpv6Type::EchoReply(echo) => write!(f, " ICMPv6 echo reply{}", Echo(echo)),
        Icmpv6Type::NeighborSolicitation => {
            f.write_str(" ND who-has")?;
            if let Ok(Icmpv6PayloadSlice::NeighborSolicitation(body)) = icmp.payload_slice() {
                write!(f, " {}", body.target_address())?;
            }
            Ok(())
        }
        Icmpv6Type::NeighborAdvertisement(_) => {
            f.write_str(" ND advertises")?;
            if let Ok(Icmpv6PayloadSlice::NeighborAdvertisement(body)) = icmp.payload_slice() {
                write!(f, " {}", body.target_address())?;
            }
            Ok(())
        }
        Icmpv6Type::RouterSolicitation => f.write_str(" ND router solicitation"),
        Icmpv6Type::RouterAdvertisement(_) => f.write_str(" ND router advertisement"),
        Icmpv6Type::Redirect => f.write_str(" ND redirect"),
        Icmpv6Type::PacketTooBig { mtu } => write!(f, " ICMPv6 packet too big mtu {mtu}"),
        Icmpv6Type::DestinationUnreachable(code) => {
            write!(f, " ICMPv6 destination unreachable code {}", code.code_u8())
        }
        Icmpv6Type::TimeExceeded(code) => write!(f, " ICMPv6 time exceeded code {}", code.code_u8()),
        Icmpv6Type::ParameterProblem(_) | Icmpv6Type::Unknown { .. } => {
            write!(f, " ICMPv6 type {} code {}", icmp.type_u8(), icmp.code_u8())
        }
    }
}

struct Echo(IcmpEchoHeader);

impl fmt::Display for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " id {} seq {}", self.0.id, self.0.seq)
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{ArpHardwareId, ArpPacket, Ethernet2Header, PacketBuilder, PacketBuilderStep, VlanId};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const A_TO_B: &str = "02:00:00:00:00:01 > 02:00:00:00:00:02";

    fn ethernet() -> PacketBuilderStep<Ethernet2Header> {
        PacketBuilder::ethernet2(A, B)
    }

    fn says(frame: &[u8], expected: &str) {
        assert_eq!(describe(frame).to_string().strip_prefix(A_TO_B), Some(expected));
    }

    macro_rules! frame {
        ($builder:expr, $payload:expr) => {{
            let mut frame = Vec::new();
            $builder.write(&mut frame, $payload).unwrap();
            frame
        }};
    }

    #[test]
    fn arp_asks_and_answers() {
        let arp = |operation, sender: [u8; 6], from: [u8; 4], target: [u8; 6], to: [u8; 4]| {
            let packet =
                ArpPacket::new(ArpHardwareId::ETHERNET, EtherType::IPV4, operation, &sender, &from, &target, &to);
            let mut frame = Vec::new();
            PacketBuilder::ethernet2(A, [0xff; 6]).arp(packet.unwrap()).write(&mut frame).unwrap();
            describe(&frame).to_string()
        };
        assert_eq!(
            arp(ArpOperation::REQUEST, A, [10, 10, 0, 1], [0; 6], [10, 10, 0, 2]),
            "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff ARP who-has 10.10.0.2 tell 10.10.0.1, 42 bytes"
        );
        assert_eq!(
            arp(ArpOperation::REPLY, A, [10, 10, 0, 1], B, [10, 10, 0, 2]),
            "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff ARP 10.10.0.1 is-at 02:00:00:00:00:01, 42 bytes"
        );
    }

    #[test]
    fn pings_over_both_ips_and_through_a_vlan() {
        let ping = ethernet().ipv4([10, 10, 0, 1], [10, 10, 0, 2], 64).icmpv4_echo_request(3, 1);
        says(&frame!(ping, &[0; 56]), " IPv4 10.10.0.1 > 10.10.0.2 ICMP echo request id 3 seq 1, 98 bytes");
        let vlan = VlanId::try_new(10).unwrap();
        let ping = ethernet().single_vlan(vlan).ipv4([10, 10, 0, 1], [10, 10, 0, 2], 64).icmpv4_echo_reply(3, 1);
        says(&frame!(ping, &[0; 56]), " VLAN 10 IPv4 10.10.0.1 > 10.10.0.2 ICMP echo reply id 3 seq 1, 102 bytes");
        let (one, two) = (Ipv6Addr::LOCALHOST.octets(), "fd00::2".parse::<Ipv6Addr>().unwrap().octets());
        let ping = ethernet().ipv6(one, two, 64).icmpv6_echo_request(3, 1);
        says(&frame!(ping, &[]), " IPv6 ::1 > fd00::2 ICMPv6 echo request id 3 seq 1, 62 bytes");
    }

    #[test]
    fn tcp_has_ports_and_flags_and_udp_has_ports() {
        let tcp = ethernet().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(40_000, 80, 7, 1).syn().ack(9);
        says(&frame!(tcp, &[]), " IPv4 10.0.0.1 > 10.0.0.2 TCP 40000 > 80 SYN,ACK seq 7 ack 9, 54 bytes");
        let udp = ethernet().double_vlan(VlanId::try_new(7).unwrap(), VlanId::try_new(8).unwrap());
        let udp = udp.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(53, 54);
        says(&frame!(udp, &[]), " service VLAN 7 VLAN 8 IPv4 10.0.0.1 > 10.0.0.2 UDP 53 > 54, 50 bytes");
    }

    #[test]
    fn neighbour_discovery_names_its_target() {
        let nd = |type_u8| {
            let unknown = Icmpv6Type::Unknown { type_u8, code_u8: 0, bytes5to8: [0; 4] };
            let target = "fd00::9".parse::<Ipv6Addr>().unwrap().octets();
            frame!(ethernet().ipv6([0xfe; 16], [0xff; 16], 255).icmpv6(unknown), &target)
        };
        let addresses = "IPv6 fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe > ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        says(&nd(135), &format!(" {addresses} ND who-has fd00::9, 78 bytes"));
        says(&nd(136), &format!(" {addresses} ND advertises fd00::9, 78 bytes"));
    }

    #[test]
    fn too_big_messages_name_the_mtu() {
        let why = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1450 };
        let answer = ethernet().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).icmpv4(Icmpv4Type::DestinationUnreachable(why));
        says(&frame!(answer, &[]), " IPv4 10.0.0.1 > 10.0.0.2 ICMP fragmentation needed mtu 1450, 42 bytes");
    }

    #[test]
    fn fragments_and_marked_packets_are_said_to_be_so() {
        let mut frame = frame!(ethernet().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(53, 54), &[]);
        frame[15] = 3;
        frame[18..22].copy_from_slice(&[0, 5, 0x00, 0x02]);
        says(&frame, " IPv4 10.0.0.1 > 10.0.0.2 CE last fragment id 5 at 16 UDP, 42 bytes");
    }

    #[test]
    fn unknown_types_are_hexadecimal_and_lengths_are_lengths() {
        let mut frame = [B, A].concat();
        frame.extend([0x88, 0xb5]);
        says(&frame, " type 0x88b5, 14 bytes");
        frame[12..].copy_from_slice(&[0, 38]);
        says(&frame, " 802.3 length 38, 14 bytes");
    }

    #[test]
    fn what_is_broken_is_said() {
        assert_eq!(describe(&[1; 13]).to_string(), "malformed: shorter than an Ethernet header, 13 bytes");
        assert_eq!(describe(&[1]).to_string(), "malformed: shorter than an Ethernet header, 1 byte");
        let mut frame = frame!(ethernet().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(53, 54), &[]);
        frame.truncate(30);
        let text = describe(&frame).to_string();
        assert!(text.starts_with(&format!("{A_TO_B} IPv4, 30 bytes; malformed: ")), "{text}");
    }

    proptest! {
        #[test]
        fn any_bytes_have_one_line(
            mut bytes in vec(any::<u8>(), 0..150),
            head in prop::sample::select(vec![
                &[0x08, 0x00, 0x45][..], &[0x86, 0xdd, 0x60], &[0x08, 0x06, 0, 1, 8, 0, 6, 4], &[0x81, 0, 0, 1, 8, 0, 0x45],
                &[0x88, 0xe5], &[],
            ]),
            protocol in prop::sample::select(vec![1_u8, 2, 6, 17, 44, 58]),
            icmp_type in prop_oneof![any::<u8>(), 133..138_u8],
        ) {
            if bytes.len() >= 55 {
                bytes[20] = protocol;
                bytes[23] = protocol;
                bytes[34] = icmp_type;
                bytes[54] = icmp_type;
                bytes[12..12 + head.len()].copy_from_slice(head);
            }
            let line = describe(&bytes).to_string();
            prop_assert!(!line.is_empty() && !line.contains('\n'), "{line:?}");
        }
    }
}
