//! A running `weft` as a test's subject: started as a user would, asked over its own command line.

use std::{
    env, fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;
use tempfile::TempDir;
use weft::lab::{Namespace, Output, Process};

/// How long weft may take to start, to stop, or to become what a test waits for, also in an
/// emulated machine on a busy one.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The `weft` binary that was built together with this test.
///
/// # Errors
/// As [`built`].
pub fn binary() -> anyhow::Result<PathBuf> {
    built("weft")
}

/// A program of this workspace that was built together with this test.
///
/// # Errors
/// It is not there: the test was run alone and never built it.
pub fn built(name: &str) -> anyhow::Result<PathBuf> {
    let test = env::current_exe()?;
    let directory = test.parent().and_then(Path::parent).context("a test lies in target/PROFILE/deps")?;
    let binary = directory.join(name);
    let missing =
        || format!("{} is missing: `cargo build --workspace` (or `cargo test --workspace`) makes it", binary.display());
    ensure!(binary.exists(), missing());
    Ok(binary)
}

/// A weft in a namespace, with its configuration and its control socket in a directory of its own. It is killed when this
/// is dropped.
pub struct Weft {
    namespace: Namespace,
    process: Process,
    directory: TempDir,
    arguments: Vec<String>,
}

impl Weft {
    /// Starts `weft run` in `namespace` and waits until it runs.
    ///
    /// # Errors
    /// It ends instead; the error carries its log.
    pub fn start(namespace: &Namespace, config: &str) -> anyhow::Result<Self> {
        Self::start_with(namespace, config, &[])
    }

    /// The same with more arguments.
    ///
    /// # Errors
    /// It ends instead; the error carries its log.
    pub fn start_with(namespace: &Namespace, config: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join("weft.toml"), config)?;
        let arguments: Vec<_> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let process = spawn(namespace, directory.path(), &arguments)?;
        let mut weft = Self { namespace: namespace.clone(), process, directory, arguments };
        weft.wait_until_it_runs()?;
        Ok(weft)
    }

    fn wait_until_it_runs(&mut self) -> anyhow::Result<()> {
        let waited = self.process.wait_for("weft runs", PATIENCE);
        waited.with_context(|| format!("weft did not start:\n{}", self.log()))
    }

    /// Runs a `weft` command against this one and returns what happened, whatever that was.
    ///
    /// # Errors
    /// The command could not be run at all.
    pub fn command(&self, args: &[&str]) -> anyhow::Result<Output> {
        let socket = self.socket();
        Ok(self.namespace.command(binary()?).args(args).arg("--socket").arg(&socket).output()?)
    }

    /// Starts a `weft` command against this one that goes on until it is stopped.
    ///
    /// # Errors
    /// The command could not be started.
    pub fn begin(&self, args: &[&str]) -> anyhow::Result<Process> {
        Ok(self.namespace.command(binary()?).args(args).arg("--socket").arg(self.socket()).spawn()?)
    }

    /// The same as [`Weft::command`], for a command that must succeed; returns its standard output.
    ///
    /// # Errors
    /// The command failed; the error carries what it printed.
    pub fn succeed(&self, args: &[&str]) -> anyhow::Result<String> {
        Ok(self.command(args)?.ok().with_context(|| format!("weft {}", args.join(" ")))?.stdout)
    }

    /// `weft show WHAT --json`.
    ///
    /// # Errors
    /// The command failed, or did not print JSON.
    pub fn show(&self, what: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.succeed(&["show", what, "--json"])?)?)
    }

    /// One HTTP request over the control socket, without weft's command line in between: its status, and its body, which
    /// must be JSON.
    ///
    /// # Errors
    /// What comes back is no HTTP or no JSON.
    pub fn request(&self, method: &str, target: &str, body: &str) -> anyhow::Result<(u16, Value)> {
        self.request_as(method, target, Some("application/json"), body)
    }

    /// The same, with another `Content-Type`.
    ///
    /// # Errors
    /// As [`Weft::request`].
    pub fn request_as(
        &self,
        method: &str,
        target: &str,
        content_type: Option<&str>,
        body: &str,
    ) -> anyhow::Result<(u16, Value)> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request_head(method, target, content_type, body).as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no HTTP: {answer}"))?;
        let status = head.split(' ').nth(1).context("a status")?.parse()?;
        let body = serde_json::from_str(body).with_context(|| format!("{method} {target}: {head}\n\n{body}"))?;
        Ok((status, body))
    }

    /// Where an address is, as `weft show fdb` says: a port's full name or a VTEP's address.
    ///
    /// # Errors
    /// As [`Weft::show`].
    pub fn whereabouts(&self, bridge: &str, mac: &str) -> anyhow::Result<Option<String>> {
        let fdb = self.show("fdb")?;
        let entries = fdb.as_array().context("the FDB is a list")?;
        let entry = entries.iter().find(|entry| entry["bridge"] == bridge && entry["mac"] == mac);
        Ok(entry.and_then(|entry| entry["port"].as_str().or_else(|| entry["vtep"].as_str())).map(str::to_owned))
    }

    /// Frames dropped for `reason`, over all places.
    ///
    /// # Errors
    /// As [`Weft::show`].
    pub fn dropped(&self, reason: &str) -> anyhow::Result<u64> {
        let drops = self.show("drops")?;
        let drops = drops.as_array().context("drops are a list")?.iter();
        // A bridge counts again what its ports and VTEPs count.
        let of_reason = drops.filter(|drop| drop["reason"] == reason && drop["kind"] != "bridge");
        Ok(of_reason.filter_map(|drop| drop["frames"].as_u64()).sum())
    }

    /// Fails unless every frame is accounted for; returns the totals.
    ///
    /// # Errors
    /// The ledger does not balance.
    pub fn ledger_balances(&self) -> anyhow::Result<Value> {
        let ledger = self.show("ledger")?;
        ensure!(ledger["totals"]["balanced"] == true, "the ledger does not balance: {ledger:#}");
        Ok(ledger["totals"].clone())
    }

    /// Fails unless every frame is accounted for before long: a frame that is on its way just now is not yet.
    ///
    /// # Errors
    /// The ledger does not come to balance.
    pub fn ledger_comes_to_balance(&self) -> anyhow::Result<()> {
        let end = Instant::now() + Duration::from_secs(2);
        while let Err(unbalanced) = self.ledger_balances() {
            ensure!(Instant::now() < end, unbalanced);
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Writes the configuration anew and makes weft read it.
    ///
    /// # Errors
    /// It is refused.
    pub fn reload(&self, config: &str) -> anyhow::Result<()> {
        self.rewrite(config)?;
        self.succeed(&["reload"]).map(drop)
    }

    /// Writes the configuration anew; `weft reload` or SIGHUP makes weft read it.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn rewrite(&self, config: &str) -> anyhow::Result<()> {
        // In one step: a reload that is under way must not find half a file.
        let new = self.directory.path().join("weft.toml.new");
        fs::write(&new, config)?;
        Ok(fs::rename(new, self.directory.path().join("weft.toml"))?)
    }

    /// Starts weft again with the same configuration, after it was stopped or killed.
    ///
    /// # Errors
    /// As [`Weft::start`].
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.process = spawn(&self.namespace, self.directory.path(), &self.arguments)?;
        self.wait_until_it_runs()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Processor time that it has spent so far, in ticks of a hundredth of a second (USER_HZ).
    ///
    /// # Errors
    /// It has ended.
    pub fn ticks(&mut self) -> anyhow::Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // Fields 14 and 15 of proc_pid_stat(5). The name before them may have spaces in it, but not a parenthesis.
        let (_, fields) = stat.rsplit_once(')').context("a name in parentheses")?;
        Ok(fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum())
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// Its control socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("weft.sock")
    }
}

/// A request as it goes over the line; the connection ends with its answer.
pub fn request_head(method: &str, target: &str, content_type: Option<&str>, body: &str) -> String {
    let kind = content_type.map(|kind| format!("Content-Type: {kind}\r\n")).unwrap_or_default();
    let len = body.len();
    format!(
        "{method} {target} HTTP/1.1\r\nHost: weft\r\nConnection: close\r\n{kind}Content-Length: {len}\r\n\r\n{body}"
    )
}

fn spawn(namespace: &Namespace, directory: &Path, arguments: &[String]) -> anyhow::Result<Process> {
    let command = namespace.command(binary()?).arg("run").arg(directory.join("weft.toml"));
    let command =
        command.arg("--socket").arg(directory.join("weft.sock")).env("RUST_LOG", "weft=debug").args(arguments);
    Ok(command.spawn()?)
}

/// Asks again and again until `so` says yes.
///
/// # Errors
/// It never does within `patience`, or asking fails.
pub fn eventually(what: &str, patience: Duration, mut so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let started = Instant::now();
    while !so()? {
        ensure!(started.elapsed() < patience, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
