//! What a worker's thread does: wait, carry what waits, obey commands in between.
//!
//! The thread sleeps until something can be read, so an idle switch costs nothing; before it sleeps it may look for a
//! while longer ([`BusyPoll`]). What can be read is read for a bounded time: a port that floods gets its turn and no more,
//! and then perhaps none for a while ([`Share`]).

use std::{
    ops::ControlFlow,
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::Receiver;
use tracing::{debug, warn};
use weft_vxlan::HeaderFormat;

use super::{
    Fact, Worker,
    busy_poll::BusyPoll,
    poller::{Poller, Source},
    precedence::Precedence,
    share::{Share, TURN},
    thread::{Clock, Command, Nice, Tuning},
};
use crate::{
    ids::PortId,
    port::{Port, PortError},
    sys::{affinity, scheduling},
    underlay::{UnderlayBatch, UnderlayEnd},
};

/// Batches that one descriptor gets before the next has its turn. Of 1, 2, 4, 8 and 16 none carried more, and only by less
/// than the figures spread (`docs/performance.md`): enough that asking the poller costs little beside reading.
const TURN_BATCHES: usize = 4;

/// A worker, and what its thread needs around it.
pub(super) struct Run<P> {
    worker: Worker,
    poller: P,
    commands: Receiver<Command>,
    /// Readable when there are commands; watched by the poller as [`Source::Commands`].
    wake: Arc<OwnedFd>,
    clock: Clock,
    busy_poll: BusyPoll,
    ready: Vec<Source>,
    /// How nice weft was when it started this thread.
    nice_at_start: i8,
    /// How nice it may be while it goes first, and whether it does; `None`: it is as nice as it was told to be.
    precedence: Option<(i8, Precedence)>,
    /// What each port has had, by [`PortId`].
    shares: Vec<Share>,
    /// Ports that are not watched, and until when.
    paused: Vec<(PortId, Instant)>,
}

impl<P: Poller> Run<P> {
    pub(super) fn new(
        worker: Worker,
        poller: P,
        commands: Receiver<Command>,
        wake: Arc<OwnedFd>,
        clock: Clock,
    ) -> Self {
        let (busy_poll, ready) = (BusyPoll::new(Duration::ZERO), Vec::with_capacity(64));
        let (shares, paused) = (Vec::new(), Vec::with_capacity(64));
        let nice_at_start = scheduling::nice_at_start();
        Self {
            worker,
            poller,
            commands,
            wake,
            clock,
            busy_poll,
            ready,
            nice_at_start,
            precedence: None,
            shares,
            paused,
        }
    }

    /// Runs until it is told to stop.
    pub(super) fn until_stopped(mut self) {
        while self.turn().is_continue() {}
    }

    /// Waits until something can be read, and gives everything that can its turn.
    fn turn(&mut self) -> ControlFlow<()> {
        self.wait();
        for index in 0..self.ready.len() {
            match self.ready[index] {
                Source::Commands => self.obey()?,
                Source::Underlay(format) => self.turn_underlay(format),
                Source::Port(port) => self.turn_port(port),
            }
        }
        ControlFlow::Continue(())
    }

    fn wait(&mut self) {
        self.ready.clear();
        let sleep = self.resume();
        if self.busy_poll.is_off() {
            return self.sleep(sleep);
        }
        let began = Instant::now();
        while began.elapsed() < self.busy_poll.window() && self.ready.is_empty() {
            self.look(Some(Duration::ZERO));
            // Whoever else wants this processor, perhaps the one whose frames are waited for, shall have it: as KVM does
            // not poll when another task could run (`kvm_vcpu_can_poll`).
            thread::yield_now();
        }
        if self.ready.is_empty() {
            self.look(sleep);
        }
        self.busy_poll.found_after(began.elapsed());
    }

    fn sleep(&mut self, timeout: Option<Duration>) {
        if self.precedence.is_none() {
            return self.look(timeout);
        }
        let began = Instant::now();
        self.look(timeout);
        let Some((nice, precedence)) = &mut self.precedence else { return };
        if let Some(goes_first) = precedence.waited(began, Instant::now()) {
            let nice = if goes_first { *nice } else { self.nice_at_start };
            if let Err(error) = scheduling::set_nice(nice) {
                debug!(nice, %error, "a worker stays as nice as it was");
            }
        }
    }

    fn look(&mut self, timeout: Option<Duration>) {
        if let Err(error) = self.poller.wait(&mut self.ready, timeout) {
            panic!("a worker's poller failed: {error}"); // its arguments are all ours
        }
    }

    fn turn_port(&mut self, port: PortId) {
        let began = Instant::now();
        let (mut share, mut from) = (self.share(port), began);
        for _ in 0..TURN_BATCHES {
            let limit = share.batch();
            match self.worker.turn_port_for(port, limit, self.clock.at(from)) {
                Ok(turned) => {
                    let to = Instant::now();
                    let percent = if turned.is_flood() { self.worker.flood_share(port) } else { 100 };
                    let pause = share.used(turned, percent, from, to);
                    self.shares[port.index()] = share;
                    if let Some(pause) = pause {
                        return self.pause(port, to + pause);
                    }
                    if turned.frames < limit || to - began >= TURN {
                        return;
                    }
                    from = to;
                }
                // Said once each time that the interface goes down, and taken back by nothing but the next frame: there is
                // nothing to wait for, and a queue that is not polled would miss what comes when it is up again.
                Err(PortError::Down) => return,
                Err(error) => return self.disarm(port, &error),
            }
        }
    }

    fn share(&mut self, port: PortId) -> Share {
        if self.shares.len() <= port.index() {
            self.shares.resize(port.index() + 1, Share::default());
        }
        self.shares[port.index()]
    }

    /// Does not read a port for a while.
    fn pause(&mut self, port: PortId, until: Instant) {
        if let Some(fd) = self.worker.port(port).and_then(Port::poll_fd) {
            forget(&mut self.poller, fd);
            self.paused.push((port, until));
        }
    }

    /// Watches ports again whose pause is over; returns how long that of the next one lasts.
    fn resume(&mut self) -> Option<Duration> {
        if self.paused.is_empty() {
            return None;
        }
        let now = Instant::now();
        let (worker, poller) = (&self.worker, &mut self.poller);
        self.paused.retain(|(port, until)| {
            let is_over = *until <= now;
            if is_over && let Some(fd) = worker.port(*port).and_then(Port::poll_fd) {
                watch(poller, fd, Source::Port(*port));
            }
            !is_over
        });
        self.paused.iter().map(|(_, until)| *until - now).min()
    }

    /// The port's number may become another's.
    fn forget_share(&mut self, port: PortId) {
        self.paused.retain(|(paused, _)| *paused != port);
        if let Some(share) = self.shares.get_mut(port.index()) {
            *share = Share::default();
        }
    }

    /// A descriptor that can't be read would wake us for ever.
    fn disarm(&mut self, port: PortId, error: &PortError) {
        if let Some(fd) = self.worker.port(port).and_then(Port::poll_fd) {
            forget(&mut self.poller, fd);
        }
        let gone = matches!(error, PortError::Gone);
        self.worker.facts.tell(Fact::PortFailed { port, gone, message: error.to_string() });
    }

    fn turn_underlay(&mut self, format: HeaderFormat) {
        let began = Instant::now();
        let mut now = began;
        for _ in 0..TURN_BATCHES {
            match self.worker.turn_underlay(format, self.clock.at(now)) {
                Ok(UnderlayBatch::CAPACITY) => {
                    now = Instant::now();
                    if now - began >= TURN {
                        return;
                    }
                }
                Ok(_) => return,
                Err(error) => {
                    // Pending errors of a UDP socket (an ICMP answer) are taken from it by reading them: no endless loop.
                    debug!(%error, "underlay socket");
                    return;
                }
            }
        }
    }

    fn obey(&mut self) -> ControlFlow<()> {
        let mut count = [0; 8];
        _ = rustix::io::read(&*self.wake, &mut count); // only to be woken anew; how often does not matter
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::AddPort(id, queue) => {
                    if let Some(fd) = queue.poll_fd() {
                        watch(&mut self.poller, fd, Source::Port(id));
                    }
                    self.worker.add_port(id, queue);
                }
                Command::RemovePort(id, sender) => {
                    self.forget_share(id);
                    if let Some(queue) = self.worker.remove_port(id) {
                        if let Some(fd) = queue.poll_fd() {
                            forget(&mut self.poller, fd);
                        }
                        _ = sender.send(queue);
                    }
                }
                Command::RetireBridge(id) => self.worker.retire_bridge(id),
                Command::SetUnderlay(underlay) => {
                    drop(self.worker.set_underlay(underlay));
                    HeaderFormat::ALL.into_iter().for_each(|format| self.watch_underlay(format));
                }
                Command::AddReceiver(receiver) => {
                    let format = receiver.format();
                    self.worker.add_receiver(receiver);
                    self.watch_underlay(format);
                }
                // The poller forgets a socket that is closed.
                Command::RemoveReceiver(format) => self.worker.remove_receiver(format),
                Command::SendOwn { bridge, to, bytes } => {
                    self.worker.send_own(bridge, to, &bytes, self.clock.now());
                }
                Command::SendProbe { bridge, vtep, frame } => {
                    self.worker.send_probe(bridge, vtep, &frame, self.clock.now());
                }
                Command::Sample(samplers) => self.worker.sample(samplers),
                Command::Rearm(id) => {
                    if let Some(fd) = self.worker.port(id).and_then(Port::poll_fd) {
                        watch(&mut self.poller, fd, Source::Port(id));
                    }
                }
                Command::Tune(tuning) => self.tune(&tuning),
                Command::Report(sender) => _ = sender.send(self.worker.report()),
                Command::Stop => return ControlFlow::Break(()),
            }
        }
        ControlFlow::Continue(())
    }

    fn watch_underlay(&mut self, format: HeaderFormat) {
        if let Some(fd) = self.worker.underlay().and_then(|underlay| underlay.poll_fd(format)) {
            watch(&mut self.poller, fd, Source::Underlay(format));
        }
    }

    fn tune(&mut self, tuning: &Tuning) {
        self.busy_poll = BusyPoll::new(tuning.busy_poll);
        if let Err(error) = affinity::run_on(&tuning.cpus) {
            warn!(cpus = ?tuning.cpus, %error, "a worker can't be put on its CPUs and stays where it is");
        }
        let (nice, is_wanted) = match tuning.nice {
            Nice::AsStarted => (self.nice_at_start, false),
            // Who could not go first again does not step back, and who never steps back must not go first: while it is busy,
            // nothing would be left to others.
            Nice::IfAllowed(nice) if nice < self.nice_at_start && !scheduling::may_be(nice) => {
                (self.nice_at_start, false)
            }
            Nice::IfAllowed(nice) => (nice, false),
            Nice::Wanted(nice) => (nice, true),
        };
        self.precedence = None;
        match scheduling::set_nice(nice) {
            Ok(()) if is_wanted || nice >= self.nice_at_start => {}
            Ok(()) => self.precedence = Some((nice, Precedence::new(Instant::now()))),
            Err(error) if is_wanted => warn!(nice, %error, "a worker can't have this niceness and stays as it was"),
            // Only whoever has CAP_SYS_NICE, or a limit RLIMIT_NICE that allows it, is less nice than it was.
            Err(error) => debug!(nice, %error, "a worker stays as nice as it was"),
        }
    }
}

fn watch(poller: &mut impl Poller, fd: BorrowedFd<'_>, source: Source) {
    if let Err(error) = poller.add(fd, source) {
        warn!(?source, %error, "can't be polled; its frames will not be read");
    }
}

fn forget(poller: &mut impl Poller, fd: BorrowedFd<'_>) {
    if let Err(error) = poller.remove(fd) {
        debug!(%error, "a descriptor was not polled");
    }
}

#[cfg(test)]
mod tests;
