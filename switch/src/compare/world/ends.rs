//! The test's ends of a side's cables: frames go in, frames come out, and everything on its way has arrived.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::CompareError;
use crate::{
    compare::{
        case::{Bytes, Checksum, Datagram, LOCAL, PORTS, UNDERLAY},
        frame,
        observe::Frames,
    },
    lab::{Lab, Namespace},
    offload::VNET_HEADER_LEN,
    sys::packet_socket::{self, PacketSocket, RECV_MAX, Received},
    wire::{MacAddr, describe::describe},
};

/// How long anything may take before it is given up: emulated machines are slow.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long what the kernel does with the next tick of its clock may take: it has 100 of them a second at least.
pub(super) const TICK: Duration = Duration::from_millis(12);
/// The MTU of the test's ends: they take whatever a side sends.
pub(super) const END_MTU: u32 = 9000;
/// The MTU of the underlay.
pub(super) const UNDERLAY_MTU: u32 = 1500;
/// The interface of the underlay on a side.
pub(super) const UNDERLAY_NAME: &str = "u0";
/// The address of the interface at a side's end of the underlay.
pub(super) const UNDERLAY_MAC: MacAddr = MacAddr::new([2, 0, 0, 0, 2, 1]);
/// That of all VTEPs at the other end.
pub(super) const FAR_MAC: MacAddr = MacAddr::new([2, 0, 0, 0, 2, 2]);

/// A datagram on the wire, from the far end of the underlay to the side.
pub(in crate::compare) fn datagram_frame(datagram: &Datagram) -> Vec<u8> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (datagram.from, LOCAL) else { return Vec::new() };
    let mut udp = frame::udp(datagram.source_port, datagram.port, &datagram.payload.0);
    let mut pseudo = [&from.octets()[..], &to.octets(), &[0, frame::UDP], &udp[4..6]].concat();
    pseudo.extend(&udp);
    let right = match !frame::sum(&pseudo) {
        0 => 0xffff,
        sum => sum,
    };
    let sum = match datagram.checksum {
        Checksum::Right => right,
        Checksum::None => 0,
        Checksum::Wrong => right ^ 0x0101,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let packet = frame::ipv4(datagram.tos, from, to, frame::UDP, &udp);
    frame::unpadded(UNDERLAY_MAC, FAR_MAC, frame::IPV4, &packet)
}

/// A side's port.
pub(super) fn port_name(port: u8) -> String {
    format!("p{port}")
}

/// The cables of one side, from the test's end.
pub(super) struct Ends {
    world: &'static str,
    sockets: Vec<(u8, PacketSocket)>,
    sentinel: (PacketSocket, PacketSocket),
    buffers: Vec<Vec<u8>>,
    sentinels: u64,
}

impl Ends {
    /// Lays all cables of a side, whose end is `side`, and opens the test's ends in a namespace of their own.
    pub(super) fn new(lab: &Lab, side: &Namespace, world: &'static str) -> Result<Self, CompareError> {
        Self::lay(lab, side, world, None)
    }

    /// The same with a sentinel's cable that has the side in its midst: what comes in at the first of these interfaces of
    /// its leaves by the second.
    pub(super) fn relayed(
        lab: &Lab,
        side: &Namespace,
        world: &'static str,
        relay: [&str; 2],
    ) -> Result<Self, CompareError> {
        Self::lay(lab, side, world, Some(relay))
    }

    fn lay(lab: &Lab, side: &Namespace, world: &'static str, relay: Option<[&str; 2]>) -> Result<Self, CompareError> {
        let test = lab.namespace(&format!("{world}-ends"))?.without_ipv6()?;
        let open = |name: &str| -> Result<PacketSocket, CompareError> {
            let mut opened = test.within(|| packet_socket::open(name, 1))??;
            let socket = opened.remove(0);
            socket.bypass_queue().map_err(CompareError::io("open an end"))?;
            Ok(socket)
        };
        let mut sockets = Vec::new();
        for port in 1..=PORTS {
            let (name, end) = (port_name(port), format!("e{port}"));
            lab.veth((side, &name), (&test, &end), 1500)?;
            side.mac(&name, frame::port_mac(port))?;
            test.mtu(&end, END_MTU)?;
            sockets.push((port, open(&end)?));
        }
        lab.veth((side, UNDERLAY_NAME), (&test, "eu"), UNDERLAY_MTU)?;
        side.mac(UNDERLAY_NAME, UNDERLAY_MAC)?;
        test.mac("eu", FAR_MAC)?;
        sockets.push((UNDERLAY, open("eu")?));
        match relay {
            None => lab.veth((&test, "s0"), (&test, "s1"), 1500)?,
            Some([one, other]) => {
                lab.veth((side, one), (&test, "s0"), 1500)?;
                lab.veth((side, other), (&test, "s1"), 1500)?;
            }
        }
        let sentinel = (open("s0")?, open("s1")?);
        let buffers = vec![vec![0; END_MTU as usize + 64]; RECV_MAX];
        Ok(Self { world, sockets, sentinel, buffers, sentinels: 0 })
    }

    /// Sends a frame into a side. `false`: the cable is dead, or the frame does not fit it.
    pub(super) fn send(&self, place: u8, frame: &[u8]) -> bool {
        let Some((_, socket)) = self.sockets.iter().find(|(known, _)| *known == place) else { return false };
        let bytes = [&[0; VNET_HEADER_LEN], frame].concat();
        socket.send_many([&bytes[..]].into_iter()).is_ok_and(|sent| sent == 1)
    }

    /// All frames that have arrived.
    pub(super) fn collect(&mut self) -> Frames {
        let mut frames = Frames::new();
        let mut received = [Received::default(); RECV_MAX];
        for (place, socket) in &self.sockets {
            loop {
                let spaces = self.buffers.iter_mut().map(Vec::as_mut_slice);
                let count = socket.recv_many(spaces, &mut received).unwrap_or(0);
                let whole = self.buffers.iter().zip(&received).take(count).filter_map(|(bytes, r)| whole(bytes, r));
                let there = frames.entry(*place).or_default();
                there.extend(whole.map(Bytes));
                if count < RECV_MAX {
                    break;
                }
            }
        }
        frames.retain(|_, frames| !frames.is_empty());
        frames
    }

    /// Nothing may have come since the last step.
    pub(super) fn expect_silence(&mut self) -> Result<(), CompareError> {
        match self.collect().into_iter().find_map(|(place, frames)| Some((place, frames.into_iter().next()?))) {
            None => Ok(()),
            Some((place, frame)) => {
                Err(CompareError::Stray { world: self.world, place, frame: describe(&frame.0).to_string() })
            }
        }
    }

    /// Waits until everything that this CPU has received so far has been worked off, and what that caused in turn, `hops`
    /// times.
    pub(super) fn settle(&mut self, hops: u32) -> Result<(), CompareError> {
        for _ in 0..hops {
            self.sentinels += 1;
            let number = self.sentinels.to_be_bytes();
            let frame = frame::ethernet(frame::port_mac(0xfe), frame::port_mac(0xfd), frame::EXPERIMENT, &number);
            let bytes = [&[0; VNET_HEADER_LEN][..], &frame].concat();
            let sent = self.sentinel.0.send_many([&bytes[..]].into_iter());
            sent.map_err(CompareError::io("send a sentinel"))?;
            let started = Instant::now();
            while !self.sentinel_is_there(&number) {
                if started.elapsed() > PATIENCE {
                    return Err(CompareError::Late { world: self.world, what: "a sentinel's arrival".into() });
                }
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    fn sentinel_is_there(&mut self, number: &[u8]) -> bool {
        let mut received = [Received::default(); RECV_MAX];
        let spaces = self.buffers.iter_mut().take(1).map(Vec::as_mut_slice);
        let count = self.sentinel.1.recv_many(spaces, &mut received).unwrap_or(0);
        count > 0 && self.buffers[0].get(VNET_HEADER_LEN + 14..VNET_HEADER_LEN + 22) == Some(number)
    }
}

/// A frame as the wire would have had it: the tag that the kernel took off put back, the checksum that it left open completed.
fn whole(bytes: &[u8], received: &Received) -> Option<Vec<u8>> {
    // include/uapi/linux/virtio_net.h: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset.
    const NEEDS_CHECKSUM: u8 = 1;
    let mut frame = bytes.get(VNET_HEADER_LEN..received.len)?.to_vec();
    if bytes[0] & NEEDS_CHECKSUM != 0 {
        let number = |at: usize| usize::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]]));
        let (start, offset) = (number(6), number(8));
        // The field holds the sum of the pseudo-header meanwhile.
        let sum = !frame::sum(frame.get(start..)?);
        let sum = if sum == 0 { 0xffff } else { sum };
        frame.get_mut(start + offset..start + offset + 2)?.copy_from_slice(&sum.to_be_bytes());
    }
    Some(match received.tag {
        Some((tpid, tci)) => frame::tagged(&frame, tpid, tci),
        None => frame,
    })
}
