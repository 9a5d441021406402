//! Questions in flight: sizes that were asked for together, and what became of each.

use std::time::Duration;

use super::{GRACE, Method, Probe, TRIES};

/// What a round is to find out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Who answers at all.
    Base,
    /// Whether the current value still passes.
    Confirm,
    /// Whether larger sizes do by now.
    Raise,
    /// Where between a size that passes and one that doesn't the border is.
    Search {
        /// The largest size that is known to pass.
        low: u16,
        /// The smallest that is known not to; one more than the link's MTU if none is.
        high: u32,
    },
}

/// Some sizes that are asked for at once.
#[derive(Clone, Debug)]
pub(super) struct Round {
    pub(super) kind: Kind,
    questions: Vec<Question>,
    /// More has been asked for because the first packet got no answer.
    is_widened: bool,
    /// Of a base: the best method has answered, no better one need be waited for.
    pub(super) is_answered_best: bool,
    /// When the first packet was sent that vanished, in this round or the search's earlier ones.
    pub(super) vanishing_since: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Question {
    size: u16,
    method: Option<Method>,
    /// The packets, with their nonces.
    sent: Vec<(u64, Duration)>,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Open,
    Answered(Duration),
    Lost,
}

impl Question {
    /// When something has to be done about it: a packet sent, or the question given up.
    fn due(&self, timeout: Duration) -> Option<Duration> {
        let last = self.sent.last().map_or(Duration::ZERO, |(_, at)| *at + timeout);
        (self.fate == Fate::Open).then_some(last)
    }
}

impl Round {
    pub(super) const fn new(kind: Kind) -> Self {
        Self { kind, questions: Vec::new(), is_widened: false, is_answered_best: false, vanishing_since: None }
    }

    /// One more size, if it is not asked for already.
    pub(super) fn ask(&mut self, size: u16, method: Option<Method>) {
        if self.questions.iter().all(|question| question.size != size) {
            self.questions.push(Question { size, method, sent: Vec::new(), fate: Fate::Open });
        }
    }

    /// How many sizes are asked for.
    pub(super) const fn count(&self) -> usize {
        self.questions.len()
    }

    /// Whether the first packet has got no answer in time. Says so once.
    pub(super) fn is_slow(&mut self, timeout: Duration, now: Duration) -> bool {
        let Some(first) = self.questions.first() else { return false };
        let is_slow = !self.is_widened && first.sent.len() == 1 && first.due(timeout).is_some_and(|due| due <= now);
        self.is_widened |= is_slow;
        is_slow
    }

    /// The next packet that is due, with this nonce. Gives up what was tried often enough.
    pub(super) fn send(&mut self, nonce: u64, timeout: Duration, now: Duration) -> Option<Probe> {
        let is_due = |question: &&mut Question| question.due(timeout).is_some_and(|due| due <= now);
        for question in self.questions.iter_mut().filter(is_due) {
            if question.sent.len() >= TRIES {
                question.fate = Fate::Lost;
                continue;
            }
            question.sent.push((nonce, now));
            return Some(Probe { size: question.size, nonce, method: question.method });
        }
        None
    }

    /// The size that was asked for with this nonce.
    pub(super) fn size_of(&self, nonce: u64) -> Option<u16> {
        let of = |question: &&Question| question.sent.iter().any(|(sent, _)| *sent == nonce);
        self.questions.iter().find(of).map(|question| question.size)
    }

    /// An answer: to which size, and when that was sent. What is smaller need not be asked for any more.
    pub(super) fn answer(&mut self, nonce: u64, now: Duration) -> Option<(u16, Duration)> {
        let find = |question: &Question| {
            let (_, at) = question.sent.iter().find(|(sent, _)| *sent == nonce)?;
            Some((question.size, *at))
        };
        let (size, sent) = self.questions.iter().find_map(find)?;
        for question in self.questions.iter_mut().filter(|question| question.size <= size) {
            if !matches!(question.fate, Fate::Answered(_)) {
                question.fate = Fate::Answered(now);
            }
        }
        Some((size, sent))
    }

    /// The kernel did not let a packet leave: its size, which will not be answered.
    pub(super) fn refuse(&mut self, nonce: u64) -> Option<u16> {
        let is_it = |question: &&mut Question| question.sent.iter().any(|(sent, _)| *sent == nonce);
        let question = self.questions.iter_mut().find(is_it)?;
        question.fate = Fate::Lost;
        Some(question.size)
    }

    /// Whether nothing is waited for any more.
    pub(super) fn is_over(&self, timeout: Duration, now: Duration) -> bool {
        match (self.kind, self.first_answer()) {
            (Kind::Base, Some(at)) => self.is_answered_best || at + GRACE <= now,
            // The value was confirmed, whatever else was asked.
            (Kind::Confirm, _) if matches!(self.questions.first(), Some(Question { fate: Fate::Answered(_), .. })) => {
                true
            }
            _ => self.questions.iter().all(|question| question.due(timeout).is_none()),
        }
    }

    /// When to look again.
    pub(super) fn next_timeout(&self, timeout: Duration) -> Duration {
        let grace = match (self.kind, self.first_answer()) {
            (Kind::Base, Some(at)) => Some(at + GRACE),
            _ => None,
        };
        let due = self.questions.iter().filter_map(|question| question.due(timeout));
        due.chain(grace).min().unwrap_or_default()
    }

    /// When its first packet was sent.
    pub(super) fn began(&self) -> Option<Duration> {
        self.questions.iter().filter_map(|question| question.sent.first()).map(|(_, at)| *at).min()
    }

    /// Whether a size is asked for that is larger than this one.
    pub(super) fn asks_more_than(&self, size: u16) -> bool {
        self.questions.iter().any(|question| question.size > size)
    }

    pub(super) fn largest_answered(&self) -> Option<u16> {
        let is_answered = |question: &&Question| matches!(question.fate, Fate::Answered(_));
        self.questions.iter().filter(is_answered).map(|question| question.size).max()
    }

    pub(super) fn smallest_lost_above(&self, low: u16) -> Option<u16> {
        let lost = self.questions.iter().filter(|question| question.fate == Fate::Lost);
        lost.map(|question| question.size).filter(|size| *size > low).min()
    }

    /// When the first packet was sent that was lost.
    pub(super) fn first_lost(&self) -> Option<Duration> {
        let lost = self.questions.iter().filter(|question| question.fate == Fate::Lost);
        lost.filter_map(|question| question.sent.first()).map(|(_, at)| *at).min()
    }

    /// Size, nonce and time of every packet.
    pub(super) fn packets(&self) -> impl Iterator<Item = (u16, u64, Duration)> {
        let of = |question: &Question| {
            let size = question.size;
            question.sent.iter().map(move |(nonce, at)| (size, *nonce, *at)).collect::<Vec<_>>()
        };
        self.questions.iter().flat_map(of)
    }

    fn first_answer(&self) -> Option<Duration> {
        let answered = |question: &Question| match question.fate {
            Fate::Answered(at) => Some(at),
            Fate::Open | Fate::Lost => None,
        };
        self.questions.iter().filter_map(answered).min()
    }
}
