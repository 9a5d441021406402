//! Three VTEPs with a router between them: weft as the device under test, and two kernel hosts.
//!
//! ```text
//!  h1 192.0.2.1 --+                              +-- 192.0.2.34 [ns1: vx2--br2] -- w1 192.0.2.3
//!               weft -- 192.0.2.17 -- [router] --+
//!  h2 192.0.2.2 --+                              +-- 192.0.2.50 [ns2: vx2--br2] -- w2 192.0.2.4
//! ```

use std::net::{IpAddr, Ipv4Addr};

use anyhow::ensure;
use weft::{
    lab::{BridgeOptions, Lab, Namespace, VxlanOptions},
    wire::MacAddr,
};
use weft_integration::{
    capture::{Capture, Direction, Wire, exactly, expect},
    frames, scene,
    shape::Shape,
    weft::Weft,
};
use weft_vxlan::Vni;

use crate::{PREFIX, scene::as_on_a_wire};

/// weft's VTEP and the kernel's two.
pub(crate) const VTEPS: [&str; 3] = ["192.0.2.17", "192.0.2.34", "192.0.2.50"];
/// The hosts' addresses: h1 and h2 behind weft, w1 and w2 behind a kernel each.
pub(crate) const HOSTS: [&str; 4] = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
/// An address that nobody has.
pub(crate) const NOBODY: MacAddr = MacAddr::new([0xde, 0xad, 0xbe, 0xef, 0x13, 0x37]);
/// One to which there is no route.
pub(crate) const UNROUTABLE: &str = "198.51.100.1";

const VNI: u32 = 1000;
/// What an underlay of 1500 leaves.
const MTU: u32 = 1450;

/// What of weft's configuration changes from test to test.
#[derive(Clone, Copy)]
pub(crate) struct Dut<'c> {
    /// Without it weft is a local switch of h1 and h2.
    pub(crate) overlay: bool,
    /// One packet on the wire for each frame: else captures may see several as one.
    pub(crate) one_by_one: bool,
    pub(crate) learning: bool,
    pub(crate) remotes: &'c [&'c str],
    pub(crate) ageing: &'c str,
}

impl Default for Dut<'_> {
    /// Rows 1 to 31: a static flood list, no learning.
    fn default() -> Self {
        Self { overlay: true, one_by_one: false, learning: false, remotes: &VTEPS[1..], ageing: "300s" }
    }
}

pub(crate) struct Three {
    shape: Shape,
    pub(crate) hosts: [Namespace; 4],
    /// The two kernels.
    pub(crate) kernels: [Namespace; 2],
    pub(crate) weft: Weft,
    /// h1's end of its cable.
    pub(crate) h1: Wire,
    /// What h1 and h2 receive, and what the vxlan devices of the two kernels do.
    pub(crate) at_h1: Capture,
    at_targets: [Capture; 3],
    _lab: Lab,
}

impl Three {
    pub(crate) fn new(shape: Shape, dut: &Dut<'_>) -> anyhow::Result<Self> {
        let lab = Lab::new(PREFIX);
        let [h1, h2, w1, w2] = ["h1", "h2", "w1", "w2"].map(|name| lab.namespace(name));
        let hosts = [h1?, h2?, w1?, w2?];
        let (switch, router) = (lab.namespace("dut")?, lab.namespace("router")?);
        let kernels = [lab.namespace("ns1")?, lab.namespace("ns2")?];

        let underlay = [&switch, &kernels[0], &kernels[1]];
        for (index, (namespace, vtep)) in underlay.into_iter().zip(VTEPS).enumerate() {
            let (to, gateway) = (format!("to{index}"), next(vtep)?);
            lab.veth((namespace, "under0"), (&router, &to), 1500)?;
            namespace.address("under0", &format!("{vtep}/28"))?;
            router.address(&to, &format!("{gateway}/28"))?;
            let others = VTEPS.iter().filter(|other| **other != vtep);
            for other in others {
                let network = network_of(other)?;
                namespace.route(&format!("{network}/28"), gateway)?;
            }
        }
        router.sysctl("net.ipv4.ip_forward", "1")?;

        for (index, kernel) in kernels.iter().enumerate() {
            let own = VTEPS[index + 1];
            as_on_a_wire(kernel, "under0")?;
            kernel.bridge("br2", &BridgeOptions::default())?;
            let remotes = VTEPS.iter().filter(|other| **other != own).map(|other| other.parse::<IpAddr>());
            let vxlan = VxlanOptions {
                device: Some("under0".into()),
                ..VxlanOptions::new(Vni::new(VNI).expect("24 bits"), own.parse()?)
            };
            kernel.vxlan("vx2", &vxlan.remotes(remotes.collect::<Result<Vec<_>, _>>()?))?;
            kernel.enslave("vx2", "br2")?;
            let host = &hosts[index + 2];
            lab.veth((kernel, "to_host"), (host, "eth0"), MTU)?;
            kernel.enslave("to_host", "br2")?;
            host.address("eth0", &format!("{}/28", HOSTS[index + 2]))?;
        }

        let weft = Weft::start(&switch, &config(shape, &hosts, dut))?;
        let at_targets = [
            Capture::open(&hosts[1], "eth0", Direction::In)?,
            Capture::open(&kernels[0], "vx2", Direction::In)?,
            Capture::open(&kernels[1], "vx2", Direction::In)?,
        ];
        let h1 = Wire::open(&hosts[0], "eth0")?;
        let at_h1 = Capture::open(&hosts[0], "eth0", Direction::In)?;
        Ok(Self { shape, hosts, kernels, weft, h1, at_h1, at_targets, _lab: lab })
    }

    pub(crate) fn reload(&self, dut: &Dut<'_>) -> anyhow::Result<()> {
        self.weft.reload(&config(self.shape, &self.hosts, dut))
    }

    /// Rows 1 to 3: h1 reaches everybody. All pings at once: for the last answer `ping` waits no longer than the interval or
    /// twice as long as for the others.
    pub(crate) fn everybody_answers(&self) -> anyhow::Result<()> {
        for to in &HOSTS[1..] {
            let output = self.hosts[0].run(&["ping", "-c", "10", "-l", "10", "-i", "0.5", "-W", "5", to])?.ok()?;
            ensure!(output.stdout.contains("10 received") && !output.stdout.contains("duplicates"), "{output}");
        }
        Ok(())
    }

    /// Ten frames from h1 to `dst` come so often to h2, to the kernel at .34 and to the kernel at .50, and not back.
    pub(crate) fn ten_frames_come(&mut self, dst: MacAddr, to: [usize; 3]) -> anyhow::Result<()> {
        let src = self.mac_of(0)?;
        self.clear()?;
        self.h1.repeat(&icmp(dst, src, 0), 10)?;
        let [h2, ns1, ns2] = &self.at_targets;
        let [to_h2, to_ns1, to_ns2] = to.map(exactly);
        expect([&self.at_h1, h2, ns1, ns2], [exactly(0), to_h2, to_ns1, to_ns2], |frame| {
            frame[..6] == dst.octets() && frame[6..12] == src.octets()
        })
    }

    /// Forgets what was seen until now.
    fn clear(&self) -> anyhow::Result<()> {
        self.at_targets.iter().chain([&self.at_h1]).try_for_each(|capture| capture.take().map(drop))
    }

    /// The address of a host's interface.
    pub(crate) fn mac_of(&self, host: usize) -> anyhow::Result<MacAddr> {
        scene::mac(&self.hosts[host], "eth0")
    }

    /// The full name of the port of h1 (0) or h2 (1).
    pub(crate) fn port(&self, host: usize) -> String {
        format!("{}/eth0", self.hosts[host].full_name())
    }
}

/// An ICMP packet to an address, which asks for no answer.
pub(crate) fn icmp(dst: MacAddr, src: MacAddr, tos: u8) -> Vec<u8> {
    let packet = frames::icmp_packet(tos, Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    frames::ethernet(dst, src, frames::IPV4, &packet)
}

fn config(shape: Shape, hosts: &[Namespace; 4], dut: &Dut<'_>) -> String {
    let (learning, ageing) = (dut.learning, dut.ageing);
    let mut text = format!("{}ageing = {ageing:?}\n", shape.switch());
    if dut.overlay {
        text += &format!("[vtep]\naddress = {:?}\nttl = 100\ntos = \"inherit\"\n", VTEPS[0]);
        text += if dut.one_by_one { "gso = \"off\"\n" } else { "" };
    }
    text += &format!("[[bridge]]\nname = \"br1\"\nlearning = {learning}\n");
    if dut.overlay {
        text += &format!("vni = {VNI}\nremotes = {:?}\n", dut.remotes);
    }
    for (host, address) in hosts.iter().zip(HOSTS).take(2) {
        let netns = host.full_name();
        text += &format!(
            "[[port]]\nname = \"eth0\"\nnetns = {netns:?}\nbridge = \"br1\"\nmtu = {MTU}\naddress = [\"{address}/28\"]\n{}",
            shape.port_line()
        );
    }
    text
}

fn next(address: &str) -> anyhow::Result<IpAddr> {
    Ok(Ipv4Addr::from_bits(address.parse::<Ipv4Addr>()?.to_bits() + 1).into())
}

/// The network of 16 addresses that it is in.
fn network_of(address: &str) -> anyhow::Result<IpAddr> {
    Ok(Ipv4Addr::from_bits(address.parse::<Ipv4Addr>()?.to_bits() & !15).into())
}
