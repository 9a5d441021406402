//! Who holds which learned entries, oldest first: the order that the map of the table does not keep.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Key, Stamp};
use crate::ids::{BridgeId, Endpoint};

/// The learned entries of every bridge.
#[derive(Default)]
pub(super) struct Books {
    bridges: BTreeMap<BridgeId, BridgeBook>,
}

#[derive(Default)]
struct BridgeBook {
    count: usize,
    shelves: HashMap<Endpoint, BTreeSet<(Stamp, Key)>>,
    /// Every shelf by how much it holds.
    by_size: BTreeSet<(usize, Endpoint)>,
}

impl Books {
    /// Files a new entry.
    pub(super) fn insert(&mut self, key: Key, at: Endpoint, filed: Stamp) {
        let book = self.bridges.entry(key.bridge()).or_default();
        let shelf = book.shelves.entry(at).or_default();
        if shelf.insert((filed, key)) {
            book.by_size.remove(&(shelf.len() - 1, at));
            book.by_size.insert((shelf.len(), at));
            book.count += 1;
        }
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, key: Key, at: Endpoint, filed: Stamp) {
        let Some(book) = self.bridges.get_mut(&key.bridge()) else { return };
        let Some(shelf) = book.shelves.get_mut(&at) else { return };
        if !shelf.remove(&(filed, key)) {
            return;
        }
        let left = shelf.len();
        book.by_size.remove(&(left + 1, at));
        if left == 0 {
            book.shelves.remove(&at);
        } else {
            book.by_size.insert((left, at));
        }
        book.count -= 1;
        if book.count == 0 {
            self.bridges.remove(&key.bridge());
        }
    }

    /// How many entries a bridge has.
    pub(super) fn learned_count(&self, bridge: BridgeId) -> usize {
        self.bridges.get(&bridge).map_or(0, |book| book.count)
    }

    /// How many entries of a bridge are behind VTEPs. Costs in proportion to its ports and VTEPs, so it is for bridges that
    /// limit that, when something new is learned.
    pub(super) fn remote_count(&self, bridge: BridgeId) -> usize {
        let by_size = self.bridges.get(&bridge).into_iter().flat_map(|book| &book.by_size);
        by_size.filter(|(_, at)| matches!(at, Endpoint::Vtep(_))).map(|(count, _)| count).sum()
    }

    /// How many entries point at one place, in all bridges together.
    pub(super) fn held_by(&self, at: Endpoint) -> usize {
        self.bridges.values().filter_map(|book| book.shelves.get(&at)).map(BTreeSet::len).sum()
    }

    /// Who holds most entries of a bridge.
    pub(super) fn greediest(&self, bridge: BridgeId) -> Option<Endpoint> {
        self.bridges.get(&bridge)?.by_size.last().map(|(_, at)| *at)
    }

    /// The entry that was filed first.
    pub(super) fn oldest(&self, bridge: BridgeId, at: Endpoint) -> Option<(Stamp, Key)> {
        self.bridges.get(&bridge)?.shelves.get(&at)?.first().copied()
    }

    /// All entries of one holder, the one that was filed first at first.
    pub(super) fn shelf(&self, bridge: BridgeId, at: Endpoint) -> impl Iterator<Item = (Stamp, Key)> {
        let shelf = self.bridges.get(&bridge).and_then(|book| book.shelves.get(&at));
        shelf.into_iter().flatten().copied()
    }

    /// Everybody who holds an entry, by bridge.
    pub(super) fn holders(&self) -> Vec<(BridgeId, Endpoint)> {
        let of_bridge = |(bridge, book): (&BridgeId, &BridgeBook)| {
            let bridge = *bridge;
            book.by_size.iter().map(move |(_, at)| (bridge, *at)).collect::<Vec<_>>()
        };
        self.bridges.iter().flat_map(of_bridge).collect()
    }
}
