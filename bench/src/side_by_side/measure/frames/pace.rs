//! When frames are due: at a steady rate, in small bursts, without making up for long pauses.

use std::time::Duration;

/// A rate and what has become of it so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pace {
    per_second: u32,
    /// Frames that were due by now: handed out or given up.
    settled: u64,
}

impl Pace {
    /// What is made up for at most when the generator was kept from the processor: so many frames, or those of so long,
    /// whichever are more. A longer burst would overflow queues that the steady rate does not: a tap's holds 1,000 frames
    /// by default (`include/net/pkt_sched.h`: DEFAULT_TX_QUEUE_LEN).
    const MOST_BEHIND: (u64, Duration) = (250, Duration::from_millis(1));
    /// Frames that are worth waking up for.
    const BURST: u64 = 32;

    pub(super) fn new(per_second: u32) -> Self {
        Self { per_second, settled: 0 }
    }

    /// How many frames are to be sent now, `elapsed` after the beginning; they count as sent. What is too far behind is
    /// given up: it will not be offered at all.
    pub(super) fn due(&mut self, elapsed: Duration) -> u64 {
        let due = self.until(elapsed).saturating_sub(self.settled);
        self.settled += due;
        let (frames, time) = Self::MOST_BEHIND;
        due.min(self.until(time).max(frames))
    }

    /// When the next burst is due, as time from the beginning.
    pub(super) fn next(&self) -> Duration {
        Duration::from_nanos((self.settled + Self::BURST) * 1_000_000_000 / u64::from(self.per_second))
    }

    /// Frames that are due in a time from the beginning.
    fn until(&self, elapsed: Duration) -> u64 {
        (elapsed.as_nanos() * u128::from(self.per_second) / 1_000_000_000) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_in_time_offers_every_frame() {
        let mut pace = Pace::new(400_000);
        let mut elapsed = Duration::ZERO;
        let mut sent = 0;
        while elapsed < Duration::from_secs(1) {
            sent += pace.due(elapsed);
            assert!(pace.next() > elapsed, "there is something to wait for");
            elapsed = pace.next();
        }
        assert_eq!(sent, 400_000 - Pace::BURST);
        assert_eq!(pace.due(Duration::from_secs(1)), Pace::BURST);
    }

    #[test]
    fn a_long_pause_is_not_made_up_for() {
        let mut pace = Pace::new(400_000);
        assert_eq!(pace.due(Duration::from_millis(1)), 400);
        assert_eq!(pace.due(Duration::from_millis(101)), 400, "of 40,000");
        assert_eq!(pace.due(Duration::from_millis(101)), 0, "the others are given up");
        assert_eq!(pace.due(Duration::from_micros(101_100)), 40);
        assert_eq!(
            Pace::new(10_000).due(Duration::from_secs(1)),
            250,
            "a slow rate gives up nothing for a short pause"
        );
    }

    #[test]
    fn slow_rates_come_in_whole_bursts() {
        let mut pace = Pace::new(1_000);
        assert_eq!(pace.next(), Duration::from_millis(32));
        assert_eq!(pace.due(pace.next()), 32);
        assert_eq!(pace.next(), Duration::from_millis(64));
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_offers_nothing() {
        let mut pace = Pace::new(100_000);
        assert_eq!(pace.due(Duration::from_millis(1)), 100);
        assert_eq!(pace.due(Duration::from_millis(1)), 0);
        assert_eq!(pace.due(Duration::ZERO), 0);
    }
}
