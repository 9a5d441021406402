//! weft: a userspace virtual switch and VXLAN overlay gateway.

pub mod bridge;
pub mod buffer;
pub mod cli;
pub mod control;
pub mod fdb;
pub mod ids;
pub mod lab;
pub mod offload;
pub mod port;
pub mod sys;
pub mod underlay;
pub mod wire;
pub mod worker;
