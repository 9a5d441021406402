//! One frame of a capture file.

use std::{fs::File, io::Read, path::Path};

use anyhow::{Context, anyhow, bail};
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

use super::UsageError;

/// Longest block that is read: a frame of 64 KiB with room for a block's options.
const BLOCK_LEN: usize = 1 << 20;

/// Frame `number`, counted from 1, of a pcap or pcapng file, as tcpdump and Wireshark count.
///
/// # Errors
/// The file can't be read, has not so many frames, or the frame is not Ethernet's or was cut off.
pub(super) fn frame(path: &Path, number: usize) -> anyhow::Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("can't read {}", path.display()))?;
    frame_of(path, file, number)
}

fn frame_of(path: &Path, file: impl Read + Send, number: usize) -> anyhow::Result<Vec<u8>> {
    let no_capture =
        |error: PcapError<&[u8]>| UsageError(format!("{} is no pcap or pcapng file ({error})", path.display()));
    let mut reader = create_reader(BLOCK_LEN, file).map_err(no_capture)?;
    let mut interfaces = Vec::new();
    let mut count = 0;
    loop {
        let (len, block) = match reader.next() {
            Ok(next) => next,
            Err(PcapError::Eof) => break,
            Err(PcapError::Incomplete(_)) => {
                reader.refill().map_err(|error| anyhow!("{}: {error}", path.display()))?;
                continue;
            }
            Err(error) => bail!("{} breaks off behind frame {count}: {error}", path.display()),
        };
        let found = match block {
            PcapBlockOwned::LegacyHeader(header) => {
                interfaces = vec![header.network];
                None
            }
            PcapBlockOwned::Legacy(packet) => Some((0, packet.data, packet.caplen, packet.origlen)),
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                interfaces.clear();
                None
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                interfaces.push(interface.linktype);
                None
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                Some((packet.if_id as usize, packet.data, packet.caplen, packet.origlen))
            }
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                Some((0, packet.data, packet.data.len() as u32, packet.origlen))
            }
            PcapBlockOwned::NG(_) => None,
        };
        if let Some((interface, data, captured, original)) = found {
            count += 1;
            if count == number {
                return whole(path, number, interfaces.get(interface), data, captured, original);
            }
        }
        reader.consume(len);
    }
    bail!(UsageError(format!("{} has {count} frames, and number {number} is wanted", path.display())))
}

fn whole(
    path: &Path,
    number: usize,
    link: Option<&Linktype>,
    data: &[u8],
    captured: u32,
    original: u32,
) -> anyhow::Result<Vec<u8>> {
    let name = format!("frame {number} of {}", path.display());
    if link != Some(&Linktype::ETHERNET) {
        bail!(UsageError(format!("{name} is not Ethernet's")));
    }
    if captured < original {
        bail!(UsageError(format!(
            "{name} was cut off: {captured} of {original} bytes (capture with a larger snapshot length)"
        )));
    }
    // Blocks are padded to four bytes.
    let frame = data.get(..captured as usize).with_context(|| format!("{name} is longer than its block"))?;
    Ok(frame.to_vec())
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use tempfile::NamedTempFile;

    use super::*;

    fn file(bytes: &[u8]) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// A file of tcpdump's format (pcap-savefile(5)) with frames of this link type, each with its real length.
    fn pcap(link: u32, frames: &[(&[u8], u32)]) -> Vec<u8> {
        let mut bytes = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, link].map(u32::to_le_bytes).concat();
        bytes[4..8].copy_from_slice(&[2, 0, 4, 0]);
        for (frame, len) in frames {
            bytes.extend([1, 2, frame.len() as u32, *len].map(u32::to_le_bytes).concat());
            bytes.extend(*frame);
        }
        bytes
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let len = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes()[..], &len, &body, &len].concat()
    }

    /// The same as pcapng (draft-ietf-opsawg-pcapng), one interface.
    fn pcapng(link: u16, frame: &[u8]) -> Vec<u8> {
        let section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
        let interface = [&link.to_le_bytes()[..], &[0, 0], &[0; 4]].concat();
        let len = (frame.len() as u32).to_le_bytes();
        let packet = [&[0; 12][..], &len, &len, frame].concat();
        [block(0x0a0d_0d0a, &section), block(1, &interface), block(6, &packet)].concat()
    }

    /// Any file: its frames, and then an error that names it.
    #[test]
    fn fuzz_capture_file() {
        crate::fuzzing::inputs(|bytes| {
            for number in 1.. {
                match frame_of(Path::new("trace"), bytes, number) {
                    Ok(frame) => assert!(frame.len() <= bytes.len()),
                    Err(error) => return assert!(error.to_string().contains("trace"), "{error}"),
                }
            }
        });
    }

    #[test]
    fn frames_are_counted_from_one_in_both_formats() {
        let (one, two) = ([1; 60], [2; 61]);
        let old = file(&pcap(1, &[(&one, 60), (&two, 61)]));
        assert_eq!(frame(old.path(), 1).unwrap(), one);
        assert_eq!(frame(old.path(), 2).unwrap(), two);
        let new = file(&pcapng(1, &two));
        assert_eq!(frame(new.path(), 1).unwrap(), two);
    }

    #[test]
    fn what_can_not_be_had_is_said() {
        let refusal = |bytes: &[u8], number| frame(file(bytes).path(), number).unwrap_err().to_string();
        assert!(refusal(&pcap(1, &[(&[1; 60], 60)]), 2).contains("has 1 frames, and number 2 is wanted"));
        assert!(refusal(&pcap(101, &[(&[1; 60], 60)]), 1).contains("is not Ethernet's"));
        assert!(refusal(&pcapng(101, &[1; 60]), 1).contains("is not Ethernet's"));
        assert!(refusal(&pcap(1, &[(&[1; 60], 1500)]), 1).contains("was cut off: 60 of 1500 bytes"));
        assert!(refusal(b"nothing of the kind, but long enough", 1).contains("is no pcap or pcapng file"));
        let missing = tempfile::tempdir().unwrap().path().join("missing");
        assert!(frame(&missing, 1).unwrap_err().to_string().contains("can't read"));
        assert!(fs::metadata(missing).is_err());
    }
}
