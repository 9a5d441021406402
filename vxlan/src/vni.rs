//! VXLAN network identifiers.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// A VXLAN network identifier: 24 bits.
///
/// 0 is a valid VNI: RFC 7348 excludes none, and the kernel accepts it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Vni(u32);

impl Vni {
    /// The largest VNI, 2^24 - 1.
    pub const MAX: Self = Self((1 << 24) - 1);

    /// The identifier, if it fits 24 bits.
    pub const fn new(vni: u32) -> Option<Self> {
        if vni <= Self::MAX.0 { Some(Self(vni)) } else { None }
    }

    /// The identifier in the low 24 bits of a field; the bits above belong to something else.
    #[inline]
    pub(crate) const fn from_low_bits(field: u32) -> Self {
        Self(field & Self::MAX.0)
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

/// A text or number that isn't a VNI.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a VNI is a number in 0..=16777215")]
pub struct InvalidVni;

// the number in the text above
const _: () = assert!(Vni::MAX.0 == 16_777_215);

impl FromStr for Vni {
    type Err = InvalidVni;

    /// Reads decimal digits; no sign, no spaces, no hexadecimal.
    fn from_str(text: &str) -> Result<Self, InvalidVni> {
        // `u32::from_str` would take a leading plus.
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidVni);
        }
        text.parse().ok().and_then(Self::new).ok_or(InvalidVni)
    }
}

impl TryFrom<u32> for Vni {
    type Error = InvalidVni;

    fn try_from(vni: u32) -> Result<Self, InvalidVni> {
        Self::new(vni).ok_or(InvalidVni)
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> Self {
        vni.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_24_bits_are_vnis_and_larger_ones_are_not() {
        for good in [0, 1, 42, 0x54fa11, 16_777_215] {
            assert_eq!(Vni::new(good).map(Vni::get), Some(good));
            assert_eq!(Vni::try_from(good).map(u32::from), Ok(good));
        }
        for bad in [16_777_216, 1 << 31, u32::MAX] {
            assert_eq!(Vni::new(bad), None);
            assert_eq!(Vni::try_from(bad), Err(InvalidVni));
        }
    }

    #[test]
    fn text_that_is_no_vni_is_refused_with_the_range() {
        for bad in
            ["", " ", "-1", "+1", " 1", "1 ", "0x10", "1_000", "1.0", "16777216", "4294967296", "99999999999", "٣"]
        {
            let error = bad.parse::<Vni>().expect_err(bad);
            assert_eq!(error.to_string(), "a VNI is a number in 0..=16777215");
        }
    }

    #[test]
    fn every_vni_survives_the_way_through_text() {
        for vni in (0..=Vni::MAX.get()).step_by(997).chain([Vni::MAX.get()]) {
            let vni = Vni::new(vni).unwrap();
            assert_eq!(vni.to_string().parse(), Ok(vni));
        }
    }

    #[test]
    fn width_and_padding_of_the_format_are_respected() {
        assert_eq!(format!("{:>6}", Vni::new(42).unwrap()), "    42");
    }
}
