//! Numbers as people read them.

/// A bit rate given in Mbit/s: "940 Mbit/s", "12.3 Gbit/s".
pub(super) fn rate(mbit_per_s: f64) -> String {
    if mbit_per_s >= 1000.0 {
        format!("{} Gbit/s", short(mbit_per_s / 1000.0))
    } else {
        format!("{} Mbit/s", short(mbit_per_s))
    }
}

/// A time given in microseconds: "85 us", "1.2 ms".
pub(super) fn micros(us: f64) -> String {
    if us >= 1e6 {
        format!("{} s", short(us / 1e6))
    } else if us >= 1e3 {
        format!("{} ms", short(us / 1e3))
    } else {
        format!("{} \u{b5}s", short(us))
    }
}

/// A share of one: "94.8 %".
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 99.95 {
        "100 %".to_owned()
    } else if percent >= 10.0 || percent == 0.0 {
        format!("{} %", trimmed(percent, 1))
    } else {
        format!("{} %", trimmed(percent, 2))
    }
}

/// Three digits that matter: "0.123", "1.23", "12.3", "123", "1 230".
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size >= 999.5 => grouped(value.round() as i64),
        _ if size >= 99.95 => trimmed(value, 0),
        _ if size >= 9.995 => trimmed(value, 1),
        _ if size >= 0.995 || size == 0.0 => trimmed(value, 2),
        _ => trimmed(value, 3),
    }
}

/// Thousands apart, as SI has it: "12 345". The space does not break.
pub(super) fn grouped(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = if value < 0 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{a0}');
        }
        text.push(digit);
    }
    text
}

/// "a", "a and b", "a, b and c".
pub(super) fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

fn trimmed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_matter() {
        let expected = [(0.0, "0"), (0.1234, "0.123"), (1.0, "1"), (1.234, "1.23"), (56.78, "56.8"), (940.4, "940")];
        for (value, text) in expected {
            assert_eq!(short(value), text);
        }
        assert_eq!(short(12_345.6), "12\u{a0}346");
        assert_eq!(grouped(-1_234_567), "-1\u{a0}234\u{a0}567");
    }

    #[test]
    fn units_fit_the_size() {
        assert_eq!([rate(940.0), rate(12_340.0)], ["940 Mbit/s", "12.3 Gbit/s"]);
        assert_eq!([micros(85.0), micros(1234.0), micros(2e6)], ["85 \u{b5}s", "1.23 ms", "2 s"]);
        assert_eq!(
            [percent(0.9481), percent(0.0123), percent(1.0), percent(0.0)],
            ["94.8 %", "1.23 %", "100 %", "0 %"]
        );
    }

    #[test]
    fn lists_read_as_sentences_do() {
        let words: Vec<_> = ["a", "b", "c"].map(str::to_owned).into();
        assert_eq!(
            [list(&words[..0]), list(&words[..1]), list(&words[..2]), list(&words)],
            ["", "a", "a and b", "a, b and c"]
        );
    }
}
