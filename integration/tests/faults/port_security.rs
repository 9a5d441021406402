//! A tenant who says that he is somebody else, at a port that knows its stations.

use std::net::Ipv4Addr;

use anyhow::ensure;
use weft::wire::{MacAddr, arp};
use weft_integration::{
    scene::{Star, mac},
    shape::Shape,
    traffic::{EXPERIMENT, Injector, PingTrain, frame},
    weft::{PATIENCE, Weft, eventually},
};

use crate::{PREFIX, ping};

const TENANT: MacAddr = MacAddr::new([2, 0, 0, 0, 0, 0x33]);

/// The gratuitous reply that says that `sender` has `ip`.
fn claim(eth: MacAddr, sender: MacAddr, ip: [u8; 4]) -> Vec<u8> {
    let mut frame = arp::probe(sender, MacAddr::BROADCAST, Ipv4Addr::from(ip)).to_vec();
    frame[6..12].copy_from_slice(&eth.octets());
    frame[21] = 2; // a reply
    frame[28..32].copy_from_slice(&ip);
    frame.resize(60, 0);
    frame
}

pub(crate) fn spoofed(shape: Shape) -> anyhow::Result<()> {
    let star = Star::in_shape(shape, PREFIX, 3)?;
    let plain = star.port(2, "");
    let secured = star.port(2, &format!("mac = \"{TENANT}\"\nport_security = [\"{TENANT} 10.0.0.3\"]\n"));
    let weft = Weft::start(&star.switch, &star.config().replace(&plain, &secured))?;
    let [victim, peer, tenant] = [&star.hosts[0], &star.hosts[1], &star.hosts[2]];
    let peers_mac = mac(peer, "eth0")?;
    ping(victim, "10.0.0.2")?;
    ping(tenant, "10.0.0.1")?;
    let train = PingTrain::start(victim, "10.0.0.2")?;

    let mut injector = Injector::new(tenant, "eth0")?;
    let victims_mac = mac(victim, "eth0")?;
    let lies = [
        // The peer's place, its address by ARP, its address as a source.
        ("mac_spoofed", frame(victims_mac, peers_mac, EXPERIMENT)),
        ("mac_spoofed", claim(peers_mac, TENANT, [10, 0, 0, 2])),
        ("arp_spoofed", claim(TENANT, TENANT, [10, 0, 0, 2])),
        ("arp_spoofed", claim(TENANT, peers_mac, [10, 0, 0, 3])),
    ];
    for _ in 0..50 {
        injector.send_all(lies.iter().map(|(_, frame)| frame), 10_000);
    }
    tenant.run(&["ip", "address", "add", "10.0.0.77/24", "dev", "eth0"])?.ok()?;
    let stolen = tenant.run(&["ping", "-n", "-c3", "-i0.05", "-W1", "-I", "10.0.0.77", "10.0.0.1"])?;
    ensure!(!stolen.success(), "{stolen}");
    for (reason, least) in [("mac_spoofed", 100), ("arp_spoofed", 100), ("ip_spoofed", 1)] {
        eventually(reason, PATIENCE, || Ok(weft.dropped(reason)? >= least))?;
    }

    let neighbours = victim.run(&["ip", "-4", "neigh", "show", "10.0.0.2"])?.ok()?.stdout;
    ensure!(neighbours.contains(&peers_mac.to_string()), "the victim believes {neighbours}");
    ensure!(weft.whereabouts("blue", &peers_mac.to_string())? == Some(star.port_name(1)));
    train.stop()?.without_loss()?;
    ping(tenant, "10.0.0.1")?;
    weft.ledger_comes_to_balance()
}
