//! A kernel vxlan device and bridge as the peer: everything that hosts say to each other arrives, in both directions.

use anyhow::ensure;
use libtest_mimic::Trial;
use weft::lab::Namespace;
use weft_integration::{
    exchange::{echo, stream},
    shape::{Shape, in_every_shape},
    trial,
};

use crate::{
    NEEDS,
    pair::{Options, Pair},
};

/// What goes by TCP in each direction.
const STREAM: usize = 40_000_000;

pub(crate) fn tests() -> Vec<Trial> {
    let mut tests = in_every_shape(&[
        ("what_a_kernel_on_the_same_host_leaves_unfinished_arrives_finished", NEEDS, unfinished),
        ("the_underlay_may_be_in_a_namespace_of_its_own", NEEDS, underlay_elsewhere),
    ]);
    // Both families with every shape, and over the shapes both ports with either.
    for (shape, ports) in Shape::ALL.into_iter().zip([[4789, 8472], [8472, 4789]].into_iter().cycle()) {
        for (family, port) in ["ipv4", "ipv6"].into_iter().zip(ports) {
            let name = format!("{family}_port_{port}_carries_everything [{shape}]");
            tests.push(trial(&name, NEEDS, move || carries(family == "ipv6", port, shape)));
        }
    }
    tests
}

fn carries(ipv6_underlay: bool, port: u16, shape: Shape) -> anyhow::Result<()> {
    let pair = Pair::new(&Options { ipv6_underlay, port, shape, ..Options::default() })?;
    let (left, right) = (&pair.left, &pair.right);
    for (from, to) in [(left, Pair::RIGHT), (right, Pair::LEFT)] {
        for address in to {
            ping(from, address)?;
        }
    }
    pair.weft.ledger_comes_to_balance()?;

    // 18 octets of UDP make the smallest frame there is on a wire, the last of these fill the MTU to the octet.
    let (ipv4, ipv6) = (pair.mtu as usize - 28, pair.mtu as usize - 48);
    echo(left, right, Pair::RIGHT[0].parse()?, 18..=ipv4)?;
    echo(right, left, Pair::LEFT[1].parse()?, 18..=ipv6)?;
    pair.weft.ledger_comes_to_balance()?;

    stream(left, right, Pair::RIGHT[0].parse()?, STREAM)?;
    pair.weft.ledger_comes_to_balance()?;
    stream(right, left, Pair::LEFT[0].parse()?, STREAM)?;
    pair.weft.ledger_comes_to_balance()?;
    stream(left, right, Pair::RIGHT[1].parse()?, STREAM / 10)?;
    stream(right, left, Pair::LEFT[1].parse()?, STREAM / 10)?;
    pair.weft.ledger_comes_to_balance()
}

/// Over a veth, and between virtual machines of one host, the peer's inner checksums are never completed on the way, and its
/// TCP is never cut.
fn unfinished(shape: Shape) -> anyhow::Result<()> {
    let pair = Pair::new(&Options { finished: false, shape, ..Options::default() })?;
    let (left, right) = (&pair.left, &pair.right);
    echo(left, right, Pair::RIGHT[0].parse()?, 1000..=1422)?;
    echo(right, left, Pair::LEFT[1].parse()?, 1000..=1402)?;
    stream(left, right, Pair::RIGHT[0].parse()?, STREAM / 10)?;
    stream(right, left, Pair::LEFT[0].parse()?, STREAM / 10)?;
    stream(right, left, Pair::LEFT[1].parse()?, STREAM / 10)?;
    pair.weft.ledger_comes_to_balance()
}

fn underlay_elsewhere(shape: Shape) -> anyhow::Result<()> {
    let pair = Pair::new(&Options { started_elsewhere: true, shape, ..Options::default() })?;
    ping(&pair.left, Pair::RIGHT[0])?;
    ping(&pair.right, Pair::LEFT[0])?;
    let vteps = pair.weft.show("vteps")?;
    ensure!(vteps[0]["address"] == "192.0.2.2" && vteps[0]["rx_frames"].as_u64() >= Some(3), "{vteps:#}");
    pair.weft.ledger_comes_to_balance()
}

/// Three at once: for the last answer `ping` waits no longer than the interval or twice as long as for the others.
fn ping(from: &Namespace, to: &str) -> anyhow::Result<()> {
    let output = from.run(&["ping", "-c", "3", "-l", "3", "-i", "0.5", "-W", "5", to])?.ok()?;
    ensure!(output.stdout.contains("3 received") && !output.stdout.contains("duplicates"), "{output}");
    Ok(())
}
