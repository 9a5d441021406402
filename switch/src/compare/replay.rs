//! Cases as files: what a difference leaves behind, to be run again and to be looked at with a packet reader.

use std::{fs, io, path::Path};

use super::{Outcome, case::Case, case::Step, observe::Observation, report::place_name};
use crate::wire::pcapng::{Captured, PcapngWriter};

/// Reads a case that [`save`] wrote, or that somebody wrote by hand.
///
/// # Errors
/// The file can't be read, or is no case; the message says where.
pub fn load(path: &Path) -> io::Result<Case> {
    let text = fs::read_to_string(path)?;
    serde_json::from_str(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes a case as `PATH.json`, and the frames that went in and came out on both sides as `PATH.pcapng`.
///
/// # Errors
/// The files can't be written.
pub fn save(path: &Path, outcome: &Outcome, reference: &str) -> io::Result<()> {
    let text = serde_json::to_string_pretty(&outcome.case).map_err(io::Error::other)?;
    fs::write(path.with_extension("json"), text + "\n")?;
    fs::write(path.with_extension("pcapng"), capture(outcome, reference)?)
}

/// The frames of an outcome in the order of the steps, a second for each. An interface is a place on a side: "in port 1" is
/// where the test's frames entered, "weft port 2" where weft's came out.
fn capture(outcome: &Outcome, reference: &str) -> io::Result<Vec<u8>> {
    let mut file = File { writer: PcapngWriter::new(Vec::new())?, interfaces: Vec::new() };
    let none = Observation::default();
    let sides = [(reference, outcome.reference.as_ref()), ("weft", outcome.weft.as_ref())];
    for (number, step) in outcome.case.steps.iter().enumerate() {
        match step {
            Step::Send { port, frame } => file.packet(&format!("in {}", place_name(*port)), number, &frame.0)?,
            Step::Arrive(datagram) => {
                file.packet("in the underlay", number, &super::world::datagram_frame(datagram))?
            }
            Step::SetBridge { .. }
            | Step::SetTunnel { .. }
            | Step::SetPort { .. }
            | Step::FdbAdd(_)
            | Step::FdbDelete { .. }
            | Step::FdbFlush { .. }
            | Step::Link { .. }
            | Step::Attach { .. }
            | Step::MdbAdd(_)
            | Step::MdbDelete(_)
            | Step::AddTunnel { .. }
            | Step::Read { .. }
            | Step::Wait { .. } => {}
        }
        for (side, seen) in sides {
            let Some(seen) = seen.unwrap_or(&none).steps.get(number) else { continue };
            for (place, frames) in &seen.frames {
                let name = format!("{side} {}", place_name(*place));
                for frame in frames {
                    file.packet(&name, number, &frame.0)?;
                }
            }
        }
    }
    file.writer.finish()
}

/// Describes each interface where it first appears.
struct File {
    writer: PcapngWriter<Vec<u8>>,
    interfaces: Vec<String>,
}

impl File {
    fn packet(&mut self, interface: &str, second: usize, bytes: &[u8]) -> io::Result<()> {
        let index = match self.interfaces.iter().position(|name| name == interface) {
            Some(known) => known as u32,
            None => {
                self.interfaces.push(interface.to_owned());
                self.writer.interface(interface)?
            }
        };
        let time = (second as u64 + 1) * 1_000_000_000;
        self.writer.packet(Captured { interface: index, time, len: bytes.len() as u32, bytes, comments: &[] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{
        frame::{frame, station},
        verdict::Verdict,
    };

    /// A file that somebody wrote: a case, which is written so that it is read again, or an error that says where.
    #[test]
    fn fuzz_case() {
        crate::fuzzing::inputs(|input| match serde_json::from_slice::<Case>(input) {
            Ok(case) => {
                let text = serde_json::to_string(&case).unwrap();
                assert_eq!(serde_json::from_str::<Case>(&text).unwrap(), case, "{text}");
                let outcome = Outcome { case, verdict: Verdict::Same, reference: None, weft: None, millis: 0 };
                if let Ok(file) = capture(&outcome, "kernel") {
                    assert_eq!(file[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        });
    }

    #[test]
    fn a_case_comes_back_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("found");
        let case = Case::new("found").send(1, frame(station(2), station(1))).wait(1);
        let outcome = Outcome { case, verdict: Verdict::Same, reference: None, weft: None, millis: 0 };
        save(&path, &outcome, "kernel").unwrap();
        assert_eq!(load(&path.with_extension("json")).unwrap(), outcome.case);
        let capture = fs::read(path.with_extension("pcapng")).unwrap();
        assert_eq!(capture[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
        assert!(capture.windows(9).any(|window| window == b"in port 1"));
        assert_eq!(load(&path.with_extension("pcapng")).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
