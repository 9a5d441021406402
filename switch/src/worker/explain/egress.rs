//! The end of a walk that is not walked: what would leave, and how.

use std::net::SocketAddr;

use super::{
    super::{
        TunnelHeader,
        egress::{exceeds, outer},
        oversize::{Fate, fate, room},
    },
    Entered, Scene,
};
use crate::{
    bridge::{Bridge, DropReason, Overlay},
    ids::{BridgeId, Endpoint, PortId, VtepId},
    l3::{
        Fragments, NoAnswer,
        mss::{self, Clamped},
    },
    offload::{Segments, VnetHeader},
    underlay::Target,
    wire::{
        dissect::{Dissected, IPV4_HEADER_LEN, IPV6_HEADER_LEN, UDP_HEADER_LEN, dissect},
        flow,
        vlan::{self, TAG_LEN, Tag},
    },
};

/// What the kernel knows of the way to a VTEP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
    /// Nothing: only sending will tell.
    Unknown,
    /// There is none.
    Unreachable,
    /// Outer packets of so many bytes leave by the interface that leads there.
    Mtu(u32),
}

/// What is done about a frame that is too long for its VTEP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Oversized {
    /// Its sender gets this frame.
    Answered(Vec<u8>),
    /// These frames leave instead, fragments of the packet inside.
    Fragmented(Vec<Vec<u8>>),
    /// It leaves whole, and its outer packet in fragments.
    FragmentedOutside,
    /// Nobody is told, and why not.
    Dropped(NoAnswer),
}

/// One copy of a frame on its way out.
#[derive(Clone, Debug)]
pub struct Departure {
    /// Where to.
    pub to: Endpoint,
    /// What leaves: with the tag that its port adds, or inside a datagram. A super-frame is still whole.
    pub bytes: Vec<u8>,
    /// How many wire frames it is.
    pub frames: u32,
    /// The bridge that it leaves.
    pub bridge: BridgeId,
    /// It is no copy, but the switch's own answer.
    pub is_answer: bool,
    /// How it leaves, as far as it came.
    pub exit: Option<Exit>,
    /// What is done about it if it is too long for its VTEP.
    pub oversized: Option<Oversized>,
    /// Its TCP was held to segments that fit.
    pub clamped: Option<Clamped>,
    /// Whether it leaves, as far as can be foreseen.
    pub result: Result<(), DropReason>,
}

/// How a copy leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// By a port.
    Port {
        /// The tag that it carries there.
        tag: Option<Tag>,
        /// The port's MTU.
        mtu: u16,
    },
    /// Behind a tunnel header.
    Vtep {
        /// The outer header's fields.
        target: Target,
        /// The tunnel header; the options behind it are the bridge's.
        header: TunnelHeader,
        /// The inner flow's hash, which chooses the outer source port.
        hash: u32,
        /// Bytes of the largest UDP payload: tunnel header and inner frame, or a segment of it, before it is cut in fragments.
        payload_len: usize,
        /// Bytes of the largest outer IP packet that reaches the VTEP, as far as weft knows.
        path_mtu: u32,
        /// What the kernel knows of the way.
        path: Path,
    },
}

impl Exit {
    /// Bytes of the largest outer IP packet; `None` at a port.
    pub fn outer_len(&self) -> Option<usize> {
        match self {
            Self::Port { .. } => None,
            Self::Vtep { target, payload_len, .. } => Some(outer_len(target.address, *payload_len)),
        }
    }
}

/// Bytes of the outer IP packet.
fn outer_len(address: SocketAddr, payload_len: usize) -> usize {
    payload_len + UDP_HEADER_LEN + if address.is_ipv4() { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN }
}

/// One copy to one place.
pub(super) fn depart(scene: &Scene<'_>, entered: &Entered<'_>, frames: u32, to: Endpoint) -> Departure {
    leave(scene, entered, entered.vnet, Departure::new(entered, entered.bytes.clone(), frames, to))
}

/// The switch's own answer to a frame.
pub(super) fn answer(scene: &Scene<'_>, entered: &Entered<'_>, bytes: &[u8], to: Endpoint) -> Departure {
    let departure = Departure { is_answer: true, ..Departure::new(entered, bytes.to_vec(), 1, to) };
    leave(scene, entered, VnetHeader::NONE, departure)
}

impl Departure {
    fn new(entered: &Entered<'_>, bytes: Vec<u8>, frames: u32, to: Endpoint) -> Self {
        Self {
            to,
            bytes,
            frames,
            bridge: entered.id,
            is_answer: false,
            exit: None,
            oversized: None,
            clamped: None,
            result: Ok(()),
        }
    }
}

fn leave(scene: &Scene<'_>, entered: &Entered<'_>, vnet: VnetHeader, mut departure: Departure) -> Departure {
    departure.result = match departure.to {
        Endpoint::Port(port) => to_port(scene, entered, vnet, port, &mut departure),
        Endpoint::Vtep(vtep) => to_vtep(scene, entered, vnet, vtep, &mut departure),
    };
    departure
}

fn to_port(
    scene: &Scene<'_>,
    entered: &Entered<'_>,
    vnet: VnetHeader,
    port: PortId,
    departure: &mut Departure,
) -> Result<(), DropReason> {
    let entry = scene.tables.port(port).ok_or(DropReason::PortRemoved)?;
    let tag = entry.egress_vid(entered.id)?.map(|vid| entered.priority.with_vid(vid));
    departure.exit = Some(Exit::Port { tag, mtu: entry.mtu });
    // Whoever a decision names is up; a shortcut asks nobody.
    if !departure.is_answer && !entry.up {
        return Err(DropReason::PortDown);
    }
    if !departure.is_answer && vnet.gso.is_none() && exceeds(entry.mtu, &departure.bytes) {
        return Err(DropReason::EgressMtu);
    }
    if let Some(tag) = tag {
        let mut room = [&[0; TAG_LEN], departure.bytes.as_slice()].concat();
        departure.bytes =
            vlan::push(&mut room, tag.to_bytes(entry.options.vlan_protocol)).ok_or(DropReason::Malformed)?.to_vec();
    }
    Ok(())
}

fn to_vtep(
    scene: &Scene<'_>,
    entered: &Entered<'_>,
    vnet: VnetHeader,
    vtep: VtepId,
    departure: &mut Departure,
) -> Result<(), DropReason> {
    let (Some(overlay), Some(vni)) = (&scene.tables.overlay, entered.bridge.vni) else {
        return Err(DropReason::UnderlayAbsent);
    };
    let address = scene.vteps.address(vtep).ok_or(DropReason::UnderlayUnreachable)?;
    let dissected = dissect(&departure.bytes);
    if dissected.tag_count > 0 && !overlay.inner_vlan_passes {
        return Err(DropReason::InnerVlan);
    }
    if dissected.ends_within_ip(departure.bytes.len()) {
        return Err(DropReason::InnerIpTruncated);
    }
    let header = TunnelHeader::to_send(scene.tables, entered.bridge, vni, entered.ingress);
    let header_len = entered.bridge.header_len();
    let mut target = outer(overlay, entered.id, vtep, address, header_len, dissected.l3);
    let segments = Segments::new(&departure.bytes, &vnet).map_err(|_| DropReason::BadOffload)?;
    let longest = segments.len(0);
    let hash = flow::hash(&departure.bytes, &dissected, scene.flow_seed);
    let room = room(overlay, vtep, header_len);
    let oversized = (longest > room)
        .then(|| {
            let sent = entered.sent.as_ref().unwrap_or(&departure.bytes);
            too_long(overlay, entered.bridge, sent, &dissected, &segments, room)
        })
        .transpose();
    let mut leaves = longest;
    match &oversized {
        Ok(Some(Oversized::FragmentedOutside)) => target.dont_fragment = false,
        Ok(Some(Oversized::Fragmented(frames))) => leaves = frames.iter().map(Vec::len).max().unwrap_or(longest),
        Ok(_) | Err(_) => {}
    }
    let (payload_len, path_mtu, path) = (header_len + longest, overlay.path_mtu(vtep), (scene.path)(address));
    departure.exit = Some(Exit::Vtep { target, header, hash, payload_len, path_mtu, path });
    let (oversized, reason) = match oversized {
        Ok(oversized @ Some(Oversized::Answered(_))) => (oversized, Some(DropReason::OversizeAnswered)),
        Ok(oversized) => (oversized, None),
        Err((reason, why)) => (why.map(Oversized::Dropped), Some(reason)),
    };
    departure.oversized = oversized;
    if let Some(reason) = reason {
        return Err(reason);
    }
    if entered.bridge.mss_clamp {
        departure.clamped = mss::clamp(&mut departure.bytes, &dissected, room, vnet.csum.is_some());
    }
    let is_too_long = |mtu| target.dont_fragment && outer_len(address, header_len + leaves) > mtu as usize;
    match path {
        Path::Unreachable => Err(DropReason::UnderlayUnreachable),
        Path::Mtu(mtu) if is_too_long(mtu) => Err(DropReason::UnderlayMtu),
        Path::Mtu(_) | Path::Unknown => Ok(()),
    }
}

/// What is done about a frame of which more than `room` bytes would leave; or why it ends, and why nobody is told.
fn too_long(
    overlay: &Overlay,
    bridge: &Bridge,
    frame: &[u8],
    dissected: &Dissected,
    segments: &Segments<'_>,
    room: usize,
) -> Result<Oversized, (DropReason, Option<NoAnswer>)> {
    match fate(overlay, frame, dissected, bridge.header_len() + segments.len(0), room) {
        Fate::Answered(answer) => Ok(Oversized::Answered(answer.to_vec())),
        Fate::FragmentedOutside => Ok(Oversized::FragmentedOutside),
        Fate::Dropped(reason, why) => Err((reason, Some(why))),
        Fate::Fragmented => {
            let mut frames = vec![];
            for index in 0..segments.count() {
                let mut segment = vec![0; segments.len(index)];
                segments.write(index, &mut segment);
                let dissected = dissect(&segment);
                if bridge.mss_clamp {
                    mss::clamp(&mut segment, &dissected, room, false);
                }
                let cut = Fragments::new(&segment, &dissected, room).map_err(|_| (DropReason::Oversize, None))?;
                frames.extend((0..cut.count()).map(|fragment| {
                    let mut bytes = vec![0; cut.len(fragment)];
                    cut.write(fragment, &mut bytes);
                    bytes
                }));
            }
            Ok(Oversized::Fragmented(frames))
        }
    }
}
