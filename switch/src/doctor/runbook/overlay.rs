//! Step 6: the overlay: its VTEPs and the way to each, ports and their owners, MTUs, checksums, what weft counts.

use std::collections::BTreeSet;

use super::{Focus, count, moved::CHECKSUMS};
use crate::doctor::{
    Finding,
    step::{Step, Trouble},
    survey::{
        Survey,
        values::{Details, Space, WeftState},
    },
    walk,
    world::{At, WeftAt},
};

pub(super) fn step(survey: &Survey, focus: &Focus) -> Step {
    let mut step = Step::new(6, "overlay");
    let concerned: BTreeSet<usize> = around(survey, focus);
    let mut devices = 0;
    let mut wefts = 0;
    for &index in &concerned {
        let space = survey.space(index);
        for link in &space.links {
            if let Details::Tunnel(_) = &link.details {
                devices += 1;
                of_device(&mut step, survey, At { space: index, link: link.index });
            }
        }
        for (number, weft) in space.wefts.iter().enumerate() {
            wefts += 1;
            if let Some(held) = &weft.held {
                let command = format!("grep -E 'Uid|CapEff|NoNewPrivs|Seccomp:' /proc/{}/status", weft.pid);
                step.evidence(command, [format!("weft {}: {held}", weft.pid)]);
            }
            match (&weft.state, &weft.silent) {
                (Some(state), _) => of_weft(&mut step, survey, WeftAt { space: index, number }, state),
                (None, Some(why)) => step.unknown.push(format!("weft {} in {}: {why}", weft.pid, space.label())),
                (None, None) => {}
            }
        }
        of_checksums(&mut step, space, focus);
    }
    step.summary = match (devices, wefts) {
        (0, 0) => "none: no tunnel device, no weft".to_owned(),
        _ => format!("{}, {}", count(devices, "tunnel device", "tunnel devices"), count(wefts, "weft", "wefts")),
    };
    step.judged()
}

/// All that is in sight: the other ends of tunnels are what is to be seen.
fn around(survey: &Survey, focus: &Focus) -> BTreeSet<usize> {
    if focus.spaces.is_empty() { BTreeSet::new() } else { (0..survey.spaces.len()).collect() }
}

fn of_device(step: &mut Step, survey: &Survey, at: At) {
    let space = survey.space(at.space);
    let link = survey.link(at);
    step.evidence(space.inside("ip -d link show type vxlan"), [space.link_row(link)]);
    if !link.up {
        return;
    }
    for trouble in walk::to_all_remotes(survey, at) {
        if !step.troubles.iter().any(|known| known.finding == trouble.finding && known.place == trouble.place) {
            step.troubles.push(trouble);
        }
    }
}

fn of_weft(step: &mut Step, survey: &Survey, at: WeftAt, state: &WeftState) {
    let space = survey.space(at.space);
    let label = space.label();
    let rows = state.bridges.iter().map(|bridge| {
        let vni = bridge.vni.map(|vni| format!(" VNI {vni}")).unwrap_or_default();
        let remotes: Vec<_> = bridge.remotes.iter().map(ToString::to_string).collect();
        format!("{}{vni} ports {} remotes {}", bridge.name, bridge.ports.join(" "), remotes.join(" "))
    });
    step.evidence(format!("weft show bridges ({label})"), rows.collect::<Vec<_>>());
    let rows = state.mtu.vteps.iter().map(|vtep| {
        let budgets: Vec<_> = vtep
            .budgets
            .iter()
            .filter_map(|budget| Some(format!("{} inner {}", budget.encapsulation, budget.inner_mtu?)))
            .collect();
        format!(
            "{} port {} path MTU {} ({}) {}",
            vtep.address,
            vtep.port,
            vtep.path_mtu,
            vtep.state,
            budgets.join(", ")
        )
    });
    step.evidence(format!("weft show mtu ({label})"), rows.collect::<Vec<_>>());
    for vtep in state.mtu.vteps.iter().filter(|vtep| vtep.state == "black_hole") {
        let text = format!(
            "packets to the VTEP {} of more than {} bytes vanish: {}",
            vtep.address, vtep.path_mtu, vtep.reason
        );
        let trouble = Trouble::new(Finding::PathMtuBlackHole, &label, text);
        let row = format!(
            "{} path_mtu {} state {} vanishing_from {:?}",
            vtep.address, vtep.path_mtu, vtep.state, vtep.vanishing_from
        );
        step.troubles.push(trouble.row("weft show mtu", row).next("weft show mtu"));
    }
    if let Some(underlay) = &state.mtu.underlay
        && !walk::weft_spaces(survey, at).iter().any(|index| survey.space(*index).has(underlay.address))
        && survey.owners(underlay.address).is_empty()
    {
        let text = format!("weft sends from {}, which is on no interface", underlay.address);
        step.troubles.push(
            Trouble::new(Finding::VtepAddressMissing, &label, text).row("weft show mtu", underlay.interface.clone()),
        );
    }
    let rows: Vec<_> = state
        .drops
        .iter()
        .map(|drop| format!("{} {} {}: {} frames", drop.kind.name(), drop.name, drop.reason, drop.frames))
        .collect();
    step.evidence(format!("weft show drops ({label})"), rows);
}

/// What came with wrong checksums: a fault if it came while doctor watched, else a hint.
fn of_checksums(step: &mut Step, space: &Space, focus: &Focus) {
    for key in CHECKSUMS {
        let name = key.replace('.', "");
        let now = focus.wrong_checksums.iter().find(|it| it.space == space.inode && it.counter == key);
        if let Some(now) = now {
            let text = format!(
                "{} with wrong checksums came to {} just now: somebody before it, or an offload, does not finish them",
                count(usize::try_from(now.packets).unwrap_or(usize::MAX), "packet", "packets"),
                space.label()
            );
            let row = format!("+{} {name}", now.packets);
            let trouble = Trouble::new(Finding::ChecksumOffload, space.label(), text);
            step.troubles.push(trouble.row(space.inside("nstat"), row).next("ethtool -K INTERFACE tx off"));
            continue;
        }
        let Some(errors) = space.counters.get(key).filter(|errors| **errors > 0) else { continue };
        let text = format!("{errors} packets came to {} with wrong checksums: an offload on their way?", space.label());
        let trouble = Trouble::new(Finding::ChecksumOffload, space.label(), text).warning();
        step.troubles.push(
            trouble
                .row(space.inside("nstat -a"), format!("{name} {errors}"))
                .next("weft doctor --watch 2s, which says whether more come"),
        );
    }
}
