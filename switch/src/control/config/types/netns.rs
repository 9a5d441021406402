//! Network namespaces as users name them.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A network namespace as users name it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum NetnsName {
    /// The one weft was started in.
    Own,
    /// A name under `/run/netns`.
    Named(String),
    /// A path to a namespace file.
    Path(PathBuf),
    /// `pid:1234`: that process's.
    Pid(u32),
}

/// Where `ip netns` keeps the namespaces that have names.
pub const NETNS_DIRECTORY: &str = "/run/netns";

impl NetnsName {
    /// The file that stands for the namespace: what to open for `setns`.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Own => PathBuf::from("/proc/self/ns/net"),
            Self::Named(name) => Path::new(NETNS_DIRECTORY).join(name),
            Self::Path(path) => path.clone(),
            Self::Pid(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
        }
    }
}

impl fmt::Display for NetnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => write!(f, "."),
            Self::Named(name) => write!(f, "{name}"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Pid(pid) => write!(f, "pid:{pid}"),
        }
    }
}
