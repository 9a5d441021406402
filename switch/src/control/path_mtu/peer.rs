//! One VTEP as the prober sees it: the state machine of its path, and what belongs to it.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use weft_vxlan::{
    HeaderFormat,
    mtu::{ETHERNET_HEADER_LEN, Family},
    pmtu::{Claim, ClaimFate, Method, PathMtu, State},
};

use super::{Carrier, Change, Peer, PeerReport, Rules, echo, stations::Stations};
use crate::ids::BridgeId;

/// How long after its last frame a VTEP counts as in use.
const IN_USE_FOR: Duration = Duration::from_secs(15);
/// Echo requests that errors may quote.
const ECHOES_LEN: usize = 32;

/// What came of probes and errors.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) probes_sent: u64,
    pub(crate) probes_answered: u64,
    /// Errors that the value follows or agrees with.
    pub(crate) errors_accepted: u64,
    /// Errors that have to wait for a check.
    pub(crate) errors_doubted: u64,
    pub(crate) errors_impossible: u64,
    pub(crate) errors_foreign: u64,
    pub(crate) unreachable: u64,
}

/// A VTEP.
pub(super) struct Tracked {
    pub(super) peer: Peer,
    pub(super) mtu: PathMtu,
    pub(super) counts: Counts,
    pub(super) stations: Stations,
    /// Echo requests that are under way, by sequence number and size.
    echoes: VecDeque<(u16, u16)>,
    used: Option<Duration>,
    /// What was told last.
    told: (u16, State),
}

impl Tracked {
    pub(super) fn new(peer: Peer, rules: Rules, link_mtu: u32, now: Duration) -> Self {
        let family = Family::of(peer.address.ip());
        let mtu = PathMtu::new(family, rules.policy, link_mtu, fastrand::u64(..), now).with_ageing(rules.ageing);
        let told = (mtu.path_mtu(), mtu.state());
        Self {
            peer,
            mtu,
            counts: Counts::default(),
            stations: Stations::default(),
            echoes: VecDeque::new(),
            used: None,
            told,
        }
    }

    pub(super) fn address(&self) -> IpAddr {
        self.peer.address.ip()
    }

    /// Looks whether it is in use; `was_sent` if it was sent frames since the last look.
    pub(super) fn look_at_use(&mut self, was_sent: bool, now: Duration) {
        if was_sent {
            self.used = Some(now);
        }
        self.mtu.set_in_use(self.is_in_use(now), now);
    }

    pub(super) fn is_in_use(&self, now: Duration) -> bool {
        self.used.is_some_and(|used| now < used + IN_USE_FOR)
    }

    /// The bridge that in-band probes go through.
    pub(super) fn carrier(&self) -> Option<Carrier> {
        self.peer.carriers.first().copied()
    }

    /// Bytes of the inner frame in an outer IP packet of `size` bytes, in this bridge.
    pub(super) fn frame_len(&self, bridge: BridgeId, size: u16) -> usize {
        let carrier = self.peer.carriers.iter().find(|carrier| carrier.bridge == bridge);
        let headers = carrier.map_or(0, |carrier| carrier.budget.overhead() - ETHERNET_HEADER_LEN);
        usize::from(size.saturating_sub(headers))
    }

    /// An echo request left.
    pub(super) fn echo_sent(&mut self, nonce: u64, size: u16) {
        if self.echoes.len() >= ECHOES_LEN {
            self.echoes.pop_front();
        }
        self.echoes.push_back((echo::sequence(nonce), size));
    }

    /// Whether an error can be about an echo request of ours.
    pub(super) fn has_echo(&self, sequence: u16, mtu: u32) -> bool {
        self.echoes.iter().any(|(sent, size)| *sent == sequence && mtu < u32::from(*size))
    }

    /// Whether the beginning of a datagram, as far as there is one, can be that of one to this VTEP.
    pub(super) fn can_be_quoted(&self, quoted: &[u8]) -> bool {
        // A router that quotes 8 bytes behind the IP header has quoted the UDP header, whose ports the kernel has compared.
        quoted.is_empty() || self.peer.carriers.iter().any(|carrier| begins_as(carrier, quoted))
    }

    /// A probe was answered.
    pub(super) fn on_answer(&mut self, nonce: u64, method: Method, now: Duration) {
        if self.mtu.on_answer(nonce, method, now).is_some() {
            self.counts.probes_answered += 1;
        }
    }

    /// What an ICMP error said.
    pub(super) fn on_claim(&mut self, claim: Claim, now: Duration) {
        let counter = match self.mtu.on_claim(claim, now) {
            ClaimFate::Believed | ClaimFate::Known => &mut self.counts.errors_accepted,
            ClaimFate::Doubted => &mut self.counts.errors_doubted,
            ClaimFate::Impossible => &mut self.counts.errors_impossible,
            ClaimFate::Foreign => &mut self.counts.errors_foreign,
            ClaimFate::Ignored => return,
        };
        *counter += 1;
    }

    /// What is worth telling and was not told yet: another value, or a black hole that comes or goes.
    pub(super) fn take_change(&mut self) -> Option<Change> {
        let now = (self.mtu.path_mtu(), self.mtu.state());
        let (from, was) = self.told;
        let (to, state) = now;
        let is_hole = |state| state == State::BlackHole;
        // A router's word is checked within a moment; while that lasts a black hole is neither gone nor new.
        if self.mtu.is_asking() && from == to {
            return None;
        }
        self.told = now;
        let is_news = from != to || is_hole(was) != is_hole(state);
        is_news.then(|| Change { vtep: self.peer.vtep, from, to, state, reason: self.mtu.reason() })
    }

    pub(super) fn report(&self, now: Duration) -> PeerReport {
        PeerReport {
            vtep: self.peer.vtep,
            carriers: self.peer.carriers.clone(),
            mtu: self.mtu.clone(),
            counts: self.counts,
            in_use: self.is_in_use(now),
            stations: self.stations.answering().collect(),
        }
    }
}

/// Whether a tunnel header, as far as it goes, is one of this bridge's.
fn begins_as(carrier: &Carrier, quoted: &[u8]) -> bool {
    let flags = quoted.first().is_none_or(|flags| match carrier.encapsulation.format() {
        HeaderFormat::Vxlan | HeaderFormat::VxlanGpe => flags & 0x08 != 0,
        HeaderFormat::Geneve => flags >> 6 == 0,
    });
    let vni = quoted.get(4..7).is_none_or(|vni| *vni == carrier.vni.get().to_be_bytes()[1..]);
    flags && vni
}

#[cfg(test)]
mod tests {
    use weft_vxlan::{Encapsulation, Vni, mtu::HeaderBudget, pmtu::Policy};

    use super::*;
    use crate::ids::VtepId;

    fn tracked(encapsulation: Encapsulation, vni: u32) -> Tracked {
        let budget = HeaderBudget::new(Family::Ipv4).with_encapsulation(encapsulation);
        let carrier = Carrier { bridge: BridgeId(1), vni: Vni::new(vni).unwrap(), encapsulation, budget };
        let peer = Peer { vtep: VtepId(0), address: "192.0.2.2:4789".parse().unwrap(), carriers: vec![carrier] };
        let rules = Rules { policy: Policy::Measure, ageing: Duration::from_secs(600) };
        Tracked::new(peer, rules, 1500, Duration::ZERO)
    }

    #[test]
    fn what_is_quoted_must_be_a_header_of_a_network_that_the_vtep_belongs_to() {
        let vxlan = tracked(Encapsulation::Vxlan, 42);
        assert!(vxlan.can_be_quoted(&[]), "a router may quote nothing of it");
        assert!(vxlan.can_be_quoted(&[8, 0, 0, 0, 0, 0, 42, 0]));
        assert!(vxlan.can_be_quoted(&[8, 0, 0, 0]));
        assert!(!vxlan.can_be_quoted(&[8, 0, 0, 0, 0, 0, 43, 0]));
        assert!(!vxlan.can_be_quoted(&[0, 0, 0, 0, 0, 0, 42, 0]));
        let geneve = tracked(Encapsulation::Geneve, 42);
        assert!(geneve.can_be_quoted(&[2, 0, 0x65, 0x58, 0, 0, 42, 0]));
        assert!(!geneve.can_be_quoted(&[0x40, 0, 0x65, 0x58, 0, 0, 42, 0]), "no such version");
    }

    #[test]
    fn an_echo_request_is_quoted_only_while_it_is_under_way_and_if_it_was_larger() {
        let mut tracked = tracked(Encapsulation::Vxlan, 42);
        tracked.echo_sent(0xdead_beef, 1500);
        assert!(tracked.has_echo(0xbeef, 1400));
        assert!(!tracked.has_echo(0xbeef, 1500) && !tracked.has_echo(0xbeee, 1400));
        for nonce in 0..ECHOES_LEN as u64 {
            tracked.echo_sent(nonce, 1500);
        }
        assert!(!tracked.has_echo(0xbeef, 1400));
    }

    #[test]
    fn a_probe_fills_its_packet() {
        let tracked = tracked(Encapsulation::Vxlan, 42);
        assert_eq!(tracked.frame_len(BridgeId(1), 1500), 1464);
        assert_eq!(tracked.frame_len(BridgeId(1), 20), 0);
    }

    #[test]
    fn a_value_is_told_once_and_a_confirmation_not_at_all() {
        let mut tracked = tracked(Encapsulation::Vxlan, 42);
        assert_eq!(tracked.take_change(), None);
        let claim = Claim { mtu: 1400, quotes_us: true, from: None };
        tracked.on_claim(claim, Duration::ZERO);
        let change = tracked.take_change().unwrap();
        assert_eq!((change.from, change.to, change.state), (1500, 1400, State::Learned));
        assert_eq!(tracked.take_change(), None);
        assert_eq!(tracked.counts.errors_accepted, 1);
    }

    #[test]
    fn a_measurement_that_finds_what_was_assumed_is_no_news() {
        let mut tracked = tracked(Encapsulation::Vxlan, 42);
        while let Some(probe) = tracked.mtu.poll(Duration::ZERO) {
            tracked.mtu.on_answer(probe.nonce, Method::InBand, Duration::ZERO);
        }
        assert_eq!(tracked.mtu.state(), State::Measured);
        assert_eq!(tracked.take_change(), None);
    }

    #[test]
    fn a_vtep_is_in_use_for_a_while_after_its_last_frame() {
        let mut tracked = tracked(Encapsulation::Vxlan, 42);
        assert!(!tracked.is_in_use(Duration::ZERO));
        tracked.look_at_use(true, Duration::from_secs(1));
        assert!(tracked.is_in_use(Duration::from_secs(15)));
        tracked.look_at_use(false, Duration::from_secs(16));
        assert!(!tracked.is_in_use(Duration::from_secs(16)));
    }
}
