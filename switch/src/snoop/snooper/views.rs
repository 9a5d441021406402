//! What can be shown of a bridge's snooping.

use std::{net::IpAddr, time::Duration};

use super::{Member, Snooper};
use crate::{
    snoop::{Group, Router},
    wire::MacAddr,
};

/// A group, or a source of a group, and who is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntryView {
    /// The group.
    pub group: Group,
    /// The source, of an entry that a user wrote down for it.
    pub source: Option<IpAddr>,
    /// The members.
    pub members: Vec<MemberView>,
}

/// A membership.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberView {
    /// Whose.
    pub member: Member,
    /// The host, if each has its own (`mcast_to_unicast`).
    pub host: Option<MacAddr>,
    /// Whether a user wrote it down.
    pub is_static: bool,
    /// Whether it wants all sources but those listed, or those listed only.
    pub excludes: bool,
    /// For how long, unless it is said again.
    pub expires_in: Option<Duration>,
    /// Its sources, each with the time that it is still wanted; none: it is blocked.
    pub sources: Vec<(IpAddr, Option<Duration>)>,
}

/// Who asks for members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuerierView {
    /// Its address.
    pub address: IpAddr,
    /// Where it is; `None`: it is this bridge.
    pub member: Option<Member>,
    /// After what time it is believed gone.
    pub expires_in: Option<Duration>,
}

/// A router.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouterView {
    /// Where it is.
    pub member: Member,
    /// After what time it is believed gone; `None`: it stays, by configuration.
    pub expires_in: Option<Duration>,
}

impl Snooper {
    /// All groups, in order.
    pub fn entries(&self, now: Duration) -> Vec<EntryView> {
        let left = |until: Option<Duration>| until.map(|until| until.saturating_sub(now));
        let entry = |((group, source), memberships): (&super::Key, &Vec<super::Membership>)| EntryView {
            group: *group,
            source: *source,
            members: memberships
                .iter()
                .map(|membership| MemberView {
                    member: membership.member,
                    host: membership.host.filter(|_| self.to_unicast(membership.member)),
                    is_static: membership.is_static,
                    excludes: membership.excludes,
                    expires_in: left(membership.expires),
                    sources: membership.sources.iter().map(|source| (source.address, left(source.expires))).collect(),
                })
                .collect(),
        };
        self.groups.iter().map(entry).collect()
    }

    /// The queriers that are believed to be there, of IGMP and of MLD.
    pub fn queriers(&self, now: Duration) -> Vec<QuerierView> {
        let view = |(address, member, until): (IpAddr, Option<Member>, Option<Duration>)| {
            let is_there = until.is_some() || member.is_none() && self.settings.querier;
            let expires_in = until.map(|until| until.saturating_sub(now));
            is_there.then_some(QuerierView { address, member, expires_in })
        };
        [&self.v4, &self.v6].into_iter().filter_map(|election| election.elected().and_then(view)).collect()
    }

    /// The routers, wherever one of IGMP or of MLD is.
    pub fn routers(&self, now: Duration) -> Vec<RouterView> {
        let view = |(member, port): (&Member, &super::Port)| {
            let until = port.v4.router_until.max(port.v6.router_until);
            let expires_in = until.map(|until| until.saturating_sub(now));
            let expires_in = expires_in.filter(|_| port.settings.router == Router::Learn);
            let is_one = port.is_router(true) || port.is_router(false);
            is_one.then_some(RouterView { member: *member, expires_in })
        };
        self.ports.iter().filter_map(view).collect()
    }

    fn to_unicast(&self, member: Member) -> bool {
        self.ports.get(&member).is_some_and(|port| port.settings.to_unicast)
    }
}
