//! Checksums on every path between ports: what a sender leaves unfinished or in one piece is finished wherever it leaves the
//! switch by a port that must have it so, and wherever it stays as it is the receiver's kernel finds nothing wrong.
//!
//! What has no offloads is captured where it arrives, and read by tshark. A capture at a tap with offloads would only show
//! what the kernel says itself beside the frame; there the kernel's own counters of wrong checksums have to be zero.

use std::net::UdpSocket;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use weft::{
    ids::{BridgeId, VtepId},
    lab::{Lab, Namespace},
    underlay::{
        Target, UnderlayEnd,
        sockets::{UnderlaySettings, UnderlaySockets},
    },
};
use weft_integration::{
    Needs,
    shape::{Shape, in_shapes},
    weft::Weft,
};

use crate::{
    PREFIX,
    capture::Capture,
    traffic::{becomes_reachable, tcp},
    tshark::{self, Checksums},
};

const NEEDS: Needs = Needs::ROOT_AND_TUN.programs(&["tshark", "tcpdump", "ping", "ethtool", "nstat"]);
/// Octets of each TCP connection.
const TRANSFER: usize = 500_000;
/// Datagrams that a host hands to its kernel as one.
const RUN: usize = 20;
const DATAGRAM_LEN: usize = 1000;
/// More than one packet holds.
const LARGE: usize = 8000;
/// A frame this long is a super-frame, if only of two segments.
const SUPER_FRAME: usize = 2000;

/// Which host is behind which port. A host's number is the last octet of its addresses.
const TAP: usize = 0;
const OTHER_TAP: usize = 1;
const PLAIN: usize = 2;
const OTHER_PLAIN: usize = 3;
/// A packet port with offloads, whose kernel cuts and finishes what it sends.
const CABLE: usize = 4;
/// A packet port without.
const PLAIN_CABLE: usize = 5;
const HOSTS: usize = 6;

pub(crate) fn tests() -> Vec<Trial> {
    // Offloads are a matter of each port here.
    let workers: Vec<_> = Shape::ALL.into_iter().filter(|shape| shape.offload).collect();
    in_shapes(&workers, &[("checksums_are_right_on_every_path_between_ports", NEEDS, between_ports)])
}

fn between_ports(shape: Shape) -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let switch = lab.namespace("switch")?;
    let hosts = (0..HOSTS).map(|host| lab.namespace(&format!("host{host}"))).collect::<Result<Vec<_>, _>>()?;
    for (cable, host) in [("p0", CABLE), ("p1", PLAIN_CABLE)] {
        lab.veth((&switch, cable), (&hosts[host], "eth0"), 1500)?;
        // As a wire: nothing unfinished arrives, and nothing is put together where it does.
        switch.run(&["ethtool", "-K", cable, "tx", "off", "tso", "off", "gso", "off"])?.ok()?;
        hosts[host].run(&["ethtool", "-K", "eth0", "gro", "off"])?.ok()?;
        hosts[host].address("eth0", &format!("{}/24", v4(host)))?;
        hosts[host].address("eth0", &format!("{}/64", v6(host)))?;
    }
    let weft = Weft::start(&switch, &config(shape, &hosts))?;
    // Room for every one of them: the kernel's ring has places of one size (-s), so many as fit the buffer (-B).
    let whole = ["-B", "65536", "-s", "66000", "-Q", "out", &format!("greater {SUPER_FRAME}")];
    let mut left = Capture::start(&hosts[TAP], "eth0", &whole)?;
    let wires = [PLAIN, OTHER_PLAIN, CABLE, PLAIN_CABLE];
    let mut arrived = Vec::new();
    for host in wires {
        arrived.push(Capture::start(&hosts[host], "eth0", &["-s", "2000", "-Q", "in"])?);
    }

    for from in [TAP, PLAIN, CABLE] {
        for to in (0..HOSTS).filter(|to| *to != from) {
            talk(&hosts, from, to).with_context(|| format!("from {from} to {to}"))?;
        }
    }
    for (number, host) in hosts.iter().enumerate() {
        no_wrong_checksums(host).with_context(|| format!("at host {number}"))?;
    }
    for (capture, host) in arrived.iter_mut().zip(wires) {
        let seen = Checksums::of(capture.finish()?).with_context(|| format!("at host {host}"))?;
        // Three senders, or two where it is one of them itself, and both families.
        let senders = if [PLAIN, CABLE].contains(&host) { 2 } else { 3 };
        let segments = senders * 2 * TRANSFER / 1500;
        ensure!(seen.tcp > segments && seen.udp >= senders * 2 * RUN, "{seen:?} at host {host}");
    }
    // The test was one: TCP and runs of datagrams left the tap whole, and unfinished.
    let left = tshark::fields(left.finish()?, &[], &["tcp.checksum.status", "udp.checksum.status"])?;
    for (index, protocol) in ["TCP", "UDP"].into_iter().enumerate() {
        let open = left.iter().filter(|row| row[index].iter().any(|status| status == tshark::BAD)).count();
        ensure!(open > 0, "no unfinished {protocol} in {} super-frames", left.len());
    }
    weft.ledger_comes_to_balance()
}

fn v4(host: usize) -> String {
    format!("10.9.0.{}", host + 1)
}

fn v6(host: usize) -> String {
    format!("fd09::{}", host + 1)
}

fn config(shape: Shape, hosts: &[Namespace]) -> String {
    let mut config = shape.switch() + "[[bridge]]\nname = \"blue\"\n";
    for (host, offload) in [(TAP, true), (OTHER_TAP, true), (PLAIN, false), (OTHER_PLAIN, false)] {
        let (netns, v4, v6) = (hosts[host].full_name(), v4(host), v6(host));
        config += &format!("[[port]]\nname = \"eth0\"\nnetns = \"{netns}\"\nbridge = \"blue\"\noffload = {offload}\n");
        config += &format!("address = [\"{v4}/24\", \"{v6}/64\"]\nmtu = 1500\n");
    }
    for (cable, offload) in [("p0", true), ("p1", false)] {
        config += &format!("[[port]]\nname = \"{cable}\"\nkind = \"packet\"\nbridge = \"blue\"\noffload = {offload}\n");
    }
    config
}

/// TCP, a run of datagrams, and a datagram of several packets, over both families.
fn talk(hosts: &[Namespace], from: usize, to: usize) -> anyhow::Result<()> {
    for [here, there] in [[v4(from), v4(to)], [v6(from), v6(to)]] {
        becomes_reachable(&hosts[from], &there)?;
        tcp(&hosts[from], &hosts[to], &there, TRANSFER)?;
        datagrams(&hosts[from], &hosts[to], &here, &there)?;
    }
    Ok(())
}

fn datagrams(from: &Namespace, to: &Namespace, here: &str, there: &str) -> anyhow::Result<()> {
    let listening = to.within(|| UdpSocket::bind((there, 0)))??;
    listening.set_read_timeout(Some(std::time::Duration::from_secs(20)))?;
    let address = listening.local_addr()?;
    // weft's own socket is good enough for handing a run to the kernel: what became of it is seen by others.
    let settings = UnderlaySettings { port: 0, source_ports: 1, ..UnderlaySettings::new(here.parse()?) };
    let sockets = from.within(|| UnderlaySockets::open(&settings))??;
    let mut end = sockets.into_ends().pop().context("one end")?;
    let (bridge, vtep) = (BridgeId(0), VtepId(0));
    let target = Target { bridge, vtep, address, tos: 0, ttl: 64, dont_fragment: true, header_len: 8 };
    for number in 0..RUN {
        end.reserve(&target, 0, DATAGRAM_LEN).fill(number as u8);
    }
    let mut refused = None;
    end.flush(&mut |sent| {
        if let Err(reason) = sent.result {
            refused = Some(reason);
        }
    });
    ensure!(refused.is_none() && end.tx_counts().messages == 1, "no run: {refused:?} {:?}", end.tx_counts());
    let mut found = [0; LARGE + 1];
    for number in 0..RUN {
        let len = listening.recv(&mut found).with_context(|| format!("datagram {number}"))?;
        ensure!(found[..len] == [number as u8; DATAGRAM_LEN], "datagram {number} is another one");
    }
    let socket = from.within(|| UdpSocket::bind((here, 0)))??;
    let large: Vec<u8> = (0..LARGE).map(|at| (at ^ (at >> 8)) as u8).collect();
    socket.send_to(&large, address)?;
    let len = listening.recv(&mut found).context("the large datagram")?;
    ensure!(found[..len] == large, "the large datagram is another one");
    Ok(())
}

/// Fails if the kernel has found a wrong checksum in what came to a host.
pub(crate) fn no_wrong_checksums(host: &Namespace) -> anyhow::Result<()> {
    let counters = host.run(&["nstat", "-a", "-s", "-z"])?.ok()?.stdout;
    let lines = counters.lines().filter(|line| line.contains("InCsumErrors"));
    let counts: Vec<_> = lines
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|count| (line, count)))
        .collect();
    // Of TCP, UDP and ICMP over IPv4 and of UDP and ICMP over IPv6 at least.
    ensure!(counts.len() >= 5, "{counts:?}");
    let wrong = counts.iter().find(|(_, count)| *count > 0);
    ensure!(wrong.is_none(), "{wrong:?}");
    Ok(())
}
