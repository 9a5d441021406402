//! The virtio-net header that travels beside every frame of a tap or packet socket with offloads.
//!
//! Layout: `struct virtio_net_hdr` in `include/uapi/linux/virtio_net.h`, 10 bytes, in host byte order (taps and packet
//! sockets default to it on every machine that weft runs on):
//!
//! ```text
//!  0        1          2          4          6            8             10
//! +--------+----------+----------+----------+------------+-------------+
//! | flags  | gso_type | hdr_len  | gso_size | csum_start | csum_offset |
//! +--------+----------+----------+----------+------------+-------------+
//! ```

use crate::wire::dissect::{L4Kind, TCP_HEADER_LEN, UDP_HEADER_LEN, dissect};

/// How a super-frame is to be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gso {
    /// TCP over IPv4 (`VIRTIO_NET_HDR_GSO_TCPV4`).
    Tcp4,
    /// TCP over IPv6 (`VIRTIO_NET_HDR_GSO_TCPV6`).
    Tcp6,
    /// UDP over IPv4 or IPv6, cut into datagrams (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    Udp,
}

/// What the sender left undone: a checksum to complete, a super-frame to cut.
///
/// Offsets count from the first byte of the Ethernet header of the frame *as it lies beside this header*; whoever takes
/// a tag off or puts one on moves them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VnetHeader {
    /// Where a checksum is to be completed; `None` if the frame's checksums are complete.
    pub csum: Option<PartialCsum>,
    /// How to cut the frame; `None` if it is one wire frame. `gso_size` is the payload bytes of each segment.
    pub gso: Option<(Gso, u16)>,
    /// TCP super-frame whose first segment carries CWR (`VIRTIO_NET_HDR_GSO_ECN`).
    pub gso_ecn: bool,
}

/// A checksum that covers `start..` and is to be stored at `start + offset`; the pseudo header's sum stands there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartialCsum {
    /// First byte that is summed.
    pub start: u16,
    /// Where the checksum field lies, counted from `start`.
    pub offset: u16,
}

impl VnetHeader {
    /// A whole frame with complete checksums.
    pub const NONE: Self = Self { csum: None, gso: None, gso_ecn: false };

    /// Whether nothing is left to do.
    #[inline]
    pub const fn is_none(&self) -> bool {
        self.csum.is_none() && self.gso.is_none()
    }
}

/// Bytes of a virtio-net header.
pub const VNET_HEADER_LEN: usize = 10;

/// Why ten bytes are no virtio-net header that weft knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadVnet {
    /// A way of cutting that weft never offers (UDP fragmentation, tunnels), or a combination that means nothing.
    #[error("unknown gso_type {0:#04x}")]
    GsoType(u8),
    /// A super-frame to be cut into segments of no bytes.
    #[error("gso_size is zero")]
    GsoSizeZero,
}

impl VnetHeader {
    /// Reads a header. Whether it fits the frame beside it is checked where it is acted upon: [`super::wire_frames`],
    /// [`super::Segments::new`].
    ///
    /// `hdr_len` is not looked at: the kernel writes the length of the linear part of its buffer there
    /// (`virtio_net_hdr_from_skb`), which on the forwarding path can be the whole frame. `VIRTIO_NET_HDR_F_DATA_VALID` means that somebody verified the
    /// checksum, so it is complete.
    ///
    /// # Errors
    /// [`BadVnet`] for a `gso_type` other than TCP (with or without ECN) and UDP segmentation, and for segments of no bytes.
    pub fn parse(bytes: &[u8; VNET_HEADER_LEN]) -> Result<Self, BadVnet> {
        let &[flags, gso_type, _, _, size0, size1, start0, start1, offset0, offset1] = bytes;
        let gso = match gso_type & !GSO_ECN {
            GSO_NONE => None,
            GSO_TCPV4 => Some(Gso::Tcp4),
            GSO_TCPV6 => Some(Gso::Tcp6),
            GSO_UDP_L4 => Some(Gso::Udp),
            _ => return Err(BadVnet::GsoType(gso_type)),
        };
        let gso_ecn = gso_type & GSO_ECN != 0;
        if gso_ecn && !matches!(gso, Some(Gso::Tcp4 | Gso::Tcp6)) {
            return Err(BadVnet::GsoType(gso_type));
        }
        let gso_size = u16::from_ne_bytes([size0, size1]);
        if gso.is_some() && gso_size == 0 {
            return Err(BadVnet::GsoSizeZero);
        }
        let csum = (flags & NEEDS_CSUM != 0).then(|| PartialCsum {
            start: u16::from_ne_bytes([start0, start1]),
            offset: u16::from_ne_bytes([offset0, offset1]),
        });
        Ok(Self { csum, gso: gso.map(|gso| (gso, gso_size)), gso_ecn })
    }

    /// The ten bytes to write before `frame`.
    ///
    /// Here `hdr_len` matters: the kernel pulls that many bytes into the linear part of its buffer, and cuts behind
    /// the headers. So it is found by parsing `frame`, and corrected by what [`VnetHeader::shifted`] did to `csum`.
    pub fn to_bytes(&self, frame: &[u8]) -> [u8; VNET_HEADER_LEN] {
        let flags = if self.csum.is_some() { NEEDS_CSUM } else { 0 };
        let csum = self.csum.unwrap_or(PartialCsum { start: 0, offset: 0 });
        let (gso_type, gso_size, hdr_len) = match self.gso {
            None => (GSO_NONE, 0, 0),
            Some((gso, size)) => (gso.to_wire() | if self.gso_ecn { GSO_ECN } else { 0 }, size, self.hdr_len(frame)),
        };
        let [len0, len1] = hdr_len.to_ne_bytes();
        let [size0, size1] = gso_size.to_ne_bytes();
        let [start0, start1] = csum.start.to_ne_bytes();
        let [offset0, offset1] = csum.offset.to_ne_bytes();
        [flags, gso_type, len0, len1, size0, size1, start0, start1, offset0, offset1]
    }

    /// This header for the same frame with `by` more bytes before its IP header: +4 where a tag is put on, -4 where
    /// one is taken off.
    #[must_use]
    pub const fn shifted(self, by: i16) -> Self {
        match self.csum {
            Some(PartialCsum { start, offset }) => {
                Self { csum: Some(PartialCsum { start: start.saturating_add_signed(by), offset }), ..self }
            }
            None => self,
        }
    }

    /// Bytes of all headers, the transport header included; 0 if there is none.
    fn hdr_len(&self, frame: &[u8]) -> u16 {
        let Some(l4) = dissect(frame).l4 else { return 0 };
        let header_len = match l4.kind {
            L4Kind::Tcp => frame.get(usize::from(l4.offset) + 12).map_or(TCP_HEADER_LEN, |b| usize::from(b >> 4) * 4),
            L4Kind::Udp => UDP_HEADER_LEN,
            L4Kind::Other => 0,
        };
        self.csum.map_or(l4.offset, |csum| csum.start).saturating_add(header_len as u16)
    }
}

impl Gso {
    const fn to_wire(self) -> u8 {
        match self {
            Self::Tcp4 => GSO_TCPV4,
            Self::Tcp6 => GSO_TCPV6,
            Self::Udp => GSO_UDP_L4,
        }
    }
}

// include/uapi/linux/virtio_net.h: VIRTIO_NET_HDR_F_* and VIRTIO_NET_HDR_GSO_*
const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::offload::testing::Sample;

    #[test]
    fn reads_what_the_kernel_writes_for_a_tcp_super_frame() {
        // Read from a tap on 6.18 for a forwarded super-frame of 166 bytes with 66 bytes of headers: `hdr_len` says 166.
        let mut bytes = [1, 0x81, 0, 0, 0, 0, 0, 0, 0, 0];
        for (at, value) in [(2, 166_u16), (4, 40), (6, 34), (8, 16)] {
            bytes[at..at + 2].copy_from_slice(&value.to_ne_bytes());
        }
        let header =
            VnetHeader { csum: Some(PartialCsum { start: 34, offset: 16 }), gso: Some((Gso::Tcp4, 40)), gso_ecn: true };
        assert_eq!(VnetHeader::parse(&bytes), Ok(header));
    }

    #[test]
    fn a_verified_checksum_is_complete() {
        assert_eq!(VnetHeader::parse(&[2, 0, 0, 0, 0, 0, 9, 9, 9, 9]), Ok(VnetHeader::NONE));
    }

    #[test]
    fn unknown_ways_of_cutting_are_refused() {
        for gso_type in [2, 3, 6, 0x21, 0x41, 0x80, 0x83, 0x85, 0xff] {
            let bytes = [1, gso_type, 0, 0, 9, 9, 0, 0, 0, 0];
            assert_eq!(VnetHeader::parse(&bytes), Err(BadVnet::GsoType(gso_type)));
        }
        assert_eq!(VnetHeader::parse(&[1, 1, 0, 0, 0, 0, 0, 0, 0, 0]), Err(BadVnet::GsoSizeZero));
    }

    #[test]
    fn a_tag_shifts_the_start_and_the_header_length() {
        let sample = Sample::tcp4(3000).gso(1000);
        let bytes = sample.vnet.to_bytes(&sample.frame);
        assert_eq!(u16::from_ne_bytes([bytes[2], bytes[3]]), 14 + 20 + 20);
        let shifted = sample.vnet.shifted(4).to_bytes(&sample.frame);
        assert_eq!(u16::from_ne_bytes([shifted[2], shifted[3]]), 14 + 4 + 20 + 20);
        assert_eq!(u16::from_ne_bytes([shifted[6], shifted[7]]), 14 + 4 + 20);
        assert_eq!(sample.vnet.shifted(4).shifted(-4), sample.vnet);
        assert_eq!(VnetHeader::NONE.shifted(4), VnetHeader::NONE);
    }

    prop_compose! {
        fn any_header()(
            csum in proptest::option::of(any::<(u16, u16)>()),
            gso in proptest::option::of((0..3usize, 1..=u16::MAX)),
            ecn in any::<bool>(),
        ) -> VnetHeader {
            let gso = gso.map(|(which, size)| ([Gso::Tcp4, Gso::Tcp6, Gso::Udp][which], size));
            VnetHeader {
                csum: csum.map(|(start, offset)| PartialCsum { start, offset }),
                gso,
                gso_ecn: ecn && matches!(gso, Some((Gso::Tcp4 | Gso::Tcp6, _))),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(header in any_header(), frame in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(VnetHeader::parse(&header.to_bytes(&frame)), Ok(header));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: [u8; 10]) {
            if let Ok(header) = VnetHeader::parse(&bytes) {
                prop_assert_eq!(VnetHeader::parse(&header.to_bytes(&[])), Ok(header));
            }
        }
    }
}
