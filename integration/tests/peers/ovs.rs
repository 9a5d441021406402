//! Open vSwitch with its userspace datapath: a switch and a VTEP that shares no code with the kernel's devices.

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use weft::{
    lab::{Lab, Ovs},
    wire::probe,
};
use weft_integration::{
    Needs,
    exchange::stream,
    shape::{Shape, in_every_shape, in_shapes},
    weft::{Weft, eventually},
};
use weft_vxlan::Encapsulation;

use crate::{
    PREFIX,
    capture::Capture,
    traffic::{becomes_reachable, ping, tcp},
    trunk::{Trunk, VLANS, peer_address, weft_address},
};

const NEEDS: Needs =
    Needs::ROOT_AND_TUN.programs(&["ovs-vswitchd", "ovsdb-server", "ovs-vsctl", "tcpdump", "ping", "ethtool"]);
const TRANSFER: usize = 20_000_000;
/// What goes through encapsulations that are not in every shape.
const LARGE_TRANSFER: usize = 100_000_000;
const TWO_SHAPES: [Shape; 2] = [Shape::USUAL, Shape { offload: false, workers: 1 }];

pub(crate) fn tests() -> Vec<Trial> {
    let mut tests = in_every_shape(&[
        ("ovs_and_weft_keep_the_vlans_of_a_trunk_apart", NEEDS, vlans_are_kept_apart),
        ("ovs_and_weft_tell_tagged_frames_alike", NEEDS, tagged_frames_are_told_alike),
        ("tcp_crosses_a_trunk_to_ovs_byte_for_byte_both_ways", NEEDS, |shape| tcp_crosses_the_trunk(shape, false)),
        ("tcp_in_super_frames_crosses_a_trunk_to_ovs_byte_for_byte", NEEDS, |shape| tcp_crosses_the_trunk(shape, true)),
        ("ovs_and_weft_are_vteps_of_one_overlay", NEEDS, |shape| one_overlay(shape, Encapsulation::Vxlan, TRANSFER)),
    ]);
    tests.extend(in_shapes(
        &TWO_SHAPES,
        &[
            ("ovs_and_weft_are_vteps_of_a_geneve_overlay", NEEDS, |shape| {
                one_overlay(shape, Encapsulation::Geneve, LARGE_TRANSFER)
            }),
            ("ovs_and_weft_are_vteps_of_a_vxlan_gpe_overlay", NEEDS, |shape| {
                one_overlay(shape, Encapsulation::VxlanGpe, LARGE_TRANSFER)
            }),
        ],
    ));
    tests
}

fn vlans_are_kept_apart(shape: Shape) -> anyhow::Result<()> {
    let (trunk, _ovs) = trunk_to_ovs(shape, false)?;
    trunk.hosts_meet_in_their_vlan_only()?;
    trunk.weft.ledger_balances()?;
    Ok(())
}

fn tagged_frames_are_told_alike(shape: Shape) -> anyhow::Result<()> {
    let (trunk, _ovs) = trunk_to_ovs(shape, true)?;
    // A tag that the kernel took off comes back without its drop-eligible bit (OVS, `lib/packets.c`: `eth_push_vlan`).
    trunk.tagged_frames_go_where_they_belong(false)?;
    trunk.weft.ledger_balances()?;
    Ok(())
}

/// `whole`: weft writes super-frames with their tags to the cable, and the kernel cuts them; otherwise weft cuts them.
fn tcp_crosses_the_trunk(shape: Shape, whole: bool) -> anyhow::Result<()> {
    let (trunk, _ovs) = trunk_to_ovs(shape, whole)?;
    for (index, vlan) in VLANS.into_iter().enumerate() {
        tcp(&trunk.weft_hosts[index], &trunk.peer_hosts[index], &peer_address(vlan), TRANSFER)?;
        tcp(&trunk.peer_hosts[index], &trunk.weft_hosts[index], &weft_address(vlan), TRANSFER)?;
    }
    trunk.weft.ledger_balances()?;
    Ok(())
}

/// The trunk with Open vSwitch at its other end, everything reachable.
fn trunk_to_ovs(shape: Shape, whole: bool) -> anyhow::Result<(Trunk, Ovs)> {
    let trunk = Trunk::new(shape, whole)?;
    if whole {
        // Open vSwitch reads the cable with a plain packet socket and takes no unfinished frames: the kernel is to
        // finish them at weft's end.
        trunk.here.run(&["ethtool", "-K", "t0", "tx", "off"])?.ok()?;
    }
    let ovs = Ovs::start(&trunk.lab, &trunk.peer, &[])?;
    ovs.vsctl("add-br br0 -- set bridge br0 datapath_type=netdev")?;
    ovs.vsctl("add-port br0 t0 vlan_mode=native-untagged tag=30 trunks=10,20,30")?;
    for (host, vlan) in trunk.peer_hosts.iter().zip(VLANS) {
        ovs.tap("br0", host, &format!("tag={vlan}"))?;
    }
    ovs.tap("br0", &trunk.peer_tags, "trunks=10,20")?;
    trunk.address_peer_hosts()?;
    trunk.is_ready()?;
    Ok((trunk, ovs))
}

/// What Open vSwitch calls the tunnel.
fn interface(encapsulation: Encapsulation) -> &'static str {
    match encapsulation {
        Encapsulation::Vxlan => "type=vxlan",
        Encapsulation::VxlanGbp => "type=vxlan options:exts=gbp",
        // Ethernet inside: its own default.
        Encapsulation::VxlanGpe => "type=vxlan options:exts=gpe options:packet_type=legacy_l2",
        Encapsulation::Geneve => "type=geneve",
    }
}

fn one_overlay(shape: Shape, encapsulation: Encapsulation, byte_count: usize) -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let (here, there) = (lab.namespace("here")?, lab.namespace("there")?);
    let (weft_host, ovs_host) = (lab.namespace("left")?, lab.namespace("right")?);
    lab.veth((&here, "u0"), (&there, "u0"), 1550)?;
    for host in [&here, &there] {
        // Neither end may hand over unfinished or merged frames: Open vSwitch's tunnels take none.
        host.run(&["ethtool", "-K", "u0", "tx", "off", "gro", "off"])?.ok()?;
    }
    here.address("u0", "192.0.2.1/24")?;
    let ovs = Ovs::start(&lab, &there, &[])?;
    // Its tunnels leave by the bridge that has the address.
    ovs.vsctl("add-br phy -- set bridge phy datapath_type=netdev -- add-port phy u0")?;
    there.address("phy", "192.0.2.2/24")?;
    there.mtu("phy", 1550)?;
    there.up("phy")?;
    let (interface, port) = (interface(encapsulation), encapsulation.default_port());
    ovs.vsctl(&format!(
        "add-br int -- set bridge int datapath_type=netdev -- add-port int tun0 -- set interface tun0 {interface} \
         options:remote_ip=192.0.2.1 options:key=42 options:dst_port={port}"
    ))?;
    ovs.tap("int", &ovs_host, "")?;
    ovs_host.address("eth0", "10.9.0.2/24")?;
    ovs_host.up("eth0")?;
    // Behind UDP and the tunnel's header: the group that probes go to.
    let filter = format!("udp dst port {port} and udp[16:4] = 0x0180c200 and udp[20:2] = 0x0001");
    let tunnel = Capture::start(&there, "u0", &["-Q", "in", &filter])?;
    let through = Capture::start(&ovs_host, "eth0", &[&format!("ether dst {}", probe::GROUP)])?;
    let weft = Weft::start(
        &here,
        &format!(
            r#"
            {}
            [vtep]
            address = "192.0.2.1"
            encapsulation = "{encapsulation}"
            [[bridge]]
            name = "blue"
            vni = 42
            remotes = ["192.0.2.2"]
            [[port]]
            name = "eth0"
            netns = "{}"
            bridge = "blue"
            address = ["10.9.0.1/24"]
            {}
            "#,
            shape.switch(),
            weft_host.full_name(),
            shape.port_line()
        ),
    )?;
    becomes_reachable(&weft_host, "10.9.0.2")?;
    for payload_len in [0, 1, 56, 1400, 1472, 1473, 4000] {
        ping(&weft_host, "10.9.0.2", payload_len)?;
        ping(&ovs_host, "10.9.0.1", payload_len)?;
    }
    stream(&weft_host, &ovs_host, "10.9.0.2".parse()?, byte_count)?;
    stream(&ovs_host, &weft_host, "10.9.0.1".parse()?, byte_count)?;
    let mac = ovs_host.link("eth0")?.mac.map(|mac| mac.to_string()).unwrap_or_default();
    let place = weft.whereabouts("blue", &mac)?;
    ensure!(place.as_deref().is_some_and(|place| place.starts_with("192.0.2.2")), "{mac} is at {place:?}");
    overlooks_probes(&weft, &ovs, &tunnel, &through)?;
    weft.ledger_balances()?;
    Ok(())
}

/// weft's probes in the tunnel have come to Open vSwitch, which has passed none on and learned nothing of them: the path is
/// measured by other means.
fn overlooks_probes(weft: &Weft, ovs: &Ovs, tunnel: &Capture, through: &Capture) -> anyhow::Result<()> {
    tunnel.wait_for("a probe in the tunnel", 1, |_| true)?;
    eventually("the path is measured", std::time::Duration::from_secs(20), || {
        let vtep = &weft.show("mtu")?["vteps"][0];
        Ok(vtep["path_mtu"] == 1550 && vtep["state"] == "measured" && vtep["method"] == "echo")
    })?;
    let passed = through.frames()?;
    ensure!(passed.is_empty(), "{} probes went on to a host", passed.len());
    let own = probe::own_address("192.0.2.1".parse().context("an address")?, 0).to_string();
    let learned = ovs.appctl("fdb/show", &["int"])?;
    ensure!(!learned.contains(&own), "{own} is learned:\n{learned}");
    Ok(())
}
