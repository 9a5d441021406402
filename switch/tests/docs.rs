//! The documents beside the code say what the code says.
#![allow(clippy::unwrap_used)] // a test that can not run fails

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use weft::{
    bridge::DropReason,
    compare::ruling::{Ruling, ovs},
    control::config::Config,
};

/// The top of the project.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The fenced blocks of a language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_ledgers_page_lists_every_drop_reason_in_order() {
    let rows = DropReason::ALL.iter().map(|reason| format!("| `{}` | {} |\n", reason.name(), reason.explanation()));
    let table = format!("| name | when |\n|---|---|\n{}", rows.collect::<String>());
    assert!(read("switch/docs/ledger.md").ends_with(&table), "the end of ledger.md must be:\n{table}");
}

#[test]
fn the_guide_lists_what_open_vswitch_does_otherwise() {
    let row = |ruling: &Ruling| {
        let Ruling { question, theirs, weft, reason, .. } = ruling;
        format!("| {question} | {theirs} | {weft} | {reason} |\n")
    };
    let rows: String = ovs::RULINGS.iter().map(row).collect();
    let table = format!("| what | Open vSwitch | weft | since |\n|---|---|---|---|\n{rows}\n");
    assert!(read("switch/docs/compare.md").contains(&table), "compare.md must have:\n{table}");
}

/// Whoever adds a row names what proves it.
#[test]
fn every_answer_to_a_threat_has_a_test() {
    let page = read("switch/docs/threats.md");
    let sources = ["switch/src", "switch/tests", "vxlan", "integration"];
    let code: String = sources.iter().flat_map(|folder| rust_files(&root().join(folder))).collect();
    let drops: BTreeSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    let keys = read("switch/docs/configuration.md");
    let mut count = 0;
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let &[_, answer, tighter, tests] = cells.as_slice() else { continue };
        if tests == "tests" {
            continue;
        }
        let names: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "nothing proves this row:\n{row}");
        for name in names {
            count += 1;
            let is_there = code.contains(&format!("fn {name}(")) || code.contains(&format!("\"{name}\""));
            assert!(is_there, "there is no test {name}:\n{row}");
        }
        // What looks like a name of the ledger or of the configuration is one.
        for word in [answer, tighter].into_iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
            let is_name = word.contains('_') && word.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
            let is_known = drops.contains(word) || keys.contains(&format!("| `{word}` |"));
            assert!(!is_name || is_known, "there is no drop and no key `{word}`:\n{row}");
        }
    }
    assert!(count > 60, "{count} tests are named");
}

/// The text of every file of Rust below a folder.
fn rust_files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.flat_map(|path| match path.extension() {
        _ if path.is_dir() && path.file_name().is_some_and(|name| name != "target") => rust_files(&path),
        Some(extension) if extension == "rs" => vec![fs::read_to_string(&path).unwrap()],
        Some(_) | None => vec![],
    });
    texts.collect()
}

#[test]
fn configurations_in_the_guides_are_good() {
    let readme = read("README.md");
    let readme = blocks(&readme, "toml");
    assert!(readme.len() >= 2, "two hosts");
    for text in readme {
        Config::parse("README.md", text).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    }
}

#[test]
fn the_maps_name_every_module_and_no_other() {
    for (file, heading) in [("README.md", "## Map"), ("switch/docs/architecture.md", "## Floors")] {
        let text = read(file);
        let map = text.split(heading).nth(1).unwrap().split("\n## ").next().unwrap();
        // "| 0: `wire` | ..." and "| 0 | `wire` | ..."
        let rows = map.lines().filter(|row| row.starts_with('|') && row[2..].starts_with(|c: char| c.is_ascii_digit()));
        let named: BTreeSet<_> = rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect();
        assert_eq!(named, modules("switch/src"), "{file}");
    }
}

/// The modules of a crate: folders, and files of the first level.
fn modules(source: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(source)).unwrap().map(|entry| entry.unwrap().path());
    let names = entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    names.filter(|name| !["lib", "main"].contains(&name.as_str())).collect()
}

#[test]
fn the_fuzzers_page_lists_every_target_and_no_other() {
    let page = read("integration/fuzz/README.md");
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | ").map(|(target, _)| target.to_owned()));
    let rows: BTreeSet<_> = rows.filter(|target| !target.contains(['/', '.']) && target != "run").collect();
    let corpora = fs::read_dir(root().join("integration/fuzz/corpus")).unwrap();
    let corpora = corpora.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
    assert_eq!(rows, corpora.collect());
    let mut targets = BTreeSet::new();
    tests_of(&root().join("switch/src"), &mut targets);
    assert_eq!(rows, targets);
}

/// The names of all tests `fuzz_NAME` in a folder.
fn tests_of(folder: &Path, names: &mut BTreeSet<String>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            tests_of(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            names.extend(text.split("fn fuzz_").skip(1).map(|rest| rest.split('(').next().unwrap().to_owned()));
        }
    }
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let folder = root().join("switch/docs");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.extend(["README.md", "integration/fuzz/README.md"].map(|file| root().join(file)));
    let mut count = 0;
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(file).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap();
            if !path.is_empty() && !path.contains("://") {
                count += 1;
                assert!(file.parent().unwrap().join(path).exists(), "{}: {target}", file.display());
            }
        }
    }
    assert!(count > 0);
}
