//! The runbook: seven steps, each a function from what was read to what is to be said of it.

mod between;
mod cables;
mod capture;
mod inside;
mod kubernetes;
mod moved;
mod overlay;
mod who;

use serde::Serialize;

pub(crate) use self::moved::{WrongChecksums, moved, wrong_checksums};
use super::{
    Finding,
    step::{Evidence, Step, Trouble, Verdict},
    survey::{Survey, values::Space},
    walk::{self, End, Errand, Way},
    world::At,
};

/// What to look at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Focus {
    /// What it is called: `namespace left`.
    pub(crate) title: String,
    /// The namespaces, by their places in the survey.
    pub(crate) spaces: Vec<usize>,
    /// One interface of the first of them, if only that is asked about.
    pub(crate) link: Option<At>,
    /// What is to be followed.
    pub(crate) errands: Vec<Errand>,
    /// Counters that were seen to move.
    pub(crate) moved: Vec<Evidence>,
    /// Packets with wrong checksums that came meanwhile.
    pub(crate) wrong_checksums: Vec<WrongChecksums>,
    /// Namespaces in which somebody says that a weft runs, and who says so.
    pub(crate) wefts: Vec<(usize, String)>,
}

/// Everything that doctor has to say.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) subject: String,
    pub(crate) verdict: Verdict,
    pub(crate) steps: Vec<Step>,
    /// The ways that were followed.
    pub(crate) ways: Vec<Way>,
    /// The fault to look at first: that of a way before those of single parts.
    pub(crate) first_fault: Option<Trouble>,
    pub(crate) faults: usize,
    pub(crate) warnings: usize,
    /// What to do next.
    pub(crate) next: Vec<String>,
}

/// Goes through the runbook.
pub(crate) fn look(survey: &Survey, focus: &Focus) -> Report {
    let ways: Vec<_> = focus.errands.iter().map(|errand| walk::follow(survey, *errand)).collect();
    let steps = vec![
        who::step(survey, focus),
        inside::step(survey, focus),
        cables::step(survey, focus),
        between::step(survey, focus),
        capture::step(survey, focus, &ways),
        overlay::step(survey, focus),
        kubernetes::step(survey),
    ];
    report(focus.title.clone(), steps, ways)
}

fn report(subject: String, steps: Vec<Step>, ways: Vec<Way>) -> Report {
    let of_steps = || steps.iter().flat_map(|step| &step.troubles);
    // Where a process is missing, ways end for want of what it would do.
    let missing = |trouble: &&Trouble| trouble.finding == Finding::ProcessMissing && trouble.severity == Verdict::Fault;
    let mut faults: Vec<&Trouble> = of_steps().filter(missing).collect();
    faults.extend(ways.iter().filter_map(fault_of));
    for trouble in of_steps().filter(|trouble| trouble.severity == Verdict::Fault) {
        if !faults.iter().any(|known| known.finding == trouble.finding && known.place == trouble.place) {
            faults.push(trouble);
        }
    }
    let mut seen = Vec::new();
    for fault in &faults {
        if !seen.contains(&(fault.finding, &fault.place)) {
            seen.push((fault.finding, &fault.place));
        }
    }
    let warnings = of_steps().chain(ways.iter().flat_map(|way| &way.warnings));
    let warnings = warnings.filter(|trouble| trouble.severity == Verdict::Warning).count();
    let first_fault = faults.first().map(|fault| (*fault).clone());
    let unknown = steps.iter().any(|step| step.verdict == Verdict::Unknown);
    let verdict = match (seen.len(), warnings, unknown) {
        (1.., ..) => Verdict::Fault,
        (0, 1.., _) => Verdict::Warning,
        (0, 0, true) => Verdict::Unknown,
        (0, 0, false) => Verdict::Ok,
    };
    let mut next: Vec<String> = first_fault.iter().filter_map(|fault| fault.next.clone()).collect();
    if first_fault.is_some() {
        next.extend(steps.iter().filter(|step| step.number == capture::NUMBER).flat_map(|step| step.next.clone()));
    }
    Report { subject, verdict, faults: seen.len(), warnings, first_fault, next, steps, ways }
}

fn fault_of(way: &Way) -> Option<&Trouble> {
    match &way.end {
        End::Fault(trouble) => Some(trouble),
        End::Arrived | End::OutOfSight { .. } => None,
    }
}

/// Everything that can be walked to from a namespace without being told where: its gateways.
pub(crate) fn gateways(survey: &Survey, space: usize) -> Vec<Errand> {
    let mut found: Vec<Errand> = Vec::new();
    let it = survey.space(space);
    for route in it.routes.iter().filter(|route| route.table != 255) {
        for to in route.hops.iter().filter_map(|hop| hop.via) {
            let errand = Errand { from: space, to, port: None, listening: false, len: None, whole: false };
            if !found.contains(&errand) && !is_link_local(to) {
                found.push(errand);
            }
        }
    }
    found
}

/// Follows each way with a packet as large as its first interface sends as well: what a small one does not notice.
pub(crate) fn add_full_size(survey: &Survey, errands: &mut Vec<Errand>) {
    let mut full: Vec<Errand> = Vec::new();
    for errand in errands.iter().filter(|errand| errand.len.is_none()) {
        let Some(len) = walk::first_mtu(survey, errand.from, errand.to) else { continue };
        // Loopback's 64 KiB say nothing of any way.
        const LARGEST: u32 = 9_216;
        let large = Errand { len: Some(len), listening: false, ..*errand };
        if len <= LARGEST && !full.contains(&large) && !errands.contains(&large) {
            full.push(large);
        }
    }
    errands.extend(full);
}

/// Such a gateway is often nobody's address (`169.254.1.1` of Calico), and an IPv6 one needs its interface said.
fn is_link_local(address: std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(address) => address.is_link_local(),
        std::net::IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The namespaces of a focus, with their places.
fn spaces<'a>(survey: &'a Survey, focus: &'a Focus) -> impl Iterator<Item = (usize, &'a Space)> {
    focus.spaces.iter().map(|index| (*index, survey.space(*index)))
}

/// `1 bridge`, `2 bridges`.
fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
