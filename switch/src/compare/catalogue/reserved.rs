//! Reserved groups and impossible sources: what a bridge keeps to itself.

use crate::{
    compare::{
        case::Case,
        frame::{frame, reserved, station},
    },
    wire::MacAddr,
};

pub(super) fn cases() -> Vec<Case> {
    let (a, b) = (station(1), station(2));
    let mut cases = vec![
        Case::new("a frame from the zero address is dropped and teaches nothing")
            .shows(1)
            .send(1, frame(b, MacAddr::ZERO))
            .send(2, frame(MacAddr::ZERO, b)),
        Case::new("a frame from a multicast address is dropped and teaches nothing")
            .shows(1)
            .send(1, frame(b, MacAddr::new([3, 0, 0, 0, 0, 1])))
            .send(2, frame(MacAddr::new([3, 0, 0, 0, 0, 1]), b)),
        Case::new("a frame from the broadcast address is dropped")
            .statement(1)
            .send(1, frame(b, MacAddr::BROADCAST))
            .send(1, frame(MacAddr::BROADCAST, MacAddr::BROADCAST)),
        Case::new("a frame to the zero address is unknown unicast").statement(18).send(1, frame(MacAddr::ZERO, a)),
        Case::new("without spanning tree its group is flooded, and teaches")
            .shows(2)
            .send(1, frame(reserved(0), a))
            .send(2, frame(a, b)),
        Case::new("a pause frame never passes").statement(3).send(1, frame(reserved(1), a)).send(2, frame(a, b)),
        Case::new("a pause frame does not pass with all bits of the mask that can be set")
            .shows(3)
            .bridge("group_fwd_mask", 0xfff8)
            .send(1, frame(reserved(1), a)),
        Case::new("01-80-C2-00-00-10 is ordinary multicast").shows(4).send(1, frame(reserved(0x10), a)),
        Case::new("01-80-C2-00-00-21 is ordinary multicast").statement(4).send(1, frame(reserved(0x21), a)),
        Case::new("01-80-C2-00-01-00 is no reserved group")
            .statement(4)
            .send(1, frame(MacAddr::new([1, 0x80, 0xc2, 0, 1, 2]), a)),
        Case::new("a reserved frame that is kept teaches its source")
            .shows(5)
            .send(1, frame(reserved(0x0e), a))
            .send(2, frame(a, b)),
        Case::new("a reserved frame teaches nothing at a port without learning")
            .shows(5)
            .port(1, "learning", false)
            .send(1, frame(reserved(0x0e), a))
            .send(2, frame(a, b)),
        Case::new("a reserved frame moves its source")
            .statement(5)
            .statement(11)
            .send(1, frame(b, a))
            .send(3, frame(reserved(2), a))
            .send(2, frame(a, b)),
        Case::new("a reserved frame from the zero address teaches nothing")
            .statement(1)
            .send(1, frame(reserved(0x0e), MacAddr::ZERO)),
        Case::new("changing the mask takes effect at once, both ways")
            .statement(4)
            .send(1, frame(reserved(0x0e), a))
            .set_bridge("group_fwd_mask", 0x4000)
            .send(1, frame(reserved(0x0e), a))
            .set_bridge("group_fwd_mask", 0)
            .send(1, frame(reserved(0x0e), a)),
        Case::new("a forwarded reserved group is multicast to mcast_flood")
            .statement(4)
            .statement(20)
            .bridge("group_fwd_mask", 0x4000)
            .port(2, "mcast_flood", false)
            .port(3, "flood", false)
            .send(1, frame(reserved(0x0e), a)),
        Case::new("a tagged reserved frame is kept as an untagged one is")
            .statement(4)
            .send(1, crate::compare::frame::tagged(&frame(reserved(0x0e), a), 0x8100, 5)),
    ];
    for bit in 0..3 {
        cases.push(
            Case::new(&format!("bit {bit} of group_fwd_mask can't be set"))
                .shows(3)
                .set_bridge("group_fwd_mask", 1 << bit)
                .send(1, frame(reserved(bit as u8), a)),
        );
    }
    for last in 2..=0x0f {
        let group = frame(reserved(last), a);
        let name = format!("01-80-C2-00-00-0{last:X} is kept");
        cases.push(Case::new(&name).shows(4).send(1, group.clone()).send(2, frame(a, b)));
        if last >= 3 {
            let name = format!("01-80-C2-00-00-0{last:X} passes with its bit alone");
            let mask = 1_i64 << last;
            let with_others = Case::new(&name).shows(4).bridge("group_fwd_mask", mask).send(1, group.clone());
            cases.push(with_others.set_bridge("group_fwd_mask", 0xfff8 & !mask).send(1, group));
        }
    }
    cases
}
