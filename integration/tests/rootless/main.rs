//! weft as an ordinary user: without any capability outside of user namespaces of his own.
//!
//! The tests run as root, since somebody has to build the hosts and the cable between them. What is tested runs as a user that
//! nobody else is, who has no capability, can't get one, and is in no group ([`scene::User`]).

// Clippy takes only what the standard harness runs for tests.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

mod containers;
mod demo;
mod figures;
mod handed;
mod overlay;
mod ports;
mod scene;
mod shell;

use std::process::ExitCode;

use weft_integration::main_with;

fn main() -> ExitCode {
    let ended = main_with(
        [
            overlay::tests(),
            ports::tests(),
            shell::tests(),
            handed::tests(),
            demo::tests(),
            containers::tests(),
            figures::tests(),
        ]
        .into_iter()
        .flatten()
        .collect(),
    );
    scene::clean_up();
    ended
}
