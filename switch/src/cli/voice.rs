//! How stories are told: numbered headings, plain words, what was really seen, and a verdict on it.

use std::{env, io::IsTerminal};

use super::output;

/// Prints a story on standard output; in colour if that is a terminal and `NO_COLOR` says nothing.
pub(super) struct Voice {
    coloured: bool,
}

/// Select Graphic Rendition (ECMA-48 section 8.3.117): bold, faint, green, yellow, red, and back to normal.
const BOLD: &str = "\x1b[1m";
const FAINT: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";
const NORMAL: &str = "\x1b[0m";

impl Voice {
    pub(super) fn new() -> Self {
        // no-color.org: set to anything but nothing
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { coloured: !unwanted && std::io::stdout().is_terminal() }
    }

    /// What comes before the first step.
    pub(super) fn title(&self, text: &str) -> anyhow::Result<()> {
        output::print(&self.dressed(BOLD, text))
    }

    /// The beginning of a step.
    pub(super) fn step(&self, number: usize, title: &str) -> anyhow::Result<()> {
        output::print(&format!("\n{}", self.dressed(BOLD, &format!("{number}. {title}"))))
    }

    /// Words.
    pub(super) fn say(&self, text: &str) -> anyhow::Result<()> {
        output::print(&indented(3, text))
    }

    /// A command, as if it were typed at `place`.
    pub(super) fn command(&self, place: &str, command: &str) -> anyhow::Result<()> {
        output::print(&indented(5, &self.dressed(BOLD, &format!("{place}$ {command}"))))
    }

    /// What a command printed, or anything else that was seen.
    pub(super) fn seen(&self, text: &str) -> anyhow::Result<()> {
        let lines: Vec<_> = text.lines().map(|line| self.dressed(FAINT, line)).collect();
        output::print(&indented(5, &lines.join("\n")))
    }

    /// Something was as it should be.
    pub(super) fn good(&self, text: &str) -> anyhow::Result<()> {
        output::print(&format!("   {} {text}", self.dressed(GREEN, "ok:")))
    }

    /// A line with its verdict in front: `ok`, `unknown`, `warning` or `fault`.
    pub(super) fn verdict(&self, verdict: &str, text: &str) -> anyhow::Result<()> {
        let colour = match verdict {
            "ok" => GREEN,
            "fault" => RED,
            "warning" => YELLOW,
            _ => FAINT,
        };
        output::print(&format!(
            "{}{:width$} {text}",
            self.dressed(colour, verdict),
            "",
            width = 7 - verdict.len().min(7)
        ))
    }

    /// Something was not.
    pub(super) fn bad(&self, text: &str) -> anyhow::Result<()> {
        output::print(&format!("   {} {}", self.dressed(RED, "NOT SO:"), indented(3, text).trim_start()))
    }

    fn dressed(&self, how: &str, text: &str) -> String {
        if self.coloured && !text.is_empty() { format!("{how}{text}{NORMAL}") } else { text.to_owned() }
    }
}

fn indented(columns: usize, text: &str) -> String {
    let line = |line: &str| if line.is_empty() { String::new() } else { format!("{:columns$}{line}", "") };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go_around_the_words_only() {
        let (plain, coloured) = (Voice { coloured: false }, Voice { coloured: true });
        assert_eq!(plain.dressed(BOLD, "a"), "a");
        assert_eq!(coloured.dressed(BOLD, "a"), "\x1b[1ma\x1b[0m");
        assert_eq!(coloured.dressed(BOLD, ""), "");
    }

    #[test]
    fn every_line_is_indented_but_empty_ones() {
        assert_eq!(indented(2, "a\n\n b\n"), "  a\n\n   b");
    }
}
