//! What an interface dropped before any of weft's queues could see it.
//!
//! The kernel counts that for the whole interface, and answers under the RTNL lock, which it holds while anybody anywhere
//! on the host makes or removes an interface. A worker that asked would stand still for as long, and its ports with it: so
//! the control plane takes this out of the queues before workers get them ([`super::Port::take_link_losses`]).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::interface::{Dropped, LinkDrops};

/// An interface's drops, counted from the opening on.
#[derive(Debug)]
pub struct LinkLosses {
    drops: LinkDrops,
    which: fn(&Dropped) -> u64,
    at_open: u64,
    /// The last answer, which stands when the interface is gone.
    known: AtomicU64,
}

impl LinkLosses {
    /// What the stack behind a new tap had for weft, and the tap's queue had no room for.
    pub(super) fn of_tap(index: u32) -> Option<Self> {
        let drops = LinkDrops::new(index).ok()?;
        Some(Self { drops, which: |dropped| dropped.transmit, at_open: 0, known: AtomicU64::new(0) })
    }

    /// What arrived at an interface that was there before, and the card or the processor's backlog had no room for.
    pub(super) fn of_interface(index: u32) -> Option<Self> {
        let drops = LinkDrops::new(index).ok()?;
        let at_open = drops.ask().ok()?.receive;
        Some(Self { drops, which: |dropped| dropped.receive, at_open, known: AtomicU64::new(0) })
    }

    /// Frames that were lost so far. Two system calls, which may have to wait.
    pub fn count(&self) -> u64 {
        if let Ok(now) = self.drops.ask() {
            self.known.store((self.which)(&now).saturating_sub(self.at_open), Ordering::Relaxed);
        }
        self.known.load(Ordering::Relaxed)
    }
}
