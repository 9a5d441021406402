//! The switch's state as the control API tells it.

use std::collections::BTreeMap;

use weft_vxlan::Vni;

use super::{Switch, port::OpenPort};
use crate::{
    bridge::DropReason,
    control::{
        api::{
            model::{
                BridgeState, Direction, DropCount, FdbEntry, FdbOrigin, How, KnownBy, Ledger, LedgerRow, LinkState,
                NeighEntry, Place, PortState, Totals, VtepState,
            },
            request::{bridge_options, port_options},
        },
        config::{BridgeConfig, FdbKind, FdbTarget, Membership},
    },
    fdb::{EntryView, Origin},
    ids::{BridgeId, Endpoint, VtepId},
    port::Offloads,
    underlay::mib::{UdpMib, udp_mib},
    worker::{
        Report,
        counters::{Counters, Tally},
    },
};

/// The row of ports that were removed since weft started.
const REMOVED_PORTS: &str = "(removed ports)";
/// The row of bridges that were removed since weft started.
const REMOVED_BRIDGES: &str = "(removed bridges)";
/// The row of frames that weft made itself.
const OWN_FRAMES: &str = "(own frames)";

impl Switch {
    /// All bridges.
    pub fn bridges(&self) -> Vec<BridgeState> {
        let state = |bridge: &BridgeConfig| BridgeState {
            name: bridge.name.clone(),
            vni: bridge.vni.map(Vni::get),
            encapsulation: bridge.vni.map(|_| bridge.encapsulation.word().to_owned()),
            ports: self
                .config
                .ports
                .iter()
                .filter(|p| p.membership.contains(&bridge.name))
                .map(|p| p.full_name())
                .collect(),
            remotes: bridge.remotes.clone(),
            learning: bridge.learning && !bridge.ageing.is_zero(),
            ageing_s: bridge.ageing.as_secs_f64().ceil() as u64,
            learned: self.bridge_id(&bridge.name).map_or(0, |id| self.shared.fdb.learned_count(id) as u64),
            limit: (bridge.fdb_max_learned > 0).then_some(bridge.fdb_max_learned as u64),
            options: bridge_options(bridge),
        };
        self.config.bridges.iter().map(state).collect()
    }

    /// All ports, gone ones too.
    pub fn ports(&self) -> Vec<PortState> {
        self.ports.iter().map(|(_, port)| self.port_state(port)).collect()
    }

    fn port_state(&self, port: &OpenPort) -> PortState {
        let (bridge, trunk, native) = match &port.config.membership {
            Membership::Access(bridge) => (Some(bridge.clone()), None, None),
            Membership::Trunk { vlans, native } => {
                let vlans = vlans.iter().map(|(vid, bridge)| (vid.get(), bridge.clone())).collect();
                (None, Some(vlans), native.clone())
            }
        };
        let there = !port.is_gone();
        PortState {
            name: port.config.full_name(),
            kind: port.kind.name().to_owned(),
            bridge,
            trunk,
            native,
            mtu: there.then_some(port.link.mtu),
            mac: port.link.mac.filter(|_| there),
            state: match (port.is_gone(), port.is_up()) {
                (true, _) => LinkState::Gone,
                (false, true) => LinkState::Up,
                (false, false) => LinkState::Down,
            },
            ifindex: there.then_some(port.link.index),
            offloads: names(port.offloads),
            queues: if there { self.workers.count() as u32 } else { 0 },
            options: port_options(&port.config),
        }
    }

    /// The FDB, of one bridge or of all, in the order of bridge and address.
    pub fn fdb(&self, bridge: Option<&str>) -> Vec<FdbEntry> {
        let mut entries: Vec<_> = self.shared.fdb.entries().iter().filter_map(|entry| self.fdb_entry(entry)).collect();
        entries.extend(self.permanent_entries());
        entries.retain(|entry| bridge.is_none_or(|name| entry.bridge == name));
        entries.sort_unstable_by(|a, b| (&a.bridge, a.mac).cmp(&(&b.bridge, b.mac)));
        entries
    }

    /// `None`: its bridge, port or VTEP has been removed in this moment.
    fn fdb_entry(&self, entry: &EntryView) -> Option<FdbEntry> {
        let (port, vtep) = match entry.at {
            Endpoint::Port(id) => (Some(self.ports.get(id.0)?.config.full_name()), None),
            Endpoint::Vtep(id) => (None, Some(self.shared.vteps.address(id)?.ip())),
        };
        let age = self.clock.now().since(entry.updated).as_secs();
        let (origin, age_s) = match entry.origin {
            Origin::Learned => (FdbOrigin::Learned, Some(age)),
            Origin::Static => (FdbOrigin::Static, None),
            Origin::Sticky => (FdbOrigin::Sticky, None),
            Origin::ExternLearn => (FdbOrigin::ExternLearn, None),
        };
        let bridge = self.bridges.get(entry.bridge.0)?.clone();
        Some(FdbEntry { bridge, mac: entry.mac, port, vtep, origin, age_s, locked: entry.locked })
    }

    /// The bridges' own addresses that a user named: they are in the tables, and not in the FDB.
    fn permanent_entries(&self) -> impl Iterator<Item = FdbEntry> {
        let entries = self.config.fdb.iter().filter(|entry| entry.kind == FdbKind::Permanent);
        entries.map(|entry| FdbEntry {
            bridge: entry.bridge.clone(),
            mac: entry.mac,
            port: None,
            vtep: None,
            origin: FdbOrigin::Permanent,
            age_s: None,
            locked: false,
        })
    }

    /// The neighbours, of one bridge or of all, in the order of bridge and address.
    pub fn neigh(&self, bridge: Option<&str>) -> Vec<NeighEntry> {
        let wanted = self.config.neigh.iter().filter(|neigh| bridge.is_none_or(|name| neigh.bridge == name));
        let mut entries: Vec<_> = wanted.map(NeighEntry::from).collect();
        entries.sort_unstable_by(|a, b| (&a.bridge, a.ip).cmp(&(&b.bridge, b.ip)));
        entries
    }

    /// All VTEPs that are known for some reason or that frames were exchanged with.
    pub async fn vteps(&self) -> Vec<VtepState> {
        let paths = self.path_mtus.report().await.map_or_else(Vec::new, |report| report.peers);
        let counters = self.counters();
        let learned: Vec<(VtepId, String)> = self
            .bridges
            .iter()
            .flat_map(|(id, name)| {
                let vteps = self.shared.fdb.vteps_learned(BridgeId(id));
                vteps.into_iter().map(move |vtep| (vtep, name.clone()))
            })
            .collect();
        let mut states = Vec::new();
        for (index, address) in (0..).zip(self.shared.vteps.all()) {
            let mut known_by = Vec::new();
            for bridge in self.config.bridges.iter().filter(|bridge| bridge.remotes.contains(&address)) {
                known_by.push(KnownBy { bridge: bridge.name.clone(), how: How::Flood });
            }
            for entry in self.config.fdb.iter().filter(|entry| entry.at == FdbTarget::Vtep(address)) {
                let by = KnownBy { bridge: entry.bridge.clone(), how: How::Static };
                if !known_by.contains(&by) {
                    known_by.push(by);
                }
            }
            for (_, bridge) in learned.iter().filter(|(vtep, _)| *vtep == VtepId(index)) {
                known_by.push(KnownBy { bridge: bridge.clone(), how: How::Learned });
            }
            let tally = counters.vteps.get(usize::from(index)).cloned().unwrap_or_default();
            if known_by.is_empty() && tally == Tally::default() {
                continue;
            }
            let mut encapsulations = Vec::new();
            for bridge in known_by.iter().filter_map(|known| self.config.bridge(&known.bridge)) {
                let word = bridge.encapsulation.word().to_owned();
                if !encapsulations.contains(&word) {
                    encapsulations.push(word);
                }
            }
            let path = paths.iter().find(|path| path.vtep == VtepId(index));
            states.push(VtepState {
                address: address.ip(),
                port: address.port(),
                encapsulations,
                known_by,
                rx_frames: tally.frames_in,
                rx_bytes: tally.bytes_in,
                tx_frames: tally.frames_out,
                tx_bytes: tally.bytes_out,
                path_mtu: path.map(|path| path.mtu.path_mtu()),
                path_mtu_state: path.map(|path| path.mtu.state().name().to_owned()),
            });
        }
        states
    }

    /// All drops that happened, each under its reason.
    pub fn drops(&self) -> Vec<DropCount> {
        let counters = self.counters();
        let mut drops = Vec::new();
        for (kind, name, tally) in self.tallies(&counters) {
            for (direction, counts) in [(Direction::In, &tally.drops_in), (Direction::Out, &tally.drops_out)] {
                drops.extend(above_zero(counts).map(|(reason, frames)| DropCount {
                    kind,
                    name: name.clone(),
                    direction,
                    reason: reason.name().to_owned(),
                    explanation: reason.explanation().to_owned(),
                    frames,
                }));
            }
        }
        drops
    }

    /// The account of all frames.
    pub fn ledger(&self) -> Ledger {
        let reports = self.workers.reports();
        let counters = sum(&reports);
        let mib = self.underlay.as_ref().and_then(|underlay| underlay.netns.making(udp_mib).ok()?.ok());
        let rows = self.tallies(&counters).map(|(kind, name, tally)| {
            let mut row = row(kind, name, tally);
            match kind {
                Place::Port => row.kernel_drops = self.port_kernel_drops(&row.name, &reports),
                Place::Underlay => {
                    underlay_counts(&mut row, &reports, mib.as_ref());
                    row.gbp_policies = policies(&counters);
                }
                Place::Bridge | Place::Vtep | Place::Own => {}
            }
            row
        });
        let rows = tokio::task::block_in_place(|| rows.collect());
        Ledger { totals: totals(&counters), rows }
    }

    /// The account of the whole switch alone: what [`Switch::ledger`] begins with, without asking the kernel anything.
    pub fn totals(&self) -> Totals {
        totals(&self.counters())
    }

    fn counters(&self) -> Counters {
        sum(&self.workers.reports())
    }

    /// Everything that counts, by what it is and its name.
    fn tallies<'c>(&'c self, counters: &'c Counters) -> impl Iterator<Item = (Place, String, &'c Tally)> {
        let port = |(id, port): (u16, &OpenPort)| {
            Some((Place::Port, port.config.full_name(), counters.ports.get(usize::from(id))?))
        };
        let bridge =
            |(id, name): (u16, &String)| Some((Place::Bridge, name.clone(), counters.bridges.get(usize::from(id))?));
        let vtep = |(tally, address): (&'c Tally, std::net::SocketAddr)| (Place::Vtep, address.to_string(), tally);
        let removed = [
            (Place::Port, REMOVED_PORTS.to_owned(), &counters.removed_ports),
            (Place::Bridge, REMOVED_BRIDGES.to_owned(), &counters.removed_bridges),
        ];
        let removed = removed.into_iter().filter(|(_, _, tally)| **tally != Tally::default());
        let underlay = self.underlay.as_ref().map(|_| (Place::Underlay, "underlay".to_owned(), &counters.underlay));
        let own = (Place::Own, OWN_FRAMES.to_owned(), &counters.own);
        let own = Some(own).filter(|(_, _, tally)| **tally != Tally::default());
        let ports = self.ports.iter().filter_map(port);
        let bridges = self.bridges.iter().filter_map(bridge);
        let vteps = counters.vteps.iter().zip(self.shared.vteps.all()).map(vtep);
        let vteps = vteps.filter(|(_, _, tally)| **tally != Tally::default());
        ports.chain(bridges).chain(removed).chain(vteps).chain(underlay).chain(own)
    }

    fn port_kernel_drops(&self, name: &str, reports: &[Report]) -> Option<u64> {
        let id = self.port_id(name)?;
        let by_queue = reports.iter().filter_map(|report| report.kernel_drops.get(id.index()).copied());
        let by_interface = self.ports.get(id.0)?.losses.as_ref().map(|losses| losses.count());
        Some(by_queue.sum::<u64>() + by_interface.unwrap_or(0))
    }
}

fn totals(counters: &Counters) -> Totals {
    let total = counters.total();
    Totals::new(total.frames_in, total.copies, total.frames_out, total.drops())
}

fn sum(reports: &[Report]) -> Counters {
    let mut counters = Counters::default();
    reports.iter().for_each(|report| counters.add(&report.counters));
    counters
}

fn row(kind: Place, name: String, tally: &Tally) -> LedgerRow {
    let named = |counts| above_zero(counts).map(|(reason, frames)| (reason.name().to_owned(), frames));
    LedgerRow {
        kind,
        name,
        in_frames: tally.frames_in,
        in_bytes: tally.bytes_in,
        copies: tally.copies,
        out_frames: tally.frames_out,
        out_bytes: tally.bytes_out,
        drops_in: named(&tally.drops_in).collect::<BTreeMap<_, _>>(),
        drops_out: named(&tally.drops_out).collect(),
        kernel_drops: None,
        rcvbuf_errors: None,
        checksum_errors: None,
        gso_refusals: None,
        gso_off_sockets: None,
        gbp_policies: None,
    }
}

fn underlay_counts(row: &mut LedgerRow, reports: &[Report], mib: Option<&UdpMib>) {
    row.kernel_drops = Some(reports.iter().map(|report| report.underlay_kernel_drops).sum());
    row.gso_refusals = Some(reports.iter().map(|report| report.gso.refused_runs).sum());
    row.gso_off_sockets = reports.iter().map(|report| report.gso.off_count as u64).max();
    row.rcvbuf_errors = mib.map(|mib| mib.ipv4.rcvbuf_errors + mib.ipv6.rcvbuf_errors);
    row.checksum_errors = mib.map(|mib| mib.ipv4.in_csum_errors + mib.ipv6.in_csum_errors);
}

/// Datagrams by the group policy that they named, if any did.
fn policies(counters: &Counters) -> Option<BTreeMap<u16, u64>> {
    let counts = (0..=u16::MAX).zip(&counters.policies).filter(|(_, count)| **count > 0);
    let counts: BTreeMap<_, _> = counts.map(|(policy, count)| (policy, *count)).collect();
    (!counts.is_empty()).then_some(counts)
}

fn above_zero(counts: &[u64; DropReason::COUNT]) -> impl Iterator<Item = (DropReason, u64)> {
    DropReason::ALL.iter().copied().zip(counts.iter().copied()).filter(|(_, frames)| *frames > 0)
}

fn names(offloads: Offloads) -> Vec<String> {
    let Offloads { csum, tso4, tso6, uso } = offloads;
    let all = [("csum", csum), ("tso4", tso4), ("tso6", tso6), ("uso", uso)];
    all.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_owned()).collect()
}
