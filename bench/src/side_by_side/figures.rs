//! The figures that weft is held to: how it has to compare with its peers.

use std::fmt;

use super::{
    measure::tcp::Streams,
    peer::Peer,
    results::{Metric, Results, Spread},
};

/// A figure and what was measured.
#[derive(Clone, PartialEq, Debug)]
pub struct Figure {
    /// What is compared.
    pub text: String,
    /// What it has to be.
    pub want: Want,
    /// What it is, or why it was not measured.
    pub got: Result<Spread, Missing>,
}

/// Why there is no figure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Missing {
    /// The command line left out what it takes.
    NotAsked,
    /// The machine can't, or something failed.
    Because(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => f.write_str("not asked for"),
            Self::Because(why) => f.write_str(why),
        }
    }
}

/// A bound, which itself is good.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Want {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
}

impl Want {
    /// Whether a value is good.
    pub fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, ">= {bound:.2}"),
            Self::AtMost(bound) => write!(f, "<= {bound:.2}"),
        }
    }
}

impl Figure {
    /// Whether the median is good; `None`: not measured.
    pub fn is_met(&self) -> Option<bool> {
        self.got.as_ref().ok().map(|got| self.want.is_met_by(got.median))
    }
}

/// Part of a processor, in percent, that counts as none: timers of the control plane.
const IDLE_PERCENT: f64 = 0.1;

/// All figures. `loads` are the offered loads that were asked for.
pub fn figures(results: &Results, loads: &[u32]) -> Vec<Figure> {
    use Peer::{KernelBridge, KernelVxlan, OvsTap, OvsTso, OvsVxlan, WeftTap, WeftVxlan};
    use Want::{AtLeast, AtMost};
    let tcp = |of, to, streams, want| ratio(results, format!("TCP {streams}"), of, to, Metric::Tcp(streams), want);
    let frames = |of, to, want| small_frames(results, of, to, loads, want);
    let p50 = |of, to, want| ratio(results, "p50 round trip".to_owned(), of, to, Metric::P50, want);
    vec![
        tcp(WeftTap, KernelBridge, Streams::One, AtLeast(0.80)),
        tcp(WeftTap, KernelBridge, Streams::Four, AtLeast(0.50)),
        tcp(WeftTap, OvsTso, Streams::One, AtLeast(1.0)),
        tcp(WeftTap, OvsTso, Streams::Four, AtLeast(1.0)),
        tcp(WeftVxlan, KernelVxlan, Streams::One, AtLeast(0.60)),
        tcp(WeftVxlan, KernelVxlan, Streams::Four, AtLeast(0.50)),
        tcp(WeftVxlan, OvsVxlan, Streams::One, AtLeast(7.0)),
        tcp(WeftVxlan, OvsVxlan, Streams::Four, AtLeast(7.0)),
        frames(WeftTap, OvsTap, AtLeast(1.2)),
        frames(WeftVxlan, OvsVxlan, AtLeast(1.5)),
        p50(WeftTap, OvsTap, AtMost(0.8)),
        p50(WeftVxlan, OvsVxlan, AtMost(0.5)),
        absolute(results, "system calls per 64 KiB, left host", WeftVxlan, Metric::CallsLeft, AtMost(3.0)),
        absolute(results, "system calls per 64 KiB, right host", WeftVxlan, Metric::CallsRight, AtMost(3.0)),
        absolute(results, "% of a processor when idle", WeftTap, Metric::Idle, AtMost(IDLE_PERCENT)),
        absolute(results, "% of a processor when idle", WeftVxlan, Metric::Idle, AtMost(IDLE_PERCENT)),
    ]
}

fn ratio(results: &Results, what: String, of: Peer, to: Peer, metric: Metric, want: Want) -> Figure {
    let got = results.ratio((of, metric), (to, metric));
    let got = got.ok_or_else(|| why_not(results, [of, to], metric));
    Figure { text: format!("{of} / {to}, {what}"), want, got }
}

fn absolute(results: &Results, what: &str, of: Peer, metric: Metric, want: Want) -> Figure {
    let got = results.spread(of, metric).ok_or_else(|| why_not(results, [of, of], metric));
    Figure { text: format!("{of}, {what}"), want, got }
}

/// Compares what arrived at the largest load that was really offered to both.
fn small_frames(results: &Results, of: Peer, to: Peer, loads: &[u32], want: Want) -> Figure {
    let largest =
        loads.iter().copied().filter(|&load| [of, to].iter().all(|&peer| was_offered(results, peer, load))).max();
    match largest {
        Some(load) => {
            ratio(results, format!("frames received of {}/s", thousands(load)), of, to, Metric::Received(load), want)
        }
        None => {
            let offered = loads.first().map_or(Metric::Offered(0), |&load| Metric::Offered(load));
            let measured = [of, to].iter().all(|&peer| results.spread(peer, offered).is_some());
            let never = || Missing::Because("no load could be offered to both".to_owned());
            let why = if measured { never() } else { why_not(results, [of, to], offered) };
            Figure { text: format!("{of} / {to}, frames received"), want, got: Err(why) }
        }
    }
}

/// Whether a load was offered as it was meant, but for a twentieth.
fn was_offered(results: &Results, peer: Peer, load: u32) -> bool {
    results.spread(peer, Metric::Offered(load)).is_some_and(|offered| offered.median >= 0.95 * f64::from(load))
}

fn why_not(results: &Results, peers: [Peer; 2], metric: Metric) -> Missing {
    let mut missing = peers.into_iter().filter(|&peer| results.spread(peer, metric).is_none());
    let why = missing.find_map(|peer| match results.skipped.get(&peer) {
        Some(why) => Some(format!("{peer}: {why}")),
        None => results.failures.iter().any(|failure| failure.peer == peer).then(|| format!("{peer}: failed")),
    });
    why.map_or(Missing::NotAsked, Missing::Because)
}

/// A load as people say it: 400 k.
pub(crate) fn thousands(load: u32) -> String {
    if load.is_multiple_of(1_000) && load > 0 { format!("{} k", load / 1_000) } else { load.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::side_by_side::results::Failure;

    fn results(values: &[(Peer, Metric, f64)]) -> Results {
        let mut results = Results::default();
        for &(peer, metric, value) in values {
            results.add(0, peer, metric, value);
        }
        results
    }

    fn figure(results: &Results, beginning: &str) -> Figure {
        let figures = figures(results, &[100_000, 400_000]);
        figures.into_iter().find(|figure| figure.text.starts_with(beginning)).expect("there is such a figure")
    }

    #[test]
    fn a_bound_itself_is_good() {
        let metric = Metric::Tcp(Streams::One);
        let met = |weft| {
            let results = results(&[(Peer::WeftTap, metric, weft), (Peer::KernelBridge, metric, 10.0)]);
            figure(&results, "weft tap / kernel bridge, TCP x1").is_met()
        };
        assert_eq!([met(8.0), met(7.99), met(20.0)], [Some(true), Some(false), Some(true)]);
        let met = |weft| {
            let results = results(&[(Peer::WeftVxlan, Metric::P50, weft), (Peer::OvsVxlan, Metric::P50, 100.0)]);
            figure(&results, "weft VXLAN / OVS VXLAN, p50").is_met()
        };
        assert_eq!([met(50.0), met(50.1)], [Some(true), Some(false)]);
    }

    #[test]
    fn what_is_missing_is_neither_met_nor_missed_and_said() {
        let mut none = Results::default();
        none.skipped.insert(Peer::OvsTso, "ovs-vswitchd is not installed".to_owned());
        none.add(0, Peer::WeftTap, Metric::Tcp(Streams::One), 5.0);
        let figure = figure(&none, "weft tap / OVS tap, TSO, TCP x1");
        assert_eq!(figure.is_met(), None);
        assert_eq!(figure.got, Err(Missing::Because("OVS tap, TSO: ovs-vswitchd is not installed".to_owned())));
    }

    #[test]
    fn what_failed_is_told_from_what_nobody_asked_for() {
        let mut results = Results::default();
        let got = |results: &Results| figure(results, "weft tap / kernel bridge, TCP x1").got;
        assert_eq!(got(&results), Err(Missing::NotAsked));
        results.failures.push(Failure { peer: Peer::KernelBridge, round: 0, what: "of no account".to_owned() });
        assert_eq!(got(&results), Err(Missing::Because("kernel bridge: failed".to_owned())));
    }

    #[test]
    fn frames_are_compared_at_the_largest_load_that_both_were_offered() {
        let of = |peer, load, offered, received| {
            [(peer, Metric::Offered(load), offered), (peer, Metric::Received(load), received)]
        };
        let common = [
            of(Peer::WeftTap, 100_000, 100_000.0, 100_000.0),
            of(Peer::WeftTap, 400_000, 399_000.0, 300_000.0),
            of(Peer::OvsTap, 100_000, 99_000.0, 80_000.0),
        ];
        let text = |offered: f64| {
            let all = [common.concat(), of(Peer::OvsTap, 400_000, offered, 150_000.0).to_vec()].concat();
            let figure = figure(&results(&all), "weft tap / OVS tap, frames");
            (figure.text, figure.got.map(|got| got.median))
        };
        assert_eq!(text(390_000.0), ("weft tap / OVS tap, frames received of 400 k/s".to_owned(), Ok(2.0)));
        assert_eq!(text(300_000.0), ("weft tap / OVS tap, frames received of 100 k/s".to_owned(), Ok(1.25)));
    }
}
