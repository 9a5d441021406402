//! The path MTU to one VTEP: what is known about it, and what to send to know more. No sockets, no clocks: events and
//! `now` in, probes and values out.
//!
//! Sizes are those of outer IP packets, headers included, as every MTU counts ([`crate::mtu`]). `now` is the time since any
//! fixed moment, the same for all calls.
//!
//! # Theory of operation
//!
//! Nobody tells the path MTU reliably. The link's MTU says nothing about the links behind it; ICMP errors are filtered, and
//! forged. What can be believed is a packet that arrived: so a packet of each size in question is sent, and whoever is at
//! the other end answers it (RFC 8899, with the answers' transport left to the caller: [`Method`]).
//!
//! ```text
//!              error of a router               probes answered and not
//!   assumed --------------------> learned -----------------------------> measured, or black hole
//!      |                             ^                                        |
//!      +---- probes ----------->     +------------- error of a router --------+
//! ```
//!
//! * **assumed**: the MTU of the link. Nobody has answered (yet), or nothing is to be measured ([`Policy`]).
//! * **learned**: a router said that it is smaller. Believed at once, since frames are being lost, and checked at once.
//! * **measured**: a packet of this size was answered, and no larger one was, or no larger one leaves the link.
//! * **black hole**: the same, and no router says anything about the larger ones: they vanish.
//!
//! **The search** is for the largest size that is answered. First a small packet, the *base*, is sent by every method: it
//! says who answers, and how long that takes. Then one of the link's MTU, which ends nearly every search. Then as many sizes
//! at once as the method can tell apart, and between the largest that was answered and the smallest that was not as many
//! again. A size counts as lost after three packets without an answer, each after several round trips, so a lost size costs
//! far more than an answered one; with eight sizes in flight 9,000 bytes are settled in five rounds, while halving, as one
//! size in flight would have it, takes thirteen.
//!
//! **What is not believed.** Anybody can send an ICMP error. One that does not quote a packet of ours is worth nothing
//! ([`Claim::quotes_us`]). One that names the current value or more, or less than every path carries (IPv4: 576 bytes,
//! the least that every host must take; IPv6: 1280), moves nothing; it may make a check come earlier, at most once in
//! [`CHECK_PAUSE`]. A plausible one lowers the value, and the check finds larger packets answered; then the next ones have
//! to wait for a check before they lower anything ([`DISTRUST`]). So ten thousand forged errors cost a few packets and a
//! few milliseconds of smaller ones.
//!
//! **Later.** While the peer is in use, a packet of the current value is sent every [`CONFIRM_EVERY`]; if it is lost three
//! times while small ones are answered, a new search begins. Below the link's MTU, larger ones are tried again after some
//! seconds, then less and less often up to the ageing time (10 minutes: RFC 1191 section 6.3, RFC 8899 section 5.1.1). To a
//! peer that is not in use nothing is sent but, while it does not answer, its base once a minute.

mod round;
mod search;
#[cfg(test)]
mod simulated;
mod sizes;
#[cfg(test)]
mod tests;
mod words;

use std::time::Duration;

use self::round::{Kind, Round};
pub use self::words::{Claim, ClaimFate, Method, Policy, Probe, Reason, State, Told};
use crate::mtu::{Family, IPV6_MIN_MTU};

/// The least that every IPv4 host must be able to take in one packet, whatever its parts (RFC 791 section 3.2). Links may be
/// smaller in theory (68 bytes); an error that says so is a forgery or of no use, as RFC 8899 section 4.6.2 puts it.
pub const IPV4_MIN_PATH_MTU: u16 = 576;

/// How often the current value is confirmed while the peer is in use.
pub const CONFIRM_EVERY: Duration = Duration::from_secs(10);
/// How often a peer in use that does not answer is asked again.
pub const ASK_EVERY: Duration = Duration::from_secs(10);
/// The same for a peer that is not in use.
pub const ASK_IDLE_EVERY: Duration = Duration::from_secs(60);
/// When larger sizes are tried again for the first time after a search that ended below the link's MTU: soon, because three
/// lost packets can be bad luck. Each time without an answer, the next is three times as far.
pub const FIRST_RAISE: Duration = Duration::from_secs(5);
/// How long a learned value lasts without being heard again, and how long at most until larger ones are tried.
pub const AGEING: Duration = Duration::from_secs(600);
/// Errors that name impossible values, and plausible ones while they are distrusted, lead to one check in this time.
pub const CHECK_PAUSE: Duration = Duration::from_secs(5);
/// How long errors are not believed without a check after one was found to be wrong.
pub const DISTRUST: Duration = Duration::from_secs(60);

/// A packet without an answer counts as lost after this time at least: answers of a process wait for its turn on a busy
/// processor.
pub const TIMEOUT_FLOOR: Duration = Duration::from_millis(150);
/// The same at most.
pub const TIMEOUT_CEILING: Duration = Duration::from_secs(3);
/// The same while no answer has come that would say how long they take.
pub const FIRST_TIMEOUT: Duration = Duration::from_millis(400);
/// Round trips to wait for an answer.
const TIMEOUT_ROUND_TRIPS: u32 = 4;
/// Packets of one size without an answer before the size counts as lost (RFC 8899 section 5.1.2: MAX_PROBES is 3).
pub const TRIES: usize = 3;
/// How long a better method may answer the base later than the first one.
const GRACE: Duration = Duration::from_millis(50);
/// Answers to packets that were given up are still understood for this long.
const LATE: Duration = Duration::from_secs(10);
/// How many such packets are remembered.
const LATE_COUNT: usize = 64;

/// The path MTU to one VTEP.
#[derive(Clone, Debug)]
pub struct PathMtu {
    family: Family,
    policy: Policy,
    ageing: Duration,
    /// The MTU of the link that packets leave by.
    link: u16,
    current: u16,
    reason: Reason,
    /// Since when it is so: of a black hole, when the first packet vanished.
    since: Duration,
    /// What a router said last, if it was plausible.
    told: Option<Told>,
    /// Who answers.
    method: Option<Method>,
    /// How long answers take, smoothed.
    round_trip: Option<Duration>,
    /// When a packet of the current value was last answered.
    confirmed: Option<Duration>,
    /// Since when nobody answers any more, or at all.
    unanswered_since: Option<Duration>,
    in_use: bool,
    round: Option<Round>,
    due: Due,
    /// Until when plausible errors lower nothing.
    distrusted_until: Duration,
    /// Until when no error leads to a check.
    no_check_until: Duration,
    /// Packets that were given up.
    late: Vec<Late>,
    nonces: Nonces,
}

/// When what is to be done, while no round is under way.
#[derive(Clone, Copy, Debug)]
struct Due {
    /// The base is sent again: nobody answers.
    ask: Duration,
    /// The current value is confirmed.
    confirm: Duration,
    /// Larger sizes are tried.
    raise: Duration,
    /// What `raise` was set by.
    raise_pause: Duration,
}

/// A packet without an answer.
#[derive(Clone, Copy, Debug)]
struct Late {
    nonce: u64,
    size: u16,
    sent: Duration,
}

impl PathMtu {
    /// The path MTU to a VTEP that nothing is known of but the MTU of the link that leads there. `secret` is a random
    /// number, which nonces come from.
    pub fn new(family: Family, policy: Policy, link_mtu: u32, secret: u64, now: Duration) -> Self {
        let link = link_len(link_mtu);
        Self {
            family,
            policy,
            ageing: AGEING,
            link,
            current: link,
            reason: nothing_known(policy),
            since: now,
            told: None,
            method: None,
            round_trip: None,
            confirmed: None,
            unanswered_since: None,
            in_use: false,
            round: None,
            due: Due { ask: now, confirm: now, raise: now, raise_pause: FIRST_RAISE },
            distrusted_until: now,
            no_check_until: now,
            late: Vec::new(),
            nonces: Nonces(secret),
        }
    }

    /// The same with another ageing time than [`AGEING`].
    #[must_use]
    pub fn with_ageing(self, ageing: Duration) -> Self {
        Self { ageing, ..self }
    }

    /// The largest outer IP packet that reaches the VTEP, as far as is known.
    pub const fn path_mtu(&self) -> u16 {
        self.current
    }

    /// What that is.
    pub const fn state(&self) -> State {
        self.reason.state()
    }

    /// Why.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Since when. Of a black hole: when the first packet vanished.
    pub const fn since(&self) -> Duration {
        self.since
    }

    /// The MTU of the link that leads there.
    pub const fn link_mtu(&self) -> u16 {
        self.link
    }

    /// Who answers probes, if anybody has.
    pub const fn method(&self) -> Option<Method> {
        self.method
    }

    /// How long answers take.
    pub const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// When a packet of the current size was last answered.
    pub const fn confirmed(&self) -> Option<Duration> {
        self.confirmed
    }

    /// Since when nobody answers; `None` while somebody does, and before anybody was asked.
    pub const fn unanswered_since(&self) -> Option<Duration> {
        self.unanswered_since
    }

    /// Whether probes are under way.
    pub const fn is_asking(&self) -> bool {
        self.round.is_some()
    }

    /// The smallest value that errors can lead to; also the base of a search.
    pub fn minimum(&self) -> u16 {
        match self.family {
            Family::Ipv4 => IPV4_MIN_PATH_MTU,
            Family::Ipv6 => IPV6_MIN_MTU,
        }
        .min(self.link)
    }

    /// The link that leads there has this MTU now, or another one does.
    pub fn set_link_mtu(&mut self, link_mtu: u32, now: Duration) {
        let link = link_len(link_mtu);
        if link == self.link {
            return;
        }
        let was_whole = self.current == self.link;
        self.link = link;
        // What is too large for the link by now is not asked for again.
        if self.round.as_ref().is_some_and(|round| round.asks_more_than(link)) {
            self.abandon_round();
        }
        if was_whole || link <= self.current {
            self.settle(link, nothing_known(self.policy), now);
            self.told = None;
        }
        if self.policy == Policy::Measure && self.unanswered_since.is_none() {
            self.search(&[self.current], now);
        }
    }

    /// The peer is sent frames, or no more.
    pub fn set_in_use(&mut self, in_use: bool, now: Duration) {
        if in_use && !self.in_use {
            self.due.ask = self.due.ask.min(now);
        }
        self.in_use = in_use;
    }

    /// There is a way to ask now that there was not: somebody may answer who did not.
    pub fn ask_again(&mut self, now: Duration) {
        let is_answered = self.method.is_some() && self.unanswered_since.is_none();
        if self.policy == Policy::Measure && !is_answered {
            self.due.ask = now;
            self.abandon_round();
        }
    }

    /// An ICMP error came.
    pub fn on_claim(&mut self, claim: Claim, now: Duration) -> ClaimFate {
        if self.policy == Policy::Assume {
            return ClaimFate::Ignored;
        }
        if !claim.quotes_us {
            return ClaimFate::Foreign;
        }
        let possible = u16::try_from(claim.mtu).ok().filter(|mtu| (self.minimum()..=self.current).contains(mtu));
        let Some(mtu) = possible else {
            self.check_soon(now);
            return ClaimFate::Impossible;
        };
        let told = Told { mtu, from: claim.from, at: now };
        if mtu == self.current {
            self.agree(told);
            return ClaimFate::Known;
        }
        if now < self.distrusted_until {
            self.check_soon(now);
            return ClaimFate::Doubted;
        }
        let before = self.current;
        self.told = Some(told);
        self.settle(mtu, Reason::Told(told), now);
        if self.policy == Policy::Measure {
            self.search(&[mtu, mtu + 1, before], now);
        }
        ClaimFate::Believed
    }

    /// The size of the probe with this nonce, if an answer to it would still be understood.
    pub fn asked(&self, nonce: u64) -> Option<u16> {
        let underway = self.round.as_ref().and_then(|round| round.size_of(nonce));
        underway.or_else(|| self.late.iter().find(|late| late.nonce == nonce).map(|late| late.size))
    }

    /// A probe was answered by this method. `None`: no probe has that nonce, or not any more.
    pub fn on_answer(&mut self, nonce: u64, method: Method, now: Duration) -> Option<u16> {
        let answered = self.round.as_mut().and_then(|round| round.answer(nonce, now));
        let (size, sent) = match answered {
            Some(answered) => answered,
            None => {
                let at = self.late.iter().position(|late| late.nonce == nonce && now <= late.sent + LATE)?;
                let Late { size, sent, .. } = self.late.swap_remove(at);
                (size, sent)
            }
        };
        self.note_round_trip(now.saturating_sub(sent));
        self.unanswered_since = None;
        self.method = self.method.max(Some(method));
        if let (Method::InBand, Some(round)) = (method, &mut self.round) {
            round.is_answered_best = true;
        }
        if size == self.current {
            self.confirmed = Some(now);
        }
        if size > self.current && size <= self.link {
            self.raise(size, now);
        }
        // The first answer may be one to a question that was given up, and then no round goes on from it.
        if self.round.is_none() && matches!(self.reason, Reason::Asking | Reason::Unanswered) {
            self.search_around_current(now);
        }
        Some(size)
    }

    /// The kernel did not let a probe leave, because the link has this MTU, if it says which.
    pub fn on_refused(&mut self, nonce: u64, link_mtu: Option<u32>, now: Duration) {
        let Some(size) = self.round.as_mut().and_then(|round| round.refuse(nonce)) else { return };
        match link_mtu {
            Some(link_mtu) if link_len(link_mtu) < size => self.set_link_mtu(link_mtu, now),
            Some(_) | None => {}
        }
    }

    /// The next packet to send, if one is due. To be called again until none is, whenever anything came in and at
    /// [`PathMtu::next_timeout`].
    pub fn poll(&mut self, now: Duration) -> Option<Probe> {
        self.age(now);
        if self.policy != Policy::Measure {
            return None;
        }
        loop {
            let Some(mut round) = self.round.take() else {
                self.begin_what_is_due(now)?;
                continue;
            };
            let timeout = self.timeout();
            if round.is_slow(timeout, now) {
                self.widen(&mut round);
            }
            let nonce = self.nonces.next();
            if let Some(probe) = round.send(nonce, timeout, now) {
                self.round = Some(round);
                return Some(probe);
            }
            if round.is_over(timeout, now) {
                self.conclude(&round, now);
            } else {
                self.round = Some(round);
                return None;
            }
        }
    }

    /// When [`PathMtu::poll`] has to be called next if nothing happens before; `None`: never.
    pub fn next_timeout(&self) -> Option<Duration> {
        let ages = if let Reason::Told(told) = self.reason { Some(told.at + self.ageing) } else { None };
        if self.policy != Policy::Measure {
            return ages;
        }
        let due = match &self.round {
            Some(round) => Some(round.next_timeout(self.timeout())),
            None => self.next_due().map(|(at, _)| at),
        };
        ages.into_iter().chain(due).min()
    }

    /// A router says what is known.
    fn agree(&mut self, told: Told) {
        self.told = Some(told);
        self.reason = match self.reason {
            Reason::Told(_) => Reason::Told(told),
            Reason::Refused(_) | Reason::Vanishing { .. } => Reason::Refused(told),
            Reason::Policy
            | Reason::NothingHeard
            | Reason::Asking
            | Reason::Unanswered
            | Reason::WholeLink
            | Reason::Passes => self.reason,
        };
    }

    /// Has the current value confirmed now, unless that was done lately.
    fn check_soon(&mut self, now: Duration) {
        let answers = self.method.is_some() && self.unanswered_since.is_none();
        if self.policy == Policy::Measure && answers && self.round.is_none() && now >= self.no_check_until {
            self.no_check_until = now + CHECK_PAUSE;
            let mut round = Round::new(Kind::Confirm);
            round.ask(self.current, self.method);
            self.round = Some(round);
        }
    }

    /// What a router said long ago is forgotten.
    fn age(&mut self, now: Duration) {
        if let Reason::Told(told) = self.reason
            && now >= told.at + self.ageing
            && self.round.is_none()
        {
            self.told = None;
            let reason = if self.unanswered_since.is_some() { Reason::Unanswered } else { nothing_known(self.policy) };
            self.settle(self.link, reason, now);
        }
    }

    /// Nobody answered, not even the base: everybody is asked at once, by every method.
    fn ask_everybody(&mut self, round: &Round, now: Duration) {
        self.unanswered_since.get_or_insert_with(|| round.began().unwrap_or(now));
        self.due.ask = now;
    }

    fn settle(&mut self, size: u16, reason: Reason, since: Duration) {
        let is_same = (self.current, self.reason.state()) == (size, reason.state());
        if !is_same {
            self.since = since;
            self.confirmed = None;
        }
        self.current = size;
        self.reason = reason;
    }

    fn abandon_round(&mut self) {
        if let Some(round) = self.round.take() {
            self.remember(&round);
        }
    }

    /// Keeps the packets of a round that is not waited for any more: answers may still come.
    fn remember(&mut self, round: &Round) {
        for (size, nonce, sent) in round.packets() {
            if self.late.len() >= LATE_COUNT {
                self.late.remove(0);
            }
            self.late.push(Late { nonce, size, sent });
        }
    }

    /// As RFC 6298 smooths it.
    fn note_round_trip(&mut self, took: Duration) {
        self.round_trip = Some(self.round_trip.map_or(took, |smoothed| (smoothed * 7 + took) / 8));
    }

    fn timeout(&self) -> Duration {
        let waited = |round_trip: Duration| (round_trip * TIMEOUT_ROUND_TRIPS).clamp(TIMEOUT_FLOOR, TIMEOUT_CEILING);
        self.round_trip.map_or(FIRST_TIMEOUT, waited)
    }

    /// How to ask for what decides most: of the tunnel's own packets there is nothing better than an answer of the VTEP; else
    /// whoever can be asked is.
    const fn any_method(&self) -> Option<Method> {
        match self.method {
            Some(Method::InBand) => Some(Method::InBand),
            Some(Method::Echo | Method::Station) | None => None,
        }
    }

    fn in_flight(&self) -> usize {
        self.method.map_or(1, Method::in_flight)
    }
}

/// An MTU beyond what an IP packet can be (the loopback device says 65,536) counts as the largest IP packet.
fn link_len(mtu: u32) -> u16 {
    u16::try_from(mtu).unwrap_or(u16::MAX)
}

const fn nothing_known(policy: Policy) -> Reason {
    match policy {
        Policy::Measure => Reason::Asking,
        Policy::Learn => Reason::NothingHeard,
        Policy::Assume => Reason::Policy,
    }
}

/// Numbers that nobody foresees who does not know the secret: the output of SplitMix64 (Steele et al., 2014).
#[derive(Clone, Debug)]
struct Nonces(u64);

impl Nonces {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
