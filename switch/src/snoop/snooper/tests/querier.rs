//! Who asks, when and what.

use super::*;
use crate::wire::membership::{ALL_NODES, testing::mld_frame};

fn asking() -> Settings {
    Settings { querier: true, ..Settings::default() }
}

impl Scene {
    /// Where queries went since this was last asked, for this IP version, and what they ask.
    fn asked(&mut self, is_v4: bool) -> Vec<(Member, Scope)> {
        let frames = self.snooper.take_queries();
        let parsed = frames.iter().map(|frame| {
            let packet = membership::parse(&frame.bytes, false).unwrap().unwrap();
            let Some(Message::Query(query)) = packet.message else { panic!("{packet:?}") };
            (packet, frame.to, query.scope)
        });
        parsed.filter(|(packet, ..)| packet.dst.is_ipv4() == is_v4).map(|(_, to, scope)| (to, scope)).collect()
    }
}

#[test]
fn a_querier_asks_every_port_twice_soon_and_then_now_and_then() {
    let mut scene = Scene::new(asking());
    let everybody = [A, B, ROUTER, Member::Overlay].map(|member| (member, Scope::General));
    let mut asked_at = Vec::new();
    for tenth in 0..3000 {
        scene.now = Duration::from_millis(tenth * 100);
        scene.snooper.poll(scene.now);
        let asked = scene.asked(true);
        if !asked.is_empty() {
            assert_eq!(asked, everybody);
            asked_at.push(tenth);
        }
    }
    // After 31.25 s, and every 125 s from then on.
    assert_eq!(asked_at, [0, 313, 1563, 2813]);
}

#[test]
fn mld_is_asked_from_the_link_local_address_that_the_bridge_would_have() {
    let mut scene = Scene::new(asking());
    scene.poll(0);
    let frames = scene.snooper.take_queries();
    let sources: Vec<_> = frames
        .iter()
        .map(|frame| membership::parse(&frame.bytes, false).unwrap().unwrap().src)
        .filter(IpAddr::is_ipv6)
        .collect();
    assert_eq!(sources, ["fe80::bfff:fefe:1".parse::<IpAddr>().unwrap(); 4]);
}

#[test]
fn a_bridge_that_is_no_querier_asks_nothing() {
    let mut scene = Scene::new(Settings::default());
    scene.hear(A, &report(GROUP), 0);
    scene.hear(A, &leave(GROUP), 1);
    scene.poll(300);
    assert_eq!(scene.snooper.take_queries(), []);
}

#[test]
fn an_own_querier_is_believed_after_the_time_for_answers() {
    let mut scene = Scene::new(asking());
    for (second, route) in [(9, None), (10, Some(vec![]))] {
        scene.poll(second);
        assert_eq!(scene.route(&traffic(SOURCE, GROUP)), route);
    }
}

#[test]
fn another_querier_silences_this_one_until_it_is_gone() {
    let mut scene = Scene::new(asking());
    scene.poll(0);
    scene.hear(ROUTER, &query(ROUTER_ADDRESS), 20);
    _ = scene.asked(true);
    scene.poll(274);
    assert_eq!(scene.asked(true), []);
    scene.poll(275);
    assert_eq!(scene.asked(true).len(), 4);
}

#[test]
fn the_lower_address_asks() {
    // Ours is fe80::bfff:fefe:1; the first of these is higher, the second lower.
    for (router, is_elected) in [(IpAddr::from([0xfe80, 0, 0, 0, 1, 0, 0, 1]), false), (ROUTER_ADDRESS_V6, true)] {
        let mut scene = Scene::new(asking());
        scene.poll(0);
        scene.hear(ROUTER, &query(router), 20);
        let queriers = scene.snooper.queriers(scene.now);
        let of_mld = queriers.iter().find(|querier| querier.address.is_ipv6()).unwrap();
        assert_eq!(of_mld.member, is_elected.then_some(ROUTER));
        assert_eq!(scene.routers(), if is_elected { vec![ROUTER] } else { vec![] });
    }
}

#[test]
fn of_two_other_queriers_the_lower_is_followed() {
    let mut scene = Scene::with_querier(Settings::default(), ROUTER_ADDRESS);
    for (last, member, address) in [(255, ROUTER, ROUTER_ADDRESS), (9, A, IpAddr::from([10, 0, 0, 9]))] {
        scene.hear(A, &query(IpAddr::from([10, 0, 0, last])), 20);
        let expected = QuerierView {
            address,
            member: Some(member),
            expires_in: Some(Duration::from_secs(if last == 9 { 255 } else { 235 })),
        };
        assert_eq!(scene.snooper.queriers(scene.now), [expected]);
    }
}

#[test]
fn a_leave_is_followed_by_a_question_and_two_seconds_for_the_answer() {
    for (group, is_v4) in [(GROUP, true), (GROUP_V6, false)] {
        let mut scene = Scene::new(asking());
        scene.poll(0);
        scene.hear(A, &report(group), 20);
        scene.hear(B, &report(group), 20);
        _ = scene.snooper.take_queries();
        scene.hear(A, &leave(group), 21);
        assert_eq!(scene.asked(is_v4), [(A, Scope::Group { group, suppress: false })]);
        scene.poll(23);
        assert_eq!(scene.members(group), [B]);
        assert_eq!(scene.asked(is_v4), [(A, Scope::General)], "the port's next turn came with it");
    }
}

#[test]
fn sources_that_a_host_gives_up_are_asked_for() {
    let mut scene = Scene::new(Settings { igmp_version: 3, ..asking() });
    scene.poll(0);
    scene.hear(A, &is_include(&[1, 2]), 20);
    _ = scene.snooper.take_queries();
    scene.hear(A, &record(RecordKind::Block, &[1]), 21);
    assert_eq!(scene.snooper.take_queries(), [], "not at once: see ask_for_sources");
    scene.poll(22);
    let queries = scene.snooper.take_queries();
    let [query] = queries.as_slice() else { panic!("{queries:?}") };
    assert_eq!((query.to, query.bytes.len()), (A, 14 + 24 + 12 + 4));
    assert_eq!(query.bytes[14 + 24 + 10..], [0, 1, 192, 0, 2, 1]);
    scene.poll(23);
    assert_eq!(scene.state(), Some((false, vec![2], vec![])));
}

#[test]
fn a_group_that_a_host_gives_up_is_asked_for_twice() {
    let mut scene = Scene::new(Settings { igmp_version: 3, ..asking() });
    scene.poll(0);
    scene.hear(A, &record(RecordKind::IsExclude, &[]), 20);
    _ = scene.snooper.take_queries();
    scene.hear(A, &record(RecordKind::ToInclude, &[]), 21);
    let group = |suppress| (A, Scope::Group { group: GROUP, suppress });
    assert_eq!(scene.asked(true), [group(false)]);
    scene.poll(22);
    assert_eq!(scene.asked(true), [group(true)]);
    scene.poll(23);
    assert_eq!(scene.members(GROUP), []);
}

#[test]
fn an_mld_query_from_the_overlay_is_heard_like_any_other() {
    let mut scene = Scene::new(Settings::default());
    let message = [&[130, 0, 0, 0, 0x27, 0x10, 0, 0][..], &[0; 16], &[2, 125, 0, 0]].concat();
    let IpAddr::V6(router) = ROUTER_ADDRESS_V6 else { panic!() };
    scene.hear(Member::Overlay, &mld_frame(router, ALL_NODES, &message), 0);
    scene.poll(10);
    assert_eq!(scene.route(&traffic(SOURCE_V6, GROUP_V6)), Some(vec![Member::Overlay]));
}
