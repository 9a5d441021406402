//! rtnetlink(7) at a rate of many thousands a second: a socket that stays open, requests put together by hand, answers
//! waited for in place.
//!
//! [`super::Namespace`] has a method for what a lab is built of. Whoever changes an option of a kernel device between any two
//! frames, and reads its FDB after each sequence, can't afford a thread and a runtime for it, and needs attributes that no
//! library knows yet. The kernel answers within the send (`net/netlink/af_netlink.c`: `netlink_unicast_kernel`).

use std::{io, os::fd::OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use crate::sys::netns::Netns;

// include/uapi/linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLA_F_NESTED: u16 = 0x8000;
const HEADER_LEN: usize = 16;

/// Makes what a request names if it is not there (NLM_F_CREATE).
pub const CREATE: u16 = 0x400;
/// Refuses if it is there (NLM_F_EXCL).
pub const EXCLUSIVE: u16 = 0x200;
/// Replaces what is there (NLM_F_REPLACE).
pub const REPLACE: u16 = 0x100;
/// Adds to what is there (NLM_F_APPEND).
pub const APPEND: u16 = 0x800;

/// An rtnetlink socket of one namespace.
#[derive(Debug)]
pub struct Rtnl {
    socket: OwnedFd,
    sequence: u32,
    buffer: Box<[u8]>,
}

impl Rtnl {
    /// Opens a socket in a namespace, which it keeps alive.
    ///
    /// # Errors
    /// The namespace can't be entered, or descriptors have run out.
    pub fn open(netns: &Netns) -> io::Result<Self> {
        let open = || socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None);
        let socket = netns.within(open)??;
        Ok(Self { socket, sequence: 0, buffer: vec![0; 256 << 10].into_boxed_slice() })
    }

    /// Asks for a change and waits for yes or no.
    ///
    /// # Errors
    /// The kernel's refusal, with its number.
    pub fn change(&mut self, request: &Request, flags: u16) -> io::Result<()> {
        self.send(request, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        self.answers(|_, _| {})
    }

    /// Asks for all of a table; `each` gets the bytes behind the netlink header of each answer.
    ///
    /// # Errors
    /// As [`Rtnl::change`].
    pub fn dump(&mut self, request: &Request, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        self.send(request, NLM_F_REQUEST | NLM_F_DUMP)?;
        self.answers(|_, body| each(body))
    }

    /// Asks for one thing and gives what is behind the netlink header of the answer.
    ///
    /// # Errors
    /// As [`Rtnl::change`].
    pub fn get(&mut self, request: &Request) -> io::Result<Vec<u8>> {
        self.send(request, NLM_F_REQUEST | NLM_F_ACK)?;
        let mut found = Vec::new();
        self.answers(|_, body| found = body.to_vec())?;
        Ok(found)
    }

    fn send(&mut self, request: &Request, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let len = (HEADER_LEN + request.body.len()) as u32;
        let mut message = Vec::with_capacity(len as usize);
        message.extend(len.to_ne_bytes());
        message.extend(request.kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(&request.body);
        send(&self.socket, &message, SendFlags::empty())?;
        Ok(())
    }

    /// Reads answers to the end of this request's; those to an earlier one, given up half-way, are passed over.
    fn answers(&mut self, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        loop {
            let (len, _) = match recv(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            let mut rest = &self.buffer[..len];
            while let Some(message_len) = field(rest, 0).map(u32::from_ne_bytes) {
                let message = rest.get(..message_len as usize).unwrap_or(rest);
                rest = rest.get((message_len as usize).next_multiple_of(4).max(HEADER_LEN)..).unwrap_or_default();
                let (Some(kind), Some(sequence)) = (field(message, 4), field(message, 8)) else { break };
                if u32::from_ne_bytes(sequence) != self.sequence {
                    continue;
                }
                let body = message.get(HEADER_LEN..).unwrap_or_default();
                match u16::from_ne_bytes(kind) {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        let errno = field(body, 0).map_or(0, i32::from_ne_bytes);
                        return if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-errno)) };
                    }
                    kind => each(kind, body),
                }
            }
        }
    }
}

/// A request: its kind, the fixed header of that kind, attributes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    kind: u16,
    body: Vec<u8>,
}

impl Request {
    /// RTM_NEWLINK: makes or changes an interface.
    pub const NEW_LINK: u16 = 16;
    /// RTM_DELLINK.
    pub const DELETE_LINK: u16 = 17;
    /// RTM_GETLINK.
    pub const GET_LINK: u16 = 18;
    /// RTM_SETLINK: changes an interface, or with [`Request::BRIDGE_FAMILY`] a bridge's port.
    pub const SET_LINK: u16 = 19;
    /// RTM_NEWNEIGH: a neighbour or an FDB entry.
    pub const NEW_NEIGHBOUR: u16 = 28;
    /// RTM_DELNEIGH.
    pub const DELETE_NEIGHBOUR: u16 = 29;
    /// RTM_GETNEIGH.
    pub const GET_NEIGHBOUR: u16 = 30;
    /// RTM_NEWMDB: a member of a multicast group.
    pub const NEW_GROUP: u16 = 84;
    /// RTM_DELMDB.
    pub const DELETE_GROUP: u16 = 85;
    /// RTM_GETMDB.
    pub const GET_GROUP: u16 = 86;
    /// AF_BRIDGE.
    pub const BRIDGE_FAMILY: u8 = 7;

    /// About an interface (`struct ifinfomsg`). `flags` are set or cleared as `mask` says.
    pub fn link(kind: u16, family: u8, index: u32, flags: u32, mask: u32) -> Self {
        let mut body = vec![family, 0, 0, 0];
        body.extend(index.to_ne_bytes());
        body.extend(flags.to_ne_bytes());
        body.extend(mask.to_ne_bytes());
        Self { kind, body }
    }

    /// About a neighbour (`struct ndmsg`).
    pub fn neighbour(kind: u16, family: u8, index: u32, state: u16, flags: u8) -> Self {
        let mut body = vec![family, 0, 0, 0];
        body.extend(index.to_ne_bytes());
        body.extend(state.to_ne_bytes());
        body.extend([flags, 0]);
        Self { kind, body }
    }

    /// About something else: `header` is the fixed header of that kind, such as `struct rtmsg`.
    pub fn plain(kind: u16, header: &[u8]) -> Self {
        Self { kind, body: header.to_vec() }
    }

    /// About the multicast groups of a bridge (`struct br_port_msg`).
    pub fn groups(kind: u16, bridge: u32) -> Self {
        let mut body = vec![Self::BRIDGE_FAMILY, 0, 0, 0];
        body.extend(bridge.to_ne_bytes());
        Self { kind, body }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, attribute: u16, value: &[u8]) -> Self {
        push(&mut self.body, attribute, value);
        self
    }

    /// Adds an attribute that holds others.
    #[must_use]
    pub fn nest(mut self, attribute: u16, inside: &Nest) -> Self {
        push(&mut self.body, attribute | NLA_F_NESTED, &inside.0);
        self
    }
}

/// Attributes inside an attribute.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Nest(Vec<u8>);

impl Nest {
    /// What it holds, as it goes on the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, attribute: u16, value: &[u8]) -> Self {
        push(&mut self.0, attribute, value);
        self
    }

    /// Adds an attribute that holds others.
    #[must_use]
    pub fn nest(mut self, attribute: u16, inside: &Self) -> Self {
        push(&mut self.0, attribute | NLA_F_NESTED, &inside.0);
        self
    }
}

fn push(bytes: &mut Vec<u8>, attribute: u16, value: &[u8]) {
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(attribute.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The attributes in `bytes`, the mark of nesting taken off their numbers. What is cut off ends them.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(field(bytes, 0)?));
        let number = u16::from_ne_bytes(field(bytes, 2)?) & 0x3fff;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((number, value))
    })
}

/// The attribute of this number, if it is there.
pub fn attribute(bytes: &[u8], number: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == number).map(|(_, value)| value)
}

/// `N` bytes at an offset, if they are there.
pub fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_put_in_comes_out() {
        let inside = Nest::default().with(1, b"bridge\0").nest(2, &Nest::default().with(9, &[1, 2]));
        let request = Request::link(Request::NEW_LINK, 0, 7, 0, 0).with(3, b"br0\0").nest(18, &inside);
        let body = &request.body[16..];
        assert_eq!(attribute(body, 3), Some(&b"br0\0"[..]));
        let inner = attribute(body, 18).unwrap();
        assert_eq!(attribute(inner, 1), Some(&b"bridge\0"[..]));
        assert_eq!(attribute(attribute(inner, 2).unwrap(), 9), Some(&[1, 2][..]));
        assert_eq!(attribute(body, 4), None);
    }

    #[test]
    fn loopback_is_found_and_a_refusal_has_its_number() {
        let mut rtnl = Rtnl::open(&Netns::own().unwrap()).unwrap();
        let found = rtnl.get(&Request::link(Request::GET_LINK, 0, 1, 0, 0)).unwrap();
        assert_eq!(attribute(&found[16..], 3), Some(&b"lo\0"[..]));
        let none = rtnl.get(&Request::link(Request::GET_LINK, 0, 0x7fff_fff0, 0, 0)).unwrap_err();
        assert_eq!(none.raw_os_error(), Some(19), "ENODEV");
        let mut names = 0;
        rtnl.dump(&Request::link(Request::GET_LINK, 0, 0, 0, 0), |_| names += 1).unwrap();
        assert!(names > 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
