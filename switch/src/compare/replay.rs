//! Cases as files: what a difference leaves behind, to be run again and to be looked at with a packet reader.

use std::{fs, io, path::Path};

use super::{Outcome, case::Case, case::Step, observe::Observation, report::place_name};

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
    fs::write(path.with_extension("pcapng"), capture(outcome, reference))
}

/// The frames of an outcome in the order of the steps, a second for each. An interface is a place on a side: "in port 1" is
/// where the test's frames entered, "weft port 2" where weft's came out.
fn capture(outcome: &Outcome, reference: &str) -> Vec<u8> {
    let mut file = Pcapng::default();
    let none = Observation::default();
    let sides = [(reference, outcome.reference.as_ref()), ("weft", outcome.weft.as_ref())];
    for (number, step) in outcome.case.steps.iter().enumerate() {
        match step {
            Step::Send { port, frame } => file.packet(&format!("in {}", place_name(*port)), number, &frame.0),
            Step::Arrive(datagram) => file.packet("in the underlay", number, &super::world::datagram_frame(datagram)),
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
                frames.iter().for_each(|frame| file.packet(&name, number, &frame.0));
            }
        }
    }
    file.finish()
}

/// A capture file (draft-ietf-opsawg-pcapng). Interfaces must come before their packets, and do: each is described where it
/// first appears.
#[derive(Default)]
struct Pcapng {
    bytes: Vec<u8>,
    interfaces: Vec<String>,
}

impl Pcapng {
    fn packet(&mut self, interface: &str, second: usize, frame: &[u8]) {
        let known = self.interfaces.iter().position(|name| name == interface);
        let index = known.unwrap_or_else(|| {
            self.interfaces.push(interface.to_owned());
            self.describe(interface);
            self.interfaces.len() - 1
        });
        // Enhanced Packet Block: interface, time in microseconds, lengths, the frame.
        let micros = (second as u64 + 1) * 1_000_000;
        let len = (frame.len() as u32).to_le_bytes();
        let mut body = (index as u32).to_le_bytes().to_vec();
        body.extend(((micros >> 32) as u32).to_le_bytes());
        body.extend((micros as u32).to_le_bytes());
        body.extend([len, len].concat());
        body.extend(frame);
        self.block(6, body);
    }

    /// Interface Description Block: Ethernet, no limit, its name.
    fn describe(&mut self, name: &str) {
        let mut body = vec![1, 0, 0, 0, 0, 0, 0, 0];
        body.extend([2_u16.to_le_bytes(), (name.len() as u16).to_le_bytes()].concat());
        body.extend(name.as_bytes());
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend([0; 4]);
        self.block(1, body);
    }

    fn block(&mut self, kind: u32, mut body: Vec<u8>) {
        body.resize(body.len().next_multiple_of(4), 0);
        let len = (body.len() as u32 + 12).to_le_bytes();
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(len);
        self.bytes.extend(body);
        self.bytes.extend(len);
    }

    /// Puts the Section Header Block in front: byte order, version 1.0, length unknown.
    fn finish(self) -> Vec<u8> {
        let mut header = Self::default();
        let mut body = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
        body.extend([1, 0, 0, 0]);
        body.extend([0xff; 8]);
        header.block(0x0a0d_0d0a, body);
        header.bytes.extend(self.bytes);
        header.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{
        frame::{frame, station},
        verdict::Verdict,
    };

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
