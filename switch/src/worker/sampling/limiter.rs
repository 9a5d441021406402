//! So many a second, and so many at once, between all workers.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::fdb::Stamp;

/// A leaky bucket that one number describes: when it will be empty (ITU-T I.371, the generic cell rate algorithm).
///
/// Whoever may take something writes the number; whoever may not only reads it. So while the rate is used up nobody
/// writes what others read.
pub(super) struct Limiter {
    /// Between two at the full rate.
    interval_us: u64,
    /// How far ahead the bucket may be filled.
    ahead_us: u64,
    empty_at_us: AtomicU64,
}

impl Limiter {
    /// `rate` a second, `burst` at once; both at least 1.
    pub(super) fn new(rate: u32, burst: u32) -> Self {
        let interval_us = 1_000_000 / u64::from(rate);
        Self { interval_us, ahead_us: u64::from(burst - 1) * interval_us, empty_at_us: AtomicU64::new(0) }
    }

    /// Whether one more may be taken now; if so it is.
    pub(super) fn takes(&self, now: Stamp) -> bool {
        let now_us = now.0 * 1000;
        let fill =
            |empty_at: u64| (empty_at <= now_us + self.ahead_us).then_some(empty_at.max(now_us) + self.interval_us);
        self.empty_at_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fill).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(limiter: &Limiter, now: u64, of: usize) -> usize {
        (0..of).filter(|_| limiter.takes(Stamp(now))).count()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limiter = Limiter::new(10, 20);
        assert_eq!(taken(&limiter, 5_000, 100), 20);
        assert_eq!(taken(&limiter, 5_099, 100), 0);
        assert_eq!(taken(&limiter, 5_100, 100), 1);
        let in_a_second = (5_101..6_101).map(|now| taken(&limiter, now, 100)).sum::<usize>();
        assert_eq!(in_a_second, 10);
    }

    #[test]
    fn who_waited_long_has_no_more_than_a_burst() {
        let limiter = Limiter::new(200, 20);
        assert_eq!(taken(&limiter, 0, 100), 20);
        assert_eq!(taken(&limiter, 3_600_000, 100), 20);
    }
}
