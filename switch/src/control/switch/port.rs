//! Opening ports: the interface made or found in its namespace, its addresses set, a queue for every worker.

use std::io;

use tracing::info;

use crate::{
    control::{
        config::{NetnsName, PortConfig, PortKind},
        link::{Link, LinkError, Links, open_netns},
    },
    port::{Offloads, Port, PortQueue, packet, plain_tap, tap},
    sys::{netns::Netns, packet_socket::PacketError, tun::TapError},
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
    pub(super) netns: Netns,
    /// Its interface as it was last heard of.
    pub(super) link: Link,
    pub(super) offloads: Offloads,
    /// What its MTU would be, or is, if its configuration names none.
    pub(super) default_mtu: u16,
    /// The interface or its namespace is gone; the port has no queues any more.
    pub(super) gone: bool,
}

impl OpenPort {
    /// Whether frames can pass.
    pub(super) fn is_up(&self) -> bool {
        !self.gone && self.link.up && self.link.carrier
    }

    /// The interface's own address, if the host itself also listens on it: a packet port's. A tap's interface *is* the
    /// host beyond the port.
    pub(super) fn local_mac(&self) -> Option<MacAddr> {
        match self.config.kind {
            PortKind::Packet => self.link.mac,
            PortKind::Tap => None,
        }
    }

    /// Whether the namespace that the port was opened in still goes by the name it was given. A namespace lives as long
    /// as weft has a tap in it, so its end must be asked for.
    pub(super) fn namespace_is_there(&self) -> bool {
        let name = &self.config.netns;
        *name == NetnsName::Own || open_netns(name).is_ok_and(|found| found.same_as(&self.netns))
    }
}

/// Opens a port with a queue for each of `workers`. `default_mtu` is a tap's if its configuration names none.
pub(super) async fn open(
    config: &PortConfig,
    workers: usize,
    default_mtu: u16,
) -> Result<(OpenPort, Vec<PortQueue>), PortOpenError> {
    let netns = open_netns(&config.netns).map_err(PortOpenError::Netns)?;
    let queues = netns.within(|| open_queues(config, workers)).map_err(PortOpenError::Netns)??;
    let links = Links::open(&netns)?;
    set_up(&links, config, default_mtu).await?;
    let link = links.by_name(&config.name).await?;
    let offloads = queues.first().map_or_else(Offloads::default, Port::offloads);
    info!(port = config.full_name(), kind = config.kind.name(), mtu = link.mtu, mac = ?link.mac, "port open");
    Ok((OpenPort { config: config.clone(), netns, link, offloads, default_mtu, gone: false }, queues))
}

fn open_queues(config: &PortConfig, workers: usize) -> Result<Vec<PortQueue>, PortOpenError> {
    Ok(match config.kind {
        PortKind::Tap if config.offload => {
            let queues = tap::open(&config.name, workers).map_err(PortOpenError::Tap)?;
            queues.into_iter().map(PortQueue::Tap).collect()
        }
        PortKind::Tap => {
            let queues = plain_tap::open(&config.name, workers).map_err(PortOpenError::Tap)?;
            queues.into_iter().map(PortQueue::PlainTap).collect()
        }
        PortKind::Packet => {
            let queues = packet::open(&config.name, workers, config.offload).map_err(PortOpenError::Packet)?;
            queues.into_iter().map(PortQueue::Packet).collect()
        }
    })
}

/// A packet port's interface belongs to somebody else: only what the configuration names is changed on it.
async fn set_up(links: &Links, config: &PortConfig, default_mtu: u16) -> Result<(), LinkError> {
    if let Some(mac) = config.mac {
        links.set_mac(&config.name, mac).await?;
    }
    match (config.mtu, config.kind) {
        (Some(mtu), PortKind::Tap | PortKind::Packet) => links.set_mtu(&config.name, u32::from(mtu)).await?,
        (None, PortKind::Tap) => links.set_mtu(&config.name, u32::from(default_mtu)).await?,
        (None, PortKind::Packet) => {}
    }
    for cidr in &config.addresses {
        links.add_address(&config.name, *cidr).await?;
    }
    match config.kind {
        PortKind::Tap => links.set_up(&config.name, true).await,
        PortKind::Packet => Ok(()),
    }
}

/// Changes on the interface what differs between two configurations of one port.
pub(super) async fn change(port: &OpenPort, to: &PortConfig, default_mtu: u16) -> Result<(), LinkError> {
    let from = &port.config;
    let links = Links::open(&port.netns)?;
    if let Some(mac) = to.mac.filter(|_| from.mac != to.mac) {
        links.set_mac(&to.name, mac).await?;
    }
    let mtu = match to.kind {
        PortKind::Tap => Some(to.mtu.unwrap_or(default_mtu)),
        PortKind::Packet => to.mtu,
    };
    if let Some(mtu) = mtu.map(u32::from).filter(|mtu| *mtu != port.link.mtu) {
        links.set_mtu(&to.name, mtu).await?;
    }
    for gone in from.addresses.iter().filter(|cidr| !to.addresses.contains(cidr)) {
        links.remove_address(&to.name, *gone).await?;
    }
    for new in to.addresses.iter().filter(|cidr| !from.addresses.contains(cidr)) {
        links.add_address(&to.name, *new).await?;
    }
    Ok(())
}

/// Whether a changed configuration needs the port to be closed and opened again.
pub(super) fn needs_reopening(from: &PortConfig, to: &PortConfig) -> bool {
    // A tap whose address was set and no longer is: only a new one has the kernel's choice again.
    from.kind != to.kind || from.offload != to.offload || (from.mac.is_some() && to.mac.is_none())
}
