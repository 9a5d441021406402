//! Packet sockets: an interface that exists already, such as a veth end or a network card, becomes a port.
//!
//! weft reads every frame that arrives at the interface, whomever it is for, and writes frames out of it. The kernel of that
//! namespace keeps its own copy of what arrives; its own outgoing frames are not read.
//!
//! # Unfinished frames
//! A veth end receives what its peer's stack sends, and that leaves checksums open and hands over super-frames, whether weft
//! wants them or not; a card with GRO makes super-frames, too. A packet socket without PACKET_VNET_HDR would get these
//! very bytes and no word about how to finish them. So the header is always on, and a received frame always comes with
//! what it needs. `offload = false` is about the other direction: [`Port::offloads`] then says "nothing", and the worker
//! finishes and cuts every frame before it gets here, so that what is written is what the wire sees.
//!
//! # Tags
//! The kernel takes the outermost tag off a frame before any packet socket sees it (`net/core/dev.c: __netif_receive_skb_core`,
//! or the card did) and tells in PACKET_AUXDATA what it was. It is put back here: the addresses move four bytes to the
//! front, into the headroom, and the tag goes behind them. The header's offsets count without the tag and move by as much.
//!
//! # What the kernel says when something happens to the interface
//! Tried on Linux 6.18.44:
//!
//! | state | read | write | epoll |
//! |---|---|---|---|
//! | down | ENETDOWN once, then what was queued before, then EAGAIN | ENETDOWN | EPOLLERR until the error is read |
//! | opened while down | the same | ENETDOWN | the same |
//! | up again | as before, with no event of its own | as before | as before |
//! | just set up, its queue not yet attached | as before | taken, and dropped without a word by the `noop` queue | nothing |
//! | deleted, or moved to another namespace | ENETDOWN once, then as down | ENXIO | EPOLLERR until the error is read |
//! | its namespace unmounted (`ip netns del`) | as before | as before | nothing |
//!
//! ENETDOWN means both down and gone; the socket's address tells which, because the kernel takes its interface index away.
//! [`PortError::Down`] is passing: the socket needs nothing to go on when the interface is up again, so it is to be polled on.
//! An error that nobody has read yet when the interface is up again fails the next write.
//!
//! An open packet socket holds a reference to its namespace: one that was deleted by name (`ip netns del`) lives on with all
//! its interfaces until weft closes the port, and no error ever tells.

use std::{
    cell::Cell,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::io::Errno;

use super::{Flushed, Offloads, Port, PortError, RxBatch, TxFrame, gather::VnetWriter, losses::LinkLosses};
pub use crate::sys::packet_socket::PacketError;
use crate::{
    bridge::DropReason,
    buffer::Buffer,
    offload::{VNET_HEADER_LEN, VnetHeader},
    sys::packet_socket::{self, PacketSocket, RECV_MAX, Received},
    wire::vlan::TAG_LEN,
};

/// Bytes of the two addresses at the beginning of a frame, behind which a tag belongs.
const ADDRESSES_LEN: usize = 12;

const _: () = assert!(RxBatch::CAPACITY <= RECV_MAX);
const _: () = assert!(VNET_HEADER_LEN >= TAG_LEN && Buffer::HEADROOM >= VNET_HEADER_LEN);

/// Opens an existing interface of the calling thread's network namespace and returns one queue for each worker. Each frame
/// is read by one of them, all frames of a flow by the same. The interface is put into promiscuous mode while weft has it open.
///
/// `offload`: whether frames may be written unfinished, for the kernel or the card to finish.
///
/// # Errors
/// See [`PacketError`].
pub fn open(interface: &str, queues: usize, offload: bool) -> Result<Vec<PacketQueue>, PacketError> {
    // Writing super-frames needs no consent: what the device can't do, the kernel does before it (validate_xmit_skb).
    let offloads = Offloads { csum: offload, tso4: offload, tso6: offload, uso: offload };
    let sockets = packet_socket::open(interface, queues)?;
    if let Some(given) = sockets.first().and_then(PacketSocket::short_receive_buffer) {
        tracing::warn!(
            interface,
            given,
            asked = packet_socket::RECV_BUFFER,
            "the kernel gives packet sockets less room than weft asks for: net.core.rmem_max limits whoever has no \
             CAP_NET_ADMIN in the first user namespace; bursts may be lost there, and are counted"
        );
    }
    let mut losses = sockets.first().and_then(|socket| LinkLosses::of_interface(socket.index));
    let queue = |socket| PacketQueue {
        socket,
        offloads,
        writer: VnetWriter::new(),
        received: Box::new([Received::default(); RECV_MAX]),
        gone: false,
        socket_drops: Cell::new(0),
        losses: losses.take(),
    };
    Ok(sockets.into_iter().map(queue).collect())
}

/// One worker's queue of an existing interface.
pub struct PacketQueue {
    socket: PacketSocket,
    offloads: Offloads,
    writer: VnetWriter,
    received: Box<[Received; RECV_MAX]>,
    /// The kernel says only once that the interface went away.
    gone: bool,
    socket_drops: Cell<u64>,
    /// Only in the first queue, because the counter is the interface's.
    losses: Option<LinkLosses>,
}

impl PacketQueue {
    /// The interface's index in the namespace where it was opened.
    pub fn interface_index(&self) -> u32 {
        self.socket.index
    }

    /// Super-frames that the kernel refused to take whole and that were cut for it.
    pub fn gso_fallbacks(&self) -> u64 {
        self.writer.fallback_count()
    }
}

impl Port for PacketQueue {
    fn recv(&mut self, batch: &mut RxBatch) -> Result<usize, PortError> {
        let spaces = batch.free_buffers().iter_mut().map(|buffer| buffer.space_with_front(VNET_HEADER_LEN));
        let count = match self.socket.recv_many(spaces, &mut self.received) {
            Ok(count) => count,
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::AGAIN | Errno::INTR) if self.gone => return Err(PortError::Gone),
                Some(Errno::AGAIN | Errno::INTR) => 0,
                Some(Errno::NETDOWN) => {
                    self.gone = self.socket.is_gone();
                    return Err(if self.gone { PortError::Gone } else { PortError::Down });
                }
                // af_packet.c:packet_rcv_vnet: a frame, now lost, that no virtio-net header can describe.
                Some(Errno::INVAL) => {
                    if let Some(buffer) = batch.next_buffer() {
                        buffer.set_frame(0, 0);
                        batch.push(None);
                        return Ok(1);
                    }
                    0
                }
                _ => return Err(PortError::Io(error)),
            },
        };
        for received in &self.received[..count] {
            let Some(buffer) = batch.next_buffer() else { break };
            let vnet = finish(buffer, received);
            batch.push(vnet);
        }
        Ok(count)
    }

    fn send(&mut self, frame: &TxFrame<'_>) -> Result<(), DropReason> {
        self.writer.write(&self.socket, frame, reason)
    }

    fn flush(&mut self) -> Flushed {
        self.writer.take_lost()
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    /// What found this queue's socket full, and on the first queue also what the interface dropped before any socket could
    /// see it. Up to three system calls.
    fn kernel_drops(&self) -> u64 {
        self.socket_drops.update(|known| known + self.socket.take_drops().map_or(0, u64::from));
        self.socket_drops.get() + self.losses.as_ref().map_or(0, LinkLosses::count)
    }

    fn take_link_losses(&mut self) -> Option<LinkLosses> {
        self.losses.take()
    }
}

/// Makes a frame of what was read into `buffer` from the virtio-net header on, its tag put back, and returns the header if it
/// makes sense and the frame is whole.
fn finish(buffer: &mut Buffer, received: &Received) -> Option<VnetHeader> {
    let space = buffer.space_with_front(VNET_HEADER_LEN);
    let frame_len = received.len.min(space.len()).saturating_sub(VNET_HEADER_LEN);
    let header = space.first_chunk().and_then(|bytes| VnetHeader::parse(bytes).ok()).filter(|_| !received.truncated);
    match received.tag {
        Some((tpid, tci)) if frame_len >= ADDRESSES_LEN => {
            const TAG_AT: usize = VNET_HEADER_LEN + ADDRESSES_LEN - TAG_LEN;
            space.copy_within(VNET_HEADER_LEN..VNET_HEADER_LEN + ADDRESSES_LEN, VNET_HEADER_LEN - TAG_LEN);
            space[TAG_AT..TAG_AT + 2].copy_from_slice(&tpid.to_be_bytes());
            space[TAG_AT + 2..TAG_AT + 4].copy_from_slice(&tci.to_be_bytes());
            buffer.set_frame(TAG_LEN, frame_len + TAG_LEN);
            header.map(|header| header.shifted(TAG_LEN as i16))
        }
        _ => {
            buffer.set_frame(0, frame_len);
            header
        }
    }
}

/// Why a packet socket did not take a frame.
fn reason(errno: Errno) -> DropReason {
    match errno {
        // Down; gone (af_packet.c:packet_snd).
        Errno::NETDOWN | Errno::NXIO | Errno::NODEV => DropReason::PortDown,
        Errno::MSGSIZE => DropReason::EgressMtu,
        // The socket's send buffer is full; the interface's queue is.
        Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM => DropReason::PortQueueFull,
        _ => DropReason::PortRefused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::PartialCsum;

    const HEADER: [u8; VNET_HEADER_LEN] = {
        let [start0, start1] = 34u16.to_ne_bytes();
        let [offset0, offset1] = 16u16.to_ne_bytes();
        [1, 0, 0, 0, 0, 0, start0, start1, offset0, offset1]
    };

    #[test]
    fn a_tag_that_the_kernel_took_off_is_put_back() {
        let bytes: Vec<u8> = (0..60).collect();
        let (frame, vnet) = finished(&bytes, Some((0x88a8, 0x6ffe)), false);
        assert_eq!(frame, [&bytes[..12], &[0x88, 0xa8, 0x6f, 0xfe], &bytes[12..]].concat());
        assert_eq!(vnet.unwrap().csum, Some(PartialCsum { start: 38, offset: 16 }));
    }

    #[test]
    fn an_untagged_frame_stays_where_it_is() {
        let bytes: Vec<u8> = (0..60).collect();
        let (frame, vnet) = finished(&bytes, None, false);
        assert_eq!(frame, bytes);
        assert_eq!(vnet.unwrap().csum, Some(PartialCsum { start: 34, offset: 16 }));
    }

    #[test]
    fn a_cut_off_frame_has_no_header_that_could_be_believed() {
        assert_eq!(finished(&[7; 60], None, true).1, None);
        assert_eq!(finished(&[7; 60], Some((0x8100, 1)), true).1, None);
        assert_eq!(finished(&[7; 11], Some((0x8100, 1)), false).0, [7; 11]);
    }

    fn finished(bytes: &[u8], tag: Option<(u16, u16)>, truncated: bool) -> (Vec<u8>, Option<VnetHeader>) {
        let mut buffer = Buffer::new();
        let space = buffer.space_with_front(VNET_HEADER_LEN);
        space[..VNET_HEADER_LEN].copy_from_slice(&HEADER);
        space[VNET_HEADER_LEN..][..bytes.len()].copy_from_slice(bytes);
        let vnet = finish(
            &mut buffer,
            &Received { len: VNET_HEADER_LEN + bytes.len(), tag, truncated, frame_len: bytes.len() },
        );
        (buffer.frame().to_vec(), vnet)
    }
}
