//! Ports against the kernel: taps and packet sockets in namespaces of their own.
//!
//! Each test runs on a thread inside a fresh nameless namespace, which ends with the test, whatever becomes of it. What a
//! machine lacks makes a test *ignored*, with the reason printed; with `WEFT_REQUIRE_ALL=1` that is a failure.
#![expect(clippy::unwrap_used, reason = "clippy takes a test without cfg(test) for a program")]

mod packet;
mod plain_tap;
mod scene;
mod tap;

use std::{env, process::ExitCode};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use scene::Need;
use weft::sys::netns::Netns;

fn main() -> ExitCode {
    let trials = tap::TESTS.iter().chain(plain_tap::TESTS).chain(packet::TESTS).map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Name, what it takes, and the test itself, which panics if it fails.
type Test = (&'static str, &'static [Need], fn());

fn trial(&(name, needs, test): &Test) -> Trial {
    Trial::ignorable_test(name, move || {
        if let Some(lack) = needs.iter().find_map(|need| need.lack()) {
            return if env::var_os("WEFT_REQUIRE_ALL").is_some_and(|value| value == "1") {
                Err(Failed::from(lack))
            } else {
                Ok(Completion::ignored_with(lack))
            };
        }
        let namespace = Netns::create().map_err(|error| Failed::from(error.to_string()))?;
        namespace
            .within(|| {
                scene::quiet();
                test();
            })
            .map_err(|error| Failed::from(error.to_string()))?;
        Ok(Completion::Completed)
    })
}
