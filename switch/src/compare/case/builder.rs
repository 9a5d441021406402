//! How the catalogue writes a case: who it is about, the scene, then one step after another.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    At, Bytes, Case, Datagram, FdbAdd, Kind, MdbAdd, Neighbour, Options, Overlay, Reading, Setup, Step, VNI, Value,
    VlanMember,
};
use crate::{
    compare::{
        option::{self, Part},
        statement::Cite,
    },
    wire::MacAddr,
};

impl Case {
    /// A case of a local bridge without any options.
    pub fn new(name: &str) -> Self {
        let (group, setup) = (String::new(), Setup::default());
        Self {
            name: name.into(),
            group,
            cites: vec![],
            shows: vec![],
            ruling: None,
            changed: None,
            setup,
            steps: vec![],
        }
    }

    /// It tests a numbered statement.
    #[must_use]
    pub fn statement(mut self, number: u8) -> Self {
        self.cites.push(Cite::Statement(number));
        self
    }

    /// It shows a numbered statement: it would come out otherwise, or not at all, if that were not so.
    #[must_use]
    pub fn shows(self, number: u8) -> Self {
        self.showing(Cite::Statement(number))
    }

    /// It shows a row.
    #[must_use]
    pub fn shows_row(self, number: u8) -> Self {
        self.showing(Cite::Row(number))
    }

    fn showing(mut self, cite: Cite) -> Self {
        if !self.cites.contains(&cite) {
            self.cites.push(cite.clone());
        }
        self.shows.push(cite);
        self
    }

    /// It tests a row of the table of what a vxlan device does with a packet, by its number.
    #[must_use]
    pub fn row(mut self, number: u8) -> Self {
        self.cites.push(Cite::Row(number));
        self
    }

    /// It tests something else that can be looked up: "RFC 7348 section 5".
    #[must_use]
    pub fn source(mut self, text: &str) -> Self {
        self.cites.push(Cite::Text(text.into()));
        self
    }

    /// The kernel did otherwise before this change.
    #[must_use]
    pub fn changed(mut self, id: &str) -> Self {
        self.changed = Some(id.into());
        self
    }

    /// weft differs here on purpose, by this ruling.
    #[must_use]
    pub fn ruling(mut self, id: &str) -> Self {
        self.ruling = Some(id.into());
        self
    }

    /// The bridge has this option from the beginning.
    #[must_use]
    pub fn bridge(mut self, option: &str, value: impl Into<Value>) -> Self {
        self.setup.bridge.insert(option.into(), value.into());
        self
    }

    /// A port has this option from the beginning.
    #[must_use]
    pub fn port(mut self, port: u8, option: &str, value: impl Into<Value>) -> Self {
        self.setup.port.entry(port).or_default().insert(option.into(), value.into());
        self
    }

    /// The bridge filters VLANs, and a port is a member of these. All ports that are not named are members of none.
    #[must_use]
    pub fn vlans(mut self, port: u8, members: &[VlanMember]) -> Self {
        self.setup.vlans.get_or_insert_default().insert(port, members.to_vec());
        self
    }

    /// The bridge knows this neighbour.
    #[must_use]
    pub fn neighbour(mut self, ip: impl Into<IpAddr>, mac: MacAddr) -> Self {
        self.setup.neighbours.push(Neighbour { ip: ip.into(), mac, router: false });
        self
    }

    /// The bridge knows this router.
    #[must_use]
    pub fn router(mut self, ip: impl Into<IpAddr>, mac: MacAddr) -> Self {
        self.setup.neighbours.push(Neighbour { ip: ip.into(), mac, router: true });
        self
    }

    /// The bridge reaches these VTEPs by an overlay.
    #[must_use]
    pub fn overlay(mut self, remotes: &[IpAddr]) -> Self {
        self.setup.overlay = Some(Overlay {
            vni: VNI,
            remotes: remotes.to_vec(),
            options: Options::new(),
            networks: BTreeMap::new(),
            in_step: false,
        });
        self
    }

    /// Each of these VLANs has a network of its own in the overlay; to be said after [`Case::overlay`].
    #[must_use]
    pub fn networks(mut self, networks: &[(u16, u32)]) -> Self {
        if let Some(overlay) = &mut self.setup.overlay {
            overlay.networks = networks.iter().copied().collect();
        }
        self
    }

    /// The overlay has this option from the beginning; needs [`Case::overlay`] before.
    #[must_use]
    pub fn tunnel(mut self, option: &str, value: impl Into<Value>) -> Self {
        if let Some(overlay) = &mut self.setup.overlay {
            overlay.options.insert(option.into(), value.into());
        }
        self
    }

    /// Then this happens.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Then a frame arrives at a port.
    #[must_use]
    pub fn send(self, port: u8, frame: Vec<u8>) -> Self {
        self.step(Step::Send { port, frame: Bytes(frame) })
    }

    /// Then frames arrive, one after another, each at its port.
    #[must_use]
    pub fn steps(self, frames: impl IntoIterator<Item = (u8, Vec<u8>)>) -> Self {
        frames.into_iter().fold(self, |case, (port, frame)| case.send(port, frame))
    }

    /// Then a VXLAN packet arrives from a VTEP: `payload` is what UDP carries.
    #[must_use]
    pub fn arrive(self, from: IpAddr, payload: Vec<u8>) -> Self {
        self.arrive_with(Datagram::new(from, payload))
    }

    /// Then a datagram arrives.
    #[must_use]
    pub fn arrive_with(self, datagram: Datagram) -> Self {
        self.step(Step::Arrive(datagram))
    }

    /// Then an option of the bridge changes.
    #[must_use]
    pub fn set_bridge(self, option: &str, value: impl Into<Value>) -> Self {
        self.step(Step::SetBridge { option: option.into(), value: value.into() })
    }

    /// Then an option of the tunnel changes.
    #[must_use]
    pub fn set_tunnel(self, option: &str, value: impl Into<Value>) -> Self {
        self.step(Step::SetTunnel { option: option.into(), value: value.into() })
    }

    /// Then an option of a port changes.
    #[must_use]
    pub fn set_port(self, port: u8, option: &str, value: impl Into<Value>) -> Self {
        self.step(Step::SetPort { port, option: option.into(), value: value.into() })
    }

    /// Then a user adds an FDB entry.
    #[must_use]
    pub fn fdb(self, mac: MacAddr, at: At, kind: Kind) -> Self {
        self.step(Step::FdbAdd(FdbAdd { mac, at, vid: None, kind }))
    }

    /// Then a user adds an FDB entry of a VLAN.
    #[must_use]
    pub fn fdb_vlan(self, mac: MacAddr, at: At, vid: u16, kind: Kind) -> Self {
        self.step(Step::FdbAdd(FdbAdd { mac, at, vid: Some(vid), kind }))
    }

    /// Then a user removes an FDB entry.
    #[must_use]
    pub fn fdb_delete(self, mac: MacAddr) -> Self {
        self.step(Step::FdbDelete { mac, vid: None })
    }

    /// Then a user flushes the learned entries, of one port or of all.
    #[must_use]
    pub fn flush(self, port: Option<u8>) -> Self {
        self.step(Step::FdbFlush { port })
    }

    /// Then a port's interface is set up or down.
    #[must_use]
    pub fn link(self, port: u8, up: bool) -> Self {
        self.step(Step::Link { port, up })
    }

    /// Then a port is put into the bridge, or taken out of it.
    #[must_use]
    pub fn attach(self, port: u8, on: bool) -> Self {
        self.step(Step::Attach { port, on })
    }

    /// Then a user puts a port into a group for good.
    #[must_use]
    pub fn mdb(self, group: impl Into<IpAddr>, source: Option<IpAddr>, port: u8) -> Self {
        self.step(Step::MdbAdd(MdbAdd { group: group.into(), source, port }))
    }

    /// Then a user takes a port out of a group.
    #[must_use]
    pub fn mdb_delete(self, group: impl Into<IpAddr>, source: Option<IpAddr>, port: u8) -> Self {
        self.step(Step::MdbDelete(MdbAdd { group: group.into(), source, port }))
    }

    /// Then another tunnel is set up.
    #[must_use]
    pub fn add_tunnel(self, vni: u32) -> Self {
        self.step(Step::AddTunnel { vni })
    }

    /// Then something is read.
    #[must_use]
    pub fn read(self, what: Reading) -> Self {
        self.step(Step::Read { what })
    }

    /// Then time passes.
    #[must_use]
    pub fn wait(self, ms: u64) -> Self {
        self.step(Step::Wait { ms })
    }

    /// The same for a machine that is so many times slower: it waits longer, and the options that say how long something lasts are
    /// longer as well. What a frame says of times stays as it is.
    #[must_use]
    pub fn slowed(mut self, times: u32) -> Self {
        let slow = |part, name: &str, value: &mut Value| {
            if let Value::Number(number) = value
                && option::find(part, name).is_some_and(option::Knob::is_time)
            {
                *number *= i64::from(times);
            }
        };
        let all = |part, options: &mut Options| options.iter_mut().for_each(|(name, value)| slow(part, name, value));
        all(Part::Bridge, &mut self.setup.bridge);
        self.setup.port.values_mut().for_each(|options| all(Part::Port, options));
        self.setup.overlay.iter_mut().for_each(|overlay| all(Part::Tunnel, &mut overlay.options));
        for step in &mut self.steps {
            match step {
                Step::Wait { ms } => *ms *= u64::from(times),
                Step::SetBridge { option, value } => slow(Part::Bridge, option, value),
                Step::SetPort { option, value, .. } => slow(Part::Port, option, value),
                Step::SetTunnel { option, value } => slow(Part::Tunnel, option, value),
                Step::Send { .. }
                | Step::Arrive(_)
                | Step::FdbAdd(_)
                | Step::FdbDelete { .. }
                | Step::FdbFlush { .. }
                | Step::Link { .. }
                | Step::Attach { .. }
                | Step::MdbAdd(_)
                | Step::MdbDelete(_)
                | Step::AddTunnel { .. }
                | Step::Read { .. } => {}
            }
        }
        self
    }

    /// How long it waits in all, in milliseconds.
    pub fn waits_ms(&self) -> u64 {
        let wait = |step: &Step| if let Step::Wait { ms } = step { *ms } else { 0 };
        self.steps.iter().map(wait).sum()
    }
}
