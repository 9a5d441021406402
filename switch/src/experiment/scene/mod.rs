//! The path that is measured: two stations, two hosts that carry their frames, and an underlay of three links.
//!
//! ```text
//!   left                                                                                        right
//!   eth0  inner MTU                                                                  inner MTU  eth0
//!    |                                                                                            |
//!  host1 u0 ------------- h0 router1 m0 ------------- m0 router2 h0 ------------- u0 host2
//!          underlay MTU                  middle MTU                  underlay MTU
//! ```
//!
//! The stations are 10.9.0.1 and 10.9.0.2 and have no IPv6, so that nothing is sent but what is measured; each knows the
//! other's hardware address from the beginning. The hosts are VTEPs of IPv4 or IPv6. The routers are the kernel's. Each of the three
//! links is a plain cable, or has a [`Cable`] of ours in it that loses, delays or meddles.
//!
//! A weft is run as users run it: the binary, with a configuration.

mod config;
mod kernel;

use std::{
    collections::BTreeMap,
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

pub use self::config::VtepPlan;
use super::{
    PREFIX,
    cable::{Cable, CableCounts, CableSettings},
    cell::{Engine, Underlay},
    error::ExperimentError,
};
use crate::{
    control::api::model::Ledger,
    lab::{Lab, Namespace, Output, Process},
    wire::MacAddr,
};

/// The stations' interface.
pub const STATION_INTERFACE: &str = "eth0";
/// The hosts' interface on the underlay.
pub const UNDERLAY_INTERFACE: &str = "u0";
/// The routers' interface on the link in the middle.
pub const MIDDLE_INTERFACE: &str = "m0";
/// The routers' interface on a host's link.
const HOST_LINK: &str = "h0";

/// The network that joins the stations.
const VNI: u32 = 42;
/// How long a weft may take to start, to stop, or to answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// One of the three links of the underlay, from left to right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// From host1 to its router.
    Left,
    /// Between the routers.
    Middle,
    /// From the other router to host2.
    Right,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Left => "left",
            Self::Middle => "middle",
            Self::Right => "right",
        })
    }
}

/// What is built.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The IP version outside.
    pub underlay: Underlay,
    /// MTU of the hosts' links.
    pub underlay_mtu: u32,
    /// MTU of the link in the middle.
    pub middle_mtu: u32,
    /// What is on host1 and on host2.
    pub vteps: [VtepPlan; 2],
    /// Links with a cable of ours in them.
    pub cables: Vec<(Link, CableSettings)>,
    /// Threads of each weft that forward.
    pub workers: u32,
    /// Nothing gets through, and that is what the scene is for.
    pub is_dead: bool,
}

/// A path that carries frames. It is gone when this is, on a panic and on a signal too.
pub struct Scene {
    /// Programs end before their namespaces.
    wefts: Vec<Weft>,
    cables: Vec<(Link, Cable)>,
    /// Left and right.
    pub stations: [Namespace; 2],
    /// The hosts beside them.
    pub hosts: [Namespace; 2],
    /// The routers beside those.
    pub routers: [Namespace; 2],
    plan: Plan,
    folder: PathBuf,
    lab: Lab,
}

struct Weft {
    /// 0 or 1: on which host.
    side: usize,
    process: Process,
    socket: PathBuf,
}

/// The address of a station, `side` being 0 for the left or 1 for the right one.
pub const fn station_address(side: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, side as u8 + 1)
}

/// The hardware address of a station.
pub const fn station_mac(side: usize) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0x42, side as u8 + 1])
}

/// The underlay address of a host.
pub const fn host_address(underlay: Underlay, side: usize) -> IpAddr {
    match (underlay, side) {
        (Underlay::Ipv4, 0) => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        (Underlay::Ipv4, _) => IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
        (Underlay::Ipv6, 0) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1)),
        (Underlay::Ipv6, _) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 1)),
    }
}

/// The router's address on a host's link.
const fn gateway(underlay: Underlay, side: usize) -> IpAddr {
    match host_address(underlay, side) {
        IpAddr::V4(host) => {
            let [a, b, c, _] = host.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, 254))
        }
        IpAddr::V6(host) => {
            let [a, b, c, ..] = host.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0xfe))
        }
    }
}

/// A router's address on the link in the middle.
const fn middle(underlay: Underlay, side: usize) -> IpAddr {
    match underlay {
        Underlay::Ipv4 => IpAddr::V4(Ipv4Addr::new(198, 51, 100, side as u8 + 1)),
        Underlay::Ipv6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, side as u16 + 1)),
    }
}

const fn prefix_len(underlay: Underlay) -> u8 {
    match underlay {
        Underlay::Ipv4 => 24,
        Underlay::Ipv6 => 64,
    }
}

impl Scene {
    /// Builds it all, and returns when a small packet has gone there and back. From here on a signal removes everything.
    ///
    /// # Errors
    /// The lab can't be built, weft refuses its configuration, or nothing gets through.
    pub fn build(plan: &Plan) -> Result<Self, ExperimentError> {
        let lab = Lab::new(PREFIX);
        lab.remove_on_signals()?;
        let quiet = |name: &str| lab.namespace(name)?.without_ipv6();
        let of_underlay = |name: &str| match plan.underlay {
            Underlay::Ipv4 => quiet(name),
            Underlay::Ipv6 => lab.namespace(name),
        };
        let folder = lab.folder()?;
        let stations = [quiet("left")?, quiet("right")?];
        let hosts = [of_underlay("host1")?, of_underlay("host2")?];
        let routers = [of_underlay("router1")?, of_underlay("router2")?];
        let cables = Vec::new();
        let mut scene = Self { wefts: Vec::new(), cables, stations, hosts, routers, plan: plan.clone(), folder, lab };
        scene.lay_underlay()?;
        for side in [0, 1] {
            if plan.vteps[side].engine == Engine::Kernel {
                scene.build_kernel_vtep(side)?;
            }
        }
        scene.start_wefts()?;
        if !plan.is_dead {
            scene.await_path()?;
        }
        Ok(scene)
    }

    /// What it was built by.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The beginning of its namespaces' names.
    pub fn name(&self) -> &str {
        self.lab.name()
    }

    /// The process ids of the wefts, the left one's first.
    pub fn switch_ids(&self) -> Vec<u32> {
        self.wefts.iter().map(|weft| weft.process.id()).collect()
    }

    /// What cables of ours did so far, by link: `middle lost`. What never happened is not listed.
    pub fn cable_counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (link, cable) in &self.cables {
            let CableCounts { passed: _, lost, overflowed, filtered, spoiled } = cable.counts();
            let named = [("lost", lost), ("overflowed", overflowed), ("filtered", filtered), ("spoiled", spoiled)];
            for (name, count) in named.into_iter().filter(|(_, count)| *count > 0) {
                counts.insert(format!("{link} {name}"), count);
            }
        }
        counts
    }

    /// Runs a command of weft against the switch of a host: `show ledger --json`. `None`: there is no weft.
    ///
    /// # Errors
    /// It can't be run. How it ends is no error.
    pub fn weft(&self, side: usize, arguments: &[&str]) -> Result<Option<Output>, ExperimentError> {
        let Some(weft) = self.wefts.iter().find(|weft| weft.side == side) else { return Ok(None) };
        let command = self.hosts[side].command(program()?).args(arguments).arg("--socket").arg(&weft.socket);
        Ok(Some(command.timeout(PATIENCE).output()?))
    }

    /// The ledger of a host's weft, if there is one.
    ///
    /// # Errors
    /// The weft does not answer.
    pub fn ledger(&self, side: usize) -> Result<Option<Ledger>, ExperimentError> {
        let Some(output) = self.weft(side, &["show", "ledger", "--json"])? else { return Ok(None) };
        let output = output.ok()?;
        let parsed = serde_json::from_str(&output.stdout);
        parsed.map(Some).map_err(|error| ExperimentError::Broken(format!("the ledger of host{}: {error}", side + 1)))
    }

    /// Fails if a weft has ended, with what it said.
    ///
    /// # Errors
    /// It has.
    pub fn check(&mut self) -> Result<(), ExperimentError> {
        let running = self.wefts.iter_mut().all(|weft| weft.process.is_running());
        if running { Ok(()) } else { Err(ExperimentError::Broken(format!("a weft ended{}", self.log()))) }
    }

    /// Removes everything; returns what is still there nevertheless.
    ///
    /// # Errors
    /// Something can't be removed.
    pub fn remove(self) -> Result<Vec<String>, ExperimentError> {
        let Self { wefts, cables, stations, hosts, routers, plan: _, folder, lab } = self;
        let processes: Vec<_> =
            wefts.iter().map(|weft| PathBuf::from(format!("/proc/{}", weft.process.id()))).collect();
        let namespaces = stations.iter().chain(&hosts).chain(&routers).map(Namespace::path);
        let mut traces: Vec<_> = namespaces.chain(processes).chain([folder]).collect();
        drop((wefts, cables));
        lab.remove()?;
        // After a signal this is where the process stays until it ends.
        drop(lab);
        traces.retain(|trace| trace.exists());
        Ok(traces.iter().map(|trace| trace.display().to_string()).collect())
    }

    fn lay_underlay(&mut self) -> Result<(), ExperimentError> {
        let Plan { underlay, underlay_mtu, middle_mtu, .. } = self.plan;
        let address = |namespace: &Namespace, interface: &str, address: IpAddr| {
            namespace.address(interface, &format!("{address}/{}", prefix_len(underlay)))
        };
        let [host1, host2] = self.hosts.clone();
        let [router1, router2] = self.routers.clone();
        self.lay(Link::Left, (&host1, UNDERLAY_INTERFACE), (&router1, HOST_LINK), underlay_mtu)?;
        self.lay(Link::Middle, (&router1, MIDDLE_INTERFACE), (&router2, MIDDLE_INTERFACE), middle_mtu)?;
        self.lay(Link::Right, (&router2, HOST_LINK), (&host2, UNDERLAY_INTERFACE), underlay_mtu)?;
        for side in [0, 1] {
            let (host, router) = (&self.hosts[side], &self.routers[side]);
            router.sysctl("net.ipv4.ip_forward", "1")?;
            if underlay == Underlay::Ipv6 {
                router.sysctl("net.ipv6.conf.all.forwarding", "1")?;
            }
            address(host, UNDERLAY_INTERFACE, host_address(underlay, side))?;
            address(router, HOST_LINK, gateway(underlay, side))?;
            address(router, MIDDLE_INTERFACE, middle(underlay, side))?;
            host.route("default", gateway(underlay, side))?;
            router.route("default", middle(underlay, 1 - side))?;
        }
        Ok(())
    }

    /// Lays one link: a plain cable, or two with one of ours between them.
    fn lay(
        &mut self,
        link: Link,
        one: (&Namespace, &str),
        other: (&Namespace, &str),
        mtu: u32,
    ) -> Result<(), ExperimentError> {
        let Some((_, settings)) = self.plan.cables.iter().find(|(at, _)| *at == link) else {
            return Ok(self.lab.veth(one, other, mtu)?);
        };
        let place = self.lab.namespace(&format!("cable-{link}"))?.without_ipv6()?;
        for (end, name) in [(one, "a"), (other, "b")] {
            self.lab.veth(end, (&place, name), mtu)?;
            // What a cable does, it does to wire frames.
            end.0.gso_max_segments(end.1, 1)?;
        }
        self.cables.push((link, Cable::start(&place, ["a", "b"], settings)?));
        Ok(())
    }

    fn start_wefts(&mut self) -> Result<(), ExperimentError> {
        for side in [0, 1] {
            if self.plan.vteps[side].engine == Engine::Weft {
                let weft = self.start_weft(side)?;
                self.wefts.push(weft);
            }
        }
        for weft in &mut self.wefts {
            weft.process.wait_for("weft runs", PATIENCE)?;
        }
        for side in [0, 1] {
            self.stations[side].neighbour(
                STATION_INTERFACE,
                station_address(1 - side).into(),
                station_mac(1 - side),
            )?;
        }
        Ok(())
    }

    fn start_weft(&self, side: usize) -> Result<Weft, ExperimentError> {
        let config = self.folder.join(format!("host{}.toml", side + 1));
        let socket = self.folder.join(format!("host{}.sock", side + 1));
        let text = config::text(&self.plan, side, self.stations[side].full_name());
        fs::write(&config, text).map_err(ExperimentError::step(format!("write {}", config.display())))?;
        let command = self.hosts[side].command(program()?).arg("run").arg(&config).arg("--socket").arg(&socket);
        // Whatever the user's log level is: its start must be heard.
        Ok(Weft { side, process: command.env("RUST_LOG", "info").spawn()?, socket })
    }

    /// The configuration of a host's weft, as it stands in its file.
    pub fn config(&self, side: usize) -> String {
        config::text(&self.plan, side, self.stations[side].full_name())
    }

    /// Waits until the stations reach each other with small packets.
    fn await_path(&mut self) -> Result<(), ExperimentError> {
        let started = Instant::now();
        while !self.reaches()? {
            self.check()?;
            if started.elapsed() > PATIENCE {
                return Err(ExperimentError::Broken(format!("no packet gets through{}", self.log())));
            }
        }
        Ok(())
    }

    /// Whether a datagram of a few bytes gets from left to right and back.
    fn reaches(&self) -> Result<bool, ExperimentError> {
        const LIMIT: Duration = Duration::from_millis(200);
        let bind = |side: usize| {
            let opened = self.stations[side].within(|| UdpSocket::bind((station_address(side), 0)))?;
            let limited = opened.and_then(|socket| socket.set_read_timeout(Some(LIMIT)).map(|()| socket));
            limited.map_err(ExperimentError::step(format!("open a socket in {}", self.stations[side].name())))
        };
        let (left, right) = (bind(0)?, bind(1)?);
        let there_and_back = || -> std::io::Result<()> {
            let mut buffer = [0; 16];
            left.send_to(b"question", right.local_addr()?)?;
            let (len, from) = right.recv_from(&mut buffer)?;
            right.send_to(&buffer[..len], from)?;
            left.recv_from(&mut buffer).map(drop)
        };
        // With delays on the way the answer may be late: a little patience costs nothing.
        let reached = there_and_back().is_ok();
        if !reached {
            thread::sleep(Duration::from_millis(10));
        }
        Ok(reached)
    }

    /// What the wefts wrote to their standard errors, as far as it fits a message.
    fn log(&self) -> String {
        let said: Vec<_> =
            self.wefts.iter().map(|weft| weft.process.stderr()).filter(|said| !said.is_empty()).collect();
        if said.is_empty() { String::new() } else { format!(":\n{}", said.join("\n")) }
    }
}

/// The weft that this is.
fn program() -> Result<PathBuf, ExperimentError> {
    std::env::current_exe().map_err(ExperimentError::step("find weft's own binary"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_has_a_network_of_its_own() {
        for underlay in [Underlay::Ipv4, Underlay::Ipv6] {
            let len = prefix_len(underlay);
            let network = |address: IpAddr| match address {
                IpAddr::V4(address) => u128::from(u32::from(address) >> (32 - len)),
                IpAddr::V6(address) => u128::from(address) >> (128 - len),
            };
            for side in [0, 1] {
                assert_eq!(network(host_address(underlay, side)), network(gateway(underlay, side)));
                assert_ne!(host_address(underlay, side), gateway(underlay, side));
            }
            assert_eq!(network(middle(underlay, 0)), network(middle(underlay, 1)));
            let mut networks =
                [host_address(underlay, 0), middle(underlay, 0), host_address(underlay, 1)].map(network).to_vec();
            networks.dedup();
            assert_eq!(networks.len(), 3);
        }
    }
}
