mod querier;
mod scene;
mod sources;
mod twin;

use std::time::Duration;

use self::scene::*;
use super::*;
use crate::{
    snoop::Route,
    wire::membership::testing::{leave, query, report, traffic},
};

#[test]
fn without_a_querier_everything_is_flooded() {
    let mut scene = Scene::new(Settings::default());
    scene.hear(A, &report(GROUP), 0);
    assert_eq!(scene.route(&traffic(SOURCE, GROUP)), None);
    assert_eq!(scene.members(GROUP), [A], "members are known all the same");
}

#[test]
fn a_querier_is_believed_when_hosts_had_the_time_to_answer() {
    let mut scene = Scene::new(Settings::default());
    scene.hear(ROUTER, &query(ROUTER_ADDRESS), 0);
    scene.hear(A, &report(GROUP), 1);
    for (second, route) in [(9, None), (10, Some(vec![A, ROUTER]))] {
        scene.poll(second);
        assert_eq!(scene.route(&traffic(SOURCE, GROUP)), route);
    }
}

#[test]
fn traffic_goes_to_members_and_routers_and_unregistered_traffic_to_routers() {
    for (group, other, source, router) in
        [(GROUP, OTHER_GROUP, SOURCE, ROUTER_ADDRESS), (GROUP_V6, OTHER_GROUP_V6, SOURCE_V6, ROUTER_ADDRESS_V6)]
    {
        let mut scene = Scene::with_querier(Settings::default(), router);
        scene.hear(A, &report(group), 11);
        assert_eq!(scene.route(&traffic(source, group)), Some(vec![A, ROUTER]));
        assert_eq!(scene.route(&traffic(source, other)), Some(vec![ROUTER]));
    }
}

#[test]
fn a_querier_of_igmp_says_nothing_about_mld() {
    let scene = Scene::with_querier(Settings::default(), ROUTER_ADDRESS);
    assert_eq!(scene.route(&traffic(SOURCE_V6, GROUP_V6)), None);
    assert_eq!(scene.route(&traffic(SOURCE, GROUP)), Some(vec![ROUTER]));
}

#[test]
fn old_reports_go_to_routers_only_and_everything_else_about_groups_is_flooded() {
    let scene = Scene::with_querier(Settings::default(), ROUTER_ADDRESS);
    assert_eq!(scene.route(&report(GROUP)), Some(vec![ROUTER]));
    assert_eq!(scene.route(&leave(GROUP)), None);
    assert_eq!(scene.route(&query(ROUTER_ADDRESS)), None);
    assert_eq!(scene.route(&is_include(&[1])), None);
}

#[test]
fn groups_of_the_link_are_flooded_and_can_not_be_joined() {
    let of_link = IpAddr::from([224, 0, 0, 251]);
    let mut scene = Scene::with_querier(Settings::default(), ROUTER_ADDRESS);
    scene.hear(A, &report(of_link), 11);
    assert_eq!(scene.members(of_link), []);
    assert_eq!(scene.route(&traffic(SOURCE, of_link)), None);

    let all_nodes = IpAddr::from(membership::ALL_NODES);
    let dns = IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 0xfb]);
    let mut scene = Scene::with_querier(Settings::default(), ROUTER_ADDRESS_V6);
    assert_eq!(scene.route(&traffic(SOURCE_V6, all_nodes)), None);
    assert_eq!(scene.route(&traffic(SOURCE_V6, dns)), Some(vec![ROUTER]), "hosts join what is not ff02::1");
    scene.hear(A, &report(dns), 11);
    assert_eq!(scene.route(&traffic(SOURCE_V6, dns)), Some(vec![A, ROUTER]));
}

#[test]
fn a_member_that_says_nothing_more_is_forgotten() {
    let mut scene = Scene::new(Settings::default());
    scene.hear(A, &report(GROUP), 0);
    scene.hear(B, &report(GROUP), 100);
    for (second, members) in [(259, vec![A, B]), (260, vec![B]), (360, vec![])] {
        scene.poll(second);
        assert_eq!(scene.members(GROUP), members);
    }
}

#[test]
fn a_leave_waits_for_others_behind_the_port_unless_it_is_to_be_fast() {
    for (fast_leave, still_there) in [(false, vec![A]), (true, vec![])] {
        let mut scene = Scene::new(Settings::default());
        scene.port(A, PortSettings { fast_leave, ..Default::default() });
        scene.hear(A, &report(GROUP), 0);
        scene.hear(A, &leave(GROUP), 1);
        assert_eq!(scene.members(GROUP), still_there);
        scene.poll(3);
        assert_eq!(scene.members(GROUP), []);
    }
}

#[test]
fn where_another_asks_a_leave_waits_for_its_question() {
    let mut scene = Scene::with_querier(Settings::default(), ROUTER_ADDRESS);
    scene.hear(A, &report(GROUP), 11);
    scene.hear(A, &leave(GROUP), 12);
    scene.poll(100);
    assert_eq!(scene.members(GROUP), [A]);
    let group_query = igmp_query(10, GROUP);
    scene.hear(ROUTER, &group_query, 100);
    scene.poll(101);
    assert_eq!(scene.members(GROUP), [A]);
    scene.poll(102);
    assert_eq!(scene.members(GROUP), []);
}

#[test]
fn whoever_answers_a_question_stays() {
    let mut scene = Scene::with_querier(Settings::default(), ROUTER_ADDRESS);
    scene.hear(A, &report(GROUP), 11);
    scene.hear(B, &report(GROUP), 11);
    scene.hear(ROUTER, &igmp_query(10, GROUP), 20);
    scene.hear(B, &report(GROUP), 21);
    scene.poll(30);
    assert_eq!(scene.members(GROUP), [B]);
}

#[test]
fn a_router_is_learned_believed_or_denied() {
    let routers_of = |router| {
        let mut scene = Scene::new(Settings::default());
        scene.port(B, PortSettings { router, ..Default::default() });
        scene.hear(B, &query(ROUTER_ADDRESS), 0);
        scene.poll(10);
        let learned = scene.routers();
        scene.hear(A, &query(ROUTER_ADDRESS), 200);
        scene.poll(255);
        (learned, scene.routers())
    };
    assert_eq!(routers_of(Router::Learn), (vec![B], vec![A]));
    assert_eq!(routers_of(Router::Always), (vec![B], vec![A, B]));
    assert_eq!(routers_of(Router::Never), (vec![], vec![A]));
}

#[test]
fn a_pim_hello_makes_a_router_but_no_querier() {
    let mut scene = Scene::new(Settings::default());
    scene.hear(B, &pim_hello(), 0);
    assert_eq!(scene.routers(), [B]);
    assert_eq!(scene.route(&traffic(SOURCE, GROUP)), None);
}

#[test]
fn what_was_learned_of_a_router_is_forgotten_when_its_setting_changes() {
    let mut scene = Scene::new(Settings::default());
    scene.hear(B, &pim_hello(), 0);
    for (router, routers) in [(Router::Always, vec![B]), (Router::Learn, vec![])] {
        scene.port(B, PortSettings { router, ..Default::default() });
        assert_eq!(scene.routers(), routers);
    }
}

#[test]
fn one_group_more_than_there_is_room_for_ends_snooping() {
    let mut scene = Scene::with_querier(Settings { hash_max: 2, ..Settings::default() }, ROUTER_ADDRESS);
    for last in 1..=2 {
        scene.hear(A, &report(IpAddr::from([239, 0, 0, last])), 11);
    }
    scene.hear(B, &report(IpAddr::from([239, 0, 0, 1])), 11);
    assert!(scene.snooper.is_on());
    assert!(scene.has_room(A, &report(IpAddr::from([239, 0, 0, 2]))));
    assert!(!scene.has_room(A, &report(IpAddr::from([239, 0, 0, 3]))));
    scene.hear(A, &report(IpAddr::from([239, 0, 0, 3])), 12);
    assert!(scene.snooper.gave_up() && scene.snooper.mdb().is_none());
    scene.snooper.configure(Settings { hash_max: 3, ..Settings::default() }, scene.now);
    assert!(scene.snooper.is_on(), "more room, another try");
}

#[test]
fn a_port_is_in_no_more_groups_than_it_may_be() {
    let mut scene = Scene::new(Settings::default());
    scene.port(A, PortSettings { max_groups: 1, ..Default::default() });
    let of_link = report(IpAddr::from([224, 0, 0, 251]));
    for from in [A, B] {
        assert!(scene.has_room(from, &report(GROUP)));
        scene.hear(from, &report(GROUP), 0);
        assert!(scene.has_room(from, &report(GROUP)) && scene.has_room(from, &of_link), "it is in it already");
        assert_eq!(scene.has_room(from, &report(OTHER_GROUP)), from == B);
        assert!(scene.has_room(from, &leave(OTHER_GROUP)) && scene.has_room(from, &query(ROUTER_ADDRESS)));
        scene.hear(from, &report(OTHER_GROUP), 0);
    }
    assert_eq!((scene.members(GROUP), scene.members(OTHER_GROUP)), (vec![A, B], vec![B]));
}

#[test]
fn each_host_gets_its_own_copy_where_that_is_wanted() {
    let settings = Settings { querier: true, ..Settings::default() };
    let mut scene = Scene::new(settings);
    scene.port(A, PortSettings { to_unicast: true, ..Default::default() });
    let hosts = [MacAddr::new([2, 0, 0, 0, 0, 1]), MacAddr::new([2, 0, 0, 0, 0, 2])];
    for host in hosts {
        scene.hear_from(A, host, &report(GROUP), 0);
    }
    scene.hear(B, &report(GROUP), 10);
    let targets = scene.targets(&traffic(SOURCE, GROUP)).unwrap();
    let target = |member, to_host| Target { port: port_id(member), to_host };
    assert_eq!(targets.ports, [target(A, Some(hosts[0])), target(A, Some(hosts[1])), target(B, None)]);

    scene.hear_from(A, hosts[0], &leave(GROUP), 11);
    scene.poll(13);
    let targets = scene.targets(&traffic(SOURCE, GROUP)).unwrap();
    assert_eq!(targets.ports, [target(A, Some(hosts[1])), target(B, None)]);
}

#[test]
fn a_router_gets_the_frame_as_it_is_and_once() {
    let mut scene = Scene::new(Settings { querier: true, ..Settings::default() });
    scene.port(A, PortSettings { to_unicast: true, router: Router::Always, ..Default::default() });
    scene.hear(A, &report(GROUP), 0);
    scene.poll(10);
    let targets = scene.targets(&traffic(SOURCE, GROUP)).unwrap();
    assert_eq!(targets.ports, [Target { port: port_id(A), to_host: None }]);
}

#[test]
fn what_a_user_wrote_down_stays() {
    let entry = |member| StaticEntry { group: Group::Ip(GROUP), source: None, member };
    let mut scene = Scene::with_querier(Settings::default(), ROUTER_ADDRESS);
    scene.port(A, PortSettings { fast_leave: true, ..Default::default() });
    scene.snooper.set_static(&[entry(A), entry(B)]);
    scene.hear(A, &report(GROUP), 11);
    scene.hear(A, &leave(GROUP), 12);
    scene.hear(ROUTER, &igmp_query(1, GROUP), 13);
    scene.poll(400);
    assert_eq!(scene.members(GROUP), [A, B]);
    scene.without_port(A);
    assert_eq!(scene.members(GROUP), [A, B]);
    scene.snooper.set_static(&[entry(B)]);
    assert_eq!(scene.members(GROUP), [B]);
}

#[test]
fn frames_that_are_not_ip_follow_what_a_user_wrote_down_without_any_querier() {
    let mut scene = Scene::new(Settings::default());
    let mac = MacAddr::new([3, 0, 0, 0, 0, 9]);
    scene.snooper.set_static(&[StaticEntry { group: Group::Mac(mac), source: None, member: B }]);
    let mdb = scene.snooper.mdb().unwrap();
    let Route::Only(targets) = mdb.route(mac, None) else { panic!() };
    assert_eq!(targets.ports, [Target { port: port_id(B), to_host: None }]);
    assert_eq!(mdb.route(MacAddr::new([3, 0, 0, 0, 0, 8]), None), Route::Flood);
}

#[test]
fn the_overlay_is_one_member() {
    let mut scene = Scene::with_querier(Settings::default(), ROUTER_ADDRESS);
    scene.hear(Member::Overlay, &report(GROUP), 11);
    assert_eq!(scene.route(&traffic(SOURCE, GROUP)), Some(vec![ROUTER, Member::Overlay]));
    scene.hear(Member::Overlay, &query(IpAddr::from([10, 0, 0, 1])), 12);
    assert_eq!(scene.routers(), [ROUTER, Member::Overlay]);
}

#[test]
fn what_was_heard_on_a_port_goes_with_it() {
    let mut scene = Scene::with_querier(Settings::default(), ROUTER_ADDRESS);
    scene.hear(A, &report(GROUP), 11);
    scene.hear(B, &report(GROUP), 11);
    scene.without_port(A);
    scene.without_port(ROUTER);
    assert_eq!(scene.route(&traffic(SOURCE, GROUP)), Some(vec![B]));
    scene.hear(A, &report(GROUP), 12);
    assert_eq!(scene.members(GROUP), [B], "nobody is there to report");
}

#[test]
fn a_bridge_that_is_told_not_to_snoop_does_not() {
    let mut scene = Scene::with_querier(Settings::default(), ROUTER_ADDRESS);
    scene.snooper.configure(Settings { snooping: false, ..Settings::default() }, scene.now);
    assert_eq!(scene.snooper.mdb(), None);
    scene.hear(A, &report(GROUP), 12);
    scene.snooper.configure(Settings::default(), Duration::from_secs(13));
    assert_eq!(scene.members(GROUP), []);
}
