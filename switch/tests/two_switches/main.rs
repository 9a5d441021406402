//! Two switches, an underlay between them that loses, doubles and swaps, and hosts that speak real TCP across: all in one
//! thread, in memory, on a clock that the test steps, so that a seed repeats everything.
//!
//! ```text
//! host -- faulty port -- switch 0 == MemoryNet == switch 1 -- faulty port -- host
//! ```

#![allow(clippy::unwrap_used, clippy::unwrap_in_result)] // tests, and the floor beneath them

mod cable;
mod host;
mod site;

use std::time::Duration;

use cable::Traffic;
use host::Host;
use site::{BLUE, GREEN, World};
use smoltcp::wire::IpAddress;
use weft::{
    bridge::DropReason,
    port::fault::{FaultCounters, Faults},
    underlay::memory::Conditions,
};
use weft_vxlan::Encapsulation;

const BAD_CABLE: Faults = Faults { loss: 0.03, duplicate: 0.01, reorder: 0.02, corrupt: 0.01 };
const BAD_NET: Conditions =
    Conditions { loss: 0.01, duplication: 0.01, reorder: 0.02, mtu: 1550, queue_len: 4096, aggregate: true };
const GOOD_NET: Conditions = Conditions { loss: 0.0, duplication: 0.0, reorder: 0.0, ..BAD_NET };

const TRANSFER_LEN: usize = if cfg!(debug_assertions) { 512 << 10 } else { 2 << 20 };

/// How the two switches are made: what arrives must not depend on it.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Shape {
    /// Whether hosts and switches hand each other super-frames and unfinished checksums.
    offload: bool,
    /// Of each switch.
    workers: usize,
}

impl Shape {
    const ALL: [Self; 4] = [
        Self { offload: false, workers: 1 },
        Self { offload: false, workers: 4 },
        Self { offload: true, workers: 1 },
        Self { offload: true, workers: 4 },
    ];
}

/// The test in each shape; a failure says in which.
fn in_every_shape(test: impl Fn(Shape)) {
    for shape in Shape::ALL {
        eprintln!("{shape:?}");
        test(shape);
    }
}

fn v4(last: u8) -> IpAddress {
    IpAddress::v4(10, 0, 0, last)
}

fn v6(last: u8) -> IpAddress {
    IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last))
}

/// A host in BLUE behind each switch.
fn two_hosts(shape: Shape, seed: u64, cable: Faults, net: Conditions) -> World {
    let mut world = World::new(shape, seed, net);
    for site in 0..2 {
        world.add_host(site, BLUE, site as u8 + 1, cable);
    }
    world
}

#[test]
fn hosts_find_and_answer_each_other_over_the_overlay() {
    in_every_shape(|shape| {
        for addresses in [v4, v6] {
            let mut world = two_hosts(shape, 1, Faults::default(), GOOD_NET);
            assert_eq!(world.ping(0, addresses(2), 5), 5);
            assert_eq!(world.ping(1, addresses(1), 5), 5);
            assert_eq!(world.ping(0, addresses(9), 1), 0, "nobody has this address");
            world.assert_accounts();
        }
    });
}

#[test]
fn a_transfer_arrives_byte_for_byte_in_spite_of_bad_cables_and_a_bad_underlay() {
    in_every_shape(|shape| {
        for addresses in [v4, v6] {
            let mut world = two_hosts(shape, 2, BAD_CABLE, BAD_NET);
            world.transfer(0, 1, addresses(2), TRANSFER_LEN);
            world.assert_accounts();
            let net = world.net.counts();
            assert!(net.lost > 0 && net.duplicated > 0 && net.reordered > 0, "the net was bad: {net:?}");
            let directions = [FaultCounters::receive, FaultCounters::send];
            let cables =
                || world.hosts.iter().flat_map(|host| directions.map(|direction| host.cable.faults(direction)));
            assert!(cables().any(|faults| faults.lost > 0), "the cables were bad");
            assert_eq!(cables().any(|faults| faults.corrupted > 0), !shape.offload);
        }
    });
}

#[test]
fn every_encapsulation_carries_a_transfer_in_spite_of_a_bad_underlay() {
    in_every_shape(|shape| {
        Encapsulation::ALL.into_iter().for_each(|encapsulation| carries_a_transfer(shape, encapsulation))
    });
}

fn carries_a_transfer(shape: Shape, encapsulation: Encapsulation) {
    // The longest frame just fits, with the option that Geneve has.
    let mtu = if encapsulation.has_options() { 1558 } else { 1550 };
    let mut world = World::in_encapsulation(shape, 7, Conditions { mtu, ..BAD_NET }, encapsulation);
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

#[test]
fn without_faults_nothing_is_dropped_and_nothing_is_flooded_twice() {
    in_every_shape(|shape| {
        for (to, addresses) in [v4, v6].into_iter().enumerate() {
            let mut world = two_hosts(shape, 3, Faults::default(), GOOD_NET);
            world.transfer(1 - to, to, addresses(to as u8 + 1), TRANSFER_LEN);
            world.assert_accounts();
            for site in &world.sites {
                let total = site.counters().total();
                assert_eq!((total.copies, total.drops()), (0, 0));
            }
            let Traffic { frames, wire_frames } = world.hosts[to].cable.received;
            assert_eq!(wire_frames > frames, shape.offload, "put together where that is taken");
        }
    });
}

#[test]
fn a_seed_repeats_a_run_and_another_does_not() {
    let run = |shape, seed| {
        let mut world = two_hosts(shape, seed, BAD_CABLE, BAD_NET);
        world.transfer(0, 1, v4(2), 64 << 10);
        let totals: Vec<_> = world.sites.iter().map(|site| site.counters().total()).collect();
        let directions = [FaultCounters::receive, FaultCounters::send];
        let faults: Vec<_> =
            world.hosts.iter().map(|host| directions.map(|direction| host.cable.faults(direction))).collect();
        (totals, faults, world.net.counts(), world.elapsed())
    };
    in_every_shape(|shape| {
        let first = run(shape, 4);
        assert_eq!(run(shape, 4), first);
        assert_ne!(run(shape, 5), first);
    });
}

/// Equal addresses, Ethernet and IP, in two networks: whoever asks is answered by the one in its own.
#[test]
fn two_networks_with_equal_addresses_do_not_leak_into_each_other() {
    in_every_shape(|shape| {
        let mut world = World::new(shape, 6, GOOD_NET);
        for bridge in [BLUE, GREEN] {
            for site in 0..2 {
                world.add_host(site, bridge, site as u8 + 1, Faults::default());
            }
        }
        let [blue_server, green_server] = [1, 3];
        assert_eq!(world.ping(0, v4(2), 3), 3);
        assert_eq!(world.hosts[green_server].cable.received.frames, 0, "green has heard nothing of it");
        assert_eq!(world.ping(2, v4(2), 3), 3);
        let before = world.hosts[blue_server].cable.received.frames;
        world.transfer(2, green_server, v4(2), 64 << 10);
        assert_eq!(world.hosts[blue_server].cable.received.frames, before);
        world.assert_accounts();

        // With the whole of blue gone, its addresses must not answer from green.
        world.unplug(blue_server);
        assert_eq!(world.ping(0, v4(2), 3), 0);
        assert_eq!(world.ping(2, v4(2), 3), 3);
    });
}

/// MTU 1550 on the underlay leaves exactly 1500 for the inner packet behind IPv4, UDP, VXLAN and Ethernet.
#[test]
fn an_underlay_too_small_refuses_full_frames_by_name() {
    in_every_shape(|shape| {
        let mut world = two_hosts(shape, 7, Faults::default(), Conditions { mtu: 1549, ..GOOD_NET });
        assert_eq!(world.ping(0, v4(2), 2), 2);
        let delivered = world.try_transfer(0, 1, v4(2), 64 << 10, Duration::from_secs(5));
        assert!(delivered.is_err(), "full segments can't cross");
        let total = world.sites[0].counters().total();
        assert!(total.drops_out[DropReason::UnderlayMtu.index()] > 0);
        world.assert_accounts();
    });
}
