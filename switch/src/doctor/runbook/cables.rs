//! Step 3: what each interface leads to, in whatever namespace that is.

use super::{Focus, count};
use crate::doctor::{
    Finding,
    step::{Step, Trouble},
    survey::{
        Survey,
        values::{Details, Link},
    },
    world::{At, Other},
};

pub(super) fn step(survey: &Survey, focus: &Focus) -> Step {
    let mut step = Step::new(3, "other ends");
    let mut seen = 0;
    let mut out_of_sight = 0;
    let mut rows = Vec::new();
    for (at, link) in survey.all().filter(|(at, link)| !link.loopback && is_meant(focus, *at)) {
        let Some(words) = leads_to(survey, at, link) else { continue };
        seen += 1;
        out_of_sight += usize::from(survey.other(at) == Other::OutOfSight);
        rows.push(format!("{} {words}", survey.label(at)));
        judge(&mut step, survey, at, link);
    }
    step.evidence("ip -d link, ip netns list-id", rows);
    step.summary = count(seen, "interface leads to another", "interfaces lead to others");
    if out_of_sight > 0 {
        step.unknown.push(format!(
            "{}: in a namespace that is not in sight (no name, no process that may be looked at: CAP_SYS_PTRACE?)",
            count(out_of_sight, "other end", "other ends")
        ));
    }
    step.judged()
}

fn is_meant(focus: &Focus, at: At) -> bool {
    focus.link.map_or_else(|| focus.spaces.contains(&at.space), |link| link == at)
}

/// What an interface leads to, in words; `None`: nothing else.
pub(crate) fn leads_to(survey: &Survey, at: At, link: &Link) -> Option<String> {
    if let Some(port) = survey.weft_port(at)
        && let Some(state) = survey.weft(port.weft)
    {
        let port = &state.ports[port.port];
        return Some(format!("= a {} port of the weft {}", port.kind, survey.space(at.space).label()));
    }
    if matches!(link.details, Details::Tunnel(_)) {
        return None;
    }
    let verb = match link.kind.as_str() {
        "veth" | "netkit" => "<->",
        _ => "on",
    };
    match survey.other(at) {
        Other::At(other) => {
            let master = match survey.bridge_of(other) {
                Some(bridge) => format!(", port of {}", survey.link(bridge).name),
                None => String::new(),
            };
            Some(format!("{verb} {} (#{}{master})", survey.label(other), other.link))
        }
        Other::OutOfSight => Some(format!(
            "{verb} #{} in a namespace out of sight (link-netnsid {})",
            link.lower.unwrap_or(0),
            link.lower_netns.unwrap_or(-1)
        )),
        Other::None => None,
    }
}

fn judge(step: &mut Step, survey: &Survey, at: At, link: &Link) {
    let space = survey.space(at.space);
    let in_use = |at: At| {
        survey.bridge_of(at).is_some()
            || survey.space(at.space).addresses_of(at.link).any(|address| !address.link_local)
    };
    let Other::At(other) = survey.other(at) else { return };
    let theirs = survey.link(other);
    if link.kind != "veth" {
        return;
    }
    if link.up && !theirs.up && in_use(at) {
        let name = &theirs.name;
        let text = format!("{name}, the other end of {}, is set down", survey.label(at));
        let there = survey.space(other.space);
        let trouble = Trouble::new(Finding::LinkDown, survey.label(other), text)
            .row(there.inside("ip link"), there.link_row(theirs))
            .next(there.inside(&format!("ip link set {name} up")));
        push(step, trouble);
    }
    if !link.up && theirs.up && in_use(other) {
        let text = format!("{} is set down; its other end is {}", link.name, survey.label(other));
        let trouble = Trouble::new(Finding::LinkDown, survey.label(at), text)
            .row(space.inside("ip link"), space.link_row(link))
            .next(space.inside(&format!("ip link set {} up", link.name)));
        push(step, trouble);
    }
    if link.mtu != theirs.mtu && link.up && theirs.up {
        let (narrow, wide) = if link.mtu < theirs.mtu { (at, other) } else { (other, at) };
        let text = format!(
            "{} has the MTU {}, and {}, its other end, {}: larger packets are lost",
            survey.label(narrow),
            survey.link(narrow).mtu,
            survey.label(wide),
            survey.link(wide).mtu
        );
        let there = survey.space(other.space);
        let mut trouble = Trouble::new(Finding::MtuMismatch, survey.label(narrow), text)
            .row(space.inside("ip link"), space.link_row(link));
        if other.space == at.space {
            trouble = trouble.row(space.inside("ip link"), there.link_row(theirs));
        } else {
            trouble = trouble.row(there.inside("ip link"), there.link_row(theirs));
        }
        let cure = format!("ip link set {} mtu {}", survey.link(narrow).name, survey.link(wide).mtu);
        push(step, trouble.next(survey.space(narrow.space).inside(&cure)));
    }
}

/// Both ends of a cable would tell the same.
fn push(step: &mut Step, trouble: Trouble) {
    if !step.troubles.iter().any(|known| known.finding == trouble.finding && known.place == trouble.place) {
        step.troubles.push(trouble);
    }
}
