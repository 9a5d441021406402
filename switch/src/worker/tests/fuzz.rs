//! The whole walk, as a fuzzer drives it: [`crate::fuzzing`]. An input is a script that builds a small switch and then lets
//! things happen to it: frames from hosts and from VTEPs, whole, damaged and made up, super-frames among them; options, tables
//! and time that change meanwhile.
//!
//! After each batch it is asked whether every frame is accounted for, by name or as delivered; whether somebody got his own
//! frame back; whether something left that is too long for its way; whether checksums that were right still are; and whether
//! the FDB keeps to its limit.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use weft_vxlan::{
    Encapsulation, HeaderFormat,
    geneve::{GeneveOption, OptionList},
};

use super::{
    scene::{A, B, BLUE, C, GREEN, Peer, Scene, syn4, trunk, wrapped},
    storm::{Damage, frames, wire_frames_of},
};
use crate::{
    bridge::{Membership, Neigh, Oversize, PortOptions, StpState, TunnelOptions},
    fdb::{Flush, Limit, Origin},
    fuzzing::{Script, inputs},
    ids::{BridgeId, Endpoint, PortId},
    l3::too_big::MAX_ANSWER_LEN,
    offload::{Segments, VnetHeader, unfinished, wire_frames},
    port::Offloads,
    snoop::{Member, PortSettings, Router, Settings, Snooper},
    underlay::memory::Conditions,
    wire::{
        MacAddr,
        checksum::sum,
        dissect::{IpVersion, dissect},
        membership::{
            self,
            testing::{HOST, HOST_V6, leave, query, report, traffic},
        },
        probe, vlan,
    },
    worker::TunnelHeader,
};

#[test]
fn fuzz_walk() {
    inputs(|input| {
        let mut script = Script::new(input);
        let mut happening = Happening::new(&mut script);
        while !script.is_empty() {
            happening.event(&mut script);
        }
        happening.turn();
    });
}

const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 1, 2, 3));
const GROUP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 7));
/// Without fragments, an outer packet is no longer than this.
const UNDERLAY_MTUS: [u32; 3] = [1500, 1400, u32::MAX];
const PORT_MTUS: [u16; 4] = [1500, 1400, 68, 65_535];
const BRIDGES: [BridgeId; 2] = [BLUE, GREEN];

/// A switch, what was put into it and what came out.
struct Happening {
    scene: Scene,
    snooper: Snooper,
    peers: Vec<Peer>,
    /// Of both bridges.
    format: HeaderFormat,
    templates: Vec<(Vec<u8>, VnetHeader)>,
    put_in: u64,
    /// How many frames more it was if each datagram that looks like unfinished TCP got as far as to be cut.
    perhaps: u64,
    got_out: u64,
    /// What went in since the last turn.
    batch: Batch,
}

struct Batch {
    /// The frame of a host if it was the only one, and his port.
    only: Option<(PortId, Vec<u8>)>,
    count: usize,
    /// Each checksum in every frame is right.
    checksums_hold: bool,
    /// No super-frame.
    plain: bool,
}

impl Batch {
    const EMPTY: Self = Self { only: None, count: 0, checksums_hold: true, plain: true };
}

impl Happening {
    fn new(script: &mut Script<'_>) -> Self {
        let mut scene = Scene::new();
        for _ in 0..1 + script.u8() % 4 {
            let membership = match script.u8() % 6 {
                0 | 1 => Membership::Access(BLUE),
                2 => Membership::Access(GREEN),
                3 => trunk(&[(10, BLUE), (20, GREEN)], Some(GREEN)),
                4 => trunk(&[(10, BLUE), (30, GREEN)], None),
                _ => trunk(&[], Some(BLUE)),
            };
            let offloads = script.u8();
            let [csum, tso4, tso6, uso] = [0, 1, 2, 3].map(|bit| offloads >> bit & 1 == 1);
            let id = scene.add_port(membership, Offloads { csum, tso4, tso6, uso });
            scene.port(id).mtu = script.one_of(&PORT_MTUS);
        }
        scene.join_overlay();
        let encapsulation = script.one_of(&Encapsulation::ALL);
        let mut options = OptionList::new();
        if encapsulation.has_options() && script.bool() {
            options.push(GeneveOption { class: 0xff01, kind: 1, data: &[1, 2, 3, 4] }).unwrap();
        }
        let limit = Limit { max_learned: script.one_of(&[0, 2, 8]), evict: script.bool(), max_remote: None };
        for id in BRIDGES {
            let bridge = scene.bridge(id);
            (bridge.encapsulation, bridge.geneve_options, bridge.limit) = (encapsulation, options.clone(), limit);
            let neigh = Neigh { mac: C, router: true };
            let neighs: [(IpAddr, Neigh); 2] =
                [(Ipv4Addr::new(10, 0, 0, 2).into(), neigh), (Ipv6Addr::from([7; 16]).into(), neigh)];
            bridge.neighs = neighs.into_iter().collect();
        }
        let mut peers = vec![scene.add_peer(2), scene.add_peer(3)];
        peers.push(scene.add_stranger(4));
        let settings = Settings { snooping: script.bool(), querier: true, hash_max: 4, ..Settings::default() };
        let mut snooper = Snooper::new(settings, A, Duration::ZERO);
        let router = PortSettings {
            router: script.one_of(&[Router::Never, Router::Learn, Router::Always]),
            ..PortSettings::default()
        };
        let members = (0..scene.tables.ports.len() as u16).map(|port| Member::Port(PortId(port)));
        snooper.set_ports(
            &members.chain([Member::Overlay]).map(|member| (member, router)).collect::<Vec<_>>(),
            Duration::ZERO,
        );
        let format = encapsulation.format();
        Self {
            scene,
            snooper,
            peers,
            format,
            templates: templates(),
            put_in: 0,
            perhaps: 0,
            got_out: 0,
            batch: Batch::EMPTY,
        }
    }

    fn event(&mut self, script: &mut Script<'_>) {
        let what = script.u8();
        match what % 16 {
            0..=5 => self.offer(script),
            6..=8 => self.offer_datagram(script),
            9 => self.change_port(script),
            10 => self.change_bridge(script),
            11 => self.change_overlay(script),
            12 => self.change_fdb(script),
            13 => {
                self.turn();
                self.scene.now.0 += u64::from(script.u16()) * 16;
                let ageing = Duration::from_secs(300);
                self.scene.shared.fdb.age(self.scene.now, |_| ageing);
            }
            _ => self.turn(),
        }
        if what & 0x80 == 0 {
            self.turn();
        }
    }

    /// A frame from a host.
    fn offer(&mut self, script: &mut Script<'_>) {
        let port = PortId(u16::from(script.u8()) % self.scene.tables.ports.len() as u16);
        let (bytes, own) = self.frame(script);
        let vnet = match script.u8() % 4 {
            0 => VnetHeader::NONE,
            1 => VnetHeader::parse(&std::array::from_fn(|_| script.u8())).unwrap_or(own),
            _ => own,
        };
        if self.scene.host(port).send(&bytes, vnet).is_err() {
            return;
        }
        self.put_in += wire_frames(&bytes, &vnet).map_or(1, u64::from);
        self.batch.plain &= vnet.gso.is_none();
        self.batch.checksums_hold &= checksums_hold(&bytes, &vnet);
        self.batch.count += 1;
        self.batch.only = (self.batch.count == 1).then_some((port, bytes));
    }

    /// A datagram from a VTEP.
    fn offer_datagram(&mut self, script: &mut Script<'_>) {
        let peer = usize::from(script.u8()) % self.peers.len();
        let format = script.one_of(&HeaderFormat::ALL);
        let vni = 41 + u32::from(script.u8() % 4);
        let (bytes, vnet) = self.frame(script);
        // What is left undone beside a frame nobody hears of here.
        let bytes = if vnet.gso.is_some() { &bytes[..bytes.len().min(1400)] } else { &bytes };
        let mut payload = wrapped(format, vni, bytes);
        if script.bool() {
            damage(&mut payload, script);
        }
        self.peers[peer].send_to(format, script.u8(), &payload);
        self.put_in += 1;
        // It is cut for the smallest MTU of its bridge, whichever that is; one that has no room for its headers leaves it whole.
        let mtus = self.scene.tables.ports.iter().flatten().map(|port| port.mtu).chain([u16::MAX]);
        let inner = TunnelHeader::inner(format, &payload).unwrap_or_default();
        let frames = mtus.map(|mtu| {
            let vnet = unfinished(inner, &dissect(inner), || mtu);
            wire_frames(inner, &vnet).map_or(1, u64::from)
        });
        self.perhaps += frames.max().unwrap_or(1) - 1;
        self.batch.checksums_hold &= checksums_hold(inner, &VnetHeader::NONE);
        self.batch.count += 1;
        self.batch.only = None;
    }

    /// One of those that hosts send, perhaps with other addresses and damaged, or just bytes.
    fn frame(&self, script: &mut Script<'_>) -> (Vec<u8>, VnetHeader) {
        let kind = script.u8();
        if kind >= 0xe0 {
            return (script.piece().to_vec(), VnetHeader::NONE);
        }
        let (mut bytes, vnet) = self.templates[usize::from(kind) % self.templates.len()].clone();
        let addresses = script.u8();
        if addresses & 1 == 1 {
            let macs = [A, B, C, MacAddr::BROADCAST, MacAddr::new([2, 0, 0, 0, 0, addresses])];
            let mut set = |at: usize, mac: MacAddr| bytes[at..at + 6].copy_from_slice(&mac.octets());
            set(0, script.one_of(&macs));
            set(6, script.one_of(&macs));
        }
        if addresses & 2 == 2 {
            damage(&mut bytes, script);
        }
        (bytes, vnet)
    }

    fn change_port(&mut self, script: &mut Script<'_>) {
        self.turn();
        let count = self.scene.tables.ports.len() as u16;
        let id = PortId(u16::from(script.u8()) % count);
        let what = script.u8();
        let backup = PortId(u16::from(script.u8()) % count);
        if what == 0xff {
            // The tables lose it before its worker does.
            self.scene.tables.ports[id.index()] = None;
            return;
        }
        let mtu = script.one_of(&PORT_MTUS);
        let Some(port) = &mut self.scene.tables.ports[id.index()] else { return };
        let options = &mut port.options;
        match what % 16 {
            0 => options.isolated ^= true,
            1 => options.hairpin ^= true,
            2 => port.up ^= true,
            3 => options.learning ^= true,
            4 => options.flood ^= true,
            5 => options.mcast_flood ^= true,
            6 => options.bcast_flood ^= true,
            7 => options.neigh_suppress ^= true,
            8 => options.proxy_arp ^= true,
            9 => options.proxy_arp_wifi ^= true,
            10 => options.locked ^= true,
            11 => options.mab ^= true,
            12 => options.backup_port = (backup != id).then_some(backup),
            13 => {
                options.state =
                    script.one_of(&[StpState::Forwarding, StpState::Learning, StpState::Blocking, StpState::Disabled]);
            }
            14 => {
                (options.group_fwd_mask, options.gbp_policy, options.fdb_max_learned) = (script.u16(), script.u16(), 2)
            }
            _ => (port.mtu, port.options) = (mtu, PortOptions::default()),
        }
        self.note_answers();
    }

    fn change_bridge(&mut self, script: &mut Script<'_>) {
        self.turn();
        let bridge = self.scene.bridge(script.one_of(&BRIDGES));
        match script.u8() % 8 {
            0 => bridge.mss_clamp ^= true,
            1 => bridge.neigh_suppress ^= true,
            2 => bridge.learning ^= true,
            3 => {
                let bits = script.u8();
                let [learning, proxy, rsc, l2miss, l3miss] = [0, 1, 2, 3, 4].map(|bit| bits >> bit & 1 == 1);
                bridge.tunnel = TunnelOptions { learning, proxy, rsc, l2miss, l3miss };
            }
            4 => bridge.group_fwd_mask = script.u16(),
            5 => bridge.no_linklocal_learn ^= true,
            6 => bridge.local_macs = if script.bool() { vec![B] } else { vec![] },
            _ => bridge.flood_list.truncate(usize::from(script.u8() % 3)),
        }
        self.note_answers();
    }

    /// What the control plane derives from the options of ports and overlay.
    fn note_answers(&mut self) {
        let of_ports = self.scene.tables.ports.iter().flatten().any(|port| {
            let PortOptions { neigh_suppress, proxy_arp, proxy_arp_wifi, .. } = port.options;
            neigh_suppress || proxy_arp || proxy_arp_wifi
        });
        for id in BRIDGES {
            let bridge = self.scene.bridge(id);
            bridge.answers = of_ports || bridge.neigh_suppress;
        }
    }

    fn change_overlay(&mut self, script: &mut Script<'_>) {
        self.turn();
        let underlay_mtu = script.one_of(&UNDERLAY_MTUS);
        let aggregate = script.bool();
        let overlay = self.scene.overlay();
        overlay.underlay_mtu = underlay_mtu;
        overlay.oversize = script.one_of(&[Oversize::Fragment, Oversize::Outer, Oversize::Drop]);
        overlay.any_peer = script.bool();
        overlay.inner_vlan_passes = script.bool();
        overlay.unknown_vni = script.bool().then_some(GREEN);
        if script.bool() {
            (overlay.tos, overlay.ttl, overlay.dont_fragment) = (None, None, None);
        }
        self.scene.net.set_conditions(Conditions { aggregate, ..Conditions::default() });
    }

    fn change_fdb(&mut self, script: &mut Script<'_>) {
        self.turn();
        let bridge = script.one_of(&BRIDGES);
        let mac = script.one_of(&[A, B, C]);
        let at = match script.u8() % 4 {
            0 => Endpoint::Vtep(self.peers[0].vtep),
            port => Endpoint::Port(PortId(u16::from(port) - 1)),
        };
        let (fdb, now) = (&self.scene.shared.fdb, self.scene.now);
        match script.u8() % 3 {
            0 => fdb.add_static(bridge, mac, at, Origin::Static, now),
            1 => drop(fdb.remove(bridge, mac)),
            _ => drop(fdb.flush(Flush { bridge: Some(bridge), at: None, statics: script.bool() })),
        }
    }

    /// Carries what waits, and asks what is said at the top.
    fn turn(&mut self) {
        self.scene.turn();
        let batch = std::mem::replace(&mut self.batch, Batch::EMPTY);
        for id in (0..self.scene.tables.ports.len() as u16).map(PortId) {
            for (bytes, vnet) in self.scene.received_with(id) {
                self.got_out += u64::from(wire_frames_of(bytes.clone(), vnet));
                self.look_at_frame(&batch, id, &bytes, &vnet);
            }
        }
        let overlay = self.scene.tables.overlay.as_ref().unwrap();
        let (underlay_mtu, oversize) = (overlay.underlay_mtu, overlay.oversize);
        for peer in &mut self.peers {
            for (arrival, bytes) in peer.received() {
                for datagram in bytes.chunks(arrival.stride) {
                    self.got_out += 1;
                    let outer_len = datagram.len() + 20 + 8;
                    assert!(
                        outer_len as u64 <= u64::from(underlay_mtu) || oversize == Oversize::Outer,
                        "{outer_len} bytes left for a VTEP that {underlay_mtu} reach"
                    );
                    let inner = TunnelHeader::inner(self.format, datagram).expect("what leaves has a header");
                    let hold = !batch.checksums_hold || checksums_hold(inner, &VnetHeader::NONE);
                    assert!(hold, "checksums were right and aren't: {inner:02x?}");
                }
            }
        }
        let total = self.scene.counters().total();
        assert_eq!(total.frames_out, self.got_out, "what is counted as delivered was");
        let possible = self.put_in..=self.put_in + self.perhaps;
        assert!(possible.contains(&total.frames_in), "{} of {possible:?}", total.frames_in);
        for id in BRIDGES {
            let limit = self.scene.bridge(id).limit.max_learned;
            let learned = self.scene.shared.fdb.learned_count(id);
            assert!(limit == 0 || learned <= limit, "{learned} learned, and {limit} is the limit");
        }
        self.snoop();
    }

    fn look_at_frame(&self, batch: &Batch, id: PortId, bytes: &[u8], vnet: &VnetHeader) {
        let hold = !batch.checksums_hold || checksums_hold(bytes, vnet);
        assert!(hold, "checksums were right and aren't: {vnet:?} {bytes:02x?}");
        let Some(port) = self.scene.tables.port(id) else { panic!("a frame for a port that is gone") };
        if batch.plain && vnet.gso.is_none() {
            let longest = usize::from(port.mtu) + 14 + 4 + if port.membership.access().is_none() { 4 } else { 0 };
            // The switch's own answers are not held against anything.
            assert!(
                bytes.len() <= longest.max(MAX_ANSWER_LEN + 4),
                "{} bytes left by a port of MTU {}",
                bytes.len(),
                port.mtu
            );
        }
        if let Some((from, sent)) = &batch.only
            && *from == id
            && !port.options.hairpin
        {
            assert_ne!(bytes, sent, "it came back to where it entered");
        }
    }

    /// The bridge hears what its workers heard about groups.
    fn snoop(&mut self) {
        let now = Duration::from_millis(self.scene.now.0);
        for heard in self.scene.snooped() {
            let from = match heard.from {
                Endpoint::Port(port) => Member::Port(port),
                Endpoint::Vtep(_) => Member::Overlay,
            };
            let packet = membership::parse(&heard.bytes, heard.checksum_is_pending);
            if let Ok(Some(packet)) = packet
                && heard.bridge == BLUE
            {
                self.snooper.on_packet(from, A, &packet, now);
            }
        }
        self.snooper.poll(now);
        drop(self.snooper.take_queries());
        self.scene.bridge(BLUE).mdb = self.snooper.mdb().map(Arc::new);
    }
}

/// Frames as hosts send them.
fn templates() -> Vec<(Vec<u8>, VnetHeader)> {
    let groups = [GROUP, GROUP_V6];
    let of_groups = groups.into_iter().flat_map(|group| {
        let host = if group.is_ipv4() { IpAddr::from(HOST) } else { HOST_V6.into() };
        [report(group), leave(group), query(host), traffic(host, group)]
    });
    let question = probe::Probe { kind: probe::Kind::Question, nonce: 7, len: 100 };
    let mut solicitation =
        [&[0x33, 0x33, 0xff, 7, 7, 7][..], &A.octets(), &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 58, 255]].concat();
    solicitation.extend([[6; 16], [7; 16]].concat());
    solicitation.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    solicitation.extend([7; 16]);
    let more = [syn4(B, A, 1460), question.frame(A), solicitation].into_iter().chain(of_groups);
    frames().into_iter().chain(more.map(|bytes| (bytes, VnetHeader::NONE))).collect()
}

fn damage(bytes: &mut Vec<u8>, script: &mut Script<'_>) {
    for _ in 0..1 + script.u8() % 3 {
        let at = usize::from(script.u8());
        let damage = match script.u8() % 4 {
            0 => Damage::Flip(at * 8 + usize::from(script.u8() % 8)),
            1 => Damage::Overwrite(at, script.u16().to_be_bytes()),
            2 => Damage::Truncate(at),
            _ => Damage::Extend(at * 16),
        };
        damage.apply(bytes);
    }
}

/// Whether each wire frame of this one has the checksums that its headers say: of IPv4 and of TCP, UDP and ICMP that is whole.
fn checksums_hold(bytes: &[u8], vnet: &VnetHeader) -> bool {
    let Ok(segments) = Segments::new(bytes, vnet) else { return false };
    (0..segments.count()).all(|i| {
        let mut frame = vec![0; segments.len(i)];
        segments.write(i, &mut frame);
        // A tag that is one too many to see the packet behind it may be taken off.
        wire_checksums_hold(&frame) && vlan::pop(&mut frame).is_none_or(|(_, untagged)| wire_checksums_hold(untagged))
    })
}

fn wire_checksums_hold(frame: &[u8]) -> bool {
    let found = dissect(frame);
    let Some(l3) = found.l3 else { return true };
    let packet = &frame[usize::from(l3.offset)..];
    let Some(packet) = packet.get(..l3.total_len as usize) else { return false };
    if l3.version == IpVersion::V4 && packet.get(..usize::from(l3.header_len)).is_none_or(|ip| sum(ip).checksum() != 0)
    {
        return false;
    }
    if l3.fragment || found.l4.is_none() {
        return true;
    }
    let Some(message) = packet.get(usize::from(l3.header_len)..) else { return false };
    let pseudo = l3.addresses(frame).map(sum).unwrap_or_default();
    let pseudo = pseudo.add16(u16::from(l3.protocol)).add32(message.len() as u32);
    match l3.protocol {
        1 | 2 => sum(message).checksum() == 0,
        17 if message.get(6..8) == Some(&[0, 0]) => true,
        6 | 17 | 58 => sum(message).combine(pseudo).checksum() == 0,
        _ => true,
    }
}
