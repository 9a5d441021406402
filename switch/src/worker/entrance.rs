//! How a frame of a port enters a bridge: the first stage of the [walk](super::walk).

use super::{
    checks::{admitted, untagged},
    walk::{Staged, Teaches},
};
use crate::{
    bridge::{Bridge, DropReason, PortEntry, Tables},
    fdb::Place,
    ids::{BridgeId, Endpoint},
    offload::{self, VnetHeader},
    wire::{
        Tag,
        ethernet::{self, EtherHeader},
    },
};

/// A frame that does not enter.
pub(super) struct Refused {
    pub(super) reason: DropReason,
    /// The bridge that it had come to.
    pub(super) bridge: Option<BridgeId>,
    /// How many wire frames it is.
    pub(super) frames: u32,
}

/// Where a batch came in.
pub(super) struct Ingress<'w> {
    pub(super) at: Endpoint,
    /// Its port; `None` if it was taken out meanwhile.
    pub(super) port: Option<&'w PortEntry>,
}

/// A bridge as frames of one port enter it.
#[derive(Clone, Copy)]
pub(super) struct Entrance<'w> {
    pub(super) id: BridgeId,
    pub(super) bridge: &'w Bridge,
    /// Whether they teach their sources; which of them, the bridge says.
    pub(super) learns: bool,
    /// The port's own mask of reserved groups that are forwarded.
    pub(super) group_fwd_mask: u16,
    /// Whether the port looks at frames closer than others do ([`PortEntry::is_watched`]).
    pub(super) watched: bool,
}

/// Makes one frame of a port ready for the second half of the walk. `classify` tells which bridge it enters, and with which tag of
/// its port.
#[inline(always)]
pub(super) fn receive<'b, 'w: 'b>(
    ingress: &Ingress<'w>,
    bytes: &'b mut [u8],
    vnet: &Option<VnetHeader>,
    classify: impl Fn(&EtherHeader, u32) -> Result<(Entrance<'w>, Option<Tag>), Refused>,
) -> Result<Staged<'b>, Refused> {
    let bad_offload = || Refused { reason: DropReason::BadOffload, bridge: None, frames: 1 };
    let vnet = vnet.as_ref().ok_or_else(bad_offload)?;
    let frames = offload::wire_frames(bytes, vnet).map_err(|_| bad_offload())?;
    let outside = |reason| Refused { reason, bridge: None, frames };
    let header = ethernet::parse(bytes).map_err(|_| outside(DropReason::Malformed))?;
    let (Entrance { id, bridge, learns, group_fwd_mask, watched }, port_tag) = classify(&header, frames)?;
    let inside = |reason| Refused { reason, bridge: Some(id), frames };
    let moved;
    let (bytes, vnet) = match port_tag {
        None => (&*bytes, vnet),
        Some(_) => {
            let (rest, vnet) = untagged(bytes, vnet).map_err(inside)?;
            moved = vnet;
            (rest, &moved)
        }
    };
    let mut kept = admitted(bridge, group_fwd_mask, header.dst, header.src).map_err(inside)?;
    let mut teaches = Teaches::source_if(learns && bridge.learns(header.src));
    if watched && let Some(port) = ingress.port {
        port.security.check(header.src, bytes).map_err(inside)?;
        if kept.is_none() {
            kept = port.guard().map_err(inside)?;
        }
        if port.is_guarded() {
            teaches = Teaches::Guarded;
        }
    }
    Ok(Staged {
        bytes,
        bridge,
        src: Place::new(id, header.src),
        dst: Place::new(id, header.dst),
        vnet: *vnet,
        frames,
        ingress: ingress.at,
        priority: port_tag.unwrap_or(Tag(0)),
        teaches,
        kept,
    })
}

/// Which bridge a frame enters, and with which tag of its port.
#[inline(never)]
pub(super) fn classify<'w>(
    tables: &'w Tables,
    port: Option<&PortEntry>,
    header: &EtherHeader,
    frames: u32,
) -> Result<(Entrance<'w>, Option<Tag>), Refused> {
    let outside = |reason| Refused { reason, bridge: None, frames };
    let port = port.ok_or_else(|| outside(DropReason::PortRemoved))?;
    let (id, tag) = port.classify(header).map_err(outside)?;
    let inside = || Refused { reason: DropReason::PortRemoved, bridge: Some(id), frames };
    Ok((entrance(tables, port, id).ok_or_else(inside)?, tag))
}

#[inline]
pub(super) fn entrance<'w>(tables: &'w Tables, port: &PortEntry, id: BridgeId) -> Option<Entrance<'w>> {
    tables.bridge(id).map(|bridge| Entrance {
        id,
        bridge,
        learns: port.learns(),
        group_fwd_mask: port.options.group_fwd_mask,
        watched: port.is_watched(),
    })
}
