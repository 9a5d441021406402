//! What is asked next: how rounds begin, widen and end, and what a search finds.

use std::time::Duration;

use super::{
    ASK_EVERY, ASK_IDLE_EVERY, CONFIRM_EVERY, DISTRUST, Due, FIRST_RAISE, PathMtu, Reason, State,
    round::{Kind, Round},
    sizes,
};

impl PathMtu {
    /// What is to be done next while no round is under way, and when.
    pub(super) fn next_due(&self) -> Option<(Duration, Kind)> {
        let Due { ask, confirm, raise, .. } = self.due;
        if self.method.is_none() || self.unanswered_since.is_some() {
            return Some((ask, Kind::Base));
        }
        let raise = (raise, Kind::Raise);
        let confirm = (confirm, Kind::Confirm);
        match (self.in_use, self.current < self.link) {
            (false, _) => None,
            (true, false) => Some(confirm),
            (true, true) => Some(if raise.0 <= confirm.0 { raise } else { confirm }),
        }
    }

    pub(super) fn begin_what_is_due(&mut self, now: Duration) -> Option<()> {
        let (at, kind) = self.next_due()?;
        if now < at {
            return None;
        }
        let mut round = Round::new(kind);
        match kind {
            Kind::Base => {
                self.method = None;
                round.ask(self.minimum(), None);
            }
            Kind::Confirm => round.ask(self.current, self.method),
            Kind::Raise => {
                round.ask(self.link, self.any_method());
                round.ask(self.current + 1, self.method);
            }
            Kind::Search { .. } => {}
        }
        self.round = Some(round);
        Some(())
    }

    /// Begins a search, with these sizes asked for at once besides the link's MTU.
    pub(super) fn search(&mut self, sizes: &[u16], now: Duration) {
        if self.method.is_none() {
            self.due.ask = now;
            return;
        }
        let low = self.minimum();
        if low >= self.link {
            self.found(self.link, None, now);
            return;
        }
        let mut round = Round::new(Kind::Search { low, high: u32::from(self.link) + 1 });
        round.ask(self.link, self.any_method());
        for size in sizes {
            if (low + 1..self.link).contains(size) {
                round.ask(*size, self.method);
            }
        }
        self.abandon_round();
        self.round = Some(round);
    }

    /// Begins a search by somebody who has only just been found to answer.
    pub(super) fn search_around_current(&mut self, now: Duration) {
        let (current, is_below) = (self.current, self.current < self.link);
        let sizes = [current, current.saturating_add(1)];
        self.search(if is_below { &sizes } else { &[] }, now);
    }

    /// The first packet of a round was not answered in time: what else is worth knowing is asked at once.
    pub(super) fn widen(&self, round: &mut Round) {
        match round.kind {
            Kind::Base | Kind::Raise => return,
            Kind::Search { low, high } if round.count() == 1 => {
                let high = high.min(u32::from(self.link));
                sizes::first(low, high, self.in_flight() - 1).for_each(|size| round.ask(size, self.method));
            }
            Kind::Search { .. } | Kind::Confirm => {}
        }
        // Does anybody answer at all?
        round.ask(self.minimum(), self.method);
    }

    /// All questions of a round have an answer or will have none.
    pub(super) fn conclude(&mut self, round: &Round, now: Duration) {
        self.remember(round);
        match round.kind {
            Kind::Base => match round.largest_answered() {
                Some(_) => self.search_around_current(now),
                None => {
                    self.unanswered_since.get_or_insert_with(|| round.began().unwrap_or(now));
                    if self.reason == Reason::Asking {
                        self.settle(self.current, Reason::Unanswered, now);
                    }
                    self.due.ask = now + if self.in_use { ASK_EVERY } else { ASK_IDLE_EVERY };
                }
            },
            Kind::Confirm => match round.largest_answered() {
                Some(size) if size >= self.current => self.due.confirm = now + CONFIRM_EVERY,
                // Small packets pass and large ones do not, which may be bad luck: the search asks once more.
                Some(_) => {
                    let current = self.current;
                    self.search(&[current, current.saturating_add(1)], now);
                    if let Some(search) = &mut self.round {
                        search.vanishing_since = round.began();
                    }
                }
                None => self.ask_everybody(round, now),
            },
            Kind::Raise => match round.largest_answered() {
                Some(size) => {
                    self.search(&[size, size.saturating_add(1)], now);
                }
                None => {
                    self.due.raise_pause = (self.due.raise_pause * 3).min(self.ageing);
                    self.due.raise = now + self.due.raise_pause;
                }
            },
            Kind::Search { low, high } => self.narrow(round, low, high, now),
        }
    }

    /// One round of a search has ended.
    fn narrow(&mut self, round: &Round, low: u16, high: u32, now: Duration) {
        let Some(answered) = round.largest_answered() else { return self.ask_everybody(round, now) };
        let low = answered.max(low);
        let high = round.smallest_lost_above(low).map_or(high, |size| high.min(u32::from(size)));
        let vanishing_since = match round.vanishing_since {
            None => round.first_lost(),
            since => since,
        };
        if high - u32::from(low) <= 1 {
            let from = u16::try_from(high).ok().filter(|from| *from <= self.link);
            self.found(low, from.map(|from| (from, vanishing_since.unwrap_or(now))), now);
            return;
        }
        let mut next = Round::new(Kind::Search { low, high });
        next.vanishing_since = vanishing_since;
        sizes::between(low, high, self.in_flight()).for_each(|size| next.ask(size, self.method));
        self.round = Some(next);
    }

    /// A search has ended: packets of this size pass, and those of `vanishing` and more don't, the first since when.
    fn found(&mut self, size: u16, vanishing: Option<(u16, Duration)>, now: Duration) {
        let told = self.told.filter(|told| told.mtu == size);
        let reason = match (vanishing, told) {
            (None, _) => Reason::WholeLink,
            (Some(_), Some(told)) => Reason::Refused(told),
            (Some((from, _)), None) => Reason::Vanishing { from },
        };
        let since = vanishing.filter(|_| reason.state() == State::BlackHole).map_or(now, |(_, since)| since);
        self.settle(size, reason, since);
        self.confirmed = Some(now);
        self.due.confirm = now + CONFIRM_EVERY;
        self.due.raise_pause = FIRST_RAISE.min(self.ageing);
        self.due.raise = now + self.due.raise_pause;
        self.round = None;
    }

    /// A packet larger than the current value was answered.
    pub(super) fn raise(&mut self, size: u16, now: Duration) {
        if matches!(self.reason, Reason::Told(told) if told.mtu < size) {
            self.distrusted_until = now + DISTRUST;
        }
        if size == self.link {
            self.abandon_round();
            self.found(size, None, now);
            return;
        }
        self.settle(size, Reason::Passes, now);
        self.confirmed = Some(now);
        if self.round.is_none() {
            self.search(&[size.saturating_add(1)], now);
        }
    }
}
