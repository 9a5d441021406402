//! Where each part of a configuration stood in its text, beside the checked types and in their order.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Range,
    sync::Arc,
};

use miette::NamedSource;

use super::{mistake::Place, types::Config};
use crate::wire::MacAddr;

/// The places of a whole configuration. Opaque: it only serves messages.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub(super) switch: Places,
    pub(super) vtep: Places,
    pub(super) bridges: Vec<Places>,
    pub(super) ports: Vec<Places>,
    pub(super) fdb: Vec<Places>,
    pub(super) neigh: Vec<Places>,
    pub(super) mdb: Vec<Places>,
    /// Tables that could not be read as what they probably are: nobody can say what is missing because of that.
    pub(super) unclear: BTreeSet<&'static str>,
}

impl Origin {
    /// Notes where the item `index` of a list stood. Items before it that were made in memory have no places.
    pub(super) fn place_at(&mut self, index: usize, list: impl Fn(&mut Self) -> &mut Vec<Places>, places: Places) {
        let list = list(self);
        list.resize(index, Places::default());
        list.push(places);
    }

    pub(super) fn bridge(&self, index: usize) -> &Places {
        self.bridges.get(index).unwrap_or(&NOWHERE)
    }

    pub(super) fn port(&self, index: usize) -> &Places {
        self.ports.get(index).unwrap_or(&NOWHERE)
    }

    pub(super) fn fdb(&self, index: usize) -> &Places {
        self.fdb.get(index).unwrap_or(&NOWHERE)
    }

    pub(super) fn neigh(&self, index: usize) -> &Places {
        self.neigh.get(index).unwrap_or(&NOWHERE)
    }

    pub(super) fn mdb(&self, index: usize) -> &Places {
        self.mdb.get(index).unwrap_or(&NOWHERE)
    }
}

/// A part of a configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part<'n> {
    /// `[switch]`
    Switch,
    /// `[vtep]`
    Vtep,
    /// The `[[bridge]]` of this name.
    Bridge(&'n str),
    /// The `[[port]]` of this full name.
    Port(&'n str),
    /// The `[[fdb]]` of this bridge and address.
    Fdb(&'n str, MacAddr),
    /// The `[[neigh]]` of this bridge and IP address.
    Neigh(&'n str, IpAddr),
}

/// Where a key stands, and what it says there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// The file; [`REQUEST`](super::REQUEST) if it came over the API.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The value as it is written.
    pub text: String,
}

impl Config {
    /// Where a key of a part is written, elements of a list as `remotes.0`; `None` if it is not, so that its default
    /// holds.
    pub fn written(&self, part: Part<'_>, key: &str) -> Option<Written> {
        let places = match part {
            Part::Switch => &self.origin.switch,
            Part::Vtep => &self.origin.vtep,
            Part::Bridge(name) => self.origin.bridge(self.bridges.iter().position(|bridge| bridge.name == name)?),
            Part::Port(name) => self.origin.port(self.ports.iter().position(|port| port.full_name() == name)?),
            Part::Fdb(bridge, mac) => {
                self.origin.fdb(self.fdb.iter().position(|entry| entry.bridge == bridge && entry.mac == mac)?)
            }
            Part::Neigh(bridge, ip) => {
                self.origin.neigh(self.neigh.iter().position(|neigh| neigh.bridge == bridge && neigh.ip == ip)?)
            }
        };
        let place = places.of(key).filter(|_| places.is_written(key))?;
        let (line, _) = place.position();
        let text = place.source.inner()[place.span.clone()].to_owned();
        Some(Written { file: place.source.name().to_owned(), line, text })
    }
}

/// The origin does not change what a configuration means.
impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

static NOWHERE: Places = Places { source: None, header: 0..0, keys: BTreeMap::new() };

/// The places of one table.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    source: Option<Arc<NamedSource<String>>>,
    header: Range<usize>,
    /// By key, elements as `remotes.0`.
    keys: BTreeMap<String, Mark>,
}

#[derive(Clone, Debug)]
struct Mark {
    span: Range<usize>,
    /// A mistake was found there already; what depends on the value is no mistake of its own.
    broken: bool,
}

impl Places {
    pub(super) fn new(source: &Arc<NamedSource<String>>, header: Range<usize>) -> Self {
        Self { source: Some(Arc::clone(source)), header, keys: BTreeMap::new() }
    }

    pub(super) fn write(&mut self, key: impl Into<String>, span: Range<usize>) {
        self.keys.insert(key.into(), Mark { span, broken: false });
    }

    pub(super) fn mark_broken(&mut self, key: &str) {
        let span = self.header.clone();
        self.keys.entry(key.to_owned()).or_insert(Mark { span, broken: true }).broken = true;
    }

    /// Whether the text has this key, right or wrong.
    pub(super) fn is_written(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// Whether this key's value is wrong by itself, or should be there and is not.
    pub(super) fn is_broken(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|written| written.broken)
    }

    /// The place of a key's value; of what holds it if the text doesn't have it.
    pub(super) fn of(&self, key: &str) -> Option<Place> {
        let source = self.source.as_ref()?;
        let holder = || key.split_once('.').and_then(|(list, _)| self.keys.get(list));
        let written = self.keys.get(key).or_else(holder);
        Some(Place::new(source, written.map_or_else(|| self.header.clone(), |written| written.span.clone())))
    }
}
