//! The forwarding database: (bridge, MAC) -> port or VTEP. Learning, moves, ageing, static entries, limits.
//!
//! # Theory of operation
//!
//! Every frame asks twice: is its source known where it came from, and where is its destination? The table is a
//! lock-sharded map ([`dashmap`]); in front of it each worker has an [`FdbCache`] of its own, which in the steady state
//! answers both without a lock and without writing to anything that is shared. An entry's `updated` stamp is renewed in
//! place, at most once every [`REFRESH_GRANULARITY`]. `switch/docs/performance.md` has the figures of both.
//!
//! A cached answer is good as long as nobody changed its address. So that nobody has to look, addresses are dealt to
//! a few thousand groups by their hash, and whoever moves or removes an entry raises its group's generation afterwards; an
//! answer of an older generation is asked for again. Flushing a port so costs its addresses' groups and no others.
//!
//! Only what *changes* the table (a new address, a move, an age-out, a flush) takes the one lock of the books, which
//! know for every bridge and endpoint which learned entries it holds, oldest first. They answer the two questions that a
//! hash map can't: which entries are due, without walking the table, and who holds most, when room must be made.
//! An entry's place in the books is not moved when its stamp is renewed; whoever reads the books looks at the real stamp
//! and files the entry anew if it is younger. So the order is exact when it matters and free when it does not.
//!
//! # Fairness
//!
//! A bridge that reached its limit evicts the least recently used entry of the endpoint that holds most of them (as
//! OVS's `mac-learning.c` does): whoever floods the table with addresses evicts its own. A port can have a limit of its own
//! ([`Terms`]), at which it learns no more.
//!
//! # What is the kernel's
//!
//! A newer port wins at once; a static entry moves too and stays static, only a sticky one stays; a frame towards an
//! address does not keep its entry alive (`net/bridge/br_fdb.c`: `br_fdb_update`, `br_fdb_cleanup`). A source for which a
//! static entry names one VTEP and that shows up behind another is an intruder, even while the entry is at a port to which its
//! address has moved; an entry that names a port binds no VTEP (`vxlan_core.c`: `vxlan_snoop`, which has a table of its own and sees
//! no port). What was learned
//! at a locked port is locked, and so is its address kept out there ([`Fdb::standing`]), until it moves to another port or
//! a user names it (`br_input.c`: `br_handle_frame_finish`).
//!
//! # Locks
//!
//! Order: books, then a shard. A look-up takes a shard only. No guard of the map leaves this module.

mod books;
mod cache;
mod values;

use std::{
    hash::BuildHasher,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use foldhash::fast::RandomState;

use crate::{
    ids::{BridgeId, Endpoint, VtepId},
    wire::MacAddr,
};
use books::Books;
pub use cache::{FdbCache, Place};
use values::{Entry, Key, view};
pub use values::{EntryView, Flush, Learned, Limit, Origin, REFRESH_GRANULARITY, Stamp, Standing, Terms};

/// How many entries [`Fdb::age`] looks at before it lets others at the books.
const AGE_CHUNK: usize = 1024;

/// Shards of the map: enough that a few workers seldom meet, few enough that an empty table is small.
const SHARDS: usize = 64;

/// Groups of addresses that are forgotten together by the workers' caches. With more of them a change costs fewer others an
/// answer; these take 16 KiB, which every worker reads and keeps in its cache.
const GROUPS: usize = 4096;

/// The table. Shared by all workers and the control plane.
pub struct Fdb {
    map: DashMap<Key, Entry, RandomState>,
    books: Mutex<Books>,
    /// For [`Place`]s.
    seed: u64,
    /// How often something of each group was moved or removed, twice, and 1 more: so none is ever 0.
    generations: Box<[AtomicU32; GROUPS]>,
}

impl Default for Fdb {
    fn default() -> Self {
        Self::new()
    }
}

impl Fdb {
    /// An empty table with a hash seed of its own, so that nobody can choose addresses that collide.
    pub fn new() -> Self {
        let hasher = RandomState::default();
        Self {
            seed: hasher.hash_one(0),
            map: DashMap::with_capacity_and_hasher_and_shard_amount(0, hasher, SHARDS),
            books: Mutex::new(Books::default()),
            generations: Box::new([const { AtomicU32::new(1) }; GROUPS]),
        }
    }

    /// A folded multiplication. Whoever knows the seed can choose addresses that share a cache's set or a group, and makes
    /// the table itself be asked for them, no more; that one has a hash of its own.
    #[inline(always)]
    fn hash(&self, key: Key) -> u64 {
        let product = u128::from(key.0 ^ self.seed) * 0x9e37_79b9_7f4a_7c15; // 2^64 divided by the golden ratio
        product as u64 ^ (product >> 64) as u64
    }

    /// Tells of how often an address with this hash, or another of its group, was moved or removed. Read it *before* an answer that
    /// is to be remembered with it.
    #[inline]
    fn generation(&self, hash: u64) -> u32 {
        self.generations[group(hash)].load(Ordering::Acquire)
    }

    /// Makes caches forget what they know of `key`. To be called *after* the change.
    fn outdate(&self, key: Key) {
        self.generations[group(self.hash(key))].fetch_add(2, Ordering::Release);
    }

    /// Where `mac` is, if it is known.
    #[inline]
    pub fn lookup(&self, bridge: BridgeId, mac: MacAddr) -> Option<Endpoint> {
        self.map.get(&Key::new(bridge, mac)).map(|entry| entry.at)
    }

    /// The entry of an address.
    pub fn entry(&self, bridge: BridgeId, mac: MacAddr) -> Option<EntryView> {
        let key = Key::new(bridge, mac);
        self.map.get(&key).map(|entry| view(key, &entry))
    }

    fn get(&self, key: Key) -> Option<(Endpoint, Stamp)> {
        self.map.get(&key).map(|entry| (entry.at, entry.updated()))
    }

    /// Whether there is an entry for `mac` that a user named.
    pub fn is_static(&self, bridge: BridgeId, mac: MacAddr) -> bool {
        self.map.get(&Key::new(bridge, mac)).is_some_and(|entry| entry.origin != Origin::Learned)
    }

    /// Takes note that a frame from `mac` entered `bridge` at `at`.
    #[inline]
    pub fn learn(&self, bridge: BridgeId, mac: MacAddr, at: Endpoint, now: Stamp, limit: Limit) -> Learned {
        self.learn_key(Key::new(bridge, mac), at, now, limit)
    }

    /// What [`Fdb::learn_on_terms`] would answer, and do, now; nothing changes.
    pub fn foresee(&self, place: Place, at: Endpoint, limit: Limit, terms: Terms) -> Learned {
        let (books, key, bridge) = (self.books(), place.key(), place.bridge());
        if let Some(entry) = self.map.get(&key) {
            return entry.seen_at(at, |from| has_room(&books, key, Some(from), at, limit, terms));
        }
        if !has_room(&books, key, None, at, limit, terms) {
            return Learned::Full;
        }
        if !limit.is_reached_by(books.learned_count(bridge)) {
            return Learned::New { evicted: None };
        }
        match self.least_recently_used(&books, bridge).filter(|_| limit.evict) {
            Some(victim) => Learned::New { evicted: Some(victim.mac()) },
            None => Learned::Full,
        }
    }

    /// Whom [`Fdb::evict`] would choose: with every entry filed under its real stamp, the first one.
    fn least_recently_used(&self, books: &Books, bridge: BridgeId) -> Option<Key> {
        let at = books.greediest(bridge)?;
        let used = |(_, key)| Some((self.map.get(&key)?.updated(), key));
        books.shelf(bridge, at).filter_map(used).min().map(|(_, key)| key)
    }

    #[inline]
    fn learn_key(&self, key: Key, at: Endpoint, now: Stamp, limit: Limit) -> Learned {
        if let Some(entry) = self.map.get(&key)
            && entry.at == at
        {
            if now.tick() > entry.updated().tick() {
                entry.updated.store(now.0, Ordering::Relaxed);
            }
            return Learned::Known;
        }
        self.learn_change(key, at, now, limit, Terms::default())
    }

    /// As [`Fdb::learn`], at a port that has terms of its own.
    pub fn learn_on_terms(&self, place: Place, at: Endpoint, now: Stamp, limit: Limit, terms: Terms) -> Learned {
        match self.standing(place, at) {
            Standing::Known | Standing::Locked => self.learn_key(place.key(), at, now, limit),
            Standing::Unknown | Standing::Elsewhere => self.learn_change(place.key(), at, now, limit, terms),
        }
    }

    /// How an address stands at a port. Caches are not asked: they do not know what is locked.
    pub fn standing(&self, place: Place, at: Endpoint) -> Standing {
        match self.map.get(&place.key()) {
            None => Standing::Unknown,
            Some(entry) if entry.at != at => Standing::Elsewhere,
            Some(entry) if entry.locked => Standing::Locked,
            Some(_) => Standing::Known,
        }
    }

    #[cold]
    fn learn_change(&self, key: Key, at: Endpoint, now: Stamp, limit: Limit, terms: Terms) -> Learned {
        let mut books = self.books();
        if let Some(mut entry) = self.map.get_mut(&key) {
            let from = entry.at;
            match entry.seen_at(at, |from| has_room(&books, key, Some(from), at, limit, terms)) {
                Learned::Moved { .. } => {}
                Learned::Full => {
                    drop(entry);
                    self.remove_key(&mut books, key);
                    return Learned::Full;
                }
                // Perhaps known: another worker was faster.
                seen @ (Learned::Known | Learned::New { .. } | Learned::Sticky | Learned::StaticAtOtherVtep) => {
                    return seen;
                }
            }
            if matches!(entry.origin, Origin::Learned | Origin::ExternLearn) {
                books.remove(key, from, entry.filed);
                books.insert(key, at, now);
                (entry.origin, entry.filed) = (Origin::Learned, now);
            }
            (entry.at, entry.locked) = (at, false);
            entry.updated.store(now.0, Ordering::Relaxed);
            drop(entry);
            self.outdate(key);
            return Learned::Moved { from };
        }
        if !has_room(&books, key, None, at, limit, terms) {
            return Learned::Full;
        }
        let mut evicted = None;
        if limit.is_reached_by(books.learned_count(key.bridge())) {
            if !limit.evict {
                return Learned::Full;
            }
            let Some(victim) = self.evict(&mut books, key.bridge()) else { return Learned::Full };
            evicted = Some(victim.mac());
        }
        books.insert(key, at, now);
        self.map.insert(key, Entry::learned(at, terms.locked, now));
        Learned::New { evicted }
    }

    /// Removes the least recently used entry of whoever holds most in `bridge`.
    fn evict(&self, books: &mut Books, bridge: BridgeId) -> Option<Key> {
        let at = books.greediest(bridge)?;
        loop {
            let (filed, key) = books.oldest(bridge, at)?;
            let updated = self.map.get(&key).map(|entry| entry.updated())?;
            if updated > filed {
                self.refile(books, key, at, filed, updated);
                continue;
            }
            books.remove(key, at, filed);
            self.map.remove(&key);
            self.outdate(key);
            return Some(key);
        }
    }

    fn refile(&self, books: &mut Books, key: Key, at: Endpoint, filed: Stamp, updated: Stamp) {
        books.remove(key, at, filed);
        books.insert(key, at, updated);
        if let Some(mut entry) = self.map.get_mut(&key) {
            entry.filed = updated;
        }
    }

    /// Makes or replaces an entry that a user named: `origin` is not [`Origin::Learned`].
    pub fn add_static(&self, bridge: BridgeId, mac: MacAddr, at: Endpoint, origin: Origin, now: Stamp) {
        let key = Key::new(bridge, mac);
        let mut books = self.books();
        let old = self.map.insert(key, Entry::of_user(at, origin, now));
        self.outdate(key);
        if let Some(old) = old
            && old.origin == Origin::Learned
        {
            books.remove(key, old.at, old.filed);
        }
    }

    /// Removes one entry of any origin and says what it was.
    pub fn remove(&self, bridge: BridgeId, mac: MacAddr) -> Option<EntryView> {
        let mut books = self.books();
        self.remove_key(&mut books, Key::new(bridge, mac))
    }

    fn remove_key(&self, books: &mut Books, key: Key) -> Option<EntryView> {
        let (_, entry) = self.map.remove(&key)?;
        self.outdate(key);
        if entry.origin == Origin::Learned {
            books.remove(key, entry.at, entry.filed);
        }
        Some(view(key, &entry))
    }

    /// Removes the entries that `which` matches and says how many they were.
    pub fn flush(&self, which: Flush) -> usize {
        self.flush_matching(|key, entry| {
            which.bridge.is_none_or(|bridge| key.bridge() == bridge)
                && which.at.is_none_or(|at| entry.at == at)
                && (which.statics || entry.origin == Origin::Learned)
        })
    }

    /// Removes the locked entries of a port and says how many they were.
    pub fn flush_locked(&self, at: Endpoint) -> usize {
        self.flush_matching(|_, entry| entry.at == at && entry.locked)
    }

    fn flush_matching(&self, matches: impl Fn(&Key, &Entry) -> bool) -> usize {
        let keys: Vec<Key> = self.map.iter().filter(|entry| matches(entry.key(), entry)).map(|e| *e.key()).collect();
        let mut flushed = 0;
        for chunk in keys.chunks(AGE_CHUNK) {
            let mut books = self.books();
            for key in chunk {
                // Looked at again under the books' lock: it may have moved away meanwhile.
                if self.map.get(key).is_some_and(|entry| matches(key, &entry)) {
                    flushed += usize::from(self.remove_key(&mut books, *key).is_some());
                }
            }
        }
        flushed
    }

    /// Removes the learned entries that were not seen for their bridge's ageing time, and says how many.
    ///
    /// Costs in proportion to what is due, not to the table.
    pub fn age(&self, now: Stamp, ageing: impl Fn(BridgeId) -> Duration) -> usize {
        let mut aged = 0;
        let holders = self.books().holders();
        for (bridge, at) in holders {
            let ageing = ageing(bridge);
            loop {
                let mut books = self.books();
                let (looked_at, gone) = self.age_chunk(&mut books, bridge, at, now, ageing);
                aged += gone;
                if looked_at < AGE_CHUNK {
                    break;
                }
            }
        }
        aged
    }

    fn age_chunk(
        &self,
        books: &mut Books,
        bridge: BridgeId,
        at: Endpoint,
        now: Stamp,
        ageing: Duration,
    ) -> (usize, usize) {
        let mut gone = 0;
        for looked_at in 0..AGE_CHUNK {
            let Some((filed, key)) = books.oldest(bridge, at) else { return (looked_at, gone) };
            if now.since(filed) < ageing {
                return (looked_at, gone);
            }
            let updated = self.map.get(&key).map_or(filed, |entry| entry.updated());
            if now.since(updated) < ageing {
                self.refile(books, key, at, filed, updated);
            } else {
                self.remove_key(books, key);
                gone += 1;
            }
        }
        (AGE_CHUNK, gone)
    }

    /// All entries, in no order.
    pub fn entries(&self) -> Vec<EntryView> {
        self.map.iter().map(|entry| view(*entry.key(), &entry)).collect()
    }

    /// How many entries there are, of any origin.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// How many learned entries a bridge has.
    pub fn learned_count(&self, bridge: BridgeId) -> usize {
        self.books().learned_count(bridge)
    }

    /// The VTEPs that learned entries of `bridge` point at.
    pub fn vteps_learned(&self, bridge: BridgeId) -> Vec<VtepId> {
        let of_bridge = |(b, at)| match at {
            Endpoint::Vtep(vtep) if b == bridge => Some(vtep),
            Endpoint::Vtep(_) | Endpoint::Port(_) => None,
        };
        self.books().holders().into_iter().filter_map(of_bridge).collect()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing that runs under this lock can panic half-way through a change.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The group of an address with this hash. The low bits choose a cache's set, so these are others.
#[inline]
const fn group(hash: u64) -> usize {
    (hash >> 32) as usize % GROUPS
}

/// Whether one more learned entry may be at `at`: neither the port nor all VTEPs together hold as many as they may. Among
/// VTEPs an entry moves freely.
fn has_room(books: &Books, key: Key, from: Option<Endpoint>, at: Endpoint, limit: Limit, terms: Terms) -> bool {
    let port_has_room = terms.max_learned == 0 || books.held_by(at) < terms.max_learned;
    let is_new_to_vteps = matches!(at, Endpoint::Vtep(_)) && !matches!(from, Some(Endpoint::Vtep(_)));
    let remote_has_room = || limit.max_remote.is_none_or(|most| books.remote_count(key.bridge()) < most);
    port_has_room && (!is_new_to_vteps || remote_has_room())
}

#[cfg(test)]
mod tests;
