//! The checked types: what the rest of weft sees of a configuration, with every default filled in.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use weft_vxlan::{Vni, ecn::EcnMode, header::ReservedBits};

use super::origin::Origin;
use crate::{
    bridge::StpState,
    fdb, snoop,
    underlay::sockets::UnderlaySettings,
    wire::{MacAddr, Tpid, VlanId},
};

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
    /// `[[neigh]]`: who has which IP address.
    pub neigh: Vec<NeighConfig>,
    /// `[[mdb]]`: permanent members of multicast groups.
    pub mdb: Vec<MdbConfig>,
    /// Where all this stood, for messages. Equal to any other origin, so that comparing two configurations compares what
    /// they mean; `Origin::default()` for a configuration that never was a file.
    pub origin: Origin,
}

impl Config {
    /// Nothing but defaults: no overlay, no bridges, no ports.
    pub fn empty() -> Self {
        Self {
            switch: SwitchConfig::default(),
            vtep: None,
            bridges: Vec::new(),
            ports: Vec::new(),
            fdb: Vec::new(),
            neigh: Vec::new(),
            mdb: Vec::new(),
            origin: Origin::default(),
        }
    }

    /// The bridge of this name.
    pub fn bridge(&self, name: &str) -> Option<&BridgeConfig> {
        self.bridges.iter().find(|bridge| bridge.name == name)
    }

    /// The port of this full name, [`PortConfig::full_name`].
    pub fn port(&self, full_name: &str) -> Option<&PortConfig> {
        self.ports.iter().find(|port| port.full_name() == full_name)
    }
}

/// `[switch]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SwitchConfig {
    /// `workers`: threads that forward; default one per core that this process may use.
    pub workers: usize,
    /// `ageing`: how long a learned entry lives without traffic from its address; default 300 s; 0 learns nothing.
    pub ageing: Duration,
    /// `socket`: the control API's unix socket; default [`default_socket`].
    pub socket: PathBuf,
    /// `busy_poll`: for how long a worker may look for frames before it sleeps; zero, the default, sleeps at once.
    pub busy_poll: Duration,
    /// `pin`: whether each worker stays on one CPU.
    pub pin: Pin,
}

impl SwitchConfig {
    /// What `ageing` is if nothing is said: the kernel's and IEEE 802.1Q's default (table 8-6), five minutes.
    pub const DEFAULT_AGEING: Duration = Duration::from_secs(300);
    /// The kernel gives a tap at most this many queues (`MAX_TAP_QUEUES`, drivers/net/tun.c), one for each worker.
    pub const MAX_WORKERS: usize = 256;
}

impl Default for SwitchConfig {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            workers: cores.min(Self::MAX_WORKERS),
            ageing: Self::DEFAULT_AGEING,
            socket: default_socket(),
            busy_poll: Duration::ZERO,
            pin: Pin::No,
        }
    }
}

/// `pin`
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pin {
    /// `false`: the scheduler puts workers where there is room.
    No,
    /// `true`: on the CPUs that weft may use, in their order.
    InOrder,
    /// `[0, 2]`: on these, each named once. Workers beyond their number begin anew with the first.
    To(Vec<usize>),
}

impl Pin {
    /// The CPUs of the worker with this index, if weft may use `allowed`, which are not none.
    pub fn cpus_of(&self, worker: usize, allowed: &[usize]) -> Vec<usize> {
        match self {
            Self::No => allowed.to_vec(),
            Self::InOrder => vec![allowed[worker % allowed.len()]],
            Self::To(cpus) => vec![cpus[worker % cpus.len()]],
        }
    }
}

/// The directory of root's default socket. It is weft's own: `weft run` makes it if it is missing.
pub const RUN_DIRECTORY: &str = "/run/weft";

/// Where the control API listens, and where the commands look for it, if nobody says otherwise: `/run/weft/weft.sock`
/// for root, `$XDG_RUNTIME_DIR/weft.sock` for everybody else, `/tmp/weft-UID.sock` without such a directory.
pub fn default_socket() -> PathBuf {
    let user = rustix::process::geteuid();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    socket_for(user.as_raw(), runtime.as_deref())
}

fn socket_for(user: u32, runtime: Option<&Path>) -> PathBuf {
    match runtime {
        _ if user == 0 => Path::new(RUN_DIRECTORY).join("weft.sock"),
        // "All paths set in these environment variables must be absolute" (XDG base directory specification)
        Some(directory) if directory.is_absolute() => directory.join("weft.sock"),
        _ => PathBuf::from(format!("/tmp/weft-{user}.sock")),
    }
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
    /// `unknown_vni`: the bridge of frames with a VNI that no bridge has; `None`: they are dropped.
    pub unknown_vni: Option<String>,
    /// `reserved_bits`: what happens to a VXLAN header with reserved bits set.
    pub reserved_bits: ReservedBits,
    /// `gbp`: group policies are sent and read; default false.
    pub gbp: bool,
    /// `udpcsum`: UDP checksums over IPv4; default true.
    pub udpcsum: bool,
    /// `udp6zerocsumtx`: no UDP checksums over IPv6; default false.
    pub udp6zerocsumtx: bool,
    /// `udp6zerocsumrx`: datagrams over IPv6 without UDP checksum are taken.
    pub udp6zerocsumrx: bool,
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
    /// `gso`: whether equal-sized datagrams to one VTEP leave as one send (UDP_SEGMENT); auto.
    pub gso: GsoMode,
    /// `receive_buffer`: bytes asked for each worker's receiving socket; 8 MiB.
    pub receive_buffer: usize,
    /// `send_buffer`: bytes asked for each sending socket; 4 MiB.
    pub send_buffer: usize,
}

impl VtepConfig {
    /// IANA's port for VXLAN (RFC 7348 section 8).
    pub const DEFAULT_PORT: u16 = 4789;
    /// The dynamic range, which RFC 7348 section 5 recommends for outer source ports.
    pub const DEFAULT_SOURCE_PORT_RANGE: (u16, u16) = (49152, 65535);
    /// Different outer source ports, unless fewer are in the range.
    pub const DEFAULT_SOURCE_PORTS: u16 = 16;
    /// Each costs a socket; more than this buys no better spreading over a receiver's queues.
    pub const MAX_SOURCE_PORTS: u16 = 256;

    /// An overlay from this address with every default.
    pub fn new(address: IpAddr) -> Self {
        Self {
            address,
            netns: NetnsName::Own,
            port: Self::DEFAULT_PORT,
            peers: Peers::Known,
            unknown_vni: None,
            reserved_bits: ReservedBits::Drop,
            gbp: false,
            udpcsum: true,
            udp6zerocsumtx: false,
            udp6zerocsumrx: false,
            ecn: EcnMode::Kernel,
            inner_vlan: InnerVlan::Pass,
            source_port_range: Self::DEFAULT_SOURCE_PORT_RANGE,
            source_ports: Self::DEFAULT_SOURCE_PORTS,
            ttl: Ttl::Fixed(64),
            tos: Tos::Fixed(0),
            df: Df::Set,
            gso: GsoMode::Auto,
            receive_buffer: UnderlaySettings::DEFAULT_RECEIVE_BUFFER,
            send_buffer: UnderlaySettings::DEFAULT_SEND_BUFFER,
        }
    }

    /// Sets everything on which the kernel and the RFC disagree as `profile` has it.
    pub fn apply(&mut self, profile: Profile) {
        (self.reserved_bits, self.ecn, self.inner_vlan, self.udp6zerocsumrx) = match profile {
            Profile::Kernel => (ReservedBits::Drop, EcnMode::Kernel, InnerVlan::Pass, false),
            Profile::Rfc7348 => (ReservedBits::Ignore, EcnMode::Rfc6040, InnerVlan::Drop, true),
        };
    }

    /// Whether its datagrams carry UDP checksums.
    pub const fn sends_checksums(&self) -> bool {
        match self.address {
            IpAddr::V4(_) => self.udpcsum,
            IpAddr::V6(_) => !self.udp6zerocsumtx,
        }
    }
}

/// `profile`: which defaults `reserved_bits`, `ecn`, `inner_vlan` and `udp6zerocsumrx` have; each can still be set by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// `"kernel"`: as the kernel's bridge and vxlan devices. The default.
    Kernel,
    /// `"rfc7348"`: as RFC 7348 and RFC 6040 say.
    Rfc7348,
}

impl Profile {
    /// How the configuration writes each.
    pub const WORDS: &[(&str, Self)] = &[("kernel", Self::Kernel), ("rfc7348", Self::Rfc7348)];
}

/// `gso`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GsoMode {
    /// `"auto"`: used where the kernel can do it, found out at the start.
    Auto,
    /// `"on"`: weft refuses to start where the kernel can't.
    On,
    /// `"off"`: one datagram a send.
    Off,
}

impl GsoMode {
    /// How the configuration writes each.
    pub const WORDS: &[(&str, Self)] = &[("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)];
}

/// How the configuration writes each [`ReservedBits`] but those of a mask.
pub const RESERVED_BITS_WORDS: &[(&str, ReservedBits)] =
    &[("drop", ReservedBits::Drop), ("ignore", ReservedBits::Ignore)];

/// How the configuration writes `bits`: a word, or a mask as iproute2 writes it.
pub fn reserved_bits_text(bits: ReservedBits) -> String {
    match bits {
        ReservedBits::Drop | ReservedBits::Ignore => word_of(RESERVED_BITS_WORDS, &bits).to_owned(),
        ReservedBits::Mask(mask) => format!("{mask:#018x}"),
    }
}
/// How the configuration writes each [`EcnMode`].
pub const ECN_WORDS: &[(&str, EcnMode)] = &[("kernel", EcnMode::Kernel), ("rfc6040", EcnMode::Rfc6040)];

/// How the configuration writes `value`, by the list that it reads with; each list has all values.
pub fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word)
}

/// `peers`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peers {
    /// `"known"`: only VTEPs that the bridge names in its flood list or a static entry.
    Known,
    /// `"any"`: as the kernel does.
    Any,
}

impl Peers {
    /// How the configuration writes each.
    pub const WORDS: &[(&str, Self)] = &[("known", Self::Known), ("any", Self::Any)];
}

/// `inner_vlan`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InnerVlan {
    /// `"pass"`: tags are opaque, as in a bridge without VLAN filtering.
    Pass,
    /// `"drop"`: RFC 7348 section 6.1.
    Drop,
}

impl InnerVlan {
    /// How the configuration writes each.
    pub const WORDS: &[(&str, Self)] = &[("pass", Self::Pass), ("drop", Self::Drop)];
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

impl Df {
    /// How the configuration writes each.
    pub const WORDS: &[(&str, Self)] = &[("set", Self::Set), ("unset", Self::Unset), ("inherit", Self::Inherit)];
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
    /// `vxlan_learning`: the `learning` of the kernel's vxlan device; default true.
    pub vxlan_learning: bool,
    /// `proxy`: ARP and neighbour solicitations do not leave, and known neighbours are answered for; default false.
    pub proxy: bool,
    /// `rsc`: packets to a router go to the station that they are for; default false.
    pub rsc: bool,
    /// `l2miss`: unicast that nobody knows a VTEP for is told of; default false.
    pub l2miss: bool,
    /// `l3miss`: IP addresses that `proxy` or `rsc` did not find are told of; default false.
    pub l3miss: bool,
    /// `maxaddress`: most entries behind VTEPs; `None`: no limit but `fdb_max_learned`.
    pub maxaddress: Option<u32>,
    /// `ageing`; default [`SwitchConfig::ageing`].
    pub ageing: Duration,
    /// `fdb_max_learned`: most learned entries of this bridge; default 65536, 0 = no limit.
    pub fdb_max_learned: usize,
    /// `fdb_full`: what a new address does when the limit is reached.
    pub fdb_full: FdbFull,
    /// `group_fwd_mask`: reserved groups 01-80-C2-00-00-0X that are forwarded, a bit each; bits 0 to 2 can't be set.
    pub group_fwd_mask: u16,
    /// `vlan_protocol`: a bridge of customers, or one of their provider, to which groups of theirs are ordinary.
    pub vlan_protocol: Tpid,
    /// `no_linklocal_learn`: frames to reserved groups that stay in the bridge teach nothing; default false.
    pub no_linklocal_learn: bool,
    /// `neigh_suppress`: VTEPs are spared questions for addresses that weft can answer; default false.
    pub neigh_suppress: bool,
    /// `mcast_*`: what it does about multicast groups.
    pub mcast: snoop::Settings,
}

impl BridgeConfig {
    /// What `fdb_max_learned` is if nothing is said.
    pub const DEFAULT_MAX_LEARNED: usize = 65536;

    /// A bridge that never leaves the host, with every default.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            vni: None,
            remotes: Vec::new(),
            learning: true,
            vxlan_learning: true,
            proxy: false,
            rsc: false,
            l2miss: false,
            l3miss: false,
            maxaddress: None,
            ageing: SwitchConfig::DEFAULT_AGEING,
            fdb_max_learned: Self::DEFAULT_MAX_LEARNED,
            fdb_full: FdbFull::Evict,
            group_fwd_mask: 0,
            vlan_protocol: Tpid::Customer,
            no_linklocal_learn: false,
            neigh_suppress: false,
            mcast: snoop::Settings::default(),
        }
    }
}

/// `fdb_full`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FdbFull {
    /// `"evict"`: the least recently used entry of the port or VTEP that holds most makes room.
    Evict,
    /// `"refuse"`: it is not learned, as in the kernel.
    Refuse,
}

impl FdbFull {
    /// How the configuration writes each.
    pub const WORDS: &[(&str, Self)] = &[("evict", Self::Evict), ("refuse", Self::Refuse)];
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
    /// `state`: how far it takes part in forwarding; default forwarding.
    pub state: StpState,
    /// `locked`: takes frames only from addresses that have an entry there; default false.
    pub locked: bool,
    /// `mab`: unknown sources at a locked port get a locked entry; default false.
    pub mab: bool,
    /// `group_fwd_mask`: reserved groups that are forwarded when they come in here; bit 1 can't be set.
    pub group_fwd_mask: u16,
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
            untagged: None,
            mcast: snoop::PortSettings::default(),
        }
    }

    /// `netns/interface`, the port's name everywhere; only the interface if the namespace is weft's own.
    pub fn full_name(&self) -> String {
        match &self.netns {
            NetnsName::Own => self.name.clone(),
            NetnsName::Named(_) | NetnsName::Path(_) | NetnsName::Pid(_) => format!("{}/{}", self.netns, self.name),
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

impl PortKind {
    /// How the configuration writes each.
    pub const WORDS: &[(&str, Self)] = &[("tap", Self::Tap), ("packet", Self::Packet)];

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

/// `[[fdb]]`: a static entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FdbConfig {
    /// `bridge`
    pub bridge: String,
    /// `mac`
    pub mac: MacAddr,
    /// `port` (`netns/interface`) or `vtep` (address, perhaps with port).
    pub at: FdbTarget,
    /// `sticky`, `extern_learn`, `permanent`: at most one of them; default none.
    pub kind: FdbKind,
}

/// What keeps a static entry, and what moves it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FdbKind {
    /// It moves when its address is seen elsewhere, and stays static.
    Static,
    /// `sticky`: it does not move.
    Sticky,
    /// `extern_learn`: once its address was seen elsewhere it is like a learned one.
    ExternLearn,
    /// `permanent`: the bridge's own address. What is sent to it is not forwarded.
    Permanent,
}

impl FdbKind {
    /// The FDB's name for it; a permanent entry is in no FDB.
    pub const fn origin(self) -> Option<fdb::Origin> {
        match self {
            Self::Static => Some(fdb::Origin::Static),
            Self::Sticky => Some(fdb::Origin::Sticky),
            Self::ExternLearn => Some(fdb::Origin::ExternLearn),
            Self::Permanent => None,
        }
    }
}

/// What a static entry points at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FdbTarget {
    /// A port's full name.
    Port(String),
    /// A VTEP.
    Vtep(SocketAddr),
    /// The bridge itself: a permanent entry that names neither.
    Bridge,
}

/// `[[neigh]]`: a station of a bridge, by one of its IP addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NeighConfig {
    /// `bridge`
    pub bridge: String,
    /// `ip`
    pub ip: IpAddr,
    /// `mac`
    pub mac: MacAddr,
    /// `router`: neighbour advertisements call it one; default false.
    pub router: bool,
}

/// `[[mdb]]`: a permanent member of a multicast group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MdbConfig {
    /// `bridge`
    pub bridge: String,
    /// `group`: an IP group, or an Ethernet one for frames that are not IP.
    pub group: snoop::Group,
    /// `source`: only from this address; default: from any.
    pub source: Option<IpAddr>,
    /// `port`: its full name; `None`: the overlay.
    pub port: Option<String>,
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

/// Where `ip netns` keeps the namespaces that have names.
pub const NETNS_DIRECTORY: &str = "/run/netns";

impl NetnsName {
    /// The file that stands for the namespace: what to open for `setns`.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Own => PathBuf::from("/proc/self/ns/net"),
            Self::Named(name) => Path::new(NETNS_DIRECTORY).join(name),
            Self::Path(path) => path.clone(),
            Self::Pid(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
        }
    }
}

impl fmt::Display for NetnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => write!(f, "."),
            Self::Named(name) => write!(f, "{name}"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Pid(pid) => write!(f, "pid:{pid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_socket_is_where_its_user_may_make_one() {
        assert_eq!(socket_for(0, Some(Path::new("/run/user/0"))), Path::new("/run/weft/weft.sock"));
        assert_eq!(socket_for(1000, Some(Path::new("/run/user/1000"))), Path::new("/run/user/1000/weft.sock"));
        assert_eq!(socket_for(1000, None), Path::new("/tmp/weft-1000.sock"));
        assert_eq!(socket_for(1000, Some(Path::new("relative"))), Path::new("/tmp/weft-1000.sock"));
    }

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
