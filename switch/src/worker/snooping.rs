//! Frames to groups in a bridge that snoops, and the bridge's own queries.

use arrayvec::ArrayVec;

use super::{
    Worker,
    tunnel::Rewritten,
    walk::{Staged, Walk},
};
use crate::{
    bridge::{DropReason, FloodKind},
    fdb::Stamp,
    ids::{BridgeId, Endpoint},
    snoop::{Mdb, Member, Route, Targets},
    wire::{
        MacAddr,
        membership::{self, Message},
    },
};

/// Bytes of a frame about groups that go up to the control plane. Longer ones are counted as lost: a report with every source that
/// is kept has 566 bytes, and hosts send what fits their MTU.
pub const MAX_SNOOPED_LEN: usize = 1600;

/// A frame that says something about groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snooped {
    /// Its bridge.
    pub bridge: BridgeId,
    /// Where it came in.
    pub from: Endpoint,
    /// Whether its sender left the transport checksum undone.
    pub checksum_is_pending: bool,
    /// The frame, without the tag that belonged to its port.
    pub bytes: ArrayVec<u8, MAX_SNOOPED_LEN>,
}

/// Whether a frame to the group address `dst` says something about groups, and where it goes or why it ends.
#[inline]
pub(super) fn listen<'m>(
    mdb: &'m Mdb,
    ingress: Endpoint,
    [dst, src]: [MacAddr; 2],
    frame: &[u8],
    checksum_is_pending: bool,
) -> (bool, Result<Route<'m>, DropReason>) {
    let Ok(packet) = membership::parse(frame, checksum_is_pending) else {
        return (false, Err(DropReason::McastMalformed));
    };
    let message = packet.and_then(|packet| packet.message);
    let from = || match ingress {
        Endpoint::Port(port) => Member::Port(port),
        Endpoint::Vtep(_) => Member::Overlay,
    };
    let route = match message {
        Some(Message::Records(records)) if !records.are_whole() => Err(DropReason::McastMalformed),
        Some(message) if !mdb.has_room(from(), src, &message) => Err(DropReason::McastFull),
        Some(_) | None => Ok(mdb.route(dst, packet.as_ref())),
    };
    (message.is_some(), route)
}

impl<'w> Walk<'w> {
    /// A frame to a group, in a bridge that snoops (`br_input.c`: `br_handle_frame_finish`). What hosts and routers say is told to
    /// the control plane, which makes of it what the next frames go by.
    #[inline(never)]
    pub(super) fn forward_group(&mut self, staged: &Staged<'w>, mdb: &Mdb) {
        let checksum_is_pending = staged.vnet.csum.is_some();
        let (says_something, route) =
            listen(mdb, staged.ingress(), [staged.dst(), staged.src()], staged.bytes, checksum_is_pending);
        if says_something {
            self.facts.snooped(staged.bridge_id(), staged.ingress(), checksum_is_pending, staged.bytes);
        }
        match route {
            Ok(Route::Flood) => self.flood_to_all(staged, FloodKind::Multicast),
            Ok(Route::Only(targets)) => self.send_to_members(staged, targets),
            Err(reason) => self.give_up(staged, reason),
        }
    }

    /// A frame at a port that learns only: who is in which group is learned there too (`br_input.c`: `br_handle_frame_finish`
    /// asks for the state last).
    #[cold]
    pub(super) fn hear(&mut self, staged: &Staged<'w>) {
        let Some(mdb) = staged.bridge.mdb.as_ref().filter(|_| staged.dst().is_multicast()) else { return };
        let checksum_is_pending = staged.vnet.csum.is_some();
        let addresses = [staged.dst(), staged.src()];
        if listen(mdb, staged.ingress(), addresses, staged.bytes, checksum_is_pending).0 {
            self.facts.snooped(staged.bridge_id(), staged.ingress(), checksum_is_pending, staged.bytes);
        }
    }

    /// Who gets a frame that is to be flooded, if not all do.
    pub(super) fn members_only(&self, staged: &Staged<'w>, kind: FloodKind) -> Option<&'w Targets> {
        let mdb = staged.bridge.mdb.as_ref().filter(|_| kind == FloodKind::Multicast)?;
        match listen(mdb, staged.ingress(), [staged.dst(), staged.src()], staged.bytes, staged.vnet.csum.is_some()).1 {
            Ok(Route::Only(targets)) => Some(targets),
            Ok(Route::Flood) | Err(_) => None,
        }
    }

    fn send_to_members(&mut self, staged: &Staged<'w>, targets: &Targets) {
        let mut copies = 0;
        for (to, host) in self.tables.members(staged.bridge, staged.ingress(), staged.src(), targets) {
            copies += 1;
            self.deliver_to_member(staged, to, host);
        }
        self.count_copies(staged, copies, DropReason::NoMcastMember);
    }

    /// Sends a copy, to the address of one `host` if the port has it so (`mcast_to_unicast`).
    pub(super) fn deliver_to_member(&mut self, staged: &Staged<'w>, to: Endpoint, host: Option<MacAddr>) {
        match host {
            Some(host) => self.egress.deliver_rewritten(staged, to, Rewritten { dst: host, src: staged.src() }),
            None => self.egress.deliver(staged, to),
        }
    }
}

impl Worker {
    /// Sends a frame of the switch's own, as the bridge's interface would: to one port, or to the whole flood list.
    pub fn send_own(&mut self, bridge: BridgeId, to: Member, frame: &[u8], now: Stamp) {
        let tables = self.shared.tables.load();
        let Some(entry) = tables.bridge(bridge) else { return };
        let (mut walk, ..) = self.walk(&tables, now, false);
        let staged = Staged::own(bridge, entry, frame);
        let targets: &mut dyn Iterator<Item = Endpoint> = match to {
            Member::Port(port) => &mut std::iter::once(Endpoint::Port(port)),
            Member::Overlay => &mut entry.flood_list.iter().map(|vtep| Endpoint::Vtep(*vtep)),
        };
        let mut copies = 0;
        for to in targets {
            copies += 1;
            walk.egress.deliver(&staged, to);
        }
        walk.egress.counters.made(bridge, copies, frame.len() as u64);
        walk.egress.flush();
    }
}
