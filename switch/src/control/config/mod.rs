//! The configuration file: TOML in, [`Config`] out, or every mistake at once with its place and its cure.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use weft_vxlan::{Vni, ecn::EcnMode, header::ReservedBits};

use crate::wire::{MacAddr, VlanId};

/// A whole configuration, checked. What was left out has its default here.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// `[switch]`
    pub switch: SwitchConfig,
    /// `[vtep]`; `None`: a local switch without overlay.
    pub vtep: Option<VtepConfig>,
    /// `[[bridge]]`, in the file's order.
    pub bridges: Vec<BridgeConfig>,
    /// `[[port]]`, in the file's order.
    pub ports: Vec<PortConfig>,
    /// `[[fdb]]`: static entries.
    pub fdb: Vec<FdbConfig>,
}

/// `[switch]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SwitchConfig {
    /// `workers`: threads that forward; default one per core that this process may use.
    pub workers: usize,
    /// `ageing`: how long a learned entry lives without traffic from its address; default 300 s; 0 learns nothing.
    pub ageing: Duration,
    /// `socket`: the control API's unix socket.
    pub socket: PathBuf,
}

/// `[vtep]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VtepConfig {
    /// `address`: underlay source address.
    pub address: IpAddr,
    /// `netns`: the namespace of the underlay sockets; default weft's own.
    pub netns: NetnsName,
    /// `port`: UDP port on which weft listens, and the default of its remotes; 4789.
    pub port: u16,
    /// `peers`: from whom frames are taken.
    pub peers: Peers,
    /// `reserved_bits`: what happens to a VXLAN header with reserved bits set.
    pub reserved_bits: ReservedBits,
    /// `ecn`: how the outer ECN field follows the inner on the way out.
    pub ecn: EcnMode,
    /// `inner_vlan`: whether frames with an 802.1Q tag may cross the overlay on an access bridge.
    pub inner_vlan: InnerVlan,
    /// `source_port_range = [min, max]`: outer source ports; 49152 to 65535.
    pub source_port_range: (u16, u16),
    /// `source_ports`: how many different ones are used, one socket each; 16.
    pub source_ports: u16,
    /// `ttl`: outer TTL or hop limit; 64.
    pub ttl: Ttl,
    /// `tos`: outer DSCP (the ECN bits always follow `ecn`); 0.
    pub tos: Tos,
    /// `df`: the outer DF bit; set.
    pub df: Df,
}

/// `peers`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peers {
    /// `"known"`: only VTEPs that the bridge names in its flood list or a static entry.
    Known,
    /// `"any"`: as the kernel does.
    Any,
}

/// `inner_vlan`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InnerVlan {
    /// `"pass"`: tags are opaque, as in a bridge without VLAN filtering.
    Pass,
    /// `"drop"`: RFC 7348 section 6.1.
    Drop,
}

/// `ttl`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ttl {
    /// This value, 1 to 255.
    Fixed(u8),
    /// `"inherit"`: the inner packet's; 64 if it is not IP.
    Inherit,
}

/// `tos`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tos {
    /// This value; its two ECN bits are zero.
    Fixed(u8),
    /// `"inherit"`: the inner packet's DSCP; 0 if it is not IP.
    Inherit,
}

/// `df`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Df {
    /// `"set"`
    Set,
    /// `"unset"`: the kernel may fragment the outer packet.
    Unset,
    /// `"inherit"`: set for inner IPv6 and for inner IPv4 with DF.
    Inherit,
}

/// `[[bridge]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgeConfig {
    /// `name`: 1 to 15 characters of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// `vni`; `None`: never leaves the host.
    pub vni: Option<Vni>,
    /// `remotes`: the flood list; entries without a port have [`VtepConfig::port`].
    pub remotes: Vec<SocketAddr>,
    /// `learning`; default true.
    pub learning: bool,
    /// `ageing`; default [`SwitchConfig::ageing`].
    pub ageing: Duration,
    /// `fdb_max_learned`: most learned entries of this bridge; default 65536, 0 = no limit.
    pub fdb_max_learned: usize,
    /// `fdb_full`: what a new address does when the limit is reached.
    pub fdb_full: FdbFull,
    /// `group_fwd_mask`: reserved groups 01-80-C2-00-00-0X that are forwarded, a bit each; bits 0 to 2 can't be set.
    pub group_fwd_mask: u16,
}

/// `fdb_full`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FdbFull {
    /// `"evict"`: the least recently used entry of the port or VTEP that holds most makes room.
    Evict,
    /// `"refuse"`: it is not learned, as in the kernel.
    Refuse,
}

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
}

impl PortConfig {
    /// `netns/interface`, the port's name everywhere; only the interface if the namespace is weft's own.
    pub fn full_name(&self) -> String {
        match &self.netns {
            NetnsName::Own => self.name.clone(),
            other => format!("{other}/{}", self.name),
        }
    }
}

/// `kind`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortKind {
    /// `"tap"`: weft makes the interface, and it vanishes with weft.
    Tap,
    /// `"packet"`: a packet socket on an interface that exists.
    Packet,
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
        /// The bridge of untagged frames.
        native: Option<String>,
    },
}

/// `[[fdb]]`: a static entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FdbConfig {
    /// `bridge`
    pub bridge: String,
    /// `mac`
    pub mac: MacAddr,
    /// `port` (`netns/interface`) or `vtep` (address, perhaps with port).
    pub at: FdbTarget,
    /// `sticky`: does not move when its address is seen elsewhere; default false.
    pub sticky: bool,
}

/// What a static entry points at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FdbTarget {
    /// A port's full name.
    Port(String),
    /// A VTEP.
    Vtep(SocketAddr),
}

/// An address with its prefix length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cidr {
    /// The address, host bits kept.
    pub address: IpAddr,
    /// 0 to 32 or 128.
    pub prefix_len: u8,
}

/// A network namespace as users name it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum NetnsName {
    /// The one weft was started in.
    Own,
    /// A name under `/run/netns`.
    Named(String),
    /// A path to a namespace file.
    Path(PathBuf),
    /// `pid:1234`: that process's.
    Pid(u32),
}

impl std::fmt::Display for NetnsName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own => write!(f, "."),
            Self::Named(name) => write!(f, "{name}"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Pid(pid) => write!(f, "pid:{pid}"),
        }
    }
}
