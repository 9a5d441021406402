//! `weft check`: what a configuration would build, or everything that is wrong with it. Changes nothing.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use serde_json::{Value, json};
use weft_vxlan::{HeaderFormat, geneve::GeneveOption};

use super::{
    BAD_USAGE, output,
    tables::{
        self,
        Column::{Left, Right},
        lines, options, or_dash, table,
    },
};
use crate::{
    control::{
        api::{
            mdb::MdbRequest,
            model::NeighEntry,
            request::{BridgeRequest, FdbRequest, NeighRequest, PortRequest, port_options},
        },
        config::{
            BridgeConfig, Cidr, Config, ConfigErrors, Df, ECN_WORDS, FdbTarget, GsoMode, InnerVlan, Membership,
            NetnsName, OVERSIZE_WORDS, PATH_MTU_WORDS, Peers, Pin, PortConfig, PortKind, SwitchConfig, Tos, Ttl,
            VtepConfig, reserved_bits_text, word_of,
        },
    },
    fdb::Origin,
    wire::hex,
};

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    /// The configuration
    #[arg(value_name = "CONFIG")]
    config: PathBuf,
    /// Only look at the file: it may be for another machine, with other namespaces and directories
    #[arg(long)]
    offline: bool,
    /// Print JSON: {"good": true, "plan": {...}, "mistakes": []}
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    match (read(args), args.json) {
        (Ok(config), false) => output::print(&plan(&args.config.display().to_string(), &config))?,
        (Ok(config), true) => {
            output::print_json(&json!({"good": true, "plan": plan_json(&config), "mistakes": []}))?;
        }
        (Err(errors), false) => return Err(errors.into()),
        (Err(errors), true) => {
            output::print_json(&json!({"good": false, "plan": null, "mistakes": errors.reports()}))?;
            return Ok(ExitCode::from(BAD_USAGE));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(args: &CheckArgs) -> Result<Config, ConfigErrors> {
    let config = Config::load(&args.config)?;
    if !args.offline {
        config.check_system()?;
    }
    Ok(config)
}

/// What would be built, for people.
fn plan(name: &str, config: &Config) -> String {
    let workers = config.switch.workers;
    let threads = if workers == 1 { "worker" } else { "workers" };
    let mut parts = vec![
        format!("{name} is good. It builds:"),
        format!("switch  {workers} {threads}, control socket {}", config.switch.socket.display()),
        format!(
            "        busy_poll {}, pin {}, nice {}",
            busy_poll(&config.switch),
            bare(&pin(&config.switch.pin)),
            config.switch.nice.map_or_else(|| "default".to_owned(), |nice| nice.to_string())
        ),
    ];
    parts.push(
        config.vtep.as_ref().map_or_else(|| "vtep    none: no frame leaves this host by an overlay".into(), vtep),
    );
    let mut text = parts.join("\n");
    let sections = [bridges(config), ports(config), static_entries(config), neighbours(config), group_members(config)];
    for section in sections.into_iter().filter(|section| !section.is_empty()) {
        text.push_str("\n\n");
        text.push_str(&section);
    }
    text
}

fn vtep(vtep: &VtepConfig) -> String {
    let (min, max) = vtep.source_port_range;
    let netns = match &vtep.netns {
        NetnsName::Own => String::new(),
        netns @ (NetnsName::Named(_) | NetnsName::Path(_) | NetnsName::Pid(_) | NetnsName::Descriptor(_)) => {
            format!(" in {netns}")
        }
    };
    let unknown_vni = vtep.unknown_vni.as_ref().map_or_else(String::new, |bridge| format!(", unknown_vni {bridge}"));
    let (ttl, tos) = (ttl(vtep.ttl), tos(vtep.tos));
    let ports = HeaderFormat::ALL.map(|format| format!("{} {}", VtepConfig::port_key(format), vtep.port_of(format)));
    [
        format!("vtep    {}{netns}, peers {}{unknown_vni}", vtep.address, word_of(Peers::WORDS, &vtep.peers)),
        format!("        encapsulation {}, {}", vtep.encapsulation, ports.join(", ")),
        format!(
            "        {} source ports of {min} to {max}, gso {}",
            vtep.source_ports,
            word_of(GsoMode::WORDS, &vtep.gso)
        ),
        format!("        receive_buffer {}, send_buffer {}", size(vtep.receive_buffer), size(vtep.send_buffer)),
        format!(
            "        path_mtu {}, path_mtu_ageing {}",
            word_of(PATH_MTU_WORDS, &vtep.path_mtu),
            humantime::format_duration(vtep.path_mtu_ageing)
        ),
        format!(
            "        ttl {}, tos {}, df {}, oversize {}",
            bare(&ttl),
            bare(&tos),
            word_of(Df::WORDS, &vtep.df),
            word_of(OVERSIZE_WORDS, &vtep.oversize)
        ),
        format!(
            "        reserved_bits {}, ecn {}, inner_vlan {}",
            reserved_bits_text(vtep.reserved_bits),
            word_of(ECN_WORDS, &vtep.ecn),
            word_of(InnerVlan::WORDS, &vtep.inner_vlan)
        ),
        format!(
            "        gbp {}, udpcsum {}, udp6zerocsumtx {}, udp6zerocsumrx {}",
            vtep.gbp, vtep.udpcsum, vtep.udp6zerocsumtx, vtep.udp6zerocsumrx
        ),
    ]
    .join("\n")
}

/// A number or word without JSON's quotes.
fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn bridges(config: &Config) -> String {
    let columns = [
        Left("BRIDGE"),
        Right("VNI"),
        Left("ENCAPSULATION"),
        Right("AGEING"),
        Right("LIMIT"),
        Left("PORTS"),
        Left("REMOTES"),
    ];
    let rows = config.bridges.iter().map(|bridge| {
        let ageing = if bridge.learning && !bridge.ageing.is_zero() {
            humantime::format_duration(bridge.ageing).to_string()
        } else {
            "off".to_owned()
        };
        let members = config.ports.iter().filter(|port| port.membership.contains(&bridge.name));
        vec![
            bridge.name.clone(),
            or_dash(bridge.vni),
            or_dash(bridge.vni.map(|_| encapsulation(bridge))),
            ageing,
            or_dash(Some(bridge.fdb_max_learned).filter(|&limit| limit != 0)),
            lines(members.map(PortConfig::full_name)),
            lines(bridge.remotes.iter().map(ToString::to_string)),
        ]
    });
    table(&columns, rows.collect(), "no bridges")
}

/// How a bridge wraps its frames, and with what beside.
fn encapsulation(bridge: &BridgeConfig) -> String {
    let options = bridge.geneve_options.iter().map(|option| {
        let GeneveOption { class, kind, data } = option;
        format!("option {class:#06x}:{kind}:{}", hex::encode(data))
    });
    lines([bridge.encapsulation.word().to_owned()].into_iter().chain(options))
}

fn ports(config: &Config) -> String {
    let columns = [Left("PORT"), Left("KIND"), Left("BRIDGE"), Right("MTU"), Left("ADDRESS"), Left("BESIDES")];
    let rows = config.ports.iter().map(|port| {
        let bridge = match &port.membership {
            Membership::Access(bridge) => bridge.clone(),
            Membership::Trunk { vlans, native } => {
                let tagged = vlans.iter().map(|(vlan, bridge)| format!("{vlan}={bridge}"));
                lines(tagged.chain(native.iter().map(|bridge| format!("native={bridge}"))))
            }
        };
        vec![
            port.full_name(),
            word_of(PortKind::WORDS, &port.kind).to_owned(),
            bridge,
            port.mtu.map_or_else(|| "auto".to_owned(), |mtu| mtu.to_string()),
            lines(port.addresses.iter().map(Cidr::to_string)),
            lines(besides(port)),
        ]
    });
    table(&columns, rows.collect(), "no ports")
}

/// What a port has that is not the default.
fn besides(port: &PortConfig) -> impl Iterator<Item = String> {
    port.mac.map(|mac| mac.to_string()).into_iter().chain(options(&port_options(port)))
}

fn static_entries(config: &Config) -> String {
    let columns = [Left("STATIC ENTRY"), Left("BRIDGE"), Left("BEHIND"), Left("KIND")];
    let rows = config.fdb.iter().map(|entry| {
        let behind = match &entry.at {
            FdbTarget::Port(port) => format!("port {port}"),
            FdbTarget::Vtep(vtep) => format!("vtep {vtep}"),
            FdbTarget::Bridge => "-".to_owned(),
        };
        let kind = entry.kind.origin().map_or("permanent", Origin::name);
        vec![entry.mac.to_string(), entry.bridge.clone(), behind, kind.to_owned()]
    });
    table(&columns, rows.collect(), "")
}

fn neighbours(config: &Config) -> String {
    let entries: Vec<_> = config.neigh.iter().map(NeighEntry::from).collect();
    if entries.is_empty() { String::new() } else { tables::neigh(&entries) }
}

fn group_members(config: &Config) -> String {
    let columns = [Left("GROUP"), Left("BRIDGE"), Left("SOURCE"), Left("MEMBER")];
    let rows = config.mdb.iter().map(|entry| {
        let MdbRequest { bridge, group, source, port } = entry.into();
        vec![group, bridge, or_dash(source), port.unwrap_or_else(|| "the overlay".to_owned())]
    });
    table(&columns, rows.collect(), "")
}

/// What would be built, with the keys of the configuration and all defaults.
fn plan_json(config: &Config) -> Value {
    let vtep = config.vtep.as_ref().map(|vtep| {
        let (min, max) = vtep.source_port_range;
        json!({
            "address": vtep.address,
            "netns": vtep.netns.to_string(),
            "encapsulation": vtep.encapsulation.word(),
            "port": vtep.port,
            "gpe_port": vtep.gpe_port,
            "geneve_port": vtep.geneve_port,
            "peers": word_of(Peers::WORDS, &vtep.peers),
            "unknown_vni": vtep.unknown_vni,
            "reserved_bits": reserved_bits_text(vtep.reserved_bits),
            "gbp": vtep.gbp,
            "udpcsum": vtep.udpcsum,
            "udp6zerocsumtx": vtep.udp6zerocsumtx,
            "udp6zerocsumrx": vtep.udp6zerocsumrx,
            "ecn": word_of(ECN_WORDS, &vtep.ecn),
            "inner_vlan": word_of(InnerVlan::WORDS, &vtep.inner_vlan),
            "source_port_range": [min, max],
            "source_ports": vtep.source_ports,
            "ttl": ttl(vtep.ttl),
            "tos": tos(vtep.tos),
            "df": word_of(Df::WORDS, &vtep.df),
            "oversize": word_of(OVERSIZE_WORDS, &vtep.oversize),
            "gso": word_of(GsoMode::WORDS, &vtep.gso),
            "receive_buffer": size(vtep.receive_buffer),
            "send_buffer": size(vtep.send_buffer),
            "path_mtu": word_of(PATH_MTU_WORDS, &vtep.path_mtu),
            "path_mtu_ageing": humantime::format_duration(vtep.path_mtu_ageing).to_string(),
        })
    });
    json!({
        "switch": {
            "workers": config.switch.workers,
            "ageing": humantime::format_duration(config.switch.ageing).to_string(),
            "socket": config.switch.socket.display().to_string(),
            "busy_poll": busy_poll(&config.switch),
            "pin": pin(&config.switch.pin),
            "nice": config.switch.nice,
        },
        "vtep": vtep,
        "bridge": config.bridges.iter().map(BridgeRequest::from).collect::<Vec<_>>(),
        "port": config.ports.iter().map(PortRequest::from).collect::<Vec<_>>(),
        "fdb": config.fdb.iter().map(FdbRequest::from).collect::<Vec<_>>(),
        "neigh": config.neigh.iter().map(NeighRequest::from).collect::<Vec<_>>(),
        "mdb": config.mdb.iter().map(MdbRequest::from).collect::<Vec<_>>(),
    })
}

fn busy_poll(switch: &SwitchConfig) -> String {
    if switch.busy_poll.is_zero() {
        return "0".to_owned();
    }
    humantime::format_duration(switch.busy_poll).to_string()
}

fn pin(pin: &Pin) -> Value {
    match pin {
        Pin::No => json!(false),
        Pin::InOrder => json!(true),
        Pin::To(cpus) => json!(cpus),
    }
}

/// As the configuration writes it: sizes are whole numbers of KiB.
fn size(bytes: usize) -> String {
    match bytes >> 10 {
        kib if kib % 1024 == 0 => format!("{}MiB", kib / 1024),
        kib => format!("{kib}KiB"),
    }
}

fn ttl(ttl: Ttl) -> Value {
    match ttl {
        Ttl::Fixed(ttl) => json!(ttl),
        Ttl::Inherit => json!("inherit"),
    }
}

fn tos(tos: Tos) -> Value {
    match tos {
        Tos::Fixed(tos) => json!(tos),
        Tos::Inherit => json!("inherit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Config {
        let text = format!(
            "[switch]\nworkers = 2\nbusy_poll = \"200us\"\npin = [0, 1]\nsocket = \"/run/weft/weft.sock\"\n{}",
            r#"
[vtep]
address = "192.0.2.1"
netns = "host1"
ttl = "inherit"
send_buffer = "512KiB"

[[bridge]]
name = "blue"
vni = 42
remotes = ["192.0.2.2"]

[[bridge]]
name = "green"
ageing = "0"

[[port]]
name = "eth0"
netns = "left"
bridge = "blue"
address = ["10.10.0.1/24"]
mac = "02:00:00:00:00:0a"

[[port]]
name = "trunk0"
trunk = { 10 = "blue", 20 = "green" }
native = "blue"
isolated = true
queue_length = 4000
mtu = 1400

[[fdb]]
bridge = "blue"
mac = "02:00:00:00:00:14"
vtep = "192.0.2.2"

[[neigh]]
bridge = "blue"
ip = "10.10.0.20"
mac = "02:00:00:00:00:14"

[[mdb]]
bridge = "blue"
group = "239.1.1.1"
"#
        );
        Config::parse("weft.toml", &text).unwrap()
    }

    #[test]
    fn a_good_file_shows_what_it_builds() {
        let expected = "\
weft.toml is good. It builds:
switch  2 workers, control socket /run/weft/weft.sock
        busy_poll 200us, pin [0,1], nice default
vtep    192.0.2.1 in host1, peers known
        encapsulation vxlan, port 4789, gpe_port 4790, geneve_port 6081
        16 source ports of 49152 to 65535, gso auto
        receive_buffer 8MiB, send_buffer 512KiB
        path_mtu measure, path_mtu_ageing 10m
        ttl inherit, tos 0, df set, oversize fragment
        reserved_bits drop, ecn kernel, inner_vlan pass
        gbp false, udpcsum true, udp6zerocsumtx false, udp6zerocsumrx false

BRIDGE  VNI  ENCAPSULATION  AGEING  LIMIT  PORTS             REMOTES
blue     42  vxlan              5m  65536  left/eth0 trunk0  192.0.2.2:4789
green     -  -                 off  65536  trunk0            -

PORT       KIND  BRIDGE        MTU  ADDRESS       BESIDES
left/eth0  tap   blue         auto  10.10.0.1/24  02:00:00:00:00:0a
trunk0     tap   10=blue      1400  -             isolated
                 20=green                         queue_length 4000
                 native=blue

STATIC ENTRY       BRIDGE  BEHIND               KIND
02:00:00:00:00:14  blue    vtep 192.0.2.2:4789  static

BRIDGE  IP          MAC                ROUTER
blue    10.10.0.20  02:00:00:00:00:14  no

GROUP      BRIDGE  SOURCE  MEMBER
239.1.1.1  blue    -       the overlay";
        let shown = plan("weft.toml", &example());
        assert_eq!(shown, expected, "\n{shown}\n");
    }

    #[test]
    fn the_plan_in_json_is_a_configuration_again() {
        let plan = plan_json(&example());
        assert_eq!(plan["vtep"]["ttl"], "inherit");
        assert_eq!(plan["port"][1]["trunk"]["20"], "green");
        let again = example().without_port("left/eth0").unwrap().with_port(&plan["port"][0]).unwrap();
        assert_eq!(again.port("left/eth0"), example().port("left/eth0"));
    }
}
