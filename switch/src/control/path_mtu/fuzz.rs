//! What a fuzzer holds the path MTU to: [`crate::fuzzing`].

use std::time::Duration;

use weft_vxlan::{
    mtu::Family,
    pmtu::{Claim, Method, PathMtu, Policy},
};

use crate::fuzzing::{Script, inputs};

/// Claims of anybody, answers true, late and made up, links that change, at any time: the value stays between the least that
/// every path carries and what the link does, no probe is larger than that, and asking for the next one ends.
#[test]
fn fuzz_path_mtu() {
    inputs(|input| {
        let mut script = Script::new(input);
        let family = script.one_of(&[Family::Ipv4, Family::Ipv6]);
        let policy = script.one_of(&[Policy::Measure, Policy::Learn, Policy::Assume]);
        let mut now = Duration::from_secs(1);
        let mut path = PathMtu::new(family, policy, link(&mut script), 7, now);
        let mut asked = Vec::new();
        while !script.is_empty() {
            match script.u8() % 9 {
                0 | 1 => now += Duration::from_millis(u64::from(script.u16())),
                2 => {
                    let mtu = u32::from(script.u16());
                    path.on_claim(Claim { mtu, quotes_us: script.bool(), from: None }, now);
                }
                3..=5 => {
                    let method = script.one_of(&[Method::Station, Method::Echo, Method::InBand]);
                    let at = usize::from(script.u8());
                    let nonce = asked.get(at).copied().unwrap_or_else(|| u64::from(script.u8()));
                    let size = path.asked(nonce);
                    assert!(path.on_answer(nonce, method, now).is_none_or(|answered| Some(answered) == size));
                }
                6 => {
                    let nonce = asked.get(usize::from(script.u8())).copied().unwrap_or(0);
                    let told = script.bool().then(|| link(&mut script));
                    path.on_refused(nonce, told, now);
                }
                7 => path.set_link_mtu(link(&mut script), now),
                _ => {
                    path.set_in_use(script.bool(), now);
                    path.ask_again(now);
                }
            }
            for count in 0.. {
                assert!(count < 100, "it never stops asking: {path:?}");
                let Some(probe) = path.poll(now) else { break };
                assert!(probe.size <= path.link_mtu(), "{probe:?} of {path:?}");
                asked.insert(0, probe.nonce);
            }
            assert!((path.minimum()..=path.link_mtu()).contains(&path.path_mtu()), "{path:?}");
            assert!(path.next_timeout().is_none_or(|next| next > now), "it has to be asked at once again: {path:?}");
        }
    });
}

fn link(script: &mut Script<'_>) -> u32 {
    match script.u8() {
        0 => 0,
        1 => u32::MAX,
        2 => 65_535,
        3..128 => 1500,
        _ => u32::from(script.u16()),
    }
}
