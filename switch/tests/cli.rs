//! The `weft` binary from outside: what it prints and how it exits.
#![allow(clippy::unwrap_used)] // a test that can not run fails

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Runs `weft` with these arguments.
fn weft(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weft")).args(args).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/weft.toml")
}

/// A file with this text; it goes when the directory does.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weft.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (directory, path)
}

#[test]
fn a_good_configuration_is_shown_and_exits_0() {
    let (_directory, path) = file("[[bridge]]\nname = \"blue\"\n[[port]]\nname = \"eth0\"\nbridge = \"blue\"\n");
    let output = weft(&["check", &path]);
    assert_eq!((code(&output), stderr(&output)), (0, String::new()));
    assert!(stdout(&output).contains("eth0  tap   blue"), "{}", stdout(&output));
}

#[test]
fn the_example_is_good_on_any_machine() {
    let output = weft(&["check", "--offline", "--json", example().to_str().unwrap()]);
    assert_eq!(code(&output), 0);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["good"], true);
    assert_eq!(answer["plan"]["bridge"][0]["name"], "blue");
}

#[test]
fn a_bad_configuration_shows_every_mistake_and_exits_2() {
    let (_directory, path) =
        file("[[bridge]]\nname = \"blue\"\nremote = []\n[[port]]\nname = \"a\"\nbridge = \"bleu\"\n");
    let output = weft(&["check", &path]);
    assert_eq!((code(&output), stdout(&output)), (2, String::new()));
    let shown = stderr(&output);
    assert!(shown.contains("did you mean `remotes`?") && shown.contains("did you mean `blue`?"), "{shown}");
    assert!(shown.contains(&format!("{path}:3:1")), "{shown}");

    let output = weft(&["check", "--json", &path]);
    assert_eq!(code(&output), 2);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["mistakes"][1]["line"], 6);
    assert_eq!(answer["mistakes"][1]["message"], "there is no bridge `bleu`");
    assert_eq!(answer["mistakes"][1]["file"], path);

    assert_eq!(code(&weft(&["run", &path])), 2);
}

#[test]
fn namespaces_are_looked_up_unless_the_file_is_for_elsewhere() {
    let text = "[[bridge]]\nname = \"b\"\n[[port]]\nname = \"a\"\nnetns = \"weft-no-such-namespace\"\nbridge = \"b\"\n";
    let (_directory, path) = file(text);
    let output = weft(&["check", &path]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("there is no network namespace `weft-no-such-namespace`"));
    assert_eq!(code(&weft(&["check", "--offline", &path])), 0);
}

#[test]
fn a_switch_that_does_not_run_is_no_usage_error() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("weft.sock");
    let output = weft(&["show", "ports", "--socket", socket.to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    let expected = format!("weft: no weft answers at {}; is it running? (--socket PATH)\n", socket.display());
    assert_eq!(stderr(&output), expected);
}

#[test]
fn bad_usage_exits_2_and_help_0() {
    assert_eq!(code(&weft(&["show", "cables"])), 2);
    assert_eq!(code(&weft(&["check"])), 2);
    assert_eq!(code(&weft(&["port", "add", "a", "--trunk", "10=b,10=c"])), 2);
    assert_eq!(code(&weft(&[])), 2);
    let help = weft(&["--help"]);
    assert_eq!(code(&help), 0);
    assert!(stdout(&help).contains("Validate a configuration"));
}
