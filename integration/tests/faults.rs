//! What can go wrong around a running switch: namespaces, interfaces and peers vanish, weft itself is killed, a port floods
//! or sends rubbish. Each fault is named, stays where it is, and ends.

// Clippy takes only what the standard harness runs for tests.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

use std::{
    fs,
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use weft::{
    lab::{Lab, Namespace, Signal},
    offload::{Gso, PartialCsum, VnetHeader},
    sys::netns::{self, Netns},
    wire::MacAddr,
};
use weft_integration::{
    Needs, main_with,
    scene::{Pair, Side, Star, port},
    traffic::{EXPERIMENT, Injector, PingTrain, frame, quiet},
    trial,
    weft::{PATIENCE, Weft, eventually},
};

/// No namespace of another test begins so.
const PREFIX: &str = "weft-faults";

fn main() -> ExitCode {
    // What an earlier run left that was killed. Without privileges nothing can be, and each test says so itself.
    let _ = Lab::remove_stale(PREFIX);
    let needs = Needs::ROOT_AND_TUN.programs(&["ping"]);
    let prlimit = Needs::ROOT_AND_TUN.programs(&["ping", "prlimit"]);
    main_with(vec![
        trial("a_deleted_namespace_ends_with_its_port_and_nobody_else_notices", needs, deleted_namespace),
        trial("a_deleted_interface_closes_its_port_until_it_is_asked_for_again", needs, deleted_interface),
        trial("a_port_that_is_gone_keeps_nobody_from_changing_other_things", needs, a_gone_port_blocks_nothing),
        trial("a_port_that_goes_down_is_forgotten_and_works_again_when_up", needs, down_and_up),
        trial("nothing_is_learned_on_a_port_that_is_down", needs, down_under_load),
        trial("a_packet_ports_cable_goes_down_comes_up_and_is_cut", needs, packet_port),
        trial("a_peer_that_nobody_answers_for_stalls_nobody_else", needs, unreachable_peer),
        trial("the_underlays_interface_goes_down_and_comes_back", needs, underlay_down_and_up),
        trial("a_killed_weft_forwards_again_within_two_seconds", needs, killed),
        trial("a_flood_of_addresses_pushes_out_only_its_own", needs, address_flood),
        trial("mutated_frames_of_a_port_harm_nobody", needs, mutated_frames),
        trial("mutated_datagrams_of_the_underlay_harm_nobody", needs, mutated_datagrams),
        trial("without_descriptors_weft_says_what_it_could_not_open", prlimit, no_descriptors_at_start),
        trial("running_out_of_descriptors_closes_no_port", prlimit, no_descriptors_later),
    ])
}

/// A namespace that nothing but its name keeps alive. Its name goes with this.
struct Mortal {
    name: String,
}

impl Mortal {
    fn new() -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // As a lab's, so that the next run finds what a killed one left.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}-mortal", std::process::id());
        Netns::create()?.bind_name(&name)?;
        Ok(Self { name })
    }

    /// A cable whose end in `witness` vanishes with the namespace.
    fn veth(&self, name: &str, witness: &Namespace, end: &str) -> anyhow::Result<()> {
        witness.run(&["ip", "link", "add", end, "type", "veth", "peer", "name", name, "netns", &self.name])?.ok()?;
        witness.up(end)?;
        self.ip(witness, &["link", "set", name, "up"])
    }

    fn ip(&self, from: &Namespace, args: &[&str]) -> anyhow::Result<()> {
        from.run(&[&["ip", "-n", &self.name], args].concat())?.ok()?;
        Ok(())
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        let _ = netns::remove_name(&self.name);
    }
}

fn state(weft: &Weft, port: &str) -> anyhow::Result<String> {
    let ports = weft.show("ports")?;
    let port = ports.as_array().context("ports are a list")?.iter().find(|state| state["name"] == port);
    Ok(port.and_then(|port| port["state"].as_str()).unwrap_or("absent").to_owned())
}

fn ping(from: &Namespace, address: &str) -> anyhow::Result<()> {
    from.run(&["ping", "-n", "-c3", "-i0.05", "-W2", address])?.ok()?;
    Ok(())
}

fn deleted_namespace() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 2)?;
    let (tapped, cabled) = (Mortal::new()?, Mortal::new()?);
    tapped.veth("witness", &star.switch, "w0")?;
    cabled.veth("eth0", &star.switch, "w1")?;
    let config = star.config()
        + &port(&tapped.name, "eth0", "address = [\"10.0.0.8/24\"]")
        + &port(&cabled.name, "eth0", "kind = \"packet\"");
    let mut weft = Weft::start(&star.switch, &config)?;
    ping(&star.hosts[0], "10.0.0.8")?;

    let train = PingTrain::start(&star.hosts[0], &Star::address(1))?;
    let before = Instant::now();
    netns::remove_name(&tapped.name)?;
    netns::remove_name(&cabled.name)?;
    let limit = Duration::from_secs(2);
    for mortal in [&tapped, &cabled] {
        let name = format!("{}/eth0", mortal.name);
        eventually("the port is gone", limit, || Ok(state(&weft, &name)? == "gone"))?;
        ensure!(weft.log().contains(&name) && weft.log().contains("namespace was deleted"), "{}", weft.log());
    }
    let noticed = before.elapsed();
    ensure!(noticed < limit, "noticed after {noticed:?}");
    // The kernel takes a namespace apart some time after its last reference has gone.
    eventually("the namespace of the tap ends", PATIENCE, || Ok(star.switch.link("w0").is_err()))?;
    eventually("the namespace of the cable ends", PATIENCE, || Ok(star.switch.link("w1").is_err()))?;
    train.stop()?.without_gap()?;
    ensure!(weft.process().is_running());
    weft.ledger_balances()?;
    Ok(())
}

fn deleted_interface() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 4)?;
    let wanderer: MacAddr = "02:00:00:00:00:77".parse()?;
    let fixed = format!("[[fdb]]\nbridge = \"blue\"\nmac = \"{wanderer}\"\nport = \"{}\"\n", star.port_name(2));
    let mut weft = Weft::start(&star.switch, &(star.config() + &fixed))?;
    ping(&star.hosts[0], &Star::address(2))?;
    ping(&star.hosts[0], &Star::address(3))?;
    let train = PingTrain::start(&star.hosts[0], &Star::address(1))?;
    for host in [2, 3] {
        star.hosts[host].delete("eth0")?;
        let name = star.port_name(host);
        eventually("the port is gone", Duration::from_secs(2), || Ok(state(&weft, &name)? == "gone"))?;
    }
    let fdb = weft.show("fdb")?;
    let stale = fdb.as_array().unwrap().iter().find(|entry| entry["port"] == star.port_name(2));
    ensure!(stale.is_none(), "an entry still points to the deleted interface: {stale:?}");

    // An address with a static entry there shows up elsewhere meanwhile.
    Injector::new(&star.hosts[1], "eth0")?.send_all([&frame(MacAddr::BROADCAST, wanderer, EXPERIMENT)], 1000);
    let learned = || Ok(weft.whereabouts("blue", &wanderer.to_string())? == Some(star.port_name(1)));
    eventually("it is learned", PATIENCE, learned)?;

    weft.succeed(&["reload"])?;
    let at = weft.whereabouts("blue", &wanderer.to_string())?;
    ensure!(at == Some(star.port_name(2)), "the static entry is back with its port, not at {at:?}");
    star.hosts[0].run(&["ip", "neigh", "flush", "dev", "eth0"])?.ok()?;
    ping(&star.hosts[0], &Star::address(2)).context("a reload opens the port again")?;
    star.hosts[3].delete("eth0")?;
    let name = star.port_name(3);
    eventually("the port is gone", Duration::from_secs(2), || Ok(state(&weft, &name)? == "gone"))?;
    weft.succeed(&["port", "del", &name])?;
    ensure!(state(&weft, &name)? == "absent");
    weft.succeed(&["port", "add", &name, "--bridge", "blue", "--address", "10.0.0.4/24"])?;
    star.hosts[0].run(&["ip", "neigh", "flush", "dev", "eth0"])?.ok()?;
    ping(&star.hosts[0], &Star::address(3)).context("a port that is added anew works")?;

    train.stop()?.without_gap()?;
    ensure!(weft.process().is_running());
    weft.ledger_balances()?;
    Ok(())
}

fn a_gone_port_blocks_nothing() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 1)?;
    let mortal = Mortal::new()?;
    let weft = Weft::start(&star.switch, &(star.config() + &port(&mortal.name, "eth0", "")))?;
    let name = format!("{}/eth0", mortal.name);
    netns::remove_name(&mortal.name)?;
    eventually("the port is gone", Duration::from_secs(2), || Ok(state(&weft, &name)? == "gone"))?;

    for round in 0..2 {
        weft.succeed(&["bridge", "add", "green"])?;
        weft.succeed(&["fdb", "add", "--bridge", "blue", "--mac", "02:00:00:00:00:99", "--port", &star.port_name(0)])?;
        weft.succeed(&["fdb", "del", "--bridge", "blue", "--mac", "02:00:00:00:00:99"])?;
        weft.succeed(&["bridge", "del", "green"])?;
        ensure!(state(&weft, &name)? == "gone", "round {round}: the port is {}", state(&weft, &name)?);
    }
    let refused = weft.command(&["reload"])?;
    ensure!(refused.stderr.contains(&mortal.name), "a file that names what is not there is refused: {refused}");
    ensure!(state(&weft, &name)? == "gone");

    // When the namespace is there again, a reload opens the port in it.
    Netns::create()?.bind_name(&mortal.name)?;
    weft.succeed(&["bridge", "add", "green"])?;
    ensure!(state(&weft, &name)? == "gone", "only a reload opens it");
    weft.succeed(&["reload"])?;
    ensure!(state(&weft, &name)? == "up");
    Ok(())
}

fn down_and_up() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 3)?;
    let fixed = format!("[[fdb]]\nbridge = \"blue\"\nmac = \"02:00:00:00:00:77\"\nport = \"{}\"\n", star.port_name(2));
    let weft = Weft::start(&star.switch, &(star.config() + &fixed))?;
    ping(&star.hosts[0], &Star::address(2))?;
    let mac = star.mac(2)?;
    ensure!(weft.whereabouts("blue", &mac)? == Some(star.port_name(2)));
    let train = PingTrain::start(&star.hosts[0], &Star::address(1))?;

    star.hosts[2].down("eth0")?;
    eventually("the port is down", Duration::from_secs(2), || Ok(state(&weft, &star.port_name(2))? == "down"))?;
    ensure!(weft.whereabouts("blue", &mac)?.is_none(), "a learned entry of a port that is down");
    let fixed = weft.whereabouts("blue", "02:00:00:00:00:77")?;
    ensure!(fixed == Some(star.port_name(2)), "the static entry is at {fixed:?}");
    let before = weft.dropped("port_down")?;
    let frame = frame("02:00:00:00:00:77".parse()?, "02:00:00:00:00:01".parse()?, EXPERIMENT);
    ensure!(Injector::new(&star.hosts[0], "eth0")?.send_all([&frame], 1000) == 1);
    eventually("the drop has its name", PATIENCE, || Ok(weft.dropped("port_down")? == before + 1))?;

    star.hosts[2].up("eth0")?;
    eventually("the port is up", Duration::from_secs(2), || Ok(state(&weft, &star.port_name(2))? == "up"))?;
    ping(&star.hosts[0], &Star::address(2)).context("the port works again")?;
    train.stop()?.without_gap()?;
    weft.ledger_balances()?;
    Ok(())
}

/// What was queued before the interface went down is read afterwards; it must not bring back what was forgotten.
fn down_under_load() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 2)?;
    let weft = Weft::start(&star.switch, &star.config())?;
    let (dst, name) = ("02:00:00:00:00:01".parse()?, star.port_name(1));
    let frames: Vec<_> =
        (0..20_000u64).map(|n| frame(dst, MacAddr::from_u64(0x0200_0000_0000 + n), EXPERIMENT)).collect();
    for _ in 0..5 {
        let mut injector = Injector::new(&star.hosts[1], "eth0")?;
        let flood = std::thread::scope(|scope| -> anyhow::Result<_> {
            scope.spawn(|| injector.send_all(&frames, 50_000));
            std::thread::sleep(Duration::from_millis(100));
            star.hosts[1].down("eth0")?;
            eventually("the port is down", PATIENCE, || Ok(state(&weft, &name)? == "down"))
        });
        flood?;
        // The injector has ended; what it left in the queues is read soon.
        std::thread::sleep(Duration::from_millis(100));
        let fdb = weft.show("fdb")?;
        let learned = fdb.as_array().unwrap().iter().filter(|entry| entry["port"] == name.as_str()).count();
        ensure!(learned == 0, "{learned} addresses were learned on a port that is down");
        star.hosts[1].up("eth0")?;
        eventually("the port is up", PATIENCE, || Ok(state(&weft, &name)? == "up"))?;
    }
    weft.ledger_balances()?;
    Ok(())
}

fn packet_port() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 2)?;
    let far = quiet(&star.lab, "far")?;
    let lay_cable = || -> anyhow::Result<()> {
        star.lab.veth((&star.switch, "p0"), (&far, "eth0"), 1500)?;
        Ok(far.address("eth0", "10.0.0.9/24")?)
    };
    lay_cable()?;
    let packet_port = "[[port]]\nname = \"p0\"\nkind = \"packet\"\nbridge = \"blue\"\n";
    let weft = Weft::start(&star.switch, &(star.config() + packet_port))?;
    let name = weft.show("ports")?.as_array().unwrap().last().unwrap()["name"].as_str().unwrap().to_owned();
    let settles = |wanted: &str| {
        eventually(&format!("{name} is {wanted}"), Duration::from_secs(2), || Ok(state(&weft, &name)? == wanted))
    };
    ping(&far, &Star::address(0))?;
    let train = PingTrain::start(&star.hosts[0], &Star::address(1))?;

    // Down on either side: the near one is told as a port that is down, the far one as a carrier that is lost.
    for (side, interface) in [(&star.switch, "p0"), (&far, "eth0")] {
        for _ in 0..3 {
            side.down(interface)?;
            settles("down")?;
            side.up(interface)?;
            settles("up")?;
            ping(&far, &Star::address(0)).with_context(|| format!("after {interface} was down"))?;
        }
    }
    // So fast that the switch can only hear of it afterwards.
    for _ in 0..20 {
        star.switch.down("p0")?;
        star.switch.up("p0")?;
    }
    eventually("frames are read again", Duration::from_secs(3), || Ok(ping(&far, &Star::address(0)).is_ok()))?;

    far.delete("eth0")?;
    settles("gone")?;
    lay_cable()?;
    ensure!(state(&weft, &name)? == "gone", "a new interface of the old name is not the old one");
    weft.succeed(&["reload"])?;
    settles("up")?;
    ping(&far, &Star::address(0)).context("a reload opens the port again")?;
    train.stop()?.without_gap()?;
    weft.ledger_balances()?;
    Ok(())
}

/// Both sides run, plus two more hosts on side a, which have nothing to do with the underlay.
fn pair_with_locals() -> anyhow::Result<(Pair, [Namespace; 2], String)> {
    let pair = Pair::new(PREFIX)?;
    let locals = [quiet(&pair.lab, "l0")?, quiet(&pair.lab, "l1")?];
    let mut config = pair.sides[0].config("", "");
    for (host, local) in locals.iter().enumerate() {
        let lines = format!("address = [\"10.0.0.{}/24\"]", 11 + host);
        config += &port(local.full_name(), "eth0", &lines);
    }
    Ok((pair, locals, config))
}

fn unreachable_peer() -> anyhow::Result<()> {
    let (pair, locals, config) = pair_with_locals()?;
    // Nobody answers ARP for the one, no route leads to the other.
    let config = config.replace(r#"["192.0.2.2"]"#, r#"["192.0.2.2", "192.0.2.99", "203.0.113.7"]"#);
    let [a, b] = &pair.sides;
    let weft = Weft::start(&a.switch, &config)?;
    let _far = Weft::start(&b.switch, &b.config("", ""))?;
    ping(&a.host, b.address)?;

    let to_peer = PingTrain::start(&a.host, b.address)?;
    let to_local = PingTrain::start(&locals[0], "10.0.0.12")?;
    let flood: Vec<_> = vec![frame(MacAddr::BROADCAST, "02:00:00:00:00:01".parse()?, EXPERIMENT); 20_000];
    let before = weft.dropped("underlay_unreachable")?;
    let sent = Injector::new(&a.host, "eth0")?.send_all(&flood, 10_000);
    ensure!(sent == 20_000, "{sent}");
    to_local.stop()?.without_gap().context("a port beside")?;
    to_peer.stop()?.without_gap().context("another peer")?;

    let kernel_drops = |weft: &Weft| -> anyhow::Result<u64> {
        let ledger = weft.show("ledger")?;
        let row = ledger["rows"].as_array().unwrap().iter().find(|row| row["name"] == a.port_name()).unwrap().clone();
        row["kernel_drops"].as_u64().context("a tap's drops are known")
    };
    let lost = kernel_drops(&weft)?;
    eventually("each frame to no route has its name", PATIENCE, || {
        Ok(weft.dropped("underlay_unreachable")? - before >= sent - lost)
    })?;
    let ledger = weft.show("ledger")?;
    let row = |name: &str| ledger["rows"].as_array().unwrap().iter().find(|row| row["name"] == name).cloned();
    let silent = row("192.0.2.99:4789").context("the silent VTEP has a row")?;
    let fate = silent["out_frames"].as_u64().unwrap()
        + silent["drops_out"].as_object().unwrap().values().filter_map(serde_json::Value::as_u64).sum::<u64>();
    ensure!(fate >= sent - lost, "of {sent} frames to it, {fate} are accounted for: {silent:#}");
    weft.ledger_balances()?;
    Ok(())
}

fn underlay_down_and_up() -> anyhow::Result<()> {
    let (pair, locals, config) = pair_with_locals()?;
    let [a, b] = &pair.sides;
    let weft = Weft::start(&a.switch, &config)?;
    let _far = Weft::start(&b.switch, &b.config("", ""))?;
    ping(&a.host, b.address)?;
    let to_local = PingTrain::start(&locals[0], "10.0.0.12")?;
    for (side, reason) in [(a, Some("underlay_unreachable")), (b, None)] {
        let before = reason.map(|reason| weft.dropped(reason)).transpose()?;
        side.switch.down("under0")?;
        let pinged = a.host.run(&["ping", "-n", "-c3", "-i0.05", "-W1", b.address])?;
        ensure!(!pinged.success(), "nothing can pass: {pinged}");
        if let Some((reason, before)) = reason.zip(before) {
            ensure!(weft.dropped(reason)? > before, "what can't be sent is dropped as {reason}");
        }
        side.switch.up("under0")?;
        eventually("the overlay works again", Duration::from_secs(5), || Ok(ping(&a.host, b.address).is_ok()))?;
    }
    to_local.stop()?.without_gap()?;
    weft.ledger_balances()?;
    Ok(())
}

fn killed() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 2)?;
    let mut weft = Weft::start(&star.switch, &star.config())?;
    ping(&star.hosts[0], &Star::address(1))?;
    weft.process().signal(Signal::KILL)?;
    let output = weft.process().wait(PATIENCE)?;
    ensure!(!output.success());
    ensure!(weft.socket().exists(), "nobody could remove the socket's file");
    eventually("the taps vanish", PATIENCE, || Ok(star.hosts.iter().all(|host| host.link("eth0").is_err())))?;
    let started = Instant::now();
    weft.start_again()?;
    let mut worked = false;
    while !worked && started.elapsed() < Duration::from_secs(2) {
        worked = star.hosts[0].run(&["ping", "-n", "-c1", "-W1", &Star::address(1)])?.success();
    }
    ensure!(worked, "not within {:?}", started.elapsed());
    ensure!(state(&weft, &star.port_name(0))? == "up", "the stale socket was taken over");
    Ok(())
}

/// Memory that a process has, in bytes.
fn resident(weft: &mut Weft) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", weft.process().id()))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("a process has memory")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse::<u64>()? * 1024)
}

fn address_flood() -> anyhow::Result<()> {
    const LIMIT: u64 = 5_000;
    let star = Star::new(PREFIX, 3)?;
    let config =
        star.config().replace("name = \"blue\"\n\n", &format!("name = \"blue\"\nfdb_max_learned = {LIMIT}\n\n"));
    let mut weft = Weft::start(&star.switch, &config)?;
    ping(&star.hosts[0], &Star::address(1))?;
    let victims = [star.mac(0)?, star.mac(1)?];
    let before = resident(&mut weft)?;
    let train = PingTrain::start(&star.hosts[0], &Star::address(1))?;

    let mut random = fastrand::Rng::with_seed(7);
    let dst = victims[0].parse()?;
    // To one host: flooding them would only test how fast three queues are.
    let frames: Vec<_> = (0..100_000)
        .map(|_| frame(dst, MacAddr::from_u64(0x0200_0000_0000 | random.u64(..) >> 24), EXPERIMENT))
        .collect();
    let sent = Injector::new(&star.hosts[2], "eth0")?.send_all(&frames, 25_000);
    ensure!(sent == 100_000, "{sent}");
    let bridges = weft.show("bridges")?;
    let learned = bridges[0]["learned"].as_u64().unwrap();
    ensure!((LIMIT - 10..=LIMIT).contains(&learned), "{learned} are learned, {LIMIT} may be");
    for (host, mac) in victims.iter().enumerate() {
        let at = weft.whereabouts("blue", mac)?;
        ensure!(at == Some(star.port_name(host)), "host {host} was pushed out: it is at {at:?}");
    }
    train.stop()?.without_loss()?;
    let grown = resident(&mut weft)?.saturating_sub(before);
    ensure!(grown < 16 << 20, "memory grew by {grown} bytes");
    weft.ledger_balances()?;
    Ok(())
}

/// A template with some bytes changed, inserted or cut off.
fn mutated(random: &mut fastrand::Rng, templates: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = templates[random.usize(..templates.len())].clone();
    for _ in 0..random.usize(1..6) {
        // Headers are where it hurts.
        let reach = if random.bool() { 64 } else { usize::MAX };
        let at = random.usize(..bytes.len().min(reach));
        match random.u8(..8) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes.insert(at, random.u8(..)),
            2 => bytes[at] = [0, 0xff, 0x7f, 0x80][random.usize(..4)],
            3 => bytes[at] ^= 1 << random.u8(..8),
            4 if at + 1 < bytes.len() => bytes[at..at + 2].copy_from_slice(&random.u16(..).to_be_bytes()),
            _ => bytes[at] = random.u8(..),
        }
    }
    bytes
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(((sum & 0xffff) + (sum >> 16)) as u16)).to_be_bytes()
}

/// Frames of every kind that a switch looks into: TCP and UDP over both IPs, with tags, ARP, groups.
fn templates(dst: MacAddr, src: MacAddr, payload_len: usize) -> Vec<Vec<u8>> {
    let ethernet = |dst: MacAddr, ether_type: u16| [&dst.0[..], &src.0, &ether_type.to_be_bytes()].concat();
    let ipv4 = |protocol: u8, body: &[u8]| {
        let len = (20 + body.len() as u16).to_be_bytes();
        let mut header =
            [&[0x45, 0][..], &len, &[0, 0, 0x40, 0, 64, protocol, 0, 0], &[10, 9, 9, 1], &[10, 9, 9, 2]].concat();
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum);
        [&header[..], body].concat()
    };
    let ipv6 = |next: u8, body: &[u8]| {
        let mut header = [&[0x60, 0, 0, 0][..], &(body.len() as u16).to_be_bytes(), &[next, 64]].concat();
        header.extend([0xfd; 16]);
        header.extend([0xfe; 16]);
        [&header[..], body].concat()
    };
    let payload = vec![0x5a; payload_len];
    let tcp = [&[0x30, 0x39, 0, 80][..], &[0; 8], &[0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0], &payload].concat();
    let udp = [&[0x30, 0x39, 0, 53][..], &(8 + payload_len as u16).to_be_bytes(), &[0, 0], &payload].concat();
    let tag = |frame: &[u8]| [&frame[..12], &[0x81, 0, 0x20, 7], &frame[12..]].concat();
    let mut all = vec![
        [ethernet(dst, 0x0800), ipv4(6, &tcp)].concat(),
        [ethernet(dst, 0x0800), ipv4(17, &udp)].concat(),
        [ethernet(dst, 0x86dd), ipv6(6, &tcp)].concat(),
        [ethernet(dst, 0x86dd), ipv6(17, &udp)].concat(),
        [ethernet(MacAddr::BROADCAST, 0x0806), vec![0; 46]].concat(),
        [ethernet(MacAddr([1, 0x80, 0xc2, 0, 0, 0xe]), 0x88cc), vec![0; 46]].concat(),
        frame(dst, src, EXPERIMENT),
    ];
    let tagged: Vec<_> = all.iter().map(|frame| tag(frame)).collect();
    all.extend(tagged.iter().map(|frame| tag(frame)));
    all.extend(tagged);
    all
}

fn mutated_frames() -> anyhow::Result<()> {
    let pair = Pair::new(PREFIX)?;
    let [a, b] = &pair.sides;
    let (plain, trunk) = (quiet(&pair.lab, "plain")?, quiet(&pair.lab, "trunk")?);
    let config = a.config("", "")
        + &port(plain.full_name(), "eth0", "offload = false\naddress = [\"10.0.0.12/24\"]")
        + &format!(
            "[[port]]\nname = \"eth0\"\nnetns = \"{}\"\ntrunk = {{ 7 = \"blue\" }}\nnative = \"blue\"\n",
            trunk.full_name()
        );
    let mut weft = Weft::start(&a.switch, &config)?;
    let mut far = Weft::start(&b.switch, &b.config("", ""))?;
    ping(&b.host, "10.0.0.12")?;
    let train = PingTrain::start(&b.host, "10.0.0.12")?;

    let targets = [MacAddr::BROADCAST, "02:00:00:00:00:02".parse()?, weft_integration::scene::mac(&b.host, "eth0")?];
    let small: Vec<_> = targets.iter().flat_map(|dst| templates(*dst, MacAddr([2, 0, 0, 0, 0, 1]), 100)).collect();
    let large: Vec<_> = targets.iter().flat_map(|dst| templates(*dst, MacAddr([2, 0, 0, 0, 0, 1]), 4000)).collect();
    let rounds = |namespace: &Namespace, seed: u64| -> anyhow::Result<u64> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut injector = Injector::new(namespace, "eth0")?;
        let mut taken = 0;
        for _ in 0..500 {
            let frames: Vec<_> = (0..100).map(|_| mutated(&mut random, &small)).collect();
            taken += injector.send_all(&frames, 50_000);
            // Super-frames with headers that fit them more or less; the kernel hands on what it believes.
            for _ in 0..4 {
                let bytes = mutated(&mut random, &large);
                let csum = Some(PartialCsum { start: [34, 54, 38, 58][random.usize(..4)], offset: 16 });
                let kind = [Gso::Tcp4, Gso::Tcp6, Gso::Udp][random.usize(..3)];
                let vnet = VnetHeader { csum, gso: Some((kind, random.u16(1..3000))), gso_ecn: random.bool() };
                taken += u64::from(injector.send_with(&bytes, vnet));
            }
        }
        Ok(taken)
    };
    let taken = std::thread::scope(|scope| -> anyhow::Result<u64> {
        let from_tap = scope.spawn(|| rounds(&a.host, 1));
        let from_trunk = rounds(&trunk, 2)?;
        Ok(from_trunk + from_tap.join().unwrap()?)
    })?;
    ensure!(taken > 90_000, "the kernel took {taken}");
    train.stop()?.without_gap()?;
    for weft in [&mut weft, &mut far] {
        ensure!(weft.process().is_running(), "{}", weft.log());
        ensure!(!weft.log().contains("panicked"), "{}", weft.log());
        weft.ledger_balances()?;
    }
    let seen = weft.ledger_balances()?["in"].as_u64().unwrap();
    let ledger = weft.show("ledger")?;
    let lost: u64 = ledger["rows"].as_array().unwrap().iter().filter_map(|row| row["kernel_drops"].as_u64()).sum();
    ensure!(seen + lost > taken, "of {taken} frames only {seen} came in, {lost} found a full queue");
    ping(&b.host, "10.0.0.12")
}

fn mutated_datagrams() -> anyhow::Result<()> {
    let (pair, locals, config) = pair_with_locals()?;
    let [a, b] = &pair.sides;
    let mut weft = Weft::start(&a.switch, &config)?;
    let train = PingTrain::start(&locals[0], "10.0.0.12")?;
    let target = weft_integration::scene::mac(&locals[0], "eth0")?;
    let header = [8, 0, 0, 0, 0, 0, 42, 0];
    let inner =
        [MacAddr::BROADCAST, target].into_iter().flat_map(|dst| templates(dst, MacAddr([2, 0, 0, 0, 0, 1]), 100));
    let templates: Vec<_> = inner.map(|frame| [&header[..], &frame].concat()).collect();
    let sent = b.switch.within(|| send_datagrams(b, a, &templates))??;
    ensure!(sent > 90_000, "{sent}");
    train.stop()?.without_gap()?;
    ensure!(weft.process().is_running() && !weft.log().contains("panicked"), "{}", weft.log());
    let ledger = weft.show("ledger")?;
    let rows = ledger["rows"].as_array().unwrap();
    let underlay = rows.iter().find(|row| row["kind"] == "underlay").context("a row of the underlay")?;
    let vtep = rows.iter().find(|row| row["name"] == "192.0.2.2:4789").context("a row of the VTEP")?;
    let count = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
    let arrived = count(&underlay["in_frames"]) + count(&vtep["in_frames"]) + count(&underlay["rcvbuf_errors"]);
    ensure!(arrived == sent, "{sent} datagrams were sent, {arrived} are accounted for: {ledger:#}");
    for reason in ["vxlan_truncated", "vxlan_no_vni_flag", "vni_unknown", "vxlan_reserved_bits", "inner_truncated"] {
        ensure!(weft.dropped(reason)? > 0, "none of them was {reason}");
    }
    weft.ledger_balances()?;
    ping(&locals[0], "10.0.0.12")
}

/// Mutated VXLAN datagrams from one VTEP to another, by the kernel's socket of the first.
fn send_datagrams(from: &Side, to: &Side, templates: &[Vec<u8>]) -> anyhow::Result<u64> {
    let socket = std::net::UdpSocket::bind((from.vtep, 0))?;
    let mut random = fastrand::Rng::with_seed(3);
    let mut sent = 0;
    for count in 0..100_000 {
        let mut datagram = mutated(&mut random, templates);
        if random.u8(..) == 0 {
            datagram.truncate(random.usize(..24));
        }
        sent += u64::from(socket.send_to(&datagram, (to.vtep, 4789)).is_ok());
        if count % 50 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(sent)
}

fn no_descriptors_at_start() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 2)?;
    let directory = tempfile::tempdir()?;
    let config = directory.path().join("weft.toml");
    fs::write(&config, star.config())?;
    let mut seen = Vec::new();
    for limit in [6, 8, 10, 12, 14, 16, 18, 20, 24, 28] {
        let run =
            star.switch.command("prlimit").arg(format!("--nofile={limit}")).arg(weft_integration::weft::binary()?);
        let run = run.arg("run").arg(&config).arg("--socket").arg(directory.path().join("weft.sock"));
        let mut process = run.spawn()?;
        if process.wait_for("weft runs", Duration::from_secs(5)).is_ok() {
            process.terminate(PATIENCE)?;
            break;
        }
        let output = process.wait(PATIENCE)?;
        ensure!(output.status.code() == Some(1), "with {limit} descriptors: {output}");
        ensure!(!output.stderr.contains("panicked"), "with {limit} descriptors: {output}");
        ensure!(output.stderr.contains("oo many open files"), "with {limit} descriptors: {output}");
        ensure!(output.stderr.contains("ulimit -n"), "the limit is named, with {limit} descriptors: {output}");
        seen.push(limit);
    }
    ensure!(seen.contains(&20), "20 descriptors can't be enough: {seen:?}");
    Ok(())
}

fn no_descriptors_later() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 2)?;
    let mut weft = Weft::start(&star.switch, &star.config())?;
    let train = PingTrain::start(&star.hosts[0], &Star::address(1))?;
    let id = weft.process().id().to_string();
    star.switch.run(&["prlimit", "--pid", &id, "--nofile=3:"])?.ok()?;
    std::thread::sleep(Duration::from_millis(2500));
    star.switch.run(&["prlimit", "--pid", &id, "--nofile=1024:"])?.ok()?;
    train.stop()?.without_loss()?;
    for host in [0, 1] {
        let state = state(&weft, &star.port_name(host))?;
        if state != "up" {
            bail!("port {host} is {state}:\n{}", weft.log());
        }
    }
    Ok(())
}
