//! How large an inner packet the underlay carries.
//!
//! An MTU counts the bytes of an IP packet, headers included, without Ethernet. What a tunnel adds between the inner IP packet
//! and the outer MTU is the outer IP header, UDP, the header of its encapsulation with its options, and the *inner* Ethernet
//! header, which is payload out there. The outer Ethernet header isn't counted by any MTU:
//!
//! ```text
//! outer Ethernet | outer IP | UDP | VXLAN or Geneve (options) | inner Ethernet (802.1Q) | inner IP packet
//!                 <---------------------------- underlay MTU ---------------------------------------->
//!                                                                                        <-inner MTU->
//! ```

use std::net::IpAddr;

use crate::{
    encapsulation::{BASE_HEADER_LEN, Encapsulation},
    geneve::MAX_OPTIONS_LEN,
};

/// Length of an IPv4 header without options; the kernel's sockets send none.
pub const IPV4_HEADER_LEN: u16 = 20;
/// Length of an IPv6 header without extensions.
pub const IPV6_HEADER_LEN: u16 = 40;
/// Length of a UDP header.
pub const UDP_HEADER_LEN: u16 = 8;
/// Length of an Ethernet header: two addresses and the EtherType.
pub const ETHERNET_HEADER_LEN: u16 = 14;
/// Length of an 802.1Q tag.
pub const VLAN_TAG_LEN: u16 = 4;

/// The smallest MTU of a link that carries IPv4: "every internet module must be able to forward a datagram of 68 octets"
/// (RFC 791 section 3.2).
pub const IPV4_MIN_MTU: u16 = 68;
/// The smallest MTU of a link that carries IPv6 (RFC 8200 section 5).
pub const IPV6_MIN_MTU: u16 = 1280;

/// The address family of the underlay.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// Outer IPv4.
    Ipv4,
    /// Outer IPv6.
    Ipv6,
}

impl Family {
    /// The family of a VTEP's address. A socket sends to an IPv4-mapped IPv6 address in IPv4 packets.
    pub const fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// The largest IP packet that the family's length field can say. IPv4 counts its header, IPv6 doesn't.
    const fn max_packet_len(self) -> u32 {
        match self {
            Self::Ipv4 => 65_535,
            Self::Ipv6 => IPV6_HEADER_LEN as u32 + 65_535,
        }
    }
}

/// One header between the inner IP packet and the underlay's MTU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderLine {
    /// What an operator calls it.
    pub name: &'static str,
    /// Its length in bytes.
    pub len: u16,
}

/// What the headers of a tunnel cost, line by line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderBudget {
    family: Family,
    encapsulation: Encapsulation,
    options_len: u16,
    inner_tag: bool,
}

impl HeaderBudget {
    /// The headers of VXLAN over an underlay of this family; the inner frames are untagged.
    pub const fn new(family: Family) -> Self {
        Self { family, encapsulation: Encapsulation::Vxlan, options_len: 0, inner_tag: false }
    }

    /// The same with the header of another encapsulation.
    pub const fn with_encapsulation(self, encapsulation: Encapsulation) -> Self {
        Self { encapsulation, ..self }
    }

    /// The same with so many bytes of options, their own headers included: at most [`MAX_OPTIONS_LEN`], and none whatever this
    /// says if the encapsulation has no options.
    pub const fn with_options(self, len: u16) -> Self {
        let len = if len as usize > MAX_OPTIONS_LEN { MAX_OPTIONS_LEN as u16 } else { len };
        Self { options_len: len, ..self }
    }

    /// The same with inner frames that carry one 802.1Q tag.
    pub const fn with_inner_tag(self) -> Self {
        Self { inner_tag: true, ..self }
    }

    /// The headers, the outermost first.
    pub fn lines(self) -> impl Iterator<Item = HeaderLine> {
        let line = |name, len| HeaderLine { name, len };
        let outer_ip = match self.family {
            Family::Ipv4 => line("outer IPv4", IPV4_HEADER_LEN),
            Family::Ipv6 => line("outer IPv6", IPV6_HEADER_LEN),
        };
        let options_len = self.tunnel_header_len() - BASE_HEADER_LEN as u16;
        let headers = [
            Some(outer_ip),
            Some(line("outer UDP", UDP_HEADER_LEN)),
            Some(line(self.encapsulation.title(), BASE_HEADER_LEN as u16)),
            (options_len > 0).then(|| line("options", options_len)),
            Some(line("inner Ethernet", ETHERNET_HEADER_LEN)),
            self.inner_tag.then(|| line("inner 802.1Q tag", VLAN_TAG_LEN)),
        ];
        headers.into_iter().flatten()
    }

    /// Their sum in bytes.
    pub const fn overhead(self) -> u16 {
        let outer_ip = match self.family {
            Family::Ipv4 => IPV4_HEADER_LEN,
            Family::Ipv6 => IPV6_HEADER_LEN,
        };
        let tag = if self.inner_tag { VLAN_TAG_LEN } else { 0 };
        outer_ip + UDP_HEADER_LEN + self.tunnel_header_len() + ETHERNET_HEADER_LEN + tag
    }

    /// What is between UDP and the inner frame.
    const fn tunnel_header_len(self) -> u16 {
        // at most 260
        self.encapsulation.header_len(self.options_len as usize) as u16
    }

    /// The largest inner IP packet that an underlay packet of `underlay_mtu` bytes carries.
    ///
    /// `None` if that is less than [`IPV4_MIN_MTU`]; it may still be too small for IPv6 ([`IPV6_MIN_MTU`]). An MTU beyond
    /// what an IP packet can be (the loopback device says 65,536) counts as the largest IP packet.
    pub const fn inner_mtu(self, underlay_mtu: u32) -> Option<u16> {
        let largest = self.family.max_packet_len();
        let underlay_mtu = if underlay_mtu < largest { underlay_mtu } else { largest };
        // at most 65,575 - 70, IPv6 having the largest packets
        let inner = underlay_mtu.saturating_sub(self.overhead() as u32) as u16;
        if inner >= IPV4_MIN_MTU { Some(inner) } else { None }
    }

    /// The underlay's MTU that carries inner IP packets of `inner_mtu` bytes in one piece.
    ///
    /// `None` if no IP packet of the underlay is that large.
    pub const fn underlay_mtu_needed(self, inner_mtu: u16) -> Option<u32> {
        let needed = inner_mtu as u32 + self.overhead() as u32;
        if needed <= self.family.max_packet_len() { Some(needed) } else { None }
    }
}

/// What every encapsulation costs without options and tag, and what Geneve costs with one option of 4 bytes and with as many
/// as it can have.
const _: () = {
    let mut index = 0;
    while index < Encapsulation::ALL.len() {
        let (v4, v6) = (HeaderBudget::new(Family::Ipv4), HeaderBudget::new(Family::Ipv6));
        let (v4, v6) =
            (v4.with_encapsulation(Encapsulation::ALL[index]), v6.with_encapsulation(Encapsulation::ALL[index]));
        assert!(v4.overhead() == 50 && v6.overhead() == 70);
        assert!(v4.with_inner_tag().overhead() == 54 && v6.with_inner_tag().overhead() == 74);
        index += 1;
    }
    let v4 = HeaderBudget::new(Family::Ipv4).with_encapsulation(Encapsulation::Geneve);
    let v6 = HeaderBudget::new(Family::Ipv6).with_encapsulation(Encapsulation::Geneve);
    assert!(v4.with_options(8).overhead() == 58 && v6.with_options(8).overhead() == 78);
    assert!(v4.with_options(252).overhead() == 302 && v6.with_options(252).overhead() == 322);
    assert!(v4.with_options(u16::MAX).overhead() == 302);
    assert!(HeaderBudget::new(Family::Ipv4).with_options(8).overhead() == 50);
};
// the cast in `inner_mtu` loses nothing
const _: () = assert!(Family::Ipv4.max_packet_len() - 50 <= u16::MAX as u32);
const _: () = assert!(Family::Ipv6.max_packet_len() - 70 <= u16::MAX as u32);

/// The largest untagged inner IP packet in VXLAN over an underlay of this MTU and family ([`HeaderBudget::inner_mtu`]).
pub const fn inner_mtu(underlay_mtu: u32, family: Family) -> Option<u16> {
    HeaderBudget::new(family).inner_mtu(underlay_mtu)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_budget() -> impl Strategy<Value = HeaderBudget> {
        let family = prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)];
        let encapsulation = prop::sample::select(&Encapsulation::ALL);
        (family, encapsulation, 0..=63_u16, any::<bool>()).prop_map(|(family, encapsulation, words, tagged)| {
            let budget = HeaderBudget::new(family).with_encapsulation(encapsulation).with_options(words * 4);
            if tagged { budget.with_inner_tag() } else { budget }
        })
    }

    #[test]
    fn inner_mtus_are_those_the_kernel_reports() {
        assert_eq!(inner_mtu(1500, Family::Ipv4), Some(1450));
        assert_eq!(inner_mtu(1500, Family::Ipv6), Some(1430));
        assert_eq!(inner_mtu(4000, Family::Ipv4), Some(3950));
        assert_eq!(inner_mtu(4000, Family::Ipv6), Some(3930));
        assert_eq!(inner_mtu(9000, Family::Ipv4), Some(8950));
    }

    #[test]
    fn a_tag_inside_costs_four_bytes() {
        assert_eq!(HeaderBudget::new(Family::Ipv4).with_inner_tag().inner_mtu(1500), Some(1446));
    }

    #[test]
    fn an_underlay_without_room_for_an_ip_packet_has_no_inner_mtu() {
        assert_eq!(inner_mtu(118, Family::Ipv4), Some(68));
        assert_eq!(inner_mtu(117, Family::Ipv4), None);
        assert_eq!(inner_mtu(0, Family::Ipv6), None);
    }

    #[test]
    fn an_mtu_beyond_ip_counts_as_the_largest_ip_packet() {
        assert_eq!(inner_mtu(65_536, Family::Ipv4), Some(65_485));
        assert_eq!(inner_mtu(u32::MAX, Family::Ipv4), Some(65_485));
        assert_eq!(inner_mtu(65_536, Family::Ipv6), Some(65_466));
        assert_eq!(inner_mtu(u32::MAX, Family::Ipv6), Some(65_505));
    }

    #[test]
    fn a_full_ethernet_payload_inside_needs_a_larger_underlay() {
        assert_eq!(HeaderBudget::new(Family::Ipv4).underlay_mtu_needed(1500), Some(1550));
        assert_eq!(HeaderBudget::new(Family::Ipv6).underlay_mtu_needed(1500), Some(1570));
        assert_eq!(HeaderBudget::new(Family::Ipv4).underlay_mtu_needed(65_486), None);
    }

    #[test]
    fn lines_name_the_headers_from_outside_to_inside() {
        let lines: Vec<_> =
            HeaderBudget::new(Family::Ipv4).with_inner_tag().lines().map(|line| (line.name, line.len)).collect();
        let expected =
            [("outer IPv4", 20), ("outer UDP", 8), ("VXLAN", 8), ("inner Ethernet", 14), ("inner 802.1Q tag", 4)];
        assert_eq!(lines, expected);
    }

    #[test]
    fn each_encapsulation_has_a_line_of_its_own_and_options_have_one_if_there_are_any() {
        let lines = |encapsulation| {
            let budget = HeaderBudget::new(Family::Ipv6).with_encapsulation(encapsulation).with_options(12);
            budget.lines().skip(2).map(|line| (line.name, line.len)).collect::<Vec<_>>()
        };
        let inner = ("inner Ethernet", 14);
        assert_eq!(lines(Encapsulation::Vxlan), [("VXLAN", 8), inner]);
        assert_eq!(lines(Encapsulation::VxlanGbp), [("VXLAN-GBP", 8), inner]);
        assert_eq!(lines(Encapsulation::VxlanGpe), [("VXLAN-GPE", 8), inner]);
        assert_eq!(lines(Encapsulation::Geneve), [("Geneve", 8), ("options", 12), inner]);
    }

    #[test]
    fn options_make_the_inner_packet_smaller() {
        let geneve = HeaderBudget::new(Family::Ipv4).with_encapsulation(Encapsulation::Geneve);
        assert_eq!(geneve.inner_mtu(1500), Some(1450));
        assert_eq!(geneve.with_options(8).inner_mtu(1500), Some(1442));
        assert_eq!(geneve.with_options(8).underlay_mtu_needed(1500), Some(1558));
    }

    #[test]
    fn a_mapped_address_is_an_ipv4_underlay() {
        assert_eq!(Family::of("::ffff:192.0.2.1".parse().unwrap()), Family::Ipv4);
        assert_eq!(Family::of("192.0.2.1".parse().unwrap()), Family::Ipv4);
        assert_eq!(Family::of("2001:db8::1".parse().unwrap()), Family::Ipv6);
    }

    proptest! {
        #[test]
        fn lines_sum_up_to_the_overhead(budget in any_budget()) {
            prop_assert_eq!(budget.lines().map(|line| line.len).sum::<u16>(), budget.overhead());
        }

        #[test]
        fn what_an_inner_mtu_needs_carries_exactly_it(budget in any_budget(), inner in IPV4_MIN_MTU..=u16::MAX) {
            if let Some(needed) = budget.underlay_mtu_needed(inner) {
                prop_assert_eq!(budget.inner_mtu(needed), Some(inner));
                let below = budget.inner_mtu(needed - 1);
                prop_assert!(below.is_none_or(|below| below < inner));
            }
        }

        #[test]
        fn no_underlay_mtu_yields_more_than_fits(budget in any_budget(), underlay: u32) {
            if let Some(inner) = budget.inner_mtu(underlay) {
                let needed = budget.underlay_mtu_needed(inner);
                prop_assert!(needed.is_some_and(|needed| needed <= underlay));
            }
        }
    }
}
