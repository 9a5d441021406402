//! The kernel's VLAN-aware bridge and its VLAN interfaces.
//!
//! Many kernels are built without either. There the test starts itself again on Debian's kernel in an emulated machine
//! (`integration/full-kernel/run`), one boot for all cases, and its outcome is that of the test inside.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use weft::lab::{BridgeOptions, Lab, Namespace};
use weft_integration::{
    Needs, REQUIRE_ALL,
    shape::{Shape, in_shapes},
    trial,
};

use crate::{
    PREFIX,
    capture::Capture,
    traffic::{becomes_reachable, tcp},
    trunk::{Trunk, VLANS, peer_address, weft_address},
};

const NAME: &str = "a_kernel_bridge_with_vlan_filtering_and_weft_share_a_trunk";
/// Set in the environment of the test inside the emulated machine, which must not look for another one.
const INSIDE: &str = "WEFT_FULL_KERNEL";
/// The emulated machine is slow: each value once.
const EMULATED: [Shape; 2] = [Shape::ALL[0], Shape::ALL[3]];
/// A frame this long is a super-frame, if only of two segments.
const SUPER_FRAME: usize = 2000;

pub(crate) fn tests() -> Vec<Trial> {
    let needs = Needs::ROOT_AND_TUN.programs(&["tcpdump", "ping", "bridge"]);
    if env::var_os(INSIDE).is_some() {
        let inside = |shape| {
            ensure!(this_kernel_can()?, "the full kernel has no VLAN filtering");
            share_a_trunk(shape, 1_000_000)
        };
        return in_shapes(&EMULATED, &[(NAME, needs, inside)]);
    }
    vec![trial(NAME, needs, kernel_bridge)]
}

fn kernel_bridge() -> anyhow::Result<()> {
    if !this_kernel_can()? {
        // One boot for all shapes.
        return on_the_full_kernel();
    }
    Shape::ALL.into_iter().try_for_each(|shape| share_a_trunk(shape, 20_000_000).with_context(|| shape.to_string()))
}

/// Whether a bridge with VLAN filtering and a VLAN interface can be made.
fn this_kernel_can() -> anyhow::Result<bool> {
    let lab = Lab::new(PREFIX);
    let host = lab.namespace("probe")?;
    let bridge = host.bridge("br0", &BridgeOptions { vlan_filtering: true, ..Default::default() }).is_ok();
    let shown = host.run(&["bridge", "vlan", "show", "dev", "br0"])?;
    let vlan = host.run(&["ip", "link", "add", "link", "br0", "name", "v0", "type", "vlan", "id", "10"])?;
    Ok(bridge && shown.stdout.contains("PVID") && vlan.success())
}

fn on_the_full_kernel() -> anyhow::Result<()> {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("full-kernel/run");
    let mut command = Command::new(run);
    command.args(["--", "env"]).arg(format!("{INSIDE}=1")).arg(format!("{REQUIRE_ALL}=1"));
    command.arg(env::current_exe()?).args([NAME, "--nocapture"]).stdin(Stdio::null());
    let output = command.output().context("full-kernel/run can't be started")?;
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    let passed = output.status.success() && said.contains(&format!("{} passed", EMULATED.len()));
    ensure!(passed, "on the full kernel: {}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn share_a_trunk(shape: Shape, byte_count: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    let step = |what: &str| println!("{:6.1} s [{shape}]: {what}", started.elapsed().as_secs_f32());
    let trunk = Trunk::new(shape, shape.offload)?;
    let bridge = &trunk.peer;
    bridge.bridge("br0", &BridgeOptions { vlan_filtering: true, ..Default::default() })?;
    for (host, vlan) in trunk.peer_hosts.iter().zip(VLANS) {
        attach(&trunk, host)?;
        vlans(bridge, host.name(), &[&format!("{vlan} pvid untagged")])?;
    }
    attach(&trunk, &trunk.peer_tags)?;
    vlans(bridge, trunk.peer_tags.name(), &["10", "20"])?;
    bridge.enslave("t0", "br0")?;
    vlans(bridge, "t0", &["10", "20", "30 pvid untagged"])?;
    trunk.address_peer_hosts()?;
    trunk.is_ready()?;
    step("every host reaches its VLAN");
    trunk.hosts_meet_in_their_vlan_only()?;
    step("and no other");
    trunk.tagged_frames_go_where_they_belong(true)?;
    step("tagged frames go where they belong");

    let cable = super_frames(&trunk.here, "t0")?;
    for (index, vlan) in VLANS.into_iter().enumerate() {
        tcp(&trunk.weft_hosts[index], &trunk.peer_hosts[index], &peer_address(vlan), byte_count)?;
        tcp(&trunk.peer_hosts[index], &trunk.weft_hosts[index], &weft_address(vlan), byte_count)?;
    }
    // The peer's kernel sends super-frames by a veth whatever its other end can do.
    pass(&cable, [true, shape.offload])?;
    step("TCP crosses the trunk");

    router_on_a_tap(shape, &trunk, byte_count)?;
    step("TCP crosses a tap that is a trunk");
    trunk.weft.ledger_balances()?;
    Ok(())
}

/// A host with VLAN interfaces on a tap of weft's: its kernel puts the tags on and takes them off, and leaves checksums and
/// segmentation to weft nevertheless if it may.
fn router_on_a_tap(shape: Shape, trunk: &Trunk, byte_count: usize) -> anyhow::Result<()> {
    let router = &trunk.router;
    router.up("trunk0")?;
    for vlan in ["10", "20"] {
        let name = format!("trunk0.{vlan}");
        router.run(&["ip", "link", "add", "link", "trunk0", "name", &name, "type", "vlan", "id", vlan])?.ok()?;
        // One subnet a VLAN here, as routers want it.
        router.address(&name, &format!("10.{vlan}.0.1/24"))?;
        router.up(&name)?;
    }
    trunk.weft_hosts[0].address("eth0", "10.10.0.2/24")?;
    trunk.peer_hosts[1].address("eth0", "10.20.0.2/24")?;
    becomes_reachable(router, "10.10.0.2")?;
    becomes_reachable(router, "10.20.0.2")?;
    let tap = super_frames(router, "trunk0")?;
    tcp(router, &trunk.weft_hosts[0], "10.10.0.2", byte_count)?;
    tcp(&trunk.weft_hosts[0], router, "10.10.0.1", byte_count)?;
    tcp(router, &trunk.peer_hosts[1], "10.20.0.2", byte_count)?;
    tcp(&trunk.peer_hosts[1], router, "10.20.0.1", byte_count)?;
    pass(&tap, [shape.offload; 2])
}

/// Captures the tagged super-frames that pass, in and out.
fn super_frames(namespace: &Namespace, interface: &str) -> anyhow::Result<[Capture; 2]> {
    let filter = format!("vlan and greater {SUPER_FRAME}");
    let capture = |way| Capture::start(namespace, interface, &["-s", "64", "-Q", way, &filter]);
    Ok([capture("in")?, capture("out")?])
}

/// Super-frames passed those ways in which they should, and no other.
fn pass(captures: &[Capture; 2], should: [bool; 2]) -> anyhow::Result<()> {
    for ((capture, way), should) in captures.iter().zip(["in", "out"]).zip(should) {
        let frames = capture.frames()?;
        ensure!(should != frames.is_empty(), "{} tagged super-frames went {way}", frames.len());
        ensure!(frames.iter().all(|frame| frame.ether_type() == Some(0x8100) && frame.len >= SUPER_FRAME));
    }
    Ok(())
}

/// Lays a cable from the bridge, which calls it by the host's name.
fn attach(trunk: &Trunk, host: &Namespace) -> anyhow::Result<()> {
    trunk.cable((&trunk.peer, host.name()), (host, "eth0"))?;
    trunk.peer.enslave(host.name(), "br0")?;
    Ok(())
}

/// Makes a port a member of these VLANs and of no other.
fn vlans(bridge: &Namespace, port: &str, memberships: &[&str]) -> anyhow::Result<()> {
    bridge.run(&["bridge", "vlan", "del", "dev", port, "vid", "1"])?.ok()?;
    for membership in memberships {
        let words = ["bridge", "vlan", "add", "dev", port, "vid"].into_iter().chain(membership.split_whitespace());
        bridge.run(&words.collect::<Vec<_>>())?.ok()?;
    }
    Ok(())
}
