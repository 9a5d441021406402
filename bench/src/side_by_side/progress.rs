//! The line that tells how far the run has come: on a terminal always the same line, elsewhere a line for each path.

use std::{
    io::{IsTerminal, Write, stderr},
    time::{Duration, Instant},
};

pub(crate) struct Progress {
    started: Instant,
    on_terminal: bool,
    step_count: usize,
    done: usize,
}

impl Progress {
    pub(crate) fn new(step_count: usize) -> Self {
        Self { started: Instant::now(), on_terminal: stderr().is_terminal(), step_count, done: 0 }
    }

    /// A step begins, of which a path has many.
    pub(crate) fn step(&mut self, what: &str) {
        if self.on_terminal {
            let left = left(self.started.elapsed(), self.done, self.step_count);
            let left = left.map_or_else(String::new, |left| format!(", {} s left", left.as_secs()));
            // Back to the beginning of the line, and away with what stood there.
            let _ = write!(stderr(), "\r\x1b[K[{}/{}{left}] {what}", self.done + 1, self.step_count);
        }
        self.done += 1;
    }

    /// All steps of a path are done, or `given_up` of them won't be.
    pub(crate) fn path_done(&mut self, what: &str, given_up: usize) {
        self.done += given_up;
        if !self.on_terminal {
            let _ = writeln!(stderr(), "[{}/{}] {what}", self.done, self.step_count);
        }
    }

    /// Takes the line away.
    pub(crate) fn finish(&self) {
        if self.on_terminal {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

/// How long the rest will take if it goes on like this.
fn left(elapsed: Duration, done: usize, step_count: usize) -> Option<Duration> {
    let done = u32::try_from(done).ok().filter(|&done| done > 0)?;
    let left = u32::try_from(step_count).ok()?.checked_sub(done)?;
    Some(elapsed / done * left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_for_each_step_as_what_was() {
        let elapsed = Duration::from_secs(10);
        assert_eq!(left(elapsed, 5, 20), Some(Duration::from_secs(30)));
        assert_eq!(left(elapsed, 0, 20), None);
        assert_eq!(left(elapsed, 20, 20), Some(Duration::ZERO));
        assert_eq!(left(elapsed, 21, 20), None);
    }
}
