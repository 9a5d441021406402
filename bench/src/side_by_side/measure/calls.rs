//! System calls of the programs that carry frames, counted by perf while TCP runs.
//!
//! Not by strace: it stops a program at each call, batches grow meanwhile, and the count comes out too small.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use super::tcp::{self, Streams};
use crate::side_by_side::scene::Scene;

/// All system calls.
const ALL: &str = "raw_syscalls:sys_enter";
/// What the events of single calls begin with.
const PREFIX: &str = "syscalls:sys_enter_";
/// Bytes of a full super-frame.
const SUPER_FRAME: f64 = 65_536.0;
/// Those that switches are known to make, counted by name.
const NAMED: [&str; 14] = [
    "read",
    "readv",
    "write",
    "writev",
    "sendmsg",
    "sendmmsg",
    "recvmsg",
    "recvmmsg",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "poll",
    "futex",
    "io_uring_enter",
];

/// System calls of one program, for each 64 KiB of TCP payload that went from left to right. Those that carry the
/// acknowledgements back are among them.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Calls {
    /// All of them.
    pub(crate) all: f64,
    /// By name, the most frequent first.
    pub(crate) named: Vec<(&'static str, f64)>,
}

/// What this machine's perf can count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Counter {
    named: &'static [&'static str],
}

impl Counter {
    /// Tries it.
    ///
    /// # Errors
    /// Why nothing can be counted, in a few words.
    pub(crate) fn probe() -> Result<Self, String> {
        let counts = |named| {
            let perf = Command::new("perf")
                .args(["stat", "-x,", "-e", &events(named), "--", "true"])
                .stdin(Stdio::null())
                .output();
            let output = perf.map_err(|error| format!("perf can't be run: {error}"))?;
            Ok::<_, String>(output.status.success())
        };
        // Kernels without CONFIG_FTRACE_SYSCALLS have no events of single calls.
        for named in [&NAMED[..], &[]] {
            if counts(named)? {
                return Ok(Self { named });
            }
        }
        Err("perf can't count system calls here".to_owned())
    }

    /// Counts the calls of each switch, the left one's first, over a run of one stream.
    pub(crate) fn count(&self, scene: &mut Scene, seconds: u32) -> anyhow::Result<Vec<Calls>> {
        let ids = scene.switch_ids();
        let folder = scene.folder()?;
        let file = |index: usize| folder.join(format!("calls-{index}"));
        let transfer = tcp::transfer(scene, Streams::One, seconds, |client| {
            // One perf around the other, one for each switch, the client in the middle.
            ids.iter().enumerate().fold(client, |command, (index, id)| {
                let perf = ["perf", "stat", "-x,", "-e", &events(self.named), "-p", &id.to_string(), "-o"];
                let file = file(index).display().to_string();
                perf.iter().map(ToString::to_string).chain([file, "--".to_owned()]).chain(command).collect()
            })
        })?;
        let calls = |index| {
            let text = fs::read_to_string(file(index)).context("perf left no counts")?;
            parse(&text, transfer.bytes / SUPER_FRAME)
        };
        (0..ids.len()).map(calls).collect()
    }
}

/// Events as perf takes them.
fn events(named: &[&str]) -> String {
    named.iter().fold(ALL.to_owned(), |events, name| format!("{events},{PREFIX}{name}"))
}

/// Reads lines such as `1234,,raw_syscalls:sys_enter,...` of `perf stat -x,`.
fn parse(text: &str, pieces: f64) -> anyhow::Result<Calls> {
    let count = |event: &str| {
        let mut lines = text.lines().map(|line| line.split(','));
        let mut line = lines.find_map(|mut line| {
            let count = line.next()?;
            (line.nth(1)? == event).then_some(count)
        });
        // "<not counted>": the program made no call at all while it was watched.
        line.take().map(|count| count.parse::<f64>().unwrap_or(0.0))
    };
    let all = count(ALL).with_context(|| format!("perf counted no system calls: {text}"))?;
    ensure!(all > 0.0, "perf counted no system calls: {text}");
    let mut named: Vec<_> = NAMED
        .into_iter()
        .filter_map(|name| Some((name, count(&format!("{PREFIX}{name}"))? / pieces)))
        .filter(|(_, count)| *count > 0.0)
        .collect();
    named.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    Ok(Calls { all: all / pieces, named })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_put_in_relation_to_the_payload() {
        let text = "# started on Sun Nov 22\n\n400,,raw_syscalls:sys_enter,1000,100.00,,\n\
                    100,,syscalls:sys_enter_writev,1000,100.00,,\n<not counted>,,syscalls:sys_enter_read,0,100.00,,\n\
                    250,,syscalls:sys_enter_readv,1000,100.00,,\n";
        assert_eq!(parse(text, 100.0).unwrap(), Calls { all: 4.0, named: vec![("readv", 2.5), ("writev", 1.0)] });
    }

    #[test]
    fn no_counts_are_an_error() {
        assert!(parse("Error: no permission", 1.0).is_err());
        assert!(parse("<not counted>,,raw_syscalls:sys_enter,0,100.00,,", 1.0).is_err());
    }
}
