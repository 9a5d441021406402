//! Commands that build a lab of their own, and must leave nothing of it behind however they end.

use std::{
    env, fs,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use weft::{lab::Signal, sys::netns};

use crate::weft::{binary, eventually};

/// In the environment of a command and so of all that it starts; its value is the command's own.
const MARK: &str = "WEFT_TRACELESS_TEST";

/// A command that was started.
pub struct Traceless {
    child: Child,
    mark: String,
    started: Instant,
    prefix: String,
    limit: Duration,
}

impl Traceless {
    /// Starts a command whose labs are called `prefix` (`weft-demo`), and which may take so long.
    ///
    /// # Errors
    /// It can't be started.
    pub fn start(mut command: Command, prefix: &str, limit: Duration) -> anyhow::Result<Self> {
        let mark = format!("{}-{:016x}", std::process::id(), fastrand::u64(..));
        command.env(MARK, &mark).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (child, started) = (command.spawn()?, Instant::now());
        let prefix = format!("{prefix}-{}-", child.id());
        Ok(Self { child, mark, started, prefix, limit })
    }

    /// What its namespaces and its folder begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Sends it a signal so long after its first namespace is there: before that there is nothing that it could leave.
    ///
    /// # Errors
    /// It does not begin, or has ended already.
    pub fn interrupt(&self, signal: Signal, after: Duration) -> anyhow::Result<()> {
        eventually("it begins", self.limit, || Ok(netns::names()?.iter().any(|name| name.starts_with(&self.prefix))))?;
        thread::sleep(after);
        self.signal(signal)
    }

    /// Sends it a signal now.
    ///
    /// # Errors
    /// It has ended already.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let status =
            Command::new("kill").args([&format!("-{}", signal.as_raw()), &self.child.id().to_string()]).status()?;
        ensure!(status.success(), "{} can't be sent {signal:?}", self.prefix);
        Ok(())
    }

    /// Waits for its end; fails if it takes too long or leaves anything behind.
    ///
    /// # Errors
    /// It did.
    pub fn end(self) -> anyhow::Result<Output> {
        let Self { child, mark, started, prefix, limit } = self;
        let output = child.wait_with_output()?;
        let took = started.elapsed();
        ensure!(took < limit, "took {took:?}:\n{}", text(&output.stdout));
        let namespaces: Vec<_> = netns::names()?.into_iter().filter(|name| name.starts_with(&prefix)).collect();
        ensure!(namespaces.is_empty(), "left {namespaces:?}");
        let files = fs::read_dir(env::temp_dir())?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let files: Vec<_> = files.filter(|name| name.starts_with(&prefix)).collect();
        ensure!(files.is_empty(), "left {files:?}");
        // what was killed a moment ago may still be on its way out
        eventually("its processes are gone", Duration::from_secs(2), || Ok(!anybody_carries(&mark)))?;
        Ok(output)
    }
}

/// Runs weft with these arguments to its end; see [`Traceless::end`].
///
/// # Errors
/// It can't be started, takes too long or leaves something behind. How it ends is no error.
pub fn weft(arguments: &[&str], prefix: &str, limit: Duration) -> anyhow::Result<Output> {
    let mut command = Command::new(binary()?);
    command.args(arguments);
    Traceless::start(command, prefix, limit)?.end().with_context(|| format!("weft {}", arguments.join(" ")))
}

/// What a command wrote.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether a process has this mark in its environment.
fn anybody_carries(mark: &str) -> bool {
    let mark = format!("{MARK}={mark}");
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut environments = processes.filter_map(|process| fs::read(process.path().join("environ")).ok());
    environments.any(|environment| environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes()))
}
