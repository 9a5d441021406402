use std::time::Duration;

use super::*;
use crate::{control::config::types::NetnsName, sys::inherited::Handle};

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
