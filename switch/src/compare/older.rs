//! What the kernel did otherwise before: where the running kernel is older than the one that weft is like.
//!
//! weft does what Linux 6.18 does. A case that an older kernel sees differently names the change; it counts only where the
//! running kernel is older than that and differs in just the way that [`Change::explains`] says. A distribution's kernel may
//! have the change from later: then both sides do the same, and nobody asks.

use std::fmt;

use super::{
    case::{Case, Step, UNDERLAY},
    verdict::Difference,
};
use crate::wire::dissect::dissect;

/// A kernel's version, without what distributions and stable series add.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version {
    /// 6 of 6.18.44.
    pub major: u16,
    /// 18 of 6.18.44.
    pub minor: u16,
}

impl Version {
    /// The version of a release as `uname -r` says it.
    pub fn of(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A change of the kernel's.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Its name in cases.
    pub id: &'static str,
    /// What it is about.
    pub question: &'static str,
    /// What the kernel did before.
    pub before: &'static str,
    /// What it does since, and weft.
    pub since_then: &'static str,
    /// The first version of Linus Torvalds's tree that has it.
    pub since: Version,
    /// The commit there, and its title.
    pub commit: &'static str,
    /// Whether this very difference is what the change says.
    pub explains: fn(&Case, &Difference) -> bool,
}

impl PartialEq for Change {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// The change of this name.
pub fn find(id: &str) -> Option<&'static Change> {
    CHANGES.iter().find(|change| change.id == id)
}

/// All changes.
pub const CHANGES: &[Change] = &[
    Change {
        id: "unicast_question",
        question: "a question to the neighbour alone, with neigh_suppress",
        before: "was answered in the neighbour's name, and passed on as well",
        since_then: "is passed on and answered by the neighbour alone, whom it is to find alive",
        since: Version { major: 6, minor: 16 },
        commit: "827b2ac8e796, \"net: bridge: Prevent unicast ARP/NS packets from being suppressed by bridge\"",
        explains: |case, difference| match difference {
            // One frame more at the port that asked.
            Difference::Frames { step, place, reference, weft } => {
                let Some(Step::Send { port, frame }) = case.steps.get(*step) else { return false };
                let to_one = frame.0.first().is_some_and(|octet| octet & 1 == 0);
                to_one && is_question(&frame.0) && port == place && reference.len() == weft.len() + 1
            }
            Difference::Counter { name, reference, weft } => name.ends_with(" out") && reference > weft,
            Difference::Fdb { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
        },
    },
    Change {
        id: "probe",
        question: "an ARP probe or a search for duplicates, with neigh_suppress",
        before: "was kept off the ports that are spared questions, whoever it was for, and was not answered",
        since_then: "is treated like any other question: answered for a neighbour that is known, else flooded",
        since: Version { major: 7, minor: 2 },
        commit: "fee1fc1d5a47, \"bridge: Do not suppress ARP probes and DAD NS unconditionally\"",
        explains: |case, difference| match difference {
            // An answer that did not come, or a flood that did not.
            Difference::Frames { step, reference, weft, .. } => {
                let Some(Step::Send { frame, .. }) = case.steps.get(*step) else { return false };
                is_probe(&frame.0) && weft.len() == reference.len() + 1
            }
            Difference::Counter { name, reference, weft } => name.ends_with(" out") && reference < weft,
            Difference::Fdb { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
        },
    },
    Change {
        id: "cut_off",
        question: "a frame that ends within its IP header, on its way into a tunnel",
        before: "was sent",
        since_then: "is dropped",
        since: Version { major: 6, minor: 10 },
        commit: "31392048f55f, \"vxlan: Pull inner IP header in vxlan_xmit_one().\"",
        explains: |case, difference| match difference {
            Difference::Frames { step, place: UNDERLAY, weft, .. } => {
                let Some(Step::Send { frame, .. }) = case.steps.get(*step) else { return false };
                weft.is_empty() && dissect(&frame.0).ends_within_ip(frame.0.len())
            }
            Difference::Frames { .. }
            | Difference::Counter { .. }
            | Difference::Fdb { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
        },
    },
    Change {
        id: "vxlan_used",
        question: "a station in a vxlan device's table that is sent to and does not send",
        before: "was remembered for its ageing time since it was last sent to",
        since_then: "is forgotten its ageing time after its last packet, as in a bridge's FDB",
        since: Version { major: 6, minor: 15 },
        commit: "b4a1d98b0fa5, \"vxlan: Age out FDB entries based on 'updated' time\"",
        explains: |case, difference| match difference {
            // To the VTEP that is still known instead of the flood list.
            Difference::Frames { step, place: UNDERLAY, reference, weft } => {
                *step + 1 == case.steps.len() && reference.len() == 1 && weft.len() == 1
            }
            Difference::Frames { .. }
            | Difference::Counter { .. }
            | Difference::Fdb { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
        },
    },
];

/// Whether a frame is an ARP request or a neighbour solicitation.
fn is_question(frame: &[u8]) -> bool {
    let arp = frame.get(12..14) == Some(&[8, 6]) && frame.get(20..22) == Some(&[0, 1]);
    let solicitation = frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(54) == Some(&135);
    arp || solicitation
}

/// Whether it is one whose sender has no address yet (RFC 5227 section 2.1.1, RFC 4862 section 5.4.2).
fn is_probe(frame: &[u8]) -> bool {
    let sender = if frame.get(12..14) == Some(&[8, 6]) { frame.get(28..32) } else { frame.get(22..38) };
    is_question(frame) && sender.is_some_and(|sender| sender.iter().all(|octet| *octet == 0))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::compare::frame::{arp_request, frame, neighbour_solicitation, station};

    #[test]
    fn versions_are_read_from_releases_and_compared_as_numbers() {
        let of = |release| Version::of(release).unwrap();
        assert_eq!(of("6.1.0-38-amd64"), Version { major: 6, minor: 1 });
        assert_eq!(of("6.18"), Version { major: 6, minor: 18 });
        assert!(of("6.1.192") < of("6.16.0") && of("6.18.44") < of("7.2-rc1"));
        assert_eq!(Version::of("unknown"), None);
        assert_eq!(of("6.18.44").to_string(), "6.18");
    }

    #[test]
    fn questions_and_probes_are_told_apart() {
        let (one, two) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let six = Ipv6Addr::LOCALHOST;
        for (bytes, question, probe) in [
            (arp_request(station(1), one, two), true, false),
            (arp_request(station(1), Ipv4Addr::UNSPECIFIED, two), true, true),
            (neighbour_solicitation(station(1), six, six), true, false),
            (neighbour_solicitation(station(1), Ipv6Addr::UNSPECIFIED, six), true, true),
            (frame(station(2), station(1)), false, false),
        ] {
            assert_eq!((is_question(&bytes), is_probe(&bytes)), (question, probe));
        }
    }
}
