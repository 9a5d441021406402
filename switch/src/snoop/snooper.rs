//! A bridge's snooping: its ports, groups and querier, and everything that happens to them.

mod election;
mod views;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use self::election::{Election, PortQueries};
pub use self::views::{EntryView, MemberView, QuerierView, RouterView};
use super::{
    Group, Mdb, PortSettings, QueryFrame, Router, Settings, Target, Targets,
    groups::{Ask, At, Membership, lower},
    mdb::{Family, PortRoom, Room},
    query::Question,
};
use crate::{
    ids::PortId,
    wire::{
        MacAddr,
        membership::{self, Message, Packet, Query, Record, RecordKind, Scope},
    },
};

/// Who can be in a group: a port of the bridge as the kernel counts them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Member {
    /// A port.
    Port(PortId),
    /// The whole overlay: every VTEP of the flood list.
    Overlay,
}

/// An entry that a user wrote down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StaticEntry {
    /// The group.
    pub group: Group,
    /// Only from this source.
    pub source: Option<IpAddr>,
    /// Who is in it.
    pub member: Member,
}

/// What a membership is found by: the group, and the source if a user wrote down one.
type Key = (Group, Option<IpAddr>);

/// A bridge that listens.
#[derive(Clone, Debug)]
pub struct Snooper {
    settings: Settings,
    /// The bridge's own address, from which it asks.
    address: MacAddr,
    /// There were more groups than `mcast_hash_max`: it snoops no more until it is told to anew.
    gave_up: bool,
    ports: BTreeMap<Member, Port>,
    groups: BTreeMap<Key, Vec<Membership>>,
    v4: Election,
    v6: Election,
    queries: Vec<QueryFrame>,
}

/// A port of the bridge that frames pass.
#[derive(Clone, Debug)]
struct Port {
    settings: PortSettings,
    v4: PortSide,
    v6: PortSide,
}

/// What a port is for one IP version.
#[derive(Clone, Debug, Default)]
struct PortSide {
    queries: PortQueries,
    /// Until when a router is believed to be there.
    router_until: Option<Duration>,
}

/// There is no room for another group.
struct Full;

impl Snooper {
    /// A bridge without ports. `address` is what its queries come from.
    pub fn new(settings: Settings, address: MacAddr, now: Duration) -> Self {
        let is_querier = settings.querier;
        let mut snooper = Self {
            settings: Settings { querier: false, ..settings },
            address,
            gave_up: false,
            ports: BTreeMap::new(),
            groups: BTreeMap::new(),
            v4: Election::default(),
            v6: Election::default(),
            queries: Vec::new(),
        };
        snooper.open(now);
        snooper.configure(Settings { querier: is_querier, ..snooper.settings.clone() }, now);
        snooper
    }

    /// Whether it snoops.
    pub fn is_on(&self) -> bool {
        self.settings.snooping && !self.gave_up
    }

    /// Whether it stopped because there were more groups than `mcast_hash_max`.
    pub fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Goes on with other settings. Also begins anew after it gave up, if they differ.
    pub fn configure(&mut self, settings: Settings, now: Duration) {
        if self.settings == settings {
            return;
        }
        let was_on = self.is_on();
        let becomes_querier = settings.querier && !self.settings.querier;
        self.settings = settings;
        self.gave_up = false;
        if becomes_querier {
            // `br_multicast_set_querier`: answers to the first query shall come before anything is kept from anybody.
            let settles = now + self.settings.query_response_interval;
            for election in [&mut self.v4, &mut self.v6] {
                election.wait_until(settles);
            }
        }
        if self.is_on() && (becomes_querier || !was_on) {
            self.open(now);
        }
    }

    /// Begins asking, as far as it is to (`br_multicast_open`, `br_multicast_start_querier`).
    fn open(&mut self, now: Duration) {
        for is_v4 in [true, false] {
            self.start_queries(is_v4, now);
        }
    }

    fn start_queries(&mut self, is_v4: bool, now: Duration) {
        self.election(is_v4).own.start(now);
        self.ports.values_mut().for_each(|port| port.side(is_v4).queries.start(now));
    }

    /// These are the ports that frames pass from now on. What was heard on others is forgotten; what a user wrote down stays.
    pub fn set_ports(&mut self, ports: &[(Member, PortSettings)], now: Duration) {
        let gone: Vec<_> =
            self.ports.keys().copied().filter(|member| !ports.iter().any(|(other, _)| other == member)).collect();
        for member in gone {
            self.ports.remove(&member);
            self.retain(|membership| membership.member != member || membership.is_static);
        }
        for (member, settings) in ports {
            let port = self.ports.entry(*member).or_insert_with(|| Port::new(now));
            if settings.router != port.settings.router {
                // `br_multicast_set_port_router`: what was learned is forgotten, whatever comes instead.
                (port.v4.router_until, port.v6.router_until) = (None, None);
            }
            port.settings = *settings;
        }
    }

    /// These are the entries that users wrote down.
    pub fn set_static(&mut self, entries: &[StaticEntry]) {
        let is_wanted = |key: &Key, member: Member| {
            entries.iter().any(|entry| (entry.group, entry.source) == *key && entry.member == member)
        };
        for (key, memberships) in &mut self.groups {
            memberships.retain(|membership| !membership.is_static || is_wanted(key, membership.member));
        }
        for entry in entries {
            let memberships = self.groups.entry((entry.group, entry.source)).or_default();
            if !memberships.iter().any(|membership| membership.is_static && membership.member == entry.member) {
                memberships.retain(|membership| membership.member != entry.member);
                let membership = Membership::new(entry.member, None, true);
                memberships.push(Membership { is_static: true, ..membership });
            }
        }
        self.groups.retain(|_, memberships| !memberships.is_empty());
    }

    /// Takes note of a packet that came from the station `src` by way of `from`.
    pub fn on_packet(&mut self, from: Member, src: MacAddr, packet: &Packet<'_>, now: Duration) {
        self.poll(now);
        if !self.is_on() || !self.ports.contains_key(&from) {
            return;
        }
        match packet.message {
            // What there is no room for is not noted; who forwards it knew, and dropped it ([`Mdb::has_room`]).
            Some(Message::Report(group)) => _ = self.join(from, src, group, true, now),
            Some(Message::Leave(group)) => self.leave(from, src, group, now),
            Some(Message::Records(records)) => {
                for record in records.iter() {
                    let Ok(record) = record else { return };
                    if self.on_record(from, src, packet.src, &record, now).is_err() {
                        return;
                    }
                }
            }
            Some(Message::Query(query)) => self.on_query(from, packet.src, &query, now),
            Some(Message::Router) => self.mark_router(from, packet.src.is_ipv4(), now),
            None => {}
        }
    }

    /// Does what has to be done by now.
    pub fn poll(&mut self, now: Duration) {
        for is_v4 in [true, false] {
            self.poll_queries(is_v4, now);
        }
        for port in self.ports.values_mut() {
            for side in [&mut port.v4, &mut port.v6] {
                side.router_until = side.router_until.filter(|until| *until > now);
            }
        }
        let is_querier = self.is_on() && self.settings.querier;
        let mut questions = Vec::new();
        for ((group, _), memberships) in &mut self.groups {
            let Group::Ip(group) = *group else { continue };
            memberships.retain_mut(|membership| !membership.expire(now));
            for membership in memberships {
                if membership.asks_again.is_some_and(|at| at <= now) {
                    let election = if group.is_ipv4() { &self.v4 } else { &self.v6 };
                    let asks = is_querier && !election.other_asks();
                    let at = At { now, settings: &self.settings, asks, follows_hosts: false };
                    questions.push((membership.member, group, membership.ask_again(&at)));
                }
            }
        }
        self.groups.retain(|_, memberships| !memberships.is_empty());
        for (member, group, asks) in questions {
            self.ask(member, group, asks);
        }
    }

    /// When [`Snooper::poll`] is to be called next, if nothing happens before.
    pub fn deadline(&self) -> Option<Duration> {
        let elections = [&self.v4, &self.v6].into_iter().flat_map(Election::deadlines);
        let sides = self.ports.values().flat_map(|port| [&port.v4, &port.v6]);
        let sides = sides.flat_map(|side| [side.router_until, side.queries.next()]).flatten();
        let groups = self.groups.values().flatten().filter_map(Membership::deadline);
        elections.chain(sides).chain(groups).min()
    }

    /// The queries to be sent since this was last asked for.
    pub fn take_queries(&mut self) -> Vec<QueryFrame> {
        std::mem::take(&mut self.queries)
    }

    fn election(&mut self, is_v4: bool) -> &mut Election {
        if is_v4 { &mut self.v4 } else { &mut self.v6 }
    }

    fn knows_sources(&self, is_v4: bool) -> bool {
        if is_v4 { self.settings.igmp_version == 3 } else { self.settings.mld_version == 2 }
    }

    fn retain(&mut self, stays: impl Fn(&Membership) -> bool) {
        self.groups.values_mut().for_each(|memberships| memberships.retain(&stays));
        self.groups.retain(|_, memberships| !memberships.is_empty());
    }

    /// `br_multicast_add_group`. `is_old`: by a report of the versions that know no sources.
    fn join(&mut self, from: Member, src: MacAddr, group: IpAddr, is_old: bool, now: Duration) -> Result<(), Full> {
        if membership::is_for_everybody(group) {
            return Ok(());
        }
        let Some(port) = self.ports.get(&from) else { return Ok(()) };
        let settings = port.settings;
        let key = (Group::Ip(group), None);
        if !self.groups.contains_key(&key) && self.entry_count() >= self.settings.hash_max {
            self.gave_up = true;
            return Err(Full);
        }
        let joined = self.membership_count(from);
        let memberships = self.groups.entry(key).or_default();
        let found = memberships.iter_mut().find(|membership| membership.is_of(from, src, &settings));
        let membership = match found {
            Some(membership) => membership,
            None if settings.max_groups > 0 && joined >= settings.max_groups => {
                self.groups.retain(|_, memberships| !memberships.is_empty());
                return Err(Full);
            }
            None => {
                memberships.push(Membership::new(from, Some(src), is_old));
                memberships.sort_by_key(|membership| membership.member);
                let at = memberships.iter().position(|membership| membership.is_of(from, src, &settings));
                &mut memberships[at.expect("it was just put there")]
            }
        };
        if is_old {
            membership.expires = Some(now + self.settings.membership_interval);
        }
        Ok(())
    }

    /// Entries as `mcast_hash_max` counts them: groups, and sources of groups.
    fn entry_count(&self) -> usize {
        let sources = self.groups.values().map(|memberships| {
            let mut sources: Vec<_> =
                memberships.iter().flat_map(|membership| &membership.sources).map(|source| source.address).collect();
            sources.sort_unstable();
            sources.dedup();
            sources.len()
        });
        self.groups.len() + sources.sum::<usize>()
    }

    /// Memberships as `mcast_max_groups` counts them: groups, and sources of groups.
    fn membership_count(&self, member: Member) -> usize {
        let of_it = self.groups.values().flatten().filter(|membership| membership.member == member);
        of_it.map(|membership| 1 + membership.sources.len()).sum()
    }

    /// How many more there can be, for those who decide about a report before it is heard here.
    fn room(&self) -> Room {
        let limited = self.ports.iter().filter(|(_, port)| port.settings.max_groups > 0);
        let of = |(member, port): (&Member, &Port)| {
            let (member, by_host) = (*member, port.settings.to_unicast);
            let of_it = |((group, source), membership): (&Key, &Membership)| match group {
                Group::Ip(group) if source.is_none() && membership.member == member => {
                    Some((*group, membership.host.filter(|_| by_host)))
                }
                Group::Ip(_) | Group::Mac(_) => None,
            };
            let all = self.groups.iter().flat_map(|(key, memberships)| memberships.iter().map(move |one| (key, one)));
            let left = port.settings.max_groups.saturating_sub(self.membership_count(member));
            PortRoom { member, left, by_host, joined: all.filter_map(of_it).collect() }
        };
        Room { left: self.settings.hash_max.saturating_sub(self.entry_count()), ports: limited.map(of).collect() }
    }

    /// `br_multicast_leave_group`
    fn leave(&mut self, from: Member, src: MacAddr, group: IpAddr, now: Duration) {
        if membership::is_for_everybody(group) {
            return;
        }
        let Some(port) = self.ports.get_mut(&from) else { return };
        let Some(memberships) = self.groups.get_mut(&(Group::Ip(group), None)) else { return };
        let settings = port.settings;
        if settings.fast_leave {
            memberships.retain(|membership| membership.is_static || !membership.is_of(from, src, &settings));
            self.groups.retain(|_, memberships| !memberships.is_empty());
            return;
        }
        let election = if group.is_ipv4() { &self.v4 } else { &self.v6 };
        if election.other_asks() {
            // The querier will ask, and everybody hears it.
            return;
        }
        let until = now + self.settings.last_member_time();
        let asks = self.settings.querier;
        if asks {
            port.side(group.is_ipv4()).queries.put_off(until);
        }
        if let Some(membership) = memberships.iter_mut().find(|membership| membership.is_of(from, src, &settings)) {
            lower(&mut membership.expires, until);
        }
        if asks {
            let question = Question { group, ..Question::general(group.is_ipv4()) };
            self.send(from, &question);
        }
    }

    /// One group record: `br_ip4_multicast_igmp3_report`, `br_ip6_multicast_mld2_report`.
    fn on_record(
        &mut self,
        from: Member,
        src: MacAddr,
        host: IpAddr,
        record: &Record<'_>,
        now: Duration,
    ) -> Result<(), Full> {
        let is_v4 = record.group.is_ipv4();
        let is_old = !self.knows_sources(is_v4);
        let wants_nothing =
            record.is_without_sources() && matches!(record.kind, RecordKind::ToInclude | RecordKind::IsInclude);
        if !wants_nothing {
            self.join(from, src, record.group, is_old, now)?;
        } else if is_old {
            self.leave(from, src, record.group, now);
        }
        if is_old {
            return Ok(());
        }
        let Some(settings) = self.ports.get(&from).map(|port| port.settings) else { return Ok(()) };
        let key = (Group::Ip(record.group), None);
        let Some(memberships) = self.groups.get_mut(&key) else { return Ok(()) };
        let of_it = |membership: &Membership| membership.is_of(from, src, &settings) && !membership.is_static;
        let Some(index) = memberships.iter().position(of_it) else { return Ok(()) };
        let election = if is_v4 { &self.v4 } else { &self.v6 };
        let at = At {
            now,
            settings: &self.settings,
            asks: self.settings.querier && !election.other_asks(),
            follows_hosts: settings.fast_leave,
        };
        let done = memberships[index].note(record, host, &at);
        // The kernel keeps one that wants nothing, for ever and without effect, if nothing is all that was ever said.
        if done.is_over || memberships[index].wants_nothing() {
            memberships.remove(index);
            if memberships.is_empty() {
                self.groups.remove(&key);
            }
        }
        self.ask(from, record.group, done.asks);
        Ok(())
    }

    /// `br_ip4_multicast_query`, `br_ip6_multicast_query`
    fn on_query(&mut self, from: Member, src: IpAddr, query: &Query, now: Duration) {
        match query.scope {
            Scope::Ignored => {}
            Scope::General => {
                let querier_interval = self.settings.querier_interval;
                let election = self.election(src.is_ipv4());
                if election.hear(src, from, now, query.max_delay, querier_interval) {
                    self.mark_router(from, src.is_ipv4(), now);
                }
            }
            Scope::Group { group, suppress } => {
                let knows_sources = self.knows_sources(group.is_ipv4());
                if suppress && knows_sources {
                    return;
                }
                let until = now + query.max_delay * self.settings.last_member_count;
                for membership in self.groups.get_mut(&(Group::Ip(group), None)).into_iter().flatten() {
                    if membership.expires.is_some() || membership.wants_unlisted(knows_sources) {
                        lower(&mut membership.expires, until);
                    }
                }
            }
        }
    }

    /// `br_multicast_mark_router`
    fn mark_router(&mut self, from: Member, is_v4: bool, now: Duration) {
        let until = now + self.settings.querier_interval;
        if let Some(port) = self.ports.get_mut(&from).filter(|port| port.settings.router == Router::Learn) {
            port.side(is_v4).router_until = Some(until);
        }
    }

    /// The queries whose time has come, and another querier whose time is over.
    fn poll_queries(&mut self, is_v4: bool, now: Duration) {
        if self.election(is_v4).expire(now) && self.is_on() {
            self.start_queries(is_v4, now);
        }
        let may_ask = self.is_on() && self.settings.querier && !self.election(is_v4).other_asks();
        let settings = self.settings.clone();
        let own_address = if is_v4 { Question::UNKNOWN_V4 } else { super::query::link_local(self.address).into() };
        let election = self.election(is_v4);
        if election.own.is_due(now) {
            election.own.take(now, may_ask, &settings);
            if may_ask {
                election.elect_self(own_address);
            }
        }
        let mut due = Vec::new();
        for (member, port) in &mut self.ports {
            let queries = &mut port.side(is_v4).queries;
            if queries.is_due(now) {
                queries.take(now, may_ask, &settings);
                due.push(*member);
            }
        }
        for member in due.into_iter().filter(|_| may_ask) {
            self.send(member, &Question::general(is_v4));
        }
    }

    fn ask(&mut self, to: Member, group: IpAddr, asks: Vec<Ask>) {
        for ask in asks {
            let (sources, suppress) = match ask {
                Ask::Group { suppress } => (Vec::new(), suppress),
                Ask::Sources { sources, suppress } => (sources, suppress),
            };
            self.send(to, &Question { group, to_group: true, sources, suppress });
        }
    }

    fn send(&mut self, to: Member, question: &Question) {
        if self.is_on() {
            self.queries.push(QueryFrame { to, bytes: question.to_frame(self.address, &self.settings) });
        }
    }

    /// The table as it is now; `None`: it does not snoop.
    pub fn mdb(&self) -> Option<Mdb> {
        if !self.is_on() {
            return None;
        }
        let (v4, v6) = (self.family(true), self.family(false));
        let mut mdb = Mdb { v4, v6, entries: Default::default(), room: self.room() };
        for ((group, source), memberships) in &self.groups {
            let family = match group {
                Group::Ip(IpAddr::V6(_)) => &mdb.v6,
                Group::Ip(IpAddr::V4(_)) | Group::Mac(_) => &mdb.v4,
            };
            // Hosts do not choose the sources of what is not IP.
            let knows_sources = family.sources && matches!(group, Group::Ip(_));
            let targets = |source: Option<IpAddr>| {
                let star = self.groups.get(&(*group, None)).into_iter().flatten();
                let star = star.filter(|membership| self.gets(membership, source, knows_sources));
                let of_source = source.and_then(|source| self.groups.get(&(*group, Some(source))));
                self.targets(star.chain(of_source.into_iter().flatten()), &family.routers)
            };
            let mut made = vec![((*group, *source), targets(*source))];
            if knows_sources {
                let sources = memberships.iter().flat_map(|membership| &membership.sources);
                made.extend(sources.map(|source| ((*group, Some(source.address)), targets(Some(source.address)))));
            }
            mdb.entries.extend(made);
        }
        Some(mdb)
    }

    fn family(&self, is_v4: bool) -> Family {
        let election = if is_v4 { &self.v4 } else { &self.v6 };
        let routers: Vec<_> =
            self.ports.iter().filter(|(_, port)| port.is_router(is_v4)).map(|(member, _)| *member).collect();
        let ports = routers.iter().filter_map(|member| match member {
            Member::Port(port) => Some(Target { port: *port, to_host: None }),
            Member::Overlay => None,
        });
        Family {
            querier: election.is_settled() && (self.settings.querier || election.other_asks()),
            sources: self.knows_sources(is_v4),
            routers: Targets { ports: ports.collect(), overlay: routers.contains(&Member::Overlay) },
        }
    }

    /// Whether a membership gets frames from `source`, or from sources that nobody named.
    ///
    /// A copy to a host's own address goes out for every source that the group was reported with, wanted or not
    /// (`br_forward.c`: `br_multicast_flood` asks for `mcast_to_unicast` first).
    fn gets(&self, membership: &Membership, source: Option<IpAddr>, knows_sources: bool) -> bool {
        let to_unicast = self.ports.get(&membership.member).is_some_and(|port| port.settings.to_unicast);
        match source {
            None => to_unicast || membership.wants_unlisted(knows_sources),
            Some(source) => {
                let is_listed = membership.sources.iter().any(|listed| listed.address == source);
                to_unicast && is_listed || membership.wants(source, knows_sources)
            }
        }
    }

    /// Members and routers together; a router gets the frame as it is, and once.
    fn targets<'m>(&self, members: impl Iterator<Item = &'m Membership>, routers: &Targets) -> Targets {
        let mut targets = routers.clone();
        for membership in members {
            match membership.member {
                Member::Overlay => targets.overlay = true,
                Member::Port(port) => {
                    let to_unicast = self.ports.get(&membership.member).is_some_and(|port| port.settings.to_unicast);
                    let is_router = routers.ports.iter().any(|target| target.port == port);
                    let to_host = membership.host.filter(|_| to_unicast && !is_router);
                    targets.ports.push(Target { port, to_host });
                }
            }
        }
        targets.ports.sort_unstable();
        targets.ports.dedup();
        targets
    }
}

impl Port {
    fn new(now: Duration) -> Self {
        let mut port = Self { settings: PortSettings::default(), v4: PortSide::default(), v6: PortSide::default() };
        port.v4.queries.start(now);
        port.v6.queries.start(now);
        port
    }

    fn side(&mut self, is_v4: bool) -> &mut PortSide {
        if is_v4 { &mut self.v4 } else { &mut self.v6 }
    }

    fn is_router(&self, is_v4: bool) -> bool {
        let side = if is_v4 { &self.v4 } else { &self.v6 };
        match self.settings.router {
            Router::Never => false,
            Router::Learn => side.router_until.is_some(),
            Router::Always => true,
        }
    }
}

impl Membership {
    /// Whether a report of the station `src` behind `member` is about it.
    fn is_of(&self, member: Member, src: MacAddr, settings: &PortSettings) -> bool {
        self.member == member && (!settings.to_unicast || self.host == Some(src))
    }
}

#[cfg(test)]
mod tests;
