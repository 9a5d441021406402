//! Where weft differs from a vxlan device on purpose: who is believed to be where, and what datagrams say.

use std::net::IpAddr;

use super::Ruling;
use crate::{
    compare::{
        case::{At, Bytes, Case, Kind, LOCAL, Step, UNDERLAY},
        frame::{ICMP, port_mac, reserved},
        observe::NO_VTEP,
        verdict::Difference,
        world::kernel::TUNNEL_PORT,
    },
    wire::MacAddr,
};

pub(super) const RULINGS: &[Ruling] = &[
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
        reason: "what is learned says where a station is, not whether its packet was good; without the second table there is \
                 nothing that could contradict it",
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
                entry.kind == Kind::Learned && entry.at == At::Vtep(NO_VTEP)
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
                entry.at == At::Vtep(NO_VTEP) && matches!(own.at, At::Port(_))
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
        question: "a packet whose inner source is the address of the tunnel's own interface",
        theirs: "is dropped: its own frame has come back to it in a loop",
        weft: "is taken, and its source is a station like any other",
        reason: "a tunnel of weft's is no interface and has no address: none of its own frames could come from one",
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
        question: "an FDB entry at a VTEP that is no other host: 0.0.0.0, a loopback address, or the host's own",
        theirs: "is taken; frames to it are dropped, or handed to a vxlan device of the same host",
        weft: "is refused",
        reason: "weft has no second device on its host that such an entry could mean: it would only lose frames, and is refused where \
                 the mistake is made",
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
        id: "bare_tag",
        question: "an inner frame that ends with a tag and a type, without an octet behind them",
        theirs: "is dropped on its way to the bridge (skbuff.c:skb_vlan_untag)",
        weft: "passes, as a frame without a tag and without an octet behind its type does",
        reason: "nothing of the frame is missing: the kernel asks for two octets more than there have to be",
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
        id: "network_tag",
        question: "a tagged frame that comes by a tunnel which carries several VLANs (vlan_tunnel)",
        theirs: "is of the VLAN that its tag says, whatever network it came by (br_vlan_tunnel.c:br_handle_ingress_vlan_tunnel)",
        weft: "is of its network's VLAN, and its tag is payload",
        reason: "else whoever is in one network could send into all others by a tag",
        setting: "none",
        explains: |case, difference| match difference {
            Difference::Frames { step, .. } => {
                let Some(Step::Arrive(datagram)) = case.steps.get(*step) else { return false };
                let carries_vlans = case.setup.overlay.as_ref().is_some_and(|overlay| !overlay.networks.is_empty());
                carries_vlans && datagram.payload.0.get(20..22) == Some(&[0x81, 0])
            }
            Difference::Counter { name, .. } => name.ends_with(" out"),
            Difference::Fdb { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
        },
    },
    Ruling {
        id: "gpe_bridge",
        question: "a frame that comes by VXLAN-GPE",
        theirs: "is taken by a vxlan device that is no Ethernet device, and so can't be a bridge's port (vxlan_core.c:vxlan_raw_setup)",
        weft: "is taken, and goes on into its bridge",
        reason: "weft's tunnels are all alike to bridges: other VTEPs bridge Ethernet over VXLAN-GPE as over VXLAN",
        setting: "none",
        explains: |case, difference| match difference {
            Difference::Frames { step, reference, .. } => {
                let arrived = matches!(case.steps.get(*step), Some(Step::Arrive(_)));
                arrived && reference.is_empty()
            }
            Difference::Counter { name, reference, weft } => name.ends_with(" out") && reference < weft,
            Difference::Fdb { reference: None, weft: Some(entry) } => {
                entry.kind == Kind::Learned && matches!(entry.at, At::Vtep(_))
            }
            Difference::Fdb { .. }
            | Difference::Refusal { .. }
            | Difference::Reading { .. }
            | Difference::Group { .. } => false,
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
    use crate::compare::ruling::find;

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
