//! The report of `weft experiment encap`.

use super::{
    mtu::Figure,
    page::Page,
    plot::{Axis, Curves, Mark, Series},
    words::{grouped, percent, rate, short},
};
use crate::experiment::{
    cell::{Tunnel, Underlay},
    encap::{Record, Results},
    error::ExperimentError,
};

/// The page.
///
/// # Errors
/// A plot can't be drawn.
pub fn page(results: &Results) -> Result<String, ExperimentError> {
    let lead = format!("weft {} ({} build) on {}", results.version, results.build, results.machine);
    let mut page = Page::new("weft experiment encap", &lead);
    let wrong = results.disagreements();
    page.short("In short", &findings(results), wrong.is_empty());
    for figure in figures(results)? {
        if let Some(section) = figure.section {
            page.section(section);
        }
        page.figure(&figure.svg, &figure.caption);
    }
    page.section("How this was measured");
    page.paragraph(
        "Frames of each size were put on the left station's interface, and a packet socket beside the link in the middle of the \
         underlay saw how long the tunnel's packets are: from the outer Ethernet header on, without preamble and checksum. Then \
         as many were sent as go through, with 256 under way at most. Nanoseconds are those of a whole worker between a port and \
         a VTEP in memory, without any kernel: they compare encapsulations and sizes with each other.",
    );
    page.section("All numbers");
    let rows: Vec<_> = results.records.iter().map(row).collect();
    let names = [
        "encapsulation",
        "underlay",
        "frame",
        "computed",
        "measured",
        "agrees",
        "frames/s",
        "Mbit/s",
        "lost",
        "ns/frame",
    ];
    page.table(None, &names, 2, &rows);
    Ok(page.to_html())
}

/// What the numbers say, in a sentence each.
pub fn findings(results: &Results) -> Vec<String> {
    let wrong = results.disagreements();
    let count = results.records.len();
    let mut sentences = vec![if wrong.is_empty() {
        format!("In all {count} cells the bytes on the wire are exactly those of the arithmetic.")
    } else {
        let place = |record: &&Record| {
            let lengths: Vec<_> = record.measured.iter().map(|(len, count)| format!("{count} of {len}")).collect();
            format!(
                "{} over {}, frame of {}: {} of {} expected, {} seen",
                record.encapsulation,
                record.underlay,
                record.frame_len,
                record.sent,
                record.computed_len,
                if lengths.is_empty() { "none".to_owned() } else { lengths.join(" and ") }
            )
        };
        let places: Vec<_> = wrong.iter().map(place).collect();
        format!(
            "In {} of {count} cells the bytes on the wire are not those of the arithmetic: {}.",
            wrong.len(),
            places.join("; ")
        )
    }];
    for (tunnel, underlay) in results.measurement.paths() {
        let overhead = tunnel.budget(underlay).overhead();
        let most = records(results, tunnel, underlay).map(|record| record.mbit_per_s).fold(0.0, f64::max);
        sentences.push(format!(
            "{} over {underlay} adds {overhead} bytes to a frame; at most {} went through.",
            tunnel.title(),
            rate(most)
        ));
    }
    if results.build != "release" {
        sentences
            .push("This is a debug build: compare times with each other, and nothing with anything else.".to_owned());
    }
    sentences
}

/// All plots, in the order of the report.
///
/// # Errors
/// A plot can't be drawn.
pub fn figures(results: &Results) -> Result<Vec<Figure>, ExperimentError> {
    let mut figures = vec![overhead(results)?];
    // No packet leaves memory, so the underlay's IP version makes no difference.
    let mut costs = by_path(results, |record| record.ns_per_frame);
    costs.truncate(results.measurement.encapsulation.len());
    for (line, tunnel) in costs.iter_mut().zip(&results.measurement.encapsulation) {
        line.name = tunnel.title();
    }
    if costs.iter().any(|series| series.points.len() > 1) {
        figures.push(cost(costs)?);
    }
    figures.push(throughput(results)?);
    Ok(figures)
}

fn records(results: &Results, tunnel: Tunnel, underlay: Underlay) -> impl Iterator<Item = &Record> {
    results.records.iter().filter(move |record| (record.encapsulation, record.underlay) == (tunnel, underlay))
}

fn by_path(results: &Results, of: impl Fn(&Record) -> Option<f64>) -> Vec<Series> {
    let series = |(style, (tunnel, underlay)): (usize, (Tunnel, Underlay))| Series {
        name: format!("{} over {underlay}", tunnel.title()),
        points: records(results, tunnel, underlay)
            .filter_map(|record| Some((f64::from(record.frame_len), of(record)?)))
            .collect(),
        style,
        mark: Mark::Both,
    };
    results.measurement.paths().into_iter().enumerate().map(series).collect()
}

fn overhead(results: &Results) -> Result<Figure, ExperimentError> {
    let share = |extra: f64, frame_len: f64| 100.0 * extra / (frame_len + extra);
    let mut lines: Vec<(u16, Vec<(Tunnel, Underlay)>)> = Vec::new();
    for path in results.measurement.paths() {
        let overhead = path.0.budget(path.1).overhead();
        match lines.iter_mut().find(|(known, _)| *known == overhead) {
            Some((_, paths)) => paths.push(path),
            None => lines.push((overhead, vec![path])),
        }
    }
    lines.sort_by_key(|line| line.0);
    let mut sizes: Vec<_> = results.measurement.sizes.iter().map(|size| f64::from(*size)).collect();
    sizes.sort_by(f64::total_cmp);
    let (low, high) = (sizes.first().copied().unwrap_or(64.0), sizes.last().copied().unwrap_or(9000.0));
    let mut series = Vec::new();
    for (style, (overhead, paths)) in lines.iter().enumerate() {
        let overhead = f64::from(*overhead);
        // Smooth in powers of two.
        let steps = 60;
        let at = |step: i32| low * (high / low).powf(f64::from(step) / f64::from(steps));
        let points = (0..=steps).map(|step| (at(step), share(overhead, at(step)))).collect();
        series.push(Series { name: format!("computed, {overhead} bytes"), points, style, mark: Mark::Line });
        let of_line = |record: &&Record| paths.contains(&(record.encapsulation, record.underlay));
        let measured = results.records.iter().filter(of_line).flat_map(|record| {
            let frame_len = f64::from(record.frame_len);
            record.measured.keys().map(move |len| (frame_len, share(f64::from(*len) - frame_len, frame_len)))
        });
        series.push(Series {
            name: format!("measured ({})", names(paths)),
            points: measured.collect(),
            style,
            mark: Mark::Points,
        });
    }
    let wrong = results.disagreements().len();
    let agreement = if wrong == 0 {
        "Every measured point lies exactly on its line.".to_owned()
    } else {
        format!("{wrong} measured points don't lie on their line.")
    };
    let words: Vec<_> = lines
        .iter()
        .map(|(overhead, paths)| {
            let overhead_share = |len: f64| percent(share(f64::from(*overhead), len) / 100.0);
            format!(
                "{} bytes ({}) are {} of the wire with frames of {}, and {} with {}.",
                overhead,
                names(paths),
                overhead_share(low),
                short(low),
                overhead_share(high),
                short(high)
            )
        })
        .collect();
    let plot = Curves {
        title: "What the tunnel's headers take of the wire".to_owned(),
        x: Axis::log("inner frame, bytes"),
        y: Axis::from_zero("percent of the bytes on the wire"),
        series,
        rulers: Vec::new(),
    };
    Ok(Figure {
        name: "encap-overhead".to_owned(),
        section: Some("Overhead"),
        svg: plot.to_svg()?,
        caption: format!(
            "The headers are as long for every frame, so small frames pay most. {agreement} {}",
            words.join(" ")
        ),
        details: None,
    })
}

/// "VXLAN, Geneve over ipv4; VXLAN over ipv6".
fn names(paths: &[(Tunnel, Underlay)]) -> String {
    let mut by_underlay: Vec<(Underlay, Vec<String>)> = Vec::new();
    for (tunnel, underlay) in paths {
        match by_underlay.iter_mut().find(|(known, _)| known == underlay) {
            Some((_, titles)) => titles.push(tunnel.title()),
            None => by_underlay.push((*underlay, vec![tunnel.title()])),
        }
    }
    let names: Vec<_> =
        by_underlay.iter().map(|(underlay, titles)| format!("{} over {underlay}", titles.join(", "))).collect();
    names.join("; ")
}

fn cost(series: Vec<Series>) -> Result<Figure, ExperimentError> {
    let words: Vec<_> = series
        .iter()
        .filter_map(|line| {
            let (first, last) = (line.points.first()?, line.points.last()?);
            Some(format!(
                "{}: {} ns with frames of {}, {} ns with {} ({} times as many bytes in {} times the time).",
                line.name,
                short(first.1),
                short(first.0),
                short(last.1),
                short(last.0),
                short(last.0 / first.0),
                short(last.1 / first.1)
            ))
        })
        .collect();
    let plot = Curves {
        title: "What one frame costs in memory".to_owned(),
        x: Axis::log("inner frame, bytes"),
        y: Axis::from_zero("nanoseconds for each frame, from a port to a VTEP, without a kernel; medians"),
        series,
        rulers: Vec::new(),
    };
    Ok(Figure {
        name: "encap-cost".to_owned(),
        section: Some("Cost"),
        svg: plot.to_svg()?,
        caption: format!("A frame has a price of its own, and its bytes are copied once. {}", words.join(" ")),
        details: None,
    })
}

fn throughput(results: &Results) -> Result<Figure, ExperimentError> {
    let series = by_path(results, |record| Some(record.mbit_per_s));
    let words: Vec<_> = series
        .iter()
        .filter_map(|line| {
            let (first, last) = (line.points.first()?, line.points.last()?);
            Some(format!(
                "{}: {} with frames of {}, {} with {}.",
                line.name,
                rate(first.1),
                short(first.0),
                rate(last.1),
                short(last.0)
            ))
        })
        .collect();
    let plot = Curves {
        title: "What goes through, by frame size".to_owned(),
        x: Axis::log("inner frame, bytes"),
        y: Axis::from_zero("Mbit/s of inner frames, each sent by itself, one thread on each side"),
        series,
        rulers: Vec::new(),
    };
    let lost: u64 = results.records.iter().map(|record| record.lost).sum();
    let losses =
        if lost == 0 { "None was lost.".to_owned() } else { format!("{} were lost on the way.", grouped(lost as i64)) };
    Ok(Figure {
        name: "encap-throughput".to_owned(),
        section: Some("Throughput"),
        svg: plot.to_svg()?,
        caption: format!(
            "Nothing puts these frames together, so what goes through is a number of frames and grows with their size. {} {losses}",
            words.join(" ")
        ),
        details: None,
    })
}

fn row(record: &Record) -> Vec<String> {
    let lengths: Vec<_> = record.measured.iter().map(|(len, count)| format!("{count} x {len}")).collect();
    vec![
        record.encapsulation.to_string(),
        record.underlay.to_string(),
        record.frame_len.to_string(),
        record.computed_len.to_string(),
        lengths.join(", "),
        if record.agrees { "yes" } else { "NO" }.to_owned(),
        grouped(record.frames_per_s as i64),
        short(record.mbit_per_s),
        record.lost.to_string(),
        record.ns_per_frame.map_or_else(|| "\u{2013}".to_owned(), short),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{encap::Measurement, report::plot::tests::assert_well_formed};

    fn results(spoil: bool) -> Results {
        let measurement = Measurement::quick();
        let mut records = Vec::new();
        for (tunnel, underlay) in measurement.paths() {
            for &frame_len in &measurement.sizes {
                let computed_len = tunnel.wire_len(underlay, usize::from(frame_len)) as u32;
                records.push(Record {
                    encapsulation: tunnel,
                    underlay,
                    frame_len,
                    computed_len,
                    sent: 50,
                    measured: [(computed_len, 50)].into(),
                    agrees: true,
                    frames_per_s: 1e5,
                    mbit_per_s: f64::from(frame_len) * 0.8,
                    lost: 0,
                    ns_per_frame: Some(100.0 + f64::from(frame_len) / 20.0),
                });
            }
        }
        if spoil {
            records[0].measured = [(115, 50)].into();
            records[0].agrees = false;
        }
        Results::of(measurement, records)
    }

    #[test]
    fn a_report_says_that_arithmetic_and_wire_agree() {
        let html = page(&results(false)).unwrap();
        assert_well_formed(&html);
        for text in [
            "In all 32 cells the bytes on the wire are exactly those of the arithmetic.",
            "VXLAN over ipv4 adds 50 bytes to a frame",
            "Every measured point lies exactly on its line.",
            "50 bytes (VXLAN, VXLAN-GBP, VXLAN-GPE, Geneve over ipv4) are 43.9 % of the wire with frames of 64",
        ] {
            assert!(html.contains(text), "{text}");
        }
    }

    #[test]
    fn where_they_do_not_is_told_first() {
        let html = page(&results(true)).unwrap();
        assert_well_formed(&html);
        let told = "In 1 of 32 cells the bytes on the wire are not those of the arithmetic: \
                    vxlan over ipv4, frame of 64: 50 of 114 expected, 50 of 115 seen.";
        assert!(html.contains(told) && html.contains("class=\"short bad\""), "{html}");
    }
}
