//! The table against a simple model, and sentence by sentence.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::ids::{PortId, VtepId};

const BLUE: BridgeId = BridgeId(0);
const GREEN: BridgeId = BridgeId(1);
const NO_LIMIT: Limit = Limit { max_learned: 0, evict: false, ..Limit::NONE };

const fn port(n: u16) -> Endpoint {
    Endpoint::Port(PortId(n))
}

const fn vtep(n: u16) -> Endpoint {
    Endpoint::Vtep(VtepId(n))
}

const fn mac(n: u64) -> MacAddr {
    MacAddr::from_u64(0x0200_0000_0000 | n)
}

const fn at(seconds: u64) -> Stamp {
    Stamp(seconds * 1000)
}

#[test]
fn an_address_is_found_where_it_was_seen_and_only_in_its_bridge() {
    let fdb = Fdb::new();
    assert_eq!(fdb.learn(BLUE, mac(1), port(1), at(0), NO_LIMIT), Learned::New { evicted: None });
    assert_eq!(fdb.learn(BLUE, mac(1), port(1), at(1), NO_LIMIT), Learned::Known);
    assert_eq!(fdb.lookup(BLUE, mac(1)), Some(port(1)));
    assert_eq!(fdb.lookup(GREEN, mac(1)), None);
}

#[test]
fn a_newer_endpoint_wins_at_once() {
    let fdb = Fdb::new();
    fdb.learn(BLUE, mac(1), port(1), at(0), NO_LIMIT);
    assert_eq!(fdb.learn(BLUE, mac(1), vtep(1), at(0), NO_LIMIT), Learned::Moved { from: port(1) });
    assert_eq!(fdb.lookup(BLUE, mac(1)), Some(vtep(1)));
    assert_eq!(fdb.learned_count(BLUE), 1);
}

#[test]
fn static_entries_move_and_stay_static_but_sticky_ones_stay() {
    let fdb = Fdb::new();
    fdb.add_static(BLUE, mac(1), port(1), Origin::Static, at(0));
    fdb.add_static(BLUE, mac(2), port(1), Origin::Sticky, at(0));
    assert_eq!(fdb.learn(BLUE, mac(1), port(2), at(1), NO_LIMIT), Learned::Moved { from: port(1) });
    assert_eq!(fdb.learn(BLUE, mac(2), port(2), at(1), NO_LIMIT), Learned::Sticky);
    assert_eq!(fdb.age(at(1_000_000), |_| Duration::from_secs(1)), 0);
    assert_eq!(fdb.lookup(BLUE, mac(1)), Some(port(2)));
    assert_eq!(fdb.lookup(BLUE, mac(2)), Some(port(1)));
    assert_eq!(fdb.learned_count(BLUE), 0);
}

#[test]
fn a_static_address_at_one_vtep_is_refused_behind_another() {
    let fdb = Fdb::new();
    fdb.add_static(BLUE, mac(1), vtep(1), Origin::Static, at(0));
    assert_eq!(fdb.learn(BLUE, mac(1), vtep(2), at(1), NO_LIMIT), Learned::StaticAtOtherVtep);
    assert_eq!(fdb.learn(BLUE, mac(1), port(1), at(1), NO_LIMIT), Learned::Moved { from: vtep(1) });
    assert_eq!(fdb.learn(BLUE, mac(1), vtep(2), at(2), NO_LIMIT), Learned::StaticAtOtherVtep, "wherever it is now");
    assert_eq!(fdb.learn(BLUE, mac(1), vtep(1), at(2), NO_LIMIT), Learned::Moved { from: port(1) });
}

#[test]
fn a_static_address_at_a_port_may_be_behind_any_vtep() {
    let fdb = Fdb::new();
    fdb.add_static(BLUE, mac(1), port(1), Origin::Static, at(0));
    assert_eq!(fdb.learn(BLUE, mac(1), vtep(1), at(1), NO_LIMIT), Learned::Moved { from: port(1) });
    assert_eq!(fdb.learn(BLUE, mac(1), vtep(2), at(1), NO_LIMIT), Learned::Moved { from: vtep(1) });
    assert_eq!(fdb.learn(BLUE, mac(1), port(2), at(1), NO_LIMIT), Learned::Moved { from: vtep(2) });
    assert_eq!(fdb.entry(BLUE, mac(1)).unwrap().origin, Origin::Static);
}

#[test]
fn only_traffic_from_an_address_keeps_its_entry_alive() {
    let fdb = Fdb::new();
    fdb.learn(BLUE, mac(1), port(1), at(0), NO_LIMIT);
    fdb.learn(BLUE, mac(2), port(1), at(0), NO_LIMIT);
    for second in 1..300 {
        fdb.learn(BLUE, mac(1), port(1), at(second), NO_LIMIT);
        fdb.lookup(BLUE, mac(2));
    }
    assert_eq!(fdb.age(at(300), |_| Duration::from_secs(300)), 1);
    assert_eq!(fdb.lookup(BLUE, mac(1)), Some(port(1)));
    assert_eq!(fdb.lookup(BLUE, mac(2)), None);
    assert_eq!(fdb.age(at(598), |_| Duration::from_secs(300)), 0);
    assert_eq!(fdb.age(at(599), |_| Duration::from_secs(300)), 1);
}

#[test]
fn a_full_table_refuses_or_evicts_the_oldest_as_it_is_told() {
    let fdb = Fdb::new();
    let refuse = Limit { max_learned: 2, evict: false, ..Limit::NONE };
    let evict = Limit { max_learned: 2, evict: true, ..Limit::NONE };
    fdb.learn(BLUE, mac(1), port(1), at(1), refuse);
    fdb.learn(BLUE, mac(2), port(1), at(2), refuse);
    assert_eq!(fdb.learn(BLUE, mac(3), port(1), at(3), refuse), Learned::Full);
    fdb.learn(BLUE, mac(1), port(1), at(4), refuse); // now 2 is the one not seen for longest
    assert_eq!(fdb.learn(BLUE, mac(3), port(1), at(5), evict), Learned::New { evicted: Some(mac(2)) });
    assert_eq!(fdb.learned_count(BLUE), 2);
}

#[test]
fn static_entries_do_not_count_against_the_limit() {
    let fdb = Fdb::new();
    let limit = Limit { max_learned: 1, evict: false, ..Limit::NONE };
    fdb.learn(BLUE, mac(1), port(1), at(0), limit);
    fdb.add_static(BLUE, mac(1), port(1), Origin::Static, at(0));
    assert_eq!(fdb.learned_count(BLUE), 0);
    assert_eq!(fdb.learn(BLUE, mac(2), port(1), at(0), limit), Learned::New { evicted: None });
    fdb.add_static(BLUE, mac(3), port(1), Origin::Static, at(0));
    assert_eq!(fdb.len(), 3);
}

/// The kernel's `maxaddress`: what is behind VTEPs has a limit of its own, and moves between them are free.
#[test]
fn at_the_limit_for_vteps_nothing_new_is_learned_there_and_ports_learn_on() {
    let fdb = Fdb::new();
    let limit = Limit { max_remote: Some(2), ..Limit::NONE };
    fdb.learn(BLUE, mac(1), vtep(1), at(0), limit);
    fdb.learn(BLUE, mac(2), vtep(2), at(0), limit);
    assert_eq!(fdb.learn(BLUE, mac(3), vtep(2), at(0), limit), Learned::Full);
    assert_eq!(fdb.learn(BLUE, mac(3), port(1), at(0), limit), Learned::New { evicted: None });
    assert_eq!(fdb.learn(BLUE, mac(1), vtep(2), at(0), limit), Learned::Moved { from: vtep(1) });
    assert_eq!(fdb.learn(GREEN, mac(1), vtep(2), at(0), limit), Learned::New { evicted: None });

    assert_eq!(fdb.learn(BLUE, mac(3), vtep(2), at(1), limit), Learned::Full);
    assert_eq!(fdb.lookup(BLUE, mac(3)), None, "it is not at its port any more");
    let none = Limit { max_remote: Some(0), ..Limit::NONE };
    assert_eq!(Fdb::new().learn(BLUE, mac(1), vtep(1), at(0), none), Learned::Full);
}

#[test]
fn a_port_that_is_full_learns_no_more_and_takes_nothing_over() {
    let fdb = Fdb::new();
    let terms = Terms { max_learned: 2, locked: false };
    let learn = |bridge, n, p| fdb.learn_on_terms(Place::new(bridge, mac(n)), port(p), at(0), NO_LIMIT, terms);
    assert_eq!(learn(BLUE, 1, 1), Learned::New { evicted: None });
    assert_eq!(learn(GREEN, 2, 1), Learned::New { evicted: None });
    assert_eq!(learn(BLUE, 3, 1), Learned::Full);
    assert_eq!(learn(BLUE, 1, 1), Learned::Known);
    fdb.add_static(BLUE, mac(4), port(1), Origin::Static, at(0));
    fdb.learn(BLUE, mac(5), port(2), at(0), NO_LIMIT);
    assert_eq!(learn(BLUE, 5, 1), Learned::Full);
    assert_eq!(fdb.lookup(BLUE, mac(5)), None, "it is no longer at the other port");
    assert_eq!(learn(BLUE, 3, 2), Learned::New { evicted: None });
}

#[test]
fn a_locked_entry_is_known_as_such_until_it_moves_or_a_user_names_it() {
    let fdb = Fdb::new();
    let place = Place::new(BLUE, mac(1));
    let locked = Terms { max_learned: 0, locked: true };
    assert_eq!(fdb.standing(place, port(1)), Standing::Unknown);
    for _ in 0..2 {
        fdb.learn_on_terms(place, port(1), at(0), NO_LIMIT, locked);
        assert_eq!(fdb.standing(place, port(1)), Standing::Locked);
    }
    assert!(fdb.entries()[0].locked);
    assert_eq!(fdb.learn(BLUE, mac(1), port(2), at(0), NO_LIMIT), Learned::Moved { from: port(1) });
    assert_eq!(fdb.standing(place, port(2)), Standing::Known);
    assert_eq!(fdb.standing(place, port(1)), Standing::Elsewhere);

    fdb.remove(BLUE, mac(1));
    fdb.learn_on_terms(place, port(1), at(0), NO_LIMIT, locked);
    fdb.add_static(BLUE, mac(1), port(1), Origin::Static, at(0));
    assert_eq!(fdb.standing(place, port(1)), Standing::Known);
}

#[test]
fn locked_entries_are_flushed_alone_and_age_as_others_do() {
    let fdb = Fdb::new();
    let locked = Terms { max_learned: 0, locked: true };
    fdb.learn(BLUE, mac(1), port(1), at(0), NO_LIMIT);
    fdb.learn_on_terms(Place::new(BLUE, mac(2)), port(1), at(0), NO_LIMIT, locked);
    fdb.learn_on_terms(Place::new(BLUE, mac(3)), port(2), at(0), NO_LIMIT, locked);
    assert_eq!(fdb.flush_locked(port(1)), 1);
    assert_eq!(fdb.lookup(BLUE, mac(2)), None);
    assert_eq!(fdb.age(at(300), |_| Duration::from_secs(300)), 2);
}

#[test]
fn what_was_learned_elsewhere_does_not_age_until_it_moves() {
    let fdb = Fdb::new();
    fdb.add_static(BLUE, mac(1), port(1), Origin::ExternLearn, at(0));
    assert_eq!(fdb.age(at(1000), |_| Duration::from_secs(300)), 0);
    assert_eq!(fdb.flush(Flush { at: Some(port(1)), ..Flush::default() }), 0);
    assert_eq!(fdb.learned_count(BLUE), 0);
    assert_eq!(fdb.learn(BLUE, mac(1), port(2), at(1000), NO_LIMIT), Learned::Moved { from: port(1) });
    assert_eq!((fdb.entries()[0].origin, fdb.learned_count(BLUE)), (Origin::Learned, 1));
    assert_eq!(fdb.age(at(1300), |_| Duration::from_secs(300)), 1);
}

/// OVS's ofproto-dpif.at, "MAC table overflow fairness": whoever floods evicts from the fullest, in the end its own.
#[test]
fn a_flooding_port_can_not_push_the_others_out() {
    let fdb = Fdb::new();
    let limit = Limit { max_learned: 10, evict: true, ..Limit::NONE };
    for (n, p) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 3), (7, 4), (8, 4), (9, 4), (10, 4)] {
        fdb.learn(BLUE, mac(n), port(p), at(n), limit);
    }
    for n in 0..10_000 {
        fdb.learn(BLUE, mac(100 + n), port(5), Stamp(20_000 + n), limit);
    }
    let held = |p| fdb.entries().iter().filter(|entry| entry.at == port(p)).count();
    assert_eq!(fdb.learned_count(BLUE), 10);
    assert_eq!(held(1), 1);
    for p in 2..=4 {
        assert!(held(p) >= 2, "port {p} keeps {}", held(p));
    }
    assert!(held(5) <= 3, "the flooder holds {}", held(5));
}

#[test]
fn flush_takes_what_it_is_told_and_nothing_else() {
    let fdb = Fdb::new();
    fdb.learn(BLUE, mac(1), port(1), at(0), NO_LIMIT);
    fdb.learn(BLUE, mac(2), vtep(1), at(0), NO_LIMIT);
    fdb.learn(GREEN, mac(1), port(1), at(0), NO_LIMIT);
    fdb.add_static(BLUE, mac(3), port(1), Origin::Static, at(0));
    assert_eq!(fdb.flush(Flush { bridge: Some(BLUE), at: Some(port(1)), statics: false }), 1);
    assert_eq!(fdb.flush(Flush { at: Some(vtep(1)), ..Flush::default() }), 1);
    assert_eq!(fdb.len(), 2);
    assert_eq!(fdb.flush(Flush { statics: true, ..Flush::default() }), 2);
    assert!(fdb.is_empty());
}

#[test]
fn workers_that_learn_at_once_leave_books_and_table_equal() {
    let fdb = Fdb::new();
    let limit = Limit { max_learned: 500, evict: true, ..Limit::NONE };
    std::thread::scope(|scope| {
        for worker in 0..4u64 {
            let fdb = &fdb;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(worker);
                let mut cache = FdbCache::default();
                for step in 0..20_000 {
                    let place = Place::new(BLUE, mac(random.u64(..1000)));
                    cache.learn(fdb, place, port(random.u16(..4)), Stamp(step), &limit);
                    if step % 1000 == 0 {
                        fdb.age(Stamp(step), |_| Duration::from_millis(900));
                        fdb.flush(Flush { at: Some(port(random.u16(..4))), ..Flush::default() });
                    }
                }
            });
        }
    });
    assert_eq!(fdb.learned_count(BLUE), fdb.len());
    assert!(fdb.len() <= 500);
    fdb.age(Stamp(u64::MAX), |_| Duration::ZERO);
    assert!(fdb.is_empty());
    assert_eq!(fdb.learned_count(BLUE), 0);
}

#[derive(Debug, Clone)]
enum Step {
    /// By one of two workers.
    Learn(usize, u16, u64, Endpoint),
    Static(u16, u64, Endpoint, bool),
    Remove(u16, u64),
    Flush(Flush),
    Age(u64),
}

fn endpoints() -> impl Strategy<Value = Endpoint> {
    prop_oneof![(0..3u16).prop_map(port), (0..2u16).prop_map(vtep)]
}

fn steps() -> impl Strategy<Value = Step> {
    let flush = (proptest::option::of(0..2u16), proptest::option::of(endpoints()), any::<bool>())
        .prop_map(|(bridge, at, statics)| Step::Flush(Flush { bridge: bridge.map(BridgeId), at, statics }));
    prop_oneof![
        6 => (0..2usize, 0..2u16, 0..8u64, endpoints()).prop_map(|(w, b, m, e)| Step::Learn(w, b, m, e)),
        1 => (0..2u16, 0..8u64, endpoints(), any::<bool>()).prop_map(|(b, m, e, s)| Step::Static(b, m, e, s)),
        1 => (0..2u16, 0..8u64).prop_map(|(b, m)| Step::Remove(b, m)),
        1 => flush,
        2 => (1..20u64).prop_map(Step::Age),
    ]
}

/// The table as anybody would write it first: a sorted map, searched from end to end.
#[derive(Default)]
struct Model(BTreeMap<(u16, u64), (Endpoint, Origin, u64)>, BTreeMap<(u16, u64), Endpoint>);

impl Model {
    fn name(&mut self, bridge: u16, mac: u64, at: Endpoint, origin: Origin, now: u64) {
        self.0.insert((bridge, mac), (at, origin, now));
        // Where the user said it is.
        self.1.insert((bridge, mac), at);
    }

    fn learn(&mut self, bridge: u16, mac: u64, at: Endpoint, now: u64) {
        match self.0.get_mut(&(bridge, mac)) {
            Some((old, _, stamp)) if *old == at => *stamp = now,
            Some((_, Origin::Static, _)) if matches!((self.1[&(bridge, mac)], at), (Endpoint::Vtep(named), Endpoint::Vtep(vtep)) if named != vtep) =>
                {}
            Some((_, Origin::Sticky, _)) => {}
            Some((old, _, stamp)) => (*old, *stamp) = (at, now),
            None => _ = self.0.insert((bridge, mac), (at, Origin::Learned, now)),
        }
    }
}

proptest! {
    /// The table itself and through the caches of two workers.
    #[test]
    fn behaves_like_a_plain_map(steps in proptest::collection::vec(steps(), 0..200)) {
        let fdb = Fdb::new();
        let mut caches = [FdbCache::default(), FdbCache::default()];
        let mut model = Model::default();
        let mut now = 0;
        let ageing = |bridge: BridgeId| Duration::from_secs(10 + u64::from(bridge.0) * 5);
        for step in steps {
            match step {
                Step::Learn(worker, b, m, e) => {
                    caches[worker].learn(&fdb, Place::new(BridgeId(b), mac(m)), e, at(now), &NO_LIMIT);
                    model.learn(b, m, e, now);
                }
                Step::Static(b, m, e, sticky) => {
                    let origin = if sticky { Origin::Sticky } else { Origin::Static };
                    fdb.add_static(BridgeId(b), mac(m), e, origin, at(now));
                    model.name(b, m, e, origin, now);
                }
                Step::Remove(b, m) => {
                    let removed = fdb.remove(BridgeId(b), mac(m)).is_some();
                    prop_assert_eq!(removed, model.0.remove(&(b, m)).is_some());
                }
                Step::Flush(which) => {
                    let before = model.0.len();
                    model.0.retain(|(b, _), (e, origin, _)| {
                        which.bridge.is_some_and(|bridge| bridge.0 != *b)
                            || which.at.is_some_and(|at| at != *e)
                            || !(which.statics || *origin == Origin::Learned)
                    });
                    prop_assert_eq!(fdb.flush(which), before - model.0.len());
                }
                Step::Age(seconds) => {
                    now += seconds;
                    let before = model.0.len();
                    model.0.retain(|(b, _), (_, origin, stamp)| {
                        *origin != Origin::Learned || now - *stamp < ageing(BridgeId(*b)).as_secs()
                    });
                    prop_assert_eq!(fdb.age(at(now), ageing), before - model.0.len());
                }
            }
            let mut entries: Vec<_> = fdb.entries().iter()
                .map(|e| ((e.bridge.0, e.mac.to_u64() & 0xff), (e.at, e.origin, e.updated.0 / 1000))).collect();
            entries.sort_by_key(|(key, _)| *key);
            prop_assert_eq!(entries, model.0.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
            for (b, m) in (0..2).flat_map(|b| (0..8).map(move |m| (b, m))) {
                let place = Place::new(BridgeId(b), mac(m));
                let known = model.0.get(&(b, m)).map(|(at, ..)| *at);
                prop_assert_eq!(fdb.lookup(BridgeId(b), mac(m)), known);
                for cache in &mut caches {
                    prop_assert_eq!(cache.lookup(&fdb, place), known);
                }
            }
            for b in 0..2 {
                let learned = model.0.iter().filter(|((x, _), v)| *x == b && v.1 == Origin::Learned).count();
                prop_assert_eq!(fdb.learned_count(BridgeId(b)), learned);
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_foreseen_is_what_happens_and_foreseeing_changes_nothing(
        frames in prop::collection::vec((0..8_u64, 0..4_u16, any::<bool>(), 0..2000_u64), 1..60),
        max_learned in 0..5_usize,
        evict: bool,
        max_remote in prop::option::of(0..3_usize),
        at_port in 0..4_usize,
    ) {
        let fdb = Fdb::new();
        let limit = Limit { max_learned, evict, max_remote };
        let terms = Terms { max_learned: at_port, locked: false };
        fdb.add_static(BLUE, mac(0), vtep(0), Origin::Static, at(0));
        fdb.add_static(BLUE, mac(1), port(1), Origin::Sticky, at(0));
        fdb.add_static(BLUE, mac(2), port(2), Origin::ExternLearn, at(0));
        let mut now = at(0);
        for (address, place, is_vtep, later) in frames {
            now = Stamp(now.0 + later);
            let place = if is_vtep { vtep(place) } else { port(place) };
            let before = fdb.entries();
            let foreseen = fdb.foresee(Place::new(BLUE, mac(address)), place, limit, terms);
            prop_assert_eq!(before, fdb.entries());
            prop_assert_eq!(foreseen, fdb.learn_on_terms(Place::new(BLUE, mac(address)), place, now, limit, terms));
        }
    }
}
