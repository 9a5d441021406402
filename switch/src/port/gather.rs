//! Writing one frame to a descriptor in one system call, its pieces gathered where they lie:
//!
//! ```text
//! | virtio-net header | addresses | tag | the rest of the frame |
//!        10 bytes          12      4 or 0
//! ```
//!
//! Taps and packet sockets take the same bytes. Some kernels refuse super-frames of certain shapes with EINVAL (6.6.44, for
//! one, those whose last segment is shorter than the others); such a frame is cut here and written segment by segment.

use std::{
    io::IoSlice,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::io::{Errno, retry_on_intr, writev};

use super::{Flushed, TxFrame};
use crate::{
    bridge::DropReason,
    buffer::MAX_FRAME_LEN,
    offload::{Segments, VnetHeader},
    wire::vlan::TAG_LEN,
};

/// Bytes of the two addresses at the beginning of a frame, behind which a tag belongs.
const ADDRESSES_LEN: usize = 12;
/// The shortest frame: addresses and EtherType.
const MIN_FRAME_LEN: usize = 14;

/// Writes a frame as it is, without a virtio-net header.
///
/// # Errors
/// [`DropReason::BadOffload`] for a frame that is unfinished, which nobody behind such a descriptor would finish;
/// [`DropReason::Malformed`] for one without an Ethernet header; otherwise what `reason` makes of the kernel's error.
pub(super) fn write_plain(
    fd: impl AsFd,
    frame: &TxFrame<'_>,
    reason: impl FnOnce(Errno) -> DropReason,
) -> Result<(), DropReason> {
    if frame.vnet != VnetHeader::NONE {
        return Err(DropReason::BadOffload);
    }
    check_len(frame)?;
    write_pieces(fd.as_fd(), &[], frame).map_err(reason)
}

/// Writes frames behind virtio-net headers.
pub(super) struct VnetWriter {
    /// One segment of a super-frame that the kernel refused whole.
    segment: Box<[u8]>,
    fallback_count: u64,
    lost: Flushed,
}

impl VnetWriter {
    pub(super) fn new() -> Self {
        // Its pages cost nothing until a super-frame is refused.
        Self { segment: vec![0; MAX_FRAME_LEN].into_boxed_slice(), fallback_count: 0, lost: Flushed::default() }
    }

    /// Super-frames that the kernel refused and that were cut here.
    pub(super) fn fallback_count(&self) -> u64 {
        self.fallback_count
    }

    /// Segments that could not be written after the first of their super-frame had been: the sender was told that the
    /// super-frame was sent.
    pub(super) fn take_lost(&mut self) -> Flushed {
        std::mem::take(&mut self.lost)
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// [`DropReason::Malformed`] for a frame without an Ethernet header, [`DropReason::BadOffload`] for one that has to be
    /// cut here and can't be; otherwise what `reason` makes of the kernel's error.
    pub(super) fn write(
        &mut self,
        fd: impl AsFd,
        frame: &TxFrame<'_>,
        reason: impl Fn(Errno) -> DropReason,
    ) -> Result<(), DropReason> {
        check_len(frame)?;
        match write_with_header(fd.as_fd(), frame) {
            Ok(()) => Ok(()),
            Err(Errno::INVAL) if frame.vnet.gso.is_some() => self.write_segments(fd.as_fd(), frame, reason),
            Err(errno) => Err(reason(errno)),
        }
    }

    #[cold]
    fn write_segments(
        &mut self,
        fd: BorrowedFd<'_>,
        frame: &TxFrame<'_>,
        reason: impl Fn(Errno) -> DropReason,
    ) -> Result<(), DropReason> {
        let segments = Segments::new(frame.bytes, &frame.vnet).map_err(|_| DropReason::BadOffload)?;
        self.fallback_count += 1;
        for i in 0..segments.count() {
            let bytes = self.segment.get_mut(..segments.len(i)).ok_or(DropReason::BadOffload)?;
            segments.write(i, bytes);
            let segment = TxFrame { bytes, tag: frame.tag, vnet: VnetHeader::NONE };
            match write_with_header(fd, &segment) {
                Ok(()) => {}
                Err(errno) if i == 0 => return Err(reason(errno)),
                Err(errno) => self.lost.add(reason(errno), 1, segment.wire_len() as u64),
            }
        }
        Ok(())
    }
}

fn check_len(frame: &TxFrame<'_>) -> Result<(), DropReason> {
    if frame.bytes.len() < MIN_FRAME_LEN { Err(DropReason::Malformed) } else { Ok(()) }
}

fn write_with_header(fd: BorrowedFd<'_>, frame: &TxFrame<'_>) -> Result<(), Errno> {
    let vnet = if frame.tag.is_some() { frame.vnet.shifted(TAG_LEN as i16) } else { frame.vnet };
    write_pieces(fd, &vnet.to_bytes(frame.bytes), frame)
}

fn write_pieces(fd: BorrowedFd<'_>, header: &[u8], frame: &TxFrame<'_>) -> Result<(), Errno> {
    let pieces = match &frame.tag {
        // The kernel takes longer over more pieces, even empty ones.
        None => &[header, frame.bytes].map(IoSlice::new)[..],
        Some(tag) => {
            let (addresses, rest) = frame.bytes.split_at(ADDRESSES_LEN);
            &[header, addresses, tag, rest].map(IoSlice::new)
        }
    };
    // A frame is taken whole or not at all, so the length that comes back says nothing.
    retry_on_intr(|| writev(fd, pieces)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;
    use crate::wire::{Tag, Tpid};

    #[test]
    fn a_tag_lies_behind_the_addresses_and_the_header_before_everything() {
        let (read, write) = pipe();
        let bytes: Vec<u8> = (0..60).collect();
        let frame = TxFrame { bytes: &bytes, tag: Some(Tag(0x0123).to_bytes(Tpid::Service)), vnet: VnetHeader::NONE };
        VnetWriter::new().write(&write, &frame, |_| DropReason::PortRefused).unwrap();
        let expected = [&[0; 10], &bytes[..12], &[0x88, 0xa8, 1, 0x23], &bytes[12..]].concat();
        assert_eq!(content(&read), expected);

        write_plain(&write, &TxFrame { tag: None, ..frame }, |_| DropReason::PortRefused).unwrap();
        assert_eq!(content(&read), bytes);
    }

    #[test]
    fn what_is_no_frame_or_unfinished_is_not_written() {
        let (read, write) = pipe();
        let short = TxFrame::plain(&[0; 13]);
        assert_eq!(VnetWriter::new().write(&write, &short, |_| DropReason::PortRefused), Err(DropReason::Malformed));
        let unfinished = TxFrame {
            vnet: VnetHeader { gso: Some((crate::offload::Gso::Tcp4, 1000)), ..VnetHeader::NONE },
            ..TxFrame::plain(&[0; 3000])
        };
        assert_eq!(write_plain(&write, &unfinished, |_| DropReason::PortRefused), Err(DropReason::BadOffload));
        assert!(content(&read).is_empty());
    }

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
    }

    fn content(read: &OwnedFd) -> Vec<u8> {
        let mut content = vec![0; 1000];
        let len = rustix::io::read(read, &mut content).unwrap_or(0);
        content.truncate(len);
        content
    }
}
