//! An underlay that can't keep up, or refuses to segment: with real sockets over a real interface.

use std::{net::IpAddr, thread, time::Duration};

use anyhow::{Context, ensure};
use serde_json::Value;
use weft::lab::Namespace;
use weft_integration::{
    exchange,
    scene::{self, Pair, Side},
    shape::Shape,
    traffic::{EXPERIMENT, Injector, frame},
    weft::{PATIENCE, Weft, eventually},
};

use crate::{PREFIX, ping};

/// Frames that a host sends at once, and how many a second: much more than the underlay takes.
const FLOOD: u64 = 10_000;
const PER_SECOND: u32 = 10_000;
const FRAME_LEN: usize = 1000;

/// The rows of an account that this is about.
struct Account {
    /// Frames that came in at the host's port.
    frames_in: u64,
    /// Frames that were given to the underlay for the peer.
    out: u64,
    /// Frames to the peer that were dropped because the underlay's queue was full.
    queue_full: u64,
    /// Frames to the peer that were dropped, for whatever reason.
    dropped: u64,
}

impl Account {
    fn of(weft: &Weft, side: &Side) -> anyhow::Result<Self> {
        weft.ledger_comes_to_balance()?;
        let ledger = weft.show("ledger")?;
        let rows = ledger["rows"].as_array().context("rows")?;
        let row = |name: &str| rows.iter().find(|row| row["name"] == name).with_context(|| format!("no row {name}"));
        let (port, peer) = (row(&side.port_name())?, row(&format!("{}:4789", side.remote))?);
        let drops = peer["drops_out"].as_object().context("drops")?;
        Ok(Self {
            frames_in: port["in_frames"].as_u64().context("a number")?,
            out: peer["out_frames"].as_u64().context("a number")?,
            queue_full: drops.get("underlay_queue_full").and_then(Value::as_u64).unwrap_or(0),
            dropped: drops.values().filter_map(Value::as_u64).sum(),
        })
    }
}

/// Two wefts whose hosts know each other, and a queueing discipline at the first one's underlay. The host behind it sends
/// [`FLOOD`] frames; returns the account before and after.
fn flood(pair: &Pair, wefts: &[Weft; 2], qdisc: &[&str]) -> anyhow::Result<[Account; 2]> {
    let [a, b] = &pair.sides;
    ping(&a.host, b.address)?;
    let add = ["tc", "qdisc", "add", "dev", "under0", "root"];
    a.switch.run(&[&add, qdisc].concat())?.ok()?;
    let mut frame = frame(scene::mac(&b.host, "eth0")?, scene::mac(&a.host, "eth0")?, EXPERIMENT);
    frame.resize(FRAME_LEN, 0x5a);
    let before = Account::of(&wefts[0], a)?;
    let sent = Injector::new(&a.host, "eth0")?.send_all(&vec![frame; FLOOD as usize], PER_SECOND);
    ensure!(sent == FLOOD, "{sent}");
    eventually("all of it came in", PATIENCE, || {
        let lost = weft_integration::traffic::LinkCounters::of(&a.host, "eth0")?.tx_dropped;
        Ok(Account::of(&wefts[0], a)?.frames_in - before.frames_in + lost >= FLOOD)
    })?;
    Ok([before, Account::of(&wefts[0], a)?])
}

fn start(pair: &Pair, vtep: &str) -> anyhow::Result<[Weft; 2]> {
    let [a, b] = &pair.sides;
    Ok([Weft::start(&a.switch, &a.config(vtep, ""))?, Weft::start(&b.switch, &b.config("", ""))?])
}

/// What waits in a queueing discipline is the socket's memory: the kernel says EAGAIN when that is used up.
pub(crate) fn full_send_buffer(shape: Shape) -> anyhow::Result<()> {
    let pair = Pair::in_shape(shape, PREFIX)?;
    let mut wefts = start(&pair, "send_buffer = \"64KiB\"")?;
    let [a, b] = &pair.sides;
    let slow = ["tbf", "rate", "1mbit", "burst", "4k", "limit", "1g"];
    let [before, after] = flood(&pair, &wefts, &slow)?;
    let (came, out) = (after.frames_in - before.frames_in, after.out - before.out);
    let queue_full = after.queue_full - before.queue_full;
    ensure!(out + queue_full == came, "{came} came in, {out} went out, {queue_full} found a full queue");
    ensure!(after.dropped - before.dropped == queue_full, "another reason, too");
    ensure!(out > 10 && queue_full > came / 2, "{came} came in, {out} went out, {queue_full} found a full queue");
    // The buffer is still full. Nobody waits for it in a circle.
    let spent = wefts[0].ticks()?;
    thread::sleep(Duration::from_secs(1));
    let spent = wefts[0].ticks()? - spent;
    ensure!(spent <= 5, "{spent} hundredths of a second in one second of nothing");
    a.switch.run(&["tc", "qdisc", "del", "dev", "under0", "root"])?.ok()?;
    ping(&a.host, b.address)?;
    wefts.iter().try_for_each(Weft::ledger_comes_to_balance)
}

/// What the queueing discipline itself throws away the kernel tells a UDP socket with IP_RECVERR (net/ipv4/udp.c:udp_send_skb
/// turns ENOBUFS into success without): each datagram has its drop, and the kernel's counters agree.
pub(crate) fn full_queueing_discipline(shape: Shape) -> anyhow::Result<()> {
    let pair = Pair::in_shape(shape, PREFIX)?;
    // One datagram, one packet: a run counts once in the kernel.
    let wefts = start(&pair, "gso = \"off\"")?;
    let [a, b] = &pair.sides;
    let short = ["tbf", "rate", "1mbit", "burst", "4k", "limit", "8k"];
    let errors_before = sndbuf_errors(&a.switch)?;
    let [before, after] = flood(&pair, &wefts, &short)?;
    let (came, out) = (after.frames_in - before.frames_in, after.out - before.out);
    let queue_full = after.queue_full - before.queue_full;
    ensure!(out + queue_full == came, "{came} came in, {out} went out, {queue_full} found a full queue");
    ensure!(after.dropped - before.dropped == queue_full, "another reason, too");
    let shown: Value =
        serde_json::from_str(&a.switch.run(&["tc", "-s", "-j", "qdisc", "show", "dev", "under0"])?.ok()?.stdout)?;
    let qdisc_drops = shown[0]["drops"].as_u64().context("tc counts drops")?;
    let errors = sndbuf_errors(&a.switch)? - errors_before;
    ensure!(queue_full > came / 2, "{queue_full} of {came} were dropped: {shown}");
    // A datagram behind others in one call is tried a second time, since the first time only ends the call.
    ensure!(
        (queue_full..=2 * came).contains(&qdisc_drops),
        "{qdisc_drops} tries were dropped, {queue_full} datagrams of {came}"
    );
    ensure!(errors == qdisc_drops, "SndbufErrors are {errors}, {qdisc_drops} were dropped");
    // What was not dropped arrives at the other weft, and there is nothing else.
    let arrived = || -> anyhow::Result<u64> {
        let ledger = wefts[1].show("ledger")?;
        let rows = ledger["rows"].as_array().context("rows")?;
        let peer = rows.iter().find(|row| row["name"] == format!("{}:4789", a.vtep)).context("a row of the peer")?;
        peer["in_frames"].as_u64().context("a number")
    };
    eventually("what went out arrives", PATIENCE, || Ok(arrived()? >= after.out))?;
    ensure!(arrived()? == after.out, "{} arrived of {}", arrived()?, after.out);
    ensure!(b.vtep == a.remote);
    wefts.iter().try_for_each(Weft::ledger_comes_to_balance)
}

/// SndbufErrors of UDP over IPv4.
fn sndbuf_errors(namespace: &Namespace) -> anyhow::Result<u64> {
    let mib = namespace.within(weft::underlay::mib::udp_mib)??;
    Ok(mib.ipv4.sndbuf_errors)
}

/// The kernel refuses UDP_SEGMENT with EINVAL to a socket that sends no checksums (net/ipv4/udp.c:udp_send_skb). Nothing in
/// weft makes such a socket, so the test does: from outside, on weft's own sending sockets, of which `pidfd_getfd` gives it
/// copies.
const NO_CHECKSUMS: &str = "
import ctypes, os, socket, sys
pid, address = int(sys.argv[1]), sys.argv[2]
pidfd, libc, count = os.pidfd_open(pid), ctypes.CDLL(None, use_errno=True), 0
for fd in map(int, os.listdir(f'/proc/{pid}/fd')):
    if not os.readlink(f'/proc/{pid}/fd/{fd}').startswith('socket:'):
        continue
    copy = libc.syscall(438, pidfd, fd, 0)
    assert copy >= 0, os.strerror(ctypes.get_errno())
    one = socket.socket(fileno=copy)
    if one.family == socket.AF_INET and one.type == socket.SOCK_DGRAM and one.getsockname()[0] == address \
            and one.getsockname()[1] != 4789:
        SO_NO_CHECK = 11
        one.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        count += 1
print(count)
";

pub(crate) fn refused_runs(shape: Shape) -> anyhow::Result<()> {
    let pair = Pair::in_shape(shape, PREFIX)?;
    let [a, b] = &pair.sides;
    let mut wefts = start(&pair, "source_ports = 4")?;
    ping(&a.host, b.address)?;
    let to: IpAddr = b.address.parse()?;
    exchange::stream(&a.host, &b.host, to, 1 << 20)?;
    let told = |weft: &Weft| -> anyhow::Result<(u64, u64, String, usize)> {
        let ledger = weft.show("ledger")?;
        let rows = ledger["rows"].as_array().context("rows")?;
        let underlay = rows.iter().find(|row| row["kind"] == "underlay").context("a row of the underlay")?;
        let number = |key: &str| underlay[key].as_u64().with_context(|| format!("{key}: {underlay}"));
        let said = weft.log().matches("refuses UDP_SEGMENT").count();
        Ok((number("gso_refusals")?, number("gso_off_sockets")?, weft.succeed(&["show", "ledger"])?, said))
    };
    let (refusals, off, text, said) = told(&wefts[0])?;
    ensure!((refusals, off, said) == (0, 0, 0) && !text.contains("refused by the kernel"), "{refusals} {off} {said}");

    let pid = wefts[0].process().id().to_string();
    let changed = a.switch.run(&["python3", "-c", NO_CHECKSUMS, &pid, a.vtep])?.ok()?.stdout;
    ensure!(changed.trim() == "4", "{changed} sockets");
    // So many flows that every sender has some.
    for _ in 0..16 {
        exchange::stream(&a.host, &b.host, to, 1 << 20)?;
    }
    let (refusals, off, text, said) = told(&wefts[0])?;
    ensure!((1..=4).contains(&off) && refusals >= off, "{refusals} refused, {off} sockets");
    ensure!(said == 1, "said {said} times:\n{}", wefts[0].log());
    let sockets = if off == 1 { "socket" } else { "sockets" };
    let line = format!("now off for {off} {sockets}");
    ensure!(text.contains("refused by the kernel (GSO)") && text.contains(&line), "{line} is not in:\n{text}");
    // Which costs nothing but time.
    let drops = wefts[0].show("drops")?;
    let refused = wefts[0].dropped("underlay_refused")?;
    ensure!(refused == 0, "{drops:#}");
    wefts.iter().try_for_each(Weft::ledger_comes_to_balance)
}
