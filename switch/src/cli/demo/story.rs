//! What the demo shows, step by step. Each step does something, shows what was seen, and fails unless that is as it says.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use weft_vxlan::mtu::{Family, HeaderBudget, IPV4_HEADER_LEN};

use super::scene::{BLUE, GREEN, KERNEL, Scene, Station, Tenant, UNDERLAY_MTU, WEFTS, overlay_mtu, underlay_address};
use crate::{
    bridge::DropReason,
    cli::{tables, voice::Voice, wait},
    control::api::model::{DropCount, FdbEntry, Ledger, Place},
    lab::Output,
    wire::MacAddr,
};

/// A statement of the demo that turned out wrong.
#[derive(Debug, thiserror::Error)]
#[error("{what}\nexpected: {expected}\nseen:     {seen}")]
struct NotSo {
    what: String,
    expected: String,
    seen: String,
}

/// Fails with what was expected and what was seen.
fn check(so: bool, what: &str, expected: impl ToString, seen: impl ToString) -> anyhow::Result<()> {
    if so {
        return Ok(());
    }
    Err(NotSo { what: what.to_owned(), expected: expected.to_string(), seen: seen.to_string() }.into())
}

/// How long frames that are on their way may take to be counted.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks again until the answer is as expected; then, or when patience ends, gives the answer.
fn settled<T>(mut ask: impl FnMut() -> anyhow::Result<T>, as_expected: impl Fn(&T) -> bool) -> anyhow::Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = ask()?;
        if as_expected(&answer) || Instant::now() > end {
            return Ok(answer);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

const DRAWING: &str = "\
 10.10.0.1  10.10.0.1      10.10.0.2  10.10.0.2      10.10.0.3  10.10.0.3
   blue1      green1         blue2      green2         blue3      green3
     |          |              |          |              |          |
 +---+----------+---+      +---+----------+---+      +---+----------+---+
 | VNI 42    VNI 43 |      | VNI 42    VNI 43 |      | VNI 42    VNI 43 |
 |       weft       |      |       weft       |      | kernel bridges   |
 |                  |      |                  |      | and vxlan devices|
 +------host1-------+      +------host2-------+      +------host3-------+
      192.0.2.1                 192.0.2.2                 192.0.2.3
          |                         |                         |
 ---------+-------------------------+-------------------------+---------
                    the underlay: UDP port 4789, MTU 1500";

/// 1: all is there.
pub(super) fn built(scene: &mut Scene, voice: &Voice) -> anyhow::Result<()> {
    voice.say(DRAWING)?;
    voice.say("Everything that host1's weft is told; host2's is told the same from its side:")?;
    let config = scene.shortened(&scene.config(WEFTS[0]));
    voice.seen(&config.replace("\n\n", "\n"))?;
    scene.start_wefts()?;
    for host in WEFTS {
        let ports = wait(scene.client(host).ports())?;
        let mtus: Vec<_> = ports.iter().filter_map(|port| port.mtu).collect();
        let expected = vec![u32::from(overlay_mtu()); 2];
        check(mtus == expected, "MTU of both taps", format!("{expected:?}"), format!("{mtus:?}"))?;
    }
    voice.good("both wefts run; each made two taps, in namespaces that are not its own")
}

/// 2: flooding and learning.
pub(super) fn learning(scene: &mut Scene, voice: &Voice) -> anyhow::Result<()> {
    const ECHOES: u64 = 3;
    let [one, two, three] = stations(scene, BLUE);
    let before = shown_fdb(scene, voice, WEFTS[0])?;
    check(before.is_empty(), "the FDB at first", "no entries", tables::fdb(&before))?;
    let ping = shown_ping(voice, one, &format!("-c {ECHOES} -i 0.05 -W 1 {}", two.address()))?;
    answered(&ping)?;
    let after = shown_fdb(scene, voice, WEFTS[0])?;
    voice.say(
        "blue1 knew only an IP address, so it asked everybody (ARP, a broadcast). weft sent a copy to\n\
         each VTEP of the flood list. The answer taught weft where blue2 is, and the echo requests\n\
         went there alone. Frames received:",
    )?;
    let counts = settled(|| Ok((two.received()?, three.received()?)), |(two, three)| *two == three + ECHOES)?;
    voice.seen(&format!("blue2  {}\nblue3  {}", counts.0, counts.1))?;
    let expected = vec![at_port(one), at_vtep(two)];
    check(
        entries(scene, &after) == expected,
        "the FDB after the ping",
        expected.join(", "),
        entries(scene, &after).join(", "),
    )?;
    let (got_all, got_floods) = counts;
    check(got_floods >= 1, "the first frame is flooded", "blue3 receives it", format!("blue3 received {got_floods}"))?;
    check(
        got_all == got_floods + ECHOES,
        "what follows is not flooded",
        format!("blue2 receives {ECHOES} frames more than blue3"),
        format!("blue2 {got_all}, blue3 {got_floods}"),
    )?;
    voice.good("flooded once, learned, then straight")
}

/// 3: the other network has the same addresses.
pub(super) fn overlapping(scene: &mut Scene, voice: &Voice) -> anyhow::Result<()> {
    let [one, two, _] = stations(scene, GREEN);
    let [blue, ..] = stations(scene, BLUE);
    let ping = shown_ping(voice, one, &format!("-c 3 -i 0.05 -W 1 {}", two.address()))?;
    answered(&ping)?;
    let fdb = shown_fdb(scene, voice, WEFTS[0])?;
    voice.say("The same IP address, and each network has its own machine there:")?;
    let found = (blue.neighbour(two.address())?, one.neighbour(two.address())?);
    voice.seen(&format!("blue1   knows {} at {}\ngreen1  knows {0} at {}", two.address(), found.0, found.1))?;
    let expected: Vec<_> = [BLUE, GREEN]
        .map(|tenant| stations(scene, tenant))
        .iter()
        .flat_map(|[one, two, _]| [at_port(one), at_vtep(two)])
        .collect();
    check(
        entries(scene, &fdb) == expected,
        "the FDB of both bridges",
        expected.join(", "),
        entries(scene, &fdb).join(", "),
    )?;
    let expected = (mac_of(scene, BLUE, 2), mac_of(scene, GREEN, 2));
    check(
        found == expected,
        "who has 10.10.0.2",
        format!("{} and {}", expected.0, expected.1),
        format!("{} and {}", found.0, found.1),
    )?;
    voice.good("two networks with the same addresses, side by side")
}

/// 4: nothing leaks.
pub(super) fn isolation(scene: &mut Scene, voice: &Voice) -> anyhow::Result<()> {
    const BROADCASTS: u64 = 20;
    let only_green = "10.10.0.99";
    let [blue, ..] = stations(scene, BLUE);
    let [green, green2, _] = stations(scene, GREEN);
    voice.say(&format!("blue1 broadcasts {BROADCASTS} frames:"))?;
    let listeners: Vec<_> = [BLUE, GREEN]
        .into_iter()
        .flat_map(|tenant| stations(scene, tenant))
        .filter(|station| station.mac() != blue.mac())
        .collect();
    let counts = || listeners.iter().map(|station| station.received()).collect::<anyhow::Result<Vec<_>>>();
    let bridges = || WEFTS.iter().map(|&host| bridge_frames(scene, host)).collect::<anyhow::Result<Vec<_>>>();
    let (before, books_before) = (counts()?, bridges()?);
    let arguments = format!("-b -q -c {BROADCASTS} -i 0.01 -W 0.1 10.10.0.255");
    voice.command("blue1", &format!("ping {arguments}"))?;
    // nobody answers a broadcast, so how it ends says nothing
    blue.ping(&arguments)?;
    let expected: Vec<_> =
        listeners.iter().map(|station| if station.tenant == BLUE { BROADCASTS } else { 0 }).collect();
    let since = |now: Vec<u64>| now.iter().zip(&before).map(|(now, before)| now - before).collect::<Vec<_>>();
    let gained = settled(|| Ok(since(counts()?)), |gained| *gained == expected)?;
    voice.say("Frames that everybody else's interface received meanwhile:")?;
    let row = |(station, gained): (&&Station, &u64)| format!("{:<7} {gained:>3}", station.to_string());
    voice.seen(&listeners.iter().zip(&gained).map(row).collect::<Vec<_>>().join("\n"))?;
    let books = bridges()?.into_iter().zip(books_before).map(|(now, before)| (now.0 - before.0, now.1 - before.1));
    let books: Vec<_> = books.collect();
    voice.say("and that came into the bridges, from `weft show ledger`:")?;
    let row = |(host, (blue, green)): (&usize, &(u64, u64))| {
        format!("host{host}   bridge blue {blue:>3}   bridge green {green:>3}")
    };
    voice.seen(&WEFTS.iter().zip(&books).map(row).collect::<Vec<_>>().join("\n"))?;
    check(
        gained == expected,
        "frames received by blue2, blue3, green1, green2, green3",
        format!("{expected:?}"),
        format!("{gained:?}"),
    )?;
    let expected = vec![(BROADCASTS, 0); WEFTS.len()];
    check(books == expected, "frames into the bridges", format!("{expected:?}"), format!("{books:?}"))?;

    voice.say(&format!("green2 gets one more address, {only_green}. green1 reaches it, blue1 must not:"))?;
    green2.namespace.address("eth0", &format!("{only_green}/24"))?;
    answered(&shown_ping(voice, green, &format!("-c 1 -W 1 {only_green}"))?)?;
    let ping = shown_ping(voice, blue, &format!("-c 1 -W 0.5 {only_green}"))?;
    check(!ping.success(), "a ping across networks", "no answer", first_answer(&ping).unwrap_or("an answer"))?;
    voice.good(&format!("{BROADCASTS} broadcasts to every blue station, none to a green one, and no way across"))
}

/// 5: how large a packet may be.
pub(super) fn full_size(scene: &mut Scene, voice: &Voice) -> anyhow::Result<()> {
    const ICMP_HEADER_LEN: u16 = 8;
    let [one, two, _] = stations(scene, BLUE);
    voice.say("The headers that go around a packet of blue's take their part of the underlay's MTU:")?;
    voice.seen(&budget())?;
    let largest = overlay_mtu() - IPV4_HEADER_LEN - ICMP_HEADER_LEN;
    voice.say(&format!(
        "The largest ping carries {} - {IPV4_HEADER_LEN} (IPv4) - {ICMP_HEADER_LEN} (ICMP) = {largest} bytes:",
        overlay_mtu()
    ))?;
    answered(&shown_ping(voice, one, &format!("-c 1 -W 1 -M do -s {largest} {}", two.address()))?)?;
    let larger = largest + 1;
    let ping = shown_ping(voice, one, &format!("-c 1 -W 0.5 -M do -s {larger} {}", two.address()))?;
    check(!ping.success(), "a ping of one byte more", "refused", first_answer(&ping).unwrap_or("an answer"))?;

    voice.say("blue1's own interface refused that. Set to an MTU that does not fit, it leaves that to weft:")?;
    one.namespace.mtu("eth0", UNDERLAY_MTU)?;
    let ping = shown_ping(voice, one, &format!("-c 1 -W 0.5 -M do -s {larger} {}", two.address()))?;
    let told = format!("mtu = {}", overlay_mtu());
    check(
        refusal(&ping).is_some_and(|line| line.contains(&told)),
        "what blue1 hears of a packet that does not fit the underlay",
        &told,
        refusal(&ping).or_else(|| first_answer(&ping)).unwrap_or("nothing"),
    )?;
    voice.say(
        "weft told it by ICMP, in blue2's name, and blue1 keeps to that. The packet itself is a drop with a name:",
    )?;
    one.namespace.mtu("eth0", u32::from(overlay_mtu()))?;
    voice.command("host1", "weft show drops")?;
    let drops = drops(scene, WEFTS[0])?;
    voice.seen(&tables::drops(&drops))?;
    let answered = DropReason::OversizeAnswered.name();
    let too_long: u64 = drops.iter().filter(|drop| drop.reason == answered).map(|drop| drop.frames).sum();
    check(too_long == 1, "drops named oversize_answered", 1, too_long)?;
    let fragments = WEFTS.iter().map(|&host| fragments_made(scene, host)).sum::<anyhow::Result<u64>>()?;
    check(fragments == 0, "fragments on the underlay", 0, fragments)?;
    voice.good("what fits goes through whole, who sends more is told so, and the underlay saw no fragment")
}

/// 6: the kernel's vxlan device is a peer like any other.
pub(super) fn kernel_peer(scene: &mut Scene, voice: &Voice) -> anyhow::Result<()> {
    voice.say("host3 has no weft, but a kernel bridge with a kernel vxlan device for each network:")?;
    for tenant in [BLUE, GREEN] {
        let [one, two, three] = stations(scene, tenant);
        answered(&shown_ping(voice, one, &format!("-c 2 -i 0.05 -W 1 {}", three.address()))?)?;
        answered(&shown_ping(voice, three, &format!("-c 2 -i 0.05 -W 1 {}", two.address()))?)?;
    }
    let fdb = shown_fdb(scene, voice, WEFTS[1])?;
    for tenant in [BLUE, GREEN] {
        let expected = at_vtep(scene.station(tenant, KERNEL));
        let known = entries(scene, &fdb);
        check(known.contains(&expected), "host2's FDB", &expected, known.join(", "))?;
    }
    voice.good("weft and the kernel reach each other, both ways, in both networks")
}

/// 7: every frame is accounted for.
pub(super) fn account(scene: &mut Scene, voice: &Voice) -> anyhow::Result<()> {
    voice.say(
        "A frame that came in went out or was dropped under a name; flooding made copies of some first.\n\
         Ports and VTEPs sum up to the last line; the bridges count the same frames a second time.",
    )?;
    for host in WEFTS {
        voice.command(&format!("host{host}"), "weft show ledger")?;
        // a frame that is on its way right now is in, but not yet out
        let ledger = settled(|| wait(scene.client(host).ledger()), |ledger| ledger.totals.balanced)?;
        voice.seen(&tables::ledger(&shortened_ledger(scene, ledger.clone())))?;
        let totals = ledger.totals;
        check(
            totals.in_frames + totals.copies == totals.out_frames + totals.drops,
            "in + copies = out + drops",
            totals.in_frames + totals.copies,
            totals.out_frames + totals.drops,
        )?;
        voice.command(&format!("host{host}"), "weft show drops")?;
        let drops = drops(scene, host)?;
        voice.seen(&tables::drops(&drops))?;
        let named: u64 = drops.iter().map(|drop| drop.frames).sum();
        check(named == totals.drops, "drops with a name", totals.drops, named)?;
    }
    voice.say("And what one weft says it sent is what the other says it got:")?;
    for (from, to) in [(WEFTS[0], WEFTS[1]), (WEFTS[1], WEFTS[0])] {
        let ask = || Ok((frames(scene, from, to)?.0, frames(scene, to, from)?.1));
        let (sent, got) = settled(ask, |(sent, got)| sent == got)?;
        voice.seen(&format!("host{from} -> host{to}   sent {sent:>3}   got {got:>3}"))?;
        check(sent == got, &format!("frames from host{from} to host{to}"), sent, got)?;
    }
    voice.good("both books balance")
}

/// 8: the wefts end, and all is taken away.
pub(super) fn removed(mut scene: Scene, voice: &Voice) -> anyhow::Result<()> {
    for output in scene.stop_wefts()? {
        check(output.success(), "a weft that is asked to end (SIGTERM)", "exit code 0", &output)?;
    }
    for tenant in [BLUE, GREEN] {
        for host in WEFTS {
            let station = scene.station(tenant, host);
            check(
                station.namespace.link("eth0").is_err(),
                "a tap when its weft has ended",
                "gone",
                format!("{station} still has eth0"),
            )?;
        }
    }
    let left = scene.remove()?;
    check(left.is_empty(), "what is left behind", "nothing", left.join(", "))?;
    voice.good("the wefts ended when asked and their taps with them; no namespace, process or file is left")
}

fn stations<'s>(scene: &'s Scene, tenant: &Tenant) -> [&'s Station; 3] {
    [1, 2, KERNEL].map(|host| scene.station(tenant, host))
}

fn mac_of(scene: &Scene, tenant: &Tenant, host: usize) -> MacAddr {
    scene.station(tenant, host).mac()
}

/// Runs ping and shows the command and the lines of its output that say something.
fn shown_ping(voice: &Voice, from: &Station, arguments: &str) -> anyhow::Result<Output> {
    voice.command(&from.to_string(), &format!("ping {arguments}"))?;
    let output = from.ping(arguments)?;
    let statistics = output.stdout.lines().filter(|line| line.contains("packets transmitted"));
    let answer = first_answer(&output).or_else(|| refusal(&output));
    let lines = answer.into_iter().chain(output.stderr.lines()).chain(statistics);
    voice.seen(&lines.collect::<Vec<_>>().join("\n"))?;
    Ok(output)
}

fn first_answer(output: &Output) -> Option<&str> {
    output.stdout.lines().find(|line| line.contains(" bytes from "))
}

/// The ICMP error that it got for an answer.
fn refusal(output: &Output) -> Option<&str> {
    output.stdout.lines().find(|line| line.contains("Frag needed"))
}

fn answered(ping: &Output) -> anyhow::Result<()> {
    check(ping.success(), "a ping", "an answer", ping)
}

/// Shows a weft's FDB and gives it.
fn shown_fdb(scene: &Scene, voice: &Voice, host: usize) -> anyhow::Result<Vec<FdbEntry>> {
    voice.command(&format!("host{host}"), "weft show fdb")?;
    let mut fdb = wait(scene.client(host).fdb(None))?;
    for entry in &mut fdb {
        entry.port = entry.port.as_deref().map(|port| scene.shortened(port));
    }
    voice.seen(&tables::fdb(&fdb))?;
    Ok(fdb)
}

/// What an FDB says, without ages.
fn entries(scene: &Scene, fdb: &[FdbEntry]) -> Vec<String> {
    let behind = |entry: &FdbEntry| {
        let port = entry.port.as_deref().map(|port| scene.shortened(port));
        port.or_else(|| entry.vtep.map(|vtep| vtep.to_string())).unwrap_or_default()
    };
    fdb.iter().map(|entry| format!("{} {} behind {}", entry.bridge, entry.mac, behind(entry))).collect()
}

fn at_port(station: &Station) -> String {
    format!("{} {} behind {station}/eth0", station.tenant.name, station.mac())
}

fn at_vtep(station: &Station) -> String {
    format!("{} {} behind {}", station.tenant.name, station.mac(), underlay_address(station.host))
}

/// Drops where they happened; a bridge counts again what its ports and VTEPs count.
fn drops(scene: &Scene, host: usize) -> anyhow::Result<Vec<DropCount>> {
    let drops = wait(scene.client(host).drops())?.into_iter().filter(|drop| drop.kind != Place::Bridge);
    Ok(drops.map(|drop| DropCount { name: scene.shortened(&drop.name), ..drop }).collect())
}

fn shortened_ledger(scene: &Scene, mut ledger: Ledger) -> Ledger {
    for row in &mut ledger.rows {
        row.name = scene.shortened(&row.name);
    }
    ledger
}

/// Frames that have come into blue and into green of a weft.
fn bridge_frames(scene: &Scene, host: usize) -> anyhow::Result<(u64, u64)> {
    let ledger = wait(scene.client(host).ledger())?;
    let of = |tenant: &Tenant| {
        let row = ledger.rows.iter().find(|row| row.kind == Place::Bridge && row.name == tenant.name);
        row.map(|row| row.in_frames).with_context(|| format!("the ledger has no bridge {}", tenant.name))
    };
    Ok((of(BLUE)?, of(GREEN)?))
}

/// Inner frames that the weft of `host` has sent to another host, and got from it.
fn frames(scene: &Scene, host: usize, other: usize) -> anyhow::Result<(u64, u64)> {
    let vteps = wait(scene.client(host).vteps())?;
    let vtep = vteps.iter().find(|vtep| vtep.address == underlay_address(other));
    vtep.map(|vtep| (vtep.tx_frames, vtep.rx_frames)).with_context(|| format!("host{host} does not know host{other}"))
}

/// The headers of VXLAN, and what they leave.
fn budget() -> String {
    let headers = HeaderBudget::new(Family::Ipv4);
    let mut lines = vec![format!("underlay MTU     {UNDERLAY_MTU:>5}")];
    lines.extend(headers.lines().map(|header| format!("{:<15} - {:>4}", header.name, header.len)));
    lines.push(format!("overlay MTU    = {:>5}", overlay_mtu()));
    lines.join("\n")
}

/// IPv4 fragments that a host has made: `FragCreates` of its `/proc/net/snmp`.
fn fragments_made(scene: &Scene, host: usize) -> anyhow::Result<u64> {
    Ok(scene.host(host).counters()?.of("Ip.FragCreates"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_statement_says_what_was_expected_and_seen() {
        assert!(check(true, "sums", 2, 2).is_ok());
        let error = check(false, "sums", 2, 3).unwrap_err();
        assert_eq!(error.to_string(), "sums\nexpected: 2\nseen:     3");
    }

    #[test]
    fn the_budget_adds_up_on_paper() {
        let text = budget();
        let numbers: Vec<i64> = text.lines().filter_map(|line| line.split_whitespace().last()?.parse().ok()).collect();
        let [first, rest @ .., last] = numbers.as_slice() else { panic!("{text}") };
        assert_eq!(first - rest.iter().sum::<i64>(), *last, "{text}");
    }
}
