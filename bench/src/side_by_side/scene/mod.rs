//! Building a [`Peer`]: two stations, `left` and `right`, whatever is between them, and a word from one to the other.
//!
//! ```text
//! Local      left/eth0 --- switch --- right/eth0
//! Overlay    left/eth0 --- host1 === u0, MTU 1550 === u0 --- host2 --- right/eth0      VNI 42 over UDP port 4789
//! ```
//!
//! The stations have 10.9.0.1/24 and 10.9.0.2/24 and an MTU of 1500 everywhere; the hosts 192.0.2.1/24 and 192.0.2.2/24.
//! IPv6 is off: nothing is sent but what is measured.

mod kernel;
mod ovs;
mod weft;

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use ::weft::lab::{Lab, Namespace, Ovs, Process};
use anyhow::{Context, ensure};

use super::{
    measure::latency,
    peer::{Kind, Layout, Peer},
};

/// What the namespaces begin with.
pub(crate) const PREFIX: &str = "weft-sbs";
/// The stations' interface.
pub(crate) const INTERFACE: &str = "eth0";
/// The stations' MTU.
const MTU: u32 = 1500;
/// The underlay's: an inner packet of 1500 bytes, its Ethernet header, and 36 bytes of VXLAN, UDP and IPv4.
const UNDERLAY_MTU: u32 = 1550;
const UNDERLAY: &str = "u0";
const VNI: u32 = 42;
const PORT: u16 = 4789;

/// The address of a station, `side` being 0 or 1.
pub(crate) fn station_address(side: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, side as u8 + 1)
}

fn host_address(side: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, side as u8 + 1)
}

/// What a weft is started with.
#[derive(Clone, Debug)]
pub(crate) struct WeftSetup {
    pub(crate) binary: PathBuf,
    pub(crate) workers: usize,
}

/// A path that carries frames. It is gone when this is, on a panic and on a signal too.
pub(crate) struct Scene {
    /// Programs end before their namespaces.
    switches: Vec<Switch>,
    pub(crate) left: Namespace,
    pub(crate) right: Namespace,
    lab: Lab,
}

/// A program that carries frames.
enum Switch {
    Ovs(Ovs),
    Weft(Process),
}

impl Scene {
    /// Builds a path, and returns when a packet has gone there and back.
    pub(crate) fn build(peer: Peer, setup: &WeftSetup) -> anyhow::Result<Self> {
        let lab = Lab::new(PREFIX);
        lab.remove_on_signals()?;
        let namespace = |name: &str| lab.namespace(name)?.without_ipv6();
        let stations = [namespace("left")?, namespace("right")?];
        let mut builder = Builder { lab: &lab, setup, switches: Vec::new() };
        match peer.layout() {
            Layout::Local(kind) => {
                let host = namespace("switch")?;
                match kind {
                    Kind::Kernel => builder.kernel_bridge(&host, &stations)?,
                    Kind::Ovs { tso } => builder.ovs_taps(&host, &stations, tso)?,
                    Kind::Weft => builder.weft_taps(&host, &stations)?,
                }
            }
            Layout::Overlay(kinds) => {
                let hosts = [namespace("host1")?, namespace("host2")?];
                lab.veth((&hosts[0], UNDERLAY), (&hosts[1], UNDERLAY), UNDERLAY_MTU)?;
                for (side, kind) in kinds.into_iter().enumerate() {
                    match kind {
                        Kind::Kernel => builder.kernel_vtep(&hosts[side], &stations[side], side)?,
                        Kind::Ovs { .. } => builder.ovs_vtep(&hosts[side], &stations[side], side)?,
                        Kind::Weft => builder.weft_vtep(&hosts[side], &stations[side], side)?,
                    }
                }
            }
        }
        let switches = builder.switches;
        let [left, right] = stations;
        let mut scene = Self { switches, left, right, lab };
        scene.await_path().with_context(|| format!("{peer} carries nothing{}", scene.log()))?;
        Ok(scene)
    }

    /// The process ids of the programs that carry frames, the left one's first.
    pub(crate) fn switch_ids(&mut self) -> Vec<u32> {
        let id = |switch: &mut Switch| match switch {
            Switch::Ovs(ovs) => ovs.switch().id(),
            Switch::Weft(process) => process.id(),
        };
        self.switches.iter_mut().map(id).collect()
    }

    /// A folder for files; it goes with the scene.
    pub(crate) fn folder(&self) -> anyhow::Result<PathBuf> {
        Ok(self.lab.folder()?)
    }

    /// Fails if one of them has ended, with what it said.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let running = self.switches.iter_mut().all(|switch| match switch {
            Switch::Ovs(ovs) => ovs.switch().is_running(),
            Switch::Weft(process) => process.is_running(),
        });
        ensure!(running, "a switch ended{}", self.log());
        Ok(())
    }

    /// Waits until the stations reach each other: switches and neighbours have to learn addresses first.
    fn await_path(&mut self) -> anyhow::Result<()> {
        const PATIENCE: Duration = Duration::from_secs(20);
        let started = Instant::now();
        loop {
            self.check()?;
            match latency::reaches(self) {
                Ok(()) => break,
                Err(error) if started.elapsed() > PATIENCE => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
        for station in [&self.left, &self.right] {
            let mtu = station.link(INTERFACE)?.mtu;
            ensure!(mtu == MTU, "{} has an MTU of {mtu}", station.name());
        }
        Ok(())
    }

    /// What the programs wrote to their standard errors, as far as it fits a message.
    fn log(&mut self) -> String {
        let said = |switch: &mut Switch| match switch {
            Switch::Ovs(ovs) => ovs.switch().stderr(),
            Switch::Weft(process) => process.stderr(),
        };
        let said: Vec<_> = self.switches.iter_mut().map(said).filter(|said| !said.is_empty()).collect();
        if said.is_empty() { String::new() } else { format!(":\n{}", said.join("\n")) }
    }
}

/// A scene under construction.
struct Builder<'a> {
    lab: &'a Lab,
    setup: &'a WeftSetup,
    switches: Vec<Switch>,
}
