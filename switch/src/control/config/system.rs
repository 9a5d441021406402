//! The checks that ask the system: namespaces, CPUs and the socket's directory. They are apart from all others, so that a
//! configuration can be checked on another machine than the one it is for.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    mistake::{ConfigErrors, Mistake, Place},
    reader::list,
    types::{Config, NETNS_DIRECTORY, NetnsName, Pin, RUN_DIRECTORY},
    values::nearest,
};
use crate::sys::affinity;

impl Config {
    /// Checks that the last port's namespace exists: that of a port that was just added. Those of others may have ended since
    /// they were opened.
    ///
    /// # Errors
    /// There is no such namespace.
    pub fn check_last_namespace(&self) -> Result<(), ConfigErrors> {
        let missing = self.ports.iter().enumerate().next_back().and_then(|(index, port)| {
            missing_namespace(&port.netns, self.origin.port(index).of("netns"), Path::new(NETNS_DIRECTORY))
        });
        ConfigErrors::check(missing.into_iter().collect())
    }

    /// Checks that the control API's socket has a directory to be in; `/run/weft` counts as there, for weft makes it.
    ///
    /// # Errors
    /// The directory is missing, or is none.
    pub fn check_socket(&self) -> Result<(), ConfigErrors> {
        ConfigErrors::check(self.homeless_socket().into_iter().collect())
    }

    /// All checks of this kind at once.
    ///
    /// # Errors
    /// Namespaces that are not there, what [`Config::check_socket`] finds, and CPUs that workers can't have.
    pub fn check_system(&self) -> Result<(), ConfigErrors> {
        let mut mistakes = self.missing_namespaces(Path::new(NETNS_DIRECTORY));
        mistakes.extend(self.homeless_socket());
        // Without an answer from the kernel there is nothing to hold the numbers against.
        if let Ok(allowed) = affinity::allowed() {
            mistakes.extend(self.missing_cpus(&allowed));
        }
        ConfigErrors::check(mistakes)
    }

    fn missing_cpus(&self, allowed: &[usize]) -> Option<Mistake> {
        let Pin::To(cpus) = &self.switch.pin else { return None };
        let missing: Vec<_> = cpus.iter().filter(|cpu| !allowed.contains(cpu)).map(ToString::to_string).collect();
        if missing.is_empty() {
            return None;
        }
        let allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        let message = format!("weft can't run on CPU {}", list(missing.iter().map(String::as_str)));
        let help = format!("it may use {}", list(allowed.iter().map(String::as_str)));
        Some(Mistake::new(self.origin.switch.of("pin"), message, help))
    }

    fn missing_namespaces(&self, directory: &Path) -> Vec<Mistake> {
        let vtep = self.vtep.iter().map(|vtep| (&vtep.netns, self.origin.vtep.of("netns")));
        let ports = self.ports.iter().enumerate().map(|(i, port)| (&port.netns, self.origin.port(i).of("netns")));
        vtep.chain(ports).filter_map(|(netns, place)| missing_namespace(netns, place, directory)).collect()
    }

    fn homeless_socket(&self) -> Option<Mistake> {
        let directory = match self.switch.socket.parent() {
            Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
            Some(parent) => parent.to_owned(),
            None => PathBuf::from("/"),
        };
        if directory == Path::new(RUN_DIRECTORY)
            || fs::metadata(&directory).map_or_else(is_kept_from, |found| found.is_dir())
        {
            return None;
        }
        let message = format!("there is no directory {} for the socket", directory.display());
        let help = format!("make it, or leave `socket` out for {}", super::default_socket().display());
        Some(Mistake::new(self.origin.switch.of("socket"), message, help))
    }
}

fn missing_namespace(netns: &NetnsName, place: Option<Place>, directory: &Path) -> Option<Mistake> {
    let mistake = |message: String, help: String| Some(Mistake::new(place, message, help));
    match netns {
        NetnsName::Own => None,
        NetnsName::Named(name) if may_be_there(&directory.join(name)) => None,
        NetnsName::Named(name) => {
            let names = names_in(directory);
            let help = match nearest(name, names.iter().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("`ip netns add {name}` makes it"),
            };
            mistake(format!("there is no network namespace `{name}`"), help)
        }
        NetnsName::Path(path) if may_be_there(path) => None,
        NetnsName::Path(path) => {
            let help = "the path of a namespace's file, such as \"/proc/1234/ns/net\"".to_owned();
            mistake(format!("there is no file {}", path.display()), help)
        }
        // What weft will be started with is not for this process to see.
        NetnsName::Descriptor(_) => None,
        // Its namespace may be for others to see; that is said when it is opened.
        NetnsName::Pid(pid) if Path::new(&format!("/proc/{pid}")).exists() => None,
        NetnsName::Pid(pid) => mistake(
            format!("there is no process {pid}"),
            "the number of a process that runs in the namespace".to_owned(),
        ),
    }
}

/// Whether a file is there, as far as weft may know: what it may not see, its opener may.
fn may_be_there(path: &Path) -> bool {
    fs::metadata(path).map_or_else(is_kept_from, |_| true)
}

fn is_kept_from(error: io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// The names in a directory, sorted; none if it can't be read.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_namespaces_are_shown_at_their_lines() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("left"), "").unwrap();
        let pid = std::process::id();
        let text = format!(
            r#"
[[bridge]]
name = "blue"

[[port]]
name = "a"
netns = "left"
bridge = "blue"

[[port]]
name = "b"
netns = "leftt"
bridge = "blue"

[[port]]
name = "c"
netns = "/nowhere/net"
bridge = "blue"

[[port]]
name = "d"
netns = "pid:{pid}"
bridge = "blue"

[[port]]
name = "e"
netns = "pid:2147483647"
bridge = "blue"
"#
        );
        let config = Config::parse("weft.toml", &text).unwrap();
        let mistakes = config.missing_namespaces(directory.path());
        let found: Vec<_> =
            mistakes.iter().map(Mistake::report).map(|r| (r.line, r.message, r.help.unwrap())).collect();
        let expected = [
            (12, "there is no network namespace `leftt`", "did you mean `left`?"),
            (17, "there is no file /nowhere/net", "the path of a namespace's file, such as \"/proc/1234/ns/net\""),
            (27, "there is no process 2147483647", "the number of a process that runs in the namespace"),
        ];
        assert_eq!(found, expected.map(|(line, message, help)| (Some(line), message.to_owned(), help.to_owned())));
    }

    #[test]
    fn a_cpu_that_weft_can_not_have_is_shown_at_its_line() {
        let config = Config::parse("weft.toml", "[switch]\npin = [0, 3, 2]\n").unwrap();
        assert_eq!(config.switch.workers, 3, "one for each CPU");
        assert!(config.missing_cpus(&[0, 2, 3]).is_none());
        let report = config.missing_cpus(&[0, 1]).unwrap().report();
        assert_eq!((report.line, report.message.as_str()), (Some(2), "weft can't run on CPU `3` and `2`"));
        assert_eq!(report.help.as_deref(), Some("it may use `0` and `1`"));
    }

    #[test]
    fn a_socket_needs_its_directory() {
        let socket = |path: &str| Config::parse("weft.toml", &format!("[switch]\nsocket = \"{path}\"\n")).unwrap();
        assert!(socket("/tmp/weft.sock").check_socket().is_ok());
        assert!(socket("weft.sock").check_socket().is_ok());
        assert!(socket("/run/weft/weft.sock").check_socket().is_ok());
        let errors = socket("/nowhere/weft.sock").check_socket().unwrap_err();
        assert_eq!(errors.to_string(), "there is no directory /nowhere for the socket");
        assert_eq!(errors.reports()[0].line, Some(2));
    }
}
