//! Opening ports: the interface made or found in its namespace, its addresses set, a queue for every worker.

use std::{io, sync::Arc};

use tracing::{info, warn};

use super::{cable, handed};
use crate::{
    control::{
        config::{NetnsName, PortConfig, PortKind},
        link::{Link, LinkError, Links, open_netns},
    },
    port::{Offloads, Port, PortQueue, losses::LinkLosses, packet, plain_tap, tap},
    sys::{handed_tap::HandedError, netns::Netns, packet_socket::PacketError, tun::TapError},
    wire::MacAddr,
};

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PortOpenError {
    /// Its namespace can't be entered.
    #[error("its namespace can't be used")]
    Netns(#[source] io::Error),
    /// The tap could not be made.
    #[error("the tap can't be made")]
    Tap(#[source] TapError),
    /// weft was not started with the descriptor, or it can't be used.
    #[error("its descriptor can't be used")]
    Descriptor(#[source] io::Error),
    /// What is behind the descriptor is not what it should be.
    #[error("its descriptor can't be used")]
    Handed(#[from] HandedError),
    /// The tap could not be made for want of `/dev/net/tun`, nor a veth pair in its place.
    #[error("the tap can't be made ({tap}), and neither can a veth pair in its place")]
    Instead {
        /// Why not the one.
        tap: String,
        /// Why not the other.
        source: Box<Self>,
    },
    /// The packet socket could not be opened.
    #[error("the packet socket can't be opened")]
    Packet(#[source] PacketError),
    /// The interface could not be read or set up.
    #[error("the interface can't be set up")]
    Link(#[from] LinkError),
}

/// A port that is open.
#[derive(Clone, Debug)]
pub(super) struct OpenPort {
    pub(super) config: PortConfig,
    /// What it is: what its configuration says, or a veth pair in a tap's place.
    pub(super) kind: PortKind,
    /// Where its interface is; `None`: it is gone, or weft has no rights over its namespace. A namespace lives as long as
    /// anybody holds it, so a port that is gone must not.
    pub(super) netns: Option<Netns>,
    /// The interface or its namespace is gone, and the port has no queues any more.
    pub(super) gone: bool,
    /// Its interface as it was last heard of.
    pub(super) link: Link,
    /// What the interface lost before weft could read it; `None` also if the port is gone.
    pub(super) losses: Option<Arc<LinkLosses>>,
    pub(super) offloads: Offloads,
    /// What its MTU would be, or is, if its configuration names none.
    pub(super) default_mtu: u16,
}

impl OpenPort {
    /// Whether frames can pass.
    pub(super) fn is_up(&self) -> bool {
        !self.is_gone() && self.link.up && self.link.carrier
    }

    /// Whether its interface or its namespace was deleted.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// The interface or its namespace is gone: nothing here may keep the namespace alive.
    pub(super) fn let_go(&mut self) {
        self.gone = true;
        self.netns = None;
        self.losses = None;
    }

    /// An interface that weft can't see is taken to have the MTU that it should.
    pub(super) fn assume_mtu(&mut self) {
        if self.netns.is_none() && !self.gone {
            self.link.mtu = u32::from(self.config.mtu.unwrap_or(self.default_mtu));
        }
    }

    /// Whether this is the interface with that index.
    pub(super) fn is_interface(&self, netns: &Netns, index: u32) -> bool {
        self.link.index == index && self.netns.as_ref().is_some_and(|own| own.same_as(netns))
    }

    /// The interface's own address, if the host itself also listens on it: a packet port's. The interface of a tap or
    /// a veth pair *is* the
    /// host beyond the port.
    pub(super) fn local_mac(&self) -> Option<MacAddr> {
        match self.config.kind {
            PortKind::Packet => self.link.mac,
            PortKind::Tap | PortKind::Veth => None,
        }
    }

    /// Whether the namespace that the port was opened in no longer goes by the name it was given. A namespace lives as
    /// long as weft has a tap in it, so its end must be asked for.
    pub(super) fn namespace_has_vanished(&self) -> bool {
        let Some(netns) = &self.netns else { return false };
        if matches!(self.config.netns, NetnsName::Own | NetnsName::Descriptor(_)) {
            return false;
        }
        match open_netns(&self.config.netns) {
            Ok(found) => !found.same_as(netns),
            // No such name, or a name without a namespace. Other errors (no descriptors left) say nothing about it.
            Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput),
        }
    }
}

/// Opens a port with a queue for each of `workers`. `default_mtu` is a tap's if its configuration names none.
pub(super) async fn open(
    config: &PortConfig,
    workers: usize,
    default_mtu: u16,
) -> Result<(OpenPort, Vec<PortQueue>), PortOpenError> {
    if let NetnsName::Descriptor(handle) = &config.netns
        && let Some(tap) = handed::tap_of(handle)?
    {
        return handed::open(config, tap, workers, default_mtu).await;
    }
    let netns = open_netns(&config.netns).map_err(PortOpenError::Netns)?;
    let (kind, mut queues) = open_queues(&netns, config, workers).await?;
    let links = Links::open(&netns)?;
    set_up(&links, config, kind, default_mtu).await?;
    let link = links.by_name(&config.name).await?;
    let offloads = queues.first().map_or_else(Offloads::default, Port::offloads);
    info!(port = config.full_name(), kind = kind.name(), mtu = link.mtu, mac = ?link.mac, "port open");
    let losses = queues.iter_mut().find_map(Port::take_link_losses).map(Arc::new);
    Ok((
        OpenPort { config: config.clone(), kind, netns: Some(netns), gone: false, link, losses, offloads, default_mtu },
        queues,
    ))
}

/// Opens the queues, and says of which kind they are. Without `/dev/net/tun` a veth pair takes a tap's place.
async fn open_queues(
    netns: &Netns,
    config: &PortConfig,
    workers: usize,
) -> Result<(PortKind, Vec<PortQueue>), PortOpenError> {
    if config.kind == PortKind::Veth {
        return Ok((PortKind::Veth, cable::lay(netns, config, workers).await?));
    }
    match netns.making(|| open_inside(config, workers)).map_err(PortOpenError::Netns)? {
        Err(PortOpenError::Tap(error)) if error.is_without_device() => {
            let why = format!("{:#}", anyhow::Error::from(error));
            let port = config.full_name();
            warn!(port, why, "a veth pair takes the tap's place, which costs throughput");
            match cable::lay(netns, config, workers).await {
                Ok(queues) => Ok((PortKind::Veth, queues)),
                Err(source) => Err(PortOpenError::Instead { tap: why, source: Box::new(source) }),
            }
        }
        opened => Ok((config.kind, opened?)),
    }
}

fn open_inside(config: &PortConfig, workers: usize) -> Result<Vec<PortQueue>, PortOpenError> {
    Ok(match config.kind {
        PortKind::Tap if config.offload => {
            let queues = tap::open(&config.name, workers).map_err(PortOpenError::Tap)?;
            queues.into_iter().map(PortQueue::Tap).collect()
        }
        PortKind::Tap => {
            let queues = plain_tap::open(&config.name, workers).map_err(PortOpenError::Tap)?;
            queues.into_iter().map(PortQueue::PlainTap).collect()
        }
        // A veth pair's far end is where its maker opens it.
        PortKind::Packet | PortKind::Veth => {
            let queues = packet::open(&config.name, workers, config.offload).map_err(PortOpenError::Packet)?;
            queues.into_iter().map(PortQueue::Packet).collect()
        }
    })
}

/// A packet port's interface belongs to somebody else: only what the configuration names is changed on it.
pub(super) async fn set_up(
    links: &Links,
    config: &PortConfig,
    kind: PortKind,
    default_mtu: u16,
) -> Result<(), LinkError> {
    if let Some(mac) = config.mac {
        links.set_mac(&config.name, mac).await?;
    }
    if let Some(mtu) = config.mtu.or_else(|| kind.is_made().then_some(default_mtu)) {
        links.set_mtu(&config.name, u32::from(mtu)).await?;
    }
    if let Some(length) = queue_length(config, kind) {
        links.set_queue_length(&config.name, length).await?;
    }
    for cidr in &config.addresses {
        links.add_address(&config.name, *cidr).await?;
    }
    if kind.is_made() {
        links.set_up(&config.name, true).await?;
    }
    Ok(())
}

/// How many frames a tap is to hold for each worker. The queue of the others is their socket.
fn queue_length(config: &PortConfig, kind: PortKind) -> Option<u32> {
    match kind {
        PortKind::Tap => Some(config.queue_length.unwrap_or(PortConfig::DEFAULT_QUEUE_LENGTH)),
        PortKind::Veth | PortKind::Packet => None,
    }
}

/// Changes on the interface what differs between two configurations of one port.
pub(super) async fn change(port: &OpenPort, to: &PortConfig, default_mtu: u16) -> Result<(), LinkError> {
    let from = &port.config;
    if port.gone {
        return Ok(());
    }
    let Some(netns) = &port.netns else {
        return handed::refuse_settings(to).map_err(|error| LinkError::Invalid {
            interface: to.name.clone(),
            netns: to.netns.to_string(),
            reason: error.to_string(),
        });
    };
    let links = Links::open(netns)?;
    if let Some(mac) = to.mac.filter(|_| from.mac != to.mac) {
        links.set_mac(&to.name, mac).await?;
    }
    let mtu = to.mtu.or_else(|| to.kind.is_made().then_some(default_mtu));
    // What was last heard of the interface may be old; setting what is set already costs nothing.
    if let Some(mtu) = mtu {
        links.set_mtu(&to.name, u32::from(mtu)).await?;
    }
    if let Some(length) = queue_length(to, port.kind).filter(|_| from.queue_length != to.queue_length) {
        links.set_queue_length(&to.name, length).await?;
    }
    // What can fail comes first, so that there is less to take back.
    for new in to.addresses.iter().filter(|cidr| !from.addresses.contains(cidr)) {
        unless(io::ErrorKind::AlreadyExists, links.add_address(&to.name, *new).await)?;
    }
    for gone in from.addresses.iter().filter(|cidr| !to.addresses.contains(cidr)) {
        unless(io::ErrorKind::AddrNotAvailable, links.remove_address(&to.name, *gone).await)?;
    }
    restore_addresses(&links, to).await
}

/// With the first IPv4 address of a subnet the kernel removes all others of it (`net.ipv4.conf.*.promote_secondaries` is
/// off by default): those that were to stay are put back.
async fn restore_addresses(links: &Links, config: &PortConfig) -> Result<(), LinkError> {
    let held = links.addresses(&config.name).await?;
    for lost in config.addresses.iter().filter(|cidr| cidr.address.is_ipv4() && !held.contains(cidr)) {
        links.add_address(&config.name, *lost).await?;
    }
    Ok(())
}

/// Makes the interface again what it was before a [`change`] to `to`, which may have failed half-way.
///
/// # Errors
/// The last thing that could not be taken back; the others are.
pub(super) async fn undo_change(port: &OpenPort, to: &PortConfig) -> Result<(), LinkError> {
    let before = &port.config;
    let Some(netns) = &port.netns else { return Ok(()) };
    let links = Links::open(netns)?;
    let mut outcome = Ok(());
    if let Some(mac) = port.link.mac.filter(|_| before.mac != to.mac) {
        outcome = links.set_mac(&before.name, mac).await.and(outcome);
    }
    outcome = links.set_mtu(&before.name, port.link.mtu).await.and(outcome);
    if let Some(length) = queue_length(before, port.kind).filter(|_| before.queue_length != to.queue_length) {
        outcome = links.set_queue_length(&before.name, length).await.and(outcome);
    }
    for new in to.addresses.iter().filter(|cidr| !before.addresses.contains(cidr)) {
        outcome = unless(io::ErrorKind::AddrNotAvailable, links.remove_address(&before.name, *new).await).and(outcome);
    }
    restore_addresses(&links, before).await.and(outcome)
}

/// This kind of error means that there was nothing to take back.
fn unless(kind: io::ErrorKind, done: Result<(), LinkError>) -> Result<(), LinkError> {
    done.or_else(|error| if error.kind() == kind { Ok(()) } else { Err(error) })
}

/// Whether a changed configuration needs the port to be closed and opened again.
pub(super) fn needs_reopening(from: &PortConfig, to: &PortConfig) -> bool {
    // A tap whose address was set and no longer is: only a new one has the kernel's choice again.
    from.kind != to.kind || from.offload != to.offload || (from.mac.is_some() && to.mac.is_none())
}
