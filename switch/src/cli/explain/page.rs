//! An explanation as people read it.

use std::fmt::Write;

use crate::control::{
    api::explanation::{Decider, Explanation, Fate, Outcome, Stage, VerdictSaid},
    config::REQUEST,
};

/// Where the words of a stage begin.
const INDENT: usize = 14;
/// Where its lines are broken.
const WIDTH: usize = 100;

pub(super) fn page(explanation: &Explanation) -> String {
    let Explanation { frame, port, vtep, stages, verdict, .. } = explanation;
    let mut text = frame.summary.clone();
    if frame.wire_frames > 1 {
        let _ = write!(text, " (a super-frame of {} wire frames)", frame.wire_frames);
    }
    match (port, vtep) {
        (Some(port), _) => text.push_str(&format!("\ncomes in by port {port}\n")),
        (None, Some(vtep)) => text.push_str(&format!("\ncomes from VTEP {vtep}\n")),
        (None, None) => text.push('\n'),
    }
    for (number, stage) in (1..).zip(stages) {
        text.push('\n');
        write_stage(&mut text, number, stage);
    }
    text.push('\n');
    text.push_str(&ending(verdict));
    text
}

fn write_stage(text: &mut String, number: usize, stage: &Stage) {
    let name = stage.stage.name().replace('_', " ");
    let dropped = if stage.outcome == Outcome::Drop { "DROP: " } else { "" };
    let head = format!("{number:>2}  {name:<width$}", width = INDENT - 4);
    text.push_str(&wrapped(&head, &format!("{dropped}{}", stage.text)));
    for note in &stage.notes {
        text.push_str(&wrapped("", note));
    }
    for decider in &stage.config {
        text.push_str(&written_at(decider).map_or_else(String::new, |line| wrapped("", &line)));
    }
    if let Some(line) = defaults(&stage.config) {
        text.push_str(&wrapped("", &line));
    }
    if let Some(kernel) = &stage.kernel {
        text.push_str(&wrapped("", &format!("kernel: {kernel}")));
    }
}

/// Lines of at most [`WIDTH`] characters, the first behind `head`, all at [`INDENT`].
fn wrapped(head: &str, words: &str) -> String {
    let mut lines = vec![format!("{head:<INDENT$}")];
    for word in words.split(' ') {
        let line = lines.last_mut().expect("there is a first one");
        let is_begun = line.chars().count() > INDENT;
        if is_begun && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("{:INDENT$}  {word}", ""));
        } else {
            if is_begun {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A line of the configuration; `None` for a default.
fn written_at(decider: &Decider) -> Option<String> {
    let Decider { part, key, value, file, line } = decider;
    let place = match (file.as_deref()?, line) {
        (REQUEST, _) | (_, None) => "by command".to_owned(),
        (file, Some(line)) => format!("{file}:{line}"),
    };
    Some(format!("{place}: {key} = {value} ({part})"))
}

/// What stands at its default, table by table.
fn defaults(config: &[Decider]) -> Option<String> {
    let mut parts: Vec<(&str, Vec<String>)> = Vec::new();
    for Decider { part, key, value, .. } in config.iter().filter(|decider| decider.file.is_none()) {
        let said = format!("{key} = {value}");
        match parts.iter_mut().find(|(other, _)| other == part) {
            Some((_, values)) => values.push(said),
            None => parts.push((part, vec![said])),
        }
    }
    let parts: Vec<_> = parts.into_iter().map(|(part, values)| format!("{} ({part})", values.join(", "))).collect();
    (!parts.is_empty()).then(|| format!("default: {}", parts.join("; ")))
}

pub(super) fn ending(verdict: &VerdictSaid) -> String {
    match verdict.result {
        Fate::Delivered => {
            let ports = verdict.ports.iter().map(|port| format!("port {port}"));
            let vteps = verdict.vteps.iter().map(|vtep| format!("VTEP {vtep}"));
            format!("delivered to {}", ports.chain(vteps).collect::<Vec<_>>().join(", "))
        }
        Fate::Answered => "answered by the switch itself; nobody else gets it".to_owned(),
        Fate::Dropped => {
            let (reason, explanation) = (verdict.reason.as_deref(), verdict.explanation.as_deref());
            format!("dropped as {}: {}", reason.unwrap_or("?"), explanation.unwrap_or("?"))
        }
    }
}
