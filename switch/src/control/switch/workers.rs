//! All workers at once.

use std::{io, time::Duration};

use crossbeam_channel::unbounded;
use tracing::{error, warn};

use crate::{
    control::config::SwitchConfig,
    ids::PortId,
    sys::{affinity, scheduling},
    worker::{
        Facts, Report, Shared, Worker,
        thread::{Clock, Command, Commands, Nice, Tuning, WorkerThread},
    },
};

/// How long a worker may take to come to the end of a batch. They take some microseconds; one that takes this long hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// The switch's worker threads.
pub(super) struct Workers(Vec<WorkerThread>);

impl Workers {
    pub(super) fn start(count: usize, shared: &Shared, facts: &Facts, clock: Clock) -> io::Result<Self> {
        let start = |index| {
            let worker = Worker::new(shared.clone(), facts.clone());
            WorkerThread::spawn(index, worker, clock)
        };
        let started = (0..count).map(start).collect::<io::Result<_>>().map(Self);
        // They have it from this thread if weft went first, which needs it no longer.
        scheduling::step_back();
        started
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn are_alive(&self) -> bool {
        self.0.iter().all(WorkerThread::is_alive)
    }

    /// Lets every worker run as the configuration says.
    pub(super) fn tune(&self, config: &SwitchConfig) {
        // The calling thread was never restricted, so it may run wherever weft may.
        let allowed = match affinity::allowed() {
            Ok(allowed) => allowed,
            Err(error) => return warn!(%error, "can't ask which CPUs weft may use; workers stay as they are"),
        };
        for (index, worker) in self.0.iter().enumerate() {
            let cpus = config.pin.cpus_of(index, &allowed);
            let nice = match config.nice {
                Some(nice) => Nice::Wanted(nice),
                None => config.default_nice().map_or(Nice::AsStarted, Nice::IfAllowed),
            };
            worker.tell(Command::Tune(Tuning { busy_poll: config.busy_poll, cpus, nice }));
        }
    }

    /// Tells every worker the same.
    pub(super) fn tell_all(&self, mut command: impl FnMut() -> Command) {
        self.0.iter().for_each(|worker| worker.tell(command()));
    }

    /// The way to one worker, always the same.
    pub(super) fn commands(&self) -> Commands {
        self.0[0].commands()
    }

    /// Tells one worker, always the same: what it is told happens in order.
    pub(super) fn tell_one(&self, command: Command) {
        if let Some(worker) = self.0.first() {
            worker.tell(command);
        }
    }

    /// Gives every worker one of `things`.
    pub(super) fn each_gets<T>(&self, things: Vec<T>, mut command: impl FnMut(T) -> Command) {
        self.0.iter().zip(things).for_each(|(worker, thing)| worker.tell(command(thing)));
    }

    /// Takes ports away from every worker and closes them. When this returns no worker has anything of them, and their
    /// taps are gone.
    pub(super) fn remove_ports(&self, ids: &[PortId]) {
        let (sender, queues) = unbounded();
        for id in ids {
            self.tell_all(|| Command::RemovePort(*id, sender.clone()));
        }
        drop(sender);
        self.barrier();
        tokio::task::block_in_place(|| queues.try_iter().for_each(drop));
    }

    /// Waits until every worker has done all it was told.
    pub(super) fn barrier(&self) {
        self.reports();
    }

    /// A copy of every worker's counters, each made between two batches.
    pub(super) fn reports(&self) -> Vec<Report> {
        let answers: Vec<_> = self.0.iter().map(WorkerThread::report).collect();
        let wait = || {
            let answer = |answer: crossbeam_channel::Receiver<Report>| match answer.recv_timeout(PATIENCE) {
                Ok(report) => report,
                Err(error) => {
                    error!(%error, "a worker does not answer");
                    Report::default()
                }
            };
            answers.into_iter().map(answer).collect()
        };
        tokio::task::block_in_place(wait)
    }
}
