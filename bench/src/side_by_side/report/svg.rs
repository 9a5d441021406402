//! The results as a drawing: a panel for each metric, a bar for each path, a whisker from the smallest round to the largest.
//!
//! It needs nothing from elsewhere: no script, no fonts but the reader's own. Its colours follow what the reader has set,
//! dark or light.

use std::fmt::Write;

use super::{Report, rounds, short};
use crate::side_by_side::{
    figures::thousands,
    measure::tcp::Streams,
    peer::Peer,
    results::{Metric, Spread},
};

const WIDTH: f64 = 920.0;
const MARGIN: f64 = 16.0;
/// Panels stand in two columns.
const PANEL_WIDTH: f64 = (WIDTH - 3.0 * MARGIN) / 2.0;
const ROW: f64 = 20.0;
const BAR: f64 = 13.0;
/// Room between the paths of one switch and those over VXLAN.
const GAP: f64 = 8.0;
/// Room for a panel's title.
const TITLE: f64 = 30.0;
/// Room for a path's name before its bar.
const NAME: f64 = 140.0;
/// Room for a number behind the longest bar.
const NUMBER: f64 = 56.0;

const STYLE: &str = "\
svg { color-scheme: light dark; font: 12px system-ui, sans-serif }
.back { fill: #ffffff } text { fill: #24292f } .title { font-weight: 600 } .unit { fill: #57606a }
.kernel { fill: #8c959f } .ovs { fill: #d4883a } .weft { fill: #2f6feb } .whisker { stroke: #24292f; stroke-width: 1 }
@media (prefers-color-scheme: dark) {
.back { fill: #0d1117 } text { fill: #e6edf3 } .unit { fill: #9198a1 } .whisker { stroke: #e6edf3 }
.kernel { fill: #6e7681 } .ovs { fill: #c07a35 } .weft { fill: #4a86f7 }
}";

/// A bar.
struct Bar {
    peer: Peer,
    spread: Spread,
}

/// One metric of all paths that have it.
struct Panel {
    title: String,
    unit: String,
    bars: Vec<Bar>,
}

impl Panel {
    fn height(&self) -> f64 {
        TITLE + ROW * self.bars.len() as f64 + GAP + MARGIN
    }
}

impl Report<'_> {
    /// A whole SVG file.
    pub(crate) fn to_svg(&self) -> String {
        let panels: Vec<_> = self.panels().into_iter().filter(|panel| !panel.bars.is_empty()).collect();
        let mut body = String::new();
        let mut top = MARGIN + 2.0 * ROW;
        for row in panels.chunks(2) {
            for (column, panel) in row.iter().enumerate() {
                draw(&mut body, panel, MARGIN + column as f64 * (PANEL_WIDTH + MARGIN), top);
            }
            top += row.iter().map(Panel::height).fold(0.0, f64::max);
        }
        let height = top + MARGIN;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n\
             <title>weft beside the kernel and Open vSwitch</title>\n<style>\n{STYLE}\n</style>\n\
             <rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
             <text class=\"title\" x=\"{MARGIN}\" y=\"26\">weft beside the kernel and Open vSwitch</text>\n\
             <text class=\"unit\" x=\"{MARGIN}\" y=\"44\">{}; medians of {}</text>\n{body}</svg>\n",
            escaped(&self.machine.to_string()),
            rounds(self.options.round_count()),
        )
    }

    fn panels(&self) -> Vec<Panel> {
        let panel = |title: String, unit: &str, metric, scale: f64| {
            let spread = |peer| {
                let Spread { min, median, max } = self.results.spread(peer, metric)?;
                Some(Bar { peer, spread: Spread { min: min * scale, median: median * scale, max: max * scale } })
            };
            Panel { title, unit: unit.to_owned(), bars: self.options.peers().into_iter().filter_map(spread).collect() }
        };
        let tcp = Streams::ALL.map(|of| panel(format!("TCP {of}"), "Gbit/s", Metric::Tcp(of), 1.0));
        let cost = panel(
            "Processor time, TCP x1".to_owned(),
            "s/GB, whole machine, less is better",
            Metric::Cpu(Streams::One),
            1.0,
        );
        let frames = self.options.loads.iter().map(|&load| {
            let title = format!("Small frames received of {}/s", thousands(load));
            panel(title, "1,000 frames/s", Metric::Received(load), 1e-3)
        });
        let latency = [("Round trip, p50", Metric::P50), ("Round trip, p99", Metric::P99)];
        let latency =
            latency.map(|(title, metric)| panel(title.to_owned(), "microseconds, less is better", metric, 1.0));
        tcp.into_iter().chain([cost]).chain(latency).chain(frames).collect()
    }
}

fn draw(out: &mut String, panel: &Panel, left: f64, top: f64) {
    let largest = panel.bars.iter().map(|bar| bar.spread.max).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (PANEL_WIDTH - NAME - NUMBER) / largest;
    let _ = writeln!(
        out,
        "<text x=\"{left}\" y=\"{:.1}\"><tspan class=\"title\">{}</tspan> <tspan class=\"unit\">{}</tspan></text>",
        top + 18.0,
        escaped(&panel.title),
        escaped(&panel.unit)
    );
    for (row, Bar { peer, spread }) in panel.bars.iter().enumerate() {
        let gap = if peer.is_overlay() { GAP } else { 0.0 };
        let y = top + TITLE + row as f64 * ROW + gap;
        let (middle, from) = (y + BAR / 2.0, left + NAME);
        let class = peer.key().split('-').next().unwrap_or_default();
        let at = |value: f64| from + value * scale;
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\"/>\
             <line class=\"whisker\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            from - 6.0,
            y + 11.0,
            escaped(&peer.to_string()),
            spread.median * scale,
            at(spread.min),
            at(spread.max),
            at(spread.max) + 5.0,
            y + 11.0,
            short(spread.median)
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::side_by_side::{figures::figures, machine::Machine, options::Options, results::Results};
    use clap::Parser;

    #[test]
    fn every_path_with_a_value_has_a_bar_and_the_file_is_well_formed() {
        let mut results = Results::default();
        for (round, value) in [3.0, 5.0, 4.0].into_iter().enumerate() {
            results.add(round, Peer::WeftTap, Metric::Tcp(Streams::One), value);
            results.add(round, Peer::KernelBridge, Metric::Tcp(Streams::One), 2.0 * value);
            results.add(round, Peer::OvsTap, Metric::Received(400_000), 1e5 * value);
        }
        let options = Options::parse_from(["side_by_side"]);
        let machine = machine("an \"<odd>\" & name");
        let report =
            Report { options: &options, machine, results: &results, figures: figures(&results, &options.loads) };
        let svg = report.to_svg();
        assert_well_formed(&svg);
        assert!(svg.contains("an &quot;&lt;odd&gt;&quot; &amp; name"));
        assert_eq!(svg.matches("<rect class=\"weft\"").count(), 1);
        assert_eq!(svg.matches("<rect class=\"kernel\"").count(), 1);
        assert_eq!(svg.matches("<rect class=\"ovs\"").count(), 1);
        assert!(svg.contains(">400</text>"), "frames are told in thousands");
    }

    #[test]
    fn nothing_measured_is_an_empty_drawing() {
        let options = Options::parse_from(["side_by_side"]);
        let results = Results::default();
        let report = Report { options: &options, machine: machine(""), results: &results, figures: Vec::new() };
        assert_well_formed(&report.to_svg());
    }

    fn machine(processor: &str) -> Machine {
        let kernel = "6.18".to_owned();
        let hardware = weft::lab::Machine { processor: processor.to_owned(), processor_count: 2, kernel };
        Machine { hardware, programs: Vec::new() }
    }

    /// Tags nest, attributes are quoted, and no bare `&` or `<` is left.
    fn assert_well_formed(xml: &str) {
        let mut open = Vec::new();
        let mut rest = xml;
        while let Some((text, behind)) = rest.split_once('<') {
            for entity in text.split('&').skip(1) {
                assert!(["amp;", "lt;", "gt;", "quot;"].iter().any(|known| entity.starts_with(known)), "{entity}");
            }
            assert!(!text.contains('>') || open.last() == Some(&"style"), "{text}");
            let (tag, after) = behind.split_once('>').expect("a tag ends");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            assert!(!tag.contains("NaN") && !tag.contains("inf"), "{tag}");
            let name = tag.trim_matches('/').split(' ').next().unwrap_or_default();
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) => assert_eq!(open.pop(), Some(name)),
                (false, false) => open.push(name),
                (false, true) => {}
            }
            rest = after;
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} is still open before {rest:?}");
    }
}
