//! Rows 9 to 14 of `vxlan_bridge_1d`: what the outer header says.

use anyhow::Context;
use libtest_mimic::Trial;
use weft_integration::{
    capture::{Capture, Direction, exactly, expect},
    frames::{self, Outer},
    shape::{Shape, in_every_shape},
};

use crate::{
    NEEDS,
    three::{Dut, HOSTS, Three},
};

pub(crate) fn tests() -> Vec<Trial> {
    in_every_shape(&[("outer_ttl_tos_and_ecn_are_the_kernels", NEEDS, outer_header)])
}

fn outer_header(shape: Shape) -> anyhow::Result<()> {
    let three = Three::new(shape, &Dut { one_by_one: true, ..Dut::default() })?;
    three.everybody_answers()?;
    let at_ns1 = Capture::open(&three.kernels[0], "under0", Direction::In)?;

    // (TOS of the ping, outer TTL behind one router, outer TOS); CE becomes ECT(0).
    let table: [(u8, u8, u8); 7] =
        [(0, 99, 0), (0x14, 99, 0x14), (0x18, 99, 0x18), (0x14 | 1, 99, 0x14 | 1), (1, 99, 1), (2, 99, 2), (3, 99, 2)];
    for (inner, outer_ttl, outer_tos) in table {
        let inner_text = inner.to_string();
        three.hosts[0].run(&["ping", "-c", "10", "-i", "0.01", "-W", "5", "-Q", &inner_text, HOSTS[2]])?.ok()?;
        let is_request = |outer: &Outer<'_>| frames::tos(outer.inner) == Some(inner) && outer.inner[34..36] == [8, 0];
        expect([&at_ns1], [exactly(10)], |frame| {
            Outer::of(frame, 4789)
                .is_some_and(|outer| is_request(&outer) && (outer.ttl, outer.tos) == (outer_ttl, outer_tos))
        })
        .with_context(|| format!("inner TOS {inner}"))?;
    }
    three.weft.ledger_comes_to_balance()
}
