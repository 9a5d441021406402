//! weft: a userspace virtual switch and VXLAN overlay gateway.
//!
//! A `weft run` joins interfaces in network namespaces into bridges, and joins bridges on different hosts into one
//! overlay over UDP. It needs no kernel bridge and no vxlan device; its peers may have them.
//!
//! # Map
//! Floors; a module imports only from lower ones (`.ci/layers` checks it). `docs/architecture.md` walks a frame through.
//!
//! | floor | modules |
//! |---|---|
//! | 0 | [`wire`]: headers, checksums, flow hash. [`buffer`]: memory for a batch. [`sys`]: system calls, the only unsafe code. [`ids`]: numbers of ports, bridges and VTEPs |
//! | 1 | [`offload`]: super-frames and checksums. [`fdb`]: who is where. [`snoop`]: who wants which multicast group. [`bridge`]: tables in, verdict out. [`l3`]: IP packets that are too big |
//! | 2 | [`port`]: taps, packet sockets, memory. [`underlay`]: UDP in batches |
//! | 3 | [`worker`]: one frame's walk, and the thread that does it |
//! | 4 | [`control`]: configuration, desired state, API. [`lab`]: namespace topologies for demo, tests and measurements. [`compare`]: the kernel's devices and weft side by side. [`experiment`]: MTUs and encapsulations measured. [`doctor`]: the runbook as read-only checks. [`capture`]: frames at several points at once |
//! | 5 | [`cli`]: the commands |
//!
//! The protocol itself is the crate [`weft_vxlan`], which knows neither sockets nor clocks.
//!
//! # Words
//! One word for each idea, here and in what users see.
//!
//! | word | means |
//! |---|---|
//! | frame, packet | Ethernet's unit, IP's unit |
//! | super-frame | one frame of up to 64 KiB that the kernel hands over or takes, with a virtio-net header, instead of many small ones |
//! | segment | one wire-size piece of a super-frame |
//! | port | an attachment point of the switch: a tap, a packet socket, a queue in memory |
//! | bridge | one broadcast domain inside weft: its ports, its FDB entries, and a VNI if it leaves the host |
//! | VTEP | a tunnel end point: an address on the underlay |
//! | endpoint | where a frame comes from or goes to: a port or a VTEP |
//! | underlay, overlay; outer, inner | the network that carries VXLAN packets, the one that is carried; their headers (RFC 7348) |
//! | FDB | forwarding database: (bridge, MAC) to port or VTEP |
//! | flood list | the VTEPs that get a copy of broadcast, multicast and unknown unicast (head-end replication) |
//! | verdict, drop reason | what happens to a frame, the name of why not |
//! | ledger | the account of all frames: in + copies = out + drops |
//! | worker | a thread that carries frames |

pub mod bridge;
pub mod buffer;
pub mod capture;
pub mod cli;
pub mod compare;
pub mod control;
pub mod doctor;
pub mod experiment;
pub mod fdb;
#[cfg(test)]
mod fuzzing;
pub mod ids;
pub mod isolation;
pub mod l3;
pub mod lab;
pub mod offload;
pub mod port;
pub mod snoop;
pub mod sys;
pub mod underlay;
pub mod wire;
pub mod worker;
