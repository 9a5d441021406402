//! The bridged VXLAN part of the kernel's selftest `pmtu.sh`, with weft in A's place: the path MTU that C knows in the end is
//! that of the smallest link less the tunnel's headers, exactly, whichever families are outside and inside.
//!
//! ```text
//!  C                     A                      R1                  B
//!  eth0 (tap, 5000) -- (weft) under0 -- 5000 -- to_a  to_b -- 4000 -- under0, vx0 (5000)
//! ```

use std::net::IpAddr;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use weft::{
    control::config::Df,
    lab::{Lab, Namespace, VxlanOptions},
};
use weft_integration::{
    capture::{Capture, Direction},
    exchange::stream,
    shape::{Shape, in_every_shape},
    weft::Weft,
};
use weft_vxlan::Vni;

use crate::{
    NEEDS, PREFIX,
    scene::{is_fragment, path_mtu, ping},
};

/// What goes by TCP.
const STREAM: usize = 1 << 20;
/// Pings of 4500 bytes, and how many of them may go without an answer until everybody knows: the kernel loses as many.
const PINGS: usize = 10;
const LOST_AT_MOST: usize = 3;

/// B's addresses in the overlay, and C's.
const B: [&str; 2] = ["192.168.2.2", "fd00:2::b"];
const C: [&str; 2] = ["192.168.2.10", "fd00:2::c"];

pub(crate) fn tests() -> Vec<Trial> {
    in_every_shape(&[
        ("over_a_small_link_of_its_own_c_knows_the_exact_path_mtu", NEEDS, small_link),
        ("behind_a_router_c_knows_the_exact_path_mtu", NEEDS, routed),
    ])
}

/// Measured before anybody asks, and learned from the router's errors alone, as the kernel does.
fn routed(shape: Shape) -> anyhow::Result<()> {
    for ipv6_underlay in [false, true] {
        for policy in ["measure", "learn"] {
            let scene = Scene::with_router(shape, ipv6_underlay, &format!("path_mtu = {policy:?}"))?;
            scene.holds().with_context(|| format!("path_mtu = {policy:?}, IPv6 underlay: {ipv6_underlay}"))?;
        }
    }
    Ok(())
}

fn small_link(shape: Shape) -> anyhow::Result<()> {
    for ipv6_underlay in [false, true] {
        Scene::without_router(shape, ipv6_underlay)?.holds()?;
    }
    Ok(())
}

struct Scene {
    b: Namespace,
    c: Namespace,
    weft: Weft,
    /// What arrives at B.
    underlay: Capture,
    /// The largest inner packet that fits.
    fits: usize,
    _lab: Lab,
}

impl Scene {
    /// A and B on one link of 4000.
    fn without_router(shape: Shape, ipv6_underlay: bool) -> anyhow::Result<Self> {
        let lab = Lab::new(PREFIX);
        let (a, b) = (lab.namespace("a")?, lab.namespace("b")?);
        lab.veth((&a, "under0"), (&b, "under0"), 4000)?;
        let [ours, theirs] = if ipv6_underlay { ["fc00:1::1", "fc00:1::3"] } else { ["10.0.1.1", "10.0.1.3"] };
        let prefix_len = if ipv6_underlay { 64 } else { 24 };
        a.address("under0", &format!("{ours}/{prefix_len}"))?;
        b.address("under0", &format!("{theirs}/{prefix_len}"))?;
        Self::new(lab, shape, (&a, ours), (b, theirs), "")
    }

    /// A and B with a router between them, and the small link behind it.
    fn with_router(shape: Shape, ipv6_underlay: bool, vtep: &str) -> anyhow::Result<Self> {
        let lab = Lab::new(PREFIX);
        let (a, r1, b) = (lab.namespace("a")?, lab.namespace("r1")?, lab.namespace("b")?);
        lab.veth((&a, "under0"), (&r1, "to_a"), 5000)?;
        lab.veth((&b, "under0"), (&r1, "to_b"), 4000)?;
        let address = |network: u8, host: u8| match ipv6_underlay {
            true => format!("fc00:{network}::{host}"),
            false => format!("10.0.{network}.{host}"),
        };
        let prefix = |address: String| format!("{address}/{}", if ipv6_underlay { 64 } else { 24 });
        a.address("under0", &prefix(address(1, 1)))?;
        r1.address("to_a", &prefix(address(1, 2)))?;
        r1.address("to_b", &prefix(address(3, 2)))?;
        b.address("under0", &prefix(address(3, 1)))?;
        r1.sysctl("net.ipv4.ip_forward", "1")?;
        r1.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        a.route(&prefix(address(3, 0)), address(1, 2).parse()?)?;
        b.route(&prefix(address(1, 0)), address(3, 2).parse()?)?;
        let (ours, theirs) = (address(1, 1), address(3, 1));
        Self::new(lab, shape, (&a, &ours), (b, &theirs), vtep)
    }

    /// C behind A, and an overlay between A and B, which reach each other. `vtep` is a line more of `[vtep]`.
    fn new(
        lab: Lab,
        shape: Shape,
        (a, ours): (&Namespace, &str),
        (b, theirs): (Namespace, &str),
        vtep: &str,
    ) -> anyhow::Result<Self> {
        let c = lab.namespace("c")?;
        let (ours_ip, theirs_ip): (IpAddr, IpAddr) = (ours.parse()?, theirs.parse()?);
        let vni = Vni::new(1).context("1 is a VNI")?;
        let df = if ours_ip.is_ipv4() { Df::Set } else { Df::Unset };
        let vxlan = VxlanOptions { ttl: Some(64), df, mtu: Some(5000), ..VxlanOptions::new(vni, theirs_ip) };
        b.vxlan("vx0", &vxlan.remotes([ours_ip]))?;
        b.address("vx0", &format!("{}/24", B[0]))?;
        b.address("vx0", &format!("{}/64", B[1]))?;
        let config = format!(
            "{}\n[vtep]\naddress = \"{ours}\"\n{vtep}\n[[bridge]]\nname = \"blue\"\nvni = 1\nremotes = [\"{theirs}\"]\n\n{}",
            shape.switch(),
            shape.port(c.full_name(), "eth0", &format!("mtu = 5000\naddress = [\"{}/24\", \"{}/64\"]\n", C[0], C[1])),
        );
        let weft = Weft::start(a, &config)?;
        let underlay = Capture::open(&b, "under0", Direction::In)?;
        let fits = if ours_ip.is_ipv4() { 3950 } else { 3930 };
        Ok(Self { b, c, weft, underlay, fits, _lab: lab })
    }

    /// Pings, then TCP, each beginning without knowledge of the path.
    fn holds(&self) -> anyhow::Result<()> {
        for address in B {
            // Neighbours first: a question that is lost is none of these tests'.
            ping(&self.c, address, &["-c5", "-i0.2", "-W1"])?.ok()?;
            self.forget()?;
            let count = PINGS.to_string();
            let output = ping(&self.c, address, &["-Mwant", "-c", &count, "-i0.1", "-W1", "-s4500"])?;
            let received = output.stdout.lines().filter(|line| line.contains(" bytes from ")).count();
            ensure!(received + LOST_AT_MOST >= PINGS, "{output}");
            self.knows(address)?;
            self.forget()?;
            stream(&self.c, &self.b, address.parse()?, STREAM)?;
            self.knows(address)?;
        }
        let fragments = self.underlay.take()?.iter().filter(|frame| is_fragment(frame)).count();
        ensure!(fragments == 0, "{fragments} fragments on the underlay");
        self.weft.ledger_comes_to_balance()
    }

    /// Also B, which else tells in its SYN what it knows.
    fn forget(&self) -> anyhow::Result<()> {
        for (host, family) in [(&self.c, "-4"), (&self.c, "-6"), (&self.b, "-4"), (&self.b, "-6")] {
            host.run(&["ip", family, "route", "flush", "cache"])?.ok()?;
        }
        Ok(())
    }

    fn knows(&self, address: &str) -> anyhow::Result<()> {
        let known = path_mtu(&self.c, address)?;
        ensure!(known == Some(self.fits), "C knows {known:?} to {address}, and it is {}", self.fits);
        Ok(())
    }
}
