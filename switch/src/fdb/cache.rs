//! What one worker remembers of the table, so that the steady state takes no lock and writes nothing that is shared.
//!
//! A set-associative cache of answers: the hash of (bridge, MAC) chooses a set, which is one cache line of four ways:
//!
//! ```text
//!  0        8        16       24       32       40       48       56       64
//! +--------+--------+--------+--------+--------+--------+--------+--------+
//! |           inverted keys           |               notes               |
//! +--------+--------+--------+--------+--------+--------+--------+--------+
//! note: endpoint (17 bits) | tick of the last renewal (15) | generation (32)
//! ```
//!
//! An answer holds as long as the generation of its group of keys is the one that it was read under
//! ([`Fdb::generation`]): whoever moves or removes an entry raises it afterwards. New entries raise nothing, because
//! nobody remembers that an address is unknown.
//!
//! A walk that knows its addresses early asks for their sets ([`FdbCache::prefetch`]) and looks them up later: with a
//! million addresses a look-up costs what memory costs, and a batch pays for that once and not for each frame.

use std::hint::select_unpredictable;

use super::{Fdb, Key, Learned, Limit, Stamp};
use crate::{
    ids::{BridgeId, Endpoint, PortId, VtepId},
    sys::{prefer_huge_pages, prefetch},
    wire::MacAddr,
};

/// Answers that a set holds.
const WAYS: usize = 4;
/// Words of a set.
const SET_LEN: usize = 2 * WAYS;
/// Answers that a cache has room for at least: 16 KiB, half of a first-level cache.
const MIN_ANSWERS: usize = 1024;
/// A cache of no more than these is read without asking first: 64 KiB, which a second-level cache holds.
const SMALL_ANSWERS: usize = 4096;
/// And at most: 32 MiB, for a million addresses.
const MAX_ANSWERS: usize = 1 << 21;

/// An address in a bridge. Its hash is not kept beside it: to compute it again takes less than to carry it along.
#[derive(Clone, Copy, Debug)]
pub struct Place(Key);

/// One worker's memory of the table.
pub struct FdbCache {
    /// The sets, and a few words before the first that let it begin with a cache line. An empty way is 0, so that a large
    /// cache costs only the pages that are used.
    words: Box<[u64]>,
    first: usize,
    /// How many sets there are, less one; their number is a power of two.
    mask: usize,
    /// Answers that were filled in since the size was last looked at.
    fills: usize,
}

impl Default for FdbCache {
    fn default() -> Self {
        Self::with_room_for(MIN_ANSWERS)
    }
}

impl FdbCache {
    fn with_room_for(answers: usize) -> Self {
        let mut words = vec![0; answers * 2 + SET_LEN - 1].into_boxed_slice();
        prefer_huge_pages(&mut words);
        let first = words.as_ptr().align_offset(64).min(SET_LEN - 1);
        Self { words, first, mask: answers / WAYS - 1, fills: 0 }
    }

    /// Whether it is worth to ask for sets early ([`FdbCache::prefetch`]): a small cache is near the processor anyway.
    #[inline(always)]
    pub fn is_large(&self) -> bool {
        self.mask >= SMALL_ANSWERS / WAYS
    }

    /// Asks the processor for what a later look-up of `place` will read.
    #[inline(always)]
    pub fn prefetch(&self, fdb: &Fdb, place: Place) {
        prefetch(&self.words[self.start(fdb.hash(place.0))]);
    }

    /// As [`Fdb::lookup`].
    #[inline(always)]
    pub fn lookup(&mut self, fdb: &Fdb, place: Place) -> Option<Endpoint> {
        let hash = fdb.hash(place.0);
        let generation = fdb.generation(hash);
        let note = self.find(place.0, hash);
        if note.generation() == generation {
            Some(note.endpoint())
        } else {
            self.lookup_shared(fdb, place.0, generation)
        }
    }

    #[cold]
    fn lookup_shared(&mut self, fdb: &Fdb, key: Key, generation: u32) -> Option<Endpoint> {
        let (at, updated) = fdb.get(key)?;
        self.fill(fdb, key, Note::new(at, updated, generation));
        Some(at)
    }

    /// As [`Fdb::learn`].
    #[inline(always)]
    pub fn learn(&mut self, fdb: &Fdb, place: Place, at: Endpoint, now: Stamp, limit: &Limit) -> Learned {
        let hash = fdb.hash(place.0);
        let generation = fdb.generation(hash);
        if self.find(place.0, hash) == Note::new(at, now, generation) {
            Learned::Known
        } else {
            self.learn_shared(fdb, place.0, at, now, limit, generation)
        }
    }

    #[cold]
    fn learn_shared(
        &mut self,
        fdb: &Fdb,
        key: Key,
        at: Endpoint,
        now: Stamp,
        limit: &Limit,
        generation: u32,
    ) -> Learned {
        let learned = fdb.learn_key(key, at, now, *limit);
        match learned {
            Learned::Known | Learned::New { .. } => self.fill(fdb, key, Note::new(at, now, generation)),
            // The generation is another now; the next frame will see which.
            Learned::Moved { .. } => {}
            Learned::Sticky | Learned::StaticAtOtherVtep | Learned::Full => {}
        }
        learned
    }

    #[inline(always)]
    fn start(&self, hash: u64) -> usize {
        self.first + (hash as usize & self.mask) * SET_LEN
    }

    #[inline(always)]
    fn set(&self, hash: u64) -> &[u64; SET_LEN] {
        self.words[self.start(hash)..].first_chunk().expect("the mask keeps a set inside")
    }

    /// The answer of `key`, or [`Note::NONE`]. All ways are looked at without a branch: which of them it is can't be foretold.
    #[inline(always)]
    fn find(&self, key: Key, hash: u64) -> Note {
        let &[k0, k1, k2, k3, n0, n1, n2, n3] = self.set(hash);
        let mut note = Note::NONE.0;
        for (there, its) in [(k0, n0), (k1, n1), (k2, n2), (k3, n3)] {
            note = select_unpredictable(there == !key.0, its, note);
        }
        Note(note)
    }

    /// Remembers an answer: in its own way, a free one, or instead of the one that was filled in first.
    fn fill(&mut self, fdb: &Fdb, key: Key, note: Note) {
        self.fills += 1;
        if self.fills > (self.mask + 1) * WAYS {
            self.fit(fdb.len());
        }
        let start = self.start(fdb.hash(key));
        let (keys, notes) = self.words[start..start + SET_LEN].split_at_mut(WAYS);
        let key = !key.0;
        let way = keys.iter().position(|there| *there == key).or_else(|| keys.iter().position(|there| *there == 0));
        let way = way.unwrap_or_else(|| {
            keys.rotate_left(1);
            notes.rotate_left(1);
            WAYS - 1
        });
        keys[way] = key;
        notes[way] = note.0;
    }

    /// Chooses the size anew for a table of `entries`: twice as many answers, so that few sets have more than four.
    fn fit(&mut self, entries: usize) {
        self.fills = 0;
        let has = (self.mask + 1) * WAYS;
        let wanted = (entries * 2).next_power_of_two().clamp(MIN_ANSWERS, MAX_ANSWERS);
        if wanted > has || wanted < has / 8 {
            *self = Self::with_room_for(wanted);
        }
    }
}

impl Place {
    /// The place of `mac` in `bridge`.
    #[inline(always)]
    pub const fn new(bridge: BridgeId, mac: MacAddr) -> Self {
        Self(Key::new(bridge, mac))
    }

    pub(super) const fn key(self) -> Key {
        self.0
    }

    /// The address.
    pub const fn mac(&self) -> MacAddr {
        self.0.mac()
    }

    /// Its bridge.
    pub const fn bridge(&self) -> BridgeId {
        self.0.bridge()
    }
}

/// One answer, see the picture above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Note(u64);

const VTEP_BIT: u64 = 1 << 63;
const TICK_MASK: u64 = 0x7fff;

impl Note {
    /// No answer: generations are odd.
    const NONE: Self = Self(0);

    #[inline]
    const fn new(at: Endpoint, renewed: Stamp, generation: u32) -> Self {
        let at = match at {
            Endpoint::Port(PortId(id)) => (id as u64) << 47,
            Endpoint::Vtep(VtepId(id)) => VTEP_BIT | (id as u64) << 47,
        };
        Self(at | (renewed.tick() & TICK_MASK) << 32 | generation as u64)
    }

    #[inline]
    const fn generation(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    const fn endpoint(self) -> Endpoint {
        let id = (self.0 >> 47) as u16;
        if self.0 & VTEP_BIT == 0 { Endpoint::Port(PortId(id)) } else { Endpoint::Vtep(VtepId(id)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLUE: BridgeId = BridgeId(3);
    const NO_LIMIT: Limit = Limit { max_learned: 0, evict: false, ..Limit::NONE };

    fn place(n: u64) -> Place {
        Place::new(BLUE, MacAddr::from_u64(0x0200_0000_0000 | n))
    }

    fn answers(cache: &FdbCache) -> usize {
        (cache.mask + 1) * WAYS
    }

    #[test]
    fn every_endpoint_survives_its_note() {
        for at in [0, 1, u16::MAX].map(PortId).map(Endpoint::Port).into_iter().chain([Endpoint::Vtep(VtepId(u16::MAX))])
        {
            let note = Note::new(at, Stamp(u64::MAX), u32::MAX);
            assert_eq!((note.endpoint(), note.generation()), (at, u32::MAX));
        }
    }

    #[test]
    fn sets_begin_with_a_cache_line() {
        let cache = FdbCache::default();
        assert_eq!(cache.words[cache.first..].as_ptr() as usize % 64, 0);
        assert!(cache.words.len() - cache.first >= answers(&cache) * 2);
    }

    #[test]
    fn more_addresses_than_it_has_room_for_are_answered_right_and_make_it_grow_then_shrink() {
        let fdb = Fdb::new();
        let mut cache = FdbCache::default();
        let at = |n: u64| Endpoint::Port(PortId((n % 7) as u16));
        for n in 0..20_000 {
            let learned = cache.learn(&fdb, place(n), at(n), Stamp(0), &NO_LIMIT);
            assert_eq!(learned, Learned::New { evicted: None });
        }
        for n in (0..20_000).rev() {
            assert_eq!(cache.lookup(&fdb, place(n)), Some(at(n)));
        }
        assert!(answers(&cache) >= 20_000);

        fdb.flush(super::super::Flush::default());
        assert_eq!(cache.lookup(&fdb, place(1)), None);
        fdb.learn(BLUE, place(1).mac(), at(1), Stamp(0), NO_LIMIT);
        for _ in 0..100_000 {
            fdb.outdate(place(1).0);
            assert_eq!(cache.lookup(&fdb, place(1)), Some(at(1)));
        }
        assert_eq!(answers(&cache), MIN_ANSWERS);
    }

    #[test]
    fn five_addresses_of_one_set_are_all_answered() {
        let fdb = Fdb::new();
        let mut cache = FdbCache::default();
        let same_set: Vec<_> =
            (0..).map(place).filter(|place| fdb.hash(place.0) as usize & cache.mask == 5).take(WAYS + 1).collect();
        for (index, place) in (0..).zip(&same_set) {
            cache.learn(&fdb, *place, Endpoint::Vtep(VtepId(index)), Stamp(0), &NO_LIMIT);
        }
        for _ in 0..2 {
            for (index, place) in (0..).zip(&same_set) {
                assert_eq!(cache.lookup(&fdb, *place), Some(Endpoint::Vtep(VtepId(index))));
            }
        }
    }

    #[test]
    fn a_stamp_is_renewed_once_a_tick_and_by_whoever_sees_the_address() {
        let fdb = Fdb::new();
        let mut caches = [FdbCache::default(), FdbCache::default()];
        let here = Endpoint::Port(PortId(1));
        let place = place(1);
        for (now, worker, renewed) in [(0, 0, 0), (255, 0, 0), (255, 1, 0), (256, 1, 256), (300, 0, 256), (512, 0, 512)]
        {
            caches[worker].learn(&fdb, place, here, Stamp(now), &NO_LIMIT);
            assert_eq!(fdb.entries()[0].updated, Stamp(renewed));
        }
    }
}
