//! What differs between two configurations, part by part, for people.

use std::time::Duration;

use crate::control::{
    api::mdb::MdbRequest,
    api::model::Reloaded,
    config::{Config, FdbConfig, MdbConfig, NeighConfig, Pin},
};

/// What has to happen for `old` to become `new`.
pub(super) fn between(old: &Config, new: &Config) -> Reloaded {
    let mut changes = Reloaded::default();
    let bridges = |config: &Config| config.bridges.iter().map(|b| (format!("bridge {}", b.name), b.clone())).collect();
    let ports = |config: &Config| config.ports.iter().map(|p| (format!("port {}", p.full_name()), p.clone())).collect();
    let entry = |entry: &FdbConfig| (format!("fdb {} {}", entry.bridge, entry.mac), entry.clone());
    let entries = |config: &Config| config.fdb.iter().map(entry).collect();
    let neigh = |neigh: &NeighConfig| (format!("neigh {} {}", neigh.bridge, neigh.ip), neigh.clone());
    let neighs = |config: &Config| config.neigh.iter().map(neigh).collect();
    let group = |entry: &MdbConfig| {
        let MdbRequest { bridge, group, source, port } = entry.into();
        let words = ["mdb".to_owned(), bridge, group].into_iter().chain(source).chain(port);
        (words.collect::<Vec<_>>().join(" "), entry.clone())
    };
    let groups = |config: &Config| config.mdb.iter().map(group).collect();
    let vtep = |config: &Config| config.vtep.iter().map(|vtep| ("vtep".to_owned(), vtep.clone())).collect();
    if tuning(old) != tuning(new) {
        changes.changed.push("switch".to_owned());
    }
    compare(&mut changes, vtep(old), vtep(new));
    compare(&mut changes, bridges(old), bridges(new));
    compare(&mut changes, ports(old), ports(new));
    compare(&mut changes, entries(old), entries(new));
    compare(&mut changes, neighs(old), neighs(new));
    compare(&mut changes, groups(old), groups(new));
    if old.switch.workers != new.switch.workers {
        changes.needs_restart.push("switch.workers".to_owned());
    }
    if old.switch.socket != new.switch.socket {
        changes.needs_restart.push("switch.socket".to_owned());
    }
    changes
}

/// How workers are to run: what `[switch]` says of them that can be changed while they do.
pub(super) fn tuning(config: &Config) -> (Duration, &Pin, Option<i8>) {
    (config.switch.busy_poll, &config.switch.pin, config.switch.nice)
}

fn compare<T: PartialEq>(changes: &mut Reloaded, old: Vec<(String, T)>, new: Vec<(String, T)>) {
    for (name, part) in &new {
        match old.iter().find(|(other, _)| other == name) {
            None => changes.added.push(name.clone()),
            Some((_, before)) if before != part => changes.changed.push(name.clone()),
            Some(_) => {}
        }
    }
    let is_gone = |name: &String| !new.iter().any(|(other, _)| other == name);
    changes.removed.extend(old.into_iter().map(|(name, _)| name).filter(is_gone));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_that_differs_is_named_once() {
        let parse = |text| Config::parse("test", text).unwrap();
        let old = parse("[[bridge]]\nname='blue'\n[[bridge]]\nname='red'\n[[port]]\nname='a'\nbridge='blue'\n");
        let new = parse(
            "[switch]\nworkers=3\n[[bridge]]\nname='blue'\nlearning=false\n[[bridge]]\nname='green'\n\
             [[port]]\nname='a'\nbridge='blue'\n",
        );
        let changes = between(&Config { switch: new.switch.clone(), ..old }, &new);
        assert_eq!(changes.added, ["bridge green"]);
        assert_eq!(changes.changed, ["bridge blue"]);
        assert_eq!(changes.removed, ["bridge red"]);
        assert!(changes.needs_restart.is_empty());
        assert_eq!(between(&new, &new), Reloaded::default());
    }

    #[test]
    fn how_workers_run_is_changed_and_how_many_they_are_waits() {
        let parse = |text: &str| Config::parse("test", text).unwrap();
        let old = parse("[switch]\nworkers = 2\n");
        for new in ["busy_poll = \"50us\"", "pin = true", "pin = [0, 1]", "nice = -5"] {
            let changes = between(&old, &parse(&format!("[switch]\nworkers = 2\n{new}\n")));
            assert_eq!((changes.changed, changes.needs_restart), (vec!["switch".to_owned()], vec![]), "{new}");
        }
        let changes = between(&old, &parse("[switch]\npin = [0]\n"));
        assert_eq!(changes.needs_restart, ["switch.workers"], "one CPU, one worker");
    }
}
