//! Bytes of the wire: addresses, tags, header views, checksums and flow hashes. Pure, no panic on any input; on a
//! frame's way nothing is allocated.

pub mod arp;
pub mod checksum;
pub mod describe;
pub mod dissect;
pub mod ethernet;
pub mod flow;
#[cfg(test)]
mod fuzz;
pub mod hex;
pub mod mac;
pub mod membership;
pub mod ndisc;
pub mod pcapng;
pub mod probe;
pub mod vlan;

pub use mac::MacAddr;
pub use vlan::{Tag, TagBytes, Tpid, VlanId};
