//! The tables: everything about bridges and ports that forwarding needs, built by the control plane, never changed.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use weft_vxlan::{
    Encapsulation, HeaderFormat, Vni, ecn::EcnMode, encapsulation::BASE_HEADER_LEN, geneve::OptionList,
    header::ReservedBits,
};

use super::{DropReason, Neighs, PortSecurity, TunnelOptions};
use crate::{
    fdb::Limit,
    ids::{BridgeId, PortId, VtepId},
    snoop::Mdb,
    wire::{MacAddr, Tag, Tpid, VlanId, ethernet::EtherHeader},
};

/// One snapshot of the switch's tables. Workers load it once a batch.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// By [`PortId`].
    pub ports: Vec<Option<PortEntry>>,
    /// By [`BridgeId`].
    pub bridges: Vec<Option<Bridge>>,
    /// Which bridge a tunnel header means.
    pub by_vni: HashMap<Vni, BridgeId, foldhash::fast::RandomState>,
    /// How the overlay is spoken; `None`: no underlay.
    pub overlay: Option<Overlay>,
}

/// A port as forwarding sees it.
#[derive(Clone, Debug)]
pub struct PortEntry {
    /// The bridges it belongs to.
    pub membership: Membership,
    /// Its switches.
    pub options: PortOptions,
    /// Who may speak there.
    pub security: PortSecurity,
    /// Its interface's MTU in bytes: the largest IP packet.
    pub mtu: u16,
    /// Whether its interface is up.
    pub up: bool,
}

impl PortEntry {
    /// A port with nothing switched, where anybody may speak, up, and with Ethernet's MTU.
    pub fn new(membership: Membership) -> Self {
        Self { membership, options: PortOptions::default(), security: PortSecurity::default(), mtu: 1500, up: true }
    }
}

/// How far a port takes part in forwarding, as spanning tree has it (IEEE 802.1D 8.4; `include/uapi/linux/if_bridge.h`:
/// `BR_STATE_*`). Nobody in weft changes it but its user.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StpState {
    /// Nothing enters and nothing leaves.
    Disabled,
    /// Nothing enters and nothing leaves.
    Listening,
    /// Frames that enter teach their source, and no more; nothing leaves.
    Learning,
    /// Everything.
    #[default]
    Forwarding,
    /// Nothing enters and nothing leaves.
    Blocking,
}

impl StpState {
    /// Whether frames that come in teach their source (`br_private.h`: `nbp_state_should_learn`).
    pub const fn learns(self) -> bool {
        matches!(self, Self::Learning | Self::Forwarding)
    }
}

/// What can be switched on a port, by the kernel's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortOptions {
    /// How far it takes part in forwarding.
    pub state: StpState,
    /// Takes frames only from addresses that have an entry at this port.
    pub locked: bool,
    /// On a locked port: unknown sources get an entry that is locked, so that a user sees them and can let them in.
    pub mab: bool,
    /// Bit X: 01-80-C2-00-00-0X that comes in here is forwarded, whatever the bridge's mask says.
    pub group_fwd_mask: u16,
    /// Most learned entries that point here; 0: no limit.
    pub fdb_max_learned: u32,
    /// Is spared questions for addresses that the bridge can answer, and what is said unasked.
    pub neigh_suppress: bool,
    /// Who asks here gets the bridge's answer. The port gets nothing that is flooded: its gates for that are shut.
    pub proxy_arp: bool,
    /// Who asks for somebody here gets the bridge's answer, and the port is spared the question.
    pub proxy_arp_wifi: bool,
    /// Takes frames to stations behind this port while it is down.
    pub backup_port: Option<PortId>,
    /// Whose tags a trunk reads and writes; all others are payload.
    pub vlan_protocol: Tpid,
    /// Learns source addresses.
    pub learning: bool,
    /// Gets frames to unknown unicast addresses.
    pub flood: bool,
    /// Gets multicast.
    pub mcast_flood: bool,
    /// Gets broadcast.
    pub bcast_flood: bool,
    /// May get its own frames back.
    pub hairpin: bool,
    /// Does not talk to other isolated ports.
    pub isolated: bool,
    /// The group policy of what enters here and leaves by the overlay; 0: none.
    pub gbp_policy: u16,
    /// How much of a worker's time frames that are not for known stations may take, in percent, 1 to 100.
    pub flood_share: u8,
}

impl PortOptions {
    /// What floods may take if nothing is said. With two workers, or a worker and the flooder itself, on one processor, each
    /// can have half of it; a quarter leaves the worker well below its part, so that it need not wait.
    pub const DEFAULT_FLOOD_SHARE: u8 = 25;
}

impl Default for PortOptions {
    fn default() -> Self {
        Self {
            state: StpState::Forwarding,
            locked: false,
            mab: false,
            group_fwd_mask: 0,
            fdb_max_learned: 0,
            neigh_suppress: false,
            proxy_arp: false,
            proxy_arp_wifi: false,
            backup_port: None,
            vlan_protocol: Tpid::Customer,
            learning: true,
            flood: true,
            mcast_flood: true,
            bcast_flood: true,
            hairpin: false,
            isolated: false,
            gbp_policy: 0,
            flood_share: Self::DEFAULT_FLOOD_SHARE,
        }
    }
}

/// Which bridges a port belongs to.
#[derive(Clone, Debug)]
pub enum Membership {
    /// One; tags are payload.
    Access(BridgeId),
    /// One for each VLAN, and perhaps one for untagged frames.
    Trunk {
        /// By VLAN identifier; 4096 of them.
        by_vid: Box<[Option<BridgeId>]>,
        /// For untagged and priority-tagged frames.
        native: Option<BridgeId>,
        /// The same the other way round, for frames that leave: with which tag, if any.
        tags: Vec<(BridgeId, Option<VlanId>)>,
    },
}

impl Membership {
    /// A trunk of these VLANs. Frames of the native bridge leave untagged, all others tagged.
    pub fn trunk(vlans: &[(VlanId, BridgeId)], native: Option<BridgeId>) -> Self {
        Self::trunk_untagging(vlans, native, |_, bridge| native == Some(bridge))
    }

    /// A trunk of these VLANs, whose frames leave untagged if `untagged` says so (`br_vlan.c`: `br_handle_vlan`); those of
    /// a native bridge without a VLAN here always do.
    pub fn trunk_untagging(
        vlans: &[(VlanId, BridgeId)],
        native: Option<BridgeId>,
        untagged: impl Fn(VlanId, BridgeId) -> bool,
    ) -> Self {
        let mut by_vid = vec![None; 4096].into_boxed_slice();
        for (vid, bridge) in vlans {
            by_vid[usize::from(vid.get())] = Some(*bridge);
        }
        let tag = |&(vid, bridge): &(VlanId, BridgeId)| (bridge, (!untagged(vid, bridge)).then_some(vid));
        let mut tags: Vec<_> = vlans.iter().map(tag).collect();
        if let Some(native) = native.filter(|native| vlans.iter().all(|(_, bridge)| bridge != native)) {
            tags.push((native, None));
        }
        Self::Trunk { by_vid, native, tags }
    }

    /// The bridge of an access port.
    #[inline]
    pub const fn access(&self) -> Option<BridgeId> {
        match self {
            Self::Access(bridge) => Some(*bridge),
            Self::Trunk { .. } => None,
        }
    }

    /// Whether frames of `bridge` pass here.
    pub fn carries(&self, bridge: BridgeId) -> bool {
        match self {
            Self::Access(own) => *own == bridge,
            Self::Trunk { tags, .. } => tags.iter().any(|(member, _)| *member == bridge),
        }
    }
}

impl PortEntry {
    /// Which bridge a frame enters that came in here, and whether its outermost tag belongs to the port (and is to
    /// be taken off) rather than to the frame.
    ///
    /// As a bridge with VLAN filtering (`net/bridge/br_vlan.c`: `__allowed_ingress`): VLAN 0 is a priority without a
    /// VLAN, and tags of another protocol than the port's are payload.
    #[inline]
    pub fn classify(&self, header: &EtherHeader) -> Result<(BridgeId, Option<Tag>), DropReason> {
        match &self.membership {
            Membership::Access(bridge) => Ok((*bridge, None)),
            Membership::Trunk { by_vid, native, .. } => match self.own_tag(header) {
                None => native.map(|bridge| (bridge, None)).ok_or(DropReason::VlanUntagged),
                Some(tag) => match tag.vid() {
                    0 => native.map(|bridge| (bridge, Some(tag))).ok_or(DropReason::VlanUntagged),
                    4095 => Err(DropReason::VlanInvalid),
                    vid => by_vid[usize::from(vid)].map(|bridge| (bridge, Some(tag))).ok_or(DropReason::VlanNotMember),
                },
            },
        }
    }

    /// The outermost tag of a frame, if it is of the protocol that a trunk here reads.
    #[inline]
    pub fn own_tag(&self, header: &EtherHeader) -> Option<Tag> {
        header.tag.filter(|_| header.ether_type == self.options.vlan_protocol as u16)
    }

    /// Whether frames that come in here teach the FDB. A port that is down may still have frames waiting; what they say is to
    /// be forgotten, not learned again.
    #[inline]
    pub const fn learns(&self) -> bool {
        self.options.learning && self.up && self.options.state.learns()
    }

    /// Whether frames that come in here need another look than those of a port with the usual options: [`PortEntry::guard`].
    #[inline]
    pub const fn is_guarded(&self) -> bool {
        self.options.locked || self.options.fdb_max_learned > 0 || !self.forwards()
    }

    /// Whether frames that come in here are looked at closer than at most ports, for one reason or another.
    #[inline]
    pub const fn is_watched(&self) -> bool {
        self.is_guarded() || !self.security.is_off()
    }

    /// What becomes of a frame that was admitted to its bridge, by the state of the port alone (`br_input.c`:
    /// `br_handle_frame`, `br_handle_frame_finish`): `Err` before it teaches anything, `Ok(Some)` after.
    ///
    /// # Errors
    /// The port lets nothing in.
    pub const fn guard(&self) -> Result<Option<DropReason>, DropReason> {
        match self.options.state {
            StpState::Forwarding => Ok(None),
            StpState::Learning => Ok(Some(DropReason::PortState)),
            StpState::Disabled | StpState::Listening | StpState::Blocking => Err(DropReason::PortState),
        }
    }

    /// Whether frames pass in this state.
    const fn forwards(&self) -> bool {
        matches!(self.options.state, StpState::Forwarding)
    }

    /// Whether frames may leave here.
    ///
    /// # Errors
    /// Why not.
    #[inline]
    pub const fn lets_out(&self) -> Result<(), DropReason> {
        match (self.up, self.options.state) {
            (true, StpState::Forwarding) => Ok(()),
            (true, _) => Err(DropReason::PortState),
            (false, _) => Err(DropReason::PortDown),
        }
    }

    /// The VLAN that frames of `bridge` are tagged with when they leave here, if any; `Err` if the port is not in that bridge.
    #[inline]
    pub fn egress_vid(&self, bridge: BridgeId) -> Result<Option<VlanId>, DropReason> {
        match &self.membership {
            Membership::Access(own) if *own == bridge => Ok(None),
            Membership::Access(_) => Err(DropReason::PortRemoved),
            Membership::Trunk { tags, .. } => match tags.iter().find(|(member, _)| *member == bridge) {
                Some((_, vid)) => Ok(*vid),
                None => Err(DropReason::PortRemoved),
            },
        }
    }
}

/// A bridge as forwarding sees it.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// Its network identifier; `None`: it never leaves the host.
    pub vni: Option<Vni>,
    /// How its frames are wrapped for VTEPs, and how theirs have to be.
    pub encapsulation: Encapsulation,
    /// What is sent with each frame in Geneve; empty in any other encapsulation.
    pub geneve_options: OptionList,
    /// Its ports.
    pub ports: Vec<PortId>,
    /// Its flood list, each VTEP once.
    pub flood_list: Vec<VtepId>,
    /// Every VTEP that somebody named for this bridge, by underlay address.
    pub known_vteps: HashMap<IpAddr, VtepId, foldhash::fast::RandomState>,
    /// Whether it learns at all (ageing 0 learns nothing).
    pub learning: bool,
    /// After what time without traffic an address is forgotten.
    pub ageing: Duration,
    /// What is switched on at its overlay side.
    pub tunnel: TunnelOptions,
    /// How much it may learn.
    pub limit: Limit,
    /// Bit X: 01-80-C2-00-00-0X is forwarded.
    pub group_fwd_mask: u16,
    /// Addresses of the interfaces under its packet ports, and permanent entries: the host's own, never learned, never
    /// forwarded to.
    pub local_macs: Vec<MacAddr>,
    /// Who has which IP address, for answers in others' names.
    pub neighs: Neighs,
    /// Frames to reserved groups that the bridge keeps teach nothing.
    pub no_linklocal_learn: bool,
    /// The overlay is what a port with [`PortOptions::neigh_suppress`] is.
    pub neigh_suppress: bool,
    /// Whether the overlay or a port asks for answers in others' names: [`Tables::suppress`].
    pub answers: bool,
    /// Who wants which multicast group; `None`: it does not snoop, and floods all of them.
    pub mdb: Option<Arc<Mdb>>,
    /// TCP that crosses the overlay is held to segments that fit.
    pub mss_clamp: bool,
}

/// One that never leaves the host, without ports, with the configuration's defaults.
impl Default for Bridge {
    fn default() -> Self {
        Self {
            vni: None,
            encapsulation: Encapsulation::Vxlan,
            geneve_options: OptionList::new(),
            ports: Vec::new(),
            flood_list: Vec::new(),
            known_vteps: HashMap::default(),
            learning: true,
            ageing: Duration::from_secs(300),
            tunnel: TunnelOptions::default(),
            limit: Limit::NONE,
            group_fwd_mask: 0,
            local_macs: Vec::new(),
            neighs: Neighs::default(),
            no_linklocal_learn: false,
            neigh_suppress: false,
            answers: false,
            mdb: None,
            mss_clamp: false,
        }
    }
}

impl Bridge {
    /// Whether the source of a frame is to be learned. The host's own address is somebody's mistake or a loop: forwarded,
    /// not believed (`br_fdb.c`: `br_fdb_update`).
    #[inline]
    pub fn learns(&self, src: MacAddr) -> bool {
        self.learning && !self.is_local(src)
    }

    /// Whether nothing in a frame but its addresses counts here once it has entered, and no address is the host's own.
    #[inline]
    pub fn passes_unseen(&self) -> bool {
        !self.answers && self.local_macs.is_empty() && !self.tunnel.looks_at_what_leaves()
    }

    /// Bytes between UDP and a frame of this bridge: its tunnel header with all options.
    #[inline]
    pub const fn header_len(&self) -> usize {
        BASE_HEADER_LEN + self.geneve_options.len()
    }

    /// Whether this is an address of the host's own. Most bridges have none.
    #[inline]
    pub fn is_local(&self, mac: MacAddr) -> bool {
        !self.local_macs.is_empty() && self.local_macs.contains(&mac)
    }
}

/// How the overlay is spoken: the rulings of `[vtep]`.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// Our own underlay address, and the port of VXLAN, with group policy or without.
    pub local: SocketAddr,
    /// The port of VXLAN-GPE.
    pub gpe_port: u16,
    /// The port of Geneve.
    pub geneve_port: u16,
    /// Whether frames are taken from VTEPs that nobody named.
    pub any_peer: bool,
    /// The bridge of VNIs that no bridge has; `None`: they are refused.
    pub unknown_vni: Option<BridgeId>,
    /// A VXLAN header with any of these bits is refused, unless its extension uses them; the highest is its first.
    pub refused_bits: u64,
    /// How the outer ECN field follows the inner one.
    pub ecn: EcnMode,
    /// Whether frames with an 802.1Q tag of their own may cross.
    pub inner_vlan_passes: bool,
    /// Outer TTL; `None`: the inner packet's, or [`Overlay::DEFAULT_TTL`] if it is not IP.
    pub ttl: Option<u8>,
    /// Outer DSCP in place, ECN bits zero; `None`: the inner packet's, or 0 if it is not IP.
    pub tos: Option<u8>,
    /// Outer DF; `None`: the inner packet's (IPv6 counts as set).
    pub dont_fragment: Option<bool>,
    /// VTEPs behind which stations are looked for.
    pub stations_wanted: Vec<VtepId>,
    /// What becomes of frames that are too long for their VTEP and whose sender is not told.
    pub oversize: Oversize,
    /// Bytes of the largest outer IP packet that reaches a VTEP of which nothing better is known: what leaves by the
    /// underlay's interface.
    pub underlay_mtu: u32,
    /// What is known better, by [`VtepId`].
    pub path_mtus: Vec<Option<u16>>,
}

/// What becomes of a frame that is too long for its way to a VTEP, if nobody is told of it: IPv4 that may be fragmented, and
/// what no ICMP error is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Oversize {
    /// IPv4 that may be is fragmented, inside the tunnel; all else is dropped.
    #[default]
    Fragment,
    /// All of it leaves, and the outer packet is fragmented, as by the kernel's vxlan devices with `df unset`.
    Outer,
    /// It is dropped.
    Drop,
}

impl Overlay {
    /// What the kernel sends by itself (`net.ipv4.ip_default_ttl`).
    pub const DEFAULT_TTL: u8 = 64;

    /// weft's defaults at this address and port. Of the underlay nothing is known: everything fits.
    pub const fn new(local: SocketAddr) -> Self {
        Self {
            local,
            gpe_port: HeaderFormat::VxlanGpe.default_port(),
            geneve_port: HeaderFormat::Geneve.default_port(),
            any_peer: false,
            unknown_vni: None,
            refused_bits: ReservedBits::Drop.mask(),
            ecn: EcnMode::Kernel,
            inner_vlan_passes: true,
            ttl: Some(Self::DEFAULT_TTL),
            tos: Some(0),
            dont_fragment: Some(true),
            stations_wanted: Vec::new(),
            oversize: Oversize::Fragment,
            underlay_mtu: u32::MAX,
            path_mtus: Vec::new(),
        }
    }

    /// Bytes of the largest outer IP packet that reaches this VTEP.
    #[inline]
    pub fn path_mtu(&self, vtep: VtepId) -> u32 {
        match self.path_mtus.get(vtep.index()) {
            Some(Some(mtu)) => u32::from(*mtu),
            Some(None) | None => self.underlay_mtu,
        }
    }

    /// The UDP port of a format: where it arrives, and of a VTEP that was learned from it.
    #[inline]
    pub const fn port_of(&self, format: HeaderFormat) -> u16 {
        match format {
            HeaderFormat::Vxlan => self.local.port(),
            HeaderFormat::VxlanGpe => self.gpe_port,
            HeaderFormat::Geneve => self.geneve_port,
        }
    }
}

impl Tables {
    /// The port, if there is one.
    #[inline]
    pub fn port(&self, id: PortId) -> Option<&PortEntry> {
        self.ports.get(id.index())?.as_ref()
    }

    /// The bridge that a tunnel header means.
    pub fn bridge_of(&self, overlay: &Overlay, vni: Vni) -> Option<BridgeId> {
        self.by_vni.get(&vni).copied().or(overlay.unknown_vni)
    }

    /// The bridge, if there is one.
    #[inline]
    pub fn bridge(&self, id: BridgeId) -> Option<&Bridge> {
        self.bridges.get(id.index())?.as_ref()
    }
}
