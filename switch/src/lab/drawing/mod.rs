//! A lab as a drawing: its hosts as boxes with their interfaces, its cables between them; as text or as SVG.
//!
//! Both are made from one [`Drawing`] on a grid of character cells. Hosts stand in columns and rows as the lab's file says
//! (`at`), each column as wide and each row as high as its largest box. Cables are then laid one after the other by
//! `cables`, around boxes and across each other.

mod cables;
mod svg;
mod text;

use self::cables::{Cell, lay};
use super::topology::{Host, Interface, Kind, Topology};

/// Boxes and cables with their places, in cells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Drawing {
    width: usize,
    height: usize,
    boxes: Vec<HostBox>,
    cables: Vec<Vec<Cell>>,
}

/// A host: a frame with its name in the upper edge and a line for each interface.
#[derive(Clone, PartialEq, Eq, Debug)]
struct HostBox {
    x: usize,
    y: usize,
    width: usize,
    title: String,
    lines: Vec<Line>,
}

/// A line in a box; `key` is the interface's name, by which cables find it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Line {
    key: String,
    text: String,
}

/// Columns between two columns of boxes, and rows between two rows: room for a few cables beside each other.
const GAP: [usize; 2] = [9, 3];
/// Room for cables around everything.
const MARGIN: [usize; 2] = [4, 1];

impl HostBox {
    fn height(&self) -> usize {
        self.lines.len() + 2
    }
}

impl Drawing {
    /// Of a lab.
    pub fn of(topology: &Topology) -> Self {
        let places: Vec<_> = (0..).zip(&topology.hosts).map(|(index, host)| host.at.unwrap_or([index, 0])).collect();
        let mut boxes: Vec<_> = topology.hosts.iter().map(host_box).collect();
        let starts = |axis: usize, size: &dyn Fn(&HostBox) -> usize| -> Vec<usize> {
            let count = places.iter().map(|place| place[axis] + 1).max().unwrap_or(0);
            let mut starts = vec![MARGIN[axis]];
            for slot in 0..count {
                let here = boxes.iter().zip(&places).filter(|(_, place)| place[axis] == slot);
                let largest = here.map(|(host, _)| size(host)).max();
                // A column where nobody stands takes no room.
                let room = largest.map_or(0, |largest| largest + GAP[axis]);
                starts.push(starts[slot] + room);
            }
            starts
        };
        let columns = starts(0, &|host| host.width);
        let rows = starts(1, &HostBox::height);
        for (host, place) in boxes.iter_mut().zip(&places) {
            (host.x, host.y) = (columns[place[0]], rows[place[1]]);
        }
        let width = columns.last().map_or(0, |end| end - GAP[0] + MARGIN[0]);
        let height = rows.last().map_or(0, |end| end - GAP[1] + MARGIN[1]);
        let mut drawing = Self { width, height, boxes, cables: Vec::new() };
        let ends: Vec<_> = cables(topology).into_iter().filter_map(|cable| drawing.ends(&cable)).collect();
        drawing.cables = lay(&drawing, &ends);
        drawing
    }

    /// The cells beside the boxes where a cable begins and ends, on the sides that face each other.
    fn ends(&self, cable: &[(String, String); 2]) -> Option<[Cell; 2]> {
        let find = |(host, key): &(String, String)| {
            let found = self.boxes.iter().find(|found| found.title.split(' ').next() == Some(host))?;
            let line = found.lines.iter().position(|line| line.key == *key)?;
            Some((found, found.y + 1 + line))
        };
        let [(one, one_y), (other, other_y)] = [find(&cable[0])?, find(&cable[1])?];
        let right_of = |host: &HostBox| host.x + host.width;
        let left_of = |host: &HostBox| host.x.saturating_sub(1);
        Some(if right_of(one) <= other.x {
            [Cell { x: right_of(one), y: one_y }, Cell { x: left_of(other), y: other_y }]
        } else if right_of(other) <= one.x {
            [Cell { x: left_of(one), y: one_y }, Cell { x: right_of(other), y: other_y }]
        } else {
            [Cell { x: right_of(one), y: one_y }, Cell { x: right_of(other), y: other_y }]
        })
    }
}

/// The ends of all cables, each once, as host and line.
fn cables(topology: &Topology) -> Vec<[(String, String); 2]> {
    let mut cables: Vec<[(String, String); 2]> = Vec::new();
    for host in &topology.hosts {
        for interface in &host.interfaces {
            let other = interface.peer.as_deref().or(interface.parent.as_deref());
            let Some((other, line)) = other.and_then(|name| name.split_once('/')) else { continue };
            let own = (host.name.clone(), interface.name.clone());
            let is_tap = interface.kind == Kind::Tap;
            let line = if is_tap { weft_port(&host.name, &interface.name) } else { line.to_owned() };
            let other = (other.to_owned(), line);
            if other.0 != own.0 && !cables.contains(&[other.clone(), own.clone()]) {
                cables.push([own, other]);
            }
        }
    }
    cables
}

/// The line of a weft's port.
fn weft_port(host: &str, interface: &str) -> String {
    format!("weft:{host}/{interface}")
}

fn host_box(host: &Host) -> HostBox {
    let title = if host.role.is_empty() { host.name.clone() } else { format!("{} ({})", host.name, host.role) };
    let mut lines = Vec::new();
    for interface in host.interfaces.iter().filter(|interface| interface.bridge.is_none()) {
        lines.push(line(interface, ""));
        let ports = host.interfaces.iter().filter(|port| port.bridge.as_ref() == Some(&interface.name));
        lines.extend(ports.map(|port| line(port, "  ")));
    }
    if let Some(weft) = &host.weft {
        lines.extend(weft_lines(host, weft));
    }
    let longest = lines.iter().map(|line| line.text.chars().count()).max().unwrap_or(0);
    let width = (longest + 4).max(title.chars().count() + 4);
    HostBox { x: 0, y: 0, width, title, lines }
}

fn line(interface: &Interface, indent: &str) -> Line {
    let mut words = vec![format!("{indent}{}", interface.name)];
    match interface.kind {
        Kind::Veth | Kind::Tap | Kind::Loopback => {}
        Kind::Bridge => words.push("bridge".to_owned()),
        Kind::Vxlan => words.push(format!("vxlan {}", interface.id.unwrap_or_default())),
        Kind::Vlan => words.push(format!("vlan {}", interface.id.unwrap_or_default())),
        Kind::Macvlan | Kind::Ipvlan => {
            words.push(interface.kind.word().to_owned());
            words.extend(interface.mode.map(|mode| mode.word().to_owned()));
        }
    }
    if let Some(parent) = interface.parent.as_ref().filter(|parent| !parent.contains('/')) {
        words.push(format!("on {parent}"));
    }
    let member = |member: &super::topology::VlanMember| {
        if member.untagged { format!("vlan {} untagged", member.id) } else { format!("vlan {}", member.id) }
    };
    words.extend(interface.vlan.iter().map(member));
    words.extend(interface.address.iter().map(ToString::to_string));
    words.extend(interface.mtu.map(|mtu| format!("mtu {mtu}")));
    Line { key: interface.name.clone(), text: words.join(" ") }
}

/// A weft, from where it sends, its bridges, and their ports by the hosts where they are.
fn weft_lines(host: &Host, weft: &toml::Table) -> Vec<Line> {
    let text = |table: &toml::Value, key: &str| table.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    let list = |key: &str| weft.get(key).and_then(toml::Value::as_array).into_iter().flatten();
    let vtep = weft.get("vtep").and_then(|vtep| text(vtep, "address"));
    let mut lines = vec![Line {
        key: "weft".to_owned(),
        text: vtep.map_or_else(|| "weft".to_owned(), |address| format!("weft, VTEP {address}")),
    }];
    for bridge in list("bridge") {
        let name = text(bridge, "name").unwrap_or_default();
        let vni = bridge.get("vni").and_then(toml::Value::as_integer);
        let vni = vni.map(|vni| format!(" VNI {vni}")).unwrap_or_default();
        lines.push(Line { key: format!("weft:{name}"), text: format!("  {name}{vni}") });
        // A trunk stands under its native bridge, or under the first that it carries.
        let first_of_trunk = |port: &toml::Value| {
            let trunk = port.get("trunk").and_then(toml::Value::as_table);
            trunk.and_then(|trunk| trunk.values().next()?.as_str().map(str::to_owned))
        };
        let home =
            |port: &toml::Value| text(port, "bridge").or_else(|| text(port, "native")).or_else(|| first_of_trunk(port));
        for port in list("port").filter(|port| home(port).as_ref() == Some(&name)) {
            let (place, port_name) = (text(port, "netns"), text(port, "name").unwrap_or_default());
            let place = place.unwrap_or_else(|| host.name.clone());
            let trunk = if port.get("trunk").is_some() { " trunk" } else { "" };
            lines.push(Line { key: weft_port(&place, &port_name), text: format!("    {place}/{port_name}{trunk}") });
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hosts_and_their_cable() {
        let text = r#"
name = "t"
title = "t"
text = "t"
[[host]]
name = "left"
[[host.interface]]
name = "eth0"
peer = "right/eth0"
address = ["10.10.0.1/24"]
[[host]]
name = "right"
role = "server"
[[host.interface]]
name = "eth0"
peer = "left/eth0"
"#;
        let drawing = Drawing::of(&Topology::parse("t.toml", text).unwrap());
        let expected = "\
┌ left ─────────────┐         ┌ right (server) ┐
│ eth0 10.10.0.1/24 ├─────────┤ eth0           │
└───────────────────┘         └────────────────┘
";
        assert_eq!(drawing.text(), expected);
        let svg = drawing.svg();
        assert!(svg.starts_with("<svg ") && svg.contains(">eth0 10.10.0.1/24</text>") && svg.contains("<polyline"));
    }

    #[test]
    fn every_lab_can_be_drawn_with_all_of_its_cables() {
        for lab in crate::lab::builtin::LABS {
            let topology = lab.topology().unwrap();
            let drawing = Drawing::of(&topology);
            assert_eq!(drawing.cables.len(), cables(&topology).len(), "{}\n{}", lab.file, drawing.text());
            assert!(drawing.text().lines().all(|line| line.chars().count() <= 130), "{}\n{}", lab.file, drawing.text());
        }
    }
}
