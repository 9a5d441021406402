//! Explicit congestion notification across the tunnel (RFC 6040).
//!
//! A router on the underlay marks the outer header; the mark must reach the inner packet, or congestion of the underlay
//! stays unseen by those who could slow down. So the outer field is set from the inner one when a frame enters the tunnel,
//! and merged into it when it leaves. Only an inner packet whose ends don't speak ECN can't carry the mark: it is dropped,
//! which is the signal that those ends understand.
//!
//! Frames that aren't IP have no such field: they enter as [`Ecn::NotEct`] and leave as they are, whatever the outer says.

use thiserror::Error;

/// How the outer ECN field follows the inner one on encapsulation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EcnMode {
    /// As the kernel: inner CE becomes outer ECT(0) (`include/net/inet_ecn.h`, `INET_ECN_encapsulate`).
    Kernel,
    /// RFC 6040 normal mode: the inner field is copied, CE too.
    Rfc6040,
}

/// The ECN field: the low two bits of an IPv4 TOS or IPv6 traffic class byte (RFC 3168 section 5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Ecn {
    /// `00`: the ends don't speak ECN.
    NotEct = 0b00,
    /// `01`, ECT(1): they do.
    Ect1 = 0b01,
    /// `10`, ECT(0): they do, and this is the usual mark.
    Ect0 = 0b10,
    /// `11`, CE: a router was congested.
    Ce = 0b11,
}

/// The outer header says CE and the inner packet can't: RFC 6040 section 4.2 has it dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the outer header says congestion experienced, and the inner packet is not ECN-capable")]
pub struct NotCapable;

impl Ecn {
    /// The field's bits of a TOS or traffic class byte.
    pub const MASK: u8 = 0b11;

    /// The ECN field of a TOS or traffic class byte.
    #[inline]
    pub const fn of_tos(tos: u8) -> Self {
        match tos & Self::MASK {
            0b00 => Self::NotEct,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// `tos` with this ECN field; its upper six bits, the DSCP, stay.
    #[inline]
    pub const fn in_tos(self, tos: u8) -> u8 {
        tos & !Self::MASK | self as u8
    }
}

/// The outer header's field for an inner one; `inner` is `None` for a frame that isn't IP.
#[inline]
pub const fn encapsulate(inner: Option<Ecn>, mode: EcnMode) -> Ecn {
    match (inner, mode) {
        (None, _) => Ecn::NotEct,
        (Some(Ecn::Ce), EcnMode::Kernel) => Ecn::Ect0,
        (Some(inner), _) => inner,
    }
}

/// The inner packet's field after the tunnel. Kernel (`INET_ECN_decapsulate`, since 5.11) and RFC 6040 figure 4 agree on
/// all sixteen pairs.
///
/// # Errors
/// [`NotCapable`] for an inner Not-ECT under an outer CE.
#[inline]
pub const fn decapsulate(inner: Ecn, outer: Ecn) -> Result<Ecn, NotCapable> {
    match (inner, outer) {
        (Ecn::NotEct, Ecn::Ce) => Err(NotCapable),
        (Ecn::NotEct, Ecn::NotEct | Ecn::Ect1 | Ecn::Ect0) => Ok(Ecn::NotEct),
        (Ecn::Ect1 | Ecn::Ect0 | Ecn::Ce, Ecn::Ce) => Ok(Ecn::Ce),
        // the stronger of two "capable" marks is ECT(1)
        (Ecn::Ect0, Ecn::Ect1) => Ok(Ecn::Ect1),
        (Ecn::Ect1 | Ecn::Ect0 | Ecn::Ce, Ecn::NotEct | Ecn::Ect1 | Ecn::Ect0) => Ok(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce];

    #[test]
    fn the_field_is_the_low_two_bits_and_leaves_the_dscp_alone() {
        for tos in 0..=u8::MAX {
            assert_eq!(Ecn::of_tos(tos) as u8, tos & 3);
            for ecn in ALL {
                assert_eq!(ecn.in_tos(tos) & 0xfc, tos & 0xfc);
                assert_eq!(Ecn::of_tos(ecn.in_tos(tos)), ecn);
            }
        }
    }

    #[test]
    fn the_kernel_announces_inner_ce_as_ect0_outside() {
        let outer = ALL.map(|inner| encapsulate(Some(inner), EcnMode::Kernel) as u8);
        assert_eq!(outer, [0, 1, 2, 2]);
    }

    #[test]
    fn rfc_6040_normal_mode_copies_every_field() {
        assert_eq!(ALL.map(|inner| encapsulate(Some(inner), EcnMode::Rfc6040)), ALL);
    }

    #[test]
    fn frames_without_ip_are_not_ecn_capable_outside() {
        for mode in [EcnMode::Kernel, EcnMode::Rfc6040] {
            assert_eq!(encapsulate(None, mode), Ecn::NotEct);
        }
    }

    /// The table is what kernel 6.18's vxlan device delivered for crafted packets with each pair of fields.
    #[test]
    fn decapsulation_merges_the_sixteen_pairs_as_the_kernel_does() {
        let rows: [[Option<u8>; 4]; 4] = [
            // outer 0, 1, 2, 3
            [Some(0), Some(0), Some(0), None],    // inner Not-ECT
            [Some(1), Some(1), Some(1), Some(3)], // inner ECT(1)
            [Some(2), Some(1), Some(2), Some(3)], // inner ECT(0)
            [Some(3), Some(3), Some(3), Some(3)], // inner CE
        ];
        for (inner, row) in ALL.into_iter().zip(rows) {
            for (outer, expected) in ALL.into_iter().zip(row) {
                let merged = decapsulate(inner, outer).ok().map(|ecn| ecn as u8);
                assert_eq!(merged, expected, "inner {inner:?}, outer {outer:?}");
            }
        }
    }
}
