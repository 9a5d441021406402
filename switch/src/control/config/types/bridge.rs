//! `[[bridge]]`.

use std::{net::SocketAddr, time::Duration};

use weft_vxlan::{Encapsulation, Vni, geneve::OptionList};

use super::SwitchConfig;
use crate::{snoop, wire::Tpid};

/// `[[bridge]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgeConfig {
    /// `name`: 1 to 15 characters of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// `vni`; `None`: never leaves the host.
    pub vni: Option<Vni>,
    /// `encapsulation`: how its frames are wrapped for VTEPs; default as [`VtepConfig::encapsulation_of`](super::VtepConfig::encapsulation_of) has it.
    pub encapsulation: Encapsulation,
    /// `geneve_option`: what is sent with each frame in Geneve; default nothing.
    pub geneve_options: OptionList,
    /// `remotes`: the flood list; entries without a port have that of the encapsulation, [`VtepConfig::port_of`](super::VtepConfig::port_of).
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
    /// `mss_clamp`: TCP that crosses the overlay is held to segments that fit; default false.
    pub mss_clamp: bool,
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
            encapsulation: Encapsulation::Vxlan,
            geneve_options: OptionList::new(),
            remotes: Vec::new(),
            learning: true,
            vxlan_learning: true,
            proxy: false,
            rsc: false,
            l2miss: false,
            l3miss: false,
            maxaddress: None,
            mss_clamp: false,
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
