//! Labs as tests use them: up under a name of their own, asked about by `weft doctor`, and gone again.

use std::{
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context, ensure};
use serde_json::Value;
use weft::{
    doctor::Finding,
    lab::{
        builtin::Builtin,
        running::{self, RunningLab},
        topology::Fault,
    },
};

use crate::weft::{PATIENCE, binary};

/// A lab with a name of its own, which is taken away with this.
pub struct Up {
    /// What the lab is called.
    pub name: String,
}

impl Up {
    /// Nothing yet but a name, with these words in it.
    pub fn named(what: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { name: format!("t{}-{number}-{}", std::process::id(), &what[..what.len().min(12)]) }
    }

    /// Builds a lab.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(lab: &Builtin) -> anyhow::Result<(Self, RunningLab)> {
        Self::start_with(lab, &binary()?)
    }

    /// Builds a lab whose wefts run this program.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_with(lab: &Builtin, weft: &Path) -> anyhow::Result<(Self, RunningLab)> {
        let up = Self::named(lab.name);
        let running = RunningLab::up(&up.name, lab.file, lab.text, weft)
            .with_context(|| format!("the lab {} comes up", lab.file))?;
        Ok((up, running))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = running::down(&self.name);
    }
}

/// What `weft doctor --json` prints, with its exit code.
///
/// # Errors
/// It prints something else.
pub fn doctor(weft: &Path, words: &[&str]) -> anyhow::Result<(i32, Value)> {
    let output = Command::new(weft).args(["doctor", "--json"]).args(words).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&said)
        .with_context(|| format!("{words:?}: {said}{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((output.status.code().unwrap_or(-1), value))
}

/// That doctor finds nothing wrong with a lab, and that all of its ways arrive.
///
/// # Errors
/// It does; or the ways are not followed to their ends.
pub fn is_healthy(weft: &Path, up: &Up) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let (code, report) = doctor(weft, &["--lab", &up.name])?;
        ensure!(code == 0 && report["faults"] == 0, "{:#}", report["first_fault"]);
        let ways = report["ways"].as_array().context("a list of ways")?;
        if !ways.is_empty() && ways.iter().all(|way| way["end"] == "arrived") {
            return Ok(());
        }
        // On a busy machine a weft may not have answered in time, and its part of the way is out of sight then.
        ensure!(Instant::now() < end, "{ways:#?}");
    }
}

/// A fault that was put in, and the first one that doctor named.
pub struct Diagnosis {
    lab: String,
    fault: String,
    wanted: String,
    found: String,
    /// Where, and in words.
    text: String,
}

impl Diagnosis {
    /// Asks doctor about a lab that a fault was put into. If it finds nothing in the state of the network, it watches while the
    /// lab's checks send something.
    ///
    /// # Errors
    /// The lab wants a finding that doctor does not have, or doctor's report and exit code do not agree.
    pub fn of(weft: &Path, running: &RunningLab, fault: &Fault) -> anyhow::Result<Self> {
        // A code that doctor does not have could never be named.
        let wanted: Finding = fault.finding.parse()?;
        let (mut code, mut report) = doctor(weft, &["--lab", running.name()])?;
        if code == 0 {
            let seen = AtomicBool::new(false);
            (code, report) = thread::scope(|scope| {
                scope.spawn(|| {
                    loop {
                        if running.check_all().is_err() || seen.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                });
                let watched = doctor(weft, &["--lab", running.name(), "--watch", "1s"]);
                seen.store(true, Ordering::Relaxed);
                watched
            })?;
        }
        let first = &report["first_fault"];
        ensure!((code == 1) == first.is_object(), "exit code {code} with {first}");
        let word = |key: &str| first[key].as_str().unwrap_or_default();
        Ok(Self {
            lab: running.topology().name.clone(),
            fault: fault.name.clone(),
            wanted: wanted.code().to_owned(),
            found: first["finding"].as_str().unwrap_or("nothing").to_owned(),
            text: format!("{} {}", word("place"), word("text")),
        })
    }

    /// In what order they are told.
    pub fn key(&self) -> (&str, &str) {
        (&self.lab, &self.fault)
    }

    /// Whether it is the one that was put in.
    pub fn is_right(&self) -> bool {
        self.wanted == self.found
    }

    /// A row of the table.
    pub fn row(&self) -> String {
        let Self { lab, fault, wanted, found, text } = self;
        if self.is_right() {
            format!("ok      {lab:12} {fault:26} {found}")
        } else {
            format!("NOT SO  {lab:12} {fault:26} {found}, wanted {wanted}: {text}")
        }
    }
}
