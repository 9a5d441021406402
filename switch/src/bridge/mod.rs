//! The switch's tables and what they decide about a frame. Pure: an immutable snapshot and a frame's addresses in, a
//! [`Verdict`] out.
//!
//! The order is the kernel's (`net/bridge/br_input.c`: `br_handle_frame`, `br_handle_frame_finish`):
//!
//! 1. [`PortEntry::classify`]: which bridge is it, by port and tag?
//! 2. [`admit`]: may it enter at all, and may it teach its source?
//! 3. the worker learns the source and looks the destination up ([`crate::fdb`])
//! 4. [`Tables::decide`]: drop, one endpoint, or flood
//! 5. [`Tables::flood`]: to whom exactly

mod decide;
pub mod drop_reason;
pub mod neigh;
pub mod port_security;
mod suppress;
mod tables;
mod tunnel;

pub use decide::{Admission, FloodKind, PROVIDER_GROUPS, Verdict, admit};
pub use drop_reason::DropReason;
pub use neigh::{Neigh, Neighs};
pub use port_security::{PortSecurity, Prefix, Station};
pub use suppress::{Answer, Suppression};
pub use tables::{Bridge, Membership, Overlay, Oversize, PortEntry, PortOptions, StpState, Tables};
pub use tunnel::TunnelOptions;
