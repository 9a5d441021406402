//! Ethernet addresses.

use std::{fmt, str::FromStr};

/// A 48-bit Ethernet address: a number, first octet highest, so that it is read, compared and hashed in one piece.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(u64);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self(0xffff_ffff_ffff);
    /// `00:00:00:00:00:00`, which is no valid source and names the flood entry in the kernel's vxlan FDB.
    pub const ZERO: Self = Self(0);

    /// The address of these octets, in transmission order.
    #[inline]
    pub const fn new(octets: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = octets;
        Self(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// Its octets in transmission order.
    #[inline]
    pub const fn octets(self) -> [u8; 6] {
        let [_, _, a, b, c, d, e, f] = self.0.to_be_bytes();
        [a, b, c, d, e, f]
    }

    /// Whether the group bit is set: multicast, broadcast included.
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0 & 0x0100_0000_0000 != 0
    }

    /// Whether this is the broadcast address.
    #[inline]
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// Whether this is the all-zeros address.
    #[inline]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Whether a frame may come from this address: neither multicast nor zero (`is_valid_ether_addr`).
    #[inline]
    pub fn is_valid_source(self) -> bool {
        !self.is_multicast() && !self.is_zero()
    }

    /// The last nibble of a reserved link-local group address `01-80-C2-00-00-0X` (IEEE 802.1D table 7-10), if it is one.
    #[inline]
    pub const fn reserved_group(self) -> Option<u8> {
        if self.0 & !0xf == 0x0180_c200_0000 { Some(self.0 as u8 & 0xf) } else { None }
    }

    /// The address in the low 48 bits, first octet highest.
    #[inline]
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The inverse of [`MacAddr::to_u64`]; the high 16 bits are ignored.
    #[inline]
    pub const fn from_u64(value: u64) -> Self {
        Self(value & 0xffff_ffff_ffff)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.octets();
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six pairs of hexadecimal digits separated by colons or dashes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address; six pairs of hexadecimal digits are, such as 02:00:00:00:00:0a")]
pub struct MacAddrError;

impl FromStr for MacAddr {
    type Err = MacAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().ok_or(MacAddrError)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(MacAddrError);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| MacAddrError)?;
        }
        if parts.next().is_some() { Err(MacAddrError) } else { Ok(Self::new(octets)) }
    }
}

impl serde::Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_number_round_trip() {
        let mac: MacAddr = "02:00:0A:ff:00:7b".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:0a:ff:00:7b");
        assert_eq!(MacAddr::from_u64(mac.to_u64()), mac);
        assert_eq!("02-00-0a-ff-00-7b".parse(), Ok(mac));
    }

    #[test]
    fn wrong_texts_are_refused() {
        for text in
            ["", "02:00:00:00:00", "02:00:00:00:00:0a:01", "2:0:0:0:0:a", "02:00:00:00:00:0g", "+2:00:00:00:00:0a"]
        {
            assert_eq!(text.parse::<MacAddr>(), Err(MacAddrError), "{text}");
        }
    }

    #[test]
    fn reserved_groups_end_at_0f() {
        assert_eq!(MacAddr::new([1, 0x80, 0xc2, 0, 0, 0x0f]).reserved_group(), Some(15));
        assert_eq!(MacAddr::new([1, 0x80, 0xc2, 0, 0, 0x10]).reserved_group(), None);
    }
}
