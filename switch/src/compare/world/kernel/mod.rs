//! The kernel's own bridge, and its vxlan device as a port of it.

mod groups;
mod tables;
mod tunnel;

use std::{
    collections::BTreeMap,
    io, thread,
    time::{Duration, Instant},
};

use self::{
    tables::{IFLA_BR_FDB_FLUSH, IFLA_BR_VLAN_FILTERING, NUD_PERMANENT},
    tunnel::Tunnel,
};
use super::{
    CompareError, World,
    ends::{Ends, FAR_MAC, PATIENCE, TICK, UNDERLAY_NAME, datagram_frame, port_name},
    links,
};
use crate::{
    compare::{
        case::{
            AGEING, At, Kind, LOCAL, MdbAdd, Neighbour, Options, PORTS, QUERIER, Reading, SNOOPING, Setup, Step,
            UNDERLAY, Value, VlanMember, vtep,
        },
        observe::{Entry, NO_VTEP, Seen},
        option::{self, Form, Kernel, Knob, Part},
    },
    lab::{
        BridgeOptions, Lab, Namespace,
        rtnl::{self, Nest, Request, Rtnl, attribute},
    },
};

const BRIDGE: &str = "br0";
/// The vxlan device's own address is that of a port of this number.
pub(in crate::compare) const TUNNEL_PORT: u8 = 9;
/// Hops from a port to a port, by way of the tunnel at most: in, its copies; out of the tunnel, into the bridge, its copies.
const HOPS: u32 = 3;
const BRIDGE_FAMILY: u8 = Request::BRIDGE_FAMILY;

// include/uapi/linux/if_link.h
const IFLA_MASTER: u16 = 10;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_BR_VLAN_DEFAULT_PVID: u16 = 39;
const IFLA_BR_MULTI_BOOLOPT: u16 = 46;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_FLUSH: u16 = 24;
const IFLA_VXLAN_RESERVED_BITS: u16 = 33;
const IFF_UP: u32 = 1;
const STATE_FORWARDING: u8 = 3;
/// Places in `struct rtnl_link_stats64`.
const RX_PACKETS: usize = 0;
const RX_BYTES: usize = 2;

/// The kernel's side.
pub struct KernelWorld {
    ends: Ends,
    rtnl: Rtnl,
    bridge: u32,
    ports: Vec<u32>,
    tunnel: Option<Tunnel>,
    /// Options that are not as they were in the beginning.
    touched: Vec<(Part, u8, &'static Knob)>,
    vlans: BTreeMap<u8, Vec<VlanMember>>,
    neighbours: Vec<Neighbour>,
    down: Vec<u8>,
    /// Ports that are not in the bridge.
    detached: Vec<u8>,
    /// Permanent members of groups.
    groups: Vec<MdbAdd>,
    /// The tunnel's device is no longer as the scene had it.
    tunnel_changed: bool,
    /// Another tunnel's interface.
    other_tunnel: Option<u32>,
    /// The bridge has listened to what hosts say about groups.
    snooped: bool,
    /// Options that the kernel is known to have.
    proven: Vec<(Part, &'static str)>,
    filters: bool,
    base: Vec<(String, u64)>,
    /// What had come in by the tunnel when the case began: packets and octets.
    base_taken: (u64, u64),
    namespace: Namespace,
}

impl KernelWorld {
    /// Builds it in a namespace of the lab.
    ///
    /// # Errors
    /// The lab can't be built.
    pub fn new(lab: &Lab) -> Result<Self, CompareError> {
        let namespace = lab.namespace("kernel")?.without_ipv6()?;
        let ends = Ends::new(lab, &namespace, "kernel")?;
        // A bridge that snoops joins a group of its own, and would say so.
        namespace.sysctl("net.ipv4.igmp_link_local_mcast_reports", "0")?;
        underlay(&namespace)?;
        let ports = (1..=PORTS).map(|port| Ok(namespace.link(&port_name(port))?.index));
        let ports = ports.collect::<Result<Vec<_>, CompareError>>()?;
        let rtnl = Rtnl::open(namespace.netns()).map_err(CompareError::io("open a netlink socket"))?;
        let mut world = Self {
            ends,
            rtnl,
            bridge: 0,
            ports,
            tunnel: None,
            touched: Vec::new(),
            vlans: BTreeMap::new(),
            neighbours: Vec::new(),
            down: Vec::new(),
            detached: Vec::new(),
            groups: Vec::new(),
            tunnel_changed: false,
            other_tunnel: None,
            snooped: false,
            proven: Vec::new(),
            filters: false,
            base: Vec::new(),
            base_taken: (0, 0),
            namespace,
        };
        world.make_bridge()?;
        Ok(world)
    }

    fn make_bridge(&mut self) -> Result<(), CompareError> {
        let mac = Some(crate::compare::frame::port_mac(1));
        self.namespace.bridge(BRIDGE, &BridgeOptions { mac, ..BridgeOptions::default() })?;
        self.bridge = self.namespace.link(BRIDGE)?.index;
        // Ports are members of nothing but what a scene says. A kernel without VLANs may refuse to hear of them.
        let _ = self.set_bridge_attribute(IFLA_BR_VLAN_DEFAULT_PVID, &[0, 0]);
        (1..=PORTS).try_for_each(|port| self.attach(port, true))
    }

    /// Makes the bridge anew, without whatever it has heard of groups. To be told to listen no more does not make it forget, and
    /// a group that no port got into is kept to the bridge's end.
    fn forget_groups(&mut self) -> Result<(), CompareError> {
        self.tunnel(None)?;
        let request = Request::link(Request::DELETE_LINK, 0, self.bridge, 0, 0);
        self.rtnl.change(&request, 0).map_err(CompareError::io("delete the bridge"))?;
        self.make_bridge()
    }

    fn port_index(&self, port: u8) -> u32 {
        if port == UNDERLAY {
            return self.tunnel.as_ref().map_or(0, |tunnel| tunnel.index);
        }
        self.ports[usize::from(port) - 1]
    }

    /// The index of a port's interface; 0 of none.
    fn index_of(&self, port: i64) -> u32 {
        usize::try_from(port - 1).ok().and_then(|at| self.ports.get(at)).copied().unwrap_or(0)
    }

    /// A port that was set up takes part once the kernel has noticed its carrier (`net/core/link_watch.c`), which it does in
    /// its own time.
    fn until_forwarding(&mut self, port: u8) -> Result<(), CompareError> {
        let started = Instant::now();
        loop {
            let state = self.info(self.port_index(port), IFLA_INFO_SLAVE_DATA, IFLA_BRPORT_STATE)?;
            if state.and_then(|value| value.first().copied()) == Some(STATE_FORWARDING) {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                let what = format!("port {port} forwarding");
                return Err(CompareError::Late { world: "kernel", what });
            }
            thread::sleep(Duration::from_micros(100));
        }
    }

    /// What is too old when the ageing time becomes shorter goes in the kernel's own time (`br_fdb.c`: `br_fdb_cleanup`).
    fn until_forgotten(&mut self) -> Result<(), CompareError> {
        let started = Instant::now();
        while self.fdb()?.iter().any(|entry| entry.kind == Kind::Learned) {
            if started.elapsed() > PATIENCE {
                return Err(CompareError::Late { world: "kernel", what: "an FDB without old entries".into() });
            }
            thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// An attribute of what the kernel says of an interface's kind or of its being a port.
    fn info(&mut self, index: u32, group: u16, number: u16) -> Result<Option<Vec<u8>>, CompareError> {
        let found = self.rtnl.get(&Request::link(Request::GET_LINK, 0, index, 0, 0));
        let found = found.map_err(CompareError::io("read an interface"))?;
        let inner = attribute(found.get(16..).unwrap_or_default(), IFLA_LINKINFO);
        let inner = inner.and_then(|inner| attribute(inner, group));
        Ok(inner.and_then(|inner| attribute(inner, number)).map(<[u8]>::to_vec))
    }

    fn set_bridge_attribute(&mut self, number: u16, value: &[u8]) -> io::Result<()> {
        let data = Nest::default().with(number, value);
        let info = Nest::default().with(IFLA_INFO_KIND, b"bridge\0").nest(IFLA_INFO_DATA, &data);
        self.rtnl.change(&Request::link(Request::NEW_LINK, 0, self.bridge, 0, 0).nest(IFLA_LINKINFO, &info), 0)
    }

    fn set_port_attribute(&mut self, index: u32, number: u16, value: &[u8]) -> io::Result<()> {
        let info = Nest::default().with(number, value);
        let request = Request::link(Request::SET_LINK, BRIDGE_FAMILY, index, 0, 0).nest(IFLA_PROTINFO, &info);
        self.rtnl.change(&request, 0)
    }

    /// Sets an option. `Ok(Err)`: the kernel refuses this value.
    fn set(&mut self, part: Part, port: u8, name: &str, value: &Value) -> Result<io::Result<()>, CompareError> {
        let Some(knob) = option::find(part, name) else {
            return Err(CompareError::Lacks(format!("no option {name} is known to this comparison")));
        };
        let touched = (part, port, knob);
        if !self.touched.iter().any(|known| (known.0, known.1, known.2.name) == (part, port, name)) {
            self.touched.push(touched);
        }
        self.put(part, port, knob, value)
    }

    fn put(
        &mut self,
        part: Part,
        port: u8,
        knob: &'static Knob,
        value: &Value,
    ) -> Result<io::Result<()>, CompareError> {
        let index = if part == Part::Port { self.port_index(port) } else { self.bridge };
        let done = match knob.kernel {
            Kernel::Absent => return Ok(Ok(())),
            Kernel::Attribute(number, form) => {
                let octets = match (form, value) {
                    (Form::Port, Value::Number(port)) => Some(self.index_of(*port).to_ne_bytes().to_vec()),
                    _ => form.octets(value),
                };
                let Some(octets) = octets else {
                    return Ok(Err(io::Error::from(io::ErrorKind::InvalidInput)));
                };
                match part {
                    Part::Port => self.set_port_attribute(index, number, &octets),
                    Part::Bridge | Part::Tunnel => self.set_bridge_attribute(number, &octets),
                }
            }
            Kernel::Bool(bit) => {
                let on = u32::from(*value == Value::Switch(true)) << bit;
                let option = [on.to_ne_bytes(), (1_u32 << bit).to_ne_bytes()].concat();
                self.set_bridge_attribute(IFLA_BR_MULTI_BOOLOPT, &option)
            }
            Kernel::Mtu => {
                let Value::Number(mtu) = value else {
                    return Ok(Err(io::Error::from(io::ErrorKind::InvalidInput)));
                };
                links::set_mtu(&mut self.rtnl, index, u32::try_from(*mtu).unwrap_or(u32::MAX))
            }
            Kernel::Learning => Ok(()),
        };
        if done.is_ok() && *value != knob.default.into() {
            self.prove(part, index, knob)?;
        }
        Ok(done)
    }

    /// An attribute that a kernel does not know is passed over without a word: it is looked for once.
    fn prove(&mut self, part: Part, index: u32, knob: &'static Knob) -> Result<(), CompareError> {
        let Kernel::Attribute(number, _) = knob.kernel else { return Ok(()) };
        if self.proven.contains(&(part, knob.name)) {
            return Ok(());
        }
        let group = if part == Part::Port { IFLA_INFO_SLAVE_DATA } else { IFLA_INFO_DATA };
        if self.info(index, group, number)?.is_none() {
            return Err(CompareError::Lacks(format!("this kernel's bridge has no {}", knob.name)));
        }
        self.proven.push((part, knob.name));
        Ok(())
    }

    fn options(&mut self, part: Part, port: u8, options: &Options) -> Result<(), CompareError> {
        for (name, value) in options {
            let done = self.set(part, port, name, value)?;
            done.map_err(|error| CompareError::Lacks(format!("the kernel refuses {name} = {value}: {error}")))?;
        }
        Ok(())
    }

    fn restore(&mut self) -> Result<(), CompareError> {
        for port in std::mem::take(&mut self.detached) {
            self.attach(port, true)?;
        }
        // The tunnel's device is made anew.
        for port in std::mem::take(&mut self.down).into_iter().filter(|port| *port != UNDERLAY) {
            self.link(port, true)?;
        }
        self.remove_other_tunnel()?;
        for entry in std::mem::take(&mut self.groups) {
            // It may be gone with its port.
            let _ = self.group(&entry, false);
        }
        // Backwards: `mab` can be on with `locked` only.
        for (part, port, knob) in std::mem::take(&mut self.touched).into_iter().rev() {
            let done = self.put(part, port, knob, &knob.default.into())?;
            done.map_err(CompareError::io(format!("restore {}", knob.name)))?;
        }
        // While the VLANs of its entries are there.
        self.clear_fdb()?;
        if self.filters {
            self.set_bridge_attribute(IFLA_BR_VLAN_FILTERING, &[0])
                .map_err(CompareError::io("turn VLAN filtering off"))?;
            for (port, members) in std::mem::take(&mut self.vlans) {
                for member in members {
                    self.vlan(port, member, false).map_err(CompareError::io("remove a VLAN"))?;
                }
            }
            self.filters = false;
        }
        if std::mem::take(&mut self.snooped) {
            self.forget_groups()?;
        }
        let neighbours = std::mem::take(&mut self.neighbours);
        for neighbour in &neighbours {
            self.neighbour(*neighbour, Request::DELETE_NEIGHBOUR, 0).map_err(CompareError::io("remove a neighbour"))?;
        }
        self.ipv6(&neighbours, false)
    }

    fn link(&mut self, port: u8, up: bool) -> Result<(), CompareError> {
        let index = self.port_index(port);
        links::set_up(&mut self.rtnl, index, up)?;
        if up {
            self.until_forwarding(port)?;
        }
        Ok(())
    }

    /// Puts a port into the bridge, or takes it out.
    fn attach(&mut self, port: u8, on: bool) -> Result<(), CompareError> {
        let master = if on { self.bridge } else { 0 };
        let request =
            Request::link(Request::NEW_LINK, 0, self.port_index(port), 0, 0).with(IFLA_MASTER, &master.to_ne_bytes());
        self.rtnl.change(&request, 0).map_err(CompareError::io("put a port into the bridge or take it out"))?;
        if on {
            self.until_forwarding(port)?;
        }
        Ok(())
    }

    /// Packets and octets that the tunnel's device has taken.
    fn taken(&mut self) -> Result<(u64, u64), CompareError> {
        if self.tunnel.is_none() {
            return Ok((0, 0));
        }
        let index = self.port_index(UNDERLAY);
        let stats = links::stats(&mut self.rtnl, index)?;
        let of = |at: usize| stats.get(at).copied().unwrap_or(0);
        Ok((of(RX_PACKETS), of(RX_BYTES)))
    }

    fn read(&mut self, what: Reading) -> Result<String, CompareError> {
        Ok(match what {
            Reading::BridgeMtu => links::mtu(&mut self.rtnl, self.bridge)?.to_string(),
            Reading::TunnelMtu => {
                let index = self.port_index(UNDERLAY);
                links::mtu(&mut self.rtnl, index)?.to_string()
            }
            Reading::TunnelOctets => (self.taken()?.1 - self.base_taken.1).to_string(),
            Reading::TunnelPackets => (self.taken()?.0 - self.base_taken.0).to_string(),
        })
    }

    /// `struct rtnl_link_stats64` by what weft counts as well.
    fn read_counters(&mut self) -> Result<Vec<(String, u64)>, CompareError> {
        let mut counters = links::port_counters(&mut self.rtnl, &self.ports)?;
        if self.tunnel.is_some() {
            let index = self.port_index(UNDERLAY);
            let stats = links::stats(&mut self.rtnl, index)?;
            let of = |at: usize| stats.get(at).copied().unwrap_or(0);
            counters.push(("tunnel length errors".into(), of(10)));
            counters.push(("tunnel errors out".into(), of(5)));
            // Since the kernel that can be told what is reserved (6.14), reserved bits count here; before, nowhere.
            if self.info(index, IFLA_INFO_DATA, IFLA_VXLAN_RESERVED_BITS)?.is_some() {
                counters.push(("tunnel frame errors".into(), of(13)));
            }
        }
        Ok(counters)
    }
}

impl World for KernelWorld {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn begin(&mut self, setup: &Setup) -> Result<(), CompareError> {
        let has_networks = self.tunnel.as_ref().is_some_and(|tunnel| !tunnel.overlay.networks.is_empty());
        let is_changed = std::mem::take(&mut self.tunnel_changed) || self.down.contains(&UNDERLAY);
        self.restore()?;
        if is_changed || has_networks {
            self.tunnel(None)?;
        }
        self.tunnel(setup.overlay.as_ref())?;
        if let Some(vlans) = &setup.vlans {
            self.filter_vlans(vlans)?;
        }
        self.networks(setup.overlay.as_ref())?;
        self.options(Part::Bridge, 0, &setup.bridge)?;
        for (port, options) in &setup.port {
            self.options(Part::Port, *port, options)?;
        }
        self.snooped = setup.bridge.get(SNOOPING) == Some(&Value::Switch(true));
        if self.snooped {
            begin_to_listen();
        }
        self.ipv6(&setup.neighbours, true)?;
        for neighbour in &setup.neighbours {
            self.neighbour(*neighbour, Request::NEW_NEIGHBOUR, rtnl::CREATE | rtnl::REPLACE)
                .map_err(CompareError::io("add a neighbour"))?;
            self.neighbours.push(*neighbour);
        }
        if let Some(overlay) = &setup.overlay {
            self.learning(overlay)?;
        }
        self.ends.settle(HOPS)?;
        self.ends.collect();
        self.base = self.read_counters()?;
        self.base_taken = self.taken()?;
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<Seen, CompareError> {
        if !matches!(step, Step::Wait { .. }) {
            self.ends.expect_silence()?;
        }
        let mut reading = None;
        let done = match step {
            Step::Send { port, frame } => {
                self.ends.send(*port, &frame.0);
                Ok(())
            }
            Step::Arrive(datagram) => {
                self.ends.send(UNDERLAY, &datagram_frame(datagram));
                Ok(())
            }
            Step::SetBridge { option, value } => {
                self.snooped |= option == SNOOPING;
                let done = self.set(Part::Bridge, 0, option, value)?;
                if option == QUERIER || option == SNOOPING {
                    begin_to_listen();
                }
                if option == AGEING && *value == Value::Number(0) {
                    self.until_forgotten()?;
                }
                done
            }
            Step::SetTunnel { option, value } => self.set_tunnel(option, value)?,
            Step::SetPort { port, option, value } => self.set(Part::Port, *port, option, value)?,
            Step::FdbAdd(entry) => self.fdb_add(entry)?,
            Step::FdbDelete { mac, vid } => self.fdb_delete(*mac, *vid)?,
            Step::FdbFlush { port: None } => self.set_bridge_attribute(IFLA_BR_FDB_FLUSH, &[]),
            Step::FdbFlush { port: Some(port) } => {
                self.set_port_attribute(self.port_index(*port), IFLA_BRPORT_FLUSH, &[])
            }
            Step::Link { port, up } => {
                self.down.retain(|down| down != port);
                if !up {
                    self.down.push(*port);
                }
                self.link(*port, *up)?;
                Ok(())
            }
            Step::Attach { port, on } => {
                self.detached.retain(|other| other != port);
                if !on {
                    self.detached.push(*port);
                }
                self.attach(*port, *on)?;
                Ok(())
            }
            Step::MdbAdd(entry) => {
                self.groups.push(entry.clone());
                self.group(entry, true)
            }
            Step::MdbDelete(entry) => {
                self.groups.retain(|other| other != entry);
                self.group(entry, false)
            }
            Step::AddTunnel { vni } => self.add_tunnel(*vni)?,
            Step::Read { what } => {
                reading = Some(self.read(*what)?);
                Ok(())
            }
            Step::Wait { .. } => Ok(()),
        };
        self.ends.settle(HOPS)?;
        self.keep_in_step()?;
        let refused = done.err().map(|error| error.to_string());
        Ok(Seen { refused, frames: self.ends.collect(), reading })
    }

    fn fdb(&mut self) -> Result<Vec<Entry>, CompareError> {
        let dumped = self.dump()?;
        let tunnel = self.tunnel.as_ref().map(|tunnel| tunnel.index);
        let remotes: BTreeMap<_, _> = dumped.iter().filter_map(|entry| Some((entry.mac, entry.dst?))).collect();
        let mut entries = Vec::new();
        for entry in dumped.iter().filter(|entry| entry.master == self.bridge && entry.state & NUD_PERMANENT == 0) {
            let at = if Some(entry.index) == tunnel {
                At::Vtep(remotes.get(&entry.mac).copied().unwrap_or(NO_VTEP))
            } else {
                let port = self.ports.iter().position(|index| *index == entry.index);
                At::Port(port.map_or(0, |at| at as u8 + 1))
            };
            entries.push(Entry { mac: entry.mac, vid: entry.vid, at, kind: entry.kind() });
        }
        entries.sort_unstable();
        Ok(entries)
    }

    fn groups(&mut self) -> Result<Option<Vec<String>>, CompareError> {
        // What is said of groups after it has given up differs from kernel to kernel.
        let listens = self.info(self.bridge, IFLA_INFO_DATA, IFLA_BR_MCAST_SNOOPING)?;
        if listens.is_none_or(|on| on.first() == Some(&0)) {
            return Ok(Some(Vec::new()));
        }
        self.group_lines().map(Some)
    }

    fn counters(&mut self) -> Result<Vec<(String, u64)>, CompareError> {
        let now = self.read_counters()?;
        let base: BTreeMap<_, _> = self.base.iter().cloned().collect();
        Ok(now.into_iter().map(|(name, value)| (name.clone(), value - base.get(&name).unwrap_or(&0))).collect())
    }
}

/// A bridge that begins to listen starts the clocks of its own queries, for the next tick, whether it will ask or not. As long as one of
/// them runs, its bridge believes no querier of MLD that it does not know yet (`br_multicast.c`: `br_multicast_select_querier`): any
/// address is above `::`, that of nobody. For IGMP there is an exception for nobody's.
fn begin_to_listen() {
    thread::sleep(TICK);
}

/// Gives a side its address on the underlay and lets it know the VTEPs at the other end for good.
pub(super) fn underlay(namespace: &Namespace) -> Result<(), CompareError> {
    namespace.address(UNDERLAY_NAME, &format!("{LOCAL}/24"))?;
    for number in 2..=9 {
        namespace.neighbour(UNDERLAY_NAME, vtep(number), FAR_MAC)?;
    }
    Ok(())
}
