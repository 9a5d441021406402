//! Geneve (RFC 8926): a header of 8 bytes, and options behind it that receivers may pass over.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Ver|  Opt Len  |O|C|    Rsvd.  |          Protocol Type        |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |        Virtual Network Identifier (VNI)       |    Reserved   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ~                    Variable-Length Options                    ~
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          Option Class         |C|    Type     |R|R|R| Length  |   each option
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ~                  Variable-Length Option Data                  ~
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! Both lengths count words of 4 bytes; an option's counts its data only. Reserved bits "MUST be zero on transmission and MUST
//! be ignored on receipt" (section 3.4), which is what the kernel does too: there is no question about them as there is for
//! VXLAN.
//!
//! A receiver checks in the kernel's order (`drivers/net/geneve.c`: `geneve_udp_encap_recv`, `geneve_rx`): length, version,
//! VNI lookup, protocol, options within the datagram, critical options. So the checks come in two steps: [`Header::parse`]
//! does what is before the lookup, [`Header::frame_behind`] what is after it. The kernel does not look at the O flag when it
//! takes a frame out; "tunnel endpoints MUST NOT forward the payload" of such a datagram (section 3.4), and here it is refused.
//!
//! weft knows no option, so one critical option is one too many: "On tunnel endpoints where option parsing is not supported, the
//! packet MUST be dropped on the basis of the 'C' bit in the base header" (section 3.4). All others are passed over unread;
//! [`Options`] reads them for whoever wants to see them, and [`OptionList`] writes them.

use thiserror::Error;

use crate::{Vni, codec::NoRoom};

/// Length of the header without options in bytes.
pub const BASE_HEADER_LEN: usize = 8;

/// The UDP destination port that IANA assigned to Geneve (RFC 8926 section 3.3).
pub const DEFAULT_PORT: u16 = 6081;

/// The protocol type that means an Ethernet frame: "Trans Ether Bridging" (RFC 8926 section 3.4).
pub const ETHERNET: u16 = 0x6558;

/// The most bytes of options: the largest number that 6 bits say, in words of 4.
pub const MAX_OPTIONS_LEN: usize = 63 * WORD_LEN;

/// The most bytes of data in one option: the largest number that 5 bits say, in words of 4.
pub const MAX_OPTION_DATA_LEN: usize = 31 * WORD_LEN;

/// Bytes before an option's data.
pub const OPTION_HEADER_LEN: usize = 4;

/// What lengths count.
pub(crate) const WORD_LEN: usize = 4;

const VERSION_SHIFT: u32 = 62;
const VERSION: u64 = 0b11 << VERSION_SHIFT;
const OPTIONS_LEN_SHIFT: u32 = 56;
const OPTIONS_LEN: u64 = 0x3f << OPTIONS_LEN_SHIFT;
/// O: a message of the tunnel's ends to each other.
const CONTROL: u64 = 1 << (63 - 8);
/// C: one of the options is critical.
const CRITICAL: u64 = 1 << (63 - 9);
const PROTOCOL_SHIFT: u32 = 32;
const PROTOCOL: u64 = 0xffff << PROTOCOL_SHIFT;
const VNI_SHIFT: u32 = 8;
const VNI: u64 = (Vni::MAX.get() as u64) << VNI_SHIFT;

/// The bits that say whether there is a frame to forward, and whose.
pub(crate) const LOOKED_AT: u64 = VERSION | CONTROL | CRITICAL | PROTOCOL | VNI;

/// The bits of a header's first byte that say how many words of options follow.
pub(crate) const OPTIONS_LEN_BYTE: u8 = (OPTIONS_LEN >> OPTIONS_LEN_SHIFT) as u8;

/// The bit of an option's type that says that a receiver must know it.
const CRITICAL_OPTION: u8 = 0x80;

/// A Geneve header of version 0 without the options, all 64 bits of it.
///
/// A received one keeps its reserved bits as they came; one from [`Header::new`] has none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Header(u64);

/// Why bytes don't begin with a Geneve header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HeaderError {
    /// Fewer than [`BASE_HEADER_LEN`] bytes.
    #[error("{len} bytes are too few for a Geneve header of 8")]
    Truncated {
        /// How many bytes there are.
        len: usize,
    },
    /// "Packets received by a tunnel endpoint with an unknown version MUST be dropped" (RFC 8926 section 3.4).
    #[error("version {0} of Geneve is not known, only 0")]
    Version(u8),
}

/// Why there is no Ethernet frame behind a header that is to be forwarded, in the order of the checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NoFrame {
    /// Something else is inside.
    #[error("the Geneve header says that protocol {0:#06x} is inside, not Ethernet (0x6558)")]
    Protocol(u16),
    /// The datagram ends within the options.
    #[error("{options_len} bytes of Geneve options don't fit into the {len} that follow the header")]
    OptionsTruncated {
        /// What the header says.
        options_len: usize,
        /// Bytes behind the header.
        len: usize,
    },
    /// The O flag is set.
    #[error("the O flag of the Geneve header says that this is a message for the tunnel's end")]
    Control,
    /// The C flag is set, and no option is known.
    #[error("the C flag of the Geneve header says that an option must be understood, and none is")]
    CriticalOption,
}

impl Header {
    /// The header to send for `vni` with an Ethernet frame inside and no options before it.
    #[inline]
    pub const fn new(vni: Vni) -> Self {
        Self((ETHERNET as u64) << PROTOCOL_SHIFT | (vni.get() as u64) << VNI_SHIFT)
    }

    /// The same with these options behind it.
    #[inline]
    pub const fn with_options(self, options: &OptionList) -> Self {
        let critical = if options.has_critical() { CRITICAL } else { 0 };
        let words = (options.len() / WORD_LEN) as u64;
        Self(self.0 & !(OPTIONS_LEN | CRITICAL) | critical | words << OPTIONS_LEN_SHIFT)
    }

    /// Splits a UDP payload into the header and what is behind it: options, then the inner frame.
    ///
    /// # Errors
    /// [`HeaderError::Truncated`] before [`HeaderError::Version`]. What follows the header is not looked at.
    #[inline]
    pub const fn parse(datagram: &[u8]) -> Result<(Self, &[u8]), HeaderError> {
        let Some((bytes, rest)) = datagram.split_first_chunk() else {
            return Err(HeaderError::Truncated { len: datagram.len() });
        };
        match Self::from_bytes(*bytes) {
            Ok(header) => Ok((header, rest)),
            Err(error) => Err(error),
        }
    }

    /// As [`Header::parse`], with an inner frame that can be changed in place.
    ///
    /// # Errors
    /// As [`Header::parse`].
    #[inline]
    pub const fn parse_mut(datagram: &mut [u8]) -> Result<(Self, &mut [u8]), HeaderError> {
        let len = datagram.len();
        let Some((bytes, rest)) = datagram.split_first_chunk_mut() else {
            return Err(HeaderError::Truncated { len });
        };
        match Self::from_bytes(*bytes) {
            Ok(header) => Ok((header, rest)),
            Err(error) => Err(error),
        }
    }

    #[inline]
    const fn from_bytes(bytes: [u8; BASE_HEADER_LEN]) -> Result<Self, HeaderError> {
        let bits = u64::from_be_bytes(bytes);
        match bits & VERSION {
            0 => Ok(Self(bits)),
            version => Err(HeaderError::Version((version >> VERSION_SHIFT) as u8)),
        }
    }

    /// Where in what follows this header the inner frame begins; `len` bytes follow it.
    ///
    /// # Errors
    /// There is none that may be forwarded.
    #[inline]
    pub const fn frame_behind(self, len: usize) -> Result<usize, NoFrame> {
        let options_len = self.options_len();
        let plain = self.0 & (PROTOCOL | CONTROL | CRITICAL) == (ETHERNET as u64) << PROTOCOL_SHIFT;
        if plain && options_len <= len { Ok(options_len) } else { Err(self.why_no_frame(len)) }
    }

    #[cold]
    const fn why_no_frame(self, len: usize) -> NoFrame {
        let (protocol, options_len) = (self.protocol(), self.options_len());
        if protocol != ETHERNET {
            NoFrame::Protocol(protocol)
        } else if options_len > len {
            NoFrame::OptionsTruncated { options_len, len }
        } else if self.0 & CONTROL != 0 {
            NoFrame::Control
        } else {
            NoFrame::CriticalOption
        }
    }

    /// The network that the inner frame belongs to.
    #[inline]
    pub const fn vni(self) -> Vni {
        Vni::from_low_bits((self.0 >> VNI_SHIFT) as u32)
    }

    /// What is inside, an EtherType.
    #[inline]
    pub const fn protocol(self) -> u16 {
        (self.0 >> PROTOCOL_SHIFT) as u16
    }

    /// Bytes of options that follow this header, at most [`MAX_OPTIONS_LEN`].
    #[inline]
    pub const fn options_len(self) -> usize {
        ((self.0 & OPTIONS_LEN) >> OPTIONS_LEN_SHIFT) as usize * WORD_LEN
    }

    /// O: whether it is a message of the tunnel's ends to each other, which nobody may forward.
    pub const fn is_control(self) -> bool {
        self.0 & CONTROL != 0
    }

    /// C: whether one of the options must be understood.
    pub const fn has_critical_options(self) -> bool {
        self.0 & CRITICAL != 0
    }

    /// The header as it is on the wire.
    #[inline]
    pub const fn to_bytes(self) -> [u8; BASE_HEADER_LEN] {
        self.0.to_be_bytes()
    }
}

/// Writes a datagram's payload, header, options and `inner` frame, to the beginning of `out` and returns its length.
/// What lies behind it in `out` stays as it was.
///
/// # Errors
/// [`NoRoom`] if `out` is shorter than that; then nothing was written.
pub fn encap(vni: Vni, options: &OptionList, inner: &[u8], out: &mut [u8]) -> Result<usize, NoRoom> {
    let header_len = BASE_HEADER_LEN + options.len();
    let needed = header_len + inner.len();
    let len = out.len();
    let Some((front, body)) = out.get_mut(..needed).and_then(|out| out.split_at_mut_checked(header_len)) else {
        return Err(NoRoom { needed, len });
    };
    let (base, behind) = front.split_at_mut(BASE_HEADER_LEN);
    base.copy_from_slice(&Header::new(vni).with_options(options).to_bytes());
    behind.copy_from_slice(options.as_bytes());
    body.copy_from_slice(inner);
    Ok(needed)
}

/// The VNI, the options and the inner frame of a datagram's payload. The inner frame can have any length, 0 too.
///
/// # Errors
/// In the order of the checks.
pub fn decap(datagram: &[u8]) -> Result<(Vni, Options<'_>, &[u8]), DecapError> {
    let (header, rest) = Header::parse(datagram)?;
    let at = header.frame_behind(rest.len())?;
    let (options, inner) = rest.split_at(at);
    Ok((header.vni(), Options(options), inner))
}

/// Why a datagram isn't taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DecapError {
    /// It has no header that is known.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// There is no frame to forward behind it.
    #[error(transparent)]
    NoFrame(#[from] NoFrame),
}

/// One option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GeneveOption<'a> {
    /// Who has defined it; 0xff00 to 0xffff are for experiments (RFC 8926 section 7).
    pub class: u16,
    /// Which of the class's it is, its highest bit being the one that makes it critical.
    pub kind: u8,
    /// A multiple of 4 bytes, at most [`MAX_OPTION_DATA_LEN`].
    pub data: &'a [u8],
}

impl GeneveOption<'_> {
    /// Whether a receiver must drop the datagram if it doesn't know this option.
    pub const fn is_critical(&self) -> bool {
        self.kind & CRITICAL_OPTION != 0
    }
}

/// The options of a datagram, one after the other. Nobody looks at an option's R bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options<'a>(&'a [u8]);

impl<'a> Options<'a> {
    /// The options in these bytes, which lie between a header and its inner frame.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What has not been iterated over, as it is on the wire.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<GeneveOption<'a>, OptionTruncated>;

    /// The next option. Behind one that is longer than what is left there is none.
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let truncated = OptionTruncated { len: bytes.len() };
        let Some((&[class_high, class_low, kind, len], rest)) = bytes.split_first_chunk() else {
            return Some(Err(truncated));
        };
        let data_len = usize::from(len & 0x1f) * WORD_LEN;
        let Some((data, rest)) = rest.split_at_checked(data_len) else {
            return Some(Err(truncated));
        };
        self.0 = rest;
        Some(Ok(GeneveOption { class: u16::from_be_bytes([class_high, class_low]), kind, data }))
    }
}

/// The options end within an option.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a Geneve option is longer than the {len} bytes that are left of the options")]
pub struct OptionTruncated {
    /// Bytes from its beginning to the options' end.
    pub len: usize,
}

/// Options to send, as they will be on the wire.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct OptionList {
    bytes: Vec<u8>,
    has_critical: bool,
}

/// Why an option can't be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum InvalidOption {
    /// Lengths count words.
    #[error("{len} bytes of option data are no multiple of 4")]
    PartOfAWord {
        /// Bytes of data.
        len: usize,
    },
    /// The option's length field can't say it.
    #[error("{len} bytes of data are more than the 124 that an option can have")]
    DataTooLong {
        /// Bytes of data.
        len: usize,
    },
    /// The header's length field can't say it.
    #[error("all options together would have {len} bytes, and 252 is the most")]
    TooMany {
        /// Bytes of all options with this one.
        len: usize,
    },
}

impl OptionList {
    /// No options.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), has_critical: false }
    }

    /// Puts an option behind the others.
    ///
    /// # Errors
    /// It has no place in a header, and the list is as it was.
    pub fn push(&mut self, option: GeneveOption<'_>) -> Result<(), InvalidOption> {
        let data_len = option.data.len();
        if !data_len.is_multiple_of(WORD_LEN) {
            return Err(InvalidOption::PartOfAWord { len: data_len });
        }
        if data_len > MAX_OPTION_DATA_LEN {
            return Err(InvalidOption::DataTooLong { len: data_len });
        }
        let len = self.bytes.len() + OPTION_HEADER_LEN + data_len;
        if len > MAX_OPTIONS_LEN {
            return Err(InvalidOption::TooMany { len });
        }
        self.bytes.extend(option.class.to_be_bytes());
        self.bytes.extend([option.kind, (data_len / WORD_LEN) as u8]);
        self.bytes.extend(option.data);
        self.has_critical |= option.is_critical();
        Ok(())
    }

    /// The options as they are on the wire.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of all of them, a multiple of 4 and at most [`MAX_OPTIONS_LEN`].
    #[inline]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether one of them is critical, which the header has to say.
    pub const fn has_critical(&self) -> bool {
        self.has_critical
    }

    /// The options, the first one first.
    pub fn iter(&self) -> impl Iterator<Item = GeneveOption<'_>> {
        // each was put there whole
        Options(&self.bytes).filter_map(Result::ok)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Version 0, no options, no flags, Ethernet, VNI 7.
    const PLAIN: [u8; 8] = [0, 0, 0x65, 0x58, 0, 0, 7, 0];

    const EXPERIMENT: GeneveOption<'static> = GeneveOption { class: 0xff01, kind: 1, data: &[0xc0, 0xff, 0xee, 0x00] };

    fn list(options: &[GeneveOption<'_>]) -> OptionList {
        let mut list = OptionList::new();
        for option in options {
            list.push(*option).unwrap();
        }
        list
    }

    fn refused(header: [u8; 8]) -> DecapError {
        decap(&header).expect_err("there is no frame to forward")
    }

    #[test]
    fn the_header_without_options_has_these_bytes() {
        let vni = Vni::new(0x54_fa11).unwrap();
        assert_eq!(Header::new(vni).to_bytes(), [0, 0, 0x65, 0x58, 0x54, 0xfa, 0x11, 0]);
    }

    #[test]
    fn an_option_is_counted_in_words_and_written_behind_the_header() {
        let vni = Vni::new(7).unwrap();
        let mut out = [0xee; 20];
        assert_eq!(encap(vni, &list(&[EXPERIMENT]), &[1, 2, 3], &mut out), Ok(19));
        let expected = [2, 0, 0x65, 0x58, 0, 0, 7, 0, 0xff, 0x01, 1, 1, 0xc0, 0xff, 0xee, 0x00, 1, 2, 3, 0xee];
        assert_eq!(out, expected);
        let (vni, mut options, inner) = decap(&out[..19]).unwrap();
        assert_eq!((vni.get(), inner), (7, &[1, 2, 3][..]));
        assert_eq!(options.next(), Some(Ok(EXPERIMENT)));
        assert_eq!(options.next(), None);
    }

    #[test]
    fn a_critical_option_sets_the_flag_of_the_header() {
        let critical = GeneveOption { kind: 0x81, ..EXPERIMENT };
        let header = Header::new(Vni::MAX).with_options(&list(&[EXPERIMENT, critical, EXPERIMENT]));
        assert_eq!(header.to_bytes()[..2], [6, 0x40]);
        assert!(header.has_critical_options());
    }

    #[test]
    fn what_is_no_frame_to_forward_is_refused_in_order() {
        let truncated = NoFrame::OptionsTruncated { options_len: 4, len: 0 };
        let header = |first: u8, flags: u8, protocol: u16| {
            let [high, low] = protocol.to_be_bytes();
            [first, flags, high, low, 0, 0, 7, 0]
        };
        assert_eq!(refused(header(0x40, 0xc0, 0)), HeaderError::Version(1).into());
        assert_eq!(refused(header(0xc1, 0, ETHERNET)), HeaderError::Version(3).into());
        assert_eq!(refused(header(1, 0xc0, 0x0800)), NoFrame::Protocol(0x0800).into());
        assert_eq!(refused(header(1, 0xc0, ETHERNET)), truncated.into());
        assert_eq!(refused(header(0, 0xc0, ETHERNET)), NoFrame::Control.into());
        assert_eq!(refused(header(0, 0x40, ETHERNET)), NoFrame::CriticalOption.into());
    }

    #[test]
    fn reserved_bits_are_ignored() {
        let [first, flags, high, low, a, b, c, _] = PLAIN;
        assert!(decap(&[first, flags | 0x3f, high, low, a, b, c, 0xff]).is_ok());
    }

    #[test]
    fn options_that_end_early_say_so_once() {
        for bytes in [&[0xff, 1, 1][..], &[0xff, 1, 1, 1], &[0xff, 1, 1, 2, 0, 0, 0, 0]] {
            let mut options = Options::new(bytes);
            assert_eq!(options.next(), Some(Err(OptionTruncated { len: bytes.len() })));
            assert_eq!(options.next(), None);
        }
    }

    #[test]
    fn what_no_length_field_can_say_is_refused() {
        let option = |data| GeneveOption { class: 1, kind: 2, data };
        let mut options = OptionList::new();
        assert_eq!(options.push(option(&[0; 5])), Err(InvalidOption::PartOfAWord { len: 5 }));
        assert_eq!(options.push(option(&[0; 128])), Err(InvalidOption::DataTooLong { len: 128 }));
        assert!(options.is_empty());
        assert_eq!(options.push(option(&[0; 124])), Ok(()));
        assert_eq!(options.push(option(&[0; 120])), Ok(()));
        assert_eq!(options.len(), MAX_OPTIONS_LEN);
        assert_eq!(options.push(option(&[])), Err(InvalidOption::TooMany { len: 256 }));
        assert_eq!(Header::new(Vni::MAX).with_options(&options).to_bytes()[0], 63);
    }

    proptest! {
        #[test]
        fn decap_undoes_encap(
            vni in 0..=Vni::MAX.get(),
            parts in vec((any::<u16>(), 0..0x80_u8, 0..4_usize), 0..12),
            inner in vec(any::<u8>(), 0..2000),
            spare in 0..32_usize,
        ) {
            let vni = Vni::new(vni).unwrap();
            let data: Vec<Vec<u8>> = parts.iter().map(|(_, kind, words)| vec![*kind; words * 4]).collect();
            let options: Vec<_> = parts
                .iter()
                .zip(&data)
                .map(|(&(class, kind, _), data)| GeneveOption { class, kind, data })
                .collect();
            let list = list(&options);
            prop_assert_eq!(list.iter().collect::<Vec<_>>(), options.clone());
            let mut out = vec![0xee; BASE_HEADER_LEN + list.len() + inner.len() + spare];
            let len = encap(vni, &list, &inner, &mut out).unwrap();
            prop_assert!(out[len..].iter().all(|&byte| byte == 0xee));
            let (read_vni, read, read_inner) = decap(&out[..len]).unwrap();
            prop_assert_eq!((read_vni, read_inner), (vni, &inner[..]));
            prop_assert_eq!(read.collect::<Result<Vec<_>, _>>(), Ok(options));
        }

        #[test]
        fn encap_into_too_little_room_writes_nothing(inner in vec(any::<u8>(), 0..100), missing in 1..116_usize) {
            let options = list(&[EXPERIMENT]);
            let needed = BASE_HEADER_LEN + options.len() + inner.len();
            let mut out = vec![0xee; needed.saturating_sub(missing)];
            let len = out.len();
            prop_assert_eq!(encap(Vni::MAX, &options, &inner, &mut out), Err(NoRoom { needed, len }));
            prop_assert!(out.iter().all(|&byte| byte == 0xee));
        }

        #[test]
        fn arbitrary_bytes_are_taken_or_refused_by_what_the_rfc_says(
            mut bytes in vec(any::<u8>(), 0..300),
            is_ethernet: bool,
        ) {
            // one of 65,536 alone would be taken
            if is_ethernet && let Some(protocol) = bytes.get_mut(2..4) {
                protocol.copy_from_slice(&ETHERNET.to_be_bytes());
            }
            let taken = decap(&bytes);
            let Some(([first, flags, high, low, ..], rest)) = bytes.split_first_chunk::<8>() else {
                prop_assert_eq!(taken, Err(HeaderError::Truncated { len: bytes.len() }.into()));
                return Ok(());
            };
            let options_len = usize::from(first & 0x3f) * 4;
            let expected = first >> 6 == 0 && flags >> 6 == 0 && [*high, *low] == [0x65, 0x58] && options_len <= rest.len();
            prop_assert_eq!(taken.is_ok(), expected);
            if let Ok((vni, options, inner)) = taken {
                prop_assert_eq!(vni.get().to_be_bytes(), [0, bytes[4], bytes[5], bytes[6]]);
                prop_assert_eq!((options.as_bytes(), inner), rest.split_at(options_len));
                // ends, and without a panic
                prop_assert!(options.count() <= MAX_OPTIONS_LEN / OPTION_HEADER_LEN);
            }
        }

        #[test]
        fn both_ways_to_parse_say_the_same(mut bytes in vec(any::<u8>(), 0..40)) {
            let shared = Header::parse(&bytes).map(|(header, rest)| (header, rest.to_vec()));
            let exclusive = Header::parse_mut(&mut bytes).map(|(header, rest)| (header, rest.to_vec()));
            prop_assert_eq!(shared, exclusive);
        }

        #[test]
        fn a_received_header_keeps_all_its_bits(bits: u64) {
            let bits = bits & !VERSION;
            let header = Header::parse(&bits.to_be_bytes()).map(|(header, _)| header.to_bytes());
            prop_assert_eq!(header, Ok(bits.to_be_bytes()));
        }
    }
}
