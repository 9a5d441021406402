//! The header between UDP and the inner frame: read on the way in, made on the way out, by the bridge's encapsulation.
//!
//! A receiver asks in the order of the kernel's (`vxlan_core.c`: `vxlan_rcv`; `geneve.c`: `geneve_udp_encap_recv`,
//! `geneve_rx`): what can be asked before the VNI is looked up, [`TunnelHeader::read`]; then, by whose VNI it is, the rest,
//! [`TunnelHeader::frame_at`].

use weft_vxlan::{
    Encapsulation, GroupPolicy, HeaderFormat, Vni,
    encapsulation::BASE_HEADER_LEN,
    geneve::{self, NoFrame},
    gpe::NotEthernet,
    header::{Header, HeaderError},
};

use crate::{
    bridge::{Bridge, DropReason, Tables},
    ids::Endpoint,
};

/// A tunnel header without Geneve's options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TunnelHeader {
    /// VXLAN's, perhaps with group policy.
    Vxlan(Header),
    /// The same of VXLAN-GPE.
    VxlanGpe(Header),
    /// Geneve's.
    Geneve(geneve::Header),
}

impl TunnelHeader {
    /// The header that a datagram begins with, which came to the port of `format`.
    pub(super) fn read(format: HeaderFormat, datagram: &[u8]) -> Result<Self, DropReason> {
        match format {
            HeaderFormat::Vxlan => vxlan_header(datagram).map(Self::Vxlan),
            HeaderFormat::VxlanGpe => vxlan_header(datagram).map(Self::VxlanGpe),
            HeaderFormat::Geneve => match geneve::Header::parse(datagram) {
                Ok((header, _)) => Ok(Self::Geneve(header)),
                Err(geneve::HeaderError::Truncated { .. }) => Err(DropReason::GeneveTruncated),
                Err(geneve::HeaderError::Version(_)) => Err(DropReason::GeneveVersion),
            },
        }
    }

    /// The header of a frame in this network, without policy and options.
    #[inline]
    pub const fn plain(format: HeaderFormat, vni: Vni) -> Self {
        match format {
            HeaderFormat::Vxlan => Self::Vxlan(Header::new(vni)),
            HeaderFormat::VxlanGpe => Self::VxlanGpe(Header::with_ethernet(vni)),
            HeaderFormat::Geneve => Self::Geneve(geneve::Header::new(vni)),
        }
    }

    /// The header of a frame that entered here, for VTEPs of its bridge; with the group policy of its port, if the bridge
    /// sends policies. Its options are the bridge's.
    #[inline]
    pub(super) fn to_send(tables: &Tables, bridge: &Bridge, vni: Vni, ingress: Endpoint) -> Self {
        match bridge.encapsulation {
            Encapsulation::Vxlan | Encapsulation::VxlanGpe => Self::plain(bridge.encapsulation.format(), vni),
            Encapsulation::VxlanGbp => Self::Vxlan(policy_header(tables, vni, ingress)),
            Encapsulation::Geneve => Self::Geneve(geneve::Header::new(vni).with_options(&bridge.geneve_options)),
        }
    }

    /// Where in a datagram of `len` bytes that begins with this header and came to this bridge the inner frame begins.
    /// VXLAN and its kin are refused for the bits of `refused_bits` that they don't use.
    ///
    /// # Errors
    /// It is refused.
    pub(super) fn frame_at(self, len: usize, bridge: &Bridge, refused_bits: u64) -> Result<usize, DropReason> {
        match self {
            Self::Vxlan(header) | Self::VxlanGpe(header)
                if header.has_any_of(refused_bits & !bridge.encapsulation.used_bits()) =>
            {
                Err(DropReason::VxlanReservedBits)
            }
            Self::Vxlan(_) => Ok(BASE_HEADER_LEN),
            Self::VxlanGpe(header) => match header.ethernet_inside() {
                Ok(()) => Ok(BASE_HEADER_LEN),
                Err(NotEthernet::NoProtocol) => Err(DropReason::GpeNoProtocol),
                Err(NotEthernet::Version(_)) => Err(DropReason::GpeVersion),
                Err(NotEthernet::Control) => Err(DropReason::TunnelControl),
                Err(NotEthernet::Protocol(_)) => Err(DropReason::TunnelNotEthernet),
            },
            Self::Geneve(header) => match header.frame_behind(len.saturating_sub(BASE_HEADER_LEN)) {
                Ok(at) => Ok(BASE_HEADER_LEN + at),
                Err(NoFrame::Protocol(_)) => Err(DropReason::TunnelNotEthernet),
                Err(NoFrame::OptionsTruncated { .. }) => Err(DropReason::GeneveTruncated),
                Err(NoFrame::Control) => Err(DropReason::TunnelControl),
                Err(NoFrame::CriticalOption) => Err(DropReason::GeneveCriticalOption),
            },
        }
    }

    /// What is behind the header and its options in a datagram, whatever the header says of it. `None`: there is no header.
    pub fn inner(format: HeaderFormat, datagram: &[u8]) -> Option<&[u8]> {
        let header = Self::read(format, datagram).ok()?;
        datagram.get(BASE_HEADER_LEN + header.options_len()..)
    }

    /// Which it is.
    pub const fn format(self) -> HeaderFormat {
        match self {
            Self::Vxlan(_) => HeaderFormat::Vxlan,
            Self::VxlanGpe(_) => HeaderFormat::VxlanGpe,
            Self::Geneve(_) => HeaderFormat::Geneve,
        }
    }

    /// The network that it names.
    pub const fn vni(self) -> Vni {
        match self {
            Self::Vxlan(header) | Self::VxlanGpe(header) => header.vni(),
            Self::Geneve(header) => header.vni(),
        }
    }

    /// The sender's group, if it names one where that means something.
    pub const fn policy(self) -> Option<GroupPolicy> {
        match self {
            Self::Vxlan(header) => header.policy(),
            Self::VxlanGpe(_) | Self::Geneve(_) => None,
        }
    }

    /// Bytes of options that follow it.
    pub const fn options_len(self) -> usize {
        match self {
            Self::Vxlan(_) | Self::VxlanGpe(_) => 0,
            Self::Geneve(header) => header.options_len(),
        }
    }

    /// The header as it is on the wire.
    #[inline]
    pub const fn to_bytes(self) -> [u8; BASE_HEADER_LEN] {
        match self {
            Self::Vxlan(header) | Self::VxlanGpe(header) => header.to_bytes(),
            Self::Geneve(header) => header.to_bytes(),
        }
    }
}

/// Why a datagram without a byte is refused that came to the port of `format`.
pub(super) const fn empty(format: HeaderFormat) -> DropReason {
    match format {
        HeaderFormat::Vxlan | HeaderFormat::VxlanGpe => DropReason::VxlanTruncated,
        HeaderFormat::Geneve => DropReason::GeneveTruncated,
    }
}

fn vxlan_header(datagram: &[u8]) -> Result<Header, DropReason> {
    match Header::parse(datagram) {
        Ok((header, _)) => Ok(header),
        Err(HeaderError::Truncated { .. }) => Err(DropReason::VxlanTruncated),
        Err(HeaderError::NoVniFlag) => Err(DropReason::VxlanNoVniFlag),
    }
}

/// The header of a frame that entered here, with the group policy of its port.
fn policy_header(tables: &Tables, vni: Vni, ingress: Endpoint) -> Header {
    let port = match ingress {
        Endpoint::Port(port) => tables.port(port),
        Endpoint::Vtep(_) => None,
    };
    match port.map_or(0, |port| port.options.gbp_policy) {
        0 => Header::new(vni),
        policy => Header::with_policy(vni, GroupPolicy::new(policy)),
    }
}
