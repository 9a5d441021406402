//! Random sequences: whatever a port, a user or the underlay may do to a switch, in any order.
//!
//! A seed and a number make the same sequence every time. Few stations and few groups make addresses meet: they move, are
//! known at ports that may not be reached, fill a small FDB. To let sequences use a new option, name it in
//! `PORT_SWITCHES`, or draw its values in `Draw::bridge_option`.
//!
//! Left to the catalogue is what weft does otherwise on purpose whatever its settings ([`super::ruling`]): a pause frame from a VTEP,
//! an inner frame that ends with its tag, a station that a packet teaches which is dropped afterwards, and entries of a control
//! plane's (`extern_learn`).

use std::net::Ipv4Addr;

use super::{
    case::{AGEING, At, Case, Datagram, FdbAdd, Kind, Options, Step, VNI, Value, vtep},
    catalogue::About,
    frame::{
        ARP, DOT1AD, DOT1Q, EXPERIMENT, ICMP, IPV4, IPV6, UDP, arp_request, echo, ethernet, frame, group, ipv4, ipv6,
        port_mac, reserved, station, tagged, tci, udp, unpadded, vxlan, with_header,
    },
};
use crate::wire::MacAddr;

/// Steps of one sequence: long enough to get somewhere, short enough that what is found is made short soon.
pub const STEPS: usize = 50;

/// Options of ports that are turned on and off at random.
const PORT_SWITCHES: &[&str] = &["hairpin", "learning", "flood", "mcast_flood", "bcast_flood", "isolated"];
/// One sequence in so many waits until all that has been learned before is too old.
const SLOW: u32 = 40;
/// The ageing time of such a sequence: much longer than its steps take.
const AGEING_MS: i64 = 2000;
const WAIT_MS: u64 = 3000;
const TUNNEL_LEARNING: &str = "vxlan_learning";
/// VTEPs of the flood list, of which frames come.
const VTEPS: u8 = 3;

/// The sequence `number` of a seed.
pub fn case(about: About, seed: u64, number: u64) -> Case {
    let mut draw = Draw {
        rng: fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number),
        about,
        tunnel_learns: false,
    };
    let kind = if about == About::Bridge { "bridge" } else { "vxlan" };
    let mut case = Case::new(&format!("random {kind} sequence {number} of seed {seed}"));
    case.group = "random".into();
    case = draw.setup(case);
    draw.tunnel_learns = case.setup.overlay.as_ref().is_some_and(|overlay| !is_off(&overlay.options, TUNNEL_LEARNING));
    for _ in 0..STEPS {
        case.steps.push(draw.step());
    }
    if draw.one_in(SLOW) {
        case.setup.bridge.insert(AGEING.into(), Value::Number(AGEING_MS));
        let at = draw.rng.usize(0..STEPS);
        case.steps[at] = Step::Wait { ms: WAIT_MS };
    }
    case
}

fn is_off(options: &Options, name: &str) -> bool {
    options.get(name) == Some(&Value::Switch(false))
}

struct Draw {
    rng: fastrand::Rng,
    about: About,
    /// What comes by the tunnel teaches.
    tunnel_learns: bool,
}

impl Draw {
    fn setup(&mut self, mut case: Case) -> Case {
        if self.about == About::Vxlan {
            let remotes: Vec<_> = (2..2 + self.rng.u8(0..=VTEPS)).map(vtep).collect();
            case = case.overlay(&remotes);
            case.setup.overlay.iter_mut().for_each(|overlay| overlay.in_step = true);
            if self.one_in(4) {
                let df = self.pick(&["unset", "set", "inherit"]);
                case = case.tunnel("df", df);
            }
            if self.one_in(4) {
                case = case.tunnel(TUNNEL_LEARNING, false);
            }
            if self.one_in(4) {
                let ttl = self.rng.i64(1..=255);
                case = case.tunnel("ttl", ttl);
            }
        }
        if self.one_in(2) {
            let (option, value) = self.bridge_option();
            case.setup.bridge.insert(option, value);
        }
        for port in 1..=4 {
            for option in PORT_SWITCHES {
                if self.one_in(8) {
                    let on = self.rng.bool();
                    case = case.port(port, option, on);
                }
            }
        }
        case
    }

    fn step(&mut self) -> Step {
        match self.rng.u32(0..100) {
            0..6 => {
                let option = self.pick(PORT_SWITCHES).to_owned();
                Step::SetPort { port: self.port(), option, value: self.rng.bool().into() }
            }
            6..9 => {
                let (option, value) = self.bridge_option();
                Step::SetBridge { option, value }
            }
            9..13 => {
                let kind = if self.rng.bool() { Kind::Static } else { Kind::Sticky };
                Step::FdbAdd(FdbAdd { mac: self.station(), at: At::Port(self.port()), vid: None, kind })
            }
            13..15 => Step::FdbDelete { mac: self.station(), vid: None },
            15..17 => Step::FdbFlush { port: self.rng.bool().then(|| self.port()) },
            17 if self.one_in(2) => Step::Link { port: self.port(), up: self.one_in(2) },
            18..50 if self.about == About::Vxlan => Step::Arrive(self.datagram()),
            _ => {
                let frame = self.frame();
                let bare = frame.len() < 20 && self.one_in(4);
                let frame = if bare { tagged(&frame, DOT1Q, self.rng.u16(..)) } else { frame };
                Step::Send { port: self.port(), frame: super::case::Bytes(frame) }
            }
        }
    }

    /// An option of the bridge with a value.
    fn bridge_option(&mut self) -> (String, Value) {
        match self.rng.u32(0..5) {
            0 | 1 => ("group_fwd_mask".into(), Value::Number(self.rng.i64(0..0x10000) & 0xfff8)),
            2 => (AGEING.into(), Value::Number([0, 10_000, 300_000][self.rng.usize(0..3)])),
            _ => ("fdb_max_learned".into(), Value::Number(self.rng.i64(0..6))),
        }
    }

    fn port(&mut self) -> u8 {
        self.rng.u8(1..=4)
    }

    fn station(&mut self) -> MacAddr {
        station(self.rng.u8(1..=7))
    }

    fn source(&mut self) -> MacAddr {
        match self.rng.u32(0..40) {
            0 => MacAddr::ZERO,
            1 => group(1),
            2 | 3 => port_mac(self.port()),
            _ => self.station(),
        }
    }

    fn destination(&mut self) -> MacAddr {
        match self.rng.u32(0..40) {
            0..5 => MacAddr::BROADCAST,
            5..8 => group(self.rng.u8(1..4)),
            // A pause frame from a VTEP moves its source in one of the kernel's two tables (ruling tunnel_pause).
            8..12 => match self.rng.u8(0..0x12) {
                1 if self.about == About::Vxlan => reserved(0x0e),
                last => reserved(last),
            },
            12..14 => port_mac(self.port()),
            14 => MacAddr::ZERO,
            _ => self.station(),
        }
    }

    fn frame(&mut self) -> Vec<u8> {
        let (dst, src) = (self.destination(), self.source());
        let bytes = match self.rng.u32(0..12) {
            0 => {
                let len = self.rng.usize(0..1490);
                let payload: Vec<_> = std::iter::repeat_with(|| self.rng.u8(..)).take(len).collect();
                unpadded(dst, src, EXPERIMENT, &payload)
            }
            1 => arp_request(src, Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)),
            2 => unpadded(dst, src, ARP, &[]),
            3 | 4 => {
                let tos = self.rng.u8(..);
                let packet = ipv4(tos, [10, 0, 0, 1].into(), [10, 0, 0, 2].into(), ICMP, &echo(self.rng.usize(0..200)));
                ethernet(dst, src, IPV4, &packet)
            }
            5 => {
                let packet = ipv4(0, [10, 0, 0, 1].into(), [10, 0, 0, 2].into(), UDP, &udp(1000, 2000, b"random"));
                ethernet(dst, src, IPV4, &packet)
            }
            6 => {
                let (from, to) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
                let packet = ipv6(self.rng.u8(..), from.to_ipv6_mapped(), to.to_ipv6_mapped(), 59, b"none");
                ethernet(dst, src, IPV6, &packet)
            }
            7 => {
                let ether_type = if self.rng.bool() { IPV4 } else { IPV6 };
                let cut_off = self.rng.usize(0..40);
                unpadded(dst, src, ether_type, &[if ether_type == IPV4 { 0x45 } else { 0x60 }; 40][..cut_off])
            }
            _ => frame(dst, src),
        };
        if bytes.len() < 20 {
            return bytes;
        }
        match self.rng.u32(0..12) {
            0 | 1 => tagged(&bytes, DOT1Q, tci(self.rng.u16(0..8), self.rng.u16(0..=4095))),
            2 => tagged(&bytes, DOT1AD, self.rng.u16(..)),
            3 => tagged(&tagged(&bytes, DOT1Q, 5), DOT1Q, 6),
            _ => bytes,
        }
    }

    fn datagram(&mut self) -> Datagram {
        let mut inner = self.frame();
        let tos = if self.one_in(2) { self.rng.u8(..) } else { 0 };
        if self.tunnel_learns && is_dropped(tos, &inner) {
            // Whose packet is dropped is known in one of the kernel's two tables (ruling one_fdb), but for a port's own address,
            // which nobody learns.
            inner[6..12].copy_from_slice(&port_mac(self.port()).octets());
        }
        let payload = match self.rng.u32(0..20) {
            0 => vxlan(VNI + 1, &inner),
            1 => with_header(u64::from(VNI) << 8, &inner),
            2 => with_header(1 << 59 | u64::from(VNI) << 8 | 1 << self.rng.u32(0..8), &inner),
            3 => vxlan(VNI, &inner[..self.rng.usize(0..14)]),
            4 => vxlan(VNI, &inner)[..self.rng.usize(0..22)].to_vec(),
            _ => vxlan(VNI, &inner),
        };
        let mut datagram = Datagram::new(vtep(2 + self.rng.u8(0..VTEPS + 1)), payload);
        datagram.tos = tos;
        datagram.source_port = self.rng.u16(1024..);
        datagram
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.rng.u32(0..count) == 0
    }

    fn pick<'t>(&mut self, words: &[&'t str]) -> &'t str {
        words[self.rng.usize(0..words.len())]
    }
}

/// Whether a vxlan device drops this after it has learned its source: the IP header is cut off, or the outer header says CE and the inner
/// one that it is not capable.
fn is_dropped(tos: u8, inner: &[u8]) -> bool {
    const CE: u8 = 3;
    let header = inner.get(14..).unwrap_or_default();
    let (len, ecn) = match inner.get(12..14).map(|octets| u16::from_be_bytes([octets[0], octets[1]])) {
        Some(IPV4) => (20, header.get(1).map(|tos| tos & 3)),
        Some(IPV6) => (40, header.get(1).map(|low| low >> 4 & 3)),
        _ => return false,
    };
    header.len() < len || tos & CE == CE && ecn == Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_number_are_one_sequence() {
        assert_eq!(case(About::Bridge, 7, 3), case(About::Bridge, 7, 3));
        assert_ne!(case(About::Bridge, 7, 3).steps, case(About::Bridge, 7, 4).steps);
        assert_ne!(case(About::Bridge, 7, 3).steps, case(About::Bridge, 8, 3).steps);
    }

    #[test]
    fn what_a_vxlan_device_drops_late_is_known() {
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let v4 = |tos| ethernet(station(1), station(2), IPV4, &ipv4(tos, a, b, UDP, b"x"));
        let v6 =
            |tos| ethernet(station(1), station(2), IPV6, &ipv6(tos, a.to_ipv6_mapped(), b.to_ipv6_mapped(), 59, b""));
        for (tos, inner, dropped) in [
            (3, v4(0), true),
            (3, v4(0x28 | 2), false),
            (2, v4(0), false),
            (3, v6(0x28), true),
            (3, v6(0x28 | 1), false),
            (0, v4(0)[..33].to_vec(), true),
            (0, unpadded(station(1), station(2), IPV6, &[0x60; 39]), true),
            (3, arp_request(station(1), a, b), false),
            (3, tagged(&v4(0), DOT1Q, 5), false),
        ] {
            assert_eq!(is_dropped(tos, &inner), dropped, "{tos} {inner:02x?}");
        }
    }

    #[test]
    fn frames_are_frames_whatever_is_drawn() {
        for number in 0..300 {
            for about in [About::Bridge, About::Vxlan] {
                let case = case(about, 1, number);
                let whole = |step: &Step| {
                    let Step::Send { frame, .. } = step else { return true };
                    (14..=1518).contains(&frame.0.len())
                };
                assert!(case.steps.len() == STEPS && case.steps.iter().all(whole));
            }
        }
    }
}
