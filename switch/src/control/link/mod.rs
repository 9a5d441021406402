//! Interfaces of a network namespace: reading them, changing them, hearing of their changes; rtnetlink(7).
//!
//! # Theory of operation
//! A netlink socket belongs for ever to the namespace of the thread that created it. So [`Links::open`] and [`watch`]
//! create theirs inside the namespace ([`Netns::making`]), and hand them to the caller's tokio
//! runtime afterwards, where they are driven like any other socket. One process thus talks to many namespaces at once.
//!
//! Questions and changes go by the interface's *name*: the configuration knows names, and between a question for an
//! index and its use the index could become another interface's. What comes back carries the index.
//!
//! Questions are anybody's to ask. Changes need CAP_NET_ADMIN of whoever sends them: a weft without privileges has them sent
//! by its opener ([`crate::sys::opener`]).
//!
//! Every error says which interface, in which namespace, what was tried, and (as its source) the kernel's own words,
//! which the kernel sends only to sockets that ask for them (NETLINK_EXT_ACK).

// Matches here are on the hundreds of things that the kernel may say, of which weft wants a few.
#![allow(clippy::wildcard_enum_match_arm)]

mod error;
mod parse;
mod watch;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
};

use futures_util::StreamExt;
use rtnetlink::{
    LinkMessageBuilder, LinkUnspec, RouteMessageBuilder,
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
    },
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage},
        link::{LinkAttribute, LinkMessage},
        route::{RouteAddress, RouteAttribute, RouteMessage},
    },
    sys::{AsyncSocket, TokioSocket},
};
use rustix::net::{AddressFamily as SocketFamily, SocketFlags, SocketType};
use tokio::{runtime, task::JoinHandle};

pub use self::{
    error::{LinkError, Refusal},
    parse::{Link, OperState, Route, VxlanDevice},
    watch::{LinkEvent, watch},
};
use super::config::{Cidr, NetnsName};
use crate::{
    sys::{
        adopt, inherited, inside,
        netns::Netns,
        opener::{self, NamespaceName, Opener},
    },
    wire::MacAddr,
};

/// Opens a namespace as the configuration names it.
///
/// # Errors
/// As [`Netns::open`] and its siblings; the message names the namespace.
pub fn open_netns(name: &NetnsName) -> io::Result<Netns> {
    match name {
        NetnsName::Own => NamespaceName::Own.open(),
        NetnsName::Named(name) => NamespaceName::Named(name.clone()).open(),
        NetnsName::Path(path) => NamespaceName::Path(path.clone()).open(),
        NetnsName::Pid(pid) => NamespaceName::Pid(*pid).open(),
        NetnsName::Descriptor(handle) => {
            Netns::from_descriptor(inherited::take(handle)?, &format!("namespace fd:{handle}"))
        }
    }
}

/// An rtnetlink socket of a namespace, in which weft may have to be let by a helper.
fn netlink_socket(netns: &Netns) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // No protocol is protocol 0, NETLINK_ROUTE.
    netns.making(|| inside::socket(SocketFamily::NETLINK, SocketType::RAW, flags, None))?
}

/// Whether the kernel takes this for an interface's name (`net/core/dev.c:dev_valid_name`): 1 to 15 bytes, neither `.` nor
/// `..`, without `/`, `:` and white space.
pub fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace())
}

/// The interfaces of one namespace.
///
/// Holds a netlink socket in it, which keeps the namespace alive; driven by a task of the runtime it was opened in, which
/// ends with it.
#[derive(Debug)]
pub struct Links {
    handle: rtnetlink::Handle,
    netns: String,
    /// For changes that the opener makes.
    place: Option<Netns>,
    driver: JoinHandle<()>,
}

impl Links {
    /// Opens a netlink socket in the namespace. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// The namespace can't be entered, descriptors have run out, or there is no runtime.
    pub fn open(netns: &Netns) -> Result<Self, LinkError> {
        let failed = |source| LinkError::Socket { netns: netns.to_string(), source };
        let runtime = runtime::Handle::try_current().map_err(|error| failed(io::Error::other(error)))?;
        let socket = netlink_socket(netns).map_err(failed)?;
        // The socket registers with the runtime's reactor as it is taken over.
        let _inside = runtime.enter();
        let (mut connection, handle, _) = rtnetlink::from_socket::<TokioSocket>(adopt(socket));
        let socket = connection.socket_mut().socket_mut();
        socket.set_ext_ack(true).map_err(failed)?;
        socket.set_cap_ack(true).map_err(failed)?;
        let place = opener::get().map(|_| netns.clone());
        Ok(Self { handle, netns: netns.to_string(), place, driver: runtime.spawn(connection) })
    }

    /// All interfaces, in the order of their indices.
    pub async fn all(&self) -> Result<Vec<Link>, LinkError> {
        let mut links: Vec<_> =
            self.link_messages("list the interfaces").await?.iter().map(Link::from_message).collect();
        links.sort_unstable_by_key(|link| link.index);
        Ok(links)
    }

    /// The interface of this name.
    ///
    /// # Errors
    /// [`LinkError::NoSuchInterface`] if there is none.
    pub async fn by_name(&self, name: &str) -> Result<Link, LinkError> {
        self.check_name(name)?;
        let message = LinkMessageBuilder::<LinkUnspec>::new().name(name).build();
        self.one_link(name, message).await
    }

    /// The interface of this index.
    ///
    /// # Errors
    /// [`LinkError::NoSuchInterface`] if there is none.
    pub async fn by_index(&self, index: u32) -> Result<Link, LinkError> {
        self.one_link(&format!("#{index}"), LinkUnspec::new_with_index(index).build()).await
    }

    /// The interface that carries an address, whatever its prefix length; `None`: none does.
    ///
    /// For an underlay address this says which MTU the outer packets meet first, but only if they leave by that interface.
    /// An address on `lo` (usual where hosts announce their VTEP by a routing protocol) says nothing: see
    /// [`Links::route_to`].
    pub async fn holding(&self, address: IpAddr) -> Result<Option<Link>, LinkError> {
        let held = self.address_messages("list the addresses").await?;
        match held.iter().find(|message| parse::cidr(message).is_some_and(|cidr| cidr.address == address)) {
            Some(message) => self.by_index(message.header.index).await.map(Some),
            None => Ok(None),
        }
    }

    /// How a packet to `destination` would leave, as `ip route get` shows it.
    ///
    /// # Errors
    /// There is no route (ENETUNREACH, EHOSTUNREACH), or `source` is not an address of this host (EINVAL).
    pub async fn route_to(&self, destination: IpAddr, source: Option<IpAddr>) -> Result<Route, LinkError> {
        let about = destination.to_string();
        let refused = |error| self.refused(&about, "find a route".to_owned(), error);
        let mut question = RouteMessage::default();
        let (family, prefix_len) = match destination {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        question.header.address_family = family;
        question.header.destination_prefix_length = prefix_len;
        question.attributes.push(RouteAttribute::Destination(RouteAddress::from(destination)));
        if let Some(source) = source {
            question.header.source_prefix_length = prefix_len;
            question.attributes.push(RouteAttribute::Source(RouteAddress::from(source)));
        }
        let answers = self.talk(RouteNetlinkMessage::GetRoute(question), NLM_F_REQUEST).await.map_err(refused)?;
        let Some(RouteNetlinkMessage::NewRoute(route)) = answers.into_iter().next() else {
            return Err(refused(no_answer()));
        };
        let Some(index) = parse::output_interface(&route) else {
            return Err(self.invalid(&about, "its route names no interface".to_owned()));
        };
        let link = self.by_index(index).await?;
        let mtu = parse::route_mtu(&route).map_or(link.mtu, |mtu| mtu.min(link.mtu));
        Ok(Route { link, mtu })
    }

    /// The addresses of an interface, in the kernel's order.
    pub async fn addresses(&self, name: &str) -> Result<Vec<Cidr>, LinkError> {
        let index = self.by_name(name).await?.index;
        let held = self.address_messages("list the addresses").await?;
        Ok(held.iter().filter(|message| message.header.index == index).filter_map(parse::cidr).collect())
    }

    /// The kernel's vxlan devices: a UDP port that one of them holds can't be weft's in the same namespace.
    pub async fn vxlan_devices(&self) -> Result<Vec<VxlanDevice>, LinkError> {
        Ok(self.link_messages("list the interfaces").await?.iter().filter_map(VxlanDevice::from_message).collect())
    }

    /// Sets the interface's own hardware address.
    pub async fn set_mac(&self, name: &str, mac: MacAddr) -> Result<(), LinkError> {
        let change = LinkMessageBuilder::<LinkUnspec>::new().address(mac.octets().to_vec());
        self.change(name, change, format!("set the address {mac}")).await
    }

    /// Sets the interface's MTU: bytes behind the Ethernet header.
    pub async fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), LinkError> {
        let change = LinkMessageBuilder::<LinkUnspec>::new().mtu(mtu);
        self.change(name, change, format!("set the MTU to {mtu}")).await
    }

    /// Sets how many frames wait for the interface at most: of a tap, for each of its readers (`drivers/net/tun.c`:
    /// tun_queue_resize).
    pub async fn set_queue_length(&self, name: &str, length: u32) -> Result<(), LinkError> {
        let change = LinkMessageBuilder::<LinkUnspec>::new().append_extra_attribute(LinkAttribute::TxQueueLen(length));
        self.change(name, change, format!("set the queue length to {length}")).await
    }

    /// Sets the interface up or down.
    pub async fn set_up(&self, name: &str, up: bool) -> Result<(), LinkError> {
        let change = LinkMessageBuilder::<LinkUnspec>::new();
        let (change, way) = if up { (change.up(), "up") } else { (change.down(), "down") };
        self.change(name, change, format!("set it {way}")).await
    }

    /// Adds an address. An IPv6 address is tentative, and can't be used, until the kernel has looked for duplicates.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if the interface has it.
    pub async fn add_address(&self, name: &str, cidr: Cidr) -> Result<(), LinkError> {
        self.put_address(name, cidr, false).await
    }

    /// Adds an address that can be used at once: nobody else on its link can have it (IFA_F_NODAD).
    ///
    /// # Errors
    /// As [`Links::add_address`].
    pub async fn add_address_without_dad(&self, name: &str, cidr: Cidr) -> Result<(), LinkError> {
        self.put_address(name, cidr, true).await
    }

    /// Takes an address off.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrNotAvailable`] if the interface hasn't it.
    pub async fn remove_address(&self, name: &str, cidr: Cidr) -> Result<(), LinkError> {
        let message = parse::address_message(self.by_name(name).await?.index, cidr);
        let (address, len) = (cidr.address, cidr.prefix_len);
        self.acknowledged(name, RouteNetlinkMessage::DelAddress(message), 0, format!("remove {address}/{len}")).await
    }

    /// Adds a default route by an interface.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if there is one; the gateway can't be reached by that interface.
    pub async fn add_default_route(&self, interface: &str, gateway: IpAddr) -> Result<(), LinkError> {
        let everywhere: IpAddr = match gateway {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let index = self.by_name(interface).await?.index;
        let message = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(everywhere, 0)
            .and_then(|route| route.gateway(gateway))
            .map_err(|error| self.invalid(interface, format!("no default route by {gateway}: {error}")))?
            .output_interface(index)
            .build();
        let attempt = format!("add a default route by {gateway}");
        self.acknowledged(interface, RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL, attempt).await
    }

    /// Deletes an interface.
    pub async fn delete(&self, name: &str) -> Result<(), LinkError> {
        self.check_name(name)?;
        let message = LinkMessageBuilder::<LinkUnspec>::new().name(name).build();
        self.acknowledged(name, RouteNetlinkMessage::DelLink(message), 0, "delete it".to_owned()).await
    }

    /// Makes an interface. `message` carries its name too.
    pub(crate) async fn create(&self, name: &str, message: LinkMessage, attempt: String) -> Result<(), LinkError> {
        self.create_with(name, message, None, attempt).await
    }

    /// The same, of a pair whose other end lies in the namespace `far`, which `message` names by its descriptor.
    pub(crate) async fn create_with(
        &self,
        name: &str,
        message: LinkMessage,
        far: Option<&Netns>,
        attempt: String,
    ) -> Result<(), LinkError> {
        self.check_name(name)?;
        let message = RouteNetlinkMessage::NewLink(message);
        self.acknowledged_with(name, message, NLM_F_CREATE | NLM_F_EXCL, far, attempt).await
    }

    /// Changes an interface that exists; `change` carries all but its name.
    pub(crate) async fn change<T>(
        &self,
        name: &str,
        change: LinkMessageBuilder<T>,
        attempt: String,
    ) -> Result<(), LinkError> {
        self.check_name(name)?;
        self.acknowledged(name, RouteNetlinkMessage::NewLink(change.name(name).build()), 0, attempt).await
    }

    /// Sends a request that is answered by yes or no.
    pub(crate) async fn acknowledged(
        &self,
        interface: &str,
        message: RouteNetlinkMessage,
        flags: u16,
        attempt: String,
    ) -> Result<(), LinkError> {
        self.acknowledged_with(interface, message, flags, None, attempt).await
    }

    async fn acknowledged_with(
        &self,
        interface: &str,
        message: RouteNetlinkMessage,
        flags: u16,
        far: Option<&Netns>,
        attempt: String,
    ) -> Result<(), LinkError> {
        let flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let answer = match (opener::get(), &self.place) {
            (Some(opener), Some(netns)) => by_opener(opener, netns, far, message, flags),
            _ => self.talk(message, flags).await.map(drop),
        };
        answer.map_err(|refusal| self.refused(interface, attempt, refusal))
    }

    async fn put_address(&self, name: &str, cidr: Cidr, without_dad: bool) -> Result<(), LinkError> {
        let mut message = parse::address_message(self.by_name(name).await?.index, cidr);
        if without_dad && cidr.address.is_ipv6() {
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let attempt = format!("add {}/{}", cidr.address, cidr.prefix_len);
        self.acknowledged(name, RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL, attempt).await
    }

    async fn one_link(&self, interface: &str, message: LinkMessage) -> Result<Link, LinkError> {
        let refused = |refusal| self.refused(interface, "read it".to_owned(), refusal);
        let answers = self.talk(RouteNetlinkMessage::GetLink(message), NLM_F_REQUEST).await.map_err(refused)?;
        match answers.first() {
            Some(RouteNetlinkMessage::NewLink(message)) => Ok(Link::from_message(message)),
            _ => Err(refused(no_answer())),
        }
    }

    async fn link_messages(&self, attempt: &str) -> Result<Vec<LinkMessage>, LinkError> {
        let answers = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), attempt).await?;
        let links = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(message),
            _ => None,
        });
        Ok(links.collect())
    }

    async fn address_messages(&self, attempt: &str) -> Result<Vec<AddressMessage>, LinkError> {
        let answers = self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), attempt).await?;
        let addresses = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(message) => Some(message),
            _ => None,
        });
        Ok(addresses.collect())
    }

    async fn dump(&self, message: RouteNetlinkMessage, attempt: &str) -> Result<Vec<RouteNetlinkMessage>, LinkError> {
        self.talk(message, NLM_F_REQUEST | NLM_F_DUMP)
            .await
            .map_err(|refusal| self.refused("interfaces", attempt.to_owned(), refusal))
    }

    /// Sends a request and collects what comes back until the kernel says that it was all.
    async fn talk(&self, message: RouteNetlinkMessage, flags: u16) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        // A list that changed while the kernel wrote it may lack entries or have them twice; it says so, and one asks
        // again. In a namespace that changes all the time the last answer has to do.
        const ATTEMPTS: usize = 5;
        let mut collected = Vec::new();
        for _ in 0..ATTEMPTS {
            let mut interrupted = false;
            collected.clear();
            let mut request = NetlinkMessage::from(message.clone());
            request.header.flags = flags;
            let mut answers = Box::pin(self.handle.clone().request(request)?);
            while let Some(answer) = answers.next().await {
                interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => collected.push(message),
                    NetlinkPayload::Error(error) => return Err(rtnetlink::Error::NetlinkError(error).into()),
                    _ => {}
                }
            }
            if !interrupted {
                break;
            }
        }
        Ok(collected)
    }

    fn check_name(&self, name: &str) -> Result<(), LinkError> {
        if is_interface_name(name) {
            return Ok(());
        }
        let reason = "can't be an interface's name: 1 to 15 characters, no slash, colon or space".to_owned();
        Err(self.invalid(&format!("{name:?}"), reason))
    }

    fn invalid(&self, interface: &str, reason: String) -> LinkError {
        LinkError::Invalid { interface: interface.to_owned(), netns: self.netns.clone(), reason }
    }

    fn refused(&self, interface: &str, attempt: String, source: Refusal) -> LinkError {
        let (interface, netns) = (interface.to_owned(), self.netns.clone());
        // ENODEV alone: with a sentence it is about another interface or a missing driver.
        if source.error.raw_os_error() == Some(libc::ENODEV) && source.message.is_none() {
            return LinkError::NoSuchInterface { interface, netns };
        }
        LinkError::Refused { interface, netns, attempt, source }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Has the opener send a change, and reads what the kernel answered.
fn by_opener(
    opener: &Opener,
    netns: &Netns,
    far: Option<&Netns>,
    message: RouteNetlinkMessage,
    flags: u16,
) -> Result<(), Refusal> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    let answer = opener.change(netns, far, bytes).map_err(|error| Refusal { error, message: None })?;
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map(|answer| answer.payload) {
        Ok(NetlinkPayload::Error(error)) if error.code.is_none() => Ok(()),
        Ok(NetlinkPayload::Error(error)) => Err(rtnetlink::Error::NetlinkError(error).into()),
        _ => Err(no_answer()),
    }
}

fn no_answer() -> Refusal {
    Refusal { error: io::Error::from(io::ErrorKind::UnexpectedEof), message: Some("the kernel gave no answer".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_judged_as_the_kernel_does() {
        for name in ["a", "eth0", "exactly15bytes_", "e.10", "ä"] {
            assert!(is_interface_name(name), "{name:?}");
        }
        for name in ["", ".", "..", "sixteen_bytes_xx", "a/b", "a:1", "a b", "a\tb", "a\0"] {
            assert!(!is_interface_name(name), "{name:?}");
        }
    }

    // Reading needs no privilege, so these run in whatever namespace the tests were started in.

    #[tokio::test]
    async fn loopback_is_there_and_holds_its_address() {
        let links = Links::open(&Netns::own().unwrap()).unwrap();
        let lo = links.by_name("lo").await.unwrap();
        assert_eq!((lo.index, lo.loopback), (1, true));
        assert_eq!(links.by_index(1).await.unwrap(), lo);
        assert!(links.all().await.unwrap().contains(&lo));
    }

    #[tokio::test]
    async fn a_missing_interface_is_named_with_its_namespace() {
        let links = Links::open(&Netns::own().unwrap()).unwrap();
        let error = links.by_name("weft-none").await.unwrap_err();
        assert_eq!(error.to_string(), "no such interface: weft-none in weft's own namespace");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = links.set_mtu("weft-none", 1400).await.unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied), "{error:?}");
        let error = links.by_name("a name that is too long").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn without_a_runtime_opening_fails_and_does_not_panic() {
        let error = Links::open(&Netns::own().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "can't open a netlink socket in weft's own namespace");
    }
}
