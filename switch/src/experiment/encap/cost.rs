//! What a frame's walk costs without a kernel: from a port in memory through a whole worker to a VTEP in memory.
//!
//! The figure has the walk, the tunnel's header and the copy into the send queue, and what memory in a kernel's place costs. So
//! it is for comparing encapsulations and sizes with each other; `cargo bench` takes the parts apart.

use std::{
    hint::black_box,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use crossbeam_channel::bounded;
use weft_vxlan::{
    HeaderFormat, Vni,
    geneve::{GeneveOption, OptionList},
    header::DEFAULT_PORT,
};

use crate::{
    bridge::{Bridge, Membership, Overlay, PortEntry, PortOptions, PortSecurity, Tables},
    experiment::{cell::Tunnel, traffic::percentile},
    fdb::{Limit, Stamp},
    ids::{BridgeId, Endpoint, PortId},
    offload::VnetHeader,
    port::{Offloads, PortQueue, RxBatch, memory::MemoryPort},
    underlay::{
        Underlay, UnderlayBatch, UnderlayEnd,
        memory::{MemoryNet, MemoryUnderlay},
    },
    wire::MacAddr,
    worker::{Facts, Shared, Worker},
};

/// Turns of the worker that are timed together.
const TURNS: usize = 100;
const BRIDGE: BridgeId = BridgeId(0);
const PORT: PortId = PortId(0);
const VNI: u32 = 42;

/// Nanoseconds for a frame of this length to a VTEP, the median of so many rounds; `None`: this switch in memory can't be
/// built for that encapsulation.
pub fn nanoseconds(tunnel: Tunnel, frame_len: usize, rounds: u32) -> Option<f64> {
    let mut walk = Walk::new(tunnel, frame_len)?;
    // Caches and the pools of memory warm up first.
    walk.round();
    let mut times: Vec<_> = (0..rounds.max(1)).map(|_| walk.round()).collect();
    times.sort_by(f64::total_cmp);
    percentile(&times, 50.0)
}

/// A worker between a port that never runs dry and a VTEP.
struct Walk {
    worker: Worker,
    peer: MemoryUnderlay,
    format: HeaderFormat,
    batch: UnderlayBatch,
}

impl Walk {
    fn new(tunnel: Tunnel, frame_len: usize) -> Option<Self> {
        let Tunnel { encapsulation, .. } = tunnel;
        let (format, udp_port) = (encapsulation.format(), encapsulation.default_port());
        let (here, there) = (MacAddr::new([2, 0, 0, 0, 0, 1]), MacAddr::new([2, 0, 0, 0, 0, 2]));
        let mut frame = [&there.octets()[..], &here.octets(), &[0x88, 0xb5]].concat();
        frame.resize(frame_len, 0x5a);
        let (port, _) = MemoryPort::generator(vec![(frame, VnetHeader::NONE)], Offloads::default());
        let shared = Shared::new(7);
        let [local, remote] = [1, 2].map(|last| SocketAddr::new(IpAddr::from([192, 0, 2, last]), udp_port));
        let net = MemoryNet::new(1);
        let attach = |address| net.attach_at(address, &[(format, udp_port)]).ok();
        let (end, peer) = (attach(local)?, attach(remote)?);
        let vtep = shared.vteps.intern(remote).ok()?;
        let geneve_options = options(tunnel)?;
        let mut bridge =
            Bridge { vni: Vni::new(VNI), ports: vec![PORT], encapsulation, geneve_options, ..Bridge::default() };
        bridge.flood_list.push(vtep);
        bridge.known_vteps.insert(remote.ip(), vtep);
        let membership = Membership::Access(BRIDGE);
        let entry = PortEntry {
            membership,
            options: PortOptions::default(),
            security: PortSecurity::default(),
            mtu: 9_000,
            up: true,
        };
        shared.tables.store(Arc::new(Tables {
            bridges: vec![Some(bridge)],
            by_vni: Vni::new(VNI).map(|vni| (vni, BRIDGE)).into_iter().collect(),
            ports: vec![Some(entry)],
            overlay: Some(Overlay::new(SocketAddr::new(local.ip(), DEFAULT_PORT))),
        }));
        shared.fdb.learn(BRIDGE, there, Endpoint::Vtep(vtep), Stamp(0), Limit::NONE);
        // Facts that find no room are dropped and counted; nobody reads them here.
        let mut worker = Worker::new(shared, Facts::new(bounded(1).0));
        worker.add_port(PORT, PortQueue::Memory(port));
        worker.set_underlay(Some(Underlay::Memory(end)));
        Some(Self { worker, peer, format, batch: UnderlayBatch::new() })
    }

    /// Nanoseconds for each frame; what has arrived is read in between, and not timed.
    fn round(&mut self) -> f64 {
        let mut nanos = 0;
        let mut frames = 0;
        for _ in 0..TURNS {
            let started = Instant::now();
            frames += self.worker.turn_port(PORT, Stamp(0)).unwrap_or(0);
            nanos += started.elapsed().as_nanos();
            while self.peer.recv(self.format, &mut self.batch).unwrap_or(0) > 0 {
                black_box(&self.batch);
            }
        }
        debug_assert_eq!(frames, TURNS * RxBatch::CAPACITY);
        nanos as f64 / frames.max(1) as f64
    }
}

fn options(tunnel: Tunnel) -> Option<OptionList> {
    let mut options = OptionList::new();
    for (kind, data) in (1..).zip(tunnel.options()) {
        options.push(GeneveOption { class: 0xff01, kind, data: &data }).ok()?;
    }
    Some(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_of_a_round_is_carried_in_every_encapsulation() {
        let with_options = "geneve+252".parse().unwrap();
        for tunnel in Tunnel::ALL.into_iter().chain([with_options]) {
            for frame_len in [64, 9000] {
                let mut walk = Walk::new(tunnel, frame_len).unwrap();
                assert!(walk.round() > 0.0);
                let total = walk.worker.report().counters.total();
                let expected = (TURNS * RxBatch::CAPACITY) as u64;
                assert_eq!((total.frames_in, total.frames_out), (expected, expected), "{tunnel}");
            }
        }
    }

    #[test]
    fn the_median_is_a_time() {
        for tunnel in Tunnel::ALL {
            assert!(nanoseconds(tunnel, 64, 3).is_some_and(|ns| ns > 0.0 && ns.is_finite()), "{tunnel}");
        }
    }
}
