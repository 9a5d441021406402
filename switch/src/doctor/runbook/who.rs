//! Step 1: the process and its namespace, and who else is in it.

use super::{Focus, count, spaces};
use crate::doctor::{
    Finding,
    step::{Step, Trouble},
    survey::{Survey, values::Space},
};

pub(super) fn step(survey: &Survey, focus: &Focus) -> Step {
    let mut step = Step::new(1, "namespace");
    let mut words = Vec::new();
    for (_, space) in spaces(survey, focus) {
        if let Some(why) = space.unread.get("all") {
            step.unknown.push(format!("{}: {why}", space.label()));
        }
        words.push(one(space));
        let rows = space.processes.iter().take(MANY).map(|process| {
            let cgroup = if process.cgroup.len() > 1 { format!("  {}", process.cgroup) } else { String::new() };
            format!(
                "{} {}{cgroup}",
                process.pid,
                if process.command.is_empty() { &process.name } else { &process.command }
            )
        });
        step.evidence(format!("ip netns pids, net:[{}]", space.inode), rows.collect::<Vec<_>>());
    }
    for (index, says) in &focus.wefts {
        let space = survey.space(*index);
        if space.wefts.is_empty() {
            let text = format!("no weft runs in {}, though {says}", space.label());
            let rows = space.processes.iter().take(MANY).map(|process| format!("{} {}", process.pid, process.name));
            let rows: Vec<_> = rows.collect();
            let rows = if rows.is_empty() { vec!["(nobody)".to_owned()] } else { rows };
            let trouble = Trouble::new(Finding::ProcessMissing, space.label(), text);
            let pids = format!("ip netns pids {}", space.label());
            step.troubles.push(trouble.rows(pids, rows).next(space.inside("weft run CONFIG")));
        }
    }
    for socket in &survey.host.dead_sockets {
        let text = format!("the weft that answered at {socket} has ended without a word, killed or crashed");
        let trouble = Trouble::new(Finding::ProcessMissing, socket.clone(), text).warning();
        let row = format!("{socket}: connection refused");
        step.troubles.push(trouble.row("weft show bridges", row).next("weft run CONFIG"));
    }
    step.summary = match words.len() {
        0 => "no namespace".to_owned(),
        1..=3 => words.join("; "),
        many => {
            let processes: usize = spaces(survey, focus).map(|(_, space)| space.processes.len()).sum();
            format!("{many} namespaces, {} in them", count(processes, "process", "processes"))
        }
    };
    step.judged()
}

/// More processes of one namespace say nothing new.
const MANY: usize = 20;

fn one(space: &Space) -> String {
    let names = match space.names.as_slice() {
        [] if space.host => "the host's own".to_owned(),
        [] => "nameless".to_owned(),
        names => names.join(", "),
    };
    let who = match space.processes.len() {
        0 => "nobody in it".to_owned(),
        number => count(number, "process", "processes"),
    };
    format!("net:[{}] {names}, {who}", space.inode)
}
