//! What a switch has to know of IP when a frame is too long for a tunnel: tell its sender, cut the packet, or keep TCP from
//! ever sending one. Pure.
//!
//! ```text
//! DF set, IPv6     [`too_big`]   an ICMP error to the sender, in the name of the receiver
//! DF clear, IPv4   [`fragment`]  the packet in pieces, which its receiver puts together
//! TCP              [`mss`]       SYNs that promise no more than fits
//! ```
//!
//! None of these needs an address of the switch's own: the answers come from whom the packet was for, as those of the
//! kernel's vxlan devices do.

pub mod fragment;
#[cfg(test)]
mod fuzz;
pub mod mss;
pub mod too_big;

pub use fragment::{Fragments, Unfragmentable};
pub use too_big::NoAnswer;
