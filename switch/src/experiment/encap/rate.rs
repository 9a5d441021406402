//! Frames of one size, as many as go through: the source keeps a limited number of them under way, so that none is lost to a
//! queue on the way, and the sink says which have arrived.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    experiment::{
        error::ExperimentError,
        scene::{STATION_INTERFACE, Scene, station_mac},
    },
    offload::VNET_HEADER_LEN,
    sys::packet_socket::{self, Direction, Interest, PacketSocket, RECV_MAX, Received, SEND_MAX},
};

/// Frames under way at most: less than a tap's queue of 500 holds (`drivers/net/tun.c`: TUN_READQ_SIZE).
const WINDOW: u64 = 256;
/// For local experiments (IEEE 802): the kernel ignores such frames.
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];

/// Sends frames on the left station's interface, as a program there would.
pub struct Source {
    socket: PacketSocket,
    sink: PacketSocket,
    /// A virtio-net header that says that nothing is left to do, and the frame.
    bytes: Vec<u8>,
}

/// What went through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passed {
    /// Frames that the kernel took.
    pub sent: u64,
    /// Frames that arrived at the right station.
    pub received: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl Source {
    /// Prepares frames of so many bytes.
    ///
    /// # Errors
    /// A socket can't be made.
    pub fn open(scene: &Scene, frame_len: usize) -> Result<Self, ExperimentError> {
        let [left, right] = &scene.stations;
        let socket = left.within(|| packet_socket::open(STATION_INTERFACE, 1))??.pop();
        let socket = socket.ok_or_else(|| ExperimentError::Broken("a packet socket without a queue".to_owned()))?;
        let watch = || packet_socket::watch(STATION_INTERFACE, Direction::In, Interest::Everything, 16);
        let sink = right.within(watch)??;
        let mut bytes = vec![0; VNET_HEADER_LEN];
        bytes.extend(station_mac(1).octets());
        bytes.extend(station_mac(0).octets());
        bytes.extend(ETHER_TYPE);
        bytes.resize(VNET_HEADER_LEN + frame_len, 0x5a);
        Ok(Self { socket, sink, bytes })
    }

    /// Sends so many frames in bursts that no queue on the way is too short for; gives how many the kernel took.
    ///
    /// # Errors
    /// It takes none.
    pub fn send(&self, count: u32) -> Result<u64, ExperimentError> {
        const PAUSE: Duration = Duration::from_millis(2);
        let mut sent = 0;
        while sent < u64::from(count) {
            sent += self.burst(u64::from(count) - sent)?;
            thread::sleep(PAUSE);
        }
        Ok(sent)
    }

    fn burst(&self, most: u64) -> Result<u64, ExperimentError> {
        let count = usize::try_from(most).unwrap_or(SEND_MAX).min(SEND_MAX);
        let frames = std::iter::repeat_n(self.bytes.as_slice(), count);
        let sent = self
            .socket
            .send_many(frames)
            .map_err(ExperimentError::step("put frames on the left station's interface"))?;
        Ok(sent as u64)
    }

    /// Sends as many as go through for so long.
    ///
    /// # Errors
    /// The kernel takes none.
    pub fn saturate(&self, time: Duration) -> Result<Passed, ExperimentError> {
        const GRACE: Duration = Duration::from_millis(20);
        let (received, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        self.arrived();
        thread::scope(|scope| {
            let counting = scope.spawn(|| {
                while !is_over.load(Ordering::Acquire) {
                    match self.arrived() {
                        0 => thread::sleep(Duration::from_micros(50)),
                        some => _ = received.fetch_add(some, Ordering::Release),
                    }
                }
            });
            let started = Instant::now();
            let sent = self.fill_window(&received, started + time);
            let elapsed = started.elapsed();
            thread::sleep(GRACE);
            is_over.store(true, Ordering::Release);
            counting.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
            let received = received.load(Ordering::Acquire) + self.arrived();
            sent.map(|sent| Passed { sent, received: received.min(sent), elapsed })
        })
    }

    /// Keeps the window full until `end`; gives what was sent.
    fn fill_window(&self, received: &AtomicU64, end: Instant) -> Result<u64, ExperimentError> {
        /// So long without an arrival, and what is under way is lost.
        const LOST_AFTER: Duration = Duration::from_millis(20);
        let (mut sent, mut given_up) = (0, 0);
        let mut last = (0, Instant::now());
        while Instant::now() < end {
            let arrived = received.load(Ordering::Acquire);
            if arrived != last.0 {
                last = (arrived, Instant::now());
            }
            let under_way = sent - (arrived + given_up).min(sent);
            if under_way < WINDOW {
                sent += self.burst(WINDOW - under_way)?;
            } else if last.1.elapsed() > LOST_AFTER {
                given_up += under_way;
                last.1 = Instant::now();
            } else {
                thread::yield_now();
            }
        }
        Ok(sent)
    }

    /// Frames of ours that have come to the right station since the last time.
    fn arrived(&self) -> u64 {
        const SPACE: usize = VNET_HEADER_LEN + 16;
        let mut spaces = [0; SPACE * RECV_MAX];
        let mut received = [Received::default(); RECV_MAX];
        let mut count = 0;
        while let Ok(read @ 1..) = self.sink.recv_many(spaces.chunks_exact_mut(SPACE), &mut received) {
            let heads = spaces.chunks_exact(SPACE).take(read).map(|space| &space[VNET_HEADER_LEN + 12..][..2]);
            count += heads.filter(|ether_type| *ether_type == ETHER_TYPE).count() as u64;
        }
        count
    }
}
