//! System calls that need unsafe code, and the few safe ones that go with them.
//!
//! Everything here takes typed arguments and returns owned descriptors, values or [`std::io::Error`]; no raw descriptor and
//! no libc type leaves this floor. Functions that make or open something do it in the calling thread's network namespace.
//! [`simd`] is no system call, but unsafe as well.

pub mod affinity;
pub(crate) mod error_queue;
pub mod interface;
mod memory;
pub mod netns;
pub mod packet_socket;
pub mod scheduling;
pub mod simd;
pub mod tun;
pub(crate) mod udp;

pub(crate) use memory::{prefer_huge_pages, prefetch};
