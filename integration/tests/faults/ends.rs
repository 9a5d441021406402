//! What vanishes, goes down, is killed, or runs out.

use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use weft::{
    lab::{Namespace, Signal},
    sys::netns::{self, Netns},
    wire::MacAddr,
};
use weft_integration::{
    scene::{Star, port},
    shape::Shape,
    traffic::{EXPERIMENT, Injector, PingTrain, frame, quiet},
    weft::{PATIENCE, Weft, eventually},
};

use crate::{PREFIX, pair_with_locals, ping, state};

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

pub(crate) fn deleted_namespace(shape: Shape) -> anyhow::Result<()> {
    let star = Star::in_shape(shape, PREFIX, 2)?;
    let (tapped, cabled) = (Mortal::new()?, Mortal::new()?);
    tapped.veth("witness", &star.switch, "w0")?;
    cabled.veth("eth0", &star.switch, "w1")?;
    let config = star.config()
        + &shape.port(&tapped.name, "eth0", "address = [\"10.0.0.8/24\"]")
        + &shape.port(&cabled.name, "eth0", "kind = \"packet\"");
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

pub(crate) fn deleted_interface(shape: Shape) -> anyhow::Result<()> {
    let star = Star::in_shape(shape, PREFIX, 4)?;
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

/// What workers still had to tell of the old port must not be taken for the new one's fate.
pub(crate) fn reopened_port() -> anyhow::Result<()> {
    let star = Star::new(PREFIX, 1)?;
    let weft = Weft::start(&star.switch, &star.config())?;
    let name = star.port_name(0);
    for _ in 0..3 {
        star.hosts[0].delete("eth0")?;
        eventually("the port is gone", Duration::from_secs(2), || Ok(state(&weft, &name)? == "gone"))?;
        weft.succeed(&["reload"])?;
        // Facts are heard once a second.
        std::thread::sleep(Duration::from_millis(1200));
        ensure!(state(&weft, &name)? == "up", "{}", weft.log());
    }
    Ok(())
}

pub(crate) fn a_gone_port_blocks_nothing() -> anyhow::Result<()> {
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

pub(crate) fn down_and_up(shape: Shape) -> anyhow::Result<()> {
    let star = Star::in_shape(shape, PREFIX, 3)?;
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
pub(crate) fn down_under_load(shape: Shape) -> anyhow::Result<()> {
    let star = Star::in_shape(shape, PREFIX, 2)?;
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

pub(crate) fn packet_port(shape: Shape) -> anyhow::Result<()> {
    let star = Star::in_shape(shape, PREFIX, 2)?;
    let far = quiet(&star.lab, "far")?;
    let lay_cable = || -> anyhow::Result<()> {
        star.lab.veth((&star.switch, "p0"), (&far, "eth0"), 1500)?;
        Ok(far.address("eth0", "10.0.0.9/24")?)
    };
    lay_cable()?;
    let packet_port = format!("[[port]]\nname = \"p0\"\nkind = \"packet\"\nbridge = \"blue\"\n{}", shape.port_line());
    let weft = Weft::start(&star.switch, &(star.config() + &packet_port))?;
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

pub(crate) fn unreachable_peer(shape: Shape) -> anyhow::Result<()> {
    let (pair, locals, config) = pair_with_locals(shape)?;
    // Nobody answers ARP for the one, no route leads to the other.
    let config = config.replace(r#"["192.0.2.2"]"#, r#"["192.0.2.2", "192.0.2.99", "203.0.113.7"]"#);
    // What the port floods shall not have to wait for its share.
    let address = r#"address = ["10.0.0.1/24"]"#;
    let config = config.replace(address, &format!("{address}\nflood_share = 100"));
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

pub(crate) fn underlay_down_and_up(shape: Shape) -> anyhow::Result<()> {
    let (pair, locals, config) = pair_with_locals(shape)?;
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

pub(crate) fn killed(shape: Shape) -> anyhow::Result<()> {
    let star = Star::in_shape(shape, PREFIX, 2)?;
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

pub(crate) fn no_descriptors_at_start() -> anyhow::Result<()> {
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

pub(crate) fn no_descriptors_later(shape: Shape) -> anyhow::Result<()> {
    let star = Star::in_shape(shape, PREFIX, 2)?;
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
