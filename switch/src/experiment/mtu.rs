//! `weft experiment mtu`: a sweep, its journal, and what comes out of it.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    cell::Cell, csv, error::ExperimentError, journal::Journal, measure::measure, record::Record, report, sweep::Sweep,
};
use crate::lab::Machine;

/// The journal's name in the folder of a run.
const JOURNAL: &str = "cells.jsonl";

/// What a journal begins with: what is measured, on what, with what.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// Always `mtu`.
    pub experiment: String,
    /// weft's version.
    pub version: String,
    /// `release`, or `debug`, whose speeds say nothing.
    pub build: String,
    /// The machine.
    pub machine: Machine,
    /// What is measured.
    pub sweep: Sweep,
}

impl Header {
    /// What a sweep is called that is made here and now.
    pub fn of(sweep: Sweep) -> Self {
        Self {
            experiment: "mtu".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            machine: Machine::here(),
            sweep,
        }
    }

    /// What differs from another header, in words.
    fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = self.sweep.differences(&other.sweep);
        let named = [
            ("the experiment", &self.experiment, &other.experiment),
            ("weft's version", &self.version, &other.version),
            ("the build", &self.build, &other.build),
            ("the machine", &self.machine.to_string(), &other.machine.to_string()),
        ]
        .map(|(name, ours, theirs)| (ours != theirs).then(|| format!("{name} is {ours} and not {theirs}")));
        differences.extend(named.into_iter().flatten());
        differences
    }
}

/// A sweep under way.
#[derive(Debug)]
pub struct Run {
    folder: PathBuf,
    header: Header,
    journal: Journal,
    cells: Vec<Cell>,
    /// What has been measured, by key.
    records: HashMap<String, Record>,
}

/// All that a run found, as the JSON file has it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Results {
    /// What was measured.
    #[serde(flatten)]
    pub header: Header,
    /// How many cells the sweep has; `cells` may be fewer.
    pub cell_count: usize,
    /// The cells that were measured, in the sweep's order.
    pub cells: Vec<Record>,
}

impl Run {
    /// Begins a sweep, in a folder that is made if need be.
    ///
    /// # Errors
    /// The sweep makes no sense, or the folder has one in it already.
    pub fn begin(folder: &Path, sweep: Sweep) -> Result<Self, ExperimentError> {
        sweep.check().map_err(ExperimentError::Refused)?;
        fs::create_dir_all(folder).map_err(ExperimentError::step(format!("make the folder {}", folder.display())))?;
        let header = Header::of(sweep);
        let journal = Journal::create(&folder.join(JOURNAL), &header)?;
        let (cells, _) = header.sweep.cells();
        Ok(Self { folder: folder.to_owned(), header, journal, cells, records: HashMap::new() })
    }

    /// Goes on with the sweep in a folder. `change` may make another one of it, which is refused unless it is the same.
    ///
    /// # Errors
    /// There is none, it was made elsewhere or otherwise, or the journal is damaged.
    pub fn resume(folder: &Path, change: impl FnOnce(Sweep) -> Sweep) -> Result<Self, ExperimentError> {
        let (journal, header, records) = Journal::resume::<Header, Record>(&folder.join(JOURNAL))?;
        let wanted = Header::of(change(header.sweep.clone()));
        let differences = wanted.differences(&header);
        if !differences.is_empty() {
            return Err(ExperimentError::Refused(format!(
                "{} can't be gone on with, since figures of different runs don't belong side by side:\n  - {}\n\
                 Leave these options as they were, or begin anew in another folder (--out)",
                folder.display(),
                differences.join("\n  - ")
            )));
        }
        let (cells, _) = header.sweep.cells();
        // What failed is tried again.
        let records = records.into_iter().filter(|record| record.failed.is_none());
        let records = records.map(|record| (record.key.clone(), record)).collect();
        Ok(Self { folder: folder.to_owned(), header, journal, cells, records })
    }

    /// Cells that are still to be measured, those alone whose key has all of these words.
    pub fn left(&self, only: &[String]) -> Vec<Cell> {
        let wanted = |cell: &&Cell| matches(&cell.key(), only) && !self.records.contains_key(&cell.key());
        self.cells.iter().filter(wanted).cloned().collect()
    }

    /// Measures a cell and writes it down.
    ///
    /// # Errors
    /// It can't be written down. That it can't be measured stands in the record.
    pub fn measure(&mut self, cell: &Cell) -> Result<&Record, ExperimentError> {
        let record = measure(cell, &self.header.sweep.conditions);
        self.journal.append(&record)?;
        self.records.insert(record.key.clone(), record);
        self.records.get(&cell.key()).ok_or_else(|| ExperimentError::Broken("a cell has two keys".to_owned()))
    }

    /// What is known by now.
    pub fn results(&self) -> Results {
        let cells = self.cells.iter().filter_map(|cell| self.records.get(&cell.key()).cloned()).collect();
        Results { header: self.header.clone(), cell_count: self.cells.len(), cells }
    }

    /// Writes the table, the JSON, the report and its plots; gives their paths.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn write(&self) -> Result<Vec<PathBuf>, ExperimentError> {
        let results = self.results();
        let json = serde_json::to_string_pretty(&results)
            .map_err(|error| ExperimentError::Broken(format!("results that are no JSON: {error}")))?;
        let files = [
            ("report.html", report::mtu::page(&results)?),
            ("cells.csv", csv::of_records(&results.cells).to_text()),
            ("results.json", json + "\n"),
        ];
        let mut written = write_all(&self.folder, files)?;
        written.push(write_plots(&self.folder, &report::mtu::figures(&results)?)?);
        Ok(written)
    }

    /// What was asked for and is no cell, in words.
    pub fn left_out(&self) -> Vec<String> {
        self.header.sweep.cells().1
    }

    /// Where everything is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Writes files into a folder.
pub(super) fn write_all<const N: usize>(
    folder: &Path,
    files: [(&str, String); N],
) -> Result<Vec<PathBuf>, ExperimentError> {
    let write = |(name, text): (&str, String)| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(ExperimentError::step(format!("write {}", path.display())))?;
        Ok(path)
    };
    files.into_iter().map(write).collect()
}

/// Writes each plot as a file of its own, for other pages than the report; gives their folder.
pub(super) fn write_plots(folder: &Path, figures: &[report::mtu::Figure]) -> Result<PathBuf, ExperimentError> {
    let plots = folder.join("plots");
    fs::create_dir_all(&plots).map_err(ExperimentError::step(format!("make the folder {}", plots.display())))?;
    for figure in figures {
        let path = plots.join(format!("{}.svg", figure.name));
        let text = report::plot::standalone(&figure.svg);
        fs::write(&path, text).map_err(ExperimentError::step(format!("write {}", path.display())))?;
    }
    Ok(plots)
}

/// Whether a key has all of these words.
pub fn matches(key: &str, only: &[String]) -> bool {
    only.iter().all(|words| words.split_whitespace().all(|word| key.split(' ').any(|part| part == word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::testing::{cell, of};

    fn sweep() -> Sweep {
        Sweep { inner_mtu: vec!["1450".parse().unwrap(), "1500".parse().unwrap()], ..Sweep::quick() }
    }

    #[test]
    fn finished_cells_are_not_measured_again_and_failed_ones_are() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = Run::begin(folder.path(), sweep()).unwrap();
        let all = run.left(&[]).len();
        let (done, failed) = (of(cell(1450), 900.0), crate::experiment::testing::failed_record());
        run.journal.append(&done).unwrap();
        run.journal.append(&failed).unwrap();
        let run = Run::resume(folder.path(), |sweep| sweep).unwrap();
        let left = run.left(&[]);
        assert_eq!(left.len(), all - 1);
        assert!(left.contains(&failed.cell) && !left.contains(&done.cell));
        assert_eq!(run.results().cells, [done]);
    }

    #[test]
    fn another_sweep_does_not_go_on_with_this_one() {
        let folder = tempfile::tempdir().unwrap();
        Run::begin(folder.path(), sweep()).unwrap();
        let change = |mut sweep: Sweep| {
            sweep.conditions.seconds = 9.0;
            sweep
        };
        let error = Run::resume(folder.path(), change).unwrap_err().to_string();
        assert!(error.contains("\n  - seconds is 9.0 and not 0.2\n"), "{error}");
        let error = Run::begin(folder.path(), sweep()).unwrap_err().to_string();
        assert!(error.contains("is there already"), "{error}");
    }

    #[test]
    fn only_takes_whole_words_of_a_key() {
        let key = cell(1450).key();
        let only = |words: &str| matches(&key, &[words.to_owned()]);
        assert!(only("vxlan") && only("inner=1450 df=set") && only(""));
        assert!(!only("inner=145") && !only("geneve") && !only("vxlan df=unset"));
        assert!(!matches(&key, &["vxlan".to_owned(), "df=unset".to_owned()]));
    }
}
