//! What the control API says of MTUs: of the paths to VTEPs, of what remains of them, and of ports.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// All that is known of MTUs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MtuState {
    /// The underlay; null without one.
    pub underlay: Option<UnderlayMtu>,
    /// The paths to VTEPs.
    pub vteps: Vec<VtepMtu>,
    /// The ports.
    pub ports: Vec<PortMtu>,
}

/// The underlay's own end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UnderlayMtu {
    /// The VTEP's own address.
    pub address: IpAddr,
    /// The interface that has it.
    pub interface: String,
    /// The MTU that ports' defaults are made from: that interface's.
    pub mtu: u32,
    /// `path_mtu` of the configuration: `measure`, `learn` or `assume`.
    pub policy: String,
    /// `path_mtu_ageing`, in seconds.
    pub ageing_s: u64,
    /// Why nothing is measured, or not by every method; null: nothing is in the way.
    pub note: Option<String>,
    /// ICMP errors that quote nothing that was sent to any VTEP.
    pub errors_foreign: u64,
}

/// The path to one VTEP.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VtepMtu {
    /// The VTEP's address.
    pub address: IpAddr,
    /// Its UDP port.
    pub port: u16,
    /// The MTU of the link that leads there, bytes of an outer IP packet.
    pub link_mtu: u16,
    /// The largest outer IP packet that reaches it, as far as is known.
    pub path_mtu: u16,
    /// `assumed`, `learned`, `measured` or `black_hole`.
    pub state: String,
    /// Why, in words.
    pub reason: String,
    /// Seconds since it is so; of a black hole, since the first packet vanished.
    pub age_s: u64,
    /// Of a black hole: the smallest size that was seen to vanish.
    pub vanishing_from: Option<u16>,
    /// Who answers probes: `in_band`, `echo` or `station`; null: nobody has.
    pub method: Option<String>,
    /// Of `station`: the addresses that were asked for.
    pub stations: Vec<IpAddr>,
    /// How long an answer takes, in microseconds.
    pub round_trip_us: Option<u64>,
    /// Seconds since a packet of this size was last answered.
    pub confirmed_s: Option<u64>,
    /// Seconds since nobody answers any more, or at all; null while somebody does, and before anybody was asked.
    pub unanswered_s: Option<u64>,
    /// Whether frames were sent there lately.
    pub in_use: bool,
    /// What remains for inner packets, for each encapsulation in use.
    pub budgets: Vec<MtuBudget>,
    /// Probes that were sent.
    pub probes_sent: u64,
    /// Answers that came.
    pub probes_answered: u64,
    /// ICMP errors that the value followed or agreed with.
    pub errors_accepted: u64,
    /// ICMP errors that could be true, but came after one that was not: they led to a check.
    pub errors_doubted: u64,
    /// ICMP errors that name a value above the current one, or below what every path carries.
    pub errors_impossible: u64,
    /// ICMP errors that quote something else than what was sent there.
    pub errors_foreign: u64,
    /// ICMP errors that say that a datagram did not arrive at all.
    pub unreachable: u64,
}

/// What becomes of a path MTU on the way to the inner packet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MtuBudget {
    /// The bridges whose frames are wrapped so.
    pub bridges: Vec<String>,
    /// Their encapsulation.
    pub encapsulation: String,
    /// What is taken off, the outermost first.
    pub headers: Vec<MtuHeader>,
    /// The largest inner IP packet; null if nothing useful remains.
    pub inner_mtu: Option<u16>,
    /// The same in a frame with an 802.1Q tag of its own.
    pub inner_mtu_tagged: Option<u16>,
}

/// One header.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MtuHeader {
    /// Which.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u16,
}

/// A port's MTU.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortMtu {
    /// The port's full name.
    pub port: String,
    /// Its interface's MTU; null if that is gone.
    pub mtu: Option<u32>,
    /// `mtu` of its configuration.
    pub configured: Option<u16>,
    /// What weft sets if none is configured.
    pub default: u16,
    /// The smallest inner MTU of all VTEPs that its frames may go to; null if there are none.
    pub smallest_path: Option<u16>,
    /// Why it is so, and what becomes of what is larger.
    pub why: String,
}
