//! Work that a NIC would do: what a virtio-net header says, checksums completed, super-frames cut into segments. Pure.
//!
//! A tap with offloads hands over frames whose transport checksum is only started ("partial") and super-frames of up to
//! 64 KiB. Between two such taps both stay as they are. Everything else needs [`checksum::complete`] or
//! [`segment::Segments`] first.

pub mod checksum;
pub mod segment;
pub mod vnet;

// pub use segment::Segments;
pub use vnet::{Gso, VnetHeader};
