//! How fast an overlay of users without privileges is, beside the same one of root's. For a quiet machine and a release build,
//! so that it runs only when it is asked for:
//!
//! ```text
//! cargo test --release -p weft-integration --test rootless -- --ignored throughput
//! ```

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use weft::lab::{Machine, Namespace, Process};
use weft_integration::{Needs, trial, weft::PATIENCE};

use crate::scene::{Hosts, NEEDS_TUN, OVERLAY, Station, Tun, User, Weft, config};

const NEEDS: Needs = NEEDS_TUN.programs(&["setpriv", "unshare", "nsenter", "ping", "ip", "mknod", "iperf3"]);

pub(crate) fn tests() -> Vec<Trial> {
    vec![trial("throughput_beside_root", NEEDS, beside_root).with_ignored_flag(true)]
}

/// Rounds, in each of which every kind has its turn.
const ROUNDS: usize = 7;

/// What weft runs as, and on what its ports are.
const KINDS: [(&str, Option<Tun>); 3] =
    [("root, taps", None), ("user, taps", Some(Tun::ForAll)), ("user, veth pairs", Some(Tun::Missing))];

/// The least that each may have of the first.
const LEAST: [f64; 3] = [1.0, 0.9, 0.5];

#[expect(clippy::print_stdout, reason = "the figures are what it is run for")]
fn beside_root() -> anyhow::Result<()> {
    let mut rates = [const { Vec::new() }; KINDS.len()];
    for _ in 0..ROUNDS {
        for (rates, (_, tun)) in rates.iter_mut().zip(KINDS) {
            rates.push(gigabits(tun)?);
        }
    }
    println!("{}", Machine::here());
    println!("{:<18} {:>8} {:>8} {:>8} {:>7}", "weft as", "median", "least", "most", "share");
    let middles: Vec<_> = rates.iter_mut().map(|rates| middle(rates)).collect();
    for ((rates, (name, _)), middle) in rates.iter().zip(KINDS).zip(&middles) {
        let (least, most) = (rates[0], rates[ROUNDS - 1]);
        println!("{name:<18} {middle:>8.2} {least:>8.2} {most:>8.2} {:>7.2}", middle / middles[0]);
    }
    for ((middle, least), (name, _)) in middles.iter().zip(LEAST).zip(KINDS) {
        ensure!(middle / middles[0] >= least, "{name} has less than {least} of what root has");
    }
    Ok(())
}

fn middle(rates: &mut [f64]) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// One TCP stream from station to station for two seconds, in Gbit/s of payload.
fn gigabits(tun: Option<Tun>) -> anyhow::Result<f64> {
    let Hosts { hosts, .. } = &Hosts::new()?;
    let users = [User::new()?, User::new()?];
    let stations = [Station::new(&users[0], &hosts[0])?, Station::new(&users[1], &hosts[1])?];
    let configs = [0, 1].map(|host| config(host, &stations[host].name(), ""));
    let mut of_users = Vec::new();
    let mut of_root = Vec::new();
    for host in 0..2 {
        match tun {
            Some(tun) => of_users.push(Weft::start(&users[host], &hosts[host], &configs[host], tun)?),
            None => of_root.push(as_root(&users[host], &hosts[host], &configs[host])?),
        }
    }
    stations[0].pings(OVERLAY[1])?;
    let server = stations[1].begin(&["iperf3", "--server", "--one-off"])?;
    let client =
        ["iperf3", "--client", OVERLAY[1], "--time", "2", "--omit", "1", "--json", "--connect-timeout", "5000"];
    let mut report = stations[0].run(&client)?;
    for _ in 0..50 {
        // The server may not listen yet.
        if !String::from_utf8_lossy(&report.stdout).contains("Connection refused") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        report = stations[0].run(&client)?;
    }
    drop(server);
    let said: Value = serde_json::from_slice(&report.stdout)?;
    let rate = said["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(rate.with_context(|| format!("{said:#}"))? / 1e9)
}

fn as_root(user: &User, host: &Namespace, config: &str) -> anyhow::Result<Process> {
    let file = user.file("weft.toml", config)?;
    let command = host.command(user.binary()).arg("run").arg(file).arg("--socket").arg(user.home().join("weft.sock"));
    let mut process = command.spawn()?;
    process.wait_for("weft runs", PATIENCE)?;
    Ok(process)
}
