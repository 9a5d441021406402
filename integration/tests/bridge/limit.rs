//! A full FDB: refused newcomers are still served, and a flooder drives out itself.

use std::net::Ipv4Addr;

use anyhow::ensure;
use libtest_mimic::Trial;
use serde_json::Value;
use weft::wire::MacAddr;
use weft_integration::{
    capture::{exactly, expect},
    frames::{arp_request, experiment},
    shape::{Shape, in_every_shape},
    weft::eventually,
};

use crate::{Hosts, LONG, NEEDS};

pub(crate) fn tests() -> Vec<Trial> {
    in_every_shape(&[
        ("at_the_limit_newcomers_are_not_learned_but_served", NEEDS, refuse),
        ("entries_of_users_do_not_count_towards_the_limit", NEEDS, static_entries),
        ("a_flooder_evicts_fairly", NEEDS, evict),
        ("without_a_limit_everything_is_learned", NEEDS, unlimited),
    ])
}

/// The Nth of many stations.
fn station(number: u8) -> MacAddr {
    MacAddr::new([0xde, 0xad, 0xbe, 0xef, 0x42, number])
}

fn refuse(shape: Shape) -> anyhow::Result<()> {
    const BRIDGE: &str = "fdb_max_learned = 8\nfdb_full = \"refuse\"";
    // Only the first port learns: the second host answers, and its own address is to take no place.
    let mut hosts = Hosts::new(shape, BRIDGE, ["", "learning = false"])?;
    for number in 1..=16 {
        let address = Ipv4Addr::new(192, 0, 2, 100 + number);
        hosts.wires[0].send(&[arp_request(station(number), address, Ipv4Addr::new(192, 0, 2, 2))])?;
        expect([&hosts.captures[0]], [exactly(1)], |frame| frame[..6] == station(number).octets())?;
    }
    ensure!(learned(&hosts)? == 8, "{} are learned", learned(&hosts)?);
    // The first came first, and none of them was driven out.
    (1..=8).try_for_each(|number| hosts.is_at(station(number), Some(0)))?;
    // Room for one is room for one.
    hosts.weft.succeed(&["fdb", "del", "--bridge", "br0", "--mac", &station(1).to_string()])?;
    hosts.teach(0, station(16))?;
    ensure!(learned(&hosts)? == 8);
    hosts.weft.ledger_comes_to_balance()
}

fn static_entries(shape: Shape) -> anyhow::Result<()> {
    let mut hosts = Hosts::new(shape, "fdb_max_learned = 4\nfdb_full = \"refuse\"", ["learning = false", ""])?;
    let port = hosts.port(0);
    let add = |number: u8| {
        let mac = station(number).to_string();
        hosts.weft.succeed(&["fdb", "add", "--bridge", "br0", "--mac", &mac, "--port", &port])
    };
    (1..=6).try_for_each(|number| add(number).map(drop))?;
    ensure!(learned(&hosts)? <= 1, "static entries count as learned");
    for number in 11..=18 {
        hosts.wires[1].send(&[experiment(MacAddr::BROADCAST, station(number))])?;
    }
    eventually("four are learned", LONG, || Ok(learned(&hosts)? == 4))?;
    // At the limit a user's word still counts, also about an address that was learned: that frees its place.
    let taught = (11..=18).find(|number| hosts.is_at(station(*number), Some(1)).is_ok());
    ensure!(taught.is_some(), "none of the stations was learned");
    for number in [7, taught.unwrap_or(11)] {
        let mac = station(number).to_string();
        hosts.weft.succeed(&["fdb", "add", "--bridge", "br0", "--mac", &mac, "--port", &port])?;
        hosts.is_at(station(number), Some(0))?;
    }
    ensure!(learned(&hosts)? == 3, "{} are learned", learned(&hosts)?);
    hosts.weft.ledger_comes_to_balance()
}

fn evict(shape: Shape) -> anyhow::Result<()> {
    let mut hosts = Hosts::new(shape, "fdb_max_learned = 10", [""; 4])?;
    for (host, number) in [(0, 1), (0, 2), (0, 3), (0, 4), (1, 5), (1, 6), (1, 7), (2, 8), (2, 9), (2, 10)] {
        hosts.teach(host, station(number))?;
    }
    ensure!(by_port(&hosts)? == [4, 3, 3, 0], "{:?}", by_port(&hosts)?);
    for number in 101..=116 {
        hosts.teach(3, station(number))?;
    }
    let left = by_port(&hosts)?;
    ensure!(left.iter().sum::<usize>() == 10, "{left:?}");
    ensure!(left.iter().all(|count| (2..=3).contains(count)), "{left:?}: one port has driven out others");
    // The latest of the flooder's own are there, and the oldest of the others went first.
    hosts.is_at(station(116), Some(3))?;
    hosts.is_at(station(4), Some(0))?;
    hosts.is_at(station(1), None)?;
    hosts.weft.ledger_comes_to_balance()
}

fn unlimited(shape: Shape) -> anyhow::Result<()> {
    let mut hosts = Hosts::new(shape, "fdb_max_learned = 0", [""; 2])?;
    let mut frames = Vec::new();
    for number in 0..2000_u16 {
        let [high, low] = number.to_be_bytes();
        frames.push(experiment(MacAddr::BROADCAST, MacAddr::new([2, 0, 0, 0xee, high, low])));
    }
    for some in frames.chunks(100) {
        hosts.wires[0].send(some)?;
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    eventually("all are learned", LONG, || {
        let fdb = hosts.weft.show("fdb")?;
        let is_ours = |entry: &&Value| entry["mac"].as_str().is_some_and(|mac| mac.starts_with("02:00:00:ee:"));
        Ok(fdb.as_array().map_or(0, |entries| entries.iter().filter(is_ours).count()) == 2000)
    })
}

/// Learned entries, as the bridge counts them.
fn learned<const N: usize>(hosts: &Hosts<N>) -> anyhow::Result<u64> {
    let bridges = hosts.weft.show("bridges")?;
    let count = bridges[0]["learned"].as_u64();
    count.ok_or_else(|| anyhow::anyhow!("no count in {bridges:#}"))
}

/// How many entries each port has.
fn by_port<const N: usize>(hosts: &Hosts<N>) -> anyhow::Result<[usize; N]> {
    let fdb = hosts.weft.show("fdb")?;
    let entries = fdb.as_array().map_or(&[][..], Vec::as_slice);
    Ok(std::array::from_fn(|host| entries.iter().filter(|entry| entry["port"] == hosts.port(host)).count()))
}
