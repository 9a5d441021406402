//! What is measured on a path, each a function from a [`Scene`](super::scene::Scene) to numbers.

pub(crate) mod calls;
pub(crate) mod frames;
pub(crate) mod latency;
pub(crate) mod tcp;
