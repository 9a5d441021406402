//! Interfaces of the namespace that the calling thread is in: their names, indices and drop counters. No unsafe code is
//! needed for these, but whoever opens a device needs them.

use std::{fmt, io, os::fd::OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send};

use super::inside;

/// A name that the kernel takes for an interface: 1 to 15 bytes, without `/`, `:`, `%` and white space, and neither `.`
/// nor `..` (`net/core/dev.c:dev_valid_name`; `%` would ask the kernel to number the interface, `__dev_alloc_name`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct InterfaceName(String);

/// Why a text is no [`InterfaceName`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// No bytes at all.
    #[error("an interface needs a name")]
    Empty,
    /// More than 15 bytes; the kernel's field is 16 with the final zero (IFNAMSIZ).
    #[error("an interface name has at most 15 bytes, this one has {0}")]
    TooLong(usize),
    /// A character that the kernel refuses, or `.` or `..`.
    #[error("an interface name has no '/', ':', '%', control characters or blanks, and is neither '.' nor '..'")]
    Forbidden,
}

impl InterfaceName {
    /// Checks a name.
    ///
    /// # Errors
    /// What the name breaks.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let forbidden =
            |b: u8| matches!(b, b'/' | b':' | b'%' | 0x7f) || b.is_ascii_control() || b.is_ascii_whitespace();
        match name {
            "" => Err(NameError::Empty),
            _ if name.len() > libc::IFNAMSIZ - 1 => Err(NameError::TooLong(name.len())),
            "." | ".." => Err(NameError::Forbidden),
            // The kernel's isspace() knows Latin-1's no-break space, so it refuses that byte wherever UTF-8 has it.
            _ if name.bytes().any(|b| forbidden(b) || b == 0xa0) => Err(NameError::Forbidden),
            _ => Ok(Self(name.to_owned())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The interface's index in the calling thread's namespace; `None` if there is no such interface.
    ///
    /// # Errors
    /// Anything but "no such device".
    pub fn index(&self) -> io::Result<Option<u32>> {
        let socket = inside::socket(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        match netdevice::name_to_index(&socket, &self.0) {
            Ok(index) => Ok(Some(index)),
            Err(rustix::io::Errno::NODEV) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Asks the kernel for one interface's drop counters, in the namespace where this was made, whatever thread asks later and
/// however the interface is called by then. The counters are the interface's; there are none for each queue.
#[derive(Debug)]
pub struct LinkDrops {
    socket: OwnedFd,
    index: u32,
}

impl LinkDrops {
    /// Prepares to ask about the interface with this index.
    ///
    /// # Errors
    /// What `socket(2)` says.
    pub fn new(index: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // No protocol is protocol 0, NETLINK_ROUTE.
        let socket = inside::socket(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        Ok(Self { socket, index })
    }

    /// What the interface has dropped since it was made. Two system calls.
    ///
    /// # Errors
    /// The interface is gone (ENODEV), or what the kernel says; an answer that can't be read is
    /// [`io::ErrorKind::InvalidData`].
    pub fn ask(&self) -> io::Result<Dropped> {
        send(&self.socket, &stats_request(self.index), SendFlags::empty())?;
        // rtnetlink answers within the send (net/netlink/af_netlink.c:netlink_unicast_kernel): there is nothing to wait for.
        let mut answer = [0; 1024];
        let (len, _) = recv(&self.socket, &mut answer, RecvFlags::empty())?;
        dropped_of(&answer[..len])
    }
}

/// Frames that the kernel dropped at an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped {
    /// Arrived, and dropped before anybody could read them: the card had no room, or the processor's backlog had none
    /// (`net.core.netdev_max_backlog`, `net/core/dev.c:enqueue_to_backlog`).
    pub receive: u64,
    /// Were to be sent. For a tap, that is what the kernel had for its reader and could not queue: the ring was full, or
    /// nobody had the queue open (`drivers/net/tun.c:tun_net_xmit`).
    pub transmit: u64,
}

// include/uapi/linux/netlink.h, rtnetlink.h, if_link.h
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWSTATS: u16 = 92;
const RTM_GETSTATS: u16 = 94;
const IFLA_STATS_LINK_64: u16 = 1;
const NLMSG_HDR_LEN: usize = 16;
const STATS_MSG_LEN: usize = 12;
/// `struct rtnl_link_stats64`: packets, bytes, errors and dropped, each first received, then sent.
const RX_DROPPED_AT: usize = 6 * 8;
const TX_DROPPED_AT: usize = 7 * 8;

/// `nlmsghdr` (length, type, flags, sequence, port) and `if_stats_msg` (family, padding, index, filter mask).
fn stats_request(index: u32) -> [u8; NLMSG_HDR_LEN + STATS_MSG_LEN] {
    let mut message = [0; NLMSG_HDR_LEN + STATS_MSG_LEN];
    message[..4].copy_from_slice(&((NLMSG_HDR_LEN + STATS_MSG_LEN) as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&RTM_GETSTATS.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    message[20..24].copy_from_slice(&index.to_ne_bytes());
    message[24..28].copy_from_slice(&(1u32 << (IFLA_STATS_LINK_64 - 1)).to_ne_bytes());
    message
}

fn dropped_of(answer: &[u8]) -> io::Result<Dropped> {
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "netlink answer without link statistics");
    let kind = field(answer, 4).map(u16::from_ne_bytes).ok_or_else(unreadable)?;
    match kind {
        NLMSG_ERROR => {
            let errno = field(answer, NLMSG_HDR_LEN).map(i32::from_ne_bytes).ok_or_else(unreadable)?;
            Err(io::Error::from_raw_os_error(errno.wrapping_neg()))
        }
        RTM_NEWSTATS => {
            let mut attributes = answer.get(NLMSG_HDR_LEN + STATS_MSG_LEN..).unwrap_or_default();
            while let (Some(len), Some(kind)) = (field(attributes, 0), field(attributes, 2)) {
                let (len, kind) = (usize::from(u16::from_ne_bytes(len)), u16::from_ne_bytes(kind));
                if kind == IFLA_STATS_LINK_64 {
                    let counter = |at| field(attributes, 4 + at).map(u64::from_ne_bytes).ok_or_else(unreadable);
                    return Ok(Dropped { receive: counter(RX_DROPPED_AT)?, transmit: counter(TX_DROPPED_AT)? });
                }
                attributes = attributes.get(len.next_multiple_of(4).max(4)..).unwrap_or_default();
            }
            Err(unreadable())
        }
        _ => Err(unreadable()),
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_what_the_kernel_takes() {
        for good in ["lo", "eth0", "a", "fifteen-bytes-x", "...", "veth@2", "grün"] {
            assert_eq!(InterfaceName::new(good).unwrap().as_str(), good);
        }
        assert_eq!(InterfaceName::new(""), Err(NameError::Empty));
        assert_eq!(InterfaceName::new("sixteen-bytes-xx"), Err(NameError::TooLong(16)));
        for bad in [".", "..", "a/b", "a:1", "tap%d", "a b", "a\tb", "a\n", "a\0", "\u{a0}"] {
            assert_eq!(InterfaceName::new(bad), Err(NameError::Forbidden), "{bad:?}");
        }
    }

    #[test]
    fn loopback_has_index_one_and_no_drops_as_a_rule() {
        let lo = InterfaceName::new("lo").unwrap();
        assert_eq!(lo.index().unwrap(), Some(1));
        LinkDrops::new(1).unwrap().ask().unwrap();
        let none = LinkDrops::new(0x7fff_fff0).unwrap().ask().unwrap_err();
        assert_eq!(none.raw_os_error(), Some(libc::ENODEV));
        assert_eq!(InterfaceName::new("no-such-port").unwrap().index().unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(mut answer: Vec<u8>, kind in prop_oneof![Just(RTM_NEWSTATS), Just(NLMSG_ERROR)]) {
            if let Some(bytes) = answer.get_mut(4..6) {
                bytes.copy_from_slice(&kind.to_ne_bytes());
            }
            let _ = dropped_of(&answer);
        }
    }
}
