//! Outcomes for people and for programs.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

use super::{
    Outcome,
    case::{Bytes, UNDERLAY},
    ruling::Ruling,
    statement::Cite,
    verdict::{Difference, Verdict},
};
use crate::wire::describe::describe;

/// One line about a case, and what differs below it.
pub fn text(outcome: &Outcome, reference: &str) -> String {
    let case = &outcome.case;
    let cites = case.cites.iter().map(Cite::label).collect::<Vec<_>>().join(", ");
    let source = case.cites.first().map_or("", Cite::source);
    let mut text = format!("{:9} {cites:8} {:72} {source}", outcome.verdict.word(), case.name);
    text.truncate(text.trim_end().len());
    match &outcome.verdict {
        Verdict::Same => {}
        Verdict::NotRun(why) => {
            let _ = write!(text, "\n          {why}");
        }
        Verdict::Intended(rulings, _) => {
            for ruling in rulings {
                text.push_str(&intended(ruling, reference));
            }
        }
        Verdict::Older(change, _) => {
            let (question, before, since_then) = (change.question, change.before, change.since_then);
            let _ = write!(text, "\n          {question}: {before};");
            let _ = write!(text, "\n          since Linux {} it {since_then} (commit {})", change.since, change.commit);
        }
        Verdict::NoLonger(ruling) => {
            let _ = write!(text, "\n          the ruling {} says that both differ here, and they do not", ruling.id);
        }
        Verdict::Differs(differences) => {
            for difference in differences {
                text.push_str(&side_by_side(outcome, difference, reference));
            }
        }
    }
    text
}

fn intended(ruling: &Ruling, reference: &str) -> String {
    let Ruling { question, theirs, weft, reason, setting, .. } = ruling;
    let (who, whose) = match reference {
        "kernel" => ("the kernel", "The kernel's"),
        "ovs" => ("Open vSwitch", "Its"),
        other => (other, "Its"),
    };
    let mut text = format!("\n          {question}: {who}: {theirs}; weft: {weft},\n          for {reason}.");
    if *setting != "none" {
        let _ = write!(text, " {whose} way: {setting}");
    }
    text
}

/// A difference, both results one below the other.
fn side_by_side(outcome: &Outcome, difference: &Difference, reference: &str) -> String {
    let step = |step: usize| {
        let what = outcome.case.steps.get(step).map(ToString::to_string).unwrap_or_default();
        format!("step {}: {what}", step + 1)
    };
    let (title, one, other) = match difference {
        Difference::Refusal { step: at, reference, weft } => {
            let said = |said: &Option<String>| {
                vec![said.as_ref().map_or_else(|| "done".to_owned(), |why| format!("refused: {why}"))]
            };
            (step(*at), said(reference), said(weft))
        }
        Difference::Frames { step: at, place, reference, weft } => (
            format!("{}\n          what came out at {}", step(*at), place_name(*place)),
            frames(reference),
            frames(weft),
        ),
        Difference::Fdb { reference, weft } => {
            let entry = |entry: &Option<_>| {
                vec![entry.map_or_else(|| "no entry".to_owned(), |e: super::observe::Entry| e.to_string())]
            };
            ("the FDB afterwards".into(), entry(reference), entry(weft))
        }
        Difference::Reading { step: at, reference, weft } => {
            let value = |value: &Option<String>| vec![value.clone().unwrap_or_else(|| "nothing of the kind".into())];
            (step(*at), value(reference), value(weft))
        }
        Difference::Group { reference, weft } => {
            let line = |line: &Option<String>| vec![line.clone().unwrap_or_else(|| "not so".into())];
            ("groups afterwards".into(), line(reference), line(weft))
        }
        Difference::Counter { name, reference, weft } => {
            (format!("the counter \"{name}\""), vec![reference.to_string()], vec![weft.to_string()])
        }
    };
    let mut text = format!("\n          {title}");
    for (side, lines) in [(reference, one), ("weft", other)] {
        for (number, line) in lines.iter().enumerate() {
            let side = if number == 0 { side } else { "" };
            let _ = write!(text, "\n            {side:7} {line}");
        }
    }
    text
}

fn frames(frames: &[Bytes]) -> Vec<String> {
    if frames.is_empty() {
        return vec!["nothing".into()];
    }
    // The line says what it is; the octets say in what two that look alike differ.
    frames.iter().flat_map(|frame| [describe(&frame.0).to_string(), format!("  {frame}")]).collect()
}

/// What people call a place where frames come out.
pub fn place_name(place: u8) -> String {
    if place == UNDERLAY { "the underlay".into() } else { format!("port {place}") }
}

/// How often each verdict was given.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Cases in all.
    pub cases: usize,
    /// Steps of those that were run.
    pub steps: usize,
    /// Both sides did the same.
    pub same: usize,
    /// They differ as a ruling says.
    pub intended: usize,
    /// They differ as the kernel did before a change that this one does not have.
    #[serde(default)]
    pub older: usize,
    /// They differ, and nobody knows why.
    pub differs: usize,
    /// Not run, by the reason.
    pub not_run: BTreeMap<String, usize>,
}

impl Summary {
    /// Counts one more.
    pub fn add(&mut self, outcome: &Outcome) {
        self.cases += 1;
        match &outcome.verdict {
            Verdict::Same => self.same += 1,
            Verdict::Intended(..) => self.intended += 1,
            Verdict::Older(..) => self.older += 1,
            Verdict::Differs(_) | Verdict::NoLonger(_) => self.differs += 1,
            Verdict::NotRun(why) => return *self.not_run.entry(why.clone()).or_default() += 1,
        }
        self.steps += outcome.case.steps.len();
    }

    /// In a line, and one more for each reason why something was not run.
    pub fn text(&self, seconds: f64) -> String {
        let not_run: usize = self.not_run.values().sum();
        let Self { cases, steps, same, intended, older, differs, .. } = self;
        let mut text = format!(
            "{cases} cases, {steps} steps in {seconds:.1} s: {same} same, {intended} intended, {older} older, \
             {differs} differ, {not_run} not run"
        );
        for (why, count) in &self.not_run {
            let _ = write!(text, "\n  {count} not run: {why}");
        }
        text
    }
}

/// What `--json` prints of a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Results {
    /// The kernel's release.
    pub kernel: String,
    /// What weft was compared with.
    pub against: String,
    /// The seed of random sequences; null if there were none.
    pub seed: Option<u64>,
    /// Counts.
    pub summary: Summary,
    /// Every case.
    pub cases: Vec<CaseResult>,
}

/// A case in [`Results`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CaseResult {
    /// Its name.
    pub name: String,
    /// Its group.
    pub group: String,
    /// What it tests.
    pub cites: Vec<Cite>,
    /// Those of them that it shows.
    #[serde(default)]
    pub shows: Vec<Cite>,
    /// `same`, `differs`, `intended`, `older` or `not run`.
    pub verdict: String,
    /// The ruling, the change, or why it was not run.
    pub reason: Option<String>,
    /// What differs.
    pub differences: serde_json::Value,
    /// Milliseconds that it took.
    pub millis: u64,
}

impl CaseResult {
    /// Of an outcome.
    pub fn of(outcome: &Outcome) -> Self {
        let case = &outcome.case;
        Self {
            name: case.name.clone(),
            group: case.group.clone(),
            cites: case.cites.clone(),
            shows: case.shows.clone(),
            verdict: outcome.verdict.word().into(),
            reason: match &outcome.verdict {
                Verdict::Intended(rulings, _) => {
                    Some(rulings.iter().map(|ruling| ruling.id).collect::<Vec<_>>().join(", "))
                }
                Verdict::NoLonger(ruling) => Some(ruling.id.into()),
                Verdict::Older(change, _) => Some(change.id.into()),
                Verdict::NotRun(why) => Some(why.clone()),
                Verdict::Same | Verdict::Differs(_) => None,
            },
            differences: serde_json::to_value(outcome.verdict.differences()).unwrap_or_default(),
            millis: outcome.millis,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{
        case::Case,
        frame::{frame, station},
    };

    fn outcome(verdict: Verdict) -> Outcome {
        let case = Case::new("a pause frame never passes").statement(3).send(1, frame(station(2), station(1)));
        Outcome { case, verdict, reference: None, weft: None, millis: 3 }
    }

    #[test]
    fn a_case_has_its_line_with_what_it_cites() {
        let line = text(&outcome(Verdict::Same), "kernel");
        assert!(line.starts_with("same      3        a pause frame never passes"), "{line}");
        assert!(line.ends_with("br_input.c:br_handle_frame") && !line.contains('\n'), "{line}");
    }

    #[test]
    fn a_difference_is_shown_with_both_sides_and_the_frame_decoded() {
        let gone = Difference::Frames {
            step: 0,
            place: 2,
            reference: vec![Bytes(frame(station(2), station(1)))],
            weft: vec![],
        };
        let shown = text(&outcome(Verdict::Differs(vec![gone])), "kernel");
        for part in [
            "step 1: port 1 gets 02:00",
            "what came out at port 2",
            "kernel  02:00:00:00:0a:01 > 02:00",
            "weft    nothing",
        ] {
            assert!(shown.contains(part), "no {part:?} in\n{shown}");
        }
    }
}
