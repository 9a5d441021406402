//! VXLAN (RFC 7348) as pure functions.
#![forbid(unsafe_code)]

pub mod ecn;
pub mod header;
pub mod vni;

pub use vni::Vni;
