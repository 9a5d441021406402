//! What happens to the switch from outside: interfaces come, go and change, workers find things out.

use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use super::{Switch, port::OpenPort};
use crate::{
    control::{
        api::model::{Happening, LinkState},
        link::{self, Link, LinkEvent, Links},
        path_mtu::News,
    },
    fdb::Flush,
    ids::{Endpoint, PortId},
    sys::netns::Netns,
    worker::{Fact, Snooped, thread::Command},
};

/// Something happened that the switch has to do something about.
#[derive(Debug)]
pub struct Event(pub(super) What);

#[derive(Debug)]
pub(super) enum What {
    /// Something happened to an interface of a namespace in which the switch has a port or its underlay.
    Link(Netns, LinkEvent),
    /// Workers heard what hosts and routers say about multicast groups.
    Snooped(Vec<Snooped>),
    /// Something is due in what is known about those.
    SnoopingDue,
    /// The prober has something to tell.
    Path(News),
}

/// A namespace whose interfaces are watched. Ends with this value.
pub(super) struct Watched {
    netns: Netns,
    task: JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether two handles are of one namespace.
pub(super) fn same(a: &Netns, b: &Netns) -> bool {
    a.same_as(b)
}

impl Switch {
    /// Hears of changes in a namespace from now on, once however many ports are in it.
    pub(super) fn watch(&mut self, netns: &Netns) {
        if self.watched.iter().any(|watched| same(&watched.netns, netns)) {
            return;
        }
        let mut receiver = match link::watch(netns) {
            Ok(receiver) => receiver,
            Err(error) => return warn!(%netns, %error, "interfaces are not watched"),
        };
        let (events, of) = (self.events.clone(), netns.clone());
        let task = tokio::spawn(async move {
            while let Some(link) = receiver.recv().await {
                if events.send(Event(What::Link(of.clone(), link))).await.is_err() {
                    return;
                }
            }
        });
        self.watched.push(Watched { netns: netns.clone(), task });
    }

    /// A namespace that no port and no underlay uses is let go, so that it can end.
    pub(super) fn unwatch_unused(&mut self) {
        let (ports, underlay) = (&self.ports, &self.underlay);
        let is_used = |watched: &Watched| {
            let is_its = |port: &OpenPort| port.netns.as_ref().is_some_and(|netns| same(netns, &watched.netns));
            let by_port = ports.find(is_its).is_some();
            by_port || underlay.as_ref().is_some_and(|underlay| same(&underlay.netns, &watched.netns))
        };
        self.watched.retain(is_used);
    }

    /// Takes note of what [`Switch::start`]'s receiver brought.
    pub async fn on_event(&mut self, event: Event) {
        match event.0 {
            What::Snooped(frames) => self.on_snooped(&frames),
            What::SnoopingDue => self.on_snooping_due(),
            What::Path(news) => self.on_path_news(&news),
            What::Link(netns, LinkEvent::Changed(link)) => self.on_link(&netns, &link),
            What::Link(netns, LinkEvent::Deleted { index, .. }) => self.on_deleted(&netns, index),
            What::Link(_, LinkEvent::Resync) => {
                let all: Vec<_> = self.ports.iter().map(|(id, _)| id).collect();
                self.refresh_links(&all).await;
            }
        }
    }

    fn on_link(&mut self, netns: &Netns, link: &Link) {
        self.on_underlay_event(netns, link);
        let is_it = |port: &OpenPort| port.is_interface(netns, link.index);
        let Some((id, port)) = self.ports.iter_mut().find(|(_, port)| is_it(port)) else { return };
        if port.link == *link {
            return;
        }
        let was_up = port.is_up();
        let has_backup = port.config.backup_port.is_some();
        let new_mac = port.local_mac().is_some() && port.link.mac != link.mac;
        port.link = link.clone();
        let (is_up, name) = (port.is_up(), port.config.full_name());
        debug!(port = name, up = is_up, mtu = link.mtu, "interface changed");
        self.republish();
        if new_mac {
            self.workers.barrier();
            self.forget_local_addresses();
        }
        if was_up != is_up {
            let state = if is_up { LinkState::Up } else { LinkState::Down };
            self.feed.tell(|| Happening::Port { port: name.clone(), state });
        }
        if was_up && !is_up {
            // As a bridge does when a port loses its carrier (`br_if.c`: `br_port_carrier_check`): what was learned there
            // is forgotten, what a user named stays, and with a backup port everything. Not before every worker knows that
            // the port teaches nothing now.
            self.workers.barrier();
            let which = Flush { at: Some(Endpoint::Port(PortId(id))), ..Flush::default() };
            let flushed = if has_backup { 0 } else { self.shared.fdb.flush(which) };
            info!(port = name, forgotten = flushed, "port down");
        }
        if !was_up && is_up {
            info!(port = name, "port up");
            self.workers.tell_all(|| Command::Rearm(PortId(id)));
        }
    }

    fn on_deleted(&mut self, netns: &Netns, index: u32) {
        if let Some((id, _)) = self.ports.find(|port| port.is_interface(netns, index)) {
            self.let_go(&[id], "its interface was deleted");
        }
    }

    /// Closes the queues of ports that can't come back. They stay in the configuration, shown as gone, until a reload
    /// opens them again or somebody removes them.
    fn let_go(&mut self, ids: &[u16], why: &str) {
        for (_, port) in self.ports.iter_mut().filter(|(id, port)| ids.contains(id) && !port.is_gone()) {
            let name = port.config.full_name();
            warn!(port = name, "port gone: {why}");
            port.let_go();
            self.feed.tell(|| Happening::Port { port: name, state: LinkState::Gone });
        }
        self.republish();
        self.workers.remove_ports(&ids.iter().copied().map(PortId).collect::<Vec<_>>());
        for id in ids {
            let at = Some(Endpoint::Port(PortId(*id)));
            self.shared.fdb.flush(Flush { at, statics: true, ..Flush::default() });
        }
        self.unwatch_unused();
        // A reload may give the numbers to others before the next tick.
        self.hear_facts();
    }

    /// A namespace that lost its name or its process only lives on because weft has ports in it.
    pub(super) fn let_go_of_vanished_namespaces(&mut self) {
        let vanished = |(_, port): &(u16, &OpenPort)| port.namespace_has_vanished();
        let ids: Vec<_> = self.ports.iter().filter(vanished).map(|(id, _)| id).collect();
        if !ids.is_empty() {
            self.let_go(&ids, "its namespace was deleted");
        }
    }

    /// Asks anew how the interfaces of these ports are.
    pub(super) async fn refresh_links(&mut self, ids: &[u16]) {
        for id in ids {
            self.refresh_link(*id).await;
        }
        self.republish();
    }

    async fn refresh_link(&mut self, id: u16) {
        let Some(port) = self.ports.get_mut(id) else { return };
        let Some(netns) = &port.netns else { return };
        let asked = match Links::open(netns) {
            Ok(links) => links.by_index(port.link.index).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(link) => port.link = link,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.let_go(&[id], "its interface was deleted");
            }
            Err(error) => warn!(port = port.config.full_name(), %error, "can't read the interface"),
        }
    }

    pub(super) fn republish(&mut self) {
        if let Err(error) = self.publish() {
            warn!(%error, "the tables can't be built");
        }
    }

    /// Logs and tells what workers found out since the last time.
    pub(super) fn hear_facts(&mut self) {
        let facts: Vec<_> = self.facts.try_iter().collect();
        for fact in facts {
            match fact {
                Fact::Learned { bridge, mac, at } => {
                    let (bridge, at) = (self.bridge_name(bridge), self.endpoint_name(at));
                    debug!(bridge, %mac, at, "learned");
                    self.feed.tell(|| Happening::Learned { bridge, mac, at });
                }
                Fact::Moved { bridge, mac, from, to } => {
                    let (from, to) = (self.endpoint_name(from), self.endpoint_name(to));
                    let bridge = self.bridge_name(bridge);
                    debug!(bridge, %mac, from, to, "moved");
                    self.feed.tell(|| Happening::Moved { bridge, mac, from, to });
                }
                Fact::L2Miss { bridge, mac } => {
                    self.feed.tell(|| Happening::L2miss { bridge: self.bridge_name(bridge), mac });
                }
                Fact::L3Miss { bridge, ip } => {
                    self.feed.tell(|| Happening::L3miss { bridge: self.bridge_name(bridge), ip });
                }
                Fact::PortFailed { port, gone, message } => self.on_port_failed(port, gone, &message),
            }
        }
    }

    /// A worker no longer polls a port that can't be read. If the interface is there and up, it tries again.
    fn on_port_failed(&mut self, id: PortId, gone: bool, message: &str) {
        let Some(port) = self.ports.get(id.0).filter(|port| !port.is_gone()) else { return };
        debug!(port = port.config.full_name(), message, "can't be read");
        if gone {
            self.let_go(&[id.0], message);
        } else if port.is_up() {
            self.workers.tell_all(|| Command::Rearm(id));
        }
    }
}
