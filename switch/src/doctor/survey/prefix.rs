//! IP prefixes, as routes and addresses have them.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An address and how many of its leading bits name its network: `10.10.0.1/24`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Prefix {
    pub(crate) address: IpAddr,
    pub(crate) len: u8,
}

impl Prefix {
    /// The prefix that holds this address alone.
    pub(crate) const fn host(address: IpAddr) -> Self {
        Self { address, len: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether an address is in the network; one of the other family never is.
    pub(crate) fn contains(self, address: IpAddr) -> bool {
        let differing = match (self.address, address) {
            (IpAddr::V4(one), IpAddr::V4(other)) => (u32::from(one) ^ u32::from(other)).leading_zeros(),
            (IpAddr::V6(one), IpAddr::V6(other)) => (u128::from(one) ^ u128::from(other)).leading_zeros(),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        differing >= u32::from(self.len)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is no prefix, such as 10.0.0.0/24");
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let host = Self::host(address.parse().map_err(|_| wrong())?);
        let len = len.map_or(Ok(host.len), str::parse).map_err(|_| wrong())?;
        if len > host.len { Err(wrong()) } else { Ok(Self { len, ..host }) }
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_hold_what_shares_their_bits() {
        let prefix: Prefix = "10.10.0.1/24".parse().unwrap();
        assert!(prefix.contains("10.10.0.255".parse().unwrap()) && !prefix.contains("10.10.1.0".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Prefix>().unwrap().contains("203.0.113.9".parse().unwrap()));
        assert!("::/0".parse::<Prefix>().unwrap().contains("2001:db8::1".parse().unwrap()));
        assert!(!"::/0".parse::<Prefix>().unwrap().contains("10.0.0.1".parse().unwrap()));
        assert_eq!("fd00::1".parse::<Prefix>().unwrap().to_string(), "fd00::1/128");
        for text in ["10.0.0.0/33", "10.0.0/8", "/8", "10.0.0.0/", "x"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }
}
