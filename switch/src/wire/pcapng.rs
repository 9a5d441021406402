//! The capture format pcapng (draft-ietf-opsawg-pcapng), as far as frames, their comments and what was missed are written.

use std::io::{self, Write};

// Types of blocks.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
// Options of any block, and of some.
const OPT_COMMENT: u16 = 1;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const ISB_IFDROP: u16 = 5;
const SHB_USERAPPL: u16 = 4;

/// Writes one section, in little-endian byte order; its times are nanoseconds since 1970, its frames Ethernet's.
pub struct PcapngWriter<W> {
    to: W,
    interfaces: u32,
}

/// A frame to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Captured<'a> {
    /// What [`PcapngWriter::interface`] gave for where it was seen.
    pub interface: u32,
    /// When, in nanoseconds since 1970.
    pub time: u64,
    /// How long it was; there may be fewer `bytes`.
    pub len: u32,
    /// What was kept of it, from the Ethernet header on.
    pub bytes: &'a [u8],
    /// What there is to say about it, one comment each.
    pub comments: &'a [String],
}

impl<W: Write> PcapngWriter<W> {
    /// Begins a section.
    ///
    /// # Errors
    /// It can't be written.
    pub fn new(mut to: W) -> io::Result<Self> {
        // Byte order, version 1.0, length unknown.
        let mut body = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
        body.extend([1, 0, 0, 0]);
        body.extend([0xff; 8]);
        options(&mut body, &[(SHB_USERAPPL, concat!("weft ", env!("CARGO_PKG_VERSION")).as_bytes())]);
        block(&mut to, SECTION_HEADER, body)?;
        Ok(Self { to, interfaces: 0 })
    }

    /// Describes an interface, and gives its number.
    ///
    /// # Errors
    /// It can't be written.
    pub fn interface(&mut self, name: &str) -> io::Result<u32> {
        const NANOSECONDS: &[u8] = &[9];
        // Ethernet, no limit.
        let mut body = vec![1, 0, 0, 0, 0, 0, 0, 0];
        options(&mut body, &[(IF_NAME, name.as_bytes()), (IF_TSRESOL, NANOSECONDS)]);
        block(&mut self.to, INTERFACE_DESCRIPTION, body)?;
        self.interfaces += 1;
        Ok(self.interfaces - 1)
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// It can't be written.
    pub fn packet(&mut self, captured: Captured<'_>) -> io::Result<()> {
        let Captured { interface, time, len, bytes, comments } = captured;
        let mut body = interface.to_le_bytes().to_vec();
        body.extend(halves(time));
        body.extend((bytes.len() as u32).to_le_bytes());
        body.extend(len.to_le_bytes());
        body.extend(bytes);
        body.resize(body.len().next_multiple_of(4), 0);
        let comments: Vec<_> = comments.iter().map(|comment| (OPT_COMMENT, comment.as_bytes())).collect();
        options(&mut body, &comments);
        block(&mut self.to, ENHANCED_PACKET, body)
    }

    /// Writes how many frames an interface missed, if that is known, and what there is to say about it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn statistics(&mut self, interface: u32, time: u64, missed: Option<u64>, comment: &str) -> io::Result<()> {
        let mut body = interface.to_le_bytes().to_vec();
        body.extend(halves(time));
        let missed = missed.map(u64::to_le_bytes);
        let mut all: Vec<(u16, &[u8])> = missed.iter().map(|missed| (ISB_IFDROP, missed.as_slice())).collect();
        if !comment.is_empty() {
            all.push((OPT_COMMENT, comment.as_bytes()));
        }
        options(&mut body, &all);
        block(&mut self.to, INTERFACE_STATISTICS, body)
    }

    /// Hands back what was written to, with all of it there.
    ///
    /// # Errors
    /// It can't be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.flush()?;
        Ok(self.to)
    }
}

/// A time: its upper half comes first, each half in the section's byte order.
fn halves(time: u64) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&((time >> 32) as u32).to_le_bytes());
    bytes[4..].copy_from_slice(&(time as u32).to_le_bytes());
    bytes
}

/// Code, length, value and padding of each, and their end; nothing at all if there are none.
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
