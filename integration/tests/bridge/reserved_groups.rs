//! 01-80-C2-00-00-0X (IEEE 802.1D, 7.12.6): what a bridge keeps to itself, and what it may be told to forward.

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use weft::wire::MacAddr;
use weft_integration::{
    frames::experiment,
    shape::{Shape, in_every_shape},
};

use crate::{Hosts, NEEDS};

pub(crate) fn tests() -> Vec<Trial> {
    in_every_shape(&[("reserved_groups_pass_only_where_the_mask_says_so_and_pause_never", NEEDS, groups)])
}

fn groups(shape: Shape) -> anyhow::Result<()> {
    // (mask, which groups pass); ..-00 is spanning tree, which this bridge does not speak, ..-10 is not reserved.
    let table: [(&str, &[u8]); 3] = [
        ("", &[0x00, 0x10]),
        ("group_fwd_mask = 0x4000", &[0x00, 0x0e, 0x10]),
        ("group_fwd_mask = 0xfff8", &[0x00, 0x03, 0x0e, 0x10]),
    ];
    let mut hosts = Hosts::new(shape, "", [""; 2])?;
    for (mask, passing) in table {
        hosts.reload(mask, [""; 2])?;
        for last in [0x00, 0x01, 0x02, 0x03, 0x0e, 0x10] {
            let passes = passing.contains(&last);
            let src = MacAddr::new([2, 0, 0, 0, 0xee, last]);
            let before = hosts.weft.dropped("reserved_group")?;
            hosts.weft.succeed(&["fdb", "flush"])?;
            let frame = experiment(MacAddr::new([1, 0x80, 0xc2, 0, 0, last]), src);
            let context = || format!("{mask:?}, group ..-{last:02x}");
            hosts.send(0, &frame, 5, [0, if passes { 5 } else { 0 }]).with_context(context)?;
            let dropped = hosts.weft.dropped("reserved_group")? - before;
            ensure!(dropped == if passes { 0 } else { 5 }, "{}: {dropped} are counted", context());
            // What is kept teaches its source nevertheless; pause frames come from no station.
            hosts.is_at(src, (last != 0x01).then_some(0)).with_context(context)?;
        }
    }
    hosts.weft.ledger_comes_to_balance()
}
