//! Frames of one flow keep their order and come once, with more workers than processors and whatever is put together on the
//! way: numbered datagrams of many flows at once, tap to tap and across an overlay.

use std::{
    net::{SocketAddr, UdpSocket},
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{anyhow, ensure};
use weft::lab::Namespace;
use weft_integration::{
    Needs, exchange, main_with,
    scene::{Pair, Star},
    shape::{Shape, in_every_shape},
    weft::Weft,
};

const PREFIX: &str = "weft-order";
const FLOWS: usize = 64;
/// Datagrams of each flow.
const EACH: u32 = 1000;
/// Datagrams that one flow sends in a row, so that there is something to put together.
const ROW: u32 = 5;
/// Threads that send, each its share of the flows.
const SENDERS: usize = 4;
/// After this many rows of all flows everybody pauses: less than a tap's queue holds.
const ROWS_BETWEEN_PAUSES: u32 = 2;
const PAUSE: Duration = Duration::from_millis(20);
/// Octets of TCP that go across beside.
const STREAM_LEN: usize = 32 << 20;

fn main() -> ExitCode {
    let needs = Needs::ROOT_AND_TUN;
    main_with(in_every_shape(&[
        ("sixty_four_flows_keep_their_order_from_tap_to_tap", needs, tap_to_tap),
        ("sixty_four_flows_keep_their_order_across_an_overlay", needs, across_an_overlay),
    ]))
}

fn tap_to_tap(shape: Shape) -> anyhow::Result<()> {
    let star = Star::in_shape(shape, PREFIX, 2)?;
    let weft = Weft::start(&star.switch, &star.config())?;
    keep_their_order(&star.hosts[0], &star.hosts[1], &Star::address(1))?;
    weft.ledger_comes_to_balance()
}

fn across_an_overlay(shape: Shape) -> anyhow::Result<()> {
    let pair = Pair::in_shape(shape, PREFIX)?;
    let [one, two] = &pair.sides;
    let wefts = [one, two].map(|side| Weft::start(&side.switch, &side.config("", "")));
    keep_their_order(&one.host, &two.host, two.address)?;
    for weft in wefts {
        weft?.ledger_comes_to_balance()?;
    }
    Ok(())
}

fn keep_their_order(from: &Namespace, to: &Namespace, address: &str) -> anyhow::Result<()> {
    let listening =
        to.within(|| UdpSocket::bind(SocketAddr::new(address.parse()?, 0)).map_err(anyhow::Error::from))??;
    listening.set_read_timeout(Some(Duration::from_secs(1)))?;
    let target = listening.local_addr()?;
    // The kernel lets a datagram that finds its neighbour known overtake those that wait until it is: before, not meanwhile.
    exchange::echo(from, to, target.ip(), 1..=1)?;
    let flows = from.within(|| -> std::io::Result<Vec<UdpSocket>> {
        let flow = || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(target)?;
            Ok(socket)
        };
        (0..FLOWS).map(|_| flow()).collect()
    })??;

    let found = thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&listening));
        let numbered: Vec<_> = (0..).zip(&flows).collect();
        for share in numbered.chunks(FLOWS / SENDERS) {
            let share = share.to_vec();
            scope.spawn(move || send(&share));
        }
        scope
            .spawn(|| exchange::stream(from, to, target.ip(), STREAM_LEN))
            .join()
            .map_err(|_| anyhow!("TCP panicked"))??;
        receiver.join().map_err(|_| anyhow!("the receiver panicked"))?
    })?;
    ensure!(found.inversions == 0 && found.duplicates == 0, "{found:?}");
    ensure!(found.received > FLOWS as u32 * EACH / 2, "too few arrived to tell: {found:?}");
    Ok(())
}

/// Every datagram is its flow's number and its own, and something behind.
fn send(flows: &[(u32, &UdpSocket)]) {
    for row in 0..EACH / ROW {
        for (flow, socket) in flows {
            for number in row * ROW..(row + 1) * ROW {
                let mut datagram = [0x5a; 200];
                datagram[..4].copy_from_slice(&flow.to_be_bytes());
                datagram[4..8].copy_from_slice(&number.to_be_bytes());
                // What a full queue refuses is lost, which is allowed.
                _ = socket.send(&datagram);
            }
        }
        if row % ROWS_BETWEEN_PAUSES == 0 {
            thread::sleep(PAUSE);
        }
    }
}

#[derive(Debug, Default)]
struct Found {
    received: u32,
    /// Arrived behind a later one of their flow.
    inversions: u32,
    duplicates: u32,
}

/// Until nothing has come for a second.
fn receive(socket: &UdpSocket) -> anyhow::Result<Found> {
    let mut found = Found::default();
    let mut seen = vec![vec![false; EACH as usize]; FLOWS];
    let mut next = [0; FLOWS];
    let mut buffer = [0; 300];
    while let Ok(len) = socket.recv(&mut buffer) {
        ensure!(len == 200, "a datagram of {len} octets");
        let [flow, number] =
            [&buffer[..4], &buffer[4..8]].map(|octets| octets.iter().fold(0, |n, o| n << 8 | usize::from(*o)));
        let seen =
            seen.get_mut(flow).and_then(|seen| seen.get_mut(number)).ok_or_else(|| anyhow!("no such datagram"))?;
        found.received += 1;
        found.duplicates += u32::from(*seen);
        found.inversions += u32::from(!*seen && number < next[flow]);
        *seen = true;
        next[flow] = next[flow].max(number + 1);
    }
    Ok(found)
}
