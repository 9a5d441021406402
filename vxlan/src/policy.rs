//! Group policy: a number that travels with a frame and says what kind of sender it comes from (VXLAN-GBP,
//! draft-smith-vxlan-group-policy; `include/net/vxlan.h`: `struct vxlanhdr_gbp`).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |G|R|R|R|I|R|R|R|R|D|R|R|A|R|R|R|        Group Policy ID        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use crate::{Vni, header::Header};

/// G: the identifier means something.
const POLICY: u64 = 1 << 63;
/// D: "the egress VTEP MUST NOT learn the source address". The kernel reads it and learns all the same.
const DONT_LEARN: u64 = 1 << (63 - 9);
/// A: "the group policy has already been applied".
const APPLIED: u64 = 1 << (63 - 12);
const ID_SHIFT: u32 = 32;

/// The bits of a header that group policy uses, whether they have a meaning in it or not (`VXLAN_GBP_USED_BITS`).
pub const USED_BITS: u64 = POLICY | 0x00ff_ffff << ID_SHIFT;

/// What a header says of its sender's group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupPolicy {
    /// The group.
    pub id: u16,
    /// D: its address is not to be learned.
    pub dont_learn: bool,
    /// A: its policy was applied already.
    pub applied: bool,
}

impl GroupPolicy {
    /// A group whose policy is still to be applied.
    pub const fn new(id: u16) -> Self {
        Self { id, dont_learn: false, applied: false }
    }
}

impl Header {
    /// The header to send for `vni` and a sender of this group.
    pub const fn with_policy(vni: Vni, policy: GroupPolicy) -> Self {
        let d = if policy.dont_learn { DONT_LEARN } else { 0 };
        let a = if policy.applied { APPLIED } else { 0 };
        Self::new(vni).with_bits(POLICY | d | a | (policy.id as u64) << ID_SHIFT)
    }

    /// The sender's group, if the header says one.
    #[inline]
    pub const fn policy(self) -> Option<GroupPolicy> {
        let bits = self.bits();
        if bits & POLICY == 0 {
            return None;
        }
        Some(GroupPolicy {
            id: (bits >> ID_SHIFT) as u16,
            dont_learn: bits & DONT_LEARN != 0,
            applied: bits & APPLIED != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(bytes: [u8; 8]) -> Header {
        Header::parse(&bytes).unwrap().0
    }

    #[test]
    fn the_bits_are_where_the_draft_draws_them() {
        let vni = Vni::new(7).unwrap();
        let policy = GroupPolicy { id: 0x1234, dont_learn: false, applied: false };
        assert_eq!(Header::with_policy(vni, policy).to_bytes(), [0x88, 0, 0x12, 0x34, 0, 0, 7, 0]);
        let policy = GroupPolicy { applied: true, ..policy };
        assert_eq!(Header::with_policy(vni, policy).to_bytes(), [0x88, 0x08, 0x12, 0x34, 0, 0, 7, 0]);
        let policy = GroupPolicy { dont_learn: true, ..policy };
        assert_eq!(Header::with_policy(vni, policy).to_bytes(), [0x88, 0x48, 0x12, 0x34, 0, 0, 7, 0]);
    }

    #[test]
    fn without_the_flag_the_number_means_nothing() {
        assert_eq!(header([0x08, 0x48, 0x12, 0x34, 0, 0, 7, 0]).policy(), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(vni in 0..=Vni::MAX.get(), id: u16, dont_learn: bool, applied: bool) {
            let (vni, policy) = (Vni::new(vni).unwrap(), GroupPolicy { id, dont_learn, applied });
            let header = header(Header::with_policy(vni, policy).to_bytes());
            prop_assert_eq!((header.vni(), header.policy()), (vni, Some(policy)));
            prop_assert!(!header.has_any_of(crate::ReservedBits::Drop.mask() & !USED_BITS));
        }
    }
}
