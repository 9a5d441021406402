//! Any frames at all, damaged in any way: nothing panics, nothing goes uncounted, and the others' frames still pass.

use etherparse::PacketBuilder;
use proptest::{collection::vec, prelude::*};

use super::scene::{
    A, ALL_OFFLOADS, B, BLUE, C, GREEN, NO_OFFLOADS, Peer, Scene, frame, tagged, tcp4, trunk, udp4, udp6,
    unfinished_tcp4, vxlan,
};
use crate::{
    bridge::Membership,
    fdb::Limit,
    ids::PortId,
    offload::{Gso, PartialCsum, VnetHeader, unfinished, wire_frames},
    port::Offloads,
    underlay::memory::Conditions,
    wire::{MacAddr, dissect::dissect, vlan},
};

/// Frames as hosts send them, with what stands beside them.
pub(super) fn frames() -> Vec<(Vec<u8>, VnetHeader)> {
    let mut arp =
        [&MacAddr::BROADCAST.octets()[..], &A.octets(), &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &A.octets(), &[10, 0, 0, 1]]
            .concat();
    arp.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    let mut ping = Vec::new();
    let builder = PacketBuilder::ethernet2(A.octets(), B.octets())
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .icmpv4_echo_request(1, 2);
    builder.write(&mut ping, b"are you there?").unwrap();
    let mut solicitation = Vec::new();
    let builder = PacketBuilder::ethernet2(B.octets(), [0x33, 0x33, 0, 0, 0, 1]).ipv6([0xfe; 16], [0xff; 16], 255);
    builder.icmpv6_raw(135, 0, [0; 4]).write(&mut solicitation, &[7; 24]).unwrap();
    let group = MacAddr::new([1, 0x80, 0xc2, 0, 0, 0xe]);
    let whole = [
        arp,
        ping,
        solicitation,
        tcp4(B, A, 1000),
        udp4(A, B, 0x2a, 100),
        udp6(C, A, 0xff, 300),
        frame(group, C, 60),
        frame(A, C, 1600),
        tagged(&tcp4(B, A, 10), 10),
        tagged(&frame(MacAddr::BROADCAST, C, 60), 0xe014),
        tagged(&tagged(&udp6(B, C, 1, 20), 30), 20),
        udp4(B, A, 0, 0),
    ];
    let nested = [udp4(A, C, 0, 8), frame(B, A, 60)].concat();
    let unfinished = [None, Some(536), Some(90)].map(|gso_size| unfinished_tcp4(B, A, 2900, gso_size));
    let (bytes, vnet) = unfinished_tcp4(C, A, 4000, Some(1448));
    let behind_tag = (tagged(&bytes, 10), vnet.shifted(4));
    let whole = whole.into_iter().chain([nested]).map(|bytes| (bytes, VnetHeader::NONE));
    whole.chain(unfinished).chain([behind_tag]).collect()
}

/// Something that happens to a frame on a bad day.
#[derive(Clone, Debug)]
pub(super) enum Damage {
    /// The bit with this number, counted round the frame.
    Flip(usize),
    /// Two bytes.
    Overwrite(usize, [u8; 2]),
    Truncate(usize),
    Extend(usize),
}

impl Damage {
    fn random(random: &mut fastrand::Rng) -> Self {
        match random.u8(..8) {
            0 => Self::Truncate(random.usize(..100)),
            1 => Self::Extend(random.usize(..100)),
            2 | 3 => Self::Overwrite(random.usize(..64), [random.u8(..), random.u8(..)]),
            // where the headers are
            4 | 5 => Self::Flip(random.usize(..64 * 8)),
            _ => Self::Flip(random.usize(..)),
        }
    }

    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        match *self {
            Self::Flip(bit) if !bytes.is_empty() => {
                let len = bytes.len();
                bytes[bit / 8 % len] ^= 1 << (bit % 8);
            }
            Self::Flip(_) => {}
            Self::Overwrite(at, two) => bytes.iter_mut().skip(at).zip(two).for_each(|(byte, new)| *byte = new),
            Self::Truncate(len) => bytes.truncate(len),
            Self::Extend(by) => bytes.resize(bytes.len() + by, 0x5a),
        }
    }
}

/// A scene that keeps its own account of what was put in and what came out.
struct Storm {
    scene: Scene,
    peer: Peer,
    put_in: u64,
    /// How many frames more it was if each datagram that looks like unfinished TCP got as far as to be cut.
    perhaps: u64,
    got_out: u64,
}

impl Storm {
    /// Puts a frame into a port's queue.
    fn offer(&mut self, port: PortId, bytes: &[u8], vnet: VnetHeader) {
        if self.scene.host(port).send(bytes, vnet).is_ok() {
            self.put_in += wire_frames(bytes, &vnet).map_or(1, u64::from);
        }
    }

    fn offer_datagram(&mut self, tos: u8, payload: &[u8]) {
        self.peer.send(tos, payload);
        self.put_in += 1;
        // It is cut for the smallest MTU of its bridge, whichever that is; one that has no room for its headers leaves it whole.
        let mtus = self.scene.tables.ports.iter().flatten().map(|port| port.mtu).chain([u16::MAX]);
        let inner = payload.get(8..).unwrap_or_default();
        let frames = mtus.map(|mtu| {
            let vnet = unfinished(inner, &dissect(inner), || mtu);
            wire_frames(inner, &vnet).map_or(1, u64::from)
        });
        self.perhaps += frames.max().unwrap_or(1) - 1;
    }

    /// Carries what waits, and holds the switch's ledger against this account.
    fn turn(&mut self) {
        self.scene.turn();
        for port in 0..self.scene.tables.ports.len() as u16 {
            for (bytes, vnet) in self.scene.received_with(PortId(port)) {
                self.got_out += u64::from(wire_frames_of(bytes, vnet));
            }
        }
        self.got_out += self
            .peer
            .received()
            .iter()
            .map(|(arrival, bytes)| bytes.len().div_ceil(arrival.stride) as u64)
            .sum::<u64>();
        let total = self.scene.counters().total();
        assert_eq!(total.frames_out, self.got_out);
        let possible = self.put_in..=self.put_in + self.perhaps;
        assert!(possible.contains(&total.frames_in), "{} of {possible:?}", total.frames_in);
    }
}

/// What a host that gets this frame counts. The tag of a trunk can be one too many for the eye that looks for IP.
pub(super) fn wire_frames_of(mut bytes: Vec<u8>, vnet: VnetHeader) -> u32 {
    wire_frames(&bytes, &vnet).unwrap_or_else(|_| {
        let (_, untagged) = vlan::pop(&mut bytes).expect("a frame that left the switch makes sense");
        wire_frames(untagged, &vnet.shifted(-4)).expect("a frame that left the switch makes sense")
    })
}

#[test]
fn a_million_damaged_frames_harm_nobody() {
    let count = if cfg!(debug_assertions) { 30_000 } else { 1_000_000 };
    let mut scene = Scene::access(&[ALL_OFFLOADS, NO_OFFLOADS]);
    scene.add_port(trunk(&[(10, BLUE), (20, GREEN)], Some(GREEN)), ALL_OFFLOADS);
    scene.add_port(trunk(&[(30, BLUE), (40, GREEN)], None), NO_OFFLOADS);
    let [left, right] = [(); 2].map(|()| scene.add_port(Membership::Access(GREEN), NO_OFFLOADS));
    for bridge in [BLUE, GREEN] {
        scene.bridge(bridge).limit = Limit { max_learned: 500, evict: true, ..Limit::NONE };
    }
    scene.join_overlay();
    scene.net.set_conditions(Conditions { aggregate: true, ..Conditions::default() });
    let peer = scene.add_peer(2);
    let mut storm = Storm { scene, peer, put_in: 0, perhaps: 0, got_out: 0 };

    let mut random = fastrand::Rng::with_seed(4789);
    let frames = frames();
    for number in 0..count {
        let (mut bytes, vnet) = frames[random.usize(..frames.len())].clone();
        let source = random.u16(..6);
        if source >= 4 {
            bytes = vxlan(random.u32(42..=43), &bytes[..bytes.len().min(1500)]);
        }
        for _ in 0..random.u8(..4) {
            Damage::random(&mut random).apply(&mut bytes);
        }
        match source {
            0..4 => storm.offer(PortId(source), &bytes, vnet),
            _ => storm.offer_datagram(random.u8(..), &bytes),
        }
        if number % 32 == 0 {
            storm.scene.now.0 += 10;
            storm.turn();
        }
    }
    storm.turn();

    assert!(storm.scene.drops().len() > 15, "the damage was of many kinds: {:?}", storm.scene.drops());
    let [x, y] = [1, 2].map(|last| MacAddr::new([6, 6, 6, 6, 6, last]));
    storm.scene.send(left, &frame(y, x, 60));
    storm.scene.send(right, &frame(x, y, 60));
    storm.scene.send(left, &frame(y, x, 64));
    assert_eq!(storm.scene.received(left), [frame(x, y, 60)]);
    assert_eq!(storm.scene.received(right), [frame(y, x, 60), frame(y, x, 64)]);
}

#[derive(Clone, Debug)]
enum Step {
    Frame {
        port: usize,
        frame: usize,
        damage: Vec<Damage>,
        vnet: Option<VnetHeader>,
    },
    Datagram {
        tos: u8,
        vni: u32,
        frame: usize,
        damage: Vec<Damage>,
    },
    /// The tables lose a port before its worker does.
    Forget(usize),
    Later(u64),
}

#[derive(Clone, Debug)]
struct PortPlan {
    membership: Membership,
    offloads: Offloads,
    mtu: u16,
    /// isolated, hairpin, up, learning, flood, mcast_flood
    switches: [bool; 6],
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<usize>().prop_map(Damage::Flip),
        (0..512usize).prop_map(Damage::Flip),
        (0..64usize, any::<[u8; 2]>()).prop_map(|(at, two)| Damage::Overwrite(at, two)),
        (0..80usize).prop_map(Damage::Truncate),
        (0..2000usize).prop_map(Damage::Extend),
    ]
}

fn vnet() -> impl Strategy<Value = VnetHeader> {
    let csum = (0..100u16, prop_oneof![Just(6u16), Just(16), any::<u16>()]);
    let gso =
        (prop::sample::select(vec![Gso::Tcp4, Gso::Tcp6, Gso::Udp]), prop_oneof![1..20u16, 20..2000u16, any::<u16>()]);
    (proptest::option::of(csum), proptest::option::of(gso), any::<bool>()).prop_map(|(csum, gso, gso_ecn)| VnetHeader {
        csum: csum.map(|(start, offset)| PartialCsum { start, offset }),
        gso,
        gso_ecn,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let damages = || vec(damage(), 0..3);
    prop_oneof![
        8 => (0..6usize, any::<usize>(), damages(), proptest::option::of(vnet()))
            .prop_map(|(port, frame, damage, vnet)| Step::Frame { port, frame, damage, vnet }),
        6 => (any::<u8>(), 41..45u32, any::<usize>(), damages())
            .prop_map(|(tos, vni, frame, damage)| Step::Datagram { tos, vni, frame, damage }),
        1 => (0..6usize).prop_map(Step::Forget),
        1 => (0..400_000u64).prop_map(Step::Later),
    ]
}

fn port_plan() -> impl Strategy<Value = PortPlan> {
    let bridge = || prop::sample::select(vec![BLUE, GREEN]);
    let vlans = vec((prop::sample::select(vec![10u16, 20, 30]), bridge()), 0..3);
    let membership = prop_oneof![
        bridge().prop_map(Membership::Access),
        (vlans, proptest::option::of(bridge())).prop_map(|(vlans, native)| trunk(&vlans, native)),
    ];
    let offloads = any::<[bool; 4]>().prop_map(|[csum, tso4, tso6, uso]| Offloads { csum, tso4, tso6, uso });
    let mtu = prop_oneof![Just(68u16), Just(1400), Just(1500), Just(65_535)];
    (membership, offloads, mtu, vec(proptest::bool::weighted(0.8), 6)).prop_map(
        |(membership, offloads, mtu, switches)| PortPlan {
            membership,
            offloads,
            mtu,
            switches: switches.try_into().expect("there are six"),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 64 } else { 400 }))]

    #[test]
    fn any_frames_into_any_small_switch_are_all_accounted_for(
        ports in vec(port_plan(), 1..6),
        steps in vec(step(), 1..60),
        limit in prop_oneof![Just(0usize), Just(2), Just(1000)],
        evict: bool,
        overlay: [bool; 4],
        mtu in prop_oneof![Just(200usize), Just(1500), Just(65_535)],
    ) {
        let mut scene = Scene::new();
        for PortPlan { membership, offloads, mtu, switches } in ports {
            let id = scene.add_port(membership, offloads);
            let port = scene.port(id);
            port.mtu = mtu;
            let [not_isolated, not_hairpin, up, learning, flood, mcast_flood] = switches;
            (port.options.isolated, port.options.hairpin, port.up) = (!not_isolated, !not_hairpin, up);
            (port.options.learning, port.options.flood, port.options.mcast_flood) = (learning, flood, mcast_flood);
        }
        for bridge in [BLUE, GREEN] {
            scene.bridge(bridge).limit = Limit { max_learned: limit, evict, ..Limit::NONE };
        }
        scene.join_overlay();
        let [aggregate, any_peer, inner_vlan_passes, inherit] = overlay;
        scene.overlay().any_peer = any_peer;
        scene.overlay().inner_vlan_passes = inner_vlan_passes;
        if inherit {
            (scene.overlay().tos, scene.overlay().ttl, scene.overlay().dont_fragment) = (None, None, None);
        }
        let peer = if any_peer { scene.add_stranger(2) } else { scene.add_peer(2) };
        scene.net.set_conditions(Conditions { aggregate, mtu, ..Conditions::default() });
        let mut storm = Storm { scene, peer, put_in: 0, perhaps: 0, got_out: 0 };
        let frames = frames();
        for (number, step) in steps.into_iter().enumerate() {
            let damaged = |frame: usize, damage: &[Damage]| {
                let (mut bytes, vnet) = frames[frame % frames.len()].clone();
                damage.iter().for_each(|damage| damage.apply(&mut bytes));
                (bytes, vnet)
            };
            let port_count = storm.scene.tables.ports.len();
            match step {
                Step::Frame { port, frame, damage, vnet } => {
                    let (bytes, own) = damaged(frame, &damage);
                    storm.offer(PortId((port % port_count) as u16), &bytes, vnet.unwrap_or(own));
                }
                Step::Datagram { tos, vni, frame, damage } => {
                    let (bytes, _) = damaged(frame, &[]);
                    let mut payload = vxlan(vni, &bytes);
                    damage.iter().for_each(|damage| damage.apply(&mut payload));
                    storm.offer_datagram(tos, &payload);
                }
                Step::Forget(port) => {
                    storm.scene.tables.ports[port % port_count] = None;
                }
                Step::Later(by) => {
                    storm.scene.now.0 += by;
                    let ageing = std::time::Duration::from_secs(300);
                    storm.scene.shared.fdb.age(storm.scene.now, |_| ageing);
                }
            }
            if number % 3 == 0 {
                storm.turn();
            }
        }
        storm.turn();
    }
}
