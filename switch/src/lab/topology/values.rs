//! Single values of a lab's file, and what serde says of them put into words that name the cure.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use miette::NamedSource;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::control::config::{ConfigErrors, Mistake, mistake::Place, nearest};

/// Between what is wrong and what would be right, in the text of an error of [`de::Error::custom`].
const CURE: &str = "; write ";

/// An address with its prefix length, or a network: "10.0.0.1/24".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Prefix {
    /// The address, host bits kept.
    pub address: IpAddr,
    /// 0 to 32 or 128.
    pub len: u8,
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

/// What is no address with its prefix length.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no address with its prefix length{CURE}one such as \"10.0.0.1/24\" or \"fd00::1/64\"")]
pub struct NoPrefix(String);

impl FromStr for Prefix {
    type Err = NoPrefix;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || -> Option<Self> {
            let (address, len) = text.split_once('/')?;
            let (address, len) = (address.parse::<IpAddr>().ok()?, len.parse().ok()?);
            let longest = if address.is_ipv4() { 32 } else { 128 };
            (len <= longest).then_some(Self { address, len })
        };
        parse().ok_or_else(|| NoPrefix(text.to_owned()))
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

impl Prefix {
    /// Whether an address is in the network.
    pub fn contains(self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        };
        let differ = bits(self.address) ^ bits(address);
        self.address.is_ipv4() == address.is_ipv4() && differ.leading_zeros() >= u32::from(self.len)
    }
}

/// Where a route leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// To everywhere.
    Default,
    /// To a network.
    To(Prefix),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::To(prefix) => prefix.fmt(f),
        }
    }
}

impl Serialize for Destination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "default" {
            return Ok(Self::Default);
        }
        let network = text.parse().map_err(|_| {
            let cure = "\"default\", or a network such as \"10.1.0.0/16\"";
            de::Error::custom(format!("{text:?} is no destination{CURE}{cure}"))
        })?;
        Ok(Self::To(network))
    }
}

/// What serde could not make a lab of, as a mistake with its place and its cure.
pub(super) fn not_understood(source: &Arc<NamedSource<String>>, error: &toml::de::Error) -> ConfigErrors {
    let place = error.span().map(|span| Place::new(source, span));
    let (what, cure) = explain(error.message());
    ConfigErrors::one(Mistake::new(place, what, cure))
}

/// serde's sentence, and what would be right.
fn explain(message: &str) -> (String, String) {
    if let Some((what, cure)) = message.split_once(CURE) {
        return (what.to_owned(), format!("write {cure}"));
    }
    if let Some(key) = message.strip_prefix("missing field ") {
        return (format!("the key {key} is missing"), format!("add {key} to this table"));
    }
    let Some((what, expected)) = message.split_once(", expected ") else {
        return (message.to_owned(), String::new());
    };
    let unknown = what.strip_prefix("unknown field ").or_else(|| what.strip_prefix("unknown variant "));
    let Some(word) = unknown else { return (what.to_owned(), format!("write {expected}")) };
    let known: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
    let what = match what.starts_with("unknown field") {
        true => format!("there is no key {word} here"),
        false => format!("there is no {word} here"),
    };
    let cure = match nearest(word.trim_matches('`'), known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("there is {}", expected.trim_start_matches("one of ")),
    };
    (what, cure)
}
