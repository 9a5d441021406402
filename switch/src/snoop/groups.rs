//! One port's membership in one group, and what reports do to it.
//!
//! The rules are those for routers of RFC 3376 section 6.4 and RFC 3810 section 7.4, which the kernel's functions have in
//! their comments (`br_multicast.c`: `br_multicast_isinc_allow` to `br_multicast_block`). A membership is of one of two modes:
//!
//! ```text
//! INCLUDE (A)     it wants the sources of A; each has a timer and goes when that runs out
//! EXCLUDE (X, Y)  it wants all sources but those of Y, whose timers have run out; X are those that somebody asked for
//! ```

use std::{net::IpAddr, time::Duration};

use super::{
    Member, Settings,
    hosts::{Hosts, Said},
};
use crate::wire::{
    MacAddr,
    membership::{Record, RecordKind},
};

/// Sources that are kept for a membership (`PG_SRC_ENT_LIMIT`).
pub(super) const MAX_SOURCES: usize = 32;

/// One port's membership in one group.
#[derive(Clone, Debug)]
pub(super) struct Membership {
    pub(super) member: Member,
    /// The host, where each has a membership of its own (`mcast_to_unicast`).
    pub(super) host: Option<MacAddr>,
    /// A user wrote it down: nothing that is heard changes it.
    pub(super) is_static: bool,
    pub(super) excludes: bool,
    /// When it ends, or with sources becomes an INCLUDE.
    pub(super) expires: Option<Duration>,
    pub(super) sources: Vec<Source>,
    /// When queries are sent again.
    pub(super) asks_again: Option<Duration>,
    /// How many more times it is asked for as a whole.
    pub(super) questions_left: u32,
    pub(super) hosts: Hosts,
}

/// A source in a membership's list.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) address: IpAddr,
    /// `None`: its time has run out, and an EXCLUDE membership does not want it.
    pub(super) expires: Option<Duration>,
    questions_left: u32,
    is_asked_for: bool,
    goes: bool,
}

/// What holds while a record is taken note of.
pub(super) struct At<'s> {
    pub(super) now: Duration,
    pub(super) settings: &'s Settings,
    /// Whether this bridge is the querier.
    pub(super) asks: bool,
    /// Whether hosts are followed one by one.
    pub(super) follows_hosts: bool,
}

impl At<'_> {
    /// Until when a report holds.
    fn until(&self) -> Duration {
        self.now + self.settings.membership_interval
    }

    /// Until when somebody must have answered a query.
    fn until_answered(&self) -> Duration {
        self.now + self.settings.last_member_time()
    }
}

/// What a router would ask because of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ask {
    /// Whether anybody is left.
    Group { suppress: bool },
    /// Whether anybody wants these.
    Sources { sources: Vec<IpAddr>, suppress: bool },
}

/// What a record did.
#[derive(Default)]
pub(super) struct Done {
    pub(super) asks: Vec<Ask>,
    /// Nobody is left.
    pub(super) is_over: bool,
}

impl Membership {
    pub(super) const fn new(member: Member, host: Option<MacAddr>, excludes: bool) -> Self {
        Self {
            member,
            host,
            is_static: false,
            excludes,
            expires: None,
            sources: Vec::new(),
            asks_again: None,
            questions_left: 0,
            hosts: Hosts::EMPTY,
        }
    }

    /// Takes note of what the host at `host` says.
    pub(super) fn note(&mut self, record: &Record<'_>, host: IpAddr, at: &At<'_>) -> Done {
        let named: Vec<IpAddr> = record.sources().collect();
        let said =
            Said { host, kind: record.kind, sources: &named, until: at.until(), until_answered: at.until_answered() };
        let mut asks = Vec::new();
        let is_over = match record.kind {
            RecordKind::Allow | RecordKind::IsInclude => {
                self.refresh(&named, at);
                self.follow(&said, at);
                false
            }
            RecordKind::IsExclude => {
                self.exclude(&said, at, &mut asks);
                false
            }
            RecordKind::ToExclude => {
                self.exclude(&said, at, &mut asks);
                false
            }
            RecordKind::ToInclude => {
                self.change_to_include(&said, at, &mut asks);
                self.is_left_by_all(at)
            }
            RecordKind::Block => {
                self.block(&said, at, &mut asks);
                !self.excludes && self.sources.is_empty() || self.is_left_by_all(at)
            }
        };
        Done { asks, is_over }
    }

    /// ```text
    /// INCLUDE (A)   IS_IN (B), ALLOW (B)  INCLUDE (A+B)      (B)=GMI
    /// EXCLUDE (X,Y) ALLOW (A)             EXCLUDE (X+A,Y-A)  (A)=GMI
    /// ```
    fn refresh(&mut self, named: &[IpAddr], at: &At<'_>) {
        for address in named {
            if let Some(index) = self.find_or_add(*address) {
                self.sources[index].expires = Some(at.until());
            }
        }
    }

    /// ```text
    /// INCLUDE (A)   IS_EX (B)  EXCLUDE (A*B,B-A)  (B-A)=0,   Delete (A-B)
    /// INCLUDE (A)   TO_EX (B)  the same, and      Send Q(G,A*B)
    /// EXCLUDE (X,Y) IS_EX (A)  EXCLUDE (A-Y,Y*A)  (A-X-Y)=GMI, Delete (X-A) (Y-A)
    /// EXCLUDE (X,Y) TO_EX (A)  the same, but      (A-X-Y)=Group Timer, Send Q(G,A-Y)
    /// always                                      Group Timer=GMI
    /// ```
    fn exclude(&mut self, said: &Said<'_>, at: &At<'_>, asks: &mut Vec<Ask>) {
        let is_change = said.kind == RecordKind::ToExclude;
        for source in &mut self.sources {
            (source.goes, source.is_asked_for) = (true, source.is_asked_for && !is_change);
        }
        let mut to_ask = false;
        for address in said.sources {
            let found = self.find(*address);
            let Some(index) = found.or_else(|| self.add(*address)) else { continue };
            let source = &mut self.sources[index];
            source.goes = false;
            if found.is_none() && self.excludes {
                source.expires = if is_change { self.expires } else { Some(at.until()) };
            }
            let asks_for_it = if self.excludes { source.expires.is_some() } else { found.is_some() };
            if is_change && asks_for_it {
                source.is_asked_for = true;
                to_ask = true;
            }
        }
        self.follow(said, at);
        self.sources.retain(|source| !source.goes);
        if to_ask {
            self.ask_for_sources(at, asks);
        }
        self.excludes = true;
        self.expires = Some(at.until());
    }

    /// ```text
    /// INCLUDE (A)   TO_IN (B)  INCLUDE (A+B)      (B)=GMI  Send Q(G,A-B)
    /// EXCLUDE (X,Y) TO_IN (A)  EXCLUDE (X+A,Y-A)  (A)=GMI  Send Q(G,X-A), Q(G)
    /// ```
    fn change_to_include(&mut self, said: &Said<'_>, at: &At<'_>, asks: &mut Vec<Ask>) {
        for source in &mut self.sources {
            source.is_asked_for |= !self.excludes || source.expires.is_some();
        }
        for address in said.sources {
            let Some(index) = self.find_or_add(*address) else { continue };
            let source = &mut self.sources[index];
            source.is_asked_for = false;
            source.expires = Some(at.until());
        }
        self.follow(said, at);
        if self.sources.iter().any(|source| source.is_asked_for) {
            self.ask_for_sources(at, asks);
        }
        if self.excludes {
            self.ask_for_group(at, asks);
        }
    }

    /// ```text
    /// INCLUDE (A)   BLOCK (B)  INCLUDE (A)             Send Q(G,A*B)
    /// EXCLUDE (X,Y) BLOCK (A)  EXCLUDE (X+(A-Y),Y)     (A-X-Y)=Group Timer  Send Q(G,A-Y)
    /// ```
    fn block(&mut self, said: &Said<'_>, at: &At<'_>, asks: &mut Vec<Ask>) {
        self.sources.iter_mut().for_each(|source| source.is_asked_for = false);
        let mut to_ask = false;
        for address in said.sources {
            let index = match self.find(*address) {
                None if self.excludes => {
                    let added = self.add(*address);
                    if let Some(index) = added {
                        self.sources[index].expires = self.expires;
                    }
                    added
                }
                found => found,
            };
            let Some(index) = index else { continue };
            let source = &mut self.sources[index];
            if !self.excludes || source.expires.is_some() {
                source.is_asked_for = true;
                to_ask = true;
            }
        }
        self.follow(said, at);
        if to_ask {
            self.ask_for_sources(at, asks);
        }
    }

    fn find(&self, address: IpAddr) -> Option<usize> {
        self.sources.iter().position(|source| source.address == address)
    }

    fn find_or_add(&mut self, address: IpAddr) -> Option<usize> {
        self.find(address).or_else(|| self.add(address))
    }

    /// Puts a source on the list that nobody wants yet, unless it can't be one or the list is full.
    fn add(&mut self, address: IpAddr) -> Option<usize> {
        let can_be = match address {
            IpAddr::V4(v4) => v4.octets()[0] != 0 && !v4.is_multicast(),
            IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
        };
        if !can_be || self.sources.len() >= MAX_SOURCES {
            return None;
        }
        self.sources.push(Source { address, expires: None, questions_left: 0, is_asked_for: false, goes: false });
        Some(self.sources.len() - 1)
    }

    fn follow(&mut self, said: &Said<'_>, at: &At<'_>) {
        if !at.follows_hosts {
            return;
        }
        let listed: Vec<_> = self.sources.iter().map(|source| (source.address, source.is_asked_for)).collect();
        let unwanted = self.hosts.note(said, &listed);
        self.sources.retain(|source| !unwanted.contains(&source.address));
    }

    fn is_left_by_all(&self, at: &At<'_>) -> bool {
        at.follows_hosts && self.hosts.is_empty()
    }

    /// `__grp_src_query_marked_and_rexmit`. The first query for sources goes out when it is repeated: what is asked at once
    /// are those whose time is still long, and it was just made short.
    fn ask_for_sources(&mut self, at: &At<'_>, asks: &mut Vec<Ask>) {
        let until_answered = at.until_answered();
        for source in &mut self.sources {
            let is_asked_for = std::mem::take(&mut source.is_asked_for);
            if is_asked_for && source.expires.is_some_and(|expires| expires > until_answered) {
                if at.asks {
                    source.questions_left = at.settings.last_member_count;
                }
                source.expires = Some(until_answered);
            }
        }
        if !at.asks {
            return;
        }
        if let Some(ask) = self.sources_to_ask_for(at, true) {
            asks.push(ask);
            asks.extend(self.sources_to_ask_for(at, false));
        }
        self.ask_again_soon(at);
    }

    /// `__grp_send_query_and_rexmit`
    fn ask_for_group(&mut self, at: &At<'_>, asks: &mut Vec<Ask>) {
        if at.asks {
            self.questions_left = at.settings.last_member_count.saturating_sub(1);
            asks.push(Ask::Group { suppress: false });
            self.ask_again_soon(at);
        }
        if self.excludes {
            lower(&mut self.expires, at.until_answered());
        }
    }

    fn ask_again_soon(&mut self, at: &At<'_>) {
        lower(&mut self.asks_again, at.now + at.settings.last_member_interval);
    }

    /// `br_multicast_port_group_rexmit`: it is time to ask again.
    pub(super) fn ask_again(&mut self, at: &At<'_>) -> Vec<Ask> {
        self.asks_again = None;
        let mut asks = Vec::new();
        if !at.asks {
            return asks;
        }
        if self.questions_left > 0 {
            self.questions_left -= 1;
            asks.push(Ask::Group { suppress: true });
        }
        asks.extend(self.sources_to_ask_for(at, false));
        if self.questions_left > 0 || self.sources.iter().any(|source| source.questions_left > 0) {
            self.asks_again = Some(at.now + at.settings.last_member_interval);
        }
        asks
    }

    /// The sources to ask for whose time is longer than an answer takes, or those whose time is not. A router that hears
    /// of the first lets its timers alone.
    fn sources_to_ask_for(&mut self, at: &At<'_>, is_long: bool) -> Option<Ask> {
        let until_answered = at.until_answered();
        let mut sources = Vec::new();
        for source in self.sources.iter_mut().filter(|source| source.questions_left > 0) {
            if source.expires.is_some_and(|expires| expires > until_answered) == is_long {
                source.questions_left -= 1;
                sources.push(source.address);
            }
        }
        (!sources.is_empty()).then_some(Ask::Sources { sources, suppress: is_long })
    }

    /// Whether it wants frames from `source`; `knows_sources` is false where hosts do not choose them.
    pub(super) fn wants(&self, source: IpAddr, knows_sources: bool) -> bool {
        match self.sources.iter().find(|listed| listed.address == source) {
            Some(listed) if knows_sources => listed.expires.is_some(),
            Some(_) | None => self.wants_unlisted(knows_sources),
        }
    }

    /// Whether it wants frames from sources that nobody named.
    pub(super) const fn wants_unlisted(&self, knows_sources: bool) -> bool {
        self.excludes || !knows_sources
    }

    /// Whether it is a membership of no source, and without an end.
    pub(super) fn wants_nothing(&self) -> bool {
        !self.excludes && self.sources.is_empty() && self.expires.is_none()
    }

    /// Lets run out what has. Returns whether it goes.
    pub(super) fn expire(&mut self, now: Duration) -> bool {
        self.hosts.expire(now);
        for source in self.sources.iter_mut().filter(|source| source.expires.is_some_and(|expires| expires <= now)) {
            source.expires = None;
            source.goes = true;
        }
        let had_sources = !self.sources.is_empty();
        if !self.excludes {
            // `br_multicast_group_src_expired`; one that never had time (a version 3 host in a version 2 world) is none of these.
            self.sources.retain(|source| source.expires.is_some() || !source.goes);
        }
        self.sources.iter_mut().for_each(|source| source.goes = false);
        let ran_dry = had_sources && self.sources.is_empty();
        let is_over = self.expires.is_some_and(|expires| expires <= now);
        if is_over {
            self.expires = None;
        }
        if self.is_static {
            return false;
        }
        if is_over {
            // `br_multicast_port_group_expired`
            self.excludes = false;
            self.sources.retain(|source| source.expires.is_some());
            return self.sources.is_empty();
        }
        !self.excludes && ran_dry
    }

    /// When something runs out next.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let sources = self.sources.iter().filter_map(|source| source.expires);
        sources.chain(self.expires).chain(self.asks_again).chain(self.hosts.deadline()).min()
    }
}

/// Makes a timer run out at `at`, if it does not before.
pub(super) fn lower(timer: &mut Option<Duration>, at: Duration) {
    *timer = Some(timer.map_or(at, |timer| timer.min(at)));
}
