//! Open vSwitch's bridge in its userspace datapath, forwarding as it does by itself (`NORMAL`).
//!
//! Its one thread reads all ports in turn and forwards what it reads before it reads on (`lib/dpif-netdev.c`:
//! `dpif_netdev_run`), so a frame is done when two sentinels, one after the other, have gone through a second bridge of it: the first
//! may be read in the very turn in which the frame came too late for its port, the second can't. What it has learned
//! decides about the next frame as soon as no flow of an earlier one is left, which is asked for after each step.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{
    CompareError, World,
    ends::{Ends, port_name},
    links,
};
use crate::{
    compare::{
        case::{At, FdbAdd, Kind, PORTS, Setup, Step, Value, VlanMember},
        observe::{Entry, Seen},
        option::{self, Part},
    },
    lab::{Lab, Ovs, rtnl::Rtnl},
    wire::MacAddr,
};

const BRIDGE: &str = "br0";
/// Forwards nothing but sentinels, from one of these to the other.
const RELAY: &str = "relay";
const RELAYED: [&str; 2] = ["q0", "q1"];
/// See above; one more for what leaves it.
const HOPS: u32 = 3;
/// The smallest table that it can have, and its default (`lib/mac-learning.h`).
const LEAST_ENTRIES: i64 = 10;
const DEFAULT_ENTRIES: i64 = 8192;
/// The shortest ageing time that it can have, and the usual one, in milliseconds (`lib/mac-learning.c`: `normalize_idle_time`).
const LEAST_AGEING: i64 = 15_000;
const DEFAULT_AGEING: i64 = 300_000;
/// All bits that a bridge's `group_fwd_mask` can have.
const ALL_GROUPS: i64 = 0xfff8;

/// Open vSwitch's side.
pub struct OvsWorld {
    ends: Ends,
    ovs: Ovs,
    rtnl: Rtnl,
    ports: Vec<u32>,
    setup: Setup,
    /// The words that made it what it is.
    configured: String,
    down: BTreeSet<u8>,
    /// What a user's entries were said to be.
    kinds: BTreeMap<(MacAddr, u16), Kind>,
    base: Vec<(String, u64)>,
}

/// A line of its table.
struct Learned {
    port: u8,
    vid: u16,
    mac: MacAddr,
    is_static: bool,
}

impl OvsWorld {
    /// Builds it in a namespace of the lab.
    ///
    /// # Errors
    /// The lab can't be built, or Open vSwitch can't be started.
    pub fn new(lab: &Lab) -> Result<Self, CompareError> {
        let namespace = lab.namespace("ovs")?.without_ipv6()?;
        let ends = Ends::relayed(lab, &namespace, "ovs", RELAYED)?;
        let ovs = Ovs::start(lab, &namespace, &[])?;
        let mut words = String::new();
        for bridge in [BRIDGE, RELAY] {
            let _ =
                write!(words, "-- add-br {bridge} -- set bridge {bridge} datapath_type=netdev fail_mode=standalone ");
        }
        for port in 1..=PORTS {
            let name = port_name(port);
            let _ = write!(words, "-- add-port {BRIDGE} {name} -- set interface {name} ofport_request={port} ");
        }
        RELAYED.iter().for_each(|name| _ = write!(words, "-- add-port {RELAY} {name} "));
        ovs.vsctl(&words)?;
        let ports = (1..=PORTS).map(|port| Ok(namespace.link(&port_name(port))?.index));
        let ports = ports.collect::<Result<_, CompareError>>()?;
        let rtnl = Rtnl::open(namespace.netns()).map_err(CompareError::io("open a netlink socket"))?;
        Ok(Self {
            ends,
            ovs,
            rtnl,
            ports,
            setup: Setup::default(),
            configured: String::new(),
            down: BTreeSet::new(),
            kinds: BTreeMap::new(),
            base: Vec::new(),
        })
    }

    /// Makes it what a scene says.
    fn configure(&mut self, setup: &Setup) -> Result<(), CompareError> {
        let words = words(setup)?;
        for (port, index) in (1..).zip(&self.ports) {
            let mtu = match setup.port.get(&port).and_then(|options| options.get("mtu")) {
                Some(Value::Number(mtu)) => u32::try_from(*mtu).unwrap_or(u32::MAX),
                Some(Value::Switch(_) | Value::Word(_)) | None => 1500,
            };
            links::set_mtu(&mut self.rtnl, *index, mtu).map_err(CompareError::io("set an MTU"))?;
        }
        if words != self.configured {
            self.ovs.vsctl(&words)?;
            self.configured = words;
        }
        self.setup = setup.clone();
        Ok(())
    }

    fn change(&mut self, change: impl FnOnce(&mut Setup)) -> Result<(), CompareError> {
        let mut setup = self.setup.clone();
        change(&mut setup);
        self.configure(&setup)
    }

    fn link(&mut self, port: u8, up: bool) -> Result<(), CompareError> {
        links::set_up(&mut self.rtnl, self.ports[usize::from(port) - 1], up)?;
        if up {
            self.down.remove(&port);
        } else {
            self.down.insert(port);
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), CompareError> {
        self.ends.settle(HOPS)?;
        self.ovs.appctl("revalidator/purge", &[])?;
        Ok(())
    }

    fn learned(&self) -> Result<Vec<Learned>, CompareError> {
        Ok(self.ovs.appctl("fdb/show", &[BRIDGE])?.lines().filter_map(Learned::parse).collect())
    }

    fn fdb_add(&mut self, entry: &FdbAdd) -> Result<Result<(), String>, CompareError> {
        let At::Port(port) = entry.at else { return Err(lacks("Open vSwitch's bridge has no VTEPs here")) };
        if !matches!(entry.kind, Kind::Static | Kind::Sticky) {
            return Err(lacks(&format!("Open vSwitch has no {} entries of a user's", entry.kind)));
        }
        let vid = entry.vid.unwrap_or(0);
        let arguments = [BRIDGE, &port_name(port), &vid.to_string(), &entry.mac.to_string()];
        let done = self.ovs.appctl("fdb/add", &arguments).map(|_| ()).map_err(|error| error.to_string());
        if done.is_ok() {
            self.kinds.insert((entry.mac, vid), entry.kind);
        }
        Ok(done)
    }

    fn fdb_delete(&mut self, mac: MacAddr, vid: Option<u16>) -> Result<Result<(), String>, CompareError> {
        let vid = vid.unwrap_or(0);
        if self.learned()?.iter().any(|entry| (entry.mac, entry.vid) == (mac, vid) && !entry.is_static) {
            return Err(lacks("Open vSwitch can't remove one learned entry"));
        }
        let done = self.ovs.appctl("fdb/del", &[BRIDGE, &vid.to_string(), &mac.to_string()]);
        Ok(done.map(|_| ()).map_err(|error| error.to_string()))
    }
}

impl World for OvsWorld {
    fn name(&self) -> &'static str {
        "ovs"
    }

    fn begin(&mut self, setup: &Setup) -> Result<(), CompareError> {
        for port in std::mem::take(&mut self.down) {
            self.link(port, true)?;
        }
        self.configure(setup)?;
        self.ovs.appctl("fdb/flush", &[BRIDGE])?;
        for entry in self.learned()? {
            self.ovs.appctl("fdb/del", &[BRIDGE, &entry.vid.to_string(), &entry.mac.to_string()])?;
        }
        self.kinds.clear();
        self.settle()?;
        self.ends.collect();
        self.base = links::port_counters(&mut self.rtnl, &self.ports)?;
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<Seen, CompareError> {
        if !matches!(step, Step::Wait { .. }) {
            self.ends.expect_silence()?;
        }
        let done = match step {
            Step::Send { port, frame } => {
                self.ends.send(*port, &frame.0);
                Ok(())
            }
            Step::Arrive(_) => return Err(lacks("Open vSwitch's bridge has no VTEPs here")),
            Step::SetBridge { option, value } => {
                self.change(|setup| _ = setup.bridge.insert(option.clone(), value.clone()))?;
                Ok(())
            }
            Step::SetPort { port, option, value } => {
                self.change(|setup| _ = setup.port.entry(*port).or_default().insert(option.clone(), value.clone()))?;
                Ok(())
            }
            Step::FdbAdd(entry) => self.fdb_add(entry)?,
            Step::FdbDelete { mac, vid } => self.fdb_delete(*mac, *vid)?,
            Step::FdbFlush { port: None } => {
                self.ovs.appctl("fdb/flush", &[BRIDGE])?;
                Ok(())
            }
            Step::FdbFlush { port: Some(_) } => return Err(lacks("Open vSwitch flushes its whole table or nothing")),
            Step::Link { port, up } => {
                self.link(*port, *up)?;
                Ok(())
            }
            Step::SetTunnel { .. } | Step::AddTunnel { .. } | Step::Read { .. } => {
                return Err(lacks("Open vSwitch's bridge is no interface and has no tunnel here"));
            }
            Step::Attach { .. } => return Err(lacks("Open vSwitch's ports stay in their bridge here")),
            Step::MdbAdd(_) | Step::MdbDelete(_) => {
                return Err(lacks("Open vSwitch has no permanent members of a multicast group"));
            }
            Step::Wait { .. } => Ok(()),
        };
        self.settle()?;
        Ok(Seen { refused: done.err(), frames: self.ends.collect(), reading: None })
    }

    fn fdb(&mut self) -> Result<Vec<Entry>, CompareError> {
        let filters = self.setup.vlans.is_some();
        let entry = |Learned { port, vid, mac, is_static }: Learned| Entry {
            mac,
            vid: Some(vid).filter(|vid| filters || *vid != 0),
            at: At::Port(port),
            kind: match is_static {
                true => self.kinds.get(&(mac, vid)).copied().unwrap_or(Kind::Static),
                false => Kind::Learned,
            },
        };
        let mut entries: Vec<_> = self.learned()?.into_iter().map(entry).collect();
        entries.sort_unstable();
        Ok(entries)
    }

    fn counters(&mut self) -> Result<Vec<(String, u64)>, CompareError> {
        let now = links::port_counters(&mut self.rtnl, &self.ports)?;
        Ok(now.into_iter().zip(&self.base).map(|((name, value), (_, before))| (name, value - before)).collect())
    }
}

impl Learned {
    /// A line of `fdb/show`: port, VLAN, address, and its age or `static`. The title is none.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (port, vid, mac) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { port, vid, mac, is_static: words.next()? == "static" })
    }
}

fn lacks(why: &str) -> CompareError {
    CompareError::Lacks(why.to_owned())
}

/// The words of `ovs-vsctl` for a scene.
///
/// # Errors
/// [`CompareError::Lacks`]: Open vSwitch has none.
fn words(setup: &Setup) -> Result<String, CompareError> {
    if setup.overlay.is_some() {
        return Err(lacks("Open vSwitch's bridge has no VTEPs here"));
    }
    if !setup.neighbours.is_empty() {
        return Err(lacks("Open vSwitch answers nobody in another's name"));
    }
    let mut words = format!("-- set bridge {BRIDGE}");
    let number = |name: &str| match setup.bridge.get(name) {
        Some(Value::Number(number)) => Some(*number),
        Some(Value::Switch(_) | Value::Word(_)) | None => None,
    };
    let forwards = match number("group_fwd_mask").unwrap_or(0) {
        0 => false,
        ALL_GROUPS => true,
        _ => return Err(lacks("Open vSwitch forwards all reserved groups or none")),
    };
    let ageing = match number("ageing") {
        None => DEFAULT_AGEING,
        Some(ms) if ms < LEAST_AGEING => return Err(lacks("Open vSwitch forgets nobody before 15 s")),
        Some(ms) => ms,
    };
    let makes_room = setup.bridge.get("fdb_full") == Some(&Value::from("evict"));
    let entries = match number("fdb_max_learned").unwrap_or(0) {
        0 => DEFAULT_ENTRIES,
        _ if !makes_room => return Err(lacks("Open vSwitch makes room in a full table")),
        few if few < LEAST_ENTRIES => return Err(lacks("Open vSwitch's table has room for ten addresses at least")),
        most => most,
    };
    let _ = write!(words, " other_config:forward-bpdu={forwards} other_config:mac-table-size={entries}");
    let _ = write!(words, " other_config:mac-aging-time={}", ageing / 1000);
    // It never learns from what it keeps, which is what `no_linklocal_learn` asks for.
    const SAID: [&str; 5] = ["ageing", "fdb_full", "fdb_max_learned", "group_fwd_mask", "no_linklocal_learn"];
    for (name, value) in setup.bridge.iter().filter(|(name, _)| !SAID.contains(&&***name)) {
        usual(Part::Bridge, name, value)?;
    }
    for port in 1..=PORTS {
        let name = port_name(port);
        let options = setup.port.get(&port);
        let isolated = options.and_then(|options| options.get("isolated")) == Some(&Value::Switch(true));
        let _ = write!(words, " -- clear port {name} vlan_mode tag trunks -- set port {name} protected={isolated}");
        for (name, value) in options.into_iter().flatten().filter(|(name, _)| !["isolated", "mtu"].contains(&&***name))
        {
            usual(Part::Port, name, value)?;
        }
        if let Some(vlans) = &setup.vlans {
            words.push_str(&membership(vlans.get(&port).map_or(&[], Vec::as_slice))?);
        }
    }
    Ok(words)
}

/// An option that Open vSwitch has no word for can only be as it is by itself.
fn usual(part: Part, name: &str, value: &Value) -> Result<(), CompareError> {
    match option::find(part, name) {
        Some(knob) if *value == knob.default.into() => Ok(()),
        Some(_) | None => Err(lacks(&match name {
            "flood" | "mcast_flood" | "bcast_flood" => "Open vSwitch has one gate for all that is flooded".to_owned(),
            "mcast_snooping" => "Open vSwitch snoops by rules of its own".to_owned(),
            "state" => "Open vSwitch's ports have their states from spanning tree".to_owned(),
            "vlan_protocol" => "Open vSwitch takes tags of both kinds for one".to_owned(),
            other => format!("Open vSwitch has no {other}"),
        })),
    }
}

/// A port's VLANs, as columns of the table `Port`.
fn membership(members: &[VlanMember]) -> Result<String, CompareError> {
    let list = |members: &mut dyn Iterator<Item = &VlanMember>| {
        members.map(|member| member.vid.to_string()).collect::<Vec<_>>().join(",")
    };
    let rest = || list(&mut members.iter().filter(|member| !member.pvid));
    if members.iter().any(|member| member.untagged && !member.pvid) {
        return Err(lacks("an Open vSwitch port has one VLAN without a tag at most"));
    }
    Ok(match (members.iter().find(|member| member.pvid), members.len()) {
        (None, 0) => return Err(lacks("an Open vSwitch port has some VLAN")),
        (None, _) => format!(" vlan_mode=trunk trunks={}", rest()),
        (Some(VlanMember { vid, untagged: true, .. }), 1) => format!(" vlan_mode=access tag={vid}"),
        // A native VLAN is always carried, and no list of trunks means all.
        (Some(native), _) => {
            let mode = if native.untagged { "native-untagged" } else { "native-tagged" };
            format!(" vlan_mode={mode} tag={} trunks={}", native.vid, list(&mut members.iter()))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::case::{Case, access, tagged};

    #[test]
    fn fuzz_ovs_fdb() {
        crate::fuzzing::inputs(|input| {
            if let Ok(line) = std::str::from_utf8(input) {
                Learned::parse(line);
            }
        });
    }

    #[test]
    fn a_scene_has_its_words_or_says_why_not() {
        let said = |case: Case| words(&case.setup).map_err(|error| error.to_string());
        let case = || Case::new("x");
        let plain = said(case()).unwrap();
        assert!(plain.contains("forward-bpdu=false") && plain.contains("set port p4 protected=false"), "{plain}");
        let isolated = said(case().port(2, "isolated", true)).unwrap();
        assert_eq!(isolated, plain.replace("p2 protected=false", "p2 protected=true"));
        assert!(said(case().bridge("group_fwd_mask", 0xfff8)).unwrap().contains("forward-bpdu=true"));
        let vlans = |members: &[VlanMember]| (1..=4).fold(case(), |case, port| case.vlans(port, members));
        assert!(said(vlans(&[access(10)])).unwrap().contains("p1 protected=false vlan_mode=access tag=10"));
        assert!(said(vlans(&[tagged(10), tagged(20)])).unwrap().contains("vlan_mode=trunk trunks=10,20"));
        assert!(
            said(vlans(&[access(10), tagged(20)])).unwrap().contains("vlan_mode=native-untagged tag=10 trunks=10,20")
        );
        for (case, why) in [
            (case().bridge("ageing", 1000), "nobody before 15 s"),
            (case().port(1, "hairpin", true), "has no hairpin"),
            (case().bridge("fdb_full", "evict").bridge("fdb_max_learned", 2), "ten addresses at least"),
            (case().bridge("group_fwd_mask", 0x4000), "all reserved groups or none"),
            (vlans(&[]), "some VLAN"),
        ] {
            let error = said(case).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(said(case().port(1, "hairpin", false)).is_ok());
    }

    #[test]
    fn its_table_is_read_line_by_line() {
        let text = " port  VLAN  MAC                Age\n    2    10  02:00:00:00:0a:01    3\nLOCAL     0  02:00:00:00:0a:02  static\n";
        let lines: Vec<_> = text.lines().filter_map(Learned::parse).collect();
        let [Learned { port: 2, vid: 10, is_static: false, .. }] = lines[..] else { panic!("{}", lines.len()) };
    }
}
