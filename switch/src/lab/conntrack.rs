//! The kernel's table of connections of one namespace, filled and emptied over ctnetlink.
//!
//! How many connections it may hold (`nf_conntrack_max`) is one number for the whole machine, which no namespace but the
//! first can change; so a lab where it is full really holds that many. They have seen an answer (`IPS_ASSURED`): others
//! would make room for newcomers (`net/netfilter/nf_conntrack_core.c:early_drop`).

use std::{fs, io, net::Ipv4Addr, os::fd::OwnedFd};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::{LabError, Namespace, rtnl::Nest};

// include/uapi/linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h: NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_*.
const NEW: u16 = 1 << 8;
const DELETE: u16 = 1 << 8 | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_TIMEOUT: u16 = 7;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
// include/uapi/linux/netfilter/nf_conntrack_common.h: IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED.
const SEEN_AND_ASSURED: u32 = 1 << 1 | 1 << 2 | 1 << 3;
const UDP: u8 = 17;
/// How long an entry lives: as long as any lab is played with.
const SECONDS: u32 = 86_400;
/// Requests in one send.
const BATCH: u32 = 128;

/// Fills a namespace's table up to the machine's limit.
pub(super) fn fill(host: &Namespace) -> Result<(), LabError> {
    let failed = |error: io::Error| LabError::step(format!("fill the table of connections of {}", host.name()), error);
    let limit: u32 = host.sysctl_value("net.netfilter.nf_conntrack_max")?.parse().unwrap_or(0);
    host.within(|| {
        let socket = open()?;
        let mut number = 0;
        while number < limit {
            let mut batch = Vec::new();
            for _ in 0..BATCH {
                batch.extend(request(NEW, &entry(number)));
                number += 1;
            }
            send(&socket, &batch, SendFlags::empty())?;
            // Each refusal is a message; nobody reads all of them, but they must not fill the socket's buffer either.
            let mut answers = [0; 8192];
            while recv(&socket, &mut answers[..], RecvFlags::DONTWAIT).is_ok() {}
        }
        let held = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")?;
        // A few fewer may be in: entries of the lab's own traffic end meanwhile.
        match held.trim().parse::<u32>() {
            Ok(held) if held + limit / 100 >= limit => Ok(()),
            _ => Err(io::Error::other(format!("it holds {} of {limit}", held.trim()))),
        }
    })?
    .map_err(failed)
}

/// Empties a namespace's table.
pub(super) fn empty(host: &Namespace) -> Result<(), LabError> {
    let failed = |error: io::Error| LabError::step(format!("empty the table of connections of {}", host.name()), error);
    host.within(|| {
        // Without a tuple all of them.
        send(&open()?, &request(DELETE, &[]), SendFlags::empty())?;
        Ok(())
    })?
    .map_err(failed)
}

fn open() -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(NETFILTER))?;
    Ok(socket)
}

const NETFILTER: Protocol = netlink::NETFILTER;

/// A request with its netlink and nfnetlink headers.
fn request(kind: u16, attributes: &[u8]) -> Vec<u8> {
    const REQUEST_CREATE_EXCL: u16 = 1 | 0x400 | 0x200;
    // struct nlmsghdr, struct nfgenmsg { AF_INET, version 0, resource 0 }.
    let len = 16 + 4 + attributes.len();
    let flags = if kind == NEW { REQUEST_CREATE_EXCL } else { 1 };
    let mut message = Vec::with_capacity(len);
    message.extend((len as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([2, 0, 0, 0]);
    message.extend(attributes);
    message
}

/// A UDP connection of addresses that are for documentation (RFC 5737) and in no lab.
fn entry(number: u32) -> Vec<u8> {
    let (one, other) = (Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::from_bits(0xcb00_7100 | number >> 16 & 0xff));
    let ports = ((number & 0xffff) as u16, 9);
    let reply = (ports.1, ports.0);
    let nest = Nest::default()
        .nest(CTA_TUPLE_ORIG, &tuple(one, other, ports))
        .nest(CTA_TUPLE_REPLY, &tuple(other, one, reply))
        .with(CTA_STATUS, &SEEN_AND_ASSURED.to_be_bytes())
        .with(CTA_TIMEOUT, &SECONDS.to_be_bytes());
    nest.bytes().to_vec()
}

fn tuple(source: Ipv4Addr, destination: Ipv4Addr, ports: (u16, u16)) -> Nest {
    let addresses = Nest::default().with(1, &source.octets()).with(2, &destination.octets());
    let protocol = Nest::default().with(1, &[UDP]).with(2, &ports.0.to_be_bytes()).with(3, &ports.1.to_be_bytes());
    Nest::default().nest(CTA_TUPLE_IP, &addresses).nest(CTA_TUPLE_PROTO, &protocol)
}
