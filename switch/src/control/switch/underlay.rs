//! Opening the underlay and changing it while the switch runs.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tracing::{info, warn};
use weft_vxlan::entropy::SourcePorts;

use super::{ApplyError, Switch, events};
use crate::{
    bridge::Oversize,
    control::{
        config::{Config, Df, GsoMode, VtepConfig},
        link::{Link, LinkError, Links, open_netns},
    },
    sys::netns::Netns,
    underlay::{
        Underlay,
        sockets::{DontFragment, Gso, OuterPorts, UnderlayError, UnderlaySettings, UnderlaySockets},
    },
    worker::thread::Command,
};

/// Why the underlay could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum UnderlayOpenError {
    /// Its namespace can't be entered.
    #[error("its namespace can't be used")]
    Netns(#[source] io::Error),
    /// Its interface can't be read.
    #[error("its interface can't be found")]
    Link(#[from] LinkError),
    /// No interface has the VTEP's address.
    #[error("no interface in {netns} has the address {address}: add it, or correct `[vtep] address` or `netns`")]
    NoAddress {
        /// The address.
        address: IpAddr,
        /// Where it was looked for.
        netns: String,
    },
    /// The sockets can't be opened.
    #[error(transparent)]
    Sockets(#[from] UnderlayError),
}

/// An underlay that is open.
pub(super) struct OpenUnderlay {
    pub(super) config: VtepConfig,
    pub(super) netns: Netns,
    /// The interface that has the VTEP's address.
    pub(super) link: Link,
    /// The largest outer packet that leaves by it.
    pub(super) mtu: u32,
    pub(super) outer_ports: OuterPorts,
}

/// What the first half of a change found out about the underlay.
#[expect(clippy::large_enum_variant, reason = "there is one of it at a time")]
pub(super) enum Prepared {
    /// It stays as it is.
    Kept,
    /// It goes.
    Closed,
    /// It is open, and the workers do not have it yet.
    Opened(OpenUnderlay, Vec<Underlay>),
}

impl Prepared {
    /// The MTU of the underlay as it will be.
    pub(super) fn mtu(&self, current: Option<&OpenUnderlay>) -> Option<u32> {
        match self {
            Self::Kept => current.map(|underlay| underlay.mtu),
            Self::Closed => None,
            Self::Opened(underlay, _) => Some(underlay.mtu),
        }
    }
}

impl Switch {
    /// Opens the underlay if it is new or its sockets have to be others.
    pub(super) async fn prepare_underlay(&mut self, wanted: &Config) -> Result<Prepared, ApplyError> {
        let Some(vtep) = &wanted.vtep else {
            return Ok(if self.underlay.is_some() { Prepared::Closed } else { Prepared::Kept });
        };
        let Some(current) = &self.underlay else {
            let (underlay, ends) = open(vtep, &remotes(wanted), self.workers.count()).await?;
            return Ok(Prepared::Opened(underlay, ends));
        };
        let now = &current.config;
        if !sockets_differ(now, vtep) {
            return Ok(Prepared::Kept);
        }
        if (now.address, now.port, &now.netns) != (vtep.address, vtep.port, &vtep.netns) {
            let (underlay, ends) = open(vtep, &remotes(wanted), self.workers.count()).await?;
            return Ok(Prepared::Opened(underlay, ends));
        }
        // The new sockets want the place of the old ones, which have to go first.
        let old = now.clone();
        self.workers.tell_all(|| Command::SetUnderlay(None));
        self.workers.barrier();
        match open(vtep, &remotes(wanted), self.workers.count()).await {
            Ok((underlay, ends)) => Ok(Prepared::Opened(underlay, ends)),
            Err(error) => {
                self.reopen_underlay(&old).await;
                Err(error.into())
            }
        }
    }

    /// A change failed elsewhere: what was opened for it closes, and the old underlay comes back if it had to go.
    pub(super) async fn abandon_underlay(&mut self, prepared: Prepared) {
        let Prepared::Opened(new, ends) = prepared else { return };
        drop(ends);
        let place = |vtep: &VtepConfig| (vtep.address, vtep.port, vtep.netns.clone());
        let old = self.underlay.as_ref().map(|underlay| underlay.config.clone());
        if let Some(old) = old.filter(|old| place(old) == place(&new.config)) {
            self.reopen_underlay(&old).await;
        }
    }

    async fn reopen_underlay(&mut self, config: &VtepConfig) {
        match open(config, &remotes(&self.config), self.workers.count()).await {
            Ok((underlay, ends)) => self.install_underlay(Prepared::Opened(underlay, ends)),
            Err(error) => warn!(%error, "the underlay that was closed for a change can't be opened again"),
        }
    }

    pub(super) fn install_underlay(&mut self, prepared: Prepared) {
        match prepared {
            Prepared::Kept => {}
            Prepared::Closed => {
                self.workers.tell_all(|| Command::SetUnderlay(None));
                self.underlay = None;
            }
            Prepared::Opened(underlay, ends) => {
                let (address, port) = (underlay.config.address, underlay.config.port);
                info!(%address, port, link = underlay.link.name, mtu = underlay.mtu, "underlay open");
                self.watch(&underlay.netns);
                self.workers.each_gets(ends, |end| Command::SetUnderlay(Some(end)));
                self.underlay = Some(underlay);
                // What fits it is known only now.
                self.republish();
            }
        }
        // Rulings of the tables are not the sockets': they are always the latest.
        if let (Some(underlay), Some(vtep)) = (&mut self.underlay, &self.config.vtep) {
            underlay.config = vtep.clone();
        }
    }

    /// The underlay's interface changed.
    pub(super) fn on_underlay_event(&mut self, netns: &Netns, link: &Link) {
        let Some(underlay) = &mut self.underlay else { return };
        if underlay.link.index == link.index && events::same(&underlay.netns, netns) && underlay.link != *link {
            if underlay.link.mtu != link.mtu {
                info!(link = link.name, from = underlay.link.mtu, to = link.mtu, "the underlay's MTU changed");
                underlay.mtu = link.mtu;
            }
            underlay.link = link.clone();
            self.republish();
        }
    }
}

fn sockets_differ(a: &VtepConfig, b: &VtepConfig) -> bool {
    settings(a, 1) != settings(b, 1) || a.netns != b.netns
}

fn settings(vtep: &VtepConfig, workers: usize) -> UnderlaySettings {
    let (min, max) = vtep.source_port_range;
    UnderlaySettings {
        address: vtep.address,
        port: vtep.port,
        workers,
        source_port_range: SourcePorts::new(min, max).expect("the configuration was checked"),
        source_ports: vtep.source_ports,
        dont_fragment: match (vtep.df, vtep.oversize) {
            // What is to be fragmented outside leaves by sockets that may.
            (Df::Set, Oversize::Outer) | (Df::Inherit, _) => DontFragment::Inherit,
            (Df::Set, Oversize::Fragment | Oversize::Drop) => DontFragment::Set,
            (Df::Unset, _) => DontFragment::Unset,
        },
        gso: match vtep.gso {
            GsoMode::Auto => Gso::Auto,
            GsoMode::On => Gso::On,
            GsoMode::Off => Gso::Off,
        },
        receive_buffer: vtep.receive_buffer,
        send_buffer: vtep.send_buffer,
        checksums: vtep.sends_checksums(),
        zero_checksums_accepted: vtep.udp6zerocsumrx,
    }
}

/// An address on `lo`, as hosts have it that announce their VTEP by a routing protocol, says nothing about the way out: the
/// routes to the remotes do. Those that there is no route to now do not count; without any, Ethernet's MTU is assumed.
async fn smallest_route(links: &Links, from: IpAddr, remotes: &[IpAddr]) -> u32 {
    let mut smallest = None;
    for remote in remotes {
        if let Ok(route) = links.route_to(*remote, Some(from)).await {
            smallest = Some(smallest.map_or(route.mtu, |mtu: u32| mtu.min(route.mtu)));
        }
    }
    smallest.unwrap_or(1500)
}

fn remotes(config: &Config) -> Vec<IpAddr> {
    config.bridges.iter().flat_map(|bridge| &bridge.remotes).map(SocketAddr::ip).collect()
}

/// An IPv6 address that was set a moment ago can't be bound until the kernel is sure that nobody else has it (RFC 4862
/// section 5.4: about a second): it is waited for.
async fn open_sockets(netns: &Netns, settings: &UnderlaySettings) -> Result<UnderlaySockets, UnderlayOpenError> {
    let open = || netns.within(|| UnderlaySockets::open(settings)).map_err(UnderlayOpenError::Netns);
    for _ in 0..30 {
        match open()? {
            Err(UnderlayError::AddressNotLocal { .. }) => tokio::time::sleep(Duration::from_millis(100)).await,
            opened => return Ok(opened?),
        }
    }
    Ok(open()??)
}

async fn open(
    vtep: &VtepConfig,
    remotes: &[IpAddr],
    workers: usize,
) -> Result<(OpenUnderlay, Vec<Underlay>), UnderlayOpenError> {
    let netns = open_netns(&vtep.netns).map_err(UnderlayOpenError::Netns)?;
    let links = Links::open(&netns)?;
    let Some(link) = links.holding(vtep.address).await? else {
        return Err(UnderlayOpenError::NoAddress { address: vtep.address, netns: netns.to_string() });
    };
    let sockets = open_sockets(&netns, &settings(vtep, workers)).await?;
    let outer_ports =
        sockets.outer_ports().map_err(|source| UnderlayError::Io { doing: "read a socket's address", source })?;
    let ends = sockets.into_ends().into_iter().map(Underlay::Udp).collect();
    let mtu = if link.loopback { smallest_route(&links, vtep.address, remotes).await } else { link.mtu };
    Ok((OpenUnderlay { config: vtep.clone(), netns, link, mtu, outer_ports }, ends))
}
