//! weft itself: the switch of `weft run`, in this process, made what a configuration file says and reloaded with another.

mod commands;
mod file;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tokio::{runtime::Runtime, sync::mpsc};

use self::file::{Scene, bridge_of_vlan, text};
use super::{
    CompareError, World,
    ends::{Ends, PATIENCE, TICK, datagram_frame, port_name},
    kernel::underlay,
    links::{self, counter_in, counter_out},
};
use crate::{
    compare::{
        case::{
            AGEING, At, Checksum, Datagram, Kind, MdbAdd, PORTS, QUERIER, Reading, SNOOPING, Setup, Step, UNDERLAY,
            Value,
        },
        observe::{Entry, Seen, membership, router},
    },
    control::{
        api::{
            mdb::Filter,
            model::{FdbOrigin, LinkState, Place},
        },
        config::{Config, ConfigErrors},
        switch::{Event, RuntimeError, Switch},
    },
    lab::{Lab, Namespace, rtnl::Rtnl},
};

/// An option of the kernel's bridge that weft has not.
const DEFAULT_PVID: &str = "vlan_default_pvid";
/// How the names of bridges begin that a scene's ports are not in.
const OTHER: &str = "other";
/// Counters that the kernel has not by these names.
const OCTETS: &str = "tunnel octets";
const PACKETS: &str = "tunnel packets";
/// weft writes to the cable itself, so that is the only hop; one more for what its side's kernel may say to that.
const HOPS: u32 = 2;
/// What an Ethernet header and a tag add to an MTU.
const ROOM: usize = 18;

/// weft's side.
pub struct WeftWorld {
    ends: Ends,
    runtime: Runtime,
    switch: Switch,
    events: mpsc::Receiver<Event>,
    rtnl: Rtnl,
    ports: Vec<u32>,
    namespace: Namespace,
    scene: Scene,
    down: BTreeSet<u8>,
    /// Permanent members of groups.
    groups: Vec<MdbAdd>,
    /// Frames that have come in, as they must stand in the ledger.
    arrived: u64,
    /// Counters when the case began; less by one for each frame that an interface counted and nobody could read.
    base: BTreeMap<String, i64>,
}

impl WeftWorld {
    /// Builds it in a namespace of the lab.
    ///
    /// # Errors
    /// The lab can't be built, or weft can't be started.
    pub fn new(lab: &Lab) -> Result<Self, CompareError> {
        let namespace = lab.namespace("weft")?.without_ipv6()?;
        let ends = Ends::new(lab, &namespace, "weft")?;
        underlay(&namespace)?;
        let ports = (1..=PORTS).map(|port| Ok(namespace.link(&port_name(port))?.index));
        let ports = ports.collect::<Result<Vec<_>, CompareError>>()?;
        let rtnl = Rtnl::open(namespace.netns()).map_err(CompareError::io("open a netlink socket"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(CompareError::io("start a runtime"))?;
        let scene = Scene::default();
        let config = parse(&text(&scene, &namespace)?).map_err(|errors| CompareError::Lacks(said(&errors)))?;
        let (switch, events) = runtime.block_on(Switch::start(config))?;
        let mut world = Self {
            ends,
            runtime,
            switch,
            events,
            rtnl,
            ports,
            namespace,
            scene,
            down: BTreeSet::new(),
            groups: Vec::new(),
            arrived: 0,
            base: BTreeMap::new(),
        };
        for port in 1..=PORTS {
            world.until(port, LinkState::Up)?;
        }
        Ok(world)
    }

    /// Reloads the configuration. `Ok(Err)`: weft refuses it.
    fn reload(&mut self, scene: &Scene) -> Result<Result<(), String>, CompareError> {
        let config = match parse(&text(scene, &self.namespace)?) {
            Ok(config) => config,
            Err(errors) if is_unknown(&errors) => return Err(CompareError::Lacks(said(&errors))),
            Err(errors) => return Ok(Err(said(&errors))),
        };
        match self.runtime.block_on(self.switch.reload(config)) {
            Ok(_) => Ok(Ok(())),
            Err(RuntimeError::Apply(error)) => Err(error.into()),
            Err(error @ (RuntimeError::Config(_) | RuntimeError::NotFound { .. })) => Ok(Err(error.to_string())),
        }
    }

    /// Changes the scene as a user does who edits the file; the old one stays if weft refuses.
    fn change(&mut self, change: impl FnOnce(&mut Scene)) -> Result<Result<(), String>, CompareError> {
        let mut scene = self.scene.clone();
        change(&mut scene);
        let done = self.reload(&scene)?;
        if done.is_ok() {
            self.scene = scene;
        }
        Ok(done)
    }

    /// Hears what happens to interfaces until a port is as it should be.
    fn until(&mut self, port: u8, state: LinkState) -> Result<(), CompareError> {
        let name = self.full_name(port);
        let started = Instant::now();
        loop {
            let events = &mut self.events;
            let heard = async { tokio::time::timeout(Duration::from_millis(1), events.recv()).await };
            if let Ok(Some(event)) = self.runtime.block_on(heard) {
                self.runtime.block_on(self.switch.on_event(event));
            }
            if self.state(&name) == Some(state) {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                return Err(CompareError::Late { world: "weft", what: format!("port {port} {state:?}") });
            }
        }
    }

    fn state(&self, name: &str) -> Option<LinkState> {
        self.switch.ports().into_iter().find(|port| port.name == name).map(|port| port.state)
    }

    fn hear(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.runtime.block_on(self.switch.on_event(event));
        }
    }

    fn full_name(&self, port: u8) -> String {
        format!("{}/{}", self.namespace.full_name(), port_name(port))
    }

    fn bridge_of(&self, vid: Option<u16>) -> String {
        vid.map_or_else(|| self.scene.bridge().to_owned(), bridge_of_vlan)
    }

    fn link(&mut self, port: u8, up: bool) -> Result<(), CompareError> {
        let index = self.ports[usize::from(port) - 1];
        links::set_up(&mut self.rtnl, index, up)?;
        if up {
            self.down.remove(&port);
        } else {
            self.down.insert(port);
        }
        self.until(port, if up { LinkState::Up } else { LinkState::Down })
    }

    /// Whether a frame gets to the port's interface at all: the cable's end must be up, and take one that long.
    fn takes(&self, port: u8, len: usize) -> bool {
        let mtu = match self.scene.setup.port.get(&port).and_then(|options| options.get("mtu")) {
            Some(Value::Number(mtu)) => usize::try_from(*mtu).unwrap_or(0),
            Some(Value::Switch(_) | Value::Word(_)) | None => 1500,
        };
        !self.down.contains(&port) && !self.scene.detached.contains(&port) && len <= mtu + ROOM
    }

    /// Whether a datagram gets to weft's socket.
    fn hears(&self, datagram: &Datagram) -> bool {
        let port = match self.scene.setup.overlay.as_ref().and_then(|overlay| overlay.options.get("port")) {
            Some(Value::Number(port)) => *port,
            Some(Value::Switch(_) | Value::Word(_)) | None => 4789,
        };
        self.scene.setup.overlay.is_some() && i64::from(datagram.port) == port && datagram.checksum != Checksum::Wrong
    }

    /// Waits until the ledger has everything that came in.
    fn settle(&mut self) -> Result<(), CompareError> {
        let started = Instant::now();
        loop {
            let totals = self.runtime.block_on(async { self.switch.totals() });
            if totals.in_frames >= self.arrived && totals.balanced {
                self.arrived = totals.in_frames;
                break;
            }
            if started.elapsed() > PATIENCE {
                let what = format!("frame {} of the ledger (it has {})", self.arrived, totals.in_frames);
                return Err(CompareError::Late { world: "weft", what });
            }
            std::thread::yield_now();
        }
        while !self.switch.has_heard_all() {
            self.hear();
            if started.elapsed() > PATIENCE {
                let what = "what hosts say about groups".to_owned();
                return Err(CompareError::Late { world: "weft", what });
            }
            std::thread::yield_now();
        }
        self.ends.settle(HOPS)
    }

    fn read(&mut self, what: Reading) -> Option<String> {
        match what {
            // A bridge of weft's is no interface.
            Reading::BridgeMtu => None,
            Reading::TunnelMtu => Some(self.switch.default_mtu(self.scene.bridge()).to_string()),
            Reading::TunnelOctets => self.counters_since().get(OCTETS).map(ToString::to_string),
            Reading::TunnelPackets => self.counters_since().get(PACKETS).map(ToString::to_string),
        }
    }

    /// Counters since the case began.
    fn counters_since(&mut self) -> BTreeMap<String, u64> {
        let now = self.read_counters();
        let since = |(name, value): (String, u64)| {
            let before = self.base.get(&name).copied().unwrap_or(0);
            (name, (value as i64 - before) as u64)
        };
        now.into_iter().map(since).collect()
    }

    /// What the kernel's devices count as well, by the same names.
    fn read_counters(&mut self) -> BTreeMap<String, u64> {
        let ledger = self.runtime.block_on(async { self.switch.ledger() });
        let names: Vec<_> = (1..=PORTS).map(|port| (port, self.full_name(port))).collect();
        // What never counted anything has no row.
        let mut counters: BTreeMap<_, _> =
            (1..=PORTS).flat_map(|port| [(counter_in(port), 0), (counter_out(port), 0)]).collect();
        if self.scene.setup.overlay.is_some() {
            counters.extend(
                ["tunnel frame errors", "tunnel length errors", "tunnel errors out"].map(|name| (name.to_owned(), 0)),
            );
        }
        let vteps = || ledger.rows.iter().filter(|row| row.kind == Place::Vtep);
        counters.insert(OCTETS.to_owned(), vteps().map(|row| row.in_bytes).sum());
        let taken = vteps().map(|row| row.in_frames - row.drops_in.values().sum::<u64>()).sum();
        counters.insert(PACKETS.to_owned(), taken);
        for row in &ledger.rows {
            match row.kind {
                Place::Port => {
                    let Some((port, _)) = names.iter().find(|(_, name)| *name == row.name) else { continue };
                    counters.insert(counter_in(*port), row.in_frames);
                    counters.insert(counter_out(*port), row.out_frames);
                }
                Place::Vtep | Place::Underlay if self.scene.setup.overlay.is_some() => {
                    let of = |reason: &str| row.drops_in.get(reason).copied().unwrap_or(0);
                    let frame_errors = of("vxlan_reserved_bits") + of("ecn_not_capable");
                    *counters.entry("tunnel frame errors".to_owned()).or_default() += frame_errors;
                    *counters.entry("tunnel length errors".to_owned()).or_default() += of("inner_ip_truncated");
                    let out = |reason: &str| row.drops_out.get(reason).copied().unwrap_or(0);
                    *counters.entry("tunnel errors out".to_owned()).or_default() += out("underlay_unreachable");
                }
                Place::Vtep | Place::Underlay | Place::Bridge | Place::Own => {}
            }
        }
        counters
    }
}

impl World for WeftWorld {
    fn name(&self) -> &'static str {
        "weft"
    }

    fn begin(&mut self, setup: &Setup) -> Result<(), CompareError> {
        for port in std::mem::take(&mut self.down) {
            self.link(port, true)?;
        }
        for entry in std::mem::take(&mut self.groups) {
            // It may be gone with its port.
            let _ = self.mdb_delete(&entry);
        }
        let cleared = self.flush(None, true);
        cleared.map_err(|error| CompareError::Late { world: "weft", what: format!("an empty FDB ({error})") })?;
        // The ports' MTUs are the interfaces' own, and stay when the file no longer names them.
        let mut complete = setup.clone();
        for port in 1..=PORTS {
            complete.port.entry(port).or_default().entry("mtu".into()).or_insert(Value::Number(1500));
        }
        let snooped = self.scene.setup.bridge.contains_key(SNOOPING);
        let is_second = self.scene.is_second != snooped;
        let returning: Vec<_> = self.scene.detached.iter().copied().collect();
        let scene = Scene { setup: complete, is_second, ..Scene::default() };
        let prefix = format!("{}/", self.namespace.full_name());
        let lacks = |why: String| CompareError::Lacks(format!("weft refuses it: {}", why.replace(&prefix, "")));
        self.reload(&scene)?.map_err(lacks)?;
        self.scene = scene;
        for port in returning {
            self.until(port, LinkState::Up)?;
        }
        self.hear();
        // What crossed the change may have been learned after the FDB was emptied.
        let _ = self.flush(None, false);
        self.settle()?;
        self.ends.collect();
        self.base = self.read_counters().into_iter().map(|(name, value)| (name, value as i64)).collect();
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<Seen, CompareError> {
        if !matches!(step, Step::Wait { .. }) {
            self.ends.expect_silence()?;
        }
        let mut reading = None;
        let done = match step {
            Step::Send { port, frame } => {
                if self.ends.send(*port, &frame.0) && self.takes(*port, frame.0.len()) {
                    if is_cut_off(&frame.0) {
                        *self.base.entry(counter_in(*port)).or_default() -= 1;
                    } else {
                        self.arrived += 1;
                    }
                }
                Ok(())
            }
            Step::Arrive(datagram) => {
                let sent = self.ends.send(UNDERLAY, &datagram_frame(datagram));
                self.arrived += u64::from(sent && self.hears(datagram));
                Ok(())
            }
            Step::SetBridge { option, value } if option == DEFAULT_PVID => self.default_pvid(value)?,
            Step::SetBridge { option, value } => {
                let done = self.change(|scene| _ = scene.setup.bridge.insert(option.clone(), value.clone()))?;
                if option == QUERIER {
                    std::thread::sleep(TICK);
                    self.hear();
                }
                if option == AGEING {
                    self.runtime.block_on(self.switch.on_tick());
                }
                done
            }
            Step::SetTunnel { option, value } => self.change(|scene| {
                let overlay = scene.setup.overlay.as_mut();
                overlay.map(|overlay| overlay.options.insert(option.clone(), value.clone()));
            })?,
            Step::SetPort { port, option, value } => self.change(|scene| {
                scene.setup.port.entry(*port).or_default().insert(option.clone(), value.clone());
            })?,
            Step::FdbAdd(entry) => self.fdb_add(entry)?,
            Step::FdbDelete { mac, vid } => self.fdb_delete(*mac, *vid),
            Step::FdbFlush { port } => self.flush(*port, false),
            // What comes nearest to a device that is down: the bridge has no network.
            Step::Link { port: UNDERLAY, up } => self.change(|scene| scene.tunnel_is_down = !up)?,
            Step::Link { port, up } => {
                self.link(*port, *up)?;
                Ok(())
            }
            Step::Attach { port, on } => {
                self.attach(*port, *on)?;
                Ok(())
            }
            Step::MdbAdd(entry) => {
                self.groups.push(entry.clone());
                self.mdb_add(entry)?
            }
            Step::MdbDelete(entry) => {
                self.groups.retain(|other| other != entry);
                self.mdb_delete(entry)
            }
            Step::AddTunnel { vni } => self.change(|scene| scene.others.push(*vni))?,
            Step::Read { what } => {
                reading = self.read(*what);
                Ok(())
            }
            Step::Wait { .. } => {
                self.hear();
                self.runtime.block_on(self.switch.on_tick());
                Ok(())
            }
        };
        self.settle()?;
        Ok(Seen { refused: done.err(), frames: self.ends.collect(), reading })
    }

    fn fdb(&mut self) -> Result<Vec<Entry>, CompareError> {
        let filters = self.scene.setup.vlans.is_some();
        let names: Vec<_> = (1..=PORTS).map(|port| (port, self.full_name(port))).collect();
        let mut entries = Vec::new();
        for entry in self.switch.fdb(None).into_iter().filter(|entry| !entry.bridge.starts_with(OTHER)) {
            let port = entry.port.as_ref().and_then(|name| names.iter().find(|(_, known)| known == name));
            let at = match (port, entry.vtep) {
                (Some((port, _)), _) => At::Port(*port),
                (None, Some(vtep)) => At::Vtep(vtep),
                (None, None) => continue,
            };
            let kind = match entry.origin {
                FdbOrigin::Learned if entry.locked => Kind::Locked,
                FdbOrigin::Learned => Kind::Learned,
                FdbOrigin::ExternLearn => Kind::External,
                // The kernel's side leaves its own out, too.
                FdbOrigin::Permanent => continue,
                FdbOrigin::Static => Kind::Static,
                FdbOrigin::Sticky => Kind::Sticky,
            };
            let vid = entry.bridge.strip_prefix('v').and_then(|vid| vid.parse().ok()).filter(|_| filters);
            entries.push(Entry { mac: entry.mac, vid, at, kind });
        }
        entries.sort_unstable();
        Ok(entries)
    }

    fn groups(&mut self) -> Result<Option<Vec<String>>, CompareError> {
        let names: Vec<_> = (1..=PORTS).map(|port| (port, self.full_name(port))).collect();
        let place = |port: &Option<String>| match port {
            Some(name) => names.iter().find(|(_, known)| known == name).map(|(port, _)| *port),
            None => Some(UNDERLAY),
        };
        let mut lines = Vec::new();
        for bridge in self.switch.mdb(None).into_iter().filter(|bridge| bridge.snooping) {
            for entry in &bridge.entries {
                let group = match entry.source {
                    Some(source) => format!("{} from {source}", entry.group),
                    None => entry.group.clone(),
                };
                lines.extend(entry.members.iter().filter_map(|member| {
                    let excludes = member.permanent || member.filter == Filter::Exclude;
                    let sources = member.sources.iter().map(|source| (source.address, source.expires_s.is_some()));
                    let mut sources: Vec<_> = sources.collect();
                    Some(membership(&group, place(&member.port)?, member.permanent, excludes, &mut sources))
                }));
            }
            lines.extend(bridge.routers.iter().filter_map(|at| Some(router(place(&at.port)?))));
        }
        lines.sort_unstable();
        Ok(Some(lines))
    }

    fn counters(&mut self) -> Result<Vec<(String, u64)>, CompareError> {
        Ok(self.counters_since().into_iter().collect())
    }
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse("weft compare", text)
}

/// What is wrong with a configuration, in a line.
fn said(errors: &ConfigErrors) -> String {
    let mut messages: Vec<_> = errors.reports().into_iter().map(|report| report.message).collect();
    // A bridge for each VLAN says the same.
    messages.dedup();
    messages.join("; ")
}

/// Whether weft does not even know the key.
fn is_unknown(errors: &ConfigErrors) -> bool {
    errors.reports().iter().any(|report| report.message.contains("has no key"))
}

/// Whether the kernel drops a frame as soon as the interface has counted it, before a bridge or a packet socket could see it:
/// behind a tag it wants two octets more than the type (`net/core/skbuff.c`: `skb_vlan_untag`).
fn is_cut_off(frame: &[u8]) -> bool {
    frame.len() < 20 && matches!(frame.get(12..14), Some([0x81, 0] | [0x88, 0xa8]))
}
