//! weft beside switches that are nobody's here: Open vSwitch's userspace datapath, the kernel's VLAN-aware bridge and its
//! Geneve device, and tshark and other people's captures as witnesses of what goes over the wire.
//!
//! Each test builds a lab of its own. Hosts in it are namespaces whose kernel does the talking.

// Clippy takes only what the standard harness runs for tests.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result, clippy::print_stdout)]

mod capture;
mod checksums;
mod decoded;
mod encapsulations;
mod full_kernel;
mod ovs;
mod replay;
mod traffic;
mod trunk;
mod tshark;

use std::process::ExitCode;

use weft_integration::main_with_threads;

/// No namespace of another test begins so.
const PREFIX: &str = "weft-peers";

fn main() -> ExitCode {
    if full_kernel::is_inside() {
        // Nothing else is to be run there: the machine is slow.
        return main_with_threads(1, full_kernel::tests());
    }
    // The longest goes first.
    let tests = [
        full_kernel::tests(),
        ovs::tests(),
        encapsulations::tests(),
        checksums::tests(),
        decoded::tests(),
        replay::tests(),
    ];
    main_with_threads(2, tests.into_iter().flatten().collect())
}
