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
use weft_integration::{shape::Shape, weft::Weft};

use crate::{
    PREFIX,
    capture::Capture,
    traffic::{becomes_reachable, inject, is_unreachable, number_of, numbered, ping},
};

/// The VLANs of the access ports, of which the last is the trunk's native one.
pub(crate) const VLANS: [u16; 3] = [10, 20, 30];
/// The prefix length of all hosts.
const SUBNET: &str = "/24";
const TPID: u16 = 0x8100;
const TPID_SERVICE: u16 = 0x88a8;
/// A bit of a tag's control information.
const DROP_ELIGIBLE: u16 = 0x1000;
/// Why a trunk refuses frames.
const REASONS: [&str; 3] = ["vlan_not_member", "vlan_invalid", "vlan_untagged"];

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
    /// What keeps it all.
    pub(crate) lab: Lab,
}

impl Trunk {
    /// Builds it with weft running; `whole`: weft's end of the trunk has offloads.
    pub(crate) fn new(shape: Shape, whole: bool) -> anyhow::Result<Self> {
        let lab = Lab::new(PREFIX);
        let (here, peer, peer_tags) = (lab.namespace("here")?, lab.namespace("peer")?, lab.namespace("peertags")?);
        // What these hosts' kernels would send by themselves is untagged, and counted.
        let (router, weft_tags) =
            (lab.namespace("router")?.without_ipv6()?, lab.namespace("wefttags")?.without_ipv6()?);
        lab.veth((&here, "t0"), (&peer, "t0"), 1500)?;
        lab.veth((&here, "t1"), (&weft_tags, "eth0"), 1500)?;
        let hosts = |side: &str| VLANS.iter().map(|vlan| lab.namespace(&format!("{side}{vlan}"))).collect();
        let (weft_hosts, peer_hosts): (Result<Vec<_>, _>, Result<Vec<_>, _>) = (hosts("weft"), hosts("peer"));
        let (weft_hosts, peer_hosts) = (weft_hosts?, peer_hosts?);
        let mut config = format!(
            r#"
            {switch}
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
            offload = {whole}
            [[port]]
            name = "t1"
            kind = "packet"
            trunk = {{ 10 = "blue", 21 = "green" }}
            {offload}
            [[port]]
            name = "trunk0"
            netns = "{router}"
            trunk = {{ 10 = "blue", 20 = "green" }}
            {offload}
            "#,
            switch = shape.switch(),
            offload = shape.port_line(),
            router = router.full_name(),
        );
        for (host, (vlan, bridge)) in weft_hosts.iter().zip(VLANS.iter().zip(["blue", "green", "red"])) {
            let (netns, address) = (host.full_name(), weft_address(*vlan));
            config += &format!(
                "[[port]]\nname = \"eth0\"\nnetns = \"{netns}\"\nbridge = \"{bridge}\"\naddress = [\"{address}{SUBNET}\"]\n{}",
                shape.port_line()
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

    /// Frames made by hand, with tags of all kinds, go where they belong, look there as they should, and go nowhere else;
    /// what belongs nowhere is counted.
    ///
    /// `peer_keeps_eligibility`: what the peer gets from the trunk keeps the drop-eligible bit.
    pub(crate) fn tagged_frames_go_where_they_belong(&self, peer_keeps_eligibility: bool) -> anyhow::Result<()> {
        let untagged = |number| numbered(number, &[]);
        let tagged = |number, tci| numbered(number, &[(TPID, tci)]);
        let service = numbered(7, &[(TPID_SERVICE, 10), (TPID, 10)]);
        let nested = numbered(8, &[(TPID, 10), (TPID, 20)]);
        let at_peer = |tci: u16| if peer_keeps_eligibility { tci } else { tci & !DROP_ELIGIBLE };

        // By weft's second trunk. It has VLAN 20 under the number 21, and no native VLAN. What is to be dropped goes first: it
        // would be there when the rest is.
        let not_members = [tagged(11, 40), tagged(12, 20), tagged(13, 4094)];
        let invalid = [tagged(14, 0xffff), tagged(15, 0x0fff)];
        let without_vlan = [untagged(16), tagged(17, 0xa000), numbered(18, &[(TPID_SERVICE, 10)])];
        let passing = [tagged(1, 0xa00a), tagged(2, 0xf015)];
        let by_weft_trunk = [&not_members[..], &invalid, &without_vlan, &passing].concat();
        // Through the peer.
        let by_peer = [tagged(3, 0xa00a), tagged(4, 0x7014)];
        // Onto the trunk as they are: without a VLAN, with a priority alone, with a tag that is none of ours, with two.
        let by_trunk =
            [tagged(19, 40), tagged(20, 0x0fff), untagged(5), tagged(6, 0x6000), service.clone(), nested.clone()];
        let expected = [
            ((&self.peer, "t0"), vec![tagged(1, 0xa00a), tagged(2, 0xf014)]),
            ((&self.peer_tags, "eth0"), vec![tagged(1, 0xa00a), tagged(2, at_peer(0xf014))]),
            ((&self.weft_tags, "eth0"), vec![tagged(3, 0xa00a), tagged(4, 0x7015), nested]),
            ((&self.weft_hosts[0], "eth0"), vec![untagged(1), untagged(3), tagged(8, 20)]),
            ((&self.weft_hosts[1], "eth0"), vec![untagged(2), untagged(4)]),
            ((&self.weft_hosts[2], "eth0"), vec![untagged(5), untagged(6), service]),
        ];

        let before = self.dropped()?;
        let captures = Capture::start_all(&expected.each_ref().map(|(place, _)| *place))?;
        inject(&self.weft_tags, "eth0", &by_weft_trunk)?;
        inject(&self.peer_tags, "eth0", &by_peer)?;
        inject(&self.peer, "t0", &by_trunk)?;
        for (capture, ((namespace, _), expected)) in captures.iter().zip(&expected) {
            let what = format!("frames at {}", namespace.name());
            let found = capture.wait_for(&what, expected.len(), |frame| number_of(&frame.bytes).is_some())?;
            let mut found: Vec<_> = found.into_iter().map(|frame| frame.bytes).collect();
            found.sort_by_key(|frame| number_of(frame));
            ensure!(found == *expected, "{what}: {found:x?} instead of {expected:x?}");
        }
        let after = self.dropped()?;
        let dropped: [_; 3] = std::array::from_fn(|reason| after[reason] - before[reason]);
        ensure!(dropped == [4, 3, 3], "{REASONS:?}: {dropped:?} of {:#}", self.weft.show("drops")?);
        Ok(())
    }

    /// How many frames were dropped for each of [`REASONS`].
    fn dropped(&self) -> anyhow::Result<[u64; 3]> {
        let [not_member, invalid, untagged] = REASONS.map(|reason| self.weft.dropped(reason));
        Ok([not_member?, invalid?, untagged?])
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
