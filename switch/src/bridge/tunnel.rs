//! What can be switched on at the overlay side of a bridge, by the names of the kernel's vxlan devices (`ip link ... type
//! vxlan`).

/// The switches of one bridge's overlay side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TunnelOptions {
    /// Source addresses of what comes from VTEPs are learned.
    pub learning: bool,
    /// ARP and neighbour solicitations do not leave; those about known neighbours are answered.
    pub proxy: bool,
    /// Packets to a router are sent to the station that they are for.
    pub rsc: bool,
    /// Unicast that nobody knows a VTEP for is told of.
    pub l2miss: bool,
    /// So is an IP address that `proxy` or `rsc` did not find.
    pub l3miss: bool,
}

impl TunnelOptions {
    /// Whether what goes to VTEPs has to be looked at more closely than usual.
    #[inline]
    pub const fn looks_at_what_leaves(&self) -> bool {
        self.proxy | self.rsc | self.l2miss
    }
}

impl Default for TunnelOptions {
    fn default() -> Self {
        Self { learning: true, proxy: false, rsc: false, l2miss: false, l3miss: false }
    }
}
