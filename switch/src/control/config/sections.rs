//! The tables of a configuration file, one function each: from keys to the checked types.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    ops::Range,
    path::PathBuf,
    time::Duration,
};

use toml::de::DeTable;
use weft_vxlan::{Encapsulation, HeaderFormat};

use super::{
    geneve_option,
    origin::Places,
    reader::{Key, TableReader, Text, table, tables},
    types::{
        BridgeConfig, Cidr, Config, Df, ECN_WORDS, FdbConfig, FdbFull, FdbKind, FdbTarget, GsoMode, InnerVlan,
        MdbConfig, Membership, NeighConfig, NetnsName, OVERSIZE_WORDS, PATH_MTU_WORDS, Peers, Pin, PortConfig,
        PortKind, Profile, STATE_WORDS, SwitchConfig, Tos, Ttl, VLAN_PROTOCOL_WORDS, VtepConfig,
    },
    values::{self, Wrong, nearest},
};
use crate::{
    snoop::{Group, Settings},
    wire::MacAddr,
};

/// The tables that a file may have, as their headers are written.
const TABLES: &[(&str, &str)] = &[
    ("switch", "[switch]"),
    ("vtep", "[vtep]"),
    ("bridge", "[[bridge]]"),
    ("port", "[[port]]"),
    ("fdb", "[[fdb]]"),
    ("neigh", "[[neigh]]"),
    ("mdb", "[[mdb]]"),
];

const SWITCH_KEYS: &[Key] = &[
    ("workers", "2"),
    ("ageing", "\"300s\""),
    ("socket", "\"/run/weft/weft.sock\""),
    ("busy_poll", "\"200us\""),
    ("pin", "[0, 2]"),
    ("nice", "-20"),
];

const VTEP_KEYS: &[Key] = &[
    ("address", "\"192.0.2.1\""),
    ("netns", "\"host1\""),
    ("encapsulation", "\"vxlan\""),
    ("port", "4789"),
    ("gpe_port", "4790"),
    ("geneve_port", "6081"),
    ("profile", "\"kernel\""),
    ("peers", "\"known\""),
    ("unknown_vni", "\"blue\""),
    ("reserved_bits", "\"drop\""),
    ("ecn", "\"kernel\""),
    ("inner_vlan", "\"pass\""),
    ("gbp", "false"),
    ("udpcsum", "true"),
    ("udp6zerocsumtx", "false"),
    ("udp6zerocsumrx", "false"),
    ("source_port_range", "[49152, 65535]"),
    ("source_ports", "16"),
    ("ttl", "64"),
    ("tos", "0"),
    ("df", "\"set\""),
    ("oversize", "\"fragment\""),
    ("gso", "\"auto\""),
    ("receive_buffer", "\"8MiB\""),
    ("send_buffer", "\"4MiB\""),
    ("path_mtu", "\"measure\""),
    ("path_mtu_ageing", "\"10min\""),
];

const BRIDGE_KEYS: &[Key] = &[
    ("name", "\"blue\""),
    ("vni", "42"),
    ("encapsulation", "\"geneve\""),
    ("geneve_option", "{ class = 0xff01, type = 1, data = \"c0ffee00\" }"),
    ("remotes", "[\"192.0.2.2\"]"),
    ("learning", "true"),
    ("vxlan_learning", "true"),
    ("proxy", "false"),
    ("rsc", "false"),
    ("l2miss", "false"),
    ("l3miss", "false"),
    ("maxaddress", "1000"),
    ("mss_clamp", "false"),
    ("ageing", "\"300s\""),
    ("fdb_max_learned", "65536"),
    ("fdb_full", "\"evict\""),
    ("group_fwd_mask", "0x4000"),
    ("vlan_protocol", "\"802.1ad\""),
    ("no_linklocal_learn", "false"),
    ("neigh_suppress", "false"),
    ("mcast_snooping", "true"),
    ("mcast_querier", "false"),
    ("mcast_igmp_version", "2"),
    ("mcast_mld_version", "1"),
    ("mcast_hash_max", "4096"),
    ("mcast_last_member_count", "2"),
    ("mcast_last_member_interval", "\"1s\""),
    ("mcast_startup_query_count", "2"),
    ("mcast_startup_query_interval", "\"31s 250ms\""),
    ("mcast_query_interval", "\"125s\""),
    ("mcast_query_response_interval", "\"10s\""),
    ("mcast_querier_interval", "\"255s\""),
    ("mcast_membership_interval", "\"260s\""),
];

const PORT_KEYS: &[Key] = &[
    ("name", "\"eth0\""),
    ("netns", "\"left\""),
    ("kind", "\"tap\""),
    ("bridge", "\"blue\""),
    ("trunk", "{ 10 = \"blue\", 20 = \"green\" }"),
    ("native", "\"blue\""),
    ("address", "[\"10.10.0.1/24\"]"),
    ("mac", "\"02:00:00:00:00:0a\""),
    ("mtu", "1450"),
    ("queue_length", "2000"),
    ("offload", "true"),
    ("learning", "true"),
    ("flood", "true"),
    ("mcast_flood", "true"),
    ("bcast_flood", "true"),
    ("hairpin", "false"),
    ("isolated", "false"),
    ("gbp_policy", "0"),
    ("flood_share", "25"),
    ("state", "\"forwarding\""),
    ("locked", "false"),
    ("mab", "false"),
    ("group_fwd_mask", "0x4000"),
    ("port_security", "[\"02:00:00:00:00:0a 10.10.0.1\"]"),
    ("fdb_max_learned", "100"),
    ("neigh_suppress", "false"),
    ("proxy_arp", "false"),
    ("proxy_arp_wifi", "false"),
    ("backup_port", "\"right/eth0\""),
    ("untagged", "[10]"),
    ("vlan_protocol", "\"802.1ad\""),
    ("mcast_router", "1"),
    ("mcast_fast_leave", "false"),
    ("mcast_to_unicast", "false"),
    ("mcast_max_groups", "0"),
];

const FDB_KEYS: &[Key] = &[
    ("bridge", "\"blue\""),
    ("mac", "\"02:00:00:00:00:0a\""),
    ("port", "\"left/eth0\""),
    ("vtep", "\"192.0.2.2\""),
    ("sticky", "false"),
    ("extern_learn", "false"),
    ("permanent", "false"),
];

const NEIGH_KEYS: &[Key] =
    &[("bridge", "\"blue\""), ("ip", "\"10.10.0.2\""), ("mac", "\"02:00:00:00:00:0a\""), ("router", "false")];

const MDB_KEYS: &[Key] =
    &[("bridge", "\"blue\""), ("group", "\"239.1.1.1\""), ("source", "\"10.10.0.2\""), ("port", "\"left/eth0\"")];

/// The keys of all tables, in the order of [`TABLES`].
pub(super) const ALL_KEYS: &[&[Key]] =
    &[SWITCH_KEYS, VTEP_KEYS, BRIDGE_KEYS, PORT_KEYS, FDB_KEYS, NEIGH_KEYS, MDB_KEYS];

/// Least and greatest MTU: IPv4's minimum (RFC 791) and a tap's maximum, 65535 less the Ethernet header
/// (drivers/net/tun.c:tun_net_initialize).
const MTU_RANGE: (i64, i64) = (68, 65521);

/// Reads a whole file. What can't be read is reported and has a default.
pub(super) fn config(text: &mut Text<'_>, root: &DeTable<'_>) -> Config {
    let mut config = Config::empty();
    unknown_tables(text, root, &mut config.origin.unclear);
    if let Some((header, table)) = table(text, root, "switch", &mut config.origin.unclear) {
        (config.switch, config.origin.switch) = switch(text, header, table);
    }
    if let Some((header, table)) = table(text, root, "vtep", &mut config.origin.unclear) {
        let (vtep, places) = vtep(text, header, table);
        (config.vtep, config.origin.vtep) = (Some(vtep), places);
    }
    add(text, root, &mut config);
    config
}

/// Reads the bridges, ports, FDB entries, neighbours and group members of a text into a configuration that may have some already.
pub(super) fn add(text: &mut Text<'_>, root: &DeTable<'_>, config: &mut Config) {
    for (header, table) in tables(text, root, "bridge", &mut config.origin.unclear) {
        let (bridge, places) = bridge(text, header, table, config);
        config.origin.place_at(config.bridges.len(), |origin| &mut origin.bridges, places);
        config.bridges.push(bridge);
    }
    for (header, table) in tables(text, root, "port", &mut config.origin.unclear) {
        let (port, places) = port(text, header, table);
        config.origin.place_at(config.ports.len(), |origin| &mut origin.ports, places);
        config.ports.push(port);
    }
    for (header, table) in tables(text, root, "fdb", &mut config.origin.unclear) {
        let (entry, places) = fdb(text, header, table, config);
        config.origin.place_at(config.fdb.len(), |origin| &mut origin.fdb, places);
        config.fdb.push(entry);
    }
    for (header, table) in tables(text, root, "neigh", &mut config.origin.unclear) {
        let (neigh, places) = neigh(text, header, table);
        config.origin.place_at(config.neigh.len(), |origin| &mut origin.neigh, places);
        config.neigh.push(neigh);
    }
    for (header, table) in tables(text, root, "mdb", &mut config.origin.unclear) {
        let (entry, places) = mdb(text, header, table);
        config.origin.place_at(config.mdb.len(), |origin| &mut origin.mdb, places);
        config.mdb.push(entry);
    }
}

fn unknown_tables(text: &mut Text<'_>, root: &DeTable<'_>, unclear: &mut BTreeSet<&'static str>) {
    for name in root.keys().filter(|name| TABLES.iter().all(|(known, _)| known != name.get_ref())) {
        let written = name.get_ref();
        let table_of = |keys: &[Key]| keys.iter().any(|(key, _)| key == written);
        let mut owners = ALL_KEYS.iter().zip(TABLES);
        let help = match nearest(written, TABLES.iter().map(|(known, _)| *known)) {
            Some(meant) => {
                unclear.insert(meant);
                let header = TABLES.iter().find(|(known, _)| *known == meant).map_or("", |(_, header)| header);
                format!("did you mean `{header}`?")
            }
            None => match owners.find(|(keys, _)| table_of(keys)) {
                Some((_, (_, header))) => format!("it belongs below `{header}`"),
                None => format!("there are {}", super::reader::list(TABLES.iter().map(|(_, header)| *header))),
            },
        };
        text.mistake(name.span(), Wrong::new(format!("a configuration has no `{written}`"), help));
    }
}

fn switch(text: &mut Text<'_>, header: Range<usize>, table: &DeTable<'_>) -> (SwitchConfig, Places) {
    let mut reader = TableReader::new(text, "[switch]", header, table, SWITCH_KEYS);
    let default = SwitchConfig::default();
    let most = i64::try_from(SwitchConfig::MAX_WORKERS).unwrap_or(i64::MAX);
    let pin = reader.flag_or_numbers("pin", values::pin).unwrap_or(default.pin);
    // Whoever names CPUs wants a worker on each.
    let workers_by_default = match &pin {
        Pin::To(cpus) => cpus.len().min(SwitchConfig::MAX_WORKERS),
        Pin::No | Pin::InOrder => default.workers,
    };
    let workers = reader.number("workers", |number| size(number, 1, most)).unwrap_or(workers_by_default);
    let ageing: Duration = reader.string("ageing", values::ageing).unwrap_or(default.ageing);
    let socket: PathBuf = reader.string("socket", values::socket).unwrap_or(default.socket);
    let busy_poll: Duration = reader.string("busy_poll", values::busy_poll).unwrap_or(default.busy_poll);
    let (least, most) = SwitchConfig::NICE;
    let nice = reader.number("nice", |number| values::within(number, least, most).map(|nice| nice as i8));
    (SwitchConfig { workers, ageing, socket, busy_poll, pin, nice }, reader.finish())
}

fn vtep(text: &mut Text<'_>, header: Range<usize>, table: &DeTable<'_>) -> (VtepConfig, Places) {
    let mut reader = TableReader::new(text, "[vtep]", header, table, VTEP_KEYS);
    reader.require("address");
    let address = reader.string("address", values::vtep_ip);
    let mut vtep = VtepConfig::new(address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    if let Some(profile) = reader.word("profile", Profile::WORDS) {
        vtep.apply(profile);
    }

    set(&mut vtep.netns, reader.string("netns", values::netns));
    set(&mut vtep.encapsulation, reader.word("encapsulation", Encapsulation::WORDS));
    set(&mut vtep.port, reader.number("port", udp_port));
    set(&mut vtep.gpe_port, reader.number("gpe_port", udp_port));
    set(&mut vtep.geneve_port, reader.number("geneve_port", udp_port));
    set(&mut vtep.peers, reader.word("peers", Peers::WORDS));
    vtep.unknown_vni = reader.string("unknown_vni", |name| Ok(name.to_owned()));
    set(&mut vtep.reserved_bits, reader.string("reserved_bits", values::reserved_bits));
    vtep.gbp = reader.flag("gbp", vtep.gbp);
    vtep.udpcsum = reader.flag("udpcsum", vtep.udpcsum);
    vtep.udp6zerocsumtx = reader.flag("udp6zerocsumtx", vtep.udp6zerocsumtx);
    vtep.udp6zerocsumrx = reader.flag("udp6zerocsumrx", vtep.udp6zerocsumrx);
    set(&mut vtep.ecn, reader.word("ecn", ECN_WORDS));
    set(&mut vtep.inner_vlan, reader.word("inner_vlan", InnerVlan::WORDS));
    set(&mut vtep.ttl, reader.number_or_word("ttl", values::ttl, ("inherit", Ttl::Inherit)));
    set(&mut vtep.tos, reader.number_or_word("tos", values::tos, ("inherit", Tos::Inherit)));
    set(&mut vtep.df, reader.word("df", Df::WORDS));
    set(&mut vtep.oversize, reader.word("oversize", OVERSIZE_WORDS));
    set(&mut vtep.gso, reader.word("gso", GsoMode::WORDS));
    set(&mut vtep.receive_buffer, reader.string("receive_buffer", values::buffer));
    set(&mut vtep.send_buffer, reader.string("send_buffer", values::buffer));
    set(&mut vtep.path_mtu, reader.word("path_mtu", PATH_MTU_WORDS));
    set(&mut vtep.path_mtu_ageing, reader.string("path_mtu_ageing", values::path_mtu_ageing));
    source_ports(&mut vtep, &mut reader);
    (vtep, reader.finish())
}

/// The ports that weft may listen on are never outer source ports: a socket there would take arriving packets.
fn source_ports(vtep: &mut VtepConfig, reader: &mut TableReader<'_, '_, '_, '_>) {
    set(&mut vtep.source_port_range, reader.pair("source_port_range", udp_port));
    let (min, max) = vtep.source_port_range;
    if min > max {
        let wrong = Wrong::new(format!("{min} to {max} is no range of ports"), format!("[{max}, {min}]"));
        reader.refuse("source_port_range", wrong);
        vtep.source_port_range = VtepConfig::DEFAULT_SOURCE_PORT_RANGE;
        return;
    }
    let listened: BTreeSet<_> = HeaderFormat::ALL.map(|format| vtep.port_of(format)).into();
    let inside = listened.iter().filter(|port| (min..=max).contains(*port)).count();
    let size = u32::from(max - min) + 1 - inside as u32;
    if size == 0 {
        let message = format!("weft may listen on every port from {min} to {max} itself");
        reader.refuse(
            "source_port_range",
            Wrong::new(message, "a range with another port in it, such as [49152, 65535]"),
        );
        return;
    }
    let most = u16::try_from(size).unwrap_or(u16::MAX).min(VtepConfig::MAX_SOURCE_PORTS);
    vtep.source_ports = VtepConfig::DEFAULT_SOURCE_PORTS.min(most);
    let wanted = reader.number("source_ports", |number| {
        let fits = u16::try_from(number).ok().filter(|count| (1..=most).contains(count));
        fits.ok_or_else(|| {
            let why = if size < u32::from(VtepConfig::MAX_SOURCE_PORTS) {
                format!("1 to {most}, which is what the range {min} to {max} has")
            } else {
                format!("1 to {most}: each costs a socket")
            };
            Wrong::new(format!("{number} source ports"), why)
        })
    });
    set(&mut vtep.source_ports, wanted);
}

fn bridge(text: &mut Text<'_>, header: Range<usize>, table: &DeTable<'_>, config: &Config) -> (BridgeConfig, Places) {
    let mut reader = TableReader::new(text, "[[bridge]]", header, table, BRIDGE_KEYS);
    let mut bridge = BridgeConfig::new(reader.name("name", values::bridge_name));
    bridge.ageing = config.switch.ageing;

    bridge.vni = reader.number("vni", values::vni);
    let said = reader.word("encapsulation", Encapsulation::WORDS);
    let vtep = config.vtep.as_ref();
    bridge.encapsulation = vtep.map_or_else(|| said.unwrap_or_default(), |vtep| vtep.encapsulation_of(said));
    reader.records("geneve_option", |table| geneve_option::push(&mut bridge.geneve_options, table));
    let default_port = default_port(vtep, bridge.encapsulation);
    set(&mut bridge.remotes, reader.strings("remotes", |remote| values::vtep(remote, default_port)));
    bridge.learning = reader.flag("learning", bridge.learning);
    bridge.vxlan_learning = reader.flag("vxlan_learning", bridge.vxlan_learning);
    bridge.proxy = reader.flag("proxy", bridge.proxy);
    bridge.rsc = reader.flag("rsc", bridge.rsc);
    bridge.l2miss = reader.flag("l2miss", bridge.l2miss);
    bridge.l3miss = reader.flag("l3miss", bridge.l3miss);
    bridge.maxaddress = reader.number("maxaddress", values::maxaddress).filter(|most| *most > 0);
    bridge.mss_clamp = reader.flag("mss_clamp", bridge.mss_clamp);
    set(&mut bridge.ageing, reader.string("ageing", values::ageing));
    set(&mut bridge.fdb_max_learned, reader.number("fdb_max_learned", |number| size(number, 0, i64::from(u32::MAX))));
    set(&mut bridge.fdb_full, reader.word("fdb_full", FdbFull::WORDS));
    set(&mut bridge.group_fwd_mask, reader.number("group_fwd_mask", values::group_fwd_mask));
    set(&mut bridge.vlan_protocol, reader.word("vlan_protocol", VLAN_PROTOCOL_WORDS));
    bridge.no_linklocal_learn = reader.flag("no_linklocal_learn", bridge.no_linklocal_learn);
    bridge.neigh_suppress = reader.flag("neigh_suppress", bridge.neigh_suppress);
    snooping(&mut bridge.mcast, &mut reader);
    (bridge, reader.finish())
}

fn snooping(mcast: &mut Settings, reader: &mut TableReader<'_, '_, '_, '_>) {
    let count = |number| size(number, 1, 100).map(|count| count as u32);
    mcast.snooping = reader.flag("mcast_snooping", mcast.snooping);
    mcast.querier = reader.flag("mcast_querier", mcast.querier);
    set(&mut mcast.igmp_version, reader.number("mcast_igmp_version", |version| size(version, 2, 3).map(|v| v as u8)));
    set(&mut mcast.mld_version, reader.number("mcast_mld_version", |version| size(version, 1, 2).map(|v| v as u8)));
    set(&mut mcast.hash_max, reader.number("mcast_hash_max", |number| size(number, 1, 1 << 20)));
    set(&mut mcast.last_member_count, reader.number("mcast_last_member_count", count));
    set(&mut mcast.startup_query_count, reader.number("mcast_startup_query_count", count));
    for (key, interval) in [
        ("mcast_last_member_interval", &mut mcast.last_member_interval),
        ("mcast_startup_query_interval", &mut mcast.startup_query_interval),
        ("mcast_query_interval", &mut mcast.query_interval),
        ("mcast_query_response_interval", &mut mcast.query_response_interval),
        ("mcast_querier_interval", &mut mcast.querier_interval),
        ("mcast_membership_interval", &mut mcast.membership_interval),
    ] {
        // What is asked more often than once a second is asked too often (`BR_MULTICAST_QUERY_INTVL_MIN`).
        let is_query = key.ends_with("query_interval");
        set(interval, reader.string(key, |text| values::mcast_interval(text, is_query)));
    }
}

fn port(text: &mut Text<'_>, header: Range<usize>, table: &DeTable<'_>) -> (PortConfig, Places) {
    let mut reader = TableReader::new(text, "[[port]]", header, table, PORT_KEYS);
    let name = reader.name("name", values::interface_name);
    let netns = reader.string("netns", values::netns).unwrap_or(NetnsName::Own);
    let membership = membership(&mut reader);
    let mut port = PortConfig::new(netns, name, membership);

    set(&mut port.kind, reader.word("kind", PortKind::WORDS));
    let addresses: Option<Vec<Cidr>> = reader.strings("address", values::cidr);
    set(&mut port.addresses, addresses);
    port.mac = reader.string("mac", values::station_mac);
    port.mtu = reader.number("mtu", |mtu| {
        let in_range = values::within(mtu, MTU_RANGE.0, MTU_RANGE.1);
        in_range
            .map(|mtu| mtu as u16)
            .map_err(|wrong| Wrong { message: format!("an MTU of {mtu} is out of range"), ..wrong })
    });
    port.queue_length = reader.number("queue_length", values::queue_length);
    port.offload = reader.flag("offload", port.offload);
    port.learning = reader.flag("learning", port.learning);
    port.flood = reader.flag("flood", port.flood);
    port.mcast_flood = reader.flag("mcast_flood", port.mcast_flood);
    port.bcast_flood = reader.flag("bcast_flood", port.bcast_flood);
    port.hairpin = reader.flag("hairpin", port.hairpin);
    port.isolated = reader.flag("isolated", port.isolated);
    set(&mut port.gbp_policy, reader.number("gbp_policy", values::gbp_policy));
    let percent = reader.number("flood_share", |number| values::within(number, 1, 100));
    set(&mut port.flood_share, percent.map(|percent| percent as u8));
    set(&mut port.state, reader.word("state", STATE_WORDS));
    port.locked = reader.flag("locked", port.locked);
    port.mab = reader.flag("mab", port.mab);
    set(&mut port.group_fwd_mask, reader.number("group_fwd_mask", values::port_group_fwd_mask));
    port_security(&mut port, &mut reader);
    let most = reader.number("fdb_max_learned", |number| values::within(number, 0, i64::from(u32::MAX)));
    set(&mut port.fdb_max_learned, most.map(|most| most as u32));
    port.neigh_suppress = reader.flag("neigh_suppress", port.neigh_suppress);
    port.proxy_arp = reader.flag("proxy_arp", port.proxy_arp);
    port.proxy_arp_wifi = reader.flag("proxy_arp_wifi", port.proxy_arp_wifi);
    port.backup_port = reader.string("backup_port", |name| Ok(name.to_owned()));
    port.untagged = reader.numbers("untagged", |number| values::vlan_key(&number.to_string()));
    set(&mut port.vlan_protocol, reader.word("vlan_protocol", VLAN_PROTOCOL_WORDS));
    lock(&port, &mut reader);
    set(&mut port.mcast.router, reader.number("mcast_router", values::mcast_router));
    port.mcast.fast_leave = reader.flag("mcast_fast_leave", port.mcast.fast_leave);
    port.mcast.to_unicast = reader.flag("mcast_to_unicast", port.mcast.to_unicast);
    set(&mut port.mcast.max_groups, reader.number("mcast_max_groups", |number| size(number, 0, 1 << 20)));
    (port, reader.finish())
}

fn port_security(port: &mut PortConfig, reader: &mut TableReader<'_, '_, '_, '_>) {
    set(&mut port.port_security, reader.strings("port_security", values::station));
    let macs: Vec<_> = port.port_security.iter().map(|station| station.mac).collect();
    if let Some(mac) = (1..macs.len()).find_map(|at| macs[..at].contains(&macs[at]).then_some(macs[at])) {
        let help = format!("name {mac} once, with all of its addresses behind it");
        reader.refuse("port_security", Wrong::new(format!("{mac} is twice in `port_security`"), help));
    }
}

/// As the kernel (`br_netlink.c`: `br_setport`).
fn lock(port: &PortConfig, reader: &mut TableReader<'_, '_, '_, '_>) {
    let unclear = ["locked", "learning"].into_iter().any(|key| reader.is_broken(key));
    if port.mab && (!port.locked || !port.learning) && !unclear {
        let message = "`mab` lets unknown addresses be seen at a locked port that learns, and this is none";
        let help = "add locked = true and leave `learning` as it is, or take `mab` out";
        reader.refuse("mab", Wrong::new(message, help));
    }
}

fn membership(reader: &mut TableReader<'_, '_, '_, '_>) -> Membership {
    // whether such a bridge exists is seen when all are read
    let any = |name: &str| Ok(name.to_owned());
    let access = reader.string("bridge", any);
    let vlans = reader.map("trunk", values::vlan_key, any);
    let native = reader.string("native", any);
    match (reader.has("bridge"), reader.has("trunk")) {
        (true, false) => {
            if reader.has("native") {
                let help = "take `native` out, or write trunk = { 10 = \"blue\" } instead of `bridge`";
                reader.refuse(
                    "native",
                    Wrong::new("`native` is for trunks: an access port has one bridge for all frames", help),
                );
            }
            Membership::Access(access.unwrap_or_default())
        }
        (false, true) => Membership::Trunk { vlans: vlans.unwrap_or_default(), native },
        (true, true) => {
            let help = "keep `bridge` for an access port, or `trunk` (with `native` for untagged frames)";
            reader.refuse("trunk", Wrong::new("a port has either `bridge` or `trunk`, and this has both", help));
            Membership::Access(access.unwrap_or_default())
        }
        // the one that is meant is there, misspelt
        (false, false) if reader.is_broken("bridge") || reader.is_broken("trunk") => {
            Membership::Trunk { vlans: Vec::new(), native }
        }
        (false, false) => {
            let help = "bridge = \"blue\" for an access port, or trunk = { 10 = \"blue\", 20 = \"green\" }";
            reader.refuse("bridge", Wrong::new("a port needs `bridge` or `trunk`, and this has neither", help));
            Membership::Trunk { vlans: Vec::new(), native }
        }
    }
}

fn fdb(text: &mut Text<'_>, header: Range<usize>, table: &DeTable<'_>, config: &Config) -> (FdbConfig, Places) {
    let mut reader = TableReader::new(text, "[[fdb]]", header, table, FDB_KEYS);
    let bridge = reader.name("bridge", |name| Ok(name.to_owned()));
    reader.require("mac");
    let mac = reader.string("mac", values::station_mac).unwrap_or(MacAddr::ZERO);
    let port = reader.string("port", |name| Ok(name.to_owned()));
    let vtep = reader.string("vtep", |address| {
        let own = config.vtep.as_ref();
        let by_default = own.map_or_else(Encapsulation::default, |own| own.encapsulation_of(None));
        let encapsulation = config.bridge(&bridge).map_or(by_default, |bridge| bridge.encapsulation);
        let vtep = values::vtep(address, default_port(own, encapsulation))?;
        // a VTEP that the flood list names with its port need not be named with it again
        let without_port = address.parse::<IpAddr>().is_ok();
        let flooded = config.bridge(&bridge).into_iter().flat_map(|bridge| &bridge.remotes);
        let same = flooded.copied().find(|remote| without_port && remote.ip() == vtep.ip());
        Ok(same.unwrap_or(vtep))
    });
    let kind = fdb_kind(&mut reader);
    let at = match (reader.has("port"), reader.has("vtep")) {
        (_, true) if kind == FdbKind::Permanent => {
            let message = "a permanent entry is the bridge's own address, and this is behind a VTEP";
            reader.refuse("vtep", Wrong::new(message, "take `vtep` out, or `permanent`"));
            None
        }
        (false, false) if kind == FdbKind::Permanent || reader.is_broken("permanent") => Some(FdbTarget::Bridge),
        (true, true) => {
            reader.refuse(
                "vtep",
                Wrong::new("an entry points at `port` or at `vtep`, and this at both", "keep one of the two"),
            );
            None
        }
        (false, false) if reader.is_broken("port") || reader.is_broken("vtep") => None,
        (false, false) => {
            let help = "port = \"left/eth0\" or vtep = \"192.0.2.2\"";
            reader.refuse("port", Wrong::new("an entry needs `port` or `vtep`, and this has neither", help));
            None
        }
        (_, _) => port.map(FdbTarget::Port).or_else(|| vtep.map(FdbTarget::Vtep)),
    };
    let at = at.unwrap_or(FdbTarget::Port(String::new()));
    (FdbConfig { bridge, mac, at, kind }, reader.finish())
}

/// The kernel refuses `sticky` with `permanent` too (`br_fdb.c`: `fdb_add_entry`), and takes no notice of other pairs.
fn fdb_kind(reader: &mut TableReader<'_, '_, '_, '_>) -> FdbKind {
    let kinds =
        [("sticky", FdbKind::Sticky), ("extern_learn", FdbKind::ExternLearn), ("permanent", FdbKind::Permanent)];
    let mut chosen = ("", FdbKind::Static);
    for (key, kind) in kinds {
        match (reader.flag(key, false), chosen.0) {
            (false, _) => {}
            (true, "") => chosen = (key, kind),
            (true, first) => {
                let message = format!("an entry can't be `{first}` and `{key}`");
                reader.refuse(key, Wrong::new(message, "keep one of the two"));
            }
        }
    }
    chosen.1
}

fn neigh(text: &mut Text<'_>, header: Range<usize>, table: &DeTable<'_>) -> (NeighConfig, Places) {
    let mut reader = TableReader::new(text, "[[neigh]]", header, table, NEIGH_KEYS);
    let bridge = reader.name("bridge", |name| Ok(name.to_owned()));
    reader.require("ip");
    let ip = reader.string("ip", values::station_ip).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    reader.require("mac");
    let mac = reader.string("mac", values::station_mac).unwrap_or(MacAddr::ZERO);
    let router = reader.flag("router", false);
    (NeighConfig { bridge, ip, mac, router }, reader.finish())
}

fn mdb(text: &mut Text<'_>, header: Range<usize>, table: &DeTable<'_>) -> (MdbConfig, Places) {
    let mut reader = TableReader::new(text, "[[mdb]]", header, table, MDB_KEYS);
    let bridge = reader.name("bridge", |name| Ok(name.to_owned()));
    reader.require("group");
    let group = reader.string("group", values::group).unwrap_or(Group::Mac(MacAddr::ZERO));
    let source = reader.string("source", |source| values::group_source(source, group));
    let port = reader.string("port", |name| Ok(name.to_owned()));
    (MdbConfig { bridge, group, source, port }, reader.finish())
}

/// The port of a VTEP that is named without one.
fn default_port(own: Option<&VtepConfig>, encapsulation: Encapsulation) -> u16 {
    own.map_or_else(|| encapsulation.default_port(), |own| own.port_of(encapsulation.format()))
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn udp_port(number: i64) -> Result<u16, Wrong> {
    let port = u16::try_from(number).ok().filter(|&port| port != 0);
    port.ok_or_else(|| Wrong::new(format!("{number} is not a UDP port"), "1 to 65535"))
}

fn size(number: i64, least: i64, most: i64) -> Result<usize, Wrong> {
    let number = values::within(number, least, most)?;
    usize::try_from(number).map_err(|_| Wrong::new(format!("{number} is out of range"), format!("{least} to {most}")))
}
