//! Who gets a frame: flooding and its gates, known destinations that may not be reached.

use crate::{
    compare::{
        case::Case,
        frame::{frame, group, station},
    },
    wire::MacAddr,
};

pub(super) fn cases() -> Vec<Case> {
    let (a, b, c) = (station(1), station(2), station(3));
    let mut cases = vec![
        Case::new("unknown unicast reaches every other port").statement(20).send(1, frame(b, a)),
        Case::new("broadcast reaches every other port").statement(20).send(1, frame(MacAddr::BROADCAST, a)),
        Case::new("multicast reaches every other port").statement(20).send(1, frame(group(1), a)),
        Case::new("a port without hairpin does not get its own frames back")
            .shows(18)
            .send(1, frame(b, a))
            .send(1, frame(a, b)),
        Case::new("a hairpin port gets unicast back")
            .statement(19)
            .port(1, "hairpin", true)
            .send(1, frame(b, a))
            .send(1, frame(a, c)),
        Case::new("a hairpin port gets broadcast back")
            .shows(19)
            .port(1, "hairpin", true)
            .send(1, frame(MacAddr::BROADCAST, a)),
        Case::new("isolated ports do not reach each other")
            .shows(22)
            .port(1, "isolated", true)
            .port(2, "isolated", true)
            .send(1, frame(MacAddr::BROADCAST, a))
            .send(2, frame(a, b))
            .send(3, frame(a, c))
            .send(1, frame(c, a)),
        Case::new("isolated ports reach a hairpin of their own")
            .statement(22)
            .port(1, "isolated", true)
            .port(1, "hairpin", true)
            .send(1, frame(MacAddr::BROADCAST, a))
            .send(1, frame(a, b)),
        Case::new("known unicast to an isolated port from one that is not")
            .shows(22)
            .port(1, "isolated", true)
            .send(1, frame(b, a))
            .send(2, frame(a, b)),
        Case::new("a known destination behind a port that is down is not flooded")
            .shows(18)
            .fdb(a, super::super::case::At::Port(1), super::super::case::Kind::Static)
            .link(1, false)
            .send(2, frame(a, b)),
        Case::new("no port is left for a frame")
            .statement(20)
            .port(2, "flood", false)
            .port(3, "flood", false)
            .port(4, "flood", false)
            .send(1, frame(b, a)),
        Case::new("gates turn while frames come")
            .shows(20)
            .send(1, frame(b, a))
            .set_port(2, "flood", false)
            .send(1, frame(b, a))
            .set_port(2, "flood", true)
            .send(1, frame(b, a)),
    ];
    // Each gate alone, against each kind of frame, at a port of its own; and at the ingress, where it says nothing.
    let kinds = [("unknown unicast", b), ("multicast", group(1)), ("broadcast", MacAddr::BROADCAST)];
    for gate in ["flood", "mcast_flood", "bcast_flood"] {
        for (kind, dst) in kinds {
            let closed = Case::new(&format!("{gate} off and {kind}")).shows(20).port(2, gate, false);
            cases.push(closed.send(1, frame(dst, a)).send(2, frame(dst, c)));
            let back = Case::new(&format!("{gate} off at a hairpin port and {kind}")).statement(19).statement(20);
            cases.push(back.port(1, gate, false).port(1, "hairpin", true).send(1, frame(dst, a)));
        }
        let known = Case::new(&format!("{gate} off and known unicast")).statement(20).port(2, gate, false);
        cases.push(known.send(2, frame(a, b)).send(1, frame(b, a)));
    }
    cases
}
