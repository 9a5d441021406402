//! What can be set about snooping, by the kernel's names and with its defaults (`br_multicast.c`: `br_multicast_ctx_init`).

use std::time::Duration;

/// A bridge's settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// `mcast_snooping`: whether it snoops at all.
    pub snooping: bool,
    /// `mcast_querier`: whether it asks itself when nobody else does.
    pub querier: bool,
    /// `mcast_igmp_version`: 2 or 3; 2 knows no sources.
    pub igmp_version: u8,
    /// `mcast_mld_version`: 1 or 2; 1 knows no sources.
    pub mld_version: u8,
    /// `mcast_hash_max`: groups, and sources of groups, that it keeps; with one more it gives up snooping.
    pub hash_max: usize,
    /// `mcast_last_member_count`: how often it asks before it believes that nobody is left.
    pub last_member_count: u32,
    /// `mcast_last_member_interval`: the time between these questions.
    pub last_member_interval: Duration,
    /// `mcast_startup_query_count`: how many of its first queries come faster.
    pub startup_query_count: u32,
    /// `mcast_startup_query_interval`: the time between those.
    pub startup_query_interval: Duration,
    /// `mcast_query_interval`: the time between its queries.
    pub query_interval: Duration,
    /// `mcast_query_response_interval`: within what time it wants answers.
    pub query_response_interval: Duration,
    /// `mcast_querier_interval`: after what time without queries another querier or router is believed gone.
    pub querier_interval: Duration,
    /// `mcast_membership_interval`: after what time without a report a member is believed gone.
    pub membership_interval: Duration,
}

impl Settings {
    /// What `mcast_hash_max` is if nothing is said (`BR_MULTICAST_DEFAULT_HASH_MAX`).
    pub const DEFAULT_HASH_MAX: usize = 4096;

    /// How long a member has to answer when it is asked whether anybody is left (RFC 3376 section 8.10).
    pub(super) fn last_member_time(&self) -> Duration {
        self.last_member_interval * self.last_member_count
    }
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            snooping: true,
            querier: false,
            igmp_version: 2,
            mld_version: 1,
            hash_max: Self::DEFAULT_HASH_MAX,
            last_member_count: 2,
            last_member_interval: seconds(1),
            startup_query_count: 2,
            startup_query_interval: Duration::from_millis(31_250),
            query_interval: seconds(125),
            query_response_interval: seconds(10),
            querier_interval: seconds(255),
            membership_interval: seconds(260),
        }
    }
}

/// A port's settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortSettings {
    /// `mcast_router`: whether a router is behind it.
    pub router: Router,
    /// `mcast_fast_leave`: whether a leave ends a membership at once.
    pub fast_leave: bool,
    /// `mcast_to_unicast`: whether each member gets a copy to its own address.
    pub to_unicast: bool,
    /// `mcast_max_groups`: how many groups it may be in; 0: no limit.
    pub max_groups: usize,
}

/// Whether a router is behind a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Router {
    /// 0: there is none.
    Never,
    /// 1: there is one if it says so.
    #[default]
    Learn,
    /// 2: there is one.
    Always,
}
