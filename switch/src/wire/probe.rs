//! Probes of the path MTU between two wefts: frames that one VTEP sends to another through the tunnel, as large as what is to
//! be found out about.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |             destination 01-80-C2-00-00-01                     |
//! +                               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                               |  source: the VTEP's own       |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+                               +
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |       EtherType 0x88B5        |         "we"                  |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |         "ft"                  |   version 1   |     kind      |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                             nonce                             |
//! +                                                               +
//! |                                                               |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                 length of the whole question                  |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |  zeros ...
//! ```
//!
//! Kind 1 is a question, kind 2 its answer. All numbers are in network byte order. The length is that of the question's frame
//! from the destination on; a question whose frame has another length was cut or put together on its way, and is not answered.
//! An answer repeats nonce and length, and is as short as a frame can be.
//!
//! **Why nobody else minds.** 01-80-C2-00-00-01 is the group of Ethernet's own control frames (IEEE 802.1Q table 8-1): no
//! bridge forwards it, whatever its configuration. The kernel's drops it before it learns anything (`br_input.c`:
//! `br_handle_frame`), Open vSwitch's NORMAL action likewise (`ofproto-dpif-xlate.c`: `is_admissible`), a weft without probes
//! counts `reserved_group`. EtherType 0x88B5 is IEEE 802's for local experiments, so what looks at frames does not take it for a
//! pause frame, whose EtherType is 0x8808. The source has to be somebody's: the kernel's vxlan device learns it before its
//! bridge sees the frame (`vxlan_core.c`: `vxlan_snoop`), and refuses one that is zero or a group; kernels from before 2024 would take
//! zero for the address of their flood list. So each VTEP has one unicast address of its own for this ([`own_address`]), always the same one: a
//! peer holds one entry more, which is true and ages.

use std::net::IpAddr;

use super::{
    MacAddr,
    ethernet::{ETHER_TYPE_OFFSET, HEADER_LEN},
};

/// Where probes go.
pub const GROUP: MacAddr = MacAddr::new([0x01, 0x80, 0xc2, 0x00, 0x00, 0x01]);
/// IEEE 802, local experimental EtherType 1.
pub const ETHER_TYPE: u16 = 0x88b5;
/// The shortest frame that holds one; also the length of answers. Ethernet's minimum without the checksum.
pub const MIN_LEN: usize = 60;

const MAGIC: [u8; 4] = *b"weft";
const VERSION: u8 = 1;
const QUESTION: u8 = 1;
const ANSWER: u8 = 2;
/// Behind the Ethernet header: magic, version, kind, nonce, length.
const BODY_LEN: usize = 4 + 1 + 1 + 8 + 4;

const _: () = assert!(HEADER_LEN + BODY_LEN <= MIN_LEN);

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// "Did this arrive?"
    Question,
    /// "It did."
    Answer,
}

/// A probe, or its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Which of the two.
    pub kind: Kind,
    /// What makes the answer one to this question.
    pub nonce: u64,
    /// Bytes of the question's frame.
    pub len: u32,
}

impl Probe {
    /// The probe in a frame; `None` if there is none, or a question that did not arrive as it was sent.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (header, rest) = frame.split_first_chunk::<HEADER_LEN>()?;
        let body = rest.first_chunk::<BODY_LEN>()?;
        let is_ours = header[..6] == GROUP.octets()
            && header[ETHER_TYPE_OFFSET..] == ETHER_TYPE.to_be_bytes()
            && body[..4] == MAGIC
            && body[4] == VERSION;
        let kind = match body[5] {
            QUESTION => Kind::Question,
            ANSWER => Kind::Answer,
            _ => return None,
        };
        let nonce = u64::from_be_bytes(*body[6..].first_chunk()?);
        let len = u32::from_be_bytes(*body[14..].first_chunk()?);
        let is_whole = kind == Kind::Answer || len as usize == frame.len();
        (is_ours && is_whole).then_some(Self { kind, nonce, len })
    }

    /// The answer to this question.
    pub const fn answer(self) -> Self {
        Self { kind: Kind::Answer, ..self }
    }

    /// The first bytes of its frame, which `source` sends; what follows them is zero, up to [`Probe::frame_len`].
    pub fn front(&self, source: MacAddr) -> [u8; MIN_LEN] {
        let mut frame = [0; MIN_LEN];
        let kind = match self.kind {
            Kind::Question => QUESTION,
            Kind::Answer => ANSWER,
        };
        frame[..6].copy_from_slice(&GROUP.octets());
        frame[6..12].copy_from_slice(&source.octets());
        frame[ETHER_TYPE_OFFSET..HEADER_LEN].copy_from_slice(&ETHER_TYPE.to_be_bytes());
        let body = &mut frame[HEADER_LEN..];
        body[..4].copy_from_slice(&MAGIC);
        body[4..6].copy_from_slice(&[VERSION, kind]);
        body[6..14].copy_from_slice(&self.nonce.to_be_bytes());
        body[14..18].copy_from_slice(&self.len.to_be_bytes());
        frame
    }

    /// Bytes of its frame.
    pub fn frame_len(&self) -> usize {
        match self.kind {
            Kind::Question => (self.len as usize).max(MIN_LEN),
            Kind::Answer => MIN_LEN,
        }
    }

    /// Its whole frame.
    pub fn frame(&self, source: MacAddr) -> Vec<u8> {
        let mut frame = self.front(source).to_vec();
        frame.resize(self.frame_len(), 0);
        frame
    }
}

/// How many addresses a VTEP has for probes. Questions to stations ([`super::arp::probe`]) are told apart by the address that
/// they come from and the answer goes to.
pub const ADDRESS_COUNT: u8 = 8;

/// One of the addresses that a VTEP's own frames come from, `index` below [`ADDRESS_COUNT`]. Locally administered, the rest a
/// hash of the VTEP's address (FNV-1a): a weft that is started again has the same, and two VTEPs hardly do.
pub fn own_address(vtep: IpAddr, index: u8) -> MacAddr {
    let add = |hash: u64, octet: &u8| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
    let begin = 0xcbf2_9ce4_8422_2325;
    let hash = match vtep.to_canonical() {
        IpAddr::V4(address) => address.octets().iter().fold(begin, add),
        IpAddr::V6(address) => address.octets().iter().fold(begin, add),
    };
    let [_, _, _, a, b, c, d, e] = (hash ^ (hash >> 40)).to_be_bytes();
    MacAddr::new([0x02, a, b, c, d, (e & !(ADDRESS_COUNT - 1)) | (index & (ADDRESS_COUNT - 1))])
}

/// Which of a VTEP's addresses this is.
pub fn index_of(mac: MacAddr, vtep: IpAddr) -> Option<u8> {
    let index = mac.octets()[5] & (ADDRESS_COUNT - 1);
    (own_address(vtep, index) == mac).then_some(index)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const SOURCE: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 1]);

    #[test]
    fn a_question_has_the_bytes_that_are_drawn_above() {
        let probe = Probe { kind: Kind::Question, nonce: 0x0102_0304_0506_0708, len: 1464 };
        let frame = probe.frame(SOURCE);
        let expected = [
            &[0x01, 0x80, 0xc2, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x88, 0xb5][..],
            b"weft",
            &[1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x05, 0xb8],
        ]
        .concat();
        assert_eq!(frame[..32], expected);
        assert_eq!(frame.len(), 1464);
        assert!(frame[32..].iter().all(|byte| *byte == 0));
        assert_eq!(Probe::parse(&frame), Some(probe));
    }

    #[test]
    fn a_question_that_was_cut_or_padded_is_none() {
        let frame = Probe { kind: Kind::Question, nonce: 7, len: 200 }.frame(SOURCE);
        for len in 0..200 {
            assert_eq!(Probe::parse(&frame[..len]), None, "{len} bytes");
        }
        assert_eq!(Probe::parse(&[&frame[..], &[0]].concat()), None);
    }

    #[test]
    fn an_answer_is_short_and_names_the_question() {
        let question = Probe { kind: Kind::Question, nonce: 7, len: 9000 };
        let frame = question.answer().frame(SOURCE);
        assert_eq!(frame.len(), MIN_LEN);
        assert_eq!(Probe::parse(&frame), Some(Probe { kind: Kind::Answer, ..question }));
    }

    #[test]
    fn every_byte_that_means_something_counts() {
        let frame = Probe { kind: Kind::Answer, nonce: 7, len: 9000 }.frame(SOURCE);
        for at in (0..6).chain(12..20) {
            let mut other = frame.clone();
            other[at] ^= 0x10;
            assert_eq!(Probe::parse(&other), None, "byte {at}");
        }
    }

    #[test]
    fn a_vtep_has_addresses_of_its_own_that_stay_the_same() {
        let vtep = "192.0.2.1".parse().unwrap();
        for index in 0..ADDRESS_COUNT {
            let mac = own_address(vtep, index);
            assert!(mac.is_valid_source() && mac.octets()[0] == 2);
            assert_eq!(mac, own_address(vtep, index));
            assert_eq!(index_of(mac, vtep), Some(index));
            assert_eq!(index_of(mac, "192.0.2.2".parse().unwrap()), None);
        }
        assert_eq!(index_of(SOURCE, vtep), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(frame in vec(any::<u8>(), 0..100)) {
            Probe::parse(&frame);
        }

        #[test]
        fn what_is_written_is_read(nonce: u64, len in 60..65_535u32, is_question: bool) {
            let kind = if is_question { Kind::Question } else { Kind::Answer };
            let probe = Probe { kind, nonce, len };
            prop_assert_eq!(Probe::parse(&probe.frame(SOURCE)), Some(probe));
        }
    }
}
