//! Whatever text comes as a configuration is taken, or refused with mistakes that lie inside it; nothing panics.

use proptest::prelude::*;

use super::*;
use crate::control::api::{
    explanation::ExplainRequest,
    live::LiveRequest,
    mdb::MdbRequest,
    request::{BridgeRequest, FdbRequest, FlushRequest, NeighRequest, PortRequest},
};

/// A whole good file to break, with every key in it.
const EXAMPLE: &str = include_str!("../../../docs/weft.toml");

/// And what is taken can be asked for over the API, piece by piece, and is the same then.
#[test]
fn fuzz_config() {
    crate::fuzzing::inputs(|input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        stays_inside(text);
        if let Ok(config) = Config::parse("weft.toml", text) {
            assert!(built_anew(&config).is_none_or(|anew| anew == config), "{config:?}");
        }
    });
}

/// A request over the API, held against a configuration that has everything: taken, or refused in words.
#[test]
fn fuzz_request() {
    let example = Config::parse("weft.toml", EXAMPLE).unwrap();
    crate::fuzzing::inputs(move |input| {
        let Some((kind, json)) = input.split_first() else { return };
        let _ = serde_json::from_slice::<FlushRequest>(json);
        let _ = serde_json::from_slice::<ExplainRequest>(json);
        let _ = serde_json::from_slice::<LiveRequest>(json);
        let Ok(request) = serde_json::from_slice(json) else { return };
        let changed = match kind % 5 {
            0 => example.with_port(&request),
            1 => example.with_bridge(&request),
            2 => example.with_fdb(&request),
            3 => example.with_neigh(&request),
            _ => example.with_mdb(&request),
        };
        match changed {
            Ok(changed) => assert!(built_anew(&changed).is_none_or(|anew| anew == changed), "{changed:?}"),
            Err(errors) => assert!(!errors.render(false).is_empty()),
        }
    });
}

/// The same configuration from its own requests; `None`: something in it needs what comes after it.
fn built_anew(config: &Config) -> Option<Config> {
    fn json(request: impl serde::Serialize) -> serde_json::Value {
        serde_json::to_value(request).unwrap()
    }
    let mut anew = Config { switch: config.switch.clone(), vtep: config.vtep.clone(), ..Config::empty() };
    for bridge in &config.bridges {
        anew = anew.with_bridge(&json(BridgeRequest::from(bridge))).ok()?;
    }
    for port in &config.ports {
        anew = anew.with_port(&json(PortRequest::from(port))).ok()?;
    }
    for entry in &config.fdb {
        anew = anew.with_fdb(&json(FdbRequest::from(entry))).ok()?;
    }
    for neigh in &config.neigh {
        anew = anew.with_neigh(&json(NeighRequest::from(neigh))).ok()?;
    }
    for entry in &config.mdb {
        anew = anew.with_mdb(&json(MdbRequest::from(entry))).ok()?;
    }
    Some(anew)
}

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
