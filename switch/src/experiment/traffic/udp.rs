//! UDP at a given rate: datagrams of one size, each with its number and the time it was sent.

use std::{
    io,
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery};

use super::{SLICE, Station, is_timeout, percentile};
use crate::experiment::error::ExperimentError;

/// The least that a datagram carries: number and time.
pub const MIN_SIZE: usize = 16;

/// What is sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stream {
    /// Payload of each datagram in bytes, at least [`MIN_SIZE`].
    pub size: usize,
    /// Payload offered in bits a second.
    pub bits_per_second: f64,
    /// How long.
    pub time: Duration,
    /// Whether routers may fragment the packets: the DF bit is clear.
    pub may_fragment: bool,
    /// How long the sink waits for the last ones.
    pub grace: Duration,
}

/// How it went.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Delivery {
    /// Datagrams handed to the kernel.
    pub sent: u64,
    /// Datagrams that the source's own kernel did not take.
    pub refused: u64,
    /// Datagrams that arrived, each counted once.
    pub received: u64,
    /// Datagrams that arrived behind a later one.
    pub reordered: u64,
    /// Datagrams that arrived once more.
    pub doubled: u64,
    /// Half of the datagrams took no longer; `None` if none arrived.
    pub p50: Option<Duration>,
    /// 99 percent took no longer.
    pub p99: Option<Duration>,
    /// How long the source sent.
    pub elapsed: Duration,
}

/// Sends a stream from one station to another.
///
/// # Errors
/// A socket can't be made. That nothing arrives is no error.
pub fn stream(from: Station<'_>, to: Station<'_>, stream: &Stream) -> Result<Delivery, ExperimentError> {
    const RECEIVE_BUFFER: usize = 8 << 20;
    let sink = to.open("open a socket", || UdpSocket::bind((to.address.ip(), 0)))?;
    // Without CAP_NET_ADMIN the default has to do; what finds no room is lost and shows.
    let _ = sockopt::set_socket_recv_buffer_size_force(&sink, RECEIVE_BUFFER);
    let target = sink.local_addr().map_err(ExperimentError::step("name a socket"))?;
    let source = from.open("open a socket", || {
        let source = UdpSocket::bind((from.address.ip(), 0))?;
        source.connect(target)?;
        // Not DONT: that clears DF as well, but fragments to what the source's kernel has learned of the path before.
        let discovery = if stream.may_fragment { Ipv4PathMtuDiscovery::INTERFACE } else { Ipv4PathMtuDiscovery::DO };
        sockopt::set_ip_mtu_discover(&source, discovery)?;
        Ok(source)
    })?;
    sink.set_read_timeout(Some(SLICE)).map_err(ExperimentError::step("limit a socket"))?;
    source.set_write_timeout(Some(SLICE)).map_err(ExperimentError::step("limit a socket"))?;
    let base = Instant::now();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(&sink, base, stream, &is_over));
        let sent = send(&source, base, stream);
        is_over.store(true, Ordering::Release);
        let mut delivery = receiving.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
        (delivery.sent, delivery.refused, delivery.elapsed) = sent;
        Ok(delivery)
    })
}

/// Sends in steps of a millisecond as many as are due; gives what was sent and refused, and how long it took.
fn send(socket: &UdpSocket, base: Instant, stream: &Stream) -> (u64, u64, Duration) {
    const STEP: Duration = Duration::from_millis(1);
    let size = stream.size.max(MIN_SIZE);
    let per_second = stream.bits_per_second / (size as f64 * 8.0);
    let mut datagram = vec![0x5a; size];
    let (mut sent, mut refused) = (0, 0);
    loop {
        let elapsed = base.elapsed();
        if elapsed >= stream.time {
            return (sent, refused, elapsed);
        }
        // What a busy machine left undone is made up for, but not in one go that no queue could hold.
        let due = (elapsed.as_secs_f64() * per_second) as u64 + 1;
        let most = sent + refused + (per_second * 0.01) as u64 + 1;
        while sent + refused < due.min(most) {
            datagram[..8].copy_from_slice(&sent.to_be_bytes());
            datagram[8..16].copy_from_slice(&(base.elapsed().as_nanos() as u64).to_be_bytes());
            match socket.send(&datagram) {
                Ok(_) => sent += 1,
                // Too long for what the kernel knows of the path, no room in a queue, or no way at all.
                Err(_) => refused += 1,
            }
        }
        thread::sleep(STEP);
    }
}

fn receive(socket: &UdpSocket, base: Instant, stream: &Stream, is_over: &AtomicBool) -> Delivery {
    let mut buffer = vec![0; 70_000];
    let mut seen = Seen::default();
    let mut last_look: Option<Instant> = None;
    loop {
        match next(socket, &mut buffer) {
            Ok(Some((number, sent_at))) => {
                let taken = (base.elapsed().as_nanos() as u64).saturating_sub(sent_at);
                seen.add(number, taken);
            }
            Ok(None) => {}
            Err(error) if is_timeout(&error) => {}
            Err(_) => return seen.delivery(),
        }
        if is_over.load(Ordering::Acquire) {
            let end = *last_look.get_or_insert_with(|| Instant::now() + stream.grace);
            if Instant::now() >= end {
                return seen.delivery();
            }
        }
    }
}

/// The next datagram's number and time; `None`: it was not ours.
fn next(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(u64, u64)>> {
    let len = socket.recv(buffer)?;
    let word = |at: usize| buffer[..len].get(at..)?.first_chunk().copied().map(u64::from_be_bytes);
    Ok(word(0).zip(word(8)))
}

/// What has arrived.
#[derive(Default)]
struct Seen {
    numbers: Vec<bool>,
    /// One more than the largest number so far.
    next: u64,
    delays: Vec<u64>,
    reordered: u64,
    doubled: u64,
}

impl Seen {
    fn add(&mut self, number: u64, nanos: u64) {
        // No source sends more in the time that it has.
        const MOST: u64 = 1 << 28;
        let at = number as usize;
        if number >= MOST {
            return;
        }
        if self.numbers.len() <= at {
            self.numbers.resize(at + 1, false);
        }
        if std::mem::replace(&mut self.numbers[at], true) {
            self.doubled += 1;
            return;
        }
        self.reordered += u64::from(number < self.next);
        self.next = self.next.max(number + 1);
        self.delays.push(nanos);
    }

    fn delivery(mut self) -> Delivery {
        self.delays.sort_unstable();
        let at = |percent| percentile(&self.delays, percent).map(Duration::from_nanos);
        Delivery {
            received: self.delays.len() as u64,
            reordered: self.reordered,
            doubled: self.doubled,
            p50: at(50.0),
            p99: at(99.0),
            ..Delivery::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_late_or_twice_is_told_apart() {
        let mut seen = Seen::default();
        for (number, nanos) in [(0, 10), (2, 30), (1, 20), (2, 99), (5, 40), (u64::MAX, 1)] {
            seen.add(number, nanos);
        }
        let delivery = seen.delivery();
        assert_eq!((delivery.received, delivery.reordered, delivery.doubled), (4, 1, 1));
        assert_eq!(delivery.p50, Some(Duration::from_nanos(20)));
        assert_eq!(delivery.p99, Some(Duration::from_nanos(40)));
    }

    #[test]
    fn nothing_that_arrives_has_no_delay() {
        assert_eq!(Seen::default().delivery(), Delivery::default());
    }
}
