//! What can go wrong around a running switch: namespaces, interfaces and peers vanish, weft itself is killed, a port floods
//! or sends rubbish. Each fault is named, stays where it is, and ends.

// Clippy takes only what the standard harness runs for tests.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

mod ends;
mod fair_share;
mod floods;
mod port_security;
mod underlay;

use std::process::ExitCode;

use anyhow::Context;
use weft::lab::{Lab, Namespace};
use weft_integration::{
    Needs, main_with_threads,
    scene::Pair,
    shape::{Shape, in_every_shape, in_shapes},
    traffic::quiet,
    trial,
    weft::Weft,
};

/// No namespace of another test begins so.
const PREFIX: &str = "weft-faults";

fn main() -> ExitCode {
    // What an earlier run left that was killed. Without privileges nothing can be, and each test says so itself.
    let _ = Lab::remove_stale(PREFIX);
    let needs = Needs::ROOT_AND_TUN.programs(&["ping"]);
    let prlimit = Needs::ROOT_AND_TUN.programs(&["ping", "prlimit"]);
    let ip = Needs::ROOT_AND_TUN.programs(&["ping", "ip"]);
    let tc = Needs::ROOT_AND_TUN.programs(&["ping", "tc"]);
    let python = Needs::ROOT_AND_TUN.programs(&["ping", "python3"]);
    let mut tests = in_every_shape(&[
        ("a_deleted_namespace_ends_with_its_port_and_nobody_else_notices", needs, ends::deleted_namespace),
        ("a_deleted_interface_closes_its_port_until_it_is_asked_for_again", needs, ends::deleted_interface),
        ("a_port_that_goes_down_is_forgotten_and_works_again_when_up", needs, ends::down_and_up),
        ("nothing_is_learned_on_a_port_that_is_down", needs, ends::down_under_load),
        ("a_packet_ports_cable_goes_down_comes_up_and_is_cut", needs, ends::packet_port),
        ("a_peer_that_nobody_answers_for_stalls_nobody_else", needs, ends::unreachable_peer),
        ("the_underlays_interface_goes_down_and_comes_back", needs, ends::underlay_down_and_up),
        ("a_killed_weft_forwards_again_within_two_seconds", needs, ends::killed),
        ("a_flood_of_addresses_pushes_out_only_its_own", needs, floods::address_flood),
        ("mutated_frames_of_a_port_harm_nobody", needs, floods::mutated_frames),
        ("mutated_datagrams_of_the_underlay_harm_nobody", needs, floods::mutated_datagrams),
        ("what_a_tenant_says_in_anothers_name_reaches_nobody", ip, port_security::spoofed),
        ("running_out_of_descriptors_closes_no_port", prlimit, ends::no_descriptors_later),
        ("an_underlay_that_takes_no_more_drops_by_name_and_costs_nothing", tc, underlay::full_send_buffer),
        (
            "what_a_queueing_discipline_drops_has_its_name_and_the_kernel_counts_it_too",
            tc,
            underlay::full_queueing_discipline,
        ),
        ("a_kernel_that_refuses_runs_is_told_of_once_and_gets_datagrams", python, underlay::refused_runs),
    ]);
    // Each of these takes its time.
    let usual = [Shape::USUAL, Shape { offload: false, workers: 1 }];
    tests.extend(in_shapes(
        &usual,
        &[("under_a_flood_from_one_port_the_others_lose_nothing_and_wait_for_nothing", needs, fair_share::one_port)],
    ));
    tests.extend(in_shapes(
        &usual[..1],
        &[
            ("a_flood_from_one_port_does_not_hold_up_the_overlay", needs, fair_share::one_port_into_the_overlay),
            ("a_stranger_who_floods_the_underlay_costs_the_ports_no_frame", needs, fair_share::a_stranger),
        ],
    ));
    // What carries nothing.
    tests.extend([
        trial("a_port_that_is_opened_again_stays_open", needs, ends::reopened_port),
        trial("a_port_that_is_gone_keeps_nobody_from_changing_other_things", needs, ends::a_gone_port_blocks_nothing),
        trial("without_descriptors_weft_says_what_it_could_not_open", prlimit, ends::no_descriptors_at_start),
    ]);
    main_with_threads(2, tests)
}

fn state(weft: &Weft, port: &str) -> anyhow::Result<String> {
    let ports = weft.show("ports")?;
    let port = ports.as_array().context("ports are a list")?.iter().find(|state| state["name"] == port);
    Ok(port.and_then(|port| port["state"].as_str()).unwrap_or("absent").to_owned())
}

fn ping(from: &Namespace, address: &str) -> anyhow::Result<()> {
    from.run(&["ping", "-n", "-c3", "-i0.05", "-W2", address])?.ok()?;
    Ok(())
}

/// Both sides run, plus two more hosts on side a, which have nothing to do with the underlay.
fn pair_with_locals(shape: Shape) -> anyhow::Result<(Pair, [Namespace; 2], String)> {
    let pair = Pair::in_shape(shape, PREFIX)?;
    let locals = [quiet(&pair.lab, "l0")?, quiet(&pair.lab, "l1")?];
    let mut config = pair.sides[0].config("", "");
    for (host, local) in locals.iter().enumerate() {
        let lines = format!("address = [\"10.0.0.{}/24\"]", 11 + host);
        config += &shape.port(local.full_name(), "eth0", &lines);
    }
    Ok((pair, locals, config))
}
