//! What is said of a frame's end.

use std::collections::BTreeSet;

use serde_json::to_value;

use super::{
    super::tests::{P1, PEER, documented, keys, narrator_of_config, peer, to_port, to_vtep, walk},
    *,
};
use crate::{
    bridge::DropReason,
    control::api::explanation::{Explanation, FrameSeen},
};

fn witness(copies: &[(Endpoint, Result<(), DropReason>)], dropped: Option<DropReason>) -> Witness {
    let said = |(to, result): &(Endpoint, Result<(), DropReason>)| crate::worker::sampling::Copies {
        to: *to,
        frames: 1,
        result: *result,
    };
    let copies = copies.iter().map(said).collect();
    Witness { copies, dropped: dropped.into_iter().collect(), ..Witness::default() }
}

const PORT: Endpoint = Endpoint::Port(P1);
const VTEP: Endpoint = Endpoint::Vtep(PEER);

#[test]
fn the_end_is_what_was_seen_and_not_what_was_foreseen() {
    let foreseen = walk(vec![to_port(None, Ok(()))], None);
    let end = |copies: &[_], dropped| narrator_of_config(|narrator| narrator.end(&foreseen, &witness(copies, dropped)));
    let both = end(&[(PORT, Ok(())), (VTEP, Ok(()))], None);
    assert_eq!((both.result, both.ports, both.vteps), (Fate::Delivered, vec!["p1".to_owned()], vec![peer()]));
    let full = end(&[(PORT, Err(DropReason::PortQueueFull))], None);
    assert_eq!((full.result, full.reason.as_deref()), (Fate::Dropped, Some("port_queue_full")));
    let locked = end(&[], Some(DropReason::Locked));
    assert_eq!((locked.result, locked.reason.as_deref()), (Fate::Dropped, Some("locked")));
}

#[test]
fn only_an_answer_is_answered() {
    let mut answer = to_port(None, Ok(()));
    if let crate::worker::explain::Step::Egress(departure) = &mut answer {
        departure.is_answer = true;
    }
    let foreseen = walk(vec![answer], Some(DropReason::NeighProxied));
    let end = |to| narrator_of_config(|narrator| narrator.end(&foreseen, &witness(&[(to, Ok(()))], None)).result);
    assert_eq!((end(PORT), end(VTEP)), (Fate::Answered, Fate::Delivered));
}

#[test]
fn a_difference_names_the_place_and_the_reason() {
    let said = |difference| narrator_of_config(|narrator| narrator.difference(difference));
    assert_eq!(
        said(Difference::Unforeseen(PORT, Err(DropReason::PortQueueFull), 2)),
        format!(
            "2 frames for port p1 ended as port_queue_full, unforeseen: {}",
            DropReason::PortQueueFull.explanation()
        )
    );
    assert_eq!(said(Difference::Unforeseen(VTEP, Ok(()), 1)), "a frame left by VTEP 192.0.2.2, unforeseen");
    assert_eq!(said(Difference::Missing(PORT, Ok(()), 1)), "a frame should have left by port p1 and did not");
    assert_eq!(
        said(Difference::Missing(VTEP, Err(DropReason::UnderlayMtu), 1)),
        "a frame for VTEP 192.0.2.2 should have ended as underlay_mtu and did not"
    );
    assert!(said(Difference::Dropped(DropReason::Locked)).starts_with("it was dropped as locked, unforeseen: "));
    let not_dropped = said(Difference::NotDropped(DropReason::Locked));
    assert_eq!(not_dropped, "it should have been dropped as locked and was not");
    assert_eq!(said(Difference::Places(2)), "2 places more than foreseen got it");
    assert_eq!(said(Difference::Places(-2)), "2 places fewer than foreseen got it");
}

#[test]
fn the_page_has_every_key_of_a_frame_that_passed() {
    let foreseen = walk(vec![to_vtep(Path::Unknown, true, Ok(()))], None);
    let seen = witness(&[(VTEP, Ok(()))], None);
    let frame = FrameSeen { summary: String::new(), length: 0, wire_frames: 1, hex: String::new() };
    let end = narrator_of_config(|narrator| narrator.end(&foreseen, &seen));
    let verdict = end.clone();
    let passed = Passed {
        explanation: Explanation { frame, port: None, vtep: None, bridge: None, stages: vec![], verdict },
        age_ms: 1,
        taken: 1,
        end,
        copies: narrator_of_config(|narrator| narrator.copies(&seen)),
        more_places: 0,
        agrees: true,
        differences: vec![],
        notes: vec![],
        sampled: SampledSaid::default(),
    };
    let value = to_value(LiveEvent::Frame(Box::new(passed))).unwrap();
    assert_eq!(keys(&value), documented("a `frame` that passed"));
    assert_eq!(keys(&value["copies"][0]), documented("each of `copies`"));
    assert_eq!(keys(&value["sampled"]), documented("`sampled`"));
    let end = to_value(LiveEvent::End { why: Ending::Count, sampled: SampledSaid::default() }).unwrap();
    assert_eq!(keys(&end), documented("the `end`"));

    let asked = LiveRequest {
        port: Some(String::new()),
        vtep: Some(peer().ip()),
        vni: Some(0),
        src: Some(crate::wire::MacAddr::ZERO),
        dst: Some(crate::wire::MacAddr::ZERO),
        vlan: Some(0),
        ether_type: Some(0),
        ip: Some(peer().ip()),
        src_ip: Some(peer().ip()),
        dst_ip: Some(peer().ip()),
        arp: Some(0),
        protocol: Some(0),
        sport: Some(0),
        dport: Some(0),
        every: Some(0),
        rate: Some(0),
        count: Some(0),
        seconds: Some(0),
    };
    let asked: BTreeSet<_> = keys(&to_value(asked).unwrap());
    assert_eq!(asked, documented("the request"));
}

#[test]
fn how_many_are_wanted_has_bounds() {
    let ask = |every, rate| choice(&LiveRequest { every, rate, ..LiveRequest::default() });
    assert_eq!(ask(None, None).unwrap(), Choice { every: 1, rate: RATE });
    assert_eq!(ask(Some(7), Some(MAX_RATE)).unwrap(), Choice { every: 7, rate: MAX_RATE });
    for (every, rate) in [(Some(0), None), (None, Some(0)), (None, Some(MAX_RATE + 1))] {
        assert!(matches!(ask(every, rate), Err(ExplainError::Request { .. })), "{every:?} {rate:?}");
    }
}
