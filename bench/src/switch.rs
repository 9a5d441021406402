//! A switch with one worker between ports in memory that deliver prepared frames without end.
//!
//! In the steady state nothing of it allocates or makes a system call, so what is measured is the walk. Addresses are
//! dealt like this: host `n` has the MAC address [`mac`]`(n)` and sits where [`Switch::learn`] put it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crossbeam_channel::bounded;
use weft::{
    bridge::{Bridge, Membership, Overlay, PortEntry, Tables},
    fdb::{Limit, Stamp},
    ids::{BridgeId, Endpoint, PortId, VtepId},
    offload::VnetHeader,
    port::{
        Offloads, PortQueue, RxBatch,
        memory::{MemoryCounters, MemoryPort},
    },
    underlay::{
        Target, Underlay, UnderlayBatch, UnderlayEnd,
        memory::{MemoryNet, MemoryUnderlay},
    },
    wire::MacAddr,
    worker::{Facts, Shared, TunnelHeader, Worker},
};
use weft_vxlan::{Encapsulation, HeaderFormat, Vni, header::DEFAULT_PORT};

/// The only bridge, VNI 42.
pub const BRIDGE: BridgeId = BridgeId(0);
/// Its network identifier.
pub const VNI: u32 = 42;
/// No limit to what is learned.
pub const NO_LIMIT: Limit = Limit::NONE;

/// The address of host `n`.
pub fn mac(n: u32) -> MacAddr {
    let [a, b, c, d] = n.to_be_bytes();
    MacAddr::new([2, 0, a, b, c, d])
}

/// A frame of `len` bytes from one host to another: UDP over IPv4, its checksums complete.
pub fn frame(dst: MacAddr, src: MacAddr, len: usize) -> Vec<u8> {
    // Ethernet, IPv4 and UDP take 14, 20 and 8 bytes.
    let mut bytes = crate::frames::udp4(len.saturating_sub(42));
    bytes[..6].copy_from_slice(&dst.octets());
    bytes[6..12].copy_from_slice(&src.octets());
    bytes
}

/// One worker and its ports.
pub struct Switch {
    /// The worker, to be turned.
    pub worker: Worker,
    /// What it shares.
    pub shared: Shared,
    /// The time on its clock.
    pub now: Stamp,
    tables: Tables,
    net: MemoryNet,
}

impl Default for Switch {
    fn default() -> Self {
        Self::new()
    }
}

impl Switch {
    /// A switch whose bridge has neither ports nor peers.
    pub fn new() -> Self {
        let shared = Shared::new(7);
        let bridge = Bridge { vni: Vni::new(VNI), ..Bridge::default() };
        let by_vni = Vni::new(VNI).map(|vni| (vni, BRIDGE)).into_iter().collect();
        let tables = Tables { bridges: vec![Some(bridge)], by_vni, ..Tables::default() };
        // Facts that find no room are dropped and counted; nobody reads them here.
        let worker = Worker::new(shared.clone(), Facts::new(bounded(1).0));
        Self { worker, shared, now: Stamp(0), tables, net: MemoryNet::new(1) }
    }

    /// A switch between two ports, half of the hosts behind either; those of the first send frames of `len` bytes to those of
    /// the second, each in its turn.
    pub fn between_ports(hosts: u32, len: usize) -> Self {
        let half = hosts / 2;
        let mut random = fastrand::Rng::with_seed(1);
        // No more flows than make the caches forget, so that the prepared frames themselves stay small.
        let flows = half.min(1 << 16);
        let mut pair = || frame(mac(half + random.u32(..half)), mac(random.u32(..half)), len);
        let frames = (0..flows).map(|_| pair()).collect();
        let mut switch = Self::new();
        let (from, _) = switch.add_access(frames);
        let (to, _) = switch.add_access(vec![]);
        switch.learn(0..half, Endpoint::Port(from));
        switch.learn(half..hosts, Endpoint::Port(to));
        switch
    }

    /// Adds a port that delivers `frames` in turn, without end; with none it only takes what is sent there.
    pub fn add_port(&mut self, membership: Membership, frames: Vec<Vec<u8>>) -> (PortId, MemoryCounters) {
        let id = PortId(self.tables.ports.len() as u16);
        let frames = frames.into_iter().map(|bytes| (bytes, VnetHeader::NONE)).collect();
        let (port, counters) = MemoryPort::generator(frames, Offloads::default());
        self.tables.ports.push(Some(PortEntry::new(membership)));
        self.tables.bridges[BRIDGE.index()].iter_mut().for_each(|bridge| bridge.ports.push(id));
        self.worker.add_port(id, PortQueue::Memory(port));
        self.shared.tables.store(Arc::new(self.tables.clone()));
        (id, counters)
    }

    /// One more worker of the same switch, with its own queue of every port that there is by now; that of `from` delivers
    /// `frames` in turn, the others nothing.
    pub fn another_worker(&self, from: PortId, frames: &[Vec<u8>]) -> Worker {
        let mut worker = Worker::new(self.shared.clone(), Facts::new(bounded(1).0));
        for id in (0..self.tables.ports.len() as u16).map(PortId) {
            let frames = if id == from { frames } else { &[] };
            let frames = frames.iter().map(|bytes| (bytes.clone(), VnetHeader::NONE)).collect();
            worker.add_port(id, PortQueue::Memory(MemoryPort::generator(frames, Offloads::default()).0));
        }
        worker
    }

    /// Adds an access port.
    pub fn add_access(&mut self, frames: Vec<Vec<u8>>) -> (PortId, MemoryCounters) {
        self.add_port(Membership::Access(BRIDGE), frames)
    }

    /// Joins an overlay in memory with one peer, on the flood list.
    pub fn add_peer(&mut self) -> Peer {
        self.add_peer_in(Encapsulation::Vxlan)
    }

    /// The same in another encapsulation.
    pub fn add_peer_in(&mut self, encapsulation: Encapsulation) -> Peer {
        let (format, port) = (encapsulation.format(), encapsulation.default_port());
        let [local, address] = [1, 2].map(|last| SocketAddr::new(IpAddr::from([192, 0, 2, last]), port));
        let end = |address| self.net.attach_at(address, &[(format, port)]).expect("two descriptors are left");
        self.worker.set_underlay(Some(Underlay::Memory(end(local))));
        let end = end(address);
        let vtep = self.shared.vteps.intern(address).expect("the table of VTEPs is empty");
        self.tables.overlay = Some(Overlay::new(SocketAddr::new(local.ip(), DEFAULT_PORT)));
        for bridge in self.tables.bridges.iter_mut().flatten() {
            bridge.encapsulation = encapsulation;
            bridge.flood_list.push(vtep);
            bridge.known_vteps.insert(address.ip(), vtep);
        }
        self.shared.tables.store(Arc::new(self.tables.clone()));
        Peer { vtep, end, format, local, batch: UnderlayBatch::new() }
    }

    /// Teaches the FDB hosts `range` behind `at`.
    pub fn learn(&self, range: std::ops::Range<u32>, at: Endpoint) {
        for n in range {
            self.shared.fdb.learn(BRIDGE, mac(n), at, self.now, NO_LIMIT);
        }
    }

    /// Carries one batch of a port's frames.
    ///
    /// # Panics
    /// If the port can't be read, which a port in memory always can.
    pub fn turn(&mut self, port: PortId) -> usize {
        let count = self.worker.turn_port(port, self.now).expect("a generator never fails");
        debug_assert!(count <= RxBatch::CAPACITY);
        count
    }
}

/// The other VTEP of the overlay in memory.
pub struct Peer {
    /// Its number at the switch.
    pub vtep: VtepId,
    end: MemoryUnderlay,
    format: HeaderFormat,
    local: SocketAddr,
    batch: UnderlayBatch,
}

impl Peer {
    /// Sends frames to the switch, each behind a tunnel header.
    pub fn send(&mut self, frames: &[Vec<u8>]) {
        let header = TunnelHeader::plain(self.format, Vni::new(VNI).unwrap_or(Vni::MAX)).to_bytes();
        let (bridge, vtep, header_len) = (BRIDGE, VtepId(0), header.len() as u16);
        let target = Target { bridge, vtep, address: self.local, tos: 0, ttl: 64, dont_fragment: true, header_len };
        for bytes in frames {
            let place = self.end.reserve(&target, 0, header.len() + bytes.len());
            let (front, inner) = place.split_at_mut(header.len());
            front.copy_from_slice(&header);
            inner.copy_from_slice(bytes);
        }
        self.end.flush(&mut |_| {});
    }

    /// Takes all datagrams that wait; says how many.
    ///
    /// # Panics
    /// If the memory can't be read, which never happens.
    pub fn drain(&mut self) -> usize {
        let mut count = 0;
        loop {
            match self.end.recv(self.format, &mut self.batch).expect("memory can be read") {
                0 => return count,
                some => count += some,
            }
        }
    }
}
