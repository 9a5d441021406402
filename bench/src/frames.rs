//! Frames as a tap hands them over, their transport checksums not completed.

use weft::wire::{Tag, Tpid, checksum::sum, vlan::push};

/// Bytes from a seeded generator: the same in every run.
pub fn random(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(len as u64);
    (0..len).map(|_| random.u8(..)).collect()
}

/// TCP over IPv4 from 10.0.0.1:40000 to 10.0.0.2:5201.
pub fn tcp4(payload_len: usize) -> Vec<u8> {
    ethernet(&[8, 0], ipv4(6, [&TCP[..], &random(payload_len)].concat()))
}

/// TCP over IPv6 from `[fd00::1]:40000` to `[fd00::2]:5201`.
pub fn tcp6(payload_len: usize) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(((TCP.len() + payload_len) as u16).to_be_bytes());
    packet.extend([6, 64]);
    for last in [1, 2] {
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend(TCP);
    packet.extend(random(payload_len));
    ethernet(&[0x86, 0xdd], packet)
}

/// UDP over IPv4 from 10.0.0.1:40000 to 10.0.0.2:5201.
pub fn udp4(payload_len: usize) -> Vec<u8> {
    let mut datagram = TCP[..4].to_vec();
    datagram.extend(((8 + payload_len) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(random(payload_len));
    ethernet(&[8, 0], ipv4(17, datagram))
}

/// `frame` in a VLAN.
pub fn tagged(frame: &[u8], vid: u16) -> Vec<u8> {
    let mut room = [&[0; 4][..], frame].concat();
    push(&mut room, Tag(vid).to_bytes(Tpid::Customer)).expect("a frame has room for its addresses");
    room
}

/// Ports 40000 and 5201, ACK and PSH, 20 bytes.
const TCP: [u8; 20] = [0x9c, 0x40, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0];

fn ipv4(protocol: u8, payload: Vec<u8>) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let total_len = (packet.len() + payload.len()) as u16;
    packet[2..4].copy_from_slice(&total_len.to_be_bytes());
    let checksum = sum(&packet).checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(payload);
    packet
}

fn ethernet(ether_type: &[u8; 2], packet: Vec<u8>) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend(ether_type);
    frame.extend(packet);
    frame
}
