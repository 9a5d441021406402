//! Where weft's bridge differs from the kernel's on purpose.

use std::collections::{BTreeMap, BTreeSet};

use super::Ruling;
use crate::compare::{
    case::{Bytes, Case, Kind, PORTS, Reading, Step, UNDERLAY, Value},
    observe::Entry,
    verdict::Difference,
};

pub(super) const RULINGS: &[Ruling] = &[
    Ruling {
        id: "fdb_full",
        question: "a new address when the FDB is full",
        theirs: "is not learned",
        weft: "takes the place of the least recently used entry of the port that has most",
        reason: "who floods the table with addresses pushes out its own, not those of others",
        setting: "fdb_full = \"refuse\"",
        explains: |_, difference| match difference {
            // A learned entry that made room, or that room was made for; no other kind.
            Difference::Fdb { reference, weft } => {
                let learned = |entry: &Entry| entry.kind == Kind::Learned;
                reference.is_none_or(|entry| learned(&entry)) && weft.is_none_or(|entry| learned(&entry))
            }
            Difference::Frames { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. }
            | Difference::Counter { .. } => false,
        },
    },
    Ruling {
        id: "extern_flush",
        question: "a flush, where a control plane has put in entries (extern_learn)",
        theirs: "takes them if it is one of the whole bridge, and leaves them if it is one of a port",
        weft: "leaves them, as it leaves those of users: they are part of the configuration",
        reason: "who put an entry in takes it out; frames would be flooded until a control plane noticed",
        setting: "weft fdb flush --static",
        explains: |_, difference| {
            matches!(difference, Difference::Fdb { reference: None, weft: Some(Entry { kind: Kind::External, .. }) })
        },
    },
    Ruling {
        id: "blocking",
        question: "a port that is set to blocking while there is no spanning tree",
        theirs: "is forwarding again at once (br_stp.c:br_make_forwarding)",
        weft: "stays blocking",
        reason: "what a user sets stays set; there is no protocol here that would set it otherwise",
        setting: "state = \"listening\", which passes and learns nothing on both",
        explains: |_, difference| match difference {
            Difference::Frames { weft, .. } => weft.is_empty(),
            Difference::Fdb { reference, weft } => {
                let learned = |entry: &Entry| entry.kind == Kind::Learned;
                reference.is_some_and(|entry| learned(&entry)) && weft.is_none_or(|entry| learned(&entry))
            }
            Difference::Counter { name, reference, weft } => name.ends_with(" out") && weft < reference,
            Difference::Refusal { .. } | Difference::Reading { .. } | Difference::Group { .. } => false,
        },
    },
    Ruling {
        id: "packet_mtu",
        question: "a packet that is one to four octets longer than the MTU of a packet port (kind = \"packet\")",
        theirs: "passes: a bridge leaves room for a tag, whether there is one or not",
        weft: "is dropped and counted as egress_mtu",
        reason: "weft writes to such a port by a packet socket, which refuses it (af_packet.c:packet_snd); a tap takes it",
        setting: "kind = \"tap\"",
        explains: |case, difference| match difference {
            Difference::Frames { step, place, weft, .. } => {
                let mtu = case.setup.port.get(place).and_then(|options| options.get("mtu"));
                let Some(Value::Number(mtu)) = mtu else { return false };
                let Some(Step::Send { frame, .. }) = case.steps.get(*step) else { return false };
                let tag = if matches!(frame.0.get(12..14), Some([0x81, 0] | [0x88, 0xa8])) { 4 } else { 0 };
                let over = frame.0.len() as i64 - tag - 14 - mtu;
                weft.is_empty() && (1..=4).contains(&over)
            }
            Difference::Counter { name, reference, weft } => name.ends_with(" out") && weft < reference,
            Difference::Fdb { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
        },
    },
    Ruling {
        id: "tagged_question",
        question: "an ARP request behind a tag, with neigh_suppress, where VLANs are not filtered",
        theirs: "is answered, and the answer has no tag",
        weft: "is not answered, but flooded like every frame with a tag",
        reason: "tags are payload where VLANs are not filtered, and who asked in a VLAN does not hear an answer outside of it",
        setting: "none",
        explains: |case, difference| {
            let tagged = |step: &usize| match case.steps.get(*step) {
                Some(Step::Send { frame, .. }) => {
                    frame.0.get(12..18).is_some_and(|at| at[..2] == [0x81, 0] && at[4..] == [8, 6])
                }
                Some(_) | None => false,
            };
            match difference {
                Difference::Frames { step, .. } => tagged(step),
                Difference::Counter { name, .. } => name.ends_with(" out"),
                Difference::Fdb { .. }
                | Difference::Refusal { .. }
                | Difference::Reading { .. }
                | Difference::Group { .. } => false,
            }
        },
    },
    Ruling {
        id: "no_interface",
        question: "what only an interface has: a bridge's own MTU, a tunnel's device that is down",
        theirs: "the bridge's MTU follows the smallest of its ports'; a vxlan device that is down keeps what a user added",
        weft: "a bridge has no MTU of its own; its network can't be taken from it while entries at VTEPs are written down",
        reason: "neither a bridge nor a tunnel of weft's is an interface, and ports keep to their own MTU",
        setting: "none",
        explains: |case, difference| match difference {
            Difference::Reading { step, reference: Some(read), weft: None } => {
                let is_mtu = matches!(case.steps.get(*step), Some(Step::Read { what: Reading::BridgeMtu }));
                is_mtu && *read == smallest_mtu(case, *step).to_string()
            }
            Difference::Refusal { step, reference: None, weft: Some(_) } => {
                matches!(case.steps.get(*step), Some(Step::Link { port: UNDERLAY, up: false }))
            }
            Difference::Reading { .. }
            | Difference::Refusal { .. }
            | Difference::Frames { .. }
            | Difference::Fdb { .. }
            | Difference::Group { .. }
            | Difference::Counter { .. } => false,
        },
    },
    Ruling {
        id: "vlan_0",
        question: "a user's entry for no VLAN, where VLANs are filtered",
        theirs: "is in every VLAN of its port, and in VLAN 0, which no frame is of",
        weft: "is in every VLAN of its port: each is a bridge of its own, and has the entry",
        reason: "there is no bridge of no VLAN",
        setting: "none",
        explains: |_, difference| {
            matches!(
                difference,
                Difference::Fdb { reference: Some(Entry { vid: None, kind: Kind::Static, .. }), weft: None }
            )
        },
    },
    Ruling {
        id: "empty_member",
        question: "a host whose only report about a group says that it wants none of its sources",
        theirs: "is a member without sources and without an end, which gets nothing",
        weft: "is no member",
        reason: "such a member takes room for ever, and changes nothing",
        setting: "none",
        explains: |_, difference| matches!(difference, Difference::Group { reference: Some(line), weft: None } if line.ends_with(": only")),
    },
    Ruling {
        id: "querier_address",
        question: "what a bridge's own queries come from",
        theirs: "is the address of the bridge's interface; MLD is only asked where that has an IPv6 address",
        weft: "is an address of the bridge's own, made at the start; both IGMP and MLD are asked",
        reason: "a bridge of weft's is no interface, whose addresses it could take",
        setting: "none",
        explains: |_, difference| match difference {
            Difference::Frames { reference, weft, .. } => {
                // IGMP alike but for the source, MLD by weft alone.
                let is_query = |frame: &Bytes| frame.0.get(12..14) == Some(&[8, 0]) && frame.0.get(38) == Some(&0x11);
                let is_mld =
                    |frame: &Bytes| frame.0.get(12..14) == Some(&[0x86, 0xdd]) && frame.0.get(62) == Some(&130);
                let anonymous = |frame: &Bytes| [&frame.0[..6], &frame.0[12..]].concat();
                reference.iter().all(is_query)
                    && weft.iter().all(|frame| is_query(frame) || is_mld(frame))
                    && reference.iter().map(anonymous).eq(weft.iter().filter(|frame| is_query(frame)).map(anonymous))
            }
            Difference::Counter { name, reference, weft } => name.ends_with(" out") && reference < weft,
            Difference::Fdb { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
        },
    },
];

/// The smallest MTU of the ports that are in the bridge before a step.
fn smallest_mtu(case: &Case, step: usize) -> i64 {
    let mut mtus: BTreeMap<u8, i64> = (1..=PORTS).map(|port| (port, 1500)).collect();
    let mut out = BTreeSet::new();
    for step in case.steps.iter().take(step) {
        if let Step::SetPort { port, option, value: Value::Number(mtu) } = step
            && option == "mtu"
        {
            mtus.insert(*port, *mtu);
        }
        if let Step::Attach { port, on } = step {
            _ = if *on { out.remove(port) } else { out.insert(*port) };
        }
    }
    mtus.into_iter().filter(|(port, _)| !out.contains(port)).map(|(_, mtu)| mtu).min().unwrap_or(0)
}
