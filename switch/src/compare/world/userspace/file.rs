//! The configuration file for a scene.

use std::{collections::BTreeSet, fmt::Write as _};

use super::OTHER;
use crate::{
    compare::{
        case::{LOCAL, Overlay, PORTS, Setup, Value, VlanMember},
        option::{self, Knob, Part, Weft},
        world::{CompareError, ends::port_name},
    },
    lab::Namespace,
};

/// See [`nowhere`].
const NO_VLAN: u16 = 4094;

pub(super) fn bridge_of_vlan(vid: u16) -> String {
    format!("v{vid}")
}

/// What weft is to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Scene {
    /// As the case has it, with what changed since.
    pub(super) setup: Setup,
    /// Scenes take turns with two names for the bridge. One of another name has heard nothing of any group.
    pub(super) is_second: bool,
    /// Ports of no bridge.
    pub(super) detached: BTreeSet<u8>,
    /// The bridge meets no overlay for the time being.
    pub(super) tunnel_is_down: bool,
    /// Other networks, each of a bridge of its own.
    pub(super) others: Vec<u32>,
}

impl Scene {
    /// The name of the bridge, where VLANs are not filtered.
    pub(super) const fn bridge(&self) -> &'static str {
        if self.is_second { "br1" } else { "br0" }
    }
}

/// The configuration file for a scene.
///
/// # Errors
/// [`CompareError::Lacks`]: weft has no words for it.
pub(super) fn text(scene: &Scene, namespace: &Namespace) -> Result<String, CompareError> {
    let setup = &scene.setup;
    let mut text = "[switch]\nworkers = 1\n".to_owned();
    let mut of_bridge = String::new();
    if let Some(overlay) = &setup.overlay {
        let netns = namespace.full_name();
        let _ =
            writeln!(text, "[vtep]\naddress = \"{LOCAL}\"\nnetns = \"{netns}\"\ngso = \"off\"\npath_mtu = \"assume\"");
        let _ = writeln!(text, "source_ports = {}", source_ports(overlay));
        if let Some(vid) = overlay.networks.keys().next() {
            let _ = writeln!(text, "unknown_vni = {:?}", bridge_of_vlan(*vid));
        }
        for knob in option::OPTIONS.iter().filter(|knob| knob.part == Part::Tunnel) {
            let Some(value) = overlay.options.get(knob.name).cloned().or_else(|| not_wefts_default(knob)) else {
                continue;
            };
            // Zero is the kernel's word for "the route's own".
            if (knob.name == "ttl" && value == Value::Number(0)) || value == Value::Word("default".into()) {
                continue;
            }
            match knob.weft {
                Weft::OfBridge if scene.tunnel_is_down => {}
                Weft::OfBridge => of_bridge.push_str(&knob.line(&value)),
                // That of VXLAN-GPE is another one.
                Weft::Same if knob.name == "port" && overlay.is_gpe() => {
                    let _ = writeln!(text, "gpe_port = {value}");
                }
                Weft::Same | Weft::Duration | Weft::Encapsulation(_) | Weft::Absent => {
                    text.push_str(&knob.line(&value))
                }
            }
        }
    }
    for knob in option::OPTIONS.iter().filter(|knob| knob.part == Part::Bridge) {
        if let Some(value) = setup.bridge.get(knob.name).cloned().or_else(|| not_wefts_default(knob)) {
            of_bridge.push_str(&knob.line(&value));
        }
    }
    let bridges: Vec<_> = match &setup.vlans {
        None => vec![scene.bridge().to_owned()],
        Some(vlans) => {
            let networks = setup.overlay.iter().flat_map(|overlay| overlay.networks.keys().copied());
            let vids: BTreeSet<_> = vlans.values().flatten().map(|member| member.vid).chain(networks).collect();
            vids.into_iter().map(bridge_of_vlan).collect()
        }
    };
    for bridge in &bridges {
        let _ = writeln!(text, "[[bridge]]\nname = \"{bridge}\"\n{of_bridge}");
        let overlay = setup.overlay.as_ref().filter(|_| !scene.tunnel_is_down);
        let of_vlan = |overlay: &Overlay| {
            overlay.networks.iter().find(|(vid, _)| bridge_of_vlan(**vid) == *bridge).map(|(_, vni)| *vni)
        };
        let vni = |overlay: &Overlay| if overlay.networks.is_empty() { Some(overlay.vni) } else { of_vlan(overlay) };
        if let Some((overlay, vni)) = overlay.and_then(|overlay| Some((overlay, vni(overlay)?))) {
            let _ = writeln!(text, "vni = {vni}\nremotes = {:?}", words(&overlay.remotes));
        }
    }
    for (number, vni) in scene.others.iter().enumerate() {
        let _ = writeln!(text, "[[bridge]]\nname = \"{OTHER}{number}\"\nvni = {vni}");
    }
    let is_nowhere = |port: &u8| setup.vlans.as_ref().is_some_and(|vlans| vlans.get(port).is_none_or(Vec::is_empty));
    for port in (1..=PORTS).filter(is_nowhere) {
        let _ = writeln!(text, "[[bridge]]\nname = \"{}\"", nowhere(port));
    }
    for port in (1..=PORTS).filter(|port| !scene.detached.contains(port)) {
        let (name, netns) = (port_name(port), namespace.full_name());
        let _ = writeln!(text, "[[port]]\nname = \"{name}\"\nnetns = \"{netns}\"\nkind = \"packet\"\noffload = false");
        let members = setup.vlans.as_ref().map(|vlans| vlans.get(&port).map_or(&[][..], Vec::as_slice));
        if is_nowhere(&port) {
            let _ = writeln!(text, "trunk = {{ {NO_VLAN} = \"{}\" }}", nowhere(port));
        } else {
            text.push_str(&membership(scene.bridge(), members));
        }
        // The kernel's is the whole bridge's; weft's trunks may differ.
        if let (Some(_), Some(protocol)) = (members, setup.bridge.get("vlan_protocol")) {
            let _ = writeln!(text, "vlan_protocol = \"{protocol}\"");
        }
        for (name, value) in setup.port.get(&port).into_iter().flatten() {
            let Some(knob) = option::find(Part::Port, name) else {
                return Err(CompareError::Lacks(format!("no option {name} is known to this comparison")));
            };
            match (knob.name, value) {
                ("backup_port", Value::Number(0)) => {}
                ("backup_port", Value::Number(port)) => {
                    let _ = writeln!(text, "backup_port = \"{netns}/{}\"", port_name(*port as u8));
                }
                _ => text.push_str(&knob.line(value)),
            }
        }
    }
    for (neighbour, bridge) in setup.neighbours.iter().flat_map(|n| bridges.iter().map(move |bridge| (n, bridge))) {
        let _ =
            writeln!(text, "[[neigh]]\nbridge = {bridge:?}\nip = \"{}\"\nmac = \"{}\"", neighbour.ip, neighbour.mac);
        if neighbour.router {
            text.push_str("router = true\n");
        }
    }
    Ok(text)
}

/// A bridge that a port is in which is a member of no VLAN: it has no other port, and a VLAN that no case has.
fn nowhere(port: u8) -> String {
    format!("{OTHER}-{}", port_name(port))
}

/// Where weft's own default is not the kernel's, the scene has the kernel's.
fn not_wefts_default(knob: &'static Knob) -> Option<Value> {
    const NAMES: [&str; 7] =
        ["fdb_max_learned", "fdb_full", "mcast_snooping", "peers", "df", "oversize", "source_port_range"];
    NAMES.contains(&knob.name).then(|| knob.default.into())
}

/// A few sockets, and no more than there are ports to send from.
fn source_ports(overlay: &Overlay) -> u16 {
    let range = match overlay.options.get("source_port_range") {
        Some(Value::Word(word)) => option::range(word),
        Some(Value::Switch(_) | Value::Number(_)) | None => None,
    };
    range.map_or(4, |(min, max)| (max - min).clamp(1, 4))
}

fn words(addresses: &[std::net::IpAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// A port's place among the bridges: with VLAN filtering a bridge for each VLAN.
fn membership(bridge: &str, members: Option<&[VlanMember]>) -> String {
    let Some(members) = members else { return format!("bridge = \"{bridge}\"\n") };
    let vlans: Vec<_> =
        members.iter().map(|member| format!("{} = {:?}", member.vid, bridge_of_vlan(member.vid))).collect();
    let mut text = format!("trunk = {{ {} }}\n", vlans.join(", "));
    if let Some(native) = members.iter().find(|member| member.pvid) {
        let _ = writeln!(text, "native = {:?}", bridge_of_vlan(native.vid));
    }
    let untagged: Vec<_> = members.iter().filter(|member| member.untagged).map(|member| member.vid).collect();
    let _ = writeln!(text, "untagged = {untagged:?}");
    text
}
