//! What of a machine concerns no single namespace: how its containers get their network.

use std::{fs, io, os::unix::net::UnixStream, path::Path};

use serde::{Deserialize, Serialize};

use crate::control::config::default_socket;

/// What tells which network plugin a Kubernetes node has.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Host {
    /// The files of `/etc/cni/net.d`, in the order in which a runtime reads them: the first one counts.
    pub(crate) cni: Vec<CniFile>,
    /// Names under `/sys/fs/bpf`, as paths from there.
    pub(crate) pinned: Vec<String>,
    /// Files and sockets by which plugins' daemons are known.
    pub(crate) marks: Vec<String>,
    /// Control sockets of wefts at their usual place that nobody has open any more.
    pub(crate) dead_sockets: Vec<String>,
}

/// A network configuration of CNI.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct CniFile {
    pub(crate) name: String,
    /// `name` inside.
    pub(crate) network: String,
    /// The `type` of each plugin of it, in order.
    pub(crate) plugins: Vec<String>,
    /// Those of the network that it delegates to, such as flannel's `bridge` or Multus's `delegates`.
    #[serde(default)]
    pub(crate) delegates: Vec<String>,
}

const CNI_FOLDER: &str = "/etc/cni/net.d";
const MARKS: [&str; 9] = [
    "/run/flannel/subnet.env",
    "/run/cilium/cilium.sock",
    "/var/run/calico/bird.ctl",
    "/var/lib/calico/nodename",
    "/run/openvswitch/db.sock",
    "/var/run/antrea/cni.sock",
    "/run/ovn-kubernetes/cni/ovn-cni-server.sock",
    "/var/run/aws-node/ipam.json",
    "/run/multus/multus.sock",
];

impl Host {
    /// Reads it; what is not there, or may not be read, is left out.
    pub(super) fn read() -> Self {
        let names = fs::read_dir(CNI_FOLDER).into_iter().flatten().flatten();
        let mut names: Vec<_> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        let cni = names.iter().filter_map(|name| {
            let text = fs::read_to_string(Path::new(CNI_FOLDER).join(name)).ok()?;
            CniFile::parse(name, &text)
        });
        let mut pinned = Vec::new();
        list(Path::new("/sys/fs/bpf"), 3, &mut pinned);
        let marks = MARKS.into_iter().filter(|path| Path::new(path).exists()).map(str::to_owned);
        let socket = default_socket();
        let dead = UnixStream::connect(&socket).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        let dead_sockets = dead.then(|| socket.display().to_string()).into_iter().collect();
        Self { cni: cni.collect(), pinned, marks: marks.collect(), dead_sockets }
    }
}

impl CniFile {
    /// A `.conflist`, or a `.conf` of one plugin (CNI specification 1.0, section 1); `None`: neither.
    pub(crate) fn parse(name: &str, text: &str) -> Option<Self> {
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        let kind = |value: &serde_json::Value| Some(value.get("type")?.as_str()?.to_owned());
        let plugins = match value.get("plugins").and_then(|list| list.as_array()) {
            Some(plugins) => plugins.clone(),
            None => vec![value.clone()],
        };
        let delegates = plugins.iter().flat_map(|plugin| {
            let one = plugin.get("delegate").into_iter();
            one.chain(plugin.get("delegates").and_then(|list| list.as_array()).into_iter().flatten())
        });
        let delegates = delegates.flat_map(|network| match network.get("plugins").and_then(|list| list.as_array()) {
            Some(plugins) => plugins.iter().filter_map(kind).collect::<Vec<_>>(),
            None => kind(network).into_iter().collect(),
        });
        let network = value.get("name").and_then(|name| name.as_str()).unwrap_or_default().to_owned();
        let file = Self {
            name: name.to_owned(),
            network,
            plugins: plugins.iter().filter_map(kind).collect(),
            delegates: delegates.collect(),
        };
        (!file.plugins.is_empty()).then_some(file)
    }
}

/// The names below a folder, a few levels deep and not too many.
fn list(folder: &Path, depth: usize, into: &mut Vec<String>) {
    const MANY: usize = 500;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if into.len() >= MANY {
            return;
        }
        into.extend(path.strip_prefix("/sys/fs/bpf").ok().map(|rest| rest.display().to_string()));
        if depth > 1 && path.is_dir() {
            list(&path, depth - 1, into);
        }
    }
}
