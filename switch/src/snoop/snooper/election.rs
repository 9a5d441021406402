//! Who asks: this bridge, or somebody whose address is lower.

use std::{net::IpAddr, time::Duration};

use super::Member;
use crate::snoop::Settings;

/// One IP version's querier.
#[derive(Clone, Debug, Default)]
pub(super) struct Election {
    /// The bridge's own turn to ask. It says nothing by itself (that is for ports to do), but is the querier from then on.
    pub(super) own: PortQueries,
    /// Until when another querier is believed to be there.
    other_until: Option<Duration>,
    /// Before this the first query's answers are not all there.
    settles: Option<Duration>,
    /// The querier's address, and where it is; nowhere: it is this bridge.
    elected: Option<(IpAddr, Option<Member>)>,
}

impl Election {
    /// Whether another one asks.
    pub(super) fn other_asks(&self) -> bool {
        self.other_until.is_some()
    }

    /// Whether the answers to the first query had the time to come.
    pub(super) fn is_settled(&self) -> bool {
        self.settles.is_none()
    }

    /// This bridge begins to ask, and no other did: nothing is settled before `settles`.
    pub(super) fn wait_until(&mut self, settles: Duration) {
        if !self.other_asks() {
            self.settles = Some(settles);
        }
    }

    /// Hears a general query. Returns whether its sender is the querier now (`br_multicast_select_querier`: the lowest
    /// address, or the first if there is none).
    pub(super) fn hear(
        &mut self,
        src: IpAddr,
        from: Member,
        now: Duration,
        max_delay: Duration,
        querier_interval: Duration,
    ) -> bool {
        // IGMP's querier may be without an address, and then it loses; MLD's never is.
        let is_lower = match self.elected {
            Some((elected, _)) => elected.is_ipv4() && elected.is_unspecified() || src <= elected,
            None => true,
        };
        let nobody_asks = self.own.next().is_none() && !self.other_asks();
        if !is_lower && !nobody_asks {
            return false;
        }
        self.elected = Some((src, Some(from)));
        if !self.other_asks() {
            self.settles = Some(now + max_delay);
        }
        self.other_until = Some(now + querier_interval);
        true
    }

    /// Lets run out what has. Returns whether another querier did.
    pub(super) fn expire(&mut self, now: Duration) -> bool {
        self.settles = self.settles.filter(|settles| *settles > now);
        let is_gone = self.other_until.is_some_and(|until| until <= now);
        if is_gone {
            self.other_until = None;
        }
        is_gone
    }

    /// This bridge asks, from `address`.
    pub(super) fn elect_self(&mut self, address: IpAddr) {
        self.elected = Some((address, None));
    }

    /// The querier, where it is (nowhere: here) and until when it is believed to be.
    pub(super) fn elected(&self) -> Option<(IpAddr, Option<Member>, Option<Duration>)> {
        self.elected.map(|(address, at)| (address, at, self.other_until))
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Duration> {
        [self.own.next(), self.other_until, self.settles].into_iter().flatten()
    }
}

/// When a port is asked next.
#[derive(Clone, Debug, Default)]
pub(super) struct PortQueries {
    sent: u32,
    next: Option<Duration>,
}

impl PortQueries {
    /// Begins anew, with the faster queries.
    pub(super) fn start(&mut self, now: Duration) {
        *self = Self { sent: 0, next: Some(now) };
    }

    pub(super) fn put_off(&mut self, until: Duration) {
        self.next = Some(until);
    }

    pub(super) fn next(&self) -> Option<Duration> {
        self.next
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// Its turn has come. If nothing may be asked, there is no next turn until [`PortQueries::start`].
    pub(super) fn take(&mut self, now: Duration, may_ask: bool, settings: &Settings) {
        self.sent = settings.startup_query_count.min(self.sent + 1);
        let is_starting = self.sent < settings.startup_query_count;
        let interval = if is_starting { settings.startup_query_interval } else { settings.query_interval };
        self.next = may_ask.then(|| now + interval);
    }
}
