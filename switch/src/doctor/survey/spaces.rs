//! Finding the network namespaces of a machine: those with names, those that processes are in or hold open, and those that
//! are mounted somewhere, as container runtimes do.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::proc::Processes;
use crate::sys::netns::{self, Netns};

/// A namespace that was found, and how.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) netns: Netns,
    pub(super) names: Vec<String>,
    pub(super) paths: Vec<String>,
}

/// All that are in sight, by inode.
pub(super) fn all(processes: &Processes) -> BTreeMap<u64, Found> {
    let mut found = BTreeMap::new();
    for name in netns::names().unwrap_or_default() {
        if let Ok(netns) = Netns::named(&name) {
            entry(&mut found, netns).names.push(name);
        }
    }
    for path in mounted() {
        let named = path
            .parent()
            .is_some_and(|folder| folder == Path::new(netns::RUN_DIR) || folder == Path::new("/var/run/netns"));
        if let (false, Ok(netns)) = (named, Netns::open(&path)) {
            let path = path.display().to_string();
            let paths = &mut entry(&mut found, netns).paths;
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    for (inode, process) in &processes.all {
        if !found.contains_key(inode)
            && let Ok(netns) = Netns::of_pid(process.pid)
        {
            entry(&mut found, netns);
        }
    }
    for (inode, path) in &processes.held {
        if !found.contains_key(inode)
            && let Ok(netns) = Netns::open(path)
        {
            entry(&mut found, netns);
        }
    }
    for space in found.values_mut() {
        space.names.sort();
    }
    found
}

fn entry(found: &mut BTreeMap<u64, Found>, netns: Netns) -> &mut Found {
    found.entry(netns.inode()).or_insert_with(|| Found { netns, names: Vec::new(), paths: Vec::new() })
}

/// Where this mount namespace has namespaces mounted (proc_pid_mountinfo(5)): file systems of type nsfs.
fn mounted() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let row = |line: &str| {
        let (mount, source) = line.split_once(" - ")?;
        let fields: Vec<_> = mount.split(' ').collect();
        let of_network = source.starts_with("nsfs ") && fields.get(3)?.starts_with("net:[");
        of_network.then(|| PathBuf::from(fields.get(4).copied().unwrap_or_default().replace("\\040", " ")))
    };
    table.lines().filter_map(row).collect()
}
