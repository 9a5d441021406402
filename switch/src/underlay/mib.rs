//! The kernel's UDP counters: what a network namespace has lost before or behind weft's sockets.

use std::io;

use crate::sys::socket_owner::{Table, table};

/// UDP counters of one network namespace. They count all its sockets, not only weft's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UdpMib {
    /// Over IPv4: `Udp:` in `/proc/net/snmp`.
    pub ipv4: UdpCounters,
    /// Over IPv6: `Udp6*` in `/proc/net/snmp6`; zero where the kernel has no IPv6.
    pub ipv6: UdpCounters,
}

/// Counters of RFC 4113 and the kernel's additions (`net/ipv4/proc.c`), under the kernel's names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UdpCounters {
    /// InDatagrams: read by their sockets.
    pub in_datagrams: u64,
    /// NoPorts: for a port on which nobody listens.
    pub no_ports: u64,
    /// InErrors: dropped on arrival for any reason, those below among them; also what strangers send to weft's sending
    /// sockets, whose filter takes nothing.
    pub in_errors: u64,
    /// OutDatagrams: sent. A run counts once.
    pub out_datagrams: u64,
    /// RcvbufErrors: no room in the socket's buffer.
    pub rcvbuf_errors: u64,
    /// SndbufErrors: no room in the socket's send buffer, or dropped by a queueing discipline.
    pub sndbuf_errors: u64,
    /// InCsumErrors: wrong UDP checksum.
    pub in_csum_errors: u64,
}

/// The UDP counters of the network namespace that the calling thread visits, or is in.
///
/// # Errors
/// `/proc` is not mounted, or holds something unexpected.
pub fn udp_mib() -> io::Result<UdpMib> {
    let snmp = table(Table::Snmp)?;
    let snmp6 = match table(Table::Snmp6) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other?,
    };
    let ipv4 = ipv4_counters(&snmp)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/net/snmp has no UDP counters"))?;
    Ok(UdpMib { ipv4, ipv6: ipv6_counters(&snmp6) })
}

/// Two lines that begin with `Udp:`, the first with names, the second with values.
fn ipv4_counters(snmp: &str) -> Option<UdpCounters> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut counters = UdpCounters::default();
    for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
        counters.set(name, value.parse().ok()?);
    }
    Some(counters)
}

/// One line for each counter: name and value.
fn ipv6_counters(snmp6: &str) -> UdpCounters {
    let mut counters = UdpCounters::default();
    for line in snmp6.lines() {
        let mut words = line.split_ascii_whitespace();
        if let (Some(name), Some(value)) = (words.next(), words.next())
            && let (Some(name), Ok(value)) = (name.strip_prefix("Udp6"), value.parse())
        {
            counters.set(name, value);
        }
    }
    counters
}

impl UdpCounters {
    fn set(&mut self, name: &str, value: u64) {
        match name {
            "InDatagrams" => self.in_datagrams = value,
            "NoPorts" => self.no_ports = value,
            "InErrors" => self.in_errors = value,
            "OutDatagrams" => self.out_datagrams = value,
            "RcvbufErrors" => self.rcvbuf_errors = value,
            "SndbufErrors" => self.sndbuf_errors = value,
            "InCsumErrors" => self.in_csum_errors = value,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_udp_mib() {
        crate::fuzzing::inputs(|input| {
            let Ok(text) = std::str::from_utf8(input) else { return };
            ipv4_counters(text);
            ipv6_counters(text);
        });
    }

    /// From a Linux 6.18.
    const SNMP: &str = "\
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors
Udp: 1 2 3 4 5 6 7 8 9
UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors
UdpLite: 0 0 0 0 0 0 0 0 0
";
    const SNMP6: &str = "\
Ip6InReceives                   \t10
Udp6InDatagrams                 \t1
Udp6NoPorts                     \t2
Udp6InErrors                    \t3
Udp6OutDatagrams                \t4
Udp6RcvbufErrors                \t5
Udp6SndbufErrors                \t6
Udp6InCsumErrors                \t7
UdpLite6InDatagrams             \t99
";

    const EXPECTED: UdpCounters = UdpCounters {
        in_datagrams: 1,
        no_ports: 2,
        in_errors: 3,
        out_datagrams: 4,
        rcvbuf_errors: 5,
        sndbuf_errors: 6,
        in_csum_errors: 7,
    };

    #[test]
    fn both_families_are_read_by_name() {
        assert_eq!(ipv4_counters(SNMP), Some(EXPECTED));
        assert_eq!(ipv6_counters(SNMP6), EXPECTED);
    }

    #[test]
    fn a_kernel_without_ipv6_has_zeros_and_one_without_udp_is_an_error() {
        assert_eq!(ipv6_counters(""), UdpCounters::default());
        assert_eq!(ipv4_counters("Tcp: a\nTcp: 1\n"), None);
        assert_eq!(ipv4_counters("Udp: InErrors\nUdp: many\n"), None);
    }

    #[test]
    fn this_machine_has_them() {
        udp_mib().unwrap();
    }
}
