//! One worker's share of the ledger.
//!
//! Counters are plain numbers of one thread; the control plane asks for a copy, which the worker makes between two
//! batches. A worker carries each frame from its ingress to its fate within a batch, so every copy balances exactly:
//!
//! ```text
//! frames in + copies = frames out + drops
//! ```
//!
//! Frames are wire frames: a super-frame counts as its segments. `copies` are the *extra* ones that flooding makes: a
//! frame flooded to three endpoints is one in, two copies and three out.

use weft_vxlan::GroupPolicy;

use super::sampling::Witness;
use crate::{
    bridge::DropReason,
    fdb::Learned,
    ids::{BridgeId, Endpoint, PortId, VtepId},
};

/// What passed one port, bridge or VTEP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Wire frames that entered the switch here.
    pub frames_in: u64,
    /// Their bytes from the Ethernet header on, as they were handed over (a super-frame's headers count once).
    pub bytes_in: u64,
    /// Extra frames that flooding made of them.
    pub copies: u64,
    /// Wire frames that left the switch here.
    pub frames_out: u64,
    /// Their bytes, likewise.
    pub bytes_out: u64,
    /// Frames that entered here and were given up before they had an egress, by [`DropReason::index`].
    pub drops_in: [u64; DropReason::COUNT],
    /// Frames that were to leave here and could not.
    pub drops_out: [u64; DropReason::COUNT],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            frames_in: 0,
            bytes_in: 0,
            copies: 0,
            frames_out: 0,
            bytes_out: 0,
            drops_in: [0; DropReason::COUNT],
            drops_out: [0; DropReason::COUNT],
        }
    }
}

impl Tally {
    /// Adds what another worker counted, or what a part that is gone had counted.
    pub fn add(&mut self, other: &Self) {
        self.frames_in += other.frames_in;
        self.bytes_in += other.bytes_in;
        self.copies += other.copies;
        self.frames_out += other.frames_out;
        self.bytes_out += other.bytes_out;
        self.drops_in.iter_mut().zip(&other.drops_in).for_each(|(a, b)| *a += b);
        self.drops_out.iter_mut().zip(&other.drops_out).for_each(|(a, b)| *a += b);
    }

    fn enter(&mut self, frames: u64, bytes: u64) {
        self.frames_in += frames;
        self.bytes_in += bytes;
    }

    fn take_back(&mut self, reason: DropReason, frames: u64, bytes: u64) {
        let frames = frames.min(self.frames_out);
        self.frames_out -= frames;
        self.bytes_out -= bytes.min(self.bytes_out);
        self.drops_out[reason.index()] += frames;
    }

    /// All drops, both ways.
    pub fn drops(&self) -> u64 {
        self.drops_in.iter().chain(&self.drops_out).sum()
    }

    /// Whether `in + copies = out + drops`. Holds for a bridge and for the whole switch, not for a single port or VTEP,
    /// where what enters leaves elsewhere.
    pub fn balances(&self) -> bool {
        self.frames_in + self.copies == self.frames_out + self.drops()
    }
}

/// All that one worker counted.
#[derive(Clone, Default, Debug)]
pub struct Counters {
    /// By [`PortId`].
    pub ports: Vec<Tally>,
    /// By [`BridgeId`].
    pub bridges: Vec<Tally>,
    /// By [`VtepId`].
    pub vteps: Vec<Tally>,
    /// Datagrams that ended before anybody knew which VTEP and bridge they belong to.
    pub underlay: Tally,
    /// Frames that the switch made itself.
    pub own: Tally,
    /// Ports that were taken out.
    pub removed_ports: Tally,
    /// Bridges that were taken out.
    pub removed_bridges: Tally,
    /// Datagrams that named a group policy, by its number; empty until one does.
    pub policies: Vec<u64>,
    /// Who notes what is counted, while a frame is watched.
    pub(super) witness: Option<Box<Witness>>,
}

impl Counters {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        add_each(&mut self.ports, &other.ports);
        add_each(&mut self.bridges, &other.bridges);
        add_each(&mut self.vteps, &other.vteps);
        self.underlay.add(&other.underlay);
        self.own.add(&other.own);
        self.removed_ports.add(&other.removed_ports);
        self.removed_bridges.add(&other.removed_bridges);
        if self.policies.len() < other.policies.len() {
            self.policies.resize(other.policies.len(), 0);
        }
        self.policies.iter_mut().zip(&other.policies).for_each(|(sum, other)| *sum += other);
    }

    /// A datagram named this group policy.
    pub(super) fn policy_arrived(&mut self, policy: GroupPolicy) {
        if self.policies.is_empty() {
            self.policies.resize(usize::from(u16::MAX) + 1, 0);
        }
        self.policies[usize::from(policy.id)] += 1;
    }

    /// The whole switch: every port and VTEP, past ones too, what came from nowhere and what it made itself.
    pub fn total(&self) -> Tally {
        let mut total = self.underlay.clone();
        total.add(&self.own);
        total.add(&self.removed_ports);
        self.ports.iter().chain(&self.vteps).for_each(|tally| total.add(tally));
        total
    }

    /// They came in at `at`, and reached `bridge` if there is one for them.
    pub(super) fn entered(&mut self, at: Endpoint, bridge: Option<BridgeId>, frames: u64, bytes: u64) {
        self.endpoint(at).enter(frames, bytes);
        if let Some(bridge) = bridge {
            self.bridge(bridge).enter(frames, bytes);
        }
    }

    /// They are given up; `bridge` if they had reached one.
    #[inline]
    pub(super) fn dropped_in(&mut self, at: Endpoint, bridge: Option<BridgeId>, reason: DropReason, frames: u64) {
        self.endpoint(at).drops_in[reason.index()] += frames;
        if let Some(bridge) = bridge {
            self.bridge(bridge).drops_in[reason.index()] += frames;
        }
        if let Some(witness) = &mut self.witness {
            witness.dropped(reason);
        }
    }

    /// Datagrams ended before their VTEP and bridge were known.
    pub(super) fn refused(&mut self, reason: DropReason, datagrams: u64) {
        self.underlay.frames_in += datagrams;
        self.underlay.drops_in[reason.index()] += datagrams;
        if let Some(witness) = &mut self.witness {
            witness.dropped(reason);
        }
    }

    /// The switch made a frame of so many bytes for `bridge` and sent it to `targets` places.
    pub(super) fn made(&mut self, bridge: BridgeId, targets: u64, bytes: u64) {
        for tally in [&mut self.own, tally(&mut self.bridges, bridge.0)] {
            tally.enter(1, bytes);
            match targets {
                0 => tally.drops_in[DropReason::NoFloodTarget.index()] += 1,
                _ => tally.copies += targets - 1,
            }
        }
    }

    /// Flooding made `frames` more of them.
    #[inline]
    pub(super) fn copied(&mut self, at: Endpoint, bridge: BridgeId, frames: u64) {
        self.endpoint(at).copies += frames;
        self.bridge(bridge).copies += frames;
    }

    /// They left at `at`.
    #[inline]
    pub(super) fn left(&mut self, at: Endpoint, bridge: BridgeId, frames: u64, bytes: u64) {
        let tally = self.endpoint(at);
        tally.frames_out += frames;
        tally.bytes_out += bytes;
        let tally = self.bridge(bridge);
        tally.frames_out += frames;
        tally.bytes_out += bytes;
        if let Some(witness) = &mut self.witness {
            witness.copies(at, frames, Ok(()));
        }
    }

    /// They should have left at `at`.
    #[inline]
    pub(super) fn dropped_out(&mut self, at: Endpoint, bridge: BridgeId, reason: DropReason, frames: u64) {
        self.endpoint(at).drops_out[reason.index()] += frames;
        self.bridge(bridge).drops_out[reason.index()] += frames;
        if let Some(witness) = &mut self.witness {
            witness.copies(at, frames, Err(reason));
        }
    }

    /// They were counted as left at `at`, but did not leave after all. Of a loss that its port reports later than in the
    /// batch that caused it (only the fault wrapper does), the bridge may have sent less than is lost: the rest stays.
    #[cold]
    pub(super) fn lost(&mut self, at: Endpoint, bridge: BridgeId, reason: DropReason, frames: u64, bytes: u64) {
        self.endpoint(at).take_back(reason, frames, bytes);
        self.bridge(bridge).take_back(reason, frames, bytes);
        if let Some(witness) = &mut self.witness {
            witness.take_back(at, reason, frames);
        }
    }

    /// A frame's source changed the FDB.
    pub(super) fn learned(&mut self, learned: Learned) {
        if let Some(witness) = &mut self.witness {
            witness.learned = Some(learned);
        }
    }

    /// A port is gone and its id free for another: its counts are kept among [`Counters::removed_ports`].
    pub(super) fn retire_port(&mut self, port: PortId) {
        if let Some(tally) = self.ports.get_mut(port.index()) {
            self.removed_ports.add(&std::mem::take(tally));
        }
    }

    /// The same for a bridge.
    pub(super) fn retire_bridge(&mut self, bridge: BridgeId) {
        if let Some(tally) = self.bridges.get_mut(bridge.index()) {
            self.removed_bridges.add(&std::mem::take(tally));
        }
    }

    #[inline]
    fn endpoint(&mut self, at: Endpoint) -> &mut Tally {
        match at {
            Endpoint::Port(PortId(index)) => tally(&mut self.ports, index),
            Endpoint::Vtep(VtepId(index)) => tally(&mut self.vteps, index),
        }
    }

    #[inline]
    fn bridge(&mut self, bridge: BridgeId) -> &mut Tally {
        tally(&mut self.bridges, bridge.0)
    }
}

/// Frames that entered a bridge one after another at the same place: counted together, since that is a few additions for a
/// batch instead of a few for each frame.
#[derive(Default)]
pub(super) struct Entered {
    place: Option<(Endpoint, BridgeId)>,
    frames: u64,
    bytes: u64,
}

impl Entered {
    /// `frames` wire frames came in at `at` and reached `bridge`.
    #[inline(always)]
    pub(super) fn add(&mut self, at: Endpoint, bridge: BridgeId, frames: u32, bytes: usize, counters: &mut Counters) {
        if self.place != Some((at, bridge)) {
            self.count(counters);
            self.place = Some((at, bridge));
        }
        self.frames += u64::from(frames);
        self.bytes += bytes as u64;
    }

    /// Counts what has not been counted.
    #[inline(never)]
    pub(super) fn count(&mut self, counters: &mut Counters) {
        let Self { place, frames, bytes } = std::mem::take(self);
        let Some((at, bridge)) = place else { return };
        counters.entered(at, Some(bridge), frames, bytes);
    }
}

/// The tally of `index`, made when it is first needed.
#[inline]
fn tally(tallies: &mut Vec<Tally>, index: u16) -> &mut Tally {
    let index = usize::from(index);
    if index >= tallies.len() {
        grow(tallies, index);
    }
    &mut tallies[index]
}

#[cold]
fn grow(tallies: &mut Vec<Tally>, index: usize) {
    tallies.resize_with(index + 1, Tally::default);
}

fn add_each(sums: &mut Vec<Tally>, others: &[Tally]) {
    if sums.len() < others.len() {
        sums.resize_with(others.len(), Tally::default);
    }
    sums.iter_mut().zip(others).for_each(|(sum, other)| sum.add(other));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_removed_port_had_counted_stays_in_the_total() {
        let mut counters = Counters::default();
        let port = Endpoint::Port(PortId(3));
        counters.endpoint(port).enter(5, 500);
        counters.dropped_in(port, None, DropReason::Malformed, 5);
        let before = counters.total();
        counters.retire_port(PortId(3));
        assert_eq!(counters.ports[3], Tally::default());
        assert_eq!(counters.total(), before);
        assert!(counters.total().balances());
    }
}
