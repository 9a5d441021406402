//! weft as a plain switch, held to what the kernel's selftests say of a bridge: `bridge_vlan_unaware`,
//! `bridge_port_isolation`, `bridge_sticky_fdb`, `bridge_fdb_learning_limit`, `bridge_igmp` and `bridge_mdb`.

mod fdb;
mod groups;
mod limit;
mod ports;
mod reserved_groups;

use std::{ops::RangeInclusive, process::ExitCode, time::Duration};

use anyhow::ensure;
use weft::{
    lab::{Lab, Namespace},
    wire::MacAddr,
};
use weft_integration::{
    Needs,
    capture::{Capture, Direction, Wire, exactly, expect},
    frames::{EXPERIMENT, experiment},
    main_with_threads, scene,
    shape::Shape,
    weft::{Weft, eventually},
};

/// No namespace of another test begins so.
const PREFIX: &str = "weft-bridge";
const NEEDS: Needs = Needs::ROOT_AND_TUN;
const NEEDS_PING: Needs = NEEDS.programs(&["ping"]);
const LONG: Duration = Duration::from_secs(5);
/// An address that no host has.
const NOBODY: MacAddr = MacAddr::new([0xde, 0xad, 0xbe, 0xef, 0x13, 0x37]);

fn main() -> ExitCode {
    let tests = [ports::tests(), fdb::tests(), limit::tests(), reserved_groups::tests(), groups::tests()];
    main_with_threads(4, tests.into_iter().flatten().collect())
}

/// Some hosts on one bridge, `br0`; host N, from 0 on, has the address 192.0.2.N+1, and 2001:db8:1::N+1 if there is IPv6.
struct Hosts<const N: usize> {
    shape: Shape,
    ipv6: bool,
    hosts: [Namespace; N],
    weft: Weft,
    /// Each host's end of its cable.
    wires: [Wire; N],
    /// What each host receives.
    captures: [Capture; N],
    _lab: Lab,
}

impl<const N: usize> Hosts<N> {
    /// With these further lines for the bridge and for each port. Without IPv6, so that hosts say nothing unasked.
    fn new(shape: Shape, bridge: &str, ports: [&str; N]) -> anyhow::Result<Self> {
        Self::make(shape, false, bridge, ports)
    }

    /// The same, with IPv6.
    fn with_ipv6(shape: Shape, bridge: &str, ports: [&str; N]) -> anyhow::Result<Self> {
        Self::make(shape, true, bridge, ports)
    }

    fn make(shape: Shape, ipv6: bool, bridge: &str, ports: [&str; N]) -> anyhow::Result<Self> {
        let lab = Lab::new(PREFIX);
        let hosts = each(|host| Ok(lab.namespace(&format!("h{host}"))?))?;
        for host in hosts.iter().filter(|_| !ipv6) {
            host.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        }
        let weft = Weft::start(&lab.namespace("switch")?, &config(shape, &hosts, ipv6, bridge, ports))?;
        let wires = each(|host| Wire::open(&hosts[host], "eth0"))?;
        let captures = each(|host| Capture::open(&hosts[host], "eth0", Direction::In))?;
        Ok(Self { shape, ipv6, hosts, weft, wires, captures, _lab: lab })
    }

    fn reload(&self, bridge: &str, ports: [&str; N]) -> anyhow::Result<()> {
        self.weft.reload(&config(self.shape, &self.hosts, self.ipv6, bridge, ports))
    }

    /// A host sends a frame so many times, and so often it comes to each.
    fn send(&mut self, from: usize, frame: &[u8], times: usize, seen: [usize; N]) -> anyhow::Result<()> {
        for capture in &self.captures {
            capture.take()?;
        }
        self.wires[from].repeat(frame, times)?;
        let captures = std::array::from_fn(|host| &self.captures[host]);
        let wanted: [RangeInclusive<usize>; N] = seen.map(exactly);
        expect(captures, wanted, |found| found == frame)
    }

    /// As [`Hosts::send`], with one frame from `src` to `dst`.
    fn send_one(&mut self, from: usize, src: MacAddr, dst: MacAddr, seen: [usize; N]) -> anyhow::Result<()> {
        self.send(from, &experiment(dst, src), 1, seen)
    }

    /// Host `from` sends a frame with this source, which is then known to be at its port.
    fn teach(&mut self, from: usize, src: MacAddr) -> anyhow::Result<()> {
        self.wires[from].send(&[experiment(MacAddr::BROADCAST, src)])?;
        let port = self.port(from);
        eventually("the source is learned", LONG, || Ok(self.whereabouts(src)?.as_ref() == Some(&port)))
    }

    /// Fails unless the address is at this host's port, or nowhere.
    fn is_at(&self, mac: MacAddr, host: Option<usize>) -> anyhow::Result<()> {
        let (found, wanted) = (self.whereabouts(mac)?, host.map(|host| self.port(host)));
        ensure!(found == wanted, "{mac} is at {found:?} instead of {wanted:?}");
        Ok(())
    }

    fn whereabouts(&self, mac: MacAddr) -> anyhow::Result<Option<String>> {
        self.weft.whereabouts("br0", &mac.to_string())
    }

    /// The full name of a host's port.
    fn port(&self, host: usize) -> String {
        format!("{}/eth0", self.hosts[host].full_name())
    }

    fn mac(&self, host: usize) -> anyhow::Result<MacAddr> {
        scene::mac(&self.hosts[host], "eth0")
    }

    /// Whether a host gets an answer from another, by IPv4 and by IPv6.
    fn reaches(&self, from: usize, to: usize) -> anyhow::Result<[bool; 2]> {
        let ping = |address: String| -> anyhow::Result<bool> {
            Ok(self.hosts[from].run(&["ping", "-c", "1", "-W", "1", &address])?.success())
        };
        Ok([ping(format!("192.0.2.{}", to + 1))?, ping(format!("2001:db8:1::{}", to + 1))?])
    }
}

fn config<const N: usize>(shape: Shape, hosts: &[Namespace; N], ipv6: bool, bridge: &str, ports: [&str; N]) -> String {
    let mut text = format!("{}[[bridge]]\nname = \"br0\"\n{bridge}\n", shape.switch());
    for (number, (host, more)) in (1..).zip(hosts.iter().zip(ports)) {
        let netns = host.full_name();
        let address6 = if ipv6 { format!(", \"2001:db8:1::{number}/64\"") } else { String::new() };
        let addresses = format!("[\"192.0.2.{number}/24\"{address6}]");
        text += &format!(
            "[[port]]\nname = \"eth0\"\nnetns = {netns:?}\nbridge = \"br0\"\naddress = {addresses}\n{}{more}\n",
            shape.port_line()
        );
    }
    text
}

fn each<T, const N: usize>(make: impl FnMut(usize) -> anyhow::Result<T>) -> anyhow::Result<[T; N]> {
    let made = (0..N).map(make).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(made.try_into().unwrap_or_else(|_| unreachable!("N were made")))
}

/// Whether a frame is one of the tests' own.
fn is_test(frame: &[u8]) -> bool {
    frame[12..14] == EXPERIMENT.to_be_bytes()
}
