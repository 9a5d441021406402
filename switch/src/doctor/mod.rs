//! The debugging runbook of Linux virtual networking as read-only checks, for `weft doctor` and `weft map`.
//!
//! # Theory of operation
//! 1. A `survey` reads the state of namespaces into plain values. It is the only part that asks anybody anything.
//! 2. The `runbook`'s seven steps and the `walk` of a packet are computed from it. They are pure: the same survey, read
//!    back from a file, says the same.
//! 3. What they find wrong has a [`Finding`], whose code is stable, a place, the rows that show it, and the next command.
//!
//! Nothing is changed and nothing is sent, unless the caller asks for probes.

mod finding;
pub(crate) mod map;
#[cfg(test)]
mod named;
pub(crate) mod runbook;
pub(crate) mod step;
pub(crate) mod survey;
pub(crate) mod walk;
pub(crate) mod world;

pub use self::finding::{Finding, UnknownFinding};
