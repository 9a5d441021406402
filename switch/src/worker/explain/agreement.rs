//! Whether a frame really ended as it is explained.

use std::collections::BTreeMap;

use super::{Oversized, Proxied, Step, Walkthrough};
use crate::{bridge::DropReason, ids::Endpoint, worker::sampling::Witness};

/// Wire frames by where they were to go and whether they left.
type Ends = BTreeMap<(Endpoint, Result<(), DropReason>), u64>;

/// One thing in which the end of a frame is not the one that is explained.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Difference {
    /// So many wire frames went to a place, or did not for this reason, that should not have; or that many more.
    Unforeseen(Endpoint, Result<(), DropReason>, u64),
    /// So many should have, and did not.
    Missing(Endpoint, Result<(), DropReason>, u64),
    /// It was given up, and should not have been.
    Dropped(DropReason),
    /// It should have been given up, and was not.
    NotDropped(DropReason),
    /// So many places more than foreseen were counted, of those that were not noted one by one.
    Places(isize),
}

/// What of a frame's end is not as explained.
pub fn differences(walk: &Walkthrough, witness: &Witness) -> Vec<Difference> {
    let mut foreseen = Ends::new();
    for departure in walk.departures() {
        let frames = match &departure.oversized {
            Some(Oversized::Fragmented(fragments)) if departure.result.is_ok() => fragments.len() as u64,
            Some(_) | None => u64::from(departure.frames),
        };
        *foreseen.entry((departure.to, departure.result)).or_default() += frames;
    }
    let seen: Ends = witness.copies.iter().map(|copies| ((copies.to, copies.result), copies.frames)).collect();
    let of = |ends: &Ends, end| ends.get(end).copied().unwrap_or(0);
    let mut differences = Vec::new();
    for (end, frames) in &seen {
        let more = frames.saturating_sub(of(&foreseen, end));
        differences.extend((more > 0).then_some(Difference::Unforeseen(end.0, end.1, more)));
    }
    if witness.more == 0 {
        for (end, frames) in &foreseen {
            let missing = frames.saturating_sub(of(&seen, end));
            differences.extend((missing > 0).then_some(Difference::Missing(end.0, end.1, missing)));
        }
    } else if seen.len() + witness.more != foreseen.len() {
        differences.push(Difference::Places((seen.len() + witness.more) as isize - foreseen.len() as isize));
    }
    let gave_up = given_up(walk);
    let dropped = witness.dropped.iter().filter(|reason| !gave_up.contains(reason));
    differences.extend(dropped.map(|reason| Difference::Dropped(*reason)));
    let not_dropped = gave_up.iter().filter(|reason| !witness.dropped.contains(reason));
    differences.extend(not_dropped.map(|reason| Difference::NotDropped(*reason)));
    differences
}

/// Why the frame, or the switch's answer to it, was given up before it had an egress.
fn given_up(walk: &Walkthrough) -> Vec<DropReason> {
    let answers = walk.steps.iter().filter_map(|step| {
        let Step::Proxy { proxied: Proxied::Answered(Err(reason)), .. } = step else { return None };
        Some(*reason)
    });
    walk.dropped.into_iter().chain(answers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{BridgeId, PortId, VtepId},
        worker::explain::Departure,
    };

    const P: Endpoint = Endpoint::Port(PortId(1));
    const V: Endpoint = Endpoint::Vtep(VtepId(1));

    fn walk(ends: &[(Endpoint, Result<(), DropReason>)], dropped: Option<DropReason>) -> Walkthrough {
        let departure = |(to, result): &(Endpoint, Result<(), DropReason>)| {
            let (to, result, bridge) = (*to, *result, BridgeId(0));
            let (oversized, clamped, exit) = (None, None, None);
            let bytes = vec![];
            Step::Egress(Departure { to, bytes, frames: 3, bridge, is_answer: false, exit, oversized, clamped, result })
        };
        let steps = ends.iter().map(departure).collect();
        Walkthrough { steps, frames: 3, ingress: None, bridge: None, dropped }
    }

    fn witness(copies: &[(Endpoint, u64, Result<(), DropReason>)], dropped: &[DropReason]) -> Witness {
        let mut witness = Witness::default();
        copies.iter().for_each(|(to, frames, result)| witness.copies(*to, *frames, *result));
        dropped.iter().for_each(|reason| witness.dropped(*reason));
        witness
    }

    #[test]
    fn what_ended_as_foreseen_does_not_differ() {
        let foreseen = walk(&[(P, Ok(())), (V, Err(DropReason::UnderlayMtu))], None);
        let seen = witness(&[(V, 3, Err(DropReason::UnderlayMtu)), (P, 2, Ok(())), (P, 1, Ok(()))], &[]);
        assert_eq!(differences(&foreseen, &seen), []);
        let seen = witness(&[], &[DropReason::Locked]);
        assert_eq!(differences(&walk(&[], Some(DropReason::Locked)), &seen), []);
    }

    #[test]
    fn a_queue_that_was_full_is_a_difference_at_its_place() {
        let mut seen = witness(&[(P, 3, Ok(()))], &[]);
        seen.take_back(P, DropReason::PortQueueFull, 1);
        let full = Err(DropReason::PortQueueFull);
        let expected = [Difference::Unforeseen(P, full, 1), Difference::Missing(P, Ok(()), 1)];
        assert_eq!(differences(&walk(&[(P, Ok(()))], None), &seen), expected);
    }

    #[test]
    fn another_verdict_is_a_difference() {
        let seen = witness(&[(V, 3, Ok(()))], &[]);
        let expected = [Difference::Unforeseen(V, Ok(()), 3), Difference::NotDropped(DropReason::NoFloodTarget)];
        assert_eq!(differences(&walk(&[], Some(DropReason::NoFloodTarget)), &seen), expected);
        let seen = witness(&[], &[DropReason::PortDown]);
        let expected = [Difference::Missing(P, Ok(()), 3), Difference::Dropped(DropReason::PortDown)];
        assert_eq!(differences(&walk(&[(P, Ok(()))], None), &seen), expected);
    }

    #[test]
    fn of_a_wide_flood_the_places_are_counted() {
        let places = |count| (0..count).map(|n| Endpoint::Vtep(VtepId(n))).collect::<Vec<_>>();
        let ends: Vec<_> = places(40).into_iter().map(|to| (to, Ok(()))).collect();
        let copies: Vec<_> = places(40).into_iter().map(|to| (to, 3, Ok(()))).collect();
        assert_eq!(differences(&walk(&ends, None), &witness(&copies, &[])), []);
        assert_eq!(differences(&walk(&ends[..39], None), &witness(&copies, &[])), [Difference::Places(1)]);
    }
}
