//! The overlay of two users without privileges, and of one with the kernel.

use anyhow::ensure;
use libtest_mimic::Trial;
use weft::lab::VxlanOptions;
use weft_integration::{exchange::stream_within, trial};

use crate::scene::{Hosts, NEEDS, NEEDS_TUN, OVERLAY, Station, Tun, UNDERLAY, User, Weft, address, config};

/// What is copied each way.
const LEN: usize = 100 << 20;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("two_users_share_an_overlay_by_taps", NEEDS_TUN, || between_two_users(Tun::ForAll, "tap")),
        trial("two_users_share_an_overlay_without_dev_net_tun", NEEDS, || between_two_users(Tun::Missing, "veth")),
        trial("a_user_and_the_kernel_share_an_overlay", NEEDS_TUN, || with_the_kernel(Tun::ForAll)),
        trial("a_user_without_dev_net_tun_and_the_kernel_share_an_overlay", NEEDS, || with_the_kernel(Tun::ForRoot)),
    ]
}

fn between_two_users(tun: Tun, kind: &str) -> anyhow::Result<()> {
    let Hosts { hosts, .. } = &Hosts::new()?;
    let users = [User::new()?, User::new()?];
    let stations = [Station::new(&users[0], &hosts[0])?, Station::new(&users[1], &hosts[1])?];
    let mut wefts = Vec::new();
    for host in 0..2 {
        let config = config(host, &stations[host].name(), "");
        wefts.push(Weft::start(&users[host], &hosts[host], &config, tun)?);
    }
    for (weft, station) in wefts.iter().zip(&stations) {
        weft.has_no_privileges()?;
        let port = weft.port(&format!("{}/eth0", station.name()))?;
        ensure!(port.as_ref().is_some_and(|port| port["kind"] == kind), "{port:#?}\n{}", weft.log());
        let says_so = weft.log().contains("a veth pair takes the tap's place");
        ensure!(says_so == (kind == "veth"), "{}", weft.log());
    }
    stations[0].pings(OVERLAY[1])?;
    stations[1].pings(OVERLAY[0])?;
    stream_within(stations[0].netns(), stations[1].netns(), address(OVERLAY[1]), LEN)?;
    stream_within(stations[1].netns(), stations[0].netns(), address(OVERLAY[0]), LEN)?;
    for weft in wefts {
        weft.has_no_privileges()?;
        weft.books_balance()?;
        weft.end()?;
    }
    for station in &stations {
        ensure!(!station.has_interface("eth0")?, "what weft made went with it");
    }
    Ok(())
}

fn with_the_kernel(tun: Tun) -> anyhow::Result<()> {
    let Hosts { hosts, .. } = &Hosts::new()?;
    let user = User::new()?;
    let station = Station::new(&user, &hosts[0])?;
    let kernel = &hosts[1];
    let options = VxlanOptions::new(weft_vxlan::Vni::new(42).unwrap(), address(UNDERLAY[1]));
    kernel.vxlan("vx0", &VxlanOptions { mtu: Some(1450), ..options.remotes([address(UNDERLAY[0])]) })?;
    kernel.address("vx0", &format!("{}/24", OVERLAY[1]))?;
    let weft = Weft::start(&user, &hosts[0], &config(0, &station.name(), ""), tun)?;
    weft.has_no_privileges()?;
    station.pings(OVERLAY[1])?;
    kernel.run(&["ping", "-c", "3", "-i", "0.05", "-W", "5", OVERLAY[0]])?.ok()?;
    stream_within(station.netns(), kernel.netns(), address(OVERLAY[1]), LEN)?;
    stream_within(kernel.netns(), station.netns(), address(OVERLAY[0]), LEN)?;
    weft.books_balance()?;
    weft.end()
}
