//! Packets that may not be fragmented: their sender hears what fits, in the words that any kernel understands.

use anyhow::ensure;
use libtest_mimic::Trial;
use weft::{l3::too_big, wire::dissect::dissect};
use weft_integration::{
    capture::Wire,
    exchange::stream,
    frames::{IPV4, ethernet, icmp_packet, tagged},
    scene::mac,
    shape::{Shape, in_every_shape, in_shapes},
};

use crate::{
    NEEDS,
    scene::{Options, Scene, payload, ping},
};

/// What goes by TCP.
const STREAM: usize = 1 << 20;

pub(crate) fn tests() -> Vec<Trial> {
    let mut tests = in_every_shape(&[
        ("a_host_is_told_what_fits_and_keeps_to_it", NEEDS, told),
        ("tcp_that_believes_in_more_recovers", NEEDS, tcp),
    ]);
    tests.extend(in_shapes(
        &[Shape::USUAL],
        &[
            ("a_smaller_underlay_is_told_at_once", NEEDS, smaller_underlay),
            ("a_host_behind_a_tag_is_told_behind_that_tag", NEEDS, behind_a_tag),
        ],
    ));
    tests
}

fn told(shape: Shape) -> anyhow::Result<()> {
    for ipv6_underlay in [false, true] {
        let scene = Scene::new(&Options { ipv6_underlay, ..Options::new(shape) })?;
        for address in Scene::RIGHT {
            ensure!(scene.path_mtu(address)?.is_none_or(|mtu| mtu == 9000), "nobody has told it anything");
            let too_long = payload(scene.fits + 1, address);
            let refused = ping(&scene.left, address, &["-c1", "-W2", "-Mdo", "-s", &too_long])?;
            let from = format!("From {address} icmp_seq=1 ");
            let what = match address.contains(':') {
                true => format!("Packet too big: mtu={}", scene.fits),
                false => format!("Frag needed and DF set (mtu = {})", scene.fits),
            };
            ensure!(refused.stdout.contains(&format!("{from}{what}")), "{refused}");
            ensure!(scene.path_mtu(address)? == Some(scene.fits), "{:?}", scene.path_mtu(address)?);

            let fitting = payload(scene.fits, address);
            ping(&scene.left, address, &["-c2", "-i0.1", "-W2", "-Mdo", "-s", &fitting])?.ok()?;
        }
        ensure!(scene.weft.dropped("oversize_answered")? == 2, "{:#}", scene.weft.show("drops")?);
        ensure!(scene.no_outer_fragment()? >= 4);
        scene.weft.ledger_comes_to_balance()?;
    }
    Ok(())
}

/// With offloads these are super-frames whose segments don't fit.
fn tcp(shape: Shape) -> anyhow::Result<()> {
    let scene = Scene::new(&Options::new(shape))?;
    // Else the far end's own MTU, which it tells, would keep the segments short.
    scene.right.mtu("eth0", 9000)?;
    for address in Scene::RIGHT {
        stream(&scene.left, &scene.right, address.parse()?, STREAM)?;
        ensure!(scene.path_mtu(address)? == Some(scene.fits), "{:?}", scene.path_mtu(address)?);
    }
    let answered = scene.weft.dropped("oversize_answered")?;
    ensure!(answered >= 2, "nothing was too long: {answered}");
    scene.no_outer_fragment()?;
    scene.weft.ledger_comes_to_balance()
}

fn smaller_underlay(shape: Shape) -> anyhow::Result<()> {
    let scene = Scene::new(&Options::new(shape))?;
    let address = Scene::RIGHT[0];
    let fitting = payload(scene.fits, address);
    ping(&scene.left, address, &["-c1", "-W2", "-Mdo", "-s", &fitting])?.ok()?;
    scene.switch.mtu("under0", 1400)?;
    weft_integration::weft::eventually("the underlay's MTU is known", std::time::Duration::from_secs(5), || {
        ping(&scene.left, address, &["-c1", "-W1", "-Mdo", "-s", &fitting])?;
        Ok(scene.path_mtu(address)? == Some(1350))
    })?;
    ping(&scene.left, address, &["-c1", "-W2", "-Mdo", "-s", &payload(1350, address)])?.ok()?;
    scene.weft.ledger_comes_to_balance()
}

/// Running kernels need not have VLAN devices, so the host is played frame by frame.
fn behind_a_tag(shape: Shape) -> anyhow::Result<()> {
    let scene = Scene::new(&Options::new(shape))?;
    let (near, far) = (mac(&scene.left, "eth0")?, mac(&scene.right, "eth0")?);
    let mut packet = icmp_packet(0, Scene::LEFT[0].parse()?, Scene::RIGHT[0].parse()?);
    packet.resize(1500, 0);
    packet[2..4].copy_from_slice(&1500_u16.to_be_bytes());
    packet[6] = 0x40;
    let frame = tagged(&ethernet(far, near, IPV4, &packet), &[[0x81, 0, 0x60, 5]]);
    let mut wire = Wire::open(&scene.left, "eth0")?;
    wire.send(std::slice::from_ref(&frame))?;
    let answer = too_big::answer(&frame, &dissect(&frame), 1446)?;
    ensure!(answer[12..18] == [0x81, 0, 0x60, 5, 8, 0]);
    wire.expect(&answer, |bytes| bytes[6..12] == far.octets() && bytes.len() == answer.len())?;
    ensure!(scene.weft.dropped("oversize_answered")? == 1);
    scene.weft.ledger_comes_to_balance()
}
