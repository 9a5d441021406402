//! What many kernels are built without: the VLAN-aware bridge with VLAN interfaces, and the Geneve device.
//!
//! There the tests start themselves again on Debian's kernel in an emulated machine (`integration/full-kernel/run`), one boot
//! for all of them, and their outcome is that of the tests inside.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
    time::Instant,
};

use anyhow::{Context, anyhow, ensure};
use libtest_mimic::Trial;
use weft::lab::{BridgeOptions, Lab, Namespace};
use weft_integration::{
    Needs, REQUIRE_ALL,
    exchange::stream,
    shape::{Shape, in_shapes},
    trial,
    weft::Weft,
};

use crate::{
    PREFIX,
    capture::Capture,
    traffic::{becomes_reachable, ping, tcp},
    trunk::{Trunk, VLANS, peer_address, weft_address},
};

const TRUNK: &str = "a_kernel_bridge_with_vlan_filtering_and_weft_share_a_trunk";
const GENEVE: &str = "the_kernels_geneve_device_and_weft_are_vteps_of_one_overlay";
/// Set in the environment of the tests inside the emulated machine, which must not look for another one.
const INSIDE: &str = "WEFT_FULL_KERNEL";
/// The emulated machine is slow: each value once.
const EMULATED: [Shape; 2] = [Shape::ALL[0], Shape::ALL[3]];
/// A frame this long is a super-frame, if only of two segments.
const SUPER_FRAME: usize = 2000;

/// Whether this is the emulated machine, where there are no other tests.
pub(crate) fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

pub(crate) fn tests() -> Vec<Trial> {
    let of_trunk = Needs::ROOT_AND_TUN.programs(&["tcpdump", "ping", "bridge"]);
    let of_geneve = Needs::ROOT_AND_TUN.programs(&["ping", "ip"]);
    if is_inside() {
        let trunk = |shape| {
            ensure!(has_vlan_filtering()?, "the full kernel has no VLAN filtering");
            share_a_trunk(shape, 1_000_000)
        };
        let geneve = |shape| {
            ensure!(has_geneve()?, "the full kernel has no Geneve");
            geneve_overlays(shape, 1_000_000)
        };
        let mut tests = in_shapes(&EMULATED, &[(TRUNK, of_trunk, trunk)]);
        tests.extend(in_shapes(&EMULATED[..1], &[(GENEVE, of_geneve, geneve)]));
        return tests;
    }
    let trunk = || match has_vlan_filtering()? {
        true => in_all_shapes(|shape| share_a_trunk(shape, 20_000_000)),
        false => on_the_full_kernel(TRUNK, &EMULATED),
    };
    let geneve = || match has_geneve()? {
        true => in_all_shapes(|shape| geneve_overlays(shape, 100_000_000)),
        false => on_the_full_kernel(GENEVE, &EMULATED[..1]),
    };
    vec![trial(TRUNK, of_trunk, trunk), trial(GENEVE, of_geneve, geneve)]
}

fn in_all_shapes(test: impl Fn(Shape) -> anyhow::Result<()>) -> anyhow::Result<()> {
    Shape::ALL.into_iter().try_for_each(|shape| test(shape).with_context(|| shape.to_string()))
}

/// Whether a bridge with VLAN filtering and a VLAN interface can be made.
fn has_vlan_filtering() -> anyhow::Result<bool> {
    let lab = Lab::new(PREFIX);
    let host = lab.namespace("probe")?;
    let bridge = host.bridge("br0", &BridgeOptions { vlan_filtering: true, ..Default::default() }).is_ok();
    let shown = host.run(&["bridge", "vlan", "show", "dev", "br0"])?;
    let vlan = host.run(&["ip", "link", "add", "link", "br0", "name", "v0", "type", "vlan", "id", "10"])?;
    Ok(bridge && shown.stdout.contains("PVID") && vlan.success())
}

/// Whether a Geneve device can be made.
fn has_geneve() -> anyhow::Result<bool> {
    let lab = Lab::new(PREFIX);
    let host = lab.namespace("probe")?;
    let made = host.run(&["ip", "link", "add", "g0", "type", "geneve", "id", "42", "remote", "192.0.2.1"])?;
    Ok(made.success())
}

/// What came of all tests inside; who asks first has the machine booted.
fn inside() -> &'static Result<String, String> {
    static OUTCOME: OnceLock<Result<String, String>> = OnceLock::new();
    OUTCOME.get_or_init(|| {
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("full-kernel/run");
        let mut command = Command::new(run);
        command.args(["--", "env"]).arg(format!("{INSIDE}=1")).arg(format!("{REQUIRE_ALL}=1"));
        let this = env::current_exe().map_err(|error| error.to_string())?;
        command.arg(this).stdin(Stdio::null());
        let output = command.output().map_err(|error| format!("full-kernel/run can't be started: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        if said.contains("test result:") { Ok(said) } else { Err(format!("{}\n{said}{complained}", output.status)) }
    })
}

fn on_the_full_kernel(name: &str, shapes: &[Shape]) -> anyhow::Result<()> {
    let said = inside().as_ref().map_err(|error| anyhow!("on the full kernel: {error}"))?;
    println!("{said}");
    let passed = |shape: &Shape| said.contains(&format!("passed: {name} [{shape}]"));
    ensure!(shapes.iter().all(passed), "on the full kernel:\n{said}");
    Ok(())
}

/// Says so where [`on_the_full_kernel`] can read it: what other tests print may come between the name of a test and its result.
fn passed(name: &str, shape: Shape) {
    println!("passed: {name} [{shape}]");
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
    passed(TRUNK, shape);
    Ok(())
}

/// Over both underlays, the second with an option that the kernel's device knows nothing about and passes over.
fn geneve_overlays(shape: Shape, byte_count: usize) -> anyhow::Result<()> {
    let option = "geneve_option = [{ class = 0xff01, type = 1, data = \"c0ffee00\" }]";
    geneve_overlay(shape, (["192.0.2.1", "192.0.2.2"], "24"), ("", 1450), byte_count).context("over IPv4")?;
    geneve_overlay(shape, (["2001:db8::1", "2001:db8::2"], "64"), (option, 1422), byte_count).context("over IPv6")?;
    passed(GENEVE, shape);
    Ok(())
}

fn geneve_overlay(
    shape: Shape,
    ([near, far], prefix_len): ([&str; 2], &str),
    (option, mtu): (&str, u32),
    byte_count: usize,
) -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let (here, there, host) = (lab.namespace("here")?, lab.namespace("there")?, lab.namespace("host")?);
    lab.veth((&here, "u0"), (&there, "u0"), 1500)?;
    here.address("u0", &format!("{near}/{prefix_len}"))?;
    there.address("u0", &format!("{far}/{prefix_len}"))?;
    there.run(&["ip", "link", "add", "g0", "type", "geneve", "id", "42", "remote", near, "dstport", "6081"])?.ok()?;
    there.address("g0", "10.9.0.2/24")?;
    // All stations of a bridge have one MTU: weft's tap leaves room for the option.
    there.mtu("g0", mtu)?;
    there.up("g0")?;
    let config = format!(
        "{}\n[vtep]\naddress = \"{near}\"\nencapsulation = \"geneve\"\n[[bridge]]\nname = \"blue\"\nvni = 42\n\
         remotes = [\"{far}\"]\n{option}\n\n{}",
        shape.switch(),
        shape.port(host.full_name(), "eth0", "address = [\"10.9.0.1/24\"]\n"),
    );
    let weft = Weft::start(&here, &config)?;
    becomes_reachable(&host, "10.9.0.2")?;
    let device = there.link("g0")?;
    for payload_len in [0, 56, 1300, 4000] {
        ping(&host, "10.9.0.2", payload_len)?;
        ping(&there, "10.9.0.1", payload_len)?;
    }
    stream(&host, &there, "10.9.0.2".parse()?, byte_count)?;
    stream(&there, &host, "10.9.0.1".parse()?, byte_count)?;
    let mac = device.mac.map(|mac| mac.to_string()).unwrap_or_default();
    let place = weft.whereabouts("blue", &mac)?;
    ensure!(place.as_deref().is_some_and(|place| place.contains(far)), "{mac} is at {place:?}");
    weft.ledger_comes_to_balance()
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
