//! What came out: a number for each path, metric and round, and what is made of them.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{measure::tcp::Streams, peer::Peer};

/// A number that is measured on a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Metric {
    /// TCP payload, Gbit/s.
    Tcp(Streams),
    /// TCP segments sent again in a run.
    Retransmits(Streams),
    /// Processor seconds of the whole machine, stations included, for each GB (10^9 bytes) of TCP payload.
    Cpu(Streams),
    /// The same of the programs that carry frames alone.
    SwitchCpu(Streams),
    /// Median round trip, microseconds.
    P50,
    /// The round trip that 99 of 100 are not longer than, microseconds.
    P99,
    /// Round trips without an answer.
    LostRoundTrips,
    /// Small frames offered when this many a second were wanted, frames/s.
    Offered(u32),
    /// Those of them that arrived, frames/s.
    Received(u32),
    /// Those of them that did not, percent.
    Lost(u32),
    /// Those of the offered that the generator's interface had no room for, frames/s.
    Refused(u32),
    /// Frames of a run that came after a later one of their flow, or twice.
    Disordered(u32),
    /// Frames of a run that arrived and that the sink had no room for.
    Overlooked(u32),
    /// System calls of the left switch for each 64 KiB of TCP payload.
    CallsLeft,
    /// The same of the right switch.
    CallsRight,
    /// Part of a processor, in percent, that the switches use when nothing is sent.
    Idle,
}

impl Metric {
    /// Its name in JSON.
    pub fn key(self) -> String {
        let streams = |streams| match streams {
            Streams::One => "x1",
            Streams::Four => "x4",
            Streams::Both => "bidirectional",
        };
        match self {
            Self::Tcp(of) => format!("tcp_{}_gbit_s", streams(of)),
            Self::Retransmits(of) => format!("tcp_{}_retransmits", streams(of)),
            Self::Cpu(of) => format!("tcp_{}_cpu_s_per_gb", streams(of)),
            Self::SwitchCpu(of) => format!("tcp_{}_switch_cpu_s_per_gb", streams(of)),
            Self::P50 => "round_trip_p50_us".to_owned(),
            Self::P99 => "round_trip_p99_us".to_owned(),
            Self::LostRoundTrips => "round_trips_lost".to_owned(),
            Self::Offered(load) => format!("frames_{load}_offered_per_s"),
            Self::Received(load) => format!("frames_{load}_received_per_s"),
            Self::Lost(load) => format!("frames_{load}_lost_percent"),
            Self::Refused(load) => format!("frames_{load}_refused_per_s"),
            Self::Disordered(load) => format!("frames_{load}_disordered"),
            Self::Overlooked(load) => format!("frames_{load}_overlooked_by_sink"),
            Self::CallsLeft => "system_calls_per_64kib_left".to_owned(),
            Self::CallsRight => "system_calls_per_64kib_right".to_owned(),
            Self::Idle => "idle_cpu_percent".to_owned(),
        }
    }
}

/// The values of one metric on one path.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The one in the middle; of an even number, the mean of both.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of any number of values, in any order; `None`: of no values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { min, median, max })
    }
}

/// The value that `percent` of the sorted values are not larger than (nearest rank).
///
/// # Panics
/// Without values.
pub(crate) fn percentile(sorted: &[Duration], percent: f64) -> Duration {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// Everything that was measured.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// By round, since not every round has every value.
    values: BTreeMap<(Peer, Metric), BTreeMap<usize, f64>>,
    /// Why a path is not measured at all.
    pub skipped: BTreeMap<Peer, String>,
    /// What went wrong, and where.
    pub failures: Vec<Failure>,
    /// The calls of the last round by name, as text, the left switch's first.
    pub calls: BTreeMap<Peer, Vec<Vec<(&'static str, f64)>>>,
}

/// A measurement that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// On which path.
    pub peer: Peer,
    /// In which round, from 0 on.
    pub round: usize,
    /// What failed, with its causes.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, round {}: {}", self.peer, self.round + 1, self.what)
    }
}

impl Results {
    /// Writes a value down.
    pub fn add(&mut self, round: usize, peer: Peer, metric: Metric, value: f64) {
        self.values.entry((peer, metric)).or_default().insert(round, value);
    }

    /// The values of all rounds, in their order.
    pub fn values(&self, peer: Peer, metric: Metric) -> Vec<f64> {
        self.values.get(&(peer, metric)).map(|rounds| rounds.values().copied().collect()).unwrap_or_default()
    }

    /// What the rounds come to; `None`: not measured.
    pub fn spread(&self, peer: Peer, metric: Metric) -> Option<Spread> {
        Spread::of(self.values(peer, metric))
    }

    /// The ratio of two paths: that of their medians, and the smallest and largest of those within one round.
    pub fn ratio(&self, of: (Peer, Metric), to: (Peer, Metric)) -> Option<Spread> {
        let (of_rounds, to_rounds) = (self.values.get(&of)?, self.values.get(&to)?);
        let ratios = of_rounds.iter().filter_map(|(round, value)| Some(value / to_rounds.get(round)?));
        let rounds = Spread::of(ratios)?;
        let median = self.spread(of.0, of.1)?.median / self.spread(to.0, to.1)?.median;
        Some(Spread { median, ..rounds })
    }

    /// What was measured on a path.
    pub fn metrics(&self, peer: Peer) -> Vec<Metric> {
        self.values.keys().filter(|(of, _)| *of == peer).map(|&(_, metric)| metric).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: Metric = Metric::Tcp(Streams::One);

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]), Some(Spread { min: 1.0, median: 2.5, max: 4.0 }));
        assert_eq!(Spread::of([7.0]), Some(Spread { min: 7.0, median: 7.0, max: 7.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let times: Vec<_> = (1..=200).map(Duration::from_micros).collect();
        let micros = |percent| percentile(&times, percent).as_micros();
        assert_eq!([micros(0.0), micros(50.0), micros(99.0), micros(100.0)], [1, 100, 198, 200]);
        assert_eq!(percentile(&times[..1], 99.0), Duration::from_micros(1));
        assert_eq!(percentile(&times[..3], 50.0), Duration::from_micros(2));
    }

    #[test]
    fn a_ratio_is_that_of_the_medians_and_spreads_as_those_of_the_rounds() {
        let mut results = Results::default();
        for (round, (weft, kernel)) in [(5.0, 10.0), (6.0, 8.0), (9.0, 9.0)].into_iter().enumerate() {
            results.add(round, Peer::WeftTap, TCP, weft);
            results.add(round, Peer::KernelBridge, TCP, kernel);
        }
        let ratio = results.ratio((Peer::WeftTap, TCP), (Peer::KernelBridge, TCP)).unwrap();
        assert_eq!(ratio, Spread { min: 0.5, median: 6.0 / 9.0, max: 1.0 });
        assert_eq!(results.ratio((Peer::WeftTap, TCP), (Peer::OvsTap, TCP)), None);
    }

    #[test]
    fn rounds_that_only_one_path_has_are_in_no_ratio() {
        let mut results = Results::default();
        results.add(0, Peer::WeftTap, TCP, 1.0);
        results.add(1, Peer::KernelBridge, TCP, 1.0);
        assert_eq!(results.ratio((Peer::WeftTap, TCP), (Peer::KernelBridge, TCP)), None);
    }

    #[test]
    fn every_metric_has_a_name_of_its_own() {
        let mut keys: Vec<_> = Streams::ALL
            .into_iter()
            .flat_map(|of| [Metric::Tcp(of), Metric::Retransmits(of), Metric::Cpu(of), Metric::SwitchCpu(of)])
            .chain([1, 2].into_iter().flat_map(|load| {
                [
                    Metric::Offered,
                    Metric::Received,
                    Metric::Lost,
                    Metric::Refused,
                    Metric::Disordered,
                    Metric::Overlooked,
                ]
                .map(|of: fn(u32) -> Metric| of(load))
            }))
            .chain([
                Metric::P50,
                Metric::P99,
                Metric::LostRoundTrips,
                Metric::CallsLeft,
                Metric::CallsRight,
                Metric::Idle,
            ])
            .map(Metric::key)
            .collect();
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }
}
