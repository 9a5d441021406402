//! Each encapsulation between two wefts over either underlay: a large transfer arrives byte for byte, and each packet of the
//! tunnel is on the wire exactly as long as the sum of its headers says. And group policies, with the kernel's vxlan device.

use std::time::Instant;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use weft::lab::{Lab, Namespace};
use weft_integration::{
    Needs,
    exchange::stream,
    shape::Shape,
    trial,
    weft::{Weft, eventually},
};
use weft_vxlan::{
    Encapsulation,
    mtu::{Family, HeaderBudget},
};

use crate::{PREFIX, capture::Capture, traffic::becomes_reachable};

const NEEDS: Needs = Needs::ROOT_AND_TUN.programs(&["tcpdump", "ping", "ethtool", "ip"]);
const TRANSFER: usize = 100_000_000;
/// Hosts' addresses inside.
const INNER: [&str; 2] = ["10.9.0.1", "10.9.0.2"];
/// An option of four bytes, and the bytes that it takes with its own header.
const OPTION: &str = "geneve_option = [{ class = 0xff01, type = 1, data = \"c0ffee00\" }]";
const OPTION_LEN: u16 = 8;
/// A group's number, of each side.
const POLICIES: [u16; 2] = [7, 9];

pub(crate) fn tests() -> Vec<Trial> {
    let mut tests = Vec::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        let plain = Encapsulation::ALL.into_iter().map(|encapsulation| Tunnel { encapsulation, has_option: false });
        let with_option = Tunnel { encapsulation: Encapsulation::Geneve, has_option: true };
        for tunnel in plain.chain([with_option]) {
            let name = format!("{tunnel}_carries_100_mb_in_packets_as_long_as_computed [{family:?}]");
            let named = name.clone();
            tests.push(trial(&name, NEEDS, move || as_long_as_computed(&named, tunnel, family)));
        }
        let needs = Needs { programs: &["tcpdump", "ping", "ethtool", "ip", "nft"], ..NEEDS };
        let name = format!("group_policies_pass_between_weft_and_the_kernel [{family:?}]");
        tests.push(trial(&name, needs, move || group_policies(family)));
    }
    tests
}

/// How frames are wrapped.
#[derive(Clone, Copy)]
struct Tunnel {
    encapsulation: Encapsulation,
    has_option: bool,
}

impl std::fmt::Display for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.encapsulation, if self.has_option { "_with_an_option" } else { "" })
    }
}

impl Tunnel {
    fn budget(self, family: Family) -> HeaderBudget {
        let options_len = if self.has_option { OPTION_LEN } else { 0 };
        HeaderBudget::new(family).with_encapsulation(self.encapsulation).with_options(options_len)
    }

    /// The lines of `[[bridge]]` that say so.
    fn lines(self) -> String {
        let option = if self.has_option { OPTION } else { "" };
        format!("encapsulation = \"{}\"\n{option}\n", self.encapsulation)
    }
}

/// VTEPs' addresses with their prefix.
fn vteps(family: Family) -> ([&'static str; 2], u8) {
    match family {
        Family::Ipv4 => (["192.0.2.1", "192.0.2.2"], 24),
        Family::Ipv6 => (["2001:db8::1", "2001:db8::2"], 64),
    }
}

/// Two namespaces with a cable between them, `u0` in each, on which frames are as a card would send them.
fn ground(lab: &Lab, family: Family) -> anyhow::Result<[Namespace; 2]> {
    let ends = [lab.namespace("vtep1")?, lab.namespace("vtep2")?];
    lab.veth((&ends[0], "u0"), (&ends[1], "u0"), 1500)?;
    let (addresses, prefix_len) = vteps(family);
    for (end, address) in ends.iter().zip(addresses) {
        end.run(&["ethtool", "-K", "u0", "tx", "off", "gso", "off", "gro", "off"])?.ok()?;
        end.address("u0", &format!("{address}/{prefix_len}"))?;
    }
    Ok(ends)
}

/// A weft with one host, `eth0` in it. Nothing is measured, so that all packets of the tunnel are the hosts'.
fn config(index: usize, family: Family, bridge: &str, host: &Namespace, port: &str) -> String {
    let (addresses, _) = vteps(family);
    let shape = Shape::USUAL;
    let head = format!(
        "{}\n[vtep]\naddress = \"{}\"\npath_mtu = \"assume\"\n[[bridge]]\nname = \"blue\"\nvni = 42\nremotes = [\"{}\"]\n{bridge}\n",
        shape.switch(),
        addresses[index],
        addresses[1 - index]
    );
    head + &shape.port(host.full_name(), "eth0", &format!("address = [\"{}/24\"]\n{port}", INNER[index]))
}

fn as_long_as_computed(name: &str, tunnel: Tunnel, family: Family) -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let ends = ground(&lab, family)?;
    let hosts = [lab.namespace("host1")?, lab.namespace("host2")?];
    // So much of each packet that the inner IP header is there.
    let filter = format!("udp dst port {}", tunnel.encapsulation.default_port());
    let mut capture = Capture::start(&ends[0], "u0", &["-s", "160", "-B", "65536", &filter])?;
    let mut wefts = Vec::new();
    for index in [0, 1] {
        wefts.push(Weft::start(&ends[index], &config(index, family, &tunnel.lines(), &hosts[index], ""))?);
    }
    becomes_reachable(&hosts[0], INNER[1])?;
    let began = Instant::now();
    stream(&hosts[0], &hosts[1], INNER[1].parse()?, TRANSFER)?;
    let took = began.elapsed();
    wefts.iter().try_for_each(Weft::ledger_comes_to_balance)?;

    let carried = || -> anyhow::Result<usize> {
        let vtep = &wefts[0].show("vteps")?[0];
        let frames = |key: &str| vtep[key].as_u64().context("a VTEP counts frames");
        Ok((frames("tx_frames")? + frames("rx_frames")?) as usize)
    };
    let so_far = carried()?;
    capture.wait_for("packets of the tunnel", so_far, |_| true)?;
    let frames = capture.frames()?;
    ensure!((so_far..=carried()?).contains(&frames.len()), "{} packets, and weft says {so_far}", frames.len());
    capture.finish()?;

    let outer_mtu = 1500;
    let overhead = usize::from(tunnel.budget(family).overhead());
    let (mut wire, mut computed, mut full) = (0, 0, 0);
    for (number, frame) in frames.iter().enumerate() {
        let inner_len = inner_packet_len(tunnel, family, &frame.bytes).with_context(|| format!("packet {number}"))?;
        // Behind the outer Ethernet header, which is the wire's affair.
        let outer_len = frame.len - 14;
        ensure!(outer_len == inner_len + overhead, "packet {number}: {outer_len} bytes for {inner_len} inside");
        wire += outer_len;
        computed += inner_len + overhead;
        full += usize::from(outer_len == outer_mtu);
    }
    println!(
        "{name}: {} packets, {wire} bytes of IP on the wire, {computed} computed, {full} fill the MTU; {:.2} s",
        frames.len(),
        took.as_secs_f64()
    );
    ensure!(full > TRANSFER / outer_mtu, "{full} packets are too few to carry {TRANSFER} bytes");
    Ok(())
}

/// The length of the IP packet or ARP message inside, as that says itself.
fn inner_packet_len(tunnel: Tunnel, family: Family, frame: &[u8]) -> Option<usize> {
    let headers = usize::from(tunnel.budget(family).overhead()) - 14;
    let inner = frame.get(14 + headers..)?;
    let field = |at: usize| inner.get(at..at + 2).map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])));
    match field(12)? {
        0x0800 => field(14 + 2),
        0x86dd => Some(field(14 + 4)? + 40),
        0x0806 => Some(28),
        _ => None,
    }
}

/// weft's port names a group, which the kernel's device turns into a mark, and back.
fn group_policies(family: Family) -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let ends = ground(&lab, family)?;
    let host = lab.namespace("host1")?;
    let kernel = &ends[1];
    let ([near, far], _) = vteps(family);
    kernel
        .run(&[
            "ip", "link", "add", "vx0", "type", "vxlan", "id", "42", "local", far, "remote", near, "dstport", "4789",
            "dev", "u0", "gbp",
        ])?
        .ok()?;
    kernel.address("vx0", &format!("{}/24", INNER[1]))?;
    kernel.up("vx0")?;
    let [of_weft, of_kernel] = POLICIES;
    let rules = format!(
        "table inet t {{
            counter known {{ }}
            counter others {{ }}
            chain in {{
                type filter hook input priority 0
                iifname vx0 meta mark {of_weft} counter name known
                iifname vx0 meta mark != {of_weft} counter name others
            }}
            chain out {{
                type route hook output priority 0
                oifname vx0 meta mark set {of_kernel}
            }}
        }}"
    );
    kernel.command("nft").args(["-f", "-"]).input(rules).output()?.ok()?;
    let gbp = "encapsulation = \"vxlan-gbp\"";
    let config = config(0, family, gbp, &host, &format!("gbp_policy = {of_weft}\n"));
    let weft = Weft::start(&ends[0], &config)?;
    becomes_reachable(&host, INNER[1])?;
    stream(&host, kernel, INNER[1].parse()?, TRANSFER)?;
    stream(kernel, &host, INNER[0].parse()?, TRANSFER)?;

    let counters = kernel.run(&["nft", "-j", "list", "counters"])?.ok()?.stdout;
    let counters: Value = serde_json::from_str(&counters)?;
    let objects = counters["nftables"].as_array().context("nft lists objects")?;
    let packets = |name: &str| {
        let counter = objects.iter().map(|object| &object["counter"]).find(|counter| counter["name"] == name);
        counter.and_then(|counter| counter["packets"].as_u64()).context("the counter is there")
    };
    // A merged run of segments is one packet there.
    let merged = TRANSFER as u64 / 65_536;
    ensure!(packets("known")? > merged && packets("others")? == 0, "{counters:#}");
    let heard = |row: &Value| row["gbp_policies"][of_kernel.to_string()].as_u64();
    eventually("weft counts what it gets by its group", std::time::Duration::from_secs(5), || {
        let ledger = weft.show("ledger")?;
        let rows = ledger["rows"].as_array().context("the ledger has rows")?;
        let named: u64 = rows.iter().filter_map(heard).sum();
        Ok(named > TRANSFER as u64 / 1500)
    })?;
    weft.ledger_comes_to_balance()
}
