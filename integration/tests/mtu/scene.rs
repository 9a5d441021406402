//! A host that believes in more than its overlay carries, and one behind the kernel's vxlan device.
//!
//! ```text
//!  left                        weft                              kernel              right
//!  eth0 (tap, 9000) ------- (the switch) under0 -- 1500 -- under0 vx0--br0--to_right ---- eth0
//! ```

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, ensure};
use weft::lab::{BridgeOptions, Lab, Namespace, Output, VxlanOptions};
use weft_integration::{
    capture::{Capture, Direction},
    shape::Shape,
    weft::{Weft, eventually},
};
use weft_vxlan::Vni;

use crate::PREFIX;

/// How the scene differs from test to test.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) shape: Shape,
    pub(crate) ipv6_underlay: bool,
    /// The MTU of the host behind weft.
    pub(crate) near_mtu: u32,
    /// The MTU of the host behind the kernel; `None`: what fits.
    pub(crate) far_mtu: Option<u32>,
    /// More lines of `[vtep]` and of `[[bridge]]`.
    pub(crate) vtep: &'static str,
    pub(crate) bridge: &'static str,
}

impl Options {
    pub(crate) fn new(shape: Shape) -> Self {
        Self { shape, ipv6_underlay: false, near_mtu: 9000, far_mtu: None, vtep: "", bridge: "" }
    }
}

pub(crate) struct Scene {
    pub(crate) left: Namespace,
    pub(crate) right: Namespace,
    /// Where weft runs.
    pub(crate) switch: Namespace,
    pub(crate) weft: Weft,
    /// What arrives at the kernel's end of the underlay.
    pub(crate) underlay: Capture,
    /// The largest inner packet that fits.
    pub(crate) fits: usize,
    _lab: Lab,
}

impl Scene {
    pub(crate) const LEFT: [&str; 2] = ["10.0.0.1", "fd00::1"];
    pub(crate) const RIGHT: [&str; 2] = ["10.0.0.2", "fd00::2"];
    pub(crate) const UNDERLAY_MTU: u32 = 1500;

    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        let lab = Lab::new(PREFIX);
        let [left, switch, kernel, right] = ["left", "weft", "kernel", "right"].map(|name| lab.namespace(name));
        let (left, switch, kernel, right) = (left?, switch?, kernel?, right?);
        let (fits, ours, theirs, prefix_len) = match options.ipv6_underlay {
            false => (1450, "192.0.2.1", "192.0.2.2", 24),
            true => (1430, "2001:db8::1", "2001:db8::2", 64),
        };
        lab.veth((&switch, "under0"), (&kernel, "under0"), Self::UNDERLAY_MTU)?;
        switch.address("under0", &format!("{ours}/{prefix_len}"))?;
        kernel.address("under0", &format!("{theirs}/{prefix_len}"))?;
        kernel.bridge("br0", &BridgeOptions::default())?;
        let vni = Vni::new(42).context("42 is a VNI")?;
        let vxlan = VxlanOptions { device: Some("under0".into()), ..VxlanOptions::new(vni, theirs.parse()?) };
        kernel.vxlan("vx0", &vxlan.remotes([ours.parse::<IpAddr>()?]))?;
        lab.veth((&kernel, "to_right"), (&right, "eth0"), options.far_mtu.unwrap_or(fits))?;
        kernel.enslave("vx0", "br0")?;
        kernel.enslave("to_right", "br0")?;
        right.address("eth0", &format!("{}/24", Self::RIGHT[0]))?;
        right.address("eth0", &format!("{}/64", Self::RIGHT[1]))?;
        let config = format!(
            r#"
            {of_switch}
            [vtep]
            address = "{ours}"
            {vtep}
            [[bridge]]
            name = "blue"
            vni = 42
            remotes = ["{theirs}"]
            {bridge}
            [[port]]
            name = "eth0"
            netns = "{left}"
            bridge = "blue"
            mtu = {mtu}
            address = ["{v4}/24", "{v6}/64"]
            {offload}
            "#,
            of_switch = options.shape.switch(),
            vtep = options.vtep,
            bridge = options.bridge,
            left = left.full_name(),
            mtu = options.near_mtu,
            v4 = Self::LEFT[0],
            v6 = Self::LEFT[1],
            offload = options.shape.port_line(),
        );
        let weft = Weft::start(&switch, &config)?;
        let scene = Self {
            left,
            right,
            switch,
            weft,
            underlay: Capture::open(&kernel, "under0", Direction::In)?,
            fits: fits as usize,
            _lab: lab,
        };
        scene.meet()?;
        Ok(scene)
    }

    /// Both hosts know each other's hardware addresses, and both switches where they are.
    fn meet(&self) -> anyhow::Result<()> {
        for address in Self::RIGHT {
            eventually("the hosts reach each other", Duration::from_secs(10), || {
                Ok(ping(&self.left, address, &["-c1", "-W1"])?.success())
            })?;
        }
        self.underlay.take().map(drop)
    }

    /// The path MTU that the host behind weft knows for an address.
    pub(crate) fn path_mtu(&self, address: &str) -> anyhow::Result<Option<usize>> {
        path_mtu(&self.left, address)
    }

    /// Fails if a frame was dropped because it was too long for something.
    pub(crate) fn nothing_was_too_long(&self) -> anyhow::Result<()> {
        for reason in
            ["oversize", "oversize_answered", "oversize_muted", "oversize_not_ip", "underlay_mtu", "egress_mtu"]
        {
            let frames = self.weft.dropped(reason)?;
            ensure!(frames == 0, "{frames} frames were dropped: {reason}");
        }
        Ok(())
    }

    /// Fails if a packet on the underlay was a fragment; says how many packets there were.
    pub(crate) fn no_outer_fragment(&self) -> anyhow::Result<usize> {
        let frames = self.underlay.take()?;
        let fragments = frames.iter().filter(|frame| is_fragment(frame)).count();
        ensure!(fragments == 0, "{fragments} of {} packets on the underlay are fragments", frames.len());
        Ok(frames.len())
    }
}

/// Whether a frame of the underlay carries a fragment of an IP packet.
pub(crate) fn is_fragment(frame: &[u8]) -> bool {
    const FRAGMENT: u8 = 44;
    match frame {
        [_, _, _, _, _, _, _, _, _, _, _, _, 8, 0, _, _, _, _, _, _, flags, offset, ..] => {
            *flags & 0x3f != 0 || *offset != 0
        }
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x86, 0xdd, _, _, _, _, _, _, next, ..] => *next == FRAGMENT,
        _ => false,
    }
}

pub(crate) fn ping(from: &Namespace, address: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    Ok(from.run(&[&["ping", "-n"][..], arguments, &[address]].concat())?)
}

/// The bytes of a ping that make an IP packet of so many.
pub(crate) fn payload(packet_len: usize, address: &str) -> String {
    let headers = if address.contains(':') { 40 + 8 } else { 20 + 8 };
    (packet_len - headers).to_string()
}

/// The path MTU that a host knows for an address, if it has heard of one.
pub(crate) fn path_mtu(host: &Namespace, address: &str) -> anyhow::Result<Option<usize>> {
    let route = host.run(&["ip", "route", "get", address])?.ok()?.stdout;
    let mut words = route.split_whitespace();
    Ok(words.find(|word| *word == "mtu").and_then(|_| words.next()?.parse().ok()))
}
