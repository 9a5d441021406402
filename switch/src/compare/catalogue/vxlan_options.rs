//! The vxlan device's options: which reserved bits, what it learns, what the outer header takes from the inner one, what it
//! answers itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    compare::{
        case::{At, Case, Kind, VNI, Value, vtep},
        frame::{
            ICMP, IPV4, IPV6, Ipv4, arp_request, arp_with, echo, ethernet, frame, group, ipv4, ipv4_with, ipv6,
            neighbour_solicitation, station, unpadded, vxlan, with_header,
        },
    },
    wire::MacAddr,
};

const FROM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const TO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const FROM6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const TO6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const GOOD: u64 = 1 << 59 | (VNI as u64) << 8;
/// All bits of a VXLAN header but the I flag and the VNI.
const RESERVED: u64 = 0xf7ff_ffff_0000_00ff;

/// A case of an overlay with two VTEPs.
fn case(name: &str) -> Case {
    Case::new(name).overlay(&[vtep(2), vtep(3)])
}

pub(super) fn cases() -> Vec<Case> {
    [reserved_bits(), group_policies(), no_learning(), outer_header(), addresses(), answers(), routes()].concat()
}

/// The checks of the kernel's selftest (tools/testing/selftests/net/forwarding/vxlan_reserved.sh): each bit alone, for each
/// set of bits that are reserved.
fn reserved_bits() -> Vec<Case> {
    let arriving = |bit: u32| with_header(GOOD | 1 << bit, &frame(station(1), station(9)));
    let bits = || (0..64).rev().filter(|bit| RESERVED & 1 << bit != 0);
    // The header's first bit is number 0 in names, as in RFC 7348.
    let alone = bits().map(|bit| {
        case(&format!("the reserved bit {} alone is dropped", 63 - bit)).row(2).arrive(vtep(2), arriving(bit))
    });
    let mut cases: Vec<_> = alone.collect();
    let all = |case: Case| {
        let case = bits().fold(case, |case, bit| case.arrive(vtep(2), arriving(bit)));
        case.arrive(vtep(2), vxlan(VNI, &frame(station(1), station(9)))).send(1, frame(station(9), station(1)))
    };
    cases.push(all(case("every reserved bit is dropped by default").shows_row(2)));
    for (name, mask) in [("all", RESERVED), ("those of the flags", 0xf7 << 56), ("the last octet", 0xff)] {
        let name = format!("every reserved bit with a mask: {name}");
        cases.push(all(case(&name).row(2).tunnel("reserved_bits", digits(mask).as_str())));
    }
    for tolerated in [0, 10, 31, 56, 63] {
        let name = format!("every reserved bit with a mask: all but {tolerated}");
        let mask = RESERVED & !(1 << (63 - tolerated));
        cases.push(all(case(&name).row(2).tunnel("reserved_bits", digits(mask).as_str())));
    }
    cases.push(all(case("every reserved bit is taken when they are ignored").row(2).tunnel("reserved_bits", "ignore")));
    cases
}

fn digits(mask: u64) -> String {
    format!("{mask:#018x}")
}

fn group_policies() -> Vec<Case> {
    const DRAFT: &str = "draft-smith-vxlan-group-policy section 2.1";
    const G: u64 = 1 << 63;
    const D: u64 = 1 << 54;
    const A: u64 = 1 << 51;
    let headers = [
        ("a policy", G | 7 << 32),
        ("the policy 0", G),
        ("the last policy", G | 0xffff << 32),
        ("a policy that is applied", G | A | 7 << 32),
        ("a policy that asks not to learn", G | D | 7 << 32),
        ("a number without the G bit", 7 << 32),
        ("a policy beside a flag that is reserved", G | 1 << 60 | 7 << 32),
        ("a policy beside a bit of the second octet", G | 1 << 55 | 7 << 32),
        ("a policy beside the last octet", G | 1 | 7 << 32),
    ];
    let mut cases = Vec::new();
    for (gbp, word) in [(true, "with gbp"), (false, "without gbp")] {
        for (name, bits) in headers {
            let mut case = case(&format!("{word}: {name}")).row(2).source(DRAFT);
            if gbp {
                case = case.tunnel("gbp", true);
            }
            let payload = with_header(GOOD | bits, &frame(station(1), station(9)));
            cases.push(case.arrive(vtep(2), payload).send(1, frame(station(9), station(1))));
        }
    }
    cases.push(
        case("with gbp: a frame of no policy leaves as always")
            .source(DRAFT)
            .tunnel("gbp", true)
            .send(1, frame(station(9), station(1))),
    );
    cases
}

fn no_learning() -> Vec<Case> {
    let (a, b, far) = (station(1), station(2), station(9));
    let case = |name: &str| case(&format!("without learning in the tunnel {name}")).tunnel("vxlan_learning", false);
    let good = vxlan(VNI, &frame(a, far));
    vec![
        case("what arrives teaches nothing").statement(36).arrive(vtep(2), good.clone()).send(1, frame(far, a)),
        case("ports still learn").statement(9).send(1, frame(b, a)).arrive(vtep(2), good.clone()).send(2, frame(a, b)),
        case("an inner source of zeros does not get past the bridge")
            .shows_row(3)
            .statement(1)
            .arrive(vtep(2), vxlan(VNI, &frame(a, MacAddr::ZERO))),
        case("an inner source that is a group does not get past the bridge")
            .row(3)
            .statement(1)
            .arrive(vtep(2), vxlan(VNI, &frame(a, group(1)))),
        case("a source with a static entry at another VTEP is taken")
            .shows_row(5)
            .fdb(far, At::Vtep(vtep(3)), Kind::Static)
            .arrive(vtep(2), good)
            .send(1, frame(far, a)),
        case("a static entry still says where to")
            .statement(40)
            .fdb(far, At::Vtep(vtep(3)), Kind::Static)
            .send(1, frame(far, a)),
        case("an inner frame without a body is dropped all the same").row(6).arrive(vtep(2), vxlan(VNI, &[7; 13])),
        case("an inner IPv4 header that is cut off is dropped all the same")
            .row(7)
            .arrive(vtep(2), vxlan(VNI, &unpadded(a, far, IPV4, &ipv4(0, FROM, TO, ICMP, &[])[..19]))),
    ]
}

/// TTL, TOS and DF for each kind of inner frame; checksums and source ports.
fn outer_header() -> Vec<Case> {
    let (a, far) = (station(1), station(9));
    let packet = |dont_fragment| {
        let header = Ipv4 { tos: 0xb9, dont_fragment, ttl: 7 };
        ethernet(far, a, IPV4, &ipv4_with(header, FROM, TO, ICMP, &echo(40)))
    };
    let mut packet6 = ethernet(far, a, IPV6, &ipv6(0xb9, FROM6, TO6, 59, b"none"));
    packet6[14 + 7] = 7;
    let inner = [
        ("IPv4", packet(false)),
        ("IPv4 with DF", packet(true)),
        ("IPv6", packet6),
        ("ARP", arp_request(a, FROM, TO)),
        ("no protocol that is known", frame(far, a)),
    ];
    let settings: [(u8, &str, Value); 8] = [
        (47, "ttl", 1.into()),
        (47, "ttl", 255.into()),
        (47, "ttl", "inherit".into()),
        (47, "tos", 0xfc.into()),
        (47, "tos", "inherit".into()),
        (46, "df", "unset".into()),
        (46, "df", "set".into()),
        (46, "df", "inherit".into()),
    ];
    let mut cases = Vec::new();
    for (statement, option, value) in settings {
        for (name, frame) in &inner {
            let name = format!("{option} {value} around {name}");
            cases.push(case(&name).shows(statement).tunnel(option, value.clone()).send(1, frame.clone()));
        }
    }
    let all = |case: Case| inner.iter().fold(case, |case, (_, frame)| case.send(1, frame.clone()));
    cases.push(
        all(case("all three inherited").statement(46).statement(47).tunnel("ttl", "inherit"))
            .tunnel("tos", "inherit")
            .tunnel("df", "inherit"),
    );
    cases.push(all(case("without udpcsum nothing has a UDP checksum").statement(48).tunnel("udpcsum", false)));
    // The last of a range is never used: of two it is always the first.
    cases.push(all(case("source ports of a range of two").shows(45).tunnel("source_port_range", "20000-20001")));
    for range in ["20000-20007", "4785-4795", "1024-65535"] {
        let case = case(&format!("source ports {range}")).shows(45).tunnel("source_port_range", range);
        cases.push(all(case));
    }
    cases
}

/// What the device has room for.
fn addresses() -> Vec<Case> {
    let a = station(1);
    let from = |number: u8| vxlan(VNI, &frame(a, station(number)));
    vec![
        case("at maxaddress a station still moves between VTEPs")
            .statement(36)
            .tunnel("maxaddress", 2)
            .arrive(vtep(2), from(8))
            .arrive(vtep(3), from(8))
            .send(1, frame(station(8), a)),
        case("past maxaddress the vxlan device learns no more")
            .statement(36)
            .ruling("no_vtep")
            .tunnel("maxaddress", 2)
            .arrive(vtep(2), from(8))
            .arrive(vtep(2), from(9))
            .send(1, frame(station(8), a))
            .send(1, frame(station(9), a)),
        case("a static entry counts for maxaddress")
            .statement(36)
            .ruling("no_vtep")
            .tunnel("maxaddress", 2)
            .fdb(station(8), At::Vtep(vtep(3)), Kind::Static)
            .arrive(vtep(2), from(9))
            .send(1, frame(station(9), a)),
        case("an entry that is removed makes room at maxaddress")
            .statement(36)
            .tunnel("maxaddress", 2)
            .fdb(station(8), At::Vtep(vtep(3)), Kind::Static)
            .fdb_delete(station(8))
            .arrive(vtep(2), from(9))
            .send(1, frame(station(9), a)),
    ]
}

/// `proxy`: all ARP and all solicitations end in the device.
fn answers() -> Vec<Case> {
    let (a, far) = (station(1), station(9));
    let case = |name: &str| case(&format!("proxy: {name}")).statement(43).tunnel("proxy", true);
    let known = |name: &str| {
        let case = case(name).neighbour(TO, far).neighbour(TO6, far);
        case.fdb(far, At::Vtep(vtep(2)), Kind::Static)
    };
    let to = |dst: MacAddr, mut frame: Vec<u8>| {
        frame[..6].copy_from_slice(&dst.octets());
        frame
    };
    let zero = Ipv4Addr::UNSPECIFIED;
    vec![
        known("ARP for a neighbour is answered").shows(43).send(1, arp_request(a, FROM, TO)),
        known("each port hears its own answer")
            .send(1, arp_request(a, FROM, TO))
            .send(2, arp_request(station(2), Ipv4Addr::new(10, 0, 0, 3), TO)),
        known("ARP to the neighbour alone is answered").send(1, to(far, arp_request(a, FROM, TO))),
        case("ARP for a neighbour behind a port")
            .ruling("proxied_port")
            .neighbour(TO, station(2))
            .send(2, frame(far, station(2)))
            .send(1, arp_request(a, FROM, TO)),
        known("ARP for somebody else is lost").shows(43).send(1, arp_request(a, FROM, Ipv4Addr::new(10, 0, 0, 7))),
        known("a probe for an address is answered").send(1, arp_request(a, zero, TO)),
        known("gratuitous ARP is lost").send(1, arp_request(a, FROM, FROM)),
        known("an ARP answer is lost").send(1, arp_with(2, (a, FROM), (far, TO))),
        known("reverse ARP passes").send(1, {
            let mut frame = arp_with(3, (a, zero), (a, zero));
            frame[12..14].copy_from_slice(&0x8035_u16.to_be_bytes());
            frame
        }),
        known("ARP for another protocol is lost").send(1, {
            let mut frame = arp_request(a, FROM, TO);
            frame[16..18].copy_from_slice(&[0x81, 0x37]);
            frame
        }),
        known("ARP for a group is lost").send(1, arp_request(a, FROM, Ipv4Addr::new(224, 0, 0, 5))),
        known("ARP that is cut off is lost").send(1, arp_request(a, FROM, TO)[..30].to_vec()),
        known("a solicitation for a neighbour is answered").shows(43).send(1, neighbour_solicitation(a, FROM6, TO6)),
        known("a solicitation for somebody else is lost").send(1, neighbour_solicitation(a, FROM6, FROM6)),
        known("a test for duplicates is answered").send(1, neighbour_solicitation(a, Ipv6Addr::UNSPECIFIED, TO6)),
        known("other frames pass").send(1, frame(far, a)).send(1, frame(MacAddr::BROADCAST, a)),
        known("what arrives is not looked at").arrive(vtep(2), vxlan(VNI, &arp_request(far, TO, FROM))),
        case("l3miss changes no frame").tunnel("l3miss", true).send(1, arp_request(a, FROM, TO)),
        case("an answer for a station that no VTEP is known for")
            .ruling("no_vtep")
            .neighbour(TO, far)
            .send(1, arp_request(a, FROM, TO))
            .send(1, frame(far, a)),
    ]
}

/// Which VTEP a frame goes to.
fn routes() -> Vec<Case> {
    let (a, far, router) = (station(1), station(9), station(8));
    let unreachable = IpAddr::from([198, 51, 100, 1]);
    let rsc = |name: &str| {
        let case = case(&format!("rsc: {name}")).statement(44).tunnel("rsc", true);
        let case = case.router(Ipv4Addr::new(10, 0, 0, 254), router).neighbour(TO, far).neighbour(TO6, far);
        case.fdb(router, At::Vtep(vtep(2)), Kind::Static).fdb(far, At::Vtep(vtep(3)), Kind::Static)
    };
    let packet = |dst| ethernet(dst, a, IPV4, &ipv4(0, FROM, TO, ICMP, &echo(40)));
    let packet6 = |dst| ethernet(dst, a, IPV6, &ipv6(0, FROM6, TO6, 59, b"none"));
    vec![
        rsc("a packet to the router goes to who it is for").shows(44).send(1, packet(router)),
        rsc("an IPv6 packet to the router goes to who it is for").send(1, packet6(router)),
        rsc("a packet for nobody that is known goes to the router")
            .send(1, ethernet(router, a, IPV4, &ipv4(0, FROM, FROM, ICMP, &echo(40)))),
        rsc("a frame to the router that is no packet goes to the router").send(1, frame(router, a)),
        rsc("a packet to who it is for goes as it is").send(1, packet(far)),
        case("without rsc a packet to the router goes to the router")
            .statement(44)
            .router(Ipv4Addr::new(10, 0, 0, 254), router)
            .neighbour(TO, far)
            .fdb(router, At::Vtep(vtep(2)), Kind::Static)
            .fdb(far, At::Vtep(vtep(3)), Kind::Static)
            .send(1, packet(router)),
        Case::new("l2miss changes no frame")
            .statement(40)
            .overlay(&[])
            .tunnel("l2miss", true)
            .send(1, frame(far, a))
            .send(1, frame(MacAddr::BROADCAST, a)),
        Case::new("a VTEP of the flood list without a route takes nothing from the others")
            .statement(50)
            .overlay(&[vtep(2), unreachable, vtep(3)])
            .send(1, frame(far, a))
            .send(1, frame(MacAddr::BROADCAST, a)),
        case("a static entry that is set to another VTEP has moved")
            .statement(40)
            .fdb(far, At::Vtep(vtep(2)), Kind::Static)
            .send(1, frame(far, a))
            .fdb(far, At::Vtep(vtep(3)), Kind::Static)
            .send(1, frame(far, a)),
        case("a learned entry that a user sets to another VTEP stays there")
            .statement(36)
            .arrive(vtep(2), vxlan(VNI, &frame(a, far)))
            .fdb(far, At::Vtep(vtep(3)), Kind::Static)
            .arrive(vtep(2), vxlan(VNI, &frame(a, far)))
            .send(1, frame(far, a)),
        case("two stations behind one VTEP and one behind another")
            .statement(36)
            .arrive(vtep(2), vxlan(VNI, &frame(a, station(7))))
            .arrive(vtep(2), vxlan(VNI, &frame(a, router)))
            .arrive(vtep(3), vxlan(VNI, &frame(a, far)))
            .send(1, frame(station(7), a))
            .send(1, frame(router, a))
            .send(1, frame(far, a)),
    ]
}
