//! The four ways to put an Ethernet frame into a UDP datagram that weft speaks.
//!
//! All begin with 8 bytes, and say the VNI in the same three of them; what the other five say differs. Only Geneve can have
//! more behind that: options.
//!
//! | | flags | beside them | inside | options |
//! |---|---|---|---|---|
//! | [VXLAN](crate::header), RFC 7348 | I | | Ethernet | none |
//! | [VXLAN-GBP](crate::policy) | I, G, D, A | the sender's group, 16 bits | Ethernet | none |
//! | [VXLAN-GPE](crate::gpe) | I, P, O | version; protocol, 8 bits | anything, here Ethernet | none |
//! | [Geneve](crate::geneve), RFC 8926 | O, C | version; protocol, 16 bits | anything, here Ethernet | 0 to 252 bytes |
//!
//! A receiver tells them apart by UDP port, but for VXLAN and VXLAN-GBP: they share one [`HeaderFormat`], and the VNI says
//! which it is.

use std::fmt;

use crate::{geneve, gpe, header, policy};

/// How frames are wrapped on their way through the underlay.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Encapsulation {
    /// VXLAN, RFC 7348.
    #[default]
    Vxlan,
    /// VXLAN with group policy, draft-smith-vxlan-group-policy.
    VxlanGbp,
    /// VXLAN-GPE, draft-ietf-nvo3-vxlan-gpe, with Ethernet inside.
    VxlanGpe,
    /// Geneve, RFC 8926, with Ethernet inside.
    Geneve,
}

/// Bytes that each encapsulation puts before the inner frame; Geneve's options follow them.
pub const BASE_HEADER_LEN: usize = 8;

const _: () = assert!(header::HEADER_LEN == BASE_HEADER_LEN);
const _: () = assert!(geneve::BASE_HEADER_LEN == BASE_HEADER_LEN);

/// The longest tunnel header: Geneve's with all options that its length field can say.
pub const MAX_HEADER_LEN: usize = BASE_HEADER_LEN + geneve::MAX_OPTIONS_LEN;

const _: () = assert!(MAX_HEADER_LEN == 260);

impl Encapsulation {
    /// All of them, the plainest first.
    pub const ALL: [Self; 4] = [Self::Vxlan, Self::VxlanGbp, Self::VxlanGpe, Self::Geneve];

    /// Each with the word that configuration and output have for it.
    pub const WORDS: &'static [(&'static str, Self)] = &[
        (Self::Vxlan.word(), Self::Vxlan),
        (Self::VxlanGbp.word(), Self::VxlanGbp),
        (Self::VxlanGpe.word(), Self::VxlanGpe),
        (Self::Geneve.word(), Self::Geneve),
    ];

    /// The word that configuration and output have for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::VxlanGbp => "vxlan-gbp",
            Self::VxlanGpe => "vxlan-gpe",
            Self::Geneve => "geneve",
        }
    }

    /// What the standards call it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Vxlan => "VXLAN",
            Self::VxlanGbp => "VXLAN-GBP",
            Self::VxlanGpe => "VXLAN-GPE",
            Self::Geneve => "Geneve",
        }
    }

    /// The header that it has.
    pub const fn format(self) -> HeaderFormat {
        match self {
            Self::Vxlan | Self::VxlanGbp => HeaderFormat::Vxlan,
            Self::VxlanGpe => HeaderFormat::VxlanGpe,
            Self::Geneve => HeaderFormat::Geneve,
        }
    }

    /// The UDP destination port that IANA assigned to it.
    pub const fn default_port(self) -> u16 {
        self.format().default_port()
    }

    /// Bits that mean something in its header and are reserved in VXLAN's, the highest being the header's first. Geneve's header
    /// isn't VXLAN's, and has none of them.
    pub const fn used_bits(self) -> u64 {
        match self {
            Self::Vxlan | Self::Geneve => 0,
            Self::VxlanGbp => policy::USED_BITS,
            Self::VxlanGpe => gpe::USED_BITS,
        }
    }

    /// Whether options may follow its header.
    pub const fn has_options(self) -> bool {
        match self {
            Self::Vxlan | Self::VxlanGbp | Self::VxlanGpe => false,
            Self::Geneve => true,
        }
    }

    /// Bytes before the inner frame if so many bytes of options are asked for. Who has no options sends none.
    pub const fn header_len(self, options_len: usize) -> usize {
        BASE_HEADER_LEN + if self.has_options() { options_len } else { 0 }
    }
}

impl fmt::Display for Encapsulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What the 8 bytes are, as far as the UDP port that they came to tells.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HeaderFormat {
    /// VXLAN's, in which VXLAN-GBP uses some of the reserved bits.
    Vxlan,
    /// VXLAN-GPE's.
    VxlanGpe,
    /// Geneve's.
    Geneve,
}

impl HeaderFormat {
    /// All of them, in the order of the variants.
    pub const ALL: [Self; 3] = [Self::Vxlan, Self::VxlanGpe, Self::Geneve];

    /// The UDP destination port that IANA assigned to it.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Vxlan => header::DEFAULT_PORT,
            Self::VxlanGpe => gpe::DEFAULT_PORT,
            Self::Geneve => geneve::DEFAULT_PORT,
        }
    }

    /// The encapsulation that has this header and uses none of what it reserves.
    pub const fn encapsulation(self) -> Encapsulation {
        match self {
            Self::Vxlan => Encapsulation::Vxlan,
            Self::VxlanGpe => Encapsulation::VxlanGpe,
            Self::Geneve => Encapsulation::Geneve,
        }
    }

    /// Its place in [`HeaderFormat::ALL`].
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// What the standards call it.
    pub const fn title(self) -> &'static str {
        self.encapsulation().title()
    }
}

impl fmt::Display for HeaderFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.title())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encapsulation_has_a_word_and_the_port_that_iana_assigned() {
        let ports = Encapsulation::ALL.map(|one| (one.to_string(), one.default_port()));
        let expected = [("vxlan", 4789), ("vxlan-gbp", 4789), ("vxlan-gpe", 4790), ("geneve", 6081)];
        assert_eq!(ports, expected.map(|(word, port)| (word.to_owned(), port)));
        assert_eq!(Encapsulation::WORDS.len(), Encapsulation::ALL.len());
        for (word, encapsulation) in Encapsulation::WORDS {
            assert_eq!(*word, encapsulation.word());
        }
    }

    #[test]
    fn vxlan_with_and_without_group_policy_have_one_format_and_everyone_else_one_of_their_own() {
        let formats = Encapsulation::ALL.map(Encapsulation::format);
        assert_eq!(formats, [HeaderFormat::Vxlan, HeaderFormat::Vxlan, HeaderFormat::VxlanGpe, HeaderFormat::Geneve]);
        for (index, format) in HeaderFormat::ALL.into_iter().enumerate() {
            assert_eq!(format.index(), index);
            assert_eq!(format.encapsulation().format(), format);
        }
    }

    #[test]
    fn only_geneve_has_options() {
        assert_eq!(Encapsulation::ALL.map(|one| one.header_len(12)), [8, 8, 8, 20]);
        assert_eq!(Encapsulation::ALL.map(|one| one.header_len(0)), [8; 4]);
    }
}
