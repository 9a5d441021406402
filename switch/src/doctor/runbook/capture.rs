//! Step 5: where to capture, and the command for it.

use std::collections::BTreeSet;

use super::Focus;
use crate::doctor::{step::Step, survey::Survey, walk::Way, world::Other};

/// This step's number.
pub(super) const NUMBER: usize = 5;

/// Points that a way passes, or else the interfaces looked at with their other ends.
pub(super) fn step(survey: &Survey, focus: &Focus, ways: &[Way]) -> Step {
    /// A capture at more points is none that anybody reads.
    const MANY: usize = 8;
    let mut step = Step::new(NUMBER, "where to capture");
    let labels: BTreeSet<String> = survey.all().map(|(at, _)| survey.label(at)).collect();
    let mut points: Vec<String> = Vec::new();
    let mut add = |point: &String| {
        if labels.contains(point) && !points.contains(point) && points.len() < MANY {
            points.push(point.clone());
        }
    };
    let broken = ways.iter().find(|way| super::fault_of(way).is_some());
    if let Some(way) = broken.or_else(|| ways.first().filter(|_| ways.len() == 1)) {
        way.hops.iter().for_each(|hop| add(&hop.place));
        if let Some(fault) = super::fault_of(way) {
            add(&fault.place);
        }
    } else {
        for (at, link) in survey.all().filter(|(at, link)| focus.spaces.contains(&at.space) && !link.loopback) {
            if focus.link.is_some_and(|only| only != at) || link.name.is_empty() {
                continue;
            }
            add(&survey.label(at));
            if let Other::At(other) = survey.other(at) {
                add(&survey.label(other));
            }
        }
    }
    step.summary = match points.as_slice() {
        [] => "nothing to capture".to_owned(),
        points => points.join(" "),
    };
    if !points.is_empty() {
        step.next.push(format!("weft capture {}", points.join(" ")));
    }
    step.judged()
}
