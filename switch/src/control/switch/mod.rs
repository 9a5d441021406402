//! The running switch, as the control plane holds it: what is wanted, what is open, and how the one becomes the other.
//!
//! # Theory of operation
//!
//! `Switch::apply` takes a whole [`Config`] and makes the switch so, touching nothing that does not differ. It works in
//! two halves. The first can fail and changes nothing that runs: namespaces are entered, new interfaces and sockets
//! opened. The second can't fail: workers get their queues, a new snapshot of the tables is published, the FDB forgets
//! what no longer is. So a configuration that can't be had leaves the old state as it was.
//!
//! The order of the second half is what keeps the ledger exact and ids unmixed:
//!
//! ```text
//! tables without what goes -> workers close it, all have said so -> FDB flushed -> ids free
//! tables with what comes   -> workers open it
//! ```
//!
//! Numbers ([`PortId`], [`BridgeId`]) are given out again only after every worker has passed a batch boundary, the FDB was
//! flushed and what workers had to tell was heard, so nothing can still mean the old one.

mod build;
mod cable;
mod changes;
mod entries;
mod events;
mod explain;
mod feed;
mod handed;
mod paths;
mod plan;
mod port;
mod report;
mod runtime;
mod slots;
mod snooping;
mod underlay;
mod workers;

use std::sync::Arc;

use crossbeam_channel::Receiver;
use tokio::sync::{broadcast, mpsc};
use tracing::{info, warn};
use weft_vxlan::{
    mtu::{Family, HeaderBudget},
    vtep::TableFull,
};

pub use self::{
    events::Event,
    explain::{ExplainError, Live},
    port::PortOpenError,
    runtime::RuntimeError,
    underlay::UnderlayOpenError,
};
use self::{
    feed::Feed,
    plan::{Gone, Plan},
    port::OpenPort,
    slots::Slots,
    snooping::Snooping,
    underlay::OpenUnderlay,
    workers::Workers,
};
use crate::{
    control::{
        api::model::{Happening, Reloaded},
        config::{BridgeConfig, Config, FdbTarget, Membership, NetnsName, PortConfig, VtepConfig},
        link::LinkError,
        path_mtu::{PROBE_NEWS_LEN, PathMtus},
    },
    fdb::Flush,
    ids::{BridgeId, Endpoint, PortId},
    port::PortQueue,
    worker::{
        Fact, Facts, Shared, SnoopedTo,
        sampling::{Sample, Sampler},
        thread::{Clock, Command},
    },
};

/// The MTU of a tap that meets no underlay: Ethernet's.
const PLAIN_MTU: u16 = 1500;

/// Facts that may wait for the control plane. A worker that finds no room counts the loss and goes on.
const FACTS_LEN: usize = 4096;

/// Why a configuration could not be made so. The switch is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A port could not be opened.
    #[error("port {port} can't be opened")]
    PortOpen {
        /// Its full name.
        port: String,
        /// Why.
        source: PortOpenError,
    },
    /// A port had to be closed to be opened differently, and could not. Everything else is as wanted, and the port is
    /// there as one that is gone.
    #[error("port {port} was closed to be changed, and can't be opened again; everything else is done")]
    PortReopen {
        /// Its full name.
        port: String,
        /// Why.
        source: PortOpenError,
    },
    /// A port's interface could not be changed.
    #[error("port {port} can't be changed")]
    PortChange {
        /// Its full name.
        port: String,
        /// Why.
        source: LinkError,
    },
    /// The underlay could not be opened.
    #[error("the underlay can't be opened")]
    Underlay(#[from] UnderlayOpenError),
    /// More VTEPs than weft has numbers for.
    #[error(transparent)]
    Vteps(#[from] TableFull),
    /// More ports or bridges than weft has numbers for.
    #[error("more than 65,535 {0} have no numbers")]
    Numbers(&'static str),
    /// A thread could not be started.
    #[error("a worker can't be started")]
    Worker(#[source] std::io::Error),
}

/// The running switch.
pub struct Switch {
    /// What is wanted now: the file and what was changed since.
    config: Config,
    /// The file as it was last applied.
    file: Config,
    shared: Shared,
    workers: Workers,
    ports: Slots<OpenPort>,
    bridges: Slots<String>,
    underlay: Option<OpenUnderlay>,
    facts: Receiver<Fact>,
    events: mpsc::Sender<Event>,
    watched: Vec<events::Watched>,
    feed: Feed,
    /// Who looks at frames as they pass, and what was taken for them.
    samplers: Vec<(Arc<Sampler>, Receiver<Sample>)>,
    snooping: Snooping,
    path_mtus: PathMtus,
    clock: Clock,
}

impl Switch {
    /// Starts a switch and makes it what the configuration says. Events of its interfaces come to the receiver, and are
    /// to be handed to [`Switch::on_event`]. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// See [`ApplyError`]; nothing is left behind.
    pub async fn start(config: Config) -> Result<(Self, mpsc::Receiver<Event>), ApplyError> {
        let (facts_sender, facts) = crossbeam_channel::bounded(FACTS_LEN);
        let (snooped_sender, snooped) = crossbeam_channel::bounded(snooping::SNOOPED_LEN);
        let (events, receiver) = mpsc::channel(64);
        let (probes_sender, probes) = crossbeam_channel::bounded(PROBE_NEWS_LEN);
        let snooping = Snooping::default();
        let snooped_to = SnoopedTo { sender: snooped_sender, sent: snooping.sent() };
        let facts_to = Facts::new(facts_sender).with_snooped(snooped_to).with_probes(probes_sender);
        let shared = Shared::new(fastrand::u64(..));
        let clock = Clock::start();
        let workers = Workers::start(config.switch.workers, &shared, &facts_to, clock).map_err(ApplyError::Worker)?;
        workers.tune(&config.switch);
        snooping::listen(snooped, events.clone()).map_err(ApplyError::Worker)?;
        let path_mtus = paths::start(workers.commands(), &shared, probes, events.clone())?;
        let mut empty = Config::empty();
        empty.switch = config.switch.clone();
        let mut switch = Self {
            config: empty.clone(),
            file: empty,
            shared,
            workers,
            ports: Slots::default(),
            bridges: Slots::default(),
            underlay: None,
            facts,
            events,
            watched: Vec::new(),
            feed: Feed::default(),
            samplers: Vec::new(),
            snooping,
            path_mtus,
            clock,
        };
        switch.apply_file(config).await?;
        Ok((switch, receiver))
    }

    /// What is wanted now.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The MTU of a tap in this bridge whose configuration names none: what fits the underlay, if the bridge has a VNI.
    pub fn default_mtu(&self, bridge: &str) -> u16 {
        let port = PortConfig::new(NetnsName::Own, "", Membership::Access(bridge.to_owned()));
        default_mtu(&port, &self.config, self.underlay.as_ref().map(|underlay| underlay.mtu))
    }

    /// Whether all workers run. One that does not has panicked, and the process should end.
    pub fn is_alive(&self) -> bool {
        self.workers.are_alive()
    }

    /// Makes the switch what `wanted` says.
    ///
    /// # Errors
    /// See [`ApplyError`]; but for [`ApplyError::PortReopen`] the switch is as it was.
    async fn apply(&mut self, mut wanted: Config, gone: Gone<'_>) -> Result<Reloaded, ApplyError> {
        let changes = changes::between(&self.config, &wanted);
        // These two are the process's: they wait for the next one.
        wanted.switch.workers = self.config.switch.workers;
        wanted.switch.socket.clone_from(&self.config.switch.socket);
        self.check_room(&wanted)?;
        let mut plan = Plan::new(self, &wanted, gone);
        let underlay = self.prepare_underlay(&wanted).await?;
        let underlay_mtu = underlay.mtu(self.underlay.as_ref());
        plan.add_ports_of_another_mtu(self, &wanted, underlay_mtu);
        let opened = match self.prepare_ports(&plan, &wanted, underlay_mtu).await {
            Ok(opened) => opened,
            Err(error) => {
                self.abandon_underlay(underlay).await;
                return Err(error);
            }
        };
        self.commit(wanted, plan, opened, underlay).await?;
        Ok(changes)
    }

    /// There must be a number for everything before anything is touched.
    fn check_room(&self, wanted: &Config) -> Result<(), ApplyError> {
        let limit = usize::from(u16::MAX);
        if wanted.ports.len() > limit {
            return Err(ApplyError::Numbers("ports"));
        }
        if wanted.bridges.len() > limit {
            return Err(ApplyError::Numbers("bridges"));
        }
        for remote in wanted.bridges.iter().flat_map(|bridge| &bridge.remotes) {
            self.shared.vteps.intern(*remote)?;
        }
        for entry in &wanted.fdb {
            if let FdbTarget::Vtep(address) = &entry.at {
                self.shared.vteps.intern(*address)?;
            }
        }
        Ok(())
    }

    /// Opens what is new and changes what stays. A port that must be closed before it can be opened again waits for the
    /// second half ([`Plan::reopen`]).
    async fn prepare_ports(
        &mut self,
        plan: &Plan,
        wanted: &Config,
        underlay_mtu: Option<u32>,
    ) -> Result<Vec<(OpenPort, Vec<PortQueue>)>, ApplyError> {
        let mut opened = Vec::new();
        for port in &plan.open {
            opened.push(self.open_port(port, default_mtu(port, wanted, underlay_mtu)).await?);
        }
        for (done, (id, to)) in plan.change.iter().enumerate() {
            let Some(open) = self.ports.get(*id) else { continue };
            if let Err(source) = port::change(open, to, default_mtu(to, wanted, underlay_mtu)).await {
                // The failed one too: it may have come half-way.
                self.undo_changes(&plan.change[..=done]).await;
                return Err(ApplyError::PortChange { port: to.full_name(), source });
            }
        }
        Ok(opened)
    }

    async fn undo_changes(&self, changed: &[(u16, PortConfig)]) {
        for (id, to) in changed {
            let Some(open) = self.ports.get(*id) else { continue };
            if let Err(error) = port::undo_change(open, to).await {
                warn!(port = open.config.full_name(), %error, "can't take a change back");
            }
        }
    }

    async fn open_port(&self, config: &PortConfig, mtu: u16) -> Result<(OpenPort, Vec<PortQueue>), ApplyError> {
        port::open(config, self.workers.count(), mtu)
            .await
            .map_err(|source| ApplyError::PortOpen { port: config.full_name(), source })
    }

    /// The second half. Fails only in ways that leave a whole, if smaller, switch: a port that had to be closed to be
    /// opened differently, and could not.
    async fn commit(
        &mut self,
        wanted: Config,
        plan: Plan,
        mut opened: Vec<(OpenPort, Vec<PortQueue>)>,
        underlay: underlay::Prepared,
    ) -> Result<(), ApplyError> {
        let old = std::mem::replace(&mut self.config, wanted);
        if changes::tuning(&old) != changes::tuning(&self.config) {
            self.workers.tune(&self.config.switch);
        }
        let closed = self.close(&plan)?;
        self.take_away(&closed).await;
        let mut failed = None;
        for to in plan.reopen {
            let mtu = default_mtu(&to, &self.config, underlay.mtu(self.underlay.as_ref()));
            match port::open(&to, self.workers.count(), mtu).await {
                Ok(port) => opened.push(port),
                Err(source) => {
                    let port = to.full_name();
                    if let Some(was) = closed.iter().find(|was| was.config.full_name() == port) {
                        let mut port = OpenPort { config: to, ..was.clone() };
                        port.let_go();
                        opened.push((port, vec![]));
                    }
                    failed = Some(ApplyError::PortReopen { port, source });
                }
            }
        }
        let mut touched = Vec::new();
        for (id, to) in plan.change {
            if let Some(open) = self.ports.get_mut(id) {
                open.default_mtu = default_mtu(&to, &self.config, underlay.mtu(self.underlay.as_ref()));
                open.config = to;
                open.assume_mtu();
            }
            touched.push(id);
        }
        self.number_bridges()?;
        let mut queues = Vec::new();
        for (port, port_queues) in opened {
            if let Some(netns) = &port.netns {
                self.watch(netns);
            }
            let id = self.ports.next_id().ok_or(ApplyError::Numbers("ports"))?;
            self.ports.insert(id, port);
            touched.push(id);
            queues.push((PortId(id), port_queues));
        }
        self.publish()?;
        self.install_underlay(underlay).await;
        for (id, queues) in queues {
            self.workers.each_gets(queues, |queue| Command::AddPort(id, queue));
        }
        self.workers.barrier();
        // An interface may have changed after it was read and before it was watched.
        self.refresh_links(&touched).await;
        self.unwatch_unused();
        self.forget_what_is_not(&old);
        // A shorter ageing time counts from now on, not from the next tick (`br_stp_if.c`: `br_set_ageing_time`).
        self.forget_what_is_old();
        self.forget_local_addresses();
        self.set_static_entries(&old)?;
        failed.map_or(Ok(()), Err)
    }

    /// Takes ports and bridges out, in the order that the module's page explains. Returns the ports.
    fn close(&mut self, plan: &Plan) -> Result<Vec<OpenPort>, ApplyError> {
        let ports: Vec<_> = plan.close.iter().filter_map(|id| Some((*id, self.ports.remove(*id)?))).collect();
        let is_gone = |name: &String| self.config.bridge(name).is_none();
        let bridges: Vec<_> = self.bridges.iter().filter(|(_, name)| is_gone(name)).map(|(id, _)| id).collect();
        if ports.is_empty() && bridges.is_empty() {
            return Ok(vec![]);
        }
        for id in &bridges {
            self.bridges.remove(*id);
        }
        self.publish()?;
        for id in &bridges {
            self.workers.tell_all(|| Command::RetireBridge(BridgeId(*id)));
        }
        self.workers.remove_ports(&ports.iter().map(|(id, _)| PortId(*id)).collect::<Vec<_>>());
        for (id, port) in &ports {
            let at = Some(Endpoint::Port(PortId(*id)));
            self.shared.fdb.flush(Flush { at, statics: true, ..Flush::default() });
            info!(port = port.config.full_name(), "port closed");
        }
        for id in &bridges {
            self.shared.fdb.flush(Flush { bridge: Some(BridgeId(*id)), at: None, statics: true });
        }
        // What workers had to tell of these ports must not be taken for news of whoever gets their numbers.
        self.hear_facts();
        self.forget_samples(&ports.iter().map(|(id, _)| PortId(*id)).collect::<Vec<_>>());
        Ok(ports.into_iter().map(|(_, port)| port).collect())
    }

    /// Interfaces of weft's that do not vanish at once with their queues.
    async fn take_away(&self, closed: &[OpenPort]) {
        for port in closed {
            if let Err(error) = cable::take_away(port).await {
                warn!(port = port.config.full_name(), %error, "its interface can't be removed");
            }
        }
    }

    /// The end: nothing that weft made is left when this returns, but for what vanishes with its descriptors.
    pub async fn end(&mut self) {
        let ports: Vec<_> = self.ports.iter().map(|(_, port)| port.clone()).collect();
        self.take_away(&ports).await;
    }

    fn number_bridges(&mut self) -> Result<(), ApplyError> {
        for bridge in &self.config.bridges {
            if self.bridges.find(|name| *name == bridge.name).is_none() {
                let id = self.bridges.next_id().ok_or(ApplyError::Numbers("bridges"))?;
                self.bridges.insert(id, bridge.name.clone());
            }
        }
        Ok(())
    }

    /// Builds the tables anew and gives them to the workers.
    fn publish(&mut self) -> Result<(), TableFull> {
        self.set_up_snooping();
        let tables = build::tables(
            &self.config,
            &self.ports,
            &self.bridges,
            &self.shared.vteps,
            &self.snooping,
            self.underlay.as_ref().map(|underlay| underlay.mtu),
        )?;
        let tables = paths::with_paths(tables, &self.path_mtus.published());
        self.shared.tables.store(Arc::new(tables));
        self.tell_peers();
        Ok(())
    }

    fn bridge_name(&self, id: BridgeId) -> String {
        self.bridges.get(id.0).cloned().unwrap_or_else(|| format!("bridge {} (removed)", id.0))
    }

    fn endpoint_name(&self, at: Endpoint) -> String {
        let name = match at {
            Endpoint::Port(id) => self.ports.get(id.0).map(|port| port.config.full_name()),
            Endpoint::Vtep(id) => self.shared.vteps.address(id).map(|address| address.to_string()),
        };
        name.unwrap_or_else(|| format!("{at} (removed)"))
    }

    fn bridge_id(&self, name: &str) -> Option<BridgeId> {
        self.bridges.find(|other| other == name).map(|(id, _)| BridgeId(id))
    }

    fn port_id(&self, full_name: &str) -> Option<PortId> {
        let (id, _) = self.ports.find(|port| port.config.full_name() == full_name)?;
        Some(PortId(id))
    }

    /// What happens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Happening> {
        self.feed.subscribe()
    }

    /// Whether somebody listens to what happens.
    pub fn is_listened_to(&self) -> bool {
        self.feed.is_heard()
    }

    /// Often, while somebody listens: what workers found out is told.
    pub fn on_short_tick(&mut self) {
        self.hear_facts();
        if self.feed.is_heard() {
            let lost = self.workers.reports().iter().map(|report| report.facts_lost).sum();
            self.feed.note_lost(lost);
        }
    }

    /// Once a second: what workers found out is logged, old entries are forgotten, vanished namespaces are let go, and so is
    /// who no longer looks at frames. Snoopers have a timer of their own; this is for when it is late.
    pub async fn on_tick(&mut self) {
        self.forget_ended_samplers();
        self.forget_what_is_old();
        self.on_snooping_due();
        self.hear_facts();
        self.look_for_peers();
        self.let_go_of_vanished_namespaces();
        self.remove_ended_ports().await;
    }
}

/// The MTU of a tap whose configuration names none: what fits the underlay in the encapsulation of each of its bridges that
/// has a VNI.
fn default_mtu(port: &PortConfig, config: &Config, underlay_mtu: Option<u32>) -> u16 {
    let fits = |bridge: &BridgeConfig| {
        let vtep = config.vtep.as_ref().filter(|_| bridge.vni.is_some())?;
        header_budget(vtep, bridge).inner_mtu(underlay_mtu?)
    };
    let bridges = port.membership.bridges().filter_map(|name| config.bridge(name));
    bridges.filter_map(fits).min().unwrap_or(PLAIN_MTU)
}

/// What is before an inner packet of a bridge on the underlay.
fn header_budget(vtep: &VtepConfig, bridge: &BridgeConfig) -> HeaderBudget {
    HeaderBudget::new(Family::of(vtep.address))
        .with_encapsulation(bridge.encapsulation)
        .with_options(bridge.geneve_options.len() as u16)
}
