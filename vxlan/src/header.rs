//! The VXLAN header: 8 bytes of which one flag and 24 bits mean something (drawn in the crate's documentation).
//!
//! A receiver checks in the kernel's order: length, I flag, VNI lookup, reserved bits
//! (`drivers/net/vxlan/vxlan_core.c:vxlan_rcv`). The lookup is the caller's, so the checks come in two steps:
//! [`Header::parse`] does what is before it, [`Header::has_reserved_bits`] answers what is after it. The order matters to
//! whoever reads counters: a datagram for an unknown VNI is that, whatever its reserved bits say.

use thiserror::Error;

use crate::Vni;

/// Length of the VXLAN header in bytes.
pub const HEADER_LEN: usize = 8;

/// The UDP destination port that IANA assigned to VXLAN (RFC 7348 section 5). Linux once began with 8472, and Flannel
/// still uses that.
pub const DEFAULT_PORT: u16 = 4789;

/// The I flag, bit 4 of the header counted from its first: "MUST be set to 1 for a valid VXLAN Network ID (VNI)".
const VNI_FLAG: u64 = 1 << (63 - 4);
/// The VNI's place: bits 32 to 55.
const VNI_SHIFT: u32 = 8;
const VNI_MASK: u64 = (Vni::MAX.get() as u64) << VNI_SHIFT;
/// Everything else, 39 bits: "MUST be set to zero on transmission and ignored on receipt".
const RESERVED_MASK: u64 = !(VNI_FLAG | VNI_MASK);

const _: () = assert!(RESERVED_MASK.count_ones() == 39);
const _: () = assert!(HEADER_LEN == size_of::<u64>());

/// What a receiver does with a header whose reserved bits are set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReservedBits {
    /// Refuse the packet, as the kernel does.
    Drop,
    /// "MUST be ignored on receipt" (RFC 7348 section 5).
    Ignore,
    /// Refuse it for these of them: the kernel's `reserved_bits`, see [`ReservedBits::of_mask`].
    Mask(u64),
}

impl ReservedBits {
    /// Refuses for the bits of `mask`, whose highest is the header's first. `None` if one of them is not reserved: the I
    /// flag or a bit of the VNI (`vxlan_core.c:vxlan_nl2conf` refuses that as well).
    pub const fn of_mask(mask: u64) -> Option<Self> {
        match mask {
            0 => Some(Self::Ignore),
            RESERVED_MASK => Some(Self::Drop),
            _ if mask & !RESERVED_MASK != 0 => None,
            _ => Some(Self::Mask(mask)),
        }
    }

    /// The bits that a header is refused for.
    pub const fn mask(self) -> u64 {
        match self {
            Self::Drop => RESERVED_MASK,
            Self::Ignore => 0,
            Self::Mask(mask) => mask,
        }
    }
}

/// A VXLAN header with its I flag set, all 64 bits of it.
///
/// A received one keeps its reserved bits as they came; one from [`Header::new`] has none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Header(u64);

/// Why bytes don't begin with a VXLAN header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HeaderError {
    /// Fewer than [`HEADER_LEN`] bytes.
    #[error("{len} bytes are too few for a VXLAN header of 8")]
    Truncated {
        /// How many bytes there are.
        len: usize,
    },
    /// The I flag is clear, so the datagram names no VNI.
    #[error("the I flag of the VXLAN header is clear")]
    NoVniFlag,
}

impl Header {
    /// The header to send for `vni`: I flag set, reserved bits 0.
    #[inline]
    pub const fn new(vni: Vni) -> Self {
        Self(VNI_FLAG | (vni.get() as u64) << VNI_SHIFT)
    }

    /// Splits a UDP payload into header and inner frame. The inner frame can have any length, 0 too.
    ///
    /// # Errors
    /// [`HeaderError::Truncated`] before [`HeaderError::NoVniFlag`]. Reserved bits are no error here.
    #[inline]
    pub const fn parse(datagram: &[u8]) -> Result<(Self, &[u8]), HeaderError> {
        let Some((bytes, inner)) = datagram.split_first_chunk() else {
            return Err(HeaderError::Truncated { len: datagram.len() });
        };
        match Self::from_bytes(*bytes) {
            Ok(header) => Ok((header, inner)),
            Err(error) => Err(error),
        }
    }

    /// As [`Header::parse`], with an inner frame that can be changed in place (its ECN field, for example).
    ///
    /// # Errors
    /// As [`Header::parse`].
    #[inline]
    pub const fn parse_mut(datagram: &mut [u8]) -> Result<(Self, &mut [u8]), HeaderError> {
        let len = datagram.len();
        let Some((bytes, inner)) = datagram.split_first_chunk_mut() else {
            return Err(HeaderError::Truncated { len });
        };
        match Self::from_bytes(*bytes) {
            Ok(header) => Ok((header, inner)),
            Err(error) => Err(error),
        }
    }

    #[inline]
    const fn from_bytes(bytes: [u8; HEADER_LEN]) -> Result<Self, HeaderError> {
        let bits = u64::from_be_bytes(bytes);
        if bits & VNI_FLAG == 0 { Err(HeaderError::NoVniFlag) } else { Ok(Self(bits)) }
    }

    /// The network that the inner frame belongs to.
    #[inline]
    pub const fn vni(self) -> Vni {
        Vni::from_low_bits((self.0 >> VNI_SHIFT) as u32)
    }

    /// Whether any of the 39 bits is set that RFC 7348 reserves, those that extensions use (Group Policy, GPE) included.
    #[inline]
    pub const fn has_reserved_bits(self) -> bool {
        self.0 & RESERVED_MASK != 0
    }

    /// Whether any bit of `mask` is set, the highest being the header's first.
    #[inline]
    pub const fn has_any_of(self, mask: u64) -> bool {
        self.0 & mask != 0
    }

    /// The same header with more bits set.
    #[inline]
    pub(crate) const fn with_bits(self, bits: u64) -> Self {
        Self(self.0 | bits)
    }

    /// All bits, the highest being the header's first.
    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// The header as it is on the wire.
    #[inline]
    pub const fn to_bytes(self) -> [u8; HEADER_LEN] {
        self.0.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The header in which only the I flag is set.
    const FLAG_ONLY: u64 = 0x0800_0000_0000_0000;

    fn parse(bits: u64) -> Result<Header, HeaderError> {
        Header::parse(&bits.to_be_bytes()).map(|(header, _)| header)
    }

    #[test]
    fn each_of_the_64_bits_means_what_the_rfc_says() {
        for bit in 0..64 {
            let alone = 1_u64 << (63 - bit);
            match bit {
                4 => {
                    let header = parse(alone).unwrap();
                    assert_eq!(header.vni().get(), 0, "bit {bit}");
                    assert!(!header.has_reserved_bits(), "bit {bit}");
                }
                32..=55 => {
                    let header = parse(FLAG_ONLY | alone).unwrap();
                    assert_eq!(header.vni().get(), 1 << (55 - bit), "bit {bit}");
                    assert!(!header.has_reserved_bits(), "bit {bit}");
                }
                _ => {
                    let header = parse(FLAG_ONLY | alone).unwrap();
                    assert_eq!(header.vni().get(), 0, "bit {bit}");
                    assert!(header.has_reserved_bits(), "bit {bit}");
                }
            }
            if bit != 4 {
                assert_eq!(parse(alone), Err(HeaderError::NoVniFlag), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_mask_has_reserved_bits_only() {
        assert_eq!(ReservedBits::of_mask(0xf7ff_ffff_0000_00ff), Some(ReservedBits::Drop));
        assert_eq!(ReservedBits::of_mask(0), Some(ReservedBits::Ignore));
        assert_eq!(ReservedBits::of_mask(0x80), Some(ReservedBits::Mask(0x80)));
        for used in [FLAG_ONLY, 0x100, 0x8000_0000, u64::MAX] {
            assert_eq!(ReservedBits::of_mask(used), None, "{used:x}");
        }
    }

    #[test]
    fn every_bit_but_the_flag_says_no_vni() {
        assert_eq!(parse(!FLAG_ONLY), Err(HeaderError::NoVniFlag));
    }

    #[test]
    fn group_policy_and_gpe_bits_are_reserved() {
        // G of Group Policy, D and A beside it; P and O of GPE
        for bits in [0x8800_0000_0000_0000, 0x0840_0000_0000_0000, 0x0808_0000_0000_0000, 0x0c00_0000_0000_0000_u64] {
            assert!(parse(bits).unwrap().has_reserved_bits(), "{bits:016x}");
        }
    }

    #[test]
    fn too_few_bytes_are_truncated_even_without_the_flag() {
        for len in 0..HEADER_LEN {
            assert_eq!(Header::parse(&[0xff; HEADER_LEN][..len]), Err(HeaderError::Truncated { len }));
            assert_eq!(Header::parse(&[0; HEADER_LEN][..len]), Err(HeaderError::Truncated { len }));
        }
    }

    #[test]
    fn the_header_of_the_rfc_drawing_has_these_bytes() {
        assert_eq!(Header::new(Vni::new(0x54fa11).unwrap()).to_bytes(), [0x08, 0, 0, 0, 0x54, 0xfa, 0x11, 0]);
    }

    #[test]
    fn the_inner_frame_changes_in_place() {
        let mut datagram = [0x08, 0, 0, 0, 0, 0, 7, 0, 0xaa, 0xbb];
        let (header, inner) = Header::parse_mut(&mut datagram).unwrap();
        assert_eq!(header.vni().get(), 7);
        inner[1] = 0xcc;
        assert_eq!(datagram[8..], [0xaa, 0xcc]);
    }

    proptest! {
        #[test]
        fn a_new_header_is_read_back_without_reserved_bits(vni in 0..=Vni::MAX.get()) {
            let header = Header::new(Vni::new(vni).unwrap());
            prop_assert_eq!(parse(u64::from_be_bytes(header.to_bytes())), Ok(header));
            prop_assert_eq!(header.vni().get(), vni);
            prop_assert!(!header.has_reserved_bits());
        }

        #[test]
        fn a_received_header_keeps_all_its_bits(bits: u64) {
            let bits = bits | FLAG_ONLY;
            prop_assert_eq!(parse(bits).unwrap().to_bytes(), bits.to_be_bytes());
        }

        #[test]
        fn both_ways_to_parse_say_the_same(mut bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let shared = Header::parse(&bytes).map(|(header, inner)| (header, inner.to_vec()));
            let exclusive = Header::parse_mut(&mut bytes).map(|(header, inner)| (header, inner.to_vec()));
            prop_assert_eq!(shared, exclusive);
        }
    }
}
