//! The debugging runbook of Linux virtual networking as read-only checks, for `weft doctor`.

mod finding;

pub use self::finding::{Finding, UnknownFinding};
