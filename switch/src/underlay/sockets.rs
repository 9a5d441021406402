//! Opening the underlay's sockets.

use std::net::IpAddr;

use super::udp::UdpUnderlay;

/// What the underlay's sockets are to be like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnderlaySettings {
    /// The VTEP's own address: source of what is sent, and the only one that is listened on.
    pub address: IpAddr,
    /// The UDP port that is listened on.
    pub port: u16,
    /// How many ends are wanted, one a worker; at least 1.
    pub workers: usize,
    /// Outer source ports: from the first to the second, which, as in the kernel, is itself never used.
    pub source_port_range: (u16, u16),
    /// How many different source ports are used, one socket each; at least 1.
    pub source_ports: u16,
    /// The outer DF bit.
    pub dont_fragment: DontFragment,
    /// Whether equal-sized datagrams are handed to the kernel as one.
    pub gso: Gso,
}

impl UnderlaySettings {
    /// Port 4789, one worker, 16 source ports of 49152 to 65535, DF set, segmentation offload as far as it works.
    pub const fn new(address: IpAddr) -> Self {
        Self {
            address,
            port: 4789,
            workers: 1,
            source_port_range: (49_152, 65_535),
            source_ports: 16,
            dont_fragment: DontFragment::Set,
            gso: Gso::Auto,
        }
    }
}

/// The outer DF bit; for IPv6 whether the kernel may fragment at the source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DontFragment {
    /// Always set: what does not fit the path is refused.
    Set,
    /// Never set: the kernel fragments what does not fit the path.
    Unset,
    /// As each [`Target`](super::Target) says.
    Inherit,
}

/// Use of UDP_SEGMENT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gso {
    /// Used until the kernel refuses it, then no more.
    Auto,
    /// Used always; a run that the kernel refuses is sent again one by one, each time.
    On,
    /// Never used.
    Off,
}

/// Why the underlay could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum UnderlayError {
    /// Somebody listens there already.
    #[error("{address} port {port} is taken by {}", owner.as_deref().unwrap_or("somebody else"))]
    PortTaken {
        /// The address that was asked for.
        address: IpAddr,
        /// The port that was asked for.
        port: u16,
        /// Who has it, if that could be found out: a process with its number, or the kernel.
        owner: Option<String>,
    },
}

/// All sockets of an underlay: a receiver for each worker, and the senders, which all share.
pub struct UnderlaySockets {}

impl UnderlaySockets {
    /// Opens everything in the network namespace of the calling thread.
    ///
    /// # Errors
    /// See [`UnderlayError`].
    pub fn open(settings: &UnderlaySettings) -> Result<Self, UnderlayError> {
        Err(UnderlayError::PortTaken { address: settings.address, port: settings.port, owner: None })
    }

    /// One end for each worker.
    pub fn into_ends(self) -> Vec<UdpUnderlay> {
        Vec::new()
    }
}
