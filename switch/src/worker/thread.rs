//! The control plane's end of a worker: a thread, and a channel of commands to it.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rustix::event::{EventfdFlags, eventfd};
use tracing::{debug, warn};
use weft_vxlan::HeaderFormat;

use super::{
    Report, Worker,
    poller::{Epoll, Poller, Source},
    run::Run,
    sampling::Sampler,
};
use crate::{
    fdb::Stamp,
    ids::{BridgeId, PortId, VtepId},
    port::PortQueue,
    snoop::Member,
    sys::scheduling::set_slice,
    underlay::{Underlay, udp::Receiver as UnderlayReceiver},
};

/// A worker's time slice, the shortest that there is: frames are waiting when it wakes, and it does not run for long.
const SLICE: Duration = Duration::from_micros(100);

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
    /// Listen for its format as well.
    AddReceiver(UnderlayReceiver),
    /// Listen for this format no more.
    RemoveReceiver(HeaderFormat),
    /// Send this frame of the switch's own.
    SendOwn {
        /// For which bridge.
        bridge: BridgeId,
        /// Where.
        to: Member,
        /// The frame, untagged.
        bytes: Vec<u8>,
    },
    /// Send this probe to a VTEP, however large it is.
    SendProbe {
        /// For which bridge.
        bridge: BridgeId,
        /// Where.
        vtep: VtepId,
        /// The frame, untagged.
        frame: Vec<u8>,
    },
    /// Take frames aside for these, and for nobody else.
    Sample(Vec<Arc<Sampler>>),
    /// Poll this port again.
    Rearm(PortId),
    /// Run like this from now on.
    Tune(Tuning),
    /// Send a copy of your counters.
    Report(Sender<Report>),
    /// Stop.
    Stop,
}

/// How a worker runs, whatever it carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tuning {
    /// For how long it may look for work before it sleeps; zero: not at all.
    pub busy_poll: Duration,
    /// The CPUs that it may run on.
    pub cpus: Vec<usize>,
    /// How it stands against other threads.
    pub nice: Nice,
}

/// How nice a worker is to other threads, from -20 to 19 (sched(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nice {
    /// As nice as weft was when it was started.
    AsStarted,
    /// So nice if weft may have that, else as it was started.
    IfAllowed(i8),
    /// So nice; if that is not to be had, somebody wants to know.
    Wanted(i8),
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
        self.at(Instant::now())
    }

    /// What it shows at another time than now.
    pub(super) fn at(&self, time: Instant) -> Stamp {
        Stamp(u64::try_from(time.saturating_duration_since(self.0).as_millis()).unwrap_or(u64::MAX))
    }
}

/// The way to a worker.
#[derive(Clone)]
pub struct Commands {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
}

impl Commands {
    /// Tells the worker something and wakes it.
    pub fn tell(&self, command: Command) {
        // A worker that is gone has panicked; whoever watches `is_alive` ends the process.
        if self.commands.send(command).is_ok()
            && let Err(error) = rustix::io::write(&*self.wake, &1u64.to_ne_bytes())
        {
            warn!(%error, "can't wake a worker");
        }
    }
}

/// The control plane's end of a worker.
pub struct WorkerThread {
    commands: Commands,
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
        let mut poller = Epoll::new()?;
        poller.add(wake.as_fd(), Source::Commands)?;
        let run = Run::new(worker, poller, receiver, wake.clone(), clock);
        let carry = move || {
            if let Err(error) = set_slice(SLICE) {
                debug!(%error, "a worker has time slices of the usual length");
            }
            run.until_stopped();
        };
        let thread = thread::Builder::new().name(format!("weft-worker-{index}")).spawn(carry)?;
        Ok(Self { commands: Commands { commands, wake }, thread: Some(thread) })
    }

    /// See [`Commands::tell`].
    pub fn tell(&self, command: Command) {
        self.commands.tell(command);
    }

    /// The way to this worker, for who does not keep it.
    pub fn commands(&self) -> Commands {
        self.commands.clone()
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
