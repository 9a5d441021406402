//! Breaking a lab on purpose, and mending it.
//!
//! Before each change its opposite is found out from how things are at that moment, and written down in the lab's folder;
//! mending does the opposites in reverse and then puts back what went with what was changed: an interface that is set down
//! loses its routes, one that loses an address loses the routes behind it.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{RunningLab, folder, lock, namespace, programs, switches, write};
use crate::lab::{
    LabError, Namespace,
    build::{Action, Parameter, Step, VlanPort, again, restoring, ruleset, written_config},
    conntrack,
    topology::{BridgePort, Change, Fault, Host, Interface, Kind, PortState, Setting, Topology, VlanMember},
    weft_config,
};

/// Forgets what IPv4 learned besides its routes (`net/ipv4/route.c:ipv4_sysctl_rtcache_flush`).
const FLUSH_ROUTE_CACHE: &str = "net.ipv4.route.flush";

/// A fault that was put in, and how it is mended.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Broken {
    pub(super) fault: String,
    /// In the order in which it is done.
    mend: Vec<Change>,
}

/// The faults of a lab that were put in and not mended, in their order.
pub(super) fn broken(lab: &str) -> Result<Vec<Broken>, LabError> {
    let path = file(lab);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| LabError::Invalid(format!("{} is not understood: {error}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(LabError::step(format!("read {}", path.display()), error)),
    }
}

impl RunningLab {
    /// Puts a fault in.
    ///
    /// # Errors
    /// There is no such fault, it is in already, or a change fails; then what was changed is changed back.
    pub fn inject(&mut self, name: &str) -> Result<&Fault, LabError> {
        let _lock = lock(&self.name)?;
        self.put_in(name)
    }

    fn put_in(&mut self, name: &str) -> Result<&Fault, LabError> {
        let mut all = broken(&self.name)?;
        if all.iter().any(|broken| broken.fault == name) {
            return Err(LabError::Invalid(format!("{name} is in {} already: `--mend` takes it out", self.name)));
        }
        let Some(fault) = self.topology.fault(name).cloned() else {
            let known: Vec<_> = self.topology.faults.iter().map(|fault| fault.name.as_str()).collect();
            let what = format!("the lab {} has no fault {name}; it has {}", self.name, known.join(", "));
            return Err(LabError::Invalid(what));
        };
        let mut mend = Vec::new();
        for change in &fault.change {
            let done = self.opposite(change).and_then(|opposite| {
                self.apply_change(change)?;
                Ok(opposite)
            });
            match done {
                // The last change is the first to be changed back.
                Ok(opposite) => mend.splice(0..0, opposite).for_each(drop),
                Err(error) => {
                    if let Err(left) = self.do_all(&mend).and_then(|()| self.reassert(&fault.change)) {
                        tracing::warn!(error = &left as &dyn std::error::Error, "a fault could not be taken out whole");
                    }
                    return Err(error);
                }
            }
        }
        all.push(Broken { fault: name.to_owned(), mend });
        save(&self.name, &all)?;
        self.topology.fault(name).ok_or_else(|| LabError::Invalid(format!("no fault {name}")))
    }

    /// Takes a fault out, or all that were put in, the last one first; gives their names.
    ///
    /// # Errors
    /// The fault is not in, or a change fails.
    pub fn mend(&mut self, name: Option<&str>) -> Result<Vec<String>, LabError> {
        let _lock = lock(&self.name)?;
        let mut all = broken(&self.name)?;
        if let Some(name) = name
            && all.iter().all(|broken| broken.fault != name)
        {
            return Err(LabError::Invalid(format!("{name} was not put into {}", self.name)));
        }
        // Mending gives hosts back what the lab says of them; faults that stay are put in again afterwards.
        let mut mended = Vec::new();
        while let Some(Broken { fault, mend }) = all.pop() {
            self.do_all(&mend)?;
            let changes = self.topology.fault(&fault).map(|fault| fault.change.clone()).unwrap_or_default();
            self.reassert(&changes)?;
            save(&self.name, &all)?;
            mended.push(fault);
        }
        // Path MTUs that routers told while something was broken would be believed for ten minutes more.
        for host in &self.topology.hosts {
            let host = self.site.host(&host.name)?;
            if host.has_sysctl(FLUSH_ROUTE_CACHE)? {
                host.sysctl(FLUSH_ROUTE_CACHE, "1")?;
            }
        }
        let (mended, stay): (Vec<_>, Vec<_>) =
            mended.into_iter().partition(|fault| name.is_none_or(|name| fault == name));
        for fault in stay.iter().rev() {
            self.put_in(fault)?;
        }
        Ok(mended)
    }

    /// The faults that are in.
    ///
    /// # Errors
    /// The lab's folder can't be read.
    pub fn broken(&self) -> Result<Vec<String>, LabError> {
        Ok(broken(&self.name)?.into_iter().map(|broken| broken.fault).collect())
    }

    fn do_all(&mut self, changes: &[Change]) -> Result<(), LabError> {
        changes.iter().try_for_each(|change| self.apply_change(change))
    }

    /// What undoes a change, as things are before it.
    fn opposite(&self, change: &Change) -> Result<Vec<Change>, LabError> {
        let place = Place::of(&self.topology, change)?;
        let host = self.site.host(&place.host.name)?;
        let blank = || Change { host: change.host.clone(), at: change.at.clone(), ..Change::default() };
        let on_host = || Change { host: Some(place.host.name.clone()), ..Change::default() };
        let mut back = Vec::new();
        if let Some(name) = place.interface
            && (change.up.is_some() || change.mtu.is_some() || change.mac.is_some() || change.bridge.is_some())
        {
            let link = host.link(name)?;
            if change.up.is_some() {
                back.push(Change { up: Some(link.up), ..blank() });
            }
            if change.mtu.is_some() {
                back.push(Change { mtu: Some(link.mtu), ..blank() });
            }
            if change.mac.is_some() {
                back.push(Change { mac: link.mac, ..blank() });
            }
            if change.bridge.is_some() {
                let bridge = match link.master {
                    Some(index) => host.links(async |links| links.by_index(index).await)?.name,
                    None => String::new(),
                };
                back.push(Change { bridge: Some(bridge), port: place.declared().and_then(|i| i.port), ..blank() });
            }
        }
        if let Some(port) = change.port {
            let declared = place.declared().and_then(|interface| interface.port).unwrap_or_default();
            back.push(Change { port: Some(port_before(port, declared)), ..blank() });
        }
        let declared_vlan = |id| {
            let members = place.declared().into_iter().flat_map(|interface| &interface.vlan);
            members.copied().find(|member| member.id == id)
        };
        if let Some(id) = change.remove_vlan {
            let member = declared_vlan(id).unwrap_or(VlanMember { id, pvid: false, untagged: false });
            back.push(Change { add_vlan: Some(member), ..blank() });
        }
        if let Some(added) = change.add_vlan {
            back.push(match declared_vlan(added.id) {
                Some(member) => Change { add_vlan: Some(member), ..blank() },
                None => Change { remove_vlan: Some(added.id), ..blank() },
            });
        }
        back.extend(change.add_address.map(|address| Change { remove_address: Some(address), ..blank() }));
        back.extend(change.remove_address.map(|address| Change { add_address: Some(address), ..blank() }));
        if change.anew.is_some() || change.delete {
            back.push(Change { anew: Some(toml::Table::new()), ..blank() });
        }
        if let Some(interface) = &change.add_interface {
            let at = format!("{}/{}", place.host.name, interface.name);
            back.push(Change { at: Some(at), delete: true, ..Change::default() });
        }
        back.extend(change.add_route.clone().map(|route| Change { remove_route: Some(route), ..on_host() }));
        back.extend(change.remove_route.clone().map(|route| Change { add_route: Some(route), ..on_host() }));
        if let Some(neighbour) = &change.add_neighbour {
            let same = |other: &&crate::lab::topology::Neighbour| {
                other.interface == neighbour.interface && other.address == neighbour.address
            };
            back.push(match place.host.neighbours.iter().find(same) {
                Some(declared) => Change { add_neighbour: Some(declared.clone()), ..on_host() },
                None => Change { remove_neighbour: Some(neighbour.clone()), ..on_host() },
            });
        }
        back.extend(change.remove_neighbour.clone().map(|gone| Change { add_neighbour: Some(gone), ..on_host() }));
        back.extend(change.add_fdb.clone().map(|entry| Change { remove_fdb: Some(entry), ..on_host() }));
        back.extend(change.remove_fdb.clone().map(|entry| Change { add_fdb: Some(entry), ..on_host() }));
        if !change.sysctl.is_empty() {
            let mut before = BTreeMap::new();
            for key in change.sysctl.keys() {
                before.insert(key.clone(), Setting::Text(host.sysctl_value(key)?));
            }
            back.push(Change { sysctl: before, ..on_host() });
        }
        if change.nft.is_some() {
            back.push(Change { nft: Some(format!("flush ruleset\n{}", ruleset(host)?)), ..on_host() });
        }
        if change.weft.is_some() || change.stop_weft {
            back.push(Change { weft: Some(toml::Table::new()), ..on_host() });
        }
        back.extend(change.occupy.map(|port| Change { vacate: Some(port), ..on_host() }));
        back.extend(change.back.clone().map(|line| Change { run: Some(line), ..on_host() }));
        if change.fill_conntrack {
            back.push(Change { empty_conntrack: true, ..on_host() });
        }
        let of_interface = |name: &str| place.host.bpf.iter().find(|bpf| bpf.interface == name).cloned();
        if change.remove_bpf
            && let Some(bpf) = place.interface.and_then(of_interface)
        {
            back.push(Change { add_bpf: Some(bpf), ..on_host() });
        }
        if let Some(added) = &change.add_bpf {
            let at = Some(format!("{}/{}", place.host.name, added.interface));
            back.push(match of_interface(&added.interface) {
                Some(bpf) => Change { add_bpf: Some(bpf), ..on_host() },
                None => Change { at, remove_bpf: true, ..Change::default() },
            });
        }
        Ok(back)
    }

    fn apply_change(&mut self, change: &Change) -> Result<(), LabError> {
        let topology = self.topology.clone();
        let place = Place::of(&topology, change)?;
        let name = place.interface.unwrap_or_default().to_owned();
        let namespace = namespace(&self.name, &place.host.name)?;
        let mut actions = Vec::new();
        if change.delete {
            actions.push(Action::Delete(name.clone()));
        }
        if let Some(interface) = &change.add_interface {
            let step = again(&topology, place.host, interface)?;
            step.iter().filter(|step| !is_table(&step.action)).try_for_each(|step| self.site.apply(step))?;
        }
        if let Some(keys) = &change.anew {
            self.make_anew(&topology, &place, &namespace, keys)?;
        }
        if let Some(bridge) = &change.bridge {
            actions.push(Action::Enslave(name.clone(), Some(bridge.clone()).filter(|bridge| !bridge.is_empty())));
        }
        actions.extend(change.port.map(|port| Action::Port(name.clone(), port)));
        let vlans = || VlanPort {
            interface: name.clone(),
            itself: place.declared().is_some_and(|interface| interface.kind == Kind::Bridge),
        };
        actions.extend(change.remove_vlan.map(|id| Action::RemoveVlan(vlans(), id)));
        actions.extend(change.add_vlan.map(|member| Action::AddVlan(vlans(), member)));
        actions.extend(change.remove_address.map(|address| Action::RemoveAddress(name.clone(), address)));
        actions.extend(change.mac.map(|mac| Action::Mac(name.clone(), mac)));
        actions.extend(change.mtu.map(|mtu| Action::Mtu(name.clone(), mtu)));
        actions.extend(change.add_address.map(|address| Action::AddAddress(name.clone(), address)));
        actions.extend(change.up.map(|up| Action::Up(name.clone(), up)));
        actions.extend(
            change.sysctl.iter().map(|(key, value)| {
                Action::Sysctl(Parameter { key: key.clone(), value: value.clone(), if_there: false })
            }),
        );
        actions.extend(change.nft.clone().map(Action::Nft));
        actions.extend(change.remove_route.clone().map(Action::RemoveRoute));
        actions.extend(change.add_route.clone().map(Action::AddRoute));
        actions.extend(change.remove_neighbour.clone().map(Action::RemoveNeighbour));
        actions.extend(change.add_neighbour.clone().map(Action::AddNeighbour));
        actions.extend(change.remove_fdb.clone().map(Action::RemoveFdb));
        actions.extend(change.add_fdb.clone().map(Action::AddFdb));
        if change.remove_bpf {
            actions.push(Action::RemoveBpf(name));
        }
        actions.extend(change.add_bpf.clone().map(Action::AddBpf));
        if change.stop_weft {
            actions.push(Action::StopWeft);
        }
        for action in actions {
            self.site.apply(&Step { host: place.host.name.clone(), action })?;
        }
        if let Some(keys) = &change.weft {
            self.restart_weft(&topology, place.host, keys)?;
        }
        if let Some(port) = change.vacate {
            programs::vacate(&namespace, port)?;
        }
        if let Some(port) = change.occupy {
            programs::occupy(&namespace, self.site.weft(), port)?;
        }
        if change.fill_conntrack {
            conntrack::fill(&namespace)?;
        }
        if change.empty_conntrack {
            conntrack::empty(&namespace)?;
        }
        if let Some(line) = &change.run {
            // What it shows is seen by the checks; that a ping gets no answer may be the very point.
            namespace.run(&["sh", "-c", line])?;
        }
        Ok(())
    }

    fn make_anew(
        &mut self,
        topology: &Topology,
        place: &Place<'_>,
        namespace: &Namespace,
        keys: &toml::Table,
    ) -> Result<(), LabError> {
        let Some(declared) = place.declared() else {
            return Err(LabError::Invalid(format!("the lab says nothing of {}", place.interface.unwrap_or_default())));
        };
        let interface = declared.with(keys).map_err(LabError::Invalid)?;
        // A change that deleted it may have come before.
        if namespace.link(&declared.name).is_ok() {
            namespace.delete(&declared.name)?;
        }
        for step in again(topology, place.host, &interface)? {
            tolerate(self.site.apply(&step), &step)?;
        }
        Ok(())
    }

    /// Starts a host's weft with some keys changed, and gives the hosts of its taps back what went with the old ones.
    fn restart_weft(&mut self, topology: &Topology, host: &Host, keys: &toml::Table) -> Result<(), LabError> {
        let Some(declared) = &host.weft else {
            return Err(LabError::Invalid(format!("{} runs no weft", host.name)));
        };
        let changed = weft_config::changed(declared, keys).map_err(LabError::Invalid)?;
        let config = weft_config::text(topology, host, &changed, &self.name).map_err(LabError::Invalid)?;
        if written_config(&self.name, &host.name).as_deref() != Some(config.as_str())
            || !switches::socket(&self.name, &host.name).exists()
        {
            self.site.apply(&Step { host: host.name.clone(), action: Action::Weft(config) })?;
        }
        let own = format!("{}/weft", host.name);
        for other in &topology.hosts {
            if other.interfaces.iter().any(|interface| interface.peer.as_deref() == Some(&own)) {
                self.restore(other)?;
            }
        }
        Ok(())
    }

    /// Gives the hosts of these changes back what the lab says of them and the changes took along.
    fn reassert(&mut self, changes: &[Change]) -> Result<(), LabError> {
        let topology = self.topology.clone();
        let mut hosts: Vec<&Host> = Vec::new();
        for change in changes {
            let host = Place::of(&topology, change)?.host;
            if !hosts.iter().any(|known| known.name == host.name) {
                hosts.push(host);
            }
        }
        hosts.into_iter().try_for_each(|host| self.restore(host))
    }

    fn restore(&mut self, host: &Host) -> Result<(), LabError> {
        for step in restoring(host) {
            tolerate(self.site.apply(&step), &step)?;
        }
        Ok(())
    }
}

/// Takes it for done if what should be added is there.
fn tolerate(outcome: Result<(), LabError>, step: &Step) -> Result<(), LabError> {
    let adds = matches!(
        step.action,
        Action::AddAddress(..) | Action::AddRoute(_) | Action::AddNeighbour(_) | Action::AddFdb(_) | Action::Weft(_)
    );
    match outcome {
        Err(LabError::Link(error)) if adds && error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn is_table(action: &Action) -> bool {
    matches!(
        action,
        Action::AddRoute(_) | Action::AddNeighbour(_) | Action::AddFdb(_) | Action::Nft(_) | Action::Sysctl(_)
    )
}

/// Where a change is made.
struct Place<'t> {
    host: &'t Host,
    interface: Option<&'t str>,
}

impl<'t> Place<'t> {
    fn of(topology: &'t Topology, change: &'t Change) -> Result<Self, LabError> {
        let (name, interface) = match (&change.host, &change.at) {
            (Some(host), _) => (host.as_str(), None),
            (None, Some(at)) => at.split_once('/').map_or((at.as_str(), None), |(host, name)| (host, Some(name))),
            (None, None) => ("", None),
        };
        let host = topology.host(name).ok_or_else(|| LabError::Invalid(format!("there is no host {name:?}")))?;
        Ok(Self { host, interface })
    }

    fn declared(&self) -> Option<&'t Interface> {
        self.host.interface(self.interface?)
    }
}

/// How the options that a change turns were before: as the lab says, else as the kernel begins.
fn port_before(changed: BridgePort, declared: BridgePort) -> BridgePort {
    let flag = |changed: Option<bool>, declared: Option<bool>, begin: bool| changed.map(|_| declared.unwrap_or(begin));
    BridgePort {
        isolated: flag(changed.isolated, declared.isolated, false),
        hairpin: flag(changed.hairpin, declared.hairpin, false),
        learning: flag(changed.learning, declared.learning, true),
        flood: flag(changed.flood, declared.flood, true),
        bcast_flood: flag(changed.bcast_flood, declared.bcast_flood, true),
        mcast_flood: flag(changed.mcast_flood, declared.mcast_flood, true),
        locked: flag(changed.locked, declared.locked, false),
        neigh_suppress: flag(changed.neigh_suppress, declared.neigh_suppress, false),
        state: changed.state.map(|_| declared.state.unwrap_or(PortState::Forwarding)),
    }
}

fn file(lab: &str) -> PathBuf {
    folder(lab).join("broken.json")
}

fn save(lab: &str, broken: &[Broken]) -> Result<(), LabError> {
    let text = serde_json::to_string_pretty(broken).map_err(|error| LabError::Invalid(error.to_string()))?;
    write(&file(lab), &text)
}
