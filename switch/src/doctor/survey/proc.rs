//! What `/proc` says of the calling thread's namespace, and of all processes.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use super::values::{Conntrack, Link, Owner, Process, Protocol, Socket};
use crate::sys::opener;

/// The parameters that decide what becomes of packets: those of the namespace, and those of each interface.
pub(super) fn sysctls(links: &[Link]) -> BTreeMap<String, String> {
    const OF_ALL: [&str; 10] = [
        "net/ipv4/ip_forward",
        "net/ipv4/icmp_echo_ignore_all",
        "net/ipv6/icmp/echo_ignore_all",
        "net/ipv4/ip_local_port_range",
        "net/ipv4/ip_no_pmtu_disc",
        "net/ipv4/tcp_mtu_probing",
        "net/bridge/bridge-nf-call-iptables",
        "net/bridge/bridge-nf-call-ip6tables",
        "net/bridge/bridge-nf-call-arptables",
        "net/netfilter/nf_conntrack_max",
    ];
    const OF_EACH: [&str; 6] = ["rp_filter", "forwarding", "proxy_arp", "arp_ignore", "arp_filter", "accept_local"];
    const OF_EACH_V6: [&str; 3] = ["forwarding", "disable_ipv6", "proxy_ndp"];
    let mut found = BTreeMap::new();
    let mut read = |path: &str| {
        if let Ok(value) = fs::read_to_string(format!("/proc/sys/{path}")) {
            found.insert(path.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    };
    OF_ALL.into_iter().for_each(&mut read);
    for name in ["all", "default"].into_iter().chain(links.iter().map(|link| link.name.as_str())) {
        for key in OF_EACH {
            read(&format!("net/ipv4/conf/{name}/{key}"));
        }
        for key in OF_EACH_V6 {
            read(&format!("net/ipv6/conf/{name}/{key}"));
        }
    }
    found
}

/// The sockets that listen, those of UDP, and TCP's connections.
///
/// # Errors
/// `/proc` is not mounted.
pub(super) fn sockets() -> io::Result<Vec<Socket>> {
    /// More connections than that say nothing new.
    const MANY: usize = 2000;
    let mut sockets = Vec::new();
    for (file, protocol) in
        [("udp", Protocol::Udp), ("udp6", Protocol::Udp), ("tcp", Protocol::Tcp), ("tcp6", Protocol::Tcp)]
    {
        // Not `/proc/net`: that is the view of the process, not of the thread that went inside.
        match fs::read_to_string(format!("/proc/thread-self/net/{file}")) {
            Ok(table) => sockets.extend(table.lines().skip(1).filter_map(|line| socket(line, protocol)).take(MANY)),
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.ends_with('6') => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

/// A line of `/proc/net/udp` or `tcp` (`net/ipv4/udp.c:udp4_format_sock`).
fn socket(line: &str, protocol: Protocol) -> Option<Socket> {
    const ESTABLISHED: &str = "01";
    const LISTEN: &str = "0A";
    let fields: Vec<_> = line.split_whitespace().collect();
    let state = *fields.get(3)?;
    if protocol == Protocol::Tcp && !matches!(state, ESTABLISHED | LISTEN) {
        return None;
    }
    let (_, queued) = fields.get(4)?.split_once(':')?;
    Some(Socket {
        protocol,
        local: socket_address(fields.get(1)?)?,
        remote: socket_address(fields.get(2)?).filter(|remote| remote.port() != 0),
        inode: fields.get(9)?.parse().ok()?,
        owners: Vec::new(),
        queued: u64::from_str_radix(queued, 16).unwrap_or(0),
        drops: fields.get(12).filter(|_| protocol == Protocol::Udp).and_then(|drops| drops.parse().ok()).unwrap_or(0),
    })
}

/// `0100007F:0035`: the address in words of 32 bits, each in the machine's order.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut octets = [0; 16];
            for (index, chunk) in octets.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index * 8)?);
            }
            Ipv6Addr::from(octets).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// How full the table of connections is; `None`: the kernel tracks none.
pub(super) fn conntrack() -> Option<Conntrack> {
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(format!("/proc/sys/net/netfilter/{name}")).ok()?.trim().parse().ok()
    };
    let statistics = fs::read_to_string("/proc/thread-self/net/stat/nf_conntrack").unwrap_or_default();
    let mut lines = statistics.lines();
    let names: Vec<_> = lines.next().unwrap_or_default().split_whitespace().collect();
    let column = names.iter().position(|name| *name == "drop");
    let drops = lines.filter_map(|line| u64::from_str_radix(line.split_whitespace().nth(column?)?, 16).ok()).sum();
    Some(Conntrack { count: number("nf_conntrack_count")?, limit: number("nf_conntrack_max")?, drops })
}

/// Counters of the network stack that tell of trouble.
pub(super) fn counters() -> BTreeMap<String, u64> {
    const TELLING: [&str; 17] = [
        "Ip.InAddrErrors",
        "Ip.ForwDatagrams",
        "Ip.InDiscards",
        "Ip.OutNoRoutes",
        "Ip.FragFails",
        "Udp.NoPorts",
        "Udp.InErrors",
        "Udp.RcvbufErrors",
        "Udp.InCsumErrors",
        "Udp6.InCsumErrors",
        "Icmp.InCsumErrors",
        "Icmp6.InCsumErrors",
        "Tcp.InCsumErrors",
        "Tcp.RetransSegs",
        "TcpExt.IPReversePathFilter",
        "TcpExt.TCPMTUPFail",
        "IpExt.InCsumErrors",
    ];
    let mut found = BTreeMap::new();
    for file in ["snmp", "netstat"] {
        let table = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        let lines: Vec<_> = table.lines().collect();
        for pair in lines.chunks_exact(2) {
            let (Some((group, names)), Some((_, values))) = (pair[0].split_once(':'), pair[1].split_once(':')) else {
                continue;
            };
            for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
                let name = format!("{group}.{name}");
                if let (true, Ok(value)) = (TELLING.contains(&name.as_str()), value.parse()) {
                    found.insert(name, value);
                }
            }
        }
    }
    // A counter a line: `Udp6InCsumErrors 0`.
    let six = fs::read_to_string("/proc/thread-self/net/snmp6").unwrap_or_default();
    for line in six.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(value)) = (words.next(), words.next()) else { continue };
        let dotted = TELLING.iter().find(|telling| telling.contains('6') && telling.replace('.', "") == name);
        if let (Some(dotted), Ok(value)) = (dotted, value.parse()) {
            found.insert((*dotted).to_owned(), value);
        }
    }
    found
}

/// Tables of iptables' own kernel code, which nft doesn't show.
pub(super) fn legacy_tables() -> Vec<String> {
    let files = ["ip_tables_names", "ip6_tables_names", "arp_tables_names"];
    let read = |file| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    files.iter().flat_map(|file| read(file).lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// All processes of the machine, as far as they may be looked at.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// Each with the inode of its network namespace.
    pub(super) all: Vec<(u64, Process)>,
    /// Who has a socket open, by its inode.
    owners: HashMap<u64, Vec<Owner>>,
    /// Namespaces that somebody holds open: inode, and a file that leads there.
    pub(super) held: HashMap<u64, PathBuf>,
    /// The socket inodes of each weft, by its process id.
    pub(super) wefts: Vec<(u32, Vec<u64>)>,
}

impl Processes {
    pub(super) fn scan() -> Self {
        let mut found = Self::default();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            found.look_at(pid);
        }
        found.all.sort_unstable_by_key(|(_, process)| process.pid);
        found
    }

    pub(super) fn owners(&self, inode: u64) -> Vec<Owner> {
        self.owners.get(&inode).cloned().unwrap_or_default()
    }

    fn look_at(&mut self, pid: u32) {
        let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let Ok(netns) = fs::metadata(format!("/proc/{pid}/ns/net")) else { return };
        let name = file("comm").trim().to_owned();
        let command = file("cmdline").replace('\0', " ").trim().to_owned();
        // A part of a weft, not a process that uses the network.
        if command.split(' ').nth(1) == Some(opener::VERB) {
            return;
        }
        let cgroup = file("cgroup").lines().last().and_then(|line| line.rsplit(':').next().map(str::to_owned));
        let mut sockets = Vec::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let Some(target) = target.to_str() else { continue };
            if let Some(inode) = bracketed(target, "socket:[") {
                sockets.push(inode);
                self.owners.entry(inode).or_default().push(Owner { pid, name: name.clone() });
            } else if let Some(inode) = bracketed(target, "net:[") {
                self.held.entry(inode).or_insert_with(|| entry.path());
            }
        }
        // However its file is called there: `weft-0.1`.
        if name.starts_with("weft") && command.split(' ').any(|word| word == "run") {
            self.wefts.push((pid, sockets));
        }
        self.all.push((netns.ino(), Process { pid, name, command, cgroup: cgroup.unwrap_or_default() }));
    }
}

/// The number in `socket:[123]`.
fn bracketed(text: &str, start: &str) -> Option<u64> {
    text.strip_prefix(start)?.strip_suffix(']')?.parse().ok()
}

/// Unix sockets of a process's namespace that listen: inode and path.
pub(super) fn listening_unix_sockets(pid: u32) -> Vec<(u64, String)> {
    const ACCEPTS: &str = "00010000";
    let table = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    let row = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let listens = fields.get(3).is_some_and(|flags| *flags == ACCEPTS);
        Some((fields.get(6)?.parse().ok()?, (*fields.get(7)?).to_owned())).filter(|_| listens)
    };
    table.lines().skip(1).filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuzz_proc_sockets() {
        crate::fuzzing::inputs(|input| {
            let Ok(line) = std::str::from_utf8(input) else { return };
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                let Some(socket) = socket(line, protocol) else { continue };
                assert!(socket.remote.is_none_or(|remote| remote.port() != 0));
            }
        });
    }

    #[test]
    fn sockets_are_read_as_the_kernel_prints_them() {
        let line = " 3266: 0200000A:12B5 00000000:0000 07 00000000:00000300 00:00000000 00000000     0        0 20983 2 0000000000000000 5";
        let socket = socket(line, Protocol::Udp).unwrap();
        assert_eq!(socket.local, "10.0.0.2:4789".parse().unwrap());
        assert_eq!((socket.remote, socket.inode, socket.queued, socket.drops), (None, 20983, 768, 5));
        let six = socket_address("00000000000000000000000001000000:1F90").unwrap();
        assert_eq!(six, "[::1]:8080".parse().unwrap());
        assert_eq!(socket_address("0000000000000000FFFF00000200000A:0050").unwrap(), "10.0.0.2:80".parse().unwrap());
        for text in ["", ":", "0200000A", "xx00000A:0000", "0200:0000"] {
            assert_eq!(socket_address(text), None, "{text}");
        }
    }

    #[test]
    fn this_process_is_found_with_its_socket() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let bound = socket.local_addr().unwrap();
        let rows = sockets().unwrap();
        let row = rows.iter().find(|row| row.local == bound && row.protocol == Protocol::Udp).unwrap();
        let processes = Processes::scan();
        assert!(processes.owners(row.inode).iter().any(|owner| owner.pid == std::process::id()));
    }
}
