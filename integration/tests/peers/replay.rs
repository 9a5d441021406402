//! Captures of other people's VXLAN traffic are sent to weft, and what was inside comes out, byte for byte.
//!
//! The datagrams' payloads go to weft's VTEP from a UDP socket; a tap of each bridge is watched by tcpdump. Where the
//! captures come from is said in `integration/data/pcaps/SOURCES.md`.

use std::{collections::HashSet, net::UdpSocket, path::Path, time::Duration};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use weft::lab::{Lab, Namespace};
use weft_integration::{
    Needs,
    shape::{Shape, in_every_shape, in_shapes},
    weft::{Weft, eventually},
};

use crate::{
    PREFIX,
    capture::{self, Capture},
};

const NEEDS: Needs = Needs::ROOT_AND_TUN.programs(&["tcpdump"]);
const PATIENCE: Duration = Duration::from_secs(60);
const VXLAN: u16 = 4789;
const OTV: u16 = 8472;
const VXLAN_GPE: u16 = 4790;
const GENEVE: u16 = 6081;
const HEADER_LEN: usize = 8;

/// With nearly all reserved bits set, VNI 11.
const RESERVED_BITS: &str = "suricata-verify-vxlan-non-zero-reserved-fields_input";

pub(crate) fn tests() -> Vec<Trial> {
    // With offloads frames of one flow come out as one, and unfinished checksums as they are.
    let plain: Vec<_> = Shape::ALL.into_iter().filter(|shape| !shape.offload).collect();
    let mut tests = in_shapes(
        &plain,
        &[
            ("captured_vxlan_of_other_stacks_comes_out_byte_for_byte", NEEDS, comes_out),
            ("captured_reserved_bits_are_dropped_or_overlooked_as_configured", NEEDS, reserved_bits),
        ],
    );
    tests.extend(in_every_shape(&[
        ("captured_frames_do_not_go_back_to_the_vtep_that_sent_them", NEEDS, split_horizon),
        ("captured_geneve_and_nsh_are_refused_by_name", NEEDS, other_protocols),
    ]));
    tests
}

/// Nothing is learned here: the captures hold both sides of conversations, and with all of it coming from one VTEP the
/// other side would be known to be behind that VTEP (see [`split_horizon`]).
fn comes_out(shape: Shape) -> anyhow::Result<()> {
    let captures: [(&str, u16, u32, usize); 5] = [
        ("tcpdump-vxlan", VXLAN, 100, 10),
        ("tcpdump-vxlan_port_8472", OTV, 100, 10),
        ("suricata-verify-arp_detect-arp-04-vxlan_vxlan-arp", VXLAN, 100, 2),
        ("suricata-verify-vxlan-decoder-01_input", VXLAN, 37, 1),
        ("suricata-verify-vxlan-decoder-03_vxlan", VXLAN, 0x0054_fa11, 100),
    ];
    let mut total = 0;
    let scene = Scene::new(shape, &[100, 37, 0x0054_fa11], "", false)?;
    for (name, port, vni, count) in captures {
        let datagrams = payloads(name, port)?;
        ensure!(datagrams.len() == count, "{name}: {} datagrams", datagrams.len());
        scene.comes_out(name, vni, &datagrams)?;
        total += count as u64;
    }
    // Each frame has one place to go, and none of them is one that a bridge keeps to itself: all are accounted for as sent.
    let totals = scene.weft.ledger_balances()?;
    ensure!(totals["in"] == total && totals["out"] == total, "{totals:#}");
    Ok(())
}

fn reserved_bits(shape: Shape) -> anyhow::Result<()> {
    let datagrams = payloads(RESERVED_BITS, VXLAN)?;
    ensure!(datagrams.len() == 10, "{} datagrams", datagrams.len());

    let strict = Scene::new(shape, &[11], "", false)?;
    strict.is_refused(11, &datagrams, "vxlan_reserved_bits")?;
    drop(strict);
    Scene::new(shape, &[11], "reserved_bits = \"ignore\"", false)?.comes_out(RESERVED_BITS, 11, &datagrams)
}

/// The kernel does the same with a vxlan device in a bridge: a bridge drops what would leave by the port it came in at
/// (`br_forward.c`: `should_deliver`).
fn split_horizon(shape: Shape) -> anyhow::Result<()> {
    for (name, vni) in [("tcpdump-vxlan", 100), ("suricata-verify-vxlan-decoder-03_vxlan", 0x0054_fa11)] {
        let datagrams = payloads(name, VXLAN)?;
        let count = datagrams.len() as u64;
        let scene = Scene::new(shape, &[vni], "", true)?;
        // The first time weft learns all the sources. When in the course of it, depends on how the kernel puts datagrams
        // together; the second time all are known.
        scene.send(&datagrams)?;
        scene.has_received(count)?;
        let before = scene.weft.dropped("split_horizon")?;
        let sources: HashSet<_> = datagrams.iter().map(|datagram| &inner(datagram)[6..12]).collect();
        let known = |datagram: &&Vec<u8>| sources.contains(&inner(datagram)[..6]);
        let expected = datagrams.iter().filter(known).count() as u64;
        ensure!(0 < expected, "{name} shows nothing");
        scene.send(&datagrams)?;
        scene.has_received(2 * count)?;
        let dropped = scene.weft.dropped("split_horizon")? - before;
        ensure!(dropped == expected, "{name}: {dropped} frames were dropped, not {expected}");
        let totals = scene.weft.ledger_balances()?;
        let all = before + dropped + totals["out"].as_u64().unwrap_or(0);
        ensure!(all == 2 * count, "{name}: another reason, too: {totals:#}");
    }
    Ok(())
}

fn other_protocols(shape: Shape) -> anyhow::Result<()> {
    // Read as VXLAN, Geneve's protocol type falls among reserved bits and its VNI is in the same place: 0. That it has the
    // I flag is an accident: Geneve has the length of its options there, ten words.
    let geneve = payloads("tcpdump-geneve-gcp", GENEVE)?;
    let nsh = payloads("tcpdump-nsh-over-vxlan-gpe", VXLAN_GPE)?;
    ensure!((geneve.len(), nsh.len()) == (1, 1));
    Scene::new(shape, &[1], "", false)?.is_refused(1, &geneve, "vni_unknown")?;
    Scene::new(shape, &[1], "", false)?.is_refused(1, &nsh, "vni_unknown")?;
    // Where the VNI exists, the bits of the other protocol are reserved in VXLAN: nothing of it becomes a frame.
    Scene::new(shape, &[0], "", false)?.is_refused(0, &geneve, "vxlan_reserved_bits")?;
    Scene::new(shape, &[0x00ff_ffff], "", false)?.is_refused(0x00ff_ffff, &nsh, "vxlan_reserved_bits")
}

/// A VTEP of nobody's and weft, with a tap for each VNI.
struct Scene {
    weft: Weft,
    sender: Namespace,
    inside: Namespace,
    _lab: Lab,
}

impl Scene {
    fn new(shape: Shape, vnis: &[u32], vtep: &str, learning: bool) -> anyhow::Result<Self> {
        let lab = Lab::new(PREFIX);
        let (here, sender, inside) = (lab.namespace("here")?, lab.namespace("sender")?, lab.namespace("inside")?);
        // The taps' kernel is to say nothing of its own.
        for which in ["default", "all"] {
            inside.sysctl(&format!("net.ipv6.conf.{which}.disable_ipv6"), "1")?;
        }
        lab.veth((&here, "u0"), (&sender, "u0"), 9000)?;
        here.address("u0", "192.0.2.1/24")?;
        sender.address("u0", "192.0.2.2/24")?;
        let switch = shape.switch();
        // Nor is weft itself, to those whose frames it learns from.
        let head = "[vtep]\naddress = \"192.0.2.1\"\npeers = \"any\"\npath_mtu = \"assume\"\n";
        let mut config = format!("{switch}{head}{vtep}\n");
        for vni in vnis {
            let (netns, offload) = (inside.full_name(), shape.port_line());
            config += &format!("[[bridge]]\nname = \"b{vni}\"\nvni = {vni}\nlearning = {learning}\n");
            config += &format!("[[port]]\nname = \"t{vni}\"\nnetns = \"{netns}\"\nbridge = \"b{vni}\"\n{offload}");
        }
        let weft = Weft::start(&here, &config)?;
        Ok(Self { weft, sender, inside, _lab: lab })
    }

    fn send(&self, datagrams: &[Vec<u8>]) -> anyhow::Result<()> {
        let socket = self.sender.within(|| UdpSocket::bind("192.0.2.2:0"))??;
        for datagram in datagrams {
            socket.send_to(datagram, ("192.0.2.1", VXLAN))?;
        }
        Ok(())
    }

    /// What is inside the datagrams arrives at the VNI's tap: the same frames in the same order, and no others.
    fn comes_out(&self, name: &str, vni: u32, datagrams: &[Vec<u8>]) -> anyhow::Result<()> {
        let tap = Capture::start(&self.inside, &format!("t{vni}"), &["-Q", "in"])?;
        self.send(datagrams)?;
        let arrived = tap.wait_for(name, datagrams.len(), |_| true)?;
        ensure!(arrived.len() == datagrams.len(), "{name}: {} frames arrived", arrived.len());
        for (number, (arrived, datagram)) in arrived.iter().zip(datagrams).enumerate() {
            let (found, expected) = (&arrived.bytes, finished(inner(datagram)));
            ensure!(*found == expected, "{name}, datagram {number}: {found:x?} instead of {expected:x?}");
        }
        Ok(())
    }

    /// All of it is dropped for this reason, and nothing arrives.
    fn is_refused(&self, vni: u32, datagrams: &[Vec<u8>], reason: &str) -> anyhow::Result<()> {
        let tap = Capture::start(&self.inside, &format!("t{vni}"), &["-Q", "in"])?;
        self.send(datagrams)?;
        let count = datagrams.len() as u64;
        self.has_received(count)?;
        let dropped = self.weft.dropped(reason)?;
        ensure!(dropped == count, "{dropped} of {count} were dropped for {reason}: {:#}", self.weft.show("drops")?);
        ensure!(tap.frames()?.is_empty(), "something arrived");
        Ok(())
    }

    fn has_received(&self, count: u64) -> anyhow::Result<()> {
        eventually("all datagrams are counted", PATIENCE, || {
            Ok(self.weft.ledger_balances()?["in"].as_u64().is_some_and(|frames| frames >= count))
        })
    }
}

/// What the capture's UDP datagrams to this port carried; what else it holds is left out.
fn payloads(name: &str, port: u16) -> anyhow::Result<Vec<Vec<u8>>> {
    const ETHERNET_LEN: usize = 14;
    const UDP: u8 = 17;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/pcaps").join(name).with_extension("pcap");
    let payload = |frame: &[u8]| {
        let packet = frame.get(ETHERNET_LEN..)?;
        let udp = packet.get(usize::from(packet[0] & 0x0f) * 4..)?;
        let (header, payload) = udp.split_first_chunk::<8>()?;
        let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let to = u16::from_be_bytes([header[2], header[3]]);
        (packet[9] == UDP && to == port).then(|| payload.get(..len - 8).map(<[u8]>::to_vec))
    };
    let mut payloads = Vec::new();
    for frame in capture::read(&path)? {
        if let Some(whole) = payload(&frame.bytes) {
            payloads.push(whole.with_context(|| format!("a datagram in {name} is cut off"))?);
        }
    }
    Ok(payloads)
}

fn inner(datagram: &[u8]) -> &[u8] {
    &datagram[HEADER_LEN..]
}

/// The frame as it must arrive: byte for byte, but for a TCP checksum that its sender left to a network card and that was
/// open when it was captured (it holds the bare sum of the pseudo header). weft completes such a one.
fn finished(frame: &[u8]) -> Vec<u8> {
    const IP: usize = 14;
    const TCP: usize = IP + 20;
    const FIELD: usize = TCP + 16;
    let mut frame = frame.to_vec();
    let is_plain_tcp = frame.len() > FIELD + 1 && frame[12..15] == [8, 0, 0x45] && frame[IP + 9] == 6;
    if !is_plain_tcp {
        return frame;
    }
    let end = IP + usize::from(u16::from_be_bytes([frame[IP + 2], frame[IP + 3]]));
    let Some(segment) = frame.get(TCP..end) else { return frame };
    let pseudo = ones_sum(&frame[IP + 12..TCP], 6 + segment.len() as u32);
    if frame[FIELD..FIELD + 2] == pseudo.to_be_bytes() {
        let complete = !ones_sum(segment, 0);
        frame[FIELD..FIELD + 2].copy_from_slice(&complete.to_be_bytes());
    }
    frame
}

/// RFC 1071, as it is written there.
fn ones_sum(bytes: &[u8], start: u32) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum = start + bytes.chunks(2).map(word).sum::<u32>();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}
