//! Namespaces, netlink and labs against the kernel: topologies work, nothing is left behind, errors say what is wrong.

// Clippy takes only what the standard harness runs for tests.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result, clippy::print_stdout)]

mod beside;
mod by_hand;
mod capture;
mod command;
mod full_kernel;
mod netlink;

use std::{
    error::Error,
    fs,
    io::{self, Read},
    net::{IpAddr, UdpSocket},
    os::unix::process::{CommandExt, ExitStatusExt},
    panic::{self, AssertUnwindSafe},
    path::Path,
    process::{self, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use weft::{
    control::link::Links,
    lab::{BridgeOptions, BridgePortFlag, Lab, Namespace, Signal, VxlanOptions},
    sys::netns::{self, Netns},
};
use weft_integration::{Needs, main_with_threads_and_alone, trial};
use weft_vxlan::Vni;

/// No namespace of another test begins so.
const PREFIX: &str = "weft-labtest";
/// Labs whose makers are killed have a prefix of their own, so that no other test's clean-up takes them away.
const KILLED_PREFIX: &str = "weft-labkill";
/// Set in the environment of this very program: be the other process of a test, and which.
const CHILD: &str = "WEFT_LAB_CHILD";
/// Names a namespace to that process.
const OTHER: &str = "WEFT_LAB_OTHER";
/// No wait of these tests is shorter on a busy machine than it has to be.
const LONG: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if let Some(way) = std::env::var_os(CHILD) {
        let work = match way.to_str() {
            Some("unprivileged") => try_without_privileges(),
            way => build_and_wait(way == Some("signals")),
        };
        return match work {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        };
    }
    // What an earlier run left that was killed. Without privileges nothing can be, and each test says so itself.
    let _ = Lab::remove_stale(PREFIX);
    let root = Needs::ROOT;
    let ping = Needs::ROOT.programs(&["ping"]);
    let ip = Needs::ROOT.programs(&["ip"]);
    let tap = Needs::ROOT_AND_TUN.programs(&["ip"]);
    // By far the longest.
    let mut tests = full_kernel::tests();
    tests.extend([
        trial("kernel_bridges_and_vxlan_devices_ping_over_an_ipv4_underlay", ping, || overlay_pings(Family::V4)),
        trial("kernel_bridges_and_vxlan_devices_ping_over_an_ipv6_underlay", ping, || overlay_pings(Family::V6)),
        trial("dropping_a_lab_leaves_nothing", root, dropping_leaves_nothing),
        trial("a_panic_leaves_nothing", root, a_panic_leaves_nothing),
        trial("a_removed_lab_is_gone_whoever_removes_it", root, removing_from_elsewhere),
        trial("what_a_killed_process_left_is_removed_later", root, sigkill_then_remove_stale),
        trial("signals_remove_the_lab", root, signals_remove_the_lab),
        trial("twenty_labs_live_side_by_side", ping, twenty_labs),
        trial("a_sysctl_belongs_to_its_namespace", root, sysctls_stay_inside),
        trial("working_within_moves_what_is_made_and_not_the_caller", root, within_moves_nobody),
        trial("the_lock_of_a_namespace_is_seen_through_its_name", root, the_lock_is_seen),
        trial("link_events_tell_of_up_down_mtu_and_deletion", root, netlink::link_events),
        trial("leaving_a_bridge_is_no_deletion", root, netlink::leaving_a_bridge),
        trial("lost_link_events_are_told", root, netlink::lost_events_are_told),
        trial("a_tap_takes_mac_mtu_and_addresses", tap, netlink::a_tap_takes_settings),
        trial("the_underlay_is_found_by_address_and_by_route", root, netlink::the_underlay_is_found),
        trial("vxlan_devices_are_listed_with_their_ports", root, netlink::vxlan_devices_are_listed),
        trial("device_options_reach_the_kernel", ip, options_reach_the_kernel),
        trial("errors_name_interface_namespace_and_the_kernels_words", root, errors_read_well),
        trial("without_privileges_it_is_said_what_is_missing", root, without_privileges),
    ]);
    tests.extend(command::tests());
    tests.extend(by_hand::tests());
    tests.extend(capture::tests());
    tests.extend(beside::tests());
    // These would only hold up others.
    tests.sort_by_key(|test| full_kernel::waits(test.name()));
    main_with_threads_and_alone(4, tests, beside::figures())
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// host1 - [bridge vxlan] == underlay == [vxlan bridge] - host2, all by the kernel.
fn overlay_pings(underlay: Family) -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let switches = [lab.namespace("switch1")?, lab.namespace("switch2")?];
    let hosts = [lab.namespace("host1")?, lab.namespace("host2")?];
    let (addresses, len) = match underlay {
        Family::V4 => (["192.0.2.1", "192.0.2.2"], 24),
        Family::V6 => (["2001:db8::1", "2001:db8::2"], 64),
    };
    lab.veth((&switches[0], "under0"), (&switches[1], "under0"), 1600)?;
    for (side, (switch, host)) in switches.iter().zip(&hosts).enumerate() {
        switch.address("under0", &format!("{}/{len}", addresses[side]))?;
        switch.bridge("br0", &BridgeOptions::default())?;
        let options = VxlanOptions::new(Vni::new(42).unwrap(), addresses[side].parse()?)
            .remotes([addresses[1 - side].parse::<IpAddr>()?]);
        switch.vxlan("vx0", &options)?;
        switch.enslave("vx0", "br0")?;
        lab.veth((host, "eth0"), (switch, "port0"), 1450)?;
        switch.enslave("port0", "br0")?;
        host.address("eth0", &format!("10.0.0.{}/24", side + 1))?;
        host.address("eth0", &format!("fd00::{}/64", side + 1))?;
    }
    // The IPv6 ping works at once, though nobody has looked for duplicates of the address.
    hosts[0].run(&["ping", "-6", "-c1", "-W5", "fd00::2"])?.ok()?;
    hosts[0].run(&["ping", "-c3", "-i0.1", "-W5", "-s1400", "-Mdo", "10.0.0.2"])?.ok()?;
    hosts[1].run(&["ping", "-6", "-c1", "-W5", "-s1400", "fd00::1"])?.ok()?;
    Ok(())
}

/// A lab with everything that could be left behind: a cable to a witness outside it, a bridge, a program that is waited
/// for, and one that has run away from its owner.
fn busy_lab(prefix: &str, witness: &Namespace) -> anyhow::Result<(Lab, Traces)> {
    let lab = Lab::new(prefix);
    let namespace = lab.namespace("busy")?;
    lab.veth((&namespace, "out"), (witness, "in"), 1500)?;
    namespace.bridge("br0", &BridgeOptions::default())?;
    let script = "setsid sh -c 'echo $$; exec sleep 1000 >/dev/null 2>&1' & wait";
    let mut owner = namespace.command("sh").args(["-c", script]).spawn()?;
    owner.wait_for("\n", LONG)?;
    let pid = owner.stdout().trim().to_owned();
    drop(owner);
    ensure!(is_alive(&pid), "it is in another process group");
    let traces = Traces { name: namespace.full_name().to_owned(), runaway: pid };
    ensure!(Path::new(&format!("/run/netns/{}", traces.name)).exists());
    ensure!(mentions("/proc/self/mountinfo", &traces.name)?, "the namespace is mounted under its name");
    ensure!(witness.link("in").is_ok());
    Ok((lab, traces))
}

/// By what one would notice that a lab was left behind.
struct Traces {
    name: String,
    runaway: String,
}

impl Traces {
    fn assert_gone(&self, witness: &Namespace) -> anyhow::Result<()> {
        ensure!(!netns::names()?.contains(&self.name), "{} still has its name", self.name);
        ensure!(!mentions("/proc/self/mountinfo", &self.name)?, "{} is still mounted", self.name);
        // The kernel takes a namespace apart some time after its last reference has gone.
        eventually("the namespace is gone, and with it the other end of its cable", || witness.link("in").is_err())?;
        eventually("the program inside is gone", || !is_alive(&self.runaway))
    }
}

fn dropping_leaves_nothing() -> anyhow::Result<()> {
    let outside = Lab::new(PREFIX);
    let witness = outside.namespace("witness")?;
    let (lab, traces) = busy_lab(PREFIX, &witness)?;
    ensure!(is_alive(&traces.runaway));
    drop(lab);
    traces.assert_gone(&witness)
}

fn a_panic_leaves_nothing() -> anyhow::Result<()> {
    let outside = Lab::new(PREFIX);
    let witness = outside.namespace("witness")?;
    let mut traces = None;
    let panicked = panic::catch_unwind(AssertUnwindSafe(|| {
        let (_lab, found) = busy_lab(PREFIX, &witness).unwrap();
        traces = Some(found);
        panic::resume_unwind(Box::new("as if a test failed"));
    }));
    ensure!(panicked.is_err());
    traces.context("the lab was built")?.assert_gone(&witness)
}

fn removing_from_elsewhere() -> anyhow::Result<()> {
    let outside = Lab::new(PREFIX);
    let witness = outside.namespace("witness")?;
    let (lab, traces) = busy_lab(PREFIX, &witness)?;
    let remover = lab.remover();
    thread::spawn(move || remover.remove()).join().unwrap()?;
    traces.assert_gone(&witness)?;
    lab.remove().context("removing twice is no error")?;
    let late = lab.namespace("late").err().context("nothing can be added afterwards")?;
    ensure!(late.to_string().contains("the lab was removed"), "{late}");
    Ok(())
}

/// What the child process does: builds a lab, tells its name, and waits to be ended.
fn build_and_wait(remove_on_signals: bool) -> anyhow::Result<()> {
    let lab = Lab::new(KILLED_PREFIX);
    let namespace = lab.namespace("orphan")?;
    namespace.bridge("d0", &BridgeOptions::default())?;
    let mut program = namespace.command("sleep").arg("1000").spawn()?;
    // Of the labs of one process, which may have had others before, a signal removes all.
    let other = Lab::new(KILLED_PREFIX);
    if remove_on_signals {
        Lab::new(KILLED_PREFIX).remove_on_signals()?;
        lab.remove_on_signals()?;
        other.remove_on_signals()?;
        other.namespace("other")?;
    }
    println!("{} {}", namespace.full_name(), program.id());
    program.wait(LONG * 10)?;
    bail!("nobody ended this process")
}

/// Starts this program as such a process; gives it, its namespace's name and the id of the program inside.
fn child(way: &str) -> anyhow::Result<(process::Child, String, String)> {
    let mut child = process::Command::new(std::env::current_exe()?).env(CHILD, way).stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    let stdout = child.stdout.as_mut().context("captured")?;
    while !said.ends_with('\n') {
        let mut byte = [0];
        ensure!(stdout.read(&mut byte)? == 1, "the child ended early");
        said.push(byte[0].into());
    }
    let (name, program) = said.trim().split_once(' ').context("two words")?;
    Ok((child, name.to_owned(), program.to_owned()))
}

fn sigkill_then_remove_stale() -> anyhow::Result<()> {
    let living = Lab::new(KILLED_PREFIX);
    let kept = living.namespace("kept")?;
    let (mut child, name, program) = child("waits")?;
    ensure!(!Lab::remove_stale(KILLED_PREFIX)?.contains(&name), "its maker lives");
    child.kill()?;
    child.wait()?;
    ensure!(netns::names()?.contains(&name), "nobody was there to remove it");
    ensure!(is_alive(&program));
    ensure!(Lab::remove_stale(&format!("{KILLED_PREFIX}-other"))?.is_empty(), "another prefix");
    ensure!(netns::names()?.contains(&name));
    let removed = Lab::remove_stale(KILLED_PREFIX)?;
    ensure!(removed.contains(&name), "{removed:?}");
    ensure!(!netns::names()?.contains(&name) && !mentions("/proc/self/mountinfo", &name)?);
    eventually("the program inside is gone", || !is_alive(&program))?;
    ensure!(netns::names()?.contains(&kept.full_name().to_owned()), "a living lab stays");
    kept.link("lo")?;
    Ok(())
}

fn signals_remove_the_lab() -> anyhow::Result<()> {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (mut child, name, program) = child("signals")?;
        let status = process::Command::new("kill")
            .args(["-s", &signal.as_raw().to_string(), &child.id().to_string()])
            .status()?;
        ensure!(status.success());
        let status = child.wait()?;
        ensure!(status.code() == Some(130), "{signal:?}: {status} (signal {:?})", status.signal());
        let labs = format!("{KILLED_PREFIX}-{}-", child.id());
        let left: Vec<_> = netns::names()?.into_iter().filter(|name| name.starts_with(&labs)).collect();
        ensure!(name.starts_with(&labs) && left.is_empty(), "{signal:?} left {left:?}");
        eventually("the program inside is gone", || !is_alive(&program))?;
    }
    Ok(())
}

fn twenty_labs() -> anyhow::Result<()> {
    let build = || -> anyhow::Result<[String; 2]> {
        let lab = Lab::new(PREFIX);
        let (left, right) = (lab.namespace("left")?, lab.namespace("right")?);
        lab.veth((&left, "eth0"), (&right, "eth0"), 1500)?;
        left.address("eth0", "10.0.0.1/24")?;
        right.address("eth0", "10.0.0.2/24")?;
        left.run(&["ping", "-c1", "-W10", "10.0.0.2"])?.ok()?;
        Ok([left, right].map(|namespace| namespace.full_name().to_owned()))
    };
    let built = thread::scope(|scope| {
        let labs: Vec<_> = (0..20).map(|_| scope.spawn(build)).collect();
        labs.into_iter().map(|lab| lab.join().unwrap()).collect::<anyhow::Result<Vec<_>>>()
    })?;
    let mut names: Vec<_> = built.into_iter().flatten().collect();
    names.sort_unstable();
    names.dedup();
    ensure!(names.len() == 40, "each has a name of its own");
    let left = netns::names()?;
    ensure!(!names.iter().any(|name| left.contains(name)), "all are gone");
    Ok(())
}

fn sysctls_stay_inside() -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let (one, other) = (lab.namespace("one")?, lab.namespace("other")?);
    one.sysctl("net.ipv4.ip_forward", "1")?;
    ensure!(one.sysctl_value("net.ipv4.ip_forward")? == "1");
    ensure!(other.sysctl_value("net.ipv4.ip_forward")? == "0");
    one.bridge("br.10", &BridgeOptions::default())?;
    one.sysctl("net.ipv6.conf.br/10.disable_ipv6", "1")?;
    ensure!(one.sysctl_value("net.ipv6.conf.br/10.disable_ipv6")? == "1");
    if Path::new("/proc/sys/net/bridge").exists() {
        for table in ["iptables", "ip6tables", "arptables"] {
            let value = one.sysctl_value(&format!("net.bridge.bridge-nf-call-{table}"))?;
            ensure!(value == "0", "netfilter is kept off the bridge");
        }
    }
    let error = one.sysctl("net.no.such", "1").unwrap_err();
    ensure!(error.to_string() == "lab: can't set net.no.such to 1 in one", "{error}");
    Ok(())
}

fn within_moves_nobody() -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let namespace = lab.namespace("there")?;
    let before = Netns::own()?;
    let (inside, socket) = namespace.within(|| (Netns::own(), UdpSocket::bind("127.0.0.1:0")))?;
    ensure!(inside?.same_as(namespace.netns()));
    ensure!(Netns::own()?.same_as(&before) && !before.same_as(namespace.netns()));
    ensure!(Netns::open(namespace.path())?.same_as(&Netns::named(namespace.full_name())?));
    // The socket stays where it was made: what it is sent from out here doesn't arrive, what is sent in there does.
    let socket = socket?;
    let address = socket.local_addr()?;
    let sent = namespace.within(|| UdpSocket::bind("127.0.0.1:0")?.send_to(b"inside", address))?;
    sent?;
    socket.set_read_timeout(Some(LONG))?;
    let mut buffer = [0; 16];
    let (len, _) = socket.recv_from(&mut buffer)?;
    ensure!(&buffer[..len] == b"inside");
    let program = namespace.command("sleep").arg("1000").spawn()?;
    ensure!(Netns::of_pid(program.id())?.same_as(namespace.netns()), "a program started inside is inside");
    Ok(())
}

fn the_lock_is_seen() -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let namespace = lab.namespace("locked")?;
    let name = namespace.full_name().to_owned();
    ensure!(!Netns::named(&name)?.try_lock()?, "the lab holds it");
    let error = namespace.netns().bind_name(&name).unwrap_err();
    ensure!(error.kind() == io::ErrorKind::AlreadyExists, "{error}");
    drop((lab, namespace));
    netns::remove_name(&name).context("that there is no such name is no error")
}

fn options_reach_the_kernel() -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let (one, other) = (lab.namespace("one")?, lab.namespace("other")?);
    lab.veth((&one, "under0"), (&other, "under0"), 1550)?;
    ensure!((one.link("under0")?.mtu, other.link("under0")?.mtu) == (1550, 1550));
    let mac = "02:00:00:00:00:99".parse()?;
    let vxlan = VxlanOptions {
        port: 4799,
        learning: false,
        ttl: Some(100),
        tos: Some(1),
        udp_checksum: false,
        df: weft::control::config::Df::Set,
        ageing: Some(Duration::from_secs(30)),
        source_ports: Some((50000, 50010)),
        device: Some("under0".into()),
        mac: Some(mac),
        ..VxlanOptions::new(Vni::new(99).unwrap(), "192.0.2.1".parse()?)
    }
    .remotes(["192.0.2.2".parse::<IpAddr>()?, "192.0.2.3".parse()?]);
    one.vxlan("vx0", &vxlan)?;
    let shown = one.run(&["ip", "-d", "link", "show", "vx0"])?.ok()?.stdout;
    for part in [
        "vxlan id 99",
        "local 192.0.2.1",
        "dev under0",
        "srcport 50000 50010",
        "dstport 4799",
        "nolearning",
        "ttl 100",
        "tos inherit",
        "df set",
        "ageing 30",
        "noudpcsum",
        "mtu 1500",
        "02:00:00:00:00:99",
    ] {
        ensure!(shown.contains(part), "{part:?} is not in {shown}");
    }
    let shown = one.run(&["bridge", "fdb", "show", "dev", "vx0"])?.ok()?.stdout;
    for remote in ["00:00:00:00:00:00 dst 192.0.2.2 self permanent", "00:00:00:00:00:00 dst 192.0.2.3 self permanent"] {
        ensure!(shown.contains(remote), "{shown}");
    }
    let bridge =
        BridgeOptions { ageing: Duration::from_secs(10), group_fwd_mask: 8, mac: Some(mac), ..Default::default() };
    one.bridge("br0", &bridge)?;
    one.enslave("vx0", "br0")?;
    one.bridge_port("vx0", BridgePortFlag::Hairpin, true)?;
    one.bridge_port("vx0", BridgePortFlag::Learning, false)?;
    one.fdb_static("vx0", "02:00:00:00:00:55".parse()?)?;
    let shown = one.run(&["ip", "-d", "link", "show", "br0"])?.ok()?.stdout;
    for part in ["ageing_time 1000 ", "group_fwd_mask 0x8 ", "mcast_snooping 0 ", "02:00:00:00:00:99", "stp_state 0"] {
        ensure!(shown.contains(part), "{part:?} is not in {shown}");
    }
    let shown = one.run(&["ip", "-d", "link", "show", "vx0"])?.ok()?.stdout;
    ensure!(
        shown.contains("hairpin on") && shown.contains("bridge_slave") && shown.contains("learning off"),
        "{shown}"
    );
    let shown = one.run(&["bridge", "fdb", "show", "dev", "vx0"])?.ok()?.stdout;
    ensure!(shown.contains("02:00:00:00:00:55 master br0 static"), "{shown}");
    one.neighbour("under0", "192.0.2.2".parse()?, mac)?;
    let shown = one.run(&["ip", "neighbour", "show", "dev", "under0"])?.ok()?.stdout;
    ensure!(shown.contains("192.0.2.2 lladdr 02:00:00:00:00:99 PERMANENT"), "{shown}");
    one.macvlan("mv0", "under0")?;
    ensure!(one.link("mv0")?.kind.as_deref() == Some("macvlan"));
    Ok(())
}

fn errors_read_well() -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let namespace = lab.namespace("host")?;
    let place = format!("namespace {}", namespace.full_name());
    namespace.bridge("d0", &BridgeOptions::default())?;
    let said = |result: Result<(), weft::lab::LabError>, expected: &str| {
        let expected = expected.replace("HOST", &place);
        let found = chain(&result.err().context(expected.clone())?);
        // A * is for the kernel's sentence where its wording differs from version to version.
        let (start, end) = expected.split_once('*').unwrap_or((&expected, ""));
        let fits = found.starts_with(start) && found.ends_with(end);
        ensure!(fits && (expected.contains('*') || found == expected), "{found:?} instead of {expected:?}");
        Ok(())
    };
    said(
        namespace.bridge("d0", &BridgeOptions::default()),
        "d0 in HOST: can't make a bridge: File exists (os error 17)",
    )?;
    said(namespace.up("d1"), "no such interface: d1 in HOST")?;
    said(namespace.address("d1", "10.0.0.1/24"), "no such interface: d1 in HOST")?;
    said(
        namespace.address("d0", "10.0.0.1"),
        "lab: \"10.0.0.1\" is no address with prefix length, such as 10.0.0.1/24",
    )?;
    namespace.address("d0", "10.0.0.1/24")?;
    said(namespace.address("d0", "10.0.0.1/24"), "d0 in HOST: can't add 10.0.0.1/24: *File exists (os error 17))")?;
    said(
        namespace.mtu("d0", 10),
        "d0 in HOST: can't set the MTU to 10: mtu less than device minimum (Invalid argument (os error 22))",
    )?;
    said(
        namespace.bridge("a_name_of_16_byt", &BridgeOptions::default()),
        "\"a_name_of_16_byt\" in HOST: can't be an interface's name: 1 to 15 characters, no slash, colon or space",
    )?;
    said(
        namespace.route("10.9.0.0/16", "10.8.0.1".parse()?),
        "10.9.0.0/16 in HOST: can't add a route via 10.8.0.1: *Network is unreachable (os error 101))",
    )?;
    said(namespace.enslave("d0", "br9"), "no such interface: br9 in HOST")?;
    Ok(())
}

/// The same program as nobody, inside a namespace.
fn without_privileges() -> anyhow::Result<()> {
    const NOBODY: u32 = 65534;
    let lab = Lab::new(PREFIX);
    let (host, other) = (lab.namespace("host")?, lab.namespace("other")?);
    // The path by which this program was started need not be open to everybody; this one is.
    let mut nobody = process::Command::new("/proc/self/exe");
    nobody.uid(NOBODY).gid(NOBODY).env(CHILD, "unprivileged").env(OTHER, other.full_name());
    let output = host.within(|| nobody.output())??;
    let expected = format!(
        "lo in weft's own namespace: can't set the MTU to 1400: Operation not permitted (os error 1)\n\
         can't enter namespace {}: Operation not permitted (os error 1) (are you root?)\n\
         the own namespace needs no entering\n\
         lab: can't make namespace NAME: can't make a new namespace: Operation not permitted (os error 1) (are you root?)\n",
        other.full_name()
    );
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said == expected, "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What that program does: tries what it may not, and tells what is said about it.
fn try_without_privileges() -> anyhow::Result<()> {
    let own = Netns::own()?;
    let change = netlink::block_on(async || Ok(Links::open(&own)?.set_mtu("lo", 1400).await))?;
    println!("{}", chain(&change.unwrap_err()));
    let other = Netns::named(&std::env::var(OTHER)?)?;
    println!("{}", other.within(|| ()).unwrap_err());
    own.within(|| println!("the own namespace needs no entering"))?;
    let lab = Lab::new(PREFIX);
    let name = format!("{PREFIX}-{}-0-mine", process::id());
    println!("{}", chain(&lab.namespace("mine").unwrap_err()).replace(&name, "NAME"));
    Ok(())
}

/// An error with its causes, as the command line shows it.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn eventually(what: &str, holds: impl Fn() -> bool) -> anyhow::Result<()> {
    let start = Instant::now();
    while !holds() {
        ensure!(start.elapsed() < LONG, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn mentions(path: &str, text: &str) -> anyhow::Result<bool> {
    Ok(fs::read_to_string(path)?.contains(text))
}

fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| !status.contains("State:\tZ"))
}
