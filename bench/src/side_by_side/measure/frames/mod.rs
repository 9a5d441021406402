//! Small frames at a fixed offered load: how many arrive.
//!
//! iperf3 makes a system call for each datagram and is slower than what it is to measure. Here a [`generator`] puts frames
//! of 60 bytes (64 on the wire, with their checksum) on the left station's interface by a packet socket, many in one call,
//! and a [`sink`] on the right counts them. The frames are UDP in several flows between addresses that nobody has: switches
//! learn the hardware addresses from the two themselves, and the stations' kernels drop the frames as somebody else's.
//!
//! Both are real-time threads. A switch that keeps the processors busy would else keep frames from being offered, and look
//! better for it. They sleep most of the time; what they use is the kernel's for handing frames over.

mod generator;
mod pace;
mod probe;
mod sink;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use weft::{
    lab::Namespace,
    sys::{
        packet_socket::{self, PacketSocket},
        scheduling::make_real_time,
    },
};

use self::{generator::Generator, sink::Sink};
use crate::side_by_side::scene::{INTERFACE, Scene};

/// How a run went.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Frames {
    /// How long frames were offered.
    pub(crate) elapsed: Duration,
    /// Frames that were handed to the interface, taken or not.
    pub(crate) offered: u64,
    /// Those of them that the interface had no room for.
    pub(crate) refused: u64,
    /// Frames that arrived.
    pub(crate) received: u64,
    /// Those of them that came after a later one of their flow, or a second time.
    pub(crate) disordered: u64,
    /// Frames that had arrived when the sink's socket was full: they are not among the received, and not the path's loss.
    pub(crate) overlooked: u64,
}

/// Offers so many frames a second for so long.
pub(crate) fn run(scene: &Scene, per_second: u32, length: Duration) -> anyhow::Result<Frames> {
    let run = fastrand::u32(..);
    let mut generator = Generator::new(socket(&scene.left)?, run);
    let sink = Sink::new(socket(&scene.right)?, run);
    let stop = AtomicBool::new(false);
    let seen = AtomicU64::new(0);
    thread::scope(|scope| {
        let counting = scope.spawn(|| {
            make_real_time().context("the sink can't be a real-time thread")?;
            sink.count(&seen, &stop).context("the sink failed")
        });
        let offering = scope.spawn(|| {
            make_real_time().context("the generator can't be a real-time thread")?;
            generator.open(&seen)?;
            generator.offer(per_second, length)
        });
        let offered = offering.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
        // What is under way still counts. Nothing on these paths holds a frame for longer than some milliseconds.
        drain(&seen);
        stop.store(true, Ordering::Relaxed);
        let counted = counting.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
        // Without a sink nothing arrives; then its failure is the one to tell.
        let counted = counted?;
        let offered = offered?;
        ensure!(counted.received <= offered.frames + counted.disordered, "more frames came than were sent");
        Ok(Frames {
            elapsed: offered.elapsed,
            offered: offered.frames,
            refused: offered.refused,
            received: counted.received,
            disordered: counted.disordered,
            overlooked: counted.overlooked,
        })
    })
}

/// Waits until nothing has come for a while.
fn drain(seen: &AtomicU64) {
    const SILENCE: Duration = Duration::from_millis(50);
    const LIMIT: Duration = Duration::from_secs(2);
    let started = Instant::now();
    let mut before = seen.load(Ordering::Relaxed);
    loop {
        thread::sleep(SILENCE);
        let now = seen.load(Ordering::Relaxed);
        if now == before || started.elapsed() > LIMIT {
            return;
        }
        before = now;
    }
}

fn socket(station: &Namespace) -> anyhow::Result<PacketSocket> {
    let mut sockets = station.within(|| packet_socket::open(INTERFACE, 1))??;
    sockets.pop().context("one socket was asked for")
}
