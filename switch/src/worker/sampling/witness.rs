//! What the ledger says of one frame.
//!
//! While a witness stands beside the counters, everything that is counted is also noted here. With one frame walked and
//! flushed between its coming and its going, what it has noted is that frame's end: not what was decided, but what the
//! kernel made of it as well.

use arrayvec::ArrayVec;

use crate::{bridge::DropReason, fdb::Learned, ids::Endpoint};

/// Places that are noted; a frame that is flooded to more has them counted.
const MAX_PLACES: usize = 32;

/// The end of one frame.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Witness {
    /// What became of its copies and of the switch's answers to it, each place once for every result.
    pub copies: ArrayVec<Copies, MAX_PLACES>,
    /// Places that there was no room for.
    pub more: usize,
    /// Why it was given up, if it was. The proxy of a bridge can end a question and its own answer.
    pub dropped: ArrayVec<DropReason, 2>,
    /// What its source changed in the FDB; `None`: nothing.
    pub learned: Option<Learned>,
}

/// What one place got of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copies {
    /// The place.
    pub to: Endpoint,
    /// Wire frames.
    pub frames: u64,
    /// Whether they left.
    pub result: Result<(), DropReason>,
}

impl Witness {
    pub(in crate::worker) fn copies(&mut self, to: Endpoint, frames: u64, result: Result<(), DropReason>) {
        if frames == 0 {
            return;
        }
        if let Some(there) = self.copies.iter_mut().find(|there| (there.to, there.result) == (to, result)) {
            there.frames += frames;
        } else if self.copies.try_push(Copies { to, frames, result }).is_err() {
            self.more += 1;
        }
    }

    /// Frames that were noted as left did not leave after all.
    pub(in crate::worker) fn take_back(&mut self, to: Endpoint, reason: DropReason, frames: u64) {
        if let Some(there) = self.copies.iter_mut().find(|there| (there.to, there.result) == (to, Ok(()))) {
            there.frames = there.frames.saturating_sub(frames);
        }
        self.copies.retain(|there| there.frames > 0);
        self.copies(to, frames, Err(reason));
    }

    pub(in crate::worker) fn dropped(&mut self, reason: DropReason) {
        // More than two reasons for one frame there are not.
        _ = self.dropped.try_push(reason);
    }
}
