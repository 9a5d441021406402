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
    vec![
        Case::new("unknown unicast reaches every other port").statement(20).send(1, frame(b, a)),
        Case::new("broadcast reaches every other port").statement(20).send(1, frame(MacAddr::BROADCAST, a)),
        Case::new("multicast reaches every other port").statement(20).send(1, frame(group(1), a)),
        Case::new("a port without hairpin does not get its own frames back")
            .statement(18)
            .send(1, frame(b, a))
            .send(1, frame(a, b)),
        Case::new("a hairpin port gets unicast back")
            .statement(19)
            .port(1, "hairpin", true)
            .send(1, frame(b, a))
            .send(1, frame(a, c)),
        Case::new("a hairpin port gets broadcast back")
            .statement(19)
            .port(1, "hairpin", true)
            .send(1, frame(MacAddr::BROADCAST, a)),
        Case::new("isolated ports do not reach each other")
            .statement(22)
            .port(1, "isolated", true)
            .port(2, "isolated", true)
            .send(1, frame(MacAddr::BROADCAST, a))
            .send(2, frame(a, b))
            .send(3, frame(a, c))
            .send(1, frame(c, a)),
    ]
}
