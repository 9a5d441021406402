//! How many instructions a frame's walk takes, counted by callgrind: a figure that no other load on the machine disturbs.
//!
//! `cargo run --profile bench -p weft-bench --bin walk_instructions` needs `valgrind`. Each scene is walked twice in a process of its own,
//! once for longer; the difference is what the longer run's extra frames took, without what made the scene. With
//! `--scene NAME --batches N` it only walks, for callgrind's own views or for perf.

#![expect(clippy::print_stdout, reason = "its figures are what it prints")]

use std::{env, process::Command};

use anyhow::{Context, ensure};
use clap::Parser;
use weft::{
    ids::{Endpoint, PortId},
    port::RxBatch,
    wire::MacAddr,
    worker::sampling::{Choice, EntersBy, Filter, Ips, MAX_RATE, Sampler},
};
use weft_bench::switch::{Switch, frame, mac};
use weft_vxlan::HeaderFormat;

/// Bytes of a frame.
const LEN: usize = 64;
/// What the scenes send from.
const PORT: PortId = PortId(0);
/// Batches that are walked before counting starts, and those that are counted.
const WARM_UP: u32 = 200;
const COUNTED: u32 = 1000;

#[derive(Parser)]
struct Args {
    /// Only walks this scene
    #[arg(long, requires = "batches")]
    scene: Option<String>,
    /// For so many batches
    #[arg(long)]
    batches: Option<u32>,
}

/// A scene, made ready; one call walks one batch.
type Walk = Box<dyn FnMut()>;
/// A scene's name, and what makes it.
type Scene = (&'static str, fn() -> Walk);

const SCENES: &[Scene] = &[
    ("port to port, two hosts", || between_ports(2)),
    ("port to port, 1 k hosts", || between_ports(1_000)),
    ("port to port, 64 k hosts", || between_ports(64_000)),
    ("flooded to 8 ports", flood),
    ("port to VTEP", to_vtep),
    ("VTEP to port", from_vtep),
    ("port to port, somebody looks for an address", || looked_at(Filter { src: Some(mac(9)), ..Filter::default() })),
    ("port to port, somebody looks for an IP address", || looked_at(of_nobody())),
    ("port to port, somebody looks at another port", || {
        looked_at(Filter { enters_by: Some(EntersBy::Port(PortId(1))), ..of_nobody() })
    }),
];

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let Some(name) = args.scene else { return count_all() };
    let (_, make) = SCENES.iter().find(|(scene, _)| *scene == name).with_context(|| format!("no scene {name}"))?;
    let mut walk = make();
    (0..args.batches.unwrap_or(COUNTED)).for_each(|_| walk());
    Ok(())
}

fn count_all() -> anyhow::Result<()> {
    for (name, _) in SCENES {
        let counted = instructions(name, WARM_UP + COUNTED)? - instructions(name, WARM_UP)?;
        let frames = u64::from(COUNTED) * RxBatch::CAPACITY as u64;
        println!("{name:<48} {:>7.1} instructions a frame", counted as f64 / frames as f64);
    }
    Ok(())
}

/// What callgrind counts in a process that walks so many batches.
fn instructions(scene: &str, batches: u32) -> anyhow::Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(env::current_exe()?);
    let output = valgrind.args(["--scene", scene, "--batches", &batches.to_string()]).output();
    let output = output.context("valgrind can't be started; is it installed?")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed: {said}");
    let total = said.lines().find_map(|line| line.split("Collected :").nth(1));
    total.and_then(|total| total.trim().parse().ok()).with_context(|| format!("valgrind counted nothing: {said}"))
}

fn between_ports(hosts: u32) -> Walk {
    let mut switch = Switch::between_ports(hosts, LEN);
    Box::new(move || _ = switch.turn(PORT))
}

fn of_nobody() -> Filter {
    Filter { ip: Ips::Either([10, 9, 9, 9].into()), ..Filter::default() }
}

/// `weft explain --live` waits for frames that don't come.
fn looked_at(filter: Filter) -> Walk {
    let mut switch = Switch::between_ports(2, LEN);
    let (sampler, samples) = Sampler::new(filter, Choice { every: 1, rate: MAX_RATE });
    switch.worker.sample(vec![sampler]);
    Box::new(move || {
        switch.turn(PORT);
        assert!(samples.is_empty());
    })
}

fn flood() -> Walk {
    let mut switch = Switch::new();
    switch.add_access(vec![frame(MacAddr::BROADCAST, mac(1), LEN)]);
    (0..8).for_each(|_| drop(switch.add_access(vec![])));
    Box::new(move || _ = switch.turn(PORT))
}

/// The peer's reading is counted too; it is little beside the rest, and always the same.
fn to_vtep() -> Walk {
    let mut switch = Switch::new();
    switch.add_access(vec![frame(mac(2), mac(1), LEN)]);
    let mut peer = switch.add_peer();
    switch.learn(2..3, Endpoint::Vtep(peer.vtep));
    Box::new(move || {
        switch.turn(PORT);
        peer.drain();
    })
}

/// With the peer's sending.
fn from_vtep() -> Walk {
    let mut switch = Switch::new();
    let (to, _) = switch.add_access(vec![]);
    let mut peer = switch.add_peer();
    switch.learn(2..3, Endpoint::Port(to));
    let frames = vec![frame(mac(2), mac(1), LEN); RxBatch::CAPACITY];
    Box::new(move || {
        peer.send(&frames);
        switch.worker.turn_underlay(HeaderFormat::Vxlan, switch.now).expect("memory can be read");
    })
}
