//! Multicast groups, with the kernel's hosts as members and its bridge as querier.

use std::{
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use weft::{lab::Namespace, wire::MacAddr};
use weft_integration::{
    frames::{ethernet, icmp_packet},
    shape::{Shape, in_every_shape},
    weft::eventually,
};

use crate::{Hosts, LONG, NEEDS, NEEDS_PING};

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 10, 10, 10);
const NOBODYS: Ipv4Addr = Ipv4Addr::new(239, 10, 10, 11);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 7);
/// A bridge that asks for members and wants quick answers.
const ASKS: &str =
    "mcast_querier = true\nmcast_query_response_interval = \"500ms\"\nmcast_last_member_interval = \"300ms\"";

pub(crate) fn tests() -> Vec<Trial> {
    in_every_shape(&[
        ("hosts_join_and_leave_groups", NEEDS, join_and_leave),
        ("a_kernel_bridge_is_found_as_querier", NEEDS, kernel_querier),
        ("neighbour_discovery_crosses_a_bridge_that_snoops", NEEDS_PING, neighbour_discovery),
        ("permanent_members_come_and_go", NEEDS, permanent),
        ("a_group_s_frames_go_to_each_host_s_own_address", NEEDS, to_unicast),
    ])
}

/// A packet to `group` from a host.
fn traffic<const N: usize>(hosts: &Hosts<N>, from: usize, group: Ipv4Addr) -> anyhow::Result<Vec<u8>> {
    let [_, b, c, d] = group.octets();
    let dst = MacAddr::new([1, 0, 0x5e, b & 0x7f, c, d]);
    Ok(ethernet(dst, hosts.mac(from)?, 0x0800, &icmp_packet(0, Ipv4Addr::new(192, 0, 2, 1), group)))
}

fn join(host: &Namespace, address: Ipv4Addr, group: Ipv4Addr) -> anyhow::Result<UdpSocket> {
    let joined = host.within(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.join_multicast_v4(&group, &address).map(|()| socket)
    });
    Ok(joined??)
}

/// The ports that are members of a group, in order.
fn members<const N: usize>(hosts: &Hosts<N>, group: &str) -> anyhow::Result<Vec<String>> {
    let mdb = hosts.weft.show("mdb")?;
    let entries = mdb[0]["entries"].as_array().context("entries")?;
    let members =
        entries.iter().filter(|entry| entry["group"] == group).filter_map(|entry| entry["members"].as_array());
    let mut ports: Vec<_> = members.flatten().filter_map(|member| member["port"].as_str()).map(str::to_owned).collect();
    ports.sort();
    Ok(ports)
}

fn eventually_members<const N: usize>(hosts: &Hosts<N>, group: &str, wanted: &[usize]) -> anyhow::Result<()> {
    let wanted: Vec<_> = wanted.iter().map(|host| hosts.port(*host)).collect();
    eventually(&format!("the members of {group} are {wanted:?}"), LONG, || Ok(members(hosts, group)? == wanted))
}

fn join_and_leave(shape: Shape) -> anyhow::Result<()> {
    let mut hosts = Hosts::new(shape, ASKS, ["", "", ""])?;
    sleep(Duration::from_secs(1));
    let (to_group, to_nobody) = (traffic(&hosts, 0, GROUP)?, traffic(&hosts, 0, NOBODYS)?);
    hosts.send(0, &to_group, 3, [0, 0, 0])?;
    ensure!(hosts.weft.dropped("no_mcast_member")? >= 3);

    let socket = join(&hosts.hosts[1], Ipv4Addr::new(192, 0, 2, 2), GROUP)?;
    eventually_members(&hosts, &GROUP.to_string(), &[1])?;
    hosts.send(0, &to_group, 3, [0, 3, 0])?;
    hosts.send(0, &to_nobody, 3, [0, 0, 0])?;

    drop(socket);
    eventually_members(&hosts, &GROUP.to_string(), &[])?;
    hosts.send(0, &to_group, 3, [0, 0, 0])?;

    hosts.reload("mcast_snooping = false", ["", "", ""])?;
    hosts.send(0, &to_group, 3, [0, 3, 3])?;
    hosts.weft.ledger_comes_to_balance()
}

fn kernel_querier(shape: Shape) -> anyhow::Result<()> {
    let mut hosts = Hosts::new(shape, "", ["", "", ""])?;
    let to_group = traffic(&hosts, 0, GROUP)?;
    hosts.send(0, &to_group, 1, [0, 1, 1])?;
    let router = &hosts.hosts[2];
    for command in [
        "ip link add up0 type bridge mcast_querier 1 mcast_query_response_interval 50",
        "ip link set eth0 master up0",
        "ip link set up0 up",
    ] {
        let done = router.run(&command.split(' ').collect::<Vec<_>>())?;
        ensure!(done.success(), "{command}: {}", done.stderr);
    }
    let port = hosts.port(2);
    let is_router = |mdb: &Value| mdb[0]["queriers"][0]["port"] == port && mdb[0]["routers"][0]["port"] == port;
    eventually("the kernel's bridge is the querier", LONG, || Ok(is_router(&hosts.weft.show("mdb")?)))?;
    sleep(Duration::from_secs(1));
    hosts.send(0, &to_group, 1, [0, 0, 1])?;
    let _socket = join(&hosts.hosts[1], Ipv4Addr::new(192, 0, 2, 2), GROUP)?;
    eventually_members(&hosts, &GROUP.to_string(), &[1])?;
    hosts.send(0, &to_group, 1, [0, 1, 1])?;
    hosts.weft.ledger_comes_to_balance()
}

fn neighbour_discovery(shape: Shape) -> anyhow::Result<()> {
    let hosts = Hosts::<2>::with_ipv6(shape, ASKS, ["", ""])?;
    let solicited = "ff02::1:ff00:2";
    eventually_members(&hosts, solicited, &[1])?;
    ensure!(hosts.reaches(0, 1)? == [true, true]);

    let index = hosts.hosts[1].link("eth0")?.index;
    let socket = hosts.hosts[1].within(|| {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        socket.join_multicast_v6(&GROUP_V6, index).map(|()| socket)
    })??;
    eventually_members(&hosts, &GROUP_V6.to_string(), &[1])?;
    drop(socket);
    eventually_members(&hosts, &GROUP_V6.to_string(), &[])?;
    hosts.weft.ledger_comes_to_balance()
}

fn permanent(shape: Shape) -> anyhow::Result<()> {
    let mut hosts = Hosts::new(shape, ASKS, ["", "", ""])?;
    sleep(Duration::from_secs(1));
    let to_group = traffic(&hosts, 0, GROUP)?;
    let (group, port) = (GROUP.to_string(), hosts.port(2));
    let entry = ["--bridge", "br0", "--group", &group, "--port", &port];
    hosts.weft.succeed(&[&["mdb", "add"][..], &entry].concat())?;
    eventually_members(&hosts, &group, &[2])?;
    hosts.send(0, &to_group, 1, [0, 0, 1])?;
    hosts.weft.succeed(&[&["mdb", "del"][..], &entry].concat())?;
    hosts.send(0, &to_group, 1, [0, 0, 0])?;
    ensure!(!hosts.weft.command(&[&["mdb", "del"][..], &entry].concat())?.success(), "what is not there can't go");
    Ok(())
}

fn to_unicast(shape: Shape) -> anyhow::Result<()> {
    let mut hosts = Hosts::new(shape, ASKS, ["", "mcast_to_unicast = true"])?;
    let _socket = join(&hosts.hosts[1], Ipv4Addr::new(192, 0, 2, 2), GROUP)?;
    eventually_members(&hosts, &GROUP.to_string(), &[1])?;
    sleep(Duration::from_secs(1));
    let to_group = traffic(&hosts, 0, GROUP)?;
    let to_host = [&hosts.mac(1)?.octets()[..], &to_group[6..]].concat();
    hosts.captures[1].take()?;
    hosts.wires[0].repeat(&to_group, 1)?;
    hosts.captures[1].find(|frame| frame == to_host)?;
    ensure!(!hosts.captures[1].take()?.contains(&to_group));
    hosts.weft.ledger_comes_to_balance()
}
