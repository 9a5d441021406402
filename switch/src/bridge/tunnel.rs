//! What can be switched on at the overlay side of a bridge, by the names of the kernel's vxlan devices (`ip link ... type
//! vxlan`).

/// The switches of one bridge's overlay side. All of them off is what costs nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TunnelOptions {
    /// Source addresses of what comes from VTEPs are learned.
    pub learning: bool,
}

impl Default for TunnelOptions {
    fn default() -> Self {
        Self { learning: true }
    }
}
