//! IGMP and MLD snooping: which ports of a bridge want which multicast groups. Pure: packets and the time in, a table and
//! queries out.
//!
//! A bridge that snoops listens to what hosts and routers tell each other about groups ([`crate::wire::membership`]), and
//! sends a group's frames only to the ports that want them (RFC 4541). Everything here is as the kernel's bridge has it
//! (`net/bridge/br_multicast.c`), down to what it does with timers.
//!
//! Two halves:
//!
//! - The [`Snooper`] of a bridge lives in the control plane. It is told of ports, of every packet that says something about
//!   groups and of the time; it keeps memberships, source lists, timers, elects the querier and asks itself if it is to be
//!   one. All its times are counted from the same beginning.
//! - The [`Mdb`] is what comes out: an immutable table that forwarding looks into. It holds no times; when one runs out, the
//!   snooper makes a new one.
//!
//! ```text
//! frame -> worker: membership::parse -> Mdb::route -> ports
//!              | (only what says something about groups)
//!              v
//!         control: Snooper::on_packet, Snooper::poll -> a new Mdb, queries to send
//! ```
//!
//! As long as nobody asks for members there are no answers to listen to, so without a querier everything is flooded.
//!
//! The overlay is one [`Member`], however many VTEPs are behind it: a vxlan device is one port of the kernel's bridge.

#[cfg(test)]
mod fuzz;
mod groups;
mod hosts;
mod mdb;
mod query;
mod settings;
mod snooper;

pub use mdb::{Group, Mdb, Route, Target, Targets};
pub use query::QueryFrame;
pub use settings::{PortSettings, Router, Settings};
pub use snooper::{EntryView, Member, MemberView, QuerierView, RouterView, Snooper, StaticEntry};
