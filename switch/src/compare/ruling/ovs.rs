//! Where weft, which does as the kernel does, differs from Open vSwitch (version 3.1; its functions are named after the file).
//!
//! No case names these: each difference of a case must have one that explains it, by what the case does. What a bridge knows
//! of a station decides about frames to it later on, so a ruling has *stations*: those whom both sides know otherwise.

use std::collections::BTreeSet;

use super::Ruling;
use crate::{
    compare::{
        case::{At, Bytes, Case, FdbAdd, Kind, PORTS, Step, VlanMember},
        frame::{DOT1AD, DOT1Q, port_mac},
        verdict::Difference,
    },
    wire::MacAddr,
};

/// All rulings about Open vSwitch. The first that explains a difference is the one that is named.
pub const RULINGS: &[Ruling] = &[
    Ruling {
        id: "ovs_source_invalid",
        question: "a frame from the zero address or from a group",
        theirs: "is forwarded, and the zero address learned (mac-learning.c:mac_learning_may_learn)",
        weft: "is dropped, and teaches nothing",
        reason: "nobody has such an address; the kernel drops it (br_input.c:br_handle_frame)",
        setting: "none",
        explains: |case, difference| {
            explained(case, difference, |sent| !sent.src().is_valid_source(), |_, weft| weft.is_empty())
        },
    },
    Ruling {
        id: "ovs_reserved",
        question: "a frame to 01-80-C2-00-00-00 to ..-0F",
        theirs: "is dropped and teaches nothing; with forward-bpdu all of them pass, pause frames too \
                 (ofproto-dpif-xlate.c:is_admissible)",
        weft: "teaches its source and is kept, but for ..-00, which is flooded while there is no spanning tree, and ..-01, which \
               is only dropped",
        reason: "the kernel does so (br_input.c:br_handle_frame), and who speaks LLDP or LACP is there",
        setting: "none",
        explains: |case, difference| {
            let reserved = |sent: &Sent<'_>| sent.dst().reserved_group().is_some();
            explained(case, difference, reserved, |reference, weft| reference.is_empty() || weft.is_empty())
        },
    },
    Ruling {
        id: "ovs_own_address",
        question: "the address of a port's own interface",
        theirs: "is a station's like any other; its bridge has an interface and an address of its own",
        weft: "is the host's: not learned, and nothing is forwarded to it",
        reason: "what has the address of the interface that it comes in by is a loop or a mistake (br_fdb.c:br_fdb_update)",
        setting: "none",
        explains: |case, difference| {
            let own: Vec<_> = (1..=PORTS).map(port_mac).collect();
            let with_own = |sent: &Sent<'_>| own.contains(&sent.src()) || own.contains(&sent.dst());
            explained(case, difference, with_own, |_, weft| weft.is_empty())
        },
    },
    Ruling {
        id: "ovs_entry",
        question: "a user's entry for the zero address, or in a VLAN that is not the port's",
        theirs: "is taken (ofproto-dpif.c:ofproto_unixctl_fdb_add)",
        weft: "is refused",
        reason: "it is nobody's, or nothing could ever go there (br_fdb.c:br_fdb_add)",
        setting: "none",
        explains: |case, difference| {
            let refused = |step: &Step| {
                let Step::FdbAdd(entry) = step else { return None };
                (entry.mac.is_zero() || !is_member(case, entry)).then_some(entry.mac)
            };
            if let Difference::Refusal { step, reference: None, weft: Some(_) } = difference {
                return case.steps.get(*step).and_then(refused).is_some();
            }
            about(case, difference, &case.steps.iter().filter_map(refused).collect())
        },
    },
    Ruling {
        id: "ovs_static",
        question: "a station with a user's entry that is seen at another port",
        theirs: "stays where the user said (mac-learning.c:is_mac_learning_update_needed)",
        weft: "moves, unless its entry is sticky",
        reason: "the kernel has both kinds (br_fdb.c:br_fdb_update)",
        setting: "sticky = true",
        explains: |case, difference| {
            let added = |step: &Step| {
                let Step::FdbAdd(entry) = step else { return None };
                (entry.kind == Kind::Static).then_some(entry.mac)
            };
            let stations = case.steps.iter().filter_map(added).collect();
            about(case, difference, &stations)
        },
    },
    Ruling {
        id: "ovs_down",
        question: "what was learned at a port that goes down",
        theirs: "is known until it ages; frames to it are lost",
        weft: "is forgotten",
        reason: "the station may come back elsewhere and be silent (br_fdb.c:br_fdb_delete_by_port)",
        setting: "none",
        explains: |case, difference| {
            let goes_down = |port: u8| case.steps.contains(&Step::Link { port, up: false });
            let stations = sent(case).filter(|sent| goes_down(sent.port)).map(|sent| sent.src()).collect();
            about(case, difference, &stations)
        },
    },
    Ruling {
        id: "ovs_tags",
        question: "a frame with a tag, at a bridge that does not filter VLANs",
        theirs: "is of that VLAN: its source is learned there and nowhere else, a tag for priority alone is taken off, and the \
                 drop-eligible bit is lost",
        weft: "is payload from the tag on",
        reason: "a bridge without VLAN filtering knows no VLANs (br_vlan.c:br_allowed_ingress)",
        setting: "none",
        explains: |case, difference| {
            let filters = case.setup.vlans.is_some();
            explained(case, difference, |sent| !filters && sent.tag().is_some(), |_, _| true)
        },
    },
    Ruling {
        id: "ovs_drop_eligible",
        question: "the drop-eligible bit of a tag",
        theirs: "is lost: its place says that there is a tag (packets.c:eth_push_vlan)",
        weft: "stays as it is",
        reason: "it is part of the frame's priority (IEEE 802.1Q 9.6)",
        setting: "none",
        explains: |_, difference| match difference {
            Difference::Frames { reference, weft, .. } => {
                let without = |frame: &Bytes| {
                    let mut bytes = frame.0.clone();
                    bytes.iter_mut().skip(14).take(1).for_each(|octet| *octet &= !0x10);
                    bytes
                };
                *reference == weft.iter().map(|frame| Bytes(without(frame))).collect::<Vec<_>>()
            }
            Difference::Fdb { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. }
            | Difference::Counter { .. } => false,
        },
    },
    Ruling {
        id: "ovs_access",
        question: "a frame with the tag of its VLAN, at a port that has only this VLAN and takes its frames without a tag",
        theirs: "is dropped: an access port takes no tags (ofproto-dpif-xlate.c:input_vid_is_valid)",
        weft: "is taken as one without",
        reason: "the kernel does so (br_vlan.c:__allowed_ingress)",
        setting: "none",
        explains: |case, difference| {
            let only = |sent: &Sent<'_>| match case.setup.vlans.as_ref().and_then(|vlans| vlans.get(&sent.port)) {
                Some(members) => match members[..] {
                    [VlanMember { vid, pvid: true, untagged: true }] => sent.tag() == Some((DOT1Q, vid)),
                    _ => false,
                },
                None => false,
            };
            explained(case, difference, only, |reference, _| reference.is_empty())
        },
    },
    Ruling {
        id: "ovs_both_tags",
        question: "a frame with a provider's tag, at a bridge of customers' VLANs",
        theirs: "is of the VLAN that this tag says: both kinds are one (packets.h:eth_type_vlan)",
        weft: "has no tag, and is of its port's PVID",
        reason: "a bridge has one kind of VLANs; the other is payload (br_vlan.c:__allowed_ingress)",
        setting: "none",
        explains: |case, difference| {
            let filters = case.setup.vlans.is_some();
            let is_provider = |sent: &Sent<'_>| matches!(sent.tag(), Some((DOT1AD, _)));
            explained(case, difference, |sent| filters && is_provider(sent), |_, _| true)
        },
    },
];

/// Whether a user's entry is in a VLAN of its port.
fn is_member(case: &Case, entry: &FdbAdd) -> bool {
    match (entry.at, entry.vid, &case.setup.vlans) {
        (At::Port(port), Some(vid), Some(vlans)) => {
            vlans.get(&port).is_some_and(|members| members.iter().any(|member| member.vid == vid))
        }
        _ => true,
    }
}

/// A frame that a case sends.
struct Sent<'c> {
    port: u8,
    frame: &'c [u8],
}

impl<'c> Sent<'c> {
    fn of(step: &'c Step) -> Option<Self> {
        let Step::Send { port, frame } = step else { return None };
        (frame.0.len() >= 14).then_some(Self { port: *port, frame: &frame.0 })
    }

    fn dst(&self) -> MacAddr {
        self.frame.first_chunk().map_or(MacAddr::ZERO, |octets| MacAddr::new(*octets))
    }

    fn src(&self) -> MacAddr {
        self.frame[6..].first_chunk().map_or(MacAddr::ZERO, |octets| MacAddr::new(*octets))
    }

    /// The outermost tag: its protocol and its VLAN.
    fn tag(&self) -> Option<(u16, u16)> {
        let [a, b, c, d] = *self.frame[12..].first_chunk()?;
        let tpid = u16::from_be_bytes([a, b]);
        [DOT1Q, DOT1AD].contains(&tpid).then_some((tpid, u16::from_be_bytes([c, d]) & 0x0fff))
    }
}

fn sent(case: &Case) -> impl Iterator<Item = Sent<'_>> {
    case.steps.iter().filter_map(Sent::of)
}

/// Whether a difference is what became of such a frame, in the direction that is said, or is about its sender.
fn explained(
    case: &Case,
    difference: &Difference,
    is_such: impl Fn(&Sent<'_>) -> bool,
    direction: impl Fn(&[Bytes], &[Bytes]) -> bool,
) -> bool {
    match became_of(case, difference) {
        Some((sent, reference, weft)) if is_such(&sent) => direction(reference, weft),
        _ => about(case, difference, &sent(case).filter(is_such).map(|sent| sent.src()).collect()),
    }
}

/// Whether a difference is about one of these stations: its entry, or a frame to it.
fn about(case: &Case, difference: &Difference, stations: &BTreeSet<MacAddr>) -> bool {
    match difference {
        Difference::Frames { .. } => {
            became_of(case, difference).is_some_and(|(sent, ..)| stations.contains(&sent.dst()))
        }
        Difference::Fdb { reference, weft } => reference.iter().chain(weft).all(|entry| stations.contains(&entry.mac)),
        Difference::Refusal { .. }
        | Difference::Reading { .. }
        | Difference::Group { .. }
        | Difference::Counter { .. } => false,
    }
}

/// The frame that a difference is about, and what came out of it on each side. `None`: something else came out, which no
/// ruling here explains.
fn became_of<'d>(case: &'d Case, difference: &'d Difference) -> Option<(Sent<'d>, &'d [Bytes], &'d [Bytes])> {
    let Difference::Frames { step, reference, weft, .. } = difference else { return None };
    let sent = Sent::of(case.steps.get(*step)?)?;
    let is_it = |out: &Bytes| bare(&out.0) == bare(sent.frame);
    reference.iter().chain(weft).all(is_it).then_some((sent, reference, weft))
}

/// A frame without its tags.
fn bare(frame: &[u8]) -> Vec<u8> {
    let (addresses, mut rest) = frame.split_at(frame.len().min(12));
    while let Some((&[a, b, _, _], behind)) = rest.split_first_chunk()
        && [DOT1Q, DOT1AD].contains(&u16::from_be_bytes([a, b]))
    {
        rest = behind;
    }
    [addresses, rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{
        case::access,
        frame::{frame, reserved, station, tagged},
    };

    fn names(case: &Case, reference: Vec<Vec<u8>>, weft: Vec<Vec<u8>>) -> Vec<&'static str> {
        let bytes = |frames: Vec<Vec<u8>>| frames.into_iter().map(Bytes).collect();
        let difference = Difference::Frames { step: 0, place: 2, reference: bytes(reference), weft: bytes(weft) };
        RULINGS.iter().filter(|ruling| (ruling.explains)(case, &difference)).map(|ruling| ruling.id).collect()
    }

    #[test]
    fn a_ruling_explains_what_it_is_about_and_in_its_direction() {
        let (a, b) = (station(1), station(2));
        let stp = frame(reserved(0), a);
        let case = Case::new("x").send(1, stp.clone());
        assert_eq!(names(&case, vec![], vec![stp.clone()]), ["ovs_reserved"]);
        assert!(names(&case, vec![stp.clone()], vec![stp.clone(), stp]).is_empty(), "both pass it");
        assert!(names(&case, vec![], vec![frame(b, a)]).is_empty(), "another frame came out");
        let plain = frame(b, a);
        assert!(names(&Case::new("x").send(1, plain.clone()), vec![], vec![plain.clone()]).is_empty());
        let own = tagged(&plain, DOT1Q, 10);
        let case = Case::new("x").vlans(1, &[access(10)]).vlans(2, &[access(10)]).send(1, own);
        assert_eq!(names(&case, vec![], vec![plain.clone()]), ["ovs_access"]);
        assert!(names(&case, vec![plain], vec![]).is_empty());
    }

    #[test]
    fn the_drop_eligible_bit_is_all_that_its_ruling_explains() {
        let plain = frame(station(2), station(1));
        let (with, without) = (tagged(&plain, DOT1Q, 0x300a), tagged(&plain, DOT1Q, 0x200a));
        let case = Case::new("x").vlans(1, &[access(10)]).send(1, plain);
        assert_eq!(names(&case, vec![without.clone()], vec![with.clone()]), ["ovs_drop_eligible"]);
        assert!(names(&case, vec![with], vec![without]).is_empty());
    }
}
