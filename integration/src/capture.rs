//! Watching interfaces and putting frames on them, from inside their namespaces.
//!
//! A [`Capture`] is a packet socket with a classic BPF program, so that who counts is the kernel and not weft. The kernel
//! takes VLAN tags out of what such a socket reads: a [`Wire`] reads through weft's own packet port, which puts them back.

use std::{
    io::{ErrorKind, Read},
    ops::RangeInclusive,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail, ensure};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use weft::{
    lab::Namespace,
    port::{
        Port, RxBatch, TxFrame,
        packet::{self, PacketQueue},
    },
};

/// How long frames may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a duplicate, or a frame that should not come, may take longer than those that should.
const AFTERWARDS: Duration = Duration::from_millis(200);

/// Which way frames go, as seen by the namespace of the interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The namespace receives them, whoever they are for.
    In,
    /// The namespace sends them.
    Out,
}

/// Sees the frames of one interface from the moment it is opened.
#[derive(Debug)]
pub struct Capture {
    socket: Socket,
    name: String,
}

impl Capture {
    /// Begins to watch.
    ///
    /// # Errors
    /// There is no such interface, or no packet socket can be made.
    pub fn open(namespace: &Namespace, interface: &str, direction: Direction) -> anyhow::Result<Self> {
        const ETH_P_ALL: u16 = 3;
        const ROOM: usize = 8 << 20;
        let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
        let socket = namespace.within(|| Socket::new_raw(Domain::PACKET, Type::RAW, Some(protocol)))??;
        socket.attach_filter(&filter(namespace.link(interface)?.index, direction))?;
        socket.set_recv_buffer_size(ROOM)?;
        socket.set_nonblocking(true)?;
        let capture = Self { socket, name: format!("{}/{interface}", namespace.name()) };
        // What came before the filter.
        capture.take()?;
        Ok(capture)
    }

    /// The frames since the last time.
    ///
    /// # Errors
    /// The interface went down or away.
    pub fn take(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        let mut buffer = vec![0; 70_000];
        loop {
            match (&self.socket).read(&mut buffer) {
                Ok(len) => frames.push(buffer[..len].to_vec()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(frames),
                Err(error) => return Err(error).with_context(|| format!("watching {}", self.name)),
            }
        }
    }

    /// The first frame from now on that fits.
    ///
    /// # Errors
    /// None comes.
    pub fn find(&self, fits: impl Fn(&[u8]) -> bool) -> anyhow::Result<Vec<u8>> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Some(frame) = self.take()?.into_iter().find(|frame| fits(frame)) {
                return Ok(frame);
            }
            thread::sleep(Duration::from_millis(2));
        }
        bail!("no such frame at {} within {PATIENCE:?}", self.name)
    }
}

/// What loads the frame's `SKF_AD_IFINDEX` and `SKF_AD_PKTTYPE` (`include/uapi/linux/filter.h`) and lets only one
/// interface and direction pass.
fn filter(interface: u32, direction: Direction) -> [SockFilter; 6] {
    const LOAD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const AD_OFF: u32 = 0xffff_f000;
    const IFINDEX: u32 = AD_OFF + 8;
    const PACKET_TYPE: u32 = AD_OFF + 4;
    const OUTGOING: u32 = 4;
    let (if_outgoing, if_not) = if direction == Direction::Out { (0, 1) } else { (1, 0) };
    [
        SockFilter::new(LOAD, 0, 0, IFINDEX),
        SockFilter::new(JUMP_IF_EQUAL, 0, 3, interface),
        SockFilter::new(LOAD, 0, 0, PACKET_TYPE),
        SockFilter::new(JUMP_IF_EQUAL, if_outgoing, if_not, OUTGOING),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// Fails unless each interface sees as many fitting frames as it should, and no more.
///
/// # Errors
/// Too few within some seconds, or too many within some time afterwards; the error has all counts.
pub fn expect<const N: usize>(
    captures: [&Capture; N],
    wanted: [RangeInclusive<usize>; N],
    fits: impl Fn(&[u8]) -> bool,
) -> anyhow::Result<()> {
    let mut seen = [0; N];
    let mut look = || -> anyhow::Result<[usize; N]> {
        for (seen, capture) in seen.iter_mut().zip(captures) {
            *seen += capture.take()?.iter().filter(|frame| fits(frame)).count();
        }
        Ok(seen)
    };
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && look()?.iter().zip(&wanted).any(|(seen, wanted)| seen < wanted.start()) {
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(AFTERWARDS);
    let seen = look()?;
    let names = captures.map(|capture| capture.name.as_str());
    let fine = seen.iter().zip(&wanted).all(|(seen, wanted)| wanted.contains(seen));
    ensure!(fine, "{names:?} saw {seen:?} frames instead of {wanted:?}");
    Ok(())
}

/// Exactly so many.
pub const fn exactly(count: usize) -> RangeInclusive<usize> {
    count..=count
}

/// One's own end of an interface: what is sent here leaves by it, what it receives can be read, tags and all.
pub struct Wire {
    queue: PacketQueue,
}

impl Wire {
    /// Opens an interface.
    ///
    /// # Errors
    /// There is none of that name, or it is no Ethernet.
    pub fn open(namespace: &Namespace, interface: &str) -> anyhow::Result<Self> {
        let queue =
            namespace.within(|| packet::open(interface, 1, false))??.pop().context("one queue was asked for")?;
        Ok(Self { queue })
    }

    /// Sends frames as they are.
    ///
    /// # Errors
    /// The kernel refuses one.
    pub fn send(&mut self, frames: &[Vec<u8>]) -> anyhow::Result<()> {
        for frame in frames {
            self.queue.send(&TxFrame::plain(frame)).map_err(|reason| anyhow!("not sent: {}", reason.name()))?;
            ensure!(self.queue.flush() == Default::default(), "the kernel lost a frame");
        }
        Ok(())
    }

    /// Sends one frame several times.
    ///
    /// # Errors
    /// As [`Wire::send`].
    pub fn repeat(&mut self, frame: &[u8], times: usize) -> anyhow::Result<()> {
        self.send(&vec![frame.to_vec(); times])
    }

    /// Forgets what came until now.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn forget(&mut self) -> anyhow::Result<()> {
        let mut batch = RxBatch::new();
        while self.queue.recv(&mut batch)? > 0 {
            batch.clear();
        }
        Ok(())
    }

    /// Fails unless exactly this frame comes next of those that fit.
    ///
    /// # Errors
    /// Another one comes, or none.
    pub fn expect(&mut self, wanted: &[u8], fits: impl Fn(&[u8]) -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut batch = RxBatch::new();
        while Instant::now() < end {
            batch.clear();
            if self.queue.recv(&mut batch)? == 0 {
                thread::sleep(Duration::from_millis(2));
            }
            if let Some((found, _)) = batch.iter_mut().find(|(frame, _)| fits(frame)) {
                ensure!(found == wanted, "{found:02x?} instead of {wanted:02x?}");
                return Ok(());
            }
        }
        bail!("the frame {wanted:02x?} did not come")
    }
}
