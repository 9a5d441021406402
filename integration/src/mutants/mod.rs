//! Does `weft compare` notice? Wrong behaviours on purpose, each of which a case of the catalogue must show as a difference.
//!
//! # Theory of operation
//! A [mutant](Mutant) is an entry of `list.toml`: an expression somewhere in the switch, and another one to stand in its place.
//! All of them go into [one copy](tree) of the sources at once, each behind a question that is asked while the switch runs:
//!
//! ```text
//! if to_entry.options.isolated && ...
//! if (if weft_vxlan::mutant("isolated") { false } else { to_entry.options.isolated }) && ...
//! ```
//!
//! So the switch is built once and not once for each, the variable [`VARIABLE`] says which one is awake, and the sources that
//! everybody builds know nothing of all this. The [run] wakes them one by one; without any, the copy must behave as the
//! kernel does, or it would prove nothing.
//!
//! Tests without privileges hold the list to the sources: each expression is there, each case is in the catalogue, and the
//! [page] in the docs is the one that the list makes.

pub mod list;
pub mod page;
pub mod run;
pub mod tree;

pub use list::{Mutant, mutants};

/// The environment variable with the name of the mutant that is awake.
pub const VARIABLE: &str = "WEFT_MUTANT";
