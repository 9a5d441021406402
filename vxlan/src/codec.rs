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
/// In the order of the checks: too short, I flag clear, and with [`ReservedBits::Drop`] reserved bits set.
pub fn decap(datagram: &[u8], policy: ReservedBits) -> Result<(Vni, &[u8]), DecapError> {
    let (header, inner) = Header::parse(datagram)?;
    match policy {
        ReservedBits::Drop if header.has_reserved_bits() => Err(DecapError::ReservedBits(header)),
        ReservedBits::Drop | ReservedBits::Ignore => Ok((header.vni(), inner)),
    }
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
