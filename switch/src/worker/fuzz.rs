//! What a fuzzer holds the tunnel headers to: [`crate::fuzzing`]. The walk itself is in `tests/fuzz.rs`.

use weft_vxlan::{
    Encapsulation, HeaderFormat, ReservedBits, Vni, decap, encap,
    geneve::{self, OptionList},
    pattern::HeaderPattern,
};

use super::TunnelHeader;
use crate::{
    bridge::Bridge,
    fuzzing::{Script, inputs},
};

/// VXLAN, VXLAN-GBP, VXLAN-GPE and Geneve: what is read is written as it was, whether the frame inside is taken is the same
/// asked at once or bit by bit, and what was wrapped is unwrapped.
#[test]
fn fuzz_tunnel_header() {
    inputs(|input| {
        let mut script = Script::new(input);
        let encapsulation = script.one_of(&Encapsulation::ALL);
        let some = u64::from(script.u16()) * 0x0001_0001_0001_0001;
        let refused_bits = ReservedBits::Drop.mask() & script.one_of(&[u64::MAX, 0, some]);
        let datagram = script.rest();
        let bridge = Bridge { encapsulation, ..Bridge::default() };
        for format in HeaderFormat::ALL {
            let Ok(header) = TunnelHeader::read(format, datagram) else {
                assert_eq!(TunnelHeader::inner(format, datagram), None);
                continue;
            };
            assert_eq!(header.to_bytes(), datagram[..8]);
            let taken = header.frame_at(datagram.len(), &bridge, refused_bits).ok();
            assert!(taken.is_none_or(|at| at == 8 + header.options_len() && at <= datagram.len()));
            if format == encapsulation.format() {
                let pattern = HeaderPattern::new(encapsulation, header.vni(), refused_bits);
                assert_eq!(pattern.frame_at(datagram), taken, "{encapsulation} {header:?}");
                assert_eq!(
                    HeaderPattern::new(encapsulation, Vni::MAX, refused_bits).frame_at(datagram).is_some(),
                    taken.is_some() && header.vni() == Vni::MAX
                );
            }
        }
        let mut room = [0; 600];
        if let Ok((vni, inner)) = decap(datagram, ReservedBits::Drop)
            && let Ok(len) = encap(vni, inner, &mut room)
        {
            assert_eq!(&room[..len], datagram);
        }
        if let Ok((vni, options, inner)) = geneve::decap(datagram) {
            let mut list = OptionList::new();
            for option in options {
                let Ok(option) = option else { return };
                if list.push(option).is_err() || list.has_critical() {
                    return;
                }
            }
            if let Ok(len) = geneve::encap(vni, &list, inner, &mut room) {
                assert_eq!(len, datagram.len());
                let again = geneve::decap(&room[..len]).unwrap();
                assert_eq!((again.0, again.2), (vni, inner));
                assert!(again.1.zip(options).all(|(one, other)| one == other));
            }
        }
    });
}
