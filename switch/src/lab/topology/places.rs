//! Where a key stands in a lab's file.

use std::{ops::Range, sync::Arc};

use miette::NamedSource;
use toml::de::{DeTable, DeValue};

use crate::control::config::{Mistake, mistake::Place};

/// The way to a value: keys and positions, such as `host`, 1, `interface`, 0, `peer`.
#[derive(Clone, Debug, Default)]
pub(super) struct Way(Vec<Turn>);

#[derive(Clone, Debug)]
enum Turn {
    Key(String),
    Index(usize),
}

impl Way {
    pub(super) fn key(&self, key: &str) -> Self {
        let mut way = self.clone();
        way.0.push(Turn::Key(key.to_owned()));
        way
    }

    pub(super) fn index(&self, index: usize) -> Self {
        let mut way = self.clone();
        way.0.push(Turn::Index(index));
        way
    }

    /// `[[key]]`, the one at `index`.
    pub(super) fn element(&self, key: &str, index: usize) -> Self {
        self.key(key).index(index)
    }
}

/// The mistakes of a file that serde has understood.
pub(super) struct Places<'t> {
    source: &'t Arc<NamedSource<String>>,
    root: DeTable<'t>,
    mistakes: Vec<Mistake>,
}

impl<'t> Places<'t> {
    pub(super) fn new(source: &'t Arc<NamedSource<String>>) -> Self {
        let (root, _) = DeTable::parse_recoverable(source.inner());
        Self { source, root: root.into_inner(), mistakes: Vec::new() }
    }

    /// Notes a mistake at a value; at the table around it if it isn't written.
    pub(super) fn mistake(&mut self, way: &Way, what: impl Into<String>, cure: impl Into<String>) {
        let place = Place::new(self.source, self.span(way));
        self.mistakes.push(Mistake::new(Some(place), what, cure));
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }

    fn span(&self, way: &Way) -> Range<usize> {
        let mut turns = way.0.iter();
        let Some(Turn::Key(first)) = turns.next() else { return 0..0 };
        let Some(mut found) = self.root.get(first.as_str()) else { return 0..0 };
        for turn in turns {
            let next = match (turn, found.get_ref()) {
                (Turn::Key(key), DeValue::Table(table)) => table.get(key.as_str()),
                (Turn::Index(index), DeValue::Array(array)) => array.get(*index),
                _ => None,
            };
            match next {
                Some(next) => found = next,
                None => break,
            }
        }
        found.span()
    }
}
