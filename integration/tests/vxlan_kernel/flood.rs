//! Rows 1 to 8 and 31 of `vxlan_bridge_1d`: who gets what, and nobody gets it twice.

use anyhow::ensure;
use libtest_mimic::Trial;
use weft_integration::shape::{Shape, in_every_shape};

use crate::{
    NEEDS,
    three::{Dut, NOBODY, Three, UNROUTABLE, VTEPS},
};

pub(crate) fn tests() -> Vec<Trial> {
    in_every_shape(&[
        ("three_vteps_flood_without_duplicates", NEEDS, flood),
        ("an_unroutable_vtep_costs_the_others_nothing_and_is_counted", NEEDS, unroutable),
        ("static_entries_send_a_frame_to_one_place", NEEDS, static_entries),
        ("the_overlay_can_be_taken_away_and_put_back", NEEDS, taken_away),
    ])
}

fn flood(shape: Shape) -> anyhow::Result<()> {
    let mut three = Three::new(shape, &Dut::default())?;
    three.everybody_answers()?;
    three.ten_frames_come(NOBODY, [10, 10, 10])?;
    three.weft.ledger_comes_to_balance()
}

fn unroutable(shape: Shape) -> anyhow::Result<()> {
    let mut three = Three::new(shape, &Dut { remotes: &[VTEPS[1], VTEPS[2], UNROUTABLE], ..Dut::default() })?;
    three.everybody_answers()?;
    let before = three.weft.dropped("underlay_unreachable")?;
    three.ten_frames_come(NOBODY, [10, 10, 10])?;
    let lost = three.weft.dropped("underlay_unreachable")? - before;
    // The hosts' own chatter is flooded too.
    ensure!((10..20).contains(&lost), "{lost} frames to {UNROUTABLE} are said to be lost");
    three.weft.ledger_comes_to_balance()
}

fn static_entries(shape: Shape) -> anyhow::Result<()> {
    let mut three = Three::new(shape, &Dut::default())?;
    let (port, [h2, r1, r2]) = (three.port(1), [three.mac_of(1)?, three.mac_of(2)?, three.mac_of(3)?]);
    three.everybody_answers()?;
    for (mac, at) in [(h2, ["--port", &port]), (r1, ["--vtep", VTEPS[1]]), (r2, ["--vtep", VTEPS[2]])] {
        let mac = mac.to_string();
        three.weft.succeed(&["fdb", "add", "--bridge", "br1", "--mac", &mac, at[0], at[1]])?;
    }
    for (mac, to) in [(h2, [10, 0, 0]), (r1, [0, 10, 0]), (r2, [0, 0, 10]), (NOBODY, [10, 10, 10])] {
        three.ten_frames_come(mac, to)?;
    }
    three.everybody_answers()?;
    three.weft.ledger_comes_to_balance()
}

fn taken_away(shape: Shape) -> anyhow::Result<()> {
    let mut three = Three::new(shape, &Dut::default())?;
    three.ten_frames_come(NOBODY, [10, 10, 10])?;
    three.reload(&Dut { remotes: &[], ..Dut::default() })?;
    three.ten_frames_come(NOBODY, [10, 0, 0])?;
    three.reload(&Dut { overlay: false, ..Dut::default() })?;
    three.ten_frames_come(NOBODY, [10, 0, 0])?;
    three.reload(&Dut { remotes: &[], ..Dut::default() })?;
    three.ten_frames_come(NOBODY, [10, 0, 0])?;
    three.reload(&Dut::default())?;
    three.everybody_answers()?;
    three.ten_frames_come(NOBODY, [10, 10, 10])?;
    three.weft.ledger_comes_to_balance()
}
