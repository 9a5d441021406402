//! What a process holds: who it is, what it may do.

use std::{fmt, fs, io, path::PathBuf};

use rustix::{
    process::{getegid, geteuid},
    thread::{capabilities, no_new_privs},
};
use serde::{Deserialize, Serialize};

use crate::sys::opener;

/// What a process holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Held {
    /// Its user (effective).
    pub uid: u32,
    /// Its group (effective).
    pub gid: u32,
    /// Its effective capabilities, by their names; none is the best.
    pub capabilities: Vec<String>,
    /// Whether programs that it runs get no more than it has.
    pub no_new_privs: bool,
    /// Whether its system calls are filtered.
    pub seccomp: bool,
    /// The version of Landlock that keeps it from opening files; `None`: none does, or only the process itself knows, since the
    /// kernel tells nobody else.
    pub landlock: Option<u32>,
    /// The process that opens ports for it, while that lives.
    pub opener: Option<u32>,
}

impl Held {
    /// The calling process's. Of Landlock, and of the filter, it has to know itself.
    pub(super) fn own(landlock: Option<u32>, opener: u32) -> Self {
        let effective = capabilities(None).map_or(0, |sets| sets.effective.bits());
        Self {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            capabilities: names(effective),
            no_new_privs: no_new_privs().unwrap_or(false),
            // "Seccomp: 2" of proc_pid_status(5) can't be read any more; prctl(2) is the other way.
            seccomp: crate::sys::seccomp::is_on(),
            landlock,
            opener: Some(opener),
        }
    }

    /// Another process's, by `/proc/PID/status`, which everybody may read.
    ///
    /// # Errors
    /// There is no such process, or `/proc` is not mounted.
    pub fn of(pid: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Self { opener: opener_of(pid), ..Self::parse(&status) })
    }

    fn parse(status: &str) -> Self {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().split_ascii_whitespace()
        };
        // Real, effective, saved, file system.
        let effective = |name| field(name).nth(1).and_then(|number| number.parse().ok()).unwrap_or_default();
        let set = field("CapEff").next().and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or_default();
        Self {
            uid: effective("Uid"),
            gid: effective("Gid"),
            capabilities: names(set),
            no_new_privs: field("NoNewPrivs").next() == Some("1"),
            // SECCOMP_MODE_FILTER
            seccomp: field("Seccomp").next() == Some("2"),
            landlock: None,
            opener: None,
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capabilities = match &self.capabilities[..] {
            [] => "none".to_owned(),
            // As many as there are, or nearly.
            many if many.len() > 30 => "all".to_owned(),
            some => some.join(" "),
        };
        let yes = |on| if on { "yes" } else { "no" };
        write!(
            f,
            "user {}, group {}, capabilities {capabilities}, no-new-privs {}, seccomp filter {}",
            self.uid,
            self.gid,
            yes(self.no_new_privs),
            yes(self.seccomp)
        )?;
        if let Some(version) = self.landlock {
            write!(f, ", landlock {version}")?;
        }
        match self.opener {
            Some(opener) => write!(f, ", opener {opener}"),
            None => Ok(()),
        }
    }
}

/// The opener of a weft, if it has one that is alive.
fn opener_of(pid: u32) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|process| process.file_name().to_str()?.parse().ok()).find(|&candidate: &u32| {
        let folder = PathBuf::from(format!("/proc/{candidate}"));
        let is_child = fs::read_to_string(folder.join("status")).is_ok_and(|status| {
            status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|parent| parent.trim() == pid.to_string()))
        });
        is_child
            && fs::read(folder.join("cmdline"))
                .is_ok_and(|arguments| arguments.split(|byte| *byte == 0).nth(1) == Some(opener::VERB.as_bytes()))
    })
}

/// `include/uapi/linux/capability.h`, in the order of their numbers.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

fn names(set: u64) -> Vec<String> {
    let is_in = |number: &usize| set & 1 << number != 0;
    let name = |number: usize| NAMES.get(number).map_or_else(|| format!("cap_{number}"), |name| format!("cap_{name}"));
    (0..64).filter(is_in).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_file_is_understood() {
        let status = "Name:\tweft\nUid:\t0\t995\t995\t995\nGid:\t7\t994\t7\t7\nNoNewPrivs:\t1\nSeccomp:\t2\n\
                      Seccomp_filters:\t3\nCapPrm:\tffff\nCapEff:\t0000000000201000\n";
        let held = Held::parse(status);
        assert_eq!((held.uid, held.gid, held.no_new_privs, held.seccomp), (995, 994, true, true));
        assert_eq!(held.capabilities, ["cap_net_admin", "cap_sys_admin"]);
        assert_eq!(
            held.to_string(),
            "user 995, group 994, capabilities cap_net_admin cap_sys_admin, no-new-privs yes, seccomp filter yes"
        );
    }

    #[test]
    fn without_a_word_nothing_is_given_up() {
        let held = Held::parse("");
        assert!(!held.no_new_privs && !held.seccomp && held.capabilities.is_empty());
    }

    #[test]
    fn the_numbers_have_their_names() {
        let all = names(rustix::thread::CapabilitySet::SYS_PTRACE.bits() | 1 << 41);
        assert_eq!(all, ["cap_sys_ptrace", "cap_41"]);
    }

    #[test]
    fn this_process_is_as_its_file_says() {
        let held = Held::of(std::process::id()).unwrap();
        assert_eq!(held, Held { opener: None, ..Held::own(None, 0) });
    }
}
