//! What the forwarding database holds, is told and answers.

use std::{
    num::NonZeroU16,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    ids::{BridgeId, Endpoint, VtepId},
    wire::MacAddr,
};

/// How stale an entry's stamp may become before a frame renews it; ageing is exact to this.
pub const REFRESH_GRANULARITY: Duration = Duration::from_millis(1 << TICK_SHIFT);
const TICK_SHIFT: u32 = 8;

/// Milliseconds on the caller's monotonic clock, which this module never reads itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The time from `earlier` to this; zero if it is not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The time in units of [`REFRESH_GRANULARITY`].
    pub(super) const fn tick(self) -> u64 {
        self.0 >> TICK_SHIFT
    }
}

/// How an entry came to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// From a frame's source address. Ages, counts against the limit.
    Learned,
    /// Named by a user. Does not age; moves when its address is seen elsewhere, and stays static.
    Static,
    /// Static, and does not move.
    Sticky,
    /// Named by a control plane that learned it elsewhere. Does not age; when its address is seen elsewhere it becomes an
    /// ordinary learned entry.
    ExternLearn,
}

impl Origin {
    /// The name in `weft show fdb`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Learned => "learned",
            Self::Static => "static",
            Self::Sticky => "sticky",
            Self::ExternLearn => "extern_learn",
        }
    }
}

/// What a bridge allows its learned entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Most learned entries of the bridge; 0: no limit.
    pub max_learned: usize,
    /// At the limit: make room (true) or learn nothing (false, the kernel's way).
    pub evict: bool,
    /// Most learned entries behind VTEPs, at which nothing more is learned there; `None`: no limit of their own.
    pub max_remote: Option<usize>,
}

impl Limit {
    /// No limit.
    pub const NONE: Self = Self { max_learned: 0, evict: true, max_remote: None };

    pub(super) fn is_reached_by(self, learned_count: usize) -> bool {
        self.max_learned > 0 && learned_count >= self.max_learned
    }
}

/// What a port asks for beyond its bridge's [`Limit`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// Most learned entries that point at the port, in all bridges together; 0: no limit.
    pub max_learned: usize,
    /// A new entry is a locked one.
    pub locked: bool,
}

/// How an address stands at a port that takes frames only from those it knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nobody knows it.
    Unknown,
    /// It has an entry elsewhere.
    Elsewhere,
    /// It has an entry here, which is locked.
    Locked,
    /// It has an entry here.
    Known,
}

/// What became of a frame's source address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Learned {
    /// Known here already.
    Known,
    /// New; `evicted` had to make room for it.
    New {
        /// The address that lost its entry.
        evicted: Option<MacAddr>,
    },
    /// Was known elsewhere until now.
    Moved {
        /// Where.
        from: Endpoint,
    },
    /// A sticky entry holds it elsewhere; nothing changed.
    Sticky,
    /// A static entry names another VTEP for it; nothing changed, and the frame is to be dropped.
    StaticAtOtherVtep,
    /// The bridge or the port holds as many as it may. Not learned; an entry at another place is forgotten if it was the
    /// port that is full, for the address is no longer there.
    Full,
}

/// One entry, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryView {
    /// Its bridge.
    pub bridge: BridgeId,
    /// Its address.
    pub mac: MacAddr,
    /// Where it points.
    pub at: Endpoint,
    /// How it came to be.
    pub origin: Origin,
    /// Last seen as a source, or when a user named it.
    pub updated: Stamp,
    /// Its address was seen at a locked port, which takes no frames from it until a user names it.
    pub locked: bool,
}

/// Which entries a flush takes. `None` matches all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flush {
    /// Only entries of this bridge.
    pub bridge: Option<BridgeId>,
    /// Only entries that point here.
    pub at: Option<Endpoint>,
    /// Static and sticky ones too.
    pub statics: bool,
}

/// Bridge in the high 16 bits, MAC in the low 48.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Key(pub(super) u64);

impl Key {
    #[inline]
    pub(super) const fn new(bridge: BridgeId, mac: MacAddr) -> Self {
        Self((bridge.0 as u64) << 48 | mac.to_u64())
    }

    pub(super) const fn bridge(self) -> BridgeId {
        BridgeId((self.0 >> 48) as u16)
    }

    pub(super) const fn mac(self) -> MacAddr {
        MacAddr::from_u64(self.0)
    }
}

pub(super) struct Entry {
    pub(super) at: Endpoint,
    pub(super) origin: Origin,
    /// See [`EntryView::locked`] (learned entries only).
    pub(super) locked: bool,
    /// The VTEP that a user named, wherever the entry has moved since.
    named: Option<Named>,
    /// Under which stamp the books hold it (learned entries only). Changes only while the books are locked.
    pub(super) filed: Stamp,
    /// Milliseconds, see [`Stamp`]. Renewed by the fast path under the shard's shared lock.
    pub(super) updated: AtomicU64,
}

/// A VTEP's number and 1, so that an entry needs no more room for having one or not ([`weft_vxlan::vtep::MAX_VTEPS`] are less).
#[derive(Clone, Copy, PartialEq, Eq)]
struct Named(NonZeroU16);

impl Named {
    fn new(VtepId(number): VtepId) -> Option<Self> {
        number.checked_add(1).and_then(NonZeroU16::new).map(Self)
    }
}

impl Entry {
    /// One that was learned.
    pub(super) const fn learned(at: Endpoint, locked: bool, now: Stamp) -> Self {
        Self { at, origin: Origin::Learned, locked, named: None, filed: now, updated: AtomicU64::new(now.0) }
    }

    /// A user's.
    pub(super) fn of_user(at: Endpoint, origin: Origin, now: Stamp) -> Self {
        let named = match (origin, at) {
            (Origin::Static | Origin::Sticky, Endpoint::Vtep(vtep)) => Named::new(vtep),
            (Origin::Static | Origin::Sticky | Origin::ExternLearn | Origin::Learned, _) => None,
        };
        Self { at, origin, locked: false, named, filed: now, updated: AtomicU64::new(now.0) }
    }

    pub(super) fn updated(&self) -> Stamp {
        Stamp(self.updated.load(Ordering::Relaxed))
    }

    /// What its address being seen at `at` does to it. `Full`: it goes, since it is no longer where it was and there is no
    /// room for it where it is.
    pub(super) fn seen_at(&self, at: Endpoint, has_room: impl Fn(Endpoint) -> bool) -> Learned {
        let from = self.at;
        match self.origin {
            _ if from == at => Learned::Known,
            _ if self.is_kept_from(at) => Learned::StaticAtOtherVtep,
            Origin::Sticky => Learned::Sticky,
            Origin::Learned | Origin::ExternLearn if !has_room(from) => Learned::Full,
            Origin::Static | Origin::Learned | Origin::ExternLearn => Learned::Moved { from },
        }
    }

    /// Whether a user named another VTEP than this.
    fn is_kept_from(&self, at: Endpoint) -> bool {
        matches!(at, Endpoint::Vtep(vtep) if self.named.is_some_and(|named| Some(named) != Named::new(vtep)))
    }
}

pub(super) fn view(key: Key, entry: &Entry) -> EntryView {
    EntryView {
        bridge: key.bridge(),
        mac: key.mac(),
        at: entry.at,
        origin: entry.origin,
        updated: entry.updated(),
        locked: entry.locked,
    }
}
