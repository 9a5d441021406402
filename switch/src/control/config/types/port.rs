//! `[[port]]`.

use std::{fmt, net::IpAddr};

use super::{NetnsName, word_of};
use crate::{
    bridge::{PortOptions, Station, StpState},
    snoop,
    wire::{MacAddr, Tpid, VlanId},
};

/// `[[port]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortConfig {
    /// `name`: the interface's name inside its namespace.
    pub name: String,
    /// `netns`; default weft's own.
    pub netns: NetnsName,
    /// `kind`; default tap.
    pub kind: PortKind,
    /// `bridge` or `trunk` with `native`.
    pub membership: Membership,
    /// `address`: set on the interface (taps only).
    pub addresses: Vec<Cidr>,
    /// `mac`: the interface's own address (taps only); default: the kernel's choice.
    pub mac: Option<MacAddr>,
    /// `mtu`; `None`: the largest that fits the underlay.
    pub mtu: Option<u16>,
    /// `queue_length`: frames that wait for a worker at most (taps only); `None`: [`PortConfig::DEFAULT_QUEUE_LENGTH`].
    pub queue_length: Option<u32>,
    /// `offload`; default true.
    pub offload: bool,
    /// `learning`; default true.
    pub learning: bool,
    /// `flood`: gets unknown unicast; default true.
    pub flood: bool,
    /// `mcast_flood`: gets multicast; default true.
    pub mcast_flood: bool,
    /// `bcast_flood`: gets broadcast; default true.
    pub bcast_flood: bool,
    /// `hairpin`: may get its own frames back; default false.
    pub hairpin: bool,
    /// `isolated`: does not talk to other isolated ports; default false.
    pub isolated: bool,
    /// `gbp_policy`: the group policy of what enters here; 0, the default, is none.
    pub gbp_policy: u16,
    /// `flood_share`: how much of a worker's time frames that are not for known stations may take, in percent.
    pub flood_share: u8,
    /// `state`: how far it takes part in forwarding; default forwarding.
    pub state: StpState,
    /// `locked`: takes frames only from addresses that have an entry there; default false.
    pub locked: bool,
    /// `mab`: unknown sources at a locked port get a locked entry; default false.
    pub mab: bool,
    /// `group_fwd_mask`: reserved groups that are forwarded when they come in here; bit 1 can't be set.
    pub group_fwd_mask: u16,
    /// `port_security`: who may speak there; default whoever wants.
    pub port_security: Vec<Station>,
    /// `fdb_max_learned`: most learned entries that point here; default 0 = no limit.
    pub fdb_max_learned: u32,
    /// `neigh_suppress`: is spared questions for addresses that weft can answer; default false.
    pub neigh_suppress: bool,
    /// `proxy_arp`: who asks here is answered, and nothing is flooded here; default false.
    pub proxy_arp: bool,
    /// `proxy_arp_wifi`: who asks for somebody here is answered; default false.
    pub proxy_arp_wifi: bool,
    /// `backup_port`: the full name of the port that takes known unicast while this one is down; default none.
    pub backup_port: Option<String>,
    /// `vlan_protocol`: whose tags the trunk reads and writes; default a customer's.
    pub vlan_protocol: Tpid,
    /// `untagged`: VLANs of the trunk whose frames leave untagged; `None`: that of `native`.
    pub untagged: Option<Vec<VlanId>>,
    /// `mcast_router` and its like: what is known about multicast groups behind it.
    pub mcast: snoop::PortSettings,
}

/// How the configuration writes each [`Tpid`].
pub const VLAN_PROTOCOL_WORDS: &[(&str, Tpid)] = &[("802.1Q", Tpid::Customer), ("802.1ad", Tpid::Service)];

/// How the configuration writes each [`StpState`].
pub const STATE_WORDS: &[(&str, StpState)] = &[
    ("forwarding", StpState::Forwarding),
    ("learning", StpState::Learning),
    ("blocking", StpState::Blocking),
    ("listening", StpState::Listening),
    ("disabled", StpState::Disabled),
];

impl PortConfig {
    /// What a tap holds for each worker if nothing is said; a tap of the kernel has 1,000 (`DEFAULT_TX_QUEUE_LEN`). Where
    /// a worker shares its processor with others, 1,000 small frames are gone in the 5 ms that it may have to wait at
    /// 200,000 a second; twice as many lost none at the median, and cost 16 KiB a queue. More would also be more memory
    /// that whoever is behind the tap can fill, 64 KiB for each super-frame.
    pub const DEFAULT_QUEUE_LENGTH: u32 = 2000;

    /// A tap with every default.
    pub fn new(netns: NetnsName, name: impl Into<String>, membership: Membership) -> Self {
        Self {
            name: name.into(),
            netns,
            kind: PortKind::Tap,
            membership,
            addresses: Vec::new(),
            mac: None,
            mtu: None,
            queue_length: None,
            offload: true,
            learning: true,
            flood: true,
            mcast_flood: true,
            bcast_flood: true,
            hairpin: false,
            isolated: false,
            gbp_policy: 0,
            flood_share: PortOptions::DEFAULT_FLOOD_SHARE,
            state: StpState::Forwarding,
            locked: false,
            mab: false,
            group_fwd_mask: 0,
            port_security: Vec::new(),
            fdb_max_learned: 0,
            neigh_suppress: false,
            proxy_arp: false,
            proxy_arp_wifi: false,
            backup_port: None,
            vlan_protocol: Tpid::Customer,
            untagged: None,
            mcast: snoop::PortSettings::default(),
        }
    }

    /// `netns/interface`, the port's name everywhere; only the interface if the namespace is weft's own.
    pub fn full_name(&self) -> String {
        match &self.netns {
            NetnsName::Own => self.name.clone(),
            NetnsName::Named(_) | NetnsName::Path(_) | NetnsName::Pid(_) | NetnsName::Descriptor(_) => {
                format!("{}/{}", self.netns, self.name)
            }
        }
    }
}

/// `kind`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortKind {
    /// `"tap"`: weft makes the interface, and it vanishes with weft.
    Tap,
    /// `"veth"`: weft makes a veth pair and reads its far end by a packet socket; for whoever may not open `/dev/net/tun`.
    Veth,
    /// `"packet"`: a packet socket on an interface that exists.
    Packet,
}

impl PortKind {
    /// How the configuration writes each.
    pub const WORDS: &[(&str, Self)] = &[("tap", Self::Tap), ("veth", Self::Veth), ("packet", Self::Packet)];

    /// Whether weft makes the interface, so that it is weft's to set up and vanishes with it.
    pub fn is_made(self) -> bool {
        match self {
            Self::Tap | Self::Veth => true,
            Self::Packet => false,
        }
    }

    /// The value of `kind` that means it.
    pub fn name(self) -> &'static str {
        word_of(Self::WORDS, &self)
    }
}

/// Which bridges a port belongs to, and with which tag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Membership {
    /// `bridge`: everything, tags untouched.
    Access(String),
    /// `trunk = { VID = "bridge" }`, `native`.
    Trunk {
        /// VLAN to bridge; neither a VLAN nor a bridge is there twice.
        vlans: Vec<(VlanId, String)>,
        /// The bridge of untagged frames. If `vlans` names it too, its frames are taken tagged and untagged, and leave
        /// untagged, like those of the kernel's `pvid untagged` VLAN.
        native: Option<String>,
    },
}

impl Membership {
    /// Every bridge that is named, in the order of the file; one that is native and tagged comes twice.
    pub fn bridges(&self) -> impl Iterator<Item = &str> {
        let (access, vlans, native) = match self {
            Self::Access(bridge) => (Some(bridge), [].as_slice(), None),
            Self::Trunk { vlans, native } => (None, vlans.as_slice(), native.as_ref()),
        };
        access.into_iter().chain(vlans.iter().map(|(_, bridge)| bridge)).chain(native).map(String::as_str)
    }

    /// Whether the port belongs to this bridge.
    pub fn contains(&self, bridge: &str) -> bool {
        self.bridges().any(|name| name == bridge)
    }
}

/// `mcast_router` of a port, by the kernel's numbers.
pub const MCAST_ROUTERS: &[(i64, snoop::Router)] =
    &[(0, snoop::Router::Never), (1, snoop::Router::Learn), (2, snoop::Router::Always)];

/// An address with its prefix length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cidr {
    /// The address, host bits kept.
    pub address: IpAddr,
    /// 0 to 32 or 128.
    pub prefix_len: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_named_by_namespace_and_interface() {
        let port = |netns| PortConfig::new(netns, "eth0", Membership::Access("blue".into())).full_name();
        assert_eq!(port(NetnsName::Own), "eth0");
        assert_eq!(port(NetnsName::Named("left".into())), "left/eth0");
        assert_eq!(port(NetnsName::Pid(12)), "pid:12/eth0");
    }

    #[test]
    fn a_trunk_belongs_to_its_tagged_and_its_native_bridges() {
        let vlan = VlanId::new(10).unwrap();
        let trunk = Membership::Trunk { vlans: vec![(vlan, "blue".into())], native: Some("green".into()) };
        assert!(trunk.contains("blue") && trunk.contains("green") && !trunk.contains("red"));
    }
}
