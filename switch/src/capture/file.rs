//! One pcapng file for all points.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::Frame;

/// Frames that are this much younger than the newest, in nanoseconds, may still get others before them.
const SETTLED: u64 = 300_000_000;

/// A file of the format pcapng (draft-ietf-opsawg-pcapng), written in the order of the frames' times. Its interfaces are the
/// points by their names.
pub struct CaptureFile<W> {
    to: W,
    /// By time, and by number where the times are the same.
    waiting: BTreeMap<(u64, u64), Frame>,
    number: u64,
    newest: u64,
}

impl<W: Write> CaptureFile<W> {
    /// Begins a file with these points.
    ///
    /// # Errors
    /// It can't be written.
    pub fn new(mut to: W, points: &[String]) -> io::Result<Self> {
        // Section Header Block: byte order, version 1.0, length unknown; and what wrote it.
        let mut body = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
        body.extend([1, 0, 0, 0]);
        body.extend([0xff; 8]);
        options(&mut body, &[(4, concat!("weft ", env!("CARGO_PKG_VERSION")).as_bytes())]);
        block(&mut to, 0x0a0d_0d0a, body)?;
        for name in points {
            // Interface Description Block: Ethernet, no limit; its name, and that times are nanoseconds.
            let mut body = vec![1, 0, 0, 0, 0, 0, 0, 0];
            options(&mut body, &[(2, name.as_bytes()), (9, &[9])]);
            block(&mut to, 1, body)?;
        }
        Ok(Self { to, waiting: BTreeMap::new(), number: 0, newest: 0 })
    }

    /// Takes a frame; writes those that nothing comes before any more.
    ///
    /// # Errors
    /// It can't be written.
    pub fn add(&mut self, frame: Frame) -> io::Result<()> {
        self.newest = self.newest.max(frame.time);
        self.number += 1;
        self.waiting.insert((frame.time, self.number), frame);
        while let Some(entry) = self.waiting.first_entry()
            && entry.get().time.saturating_add(SETTLED) < self.newest
        {
            let frame = entry.remove();
            packet(&mut self.to, &frame)?;
        }
        Ok(())
    }

    /// Writes the rest, and for each point what it missed and what there is to say about it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(mut self, missed: &[Option<u64>], comment: &str) -> io::Result<W> {
        for frame in self.waiting.values() {
            packet(&mut self.to, frame)?;
        }
        for (point, missed) in (0_u32..).zip(missed) {
            // Interface Statistics Block: interface, time, and how many were dropped before they could be read.
            let mut body = point.to_le_bytes().to_vec();
            time(&mut body, self.newest);
            let missed = missed.map(u64::to_le_bytes);
            let mut all: Vec<(u16, &[u8])> = missed.iter().map(|missed| (5, missed.as_slice())).collect();
            if point == 0 && !comment.is_empty() {
                all.push((1, comment.as_bytes()));
            }
            options(&mut body, &all);
            block(&mut self.to, 5, body)?;
        }
        self.to.flush()?;
        Ok(self.to)
    }
}

/// Enhanced Packet Block: interface, time, lengths, the frame.
fn packet(to: &mut impl Write, frame: &Frame) -> io::Result<()> {
    let mut body = (frame.point as u32).to_le_bytes().to_vec();
    time(&mut body, frame.time);
    body.extend((frame.bytes.len() as u32).to_le_bytes());
    body.extend(frame.len.to_le_bytes());
    body.extend(&frame.bytes);
    block(to, 6, body)
}

fn time(body: &mut Vec<u8>, nanos: u64) {
    body.extend(((nanos >> 32) as u32).to_le_bytes());
    body.extend((nanos as u32).to_le_bytes());
}

fn options(body: &mut Vec<u8>, all: &[(u16, &[u8])]) {
    for (code, value) in all {
        let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
        body.extend(code.to_le_bytes());
        body.extend((value.len() as u16).to_le_bytes());
        body.extend_from_slice(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    if !all.is_empty() {
        body.extend([0; 4]);
    }
}

fn block(to: &mut impl Write, kind: u32, mut body: Vec<u8>) -> io::Result<()> {
    body.resize(body.len().next_multiple_of(4), 0);
    let len = (body.len() as u32 + 12).to_le_bytes();
    to.write_all(&[kind.to_le_bytes(), len].concat())?;
    to.write_all(&body)?;
    to.write_all(&len)
}

#[cfg(test)]
mod tests {
    use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};

    use super::*;

    #[test]
    fn frames_are_written_in_order_and_read_back() {
        let frame = |point, time| Frame { point, time, len: 1500, bytes: vec![point as u8; 61] };
        let mut file = CaptureFile::new(Vec::new(), &["a/eth0".to_owned(), "b/eth0".to_owned()]).unwrap();
        let second = 1_000_000_000;
        for (point, time) in [(1, 20 * second + 7), (0, 20 * second), (1, 21 * second), (0, 20 * second + 800_000_000)]
        {
            file.add(frame(point, time)).unwrap();
        }
        let bytes = file.finish(&[Some(3), None], "left/eth0 dropped egress_mtu 3").unwrap();

        let mut reader = create_reader(1 << 16, &bytes[..]).unwrap();
        let (mut names, mut packets, mut missed, mut comments) = (0, Vec::new(), Vec::new(), 0);
        loop {
            let (len, block) = match reader.next() {
                Ok(next) => next,
                Err(PcapError::Eof) => break,
                Err(PcapError::Incomplete(_)) => {
                    reader.refill().unwrap();
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            match block {
                PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                    assert_eq!(interface.if_tsresol, 9);
                    names += 1;
                }
                PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                    assert_eq!((packet.caplen, packet.origlen), (61, 1500));
                    packets.push((packet.if_id, u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low)));
                }
                PcapBlockOwned::NG(Block::InterfaceStatistics(statistics)) => {
                    missed.push(statistics.options.iter().any(|option| option.code.0 == 5));
                    comments += statistics.options.iter().filter(|option| option.code.0 == 1).count();
                }
                PcapBlockOwned::NG(_) | PcapBlockOwned::Legacy(_) | PcapBlockOwned::LegacyHeader(_) => {}
            }
            reader.consume(len);
        }
        assert_eq!((names, missed, comments), (2, vec![true, false], 1));
        let times = [(0, 20 * second), (1, 20 * second + 7), (0, 20 * second + 800_000_000), (1, 21 * second)];
        assert_eq!(packets, times);
    }
}
