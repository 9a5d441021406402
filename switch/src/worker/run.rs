//! What a worker's thread does: wait, carry what waits, obey commands in between.
//!
//! The thread sleeps until something can be read, so an idle switch costs nothing; before it sleeps it may look for a
//! while longer ([`BusyPoll`]). What can be read is read a bounded number of batches at a time: a port that floods gets its
//! turn and no more.

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
    thread::{Clock, Command, Tuning},
};
use crate::{
    ids::PortId,
    port::{Port, PortError, RxBatch},
    sys::affinity,
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
        Self { worker, poller, commands, wake, clock, busy_poll, ready }
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
        if self.busy_poll.is_off() {
            return self.look(None);
        }
        let began = Instant::now();
        while began.elapsed() < self.busy_poll.window() && self.ready.is_empty() {
            self.look(Some(Duration::ZERO));
            // Whoever else wants this processor, perhaps the one whose frames are waited for, shall have it: as KVM does
            // not poll when another task could run (`kvm_vcpu_can_poll`).
            thread::yield_now();
        }
        if self.ready.is_empty() {
            self.look(None);
        }
        self.busy_poll.found_after(began.elapsed());
    }

    fn look(&mut self, timeout: Option<Duration>) {
        if let Err(error) = self.poller.wait(&mut self.ready, timeout) {
            panic!("a worker's poller failed: {error}"); // its arguments are all ours
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
            forget(&mut self.poller, fd);
        }
        let gone = matches!(error, PortError::Gone);
        self.worker.facts.tell(Fact::PortFailed { port, gone, message: error.to_string() });
    }

    fn turn_underlay(&mut self, format: HeaderFormat) {
        for _ in 0..TURN_BATCHES {
            match self.worker.turn_underlay(format, self.clock.now()) {
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
