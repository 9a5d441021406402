//! Changes of interfaces as they happen: the multicast group RTNLGRP_LINK.

use std::io;

use rtnetlink::{
    MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{AddressFamily, RouteNetlinkMessage},
    sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket},
};
use tokio::{runtime, sync::mpsc};

use super::{Link, LinkError};
use crate::sys::{adopt, netns::Netns};

/// What happened to an interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkEvent {
    /// It was made, or something about it changed; this is how it is now. The kernel tells more often than things change.
    Changed(Link),
    /// It is gone, or was moved to another namespace.
    Deleted {
        /// The index it had.
        index: u32,
        /// The name it had last.
        name: String,
    },
    /// Events were lost, since they came faster than they were read: what is known is stale, [`super::Links::all`] says
    /// how things are.
    Resync,
}

/// Hears of all changes of the interfaces of a namespace from now on. To be called inside a tokio runtime.
///
/// The socket is open when this returns: a later change is never missed. It keeps the namespace alive, and closes when
/// the receiver is dropped. The channel ends only if the socket breaks, which is logged.
///
/// # Errors
/// The namespace can't be entered, descriptors have run out, or there is no runtime.
pub fn watch(netns: &Netns) -> Result<mpsc::Receiver<LinkEvent>, LinkError> {
    // When the receiver is slow, events wait in the socket's buffer, and when that is full the kernel says so: the channel
    // only has to be deep enough not to switch tasks at each event of a burst.
    const DEPTH: usize = 64;
    let failed = |source| LinkError::Socket { netns: netns.to_string(), source };
    let runtime = runtime::Handle::try_current().map_err(|error| failed(io::Error::other(error)))?;
    let socket = super::netlink_socket(netns).map_err(failed)?;
    let _inside = runtime.enter();
    let mut socket: TokioSocket = adopt(socket);
    socket.socket_mut().bind(&SocketAddr::new(0, 1 << (MulticastGroup::Link as u32 - 1))).map_err(failed)?;
    let (sender, receiver) = mpsc::channel(DEPTH);
    let netns = netns.to_string();
    runtime.spawn(async move {
        let closed = sender.clone();
        tokio::select! {
            () = closed.closed() => {}
            error = forward(&socket, &sender) => tracing::warn!(netns, %error, "link events end"),
        }
    });
    Ok(receiver)
}

/// Forwards events until the socket breaks; gives the reason.
async fn forward(socket: &TokioSocket, events: &mpsc::Sender<LinkEvent>) -> io::Error {
    // The kernel writes no link message larger than this (NLMSG_GOODSIZE is at most 8 KiB, a link with many virtual
    // functions needs more).
    const BUFFER_LEN: usize = 64 * 1024;
    let mut buffer = Vec::with_capacity(BUFFER_LEN);
    loop {
        buffer.clear();
        let received = match socket.recv_from(&mut buffer).await {
            Ok(_) => parse(&buffer),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                discard_waiting(socket, &mut buffer);
                vec![LinkEvent::Resync]
            }
            Err(error) => return error,
        };
        for event in received {
            if events.send(event).await.is_err() {
                return io::Error::from(io::ErrorKind::BrokenPipe);
            }
        }
    }
}

/// Throws away what waits in the socket. The lost events are *younger* than these: told after the [`LinkEvent::Resync`],
/// these would replace what its receiver has just read by something older, and nothing would ever correct it.
fn discard_waiting(socket: &TokioSocket, buffer: &mut Vec<u8>) {
    // More than any socket buffer holds, so that a namespace in uproar can't keep this going.
    const MOST: usize = 100_000;
    for _ in 0..MOST {
        buffer.clear();
        match socket.socket_ref().recv_from(buffer, libc::MSG_DONTWAIT) {
            Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => return,
            _ => {}
        }
    }
}

/// The events in one datagram. What can't be read could have been anything, so it counts as lost.
fn parse(mut datagram: &[u8]) -> Vec<LinkEvent> {
    let mut events = Vec::new();
    while !datagram.is_empty() {
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram) else {
            events.push(LinkEvent::Resync);
            break;
        };
        let len = (message.header.length as usize).next_multiple_of(4);
        let (change, deleted) = match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(change)) => (Some(change), false),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(change)) => (Some(change), true),
            _ => (None, false),
        };
        // A bridge tells of its ports in the same group, with RTM_DELLINK for an interface that only left the bridge
        // (`net/bridge/br_netlink.c:br_ifinfo_notify`).
        if let Some(change) = change.filter(|change| change.header.interface_family == AddressFamily::Unspec) {
            let link = Link::from_message(&change);
            events.push(if deleted {
                LinkEvent::Deleted { index: link.index, name: link.name }
            } else {
                LinkEvent::Changed(link)
            });
        }
        datagram = datagram.get(len..).unwrap_or_default();
    }
    events
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_can_not_be_read_counts_as_lost() {
        assert_eq!(parse(&[1, 2, 3]), [LinkEvent::Resync]);
        assert_eq!(parse(&[]), []);
    }

    #[test]
    fn fuzz_link_events() {
        crate::fuzzing::inputs(|datagram| {
            let events = parse(datagram);
            assert!(events.len() <= 1 + datagram.len() / 16, "each message has a header of 16 bytes");
        });
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            parse(&bytes);
        }

        #[test]
        fn any_link_message_is_survived(kind in 16u16..18, body in prop::collection::vec(any::<u8>(), 16..256)) {
            let header = [&(16 + body.len() as u32).to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10]].concat();
            parse(&[header, body].concat());
        }
    }
}
