//! The end of the walk: a frame leaves by a port, or behind a tunnel header.

use std::{net::SocketAddr, ops::Range};

use weft_vxlan::{
    ecn::{self, Ecn},
    encapsulation::BASE_HEADER_LEN,
};

use super::{
    Slot, TunnelHeader, UsedVteps,
    counters::Counters,
    oversize::{Answers, room},
    tunnel::Rewritten,
    vteps::VtepCache,
    walk::Staged,
};
use crate::{
    bridge::{DropReason, Overlay, Tables},
    fdb::Stamp,
    ids::{BridgeId, Endpoint, PortId, VtepId},
    l3::mss,
    offload::{Coalescer, Departure, Gso, Segments, VnetHeader},
    port::{Offloads, Port, TxFrame},
    underlay::{Target, Underlay, UnderlayEnd},
    wire::{
        dissect::{Dissected, L3, dissect},
        ethernet::{ETHER_TYPE_OFFSET, HEADER_LEN as ETHER_HEADER_LEN},
        flow,
        vlan::{TAG_LEN, TPID_8021AD, TPID_8021Q, Tag, TagBytes, Tpid, VlanId},
    },
};

/// What sends frames, borrowed from a worker for one batch.
pub(super) struct Egress<'w> {
    pub(super) tables: &'w Tables,
    pub(super) counters: &'w mut Counters,
    pub(super) ports: &'w mut [Option<Slot>],
    /// Where the last frame left: most often the next one does too.
    pub(super) exit: Option<Exit>,
    /// Ports that were sent to in this batch and want a flush at its end.
    pub(super) touched: &'w mut Vec<PortId>,
    /// What is put together for ports that take super-frames; `None` for a batch of one frame.
    pub(super) coalescer: Option<Coalescer<'w>>,
    pub(super) underlay: Option<&'w mut Underlay>,
    pub(super) vteps: &'w mut VtepCache,
    pub(super) used: &'w UsedVteps,
    pub(super) flow_seed: u64,
    /// Room for one segment that is cut for a port, or in fragments.
    pub(super) scratch: &'w mut [u8],
    pub(super) now: Stamp,
    /// What is sent are probes of the path MTU: however large, and in one piece.
    pub(super) probes: bool,
    /// How many senders may still be told that their frames are too long.
    pub(super) answers: &'w mut Answers,
    /// The last frame whose sender was to be told, and how it ended: its other copies end likewise. Where it lies tells it
    /// from all others of the batch.
    pub(super) told: Option<(Range<*const u8>, DropReason)>,
}

/// How a frame leaves for a VTEP.
#[derive(Clone, Copy)]
pub(super) struct Outgoing<'t> {
    pub(super) target: Target,
    /// The tunnel header, and what follows it.
    pub(super) header: [u8; BASE_HEADER_LEN],
    pub(super) options: &'t [u8],
    /// The inner flow's.
    pub(super) hash: u32,
    /// The addresses that it gets, if not its own.
    pub(super) macs: Option<Rewritten>,
    /// TCP in it is held to segments that fit.
    pub(super) mss_clamp: bool,
}

impl Outgoing<'_> {
    /// A place of `len` bytes for a wire frame in the send queue, behind a tunnel header that is written already.
    #[inline(always)]
    pub(super) fn reserve<'u>(&self, underlay: &'u mut Underlay, len: usize) -> &'u mut [u8] {
        let header_len = usize::from(self.target.header_len);
        let datagram = underlay.reserve(&self.target, self.hash, header_len + len);
        let (front, inner) = datagram.split_at_mut(header_len);
        let (base, rest) = front.split_at_mut(BASE_HEADER_LEN);
        base.copy_from_slice(&self.header);
        // Most frames have no options, and then nothing is called for them.
        if !self.options.is_empty() {
            rest.copy_from_slice(self.options);
        }
        inner
    }
}

/// A port as frames of one bridge leave it.
#[derive(Clone, Copy)]
pub(super) struct Exit {
    port: PortId,
    bridge: BridgeId,
    mtu: u16,
    /// The tag that they carry there.
    tag: Option<(Tpid, VlanId)>,
}

impl Exit {
    /// The tag that a frame with this priority gets.
    #[inline(always)]
    fn tag(&self, priority: Tag) -> Option<TagBytes> {
        self.tag.map(|(tpid, vid)| priority.with_vid(vid).to_bytes(tpid))
    }
}

impl<'w> Egress<'w> {
    /// Sends one copy to one place, and counts it as sent or as dropped there, now or when it is flushed.
    #[inline(always)]
    pub(super) fn deliver(&mut self, staged: &Staged<'w>, to: Endpoint) {
        let result = match to {
            Endpoint::Port(port) => self.send_to_port(port, staged),
            Endpoint::Vtep(vtep) => self.send_to_vtep(vtep, staged, None),
        };
        if let Err(reason) = result {
            self.counters.dropped_out(to, staged.bridge_id(), reason, u64::from(staged.frames));
        }
    }

    /// Sends a wire frame of the switch's own to one place; its bytes need not outlive the batch.
    pub(super) fn deliver_now(&mut self, staged: &Staged<'_>, to: Endpoint) {
        let result = match to {
            Endpoint::Port(port) => self.send_to_port_now(port, staged),
            Endpoint::Vtep(vtep) => self.send_to_vtep(vtep, staged, None),
        };
        if let Err(reason) = result {
            self.counters.dropped_out(to, staged.bridge_id(), reason, u64::from(staged.frames));
        }
    }

    fn send_to_port_now(&mut self, port: PortId, staged: &Staged<'_>) -> Result<(), DropReason> {
        let exit = self.open_exit(port, staged.bridge_id())?;
        let tag = exit.tag(staged.priority);
        let slot = slot(self.ports, port).ok_or(DropReason::PortRemoved)?;
        slot.send(&TxFrame { bytes: staged.bytes, tag, vnet: VnetHeader::NONE }, 1)
    }

    /// `Err`: nothing of it was sent or counted. What the coalescer keeps is counted when it departs.
    #[inline(always)]
    fn send_to_port(&mut self, port: PortId, staged: &Staged<'w>) -> Result<(), DropReason> {
        let exit = match self.exit {
            Some(exit) if (exit.port, exit.bridge) == (port, staged.bridge_id()) => exit,
            Some(_) | None => self.open_exit(port, staged.bridge_id())?,
        };
        let tag = exit.tag(staged.priority);
        if exceeds(exit.mtu, staged.bytes) && staged.vnet.gso.is_none() {
            return Err(DropReason::EgressMtu);
        }
        let slot = slot(self.ports, port).ok_or(DropReason::PortRemoved)?;
        if staged.vnet.is_none() && !slot.takes_super_frames {
            return slot.send(&TxFrame { bytes: staged.bytes, tag, vnet: VnetHeader::NONE }, staged.frames);
        }
        self.send_offloaded(port, tag, staged)
    }

    /// Sends a frame of which something is left to do, or that may be put together with others.
    #[inline(never)]
    fn send_offloaded(&mut self, port: PortId, tag: Option<TagBytes>, staged: &Staged<'w>) -> Result<(), DropReason> {
        let mut slot = slot(self.ports, port).ok_or(DropReason::PortRemoved)?;
        let offloads = slot.queue.offloads();
        if slot.takes_super_frames
            && let Some(coalescer) = &mut self.coalescer
        {
            let departure = Departure { port, tag, bytes: staged.bytes, vnet: staged.vnet, frames: staged.frames };
            let kept = coalescer.offer(
                departure,
                |gso| takes_super_frames(offloads, gso),
                |departure| depart(self.counters, self.ports, departure),
            );
            if kept {
                return Ok(());
            }
            slot = self::slot(self.ports, port).ok_or(DropReason::PortRemoved)?;
        }
        if takes(offloads, &staged.vnet) {
            return slot.send(&TxFrame { bytes: staged.bytes, tag, vnet: staged.vnet }, staged.frames);
        }
        let segments = Segments::new(staged.bytes, &staged.vnet).map_err(|_| DropReason::BadOffload)?;
        for index in 0..segments.count() {
            let segment = &mut self.scratch[..segments.len(index)];
            segments.write(index, segment);
            if let Err(reason) = slot.send(&TxFrame { bytes: segment, tag, vnet: VnetHeader::NONE }, 1) {
                self.counters.dropped_out(Endpoint::Port(port), staged.bridge_id(), reason, 1);
            }
        }
        Ok(())
    }

    /// As [`Egress::deliver`], with other addresses.
    pub(super) fn deliver_rewritten(&mut self, staged: &Staged<'_>, to: Endpoint, macs: Rewritten) {
        let result = match to {
            Endpoint::Port(port) => self.send_rewritten(port, staged, macs),
            Endpoint::Vtep(vtep) => self.send_to_vtep(vtep, staged, Some(macs)),
        };
        if let Err(reason) = result {
            self.counters.dropped_out(to, staged.bridge_id(), reason, u64::from(staged.frames));
        }
    }

    /// To a port segment by segment, since a frame can't be changed where it is.
    fn send_rewritten(&mut self, port: PortId, staged: &Staged<'_>, macs: Rewritten) -> Result<(), DropReason> {
        let exit = self.open_exit(port, staged.bridge_id())?;
        if !self.tables.port(port).is_some_and(|entry| entry.up) {
            return Err(DropReason::PortDown);
        }
        if staged.vnet.gso.is_none() && exceeds(exit.mtu, staged.bytes) {
            return Err(DropReason::EgressMtu);
        }
        let tag = exit.tag(staged.priority);
        let segments = Segments::new(staged.bytes, &staged.vnet).map_err(|_| DropReason::BadOffload)?;
        let slot = slot(self.ports, port).ok_or(DropReason::PortRemoved)?;
        for index in 0..segments.count() {
            let segment = &mut self.scratch[..segments.len(index)];
            segments.write(index, segment);
            macs.write(segment);
            if let Err(reason) = slot.send(&TxFrame { bytes: segment, tag, vnet: VnetHeader::NONE }, 1) {
                self.counters.dropped_out(Endpoint::Port(port), staged.bridge_id(), reason, 1);
            }
        }
        Ok(())
    }

    /// Looks up what frames of `bridge` that leave at `port` have in common.
    #[inline(never)]
    fn open_exit(&mut self, port: PortId, bridge: BridgeId) -> Result<Exit, DropReason> {
        let entry = self.tables.port(port).ok_or(DropReason::PortRemoved)?;
        let tag = entry.egress_vid(bridge)?.map(|vid| (entry.options.vlan_protocol, vid));
        let exit = Exit { port, bridge, mtu: entry.mtu, tag };
        let mut slot = slot(self.ports, port).ok_or(DropReason::PortRemoved)?;
        if slot.sent_for != Some(bridge) {
            if slot.sent_for.is_none() {
                self.touched.push(port);
            } else if let Some(coalescer) = &mut self.coalescer {
                coalescer.flush_port(port, |departure| depart(self.counters, self.ports, departure));
                slot = self::slot(self.ports, port).ok_or(DropReason::PortRemoved)?;
            }
            flush_port(self.counters, port, slot);
            slot.sent_for = Some(bridge);
        }
        self.exit = Some(exit);
        Ok(exit)
    }

    /// `Err`: nothing of it was queued. What was queued is counted by the flush.
    #[inline(never)]
    fn send_to_vtep(&mut self, vtep: VtepId, staged: &Staged<'_>, macs: Option<Rewritten>) -> Result<(), DropReason> {
        let (Some(overlay), Some(vni)) = (&self.tables.overlay, staged.bridge.vni) else {
            return Err(DropReason::UnderlayAbsent);
        };
        if self.underlay.is_none() {
            return Err(DropReason::UnderlayAbsent);
        }
        let address = self.vteps.address(vtep).ok_or(DropReason::UnderlayUnreachable)?;
        let dissected = dissect(staged.bytes);
        if dissected.tag_count > 0 && !overlay.inner_vlan_passes {
            return Err(DropReason::InnerVlan);
        }
        if dissected.ends_within_ip(staged.bytes.len()) {
            return Err(DropReason::InnerIpTruncated);
        }
        let segments = Segments::new(staged.bytes, &staged.vnet).map_err(|_| DropReason::BadOffload)?;
        let header_len = staged.bridge.header_len();
        let mut target = outer(overlay, staged.bridge_id(), vtep, address, header_len, dissected.l3);
        // A probe that were fragmented would prove nothing.
        target.dont_fragment |= self.probes;
        let outgoing = Outgoing {
            target,
            header: TunnelHeader::to_send(self.tables, staged.bridge, vni, staged.ingress()).to_bytes(),
            options: staged.bridge.geneve_options.as_bytes(),
            hash: flow::hash(staged.bytes, &dissected, self.flow_seed),
            macs,
            mss_clamp: staged.bridge.mss_clamp,
        };
        if !staged.is_own() {
            self.used.mark(vtep);
        }
        let room = room(overlay, vtep, header_len);
        // The first segment is the longest. The switch's own frames may be meant to find out what fits.
        if segments.len(0) > room && !staged.is_own() {
            return self.send_oversized(staged, &outgoing, &dissected, &segments, room);
        }
        self.encapsulate(&outgoing, &dissected, &segments, room)
    }

    /// Queues each segment behind its outer header. `room` is what fits, for TCP that is to be held to it.
    #[inline(always)]
    pub(super) fn encapsulate(
        &mut self,
        outgoing: &Outgoing<'_>,
        dissected: &Dissected,
        segments: &Segments<'_>,
        room: usize,
    ) -> Result<(), DropReason> {
        let underlay = self.underlay.as_deref_mut().ok_or(DropReason::UnderlayAbsent)?;
        for index in 0..segments.count() {
            let inner = outgoing.reserve(underlay, segments.len(index));
            segments.write(index, inner);
            if let Some(macs) = outgoing.macs {
                macs.write(inner);
            }
            if outgoing.mss_clamp {
                mss::clamp(inner, dissected, room, false);
            }
        }
        Ok(())
    }

    /// Sends what was put together and what ports and underlay kept back, and counts what became of it.
    pub(super) fn flush(&mut self) {
        if let Some(coalescer) = &mut self.coalescer {
            coalescer.flush(|departure| depart(self.counters, self.ports, departure));
        }
        for port in self.touched.drain(..) {
            if let Some(slot) = slot(self.ports, port) {
                flush_port(self.counters, port, slot);
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

impl Slot {
    /// Sends a frame that is so many wire frames.
    #[inline(always)]
    fn send(&mut self, frame: &TxFrame<'_>, frames: u32) -> Result<(), DropReason> {
        self.queue.send(frame)?;
        let frames = u64::from(frames);
        self.sent.0 += frames;
        self.sent.1 += frame.bytes.len() as u64 + frame.tag.map_or(0, |_| TAG_LEN as u64 * frames);
        Ok(())
    }
}

#[inline]
fn slot(ports: &mut [Option<Slot>], port: PortId) -> Option<&mut Slot> {
    ports.get_mut(port.index())?.as_mut()
}

/// Sends what the coalescer had kept.
fn depart(
    counters: &mut Counters,
    ports: &mut [Option<Slot>],
    &Departure { port, tag, bytes, vnet, frames }: &Departure<'_>,
) {
    // Both are there: ports neither vanish within a batch, nor are they flushed before what is kept for them.
    let Some(slot) = slot(ports, port) else { return };
    let Some(bridge) = slot.sent_for else { return };
    if let Err(reason) = slot.send(&TxFrame { bytes, tag, vnet }, frames) {
        counters.dropped_out(Endpoint::Port(port), bridge, reason, u64::from(frames));
    }
}

/// What a port was given is all of one bridge between two flushes, so that it is counted once, and a loss where it belongs.
#[inline]
fn flush_port(counters: &mut Counters, port: PortId, slot: &mut Slot) {
    let Some(bridge) = slot.sent_for.take() else { return };
    let (frames, bytes) = std::mem::take(&mut slot.sent);
    counters.left(Endpoint::Port(port), bridge, frames, bytes);
    if let Some((reason, frames, bytes)) = slot.queue.flush().lost {
        counters.lost(Endpoint::Port(port), bridge, reason, frames, bytes);
    }
}

/// The outer header of a frame with this IP header inside, if it is IP, behind a tunnel header of `header_len` bytes.
#[inline]
pub(super) fn outer(
    overlay: &Overlay,
    bridge: BridgeId,
    vtep: VtepId,
    address: SocketAddr,
    header_len: usize,
    inner: Option<L3>,
) -> Target {
    let ecn = ecn::encapsulate(inner.map(|l3| Ecn::of_tos(l3.tos)), overlay.ecn);
    let dscp = overlay.tos.unwrap_or_else(|| inner.map_or(0, |l3| l3.tos));
    Target {
        bridge,
        vtep,
        address,
        tos: ecn.in_tos(dscp),
        ttl: overlay.ttl.unwrap_or_else(|| inner.map_or(Overlay::DEFAULT_TTL, |l3| l3.ttl.max(1))),
        // A tag hides the inner packet's, and nothing else of it (`vxlan_xmit_one` asks `eth_hdr(skb)->h_proto`).
        dont_fragment: overlay
            .dont_fragment
            .unwrap_or_else(|| inner.is_some_and(|l3| l3.dont_fragment && usize::from(l3.offset) == ETHER_HEADER_LEN)),
        header_len: header_len as u16,
    }
}

/// Whether a port takes the frame as it is.
#[inline]
fn takes(offloads: Offloads, vnet: &VnetHeader) -> bool {
    let csum = vnet.csum.is_none() || offloads.csum;
    csum && match vnet.gso {
        None => true,
        Some((gso, _)) => takes_super_frames(offloads, gso),
    }
}

#[inline]
fn takes_super_frames(offloads: Offloads, gso: Gso) -> bool {
    match gso {
        Gso::Tcp4 => offloads.tso4,
        Gso::Tcp6 => offloads.tso6,
        Gso::Udp => offloads.uso,
    }
}

/// Whether a frame is longer than a bridge lets out at an interface of this MTU: Ethernet header and one tag more, whether
/// the tag is there or not (`include/linux/netdevice.h`: `__is_skb_forwardable`; a tag that is payload does not count, since
/// the kernel has taken it off by then).
#[inline]
pub(super) fn exceeds(mtu: u16, frame: &[u8]) -> bool {
    let max_len = usize::from(mtu) + ETHER_HEADER_LEN + TAG_LEN;
    let begins_with_tag = || match frame[ETHER_TYPE_OFFSET..] {
        [a, b, ..] => matches!(u16::from_be_bytes([a, b]), TPID_8021Q | TPID_8021AD),
        _ => false,
    };
    frame.len() > max_len && (frame.len() > max_len + TAG_LEN || !begins_with_tag())
}

#[cfg(test)]
mod tests {
    use weft_vxlan::ecn::EcnMode;

    use super::*;
    use crate::worker::tests::scene::{A, B, BLUE, frame, udp4, udp6};

    fn outer_of(overlay: &Overlay, frame: &[u8]) -> (u8, u8, bool) {
        let target = outer(overlay, BLUE, VtepId(0), overlay.local, 16, dissect(frame).l3);
        assert_eq!((target.bridge, target.vtep, target.address), (BLUE, VtepId(0), overlay.local));
        assert_eq!(target.header_len, 16);
        (target.tos, target.ttl, target.dont_fragment)
    }

    fn local_overlay() -> Overlay {
        Overlay::new("192.0.2.1:4789".parse().unwrap())
    }

    #[test]
    fn fixed_outer_fields_hold_for_every_frame_but_the_ecn_bits_are_carried_out() {
        let fixed = Overlay { tos: Some(0xb8), ttl: Some(100), dont_fragment: Some(false), ..local_overlay() };
        assert_eq!(outer_of(&fixed, &frame(B, A, 60)), (0xb8, 100, false));
        assert_eq!(outer_of(&fixed, &udp4(B, A, 0x28, 10)), (0xb8, 100, false));
        assert_eq!(outer_of(&fixed, &udp6(B, A, 0x2a, 10)), (0xba, 100, false));
    }

    #[test]
    fn inherited_outer_fields_are_the_inner_packets() {
        let inherited = Overlay { tos: None, ttl: None, dont_fragment: None, ..local_overlay() };
        assert_eq!(outer_of(&inherited, &frame(B, A, 60)), (0, Overlay::DEFAULT_TTL, false));
        assert_eq!(outer_of(&inherited, &udp4(B, A, 0x29, 10)), (0x29, 9, true));
        assert_eq!(outer_of(&inherited, &udp6(B, A, 0x2a, 10)), (0x2a, 9, true));

        let tagged = |frame: &[u8]| [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat();
        assert_eq!(outer_of(&inherited, &tagged(&udp4(B, A, 0x29, 10))), (0x29, 9, false), "a tag hides DF");
        assert_eq!(outer_of(&inherited, &tagged(&udp6(B, A, 0x2a, 10))), (0x2a, 9, false));

        let mut dying = udp4(B, A, 0, 10);
        dying[20] = 0; // without DF
        dying[22] = 0; // TTL
        assert_eq!(outer_of(&inherited, &dying), (0, 1, false));
    }

    /// The kernel's rows 11 to 14 of vxlan_bridge_1d: inner 0, 1, 2, 3 becomes outer 0, 1, 2, 2.
    #[test]
    fn congestion_inside_is_capability_outside_unless_rfc_6040_is_asked_for() {
        let ecn = |mode| {
            let overlay = Overlay { ecn: mode, ..local_overlay() };
            [0, 1, 2, 3].map(|inner| outer_of(&overlay, &udp4(B, A, inner, 10)).0)
        };
        assert_eq!(ecn(EcnMode::Kernel), [0, 1, 2, 2]);
        assert_eq!(ecn(EcnMode::Rfc6040), [0, 1, 2, 3]);
    }

    #[test]
    fn a_port_lets_out_its_mtu_and_one_tag() {
        let longest = |mut frame: Vec<u8>| {
            (0..2000)
                .filter(|len| {
                    frame.resize(*len, 0);
                    !exceeds(1400, &frame)
                })
                .max()
        };
        assert_eq!(longest(frame(B, A, 60)), Some(1400 + 18));
        for tpid in [[0x81, 0], [0x88, 0xa8]] {
            let mut tagged = frame(B, A, 60);
            tagged[12..14].copy_from_slice(&tpid);
            assert!(!exceeds(1400, &tagged));
            tagged.resize(1422, 0);
            assert!(!exceeds(1400, &tagged));
            tagged.push(0);
            assert!(exceeds(1400, &tagged));
        }
    }
}
