//! One pcapng file for all points.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::Frame;
use crate::wire::pcapng::{Captured, PcapngWriter};

/// A file of all points' frames in the order of their times. Its interfaces are the points by their names.
pub struct CaptureFile<W> {
    to: PcapngWriter<W>,
    /// Frames that are so much younger than the newest, in nanoseconds, may still get others before them, or something said
    /// about them.
    settles_after: u64,
    /// By time, and by number where the times are the same.
    waiting: BTreeMap<(u64, u64), Waiting>,
    number: u64,
    newest: u64,
}

struct Waiting {
    frame: Frame,
    packet: u64,
    comments: Vec<String>,
}

impl<W: Write> CaptureFile<W> {
    /// Begins a file with these points; a frame waits so many nanoseconds for what belongs before it or to it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn new(to: W, points: &[String], settles_after: u64) -> io::Result<Self> {
        let mut to = PcapngWriter::new(to)?;
        for name in points {
            to.interface(name)?;
        }
        Ok(Self { to, settles_after, waiting: BTreeMap::new(), number: 0, newest: 0 })
    }

    /// Takes a frame of a packet ([`Packet::id`](super::Packet)); writes those that nothing comes before any more.
    ///
    /// # Errors
    /// It can't be written.
    pub fn add(&mut self, frame: Frame, packet: u64) -> io::Result<()> {
        self.newest = self.newest.max(frame.time);
        self.number += 1;
        self.waiting.insert((frame.time, self.number), Waiting { frame, packet, comments: Vec::new() });
        while let Some(entry) = self.waiting.first_entry()
            && entry.get().frame.time.saturating_add(self.settles_after) < self.newest
        {
            entry.remove().write(&mut self.to)?;
        }
        Ok(())
    }

    /// Says something about a packet where it was seen last; `false`: it was seen nowhere, or too long ago.
    pub fn comment(&mut self, packet: u64, said: &str) -> bool {
        let last = self.waiting.values_mut().rev().find(|waiting| waiting.packet == packet);
        last.map(|waiting| waiting.comments.push(said.to_owned())).is_some()
    }

    /// Writes the rest, and for each point what it missed and what there is to say about it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(mut self, missed: &[Option<u64>], comment: &str) -> io::Result<W> {
        for waiting in self.waiting.values() {
            waiting.write(&mut self.to)?;
        }
        for (point, missed) in (0_u32..).zip(missed) {
            self.to.statistics(point, self.newest, *missed, if point == 0 { comment } else { "" })?;
        }
        self.to.finish()
    }
}

impl Waiting {
    fn write<W: Write>(&self, to: &mut PcapngWriter<W>) -> io::Result<()> {
        let Frame { point, time, len, bytes } = &self.frame;
        let interface = u32::try_from(*point).unwrap_or(u32::MAX);
        to.packet(Captured { interface, time: *time, len: *len, bytes, comments: &self.comments })
    }
}

#[cfg(test)]
mod tests {
    use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};

    use super::*;

    #[test]
    fn frames_are_written_in_order_and_read_back() {
        let frame = |point, time| Frame { point, time, len: 1500, bytes: vec![point as u8; 61] };
        let second = 1_000_000_000;
        let mut file = CaptureFile::new(Vec::new(), &["a/eth0".to_owned(), "b/eth0".to_owned()], second / 4).unwrap();
        for (point, time) in [(1, 20 * second + 7), (0, 20 * second), (1, 21 * second), (0, 20 * second + 800_000_000)]
        {
            file.add(frame(point, time), point as u64).unwrap();
        }
        assert!(file.comment(1, "dropped here") && !file.comment(7, "by nobody"));
        let bytes = file.finish(&[Some(3), None], "left/eth0 dropped egress_mtu 3").unwrap();

        let mut reader = create_reader(1 << 16, &bytes[..]).unwrap();
        let (mut names, mut packets, mut missed, mut comments, mut said) = (0, Vec::new(), Vec::new(), 0, Vec::new());
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
                    let own = packet.options.iter().filter(|option| option.code.0 == 1).count();
                    said.push((packet.if_id, own));
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
        assert_eq!(said, [(0, 0), (1, 0), (0, 0), (1, 1)], "it is said where the packet was seen last");
    }
}
