//! The account of all frames under load: it balances at every moment, and it says what the kernel says at both ends.

// Clippy takes only what the standard harness runs for tests.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

use std::{
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;
use weft::{
    lab::{Lab, Namespace},
    wire::MacAddr,
};
use weft_integration::{
    Needs, main_with,
    scene::{self, Pair, Side, port},
    shape::{Shape, in_every_shape},
    traffic::{EXPERIMENT, Injector, LinkCounters, frame, quiet},
    weft::{PATIENCE, Weft, eventually},
};

/// No namespace of another test begins so.
const PREFIX: &str = "weft-ledger";

fn main() -> ExitCode {
    // What an earlier run left that was killed. Without privileges nothing can be, and each test says so itself.
    let _ = Lab::remove_stale(PREFIX);
    let ping = Needs::ROOT_AND_TUN.programs(&["ping", "ip"]);
    let iperf = Needs::ROOT_AND_TUN.programs(&["ping", "ip", "iperf3"]);
    main_with(in_every_shape(&[
        ("the_account_balances_at_every_moment_of_every_load", iperf, balances_under_load),
        ("frames_at_a_port_are_those_that_its_interface_counts", iperf, agrees_with_interfaces),
        ("what_one_weft_sends_is_what_the_other_receives", iperf, agrees_across_the_overlay),
        ("what_finds_a_full_queue_is_counted_before_the_account", ping, full_queues),
    ]))
}

fn ledger(weft: &Weft) -> anyhow::Result<Value> {
    let (status, ledger) = weft.request("GET", "/v1/ledger", "")?;
    ensure!(status == 200, "{ledger}");
    Ok(ledger)
}

fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap_or(0)
}

fn rows(ledger: &Value) -> impl Iterator<Item = &Value> {
    ledger["rows"].as_array().expect("a list").iter()
}

fn row<'l>(ledger: &'l Value, name: &str) -> anyhow::Result<&'l Value> {
    rows(ledger).find(|row| row["name"] == name).with_context(|| format!("no row of {name}: {ledger:#}"))
}

fn drops(row: &Value) -> u64 {
    let sum = |drops: &Value| {
        drops.as_object().into_iter().flat_map(|drops| drops.values()).filter_map(Value::as_u64).sum::<u64>()
    };
    sum(&row["drops_in"]) + sum(&row["drops_out"])
}

/// The whole and every bridge balance, and the whole is the sum of its parts.
fn check_account(ledger: &Value) -> anyhow::Result<()> {
    let totals = &ledger["totals"];
    let sides = |frames_in: u64, copies: u64, out: u64, drops: u64| (frames_in + copies, out + drops);
    let (left, right) =
        sides(number(totals, "in"), number(totals, "copies"), number(totals, "out"), number(totals, "drops"));
    ensure!(left == right && totals["balanced"] == true, "{totals}");
    for bridge in rows(ledger).filter(|row| row["kind"] == "bridge") {
        let (left, right) =
            sides(number(bridge, "in_frames"), number(bridge, "copies"), number(bridge, "out_frames"), drops(bridge));
        ensure!(left == right, "a bridge does not balance: {bridge}");
    }
    let sum =
        |count: &dyn Fn(&Value) -> u64| rows(ledger).filter(|row| row["kind"] != "bridge").map(count).sum::<u64>();
    for (key, total) in [("in_frames", "in"), ("copies", "copies"), ("out_frames", "out")] {
        let sum = sum(&|row| number(row, key));
        ensure!(sum == number(totals, total), "{total} is {}, its parts are {sum}", totals[total]);
    }
    ensure!(sum(&drops) == number(totals, "drops"), "drops are not the sum of their parts: {ledger:#}");
    Ok(())
}

/// Waits until nothing moves any more.
fn at_rest(weft: &Weft) -> anyhow::Result<Value> {
    let mut last = ledger(weft)?;
    eventually("traffic ends", PATIENCE, || {
        thread::sleep(Duration::from_millis(150));
        let now = ledger(weft)?;
        let rests = now == last;
        last = now;
        Ok(rests)
    })?;
    check_account(&last)?;
    Ok(last)
}

/// Runs `iperf3` between two namespaces, with a server of its own: one that has just served refuses the next client now
/// and then. It has a port of its own, too, since a flood of the one before may still be under way.
fn iperf(from: &Namespace, to: &Namespace, args: &[&str]) -> anyhow::Result<()> {
    static PORT: AtomicU16 = AtomicU16::new(5201);
    let port = PORT.fetch_add(1, Ordering::Relaxed).to_string();
    let mut server = to.command("iperf3").args(["-s", "-1", "--forceflush", "-p", &port]).spawn()?;
    server.wait_for("Server listening", PATIENCE)?;
    from.command("iperf3").args(args).args(["-p", &port]).timeout(Duration::from_secs(30)).output()?.ok()?;
    Ok(())
}

fn balances_under_load(shape: Shape) -> anyhow::Result<()> {
    let pair = Pair::in_shape(shape, PREFIX)?;
    let [a, b] = &pair.sides;
    let [plain, trunk, cable] = [quiet(&pair.lab, "plain")?, quiet(&pair.lab, "trunk")?, quiet(&pair.lab, "cable")?];
    pair.lab.veth((&a.switch, "p0"), (&cable, "eth0"), 1500)?;
    cable.address("eth0", "10.0.0.5/24")?;
    let config = a.config("", "mtu = 1450")
        + &port(plain.full_name(), "eth0", "offload = false\nmtu = 1450\naddress = [\"10.0.0.3/24\"]")
        + &format!(
            "[[port]]\nname = \"eth0\"\nnetns = \"{}\"\ntrunk = {{ 7 = \"blue\", 8 = \"green\" }}\nmtu = 1454\nflood_share = 100\n{}",
            trunk.full_name(),
            shape.port_line()
        )
        + &format!(
            "[[port]]\nname = \"p0\"\nkind = \"packet\"\nbridge = \"blue\"\nflood_share = 100\n{}",
            shape.port_line()
        )
        + "[[bridge]]\nname = \"green\"\n";
    // Whoever reads the account has his part of the processors, too.
    let nice = |config: String| config.replace("[switch]\n", "[switch]\nnice = 0\n");
    let wefts = [Weft::start(&a.switch, &nice(config))?, Weft::start(&b.switch, &nice(b.config("", "mtu = 1450")))?];

    // Broadcasts from a trunk with both VLANs and one that it does not carry, and from a cable: more than their share.
    let src: MacAddr = "02:00:00:00:00:0e".parse()?;
    let untagged = frame(MacAddr::BROADCAST, src, EXPERIMENT);
    let tagged = |vid: u8| [&untagged[..12], &[0x81, 0, 0, vid], &untagged[12..]].concat();
    let storm = [tagged(7), tagged(8), tagged(9), untagged.clone()];

    let stop = AtomicBool::new(false);
    let reads = thread::scope(|scope| -> anyhow::Result<u32> {
        let reader = scope.spawn(|| -> anyhow::Result<u32> {
            let mut reads = 0;
            while !stop.load(Ordering::Relaxed) {
                for weft in &wefts {
                    check_account(&ledger(weft)?)?;
                }
                reads += 1;
                thread::sleep(Duration::from_millis(100));
            }
            Ok(reads)
        });
        let storms: Vec<_> = [(&trunk, &storm[..]), (&cable, &storm[3..])]
            .into_iter()
            .map(|(namespace, frames)| {
                let stop = &stop;
                scope.spawn(move || -> anyhow::Result<()> {
                    let mut injector = Injector::new(namespace, "eth0")?;
                    while !stop.load(Ordering::Relaxed) {
                        injector.send_all(frames.iter().cycle().take(500), 5_000);
                    }
                    Ok(())
                })
            })
            .collect();
        let load = || -> anyhow::Result<()> {
            iperf(&a.host, &b.host, &["-c", b.address, "-t1"])?;
            iperf(&a.host, &b.host, &["-c", b.address, "-t1", "-R"])?;
            iperf(&plain, &b.host, &["-c", b.address, "-t1"])?;
            iperf(&cable, &b.host, &["-c", b.address, "-t1", "--bidir"])?;
            // More than anybody can take: queues fill up and drops have to be counted.
            iperf(&a.host, &b.host, &["-c", b.address, "-t1", "-u", "-b0", "-l1400"])?;
            iperf(&plain, &b.host, &["-c", b.address, "-t1", "-u", "-b50M", "-l64", "-R"])
        };
        let loaded = load();
        stop.store(true, Ordering::Relaxed);
        storms.into_iter().try_for_each(|storm| storm.join().unwrap())?;
        let reads = reader.join().unwrap()?;
        loaded.map(|()| reads)
    })?;
    ensure!(reads > 15, "the account was read {reads} times only");
    let [near, far] = [at_rest(&wefts[0])?, at_rest(&wefts[1])?];
    for ledger in [&near, &far] {
        ensure!(number(&ledger["totals"], "in") > 10_000, "{ledger:#}");
    }
    for reason in ["vlan_not_member", "vlan_untagged"] {
        ensure!(wefts[0].dropped(reason)? > 0, "{reason}");
    }
    Ok(())
}

/// What a port's row and its interface have to agree on.
fn agree(ledger: &Value, name: &str, link: LinkCounters) -> anyhow::Result<()> {
    let row = row(ledger, name)?;
    let counted = (number(row, "in_bytes"), number(row, "out_bytes"));
    ensure!(counted == (link.tx_bytes, link.rx_bytes), "{name}: bytes in and out: {row}\nbut its interface: {link:?}");
    ensure!(number(row, "kernel_drops") == link.tx_dropped, "{name}: {row}\nbut its interface: {link:?}");
    Ok(())
}

fn agrees_with_interfaces(shape: Shape) -> anyhow::Result<()> {
    let pair = Pair::in_shape(shape, PREFIX)?;
    let a = &pair.sides[0];
    let [plain, cable] = [quiet(&pair.lab, "plain")?, quiet(&pair.lab, "cable")?];
    pair.lab.veth((&a.switch, "p0"), (&cable, "eth0"), 1500)?;
    cable.address("eth0", "10.0.0.5/24")?;
    let config = a.config("", "mtu = 1500").replace("vni = 42\nremotes = [\"192.0.2.2\"]\n", "")
        + &port(plain.full_name(), "eth0", "offload = false\naddress = [\"10.0.0.3/24\"]")
        + &format!("[[port]]\nname = \"p0\"\nkind = \"packet\"\nbridge = \"blue\"\n{}", shape.port_line());
    let weft = Weft::start(&a.switch, &config)?;
    let ports = weft.show("ports")?;
    let names: Vec<_> =
        ports.as_array().unwrap().iter().map(|port| port["name"].as_str().unwrap().to_owned()).collect();
    let [tap_name, plain_name, cable_name] = names.as_slice() else { anyhow::bail!("three ports: {names:?}") };

    // Super-frames in both directions: bytes are the same however the frames are cut.
    iperf(&plain, &a.host, &["-c", a.address, "-t1", "--bidir"])?;
    iperf(&cable, &a.host, &["-c", a.address, "-t1", "--bidir"])?;
    let ledger = at_rest(&weft)?;
    let [tap, flat] = [LinkCounters::of(&a.host, "eth0")?, LinkCounters::of(&plain, "eth0")?];
    agree(&ledger, tap_name, tap)?;
    agree(&ledger, plain_name, flat)?;
    // A plain tap has no super-frames, so that frames can be compared as well.
    let at_plain = row(&ledger, plain_name)?;
    let frames = (number(at_plain, "in_frames"), number(at_plain, "out_frames"));
    ensure!(frames == (flat.tx_packets, flat.rx_packets), "{at_plain}\nbut its interface: {flat:?}");
    let at_tap = row(&ledger, tap_name)?;
    if shape.offload {
        ensure!(
            number(at_tap, "in_frames") > tap.tx_packets,
            "segments are counted, not super-frames: {at_tap} {tap:?}"
        );
    } else {
        let frames = (number(at_tap, "in_frames"), number(at_tap, "out_frames"));
        ensure!(frames == (tap.tx_packets, tap.rx_packets), "{at_tap}\nbut its interface: {tap:?}");
    }
    // What the cable's far end sent is what its near end received.
    let far = LinkCounters::of(&cable, "eth0")?;
    let at_cable = row(&ledger, cable_name)?;
    if number(at_cable, "kernel_drops") == 0 {
        let bytes = (number(at_cable, "in_bytes"), number(at_cable, "out_bytes"));
        ensure!(bytes == (far.tx_bytes, far.rx_bytes), "{at_cable}\nbut its interface: {far:?}");
    }
    // All that came in left somewhere, and the interfaces have it.
    let delivered = number(&ledger["totals"], "out");
    ensure!(
        delivered
            == rows(&ledger).filter(|row| row["kind"] == "port").map(|row| number(row, "out_frames")).sum::<u64>()
    );

    // Small frames, nothing to cut: frame by frame at every port.
    let before = (ledger, LinkCounters::of(&a.host, "eth0")?, LinkCounters::of(&cable, "eth0")?);
    let (from, to) = (scene::mac(&a.host, "eth0")?, scene::mac(&cable, "eth0")?);
    let there = Injector::new(&a.host, "eth0")?.send_all(&vec![frame(to, from, EXPERIMENT); 20_000], 20_000);
    let back = Injector::new(&cable, "eth0")?.send_all(&vec![frame(from, to, EXPERIMENT); 20_000], 20_000);
    ensure!((there, back) == (20_000, 20_000), "{there} {back}");
    let after = (at_rest(&weft)?, LinkCounters::of(&a.host, "eth0")?, LinkCounters::of(&cable, "eth0")?);
    for (name, link_before, link) in [(tap_name, before.1, after.1), (cable_name, before.2, after.2)] {
        let grown =
            |key| -> anyhow::Result<u64> { Ok(number(row(&after.0, name)?, key) - number(row(&before.0, name)?, key)) };
        let lost = grown("kernel_drops")?;
        let frames_in = grown("in_frames")?;
        // A tap counts what was read from it, a cable what was put into it.
        let sent = link.tx_packets - link_before.tx_packets + (link.tx_dropped - link_before.tx_dropped);
        ensure!(frames_in + lost == sent, "{name}: {frames_in} in and {lost} lost of {sent}");
        let received = link.rx_packets - link_before.rx_packets;
        ensure!(grown("out_frames")? == received, "{name}: {} out, {received} received", grown("out_frames")?);
    }
    Ok(())
}

/// `/proc/net/snmp`'s InDatagrams of UDP, in a side's underlay.
fn datagrams_in(side: &Side) -> anyhow::Result<u64> {
    let table = side.switch.run(&["cat", "/proc/self/net/snmp"])?.ok()?.stdout;
    let mut lines = table.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = lines.next().zip(lines.next()).context("a table of UDP")?;
    let at = names.split(' ').position(|name| name == "InDatagrams").context("a column")?;
    Ok(values.split(' ').nth(at).context("a value")?.parse()?)
}

fn agrees_across_the_overlay(shape: Shape) -> anyhow::Result<()> {
    for gso in ["off", "on"] {
        let mut pair = Pair::in_shape(shape, PREFIX)?;
        // Super-frames on one side perhaps, every frame by itself on the other.
        pair.sides[1].shape.offload = false;
        let [a, b] = &pair.sides;
        // A probe to a weft that does not run yet is in nobody's account.
        let vtep = format!("gso = \"{gso}\"\npath_mtu = \"assume\"");
        let near = Weft::start(&a.switch, &a.config(&vtep, ""))?;
        let far = Weft::start(&b.switch, &b.config(&vtep, ""))?;
        iperf(&a.host, &b.host, &["-c", b.address, "-t1"])?;
        iperf(&a.host, &b.host, &["-c", b.address, "-t1", "-R"])?;
        iperf(&a.host, &b.host, &["-c", b.address, "-t1", "-u", "-b0", "-l300"])?;
        let [near, far] = [at_rest(&near)?, at_rest(&far)?];
        for (side, from, to) in [(b, &near, &far), (a, &far, &near)] {
            let sent = row(from, &format!("{}:4789", side.vtep))?;
            let received = row(to, &format!("{}:4789", side.remote))?;
            let underlay = row(to, "underlay")?;
            let arrived = number(received, "in_frames") + number(underlay, "in_frames");
            let lost = number(underlay, "rcvbuf_errors");
            ensure!(
                number(sent, "out_frames") == arrived + lost,
                "gso {gso}, to {}: {} sent, {arrived} received, {lost} lost\n{sent}\n{received}\n{underlay}",
                side.vtep,
                sent["out_frames"]
            );
            if lost == 0 {
                ensure!(number(sent, "out_bytes") == number(received, "in_bytes"), "gso {gso}:\n{sent}\n{received}");
            }
            if gso == "off" {
                let datagrams = datagrams_in(side)?;
                ensure!(datagrams == arrived, "gso {gso}: the kernel has {datagrams} datagrams, weft {arrived}");
            }
        }
        // From end to end: what the one host sent as super-frames, the other received frame by frame.
        let sent = row(&near, &a.port_name())?;
        let received = row(&far, &b.port_name())?;
        let counted = LinkCounters::of(&b.host, "eth0")?;
        ensure!(number(received, "out_frames") == counted.rx_packets, "{received}\n{counted:?}");
        let (near_out, far_in) = (drops(sent) + drops(row(&near, "192.0.2.2:4789")?), row(&far, "underlay")?);
        let lost = number(far_in, "rcvbuf_errors") + drops(received) + drops(row(&far, "192.0.2.1:4789")?);
        ensure!(
            number(sent, "in_frames") == counted.rx_packets + near_out + lost,
            "gso {gso}: {sent}\n{received}\n{counted:?}, {near_out} and {lost} were dropped"
        );
    }
    Ok(())
}

/// As much as a processor can send, of which a tap's queue can't hold half: what weft never saw is in `kernel_drops`, and
/// not in the account.
fn full_queues(shape: Shape) -> anyhow::Result<()> {
    let star = scene::Star::in_shape(shape, PREFIX, 2)?;
    let weft = Weft::start(&star.switch, &star.config())?;
    let before = LinkCounters::of(&star.hosts[0], "eth0")?;
    let (from, to) = (scene::mac(&star.hosts[0], "eth0")?, scene::mac(&star.hosts[1], "eth0")?);
    let frames = vec![frame(to, from, EXPERIMENT); 1000];
    let started = Instant::now();
    let mut injector = Injector::new(&star.hosts[0], "eth0")?;
    let mut taken = 0;
    while started.elapsed() < Duration::from_secs(2) {
        taken += injector.send_all(&frames, u32::MAX);
    }
    let ledger = at_rest(&weft)?;
    let link = LinkCounters::of(&star.hosts[0], "eth0")?;
    let at_port = row(&ledger, &star.port_name(0))?;
    let lost = number(at_port, "kernel_drops");
    ensure!(lost == link.tx_dropped && lost > before.tx_dropped, "{at_port}\n{link:?}");
    let frames_in = number(at_port, "in_frames");
    ensure!(frames_in + lost >= taken, "{taken} frames were taken, {frames_in} came in, {lost} were lost");
    ensure!(frames_in == link.tx_packets, "{at_port}\n{link:?}");
    let at_other = LinkCounters::of(&star.hosts[1], "eth0")?;
    ensure!(number(row(&ledger, &star.port_name(1))?, "out_frames") == at_other.rx_packets, "{at_other:?}");
    Ok(())
}
