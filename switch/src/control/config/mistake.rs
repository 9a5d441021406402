//! Mistakes in a configuration: each with its place, what is wrong there and what would be right.
//!
//! A [`Mistake`] is a miette diagnostic for people; [`Report`] is the same for programs. A whole file's mistakes travel
//! together as [`ConfigErrors`], so that one run of `weft check` shows them all.

use std::{fmt, ops::Range, path::Path, sync::Arc};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use serde::{Deserialize, Serialize};

/// What requests are called in messages, instead of a file.
pub const REQUEST: &str = "request";

/// Everything that is wrong with a configuration, in the order of the file; never empty.
#[derive(Clone, Debug)]
pub struct ConfigErrors {
    mistakes: Vec<Mistake>,
}

impl ConfigErrors {
    /// `Ok` if there are no mistakes.
    pub(crate) fn check(mut mistakes: Vec<Mistake>) -> Result<(), Self> {
        if mistakes.is_empty() {
            return Ok(());
        }
        mistakes.sort_by_key(|mistake| mistake.place.as_ref().map(|place| place.span.start));
        Err(Self { mistakes })
    }

    pub(crate) fn one(mistake: Mistake) -> Self {
        Self { mistakes: vec![mistake] }
    }

    /// One mistake, which has no place inside a file: it can't be read, or isn't there.
    pub(crate) fn unreadable(path: &Path, what: impl fmt::Display, help: impl Into<String>) -> Self {
        let mistake = Mistake {
            file: path.display().to_string(),
            ..Mistake::new(None, format!("can't read {}: {what}", path.display()), help)
        };
        Self { mistakes: vec![mistake] }
    }

    /// The mistakes.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// The mistakes for programs.
    pub fn reports(&self) -> Vec<Report> {
        self.mistakes.iter().map(Mistake::report).collect()
    }

    /// The mistakes for people, each with the lines around it; `color` for a terminal.
    pub fn render(&self, color: bool) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(100).with_context_lines(1);
        let mut text = String::new();
        for mistake in &self.mistakes {
            // a String takes everything; miette itself has no other reason to fail
            if handler.render_report(&mut text, mistake).is_err() {
                text.push_str(&mistake.to_string());
            }
            text.push('\n');
        }
        text
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistakes.as_slice() {
            [only] => write!(f, "{only}"),
            many => write!(f, "{} mistakes in the configuration", many.len()),
        }
    }
}

impl std::error::Error for ConfigErrors {}

impl Diagnostic for ConfigErrors {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.mistakes.iter().map(|mistake| mistake as &dyn Diagnostic)))
    }
}

/// One mistake.
#[derive(Clone, Debug)]
pub struct Mistake {
    file: String,
    place: Option<Place>,
    /// A second place that the first contradicts, and what it is.
    other: Option<(Place, &'static str)>,
    message: String,
    help: Option<String>,
}

impl Mistake {
    pub(crate) fn new(place: Option<Place>, message: impl Into<String>, help: impl Into<String>) -> Self {
        let help = Some(help.into()).filter(|help: &String| !help.is_empty());
        let file = place.as_ref().map_or_else(String::new, |place| place.source.name().to_owned());
        Self { file, place, other: None, message: message.into(), help }
    }

    /// Shows `place` as well, if it is known and in the same text.
    pub(super) fn with_other(mut self, place: Option<Place>, what: &'static str) -> Self {
        let same = |other: &Place| self.place.as_ref().is_some_and(|place| Arc::ptr_eq(&place.source, &other.source));
        self.other = place.filter(same).map(|place| (place, what));
        self
    }

    /// What would be right.
    pub fn advice(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The bytes of the file that are wrong.
    pub fn span(&self) -> Option<Range<usize>> {
        self.place.as_ref().map(|place| place.span.clone())
    }

    /// The mistake for programs.
    pub fn report(&self) -> Report {
        let position = self.place.as_ref().map(Place::position);
        Report {
            file: self.file.clone(),
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
            message: self.message.clone(),
            help: self.help.clone(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mistake {}

impl Diagnostic for Mistake {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place.as_ref().map(|place| &*place.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.place.as_ref()?;
        let here = LabeledSpan::new_primary_with_span(Some("here".to_owned()), place.span.clone());
        let other = self.other.iter();
        let there = other.map(|(place, what)| LabeledSpan::new_with_span(Some((*what).to_owned()), place.span.clone()));
        Some(Box::new(std::iter::once(here).chain(there)))
    }
}

/// A mistake as `weft check --json` prints it and the API answers it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The file, or `request` for what came over the API.
    pub file: String,
    /// The line, counted from 1; null if the mistake has no place.
    pub line: Option<usize>,
    /// The character within the line, counted from 1; null if the mistake has no place.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

impl fmt::Display for Report {
    /// `weft.toml:3:8: what is wrong`; a request has no place that its sender would know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column)
            && self.file != REQUEST
        {
            write!(f, "{}:{line}:{column}: ", self.file)?;
        }
        f.write_str(&self.message)
    }
}

/// Some bytes of a configuration text.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(super) source: Arc<NamedSource<String>>,
    pub(super) span: Range<usize>,
}

impl Place {
    /// Bytes of `source`, cut to what it has: a parser may report a mistake behind the last byte.
    pub(crate) fn new(source: &Arc<NamedSource<String>>, span: Range<usize>) -> Self {
        let len = source.inner().len();
        let start = span.start.min(len);
        Self { source: Arc::clone(source), span: start..span.end.clamp(start, len) }
    }

    /// Line and column of the first byte, both from 1, the column in characters.
    pub(super) fn position(&self) -> (usize, usize) {
        let before = String::from_utf8_lossy(&self.source.inner().as_bytes()[..self.span.start]);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        (line, column)
    }
}
