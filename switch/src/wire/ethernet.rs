//! The Ethernet header: addresses, type, and the one tag that decides about a frame's VLAN.
//!
//! This is what the switch reads of every frame, so it is read once and costs a few loads. What lies behind is
//! [`super::dissect`]'s.

use super::{
    mac::MacAddr,
    vlan::{TAG_LEN, TPID_8021AD, TPID_8021Q, Tag},
};

/// Bytes of an Ethernet header without tags.
pub const HEADER_LEN: usize = 14;
/// Where the EtherType (or the outermost tag) begins.
pub const ETHER_TYPE_OFFSET: usize = 12;

/// EtherType of IPv4 (IANA, IEEE 802 numbers).
pub const ETHER_TYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETHER_TYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const ETHER_TYPE_IPV6: u16 = 0x86dd;

/// The fields of an Ethernet header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EtherHeader {
    /// Where the frame goes.
    pub dst: MacAddr,
    /// Where it comes from. Not checked: [`MacAddr::is_valid_source`] tells.
    pub src: MacAddr,
    /// What stands at offset 12: the EtherType, the length of an 802.3 frame, or a tag's protocol identifier.
    pub ether_type: u16,
    /// The outermost tag if `ether_type` is the protocol identifier of one, a customer's or a provider's. Whose tags count, a
    /// port knows.
    pub tag: Option<Tag>,
}

/// Why bytes are no Ethernet frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// Fewer than [`HEADER_LEN`] bytes.
    #[error("shorter than an Ethernet header")]
    Runt,
    /// The type announces a tag (0x8100 or 0x88a8), and fewer than four bytes stand behind it.
    #[error("truncated tag")]
    TruncatedTag,
}

/// Reads the header of `frame`, which begins with the destination address.
///
/// # Errors
/// [`Malformed`] if the header, or a tag that it announces, is cut off.
#[inline]
pub fn parse(frame: &[u8]) -> Result<EtherHeader, Malformed> {
    let Some(header) = frame.first_chunk::<HEADER_LEN>() else { return Err(Malformed::Runt) };
    // Two loads of eight bytes: the destination and what follows it, the source and the type.
    let (Some(front), Some(back)) = (header.first_chunk(), header.last_chunk()) else { return Err(Malformed::Runt) };
    let dst = u64::from_be_bytes(*front) >> 16;
    let src_and_type = u64::from_be_bytes(*back);
    let ether_type = src_and_type as u16;
    let tag = if ether_type == TPID_8021Q || ether_type == TPID_8021AD {
        let Some(&[tci0, tci1, _, _]) = frame[HEADER_LEN..].first_chunk::<TAG_LEN>() else {
            return Err(Malformed::TruncatedTag);
        };
        Some(Tag(u16::from_be_bytes([tci0, tci1])))
    } else {
        None
    };
    let (dst, src) = (MacAddr::from_u64(dst), MacAddr::from_u64(src_and_type >> 16));
    Ok(EtherHeader { dst, src, ether_type, tag })
}

#[cfg(test)]
mod tests {
    use etherparse::{Ethernet2Slice, SingleVlanSlice};
    use proptest::prelude::*;

    use super::*;

    fn frame(ether_type: u16, behind: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        frame.extend(ether_type.to_be_bytes());
        frame.extend(behind);
        frame
    }

    #[test]
    fn thirteen_bytes_are_a_runt_and_fourteen_are_a_frame() {
        assert_eq!(parse(&[0; 13]), Err(Malformed::Runt));
        assert_eq!(parse(&[]), Err(Malformed::Runt));
        let header = parse(&frame(ETHER_TYPE_ARP, &[])).unwrap();
        assert_eq!(header.dst, MacAddr::new([2, 0, 0, 0, 0, 1]));
        assert_eq!(header.src, MacAddr::new([2, 0, 0, 0, 0, 2]));
        assert_eq!((header.ether_type, header.tag), (ETHER_TYPE_ARP, None));
    }

    #[test]
    fn a_tag_needs_its_four_bytes_behind_the_type() {
        for tpid in [TPID_8021Q, TPID_8021AD] {
            for len in 0..TAG_LEN {
                assert_eq!(parse(&frame(tpid, &[0; TAG_LEN][..len])), Err(Malformed::TruncatedTag));
            }
            assert!(parse(&frame(tpid, &[0; TAG_LEN])).is_ok());
        }
    }

    #[test]
    fn a_customers_tag_is_a_tag_and_so_is_a_providers() {
        let behind = [0x60, 0x2a, 0x08, 0x00];
        assert_eq!(parse(&frame(TPID_8021Q, &behind)).unwrap().tag, Some(Tag(0x602a)));
        assert_eq!(parse(&frame(TPID_8021AD, &behind)).unwrap().tag, Some(Tag(0x602a)));
        assert_eq!(parse(&frame(ETHER_TYPE_IPV4, &behind)).unwrap().tag, None);
    }

    proptest! {
        #[test]
        fn agrees_with_etherparse_on_any_bytes(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..40),
            tagged in any::<bool>(),
        ) {
            if tagged && bytes.len() >= HEADER_LEN {
                bytes[12..14].copy_from_slice(&TPID_8021Q.to_be_bytes());
            }
            match (parse(&bytes), Ethernet2Slice::from_slice_without_fcs(&bytes)) {
                (Ok(ours), Ok(theirs)) => {
                    prop_assert_eq!(ours.dst.octets(), theirs.destination());
                    prop_assert_eq!(ours.src.octets(), theirs.source());
                    prop_assert_eq!(ours.ether_type, theirs.ether_type().0);
                    if tagged {
                        let vlan = SingleVlanSlice::from_slice(theirs.payload_slice()).unwrap();
                        let tag = ours.tag.unwrap();
                        prop_assert_eq!(tag.vid(), vlan.vlan_identifier().value());
                        prop_assert_eq!(tag.priority_bits() >> 13, u16::from(vlan.priority_code_point().value()));
                        prop_assert_eq!(tag.priority_bits() >> 12 & 1 == 1, vlan.drop_eligible_indicator());
                    }
                }
                (Err(Malformed::Runt), Err(_)) => prop_assert!(bytes.len() < HEADER_LEN),
                (Err(Malformed::TruncatedTag), Ok(theirs)) => {
                    prop_assert!(SingleVlanSlice::from_slice(theirs.payload_slice()).is_err());
                }
                (ours, theirs) => prop_assert!(false, "{ours:?} but {theirs:?}"),
            }
        }
    }
}
