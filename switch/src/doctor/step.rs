//! What doctor says: steps with verdicts and evidence, and the trouble that was found.

use serde::Serialize;

use super::Finding;

/// How a step came out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Ok,
    /// It could not be found out.
    Unknown,
    /// Something that is seldom wanted, but breaks nothing that was looked at.
    Warning,
    /// Something that breaks.
    Fault,
}

impl Verdict {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }
}

/// Real rows of a table, under the command that shows the same.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Evidence {
    /// `ip -n left route`.
    pub(crate) source: String,
    pub(crate) rows: Vec<String>,
}

impl Evidence {
    pub(crate) fn new(source: impl Into<String>, rows: impl IntoIterator<Item = String>) -> Self {
        Self { source: source.into(), rows: rows.into_iter().collect() }
    }
}

/// Something that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Trouble {
    pub(crate) finding: Finding,
    /// `fault` or `warning`.
    pub(crate) severity: Verdict,
    /// Where: `namespace/interface`, or a namespace.
    pub(crate) place: String,
    /// What is so, in a sentence with the values.
    pub(crate) text: String,
    pub(crate) evidence: Vec<Evidence>,
    /// The command to run next: one that shows more, or that mends it.
    pub(crate) next: Option<String>,
}

impl Trouble {
    pub(crate) fn new(finding: Finding, place: impl Into<String>, text: impl Into<String>) -> Self {
        let (place, text) = (place.into(), text.into());
        Self { finding, severity: Verdict::Fault, place, text, evidence: Vec::new(), next: None }
    }

    #[must_use]
    pub(crate) fn row(mut self, source: impl Into<String>, row: impl Into<String>) -> Self {
        let (source, row) = (source.into(), row.into());
        match self.evidence.iter_mut().find(|evidence| evidence.source == source) {
            Some(evidence) => evidence.rows.push(row),
            None => self.evidence.push(Evidence { source, rows: vec![row] }),
        }
        self
    }

    #[must_use]
    pub(crate) fn rows(mut self, source: impl Into<String>, rows: impl IntoIterator<Item = String>) -> Self {
        self.evidence.push(Evidence::new(source, rows));
        self
    }

    #[must_use]
    pub(crate) fn next(self, command: impl Into<String>) -> Self {
        Self { next: Some(command.into()), ..self }
    }

    #[must_use]
    pub(crate) fn warning(self) -> Self {
        Self { severity: Verdict::Warning, ..self }
    }
}

/// One step of the runbook.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Step {
    /// Its number in the runbook, 1 to 7.
    pub(crate) number: usize,
    pub(crate) title: &'static str,
    pub(crate) verdict: Verdict,
    /// What was found, in a line.
    pub(crate) summary: String,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) troubles: Vec<Trouble>,
    /// What could not be found out, and why.
    pub(crate) unknown: Vec<String>,
    /// Commands that show more.
    pub(crate) next: Vec<String>,
}

impl Step {
    pub(crate) fn new(number: usize, title: &'static str) -> Self {
        Self {
            number,
            title,
            verdict: Verdict::Ok,
            summary: String::new(),
            evidence: Vec::new(),
            troubles: Vec::new(),
            unknown: Vec::new(),
            next: Vec::new(),
        }
    }

    pub(crate) fn evidence(&mut self, source: impl Into<String>, rows: impl IntoIterator<Item = String>) {
        let evidence = Evidence::new(source, rows);
        if !evidence.rows.is_empty() {
            self.evidence.push(evidence);
        }
    }

    /// The same with the verdict that follows from what was found.
    #[must_use]
    pub(crate) fn judged(mut self) -> Self {
        let worst = self.troubles.iter().map(|trouble| trouble.severity).max().unwrap_or(Verdict::Ok);
        let unknown = if self.unknown.is_empty() { Verdict::Ok } else { Verdict::Unknown };
        self.verdict = worst.max(unknown);
        self
    }
}
