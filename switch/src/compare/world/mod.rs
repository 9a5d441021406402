//! The sides of a comparison.
//!
//! ```text
//!   namespace of the side            test namespace
//!   +--------------------------+     +------------------+
//!   | bridge --+-- p1 =========|=====| e1  packet socket |
//!   |          +-- p2 =========|=====| e2                |
//!   |          +-- p3, p4      |     | e3, e4            |
//!   | vxlan ------ u0 =========|=====| eu  (underlay)    |
//!   +--------------------------+     | s0 == s1 sentinel |
//!                                    +------------------+
//! ```
//! Interfaces have the same hardware addresses on every side. A side's own kernel sends nothing of its own accord: no IPv6, no
//! addresses on ports, neighbours of the underlay known for good.
//!
//! # When is all there?
//! Nothing sleeps. The whole comparison runs on one CPU (its threads inherit that), where the kernel works off what veth
//! devices receive in the order in which it was sent: a *sentinel*, a frame over a cable of its own, that has arrived was
//! overtaken by nothing before it. What a frame causes in turn (its copies at the other ports, a packet in a tunnel) is sent
//! while it is worked off, behind the first sentinel, so there are as many sentinels as hops. A side with a process of its
//! own is waited for before that: weft by its ledger (everything came in, and in + copies = out + drops), Open vSwitch by
//! sentinels that go through it.
//!
//! A frame that comes later all the same would be found before the next step, which is an error of this tool
//! ([`CompareError::Stray`]) and not a difference.

mod ends;
pub mod kernel;
mod links;
pub mod ovs;
pub mod userspace;

pub(super) use self::{ends::datagram_frame, links::counter_out};

use std::io;

use super::{
    case::{Setup, Step},
    observe::{Entry, Seen},
};
use crate::{control::switch::ApplyError, lab::LabError, sys::packet_socket::PacketError};

/// One side of a comparison.
pub trait World {
    /// What it is called in reports.
    fn name(&self) -> &'static str;

    /// Makes the scene: everything that earlier cases left behind is gone.
    ///
    /// # Errors
    /// [`CompareError::Lacks`]: this side can't have such a scene.
    fn begin(&mut self, setup: &Setup) -> Result<(), CompareError>;

    /// Does one step and waits for everything that it causes. The time of [`Step::Wait`] has passed already.
    ///
    /// # Errors
    /// [`CompareError::Lacks`]: this side has no such thing. What the side itself refuses is [`Seen::refused`].
    fn step(&mut self, step: &Step) -> Result<Seen, CompareError>;

    /// The FDB, in order.
    ///
    /// # Errors
    /// It can't be read.
    fn fdb(&mut self) -> Result<Vec<Entry>, CompareError>;

    /// Who is in which multicast group, as [`super::observe::membership`] writes it; `None`: this side does not say.
    ///
    /// # Errors
    /// It can't be read.
    fn groups(&mut self) -> Result<Option<Vec<String>>, CompareError> {
        Ok(None)
    }

    /// What was counted since [`World::begin`], by name.
    ///
    /// # Errors
    /// It can't be read.
    fn counters(&mut self) -> Result<Vec<(String, u64)>, CompareError>;
}

/// Why a comparison could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A side has nothing of the kind; the case is not run.
    #[error("{0}")]
    Lacks(String),
    /// A frame came after it should have: the tool waits wrongly.
    #[error("{world}: a frame came late at {place}, after the step that caused it: {frame}")]
    Stray {
        /// The side.
        world: &'static str,
        /// Where.
        place: u8,
        /// The frame in a line.
        frame: String,
    },
    /// What was waited for did not come.
    #[error("{world}: {what} did not happen in time")]
    Late {
        /// The side.
        world: &'static str,
        /// What.
        what: String,
    },
    /// The scene can't be built.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// An interface can't be opened.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// weft can't be started.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The kernel refuses something that it should not.
    #[error("{step}: {source}")]
    Io {
        /// What was tried.
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl CompareError {
    fn io(step: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let step = step.into();
        move |source| Self::Io { step, source }
    }
}
