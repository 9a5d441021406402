//! For how long a worker without work looks for more before it sleeps.
//!
//! To be woken costs a worker some microseconds, and in a virtual machine, whose idle processor leaves the guest, some
//! tens of them. Looking again and again instead costs a processor. It pays if the next frame comes soon, and that can
//! only be guessed from how long it took before. The guess is KVM's for a guest's idle processor (`virt/kvm/kvm_main.c`:
//! kvm_vcpu_halt, grow_halt_poll_ns, shrink_halt_poll_ns): the time spent looking doubles each time that the work came
//! just too late for it, and halves each time that it came much too late.
//!
//! ```text
//!            window           limit
//! |-- looks ---|--- sleeps -----|--- sleeps --->
//!    work here:    work here:      work here:
//!    as before     twice as long   half as long
//! ```
//! So whoever has work at intervals within the limit soon never sleeps, and whoever has none looks a few times more, each
//! time for half as long, and then sleeps at once.

use std::time::Duration;

/// The time that a worker looks for work before it sleeps, adapted to how it came lately.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BusyPoll {
    limit: Duration,
    window: Duration,
}

impl BusyPoll {
    /// The first window above none, and the last before none again: KVM's `halt_poll_ns_grow_start`.
    const START: Duration = Duration::from_micros(10);

    /// Never looks for longer than `limit`; zero: sleeps at once.
    pub(super) const fn new(limit: Duration) -> Self {
        Self { limit, window: Duration::ZERO }
    }

    /// Whether there is nothing to adapt.
    pub(super) const fn is_off(&self) -> bool {
        self.limit.is_zero()
    }

    /// For how long to look before the next sleep.
    pub(super) const fn window(&self) -> Duration {
        self.window
    }

    /// Work came after this time, looking and sleeping together.
    pub(super) fn found_after(&mut self, waited: Duration) {
        if waited > self.limit {
            let half = self.window / 2;
            self.window = if half < Self::START { Duration::ZERO } else { half };
        } else if waited > self.window {
            self.window = (self.window * 2).max(Self::START).min(self.limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(50);

    fn after(mut poll: BusyPoll, waits_us: &[u64]) -> u128 {
        waits_us.iter().for_each(|&us| poll.found_after(Duration::from_micros(us)));
        poll.window().as_micros()
    }

    #[test]
    fn it_looks_longer_as_long_as_work_comes_just_too_late() {
        let poll = BusyPoll::new(LIMIT);
        assert_eq!(after(poll, &[]), 0);
        assert_eq!(after(poll, &[30]), 10);
        assert_eq!(after(poll, &[30, 30]), 20);
        assert_eq!(after(poll, &[30, 30, 30]), 40);
        assert_eq!(after(poll, &[30, 30, 30, 30, 30]), 40, "that was enough");
        assert_eq!(after(poll, &[30, 30, 30, 45, 45]), 50, "never more than the limit");
    }

    #[test]
    fn it_gives_up_when_work_comes_much_too_late() {
        let poll = BusyPoll { window: LIMIT, ..BusyPoll::new(LIMIT) };
        assert_eq!(after(poll, &[51]), 25);
        assert_eq!(after(poll, &[51, 1000]), 12);
        assert_eq!(after(poll, &[51, 1000, u64::MAX]), 0);
        assert_eq!(after(poll, &[51, 1000, u64::MAX, 1000]), 0);
    }

    #[test]
    fn a_limit_below_the_first_window_is_one() {
        assert_eq!(after(BusyPoll::new(Duration::from_micros(3)), &[2, 2]), 3);
        assert!(BusyPoll::new(Duration::ZERO).is_off() && !BusyPoll::new(Duration::from_nanos(1)).is_off());
        assert_eq!(after(BusyPoll::new(Duration::ZERO), &[0, 1]), 0);
    }
}
