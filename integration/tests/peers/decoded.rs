//! Everything that weft sends to the underlay in each encapsulation, read by tshark: it has no complaint, every header says
//! what it should, and the checksums are right, of the outer packets and of what is inside.

use std::{collections::BTreeSet, net::UdpSocket};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use weft::lab::{Lab, Namespace};
use weft_integration::{
    Needs,
    shape::{Shape, in_every_shape, in_shapes},
    weft::Weft,
};
use weft_vxlan::{Encapsulation, HeaderFormat};

use crate::{
    PREFIX,
    capture::Capture,
    checksums::no_wrong_checksums,
    traffic::{becomes_reachable, ping, tcp},
    tshark::{self, ABSENT, GOOD, UNVERIFIED, is_good_tcp},
};

const NEEDS: Needs = Needs::ROOT_AND_TUN.programs(&["tshark", "tcpdump", "ping", "ethtool", "nstat"]);
const VNI: u32 = 0x00ab_cdef;
/// Hosts' addresses inside: the first has 1, the second 2.
const INNER: [[&str; 2]; 2] = [["10.9.0.1", "fd09::1"], ["10.9.0.2", "fd09::2"]];

pub(crate) fn tests() -> Vec<Trial> {
    let mut tests = in_every_shape(&[
        ("tshark_reads_what_weft_sends_over_ipv4", NEEDS, |shape| decoded(shape, &OVER_IPV4)),
        ("tshark_reads_what_weft_sends_over_ipv6_and_port_8472", NEEDS, |shape| decoded(shape, &OVER_IPV6)),
    ]);
    tests.extend(in_shapes(
        &[Shape::USUAL],
        &[
            ("tshark_reads_group_policies", NEEDS, |shape| over_both(shape, &GBP)),
            ("tshark_reads_vxlan_gpe", NEEDS, |shape| over_both(shape, &GPE)),
            ("tshark_reads_geneve_and_its_options", NEEDS, |shape| over_both(shape, &GENEVE)),
        ],
    ));
    tests
}

fn over_both(shape: Shape, tunnel: &'static Tunnel) -> anyhow::Result<()> {
    for underlay in [OVER_IPV4, OVER_IPV6] {
        let port = tunnel.encapsulation.default_port();
        decoded(shape, &Underlay { port, tunnel, ..underlay }).with_context(|| underlay.vteps[0])?;
    }
    Ok(())
}

/// An underlay, and how frames are wrapped there.
#[derive(Clone, Copy)]
struct Underlay {
    vteps: [&'static str; 2],
    prefix: &'static str,
    port: u16,
    /// What tshark calls the field of the outer time to live.
    ttl: &'static str,
    /// The field of the outer DF; IPv6 has none, and fragments nothing on its way.
    df: Option<&'static str>,
    tunnel: &'static Tunnel,
}

const OVER_IPV4: Underlay = Underlay {
    vteps: ["192.0.2.1", "192.0.2.2"],
    prefix: "/24",
    port: 4789,
    ttl: "ip.ttl",
    df: Some("ip.flags.df"),
    tunnel: &VXLAN,
};
const OVER_IPV6: Underlay = Underlay {
    vteps: ["2001:db8::1", "2001:db8::2"],
    prefix: "/64",
    port: 8472,
    ttl: "ipv6.hlim",
    df: None,
    tunnel: &VXLAN,
};

/// An encapsulation as tshark knows it.
struct Tunnel {
    encapsulation: Encapsulation,
    /// Bytes of each of the transfers; tshark reads all of them.
    transfer: usize,
    /// Lines of `[[bridge]]` and of `[[port]]` that belong to it.
    lines: [&'static str; 2],
    /// What tshark calls it.
    dissector: &'static str,
    /// The field of the VNI, and how it is written there.
    vni: (&'static str, fn(u32) -> String),
    /// Other fields of its header, and what they have to say in every packet of hosts.
    fields: &'static [(&'static str, &'static [&'static str])],
}

const VXLAN: Tunnel = Tunnel {
    encapsulation: Encapsulation::Vxlan,
    // Enough for thousands of segments.
    transfer: 4_000_000,
    lines: ["", ""],
    dissector: "vxlan",
    vni: ("vxlan.vni", |vni| vni.to_string()),
    fields: &[("vxlan.flags", &["0x0800"]), ("vxlan.gbp", &["0"])],
};
const GBP: Tunnel = Tunnel {
    encapsulation: Encapsulation::VxlanGbp,
    transfer: 1_000_000,
    lines: ["", "gbp_policy = 0x0123"],
    fields: &[("vxlan.flags", &["0x8800"]), ("vxlan.gbp", &["291"])],
    ..VXLAN
};
const GPE: Tunnel = Tunnel {
    encapsulation: Encapsulation::VxlanGpe,
    transfer: 1_000_000,
    dissector: "vxlan_gpe",
    fields: &[
        ("vxlan.ver", &["0"]),
        ("vxlan.i_bit", &["1"]),
        ("vxlan.p_bit", &["1"]),
        ("vxlan.o_bit", &["0"]),
        ("vxlan.next_proto", &["3"]),
    ],
    ..VXLAN
};
const GENEVE: Tunnel = Tunnel {
    encapsulation: Encapsulation::Geneve,
    transfer: 1_000_000,
    lines: ["geneve_option = [{ class = 0xff01, type = 1, data = \"c0ffee00\" }, { class = 0xff02, type = 7 }]", ""],
    dissector: "geneve",
    vni: ("geneve.vni", |vni| format!("{vni:#08x}")),
    fields: &[
        ("geneve.version", &["0"]),
        ("geneve.flags.oam", &["0"]),
        ("geneve.flags.critical", &["0"]),
        ("geneve.proto_type", &["0x6558"]),
        ("geneve.option.class", &["0xff01", "0xff02"]),
        ("geneve.option.type", &["0x01", "0x07"]),
        ("geneve.option.unknown.data", &["c0ffee00", "<MISSING>"]),
    ],
};

fn decoded(shape: Shape, underlay: &Underlay) -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let vteps = [lab.namespace("vtep1")?, lab.namespace("vtep2")?];
    let hosts = [lab.namespace("host1")?, lab.namespace("host2")?];
    // 1600 holds an inner packet of 1500 bytes behind either outer header.
    lab.veth((&vteps[0], "u0"), (&vteps[1], "u0"), 1600)?;
    let mut wefts = Vec::new();
    for index in [0, 1] {
        // With its offloads the cable would carry what only a card would have finished: open checksums, super-frames.
        vteps[index].run(&["ethtool", "-K", "u0", "tx", "off", "gso", "off", "gro", "off"])?.ok()?;
        vteps[index].address("u0", &format!("{}{}", underlay.vteps[index], underlay.prefix))?;
    }
    let capture = Capture::start(&vteps[0], "u0", &[&format!("udp dst port {}", underlay.port)])?;
    for index in [0, 1] {
        wefts.push(Weft::start(&vteps[index], &config(shape, underlay, index, &hosts[index]))?);
    }
    talk(&hosts, underlay.tunnel.transfer)?;
    hosts.iter().try_for_each(no_wrong_checksums)?;
    for weft in &wefts {
        weft.ledger_balances()?;
    }
    examine(underlay, capture)
}

fn config(shape: Shape, underlay: &Underlay, index: usize, host: &Namespace) -> String {
    let (address, remote) = (underlay.vteps[index], underlay.vteps[1 - index]);
    let (switch, offload) = (shape.switch(), shape.port_line());
    let ([v4, v6], port, netns) = (INNER[index], underlay.port, host.full_name());
    let Tunnel { encapsulation, lines: [of_bridge, of_port], .. } = underlay.tunnel;
    let port_key = match encapsulation.format() {
        HeaderFormat::Vxlan => "port",
        HeaderFormat::VxlanGpe => "gpe_port",
        HeaderFormat::Geneve => "geneve_port",
    };
    format!(
        r#"
        {switch}
        [vtep]
        address = "{address}"
        {port_key} = {port}
        encapsulation = "{encapsulation}"
        [[bridge]]
        name = "blue"
        vni = {VNI}
        remotes = ["{remote}"]
        {of_bridge}
        [[port]]
        name = "eth0"
        netns = "{netns}"
        bridge = "blue"
        address = ["{v4}/24", "{v6}/64"]
        mtu = 1500
        {of_port}
        {offload}
        "#
    )
}

/// A bit of everything that hosts say: ARP and neighbour discovery, pings, fragments, TCP in super-frames both ways, many
/// flows of UDP, multicast.
fn talk(hosts: &[Namespace; 2], transfer: usize) -> anyhow::Result<()> {
    let [here, there] = hosts;
    for address in INNER[1] {
        becomes_reachable(here, address)?;
        for payload_len in [0, 1, 1000, 5000] {
            ping(here, address, payload_len)?;
        }
        tcp(here, there, address, transfer)?;
    }
    for address in INNER[0] {
        tcp(there, here, address, transfer)?;
    }
    here.run(&["ip", "route", "add", "224.0.0.0/4", "dev", "eth0"])?.ok()?;
    for flow in 0..64_u16 {
        let payload = vec![0x5a; usize::from(flow) * 40];
        for (from, to) in [("0.0.0.0:0", "10.9.0.2:9"), ("[::]:0", "[fd09::2]:9"), ("0.0.0.0:0", "239.1.2.3:9")] {
            let socket = here.within(|| UdpSocket::bind(from))??;
            // Nobody listens there, which the other host's kernel says in ICMP (some of it: it limits the rate).
            let _ = socket.send_to(&payload, to).with_context(|| to.to_owned())?;
        }
    }
    // An answer after all that has passed what went before it.
    ping(here, INNER[1][0], 8)
}

/// The fields asked for, in this order; the outer ones come first of their name, all others are inside.
const FIELDS: [&str; 13] = [
    "_ws.malformed",
    "_ws.expert.severity",
    "_ws.expert.message",
    "eth.type",
    "udp.dstport",
    "udp.srcport",
    "ip.checksum.status",
    "udp.checksum.status",
    "tcp.checksum.status",
    "tcp.checksum",
    "tcp.checksum_calculated",
    "icmp.checksum.status",
    "icmpv6.checksum.status",
];

/// What tshark remarks and does not complain of (epan/proto.h: `PI_CHAT`, `PI_NOTE`): a connection begins, for example.
const HARMLESS: [&str; 2] = ["2097152", "4194304"];
/// What it warns of though it is a host's affair: its TCP has sent something twice.
const D_SACK: &str = "D-SACK Sequence";

fn examine(underlay: &Underlay, mut capture: Capture) -> anyhow::Result<()> {
    // What goes to port 9 is nothing that tshark knows, though it may come from a port of which it thinks so.
    let tunnel = format!("udp.port=={},{}", underlay.port, underlay.tunnel.dissector);
    let of_tunnel = [underlay.tunnel.vni.0].into_iter().chain(underlay.tunnel.fields.iter().map(|(name, _)| *name));
    let fields: Vec<_> = FIELDS.into_iter().chain(of_tunnel).chain([underlay.ttl]).chain(underlay.df).collect();
    let rows = tshark::fields(
        capture.finish()?,
        &["-d", &tunnel, "-d", "udp.port==9,data", "-o", "tcp.analyze_sequence_numbers:FALSE"],
        &fields,
    )?;
    let mut seen = Seen::default();
    for (index, row) in rows.iter().enumerate() {
        seen.packet(underlay, row).with_context(|| format!("packet {}: {row:?}", index + 1))?;
    }
    let segments = 4 * underlay.tunnel.transfer / 1500;
    let many = rows.len() > segments;
    ensure!(many, "{} packets are too few for what was sent", rows.len());
    ensure!(seen.source_ports.len() > 4, "{} source ports for more than 100 flows", seen.source_ports.len());
    ensure!(seen.tcp > segments && seen.udp >= 150 && seen.icmp > 10 && seen.icmpv6 > 10, "{seen:?}");
    Ok(())
}

#[derive(Default, Debug)]
struct Seen {
    source_ports: BTreeSet<u16>,
    tcp: usize,
    udp: usize,
    icmp: usize,
    icmpv6: usize,
}

impl Seen {
    fn packet(&mut self, underlay: &Underlay, row: &[Vec<String>]) -> anyhow::Result<()> {
        let Some((
            [
                malformed,
                expert,
                message,
                ether_type,
                dst_port,
                src_port,
                ip,
                udp,
                tcp,
                tcp_sum,
                calculated,
                icmp,
                icmpv6,
            ],
            [vni, others @ ..],
        )) = row.split_first_chunk()
        else {
            anyhow::bail!("a field is missing");
        };
        ensure!(malformed.is_empty(), "malformed");
        let severe = expert.iter().filter(|severity| !HARMLESS.contains(&severity.as_str())).count();
        let of_hosts = message.iter().filter(|message| *message == D_SACK).count();
        ensure!(severe == of_hosts, "tshark complains: {message:?}");
        ensure!(dst_port.first().map(String::as_str) == Some(&underlay.port.to_string()), "the port");
        ensure!(vni[..] == [underlay.tunnel.vni.1(VNI)], "the VNI");
        let of_tunnel = underlay.tunnel.fields;
        let (of_header, outer) = others.split_at_checked(of_tunnel.len()).context("a field is missing")?;
        // weft's own probes come from no port, and so from no group.
        let is_hosts = ether_type.last().map(String::as_str) != Some("0x88b5");
        for ((name, wanted), found) in of_tunnel.iter().zip(of_header).filter(|_| is_hosts) {
            ensure!(found[..] == **wanted, "{name} is {found:?}, not {wanted:?}");
        }
        let source: u16 = src_port.first().context("no source port")?.parse()?;
        ensure!((49152..=65535).contains(&source), "the source port");
        self.source_ports.insert(source);
        ensure!(is_good_tcp(tcp, tcp_sum, calculated), "a checksum of TCP");
        ensure!([icmp, icmpv6].into_iter().flatten().all(|status| status == GOOD), "a checksum of ICMP");
        // An ICMP error quotes what it is about, and tshark leaves that alone.
        let quotes = !icmp.is_empty() || !icmpv6.is_empty();
        let good = |status: &String| status == GOOD || quotes && status == UNVERIFIED;
        ensure!(ip.iter().all(good), "an IPv4 header checksum");
        let (outer_udp, inner_udp) = udp.split_first().context("no UDP")?;
        ensure!([GOOD, ABSENT].contains(&&**outer_udp), "the outer UDP checksum");
        ensure!(inner_udp.iter().all(good), "an inner UDP checksum");
        ensure!(outer.first().and_then(|ttl| ttl.first()).map(String::as_str) == Some("64"), "the outer TTL");
        if underlay.df.is_some() {
            ensure!(outer.get(1).and_then(|df| df.first()).map(String::as_str) == Some("1"), "the outer DF");
        }
        for (count, statuses) in
            [(&mut self.tcp, &tcp[..]), (&mut self.udp, inner_udp), (&mut self.icmp, icmp), (&mut self.icmpv6, icmpv6)]
        {
            *count += usize::from(statuses.iter().any(|status| status == GOOD));
        }
        Ok(())
    }
}
