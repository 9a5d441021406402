//! The explanation beside the walk itself.

use std::{collections::BTreeSet, net::IpAddr};

use weft_vxlan::{
    ecn::EcnMode,
    geneve::{GeneveOption, OptionList},
    header::ReservedBits,
};

use super::*;
use crate::{
    bridge::{Membership, Neigh, Oversize, PortOptions, PortSecurity, Prefix, Station, StpState},
    fdb::Limit,
    underlay::memory::Conditions,
    wire::{
        Tpid,
        probe::{self, Probe},
    },
    worker::{
        counters::Tally,
        sampling::{Came, Choice, Filter, Sampler},
        tests::scene::{
            A, ALL_OFFLOADS, B, BLUE, C, GREEN, NO_OFFLOADS, P0, P1, P2, Peer, Scene as Lab, frame, syn4, tagged_by,
            trunk, udp4, udp6, unfinished_tcp4, vxlan, wrapped,
        },
    },
};

/// Of the underlay: smaller than a tap's, so that some frames that come in don't fit.
const MTU: u32 = 1400;
const PORTS: usize = 4;
const PEERS: [u8; 3] = [2, 3, 4];
/// The VTEP's own address.
const LOCAL: [u8; 4] = [192, 0, 2, 1];
/// Nobody named it.
const STRANGER: u8 = 9;

/// Whom the random questions and packets are for, by the last byte of their address: `::` is whom [`udp6`] sends to.
const NEIGHS: [u8; 2] = [1, 2];
const NEIGHS6: [u8; 2] = [0, 2];
/// A station that is seldom heard of.
const SILENT: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 0x77]);
const ORIGINS: [Origin; 3] = [Origin::Static, Origin::Sticky, Origin::ExternLearn];
const STATES: [StpState; 4] = [StpState::Disabled, StpState::Listening, StpState::Learning, StpState::Blocking];

/// What the random frames must have met for the comparison to say much.
const FORESEEABLE: &[DropReason] = &[
    DropReason::Malformed,
    DropReason::SourceInvalid,
    DropReason::ReservedGroup,
    DropReason::VlanUntagged,
    DropReason::VlanNotMember,
    DropReason::VlanInvalid,
    DropReason::InnerVlan,
    DropReason::MacSpoofed,
    DropReason::SameEndpoint,
    DropReason::LocalDestination,
    DropReason::PathMtuProbe,
    DropReason::NoFloodTarget,
    DropReason::SplitHorizon,
    DropReason::Isolated,
    DropReason::PortDown,
    DropReason::PortState,
    DropReason::Locked,
    DropReason::NeighSuppressed,
    DropReason::NeighProxied,
    DropReason::EgressMtu,
    DropReason::VxlanTruncated,
    DropReason::VxlanNoVniFlag,
    DropReason::GeneveTruncated,
    DropReason::GeneveVersion,
    DropReason::VniUnknown,
    DropReason::EncapsulationDiffers,
    DropReason::VxlanReservedBits,
    DropReason::GpeNoProtocol,
    DropReason::GpeVersion,
    DropReason::TunnelNotEthernet,
    DropReason::TunnelControl,
    DropReason::GeneveCriticalOption,
    DropReason::VtepUnknown,
    DropReason::SourceStatic,
    DropReason::InnerTruncated,
    DropReason::EcnNotCapable,
    DropReason::OversizeAnswered,
    DropReason::OversizeNotIp,
    DropReason::Oversize,
    DropReason::UnderlayMtu,
];

/// Explains, and makes sure that this changed nothing.
fn explained(lab: &Lab, arriving: Arriving<'_>) -> Walkthrough {
    explained_after(lab, arriving, None)
}

/// The same of a frame that has passed, and has changed this in the FDB.
fn explained_after(lab: &Lab, arriving: Arriving<'_>, learned: Option<Learned>) -> Walkthrough {
    let state = || {
        let mut entries: Vec<_> = lab.shared.fdb.entries();
        entries.sort_by_key(|entry| (entry.bridge, entry.mac));
        (entries, lab.shared.vteps.all(), lab.counters().total())
    };
    let before = state();
    let scene = Scene {
        tables: &lab.tables,
        fdb: &lab.shared.fdb,
        vteps: &lab.shared.vteps,
        flow_seed: lab.shared.flow_seed,
        learned,
        now: lab.now,
        path: &|_| Path::Mtu(MTU),
    };
    let walk = explain(&scene, arriving);
    assert_eq!(state(), before);
    walk
}

/// What really happened to one frame.
#[derive(PartialEq, Eq, Debug, Default)]
struct Outcome {
    at_ports: Vec<(PortId, Vec<u8>)>,
    /// Peer's address, outer TOS, UDP payload.
    at_peers: Vec<(IpAddr, u8, Vec<u8>)>,
    drops_in: Vec<DropReason>,
    drops_out: Vec<DropReason>,
}

impl Outcome {
    fn of(lab: &Lab, walk: &Walkthrough) -> Self {
        let mut outcome = Self { drops_in: walk.dropped.into_iter().collect(), ..Self::default() };
        outcome.drops_in.extend(walk.steps.iter().filter_map(|step| {
            let Step::Proxy { proxied: Proxied::Answered(Err(reason)), .. } = step else { return None };
            Some(*reason)
        }));
        for departure in walk.departures() {
            match (departure.result, departure.to, departure.exit) {
                (Err(reason), ..) => outcome.drops_out.push(reason),
                (Ok(()), Endpoint::Port(port), _) => outcome.at_ports.push((port, departure.bytes.clone())),
                (Ok(()), Endpoint::Vtep(_), Some(Exit::Vtep { target, header, .. })) => {
                    let frames = match &departure.oversized {
                        Some(Oversized::Fragmented(frames)) => frames.as_slice(),
                        _ => std::slice::from_ref(&departure.bytes),
                    };
                    let options = lab.tables.bridge(departure.bridge).unwrap().geneve_options.as_bytes();
                    let payload = |frame: &Vec<u8>| [&header.to_bytes()[..], options, frame].concat();
                    let address = target.address.ip();
                    outcome.at_peers.extend(frames.iter().map(|frame| (address, target.tos, payload(frame))));
                }
                (Ok(()), Endpoint::Vtep(_), _) => panic!("a datagram without an outer header"),
            }
        }
        outcome.sorted()
    }

    fn sorted(mut self) -> Self {
        self.at_ports.sort();
        self.at_peers.sort();
        self.drops_in.sort();
        self.drops_out.sort();
        self
    }
}

fn drops(now: &[u64; DropReason::COUNT], before: &[u64; DropReason::COUNT]) -> Vec<DropReason> {
    let times = |reason: &DropReason| (now[reason.index()] - before[reason.index()]) as usize;
    DropReason::ALL.iter().flat_map(|reason| std::iter::repeat_n(*reason, times(reason))).collect()
}

/// Carries what was sent, and reads what came out everywhere.
fn happened(lab: &mut Lab, peers: &mut [Peer], before: &Tally) -> Outcome {
    lab.turn();
    let now = lab.counters().total();
    let mut outcome = Outcome {
        drops_in: drops(&now.drops_in, &before.drops_in),
        drops_out: drops(&now.drops_out, &before.drops_out),
        ..Outcome::default()
    };
    for port in (0..PORTS as u16).map(PortId) {
        outcome.at_ports.extend(lab.received(port).into_iter().map(|bytes| (port, bytes)));
    }
    for peer in peers {
        let received = peer.received().into_iter();
        let address = lab.shared.vteps.address(peer.vtep).unwrap().ip();
        outcome.at_peers.extend(received.map(|(arrival, bytes)| (address, arrival.tos, bytes)));
    }
    outcome.sorted()
}

fn random_lab(random: &mut fastrand::Rng) -> (Lab, Vec<Peer>) {
    let mut lab = Lab::new();
    lab.net.set_conditions(Conditions { mtu: MTU as usize, ..Conditions::default() });
    for _ in 0..PORTS {
        let membership = match random.u8(..4) {
            0 => Membership::Access(GREEN),
            1 => trunk(&[(10, BLUE), (20, GREEN)], None),
            2 => trunk(&[(20, GREEN)], Some(BLUE)),
            _ => Membership::Access(BLUE),
        };
        let port = lab.add_port(membership, NO_OFFLOADS);
        let state = STATES[random.usize(..STATES.len())];
        let [locked, mab] = [random.u8(..6) == 0, random.bool()];
        let (group_fwd_mask, fdb_max_learned) = (random.u16(..) & random.u16(..) & 0xfff8, random.u32(..4));
        let backup_port = Some(PortId(random.u16(..PORTS as u16)));
        let mut seldom = || random.u8(..6) == 0;
        lab.port(port).options = PortOptions {
            learning: !seldom(),
            flood: !seldom(),
            mcast_flood: !seldom(),
            bcast_flood: !seldom(),
            hairpin: seldom(),
            isolated: seldom() || seldom(),
            state: if seldom() { state } else { StpState::Forwarding },
            locked,
            mab,
            group_fwd_mask,
            fdb_max_learned,
            gbp_policy: if seldom() { 7 } else { 0 },
            flood_share: PortOptions::DEFAULT_FLOOD_SHARE,
            neigh_suppress: seldom(),
            proxy_arp: seldom(),
            proxy_arp_wifi: seldom(),
            backup_port: backup_port.filter(|_| seldom()),
            vlan_protocol: if seldom() { Tpid::Service } else { Tpid::Customer },
        };
        if seldom() {
            let address = Prefix { address: [10, 0, 0, 1].into(), len: 32 };
            let stations = [Station { mac: A, addresses: vec![address] }, Station { mac: B, addresses: vec![] }];
            lab.port(port).security = PortSecurity::new(&stations);
        }
        lab.port(port).up = !seldom();
        lab.port(port).mtu = if seldom() { 1200 } else { 1500 };
    }
    let mut peers = Vec::new();
    if random.u8(..5) > 0 {
        lab.join_overlay();
        peers.extend(PEERS.map(|last| lab.add_peer(last)));
        let overlay = lab.overlay();
        overlay.any_peer = random.bool();
        overlay.refused_bits = if random.bool() { ReservedBits::Drop.mask() } else { 0 };
        overlay.ecn = if random.bool() { EcnMode::Kernel } else { EcnMode::Rfc6040 };
        overlay.inner_vlan_passes = random.bool();
        overlay.tos = random.bool().then_some(0xb8);
        overlay.dont_fragment = [Some(true), Some(false), None][random.usize(..3)];
        overlay.oversize = [Oversize::Fragment, Oversize::Outer, Oversize::Drop][random.usize(..3)];
        // What is known of the way may be more than there is, or less.
        overlay.underlay_mtu = [u32::MAX, MTU, 1300][random.usize(..3)];
        overlay.path_mtus = if random.bool() { vec![] } else { vec![None, Some(700), Some(1350)] };
    }
    for id in [BLUE, GREEN] {
        let bridge = lab.bridge(id);
        bridge.learning = random.u8(..6) > 0;
        bridge.group_fwd_mask = random.u16(..) & 0xfff8;
        bridge.no_linklocal_learn = random.bool();
        (bridge.answers, bridge.neigh_suppress) = (random.bool(), random.bool());
        let mut neigh = || Neigh { mac: [A, B, C, SILENT][random.usize(..4)], router: random.u8(..4) > 0 };
        let of_v4 = NEIGHS.map(|last| (IpAddr::from([10, 0, 0, last]), neigh()));
        let of_v6 = NEIGHS6.map(|last| (IpAddr::from([0, 0, 0, 0, 0, 0, 0, u16::from(last)]), neigh()));
        bridge.neighs = of_v4.into_iter().chain(of_v6).collect();
        bridge.tunnel.learning = random.u8(..5) > 0;
        (bridge.tunnel.proxy, bridge.tunnel.rsc) = (random.u8(..3) == 0, random.bool());
        (bridge.tunnel.l2miss, bridge.tunnel.l3miss) = (random.bool(), random.bool());
        if random.u8(..4) == 0 {
            bridge.flood_list.clear();
        }
        bridge.mss_clamp = random.bool();
        let max_remote = random.bool().then(|| random.usize(..3));
        bridge.limit = Limit { max_learned: random.usize(..4), evict: random.bool(), max_remote };
        if random.u8(..4) == 0 {
            bridge.local_macs.push(C);
        }
        // As where stations are asked.
        if random.bool() {
            bridge.local_macs.push(probe::own_address(IpAddr::from(LOCAL), 0));
        }
        if random.u8(..4) == 0 {
            bridge.vni = None;
        }
        bridge.encapsulation = Encapsulation::ALL[random.usize(..4)];
        if bridge.encapsulation == Encapsulation::Geneve && random.bool() {
            let mut options = OptionList::new();
            options.push(GeneveOption { class: 0xff01, kind: random.u8(..), data: &[1, 2, 3, 4] }).unwrap();
            bridge.geneve_options = options;
        }
        for mac in [A, B, C] {
            let at = match random.usize(..8) {
                port @ 0..PORTS => Endpoint::Port(PortId(port as u16)),
                _ if peers.is_empty() => continue,
                other => Endpoint::Vtep(peers[other % peers.len()].vtep),
            };
            match random.u8(..4) {
                0 => lab.shared.fdb.add_static(id, mac, at, ORIGINS[random.usize(..3)], lab.now),
                1 => drop(lab.shared.fdb.learn(id, mac, at, lab.now, Limit::NONE)),
                _ => {}
            }
        }
    }
    (lab, peers)
}

/// Who has this IPv6 address? In the name of `src`, and now and then with an option that makes no sense.
fn solicitation(dst: MacAddr, src: MacAddr, target: u8, makes_sense: bool) -> Vec<u8> {
    let packet = [0x60, 0, 0, 0, 0, 32, 58, 255];
    let address = |last| [[0; 15].as_slice(), &[last]].concat();
    let option = [u8::from(makes_sense); 2];
    let ends = [&dst.octets()[..], &src.octets(), &[0x86, 0xdd], &packet, &address(1), &address(9)].concat();
    [&ends[..], &[135, 0, 0, 0, 0, 0, 0, 0], &address(target), &option, &src.octets()].concat()
}

fn random_frame(random: &mut fastrand::Rng) -> Vec<u8> {
    let groups =
        [MacAddr::BROADCAST, MacAddr::new([1, 0, 0x5e, 0, 0, 1]), MacAddr::new([1, 0x80, 0xc2, 0, 0, random.u8(..17)])];
    let stations = [A, B, C, MacAddr::new([2, 0, 0, 0, 0, random.u8(..)])];
    let dst = if random.u8(..3) == 0 { groups[random.usize(..groups.len())] } else { stations[random.usize(..4)] };
    let src = match random.u8(..20) {
        0 => MacAddr::ZERO,
        1 => groups[1],
        _ => stations[random.usize(..4)],
    };
    let len = [20, 500, 1150, 1210, 1330, 1345, 1360, 1490, 1520, 1600][random.usize(..10)];
    let mut bytes = match random.u8(..7) {
        4 => solicitation(dst, src, random.u8(..4), random.u8(..4) > 0),
        3 => {
            let ip = |random: &mut fastrand::Rng| [10, 0, 0, random.u8(1..4)];
            let (from, to) = (ip(random), ip(random));
            let fixed = [0, 1, 8, 0, 6, 4, 0, 1];
            let ends = [&dst.octets()[..], &src.octets(), &[8, 6]].concat();
            [&ends[..], &fixed, &src.octets(), &from, &[0; 6], &to].concat()
        }
        0 if random.bool() => syn4(dst, src, random.u16(..)),
        0 => frame(dst, src, len),
        1 if random.bool() => {
            let mut loose = udp4(dst, src, random.u8(..), len);
            loose[20] = 0; // without DF
            loose
        }
        1 | 5 => udp4(dst, src, random.u8(..), len),
        _ => udp6(dst, src, random.u8(..), len),
    };
    if random.bool() {
        let vids = [0, 10, 20, 30, 4095];
        let tpid = if random.u8(..4) == 0 { Tpid::Service } else { Tpid::Customer };
        bytes = tagged_by(tpid, &bytes, vids[random.usize(..5)] | random.u16(..8) << 13);
    }
    if random.u8(..15) == 0 {
        bytes.truncate(random.usize(1..40));
    }
    bytes
}

/// A frame about the path MTU. Questions are answered besides, so these are answers.
fn probe_frame(random: &mut fastrand::Rng) -> Vec<u8> {
    match random.bool() {
        true => Probe { kind: probe::Kind::Answer, nonce: 7, len: 1000 }.frame(B),
        false => frame(probe::own_address(IpAddr::from(LOCAL), 0), B, 60),
    }
}

fn random_payload(random: &mut fastrand::Rng, format: HeaderFormat) -> Vec<u8> {
    let inner = if random.u8(..10) == 0 { probe_frame(random) } else { random_frame(random) };
    let mut payload = wrapped(format, [42, 43, 44][random.usize(..3)], &inner);
    match random.u8(..12) {
        0 => payload.truncate(random.usize(1..30)),
        // flags and versions of all kinds
        1 => payload[0] ^= 1 << random.u8(..8),
        2 => payload[1] ^= 1 << random.u8(..8),
        3 => payload[3] ^= 1 << random.u8(..8),
        4 => payload[7] = 1,
        _ => {}
    }
    payload
}

#[test]
fn what_is_explained_is_what_happens() {
    let mut reasons = BTreeSet::new();
    let mut looks = BTreeSet::new();
    for seed in 0..640 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut lab, mut peers) = random_lab(&mut random);
        let has_overlay = !peers.is_empty();
        if has_overlay {
            peers.push(lab.add_stranger(STRANGER));
        }
        let (sampler, samples) = Sampler::new(Filter::default(), Choice { every: 1, rate: 200 });
        lab.worker.sample(vec![sampler]);
        for round in 0..60 {
            lab.now = Stamp(lab.now.0 + 100);
            let before = lab.counters().total();
            let walk = if has_overlay && random.bool() {
                // mostly as the bridges have it, or little else would be met
                let [blue, green] = [BLUE, GREEN].map(|id| lab.bridge(id).encapsulation.format());
                let format = [blue, blue, green, green, HeaderFormat::ALL[random.usize(..3)]][random.usize(..5)];
                let (last, tos) = (random.usize(..peers.len()), random.u8(..));
                let payload = random_payload(&mut random, format);
                let source = IpAddr::from([192, 0, 2, [PEERS[0], PEERS[1], PEERS[2], STRANGER][last]]);
                let walk = explained(&lab, Arriving::Datagram { format, source, tos, payload: &payload });
                peers[last].send_to(format, tos, &payload);
                walk
            } else {
                let (port, bytes) = (PortId(random.u16(..PORTS as u16)), random_frame(&mut random));
                let walk = explained(&lab, Arriving::Frame { port, bytes: &bytes, vnet: Some(VnetHeader::NONE) });
                lab.host(port).send(&bytes, VnetHeader::NONE).unwrap();
                walk
            };
            let expected = Outcome::of(&lab, &walk);
            assert_eq!(expected, happened(&mut lab, &mut peers, &before), "seed {seed}, round {round}: {walk:#?}");
            learned_as_foreseen(&lab, &walk);
            let sample = samples.try_recv().expect("a sample of every frame");
            assert_eq!(differences(&walk, &sample.witness), [], "seed {seed}, round {round}: {walk:#?}");
            // Explained when it has passed, it ends the same, although its source is known by now.
            let mut bytes = sample.bytes.to_vec();
            bytes.resize(sample.len, 0);
            let arriving = match sample.came {
                Came::Port { port, vnet } => Arriving::Frame { port, bytes: &bytes, vnet },
                Came::Datagram { format, source, tos } => Arriving::Datagram { format, source, tos, payload: &bytes },
            };
            let again = explained_after(&lab, arriving, sample.witness.learned);
            assert_eq!(differences(&again, &sample.witness), [], "seed {seed}, round {round}: {again:#?}");
            looks.extend(walk.steps.iter().filter_map(look));
            reasons.extend(expected.drops_in.iter().chain(&expected.drops_out).map(|reason| reason.name()));
        }
    }
    for reason in FORESEEABLE {
        assert!(reasons.contains(reason.name()), "{} was never met: {reasons:?}", reason.name());
    }
    assert_eq!(looks.len(), 13, "{looks:?}");
}

/// What `proxy` or `rsc` made of a frame, in a word.
fn look(step: &Step) -> Option<&'static str> {
    if let Step::Proxy { proxied, .. } = step {
        return Some(match proxied {
            Proxied::Passes => "passes",
            Proxied::Kept => "kept",
            Proxied::Unknown => "unknown",
            Proxied::HearsItself => "hears itself",
            Proxied::Senseless => "senseless",
            Proxied::Answered(Ok(())) => "answered",
            Proxied::Answered(Err(_)) => "answered to nobody",
        });
    }
    let Step::ShortCircuit { ip, station, result, .. } = step else { return None };
    Some(match (ip, station, result) {
        (_, _, Err(_)) => "routed to nobody",
        (None, ..) => "straight",
        (Some(_), None, _) => "routed by nobody",
        (Some(_), Some((_, Some(Endpoint::Port(_)))), _) => "routed to a port",
        (Some(_), Some((_, Some(Endpoint::Vtep(_)))), _) => "routed to a VTEP",
        (Some(_), Some((_, None)), _) => "routed to all",
    })
}

fn learned_as_foreseen(lab: &Lab, walk: &Walkthrough) {
    for step in &walk.steps {
        let Step::Learn { bridge, src, at, learning } = *step else { continue };
        let found = lab.shared.fdb.lookup(bridge, src);
        let is_there =
            matches!(learning, Learning::Foreseen(Learned::Known | Learned::New { .. } | Learned::Moved { .. }));
        let refused =
            matches!(learning, Learning::Foreseen(Learned::Sticky | Learned::StaticAtOtherVtep | Learned::Full));
        assert!(!is_there || found == Some(at), "{learning:?} and {found:?}");
        assert!(!refused || found != Some(at), "{learning:?} and {found:?}");
    }
}

#[test]
fn a_super_frame_is_counted_and_measured_by_its_segments() {
    let mut lab = Lab::access(&[ALL_OFFLOADS]);
    lab.join_overlay();
    lab.add_peer(2);
    let (bytes, vnet) = unfinished_tcp4(MacAddr::BROADCAST, A, 3000, Some(1000));
    let walk = explained(&lab, Arriving::Frame { port: P0, bytes: &bytes, vnet: Some(vnet) });
    assert_eq!(walk.frames, 3);
    let exits: Vec<_> = walk.departures().map(|departure| departure.exit.unwrap()).collect();
    let [exit @ Exit::Vtep { payload_len, .. }] = exits.as_slice() else { panic!("{exits:?}") };
    assert_eq!((*payload_len, exit.outer_len()), (8 + 54 + 1000, Some(8 + 54 + 1000 + 28)));
}

#[test]
fn whoever_is_left_out_of_a_flood_is_named_with_the_reason() {
    let mut lab = Lab::access(&[NO_OFFLOADS; 4]);
    lab.join_overlay();
    let peer = lab.add_peer(2);
    lab.port(P0).options.bcast_flood = false;
    lab.port(P1).up = false;
    let passed_over = |walk: &Walkthrough| {
        let decide = walk.steps.iter().find_map(|step| {
            let Step::Decide { passed_over, vteps_passed_over, .. } = step else { return None };
            Some((passed_over.clone(), vteps_passed_over.clone()))
        });
        decide.unwrap()
    };
    let bytes = frame(MacAddr::BROADCAST, A, 60);
    let walk = explained(&lab, Arriving::Frame { port: P2, bytes: &bytes, vnet: Some(VnetHeader::NONE) });
    let ports = vec![(P0, None), (P1, Some(DropReason::PortDown)), (P2, Some(DropReason::SameEndpoint))];
    assert_eq!(passed_over(&walk), (ports, vec![]));

    let payload = vxlan(42, &bytes);
    let source = IpAddr::from([192, 0, 2, 2]);
    let arriving = Arriving::Datagram { format: HeaderFormat::Vxlan, source, tos: 0, payload: &payload };
    let walk = explained(&lab, arriving);
    let ports = vec![(P0, None), (P1, Some(DropReason::PortDown))];
    assert_eq!(passed_over(&walk), (ports, vec![peer.vtep]));
}
