//! The words that [`PathMtu`](super::PathMtu) takes and gives.

use std::{fmt, net::IpAddr, time::Duration};

/// What the path MTU goes by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Policy {
    /// Probes, errors of routers, and the link's MTU.
    #[default]
    Measure,
    /// Errors of routers, and the link's MTU.
    Learn,
    /// The link's MTU.
    Assume,
}

/// How a probe is sent and answered. The later, the more it says about what happens to frames.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Method {
    /// In the tunnel, to a station behind the peer, whose own MTU bounds what it answers.
    Station,
    /// ICMP echo to the peer's address: the same hosts and links, but not the same packets as the tunnel's.
    Echo,
    /// In the tunnel, answered by the VTEP itself.
    InBand,
}

impl Method {
    /// How many sizes can be asked for at once.
    pub(super) const fn in_flight(self) -> usize {
        match self {
            Self::Station => 4,
            Self::Echo | Self::InBand => 8,
        }
    }
}

/// What an ICMP error said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The MTU of the next link, in bytes of an IP packet. Old routers say 0 (RFC 1191 section 5).
    pub mtu: u32,
    /// Whether it quotes a packet that can be one of ours.
    pub quotes_us: bool,
    /// Who sent it.
    pub from: Option<IpAddr>,
}

/// What became of a [`Claim`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ClaimFate {
    /// The value is what it says, and is being checked.
    Believed,
    /// The value was that already.
    Known,
    /// It could be so, but the last one like it was wrong: a check decides.
    Doubted,
    /// No such value is possible: larger than the current one, or smaller than any path's.
    Impossible,
    /// It quotes nothing of ours.
    Foreign,
    /// Errors are not listened to ([`Policy::Assume`]).
    Ignored,
}

/// A packet to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Bytes of the whole outer IP packet.
    pub size: u16,
    /// What the answer must name. Unpredictable to whoever does not see the packet.
    pub nonce: u64,
    /// How to send it; `None`: in every way there is.
    pub method: Option<Method>,
}

/// What is known, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// The MTU of the link.
    Assumed,
    /// A router's word.
    Learned,
    /// Found out by packets that were answered.
    Measured,
    /// The same, and larger ones vanish without a word.
    BlackHole,
}

impl State {
    /// Its name in the interface of the program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Assumed => "assumed",
            Self::Learned => "learned",
            Self::Measured => "measured",
            Self::BlackHole => "black_hole",
        }
    }
}

/// Why the value is what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Nothing else is asked for: [`Policy::Assume`].
    Policy,
    /// No router has said anything: [`Policy::Learn`].
    NothingHeard,
    /// Probes are under way.
    Asking,
    /// Nobody has answered.
    Unanswered,
    /// A router said so.
    Told(Told),
    /// A packet of the link's MTU was answered.
    WholeLink,
    /// A packet of this size was answered; whether larger ones are is being found out.
    Passes,
    /// A packet of this size was answered, larger ones were not, and a router said why.
    Refused(Told),
    /// A packet of this size was answered, larger ones were not, and nobody said a word.
    Vanishing {
        /// The smallest size that was not answered.
        from: u16,
    },
}

impl Reason {
    /// The state that it is a reason for.
    pub const fn state(self) -> State {
        match self {
            Self::Policy | Self::NothingHeard | Self::Asking | Self::Unanswered => State::Assumed,
            Self::Told(_) => State::Learned,
            Self::WholeLink | Self::Passes | Self::Refused(_) => State::Measured,
            Self::Vanishing { .. } => State::BlackHole,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy => write!(f, "the link's MTU; nothing is measured"),
            Self::NothingHeard => write!(f, "the link's MTU; no router says less"),
            Self::Asking => write!(f, "the link's MTU; being measured"),
            Self::Unanswered => write!(f, "the link's MTU; no probe was answered"),
            Self::Told(told) => write!(f, "{told}"),
            Self::WholeLink => write!(f, "a packet of the link's MTU was answered"),
            Self::Passes => write!(f, "a packet of this size was answered; larger ones are being tried"),
            Self::Refused(told) => write!(f, "a packet of this size was answered, and {told}"),
            Self::Vanishing { from } => {
                write!(f, "packets of {from} bytes and more vanish, and no router says so")
            }
        }
    }
}

/// Whose word it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// What the error said.
    pub mtu: u16,
    /// Who sent the error.
    pub from: Option<IpAddr>,
    /// When it came last.
    pub at: Duration,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            Some(from) => write!(f, "{from} says {}", self.mtu),
            None => write!(f, "a router says {}", self.mtu),
        }
    }
}
