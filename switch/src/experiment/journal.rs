//! The file of finished work: a JSON line for what is measured, then one for each result, so that a run can go on where an
//! earlier one ended.
//!
//! A line is written whole or, if the machine dies in the midst of it, not counted: the file is cut back to its last whole
//! line when it is opened again.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use super::error::ExperimentError;

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Begins a journal.
    ///
    /// # Errors
    /// There is one already, or it can't be written.
    pub fn create(path: &Path, header: &impl Serialize) -> Result<Self, ExperimentError> {
        let opened = OpenOptions::new().write(true).create_new(true).open(path);
        let file = opened.map_err(|error| {
            if error.kind() != ErrorKind::AlreadyExists {
                return ExperimentError::step(format!("make {}", path.display()))(error);
            }
            ExperimentError::Refused(format!(
                "{} is there already: go on with it by `--resume {}`, or name another folder by --out",
                path.display(),
                path.parent().unwrap_or(path).display()
            ))
        })?;
        let mut journal = Self { file, path: path.to_owned() };
        journal.append(header)?;
        Ok(journal)
    }

    /// Opens a journal to go on with it: gives what it says is measured, and all results.
    ///
    /// # Errors
    /// There is none, or it has something else in it.
    pub fn resume<H: DeserializeOwned, R: DeserializeOwned>(path: &Path) -> Result<(Self, H, Vec<R>), ExperimentError> {
        let shown = path.display();
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let mut file = opened.map_err(|error| {
            if error.kind() != ErrorKind::NotFound {
                return ExperimentError::step(format!("open {shown}"))(error);
            }
            ExperimentError::Refused(format!("there is nothing to go on with: no {shown}"))
        })?;
        let failed = |error| ExperimentError::step(format!("read {shown}"))(error);
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines();
        let foreign = |line: usize, error: serde_json::Error| {
            ExperimentError::Refused(format!("{shown} is no journal of this experiment: line {line}: {error}"))
        };
        let Some(first) = lines.next() else {
            return Err(ExperimentError::Refused(format!("{shown} is empty: remove it, or name another folder")));
        };
        let header = serde_json::from_str(first).map_err(|error| foreign(1, error))?;
        let records =
            lines.zip(2..).map(|(line, number)| serde_json::from_str(line).map_err(|error| foreign(number, error)));
        let records = records.collect::<Result<Vec<R>, _>>()?;
        file.set_len(whole as u64).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failed)?;
        Ok((Self { file, path: path.to_owned() }, header, records))
    }

    /// Adds a line.
    ///
    /// # Errors
    /// It can't be written.
    pub fn append(&mut self, value: &impl Serialize) -> Result<(), ExperimentError> {
        let mut line = serde_json::to_vec(value).map_err(|error| {
            ExperimentError::Broken(format!("{} can't hold a result: {error}", self.path.display()))
        })?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(ExperimentError::step(format!("write {}", self.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn refused<T: std::fmt::Debug>(result: Result<T, ExperimentError>) -> String {
        let error = result.unwrap_err();
        assert!(matches!(error, ExperimentError::Refused(_)), "{error:?}");
        error.to_string()
    }

    #[test]
    fn a_run_goes_on_where_another_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cells.jsonl");
        let mut journal = Journal::create(&path, &"header").unwrap();
        journal.append(&1).unwrap();
        drop(journal);
        let (mut journal, header, records) = Journal::resume::<String, u32>(&path).unwrap();
        assert_eq!((header.as_str(), records), ("header", vec![1]));
        journal.append(&2).unwrap();
        assert_eq!(Journal::resume::<String, u32>(&path).unwrap().2, [1, 2]);
    }

    #[test]
    fn half_a_line_at_the_end_is_not_counted_and_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cells.jsonl");
        fs::write(&path, "\"header\"\n1\n12").unwrap();
        let (mut journal, _, records) = Journal::resume::<String, u32>(&path).unwrap();
        assert_eq!(records, [1]);
        journal.append(&3).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "\"header\"\n1\n3\n");
    }

    #[test]
    fn what_is_no_journal_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cells.jsonl");
        assert!(refused(Journal::resume::<String, u32>(&path)).starts_with("there is nothing to go on with"));
        fs::write(&path, "").unwrap();
        assert!(refused(Journal::resume::<String, u32>(&path)).contains("is empty"));
        fs::write(&path, "\"header\"\n1\nx\n2\n").unwrap();
        assert!(refused(Journal::resume::<String, u32>(&path)).contains("line 3: expected value"));
        assert!(refused(Journal::create(&path, &"header")).contains("is there already: go on with it by `--resume"));
    }
}
