//! Changes of interfaces that the opener makes for weft: which, and how.
//!
//! A message is read into types, held against what the control plane sends, and written anew from these: what the kernel gets
//! is what was looked at. Allowed are
//! - the address, the MTU, the queue length and the state of an interface, by its name;
//! - IP addresses, added and removed;
//! - a veth pair between the two namespaces that are sent along, in the place of a tap; and to delete one that was made so.
//!
//! Not so: routes, rules, bridges, to move or rename interfaces, whatever else `ip` can do.

// Matches here are on the hundreds of things that rtnetlink can say, of which weft says a few.
#![allow(clippy::wildcard_enum_match_arm)]

use std::{
    collections::HashSet,
    io::{self, ErrorKind},
    os::fd::{AsFd, AsRawFd, RawFd},
};

use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        address::AddressAttribute,
        link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    },
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send};

use super::super::{inside, interface::InterfaceName, netns::Netns};

/// Veth pairs that were made here, by namespace and name: none else is deleted.
pub(super) type Made = HashSet<(u64, String)>;

/// Checks a message, sends it in `netns`, and returns what the kernel answers.
pub(super) fn make(netns: &Netns, far: Option<&Netns>, message: &[u8], made: &mut Made) -> io::Result<Vec<u8>> {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message)
        .map_err(|error| no(&format!("it can't be read: {error}")))?;
    let flags = message.header.flags;
    let NetlinkPayload::InnerMessage(content) = message.payload else { return Err(no("it carries nothing")) };
    let far = far.map(|far| far.as_fd().as_raw_fd());
    let checked = check(content, flags, far, |name| made.contains(&(netns.inode(), name.to_owned())))?;
    let answer = exchange(netns, &checked.message, flags)?;
    if let Some(name) = checked.makes.filter(|_| is_yes(&answer)) {
        made.insert((netns.inode(), name));
    }
    Ok(answer)
}

#[derive(Debug)]
struct Checked {
    message: RouteNetlinkMessage,
    /// The veth pair that it makes.
    makes: Option<String>,
}

fn check(
    message: RouteNetlinkMessage,
    flags: u16,
    far: Option<RawFd>,
    is_made: impl Fn(&str) -> bool,
) -> io::Result<Checked> {
    const CHANGE: u16 = NLM_F_REQUEST | NLM_F_ACK;
    const CREATE: u16 = CHANGE | NLM_F_CREATE | NLM_F_EXCL;
    let unmade = |message| Ok(Checked { message, makes: None });
    match (message, flags) {
        (RouteNetlinkMessage::NewLink(link), CHANGE) => {
            settings(&link)?;
            unmade(RouteNetlinkMessage::NewLink(link))
        }
        (RouteNetlinkMessage::NewLink(link), CREATE) => {
            let name = name_of(&link)?;
            let link = veth(link, far.ok_or_else(|| no("a veth pair has two namespaces"))?)?;
            Ok(Checked { message: RouteNetlinkMessage::NewLink(link), makes: Some(name) })
        }
        (RouteNetlinkMessage::DelLink(link), CHANGE) => {
            if link.header.index != 0 || link.attributes.len() != 1 || !is_made(&name_of(&link)?) {
                return Err(no("it deletes something else than weft's own veth pair"));
            }
            unmade(RouteNetlinkMessage::DelLink(link))
        }
        (RouteNetlinkMessage::NewAddress(address), CREATE) => {
            addresses_only(&address.attributes)?;
            unmade(RouteNetlinkMessage::NewAddress(address))
        }
        (RouteNetlinkMessage::DelAddress(address), CHANGE) => {
            addresses_only(&address.attributes)?;
            unmade(RouteNetlinkMessage::DelAddress(address))
        }
        _ => Err(no("it is of another kind")),
    }
}

/// Names one interface, and sets nothing but what weft sets.
fn settings(link: &LinkMessage) -> io::Result<()> {
    name_of(link)?;
    let is_setting = |attribute: &LinkAttribute| {
        matches!(
            attribute,
            LinkAttribute::IfName(_) | LinkAttribute::Address(_) | LinkAttribute::Mtu(_) | LinkAttribute::TxQueueLen(_)
        )
    };
    if link.header.index != 0 || !link.attributes.iter().all(is_setting) {
        return Err(no("it sets something else than an address, an MTU, a queue length"));
    }
    if !(link.header.change_mask | link.header.flags).difference(LinkFlags::Up).is_empty() {
        return Err(no("it changes other flags than whether the interface is up"));
    }
    Ok(())
}

/// A veth pair whose other end lies in the namespace `far`.
fn veth(mut link: LinkMessage, far: RawFd) -> io::Result<LinkMessage> {
    let mut found = false;
    for attribute in &mut link.attributes {
        match attribute {
            LinkAttribute::IfName(_) => {}
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(InfoKind::Veth) => {}
                        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))) => {
                            far_end(peer, far)?;
                            found = true;
                        }
                        _ => return Err(no("it makes something else than a veth pair")),
                    }
                }
            }
            _ => return Err(no("a new veth pair gets nothing but names")),
        }
    }
    if link.header.index != 0 || !found {
        return Err(no("it makes something else than a veth pair"));
    }
    Ok(link)
}

fn far_end(peer: &mut LinkMessage, far: RawFd) -> io::Result<()> {
    name_of(peer)?;
    let mut moved = false;
    for attribute in &mut peer.attributes {
        match attribute {
            LinkAttribute::IfName(_) | LinkAttribute::Mtu(_) => {}
            // The asker's number of that descriptor means nothing here.
            LinkAttribute::NetNsFd(descriptor) => {
                *descriptor = far;
                moved = true;
            }
            _ => return Err(no("the far end gets nothing but a name and an MTU")),
        }
    }
    if moved { Ok(()) } else { Err(no("the far end has no namespace")) }
}

fn addresses_only(attributes: &[AddressAttribute]) -> io::Result<()> {
    let is_its = |attribute: &AddressAttribute| {
        matches!(
            attribute,
            AddressAttribute::Address(_)
                | AddressAttribute::Local(_)
                | AddressAttribute::Broadcast(_)
                | AddressAttribute::Flags(_)
        )
    };
    if attributes.iter().all(is_its) { Ok(()) } else { Err(no("an address gets nothing but itself and its flags")) }
}

/// The interface's name, of which there must be one.
fn name_of(link: &LinkMessage) -> io::Result<String> {
    let mut names = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    });
    match (names.next(), names.next()) {
        (Some(name), None) if InterfaceName::new(name).is_ok() => Ok(name.clone()),
        _ => Err(no("it names no interface")),
    }
}

fn exchange(netns: &Netns, message: &RouteNetlinkMessage, flags: u16) -> io::Result<Vec<u8>> {
    let mut request = NetlinkMessage::from(message.clone());
    request.header.flags = flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    let kind = (AddressFamily::NETLINK, SocketType::RAW);
    let socket = netns.making(|| inside::socket(kind.0, kind.1, SocketFlags::CLOEXEC, None))??;
    inside::ask_for_sentences(&socket)?;
    send(&socket, &bytes, SendFlags::empty())?;
    // rtnetlink answers within the send (net/netlink/af_netlink.c:netlink_unicast_kernel): there is nothing to wait for.
    let mut answer = vec![0; 8192];
    let (len, _) = recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
    answer.truncate(len);
    Ok(answer)
}

/// Whether the kernel's answer is an acknowledgement: NLMSG_ERROR with error 0.
fn is_yes(answer: &[u8]) -> bool {
    answer.get(16..20).is_some_and(|errno| errno == [0; 4])
}

fn no(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, format!("weft's opener does not make this change: {why}"))
}

#[cfg(test)]
mod tests {
    use rtnetlink::{
        LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
        packet_route::address::{AddressMessage, CacheInfo},
    };

    use super::*;

    const CHANGE: u16 = NLM_F_REQUEST | NLM_F_ACK;
    const CREATE: u16 = CHANGE | NLM_F_CREATE | NLM_F_EXCL;

    fn named(name: &str) -> LinkMessageBuilder<LinkUnspec> {
        LinkMessageBuilder::<LinkUnspec>::new().name(name)
    }

    fn judged(message: RouteNetlinkMessage, flags: u16) -> io::Result<Checked> {
        check(message, flags, Some(77), |name| name == "made0")
    }

    fn allowed(link: LinkMessage, flags: u16) -> bool {
        judged(RouteNetlinkMessage::NewLink(link), flags).is_ok()
    }

    #[test]
    fn what_the_control_plane_sets_passes() {
        assert!(allowed(named("eth0").mtu(1400).build(), CHANGE));
        assert!(allowed(named("eth0").address(vec![2, 0, 0, 0, 0, 1]).build(), CHANGE));
        assert!(allowed(named("eth0").append_extra_attribute(LinkAttribute::TxQueueLen(500)).build(), CHANGE));
        assert!(allowed(named("eth0").up().build(), CHANGE) && allowed(named("eth0").down().build(), CHANGE));
        let gone = |name: &str| judged(RouteNetlinkMessage::DelLink(named(name).build()), CHANGE);
        assert!(gone("made0").is_ok());
    }

    #[test]
    fn a_veth_pair_goes_to_the_namespace_that_was_sent_along() {
        let far = named("weft").mtu(65_535).setns_by_fd(3).build();
        let pair = LinkVeth::new("eth0", "weft").set_info_data(InfoData::Veth(InfoVeth::Peer(far))).build();
        let checked = judged(RouteNetlinkMessage::NewLink(pair), CREATE).unwrap();
        assert_eq!(checked.makes.as_deref(), Some("eth0"));
        assert!(format!("{:?}", checked.message).contains("NetNsFd(77)"), "{:?}", checked.message);
    }

    #[test]
    fn everything_else_does_not() {
        assert!(!allowed(named("eth0").controller(5).build(), CHANGE), "enslave");
        assert!(!allowed(named("eth0").setns_by_fd(3).build(), CHANGE), "move");
        assert!(!allowed(named("eth0").setns_by_pid(1).build(), CHANGE), "move");
        assert!(!allowed(named("eth0").name("eth1").build(), CHANGE), "rename");
        assert!(!allowed(named("a name too long for one").mtu(1400).build(), CHANGE));
        assert!(!allowed(LinkUnspec::new_with_index(1).mtu(1400).build(), CHANGE), "no name");
        assert!(!allowed(named("eth0").arp(false).build(), CHANGE), "NOARP");
        assert!(!allowed(named("eth0").mtu(1400).build(), CREATE), "no veth pair");
        assert!(!allowed(LinkBridge::new("br0").build(), CREATE));
        assert!(!allowed(LinkVeth::new("eth0", "eth1").build(), CREATE), "a pair that stays");
        assert!(judged(RouteNetlinkMessage::DelLink(named("eth0").build()), CHANGE).is_err(), "not made here");
        let route = RouteMessageBuilder::<std::net::Ipv4Addr>::new().output_interface(2).build();
        assert!(judged(RouteNetlinkMessage::NewRoute(route), CREATE).is_err());
        let mut address = AddressMessage::default();
        address.attributes.push(AddressAttribute::CacheInfo(CacheInfo::default()));
        assert!(judged(RouteNetlinkMessage::NewAddress(address), CREATE).is_err());
    }
}
