//! System calls that need unsafe code, and the few safe ones that go with them.
//!
//! Everything here takes typed arguments and returns owned descriptors, values or [`std::io::Error`]; no raw descriptor and
//! no libc type leaves this floor. Functions that make or open something do it in the calling thread's network namespace,
//! or in the one that it visits ([`inside`]), by the [`opener`] if there is one.
//! [`simd`] is no system call, but unsafe as well.

pub mod affinity;
pub mod bpf;
pub(crate) mod error_queue;
pub mod handed_tap;
pub mod inherited;
pub mod inside;
pub mod interface;
mod memory;
pub mod netns;
pub mod opener;
pub mod packet_socket;
pub mod scheduling;
pub mod seccomp;
pub mod signals;
pub mod simd;
pub(crate) mod socket_owner;
pub mod tun;
pub(crate) mod udp;
pub mod userns;
pub mod users;

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

pub(crate) use memory::{prefer_huge_pages, prefetch};

/// Gives a descriptor to a type of a library that has no safe way to take one.
#[allow(unsafe_code)]
pub(crate) fn adopt<T: FromRawFd>(descriptor: OwnedFd) -> T {
    // SAFETY: the descriptor is open, and given up here: its new owner is the only one.
    unsafe { T::from_raw_fd(descriptor.into_raw_fd()) }
}
