//! What is told of the results: tables for people, JSON for programs, a drawing.

pub(crate) mod json;
pub(crate) mod svg;
pub(crate) mod tables;

use super::{figures::Figure, machine::Machine, options::Options, results::Results};

/// Everything there is to tell.
pub(crate) struct Report<'a> {
    pub(crate) options: &'a Options,
    pub(crate) machine: Machine,
    pub(crate) results: &'a Results,
    pub(crate) figures: Vec<Figure>,
}

/// A number with three digits that mean something, or all of those before the point.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// "1 round", "3 rounds".
fn rounds(count: usize) -> String {
    format!("{count} round{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_mean_something() {
        let texts = [0.0, 0.128, 9.994, 9.996, 99.94, 99.96, 1234.5, -9.996].map(short);
        assert_eq!(texts, ["0.00", "0.13", "9.99", "10.0", "99.9", "100", "1234", "-10.0"]);
    }
}
