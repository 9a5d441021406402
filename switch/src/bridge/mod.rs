//! The switch's tables and what they decide about a frame.

pub mod drop_reason;

pub use drop_reason::DropReason;
