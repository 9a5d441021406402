//! VXLAN-GPE: a VXLAN header that says what is inside (draft-ietf-nvo3-vxlan-gpe; `include/net/vxlan.h`:
//! `struct vxlanhdr_gpe`).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |R|R|Ver|I|P|R|O|       Reserved                |Next Protocol  |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                VXLAN Network Identifier (VNI) |   Reserved    |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! A receiver checks in the kernel's order (`vxlan_core.c`: `vxlan_rcv`): length, I flag, VNI lookup, the bits that GPE too
//! leaves reserved, and then what [`Header::ethernet_inside`] asks (`vxlan_parse_gpe_proto`). The kernel's own device carries
//! IP and no Ethernet; Open vSwitch's does both.

use thiserror::Error;

use crate::{Vni, header::Header};

/// The UDP destination port that IANA assigned to VXLAN-GPE.
pub const DEFAULT_PORT: u16 = 4790;

/// The value of the field Next Protocol that means Ethernet.
pub const ETHERNET: u8 = 3;

const VERSION_SHIFT: u32 = 60;
const VERSION: u64 = 0b11 << VERSION_SHIFT;
/// P: Next Protocol means something.
const PROTOCOL_PRESENT: u64 = 1 << (63 - 5);
/// O: OAM, a message of the tunnel's ends to each other.
const CONTROL: u64 = 1 << (63 - 7);
const PROTOCOL_SHIFT: u32 = 32;
const PROTOCOL: u64 = 0xff << PROTOCOL_SHIFT;

/// The bits of a header that GPE uses and VXLAN leaves reserved (`VXLAN_GPE_USED_BITS`).
pub const USED_BITS: u64 = VERSION | PROTOCOL_PRESENT | CONTROL | PROTOCOL;

const _: () = assert!(USED_BITS == 0x3500_00ff_0000_0000);

/// Why there is no Ethernet frame behind a header, in the order of the checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NotEthernet {
    /// "If the P bit is not set" the header is plain VXLAN's, which has no business at this port.
    #[error("the P flag of the VXLAN-GPE header is clear")]
    NoProtocol,
    /// "If a receiver does not support the version indicated it MUST drop the packet."
    #[error("version {0} of VXLAN-GPE is not known, only 0")]
    Version(u8),
    /// "When the O bit is set to 1, the packet is an OAM packet and OAM processing MUST occur", which weft has none of.
    #[error("the O flag of the VXLAN-GPE header says that this is a message for the tunnel's end")]
    Control,
    /// IPv4 (1), IPv6 (2), NSH (4), or something newer.
    #[error("the VXLAN-GPE header says that protocol {0} is inside, not Ethernet (3)")]
    Protocol(u8),
}

impl Header {
    /// The header to send for `vni` with an Ethernet frame inside.
    #[inline]
    pub const fn with_ethernet(vni: Vni) -> Self {
        Self::new(vni).with_bits(PROTOCOL_PRESENT | (ETHERNET as u64) << PROTOCOL_SHIFT)
    }

    /// Whether a header that came to the port of VXLAN-GPE has an Ethernet frame behind it. Bits that GPE reserves are no
    /// matter here.
    ///
    /// # Errors
    /// What is there instead, or why nobody can tell.
    #[inline]
    pub const fn ethernet_inside(self) -> Result<(), NotEthernet> {
        const WANTED: u64 = PROTOCOL_PRESENT | (ETHERNET as u64) << PROTOCOL_SHIFT;
        if self.bits() & USED_BITS == WANTED { Ok(()) } else { Err(self.what_is_inside()) }
    }

    #[cold]
    const fn what_is_inside(self) -> NotEthernet {
        let bits = self.bits();
        if bits & PROTOCOL_PRESENT == 0 {
            NotEthernet::NoProtocol
        } else if bits & VERSION != 0 {
            NotEthernet::Version((bits >> VERSION_SHIFT) as u8 & 0b11)
        } else if bits & CONTROL != 0 {
            NotEthernet::Control
        } else {
            NotEthernet::Protocol((bits >> PROTOCOL_SHIFT) as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ReservedBits;

    fn header(bytes: [u8; 8]) -> Header {
        Header::parse(&bytes).unwrap().0
    }

    #[test]
    fn the_bits_are_where_the_draft_draws_them() {
        let vni = Vni::new(0x0a_0b0c).unwrap();
        assert_eq!(Header::with_ethernet(vni).to_bytes(), [0x0c, 0, 0, 3, 0x0a, 0x0b, 0x0c, 0]);
    }

    #[test]
    fn what_is_no_ethernet_is_refused_in_the_kernels_order() {
        let refused = |bytes| header(bytes).ethernet_inside().expect_err("no Ethernet inside");
        assert_eq!(refused([0x08, 0, 0, 3, 0, 0, 7, 0]), NotEthernet::NoProtocol);
        assert_eq!(refused([0x39, 0, 0, 1, 0, 0, 7, 0]), NotEthernet::NoProtocol);
        assert_eq!(refused([0x1d, 0, 0, 1, 0, 0, 7, 0]), NotEthernet::Version(1));
        assert_eq!(refused([0x3c, 0, 0, 3, 0, 0, 7, 0]), NotEthernet::Version(3));
        assert_eq!(refused([0x0d, 0, 0, 1, 0, 0, 7, 0]), NotEthernet::Control);
        for protocol in [0, 1, 2, 4, 0xff] {
            assert_eq!(refused([0x0c, 0, 0, protocol, 0, 0, 7, 0]), NotEthernet::Protocol(protocol));
        }
    }

    #[test]
    fn group_policy_and_gpe_share_no_bit_but_the_protocols() {
        assert_eq!(USED_BITS & crate::policy::USED_BITS, PROTOCOL);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(vni in 0..=Vni::MAX.get()) {
            let vni = Vni::new(vni).unwrap();
            let header = header(Header::with_ethernet(vni).to_bytes());
            prop_assert_eq!(header.vni(), vni);
            prop_assert_eq!(header.ethernet_inside(), Ok(()));
            prop_assert!(!header.has_any_of(ReservedBits::Drop.mask() & !USED_BITS));
        }

        #[test]
        fn ethernet_inside_is_what_the_kernels_four_questions_find(bits: u64) {
            let bytes = (bits | 1 << (63 - 4)).to_be_bytes();
            let [flags, _, _, protocol, ..] = bytes;
            let (next_protocol, version, oam) = (flags & 0x04 != 0, flags >> 4 & 3, flags & 0x01 != 0);
            let expected = next_protocol && version == 0 && !oam && protocol == 3;
            prop_assert_eq!(header(bytes).ethernet_inside().is_ok(), expected);
        }
    }
}
