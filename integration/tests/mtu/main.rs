//! Frames that are too long for the overlay, between real hosts: who sends them is told, or they arrive all the same.

mod answers;
mod fragments;
mod mss;
mod pmtu;
mod scene;

use std::process::ExitCode;

use weft_integration::{Needs, main_with_threads};

/// No namespace of another test begins so.
const PREFIX: &str = "weft-mtu";
/// What every test here needs: namespaces, taps, and programs that aren't weft's.
const NEEDS: Needs = Needs::ROOT_AND_TUN.programs(&["ping", "ip"]);

fn main() -> ExitCode {
    let tests = [answers::tests(), fragments::tests(), mss::tests(), pmtu::tests()];
    main_with_threads(2, tests.into_iter().flatten().collect())
}
