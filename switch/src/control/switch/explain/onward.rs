//! What is said of a frame that has come in: where its destination is, what the verdict is, and how each copy leaves.

use serde_json::{Value, json};
use weft_vxlan::{Encapsulation, HeaderFormat};

use super::{narrator::Narrator, stages::Telling};
use crate::{
    bridge::{DropReason, FloodKind, Verdict},
    control::api::explanation::StageName,
    fdb::{EntryView, Origin},
    ids::{BridgeId, Endpoint, PortId, VtepId},
    l3::mss::Clamped,
    wire::{MacAddr, Tag, ethernet::HEADER_LEN, hex, vlan::TAG_LEN},
    worker::explain::{Departure, Exit, Oversized, Path},
};

/// Who gets no copy of a flooded frame.
pub(super) struct PassedOver<'a> {
    pub(super) ports: &'a [(PortId, Option<DropReason>)],
    pub(super) vteps: &'a [VtepId],
    /// It goes to the members of its group, not to all.
    pub(super) members_only: bool,
}

impl Narrator<'_> {
    pub(super) fn answer(&self, bridge: BridgeId, answered: bool, spares: bool) -> Telling {
        let name = (self.bridge_name)(bridge);
        let text = match (answered, spares) {
            (true, _) => format!("a question that bridge {name} answers from its table of neighbours"),
            (false, true) => format!("nothing that bridge {name} answers; who is spared such frames does not get it"),
            (false, false) => "no question that has an answer here".to_owned(),
        };
        let config = self.neigh_suppress(&name);
        Telling::new(StageName::Answer, text)
            .config(config)
            .kernel("net/bridge/br_arp_nd_proxy.c: br_do_proxy_suppress_arp, br_do_suppress_nd")
            .fields([("answered", json!(answered)), ("spares", json!(spares))])
    }

    pub(super) fn look_up(&self, bridge: BridgeId, dst: MacAddr, entry: Option<&EntryView>) -> Telling {
        let name = (self.bridge_name)(bridge);
        let age = |entry: &EntryView| self.now.since(entry.updated).as_secs();
        let text = match entry {
            None => format!("{dst} has no entry in bridge {name}"),
            Some(entry) if entry.origin == Origin::Learned => {
                format!("{dst} is at {}, learned, seen {} s ago", self.place(entry.at), age(entry))
            }
            Some(entry) => format!("{dst} is at {}, a {} entry", self.place(entry.at), entry.origin.name()),
        };
        let is_static = entry.is_some_and(|entry| entry.origin != Origin::Learned);
        let config = is_static.then(|| self.static_entry(&name, dst)).flatten();
        let [port, vtep] = self.place_fields(entry.map(|entry| entry.at));
        let aging = entry.filter(|entry| entry.origin == Origin::Learned).map(age);
        Telling::new(StageName::LookUp, text)
            .config(config)
            .kernel("net/bridge/br_input.c: br_handle_frame_finish; net/bridge/br_fdb.c: br_fdb_find_rcu")
            .fields([
                ("mac", json!(dst)),
                ("found", json!(entry.is_some())),
                port,
                vtep,
                ("origin", json!(entry.map(|entry| entry.origin.name()))),
                ("age_s", json!(aging)),
            ])
    }

    pub(super) fn decide(
        &self,
        bridge: BridgeId,
        ingress: Endpoint,
        dst: MacAddr,
        verdict: Verdict,
        PassedOver { ports: passed_over, vteps: vteps_passed_over, members_only }: PassedOver<'_>,
    ) -> Telling {
        let ingress_port = match ingress {
            Endpoint::Port(port) => Some((self.port_name)(port)),
            Endpoint::Vtep(_) => None,
        };
        let option = |port: &str, reason| {
            if reason == DropReason::SameEndpoint {
                Some(self.flag(port, "hairpin", |port| port.hairpin))
            } else if reason == DropReason::Isolated {
                Some(self.flag(port, "isolated", |port| port.isolated))
            } else {
                None
            }
        };
        let skipped = |kind, port: PortId, reason: Option<DropReason>| {
            let name = (self.port_name)(port);
            let (why, config) = match reason {
                None => (format!("its gate for {} is closed", kind_name(kind)), Some(self.gate(&name, kind))),
                Some(DropReason::SameEndpoint) => {
                    ("the frame came from there".to_owned(), option(&name, DropReason::SameEndpoint))
                }
                Some(reason) => (reason.explanation().to_owned(), option(&name, reason)),
            };
            (format!("not to port {name}: {why}"), config)
        };
        let mut notes = vec![];
        let mut config = vec![];
        let (word, text, reason) = match verdict {
            Verdict::Unicast(to) => ("unicast", format!("to {} alone", self.place(to)), None),
            Verdict::Flood(kind) => {
                for (port, reason) in passed_over {
                    let (note, decider) = skipped(kind, *port, *reason);
                    notes.push(note);
                    config.extend(decider);
                }
                let why = match ingress {
                    Endpoint::Vtep(_) => "never from VTEP to VTEP (split horizon)",
                    Endpoint::Port(_) if members_only => DropReason::NoMcastMember.explanation(),
                    Endpoint::Port(_) => DropReason::NeighSuppressed.explanation(),
                };
                notes.extend(vteps_passed_over.iter().map(|vtep| format!("not to VTEP {}: {why}", self.vtep(*vtep))));
                let bridge = (self.bridge_name)(bridge);
                let whom =
                    if members_only { "to members of the group and routers in" } else { "flooded to the rest of" };
                ("flood", format!("{}: {whom} bridge {bridge}", kind_name(kind)), None)
            }
            Verdict::Drop(reason) => {
                config.extend(ingress_port.as_deref().and_then(|port| option(port, reason)));
                ("drop", format!("{dst}: {}", reason.explanation()), Some(reason))
            }
        };
        let kind = match verdict {
            Verdict::Flood(kind) => Some(kind_name(kind)),
            Verdict::Unicast(_) | Verdict::Drop(_) => None,
        };
        let skipped_ports = passed_over.iter().map(|(port, reason)| {
            let reason = reason.map_or("gate_closed", DropReason::name);
            json!({"port": (self.port_name)(*port), "reason": reason})
        });
        let kernel = match verdict {
            Verdict::Flood(_) if members_only => "net/bridge/br_forward.c: br_multicast_flood, maybe_deliver_addr",
            Verdict::Flood(_) => "net/bridge/br_forward.c: br_flood, should_deliver",
            Verdict::Drop(DropReason::LocalDestination) => {
                "net/bridge/br_input.c: br_handle_frame_finish, br_pass_frame_up"
            }
            Verdict::Unicast(_) | Verdict::Drop(_) => "net/bridge/br_forward.c: br_forward, should_deliver",
        };
        Telling::new(StageName::Decide, text).dropped(reason).notes(notes).config(config).kernel(kernel).fields([
            ("verdict", json!(word)),
            ("flood", json!(kind)),
            ("passed_over", skipped_ports.collect()),
        ])
    }

    pub(super) fn egress(&self, departure: &Departure) -> Telling {
        let bridge = |id| (self.bridge_name)(id);
        match (departure.to, departure.exit) {
            (Endpoint::Port(port), Some(Exit::Port { tag, mtu })) => {
                self.to_port(departure, &(self.port_name)(port), tag, mtu)
            }
            (Endpoint::Vtep(vtep), Some(exit @ Exit::Vtep { target, .. })) => {
                self.to_vtep(departure, vtep, &exit, &bridge(target.bridge))
            }
            (to, _) => {
                let why = departure.result.err().map_or("", DropReason::explanation);
                Telling::new(StageName::Egress, format!("{}: {why}", self.place(to)))
                    .dropped(departure.result.err())
                    .fields(self.place_fields(Some(to)))
            }
        }
    }

    fn to_port(&self, departure: &Departure, port: &str, tag: Option<Tag>, mtu: u16) -> Telling {
        let len = departure.bytes.len();
        let most = usize::from(mtu) + HEADER_LEN + TAG_LEN;
        let how = match tag {
            None => "as it is".to_owned(),
            Some(tag) => format!("with the tag of VLAN {}", tag.vid()),
        };
        let text = match departure.result {
            Ok(()) if departure.is_answer => format!("the answer goes back by port {port}, {how}, {len} bytes"),
            Ok(()) => format!("leaves by port {port}, {how}, {len} bytes"),
            Err(DropReason::EgressMtu) => {
                format!("too long for port {port}: {len} bytes, and its MTU of {mtu} lets {most} pass")
            }
            Err(reason) => format!("port {port}: {}", reason.explanation()),
        };
        let exit = self.exit(port, &(self.bridge_name)(departure.bridge), tag);
        let (config, kernel) = match departure.result {
            Err(DropReason::EgressMtu) => {
                (vec![self.mtu(port, mtu)], "net/bridge/br_forward.c: br_dev_queue_push_xmit, is_skb_forwardable")
            }
            _ => (exit, "net/bridge/br_vlan.c: br_handle_vlan; net/bridge/br_forward.c: br_dev_queue_push_xmit"),
        };
        Telling::new(StageName::Egress, text).dropped(departure.result.err()).config(config).kernel(kernel).fields([
            ("port", json!(port)),
            ("vtep", Value::Null),
            ("length", json!(len)),
            ("vlan", json!(tag.map(Tag::vid))),
            ("priority", json!(tag.map(|tag| tag.0 >> 13))),
            ("mtu", json!(mtu)),
        ])
    }

    fn to_vtep(&self, departure: &Departure, vtep: VtepId, exit: &Exit, bridge: &str) -> Telling {
        let Exit::Vtep { target, header, hash, payload_len, path_mtu, path } = *exit else {
            return Telling::new(StageName::Egress, self.vtep(vtep));
        };
        let (vni, policy) = (header.vni(), header.policy().map(|policy| policy.id));
        let of_bridge = self.config.bridge(bridge);
        let encapsulation = of_bridge.map_or_else(|| header.format().encapsulation(), |bridge| bridge.encapsulation);
        let options = of_bridge.map_or(&[][..], |bridge| bridge.geneve_options.as_bytes());
        let tunnel_header = [&header.to_bytes()[..], options].concat();
        let outer_len = exit.outer_len().unwrap_or(payload_len);
        let to = target.address;
        let (family, df) = match (to.is_ipv4(), target.dont_fragment) {
            (true, true) => ("IPv4", ", DF"),
            (true, false) => ("IPv4", ""),
            (false, true) => ("IPv6", ", not to be fragmented"),
            (false, false) => ("IPv6", ""),
        };
        let source = self.config.vtep.as_ref().map(|vtep| vtep.address);
        let source_port = (self.outer_port)(hash, target.dont_fragment);
        let ttl = if to.is_ipv4() { "TTL" } else { "hop limit" };
        let from = source.map_or_else(String::new, |source| source.to_string());
        let mut notes = vec![
            format!("outer {family} {from} > {}, {ttl} {}, TOS {:#04x}{df}", to.ip(), target.ttl, target.tos),
            match source_port {
                Some(port) => {
                    format!("outer UDP {port} > {}, the source port by the inner flow's hash {hash:#010x}", to.port())
                }
                None => format!("outer UDP > {}, the source port by the inner flow's hash {hash:#010x}", to.port()),
            },
        ];
        let interface = match path {
            Path::Mtu(mtu) => Some(mtu),
            Path::Unreachable | Path::Unknown => None,
        };
        notes.push(match (path, &departure.oversized) {
            (Path::Unreachable, _) => "no route to it".to_owned(),
            (_, Some(Oversized::FragmentedOutside)) => {
                format!("outer packet of {outer_len} bytes, cut into fragments for a way of {path_mtu}")
            }
            (Path::Mtu(mtu), None) if outer_len > mtu as usize && !target.dont_fragment => {
                format!("outer packet of {outer_len} bytes, cut into fragments for an interface of {mtu}")
            }
            (Path::Mtu(mtu), None) if mtu < path_mtu => {
                format!("outer packet of {outer_len} bytes, of {mtu} that the interface takes")
            }
            (..) => format!("outer packet of {outer_len} bytes, of {path_mtu} that the way allows"),
        });
        notes.extend(departure.oversized.as_ref().map(|oversized| oversized_note(oversized, departure.bytes.len())));
        notes.extend(departure.clamped.map(clamping));
        if encapsulation != Encapsulation::Vxlan {
            notes.push(format!("{} header of {} bytes", encapsulation.title(), tunnel_header.len()));
        }
        notes.extend(policy.map(|policy| format!("group policy {policy} in the VXLAN header")));
        let text = match departure.result {
            Ok(()) if departure.is_answer => format!("the answer goes back to VTEP {} in VNI {vni}", to.ip()),
            Ok(()) => format!("leaves to VTEP {} in VNI {vni}", to.ip()),
            Err(DropReason::UnderlayMtu) => format!("too long for the interface that leads to VTEP {}", to.ip()),
            Err(_) if departure.oversized.is_some() => format!("too long for the way to VTEP {}", to.ip()),
            Err(reason) => format!("VTEP {}: {}", to.ip(), reason.explanation()),
        };
        let too_long = departure.result == Err(DropReason::UnderlayMtu);
        let listed = self.naming(bridge, |address| *address == to);
        let config = match departure.result {
            _ if departure.oversized.is_some() => self.oversize().into_iter().chain(self.vni(bridge)).collect(),
            Err(_) if too_long => self.df().into_iter().collect(),
            Err(_) => listed.into_iter().collect(),
            Ok(()) => {
                let of_bridge = self.vni(bridge).into_iter().chain(self.encapsulation(bridge));
                listed.into_iter().chain(of_bridge).chain(self.outer_header()).collect::<Vec<_>>()
            }
        };
        let kernel = if too_long || departure.oversized.is_some() {
            "net/ipv4/ip_tunnel_core.c: skb_tunnel_check_pmtu, iptunnel_pmtud_build_icmp"
        } else {
            match header.format() {
                HeaderFormat::Vxlan | HeaderFormat::VxlanGpe => {
                    "drivers/net/vxlan/vxlan_core.c: vxlan_xmit_one; include/net/udp.h: udp_flow_src_port"
                }
                HeaderFormat::Geneve => "drivers/net/geneve.c: geneve_xmit_skb; include/net/udp.h: udp_flow_src_port",
            }
        };
        let fragments = match &departure.oversized {
            Some(Oversized::Fragmented(frames)) => Some(frames.len()),
            Some(Oversized::Answered(_) | Oversized::FragmentedOutside | Oversized::Dropped(_)) | None => None,
        };
        Telling::new(StageName::Egress, text)
            .dropped(departure.result.err())
            .notes(notes)
            .config(config)
            .kernel(kernel)
            .fields([
                ("port", Value::Null),
                ("vtep", json!(to.ip())),
                ("length", json!(departure.bytes.len())),
                ("vni", json!(vni.get())),
                ("encapsulation", json!(encapsulation.word())),
                ("tunnel_header", json!(hex::encode(&tunnel_header))),
                ("group_policy", json!(policy)),
                ("outer_src", json!(source)),
                ("outer_dst", json!(to.ip())),
                ("outer_src_port", json!(source_port)),
                ("outer_dst_port", json!(to.port())),
                ("outer_ttl", json!(target.ttl)),
                ("outer_tos", json!(target.tos)),
                ("outer_df", json!(target.dont_fragment)),
                ("outer_length", json!(outer_len)),
                ("path_mtu", json!(path_mtu)),
                ("interface_mtu", json!(interface)),
                ("oversize", json!(departure.oversized.as_ref().map(oversized_word))),
                ("fragments", json!(fragments)),
                ("mss", json!(departure.clamped.map(|clamped| clamped.to))),
                ("flow_hash", json!(hash)),
            ])
    }
}

const fn oversized_word(oversized: &Oversized) -> &'static str {
    match oversized {
        Oversized::Answered(_) => "answered",
        Oversized::Fragmented(_) => "fragmented",
        Oversized::FragmentedOutside => "fragmented_outside",
        Oversized::Dropped(_) => "dropped",
    }
}

fn oversized_note(oversized: &Oversized, frame_len: usize) -> String {
    match oversized {
        Oversized::Answered(_) => "its sender is told by ICMP what fits, in the name of its receiver".to_owned(),
        Oversized::Fragmented(frames) => {
            let longest = frames.iter().map(Vec::len).max().unwrap_or(0);
            format!("its {frame_len} bytes leave in {} fragments of up to {longest}", frames.len())
        }
        Oversized::FragmentedOutside => "its sender is not told".to_owned(),
        Oversized::Dropped(why) => format!("its sender is not told: {why}"),
    }
}

pub(super) fn clamping(Clamped { from, to }: Clamped) -> String {
    format!("the maximum segment size of this TCP, {from}, becomes {to}")
}

const fn kind_name(kind: FloodKind) -> &'static str {
    match kind {
        FloodKind::UnknownUnicast => "unknown unicast",
        FloodKind::Multicast => "multicast",
        FloodKind::Broadcast => "broadcast",
    }
}
