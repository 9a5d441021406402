//! The control plane.

pub mod config;
pub mod link;
pub mod switch;
