//! What is said of a step: in words, for programs, with the configuration behind it and the kernel's counterpart.
//!
//! Steps behind the source's are told in [`super::onward`]. The kernel's names are those of Linux 6.12.

use serde_json::{Map, Value, json};
use weft_vxlan::{HeaderFormat, geneve::Options};

use super::{
    narrator::{Narrator, fields},
    onward::{PassedOver, clamping},
};
use crate::{
    bridge::{Admission, DropReason},
    control::{
        api::explanation::{Decider, StageName},
        config::{Membership, STATE_WORDS, word_of},
    },
    fdb::{Learned, Standing},
    ids::{BridgeId, Endpoint, PortId},
    wire::{
        MacAddr, Tag,
        ethernet::{ETHER_TYPE_ARP, ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, EtherHeader},
        hex,
        vlan::TPID_8021Q,
    },
    worker::{
        TunnelHeader,
        explain::{Learning, Step},
    },
};

/// One step, told.
pub(super) struct Telling {
    pub(super) stage: StageName,
    pub(super) reason: Option<DropReason>,
    pub(super) text: String,
    pub(super) notes: Vec<String>,
    pub(super) config: Vec<Decider>,
    pub(super) kernel: Option<&'static str>,
    pub(super) fields: Map<String, Value>,
}

impl Telling {
    pub(super) fn new(stage: StageName, text: impl Into<String>) -> Self {
        let (text, fields) = (text.into(), Map::new());
        Self { stage, reason: None, text, notes: vec![], config: vec![], kernel: None, fields }
    }

    pub(super) fn dropped(self, reason: Option<DropReason>) -> Self {
        Self { reason, ..self }
    }

    pub(super) fn config(self, config: impl IntoIterator<Item = Decider>) -> Self {
        Self { config: config.into_iter().collect(), ..self }
    }

    pub(super) fn kernel(self, kernel: &'static str) -> Self {
        Self { kernel: Some(kernel), ..self }
    }

    pub(super) fn notes(self, notes: impl IntoIterator<Item = String>) -> Self {
        Self { notes: notes.into_iter().collect(), ..self }
    }

    pub(super) fn fields(self, of: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        Self { fields: fields(of), ..self }
    }
}

impl Narrator<'_> {
    pub(super) fn tell(&self, step: &Step) -> Telling {
        match step {
            Step::Header { format, len, header, reserved, refused, policy, options } => {
                self.header(*format, *len, *header, (*reserved, *refused), *policy, options)
            }
            Step::Tunnel { vni, source, bridge, named, vtep } => {
                let name = bridge.map(self.bridge_name);
                let of = || name.as_deref().unwrap_or_default();
                let naming = || self.naming(of(), |address| address.ip() == *source);
                let text = match vtep {
                    Ok(_) if *named => format!("VNI {vni} is bridge {}, which names VTEP {source}", of()),
                    Ok(_) => format!("VNI {vni} is bridge {}, which takes frames from any VTEP: {source} too", of()),
                    Err(DropReason::VtepUnknown) => {
                        format!("VNI {vni} is bridge {}, and nobody named VTEP {source} for it", of())
                    }
                    Err(DropReason::VxlanReservedBits) => "reserved bits of the VXLAN header are set".to_owned(),
                    Err(DropReason::EncapsulationDiffers) => {
                        let expected = self.config.bridge(of()).map_or("", |bridge| bridge.encapsulation.word());
                        format!("VNI {vni} is bridge {}, whose frames come in {expected}, and this did not", of())
                    }
                    Err(DropReason::VniUnknown) => format!("no bridge has VNI {vni}"),
                    Err(reason) => reason.explanation().to_owned(),
                };
                let config: Vec<_> = match vtep {
                    Ok(_) if *named => self.vni(of()).into_iter().chain(naming()).collect(),
                    Ok(_) | Err(DropReason::VtepUnknown) => self.vni(of()).into_iter().chain(self.peers()).collect(),
                    Err(DropReason::VxlanReservedBits) => self.reserved_bits().into_iter().collect(),
                    Err(DropReason::EncapsulationDiffers) => {
                        self.vni(of()).into_iter().chain(self.encapsulation(of())).collect()
                    }
                    Err(_) => vec![],
                };
                Telling::new(StageName::Tunnel, text)
                    .dropped(vtep.err())
                    .config(config)
                    .kernel("drivers/net/vxlan/vxlan_core.c: vxlan_vs_find_vni (the kernel does not check the VTEP)")
                    .fields([
                        ("vni", json!(vni.get())),
                        ("source", json!(source)),
                        ("bridge", json!(name)),
                        ("named", json!(named)),
                    ])
            }
            Step::Parse(header) => parse(header),
            Step::Classify { port, tag, bridge } => self.classify(*port, *tag, *bridge),
            Step::Admit { bridge, src, dst, admission } => self.admit(*bridge, *src, *dst, *admission),
            Step::Guard { port, src, standing, reason } => self.guard(*port, *src, *standing, *reason),
            Step::Inspect { tag_count, outer_tos, tos, clamped, result } => {
                let text = match (result, tos) {
                    (Err(reason), _) => reason.explanation().to_owned(),
                    (Ok(()), None) => "not IP, or IP behind a tag: nothing to check".to_owned(),
                    (Ok(()), Some((before, after))) if before == after => {
                        format!("an IP header, with TOS {before:#04x}, as the outer {outer_tos:#04x} lets it be")
                    }
                    (Ok(()), Some((before, after))) => format!(
                        "an IP header, whose TOS {before:#04x} becomes {after:#04x} under the outer {outer_tos:#04x}"
                    ),
                };
                let config = (*tag_count > 0).then(|| self.inner_vlan()).flatten();
                Telling::new(StageName::Inspect, text)
                    .dropped(result.err())
                    .notes(clamped.map(clamping))
                    .config(config)
                    .kernel(
                        "include/net/ip_tunnels.h: pskb_inet_may_pull; drivers/net/vxlan/vxlan_core.c: \
                         vxlan_ecn_decapsulate",
                    )
                    .fields([
                        ("inner_tags", json!(tag_count)),
                        ("outer_tos", json!(outer_tos)),
                        ("inner_tos", json!(tos.map(|(before, _)| before))),
                        ("inner_tos_after", json!(tos.map(|(_, after)| after))),
                        ("mss", json!(clamped.map(|clamped| clamped.to))),
                    ])
            }
            Step::Learn { bridge, src, at, learning } => self.learn(*bridge, *src, *at, *learning),
            Step::LookUp { bridge, dst, entry } => self.look_up(*bridge, *dst, entry.as_ref()),
            Step::Answer { bridge, answered, spares } => self.answer(*bridge, *answered, *spares),
            Step::Decide { bridge, ingress, dst, verdict, passed_over, vteps_passed_over, members_only } => self
                .decide(
                    *bridge,
                    *ingress,
                    *dst,
                    *verdict,
                    PassedOver { ports: passed_over, vteps: vteps_passed_over, members_only: *members_only },
                ),
            Step::Proxy { bridge, asked, neigh, proxied } => self.proxied(*bridge, *asked, *neigh, *proxied),
            Step::ShortCircuit { bridge, dst, ip, station, result } => {
                self.short_circuit(*bridge, *dst, *ip, *station, *result)
            }
            Step::Egress(departure) => self.egress(departure),
        }
    }

    fn header(
        &self,
        format: HeaderFormat,
        len: usize,
        header: Result<TunnelHeader, DropReason>,
        (reserved, refused): (bool, bool),
        policy: Option<u16>,
        options: &[u8],
    ) -> Telling {
        let kernel = match format {
            HeaderFormat::Vxlan | HeaderFormat::VxlanGpe => "drivers/net/vxlan/vxlan_core.c: vxlan_rcv",
            HeaderFormat::Geneve => "drivers/net/geneve.c: geneve_udp_encap_recv",
        };
        let text = match header {
            Err(reason) => format!("{}: {len} bytes", reason.explanation()),
            Ok(header) => {
                let about = match (format, reserved, refused) {
                    (HeaderFormat::Geneve, ..) if options.is_empty() => ", no options".to_owned(),
                    (HeaderFormat::Geneve, ..) => format!(", {} bytes of options", options.len()),
                    (_, false, _) => ", no reserved bit set".to_owned(),
                    (_, true, false) => ", reserved bits set that are allowed".to_owned(),
                    (_, true, true) => ", reserved bits set".to_owned(),
                };
                let group = policy.map_or_else(String::new, |policy| format!(", group policy {policy}"));
                format!("{format} header: VNI {}{about}{group}", header.vni())
            }
        };
        let options = Options::new(options).map(|option| match option {
            Ok(option) => {
                json!({"class": option.class, "type": option.kind, "critical": option.is_critical(),
                    "data": hex::encode(option.data)})
            }
            Err(error) => json!({"error": error.to_string()}),
        });
        let is_there = header.is_ok();
        Telling::new(StageName::Header, text)
            .dropped(header.err())
            .config(reserved.then(|| self.reserved_bits()).flatten())
            .kernel(kernel)
            .fields([
                ("encapsulation", json!(format.encapsulation().word())),
                ("vni", json!(header.ok().map(|header| header.vni().get()))),
                ("reserved_bits", json!(is_there.then_some(reserved))),
                ("group_policy", json!(policy)),
                ("options", json!(is_there.then(|| options.collect::<Vec<_>>()))),
            ])
    }

    fn classify(&self, port: PortId, tag: Option<Tag>, bridge: Result<(BridgeId, Option<Tag>), DropReason>) -> Telling {
        let port = (self.port_name)(port);
        let membership = self.config.port(&port).map(|port| &port.membership);
        let is_trunk = matches!(membership, Some(Membership::Trunk { .. }));
        let name = bridge.ok().map(|(bridge, _)| (self.bridge_name)(bridge));
        let of = name.as_deref().unwrap_or_default();
        let vid = tag.map(Tag::vid);
        let text = match (bridge, vid) {
            (Ok(_), _) if !is_trunk => format!("access port: every frame enters bridge {of}, tags are payload"),
            (Ok(_), None) => format!("untagged: the trunk's native bridge, {of}"),
            (Ok(_), Some(0)) => {
                format!("a priority without a VLAN: the trunk's native bridge, {of}; the tag is taken off")
            }
            (Ok(_), Some(vid)) => format!("VLAN {vid} of the trunk is bridge {of}; the tag is taken off"),
            (Err(DropReason::VlanUntagged), _) => "untagged, and the trunk has no native bridge".to_owned(),
            (Err(DropReason::VlanNotMember), Some(vid)) => match membership {
                Some(Membership::Trunk { vlans, .. }) => {
                    let carried: Vec<_> = vlans.iter().map(|(vid, _)| vid.to_string()).collect();
                    format!("VLAN {vid} is none of the trunk's, which are {}", carried.join(", "))
                }
                Some(Membership::Access(_)) | None => format!("VLAN {vid} is none of the trunk's"),
            },
            (Err(reason), _) => reason.explanation().to_owned(),
        };
        let kernel =
            if is_trunk { "net/bridge/br_vlan.c: __allowed_ingress" } else { "net/bridge/br_input.c: br_handle_frame" };
        Telling::new(StageName::Classify, text)
            .dropped(bridge.err())
            .config(self.membership(&port, tag))
            .kernel(kernel)
            .fields([
                ("port", json!(port)),
                ("vlan", json!(vid)),
                ("tag_taken_off", json!(matches!(bridge, Ok((_, Some(_)))))),
                ("bridge", json!(name)),
            ])
    }

    fn admit(&self, bridge: BridgeId, src: MacAddr, dst: MacAddr, admission: Admission) -> Telling {
        let group = dst.reserved_group();
        let (text, reason, keeps) = match (admission, group) {
            (Admission::Enter, None) => {
                ("the source is a station's address, the destination no reserved group".to_owned(), None, false)
            }
            (Admission::Enter, Some(0)) => {
                (format!("{dst} is spanning tree's group: passes, since this bridge speaks none"), None, false)
            }
            (Admission::Enter, Some(_)) => {
                (format!("{dst} is a reserved group that `group_fwd_mask` lets pass"), None, false)
            }
            (Admission::KeepAndLearn(reason), _) => (
                format!("{dst} is a reserved group: it goes no further, but its source is learned"),
                Some(reason),
                true,
            ),
            (Admission::Refuse(DropReason::SourceInvalid), _) => (
                format!("{src} can't be a station's address: it is a group, or zeros"),
                Some(DropReason::SourceInvalid),
                false,
            ),
            (Admission::Refuse(reason), _) => {
                (format!("{dst} is pause's group, which never passes a bridge"), Some(reason), false)
            }
        };
        let mask = group.filter(|group| *group > 1).and_then(|_| self.group_fwd_mask(&(self.bridge_name)(bridge)));
        Telling::new(StageName::Admit, text)
            .dropped(reason)
            .config(mask)
            .kernel("net/bridge/br_input.c: br_handle_frame")
            .fields([
                ("src", json!(src)),
                ("dst", json!(dst)),
                ("reserved_group", json!(group)),
                ("learns_all_the_same", json!(keeps)),
            ])
    }

    fn guard(&self, port: PortId, src: MacAddr, standing: Option<Standing>, reason: Option<DropReason>) -> Telling {
        let port = (self.port_name)(port);
        let config = self.config.port(&port);
        let (locked, mab) = (config.is_some_and(|port| port.locked), config.is_some_and(|port| port.mab));
        let state = config.map(|port| word_of(STATE_WORDS, &port.state));
        let place = match standing {
            None => "is not asked for",
            Some(Standing::Unknown) => "has no entry",
            Some(Standing::Elsewhere) => "has an entry elsewhere",
            Some(Standing::Locked) => "has a locked entry",
            Some(Standing::Known) => "has an entry here",
        };
        let lock = || [self.flag(&port, "locked", |port| port.locked), self.flag(&port, "mab", |port| port.mab)];
        let (text, config): (_, Vec<_>) = match reason {
            Some(DropReason::PortState) => {
                let text = format!("port {port} is {}: frames that come in go no further", state.unwrap_or_default());
                (text, self.state(&port).into_iter().collect())
            }
            Some(
                reason @ (DropReason::MacSpoofed
                | DropReason::ArpSpoofed
                | DropReason::IpSpoofed
                | DropReason::RogueServer),
            ) => {
                let text = format!("port {port} does not let {src} say this: {}", reason.explanation());
                (text, self.port_security(&port).into_iter().collect())
            }
            Some(_) => (format!("port {port} is locked, and {src} {place}"), lock().into()),
            None if standing.is_some() => {
                (format!("port {port} is locked, and {src} {place}: it may pass"), lock().into())
            }
            None => {
                let config = self.port_limit(&port).into_iter().chain(self.port_security(&port));
                (format!("port {port} lets it pass"), config.collect())
            }
        };
        let standing = standing.map(|standing| match standing {
            Standing::Unknown => "unknown",
            Standing::Elsewhere => "elsewhere",
            Standing::Locked => "locked",
            Standing::Known => "known",
        });
        Telling::new(StageName::Guard, text)
            .dropped(reason)
            .config(config)
            .kernel("net/bridge/br_input.c: br_handle_frame_finish")
            .fields([
                ("port", json!(port)),
                ("state", json!(state)),
                ("locked", json!(locked)),
                ("mab", json!(mab)),
                ("standing", json!(standing)),
            ])
    }

    fn learn(&self, bridge: BridgeId, src: MacAddr, at: Endpoint, learning: Learning) -> Telling {
        let name = (self.bridge_name)(bridge);
        let here = self.place(at);
        let port = match at {
            Endpoint::Port(port) => Some((self.port_name)(port)),
            Endpoint::Vtep(_) => None,
        };
        let port_flag = || port.as_deref().map(|port| self.flag(port, "learning", |port| port.learning));
        let entry = || self.static_entry(&name, src);
        let (word, text, config, reason): (_, String, Vec<Decider>, _) = match learning {
            Learning::Foreseen(Learned::Known) => {
                let text = match entry() {
                    Some(_) => format!("{src} has a static entry at {here}"),
                    None => format!("{src} is known at {here}; its age begins anew"),
                };
                ("known", text, entry().into_iter().collect(), None)
            }
            Learning::Foreseen(Learned::New { evicted: None }) => {
                ("new", format!("{src} is new: it is learned at {here}"), port_flag().into_iter().collect(), None)
            }
            Learning::Foreseen(Learned::New { evicted: Some(victim) }) => {
                let text = format!("{src} is new: it is learned at {here}, and {victim} is forgotten to make room");
                ("new", text, self.limit(&name, at), None)
            }
            Learning::Foreseen(Learned::Moved { from }) => {
                let text = format!("{src} moves from {} to {here}", self.place(from));
                ("moved", text, entry().into_iter().collect(), None)
            }
            Learning::Foreseen(Learned::Sticky) => {
                let text = format!("{src} has a sticky entry elsewhere, which stays; nothing is learned");
                ("sticky", text, self.sticky(&name, src).into_iter().collect(), None)
            }
            Learning::Foreseen(Learned::StaticAtOtherVtep) => {
                let text = format!("{src} has a static entry that names another VTEP: this frame is an intruder's");
                ("static_at_other_vtep", text, entry().into_iter().collect(), Some(DropReason::SourceStatic))
            }
            Learning::Foreseen(Learned::Full) => {
                let text = format!("as much is learned as may be; {src} is not, and passes");
                ("full", text, self.limit(&name, at), None)
            }
            Learning::PortOff => {
                ("port_off", format!("{here} does not learn"), port_flag().into_iter().collect(), None)
            }
            Learning::PortDown => ("port_down", format!("{here} is down: nothing is learned from it"), vec![], None),
            Learning::PortState => {
                let config = port.as_deref().and_then(|port| self.state(port));
                ("port_state", format!("{here} learns nothing in its state"), config.into_iter().collect(), None)
            }
            Learning::Locked => {
                let text = format!("{here} is locked, and does not let {src} in: nothing is learned");
                ("locked", text, vec![], None)
            }
            Learning::TunnelOff => {
                let config = self.tunnel_learning(&name).into_iter().collect();
                ("tunnel_off", format!("bridge {name} learns nothing from VTEPs"), config, None)
            }
            Learning::BridgeOff => {
                let config = self.bridge_learning(&name).into_iter().collect();
                ("bridge_off", format!("bridge {name} learns nothing"), config, None)
            }
            Learning::LocalAddress => {
                let text =
                    format!("{src} is the address of an interface under a packet port: not believed, but passed on");
                ("local_address", text, vec![], None)
            }
        };
        let from = if let Learning::Foreseen(Learned::Moved { from }) = learning { Some(from) } else { None };
        let [(_, from_port), (_, from_vtep)] = self.place_fields(from);
        let kernel = match at {
            Endpoint::Port(_) => "net/bridge/br_fdb.c: br_fdb_update",
            Endpoint::Vtep(_) => "drivers/net/vxlan/vxlan_core.c: vxlan_snoop; net/bridge/br_fdb.c: br_fdb_update",
        };
        let at = self.place_fields(Some(at));
        let told = [("mac", json!(src)), ("learning", json!(word)), ("from_port", from_port), ("from_vtep", from_vtep)];
        let told = told.into_iter().chain(at);
        Telling::new(StageName::Learn, text).dropped(reason).config(config).kernel(kernel).fields(told)
    }
}

fn parse(header: &Result<EtherHeader, DropReason>) -> Telling {
    let text = match header {
        Err(reason) => reason.explanation().to_owned(),
        Ok(EtherHeader { tag: Some(tag), ether_type, .. }) => {
            let protocol = if *ether_type == TPID_8021Q { "802.1Q" } else { "802.1ad" };
            match tag.vid() {
                0 => format!("{protocol}: priority {}, no VLAN", tag.0 >> 13),
                vid => format!("{protocol}: VLAN {vid}, priority {}", tag.0 >> 13),
            }
        }
        Ok(EtherHeader { ether_type, .. }) => match *ether_type {
            ETHER_TYPE_ARP => "untagged, ARP".to_owned(),
            ETHER_TYPE_IPV4 => "untagged, IPv4".to_owned(),
            ETHER_TYPE_IPV6 => "untagged, IPv6".to_owned(),
            length @ 0..=1500 => format!("untagged, 802.3 of length {length}"),
            other => format!("untagged, type {other:#06x}"),
        },
    };
    let header = header.as_ref();
    let found = header.ok();
    Telling::new(StageName::Parse, text)
        .dropped(header.err().copied())
        .kernel("net/ethernet/eth.c: eth_type_trans; net/core/skbuff.c: skb_vlan_untag")
        .fields([
            ("dst", json!(found.map(|header| header.dst))),
            ("src", json!(found.map(|header| header.src))),
            ("ether_type", json!(found.map(|header| header.ether_type))),
            ("tagged", json!(found.is_some_and(|header| header.tag.is_some()))),
            ("vlan", json!(found.and_then(|header| header.tag).map(Tag::vid))),
            ("priority", json!(found.and_then(|header| header.tag).map(|tag| tag.0 >> 13))),
        ])
}
