//! What passed an interface, as tcpdump saw it: with the tags that the kernel had taken off put back, and in files that other
//! programs read as well.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use weft::lab::{Namespace, Process};
use weft_integration::weft::eventually;

const PATIENCE: Duration = Duration::from_secs(60);

/// One captured frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Captured {
    /// Its first bytes, or all of them.
    pub(crate) bytes: Vec<u8>,
    /// Bytes it had when it passed.
    pub(crate) len: usize,
}

impl Captured {
    /// The EtherType, or a tag's protocol identifier in its place.
    pub(crate) fn ether_type(&self) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes.get(12..14)?.try_into().ok()?))
    }
}

/// A running tcpdump, killed when this is dropped.
pub(crate) struct Capture {
    process: Process,
    path: PathBuf,
    _directory: TempDir,
}

impl Capture {
    /// Begins to capture; has begun when this returns. `arguments` are tcpdump's, its filter last.
    pub(crate) fn start(namespace: &Namespace, interface: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut capture = Self::spawn(namespace, interface, arguments)?;
        capture.has_begun()?;
        Ok(capture)
    }

    /// Begins to capture what arrives at several places.
    pub(crate) fn start_all(places: &[(&Namespace, &str)]) -> anyhow::Result<Vec<Self>> {
        let mut captures = Vec::new();
        for (namespace, interface) in places {
            captures.push(Self::spawn(namespace, interface, &["-Q", "in"])?);
        }
        captures.iter_mut().try_for_each(Self::has_begun)?;
        Ok(captures)
    }

    fn spawn(namespace: &Namespace, interface: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("capture.pcap");
        // As root to the end (-Z): the directory is nobody else's. A large buffer (-B, KiB), since nothing may be missed.
        let options = ["-Z", "root", "-n", "-U", "--immediate-mode", "-B", "16384", "-i", interface, "-w"];
        let process = namespace.command("tcpdump").args(options).arg(&path).args(arguments).spawn()?;
        Ok(Self { process, path, _directory: directory })
    }

    fn has_begun(&mut self) -> anyhow::Result<()> {
        Ok(self.process.wait_for("listening on", PATIENCE)?)
    }

    /// What was captured so far.
    pub(crate) fn frames(&self) -> anyhow::Result<Vec<Captured>> {
        read(&self.path)
    }

    /// Waits until `enough` frames are captured that `wanted` is true for, and returns them.
    pub(crate) fn wait_for(
        &self,
        what: &str,
        enough: usize,
        wanted: impl Fn(&Captured) -> bool,
    ) -> anyhow::Result<Vec<Captured>> {
        let mut found = Vec::new();
        eventually(what, PATIENCE, || {
            found = self.frames()?;
            found.retain(&wanted);
            Ok(found.len() >= enough)
        })
        .with_context(|| format!("{} of {enough} frames", found.len()))?;
        Ok(found)
    }

    /// Ends the capture; the file lives as long as this.
    pub(crate) fn finish(&mut self) -> anyhow::Result<&Path> {
        let output = self.process.terminate(PATIENCE)?;
        ensure!(output.stderr.contains("\n0 packets dropped by kernel"), "frames were missed: {}", output.stderr);
        Ok(&self.path)
    }
}

/// The frames of a capture file in pcap format (draft-ietf-opsawg-pcap, section 4), Ethernet only. What is still being
/// written at its end is left out.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Captured>> {
    const ETHERNET: u32 = 1;
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let Some((header, mut rest)) = bytes.split_first_chunk::<24>() else { return Ok(Vec::new()) };
    // Magic number: microseconds or nanoseconds, in the byte order of the writer.
    let number: fn([u8; 4]) -> u32 = match header[..4] {
        [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] => u32::from_le_bytes,
        [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] => u32::from_be_bytes,
        _ => bail!("{} is no pcap file", path.display()),
    };
    let field = |bytes: &[u8], at: usize| bytes[at..].first_chunk().map_or(0, |bytes| number(*bytes));
    ensure!(field(header, 20) & 0xffff == ETHERNET, "{} is no capture of Ethernet", path.display());
    let mut frames = Vec::new();
    while let Some((record, behind)) = rest.split_first_chunk::<16>() {
        let (captured, len) = (field(record, 8) as usize, field(record, 12) as usize);
        let Some(bytes) = behind.get(..captured) else { break };
        frames.push(Captured { bytes: bytes.to_vec(), len });
        rest = &behind[captured..];
    }
    Ok(frames)
}
