//! 802.1Q tags: reading, taking off and putting on.

use std::fmt;

/// Tag protocol identifier of a customer tag (IEEE 802.1Q).
pub const TPID_8021Q: u16 = 0x8100;
/// Tag protocol identifier of a service tag (IEEE 802.1ad).
pub const TPID_8021AD: u16 = 0x88a8;
/// Bytes of one tag on the wire.
pub const TAG_LEN: usize = 4;

/// A VLAN identifier that a frame can be a member of: 1 to 4094 (0 means "priority only", 4095 is reserved).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct VlanId(u16);

impl VlanId {
    /// The identifier, if it is one of 1 to 4094.
    pub const fn new(vid: u16) -> Option<Self> {
        if vid >= 1 && vid <= 4094 { Some(Self(vid)) } else { None }
    }

    /// The identifier as the number on the wire.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Tag control information: priority (3 bits), drop eligible (1 bit), VLAN identifier (12 bits, 0 and 4095 included).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag(pub u16);

impl Tag {
    /// The raw VLAN identifier, 0 to 4095.
    #[inline]
    pub const fn vid(self) -> u16 {
        self.0 & 0x0fff
    }

    /// Priority code point and drop-eligible indicator: the four bits above the identifier, still in place.
    #[inline]
    pub const fn priority_bits(self) -> u16 {
        self.0 & 0xf000
    }

    /// This priority with another identifier.
    #[inline]
    pub const fn with_vid(self, vid: VlanId) -> Self {
        Self(self.priority_bits() | vid.get())
    }

    /// The four bytes on the wire with the 802.1Q protocol identifier.
    #[inline]
    pub const fn to_bytes(self) -> [u8; TAG_LEN] {
        let [a, b] = TPID_8021Q.to_be_bytes();
        let [c, d] = self.0.to_be_bytes();
        [a, b, c, d]
    }
}
