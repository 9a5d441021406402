//! Step 7: which network plugin a Kubernetes node has, and by what it carries packets.
//!
//! A guess from what plugins leave behind: names of interfaces, the files of `/etc/cni/net.d`, routes and who made them, eBPF
//! programs, processes. Each piece is kept as the guess's evidence; one alone can be left over from a plugin that is gone.

use crate::doctor::{
    step::Step,
    survey::{
        Host, Survey,
        values::{Link, Space},
    },
};

pub(super) fn step(survey: &Survey) -> Step {
    let mut step = Step::new(7, "Kubernetes");
    let guesses = guesses(survey);
    step.summary = match guesses.as_slice() {
        [] => "no network plugin in sight".to_owned(),
        guesses => guesses.iter().map(Guess::words).collect::<Vec<_>>().join("; "),
    };
    for guess in guesses {
        step.evidence(format!("{} by", guess.plugin.name()), guess.evidence);
    }
    if step.evidence.is_empty() && !survey.spaces.iter().any(|space| space.host) {
        step.summary = "not looked at: the host's own namespace is not among those read".to_owned();
    }
    step.judged()
}

/// The network plugins that are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Plugin {
    Multus,
    Calico,
    Cilium,
    Flannel,
    Weave,
    Antrea,
    OvnKubernetes,
    KubeRouter,
    AwsVpc,
    Bridge,
}

impl Plugin {
    /// Multus first, since it stands on top of another; the plain bridge last, since others use it.
    const ALL: [Self; 10] = [
        Self::Multus,
        Self::Calico,
        Self::Cilium,
        Self::Flannel,
        Self::Weave,
        Self::Antrea,
        Self::OvnKubernetes,
        Self::KubeRouter,
        Self::AwsVpc,
        Self::Bridge,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Multus => "Multus",
            Self::Calico => "Calico",
            Self::Cilium => "Cilium",
            Self::Flannel => "Flannel",
            Self::Weave => "Weave",
            Self::Antrea => "Antrea",
            Self::OvnKubernetes => "OVN-Kubernetes",
            Self::KubeRouter => "kube-router",
            Self::AwsVpc => "AWS VPC CNI",
            Self::Bridge => "bridge",
        }
    }

    /// What it leaves behind.
    const fn marks(self) -> Marks {
        match self {
            Self::Multus => {
                Marks { types: &["multus", "multus-shim"], processes: &["multus", "multus-daemon"], ..Marks::NONE }
            }
            Self::Calico => Marks {
                types: &["calico"],
                links: &["cali*", "vxlan.calico", "wireguard.cali"],
                processes: &["calico-node", "felix", "calico-felix"],
                routes: &["bird", "80"],
                programs: &["cali_*", "calico_*"],
                files: &["/var/lib/calico/nodename", "/var/run/calico/bird.ctl"],
            },
            Self::Cilium => Marks {
                types: &["cilium-cni"],
                links: &["cilium_*", "lxc*"],
                processes: &["cilium-agent"],
                programs: &["cil_*"],
                files: &["/run/cilium/cilium.sock"],
                ..Marks::NONE
            },
            Self::Flannel => Marks {
                types: &["flannel"],
                links: &["flannel.*", "flannel-v6.*", "flannel-wg"],
                processes: &["flanneld"],
                files: &["/run/flannel/subnet.env"],
                ..Marks::NONE
            },
            Self::Weave => Marks {
                types: &["weave-net"],
                links: &["weave", "vethwe-*", "vethwepl*", "vxlan-6784"],
                processes: &["weaver"],
                ..Marks::NONE
            },
            Self::Antrea => Marks {
                types: &["antrea"],
                links: &["antrea-gw*", "antrea-tun*", "antrea-egress*"],
                processes: &["antrea-agent"],
                files: &["/var/run/antrea/cni.sock"],
                ..Marks::NONE
            },
            Self::OvnKubernetes => Marks {
                types: &["ovn-k8s-cni-overlay"],
                links: &["ovn-k8s-mp*"],
                processes: &["ovnkube", "ovnkube-node", "ovn-controller"],
                files: &["/run/ovn-kubernetes/cni/ovn-cni-server.sock"],
                ..Marks::NONE
            },
            Self::KubeRouter => {
                Marks { links: &["kube-bridge", "kube-dummy-if"], processes: &["kube-router"], ..Marks::NONE }
            }
            Self::AwsVpc => Marks {
                types: &["aws-cni"],
                links: &["eni*"],
                processes: &["aws-k8s-agent", "aws-node"],
                files: &["/var/run/aws-node/ipam.json"],
                ..Marks::NONE
            },
            Self::Bridge => Marks { types: &["bridge"], links: &["cni0", "cni-podman*", "cbr0"], ..Marks::NONE },
        }
    }
}

/// What a plugin leaves behind; `*` at the end stands for anything.
struct Marks {
    /// Types in `/etc/cni/net.d`.
    types: &'static [&'static str],
    links: &'static [&'static str],
    processes: &'static [&'static str],
    /// Who made routes.
    routes: &'static [&'static str],
    /// eBPF programs by name.
    programs: &'static [&'static str],
    files: &'static [&'static str],
}

impl Marks {
    const NONE: Self = Self { types: &[], links: &[], processes: &[], routes: &[], programs: &[], files: &[] };
}

/// A plugin that seems to be there.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Guess {
    plugin: Plugin,
    /// By what it carries packets.
    datapath: &'static str,
    evidence: Vec<String>,
}

impl Guess {
    fn words(&self) -> String {
        match (self.plugin, self.datapath) {
            (Plugin::Multus, _) => "Multus on top".to_owned(),
            (plugin, "") => plugin.name().to_owned(),
            (plugin, datapath) => format!("{} ({datapath})", plugin.name()),
        }
    }
}

fn guesses(survey: &Survey) -> Vec<Guess> {
    let Some(node) = survey.spaces.iter().find(|space| space.host) else { return Vec::new() };
    let mut found: Vec<_> = Plugin::ALL.into_iter().filter_map(|plugin| guess(plugin, node, &survey.host)).collect();
    // Flannel and kube-router delegate to the plain bridge; then the bridge is theirs.
    let other = found.iter().any(|guess| !matches!(guess.plugin, Plugin::Bridge | Plugin::Multus));
    found.retain(|guess| guess.plugin != Plugin::Bridge || !other);
    found
}

fn guess(plugin: Plugin, node: &Space, host: &Host) -> Option<Guess> {
    let marks = plugin.marks();
    let mut evidence = Vec::new();
    for file in &host.cni {
        let types = file.plugins.iter().chain(&file.delegates);
        let named = types.filter(|kind| marks.types.contains(&kind.as_str())).collect::<Vec<_>>();
        if let Some(kind) = named.first() {
            evidence.push(format!("/etc/cni/net.d/{}: \"type\": \"{kind}\"", file.name));
        }
        if plugin == Plugin::KubeRouter && file.name.contains("kuberouter") {
            evidence.push(format!("/etc/cni/net.d/{}", file.name));
        }
    }
    for link in node.links.iter().filter(|link| fits(marks.links, &link.name)) {
        evidence.push(format!("interface {}", node.link_row(link)));
    }
    let by_interface = evidence.len();
    for process in node.processes.iter().filter(|process| marks.processes.contains(&process.name.as_str())) {
        evidence.push(format!("process {} {}", process.pid, process.name));
    }
    for route in node.routes.iter().filter(|route| marks.routes.contains(&route.protocol.as_str())) {
        evidence.push(format!("route {} proto {}", node.route_row(route), route.protocol));
    }
    for (link, program) in programs(node).filter(|(_, program)| fits(marks.programs, program)) {
        evidence.push(format!("eBPF program {program} at {}", link.name));
    }
    evidence.extend(
        host.marks.iter().filter(|file| marks.files.contains(&file.as_str())).map(|file| format!("file {file}")),
    );
    // What BIRD made may be anybody's.
    let enough = by_interface > 0 || evidence.iter().any(|row| !row.starts_with("route"));
    enough.then(|| {
        shorten(&mut evidence);
        Guess { plugin, datapath: datapath(plugin, node, host), evidence }
    })
}

/// Every pod has an interface: a few of them say it.
fn shorten(evidence: &mut Vec<String>) {
    const SOME: usize = 8;
    if evidence.len() > SOME {
        let rest = evidence.len() - SOME;
        evidence.truncate(SOME);
        evidence.push(format!("and {rest} more"));
    }
}

fn datapath(plugin: Plugin, node: &Space, host: &Host) -> &'static str {
    let has = |pattern: &str| node.links.iter().any(|link| fits(&[pattern], &link.name) && link.up);
    let of_bpf = |pattern: &str| programs(node).any(|(_, program)| fits(&[pattern], program));
    match plugin {
        Plugin::Multus => "",
        Plugin::Calico => match (of_bpf("cal*"), has("vxlan.calico"), has("tunl0"), has("wireguard.cali")) {
            (true, true, ..) => "eBPF, VXLAN",
            (true, ..) => "eBPF",
            (_, _, _, true) => "routes, WireGuard",
            (_, true, ..) => "routes, VXLAN",
            (_, _, true, _) => "routes, IP-in-IP",
            _ => "routes, no encapsulation",
        },
        Plugin::Cilium => match (has("cilium_vxlan"), has("cilium_geneve")) {
            (true, _) => "eBPF, VXLAN",
            (_, true) => "eBPF, Geneve",
            _ => "eBPF, native routing",
        },
        Plugin::Flannel => match (has("flannel.*"), has("flannel-wg")) {
            (true, _) => "bridge, VXLAN",
            (_, true) => "bridge, WireGuard",
            _ => "bridge, host-gw: routes",
        },
        Plugin::Weave => {
            if has("vxlan-6784") {
                "fast datapath: Open vSwitch and VXLAN"
            } else {
                "sleeve: user space"
            }
        }
        Plugin::Antrea => {
            if has("genev_sys_*") || has("antrea-tun*") {
                "Open vSwitch, tunnels"
            } else {
                "Open vSwitch, no encapsulation"
            }
        }
        Plugin::OvnKubernetes => "Open vSwitch, Geneve",
        Plugin::KubeRouter => {
            if has("tun-*") {
                "bridge, BGP, IP-in-IP"
            } else {
                "bridge, BGP"
            }
        }
        Plugin::AwsVpc => "routes and rules, addresses of the VPC",
        Plugin::Bridge => {
            let chained = host.cni.first().map(|file| file.plugins.iter().any(|kind| kind == "portmap"));
            if chained == Some(true) { "kernel bridge, portmap" } else { "kernel bridge" }
        }
    }
}

/// All eBPF programs at interfaces, by name.
fn programs(node: &Space) -> impl Iterator<Item = (&Link, &str)> {
    node.links.iter().flat_map(|link| {
        let filters = node.filters.iter().filter(|filter| filter.link == link.index);
        let by_tc = filters.filter_map(|filter| filter.program.as_ref());
        let by_tcx = link.tcx_ingress.iter().chain(&link.tcx_egress);
        by_tc.chain(by_tcx).map(move |program| (link, program.name.as_str()))
    })
}

fn fits(patterns: &[&str], name: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        // `eni` and `lxc` are followed by an id of hexadecimal digits.
        Some(start @ ("eni" | "lxc" | "cali")) => name
            .strip_prefix(start)
            .is_some_and(|id| id.len() > 4 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'_')),
        Some(start) => name.starts_with(start),
        None => name == *pattern,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The surveys of nodes, and what each must be taken for. Each file says after which public description it was written.
    const FIXTURES: [(&str, &str); 13] = [
        (include_str!("fixtures/bridge.json"), "bridge (kernel bridge, portmap)"),
        (include_str!("fixtures/calico-ipip.json"), "Calico (routes, IP-in-IP)"),
        (include_str!("fixtures/calico-ebpf.json"), "Calico (eBPF, VXLAN)"),
        (include_str!("fixtures/cilium.json"), "Cilium (eBPF, VXLAN)"),
        (include_str!("fixtures/flannel-vxlan.json"), "Flannel (bridge, VXLAN)"),
        (include_str!("fixtures/flannel-host-gw.json"), "Flannel (bridge, host-gw: routes)"),
        (include_str!("fixtures/weave.json"), "Weave (fast datapath: Open vSwitch and VXLAN)"),
        (include_str!("fixtures/antrea.json"), "Antrea (Open vSwitch, tunnels)"),
        (include_str!("fixtures/ovn-kubernetes.json"), "OVN-Kubernetes (Open vSwitch, Geneve)"),
        (include_str!("fixtures/kube-router.json"), "kube-router (bridge, BGP, IP-in-IP)"),
        (include_str!("fixtures/aws-vpc.json"), "AWS VPC CNI (routes and rules, addresses of the VPC)"),
        (include_str!("fixtures/multus-on-calico.json"), "Multus on top; Calico (routes, VXLAN)"),
        (include_str!("fixtures/plain.json"), "no network plugin in sight"),
    ];

    #[test]
    fn every_plugin_is_told_from_its_node_with_evidence() {
        for (text, expected) in FIXTURES {
            let value: Value = serde_json::from_str(text).unwrap();
            assert!(value["origin"].is_string(), "{expected}: a fixture says where it is from");
            let survey: Survey = serde_json::from_value(value).unwrap();
            let step = step(&survey);
            assert_eq!(step.summary, expected);
            assert_eq!(step.evidence.is_empty(), expected.starts_with("no "), "{expected}");
            assert!(step.evidence.iter().all(|evidence| !evidence.rows.is_empty()), "{expected}");
        }
    }

    #[test]
    fn names_alone_that_look_alike_are_no_plugin() {
        for name in ["eni", "enic0", "lxcbr0", "california"] {
            assert!(Plugin::ALL.iter().all(|plugin| !fits(plugin.marks().links, name)), "{name}");
        }
        assert!(fits(&["eni*"], "eni6f1a2b3c4d5"));
    }
}
