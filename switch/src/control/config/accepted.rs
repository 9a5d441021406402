//! What good configurations mean.

use std::time::Duration;

use weft_vxlan::{Encapsulation, HeaderFormat, Vni, ecn::EcnMode, header::ReservedBits};

use super::*;
use crate::{bridge::StpState, wire::VlanId};

fn parse(text: &str) -> Config {
    Config::parse("weft.toml", text).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

#[test]
fn an_empty_file_is_a_switch_with_nothing_in_it() {
    assert_eq!(parse(""), Config::empty());
}

#[test]
fn what_is_left_out_has_its_default() {
    let config =
        parse("[vtep]\naddress = \"192.0.2.1\"\n[[bridge]]\nname = \"b\"\n[[port]]\nname = \"p\"\nbridge = \"b\"\n");
    assert_eq!(config.vtep, Some(VtepConfig::new("192.0.2.1".parse().unwrap())));
    assert_eq!(config.bridges, [BridgeConfig::new("b")]);
    assert_eq!(config.ports, [PortConfig::new(NetnsName::Own, "p", Membership::Access("b".into()))]);
}

#[test]
fn every_key_of_the_example_arrives() {
    let config = parse(include_str!("../../../docs/weft.toml"));
    let vtep = config.vtep.as_ref().unwrap();
    assert_eq!((vtep.receive_buffer, vtep.send_buffer), (8 << 20, 4 << 20));
    assert_eq!(vtep.netns, NetnsName::Named("host1".into()));
    assert_eq!((vtep.source_port_range, vtep.source_ports), ((49152, 65535), 16));
    assert_eq!((vtep.ttl, vtep.tos, vtep.df, vtep.gso), (Ttl::Fixed(64), Tos::Fixed(0), Df::Set, GsoMode::Auto));

    let blue = config.bridge("blue").unwrap();
    assert_eq!(blue.vni, Vni::new(42));
    assert_eq!(blue.remotes, ["192.0.2.2:4789".parse().unwrap(), "192.0.2.3:8472".parse().unwrap()]);
    assert_eq!((blue.fdb_max_learned, blue.group_fwd_mask), (10_000, 0x4000));
    assert!(blue.no_linklocal_learn);
    let lab = config.bridge("lab").unwrap();
    assert_eq!((lab.encapsulation, lab.geneve_options.len(), lab.remotes[0].port()), (Encapsulation::Geneve, 8, 6081));

    let eth0 = config.port("left/eth0").unwrap();
    assert_eq!(eth0.addresses.iter().map(Cidr::to_string).collect::<Vec<_>>(), ["10.10.0.1/24", "fd00:10::1/64"]);
    assert_eq!((eth0.mac.unwrap().to_string().as_str(), eth0.mtu), ("02:00:00:00:00:0a", Some(1450)));

    assert_eq!(eth0.queue_length, Some(2000));

    let Membership::Trunk { vlans, native } = &config.port("router/trunk0").unwrap().membership else { panic!() };
    assert_eq!(
        vlans.iter().map(|(vlan, bridge)| (vlan.get(), bridge.as_str())).collect::<Vec<_>>(),
        [(10, "blue"), (20, "green")]
    );
    assert_eq!(native.as_deref(), Some("blue"));
    assert_eq!(config.port("router/trunk0").unwrap().untagged, Some(vec![VlanId::new(10).unwrap()]));
    let uplink = config.port("uplink").unwrap();
    assert_eq!((uplink.kind, uplink.group_fwd_mask), (PortKind::Packet, 4));

    let guest = config.port("guest").unwrap();
    assert_eq!((guest.state, guest.fdb_max_learned), (StpState::Forwarding, 100));
    let stations: Vec<_> = guest.port_security.iter().map(ToString::to_string).collect();
    assert_eq!(stations, ["02:00:00:00:00:0b 10.10.0.11 fd00:10::b", "02:00:00:00:00:0c"]);
    assert!(guest.locked && guest.mab && guest.neigh_suppress && blue.neigh_suppress);
    assert_eq!(guest.backup_port.as_deref(), Some("uplink"));
    assert_eq!(config.fdb[1].at, FdbTarget::Vtep("192.0.2.2:4789".parse().unwrap()));
    let kinds: Vec<_> = config.fdb.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [FdbKind::Static, FdbKind::Sticky, FdbKind::ExternLearn, FdbKind::Permanent]);
    let neigh = &config.neigh[0];
    assert_eq!((neigh.ip.to_string().as_str(), neigh.router), ("10.10.0.2", false));
}

#[test]
fn the_example_has_every_key() {
    let example = include_str!("../../../docs/weft.toml");
    for keys in sections::ALL_KEYS {
        for (key, _) in *keys {
            let there = |line: &str| line.trim_start_matches('#').split(" =").next() == Some(key);
            assert!(example.lines().any(there), "{key} is not in the example");
        }
    }
}

#[test]
fn the_reference_has_every_key_and_its_blocks_are_good() {
    let reference = include_str!("../../../docs/configuration.md");
    for keys in sections::ALL_KEYS {
        for (key, _) in *keys {
            assert!(reference.contains(&format!("\n| `{key}` |")), "{key} is not in the reference");
        }
    }
    let blocks: Vec<_> = reference.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() > 3);
    for block in blocks {
        parse(block);
    }
}

#[test]
fn a_profile_sets_defaults_and_each_line_itself() {
    let vtep =
        |rest: &str| parse(&format!("[vtep]\ninner_vlan = \"pass\"\n{rest}\naddress = \"192.0.2.1\"\n")).vtep.unwrap();
    let rfc = vtep("profile = \"rfc7348\"");
    assert_eq!((rfc.reserved_bits, rfc.ecn, rfc.inner_vlan), (ReservedBits::Ignore, EcnMode::Rfc6040, InnerVlan::Pass));
    let kernel = vtep("profile = \"kernel\"\necn = \"rfc6040\"");
    assert_eq!((kernel.reserved_bits, kernel.ecn), (ReservedBits::Drop, EcnMode::Rfc6040));
}

#[test]
fn a_small_range_needs_no_smaller_number_of_ports() {
    let vtep =
        |range: &str| parse(&format!("[vtep]\naddress = \"192.0.2.1\"\nsource_port_range = {range}\n")).vtep.unwrap();
    assert_eq!(vtep("[5000, 5003]").source_ports, 4);
    assert_eq!(vtep("[4788, 4789]").source_ports, 1);
    assert_eq!(vtep("[1, 65535]").source_ports, 16);
}

#[test]
fn a_bridge_ages_as_the_switch_does_unless_it_says_otherwise() {
    let config =
        parse("[[bridge]]\nname = \"a\"\n[[bridge]]\nname = \"b\"\nageing = \"0\"\n[switch]\nageing = \"1min\"\n");
    assert_eq!(config.bridges[0].ageing, Duration::from_secs(60));
    assert_eq!(config.bridges[1].ageing, Duration::ZERO);
}

#[test]
fn a_trunk_may_be_written_as_a_table_of_its_own() {
    let config = parse("[[bridge]]\nname = \"b\"\n[[port]]\nname = \"p\"\n[port.trunk]\n4094 = \"b\"\n");
    assert!(config.ports[0].membership.contains("b"));
}

#[test]
fn numbers_may_be_written_in_all_of_tomls_ways() {
    let config = parse("[[bridge]]\nname = \"b\"\ngroup_fwd_mask = 0b100_0000_0000_0000\nfdb_max_learned = 1_000\n");
    assert_eq!((config.bridges[0].group_fwd_mask, config.bridges[0].fdb_max_learned), (0x4000, 1000));
}

#[test]
fn a_bridge_is_wrapped_as_it_says_or_as_the_vtep_says() {
    let bridge = |vtep: &str, bridge: &str| {
        let text = format!(
            "[vtep]\naddress = \"192.0.2.1\"\n{vtep}\n[[bridge]]\nname = \"b\"\nvni = 1\nremotes = [\"192.0.2.2\"]\n{bridge}\n\
             [[fdb]]\nbridge = \"b\"\nmac = \"02:00:00:00:00:01\"\nvtep = \"192.0.2.3\"\n"
        );
        let config = parse(&text);
        let FdbTarget::Vtep(entry) = config.fdb[0].at else { panic!() };
        let bridge = &config.bridges[0];
        assert_eq!(entry.port(), bridge.remotes[0].port(), "both without a port of their own");
        (bridge.encapsulation, entry.port(), config.formats())
    };
    let (vxlan, gbp, gpe, geneve) =
        (Encapsulation::Vxlan, Encapsulation::VxlanGbp, Encapsulation::VxlanGpe, Encapsulation::Geneve);
    assert_eq!(bridge("", ""), (vxlan, 4789, vec![HeaderFormat::Vxlan]));
    assert_eq!(bridge("gbp = true", ""), (gbp, 4789, vec![HeaderFormat::Vxlan]));
    assert_eq!(bridge("gbp = true", "encapsulation = \"vxlan\"").0, gbp);
    assert_eq!(bridge("gbp = true", "encapsulation = \"geneve\""), (geneve, 6081, vec![HeaderFormat::Geneve]));
    assert_eq!(bridge("encapsulation = \"geneve\"\ngeneve_port = 7", "").1, 7);
    assert_eq!(bridge("encapsulation = \"geneve\"", "encapsulation = \"vxlan-gpe\"").0, gpe);
    assert_eq!(bridge("encapsulation = \"vxlan-gpe\"", "").2, [HeaderFormat::VxlanGpe]);
    // Nobody reaches VTEPs yet.
    let alone = parse("[vtep]\naddress = \"192.0.2.1\"\nencapsulation = \"geneve\"\n[[bridge]]\nname = \"b\"\n");
    assert_eq!(alone.formats(), [HeaderFormat::Geneve]);
    assert_eq!(parse("").formats(), []);
}

#[test]
fn one_option_of_geneve_is_a_table_and_several_are_a_list() {
    let options = |option: &str| {
        let text = format!(
            "[vtep]\naddress = \"192.0.2.1\"\nencapsulation = \"geneve\"\n[[bridge]]\nname = \"b\"\nvni = 1\ngeneve_option = {option}\n"
        );
        parse(&text).bridges[0].geneve_options.as_bytes().to_vec()
    };
    assert_eq!(options("{ class = 0xff01, type = 1, data = \"C0ffee00\" }"), [0xff, 1, 1, 1, 0xc0, 0xff, 0xee, 0]);
    assert_eq!(
        options("[{ class = 1, type = 0x82 }, { class = 2, type = 3, data = \"\" }]"),
        [0, 1, 0x82, 0, 0, 2, 3, 0]
    );
    assert!(options("[]").is_empty());
}

#[test]
fn two_switches_may_share_a_host_on_different_ports() {
    let config =
        parse("[vtep]\naddress = \"192.0.2.1\"\n[[bridge]]\nname = \"b\"\nvni = 0\nremotes = [\"192.0.2.1:8472\"]\n");
    assert_eq!(config.bridges[0].remotes[0].port(), 8472);
}

#[test]
fn where_it_stood_does_not_matter_for_what_it_means() {
    assert_eq!(parse("[[bridge]]\nname = \"b\"\n"), parse("\n\n# moved\n[[bridge]]\nname = 'b'\n"));
}
