//! One worker, stepped by hand, with hosts behind ports in memory and peers behind an underlay in memory.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crossbeam_channel::{Receiver, bounded};
use etherparse::{IpDscp, IpEcn, PacketBuilder};
use weft_vxlan::{HeaderFormat, header::DEFAULT_PORT, vni::Vni};

use super::super::{
    Fact, Facts, ProbeNews, Shared, Snooped, SnoopedTo, Worker,
    counters::{Counters, Tally},
};
use crate::{
    bridge::{Bridge, DropReason, Membership, Overlay, PortEntry, Tables},
    fdb::Stamp,
    ids::{BridgeId, PortId, VtepId},
    offload::{Gso, PartialCsum, VnetHeader},
    port::{
        Offloads, PortQueue,
        memory::{MemoryHost, MemoryPort},
    },
    underlay::{
        Arrival, Target, Underlay, UnderlayBatch, UnderlayEnd,
        memory::{MemoryNet, MemoryUnderlay},
    },
    wire::{MacAddr, Tag, Tpid, VlanId, checksum::pseudo_v4, vlan},
};

pub(in crate::worker) const BLUE: BridgeId = BridgeId(0);
pub(in crate::worker) const GREEN: BridgeId = BridgeId(1);
pub(in crate::worker) const A: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 0xa]);
pub(in crate::worker) const B: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 0xb]);
pub(in crate::worker) const C: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 0xc]);
pub(in crate::worker) const P0: PortId = PortId(0);
pub(in crate::worker) const P1: PortId = PortId(1);
pub(in crate::worker) const P2: PortId = PortId(2);

pub(in crate::worker) const NO_OFFLOADS: Offloads = Offloads { csum: false, tso4: false, tso6: false, uso: false };
pub(in crate::worker) const ALL_OFFLOADS: Offloads = Offloads { csum: true, tso4: true, tso6: true, uso: true };

/// Frames that wait in a port's queue at most.
pub(in crate::worker) const QUEUE_LEN: usize = 64;

/// Where everybody hears each format.
const PORTS: [(HeaderFormat, u16); 3] =
    [(HeaderFormat::Vxlan, 4789), (HeaderFormat::VxlanGpe, 4790), (HeaderFormat::Geneve, 6081)];

/// Bridges BLUE (VNI 42) and GREEN (VNI 43) without members.
pub(in crate::worker) struct Scene {
    pub(in crate::worker) worker: Worker,
    /// What [`Scene::turn`] hands to the worker.
    pub(in crate::worker) tables: Tables,
    pub(in crate::worker) shared: Shared,
    pub(in crate::worker) net: MemoryNet,
    pub(in crate::worker) now: Stamp,
    hosts: Vec<Option<MemoryHost>>,
    facts: Receiver<Fact>,
    snooped: Receiver<Snooped>,
    probes: Receiver<ProbeNews>,
}

impl Scene {
    pub(in crate::worker) fn new() -> Self {
        let shared = Shared::new(7);
        let (sender, facts) = bounded(1000);
        let (snooped_sender, snooped) = bounded(4);
        let (probes_sender, probes) = bounded(100);
        let tables = Tables { bridges: vec![Some(bridge(42)), Some(bridge(43))], ..Tables::default() };
        let snooped_to = SnoopedTo { sender: snooped_sender, sent: Arc::default() };
        let facts_to = Facts::new(sender).with_snooped(snooped_to).with_probes(probes_sender);
        Self {
            worker: Worker::new(shared.clone(), facts_to),
            tables,
            shared,
            net: MemoryNet::new(1),
            now: Stamp(0),
            hosts: Vec::new(),
            facts,
            snooped,
            probes,
        }
    }

    /// Access ports 0, 1, ... of BLUE.
    pub(in crate::worker) fn access(ports: &[Offloads]) -> Self {
        let mut scene = Self::new();
        for offloads in ports {
            scene.add_port(Membership::Access(BLUE), *offloads);
        }
        scene
    }

    pub(in crate::worker) fn add_port(&mut self, membership: Membership, offloads: Offloads) -> PortId {
        let (port, host) = MemoryPort::pair(QUEUE_LEN, offloads);
        let id = self.add_queue(membership, PortQueue::Memory(port));
        self.hosts[id.index()] = Some(host);
        id
    }

    pub(in crate::worker) fn add_queue(&mut self, membership: Membership, queue: PortQueue) -> PortId {
        let id = PortId(self.tables.ports.len() as u16);
        for (index, bridge) in self.tables.bridges.iter_mut().enumerate() {
            if membership.carries(BridgeId(index as u16)) {
                bridge.as_mut().unwrap().ports.push(id);
            }
        }
        self.tables.ports.push(Some(PortEntry::new(membership)));
        self.worker.add_port(id, queue);
        self.hosts.push(None);
        id
    }

    /// Takes part in the overlay, at 192.0.2.1.
    pub(in crate::worker) fn join_overlay(&mut self) {
        let local = SocketAddr::new(IpAddr::from([192, 0, 2, 1]), DEFAULT_PORT);
        self.tables.overlay = Some(Overlay::new(local));
        for (index, bridge) in self.tables.bridges.iter().enumerate() {
            self.tables.by_vni.insert(bridge.as_ref().unwrap().vni.unwrap(), BridgeId(index as u16));
        }
        self.worker.set_underlay(Some(Underlay::Memory(self.net.attach_at(local, &PORTS).unwrap())));
    }

    /// A peer at 192.0.2.`last`, known to both bridges and on both flood lists.
    pub(in crate::worker) fn add_peer(&mut self, last: u8) -> Peer {
        let peer = self.add_stranger(last);
        for bridge in self.tables.bridges.iter_mut().flatten() {
            bridge.flood_list.push(peer.vtep);
            bridge.known_vteps.insert(peer.end.address().ip(), peer.vtep);
        }
        peer
    }

    /// A peer that has an address and nothing else.
    pub(in crate::worker) fn add_stranger(&mut self, last: u8) -> Peer {
        let address = SocketAddr::new(IpAddr::from([192, 0, 2, last]), DEFAULT_PORT);
        let vtep = self.shared.vteps.intern(address).unwrap();
        Peer { vtep, end: self.net.attach_at(address, &PORTS).unwrap(), batch: UnderlayBatch::new() }
    }

    pub(in crate::worker) fn bridge(&mut self, id: BridgeId) -> &mut Bridge {
        self.tables.bridges[id.index()].as_mut().unwrap()
    }

    pub(in crate::worker) fn port(&mut self, id: PortId) -> &mut PortEntry {
        self.tables.ports[id.index()].as_mut().unwrap()
    }

    pub(in crate::worker) fn overlay(&mut self) -> &mut Overlay {
        self.tables.overlay.as_mut().unwrap()
    }

    pub(in crate::worker) fn host(&mut self, port: PortId) -> &mut MemoryHost {
        self.hosts[port.index()].as_mut().unwrap()
    }

    /// The host of a port goes away.
    pub(in crate::worker) fn unplug(&mut self, port: PortId) {
        self.hosts[port.index()] = None;
    }

    /// Carries whatever waits anywhere, and holds the ledger against itself.
    pub(in crate::worker) fn turn(&mut self) {
        self.shared.tables.store(Arc::new(self.tables.clone()));
        for port in (0..self.hosts.len()).map(|index| PortId(index as u16)) {
            while self.hosts[port.index()].is_some() && self.worker.turn_port(port, self.now).unwrap() > 0 {}
        }
        for format in HeaderFormat::ALL {
            while self.worker.turn_underlay(format, self.now).unwrap() > 0 {}
        }
        self.assert_balanced();
    }

    pub(in crate::worker) fn assert_balanced(&self) {
        let counters = self.counters();
        assert!(counters.total().balances(), "{:?}", counters.total());
        for bridge in counters.bridges.iter().chain([&counters.removed_bridges]) {
            assert!(bridge.balances(), "{bridge:?}");
        }
    }

    /// A host sends one finished frame, and it is carried.
    pub(in crate::worker) fn send(&mut self, port: PortId, bytes: &[u8]) {
        self.send_with(port, bytes, VnetHeader::NONE);
    }

    pub(in crate::worker) fn send_with(&mut self, port: PortId, bytes: &[u8], vnet: VnetHeader) {
        self.host(port).send(bytes, vnet).unwrap();
        self.turn();
    }

    /// What a host has got since it was asked last.
    pub(in crate::worker) fn received(&mut self, port: PortId) -> Vec<Vec<u8>> {
        self.received_with(port).into_iter().map(|(bytes, _)| bytes).collect()
    }

    pub(in crate::worker) fn received_with(&mut self, port: PortId) -> Vec<(Vec<u8>, VnetHeader)> {
        let host = self.host(port);
        std::iter::from_fn(|| host.try_recv()).collect()
    }

    pub(in crate::worker) fn facts(&self) -> Vec<Fact> {
        self.facts.try_iter().collect()
    }

    pub(in crate::worker) fn snooped(&self) -> Vec<Snooped> {
        self.snooped.try_iter().collect()
    }

    pub(in crate::worker) fn probe_news(&self) -> Vec<ProbeNews> {
        self.probes.try_iter().collect()
    }

    pub(in crate::worker) fn counters(&self) -> Counters {
        self.worker.report().counters
    }

    pub(in crate::worker) fn tally(&self, port: PortId) -> Tally {
        self.counters().ports.get(port.index()).cloned().unwrap_or_default()
    }

    /// Every drop so far, whoever counted it.
    pub(in crate::worker) fn drops(&self) -> Vec<(DropReason, u64)> {
        let total = self.counters().total();
        let count = |reason: DropReason| total.drops_in[reason.index()] + total.drops_out[reason.index()];
        DropReason::ALL.iter().map(|reason| (*reason, count(*reason))).filter(|(_, count)| *count > 0).collect()
    }
}

/// Another VTEP.
pub(in crate::worker) struct Peer {
    pub(in crate::worker) vtep: VtepId,
    end: MemoryUnderlay,
    /// Kept because its two megabytes would cost more than what is read into them.
    batch: UnderlayBatch,
}

impl Peer {
    /// Sends one UDP payload to the switch, as VXLAN; it is carried at the next turn.
    pub(in crate::worker) fn send(&mut self, tos: u8, payload: &[u8]) {
        self.send_to(HeaderFormat::Vxlan, tos, payload);
    }

    /// The same to the port of another format.
    pub(in crate::worker) fn send_to(&mut self, format: HeaderFormat, tos: u8, payload: &[u8]) {
        let address = SocketAddr::new(IpAddr::from([192, 0, 2, 1]), format.default_port());
        let (bridge, vtep) = (BLUE, VtepId(0));
        let target = Target { bridge, vtep, address, tos, ttl: 64, dont_fragment: false, header_len: 0 };
        self.end.reserve(&target, 0, payload.len()).copy_from_slice(payload);
        self.end.flush(&mut |sent| assert_eq!(sent.result, Ok(())));
    }

    pub(in crate::worker) fn received(&mut self) -> Vec<(Arrival, Vec<u8>)> {
        let mut received = Vec::new();
        for format in HeaderFormat::ALL {
            while self.end.recv(format, &mut self.batch).unwrap() > 0 {
                received.extend(self.batch.iter_mut().map(|(arrival, bytes)| (arrival, bytes.to_vec())));
            }
        }
        received
    }
}

fn bridge(vni: u32) -> Bridge {
    Bridge { vni: Vni::new(vni), ..Bridge::default() }
}

pub(in crate::worker) fn trunk(vlans: &[(u16, BridgeId)], native: Option<BridgeId>) -> Membership {
    let vlans: Vec<_> = vlans.iter().map(|(vid, bridge)| (VlanId::new(*vid).unwrap(), *bridge)).collect();
    Membership::trunk(&vlans, native)
}

/// A frame that is not IP, of `len` bytes.
pub(in crate::worker) fn frame(dst: MacAddr, src: MacAddr, len: usize) -> Vec<u8> {
    let mut bytes = [&dst.octets()[..], &src.octets(), &[0x88, 0xb5]].concat();
    bytes.extend((bytes.len()..len).map(|n| n as u8));
    bytes
}

/// UDP over IPv4 with this TOS, `payload_len` bytes in it.
pub(in crate::worker) fn udp4(dst: MacAddr, src: MacAddr, tos: u8, payload_len: usize) -> Vec<u8> {
    let mut header = etherparse::Ipv4Header { time_to_live: 9, ..Default::default() };
    (header.source, header.destination) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    header.dscp = IpDscp::try_new(tos >> 2).unwrap();
    header.ecn = IpEcn::try_new(tos & 3).unwrap();
    let packet = PacketBuilder::ethernet2(src.octets(), dst.octets())
        .ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
        .udp(1000, 2000);
    written(packet, payload_len, |packet, bytes, payload| packet.write(bytes, payload).unwrap())
}

/// UDP over IPv6 with this traffic class.
pub(in crate::worker) fn udp6(dst: MacAddr, src: MacAddr, traffic_class: u8, payload_len: usize) -> Vec<u8> {
    let header = etherparse::Ipv6Header { traffic_class, hop_limit: 9, ..Default::default() };
    let packet = PacketBuilder::ethernet2(src.octets(), dst.octets())
        .ip(etherparse::IpHeaders::Ipv6(header, Default::default()))
        .udp(1000, 2000);
    written(packet, payload_len, |packet, bytes, payload| packet.write(bytes, payload).unwrap())
}

/// TCP over IPv4, finished.
pub(in crate::worker) fn tcp4(dst: MacAddr, src: MacAddr, payload_len: usize) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(src.octets(), dst.octets())
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(1000, 2000, 1, 9);
    written(packet, payload_len, |packet, bytes, payload| packet.write(bytes, payload).unwrap())
}

/// The first packet of a TCP connection, from somebody who takes segments of `mss` bytes.
pub(in crate::worker) fn syn4(dst: MacAddr, src: MacAddr, mss: u16) -> Vec<u8> {
    let [high, low] = mss.to_be_bytes();
    let packet = PacketBuilder::ethernet2(src.octets(), dst.octets())
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(1000, 2000, 1, 9)
        .syn()
        .options_raw(&[2, 4, high, low])
        .unwrap();
    written(packet, 0, |packet, bytes, payload| packet.write(bytes, payload).unwrap())
}

/// [`tcp4`] as a tap hands it over: with a checksum that is only started, to be cut every `gso_size` bytes if there is one.
pub(in crate::worker) fn unfinished_tcp4(
    dst: MacAddr,
    src: MacAddr,
    payload_len: usize,
    gso_size: Option<u16>,
) -> (Vec<u8>, VnetHeader) {
    let mut bytes = tcp4(dst, src, payload_len);
    let started = pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 6, (bytes.len() - 34) as u16).fold();
    bytes[50..52].copy_from_slice(&started.to_be_bytes());
    let csum = Some(PartialCsum { start: 34, offset: 16 });
    (bytes, VnetHeader { csum, gso: gso_size.map(|size| (Gso::Tcp4, size)), gso_ecn: false })
}

fn written<P>(packet: P, payload_len: usize, write: impl FnOnce(P, &mut Vec<u8>, &[u8])) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload_len).map(|n| n as u8).collect();
    let mut bytes = Vec::new();
    write(packet, &mut bytes, &payload);
    bytes
}

pub(in crate::worker) fn tagged(frame: &[u8], tci: u16) -> Vec<u8> {
    tagged_by(Tpid::Customer, frame, tci)
}

pub(in crate::worker) fn tagged_by(tpid: Tpid, frame: &[u8], tci: u16) -> Vec<u8> {
    let mut room = [&[0; vlan::TAG_LEN], frame].concat();
    vlan::push(&mut room, Tag(tci).to_bytes(tpid)).unwrap();
    room
}

/// A VXLAN datagram's payload.
pub(in crate::worker) fn vxlan(vni: u32, inner: &[u8]) -> Vec<u8> {
    wrapped(HeaderFormat::Vxlan, vni, inner)
}

/// A datagram's payload in any format, written by hand.
pub(in crate::worker) fn wrapped(format: HeaderFormat, vni: u32, inner: &[u8]) -> Vec<u8> {
    let front = match format {
        HeaderFormat::Vxlan => [8, 0, 0, 0],
        HeaderFormat::VxlanGpe => [0x0c, 0, 0, 3],
        HeaderFormat::Geneve => [0, 0, 0x65, 0x58],
    };
    [&front[..], &(vni << 8).to_be_bytes(), inner].concat()
}
