//! Measures one cell: builds its path, runs the loads over it one after the other, reads all counters around each.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use weft_vxlan::pmtu::Policy;

use super::{
    cable::CableSettings,
    cell::{Cell, Engine},
    error::ExperimentError,
    observe::{Observer, Spot, Tally},
    record::{Load, LoadRecord, Record},
    scene::{self, Link, MIDDLE_INTERFACE, Plan, STATION_INTERFACE, Scene, UNDERLAY_INTERFACE, VtepPlan},
    sweep::Conditions,
    traffic::{Station, request, tcp, udp},
};
use crate::{
    control::api::model::Place,
    lab::{
        Mib,
        cpu::{self, MachineTime},
    },
    sys::packet_socket::{Direction, Interest},
};

/// Headers of a UDP packet over IPv4, which a datagram that fills an MTU leaves room for.
const UDP_IPV4_HEADERS_LEN: u16 = 28;

/// Measures a cell. That it can't be measured stands in the record.
pub fn measure(cell: &Cell, conditions: &Conditions) -> Record {
    let started = Instant::now();
    let result = Scene::build(&plan(cell, conditions)).and_then(|mut scene| {
        let mut loads = Vec::new();
        let session = Session::new(&scene)?;
        for load in Load::ALL {
            loads.push(session.run(&scene, load, cell, conditions)?);
        }
        drop(session);
        scene.check()?;
        Ok(loads)
    });
    let took_s = started.elapsed().as_secs_f64();
    let (loads, failed) = match result {
        Ok(loads) => (loads, None),
        Err(error) => (Vec::new(), Some(chain(&error))),
    };
    Record { key: cell.key(), cell: cell.clone(), failed, loads, took_s }
}

/// What has to be built for a cell.
pub fn plan(cell: &Cell, conditions: &Conditions) -> Plan {
    let vtep = VtepPlan {
        engine: cell.engine,
        tunnel: cell.tunnel,
        port_mtu: Some(cell.inner_mtu),
        offload: cell.offload,
        df: cell.df,
        oversize: cell.oversize,
        mss_clamp: false,
        udp_checksum: true,
        path_mtu: Policy::Assume,
    };
    let has_faults = conditions.loss_percent > 0.0 || conditions.delay_ms > 0.0;
    let faults = CableSettings {
        loss: conditions.loss_percent / 100.0,
        delay: Duration::from_secs_f64(conditions.delay_ms / 1e3),
        seed: conditions.seed,
        ..CableSettings::default()
    };
    Plan {
        underlay: cell.underlay,
        underlay_mtu: cell.underlay_mtu,
        middle_mtu: cell.middle_mtu,
        vteps: [vtep.clone(), vtep],
        cables: has_faults.then_some((Link::Middle, faults)).into_iter().collect(),
        workers: conditions.workers,
        is_dead: false,
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Where each of an observer's tallies was taken.
const FORTH: usize = 0;
const BACK: usize = 1;
const HOSTS: [usize; 2] = [2, 3];
const STATIONS: [usize; 2] = [4, 5];

/// The observer of a scene.
struct Session {
    observer: Observer,
}

/// All counters at one moment.
struct Counters {
    tallies: Vec<Tally>,
    stations: [Mib; 2],
    drops: BTreeMap<String, u64>,
    cables: BTreeMap<String, u64>,
    switches: Duration,
    machine: MachineTime,
}

/// What a load itself can say.
#[derive(Default)]
struct Outcome {
    seconds: f64,
    payload_bytes: u64,
    mss: Option<u32>,
    sent: Option<u64>,
    refused: Option<u64>,
    received: Option<u64>,
    reordered: Option<u64>,
    p50: Option<Duration>,
    p99: Option<Duration>,
    /// The payload goes from right to left.
    is_reverse: bool,
}

impl Session {
    fn new(scene: &Scene) -> Result<Self, ExperimentError> {
        use Direction::{In, Out};
        use Interest::{Everything, Icmp};
        let spot = |namespace, interface, direction, interest| Spot { namespace, interface, direction, interest };
        let spots = [
            spot(&scene.routers[0], MIDDLE_INTERFACE, Out, Everything),
            spot(&scene.routers[0], MIDDLE_INTERFACE, In, Everything),
            spot(&scene.hosts[0], UNDERLAY_INTERFACE, In, Icmp),
            spot(&scene.hosts[1], UNDERLAY_INTERFACE, In, Icmp),
            spot(&scene.stations[0], STATION_INTERFACE, In, Icmp),
            spot(&scene.stations[1], STATION_INTERFACE, In, Icmp),
        ];
        let vteps: [IpAddr; 2] = [0, 1].map(|side| scene::host_address(scene.plan().underlay, side));
        Ok(Self { observer: Observer::start(&spots, vteps)? })
    }

    fn run(
        &self,
        scene: &Scene,
        load: Load,
        cell: &Cell,
        conditions: &Conditions,
    ) -> Result<LoadRecord, ExperimentError> {
        let before = self.counters(scene)?;
        let outcome = send(scene, load, cell, conditions)?;
        // What is still under way belongs to this load.
        thread::sleep(Duration::from_millis(20) + 2 * delay(conditions));
        let after = self.counters(scene)?;
        Ok(record(load, cell.engine, &outcome, &before, &after))
    }

    fn counters(&self, scene: &Scene) -> Result<Counters, ExperimentError> {
        Ok(Counters {
            tallies: self.observer.tallies(),
            stations: [scene.stations[0].counters()?, scene.stations[1].counters()?],
            drops: drops(scene)?,
            cables: scene.cable_counts(),
            switches: cpu::of_processes(&scene.switch_ids())?,
            machine: MachineTime::now()?,
        })
    }
}

/// Frames that the wefts have dropped so far, by host and reason.
pub fn drops(scene: &Scene) -> Result<BTreeMap<String, u64>, ExperimentError> {
    let mut drops = BTreeMap::new();
    for side in [0, 1] {
        let rows = scene.ledger(side)?.map(|ledger| ledger.rows).unwrap_or_default();
        // A bridge counts the frames of its ports and VTEPs a second time.
        for row in rows.iter().filter(|row| row.kind != Place::Bridge) {
            for (reason, count) in row.drops_in.iter().chain(&row.drops_out) {
                *drops.entry(format!("host{} {reason}", side + 1)).or_default() += count;
            }
        }
    }
    Ok(drops)
}

fn delay(conditions: &Conditions) -> Duration {
    Duration::from_secs_f64(conditions.delay_ms / 1e3)
}

/// Runs a load from left to right.
fn send(scene: &Scene, load: Load, cell: &Cell, conditions: &Conditions) -> Result<Outcome, ExperimentError> {
    let time = Duration::from_secs_f64(conditions.seconds);
    let station = |side: usize| Station {
        namespace: &scene.stations[side],
        address: SocketAddr::new(scene::station_address(side).into(), 0),
    };
    let (left, right) = (station(0), station(1));
    match load {
        Load::Tcp => {
            let bulk = tcp::bulk(left, right, time, tcp::Amount::Endless, tcp::Hears::Icmp)?;
            let (seconds, payload_bytes) = (bulk.elapsed.as_secs_f64(), bulk.bytes);
            Ok(Outcome { seconds, payload_bytes, mss: Some(bulk.mss), ..Outcome::default() })
        }
        Load::Udp => {
            let size = conditions.udp_size.unwrap_or_else(|| cell.inner_mtu.saturating_sub(UDP_IPV4_HEADERS_LEN));
            let size = usize::from(size).max(udp::MIN_SIZE);
            let stream = udp::Stream {
                size,
                bits_per_second: conditions.udp_mbit * 1e6,
                time,
                may_fragment: true,
                grace: Duration::from_millis(50) + 2 * delay(conditions),
            };
            let delivery = udp::stream(left, right, &stream)?;
            Ok(Outcome {
                seconds: delivery.elapsed.as_secs_f64(),
                payload_bytes: delivery.received * size as u64,
                sent: Some(delivery.sent + delivery.refused),
                refused: Some(delivery.refused),
                received: Some(delivery.received),
                reordered: Some(delivery.reordered),
                p50: delivery.p50,
                p99: delivery.p99,
                ..Outcome::default()
            })
        }
        Load::Request => {
            let exchange = request::exchange(left, right, conditions.answer_len as usize, time)?;
            Ok(Outcome {
                seconds: exchange.elapsed.as_secs_f64(),
                payload_bytes: exchange.answered * u64::from(conditions.answer_len),
                sent: Some(exchange.answered + exchange.unanswered),
                received: Some(exchange.answered),
                p50: exchange.p50,
                p99: exchange.p99,
                is_reverse: true,
                ..Outcome::default()
            })
        }
    }
}

fn record(load: Load, engine: Engine, outcome: &Outcome, before: &Counters, after: &Counters) -> LoadRecord {
    let seen: Vec<_> = after.tallies.iter().zip(&before.tallies).map(|(after, before)| after.since(before)).collect();
    let both = |spots: [usize; 2], count: fn(&Tally) -> u64| spots.iter().map(|&spot| count(&seen[spot])).sum::<u64>();
    let (wire, wire_back) = (seen[FORTH].tunnel, seen[BACK].tunnel);
    let (wire, wire_back) = if outcome.is_reverse { (wire_back, wire) } else { (wire, wire_back) };
    let stations = after.stations.iter().zip(&before.stations);
    let micros = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1e6);
    let seconds = outcome.seconds.max(f64::MIN_POSITIVE);
    LoadRecord {
        load,
        seconds: outcome.seconds,
        payload_bytes: outcome.payload_bytes,
        mbit_per_s: outcome.payload_bytes as f64 * 8.0 / 1e6 / seconds,
        wire,
        wire_back,
        efficiency: (wire.bytes > 0).then(|| outcome.payload_bytes as f64 / wire.bytes as f64),
        fragments: both([FORTH, BACK], |tally| tally.fragments.frames),
        icmp_underlay: both(HOSTS, |tally| tally.too_big),
        icmp_overlay: both(STATIONS, |tally| tally.too_big),
        icmp_other: both(HOSTS, |tally| tally.other_errors) + both(STATIONS, |tally| tally.other_errors),
        observer_missed: seen.iter().map(|tally| tally.missed).sum(),
        retransmissions: stations.map(|(after, before)| after.since(before, "Tcp.RetransSegs")).sum(),
        mss: outcome.mss,
        sent: outcome.sent,
        refused: outcome.refused,
        received: outcome.received,
        reordered: outcome.reordered,
        p50_us: micros(outcome.p50),
        p99_us: micros(outcome.p99),
        drops: gained(&after.drops, &before.drops),
        cables: gained(&after.cables, &before.cables),
        switch_cpu_s: (engine == Engine::Weft).then(|| after.switches.saturating_sub(before.switches).as_secs_f64()),
        machine_cpu_s: after.machine.busy_since(before.machine).as_secs_f64(),
    }
}

/// Counts that have grown, by how much.
fn gained(after: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let gain = |(name, count): (&String, &u64)| (name.clone(), count - before.get(name).unwrap_or(&0));
    after.iter().map(gain).filter(|(_, count)| *count > 0).collect()
}
