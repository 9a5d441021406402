//! Processor time, of the machine and of programs: what a measurement costs.

use std::{fs, io, thread, time::Duration};

use super::LabError;

/// What all processors together have done since the machine was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MachineTime {
    busy: Duration,
}

impl MachineTime {
    /// Until now.
    ///
    /// # Errors
    /// `/proc/stat` can't be read or is not understood.
    pub fn now() -> Result<Self, LabError> {
        const ATTEMPT: &str = "read /proc/stat";
        let text = fs::read_to_string("/proc/stat").map_err(|error| LabError::step(ATTEMPT, error))?;
        Self::parse(&text).map_err(|error| LabError::step(ATTEMPT, error))
    }

    /// From the first line of `/proc/stat`, proc_stat(5): "cpu user nice system idle iowait irq softirq steal ...".
    fn parse(stat: &str) -> io::Result<Self> {
        // USER_HZ, which is 100 wherever Rust runs on Linux.
        const TICK: Duration = Duration::from_millis(10);
        // Not idle and iowait, in which nothing was done; not steal, in which another machine was; not guest and
        // guest_nice, which user and nice contain.
        const BUSY: [usize; 5] = [0, 1, 2, 5, 6];
        let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu "));
        let ticks: Option<Vec<u32>> =
            line.and_then(|line| line.split_whitespace().map(|ticks| ticks.parse().ok()).collect());
        let ticks =
            ticks.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("not understood: {stat:.100}")))?;
        let busy = BUSY.iter().map(|&at| ticks.get(at).copied().unwrap_or(0)).map(|ticks| TICK * ticks).sum();
        Ok(Self { busy })
    }

    /// What they have done since an earlier time.
    pub fn busy_since(self, before: Self) -> Duration {
        self.busy.saturating_sub(before.busy)
    }
}

/// What these processes have used so far, all their living threads together, to the nanosecond.
///
/// # Errors
/// One of them does not exist.
pub fn of_processes(ids: &[u32]) -> Result<Duration, LabError> {
    let time =
        |&id: &u32| of_process(id).map_err(|error| LabError::step(format!("read the time of process {id}"), error));
    ids.iter().map(time).sum()
}

fn of_process(id: u32) -> io::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{id}/task"))? {
        // "nanoseconds on a processor, nanoseconds waiting for one, time slices" (Documentation/scheduler/sched-stats.rst).
        match fs::read_to_string(thread?.path().join("schedstat")) {
            Ok(text) => nanoseconds += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0),
            // The thread has ended since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The part of one processor that these processes use when there is nothing to do.
///
/// # Errors
/// As [`of_processes`].
pub fn idle(ids: &[u32], watched: Duration) -> Result<f64, LabError> {
    let before = of_processes(ids)?;
    thread::sleep(watched);
    Ok(of_processes(ids)?.saturating_sub(before).as_secs_f64() / watched.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_cpu_time() {
        crate::fuzzing::inputs(|input| {
            let Ok(text) = std::str::from_utf8(input) else { return };
            if let Ok(time) = MachineTime::parse(text) {
                assert_eq!(time.busy_since(time), Duration::ZERO);
            }
        });
    }

    #[test]
    fn idling_waiting_and_other_machines_are_not_busy() {
        let before = MachineTime::parse("cpu  1 2 3 1000 1000 4 5 1000 0 0\ncpu0 9 9 9\n").unwrap();
        let after = MachineTime::parse("cpu  11 22 33 4000 4000 44 55 4000 7 7\n").unwrap();
        assert_eq!(after.busy_since(before), Duration::from_millis(10 * (10 + 20 + 30 + 40 + 50)));
        assert_eq!(before.busy_since(after), Duration::ZERO);
    }

    #[test]
    fn what_is_no_such_table_is_refused() {
        for text in ["", "intr 1 2 3", "cpu  a b c"] {
            assert!(MachineTime::parse(text).is_err(), "{text}");
        }
    }

    /// A process of its own: what the test's other threads have used goes with them when they end.
    #[test]
    fn a_process_that_works_uses_time() {
        let mut busy = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let own = [busy.id()];
        let before = of_processes(&own).unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(10);
        let mut used = before;
        while used == before && std::time::Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
            used = of_processes(&own).unwrap();
        }
        busy.kill().unwrap();
        busy.wait().unwrap();
        assert!(used > before);
    }
}
