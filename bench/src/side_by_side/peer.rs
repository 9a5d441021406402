//! The paths that are measured beside each other, each between two stations in namespaces of their own.

use std::fmt;

/// A path from one station to another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Peer {
    /// Stations on veth cables to one kernel bridge.
    KernelBridge,
    /// The same over two hosts that a kernel vxlan device joins.
    KernelVxlan,
    /// Stations on taps of one Open vSwitch with the userspace datapath.
    OvsTap,
    /// The same with Open vSwitch's experimental TSO.
    OvsTso,
    /// Stations on taps of two of them, joined by VXLAN.
    OvsVxlan,
    /// Stations on taps of one weft.
    WeftTap,
    /// Stations on taps of two wefts, joined by VXLAN.
    WeftVxlan,
    /// A station on a tap of weft's, one on a bridge of the kernel's, joined by VXLAN.
    WeftKernel,
}

/// Who does the work at one end of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Kernel,
    Ovs { tso: bool },
    Weft,
}

/// How a path is laid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Layout {
    /// Both stations on one switch.
    Local(Kind),
    /// A host with a switch for each, an underlay between them.
    Overlay([Kind; 2]),
}

impl Peer {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 8] = [
        Self::KernelBridge,
        Self::OvsTap,
        Self::OvsTso,
        Self::WeftTap,
        Self::KernelVxlan,
        Self::OvsVxlan,
        Self::WeftVxlan,
        Self::WeftKernel,
    ];

    /// Its name on the command line and in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::KernelBridge => "kernel-bridge",
            Self::KernelVxlan => "kernel-vxlan",
            Self::OvsTap => "ovs-tap",
            Self::OvsTso => "ovs-tso",
            Self::OvsVxlan => "ovs-vxlan",
            Self::WeftTap => "weft-tap",
            Self::WeftVxlan => "weft-vxlan",
            Self::WeftKernel => "weft-kernel",
        }
    }

    /// Those that a word of the command line means: one by its key, or all whose keys begin with the word and a hyphen.
    pub fn named(word: &str) -> Vec<Self> {
        let means = |peer: &Self| peer.key() == word || peer.key().split('-').next() == Some(word);
        Self::ALL.into_iter().filter(means).collect()
    }

    pub(crate) fn layout(self) -> Layout {
        match self {
            Self::KernelBridge => Layout::Local(Kind::Kernel),
            Self::KernelVxlan => Layout::Overlay([Kind::Kernel; 2]),
            Self::OvsTap => Layout::Local(Kind::Ovs { tso: false }),
            Self::OvsTso => Layout::Local(Kind::Ovs { tso: true }),
            Self::OvsVxlan => Layout::Overlay([Kind::Ovs { tso: false }; 2]),
            Self::WeftTap => Layout::Local(Kind::Weft),
            Self::WeftVxlan => Layout::Overlay([Kind::Weft; 2]),
            Self::WeftKernel => Layout::Overlay([Kind::Weft, Kind::Kernel]),
        }
    }

    /// Who works on it, each once.
    pub(crate) fn kinds(self) -> Vec<Kind> {
        match self.layout() {
            Layout::Local(kind) => vec![kind],
            Layout::Overlay([one, other]) if one == other => vec![one],
            Layout::Overlay(kinds) => kinds.to_vec(),
        }
    }

    pub(crate) fn is_overlay(self) -> bool {
        matches!(self.layout(), Layout::Overlay(_))
    }

    pub(crate) fn is_weft(self) -> bool {
        self.kinds().contains(&Kind::Weft)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::KernelBridge => "kernel bridge",
            Self::KernelVxlan => "kernel vxlan",
            Self::OvsTap => "OVS tap",
            Self::OvsTso => "OVS tap, TSO",
            Self::OvsVxlan => "OVS VXLAN",
            Self::WeftTap => "weft tap",
            Self::WeftVxlan => "weft VXLAN",
            Self::WeftKernel => "weft to kernel vxlan",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_means_one_peer_or_a_family() {
        assert_eq!(Peer::named("weft-tap"), [Peer::WeftTap]);
        assert_eq!(Peer::named("weft"), [Peer::WeftTap, Peer::WeftVxlan, Peer::WeftKernel]);
        assert_eq!(Peer::named("kernel"), [Peer::KernelBridge, Peer::KernelVxlan]);
        for word in ["", "tap", "wef", "weft-", "Weft"] {
            assert_eq!(Peer::named(word), [], "{word:?}");
        }
    }
}
