//! The list, and where in the sources an entry of it is.

use std::{fs, ops::Range, path::Path};

use anyhow::{Context, ensure};
use serde::Deserialize;
use weft::compare::{
    case::Case,
    catalogue::{About, cases},
};

const LIST: &str = include_str!("list.toml");

/// A wrong behaviour.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// Its name: what [`super::VARIABLE`] says.
    pub name: String,
    /// What is wrong, in words.
    pub wrong: String,
    /// The file, from the top of the project.
    pub file: String,
    /// The function in it: its name, with its type's in front if there are several of that name.
    pub function: String,
    /// A piece of that function that is there once. The expression that is replaced stands between `«` and `»`; without them
    /// it is the whole piece.
    pub code: String,
    /// The expression in its place.
    pub instead: String,
    /// The case of the catalogue that shows it.
    pub case: String,
}

#[derive(Deserialize)]
struct List {
    mutant: Vec<Mutant>,
}

/// All of them, in the order of the list.
///
/// # Errors
/// The list can't be read; the message says where.
pub fn mutants() -> anyhow::Result<Vec<Mutant>> {
    Ok(toml::from_str::<List>(LIST).context("integration/src/mutants/list.toml")?.mutant)
}

impl Mutant {
    /// Where it is, as people write it: "decide.rs:may_deliver".
    pub fn place(&self) -> String {
        format!("{}:{}", self.file.rsplit('/').next().unwrap_or(&self.file), self.function)
    }

    /// The case that shows it, and which catalogue has it.
    ///
    /// # Errors
    /// None has.
    pub fn case(&self) -> anyhow::Result<(About, Case)> {
        let of = |about| cases(about).into_iter().find(|case| case.name == self.case).map(|case| (about, case));
        let found = of(About::Bridge).or_else(|| of(About::Vxlan));
        found.with_context(|| format!("mutant {}: no catalogue has the case {:?}", self.name, self.case))
    }

    /// Where its expression is in the text of its file, and the function around it.
    ///
    /// # Errors
    /// It is not there, or not once: the sources have changed.
    pub fn find(&self, text: &str) -> anyhow::Result<Found> {
        let function = function(text, &self.function);
        let function =
            function.with_context(|| format!("mutant {}: there is no single {}", self.name, self.place()))?;
        let body = &text[function.clone()];
        let (before, expression) = match self.code.split_once('«') {
            Some((before, rest)) => (before, rest.split('»').next().unwrap_or(rest)),
            None => ("", self.code.as_str()),
        };
        let piece = self.code.replace(['«', '»'], "");
        let mut places = body.match_indices(&piece);
        let place = places.next().map(|(at, _)| function.start + at + before.len()).with_context(|| {
            format!("mutant {}: {} no longer has `{piece}`; change the list as it has changed", self.name, self.place())
        })?;
        ensure!(places.next().is_none(), "mutant {}: {} has `{piece}` more than once", self.name, self.place());
        Ok(Found { expression: place..place + expression.len(), function })
    }

    /// The text of its file in the project at `root`.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(&self, root: &Path) -> anyhow::Result<String> {
        fs::read_to_string(root.join(&self.file)).with_context(|| format!("mutant {}: {}", self.name, self.file))
    }
}

/// Where a mutant is in a file, in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its expression.
    pub expression: Range<usize>,
    /// The function, from its line's beginning to its closing brace.
    pub function: Range<usize>,
}

/// The only function of this name, perhaps with its type's in front, in a file that `rustfmt` wrote: there it ends with a brace
/// as far from the margin as its own line.
fn function(text: &str, name: &str) -> Option<Range<usize>> {
    let (owner, name) = name.rsplit_once("::").map_or((None, name), |(owner, name)| (Some(owner), name));
    let head = format!("fn {name}");
    let is_it = |at: &usize| {
        text[at + head.len()..].starts_with(['(', '<']) && (owner.is_none() || owner_of(&text[..*at]) == owner)
    };
    let mut heads = text.match_indices(&head).map(|(at, _)| at).filter(is_it);
    let (at, None) = (heads.next()?, heads.next()) else { return None };
    let begin = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = &text[begin..];
    let indent = &line[..line.len() - line.trim_start().len()];
    let end = text[at..].find(&format!("\n{indent}}}"))?;
    Some(begin..at + end)
}

/// The type of the last `impl` in a text.
fn owner_of(text: &str) -> Option<&str> {
    let line = text.lines().rev().find(|line| line.starts_with("impl"))?;
    line.trim_end_matches(" {").rsplit(' ').next()?.split('<').next()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, path::PathBuf};

    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
    }

    #[test]
    fn every_mutant_is_in_the_sources_and_has_its_case() {
        let mutants = mutants().unwrap();
        let wrong = |mutant: &Mutant| {
            let found = mutant.read(&root()).and_then(|text| mutant.find(&text).map(|_| ()));
            found.and_then(|()| mutant.case().map(|_| ())).err().map(|error| format!("{error:#}"))
        };
        let wrong: Vec<_> = mutants.iter().filter_map(wrong).collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let names: HashSet<_> = mutants.iter().map(|mutant| &mutant.name).collect();
        assert_eq!(names.len(), mutants.len(), "a name is there twice");
        assert!(mutants.len() >= 20, "{}", mutants.len());
    }

    const TEXT: &str = "impl A {\n    const fn one(self) -> bool {\n        self.x && self.y\n    }\n\n    \
                        fn one_more(self) {\n        self.x && self.y\n    }\n}\n";

    fn mutant(function: &str, code: &str) -> Mutant {
        let words = |word: &str| word.to_owned();
        let (name, wrong, file, instead, case) = (words("m"), words(""), words("a.rs"), words("true"), words(""));
        Mutant { name, wrong, file, function: words(function), code: words(code), instead, case }
    }

    #[test]
    fn an_expression_is_found_in_its_function_alone() {
        let found = mutant("one", "self.x && «self.y»").find(TEXT).unwrap();
        assert_eq!(&TEXT[found.expression], "self.y");
        assert!(TEXT[found.function].starts_with("    const fn one(self)"));
        let found = mutant("one_more", "self.x").find(TEXT).unwrap();
        assert!(found.expression.start > TEXT.find("one_more").unwrap());
    }

    #[test]
    fn functions_of_one_name_are_told_apart_by_their_types() {
        let text = format!("{TEXT}{}", TEXT.replace("impl A", "impl<'b> From<A> for B<'b>"));
        let one = mutant("A::one", "self.x").find(&text).unwrap();
        let other = mutant("B::one", "self.x").find(&text).unwrap();
        assert_eq!(other.expression.start - one.expression.start, text.len() / 2 + 10);
        assert!(mutant("one", "self.x").find(&text).is_err() && mutant("C::one", "self.x").find(&text).is_err());
    }

    #[test]
    fn what_is_not_there_or_not_once_is_said() {
        for (function, code, why) in [
            ("two", "self.x", "no single a.rs:two"),
            ("one", "self.z", "no longer has `self.z`"),
            ("one", "self", "more than once"),
        ] {
            let error = mutant(function, code).find(TEXT).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
