//! One cell of a sweep: a path between two stations with everything about it decided.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use weft_vxlan::{
    encapsulation::Encapsulation,
    geneve::MAX_OPTIONS_LEN,
    mtu::{ETHERNET_HEADER_LEN, Family, HeaderBudget},
};

use crate::control::config::Df;

/// Gives an enum with a table `WORDS` its words on the command line, in output and in files.
macro_rules! worded {
    ($type:ty, $what:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(Self::WORDS.iter().find(|(_, value)| value == self).map_or("?", |(word, _)| word))
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let words = || Self::WORDS.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
                let found = Self::WORDS.iter().find(|(word, _)| *word == text);
                found
                    .map(|(_, value)| *value)
                    .ok_or_else(|| format!("`{text}` is no {}, which are: {}", $what, words()))
            }
        }

        serde_by_words!($type);
    };
}

/// Gives a type that can be printed and read the same form in JSON.
macro_rules! serde_by_words {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(super) use serde_by_words;

/// Who carries the frames between the stations and the underlay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Engine {
    /// A weft on each host.
    Weft,
    /// A kernel bridge with a kernel vxlan device on each host.
    Kernel,
}

impl Engine {
    /// The word for each.
    pub const WORDS: &[(&str, Self)] = &[("weft", Self::Weft), ("kernel", Self::Kernel)];
}

/// The IP version of the underlay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Underlay {
    /// Outer IPv4.
    Ipv4,
    /// Outer IPv6.
    Ipv6,
}

impl Underlay {
    /// The word for each.
    pub const WORDS: &[(&str, Self)] = &[("ipv4", Self::Ipv4), ("ipv6", Self::Ipv6)];

    /// As the header arithmetic calls it.
    pub const fn family(self) -> Family {
        match self {
            Self::Ipv4 => Family::Ipv4,
            Self::Ipv6 => Family::Ipv6,
        }
    }
}

/// The outer "don't fragment" bit: `[vtep] df`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DfPolicy {
    /// Always.
    Set,
    /// Never.
    Unset,
    /// As the inner packet has it.
    Inherit,
}

impl DfPolicy {
    /// The word for each, the same as in the configuration.
    pub const WORDS: &[(&str, Self)] = &[("set", Self::Set), ("unset", Self::Unset), ("inherit", Self::Inherit)];

    /// As the kernel's devices are told.
    pub(super) const fn to_config(self) -> Df {
        match self {
            Self::Set => Df::Set,
            Self::Unset => Df::Unset,
            Self::Inherit => Df::Inherit,
        }
    }
}

/// Whether ports have offloads: super-frames and checksums that are left open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Offload {
    /// They do.
    On,
    /// Every frame crosses the port by itself, finished.
    Off,
}

impl Offload {
    /// The word for each.
    pub const WORDS: &[(&str, Self)] = &[("on", Self::On), ("off", Self::Off)];
}

/// What becomes of IPv4 without DF that is too long for the tunnel: `[vtep] oversize`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Oversize {
    /// The inner packet leaves in fragments.
    Fragment,
    /// The outer packet does, which is all that the kernel's devices know.
    Outer,
    /// It is dropped.
    Drop,
}

impl Oversize {
    /// The word for each, the same as in the configuration.
    pub const WORDS: &[(&str, Self)] = &[("fragment", Self::Fragment), ("outer", Self::Outer), ("drop", Self::Drop)];
}

worded!(Engine, "engine");
worded!(Underlay, "underlay");
worded!(DfPolicy, "DF policy");
worded!(Offload, "offload setting");
worded!(Oversize, "way with what is too long");

/// An encapsulation with so many bytes of options: `vxlan`, `geneve`, `geneve+16`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tunnel {
    /// The encapsulation.
    pub encapsulation: Encapsulation,
    /// Bytes of options, their own headers of 4 bytes included; only Geneve has any.
    pub options_len: u16,
}

impl Tunnel {
    /// Plain VXLAN.
    pub const VXLAN: Self = Self::new(Encapsulation::Vxlan);
    /// Every encapsulation, without options.
    pub const ALL: [Self; 4] = [
        Self::VXLAN,
        Self::new(Encapsulation::VxlanGbp),
        Self::new(Encapsulation::VxlanGpe),
        Self::new(Encapsulation::Geneve),
    ];

    /// An encapsulation without options.
    pub const fn new(encapsulation: Encapsulation) -> Self {
        Self { encapsulation, options_len: 0 }
    }

    /// The data of each option: with a header of 4 bytes each (RFC 8926 section 3.5) they take `options_len`.
    pub fn options(self) -> Vec<Vec<u8>> {
        const HEADER_LEN: u16 = 4;
        const LONGEST: u16 = HEADER_LEN + 31 * 4;
        let (mut options, mut left) = (Vec::new(), self.options_len);
        while left >= HEADER_LEN {
            let len = left.min(LONGEST);
            options.push([0xc0, 0xff, 0xee, 0].repeat(usize::from(len - HEADER_LEN) / 4));
            left -= len;
        }
        options
    }

    /// What its headers cost.
    pub const fn budget(self, underlay: Underlay) -> HeaderBudget {
        HeaderBudget::new(underlay.family()).with_encapsulation(self.encapsulation).with_options(self.options_len)
    }

    /// Bytes on the wire of an inner frame of `frame_len` bytes, both counted from the Ethernet header on and without the
    /// checksum behind.
    pub const fn wire_len(self, underlay: Underlay, frame_len: usize) -> usize {
        // The overhead holds the inner Ethernet header, which is part of the frame; the outer one is as long.
        frame_len + self.budget(underlay).overhead() as usize
    }

    /// What people call it.
    pub fn title(self) -> String {
        match self.options_len {
            0 => self.encapsulation.title().to_owned(),
            len => format!("{} with {len} bytes of options", self.encapsulation.title()),
        }
    }
}

// An outer and an inner Ethernet header are the same: `wire_len` takes one for the other.
const _: () = assert!(Tunnel::VXLAN.wire_len(Underlay::Ipv4, 60) == 14 + 20 + 8 + 8 + 60 && ETHERNET_HEADER_LEN == 14);

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.options_len {
            0 => f.pad(self.encapsulation.word()),
            len => f.pad(&format!("{}+{len}", self.encapsulation.word())),
        }
    }
}

impl FromStr for Tunnel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, options) = text.split_once('+').map_or((text, None), |(word, len)| (word, Some(len)));
        let Some((_, encapsulation)) = Encapsulation::WORDS.iter().find(|(known, _)| *known == word) else {
            let known: Vec<_> = Encapsulation::WORDS.iter().map(|(word, _)| *word).collect();
            return Err(format!("`{text}` is no encapsulation, which are: {}, geneve+BYTES", known.join(", ")));
        };
        let Some(options) = options else { return Ok(Self::new(*encapsulation)) };
        if !encapsulation.has_options() {
            return Err(format!("{} has no options: leave out `+{options}`", encapsulation.title()));
        }
        // An option has a header of 4 bytes and is a multiple of 4 bytes long (RFC 8926 section 3.5).
        let good = |len: &u16| *len >= 4 && len.is_multiple_of(4) && usize::from(*len) <= MAX_OPTIONS_LEN;
        match options.parse().ok().filter(good) {
            Some(options_len) => Ok(Self { encapsulation: *encapsulation, options_len }),
            None => Err(format!(
                "`{options}` is no length of options: multiples of 4 from 4 to {MAX_OPTIONS_LEN} are, 4 of them for each option's header"
            )),
        }
    }
}

serde_by_words!(Tunnel);

/// A path, all of it decided.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// Who carries the frames.
    pub engine: Engine,
    /// How they are wrapped.
    pub tunnel: Tunnel,
    /// The IP version outside.
    pub underlay: Underlay,
    /// MTU of the hosts' links, which both VTEPs see.
    pub underlay_mtu: u32,
    /// MTU of the link in the middle, which they don't.
    pub middle_mtu: u32,
    /// MTU of the stations' interfaces.
    pub inner_mtu: u16,
    /// Whether ports have offloads.
    pub offload: Offload,
    /// The outer DF bit.
    pub df: DfPolicy,
    /// What becomes of IPv4 without DF that is too long.
    pub oversize: Oversize,
}

impl Cell {
    /// What names the cell, in files and on the command line. Two cells differ if and only if their keys do.
    pub fn key(&self) -> String {
        let Self { engine, tunnel, underlay, underlay_mtu, middle_mtu, inner_mtu, offload, df, oversize } = self;
        format!(
            "{engine} {tunnel} {underlay} underlay={underlay_mtu} middle={middle_mtu} inner={inner_mtu} \
             offload={offload} df={df} oversize={oversize}"
        )
    }

    /// The outer packet's length when the inner packet is as long as the inner MTU allows.
    pub const fn outer_len(&self) -> u32 {
        self.inner_mtu as u32 + self.tunnel.budget(self.underlay).overhead() as u32
    }

    /// Whether the largest inner packet leaves the host in one piece.
    pub const fn fits_underlay(&self) -> bool {
        self.outer_len() <= self.underlay_mtu
    }

    /// Whether it arrives in one piece.
    pub const fn fits(&self) -> bool {
        self.fits_underlay() && self.outer_len() <= self.middle_mtu
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell() -> Cell {
        Cell {
            engine: Engine::Weft,
            tunnel: Tunnel::VXLAN,
            underlay: Underlay::Ipv4,
            underlay_mtu: 1500,
            middle_mtu: 1500,
            inner_mtu: 1450,
            offload: Offload::On,
            df: DfPolicy::Set,
            oversize: Oversize::Fragment,
        }
    }

    #[test]
    fn a_key_reads_as_what_it_names() {
        let key = "weft vxlan ipv4 underlay=1500 middle=1500 inner=1450 offload=on df=set oversize=fragment";
        assert_eq!(cell().key(), key);
    }

    #[test]
    fn what_fits_is_what_the_budget_says() {
        assert!(cell().fits() && cell().outer_len() == 1500);
        assert!(!Cell { inner_mtu: 1451, ..cell() }.fits_underlay());
        assert!(!Cell { underlay: Underlay::Ipv6, ..cell() }.fits_underlay());
        let middle = Cell { middle_mtu: 1400, ..cell() };
        assert!(middle.fits_underlay() && !middle.fits());
        let geneve = Cell { tunnel: "geneve+8".parse().unwrap(), inner_mtu: 1442, ..cell() };
        assert!(geneve.fits() && !Cell { inner_mtu: 1443, ..geneve }.fits());
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for word in ["vxlan", "vxlan-gbp", "vxlan-gpe", "geneve", "geneve+4", "geneve+252"] {
            assert_eq!(word.parse::<Tunnel>().unwrap().to_string(), word);
        }
        for (word, why) in [
            ("gre", "is no encapsulation, which are: vxlan, vxlan-gbp"),
            ("vxlan+8", "VXLAN has no options: leave out `+8`"),
            ("geneve+6", "multiples of 4"),
            ("geneve+256", "multiples of 4"),
            ("geneve+", "is no length of options"),
        ] {
            let error = word.parse::<Tunnel>().unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert_eq!("yes".parse::<Offload>().unwrap_err(), "`yes` is no offload setting, which are: on, off");
    }

    #[test]
    fn a_cell_is_the_same_after_json() {
        let json = serde_json::to_string(&cell()).unwrap();
        assert!(json.contains(r#""tunnel":"vxlan","underlay":"ipv4""#), "{json}");
        assert_eq!(serde_json::from_str::<Cell>(&json).unwrap(), cell());
    }
}
