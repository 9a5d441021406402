//! Hosts around a weft: what most tests of a running switch are set up with.

use weft::{
    lab::{Lab, LabError, Namespace},
    wire::MacAddr,
};

use crate::{shape::Shape, traffic::quiet};

/// A namespace for weft and some for hosts, each of which is to have a port `eth0`. Host N (from 0 on) has the address
/// 10.0.0.N+1 with a prefix of 24 bits, and no IPv6.
pub struct Star {
    /// What keeps it all.
    pub lab: Lab,
    /// Where weft runs.
    pub switch: Namespace,
    /// The hosts.
    pub hosts: Vec<Namespace>,
    /// How weft is made.
    pub shape: Shape,
}

impl Star {
    /// Makes the namespaces; their interfaces are weft's affair.
    ///
    /// # Errors
    /// See [`Lab::namespace`].
    pub fn new(prefix: &str, host_count: usize) -> Result<Self, LabError> {
        Self::in_shape(Shape::USUAL, prefix, host_count)
    }

    /// The same for a weft of this shape.
    ///
    /// # Errors
    /// See [`Lab::namespace`].
    pub fn in_shape(shape: Shape, prefix: &str, host_count: usize) -> Result<Self, LabError> {
        let lab = Lab::new(prefix);
        let switch = quiet(&lab, "switch")?;
        let hosts = (0..host_count).map(|host| quiet(&lab, &format!("h{host}"))).collect::<Result<_, _>>()?;
        Ok(Self { lab, switch, hosts, shape })
    }

    /// A configuration with one bridge, `blue`, and all hosts in it.
    pub fn config(&self) -> String {
        self.head() + &(0..self.hosts.len()).map(|host| self.port(host, "")).collect::<String>()
    }

    /// How its configurations begin: its number of workers, and the bridge `blue`.
    pub fn head(&self) -> String {
        format!("{}\n[[bridge]]\nname = \"blue\"\n\n", self.shape.switch())
    }

    /// The `[[port]]` of a host, with these lines more.
    pub fn port(&self, host: usize, more: &str) -> String {
        let lines = format!("address = [\"{}/24\"]\n{more}", Self::address(host));
        self.shape.port(self.hosts[host].full_name(), "eth0", &lines)
    }

    /// A host's address.
    pub fn address(host: usize) -> String {
        format!("10.0.0.{}", host + 1)
    }

    /// The full name of a host's port.
    pub fn port_name(&self, host: usize) -> String {
        format!("{}/eth0", self.hosts[host].full_name())
    }

    /// The address of a host's interface.
    ///
    /// # Errors
    /// It has none now.
    pub fn mac(&self, host: usize) -> anyhow::Result<String> {
        mac(&self.hosts[host], "eth0").map(|mac| mac.to_string())
    }
}

/// A `[[port]]` of the bridge `blue`, with these lines more.
pub fn port(netns: &str, name: &str, more: &str) -> String {
    format!("[[port]]\nname = \"{name}\"\nnetns = \"{netns}\"\nbridge = \"blue\"\n{more}\n")
}

/// An interface's own address.
///
/// # Errors
/// There is no such interface, or it has none.
pub fn mac(namespace: &Namespace, interface: &str) -> anyhow::Result<MacAddr> {
    anyhow::Context::context(namespace.link(interface)?.mac, "an Ethernet interface has an address")
}

/// One side of a [`Pair`].
pub struct Side {
    /// Where weft runs; `under0` leads to the other side.
    pub switch: Namespace,
    /// The host behind it.
    pub host: Namespace,
    /// The VTEP's address.
    pub vtep: &'static str,
    /// The other's.
    pub remote: &'static str,
    /// The host's address.
    pub address: &'static str,
    /// How its weft is made.
    pub shape: Shape,
}

impl Side {
    /// A configuration: an overlay of VNI 42 between the two hosts, whose port is `eth0`. `vtep` and `port` are lines more
    /// of the tables of that name.
    pub fn config(&self, vtep: &str, port: &str) -> String {
        let Self { host, vtep: address, remote, address: inner, .. } = self;
        let head = self.shape.switch();
        let head = format!(
            "{head}\n[vtep]\naddress = \"{address}\"\n{vtep}\n\n[[bridge]]\nname = \"blue\"\nvni = 42\n\
             remotes = [\"{remote}\"]\n\n"
        );
        head + &self.shape.port(host.full_name(), "eth0", &format!("address = [\"{inner}/24\"]\n{port}"))
    }

    /// The full name of the host's port.
    pub fn port_name(&self) -> String {
        format!("{}/eth0", self.host.full_name())
    }
}

/// Two wefts to be, a cable of 1,600 bytes between them, and a host for each.
pub struct Pair {
    /// What keeps it all.
    pub lab: Lab,
    /// 192.0.2.1 with 10.0.0.1 behind it, and 192.0.2.2 with 10.0.0.2.
    pub sides: [Side; 2],
}

impl Pair {
    /// Makes the namespaces and the cable.
    ///
    /// # Errors
    /// See [`Lab::namespace`] and [`Lab::veth`].
    pub fn new(prefix: &str) -> Result<Self, LabError> {
        Self::in_shape(Shape::USUAL, prefix)
    }

    /// The same for two wefts of this shape.
    ///
    /// # Errors
    /// See [`Lab::namespace`] and [`Lab::veth`].
    pub fn in_shape(shape: Shape, prefix: &str) -> Result<Self, LabError> {
        let lab = Lab::new(prefix);
        let side = |name: &str, vtep, remote, address| -> Result<Side, LabError> {
            let switch = quiet(&lab, &format!("sw{name}"))?;
            let host = quiet(&lab, &format!("h{name}"))?;
            Ok(Side { switch, host, vtep, remote, address, shape })
        };
        let sides =
            [side("a", "192.0.2.1", "192.0.2.2", "10.0.0.1")?, side("b", "192.0.2.2", "192.0.2.1", "10.0.0.2")?];
        lab.veth((&sides[0].switch, "under0"), (&sides[1].switch, "under0"), 1600)?;
        for side in &sides {
            side.switch.address("under0", &format!("{}/24", side.vtep))?;
        }
        Ok(Self { lab, sides })
    }
}
