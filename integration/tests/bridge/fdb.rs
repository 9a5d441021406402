//! What is learned, for how long, and what does not move.

use std::time::{Duration, Instant};

use anyhow::ensure;
use libtest_mimic::Trial;
use weft::wire::MacAddr;
use weft_integration::{
    capture::expect,
    frames::experiment,
    shape::{Shape, in_every_shape},
    weft::eventually,
};

use crate::{Hosts, LONG, NEEDS, NOBODY, is_test};

const SOMEBODY: MacAddr = MacAddr::new([2, 0, 0, 0, 0xee, 1]);
/// The kernel's tests wait for 10 s.
const AGEING: &str = "ageing = \"2s\"";

pub(crate) fn tests() -> Vec<Trial> {
    in_every_shape(&[
        ("a_source_is_learned_and_gets_what_is_for_it", NEEDS, learned),
        ("a_silent_address_ages_out_however_much_is_sent_to_it", NEEDS, ageing),
        ("an_address_that_speaks_stays", NEEDS, refreshed),
        ("an_address_moves_with_its_frames", NEEDS, moved),
        ("a_static_entry_survives_flush_and_ageing", NEEDS, static_entry),
        ("a_sticky_entry_does_not_move", NEEDS, sticky),
        ("sources_that_nobody_can_have_are_dropped_and_counted", NEEDS, invalid_sources),
    ])
}

fn learned(shape: Shape) -> anyhow::Result<()> {
    let mut hosts = Hosts::new(shape, "", [""; 3])?;
    hosts.is_at(NOBODY, None)?;
    hosts.send_one(1, SOMEBODY, NOBODY, [1, 0, 1])?;
    hosts.send_one(0, NOBODY, SOMEBODY, [0, 1, 0])?;
    hosts.is_at(NOBODY, Some(0))?;
    hosts.send_one(1, SOMEBODY, NOBODY, [1, 0, 0])?;
    hosts.weft.succeed(&["fdb", "flush"])?;
    hosts.is_at(NOBODY, None)?;
    hosts.send_one(1, SOMEBODY, NOBODY, [1, 0, 1])?;
    hosts.weft.ledger_comes_to_balance()
}

fn ageing(shape: Shape) -> anyhow::Result<()> {
    let mut hosts = Hosts::new(shape, AGEING, [""; 3])?;
    hosts.teach(0, NOBODY)?;
    let taught = Instant::now();
    let towards = experiment(NOBODY, SOMEBODY);
    eventually("the silent address is forgotten", LONG, || {
        hosts.wires[1].send(std::slice::from_ref(&towards))?;
        Ok(hosts.whereabouts(NOBODY)?.is_none())
    })?;
    ensure!(taught.elapsed() >= Duration::from_millis(1500), "forgotten after {:?}", taught.elapsed());
    hosts.send_one(1, SOMEBODY, NOBODY, [1, 0, 1])?;
    hosts.weft.ledger_comes_to_balance()
}

fn refreshed(shape: Shape) -> anyhow::Result<()> {
    let mut hosts = Hosts::new(shape, AGEING, [""; 2])?;
    hosts.teach(0, NOBODY)?;
    let taught = Instant::now();
    while taught.elapsed() < Duration::from_millis(4500) {
        hosts.wires[0].send(&[experiment(SOMEBODY, NOBODY)])?;
        hosts.is_at(NOBODY, Some(0))?;
        std::thread::sleep(Duration::from_millis(200));
    }
    eventually("the address is forgotten once it is silent", LONG, || Ok(hosts.whereabouts(NOBODY)?.is_none()))
}

fn moved(shape: Shape) -> anyhow::Result<()> {
    let mut hosts = Hosts::new(shape, "", [""; 3])?;
    for host in [0, 1, 2, 0] {
        hosts.teach(host, NOBODY)?;
        let from = (host + 1) % 3;
        let seen = std::array::from_fn(|other| usize::from(other == host));
        hosts.send_one(from, SOMEBODY, NOBODY, seen)?;
    }
    hosts.weft.ledger_comes_to_balance()
}

fn static_entry(shape: Shape) -> anyhow::Result<()> {
    let mut hosts = Hosts::new(shape, AGEING, [""; 3])?;
    let (port, mac) = (hosts.port(0), NOBODY.to_string());
    hosts.weft.succeed(&["fdb", "add", "--bridge", "br0", "--mac", &mac, "--port", &port])?;
    hosts.teach(1, SOMEBODY)?;
    hosts.weft.succeed(&["fdb", "flush"])?;
    hosts.is_at(SOMEBODY, None)?;
    hosts.is_at(NOBODY, Some(0))?;
    hosts.teach(1, SOMEBODY)?;
    eventually("what was learned ages out", LONG, || Ok(hosts.whereabouts(SOMEBODY)?.is_none()))?;
    hosts.is_at(NOBODY, Some(0))?;
    hosts.send_one(1, SOMEBODY, NOBODY, [1, 0, 0])?;
    // As in the kernel: it moves, and is static where it has moved to.
    hosts.teach(2, NOBODY)?;
    hosts.weft.succeed(&["fdb", "flush"])?;
    hosts.send_one(1, SOMEBODY, NOBODY, [0, 0, 1])?;
    hosts.weft.succeed(&["fdb", "flush", "--static"])?;
    hosts.is_at(NOBODY, None)?;
    hosts.weft.ledger_comes_to_balance()
}

fn sticky(shape: Shape) -> anyhow::Result<()> {
    let mut hosts = Hosts::new(shape, "", [""; 3])?;
    let (port, mac) = (hosts.port(0), NOBODY.to_string());
    hosts.weft.succeed(&["fdb", "add", "--bridge", "br0", "--mac", &mac, "--port", &port, "--sticky"])?;
    // Forwarded all the same.
    hosts.send_one(1, NOBODY, MacAddr::BROADCAST, [1, 0, 1])?;
    hosts.is_at(NOBODY, Some(0))?;
    hosts.send_one(2, SOMEBODY, NOBODY, [1, 0, 0])?;
    hosts.weft.ledger_comes_to_balance()
}

fn invalid_sources(shape: Shape) -> anyhow::Result<()> {
    let mut hosts = Hosts::new(shape, "", [""; 2])?;
    for src in [MacAddr::ZERO, MacAddr::BROADCAST, MacAddr::new([1, 0, 0x5e, 0, 0, 1])] {
        let before = hosts.weft.dropped("source_invalid")?;
        hosts.wires[0].repeat(&experiment(NOBODY, src), 10)?;
        expect([&hosts.captures[1]], [0..=0], is_test)?;
        let dropped = hosts.weft.dropped("source_invalid")? - before;
        ensure!(dropped == 10, "{dropped} frames from {src} are counted");
        hosts.is_at(src, None)?;
    }
    hosts.weft.ledger_comes_to_balance()
}
