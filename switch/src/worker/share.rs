//! How much of a worker one port may have, so that no port can keep the others waiting.
//!
//! A worker serves its sources in turn. What a source waits for is the turns of the others, and, where workers share
//! processors with programs, the scheduler, which lets wait whoever has always something to do. Both are kept short for
//! whoever sends little:
//!
//! - **A turn is short.** It ends after some batches or [`TURN`], whichever comes first. Time is looked at between two
//!   batches; at a port whose frames cost much, batches become smaller until one fits a turn.
//! - **Floods have a budget.** A frame to a known station is what a switch is for. All others, those that are copied to
//!   everybody, teach a new address or are thrown away, are few wherever nothing is wrong; but whoever sends them at full
//!   speed makes the switch do many times the work of a known station's. A port that sends mostly these may take
//!   its `flood_share` of a worker's time, and [`BURST`] at once. Past that the port is not read for a while. What it sends
//!   meanwhile waits in its own queue, and when that is full the kernel drops it at the sender's expense (`LOST BEFORE` in
//!   `weft show ledger`).
//!
//! So under a flood a worker still sleeps most of the time, and the scheduler gives a processor at once to who has slept,
//! even where the flooder keeps all of them busy (`kernel/sched/fair.c`: a positive lag and a short slice, see
//! [`crate::sys::scheduling::set_slice`]).
//!
//! Time is the clock on the wall: where the worker itself was kept waiting, the flood pays for it too.

use std::time::{Duration, Instant};

use super::Turned;
use crate::port::RxBatch;

/// How long one source's turn is: what everybody else may have to wait for each of the busy ones.
pub(super) const TURN: Duration = Duration::from_micros(100);

/// How long one batch of a flood should take. Shorter than a turn, since nobody misses anything when it is slow.
const FLOOD_BATCH: Duration = Duration::from_micros(40);

/// A batch is never made smaller than this.
const LEAST_BATCH: usize = 2;

/// What they get at once before that holds: the announcements of a whole rack that comes back at the same time, about a
/// thousand frames to eight ports.
const BURST: Duration = Duration::from_millis(10);

/// A port that has used up its share is not read for at least this long. epoll counts in milliseconds.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

/// What one port has of a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Share {
    /// Frames that its next batch may have.
    batch: usize,
    /// Nanoseconds of flooding that it may cause; below zero: that it has caused in advance.
    left_ns: i64,
    /// When that was so.
    at: Option<Instant>,
}

impl Default for Share {
    fn default() -> Self {
        Self { batch: RxBatch::CAPACITY, left_ns: nanos(BURST), at: None }
    }
}

impl Share {
    /// Frames that the next batch may have.
    pub(super) const fn batch(&self) -> usize {
        self.batch
    }

    /// A batch began at `from` and ended at `to`; floods may have so many `percent` of the time. `Some`: how long the port is
    /// not to be read now.
    pub(super) fn used(&mut self, turned: Turned, percent: u8, from: Instant, to: Instant) -> Option<Duration> {
        let took = to.saturating_duration_since(from);
        if !turned.is_flood() {
            self.batch = RxBatch::CAPACITY;
            return None;
        }
        if took > FLOOD_BATCH {
            self.batch = (self.batch / 2).max(LEAST_BATCH);
        } else if took < FLOOD_BATCH / 2 && turned.frames == self.batch {
            self.batch = (self.batch * 2).min(RxBatch::CAPACITY);
        }
        let (percent, rest) = (u32::from(percent.max(1)), 100_u32.saturating_sub(u32::from(percent)));
        if rest == 0 {
            return None;
        }
        let slept = self.at.map_or(Duration::ZERO, |at| from.saturating_duration_since(at));
        // One long wait for a processor must not silence the port for seconds.
        let took = took.min(BURST);
        let earned = nanos(slept * percent / rest);
        self.left_ns = self.left_ns.saturating_add(earned).min(nanos(BURST)) - nanos(took);
        self.at = Some(to);
        let owed = u64::try_from(-self.left_ns).ok().filter(|owed| *owed > 0)?;
        Some((Duration::from_nanos(owed) * rest / percent).max(LEAST_PAUSE))
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: Turned = Turned { frames: RxBatch::CAPACITY, unusual: RxBatch::CAPACITY as u32 };
    const TRAFFIC: Turned = Turned { frames: RxBatch::CAPACITY, unusual: 3 };
    const MICROSECOND: Duration = Duration::from_micros(1);

    /// Batches of this length, one after another with the pauses that are asked for; what part of the time they had.
    fn busy(share: &mut Share, turned: Turned, percent: u8, took: Duration, batches: u32) -> f64 {
        let start = Instant::now();
        let mut now = start;
        for _ in 0..batches {
            let end = now + took;
            now = end + share.used(turned, percent, now, end).unwrap_or_default();
        }
        (took * batches).as_secs_f64() / (now - start).as_secs_f64()
    }

    #[test]
    fn a_flood_gets_its_share_and_no_more() {
        for (percent, took) in [(25, 5), (25, 40), (25, 700), (25, 3000), (1, 40), (10, 40), (80, 40)] {
            let mut share = Share::default();
            busy(&mut share, FLOOD, percent, took * MICROSECOND, 60_000 / took + 10);
            let part = busy(&mut share, FLOOD, percent, took * MICROSECOND, 1000);
            let share = f64::from(percent) / 100.0;
            assert!((part / share - 1.0).abs() < 0.05, "batches of {took} us have {part} of the time and not {share}");
        }
    }

    #[test]
    fn a_burst_passes_at_once_and_again_after_some_time() {
        let mut share = Share::default();
        let start = Instant::now();
        let mut now = start;
        let mut burst = |now: &mut Instant| {
            for _ in 0..99 {
                let end = *now + 100 * MICROSECOND;
                assert_eq!(share.used(FLOOD, 25, *now, end), None);
                *now = end;
            }
        };
        burst(&mut now);
        now += 3 * BURST;
        burst(&mut now);
    }

    #[test]
    fn traffic_to_known_stations_has_all_the_time_and_whole_batches() {
        let mut share = Share::default();
        assert!(busy(&mut share, TRAFFIC, 25, Duration::from_millis(5), 1000) > 0.999);
        assert!(
            busy(&mut share, FLOOD, 100, Duration::from_millis(5), 1000) > 0.999,
            "where floods may have it, they too"
        );
        busy(&mut share, TRAFFIC, 25, Duration::from_micros(5), 1);
        assert_eq!(share.batch(), RxBatch::CAPACITY);
    }

    #[test]
    fn batches_of_a_flood_become_as_small_as_they_take_long() {
        let mut share = Share::default();
        busy(&mut share, FLOOD, 25, 200 * MICROSECOND, 3);
        assert_eq!(share.batch(), RxBatch::CAPACITY / 8);
        busy(&mut share, FLOOD, 25, 200 * MICROSECOND, 10);
        assert_eq!(share.batch(), LEAST_BATCH);
        busy(&mut share, Turned { frames: LEAST_BATCH, unusual: 2 }, 25, 5 * MICROSECOND, 1);
        assert_eq!(share.batch(), 2 * LEAST_BATCH);
        busy(&mut share, TRAFFIC, 25, 200 * MICROSECOND, 1);
        assert_eq!(share.batch(), RxBatch::CAPACITY);
    }

    #[test]
    fn a_worker_that_was_kept_waiting_reads_again_before_long() {
        let (mut share, start) = (Share::default(), Instant::now());
        let end = start + Duration::from_secs(5);
        assert_eq!(share.used(FLOOD, 25, start, end), None, "the burst covers it");
        assert!(share.used(FLOOD, 25, end, end + Duration::from_secs(5)).unwrap() <= 3 * BURST);
    }
}
