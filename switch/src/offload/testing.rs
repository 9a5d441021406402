//! Frames for this floor's tests, built and checksummed by etherparse: the slow twin of everything here.

use etherparse::{
    EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, Ipv6RawExtHeader, SingleVlanHeader,
    TcpHeader, TcpOptionElement, UdpHeader, VlanId, VlanPcp,
};
use proptest::{collection::vec, prelude::*};

use super::{Gso, PartialCsum, VNET_HEADER_LEN, VnetHeader};
use crate::wire::checksum::{pseudo_v4, pseudo_v6};

/// A frame as a tap hands it over, and what it is made of.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// With a partial checksum.
    pub(super) frame: Vec<u8>,
    /// With all checksums.
    pub(super) complete: Vec<u8>,
    /// What stands beside `frame`.
    pub(super) vnet: VnetHeader,
    parts: Parts,
}

#[derive(Clone, Debug)]
struct Parts {
    tags: Vec<(u16, u16)>,
    ip: Ip,
    transport: Transport,
    payload: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Ip {
    V4(Ipv4Header),
    /// With an optional routing header and the final destination that it names.
    V6(Ipv6Header, Option<[u8; 16]>),
}

#[derive(Clone, Debug)]
enum Transport {
    Tcp(TcpHeader),
    Udp(u16, u16),
}

impl Sample {
    pub(super) fn tcp4(payload_len: usize) -> Self {
        let mut tcp = TcpHeader::new(40_000, 5201, u32::MAX - 500, 0xffff);
        (tcp.ack, tcp.psh, tcp.fin, tcp.cwr) = (true, true, true, true);
        Self::new(vec![], ipv4(0xfffe), Transport::Tcp(tcp), counting(payload_len))
    }

    /// Neither the beginning nor the end of a stream.
    pub(super) fn plain_tcp4(payload_len: usize) -> Self {
        let mut tcp = TcpHeader::new(40_000, 5201, u32::MAX - 500, 0xffff);
        tcp.ack = true;
        Self::new(vec![], ipv4(0xfffe), Transport::Tcp(tcp), counting(payload_len))
    }

    pub(super) fn udp4(payload_len: usize) -> Self {
        Self::new(vec![], ipv4(1), Transport::Udp(1000, 2000), counting(payload_len))
    }

    pub(super) fn tcp6_source_routed(payload_len: usize, gso_size: u16) -> Self {
        let ip = Ip::V6(Ipv6Header { source: [1; 16], destination: [2; 16], ..Default::default() }, Some([3; 16]));
        let tcp = Transport::Tcp(TcpHeader::new(1, 2, 3, 4));
        Self::new(vec![], ip, tcp, counting(payload_len)).gso(gso_size)
    }

    fn new(tags: Vec<(u16, u16)>, ip: Ip, transport: Transport, payload: Vec<u8>) -> Self {
        let parts = Parts { tags, ip, transport, payload };
        let (complete, start) = parts.build();
        let offset = match parts.transport {
            Transport::Tcp(_) => 16,
            Transport::Udp(..) => 6,
        };
        let mut frame = complete.clone();
        let field = start + offset;
        frame[field..field + 2].copy_from_slice(&parts.pseudo_sum(complete.len() - start).to_be_bytes());
        let csum = Some(PartialCsum { start: start as u16, offset: offset as u16 });
        Self { frame, complete, vnet: VnetHeader { csum, ..VnetHeader::NONE }, parts }
    }

    /// The same frame as a super-frame.
    pub(super) fn gso(mut self, gso_size: u16) -> Self {
        let gso = match (&self.parts.ip, &self.parts.transport) {
            (Ip::V4(_), Transport::Tcp(_)) => Gso::Tcp4,
            (Ip::V6(..), Transport::Tcp(_)) => Gso::Tcp6,
            (_, Transport::Udp(..)) => Gso::Udp,
        };
        self.vnet.gso = Some((gso, gso_size));
        self
    }

    pub(super) fn segment_count(&self) -> usize {
        self.parts.payload.len().div_ceil(self.gso_size()).max(1)
    }

    /// Segment `i`, built from scratch.
    pub(super) fn segment(&self, i: usize) -> Vec<u8> {
        self.part(i, 1).complete
    }

    /// `count` segments from `i` on as a super-frame of their own.
    pub(super) fn part(&self, i: usize, count: usize) -> Self {
        let Parts { tags, mut ip, mut transport, payload } = self.parts.clone();
        let gso_size = self.gso_size();
        let start = (i * gso_size).min(payload.len());
        let payload = payload[start..payload.len().min(start + count * gso_size)].to_vec();
        if let Ip::V4(ip) = &mut ip {
            ip.identification = ip.identification.wrapping_add(i as u16);
        }
        if let Transport::Tcp(tcp) = &mut transport {
            tcp.sequence_number = tcp.sequence_number.wrapping_add((i * gso_size) as u32);
            tcp.cwr &= i == 0;
            tcp.psh &= i + count >= self.segment_count();
            tcp.fin &= i + count >= self.segment_count();
        }
        Self::new(tags, ip, transport, payload).gso(gso_size as u16)
    }

    /// The complete transport checksum.
    pub(super) fn full_checksum(&self) -> u16 {
        let csum = self.vnet.csum.unwrap();
        let field = usize::from(csum.start + csum.offset);
        u16::from_be_bytes([self.complete[field], self.complete[field + 1]])
    }

    fn gso_size(&self) -> usize {
        usize::from(self.vnet.gso.unwrap().1)
    }
}

impl Parts {
    /// The frame with all checksums, and where the transport header begins in it.
    fn build(&self) -> (Vec<u8>, usize) {
        let ip_type = match self.ip {
            Ip::V4(_) => EtherType::IPV4,
            Ip::V6(..) => EtherType::IPV6,
        };
        let types: Vec<_> = self.tags.iter().map(|(tpid, _)| EtherType(*tpid)).chain([ip_type]).collect();
        let mut frame = Vec::new();
        let (source, destination) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        Ethernet2Header { source, destination, ether_type: types[0] }.write(&mut frame).unwrap();
        for ((_, tci), ether_type) in self.tags.iter().zip(&types[1..]) {
            SingleVlanHeader {
                pcp: VlanPcp::try_new((tci >> 13) as u8).unwrap(),
                drop_eligible_indicator: tci & 0x1000 != 0,
                vlan_id: VlanId::try_new(tci & 0xfff).unwrap(),
                ether_type: *ether_type,
            }
            .write(&mut frame)
            .unwrap();
        }

        let transport = self.transport_bytes();
        let protocol = match self.transport {
            Transport::Tcp(_) => IpNumber::TCP,
            Transport::Udp(..) => IpNumber::UDP,
        };
        match &self.ip {
            Ip::V4(header) => {
                let mut header = header.clone();
                header.protocol = protocol;
                header.set_payload_len(transport.len() + self.payload.len()).unwrap();
                header.header_checksum = header.calc_header_checksum();
                header.write(&mut frame).unwrap();
            }
            Ip::V6(header, routed_to) => {
                let mut header = header.clone();
                let routing = routed_to.map(|to| {
                    // Routing type 2 with one segment left (RFC 6275 section 6.4).
                    let mut payload = vec![2, 1, 0, 0, 0, 0];
                    payload.extend(to);
                    Ipv6RawExtHeader::new_raw(protocol, &payload).unwrap()
                });
                let routing_len = routing.as_ref().map_or(0, Ipv6RawExtHeader::header_len);
                header.next_header = if routing.is_some() { IpNumber::IPV6_ROUTE_HEADER } else { protocol };
                header.set_payload_length(routing_len + transport.len() + self.payload.len()).unwrap();
                header.write(&mut frame).unwrap();
                if let Some(routing) = routing {
                    routing.write(&mut frame).unwrap();
                }
            }
        }
        let start = frame.len();
        frame.extend(transport);
        frame.extend(&self.payload);
        (frame, start)
    }

    fn transport_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match &self.transport {
            Transport::Tcp(header) => {
                let mut header = header.clone();
                header.checksum = match &self.ip {
                    Ip::V4(ip) => header.calc_checksum_ipv4(ip, &self.payload),
                    Ip::V6(ip, _) => header.calc_checksum_ipv6_raw(ip.source, self.final_destination(), &self.payload),
                }
                .unwrap();
                header.write(&mut bytes).unwrap();
            }
            Transport::Udp(src, dst) => {
                let header = match &self.ip {
                    Ip::V4(ip) => UdpHeader::with_ipv4_checksum(*src, *dst, ip, &self.payload).unwrap(),
                    Ip::V6(ip, _) => {
                        let ip = Ipv6Header { destination: self.final_destination(), ..ip.clone() };
                        UdpHeader::with_ipv6_checksum(*src, *dst, &ip, &self.payload).unwrap()
                    }
                };
                header.write(&mut bytes).unwrap();
            }
        }
        bytes
    }

    fn pseudo_sum(&self, len: usize) -> u16 {
        let protocol = match self.transport {
            Transport::Tcp(_) => 6,
            Transport::Udp(..) => 17,
        };
        match &self.ip {
            Ip::V4(ip) => pseudo_v4(ip.source.into(), ip.destination.into(), protocol, len as u16),
            Ip::V6(ip, _) => pseudo_v6(ip.source.into(), self.final_destination().into(), protocol, len as u32),
        }
        .fold()
    }

    fn final_destination(&self) -> [u8; 16] {
        match &self.ip {
            Ip::V6(ip, routed_to) => routed_to.unwrap_or(ip.destination),
            Ip::V4(_) => unreachable!("only asked for IPv6"),
        }
    }
}

/// A super-frame, and what the kernel cuts it into: see `kernel_segments.txt`.
pub(super) struct KernelCase {
    pub(super) name: &'static str,
    pub(super) header: [u8; VNET_HEADER_LEN],
    pub(super) frame: Vec<u8>,
    pub(super) segments: Vec<Vec<u8>>,
}

pub(super) fn kernel_cases() -> Vec<KernelCase> {
    let from_hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let case = |text: &'static str| {
        let mut lines = text.lines();
        let name = lines.next().unwrap();
        let super_frame = from_hex(lines.next().unwrap().strip_prefix("in ").unwrap());
        let (header, frame) = super_frame.split_first_chunk().unwrap();
        let segments = lines.map(|line| from_hex(line.rsplit(' ').next().unwrap())).collect();
        KernelCase { name, header: *header, frame: frame.to_vec(), segments }
    };
    include_str!("kernel_segments.txt").split("case ").skip(1).map(case).collect()
}

fn ipv4(id: u16) -> Ip {
    let mut header = Ipv4Header::new(0, 64, IpNumber::TCP, [10, 10, 0, 1], [10, 10, 0, 2]).unwrap();
    header.identification = id;
    Ip::V4(header)
}

fn counting(len: usize) -> Vec<u8> {
    (0..len).map(|i| i as u8).collect()
}

prop_compose! {
    fn any_ipv4()(
        source: [u8; 4], destination: [u8; 4], identification: u16, dont_fragment: bool, ttl: u8,
        options in vec(any::<[u8; 4]>(), 0..4), ecn in 0..4_u8,
    ) -> Ip {
        let mut header = Ipv4Header::new(0, ttl, IpNumber::TCP, source, destination).unwrap();
        header.identification = identification;
        header.dont_fragment = dont_fragment;
        header.ecn = etherparse::IpEcn::try_new(ecn).unwrap();
        header.options = options.concat().as_slice().try_into().unwrap();
        Ip::V4(header)
    }
}

prop_compose! {
    fn any_ipv6()(
        source: [u8; 16], destination: [u8; 16], traffic_class: u8, label in 0..1_u32 << 20, hop_limit: u8,
        routed_to in proptest::option::weighted(0.2, any::<[u8; 16]>()),
    ) -> Ip {
        let flow_label = Ipv6FlowLabel::try_new(label).unwrap();
        let header = Ipv6Header { source, destination, traffic_class, flow_label, hop_limit, ..Default::default() };
        Ip::V6(header, routed_to)
    }
}

prop_compose! {
    fn any_tcp()(
        ports: (u16, u16), seq: u32, ack: u32, flags: [bool; 9], window: u16, urgent: u16, timestamps in any::<bool>(),
        more_options in 0..3usize,
    ) -> Transport {
        let mut header = TcpHeader::new(ports.0, ports.1, seq, window);
        header.acknowledgment_number = ack;
        header.urgent_pointer = urgent;
        [header.ns, header.fin, header.syn, header.rst, header.psh, header.ack, header.urg, header.ece, header.cwr] = flags;
        let mut options = vec![TcpOptionElement::Noop; 4 * more_options];
        if timestamps {
            options.extend([TcpOptionElement::Noop, TcpOptionElement::Noop, TcpOptionElement::Timestamp(seq, ack)]);
        }
        header.set_options(&options).unwrap();
        Transport::Tcp(header)
    }
}

prop_compose! {
    /// What a sender of much data sends, now and then marked, closed or out of the ordinary.
    fn any_bulk_tcp()(
        any in any_tcp(), flags in any::<[bool; 4]>(), ordinary in prop::bool::weighted(0.9),
    ) -> Transport {
        let Transport::Tcp(mut tcp) = any else { unreachable!("it is TCP") };
        if ordinary {
            (tcp.syn, tcp.rst, tcp.urg) = (false, false, false);
            [tcp.psh, tcp.fin, tcp.ece, tcp.cwr] = flags;
        }
        Transport::Tcp(tcp)
    }
}

/// Super-frames of up to 50 segments, most of which can be put together again when they are cut.
pub(super) fn bulk() -> impl Strategy<Value = Sample> {
    let plain_ip = prop_oneof![
        any_ipv4().prop_map(|ip| match ip {
            Ip::V4(mut header) => {
                header.options = [].as_slice().try_into().unwrap();
                Ip::V4(header)
            }
            v6 @ Ip::V6(..) => v6,
        }),
        any_ipv6().prop_map(|ip| match ip {
            Ip::V6(header, _) => Ip::V6(header, None),
            v4 @ Ip::V4(_) => v4,
        }),
    ];
    let ip = prop_oneof![9 => plain_ip, 1 => any_ipv4(), 1 => any_ipv6()];
    let udp = any::<(u16, u16)>().prop_map(|(src, dst)| Transport::Udp(src, dst));
    let tag = (prop::sample::select(vec![0x8100_u16, 0x88a8]), any::<u16>());
    let tags = prop_oneof![3 => Just(vec![]), 1 => vec(tag, 1..3)];
    let sizes = (1..1500_u16, 0..50_usize, any::<prop::sample::Index>());
    (tags, ip, prop_oneof![2 => any_bulk_tcp(), 1 => udp], sizes).prop_map(|(tags, ip, transport, sizes)| {
        let (gso_size, full, rest) = sizes;
        let payload_len = full * usize::from(gso_size) + rest.index(usize::from(gso_size));
        Sample::new(tags, ip, transport, counting(payload_len.min(60_000))).gso(gso_size)
    })
}

/// Frames of all kinds that a tap hands over: IPv4 with options and IPv6 with a routing header, TCP with options and UDP,
/// behind 0, 1 or 2 tags, with payloads of any length.
pub(super) fn samples() -> impl Strategy<Value = Sample> {
    let tag = (prop::sample::select(vec![0x8100_u16, 0x88a8]), any::<u16>());
    let udp = any::<(u16, u16)>().prop_map(|(src, dst)| Transport::Udp(src, dst));
    let payload = prop_oneof![vec(any::<u8>(), 0..100), (0..9000usize).prop_map(counting)];
    (vec(tag, 0..3), prop_oneof![any_ipv4(), any_ipv6()], prop_oneof![any_tcp(), udp], payload)
        .prop_map(|(tags, ip, transport, payload)| Sample::new(tags, ip, transport, payload))
}
