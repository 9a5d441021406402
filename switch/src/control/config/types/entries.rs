//! `[[fdb]]`, `[[neigh]]` and `[[mdb]]`: what is known without being learned.

use std::net::{IpAddr, SocketAddr};

use crate::{fdb, snoop, wire::MacAddr};

/// `[[fdb]]`: a static entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FdbConfig {
    /// `bridge`
    pub bridge: String,
    /// `mac`
    pub mac: MacAddr,
    /// `port` (`netns/interface`) or `vtep` (address, perhaps with port).
    pub at: FdbTarget,
    /// `sticky`, `extern_learn`, `permanent`: at most one of them; default none.
    pub kind: FdbKind,
}

/// What keeps a static entry, and what moves it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FdbKind {
    /// It moves when its address is seen elsewhere, and stays static.
    Static,
    /// `sticky`: it does not move.
    Sticky,
    /// `extern_learn`: once its address was seen elsewhere it is like a learned one.
    ExternLearn,
    /// `permanent`: the bridge's own address. What is sent to it is not forwarded.
    Permanent,
}

impl FdbKind {
    /// The FDB's name for it; a permanent entry is in no FDB.
    pub const fn origin(self) -> Option<fdb::Origin> {
        match self {
            Self::Static => Some(fdb::Origin::Static),
            Self::Sticky => Some(fdb::Origin::Sticky),
            Self::ExternLearn => Some(fdb::Origin::ExternLearn),
            Self::Permanent => None,
        }
    }
}

/// What a static entry points at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FdbTarget {
    /// A port's full name.
    Port(String),
    /// A VTEP.
    Vtep(SocketAddr),
    /// The bridge itself: a permanent entry that names neither.
    Bridge,
}

/// `[[neigh]]`: a station of a bridge, by one of its IP addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NeighConfig {
    /// `bridge`
    pub bridge: String,
    /// `ip`
    pub ip: IpAddr,
    /// `mac`
    pub mac: MacAddr,
    /// `router`: neighbour advertisements call it one; default false.
    pub router: bool,
}

/// `[[mdb]]`: a permanent member of a multicast group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MdbConfig {
    /// `bridge`
    pub bridge: String,
    /// `group`: an IP group, or an Ethernet one for frames that are not IP.
    pub group: snoop::Group,
    /// `source`: only from this address; default: from any.
    pub source: Option<IpAddr>,
    /// `port`: its full name; `None`: the overlay.
    pub port: Option<String>,
}
