//! weft beside the kernel's bridge and vxlan devices and Open vSwitch: the same measurements on all of them, in one run on
//! one machine, since figures of different runs and machines say little about each other.
//!
//! In each round every path is built, measured and removed, one after the other, so that what the machine does meanwhile
//! meets all of them alike; each round begins with another path. A path is two stations in network namespaces with the
//! thing itself between them (`scene`). weft is run as a user runs it: the release binary, with a configuration.
//!
//! `measure` has what is measured, [`results`] what comes out, [`figures`] what has to come out, `report` how it is told.

pub mod figures;
mod machine;
mod measure;
mod options;
mod peer;
mod progress;
mod report;
pub mod results;
mod scene;

use std::{
    fs,
    io::{Write, stdout},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use weft::lab::{Lab, cpu};

use self::{
    machine::Machine,
    measure::{calls::Counter, frames, latency, tcp},
    progress::Progress,
    report::Report,
    results::{Failure, Metric, Results},
    scene::{Scene, WeftSetup},
};
pub use self::{
    measure::tcp::Streams,
    options::{Measurement, Options, Peers},
    peer::Peer,
};

/// A measurement failed, or a figure that was to be checked was missed.
const NOT_SO: u8 = 1;
/// This machine can't run it.
const USAGE: u8 = 2;

/// Does what the command line asks for. Says the rest on standard error.
///
/// # Errors
/// A file can't be written, or weft can't be built.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let lacks = machine::lacks(&options.measurements());
    if !lacks.is_empty() {
        eprintln!("side_by_side can't run here. It lacks\n  - {}", lacks.join("\n  - "));
        return Ok(ExitCode::from(USAGE));
    }
    let peers = options.peers();
    let needs_weft = peers.iter().any(|peer| peer.is_weft());
    let binary = if needs_weft { Some(machine::weft(options.weft.clone())?) } else { None };
    let machine = Machine::here(binary.as_deref());
    let setup = WeftSetup { binary: binary.unwrap_or_default(), workers: options.workers.into() };
    // What an earlier run could not remove because it was killed. If that fails it is no matter of this one.
    let _ = Lab::remove_stale(scene::PREFIX);
    let results = Session::new(options, setup).run();
    let figures = figures::figures(&results, &options.loads);
    let report = Report { options, machine, results: &results, figures };
    write!(stdout(), "{report}")?;
    if let Some(path) = &options.json {
        let text = format!("{:#}\n", report.to_json());
        fs::write(path, text).with_context(|| format!("can't write {}", path.display()))?;
    }
    if let Some(path) = &options.svg {
        fs::write(path, report.to_svg()).with_context(|| format!("can't write {}", path.display()))?;
    }
    let missed = report.figures.iter().any(|figure| figure.is_met() == Some(false));
    let failed = !results.failures.is_empty() || options.check && missed;
    Ok(if failed { ExitCode::from(NOT_SO) } else { ExitCode::SUCCESS })
}

/// A run under way.
struct Session<'a> {
    options: &'a Options,
    setup: WeftSetup,
    counter: Option<Counter>,
    progress: Progress,
    results: Results,
}

impl<'a> Session<'a> {
    fn new(options: &'a Options, setup: WeftSetup) -> Self {
        let step_count = options.peers().len() * options.round_count() * options.measurements().len();
        Self { options, setup, counter: None, progress: Progress::new(step_count), results: Results::default() }
    }

    fn run(mut self) -> Results {
        let peers = self.options.peers();
        if self.options.measurements().contains(&Measurement::Calls) {
            match Counter::probe() {
                Ok(counter) => self.counter = Some(counter),
                Err(why) => eprintln!("system calls are not counted: {why}"),
            }
        }
        for &peer in &peers {
            if let Some(why) = machine::lacks_for(peer) {
                eprintln!("skipped: {peer}: {why}");
                self.results.skipped.insert(peer, why);
            }
        }
        for round in 0..self.options.round_count() {
            for &peer in peers.iter().cycle().skip(round).take(peers.len()) {
                if self.results.skipped.contains_key(&peer) {
                    self.progress.path_done(&format!("{peer}: skipped"), self.options.measurements().len());
                } else {
                    self.measure_path(round, peer);
                }
            }
        }
        self.progress.finish();
        self.results
    }

    /// Builds a path, makes all measurements, and removes it.
    fn measure_path(&mut self, round: usize, peer: Peer) {
        let started = Instant::now();
        let label = format!("round {}/{}, {peer}", round + 1, self.options.round_count());
        let measurements = self.options.measurements();
        let mut scene = match Scene::build(peer, &self.setup) {
            Ok(scene) => scene,
            Err(error) => {
                self.failed(round, peer, &error.context("can't be built"));
                self.progress.path_done(&format!("{label}: failed"), measurements.len());
                return;
            }
        };
        for measurement in measurements {
            self.progress.step(&format!("{label}: {measurement:?}"));
            let measured = self.measure(round, peer, &mut scene, measurement).and_then(|()| scene.check());
            if let Err(error) = measured {
                self.failed(round, peer, &error.context(format!("{measurement:?}")));
            }
        }
        drop(scene);
        self.progress.path_done(&format!("{label}: {:.0} s", started.elapsed().as_secs_f64()), 0);
    }

    fn measure(&mut self, round: usize, peer: Peer, scene: &mut Scene, which: Measurement) -> anyhow::Result<()> {
        let seconds = self.options.run_seconds();
        let length = Duration::from_secs(seconds.into());
        let switch_ids = scene.switch_ids();
        let results = &mut self.results;
        let mut add = |metric, value| results.add(round, peer, metric, value);
        match which {
            Measurement::Idle if switch_ids.is_empty() => {}
            Measurement::Idle => {
                settle();
                add(Metric::Idle, 100.0 * cpu::idle(&switch_ids, Duration::from_secs(1))?);
            }
            Measurement::Latency => {
                const ROUND_TRIPS: usize = 5_000;
                settle();
                let latency = latency::round_trips(scene, ROUND_TRIPS, length)?;
                add(Metric::P50, latency.p50.as_secs_f64() * 1e6);
                add(Metric::P99, latency.p99.as_secs_f64() * 1e6);
                add(Metric::LostRoundTrips, latency.lost as f64);
            }
            Measurement::Tcp => {
                for streams in Streams::ALL {
                    let tcp = tcp::run(scene, streams, seconds)?;
                    let gigabytes = tcp.transfer.bytes / 1e9;
                    add(Metric::Tcp(streams), tcp.transfer.bits_per_second / 1e9);
                    add(Metric::Retransmits(streams), tcp.transfer.retransmits);
                    add(Metric::Cpu(streams), tcp.machine.as_secs_f64() / gigabytes);
                    if !switch_ids.is_empty() {
                        add(Metric::SwitchCpu(streams), tcp.switches.as_secs_f64() / gigabytes);
                    }
                }
            }
            Measurement::Frames => {
                for &load in &self.options.loads {
                    let frames = frames::run(scene, load, length)?;
                    let per_second = |count: u64| count as f64 / frames.elapsed.as_secs_f64();
                    add(Metric::Offered(load), per_second(frames.offered));
                    add(Metric::Received(load), per_second(frames.received));
                    add(Metric::Lost(load), 100.0 * (1.0 - frames.received as f64 / frames.offered.max(1) as f64));
                    add(Metric::Refused(load), per_second(frames.refused));
                    add(Metric::Disordered(load), frames.disordered as f64);
                    add(Metric::Overlooked(load), frames.overlooked as f64);
                }
            }
            Measurement::Calls => {
                if let Some(counter) = self.counter.as_ref().filter(|_| !switch_ids.is_empty()) {
                    let calls = counter.count(scene, seconds)?;
                    for (calls, metric) in calls.iter().zip([Metric::CallsLeft, Metric::CallsRight]) {
                        add(metric, calls.all);
                    }
                    results.calls.insert(peer, calls.into_iter().map(|calls| calls.named).collect());
                }
            }
        }
        Ok(())
    }

    fn failed(&mut self, round: usize, peer: Peer, error: &anyhow::Error) {
        self.results.failures.push(Failure { peer, round, what: format!("{error:#}") });
    }
}

/// Lets what the last measurement left behind come to its end: timers of connections, memory to be given back.
fn settle() {
    thread::sleep(Duration::from_millis(200));
}
