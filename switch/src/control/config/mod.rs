//! The configuration: TOML in, [`Config`] out, or every mistake at once with its place and its cure.
//!
//! ```text
//! text --toml--> tree --reader, sections--> Config + Origin --checks--> Config
//!                           |                                 |
//!                           +--------> mistakes <-------------+
//! ```
//! [`types`] is what the rest of weft sees. `reader` walks the tree and goes on after a mistake; `sections` knows the keys
//! of each table, `values` what a single value may be, `checks` what values may not be together. `origin` remembers where
//! everything stood, so that checks of the system (`system`) and of later requests (`change`) can point at the line.
//! The reference for users is `docs/configuration.md`.

mod change;
mod checks;
mod geneve_option;
pub mod mistake;
pub mod origin;
mod reader;
mod sections;
mod system;
pub mod types;
mod values;

#[cfg(test)]
mod accepted;
#[cfg(test)]
mod any_text;
#[cfg(test)]
mod mistakes_shown;

use std::{collections::HashSet, path::Path, sync::Arc};

use miette::NamedSource;
pub use mistake::{ConfigErrors, Mistake, REQUEST, Report};
pub use origin::{Origin, Part, Written};
use toml::de::DeTable;
pub use types::*;

pub(crate) use self::values::nearest;
use self::{reader::Text, values::Wrong};
use crate::sys::opener;

impl Config {
    /// Reads and checks a file. The system is not asked: see [`Config::check_system`].
    ///
    /// # Errors
    /// The file can't be read, or everything that is wrong in it.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let bytes = opener::read_configuration(path).map_err(|error| {
            let help = "name the configuration: weft run FILE, or weft check FILE";
            ConfigErrors::unreadable(path, error, help)
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
            ConfigErrors::unreadable(path, format!("line {line} is not UTF-8"), "TOML files are UTF-8 text")
        })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Checks a text, called `name` in messages.
    ///
    /// # Errors
    /// Everything that is wrong in it; if it is not even TOML, only that.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigErrors> {
        let source = Arc::new(NamedSource::new(name, text.to_owned()));
        let (root, syntax_errors) = DeTable::parse_recoverable(text);
        let mut mistakes = Vec::new();
        let mut reading = Text { source, mistakes: &mut mistakes };
        if !syntax(&mut reading, text, syntax_errors) {
            ConfigErrors::check(mistakes)?;
            return Ok(Self::empty());
        }
        let config = sections::config(&mut reading, root.get_ref());
        mistakes.extend(checks::all(&config));
        ConfigErrors::check(mistakes)?;
        Ok(config)
    }
}

/// Reports what is not TOML, the first of each line: what follows on it is mostly confusion. `false`: the tree is not
/// worth reading. A key that is there twice leaves a good tree, with the first of the two.
fn syntax(reading: &mut Text<'_>, text: &str, errors: Vec<toml::de::Error>) -> bool {
    let mut readable = true;
    let mut lines = HashSet::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let start = span.start.min(text.len());
        let twice = error.message() == "duplicate key";
        readable &= twice;
        if !lines.insert(text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count()) {
            continue;
        }
        let wrong = if twice {
            let key = text.get(span.clone()).unwrap_or_default();
            Wrong::new(format!("`{key}` is there twice"), "keep one of the two")
        } else {
            match error.message().split_once(", expected ") {
                Some((what, wanted)) => Wrong::new(format!("this is not TOML: {what}"), format!("expected {wanted}")),
                None => Wrong::new(format!("this is not TOML: {}", error.message()), ""),
            }
        };
        reading.mistake(span, wrong);
    }
    readable
}
