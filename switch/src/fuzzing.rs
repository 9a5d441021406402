//! Tests that a fuzzer can drive: `fuzz_NAME` is one, and `integration/fuzz/corpus/NAME.hex` holds the inputs that it found.
//!
//! By default such a test tries those inputs, and those in `found/NAME.hex`, which it once failed with. Built with `--cfg fuzzing` it hands itself to libFuzzer, which makes up inputs and
//! keeps those that reach code which none did before: `integration/fuzz/run`, and the README beside it.

use std::panic::RefUnwindSafe;

use serde_json::Value;

/// Tries `check`, a closure in a test named `fuzz_NAME`, on every input of its corpus.
///
/// # Panics
/// If `check` does, or if the corpus is missing or empty.
#[cfg(not(fuzzing))]
pub(crate) fn inputs<C: Fn(&[u8]) + RefUnwindSafe>(check: C) {
    use crate::wire::hex;

    let name = name_of(&check);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../integration/fuzz");
    let corpus = format!("{folder}/corpus/{name}.hex");
    let mut lines = std::fs::read_to_string(&corpus).unwrap_or_else(|error| panic!("{corpus}: {error}"));
    assert!(!lines.is_empty(), "{corpus} has no input");
    lines += &std::fs::read_to_string(format!("{folder}/found/{name}.hex")).unwrap_or_default();
    for line in lines.lines() {
        let input = hex::decode(line.as_bytes()).unwrap_or_else(|| panic!("{name}: not hexadecimal: {line}"));
        if let Err(panic) = std::panic::catch_unwind(|| check(&input)) {
            eprintln!("{name} does not stand this input: {line}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Lets libFuzzer try `check`; the process ends when that does.
#[cfg(fuzzing)]
pub(crate) fn inputs<C: Fn(&[u8]) + RefUnwindSafe>(check: C) {
    eprintln!("fuzzing {}", name_of(&check));
    bolero::check!().for_each(|input: &[u8]| check(input));
}

/// `NAME`, if the type is that of a closure in a function `fuzz_NAME`.
fn name_of<C>(_: &C) -> &'static str {
    let closure = std::any::type_name::<C>();
    let name = closure.split("::").find_map(|part| part.strip_prefix("fuzz_"));
    name.unwrap_or_else(|| panic!("{closure} is not in a function fuzz_NAME"))
}

/// An input read as a script: choices, numbers and pieces of bytes, one after the other. At its end everything is zero and
/// empty, so that each input is a script.
pub(crate) struct Script<'i>(&'i [u8]);

impl<'i> Script<'i> {
    pub(crate) const fn new(input: &'i [u8]) -> Self {
        Self(input)
    }

    /// Whether it is at its end.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// One of `choices`, of which there are at most 256.
    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.u8()) % choices.len()]
    }

    /// As many bytes as the next one says.
    pub(crate) fn piece(&mut self) -> &'i [u8] {
        let len = usize::from(self.u8()).min(self.0.len());
        let (piece, rest) = self.0.split_at(len);
        self.0 = rest;
        piece
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'i [u8] {
        std::mem::take(&mut self.0)
    }
}

/// Changes a JSON value in one place: takes something out of it, doubles it, puts another thing in its place.
pub(crate) fn change_json(value: &mut Value, script: &mut Script<'_>) {
    let count = nodes(value);
    let (place, what, other) = (usize::from(script.u16()) % count, script.u8(), usize::from(script.u16()) % count);
    let other = node(value, &mut { other }).cloned().unwrap_or_default();
    let new = match what % 8 {
        0 => other,
        1 => Value::Null,
        2 => Value::from(script.u8()),
        3 => Value::from(u64::MAX >> (script.u8() % 64)),
        4 => Value::from(String::from_utf8_lossy(script.piece())),
        5 => Value::from(script.bool()),
        what => {
            let Some(parent) = node(value, &mut { place }) else { return };
            match parent {
                Value::Array(items) if !items.is_empty() => {
                    let at = usize::from(script.u8()) % items.len();
                    let item = items.swap_remove(at);
                    if what == 6 {
                        items.extend([item.clone(), item]);
                    }
                }
                Value::Object(fields) => {
                    if let Some(key) = fields.keys().nth(usize::from(script.u8()) % fields.len().max(1)).cloned() {
                        fields.remove(&key);
                    }
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {}
            }
            return;
        }
    };
    if let Some(place) = node(value, &mut { place }) {
        *place = new;
    }
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Object(fields) => fields.values().map(nodes).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// The node of this number, counted from the outermost inwards.
fn node<'v>(value: &'v mut Value, number: &mut usize) -> Option<&'v mut Value> {
    if *number == 0 {
        return Some(value);
    }
    *number -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| node(item, number)),
        Value::Object(fields) => fields.values_mut().find_map(|field| node(field, number)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}
