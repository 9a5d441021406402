//! A path that loses, filters, delays and changes, with a [`PathMtu`] at its one end.

use std::{collections::BTreeMap, time::Duration};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::mtu::Family;

/// The way to a VTEP, and what answers there.
#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) link: u32,
    /// The smallest MTU on the way.
    pub(super) mtu: u16,
    /// What the router before that link says of what does not fit; `None`: nothing.
    pub(super) error: Option<u32>,
    pub(super) round_trip: Duration,
    /// Packets of a hundred that are lost, whatever their size.
    pub(super) loss: u8,
    pub(super) answers: Vec<Method>,
    /// Nothing passes.
    pub(super) is_cut: bool,
}

impl Path {
    pub(super) fn new(link: u32, mtu: u16) -> Self {
        let round_trip = Duration::from_millis(1);
        Self { link, mtu, error: None, round_trip, loss: 0, answers: vec![Method::InBand], is_cut: false }
    }

    /// What a measurement must come to.
    fn truth(&self) -> u16 {
        self.mtu.min(link_len(self.link))
    }
}

#[derive(Clone, Copy, Debug)]
enum Arrival {
    Answer(u64, Method),
    Error(u32),
}

/// The VTEP at this end, the path, and what is on its way back.
pub(super) struct World {
    pub(super) now: Duration,
    pub(super) path: Path,
    pub(super) mtu: PathMtu,
    pub(super) sent_count: usize,
    pub(super) sent_bytes: usize,
    pub(super) most_at_once: usize,
    arrivals: BTreeMap<(Duration, u64), Arrival>,
    random: Nonces,
}

impl World {
    pub(super) fn new(family: Family, policy: Policy, path: Path) -> Self {
        let mut mtu = PathMtu::new(family, policy, path.link, 7, Duration::ZERO);
        mtu.set_in_use(true, Duration::ZERO);
        let (arrivals, random) = (BTreeMap::new(), Nonces(path.mtu.into()));
        Self { now: Duration::ZERO, path, mtu, sent_count: 0, sent_bytes: 0, most_at_once: 0, arrivals, random }
    }

    pub(super) fn measuring(path: Path) -> Self {
        Self::new(Family::Ipv4, Policy::Measure, path)
    }

    /// Lets time pass; whatever is due in it happens.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.exchange();
            let next = self.arrivals.keys().next().map(|(at, _)| *at);
            let next = next.into_iter().chain(self.mtu.next_timeout()).min();
            match next {
                Some(at) if at <= end => self.now = self.now.max(at),
                Some(_) | None => break,
            }
        }
        self.now = end;
    }

    /// Lets time pass until something is so, at most so long; says how long that took.
    pub(super) fn until(&mut self, most: Duration, is_so: impl Fn(&PathMtu) -> bool) -> Option<Duration> {
        let (began, step) = (self.now, Duration::from_millis(10));
        while self.now < began + most {
            if is_so(&self.mtu) {
                return Some(self.now - began);
            }
            self.pass(step);
        }
        None
    }

    fn exchange(&mut self) {
        while let Some(entry) = self.arrivals.first_entry().filter(|entry| entry.key().0 <= self.now) {
            match entry.remove() {
                Arrival::Answer(nonce, method) => _ = self.mtu.on_answer(nonce, method, self.now),
                Arrival::Error(mtu) => _ = self.mtu.on_claim(ours(mtu), self.now),
            }
            self.check();
        }
        let mut burst = 0;
        while let Some(probe) = self.mtu.poll(self.now) {
            self.send(probe);
            burst += 1;
        }
        self.most_at_once = self.most_at_once.max(burst);
        self.check();
    }

    fn send(&mut self, probe: Probe) {
        assert!(u32::from(probe.size) <= self.path.link, "{probe:?} does not leave the link");
        self.sent_count += 1;
        self.sent_bytes += usize::from(probe.size);
        if self.path.is_cut || self.is_lost() {
            return;
        }
        if probe.size > self.path.mtu {
            if let Some(mtu) = self.path.error {
                self.arrive(Arrival::Error(mtu));
            }
            return;
        }
        for method in self.path.answers.clone() {
            if probe.method.is_none_or(|asked| asked == method) && !self.is_lost() {
                self.arrive(Arrival::Answer(probe.nonce, method));
            }
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        let key = (self.now + self.path.round_trip, self.random.next());
        self.arrivals.insert(key, arrival);
    }

    fn is_lost(&mut self) -> bool {
        self.random.next() % 100 < self.path.loss.into()
    }

    /// What holds always.
    fn check(&self) {
        let mtu = &self.mtu;
        assert!(mtu.path_mtu() >= mtu.minimum(), "{} is less than any path carries", mtu.path_mtu());
        assert!(mtu.path_mtu() <= mtu.link_mtu(), "{} does not leave the link", mtu.path_mtu());
    }
}

/// An error that quotes a packet of ours.
pub(super) fn ours(mtu: u32) -> Claim {
    Claim { mtu, quotes_us: true, from: Some("198.51.100.1".parse().unwrap()) }
}

fn any_path(loss: u8) -> impl Strategy<Value = Path> {
    let link = prop_oneof![Just(1500), Just(9000), Just(65_536), 576..9200u32];
    let answers = prop_oneof![
        Just(vec![Method::InBand]),
        Just(vec![Method::Echo]),
        Just(vec![Method::Station]),
        Just(vec![Method::Echo, Method::InBand]),
    ];
    (link, 576..9000u16, any::<bool>(), 0..300u64, 0..=loss, answers).prop_map(
        |(link, mtu, says, round_trip, loss, answers)| Path {
            link,
            mtu,
            error: says.then_some(mtu.into()),
            round_trip: Duration::from_millis(round_trip),
            loss,
            answers,
            is_cut: false,
        },
    )
}

const MINUTE: Duration = Duration::from_secs(60);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn without_loss_the_true_value_is_found_and_kept_and_lost_and_found_again(paths in vec(any_path(0), 1..4)) {
        let mut world = World::measuring(paths[0].clone());
        for path in paths {
            let grew = path.truth() > world.mtu.path_mtu();
            // The same peer behind another path.
            world.mtu.set_link_mtu(path.link, world.now);
            world.path = path;
            let patience = if grew { 12 * MINUTE } else { MINUTE };
            let truth = world.path.truth();
            prop_assert!(world.until(patience, |mtu| mtu.path_mtu() == truth && !mtu.is_asking()).is_some(),
                "{:?} instead of {truth} over {:?}", world.mtu, world.path);
            for _ in 0..60 {
                world.pass(MINUTE / 4);
                prop_assert_eq!(world.mtu.path_mtu(), truth);
            }
        }
    }

    #[test]
    fn with_loss_the_true_value_is_found_all_the_same(path in any_path(10)) {
        let mut world = World::measuring(path);
        let truth = world.path.truth();
        for _ in 0..5 {
            let found = world.until(30 * MINUTE, |mtu| mtu.path_mtu() == truth && !mtu.is_asking());
            prop_assert!(found.is_some(), "{:?} instead of {truth} over {:?}", world.mtu, world.path);
            world.pass(3 * MINUTE);
        }
    }

    #[test]
    fn no_error_breaks_what_always_holds(
        path in any_path(10), errors in vec((any::<u32>(), 0..3u8, 0..20_000u64), 0..200)
    ) {
        let mut world = World::measuring(path);
        for (mtu, kind, later) in errors {
            let claim = match kind {
                0 => ours(mtu % 2000),
                1 => ours(mtu),
                _ => Claim { quotes_us: false, ..ours(mtu % 2000) },
            };
            world.mtu.on_claim(claim, world.now);
            world.pass(Duration::from_millis(later));
        }
        let truth = world.path.truth();
        prop_assert!(world.until(30 * MINUTE, |mtu| mtu.path_mtu() == truth).is_some());
    }
}
