//! What a frame is asked on its way: pure questions, which the walk asks to act and [`super::explain`] to tell.

use std::net::IpAddr;

use weft_vxlan::{
    ecn::{self, Ecn},
    vtep::TableFull,
};

use super::{TunnelHeader, oversize::room};
use crate::{
    bridge::{Admission, Bridge, DropReason, Overlay, PortEntry, Tables, admit},
    fdb::{Standing, Terms},
    ids::{BridgeId, Endpoint, VtepId},
    l3::mss::{self, Clamped},
    offload::{self, VnetHeader},
    wire::{
        MacAddr,
        dissect::{self, dissect},
        ethernet::{EtherHeader, Malformed},
        vlan,
    },
};

/// A frame without its outermost tag.
#[inline(never)]
pub(super) fn untagged<'b>(bytes: &'b mut [u8], vnet: &VnetHeader) -> Result<(&'b [u8], VnetHeader), DropReason> {
    let (_, bytes) = vlan::pop(bytes).ok_or(DropReason::Malformed)?;
    let vnet = vnet.shifted(-(vlan::TAG_LEN as i16));
    // A checksum may begin in the tag, and now in the addresses.
    offload::wire_frames(bytes, &vnet).map_err(|_| DropReason::BadOffload)?;
    Ok((bytes, vnet))
}

/// On which terms a guarded port teaches the source of a frame, if it does, and whether it keeps the frame (`br_input.c`:
/// `br_handle_frame_finish`). `kept` is why it goes no further already. What the bridge keeps because it is for a reserved
/// group passes the lock, as in `__br_handle_local_finish`: that is what `no_linklocal_learn` is for.
pub(super) fn on_guard(
    port: &PortEntry,
    bridge: &Bridge,
    src: MacAddr,
    kept: Option<DropReason>,
    standing: impl FnOnce() -> Standing,
) -> (Option<Terms>, Option<DropReason>) {
    let learns = port.learns() && bridge.learns(src);
    let terms = Terms { max_learned: port.options.fdb_max_learned as usize, locked: false };
    if !port.options.locked || kept == Some(DropReason::ReservedGroup) {
        return (learns.then_some(terms), None);
    }
    match standing() {
        Standing::Known if !bridge.local_macs.contains(&src) => (learns.then_some(terms), None),
        Standing::Unknown | Standing::Locked if port.options.mab && learns => {
            (Some(Terms { locked: true, ..terms }), Some(DropReason::Locked))
        }
        Standing::Unknown | Standing::Elsewhere | Standing::Locked | Standing::Known => {
            (None, Some(DropReason::Locked))
        }
    }
}

/// What a frame that comes out of the tunnel is, and why it goes no further, if so.
///
/// The tunnel looks first whether the source can be learned, if it learns at all, then at the packet. The bridge behind it
/// sees the rest.
#[inline]
pub(super) fn come_out(
    tables: &Tables,
    overlay: &Overlay,
    (from, bridge): (Endpoint, &Bridge),
    header: &EtherHeader,
    outer_tos: u8,
    inner: &mut [u8],
) -> Result<(VnetHeader, u32, Option<DropReason>), DropReason> {
    let admitted = admitted(bridge, 0, header.dst, header.src);
    if bridge.tunnel.learning {
        admitted?;
    }
    match inspect(tables, overlay, (from, bridge), outer_tos, inner) {
        Ok(Inspected { vnet, frames, .. }) => Ok((vnet, frames, admitted?)),
        Err(reason) => Ok((VnetHeader::NONE, 1, Some(reason))),
    }
}

#[inline]
pub(super) fn malformed_inside(error: Malformed) -> DropReason {
    match error {
        Malformed::Runt => DropReason::InnerTruncated,
        Malformed::TruncatedTag => DropReason::Malformed,
    }
}

/// Where a datagram enters that was taken.
pub(super) struct Entry<'t> {
    pub(super) id: BridgeId,
    pub(super) bridge: &'t Bridge,
    pub(super) vtep: VtepId,
    /// Where in the datagram the inner frame begins.
    pub(super) frame_at: usize,
}

/// Where a datagram of `len` bytes with this header enters; `number` gives a VTEP that nobody named one.
pub(super) fn enter_tunnel<'t>(
    tables: &'t Tables,
    overlay: &Overlay,
    source: IpAddr,
    header: TunnelHeader,
    len: usize,
    number: impl FnOnce() -> Result<VtepId, TableFull>,
) -> Result<Entry<'t>, DropReason> {
    let vni = header.vni();
    let id = tables.bridge_of(overlay, vni).ok_or(DropReason::VniUnknown)?;
    let bridge = tables.bridge(id).ok_or(DropReason::VniUnknown)?;
    if bridge.encapsulation.format() != header.format() {
        // `unknown_vni` is for VNIs that nobody has in the encapsulation of its bridge.
        let is_its_own = bridge.vni == Some(vni);
        return Err(if is_its_own { DropReason::EncapsulationDiffers } else { DropReason::VniUnknown });
    }
    let frame_at = header.frame_at(len, bridge, overlay.refused_bits)?;
    let vtep = match bridge.known_vteps.get(&source) {
        Some(vtep) => *vtep,
        None if overlay.any_peer => number().map_err(|_| DropReason::VtepTableFull)?,
        None => return Err(DropReason::VtepUnknown),
    };
    Ok(Entry { id, bridge, vtep, frame_at })
}

/// Looks at the inner packet; tells what its sender left undone and how many wire frames it is, or why it ends. What it must
/// say otherwise from here on, ECN and TCP's segment size, it says afterwards.
#[inline]
pub(super) fn inspect(
    tables: &Tables,
    overlay: &Overlay,
    (from, bridge): (Endpoint, &Bridge),
    outer_tos: u8,
    inner: &mut [u8],
) -> Result<Inspected, DropReason> {
    let dissected = dissect(inner);
    if dissected.ip_truncated {
        return Err(DropReason::InnerIpTruncated);
    }
    if dissected.tag_count > 0 && !overlay.inner_vlan_passes {
        return Err(DropReason::InnerVlan);
    }
    if let (Some(l3), 0) = (&dissected.l3, dissected.tag_count) {
        let before = Ecn::of_tos(l3.tos);
        let after = ecn::decapsulate(before, Ecn::of_tos(outer_tos)).map_err(|_| DropReason::EcnNotCapable)?;
        if after != before {
            dissect::set_ecn(inner, l3, after.in_tos(0));
        }
    }
    let mtus = || bridge.ports.iter().filter_map(|id| tables.port(*id)).map(|port| port.mtu);
    let vnet = offload::unfinished(inner, &dissected, || mtus().min().unwrap_or(u16::MAX));
    let clamped = match from {
        // It says what its sender takes; what is sent to it must fit the way back.
        Endpoint::Vtep(vtep) if bridge.mss_clamp => {
            mss::clamp(inner, &dissected, room(overlay, vtep, bridge.header_len()), vnet.csum.is_some())
        }
        Endpoint::Vtep(_) | Endpoint::Port(_) => None,
    };
    Ok(match offload::wire_frames(inner, &vnet) {
        Ok(frames) => Inspected { vnet, frames, clamped },
        Err(_) => Inspected { vnet: VnetHeader::NONE, frames: 1, clamped },
    })
}

/// An inner packet that passes.
pub(super) struct Inspected {
    /// What its sender left undone.
    pub(super) vnet: VnetHeader,
    /// How many wire frames it is.
    pub(super) frames: u32,
    /// Its TCP was held to segments that fit.
    pub(super) clamped: Option<Clamped>,
}

/// Whether a frame may enter: `Ok(Some)` if the bridge keeps it, but learns from it.
#[inline]
pub(super) fn admitted(
    bridge: &Bridge,
    port_mask: u16,
    dst: MacAddr,
    src: MacAddr,
) -> Result<Option<DropReason>, DropReason> {
    match admit(bridge, port_mask, dst, src) {
        Admission::Enter => Ok(None),
        Admission::KeepAndLearn(reason) => Ok(Some(reason)),
        Admission::Refuse(reason) => Err(reason),
    }
}
