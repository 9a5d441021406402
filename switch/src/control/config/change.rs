//! One change of a running configuration, held to the same rules as a file.
//!
//! A request over the API has the keys of the file's tables. It is written down as such a table, read by the same reader
//! and checked together with the rest, so that file and API can't drift apart. Nothing changes in place: the result is a
//! new [`Config`].

use std::{fmt::Write, net::IpAddr, sync::Arc};

use miette::NamedSource;
use serde_json::Value;
use toml::de::DeTable;

use super::{
    checks,
    mistake::{ConfigErrors, Mistake, REQUEST},
    reader::{Text, list},
    sections,
    types::{Config, FdbConfig, FdbTarget, MdbConfig, NeighConfig},
    values::nearest,
};
use crate::{control::api::mdb::MdbRequest, wire::MacAddr};

impl Config {
    /// This configuration with one more port, which becomes the last. `request` has the keys of `[[port]]`.
    ///
    /// # Errors
    /// Everything that is wrong with the request, by itself or beside what is here already.
    pub fn with_port(&self, request: &Value) -> Result<Self, ConfigErrors> {
        self.with("port", request)
    }

    /// This configuration with one more bridge, which becomes the last. `request` has the keys of `[[bridge]]`.
    ///
    /// # Errors
    /// As [`Config::with_port`].
    pub fn with_bridge(&self, request: &Value) -> Result<Self, ConfigErrors> {
        self.with("bridge", request)
    }

    /// This configuration with one more static FDB entry, which becomes the last. `request` has the keys of `[[fdb]]`.
    ///
    /// # Errors
    /// As [`Config::with_port`].
    pub fn with_fdb(&self, request: &Value) -> Result<Self, ConfigErrors> {
        self.with("fdb", request)
    }

    /// This configuration with one more neighbour, which becomes the last. `request` has the keys of `[[neigh]]`.
    ///
    /// # Errors
    /// As [`Config::with_port`].
    pub fn with_neigh(&self, request: &Value) -> Result<Self, ConfigErrors> {
        self.with("neigh", request)
    }

    /// This configuration with one more permanent member of a multicast group, which becomes the last. `request` has the keys of
    /// `[[mdb]]`.
    ///
    /// # Errors
    /// As [`Config::with_port`].
    pub fn with_mdb(&self, request: &Value) -> Result<Self, ConfigErrors> {
        self.with("mdb", request)
    }

    /// This configuration without a port and the static entries behind it.
    ///
    /// # Errors
    /// There is no such port.
    pub fn without_port(&self, full_name: &str) -> Result<Self, ConfigErrors> {
        let Some(index) = self.ports.iter().position(|port| port.full_name() == full_name) else {
            return Err(absent("port", full_name, self.ports.iter().map(super::PortConfig::full_name)));
        };
        let mut config = self.clone();
        remove(&mut config.ports, &mut config.origin.ports, index);
        config.drop_entries(|entry| matches!(&entry.at, FdbTarget::Port(name) if name == full_name));
        for port in config.ports.iter_mut().filter(|port| port.backup_port.as_deref() == Some(full_name)) {
            port.backup_port = None; // as in the kernel (`br_if.c`: `nbp_backup_clear`)
        }
        config.drop_members(|entry| entry.port.as_deref() == Some(full_name));
        Ok(config)
    }

    /// This configuration without a bridge, its static entries, its neighbours and the members of its groups.
    ///
    /// # Errors
    /// There is no such bridge, ports belong to it, or it is `unknown_vni`.
    pub fn without_bridge(&self, name: &str) -> Result<Self, ConfigErrors> {
        let Some(index) = self.bridges.iter().position(|bridge| bridge.name == name) else {
            return Err(absent("bridge", name, self.bridges.iter().map(|bridge| bridge.name.clone())));
        };
        let ports: Vec<_> =
            self.ports.iter().filter(|p| p.membership.contains(name)).map(super::PortConfig::full_name).collect();
        if !ports.is_empty() {
            let message = format!("bridge `{name}` has ports: {}", list(ports.iter().map(String::as_str)));
            return Err(refusal(message, "take its ports out first: weft port del NAME"));
        }
        if self.vtep.as_ref().is_some_and(|vtep| vtep.unknown_vni.as_deref() == Some(name)) {
            let message = format!("bridge `{name}` takes the frames of unknown VNIs");
            return Err(refusal(message, "take `unknown_vni` out of [vtep] first, and reload"));
        }
        let mut config = self.clone();
        remove(&mut config.bridges, &mut config.origin.bridges, index);
        config.drop_entries(|entry| entry.bridge == name);
        config.drop_members(|entry| entry.bridge == name);
        for index in (0..config.neigh.len()).rev().filter(|index| self.neigh[*index].bridge == name) {
            remove(&mut config.neigh, &mut config.origin.neigh, index);
        }
        Ok(config)
    }

    /// This configuration without a static FDB entry.
    ///
    /// # Errors
    /// There is no such entry.
    pub fn without_fdb(&self, bridge: &str, mac: MacAddr) -> Result<Self, ConfigErrors> {
        let Some(index) = self.fdb.iter().position(|entry| entry.bridge == bridge && entry.mac == mac) else {
            let message = format!("bridge `{bridge}` has no static entry for {mac}");
            return Err(refusal(message, "`weft show fdb` lists them; learned entries go with `weft fdb flush`"));
        };
        let mut config = self.clone();
        remove(&mut config.fdb, &mut config.origin.fdb, index);
        Ok(config)
    }

    /// This configuration without a neighbour.
    ///
    /// # Errors
    /// There is no such neighbour.
    pub fn without_neigh(&self, bridge: &str, ip: IpAddr) -> Result<Self, ConfigErrors> {
        let Some(index) = self.neigh.iter().position(|neigh| neigh.bridge == bridge && neigh.ip == ip) else {
            return Err(refusal(format!("bridge `{bridge}` has no neighbour {ip}"), "`weft show neigh` lists them"));
        };
        let mut config = self.clone();
        remove(&mut config.neigh, &mut config.origin.neigh, index);
        Ok(config)
    }

    /// This configuration without a permanent member of a multicast group, given as in the request that added it.
    ///
    /// # Errors
    /// There is no such entry.
    pub fn without_mdb(&self, request: &MdbRequest) -> Result<Self, ConfigErrors> {
        let wanted = self.with_mdb_alone(request)?;
        let Some(index) = self.mdb.iter().position(|entry| wanted.contains(entry)) else {
            let message = format!("bridge `{}` has no such permanent member of {}", request.bridge, request.group);
            return Err(refusal(message, "`weft show mdb` lists them"));
        };
        let mut config = self.clone();
        remove(&mut config.mdb, &mut config.origin.mdb, index);
        Ok(config)
    }

    /// What a request for a permanent member means, whether it is there already or not.
    fn with_mdb_alone(&self, request: &MdbRequest) -> Result<Vec<MdbConfig>, ConfigErrors> {
        let mut alone = self.clone();
        alone.drop_members(|_| true);
        let request = serde_json::to_value(request).unwrap_or_default();
        Ok(alone.with_mdb(&request)?.mdb)
    }

    /// This configuration without the static FDB entries that `gone` names.
    pub fn without_entries(&self, gone: impl Fn(&FdbConfig) -> bool) -> Self {
        let mut config = self.clone();
        config.drop_entries(gone);
        config
    }

    /// This file, and what `running` has besides the file `before` that it was started from and besides this one: what
    /// was added while it ran.
    ///
    /// # Errors
    /// What was added and this file do not go together.
    pub fn keeping(&self, running: &Self, before: &Self) -> Result<Self, ConfigErrors> {
        let mut config = self.clone();
        let is_named = |name: &str| self.bridge(name).or_else(|| before.bridge(name)).is_some();
        for (index, bridge) in running.bridges.iter().enumerate().filter(|(_, bridge)| !is_named(&bridge.name)) {
            config.bridges.push(bridge.clone());
            config.origin.bridges.push(running.origin.bridge(index).clone());
        }
        let is_named = |name: &str| self.port(name).or_else(|| before.port(name)).is_some();
        for (index, port) in running.ports.iter().enumerate().filter(|(_, port)| !is_named(&port.full_name())) {
            config.ports.push(port.clone());
            config.origin.ports.push(running.origin.port(index).clone());
        }
        let same = |a: &FdbConfig, b: &FdbConfig| a.bridge == b.bridge && a.mac == b.mac;
        let is_named = |entry: &FdbConfig| self.fdb.iter().chain(&before.fdb).any(|other| same(entry, other));
        for (index, entry) in running.fdb.iter().enumerate().filter(|(_, entry)| !is_named(entry)) {
            config.fdb.push(entry.clone());
            config.origin.fdb.push(running.origin.fdb(index).clone());
        }
        let same = |a: &NeighConfig, b: &NeighConfig| a.bridge == b.bridge && a.ip == b.ip;
        let is_named = |neigh: &NeighConfig| self.neigh.iter().chain(&before.neigh).any(|other| same(neigh, other));
        for (index, neigh) in running.neigh.iter().enumerate().filter(|(_, neigh)| !is_named(neigh)) {
            config.neigh.push(neigh.clone());
            config.origin.neigh.push(running.origin.neigh(index).clone());
        }
        let is_named = |entry: &MdbConfig| self.mdb.contains(entry) || before.mdb.contains(entry);
        for (index, entry) in running.mdb.iter().enumerate().filter(|(_, entry)| !is_named(entry)) {
            config.mdb.push(entry.clone());
            config.origin.mdb.push(running.origin.mdb(index).clone());
        }
        ConfigErrors::check(checks::all(&config))?;
        Ok(config)
    }

    fn with(&self, table: &str, request: &Value) -> Result<Self, ConfigErrors> {
        let Value::Object(keys) = request else {
            let message = format!("a request for a {table} must be an object");
            return Err(refusal(message, format!("its keys are those of [[{table}]] in the configuration")));
        };
        let mut text = format!("[[{table}]]\n");
        for (key, value) in keys.iter().filter(|(_, value)| !value.is_null()) {
            write_key(&mut text, key);
            text.push_str(" = ");
            write_value(&mut text, value);
            text.push('\n');
        }
        let source = Arc::new(NamedSource::new(REQUEST, text));
        let root = DeTable::parse(source.inner())
            .map_err(|error| refusal(format!("the request makes no sense: {}", error.message()), ""))?;

        let mut config = self.clone();
        let mut mistakes = Vec::new();
        sections::add(&mut Text { source: Arc::clone(&source), mistakes: &mut mistakes }, root.get_ref(), &mut config);
        mistakes.extend(checks::all(&config));
        ConfigErrors::check(mistakes)?;
        Ok(config)
    }

    fn drop_members(&mut self, gone: impl Fn(&MdbConfig) -> bool) {
        for index in (0..self.mdb.len()).rev() {
            if gone(&self.mdb[index]) {
                remove(&mut self.mdb, &mut self.origin.mdb, index);
            }
        }
    }

    fn drop_entries(&mut self, gone: impl Fn(&FdbConfig) -> bool) {
        for index in (0..self.fdb.len()).rev() {
            if gone(&self.fdb[index]) {
                remove(&mut self.fdb, &mut self.origin.fdb, index);
            }
        }
    }
}

/// Takes an item out together with its places; an item that was made in memory may have none.
fn remove<T, P>(items: &mut Vec<T>, places: &mut Vec<P>, index: usize) {
    items.remove(index);
    if index < places.len() {
        places.remove(index);
    }
}

fn refusal(message: impl Into<String>, help: impl Into<String>) -> ConfigErrors {
    ConfigErrors::one(Mistake::new(None, message, help))
}

fn absent(what: &str, name: &str, names: impl Iterator<Item = String>) -> ConfigErrors {
    let names: Vec<_> = names.collect();
    let help = match nearest(name, names.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if names.is_empty() => format!("there is no {what} at all"),
        None => format!("there are {}", list(names.iter().map(String::as_str))),
    };
    refusal(format!("there is no {what} `{name}`"), help)
}

fn write_key(text: &mut String, key: &str) {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) { text.push_str(key) } else { write_string(text, key) }
}

/// A TOML basic string.
fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            c if c.is_control() => write!(text, "\\U{:08x}", u32::from(c)).unwrap_or_default(),
            c => text.push(c),
        }
    }
    text.push('"');
}

fn write_value(text: &mut String, value: &Value) {
    match value {
        // TOML has no null; an absent key is its equal, and inside a list an empty string is refused as it should be
        Value::Null => text.push_str("\"\""),
        Value::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => text.push_str(&number.to_string()),
        Value::String(string) => write_string(text, string),
        Value::Array(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { ", " });
                write_value(text, value);
            }
            text.push(']');
        }
        Value::Object(entries) => {
            text.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                text.push_str(if index == 0 { " " } else { ", " });
                write_key(text, key);
                text.push_str(" = ");
                write_value(text, value);
            }
            text.push_str(" }");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::control::config::{BridgeConfig, Membership, NetnsName};

    fn base() -> Config {
        let text = r#"
[vtep]
address = "192.0.2.1"
[[bridge]]
name = "blue"
vni = 42
remotes = ["192.0.2.2:8472"]
[[bridge]]
name = "green"
[[port]]
name = "eth0"
netns = "left"
bridge = "blue"
[[fdb]]
bridge = "blue"
mac = "02:00:00:00:00:01"
port = "left/eth0"
"#;
        Config::parse("weft.toml", text).unwrap()
    }

    #[test]
    fn a_request_means_what_the_file_would_mean() {
        let request = json!({"name": "eth1", "netns": "right", "trunk": {"10": "blue", "20": "green"}, "native": null,
            "mtu": 1400, "address": ["10.0.0.1/24"], "hairpin": true});
        let config = base().with_port(&request).unwrap();
        let port = config.port("right/eth1").unwrap();
        assert_eq!(config.ports.len(), 2);
        assert_eq!(port.mtu, Some(1400));
        assert!(port.hairpin);
        assert_eq!(port.netns, NetnsName::Named("right".into()));
        let Membership::Trunk { vlans, native: None } = &port.membership else { panic!("{port:?}") };
        assert_eq!(
            vlans.iter().map(|(vlan, bridge)| (vlan.get(), bridge.as_str())).collect::<Vec<_>>(),
            [(10, "blue"), (20, "green")]
        );
    }

    #[test]
    fn a_request_is_held_to_the_rules_of_the_file() {
        let messages = |result: Result<Config, ConfigErrors>| {
            result.unwrap_err().reports().into_iter().map(|report| report.message).collect::<Vec<_>>()
        };
        let port = json!({"name": "eth0", "netns": "left", "brigde": "blue", "mtu": 20});
        assert_eq!(
            messages(base().with_port(&port)),
            ["[[port]] has no key `brigde`", "an MTU of 20 is out of range", "there are two ports `left/eth0`",]
        );
        assert_eq!(
            messages(base().with_bridge(&json!({"name": "blue", "vni": 42}))),
            ["there are two bridges `blue`", "VNI 42 belongs to bridge `blue` already",]
        );
        let entry = json!({"bridge": "blue", "mac": "02:00:00:00:00:01", "vtep": "192.0.2.2"});
        assert_eq!(
            messages(base().with_fdb(&entry)),
            ["bridge `blue` has a static entry for 02:00:00:00:00:01 already"]
        );
        assert_eq!(messages(base().with_port(&json!(["eth0"]))), ["a request for a port must be an object"]);
    }

    #[test]
    fn strings_of_a_request_can_not_break_out() {
        let errors = base().with_bridge(&json!({"name": "a\"\n[vtep]\u{7f}\\"})).unwrap_err();
        assert_eq!(errors.reports().len(), 1);
        assert!(errors.to_string().ends_with("can't be the name of a bridge"), "{errors}");
    }

    #[test]
    fn a_configuration_made_in_memory_can_be_changed_too() {
        let config = Config { bridges: vec![BridgeConfig::new("a"), BridgeConfig::new("b")], ..Config::empty() };
        let errors = config.with_bridge(&json!({"name": "b"})).unwrap_err();
        assert_eq!(errors.to_string(), "there are two bridges `b`");
        assert_eq!(errors.reports()[0].line, Some(2));
        assert_eq!(config.with_bridge(&json!({"name": "c"})).unwrap().without_bridge("b").unwrap().bridges.len(), 2);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn arbitrary_requests_never_panic(
            keys in prop::collection::hash_map("name|netns|bridge|trunk|mtu|mac|address|vni|remotes|port|vtep|\\PC*", any_value(), 0..6),
        ) {
            let request = Value::Object(keys.into_iter().collect());
            for result in [base().with_port(&request), base().with_bridge(&request), base().with_fdb(&request)] {
                if let Err(errors) = result {
                    assert!(!errors.render(false).is_empty());
                }
            }
        }

        #[test]
        fn every_string_arrives_as_it_was_sent(name in any::<String>()) {
            let mut text = "key = ".to_owned();
            write_value(&mut text, &json!({ name.as_str(): [name.as_str()] }));
            let table = DeTable::parse(&text).unwrap();
            let value = table.get_ref().get("key").and_then(|map| map.get_ref().get(name.as_str())).unwrap();
            assert_eq!(value.get_ref().get(0).and_then(|value| value.get_ref().as_str()), Some(name.as_str()));
        }
    }

    #[test]
    fn an_entry_without_port_goes_to_the_port_of_the_flood_list() {
        let request = json!({"bridge": "blue", "mac": "02:00:00:00:00:02", "vtep": "192.0.2.2"});
        let config = base().with_fdb(&request).unwrap();
        assert_eq!(config.fdb[1].at, FdbTarget::Vtep("192.0.2.2:8472".parse().unwrap()));
    }

    #[test]
    fn what_goes_takes_its_static_entries_along() {
        let config = base().without_port("left/eth0").unwrap();
        assert!(config.ports.is_empty() && config.fdb.is_empty());
        assert!(config.without_bridge("blue").unwrap().bridge("blue").is_none());
    }

    #[test]
    fn neighbours_come_and_go_and_leave_with_their_bridge() {
        let ip = "10.0.0.2".parse().unwrap();
        let request = json!({"bridge": "green", "ip": "10.0.0.2", "mac": "02:00:00:00:00:02"});
        let config = base().with_neigh(&request).unwrap();
        assert!(config.with_neigh(&request).is_err());
        assert!(config.without_neigh("green", ip).unwrap().neigh.is_empty());
        assert!(config.without_bridge("green").unwrap().neigh.is_empty());
        let gone = base().without_neigh("green", ip).unwrap_err();
        assert_eq!(gone.to_string(), "bridge `green` has no neighbour 10.0.0.2");
        let kept = base().keeping(&config, &base()).unwrap();
        assert_eq!(kept.neigh, config.neigh, "what was added by command stays");
        assert!(base().keeping(&config, &config).unwrap().neigh.is_empty(), "what the file no longer names goes");
    }

    #[test]
    fn a_bridge_with_ports_stays() {
        assert_eq!(base().without_bridge("blue").unwrap_err().to_string(), "bridge `blue` has ports: `left/eth0`");
        assert_eq!(
            base().without_bridge("bleu").unwrap_err().reports()[0].help.as_deref(),
            Some("did you mean `blue`?")
        );
        assert_eq!(base().without_port("right/eth0").unwrap_err().to_string(), "there is no port `right/eth0`");
        let nobody = MacAddr::new([2, 0, 0, 0, 0, 9]);
        let errors = base().without_fdb("blue", nobody).unwrap_err();
        assert_eq!(errors.to_string(), "bridge `blue` has no static entry for 02:00:00:00:00:09");
        assert!(base().without_fdb("blue", MacAddr::new([2, 0, 0, 0, 0, 1])).unwrap().fdb.is_empty());
    }
}
