//! What leaves by the underlay: to whom, behind which outer header.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{
    compare::{
        case::{At, Case, Kind, LOCAL, Reading, VNI, vtep},
        frame::{
            DOT1Q, ICMP, IPV4, IPV6, Ipv4, UDP, arp_request, echo, ethernet, frame, group, ipv4_with, ipv6, station,
            tagged, tci, udp, unpadded, vxlan,
        },
    },
    wire::MacAddr,
};

const FROM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const TO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// A case of an overlay with two VTEPs.
fn case(name: &str) -> Case {
    Case::new(name).overlay(&[vtep(2), vtep(3)])
}

/// A case of an overlay with one VTEP. The vxlan device forgets in its own time, not the bridge's; with one VTEP that can't be
/// seen.
fn one(name: &str) -> Case {
    Case::new(name).overlay(&[vtep(2)])
}

fn packet(header: Ipv4) -> Vec<u8> {
    ethernet(station(9), station(1), IPV4, &ipv4_with(header, FROM, TO, ICMP, &echo(40)))
}

/// Frames of 32 flows: that all of them have the same of two source ports is not to be expected.
fn flows(case: Case) -> Case {
    let packet = |port| ipv4_with(PLAIN, FROM, TO, UDP, &udp(port, 2000, b"flow"));
    (1..=32).fold(case, |case, port| case.send(1, ethernet(station(9), station(1), IPV4, &packet(port))))
}

const PLAIN: Ipv4 = Ipv4 { tos: 0, dont_fragment: false, ttl: 64 };

fn packet6(traffic_class: u8) -> Vec<u8> {
    let packet = ipv6(traffic_class, FROM.to_ipv6_mapped(), TO.to_ipv6_mapped(), 59, b"none");
    ethernet(station(9), station(1), IPV6, &packet)
}

/// A packet of UDP.
fn udp4(header: Ipv4, len: usize) -> Vec<u8> {
    ipv4_with(header, FROM, TO, UDP, &udp(10_000, 10_001, &vec![0x77; len]))
}

fn udp6(len: usize) -> Vec<u8> {
    ipv6(0, V6_FROM, V6_TO, UDP, &udp(10_000, 10_001, &vec![0x77; len]))
}

const V6_FROM: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const V6_TO: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const DF: Ipv4 = Ipv4 { dont_fragment: true, ..PLAIN };

/// The most that fits an underlay of 1500: an IP packet of 1450 bytes.
const MOST: usize = 1450;

/// What is too large for the tunnel. Its destination has sent something before, so that both of the kernel's tables know it.
fn oversized() -> Vec<Case> {
    let (a, far) = (station(1), station(9));
    let known = |name: &str| one(name).arrive(vtep(2), vxlan(VNI, &frame(a, far)));
    let of = |ether_type: u16, packet: &[u8]| ethernet(far, a, ether_type, packet);
    let v4 = |packet: &[u8]| of(IPV4, packet);
    // An IPv4 packet with these bytes at some places; its header's checksum is nobody's concern here.
    let with = |mut packet: Vec<u8>, places: &[(usize, u8)]| {
        places.iter().for_each(|(at, byte)| packet[*at] = *byte);
        v4(&packet)
    };
    let big = || udp4(DF, MOST - 27);
    let mut cases = vec![
        known("a packet with DF that just fits leaves whole").shows(51).send(1, v4(&udp4(DF, MOST - 28))),
        known("a packet with DF that is one octet too large is answered").shows(51).shows(52).send(1, v4(&big())),
        known("the answer is the same whatever the outer DF bit").statement(51).tunnel("df", "set").send(1, v4(&big())),
        known("so is one of 1500 octets, whose TTL is the answer's")
            .statement(52)
            .send(1, v4(&udp4(Ipv4 { ttl: 7, tos: 0x28, ..DF }, 1472))),
        known("an echo request is answered").statement(52).send(1, v4(&ipv4_with(DF, FROM, TO, ICMP, &echo(1450)))),
        known("each packet is answered").statement(52).send(1, v4(&big())).send(1, v4(&big())).send(1, v4(&big())),
        known("an IPv6 packet that just fits leaves whole").statement(51).send(1, of(IPV6, &udp6(MOST - 48))),
        known("an IPv6 packet that is one octet too large is answered")
            .shows(51)
            .shows(52)
            .send(1, of(IPV6, &udp6(MOST - 47))),
        known("an IPv6 packet of 1500 octets is answered").statement(52).send(1, of(IPV6, &udp6(1452))),
        known("a packet without DF is cut outside").shows(53).send(1, v4(&udp4(PLAIN, MOST - 27))),
        known("a packet without DF, of 1500 octets")
            .statement(53)
            .send(1, v4(&ipv4_with(PLAIN, FROM, TO, ICMP, &echo(1450)))),
        known("what is not IP is cut outside").statement(53).send(1, unpadded(far, a, 0x88b5, &[7; 1500])),
        known("with DF and more fragments to follow there is no answer")
            .statement(52)
            .send(1, with(big(), &[(6, 0x60)])),
        known("with DF and an offset there is no answer").statement(52).send(1, with(big(), &[(7, 1)])),
        known("from no address there is no answer").statement(52).send(1, with(big(), &[(12, 0), (15, 0)])),
        known("from 0.0.0.1 there is one").statement(52).send(1, with(big(), &[(12, 0)])),
        known("from a loopback address there is no answer").statement(52).send(1, with(big(), &[(12, 127)])),
        known("from a group there is no answer").statement(52).send(1, with(big(), &[(12, 224)])),
        known("to a group there is no answer").shows(52).send(1, with(big(), &[(16, 239)])),
        known("to everybody there is no answer")
            .statement(52)
            .send(1, with(big(), &[(16, 255), (17, 255), (18, 255), (19, 255)])),
        one("to a group's Ethernet address there is no answer")
            .statement(52)
            .send(1, ethernet(group(1), a, IPV4, &big())),
        known("IPv6 without a next header has no answer")
            .statement(52)
            .send(1, of(IPV6, &ipv6(0, V6_FROM, V6_TO, 59, &[7; 1412]))),
        known("a later fragment of IPv6 has no answer").ruling("oversize_extensions").statement(52).send(1, {
            let fragment = [&[UDP, 0, 0, 8, 0, 0, 0, 9][..], &[7; 1404]].concat();
            of(IPV6, &ipv6(0, V6_FROM, V6_TO, 44, &fragment))
        }),
        known("a first fragment of IPv6 has one").statement(52).send(1, {
            let fragment = [&[UDP, 0, 0, 1, 0, 0, 0, 9][..], &[7; 1404]].concat();
            of(IPV6, &ipv6(0, V6_FROM, V6_TO, 44, &fragment))
        }),
        case("a packet to a station that nobody knows is answered for each VTEP")
            .ruling("oversize_flooded")
            .statement(51)
            .send(1, v4(&big())),
        known("a tagged packet that is too large is answered")
            .ruling("oversize_tagged")
            .statement(51)
            .send(1, tagged(&v4(&udp4(DF, 1472)), DOT1Q, tci(5, 10))),
        known("by default a packet without DF is cut inside")
            .ruling("oversize")
            .statement(53)
            .tunnel("oversize", "fragment")
            .send(1, v4(&udp4(PLAIN, 1472))),
        known("with oversize = drop it is dropped")
            .ruling("oversize")
            .statement(53)
            .tunnel("oversize", "drop")
            .send(1, v4(&udp4(PLAIN, 1472))),
    ];
    for kind in [3, 4, 5, 11, 12] {
        let mut error = echo(1450);
        error[0] = kind;
        let error = ipv4_with(DF, FROM, TO, ICMP, &error);
        cases.push(known(&format!("an ICMP error of type {kind} has no answer")).shows(52).send(1, v4(&error)));
    }
    for kind in [1, 2, 3, 4, 137] {
        let error = [&[kind, 0, 0, 0][..], &[0; 1410]].concat();
        let error = of(IPV6, &ipv6(0, V6_FROM, V6_TO, 58, &error));
        cases.push(known(&format!("an ICMPv6 message of type {kind} has no answer")).statement(52).send(1, error));
    }
    cases
}

/// A station behind a VTEP of no flood list, 700 ms ago. The vxlan device looks for what is too old only now and then, but at
/// once when its ageing time changes.
fn known_elsewhere(name: &str) -> Case {
    one(&format!("a learned VTEP: {name}"))
        .statement(37)
        .arrive(vtep(7), vxlan(VNI, &frame(station(1), station(9))))
        .wait(700)
}

pub(super) fn cases() -> Vec<Case> {
    let (a, b, far) = (station(1), station(2), station(9));
    let mut cases = vec![
        case("an unknown destination goes to the whole flood list").shows(40).statement(41).send(1, frame(far, a)),
        case("broadcast goes to the whole flood list").statement(41).send(1, frame(MacAddr::BROADCAST, a)),
        case("multicast goes to the whole flood list").statement(41).send(1, frame(group(1), a)),
        case("ARP goes to the whole flood list").statement(43).send(1, arp_request(a, FROM, TO)),
        Case::new("without a flood list an unknown destination stays here")
            .shows(40)
            .overlay(&[])
            .send(1, frame(far, a)),
        Case::new("a flood list of one").statement(41).overlay(&[vtep(5)]).send(1, frame(MacAddr::BROADCAST, a)),
        Case::new("a flood list of eight")
            .shows(41)
            .overlay(&[2, 3, 4, 5, 6, 7, 8, 9].map(vtep))
            .send(1, frame(MacAddr::BROADCAST, a)),
        case("a learned destination goes to its VTEP alone")
            .statement(36)
            .arrive(vtep(3), vxlan(VNI, &frame(a, far)))
            .send(1, frame(far, a)),
        case("a static destination goes to its VTEP alone")
            .statement(40)
            .fdb(far, At::Vtep(vtep(4)), Kind::Static)
            .send(1, frame(far, a)),
        case("a static destination that is removed is unknown")
            .statement(40)
            .fdb(far, At::Vtep(vtep(4)), Kind::Static)
            .fdb_delete(far)
            .send(1, frame(far, a)),
        case("a destination behind a port does not leave").statement(40).send(2, frame(a, b)).send(1, frame(b, a)),
        case("a frame longer than 60 octets leaves as it is")
            .source("RFC 7348 section 5")
            .send(1, unpadded(far, a, 0x88b5, &[7; 1000])),
        case("a frame of 14 octets leaves as it is")
            .source("RFC 7348 section 5")
            .send(1, unpadded(far, a, 0x88b5, &[])),
        case("the longest frame that fits leaves whole").statement(51).send(1, unpadded(far, a, 0x88b5, &[7; 1450])),
        case("a tagged frame leaves with its tag")
            .source("RFC 7348 section 6.1")
            .send(1, tagged(&frame(far, a), DOT1Q, tci(5, 10))),
        case("the source port is of the range, for any frame")
            .statement(45)
            .send(1, frame(far, a))
            .send(1, packet(PLAIN))
            .send(1, packet6(0))
            .send(2, frame(MacAddr::BROADCAST, b)),
        case("the source port is of another range")
            .statement(45)
            .tunnel("source_port_range", "20000-20100")
            .send(1, frame(far, a))
            .send(1, packet(PLAIN)),
        case("datagrams have UDP checksums").shows(48).send(1, frame(far, a)),
        case("TTL is 64 by default").shows(47).send(1, packet(Ipv4 { ttl: 7, ..PLAIN })),
        case("TTL as it is set").statement(47).tunnel("ttl", 5).send(1, packet(PLAIN)).send(1, frame(far, a)),
        case("TTL as the inner packet's")
            .shows(47)
            .tunnel("ttl", "inherit")
            .send(1, packet(Ipv4 { ttl: 7, ..PLAIN }))
            .send(1, packet6(0)),
        case("DF clear for every kind of frame")
            .statement(46)
            .send(1, packet(Ipv4 { dont_fragment: true, ..PLAIN }))
            .send(1, frame(far, a)),
        case("DF set for every kind of frame")
            .statement(46)
            .tunnel("df", "set")
            .send(1, packet(PLAIN))
            .send(1, packet6(0))
            .send(1, frame(far, a)),
        case("DF as the inner packet's")
            .statement(46)
            .tunnel("df", "inherit")
            .send(1, packet(PLAIN))
            .send(1, packet(Ipv4 { dont_fragment: true, ..PLAIN }))
            .send(1, packet6(0))
            .send(1, frame(far, a)),
        case("DF as the inner packet's, which a tag hides")
            .statement(46)
            .tunnel("df", "inherit")
            .send(1, tagged(&packet(Ipv4 { dont_fragment: true, ..PLAIN }), DOT1Q, tci(0, 5)))
            .send(1, tagged(&packet6(0), DOT1Q, tci(0, 5))),
        case("TTL and TOS as the inner packet's, which no tag hides")
            .statement(47)
            .tunnel("ttl", "inherit")
            .tunnel("tos", "inherit")
            .send(1, tagged(&packet(Ipv4 { ttl: 7, tos: 0x28, ..PLAIN }), DOT1Q, tci(0, 5)))
            .send(1, tagged(&packet6(0x28), DOT1Q, tci(0, 5))),
        case("TOS as it is set")
            .statement(47)
            .tunnel("tos", 0x48)
            .send(1, packet(PLAIN))
            .send(1, packet(Ipv4 { tos: 0x28, ..PLAIN })),
        case("learning off in the tunnel and at the ports")
            .row(3)
            .tunnel("learning", false)
            .arrive(vtep(2), vxlan(VNI, &frame(a, far)))
            .send(1, frame(far, a)),
        case("an inner source that moves between VTEPs keeps one entry")
            .statement(36)
            .arrive(vtep(2), vxlan(VNI, &frame(a, far)))
            .arrive(vtep(3), vxlan(VNI, &frame(a, far)))
            .arrive(vtep(2), vxlan(VNI, &frame(a, far)))
            .send(1, frame(far, a)),
        case("proxy consumes a question that it can't answer")
            .statement(43)
            .tunnel("proxy", true)
            .send(1, arp_request(a, FROM, TO)),
        case("rsc passes what no router's entry matches").statement(44).tunnel("rsc", true).send(1, packet(PLAIN)),
        case("a frame that ends within its IP header does not leave")
            .source("ip_tunnels.h:skb_vlan_inet_prepare")
            .changed("cut_off")
            .send(1, unpadded(far, a, IPV4, &[0x45; 19]))
            .send(1, unpadded(far, a, IPV6, &[0x60; 39]))
            .send(1, tagged(&unpadded(far, a, IPV4, &[0x45; 19]), DOT1Q, 5))
            .send(1, unpadded(far, a, IPV4, &[]))
            .send(1, unpadded(far, a, IPV4, &[0x45; 20])),
        case("a remote of no address is dropped")
            .ruling("impossible_remote")
            .shows(42)
            .fdb(far, At::Vtep([0, 0, 0, 0].into()), Kind::Static)
            .send(1, frame(far, a)),
        case("a remote without a route is dropped")
            .shows(50)
            .fdb(far, At::Vtep([198, 51, 100, 1].into()), Kind::Static)
            .send(1, frame(far, a)),
        case("a remote that is the own address is not on the wire")
            .ruling("impossible_remote")
            .shows(49)
            .fdb(far, At::Vtep(LOCAL), Kind::Static)
            .send(1, frame(far, a)),
        case("what fits an Ethernet frame fits the tunnel's device")
            .statement(54)
            .send(1, unpadded(far, a, 0x88b5, &[7; 1450])),
        case("with a device below, the tunnel's MTU is what fits it")
            .shows(54)
            .tunnel("dev", true)
            .read(Reading::TunnelMtu),
        case("without a device below, the tunnel's MTU is Ethernet's")
            .shows(54)
            .ruling("tunnel_mtu")
            .read(Reading::TunnelMtu),
        one("a flush takes what was learned from VTEPs")
            .statement(36)
            .arrive(vtep(2), vxlan(VNI, &frame(a, far)))
            .flush(None)
            .send(1, frame(far, a)),
        case("frames are counted once, and what is read of octets is the kernel's way or weft's")
            .shows(34)
            .ruling("octets")
            .arrive(vtep(2), vxlan(VNI, &frame(a, far)))
            .arrive(vtep(2), vxlan(VNI, &unpadded(a, far, 0x88b5, &[7; 1000])))
            .read(Reading::TunnelOctets),
        one("a learned VTEP ages out")
            .statement(37)
            .bridge("ageing", 1000)
            .arrive(vtep(2), vxlan(VNI, &frame(a, far)))
            .wait(1600)
            .send(1, frame(far, a)),
        known_elsewhere("a packet from the entry's source renews it in the tunnel's device")
            .shows(37)
            .arrive(vtep(7), vxlan(VNI, &frame(a, far)))
            .wait(700)
            .set_tunnel("ageing", 1000)
            .send(1, frame(far, a)),
        known_elsewhere("without one it goes")
            .wait(1300)
            .set_bridge("ageing", 1000)
            .set_tunnel("ageing", 1000)
            .wait(50)
            .send(1, frame(far, a)),
        known_elsewhere("a packet to it does not renew it")
            .shows(37)
            .changed("vxlan_used")
            .send(1, frame(far, a))
            .wait(700)
            .set_bridge("ageing", 1000)
            .set_tunnel("ageing", 1000)
            .wait(50)
            .send(1, frame(far, a)),
        Case::new("by default only named VTEPs are taken")
            .ruling("peers")
            .overlay(&[vtep(2)])
            .tunnel("peers", "known")
            .arrive(vtep(7), vxlan(VNI, &frame(a, far)))
            .arrive(vtep(2), vxlan(VNI, &frame(a, station(8)))),
    ];

    const NAMES: [&str; 4] = ["Not-ECT", "ECT(1)", "ECT(0)", "CE"];
    for inner in 0..4_u8 {
        let name = NAMES[usize::from(inner)];
        cases.push(
            case(&format!("inner {name} outwards"))
                .shows(47)
                .send(1, packet(Ipv4 { tos: 0x28 | inner, ..PLAIN }))
                .send(1, packet6(0x28 | inner)),
        );
        cases.push(
            case(&format!("inner {name} outwards with TOS inherited"))
                .statement(47)
                .tunnel("tos", "inherit")
                .send(1, packet(Ipv4 { tos: 0x28 | inner, ..PLAIN }))
                .send(1, packet6(0x28 | inner))
                .send(1, frame(far, a)),
        );
    }
    cases.push(
        one("with ecn = rfc6040 inner CE is copied out")
            .ruling("ecn")
            .tunnel("ecn", "rfc6040")
            .send(1, packet(Ipv4 { tos: 3, ..PLAIN })),
    );
    cases.push(
        one("by default DF is set").ruling("df").tunnel("df", "default").send(1, packet(PLAIN)).send(1, frame(far, a)),
    );
    // Two fifths of the kernel's default range are in weft's: of this many flows some are not, but for once in millions.
    let by_default = one("by default the source port is of the dynamic range").ruling("source_port_range");
    cases.push(flows(by_default.tunnel("source_port_range", "default")));
    cases.push(
        flows(one("flows have source ports of their own").statement(45)).tunnel("source_port_range", "20000-20002"),
    );
    cases.push(
        flows(one("the last source port is never used").statement(45)).tunnel("source_port_range", "20000-20001"),
    );
    cases.push(
        case("with inner_vlan = drop a tagged frame does not come in")
            .ruling("inner_vlan")
            .tunnel("inner_vlan", "drop")
            .arrive(vtep(2), vxlan(VNI, &tagged(&frame(a, far), DOT1Q, 5))),
    );

    cases.extend(oversized());

    cases
}
