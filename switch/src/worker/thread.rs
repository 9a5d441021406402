//! A worker's thread: wait, carry what waits, obey commands in between.
//!
//! The thread sleeps in `epoll_wait` without a timeout, so an idle switch costs nothing. Descriptors are polled level-
//! triggered and read a bounded number of batches at a time: a port that floods gets its turn and no more.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rustix::{
    buffer::spare_capacity,
    event::{EventfdFlags, epoll, eventfd},
};
use tracing::{debug, warn};

use super::{Fact, Report, Worker};
use crate::{
    fdb::Stamp,
    ids::{BridgeId, PortId},
    port::{Port, PortError, PortQueue, RxBatch},
    underlay::{Underlay, UnderlayBatch, UnderlayEnd},
};

/// Batches that one descriptor gets before the next has its turn.
const TURN_BATCHES: usize = 4;

/// What the control plane tells a worker. Commands are obeyed between two batches, in order.
#[expect(clippy::large_enum_variant, reason = "commands are few, and a queue is moved once in its life")]
pub enum Command {
    /// Here is your queue of a port.
    AddPort(PortId, PortQueue),
    /// Give your queue of a port back. Closing is for others: the kernel makes whoever closes a tap or a packet socket wait
    /// until no processor can still be using it, and a tap's last descriptor waits for the RTNL lock besides.
    RemovePort(PortId, Sender<PortQueue>),
    /// The bridge is gone; keep its counts apart.
    RetireBridge(BridgeId),
    /// Here is your end of the underlay, or there is none any more.
    SetUnderlay(Option<Underlay>),
    /// Poll this port again.
    Rearm(PortId),
    /// Send a copy of your counters.
    Report(Sender<Report>),
    /// Stop.
    Stop,
}

/// The switch's clock: milliseconds since it started.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// What it shows.
    pub fn now(&self) -> Stamp {
        Stamp(u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// The control plane's end of a worker.
pub struct WorkerThread {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl WorkerThread {
    /// Starts a worker.
    ///
    /// # Errors
    /// What the kernel says to the thread, the epoll or the event descriptor.
    pub fn spawn(index: usize, worker: Worker, clock: Clock) -> io::Result<Self> {
        let (commands, receiver) = unbounded();
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let poller = Poller::new(&wake)?;
        let turn = Loop { worker, poller, commands: receiver, wake: wake.clone(), clock };
        let thread = thread::Builder::new().name(format!("weft-worker-{index}")).spawn(move || turn.run())?;
        Ok(Self { commands, wake, thread: Some(thread) })
    }

    /// Tells the worker something and wakes it.
    pub fn tell(&self, command: Command) {
        // A worker that is gone has panicked; whoever watches `is_alive` ends the process.
        if self.commands.send(command).is_ok()
            && let Err(error) = rustix::io::write(&*self.wake, &1u64.to_ne_bytes())
        {
            warn!(%error, "can't wake a worker");
        }
    }

    /// Asks for the worker's counters. Everything that was told before is done when the answer comes.
    pub fn report(&self) -> Receiver<Report> {
        let (sender, receiver) = bounded(1);
        self.tell(Command::Report(sender));
        receiver
    }

    /// Whether the thread runs. It ends only when told to, or by a panic.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        self.tell(Command::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("a worker had panicked");
        }
    }
}

/// What a readable descriptor stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Commands,
    Underlay,
    Port(PortId),
}

impl Source {
    const fn token(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Self::Commands => 0,
            Self::Underlay => 1,
            Self::Port(PortId(id)) => 2 + id as u64,
        })
    }

    fn of(token: u64) -> Self {
        match token {
            0 => Self::Commands,
            1 => Self::Underlay,
            port => Self::Port(PortId(u16::try_from(port - 2).expect("tokens are made from PortIds"))),
        }
    }
}

struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    fn new(wake: &OwnedFd) -> io::Result<Self> {
        let poller = Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? };
        poller.add(wake, Source::Commands)?;
        Ok(poller)
    }

    fn add(&self, fd: impl AsFd, source: Source) -> io::Result<()> {
        match epoll::add(&self.epoll, fd.as_fd(), source.token(), epoll::EventFlags::IN) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn remove(&self, fd: impl AsFd) {
        if let Err(error) = epoll::delete(&self.epoll, fd) {
            debug!(%error, "a descriptor was not polled");
        }
    }

    fn wait(&self, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

struct Loop {
    worker: Worker,
    poller: Poller,
    commands: Receiver<Command>,
    wake: Arc<OwnedFd>,
    clock: Clock,
}

impl Loop {
    fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        loop {
            if let Err(error) = self.poller.wait(&mut events) {
                panic!("epoll_wait of a worker failed: {error}"); // its arguments are all ours
            }
            for event in &events {
                match Source::of(event.data.u64()) {
                    Source::Commands => {
                        if self.obey().is_break() {
                            return;
                        }
                    }
                    Source::Underlay => self.turn_underlay(),
                    Source::Port(port) => self.turn_port(port),
                }
            }
        }
    }

    fn turn_port(&mut self, port: PortId) {
        for _ in 0..TURN_BATCHES {
            match self.worker.turn_port(port, self.clock.now()) {
                Ok(RxBatch::CAPACITY) => {}
                Ok(_) => return,
                // Said once each time that the interface goes down, and taken back by nothing but the next frame: there is
                // nothing to wait for, and a queue that is not polled would miss what comes when it is up again.
                Err(PortError::Down) => return,
                Err(error) => return self.disarm(port, &error),
            }
        }
    }

    /// A descriptor that can't be read would wake us for ever.
    fn disarm(&mut self, port: PortId, error: &PortError) {
        if let Some(fd) = self.worker.port(port).and_then(Port::poll_fd) {
            self.poller.remove(fd);
        }
        let gone = matches!(error, PortError::Gone);
        self.worker.facts.tell(Fact::PortFailed { port, gone, message: error.to_string() });
    }

    fn turn_underlay(&mut self) {
        for _ in 0..TURN_BATCHES {
            match self.worker.turn_underlay(self.clock.now()) {
                Ok(UnderlayBatch::CAPACITY) => {}
                Ok(_) => return,
                Err(error) => {
                    // Pending errors of a UDP socket (an ICMP answer) are taken from it by reading them: no endless loop.
                    debug!(%error, "underlay socket");
                    return;
                }
            }
        }
    }

    fn obey(&mut self) -> std::ops::ControlFlow<()> {
        let mut count = [0; 8];
        _ = rustix::io::read(&*self.wake, &mut count); // only to be woken anew; how often does not matter
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::AddPort(id, queue) => {
                    if let Some(fd) = queue.poll_fd() {
                        self.poll(fd, Source::Port(id));
                    }
                    self.worker.add_port(id, queue);
                }
                Command::RemovePort(id, sender) => {
                    if let Some(queue) = self.worker.remove_port(id) {
                        if let Some(fd) = queue.poll_fd() {
                            self.poller.remove(fd);
                        }
                        _ = sender.send(queue);
                    }
                }
                Command::RetireBridge(id) => self.worker.retire_bridge(id),
                Command::SetUnderlay(underlay) => {
                    if let Some(fd) = underlay.as_ref().and_then(UnderlayEnd::poll_fd) {
                        self.poll(fd, Source::Underlay);
                    }
                    drop(self.worker.set_underlay(underlay));
                }
                Command::Rearm(id) => {
                    if let Some(fd) = self.worker.port(id).and_then(Port::poll_fd) {
                        self.poll(fd, Source::Port(id));
                    }
                }
                Command::Report(sender) => _ = sender.send(self.worker.report()),
                Command::Stop => return std::ops::ControlFlow::Break(()),
            }
        }
        std::ops::ControlFlow::Continue(())
    }

    fn poll(&self, fd: impl AsFd, source: Source) {
        if let Err(error) = self.poller.add(fd, source) {
            warn!(?source, %error, "can't be polled; its frames will not be read");
        }
    }
}
