//! The control plane.

pub mod api;
pub mod config;
pub mod link;
pub mod run;
pub mod switch;
