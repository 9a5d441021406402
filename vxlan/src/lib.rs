//! VXLAN (RFC 7348) and its kin as pure functions: bytes in, values out. No sockets, no clocks, no allocation on the way of
//! a frame.
//!
//! # The protocol on one page
//!
//! VXLAN carries Ethernet frames in UDP datagrams between *VTEPs* (tunnel end points). 24 bits, the *VNI*, name the
//! network that a frame belongs to; a frame never leaves its VNI.
//!
//! ```text
//! outer Ethernet 14 | outer IPv4 20 or IPv6 40 | outer UDP 8 | VXLAN 8 | inner Ethernet 14 | inner payload
//!                                                            ^-------- what this crate reads and writes --------
//!
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |R|R|R|R|I|R|R|R|            Reserved                           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                VXLAN Network Identifier (VNI) |   Reserved    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! All numbers are in network byte order. The I flag says that the VNI is valid and must be set; the other 39 bits are 0
//! when sent. What a receiver does when they aren't is where RFC and kernel disagree ([`header::ReservedBits`]).
//!
//! VXLAN has kin that differ in these 8 bytes and what may follow them: VXLAN-GBP, VXLAN-GPE and Geneve. What they have
//! in common is in [`encapsulation`].
//!
//! | module | answers |
//! |---|---|
//! | [`vni`] | what a VNI is |
//! | [`encapsulation`] | which ways there are to wrap a frame, their words and ports |
//! | [`header`] | the 8 bytes, in two steps: parse, and after the VNI was looked up the reserved bits |
//! | [`pattern`] | whether a datagram is one of a known network, in one comparison |
//! | [`codec`] | header and inner frame together: [`encap`] and [`decap`], each the inverse of the other |
//! | [`policy`] | the group that VXLAN-GBP says in the header |
//! | [`gpe`] | the protocol that VXLAN-GPE says in the header |
//! | [`geneve`] | Geneve's header and its options |
//! | [`ecn`] | how congestion marks cross the tunnel (RFC 6040) |
//! | [`entropy`] | which UDP source port an inner flow takes (RFC 7348 section 5) |
//! | [`mtu`] | how large an inner packet the underlay carries |
//! | [`pmtu`] | how large an outer packet reaches a VTEP: the search, the errors that are believed, black holes |
//! | [`vtep`] | which VTEPs there are, and which of them get a copy of a flooded frame |
//!
//! Not here: outer Ethernet, IP and UDP (the kernel's sockets write them), and the meaning of inner frames (the switch's
//! `wire`).
//!
//! # Contract
//!
//! - No function panics, whatever the bytes and numbers are; refusals are values of error types.
//! - Nothing here reads a clock, a socket, a file or a global.
//! - What is built here has its reserved bits clear; what was received keeps them readable.
#![forbid(unsafe_code)]

pub mod codec;
pub mod ecn;
pub mod encapsulation;
pub mod entropy;
pub mod geneve;
pub mod gpe;
pub mod header;
pub mod mtu;
pub mod pattern;
pub mod pmtu;
pub mod policy;
pub mod vni;
pub mod vtep;

pub use codec::{DecapError, decap, encap};
pub use ecn::{Ecn, EcnMode};
pub use encapsulation::{Encapsulation, HeaderFormat};
pub use entropy::SourcePorts;
pub use header::{DEFAULT_PORT, HEADER_LEN, Header, HeaderError, ReservedBits};
pub use policy::GroupPolicy;
pub use vni::Vni;
pub use vtep::{FloodList, VtepTable};
