//! Header and inner frame together: [`encap`] and [`decap`] undo each other.
//!
//! A worker that writes straight into a send queue, or looks the VNI up between two checks, uses [`Header`] itself; these
//! are for everyone who has a whole datagram in hand.

use thiserror::Error;

use crate::{
    Vni,
    header::{HEADER_LEN, Header, HeaderError, ReservedBits},
};

/// Writes a datagram's payload, VXLAN header and `inner` frame, to the beginning of `out` and returns its length.
/// What lies behind it in `out` stays as it was.
///
/// # Errors
/// [`NoRoom`] if `out` is shorter than that; then nothing was written.
pub fn encap(vni: Vni, inner: &[u8], out: &mut [u8]) -> Result<usize, NoRoom> {
    let needed = HEADER_LEN + inner.len();
    let len = out.len();
    let Some((header, rest)) = out.split_first_chunk_mut() else {
        return Err(NoRoom { needed, len });
    };
    let Some(body) = rest.get_mut(..inner.len()) else {
        return Err(NoRoom { needed, len });
    };
    *header = Header::new(vni).to_bytes();
    body.copy_from_slice(inner);
    Ok(needed)
}

/// The VNI and the inner frame of a datagram's payload. The inner frame can have any length, 0 too.
///
/// # Errors
/// In the order of the checks: too short, I flag clear, and reserved bits set that `policy` refuses.
pub fn decap(datagram: &[u8], policy: ReservedBits) -> Result<(Vni, &[u8]), DecapError> {
    let (header, inner) = Header::parse(datagram)?;
    if header.has_any_of(policy.mask()) {
        return Err(DecapError::ReservedBits(header));
    }
    Ok((header.vni(), inner))
}

/// The place for a datagram is too small.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{needed} bytes don't fit into {len}")]
pub struct NoRoom {
    /// Length of the whole datagram.
    pub needed: usize,
    /// Length of the place.
    pub len: usize,
}

/// Why a datagram isn't taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DecapError {
    /// It has no header that says a VNI.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Reserved bits are set and the policy refuses that.
    #[error("reserved bits of the VXLAN header are set: {:02x?}", .0.to_bytes())]
    ReservedBits(Header),
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const POLICIES: [ReservedBits; 2] = [ReservedBits::Drop, ReservedBits::Ignore];

    #[test]
    fn reserved_bits_are_the_policys_affair() {
        let datagram = [0x88, 0, 0, 0, 0, 0, 11, 0, 1, 2, 3];
        let (header, _) = Header::parse(&datagram).unwrap();
        assert_eq!(decap(&datagram, ReservedBits::Drop), Err(DecapError::ReservedBits(header)));
        assert_eq!(decap(&datagram, ReservedBits::Ignore), Ok((Vni::new(11).unwrap(), &[1, 2, 3][..])));
    }

    #[test]
    fn a_clear_flag_is_named_before_reserved_bits() {
        let datagram = [0xf7, 0xff, 0xff, 0xff, 0, 0, 11, 0xff];
        for policy in POLICIES {
            assert_eq!(decap(&datagram, policy), Err(DecapError::Header(HeaderError::NoVniFlag)));
        }
    }

    #[test]
    fn reserved_bits_are_shown_in_the_error() {
        let error = decap(&[0xff, 1, 0xd1, 0xf2, 0, 0, 11, 0], ReservedBits::Drop).expect_err("reserved bits");
        assert_eq!(error.to_string(), "reserved bits of the VXLAN header are set: [ff, 01, d1, f2, 00, 00, 0b, 00]");
    }

    proptest! {
        #[test]
        fn decap_undoes_encap(vni in 0..=Vni::MAX.get(), inner in vec(any::<u8>(), 0..2000), spare in 0..32_usize) {
            let vni = Vni::new(vni).unwrap();
            let mut out = vec![0xee; HEADER_LEN + inner.len() + spare];
            let len = encap(vni, &inner, &mut out).unwrap();
            prop_assert_eq!(len, HEADER_LEN + inner.len());
            prop_assert!(out[len..].iter().all(|&byte| byte == 0xee));
            for policy in POLICIES {
                prop_assert_eq!(decap(&out[..len], policy), Ok((vni, &inner[..])));
            }
        }

        #[test]
        fn encap_undoes_a_strict_decap(
            vni: [u8; 3],
            inner in vec(any::<u8>(), 0..100),
        ) {
            let datagram = [&[0x08, 0, 0, 0, vni[0], vni[1], vni[2], 0], &inner[..]].concat();
            let (vni, inner) = decap(&datagram, ReservedBits::Drop).unwrap();
            let mut out = vec![0; datagram.len()];
            prop_assert_eq!(encap(vni, inner, &mut out), Ok(datagram.len()));
            prop_assert_eq!(out, datagram);
        }

        #[test]
        fn encap_into_too_little_room_writes_nothing(inner in vec(any::<u8>(), 0..100), missing in 1..108_usize) {
            let needed = HEADER_LEN + inner.len();
            let mut out = vec![0xee; needed.saturating_sub(missing)];
            let len = out.len();
            prop_assert_eq!(encap(Vni::MAX, &inner, &mut out), Err(NoRoom { needed, len }));
            prop_assert!(out.iter().all(|&byte| byte == 0xee));
        }

        #[test]
        fn arbitrary_bytes_are_taken_or_refused_by_what_the_rfc_says(bytes in vec(any::<u8>(), 0..64)) {
            let strict = decap(&bytes, ReservedBits::Drop);
            let lenient = decap(&bytes, ReservedBits::Ignore);
            if bytes.len() < HEADER_LEN {
                prop_assert_eq!(lenient, Err(HeaderError::Truncated { len: bytes.len() }.into()));
            } else if bytes[0] & 0x08 == 0 {
                prop_assert_eq!(lenient, Err(HeaderError::NoVniFlag.into()));
            } else {
                let (vni, inner) = lenient.unwrap();
                prop_assert_eq!(vni.get().to_be_bytes(), [0, bytes[4], bytes[5], bytes[6]]);
                prop_assert_eq!(inner, &bytes[8..]);
            }
            let clean = bytes.len() >= HEADER_LEN && bytes[..4] == [0x08, 0, 0, 0] && bytes[7] == 0;
            prop_assert_eq!(strict.is_ok(), clean);
        }
    }
}
