//! Tags of both kinds at customers' and providers' bridges, and the memberships that a port can have beside the usual two.

use crate::{
    compare::{
        case::{At, Case, Kind, VlanMember, access, tagged as member},
        frame::{DOT1AD, DOT1Q, frame, group, reserved, station, tagged, tci},
    },
    wire::MacAddr,
};

const DOT1: [(&str, u16, u16); 2] = [("802.1Q", DOT1Q, DOT1AD), ("802.1ad", DOT1AD, DOT1Q)];

/// A VLAN of untagged frames that leaves tagged.
const fn pvid(vid: u16) -> VlanMember {
    VlanMember { vid, pvid: true, untagged: false }
}

/// A VLAN that is taken tagged and leaves untagged.
const fn untagged(vid: u16) -> VlanMember {
    VlanMember { vid, pvid: false, untagged: true }
}

/// A host in VLAN 10, one in VLAN 20, a trunk of both, and a trunk with a native VLAN.
fn case(name: &str) -> Case {
    Case::new(name)
        .vlans(1, &[access(10)])
        .vlans(2, &[access(20)])
        .vlans(3, &[member(10), member(20)])
        .vlans(4, &[access(10), member(20)])
}

pub(super) fn cases() -> Vec<Case> {
    let (a, b, c) = (station(1), station(2), station(3));
    let all = |src| frame(MacAddr::BROADCAST, src);
    let mut cases = vec![];
    for (protocol, own, other) in DOT1 {
        let case = |name: &str| case(&format!("{protocol}: {name}")).bridge("vlan_protocol", protocol);
        cases.extend([
            case("its own tag tells the VLAN")
                .statement(27)
                .send(3, tagged(&all(a), own, 10))
                .send(3, tagged(&all(b), own, 20)),
            case("the other tag is payload of an untagged frame")
                .statement(27)
                .send(1, tagged(&all(a), other, 20))
                .send(4, tagged(&all(b), other, 20)),
            case("the other tag on a trunk without PVID is an untagged frame")
                .statement(27)
                .send(3, tagged(&all(a), other, 10)),
            case("the other tag inside its own stays")
                .statement(28)
                .send(3, tagged(&tagged(&all(a), other, 20), own, 10))
                .send(2, tagged(&all(b), other, 10)),
            case("its own tag inside its own stays")
                .statement(28)
                .send(3, tagged(&tagged(&all(a), own, 20), own, 10))
                .send(4, tagged(&tagged(&all(b), own, 10), own, 20)),
            case("its own tag inside the other is payload")
                .statement(27)
                .send(1, tagged(&tagged(&all(a), own, 20), other, 20)),
            case("a priority tag takes the PVID and keeps its priority")
                .statement(27)
                .send(1, tagged(&all(a), own, tci(6, 0)))
                .send(4, tagged(&all(b), own, tci(3, 0) | 0x1000)),
            case("a priority tag of the other kind is payload")
                .statement(27)
                .send(1, tagged(&all(a), other, tci(6, 0))),
            case("priorities go from trunk to trunk")
                .statement(28)
                .send(3, tagged(&all(a), own, tci(7, 20)))
                .send(4, tagged(&all(b), own, tci(1, 20) | 0x1000)),
            case("VLANs 4094 and 4095")
                .statement(27)
                .vlans(3, &[member(4094)])
                .vlans(4, &[member(4094)])
                .send(3, tagged(&all(a), own, 4094))
                .send(3, tagged(&all(a), own, 4095)),
            case("a tag that is cut off").statement(27).send(3, tagged(&all(a), own, 10)[..15].to_vec()),
            case("a tag and nothing behind its type").statement(27).send(3, tagged(&all(a), own, 10)[..18].to_vec()),
            case("a known station in one VLAN")
                .statement(9)
                .send(1, all(a))
                .send(3, tagged(&frame(a, c), own, 10))
                .send(3, tagged(&frame(a, c), own, 20)),
            case("groups of customers' bridges")
                .shows(29)
                .send(1, frame(reserved(0x0b), a))
                .send(1, frame(reserved(0x0c), a))
                .send(1, frame(reserved(0x0d), a))
                .send(1, frame(reserved(0x0f), a)),
            case("groups that are nobody's but the link's")
                .statement(29)
                .send(1, frame(reserved(2), a))
                .send(1, frame(reserved(3), a))
                .send(1, frame(reserved(8), a))
                .send(1, frame(reserved(0x0a), a))
                .send(1, frame(reserved(0x0e), a)),
            case("the group of spanning tree, and pause frames")
                .shows(29)
                .send(1, frame(reserved(0), a))
                .send(1, frame(reserved(1), b)),
        ]);
    }
    cases.extend([
        case("a PVID alone takes untagged frames and gives tagged ones")
            .statement(28)
            .vlans(4, &[pvid(10)])
            .send(4, all(a))
            .send(1, all(b))
            .send(4, tagged(&all(c), DOT1Q, 10)),
        case("an untagged VLAN that is not the PVID takes tagged frames and gives untagged ones")
            .statement(28)
            .vlans(4, &[untagged(10)])
            .send(4, all(a))
            .send(1, all(b))
            .send(4, tagged(&all(c), DOT1Q, 10)),
        case("two untagged VLANs and a third that is the PVID")
            .statement(28)
            .vlans(4, &[untagged(10), untagged(20), pvid(30)])
            .send(4, all(a))
            .send(4, tagged(&all(b), DOT1Q, 20))
            .send(1, all(c))
            .send(2, all(station(4))),
        case("a port that is only tagged gives nothing untagged")
            .statement(28)
            .vlans(1, &[member(10)])
            .send(1, all(a))
            .send(1, tagged(&all(a), DOT1Q, 10))
            .send(3, tagged(&all(b), DOT1Q, 10)),
        case("a known station behind a port of another VLAN")
            .statement(18)
            .fdb_vlan(c, At::Port(2), 20, Kind::Static)
            .send(1, frame(c, a))
            .send(3, tagged(&frame(c, a), DOT1Q, 20)),
        case("a static entry of a VLAN moves within it")
            .statement(11)
            .fdb_vlan(a, At::Port(1), 10, Kind::Static)
            .send(3, tagged(&all(a), DOT1Q, 10))
            .send(4, frame(a, b)),
        case("a sticky entry of one VLAN is none of another")
            .statement(11)
            .fdb_vlan(a, At::Port(1), 10, Kind::Sticky)
            .send(3, tagged(&all(a), DOT1Q, 10))
            .send(3, tagged(&all(a), DOT1Q, 20)),
        case("an entry of a control plane in a VLAN")
            .statement(11)
            .fdb_vlan(a, At::Port(1), 10, Kind::External)
            .send(4, all(a))
            .flush(None),
        case("a user's entry for a VLAN that is not the port's is refused")
            .shows(15)
            .fdb_vlan(a, At::Port(1), 20, Kind::Static)
            .send(2, frame(a, b)),
        case("a locked trunk asks in each VLAN")
            .statement(8)
            .port(3, "locked", true)
            .fdb_vlan(a, At::Port(3), 10, Kind::Static)
            .send(3, tagged(&all(a), DOT1Q, 10))
            .send(3, tagged(&all(a), DOT1Q, 20)),
        case("a locked trunk with mab has locked entries in each VLAN")
            .statement(8)
            .port(3, "locked", true)
            .port(3, "mab", true)
            .send(3, tagged(&all(a), DOT1Q, 10))
            .send(3, tagged(&all(a), DOT1Q, 20)),
        case("a trunk that only learns, learns in each VLAN")
            .statement(6)
            .port(3, "state", "learning")
            .send(3, tagged(&all(a), DOT1Q, 10))
            .send(3, tagged(&all(a), DOT1Q, 20))
            .send(3, tagged(&all(a), DOT1Q, 30)),
        case("a hairpin trunk gets its frames back with their tag")
            .statement(19)
            .port(3, "hairpin", true)
            .send(3, tagged(&all(a), DOT1Q, tci(5, 20)))
            .send(3, tagged(&frame(a, b), DOT1Q, 20)),
        case("isolated trunks")
            .statement(22)
            .port(3, "isolated", true)
            .port(4, "isolated", true)
            .send(3, tagged(&all(a), DOT1Q, 10))
            .send(1, all(b)),
        case("a trunk's gates hold for its VLANs")
            .statement(20)
            .port(3, "flood", false)
            .port(4, "mcast_flood", false)
            .send(1, frame(c, a))
            .send(1, frame(group(1), a)),
        case("a reserved frame in a VLAN that is not the port's teaches nothing")
            .statement(5)
            .send(3, tagged(&frame(reserved(0x0e), a), DOT1Q, 30))
            .send(3, frame(reserved(0x0e), b)),
        case("a reserved frame that is forwarded stays in its VLAN")
            .statement(4)
            .bridge("group_fwd_mask", 0x4000)
            .send(1, frame(reserved(0x0e), a))
            .send(3, tagged(&frame(reserved(0x0e), a), DOT1Q, 20)),
        case("a port goes down with all its VLANs")
            .statement(16)
            .send(3, tagged(&all(a), DOT1Q, 10))
            .send(3, tagged(&all(b), DOT1Q, 20))
            .link(3, false)
            .link(3, true),
        case("a backup port that is no member of the VLAN")
            .statement(23)
            .port(2, "backup_port", 1)
            .fdb_vlan(c, At::Port(2), 20, Kind::Static)
            .link(2, false)
            .send(3, tagged(&frame(c, a), DOT1Q, 20)),
    ]);
    cases
}
