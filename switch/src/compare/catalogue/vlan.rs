//! VLAN filtering: which VLAN a frame is of, who is a member, which tag it leaves with.

use crate::{
    compare::{
        case::{At, Case, Kind, VlanMember, access, tagged as member, vtep},
        frame::{DOT1AD, DOT1Q, frame, group, reserved, station, tagged, tci, vxlan},
    },
    wire::MacAddr,
};

/// Two hosts in VLAN 10, one in VLAN 20, and a trunk of both.
fn case(name: &str) -> Case {
    Case::new(name)
        .vlans(1, &[access(10)])
        .vlans(2, &[access(10)])
        .vlans(3, &[access(20)])
        .vlans(4, &[member(10), member(20)])
}

pub(super) fn cases() -> Vec<Case> {
    let (a, b, c) = (station(1), station(2), station(3));
    let all = |src| frame(MacAddr::BROADCAST, src);
    let vlan = |frame: &[u8], vid| tagged(frame, DOT1Q, vid);
    vec![
        case("an untagged frame takes the PVID").shows(27).send(1, all(a)).send(3, all(c)),
        case("a frame leaves an access port without its tag").shows(28).send(4, vlan(&all(a), 10)),
        case("a frame leaves a trunk with its tag").shows(28).send(1, all(a)).send(3, frame(a, c)),
        case("an untagged frame on a trunk without PVID is dropped").shows(27).send(4, all(a)),
        case("a priority-tagged frame on a trunk without PVID is dropped")
            .statement(27)
            .send(4, tagged(&all(a), DOT1Q, tci(5, 0))),
        case("a priority-tagged frame takes the PVID").shows(27).send(1, tagged(&all(a), DOT1Q, tci(5, 0))),
        case("a priority goes through a trunk").statement(27).send(4, tagged(&all(a), DOT1Q, tci(5, 10))),
        case("the drop-eligible bit goes through").statement(27).send(4, tagged(&all(a), DOT1Q, tci(1, 10) | 0x1000)),
        case("a VLAN that is not the port's is dropped")
            .shows(27)
            .send(4, vlan(&all(a), 30))
            .send(1, vlan(&all(a), 20)),
        case("a tagged frame of the PVID enters an access port").statement(27).send(1, vlan(&all(a), 10)),
        case("VLAN 4095 is dropped").statement(27).send(4, vlan(&all(a), 4095)).send(1, vlan(&all(a), 4095)),
        case("a port of no VLAN gets and gives nothing").statement(28).vlans(2, &[]).send(2, all(b)).send(1, all(a)),
        case("the same address in two VLANs is two stations")
            .shows(9)
            .send(1, all(a))
            .send(3, all(a))
            .send(4, vlan(&frame(a, b), 10))
            .send(4, vlan(&frame(a, b), 20)),
        case("what is known in one VLAN is unknown in another")
            .statement(9)
            .send(4, vlan(&all(b), 10))
            .send(3, frame(b, c)),
        case("a provider's tag is payload to a customer bridge")
            .statement(27)
            .send(1, tagged(&all(a), DOT1AD, 10))
            .send(4, tagged(&all(a), DOT1AD, 10)),
        case("a second tag stays inside")
            .statement(28)
            .send(4, vlan(&vlan(&all(a), 20), 10))
            .send(1, vlan(&vlan(&all(a), 20), 10)),
        case("a static entry counts in its VLAN alone")
            .statement(15)
            .fdb_vlan(c, At::Port(1), 10, Kind::Static)
            .send(2, frame(c, b))
            .send(4, vlan(&frame(c, b), 10))
            .send(4, vlan(&frame(c, b), 20)),
        case("a user's entry for no VLAN counts in every VLAN of its port")
            .shows(15)
            .ruling("vlan_0")
            .fdb(station(9), At::Port(4), Kind::Static)
            .send(1, frame(station(9), a))
            .send(3, frame(station(9), c)),
        case("a station moves within its VLAN")
            .statement(11)
            .send(1, all(a))
            .send(2, all(a))
            .send(4, vlan(&frame(a, c), 10)),
        case("a reserved frame is kept in every VLAN")
            .statement(5)
            .send(1, frame(reserved(0x0e), a))
            .send(4, vlan(&frame(reserved(0x0e), a), 20))
            .send(4, vlan(&frame(a, b), 10)),
        case("a frame from a VLAN that is not the port's teaches nothing")
            .shows(7)
            .send(4, vlan(&all(a), 30))
            .send(1, vlan(&frame(group(1), b), 20)),
        case("a frame to its own VLAN's hairpin port comes back untagged")
            .statement(19)
            .port(1, "hairpin", true)
            .send(1, all(a)),
        case("isolated ports in one VLAN")
            .statement(22)
            .port(1, "isolated", true)
            .port(2, "isolated", true)
            .send(1, all(a)),
        case("a trunk with a native VLAN takes untagged frames")
            .statement(27)
            .vlans(4, &[member(10), access(20)])
            .send(4, all(a))
            .send(4, vlan(&all(b), 20))
            .send(4, vlan(&all(c), 10))
            .send(3, all(c))
            .send(1, all(a)),
        case("a PVID that leaves tagged")
            .statement(28)
            .vlans(4, &[VlanMember { vid: 20, pvid: true, untagged: false }])
            .send(4, all(a))
            .send(3, all(c)),
        case("two VLANs that leave untagged")
            .statement(28)
            .vlans(4, &[access(10), VlanMember { vid: 20, pvid: false, untagged: true }])
            .send(1, all(a))
            .send(3, all(c))
            .send(4, all(b)),
        case("a provider bridge takes provider tags for its own")
            .statement(29)
            .bridge("vlan_protocol", "802.1ad")
            .send(4, tagged(&all(a), DOT1AD, 10))
            .send(4, vlan(&all(a), 10))
            .send(1, vlan(&all(b), 20)),
        case("a provider bridge passes the customers' groups")
            .statement(29)
            .bridge("vlan_protocol", "802.1ad")
            .send(1, frame(reserved(0), a))
            .send(1, frame(reserved(8), a))
            .send(1, frame(reserved(0x0b), a))
            .send(1, frame(reserved(0x0e), a)),
        case("the default PVID changes while VLANs are filtered, where it is no VLAN of the port's yet")
            .shows(30)
            .set_bridge("vlan_default_pvid", 10)
            .send(1, all(a))
            .send(3, all(c))
            .send(4, all(b))
            .set_bridge("vlan_default_pvid", 30)
            .send(3, all(c))
            .send(4, all(b)),
        case("a default PVID of 0 is none")
            .shows(30)
            .vlans(1, &[])
            .vlans(2, &[member(20)])
            .set_bridge("vlan_default_pvid", 10)
            .send(1, all(a))
            .send(2, all(b))
            .set_bridge("vlan_default_pvid", 0)
            .send(2, all(b))
            .send(3, all(c)),
    ]
}

/// A tunnel that carries two VLANs, each in its network.
pub(super) fn tunnels() -> Vec<Case> {
    const TEN: u32 = 1000;
    const TWENTY: u32 = 2000;
    let (a, c, far) = (station(1), station(3), station(9));
    let all = |src| frame(MacAddr::BROADCAST, src);
    let case = |name: &str| {
        case(&format!("vlan_tunnel: {name}"))
            .statement(31)
            .overlay(&[vtep(2), vtep(3)])
            .tunnel("vxlan_learning", false)
            .networks(&[(10, TEN), (20, TWENTY)])
    };
    vec![
        case("a frame leaves in its VLAN's network")
            .shows(31)
            .send(1, all(a))
            .send(3, all(c))
            .send(4, tagged(&all(a), DOT1Q, 20)),
        case("a frame from a network is of its VLAN")
            .shows(31)
            .arrive(vtep(2), vxlan(TEN, &all(far)))
            .arrive(vtep(2), vxlan(TWENTY, &all(far))),
        case("a frame from a network of no VLAN is of the tunnel's PVID")
            .shows(31)
            .arrive(vtep(2), vxlan(3000, &all(far))),
        case("a tag inside is payload, and its network says which VLAN")
            .ruling("network_tag")
            .arrive(vtep(2), vxlan(TWENTY, &tagged(&all(far), DOT1Q, 10))),
        case("a tag inside is payload where no VLAN has the network")
            .ruling("network_tag")
            .arrive(vtep(2), vxlan(3000, &tagged(&all(far), DOT1Q, 20))),
    ]
}
