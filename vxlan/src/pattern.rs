//! Whether a datagram is one of a known network, in one comparison.
//!
//! The questions that a receiver asks a header one after the other (flags, version, VNI, reserved bits, protocol) are all
//! questions about bits of the first 8 bytes, whatever the encapsulation; and most datagrams are of the network that the one
//! before was of. So whoever has asked them once keeps the answer as a mask and a value:
//!
//! ```text
//!           flags       GPE's protocol     VNI
//! bits       0c 00 00 03                   00 00 2a 00     a VXLAN-GPE header as received
//! & mask     ff ff ff ff                   ff ff ff ff     nothing may be set that isn't expected
//! = value    0c 00 00 03                   00 00 2a 00     it is of VNI 42, and Ethernet is inside
//! ```
//!
//! What does not match isn't wrong for that: it may be of another network. The questions tell.

use crate::{Encapsulation, Vni, encapsulation::BASE_HEADER_LEN, geneve, header::Header};

/// What a header looks like that one network takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderPattern {
    mask: u64,
    value: u64,
    /// The bits of a header's first byte that say how many words of options follow.
    options_mask: u8,
}

impl HeaderPattern {
    /// The headers of `vni` in this encapsulation with an Ethernet frame behind them that may be forwarded. VXLAN and its two
    /// extensions are refused for the bits of `refused_bits` that they don't use, the highest being the header's first.
    pub const fn new(encapsulation: Encapsulation, vni: Vni, refused_bits: u64) -> Self {
        let refused_bits = refused_bits & !encapsulation.used_bits();
        match encapsulation {
            Encapsulation::Vxlan | Encapsulation::VxlanGbp => {
                let value = Header::new(vni).bits();
                Self { mask: Header::new(Vni::MAX).bits() | refused_bits, value, options_mask: 0 }
            }
            Encapsulation::VxlanGpe => {
                let mask = Header::new(Vni::MAX).bits() | encapsulation.used_bits() | refused_bits;
                Self { mask, value: Header::with_ethernet(vni).bits(), options_mask: 0 }
            }
            Encapsulation::Geneve => {
                let value = u64::from_be_bytes(geneve::Header::new(vni).to_bytes());
                Self { mask: geneve::LOOKED_AT, value, options_mask: geneve::OPTIONS_LEN_BYTE }
            }
        }
    }

    /// Where in a datagram of this network the inner frame begins. `None`: it is of another one, or not to be taken.
    #[inline(always)]
    pub const fn frame_at(self, datagram: &[u8]) -> Option<usize> {
        let Some(bytes) = datagram.first_chunk::<BASE_HEADER_LEN>() else { return None };
        let at = BASE_HEADER_LEN + (bytes[0] & self.options_mask) as usize * geneve::WORD_LEN;
        let matches = u64::from_be_bytes(*bytes) & self.mask == self.value;
        if matches && at <= datagram.len() { Some(at) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{ReservedBits, decap};

    /// Where the inner frame of a datagram of `vni` is, by one question after the other.
    fn slowly(encapsulation: Encapsulation, vni: Vni, refused_bits: u64, datagram: &[u8]) -> Option<usize> {
        if encapsulation == Encapsulation::Geneve {
            let (of, _, inner) = geneve::decap(datagram).ok()?;
            return (of == vni).then_some(datagram.len() - inner.len());
        }
        let (header, inner) = Header::parse(datagram).ok()?;
        let refused = header.has_any_of(refused_bits & !encapsulation.used_bits());
        let is_ethernet = encapsulation != Encapsulation::VxlanGpe || header.ethernet_inside().is_ok();
        (header.vni() == vni && !refused && is_ethernet).then_some(datagram.len() - inner.len())
    }

    fn any_refused() -> impl Strategy<Value = u64> {
        let drop = ReservedBits::Drop.mask();
        prop_oneof![Just(drop), Just(0), any::<u64>().prop_map(move |bits| bits & drop)]
    }

    #[test]
    fn plain_headers_match_and_every_bit_that_counts_breaks_it() {
        let (vni, refused) = (Vni::new(42).unwrap(), ReservedBits::Drop.mask());
        let plain: [(Encapsulation, [u8; 8], u32); 4] = [
            (Encapsulation::Vxlan, [8, 0, 0, 0, 0, 0, 42, 0], 64),
            // all but G, D, A, the rest of their byte, and the group
            (Encapsulation::VxlanGbp, [0x88, 0, 0, 7, 0, 0, 42, 0], 64 - 25),
            (Encapsulation::VxlanGpe, [0x0c, 0, 0, 3, 0, 0, 42, 0], 64),
            // all but the length of the options and what is reserved
            (Encapsulation::Geneve, [0, 0, 0x65, 0x58, 0, 0, 42, 0], 64 - 6 - 6 - 8),
        ];
        for (encapsulation, bytes, counting) in plain {
            let pattern = HeaderPattern::new(encapsulation, vni, refused);
            let matches = |bits: u64| {
                let datagram = [&bits.to_be_bytes()[..], &[0; 300]].concat();
                pattern.frame_at(&datagram).is_some()
            };
            let bits = u64::from_be_bytes(bytes);
            assert!(matches(bits), "{encapsulation}");
            let broken = (0..64).filter(|bit| !matches(bits ^ 1 << bit)).count();
            assert_eq!(broken, counting as usize, "{encapsulation}");
        }
    }

    #[test]
    fn what_it_takes_is_what_decap_takes() {
        let datagram = [8, 0, 0, 0, 0, 0, 7, 0, 1, 2, 3];
        let pattern = HeaderPattern::new(Encapsulation::Vxlan, Vni::new(7).unwrap(), ReservedBits::Drop.mask());
        assert_eq!(pattern.frame_at(&datagram), Some(8));
        assert_eq!(decap(&datagram, ReservedBits::Drop).unwrap().1, &datagram[8..]);
    }

    proptest! {
        /// Any datagram, and those that are nearly right: few of the others would be taken.
        #[test]
        fn one_comparison_says_what_all_questions_say(
            encapsulation in prop::sample::select(&Encapsulation::ALL),
            vni in 0..=Vni::MAX.get(),
            refused_bits in any_refused(),
            mut datagram in vec(any::<u8>(), 0..300),
            is_near: bool,
            flips in vec(0..64_u32, 0..3),
            words in 0..8_u8,
        ) {
            let vni = Vni::new(vni).unwrap();
            if is_near && let Some(front) = datagram.first_chunk_mut::<8>() {
                let near = HeaderPattern::new(encapsulation, vni, refused_bits).value;
                let options = if encapsulation == Encapsulation::Geneve { u64::from(words) << 56 } else { 0 };
                let flipped = flips.iter().fold(near | options, |bits, bit| bits ^ 1 << bit);
                *front = flipped.to_be_bytes();
            }
            let quickly = HeaderPattern::new(encapsulation, vni, refused_bits).frame_at(&datagram);
            prop_assert_eq!(quickly, slowly(encapsulation, vni, refused_bits, &datagram));
        }
    }
}
