//! Puts numbered frames on an interface at a steady rate.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use rustix::io::Errno;
use weft::sys::packet_socket::{PacketSocket, SEND_MAX};

use super::{
    pace::Pace,
    probe::{self, OPENING},
};

pub(super) struct Generator {
    socket: PacketSocket,
    frames: Box<[[u8; probe::LEN]; SEND_MAX]>,
    number: u64,
    refused: u64,
}

/// What was offered.
pub(super) struct Offered {
    pub(super) elapsed: Duration,
    pub(super) frames: u64,
    /// Those of them that found no room.
    pub(super) refused: u64,
}

impl Generator {
    pub(super) fn new(socket: PacketSocket, run: u32) -> Self {
        Self { socket, frames: Box::new([probe::frame(run); SEND_MAX]), number: 0, refused: 0 }
    }

    /// Sends frame after frame, slowly, until the first is `seen`: switches learn and set up what they need.
    pub(super) fn open(&mut self, seen: &AtomicU64) -> anyhow::Result<()> {
        const PATIENCE: Duration = Duration::from_secs(5);
        const PAUSE: Duration = Duration::from_millis(5);
        let started = Instant::now();
        while seen.load(Ordering::Relaxed) == 0 {
            ensure!(started.elapsed() < PATIENCE, "no frame arrived within {PATIENCE:?}");
            probe::set_number(&mut self.frames[0], OPENING);
            self.send(1)?;
            thread::sleep(PAUSE);
        }
        self.refused = 0;
        Ok(())
    }

    /// Offers frames at this rate for so long.
    pub(super) fn offer(&mut self, per_second: u32, length: Duration) -> anyhow::Result<Offered> {
        // On a path that is slower than the load nothing is left to wait for, and a real-time thread must let others in.
        const SHORTEST_PAUSE: Duration = Duration::from_micros(20);
        let mut pace = Pace::new(per_second);
        let started = Instant::now();
        let mut elapsed = Duration::ZERO;
        while elapsed < length {
            let mut due = pace.due(elapsed);
            while due > 0 {
                let count = due.min(SEND_MAX as u64);
                for frame in &mut self.frames[..count as usize] {
                    probe::set_number(frame, self.number);
                    self.number += 1;
                }
                self.send(count as usize)?;
                due -= count;
            }
            thread::sleep(pace.next().saturating_sub(started.elapsed()).max(SHORTEST_PAUSE));
            elapsed = started.elapsed();
        }
        Ok(Offered { elapsed, frames: self.number, refused: self.refused })
    }

    /// Hands over the first `count` frames, each once.
    fn send(&mut self, count: usize) -> anyhow::Result<()> {
        let mut at = 0;
        while at < count {
            let frames = self.frames[at..count].iter().map(<[u8; _]>::as_slice);
            at += match self.socket.send_many(frames) {
                Ok(sent) => sent,
                Err(error) if has_no_room(&error) => {
                    self.refused += 1;
                    1
                }
                Err(error) => return Err(error).context("the generator can't send"),
            };
        }
        Ok(())
    }
}

/// Whether the interface's queue or the socket's buffer is full.
fn has_no_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::NOBUFS | Errno::AGAIN))
}
