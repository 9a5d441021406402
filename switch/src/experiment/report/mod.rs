//! What experiments found, as pages that need nothing but themselves: plots, and for each a paragraph that says what is to be
//! seen, made from the same numbers.
//!
//! [`plot`] draws, [`page`] puts together, `words` says numbers; each experiment has a file that chooses what is drawn.

pub mod encap;
pub mod mtu;
pub mod page;
pub mod plot;
mod words;
