//! Stations behind a VTEP that can be asked in its stead: of any kernel's, each answers to ARP or neighbour discovery.
//!
//! A station is asked whether it has the address that it has, in a frame with so many zeros behind the question that it becomes as
//! large as what is to be found out about; Ethernet's padding may be of any length, and receivers look only at what the
//! question says of itself (`net/ipv4/arp.c`: arp_rcv; `net/ipv6/ndisc.c`: the IPv6 payload length). ARP's question says nothing of
//! an asker (RFC 5227: a probe's sender has no IP address), so no cache changes; a solicitation has to come from somewhere, and
//! leaves an entry for that in the station's neighbour cache, so IPv6 is asked where there is no IPv4. The answer goes to an address of weft's own and
//! repeats nothing else of the question. So the sizes that are asked for at one time are told apart by that address: there are
//! [`ADDRESS_COUNT`] of them.
//!
//! What this says is bounded by the station: the bridge before it and its own interface pass what their MTU says and 18 bytes
//! of Ethernet more, silently.

use std::{net::IpAddr, time::Duration};

use crate::{
    ids::BridgeId,
    wire::{
        MacAddr, arp, ndisc,
        probe::{ADDRESS_COUNT, own_address},
    },
};

/// Stations that are remembered of one VTEP.
const MAX_STATIONS: usize = 8;
/// Stations that are asked at once while none has answered, and after.
const ASKED_AT_FIRST: usize = 3;
const ASKED_LATER: usize = 2;
/// Questions without an answer after which a station is not expected to answer.
const PATIENCE: u32 = 6;

/// A station behind a VTEP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Station {
    /// The bridge that it is in.
    pub(crate) bridge: BridgeId,
    pub(crate) mac: MacAddr,
    pub(crate) ip: IpAddr,
    /// It has said itself that the address is its own. Else a packet came from there, which may only have been routed.
    pub(crate) is_certain: bool,
}

/// The stations of one VTEP, and what they are being asked.
#[derive(Debug, Default)]
pub(super) struct Stations {
    known: Vec<Known>,
    slots: [Option<Slot>; ADDRESS_COUNT as usize],
}

#[derive(Clone, Copy, Debug)]
struct Known {
    station: Station,
    /// When it last answered.
    answered: Option<Duration>,
    /// How often it was asked since, or at all.
    asked: u32,
}

/// What an address of weft's own stands for.
#[derive(Clone, Copy, Debug)]
struct Slot {
    size: u16,
    nonce: u64,
    at: Duration,
}

/// A question to be sent.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) bridge: BridgeId,
    pub(super) frame: Vec<u8>,
}

impl Known {
    /// Whether it can be expected to answer.
    fn is_good(&self) -> bool {
        self.answered.is_some() || (self.station.is_certain && self.asked < PATIENCE)
    }

    /// Who is asked first: who can be expected to answer; over IPv4, where a question leaves no trace (a solicitation puts its
    /// sender into the station's neighbour cache); who answered last; who said its own address; who was asked least.
    fn rank(&self) -> impl Ord + use<> {
        let Station { ip, is_certain, .. } = self.station;
        (!self.is_good(), ip.is_ipv6(), std::cmp::Reverse(self.answered), !is_certain, self.asked)
    }
}

impl Stations {
    /// Takes note of a station; whether it is the first.
    pub(super) fn note(&mut self, station: Station) -> bool {
        let was_empty = self.known.is_empty();
        let same = |known: &&mut Known| (known.station.mac, known.station.ip) == (station.mac, station.ip);
        match self.known.iter_mut().find(same) {
            Some(known) => known.station.is_certain |= station.is_certain,
            None => {
                if self.known.len() >= MAX_STATIONS {
                    self.forget_one();
                }
                self.known.push(Known { station, answered: None, asked: 0 });
            }
        }
        was_empty
    }

    /// Whether there are enough of them, so that no more need be looked for.
    pub(super) fn are_enough(&self) -> bool {
        self.known.iter().filter(|known| known.is_good()).count() >= 2
    }

    /// The stations that answered, the latest first.
    pub(super) fn answering(&self) -> impl Iterator<Item = Station> {
        let mut answering: Vec<_> = self.known.iter().filter(|known| known.answered.is_some()).collect();
        answering.sort_by_key(|known| std::cmp::Reverse(known.answered));
        answering.into_iter().map(|known| known.station)
    }

    /// Questions whose inner frames are `frame_len` bytes long, for outer packets of `size` bytes; from the addresses of the VTEP
    /// at `local`.
    pub(super) fn ask(
        &mut self,
        local: IpAddr,
        size: u16,
        nonce: u64,
        frame_len: impl Fn(BridgeId) -> usize,
        now: Duration,
    ) -> Vec<Question> {
        if self.known.is_empty() {
            return vec![];
        }
        let index = self.take_slot(size, nonce, now);
        let asker = own_address(local, index);
        self.known.sort_by_key(Known::rank);
        let is_answered = self.known.iter().any(|known| known.answered.is_some());
        let count = if is_answered { ASKED_LATER } else { ASKED_AT_FIRST };
        let question = |known: &mut Known| {
            known.asked = known.asked.saturating_add(1);
            let Station { bridge, mac, ip, .. } = known.station;
            let mut frame = match ip {
                IpAddr::V4(ip) => arp::probe(asker, mac, ip).to_vec(),
                IpAddr::V6(ip) => ndisc::solicitation(asker, mac, ip).to_vec(),
            };
            frame.resize(frame_len(bridge).max(frame.len()), 0);
            Question { bridge, frame }
        };
        self.known.iter_mut().take(count).map(question).collect()
    }

    /// A station answered to one of weft's addresses; the nonce of what it was asked.
    pub(super) fn answered(&mut self, index: u8, mac: MacAddr, now: Duration) -> Option<u64> {
        let slot = (*self.slots.get(usize::from(index))?)?;
        for known in self.known.iter_mut().filter(|known| known.station.mac == mac) {
            known.answered = Some(now);
            known.asked = 0;
        }
        Some(slot.nonce)
    }

    /// The address that stands for `size`: the one that does already, else the one that has not been used for longest.
    fn take_slot(&mut self, size: u16, nonce: u64, now: Duration) -> u8 {
        let used = |slot: &Option<Slot>| slot.map(|slot| slot.at);
        let same = self.slots.iter().position(|slot| slot.is_some_and(|slot| slot.size == size));
        let index = same.unwrap_or_else(|| {
            let oldest = self.slots.iter().enumerate().min_by_key(|(_, slot)| used(slot));
            oldest.map_or(0, |(index, _)| index)
        });
        self.slots[index] = Some(Slot { size, nonce, at: now });
        index as u8
    }

    /// Whoever was asked most often in vain.
    fn forget_one(&mut self) {
        let worst = self
            .known
            .iter()
            .enumerate()
            .max_by_key(|(_, known)| (known.answered.is_none(), known.asked, !known.station.is_certain));
        if let Some((index, _)) = worst {
            self.known.remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{arp::Arp, probe::index_of};

    const BLUE: BridgeId = BridgeId(3);

    fn local() -> IpAddr {
        "192.0.2.1".parse().unwrap()
    }

    fn station(last: u8) -> Station {
        let (mac, ip) = (MacAddr::new([2, 0, 0, 0, 0, last]), IpAddr::from([10, 0, 0, last]));
        Station { bridge: BLUE, mac, ip, is_certain: true }
    }

    fn ask(stations: &mut Stations, size: u16, nonce: u64, at: u64) -> Vec<Question> {
        stations.ask(local(), size, nonce, |_| usize::from(size) - 36, Duration::from_secs(at))
    }

    fn asker(question: &Question) -> u8 {
        index_of(Arp::parse(&question.frame).unwrap().sender_mac, local()).unwrap()
    }

    #[test]
    fn a_station_is_asked_for_its_own_address_in_a_frame_of_the_size() {
        let mut stations = Stations::default();
        assert!(ask(&mut stations, 1500, 1, 0).is_empty());
        assert!(stations.note(station(2)) && !stations.note(station(2)));
        let questions = ask(&mut stations, 1500, 1, 0);
        let [question] = &questions[..] else { panic!("{questions:?}") };
        assert_eq!((question.bridge, question.frame.len()), (BLUE, 1464));
        let arp = Arp::parse(&question.frame).unwrap();
        assert_eq!((IpAddr::V4(arp.target_ip), arp.sender_ip.is_unspecified()), (station(2).ip, true));
        assert_eq!(question.frame[..6], station(2).mac.octets());
    }

    #[test]
    fn sizes_are_told_apart_by_the_address_that_asks() {
        let mut stations = Stations::default();
        stations.note(station(2));
        for (nonce, size) in (0..4).zip([1280, 1400, 1450, 1500]) {
            let index = asker(&ask(&mut stations, size, nonce, nonce)[0]);
            assert_eq!(stations.answered(index, station(2).mac, Duration::ZERO), Some(nonce));
        }
        // The same size again has the same address, and its latest nonce.
        let index = asker(&ask(&mut stations, 1280, 9, 9)[0]);
        assert_eq!(index, 0);
        assert_eq!(stations.answered(index, station(2).mac, Duration::ZERO), Some(9));
        // The next round's do not take the last one's addresses.
        for (nonce, size) in (10..14).zip([1300, 1310, 1320, 1330]) {
            assert!(asker(&ask(&mut stations, size, nonce, nonce)[0]) >= 4);
        }
        assert_eq!(stations.answered(99, station(2).mac, Duration::ZERO), None);
    }

    #[test]
    fn who_answered_is_asked_first_and_who_never_does_is_forgotten_first() {
        let mut stations = Stations::default();
        for last in 1..=8 {
            stations.note(Station { is_certain: last != 1, ..station(last) });
        }
        let index = asker(&ask(&mut stations, 1280, 1, 1)[0]);
        stations.answered(index, station(4).mac, Duration::from_secs(1));
        assert_eq!(stations.answering().collect::<Vec<_>>(), [station(4)]);
        let asked: Vec<_> = ask(&mut stations, 1400, 2, 2).iter().map(|question| question.frame[5]).collect();
        assert_eq!((asked.len(), asked[0]), (2, 4));
        assert!(!asked.contains(&1), "it may be a router's");
        stations.note(station(9));
        assert_eq!(stations.known.len(), MAX_STATIONS);
        assert!(stations.known.iter().any(|known| known.station == station(4)));
    }

    #[test]
    fn ipv4_is_asked_though_ipv6_answered() {
        let mut stations = Stations::default();
        stations.note(Station { ip: "fd00::2".parse().unwrap(), ..station(2) });
        let questions = ask(&mut stations, 1280, 1, 1);
        assert!(Arp::parse(&questions[0].frame).is_none());
        stations.answered(0, station(2).mac, Duration::from_secs(1));
        stations.note(station(3));
        let questions = ask(&mut stations, 1400, 2, 2);
        assert!(Arp::parse(&questions[0].frame).is_some(), "it may answer");
    }

    #[test]
    fn over_ipv6_it_is_a_solicitation() {
        let mut stations = Stations::default();
        let ip = "fd00::2".parse().unwrap();
        stations.note(Station { ip, ..station(2) });
        let questions = ask(&mut stations, 1500, 1, 0);
        let message = ndisc::Neighbour::parse(&questions[0].frame).unwrap();
        assert_eq!((message.kind, IpAddr::V6(message.target)), (ndisc::Kind::Solicitation, ip));
        assert_eq!(questions[0].frame.len(), 1464);
    }

    #[test]
    fn two_that_may_answer_are_enough_until_they_do_not() {
        let mut stations = Stations::default();
        stations.note(station(2));
        assert!(!stations.are_enough());
        stations.note(station(3));
        assert!(stations.are_enough());
        for nonce in 0..PATIENCE.into() {
            ask(&mut stations, 576, nonce, nonce);
        }
        assert!(!stations.are_enough());
    }
}
