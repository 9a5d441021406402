//! One point: a tcpdump in its namespace, and a thread that reads what it writes.

use std::{
    io::{self, BufRead, BufReader, Read},
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc::{Sender, sync_channel},
    thread,
};

use pcap_parser::{Linktype, PcapBlockOwned, PcapError, create_reader};
use rustix::process::{Pid, Signal, kill_process};

use super::{Event, Frame};
use crate::sys::netns::Netns;

/// Longest record that is read: a super-frame of 64 KiB with its header, and room.
const RECORD_LEN: usize = 1 << 20;
/// What makes tcpdump write what it has, say its counts and end.
const END: Signal = Signal::INT;

/// Why nothing, or nothing more, is captured at a point.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no tcpdump.
    #[error("tcpdump, which does the capturing, is not installed")]
    NoTcpdump,
    /// It can't be started.
    #[error("tcpdump can't be started: {0}")]
    Start(#[source] io::Error),
    /// It would not capture; in its own words.
    #[error("tcpdump: {0}")]
    Refused(String),
    /// What it captures are no Ethernet frames.
    #[error("its frames are not Ethernet's")]
    NotEthernet,
    /// What it writes makes no sense.
    #[error("what tcpdump writes can't be read: {0}")]
    Garbled(String),
}

/// How a point ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ended {
    /// Frames that the kernel dropped because nobody read them in time, if tcpdump said so.
    pub missed: Option<u64>,
}

/// A point that is captured at. Dropping it ends that.
pub struct Source {
    child: Child,
}

impl Source {
    /// Begins to capture at `interface` what `filter` lets through (pcap-filter(7)), and returns when nothing is missed any more.
    /// What is seen goes to `events`, and at last how it ended.
    ///
    /// # Errors
    /// [`SourceError`]: there is no such interface, the filter is wrong, a privilege is missing, no tcpdump.
    pub fn start(
        point: usize,
        netns: &Netns,
        interface: &str,
        filter: Option<&str>,
        events: Sender<Event>,
    ) -> Result<Self, SourceError> {
        let mut tcpdump = Command::new("tcpdump");
        tcpdump.args(["-n", "-U", "-s0", "--immediate-mode", "--time-stamp-precision=nano", "-w-", "-i", interface]);
        tcpdump.args(filter).env("LC_ALL", "C");
        tcpdump.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = netns.within(|| tcpdump.spawn()).and_then(|spawned| spawned);
        let mut child = child.map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound { SourceError::NoTcpdump } else { SourceError::Start(error) }
        })?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(SourceError::Start(io::Error::other("it has no pipes")));
        };
        let source = Self { child };
        let (ready, is_ready) = sync_channel(1);
        let words = thread::spawn(move || listen(stderr, &|| _ = ready.try_send(())));
        if is_ready.recv().is_err() {
            // It ended before it listened; what it said says why.
            let said = words.join().unwrap_or_default();
            return Err(SourceError::Refused(said.reason));
        }
        thread::spawn(move || {
            let how = read(point, stdout, &events);
            let said = words.join().unwrap_or_default();
            let how = how.map(|()| Ended { missed: said.missed });
            // Nobody who listens any more needs to know.
            let _ = events.send(Event::Ended { point, how });
        });
        Ok(source)
    }

    /// Asks it to end; [`Event::Ended`] follows when all that was seen has been told.
    pub fn stop(&self) {
        let _ = kill_process(Pid::from_child(&self.child), END);
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What tcpdump said on its standard error.
#[derive(Default)]
struct Said {
    /// Its last line, without its name.
    reason: String,
    missed: Option<u64>,
}

/// Reads until it ends; tells when it captures.
fn listen(stderr: ChildStderr, captures: &dyn Fn()) -> Said {
    let mut said = Said::default();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if line.contains("listening on") {
            captures();
        } else if let Some(count) = line.strip_suffix(" dropped by kernel") {
            said.missed = count.split_whitespace().next().and_then(|count| count.parse().ok());
        }
        said.reason = line.strip_prefix("tcpdump: ").unwrap_or(&line).to_owned();
    }
    said
}

/// Reads frames until tcpdump has ended.
fn read(point: usize, stdout: impl Read + Send, events: &Sender<Event>) -> Result<(), SourceError> {
    let garbled = |error: PcapError<&[u8]>| SourceError::Garbled(error.to_string());
    let mut bytes = BufReader::new(stdout);
    // Nothing was written at all if it was ended at once.
    if bytes.fill_buf().map_or(true, <[u8]>::is_empty) {
        return Ok(());
    }
    let mut reader = create_reader(RECORD_LEN, bytes).map_err(garbled)?;
    // What a fraction of a second is counted in; the header says it.
    let mut nanos_each = 1;
    loop {
        let (len, block) = match reader.next() {
            Ok(next) => next,
            Err(PcapError::Eof | PcapError::UnexpectedEof) => return Ok(()),
            Err(PcapError::Incomplete(_)) => {
                reader.refill().map_err(|error| SourceError::Garbled(error.to_string()))?;
                continue;
            }
            Err(error) => return Err(garbled(error)),
        };
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                if header.network != Linktype::ETHERNET {
                    return Err(SourceError::NotEthernet);
                }
                nanos_each = if header.is_nanosecond_precision() { 1 } else { 1000 };
            }
            PcapBlockOwned::Legacy(packet) => {
                let time = u64::from(packet.ts_sec) * 1_000_000_000 + u64::from(packet.ts_usec) * nanos_each;
                let frame = Frame { point, time, len: packet.origlen, bytes: packet.data.to_vec() };
                if events.send(Event::Frame(frame)).is_err() {
                    return Ok(());
                }
            }
            PcapBlockOwned::NG(_) => {}
        }
        reader.consume(len);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::capture::Packet;

    /// What comes through tcpdump's pipe: frames, each described, until it ends or makes no sense.
    #[test]
    fn fuzz_captured() {
        crate::fuzzing::inputs(|bytes| {
            let (events, heard) = channel();
            let _ = read(3, bytes, &events);
            drop(events);
            let mut len = 0;
            for event in heard {
                let Event::Frame(frame) = event else { panic!("only frames are read: {event:?}") };
                len += frame.bytes.len();
                let packet = Packet::of(&frame.bytes);
                assert!(!packet.text.is_empty());
                assert!(packet.tunnels.iter().all(|tunnel| !tunnel.to_string().is_empty()));
            }
            assert!(len <= bytes.len());
        });
    }
}
