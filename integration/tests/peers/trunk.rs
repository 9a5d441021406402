//! A trunk between weft and another VLAN-aware switch, and what must hold on it whoever that is.
//!
//! ```text
//! peer10 (VLAN 10) \                              / weft10 (blue)
//! peer20 (VLAN 20) - peer switch ===== t0  weft   - weft20 (green)
//! peer30 (native)  /      |                  |    \ weft30 (red)
//!                     peertags           wefttags
//!                     10, 20             10 = blue, 21 = green: other numbers are no other networks
//! ```
//! All hosts are in one IP subnet, so that nothing but the VLANs keeps them apart.

use anyhow::ensure;
use weft::lab::{Lab, Namespace};
use weft_integration::weft::{Weft, eventually};

use crate::{
    PREFIX,
    capture::{Capture, Captured},
    traffic::{EXPERIMENT, becomes_reachable, inject, is_unreachable, numbered, ping},
};

/// The VLANs of the access ports, of which the last is the trunk's native one.
pub(crate) const VLANS: [u16; 3] = [10, 20, 30];
/// The prefix length of all hosts.
const SUBNET: &str = "/24";
const TPID: u16 = 0x8100;
const TPID_SERVICE: u16 = 0x88a8;

/// The lab without the peer switch, which has to find `t0` in its namespace.
pub(crate) struct Trunk {
    pub(crate) weft: Weft,
    /// Hosts on weft's side, one each VLAN.
    pub(crate) weft_hosts: Vec<Namespace>,
    /// Hosts on the other side.
    pub(crate) peer_hosts: Vec<Namespace>,
    /// At the end of a trunk of the peer's, interface `eth0`.
    pub(crate) peer_tags: Namespace,
    /// At the end of a trunk of weft's, interface `eth0`.
    pub(crate) weft_tags: Namespace,
    /// Where the peer switch is, and its end of the trunk, `t0`.
    pub(crate) peer: Namespace,
    /// Where weft is, and its end.
    pub(crate) here: Namespace,
    /// Taps of weft's that are trunks for a host are made here, interface `trunk0`.
    pub(crate) router: Namespace,
    lab: Lab,
}

impl Trunk {
    /// Builds it with weft running; `offload` is that of weft's end of the trunk.
    pub(crate) fn new(offload: bool) -> anyhow::Result<Self> {
        let lab = Lab::new(PREFIX);
        let (here, peer, router) = (lab.namespace("here")?, lab.namespace("peer")?, lab.namespace("router")?);
        let (peer_tags, weft_tags) = (lab.namespace("peertags")?, lab.namespace("wefttags")?);
        // What these hosts' kernels would send by themselves is untagged, and counted.
        quiet(&weft_tags)?;
        lab.veth((&here, "t0"), (&peer, "t0"), 1500)?;
        lab.veth((&here, "t1"), (&weft_tags, "eth0"), 1500)?;
        let hosts = |side: &str| VLANS.iter().map(|vlan| lab.namespace(&format!("{side}{vlan}"))).collect();
        let (weft_hosts, peer_hosts): (Result<Vec<_>, _>, Result<Vec<_>, _>) = (hosts("weft"), hosts("peer"));
        let (weft_hosts, peer_hosts) = (weft_hosts?, peer_hosts?);
        let mut config = format!(
            r#"
            [[bridge]]
            name = "blue"
            [[bridge]]
            name = "green"
            [[bridge]]
            name = "red"
            [[port]]
            name = "t0"
            kind = "packet"
            trunk = {{ 10 = "blue", 20 = "green" }}
            native = "red"
            offload = {offload}
            [[port]]
            name = "t1"
            kind = "packet"
            trunk = {{ 10 = "blue", 21 = "green" }}
            [[port]]
            name = "trunk0"
            netns = "{}"
            trunk = {{ 10 = "blue", 20 = "green" }}
            "#,
            router.full_name()
        );
        for (host, (vlan, bridge)) in weft_hosts.iter().zip(VLANS.iter().zip(["blue", "green", "red"])) {
            let (netns, address) = (host.full_name(), weft_address(*vlan));
            config += &format!(
                "[[port]]\nname = \"eth0\"\nnetns = \"{netns}\"\nbridge = \"{bridge}\"\naddress = [\"{address}{SUBNET}\"]\n"
            );
        }
        let weft = Weft::start(&here, &config)?;
        Ok(Self { weft, weft_hosts, peer_hosts, peer_tags, weft_tags, peer, here, router, lab })
    }

    /// Lays one more cable.
    pub(crate) fn cable(&self, one: (&Namespace, &str), other: (&Namespace, &str)) -> anyhow::Result<()> {
        Ok(self.lab.veth(one, other, 1500)?)
    }

    /// Gives the hosts behind the peer their addresses; `eth0` must be there.
    pub(crate) fn address_peer_hosts(&self) -> anyhow::Result<()> {
        for (host, vlan) in self.peer_hosts.iter().zip(VLANS) {
            host.address("eth0", &format!("{}{SUBNET}", peer_address(vlan)))?;
            host.up("eth0")?;
        }
        self.peer_tags.up("eth0")?;
        Ok(())
    }

    /// Waits until every host reaches the one of its VLAN on the other side.
    pub(crate) fn is_ready(&self) -> anyhow::Result<()> {
        for (host, vlan) in self.peer_hosts.iter().zip(VLANS) {
            becomes_reachable(host, &weft_address(vlan))?;
        }
        Ok(())
    }

    /// Each host reaches the one of its VLAN, in both directions and with the longest packets, and no other.
    pub(crate) fn hosts_meet_in_their_vlan_only(&self) -> anyhow::Result<()> {
        for (index, vlan) in VLANS.into_iter().enumerate() {
            ping(&self.peer_hosts[index], &weft_address(vlan), 1472)?;
            ping(&self.weft_hosts[index], &peer_address(vlan), 1472)?;
            ping(&self.weft_hosts[index], &peer_address(vlan), 4000)?;
        }
        // The frames of 10 and 20 are tagged on the trunk, those of 30 are not: each pair in one direction at least.
        is_unreachable(&self.peer_hosts[0], &weft_address(20))?;
        is_unreachable(&self.weft_hosts[1], &peer_address(10))?;
        is_unreachable(&self.peer_hosts[2], &weft_address(10))?;
        is_unreachable(&self.weft_hosts[2], &peer_address(20))
    }

    /// Priority and drop-eligible bits are the same on both trunks, whatever the VLAN's number there.
    /// `peer_keeps_eligibility`: what the peer gets from the trunk keeps the drop-eligible bit.
    pub(crate) fn priorities_are_kept(&self, peer_keeps_eligibility: bool) -> anyhow::Result<()> {
        const DROP_ELIGIBLE: u16 = 0x1000;
        let kept = |tci: u16| if peer_keeps_eligibility { tci } else { tci & !DROP_ELIGIBLE };
        let on_the_trunk = Capture::start(&self.peer, "t0", &["-Q", "in"])?;
        let at_peer = Capture::start(&self.peer_tags, "eth0", &["-Q", "in"])?;
        inject(&self.weft_tags, "eth0", &[numbered(1, &[(TPID, 0xa00a)]), numbered(2, &[(TPID, 0xf015)])])?;
        // 10 stays 10; 21 here is 20 on the trunk, and there.
        let (ten, twenty) = (numbered(1, &[(TPID, 0xa00a)]), |tci| numbered(2, &[(TPID, tci)]));
        expect(&on_the_trunk, "weft's tags on the trunk", &[ten.clone(), twenty(0xf014)])?;
        expect(&at_peer, "weft's tags behind the peer", &[ten, twenty(kept(0xf014))])?;

        let at_weft = Capture::start(&self.weft_tags, "eth0", &["-Q", "in"])?;
        inject(&self.peer_tags, "eth0", &[numbered(3, &[(TPID, 0xa00a)]), numbered(4, &[(TPID, 0x7014)])])?;
        let expected = [numbered(3, &[(TPID, 0xa00a)]), numbered(4, &[(TPID, 0x7015)])];
        expect(&at_weft, "the peer's tags behind weft", &expected)
    }

    /// What is inside a customer's tag is nobody's business; what arrives untagged, or tagged with a priority alone or by
    /// another protocol, belongs to the native VLAN.
    pub(crate) fn the_native_vlan_takes_what_has_no_vlan(&self) -> anyhow::Result<()> {
        let at_access = Capture::start(&self.weft_hosts[0], "eth0", &["-Q", "in"])?;
        let at_native = Capture::start(&self.weft_hosts[2], "eth0", &["-Q", "in"])?;
        let service = numbered(7, &[(TPID_SERVICE, 10), (TPID, 10)]);
        inject(
            &self.peer,
            "t0",
            &[
                numbered(5, &[]),
                numbered(6, &[(TPID, 0x6000)]),
                service.clone(),
                numbered(8, &[(TPID, 10), (TPID, 20)]),
            ],
        )?;
        expect(&at_native, "the native VLAN's frames", &[numbered(5, &[]), unpadded(6, &[(TPID, 0x6000)]), service])?;
        let inner = [&numbered(8, &[(TPID, 10), (TPID, 20)])[..12], &numbered(8, &[(TPID, 10), (TPID, 20)])[16..]];
        expect(&at_access, "VLAN 10's frame", &[inner.concat()])
    }

    /// What belongs to no VLAN of a trunk ends there, and weft says why.
    pub(crate) fn other_vlans_are_dropped_and_counted(&self) -> anyhow::Result<()> {
        const REASONS: [&str; 3] = ["vlan_not_member", "vlan_invalid", "vlan_untagged"];
        let counts = || REASONS.map(|reason| self.weft.dropped(reason)).into_iter().collect::<anyhow::Result<Vec<_>>>();
        let before = counts()?;
        let witnesses = self.weft_hosts.iter().map(|host| Capture::start(host, "eth0", &["-Q", "in"]));
        let witnesses: Vec<_> = witnesses.collect::<anyhow::Result<_>>()?;
        // 20 is 21 there.
        let not_member = [numbered(11, &[(TPID, 40)]), numbered(12, &[(TPID, 20)]), numbered(13, &[(TPID, 4094)])];
        let invalid = [numbered(14, &[(TPID, 0xffff)]), numbered(15, &[(TPID, 0x0fff)])];
        let untagged = [numbered(16, &[]), numbered(17, &[(TPID, 0xa000)]), numbered(18, &[(TPID_SERVICE, 10)])];
        inject(&self.weft_tags, "eth0", &[&not_member[..], &invalid, &untagged].concat())?;
        inject(&self.peer, "t0", &[numbered(19, &[(TPID, 40)]), numbered(20, &[(TPID, 0x0fff)])])?;
        let mut grown = Vec::new();
        eventually("the drops are counted", std::time::Duration::from_secs(60), || {
            grown = counts()?.iter().zip(&before).map(|(after, before)| after - before).collect();
            Ok(grown.iter().sum::<u64>() >= 10)
        })?;
        ensure!(grown == [4, 3, 3], "{REASONS:?}: {grown:?}");
        for witness in witnesses {
            let frames = witness.frames()?;
            ensure!(!frames.iter().any(is_numbered), "a dropped frame arrived: {frames:x?}");
        }
        Ok(())
    }
}

/// The address of weft's host in a VLAN.
pub(crate) fn weft_address(vlan: u16) -> String {
    format!("10.9.0.{vlan}")
}

/// The address of the peer's host in a VLAN.
pub(crate) fn peer_address(vlan: u16) -> String {
    format!("10.9.0.1{vlan}")
}

fn quiet(namespace: &Namespace) -> anyhow::Result<()> {
    for which in ["default", "all"] {
        namespace.sysctl(&format!("net.ipv6.conf.{which}.disable_ipv6"), "1")?;
    }
    Ok(())
}

/// The frame that [`numbered`] makes with these tags, after they were taken off.
fn unpadded(number: u32, tags: &[(u16, u16)]) -> Vec<u8> {
    let frame = numbered(number, tags);
    [&frame[..12], &frame[12 + 4 * tags.len()..]].concat()
}

/// Waits for frames made by hand, and compares them byte for byte.
fn expect(capture: &Capture, what: &str, expected: &[Vec<u8>]) -> anyhow::Result<()> {
    let found = capture.wait_for(what, expected.len(), is_numbered)?;
    let found: Vec<_> = found.into_iter().map(|frame| frame.bytes).collect();
    ensure!(found == expected, "{what}: {found:x?} instead of {expected:x?}");
    Ok(())
}

fn is_numbered(frame: &Captured) -> bool {
    let type_behind = |tags: usize| frame.bytes.get(12 + 4 * tags..14 + 4 * tags) == Some(&EXPERIMENT.to_be_bytes());
    (0..=2).any(type_behind)
}
