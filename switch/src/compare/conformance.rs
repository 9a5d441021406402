//! The conformance table: what the catalogue showed on each kernel, as a page of the documentation.
//!
//! It says nothing that varies from run to run, neither times nor counts: it changes when a case, an outcome or its reason
//! does, and then somebody is to look at it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{
    older,
    report::{CaseResult, Results},
    ruling,
    statement::{Cite, ROWS, Row, STATEMENTS, Statement},
};

const INTRODUCTION: &str = "# Conformance

What the kernel's bridge and vxlan devices do, statement by statement, and how it came out when the same frames went through the
kernel's devices and through weft. Written by `weft compare report`, never by hand: a test runs the cases on both kernels, none
may differ, and what they show must be this page. What the words mean is in [compare.md](compare.md).

A cell is about the cases that [show](#what-shows-it) the statement: those that would come out otherwise if it were not so. Many
more cite it, `weft compare bridge 26` runs those of statement 26. Behind `intended` is the [ruling](#what-is-intended), behind
`older` the [change](#what-older-kernels-do) that the kernel of that column does not have, behind `not run` the
[reason](#what-was-not-run).
";

/// The page: for each statement and row how the cases that show it came out, a column for each kernel.
pub fn conformance(results: &[Results]) -> String {
    let mut columns: BTreeMap<String, Vec<&CaseResult>> = BTreeMap::new();
    for result in results {
        columns.entry(column(result)).or_default().extend(&result.cases);
    }
    let mut page = Page { text: INTRODUCTION.to_owned(), columns, reasons: Vec::new() };
    let statement = |s: &Statement| (Cite::Statement(s.number), s.text.to_owned(), s.source);
    let row = |r: &Row| (Cite::Row(r.number), format!("{}: {}", r.packet, r.result), "vxlan_core.c:vxlan_rcv");
    page.table("Statements", "what is so", STATEMENTS.iter().map(statement).collect());
    page.table("What arrives at a vxlan device", "packet and result", ROWS.iter().map(row).collect());
    page.what_shows_it();
    page.rulings();
    page.changes();
    page.not_run();
    page.text
}

struct Page<'r> {
    text: String,
    columns: BTreeMap<String, Vec<&'r CaseResult>>,
    /// Why something was not run, in the order in which the tables name it.
    reasons: Vec<&'r str>,
}

impl<'r> Page<'r> {
    fn table(&mut self, title: &str, first: &str, rows: Vec<(Cite, String, &str)>) {
        let head: Vec<_> = self.columns.keys().map(|name| format!(" {name} |")).collect();
        let rule: Vec<_> = self.columns.keys().map(|_| "---|").collect();
        let (head, rule) = (head.concat(), rule.concat());
        let _ = writeln!(self.text, "\n## {title}\n\n| | {first} | kernel |{head}\n|---|---|---|{rule}");
        for (cite, what, source) in rows {
            let columns: Vec<Vec<&CaseResult>> = self.columns.values().cloned().collect();
            let cells: Vec<_> = columns.iter().map(|cases| format!(" {} |", self.cell(cases, &cite))).collect();
            let _ = writeln!(self.text, "| {} | {what} | `{source}` |{}", cite.label(), cells.concat());
        }
    }

    /// The verdicts of the cases that show something, each once.
    fn cell(&mut self, cases: &[&'r CaseResult], cite: &Cite) -> String {
        let mut words: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for case in cases.iter().filter(|case| case.shows.contains(cite)) {
            let reasons = words.entry(case.verdict.as_str()).or_default();
            match (&case.reason, case.verdict.as_str()) {
                (Some(reason), "not run") => _ = reasons.insert(self.letter(reason)),
                (Some(reason), _) => reasons.extend(reason.split(", ").map(str::to_owned)),
                (None, _) => {}
            }
        }
        if words.is_empty() {
            return "no case".into();
        }
        let word = |(word, reasons): (&&str, &BTreeSet<String>)| match reasons.is_empty() {
            true => (*word).to_owned(),
            false => format!("{word}: {}", reasons.iter().cloned().collect::<Vec<_>>().join(", ")),
        };
        words.iter().map(word).collect::<Vec<_>>().join("; ")
    }

    /// The letter of a reason why something was not run.
    fn letter(&mut self, reason: &'r str) -> String {
        let at = self.reasons.iter().position(|known| *known == reason).unwrap_or_else(|| {
            self.reasons.push(reason);
            self.reasons.len() - 1
        });
        letter(at)
    }

    fn what_shows_it(&mut self) {
        self.text.push_str("\n## What shows it\n\n");
        let cites =
            STATEMENTS.iter().map(|s| Cite::Statement(s.number)).chain(ROWS.iter().map(|r| Cite::Row(r.number)));
        for cite in cites {
            let mut names: Vec<&str> = Vec::new();
            for case in self.columns.values().flatten().filter(|case| case.shows.contains(&cite)) {
                if !names.contains(&case.name.as_str()) {
                    names.push(&case.name);
                }
            }
            let _ = writeln!(self.text, "- **{}**: {}", cite.label(), names.join("; "));
        }
    }

    fn rulings(&mut self) {
        self.text.push_str("\n## What is intended\n\n");
        let used = self.used("intended");
        for ruling in ruling::all().filter(|ruling| used.contains(ruling.id)) {
            let ruling::Ruling { id, question, theirs, weft, reason, setting, .. } = ruling;
            let _ = writeln!(
                self.text,
                "- **{id}**: {question}. The kernel: {theirs}. weft: {weft}. Why: {reason}. The kernel's way: {setting}."
            );
        }
    }

    fn changes(&mut self) {
        self.text.push_str("\n## What older kernels do\n\n");
        let used = self.used("older");
        for change in older::CHANGES.iter().filter(|change| used.contains(change.id)) {
            let older::Change { id, question, before, since_then, since, commit, .. } = change;
            let _ = writeln!(
                self.text,
                "- **{id}**: {question}. Before Linux {since} it {before}; since then it {since_then} (commit {commit})."
            );
        }
    }

    /// The reasons of a verdict, of all cases.
    fn used(&self, verdict: &str) -> BTreeSet<&'r str> {
        let of_verdict = self.columns.values().flatten().filter(|case| case.verdict == verdict);
        of_verdict.filter_map(|case| case.reason.as_deref()).flat_map(|reason| reason.split(", ")).collect()
    }

    fn not_run(&mut self) {
        self.text.push_str("\n## What was not run\n\n");
        for (at, reason) in self.reasons.iter().enumerate() {
            let _ = writeln!(self.text, "- **{}**: {reason}", letter(at));
        }
    }
}

/// a to z, then a1 and so on.
fn letter(at: usize) -> String {
    let letter = char::from(b'a' + (at % 26) as u8);
    if at < 26 { letter.to_string() } else { format!("{letter}{}", at / 26) }
}

/// "Linux 6.18" of "6.18.44-1-amd64"; or whom else weft was compared with.
fn column(results: &Results) -> String {
    match results.against.as_str() {
        "ovs" => "Open vSwitch".to_owned(),
        _ => format!("Linux {}", results.kernel.split('.').take(2).collect::<Vec<_>>().join(".")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{
        Outcome,
        case::Case,
        frame::{frame, station},
        report::Summary,
        verdict::Verdict,
    };

    fn result(kernel: &str, verdict: Verdict) -> Results {
        let case = Case::new("a pause frame never passes").shows(3).send(1, frame(station(2), station(1)));
        let outcome = Outcome { case, verdict, reference: None, weft: None, millis: 3 };
        let cases = vec![CaseResult::of(&outcome)];
        Results { kernel: kernel.into(), against: "kernel".into(), seed: None, summary: Summary::default(), cases }
    }

    #[test]
    fn there_is_a_column_for_each_kernel_and_a_reason_for_each_word() {
        let table = conformance(&[
            result("6.18.44", Verdict::Same),
            result("6.1.0-38-amd64", Verdict::NotRun("no VLANs".into())),
            result("6.2.0", Verdict::Intended(vec![ruling::find("fdb_full").unwrap()], vec![])),
            result("6.3.0", Verdict::Older(older::find("probe").unwrap(), vec![])),
        ]);
        assert!(table.contains("| Linux 6.1 | Linux 6.18 | Linux 6.2 | Linux 6.3 |"), "{table}");
        let row = table.lines().find(|line| line.starts_with("| 3 |")).unwrap();
        assert!(row.ends_with("| not run: a | same | intended: fdb_full | older: probe |"), "{row}");
        assert!(table.contains("| no case | no case | no case | no case |"));
        for line in
            ["- **3**: a pause frame never passes\n", "- **fdb_full**: ", "- **probe**: ", "- **a**: no VLANs\n"]
        {
            assert!(table.contains(line), "no {line:?} in\n{table}");
        }
    }

    #[test]
    fn letters_do_not_end_with_z() {
        assert_eq!([0, 25, 26, 53].map(letter), ["a", "z", "a1", "b2"]);
    }
}
