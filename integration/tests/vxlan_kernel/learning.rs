//! Rows 32 to 37 of `vxlan_bridge_1d`: what the overlay teaches, and when it is forgotten.

use std::{thread, time::Duration};

use anyhow::ensure;
use libtest_mimic::Trial;
use weft::wire::MacAddr;
use weft_integration::{
    capture::Wire,
    frames::experiment,
    shape::{Shape, in_every_shape},
    weft::eventually,
};

use crate::{
    NEEDS,
    three::{Dut, NOBODY, Three, VTEPS, icmp},
};

/// The kernel's test waits for 30 s.
const AGEING: Duration = Duration::from_secs(2);
const LEARNING: Dut<'_> =
    Dut { overlay: true, one_by_one: false, learning: true, remotes: &[VTEPS[1], VTEPS[2]], ageing: "2s" };
const LONG: Duration = Duration::from_secs(5);

pub(crate) fn tests() -> Vec<Trial> {
    in_every_shape(&[
        ("what_a_vtep_sends_is_learned_until_it_is_deleted", NEEDS, learned_and_deleted),
        ("forwarding_to_an_address_does_not_keep_it_alive", NEEDS, ageing),
        ("with_learning_off_the_overlay_teaches_nothing", NEEDS, learning_off),
    ])
}

fn learned_and_deleted(shape: Shape) -> anyhow::Result<()> {
    let mut three = Three::new(shape, &Dut { ageing: "300s", ..LEARNING })?;
    three.ten_frames_come(NOBODY, [10, 10, 10])?;
    broadcast_from_w1(&three)?;
    is_learned(&three)?;
    three.ten_frames_come(NOBODY, [0, 10, 0])?;
    three.weft.succeed(&["fdb", "del", "--bridge", "br1", "--mac", &NOBODY.to_string()])?;
    three.ten_frames_come(NOBODY, [10, 10, 10])?;
    three.weft.ledger_comes_to_balance()
}

fn ageing(shape: Shape) -> anyhow::Result<()> {
    let mut three = Three::new(shape, &LEARNING)?;
    broadcast_from_w1(&three)?;
    is_learned(&three)?;
    three.ten_frames_come(NOBODY, [0, 10, 0])?;
    let towards = icmp(NOBODY, three.mac_of(0)?, 0);
    eventually("the address is forgotten", AGEING + LONG, || {
        three.h1.send(std::slice::from_ref(&towards))?;
        Ok(whereabouts(&three)?.is_none())
    })?;
    // What of those is still under way is no part of the ten.
    thread::sleep(Duration::from_millis(200));
    three.ten_frames_come(NOBODY, [10, 10, 10])?;
    three.weft.ledger_comes_to_balance()
}

fn learning_off(shape: Shape) -> anyhow::Result<()> {
    let mut three = Three::new(shape, &Dut { ageing: "300s", ..LEARNING })?;
    three.reload(&Dut { learning: false, ageing: "300s", ..LEARNING })?;
    broadcast_from_w1(&three)?;
    three.ten_frames_come(NOBODY, [10, 10, 10])?;
    ensure!(whereabouts(&three)?.is_none(), "learned although learning is off");
    three.reload(&Dut { ageing: "300s", ..LEARNING })?;
    broadcast_from_w1(&three)?;
    is_learned(&three)
}

fn broadcast_from_w1(three: &Three) -> anyhow::Result<()> {
    Wire::open(&three.hosts[2], "eth0")?.send(&[experiment(MacAddr::BROADCAST, NOBODY)])
}

fn is_learned(three: &Three) -> anyhow::Result<()> {
    eventually("the address is learned", LONG, || Ok(whereabouts(three)?.as_deref() == Some(VTEPS[1])))
}

fn whereabouts(three: &Three) -> anyhow::Result<Option<String>> {
    three.weft.whereabouts("br1", &NOBODY.to_string())
}
