//! Programs inside a namespace: started there, heard, and never left behind.

use std::{
    ffi::OsStr,
    fmt,
    io::{Read, Write},
    process::{Child, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Pid, PidfdFlags, Signal},
};

use super::{LabError, State};
use crate::sys::netns::Netns;

/// A program to be started inside a namespace, as [`std::process::Command`] but for its output, which is always captured.
///
/// The program is in the network namespace alone: files, and `/sys` above all, are the ones outside.
#[derive(Debug)]
pub struct Command {
    inner: std::process::Command,
    netns: Netns,
    namespace: String,
    lab: Weak<Mutex<State>>,
    input: Vec<u8>,
    timeout: Option<Duration>,
}

impl Command {
    pub(super) fn new(program: impl AsRef<OsStr>, netns: &Netns, namespace: &str, lab: Weak<Mutex<State>>) -> Self {
        Self {
            inner: std::process::Command::new(program),
            netns: netns.clone(),
            namespace: namespace.to_owned(),
            lab,
            input: Vec::new(),
            timeout: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.inner.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.inner.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(name, value);
        self
    }

    /// What the program reads from its standard input; nothing by default.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// How long [`Command::output`] waits before it kills the program; for ever by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Starts the program.
    ///
    /// # Errors
    /// There is no such program, the namespace can't be entered, or its lab was removed.
    pub fn spawn(self) -> Result<Process, LabError> {
        let Self { mut inner, netns, namespace, lab, input, .. } = self;
        let command = describe(&inner);
        // Held until the program runs, so that a removal meanwhile can't overlook it.
        let lab = lab.upgrade();
        let state = lab.as_deref().map(super::lock);
        if state.as_deref().is_some_and(|state| state.removed) {
            return Err(LabError::Invalid(format!("{command} in {namespace} comes too late, the lab was removed")));
        }
        // A process group of its own: what the program starts in turn can be killed with it, and Ctrl-C in the terminal
        // doesn't reach it before its owner has decided what to do.
        std::os::unix::process::CommandExt::process_group(&mut inner, 0);
        inner.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = netns
            .within(|| inner.spawn())
            .and_then(|spawned| spawned)
            .map_err(|error| LabError::step(format!("start {command} in {namespace}"), error))?;
        drop(state);
        let heard = Arc::new(Ears::default());
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            heard.listen(stdout, |heard| &mut heard.stdout);
            heard.listen(stderr, |heard| &mut heard.stderr);
        }
        if let Some(mut stdin) = child.stdin.take().filter(|_| !input.is_empty()) {
            // On its own thread, since the program may write much before it reads all. That it doesn't read is its affair.
            thread::spawn(move || stdin.write_all(&input));
        }
        Ok(Process { child, heard, command, namespace, status: None })
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// As [`Command::spawn`], and if the timeout passes. How the program ends is no error: see [`Output::ok`].
    pub fn output(self) -> Result<Output, LabError> {
        // A year is for ever.
        let timeout = self.timeout.unwrap_or(Duration::from_secs(365 * 86_400));
        self.spawn()?.wait(timeout)
    }
}

/// A program running inside a namespace. Dropping it kills the program and all of its process group.
#[derive(Debug)]
pub struct Process {
    child: Child,
    heard: Arc<Ears>,
    command: String,
    namespace: String,
    status: Option<ExitStatus>,
}

impl Process {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to its standard output so far.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().stdout).into_owned()
    }

    /// What it wrote to its standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().stderr).into_owned()
    }

    /// Waits until it has written `text` to its standard output or error: how a server says that it is ready.
    ///
    /// # Errors
    /// It ends first, or doesn't say it in time; the error tells what it did say.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> Result<(), LabError> {
        let end = Instant::now() + timeout;
        let mut heard = self.heard.lock();
        loop {
            if contains(&heard.stdout, text.as_bytes()) || contains(&heard.stderr, text.as_bytes()) {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if heard.ended == Ears::PIPES || left.is_zero() {
                let why = if left.is_zero() { format!("within {timeout:?}") } else { "before it ended".to_owned() };
                let what = format!("did not say {text:?} {why}{}", heard.quote());
                drop(heard);
                return Err(self.failed(what));
            }
            heard = self.heard.wait(heard, left);
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.status.is_none() && !self.has_ended_within(Duration::ZERO)
    }

    /// Sends it a signal (to it alone, not to what it started).
    ///
    /// # Errors
    /// It has ended and was waited for.
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        let sent = match self.pid().filter(|_| self.status.is_none()) {
            Some(pid) => rustix::process::kill_process(pid, signal),
            None => Err(rustix::io::Errno::SRCH),
        };
        sent.map_err(|error| {
            LabError::step(format!("send {signal:?} to {} in {}", self.command, self.namespace), error)
        })
    }

    /// Waits for its end, and kills what it leaves behind in its process group.
    ///
    /// # Errors
    /// It still runs after `timeout`; then it is killed.
    pub fn wait(&mut self, timeout: Duration) -> Result<Output, LabError> {
        let in_time = self.status.is_some() || self.has_ended_within(timeout);
        self.finish();
        self.heard.until_all_is_heard();
        let status = self.status.filter(|_| in_time).ok_or_else(|| {
            let quote = self.heard.lock().quote();
            self.failed(format!("still running after {timeout:?}, killed{quote}"))
        })?;
        Ok(Output {
            status,
            stdout: self.stdout(),
            stderr: self.stderr(),
            command: self.command.clone(),
            namespace: self.namespace.clone(),
        })
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// As [`Process::wait`].
    pub fn terminate(&mut self, timeout: Duration) -> Result<Output, LabError> {
        if self.is_running() {
            self.signal(Signal::TERM)?;
        }
        self.wait(timeout)
    }

    /// Kills it and its process group, and waits.
    pub fn kill(&mut self) {
        self.finish();
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Whether it ends in time. It is not waited for in the sense of wait(2), so that its id stays its own.
    fn has_ended_within(&self, timeout: Duration) -> bool {
        let Some(pidfd) = self.pid().and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()) else {
            return false;
        };
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let limit = Timespec::try_from(left).ok();
            match rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], limit.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                ready => return ready.is_ok_and(|count| count > 0),
            }
        }
    }

    /// Kills the process group and reaps the program. The group goes first: until the program is reaped its id, which is
    /// the group's too, can't be given to anybody else.
    fn finish(&mut self) {
        if self.status.is_some() {
            return;
        }
        if let Some(pid) = self.pid() {
            // Fails only if everything in the group has ended.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        self.status = self.child.wait().ok();
    }

    fn failed(&self, what: String) -> LabError {
        LabError::Program { command: self.command.clone(), namespace: self.namespace.clone(), what }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.finish();
    }
}

/// How a program ended and what it said.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output; what is no UTF-8 is replaced.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
    command: String,
    namespace: String,
}

impl Output {
    /// Whether it ended with status 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The output, if it ended with status 0.
    ///
    /// # Errors
    /// It did not; the error tells what it said.
    pub fn ok(self) -> Result<Self, LabError> {
        if self.success() {
            return Ok(self);
        }
        let what = format!("{}{}", self.status, quote(&self.stdout, &self.stderr));
        Err(LabError::Program { command: self.command, namespace: self.namespace, what })
    }
}

/// What is heard of a program. A condition variable tells of news.
#[derive(Debug, Default)]
struct Ears {
    heard: Mutex<Heard>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Heard {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    ended: u8,
}

impl Ears {
    /// Standard output and error.
    const PIPES: u8 = 2;

    /// Collects what comes out of a pipe, on a thread that ends with it.
    fn listen(self: &Arc<Self>, mut pipe: impl Read + Send + 'static, which: fn(&mut Heard) -> &mut Vec<u8>) {
        let ears = Arc::clone(self);
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            loop {
                let read = pipe.read(&mut chunk).unwrap_or(0);
                let mut heard = ears.lock();
                which(&mut heard).extend_from_slice(&chunk[..read]);
                heard.ended += u8::from(read == 0);
                ears.news.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
    }

    /// Waits for the last of what an ended program wrote. A process that has left its group may hold the pipes open for
    /// ever, so not for long.
    fn until_all_is_heard(&self) {
        let end = Instant::now() + Duration::from_secs(1);
        let mut heard = self.lock();
        while heard.ended < Self::PIPES && Instant::now() < end {
            heard = self.wait(heard, end.saturating_duration_since(Instant::now()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, heard: MutexGuard<'a, Heard>, limit: Duration) -> MutexGuard<'a, Heard> {
        self.news.wait_timeout(heard, limit).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Heard {
    fn quote(&self) -> String {
        quote(&String::from_utf8_lossy(&self.stdout), &String::from_utf8_lossy(&self.stderr))
    }
}

fn quote(stdout: &str, stderr: &str) -> String {
    let mut text = String::new();
    for (name, said) in [("stdout", stdout.trim()), ("stderr", stderr.trim())] {
        if !said.is_empty() {
            text.push_str(&format!("\n{name}: {said}"));
        }
    }
    text
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || haystack.windows(needle.len()).any(|window| window == needle)
}

fn describe(command: &std::process::Command) -> String {
    let words: Vec<_> =
        [command.get_program()].into_iter().chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}: {}{}", self.command, self.namespace, self.status, quote(&self.stdout, &self.stderr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    // Nothing here needs a namespace of its own, so these run without privileges.
    fn shell(script: &str) -> Command {
        Command::new("sh", &Netns::own().unwrap(), "here", Weak::new()).args(["-c", script])
    }

    #[test]
    fn output_status_and_input_are_the_programs() {
        let output = shell("cat; echo oops >&2; exit 3").input("hello").timeout(LONG).output().unwrap();
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str(), output.status.code()),
            ("hello", "oops\n", Some(3))
        );
        let error = output.ok().unwrap_err().to_string();
        assert!(error.ends_with("in here: exit status: 3\nstdout: hello\nstderr: oops"), "{error}");
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed_and_quoted() {
        let started = Instant::now();
        let error = shell("echo started; sleep 100").timeout(Duration::from_millis(300)).output().unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(10));
        assert!(error.to_string().contains("still running after 300ms, killed\nstdout: started"), "{error}");
    }

    #[test]
    fn dropping_kills_the_program_and_what_it_started() {
        let mut process = shell("sleep 1000 & echo $!; sleep 1000").spawn().unwrap();
        process.wait_for("\n", LONG).unwrap();
        let grandchild = process.stdout().trim().to_owned();
        assert!(is_alive(&grandchild));
        drop(process);
        let start = Instant::now();
        while is_alive(&grandchild) {
            assert!(start.elapsed() < LONG, "process {grandchild} survived");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_a_program_leaves_behind_does_not_keep_its_caller_waiting() {
        let started = Instant::now();
        let output = shell("sleep 1000 & echo done").timeout(LONG).output().unwrap();
        assert!(output.success() && output.stdout == "done\n", "{output}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn waiting_for_words_ends_with_the_program() {
        let mut process = shell("echo one; exit 0").spawn().unwrap();
        let error = process.wait_for("two", LONG).unwrap_err().to_string();
        assert!(error.contains("did not say \"two\" before it ended\nstdout: one"), "{error}");
        assert!(process.wait(LONG).unwrap().success());
        assert!(!process.is_running());
        assert!(process.signal(Signal::TERM).is_err(), "its id may be somebody else's by now");
    }

    #[test]
    fn terminating_lets_a_program_clean_up() {
        let mut process = shell("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done").spawn().unwrap();
        process.wait_for("up", LONG).unwrap();
        assert!(process.is_running());
        let output = process.terminate(LONG).unwrap();
        assert_eq!((output.status.code(), output.stdout.as_str()), (Some(7), "up\nbye\n"));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error =
            Command::new("weft-no-such-program", &Netns::own().unwrap(), "here", Weak::new()).spawn().unwrap_err();
        assert_eq!(error.to_string(), "lab: can't start weft-no-such-program in here");
    }

    fn is_alive(pid: &str) -> bool {
        // "State: Z (zombie)" until somebody waits for it.
        std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| !status.contains("\nState:\tZ"))
    }
}
