//! Two observations side by side: what differs, and whether that is so on purpose.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;

use super::{
    case::{Bytes, Case},
    observe::{Entry, Frames, Observation, comparable},
    older::{self, Change, Version},
    ruling::{self, Ruling},
    world::counter_out,
};

/// What weft is compared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Against {
    /// A kernel; of this version, if it says one.
    Kernel(Option<Version>),
    /// Open vSwitch.
    Ovs,
}

/// How a case came out.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// Both sides did the same.
    Same,
    /// They differ as rulings say.
    Intended(Vec<&'static Ruling>, Vec<Difference>),
    /// They differ as the kernel did before a change that the running one does not have yet.
    Older(&'static Change, Vec<Difference>),
    /// They differ, and nobody said that they should.
    Differs(Vec<Difference>),
    /// A ruling says that they differ, and they don't.
    NoLonger(&'static Ruling),
    /// One side can't do this; why.
    NotRun(String),
}

/// One thing that differs. The reference is first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// One side refused a step.
    Refusal {
        /// The step, from 0.
        step: usize,
        /// What the reference said; `None`: it did it.
        reference: Option<String>,
        /// What weft said.
        weft: Option<String>,
    },
    /// Other frames came out.
    Frames {
        /// The step that caused them.
        step: usize,
        /// Where.
        place: u8,
        /// The reference's.
        reference: Vec<Bytes>,
        /// weft's.
        weft: Vec<Bytes>,
    },
    /// An FDB entry is another, or there on one side alone.
    Fdb {
        /// The reference's.
        reference: Option<Entry>,
        /// weft's.
        weft: Option<Entry>,
    },
    /// Something that was read is another.
    Reading {
        /// The step.
        step: usize,
        /// The reference's; `None`: it has nothing of the kind.
        reference: Option<String>,
        /// weft's.
        weft: Option<String>,
    },
    /// Somebody is in a multicast group, or a router, on one side alone.
    Group {
        /// The reference's line.
        reference: Option<String>,
        /// weft's.
        weft: Option<String>,
    },
    /// A counter has another value.
    Counter {
        /// Its name.
        name: String,
        /// The reference's.
        reference: u64,
        /// weft's.
        weft: u64,
    },
}

impl Verdict {
    /// The word for it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Intended(..) => "intended",
            Self::Older(..) => "older",
            Self::Differs(_) | Self::NoLonger(_) => "differs",
            Self::NotRun(_) => "not run",
        }
    }

    /// Whether it asks for somebody to do something.
    pub const fn is_bad(&self) -> bool {
        matches!(self, Self::Differs(_) | Self::NoLonger(_))
    }

    /// What differs.
    pub fn differences(&self) -> &[Difference] {
        match self {
            Self::Intended(_, differences) | Self::Older(_, differences) | Self::Differs(differences) => differences,
            Self::Same | Self::NoLonger(_) | Self::NotRun(_) => &[],
        }
    }
}

/// Compares what was seen of a case.
pub fn judge(case: &Case, reference: &Observation, weft: &Observation, against: Against) -> Verdict {
    let differences = differences(case, reference, weft);
    let kernel = match against {
        Against::Kernel(version) => version,
        Against::Ovs => return judge_by_any(case, differences, ruling::ovs::RULINGS),
    };
    let is_said = |explains: fn(&Case, &Difference) -> bool| {
        !differences.is_empty() && differences.iter().all(|difference| explains(case, difference))
    };
    let change = case.changed.as_deref().and_then(older::find);
    let change = change.filter(|change| kernel.is_some_and(|kernel| kernel < change.since) && is_said(change.explains));
    if let Some(change) = change {
        return Verdict::Older(change, differences);
    }
    match case.ruling.as_deref().and_then(ruling::find) {
        Some(ruling) if differences.is_empty() => Verdict::NoLonger(ruling),
        Some(ruling) if is_said(ruling.explains) => Verdict::Intended(vec![ruling], differences),
        None if differences.is_empty() => Verdict::Same,
        Some(_) | None => Verdict::Differs(differences),
    }
}

/// No case names the rulings that it shows: each difference needs one that explains it.
fn judge_by_any(case: &Case, differences: Vec<Difference>, rulings: &'static [Ruling]) -> Verdict {
    let mut named: Vec<&'static Ruling> = Vec::new();
    for difference in &differences {
        match rulings.iter().find(|ruling| (ruling.explains)(case, difference)) {
            Some(ruling) if !named.contains(&ruling) => named.push(ruling),
            Some(_) => {}
            None if follows(difference, &differences) => {}
            None => return Verdict::Differs(differences),
        }
    }
    if named.is_empty() { Verdict::Same } else { Verdict::Intended(named, differences) }
}

/// Whether a counter differs by the frames that differ.
fn follows(counter: &Difference, differences: &[Difference]) -> bool {
    let Difference::Counter { name, reference, weft } = counter else { return false };
    let more_than = |one: u64, other: u64| one.wrapping_sub(other) as i64;
    let more = |difference: &Difference| match difference {
        Difference::Frames { place, reference, weft, .. } if *name == counter_out(*place) => {
            more_than(reference.len() as u64, weft.len() as u64)
        }
        Difference::Frames { .. }
        | Difference::Refusal { .. }
        | Difference::Fdb { .. }
        | Difference::Reading { .. }
        | Difference::Group { .. }
        | Difference::Counter { .. } => 0,
    };
    more_than(*reference, *weft) == differences.iter().map(more).sum::<i64>()
}

fn differences(case: &Case, reference: &Observation, weft: &Observation) -> Vec<Difference> {
    let mut found = Vec::new();
    for (step, (one, other)) in reference.steps.iter().zip(&weft.steps).enumerate() {
        if one.refused.is_some() != other.refused.is_some() {
            found.push(Difference::Refusal { step, reference: one.refused.clone(), weft: other.refused.clone() });
        }
        if one.reading != other.reading {
            found.push(Difference::Reading { step, reference: one.reading.clone(), weft: other.reading.clone() });
        }
        let (shown, shown_other) = (&one.frames, &other.frames);
        let (one, other) = (comparable(shown, &case.setup), comparable(shown_other, &case.setup));
        let places: BTreeSet<_> = one.keys().chain(other.keys()).copied().collect();
        for place in places.into_iter().filter(|place| at(&one, *place) != at(&other, *place)) {
            let (reference, weft) = (at(shown, place).to_vec(), at(shown_other, place).to_vec());
            found.push(Difference::Frames { step, place, reference, weft });
        }
    }
    let keys: BTreeSet<_> = reference.fdb.iter().chain(&weft.fdb).map(|entry| (entry.mac, entry.vid)).collect();
    for key in keys {
        let of = |entries: &[Entry]| entries.iter().find(|entry| (entry.mac, entry.vid) == key).copied();
        let (reference, weft) = (of(&reference.fdb), of(&weft.fdb));
        if reference != weft {
            found.push(Difference::Fdb { reference, weft });
        }
    }
    if let (Some(reference), Some(weft)) = (&reference.groups, &weft.groups) {
        found.extend(groups(reference, weft));
    }
    let names: BTreeSet<_> = reference.counters.keys().chain(weft.counters.keys()).collect();
    for name in names {
        let of = |side: &Observation| side.counters.get(name).copied().unwrap_or(0);
        let (reference, weft) = (of(reference), of(weft));
        if reference != weft {
            found.push(Difference::Counter { name: name.clone(), reference, weft });
        }
    }
    found
}

/// The lines that one side alone has, as often as it does.
fn groups(reference: &[String], weft: &[String]) -> Vec<Difference> {
    let mut left = weft.to_vec();
    let mut found = Vec::new();
    for line in reference {
        match left.iter().position(|other| other == line) {
            Some(at) => drop(left.remove(at)),
            None => found.push(Difference::Group { reference: Some(line.clone()), weft: None }),
        }
    }
    found.extend(left.into_iter().map(|line| Difference::Group { reference: None, weft: Some(line) }));
    found
}

fn at(frames: &Frames, place: u8) -> &[Bytes] {
    frames.get(&place).map_or(&[], Vec::as_slice)
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.mac, self.at, self.kind)?;
        self.vid.map_or(Ok(()), |vid| write!(f, " VLAN {vid}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{
        case::{At, Kind},
        frame::{arp_request, frame, station},
        observe::Seen,
    };

    fn seen(place: u8, frames: &[&[u8]]) -> Observation {
        let frames = frames.iter().map(|frame| Bytes(frame.to_vec())).collect();
        let steps = vec![Seen { frames: Frames::from([(place, frames)]), ..Seen::default() }];
        Observation { steps, ..Observation::default() }
    }

    fn case() -> Case {
        Case::new("x").send(1, frame(station(2), station(1)))
    }

    fn judge(case: &Case, reference: &Observation, weft: &Observation) -> Verdict {
        super::judge(case, reference, weft, Against::Kernel(Version::of("6.18.44")))
    }

    #[test]
    fn each_kind_of_difference_is_found() {
        let (one, other) = (seen(1, &[b"a", b"b"]), seen(1, &[b"b", b"a"]));
        assert_eq!(judge(&case(), &one, &one), Verdict::Same);
        assert!(matches!(judge(&case(), &one, &other), Verdict::Differs(found) if found.len() == 1), "order at a port");
        assert!(judge(&case(), &one, &seen(2, &[b"a", b"b"])).is_bad());
        assert_eq!(judge(&case(), &one, &seen(2, &[b"a", b"b"])).differences().len(), 2, "one at each port");

        let mut refused = one.clone();
        refused.steps[0].refused = Some("EINVAL".into());
        assert!(matches!(judge(&case(), &one, &refused).differences(), [Difference::Refusal { step: 0, .. }]));

        let mut moved = one.clone();
        moved.fdb = vec![Entry { mac: station(1), vid: None, at: At::Port(1), kind: Kind::Learned }];
        assert!(matches!(judge(&case(), &one, &moved).differences(), [Difference::Fdb { reference: None, .. }]));

        let mut joined = one.clone();
        joined.groups = Some(vec!["x".into(), "x".into(), "y".into()]);
        assert_eq!(judge(&case(), &one, &joined), Verdict::Same, "the other side does not say");
        let mut left = joined.clone();
        left.groups = Some(vec!["x".into(), "z".into()]);
        let found = judge(&case(), &joined, &left);
        assert!(found.differences().len() == 3 && found.is_bad(), "{found:?}");

        let mut counted = one.clone();
        counted.counters.insert("port 1 in".into(), 1);
        assert!(matches!(judge(&case(), &one, &counted).differences(), [Difference::Counter { weft: 1, .. }]));
    }

    #[test]
    fn a_ruling_that_shows_nothing_is_bad() {
        let one = seen(1, &[b"a"]);
        assert!(judge(&case().ruling("fdb_full"), &one, &one).is_bad());
        assert!(judge(&case().ruling("fdb_full"), &one, &seen(1, &[b"c"])).is_bad(), "nor does it explain everything");
    }

    #[test]
    fn an_older_kernel_may_do_as_it_did_and_nothing_else() {
        let mut question = arp_request(station(1), [10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        question[..6].copy_from_slice(&station(2).octets());
        let case = Case::new("x").changed("unicast_question").send(1, question);
        let (answered, passed) = (seen(1, &[b"answer"]), seen(1, &[]));
        let on = |kernel: &str| super::judge(&case, &answered, &passed, Against::Kernel(Version::of(kernel)));
        assert!(matches!(on("6.1.192"), Verdict::Older(change, _) if change.id == "unicast_question"));
        assert!(on("6.16.0").is_bad(), "it has the change");
        assert!(super::judge(&case, &answered, &passed, Against::Kernel(None)).is_bad(), "it is no kernel");
        assert_eq!(
            super::judge(&case, &passed, &passed, Against::Kernel(Version::of("6.1"))),
            Verdict::Same,
            "the change was taken over"
        );
        assert!(
            super::judge(&case, &passed, &answered, Against::Kernel(Version::of("6.1"))).is_bad(),
            "the other way round"
        );
        let elsewhere = seen(2, &[b"answer"]);
        assert!(
            super::judge(&case, &elsewhere, &passed, Against::Kernel(Version::of("6.1"))).is_bad(),
            "something else"
        );
    }
}
