//! What happens in the switch, for whoever listens.
//!
//! A bounded ring: a listener that is too slow misses the oldest events and is told how many. Nobody listening costs
//! nothing. Names are looked up here, since numbers may be another's when a listener reads them.

use tokio::sync::broadcast;

use crate::control::api::model::Happening;

/// Events that wait for the slowest listener at most.
const FEED_LEN: usize = 4096;

/// The way out for events.
pub(super) struct Feed {
    sender: broadcast::Sender<Happening>,
    /// Facts that workers had no room for, when that was last told.
    facts_lost: u64,
}

impl Default for Feed {
    fn default() -> Self {
        Self { sender: broadcast::channel(FEED_LEN).0, facts_lost: 0 }
    }
}

impl Feed {
    pub(super) fn is_heard(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Happening> {
        self.sender.subscribe()
    }

    /// Tells everybody who listens.
    pub(super) fn tell(&self, happening: impl FnOnce() -> Happening) {
        if self.is_heard() {
            // Fails if the last listener left in this moment.
            _ = self.sender.send(happening());
        }
    }

    /// Takes note of how many facts workers have lost in all, and tells of new losses.
    pub(super) fn note_lost(&mut self, total: u64) {
        let events = total.saturating_sub(self.facts_lost);
        self.facts_lost = total;
        if events > 0 {
            self.tell(|| Happening::Lost { events });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_of_workers_are_told_once() {
        let mut feed = Feed::default();
        feed.note_lost(5); // nobody hears it
        let mut listener = feed.subscribe();
        feed.note_lost(5);
        feed.note_lost(7);
        assert_eq!(listener.try_recv(), Ok(Happening::Lost { events: 2 }));
        assert!(listener.try_recv().is_err());
    }

    #[test]
    fn a_listener_that_is_too_slow_learns_how_much_it_missed() {
        let feed = Feed::default();
        let mut listener = feed.subscribe();
        for entries in 0..FEED_LEN as u64 + 3 {
            feed.tell(|| Happening::Aged { entries });
        }
        assert_eq!(listener.try_recv(), Err(broadcast::error::TryRecvError::Lagged(3)));
        assert_eq!(listener.try_recv(), Ok(Happening::Aged { entries: 3 }));
    }
}
