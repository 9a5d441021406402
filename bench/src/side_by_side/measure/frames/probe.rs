//! The frames that are sent.
//!
//! ```text
//! | virtio-net header | Ethernet | IPv4 | UDP | number | run | 0 |
//!        10, zero          14      20     8      8      4    6        60 bytes behind the first ten
//! ```

use weft::{offload::VNET_HEADER_LEN, wire::checksum::sum};

/// Flows that the frames belong to, told apart by their source ports.
pub(super) const FLOWS: u64 = 16;
/// The number of the frames that only open the path; each of them has it.
pub(super) const OPENING: u64 = u64::MAX;

/// Bytes of a frame on Ethernet without its checksum: the shortest.
const FRAME_LEN: usize = 60;
/// Bytes of a frame behind its virtio-net header, as sockets take it.
pub(super) const LEN: usize = VNET_HEADER_LEN + FRAME_LEN;

const GENERATOR: [u8; 6] = [2, 0, 0, 0, 0x5b, 1];
const SINK: [u8; 6] = [2, 0, 0, 0, 0x5b, 2];
/// For benchmarks (RFC 2544 and 6890), two that no station has.
const ADDRESSES: [u8; 8] = [198, 18, 0, 1, 198, 19, 0, 1];
/// From here on the source ports of the flows go.
const FIRST_PORT: u16 = 40_000;
/// Discard (RFC 863).
const DISCARD: u16 = 9;

const IP_AT: usize = VNET_HEADER_LEN + 14;
const UDP_AT: usize = IP_AT + 20;
const NUMBER_AT: usize = UDP_AT + 8;
const RUN_AT: usize = NUMBER_AT + 8;

/// A frame of this run, from the generator to the sink; its number is yet to be set.
pub(super) fn frame(run: u32) -> [u8; LEN] {
    let mut frame = [0; LEN];
    frame[VNET_HEADER_LEN..][..6].copy_from_slice(&SINK);
    frame[VNET_HEADER_LEN + 6..][..6].copy_from_slice(&GENERATOR);
    frame[IP_AT - 2..][..2].copy_from_slice(&[8, 0]);
    let ip = [0x45, 0, 0, (LEN - IP_AT) as u8, 0, 0, 0x40, 0, 64, 17, 0, 0];
    frame[IP_AT..][..12].copy_from_slice(&ip);
    frame[IP_AT + 12..][..8].copy_from_slice(&ADDRESSES);
    let checksum = sum(&frame[IP_AT..UDP_AT]).checksum();
    frame[IP_AT + 10..][..2].copy_from_slice(&checksum.to_be_bytes());
    frame[UDP_AT + 2..][..2].copy_from_slice(&DISCARD.to_be_bytes());
    // No UDP checksum, which IPv4 allows.
    frame[UDP_AT + 4..][..2].copy_from_slice(&((LEN - UDP_AT) as u16).to_be_bytes());
    frame[RUN_AT..][..4].copy_from_slice(&run.to_be_bytes());
    frame
}

/// Numbers a frame, which also gives it a flow.
pub(super) fn set_number(frame: &mut [u8; LEN], number: u64) {
    let port = FIRST_PORT + (number % FLOWS) as u16;
    frame[UDP_AT..][..2].copy_from_slice(&port.to_be_bytes());
    frame[NUMBER_AT..][..8].copy_from_slice(&number.to_be_bytes());
}

/// The number of a received frame with its virtio-net header; `None`: it is not one of this run.
pub(super) fn number_of(bytes: &[u8], run: u32) -> Option<u64> {
    let of_run = bytes.get(RUN_AT..RUN_AT + 4)? == run.to_be_bytes() && bytes[IP_AT + 12..][..8] == ADDRESSES;
    let number = bytes[NUMBER_AT..].first_chunk().copied();
    of_run.then(|| number.map(u64::from_be_bytes)).flatten()
}

/// A broadcast that shows the switches where the sink is.
pub(super) fn announcement() -> [u8; LEN] {
    // For local experiments (IEEE 802): kernels ignore it.
    const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];
    let mut frame = [0; LEN];
    frame[VNET_HEADER_LEN..][..6].fill(0xff);
    frame[VNET_HEADER_LEN + 6..][..6].copy_from_slice(&SINK);
    frame[IP_AT - 2..][..2].copy_from_slice(&ETHER_TYPE);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_known_by_its_run_and_number() {
        let mut bytes = frame(7);
        set_number(&mut bytes, 0x0102_0304_0506_0708);
        assert_eq!(number_of(&bytes, 7), Some(0x0102_0304_0506_0708));
        assert_eq!(number_of(&bytes, 8), None);
        assert_eq!(number_of(&bytes[..LEN - 20], 7), None);
        assert_eq!(number_of(&announcement(), 0), None);
        assert_eq!(number_of(&[], 0), None);
    }
}
