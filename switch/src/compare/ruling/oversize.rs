//! Where weft does otherwise than a vxlan device on purpose: packets that are too large for the tunnel.

use super::Ruling;
use crate::compare::{
    case::{At, Bytes, Step, UNDERLAY},
    observe::NO_VTEP,
    verdict::Difference,
};

pub(super) const RULINGS: &[Ruling] = &[
    Ruling {
        id: "oversize",
        question: "an inner IPv4 packet without DF that is too large for the tunnel",
        theirs: "leaves whole, and the outer packet is cut in fragments",
        weft: "is cut in fragments itself",
        reason: "a VTEP must not fragment its packets, and whoever gets such fragments may discard them (RFC 7348 section 4.3); \
                 fragments of the inner packet any host puts together",
        setting: "oversize = \"outer\"",
        explains: |case, difference| {
            let may_be_cut = |step: &usize| {
                let Some(Step::Send { frame, .. }) = case.steps.get(*step) else { return false };
                frame.0.len() > 14 + 1450 && frame.0.get(20).is_some_and(|flags| flags & 0x40 == 0)
            };
            // The outer packet's own fragment field says neither "more" nor an offset.
            let is_whole =
                |packet: &Bytes| packet.0.get(20..22).is_some_and(|field| field[0] & 0x3f == 0 && field[1] == 0);
            match difference {
                Difference::Frames { step, place: UNDERLAY, reference, weft } => {
                    may_be_cut(step) && !reference.iter().all(is_whole) && weft.iter().all(is_whole)
                }
                Difference::Frames { .. }
                | Difference::Fdb { .. }
                | Difference::Counter { .. }
                | Difference::Reading { .. }
                | Difference::Group { .. }
                | Difference::Refusal { .. } => false,
            }
        },
    },
    Ruling {
        id: "oversize_flooded",
        question: "an inner packet that is too large for the tunnel, to a station that nobody knows",
        theirs: "is answered once for each VTEP of the flood list, and the bridge believes its destination to be in the tunnel",
        weft: "is answered once, and an answer teaches nothing",
        reason: "one answer says it all; and where its destination is, nobody has heard yet",
        setting: "none",
        explains: |case, difference| match difference {
            Difference::Frames { step, place, reference, weft } => {
                let sent = matches!(case.steps.get(*step), Some(Step::Send { frame, .. }) if frame.0.len() > 14 + 1450);
                *place != UNDERLAY && sent && weft.len() == 1 && reference.iter().all(|frame| *frame == weft[0])
            }
            Difference::Fdb { reference: Some(entry), weft: None } => entry.at == At::Vtep(NO_VTEP),
            Difference::Counter { name, reference, weft } => name.ends_with(" out") && weft < reference,
            Difference::Fdb { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
        },
    },
    Ruling {
        id: "oversize_extensions",
        question: "an IPv6 packet with extension headers that is too large for the tunnel",
        theirs: "is answered, or not, by what stands 14 octets before those headers (ip_tunnel_core.c:iptunnel_pmtud_check_icmpv6)",
        weft: "is answered unless it is a later fragment, or an error behind them",
        reason: "that is what the kernel means to do",
        setting: "none",
        explains: |case, difference| {
            let has_extensions = |step: &usize| {
                let Some(Step::Send { frame, .. }) = case.steps.get(*step) else { return false };
                let next = frame.0.get(20);
                frame.0.get(12..14) == Some(&[0x86, 0xdd]) && matches!(next, Some(0 | 43 | 44 | 51 | 60))
            };
            match difference {
                Difference::Frames { step, .. } => has_extensions(step),
                Difference::Counter { name, .. } => name.ends_with(" out"),
                Difference::Fdb { .. }
                | Difference::Refusal { .. }
                | Difference::Reading { .. }
                | Difference::Group { .. } => false,
            }
        },
    },
    Ruling {
        id: "oversize_tagged",
        question: "a packet behind an 802.1Q tag that is too large for the tunnel and may not be fragmented",
        theirs: "leaves, and the outer packet is cut in fragments: it looks at the outermost type only",
        weft: "is answered, with the tag in the answer",
        reason: "hosts in VLANs have to learn it as all others",
        setting: "none",
        explains: |case, difference| {
            let tagged = |step: &usize| {
                let Some(Step::Send { frame, .. }) = case.steps.get(*step) else { return false };
                frame.0.len() > 18 + 1446 && frame.0.get(12..14) == Some(&[0x81, 0])
            };
            match difference {
                Difference::Frames { step, place: UNDERLAY, weft, .. } => tagged(step) && weft.is_empty(),
                Difference::Frames { step, reference, weft, .. } => {
                    let is_answer = |frame: &Bytes| frame.0.get(38..40) == Some(&[3, 4]);
                    tagged(step) && reference.is_empty() && weft.iter().all(is_answer)
                }
                Difference::Counter { name, reference, weft } => name.ends_with(" out") && reference < weft,
                Difference::Fdb { .. }
                | Difference::Refusal { .. }
                | Difference::Reading { .. }
                | Difference::Group { .. } => false,
            }
        },
    },
];
