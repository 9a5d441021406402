//! Options by name: what each is to the kernel's devices and in weft's configuration.
//!
//! To let cases use a new option, add its row to [`OPTIONS`]; nothing else has to know of it. A row with the right attribute
//! is enough for one whose key and values are the same on both sides, which they are by weft's own rule.

use super::case::Value;
use crate::control::config::VLAN_PROTOCOL_WORDS;

/// An option that cases can use.
#[derive(Clone, Copy, Debug)]
pub struct Knob {
    /// Its name in cases, the kernel's.
    pub name: &'static str,
    /// Whose it is.
    pub part: Part,
    /// How the kernel takes it.
    pub kernel: Kernel,
    /// What the kernel has if nobody says anything, put back after each case.
    pub default: Default,
    /// How weft's configuration has it.
    pub weft: Weft,
}

/// What has options.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// The bridge: `[[bridge]]`.
    Bridge,
    /// A port: `[[port]]`.
    Port,
    /// The overlay: the vxlan device; `[vtep]`, unless [`Weft::OfBridge`].
    Tunnel,
}

/// The value that [`Knob::default`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Default {
    /// On or off.
    Switch(bool),
    /// A number.
    Number(i64),
    /// A word.
    Word(&'static str),
}

/// How an option is set on the kernel's devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kernel {
    /// An attribute with this number, of the enumeration that belongs to the part: IFLA_BR_*, IFLA_BRPORT_* or
    /// IFLA_VXLAN_* (`include/uapi/linux/if_link.h`).
    Attribute(u16, Form),
    /// A bit of IFLA_BR_MULTI_BOOLOPT.
    Bool(u32),
    /// The interface's MTU.
    Mtu,
    /// Whether the vxlan device learns, and then the bridge's ports too: weft's bridge learns from both or from none.
    Learning,
    /// It has no such option: what weft can be set to is either its way or not.
    Absent,
}

/// The octets of an attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// One octet.
    U8,
    /// Two, in the host's order.
    U16,
    /// Four, in the host's order.
    U32,
    /// Two, in network order.
    Be16,
    /// None: that it is there is the value.
    Flag,
    /// A port's number in cases, its interface's index here.
    Port,
    /// The word `802.1Q` or `802.1ad`: two octets in network order.
    Tpid,
    /// Milliseconds in cases, hundredths of a second here, four octets.
    Centiseconds,
    /// Milliseconds in cases, seconds here, four octets.
    Seconds,
    /// Milliseconds in cases, hundredths of a second here, eight octets.
    LongCentiseconds,
    /// A switch in cases, the interface of the underlay here.
    Underlay,
    /// A word of these, by its place in one octet.
    Words(&'static [&'static str]),
    /// The word `min-max` as two numbers of two octets in network order.
    Range,
    /// The bits of a VXLAN header that are reserved, eight octets: the word `ignore`, none, or `0x` and their digits. Any other
    /// word leaves them as they are.
    ReservedBits,
}

/// How an option is written in weft's configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weft {
    /// By the same name, in the part's table.
    Same,
    /// By the same name, milliseconds as a duration.
    Duration,
    /// An option of the tunnel that is one of `[[bridge]]`, by the same name.
    OfBridge,
    /// A word of the option `encapsulation`.
    Encapsulation(&'static str),
    /// It has no such option, and what the kernel does with it is compared all the same.
    Absent,
}

const fn knob(name: &'static str, part: Part, kernel: Kernel, default: Default, weft: Weft) -> Knob {
    Knob { name, part, kernel, default, weft }
}

const fn port_switch(name: &'static str, attribute: u16, default: bool) -> Knob {
    knob(name, Part::Port, Kernel::Attribute(attribute, Form::U8), Default::Switch(default), Weft::Same)
}

const fn bridge_knob(name: &'static str, attribute: u16, form: Form, default: Default, weft: Weft) -> Knob {
    knob(name, Part::Bridge, Kernel::Attribute(attribute, form), default, weft)
}

const fn tunnel_switch(name: &'static str, kernel: Kernel) -> Knob {
    knob(name, Part::Tunnel, kernel, Default::Switch(false), Weft::Same)
}

/// A switch of a vxlan device that is one of `[[bridge]]`.
const fn bridge_switch(name: &'static str, attribute: u16) -> Knob {
    knob(name, Part::Tunnel, Kernel::Attribute(attribute, Form::U8), Default::Switch(false), Weft::OfBridge)
}

/// A switch of a vxlan device that is a word of `encapsulation`.
const fn encapsulation(name: &'static str, attribute: u16, word: &'static str) -> Knob {
    let kernel = Kernel::Attribute(attribute, Form::Flag);
    knob(name, Part::Tunnel, kernel, Default::Switch(false), Weft::Encapsulation(word))
}

const fn weft_only(name: &'static str, part: Part, default: &'static str) -> Knob {
    knob(name, part, Kernel::Absent, Default::Word(default), Weft::Same)
}

/// The option of a tunnel whose header says what is inside.
pub const GPE: &str = "gpe";

/// Every option.
pub const OPTIONS: &[Knob] = &[
    knob("ageing", Part::Bridge, Kernel::Attribute(4, Form::Centiseconds), Default::Number(300_000), Weft::Duration),
    knob("group_fwd_mask", Part::Bridge, Kernel::Attribute(9, Form::U16), Default::Number(0), Weft::Same),
    knob("fdb_max_learned", Part::Bridge, Kernel::Attribute(49, Form::U32), Default::Number(0), Weft::Same),
    weft_only("fdb_full", Part::Bridge, "refuse"),
    knob("no_linklocal_learn", Part::Bridge, Kernel::Bool(0), Default::Switch(false), Weft::Same),
    knob("mcast_snooping", Part::Bridge, Kernel::Attribute(23, Form::U8), Default::Switch(false), Weft::Same),
    bridge_knob("mcast_querier", 25, Form::U8, Default::Switch(false), Weft::Same),
    bridge_knob("mcast_hash_max", 27, Form::U32, Default::Number(4096), Weft::Same),
    bridge_knob("mcast_last_member_count", 28, Form::U32, Default::Number(2), Weft::Same),
    bridge_knob("mcast_last_member_interval", 30, Form::LongCentiseconds, Default::Number(1000), Weft::Duration),
    bridge_knob("mcast_membership_interval", 31, Form::LongCentiseconds, Default::Number(260_000), Weft::Duration),
    bridge_knob("mcast_querier_interval", 32, Form::LongCentiseconds, Default::Number(255_000), Weft::Duration),
    bridge_knob("mcast_query_response_interval", 34, Form::LongCentiseconds, Default::Number(10_000), Weft::Duration),
    bridge_knob("mcast_igmp_version", 43, Form::U8, Default::Number(2), Weft::Same),
    bridge_knob("mcast_mld_version", 44, Form::U8, Default::Number(1), Weft::Same),
    knob("vlan_protocol", Part::Bridge, Kernel::Attribute(8, Form::Tpid), Default::Word("802.1Q"), Weft::Same),
    knob("vlan_default_pvid", Part::Bridge, Kernel::Attribute(39, Form::U16), Default::Number(0), Weft::Absent),
    knob("mtu", Part::Port, Kernel::Mtu, Default::Number(1500), Weft::Same),
    port_switch("hairpin", 4, false),
    port_switch("learning", 8, true),
    port_switch("flood", 9, true),
    port_switch("mcast_flood", 27, true),
    port_switch("bcast_flood", 30, true),
    port_switch("isolated", 33, false),
    port_switch("locked", 39, false),
    port_switch("mab", 40, false),
    port_switch("neigh_suppress", 32, false),
    port_switch("proxy_arp", 10, false),
    port_switch("proxy_arp_wifi", 12, false),
    port_switch("mcast_fast_leave", 7, false),
    port_switch("mcast_to_unicast", 28, false),
    knob("mcast_router", Part::Port, Kernel::Attribute(25, Form::U8), Default::Number(1), Weft::Same),
    knob("mcast_max_groups", Part::Port, Kernel::Attribute(42, Form::U32), Default::Number(0), Weft::Same),
    knob("group_fwd_mask", Part::Port, Kernel::Attribute(31, Form::U16), Default::Number(0), Weft::Same),
    knob(
        "state",
        Part::Port,
        Kernel::Attribute(1, Form::Words(&["disabled", "listening", "learning", "forwarding", "blocking"])),
        Default::Word("forwarding"),
        Weft::Same,
    ),
    knob("backup_port", Part::Port, Kernel::Attribute(34, Form::Port), Default::Number(0), Weft::Same),
    knob("ageing", Part::Tunnel, Kernel::Attribute(8, Form::Seconds), Default::Number(300_000), Weft::Absent),
    knob("learning", Part::Tunnel, Kernel::Learning, Default::Switch(true), Weft::OfBridge),
    knob("ttl", Part::Tunnel, Kernel::Attribute(5, Form::U8), Default::Number(0), Weft::Same),
    knob("tos", Part::Tunnel, Kernel::Attribute(6, Form::U8), Default::Number(0), Weft::Same),
    knob(
        "df",
        Part::Tunnel,
        Kernel::Attribute(29, Form::Words(&["unset", "set", "inherit"])),
        Default::Word("unset"),
        Weft::Same,
    ),
    knob(
        "source_port_range",
        Part::Tunnel,
        Kernel::Attribute(10, Form::Range),
        Default::Word("49152-65535"),
        Weft::Same,
    ),
    knob("port", Part::Tunnel, Kernel::Attribute(15, Form::Be16), Default::Number(4789), Weft::Same),
    knob("dev", Part::Tunnel, Kernel::Attribute(3, Form::Underlay), Default::Switch(false), Weft::Absent),
    knob("reserved_bits", Part::Tunnel, Kernel::Attribute(33, Form::ReservedBits), Default::Word("drop"), Weft::Same),
    bridge_switch("proxy", 11),
    bridge_switch("rsc", 12),
    bridge_switch("l2miss", 13),
    bridge_switch("l3miss", 14),
    knob("udpcsum", Part::Tunnel, Kernel::Attribute(18, Form::U8), Default::Switch(true), Weft::Same),
    encapsulation("gbp", 23, "vxlan-gbp"),
    encapsulation(GPE, 27, "vxlan-gpe"),
    tunnel_switch("localbypass", Kernel::Attribute(31, Form::U8)),
    knob("vxlan_learning", Part::Tunnel, Kernel::Attribute(7, Form::U8), Default::Switch(true), Weft::OfBridge),
    knob("maxaddress", Part::Tunnel, Kernel::Attribute(9, Form::U32), Default::Number(0), Weft::OfBridge),
    weft_only("peers", Part::Tunnel, "any"),
    weft_only("ecn", Part::Tunnel, "kernel"),
    weft_only("inner_vlan", Part::Tunnel, "pass"),
    weft_only("oversize", Part::Tunnel, "outer"),
];

/// The option of this name.
pub fn find(part: Part, name: &str) -> Option<&'static Knob> {
    OPTIONS.iter().find(|knob| knob.part == part && knob.name == name)
}

impl Form {
    /// The octets for a value; `None`: this form has no such value, such as the word `default`, which leaves each side its own.
    pub fn octets(self, value: &Value) -> Option<Vec<u8>> {
        Some(match (self, value) {
            (Self::U8, Value::Switch(on)) => vec![u8::from(*on)],
            (Self::U8, Value::Number(number)) => vec![u8::try_from(*number).ok()?],
            // `tos inherit` is 1, and `ttl inherit` has an attribute of its own.
            (Self::U8, Value::Word(word)) if word == "inherit" => vec![1],
            (Self::Flag, Value::Switch(true)) => vec![],
            (Self::U16, Value::Number(number)) => u16::try_from(*number).ok()?.to_ne_bytes().to_vec(),
            (Self::U32, Value::Number(number)) => u32::try_from(*number).ok()?.to_ne_bytes().to_vec(),
            (Self::Be16, Value::Number(number)) => u16::try_from(*number).ok()?.to_be_bytes().to_vec(),
            (Self::Centiseconds, Value::Number(ms)) => u32::try_from(*ms / 10).ok()?.to_ne_bytes().to_vec(),
            (Self::LongCentiseconds, Value::Number(ms)) => u64::try_from(*ms / 10).ok()?.to_ne_bytes().to_vec(),
            (Self::Seconds, Value::Number(ms)) => u32::try_from(*ms / 1000).ok()?.to_ne_bytes().to_vec(),
            (Self::Words(words), Value::Word(word)) => {
                vec![u8::try_from(words.iter().position(|known| known == word)?).ok()?]
            }
            (Self::Range, Value::Word(word)) => {
                let (min, max) = range(word)?;
                [min.to_be_bytes(), max.to_be_bytes()].concat()
            }
            (Self::Tpid, Value::Word(word)) => {
                let (_, tpid) = VLAN_PROTOCOL_WORDS.iter().find(|(known, _)| known == word)?;
                (*tpid as u16).to_be_bytes().to_vec()
            }
            // The bits that the device takes for reserved: none.
            (Self::ReservedBits, Value::Word(word)) if word == "ignore" => vec![0; 8],
            (Self::ReservedBits, Value::Word(word)) => {
                u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()?.to_be_bytes().to_vec()
            }
            (_, Value::Switch(_) | Value::Number(_) | Value::Word(_)) => return None,
        })
    }
}

/// The two numbers of `min-max`.
pub fn range(word: &str) -> Option<(u16, u16)> {
    let (min, max) = word.split_once('-')?;
    Some((min.parse().ok()?, max.parse().ok()?))
}

impl Knob {
    /// Whether its number is a time, in milliseconds.
    pub const fn is_time(&self) -> bool {
        let here = matches!(self.weft, Weft::Duration);
        let of_kernel =
            matches!(self.kernel, Kernel::Attribute(_, Form::Centiseconds | Form::LongCentiseconds | Form::Seconds));
        here || of_kernel
    }

    /// The line of weft's configuration for a value.
    pub fn line(&self, value: &Value) -> String {
        let duration = match self.weft {
            Weft::Absent => return String::new(),
            Weft::Same | Weft::OfBridge => false,
            Weft::Duration => true,
            Weft::Encapsulation(word) => return format!("encapsulation = {word:?}\n"),
        };
        let text = match value {
            Value::Switch(on) => on.to_string(),
            Value::Number(0) if duration => "\"0\"".to_owned(),
            Value::Number(ms) if duration => format!("\"{ms}ms\""),
            Value::Number(number) => number.to_string(),
            Value::Word(word) => match range(word) {
                Some((min, max)) => format!("[{min}, {max}]"),
                None => format!("{word:?}"),
            },
        };
        format!("{} = {text}\n", self.name)
    }
}

impl From<Default> for Value {
    fn from(default: Default) -> Self {
        match default {
            Default::Switch(on) => Self::Switch(on),
            Default::Number(number) => Self::Number(number),
            Default::Word(word) => Self::Word(word.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_there_once_and_its_default_can_be_put_back() {
        for knob in OPTIONS {
            assert_eq!(OPTIONS.iter().filter(|other| (other.part, other.name) == (knob.part, knob.name)).count(), 1);
            // A vxlan device is made anew.
            if let (Kernel::Attribute(_, form), Part::Bridge | Part::Port) = (knob.kernel, knob.part)
                && form != Form::Port
            {
                assert!(form.octets(&knob.default.into()).is_some(), "{}", knob.name);
            }
        }
    }

    #[test]
    fn values_are_octets_here_and_toml_there() {
        let ageing = find(Part::Bridge, "ageing").unwrap();
        assert_eq!(Form::Centiseconds.octets(&Value::Number(1000)), Some(100_u32.to_ne_bytes().to_vec()));
        assert_eq!(ageing.line(&Value::Number(1000)), "ageing = \"1000ms\"\n");
        assert_eq!(find(Part::Port, "hairpin").unwrap().line(&Value::Switch(true)), "hairpin = true\n");
        assert_eq!(find(Part::Tunnel, "df").unwrap().line(&Value::Word("set".into())), "df = \"set\"\n");
        let range = find(Part::Tunnel, "source_port_range").unwrap();
        assert_eq!(range.line(&Value::Word("1000-2000".into())), "source_port_range = [1000, 2000]\n");
        assert_eq!(Form::U8.octets(&Value::Number(256)), None);
    }
}
