//! Counts numbered frames that come out of an interface.

use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::io::Errno;
use weft::sys::packet_socket::{PacketSocket, RECV_MAX, Received};

use super::probe::{self, FLOWS, OPENING};

/// Room for a frame with its virtio-net header; of longer ones, which are somebody else's, the end is cut off.
const SPACE: usize = 128;
const _: () = assert!(probe::LEN <= SPACE);

pub(super) struct Sink {
    socket: PacketSocket,
    run: u32,
}

/// What came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counted {
    pub(super) received: u64,
    /// Frames that came after a later one of their flow, or a second time.
    pub(super) disordered: u64,
    /// Frames that found the socket full.
    pub(super) overlooked: u64,
}

impl Sink {
    pub(super) fn new(socket: PacketSocket, run: u32) -> Self {
        Self { socket, run }
    }

    /// Counts until it is stopped. `seen` tells the others how many came so far, the opening ones included.
    pub(super) fn count(&self, seen: &AtomicU64, stop: &AtomicBool) -> io::Result<Counted> {
        // Nobody waits in the socket, which would cost those who fill it a wake-up for each frame: it is looked into from
        // time to time instead. It has room for some ten thousand frames.
        const PAUSE: Duration = Duration::from_micros(500);
        const ANNOUNCE: Duration = Duration::from_millis(100);
        let mut spaces = vec![[0; SPACE]; RECV_MAX];
        let mut received = [Received::default(); RECV_MAX];
        let mut order = Order::default();
        let mut announced: Option<Instant> = None;
        let mut opened = 0;
        // What the socket lost before is none of this run's.
        self.socket.take_drops()?;
        while !stop.load(Ordering::Relaxed) {
            if order.counted.received + opened == 0 && announced.is_none_or(|at| at.elapsed() > ANNOUNCE) {
                self.socket.send_many([&probe::announcement()[..]].into_iter())?;
                announced = Some(Instant::now());
            }
            let count = match self.socket.recv_many(spaces.iter_mut().map(<[u8; _]>::as_mut_slice), &mut received) {
                Ok(count) => count,
                Err(error) if is_nothing(&error) => 0,
                Err(error) => return Err(error),
            };
            for (space, received) in spaces.iter().zip(&received).take(count) {
                match probe::number_of(&space[..received.len.min(SPACE)], self.run) {
                    Some(OPENING) => opened += 1,
                    Some(number) => order.count(number),
                    None => {}
                }
            }
            seen.store(order.counted.received + opened, Ordering::Relaxed);
            if count < RECV_MAX {
                thread::sleep(PAUSE);
            }
        }
        Ok(Counted { overlooked: self.socket.take_drops()?.into(), ..order.counted })
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::AGAIN | Errno::INTR))
}

/// The flows and how far each has come.
#[derive(Default)]
struct Order {
    /// One more than the last number of each flow.
    next: [u64; FLOWS as usize],
    counted: Counted,
}

impl Order {
    fn count(&mut self, number: u64) {
        let next = &mut self.next[(number % FLOWS) as usize];
        self.counted.received += 1;
        self.counted.disordered += u64::from(number < *next);
        *next = (*next).max(number + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_and_repeated_frames_are_noticed_within_their_flow() {
        let mut order = Order::default();
        for number in [0, 1, 2, FLOWS, 5 * FLOWS, FLOWS + 1] {
            order.count(number);
        }
        assert_eq!((order.counted.received, order.counted.disordered), (6, 0), "gaps and other flows are no disorder");
        order.count(2 * FLOWS);
        order.count(5 * FLOWS);
        assert_eq!((order.counted.received, order.counted.disordered), (8, 2));
        order.count(6 * FLOWS);
        assert_eq!(order.counted.disordered, 2);
    }
}
