//! Work that a NIC would do: what a virtio-net header says, checksums completed, super-frames cut into segments. Pure.
//!
//! A tap with offloads hands over frames whose transport checksum is only started ("partial") and super-frames of up to
//! 64 KiB. Between two such taps both stay as they are. Everything else needs [`checksum::complete`] or
//! [`segment::Segments`] first. The other way round, [`coalesce::Coalescer`] puts wire frames together for a port that takes
//! super-frames.
//!
//! The header beside a frame comes from whoever sits behind the tap, so nothing in it is believed: [`wire_frames`]
//! and [`Segments::new`] check the same things and agree on every answer.

pub mod checksum;
pub mod coalesce;
pub mod segment;
pub mod unfinished;
pub mod vnet;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod testing;

pub use checksum::complete;
pub use coalesce::{Coalescer, Departure};
pub use segment::{BadOffload, Segments, wire_frames};
pub use unfinished::unfinished;
pub use vnet::{BadVnet, Gso, PartialCsum, VNET_HEADER_LEN, VnetHeader};
