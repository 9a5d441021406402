//! A slow twin of a membership: the tables of RFC 3376 section 6.4 as they stand there, with sets.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};

use super::*;
use RecordKind::{Allow, Block, IsExclude, IsInclude, ToExclude, ToInclude};

/// Group membership interval and last member query time, in seconds.
const GMI: u64 = 260;
const LMQT: u64 = 2;

/// Sources and when their timers run out.
type Timers = BTreeMap<u8, u64>;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Twin {
    Include(Timers),
    Exclude { requested: Timers, blocked: BTreeSet<u8>, timer: u64 },
}

fn ask(timers: &mut Timers, sources: impl Fn(u8) -> bool, now: u64) {
    timers.iter_mut().filter(|(source, _)| sources(**source)).for_each(|(_, timer)| *timer = (*timer).min(now + LMQT));
}

impl Twin {
    fn note(self, kind: RecordKind, named: &BTreeSet<u8>, now: u64) -> Self {
        let b = |source: u8| named.contains(&source);
        match (self, kind) {
            (Self::Include(mut a), IsInclude | Allow) => {
                a.extend(named.iter().map(|source| (*source, now + GMI)));
                Self::Include(a)
            }
            (Self::Include(mut a), ToInclude) => {
                a.extend(named.iter().map(|source| (*source, now + GMI)));
                ask(&mut a, |source| !b(source), now);
                Self::Include(a)
            }
            (Self::Include(mut a), Block) => {
                ask(&mut a, b, now);
                Self::Include(a)
            }
            (Self::Include(a), IsExclude | ToExclude) => {
                let blocked = named.iter().copied().filter(|source| !a.contains_key(source)).collect();
                let mut requested: Timers = a.into_iter().filter(|(source, _)| b(*source)).collect();
                if kind == ToExclude {
                    ask(&mut requested, |_| true, now);
                }
                Self::Exclude { requested, blocked, timer: now + GMI }
            }
            (Self::Exclude { mut requested, mut blocked, timer }, IsInclude | Allow | ToInclude) => {
                blocked.retain(|source| !b(*source));
                requested.extend(named.iter().map(|source| (*source, now + GMI)));
                if kind != ToInclude {
                    return Self::Exclude { requested, blocked, timer };
                }
                ask(&mut requested, |source| !b(source), now);
                Self::Exclude { requested, blocked, timer: timer.min(now + LMQT) }
            }
            (Self::Exclude { requested, blocked, timer }, IsExclude | ToExclude) => {
                let until = if kind == ToExclude { timer } else { now + GMI };
                let added = named.iter().filter(|source| !requested.contains_key(source) && !blocked.contains(source));
                let added: Vec<_> = added.map(|source| (*source, until)).collect();
                let mut requested: Timers =
                    requested.into_iter().filter(|(source, _)| b(*source)).chain(added).collect();
                let blocked = blocked.into_iter().filter(|source| b(*source)).collect();
                if kind == ToExclude {
                    ask(&mut requested, |_| true, now);
                }
                Self::Exclude { requested, blocked, timer: now + GMI }
            }
            (Self::Exclude { mut requested, blocked, timer }, Block) => {
                let added = named.iter().filter(|source| !blocked.contains(source));
                for source in added {
                    requested.entry(*source).or_insert(timer);
                }
                ask(&mut requested, b, now);
                Self::Exclude { requested, blocked, timer }
            }
        }
    }

    /// `None`: nothing is left.
    fn expire(self, now: u64) -> Option<Self> {
        let running = |timers: Timers| -> Timers { timers.into_iter().filter(|(_, timer)| *timer > now).collect() };
        let after = match self {
            Self::Include(a) => Self::Include(running(a)),
            Self::Exclude { requested, timer, .. } if timer <= now => Self::Include(running(requested)),
            Self::Exclude { requested, mut blocked, timer } => {
                blocked.extend(requested.iter().filter(|(_, timer)| **timer <= now).map(|(source, _)| *source));
                Self::Exclude { requested: running(requested), blocked, timer }
            }
        };
        if after == Self::Include(Timers::new()) { None } else { Some(after) }
    }
}

/// What the snooper has, as a twin would have it.
fn seen(scene: &Scene) -> Option<Twin> {
    let entries = scene.snooper.entries(Duration::ZERO);
    let member = entries.first()?.members.first()?;
    let octet = |address: IpAddr| if let IpAddr::V4(address) = address { address.octets()[3] } else { 0 };
    let timers =
        member.sources.iter().filter_map(|(source, left)| Some((octet(*source), (*left)?.as_secs()))).collect();
    let blocked = member.sources.iter().filter(|(_, left)| left.is_none()).map(|(source, _)| octet(*source)).collect();
    Some(match member.expires_in {
        Some(timer) if member.excludes => Twin::Exclude { requested: timers, blocked, timer: timer.as_secs() },
        _ => Twin::Include(timers),
    })
}

proptest! {
    #[test]
    fn a_membership_is_what_the_tables_of_the_rfc_say(
        steps in vec((prop::sample::select(RecordKind::ALL.to_vec()), prop::collection::btree_set(1..6_u8, 0..4), 0..150_u64), 1..30),
    ) {
        let mut scene = Scene::new(Settings { igmp_version: 3, ..Settings::default() });
        let mut twin: Option<Twin> = None;
        let mut now = 0;
        for (kind, named, pause) in steps {
            now += pause;
            let sources: Vec<u8> = named.iter().copied().collect();
            scene.hear(A, &record(kind, &sources), now);
            let before = twin.and_then(|twin| twin.expire(now)).unwrap_or(Twin::Include(Timers::new()));
            let after = before.note(kind, &named, now);
            twin = (after != Twin::Include(Timers::new())).then_some(after);
            prop_assert_eq!(&seen(&scene), &twin);
            let mdb = scene.snooper.mdb().unwrap();
            prop_assert_eq!(mdb.entries.is_empty(), twin.is_none());
        }
    }

    /// What is due is done: a deadline that did not go away would keep the control plane busy for ever.
    #[test]
    fn nothing_is_due_after_it_was_done(
        is_querier: bool, fast_leave: bool,
        steps in vec((0..12_usize, 0..4_usize, 0..90_u64, vec(1..9_u8, 0..3)), 1..40),
    ) {
        let versions = Settings { igmp_version: 3, mld_version: 2, querier: is_querier, ..Settings::default() };
        let mut scene = Scene::new(versions);
        scene.port(A, PortSettings { fast_leave, ..Default::default() });
        let mut now = 0;
        for (what, from, pause, sources) in steps {
            let from = [A, B, ROUTER, Member::Overlay][from];
            let frame = match what {
                0..6 => record(RecordKind::ALL[what], &sources),
                6 => report(GROUP),
                7 => leave(GROUP),
                8 => report(GROUP_V6),
                9 => query(ROUTER_ADDRESS),
                10 => query(ROUTER_ADDRESS_V6),
                _ => igmp_query(10, GROUP),
            };
            now += pause;
            scene.hear(from, &frame, now);
            prop_assert!(scene.snooper.deadline().is_none_or(|deadline| deadline > scene.now));
            if let Some(deadline) = scene.snooper.deadline() {
                scene.snooper.poll(deadline);
                prop_assert!(scene.snooper.deadline().is_none_or(|next| next > deadline));
                now = now.max(deadline.as_secs());
            }
        }
    }
}
