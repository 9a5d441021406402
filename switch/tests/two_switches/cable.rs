//! What joins a host to its port: smoltcp's device over the far ends of the port's queues, and what a network card with
//! offloads would do for the host.

use smoltcp::{
    phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken},
    time::Instant,
    wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket},
};
use weft::{
    offload::{Gso, PartialCsum, VnetHeader},
    port::{
        fault::{FaultCounters, FaultCounts},
        memory::MemoryHost,
    },
};

const ETHERNET_LEN: usize = 14;
const MTU: usize = 1500;
/// Of a host whose card cuts what it sends.
const OFFLOADED_MTU: usize = 65_000;

/// The far end of one of a port's queues.
pub(crate) struct End {
    pub(crate) queue: MemoryHost,
    pub(crate) faults: FaultCounters,
}

/// What went one way.
#[derive(Clone, Copy, Default)]
pub(crate) struct Traffic {
    /// A super-frame counts once.
    pub(crate) frames: u64,
    /// A super-frame counts as the segments that it is on the wire.
    pub(crate) wire_frames: u64,
}

/// A cable, and the card at the host's end.
pub(crate) struct Cable {
    /// Empty when it is unplugged.
    ends: Vec<End>,
    offload: bool,
    pub(crate) sent: Traffic,
    pub(crate) received: Traffic,
}

impl Cable {
    pub(crate) fn new(ends: Vec<End>, offload: bool) -> Self {
        Self { ends, offload, sent: Traffic::default(), received: Traffic::default() }
    }

    pub(crate) fn unplug(&mut self) {
        self.ends.clear();
    }

    /// What its queues did to frames, together.
    pub(crate) fn faults(&self, direction: fn(&FaultCounters) -> FaultCounts) -> FaultCounts {
        self.ends.iter().map(|end| direction(&end.faults)).fold(FaultCounts::default(), |sum, one| FaultCounts {
            offered: sum.offered + one.offered,
            passed: sum.passed + one.passed,
            lost: sum.lost + one.lost,
            duplicated: sum.duplicated + one.duplicated,
            reordered: sum.reordered + one.reordered,
            corrupted: sum.corrupted + one.corrupted,
            refused: sum.refused + one.refused,
            held: sum.held + one.held,
        })
    }

    fn send(&mut self, mut bytes: Vec<u8>) {
        let vnet = if self.offload { leave_to_others(&mut bytes) } else { VnetHeader::NONE };
        self.sent.frames += 1;
        self.sent.wire_frames += wire_frames(&bytes, &vnet);
        let queue = flow(&bytes) % self.ends.len();
        self.ends[queue].queue.send(&bytes, vnet).expect("the queue is longer than a window");
    }
}

impl Device for Cable {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Sender<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Frame, Sender<'_>)> {
        let (mut bytes, vnet) = self.ends.iter_mut().find_map(|end| end.queue.try_recv())?;
        assert!(self.offload || vnet == VnetHeader::NONE, "the port has no offloads: {vnet:?}");
        self.received.frames += 1;
        self.received.wire_frames += wire_frames(&bytes, &vnet);
        if let Some(csum) = vnet.csum {
            finish(&mut bytes, csum);
        }
        Some((Frame(bytes), Sender(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sender<'_>> {
        (!self.ends.is_empty()).then_some(Sender(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = ETHERNET_LEN + if self.offload { OFFLOADED_MTU } else { MTU };
        capabilities
    }
}

pub(crate) struct Frame(Vec<u8>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(crate) struct Sender<'a>(&'a mut Cable);

impl TxToken for Sender<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = vec![0; len];
        let result = f(&mut bytes);
        self.0.send(bytes);
        result
    }
}

/// Where the TCP header of a frame is, if it has one, and what its IP header is.
fn tcp(bytes: &[u8]) -> Option<(usize, Gso)> {
    let frame = EthernetFrame::new_checked(bytes).ok()?;
    match frame.ethertype() {
        EthernetProtocol::Ipv4 => {
            let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
            let start = ETHERNET_LEN + usize::from(packet.header_len());
            (packet.next_header() == IpProtocol::Tcp).then_some((start, Gso::Tcp4))
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
            let start = ETHERNET_LEN + packet.header_len();
            (packet.next_header() == IpProtocol::Tcp).then_some((start, Gso::Tcp6))
        }
        EthernetProtocol::Arp | EthernetProtocol::Unknown(_) => None,
    }
}

/// What a kernel does above a card with offloads: of a TCP checksum only the pseudo-header is summed, and more than a segment
/// is left to be cut.
fn leave_to_others(bytes: &mut [u8]) -> VnetHeader {
    let Some((start, gso)) = tcp(bytes) else {
        return VnetHeader::NONE;
    };
    let (header, transport) = bytes.split_at_mut(start);
    let addresses = &header[if gso == Gso::Tcp4 { ETHERNET_LEN + 12 } else { ETHERNET_LEN + 8 }..start];
    // Protocol and length, each a 16-bit word of the pseudo-header: RFC 9293, 3.1.
    let rest = [0, 6].into_iter().chain((transport.len() as u16).to_be_bytes());
    let pseudo = sum(addresses.iter().copied().chain(rest));
    transport[16..18].copy_from_slice(&pseudo.to_be_bytes());
    let header_len = usize::from(TcpPacket::new_unchecked(&*transport).header_len());
    let max_payload = MTU - (start - ETHERNET_LEN) - header_len;
    VnetHeader {
        csum: Some(PartialCsum { start: start as u16, offset: 16 }),
        gso: (transport.len() - header_len > max_payload).then_some((gso, max_payload as u16)),
        gso_ecn: false,
    }
}

/// What a card does with a checksum that was left to it.
fn finish(bytes: &mut [u8], csum: PartialCsum) {
    let rest = &mut bytes[usize::from(csum.start)..];
    let field = usize::from(csum.offset);
    let checksum = !sum(rest.iter().copied());
    rest[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// The one's complement sum of 16-bit words in network byte order (RFC 1071).
fn sum(mut bytes: impl Iterator<Item = u8>) -> u16 {
    let mut sum = 0u64;
    while let Some(high) = bytes.next() {
        sum += u64::from(u16::from_be_bytes([high, bytes.next().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

fn wire_frames(bytes: &[u8], vnet: &VnetHeader) -> u64 {
    let Some((_, size)) = vnet.gso else { return 1 };
    let (start, _) = tcp(bytes).expect("only TCP is put together here");
    let header_len = usize::from(TcpPacket::new_unchecked(&bytes[start..]).header_len());
    (bytes.len() - start - header_len).div_ceil(usize::from(size)) as u64
}

/// A number that is the same for all frames of a flow: from the addresses, and TCP's ports.
fn flow(bytes: &[u8]) -> usize {
    let end = tcp(bytes).map_or(12, |(start, _)| start + 4);
    let start = if end == 12 { 0 } else { end - 12 };
    bytes[start..end].iter().fold(0, |sum, byte| sum * 31 + usize::from(*byte)) >> 3
}
