//! The snoopers of the switch's bridges: what workers heard goes in, tables and queries come out.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::Receiver;
use tokio::{sync::mpsc, task::JoinHandle, time::sleep};
use tracing::{debug, warn};

use super::{Event, Slots, Switch, events::What, port::OpenPort};
use crate::{
    bridge::Tables,
    control::{
        api::mdb::{Filter, MdbEntry, MdbMember, MdbQuerier, MdbRouter, MdbSource, MdbState},
        config::{BridgeConfig, Config, MdbConfig},
    },
    ids::{BridgeId, Endpoint, PortId},
    snoop::{Group, Mdb, Member, PortSettings, QueryFrame, Snooper, StaticEntry},
    wire::{MacAddr, membership},
    worker::{Snooped, thread::Command},
};

/// Frames about groups that may wait for the control plane. A worker that finds no room counts the loss and goes on.
pub(super) const SNOOPED_LEN: usize = 256;

/// All of a switch's snoopers.
#[derive(Default)]
pub(super) struct Snooping {
    snoopers: HashMap<BridgeId, Snooper>,
    /// What is published.
    mdbs: HashMap<BridgeId, Arc<Mdb>>,
    timer: Option<Timer>,
    /// Frames that workers have handed up.
    sent: Arc<AtomicU64>,
    /// Those of them that were heard.
    heard: u64,
}

/// Wakes the switch when something of a snooper is due.
struct Timer {
    due: Duration,
    task: JoinHandle<()>,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Snooping {
    /// The table of a bridge; `None`: it does not snoop.
    pub(super) fn mdb(&self, bridge: BridgeId) -> Option<Arc<Mdb>> {
        self.mdbs.get(&bridge).cloned()
    }

    /// Counts what workers hand up.
    pub(super) fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }
}

/// Hands on what workers heard, together what waits together. Ends when the workers have.
///
/// # Errors
/// The thread can't be started.
pub(super) fn listen(heard: Receiver<Snooped>, events: mpsc::Sender<Event>) -> io::Result<()> {
    let hand_on = move || {
        for first in &heard {
            let frames = std::iter::once(first).chain(heard.try_iter()).collect();
            if events.blocking_send(Event(What::Snooped(frames))).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("weft-snoop".to_owned()).spawn(hand_on).map(drop)
}

impl Switch {
    /// Makes the snoopers what the configuration and the ports' states say, before tables are built from them.
    pub(super) fn set_up_snooping(&mut self) {
        let now = self.now();
        let Self { snooping, bridges, ports, config, .. } = self;
        snooping.snoopers.retain(|id, _| bridges.get(id.0).is_some());
        for (id, name) in bridges.iter() {
            let Some(bridge) = config.bridge(name) else { continue };
            let snooper = snooping
                .snoopers
                .entry(BridgeId(id))
                .or_insert_with(|| Snooper::new(bridge.mcast.clone(), own_address(), now));
            snooper.configure(bridge.mcast.clone(), now);
            snooper.set_ports(&members(bridge, ports), now);
            snooper.set_static(&static_entries(config, name, ports));
            // What is due comes with the timer: not before workers have the ports that queries go to.
        }
        self.publish_mdbs();
    }

    /// Workers heard what hosts and routers say.
    pub(super) fn on_snooped(&mut self, frames: &[Snooped]) {
        let now = self.now();
        self.snooping.heard += frames.len() as u64;
        for frame in frames {
            let Some(snooper) = self.snooping.snoopers.get_mut(&frame.bridge) else { continue };
            let Ok(Some(packet)) = membership::parse(&frame.bytes, frame.checksum_is_pending) else { continue };
            let Some(src) = frame.bytes.get(6..12).and_then(<[u8]>::first_chunk) else { continue };
            let from = match frame.from {
                Endpoint::Port(port) => Member::Port(port),
                Endpoint::Vtep(_) => Member::Overlay,
            };
            let was_on = snooper.is_on();
            snooper.on_packet(from, MacAddr::new(*src), &packet, now);
            if was_on && !snooper.is_on() {
                let bridge = self.bridge_name(frame.bridge);
                warn!(bridge, "more multicast groups than mcast_hash_max: the bridge floods all of them from now on");
            }
        }
        self.after_snooping();
    }

    /// Whether no frame about multicast groups is on its way from a worker to the snoopers.
    pub fn has_heard_all(&self) -> bool {
        self.snooping.heard == self.snooping.sent.load(Ordering::Acquire)
    }

    /// Something of a snooper is due.
    pub(super) fn on_snooping_due(&mut self) {
        let now = self.now();
        self.snooping.snoopers.values_mut().for_each(|snooper| snooper.poll(now));
        self.after_snooping();
    }

    fn after_snooping(&mut self) {
        if self.publish_mdbs() {
            debug!("the multicast databases changed");
            let tables = Tables::clone(&self.shared.tables.load());
            self.shared.tables.store(Arc::new(with_mdbs(tables, &self.snooping)));
        }
    }

    /// Makes the tables of groups, sends the queries and sets the timer. Returns whether a table is another one now.
    fn publish_mdbs(&mut self) -> bool {
        let mut is_changed = false;
        let mut queries: Vec<(BridgeId, QueryFrame)> = Vec::new();
        for (id, snooper) in &mut self.snooping.snoopers {
            let mdb = snooper.mdb();
            if mdb.as_ref() != self.snooping.mdbs.get(id).map(AsRef::as_ref) {
                is_changed = true;
                match mdb {
                    Some(mdb) => self.snooping.mdbs.insert(*id, Arc::new(mdb)),
                    None => self.snooping.mdbs.remove(id),
                };
            }
            queries.extend(snooper.take_queries().into_iter().map(|query| (*id, query)));
        }
        let Snooping { snoopers, mdbs, .. } = &mut self.snooping;
        mdbs.retain(|id, _| snoopers.contains_key(id));
        for (bridge, QueryFrame { to, bytes }) in queries {
            self.workers.tell_one(Command::SendOwn { bridge, to, bytes });
        }
        self.set_timer();
        is_changed
    }

    fn set_timer(&mut self) {
        let due = self.snooping.snoopers.values().filter_map(Snooper::deadline).min();
        let is_set = |timer: &Timer| Some(timer.due) == due && !timer.task.is_finished();
        if self.snooping.timer.as_ref().is_some_and(is_set) {
            return;
        }
        let (now, events) = (self.now(), self.events.clone());
        self.snooping.timer = due.map(|due| {
            let task = tokio::spawn(async move {
                sleep(due.saturating_sub(now)).await;
                _ = events.send(Event(What::SnoopingDue)).await;
            });
            Timer { due, task }
        });
    }

    /// The switch's time, as snoopers count it.
    fn now(&self) -> Duration {
        Duration::from_millis(self.clock.now().0)
    }

    /// The multicast databases, of all bridges or of one.
    pub fn mdb(&self, bridge: Option<&str>) -> Vec<MdbState> {
        let wanted = self.bridges.iter().filter(|(_, name)| bridge.is_none_or(|wanted| *name == wanted));
        let state = |(id, name): (u16, &String)| {
            let snooper = self.snooping.snoopers.get(&BridgeId(id))?;
            Some(self.mdb_state(name, snooper))
        };
        let mut states: Vec<_> = wanted.filter_map(state).collect();
        states.sort_unstable_by(|a, b| a.bridge.cmp(&b.bridge));
        states
    }

    fn mdb_state(&self, name: &str, snooper: &Snooper) -> MdbState {
        let now = self.now();
        let seconds = |left: Option<Duration>| left.map(|left| left.as_secs());
        let port = |member| match member {
            Member::Port(id) => Some(self.endpoint_name(Endpoint::Port(id))),
            Member::Overlay => None,
        };
        let entries = snooper.entries(now).into_iter().map(|entry| MdbEntry {
            group: match entry.group {
                Group::Ip(group) => group.to_string(),
                Group::Mac(group) => group.to_string(),
            },
            source: entry.source,
            members: entry
                .members
                .into_iter()
                .map(|member| MdbMember {
                    port: port(member.member),
                    host: member.host,
                    permanent: member.is_static,
                    filter: if member.excludes { Filter::Exclude } else { Filter::Include },
                    sources: member
                        .sources
                        .into_iter()
                        .map(|(address, left)| MdbSource { address, expires_s: seconds(left) })
                        .collect(),
                    expires_s: seconds(member.expires_in),
                })
                .collect(),
        });
        let queriers = snooper.queriers(now).into_iter().map(|querier| MdbQuerier {
            address: querier.address,
            own: querier.member.is_none(),
            port: querier.member.and_then(port),
            expires_s: seconds(querier.expires_in),
        });
        let routers = snooper.routers(now).into_iter();
        let routers =
            routers.map(|router| MdbRouter { port: port(router.member), expires_s: seconds(router.expires_in) });
        MdbState {
            bridge: name.to_owned(),
            snooping: snooper.is_on(),
            entries: entries.collect(),
            queriers: queriers.collect(),
            routers: routers.collect(),
        }
    }
}

/// The same tables with the groups as they are now.
fn with_mdbs(mut tables: Tables, snooping: &Snooping) -> Tables {
    for (id, bridge) in (0..).map(BridgeId).zip(&mut tables.bridges) {
        if let Some(bridge) = bridge {
            bridge.mdb = snooping.mdb(id);
        }
    }
    tables
}

/// What a bridge's queries come from: a locally administered address at random, as a bridge of the kernel has it before its first
/// port.
fn own_address() -> MacAddr {
    let [_, b, c, d, e, f, ..] = fastrand::u64(..).to_be_bytes();
    MacAddr::new([0x02, b, c, d, e, f])
}

/// The ports of a bridge that are up, and the overlay if it meets one. What is known of a port does not depend on its `state`
/// (`br_netlink.c`: `br_set_port_state`).
fn members(bridge: &BridgeConfig, ports: &Slots<OpenPort>) -> Vec<(Member, PortSettings)> {
    let belongs = |port: &OpenPort| port.is_up() && port.config.membership.contains(&bridge.name);
    let ports = ports.iter().filter(|(_, port)| belongs(port));
    let mut members: Vec<_> = ports.map(|(id, port)| (Member::Port(PortId(id)), port.config.mcast)).collect();
    if bridge.vni.is_some() {
        members.push((Member::Overlay, PortSettings::default()));
    }
    members
}

fn static_entries(config: &Config, bridge: &str, ports: &Slots<OpenPort>) -> Vec<StaticEntry> {
    let entry = |entry: &MdbConfig| {
        let member = match &entry.port {
            Some(name) => {
                let (id, _) = ports.find(|port| port.config.full_name() == *name)?;
                Member::Port(PortId(id))
            }
            None => Member::Overlay,
        };
        Some(StaticEntry { group: entry.group, source: entry.source, member })
    };
    config.mdb.iter().filter(|entry| entry.bridge == bridge).filter_map(entry).collect()
}
