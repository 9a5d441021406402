//! The source and the sink of what is measured: plain sockets of this process inside the stations' namespaces.
//!
//! Each load runs for a given time and then ends by itself, whether anything arrived or not: no call waits for longer than
//! `SLICE` without looking at the clock. What is counted is what reached the sink.

pub mod request;
pub mod tcp;
pub mod udp;

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{experiment::error::ExperimentError, lab::Namespace};

/// How long a call may wait before it looks at the clock again.
const SLICE: Duration = Duration::from_millis(50);

/// A station, as a load sees it.
#[derive(Clone, Copy, Debug)]
pub struct Station<'n> {
    /// Its namespace.
    pub namespace: &'n Namespace,
    /// Its address.
    pub address: SocketAddr,
}

impl Station<'_> {
    /// Makes a socket in the station's namespace; where it is used later does not matter.
    fn open<T: Send>(&self, what: &str, open: impl FnOnce() -> io::Result<T> + Send) -> Result<T, ExperimentError> {
        self.namespace.within(open)?.map_err(ExperimentError::step(format!("{what} in {}", self.namespace.name())))
    }
}

/// Whether a call only came to the end of its slice of time.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// The time until `end`, but never nothing, which would mean "for ever" to a socket.
fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(1), SLICE)
}

/// The smallest value that so many percent of the sorted values don't exceed; `None`: there are none.
pub fn percentile<T: Copy>(sorted: &[T], percent: f64) -> Option<T> {
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values: Vec<_> = (1..=100).collect();
        assert_eq!([50.0, 99.0, 100.0, 0.0].map(|percent| percentile(&values, percent)), [50, 99, 100, 1].map(Some));
        assert_eq!(percentile(&[7], 99.0), Some(7));
        assert_eq!(percentile::<u32>(&[], 50.0), None);
    }
}
