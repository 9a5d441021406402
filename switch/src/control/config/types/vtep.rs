//! `[vtep]`.

use std::{net::IpAddr, time::Duration};

use weft_vxlan::{
    Encapsulation, HeaderFormat,
    ecn::EcnMode,
    header::ReservedBits,
    pmtu::{self, Policy},
};

use super::{NetnsName, word_of};
use crate::{bridge::Oversize, underlay::sockets::UnderlaySettings};

/// `[vtep]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VtepConfig {
    /// `address`: underlay source address.
    pub address: IpAddr,
    /// `netns`: the namespace of the underlay sockets; default weft's own.
    pub netns: NetnsName,
    /// `encapsulation`: how bridges wrap their frames that do not say it themselves; VXLAN.
    pub encapsulation: Encapsulation,
    /// `port`: UDP port of VXLAN, with group policy or without: where weft listens, and the default of remotes; 4789.
    pub port: u16,
    /// `gpe_port`: the same of VXLAN-GPE; 4790.
    pub gpe_port: u16,
    /// `geneve_port`: the same of Geneve; 6081.
    pub geneve_port: u16,
    /// `peers`: from whom frames are taken.
    pub peers: Peers,
    /// `unknown_vni`: the bridge of frames with a VNI that no bridge has; `None`: they are dropped.
    pub unknown_vni: Option<String>,
    /// `reserved_bits`: what happens to a VXLAN header with reserved bits set.
    pub reserved_bits: ReservedBits,
    /// `gbp`: bridges that would be VXLAN's are VXLAN-GBP's, so that group policies are sent and read; default false.
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
    /// `oversize`: what becomes of frames that are too long for their VTEP and whose sender is not told.
    pub oversize: Oversize,
    /// `gso`: whether equal-sized datagrams to one VTEP leave as one send (UDP_SEGMENT); auto.
    pub gso: GsoMode,
    /// `receive_buffer`: bytes asked for each worker's receiving socket; 8 MiB.
    pub receive_buffer: usize,
    /// `send_buffer`: bytes asked for each sending socket; 4 MiB.
    pub send_buffer: usize,
    /// `path_mtu`: what the path MTU to each VTEP goes by; measured.
    pub path_mtu: Policy,
    /// `path_mtu_ageing`: after what time a smaller path MTU is not believed any more without another look; 10 minutes.
    pub path_mtu_ageing: Duration,
}

impl VtepConfig {
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
            encapsulation: Encapsulation::Vxlan,
            port: HeaderFormat::Vxlan.default_port(),
            gpe_port: HeaderFormat::VxlanGpe.default_port(),
            geneve_port: HeaderFormat::Geneve.default_port(),
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
            oversize: Oversize::Fragment,
            gso: GsoMode::Auto,
            receive_buffer: UnderlaySettings::DEFAULT_RECEIVE_BUFFER,
            send_buffer: UnderlaySettings::DEFAULT_SEND_BUFFER,
            path_mtu: Policy::Measure,
            path_mtu_ageing: pmtu::AGEING,
        }
    }

    /// Sets everything on which the kernel and the RFC disagree as `profile` has it.
    pub fn apply(&mut self, profile: Profile) {
        (self.reserved_bits, self.ecn, self.inner_vlan, self.udp6zerocsumrx) = match profile {
            Profile::Kernel => (ReservedBits::Drop, EcnMode::Kernel, InnerVlan::Pass, false),
            Profile::Rfc7348 => (ReservedBits::Ignore, EcnMode::Rfc6040, InnerVlan::Drop, true),
        };
    }

    /// How a bridge wraps its frames that says this of it, or nothing.
    pub fn encapsulation_of(&self, said: Option<Encapsulation>) -> Encapsulation {
        let encapsulation = said.unwrap_or(self.encapsulation);
        if self.gbp && encapsulation == Encapsulation::Vxlan { Encapsulation::VxlanGbp } else { encapsulation }
    }

    /// The UDP port of a format.
    pub const fn port_of(&self, format: HeaderFormat) -> u16 {
        match format {
            HeaderFormat::Vxlan => self.port,
            HeaderFormat::VxlanGpe => self.gpe_port,
            HeaderFormat::Geneve => self.geneve_port,
        }
    }

    /// The key that says a format's port.
    pub const fn port_key(format: HeaderFormat) -> &'static str {
        match format {
            HeaderFormat::Vxlan => "port",
            HeaderFormat::VxlanGpe => "gpe_port",
            HeaderFormat::Geneve => "geneve_port",
        }
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

/// How the configuration writes each [`Policy`].
pub const PATH_MTU_WORDS: &[(&str, Policy)] =
    &[("measure", Policy::Measure), ("learn", Policy::Learn), ("assume", Policy::Assume)];

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

/// How the configuration writes each [`Oversize`].
pub const OVERSIZE_WORDS: &[(&str, Oversize)] =
    &[("fragment", Oversize::Fragment), ("outer", Oversize::Outer), ("drop", Oversize::Drop)];
