//! The report of `weft experiment mtu`.

use std::collections::BTreeMap;

use super::{
    page::Page,
    plot::{Axis, Bars, Curves, HeatMap, Mark, Series},
    words::{grouped, list, micros, percent, rate, short},
};
use crate::experiment::{
    cell::{Cell, Engine, Offload},
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

/// A plot of the report.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What names it among the files of a guide.
    pub name: String,
    /// The heading that it stands under, if it is the first there.
    pub section: Option<&'static str>,
    /// The plot.
    pub svg: String,
    /// What is to be seen.
    pub caption: String,
    /// A table below it.
    pub details: Option<Details>,
}

/// A table of numbers that a plot has no room for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Details {
    names: Vec<&'static str>,
    word_count: usize,
    rows: Vec<Vec<String>>,
}

/// All plots, in the order of the report; those for which nothing was measured are left out.
///
/// # Errors
/// A plot can't be drawn.
pub fn figures(results: &Results) -> Result<Vec<Figure>, ExperimentError> {
    let mut figures = Vec::new();
    let measured = Measured::of(results);
    throughput(&measured, &mut figures)?;
    efficiency(&measured, &mut figures)?;
    encapsulations(&measured, &mut figures)?;
    too_large(&measured, &mut figures)?;
    answers(&measured, &mut figures)?;
    cost(&measured, &mut figures)?;
    Ok(figures)
}

/// Cells that were measured.
struct Measured<'r> {
    records: Vec<&'r Record>,
}

impl<'r> Measured<'r> {
    fn of(results: &'r Results) -> Self {
        Self { records: results.cells.iter().filter(|record| record.failed.is_none()).collect() }
    }

    /// Different values of something, in the order of the sweep.
    fn values<T: PartialEq>(&self, of: impl Fn(&Cell) -> T) -> Vec<T> {
        let mut values = Vec::new();
        for record in &self.records {
            let value = of(&record.cell);
            if !values.contains(&value) {
                values.push(value);
            }
        }
        values
    }

    /// The cells that are alike but for what a plot is about. The first of each setting stands for all.
    fn plain(&self) -> Option<&'r Cell> {
        self.records.first().map(|record| &record.cell)
    }
}

/// The same path with another inner MTU; engine, offload and so on are the plot's affair.
fn same_path(one: &Cell, other: &Cell) -> bool {
    (one.underlay, one.underlay_mtu, one.middle_mtu) == (other.underlay, other.underlay_mtu, other.middle_mtu)
}

fn number(record: &Record, load: Load, of: impl Fn(&LoadRecord) -> Option<f64>) -> Option<f64> {
    record.load(load).and_then(of).filter(|value| value.is_finite())
}

/// Points over the inner MTU, in its order.
fn over_inner_mtu<'r>(
    records: impl Iterator<Item = &'r Record>,
    load: Load,
    of: impl Fn(&LoadRecord) -> Option<f64>,
) -> Vec<(f64, f64)> {
    let mut points: Vec<_> =
        records.filter_map(|record| Some((f64::from(record.cell.inner_mtu), number(record, load, &of)?))).collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    points
}

/// "IPv4 underlay of 1500 bytes", and the link in the middle if it is another.
fn path_name(cell: &Cell) -> String {
    let version = match cell.underlay {
        crate::experiment::cell::Underlay::Ipv4 => "IPv4",
        crate::experiment::cell::Underlay::Ipv6 => "IPv6",
    };
    let middle = if cell.middle_mtu == cell.underlay_mtu {
        String::new()
    } else {
        format!(", a link of {} in the middle", cell.middle_mtu)
    };
    format!("{version} underlay of {} bytes{middle}", cell.underlay_mtu)
}

/// What a line of a plot is, if offload and engine may differ.
fn line_name(engine: Engine, offload: Offload) -> String {
    match (engine, offload) {
        (Engine::Weft, Offload::On) => "weft, offload on".to_owned(),
        (Engine::Weft, Offload::Off) => "weft, offload off".to_owned(),
        (Engine::Kernel, Offload::On) => "kernel, offload on".to_owned(),
        (Engine::Kernel, Offload::Off) => "kernel, offload off".to_owned(),
    }
}

/// The engines and offload settings that were measured, each with the number of its colour.
fn lines(measured: &Measured<'_>) -> Vec<(Engine, Offload, usize)> {
    let pairs = measured.values(|cell| (cell.engine, cell.offload));
    let style = |(engine, offload): (Engine, Offload)| match (engine, offload) {
        (Engine::Weft, Offload::On) => 0,
        (Engine::Weft, Offload::Off) => 1,
        (Engine::Kernel, Offload::On) => 2,
        (Engine::Kernel, Offload::Off) => 3,
    };
    let mut lines: Vec<_> = pairs.into_iter().map(|pair| (pair.0, pair.1, style(pair))).collect();
    lines.sort_by_key(|line| line.2);
    lines
}

/// One cell of each path.
fn paths<'r>(measured: &Measured<'r>) -> Vec<&'r Cell> {
    let mut paths: Vec<&Cell> = Vec::new();
    for record in &measured.records {
        if !paths.iter().any(|path| same_path(path, &record.cell)) {
            paths.push(&record.cell);
        }
    }
    paths
}

/// Where on a plot over inner MTUs the largest that fits is.
fn ruler(measured: &Measured<'_>, path: &Cell) -> Vec<(f64, String)> {
    let budget = path.tunnel.budget(path.underlay);
    let fits = budget.inner_mtu(path.underlay_mtu.min(path.middle_mtu));
    let last = measured.records.iter().filter(|record| same_path(&record.cell, path)).map(|r| r.cell.inner_mtu).max();
    match fits {
        Some(fits) if last.is_some_and(|last| last >= fits) => vec![(f64::from(fits), format!("{fits} fits"))],
        Some(_) | None => Vec::new(),
    }
}

/// A curve for each line over the inner MTU, for one path, one encapsulation and one DF policy.
fn curves(
    measured: &Measured<'_>,
    path: &Cell,
    load: Load,
    of: impl Fn(&LoadRecord) -> Option<f64> + Copy,
) -> Vec<Series> {
    let of_line = |(engine, offload, style): (Engine, Offload, usize)| {
        let records = measured.records.iter().copied().filter(move |record| {
            let cell = &record.cell;
            same_path(cell, path)
                && (cell.engine, cell.offload) == (engine, offload)
                && (cell.tunnel, cell.df) == (path.tunnel, path.df)
                && (cell.oversize == path.oversize || cell.engine == Engine::Kernel)
        });
        let points = over_inner_mtu(records, load, of);
        Series { name: line_name(engine, offload), points, style, mark: Mark::Both }
    };
    lines(measured).into_iter().map(of_line).filter(|series| !series.points.is_empty()).collect()
}

fn throughput(measured: &Measured<'_>, figures: &mut Vec<Figure>) -> Result<(), ExperimentError> {
    for (at, path) in paths(measured).into_iter().enumerate() {
        let series = curves(measured, path, Load::Tcp, |load| Some(load.mbit_per_s));
        if series.iter().all(|series| series.points.len() < 2) {
            continue;
        }
        let caption = throughput_words(path, &series);
        let plot = Curves {
            title: format!("TCP throughput, {}", path_name(path)),
            x: Axis::linear("inner MTU, bytes"),
            y: Axis::from_zero(&format!("Mbit/s of payload that arrived; {}, df = {}", path.tunnel.title(), path.df)),
            series,
            rulers: ruler(measured, path),
        };
        figures.push(Figure {
            name: format!("throughput-{}", path_file(path)),
            section: (at == 0).then_some("Throughput"),
            svg: plot.to_svg()?,
            caption,
            details: None,
        });
    }
    Ok(())
}

fn path_file(path: &Cell) -> String {
    match path.middle_mtu == path.underlay_mtu {
        true => format!("{}-{}", path.underlay, path.underlay_mtu),
        false => format!("{}-{}-{}", path.underlay, path.underlay_mtu, path.middle_mtu),
    }
}

fn throughput_words(path: &Cell, series: &[Series]) -> String {
    let fits = path.tunnel.budget(path.underlay).inner_mtu(path.underlay_mtu.min(path.middle_mtu));
    let fits = f64::from(fits.unwrap_or(0));
    let mut text = "A larger inner MTU means fewer packets for the same payload, and every packet has its cost; with offload most \
                    of that cost is paid once for a super-frame of up to 64 KiB, so the MTU matters less."
        .to_owned();
    let mut too_large = Vec::new();
    for Series { name, points, .. } in series {
        let fitting: Vec<_> = points.iter().filter(|(mtu, _)| *mtu <= fits).collect();
        let (Some((small, at_small)), Some((large, at_large))) = (fitting.first(), fitting.last()) else { continue };
        if small < large {
            let factor = if *at_small > 0.0 {
                format!(" ({} times as much)", short(at_large / at_small))
            } else {
                String::new()
            };
            text.push_str(&format!(
                " {}: {} at {small} bytes, {} at {large}{factor}.",
                capitalised(name),
                rate(*at_small),
                rate(*at_large)
            ));
        }
        for (mtu, value) in points.iter().filter(|(mtu, _)| *mtu > fits) {
            let share = value / at_large.max(f64::MIN_POSITIVE);
            let carried = if share < 0.02 { "next to nothing".to_owned() } else { percent(share) };
            too_large.push(format!("{carried} at {mtu} ({name})"));
        }
    }
    if !too_large.is_empty() {
        text.push_str(&format!(" What does not fit carries, measured by the largest that does: {}.", list(&too_large)));
    }
    text
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn efficiency(measured: &Measured<'_>, figures: &mut Vec<Figure>) -> Result<(), ExperimentError> {
    let mut series = Vec::new();
    let mut words = Vec::new();
    let tunnels = measured.values(|cell| cell.tunnel);
    for underlay in measured.values(|cell| cell.underlay) {
        for &tunnel in &tunnels {
            // With offload super-frames are cut at the very same places; one line is enough.
            let records = measured.records.iter().copied().filter(|record| {
                let cell = &record.cell;
                cell.fits() && (cell.underlay, cell.tunnel, cell.engine) == (underlay, tunnel, Engine::Weft)
            });
            let points = over_inner_mtu(records, Load::Udp, |load| load.efficiency);
            let mut by_mtu: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
            for (mtu, share) in points {
                by_mtu.entry(mtu as u64).or_default().push(share);
            }
            let points: Vec<_> = by_mtu
                .iter()
                .map(|(mtu, shares)| (*mtu as f64, shares.iter().sum::<f64>() / shares.len() as f64))
                .collect();
            if points.len() < 2 {
                continue;
            }
            let name = format!("{} over {underlay}", tunnel.title());
            if let (Some(first), Some(last)) = (points.first(), points.last()) {
                words.push(format!("{name}: {} at {}, {} at {}.", percent(first.1), first.0, percent(last.1), last.0));
            }
            let scaled = points.into_iter().map(|(mtu, share)| (mtu, share * 100.0)).collect();
            series.push(Series { name, points: scaled, style: series.len(), mark: Mark::Both });
        }
    }
    if series.is_empty() {
        return Ok(());
    }
    let plot = Curves {
        title: "How much of the wire is payload".to_owned(),
        x: Axis::log("inner MTU, bytes"),
        y: Axis::linear("UDP payload / bytes on the wire, percent; full datagrams that fit"),
        series,
        rulers: Vec::new(),
    };
    let caption = format!(
        "Each packet carries its headers whatever its length, so small packets spend more of the wire on them. \
         Encapsulations with headers of one length lie on one line. {}",
        words.join(" ")
    );
    figures.push(Figure {
        name: "efficiency".to_owned(),
        section: Some("What the headers take"),
        svg: plot.to_svg()?,
        caption,
        details: None,
    });
    Ok(())
}

fn encapsulations(measured: &Measured<'_>, figures: &mut Vec<Figure>) -> Result<(), ExperimentError> {
    let tunnels = measured.values(|cell| (cell.engine, cell.tunnel));
    let Some(plain) = measured.plain() else { return Ok(()) };
    let rows = measured.values(|cell| (cell.underlay, cell.underlay_mtu, cell.middle_mtu, cell.inner_mtu));
    if tunnels.len() < 2 || rows.len() < 2 {
        return Ok(());
    }
    for offload in measured.values(|cell| cell.offload) {
        let value = |row: &(_, u32, u32, u16), (engine, tunnel)| {
            let found = measured.records.iter().find(|record| {
                let cell = &record.cell;
                (cell.underlay, cell.underlay_mtu, cell.middle_mtu, cell.inner_mtu) == *row
                    && (cell.engine, cell.tunnel, cell.offload, cell.df) == (engine, tunnel, offload, plain.df)
            });
            found.and_then(|record| number(record, Load::Tcp, |load| Some(load.mbit_per_s)))
        };
        let values: Vec<Vec<_>> =
            rows.iter().map(|row| tunnels.iter().map(|&tunnel| value(row, tunnel)).collect()).collect();
        if values.iter().flatten().all(Option::is_none) {
            continue;
        }
        let columns: Vec<_> = tunnels
            .iter()
            .map(|(engine, tunnel)| match engine {
                Engine::Weft => tunnel.to_string(),
                Engine::Kernel => format!("kernel's {tunnel}"),
            })
            .collect();
        let name = |(underlay, underlay_mtu, middle_mtu, inner): &(_, u32, u32, u16)| {
            let middle = if underlay_mtu == middle_mtu { String::new() } else { format!(" ({middle_mtu})") };
            format!("{underlay}, {inner} in {underlay_mtu}{middle}")
        };
        let own = tunnels.iter().filter(|(engine, _)| *engine == Engine::Weft).count();
        let caption = encapsulation_words(&columns, own, &values);
        let plot = HeatMap {
            title: format!("TCP throughput by encapsulation, offload {offload}"),
            unit: format!("Mbit/s, df = {}", plain.df),
            x_label: "encapsulation".to_owned(),
            y_label: "inner MTU in underlay MTU".to_owned(),
            columns,
            rows: rows.iter().map(name).collect(),
            values,
        };
        figures.push(Figure {
            name: format!("encapsulations-offload-{offload}"),
            section: (figures.iter().all(|figure| figure.section != Some("Encapsulations")))
                .then_some("Encapsulations"),
            svg: plot.to_svg()?,
            caption,
            details: None,
        });
    }
    Ok(())
}

/// The first `own` columns are weft's.
fn encapsulation_words(columns: &[String], own: usize, values: &[Vec<Option<f64>>]) -> String {
    // The spread between weft's columns, row by row, where all of them have something.
    let spreads: Vec<_> = values
        .iter()
        .filter_map(|row| {
            let known: Option<Vec<f64>> = row.iter().take(own).copied().collect();
            let known = known.filter(|known| known.len() > 1 && known.iter().all(|value| *value > 1.0))?;
            let (low, high) =
                (known.iter().copied().fold(f64::INFINITY, f64::min), known.iter().copied().fold(0.0, f64::max));
            Some(low / high)
        })
        .collect();
    let mut means: Vec<(String, f64)> = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        let known: Vec<_> = values.iter().filter_map(|row| row.get(at).copied().flatten()).collect();
        if !known.is_empty() {
            means.push((column.clone(), known.iter().sum::<f64>() / known.len() as f64));
        }
    }
    means.sort_by(|one, other| other.1.total_cmp(&one.1));
    let order = list(&means.iter().map(|(name, mean)| format!("{name} {}", rate(*mean))).collect::<Vec<_>>());
    let empty = values.iter().filter(|row| row.iter().flatten().all(|value| *value < 1.0)).count();
    let mut text = format!(
        "Down a column one sees what the MTUs do, along a row what the encapsulation does. On average over the rows: {order}."
    );
    if let Some(worst) = spreads.iter().copied().reduce(f64::min) {
        text.push_str(&format!(
            " Within one row weft's slowest encapsulation has at least {} of its fastest; runs this short scatter by themselves, \
             so small differences mean nothing.",
            percent(worst)
        ));
    }
    if empty > 0 {
        text.push_str(&format!(
            " In {empty} of {} rows nothing arrives: there the inner MTU does not fit.",
            values.len()
        ));
    }
    text
}

fn too_large(measured: &Measured<'_>, figures: &mut Vec<Figure>) -> Result<(), ExperimentError> {
    // Cells that don't fit, of one encapsulation, told apart by who carries them and what DF is.
    let Some(plain) = measured.plain() else { return Ok(()) };
    let cells: Vec<_> = measured
        .records
        .iter()
        .copied()
        .filter(|record| !record.cell.fits() && record.cell.tunnel == plain.tunnel)
        .collect();
    if cells.is_empty() {
        return Ok(());
    }
    // What is the same in all of them need not be said.
    let engines = measured.values(|cell| cell.engine).len();
    let ways = measured.values(|cell| cell.oversize).len();
    let name = |cell: &Cell| {
        let engine = if engines > 1 { format!("{}, ", cell.engine) } else { String::new() };
        let middle =
            if cell.middle_mtu == cell.underlay_mtu { String::new() } else { format!(" ({})", cell.middle_mtu) };
        let way = if ways > 1 { format!(", {}", cell.oversize) } else { String::new() };
        format!(
            "{engine}{} in {}{middle}, df {}, offload {}{way}",
            cell.inner_mtu, cell.underlay_mtu, cell.df, cell.offload
        )
    };
    let best = |cell: &Cell| {
        let alike = measured.records.iter().filter(|record| {
            let other = &record.cell;
            let alike = (other.engine, other.tunnel, other.offload, other.df, other.oversize)
                == (cell.engine, cell.tunnel, cell.offload, cell.df, cell.oversize);
            same_path(other, cell) && other.fits() && alike
        });
        let largest = alike.max_by_key(|record| record.cell.inner_mtu)?;
        number(largest, Load::Tcp, |load| Some(load.mbit_per_s))
    };
    let udp: Vec<_> = cells
        .iter()
        .map(|record| number(record, Load::Udp, |load| load.loss().map(|loss| 100.0 * (1.0 - loss))))
        .collect();
    let tcp: Vec<_> = cells
        .iter()
        .map(|record| {
            let best = best(&record.cell)?;
            number(record, Load::Tcp, |load| (best > 0.0).then_some(100.0 * load.mbit_per_s / best))
        })
        .collect();
    let caption = too_large_words(&cells, &udp, &tcp);
    let plot = Bars {
        title: "What becomes of packets that do not fit".to_owned(),
        unit: "percent".to_owned(),
        groups: cells.iter().map(|record| name(&record.cell)).collect(),
        series: vec![
            ("full UDP datagrams (DF clear) that arrive".to_owned(), udp),
            ("TCP throughput (DF set), of that with the largest inner MTU that fits".to_owned(), tcp),
        ],
    };
    figures.push(Figure {
        name: "too-large".to_owned(),
        section: Some("What does not fit"),
        svg: plot.to_svg()?,
        caption,
        details: Some(too_large_details(&cells, name)),
    });
    Ok(())
}

fn too_large_words(cells: &[&Record], udp: &[Option<f64>], tcp: &[Option<f64>]) -> String {
    let of = |values: &[Option<f64>], is: fn(f64) -> bool| values.iter().flatten().filter(|value| is(**value)).count();
    let whole_count = of(udp, |share| share > 99.0);
    let none_count = of(udp, |share| share < 1.0);
    let dead_count = of(tcp, |share| share < 2.0);
    let sum = |of: fn(&LoadRecord) -> u64| cells.iter().flat_map(|record| &record.loads).map(of).sum::<u64>();
    let mut drops: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, count) in cells.iter().flat_map(|record| &record.loads).flat_map(|load| &load.drops) {
        *drops.entry(name.split_once(' ').map_or(name.as_str(), |(_, reason)| reason)).or_default() += count;
    }
    let drops: Vec<_> = drops.iter().map(|(name, count)| format!("{} as {name}", grouped(*count as i64))).collect();
    let mut text = format!(
        "In {} of these {} cells practically all UDP arrives, in {none_count} practically none; TCP stands still in {dead_count}. \
         {} fragments were on the wire, and {} ICMP errors told a station or a host that its packets are too big.",
        whole_count,
        cells.len(),
        grouped(sum(|load| load.fragments) as i64),
        grouped(sum(|load| load.icmp_overlay + load.icmp_underlay) as i64)
    );
    if !drops.is_empty() {
        text.push_str(&format!(" Frames that weft dropped have a name: {}.", list(&drops)));
    }
    text
}

fn too_large_details(cells: &[&Record], name: impl Fn(&Cell) -> String) -> Details {
    let mut rows = Vec::new();
    for record in cells {
        for load in &record.loads {
            let drops: Vec<_> = load.drops.iter().map(|(name, count)| format!("{name} {count}")).collect();
            rows.push(vec![
                name(&record.cell),
                load.load.name().to_owned(),
                drops.join("; "),
                short(load.mbit_per_s),
                load.loss().map_or_else(|| "\u{2013}".to_owned(), percent),
                grouped((load.wire.frames + load.wire_back.frames) as i64),
                grouped(load.fragments as i64),
                load.icmp_underlay.to_string(),
                load.icmp_overlay.to_string(),
                load.retransmissions.to_string(),
            ]);
        }
    }
    let names = vec![
        "cell",
        "load",
        "drops",
        "Mbit/s",
        "loss",
        "packets",
        "fragments",
        "too big (hosts)",
        "too big (stations)",
        "retransmissions",
    ];
    Details { names, word_count: 3, rows }
}

fn answers(measured: &Measured<'_>, figures: &mut Vec<Figure>) -> Result<(), ExperimentError> {
    for (at, path) in paths(measured).into_iter().enumerate() {
        let p50 = curves(measured, path, Load::Request, |load| load.p50_us);
        if p50.iter().all(|series| series.points.len() < 2) {
            continue;
        }
        let p99 = curves(measured, path, Load::Request, |load| load.p99_us);
        let mut words = Vec::new();
        for (half, most) in p50.iter().zip(&p99) {
            if let (Some(first), Some(last), Some(slow)) = (half.points.first(), half.points.last(), most.points.last())
            {
                words.push(format!(
                    "{}: half of the answers take at most {} at {} bytes, {} at {} (99 percent: {}).",
                    capitalised(&half.name),
                    micros(first.1),
                    first.0,
                    micros(last.1),
                    last.0,
                    micros(slow.1)
                ));
            }
        }
        let unanswered: u64 = measured
            .records
            .iter()
            .filter(|record| same_path(&record.cell, path))
            .filter_map(|record| record.load(Load::Request))
            .filter(|load| load.received == Some(0))
            .count() as u64;
        let none = match unanswered {
            0 => String::new(),
            count => format!(" In {count} cells of this path not one answer came, and they have no point here."),
        };
        let mut series = p50;
        series.extend(p99.into_iter().map(|line| Series {
            name: format!("{} (p99)", line.name),
            mark: Mark::Line,
            ..line
        }));
        let plot = Curves {
            title: format!("Time of an answer, {}", path_name(path)),
            x: Axis::linear("inner MTU, bytes"),
            y: Axis::log("microseconds; p50 with marks, p99 in the same colour without"),
            series,
            rulers: ruler(measured, path),
        };
        figures.push(Figure {
            name: format!("answers-{}", path_file(path)),
            section: (at == 0).then_some("Delay"),
            svg: plot.to_svg()?,
            caption: format!(
                "A short question over TCP, a long answer, one after the other. The answer needs fewer packets with a larger \
                 MTU. {}{none}",
                words.join(" ")
            ),
            details: None,
        });
    }
    Ok(())
}

fn cost(measured: &Measured<'_>, figures: &mut Vec<Figure>) -> Result<(), ExperimentError> {
    let Some(path) = paths(measured).into_iter().next_back() else { return Ok(()) };
    let series = curves(measured, path, Load::Tcp, |load| {
        // A cell in which hardly anything arrived says nothing about the cost of what arrives.
        if load.mbit_per_s < 10.0 { None } else { load.cpu_per_gigabyte() }
    });
    if series.iter().all(|series| series.points.len() < 2) {
        return Ok(());
    }
    let mut words = Vec::new();
    for Series { name, points, .. } in &series {
        if let (Some(first), Some(last)) = (points.first(), points.last()) {
            words.push(format!(
                "{}: {} s at {} bytes, {} s at {}.",
                capitalised(name),
                short(first.1),
                first.0,
                short(last.1),
                last.0
            ));
        }
    }
    let plot = Curves {
        title: format!("Processor time, {}", path_name(path)),
        x: Axis::linear("inner MTU, bytes"),
        y: Axis::from_zero("seconds of the whole machine, stations included, for a gigabyte of TCP payload"),
        series,
        rulers: ruler(measured, path),
    };
    figures.push(Figure {
        name: "cost".to_owned(),
        section: Some("Cost"),
        svg: plot.to_svg()?,
        caption: format!("The price of a gigabyte falls with the number of packets that it takes. {}", words.join(" ")),
        details: None,
    });
    Ok(())
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
        cell::{DfPolicy, Tunnel},
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
