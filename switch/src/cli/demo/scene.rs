//! What the demo plays on: three hosts on one underlay, two networks of three stations, a weft on two of the hosts.
//!
//! ```text
//! namespace   interface                     who made it
//! wire        br0                           the underlay: a kernel bridge that joins the cables of the hosts
//! hostN       underlay0   192.0.2.N         a cable to `wire`; host1 and host2 run a weft
//! blueN       eth0        10.10.0.N         N = 1, 2: a tap, made here by the weft of hostN; N = 3: a cable to host3
//! greenN      eth0        10.10.0.N         the same addresses, in another network
//! host3       br-blue, vxlan-blue, ...      the kernel's bridge and vxlan device for each network
//! ```
//!
//! IPv6 is off everywhere, and neighbours are not probed: nothing sends a frame of its own accord, and the demo can count.

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context;
use weft_vxlan::{
    Vni,
    mtu::{Family, HeaderBudget},
};

use super::super::client::Client;
use crate::{
    lab::{BridgeOptions, Lab, Namespace, Output, Process, VxlanOptions},
    wire::MacAddr,
};

/// What the demo's namespaces begin with.
pub(super) const PREFIX: &str = "weft-demo";
/// The underlay's MTU, Ethernet's own.
pub(super) const UNDERLAY_MTU: u32 = 1500;
/// The hosts with a weft.
pub(super) const WEFTS: [usize; 2] = [1, 2];
/// The host where the kernel does weft's work.
pub(super) const KERNEL: usize = 3;

/// How long a weft may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a ping may take as a whole.
const PING_LIMIT: Duration = Duration::from_secs(10);

/// One of the two networks.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Tenant {
    pub(super) name: &'static str,
    pub(super) vni: u32,
    /// Stands in the addresses of its stations and reads as its VNI.
    mac_octet: u8,
}

pub(super) const BLUE: &Tenant = &Tenant { name: "blue", vni: 42, mac_octet: 0x42 };
pub(super) const GREEN: &Tenant = &Tenant { name: "green", vni: 43, mac_octet: 0x43 };
const TENANTS: [&Tenant; 2] = [BLUE, GREEN];

/// The address of a host on the underlay.
pub(super) fn underlay_address(host: usize) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, host as u8).into()
}

/// The largest packet that a station can send.
pub(super) fn overlay_mtu() -> u16 {
    HeaderBudget::new(Family::Ipv4).inner_mtu(UNDERLAY_MTU).expect("1500 bytes leave room for a packet")
}

/// A machine in one of the networks.
pub(super) struct Station {
    pub(super) tenant: &'static Tenant,
    pub(super) host: usize,
    pub(super) namespace: Namespace,
}

impl fmt::Display for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.namespace.name())
    }
}

impl Station {
    pub(super) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 10, 0, self.host as u8)
    }

    pub(super) fn mac(&self) -> MacAddr {
        MacAddr::new([2, 0, 0, 0, self.tenant.mac_octet, self.host as u8])
    }

    /// Runs ping here.
    pub(super) fn ping(&self, arguments: &str) -> anyhow::Result<Output> {
        let command = self.namespace.command("ping").args(arguments.split(' ')).timeout(PING_LIMIT);
        Ok(command.output()?)
    }

    /// Frames that its interface has received.
    pub(super) fn received(&self) -> anyhow::Result<u64> {
        // Not `/proc/net`: that is the view of the process, not of the thread that went inside.
        let table = self.namespace.within(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
        received("eth0", &table).with_context(|| format!("{self} has no eth0:\n{table}"))
    }

    /// The hardware address that it has found out for a neighbour.
    pub(super) fn neighbour(&self, address: Ipv4Addr) -> anyhow::Result<MacAddr> {
        let table = self.namespace.within(|| fs::read_to_string("/proc/thread-self/net/arp"))??;
        neighbour(address, &table).with_context(|| format!("{self} does not know {address}:\n{table}"))
    }
}

/// Packets received, in the form of `/proc/net/dev`: "eth0: bytes packets errors ...".
fn received(interface: &str, table: &str) -> Option<u64> {
    let counts = table.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    counts.split_whitespace().nth(1)?.parse().ok()
}

/// A hardware address, in the form of `/proc/net/arp`: "IP-address type flags hardware-address mask device".
fn neighbour(address: Ipv4Addr, table: &str) -> Option<MacAddr> {
    let address = address.to_string();
    let mut rows = table.lines().map(|line| line.split_whitespace());
    let mut row = rows.find_map(|mut row| (row.next() == Some(address.as_str())).then_some(row))?;
    row.nth(2)?.parse().ok()
}

/// A running weft.
struct Weft {
    process: Process,
    socket: PathBuf,
}

/// The whole of it. Everything is gone when this is.
pub(super) struct Scene {
    /// Of the hosts of [`WEFTS`], in that order. They end before their namespaces.
    wefts: Vec<Weft>,
    hosts: Vec<Namespace>,
    stations: Vec<Station>,
    folder: PathBuf,
    lab: Lab,
}

impl Scene {
    /// Builds hosts, underlay and stations, and all of host3; no weft runs yet. From here on a signal removes it all.
    pub(super) fn build() -> anyhow::Result<Self> {
        let lab = Lab::new(PREFIX);
        lab.remove_on_signals()?;
        let folder = lab.folder()?;
        let wire = lab.namespace("wire")?.without_ipv6()?;
        wire.bridge("br0", &BridgeOptions::default())?;
        let mut hosts = Vec::new();
        let mut stations = Vec::new();
        for host in [1, 2, KERNEL] {
            let namespace = lab.namespace(&format!("host{host}"))?.without_ipv6()?;
            let cable = format!("to-host{host}");
            lab.veth((&namespace, "underlay0"), (&wire, &cable), UNDERLAY_MTU)?;
            wire.enslave(&cable, "br0")?;
            namespace.address("underlay0", &format!("{}/24", underlay_address(host)))?;
            for tenant in TENANTS {
                let place = lab.namespace(&format!("{}{host}", tenant.name))?.without_ipv6()?;
                stations.push(Station { tenant, host, namespace: place });
            }
            hosts.push(namespace);
        }
        let scene = Self { wefts: Vec::new(), hosts, stations, folder, lab };
        for tenant in TENANTS {
            scene.build_with_the_kernel(tenant)?;
        }
        Ok(scene)
    }

    /// One network's part of host3.
    fn build_with_the_kernel(&self, tenant: &'static Tenant) -> anyhow::Result<()> {
        let host = self.host(KERNEL);
        let station = self.station(tenant, KERNEL);
        let (bridge, vxlan, port) =
            (format!("br-{}", tenant.name), format!("vxlan-{}", tenant.name), format!("port-{}", tenant.name));
        let mtu = u32::from(overlay_mtu());
        let vni = Vni::new(tenant.vni).context("24 bits")?;
        let options = VxlanOptions::new(vni, underlay_address(KERNEL)).remotes(WEFTS.map(underlay_address));
        host.bridge(&bridge, &BridgeOptions::default())?;
        host.vxlan(&vxlan, &VxlanOptions { mtu: Some(mtu), ..options })?;
        self.lab.veth((&station.namespace, "eth0"), (host, &port), mtu)?;
        host.enslave(&vxlan, &bridge)?;
        host.enslave(&port, &bridge)?;
        station.namespace.mac("eth0", station.mac())?;
        Ok(station.namespace.address("eth0", &format!("{}/24", station.address()))?)
    }

    /// Starts both wefts and waits until they run.
    pub(super) fn start_wefts(&mut self) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("can't find weft's own binary")?;
        for host in WEFTS {
            let config = self.folder.join(format!("host{host}.toml"));
            let socket = self.folder.join(format!("host{host}.sock"));
            fs::write(&config, self.config(host)).with_context(|| format!("can't write {}", config.display()))?;
            let command = self.host(host).command(&program).arg("run").arg(&config).arg("--socket").arg(&socket);
            // Whatever the user's log level is: its start must be heard.
            let process = command.env("RUST_LOG", "info").spawn()?;
            self.wefts.push(Weft { process, socket });
        }
        for weft in &mut self.wefts {
            weft.process.wait_for("weft runs", PATIENCE)?;
        }
        for station in &self.stations {
            // By default a neighbour is asked five seconds after its first use whether it is still there.
            station.namespace.sysctl("net.ipv4.neigh.eth0.delay_first_probe_time", "600")?;
        }
        Ok(())
    }

    /// The configuration of a host's weft.
    pub(super) fn config(&self, host: usize) -> String {
        let remotes: Vec<_> = [1, 2, KERNEL].into_iter().filter(|&other| other != host).map(underlay_address).collect();
        let remotes = remotes.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>().join(", ");
        let mut text = format!("[switch]\nworkers = 2\n\n[vtep]\naddress = \"{}\"\n", underlay_address(host));
        for Tenant { name, vni, .. } in TENANTS {
            text.push_str(&format!("\n[[bridge]]\nname = \"{name}\"\nvni = {vni}\nremotes = [{remotes}]\n"));
        }
        for tenant in TENANTS {
            let station = self.station(tenant, host);
            text.push_str(&format!(
                "\n[[port]]\nname = \"eth0\"\nnetns = \"{}\"\nbridge = \"{}\"\nmac = \"{}\"\naddress = [\"{}/24\"]\n",
                station.namespace.full_name(),
                tenant.name,
                station.mac(),
                station.address()
            ));
        }
        text
    }

    /// The weft of a host.
    pub(super) fn client(&self, host: usize) -> Client {
        Client::new(&self.wefts[host - 1].socket)
    }

    /// Asks both wefts to end, and waits.
    pub(super) fn stop_wefts(&mut self) -> anyhow::Result<Vec<Output>> {
        let mut outputs = Vec::new();
        for weft in &mut self.wefts {
            outputs.push(weft.process.terminate(PATIENCE)?);
        }
        Ok(outputs)
    }

    /// Removes everything; returns what is still there nevertheless.
    pub(super) fn remove(self) -> anyhow::Result<Vec<String>> {
        let Self { wefts, hosts, stations, folder, lab } = self;
        let processes: Vec<_> =
            wefts.iter().map(|weft| PathBuf::from(format!("/proc/{}", weft.process.id()))).collect();
        let namespaces = hosts.iter().chain(stations.iter().map(|station| &station.namespace));
        let mut traces: Vec<_> = namespaces.map(Namespace::path).chain(processes).collect();
        traces.push(folder);
        drop(wefts);
        lab.remove()?;
        // After a signal this is where the process stays until it ends.
        drop(lab);
        traces.retain(|trace| trace.exists());
        Ok(traces.iter().map(|trace| trace.display().to_string()).collect())
    }

    pub(super) fn host(&self, host: usize) -> &Namespace {
        &self.hosts[host - 1]
    }

    pub(super) fn station(&self, tenant: &Tenant, host: usize) -> &Station {
        let found = self.stations.iter().find(|station| station.tenant == tenant && station.host == host);
        found.expect("every network has a station on every host")
    }

    /// Namespaces by the name the demo calls them by.
    pub(super) fn shortened(&self, text: &str) -> String {
        text.replace(&format!("{}-", self.lab.name()), "")
    }

    /// The beginning of its namespaces' names.
    pub(super) fn name(&self) -> &str {
        self.lab.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read_by_name() {
        let table = "Inter-|   Receive\n face |bytes    packets errs\n    lo: 9 8 0\n  eth0:  420    7    0    0\n eth01: 1 2 3\n";
        assert_eq!(received("eth0", table), Some(7));
        assert_eq!(received("eth1", table), None);
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.10.0.2        0x1         0x2         02:00:00:00:42:02     *        eth0\n";
        assert_eq!(neighbour(Ipv4Addr::new(10, 10, 0, 2), table), Some(MacAddr::new([2, 0, 0, 0, 0x42, 2])));
        assert_eq!(neighbour(Ipv4Addr::new(10, 10, 0, 3), table), None);
    }
}
