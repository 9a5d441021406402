//! `weft experiment encap`: what each encapsulation adds to frames of each size, computed and measured, and what it costs.
//!
//! For each encapsulation two wefts are joined by an underlay that takes the largest frame whole. Frames of each size are put on
//! the left station's interface, and an observer says how long they are on the wire: [`Record::agrees`] if all of them are exactly
//! as long as the arithmetic says ([`Tunnel::wire_len`]), and none is more or less. Then as many as go through are sent for a
//! while ([`rate`]). [`cost`] takes the walk of a frame alone, over ports in memory.

pub mod cost;
pub mod rate;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use weft_vxlan::pmtu::Policy;

use super::{
    cell::{DfPolicy, Engine, Offload, Oversize, Tunnel, Underlay},
    csv::Table,
    error::ExperimentError,
    mtu::{write_all, write_plots},
    observe::{Observer, Spot, Tally},
    report,
    scene::{self, MIDDLE_INTERFACE, Plan, Scene, VtepPlan},
};
use crate::{
    lab::Machine,
    sys::packet_socket::{Direction, Interest},
};

/// The shortest frame: a wire carries none that is shorter, without its checksum.
pub const MIN_FRAME_LEN: u16 = 60;
/// The longest frame.
pub const MAX_FRAME_LEN: u16 = 9_000;

/// What is measured.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// Encapsulations.
    pub encapsulation: Vec<Tunnel>,
    /// IP versions of the underlay.
    pub underlay: Vec<Underlay>,
    /// Lengths of the inner frames, from the Ethernet header on and without the checksum behind.
    pub sizes: Vec<u16>,
    /// Frames of each size whose length on the wire is looked at.
    pub frames: u32,
    /// How long as many as go through are sent, in seconds.
    pub seconds: f64,
    /// How often the walk in memory is timed; the median counts.
    pub rounds: u32,
}

impl Measurement {
    /// What is measured if nothing else is asked for.
    pub fn standard() -> Self {
        Self {
            encapsulation: Tunnel::ALL.to_vec(),
            underlay: vec![Underlay::Ipv4, Underlay::Ipv6],
            sizes: vec![64, 128, 256, 512, 1024, 1280, 1514, 2048, 4096, 9000],
            frames: 200,
            seconds: 0.4,
            rounds: 15,
        }
    }

    /// A few sizes, a few seconds.
    pub fn quick() -> Self {
        let sizes = vec![64, 512, 1514, 9000];
        Self { sizes, frames: 50, seconds: 0.1, rounds: 5, ..Self::standard() }
    }

    /// Says what makes no sense.
    ///
    /// # Errors
    /// The first thing that does not, and what would be right.
    pub fn check(&self) -> Result<(), String> {
        if self.encapsulation.is_empty() || self.underlay.is_empty() || self.sizes.is_empty() {
            return Err("no encapsulation, underlay or size is asked for: name at least one of each".to_owned());
        }
        if let Some(size) = self.sizes.iter().find(|size| !(MIN_FRAME_LEN..=MAX_FRAME_LEN).contains(size)) {
            return Err(format!("--size {size}: a frame has {MIN_FRAME_LEN} to {MAX_FRAME_LEN} bytes"));
        }
        if !(0.05..=3600.0).contains(&self.seconds) {
            return Err(format!("--seconds is {}, and must be from 0.05 to 3600", self.seconds));
        }
        Ok(())
    }

    /// The paths: each is built once and measured with all sizes.
    pub fn paths(&self) -> Vec<(Tunnel, Underlay)> {
        self.underlay
            .iter()
            .flat_map(|&underlay| self.encapsulation.iter().map(move |&tunnel| (tunnel, underlay)))
            .collect()
    }
}

/// What was seen of frames of one size in one encapsulation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The encapsulation.
    pub encapsulation: Tunnel,
    /// The IP version outside.
    pub underlay: Underlay,
    /// Length of the inner frame in bytes.
    pub frame_len: u16,
    /// What the arithmetic says of its length on the wire.
    pub computed_len: u32,
    /// Frames that were sent to see it.
    pub sent: u64,
    /// Packets of the tunnel by their length on the wire, as the observer saw them.
    pub measured: BTreeMap<u32, u64>,
    /// Whether all were as long as computed, and as many as sent.
    pub agrees: bool,
    /// Frames per second that went through.
    pub frames_per_s: f64,
    /// The same in Mbit/s of inner frames.
    pub mbit_per_s: f64,
    /// Frames that were lost while as many as go through were sent.
    pub lost: u64,
    /// Nanoseconds of one frame's walk from a port in memory to a VTEP in memory, the median; null where it was not timed.
    pub ns_per_frame: Option<f64>,
}

/// All that was found.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Results {
    /// weft's version.
    pub version: String,
    /// `release`, or `debug`, whose speeds say nothing.
    pub build: String,
    /// The machine.
    pub machine: Machine,
    /// What was measured.
    pub measurement: Measurement,
    /// Path by path and size by size.
    pub records: Vec<Record>,
}

impl Results {
    /// Of a measurement made here and now.
    pub fn of(measurement: Measurement, records: Vec<Record>) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            machine: Machine::here(),
            measurement,
            records,
        }
    }

    /// Where arithmetic and wire don't agree.
    pub fn disagreements(&self) -> Vec<&Record> {
        self.records.iter().filter(|record| !record.agrees).collect()
    }

    /// Writes table, JSON and report into a folder, which is made if need be.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn write(&self, folder: &Path) -> Result<Vec<PathBuf>, ExperimentError> {
        std::fs::create_dir_all(folder)
            .map_err(ExperimentError::step(format!("make the folder {}", folder.display())))?;
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| ExperimentError::Broken(format!("results that are no JSON: {error}")))?;
        let files = [
            ("report.html", report::encap::page(self)?),
            ("encap.csv", self.table().to_text()),
            ("encap.json", json + "\n"),
        ];
        let mut written = write_all(folder, files)?;
        written.push(write_plots(folder, &report::encap::figures(self)?)?);
        Ok(written)
    }

    fn table(&self) -> Table {
        let mut table = Table::default();
        for record in &self.records {
            let lengths: Vec<_> = record.measured.iter().map(|(len, count)| format!("{len} x {count}")).collect();
            table.add(vec![
                ("encapsulation", record.encapsulation.to_string()),
                ("underlay", record.underlay.to_string()),
                ("frame_len", record.frame_len.to_string()),
                ("computed_len", record.computed_len.to_string()),
                ("sent", record.sent.to_string()),
                ("measured", lengths.join("; ")),
                ("agrees", record.agrees.to_string()),
                ("frames_per_s", record.frames_per_s.to_string()),
                ("mbit_per_s", record.mbit_per_s.to_string()),
                ("lost", record.lost.to_string()),
                ("ns_per_frame", record.ns_per_frame.map_or_else(String::new, |ns| ns.to_string())),
            ]);
        }
        table
    }
}

/// A path that stands, to be measured with one size after the other.
pub struct Joined<'m> {
    measurement: &'m Measurement,
    tunnel: Tunnel,
    underlay: Underlay,
    observer: Observer,
    scene: Scene,
}

impl<'m> Joined<'m> {
    /// Builds it.
    ///
    /// # Errors
    /// The scene can't be built.
    pub fn build(measurement: &'m Measurement, tunnel: Tunnel, underlay: Underlay) -> Result<Self, ExperimentError> {
        const ETHERNET: u16 = 14;
        let vtep = VtepPlan {
            engine: Engine::Weft,
            tunnel,
            port_mtu: Some(MAX_FRAME_LEN - ETHERNET),
            offload: Offload::On,
            df: DfPolicy::Set,
            oversize: Oversize::Fragment,
            mss_clamp: false,
            udp_checksum: true,
            path_mtu: Policy::Assume,
        };
        let mtu = u32::from(MAX_FRAME_LEN) + u32::from(tunnel.budget(underlay).overhead());
        let plan = Plan {
            underlay,
            underlay_mtu: mtu,
            middle_mtu: mtu,
            vteps: [vtep.clone(), vtep],
            cables: Vec::new(),
            workers: 1,
            is_dead: false,
        };
        let scene = Scene::build(&plan)?;
        let vteps: [IpAddr; 2] = [0, 1].map(|side| scene::host_address(underlay, side));
        let spot = Spot {
            namespace: &scene.routers[0],
            interface: MIDDLE_INTERFACE,
            direction: Direction::Out,
            interest: Interest::Everything,
        };
        let observer = Observer::start(&[spot], vteps)?;
        Ok(Self { measurement, tunnel, underlay, observer, scene })
    }

    /// Sends frames of a size, and says what was seen.
    ///
    /// # Errors
    /// A socket can't be made.
    pub fn measure(&self, frame_len: u16) -> Result<Record, ExperimentError> {
        let Self { measurement, tunnel, underlay, .. } = *self;
        let source = rate::Source::open(&self.scene, usize::from(frame_len))?;
        let before = self.tally();
        let sent = source.send(measurement.frames)?;
        let seen = self.seen_since(&before, sent);
        let computed_len = tunnel.wire_len(underlay, usize::from(frame_len)) as u32;
        let agrees = seen.missed == 0 && seen.lengths == [(computed_len, sent)].into() && seen.fragments.frames == 0;
        let passed = source.saturate(Duration::from_secs_f64(measurement.seconds))?;
        let frames_per_s = passed.received as f64 / passed.elapsed.as_secs_f64();
        Ok(Record {
            encapsulation: tunnel,
            underlay,
            frame_len,
            computed_len,
            sent,
            measured: seen.lengths,
            agrees,
            frames_per_s,
            mbit_per_s: frames_per_s * f64::from(frame_len) * 8.0 / 1e6,
            lost: passed.sent - passed.received,
            ns_per_frame: cost::nanoseconds(tunnel, usize::from(frame_len), measurement.rounds),
        })
    }

    fn tally(&self) -> Tally {
        self.observer.tallies().swap_remove(0)
    }

    /// What came by, when as many as were sent have, or none comes any more.
    fn seen_since(&self, before: &Tally, sent: u64) -> Tally {
        const PATIENCE: Duration = Duration::from_secs(2);
        let started = Instant::now();
        loop {
            let seen = self.tally().since(before);
            if seen.tunnel.frames >= sent || started.elapsed() > PATIENCE {
                // One more than sent would come right behind.
                thread::sleep(Duration::from_millis(5));
                return self.tally().since(before);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_with_what_would_be_right() {
        assert_eq!(Measurement::standard().check(), Ok(()));
        assert_eq!(Measurement::quick().check(), Ok(()));
        let with = |sizes| Measurement { sizes, ..Measurement::quick() }.check().unwrap_err();
        assert!(with(vec![]).contains("name at least one"));
        assert!(with(vec![64, 9001]).starts_with("--size 9001: a frame has 60 to 9000 bytes"));
    }

    #[test]
    fn the_standard_sizes_are_from_64_to_9000() {
        let sizes = Measurement::standard().sizes;
        assert_eq!((sizes.first(), sizes.last()), (Some(&64), Some(&9000)));
    }
}
