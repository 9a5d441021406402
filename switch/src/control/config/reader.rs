//! A typed reader over TOML tables that goes on after a mistake.
//!
//! serde stops at the first mistake. This walks the parsed tree itself, asks each table for its keys, notes the place of
//! each value and collects what is wrong; what could not be read is `None`, and its place is marked as broken, so that
//! no later check complains about what follows from it.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use miette::NamedSource;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    mistake::{Mistake, Place},
    origin::Places,
    values::{Wrong, nearest},
};

/// A key that a table may have, with a value that would be right there, as TOML.
pub(super) type Key = (&'static str, &'static str);

/// One text on its way through the reader.
pub(super) struct Text<'m> {
    pub(super) source: Arc<NamedSource<String>>,
    pub(super) mistakes: &'m mut Vec<Mistake>,
}

impl Text<'_> {
    pub(super) fn mistake(&mut self, span: Range<usize>, wrong: Wrong) {
        let place = Place::new(&self.source, span);
        self.mistakes.push(Mistake::new(Some(place), wrong.message, wrong.help));
    }
}

/// Words of the kernel's vxlan devices that weft has no key for, and what there is instead.
const KERNELS_WORDS: [(&str, &str); 2] = [
    ("group", "name each VTEP in `remotes`: weft sends a copy to each (head-end replication)"),
    (
        "localbypass",
        "take it out: a VNI is one bridge of a weft, so there is no other that could get the frame without the wire",
    ),
];

/// One table on its way through the reader.
pub(super) struct TableReader<'r, 'm, 't, 'i> {
    text: &'r mut Text<'m>,
    table: &'t DeTable<'i>,
    keys: &'static [Key],
    places: Places,
}

impl<'r, 'm, 't, 'i> TableReader<'r, 'm, 't, 'i> {
    /// Begins with `table`, called `title` in messages, and refuses keys other than `keys`.
    pub(super) fn new(
        text: &'r mut Text<'m>,
        title: &str,
        header: Range<usize>,
        table: &'t DeTable<'i>,
        keys: &'static [Key],
    ) -> Self {
        let mut places = Places::new(&text.source, header);
        for key in table.keys().filter(|key| keys.iter().all(|(known, _)| known != key.get_ref())) {
            let written = key.get_ref();
            let kernels = KERNELS_WORDS.iter().find(|(word, _)| word == written);
            let help = match nearest(written, keys.iter().map(|(known, _)| *known)) {
                _ if kernels.is_some() => kernels.map_or("", |(_, instead)| instead).to_owned(),
                Some(known) => {
                    // so `known` is not missing, only misspelt
                    places.mark_broken(known);
                    format!("did you mean `{known}`?")
                }
                None => format!("{title} has {}", list(keys.iter().map(|(known, _)| *known))),
            };
            text.mistake(key.span(), Wrong::new(format!("{title} has no key `{written}`"), help));
        }
        Self { text, table, keys, places }
    }

    /// Where everything stood.
    pub(super) fn finish(self) -> Places {
        self.places
    }

    /// Whether the table has this key, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether a mistake about this key was found already.
    pub(super) fn is_broken(&self, key: &str) -> bool {
        self.places.is_broken(key)
    }

    /// Reports something about a key or, if it is not there, about the table.
    pub(super) fn refuse(&mut self, key: &'static str, wrong: Wrong) {
        let place = self.places.of(key);
        self.text.mistakes.push(Mistake::new(place, wrong.message, wrong.help));
        self.places.mark_broken(key);
    }

    /// A string, made into something.
    pub(super) fn string<T>(&mut self, key: &'static str, make: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        self.value(key, "a string", |value| value.as_str().map(make))
    }

    /// A string that must be there. What is wrong with it is reported; the text is kept as it is, for others refer to it.
    pub(super) fn name(&mut self, key: &'static str, make: impl FnOnce(&str) -> Result<String, Wrong>) -> String {
        self.require(key);
        let as_it_is = self.table.get(key).and_then(|value| value.get_ref().as_str()).unwrap_or_default();
        self.string(key, make).unwrap_or_else(|| as_it_is.to_owned())
    }

    /// An integer, made into something.
    pub(super) fn number<T>(&mut self, key: &'static str, make: impl FnOnce(i64) -> Result<T, Wrong>) -> Option<T> {
        self.value(key, "an integer", |value| integer(value).map(make))
    }

    /// A truth value.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.value(key, "true or false", |value| value.as_bool().map(Ok)).unwrap_or(default)
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.value(key, "a string", |value| value.as_str().map(|word| one_of(key, word, words)))
    }

    /// An integer, made into something, or a word instead.
    pub(super) fn number_or_word<T: Copy>(
        &mut self,
        key: &'static str,
        make: impl FnOnce(i64) -> Result<T, Wrong>,
        word: (&str, T),
    ) -> Option<T> {
        self.value(key, &format!("an integer or \"{}\"", word.0), |value| match (value.as_str(), integer(value)) {
            (Some(text), _) if text == word.0 => Some(Ok(word.1)),
            (_, Some(number)) => Some(make(number)),
            (_, _) => None,
        })
    }

    /// A truth value or a list of integers, made into something.
    pub(super) fn flag_or_numbers<T>(
        &mut self,
        key: &'static str,
        make: impl FnOnce(Result<bool, Vec<i64>>) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.value(key, "true, false or a list of integers", |value| {
            if let Some(flag) = value.as_bool() {
                return Some(make(Ok(flag)));
            }
            let numbers = value.as_array()?.iter().map(|element| integer(element.get_ref())).collect::<Option<_>>()?;
            Some(make(Err(numbers)))
        })
    }

    /// A list of strings, each made into something. Those that are wrong are left out.
    pub(super) fn strings<T>(
        &mut self,
        key: &'static str,
        mut make: impl FnMut(&str) -> Result<T, Wrong>,
    ) -> Option<Vec<T>> {
        let elements = self.value(key, "a list of strings", |value| value.as_array().map(Ok))?;
        let mut made = Vec::new();
        for element in elements.iter() {
            let result = match element.get_ref().as_str() {
                Some(text) => make(text),
                None => Err(self.wrong_type(key, "a list of strings", element.get_ref())),
            };
            match result {
                Ok(value) => {
                    self.places.write(format!("{key}.{}", made.len()), element.span());
                    made.push(value);
                }
                Err(wrong) => {
                    self.text.mistake(element.span(), wrong);
                    self.places.mark_broken(key);
                }
            }
        }
        Some(made)
    }

    /// A list of integers, each made into something.
    pub(super) fn numbers<T>(&mut self, key: &'static str, make: impl Fn(i64) -> Result<T, Wrong>) -> Option<Vec<T>> {
        self.value(key, "a list of integers", |value| {
            let numbers: Vec<_> =
                value.as_array()?.iter().map(|element| integer(element.get_ref())).collect::<Option<_>>()?;
            Some(numbers.into_iter().map(make).collect())
        })
    }

    /// A list of exactly two integers, each made into something.
    pub(super) fn pair<T>(&mut self, key: &'static str, make: impl Fn(i64) -> Result<T, Wrong>) -> Option<(T, T)> {
        self.value(key, "a list of two integers", |value| {
            let elements: Vec<_> = value.as_array()?.iter().collect();
            let [first, second] = elements.as_slice() else { return None };
            let (first, second) = (integer(first.get_ref())?, integer(second.get_ref())?);
            Some(make(first).and_then(|first| Ok((first, make(second)?))))
        })
    }

    /// A table of strings whose keys and values are both made into something, in the order of the text. Entries that are
    /// wrong are left out.
    pub(super) fn map<K, V>(
        &mut self,
        key: &'static str,
        make_key: impl Fn(&str) -> Result<K, Wrong>,
        make_value: impl Fn(&str) -> Result<V, Wrong>,
    ) -> Option<Vec<(K, V)>> {
        let table = self.value(key, "a table of strings", |value| value.as_table().map(Ok))?;
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let mut made = Vec::new();
        for (name, value) in entries {
            let made_key = make_key(name.get_ref()).map_err(|wrong| (name.span(), wrong));
            let text = value.get_ref().as_str();
            let made_value = text
                .map_or_else(|| Err(self.wrong_type(key, "a table of strings", value.get_ref())), &make_value)
                .map_err(|wrong| (value.span(), wrong));
            match (made_key, made_value) {
                (Ok(made_key), Ok(made_value)) => {
                    self.places.write(format!("{key}.{}", made.len()), value.span());
                    made.push((made_key, made_value));
                }
                (made_key, made_value) => {
                    for (span, wrong) in made_key.err().into_iter().chain(made_value.err()) {
                        self.text.mistake(span, wrong);
                    }
                    self.places.mark_broken(key);
                }
            }
        }
        Some(made)
    }

    /// A table or a list of tables, each taken by `take`. What it refuses is reported.
    pub(super) fn records(&mut self, key: &'static str, mut take: impl FnMut(&DeTable<'i>) -> Result<(), Wrong>) {
        let records = self.value(key, "a table or a list of tables", |value| {
            if let Some(table) = value.as_table() {
                return Some(Ok(vec![(None, table)]));
            }
            let record =
                |element: &'t Spanned<DeValue<'i>>| Some((Some(element.span()), element.get_ref().as_table()?));
            value.as_array()?.iter().map(record).collect::<Option<Vec<_>>>().map(Ok)
        });
        for (span, table) in records.into_iter().flatten() {
            match (take(table), span) {
                (Ok(()), _) => {}
                (Err(wrong), None) => self.refuse(key, wrong),
                (Err(wrong), Some(span)) => {
                    self.text.mistake(span, wrong);
                    self.places.mark_broken(key);
                }
            }
        }
    }

    /// Reports that a key is not there, if it isn't.
    pub(super) fn require(&mut self, key: &'static str) {
        if self.has(key) || self.is_broken(key) {
            return;
        }
        let help = format!("add it, such as: {}", self.example(key));
        self.refuse(key, Wrong::new(format!("`{key}` is missing"), help));
    }

    /// Takes the value of a key; `make` says `None` to a value of the wrong type, which should be `wanted`.
    fn value<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        make: impl FnOnce(&'t DeValue<'i>) -> Option<Result<T, Wrong>>,
    ) -> Option<T> {
        debug_assert!(self.keys.iter().any(|(known, _)| *known == key), "{key} is missing in the list of keys");
        let value = self.table.get(key)?;
        self.places.write(key, value.span());
        let result = make(value.get_ref()).unwrap_or_else(|| Err(self.wrong_type(key, wanted, value.get_ref())));
        result.map_err(|wrong| self.refuse(key, wrong)).ok()
    }

    fn wrong_type(&self, key: &str, wanted: &str, value: &DeValue<'_>) -> Wrong {
        let message = format!("`{key}` must be {wanted}, and this is {}", describe(value));
        Wrong::new(message, format!("such as: {}", self.example(key)))
    }

    fn example(&self, key: &str) -> String {
        let example = self.keys.iter().find(|(known, _)| *known == key).map_or("", |(_, example)| example);
        format!("{key} = {example}")
    }
}

/// The value of a word, or which words there are.
fn one_of<T: Copy>(key: &str, word: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    let found = words.iter().find(|(known, _)| *known == word);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known = || words.iter().map(|(known, _)| *known);
        let help = match nearest(word, known()) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => known().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or "),
        };
        Wrong::new(format!("`{key}` can't be \"{word}\""), help)
    })
}

/// `a`, `b` and `c`, each in backticks.
pub(super) fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut words: Vec<_> = words.map(|word| format!("`{word}`")).collect();
    let last = words.pop().unwrap_or_default();
    if words.is_empty() { last } else { format!("{} and {last}", words.join(", ")) }
}

/// A TOML integer. One that does not fit 64 bits is the greatest or least that does: no key takes either.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    let beyond = if integer.as_str().starts_with('-') { i64::MIN } else { i64::MAX };
    Some(i64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(beyond))
}

/// What a value is, for "this is ...".
pub(super) fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The tables of an array of tables, `[[title]]`; anything else is reported.
pub(super) fn tables<'t, 'i>(
    text: &mut Text<'_>,
    root: &'t DeTable<'i>,
    name: &'static str,
    unclear: &mut BTreeSet<&'static str>,
) -> Vec<(Range<usize>, &'t DeTable<'i>)> {
    let Some(value) = root.get(name) else { return Vec::new() };
    let mut wrong = |span: Range<usize>, value: &DeValue<'_>| {
        unclear.insert(name);
        let help = format!("begin each with `[[{name}]]`");
        text.mistake(
            span,
            Wrong::new(format!("`{name}` must be a list of tables, and this is {}", describe(value)), help),
        );
    };
    let Some(elements) = value.get_ref().as_array() else {
        wrong(value.span(), value.get_ref());
        return Vec::new();
    };
    let mut tables = Vec::new();
    for element in elements.iter() {
        match element.get_ref().as_table() {
            Some(table) => tables.push((element.span(), table)),
            None => wrong(element.span(), element.get_ref()),
        }
    }
    tables
}

/// The table `[title]`; anything else is reported.
pub(super) fn table<'t, 'i>(
    text: &mut Text<'_>,
    root: &'t DeTable<'i>,
    name: &'static str,
    unclear: &mut BTreeSet<&'static str>,
) -> Option<(Range<usize>, &'t DeTable<'i>)> {
    let value: &Spanned<DeValue<'i>> = root.get(name)?;
    let table = value.get_ref().as_table();
    if table.is_none() {
        unclear.insert(name);
        let message = format!("`{name}` must be one table, and this is {}", describe(value.get_ref()));
        text.mistake(value.span(), Wrong::new(message, format!("begin it with `[{name}]`, once")));
    }
    Some((value.span(), table?))
}
