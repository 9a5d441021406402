//! VXLAN network identifiers.

use std::fmt;

/// A VXLAN network identifier: 24 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Vni(u32);

impl Vni {
    /// The largest VNI, 2^24 - 1.
    pub const MAX: Self = Self((1 << 24) - 1);

    /// The identifier, if it fits 24 bits.
    pub const fn new(vni: u32) -> Option<Self> {
        if vni <= Self::MAX.0 { Some(Self(vni)) } else { None }
    }

    /// The identifier as a number.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
