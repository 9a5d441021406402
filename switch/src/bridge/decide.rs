//! What happens to a frame.

use super::{Bridge, DropReason, PortEntry, PortOptions, Tables};
use crate::{
    ids::{BridgeId, Endpoint},
    snoop::Targets,
    wire::MacAddr,
};

/// The reserved groups that a provider's bridge passes on, a bit each: they are for the bridges of its customers (IEEE 802.1Q
/// tables 8-1 and 8-2; `br_private.h`: `BR_GROUPFWD_8021AD`).
pub const PROVIDER_GROUPS: u16 = 0xb801;

/// Whether a frame may enter a bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It may.
    Enter,
    /// The bridge keeps it, but its source is learned (`br_input.c`: `__br_handle_local_finish`).
    KeepAndLearn(DropReason),
    /// It ends here and teaches nothing.
    Refuse(DropReason),
}

/// The checks before anything is learned (`br_input.c`: `br_handle_frame`).
///
/// Of the reserved groups (IEEE 802.1D 7.12.6), ..-00 (spanning tree) is flooded since this bridge speaks no spanning
/// tree, ..-01 (pause) never passes, the others pass if their bit of the bridge's `group_fwd_mask` is set, or of the one of
/// the port that they came in by, `port_mask`.
#[inline]
pub fn admit(bridge: &Bridge, port_mask: u16, dst: MacAddr, src: MacAddr) -> Admission {
    if !src.is_valid_source() {
        return Admission::Refuse(DropReason::SourceInvalid);
    }
    match dst.reserved_group() {
        None | Some(0) => Admission::Enter,
        Some(1) => Admission::Refuse(DropReason::ReservedGroup),
        Some(group) if (bridge.group_fwd_mask | port_mask) & (1 << group) != 0 => Admission::Enter,
        Some(_) if bridge.no_linklocal_learn => Admission::Refuse(DropReason::ReservedGroup),
        Some(_) => Admission::KeepAndLearn(DropReason::ReservedGroup),
    }
}

/// What is to be done with a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing, and why.
    Drop(DropReason),
    /// It goes to one place.
    Unicast(Endpoint),
    /// A copy goes to everybody whom [`Tables::flood`] names.
    Flood(FloodKind),
}

/// Why a frame is flooded: each kind has a gate of its own at every port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FloodKind {
    /// The destination is not in the FDB.
    UnknownUnicast,
    /// The destination is a group.
    Multicast,
    /// The destination is everybody.
    Broadcast,
}

impl FloodKind {
    /// Whether a port's gate for this kind is open.
    #[inline]
    pub const fn passes(self, port: PortOptions) -> bool {
        match self {
            Self::UnknownUnicast => port.flood,
            Self::Multicast => port.mcast_flood,
            Self::Broadcast => port.bcast_flood,
        }
    }
}

impl Tables {
    /// What happens to a frame that entered `bridge` at `ingress`. `known` is what the FDB says of `dst`.
    ///
    /// A known destination that may not be reached is dropped, never flooded (`br_forward.c`: `br_forward`).
    #[inline]
    pub fn decide(&self, bridge: &Bridge, ingress: Endpoint, dst: MacAddr, known: Option<Endpoint>) -> Verdict {
        if dst.is_multicast() {
            return Verdict::Flood(if dst.is_broadcast() { FloodKind::Broadcast } else { FloodKind::Multicast });
        }
        if bridge.is_local(dst) {
            return Verdict::Drop(DropReason::LocalDestination);
        }
        let Some(egress) = known else { return Verdict::Flood(FloodKind::UnknownUnicast) };
        match self.may_deliver(ingress, egress) {
            Ok(()) => Verdict::Unicast(egress),
            Err(reason) => self.decide_backup(ingress, egress, reason),
        }
    }

    /// What is behind a port that is down goes to its backup, if it may (`br_forward.c`: `br_forward`).
    #[cold]
    fn decide_backup(&self, ingress: Endpoint, egress: Endpoint, reason: DropReason) -> Verdict {
        let Endpoint::Port(id) = egress else { return Verdict::Drop(reason) };
        let backup = self.port(id).filter(|port| !port.up).and_then(|port| port.options.backup_port);
        let Some(backup) = backup.map(Endpoint::Port) else { return Verdict::Drop(reason) };
        self.may_deliver(ingress, backup).map_or_else(Verdict::Drop, |()| Verdict::Unicast(backup))
    }

    /// Whether a frame from `ingress` may go to `egress` (`br_forward.c`: `should_deliver`; RFC 7432 section 8.3.1 for
    /// split horizon: what came over the overlay does not go back into it).
    #[inline]
    pub fn may_deliver(&self, ingress: Endpoint, egress: Endpoint) -> Result<(), DropReason> {
        let Endpoint::Port(to) = egress else {
            return match ingress {
                Endpoint::Vtep(_) => Err(DropReason::SplitHorizon),
                Endpoint::Port(_) => Ok(()),
            };
        };
        let to_entry = self.port(to).ok_or(DropReason::PortRemoved)?;
        if let Endpoint::Port(from) = ingress {
            if from == to && !to_entry.options.hairpin {
                return Err(DropReason::SameEndpoint);
            }
            if to_entry.options.isolated && self.port(from).is_some_and(|from| from.options.isolated) {
                return Err(DropReason::Isolated);
            }
        }
        to_entry.lets_out()
    }

    /// Everybody who gets a copy of a flooded frame: the bridge's ports whose gate for this kind is open, then, if it
    /// came from a port, the flood list (head-end replication).
    #[inline]
    pub fn flood<'t>(
        &'t self,
        bridge: &'t Bridge,
        ingress: Endpoint,
        kind: FloodKind,
    ) -> impl Iterator<Item = Endpoint> + 't {
        let gate_is_open = move |port: &PortEntry| kind.passes(port.options);
        let ports = bridge.ports.iter().filter(move |id| self.port(**id).is_some_and(gate_is_open));
        let ports = ports.map(|id| Endpoint::Port(*id)).filter(move |to| self.may_deliver(ingress, *to).is_ok());
        let remotes = match ingress {
            Endpoint::Port(_) => bridge.flood_list.as_slice(),
            Endpoint::Vtep(_) => &[],
        };
        ports.chain(remotes.iter().map(|id| Endpoint::Vtep(*id)))
    }

    /// Everybody who gets a copy of a frame from the station `src` to a group: who of `targets` may, each with the address that the
    /// copy goes to instead of the group's, if it does; then, if it came from a port and the overlay is one of them, the
    /// flood list (`br_forward.c`: `br_multicast_flood`). The gate for multicast is for what nobody asked for.
    #[inline]
    pub fn members<'t>(
        &'t self,
        bridge: &'t Bridge,
        ingress: Endpoint,
        src: MacAddr,
        targets: &'t Targets,
    ) -> impl Iterator<Item = (Endpoint, Option<MacAddr>)> + 't {
        let ports = targets.ports.iter().map(|target| (Endpoint::Port(target.port), target.to_host));
        // A host never gets its own frame back, hairpin or not: it would take its own duplicate address detection for another's.
        let ports = ports.filter(move |(to, host)| {
            self.may_deliver(ingress, *to).is_ok() && !(*to == ingress && *host == Some(src))
        });
        let remotes = match ingress {
            Endpoint::Port(_) if targets.overlay => bridge.flood_list.as_slice(),
            Endpoint::Port(_) | Endpoint::Vtep(_) => &[],
        };
        ports.chain(remotes.iter().map(|id| (Endpoint::Vtep(*id), None)))
    }

    /// The bridges that exist.
    pub fn bridge_ids(&self) -> impl Iterator<Item = (BridgeId, &Bridge)> {
        let id = |index| BridgeId(u16::try_from(index).expect("bridge indices are made from BridgeIds"));
        self.bridges.iter().enumerate().filter_map(move |(index, bridge)| Some((id(index), bridge.as_ref()?)))
    }
}

#[cfg(test)]
mod tests;
