//! Experiments with MTUs and encapsulations in namespaces: `weft experiment`.
//!
//! # Theory of operation
//! A [`scene`] is a path built anew for each measurement: two stations, two hosts with a weft (or the kernel's vxlan device), and
//! an underlay of three links through two routers, whose MTUs differ from the hosts' as one likes. [`traffic`] sends and
//! receives, from sockets of this process inside the stations' namespaces. [`observe`] counts what is really on the wire, through packet
//! sockets beside the path; nothing is computed that can be counted. A [`cable`] between two interfaces loses, delays or spoils.

pub mod blackhole;
pub mod cable;
pub mod cell;
pub mod csv;
pub mod encap;
pub mod error;
pub mod journal;
pub mod measure;
pub mod mtu;
pub mod observe;
pub mod record;
pub mod report;
pub mod scene;
pub mod sweep;
#[cfg(test)]
mod testing;
pub mod traffic;

/// What the namespaces of experiments begin with.
pub const PREFIX: &str = "weft-experiment";
