//! The FDB: what teaches, what moves, what is forgotten.

use crate::compare::{
    case::{At, Case, Kind},
    frame::{frame, port_mac, station},
};

pub(super) fn cases() -> Vec<Case> {
    let (a, b, c) = (station(1), station(2), station(3));
    vec![
        Case::new("an address is learned where it was seen")
            .statement(9)
            .send(1, frame(b, a))
            .send(2, frame(a, b))
            .send(1, frame(b, a)),
        Case::new("an address moves at once to a newer port")
            .shows(11)
            .send(1, frame(b, a))
            .send(2, frame(b, a))
            .send(3, frame(a, c)),
        Case::new("a static entry moves and stays static")
            .shows(11)
            .fdb(a, At::Port(1), Kind::Static)
            .send(2, frame(b, a))
            .send(3, frame(a, c)),
        Case::new("a sticky entry stays, and the frame is forwarded")
            .shows(11)
            .fdb(a, At::Port(1), Kind::Sticky)
            .send(2, frame(b, a))
            .send(3, frame(a, c)),
        Case::new("a port without learning learns nothing")
            .statement(9)
            .port(1, "learning", false)
            .send(1, frame(b, a))
            .send(2, frame(a, b)),
        Case::new("a port without learning does not move an address")
            .statement(11)
            .send(1, frame(b, a))
            .set_port(2, "learning", false)
            .send(2, frame(b, a))
            .send(3, frame(a, c)),
        Case::new("the source is a port's own address: forwarded, not learned")
            .shows(10)
            .send(1, frame(b, port_mac(2)))
            .send(3, frame(port_mac(2), c)),
        Case::new("the source is its own port's address: forwarded, not learned")
            .statement(10)
            .send(1, frame(b, port_mac(1)))
            .send(3, frame(port_mac(1), c)),
        Case::new("a frame to a port's own address is the host's")
            .shows(17)
            .send(1, frame(port_mac(1), a))
            .send(1, frame(port_mac(2), a))
            .send(2, frame(port_mac(1), b)),
        Case::new("with ageing 0 nothing is learned")
            .shows(9)
            .bridge("ageing", 0)
            .send(1, frame(b, a))
            .send(2, frame(a, b)),
        Case::new("what is too old for a shorter ageing time goes at once")
            .statement(13)
            .send(1, frame(b, a))
            .set_bridge("ageing", 0)
            .wait(100)
            .send(2, frame(a, b)),
        Case::new("at the limit nothing more is learned, and frames still pass")
            .shows(12)
            .bridge("fdb_max_learned", 2)
            .send(1, frame(b, a))
            .send(2, frame(a, b))
            .send(3, frame(a, c))
            .send(1, frame(c, a)),
        Case::new("with fdb_full = evict a new address takes an old one's place")
            .statement(12)
            .ruling("fdb_full")
            .bridge("fdb_full", "evict")
            .bridge("fdb_max_learned", 2)
            .send(1, frame(b, a))
            .send(1, frame(b, station(4)))
            .send(3, frame(b, c)),
        (1..=12).fold(
            Case::new("with fdb_full = evict who floods the table pushes out its own addresses")
                .statement(12)
                .ruling("fdb_full")
                .bridge("fdb_full", "evict")
                .bridge("fdb_max_learned", 10)
                .send(2, frame(station(200), station(101)))
                .send(2, frame(station(200), station(102))),
            |case, number| case.send(1, frame(station(200), station(number))),
        ),
        Case::new("a user's entries do not count against the limit")
            .shows(12)
            .bridge("fdb_max_learned", 1)
            .fdb(c, At::Port(3), Kind::Static)
            .send(1, frame(b, a))
            .send(2, frame(a, b)),
        Case::new("an entry that is removed is forgotten")
            .statement(9)
            .send(1, frame(b, a))
            .fdb_delete(a)
            .send(2, frame(a, b)),
        Case::new("an entry that is not there can't be removed").statement(9).fdb_delete(a).send(2, frame(a, b)),
        Case::new("a flush takes learned entries and leaves a user's")
            .statement(13)
            .send(1, frame(b, a))
            .fdb(c, At::Port(3), Kind::Static)
            .flush(None)
            .send(2, frame(a, b))
            .send(2, frame(c, b)),
        Case::new("a flush of a port leaves the others")
            .statement(13)
            .send(1, frame(b, a))
            .send(3, frame(b, c))
            .flush(Some(1))
            .send(2, frame(a, b))
            .send(2, frame(c, b)),
        Case::new("a flush of the bridge leaves what a control plane has put in")
            .source("br_fdb.c:br_fdb_flush")
            .ruling("extern_flush")
            .fdb(a, At::Port(1), Kind::External)
            .flush(None),
        Case::new("a flush of a port leaves what a control plane has put in")
            .source("br_fdb.c:br_fdb_delete_by_port")
            .fdb(a, At::Port(1), Kind::External)
            .flush(Some(1))
            .send(2, frame(a, b)),
        Case::new("a control plane's entry that a user names anew is the user's")
            .statement(11)
            .fdb(a, At::Port(1), Kind::External)
            .fdb(a, At::Port(2), Kind::Static)
            .send(3, frame(b, a)),
        Case::new("a user's entry that a control plane names anew is the control plane's")
            .statement(11)
            .fdb(a, At::Port(1), Kind::Static)
            .fdb(a, At::Port(2), Kind::External)
            .send(3, frame(b, a)),
        Case::new("a port that goes down loses what was learned, not what a user added")
            .shows(16)
            .send(1, frame(b, a))
            .fdb(c, At::Port(1), Kind::Static)
            .link(1, false)
            .send(2, frame(a, b))
            .send(2, frame(c, b))
            .link(1, true)
            .send(2, frame(c, b)),
        limit("at the limit a user's entries are taken")
            .fdb(c, At::Port(3), Kind::Static)
            .fdb(station(5), At::Port(3), Kind::Sticky)
            .fdb(station(6), At::Port(4), Kind::External)
            .send(4, frame(c, station(7))),
        limit("a learned entry that becomes a user's makes room")
            .fdb(a, At::Port(1), Kind::Static)
            .send(3, frame(a, c)),
        limit("a learned entry that becomes a control plane's makes room")
            .fdb(a, At::Port(1), Kind::External)
            .send(3, frame(a, c)),
        limit("a learned entry that is removed makes room").fdb_delete(a).send(3, frame(a, c)),
        limit("a flush makes room").flush(None).send(3, frame(a, c)).send(4, frame(a, station(5))),
        limit("at the limit a known station still moves").send(3, frame(b, a)).send(4, frame(a, c)),
        limit("a limit that becomes smaller takes nothing out")
            .set_bridge("fdb_max_learned", 1)
            .send(3, frame(a, c))
            .set_bridge("fdb_max_learned", 3)
            .send(3, frame(a, c)),
        limit("a limit that is taken away is none").set_bridge("fdb_max_learned", 0).send(3, frame(a, c)),
        Case::new("sixteen stations at a limit of eight are all answered")
            .statement(12)
            .bridge("fdb_max_learned", 8)
            .send(2, frame(a, station(0x80)))
            .steps((0x10..0x20).flat_map(|number| {
                [(1, frame(station(0x80), station(number))), (2, frame(station(number), station(0x80)))]
            })),
        Case::new("a port's own address that was learned elsewhere goes when the port is put into the bridge")
            .shows(14)
            .attach(3, false)
            .send(1, frame(b, port_mac(3)))
            .send(2, frame(port_mac(3), b))
            .attach(3, true)
            .send(2, frame(port_mac(3), b)),
        Case::new("a port that is taken out of the bridge leaves nothing behind")
            .statement(16)
            .send(3, frame(b, c))
            .fdb(station(5), At::Port(3), Kind::Static)
            .attach(3, false)
            .send(2, frame(c, b))
            .send(2, frame(station(5), b))
            .attach(3, true)
            .send(2, frame(c, b)),
        Case::new("an entry ages out")
            .statement(13)
            .bridge("ageing", 1000)
            .send(1, frame(b, a))
            .wait(1600)
            .send(2, frame(a, b)),
        Case::new("frames to an address do not keep its entry")
            .shows(13)
            .bridge("ageing", 1000)
            .send(1, frame(b, a))
            .wait(700)
            .send(2, frame(a, b))
            .wait(900)
            .send(2, frame(a, b)),
        Case::new("frames from an address keep its entry, and a user's entries need none")
            .shows(13)
            .bridge("ageing", 1000)
            .fdb(c, At::Port(3), Kind::Static)
            .fdb(station(5), At::Port(3), Kind::Sticky)
            .fdb(station(6), At::Port(4), Kind::External)
            .send(1, frame(b, a))
            .wait(600)
            .send(1, frame(b, a))
            .wait(600)
            .send(2, frame(a, b))
            .wait(1600)
            .send(2, frame(a, b))
            .send(2, frame(c, b))
            .send(2, frame(station(6), b)),
    ]
}

/// A bridge that has learned as many addresses as it may: two.
fn limit(name: &str) -> Case {
    let (a, b) = (station(1), station(2));
    Case::new(name).statement(12).bridge("fdb_max_learned", 2).send(1, frame(b, a)).send(2, frame(a, b))
}
