//! Frames that are too long for the overlay, between real hosts: who sends them is told, or they arrive all the same.

// What was measured is for whoever reads the tests' output.
#![allow(clippy::print_stdout)]

mod answers;
mod forged;
mod fragments;
mod mss;
mod paths;
mod pmtu;
mod scene;
mod way;

use std::process::ExitCode;

use weft_integration::{Needs, main_with_threads};

/// No namespace of another test begins so.
const PREFIX: &str = "weft-mtu";
/// What every test here needs: namespaces, taps, and programs that aren't weft's.
const NEEDS: Needs = Needs::ROOT_AND_TUN.programs(&["ping", "ip"]);

fn main() -> ExitCode {
    // Those that wait longest go first.
    let tests = [paths::tests(), forged::tests(), answers::tests(), fragments::tests(), mss::tests(), pmtu::tests()];
    main_with_threads(3, tests.into_iter().flatten().collect())
}
