//! The control plane.

pub mod api;
pub mod config;
