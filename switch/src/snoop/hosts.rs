//! Explicit tracking of hosts (RFC 3376 appendix A.2): which host behind a port wants which source of a group.
//!
//! On a port with `mcast_fast_leave`, hosts that choose their sources are followed one by one, so that a source or a group
//! goes in the moment in which the last of them gives it up (`net/bridge/br_multicast_eht.c`).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use crate::wire::membership::RecordKind;

/// Hosts of a group that are followed; more are not noticed (`BR_MCAST_DEFAULT_EHT_HOSTS_LIMIT`).
const MAX_HOSTS: usize = 512;
/// Sources of a host that are followed (`PG_SRC_ENT_LIMIT`).
const MAX_SOURCES: usize = super::groups::MAX_SOURCES;

/// The hosts of one group behind one port.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    /// By source; `None` stands for "all but those" and holds hosts that exclude.
    sets: BTreeMap<Option<IpAddr>, Set>,
    hosts: BTreeMap<IpAddr, Host>,
}

/// The hosts that named one source.
#[derive(Clone, Debug)]
struct Set {
    expires: Duration,
    /// By host, until when.
    hosts: BTreeMap<IpAddr, Duration>,
}

#[derive(Clone, Debug)]
struct Host {
    excludes: bool,
    sources: BTreeSet<Option<IpAddr>>,
}

/// A record of one host, as far as it matters here.
pub(super) struct Said<'s> {
    pub(super) host: IpAddr,
    pub(super) kind: RecordKind,
    pub(super) sources: &'s [IpAddr],
    /// Until when what it says holds.
    pub(super) until: Duration,
    /// Until when others may answer a query.
    pub(super) until_answered: Duration,
}

impl Hosts {
    /// Nobody.
    pub(super) const EMPTY: Self = Self { sets: BTreeMap::new(), hosts: BTreeMap::new() };

    /// Whether no host is known.
    pub(super) fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Takes note of a record. `listed` are the group's sources, and whether they are about to be asked for. Returns those that
    /// nobody wants any more.
    pub(super) fn note(&mut self, said: &Said<'_>, listed: &[(IpAddr, bool)]) -> Vec<IpAddr> {
        let excludes = self.hosts.get(&said.host).is_some_and(|host| host.excludes);
        match said.kind {
            // As `__eht_ip4_handle` has it, what goes by ALLOW is not told to the caller, but it goes.
            RecordKind::Allow if excludes => self.give_up(said, listed),
            RecordKind::Allow => self.add(said, false),
            RecordKind::Block if excludes => self.add(said, true),
            RecordKind::Block => self.give_up(said, listed),
            RecordKind::IsInclude | RecordKind::ToInclude => self.set_mode(said, false, excludes, listed),
            RecordKind::IsExclude | RecordKind::ToExclude => self.set_mode(said, true, excludes, listed),
        }
    }

    /// Forgets what has not been said again in time.
    pub(super) fn expire(&mut self, now: Duration) {
        let gone: Vec<_> = self
            .sets
            .iter()
            .flat_map(|(source, set)| {
                let is_over = move |until: Duration| set.expires <= now || until <= now;
                set.hosts.iter().filter(move |(_, until)| is_over(**until)).map(|(host, _)| (*source, *host))
            })
            .collect();
        for (source, host) in gone {
            self.remove(source, host);
        }
    }

    /// When something is to be forgotten next.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.sets.values().flat_map(|set| set.hosts.values().copied().chain([set.expires])).min()
    }

    fn add(&mut self, said: &Said<'_>, excludes: bool) -> Vec<IpAddr> {
        for source in said.sources.iter().filter(|source| !source.is_unspecified()) {
            self.insert(Some(*source), said, excludes);
        }
        Vec::new()
    }

    fn insert(&mut self, source: Option<IpAddr>, said: &Said<'_>, excludes: bool) {
        let host_count = self.hosts.len();
        let host = match self.hosts.get_mut(&said.host) {
            Some(host) => host,
            None if host_count >= MAX_HOSTS => return,
            None => self.hosts.entry(said.host).or_insert(Host { excludes, sources: BTreeSet::new() }),
        };
        let named = host.sources.iter().flatten().count();
        if !host.sources.contains(&source) && source.is_some() && named >= MAX_SOURCES {
            return;
        }
        host.sources.insert(source);
        let set = self.sets.entry(source).or_insert(Set { expires: said.until, hosts: BTreeMap::new() });
        set.expires = said.until;
        set.hosts.insert(said.host, said.until);
    }

    /// Whether nobody is left who named the source, and this was the last.
    fn remove(&mut self, source: Option<IpAddr>, host: IpAddr) -> bool {
        let Some(set) = self.sets.get_mut(&source) else { return false };
        if set.hosts.remove(&host).is_none() {
            return false;
        }
        let was_last = set.hosts.is_empty();
        if was_last {
            self.sets.remove(&source);
        }
        if let Some(state) = self.hosts.get_mut(&host) {
            state.sources.remove(&source);
            if state.sources.is_empty() {
                self.hosts.remove(&host);
            }
        }
        was_last
    }

    fn give_up(&mut self, said: &Said<'_>, listed: &[(IpAddr, bool)]) -> Vec<IpAddr> {
        let mut unwanted = Vec::new();
        for source in said.sources {
            if self.remove(Some(*source), said.host) && listed.iter().any(|(other, _)| other == source) {
                unwanted.push(*source);
            }
        }
        unwanted
    }

    /// The host names all that it wants, or all that it does not want.
    fn set_mode(&mut self, said: &Said<'_>, excludes: bool, excluded: bool, listed: &[(IpAddr, bool)]) -> Vec<IpAddr> {
        let is_change = matches!(said.kind, RecordKind::ToInclude | RecordKind::ToExclude);
        let flushes = is_change || excludes != excluded;
        if flushes && let Some(host) = self.hosts.get(&said.host) {
            for source in host.sources.clone() {
                self.remove(source, said.host);
            }
        }
        self.add(said, excludes);
        let mut unwanted = Vec::new();
        for (source, is_asked_for) in listed.iter().filter(|_| flushes) {
            match self.sets.get_mut(&Some(*source)) {
                None => unwanted.push(*source),
                // A host that is about to be forgotten must not outlive the source that is asked for.
                Some(set) if *is_asked_for && is_change && !excludes => set.expires = said.until_answered,
                Some(_) => {}
            }
        }
        if let Some(host) = self.hosts.get_mut(&said.host) {
            host.excludes = excludes;
        }
        if excludes {
            self.insert(None, said, true);
        } else {
            self.remove(None, said.host);
        }
        unwanted
    }
}
