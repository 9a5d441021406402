//! weft and the kernel's own vxlan devices and bridges in one overlay.
//!
//! The statements are those of the kernel's selftests `vxlan_bridge_1d` and `vxlan_reserved`, with weft as the device under
//! test, and of RFC 7348 where the kernel differs from it.

mod decapsulation;
mod encapsulation;
mod flood;
mod learning;
mod pair;
mod peer;
mod reserved;
mod scene;
mod three;

use std::process::ExitCode;

use weft_integration::{Needs, main_with_threads};

/// No namespace of another test begins so.
const PREFIX: &str = "weft-vx";
/// What every test here needs: namespaces, taps, and programs that aren't weft's.
const NEEDS: Needs = Needs::ROOT_AND_TUN.programs(&["ping", "ethtool"]);

fn main() -> ExitCode {
    let tests = [
        peer::tests(),
        flood::tests(),
        encapsulation::tests(),
        decapsulation::tests(),
        learning::tests(),
        reserved::tests(),
    ];
    main_with_threads(2, tests.into_iter().flatten().collect())
}
