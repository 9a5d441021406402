//! Options of ports and of the bridge beside flooding and learning: locked ports, states, answers in others' names, sizes.

use std::net::Ipv4Addr;

use crate::{
    compare::{
        case::{At, Case, Kind, Reading},
        frame::{
            ICMP, IPV4, arp_request, echo, ethernet, frame, group, ipv4, port_mac, reserved, station, tagged, unpadded,
        },
    },
    wire::MacAddr,
};

const FROM: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const TO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// A frame with a payload of this length.
fn long(dst: MacAddr, src: MacAddr, len: usize) -> Vec<u8> {
    unpadded(dst, src, 0x88b5, &vec![0x77; len])
}

pub(super) fn cases() -> Vec<Case> {
    let (a, b, c) = (station(1), station(2), station(3));
    let all = |src| frame(MacAddr::BROADCAST, src);
    let mut cases = vec![
        Case::new("a locked port drops a source that nobody knows")
            .shows(8)
            .port(1, "locked", true)
            .send(1, frame(b, a))
            .send(2, frame(a, b)),
        Case::new("a locked port takes a source with an entry there")
            .statement(8)
            .port(1, "locked", true)
            .fdb(a, At::Port(1), Kind::Static)
            .send(1, frame(b, a)),
        Case::new("a locked port drops a source that is known elsewhere, and it stays there")
            .shows(8)
            .port(1, "locked", true)
            .send(2, frame(b, a))
            .send(1, frame(b, a))
            .send(3, frame(a, c)),
        Case::new("a locked port drops a port's own address")
            .statement(8)
            .port(1, "locked", true)
            .send(1, frame(b, port_mac(2))),
        Case::new("a locked port may be sent to")
            .statement(8)
            .port(1, "locked", true)
            .send(2, all(b))
            .send(2, frame(a, b)),
        Case::new("with mab an unknown source gets a locked entry")
            .shows(8)
            .port(1, "locked", true)
            .port(1, "mab", true)
            .send(1, frame(b, a))
            .send(1, frame(b, a))
            .send(2, frame(a, b)),
        Case::new("a locked entry moves to a port that is not locked, and is no longer")
            .statement(8)
            .statement(11)
            .port(1, "locked", true)
            .port(1, "mab", true)
            .send(1, frame(b, a))
            .send(2, frame(b, a))
            .send(3, frame(a, c)),
        Case::new("a reserved frame at a locked port teaches nothing")
            .statement(8)
            .port(1, "locked", true)
            .send(1, frame(reserved(0x0e), a)),
        Case::new("with no_linklocal_learn a reserved frame teaches nothing")
            .statement(5)
            .bridge("no_linklocal_learn", true)
            .send(1, frame(reserved(0x0e), a))
            .send(2, frame(a, b)),
        Case::new("a port that is learning learns and passes nothing on")
            .shows(6)
            .port(1, "state", "learning")
            .send(1, frame(b, a))
            .send(2, frame(a, b)),
        Case::new("a port that is blocking neither learns nor passes")
            .statement(6)
            .ruling("blocking")
            .port(1, "state", "blocking")
            .send(1, frame(b, a)),
        Case::new("a port that is listening neither learns nor passes")
            .shows(6)
            .port(1, "state", "listening")
            .send(1, frame(b, a))
            .send(2, frame(a, b)),
        Case::new("a port that is disabled is not there")
            .statement(6)
            .port(1, "state", "disabled")
            .send(1, frame(b, a))
            .send(1, frame(reserved(0x0e), a))
            .send(2, all(b)),
        Case::new("a known station behind a port that does not forward is not flooded")
            .shows(18)
            .send(1, frame(b, a))
            .set_port(1, "state", "listening")
            .send(2, frame(a, b)),
        Case::new("a reserved frame at a learning port teaches")
            .statement(5)
            .statement(6)
            .port(1, "state", "learning")
            .send(1, frame(reserved(0x0e), a)),
        Case::new("an entry of a control plane does not age and moves")
            .statement(11)
            .statement(13)
            .fdb(a, At::Port(1), Kind::External)
            .send(2, frame(a, b))
            .send(3, frame(b, a)),
        Case::new("a port's group_fwd_mask lets in what the bridge keeps")
            .statement(4)
            .port(1, "group_fwd_mask", 0x4000)
            .send(1, frame(reserved(0x0e), a))
            .send(2, frame(reserved(0x0e), b)),
        Case::new("a port's group_fwd_mask can have the bits that the bridge's can't")
            .statement(4)
            .port(1, "group_fwd_mask", 0x0005)
            .send(1, frame(reserved(2), a))
            .send(1, frame(reserved(0), a)),
        Case::new("a port that is up does not need its backup")
            .statement(23)
            .port(1, "backup_port", 3)
            .send(1, frame(b, a))
            .send(2, frame(a, b)),
        Case::new("a backup port takes the place of one that is down")
            .shows(23)
            .port(1, "backup_port", 3)
            .fdb(a, At::Port(1), Kind::Static)
            .link(1, false)
            .send(2, frame(a, b)),
        Case::new("a proxy_arp port gets no flooded frames")
            .shows(21)
            .port(2, "proxy_arp", true)
            .send(1, all(a))
            .send(1, frame(b, a))
            .send(1, frame(group(1), a)),
        Case::new("a proxy_arp port gets what is for a station behind it")
            .statement(21)
            .port(2, "proxy_arp", true)
            .send(2, frame(a, b))
            .send(1, frame(b, a)),
        Case::new("a question for a known neighbour is answered for a port that is spared it")
            .shows(32)
            .port(2, "neigh_suppress", true)
            .neighbour(TO, b)
            .send(2, all(b))
            .send(1, arp_request(a, FROM, TO)),
        Case::new("a question for an unknown neighbour is flooded to a port that would be spared")
            .statement(32)
            .port(2, "neigh_suppress", true)
            .send(2, all(b))
            .send(1, arp_request(a, FROM, TO)),
        Case::new("gratuitous ARP is kept off a port that is spared it")
            .shows(32)
            .port(2, "neigh_suppress", true)
            .send(1, arp_request(a, FROM, FROM)),
        Case::new("without a querier unregistered groups are flooded")
            .statement(26)
            .bridge("mcast_snooping", true)
            .send(1, frame(group(1), a)),
        Case::new("a frame of the egress MTU passes, one of five octets more does not")
            .shows(24)
            .port(2, "mtu", 1400)
            .send(1, long(b, a, 1400))
            .send(1, long(b, a, 1405)),
        Case::new("up to four octets more than the egress MTU pass without a tag")
            .shows(24)
            .ruling("packet_mtu")
            .port(2, "mtu", 1400)
            .send(1, long(b, a, 1404)),
        Case::new("a known destination behind a smaller MTU")
            .statement(24)
            .port(2, "mtu", 1400)
            .send(2, frame(a, b))
            .send(1, long(b, a, 1400))
            .send(1, long(b, a, 1405)),
        Case::new("a tag does not count for the egress MTU")
            .statement(24)
            .port(2, "mtu", 1400)
            .send(1, tagged(&long(b, a, 1400), 0x8100, 5))
            .send(1, tagged(&long(b, a, 1405), 0x8100, 5)),
        Case::new("up to four octets more than the egress MTU pass behind a tag")
            .statement(24)
            .ruling("packet_mtu")
            .port(2, "mtu", 1400)
            .send(1, tagged(&long(b, a, 1404), 0x8100, 5)),
        Case::new("an IPv4 packet that is too long is dropped without ICMP")
            .statement(24)
            .port(2, "mtu", 1400)
            .send(2, frame(a, b))
            .send(1, ethernet(b, a, IPV4, &ipv4(0, FROM, TO, ICMP, &echo(1450)))),
        Case::new("a small MTU of one port is no limit to the others")
            .statement(25)
            .port(2, "mtu", 1280)
            .send(1, long(MacAddr::BROADCAST, a, 1500)),
        Case::new("the bridge's own MTU is that of its port with the smallest")
            .shows(25)
            .ruling("no_interface")
            .read(Reading::BridgeMtu)
            .set_port(2, "mtu", 1280)
            .read(Reading::BridgeMtu)
            .set_port(3, "mtu", 1200)
            .read(Reading::BridgeMtu)
            .attach(3, false)
            .read(Reading::BridgeMtu)
            .attach(3, true)
            .read(Reading::BridgeMtu)
            .set_port(3, "mtu", 1500)
            .set_port(2, "mtu", 1500)
            .read(Reading::BridgeMtu),
        Case::new("a larger MTU of two ports is theirs")
            .statement(25)
            .port(1, "mtu", 4000)
            .port(2, "mtu", 4000)
            .send(1, long(MacAddr::BROADCAST, a, 4000)),
        Case::new("a port's address that was learned elsewhere is the port's")
            .statement(14)
            .send(1, frame(b, port_mac(3)))
            .send(2, frame(port_mac(3), b)),
        Case::new("a user's entry for the zero address is refused")
            .shows(15)
            .fdb(MacAddr::ZERO, At::Port(1), Kind::Static)
            .send(2, frame(MacAddr::ZERO, b)),
        Case::new("a user's entry counts from the first frame")
            .statement(15)
            .fdb(c, At::Port(3), Kind::Static)
            .send(1, frame(c, a)),
    ];
    for up in [1, 2, 3] {
        let name = format!("port {up} goes down and up while the others talk");
        cases.push(
            Case::new(&name)
                .statement(16)
                .send(up, frame(b, a))
                .link(up, false)
                .send(4, frame(a, c))
                .link(up, true)
                .send(4, frame(a, c))
                .send(up, frame(c, a)),
        );
    }
    cases
}
