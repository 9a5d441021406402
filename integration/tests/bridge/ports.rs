//! What a port's switches do: learning, the three floods, isolation, hairpin; and tags, which mean nothing here.

use anyhow::ensure;
use libtest_mimic::Trial;
use weft::wire::MacAddr;
use weft_integration::{
    frames::{experiment, tagged},
    shape::{Shape, in_every_shape},
};

use crate::{Hosts, NEEDS, NEEDS_PING, NOBODY};

const MULTICAST: MacAddr = MacAddr::new([1, 0, 0x5e, 0, 0, 1]);
const SOMEBODY: MacAddr = MacAddr::new([2, 0, 0, 0, 0xee, 1]);

pub(crate) fn tests() -> Vec<Trial> {
    in_every_shape(&[
        ("hosts_of_a_bridge_reach_each_other", NEEDS_PING, reach),
        ("a_port_with_learning_off_teaches_nothing", NEEDS, learning_off),
        ("each_kind_of_flood_has_a_switch_of_its_own", NEEDS, floods),
        ("isolated_ports_reach_all_but_each_other", NEEDS_PING, isolation),
        ("hairpin_sends_a_frame_back_where_it_came_from", NEEDS, hairpin),
        ("tagged_frames_pass_an_access_bridge_untouched", NEEDS, tags),
    ])
}

fn reach(shape: Shape) -> anyhow::Result<()> {
    let hosts = Hosts::with_ipv6(shape, "", [""; 2])?;
    ensure!(hosts.reaches(0, 1)? == [true; 2] && hosts.reaches(1, 0)? == [true; 2]);
    hosts.weft.ledger_comes_to_balance()
}

fn learning_off(shape: Shape) -> anyhow::Result<()> {
    let mut hosts = Hosts::new(shape, "", ["learning = false", ""])?;
    hosts.send_one(0, NOBODY, MacAddr::BROADCAST, [0, 1])?;
    hosts.is_at(NOBODY, None)?;
    // The other port learns.
    hosts.teach(1, SOMEBODY)?;
    hosts.reload("", [""; 2])?;
    hosts.teach(0, NOBODY)?;
    hosts.send_one(1, SOMEBODY, NOBODY, [1, 0])?;
    hosts.weft.ledger_comes_to_balance()
}

fn floods(shape: Shape) -> anyhow::Result<()> {
    // (switch, unknown unicast, multicast, broadcast) of the port in the middle; the last one gets everything.
    let table = [
        ("", [1, 1, 1]),
        ("flood = false", [0, 1, 1]),
        ("mcast_flood = false", [1, 0, 1]),
        ("bcast_flood = false", [1, 1, 0]),
    ];
    let mut hosts = Hosts::new(shape, "", [""; 3])?;
    for (switch, seen) in table {
        hosts.reload("", ["", switch, ""])?;
        for (dst, seen) in [NOBODY, MULTICAST, MacAddr::BROADCAST].into_iter().zip(seen) {
            hosts.send_one(0, SOMEBODY, dst, [0, seen, 1])?;
        }
    }
    // What is known is no flood: it passes a port that takes none.
    hosts.reload("", ["", "flood = false", ""])?;
    hosts.teach(1, NOBODY)?;
    hosts.send_one(0, SOMEBODY, NOBODY, [0, 1, 0])?;
    hosts.weft.ledger_comes_to_balance()
}

fn isolation(shape: Shape) -> anyhow::Result<()> {
    let mut hosts = Hosts::with_ipv6(shape, "", ["isolated = true", "isolated = true", ""])?;
    ensure!(hosts.reaches(0, 1)? == [false; 2], "isolated ports reach each other");
    ensure!(hosts.reaches(2, 0)? == [true; 2] && hosts.reaches(1, 2)? == [true; 2]);
    hosts.send_one(0, SOMEBODY, NOBODY, [0, 0, 1])?;
    hosts.send_one(2, SOMEBODY, NOBODY, [1, 1, 0])?;
    // Known, and dropped rather than flooded.
    let (src, dst) = (hosts.mac(0)?, hosts.mac(1)?);
    hosts.teach(1, dst)?;
    let before = hosts.weft.dropped("isolated")?;
    hosts.send(0, &experiment(dst, src), 10, [0, 0, 0])?;
    ensure!(hosts.weft.dropped("isolated")? - before == 10);
    hosts.weft.ledger_comes_to_balance()
}

fn hairpin(shape: Shape) -> anyhow::Result<()> {
    let mut hosts = Hosts::new(shape, "", [""; 2])?;
    hosts.teach(0, NOBODY)?;
    let before = hosts.weft.dropped("same_endpoint")?;
    hosts.send(0, &experiment(NOBODY, SOMEBODY), 10, [0, 0])?;
    ensure!(hosts.weft.dropped("same_endpoint")? - before == 10);
    hosts.reload("", ["hairpin = true", ""])?;
    hosts.send(0, &experiment(NOBODY, SOMEBODY), 10, [10, 0])?;
    hosts.send_one(0, SOMEBODY, MacAddr::BROADCAST, [1, 1])?;
    hosts.weft.ledger_comes_to_balance()
}

fn tags(shape: Shape) -> anyhow::Result<()> {
    // 802.1Q with a priority, 802.1ad, both, VLAN 0, and VLAN 4095, which is reserved.
    let stacks: [&[[u8; 4]]; 5] = [
        &[[0x81, 0, 0xa0, 10]],
        &[[0x88, 0xa8, 0, 20]],
        &[[0x88, 0xa8, 0, 20], [0x81, 0, 0, 10]],
        &[[0x81, 0, 0x60, 0]],
        &[[0x81, 0, 0x0f, 0xff]],
    ];
    let mut hosts = Hosts::new(shape, "", [""; 2])?;
    for tags in stacks {
        let frame = tagged(&experiment(NOBODY, SOMEBODY), tags);
        hosts.wires[1].forget()?;
        hosts.wires[0].send(std::slice::from_ref(&frame))?;
        hosts.wires[1].expect(&frame, |found| found[6..12] == SOMEBODY.octets())?;
    }
    // One bridge, one FDB: a tag does not make another station of a source.
    hosts.is_at(SOMEBODY, Some(0))?;
    hosts.weft.ledger_comes_to_balance()
}
