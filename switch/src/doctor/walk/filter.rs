//! What nftables does with a packet: the chains of a hook in the order of their priorities, rule by rule.
//!
//! Three answers are possible to whether a rule fits: yes, no, and *maybe*, when it asks for something that a packet which
//! was never sent has not (a rate, a time, a user). A drop that may be is told, but does not end the walk.

use std::net::IpAddr;

use serde_json::Value;

use super::packet::Packet;
use crate::{
    doctor::survey::{
        Prefix,
        nft::{Chain, Rule, Ruleset, Set},
        values::Protocol,
    },
    wire::MacAddr,
};

/// Where a packet is while it is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// `prerouting`, `input`, `forward`, `output`, `postrouting`, `ingress`, `egress`.
    pub(crate) hook: &'a str,
    pub(crate) iif: Option<&'a str>,
    pub(crate) oif: Option<&'a str>,
    /// In the midst of a bridge: only the family `bridge` counts.
    pub(crate) bridged: bool,
    /// It is an ARP request or reply, and the packet what follows it.
    pub(crate) arp: bool,
    /// The frame around it, in a bridge: source, destination, VLAN.
    pub(crate) frame: Option<(MacAddr, MacAddr, Option<u16>)>,
}

/// What became of it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Outcome<'a> {
    Accept,
    /// By a rule, or by a chain's policy.
    Drop {
        chain: &'a Chain,
        rule: Option<&'a Rule>,
    },
    /// A new source or destination.
    Translate {
        chain: &'a Chain,
        rule: &'a Rule,
        to: Translation,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Translation {
    /// The source becomes an address of the interface that it leaves by.
    Masquerade,
    Source(IpAddr, Option<u16>),
    Destination(IpAddr, Option<u16>),
    /// The destination becomes this host.
    Redirect(Option<u16>),
}

/// All that happens to a packet at a hook.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Passage<'a> {
    pub(crate) outcome: Outcome<'a>,
    /// Drops that may happen or not: the rules.
    pub(crate) maybe: Vec<(&'a Chain, &'a Rule)>,
    /// The mark it has afterwards.
    pub(crate) mark: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fits {
    Yes,
    No,
    Maybe,
}

/// Asks the chains of a hook.
pub(crate) fn pass<'a>(ruleset: &'a Ruleset, place: Place<'_>, packet: Packet) -> Passage<'a> {
    let mut chains: Vec<_> = ruleset.chains.iter().filter(|chain| is_asked(chain, place, packet)).collect();
    chains.sort_by_key(|chain| chain.priority);
    let mut walk = Walk { ruleset, place, packet, maybe: Vec::new() };
    for chain in chains {
        // Only a connection's first packet meets the chains of translation.
        if chain.kind == "nat" && (packet.reply || packet.error) {
            continue;
        }
        match walk.chain(chain, 0) {
            End::Drop(rule) => return walk.done(Outcome::Drop { chain, rule }),
            End::Translate(rule, to) => return walk.done(Outcome::Translate { chain, rule, to }),
            End::Return if chain.policy == "drop" => return walk.done(Outcome::Drop { chain, rule: None }),
            End::Accept | End::Return => {}
        }
    }
    walk.done(Outcome::Accept)
}

fn is_asked(chain: &Chain, place: Place<'_>, packet: Packet) -> bool {
    let family = match (place.bridged, packet.is_ipv6()) {
        (true, _) => chain.family == "bridge",
        (false, false) => matches!(chain.family.as_str(), "ip" | "inet"),
        (false, true) => matches!(chain.family.as_str(), "ip6" | "inet"),
    };
    if chain.is_of_devices() {
        let at = place.iif.or(place.oif).unwrap_or_default();
        return chain.hook == place.hook && chain.devices.iter().any(|device| device == at);
    }
    chain.hook == place.hook && family
}

struct Walk<'a, 'p> {
    ruleset: &'a Ruleset,
    place: Place<'p>,
    packet: Packet,
    maybe: Vec<(&'a Chain, &'a Rule)>,
}

enum End<'a> {
    Accept,
    Drop(Option<&'a Rule>),
    Translate(&'a Rule, Translation),
    /// Ran to the chain's end.
    Return,
}

impl End<'_> {
    const fn is_return(&self) -> bool {
        matches!(self, Self::Return)
    }
}

impl<'a> Walk<'a, '_> {
    fn done(self, outcome: Outcome<'a>) -> Passage<'a> {
        Passage { outcome, maybe: self.maybe, mark: self.packet.mark }
    }

    fn chain(&mut self, chain: &'a Chain, depth: usize) -> End<'a> {
        // The kernel refuses deeper ones (NFT_JUMP_STACK_SIZE).
        const DEEPEST: usize = 16;
        if depth > DEEPEST {
            return End::Return;
        }
        for rule in &chain.rules {
            match self.rule(chain, rule, depth) {
                Some(End::Return) => return End::Return,
                Some(end) => return end,
                None => {}
            }
        }
        End::Return
    }

    /// `None`: on to the next rule.
    fn rule(&mut self, chain: &'a Chain, rule: &'a Rule, depth: usize) -> Option<End<'a>> {
        let mut fits = Fits::Yes;
        for expr in &rule.expr {
            let (name, value) = expr.as_object()?.iter().next()?;
            match name.as_str() {
                "match" => match self.matches(chain, value) {
                    Fits::No => return None,
                    Fits::Maybe => fits = Fits::Maybe,
                    Fits::Yes => {}
                },
                "drop" | "reject" => {
                    if fits == Fits::Yes {
                        return Some(End::Drop(Some(rule)));
                    }
                    self.maybe.push((chain, rule));
                    return None;
                }
                "accept" => return (fits == Fits::Yes).then_some(End::Accept),
                "return" => return (fits == Fits::Yes).then_some(End::Return),
                "jump" | "goto" => {
                    let target = value.get("target").and_then(Value::as_str)?;
                    let to = self.ruleset.chains.iter().find(|other| {
                        (&other.family, &other.table, other.name.as_str()) == (&chain.family, &chain.table, target)
                    })?;
                    let end = self.chain(to, depth + 1);
                    if fits == Fits::Yes {
                        return if name == "jump" && end.is_return() { None } else { Some(end) };
                    }
                    if let End::Drop(Some(rule)) = end {
                        self.maybe.push((to, rule));
                    }
                    return None;
                }
                "vmap" => return self.verdict_map(chain, rule, value, depth),
                "masquerade" | "snat" | "dnat" | "redirect" => {
                    let to = translation(name, value)?;
                    return (fits == Fits::Yes).then_some(End::Translate(rule, to));
                }
                "mangle" => self.mangle(value),
                // These let some pass and some not.
                "limit" | "quota" | "ct count" | "connlimit" => fits = Fits::Maybe,
                // iptables' own matches: nft says no more than their names.
                "xt" => fits = Fits::Maybe,
                // Counters, logs, sets that are filled, marks of connections: they decide nothing.
                _ => {}
            }
        }
        None
    }

    fn verdict_map(&mut self, chain: &'a Chain, rule: &'a Rule, value: &'a Value, depth: usize) -> Option<End<'a>> {
        let seen = self.look(value.get("key")?)?;
        let data = value.get("data")?;
        let pairs = data.get("set").and_then(Value::as_array).or_else(|| Some(&self.set(chain, data)?.elements))?;
        for pair in pairs.iter().filter_map(Value::as_array) {
            let [key, verdict] = pair.as_slice() else { continue };
            if !self.equals(chain, &seen, key) {
                continue;
            }
            let (name, inside) = verdict.as_object()?.iter().next()?;
            return match name.as_str() {
                "accept" => Some(End::Accept),
                "drop" => Some(End::Drop(Some(rule))),
                "return" => Some(End::Return),
                "jump" | "goto" => {
                    let target = inside.get("target").and_then(Value::as_str)?;
                    let to = self.ruleset.chains.iter().find(|other| {
                        (&other.family, &other.table, other.name.as_str()) == (&chain.family, &chain.table, target)
                    })?;
                    let end = self.chain(to, depth + 1);
                    if name == "jump" && end.is_return() { None } else { Some(end) }
                }
                _ => None,
            };
        }
        None
    }

    fn set(&self, chain: &Chain, reference: &Value) -> Option<&'a Set> {
        let name = reference.as_str()?.strip_prefix('@')?;
        self.ruleset
            .sets
            .iter()
            .find(|set| (&set.family, &set.table, set.name.as_str()) == (&chain.family, &chain.table, name))
    }

    fn mangle(&mut self, value: &Value) {
        let is_mark = value.get("key").and_then(|key| key.get("meta")?.get("key")?.as_str()) == Some("mark");
        if let (true, Some(mark)) = (is_mark, value.get("value").and_then(Value::as_u64)) {
            self.packet.mark = mark as u32;
        }
    }

    fn matches(&self, chain: &Chain, value: &Value) -> Fits {
        let (Some(left), Some(right)) = (value.get("left"), value.get("right")) else { return Fits::Maybe };
        let op = value.get("op").and_then(Value::as_str).unwrap_or("==");
        let Some(seen) = self.look(left) else { return Fits::Maybe };
        if let Seen::NotThere = seen {
            return Fits::No;
        }
        let fits = match op {
            "==" | "in" => self.equals(chain, &seen, right),
            "!=" => !self.equals(chain, &seen, right),
            "<" | ">" | "<=" | ">=" => {
                let (Seen::Number(seen), Some(limit)) = (&seen, right.as_u64()) else { return Fits::Maybe };
                match op {
                    "<" => *seen < limit,
                    ">" => *seen > limit,
                    "<=" => *seen <= limit,
                    _ => *seen >= limit,
                }
            }
            _ => return Fits::Maybe,
        };
        if fits { Fits::Yes } else { Fits::No }
    }

    /// What the packet has where a match looks; `None`: doctor can't say.
    fn look(&self, left: &Value) -> Option<Seen> {
        let Self { place, packet, .. } = self;
        let (name, inside) = left.as_object()?.iter().next()?;
        let field = |key: &str| inside.get(key).and_then(Value::as_str);
        let kind = match (place.arp, packet.is_ipv6()) {
            (true, _) => "arp",
            (false, true) => "ip6",
            (false, false) => "ip",
        };
        let word = |word: Option<&str>| word.map_or(Seen::NotThere, |word| Seen::Word(word.to_owned()));
        Some(match name.as_str() {
            "meta" => match field("key")? {
                "iifname" | "iif" | "ibrname" => word(place.iif),
                "oifname" | "oif" | "obrname" => word(place.oif),
                "l4proto" | "nfproto" | "length" if place.arp => Seen::NotThere,
                "l4proto" => Seen::Word(packet_protocol(*packet).to_owned()),
                "nfproto" => Seen::Word(if packet.is_ipv6() { "ipv6" } else { "ipv4" }.to_owned()),
                "protocol" => Seen::Word(kind.to_owned()),
                "mark" => Seen::Number(packet.mark.into()),
                "length" => Seen::Number(packet.len.into()),
                "pkttype" => Seen::Word("host".to_owned()),
                _ => return None,
            },
            "payload" => match (field("protocol")?, field("field")?) {
                ("ether", "type") => Seen::Word(kind.to_owned()),
                ("ip" | "ip6" | "tcp" | "udp" | "th" | "icmp" | "icmpv6", _) if place.arp => Seen::NotThere,
                ("ip", "saddr") if !packet.is_ipv6() => Seen::Address(packet.source),
                ("ip", "daddr") if !packet.is_ipv6() => Seen::Address(packet.destination),
                ("ip6", "saddr") if packet.is_ipv6() => Seen::Address(packet.source),
                ("ip6", "daddr") if packet.is_ipv6() => Seen::Address(packet.destination),
                ("ip", "protocol") | ("ip6", "nexthdr") => Seen::Word(packet_protocol(*packet).to_owned()),
                ("ip", "length") => Seen::Number(packet.len.into()),
                ("ip" | "ip6", "saddr" | "daddr") => Seen::NotThere,
                ("tcp", "dport") | ("udp", "dport") | ("th", "dport") => {
                    self.port(field("protocol")?, packet.destination_port)
                }
                ("tcp", "sport") | ("udp", "sport") | ("th", "sport") => {
                    self.port(field("protocol")?, packet.source_port)
                }
                ("icmp" | "icmpv6", "type") if packet.protocol == Protocol::Icmp => {
                    let kind = match (packet.error, packet.is_ipv6(), packet.reply) {
                        (true, false, _) => "destination-unreachable",
                        (true, true, _) => "packet-too-big",
                        (false, _, true) => "echo-reply",
                        (false, _, false) => "echo-request",
                    };
                    Seen::Word(kind.to_owned())
                }
                ("tcp" | "udp" | "icmp" | "icmpv6" | "sctp", _) if field("protocol")? != packet_protocol(*packet) => {
                    Seen::NotThere
                }
                ("ether", "saddr") => Seen::Word(place.frame?.0.to_string()),
                ("ether", "daddr") => Seen::Word(place.frame?.1.to_string()),
                ("vlan", "id") => place.frame?.2.map_or(Seen::NotThere, |vlan| Seen::Number(vlan.into())),
                ("arp", "operation") if !place.arp => Seen::NotThere,
                _ => return None,
            },
            "ct" => match field("key")? {
                "state" => {
                    let state = match (packet.error, packet.reply) {
                        (true, _) => "related",
                        (false, true) => "established",
                        (false, false) => "new",
                    };
                    Seen::Word(state.to_owned())
                }
                "status" => Seen::Words(
                    [(packet.redirected, "dnat"), (packet.disguised, "snat"), (packet.reply, "seen-reply")]
                        .into_iter()
                        .filter_map(|(is_so, word)| is_so.then_some(word))
                        .collect(),
                ),
                "direction" => Seen::Word(if packet.reply { "reply" } else { "original" }.to_owned()),
                _ => return None,
            },
            _ => return None,
        })
    }

    fn port(&self, protocol: &str, port: u16) -> Seen {
        let fits = protocol == "th" && port != 0 || protocol == packet_protocol(self.packet);
        if fits { Seen::Number(port.into()) } else { Seen::NotThere }
    }

    fn equals(&self, chain: &Chain, seen: &Seen, right: &Value) -> bool {
        match right {
            Value::Array(items) => items.iter().any(|item| self.equals(chain, seen, item)),
            Value::String(text) if text.starts_with('@') => {
                self.set(chain, right).is_some_and(|set| set.elements.iter().any(|item| self.equals(chain, seen, item)))
            }
            Value::String(text) => match seen {
                Seen::Words(words) => words.contains(&text.as_str()),
                Seen::Word(word) => glob(text, word) || protocol_number(text) == Some(word.as_str()),
                Seen::Address(address) => text.parse() == Ok(*address),
                Seen::Number(number) => text.parse() == Ok(*number) || service(text) == Some(*number),
                Seen::NotThere => false,
            },
            Value::Number(value) => match seen {
                Seen::Number(number) => value.as_u64() == Some(*number),
                Seen::Word(word) => protocol_number(&value.to_string()) == Some(word.as_str()),
                Seen::Address(_) | Seen::NotThere | Seen::Words(_) => false,
            },
            Value::Object(object) => {
                let Some((name, inside)) = object.iter().next() else { return false };
                match (name.as_str(), seen) {
                    ("set", _) => self.equals(chain, seen, inside),
                    ("elem", _) => inside.get("val").is_some_and(|value| self.equals(chain, seen, value)),
                    ("prefix", Seen::Address(address)) => prefix(inside).is_some_and(|it| it.contains(*address)),
                    ("range", Seen::Number(number)) => {
                        let ends: Vec<_> = inside.as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
                        matches!(ends[..], [from, to] if (from..=to).contains(number))
                    }
                    ("range", Seen::Address(address)) => {
                        let ends = inside.as_array().into_iter().flatten().filter_map(Value::as_str);
                        let ends: Vec<IpAddr> = ends.filter_map(|end| end.parse().ok()).collect();
                        matches!(ends[..], [from, to] if (from..=to).contains(address))
                    }
                    _ => false,
                }
            }
            Value::Null | Value::Bool(_) => false,
        }
    }
}

/// What a match looks at, as the packet has it.
#[derive(Clone, PartialEq, Debug)]
enum Seen {
    Word(String),
    /// Any of them will do.
    Words(Vec<&'static str>),
    Number(u64),
    Address(IpAddr),
    /// A packet of this kind has no such field.
    NotThere,
}

fn packet_protocol(packet: Packet) -> &'static str {
    match packet.protocol {
        Protocol::Icmp if packet.is_ipv6() => "icmpv6",
        Protocol::Icmp => "icmp",
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// nft prints a protocol as a number if `/etc/protocols` is not there.
fn protocol_number(text: &str) -> Option<&'static str> {
    match text {
        "1" => Some("icmp"),
        "6" => Some("tcp"),
        "17" => Some("udp"),
        "58" | "ipv6-icmp" => Some("icmpv6"),
        _ => None,
    }
}

/// The names that nft prints for ports that matter here.
fn service(text: &str) -> Option<u64> {
    match text {
        "ssh" => Some(22),
        "domain" => Some(53),
        "http" => Some(80),
        "https" => Some(443),
        "vxlan" => Some(4789),
        _ => None,
    }
}

/// `eth*`
fn glob(pattern: &str, word: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => word.starts_with(start),
        None => pattern == word,
    }
}

fn prefix(value: &Value) -> Option<Prefix> {
    let address = value.get("addr")?.as_str()?.parse().ok()?;
    Some(Prefix { address, len: u8::try_from(value.get("len")?.as_u64()?).ok()? })
}

fn translation(name: &str, value: &Value) -> Option<Translation> {
    let address = value.get("addr").and_then(Value::as_str).and_then(|text| text.parse().ok());
    let port = value.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    Some(match name {
        "masquerade" => Translation::Masquerade,
        "redirect" => Translation::Redirect(port),
        "snat" => Translation::Source(address?, port),
        _ => Translation::Destination(address?, port),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::survey::nft;

    const RULES: &[u8] = br#"{"nftables": [
        {"chain": {"family": "inet", "table": "f", "name": "fwd", "type": "filter", "hook": "forward", "prio": 0,
            "policy": "drop"}},
        {"chain": {"family": "inet", "table": "f", "name": "web"}},
        {"chain": {"family": "ip", "table": "n", "name": "post", "type": "nat", "hook": "postrouting", "prio": 100,
            "policy": "accept"}},
        {"set": {"family": "inet", "table": "f", "name": "bad", "elem": ["10.0.0.66",
            {"prefix": {"addr": "10.6.0.0", "len": 16}}]}},
        {"rule": {"family": "inet", "table": "f", "chain": "fwd", "handle": 1, "expr": [
            {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}},
            {"accept": null}]}},
        {"rule": {"family": "inet", "table": "f", "chain": "fwd", "handle": 2, "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@bad"}},
            {"counter": {"packets": 3, "bytes": 9}}, {"drop": null}]}},
        {"rule": {"family": "inet", "table": "f", "chain": "fwd", "handle": 3, "expr": [
            {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "veth*"}},
            {"jump": {"target": "web"}}]}},
        {"rule": {"family": "inet", "table": "f", "chain": "web", "handle": 4, "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}},
                "right": {"set": [80, {"range": [8000, 8100]}]}}}, {"accept": null}]}},
        {"rule": {"family": "inet", "table": "f", "chain": "web", "handle": 5, "expr": [
            {"limit": {"rate": 1, "per": "second"}}, {"drop": null}]}},
        {"rule": {"family": "ip", "table": "n", "chain": "post", "handle": 6, "expr": [
            {"match": {"op": "!=", "left": {"meta": {"key": "oifname"}}, "right": "br0"}}, {"masquerade": null}]}}]}"#;

    fn forward(source: &str, port: u16, reply: bool) -> (String, usize) {
        let ruleset = nft::parse(RULES).unwrap();
        let place =
            Place { hook: "forward", iif: Some("veth1"), oif: Some("eth0"), bridged: false, arp: false, frame: None };
        let mut packet = Packet::echo(source.parse().unwrap(), [192, 0, 2, 1].into(), 84);
        packet.reply = reply;
        if port != 0 {
            (packet.protocol, packet.destination_port) = (Protocol::Tcp, port);
        }
        let passage = pass(&ruleset, place, packet);
        let outcome = match passage.outcome {
            Outcome::Accept => "accept".to_owned(),
            Outcome::Drop { rule: Some(rule), .. } => format!("rule {}", rule.handle),
            Outcome::Drop { chain, rule: None } => format!("policy of {}", chain.name),
            Outcome::Translate { rule, .. } => format!("translated by {}", rule.handle),
        };
        (outcome, passage.maybe.len())
    }

    #[test]
    fn rules_are_gone_through_as_the_kernel_does() {
        assert_eq!(forward("10.0.0.1", 8080, false), ("accept".to_owned(), 0));
        assert_eq!(forward("10.0.0.1", 443, false), ("policy of fwd".to_owned(), 1), "and perhaps the limit before");
        assert_eq!(forward("10.0.0.1", 443, true).0, "accept", "an answer");
        assert_eq!(forward("10.0.0.66", 80, false).0, "rule 2");
        assert_eq!(forward("10.6.7.8", 80, false).0, "rule 2", "by the prefix in the set");
    }

    #[test]
    fn translation_is_for_the_first_packet_and_this_family_alone() {
        let ruleset = nft::parse(RULES).unwrap();
        let place =
            Place { hook: "postrouting", iif: None, oif: Some("eth0"), bridged: false, arp: false, frame: None };
        let packet = Packet::echo([10, 0, 0, 1].into(), [192, 0, 2, 1].into(), 84);
        let outcome = |place, packet| pass(&ruleset, place, packet).outcome;
        assert!(matches!(outcome(place, packet), Outcome::Translate { to: Translation::Masquerade, .. }));
        assert_eq!(outcome(Place { oif: Some("br0"), ..place }, packet), Outcome::Accept);
        assert_eq!(outcome(place, Packet { reply: true, ..packet }), Outcome::Accept);
        assert_eq!(
            outcome(place, Packet::echo("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap(), 84)),
            Outcome::Accept
        );
    }
}
