//! Network namespaces as users name them.

use std::{fmt, path::PathBuf};

use crate::sys::inherited::Handle;

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
    /// `fd:3`, `fd:NAME`: a descriptor that weft was started with, of a namespace's file or, for a port, of the tap itself.
    Descriptor(Handle),
}

/// Where `ip netns` keeps the namespaces that have names.
pub const NETNS_DIRECTORY: &str = "/run/netns";

impl fmt::Display for NetnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => write!(f, "."),
            Self::Named(name) => write!(f, "{name}"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Pid(pid) => write!(f, "pid:{pid}"),
            Self::Descriptor(handle) => write!(f, "fd:{handle}"),
        }
    }
}
