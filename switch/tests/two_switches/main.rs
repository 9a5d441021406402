//! Two switches, an underlay between them that loses, doubles and swaps, and hosts that speak real TCP across: all in one
//! thread, in memory, on a clock that the test steps, so that a seed repeats everything.
//!
//! ```text
//! host -- faulty port -- switch 0 == MemoryNet == switch 1 -- faulty port -- host
//! ```

#![allow(clippy::unwrap_used, clippy::unwrap_in_result)] // tests, and the floor beneath them

mod host;
mod site;

use std::time::Duration;

use host::Host;
use site::{BLUE, GREEN, World};
use smoltcp::wire::IpAddress;
use weft::{bridge::DropReason, port::fault::Faults, underlay::memory::Conditions};
use weft_vxlan::Encapsulation;

const BAD_CABLE: Faults = Faults { loss: 0.01, duplicate: 0.01, reorder: 0.02, corrupt: 0.002 };
const BAD_NET: Conditions =
    Conditions { loss: 0.01, duplication: 0.01, reorder: 0.02, mtu: 1550, queue_len: 4096, aggregate: true };
const GOOD_NET: Conditions = Conditions { loss: 0.0, duplication: 0.0, reorder: 0.0, ..BAD_NET };

const TRANSFER_LEN: usize = if cfg!(debug_assertions) { 512 << 10 } else { 2 << 20 };

fn v4(last: u8) -> IpAddress {
    IpAddress::v4(10, 0, 0, last)
}

fn v6(last: u8) -> IpAddress {
    IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last))
}

/// A host in BLUE behind each switch.
fn two_hosts(seed: u64, cable: Faults, net: Conditions) -> World {
    let mut world = World::new(seed, net);
    for site in 0..2 {
        world.add_host(site, BLUE, site as u8 + 1, cable);
    }
    world
}

#[test]
fn hosts_find_and_answer_each_other_over_the_overlay() {
    for addresses in [v4, v6] {
        let mut world = two_hosts(1, Faults::default(), GOOD_NET);
        assert_eq!(world.ping(0, addresses(2), 5), 5);
        assert_eq!(world.ping(1, addresses(1), 5), 5);
        assert_eq!(world.ping(0, addresses(9), 1), 0, "nobody has this address");
        world.assert_accounts();
    }
}

#[test]
fn a_transfer_arrives_byte_for_byte_in_spite_of_bad_cables_and_a_bad_underlay() {
    for addresses in [v4, v6] {
        let mut world = two_hosts(2, BAD_CABLE, BAD_NET);
        world.transfer(0, 1, addresses(2), TRANSFER_LEN);
        world.assert_accounts();
        let net = world.net.counts();
        assert!(net.lost > 0 && net.duplicated > 0 && net.reordered > 0, "the net was bad: {net:?}");
        for host in &world.hosts {
            let (receive, send) = (host.faults.receive(), host.faults.send());
            assert!(
                receive.lost > 0 && send.lost > 0 && receive.corrupted + send.corrupted > 0,
                "{receive:?} {send:?}"
            );
        }
    }
}

#[test]
fn every_encapsulation_carries_a_transfer_in_spite_of_a_bad_underlay() {
    for encapsulation in Encapsulation::ALL {
        // The longest frame just fits, with the option that Geneve has.
        let mtu = if encapsulation.has_options() { 1558 } else { 1550 };
        let mut world = World::in_encapsulation(7, Conditions { mtu, ..BAD_NET }, encapsulation);
        for site in 0..2 {
            world.add_host(site, BLUE, site as u8 + 1, Faults::default());
        }
        world.transfer(0, 1, v4(2), TRANSFER_LEN);
        world.assert_accounts();
        for site in &world.sites {
            let counters = site.counters();
            assert_eq!(counters.underlay.drops_in.iter().sum::<u64>(), 0, "{encapsulation}: every header was taken");
            assert_eq!(counters.total().drops_out[DropReason::UnderlayMtu.index()], 0, "{encapsulation}");
        }
        assert!(world.net.counts().lost > 0, "{encapsulation}: the net was bad");
    }
}

#[test]
fn without_faults_nothing_is_dropped_and_nothing_is_flooded_twice() {
    let mut world = two_hosts(3, Faults::default(), GOOD_NET);
    world.transfer(1, 0, v4(1), TRANSFER_LEN);
    world.assert_accounts();
    for site in &world.sites {
        let total = site.counters().total();
        assert_eq!((total.copies, total.drops()), (0, 0));
    }
}

#[test]
fn a_seed_repeats_a_run_and_another_does_not() {
    let run = |seed| {
        let mut world = two_hosts(seed, BAD_CABLE, BAD_NET);
        world.transfer(0, 1, v4(2), 64 << 10);
        let totals: Vec<_> = world.sites.iter().map(|site| site.counters().total()).collect();
        let faults: Vec<_> = world.hosts.iter().map(|host| (host.faults.receive(), host.faults.send())).collect();
        (totals, faults, world.net.counts(), world.elapsed())
    };
    let first = run(4);
    assert_eq!(run(4), first);
    assert_ne!(run(5), first);
}

/// Equal addresses, Ethernet and IP, in two networks: whoever asks is answered by the one in its own.
#[test]
fn two_networks_with_equal_addresses_do_not_leak_into_each_other() {
    let mut world = World::new(6, GOOD_NET);
    for bridge in [BLUE, GREEN] {
        for site in 0..2 {
            world.add_host(site, bridge, site as u8 + 1, Faults::default());
        }
    }
    let [blue_server, green_server] = [1, 3];
    assert_eq!(world.ping(0, v4(2), 3), 3);
    assert_eq!(world.hosts[green_server].frames_received(), 0, "green has heard nothing of it");
    assert_eq!(world.ping(2, v4(2), 3), 3);
    let before = world.hosts[blue_server].frames_received();
    world.transfer(2, green_server, v4(2), 64 << 10);
    assert_eq!(world.hosts[blue_server].frames_received(), before);
    world.assert_accounts();

    // With the whole of blue gone, its addresses must not answer from green.
    world.unplug(blue_server);
    assert_eq!(world.ping(0, v4(2), 3), 0);
    assert_eq!(world.ping(2, v4(2), 3), 3);
}

/// MTU 1550 on the underlay leaves exactly 1500 for the inner packet behind IPv4, UDP, VXLAN and Ethernet.
#[test]
fn an_underlay_too_small_refuses_full_frames_by_name() {
    let mut world = two_hosts(7, Faults::default(), Conditions { mtu: 1549, ..GOOD_NET });
    assert_eq!(world.ping(0, v4(2), 2), 2);
    let delivered = world.try_transfer(0, 1, v4(2), 64 << 10, Duration::from_secs(5));
    assert!(delivered.is_err(), "full segments can't cross");
    let total = world.sites[0].counters().total();
    assert!(total.drops_out[DropReason::UnderlayMtu.index()] > 0);
    world.assert_accounts();
}
