//! Kinds of tunnels that no lab has: what doctor says of them is what a ping finds out.

use anyhow::{Context, ensure};
use weft::lab::{BridgeOptions, Lab, Namespace};

use crate::doctor;

/// Whether a ping gets an answer, and what doctor finds first on its way.
fn is_so(from: &Namespace, to: &str) -> anyhow::Result<(bool, String)> {
    let answered = from.run(&["ping", "-c1", "-W1", to])?.success();
    let (_, report) = doctor(&["--netns", from.full_name(), "--to", to])?;
    Ok((answered, report["first_fault"]["finding"].as_str().unwrap_or("nothing").to_owned()))
}

/// hosts a - left === right - b: vxlan devices in left and right, b's address on the device itself.
pub(crate) fn groups_and_proxies() -> anyhow::Result<()> {
    let lab = Lab::new("weft-doctor-tunnels");
    let (a, left, right) = (lab.namespace("a")?, lab.namespace("left")?, lab.namespace("right")?);
    lab.veth((&left, "under0"), (&right, "under0"), 1600)?;
    left.address("under0", "192.0.2.1/24")?;
    right.address("under0", "192.0.2.2/24")?;
    left.bridge("br0", &BridgeOptions::default())?;
    lab.veth((&a, "eth0"), (&left, "port0"), 1500)?;
    left.enslave("port0", "br0")?;
    a.address("eth0", "10.0.0.1/24")?;
    let make = |host: &Namespace, to: &[&str]| -> anyhow::Result<()> {
        host.run(&["ip", "link", "delete", "vx0"])?;
        let words = ["ip", "link", "add", "vx0", "address", MACS[usize::from(host.full_name() == right.full_name())]];
        let kind = ["type", "vxlan", "id", "42", "dstport", "4789", "dev", "under0"];
        host.run(&[&words[..], &kind[..], to].concat())?.ok()?;
        host.run(&["ip", "link", "set", "vx0", "up"])?.ok()?;
        Ok(())
    };
    let far = |to: &[&str]| make(&right, to).and_then(|()| Ok(right.address("vx0", "10.0.0.2/24")?));

    make(&left, &["group", "239.1.1.1"])?;
    left.enslave("vx0", "br0")?;
    far(&["group", "239.1.1.1"])?;
    let whole = is_so(&a, "10.0.0.2")?;
    ensure!(whole == (true, "nothing".to_owned()), "one group: {whole:?}");
    far(&["group", "239.1.1.2"])?;
    a.run(&["ip", "neighbour", "flush", "dev", "eth0"])?.ok()?;
    left.run(&["ip", "link", "set", "vx0", "down"])?.ok()?;
    left.run(&["ip", "link", "set", "vx0", "up"])?.ok()?;
    let apart = is_so(&a, "10.0.0.2")?;
    ensure!(apart == (false, "vtep-remote-wrong".to_owned()), "two groups: {apart:?}");

    far(&["remote", "192.0.2.1"])?;
    make(&left, &["remote", "192.0.2.2", "proxy"])?;
    left.enslave("vx0", "br0")?;
    a.run(&["ip", "neighbour", "flush", "dev", "eth0"])?.ok()?;
    let unknown = is_so(&a, "10.0.0.2")?;
    ensure!(unknown == (false, "neighbour-missing".to_owned()), "a proxy that knows nobody: {unknown:?}");
    left.run(&["ip", "neighbour", "add", "10.0.0.2", "lladdr", MACS[1], "dev", "vx0"])?.ok()?;
    a.run(&["ip", "neighbour", "flush", "dev", "eth0"])?.ok()?;
    let one_way = is_so(&a, "10.0.0.2")?;
    ensure!(one_way == (false, "neighbour-missing".to_owned()), "answers don't pass a proxy: {one_way:?}");
    let mac = a.link("eth0")?.mac.map(|mac| mac.to_string());
    let mac = mac.context("an Ethernet interface has an address")?;
    right.run(&["ip", "neighbour", "replace", "10.0.0.1", "lladdr", &mac, "dev", "vx0"])?.ok()?;
    let known = is_so(&a, "10.0.0.2")?;
    ensure!(known == (true, "nothing".to_owned()), "a proxy that knows: {known:?}");
    Ok(())
}

/// Of the device in left, and of that in right.
const MACS: [&str; 2] = ["02:00:00:00:00:11", "02:00:00:00:00:22"];
