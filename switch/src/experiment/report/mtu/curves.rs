//! Plots over the inner MTU, path by path: throughput, how much of the wire is payload, the time of an answer, and the
//! processor's time.

use std::collections::BTreeMap;

use super::figures::{Figure, Measured, number, same_path};
use crate::experiment::{
    cell::{Cell, Engine, Offload, Underlay},
    error::ExperimentError,
    record::{Load, LoadRecord, Record},
    report::{
        plot::{Axis, Curves, Mark, Series},
        words::{list, micros, percent, rate, short},
    },
};

pub(super) fn throughput(measured: &Measured<'_>, figures: &mut Vec<Figure>) -> Result<(), ExperimentError> {
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

pub(super) fn efficiency(measured: &Measured<'_>, figures: &mut Vec<Figure>) -> Result<(), ExperimentError> {
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

pub(super) fn answers(measured: &Measured<'_>, figures: &mut Vec<Figure>) -> Result<(), ExperimentError> {
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

pub(super) fn cost(measured: &Measured<'_>, figures: &mut Vec<Figure>) -> Result<(), ExperimentError> {
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

/// What a line of a plot is, if offload and engine may differ.
fn line_name(engine: Engine, offload: Offload) -> String {
    match (engine, offload) {
        (Engine::Weft, Offload::On) => "weft, offload on".to_owned(),
        (Engine::Weft, Offload::Off) => "weft, offload off".to_owned(),
        (Engine::Kernel, Offload::On) => "kernel, offload on".to_owned(),
        (Engine::Kernel, Offload::Off) => "kernel, offload off".to_owned(),
    }
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

/// "IPv4 underlay of 1500 bytes", and the link in the middle if it is another.
fn path_name(cell: &Cell) -> String {
    let version = match cell.underlay {
        Underlay::Ipv4 => "IPv4",
        Underlay::Ipv6 => "IPv6",
    };
    let middle = if cell.middle_mtu == cell.underlay_mtu {
        String::new()
    } else {
        format!(", a link of {} in the middle", cell.middle_mtu)
    };
    format!("{version} underlay of {} bytes{middle}", cell.underlay_mtu)
}

fn path_file(path: &Cell) -> String {
    match path.middle_mtu == path.underlay_mtu {
        true => format!("{}-{}", path.underlay, path.underlay_mtu),
        false => format!("{}-{}-{}", path.underlay, path.underlay_mtu, path.middle_mtu),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
