//! The report of `weft experiment mtu`: its page. [`figures`] has the plots.

mod comparisons;
mod curves;
mod figures;

use std::collections::BTreeMap;

pub use self::figures::{Details, Figure, figures};
use self::figures::{Measured, number};
use super::{
    page::Page,
    words::{grouped, micros, percent, rate, short},
};
use crate::experiment::{
    cell::Engine,
    error::ExperimentError,
    mtu::{Header, Results},
    record::{Load, LoadRecord, Record},
};

/// The page.
///
/// # Errors
/// A plot can't be drawn.
pub fn page(results: &Results) -> Result<String, ExperimentError> {
    let Header { version, build, machine, .. } = &results.header;
    let lead = format!("weft {version} ({build} build) on {machine}");
    let mut page = Page::new("weft experiment mtu", &lead);
    let good = short_of(results, &mut page);
    if !good {
        problems(results, &mut page);
    }
    for figure in figures(results)? {
        if let Some(section) = figure.section {
            page.section(section);
        }
        page.figure(&figure.svg, &figure.caption);
        if let Some(Details { names, word_count, rows }) = &figure.details {
            page.table(Some("The numbers"), names, *word_count, rows);
        }
    }
    page.section("How this was measured");
    method(results, &mut page);
    page.section("All cells");
    all_cells(results, &mut page);
    Ok(page.to_html())
}

/// The first box: how much was measured, and what matters most. Whether nothing is wrong.
fn short_of(results: &Results, page: &mut Page) -> bool {
    let failed = results.cells.iter().filter(|record| record.failed.is_some()).count();
    let missing = results.cell_count - results.cells.len();
    let missed: u64 = results.cells.iter().flat_map(|record| &record.loads).map(|load| load.observer_missed).sum();
    let mut sentences = findings(results);
    sentences.insert(
        0,
        format!(
            "{} of {} cells measured, {} s for each of three loads in each.",
            results.cells.len() - failed,
            results.cell_count,
            short(results.header.sweep.conditions.seconds)
        ),
    );
    if missing > 0 {
        sentences.push(format!("{missing} cells are still to be measured: `weft experiment mtu --resume` goes on."));
    }
    if results.header.build != "release" {
        sentences
            .push("This is a debug build: compare cells with each other, and nothing with anything else.".to_owned());
    }
    if missed > 0 {
        sentences.push(format!(
            "The observer could not read {} frames in time: packets and bytes on the wire are too small by that much.",
            grouped(missed as i64)
        ));
    }
    page.short("In short", &sentences, failed == 0);
    failed == 0
}

/// What the numbers say, in a sentence each, for the report's first box and for the terminal.
pub fn findings(results: &Results) -> Vec<String> {
    let measured = Measured::of(results);
    let tcp = |record: &&&Record| number(record, Load::Tcp, |load| Some(load.mbit_per_s)).unwrap_or(0.0);
    let weft = || measured.records.iter().filter(|record| record.cell.engine == Engine::Weft);
    let mut sentences = Vec::new();
    if let Some(best) = weft().max_by(|one, other| tcp(one).total_cmp(&tcp(other))) {
        sentences.push(format!("The most TCP throughput is {}, with {}.", rate(tcp(&best)), best.key));
    }
    let fits = || weft().filter(|record| record.cell.fits());
    let lossy =
        fits().filter(|record| record.load(Load::Udp).and_then(LoadRecord::loss).is_some_and(|loss| loss > 0.001));
    let (fit_count, lossy_count) = (fits().count(), lossy.count());
    if fit_count > 0 {
        sentences.push(match lossy_count {
            0 => format!("Where the inner MTU fits ({fit_count} cells), UDP loses nothing."),
            some => {
                format!("Where the inner MTU fits ({fit_count} cells), UDP loses more than 0.1 % in {some} of them.")
            }
        });
        let fragments: u64 = fits().flat_map(|record| &record.loads).map(|load| load.fragments).sum();
        sentences.push(format!("Fragments on the wire where the inner MTU fits: {}.", grouped(fragments as i64)));
    }
    let too_large: Vec<_> = weft().filter(|record| !record.cell.fits()).collect();
    if !too_large.is_empty() {
        let dead = too_large.iter().filter(|record| tcp(record) < 1.0).count();
        sentences.push(format!(
            "Where it does not fit ({} cells), TCP carries next to nothing in {dead} of them.",
            too_large.len()
        ));
    }
    sentences
}

fn problems(results: &Results, page: &mut Page) {
    page.section("What could not be measured");
    let mut cells: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for record in &results.cells {
        if let Some(why) = &record.failed {
            cells.entry(why).or_default().push(&record.key);
        }
    }
    let rows: Vec<_> = cells
        .iter()
        .map(|(why, keys)| {
            let more = if keys.len() > 1 { format!(" and {} more", keys.len() - 1) } else { String::new() };
            vec![format!("{}{more}", keys[0]), (*why).to_owned()]
        })
        .collect();
    page.table(None, &["cells", "why"], 2, &rows);
}

fn method(results: &Results, page: &mut Page) {
    let conditions = &results.header.sweep.conditions;
    page.paragraph(
        "Every cell has a path of its own in network namespaces: two stations, two hosts that carry their frames, and an \
         underlay of three links through two routers. The link in the middle may have another MTU than the hosts' links.",
    );
    let size =
        conditions.udp_size.map_or_else(|| "that fill the inner MTU".to_owned(), |size| format!("of {size} bytes"));
    page.paragraph(&format!(
        "Three loads run one after the other for {} s each: one TCP connection as fast as it can; UDP datagrams {size} at \
         {} Mbit/s with DF clear; and questions with answers of {} bytes over one TCP connection. The link in the middle \
         loses {} % of the frames and takes {} ms, each way.",
        short(conditions.seconds),
        short(conditions.udp_mbit),
        grouped(i64::from(conditions.answer_len)),
        short(conditions.loss_percent),
        short(conditions.delay_ms)
    ));
    page.paragraph(
        "Packets, bytes, fragments and ICMP errors were counted by packet sockets beside the path, in wire frames: a \
         super-frame as the frames that it becomes. Bytes count from the Ethernet header on, without preamble and checksum. \
         Retransmissions are the kernel's (Tcp.RetransSegs of both stations), drops are the wefts' ledgers.",
    );
}

fn all_cells(results: &Results, page: &mut Page) {
    const NAMES: [&str; 21] = [
        "engine",
        "encapsulation",
        "underlay",
        "df",
        "offload",
        "underlay MTU",
        "middle MTU",
        "inner MTU",
        "load",
        "Mbit/s",
        "payload / wire",
        "packets",
        "fragments",
        "too big (hosts)",
        "too big (stations)",
        "retransmissions",
        "loss",
        "p50",
        "p99",
        "CPU s/GB",
        "drops",
    ];
    let mut rows = Vec::new();
    for record in &results.cells {
        let cell = &record.cell;
        for load in &record.loads {
            let maybe = |value: Option<String>| value.unwrap_or_else(|| "\u{2013}".to_owned());
            let drops: Vec<_> = load.drops.iter().map(|(name, count)| format!("{name} {count}")).collect();
            rows.push(vec![
                cell.engine.to_string(),
                cell.tunnel.to_string(),
                cell.underlay.to_string(),
                cell.df.to_string(),
                cell.offload.to_string(),
                cell.underlay_mtu.to_string(),
                cell.middle_mtu.to_string(),
                cell.inner_mtu.to_string(),
                load.load.name().to_owned(),
                short(load.mbit_per_s),
                maybe(load.efficiency.map(percent)),
                grouped((load.wire.frames + load.wire_back.frames) as i64),
                grouped(load.fragments as i64),
                load.icmp_underlay.to_string(),
                load.icmp_overlay.to_string(),
                grouped(load.retransmissions as i64),
                maybe(load.loss().map(percent)),
                maybe(load.p50_us.map(micros)),
                maybe(load.p99_us.map(micros)),
                maybe(load.cpu_per_gigabyte().map(short)),
                drops.join("; "),
            ]);
        }
    }
    let summary = format!("{} rows, as in cells.csv", grouped(rows.len() as i64));
    page.table(Some(&summary), &NAMES, 5, &rows);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{
        cell::{Cell, DfPolicy, Offload, Tunnel},
        report::plot::tests::assert_well_formed,
        sweep::Sweep,
        testing::{cell, failed_record, of},
    };

    fn results() -> Results {
        let mut cells = Vec::new();
        let geneve: Tunnel = "geneve".parse().unwrap();
        for (tunnel, less) in [(Tunnel::VXLAN, 0.0), (geneve, 10.0)] {
            for offload in [Offload::On, Offload::Off] {
                for (inner, mbit) in [(576, 300.0), (1280, 700.0), (1450, 900.0), (1500, 0.0)] {
                    let factor = if offload == Offload::On { 10.0 } else { 1.0 };
                    cells.push(of(Cell { offload, tunnel, ..cell(inner) }, (mbit - less) * factor));
                }
            }
        }
        let cell_count = cells.len() + 3;
        Results { header: Header::of(Sweep::quick()), cell_count, cells }
    }

    #[test]
    fn a_report_has_every_plot_with_words_from_its_numbers() {
        let results = results();
        let html = page(&results).unwrap();
        assert_well_formed(&html);
        for text in [
            "TCP throughput, IPv4 underlay of 1500 bytes",
            "Weft, offload off: 300 Mbit/s at 576 bytes, 900 Mbit/s at 1450 (3 times as much).",
            "next to nothing at 1500 (weft, offload on) and next to nothing at 1500 (weft, offload off)",
            "1450 fits",
            "How much of the wire is payload",
            "TCP throughput by encapsulation, offload on",
            "On average over the rows: vxlan",
            "What becomes of packets that do not fit",
            "practically none; TCP stands still in 2.",
            "Frames that weft dropped have a name: 14 as underlay_mtu.",
            "Time of an answer",
            "Processor time",
            "16 of 19 cells measured",
            "3 cells are still to be measured",
        ] {
            assert!(html.contains(text), "{text}");
        }
    }

    #[test]
    fn names_of_plots_are_different_files() {
        let figures = figures(&results()).unwrap();
        let mut names: Vec<_> = figures.iter().map(|figure| figure.name.as_str()).collect();
        assert_eq!(names.len(), 7, "{names:?}");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 7);
    }

    #[test]
    fn what_failed_is_told_first() {
        let mut results = results();
        results.cells.push(failed_record());
        let html = page(&results).unwrap();
        assert_well_formed(&html);
        assert!(html.contains("class=\"short bad\"") && html.contains("no packet gets through"), "{html}");
    }

    #[test]
    fn nothing_measured_is_a_report_too() {
        let results = Results { cells: Vec::new(), ..results() };
        assert_well_formed(&page(&results).unwrap());
        let one = Results { cells: vec![of(Cell { df: DfPolicy::Unset, ..cell(1500) }, 1.0)], ..results };
        assert_well_formed(&page(&one).unwrap());
    }
}
