//! Where each packet was seen, and when.

use std::collections::{BTreeMap, HashMap};

use super::{Frame, Packet, packet::Tunnel};

/// A packet at a point.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// Which point.
    pub point: usize,
    /// When, in nanoseconds since 1970.
    pub time: u64,
    /// The tunnels that it was in there.
    pub tunnels: Vec<Tunnel>,
}

/// One packet's sightings, in the order of their times.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Journey {
    /// What it is, as it was where it was seen first.
    pub text: String,
    /// At least one.
    pub sightings: Vec<Sighting>,
    /// What became of it there where nobody captures, as far as somebody told.
    pub fates: Vec<String>,
}

/// All that was seen from one point to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leg {
    /// Packets.
    pub packets: usize,
    /// What half of them took no longer than, in nanoseconds.
    pub median: u64,
    /// What the slowest took.
    pub most: u64,
}

/// Follows packets across points.
pub struct Journal {
    /// A packet that was seen nowhere for so long, in nanoseconds, has arrived or is lost.
    settles_after: u64,
    open: HashMap<u64, Journey>,
    legs: BTreeMap<(usize, usize), Vec<u64>>,
    last: BTreeMap<usize, usize>,
    journeys: usize,
}

impl Journal {
    /// Begins one in which a packet that was seen nowhere for so many nanoseconds has arrived or is lost.
    pub fn new(settles_after: u64) -> Self {
        Self { settles_after, open: HashMap::new(), legs: BTreeMap::new(), last: BTreeMap::new(), journeys: 0 }
    }

    /// Notes a frame; gives its packet's [`Packet::id`].
    pub fn see(&mut self, frame: &Frame) -> u64 {
        let Packet { id, text, tunnels } = Packet::of(&frame.bytes);
        let sighting = Sighting { point: frame.point, time: frame.time, tunnels };
        let journey = self.open.entry(id).or_insert_with(|| Journey {
            text: text.clone(),
            sightings: Vec::new(),
            fates: Vec::new(),
        });
        if journey.sightings.first().is_none_or(|first| sighting.time < first.time) {
            journey.text = text;
        }
        let at = journey.sightings.partition_point(|earlier| earlier.time <= sighting.time);
        journey.sightings.insert(at, sighting);
        id
    }

    /// Says what became of a packet; nothing happens if it was seen nowhere, or too long ago.
    pub fn tell(&mut self, packet: u64, fate: &str) {
        if let Some(journey) = self.open.get_mut(&packet) {
            journey.fates.push(fate.to_owned());
        }
    }

    /// Takes out what has settled by `now`, and counts it; what was seen first comes first.
    pub fn settle(&mut self, now: u64) -> Vec<Journey> {
        let last = |journey: &Journey| journey.sightings.last().map_or(0, |last| last.time);
        let after = self.settles_after;
        let mut settled: Vec<_> = self
            .open
            .extract_if(|_, journey| last(journey).saturating_add(after) <= now)
            .map(|(_, journey)| journey)
            .collect();
        settled.sort_by_key(|journey| journey.sightings.first().map_or(0, |first| first.time));
        settled.iter().for_each(|journey| self.count(journey));
        settled
    }

    fn count(&mut self, journey: &Journey) {
        self.journeys += 1;
        for pair in journey.sightings.windows(2) {
            let [from, to] = pair else { continue };
            self.legs.entry((from.point, to.point)).or_default().push(to.time - from.time);
        }
        if let Some(last) = journey.sightings.last() {
            *self.last.entry(last.point).or_default() += 1;
        }
    }

    /// Packets that have settled.
    pub const fn packets(&self) -> usize {
        self.journeys
    }

    /// How many of them were seen at `point` and nowhere later.
    pub fn seen_last_at(&self, point: usize) -> usize {
        self.last.get(&point).copied().unwrap_or(0)
    }

    /// From which point to which, and how long that took.
    pub fn legs(&self) -> impl Iterator<Item = ((usize, usize), Leg)> {
        self.legs.iter().map(|(way, times)| {
            let mut times = times.clone();
            times.sort_unstable();
            let most = times.last().copied().unwrap_or(0);
            (*way, Leg { packets: times.len(), median: times[(times.len() - 1) / 2], most })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ARP request, as nobody changes it.
    fn seen(point: usize, time: u64, last: u8) -> Frame {
        let mut bytes = vec![0xff; 12];
        bytes.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, last]);
        Frame { point, time, len: bytes.len() as u32, bytes }
    }

    const SETTLED: u64 = 300_000_000;

    #[test]
    fn sightings_are_put_in_order_and_told_when_they_have_settled() {
        let mut journal = Journal::new(SETTLED);
        for frame in [seen(1, 500, 2), seen(0, 100, 2), seen(2, 2_000, 2)] {
            journal.see(&frame);
        }
        let other = journal.see(&seen(0, 1_000, 3));
        journal.tell(other, "dropped");
        assert_eq!(journal.settle(SETTLED), []);
        let settled = journal.settle(SETTLED + 2_000);
        let points: Vec<Vec<_>> =
            settled.iter().map(|journey| journey.sightings.iter().map(|sighting| sighting.point).collect()).collect();
        assert_eq!(points, [vec![0, 1, 2], vec![0]]);
        assert!(settled[0].fates.is_empty() && settled[1].fates == ["dropped"]);
        assert_eq!((journal.packets(), journal.seen_last_at(2), journal.seen_last_at(0)), (2, 1, 1));
        let legs: Vec<_> = journal.legs().collect();
        let leg = |nanos| Leg { packets: 1, median: nanos, most: nanos };
        assert_eq!(legs, [((0, 1), leg(400)), ((1, 2), leg(1_500))]);
    }

    #[test]
    fn half_of_a_legs_packets_took_no_longer_than_its_median() {
        let mut journal = Journal::new(SETTLED);
        for (last, took) in [(1, 10), (2, 30), (3, 20)] {
            journal.see(&seen(0, 0, last));
            journal.see(&seen(1, took, last));
        }
        journal.settle(u64::MAX);
        assert_eq!(journal.legs().next(), Some(((0, 1), Leg { packets: 3, median: 20, most: 30 })));
    }
}
