//! Where weft differs from the kernel on purpose.
//!
//! Each ruling has a case that shows it, in which both sides must differ in just the way that [`Ruling::explains`] says, and
//! names the setting that is the kernel's way, with which another case is the same. Random sequences use the kernel's way
//! throughout: no ruling excuses what they find.

pub mod ovs;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    case::{At, Bytes, Case, Kind, LOCAL, PORTS, Reading, Step, UNDERLAY, Value},
    frame::{ICMP, port_mac, reserved},
    observe::Entry,
    verdict::Difference,
    world::kernel::TUNNEL_PORT,
};
use crate::wire::MacAddr;

/// A ruling.
#[derive(Clone, Copy, Debug)]
pub struct Ruling {
    /// Its name; that of the setting.
    pub id: &'static str,
    /// What it is about.
    pub question: &'static str,
    /// What the reference does.
    pub theirs: &'static str,
    /// What weft does.
    pub weft: &'static str,
    /// Why.
    pub reason: &'static str,
    /// The setting of weft's that is the reference's way.
    pub setting: &'static str,
    /// Whether this very difference is what the ruling says.
    pub explains: fn(&Case, &Difference) -> bool,
}

impl PartialEq for Ruling {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

/// The ruling of this name about the kernel.
pub fn find(id: &str) -> Option<&'static Ruling> {
    RULINGS.iter().find(|ruling| ruling.id == id)
}

/// All rulings about the kernel.
pub const RULINGS: &[Ruling] = &[
    Ruling {
        id: "fdb_full",
        question: "a new address when the FDB is full",
        theirs: "is not learned",
        weft: "takes the place of the least recently used entry of the port that has most",
        reason: "who floods the table with addresses pushes out its own, not those of others",
        setting: "fdb_full = \"refuse\"",
        explains: |_, difference| match difference {
            // A learned entry that made room, or that room was made for; no other kind.
            Difference::Fdb { reference, weft } => {
                let learned = |entry: &Entry| entry.kind == Kind::Learned;
                reference.is_none_or(|entry| learned(&entry)) && weft.is_none_or(|entry| learned(&entry))
            }
            Difference::Frames { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. }
            | Difference::Counter { .. } => false,
        },
    },
    Ruling {
        id: "peers",
        question: "a packet from a VTEP that nobody named",
        theirs: "is accepted",
        weft: "is dropped and counted",
        reason: "whoever can send a UDP datagram to the host would otherwise be in the network",
        setting: "peers = \"any\"",
        explains: |case, difference| {
            let stranger = |at| case.setup.overlay.as_ref().is_some_and(|overlay| !overlay.remotes.contains(at));
            match difference {
                Difference::Frames { step, weft, .. } => {
                    let arrived = case.steps.get(*step);
                    weft.is_empty() && matches!(arrived, Some(Step::Arrive(datagram)) if stranger(&datagram.from))
                }
                Difference::Fdb { reference: Some(entry), weft: None } => {
                    matches!(&entry.at, At::Vtep(vtep) if stranger(vtep))
                }
                Difference::Counter { name, reference, weft } => name.ends_with(" out") && weft < reference,
                Difference::Fdb { .. }
                | Difference::Refusal { .. }
                | Difference::Reading { .. }
                | Difference::Group { .. } => false,
            }
        },
    },
    Ruling {
        id: "one_fdb",
        question: "a station whose packet was dropped for its ECN field or its inner IP header",
        theirs: "is known to the vxlan device, which learns before it looks, and not to the bridge, which never saw the frame",
        weft: "is known: there is one FDB, and it learns where the vxlan device does",
        reason: "what is learned says where a station is, not whether its packet was good; a look-up in two tables would \
                 only bring back the difference",
        setting: "none",
        explains: |case, difference| match difference {
            Difference::Fdb { reference: None, weft: Some(entry) } => {
                entry.kind == Kind::Learned && matches!(entry.at, At::Vtep(_)) && was_dropped(case, entry.mac)
            }
            Difference::Frames { step, place, weft, .. } => match case.steps.get(*step) {
                Some(Step::Send { frame, .. }) => {
                    let dst = frame.0.first_chunk().map(|octets| MacAddr::new(*octets));
                    *place != UNDERLAY && weft.is_empty() && dst.is_some_and(|dst| was_dropped(case, dst))
                }
                Some(_) | None => false,
            },
            Difference::Counter { name, reference, weft } => name.ends_with(" out") && weft < reference,
            Difference::Fdb { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
        },
    },
    Ruling {
        id: "tunnel_pause",
        question: "a pause frame that a VTEP sends",
        theirs: "moves its source in the vxlan device's table, and is dropped by the bridge, whose table it does not touch",
        weft: "is dropped, and teaches nothing",
        reason: "a pause frame is for the other end of its cable, and says nothing of who is where; no bridge sends one on",
        setting: "none",
        explains: |case, difference| {
            let paused = |mac: MacAddr| {
                case.steps.iter().any(|step| {
                    let Step::Arrive(datagram) = step else { return false };
                    let inner = datagram.payload.0.get(8..20);
                    inner.is_some_and(|inner| inner[..6] == reserved(1).octets() && inner[6..] == mac.octets())
                })
            };
            match difference {
                Difference::Fdb { reference: Some(one), weft: Some(other) } => {
                    let both_far = matches!((one.at, other.at), (At::Vtep(_), At::Vtep(_)));
                    both_far && one.kind == other.kind && paused(one.mac)
                }
                Difference::Frames { step, place: UNDERLAY, reference, weft } => {
                    let Some(Step::Send { frame, .. }) = case.steps.get(*step) else { return false };
                    let dst = frame.0.first_chunk().map(|octets| MacAddr::new(*octets));
                    reference.len() == weft.len() && dst.is_some_and(paused)
                }
                Difference::Frames { .. }
                | Difference::Fdb { .. }
                | Difference::Refusal { .. }
                | Difference::Reading { .. }
                | Difference::Group { .. }
                | Difference::Counter { .. } => false,
            }
        },
    },
    Ruling {
        id: "no_vtep",
        question: "a station that the vxlan device had no room for (maxaddress), or answered for without an entry (proxy)",
        theirs: "is known to the bridge to be in the tunnel, and not to the vxlan device, which floods to the VTEPs alone",
        weft: "is unknown: there is one FDB, and what is for it is flooded to the ports as well",
        reason: "an entry without a VTEP would keep the station from being found at a port",
        setting: "none",
        explains: |case, difference| match difference {
            Difference::Fdb { reference: Some(entry), weft: None } => {
                entry.kind == Kind::Learned && entry.at == At::Vtep(super::observe::NO_VTEP)
            }
            Difference::Frames { step, place, reference, weft } => match case.steps.get(*step) {
                Some(Step::Send { frame, .. }) => {
                    let is_it = |out: &Bytes| out == frame;
                    *place != UNDERLAY && reference.is_empty() && weft.iter().all(is_it)
                }
                Some(_) | None => false,
            },
            Difference::Counter { name, reference, weft } => name.ends_with(" out") && reference < weft,
            Difference::Fdb { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
        },
    },
    Ruling {
        id: "proxied_port",
        question: "with proxy, ARP for a neighbour that is behind a port",
        theirs: "is answered by the vxlan device, and the bridge then believes the station to be in the tunnel",
        weft: "is left to the station, which hears it as well",
        reason: "such an answer takes the station away from its port",
        setting: "none",
        explains: |case, difference| match difference {
            Difference::Frames { step, reference, weft, .. } => {
                let is_asked = matches!(case.steps.get(*step), Some(Step::Send { frame, .. }) if is_arp(&frame.0));
                is_asked && weft.is_empty() && reference.iter().all(|frame| is_arp(&frame.0))
            }
            Difference::Fdb { reference: Some(entry), weft: Some(own) } => {
                entry.at == At::Vtep(super::observe::NO_VTEP) && matches!(own.at, At::Port(_))
            }
            Difference::Counter { name, reference, weft } => name.ends_with(" out") && weft < reference,
            Difference::Fdb { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
        },
    },
    Ruling {
        id: "tunnel_mac",
        question: "an inner source that is the address of the tunnel's own device",
        theirs: "is dropped, for a loop",
        weft: "is a station like any other: its tunnel is no device and has no address",
        reason: "there is no such address that anybody else could have",
        setting: "none",
        explains: |case, difference| {
            let of_tunnel = |step: &usize| {
                let Some(Step::Arrive(datagram)) = case.steps.get(*step) else { return false };
                datagram.payload.0.get(14..20) == Some(&port_mac(TUNNEL_PORT).octets()[..])
            };
            match difference {
                Difference::Frames { step, reference, .. } => reference.is_empty() && of_tunnel(step),
                Difference::Fdb { reference: None, weft: Some(entry) } => entry.mac == port_mac(TUNNEL_PORT),
                Difference::Counter { name, reference, weft } => name.ends_with(" out") && reference < weft,
                Difference::Fdb { .. }
                | Difference::Refusal { .. }
                | Difference::Reading { .. }
                | Difference::Group { .. } => false,
            }
        },
    },
    Ruling {
        id: "impossible_remote",
        question: "an FDB entry at a VTEP that is no other: 0.0.0.0, or the host itself",
        theirs: "is taken; frames to it are dropped, or handed to a vxlan device of the same host",
        weft: "is refused",
        reason: "one switch is one host: what such an entry would do is a mistake, and said so where it is made",
        setting: "none",
        explains: |case, difference| {
            let impossible = |vtep: &IpAddr| vtep.is_unspecified() || vtep.is_loopback() || *vtep == LOCAL;
            let station = |step: &Step| {
                let Step::FdbAdd(entry) = step else { return None };
                matches!(&entry.at, At::Vtep(vtep) if impossible(vtep)).then_some(entry.mac)
            };
            let stations: Vec<_> = case.steps.iter().filter_map(station).collect();
            match difference {
                Difference::Refusal { step, reference: None, weft: Some(_) } => {
                    let step = case.steps.get(*step);
                    matches!(step, Some(Step::FdbAdd(entry)) if stations.contains(&entry.mac))
                }
                Difference::Frames { step, reference, .. } => match case.steps.get(*step) {
                    Some(Step::Send { frame, .. }) => {
                        let dst = frame.0.first_chunk().map(|octets| MacAddr::new(*octets));
                        reference.is_empty() && dst.is_some_and(|dst| stations.contains(&dst))
                    }
                    Some(_) | None => false,
                },
                Difference::Fdb { reference: Some(entry), .. } => {
                    matches!(&entry.at, At::Vtep(vtep) if impossible(vtep))
                }
                Difference::Counter { name, reference, weft } => name.ends_with(" out") && reference < weft,
                Difference::Fdb { .. }
                | Difference::Refusal { .. }
                | Difference::Reading { .. }
                | Difference::Group { .. } => false,
            }
        },
    },
    Ruling {
        id: "oversize",
        question: "an inner IPv4 packet without DF that is too large for the tunnel",
        theirs: "leaves whole, and the outer packet is cut in fragments",
        weft: "is cut in fragments itself",
        reason: "a tunnel's packets must not be fragmented (RFC 7348 section 4.3); what is inside any receiver puts together",
        setting: "oversize = \"outer\"",
        explains: |case, difference| {
            let may_be_cut = |step: &usize| {
                let Some(Step::Send { frame, .. }) = case.steps.get(*step) else { return false };
                frame.0.len() > 14 + 1450 && frame.0.get(20).is_some_and(|flags| flags & 0x40 == 0)
            };
            // The outer packet's own fragment field says neither "more" nor an offset.
            let is_whole =
                |packet: &Bytes| packet.0.get(20..22).is_some_and(|field| field[0] & 0x3f == 0 && field[1] == 0);
            match difference {
                Difference::Frames { step, place: UNDERLAY, reference, weft } => {
                    may_be_cut(step) && !reference.iter().all(is_whole) && weft.iter().all(is_whole)
                }
                Difference::Frames { .. }
                | Difference::Fdb { .. }
                | Difference::Counter { .. }
                | Difference::Reading { .. }
                | Difference::Group { .. }
                | Difference::Refusal { .. } => false,
            }
        },
    },
    Ruling {
        id: "oversize_flooded",
        question: "an inner packet that is too large for the tunnel, to a station that nobody knows",
        theirs: "is answered once for each VTEP of the flood list, and the bridge believes its destination to be in the tunnel",
        weft: "is answered once, and an answer teaches nothing",
        reason: "one answer says it all; and where its destination is, nobody has heard yet",
        setting: "none",
        explains: |case, difference| match difference {
            Difference::Frames { step, place, reference, weft } => {
                let sent = matches!(case.steps.get(*step), Some(Step::Send { frame, .. }) if frame.0.len() > 14 + 1450);
                *place != UNDERLAY && sent && weft.len() == 1 && reference.iter().all(|frame| *frame == weft[0])
            }
            Difference::Fdb { reference: Some(entry), weft: None } => entry.at == At::Vtep(super::observe::NO_VTEP),
            Difference::Counter { name, reference, weft } => name.ends_with(" out") && weft < reference,
            Difference::Fdb { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
        },
    },
    Ruling {
        id: "oversize_extensions",
        question: "an IPv6 packet with extension headers that is too large for the tunnel",
        theirs: "is answered, or not, by what stands 14 octets before those headers (ip_tunnel_core.c:iptunnel_pmtud_check_icmpv6)",
        weft: "is answered unless it is a later fragment, or an error behind them",
        reason: "that is what the kernel means to do",
        setting: "none",
        explains: |case, difference| {
            let has_extensions = |step: &usize| {
                let Some(Step::Send { frame, .. }) = case.steps.get(*step) else { return false };
                let next = frame.0.get(20);
                frame.0.get(12..14) == Some(&[0x86, 0xdd]) && matches!(next, Some(0 | 43 | 44 | 51 | 60))
            };
            match difference {
                Difference::Frames { step, .. } => has_extensions(step),
                Difference::Counter { name, .. } => name.ends_with(" out"),
                Difference::Fdb { .. }
                | Difference::Refusal { .. }
                | Difference::Reading { .. }
                | Difference::Group { .. } => false,
            }
        },
    },
    Ruling {
        id: "oversize_tagged",
        question: "a packet behind an 802.1Q tag that is too large for the tunnel and may not be fragmented",
        theirs: "leaves, and the outer packet is cut in fragments: it looks at the outermost type only",
        weft: "is answered, with the tag in the answer",
        reason: "hosts in VLANs have to learn it as all others",
        setting: "none",
        explains: |case, difference| {
            let tagged = |step: &usize| {
                let Some(Step::Send { frame, .. }) = case.steps.get(*step) else { return false };
                frame.0.len() > 18 + 1446 && frame.0.get(12..14) == Some(&[0x81, 0])
            };
            match difference {
                Difference::Frames { step, place: UNDERLAY, weft, .. } => tagged(step) && weft.is_empty(),
                Difference::Frames { step, reference, weft, .. } => {
                    let is_answer = |frame: &Bytes| frame.0.get(38..40) == Some(&[3, 4]);
                    tagged(step) && reference.is_empty() && weft.iter().all(is_answer)
                }
                Difference::Counter { name, reference, weft } => name.ends_with(" out") && reference < weft,
                Difference::Fdb { .. }
                | Difference::Refusal { .. }
                | Difference::Reading { .. }
                | Difference::Group { .. } => false,
            }
        },
    },
    Ruling {
        id: "blocking",
        question: "a port that is set to blocking while there is no spanning tree",
        theirs: "is forwarding again at once (br_stp.c:br_make_forwarding)",
        weft: "stays blocking",
        reason: "what a user sets stays set; there is no protocol here that would set it otherwise",
        setting: "state = \"listening\", which passes and learns nothing on both",
        explains: |_, difference| match difference {
            Difference::Frames { weft, .. } => weft.is_empty(),
            Difference::Fdb { reference, weft } => {
                let learned = |entry: &Entry| entry.kind == Kind::Learned;
                reference.is_some_and(|entry| learned(&entry)) && weft.is_none_or(|entry| learned(&entry))
            }
            Difference::Counter { name, reference, weft } => name.ends_with(" out") && weft < reference,
            Difference::Refusal { .. } | Difference::Reading { .. } | Difference::Group { .. } => false,
        },
    },
    Ruling {
        id: "packet_mtu",
        question: "a frame that, its tag not counted, is one to four octets longer than the MTU of a packet port",
        theirs: "passes: a bridge leaves room for a tag beside the one that it has taken off",
        weft: "is dropped, under egress_mtu",
        reason: "a packet socket takes no such frame (af_packet.c:packet_snd); a tap does",
        setting: "kind = \"tap\"",
        explains: |case, difference| match difference {
            Difference::Frames { step, place, weft, .. } => {
                let mtu = case.setup.port.get(place).and_then(|options| options.get("mtu"));
                let Some(Value::Number(mtu)) = mtu else { return false };
                let Some(Step::Send { frame, .. }) = case.steps.get(*step) else { return false };
                let tag = if matches!(frame.0.get(12..14), Some([0x81, 0] | [0x88, 0xa8])) { 4 } else { 0 };
                let over = frame.0.len() as i64 - tag - 14 - mtu;
                weft.is_empty() && (1..=4).contains(&over)
            }
            Difference::Counter { name, reference, weft } => name.ends_with(" out") && weft < reference,
            Difference::Fdb { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
        },
    },
    Ruling {
        id: "bare_tag",
        question: "an inner frame that ends with a tag and a type, without an octet behind them",
        theirs: "is dropped on its way to the bridge (skbuff.c:skb_vlan_untag)",
        weft: "passes, as a frame without a tag and without an octet behind its type does",
        reason: "nothing of it is missing",
        setting: "none",
        explains: |case, difference| match difference {
            Difference::Frames { step, reference, .. } => {
                let Some(Step::Arrive(datagram)) = case.steps.get(*step) else { return false };
                reference.is_empty() && datagram.payload.0.len() == 8 + 18
            }
            Difference::Counter { name, reference, weft } => name.ends_with(" out") && reference < weft,
            Difference::Fdb { reference: None, weft: Some(entry) } => entry.kind == Kind::Learned,
            Difference::Fdb { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
        },
    },
    Ruling {
        id: "tagged_question",
        question: "ARP in a tag, where VLANs are not filtered",
        theirs: "is answered without the tag",
        weft: "is flooded like all that has a tag",
        reason: "tags are payload there, and who asked in a VLAN does not hear an answer outside of it",
        setting: "none",
        explains: |case, difference| {
            let tagged = |step: &usize| match case.steps.get(*step) {
                Some(Step::Send { frame, .. }) => {
                    frame.0.get(12..18).is_some_and(|at| at[..2] == [0x81, 0] && at[4..] == [8, 6])
                }
                Some(_) | None => false,
            };
            match difference {
                Difference::Frames { step, .. } => tagged(step),
                Difference::Counter { name, .. } => name.ends_with(" out"),
                Difference::Fdb { .. }
                | Difference::Refusal { .. }
                | Difference::Reading { .. }
                | Difference::Group { .. } => false,
            }
        },
    },
    Ruling {
        id: "no_interface",
        question: "what only an interface has: a bridge's own MTU, a tunnel's device that is down",
        theirs: "the bridge's MTU follows the smallest of its ports'; a vxlan device that is down keeps what a user added",
        weft: "a bridge has no MTU of its own; its network can't be taken from it while entries at VTEPs are written down",
        reason: "neither a bridge nor a tunnel of weft's is an interface, and ports keep to their own MTU",
        setting: "none",
        explains: |case, difference| match difference {
            Difference::Reading { step, reference: Some(read), weft: None } => {
                let is_mtu = matches!(case.steps.get(*step), Some(Step::Read { what: Reading::BridgeMtu }));
                is_mtu && *read == smallest_mtu(case, *step).to_string()
            }
            Difference::Refusal { step, reference: None, weft: Some(_) } => {
                matches!(case.steps.get(*step), Some(Step::Link { port: UNDERLAY, up: false }))
            }
            Difference::Reading { .. }
            | Difference::Refusal { .. }
            | Difference::Frames { .. }
            | Difference::Fdb { .. }
            | Difference::Group { .. }
            | Difference::Counter { .. } => false,
        },
    },
    Ruling {
        id: "open_port",
        question: "a datagram to the UDP port of a tunnel whose device is down, where no other has that port",
        theirs: "is answered by ICMP: the port is closed",
        weft: "is dropped, under vni_unknown: the port stays open as long as there is a [vtep]",
        reason: "the port belongs to the switch, not to one of its networks",
        setting: "none",
        explains: |case, difference| match difference {
            Difference::Frames { step, place: UNDERLAY, reference, weft } => {
                let arrives = matches!(case.steps.get(*step), Some(Step::Arrive(_)));
                let is_unreachable =
                    |frame: &Bytes| frame.0.get(23) == Some(&ICMP) && frame.0.get(34..36) == Some(&[3, 3]);
                arrives && weft.is_empty() && matches!(&reference[..], [only] if is_unreachable(only))
            }
            Difference::Frames { .. }
            | Difference::Reading { .. }
            | Difference::Refusal { .. }
            | Difference::Fdb { .. }
            | Difference::Group { .. }
            | Difference::Counter { .. } => false,
        },
    },
    Ruling {
        id: "tunnel_mtu",
        question: "the MTU of a tunnel that is told no device below",
        theirs: "is 1500: longer packets than fit the underlay leave in fragments, or are lost",
        weft: "is what fits the underlay, which weft knows from its address",
        reason: "a tap of 1500 octets before a tunnel of 1450 is a black hole for whoever does not fragment",
        setting: "mtu = 1500 at the port",
        explains: |_, difference| {
            let Difference::Reading { reference: Some(reference), weft: Some(weft), .. } = difference else {
                return false;
            };
            (reference.as_str(), weft.as_str()) == ("1500", "1450")
        },
    },
    Ruling {
        id: "octets",
        question: "the octets of a frame that comes in by the tunnel",
        theirs: "are counted without its Ethernet header",
        weft: "are counted with it, as at a port",
        reason: "a frame has as many octets wherever weft counts it, so that the ledger's columns can be held against each other",
        setting: "none",
        explains: |case, difference| {
            let Difference::Reading { step, reference: Some(reference), weft: Some(weft) } = difference else {
                return false;
            };
            let arrived = case.steps.iter().take(*step).filter(|step| matches!(step, Step::Arrive(_))).count();
            let number = |text: &String| text.parse::<usize>().ok();
            number(reference).map(|octets| octets + 14 * arrived) == number(weft)
        },
    },
    Ruling {
        id: "vlan_0",
        question: "a user's entry for no VLAN, where VLANs are filtered",
        theirs: "is in every VLAN of its port, and in VLAN 0, which no frame is of",
        weft: "is in every VLAN of its port: each is a bridge of its own, and has the entry",
        reason: "there is no bridge of no VLAN",
        setting: "none",
        explains: |_, difference| {
            matches!(
                difference,
                Difference::Fdb { reference: Some(Entry { vid: None, kind: Kind::Static, .. }), weft: None }
            )
        },
    },
    Ruling {
        id: "empty_member",
        question: "a host whose only report about a group says that it wants none of its sources",
        theirs: "is a member without sources and without an end, which gets nothing",
        weft: "is no member",
        reason: "such a member takes room for ever, and changes nothing",
        setting: "none",
        explains: |_, difference| matches!(difference, Difference::Group { reference: Some(line), weft: None } if line.ends_with(": only")),
    },
    Ruling {
        id: "querier_address",
        question: "what a bridge's own queries come from",
        theirs: "is the address of the bridge's interface; MLD is only asked where that has an IPv6 address",
        weft: "is an address of the bridge's own, made at the start; both IGMP and MLD are asked",
        reason: "a bridge of weft's is no interface, whose addresses it could take",
        setting: "none",
        explains: |_, difference| match difference {
            Difference::Frames { reference, weft, .. } => {
                // IGMP alike but for the source, MLD by weft alone.
                let is_query = |frame: &Bytes| frame.0.get(12..14) == Some(&[8, 0]) && frame.0.get(38) == Some(&0x11);
                let is_mld =
                    |frame: &Bytes| frame.0.get(12..14) == Some(&[0x86, 0xdd]) && frame.0.get(62) == Some(&130);
                let anonymous = |frame: &Bytes| [&frame.0[..6], &frame.0[12..]].concat();
                reference.iter().all(is_query)
                    && weft.iter().all(|frame| is_query(frame) || is_mld(frame))
                    && reference.iter().map(anonymous).eq(weft.iter().filter(|frame| is_query(frame)).map(anonymous))
            }
            Difference::Counter { name, reference, weft } => name.ends_with(" out") && reference < weft,
            Difference::Fdb { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
        },
    },
    Ruling {
        id: "ecn",
        question: "the outer ECN field of a packet that says CE inside",
        theirs: "is ECT(0)",
        weft: "is CE with ecn = \"rfc6040\"; by default as the kernel's",
        reason: "RFC 6040 section 4.1: the normal mode copies CE",
        setting: "ecn = \"kernel\", the default",
        explains: |_, difference| outer_octet_differs(difference, 15, 0x03),
    },
    Ruling {
        id: "df",
        question: "the outer DF bit",
        theirs: "is clear",
        weft: "is set",
        reason: "a VXLAN packet must not be fragmented on its way (RFC 7348 section 4.3)",
        setting: "df = \"unset\"",
        explains: |_, difference| outer_octet_differs(difference, 20, 0x40),
    },
    Ruling {
        id: "source_port_range",
        question: "the outer source port",
        theirs: "is of net.ipv4.ip_local_port_range",
        weft: "is of 49152 to 65535",
        reason: "RFC 7348 section 5 recommends the dynamic range",
        setting: "source_port_range",
        explains: |_, difference| match difference {
            Difference::Frames { place: UNDERLAY, reference, weft, .. } => {
                let alike = |packet: &Bytes| {
                    let mut bytes = packet.0.clone();
                    clear_senders_choice(&mut bytes);
                    bytes
                };
                let long = |packets: &[Bytes]| packets.iter().all(|packet| packet.0.len() >= 42);
                let in_range = |packet: &Bytes| packet.0[34] >= 0xc0;
                long(reference)
                    && long(weft)
                    && reference.iter().map(alike).eq(weft.iter().map(alike))
                    && weft.iter().all(in_range)
            }
            Difference::Frames { .. }
            | Difference::Fdb { .. }
            | Difference::Counter { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
        },
    },
    Ruling {
        id: "inner_vlan",
        question: "an inner frame with an 802.1Q tag",
        theirs: "passes",
        weft: "is dropped with inner_vlan = \"drop\"; by default as the kernel's",
        reason: "RFC 7348 section 6.1: dropped unless configured otherwise",
        setting: "inner_vlan = \"pass\", the default",
        explains: |case, difference| match difference {
            Difference::Frames { step, weft, .. } => {
                let tagged = |frame: &[u8]| matches!(frame.get(12..14), Some([0x81, 0] | [0x88, 0xa8]));
                weft.is_empty()
                    && match case.steps.get(*step) {
                        Some(Step::Arrive(datagram)) => datagram.payload.0.get(8..).is_some_and(tagged),
                        Some(Step::Send { frame, .. }) => tagged(&frame.0),
                        Some(_) | None => false,
                    }
            }
            Difference::Counter { name, weft: 0, .. } => name.ends_with(" out"),
            Difference::Fdb { .. }
            | Difference::Counter { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
        },
    },
];

/// The smallest MTU of the ports that are in the bridge before a step.
fn smallest_mtu(case: &Case, step: usize) -> i64 {
    let mut mtus: BTreeMap<u8, i64> = (1..=PORTS).map(|port| (port, 1500)).collect();
    let mut out = BTreeSet::new();
    for step in case.steps.iter().take(step) {
        if let Step::SetPort { port, option, value: Value::Number(mtu) } = step
            && option == "mtu"
        {
            mtus.insert(*port, *mtu);
        }
        if let Step::Attach { port, on } = step {
            _ = if *on { out.remove(port) } else { out.insert(*port) };
        }
    }
    mtus.into_iter().filter(|(port, _)| !out.contains(port)).map(|(_, mtu)| mtu).min().unwrap_or(0)
}

/// Whether a packet from this station arrived that is not to be delivered: outer CE, or an inner IP header that is cut off.
fn was_dropped(case: &Case, station: MacAddr) -> bool {
    case.steps.iter().any(|step| {
        let Step::Arrive(datagram) = step else { return false };
        let inner = datagram.payload.0.get(8..).unwrap_or_default();
        let is_its = inner.get(6..12) == Some(&station.octets()[..]);
        is_its && (datagram.tos & 3 == 3 || inner.len() < 14 + 40)
    })
}

fn is_arp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 6])
}

/// IP identifier and checksum, source port, UDP checksum.
fn clear_senders_choice(bytes: &mut [u8]) {
    for at in [18, 19, 24, 25, 34, 35, 40, 41] {
        bytes.iter_mut().skip(at).take(1).for_each(|octet| *octet = 0);
    }
}

/// Whether packets on the underlay differ in these bits of one octet of the outer header and in nothing else but the
/// identifier and the checksum of that header.
fn outer_octet_differs(difference: &Difference, at: usize, mask: u8) -> bool {
    let Difference::Frames { place: UNDERLAY, reference, weft, .. } = difference else { return false };
    let ignoring = |packet: &Bytes| {
        let mut bytes = packet.0.clone();
        bytes.iter_mut().skip(at).take(1).for_each(|octet| *octet &= !mask);
        clear_senders_choice(&mut bytes);
        bytes
    };
    !reference.is_empty() && reference.iter().map(ignoring).eq(weft.iter().map(ignoring))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ruling_about_one_octet_hides_no_other() {
        let packet = |at: usize, octet| {
            let mut packet = vec![7; 60];
            packet[at] = octet;
            vec![Bytes(packet)]
        };
        let difference = |reference, weft| Difference::Frames { step: 0, place: UNDERLAY, reference, weft };
        let df = find("df").unwrap();
        let case = Case::new("x");
        assert!((df.explains)(&case, &difference(packet(20, 7), packet(20, 0x47))));
        assert!(!(df.explains)(&case, &difference(packet(20, 7), packet(22, 0x47))));
        assert!(!(df.explains)(&case, &difference(packet(20, 7), packet(20, 0x27))));
        assert!(!(df.explains)(&case, &difference(vec![], vec![])));
    }
}
