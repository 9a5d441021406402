//! The configuration of a lab's weft: that of the lab's file, with the lab's hosts put where it names namespaces.

use std::net::IpAddr;

use toml::{Table, Value};

use super::topology::{Host, Interface, Kind, Prefix, Topology};

/// The name of a lab's namespace under `/run/netns`.
///
/// Neither part can have a dot, so that it says which lab and which host it is.
pub fn namespace_name(lab: &str, host: &str) -> String {
    format!("{PREFIX}{lab}.{host}")
}

/// What the names of all labs' namespaces begin with.
pub(super) const PREFIX: &str = "weft.";

/// The configuration as weft reads it, for a lab of this name.
///
/// # Errors
/// It names a namespace that is no host of the lab.
pub(super) fn text(topology: &Topology, host: &Host, weft: &Table, lab: &str) -> Result<String, String> {
    let mut config = weft.clone();
    let full_name = |name: &str| match topology.host(name) {
        Some(_) => Ok(namespace_name(lab, name)),
        None => Err(format!("the weft of `{}` names a namespace `{name}`, and there is no such host", host.name)),
    };
    for (section, value) in &mut config {
        for table in tables_mut(value) {
            if let Some(Value::String(netns)) = table.get_mut("netns") {
                *netns = full_name(netns)?;
            }
            let port = if section == "port" { "backup_port" } else { "port" };
            if let Some(Value::String(name)) = table.get_mut(port)
                && let Some((netns, interface)) = name.split_once('/')
            {
                *name = format!("{}/{interface}", full_name(netns)?);
            }
        }
    }
    toml::to_string(&config).map_err(|error| error.to_string())
}

/// The configuration with some keys changed, each named by its way through the tables; an element of a list of tables by
/// its name: `"bridge.blue.vni"`.
///
/// # Errors
/// There is no such table or element.
pub(super) fn changed(weft: &Table, keys: &Table) -> Result<Table, String> {
    let mut config = weft.clone();
    for (way, value) in keys {
        let mut turns: Vec<_> = way.split('.').collect();
        let key = turns.pop().unwrap_or_default();
        let mut table = &mut config;
        let mut turns = turns.into_iter();
        while let Some(turn) = turns.next() {
            let missing = || format!("the weft has no `{turn}` for `{way}`");
            table = match table.get_mut(turn).ok_or_else(missing)? {
                Value::Table(inner) => inner,
                Value::Array(elements) => {
                    let name = turns.next().unwrap_or_default();
                    let named = |value: &&mut Value| is_named(value, name);
                    let found = elements.iter_mut().find(named).and_then(Value::as_table_mut);
                    found.ok_or_else(|| format!("the weft has no {turn} `{name}` for `{way}`"))?
                }
                Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
                    return Err(missing());
                }
            };
        }
        table.insert(key.to_owned(), value.clone());
    }
    Ok(config)
}

/// Whether an element has this name; a port may be named `"host/interface"`, since hosts have interfaces of one name.
fn is_named(element: &Value, name: &str) -> bool {
    let text = |key: &str| element.get(key).and_then(Value::as_str);
    let (host, interface) = name.split_once('/').map_or((None, name), |(host, interface)| (Some(host), interface));
    text("name") == Some(interface) && (host.is_none() || text("netns") == host)
}

/// Whether a weft of the lab makes this interface.
pub(super) fn makes(topology: &Topology, host: &str, interface: &str) -> bool {
    taps(topology).iter().any(|(holder, tap)| holder == host && tap.name == interface)
}

/// Whether a tap of a weft of the lab has this address.
pub(super) fn holds(topology: &Topology, address: IpAddr) -> bool {
    taps(topology).iter().any(|(_, tap)| tap.address.iter().any(|prefix| prefix.address == address))
}

/// The interfaces that the wefts of a lab make, each with the host that gets it. Its `peer` is `"host/weft"`.
pub(super) fn taps(topology: &Topology) -> Vec<(String, Interface)> {
    let mut taps = Vec::new();
    for host in &topology.hosts {
        let ports = host.weft.as_ref().and_then(|weft| weft.get("port")).into_iter().flat_map(tables);
        for port in ports {
            let text = |key: &str| port.get(key).and_then(Value::as_str);
            if text("kind") == Some("packet") {
                continue;
            }
            let Some(name) = text("name") else { continue };
            let addresses = port.get("address").and_then(Value::as_array).into_iter().flatten();
            let address = addresses.filter_map(|address| address.as_str()?.parse::<Prefix>().ok()).collect();
            let tap = Interface {
                name: name.to_owned(),
                kind: Kind::Tap,
                address,
                mac: text("mac").and_then(|mac| mac.parse().ok()),
                peer: Some(format!("{}/weft", host.name)),
                ..Interface::default()
            };
            taps.push((text("netns").unwrap_or(&host.name).to_owned(), tap));
        }
    }
    taps
}

fn tables(value: &Value) -> Vec<&Table> {
    match value.as_array() {
        Some(elements) => elements.iter().filter_map(Value::as_table).collect(),
        None => value.as_table().into_iter().collect(),
    }
}

fn tables_mut(value: &mut Value) -> Vec<&mut Table> {
    if value.is_array() {
        return value.as_array_mut().into_iter().flatten().filter_map(Value::as_table_mut).collect();
    }
    value.as_table_mut().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        let text = r#"
name = "t"
title = "t"
text = "t"
[[host]]
name = "left"
[[host]]
name = "gw"
[host.weft.vtep]
address = "192.0.2.1"
[[host.weft.bridge]]
name = "blue"
vni = 42
[[host.weft.port]]
name = "eth0"
netns = "left"
bridge = "blue"
address = ["10.0.0.1/24"]
[[host.weft.fdb]]
bridge = "blue"
mac = "02:00:00:00:00:01"
port = "left/eth0"
"#;
        Topology::parse("t.toml", text).unwrap()
    }

    #[test]
    fn hosts_become_namespaces_of_the_lab() {
        let topology = topology();
        let gw = topology.host("gw").unwrap();
        let text = text(&topology, gw, gw.weft.as_ref().unwrap(), "mine").unwrap();
        assert!(
            text.contains("netns = \"weft.mine.left\"") && text.contains("port = \"weft.mine.left/eth0\""),
            "{text}"
        );
    }

    #[test]
    fn taps_are_interfaces_of_their_hosts() {
        let topology = topology();
        let (_, tap) = topology.interface("left/eth0").unwrap();
        assert_eq!((tap.kind, tap.peer.as_deref()), (Kind::Tap, Some("gw/weft")));
        assert!(holds(&topology, [10, 0, 0, 1].into()));
    }

    #[test]
    fn keys_are_found_by_their_way() {
        let topology = topology();
        let weft = topology.host("gw").unwrap().weft.as_ref().unwrap();
        let keys = toml::from_str("\"vtep.port\" = 8472\n\"bridge.blue.vni\" = 43").unwrap();
        let config = changed(weft, &keys).unwrap();
        assert_eq!(config["vtep"]["port"].as_integer(), Some(8472));
        assert_eq!(config["bridge"][0]["vni"].as_integer(), Some(43));
        let keys = toml::from_str("\"bridge.green.vni\" = 43").unwrap();
        assert_eq!(changed(weft, &keys).unwrap_err(), "the weft has no bridge `green` for `bridge.green.vni`");
    }
}
