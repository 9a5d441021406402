//! Steps done: over netlink, in `/proc/sys`, by `nft`, and by starting a weft.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    sync::Weak,
};

use rtnetlink::{
    LinkBridge, LinkBridgePort, LinkBridgeVlan, LinkIpVlan, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth,
    LinkVlan, LinkVxlan, RouteMessageBuilder,
    packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        link::{
            BridgePortState, BridgeStpState, BridgeVlanInfoFlags, InfoData, InfoVeth, IpVlanMode, LinkMessage,
            MacVlanMode, VxlanDf,
        },
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
        route::{RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType},
    },
};

use super::step::{Action, Device, Parameter, Step, VlanPort};
use crate::{
    control::{
        config::Cidr,
        link::{LinkError, Links},
    },
    lab::{
        LabError, Namespace, find_program,
        running::{self, switches},
        topology::{
            BridgePort, Df, FdbEntry, Interface, Kind, Mode, Neighbour, PortState, Prefix, Refuse, Route, VlanMember,
        },
        weft_config::namespace_name,
    },
    sys::netns::Netns,
    wire::MacAddr,
};

/// Where steps are done: a lab by its name, and its namespaces as far as they are there.
#[derive(Debug)]
pub(in crate::lab) struct Site {
    lab: String,
    weft: PathBuf,
    hosts: BTreeMap<String, Namespace>,
}

impl Site {
    /// A lab of which nothing is there yet. `weft` is the program that its wefts run.
    pub(in crate::lab) fn empty(lab: &str, weft: &Path) -> Self {
        Self { lab: lab.to_owned(), weft: weft.to_owned(), hosts: BTreeMap::new() }
    }

    /// A lab whose hosts are there.
    ///
    /// # Errors
    /// One is not.
    pub(in crate::lab) fn of<'n>(
        lab: &str,
        weft: &Path,
        hosts: impl IntoIterator<Item = &'n str>,
    ) -> Result<Self, LabError> {
        let mut site = Self::empty(lab, weft);
        for host in hosts {
            site.hosts.insert(host.to_owned(), running::namespace(lab, host)?);
        }
        Ok(site)
    }

    /// The program that the lab's wefts run.
    pub(in crate::lab) fn weft(&self) -> &Path {
        &self.weft
    }

    /// A host.
    ///
    /// # Errors
    /// It is not there.
    pub(in crate::lab) fn host(&self, name: &str) -> Result<&Namespace, LabError> {
        let missing = || LabError::Invalid(format!("{} has no host {name}", self.lab));
        self.hosts.get(name).ok_or_else(missing)
    }

    /// Does one step.
    ///
    /// # Errors
    /// What the kernel or a program says.
    pub(in crate::lab) fn apply(&mut self, step: &Step) -> Result<(), LabError> {
        if step.action == Action::Namespace {
            let namespace = make_namespace(&self.lab, &step.host)?;
            self.hosts.insert(step.host.clone(), namespace);
            return Ok(());
        }
        let host = self.host(&step.host)?;
        match &step.action {
            Action::Namespace => Ok(()),
            Action::Make(device) => self.make(host, device),
            Action::Delete(name) => host.delete(name),
            Action::Up(name, true) => host.up(name),
            Action::Up(name, false) => host.down(name),
            Action::Mtu(name, mtu) => host.mtu(name, *mtu),
            Action::Mac(name, mac) => host.mac(name, *mac),
            Action::Enslave(name, Some(bridge)) => host.enslave(name, bridge),
            Action::Enslave(name, None) => host.release(name),
            Action::Port(name, port) => set_port(host, name, *port),
            Action::AddVlan(port, member) => add_vlan(host, port, member),
            Action::RemoveVlan(port, id) => remove_vlan(host, port, *id),
            Action::AddAddress(name, address) => host.address(name, &address.to_string()),
            Action::RemoveAddress(name, address) => {
                host.links(async |links| links.remove_address(name, cidr(*address)).await)
            }
            Action::AddRoute(route) => add_route(host, route),
            Action::RemoveRoute(route) => remove_route(host, route),
            Action::AddNeighbour(neighbour) => add_neighbour(host, neighbour),
            Action::RemoveNeighbour(neighbour) => remove_neighbour(host, neighbour),
            Action::AddFdb(entry) => add_fdb(host, entry),
            Action::RemoveFdb(entry) => remove_fdb(host, entry),
            Action::Sysctl(parameter) => set_parameter(host, parameter),
            Action::Nft(text) => nft(host, text),
            Action::Weft(config) => switches::start(&self.lab, host, &self.weft, config),
            Action::StopWeft => switches::stop(&self.lab, host),
            Action::AddBpf(bpf) => super::super::bpf::attach(host, bpf),
            Action::RemoveBpf(name) => super::super::bpf::detach(host, name),
        }
    }

    /// Makes an interface in its host, at once with all that it is born with. It is never anywhere else.
    fn make(&self, host: &Namespace, device: &Device) -> Result<(), LabError> {
        let Device { interface, other } = device;
        let name = interface.name.as_str();
        let attempt = format!("make the {}", interface.kind.word());
        // What rests on another interface is made where that is.
        let (maker, parent) = match other {
            Some((parent_host, parent)) if interface.kind != Kind::Veth => {
                (self.host(parent_host)?, Some(parent.name.as_str()))
            }
            _ => (host, None),
        };
        let elsewhere = (maker.full_name() != host.full_name()).then(|| host.netns().as_fd().as_raw_fd());
        let peer = match other {
            Some((peer_host, peer)) if interface.kind == Kind::Veth => Some((self.host(peer_host)?, peer)),
            _ => None,
        };
        maker.links(async |links| {
            let parent = match parent {
                Some(parent) => Some(links.by_name(parent).await?.index),
                None => None,
            };
            let message = match interface.kind {
                Kind::Veth => {
                    let Some((peer_host, peer)) = peer else { return Ok(()) };
                    let far_end = born(LinkMessageBuilder::<LinkUnspec>::new().name(&peer.name), peer)
                        .setns_by_fd(peer_host.netns().as_fd().as_raw_fd())
                        .build();
                    let message = LinkVeth::new(name, &peer.name);
                    born(message, interface).set_info_data(InfoData::Veth(InfoVeth::Peer(far_end))).build()
                }
                Kind::Bridge => bridge(interface),
                Kind::Vxlan => vxlan(interface, parent),
                Kind::Vlan => {
                    let id = u16::try_from(interface.id.unwrap_or_default()).unwrap_or_default();
                    moved(born(LinkVlan::new(name, parent.unwrap_or_default(), id), interface), elsewhere)
                }
                Kind::Macvlan => {
                    let mode = match interface.mode {
                        Some(Mode::Private) => MacVlanMode::Private,
                        Some(Mode::Vepa) => MacVlanMode::Vepa,
                        Some(Mode::Passthru) => MacVlanMode::Passthrough,
                        Some(Mode::Bridge | Mode::L2 | Mode::L3 | Mode::L3s) | None => MacVlanMode::Bridge,
                    };
                    moved(born(LinkMacVlan::new(name, parent.unwrap_or_default(), mode), interface), elsewhere)
                }
                Kind::Ipvlan => {
                    let mode = match interface.mode {
                        Some(Mode::L3) => IpVlanMode::L3,
                        Some(Mode::L3s) => IpVlanMode::L3S,
                        Some(Mode::L2 | Mode::Bridge | Mode::Private | Mode::Vepa | Mode::Passthru) | None => {
                            IpVlanMode::L2
                        }
                    };
                    moved(born(LinkIpVlan::new(name, parent.unwrap_or_default(), mode), interface), elsewhere)
                }
                Kind::Tap | Kind::Loopback => return Ok(()),
            };
            links.create(name, message, attempt).await
        })
    }
}

/// Makes a host's namespace under its name, its loopback up.
fn make_namespace(lab: &str, host: &str) -> Result<Namespace, LabError> {
    let full_name = namespace_name(lab, host);
    let failed = |error| LabError::step(format!("make namespace {full_name}"), error);
    let netns = Netns::create().map_err(failed)?.labelled(&format!("namespace {full_name}"));
    netns.bind_name(&full_name).map_err(failed)?;
    let namespace = Namespace::new(host, &full_name, netns, Weak::new());
    namespace.up("lo")?;
    Ok(namespace)
}

/// What an interface of any kind is born with.
fn born<T>(message: LinkMessageBuilder<T>, interface: &Interface) -> LinkMessageBuilder<T> {
    let mut message = message;
    if let Some(mac) = interface.mac {
        message = message.address(mac.octets().to_vec());
    }
    if let Some(mtu) = interface.mtu {
        message = message.mtu(mtu);
    }
    message
}

fn moved<T>(message: LinkMessageBuilder<T>, elsewhere: Option<i32>) -> LinkMessage {
    match elsewhere {
        Some(netns) => message.setns_by_fd(netns).build(),
        None => message.build(),
    }
}

fn bridge(interface: &Interface) -> LinkMessage {
    let mut message = born(LinkBridge::new(&interface.name), interface);
    if let Some(stp) = interface.stp {
        message = message.stp_state(if stp { BridgeStpState::KernelStp } else { BridgeStpState::Disabled });
    }
    // A kernel built without VLANs refuses the very mention of them.
    if let Some(filtering) = interface.vlan_filtering {
        message = message.vlan_filtering(filtering);
    }
    if let Some(seconds) = interface.ageing {
        message = message.ageing_time(seconds.saturating_mul(100));
    }
    if let Some(snooping) = interface.snooping {
        message = message.mcast_snooping(snooping);
    }
    message.build()
}

fn vxlan(interface: &Interface, parent: Option<u32>) -> LinkMessage {
    let port = interface.udp_port.unwrap_or(super::commands::VXLAN_PORT);
    let mut message = born(LinkVxlan::new(&interface.name, interface.id.unwrap_or_default()), interface).port(port);
    match interface.local {
        Some(IpAddr::V4(local)) => message = message.local(local),
        Some(IpAddr::V6(local)) => message = message.local6(local),
        None => {}
    }
    if let Some(learning) = interface.learning {
        message = message.learning(learning);
    }
    if let Some(ttl) = interface.ttl {
        message = message.ttl(ttl);
    }
    match interface.df {
        Some(Df::Set) => message = message.df(VxlanDf::Set),
        Some(Df::Unset) => message = message.df(VxlanDf::Unset),
        Some(Df::Inherit) => message = message.df(VxlanDf::Inherit),
        None => {}
    }
    if let Some(parent) = parent {
        message = message.dev(parent);
    }
    message.build()
}

fn set_port(host: &Namespace, name: &str, port: BridgePort) -> Result<(), LabError> {
    let BridgePort { isolated, hairpin, learning, flood, bcast_flood, mcast_flood, locked, neigh_suppress, state } =
        port;
    let mut message = LinkBridgePort::new(0);
    if let Some(on) = isolated {
        message = message.isolated(on);
    }
    if let Some(on) = hairpin {
        message = message.hairpin(on);
    }
    if let Some(on) = learning {
        message = message.learning(on);
    }
    if let Some(on) = flood {
        message = message.flood(on);
    }
    if let Some(on) = bcast_flood {
        message = message.bcast_flood(on);
    }
    if let Some(on) = mcast_flood {
        message = message.mcast_flood(on);
    }
    if let Some(on) = locked {
        message = message.locked(on);
    }
    if let Some(on) = neigh_suppress {
        message = message.neigh_suppress(on);
    }
    match state {
        Some(PortState::Forwarding) => message = message.state(BridgePortState::Forwarding),
        Some(PortState::Listening) => message = message.state(BridgePortState::Listening),
        Some(PortState::Disabled) => message = message.state(BridgePortState::Disabled),
        None => {}
    }
    host.links(async |links| links.change(name, message, "set its options as a bridge's port".to_owned()).await)
}

fn add_vlan(host: &Namespace, port: &VlanPort, member: &VlanMember) -> Result<(), LabError> {
    let mut flags = BridgeVlanInfoFlags::empty();
    flags.set(BridgeVlanInfoFlags::Pvid, member.pvid);
    flags.set(BridgeVlanInfoFlags::Untagged, member.untagged);
    host.links(async |links| {
        let message = vlan_message(links, port, member.id, flags).await?;
        let request = RouteNetlinkMessage::SetLink(message);
        links.acknowledged(&port.interface, request, 0, format!("add VLAN {}", member.id)).await
    })
}

fn remove_vlan(host: &Namespace, port: &VlanPort, id: u16) -> Result<(), LabError> {
    host.links(async |links| {
        let message = vlan_message(links, port, id, BridgeVlanInfoFlags::empty()).await?;
        let request = RouteNetlinkMessage::DelLink(message);
        links.acknowledged(&port.interface, request, 0, format!("remove VLAN {id}")).await
    })
}

async fn vlan_message(
    links: &Links,
    port: &VlanPort,
    id: u16,
    flags: BridgeVlanInfoFlags,
) -> Result<LinkMessage, LinkError> {
    let message = LinkBridgeVlan::new(links.by_name(&port.interface).await?.index).vlan(id, flags);
    Ok(if port.itself { message.bridge_self().build() } else { message.build() })
}

fn cidr(prefix: Prefix) -> Cidr {
    Cidr { address: prefix.address, prefix_len: prefix.len }
}

fn add_route(host: &Namespace, route: &Route) -> Result<(), LabError> {
    host.links(async |links| {
        let request = RouteNetlinkMessage::NewRoute(route_message(links, route, RouteProtocol::Boot).await?);
        links.acknowledged(&route.to.to_string(), request, NLM_F_CREATE | NLM_F_EXCL, "add the route".to_owned()).await
    })
}

fn remove_route(host: &Namespace, route: &Route) -> Result<(), LabError> {
    host.links(async |links| {
        // Whoever made it: that of an address is the kernel's.
        let request = RouteNetlinkMessage::DelRoute(route_message(links, route, RouteProtocol::Unspec).await?);
        links.acknowledged(&route.to.to_string(), request, 0, "remove the route".to_owned()).await
    })
}

async fn route_message(links: &Links, route: &Route, protocol: RouteProtocol) -> Result<RouteMessage, LinkError> {
    let index = match &route.interface {
        Some(name) => Some(links.by_name(name).await?.index),
        None => None,
    };
    let to = route.prefix();
    let mut message = RouteMessageBuilder::<IpAddr>::new().protocol(protocol);
    // The addresses are of one family, which was checked; a message without them the kernel refuses with its own words.
    message = message.clone().destination_prefix(to.address, to.len).unwrap_or(message);
    if let Some(via) = route.via {
        message = message.clone().gateway(via).unwrap_or(message);
    }
    if let Some(source) = route.source {
        message = message.clone().pref_source(source).unwrap_or(message);
    }
    if let Some(index) = index {
        message = message.output_interface(index);
    }
    if let Some(refuse) = route.refuse {
        message = message.kind(match refuse {
            Refuse::Blackhole => RouteType::BlackHole,
            Refuse::Unreachable => RouteType::Unreachable,
            Refuse::Prohibit => RouteType::Prohibit,
        });
    } else if route.via.is_none() && to.address.is_ipv4() {
        message = message.scope(RouteScope::Link);
    }
    if route.onlink {
        message = message.onlink();
    }
    let mut message = message.build();
    if let Some(mtu) = route.mtu {
        message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    }
    Ok(message)
}

fn add_neighbour(host: &Namespace, neighbour: &Neighbour) -> Result<(), LabError> {
    let attempt = format!("add the neighbour {}", neighbour.address);
    host.links(async |links| {
        let request = RouteNetlinkMessage::NewNeighbour(neighbour_message(links, neighbour).await?);
        links.acknowledged(&neighbour.interface, request, NLM_F_CREATE | NLM_F_REPLACE, attempt).await
    })
}

fn remove_neighbour(host: &Namespace, neighbour: &Neighbour) -> Result<(), LabError> {
    let attempt = format!("remove the neighbour {}", neighbour.address);
    host.links(async |links| {
        let request = RouteNetlinkMessage::DelNeighbour(neighbour_message(links, neighbour).await?);
        links.acknowledged(&neighbour.interface, request, 0, attempt).await
    })
}

async fn neighbour_message(links: &Links, neighbour: &Neighbour) -> Result<NeighbourMessage, LinkError> {
    let mut message = NeighbourMessage::default();
    message.header.family = if neighbour.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = links.by_name(&neighbour.interface).await?.index;
    message.attributes.push(NeighbourAttribute::Destination(destination(neighbour.address)));
    match neighbour.mac {
        Some(mac) => {
            message.header.state = NeighbourState::Permanent;
            message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.octets().to_vec()));
        }
        None => {
            message.header.state = NeighbourState::Permanent;
            message.header.flags = NeighbourFlags::Proxy;
        }
    }
    Ok(message)
}

fn add_fdb(host: &Namespace, entry: &FdbEntry) -> Result<(), LabError> {
    let attempt = format!("add the FDB entry of {}", entry.mac);
    // In place of what was learned; beside the other VTEPs of a flood list.
    let flags = if entry.mac == MacAddr::ZERO { NLM_F_CREATE | NLM_F_APPEND } else { NLM_F_CREATE | NLM_F_REPLACE };
    host.links(async |links| {
        let request = RouteNetlinkMessage::NewNeighbour(fdb_message(links, entry).await?);
        links.acknowledged(&entry.interface, request, flags, attempt).await
    })
}

fn remove_fdb(host: &Namespace, entry: &FdbEntry) -> Result<(), LabError> {
    let attempt = format!("remove the FDB entry of {}", entry.mac);
    host.links(async |links| {
        let request = RouteNetlinkMessage::DelNeighbour(fdb_message(links, entry).await?);
        links.acknowledged(&entry.interface, request, 0, attempt).await
    })
}

async fn fdb_message(links: &Links, entry: &FdbEntry) -> Result<NeighbourMessage, LinkError> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = links.by_name(&entry.interface).await?.index;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(entry.mac.octets().to_vec()));
    match entry.remote {
        Some(remote) => {
            message.header.state = NeighbourState::Permanent;
            message.header.flags = NeighbourFlags::Own;
            message.attributes.push(NeighbourAttribute::Destination(destination(remote)));
        }
        None => {
            // NUD_NOARP is what the bridge takes for "static, not local" (`net/bridge/br_fdb.c:fdb_add_entry`).
            message.header.state = NeighbourState::Noarp;
            message.header.flags = NeighbourFlags::Controller;
        }
    }
    Ok(message)
}

fn destination(address: IpAddr) -> NeighbourAddress {
    match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    }
}

fn set_parameter(host: &Namespace, parameter: &Parameter) -> Result<(), LabError> {
    let Parameter { key, value, if_there } = parameter;
    if *if_there && !host.has_sysctl(key)? {
        return Ok(());
    }
    host.sysctl(key, &value.to_string())
}

/// Loads commands with the program `nft`, all of them or none.
fn nft(host: &Namespace, text: &str) -> Result<(), LabError> {
    if find_program("nft").is_none() {
        return Err(LabError::Invalid("the lab needs the program nft: package nftables".to_owned()));
    }
    host.command("nft").args(["-f", "-"]).input(text).timeout(running::PATIENCE).output()?.ok()?;
    Ok(())
}

/// The host's ruleset as `nft -f` takes it, without the state of counters.
pub(in crate::lab) fn ruleset(host: &Namespace) -> Result<String, LabError> {
    Ok(host.command("nft").args(["-s", "list", "ruleset"]).timeout(running::PATIENCE).output()?.ok()?.stdout)
}

/// The configuration of a weft that was written for a host, if any.
pub(in crate::lab) fn written_config(lab: &str, host: &str) -> Option<String> {
    fs::read_to_string(running::folder(lab).join(format!("{host}.toml"))).ok()
}
