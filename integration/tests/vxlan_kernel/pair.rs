//! Two hosts, one behind weft and one behind the kernel's vxlan device and bridge.
//!
//! ```text
//!  left                weft                              kernel              right
//!  eth0 (tap) ---- (the switch) under0 ------------ under0 vx0--br0--to_right ---- eth0
//! ```

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use weft::lab::{BridgeOptions, Lab, Namespace, VxlanOptions};
use weft_integration::{
    shape::Shape,
    weft::{PATIENCE, Weft},
};
use weft_vxlan::Vni;

use crate::{PREFIX, scene::as_on_a_wire};

/// How the two differ from test to test.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) ipv6_underlay: bool,
    pub(crate) port: u16,
    pub(crate) shape: Shape,
    /// Whether the kernel finishes its packets as for a wire, rather than to leave that to a card.
    pub(crate) finished: bool,
    /// Whether weft is started in a namespace that has nothing to do with its underlay.
    pub(crate) started_elsewhere: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { ipv6_underlay: false, port: 4789, shape: Shape::USUAL, finished: true, started_elsewhere: false }
    }
}

pub(crate) struct Pair {
    pub(crate) left: Namespace,
    pub(crate) right: Namespace,
    pub(crate) weft: Weft,
    /// The MTU of both hosts: what an underlay of 1500 leaves.
    pub(crate) mtu: u32,
    _lab: Lab,
}

impl Pair {
    pub(crate) const LEFT: [&str; 2] = ["10.0.0.1", "fd00::1"];
    pub(crate) const RIGHT: [&str; 2] = ["10.0.0.2", "fd00::2"];

    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        let lab = Lab::new(PREFIX);
        let [left, weft, kernel, right] = ["left", "weft", "kernel", "right"].map(|name| lab.namespace(name));
        let (left, weft, kernel, right) = (left?, weft?, kernel?, right?);
        let (mtu, ours, theirs, prefix_len) = match options.ipv6_underlay {
            false => (1450, "192.0.2.1", "192.0.2.2", 24),
            true => (1430, "2001:db8::1", "2001:db8::2", 64),
        };
        lab.veth((&weft, "under0"), (&kernel, "under0"), 1500)?;
        weft.address("under0", &format!("{ours}/{prefix_len}"))?;
        kernel.address("under0", &format!("{theirs}/{prefix_len}"))?;
        if options.finished {
            as_on_a_wire(&kernel, "under0")?;
        }
        kernel.bridge("br0", &BridgeOptions::default())?;
        let vni = Vni::new(42).expect("42 is a VNI");
        let vxlan = VxlanOptions {
            port: options.port,
            device: Some("under0".into()),
            ..VxlanOptions::new(vni, theirs.parse()?)
        };
        kernel.vxlan("vx0", &vxlan.remotes([ours.parse::<IpAddr>()?]))?;
        lab.veth((&kernel, "to_right"), (&right, "eth0"), mtu)?;
        kernel.enslave("vx0", "br0")?;
        kernel.enslave("to_right", "br0")?;
        right.address("eth0", &format!("{}/24", Self::RIGHT[0]))?;
        right.address("eth0", &format!("{}/64", Self::RIGHT[1]))?;

        let underlay_netns = match options.started_elsewhere {
            false => String::new(),
            true => format!("netns = {:?}", weft.full_name()),
        };
        let config = format!(
            r#"
            {switch}
            [vtep]
            address = "{ours}"
            port = {port}
            {underlay_netns}
            [[bridge]]
            name = "blue"
            vni = 42
            remotes = ["{theirs}"]
            [[port]]
            name = "eth0"
            netns = "{left}"
            bridge = "blue"
            address = ["{v4}/24", "{v6}/64"]
            {offload}
            "#,
            switch = options.shape.switch(),
            port = options.port,
            left = left.full_name(),
            v4 = Self::LEFT[0],
            v6 = Self::LEFT[1],
            offload = options.shape.port_line(),
        );
        let start_in = if options.started_elsewhere { lab.namespace("elsewhere")? } else { weft };
        let weft = Weft::start(&start_in, &config)?;
        until_usable(&left)?;
        Ok(Self { left, right, weft, mtu, _lab: lab })
    }
}

/// An IPv6 address is no source of packets until the kernel is done with looking for duplicates, even if it looks for none: until
/// then its host asks and pings from its link-local address, to which nobody's answers are expected.
fn until_usable(host: &Namespace) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let tentative = host.run(&["ip", "-6", "-o", "address", "show", "tentative"])?.ok()?.stdout;
        if tentative.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < end, "still tentative: {tentative}");
        thread::sleep(Duration::from_millis(5));
    }
}
