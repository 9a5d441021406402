//! ICMP errors that nobody on the way has sent: who can put packets on the underlay can say that a path is smaller, or larger,
//! or nonsense. The path MTU must not follow, and the traffic not stop.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use weft_integration::{
    Needs,
    capture::{Capture, Direction},
    exchange::stream,
    frames::internet_sum,
    traffic::PingTrain,
    trial,
};

use crate::{
    NEEDS,
    scene::payload,
    way::{Filter, Options, Peer, Way, known, settles},
};

/// What the link in the middle has, and what a router says of it: all that comes besides is forged.
const MIDDLE: u32 = 1400;
const FLOOD: u32 = 10_000;
/// Errors between two looks at the path MTU.
const BATCH: u32 = 500;
/// What goes by TCP during a flood.
const STREAM: usize = 32 << 20;
/// How long a forged error that could be true may be believed.
const HEALED: Duration = Duration::from_secs(5);

type Test = fn(&Forged) -> anyhow::Result<()>;

pub(crate) fn tests() -> Vec<Trial> {
    let needs = Needs { programs: &["ping", "ip", "nft"], ..NEEDS };
    let tests: [(&str, Test); 2] = [
        ("ten_thousand_forged_errors_move_nothing", nonsense),
        ("a_forged_error_that_could_be_true_is_found_out_and_its_like_doubted", plausible),
    ];
    let mut trials = Vec::new();
    for (name, test) in tests {
        for ipv6_underlay in [false, true] {
            let name = format!("{name} [IPv{}]", if ipv6_underlay { 6 } else { 4 });
            let named = name.clone();
            trials.push(trial(&name, needs, move || test(&Forged { name: named, ipv6_underlay })));
        }
    }
    trials
}

struct Forged {
    name: String,
    ipv6_underlay: bool,
}

impl Forged {
    fn way(&self) -> anyhow::Result<Way> {
        Way::new(&Options {
            ipv6_underlay: self.ipv6_underlay,
            peer: Peer::Weft,
            filter: Filter::Nothing,
            middle: MIDDLE,
            vtep: "",
        })
    }
}

/// Values that no path has, with a true quotation, and values that a path could have, with quotations of what was never sent.
fn nonsense(test: &Forged) -> anyhow::Result<()> {
    let way = test.way()?;
    let wefts = way.start()?;
    settles(&wefts.near, (MIDDLE, "measured"), Instant::now(), HEALED)?;
    let forger = Forger::new(&way)?;
    let foreign = forger.foreign_quotes();
    let whole = || {
        let now = known(&wefts.near)?;
        ensure!(now["path_mtu"] == MIDDLE, "the path MTU has moved: {now:#}");
        anyhow::Ok(now)
    };
    let before = whole()?;
    let traffic_goes_on = || -> anyhow::Result<Duration> {
        let began = Instant::now();
        for number in 0..FLOOD {
            // One after the other, so that each kind finds room in the kernel's queue.
            match number as usize % 8 {
                0 => forger.send(0, &forger.quote)?,
                1 => forger.send(68, &forger.quote)?,
                2 => forger.send(65_535, &forger.quote)?,
                3 => forger.send(forger.lowest - 1, &forger.quote)?,
                other => forger.send(forger.lowest + number % 700, &foreign[other - 4])?,
            }
            if number % BATCH == BATCH - 1 {
                whole()?;
            }
        }
        Ok(began.elapsed())
    };
    let took = during_traffic(&way, traffic_goes_on)?;
    let after = whole()?;
    let more = |key: &str| after[key].as_u64().zip(before[key].as_u64()).map_or(0, |(after, before)| after - before);
    let (impossible, foreign) = (more("errors_impossible"), more("errors_foreign"));
    let unknown = &wefts.near.show("mtu")?["underlay"]["errors_foreign"];
    println!(
        "{}: {FLOOD} errors in {:.2} s: {impossible} impossible, {foreign} foreign to the VTEP, {unknown} to all",
        test.name,
        took.as_secs_f64()
    );
    // The kernel has room for some hundred of them at a time, and keeps back what quotes no socket of this host.
    ensure!(impossible >= 10 && foreign >= 1 && unknown.as_u64() >= Some(1), "they were not heard: {after:#}");
    // What agrees is the true router's, whenever something larger is tried.
    ensure!(more("errors_doubted") == 0, "{after:#}");
    way.carries(MIDDLE)?;
    wefts.near.ledger_comes_to_balance()
}

fn plausible(test: &Forged) -> anyhow::Result<()> {
    let way = test.way()?;
    let wefts = way.start()?;
    settles(&wefts.near, (MIDDLE, "measured"), Instant::now(), HEALED)?;
    let forger = Forger::new(&way)?;
    let accepted = |now: &Value| now["errors_accepted"].as_u64().unwrap_or(0);
    let before = known(&wefts.near)?;
    let began = Instant::now();
    forger.send(forger.lowest, &forger.quote)?;
    let mut now = known(&wefts.near)?;
    while accepted(&now) == accepted(&before) {
        ensure!(began.elapsed() < HEALED, "it was not heard: {now:#}");
        now = known(&wefts.near)?;
    }
    let (took, _) = settles(&wefts.near, (MIDDLE, "measured"), began, HEALED)?;
    println!("{}: {MIDDLE} again after {:.2} s", test.name, took.as_secs_f64());

    let doubted = |now: &Value| now["errors_doubted"].as_u64().unwrap_or(0);
    let flood = || {
        for number in 0..FLOOD {
            forger.send(forger.lowest + number % (MIDDLE - forger.lowest), &forger.quote)?;
            if number % BATCH == BATCH - 1 {
                let now = known(&wefts.near)?;
                ensure!(now["path_mtu"] == MIDDLE, "the path MTU has moved: {now:#}");
            }
        }
        Ok(began.elapsed())
    };
    during_traffic(&way, flood)?;
    let after = known(&wefts.near)?;
    println!("{}: of {FLOOD} like it {} were heard and doubted", test.name, doubted(&after) - doubted(&before));
    ensure!(doubted(&after) >= doubted(&before) + 10, "they were not heard: {after:#}");
    way.carries(MIDDLE)?;
    wefts.near.ledger_comes_to_balance()
}

/// Does something while pings that fill the path and TCP go on as if nothing was.
fn during_traffic<T>(way: &Way, what: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let filling = payload(way.fits(MIDDLE), Way::RIGHT);
    let pings = PingTrain::start_with(&way.left, Way::RIGHT, &["-Mdo", "-s", &filling])?;
    let done = thread::scope(|scope| {
        let stream = scope.spawn(|| stream(&way.left, &way.right, Way::RIGHT.parse()?, STREAM));
        let done = what();
        stream.join().map_err(|_| anyhow!("the stream panicked"))?.context("TCP")?;
        done
    })?;
    let pings = pings.stop()?;
    ensure!(pings.sent > 20 && pings.lost * 20 <= pings.sent, "traffic does not go on: {pings:?}");
    ensure!(pings.longest_silence < Duration::from_secs(1), "traffic stood still: {pings:?}");
    Ok(done)
}

/// Says what it likes, from a router on the way.
struct Forger {
    socket: Socket,
    to: SockAddr,
    is_ipv4: bool,
    /// The smallest value that a path can have.
    lowest: u32,
    /// The beginning of a packet that the near weft has sent to the far one.
    quote: Vec<u8>,
}

impl Forger {
    fn new(way: &Way) -> anyhow::Result<Self> {
        let [near, _] = way.vteps;
        let is_ipv4 = near.is_ipv4();
        let capture = Capture::open(&way.r1, "to_near", Direction::In)?;
        let _talk = way.small_talk()?;
        // Behind Ethernet: IP, UDP to the tunnel's port, and the tunnel's header with some of what it carries.
        let (protocol_at, ip_len) = if is_ipv4 { (14 + 9, 20) } else { (14 + 6, 40) };
        let is_tunnels = |frame: &[u8]| {
            frame.get(protocol_at) == Some(&17)
                && frame.get(14 + ip_len + 2..14 + ip_len + 4) == Some(&4789_u16.to_be_bytes())
        };
        let packet = capture.find(is_tunnels)?;
        let quote = packet[14..14 + ip_len + 8 + 8 + 14].to_vec();
        let (domain, protocol) =
            if is_ipv4 { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
        let socket = way.r1.within(|| Socket::new(domain, Type::RAW, Some(protocol)))??;
        let lowest = if is_ipv4 { 576 } else { 1280 };
        Ok(Self { socket, to: SocketAddr::new(near, 0).into(), is_ipv4, lowest, quote })
    }

    /// "Fragmentation needed", or "packet too big".
    fn send(&self, mtu: u32, quote: &[u8]) -> anyhow::Result<()> {
        let kind = if self.is_ipv4 { [3, 4] } else { [2, 0] };
        let mut message = [&kind[..], &[0; 2], &mtu.to_be_bytes(), quote].concat();
        if self.is_ipv4 {
            let checksum = !internet_sum(&message);
            message[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        self.socket.send_to(&message, &self.to).context("a raw socket")?;
        Ok(())
    }

    /// Packets that were never sent: of another network, to another host, from another port, and of another protocol.
    fn foreign_quotes(&self) -> [Vec<u8>; 4] {
        let (ip_len, destination, protocol) = if self.is_ipv4 { (20, 16..20, 9) } else { (40, 24..40, 6) };
        let other = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut quote = self.quote.clone();
            change(&mut quote);
            quote
        };
        [
            other(&|quote| quote[ip_len + 8 + 6] ^= 1),
            other(&|quote| quote[destination.end - 1] ^= 0x40),
            other(&|quote| quote[ip_len..ip_len + 2].copy_from_slice(&9_u16.to_be_bytes())),
            other(&|quote| quote[protocol] = 6),
        ]
    }
}
