//! Path MTUs that nobody tells: how long weft takes to find them, to find that they have become smaller, and that they have
//! grown.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, ensure};
use libtest_mimic::Trial;
use weft_integration::{Needs, exchange::stream, trial, weft::Weft};

use crate::{
    NEEDS,
    way::{Filter, Options, Peer, Way, known, settles},
};

/// What goes by TCP.
const STREAM: usize = 1 << 20;
/// The link in the middle, and what it becomes.
const SMALL: u32 = 1400;
const SMALLER: u32 = 1300;
/// From the start of weft until it knows the path MTU, if another weft answers.
const BETWEEN_WEFTS: Duration = Duration::from_secs(5);
/// The same if the VTEP is the kernel's.
const TO_A_KERNEL: Duration = Duration::from_secs(10);
/// From the moment from which large packets vanish until weft says so.
const HOLE_REPORTED: Duration = Duration::from_secs(30);
/// From the moment from which larger packets pass until weft sends them, with an ageing time of five seconds.
const GROWN: Duration = Duration::from_secs(20);

pub(crate) fn tests() -> Vec<Trial> {
    let needs = Needs { programs: &["ping", "ip", "nft"], ..NEEDS };
    let mut tests = Vec::new();
    for ipv6_underlay in [false, true] {
        let base = Options { ipv6_underlay, peer: Peer::Weft, filter: Filter::Icmp, middle: SMALL, vtep: "" };
        let mut test = |name: &str, run: fn(&str, &Options) -> anyhow::Result<()>, options: Options| {
            let name = format!("{name} [IPv{}]", if ipv6_underlay { 6 } else { 4 });
            let named = name.clone();
            tests.push(trial(&name, needs, move || run(&named, &options)));
        };
        let kernel = Options { peer: Peer::Kernel, ..base };
        test("between_wefts_a_path_without_any_icmp_is_measured", found, base);
        test("to_a_kernel_a_path_without_any_icmp_is_measured", found, kernel);
        test("between_wefts_a_path_without_errors_is_measured", found, Options { filter: Filter::Errors, ..base });
        test("to_a_kernel_a_path_without_errors_is_measured", found, Options { filter: Filter::Errors, ..kernel });
        test("between_wefts_a_black_hole_that_comes_later_is_reported", comes_later, base);
        test("to_a_kernel_a_black_hole_that_comes_later_is_reported", comes_later, kernel);
        let soon = Options { vtep: "path_mtu_ageing = \"5s\"", ..base };
        test("between_wefts_a_path_that_grows_is_used", grows, soon);
        test("to_a_kernel_a_path_that_grows_is_used", grows, Options { peer: Peer::Kernel, ..soon });
        let learn = "path_mtu = \"learn\"\npath_mtu_ageing = \"5s\"";
        test("what_a_router_said_is_forgotten", forgotten, Options { filter: Filter::Nothing, vtep: learn, ..base });
    }
    tests
}

/// The figures are of a machine that has time: one that is busy with other tests may need another try.
fn found(name: &str, options: &Options) -> anyhow::Result<()> {
    for _ in 0..2 {
        match found_in_time(name, options) {
            Ok(()) => return Ok(()),
            Err(error) => println!("{name}: once more, since: {error:#}"),
        }
    }
    found_in_time(name, options)
}

/// TCP is under way from the first moment on: its first segments vanish, and it goes on when weft knows why.
fn found_in_time(name: &str, options: &Options) -> anyhow::Result<()> {
    let way = Way::new(options)?;
    let began = Instant::now();
    let wefts = way.start()?;
    let limit = if options.peer == Peer::Weft { BETWEEN_WEFTS } else { TO_A_KERNEL };
    thread::scope(|scope| {
        let stream = scope.spawn(|| {
            stream(&way.left, &way.right, Way::RIGHT.parse()?, STREAM)?;
            anyhow::Ok(began.elapsed())
        });
        for weft in wefts.all() {
            let (took, now) = settles(weft, (SMALL, "black_hole"), began, limit)?;
            ensure!(now["vanishing_from"] == SMALL + 1, "{now:#}");
            println!("{name}: path MTU {SMALL} after {:.2} s, by {}", took.as_secs_f64(), now["method"]);
        }
        let took = stream.join().map_err(|_| anyhow!("the stream panicked"))?.context("TCP")?;
        println!("{name}: {STREAM} bytes of TCP after {:.2} s", took.as_secs_f64());
        anyhow::Ok(())
    })?;
    way.carries(SMALL)?;
    wefts.all().try_for_each(Weft::ledger_comes_to_balance)
}

fn comes_later(name: &str, options: &Options) -> anyhow::Result<()> {
    let way = Way::new(&Options { middle: Way::LINK_MTU, ..*options })?;
    let wefts = way.start()?;
    let _talk = way.small_talk()?;
    for weft in wefts.all() {
        settles(weft, (Way::LINK_MTU, "measured"), Instant::now(), TO_A_KERNEL)?;
    }
    way.carries(Way::LINK_MTU)?;
    way.make_middle(SMALLER)?;
    let began = Instant::now();
    let (took, now) = settles(&wefts.near, (SMALLER, "black_hole"), began, HOLE_REPORTED)?;
    ensure!(now["vanishing_from"] == SMALLER + 1, "{now:#}");
    println!("{name}: reported after {:.2} s, by {}", took.as_secs_f64(), now["method"]);
    let log = wefts.near.log();
    ensure!(log.contains("black hole: packets of 1301 bytes and more vanish"), "{log}");
    stream(&way.left, &way.right, Way::RIGHT.parse()?, STREAM)?;
    way.carries(SMALLER)?;
    wefts.all().try_for_each(Weft::ledger_comes_to_balance)
}

fn grows(name: &str, options: &Options) -> anyhow::Result<()> {
    let way = Way::new(options)?;
    let wefts = way.start()?;
    let _talk = way.small_talk()?;
    settles(&wefts.near, (SMALL, "black_hole"), Instant::now(), TO_A_KERNEL)?;
    way.make_middle(Way::LINK_MTU)?;
    let began = Instant::now();
    let (took, _) = settles(&wefts.near, (Way::LINK_MTU, "measured"), began, GROWN)?;
    println!("{name}: {} bytes again after {:.2} s", Way::LINK_MTU, took.as_secs_f64());
    way.carries(Way::LINK_MTU)
}

/// Nothing is measured: only a large packet finds out.
fn forgotten(name: &str, options: &Options) -> anyhow::Result<()> {
    let way = Way::new(options)?;
    let wefts = way.start()?;
    let _talk = way.small_talk()?;
    ensure!(known(&wefts.near)?["path_mtu"] == Way::LINK_MTU, "nobody has said anything");
    // The first vanishes, and the router says why.
    stream(&way.left, &way.right, Way::RIGHT.parse()?, STREAM)?;
    way.carries(SMALL)?;
    settles(&wefts.near, (SMALL, "learned"), Instant::now(), Duration::from_secs(1))?;
    way.make_middle(Way::LINK_MTU)?;
    let began = Instant::now();
    let (took, _) = settles(&wefts.near, (Way::LINK_MTU, "assumed"), began, GROWN)?;
    println!("{name}: {} bytes again after {:.2} s", Way::LINK_MTU, took.as_secs_f64());
    way.carries(Way::LINK_MTU)
}
