//! The same frames through the kernel's devices, or another switch, and through weft, and every difference shown: `weft compare`.
//!
//! # Theory of operation
//! A [`Case`] is a scene and a sequence of steps: frames, option changes, FDB commands, links that go up and down.
//! Both sides are [worlds](world), built alike in namespaces. Each step is done on one side and then on the other, everything
//! that it causes is waited for, and what came out at each port is kept byte for byte; at the end the FDB and the counters
//! are read. [`verdict`] puts both side by side.
//!
//! Cases come from the [`catalogue`], where each has a name and cites what it tests; from [`random`] sequences of a seed, which
//! are [made as short as possible](shrink) when they show a difference; and from [files](replay).
//!
//! [`statement`] lists what the kernel does and weft is to match, [`ruling`] where weft differs on purpose, [`older`] what older
//! kernels did, [`option`] what options there are. To add a case, write it into a file of [`catalogue`]; to give cases a new option,
//! add its row to [`option`]. `docs/compare.md` is for users.

pub mod case;
pub mod catalogue;
pub mod conformance;
pub mod frame;
pub mod observe;
pub mod older;
pub mod option;
pub mod random;
pub mod replay;
pub mod report;
pub mod ruling;
pub mod shrink;
pub mod statement;
pub mod verdict;
pub mod world;

use std::{
    fs, process, thread,
    time::{Duration, Instant},
};

use self::{
    case::{Case, Step},
    observe::{Observation, source_ports_used},
    older::Version,
    verdict::{Against, Verdict, judge},
    world::{CompareError, World, kernel::KernelWorld, ovs::OvsWorld, userspace::WeftWorld},
};
use crate::{lab::Lab, sys::affinity};

/// Prefix of the labs of comparisons.
pub const PREFIX: &str = "weft-compare";

/// How often a case that waits for the clock is run until it does not differ.
const ATTEMPTS: u32 = 3;

/// Both sides, ready for one case after another.
pub struct Comparison {
    reference: Box<dyn World>,
    weft: Box<dyn World>,
    against: Against,
    // Last, so that it is dropped last: both have sockets in its namespaces.
    _lab: Lab,
}

/// A case that was run.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// The case.
    pub case: Case,
    /// How it came out.
    pub verdict: Verdict,
    /// What the reference did; `None` if the case was not run.
    pub reference: Option<Observation>,
    /// What weft did.
    pub weft: Option<Observation>,
    /// How long it took.
    pub millis: u64,
}

impl Comparison {
    /// Builds both sides. The calling thread stays on one CPU from now on, and what it starts does too ([`world`]).
    ///
    /// # Errors
    /// The lab can't be built: mostly, that the process is not root.
    pub fn with_kernel() -> Result<Self, CompareError> {
        let lab = begin()?;
        let reference = Box::new(KernelWorld::new(&lab)?);
        let weft = Box::new(WeftWorld::new(&lab)?);
        Ok(Self { reference, weft, against: Against::Kernel(Version::of(&kernel_release())), _lab: lab })
    }

    /// The same with Open vSwitch's bridge in the kernel's place.
    ///
    /// # Errors
    /// The lab can't be built, or Open vSwitch can't be started.
    pub fn with_ovs() -> Result<Self, CompareError> {
        let lab = begin()?;
        let reference = Box::new(OvsWorld::new(&lab)?);
        let weft = Box::new(WeftWorld::new(&lab)?);
        Ok(Self { reference, weft, against: Against::Ovs, _lab: lab })
    }

    /// Puts other worlds in the places of both, for tests of the comparison itself.
    pub fn of(reference: Box<dyn World>, weft: Box<dyn World>) -> Self {
        Self { reference, weft, against: Against::Kernel(None), _lab: Lab::new(PREFIX) }
    }

    /// The name of the side that weft is compared with.
    pub fn reference(&self) -> &'static str {
        self.reference.name()
    }

    /// Runs a case on both sides. One that waits for the clock must differ each of a few times: a busy machine can be late.
    ///
    /// # Errors
    /// The comparison itself broke: what it waited for did not come, or came too late. What a side lacks is
    /// [`Verdict::NotRun`].
    pub fn run(&mut self, case: &Case) -> Result<Outcome, CompareError> {
        let mut attempts_left = if case.waits_ms() > 0 { ATTEMPTS } else { 1 };
        loop {
            let ran = self.run_once(case);
            attempts_left -= 1;
            let is_bad = match &ran {
                Ok(outcome) => outcome.verdict.is_bad(),
                Err(error) => matches!(error, CompareError::Stray { .. }),
            };
            if !is_bad || attempts_left == 0 {
                return ran;
            }
        }
    }

    fn run_once(&mut self, case: &Case) -> Result<Outcome, CompareError> {
        let started = Instant::now();
        let outcome = |verdict, reference, weft| Outcome {
            case: case.clone(),
            verdict,
            reference,
            weft,
            millis: started.elapsed().as_millis() as u64,
        };
        match self.observe(case) {
            Ok((reference, weft)) => {
                let verdict = judge(case, &reference, &weft, self.against);
                Ok(outcome(verdict, Some(reference), Some(weft)))
            }
            Err(CompareError::Lacks(why)) => Ok(outcome(Verdict::NotRun(why), None, None)),
            Err(error) => Err(error),
        }
    }

    fn observe(&mut self, case: &Case) -> Result<(Observation, Observation), CompareError> {
        let sides = [&mut self.reference, &mut self.weft];
        let mut seen = [Observation::default(), Observation::default()];
        let [reference, weft] = sides;
        reference.begin(&case.setup)?;
        weft.begin(&case.setup)?;
        for step in &case.steps {
            // Both sides' clocks are one: time passes once.
            if let Step::Wait { ms } = step {
                thread::sleep(Duration::from_millis(*ms));
            }
            for (side, seen) in [&mut *reference, &mut *weft].into_iter().zip(&mut seen) {
                seen.steps.push(side.step(step)?);
            }
        }
        for (side, seen) in [reference, weft].into_iter().zip(&mut seen) {
            seen.fdb = side.fdb()?;
            seen.groups = if case.is_about_groups() { side.groups()? } else { None };
            seen.counters = side.counters()?.into_iter().collect();
            let used = source_ports_used(&seen.steps, &case.setup);
            seen.counters.extend(used.map(|count| ("source ports used".to_owned(), count)));
        }
        let [mut one, mut other] = seen;
        // Kernels differ in what they count.
        one.counters.retain(|name, _| other.counters.contains_key(name));
        other.counters.retain(|name, _| one.counters.contains_key(name));
        Ok((one, other))
    }
}

/// The running kernel's release, as `uname -r` says it.
pub fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// An empty lab, and this thread on one CPU: which one depends on the process, so that several comparisons share a machine.
fn begin() -> Result<Lab, CompareError> {
    let allowed = affinity::allowed().unwrap_or_default();
    if let Some(cpu) = allowed.get(process::id() as usize % allowed.len().max(1)) {
        // On all of them it still works, but a busy machine may take longer to settle.
        let _ = affinity::run_on(&[*cpu]);
    }
    // What an earlier run could not remove because it was killed; if that fails, it is no matter of this one.
    let _ = Lab::remove_stale(PREFIX);
    let lab = Lab::new(PREFIX);
    lab.remove_on_signals()?;
    Ok(lab)
}
