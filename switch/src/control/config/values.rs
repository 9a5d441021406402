//! Single values: from what the text says to what it means. Pure; each refusal says what would be right.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use weft_vxlan::{ReservedBits, Vni};

use super::types::{Cidr, MCAST_ROUTERS, NETNS_DIRECTORY, NetnsName, Pin, RESERVED_BITS_WORDS, Tos, Ttl};
use crate::{
    bridge::{Prefix, Station},
    snoop::{Group, Router},
    sys::{affinity::MAX_CPUS, inherited::Handle},
    wire::{MacAddr, VlanId, membership::is_for_everybody},
};

/// Why a value is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) help: String,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

type Checked<T> = Result<T, Wrong>;

/// Longest name of an interface: `IFNAMSIZ` (include/uapi/linux/if.h) less the terminating zero.
const INTERFACE_NAME_MAX_LEN: usize = 15;
/// The longest time that IEEE 802.1Q (table 8-6) and the kernel's switchdev (`BR_MAX_AGEING_TIME`) allow.
const MAX_AGEING: Duration = Duration::from_secs(1_000_000);
/// The kernel takes ageing times in hundredths of a second (`USER_HZ`).
const MIN_AGEING: Duration = Duration::from_millis(10);
/// Shorter times than the kernel can be told, in hundredths of a second, are nobody's wish; 100 ms is what a query can say.
const MIN_MCAST_INTERVAL: Duration = Duration::from_millis(100);
/// A member that may be silent for a day has been forgotten by its users.
const MAX_MCAST_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Ten times what any round trip through a switch should take.
const MAX_BUSY_POLL: Duration = Duration::from_millis(10);
/// At least a datagram of 64 KiB; the kernel doubles what it is told and keeps it in an int (`net/core/sock.c`:
/// __sock_set_rcvbuf).
const BUFFER_SIZES: RangeInclusive<usize> = 64 << 10..=512 << 20;
/// At least a batch, so that reading one empties no more than the queue; at most what fits 1 MiB of pointers for each
/// worker, which the kernel allocates whether they are used or not.
const QUEUE_LENGTHS: (i64, i64) = (32, 131_072);
/// Longest path of a unix socket: `sun_path` (include/uapi/linux/un.h) less the terminating zero.
const SOCKET_PATH_MAX_LEN: usize = 107;
/// Bits 0 to 2 of a bridge's forward mask, which the kernel refuses (`BR_GROUPFWD_RESTRICTED`, net/bridge/br_private.h).
const GROUP_FWD_RESTRICTED: u16 = 0x0007;
/// Bit 1 of a port's forward mask, which the kernel refuses there (`BR_GROUPFWD_MACPAUSE`, net/bridge/br_private.h).
const GROUP_FWD_PAUSE: u16 = 0x0002;
/// A search that begins anew with every other packet would find nothing better.
const MIN_PATH_MTU_AGEING: Duration = Duration::from_secs(5);
/// The two low bits of TOS and traffic class (RFC 3168 section 5).
const ECN_BITS: u8 = 0x03;

/// An ageing time: a number with its unit, or "0" for "learn nothing".
pub(super) fn ageing(text: &str) -> Checked<Duration> {
    let example = "write a number with its unit, such as \"300s\", \"5min\" or \"1h 30min\"; \"0\" learns nothing";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let time = humantime::parse_duration(text)
        .map_err(|error| Wrong::new(format!("`{text}` is not a duration: {error}"), example))?;
    if !time.is_zero() && time < MIN_AGEING {
        return Err(Wrong::new(format!("an ageing time of {text} is too short"), "at least \"10ms\", or \"0\""));
    }
    if time > MAX_AGEING {
        let help = "at most \"1000000s\" (11 days), as in IEEE 802.1Q and the kernel";
        return Err(Wrong::new(format!("an ageing time of {text} is too long"), help));
    }
    Ok(time)
}

/// How long a smaller path MTU is believed without another look.
pub(super) fn path_mtu_ageing(text: &str) -> Checked<Duration> {
    let example = "write a number with its unit, such as \"10min\" or \"30s\"";
    let time = humantime::parse_duration(text)
        .map_err(|error| Wrong::new(format!("`{text}` is not a duration: {error}"), example))?;
    if !(MIN_PATH_MTU_AGEING..=MAX_AGEING).contains(&time) {
        let help = "\"5s\" to \"1000000s\"; RFC 1191 recommends \"10min\"";
        return Err(Wrong::new(format!("an ageing time of {text} for path MTUs is out of range"), help));
    }
    Ok(time)
}

/// For how long a worker may look for frames: a number with its unit, or "0" for "not at all".
pub(super) fn busy_poll(text: &str) -> Checked<Duration> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let example = "write a number with its unit, such as \"50us\" or \"200us\"; \"0\" sleeps at once";
    let time = humantime::parse_duration(text)
        .map_err(|error| Wrong::new(format!("`{text}` is not a duration: {error}"), example))?;
    if time > MAX_BUSY_POLL {
        let help = "at most \"10ms\": whoever waits longer than that for frames can as well sleep";
        return Err(Wrong::new(format!("{text} of busy polling is too long"), help));
    }
    Ok(time)
}

/// Where workers run: a truth value, or the numbers of CPUs.
pub(super) fn pin(value: Result<bool, Vec<i64>>) -> Checked<Pin> {
    let numbers = match value {
        Ok(false) => return Ok(Pin::No),
        Ok(true) => return Ok(Pin::InOrder),
        Err(numbers) => numbers,
    };
    if numbers.is_empty() {
        return Err(Wrong::new("workers can't be pinned to no CPU", "such as [0, 2]; false lets them run anywhere"));
    }
    let mut cpus = Vec::new();
    for number in numbers {
        let cpu = usize::try_from(number).ok().filter(|&cpu| cpu < MAX_CPUS);
        let cpu = cpu.ok_or_else(|| {
            Wrong::new(format!("{number} is not the number of a CPU"), format!("0 to {}", MAX_CPUS - 1))
        })?;
        if cpus.contains(&cpu) {
            return Err(Wrong::new(format!("CPU {cpu} is twice in the list"), "each CPU once"));
        }
        cpus.push(cpu);
    }
    Ok(Pin::To(cpus))
}

/// The size of a socket's buffer: a number with KiB or MiB behind it.
pub(super) fn buffer(text: &str) -> Checked<usize> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20)];
    let found = units.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?.trim_end(), *bytes)));
    let digits = found.filter(|(number, _)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    let Some((number, unit)) = digits else {
        let help = "a whole number with its unit, such as \"512KiB\" or \"8MiB\"";
        return Err(Wrong::new(format!("`{text}` is not a size"), help));
    };
    let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    bytes
        .filter(|bytes| BUFFER_SIZES.contains(bytes))
        .ok_or_else(|| Wrong::new(format!("a buffer of {text} is out of range"), "\"64KiB\" to \"512MiB\""))
}

/// Frames that a tap holds for each worker.
pub(super) fn queue_length(number: i64) -> Checked<u32> {
    within(number, QUEUE_LENGTHS.0, QUEUE_LENGTHS.1)
        .map(|length| length as u32)
        .map_err(|wrong| Wrong { message: format!("a queue of {number} frames is out of range"), ..wrong })
}

/// The path of a unix socket.
pub(super) fn socket(text: &str) -> Checked<PathBuf> {
    if text.is_empty() || text.contains('\0') || text.ends_with('/') {
        return Err(Wrong::new(format!("`{text}` is not the path of a socket"), "such as \"/run/weft/weft.sock\""));
    }
    if text.len() > SOCKET_PATH_MAX_LEN {
        let message = format!("the path has {} bytes, too long for a unix socket", text.len());
        return Err(Wrong::new(message, format!("at most {SOCKET_PATH_MAX_LEN} bytes")));
    }
    Ok(PathBuf::from(text))
}

/// The name of a bridge.
pub(super) fn bridge_name(text: &str) -> Checked<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > 15 || !text.chars().all(good) {
        let help = "1 to 15 characters of A-Z a-z 0-9 . _ -";
        return Err(Wrong::new(format!("`{text}` can't be the name of a bridge"), help));
    }
    Ok(text.to_owned())
}

/// The name of an interface, as `dev_valid_name` (net/core/dev.c) has it; also without `%`, which TUNSETIFF takes for a
/// pattern, and without anything that a terminal can't show.
pub(super) fn interface_name(text: &str) -> Checked<String> {
    let refuse = |why: &str, help: &str| Err(Wrong::new(format!("`{text}` can't name an interface: {why}"), help));
    if text.is_empty() {
        return refuse("it is empty", "such as \"eth0\"");
    }
    if text.len() > INTERFACE_NAME_MAX_LEN {
        let why = format!("it has {} characters", text.len());
        return refuse(&why, "at most 15 characters: the kernel has no room for more");
    }
    if text == "." || text == ".." {
        return refuse("the kernel keeps it for directories", "such as \"eth0\"");
    }
    if let Some((netns, name)) = text.rsplit_once('/') {
        return refuse(
            "it contains `/`",
            &format!("write the namespace by itself: name = \"{name}\", netns = \"{netns}\""),
        );
    }
    if let Some(bad) = text.chars().find(|&c| !c.is_ascii_graphic() || c == ':' || c == '%') {
        return refuse(&format!("it contains {bad:?}"), "letters, digits and . _ - are always good");
    }
    Ok(text.to_owned())
}

/// A namespace. A path straight under /run/netns is the same as the name there.
pub(super) fn netns(text: &str) -> Checked<NetnsName> {
    let help = "a name under /run/netns, an absolute path, \"pid:1234\", or \"fd:3\"";
    if let Some(handle) = text.strip_prefix("fd:") {
        return descriptor(handle).map(NetnsName::Descriptor);
    }
    if let Some(pid) = text.strip_prefix("pid:") {
        let pid = pid.parse().ok().filter(|&pid| pid != 0 && i32::try_from(pid).is_ok());
        return pid.map(NetnsName::Pid).ok_or_else(|| Wrong::new(format!("`{text}` is no process"), help));
    }
    if text.starts_with('/') && !text.contains('\0') {
        let path = Path::new(text);
        let named = path.strip_prefix(NETNS_DIRECTORY).or_else(|_| path.strip_prefix("/var/run/netns"));
        return Ok(match named.ok().and_then(Path::to_str) {
            Some(name) if is_netns_name(name) => NetnsName::Named(name.to_owned()),
            Some(_) | None => NetnsName::Path(path.to_owned()),
        });
    }
    if text == "." {
        return Ok(NetnsName::Own);
    }
    if is_netns_name(text) {
        return Ok(NetnsName::Named(text.to_owned()));
    }
    Err(Wrong::new(format!("`{text}` does not name a network namespace"), help))
}

/// A descriptor by its number, or by its name in `LISTEN_FDNAMES`.
fn descriptor(text: &str) -> Checked<Handle> {
    let is_name =
        |text: &str| !text.starts_with('-') && text.chars().all(|c| c.is_ascii_graphic() && c != '/' && c != ':');
    let help = "a number from 3 to 1023 of a descriptor that weft is started with, or its name in LISTEN_FDNAMES";
    match text.parse() {
        Ok(number @ 3..=1023) => Ok(Handle::Number(number)),
        Err(_) if !text.is_empty() && !text.bytes().all(|c| c.is_ascii_digit()) && is_name(text) => {
            Ok(Handle::Name(text.to_owned()))
        }
        Ok(_) | Err(_) => Err(Wrong::new(format!("`fd:{text}` is no descriptor"), help)),
    }
}

fn is_netns_name(text: &str) -> bool {
    let fits = (1..=255).contains(&text.len()) && text != "." && text != "..";
    fits && !text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control())
}

/// An underlay address that can be somebody's: no multicast, no wildcard, no link-local.
pub(super) fn vtep_ip(text: &str) -> Checked<IpAddr> {
    if let Some((address, _)) = text.split_once('%') {
        return Err(link_local(address));
    }
    if let Some((address, _)) = text.split_once('/') {
        let message = format!("`{text}` has a prefix length, and a VTEP is one address");
        return Err(Wrong::new(message, format!("\"{address}\"")));
    }
    let address = text.parse().map_err(|_| {
        let help = "an address such as \"192.0.2.1\" or \"2001:db8::1\"; names are not looked up";
        Wrong::new(format!("`{text}` is not an IP address"), help)
    })?;
    usable_vtep(address)?;
    Ok(address)
}

/// A remote VTEP: an address, or address and port; without a port it has `default_port`.
pub(super) fn vtep(text: &str, default_port: u16) -> Checked<SocketAddr> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(Wrong::new(format!("port 0 in `{text}`"), "1 to 65535")),
        Ok(SocketAddr::V6(address)) if address.scope_id() != 0 => Err(link_local(&address.ip().to_string())),
        Ok(address) => usable_vtep(address.ip()).map(|()| address),
        Err(_) if text.parse::<IpAddr>().is_ok() || text.contains(['%', '/']) => {
            vtep_ip(text).map(|address| SocketAddr::new(address, default_port))
        }
        Err(_) => {
            let help = "an address, perhaps with a port: \"192.0.2.2\", \"192.0.2.2:8472\", \"2001:db8::2\", \
                        \"[2001:db8::2]:8472\"";
            Err(Wrong::new(format!("`{text}` is not a VTEP's address"), help))
        }
    }
}

fn usable_vtep(address: IpAddr) -> Checked<()> {
    let refuse = |what: &str, help: &str| Err(Wrong::new(format!("{address} is {what}, and no VTEP has it"), help));
    match address {
        _ if address.is_multicast() => {
            refuse("multicast", "name each VTEP by its own address: weft sends a copy to each (head-end replication)")
        }
        _ if address.is_unspecified() => refuse("the unspecified address", "the VTEP's own underlay address"),
        IpAddr::V4(v4) if v4.is_broadcast() => refuse("broadcast", "the VTEP's own underlay address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Err(link_local(&v6.to_string())),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => refuse("an IPv4 address in IPv6's clothes", &format!("\"{v4}\"")),
            None => Ok(()),
        },
        IpAddr::V4(_) => Ok(()),
    }
}

fn link_local(address: &str) -> Wrong {
    let message = format!("{address} is link-local, which weft does not support as an underlay address");
    Wrong::new(message, "a global or unique local address, such as \"2001:db8::1\" or \"fd00::1\"")
}

/// An interface's address with its prefix length.
pub(super) fn cidr(text: &str) -> Checked<Cidr> {
    let help = "an address with its prefix length, such as \"10.10.0.1/24\" or \"2001:db8::1/64\"";
    let bad = |why: &str| Wrong::new(format!("`{text}` {why}"), help);
    let (address, prefix) = text.split_once('/').ok_or_else(|| bad("has no prefix length"))?;
    let address: IpAddr = address.parse().map_err(|_| bad("is not an IP address with a prefix length"))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let digits = !prefix.is_empty() && prefix.len() <= 3 && prefix.bytes().all(|b| b.is_ascii_digit());
    let prefix_len = Some(prefix).filter(|_| digits).and_then(|prefix| prefix.parse::<u8>().ok());
    let Some(prefix_len) = prefix_len.filter(|&len| len <= most) else {
        return Err(Wrong::new(format!("`/{prefix}` is not a prefix length"), format!("/0 to /{most}")));
    };
    if address.is_multicast() || address.is_unspecified() {
        return Err(bad("is not an address that an interface can have"));
    }
    Ok(Cidr { address, prefix_len })
}

/// An address that one station can have.
pub(super) fn station_mac(text: &str) -> Checked<MacAddr> {
    let example = "such as \"02:00:00:00:00:0a\"";
    let mac: MacAddr = text.parse().map_err(|_| {
        Wrong::new(format!("`{text}` is not a MAC address"), format!("six pairs of hexadecimal digits, {example}"))
    })?;
    match mac {
        _ if mac.is_zero() => Err(Wrong::new(format!("{mac} is nobody's address"), example)),
        _ if mac.is_broadcast() => Err(Wrong::new(format!("{mac} is the broadcast address"), example)),
        _ if mac.is_multicast() => {
            let [first, rest @ ..] = mac.octets();
            let [b, c, d, e, f] = rest;
            let help = format!("the first octet must be even, such as {}", MacAddr::new([first & !1, b, c, d, e, f]));
            Err(Wrong::new(format!("{mac} is a multicast address"), help))
        }
        _ => Ok(mac),
    }
}

/// The IP address of a station, for which it can be asked with ARP or a neighbour solicitation.
pub(super) fn station_ip(text: &str) -> Checked<IpAddr> {
    let example = "such as \"10.10.0.2\" or \"fd00:10::2\"";
    let ip: IpAddr = text.parse().map_err(|_| match text.split_once('/') {
        Some((address, _)) => {
            Wrong::new(format!("`{text}` has a prefix length, and a station is one address"), format!("\"{address}\""))
        }
        None => Wrong::new(format!("`{text}` is not an IP address"), example),
    })?;
    let what = match ip {
        _ if ip.is_multicast() => "a multicast address",
        _ if ip.is_unspecified() => "the unspecified address",
        _ if ip.is_loopback() => "a loopback address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4 address in IPv6's clothes",
        IpAddr::V4(_) | IpAddr::V6(_) => return Ok(ip),
    };
    Err(Wrong::new(format!("{ip} is {what}, and no station has it"), example))
}

/// A station that may speak at a port: its MAC address, and perhaps IP addresses or prefixes behind it, as OVN writes it
/// (ovn-nb(5), `port_security`).
pub(super) fn station(text: &str) -> Checked<Station> {
    let mut words = text.split_ascii_whitespace();
    let help =
        "a MAC address, perhaps with IP addresses or prefixes behind it: \"02:00:00:00:00:0a 10.10.0.1 fd00::/64\"";
    let mac = words.next().ok_or_else(|| Wrong::new("an empty text names no station", help))?;
    let address = |word: &str| {
        let Some((address, len)) = word.split_once('/') else {
            let address = station_ip(word)?;
            return Ok(Prefix { address, len: if address.is_ipv4() { 32 } else { 128 } });
        };
        let address: IpAddr =
            address.parse().map_err(|_| Wrong::new(format!("`{word}` is no IP address with a prefix length"), help))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let len = len.parse::<u8>().ok().filter(|len| *len <= most);
        let len =
            len.ok_or_else(|| Wrong::new(format!("`{word}` has no good prefix length"), format!("/0 to /{most}")))?;
        Ok(Prefix { address, len })
    };
    Ok(Station { mac: station_mac(mac)?, addresses: words.map(address).collect::<Result<_, _>>()? })
}

/// A time of multicast snooping. `is_query`: the time between queries.
pub(super) fn mcast_interval(text: &str, is_query: bool) -> Checked<Duration> {
    let example = "write a number with its unit, such as \"125s\" or \"1s 500ms\"";
    let time = humantime::parse_duration(text)
        .map_err(|error| Wrong::new(format!("`{text}` is not a duration: {error}"), example))?;
    let (least, most) = (if is_query { Duration::from_secs(1) } else { MIN_MCAST_INTERVAL }, MAX_MCAST_INTERVAL);
    if !(least..=most).contains(&time) {
        let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
        return Err(Wrong::new(format!("an interval of {text} is out of range"), format!("\"{least}\" to \"{most}\"")));
    }
    Ok(time)
}

/// Whether a multicast router is behind a port.
pub(super) fn mcast_router(number: i64) -> Checked<Router> {
    let found = MCAST_ROUTERS.iter().find(|(known, _)| *known == number);
    found.map(|(_, router)| *router).ok_or_else(|| {
        let help = "0: there is none; 1: there is one if it says so; 2: there is one";
        Wrong::new(format!("`mcast_router` can't be {number}"), help)
    })
}

/// A multicast group that can be joined.
pub(super) fn group(text: &str) -> Checked<Group> {
    let example = "a group's address, such as \"239.1.1.1\", \"ff0e::1\" or \"01:02:03:04:05:06\"";
    if let Ok(group) = text.parse::<IpAddr>() {
        let help = match is_for_everybody(group) {
            _ if !group.is_multicast() => "an address from 224.0.0.0/4 or ff00::/8",
            true => "everybody gets its frames anyway",
            false => return Ok(Group::Ip(group)),
        };
        return Err(Wrong::new(format!("{group} is no group that can be joined"), help));
    }
    let mac: MacAddr = text.parse().map_err(|_| Wrong::new(format!("`{text}` is not a group's address"), example))?;
    match mac {
        _ if !mac.is_multicast() => Err(Wrong::new(format!("{mac} is a station's address"), example)),
        MacAddr::BROADCAST => Err(Wrong::new("the broadcast address is no group", example)),
        _ => Ok(Group::Mac(mac)),
    }
}

/// A source of `group`.
pub(super) fn group_source(text: &str, group: Group) -> Checked<IpAddr> {
    let source = station_ip(text)?;
    match group {
        Group::Ip(group) if group.is_ipv4() != source.is_ipv4() => {
            Err(Wrong::new(format!("{source} and the group {group} are of two IP versions"), "a source of the group's"))
        }
        Group::Mac(mac) if !mac.is_zero() => Err(Wrong::new(
            format!("the Ethernet group {mac} has no sources"),
            "take `source` out, or name an IP group",
        )),
        Group::Ip(_) | Group::Mac(_) => Ok(source),
    }
}

/// A VLAN identifier as the key of a trunk's table.
pub(super) fn vlan_key(text: &str) -> Checked<VlanId> {
    let help = "a VLAN identifier from 1 to 4094, such as: trunk = { 10 = \"blue\" }";
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if !plain && text != "0" {
        return Err(Wrong::new(format!("`{text}` is not a VLAN identifier"), help));
    }
    let vlan = text.parse().ok().and_then(VlanId::new);
    vlan.ok_or_else(|| Wrong::new(format!("VLAN {text} is out of range"), help))
}

/// A VXLAN network identifier.
pub(super) fn vni(number: i64) -> Checked<Vni> {
    let vni = u32::try_from(number).ok().and_then(Vni::new);
    vni.ok_or_else(|| Wrong::new(format!("VNI {number} does not fit 24 bits"), format!("0 to {}", Vni::MAX)))
}

/// A bridge's forward mask.
pub(super) fn group_fwd_mask(number: i64) -> Checked<u16> {
    let mask = mask(number, "one bit for each of 01-80-C2-00-00-03 to -0F, so 0 to 0xfff8")?;
    if mask & GROUP_FWD_RESTRICTED != 0 {
        let message = format!("{mask:#x} forwards what a bridge must keep: bits 0 to 2 can't be set");
        let help = format!(
            "without them, {:#x}; the kernel refuses STP, pause frames and LACP as well",
            mask & !GROUP_FWD_RESTRICTED
        );
        return Err(Wrong::new(message, help));
    }
    Ok(mask)
}

/// Which reserved bits of a VXLAN header are refused: a word, or a mask of its 64 bits as iproute2 writes it.
pub(super) fn reserved_bits(text: &str) -> Checked<ReservedBits> {
    if let Some((_, bits)) = RESERVED_BITS_WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(*bits);
    }
    let digits = text.strip_prefix("0x").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let Some(mask) = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else {
        let help = "\"drop\", \"ignore\", or the bits that are refused, such as \"0xf7ffffff000000ff\"";
        return Err(Wrong::new(format!("`{text}` is not a mask of 64 bits"), help));
    };
    ReservedBits::of_mask(mask).ok_or_else(|| {
        let help = format!("without them, \"{:#018x}\"", mask & ReservedBits::Drop.mask());
        Wrong::new(format!("{text} has bits that are not reserved: those of the I flag and the VNI"), help)
    })
}

/// Most entries behind VTEPs.
pub(super) fn maxaddress(number: i64) -> Checked<u32> {
    within(number, 0, i64::from(u32::MAX)).map(|most| most as u32)
}

/// A group policy; 0 is none, as in the kernel.
pub(super) fn gbp_policy(number: i64) -> Checked<u16> {
    within(number, 0, i64::from(u16::MAX)).map(|policy| policy as u16)
}

/// A port's forward mask, which may say more than its bridge's.
pub(super) fn port_group_fwd_mask(number: i64) -> Checked<u16> {
    let mask = mask(number, "one bit for each of 01-80-C2-00-00-00 to -0F without -01, so 0 to 0xfffd")?;
    if mask & GROUP_FWD_PAUSE != 0 {
        let message = format!("{mask:#x} forwards pause frames, which never pass a bridge: bit 1 can't be set");
        return Err(Wrong::new(message, format!("without it, {:#x}", mask & !GROUP_FWD_PAUSE)));
    }
    Ok(mask)
}

fn mask(number: i64, help: &str) -> Checked<u16> {
    u16::try_from(number).map_err(|_| Wrong::new(format!("{number} is not a mask of 16 bits"), help))
}

/// A fixed outer TTL.
pub(super) fn ttl(number: i64) -> Checked<Ttl> {
    let ttl = u8::try_from(number).ok().filter(|&ttl| ttl != 0);
    ttl.map(Ttl::Fixed).ok_or_else(|| Wrong::new(format!("a TTL of {number}"), "1 to 255, or \"inherit\""))
}

/// A fixed outer TOS.
pub(super) fn tos(number: i64) -> Checked<Tos> {
    match u8::try_from(number) {
        Err(_) => Err(Wrong::new(format!("a TOS of {number}"), "0 to 255 with the two low bits zero, or \"inherit\"")),
        Ok(tos) if tos & ECN_BITS != 0 => {
            let help = format!("{}, or `ecn` for those two bits", tos & !ECN_BITS);
            Err(Wrong::new(format!("a TOS of {tos} sets the ECN bits, which follow the inner packet"), help))
        }
        Ok(tos) => Ok(Tos::Fixed(tos)),
    }
}

/// A number of a range, with what it counts.
pub(super) fn within(number: i64, least: i64, most: i64) -> Checked<i64> {
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(Wrong::new(format!("{number} is out of range"), format!("{least} to {most}")))
}

/// The known word that was probably meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let scored = known.into_iter().map(|candidate| (distance(&word, candidate), candidate));
    let (best, candidate) = scored.min_by_key(|&(distance, _)| distance)?;
    // a third of the letters may be wrong; one always
    (best <= (candidate.chars().count() / 3).max(1)).then_some(candidate)
}

/// How many letters must be put in, taken out, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, _) => j,
                (_, 0) => i,
                (_, _) => {
                    let change = usize::from(a[i - 1] != b[j - 1]);
                    let mut least = (rows[i - 1][j - 1] + change).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                    if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                        least = least.min(rows[i - 2][j - 2] + 1);
                    }
                    least
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<T: std::fmt::Debug>(result: Checked<T>) -> String {
        result.unwrap_err().message
    }

    #[test]
    fn ageing_takes_units_and_zero() {
        assert_eq!(ageing("300s"), Ok(Duration::from_secs(300)));
        assert_eq!(ageing("5min"), ageing("300s"));
        assert_eq!(ageing("0"), Ok(Duration::ZERO));
        assert_eq!(ageing("0s"), Ok(Duration::ZERO));
        assert_eq!(refusal(ageing("12days")), "an ageing time of 12days is too long");
        assert_eq!(refusal(ageing("1ms")), "an ageing time of 1ms is too short");
        assert!(refusal(ageing("300")).starts_with("`300` is not a duration"));
        assert!(refusal(ageing("-3s")).starts_with("`-3s` is not a duration"));
    }

    #[test]
    fn path_mtus_age_within_reason() {
        assert_eq!(path_mtu_ageing("10min"), Ok(Duration::from_secs(600)));
        assert_eq!(path_mtu_ageing("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(refusal(path_mtu_ageing("4s")), "an ageing time of 4s for path MTUs is out of range");
        assert!(refusal(path_mtu_ageing("0")).starts_with("an ageing time of 0") || path_mtu_ageing("0").is_err());
    }

    #[test]
    fn reserved_bits_are_words_or_a_mask_without_used_bits() {
        assert_eq!(reserved_bits("drop"), Ok(ReservedBits::Drop));
        assert_eq!(reserved_bits("0xf7ffffff000000ff"), Ok(ReservedBits::Drop));
        assert_eq!(reserved_bits("0x0"), Ok(ReservedBits::Ignore));
        assert_eq!(reserved_bits("0x80ffffff00000000"), Ok(ReservedBits::Mask(0x80ff_ffff_0000_0000)));
        assert!(refusal(reserved_bits("0xffffffff000000ff")).contains("not reserved"));
        for text in ["", "0x", "0x+1", "ff", "0x1_0", "0x10000000000000000"] {
            assert!(refusal(reserved_bits(text)).ends_with("is not a mask of 64 bits"), "{text}");
        }
    }

    #[test]
    fn busy_polling_is_short_or_off() {
        assert_eq!(busy_poll("0"), Ok(Duration::ZERO));
        assert_eq!(busy_poll("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(refusal(busy_poll("11ms")), "11ms of busy polling is too long");
        assert!(refusal(busy_poll("50")).starts_with("`50` is not a duration"));
    }

    #[test]
    fn workers_are_pinned_to_cpus_that_can_be() {
        assert_eq!(pin(Ok(false)), Ok(Pin::No));
        assert_eq!(pin(Ok(true)), Ok(Pin::InOrder));
        assert_eq!(pin(Err(vec![2, 0])), Ok(Pin::To(vec![2, 0])));
        assert_eq!(refusal(pin(Err(vec![]))), "workers can't be pinned to no CPU");
        assert_eq!(refusal(pin(Err(vec![1, 1]))), "CPU 1 is twice in the list");
        assert_eq!(refusal(pin(Err(vec![-1]))), "-1 is not the number of a CPU");
        assert_eq!(refusal(pin(Err(vec![MAX_CPUS as i64]))), format!("{MAX_CPUS} is not the number of a CPU"));
    }

    #[test]
    fn each_worker_has_its_cpus() {
        let cpus = |pin: Pin| [0, 1, 2].map(|worker| pin.cpus_of(worker, &[4, 5]));
        assert_eq!(cpus(Pin::No), [[4, 5]; 3]);
        assert_eq!(cpus(Pin::InOrder), [[4], [5], [4]]);
        assert_eq!(cpus(Pin::To(vec![5])), [[5]; 3]);
    }

    #[test]
    fn sizes_of_buffers_have_units() {
        assert_eq!(buffer("64KiB"), Ok(64 << 10));
        assert_eq!(buffer("8 MiB"), Ok(8 << 20));
        for text in ["8", "MiB", "8MB", "-8MiB", "+8MiB", "0.5MiB", ""] {
            assert_eq!(refusal(buffer(text)), format!("`{text}` is not a size"));
        }
        for text in ["0MiB", "63KiB", "513MiB", "99999999999999999999MiB"] {
            assert_eq!(refusal(buffer(text)), format!("a buffer of {text} is out of range"));
        }
    }

    #[test]
    fn a_vtep_may_carry_its_port() {
        for (text, address) in [
            ("192.0.2.2", "192.0.2.2:4789"),
            ("192.0.2.2:8472", "192.0.2.2:8472"),
            ("2001:db8::2", "[2001:db8::2]:4789"),
            ("[2001:db8::2]:8472", "[2001:db8::2]:8472"),
        ] {
            assert_eq!(vtep(text, 4789), Ok(address.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn addresses_that_no_vtep_has_are_refused() {
        for (text, message) in [
            ("239.1.1.1", "239.1.1.1 is multicast, and no VTEP has it"),
            ("[ff02::1]:4789", "ff02::1 is multicast, and no VTEP has it"),
            ("0.0.0.0", "0.0.0.0 is the unspecified address, and no VTEP has it"),
            ("255.255.255.255", "255.255.255.255 is broadcast, and no VTEP has it"),
            ("fe80::1", "fe80::1 is link-local, which weft does not support as an underlay address"),
            ("fe80::1%eth0", "fe80::1 is link-local, which weft does not support as an underlay address"),
            ("[fe80::1%3]:4789", "fe80::1 is link-local, which weft does not support as an underlay address"),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.1 is an IPv4 address in IPv6's clothes, and no VTEP has it"),
            ("192.0.2.2:0", "port 0 in `192.0.2.2:0`"),
            ("192.0.2.2/24", "`192.0.2.2/24` has a prefix length, and a VTEP is one address"),
            ("192.0.2.2:70000", "`192.0.2.2:70000` is not a VTEP's address"),
            ("host2", "`host2` is not a VTEP's address"),
        ] {
            assert_eq!(refusal(vtep(text, 4789)), message);
        }
    }

    #[test]
    fn interface_names_are_the_kernels() {
        assert!(interface_name("eth0.10").is_ok() && interface_name("abcdefghijklmno").is_ok());
        for text in ["", "abcdefghijklmnop", "a/b", "a b", ".", "..", "a:1", "tap%d", "ä"] {
            assert!(interface_name(text).is_err(), "{text}");
        }
        assert_eq!(
            interface_name("left/eth0").unwrap_err().help,
            "write the namespace by itself: name = \"eth0\", netns = \"left\""
        );
    }

    #[test]
    fn a_namespace_is_a_name_a_path_or_a_process() {
        assert_eq!(netns("left"), Ok(NetnsName::Named("left".into())));
        assert_eq!(netns("/run/netns/left"), Ok(NetnsName::Named("left".into())));
        assert_eq!(netns("/var/run/netns/left"), Ok(NetnsName::Named("left".into())));
        assert_eq!(netns("/run/docker/netns/1"), Ok(NetnsName::Path("/run/docker/netns/1".into())));
        assert_eq!(netns("pid:1234"), Ok(NetnsName::Pid(1234)));
        assert_eq!(netns("fd:3"), Ok(NetnsName::Descriptor(Handle::Number(3))));
        assert_eq!(netns("fd:blue"), Ok(NetnsName::Descriptor(Handle::Name("blue".into()))));
        for text in ["fd:", "fd:2", "fd:1024", "fd:-1", "fd:99999999999", "fd:a b", "fd:a/b"] {
            assert!(netns(text).is_err(), "{text}");
        }
        assert_eq!(netns("."), Ok(NetnsName::Own));
        for text in ["", "pid:", "pid:0", "pid:-1", "pid:4294967295", "a/b", "..", "a b"] {
            assert!(netns(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_of_interfaces_need_a_prefix_length() {
        assert_eq!(cidr("10.0.0.1/24").map(|cidr| cidr.to_string()), Ok("10.0.0.1/24".into()));
        assert_eq!(cidr("fe80::1/64").map(|cidr| cidr.prefix_len), Ok(64));
        assert_eq!(refusal(cidr("10.0.0.1")), "`10.0.0.1` has no prefix length");
        assert_eq!(refusal(cidr("10.0.0.1/33")), "`/33` is not a prefix length");
        assert_eq!(refusal(cidr("10.0.0.1/+3")), "`/+3` is not a prefix length");
        assert_eq!(refusal(cidr("10.0.0/24")), "`10.0.0/24` is not an IP address with a prefix length");
        assert_eq!(refusal(cidr("224.0.0.1/24")), "`224.0.0.1/24` is not an address that an interface can have");
    }

    #[test]
    fn a_mask_can_not_forward_stp_pause_or_lacp() {
        assert_eq!(group_fwd_mask(0x4000), Ok(0x4000));
        assert!(group_fwd_mask(0x10000).is_err() && group_fwd_mask(-1).is_err());
        let wrong = group_fwd_mask(0x4002).unwrap_err();
        assert_eq!(wrong.message, "0x4002 forwards what a bridge must keep: bits 0 to 2 can't be set");
        assert!(wrong.help.starts_with("without them, 0x4000"));
    }

    #[test]
    fn vlan_keys_are_plain_numbers() {
        assert_eq!(vlan_key("10").map(VlanId::get), Ok(10));
        assert_eq!(refusal(vlan_key("4095")), "VLAN 4095 is out of range");
        assert_eq!(refusal(vlan_key("0")), "VLAN 0 is out of range");
        assert_eq!(refusal(vlan_key("99999999999")), "VLAN 99999999999 is out of range");
        assert_eq!(refusal(vlan_key("010")), "`010` is not a VLAN identifier");
        assert_eq!(refusal(vlan_key("blue")), "`blue` is not a VLAN identifier");
    }

    #[test]
    fn slips_of_the_pen_are_recognised() {
        let known = ["remotes", "name", "vni", "learning"];
        assert_eq!(nearest("remote", known), Some("remotes"));
        assert_eq!(nearest("vin", known), Some("vni"));
        assert_eq!(nearest("Name", known), Some("name"));
        assert_eq!(nearest("colour", known), None);
    }
}
