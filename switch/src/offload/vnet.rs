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
}
