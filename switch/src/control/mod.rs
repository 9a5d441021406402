//! The control plane.

pub mod api;
pub mod config;
pub mod link;
mod path_mtu;
pub mod run;
pub mod switch;
