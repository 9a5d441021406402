//! The end of a walk that is not walked: what would leave, and how.

use std::net::SocketAddr;

use weft_vxlan::header::{HEADER_LEN, Header};

use super::{
    super::egress::{exceeds, outer, policy_header},
    Entered, Scene,
};
use crate::{
    bridge::DropReason,
    ids::{BridgeId, Endpoint, PortId, VtepId},
    offload::{Segments, VnetHeader},
    underlay::{MAX_DATAGRAM_LEN, Target},
    wire::{
        dissect::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, UDP_HEADER_LEN, dissect},
        flow,
        vlan::{self, TAG_LEN, Tag},
    },
};

/// What is known of the way to a VTEP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
    /// Nothing: only sending will tell.
    Unknown,
    /// There is none.
    Unreachable,
    /// Outer packets of so many bytes pass.
    Mtu(u32),
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
    /// Behind a VXLAN header.
    Vtep {
        /// The outer header's fields.
        target: Target,
        /// The VXLAN header.
        header: Header,
        /// The inner flow's hash, which chooses the outer source port.
        hash: u32,
        /// Bytes of the largest UDP payload: VXLAN header and inner frame, or a segment of it.
        payload_len: usize,
        /// What is known of the way.
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
        Self { to, bytes, frames, bridge: entered.id, is_answer: false, exit: None, result: Ok(()) }
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
    let target = outer(overlay, entered.id, vtep, address, dissected.l3);
    let segments = Segments::new(&departure.bytes, &vnet).map_err(|_| DropReason::BadOffload)?;
    let payload_len = HEADER_LEN + segments.len(0);
    let hash = flow::hash(&departure.bytes, &dissected, scene.flow_seed);
    let header = if overlay.gbp { policy_header(scene.tables, vni, entered.ingress) } else { Header::new(vni) };
    let path = (scene.path)(address);
    departure.exit = Some(Exit::Vtep { target, header, hash, payload_len, path });
    if payload_len > MAX_DATAGRAM_LEN {
        return Err(DropReason::UnderlayMtu);
    }
    let is_too_long = |mtu| target.dont_fragment && outer_len(address, payload_len) > mtu as usize;
    match path {
        Path::Unreachable => Err(DropReason::UnderlayUnreachable),
        Path::Mtu(mtu) if is_too_long(mtu) => Err(DropReason::UnderlayMtu),
        Path::Mtu(_) | Path::Unknown => Ok(()),
    }
}
