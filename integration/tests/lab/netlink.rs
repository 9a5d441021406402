//! What the control plane asks of, changes in and hears from a namespace over netlink.

use std::io;

use anyhow::{Context, ensure};
use tokio::sync::mpsc;
use weft::{
    control::{
        config::Cidr,
        link::{self, LinkEvent, Links},
    },
    lab::{BridgeOptions, Lab, VxlanOptions},
};
use weft_vxlan::Vni;

use super::{LONG, PREFIX};

/// Runs asynchronous work as a test of the control plane would.
pub(super) fn block_on<T>(work: impl AsyncFnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work())
}

async fn next(events: &mut mpsc::Receiver<LinkEvent>) -> anyhow::Result<LinkEvent> {
    let event = tokio::time::timeout(LONG, events.recv()).await.context("no event came")?;
    event.context("the events ended")
}

/// Waits for an event that `wanted` accepts; others come in between at the kernel's discretion.
async fn until(events: &mut mpsc::Receiver<LinkEvent>, wanted: impl Fn(&LinkEvent) -> bool) -> anyhow::Result<()> {
    while !wanted(&next(events).await?) {}
    Ok(())
}

pub(super) fn link_events() -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let namespace = lab.namespace("watched")?;
    block_on(async || {
        let mut events = link::watch(namespace.netns())?;
        let changed = |event: &LinkEvent, holds: &dyn Fn(&link::Link) -> bool| matches!(event, LinkEvent::Changed(link) if link.name == "w0" && holds(link));
        namespace.bridge("w0", &BridgeOptions::default())?;
        until(&mut events, |event| changed(event, &|link| link.up && link.kind.as_deref() == Some("bridge"))).await?;
        let index = namespace.link("w0")?.index;
        namespace.mtu("w0", 1234)?;
        until(&mut events, |event| changed(event, &|link| link.mtu == 1234 && link.index == index)).await?;
        let mac = "02:00:00:00:00:07".parse()?;
        namespace.mac("w0", mac)?;
        until(&mut events, |event| changed(event, &|link| link.mac == Some(mac))).await?;
        namespace.down("w0")?;
        until(&mut events, |event| changed(event, &|link| !link.up)).await?;
        namespace.up("w0")?;
        until(&mut events, |event| changed(event, &|link| link.up)).await?;
        namespace.delete("w0")?;
        let deleted = LinkEvent::Deleted { index, name: "w0".into() };
        until(&mut events, |event| *event == deleted).await?;
        // Another namespace's interfaces are another namespace's affair.
        let elsewhere = lab.namespace("elsewhere")?;
        elsewhere.bridge("w1", &BridgeOptions::default())?;
        namespace.bridge("w2", &BridgeOptions::default())?;
        until(&mut events, |event| match event {
            LinkEvent::Changed(link) => {
                assert_ne!(link.name, "w1");
                link.name == "w2"
            }
            LinkEvent::Deleted { .. } | LinkEvent::Resync => false,
        })
        .await
    })
}

pub(super) fn leaving_a_bridge() -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let namespace = lab.namespace("bridged")?;
    namespace.bridge("br0", &BridgeOptions::default())?;
    lab.veth((&namespace, "p0"), (&namespace, "p1"), 1500)?;
    namespace.enslave("p0", "br0")?;
    ensure!(namespace.link("p0")?.master == Some(namespace.link("br0")?.index));
    block_on(async || {
        let mut events = link::watch(namespace.netns())?;
        namespace.release("p0")?;
        namespace.bridge("mark", &BridgeOptions::default())?;
        until(&mut events, |event| {
            assert!(!matches!(event, LinkEvent::Deleted { .. }), "{event:?}");
            matches!(event, LinkEvent::Changed(link) if link.name == "mark")
        })
        .await
    })?;
    ensure!(namespace.link("p0")?.master.is_none());
    Ok(())
}

pub(super) fn lost_events_are_told() -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let namespace = lab.namespace("busy")?;
    namespace.bridge("w0", &BridgeOptions::default())?;
    block_on(async || {
        let mut events = link::watch(namespace.netns())?;
        // Nobody reads meanwhile: this runtime's only thread is here.
        namespace.links(async |links| {
            for mtu in 0..2000 {
                links.set_mtu("w0", 1000 + mtu).await?;
            }
            Ok(())
        })?;
        let (mut resyncs, mut last) = (0, 0);
        namespace.bridge("mark", &BridgeOptions::default())?;
        until(&mut events, |event| match event {
            LinkEvent::Resync => true,
            LinkEvent::Changed(_) | LinkEvent::Deleted { .. } => false,
        })
        .await?;
        resyncs += 1;
        // From here on nothing older than the resync may come, or its receiver would end with a wrong idea.
        namespace.mtu("w0", 5000)?;
        while last != 5000 {
            match next(&mut events).await? {
                LinkEvent::Changed(link) if link.name == "w0" => last = link.mtu,
                LinkEvent::Resync => resyncs += 1,
                LinkEvent::Changed(_) | LinkEvent::Deleted { .. } => {}
            }
            ensure!(matches!(last, 0 | 5000), "an event from before: MTU {last}");
        }
        ensure!(resyncs == 1, "{resyncs} resyncs");
        Ok(())
    })
}

pub(super) fn a_tap_takes_settings() -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let namespace = lab.namespace("host")?;
    namespace.run(&["ip", "tuntap", "add", "dev", "tap0", "mode", "tap"])?.ok()?;
    let mac = "02:00:00:00:00:0a".parse()?;
    let cidr = |address: &str, prefix_len| anyhow::Ok(Cidr { address: address.parse()?, prefix_len });
    let (v4, v6) = (cidr("10.1.0.1", 24)?, cidr("fd01::1", 64)?);
    block_on(async || {
        let links = Links::open(namespace.netns())?;
        links.set_mac("tap0", mac).await?;
        links.set_mtu("tap0", 1450).await?;
        links.add_address("tap0", v4).await?;
        links.add_address_without_dad("tap0", v6).await?;
        let tap = links.by_name("tap0").await?;
        ensure!(!tap.up && tap.kind.as_deref() == Some("tun"), "{tap:?}");
        links.set_up("tap0", true).await?;
        let tap = links.by_name("tap0").await?;
        ensure!((tap.mac, tap.mtu, tap.up) == (Some(mac), 1450, true), "{tap:?}");
        ensure!(!tap.carrier, "no program holds its other end");
        ensure!(links.addresses("tap0").await? == [v4, v6], "{:?}", links.addresses("tap0").await?);
        links.remove_address("tap0", v4).await?;
        ensure!(links.addresses("tap0").await? == [v6]);
        Ok(())
    })?;
    let shown = namespace.run(&["ip", "address", "show", "dev", "tap0"])?.ok()?.stdout;
    ensure!(shown.contains("inet6 fd01::1/64") && !shown.contains("tentative"), "{shown}");
    Ok(())
}

pub(super) fn the_underlay_is_found() -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let (here, there) = (lab.namespace("here")?, lab.namespace("there")?);
    lab.veth((&here, "under0"), (&there, "under0"), 1600)?;
    here.address("under0", "192.0.2.1/24")?;
    here.address("lo", "198.51.100.1/32")?;
    here.route("203.0.113.0/24", "192.0.2.2".parse()?)?;
    there.address("under0", "192.0.2.2/24")?;
    block_on(async || {
        let links = Links::open(here.netns())?;
        let holding = links.holding("192.0.2.1".parse()?).await?.context("somebody holds it")?;
        ensure!((holding.name.as_str(), holding.mtu, holding.loopback) == ("under0", 1600, false), "{holding:?}");
        ensure!(holding.kind.as_deref() == Some("veth"));
        let loopback = links.holding("198.51.100.1".parse()?).await?.context("lo holds it")?;
        ensure!(loopback.loopback);
        ensure!(links.holding("192.0.2.9".parse()?).await?.is_none());
        let route = links.route_to("203.0.113.7".parse()?, Some("198.51.100.1".parse()?)).await?;
        ensure!((route.link.name.as_str(), route.mtu) == ("under0", 1600), "{route:?}");
        let error = links.route_to("8.8.8.8".parse()?, None).await.unwrap_err();
        ensure!(error.kind() == io::ErrorKind::NetworkUnreachable, "{error:?}");
        Ok(())
    })
}

pub(super) fn vxlan_devices_are_listed() -> anyhow::Result<()> {
    let lab = Lab::new(PREFIX);
    let namespace = lab.namespace("host")?;
    namespace.vxlan("vx4", &VxlanOptions::new(Vni::new(7).unwrap(), "192.0.2.1".parse()?))?;
    let six = VxlanOptions { port: 8472, ..VxlanOptions::new(Vni::MAX, "2001:db8::1".parse()?) };
    namespace.vxlan("vx6", &six)?;
    let found = namespace.links(async |links| links.vxlan_devices().await)?;
    let found: Vec<_> = found.iter().map(|vx| (vx.link.name.as_str(), vx.vni, vx.port, vx.local)).collect();
    let expected = [
        ("vx4", Vni::new(7), 4789, Some("192.0.2.1".parse()?)),
        ("vx6", Some(Vni::MAX), 8472, Some("2001:db8::1".parse()?)),
    ];
    ensure!(found == expected, "{found:?}");
    Ok(())
}
