//! What was seen of one side, in a shape in which two sides can be compared.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use serde::Serialize;

use super::{
    case::{At, Bytes, Kind, Setup, UNDERLAY, Value},
    frame,
    option::range,
};
use crate::wire::MacAddr;

/// Frames by the place where they came out: a port's number, or [`UNDERLAY`].
pub type Frames = BTreeMap<u8, Vec<Bytes>>;

/// What one step caused.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Seen {
    /// It was refused, and how. That both refuse is the same, whatever they say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The frames that came out, in order.
    pub frames: Frames,
    /// What was read; `None` also if the side has nothing of the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reading: Option<String>,
}

/// An FDB entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Entry {
    /// The station.
    pub mac: MacAddr,
    /// Its VLAN, with VLAN filtering.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vid: Option<u16>,
    /// Where it is.
    pub at: At,
    /// What kind of entry it is.
    pub kind: Kind,
}

/// A whole case on one side.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Observation {
    /// One for each step that was done.
    pub steps: Vec<Seen>,
    /// The FDB afterwards, in order.
    pub fdb: Vec<Entry>,
    /// Who is in which multicast group, and where routers are, a line each, in order; `None`: the side does not say.
    pub groups: Option<Vec<String>>,
    /// What was counted, by name. Only what both sides count is here.
    pub counters: BTreeMap<String, u64>,
}

/// The line of [`Observation::groups`] for a port's membership. `excludes`: it wants all sources but those that are listed and
/// not wanted, else those that are.
pub fn membership(group: &str, at: u8, permanent: bool, excludes: bool, sources: &mut [(IpAddr, bool)]) -> String {
    sources.sort_unstable();
    let place = super::report::place_name(at);
    let mode = if excludes { "all" } else { "only" };
    let mut line = format!("{group} at {place}{}: {mode}", if permanent { ", permanent" } else { "" });
    for (source, is_wanted) in sources {
        line.push_str(if *is_wanted { " +" } else { " -" });
        line.push_str(&source.to_string());
    }
    line
}

/// The line for a router.
pub fn router(at: u8) -> String {
    format!("a router at {}", super::report::place_name(at))
}

/// Where `At::Vtep` points that the side has no VTEP for.
pub const NO_VTEP: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The frames as they are compared: of what leaves by the underlay, the things that a sender may choose (IP identifier, source
/// port within the range but for its last, which `udp_flow_src_port` never gives, whatever its checksums follow from) are replaced by whether they are right, and copies for several
/// VTEPs come in any order.
pub fn comparable(frames: &Frames, setup: &Setup) -> Frames {
    let mut frames = frames.clone();
    if let Some(datagrams) = frames.get_mut(&UNDERLAY) {
        let ports = source_ports(setup);
        datagrams.iter_mut().for_each(|datagram| normalise(&mut datagram.0, ports));
        datagrams.sort_unstable();
    }
    frames
}

/// How many source ports datagrams had in the whole case, where its range leaves two: flows spread over both. Of more, chance
/// says which are used.
pub fn source_ports_used(steps: &[Seen], setup: &Setup) -> Option<u64> {
    let (min, max) = source_ports(setup);
    let datagrams = steps.iter().filter_map(|seen| seen.frames.get(&UNDERLAY)).flatten();
    let ports: BTreeSet<_> = datagrams.filter_map(|datagram| datagram.0.get(34..36)).collect();
    (max - min == 2).then_some(ports.len() as u64)
}

/// The first source port, and the one behind the last (`udp.h`: `udp_flow_src_port`).
fn source_ports(setup: &Setup) -> (u16, u16) {
    let option = setup.overlay.as_ref().and_then(|overlay| overlay.options.get("source_port_range"));
    match option {
        Some(Value::Word(word)) => range(word),
        Some(Value::Switch(_) | Value::Number(_)) | None => None,
    }
    .map_or((49152, 65535), |(min, max)| (min, max.max(min.saturating_add(1))))
}

/// Marks of a field that is right, absent and wrong.
const RIGHT: [u8; 2] = [0, 1];
const ABSENT: [u8; 2] = [0, 0];
const WRONG: [u8; 2] = [0xff, 0xff];

fn normalise(packet: &mut [u8], (min, max): (u16, u16)) {
    let is_ipv4 = packet.len() >= 34 && packet[12..14] == frame::IPV4.to_be_bytes() && packet[14] == 0x45;
    if !is_ipv4 {
        return;
    }
    let right = frame::sum(&packet[14..34]) == 0xffff;
    packet[24..26].copy_from_slice(if right { &RIGHT } else { &WRONG });
    packet[18..20].copy_from_slice(&ABSENT);
    let is_first = packet[20..22].iter().zip([0x1f, 0xff]).all(|(byte, mask)| byte & mask == 0);
    if packet[23] != frame::UDP || packet.len() < 42 || !is_first {
        return;
    }
    let checksum = match packet[40..42] {
        [0, 0] => ABSENT,
        // What is cut in fragments has its sum over all of them.
        _ if packet[20] & 0x20 != 0 => RIGHT,
        _ => {
            let mut pseudo = packet[26..34].to_vec();
            pseudo.extend([0, frame::UDP]);
            pseudo.extend(&packet[38..40]);
            pseudo.extend(&packet[34..]);
            if frame::sum(&pseudo) == 0xffff { RIGHT } else { WRONG }
        }
    };
    packet[40..42].copy_from_slice(&checksum);
    let source = u16::from_be_bytes([packet[34], packet[35]]);
    if (min..max).contains(&source) {
        packet[34..36].copy_from_slice(&RIGHT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_senders_choices_are_no_differences_and_what_is_wrong_is_one() {
        let datagram = |id: u8, source: u16| {
            let udp = frame::udp(source, 4789, &[1, 2, 3]);
            let mut packet = frame::ipv4(0, [192, 0, 2, 1].into(), [192, 0, 2, 2].into(), frame::UDP, &udp);
            packet[5] = id;
            packet[10..12].copy_from_slice(&[0, 0]);
            let checksum = !frame::sum(&packet[..20]);
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
            Bytes(frame::unpadded(frame::station(2), frame::station(1), frame::IPV4, &packet))
        };
        let seen = |datagrams: Vec<Bytes>| comparable(&Frames::from([(UNDERLAY, datagrams)]), &Setup::default());
        assert_eq!(seen(vec![datagram(1, 50000)]), seen(vec![datagram(2, 60000)]));
        assert_ne!(seen(vec![datagram(1, 50000)]), seen(vec![datagram(1, 1000)]), "a source port out of range");
        let mut broken = datagram(1, 50000);
        broken.0[24] ^= 1;
        assert_ne!(seen(vec![datagram(1, 50000)]), seen(vec![broken]), "a wrong checksum");
    }
}
