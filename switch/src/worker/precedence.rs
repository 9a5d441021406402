//! When a worker may stand before other programs, and when it may not.
//!
//! A worker that sleeps most of the time takes little and is waited for: it shall have a processor at once when a frame comes.
//! One that never sleeps, because somebody floods or because there is that much to carry, would leave nothing to the
//! programs of the host if it stood before them all the while, be it the shell of whoever wants to end the flood. It has
//! its part like everybody else, as the kernel hands its own forwarding to a thread without precedence when it does not come
//! to an end (`kernel/softirq.c`: wakeup_softirqd).

use std::time::{Duration, Instant};

/// What is looked at as a whole. Long enough that a burst is none.
const WINDOW: Duration = Duration::from_millis(20);

/// A worker that sleeps less than one part in so many of a window steps back.
const BUSY: u32 = 16;

/// One that sleeps more than one part in so many goes first again. Well above the other, so that it does not change for
/// every breath.
const CALM: u32 = 4;

/// How much a worker sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Precedence {
    goes_first: bool,
    slept: Duration,
    since: Instant,
}

impl Precedence {
    /// It goes first.
    pub(super) const fn new(now: Instant) -> Self {
        Self { goes_first: true, slept: Duration::ZERO, since: now }
    }

    /// It waited from `began` to `ended`. `Some`: whether it goes first from now on, other than before.
    pub(super) fn waited(&mut self, began: Instant, ended: Instant) -> Option<bool> {
        self.slept += ended.saturating_duration_since(began);
        let window = ended.saturating_duration_since(self.since);
        if window < WINDOW {
            return None;
        }
        let is_calm = if self.goes_first { self.slept >= window / BUSY } else { self.slept > window / CALM };
        (self.slept, self.since) = (Duration::ZERO, ended);
        let is_other = is_calm != self.goes_first;
        self.goes_first = is_calm;
        is_other.then_some(is_calm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [bool; 0] = [];

    /// Works and sleeps so many microseconds by turns, for half a second; what changed.
    fn changes(precedence: &mut Precedence, now: &mut Instant, work: u64, sleep: u64) -> Vec<bool> {
        let end = *now + Duration::from_millis(500);
        let mut changes = Vec::new();
        while *now < end {
            let began = *now + Duration::from_micros(work);
            *now = began + Duration::from_micros(sleep);
            changes.extend(precedence.waited(began, *now));
        }
        changes
    }

    #[test]
    fn who_never_sleeps_steps_back_until_he_does() {
        let mut now = Instant::now();
        let mut precedence = Precedence::new(now);
        assert_eq!(changes(&mut precedence, &mut now, 100, 300), NONE, "a flood that has its share");
        assert_eq!(changes(&mut precedence, &mut now, 100, 1), [false]);
        assert_eq!(changes(&mut precedence, &mut now, 100, 20), NONE, "a breath now and then changes nothing");
        assert_eq!(changes(&mut precedence, &mut now, 100, 100), [true]);
        assert_eq!(changes(&mut precedence, &mut now, 100, 10), NONE, "nor does much work");
    }

    #[test]
    fn a_burst_is_no_reason() {
        let mut now = Instant::now();
        let mut precedence = Precedence::new(now);
        for _ in 0..10 {
            let began = now + Duration::from_millis(18);
            now = began + Duration::from_millis(100);
            assert_eq!(precedence.waited(began, now), None);
        }
    }
}
