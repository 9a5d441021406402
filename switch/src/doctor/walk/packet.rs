//! The packet that doctor follows: what of it routes and filters look at.

use std::{fmt, net::IpAddr};

use crate::doctor::survey::values::Protocol;

/// What Linux sends with (`net.ipv4.ip_default_ttl`).
pub(crate) const DEFAULT_TTL: u8 = 64;

/// An IP packet, as a value: nothing is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Packet {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: Protocol,
    /// 0: none, as ICMP has none.
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    /// Bytes of the IP packet.
    pub(crate) len: u32,
    /// The answer of a connection that was let through one way already.
    pub(crate) reply: bool,
    pub(crate) mark: u32,
    /// It may not be fragmented on the way.
    pub(crate) whole: bool,
    /// Its destination was translated.
    pub(crate) redirected: bool,
    /// Its source was translated.
    pub(crate) disguised: bool,
    /// It tells a sender that a packet was too large.
    pub(crate) error: bool,
    /// How many hosts may pass it on.
    pub(crate) ttl: u8,
}

impl Packet {
    /// An ICMP echo request of this length.
    pub(crate) const fn echo(source: IpAddr, destination: IpAddr, len: u32) -> Self {
        Self {
            source,
            destination,
            protocol: Protocol::Icmp,
            source_port: 0,
            destination_port: 0,
            len,
            reply: false,
            mark: 0,
            whole: true,
            redirected: false,
            disguised: false,
            error: false,
            ttl: DEFAULT_TTL,
        }
    }

    /// What its receiver answers.
    #[must_use]
    pub(crate) const fn answer(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            reply: !self.reply,
            mark: 0,
            ttl: DEFAULT_TTL,
            ..self
        }
    }

    pub(crate) const fn is_ipv6(self) -> bool {
        self.destination.is_ipv6()
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, destination, protocol, destination_port, .. } = self;
        let what = match (protocol, self.reply) {
            (Protocol::Icmp, false) => "echo request",
            (Protocol::Icmp, true) => "echo reply",
            (Protocol::Tcp, _) => "tcp",
            (Protocol::Udp, _) => "udp",
        };
        write!(f, "{source} > {destination} {what}")?;
        if *destination_port != 0 {
            write!(f, " port {destination_port}")?;
        }
        Ok(())
    }
}
