//! Round trips of one byte in a UDP datagram, one at a time: how long a request and its answer are under way when nothing
//! else is.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use crate::side_by_side::{
    results::percentile,
    scene::{Scene, station_address},
};

/// How long an answer may take before it counts as lost.
const LIMIT: Duration = Duration::from_millis(200);
/// Round trips before the first that counts, in which caches warm up.
const WARM_UP: usize = 100;

/// How round trips went.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Requests without an answer in time.
    pub(crate) lost: usize,
}

/// Sends so many requests from left to right, for `limit` at most.
pub(crate) fn round_trips(scene: &Scene, count: usize, limit: Duration) -> anyhow::Result<Latency> {
    const FEWEST: usize = 100;
    let mut times = Vec::with_capacity(count);
    let mut lost = 0;
    with_server(scene, |client| {
        let started = Instant::now();
        for number in 0..count + WARM_UP {
            match round_trip(client, number as u8) {
                Ok(time) if number >= WARM_UP => times.push(time),
                Ok(_) => {}
                Err(_) => lost += 1,
            }
            if started.elapsed() > limit {
                break;
            }
        }
    })?;
    ensure!(times.len() >= FEWEST, "only {} of {} requests were answered", times.len(), times.len() + lost);
    times.sort_unstable();
    Ok(Latency { p50: percentile(&times, 50.0), p99: percentile(&times, 99.0), lost })
}

/// Fails unless one request is answered.
pub(crate) fn reaches(scene: &Scene) -> anyhow::Result<()> {
    with_server(scene, |client| round_trip(client, 0).map(drop))?.context("no answer from the other station")
}

fn round_trip(client: &UdpSocket, number: u8) -> io::Result<Duration> {
    let started = Instant::now();
    client.send(&[number])?;
    let mut answer = [0; 2];
    // An answer to an earlier request, which was late, is not this one's.
    while client.recv(&mut answer)? != 1 || answer[0] != number {}
    Ok(started.elapsed())
}

/// Runs `work` with a socket on the left while somebody on the right sends back what comes.
fn with_server<T>(scene: &Scene, work: impl FnOnce(&UdpSocket) -> T) -> anyhow::Result<T> {
    let bind = |side| UdpSocket::bind((station_address(side), 0));
    let server = scene.right.within(|| bind(1))??;
    let client = scene.left.within(|| bind(0))??;
    client.connect(server.local_addr()?)?;
    client.set_read_timeout(Some(LIMIT))?;
    let stop = scene.right.within(|| bind(1))??;
    thread::scope(|scope| {
        let echo = scope.spawn(|| echo(&server, stop.local_addr()?));
        let result = work(&client);
        stop.send_to(&[], server.local_addr()?)?;
        echo.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked)).context("the server failed")?;
        Ok(result)
    })
}

/// Sends back what comes until something comes from `stop`.
fn echo(server: &UdpSocket, stop: SocketAddr) -> io::Result<()> {
    let mut request = [0; 64];
    loop {
        let (len, from) = server.recv_from(&mut request)?;
        if from == stop {
            return Ok(());
        }
        server.send_to(&request[..len], from)?;
    }
}
