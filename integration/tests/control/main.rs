//! The control plane of a running weft as its users meet it: commands, the API under them, signals, reloads, refusals.

// Clippy takes only what the standard harness runs for tests.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

mod privileges;
mod process;
mod reload;
mod state;

use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;
use weft::lab::{Lab, Namespace};
use weft_integration::{Needs, main_with, shape::in_every_shape, trial, weft::Weft};

/// No namespace of another test begins so.
const PREFIX: &str = "weft-control";

fn main() -> ExitCode {
    if let Some(ended) = privileges::trial_of_a_call() {
        return ended;
    }
    // What an earlier run left that was killed. Without privileges nothing can be, and each test says so itself.
    let _ = Lab::remove_stale(PREFIX);
    let needs = Needs::ROOT_AND_TUN.programs(&["ping", "ip"]);
    let mut trials = in_every_shape(&[
        ("reloading_the_same_file_touches_nothing", needs, reload::reload_of_the_same),
        ("a_reload_changes_what_differs_and_nothing_else", needs, reload::reload_of_ports),
        ("a_reload_changes_the_overlay", needs, reload::reload_of_the_overlay),
        ("what_was_added_while_it_ran_survives_a_reload", needs, reload::additions_survive),
    ]);
    trials.extend([
        trial("an_idle_weft_costs_next_to_nothing", needs, process::idle),
        trial("an_idle_weft_that_may_poll_busily_costs_no_more", needs, process::idle_busy_poll),
        trial("all_that_is_shown_has_the_documented_keys", needs, state::documented_keys),
        trial("entries_are_added_removed_and_flushed", needs, state::fdb),
        trial("ports_and_bridges_come_and_go_under_traffic", needs, state::come_and_go),
        trial("a_reload_changes_how_workers_run_and_what_queues_hold", needs, reload::reload_of_tuning),
        trial("a_wrong_file_is_refused_with_its_line_and_the_old_one_goes_on", needs, reload::wrong_files),
        trial("a_file_that_can_not_be_had_is_refused_whole", needs, reload::impossible_files),
        trial("a_client_that_leaves_early_leaves_nothing_half_done", needs, reload::early_leavers),
        trial("a_second_weft_is_told_who_is_in_its_way", needs, process::second_weft),
        trial("the_control_socket_is_its_owners_alone", needs, process::socket_mode),
        trial("wrong_requests_get_clear_answers", needs, process::wrong_requests),
        trial("exit_codes_tell_yes_no_and_wrong", needs, process::exit_codes),
        trial("signals_end_weft_and_leave_nothing", needs, process::signals),
        trial("check_prints_the_plan_and_changes_nothing", needs, process::check),
        trial("json_logs_are_lines_of_json", needs, process::json_logs),
        trial("a_running_weft_holds_no_privilege_and_its_opener_few", needs, privileges::held),
        trial("forbidden_calls_fail_or_kill_as_stated", needs, privileges::forbidden_calls),
        trial("every_command_works_on_a_weft_without_privileges", needs, privileges::every_command),
        trial("every_kind_of_reload_works_as_another_user", needs, privileges::every_reload),
        trial("another_users_weft_leaves_no_socket_and_takes_over_a_stale_one", needs, privileges::sockets_of_a_user),
        trial("frames_go_on_without_the_opener", needs, privileges::opener_killed),
        trial("what_can_not_be_given_up_is_told", needs, privileges::demands),
        trial("figures_what_filters_cost_a_system_call", Needs::NONE, privileges::cost_of_filters)
            .with_ignored_flag(true),
    ]);
    main_with(trials)
}

fn array(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

fn port_state(weft: &Weft, name: &str) -> anyhow::Result<Value> {
    let ports = weft.show("ports")?;
    array(&ports).iter().find(|port| port["name"] == name).cloned().with_context(|| format!("no port {name}: {ports}"))
}

fn ping(from: &Namespace, address: &str) -> anyhow::Result<()> {
    from.run(&["ping", "-n", "-c3", "-i0.05", "-W2", address])?.ok()?;
    Ok(())
}
