//! What is done to both sides of a comparison: a scene, then one step after another.
//!
//! A case is data: it can be listed, written to a file, read again and made shorter. Options go by the kernel's names, which
//! are weft's configuration keys too; [`super::option`] knows what each is on either side.

mod builder;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use serde::{Deserialize, Serialize};

use super::{option::GPE, statement::Cite};
use crate::wire::MacAddr;

/// Ports of a scene, numbered from 1.
pub const PORTS: u8 = 4;
/// Where frames of the overlay are seen, among the ports' numbers.
pub const UNDERLAY: u8 = 0;
/// The VNI of an overlay, if a case does not say otherwise.
pub const VNI: u32 = 42;
/// The option that says how long a bridge remembers what it has learned.
pub const AGEING: &str = "ageing";
/// The option that lets a bridge listen to what hosts say about multicast groups.
pub const SNOOPING: &str = "mcast_snooping";
/// The option that lets it ask them.
pub const QUERIER: &str = "mcast_querier";
/// The side under test on the underlay.
pub const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// The VTEP `number`, 2 to 9, at the far end of the underlay.
pub const fn vtep(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, number))
}

/// One comparison.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Case {
    /// What must be so, in a sentence: "a pause frame never passes". Unique.
    pub name: String,
    /// The part of the catalogue it belongs to.
    pub group: String,
    /// What it tests.
    pub cites: Vec<Cite>,
    /// Those of them that it shows: it would come out otherwise, or show nothing, if they were not so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shows: Vec<Cite>,
    /// The ruling by which weft differs here on purpose ([`super::ruling`]); `None`: both sides must do the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ruling: Option<String>,
    /// The change before which the kernel did otherwise than weft does ([`super::older`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<String>,
    /// The scene.
    pub setup: Setup,
    /// What is done.
    pub steps: Vec<Step>,
}

/// An option's value.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// On or off.
    Switch(bool),
    /// A number; times are milliseconds.
    Number(i64),
    /// A word.
    Word(String),
}

/// Options by name.
pub type Options = BTreeMap<String, Value>;

/// The scene before the first step: one bridge with [`PORTS`] ports, perhaps VLANs, perhaps an overlay.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Setup {
    /// The bridge's options.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub bridge: Options,
    /// Options of ports, by number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub port: BTreeMap<u8, Options>,
    /// VLAN filtering, and of which VLANs each port is a member; `None`: tags are opaque.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlans: Option<BTreeMap<u8, Vec<VlanMember>>>,
    /// Neighbours that the bridge knows, for those whom it answers in others' names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub neighbours: Vec<Neighbour>,
    /// The overlay; `None`: a local bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Overlay>,
}

/// A port's membership of a VLAN, as `bridge vlan add vid VID [pvid] [untagged]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VlanMember {
    /// The VLAN.
    pub vid: u16,
    /// Untagged frames that come in are of this VLAN.
    #[serde(default)]
    pub pvid: bool,
    /// Its frames leave without a tag.
    #[serde(default)]
    pub untagged: bool,
}

/// A neighbour that a bridge knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its address.
    pub ip: IpAddr,
    /// Its station.
    pub mac: MacAddr,
    /// Whether it is a router.
    #[serde(default)]
    pub router: bool,
}

/// A tagged membership.
pub const fn tagged(vid: u16) -> VlanMember {
    VlanMember { vid, pvid: false, untagged: false }
}

/// The membership of a port to hosts that know no VLANs.
pub const fn access(vid: u16) -> VlanMember {
    VlanMember { vid, pvid: true, untagged: true }
}

/// The overlay of a scene: on the kernel's side a vxlan device that is a port of the bridge.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Overlay {
    /// The network.
    pub vni: u32,
    /// The flood list.
    pub remotes: Vec<IpAddr>,
    /// Options of the tunnel.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// With VLAN filtering: the network of each VLAN (`vlan_tunnel`). The tunnel is a member of these VLANs, and what comes from a
    /// network that is none of theirs is of the first. `vni` says nothing then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<u16, u32>,
    /// The kernel's vxlan device forgets at once what its bridge does not know to be there, so that its two tables are as
    /// one ([`super::ruling`], `one_fdb`). Random sequences want that.
    #[serde(default)]
    pub in_step: bool,
}

/// Octets that a file holds as hexadecimal digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Bytes(pub Vec<u8>);

/// One thing that happens. What frames it causes is waited for before the next.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A frame arrives at a port.
    Send {
        /// Its number.
        port: u8,
        /// The frame.
        frame: Bytes,
    },
    /// A datagram arrives from the underlay.
    Arrive(Datagram),
    /// An option of the bridge changes.
    SetBridge {
        /// Its name.
        option: String,
        /// What it is from now on.
        value: Value,
    },
    /// An option of the tunnel changes.
    SetTunnel {
        /// Its name.
        option: String,
        /// What it is from now on.
        value: Value,
    },
    /// An option of a port changes.
    SetPort {
        /// The port's number.
        port: u8,
        /// The option's name.
        option: String,
        /// What it is from now on.
        value: Value,
    },
    /// A user adds an FDB entry.
    FdbAdd(FdbAdd),
    /// A user removes an FDB entry, static or learned.
    FdbDelete {
        /// Its address.
        mac: MacAddr,
        /// Its VLAN, with VLAN filtering.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vid: Option<u16>,
    },
    /// A user flushes the learned entries of a port, or of the bridge.
    FdbFlush {
        /// Only this port's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u8>,
    },
    /// A port's interface is set up or down. That of the overlay ([`UNDERLAY`]) is the tunnel's device.
    Link {
        /// Its number.
        port: u8,
        /// Up or down.
        up: bool,
    },
    /// A port is put into the bridge, or taken out of it.
    Attach {
        /// Its number.
        port: u8,
        /// In or out.
        on: bool,
    },
    /// A user adds a permanent member of a multicast group.
    MdbAdd(MdbAdd),
    /// A user removes one.
    MdbDelete(MdbAdd),
    /// Another overlay is set up on the same UDP port, in a bridge of its own.
    AddTunnel {
        /// Its network.
        vni: u32,
    },
    /// Something is read that no frame shows.
    Read {
        /// What.
        what: Reading,
    },
    /// Time passes.
    Wait {
        /// How much.
        ms: u64,
    },
}

/// An FDB entry of a user's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FdbAdd {
    /// The station's address.
    pub mac: MacAddr,
    /// Where it is.
    #[serde(flatten)]
    pub at: At,
    /// Its VLAN, with VLAN filtering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vid: Option<u16>,
    /// What kind of entry it is.
    pub kind: Kind,
}

/// A permanent member of a multicast group, a user's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MdbAdd {
    /// The group: an IP address.
    pub group: IpAddr,
    /// Only from this source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The port that is in it.
    pub port: u8,
}

/// What [`Step::Read`] reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// The MTU of the bridge's own interface.
    BridgeMtu,
    /// The longest packet that the tunnel's device takes.
    TunnelMtu,
    /// Octets that have come in by the tunnel.
    TunnelOctets,
    /// Packets that the tunnel has taken.
    TunnelPackets,
}

/// Where an FDB entry points.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum At {
    /// At a port.
    Port(u8),
    /// At a VTEP.
    Vtep(IpAddr),
}

/// What kind of FDB entry it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// From a frame.
    Learned,
    /// A user's; it moves.
    Static,
    /// A user's; it stays.
    Sticky,
    /// A control plane's (`extern_learn`).
    External,
    /// Of a locked port with MAB: known and not let through (`locked`).
    Locked,
}

/// A UDP datagram over IPv4 to the side under test.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Datagram {
    /// Its sender.
    pub from: IpAddr,
    /// DSCP and ECN of the outer header.
    #[serde(default)]
    pub tos: u8,
    /// The sender's UDP port.
    pub source_port: u16,
    /// The UDP port.
    pub port: u16,
    /// The UDP checksum.
    #[serde(default)]
    pub checksum: Checksum,
    /// What UDP carries: the VXLAN header and a frame.
    pub payload: Bytes,
}

/// A UDP checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksum {
    /// As it should be.
    #[default]
    Right,
    /// None (zero).
    None,
    /// Wrong.
    Wrong,
}

impl Case {
    /// Whether its bridge snoops at any time.
    pub fn is_about_groups(&self) -> bool {
        let on = |value: Option<&Value>| value == Some(&Value::Switch(true));
        let turns =
            |step: &Step| matches!(step, Step::SetBridge { option, value } if option == SNOOPING && on(Some(value)));
        on(self.setup.bridge.get(SNOOPING)) || self.steps.iter().any(turns)
    }
}

impl Overlay {
    /// Whether its header says what is inside.
    pub fn is_gpe(&self) -> bool {
        self.options.get(GPE) == Some(&Value::Switch(true))
    }
}

impl Datagram {
    /// A good one from a VTEP to the port of VXLAN.
    pub fn new(from: IpAddr, payload: Vec<u8>) -> Self {
        let payload = Bytes(payload);
        Self { from, tos: 0, source_port: 50_000, port: 4789, checksum: Checksum::Right, payload }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Switch(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Number(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Word(value.into())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(on) => f.write_str(if *on { "on" } else { "off" }),
            Self::Number(number) => write!(f, "{number}"),
            Self::Word(word) => f.write_str(word),
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
        let digits = digits.filter(|digits| digits.len() % 2 == 0);
        let digits = digits.ok_or_else(|| serde::de::Error::custom("octets are pairs of hexadecimal digits"))?;
        Ok(Self(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()))
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "port {port}"),
            Self::Vtep(vtep) => write!(f, "VTEP {vtep}"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Learned => "learned",
            Self::Static => "static",
            Self::Sticky => "sticky",
            Self::External => "external",
            Self::Locked => "locked",
        })
    }
}

impl fmt::Display for MdbAdd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {}", self.group)?;
        self.source.map_or(Ok(()), |source| write!(f, " from {source}"))
    }
}

impl Reading {
    /// What it is, for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::BridgeMtu => "the MTU of the bridge's own interface",
            Self::TunnelMtu => "the MTU of the tunnel's device",
            Self::TunnelOctets => "octets that have come in by the tunnel",
            Self::TunnelPackets => "packets that the tunnel has taken",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let describe = crate::wire::describe::describe;
        match self {
            Self::Send { port, frame } => write!(f, "port {port} gets {}", describe(&frame.0)),
            Self::Arrive(datagram) => {
                let inner = datagram.payload.0.get(8..).unwrap_or_default();
                write!(f, "a datagram from {} arrives with {}", datagram.from, describe(inner))
            }
            Self::SetBridge { option, value } => write!(f, "the bridge's {option} becomes {value}"),
            Self::SetTunnel { option, value } => write!(f, "the tunnel's {option} becomes {value}"),
            Self::SetPort { port, option, value } => write!(f, "port {port}'s {option} becomes {value}"),
            Self::FdbAdd(entry) => {
                write!(f, "a {} entry for {} at {} is added", entry.kind, entry.mac, entry.at)?;
                entry.vid.map_or(Ok(()), |vid| write!(f, " in VLAN {vid}"))
            }
            Self::FdbDelete { mac, .. } => write!(f, "the entry for {mac} is removed"),
            Self::FdbFlush { port: Some(port) } => write!(f, "what was learned at port {port} is flushed"),
            Self::FdbFlush { port: None } => f.write_str("what was learned is flushed"),
            Self::Link { port: UNDERLAY, up } => {
                write!(f, "the tunnel's device is set {}", if *up { "up" } else { "down" })
            }
            Self::Link { port, up } => write!(f, "port {port} is set {}", if *up { "up" } else { "down" }),
            Self::Attach { port, on: true } => write!(f, "port {port} is put into the bridge"),
            Self::Attach { port, on: false } => write!(f, "port {port} is taken out of the bridge"),
            Self::MdbAdd(entry) => write!(f, "port {} is put into {entry} for good", entry.port),
            Self::MdbDelete(entry) => write!(f, "port {} is taken out of {entry}", entry.port),
            Self::AddTunnel { vni } => write!(f, "another tunnel, of network {vni}, is added"),
            Self::Read { what } => f.write_str(what.words()),
            Self::Wait { ms } => write!(f, "{ms} ms pass"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::frame::{frame, station};

    #[test]
    fn a_case_is_the_same_after_a_file() {
        let case = Case::new("all there is")
            .statement(1)
            .source("RFC 7348 section 5")
            .bridge("ageing", 1000)
            .port(2, "hairpin", true)
            .vlans(1, &[access(10), tagged(20)])
            .overlay(&[vtep(2)])
            .tunnel("df", "set")
            .send(1, frame(station(2), station(1)))
            .arrive(vtep(2), vec![1, 2])
            .set_port(1, "isolated", false)
            .set_tunnel("ageing", 1000)
            .networks(&[(10, 1000)])
            .fdb(station(3), At::Vtep(vtep(3)), Kind::Static)
            .fdb_vlan(station(3), At::Port(1), 10, Kind::Sticky)
            .fdb_delete(station(3))
            .flush(Some(1))
            .link(1, false)
            .attach(2, false)
            .mdb([239, 1, 1, 1], None, 3)
            .mdb_delete([239, 1, 1, 1], None, 3)
            .add_tunnel(43)
            .read(Reading::BridgeMtu)
            .wait(5);
        let text = serde_json::to_string_pretty(&case).unwrap();
        assert_eq!(serde_json::from_str::<Case>(&text).unwrap(), case, "{text}");
        assert_eq!(case.waits_ms(), 5);
    }

    #[test]
    fn a_case_is_slower_in_its_times_alone() {
        let case = |times: i64| {
            let wait = 5 * u64::try_from(times).unwrap();
            Case::new("slow")
                .bridge("ageing", 1000 * times)
                .bridge("fdb_max_learned", 3)
                .overlay(&[vtep(2)])
                .tunnel("ttl", 7)
                .set_bridge("mcast_querier_interval", 300 * times)
                .set_port(1, "mcast_max_groups", 1)
                .set_tunnel("ageing", 1000 * times)
                .wait(wait)
        };
        assert_eq!(case(1).slowed(4), case(4));
    }

    #[test]
    fn octets_are_pairs_of_digits() {
        assert_eq!(serde_json::from_str::<Bytes>("\"00ff\"").unwrap(), Bytes(vec![0, 255]));
        assert!(serde_json::from_str::<Bytes>("\"0\"").is_err() && serde_json::from_str::<Bytes>("\"0g\"").is_err());
    }
}
