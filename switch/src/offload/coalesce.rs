//! Wire frames put together into super-frames on their way to a port that takes them: the inverse of [`super::segment`].
//!
//! A tap takes a super-frame of 64 KiB with one system call, and the stack behind it walks its headers once. From the
//! underlay frames come one by one. So of all frames of a batch that go to the same port, those of one flow are put
//! together, as the kernel's GRO does for a network card; `piece` has the rules.
//!
//! ```text
//! offered    A1 B1 A2 ack(C) A3 B2 A4(PSH) B3          to one port
//! sent       ack(C) [A1 A2 A3 A4] [B1 B2 B3]           ] closes: no more room, a shorter or last segment, the batch's end
//! ```
//!
//! # Order
//! Frames of a flow leave in the order in which they came. Of a flow, which is known by its addresses and ports alone, at
//! most one super-frame is open; whatever can't continue it lets it depart first. Frames of different flows may overtake one
//! another within a batch. Nothing waits longer than its batch.
//!
//! # Cost
//! The first frame stays where it lies and departs as it is if nothing follows; then nothing was copied or summed. When
//! a second one fits, both are copied behind one another into a buffer. Writing the pieces from where they lie with one
//! `writev` was tried: for 44 pieces of 1,398 bytes, summing and sending took the same 9 to 12 us either way.

mod piece;
#[cfg(test)]
mod tests;

use arrayvec::ArrayVec;

use self::piece::Piece;
use super::{Gso, VnetHeader};
use crate::{
    buffer::MAX_FRAME_LEN,
    ids::PortId,
    wire::{
        TagBytes,
        checksum::sum,
        dissect::{Dissected, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpVersion, L3, L4, L4Kind, dissect},
    },
};

/// Super-frames that can be open at a time. With more flows than that in a batch, one departs to make room.
///
/// A frame of 64 flows that come once each costs about 40 ns with 8, 50 to 60 with 16 or 64 (`cargo bench -p weft-bench
/// --bench offload`, "put together").
pub const FLOW_COUNT: usize = 8;

const ALL_FREE: u64 = u64::MAX >> (u64::BITS as usize - FLOW_COUNT);

/// A frame that leaves by a port, one or several wire frames.
#[derive(Clone, Copy, Debug)]
pub struct Departure<'a> {
    /// The port.
    pub port: PortId,
    /// The tag that the port is to put on.
    pub tag: Option<TagBytes>,
    /// The frame without that tag.
    pub bytes: &'a [u8],
    /// What its receiver has to finish; offsets count in `bytes`.
    pub vnet: VnetHeader,
    /// How many wire frames it is.
    pub frames: u32,
}

/// Memory for open super-frames, kept from batch to batch.
pub struct Room {
    buffers: Box<[u8]>,
    /// One bit for each buffer that is not in use; the lowest is taken first, which is likely to be in the cache.
    free: u64,
}

impl Room {
    /// Memory for [`FLOW_COUNT`] super-frames. Its pages cost nothing until they are reached.
    pub fn new() -> Self {
        Self { buffers: vec![0; FLOW_COUNT * MAX_FRAME_LEN].into_boxed_slice(), free: ALL_FREE }
    }

    fn take(&mut self) -> Option<u8> {
        let index = self.free.trailing_zeros();
        self.free &= self.free.wrapping_sub(1);
        (index < FLOW_COUNT as u32).then_some(index as u8)
    }

    fn give_back(&mut self, index: u8) {
        self.free |= 1 << index;
    }

    #[inline]
    fn buffer(&mut self, index: u8) -> &mut [u8] {
        &mut self.buffers[usize::from(index) * MAX_FRAME_LEN..][..MAX_FRAME_LEN]
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts together what leaves in one batch, whose frames live for `'b`.
///
/// It must be flushed before it is dropped, or frames are lost.
pub struct Coalescer<'b> {
    flows: ArrayVec<Flow<'b>, FLOW_COUNT>,
    /// Of each flow, at the same place.
    keys: ArrayVec<Key, FLOW_COUNT>,
    /// The flow that departs next for lack of room.
    oldest: usize,
    room: &'b mut Room,
}

impl<'b> Coalescer<'b> {
    /// Nothing is open.
    #[inline]
    pub fn new(room: &'b mut Room) -> Self {
        room.free = ALL_FREE;
        Self { flows: ArrayVec::new(), keys: ArrayVec::new(), oldest: 0, room }
    }

    /// Takes a frame whose port `takes` super-frames of this kind, with open checksums. True: it is kept, and `send` will
    /// get it later. False: it is to be sent now. `send` is given what has to leave before.
    #[inline]
    pub fn offer(
        &mut self,
        departure: Departure<'b>,
        takes: impl FnOnce(Gso) -> bool,
        mut send: impl FnMut(&Departure<'_>),
    ) -> bool {
        let Dissected { l3: Some(l3), l4, .. } = dissect(departure.bytes) else { return false };
        let Some(l4) = l4 else {
            // A fragment: of which flow, only its first one could tell.
            self.depart_each(|flow| flow.has_addresses(&departure, &l3), send);
            return false;
        };
        if l4.kind == L4Kind::Other {
            return false;
        }
        let key = Key::of(departure.port, &l4);
        let mut flows = self.keys.iter().zip(&self.flows);
        let open = flows.position(|(other, flow)| *other == key && flow.has_addresses(&departure, &l3));
        let Some(piece) = Piece::of(departure, &l3, &l4).filter(|piece| takes(piece.gso)) else {
            if let Some(at) = open {
                self.depart(at, &mut send);
            }
            return false;
        };
        if let Some(at) = open {
            match self.flows[at].join(&piece, self.room) {
                Joined::Open => return true,
                Joined::Last => {
                    self.depart(at, &mut send);
                    return true;
                }
                Joined::Not => self.depart(at, &mut send),
            }
        }
        if !piece.is_first() {
            return false;
        }
        self.open(key, piece, &mut send);
        true
    }

    /// Gives `send` everything that is kept for a port.
    pub fn flush_port(&mut self, port: PortId, send: impl FnMut(&Departure<'_>)) {
        self.depart_each(|flow| flow.first.departure.port == port, send);
    }

    /// Gives `send` everything that is kept.
    #[inline]
    pub fn flush(&mut self, mut send: impl FnMut(&Departure<'_>)) {
        self.keys.clear();
        for flow in self.flows.drain(..) {
            flow.depart(self.room, &mut send);
        }
    }

    fn open(&mut self, key: Key, piece: Piece<'b>, send: &mut impl FnMut(&Departure<'_>)) {
        let flow = Flow::open(piece);
        if self.flows.is_full() {
            self.keys[self.oldest] = key;
            std::mem::replace(&mut self.flows[self.oldest], flow).depart(self.room, send);
            self.oldest = (self.oldest + 1) % FLOW_COUNT;
        } else {
            self.keys.push(key);
            self.flows.push(flow);
        }
    }

    fn depart_each(&mut self, which: impl Fn(&Flow<'b>) -> bool, mut send: impl FnMut(&Departure<'_>)) {
        let mut at = 0;
        while let Some(flow) = self.flows.get(at) {
            if which(flow) {
                self.depart(at, &mut send);
            } else {
                at += 1;
            }
        }
    }

    fn depart(&mut self, at: usize, send: &mut impl FnMut(&Departure<'_>)) {
        self.keys.swap_remove(at);
        self.flows.swap_remove(at).depart(self.room, send);
    }
}

/// What tells most flows of most ports apart.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key(u64);

impl Key {
    #[inline]
    fn of(port: PortId, l4: &L4) -> Self {
        let [[a, b], [c, d], [e, f]] = [l4.src_port, l4.dst_port, port.0].map(u16::to_ne_bytes);
        Self(u64::from_ne_bytes([a, b, c, d, e, f, l4.kind as u8, 0]))
    }
}

/// What became of a frame that was to join a super-frame.
enum Joined {
    /// It did, and more can follow.
    Open,
    /// It did, as the last.
    Last,
    /// It can't.
    Not,
}

/// An open super-frame: a frame that another may join, or several that are put together already.
struct Flow<'b> {
    first: Piece<'b>,
    /// Where the frames are put together; none while there is only the first.
    buffer: Option<u8>,
    /// Bytes of all: the headers of the first, and every payload.
    len: u32,
    /// Wire frames.
    frames: u32,
    /// PSH and FIN of the last.
    last_flags: u16,
}

impl<'b> Flow<'b> {
    fn open(first: Piece<'b>) -> Self {
        let Departure { bytes, frames, .. } = first.departure;
        Self { first, buffer: None, len: bytes.len() as u32, frames, last_flags: 0 }
    }

    /// Whether a packet goes by the same port from and to the same addresses.
    #[inline]
    fn has_addresses(&self, departure: &Departure<'_>, l3: &L3) -> bool {
        let first = &self.first;
        departure.port == first.departure.port
            && l3.version == first.l3.version
            && l3.addresses(departure.bytes) == first.l3.addresses(first.departure.bytes)
    }

    #[inline]
    fn join(&mut self, piece: &Piece<'b>, room: &mut Room) -> Joined {
        let first = &self.first;
        let len = self.len as usize;
        let payload_len = len - first.header_len();
        if !piece.continues(first, payload_len, self.frames) || !piece.checksums_hold() {
            return Joined::Not;
        }
        let buffer = match self.buffer {
            Some(buffer) => room.buffer(buffer),
            None if first.checksums_hold() => {
                let Some(index) = room.take() else { return Joined::Not };
                self.buffer = Some(index);
                let buffer = room.buffer(index);
                buffer[..len].copy_from_slice(first.departure.bytes);
                buffer
            }
            None => return Joined::Not,
        };
        let payload = piece.payload();
        buffer[len..len + payload.len()].copy_from_slice(payload);
        self.len += payload.len() as u32;
        self.frames += piece.departure.frames;
        self.last_flags = piece.last_flags();
        let with_next = payload_len + payload.len() + first.gso_size();
        if piece.is_last(first) || !first.has_room(with_next, self.frames + 1) { Joined::Last } else { Joined::Open }
    }

    fn depart(self, room: &mut Room, send: &mut impl FnMut(&Departure<'_>)) {
        let departure = self.first.departure;
        let Some(index) = self.buffer else { return send(&departure) };
        let bytes = &mut room.buffer(index)[..self.len as usize];
        self.finish(bytes);
        send(&Departure { bytes, vnet: self.first.vnet(), frames: self.frames, ..departure });
        room.give_back(index);
    }

    /// Makes the headers of the first frame, at the beginning of `bytes`, those of the super-frame.
    fn finish(&self, bytes: &mut [u8]) {
        let first = &self.first;
        // No packet is longer than 16 bits can say: `Piece::has_room`.
        let l4_len = bytes.len() - first.l4_offset();
        let (headers, _) = bytes.split_at_mut(first.header_len());
        let (before, l4) = headers.split_at_mut(first.l4_offset());
        let packet = &mut before[usize::from(first.l3.offset)..];
        match first.l3.version {
            IpVersion::V4 => {
                write16(packet, 2, (IPV4_HEADER_LEN + l4_len) as u16);
                write16(packet, 10, 0);
                write16(packet, 10, sum(packet).checksum());
            }
            IpVersion::V6 => write16(packet, 4, (packet.len() - IPV6_HEADER_LEN + l4_len) as u16),
        }
        match first.gso {
            Gso::Tcp4 | Gso::Tcp6 => l4[13] |= self.last_flags as u8,
            Gso::Udp => write16(l4, 4, l4_len as u16),
        }
        write16(l4, usize::from(first.checksum_offset()), first.pseudo(l4_len).fold());
    }
}

#[inline(always)]
fn write16(bytes: &mut [u8], offset: usize, value: u16) {
    bytes[offset..offset + 2].copy_from_slice(&value.to_be_bytes());
}
