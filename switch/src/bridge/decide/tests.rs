use super::*;
use crate::{
    bridge::{Membership, PortOptions, StpState},
    ids::{PortId, VtepId},
    wire::{Tag, Tpid, VlanId, ethernet::EtherHeader},
};

const BLUE: BridgeId = BridgeId(0);
const GREEN: BridgeId = BridgeId(1);
const A: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 0xa]);
const B: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 0xb]);
const GROUP: MacAddr = MacAddr::new([1, 0, 0x5e, 0, 0, 1]);

const fn port(n: u16) -> Endpoint {
    Endpoint::Port(PortId(n))
}

const fn vtep(n: u16) -> Endpoint {
    Endpoint::Vtep(VtepId(n))
}

fn bridge(ports: &[u16], flood_list: &[u16]) -> Bridge {
    Bridge {
        ports: ports.iter().copied().map(PortId).collect(),
        flood_list: flood_list.iter().copied().map(VtepId).collect(),
        ..Bridge::default()
    }
}

fn access(bridge: BridgeId) -> PortEntry {
    PortEntry::new(Membership::Access(bridge))
}

/// Ports 0, 1 and 2 and two VTEPs on one bridge.
fn tables() -> Tables {
    Tables {
        ports: vec![Some(access(BLUE)), Some(access(BLUE)), Some(access(BLUE))],
        bridges: vec![Some(bridge(&[0, 1, 2], &[0, 1]))],
        ..Tables::default()
    }
}

fn options(tables: &mut Tables, port: usize) -> &mut PortOptions {
    &mut tables.ports[port].as_mut().unwrap().options
}

fn flooded(tables: &Tables, ingress: Endpoint, kind: FloodKind) -> Vec<Endpoint> {
    tables.flood(tables.bridge(BLUE).unwrap(), ingress, kind).collect()
}

fn decided(tables: &Tables, ingress: Endpoint, dst: MacAddr, known: Option<Endpoint>) -> Verdict {
    tables.decide(tables.bridge(BLUE).unwrap(), ingress, dst, known)
}

#[test]
fn a_source_that_can_not_be_is_refused() {
    let bridge = bridge(&[], &[]);
    for src in [MacAddr::ZERO, GROUP, MacAddr::BROADCAST] {
        assert_eq!(admit(&bridge, 0, A, src), Admission::Refuse(DropReason::SourceInvalid));
    }
    assert_eq!(admit(&bridge, 0, A, B), Admission::Enter);
}

#[test]
fn reserved_groups_are_kept_unless_the_mask_opens_them() {
    let mut bridge = bridge(&[], &[]);
    let group = |last| MacAddr::new([1, 0x80, 0xc2, 0, 0, last]);
    assert_eq!(admit(&bridge, 0, group(0), A), Admission::Enter);
    assert_eq!(admit(&bridge, 0, group(1), A), Admission::Refuse(DropReason::ReservedGroup));
    assert_eq!(admit(&bridge, 0, group(0xe), A), Admission::KeepAndLearn(DropReason::ReservedGroup));
    assert_eq!(admit(&bridge, 0, group(0x10), A), Admission::Enter);
    bridge.group_fwd_mask = 1 << 0xe | 1 << 1;
    assert_eq!(admit(&bridge, 0, group(0xe), A), Admission::Enter);
    assert_eq!(admit(&bridge, 0, group(1), A), Admission::Refuse(DropReason::ReservedGroup), "pause never passes");
}

#[test]
fn a_provider_passes_on_what_is_for_its_customers_bridges() {
    let mut tables = tables();
    let bridge = tables.bridges[0].as_mut().unwrap();
    bridge.group_fwd_mask = PROVIDER_GROUPS;
    let passes = |group: &u8| admit(bridge, 0, MacAddr::new([1, 0x80, 0xc2, 0, 0, *group]), A) == Admission::Enter;
    assert_eq!((0..16).filter(passes).collect::<Vec<_>>(), [0, 0xb, 0xc, 0xd, 0xf]);
}

#[test]
fn a_ports_mask_opens_groups_for_what_comes_in_there_but_never_pause() {
    let bridge = bridge(&[], &[]);
    let group = |last| MacAddr::new([1, 0x80, 0xc2, 0, 0, last]);
    assert_eq!(admit(&bridge, 1 << 2, group(2), A), Admission::Enter);
    assert_eq!(admit(&bridge, 1 << 2, group(3), A), Admission::KeepAndLearn(DropReason::ReservedGroup));
    assert_eq!(admit(&bridge, 0xffff, group(1), A), Admission::Refuse(DropReason::ReservedGroup));
}

#[test]
fn what_the_bridge_keeps_teaches_nothing_if_it_is_told_so() {
    let mut bridge = bridge(&[], &[]);
    bridge.no_linklocal_learn = true;
    let lldp = MacAddr::new([1, 0x80, 0xc2, 0, 0, 0xe]);
    assert_eq!(admit(&bridge, 0, lldp, A), Admission::Refuse(DropReason::ReservedGroup));
    assert_eq!(admit(&bridge, 1 << 0xe, lldp, A), Admission::Enter);
}

#[test]
fn nothing_leaves_by_a_port_that_does_not_forward() {
    for state in [StpState::Disabled, StpState::Listening, StpState::Learning, StpState::Blocking] {
        let mut tables = tables();
        options(&mut tables, 1).state = state;
        assert_eq!(decided(&tables, port(0), B, Some(port(1))), Verdict::Drop(DropReason::PortState));
        assert_eq!(flooded(&tables, port(0), FloodKind::Broadcast), [port(2), vtep(0), vtep(1)]);
        assert_eq!(tables.port(PortId(1)).unwrap().learns(), state == StpState::Learning);
    }
}

#[test]
fn known_unicast_goes_to_one_place_and_unknown_is_flooded() {
    let tables = tables();
    assert_eq!(decided(&tables, port(0), B, Some(port(1))), Verdict::Unicast(port(1)));
    assert_eq!(decided(&tables, port(0), B, Some(vtep(1))), Verdict::Unicast(vtep(1)));
    assert_eq!(decided(&tables, vtep(1), B, Some(port(1))), Verdict::Unicast(port(1)));
    assert_eq!(decided(&tables, port(0), B, None), Verdict::Flood(FloodKind::UnknownUnicast));
    assert_eq!(decided(&tables, port(0), GROUP, Some(port(1))), Verdict::Flood(FloodKind::Multicast));
    assert_eq!(decided(&tables, port(0), MacAddr::BROADCAST, None), Verdict::Flood(FloodKind::Broadcast));
}

#[test]
fn a_frame_does_not_go_back_where_it_came_from_unless_the_port_is_a_hairpin() {
    let mut tables = tables();
    assert_eq!(decided(&tables, port(0), B, Some(port(0))), Verdict::Drop(DropReason::SameEndpoint));
    options(&mut tables, 0).hairpin = true;
    assert_eq!(decided(&tables, port(0), B, Some(port(0))), Verdict::Unicast(port(0)));
    assert_eq!(flooded(&tables, port(0), FloodKind::Broadcast)[0], port(0));
}

#[test]
fn nothing_goes_from_vtep_to_vtep() {
    let tables = tables();
    assert_eq!(decided(&tables, vtep(0), B, Some(vtep(1))), Verdict::Drop(DropReason::SplitHorizon));
    assert_eq!(decided(&tables, vtep(0), B, Some(vtep(0))), Verdict::Drop(DropReason::SplitHorizon));
    assert_eq!(flooded(&tables, vtep(0), FloodKind::Broadcast), [port(0), port(1), port(2)]);
}

#[test]
fn a_flood_reaches_the_other_ports_and_every_vtep_once() {
    let tables = tables();
    assert_eq!(flooded(&tables, port(1), FloodKind::UnknownUnicast), [port(0), port(2), vtep(0), vtep(1)]);
}

#[test]
fn each_kind_of_flood_has_its_own_gate() {
    let mut tables = tables();
    options(&mut tables, 1).flood = false;
    options(&mut tables, 2).mcast_flood = false;
    assert_eq!(flooded(&tables, vtep(0), FloodKind::UnknownUnicast), [port(0), port(2)]);
    assert_eq!(flooded(&tables, vtep(0), FloodKind::Multicast), [port(0), port(1)]);
    options(&mut tables, 0).bcast_flood = false;
    assert_eq!(flooded(&tables, vtep(0), FloodKind::Broadcast), [port(1), port(2)]);
}

#[test]
fn isolated_ports_reach_only_the_others() {
    let mut tables = tables();
    options(&mut tables, 0).isolated = true;
    options(&mut tables, 1).isolated = true;
    assert_eq!(decided(&tables, port(0), B, Some(port(1))), Verdict::Drop(DropReason::Isolated));
    assert_eq!(decided(&tables, port(2), B, Some(port(1))), Verdict::Unicast(port(1)));
    assert_eq!(flooded(&tables, port(0), FloodKind::Broadcast), [port(2), vtep(0), vtep(1)]);
    assert_eq!(decided(&tables, vtep(0), B, Some(port(1))), Verdict::Unicast(port(1)));
}

#[test]
fn known_behind_a_port_that_is_down_is_dropped_not_flooded() {
    let mut tables = tables();
    tables.ports[1].as_mut().unwrap().up = false;
    assert_eq!(decided(&tables, port(0), B, Some(port(1))), Verdict::Drop(DropReason::PortDown));
    assert_eq!(flooded(&tables, port(0), FloodKind::Broadcast), [port(2), vtep(0), vtep(1)]);
    tables.ports[2] = None;
    assert_eq!(decided(&tables, port(0), B, Some(port(2))), Verdict::Drop(DropReason::PortRemoved));
}

#[test]
fn the_hosts_own_address_is_neither_learned_nor_forwarded_to() {
    let mut tables = tables();
    tables.bridges[0].as_mut().unwrap().local_macs.push(A);
    assert_eq!(decided(&tables, port(0), A, None), Verdict::Drop(DropReason::LocalDestination));
    let bridge = tables.bridge(BLUE).unwrap();
    assert!(!bridge.learns(A) && bridge.learns(B));
}

#[test]
fn a_trunk_tells_bridges_by_tag_and_puts_the_tag_back_with_its_priority() {
    let vid = |n| VlanId::new(n).unwrap();
    let mut tables = tables();
    let trunk = Membership::trunk(&[(vid(10), BLUE), (vid(20), GREEN)], None);
    tables.ports.push(Some(PortEntry { membership: trunk, ..access(BLUE) }));
    let header = |tag| EtherHeader { dst: A, src: B, ether_type: 0x8100, tag };
    let classify = |tables: &Tables, tag| tables.port(PortId(3)).unwrap().classify(&header(tag));

    assert_eq!(classify(&tables, Some(Tag(0x6000 | 20))), Ok((GREEN, Some(Tag(0x6014)))));
    assert_eq!(classify(&tables, Some(Tag(30))), Err(DropReason::VlanNotMember));
    assert_eq!(classify(&tables, Some(Tag(4095))), Err(DropReason::VlanInvalid));
    assert_eq!(classify(&tables, Some(Tag(0xa000))), Err(DropReason::VlanUntagged));
    assert_eq!(classify(&tables, None), Err(DropReason::VlanUntagged));
    assert_eq!(tables.port(PortId(3)).unwrap().egress_vid(BLUE), Ok(Some(vid(10))));

    let native = Membership::trunk(&[(vid(20), GREEN)], Some(BLUE));
    tables.ports[3].as_mut().unwrap().membership = native;
    assert_eq!(classify(&tables, None), Ok((BLUE, None)));
    assert_eq!(classify(&tables, Some(Tag(0xa000))), Ok((BLUE, Some(Tag(0xa000)))));
    assert_eq!(tables.port(PortId(3)).unwrap().egress_vid(BLUE), Ok(None));
    assert_eq!(tables.port(PortId(0)).unwrap().egress_vid(GREEN), Err(DropReason::PortRemoved));
}

#[test]
fn a_backup_port_takes_what_is_behind_a_port_that_is_down_but_nothing_that_is_flooded() {
    let mut tables = tables();
    options(&mut tables, 1).backup_port = Some(PortId(2));
    assert_eq!(decided(&tables, port(0), B, Some(port(1))), Verdict::Unicast(port(1)));
    tables.ports[1].as_mut().unwrap().up = false;
    assert_eq!(decided(&tables, port(0), B, Some(port(1))), Verdict::Unicast(port(2)));
    assert_eq!(flooded(&tables, port(2), FloodKind::Broadcast), [port(0), vtep(0), vtep(1)]);
    assert_eq!(decided(&tables, port(2), B, Some(port(1))), Verdict::Drop(DropReason::SameEndpoint));
    options(&mut tables, 2).state = StpState::Blocking;
    assert_eq!(decided(&tables, port(0), B, Some(port(1))), Verdict::Drop(DropReason::PortState));
}

#[test]
fn a_trunk_untags_what_it_is_told_to_and_its_native_vlan_need_not_be_among_it() {
    let vid = |n| VlanId::new(n).unwrap();
    let vlans = [(vid(10), BLUE), (vid(20), GREEN)];
    let membership = Membership::trunk_untagging(&vlans, Some(BLUE), |vid, _| vid.get() == 20);
    let trunk = PortEntry { membership, ..access(BLUE) };
    let untagged = EtherHeader { dst: A, src: B, ether_type: 0x0800, tag: None };
    assert_eq!(trunk.classify(&untagged), Ok((BLUE, None)));
    assert_eq!((trunk.egress_vid(BLUE), trunk.egress_vid(GREEN)), (Ok(Some(vid(10))), Ok(None)));
}

#[test]
fn of_two_kinds_of_tags_a_trunk_reads_its_own() {
    let vid = |n| VlanId::new(n).unwrap();
    let mut trunk = PortEntry { membership: Membership::trunk(&[(vid(10), GREEN)], Some(BLUE)), ..access(BLUE) };
    let header = |ether_type| EtherHeader { dst: A, src: B, ether_type, tag: Some(Tag(10)) };
    assert_eq!(trunk.classify(&header(0x8100)), Ok((GREEN, Some(Tag(10)))));
    assert_eq!(trunk.classify(&header(0x88a8)), Ok((BLUE, None)));
    trunk.options.vlan_protocol = Tpid::Service;
    assert_eq!(trunk.classify(&header(0x8100)), Ok((BLUE, None)));
    assert_eq!(trunk.classify(&header(0x88a8)), Ok((GREEN, Some(Tag(10)))));
}

#[test]
fn tags_are_payload_on_an_access_port() {
    let header = EtherHeader { dst: A, src: B, ether_type: 0x8100, tag: Some(Tag(4095)) };
    assert_eq!(tables().port(PortId(0)).unwrap().classify(&header), Ok((BLUE, None)));
}
