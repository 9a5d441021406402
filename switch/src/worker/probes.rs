//! What a worker has to do with finding out how large a packet reaches a VTEP: probes are sent, answered and taken out of the
//! walk here, and stations are found that may be asked. All of it is off the way of other frames: a probe is recognised where a
//! frame to a reserved group, or to an address of the host's own, would be dropped anyway.
//!
//! In the ledger a probe that is sent is a frame of the switch's own. One that arrives is in, and dropped as `path_mtu_probe`; its
//! answer is a copy, which is out.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use weft_vxlan::vtep::MAX_VTEPS;

use super::{
    Worker,
    walk::{Staged, Tunnel, Walk},
};
use crate::{
    bridge::{DropReason, Overlay},
    fdb::Stamp,
    ids::{BridgeId, Endpoint, VtepId},
    wire::{
        MacAddr,
        arp::Arp,
        dissect::{IpVersion, dissect},
        ndisc::{self, Neighbour},
        probe::{self, Probe, index_of, own_address},
    },
};

/// Something about probes that a worker found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProbeNews {
    /// A VTEP answered a question.
    Answered {
        /// The VTEP.
        vtep: VtepId,
        /// The bridge that the answer came in.
        bridge: BridgeId,
        /// The question's nonce.
        nonce: u64,
        /// Bytes of the question's frame, as they arrived there.
        len: u32,
    },
    /// A VTEP asks questions itself, so it answers too.
    Asked {
        /// The VTEP.
        vtep: VtepId,
    },
    /// There is a station behind a VTEP.
    Station {
        /// The VTEP.
        vtep: VtepId,
        /// Its bridge.
        bridge: BridgeId,
        /// Its address.
        mac: MacAddr,
        /// Its IP address.
        ip: IpAddr,
        /// It said so itself; else a packet came from there.
        is_certain: bool,
    },
    /// A station behind a VTEP answered to one of the switch's own addresses.
    StationAnswered {
        /// The VTEP.
        vtep: VtepId,
        /// The station.
        mac: MacAddr,
        /// Which address ([`probe::own_address`]).
        index: u8,
    },
}

impl ProbeNews {
    /// The VTEP that it is about.
    pub const fn vtep(&self) -> VtepId {
        match *self {
            Self::Answered { vtep, .. }
            | Self::Asked { vtep }
            | Self::Station { vtep, .. }
            | Self::StationAnswered { vtep, .. } => vtep,
        }
    }
}

/// Which VTEPs were sent frames: set by workers, cleared by who looks.
pub struct UsedVteps(Box<[AtomicBool]>);

impl UsedVteps {
    /// Takes note of a frame. Most often it is noted already, and then nothing is written.
    #[inline]
    pub fn mark(&self, vtep: VtepId) {
        if let Some(used) = self.0.get(vtep.index())
            && !used.load(Ordering::Relaxed)
        {
            used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a VTEP was sent frames since this was last asked.
    pub fn take(&self, vtep: VtepId) -> bool {
        self.0.get(vtep.index()).is_some_and(|used| used.swap(false, Ordering::Relaxed))
    }
}

impl Default for UsedVteps {
    fn default() -> Self {
        Self((0..MAX_VTEPS).map(|_| AtomicBool::new(false)).collect())
    }
}

/// How many questions of others a worker answers in a second. A search asks eight at once and seldom goes on for more than
/// five rounds; whoever asks more is no weft, or there are hundreds of them.
const ANSWERS_PER_SECOND: u64 = 1000;

/// What is left to be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeAnswers {
    left: u64,
    since: Stamp,
}

impl Default for ProbeAnswers {
    fn default() -> Self {
        Self { left: ANSWERS_PER_SECOND, since: Stamp(0) }
    }
}

impl ProbeAnswers {
    /// Whether one more may be given.
    fn take(&mut self, now: Stamp) -> bool {
        let earned = now.since(self.since).as_millis() as u64 * ANSWERS_PER_SECOND / 1000;
        if earned > 0 {
            self.left = (self.left + earned).min(ANSWERS_PER_SECOND);
            self.since = now;
        }
        let is_left = self.left > 0;
        self.left -= u64::from(is_left);
        is_left
    }
}

impl<'w> Walk<'w> {
    /// A frame to a reserved group came out of a tunnel and goes no further. Is it a probe?
    #[cold]
    pub(super) fn on_reserved_group(&mut self, tunnel: &Tunnel<'w>, frame: &[u8]) -> DropReason {
        let Some((probe, vtep)) = probe_in(frame, tunnel.ingress) else { return DropReason::ReservedGroup };
        let bridge = tunnel.id;
        match probe.kind {
            probe::Kind::Answer => {
                self.facts.probe_news(ProbeNews::Answered { vtep, bridge, nonce: probe.nonce, len: probe.len });
            }
            probe::Kind::Question => self.answer_probe(tunnel, vtep, probe),
        }
        DropReason::PathMtuProbe
    }

    /// Only whom somebody named gets an answer, which is not larger than the question, and not more often than is of use.
    fn answer_probe(&mut self, tunnel: &Tunnel<'w>, vtep: VtepId, probe: Probe) {
        let Some(overlay) = &self.tables.overlay else { return };
        let Tunnel { id, bridge, ingress } = *tunnel;
        let is_named = bridge.known_vteps.values().any(|named| *named == vtep);
        if !is_named || !self.probe_answers.take(self.now) {
            return;
        }
        self.counters().copied(ingress, id, 1);
        let answer = probe.answer().front(own_address(overlay.local.ip(), 0));
        self.egress.deliver_now(&Staged::own(id, bridge, &answer), ingress);
        self.facts.probe_news(ProbeNews::Asked { vtep });
    }

    /// A frame for an address of the host's own, and why it ends: it is for one that questions to stations come from, or not.
    /// What stations send there besides answers, such as solicitations for the asker, is nobody else's either.
    #[cold]
    pub(super) fn on_local_destination(&mut self, staged: &Staged<'w>) -> DropReason {
        let asker = asker(self.tables.overlay.as_ref(), staged.dst(), staged.ingress());
        let Some((index, vtep)) = asker else { return DropReason::LocalDestination };
        if is_answer(staged.bytes) {
            self.facts.probe_news(ProbeNews::StationAnswered { vtep, mac: staged.src(), index });
        }
        DropReason::PathMtuProbe
    }

    /// Looks for stations behind VTEPs that can't be asked themselves, in what came from one of them.
    #[cold]
    pub(super) fn look_for_stations(&mut self, overlay: &Overlay, stage: &[Staged<'w>]) {
        for staged in stage {
            if let Endpoint::Vtep(vtep) = staged.ingress()
                && overlay.stations_wanted.contains(&vtep)
                && let Some((ip, is_certain)) = station(staged.bytes, staged.src())
            {
                let (bridge, mac) = (staged.bridge_id(), staged.src());
                self.facts.probe_news(ProbeNews::Station { vtep, bridge, mac, ip, is_certain });
            }
        }
    }
}

/// The probe in a frame to a reserved group that came in here, and the VTEP that sent it.
pub(super) fn probe_in(frame: &[u8], ingress: Endpoint) -> Option<(Probe, VtepId)> {
    let Endpoint::Vtep(vtep) = ingress else { return None };
    Some((Probe::parse(frame)?, vtep))
}

/// Which of the addresses that stations are asked from a frame of the host's own is for, and the VTEP that sent it.
pub(super) fn asker(overlay: Option<&Overlay>, dst: MacAddr, ingress: Endpoint) -> Option<(u8, VtepId)> {
    let Endpoint::Vtep(vtep) = ingress else { return None };
    Some((index_of(dst, overlay?.local.ip())?, vtep))
}

/// Whether a frame may be what a station says to a question.
fn is_answer(frame: &[u8]) -> bool {
    let is_advertisement = |message: Neighbour<'_>| matches!(message.kind, ndisc::Kind::Advertisement { .. });
    Arp::parse(frame).is_some() || Neighbour::parse(frame).is_some_and(is_advertisement)
}

/// The IP address of the station that sent a frame, and whether it is its own for certain.
fn station(frame: &[u8], src: MacAddr) -> Option<(IpAddr, bool)> {
    let is_one_hosts = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast(),
    };
    if let Some(arp) = Arp::parse(frame) {
        let ip = IpAddr::V4(arp.sender_ip);
        return (arp.sender_mac == src && is_one_hosts(&ip)).then_some((ip, true));
    }
    if let Some(message) = Neighbour::parse(frame) {
        let ip = IpAddr::V6(match message.kind {
            ndisc::Kind::Solicitation => message.source,
            ndisc::Kind::Advertisement { .. } => message.target,
        });
        return is_one_hosts(&ip).then_some((ip, true));
    }
    let l3 = dissect(frame).l3?;
    let ip = match (l3.version, l3.addresses(frame)?) {
        (IpVersion::V4, addresses) => IpAddr::from(*addresses.first_chunk::<4>()?),
        (IpVersion::V6, addresses) => IpAddr::from(*addresses.first_chunk::<16>()?),
    };
    is_one_hosts(&ip).then_some((ip, false))
}

impl Worker {
    /// Sends a probe to a VTEP, however large.
    pub fn send_probe(&mut self, bridge: BridgeId, vtep: VtepId, frame: &[u8], now: Stamp) {
        let tables = self.shared.tables.load();
        let Some(entry) = tables.bridge(bridge) else { return };
        let (mut walk, ..) = self.walk(&tables, now, false);
        walk.egress.probes = true;
        walk.egress.deliver_now(&Staged::own(bridge, entry, frame), Endpoint::Vtep(vtep));
        walk.egress.counters.made(bridge, 1, frame.len() as u64);
        walk.egress.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_given_as_often_as_is_of_use() {
        let mut answers = ProbeAnswers::default();
        let given = |answers: &mut ProbeAnswers, now| (0..5000).filter(|_| answers.take(Stamp(now))).count() as u64;
        assert_eq!(given(&mut answers, 10), ANSWERS_PER_SECOND);
        assert_eq!(given(&mut answers, 10), 0);
        assert_eq!(given(&mut answers, 110), ANSWERS_PER_SECOND / 10);
        assert_eq!(given(&mut answers, 1_000_000), ANSWERS_PER_SECOND);
    }

    #[test]
    fn used_vteps_are_told_once() {
        let used = UsedVteps::default();
        used.mark(VtepId(7));
        used.mark(VtepId(u16::MAX));
        assert!(used.take(VtepId(7)) && !used.take(VtepId(7)) && !used.take(VtepId(u16::MAX)));
    }

    #[test]
    fn stations_are_known_by_what_they_say_or_by_what_they_send() {
        let (mac, asked) = (MacAddr::new([2, 0, 0, 0, 0, 0xa]), MacAddr::new([2, 0, 0, 0, 0, 0xb]));
        let ip = "10.0.0.1".parse().unwrap();
        let reply = Arp::parse(&crate::wire::arp::probe(asked, mac, ip)).unwrap().reply(mac);
        assert_eq!(station(&reply, mac), Some((IpAddr::V4(ip), true)));
        assert_eq!(station(&reply, asked), None, "somebody else's word");
        // A probe's sender has no address yet.
        assert_eq!(station(&crate::wire::arp::probe(mac, asked, ip), mac), None);
        let ip = "fd00::1".parse().unwrap();
        let solicitation = ndisc::solicitation(mac, asked, ip);
        assert_eq!(station(&solicitation, mac), Some((IpAddr::V6(ndisc::link_local(mac)), true)));
        assert!(!is_answer(&solicitation));
        let question = Neighbour::parse(&solicitation).unwrap();
        let advertisement = question.advertisement(asked, false, ndisc::Answerer::Bridge).unwrap();
        assert_eq!(station(&advertisement, asked), Some((IpAddr::V6(ip), true)));
        assert!(is_answer(&advertisement));
        let packet = crate::worker::tests::scene::udp4(asked, mac, 0, 10);
        assert!(matches!(station(&packet, mac), Some((IpAddr::V4(_), false))));
        assert_eq!(station(&[0; 60], mac), None);
    }
}
