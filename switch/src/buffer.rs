//! Memory for frames on their way: allocated once a worker, reused for every batch.

/// The largest frame that a port hands over: a 64 KiB super-frame with its Ethernet header and two tags.
pub const MAX_FRAME_LEN: usize = 65_536 + 14 + 8;

/// Bytes for one frame, with its bounds.
///
/// ```text
/// | headroom | frame         | unused |
/// 0          start           end      CAPACITY
/// ```
/// The headroom takes what a reader finds in front of a frame (a virtio-net header) and what it has to put back (a tag
/// that the kernel took off).
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// Room in front of a frame: a 12-byte virtio-net header and a tag, rounded up to a cache line.
    pub const HEADROOM: usize = 64;
    /// Bytes of a buffer in all.
    pub const CAPACITY: usize = Self::HEADROOM + MAX_FRAME_LEN;

    /// A new empty buffer. Its pages cost nothing until a frame reaches them.
    pub fn new() -> Self {
        Self { bytes: vec![0; Self::CAPACITY].into_boxed_slice(), start: Self::HEADROOM, end: Self::HEADROOM }
    }

    /// All bytes behind the headroom, for a reader to fill; [`Buffer::set_frame`] says afterwards what it found.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[Self::HEADROOM..]
    }

    /// The last `front` bytes of the headroom and everything behind, for a reader that finds a header before the frame.
    pub fn space_with_front(&mut self, front: usize) -> &mut [u8] {
        &mut self.bytes[Self::HEADROOM - front..]
    }

    /// Declares that a frame of `len` bytes now begins `front` bytes before the end of the headroom (0: right behind it).
    pub fn set_frame(&mut self, front: usize, len: usize) {
        self.start = Self::HEADROOM - front;
        self.end = (self.start + len).min(Self::CAPACITY);
    }

    /// The frame.
    #[inline]
    pub fn frame(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The frame, to be changed in place.
    #[inline]
    pub fn frame_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new()
    }
}
