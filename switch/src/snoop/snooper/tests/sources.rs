//! Hosts that choose their sources: the cases of the kernel's `tools/testing/selftests/net/forwarding/bridge_igmp.sh` (and
//! of `bridge_mld.sh`, which are the same), with its sources 192.0.2.x.

use super::*;
use RecordKind::{Allow, Block, IsExclude, IsInclude, ToExclude, ToInclude};

fn choosy() -> Scene {
    Scene::with_querier(Settings { igmp_version: 3, ..Settings::default() }, ROUTER_ADDRESS)
}

/// `v3include_prepare`
fn including() -> Scene {
    let mut scene = choosy();
    scene.hear(A, &is_include(&[1, 2, 3]), 20);
    assert_eq!(scene.state(), Some((false, vec![1, 2, 3], vec![])));
    scene
}

/// `v3exclude_prepare`
fn excluding() -> Scene {
    let mut scene = including();
    scene.hear(A, &record(IsExclude, &[1, 2, 20, 21]), 21);
    assert_eq!(scene.state(), Some((true, vec![1, 2], vec![20, 21])));
    scene
}

impl Scene {
    fn reaches(&self, last: u8) -> bool {
        self.route(&traffic(source(last), GROUP)).unwrap().contains(&A)
    }
}

#[test]
fn an_include_gets_its_sources_and_no_others() {
    let scene = including();
    assert!(scene.reaches(1) && !scene.reaches(100));
}

#[test]
fn an_exclude_gets_all_but_what_it_blocked() {
    let scene = excluding();
    assert!(scene.reaches(1) && scene.reaches(100) && !scene.reaches(20) && !scene.reaches(21));
}

#[test]
fn what_a_record_does_to_an_include() {
    for (kind, sources, state) in [
        (Allow, [10, 11, 12], (false, vec![1, 2, 3, 10, 11, 12], vec![])),
        (IsInclude, [10, 11, 12], (false, vec![1, 2, 3, 10, 11, 12], vec![])),
        (IsExclude, [1, 2, 20], (true, vec![1, 2], vec![20])),
        (ToExclude, [1, 2, 20], (true, vec![1, 2], vec![20])),
        (ToInclude, [1, 10, 11], (false, vec![1, 2, 3, 10, 11], vec![])),
        (Block, [1, 2, 20], (false, vec![1, 2, 3], vec![])),
    ] {
        let mut scene = including();
        scene.hear(A, &record(kind, &sources), 21);
        assert_eq!(scene.state(), Some(state), "{kind:?}");
    }
}

#[test]
fn what_a_record_does_to_an_exclude() {
    for (kind, sources, state) in [
        (Allow, [1, 20, 30], (true, vec![1, 2, 20, 30], vec![21])),
        (IsInclude, [1, 20, 30], (true, vec![1, 2, 20, 30], vec![21])),
        (IsExclude, [1, 20, 30], (true, vec![1, 30], vec![20])),
        (ToExclude, [1, 20, 30], (true, vec![1, 30], vec![20])),
        (ToInclude, [1, 20, 30], (true, vec![1, 2, 20, 30], vec![21])),
        (Block, [1, 20, 30], (true, vec![1, 2, 30], vec![20, 21])),
    ] {
        let mut scene = excluding();
        scene.hear(A, &record(kind, &sources), 22);
        assert_eq!(scene.state(), Some(state), "{kind:?}");
    }
}

#[test]
fn sources_that_may_be_given_up_have_two_seconds_left() {
    for (is_excluding, kind, named, short, long) in [
        (false, ToExclude, vec![1, 2, 20], vec![1, 2], vec![]),
        (false, ToInclude, vec![1], vec![2, 3], vec![1]),
        (false, Block, vec![1, 20], vec![1], vec![2, 3]),
        (true, ToExclude, vec![1, 20, 30], vec![1, 30], vec![]),
        (true, ToInclude, vec![1], vec![2], vec![1]),
        (true, Block, vec![1, 20, 30], vec![1, 30], vec![2]),
    ] {
        let mut scene = if is_excluding { excluding() } else { including() };
        scene.hear(A, &record(kind, &named), 30);
        assert!(short.iter().all(|source| scene.left(*source) == Some(2)), "{kind:?} {scene:?}", scene = scene.snooper);
        assert!(long.iter().all(|source| scene.left(*source) > Some(240)), "{kind:?}");
    }
}

#[test]
fn an_exclude_whose_time_is_over_includes_what_somebody_still_wants() {
    let mut scene = excluding();
    scene.hear(A, &record(Allow, &[30]), 200);
    scene.poll(281);
    assert_eq!(scene.state(), Some((false, vec![30], vec![])));
    scene.poll(460);
    assert_eq!(scene.state(), None);
}

#[test]
fn sources_that_nobody_asks_for_any_more_are_blocked() {
    let mut scene = excluding();
    scene.hear(A, &record(IsExclude, &[1, 2, 20, 21]), 200);
    scene.hear(ROUTER, &query(ROUTER_ADDRESS), 200);
    scene.poll(280);
    assert_eq!(scene.state(), Some((true, vec![], vec![1, 2, 20, 21])));
    assert!(!scene.reaches(1) && scene.reaches(100));
}

#[test]
fn one_port_s_sources_say_nothing_of_another_s() {
    let mut scene = including();
    scene.hear(B, &record(IsExclude, &[1]), 21);
    let ports = |last| scene.route(&traffic(source(last), GROUP)).unwrap();
    assert_eq!((ports(1), ports(2), ports(100)), (vec![A, ROUTER], vec![A, B, ROUTER], vec![B, ROUTER]));
}

#[test]
fn a_version_2_bridge_takes_new_reports_for_old_ones() {
    for (kind, sources, is_member) in
        [(IsInclude, vec![1], true), (Block, vec![1], true), (IsExclude, vec![], true), (IsInclude, vec![], false)]
    {
        let mut scene = Scene::with_querier(Settings::default(), ROUTER_ADDRESS);
        scene.hear(A, &record(kind, &sources), 20);
        assert_eq!(scene.members(GROUP).contains(&A), is_member, "{kind:?}");
        if is_member {
            assert!(scene.reaches(100));
        }
    }
    let mut scene = Scene::new(Settings::default());
    scene.hear(A, &report(GROUP), 20);
    scene.hear(A, &record(ToInclude, &[]), 21);
    scene.poll(23);
    assert_eq!(scene.members(GROUP), [], "to include nothing is to leave");
}

#[test]
fn an_old_report_is_an_exclude_of_nothing() {
    let mut scene = choosy();
    scene.hear(A, &report(GROUP), 20);
    assert_eq!(scene.state(), Some((true, vec![], vec![])));
    assert!(scene.reaches(100));
}

#[test]
fn no_more_sources_are_kept_than_there_is_room_for() {
    let mut scene = choosy();
    let many: Vec<u8> = (1..=40).collect();
    scene.hear(A, &is_include(&many), 20);
    assert_eq!(scene.state().unwrap().1, (1..=32).collect::<Vec<_>>());
}

#[test]
fn where_hosts_are_followed_the_last_to_give_up_a_source_ends_it() {
    let hosts = [[10, 0, 0, 1], [10, 0, 0, 2]].map(std::net::Ipv4Addr::from);
    let mut scene = choosy();
    scene.port(A, PortSettings { fast_leave: true, ..Default::default() });
    scene.hear(A, &record_from(hosts[0], IsInclude, &[1, 2]), 20);
    scene.hear(A, &record_from(hosts[1], IsInclude, &[2, 3]), 20);
    scene.hear(A, &record_from(hosts[0], Block, &[1, 2]), 21);
    assert_eq!(scene.state(), Some((false, vec![2, 3], vec![])));
    scene.hear(A, &record_from(hosts[1], ToInclude, &[]), 22);
    assert_eq!(scene.state(), None, "nobody is left");
}

#[test]
fn where_hosts_are_followed_an_exclude_stays_until_its_last_host_is_gone() {
    let hosts = [[10, 0, 0, 1], [10, 0, 0, 2]].map(std::net::Ipv4Addr::from);
    let mut scene = choosy();
    scene.port(A, PortSettings { fast_leave: true, ..Default::default() });
    for host in hosts {
        scene.hear(A, &record_from(host, ToExclude, &[]), 20);
    }
    scene.hear(A, &record_from(hosts[0], ToInclude, &[]), 21);
    assert_eq!(scene.state(), Some((true, vec![], vec![])));
    scene.hear(A, &record_from(hosts[1], ToInclude, &[]), 21);
    assert_eq!(scene.state(), None);
}

#[test]
fn a_static_source_is_one_more_way_to_get_it() {
    let mut scene = choosy();
    scene.hear(B, &record(IsExclude, &[]), 20);
    let entry = StaticEntry { group: Group::Ip(GROUP), source: Some(source(7)), member: A };
    scene.snooper.set_static(&[entry]);
    let ports = |last| scene.route(&traffic(source(last), GROUP)).unwrap();
    assert_eq!((ports(7), ports(8)), (vec![A, B, ROUTER], vec![B, ROUTER]));
}
