//! Two hosts of an overlay with two routers between them, whose link is smaller than all others, and who say so or don't.
//!
//! ```text
//!  left         near                 r1                r2              far                  right
//!  eth0 -- (weft) under0 -- 1500 -- to_near  middle -- middle  to_far -- under0 (weft, or the kernel) -- eth0
//! ```

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;
use weft::lab::{BridgeOptions, Lab, Namespace, Process, VxlanOptions};
use weft_integration::{
    shape::Shape,
    weft::{Weft, eventually},
};
use weft_vxlan::Vni;

use crate::{
    PREFIX,
    scene::{path_mtu, payload, ping},
};

/// Who is the other VTEP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    Weft,
    /// A vxlan device in a bridge: it answers to no probe of weft's own.
    Kernel,
}

/// What the routers keep from the hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Filter {
    Nothing,
    /// ICMP errors.
    Errors,
    /// All ICMP, so that nobody answers to echo either.
    Icmp,
}

impl Filter {
    /// What makes it so, for nft. Routers still find their neighbours.
    fn rules(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Errors => {
                "table inet t {
                    chain out { type filter hook output priority 0;
                        icmp type destination-unreachable drop
                        icmpv6 type packet-too-big drop
                    }
                    chain through { type filter hook forward priority 0;
                        icmp type destination-unreachable drop
                        icmpv6 type packet-too-big drop
                    }
                }"
            }
            Self::Icmp => {
                "table inet t {
                    chain out { type filter hook output priority 0;
                        meta l4proto icmp drop
                        icmpv6 type { destination-unreachable, packet-too-big, echo-reply } drop
                    }
                    chain through { type filter hook forward priority 0;
                        meta l4proto { icmp, ipv6-icmp } drop
                    }
                }"
            }
        }
    }
}

/// How it differs from test to test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) ipv6_underlay: bool,
    pub(crate) peer: Peer,
    pub(crate) filter: Filter,
    /// The MTU of the link in the middle.
    pub(crate) middle: u32,
    /// A line more of `[vtep]`.
    pub(crate) vtep: &'static str,
}

pub(crate) struct Way {
    pub(crate) left: Namespace,
    pub(crate) right: Namespace,
    near: Namespace,
    pub(crate) r1: Namespace,
    r2: Namespace,
    far: Namespace,
    /// The VTEPs' addresses.
    pub(crate) vteps: [IpAddr; 2],
    options: Options,
    lab: Lab,
}

/// The wefts of a way; the far one is there if it is the peer.
pub(crate) struct Wefts {
    pub(crate) near: Weft,
    pub(crate) far: Option<Weft>,
}

impl Way {
    /// The hosts' addresses in the overlay.
    pub(crate) const LEFT: &str = "10.9.0.1";
    pub(crate) const RIGHT: &str = "10.9.0.2";
    /// The MTU of all links but the one in the middle.
    pub(crate) const LINK_MTU: u32 = 1500;

    /// Builds it, without weft.
    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        let lab = Lab::new(PREFIX);
        let [left, near, r1, r2, far, right] =
            ["left", "near", "r1", "r2", "far", "right"].map(|name| lab.namespace(name));
        let (left, near, r1, r2, far, right) = (left?, near?, r1?, r2?, far?, right?);
        lab.veth((&near, "under0"), (&r1, "to_near"), Self::LINK_MTU)?;
        lab.veth((&r1, "middle"), (&r2, "middle"), options.middle)?;
        lab.veth((&r2, "to_far"), (&far, "under0"), Self::LINK_MTU)?;
        let (address, prefix_len): (fn(u8, u8) -> String, u8) = match options.ipv6_underlay {
            false => (|network, host| format!("10.0.{network}.{host}"), 24),
            true => (|network, host| format!("fc00:{network}::{host}"), 64),
        };
        let with_prefix = |network, host| format!("{}/{prefix_len}", address(network, host));
        for (host, interface, network, number) in [
            (&near, "under0", 1, 1),
            (&r1, "to_near", 1, 2),
            (&r1, "middle", 2, 1),
            (&r2, "middle", 2, 2),
            (&r2, "to_far", 3, 2),
            (&far, "under0", 3, 1),
        ] {
            host.address(interface, &with_prefix(network, number))?;
        }
        for (host, network, via) in
            [(&near, 3, address(1, 2)), (&r1, 3, address(2, 2)), (&r2, 1, address(2, 1)), (&far, 1, address(3, 2))]
        {
            host.route(&with_prefix(network, 0), via.parse()?)?;
        }
        for router in [&r1, &r2] {
            router.sysctl("net.ipv4.ip_forward", "1")?;
            router.sysctl("net.ipv6.conf.all.forwarding", "1")?;
            router.command("nft").args(["-f", "-"]).input(options.filter.rules()).output()?.ok()?;
        }
        let vteps = [address(1, 1).parse()?, address(3, 1).parse()?];
        let way = Self { left, right, near, r1, r2, far, vteps, options: *options, lab };
        if options.peer == Peer::Kernel {
            way.kernel_peer()?;
        }
        Ok(way)
    }

    fn kernel_peer(&self) -> anyhow::Result<()> {
        let (far, [near_address, far_address]) = (&self.far, self.vteps);
        far.bridge_nf_off()?;
        far.bridge("br0", &BridgeOptions::default())?;
        let vni = Vni::new(42).context("42 is a VNI")?;
        let vxlan = VxlanOptions { device: Some("under0".into()), ..VxlanOptions::new(vni, far_address) };
        far.vxlan("vx0", &vxlan.remotes([near_address]))?;
        self.lab.veth((far, "to_right"), (&self.right, "eth0"), Self::LINK_MTU - self.headers())?;
        far.enslave("vx0", "br0")?;
        far.enslave("to_right", "br0")?;
        self.right.address("eth0", &format!("{}/24", Self::RIGHT))?;
        Ok(())
    }

    /// Starts weft at both ends, or at the near one.
    pub(crate) fn start(&self) -> anyhow::Result<Wefts> {
        let [near, far] = self.vteps;
        let of_peer = |host, address| self.start_one(&self.far, host, address, far, near);
        let far_weft = match self.options.peer {
            Peer::Weft => Some(of_peer(&self.right, Self::RIGHT)?),
            Peer::Kernel => None,
        };
        Ok(Wefts { near: self.start_one(&self.near, &self.left, Self::LEFT, near, far)?, far: far_weft })
    }

    fn start_one(
        &self,
        at: &Namespace,
        host: &Namespace,
        address: &str,
        local: IpAddr,
        remote: IpAddr,
    ) -> anyhow::Result<Weft> {
        let shape = Shape::USUAL;
        let config = format!(
            "{}\n[vtep]\naddress = \"{local}\"\n{}\n[[bridge]]\nname = \"blue\"\nvni = 42\nremotes = [\"{remote}\"]\n\n{}",
            shape.switch(),
            self.options.vtep,
            shape.port(host.full_name(), "eth0", &format!("address = [\"{address}/24\"]\n")),
        );
        Weft::start(at, &config)
    }

    /// The link in the middle is of this MTU from now on.
    pub(crate) fn make_middle(&self, mtu: u32) -> anyhow::Result<()> {
        self.r1.mtu("middle", mtu)?;
        Ok(self.r2.mtu("middle", mtu)?)
    }

    /// What goes around an inner packet.
    fn headers(&self) -> u32 {
        if self.options.ipv6_underlay { 70 } else { 50 }
    }

    /// The largest inner packet in an outer one of so many bytes.
    pub(crate) fn fits(&self, path_mtu: u32) -> usize {
        (path_mtu - self.headers()) as usize
    }

    /// The host behind weft sends small packets until what this gives is dropped, so that the path is in use.
    pub(crate) fn small_talk(&self) -> anyhow::Result<Process> {
        let mut ping = self.left.command("ping").args(["-n", "-i0.2", Self::RIGHT]).spawn()?;
        ping.wait_for("icmp_seq=", Duration::from_secs(10))?;
        Ok(ping)
    }

    /// Packets that fill an outer one of so many bytes arrive, and the host hears what fits if it sends larger ones.
    pub(crate) fn carries(&self, outer_mtu: u32) -> anyhow::Result<()> {
        let fits = self.fits(outer_mtu);
        self.left.run(&["ip", "route", "flush", "cache"])?.ok()?;
        ping(&self.left, Self::RIGHT, &["-c3", "-i0.1", "-W2", "-Mdo", "-s", &payload(fits, Self::RIGHT)])?.ok()?;
        if outer_mtu < Self::LINK_MTU {
            ping(&self.left, Self::RIGHT, &["-c1", "-W1", "-Mdo", "-s", &payload(fits + 1, Self::RIGHT)])?;
            let known = path_mtu(&self.left, Self::RIGHT)?;
            ensure!(known == Some(fits), "the host knows {known:?}, and {fits} fits");
        }
        Ok(())
    }
}

impl Wefts {
    /// Those that there are.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Weft> {
        [&self.near].into_iter().chain(&self.far)
    }
}

/// What weft knows of the only VTEP there is.
pub(crate) fn known(weft: &Weft) -> anyhow::Result<Value> {
    let mtu = weft.show("mtu")?;
    let vteps = mtu["vteps"].as_array().context("VTEPs are a list")?;
    ensure!(vteps.len() == 1, "{mtu:#}");
    Ok(vteps[0].clone())
}

/// Waits until weft has this path MTU in this state; returns how long after `since` that was, and what it knows.
pub(crate) fn settles(
    weft: &Weft,
    (path_mtu, state): (u32, &str),
    since: Instant,
    within: Duration,
) -> anyhow::Result<(Duration, Value)> {
    let mut last = Value::Null;
    let what = format!("the path MTU is {path_mtu}, {state}");
    let waited = eventually(&what, within.saturating_sub(since.elapsed()), || {
        last = known(weft)?;
        let still_tries = last["reason"].as_str().is_some_and(|reason| reason.contains("being tried"));
        Ok(last["path_mtu"] == path_mtu && last["state"] == state && !still_tries)
    });
    let took = since.elapsed();
    waited.with_context(|| format!("{last:#}\n{}", weft.log()))?;
    Ok((took, last))
}
