//! Plots that set cells beside each other: encapsulations, and what becomes of packets that do not fit.

use std::collections::BTreeMap;

use super::figures::{Details, Figure, Measured, number, same_path};
use crate::experiment::{
    cell::{Cell, Engine},
    error::ExperimentError,
    record::{Load, LoadRecord, Record},
    report::{
        plot::{Bars, HeatMap},
        words::{grouped, list, percent, rate, short},
    },
};

pub(super) fn encapsulations(measured: &Measured<'_>, figures: &mut Vec<Figure>) -> Result<(), ExperimentError> {
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

pub(super) fn too_large(measured: &Measured<'_>, figures: &mut Vec<Figure>) -> Result<(), ExperimentError> {
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
