use std::time::Duration;

use super::{
    simulated::{Path, World, ours},
    *,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn measured(path: Path) -> World {
    let mut world = World::measuring(path);
    world.pass(10 * SECOND - Duration::from_millis(1));
    world
}

// --- what is found, and how fast

#[test]
fn a_path_without_a_smaller_link_costs_two_packets_and_no_more() {
    let mut world = World::measuring(Path::new(1500, 9000));
    let took = world.until(SECOND, |mtu| mtu.state() == State::Measured).unwrap();
    assert!(took <= Duration::from_millis(20), "{took:?}");
    assert_eq!((world.mtu.path_mtu(), world.mtu.reason()), (1500, Reason::WholeLink));
    assert_eq!(world.sent_count, 2);
}

#[test]
fn every_value_behind_any_link_is_found_within_five_seconds_between_wefts() {
    let mut slowest = Duration::ZERO;
    for link in [1500, 4000, 9000] {
        for mtu in (1280..=9000).step_by(61).chain([1280, 1400, 1499, 1500, 1501, 8999, 9000]) {
            let mut world = World::measuring(Path::new(link, mtu));
            let truth = u16::try_from(link).unwrap().min(mtu);
            let is_done = |mtu: &PathMtu| matches!(mtu.state(), State::Measured | State::BlackHole) && !mtu.is_asking();
            let took = world.until(10 * SECOND, is_done).unwrap();
            assert_eq!(world.mtu.path_mtu(), truth);
            slowest = slowest.max(took);
        }
    }
    assert!(slowest <= 4 * SECOND, "{slowest:?}");
}

#[test]
fn the_same_takes_less_than_ten_seconds_if_only_a_station_answers() {
    let mut slowest = Duration::ZERO;
    for mtu in (1280..=9000).step_by(97) {
        let path = Path { answers: vec![Method::Station], ..Path::new(9000, mtu) };
        let mut world = World::measuring(path);
        let is_done = |mtu: &PathMtu| matches!(mtu.state(), State::Measured | State::BlackHole) && !mtu.is_asking();
        slowest = slowest.max(world.until(10 * SECOND, is_done).unwrap());
        assert_eq!(world.mtu.path_mtu(), mtu);
    }
    assert!(slowest <= 6 * SECOND, "{slowest:?}");
}

#[test]
fn a_router_that_says_so_is_believed_at_once_and_agreed_with_soon() {
    let mut world = World::measuring(Path { error: Some(1400), ..Path::new(1500, 1400) });
    let learned = world.until(SECOND, |mtu| mtu.state() == State::Learned).unwrap();
    assert!(learned <= Duration::from_millis(20), "{learned:?}");
    assert_eq!(world.mtu.path_mtu(), 1400);
    world.until(2 * SECOND, |mtu| mtu.state() == State::Measured && !mtu.is_asking()).unwrap();
    let Reason::Refused(told) = world.mtu.reason() else { panic!("{:?}", world.mtu.reason()) };
    assert_eq!((world.mtu.path_mtu(), told.mtu), (1400, 1400));
}

#[test]
fn where_no_router_says_so_it_is_a_black_hole_with_the_value_that_passes() {
    let world = measured(Path::new(1500, 1400));
    assert_eq!((world.mtu.state(), world.mtu.path_mtu()), (State::BlackHole, 1400));
    assert_eq!(world.mtu.reason(), Reason::Vanishing { from: 1401 });
    assert!(world.mtu.since() < Duration::from_millis(200), "since the first packet that vanished");
}

#[test]
fn a_router_that_says_too_much_explains_nothing() {
    // The link behind the router that speaks is not the smallest.
    let world = measured(Path { error: Some(1450), ..Path::new(1500, 1400) });
    assert_eq!((world.mtu.state(), world.mtu.path_mtu()), (State::BlackHole, 1400));
}

#[test]
fn a_black_hole_whose_router_begins_to_speak_is_explained() {
    let mut world = measured(Path::new(1500, 1400));
    assert_eq!(world.mtu.on_claim(ours(1400), world.now), ClaimFate::Known);
    assert_eq!((world.mtu.state(), world.mtu.path_mtu()), (State::Measured, 1400));
}

#[test]
fn no_more_packets_are_in_flight_than_the_method_can_tell_apart() {
    for (method, most) in [(Method::InBand, 8), (Method::Echo, 8), (Method::Station, 4)] {
        let mut world = World::measuring(Path { answers: vec![method], ..Path::new(9000, 3333) });
        world.pass(MINUTE);
        // and the base, to see that somebody answers at all
        assert!(world.most_at_once <= most + 1, "{method:?}: {}", world.most_at_once);
    }
}

#[test]
fn the_best_method_that_answers_is_taken_though_another_is_faster() {
    let answers = vec![Method::Echo, Method::Station, Method::InBand];
    let world = measured(Path { answers, ..Path::new(1500, 1400) });
    assert_eq!(world.mtu.method(), Some(Method::InBand));
    let world = measured(Path { answers: vec![Method::Station, Method::Echo], ..Path::new(1500, 1400) });
    assert_eq!(world.mtu.method(), Some(Method::Echo));
}

#[test]
fn a_slow_path_is_waited_for() {
    let path = Path { round_trip: Duration::from_millis(900), ..Path::new(1500, 1400) };
    let mut world = World::measuring(path);
    world.until(MINUTE, |mtu| mtu.path_mtu() == 1400 && !mtu.is_asking()).unwrap();
    world.pass(10 * MINUTE);
    assert_eq!((world.mtu.path_mtu(), world.mtu.unanswered_since()), (1400, None));
}

#[test]
fn over_ipv6_the_search_begins_at_1280() {
    let mut world = World::new(Family::Ipv6, Policy::Measure, Path::new(1500, 1280));
    world.pass(10 * SECOND);
    assert_eq!((world.mtu.path_mtu(), world.mtu.minimum()), (1280, 1280));
}

#[test]
fn a_link_below_the_minimum_is_what_it_is() {
    let mut world = World::measuring(Path::new(500, 9000));
    world.pass(10 * SECOND);
    assert_eq!((world.mtu.path_mtu(), world.mtu.state()), (500, State::Measured));
    assert_eq!(world.mtu.on_claim(ours(400), world.now), ClaimFate::Impossible);
    assert_eq!(world.mtu.path_mtu(), 500);
}

// --- nobody answers

#[test]
fn a_peer_that_does_not_answer_leaves_the_links_mtu_and_says_since_when() {
    let mut world = World::measuring(Path { answers: vec![], ..Path::new(1500, 1400) });
    world.pass(5 * SECOND);
    assert_eq!((world.mtu.path_mtu(), world.mtu.reason()), (1500, Reason::Unanswered));
    assert_eq!(world.mtu.unanswered_since(), Some(Duration::ZERO));
}

#[test]
fn it_is_asked_again_when_there_is_a_new_way_to() {
    let mut world = World::measuring(Path { answers: vec![], ..Path::new(1500, 1400) });
    world.pass(5 * SECOND);
    world.path.answers = vec![Method::Station];
    world.mtu.ask_again(world.now);
    let took = world.until(10 * SECOND, |mtu| mtu.path_mtu() == 1400 && !mtu.is_asking()).unwrap();
    assert!(took < 3 * SECOND, "{took:?}");
}

#[test]
fn a_first_answer_to_a_question_that_was_given_up_begins_the_search() {
    let mut mtu = PathMtu::new(Family::Ipv4, Policy::Measure, 1500, 7, Duration::ZERO);
    mtu.set_in_use(true, Duration::ZERO);
    let base = mtu.poll(Duration::ZERO).unwrap();
    // The other end asks, too, and its answer comes right behind.
    mtu.ask_again(SECOND);
    assert_eq!(mtu.on_answer(base.nonce, Method::InBand, SECOND), Some(IPV4_MIN_PATH_MTU));
    while let Some(probe) = mtu.poll(SECOND) {
        mtu.on_answer(probe.nonce, Method::InBand, SECOND);
    }
    assert_eq!((mtu.path_mtu(), mtu.reason()), (1500, Reason::WholeLink));
}

#[test]
fn it_is_asked_at_once_when_it_begins_to_be_used() {
    let mut world = World::measuring(Path { answers: vec![], ..Path::new(1500, 1400) });
    world.mtu.set_in_use(false, world.now);
    world.pass(5 * SECOND);
    world.path.answers = vec![Method::InBand];
    world.mtu.set_in_use(true, world.now);
    assert!(world.until(3 * SECOND, |mtu| mtu.path_mtu() == 1400 && !mtu.is_asking()).is_some());
}

#[test]
fn a_peer_that_falls_silent_keeps_its_value() {
    let mut world = measured(Path::new(1500, 1400));
    world.path.is_cut = true;
    world.pass(5 * MINUTE);
    assert_eq!((world.mtu.path_mtu(), world.mtu.state()), (1400, State::BlackHole));
    assert!(world.mtu.unanswered_since().is_some());
    world.path.is_cut = false;
    world.pass(MINUTE);
    assert_eq!((world.mtu.path_mtu(), world.mtu.unanswered_since()), (1400, None));
}

#[test]
fn a_peer_that_falls_silent_within_a_search_leads_to_no_value() {
    let mut world = World::measuring(Path::new(9000, 3000));
    world.pass(Duration::from_millis(700));
    assert!(world.mtu.is_asking());
    world.path.is_cut = true;
    world.pass(5 * MINUTE);
    assert_eq!((world.mtu.path_mtu(), world.mtu.state()), (9000, State::Assumed));
}

#[test]
fn another_method_takes_over_when_one_falls_silent() {
    let mut world = measured(Path { answers: vec![Method::Echo, Method::InBand], ..Path::new(1500, 1400) });
    world.path.answers = vec![Method::Echo];
    world.pass(MINUTE);
    assert_eq!((world.mtu.method(), world.mtu.path_mtu()), (Some(Method::Echo), 1400));
    assert_eq!(world.mtu.unanswered_since(), None);
}

// --- errors that are not believed

#[test]
fn impossible_and_foreign_errors_move_nothing_and_ten_thousand_of_them_cost_a_few_packets() {
    let mut world = measured(Path::new(1500, 9000));
    let before = world.sent_count;
    for nth in 0..10_000 {
        let (claim, fate) = match nth % 6 {
            0 => (ours(0), ClaimFate::Impossible),
            1 => (ours(68), ClaimFate::Impossible),
            2 => (ours(575), ClaimFate::Impossible),
            3 => (ours(65_535), ClaimFate::Impossible),
            4 => (ours(1501), ClaimFate::Impossible),
            _ => (Claim { quotes_us: false, ..ours(1400) }, ClaimFate::Foreign),
        };
        assert_eq!(world.mtu.on_claim(claim, world.now), fate);
        assert_eq!((world.mtu.path_mtu(), world.mtu.state()), (1500, State::Measured));
        world.pass(Duration::from_millis(1));
    }
    assert!(world.sent_count - before <= 3, "{} packets", world.sent_count - before);
}

#[test]
fn a_forged_plausible_error_heals_within_a_round_trip() {
    let mut world = measured(Path::new(1500, 9000));
    assert_eq!(world.mtu.on_claim(ours(1300), world.now), ClaimFate::Believed);
    assert_eq!((world.mtu.path_mtu(), world.mtu.state()), (1300, State::Learned));
    let took = world.until(SECOND, |mtu| mtu.path_mtu() == 1500).unwrap();
    assert!(took <= Duration::from_millis(10), "{took:?}");
    assert_eq!(world.mtu.state(), State::Measured);
}

#[test]
fn the_next_ones_have_to_wait_for_a_check() {
    let mut world = measured(Path::new(1500, 9000));
    world.mtu.on_claim(ours(1300), world.now);
    world.pass(SECOND);
    let before = world.sent_count;
    for nth in 0..10_000 {
        assert_eq!(world.mtu.on_claim(ours(1200 + nth % 200), world.now), ClaimFate::Doubted);
        assert_eq!(world.mtu.path_mtu(), 1500);
        world.pass(Duration::from_millis(1));
    }
    assert!(world.sent_count - before <= 5, "{} packets", world.sent_count - before);
}

#[test]
fn a_true_error_that_comes_while_errors_are_distrusted_is_found_true() {
    let mut world = measured(Path::new(1500, 9000));
    world.mtu.on_claim(ours(1300), world.now);
    world.pass(SECOND);
    world.path.mtu = 1400;
    assert_eq!(world.mtu.on_claim(ours(1400), world.now), ClaimFate::Doubted);
    let took = world.until(10 * SECOND, |mtu| mtu.path_mtu() == 1400).unwrap();
    assert!(took < 3 * SECOND, "{took:?}");
}

#[test]
fn a_forged_error_below_a_measured_value_heals_to_that_value() {
    let mut world = measured(Path::new(1500, 1400));
    world.mtu.on_claim(ours(600), world.now);
    assert_eq!(world.mtu.path_mtu(), 600);
    world.until(SECOND, |mtu| mtu.path_mtu() == 1400).unwrap();
    world.pass(5 * SECOND);
    assert_eq!((world.mtu.path_mtu(), world.mtu.state()), (1400, State::BlackHole));
}

// --- later

#[test]
fn a_black_hole_that_begins_later_is_found_within_thirty_seconds() {
    for mtu in [576, 1280, 1400, 1450, 1499] {
        let mut world = measured(Path::new(1500, 9000));
        world.pass(3 * SECOND);
        let began = world.now;
        world.path.mtu = mtu;
        let took = world.until(MINUTE, |mtu| mtu.state() == State::BlackHole).unwrap();
        assert!(took <= 15 * SECOND, "{took:?}");
        assert_eq!(world.mtu.path_mtu(), mtu);
        assert!(world.mtu.since() >= began && world.mtu.since() <= began + CONFIRM_EVERY);
    }
}

#[test]
fn a_peer_that_is_not_used_is_sent_nothing_once_it_is_measured() {
    let mut world = measured(Path::new(1500, 1400));
    world.mtu.set_in_use(false, world.now);
    let before = world.sent_count;
    world.pass(100 * MINUTE);
    assert_eq!(world.sent_count, before);
}

#[test]
fn a_peer_that_is_not_used_and_does_not_answer_is_sent_a_trickle() {
    let mut world = World::measuring(Path { answers: vec![], ..Path::new(1500, 1400) });
    world.mtu.set_in_use(false, world.now);
    world.pass(100 * MINUTE);
    assert!(world.sent_count <= 3 * 101, "{} packets", world.sent_count);
}

#[test]
fn a_peer_in_use_costs_less_than_a_packet_in_five_seconds() {
    let mut world = measured(Path::new(1500, 1400));
    let (packets, bytes) = (world.sent_count, world.sent_bytes);
    world.pass(60 * MINUTE);
    let (packets, bytes) = (world.sent_count - packets, world.sent_bytes - bytes);
    assert!(packets <= 3600 / 5 && bytes / 3600 <= 300, "{packets} packets, {} bytes a second", bytes / 3600);
}

#[test]
fn a_path_that_grows_is_noticed_within_the_ageing_time() {
    let mut world = measured(Path::new(1500, 1400));
    world.pass(60 * MINUTE);
    world.path.mtu = 1480;
    let took = world.until(20 * MINUTE, |mtu| mtu.path_mtu() == 1480).unwrap();
    assert!(took <= AGEING + 10 * SECOND, "{took:?}");
    world.path.mtu = 9000;
    world.until(20 * MINUTE, |mtu| mtu.path_mtu() == 1500).unwrap();
    assert_eq!(world.mtu.reason(), Reason::WholeLink);
}

#[test]
fn an_ageing_time_of_the_users_is_kept_to() {
    let mut world = World::measuring(Path::new(1500, 1400));
    world.mtu = world.mtu.with_ageing(20 * SECOND);
    world.pass(60 * MINUTE);
    world.path.mtu = 9000;
    assert!(world.until(21 * SECOND, |mtu| mtu.path_mtu() == 1500).is_some());
}

#[test]
fn a_smaller_link_counts_at_once_and_a_larger_one_is_assumed_and_measured() {
    let mut world = measured(Path::new(1500, 9000));
    world.path.link = 1400;
    world.mtu.set_link_mtu(1400, world.now);
    assert_eq!((world.mtu.path_mtu(), world.mtu.state()), (1400, State::Assumed));
    world.pass(SECOND);
    assert_eq!(world.mtu.state(), State::Measured);
    world.path.link = 9000;
    world.path.mtu = 4000;
    world.mtu.set_link_mtu(9000, world.now);
    assert_eq!((world.mtu.path_mtu(), world.mtu.state()), (9000, State::Assumed));
    world.pass(10 * SECOND);
    assert_eq!(world.mtu.path_mtu(), 4000);
}

#[test]
fn a_larger_link_does_not_undo_what_was_measured_behind_it() {
    let mut world = measured(Path::new(1500, 1400));
    world.path.link = 9000;
    world.mtu.set_link_mtu(9000, world.now);
    assert_eq!(world.mtu.path_mtu(), 1400);
    world.pass(10 * SECOND);
    assert_eq!((world.mtu.path_mtu(), world.mtu.state()), (1400, State::BlackHole));
}

#[test]
fn a_probe_that_the_kernel_refuses_says_what_the_link_takes() {
    let mut mtu = PathMtu::new(Family::Ipv4, Policy::Measure, 1500, 1, Duration::ZERO);
    let base = mtu.poll(Duration::ZERO).unwrap();
    mtu.on_answer(base.nonce, Method::InBand, Duration::ZERO);
    let probe = mtu.poll(Duration::ZERO).unwrap();
    assert_eq!((probe.size, mtu.asked(probe.nonce), mtu.asked(7)), (1500, Some(1500), None));
    mtu.on_refused(probe.nonce, Some(1450), Duration::ZERO);
    assert_eq!((mtu.path_mtu(), mtu.link_mtu()), (1450, 1450));
    assert_eq!(mtu.poll(Duration::ZERO).map(|probe| probe.size), Some(1450));
}

#[test]
fn answers_to_nothing_that_was_asked_say_nothing() {
    let mut world = measured(Path::new(1500, 1400));
    assert_eq!(world.mtu.on_answer(1, Method::InBand, world.now), None);
    assert_eq!(world.mtu.path_mtu(), 1400);
}

#[test]
fn an_answer_that_comes_after_its_packet_was_given_up_still_counts() {
    let mut mtu = PathMtu::new(Family::Ipv4, Policy::Measure, 1500, 1, Duration::ZERO);
    let base = mtu.poll(Duration::ZERO).unwrap();
    mtu.on_answer(base.nonce, Method::InBand, Duration::from_millis(1));
    let mut now = Duration::from_millis(1);
    let top = mtu.poll(now).unwrap();
    while mtu.state() == State::Assumed {
        now = mtu.next_timeout().unwrap();
        while let Some(probe) = mtu.poll(now) {
            if probe.size <= 1400 {
                mtu.on_answer(probe.nonce, Method::InBand, now);
            }
        }
    }
    assert_eq!(mtu.path_mtu(), 1400);
    mtu.on_answer(top.nonce, Method::InBand, now);
    assert_eq!((mtu.path_mtu(), mtu.reason()), (1500, Reason::WholeLink));
}

// --- the other policies

#[test]
fn who_only_learns_sends_nothing_and_forgets_after_the_ageing_time() {
    let mut world = World::new(Family::Ipv4, Policy::Learn, Path::new(1500, 1400));
    assert_eq!(world.mtu.reason(), Reason::NothingHeard);
    assert_eq!(world.mtu.on_claim(ours(1400), world.now), ClaimFate::Believed);
    world.pass(9 * MINUTE);
    assert_eq!((world.mtu.path_mtu(), world.mtu.state()), (1400, State::Learned));
    world.pass(2 * MINUTE);
    assert_eq!((world.mtu.path_mtu(), world.mtu.reason()), (1500, Reason::NothingHeard));
    assert_eq!(world.sent_count, 0);
}

#[test]
fn an_error_that_is_heard_again_lasts_longer() {
    let mut world = World::new(Family::Ipv4, Policy::Learn, Path::new(1500, 1400));
    for _ in 0..5 {
        world.mtu.on_claim(ours(1400), world.now);
        world.pass(9 * MINUTE);
        assert_eq!(world.mtu.path_mtu(), 1400);
    }
}

#[test]
fn who_assumes_goes_by_the_link_alone() {
    let mut world = World::new(Family::Ipv4, Policy::Assume, Path::new(1500, 1400));
    assert_eq!(world.mtu.on_claim(ours(1400), world.now), ClaimFate::Ignored);
    world.pass(60 * MINUTE);
    assert_eq!((world.mtu.path_mtu(), world.mtu.reason(), world.sent_count), (1500, Reason::Policy, 0));
    world.mtu.set_link_mtu(1300, world.now);
    assert_eq!((world.mtu.path_mtu(), world.mtu.next_timeout()), (1300, None));
}

#[test]
fn a_learned_value_that_nobody_can_check_ages() {
    let mut world = World::measuring(Path { answers: vec![], ..Path::new(1500, 1400) });
    world.mtu.on_claim(ours(1400), world.now);
    world.pass(9 * MINUTE);
    assert_eq!((world.mtu.path_mtu(), world.mtu.state()), (1400, State::Learned));
    world.pass(2 * MINUTE);
    assert_eq!((world.mtu.path_mtu(), world.mtu.reason()), (1500, Reason::Unanswered));
}

#[test]
fn reasons_are_sentences_for_people() {
    let told = Told { mtu: 1400, from: Some("198.51.100.1".parse().unwrap()), at: Duration::ZERO };
    let text = |reason: Reason| reason.to_string();
    assert_eq!(text(Reason::Refused(told)), "a packet of this size was answered, and 198.51.100.1 says 1400");
    assert_eq!(text(Reason::Told(Told { from: None, ..told })), "a router says 1400");
    assert_eq!(text(Reason::Vanishing { from: 1401 }), "packets of 1401 bytes and more vanish, and no router says so");
}
