//! `geneve_option`: what is sent behind the Geneve header of each frame, one option or several.

use toml::de::{DeTable, DeValue};
use weft_vxlan::geneve::{GeneveOption, InvalidOption, MAX_OPTION_DATA_LEN, MAX_OPTIONS_LEN, OptionList};

use super::{
    reader::{describe, integer, list},
    values::{Wrong, nearest, within},
};
use crate::wire::hex;

const KEYS: [&str; 3] = ["class", "type", "data"];

const EXAMPLE: &str = "such as: geneve_option = { class = 0xff01, type = 1, data = \"c0ffee00\" }";

/// Puts the option that a table describes behind the others.
pub(super) fn push(options: &mut OptionList, table: &DeTable<'_>) -> Result<(), Wrong> {
    let mut unknown = table.keys().map(|key| key.get_ref()).filter(|key| KEYS.iter().all(|known| known != key));
    if let Some(key) = unknown.next() {
        let help = match nearest(key, KEYS) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("it has {}", list(KEYS.into_iter())),
        };
        return Err(Wrong::new(format!("`geneve_option` has no key `{key}`"), help));
    }
    let class = number(table, "class", i64::from(u16::MAX))? as u16;
    let kind = number(table, "type", i64::from(u8::MAX))? as u8;
    let data = match table.get("data").map(|value| value.get_ref()) {
        None => vec![],
        Some(DeValue::String(text)) => bytes(text)?,
        Some(other) => return Err(wrong_type("data", "a string", other)),
    };
    options.push(GeneveOption { class, kind, data: &data }).map_err(|invalid| invalid_option(invalid, &data))
}

fn number(table: &DeTable<'_>, key: &str, most: i64) -> Result<i64, Wrong> {
    let Some(value) = table.get(key) else {
        return Err(Wrong::new(format!("`{key}` of a Geneve option is missing"), EXAMPLE));
    };
    let Some(number) = integer(value.get_ref()) else { return Err(wrong_type(key, "an integer", value.get_ref())) };
    within(number, 0, most).map_err(|wrong| Wrong { message: format!("`{key}` can't be {number}"), ..wrong })
}

fn wrong_type(key: &str, wanted: &str, value: &DeValue<'_>) -> Wrong {
    let message = format!("`{key}` of a Geneve option must be {wanted}, and this is {}", describe(value));
    Wrong::new(message, EXAMPLE)
}

fn bytes(text: &str) -> Result<Vec<u8>, Wrong> {
    let bytes = hex::decode(text.as_bytes());
    bytes.ok_or_else(|| Wrong::new(format!("`{text}` is not hexadecimal"), "two digits a byte, such as \"c0ffee00\""))
}

fn invalid_option(invalid: InvalidOption, data: &[u8]) -> Wrong {
    let help = match invalid {
        InvalidOption::PartOfAWord { .. } => {
            format!(
                "whole words of 4 bytes: \"{}\" would do",
                hex::encode(&[data, &[0; 3][..padding(data.len())]].concat())
            )
        }
        InvalidOption::DataTooLong { .. } => {
            format!("at most {MAX_OPTION_DATA_LEN} bytes; several options can have more")
        }
        InvalidOption::TooMany { .. } => {
            format!("at most {MAX_OPTIONS_LEN} bytes, of which each option takes 4 beside its data")
        }
    };
    Wrong::new(invalid.to_string(), help)
}

/// Bytes that are missing to a whole word.
const fn padding(len: usize) -> usize {
    len.next_multiple_of(4) - len
}
