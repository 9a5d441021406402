//! The steps of building a lab, and their order.

use std::collections::BTreeMap;

use crate::{
    lab::{
        LabError,
        topology::{
            Bpf, BridgePort, FdbEntry, Host, Interface, Kind, Neighbour, Prefix, Route, Setting, Topology, VlanMember,
        },
        weft_config,
    },
    wire::MacAddr,
};

/// One step in one host.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::lab) struct Step {
    /// By its name in the lab.
    pub(in crate::lab) host: String,
    pub(in crate::lab) action: Action,
}

/// What is done. Interfaces are named as in their host.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::lab) enum Action {
    /// Makes the host's namespace, its loopback up.
    Namespace,
    /// Makes an interface, down. Of a cable both ends.
    Make(Box<Device>),
    Delete(String),
    Up(String, bool),
    Mtu(String, u32),
    Mac(String, MacAddr),
    /// Makes it a bridge's port, or nobody's.
    Enslave(String, Option<String>),
    Port(String, BridgePort),
    AddVlan(VlanPort, VlanMember),
    RemoveVlan(VlanPort, u16),
    AddAddress(String, Prefix),
    RemoveAddress(String, Prefix),
    AddRoute(Route),
    RemoveRoute(Route),
    AddNeighbour(Neighbour),
    RemoveNeighbour(Neighbour),
    AddFdb(FdbEntry),
    RemoveFdb(FdbEntry),
    Sysctl(Parameter),
    /// Commands for `nft -f`.
    Nft(String),
    /// Starts the host's weft with this configuration.
    Weft(String),
    StopWeft,
    AddBpf(Bpf),
    RemoveBpf(String),
}

/// An interface to be made, and what it rests on in which host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::lab) struct Device {
    pub(in crate::lab) interface: Interface,
    /// Of a cable the other end, of others the parent: host and interface.
    pub(in crate::lab) other: Option<(String, Interface)>,
}

/// Where VLANs are set: a bridge's port, or the bridge itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::lab) struct VlanPort {
    pub(in crate::lab) interface: String,
    pub(in crate::lab) itself: bool,
}

/// A kernel parameter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::lab) struct Parameter {
    pub(in crate::lab) key: String,
    pub(in crate::lab) value: Setting,
    /// That the kernel has no such parameter is no error.
    pub(in crate::lab) if_there: bool,
}

/// All steps that build a lab of this name.
///
/// # Errors
/// Its parts can't be put together; a topology that was checked has none of these mistakes.
pub(in crate::lab) fn plan(topology: &Topology, lab: &str) -> Result<Vec<Step>, LabError> {
    let mut plan = Vec::new();
    let all = |plan: &mut Vec<Step>, actions: &dyn Fn(&Host) -> Result<Vec<Action>, LabError>| {
        for host in &topology.hosts {
            let steps = actions(host)?.into_iter().map(|action| Step { host: host.name.clone(), action });
            plan.extend(steps);
        }
        Ok::<_, LabError>(())
    };
    all(&mut plan, &|_| Ok(vec![Action::Namespace]))?;
    all(&mut plan, &|host| Ok(parameters(host, false)))?;
    for kind in MADE {
        all(&mut plan, &|host| {
            let here = host.interfaces.iter().filter(|interface| interface.kind == kind);
            here.filter_map(|interface| make(topology, host, interface).transpose()).collect()
        })?;
    }
    all(&mut plan, &|host| Ok(host.interfaces.iter().flat_map(attach).collect()))?;
    for kind in MADE {
        all(&mut plan, &|host| {
            Ok(host.interfaces.iter().filter(|interface| interface.kind == kind).flat_map(address).collect())
        })?;
    }
    let has_tap = |host: &Host| host.interfaces.iter().any(|interface| interface.kind == Kind::Tap);
    all(&mut plan, &|host| Ok(host.nft.iter().cloned().map(Action::Nft).collect()))?;
    all(&mut plan, &|host| Ok(if has_tap(host) { Vec::new() } else { tables(host) }))?;
    all(&mut plan, &|host| {
        let Some(weft) = &host.weft else { return Ok(Vec::new()) };
        Ok(vec![Action::Weft(weft_config::text(topology, host, weft, lab).map_err(LabError::Invalid)?)])
    })?;
    all(&mut plan, &|host| Ok(if has_tap(host) { tables(host) } else { Vec::new() }))?;
    all(&mut plan, &|host| Ok(host.bpf.iter().cloned().map(Action::AddBpf).collect()))?;
    Ok(plan)
}

/// The steps that make one interface as `interface` says, and give its host back what went with the one before.
pub(in crate::lab) fn again(topology: &Topology, host: &Host, interface: &Interface) -> Result<Vec<Step>, LabError> {
    let mut steps = Vec::new();
    let mut ends = vec![(host, interface.clone())];
    // A cable's other end goes with this one, and so comes again with it.
    if interface.kind == Kind::Veth
        && let Some((other_host, other)) = interface.peer.as_deref().and_then(|peer| topology.interface(peer))
    {
        ends.push((other_host, other.clone()));
    }
    let mut push = |host: &Host, actions: Vec<Action>| {
        steps.extend(actions.into_iter().map(|action| Step { host: host.name.clone(), action }));
    };
    push(
        host,
        vec![Action::Make(Box::new(Device { interface: interface.clone(), other: other(topology, host, interface)? }))],
    );
    for (host, interface) in &ends {
        push(host, attach(interface));
        push(host, address(interface));
    }
    for (host, interface) in &ends {
        push(host, tables(host));
        let bpf = host
            .bpf
            .iter()
            .filter(|bpf| bpf.interface == interface.name || bpf.redirect.values().any(|to| *to == interface.name));
        push(host, bpf.cloned().map(Action::AddBpf).collect());
    }
    Ok(steps)
}

/// The steps that give a host back what it should have besides its interfaces themselves; what it has already is refused.
pub(in crate::lab) fn restoring(host: &Host) -> Vec<Step> {
    let made = host.interfaces.iter().filter(|interface| interface.kind != Kind::Tap);
    let mut actions: Vec<_> =
        made.flat_map(|interface| attach(interface).into_iter().chain(address(interface))).collect();
    actions.retain(|action| !matches!(action, Action::RemoveVlan(..)));
    actions.extend(tables(host));
    actions.into_iter().map(|action| Step { host: host.name.clone(), action }).collect()
}

/// What can be made, each kind after those it may rest on.
const MADE: [Kind; 7] =
    [Kind::Loopback, Kind::Bridge, Kind::Veth, Kind::Vxlan, Kind::Vlan, Kind::Macvlan, Kind::Ipvlan];

/// Parameters: those of interfaces, or all the others.
fn parameters(host: &Host, of_interfaces: bool) -> Vec<Action> {
    let mut parameters: BTreeMap<String, (Setting, bool)> = BTreeMap::new();
    if host.interfaces.iter().any(|interface| interface.kind == Kind::Bridge) {
        for table in ["arptables", "ip6tables", "iptables"] {
            parameters.insert(format!("net.bridge.bridge-nf-call-{table}"), (Setting::Number(0), true));
        }
    }
    parameters.extend(host.sysctl.iter().map(|(key, value)| (key.clone(), (value.clone(), false))));
    let is_of_interface = |key: &String| {
        let named = |part: &str| host.interfaces.iter().any(|interface| interface.name == part.replace('/', "."));
        key.split('.').any(named)
    };
    let wanted = parameters.into_iter().filter(|(key, _)| is_of_interface(key) == of_interfaces);
    wanted.map(|(key, (value, if_there))| Action::Sysctl(Parameter { key, value, if_there })).collect()
}

/// How an interface is made; `None`: it is there, or comes with a cable's other end.
fn make(topology: &Topology, host: &Host, interface: &Interface) -> Result<Option<Action>, LabError> {
    if interface.kind == Kind::Loopback {
        return Ok(None);
    }
    let full_name = format!("{}/{}", host.name, interface.name);
    // The end that comes first in the file makes both.
    let first = |peer: &String| {
        let names = topology.hosts.iter().flat_map(|host| host.interfaces.iter().map(move |i| (&host.name, &i.name)));
        names.map(|(host, name)| format!("{host}/{name}")).find(|name| *name == full_name || name == peer)
    };
    if interface.peer.as_ref().and_then(first).is_some_and(|first| first != full_name) {
        return Ok(None);
    }
    let other = other(topology, host, interface)?;
    Ok(Some(Action::Make(Box::new(Device { interface: interface.clone(), other }))))
}

fn other(topology: &Topology, host: &Host, interface: &Interface) -> Result<Option<(String, Interface)>, LabError> {
    let Some(name) = interface.peer.as_ref().or(interface.parent.as_ref()) else { return Ok(None) };
    let full_name = if name.contains('/') { name.clone() } else { format!("{}/{name}", host.name) };
    let found = topology.interface(&full_name).map(|(host, interface)| (host.name.clone(), interface.clone()));
    let missing =
        || LabError::Invalid(format!("there is no interface {full_name} for {}/{}", host.name, interface.name));
    Ok(Some(found.ok_or_else(missing)?))
}

/// What makes an interface a bridge's port, as it should be one.
fn attach(interface: &Interface) -> Vec<Action> {
    let name = &interface.name;
    let mut actions = Vec::new();
    if let Some(bridge) = &interface.bridge {
        actions.push(Action::Enslave(name.clone(), Some(bridge.clone())));
    }
    if let Some(port) = interface.port {
        actions.push(Action::Port(name.clone(), port));
    }
    if !interface.vlan.is_empty() {
        let port = VlanPort { interface: name.clone(), itself: interface.kind == Kind::Bridge };
        // The one that every port gets (`net/bridge/br_vlan.c:br_vlan_init`).
        actions.push(Action::RemoveVlan(port.clone(), 1));
        actions.extend(interface.vlan.iter().map(|member| Action::AddVlan(port.clone(), *member)));
    }
    actions
}

fn address(interface: &Interface) -> Vec<Action> {
    let name = &interface.name;
    let mut actions: Vec<_> =
        interface.address.iter().map(|address| Action::AddAddress(name.clone(), *address)).collect();
    if interface.kind != Kind::Loopback {
        actions.push(Action::Up(name.clone(), true));
    }
    if interface.kind == Kind::Vxlan {
        let flood = |&remote| FdbEntry { interface: name.clone(), mac: MacAddr::ZERO, remote: Some(remote) };
        actions.extend(interface.remotes.iter().map(flood).map(Action::AddFdb));
    }
    actions
}

/// What needs the host's interfaces.
fn tables(host: &Host) -> Vec<Action> {
    let mut actions = parameters(host, true);
    actions.extend(host.neighbours.iter().cloned().map(Action::AddNeighbour));
    actions.extend(host.fdb.iter().cloned().map(Action::AddFdb));
    actions.extend(host.routes.iter().cloned().map(Action::AddRoute));
    actions
}
