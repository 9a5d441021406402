//! The counters of a namespace's own network stack, as nstat(8) shows them.

use std::{collections::BTreeMap, fs, io};

use super::{LabError, Namespace};

/// Counters of one namespace at one moment, by names such as `Tcp.RetransSegs` (`/proc/net/snmp`, RFC 4293, 4022 and
/// 4113), `TcpExt.TCPTimeouts` (`/proc/net/netstat`) and `Ip6.FragCreates` (`/proc/net/snmp6`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mib(BTreeMap<String, u64>);

impl Mib {
    /// A counter; 0 if this kernel has none of the name.
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// How far a counter has come since an earlier moment.
    pub fn since(&self, earlier: &Self, name: &str) -> u64 {
        self.of(name).saturating_sub(earlier.of(name))
    }

    /// Reads tables in the form of `/proc/net/snmp`: for each group a line of names, then a line of values.
    fn add_table(&mut self, text: &str) {
        let lines: Vec<_> = text.lines().collect();
        for pair in lines.chunks_exact(2) {
            let (Some((group, names)), Some((_, values))) = (pair[0].split_once(':'), pair[1].split_once(':')) else {
                continue;
            };
            for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
                // Tcp's MaxConn is -1 and counts nothing.
                if let Ok(value) = value.parse() {
                    self.0.insert(format!("{group}.{name}"), value);
                }
            }
        }
    }

    /// Reads a list in the form of `/proc/net/snmp6`: name and value in each line, the group in front of the name.
    fn add_list(&mut self, text: &str) {
        const GROUPS: [&str; 4] = ["Ip6", "Icmp6", "UdpLite6", "Udp6"];
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) else { continue };
            let Some(group) = GROUPS.iter().find(|group| name.starts_with(**group)) else { continue };
            self.0.insert(format!("{group}.{}", &name[group.len()..]), value);
        }
    }
}

impl Namespace {
    /// The counters of its network stack as they are now.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn counters(&self) -> Result<Mib, LabError> {
        let read = || -> io::Result<Mib> {
            let mut mib = Mib::default();
            // Not `/proc/net`: that is the view of the process, not of the thread that went inside.
            for table in ["snmp", "netstat"] {
                mib.add_table(&fs::read_to_string(format!("/proc/thread-self/net/{table}"))?);
            }
            match fs::read_to_string("/proc/thread-self/net/snmp6") {
                Ok(list) => mib.add_list(&list),
                // A kernel without IPv6.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            Ok(mib)
        };
        self.within(read)?.map_err(|error| LabError::step(format!("read the counters of {}", self.name()), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_mib() {
        crate::fuzzing::inputs(|input| {
            let Ok(text) = std::str::from_utf8(input) else { return };
            let mut mib = Mib::default();
            mib.add_table(text);
            mib.add_list(text);
            assert_eq!(mib.since(&mib, "IpForwarding"), 0);
        });
    }

    #[test]
    fn counters_have_the_names_of_nstat() {
        let mut mib = Mib::default();
        mib.add_table("Ip: Forwarding FragCreates\nIp: 1 7\nTcp: MaxConn RetransSegs\nTcp: -1 42\n");
        mib.add_list("Ip6FragCreates                  \t3\nUdp6InErrors 4\nUdpLite6InErrors 5\nodd\n");
        assert_eq!((mib.of("Ip.FragCreates"), mib.of("Tcp.RetransSegs"), mib.of("Tcp.MaxConn")), (7, 42, 0));
        assert_eq!((mib.of("Ip6.FragCreates"), mib.of("Udp6.InErrors"), mib.of("UdpLite6.InErrors")), (3, 4, 5));
    }

    #[test]
    fn a_difference_is_never_negative() {
        let (mut before, mut after) = (Mib::default(), Mib::default());
        before.add_table("Ip: A B\nIp: 5 5\n");
        after.add_table("Ip: A B\nIp: 7 1\n");
        assert_eq!((after.since(&before, "Ip.A"), after.since(&before, "Ip.B")), (2, 0));
    }
}
