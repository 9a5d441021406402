//! Who has a UDP port: for the message that says that it is taken.
//!
//! `/proc/net/udp` lists the sockets of a network namespace with their inodes, and `/proc/PID/fd` shows which process has
//! an inode open. A socket that no process has open is the kernel's own, as that of a vxlan device.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::sys::socket_owner::{SocketOwner, Table, socket_owner, table};

/// Who keeps a socket from being bound to this address and port, in the network namespace that the calling thread
/// visits, or is in; `None` if no
/// such socket is to be found.
pub(super) fn port_owner(address: IpAddr, port: u16) -> Option<String> {
    let tables = table(Table::Udp).unwrap_or_default() + &table(Table::Udp6).unwrap_or_default();
    let mut entries: Vec<Entry> =
        tables.lines().filter_map(Entry::parse).filter(|entry| entry.is_in_the_way(address, port)).collect();
    // The one with exactly this address is the likelier one.
    entries.sort_by_key(|entry| entry.address != address);
    let entry = entries.first()?;
    Some(match socket_owner(entry.inode) {
        SocketOwner::Process { pid, name } => format!("process {pid} ({name})"),
        SocketOwner::Nobody => "the kernel (a vxlan device)".to_owned(),
        SocketOwner::NotAllowed => {
            format!("the kernel (a vxlan device) or another user's process (user {})", entry.user)
        }
    })
}

/// One line of `/proc/net/udp` or `/proc/net/udp6`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    address: IpAddr,
    port: u16,
    user: u32,
    inode: u64,
}

impl Entry {
    /// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ...`
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (address, port) = fields.get(1)?.split_once(':')?;
        Some(Self {
            address: parse_address(address)?,
            port: u16::from_str_radix(port, 16).ok()?,
            user: fields.get(7)?.parse().ok()?,
            inode: fields.get(9)?.parse().ok()?,
        })
    }

    /// Whether a bind to `address` fails because of it. It may not if this is a socket for all IPv6 addresses only, but the
    /// table does not say that.
    fn is_in_the_way(&self, address: IpAddr, port: u16) -> bool {
        self.port == port
            && match (self.address, address) {
                (own, asked) if own == asked => true,
                (IpAddr::V4(own), IpAddr::V4(asked)) => own.is_unspecified() || asked.is_unspecified(),
                (IpAddr::V6(own), IpAddr::V6(asked)) => own.is_unspecified() || asked.is_unspecified(),
                (IpAddr::V6(own), IpAddr::V4(_)) => own.is_unspecified(),
                (IpAddr::V4(_), IpAddr::V6(_)) => false,
            }
    }
}

/// Words of 32 bits in network order, each written as a native number (`net/ipv4/udp.c`, udp4_format_sock).
fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |index: usize| -> Option<[u8; 4]> {
        let digits = hex.get(index * 8..index * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut octets = [0; 16];
            for (index, chunk) in octets.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_line_of_the_kernels_table_is_understood() {
        let line = " 8139: 0100007F:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 23519 2 0000000000000000 0";
        let expected = Entry { address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 4789, user: 1000, inode: 23519 };
        assert_eq!(Entry::parse(line), cfg!(target_endian = "little").then_some(expected));
        let address = |hex| parse_address(hex).unwrap();
        assert_eq!(address("00000000000000000000000001000000"), "::1".parse::<IpAddr>().unwrap());
        assert_eq!(address("B80D0120000000000000000001000000"), "2001:db8::1".parse::<IpAddr>().unwrap());
        let header =
            "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        assert_eq!(Entry::parse(header), None);
    }

    #[test]
    fn the_process_that_holds_a_port_is_found() {
        for address in ["127.0.0.1", "0.0.0.0", "::1", "::"] {
            let socket = UdpSocket::bind((address, 0)).unwrap();
            let port = socket.local_addr().unwrap().port();
            let asked = if address.contains(':') { "::1" } else { "127.0.0.1" };
            let owner = port_owner(asked.parse().unwrap(), port).unwrap();
            assert!(owner.starts_with(&format!("process {} (", std::process::id())), "{owner}");
        }
    }

    #[test]
    fn a_socket_for_all_addresses_of_both_families_is_in_the_way_of_an_ipv4_address() {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(port_owner(IpAddr::V4(Ipv4Addr::LOCALHOST), port).is_some());
        drop(socket);
        assert_eq!(port_owner(IpAddr::V4(Ipv4Addr::LOCALHOST), port), None);
    }

    /// A line of `/proc/net/udp`.
    #[test]
    fn fuzz_udp_owner() {
        crate::fuzzing::inputs(|input| {
            let Ok(line) = std::str::from_utf8(input) else { return };
            if let Some(entry) = Entry::parse(line) {
                assert!(entry.is_in_the_way(entry.address, entry.port));
            }
        });
    }
}
