//! nftables' rules as `nft -j list ruleset` gives them (libnftables-json(5)), iptables' own among them where iptables is the
//! one that speaks to nftables.

use std::{io, process::Command};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lab::find_program;

/// All chains with their rules, in the kernel's order.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Ruleset {
    pub(crate) chains: Vec<Chain>,
    pub(crate) sets: Vec<Set>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Chain {
    /// `ip`, `ip6`, `inet`, `arp`, `bridge` or `netdev`.
    pub(crate) family: String,
    pub(crate) table: String,
    pub(crate) name: String,
    /// `filter`, `nat` or `route`; empty: only jumped to.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) hook: String,
    pub(crate) priority: i64,
    pub(crate) policy: String,
    /// The interfaces, of the hooks `ingress` and `egress`.
    pub(crate) devices: Vec<String>,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rule {
    pub(crate) handle: u64,
    pub(crate) comment: Option<String>,
    /// Its expressions as nft's JSON has them.
    pub(crate) expr: Vec<Value>,
}

/// A named set or map.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Set {
    pub(crate) family: String,
    pub(crate) table: String,
    pub(crate) name: String,
    pub(crate) elements: Vec<Value>,
}

impl Chain {
    /// As `nft list chain` takes it.
    pub(crate) fn path(&self) -> String {
        format!("{} {} {}", self.family, self.table, self.name)
    }

    pub(crate) fn is_base(&self) -> bool {
        !self.hook.is_empty()
    }

    /// Whether it stands at interfaces and not on the way through the host.
    pub(crate) fn is_of_devices(&self) -> bool {
        matches!(self.hook.as_str(), "ingress" | "egress")
    }
}

impl Rule {
    /// How many packets it counted; `None`: it has no counter.
    pub(crate) fn packets(&self) -> Option<u64> {
        self.expr.iter().find_map(|expr| expr.get("counter")?.get("packets")?.as_u64())
    }

    /// The rule in nft's words, as far as its expressions are the usual ones; the others in JSON.
    pub(crate) fn words(&self) -> String {
        let mut words: Vec<_> = self.expr.iter().map(statement).filter(|word| !word.is_empty()).collect();
        if let Some(comment) = &self.comment {
            words.push(format!("comment \"{comment}\""));
        }
        words.join(" ")
    }
}

/// The calling thread's namespace's rules.
///
/// # Errors
/// nft is missing, or may not ask (CAP_NET_ADMIN), or says what makes no sense.
pub(super) fn read() -> io::Result<Ruleset> {
    let program = find_program("nft").ok_or_else(|| io::Error::other("the program nft is not there"))?;
    let output = Command::new(&program).args(["-j", "-a", "list", "ruleset"]).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("nft: {}", said.lines().next().unwrap_or("failed"))));
    }
    let mut ruleset = parse(&output.stdout).map_err(io::Error::other)?;
    // Some versions (1.0.6) leave the interfaces out of their JSON.
    if ruleset.chains.iter().any(|chain| chain.is_of_devices() && chain.devices.is_empty()) {
        let output = Command::new(&program).args(["list", "chains"]).output()?;
        add_devices(&mut ruleset, &String::from_utf8_lossy(&output.stdout));
    }
    Ok(ruleset)
}

/// Reads the interfaces of chains out of what `nft list chains` prints:
/// `type filter hook ingress device "eth0" priority filter;` or `devices = { "eth0", "eth1" }`.
fn add_devices(ruleset: &mut Ruleset, text: &str) {
    let (mut table, mut name) = (String::new(), String::new());
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("table ") {
            table = rest.trim_end_matches(" {").to_owned();
        } else if let Some(rest) = line.strip_prefix("chain ") {
            name = rest.trim_end_matches(" {").to_owned();
        }
        let Some((_, rest)) = line.split_once(" device") else { continue };
        let list = rest.split(" priority").next().unwrap_or_default().trim_start_matches('s');
        let names = list.split(|at: char| at.is_whitespace() || "\"{},=".contains(at)).filter(|name| !name.is_empty());
        let path = format!("{table} {name}");
        if let Some(chain) = ruleset.chains.iter_mut().find(|chain| chain.path() == path) {
            chain.devices = names.map(str::to_owned).collect();
        }
    }
}

/// Reads nft's JSON.
pub(crate) fn parse(bytes: &[u8]) -> Result<Ruleset, serde_json::Error> {
    #[derive(Deserialize)]
    struct All {
        nftables: Vec<Value>,
    }
    let all: All = serde_json::from_slice(bytes)?;
    let mut ruleset = Ruleset::default();
    for object in &all.nftables {
        if let Some(chain) = object.get("chain") {
            ruleset.chains.push(Chain {
                family: string(chain, "family"),
                table: string(chain, "table"),
                name: string(chain, "name"),
                kind: string(chain, "type"),
                hook: string(chain, "hook"),
                priority: chain.get("prio").and_then(Value::as_i64).unwrap_or(0),
                policy: string(chain, "policy"),
                devices: match chain.get("dev") {
                    Some(Value::String(name)) => vec![name.clone()],
                    Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                    Some(_) | None => Vec::new(),
                },
                rules: Vec::new(),
            });
        } else if let Some(rule) = object.get("rule") {
            let of = |chain: &&mut Chain| {
                (&chain.family, &chain.table, &chain.name)
                    == (&string(rule, "family"), &string(rule, "table"), &string(rule, "chain"))
            };
            if let Some(chain) = ruleset.chains.iter_mut().find(of) {
                chain.rules.push(Rule {
                    handle: rule.get("handle").and_then(Value::as_u64).unwrap_or(0),
                    comment: rule.get("comment").and_then(Value::as_str).map(str::to_owned),
                    expr: rule.get("expr").and_then(Value::as_array).cloned().unwrap_or_default(),
                });
            }
        } else if let Some(set) = object.get("set").or_else(|| object.get("map")) {
            ruleset.sets.push(Set {
                family: string(set, "family"),
                table: string(set, "table"),
                name: string(set, "name"),
                elements: set.get("elem").and_then(Value::as_array).cloned().unwrap_or_default(),
            });
        }
    }
    Ok(ruleset)
}

fn string(object: &Value, key: &str) -> String {
    object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn statement(expr: &Value) -> String {
    let Some((name, value)) = expr.as_object().and_then(|object| object.iter().next()) else {
        return expr.to_string();
    };
    match name.as_str() {
        "match" => {
            let side = |key| value.get(key).map(shown).unwrap_or_default();
            match value.get("op").and_then(Value::as_str) {
                Some("==" | "in") | None => format!("{} {}", side("left"), side("right")),
                Some(op) => format!("{} {op} {}", side("left"), side("right")),
            }
        }
        "counter" => {
            let number = |key| value.get(key).and_then(Value::as_u64).unwrap_or(0);
            format!("counter packets {} bytes {}", number("packets"), number("bytes"))
        }
        "jump" | "goto" => format!("{name} {}", string(value, "target")),
        "snat" | "dnat" => {
            let address = value.get("addr").map(shown).unwrap_or_default();
            let port = value.get("port").map(|port| format!(":{}", shown(port))).unwrap_or_default();
            format!("{name} to {address}{port}")
        }
        "reject" => match value.get("type").and_then(Value::as_str) {
            Some(kind) => format!("reject with {kind}"),
            None => "reject".to_owned(),
        },
        "limit" => {
            let over = if value.get("inv").and_then(Value::as_bool).unwrap_or(false) { "over " } else { "" };
            format!("limit rate {over}{}/{}", value.get("rate").map(shown).unwrap_or_default(), string(value, "per"))
        }
        "ct count" => {
            let over = if value.get("inv").and_then(Value::as_bool).unwrap_or(false) { "over " } else { "" };
            format!("ct count {over}{}", value.get("val").map(shown).unwrap_or_default())
        }
        "mangle" => {
            let side = |key| value.get(key).map(shown).unwrap_or_default();
            format!("{} set {}", side("key"), side("value"))
        }
        "xt" => format!("xt {} \"{}\"", string(value, "type"), string(value, "name")),
        _ if value.is_null() => name.clone(),
        _ => expr.to_string(),
    }
}

/// A value or what a match looks at.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(shown).collect();
            items.join(",")
        }
        Value::Object(object) => {
            let Some((name, inside)) = object.iter().next() else { return value.to_string() };
            match name.as_str() {
                "payload" => format!("{} {}", string(inside, "protocol"), string(inside, "field")),
                "meta" => match string(inside, "key").as_str() {
                    key @ ("iifname" | "oifname" | "iif" | "oif") => key.to_owned(),
                    key => format!("meta {key}"),
                },
                "ct" => format!("ct {}", string(inside, "key")),
                "fib" => format!("fib {}", string(inside, "result")),
                "prefix" => format!("{}/{}", string(inside, "addr"), inside.get("len").map(shown).unwrap_or_default()),
                "set" => format!("{{ {} }}", shown(inside)),
                "range" => inside
                    .as_array()
                    .map(|ends| ends.iter().map(shown).collect::<Vec<_>>().join("-"))
                    .unwrap_or_default(),
                _ => value.to_string(),
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nft prints: rules in its words, or an error.
    #[test]
    fn fuzz_nft() {
        crate::fuzzing::inputs(|json| {
            let Ok(ruleset) = parse(json) else { return };
            for chain in &ruleset.chains {
                assert!(!chain.path().is_empty());
                chain.rules.iter().for_each(|rule| drop((rule.words(), rule.packets())));
            }
        });
    }

    /// What a container engine leaves in its folder.
    #[test]
    fn fuzz_cni() {
        crate::fuzzing::inputs(|input| {
            let Ok(text) = std::str::from_utf8(input) else { return };
            let file = crate::doctor::survey::host::CniFile::parse("10-x.conflist", text);
            assert!(file.is_none_or(|file| !file.plugins.is_empty()));
        });
    }

    #[test]
    fn rules_are_read_and_said_in_nfts_words() {
        let text = br#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "inet", "name": "f"}},
            {"chain": {"family": "inet", "table": "f", "name": "fwd", "handle": 1, "type": "filter", "hook": "forward",
                "prio": 0, "policy": "drop"}},
            {"rule": {"family": "inet", "table": "f", "chain": "fwd", "handle": 4, "expr": [
                {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}},
                    "right": {"prefix": {"addr": "10.0.0.0", "len": 24}}}},
                {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth0"}},
                {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}},
                {"counter": {"packets": 7, "bytes": 588}}, {"drop": null}]}}]}"#;
        let ruleset = parse(text).unwrap();
        let chain = &ruleset.chains[0];
        assert!(chain.is_base());
        assert_eq!((chain.path().as_str(), chain.policy.as_str()), ("inet f fwd", "drop"));
        assert_eq!(chain.rules[0].packets(), Some(7));
        assert_eq!(
            chain.rules[0].words(),
            "ip saddr 10.0.0.0/24 iifname eth0 ct state established,related counter packets 7 bytes 588 drop"
        );
        assert!(parse(b"[]").is_err());
    }

    #[test]
    fn the_interfaces_of_a_chain_are_read_from_either_form() {
        let chain = |name: &str| Chain {
            family: "netdev".to_owned(),
            table: "early".to_owned(),
            name: name.to_owned(),
            hook: "ingress".to_owned(),
            ..Chain::default()
        };
        let mut ruleset = Ruleset { chains: vec![chain("one"), chain("some")], sets: Vec::new() };
        add_devices(
            &mut ruleset,
            "table netdev early {\n\tchain one {\n\t\ttype filter hook ingress device \"eth0\" priority filter; policy accept;\n\t}\n\
             \tchain some {\n\t\ttype filter hook ingress devices = { \"eth0\", eth1 } priority -5; policy accept;\n\t}\n}\n",
        );
        assert_eq!(ruleset.chains[0].devices, ["eth0"]);
        assert_eq!(ruleset.chains[1].devices, ["eth0", "eth1"]);
        let json = br#"{"nftables": [{"chain": {"family": "netdev", "table": "f", "name": "a", "hook": "ingress", "dev": "eth0"}},
            {"chain": {"family": "netdev", "table": "f", "name": "b", "hook": "egress", "dev": ["eth0", "eth1"]}}]}"#;
        let ruleset = parse(json).unwrap();
        assert_eq!((ruleset.chains[0].devices.len(), ruleset.chains[1].devices.len()), (1, 2));
    }
}
