//! Rows 15 to 30 of `vxlan_bridge_1d`: what the outer ECN field makes of the inner one (RFC 6040, section 4.2).

use std::net::UdpSocket;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use socket2::SockRef;
use weft_integration::{
    capture::{exactly, expect},
    frames::{self, vxlan},
    shape::{Shape, in_every_shape},
};

use crate::{
    NEEDS,
    three::{Dut, Three, VTEPS, icmp},
};

pub(crate) fn tests() -> Vec<Trial> {
    in_every_shape(&[("ecn_comes_out_of_the_tunnel_as_rfc_6040_says", NEEDS, ecn)])
}

fn ecn(shape: Shape) -> anyhow::Result<()> {
    let three = Three::new(shape, &Dut::default())?;
    three.everybody_answers()?;
    let sending = three.kernels[0].within(|| UdpSocket::bind((VTEPS[1], 23456)))??;
    sending.connect((VTEPS[0], 4789))?;
    let (dst, src) = (three.mac_of(0)?, three.mac_of(2)?);

    // By inner, then outer: Not-ECT, ECT(1), ECT(0), CE. `None`: congestion that the inner packet can't tell of.
    let table: [[Option<u8>; 4]; 4] = [
        [Some(0), Some(0), Some(0), None],
        [Some(1), Some(1), Some(1), Some(3)],
        [Some(2), Some(1), Some(2), Some(3)],
        [Some(3), Some(3), Some(3), Some(3)],
    ];
    for (inner, row) in (0_u8..).zip(table) {
        for (outer, delivered) in (0_u8..).zip(row) {
            let dropped = three.weft.dropped("ecn_not_capable")?;
            SockRef::from(&sending).set_tos_v4(outer.into())?;
            // A DSCP that has to stay as it is.
            let frame = vxlan(1000, &icmp(dst, src, 0xb8 | inner));
            for _ in 0..10 {
                sending.send(&frame)?;
            }
            let context = || format!("inner {inner}, outer {outer}");
            let count = if delivered.is_some() { 10 } else { 0 };
            expect([&three.at_h1], [exactly(count)], |frame| {
                // Not the replies of other hosts: these are known by their addresses and a right checksum.
                frame[6..12] == src.octets()
                    && frame[12..14] == frames::IPV4.to_be_bytes()
                    && (delivered.is_none() || frames::tos(frame) == delivered.map(|ecn| 0xb8 | ecn))
            })
            .with_context(context)?;
            let dropped = three.weft.dropped("ecn_not_capable")? - dropped;
            ensure!(dropped == 10 - count as u64, "{}: {dropped} are said to be dropped", context());
        }
    }
    three.weft.ledger_comes_to_balance()
}
