//! Tables for people: what was measured on each path, and the figures.

use std::fmt::{self, Write};

use comfy_table::{CellAlignment, Table, TableComponent, presets::UTF8_HORIZONTAL_ONLY};

use super::{Report, rounds, short};
use crate::side_by_side::{
    figures::{Figure, Missing, thousands},
    measure::tcp::Streams,
    options::Measurement,
    peer::Peer,
    results::{Metric, Spread},
};

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = self.options;
        let (seconds, workers) = (options.run_seconds(), options.workers);
        writeln!(f, "{}", self.machine)?;
        writeln!(f, "{}; {seconds} s a run; weft with --workers {workers}", rounds(options.round_count()))?;
        if options.round_count() > 1 {
            writeln!(f, "Medians, below them the smallest and the largest of the rounds.")?;
        }
        writeln!(f)?;
        for (measurement, title, columns) in self.sections() {
            if options.measurements().contains(&measurement) {
                writeln!(f, "{title}\n{}\n", self.table(&columns))?;
            }
        }
        self.calls_by_name(f)?;
        writeln!(
            f,
            "Figures: ratios of the medians, and the smallest and largest within one round\n{}",
            figures(&self.figures)
        )?;
        let left_out = self.figures.iter().filter(|figure| figure.got == Err(Missing::NotAsked)).count();
        if left_out > 0 {
            writeln!(f, "{left_out} more are of paths or measurements that were not asked for.")?;
        }
        for (peer, why) in &self.results.skipped {
            writeln!(f, "skipped: {peer}: {why}")?;
        }
        for failure in &self.results.failures {
            writeln!(f, "FAILED: {failure}")?;
        }
        Ok(())
    }
}

/// A column's title and what stands in it.
type Column<'a> = (String, Box<dyn Fn(Peer) -> String + 'a>);

impl Report<'_> {
    fn sections(&self) -> Vec<(Measurement, &'static str, Vec<Column<'_>>)> {
        let plain = |title: &str, metric| (title.to_owned(), self.column(metric));
        let throughput = Streams::ALL.map(|of| plain(&format!("{of}\nGbit/s"), Metric::Tcp(of)));
        let cost = [Streams::One, Streams::Four].into_iter().flat_map(|of| {
            [
                plain(&format!("{of}, machine\ns/GB"), Metric::Cpu(of)),
                plain(&format!("{of}, switch\ns/GB"), Metric::SwitchCpu(of)),
            ]
        });
        let frames = self.options.loads.iter().flat_map(|&load| {
            let title = format!("{}/s offered\nreceived k/s", thousands(load));
            let received: Column<'_> = (title, Box::new(move |peer| self.received(peer, load)));
            [received, plain("\nlost %", Metric::Lost(load))]
        });
        vec![
            (
                Measurement::Tcp,
                "TCP payload, and processor time for each GB of it",
                throughput.into_iter().chain(cost).collect(),
            ),
            (
                Measurement::Latency,
                "Round trips of one byte, microseconds",
                vec![plain("p50", Metric::P50), plain("p99", Metric::P99)],
            ),
            (Measurement::Frames, "Frames of 64 bytes at fixed offered loads", frames.collect()),
            (
                Measurement::Calls,
                "System calls for each 64 KiB of TCP payload, x1",
                vec![plain("left switch", Metric::CallsLeft), plain("right switch", Metric::CallsRight)],
            ),
            (Measurement::Idle, "Idle", vec![plain("% of a processor", Metric::Idle)]),
        ]
    }

    fn column(&self, metric: Metric) -> Box<dyn Fn(Peer) -> String + '_> {
        Box::new(move |peer| {
            self.results.spread(peer, metric).map_or_else(String::new, |spread| spread_text(spread, 1.0))
        })
    }

    /// What was received, and of what if that was not what was wanted.
    fn received(&self, peer: Peer, load: u32) -> String {
        let spread = |metric| self.results.spread(peer, metric);
        let (Some(received), Some(offered)) = (spread(Metric::Received(load)), spread(Metric::Offered(load))) else {
            return String::new();
        };
        let mut text = spread_text(received, 1e-3);
        if offered.median < 0.98 * f64::from(load) {
            let _ = write!(text, "\nof {}", short(offered.median / 1e3));
        }
        text
    }

    fn table(&self, columns: &[Column<'_>]) -> Table {
        let mut table = empty_table(self.options.round_count() > 1);
        table.set_header(["path"].into_iter().chain(columns.iter().map(|(title, _)| title.as_str())));
        for peer in self.options.peers() {
            let cells: Vec<_> = columns.iter().map(|(_, cell)| cell(peer)).collect();
            if cells.iter().any(|cell| !cell.is_empty()) {
                table.add_row([peer.to_string()].into_iter().chain(cells));
            }
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn calls_by_name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (peer, switches) in &self.results.calls {
            for (index, calls) in switches.iter().enumerate() {
                let named: Vec<_> = calls.iter().map(|(name, count)| format!("{name} {count:.2}")).collect();
                writeln!(f, "{peer}, {}: {}", ["left switch", "right switch"][index.min(1)], named.join(", "))?;
            }
        }
        if self.results.calls.is_empty() { Ok(()) } else { writeln!(f) }
    }
}

fn figures(figures: &[Figure]) -> Table {
    let mut table = empty_table(false);
    table.set_header(["figure", "want", "got", "rounds", ""]);
    for figure in figures.iter().filter(|figure| figure.got != Err(Missing::NotAsked)) {
        let verdict = match figure.is_met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        let (got, spread) = match &figure.got {
            Ok(got) => (format!("{:.2}", got.median), format!("{:.2} - {:.2}", got.min, got.max)),
            Err(why) => (String::new(), why.to_string()),
        };
        table.add_row([figure.text.clone(), figure.want.to_string(), got, spread, verdict.to_owned()]);
    }
    table
}

/// `ruled`: with a line between rows, for rows of several lines.
fn empty_table(ruled: bool) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY);
    if !ruled {
        table.remove_style(TableComponent::HorizontalLines).remove_style(TableComponent::MiddleIntersections);
    }
    table
}

/// The median, and the ends of the spread on a line of their own if it has any.
fn spread_text(spread: Spread, scale: f64) -> String {
    let Spread { min, median, max } = spread;
    let median = short(median * scale);
    if min < max { format!("{median}\n{} - {}", short(min * scale), short(max * scale)) } else { median }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_without_width_is_one_number() {
        assert_eq!(spread_text(Spread { min: 2000.0, median: 2000.0, max: 2000.0 }, 1e-3), "2.00");
        assert_eq!(spread_text(Spread { min: 1.0, median: 2.0, max: 30.0 }, 1.0), "2.00\n1.00 - 30.0");
    }
}
