//! Captures at several points at once, for `weft capture`: in namespaces, at the other ends of cables, on the underlay.
//!
//! ```text
//! tcpdump in namespace a --\                        /--> file: one pcapng, an interface block for each point
//! tcpdump in namespace b ----> source --> frames --<
//! tcpdump in namespace c --/                        \--> journal: one packet, wherever it was seen
//! ```
//! tcpdump does the capturing: it has the filters that everybody knows, and the kernel's own times. A packet is known again
//! at another point by what nobody on its way changes ([`packet::Packet::id`]), also inside of a tunnel and behind NAT. That
//! is also how what a weft tells of the frames that it drops gets to them.

mod file;
mod journal;
mod packet;
mod source;

pub use file::CaptureFile;
pub use journal::{Journal, Journey, Leg, Sighting};
pub use packet::{Packet, Tunnel};
pub use source::{Ended, Source, SourceError};

/// A frame at a point.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Which point, counted from 0 as they were given.
    pub point: usize,
    /// When the kernel saw it, in nanoseconds since 1970.
    pub time: u64,
    /// How long it was; `bytes` may be less.
    pub len: u32,
    /// What was kept of it, from the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// What a point has to tell.
#[derive(Debug)]
pub enum Event {
    /// It saw a frame.
    Frame(Frame),
    /// It sees no more.
    Ended {
        /// Which point.
        point: usize,
        /// What it missed, or why it ended.
        how: Result<Ended, SourceError>,
    },
    /// A weft tells what became of a packet that came to it.
    Fate {
        /// Which one: its [`Packet::id`].
        packet: u64,
        /// In words.
        said: String,
    },
    /// Whoever began the capture wants no more.
    Stop,
}
