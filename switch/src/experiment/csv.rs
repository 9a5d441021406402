//! Tables for spreadsheets (RFC 4180): a line of names, then a line for each load of each cell.

use std::{collections::BTreeMap, fmt::Write};

use super::record::{Load, Record};

/// A table of named columns.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    names: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Adds a row; the first one says what the columns are.
    pub fn add(&mut self, row: Vec<(&'static str, String)>) {
        let (names, values): (Vec<_>, Vec<_>) = row.into_iter().unzip();
        if self.rows.is_empty() {
            self.names = names;
        }
        self.rows.push(values);
    }

    /// The file's text; lines end as RFC 4180 has it.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        line(&mut text, self.names.iter().copied());
        for row in &self.rows {
            line(&mut text, row.iter().map(String::as_str));
        }
        text
    }
}

fn line<'a>(text: &mut String, fields: impl Iterator<Item = &'a str>) {
    for (at, field) in fields.enumerate() {
        if at > 0 {
            text.push(',');
        }
        if field.contains(['"', ',', '\n', '\r']) {
            let _ = write!(text, "\"{}\"", field.replace('"', "\"\""));
        } else {
            text.push_str(field);
        }
    }
    text.push_str("\r\n");
}

/// A row for each load of each cell; a cell that could not be measured has one, with the reason in its last column.
pub fn of_records(records: &[Record]) -> Table {
    let mut table = Table::default();
    for record in records {
        if record.failed.is_some() {
            table.add(row(record, None));
        }
        for &load in &Load::ALL {
            if record.load(load).is_some() {
                table.add(row(record, Some(load)));
            }
        }
    }
    table
}

fn row(record: &Record, load: Option<Load>) -> Vec<(&'static str, String)> {
    let cell = &record.cell;
    let seen = load.and_then(|load| record.load(load));
    let text = |value: Option<String>| value.unwrap_or_default();
    macro_rules! field {
        ($name:ident) => {
            text(seen.map(|seen| seen.$name.to_string()))
        };
    }
    macro_rules! maybe {
        ($name:ident) => {
            text(seen.and_then(|seen| seen.$name).map(|value| value.to_string()))
        };
    }
    let named = |counts: fn(&super::record::LoadRecord) -> &BTreeMap<String, u64>| {
        text(seen.map(|seen| {
            counts(seen).iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join("; ")
        }))
    };
    vec![
        ("engine", cell.engine.to_string()),
        ("encapsulation", cell.tunnel.to_string()),
        ("underlay", cell.underlay.to_string()),
        ("underlay_mtu", cell.underlay_mtu.to_string()),
        ("middle_mtu", cell.middle_mtu.to_string()),
        ("inner_mtu", cell.inner_mtu.to_string()),
        ("offload", cell.offload.to_string()),
        ("df", cell.df.to_string()),
        ("oversize", cell.oversize.to_string()),
        ("fits", cell.fits().to_string()),
        ("load", text(load.map(|load| load.name().to_owned()))),
        ("seconds", field!(seconds)),
        ("payload_bytes", field!(payload_bytes)),
        ("mbit_per_s", field!(mbit_per_s)),
        ("wire_frames", text(seen.map(|seen| seen.wire.frames.to_string()))),
        ("wire_bytes", text(seen.map(|seen| seen.wire.bytes.to_string()))),
        ("wire_back_frames", text(seen.map(|seen| seen.wire_back.frames.to_string()))),
        ("wire_back_bytes", text(seen.map(|seen| seen.wire_back.bytes.to_string()))),
        ("efficiency", maybe!(efficiency)),
        ("fragments", field!(fragments)),
        ("icmp_underlay", field!(icmp_underlay)),
        ("icmp_overlay", field!(icmp_overlay)),
        ("icmp_other", field!(icmp_other)),
        ("observer_missed", field!(observer_missed)),
        ("retransmissions", field!(retransmissions)),
        ("mss", maybe!(mss)),
        ("sent", maybe!(sent)),
        ("refused", maybe!(refused)),
        ("received", maybe!(received)),
        ("loss", text(seen.and_then(|seen| seen.loss()).map(|loss| loss.to_string()))),
        ("reordered", maybe!(reordered)),
        ("p50_us", maybe!(p50_us)),
        ("p99_us", maybe!(p99_us)),
        ("drops", named(|seen| &seen.drops)),
        ("cables", named(|seen| &seen.cables)),
        ("switch_cpu_s", maybe!(switch_cpu_s)),
        ("machine_cpu_s", field!(machine_cpu_s)),
        ("failed", text(record.failed.clone())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::testing::{failed_record, record};

    #[test]
    fn fields_are_quoted_only_where_they_must_be() {
        let mut table = Table::default();
        table.add(vec![("a", "plain".into()), ("b", "with, comma".into()), ("c", "say \"so\"".into())]);
        assert_eq!(table.to_text(), "a,b,c\r\nplain,\"with, comma\",\"say \"\"so\"\"\"\r\n");
    }

    #[test]
    fn every_row_has_every_column() {
        let table = of_records(&[record(1450, 900.0), failed_record()]);
        assert_eq!(table.rows.len(), 3 + 1);
        assert!(table.rows.iter().all(|row| row.len() == table.names.len()));
        let at = |name: &str| table.names.iter().position(|other| *other == name).unwrap();
        let column = |name: &str| table.rows.iter().map(|row| row[at(name)].as_str()).collect::<Vec<_>>();
        assert_eq!(column("load"), ["tcp", "udp", "request", ""]);
        assert_eq!(column("inner_mtu"), ["1450", "1450", "1450", "1500"]);
        assert_eq!(column("mbit_per_s"), ["900", "90", "45", ""]);
        assert_eq!(column("loss"), ["", "0.25", "0", ""]);
        assert_eq!(column("drops")[1], "host1 underlay_mtu 7");
        assert_eq!(column("failed")[3], "no packet gets through");
    }
}
