//! The end of the walk: a frame leaves by a port, or behind a VXLAN header.

use weft_vxlan::{
    Vni,
    ecn::{self, Ecn},
    header::{HEADER_LEN, Header},
};

use super::{counters::Counters, vteps::VtepCache, walk::Staged};
use crate::{
    bridge::{Bridge, DropReason, Overlay, Tables},
    ids::{BridgeId, Endpoint, PortId, VtepId},
    offload::{Gso, Segments, VnetHeader},
    port::{Offloads, Port, PortQueue, TxFrame},
    underlay::{MAX_DATAGRAM_LEN, Target, Underlay, UnderlayEnd},
    wire::{
        dissect::dissect,
        ethernet::{ETHER_TYPE_OFFSET, HEADER_LEN as ETHER_HEADER_LEN},
        flow,
        vlan::{TAG_LEN, TPID_8021AD, TPID_8021Q},
    },
};

/// What sends frames, borrowed from a worker for one batch.
pub(super) struct Egress<'w> {
    pub(super) tables: &'w Tables,
    pub(super) counters: &'w mut Counters,
    pub(super) ports: &'w mut [Option<PortQueue>],
    /// Ports that were sent to in this batch and want a flush at its end, and the bridge whose frames they got.
    pub(super) touched: &'w mut Vec<(PortId, BridgeId)>,
    pub(super) underlay: Option<&'w mut Underlay>,
    pub(super) vteps: &'w mut VtepCache,
    pub(super) flow_seed: u64,
    /// Room for one segment that is cut for a port.
    pub(super) scratch: &'w mut [u8],
}

impl Egress<'_> {
    /// Sends one copy to one place, and counts it as sent or as dropped there.
    pub(super) fn deliver(&mut self, bridge: &Bridge, staged: &Staged<'_>, to: Endpoint) {
        let result = match to {
            Endpoint::Port(port) => self.to_port(port, staged),
            Endpoint::Vtep(vtep) => self.to_vtep(bridge, vtep, staged),
        };
        if let Err(reason) = result {
            self.counters.dropped_out(to, staged.bridge, reason, staged.frames);
        }
    }

    /// `Err`: nothing of it was sent or counted.
    fn to_port(&mut self, port: PortId, staged: &Staged<'_>) -> Result<(), DropReason> {
        let entry = self.tables.port(port).ok_or(DropReason::PortRemoved)?;
        let tag = entry.egress_tag(staged.bridge, staged.priority)?;
        if staged.vnet.gso.is_none() && staged.bytes.len() > max_len(entry.mtu, staged.bytes) {
            return Err(DropReason::EgressMtu);
        }
        let queue = self.ports.get_mut(port.index()).and_then(Option::as_mut).ok_or(DropReason::PortRemoved)?;
        if self.touched.last() != Some(&(port, staged.bridge)) {
            self.touched.push((port, staged.bridge));
        }
        if takes(queue.offloads(), &staged.vnet) {
            queue.send(&TxFrame { bytes: staged.bytes, tag, vnet: staged.vnet })?;
            let tag_bytes = tag.map_or(0, |_| TAG_LEN as u64 * staged.frames);
            let bytes = staged.bytes.len() as u64 + tag_bytes;
            self.counters.left(Endpoint::Port(port), staged.bridge, staged.frames, bytes);
            return Ok(());
        }
        let segments = Segments::new(staged.bytes, &staged.vnet).map_err(|_| DropReason::BadOffload)?;
        for index in 0..segments.count() {
            let segment = &mut self.scratch[..segments.len(index)];
            segments.write(index, segment);
            let frame = TxFrame { bytes: segment, tag, vnet: VnetHeader::NONE };
            match queue.send(&frame) {
                Ok(()) => self.counters.left(Endpoint::Port(port), staged.bridge, 1, frame.wire_len() as u64),
                Err(reason) => self.counters.dropped_out(Endpoint::Port(port), staged.bridge, reason, 1),
            }
        }
        Ok(())
    }

    /// `Err`: nothing of it was queued. What was queued is counted by the flush.
    fn to_vtep(&mut self, bridge: &Bridge, vtep: VtepId, staged: &Staged<'_>) -> Result<(), DropReason> {
        let (Some(overlay), Some(vni)) = (&self.tables.overlay, bridge.vni) else {
            return Err(DropReason::UnderlayAbsent);
        };
        let underlay = self.underlay.as_deref_mut().ok_or(DropReason::UnderlayAbsent)?;
        let address = self.vteps.address(vtep).ok_or(DropReason::UnderlayUnreachable)?;
        let dissected = dissect(staged.bytes);
        if dissected.tag_count > 0 && !overlay.inner_vlan_passes {
            return Err(DropReason::InnerVlan);
        }
        let inner = dissected.l3;
        let outer_ecn = ecn::encapsulate(inner.map(|l3| Ecn::of_tos(l3.tos)), overlay.ecn);
        let dscp = overlay.tos.unwrap_or_else(|| inner.map_or(0, |l3| l3.tos));
        let target = Target {
            bridge: staged.bridge,
            vtep,
            address,
            tos: outer_ecn.in_tos(dscp),
            ttl: overlay.ttl.unwrap_or_else(|| inner.map_or(Overlay::DEFAULT_TTL, |l3| l3.ttl.max(1))),
            dont_fragment: overlay.dont_fragment.unwrap_or_else(|| inner.is_some_and(|l3| l3.dont_fragment)),
        };
        let segments = Segments::new(staged.bytes, &staged.vnet).map_err(|_| DropReason::BadOffload)?;
        if HEADER_LEN + segments.len(0) > MAX_DATAGRAM_LEN {
            return Err(DropReason::UnderlayMtu);
        }
        let hash = flow::hash(staged.bytes, &dissected, self.flow_seed);
        for index in 0..segments.count() {
            let datagram = underlay.reserve(&target, hash, HEADER_LEN + segments.len(index));
            encapsulate(vni, &segments, index, datagram);
        }
        Ok(())
    }

    /// Sends what ports and underlay kept back, and counts what became of it.
    pub(super) fn flush(&mut self) {
        for (port, bridge) in self.touched.drain(..) {
            let Some(queue) = self.ports.get_mut(port.index()).and_then(Option::as_mut) else { continue };
            // Of a super-frame that the kernel refused whole, some segments may have been lost after all.
            if let Some((reason, frames, bytes)) = queue.flush().lost {
                self.counters.lost(Endpoint::Port(port), bridge, reason, frames, bytes);
            }
        }
        let counters = &mut *self.counters;
        if let Some(underlay) = self.underlay.as_deref_mut() {
            underlay.flush(&mut |sent| {
                let at = Endpoint::Vtep(sent.vtep);
                match sent.result {
                    Ok(()) => counters.left(at, sent.bridge, sent.frames, sent.bytes),
                    Err(reason) => counters.dropped_out(at, sent.bridge, reason, sent.frames),
                }
            });
        }
    }
}

#[inline]
fn encapsulate(vni: Vni, segments: &Segments<'_>, index: usize, datagram: &mut [u8]) {
    let (header, inner) = datagram.split_at_mut(HEADER_LEN);
    header.copy_from_slice(&Header::new(vni).to_bytes());
    segments.write(index, inner);
}

/// Whether a port takes the frame as it is.
#[inline]
fn takes(offloads: Offloads, vnet: &VnetHeader) -> bool {
    let csum = vnet.csum.is_none() || offloads.csum;
    csum && match vnet.gso {
        None => true,
        Some((Gso::Tcp4, _)) => offloads.tso4,
        Some((Gso::Tcp6, _)) => offloads.tso6,
        Some((Gso::Udp, _)) => offloads.uso,
    }
}

/// The longest frame that a bridge lets out at an interface of this MTU: Ethernet header and one tag more, whether the
/// tag is there or not (`include/linux/netdevice.h`: `__is_skb_forwardable`; a tag that is payload does not count, since
/// the kernel has taken it off by then).
#[inline]
fn max_len(mtu: u16, frame: &[u8]) -> usize {
    let opaque_tag = match frame[ETHER_TYPE_OFFSET..] {
        [a, b, ..] if matches!(u16::from_be_bytes([a, b]), TPID_8021Q | TPID_8021AD) => TAG_LEN,
        _ => 0,
    };
    usize::from(mtu) + ETHER_HEADER_LEN + TAG_LEN + opaque_tag
}
