//! Whatever text comes as a configuration is taken, or refused with mistakes that lie inside it; nothing panics.

use proptest::prelude::*;

use super::*;

/// A whole good file to break, with every key in it.
const EXAMPLE: &str = include_str!("../../../docs/weft.toml");

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}|[\\[\\]{}=\",.a-z0-9\n #']{0,200}") {
        stays_inside(&text);
    }

    #[test]
    fn a_damaged_file_never_panics(at in 0..EXAMPLE.len(), len in 0usize..40, new in "[\\[\\]{}=\",.a-z0-9\n ]{0,10}") {
        let end = (at + len).min(EXAMPLE.len());
        prop_assume!(EXAMPLE.is_char_boundary(at) && EXAMPLE.is_char_boundary(end));
        stays_inside(&format!("{}{new}{}", &EXAMPLE[..at], &EXAMPLE[end..]));
    }

    #[test]
    fn lines_in_any_order_never_panic(lines in proptest::sample::subsequence(EXAMPLE.lines().collect::<Vec<_>>(), 0..60).prop_shuffle()) {
        stays_inside(&lines.join("\n"));
    }
}

/// That `text` is taken or refused, and what is refused lies inside it and can be shown.
fn stays_inside(text: &str) {
    let Err(errors) = Config::parse("weft.toml", text) else { return };
    assert!(!errors.mistakes().is_empty());
    let lines = text.split('\n').count();
    for mistake in errors.mistakes() {
        let span = mistake.span().unwrap();
        assert!(text.get(span.clone()).is_some(), "{span:?} of {} bytes", text.len());
        assert!((1..=lines).contains(&mistake.report().line.unwrap()));
    }
    assert!(!errors.render(false).is_empty());
}
