//! What arrives from the underlay: the table of results and counters, and the order of the checks.

use std::net::Ipv4Addr;

use crate::{
    compare::{
        case::{At, Case, Checksum, Datagram, Kind, Reading, UNDERLAY, VNI, vtep},
        frame::{
            ARP, DOT1Q, ICMP, IPV4, IPV6, arp_request, echo, ethernet, frame, group, ipv4, ipv6, port_mac, reserved,
            station, tagged, unpadded, vxlan, with_header,
        },
    },
    wire::MacAddr,
};

const FROM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const TO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const I_FLAG: u64 = 1 << 59;

/// A case of an overlay with two VTEPs.
fn case(name: &str) -> Case {
    Case::new(name).overlay(&[vtep(2), vtep(3)])
}

fn datagram(payload: Vec<u8>) -> Datagram {
    Datagram::new(vtep(2), payload)
}

/// A datagram whose outer header says `outer`, with an IPv4 packet that says `inner`.
fn ecn(outer: u8, inner: u8) -> Datagram {
    let packet = ipv4(inner, FROM, TO, ICMP, &echo(8));
    Datagram { tos: outer, ..datagram(vxlan(VNI, &ethernet(station(1), station(9), IPV4, &packet))) }
}

fn ecn6(outer: u8, inner: u8) -> Datagram {
    let packet = ipv6(inner, FROM.to_ipv6_mapped(), TO.to_ipv6_mapped(), 59, b"none");
    Datagram { tos: outer, ..datagram(vxlan(VNI, &ethernet(station(1), station(9), IPV6, &packet))) }
}

/// VXLAN-GPE, whose header says what is inside. What can be compared is which packets are taken.
fn gpe() -> Vec<Case> {
    const ETHERNET: u8 = 3;
    let packet = |flags: u8, next: u8| {
        let header = u64::from(flags) << 56 | u64::from(next) << 32 | u64::from(VNI) << 8;
        Datagram { port: 4790, ..datagram(with_header(header, &frame(station(1), station(9)))) }
    };
    let case = |name: &str, flags, next| {
        case(&format!("a GPE packet {name}"))
            .shows(38)
            .tunnel("gpe", true)
            .tunnel("port", 4790)
            .arrive_with(packet(flags, next))
            .read(Reading::TunnelPackets)
    };
    vec![
        case("with its P bit and Ethernet inside is taken", 0x0c, ETHERNET).ruling("gpe_bridge"),
        case("without its P bit is dropped", 0x08, ETHERNET),
        case("of version 1 is dropped", 0x1c, ETHERNET),
        case("with its O bit is dropped", 0x0d, ETHERNET),
        case("with something unknown inside is dropped", 0x0c, 0x7f),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    let (a, b, far) = (station(1), station(2), station(9));
    let good = vxlan(VNI, &frame(a, far));
    let mut cases = vec![
        case("a good packet is taken and teaches where its source is")
            .statement(35)
            .statement(36)
            .arrive(vtep(2), good.clone())
            .send(1, frame(far, a)),
        case("a packet without the I flag is dropped")
            .shows_row(1)
            .source("RFC 7348 section 5")
            .arrive(vtep(2), with_header(u64::from(VNI) << 8, &frame(a, far))),
        case("a packet of an unknown VNI is dropped")
            .shows_row(1)
            .arrive(vtep(2), vxlan(VNI + 1, &frame(a, far)))
            .arrive(vtep(2), vxlan(0, &frame(a, far)))
            .arrive(vtep(2), vxlan(0xff_ffff, &frame(a, far))),
        case("a datagram of no octets is dropped").row(1).arrive(vtep(2), vec![]),
        case("a datagram of seven octets is dropped").shows_row(1).arrive(vtep(2), good[..7].to_vec()),
        case("without the I flag reserved bits are not looked at")
            .statement(33)
            .arrive(vtep(2), with_header(1 << 63 | u64::from(VNI) << 8 | 1, &frame(a, far))),
        case("of an unknown VNI reserved bits are not looked at")
            .shows(33)
            .arrive(vtep(2), with_header(I_FLAG | 1 << 63 | u64::from(VNI + 1) << 8, &frame(a, far))),
        case("a datagram to another UDP port is not for the overlay")
            .shows(35)
            .arrive_with(Datagram { port: 4790, ..datagram(good.clone()) }),
        case("the UDP port can be another")
            .statement(35)
            .tunnel("port", 8472)
            .arrive_with(Datagram { port: 8472, ..datagram(good.clone()) })
            .send(1, frame(far, a))
            .send(1, frame(MacAddr::BROADCAST, a)),
        case("a wrong UDP checksum is dropped before")
            .statement(48)
            .arrive_with(Datagram { checksum: Checksum::Wrong, ..datagram(good.clone()) }),
        case("a datagram without a UDP checksum is taken")
            .statement(48)
            .arrive_with(Datagram { checksum: Checksum::None, ..datagram(good.clone()) }),
        case("the sender's source port says nothing")
            .shows(36)
            .arrive_with(Datagram { source_port: 1, ..datagram(good.clone()) })
            .arrive_with(Datagram { source_port: 65535, ..datagram(good.clone()) })
            .send(1, frame(far, a)),
        case("a VTEP outside of the flood list is taken, and learned from")
            .shows(35)
            .arrive(vtep(7), good.clone())
            .send(1, frame(far, a)),
        case("a station that shows up behind another VTEP has moved")
            .shows(36)
            .arrive(vtep(2), good.clone())
            .arrive(vtep(3), good.clone())
            .send(1, frame(far, a)),
        case("a station moves from a VTEP to a port and back")
            .statement(11)
            .arrive(vtep(2), good.clone())
            .send(1, frame(a, far))
            .send(2, frame(far, b))
            .arrive(vtep(2), vxlan(VNI, &frame(b, far)))
            .send(2, frame(far, b)),
        case("an inner source of zeros is dropped").shows_row(3).arrive(vtep(2), vxlan(VNI, &frame(a, MacAddr::ZERO))),
        case("an inner source that is a group is dropped").row(3).arrive(vtep(2), vxlan(VNI, &frame(a, group(1)))),
        case("an inner source that is the tunnel's own address is dropped")
            .shows_row(4)
            .ruling("tunnel_mac")
            .arrive(vtep(2), vxlan(VNI, &frame(a, port_mac(9)))),
        case("with the tunnel's device down nothing arrives")
            .shows_row(13)
            .add_tunnel(VNI + 1)
            .link(UNDERLAY, false)
            .arrive(vtep(2), good.clone())
            .link(UNDERLAY, true)
            .arrive(vtep(2), good.clone()),
        case("with the only tunnel's device down its port is closed")
            .row(13)
            .ruling("open_port")
            .link(UNDERLAY, false)
            .arrive(vtep(2), good.clone()),
        case("a tunnel's device that goes down forgets what it has learned")
            .shows(55)
            .arrive(vtep(2), good.clone())
            .send(1, frame(far, a))
            .link(UNDERLAY, false)
            .send(1, frame(far, a))
            .link(UNDERLAY, true)
            .send(1, frame(far, a)),
        case("a tunnel's device that goes down keeps what a user added")
            .shows(55)
            .ruling("no_interface")
            .fdb(far, At::Vtep(vtep(3)), Kind::Static)
            .link(UNDERLAY, false)
            .link(UNDERLAY, true)
            .send(1, frame(far, a)),
        case("two tunnels can't have one network").shows(55).add_tunnel(VNI).send(1, frame(far, a)),
        case("two tunnels with two networks")
            .statement(55)
            .add_tunnel(VNI + 1)
            .arrive(vtep(2), vxlan(VNI + 1, &frame(a, far))),
        case("a network has a number of 24 bits").shows(55).add_tunnel(1 << 24).add_tunnel((1 << 24) - 1),
        case("a source with a static entry at another VTEP is dropped")
            .shows(36)
            .shows_row(5)
            .fdb(far, At::Vtep(vtep(3)), Kind::Static)
            .arrive(vtep(2), good.clone())
            .send(1, frame(far, a)),
        case("a source with a static entry at its own VTEP is taken")
            .row(5)
            .fdb(far, At::Vtep(vtep(2)), Kind::Static)
            .arrive(vtep(2), good.clone())
            .send(1, frame(far, a)),
        case("a static entry binds its station to its VTEP while it is at a port")
            .statement(11)
            .statement(36)
            .fdb(far, At::Vtep(vtep(3)), Kind::Static)
            .send(1, frame(a, far))
            .arrive(vtep(2), good.clone())
            .send(2, frame(far, b))
            .arrive(vtep(3), good.clone())
            .send(2, frame(far, b)),
        case("a static entry of a port moves from VTEP to VTEP")
            .statement(11)
            .shows(36)
            .fdb(far, At::Port(1), Kind::Static)
            .arrive(vtep(2), good.clone())
            .arrive(vtep(3), good.clone())
            .send(2, frame(far, b)),
        case("with gbp a packet may say its policy")
            .source("draft-smith-vxlan-group-policy-05")
            .tunnel("gbp", true)
            .arrive(vtep(2), with_header(I_FLAG | 1 << 63 | 7 << 32 | u64::from(VNI) << 8, &frame(a, far)))
            .arrive(vtep(2), good.clone()),
        case("an inner frame of 14 octets and an unknown type is taken")
            .shows_row(8)
            .arrive(vtep(2), vxlan(VNI, &unpadded(a, far, 0x88b5, &[]))),
        case("an inner frame without a single octet of IPv4 is dropped")
            .ruling("one_fdb")
            .shows_row(7)
            .arrive(vtep(2), vxlan(VNI, &unpadded(a, far, IPV4, &[]))),
        case("an inner IPv4 header that is cut off is dropped, and taught before")
            .ruling("one_fdb")
            .row(7)
            .shows(33)
            .arrive(vtep(2), vxlan(VNI, &unpadded(a, far, IPV4, &ipv4(0, FROM, TO, ICMP, &[])[..19])))
            .send(1, frame(far, a)),
        case("an inner IPv6 header that is cut off is dropped")
            .ruling("one_fdb")
            .shows_row(7)
            .arrive(vtep(2), vxlan(VNI, &unpadded(a, far, IPV6, &[0x60; 39]))),
        case("an inner IPv4 header alone is taken")
            .row(7)
            .arrive(vtep(2), vxlan(VNI, &unpadded(a, far, IPV4, &ipv4(0, FROM, TO, ICMP, &[])))),
        case("outer CE and an inner packet that is not capable: dropped, and taught before")
            .ruling("one_fdb")
            .row(9)
            .shows(33)
            .statement(39)
            .arrive_with(ecn(3, 0))
            .send(1, frame(far, a)),
        case("outer CE and an inner ARP: taken")
            .shows_row(12)
            .arrive_with(Datagram { tos: 3, ..datagram(vxlan(VNI, &arp_request(far, FROM, TO))) }),
        case("outer CE and an inner ARP without a body: taken")
            .row(12)
            .arrive_with(Datagram { tos: 3, ..datagram(vxlan(VNI, &unpadded(a, far, ARP, &[]))) }),
        case("outer CE and a tagged inner packet: the tag hides it").row(12).arrive_with(Datagram {
            tos: 3,
            ..datagram(vxlan(VNI, &tagged(&ethernet(a, far, IPV4, &ipv4(0, FROM, TO, ICMP, &echo(8))), DOT1Q, 5)))
        }),
        case("a tagged inner frame passes")
            .source("RFC 7348 section 6.1")
            .arrive(vtep(2), vxlan(VNI, &tagged(&frame(a, far), DOT1Q, 5))),
        case("an inner frame that ends with its tag")
            .source("skbuff.c:skb_vlan_untag")
            .ruling("bare_tag")
            .arrive(vtep(2), vxlan(VNI, &tagged(&unpadded(a, far, 0x88b5, &[]), DOT1Q, 5))),
        case("inner pause frames are dropped").statement(3).arrive(vtep(2), vxlan(VNI, &frame(reserved(1), far))),
        case("an inner pause frame moves its source in the tunnel's table alone")
            .ruling("tunnel_pause")
            .statement(33)
            .arrive(vtep(2), good.clone())
            .arrive(vtep(3), vxlan(VNI, &frame(reserved(1), far)))
            .send(1, frame(far, a)),
        case("inner LLDP is kept, and teaches")
            .statement(5)
            .arrive(vtep(2), vxlan(VNI, &frame(reserved(0x0e), far)))
            .send(1, frame(far, a)),
        case("inner LLDP passes with its bit")
            .statement(4)
            .bridge("group_fwd_mask", 0x4000)
            .arrive(vtep(2), vxlan(VNI, &frame(reserved(0x0e), far)))
            .send(1, frame(reserved(0x0e), a)),
        case("an inner source that is a port's own address is not learned")
            .statement(10)
            .arrive(vtep(2), vxlan(VNI, &frame(a, port_mac(2))))
            .send(1, frame(port_mac(2), a)),
        case("an inner frame to a port's own address is the host's")
            .statement(17)
            .arrive(vtep(2), vxlan(VNI, &frame(port_mac(2), far))),
        case("a frame from a VTEP does not go to a VTEP: flooded")
            .source("RFC 7432 section 8.3.1")
            .arrive(vtep(2), vxlan(VNI, &frame(MacAddr::BROADCAST, far))),
        case("a frame from a VTEP does not go to a VTEP: known")
            .source("RFC 7432 section 8.3.1")
            .arrive(vtep(3), vxlan(VNI, &frame(a, station(8))))
            .arrive(vtep(2), vxlan(VNI, &frame(station(8), far))),
        case("a frame from a VTEP is flooded by the ports' gates")
            .statement(20)
            .port(1, "flood", false)
            .port(2, "mcast_flood", false)
            .port(3, "bcast_flood", false)
            .arrive(vtep(2), vxlan(VNI, &frame(a, far)))
            .arrive(vtep(2), vxlan(VNI, &frame(group(1), far)))
            .arrive(vtep(2), vxlan(VNI, &frame(MacAddr::BROADCAST, far))),
        case("a frame from a VTEP to a known port goes there alone")
            .statement(36)
            .send(1, frame(b, a))
            .arrive(vtep(2), good.clone()),
        case("isolated ports get what comes from VTEPs")
            .statement(22)
            .port(1, "isolated", true)
            .port(2, "isolated", true)
            .arrive(vtep(2), vxlan(VNI, &frame(MacAddr::BROADCAST, far)))
            .send(1, frame(far, a)),
    ];
    for len in [0, 1, 6, 13] {
        let name = format!("an inner frame of {len} octets is dropped");
        cases.push(case(&name).shows_row(6).arrive(vtep(2), vxlan(VNI, &frame(a, far)[..len])));
    }
    cases.push(
        case("with reserved_bits = ignore they are taken")
            .row(2)
            .tunnel("reserved_bits", "ignore")
            .arrive(vtep(2), with_header(I_FLAG | 1 << 63 | u64::from(VNI) << 8 | 1, &frame(a, far))),
    );
    cases.extend(gpe());
    const NAMES: [&str; 4] = ["Not-ECT", "ECT(1)", "ECT(0)", "CE"];
    for outer in 0..4_u8 {
        for inner in 0..4_u8 {
            let row = match (outer, inner) {
                (3, 0) => 9,
                (3, _) => 10,
                _ => 11,
            };
            let (over, under) = (NAMES[usize::from(outer)], NAMES[usize::from(inner)]);
            let what = |version: &str| format!("outer {over} over inner {under}, {version}");
            for (version, packet) in [("IPv4", ecn(outer, 0x28 | inner)), ("IPv6", ecn6(outer, 0x28 | inner))] {
                let case = case(&what(version)).shows_row(row).shows(39).arrive_with(packet);
                cases.push(if row == 9 { case.ruling("one_fdb") } else { case });
            }
        }
    }
    cases
}
