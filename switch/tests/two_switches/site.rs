//! The two sites, the net between them, and the clock.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use crossbeam_channel::bounded;
use smoltcp::{time::Instant, wire::IpAddress};
use weft::{
    bridge::{Bridge, Membership, Overlay, PortEntry, Tables},
    fdb::Stamp,
    ids::{BridgeId, PortId, VtepId},
    port::{
        Offloads, PortQueue,
        fault::{FaultCounters, FaultPort, Faults},
        memory::MemoryPort,
    },
    underlay::{
        Underlay,
        memory::{Conditions, MemoryNet},
    },
    worker::{Facts, Shared, Worker, counters::Counters},
};
use weft_vxlan::{
    Encapsulation, HeaderFormat, Vni,
    geneve::{GeneveOption, OptionList},
};

use super::{
    Host, Shape,
    cable::{Cable, End},
};

pub(crate) const BLUE: BridgeId = BridgeId(0);
pub(crate) const GREEN: BridgeId = BridgeId(1);

/// One step of the clock.
const STEP: Duration = Duration::from_millis(1);
const PORT: u16 = 5201;

/// One switch. Its workers take turns; what they share, they share as if they ran at once.
pub(crate) struct Site {
    shared: Shared,
    tables: Tables,
    workers: Vec<Worker>,
    ports: Vec<PortId>,
    peer: VtepId,
}

impl Site {
    fn new(local: IpAddr, peer: IpAddr, net: &MemoryNet, encapsulation: Encapsulation, worker_count: usize) -> Self {
        let shared = Shared::new(4789);
        let peer = SocketAddr::new(peer, encapsulation.default_port());
        let local = SocketAddr::new(local, HeaderFormat::Vxlan.default_port());
        let peer_id = shared.vteps.intern(peer).unwrap();
        let mut geneve_options = OptionList::new();
        if encapsulation.has_options() {
            geneve_options.push(GeneveOption { class: 0xff01, kind: 1, data: &[0xc0, 0xff, 0xee, 0] }).unwrap();
        }
        let bridge = |vni| Bridge {
            vni: Vni::new(vni),
            encapsulation,
            geneve_options: geneve_options.clone(),
            flood_list: vec![peer_id],
            known_vteps: [(peer.ip(), peer_id)].into_iter().collect(),
            ..Bridge::default()
        };
        let overlay = Overlay::new(local);
        let vnis = [(42, BLUE), (43, GREEN)];
        let tables = Tables {
            ports: vec![],
            bridges: vec![Some(bridge(42)), Some(bridge(43))],
            by_vni: vnis.into_iter().map(|(vni, bridge)| (Vni::new(vni).unwrap(), bridge)).collect(),
            overlay: Some(overlay),
        };
        let doors = HeaderFormat::ALL.map(|format| (format, format.default_port()));
        let worker = |_| {
            // Nobody asks for the facts here; those that find no room are dropped.
            let mut worker = Worker::new(shared.clone(), Facts::new(bounded(1).0));
            worker.set_underlay(Some(Underlay::Memory(net.attach_at(local, &doors).unwrap())));
            worker
        };
        let workers = (0..worker_count).map(worker).collect();
        Self { shared, tables, workers, ports: vec![], peer: peer_id }
    }

    /// A port with a queue for each worker.
    fn add_port(&mut self, bridge: BridgeId, queues: Vec<PortQueue>) {
        let id = PortId(self.tables.ports.len() as u16);
        let membership = Membership::Access(bridge);
        self.tables.ports.push(Some(PortEntry::new(membership)));
        self.tables.bridges[bridge.index()].as_mut().unwrap().ports.push(id);
        for (worker, queue) in self.workers.iter_mut().zip(queues) {
            worker.add_port(id, queue);
        }
        self.ports.push(id);
        self.shared.tables.store(Arc::new(self.tables.clone()));
    }

    fn turn(&mut self, now: Stamp) {
        for worker in &mut self.workers {
            for port in &self.ports {
                // A port whose host is gone says so, every time.
                while worker.turn_port(*port, now).unwrap_or(0) > 0 {}
            }
            for format in HeaderFormat::ALL {
                while worker.turn_underlay(format, now).unwrap() > 0 {}
            }
        }
    }

    /// Those of all workers.
    pub(crate) fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.workers.iter().for_each(|worker| sum.add(&worker.report().counters));
        sum
    }
}

pub(crate) struct World {
    pub(crate) net: MemoryNet,
    pub(crate) sites: [Site; 2],
    pub(crate) hosts: Vec<Host>,
    /// Of each host: its site and its port there.
    places: Vec<(usize, PortId)>,
    now: Instant,
    seed: u64,
    shape: Shape,
}

impl World {
    pub(crate) fn new(shape: Shape, seed: u64, conditions: Conditions) -> Self {
        Self::in_encapsulation(shape, seed, conditions, Encapsulation::Vxlan)
    }

    /// The same in another encapsulation; Geneve with an option of 8 bytes.
    pub(crate) fn in_encapsulation(
        shape: Shape,
        seed: u64,
        conditions: Conditions,
        encapsulation: Encapsulation,
    ) -> Self {
        let net = MemoryNet::new(seed);
        net.set_conditions(conditions);
        let [left, right] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        let site = |local, peer| Site::new(local, peer, &net, encapsulation, shape.workers);
        let sites = [site(left, right), site(right, left)];
        Self { net, sites, hosts: vec![], places: vec![], now: Instant::ZERO, seed, shape }
    }

    /// A host with the addresses that end in `last`, behind a cable with these faults in both directions.
    pub(crate) fn add_host(&mut self, site: usize, bridge: BridgeId, last: u8, cable: Faults) {
        let on = self.shape.offload;
        let offloads = Offloads { csum: on, tso4: on, tso6: on, uso: on };
        // Whoever sends a frame whose checksum is not finished yet can't have it protected on a cable.
        let cable = Faults { corrupt: if on { 0.0 } else { cable.corrupt }, ..cable };
        let seed = self.seed * 100 + self.hosts.len() as u64;
        let (mut queues, mut ends) = (vec![], vec![]);
        for queue in 0..self.shape.workers as u64 {
            let (port, end) = MemoryPort::pair(1024, offloads);
            let (port, faults) = FaultPort::new(PortQueue::Memory(port), seed * 10 + queue, cable, cable);
            queues.push(PortQueue::Fault(Box::new(port)));
            ends.push(End { queue: end, faults });
        }
        self.places.push((site, PortId(self.sites[site].ports.len() as u16)));
        self.sites[site].add_port(bridge, queues);
        self.hosts.push(Host::new(last, Cable::new(ends, on), seed, self.now));
    }

    pub(crate) fn unplug(&mut self, host: usize) {
        self.hosts[host].cable.unplug();
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_millis(self.now.total_millis() as u64)
    }

    /// Lets a millisecond pass. Whatever anybody sends is carried within it.
    fn step(&mut self) {
        self.now += STEP.into();
        let now = Stamp(self.now.total_millis() as u64);
        for host in &mut self.hosts {
            host.poll(self.now);
        }
        // Once more for the first, which may have sent to the second after its turn.
        for site in [0, 1, 0] {
            self.sites[site].turn(now);
        }
    }

    /// Sends echo requests, one every 100 ms, and says how many were answered within three seconds of the last.
    pub(crate) fn ping(&mut self, host: usize, to: IpAddress, count: u16) -> usize {
        let mut answered = Vec::new();
        for seq_no in 0..count + 30 {
            if seq_no < count {
                self.hosts[host].send_echo_request(to, seq_no);
            }
            for _ in 0..100 {
                self.step();
            }
            answered.extend(self.hosts[host].echo_replies(to));
            if answered.len() == usize::from(count) {
                break;
            }
        }
        answered.sort_unstable();
        answered.dedup();
        answered.len()
    }

    /// Sends `len` bytes by TCP and compares what arrives. The connection stays open, because smoltcp 0.14 does not send a
    /// lost FIN again.
    pub(crate) fn transfer(&mut self, from: usize, to: usize, address: IpAddress, len: usize) {
        self.try_transfer(from, to, address, len, Duration::from_secs(600)).unwrap();
    }

    /// The same; `Err` says how many bytes had arrived when `patience` was at its end.
    pub(crate) fn try_transfer(
        &mut self,
        from: usize,
        to: usize,
        address: IpAddress,
        len: usize,
        patience: Duration,
    ) -> Result<(), usize> {
        let mut random = fastrand::Rng::with_seed(len as u64);
        let data: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
        let (mut sent, mut received) = (0, Vec::with_capacity(len));
        self.hosts[to].listen(PORT);
        self.hosts[from].connect((address, PORT));
        let deadline = self.now + patience.into();
        while received.len() < len {
            if self.now > deadline {
                return Err(received.len());
            }
            self.step();
            let sender = self.hosts[from].tcp();
            if sent < len && sender.can_send() {
                sent += sender.send_slice(&data[sent..]).unwrap();
            }
            let receiver = self.hosts[to].tcp();
            while receiver.can_recv() {
                receiver.recv(|bytes| (bytes.len(), received.extend_from_slice(bytes))).unwrap();
            }
        }
        assert!(received == data, "the bytes that arrived are not those that were sent");
        Ok(())
    }

    /// Holds both ledgers against themselves, against what the faulty cables did, and against what the net did.
    pub(crate) fn assert_accounts(&mut self) {
        // What is still on its way arrives first.
        for _ in 0..10 {
            self.step();
        }
        for host in &mut self.hosts {
            host.poll(self.now);
        }
        for site in &self.sites {
            let counters = site.counters();
            assert!(counters.total().balances(), "{:?}", counters.total());
            assert!(counters.bridges.iter().all(|bridge| bridge.balances()), "{:?}", counters.bridges);
        }
        for (host, (site, port)) in self.hosts.iter().zip(&self.places) {
            let tally = self.sites[*site].counters().ports[port.index()].clone();
            let (receive, send) = (host.cable.faults(FaultCounters::receive), host.cable.faults(FaultCounters::send));
            assert_eq!(
                receive.offered + receive.duplicated,
                receive.passed + receive.lost + receive.refused + receive.held
            );
            assert_eq!(send.offered + send.duplicated, send.passed + send.lost + send.refused + send.held);
            let received = host.cable.received;
            assert_eq!(received.frames, send.passed, "the host gets what the cable let through");
            if !self.shape.offload {
                assert_eq!(tally.frames_in, receive.passed, "in: what the cable let through");
                let given = send.offered - send.refused;
                assert_eq!(tally.frames_out, given, "out: what was given to the cable and not refused");
            } else if receive.lost + receive.duplicated + send.lost + send.duplicated == 0 {
                // A switch counts as on the wire; what a bad cable did to super-frames it counts as one frame each.
                let sent = host.cable.sent;
                assert_eq!(tally.frames_in + receive.held, sent.wire_frames, "in: what the host sent");
                assert_eq!(tally.frames_out, received.wire_frames + send.held, "out: what the host received");
            }
        }
        let net = self.net.counts();
        let at_peer = |site: &Site| site.counters().vteps[site.peer.index()].clone();
        let out: u64 = self.sites.iter().map(|site| at_peer(site).frames_out).sum();
        let refused: u64 = self.sites.iter().map(|site| at_peer(site).drops_out.iter().sum::<u64>()).sum();
        let entered: u64 =
            self.sites.iter().map(|site| at_peer(site).frames_in + site.counters().underlay.frames_in).sum();
        assert_eq!((net.accepted, net.refused), (out, refused), "the net took what the switches say that they sent");
        assert_eq!(net.accepted + net.duplicated, net.lost + net.arrived);
        assert_eq!((net.arrived, net.received), (entered, entered), "the switches got what the net says that arrived");
    }
}
