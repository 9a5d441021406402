//! `vxlan_reserved` and what else an outer packet can be: each is delivered, or dropped under the right name, to the frame.

use std::{
    net::{Ipv4Addr, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use weft::{
    lab::{Lab, Namespace},
    wire::MacAddr,
};
use weft_integration::{
    capture::{Capture, Direction, Wire, exactly, expect},
    frames::{self, EXPERIMENT, IPV4, ethernet, experiment, tagged, vxlan, with_header},
    scene,
    shape::{Shape, in_every_shape},
    weft::Weft,
};

use crate::{NEEDS, PREFIX};

const SRC: MacAddr = MacAddr::new([2, 0, 0, 0, 0xee, 1]);
const VNI: u32 = 1000;
/// The I flag and the VNI.
const HEADER: u64 = 1 << 59 | (VNI as u64) << 8;
/// Tags are kept from the kernel's own eyes by packet sockets; this one is 802.1Q, VLAN 10, priority 5.
const TAG: [u8; 4] = [0x81, 0, 0xa0, 10];
/// Nobody's, and no reserved one.
const DST: MacAddr = MacAddr::new([2, 0, 0, 0, 0xee, 2]);

pub(crate) fn tests() -> Vec<Trial> {
    in_every_shape(&[
        ("each_of_the_39_reserved_bits_is_dropped_and_counted", NEEDS, |shape| reserved_bits(shape, "drop", 0)),
        ("reserved_bits_can_be_ignored", NEEDS, |shape| reserved_bits(shape, "ignore", 39)),
        ("what_is_no_vxlan_of_ours_is_dropped_by_its_name", NEEDS, malformed),
        ("strangers_are_refused_unless_any_peer_will_do", NEEDS, strangers),
        ("inner_tags_cross_the_overlay_untouched_or_are_dropped", NEEDS, inner_tags),
        ("an_isolated_port_reaches_the_overlay_but_not_its_like", NEEDS, isolated),
    ])
}

/// weft with one host, and a namespace whose only VTEP is the test itself.
struct Bench {
    host: Namespace,
    other_host: Namespace,
    weft: Weft,
    /// From the VTEP that weft knows.
    peer: UdpSocket,
    /// From another address.
    stranger: UdpSocket,
    at_host: Capture,
    _lab: Lab,
}

impl Bench {
    const PEER: &str = "192.0.2.18";

    fn new(shape: Shape, vtep: &str, port: &str) -> anyhow::Result<Self> {
        let lab = Lab::new(PREFIX);
        let (host, other_host) = (lab.namespace("host")?, lab.namespace("other")?);
        let (switch, injector) = (lab.namespace("dut")?, lab.namespace("injector")?);
        lab.veth((&switch, "under0"), (&injector, "under0"), 1500)?;
        switch.address("under0", "192.0.2.17/24")?;
        injector.address("under0", "192.0.2.18/24")?;
        injector.address("under0", "192.0.2.19/24")?;
        // An injector that nothing disturbs: both hosts are silent but for what is put on their interfaces, and so is weft.
        for namespace in [&host, &other_host] {
            namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        }
        let config = format!(
            r#"
            {switch}
            [vtep]
            address = "192.0.2.17"
            path_mtu = "assume"
            {vtep}
            [[bridge]]
            name = "br1"
            vni = {VNI}
            remotes = ["{peer}"]
            [[port]]
            name = "eth0"
            netns = "{host}"
            bridge = "br1"
            {port}
            {offload}
            [[port]]
            name = "eth0"
            netns = "{other}"
            bridge = "br1"
            {port}
            {offload}
            "#,
            switch = shape.switch(),
            offload = shape.port_line(),
            peer = Self::PEER,
            host = host.full_name(),
            other = other_host.full_name(),
        );
        let weft = Weft::start(&switch, &config)?;
        let socket = |address: &str| -> anyhow::Result<UdpSocket> {
            let address: Ipv4Addr = address.parse()?;
            let socket = injector.within(|| UdpSocket::bind((address, 4789)))??;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            Ok(socket)
        };
        let (peer, stranger) = (socket(Self::PEER)?, socket("192.0.2.19")?);
        let at_host = Capture::open(&host, "eth0", Direction::In)?;
        Ok(Self { host, other_host, weft, peer, stranger, at_host, _lab: lab })
    }

    /// So many frames from the test's own address reach the host.
    fn delivers(&self, count: usize) -> anyhow::Result<()> {
        expect([&self.at_host], [exactly(count)], |frame| frame[6..12] == SRC.octets())
    }

    /// So many more are dropped for `reason` than `before`.
    fn drops(&self, reason: &str, before: u64, count: u64) -> anyhow::Result<()> {
        let dropped = self.weft.dropped(reason)? - before;
        ensure!(dropped == count, "{dropped} frames are counted as {reason}, not {count}");
        Ok(())
    }

    /// The next frame that weft sends to its peer, without its VXLAN header.
    fn at_peer(&self) -> anyhow::Result<Vec<u8>> {
        let mut buffer = [0; 2000];
        let len = self.peer.recv(&mut buffer).context("nothing comes to the peer")?;
        Ok(buffer.get(8..len).context("less than a header")?.to_vec())
    }
}

/// The socket is not connected: weft answers from other ports.
fn to_weft(socket: &UdpSocket, packet: &[u8]) -> std::io::Result<usize> {
    socket.send_to(packet, "192.0.2.17:4789")
}

fn reserved_bits(shape: Shape, policy: &str, delivered: usize) -> anyhow::Result<()> {
    let bench = Bench::new(shape, &format!("reserved_bits = {policy:?}"), "")?;
    let frame = experiment(DST, SRC);
    for _ in 0..10 {
        to_weft(&bench.peer, &with_header(HEADER, &frame))?;
    }
    bench.delivers(10)?;
    // As the RFC draws it: bit 4 is the I flag, 32 to 55 are the VNI.
    let reserved: Vec<_> = (0..64).filter(|bit| *bit != 4 && !(32..56).contains(bit)).collect();
    ensure!(reserved.len() == 39);
    for bit in &reserved {
        to_weft(&bench.peer, &with_header(HEADER | 1 << (63 - bit), &frame))?;
    }
    bench.delivers(delivered)?;
    bench.drops("vxlan_reserved_bits", 0, 39 - delivered as u64)?;
    let all = reserved.iter().fold(HEADER, |header, bit| header | 1 << (63 - bit));
    to_weft(&bench.peer, &with_header(all, &frame))?;
    bench.delivers(usize::from(delivered > 0))?;
    bench.weft.ledger_comes_to_balance()
}

fn malformed(shape: Shape) -> anyhow::Result<()> {
    let bench = Bench::new(shape, "", "")?;
    let frame = experiment(DST, SRC);
    let ip_cut = ethernet(DST, SRC, IPV4, &frames::icmp_packet(0, [10, 0, 0, 1].into(), [10, 0, 0, 2].into()));
    let from = |src: MacAddr| vxlan(VNI, &experiment(DST, src));
    let table: [(&str, &str, Vec<u8>); 11] = [
        ("the I flag is clear", "vxlan_no_vni_flag", with_header(u64::from(VNI) << 8, &frame)),
        ("no bridge has this VNI", "vni_unknown", vxlan(VNI + 1, &frame)),
        ("no octet", "vxlan_truncated", Vec::new()),
        ("seven octets", "vxlan_truncated", vxlan(VNI, &[])[..7].to_vec()),
        ("nothing inside", "inner_truncated", vxlan(VNI, &[])),
        ("thirteen octets inside", "inner_truncated", vxlan(VNI, &frame[..13])),
        ("IPv4 and no octet of it", "inner_ip_truncated", vxlan(VNI, &ip_cut[..14])),
        ("IPv4 without its last octet", "inner_ip_truncated", vxlan(VNI, &ip_cut[..33])),
        ("from nobody", "source_invalid", from(MacAddr::ZERO)),
        ("from everybody", "source_invalid", from(MacAddr::BROADCAST)),
        ("from a group", "source_invalid", from(MacAddr::new([1, 0, 0x5e, 0, 0, 1]))),
    ];
    for (what, reason, packet) in table {
        let before = bench.weft.dropped(reason)?;
        for _ in 0..10 {
            to_weft(&bench.peer, &packet)?;
        }
        bench.delivers(0).context(what)?;
        bench.drops(reason, before, 10).context(what)?;
    }
    // The smallest that there is: only an Ethernet header, of a type that says nothing about what follows.
    to_weft(&bench.peer, &vxlan(VNI, &ethernet(DST, SRC, EXPERIMENT, &[])[..14]))?;
    bench.delivers(1)?;
    bench.weft.ledger_comes_to_balance()
}

fn strangers(shape: Shape) -> anyhow::Result<()> {
    for (peers, delivered) in [("known", 0), ("any", 10)] {
        let bench = Bench::new(shape, &format!("peers = {peers:?}"), "")?;
        for _ in 0..10 {
            to_weft(&bench.stranger, &vxlan(VNI, &experiment(DST, SRC)))?;
        }
        bench.delivers(delivered)?;
        bench.drops("vtep_unknown", 0, 10 - delivered as u64)?;
        let learned = bench.weft.whereabouts("br1", &SRC.to_string())?;
        ensure!(learned.as_deref() == (delivered > 0).then_some("192.0.2.19"), "{SRC} is at {learned:?}");
        to_weft(&bench.peer, &vxlan(VNI, &experiment(DST, SRC)))?;
        bench.delivers(1)?;
        bench.weft.ledger_comes_to_balance()?;
    }
    Ok(())
}

fn inner_tags(shape: Shape) -> anyhow::Result<()> {
    // One tag, two, one of a provider, and a VLAN that is reserved: none of them means anything to an access bridge.
    let stacks: [&[[u8; 4]]; 4] =
        [&[TAG], &[[0x88, 0xa8, 0, 20], TAG], &[[0x88, 0xa8, 0, 20]], &[[0x81, 0, 0x0f, 0xff]]];
    for policy in ["pass", "drop"] {
        let bench = Bench::new(shape, &format!("inner_vlan = {policy:?}"), "")?;
        let mut host = Wire::open(&bench.host, "eth0")?;
        for (index, tags) in (0_u64..).zip(stacks) {
            let frame = tagged(&experiment(DST, SRC), tags);
            let back = tagged(&experiment(SRC, DST), tags);
            let before = bench.weft.dropped("inner_vlan")?;
            host.forget()?;
            host.send(std::slice::from_ref(&frame))?;
            to_weft(&bench.peer, &vxlan(VNI, &back))?;
            if policy == "pass" {
                let arrived = bench.at_peer()?;
                ensure!(arrived == frame, "{arrived:02x?} instead of {frame:02x?}");
                host.expect(&back, |frame| frame[6..12] == DST.octets())?;
                bench.drops("inner_vlan", before, 0)?;
            } else {
                thread::sleep(Duration::from_millis(200));
                bench.drops("inner_vlan", before, 2).with_context(|| format!("stack {index}"))?;
            }
        }
        // What has no tag is not concerned.
        host.send(&[experiment(DST, SRC)])?;
        ensure!(bench.at_peer()? == experiment(DST, SRC));
        bench.weft.ledger_comes_to_balance()?;
    }
    Ok(())
}

fn isolated(shape: Shape) -> anyhow::Result<()> {
    let bench = Bench::new(shape, "", "isolated = true")?;
    let at_other = Capture::open(&bench.other_host, "eth0", Direction::In)?;
    let (host, other) = (scene::mac(&bench.host, "eth0")?, scene::mac(&bench.other_host, "eth0")?);
    let mut from_host = Wire::open(&bench.host, "eth0")?;
    let is_test = |frame: &[u8]| frame[12..14] == EXPERIMENT.to_be_bytes();
    // Flooded, to the overlay only.
    from_host.send(&[experiment(DST, host)])?;
    ensure!(bench.at_peer()? == experiment(DST, host));
    expect([&at_other], [exactly(0)], is_test)?;
    // Known, and still isolated: dropped, not flooded.
    Wire::open(&bench.other_host, "eth0")?.send(&[experiment(DST, other)])?;
    ensure!(bench.at_peer()? == experiment(DST, other));
    from_host.repeat(&experiment(other, host), 10)?;
    expect([&at_other], [exactly(0)], is_test)?;
    bench.drops("isolated", 0, 10)?;
    // Back from the overlay, to each and to both.
    to_weft(&bench.peer, &vxlan(VNI, &experiment(host, DST)))?;
    to_weft(&bench.peer, &vxlan(VNI, &experiment(other, DST)))?;
    to_weft(&bench.peer, &vxlan(VNI, &experiment(MacAddr::BROADCAST, DST)))?;
    expect([&bench.at_host, &at_other], [exactly(2), exactly(2)], |frame| {
        is_test(frame) && frame[6..12] == DST.octets()
    })?;
    bench.weft.ledger_comes_to_balance()
}
