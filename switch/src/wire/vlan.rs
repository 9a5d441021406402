//! 802.1Q tags: reading, taking off and putting on.

use std::fmt;

/// Tag protocol identifier of a customer tag (IEEE 802.1Q).
pub const TPID_8021Q: u16 = 0x8100;
/// Tag protocol identifier of a service tag (IEEE 802.1ad).
pub const TPID_8021AD: u16 = 0x88a8;
/// Bytes of one tag on the wire.
pub const TAG_LEN: usize = 4;

/// A tag as it stands in a frame: protocol identifier and control information.
pub type TagBytes = [u8; TAG_LEN];

/// Whose tags they are, by their protocol identifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u16)]
pub enum Tpid {
    /// A customer's: [`TPID_8021Q`].
    #[default]
    Customer = TPID_8021Q,
    /// A provider's: [`TPID_8021AD`].
    Service = TPID_8021AD,
}

/// A VLAN identifier that a frame can be a member of: 1 to 4094 (0 means "priority only", 4095 is reserved).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct VlanId(u16);

impl VlanId {
    /// The identifier, if it is one of 1 to 4094.
    pub const fn new(vid: u16) -> Option<Self> {
        if vid >= 1 && vid <= 4094 { Some(Self(vid)) } else { None }
    }

    /// The identifier as the number on the wire.
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Tag control information: priority (3 bits), drop eligible (1 bit), VLAN identifier (12 bits, 0 and 4095 included).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag(pub u16);

impl Tag {
    /// The raw VLAN identifier, 0 to 4095.
    #[inline]
    pub const fn vid(self) -> u16 {
        self.0 & 0x0fff
    }

    /// Priority code point and drop-eligible indicator: the four bits above the identifier, still in place.
    #[inline]
    pub const fn priority_bits(self) -> u16 {
        self.0 & 0xf000
    }

    /// This priority with another identifier.
    #[inline]
    pub const fn with_vid(self, vid: VlanId) -> Self {
        Self(self.priority_bits() | vid.get())
    }

    /// The four bytes on the wire with this protocol identifier.
    #[inline]
    pub const fn to_bytes(self, tpid: Tpid) -> TagBytes {
        let [a, b] = (tpid as u16).to_be_bytes();
        let [c, d] = self.0.to_be_bytes();
        [a, b, c, d]
    }
}

/// Bytes of the two addresses that stand before a tag.
const ADDRESSES_LEN: usize = 12;

/// Takes the outermost tag of either kind off `frame`, in place: the addresses move towards the end, and the returned
/// frame begins [`TAG_LEN`] bytes later. `None`, and `frame` as it was, if there is no tag or if it is cut off.
///
/// ```text
/// before  | dst | src | tpid tci | type | ...
/// after   | unused    | dst | src | type | ...
/// ```
#[inline]
pub fn pop(frame: &mut [u8]) -> Option<(Tag, &mut [u8])> {
    let head = frame.first_chunk::<{ ADDRESSES_LEN + TAG_LEN + 2 }>()?;
    let [.., p0, p1, t0, t1, _, _] = *head;
    if !matches!(u16::from_be_bytes([p0, p1]), TPID_8021Q | TPID_8021AD) {
        return None;
    }
    frame.copy_within(..ADDRESSES_LEN, TAG_LEN);
    Some((Tag(u16::from_be_bytes([t0, t1])), &mut frame[TAG_LEN..]))
}

/// The inverse of [`pop`]: puts `tag` on the frame that begins [`TAG_LEN`] bytes behind the start of `room`; the tagged
/// frame then fills all of `room`.
///
/// `None`, and `room` as it was, if it is too short to hold a tag's room, two addresses and a type.
#[inline]
pub fn push(room: &mut [u8], tag: TagBytes) -> Option<&mut [u8]> {
    if room.len() < ADDRESSES_LEN + TAG_LEN + 2 {
        return None;
    }
    room.copy_within(TAG_LEN..TAG_LEN + ADDRESSES_LEN, 0);
    room[ADDRESSES_LEN..ADDRESSES_LEN + TAG_LEN].copy_from_slice(&tag);
    Some(room)
}

#[cfg(test)]
mod tests {
    use etherparse::{Ethernet2Slice, SingleVlanSlice};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn identifiers_0_and_4095_name_no_vlan() {
        assert_eq!((VlanId::new(0), VlanId::new(4095), VlanId::new(4096)), (None, None, None));
        assert_eq!(VlanId::new(4094).map(VlanId::get), Some(4094));
    }

    #[test]
    fn another_identifier_keeps_the_priority() {
        let tag = Tag(0xb064);
        assert_eq!(tag.with_vid(VlanId::new(7).unwrap()), Tag(0xb007));
        assert_eq!((tag.vid(), tag.priority_bits()), (0x064, 0xb000));
    }

    #[test]
    fn a_cut_off_tag_and_what_is_no_tag_stay_on() {
        let mut untagged = [0; 22];
        untagged[12..14].copy_from_slice(&0x9100_u16.to_be_bytes());
        assert_eq!(pop(&mut untagged), None);
        for tpid in [Tpid::Customer, Tpid::Service] {
            let mut short = [0; 17];
            short[12..16].copy_from_slice(&Tag(1).to_bytes(tpid));
            assert_eq!(pop(&mut short), None);
            assert_eq!(push(&mut short, Tag(1).to_bytes(tpid)), None);
        }
    }

    proptest! {
        #[test]
        fn pop_is_the_inverse_of_push(
            tci in any::<u16>(),
            tpid in prop_oneof![Just(Tpid::Customer), Just(Tpid::Service)],
            frame in vec(any::<u8>(), 14..200),
        ) {
            let mut room = vec![0xee; TAG_LEN];
            room.extend(&frame);

            let tagged = push(&mut room, Tag(tci).to_bytes(tpid)).unwrap();
            let ethernet = Ethernet2Slice::from_slice_without_fcs(tagged).unwrap();
            prop_assert_eq!(ethernet.ether_type().0, tpid as u16);
            let vlan = SingleVlanSlice::from_slice(ethernet.payload_slice()).unwrap();
            prop_assert_eq!(vlan.vlan_identifier().value(), tci & 0x0fff);
            prop_assert_eq!(vlan.ether_type().0.to_be_bytes(), [frame[12], frame[13]]);
            prop_assert_eq!(vlan.payload_slice(), &frame[14..]);
            prop_assert_eq!(&tagged[..12], &frame[..12]);

            let (tag, untagged) = pop(tagged).unwrap();
            prop_assert_eq!(tag, Tag(tci));
            prop_assert_eq!(untagged, &frame[..]);
        }

        #[test]
        fn any_bytes_are_popped_or_left_alone(mut bytes in vec(any::<u8>(), 0..40)) {
            let before = bytes.clone();
            if pop(&mut bytes).is_none() {
                prop_assert_eq!(bytes, before);
            }
        }
    }
}
