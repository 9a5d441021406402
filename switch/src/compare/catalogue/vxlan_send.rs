//! What leaves by the underlay: to whom, behind which outer header.

use std::net::Ipv4Addr;

use crate::{
    compare::{
        case::{At, Case, Kind, LOCAL, VNI, vtep},
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

pub(super) fn cases() -> Vec<Case> {
    let (a, b, far) = (station(1), station(2), station(9));
    let mut cases = vec![
        case("an unknown destination goes to the whole flood list").statement(40).statement(41).send(1, frame(far, a)),
        case("broadcast goes to the whole flood list").statement(41).send(1, frame(MacAddr::BROADCAST, a)),
        case("multicast goes to the whole flood list").statement(41).send(1, frame(group(1), a)),
        case("ARP goes to the whole flood list").statement(43).send(1, arp_request(a, FROM, TO)),
        Case::new("without a flood list an unknown destination stays here")
            .statement(40)
            .overlay(&[])
            .send(1, frame(far, a)),
        Case::new("a flood list of one").statement(41).overlay(&[vtep(5)]).send(1, frame(MacAddr::BROADCAST, a)),
        Case::new("a flood list of eight")
            .statement(41)
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
        case("datagrams have UDP checksums").statement(48).send(1, frame(far, a)),
        case("TTL is 64 by default").statement(47).send(1, packet(Ipv4 { ttl: 7, ..PLAIN })),
        case("TTL as it is set").statement(47).tunnel("ttl", 5).send(1, packet(PLAIN)).send(1, frame(far, a)),
        case("TTL as the inner packet's")
            .statement(47)
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
        case("a GPE packet without its P bit")
            .statement(38)
            .tunnel("gpe", true)
            .arrive(vtep(2), vxlan(VNI, &frame(a, far))),
        case("a remote of no address is dropped")
            .ruling("impossible_remote")
            .statement(42)
            .fdb(far, At::Vtep([0, 0, 0, 0].into()), Kind::Static)
            .send(1, frame(far, a)),
        case("a remote without a route is dropped")
            .statement(50)
            .fdb(far, At::Vtep([198, 51, 100, 1].into()), Kind::Static)
            .send(1, frame(far, a)),
        case("a remote that is the own address is not on the wire")
            .ruling("impossible_remote")
            .statement(49)
            .fdb(far, At::Vtep(LOCAL), Kind::Static)
            .send(1, frame(far, a)),
        case("a packet that is too large and may not be fragmented is answered")
            .ruling("oversize")
            .statement(51)
            .statement(52)
            .tunnel("df", "unset")
            .send(
                1,
                ethernet(far, a, IPV4, &ipv4_with(Ipv4 { dont_fragment: true, ..PLAIN }, FROM, TO, ICMP, &echo(1450))),
            ),
        case("a packet that is too large and may be fragmented is")
            .statement(53)
            .send(1, ethernet(far, a, IPV4, &ipv4_with(PLAIN, FROM, TO, ICMP, &echo(1450)))),
        case("what fits an Ethernet frame fits the tunnel's device")
            .statement(54)
            .send(1, unpadded(far, a, 0x88b5, &[7; 1450])),
        one("a flush takes what was learned from VTEPs")
            .statement(55)
            .arrive(vtep(2), vxlan(VNI, &frame(a, far)))
            .flush(None)
            .send(1, frame(far, a)),
        case("bytes and frames are counted once")
            .statement(34)
            .arrive(vtep(2), vxlan(VNI, &frame(a, far)))
            .send(1, frame(far, a)),
        one("a learned VTEP ages out")
            .statement(37)
            .bridge("ageing", 1000)
            .arrive(vtep(2), vxlan(VNI, &frame(a, far)))
            .wait(1600)
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
                .statement(47)
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

    cases
}
