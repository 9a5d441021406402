//! Opening the underlay and changing it while the switch runs.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tracing::{info, warn};
use weft_vxlan::{HeaderFormat, entropy::SourcePorts};

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
        events::ErrorQueues,
        sockets::{DontFragment, Gso, OuterPorts, UnderlayError, UnderlaySettings, UnderlaySockets, open_receivers},
        udp::Receiver,
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
    /// What is listened for.
    formats: Vec<HeaderFormat>,
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
    Opened(OpenUnderlay, Vec<Underlay>, ErrorQueues),
    /// It stays, but for what it listens for.
    Listening {
        /// Receivers of formats that are new, each with one for each worker.
        opened: Vec<Vec<Receiver>>,
        /// Formats that nobody speaks any more.
        closed: Vec<HeaderFormat>,
        /// All formats that are listened for then.
        formats: Vec<HeaderFormat>,
    },
}

impl Prepared {
    /// The MTU of the underlay as it will be.
    pub(super) fn mtu(&self, current: Option<&OpenUnderlay>) -> Option<u32> {
        match self {
            Self::Kept | Self::Listening { .. } => current.map(|underlay| underlay.mtu),
            Self::Closed => None,
            Self::Opened(underlay, ..) => Some(underlay.mtu),
        }
    }
}

impl Switch {
    /// Opens the underlay if it is new or its sockets have to be others.
    pub(super) async fn prepare_underlay(&mut self, wanted: &Config) -> Result<Prepared, ApplyError> {
        let Some(vtep) = &wanted.vtep else {
            return Ok(if self.underlay.is_some() { Prepared::Closed } else { Prepared::Kept });
        };
        let wish = Wish { vtep, formats: wanted.formats(), remotes: remotes(wanted), workers: self.workers.count() };
        let Some(current) = &self.underlay else { return Ok(wish.open().await?) };
        if !sockets_differ(&current.config, vtep) {
            return Ok(if current.formats == wish.formats { Prepared::Kept } else { wish.listen_beside(current)? });
        }
        if !are_in_each_others_way((&current.config, &current.formats), (vtep, &wish.formats)) {
            return Ok(wish.open().await?);
        }
        // The new sockets want the place of the old ones, which have to go first.
        self.workers.tell_all(|| Command::SetUnderlay(None));
        self.workers.barrier();
        self.path_mtus.set_ground(None).await;
        match wish.open().await {
            Ok(opened) => Ok(opened),
            Err(error) => {
                self.reopen_underlay().await;
                Err(error.into())
            }
        }
    }

    /// A change failed elsewhere: what was opened for it closes, and the old underlay comes back if it had to go.
    pub(super) async fn abandon_underlay(&mut self, prepared: Prepared) {
        let Prepared::Opened(new, ends, queues) = prepared else { return };
        drop((ends, queues));
        let was_in_the_way = self
            .underlay
            .as_ref()
            .is_some_and(|old| are_in_each_others_way((&old.config, &old.formats), (&new.config, &new.formats)));
        if was_in_the_way {
            self.reopen_underlay().await;
        }
    }

    /// Opens what was closed for a change that did not come about.
    async fn reopen_underlay(&mut self) {
        let Some(old) = self.underlay.as_ref() else { return };
        let (vtep, formats) = (old.config.clone(), old.formats.clone());
        let remotes = remotes(&self.config);
        match (Wish { vtep: &vtep, formats, remotes, workers: self.workers.count() }).open().await {
            Ok(opened) => self.install_underlay(opened).await,
            Err(error) => warn!(%error, "the underlay that was closed for a change can't be opened again"),
        }
    }

    pub(super) async fn install_underlay(&mut self, prepared: Prepared) {
        match prepared {
            Prepared::Kept => {}
            Prepared::Closed => {
                self.workers.tell_all(|| Command::SetUnderlay(None));
                self.underlay = None;
                self.ground_paths(None).await;
            }
            Prepared::Listening { opened, closed, formats } => {
                for format in closed {
                    self.workers.tell_all(|| Command::RemoveReceiver(format));
                    info!(%format, "the underlay listens for it no more");
                }
                for receivers in opened {
                    if let Some(first) = receivers.first() {
                        info!(format = %first.format(), "the underlay listens for it too");
                    }
                    self.workers.each_gets(receivers, Command::AddReceiver);
                }
                if let Some(underlay) = &mut self.underlay {
                    underlay.formats = formats;
                }
            }
            Prepared::Opened(underlay, ends, queues) => {
                let (address, formats) = (underlay.config.address, underlay.listened());
                info!(%address, formats, link = underlay.link.name, mtu = underlay.mtu, "underlay open");
                self.watch(&underlay.netns);
                self.workers.each_gets(ends, |end| Command::SetUnderlay(Some(end)));
                self.underlay = Some(underlay);
                // What fits it is known only now.
                self.republish();
                self.ground_paths(Some(queues)).await;
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
        if !events::same(&underlay.netns, netns) {
            return;
        }
        if underlay.link.index == link.index && underlay.link != *link {
            if underlay.link.mtu != link.mtu {
                info!(link = link.name, from = underlay.link.mtu, to = link.mtu, "the underlay's MTU changed");
                underlay.mtu = link.mtu;
            }
            underlay.link = link.clone();
        }
        // Another interface may be the one that leads to a VTEP.
        self.path_mtus.links_changed(underlay.mtu);
        self.republish();
    }
}

impl OpenUnderlay {
    /// What is listened for, and where.
    fn listened(&self) -> String {
        let one = |format: &HeaderFormat| format!("{format} at {}", self.config.port_of(*format));
        self.formats.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// Whether they differ in more than what is listened for.
fn sockets_differ(a: &VtepConfig, b: &VtepConfig) -> bool {
    settings(a, &[], 1) != settings(b, &[], 1) || a.netns != b.netns
}

/// Whether one of them has to close before the other can open.
fn are_in_each_others_way(a: (&VtepConfig, &[HeaderFormat]), b: (&VtepConfig, &[HeaderFormat])) -> bool {
    let ports = |(vtep, formats): (&VtepConfig, &[HeaderFormat])| -> Vec<u16> {
        formats.iter().map(|format| vtep.port_of(*format)).collect()
    };
    let same_place = a.0.address == b.0.address && a.0.netns == b.0.netns;
    same_place && ports(a).iter().any(|port| ports(b).contains(port))
}

fn settings(vtep: &VtepConfig, formats: &[HeaderFormat], workers: usize) -> UnderlaySettings {
    let (min, max) = vtep.source_port_range;
    UnderlaySettings {
        address: vtep.address,
        port: vtep.port,
        gpe_port: vtep.gpe_port,
        geneve_port: vtep.geneve_port,
        formats: formats.to_vec(),
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
    let open = || netns.making(|| UnderlaySockets::open(settings)).map_err(UnderlayOpenError::Netns);
    for _ in 0..30 {
        match open()? {
            Err(UnderlayError::AddressNotLocal { .. }) => tokio::time::sleep(Duration::from_millis(100)).await,
            opened => return Ok(opened?),
        }
    }
    Ok(open()??)
}

/// An underlay as it is to be.
struct Wish<'w> {
    vtep: &'w VtepConfig,
    formats: Vec<HeaderFormat>,
    remotes: Vec<IpAddr>,
    workers: usize,
}

impl Wish<'_> {
    async fn open(&self) -> Result<Prepared, UnderlayOpenError> {
        let Self { vtep, formats, remotes, workers } = self;
        let netns = open_netns(&vtep.netns).map_err(UnderlayOpenError::Netns)?;
        let links = Links::open(&netns)?;
        let Some(link) = links.holding(vtep.address).await? else {
            return Err(UnderlayOpenError::NoAddress { address: vtep.address, netns: netns.to_string() });
        };
        let sockets = open_sockets(&netns, &settings(vtep, formats, *workers)).await?;
        let outer_ports =
            sockets.outer_ports().map_err(|source| UnderlayError::Io { doing: "read a socket's address", source })?;
        let queues = sockets.error_queues();
        let ends = sockets.into_ends().into_iter().map(Underlay::Udp).collect();
        let mtu = if link.loopback { smallest_route(&links, vtep.address, remotes).await } else { link.mtu };
        let (config, formats) = ((*vtep).clone(), formats.clone());
        Ok(Prepared::Opened(OpenUnderlay { config, formats, netns, link, mtu, outer_ports }, ends, queues))
    }

    /// Opens what an underlay with the same sockets lacks.
    fn listen_beside(&self, current: &OpenUnderlay) -> Result<Prepared, UnderlayOpenError> {
        let settings = settings(self.vtep, &self.formats, self.workers);
        let mut opened = Vec::new();
        for format in self.formats.iter().filter(|format| !current.formats.contains(format)) {
            let receivers = current.netns.making(|| open_receivers(&settings, *format));
            opened.push(receivers.map_err(UnderlayOpenError::Netns)??);
        }
        let closed = current.formats.iter().copied().filter(|format| !self.formats.contains(format)).collect();
        Ok(Prepared::Listening { opened, closed, formats: self.formats.clone() })
    }
}
