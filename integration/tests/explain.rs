//! `weft explain` against what then really happens.

// Clippy takes only what the standard harness runs for tests.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

use std::{net::UdpSocket, process::ExitCode};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use weft::{
    l3::too_big,
    lab::{Lab, Namespace, Process, Signal},
    wire::{MacAddr, dissect::dissect},
};
use weft_integration::{
    Needs,
    capture::{Capture, Direction, Wire},
    frames::{IPV4, ethernet, experiment, icmp_packet, tagged, vxlan},
    main_with,
    traffic::quiet,
    trial,
    weft::{PATIENCE, Weft, eventually},
};

/// No namespace of another test begins so.
const PREFIX: &str = "weft-explain";

const LEFT: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);
const RIGHT: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 2]);
const FAR: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 9]);
const NOBODY: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 0x77]);

fn main() -> ExitCode {
    // What an earlier run left that was killed. Without privileges nothing can be, and each test says so itself.
    let _ = Lab::remove_stale(PREFIX);
    let needs = Needs::ROOT_AND_TUN;
    main_with(vec![
        trial("what_is_explained_of_a_ports_frame_then_happens", needs, from_ports),
        trial("what_is_explained_of_a_vteps_frame_then_happens", needs, from_vteps),
        trial("explaining_changes_nothing_and_the_exit_code_tells_the_end", needs, changes_nothing),
        trial("frames_of_ports_and_vteps_are_explained_as_they_pass", needs, live),
        trial("a_frame_that_ended_otherwise_than_explained_is_told_so", needs, live_otherwise),
        trial("what_is_not_explained_of_a_flood_is_counted_and_nothing_is_lost_by_it", needs, live_flood),
        trial("looking_at_frames_ends_by_count_time_interrupt_and_with_the_port_or_the_switch", needs, live_ends),
    ])
}

/// A switch between two access ports, a trunk, and a VTEP that is only an address.
struct Scene {
    weft: Weft,
    switch: Namespace,
    left: Namespace,
    wires: Wires,
    peer: Namespace,
    /// What arrives at the peer.
    underlay: Capture,
    _lab: Lab,
}

struct Wires {
    left: Wire,
    right: Wire,
    trunk: Wire,
}

impl Scene {
    fn new() -> anyhow::Result<Self> {
        let lab = Lab::new(PREFIX);
        let name = |name| quiet(&lab, name);
        let [switch, left, right, trunk, peer] =
            [name("switch")?, name("left")?, name("right")?, name("trunk")?, name("peer")?];
        lab.veth((&switch, "under0"), (&peer, "under0"), 1500)?;
        switch.address("under0", "192.0.2.1/24")?;
        peer.address("under0", "192.0.2.2/24")?;
        peer.address("under0", "192.0.2.9/24")?;
        let weft = Weft::start(&switch, &config(&left, &right, &trunk))?;
        let wires = Wires {
            left: Wire::open(&left, "eth0")?,
            right: Wire::open(&right, "eth0")?,
            trunk: Wire::open(&trunk, "eth0")?,
        };
        let underlay = Capture::open(&peer, "under0", Direction::In)?;
        Ok(Self { weft, switch, left, wires, peer, underlay, _lab: lab })
    }

    fn port(&self) -> String {
        format!("{}/eth0", self.left.full_name())
    }

    /// What is said of a frame, and the command's exit code.
    fn explain(&self, args: &[&str]) -> anyhow::Result<(Value, bool)> {
        let args: Vec<_> = ["explain", "--json"].iter().chain(args).copied().collect();
        let output = self.weft.command(&args)?;
        let said = serde_json::from_str(&output.stdout).with_context(|| format!("{args:?}: {}", output.stderr))?;
        Ok((said, output.success()))
    }

    /// Fails unless the next frame has the end that `said` foresees; `send` sends it.
    fn comes_true(
        &mut self,
        said: &Value,
        frame: &[u8],
        send: impl FnOnce(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let before = self.books()?;
        for wire in [&mut self.wires.left, &mut self.wires.right, &mut self.wires.trunk] {
            wire.forget()?;
        }
        self.underlay.take()?;
        send(self)?;
        let egress: Vec<_> = stages(said, "egress").filter(|stage| stage["outcome"] == "pass").cloned().collect();
        let reason = said["verdict"]["reason"].as_str();
        eventually("the frame is in the books as it was foreseen", PATIENCE, || {
            let now = self.books()?;
            let dropped = |books: &Books| reason.map_or(0, |reason| books.drops.get(reason).copied().unwrap_or(0));
            let came = now.frames_in == before.frames_in + 1;
            ensure!(!came || now.out == before.out + egress.len() as u64, "{now:?} after {before:?}: {said:#}");
            Ok(came && dropped(&now) == dropped(&before) + u64::from(reason.is_some()))
        })?;
        for stage in egress {
            self.left_so(&stage["fields"], frame)?;
        }
        Ok(())
    }

    fn left_so(&mut self, fields: &Value, frame: &[u8]) -> anyhow::Result<()> {
        let Some(port) = fields["port"].as_str() else { return self.left_by_tunnel(fields, frame) };
        let wire = match port {
            _ if port.contains("left") => &mut self.wires.left,
            _ if port.contains("right") => &mut self.wires.right,
            _ => &mut self.wires.trunk,
        };
        let sent = match fields["vlan"].as_u64() {
            Some(vid) => tagged(frame, &[[0x81, 0, 0, vid as u8]]),
            None => frame.to_vec(),
        };
        ensure!(fields["length"] == sent.len(), "{} bytes: {fields}", sent.len());
        wire.expect(&sent, |bytes| bytes[6..12] == frame[6..12]).with_context(|| port.to_owned())
    }

    fn left_by_tunnel(&self, fields: &Value, frame: &[u8]) -> anyhow::Result<()> {
        let outer = self.underlay.find(|outer| outer.ends_with(frame) && outer.len() == frame.len() + 50)?;
        let port = |at: usize| u64::from(u16::from_be_bytes([outer[at], outer[at + 1]]));
        let address = |at: usize| format!("{}.{}.{}.{}", outer[at], outer[at + 1], outer[at + 2], outer[at + 3]);
        let seen = serde_json::json!({
            "outer_src": address(26), "outer_dst": address(30),
            "outer_src_port": port(34), "outer_dst_port": port(36),
            "outer_ttl": outer[22], "outer_tos": outer[15], "outer_df": outer[20] & 0x40 != 0,
            "outer_length": outer.len() - 14,
            "vni": u32::from_be_bytes([0, outer[46], outer[47], outer[48]]),
        });
        for (key, seen) in seen.as_object().unwrap() {
            ensure!(fields[key] == *seen, "{key} is {seen} on the wire: {fields:#}");
        }
        Ok(())
    }

    fn books(&self) -> anyhow::Result<Books> {
        let ledger = self.weft.show("ledger")?;
        let number = |key: &str| ledger["totals"][key].as_u64().context("a number");
        let mut drops = std::collections::BTreeMap::new();
        for row in ledger["rows"].as_array().context("rows")?.iter().filter(|row| row["kind"] != "bridge") {
            for way in ["drops_in", "drops_out"] {
                for (reason, frames) in row[way].as_object().context("drops")? {
                    *drops.entry(reason.clone()).or_default() += frames.as_u64().context("frames")?;
                }
            }
        }
        Ok(Books { frames_in: number("in")?, out: number("out")?, drops })
    }
}

#[derive(PartialEq, Eq, Debug)]
struct Books {
    frames_in: u64,
    out: u64,
    drops: std::collections::BTreeMap<String, u64>,
}

fn config(left: &Namespace, right: &Namespace, trunk: &Namespace) -> String {
    let [left, right, trunk] = [left, right, trunk].map(Namespace::full_name);
    format!(
        r#"[switch]
workers = 2

[vtep]
address = "192.0.2.1"
path_mtu = "assume"
ttl = "inherit"
tos = "inherit"

[[bridge]]
name = "blue"
vni = 42
remotes = ["192.0.2.2"]

[[bridge]]
name = "green"

[[port]]
name = "eth0"
netns = "{left}"
bridge = "blue"
mtu = 1500
mac = "{LEFT}"

[[port]]
name = "eth0"
netns = "{right}"
bridge = "blue"
mac = "{RIGHT}"
bcast_flood = false

[[port]]
name = "eth0"
netns = "{trunk}"
trunk = {{ 10 = "blue", 20 = "green" }}

[[fdb]]
bridge = "blue"
mac = "{FAR}"
vtep = "192.0.2.2"

[[fdb]]
bridge = "blue"
mac = "{RIGHT}"
port = "{right}/eth0"
"#
    )
}

fn stages<'s>(said: &'s Value, name: &str) -> impl Iterator<Item = &'s Value> {
    said["stages"].as_array().expect("a list").iter().filter(move |stage| stage["stage"] == name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether this line of the configuration is named.
fn names_line(said: &Value, key: &str, config: &str, line: &str) -> bool {
    let number = 1 + config.lines().position(|written| written.starts_with(line)).expect("such a line");
    let stages = said["stages"].as_array().expect("a list").iter();
    let mut deciders = stages.flat_map(|stage| stage["config"].as_array().expect("a list"));
    deciders.any(|decider| decider["key"] == key && decider["line"] == number)
}

fn from_ports() -> anyhow::Result<()> {
    let mut scene = Scene::new()?;
    let ping = |dst, src, len: usize| {
        let mut frame = ethernet(dst, src, IPV4, &icmp_packet(0xb9, [10, 0, 0, 1].into(), [10, 0, 0, 2].into()));
        frame.resize(len, 0);
        frame
    };
    let long = |dst, src, len: usize| {
        let mut frame = experiment(dst, src);
        frame.resize(len, 0);
        frame
    };
    // Destination, source, what becomes of it.
    for (frame, reason, copies) in [
        (experiment(NOBODY, LEFT), None, 3),
        (experiment(MacAddr::BROADCAST, LEFT), None, 2),
        (experiment(RIGHT, LEFT), None, 1),
        (ping(FAR, LEFT, 98), None, 1),
        (experiment(LEFT, NOBODY), Some("same_endpoint"), 0),
        (experiment(RIGHT, MacAddr::ZERO), Some("source_invalid"), 0),
        (experiment(MacAddr::new([1, 0x80, 0xc2, 0, 0, 0xe]), LEFT), Some("reserved_group"), 0),
        (ping(RIGHT, LEFT, 1480), Some("egress_mtu"), 0),
        (long(FAR, LEFT, 1480), Some("oversize_not_ip"), 0),
    ] {
        let (said, delivered) = scene.explain(&["--port", &scene.port(), &hex(&frame)])?;
        ensure!(said["verdict"]["reason"].as_str() == reason, "{said:#}");
        ensure!(delivered == reason.is_none(), "{said:#}");
        ensure!(stages(&said, "egress").filter(|stage| stage["outcome"] == "pass").count() == copies, "{said:#}");
        scene.comes_true(&said, &frame, |scene| scene.wires.left.send(std::slice::from_ref(&frame)))?;
    }

    // What is too long and must not be fragmented is answered: by these bytes.
    let mut frame = ping(FAR, LEFT, 1480);
    frame[16..18].copy_from_slice(&1466_u16.to_be_bytes());
    frame[20] = 0x40;
    let (said, _) = scene.explain(&["--port", &scene.port(), &hex(&frame)])?;
    ensure!(said["verdict"]["result"] == "answered", "{said:#}");
    let [to_vtep, back] = stages(&said, "egress").collect::<Vec<_>>()[..] else { bail!("{said:#}") };
    ensure!(to_vtep["reason"] == "oversize_answered" && to_vtep["fields"]["oversize"] == "answered", "{said:#}");
    ensure!(back["outcome"] == "pass" && back["fields"]["length"] == 14 + 576, "{said:#}");
    scene.wires.left.forget()?;
    scene.wires.left.send(&[frame.clone()])?;
    let answer = too_big::answer(&frame, &dissect(&frame), 1450)?;
    scene.wires.left.expect(&answer, |bytes| bytes[6..12] == FAR.octets())?;

    let trunk = scene.port().replace("left", "trunk");
    for (vid, reason) in [(10, None), (20, Some("no_flood_target")), (30, Some("vlan_not_member"))] {
        let inner = experiment(NOBODY, FAR);
        let frame = tagged(&inner, &[[0x81, 0, 0, vid]]);
        let (said, _) = scene.explain(&["--port", &trunk, &hex(&frame)])?;
        ensure!(said["verdict"]["reason"].as_str() == reason, "{said:#}");
        scene.comes_true(&said, &inner, |scene| scene.wires.trunk.send(std::slice::from_ref(&frame)))?;
    }
    scene.weft.ledger_comes_to_balance()
}

fn from_vteps() -> anyhow::Result<()> {
    let mut scene = Scene::new()?;
    let peer = scene.peer.clone();
    let send = |source: &str, payload: &[u8]| -> anyhow::Result<()> {
        let socket = peer.within(|| UdpSocket::bind((source, 0)))??;
        socket.send_to(payload, "192.0.2.1:4789")?;
        Ok(())
    };
    let to_left = experiment(LEFT, FAR);
    for (source, payload, reason) in [
        ("192.0.2.2", vxlan(42, &to_left), None),
        ("192.0.2.2", vxlan(43, &to_left), Some("vni_unknown")),
        ("192.0.2.9", vxlan(42, &to_left), Some("vtep_unknown")),
        ("192.0.2.2", vxlan(42, &to_left)[..7].to_vec(), Some("vxlan_truncated")),
        ("192.0.2.2", vxlan(42, &experiment(FAR, NOBODY)), Some("split_horizon")),
    ] {
        let (said, delivered) = scene.explain(&["--vtep", source, "--outer", &hex(&payload)])?;
        ensure!(said["verdict"]["reason"].as_str() == reason, "{said:#}");
        ensure!(delivered == reason.is_none(), "{said:#}");
        scene.comes_true(&said, &to_left, |_| send(source, &payload))?;
    }
    // The inner frame alone goes into the only bridge that knows the VTEP.
    let (said, _) = scene.explain(&["--vtep", "192.0.2.2", &hex(&to_left)])?;
    ensure!(said["bridge"] == "blue" && said["verdict"]["result"] == "delivered", "{said:#}");
    Ok(())
}

fn changes_nothing() -> anyhow::Result<()> {
    let scene = Scene::new()?;
    let state = || anyhow::Ok((scene.weft.show("fdb")?, scene.books()?, scene.weft.show("vteps")?));
    let before = state()?;
    let port = scene.port();
    let code = |args: &[&str]| anyhow::Ok(scene.weft.command(args)?.status.code());
    ensure!(code(&["explain", "--port", &port, "--dst", "02:00:00:00:00:02"])? == Some(0));
    ensure!(code(&["explain", "--port", &port, "--src", "00:00:00:00:00:00"])? == Some(1));
    ensure!(code(&["explain", "--port", &port, "nonsense"])? == Some(2));
    ensure!(code(&["explain", "--vtep", "192.0.2.2", "--vni", "16777216", "00"])? == Some(2));
    ensure!(code(&["explain", "--port", "nobody/eth0", "00"])? == Some(1));
    ensure!(state()? == before, "{:?} after {before:?}", state()?);

    let (said, _) = scene.explain(&["--port", &port, "--dst", "ff:ff:ff:ff:ff:ff"])?;
    let config = config(&scene.left, &scene.left, &scene.left);
    ensure!(names_line(&said, "bcast_flood", &config, "bcast_flood"), "{said:#}");
    ensure!(names_line(&said, "ttl", &config, "ttl"), "{said:#}");
    let text = scene.weft.succeed(&["explain", "--port", &port, "--dst", "ff:ff:ff:ff:ff:ff"])?;
    ensure!(text.contains("weft.toml:") && text.contains("its gate for broadcast is closed"), "{text}");
    Ok(())
}

/// `weft explain --live`, looking already.
struct Live(Process);

impl Live {
    fn begin(weft: &Weft, args: &[&str]) -> anyhow::Result<Self> {
        let args: Vec<_> = ["explain", "--live", "--json"].iter().chain(args).copied().collect();
        let mut process = weft.begin(&args)?;
        process.wait_for(r#"{"event":"begin"}"#, PATIENCE)?;
        Ok(Self(process))
    }

    /// The frames that were told so far.
    fn frames(&self) -> anyhow::Result<Vec<Value>> {
        let events = events(&self.0.stdout())?;
        Ok(events.into_iter().filter(|event| event["event"] == "frame").collect())
    }

    /// Waits until so many frames were told.
    fn told(&self, count: usize) -> anyhow::Result<Vec<Value>> {
        eventually("the frames are explained", PATIENCE, || Ok(self.frames()?.len() >= count))?;
        self.frames()
    }

    /// Waits for its end: its last word and its exit code.
    fn end(mut self) -> anyhow::Result<(Value, Option<i32>)> {
        let output = self.0.wait(PATIENCE)?;
        let last = events(&output.stdout)?.pop().context("something is told")?;
        Ok((last, output.status.code()))
    }
}

fn events(lines: &str) -> anyhow::Result<Vec<Value>> {
    // The last line may be half-way.
    let whole = lines.rfind('\n').map_or("", |end| &lines[..end]);
    whole.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn live() -> anyhow::Result<()> {
    let mut scene = Scene::new()?;
    let live = Live::begin(&scene.weft, &["--count", "3"])?;
    let broadcast = experiment(MacAddr::BROADCAST, LEFT);
    let foreseen = scene.explain(&["--port", &scene.port(), &hex(&broadcast)])?.0;
    scene.wires.left.send(std::slice::from_ref(&broadcast))?;
    let [passed] = &live.told(1)?[..] else { anyhow::bail!("more than one") };
    ensure!(passed["agrees"] == true, "{passed:#}");
    // It is told as it was foreseen, from the source that it taught to the outer header that it got.
    for key in ["frame", "port", "bridge", "verdict"] {
        ensure!(passed["explanation"][key] == foreseen[key], "{key}: {passed:#} after {foreseen:#}");
    }
    let texts = |said: &Value| said["stages"].as_array().expect("a list").iter().map(|it| it["text"].clone()).collect();
    let (told, expected): (Vec<_>, Vec<_>) = (texts(&passed["explanation"]), texts(&foreseen));
    ensure!(told == expected, "{told:#?} after {expected:#?}");
    let places: Vec<_> = passed["copies"]
        .as_array()
        .context("a list")?
        .iter()
        .map(|copies| {
            (
                copies["port"].as_str().map(|port| port.contains("trunk")),
                copies["vtep"].as_str(),
                copies["frames"].as_u64(),
            )
        })
        .collect();
    ensure!(places == [(Some(true), None, Some(1)), (None, Some("192.0.2.2:4789"), Some(1))], "{places:?}");

    // One that is dropped, and one from a VTEP.
    scene.wires.left.send(&[experiment(LEFT, NOBODY)])?;
    let dropped = &live.told(2)?[1];
    ensure!(dropped["agrees"] == true && dropped["end"]["reason"] == "same_endpoint", "{dropped:#}");
    let payload = vxlan(42, &experiment(LEFT, FAR));
    let peer = scene.peer.clone();
    peer.within(|| UdpSocket::bind(("192.0.2.2", 0)).and_then(|it| it.send_to(&payload, "192.0.2.1:4789")))??;
    let from_vtep = &live.told(3)?[2];
    ensure!(from_vtep["agrees"] == true && from_vtep["explanation"]["vtep"] == "192.0.2.2", "{from_vtep:#}");
    ensure!(from_vtep["end"]["ports"] == serde_json::json!([scene.port()]), "{from_vtep:#}");
    ensure!(from_vtep["explanation"]["frame"]["hex"] == hex(&experiment(LEFT, FAR)), "{from_vtep:#}");
    let (end, code) = live.end()?;
    ensure!((end["why"].as_str(), code) == (Some("count"), Some(0)), "{end:#}, {code:?}");

    // What is looked for is all that is told.
    let live =
        Live::begin(&scene.weft, &["--vtep", "192.0.2.2", "--dst", &LEFT.to_string(), "--ether-type", "0x88b5"])?;
    scene.wires.left.send(&[experiment(LEFT, RIGHT)])?;
    for frame in [experiment(RIGHT, FAR), experiment(LEFT, FAR)] {
        let payload = vxlan(42, &frame);
        peer.within(|| UdpSocket::bind(("192.0.2.2", 0)).and_then(|it| it.send_to(&payload, "192.0.2.1:4789")))??;
    }
    let told = live.told(1)?;
    ensure!(told.len() == 1 && told[0]["sampled"]["matched"] == 1, "{told:#?}");
    Ok(())
}

fn live_otherwise() -> anyhow::Result<()> {
    let mut scene = Scene::new()?;
    // The route to the peer goes while the switch still believes that it has one: the kernel refuses what nobody foresaw.
    let live = Live::begin(&scene.weft, &["--port", &scene.port(), "--dst", &FAR.to_string()])?;
    let frame = experiment(FAR, LEFT);
    scene.wires.left.send(std::slice::from_ref(&frame))?;
    ensure!(live.told(1)?[0]["agrees"] == true);
    scene.switch.run(&["nft", "add", "table", "ip", "no"])?;
    let chain = "{ type filter hook output priority 0; policy drop; }";
    scene.switch.run(&["nft", "add", "chain", "ip", "no", "out", chain])?;
    scene.wires.left.send(std::slice::from_ref(&frame))?;
    let passed = &live.told(2)?[1];
    ensure!(passed["agrees"] == false, "{passed:#}");
    let differences = passed["differences"].as_array().context("a list")?;
    let names = |part: &str| differences.iter().any(|it| it.as_str().is_some_and(|it| it.contains(part)));
    ensure!(names("ended as underlay_refused, unforeseen") && names("should have left by VTEP"), "{differences:?}");
    ensure!(passed["explanation"]["verdict"]["result"] == "delivered", "{passed:#}");
    ensure!(passed["end"]["result"] == "dropped" && passed["end"]["reason"] == "underlay_refused", "{passed:#}");
    Ok(())
}

fn live_flood() -> anyhow::Result<()> {
    const FRAMES: u64 = 1000;
    let mut scene = Scene::new()?;
    let before = scene.books()?;
    let live = Live::begin(&scene.weft, &["--port", &scene.port(), "--seconds", "3", "--rate", "5"])?;
    // Within a second, so that the rate lets a few pass besides the burst.
    scene.wires.left.repeat(&experiment(RIGHT, LEFT), FRAMES as usize)?;
    let (end, code) = live.end()?;
    ensure!((end["why"].as_str(), code) == (Some("seconds"), Some(0)), "{end:#}, {code:?}");
    let sampled = |key: &str| end["sampled"][key].as_u64().context("a number");
    let (explained, too_soon, lost) = (sampled("explained")?, sampled("too_soon")?, sampled("lost")?);
    ensure!(sampled("matched")? == FRAMES && explained + too_soon + lost == FRAMES, "{end:#}");
    ensure!((20..=20 + 3 * 5).contains(&explained), "{end:#}");
    eventually("every frame has passed", PATIENCE, || Ok(scene.books()?.frames_in == before.frames_in + FRAMES))?;
    scene.weft.ledger_comes_to_balance()
}

fn live_ends() -> anyhow::Result<()> {
    let mut scene = Scene::new()?;
    // Nothing that fits passes: the exit code says so.
    let none = Live::begin(&scene.weft, &["--src", &NOBODY.to_string(), "--seconds", "1"])?;
    let (end, code) = none.end()?;
    ensure!((end["why"].as_str(), code) == (Some("seconds"), Some(1)), "{end:#}, {code:?}");

    // Ctrl-C, in words.
    let args = ["explain", "--live", "--port", &scene.port()];
    let mut words = scene.weft.begin(&args)?;
    words.wait_for("looking at what passes", PATIENCE)?;
    scene.wires.left.send(&[experiment(RIGHT, LEFT)])?;
    words.wait_for("and so it was", PATIENCE)?;
    words.signal(Signal::INT)?;
    let output = words.wait(PATIENCE)?;
    ensure!(output.status.code() == Some(0), "{output:?}");
    ensure!(output.stdout.contains("--- frame 1, which passed ") && output.stdout.contains(" 6  decide"), "{output:?}");
    ensure!(output.stderr.contains("1 frame explained, of 1 that fitted"), "{output:?}");

    // Nobody who left is looked for any more.
    eventually("the workers look at nothing", PATIENCE, || {
        let busy: Vec<_> = (0..8).map(|_| Live::begin(&scene.weft, &[])).collect::<anyhow::Result<_>>()?;
        let refused = scene.weft.command(&["explain", "--live"])?;
        ensure!(refused.stderr.contains("8 look at frames already"), "{refused:?}");
        drop(busy);
        Ok(true)
    })?;
    eventually("there is room again", PATIENCE, || Ok(Live::begin(&scene.weft, &[]).is_ok()))?;

    let (gone, all) = (Live::begin(&scene.weft, &["--port", &scene.port()])?, Live::begin(&scene.weft, &[])?);
    scene.weft.succeed(&["port", "del", &scene.port()])?;
    let (end, code) = gone.end()?;
    ensure!((end["why"].as_str(), code) == (Some("gone"), Some(1)), "{end:#}, {code:?}");
    scene.wires.right.send(&[experiment(NOBODY, RIGHT)])?;
    ensure!(all.told(1)?[0]["agrees"] == true);
    scene.weft.process().terminate(PATIENCE)?;
    let (last, code) = all.end()?;
    ensure!(last["event"] == "frame" && code == Some(0), "{last:#}, {code:?}");
    Ok(())
}
