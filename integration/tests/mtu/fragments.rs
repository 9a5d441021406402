//! Packets that may be fragmented: inside the tunnel, outside, or not at all.

use anyhow::ensure;
use libtest_mimic::Trial;
use weft_integration::{
    exchange::echo,
    shape::{Shape, in_every_shape, in_shapes},
    weft::eventually,
};

use crate::{
    NEEDS,
    scene::{Options, Scene, is_fragment, payload, ping},
};

pub(crate) fn tests() -> Vec<Trial> {
    let mut tests = in_every_shape(&[("without_df_everything_arrives_in_inner_fragments", NEEDS, inside)]);
    tests.extend(in_shapes(
        &[Shape::USUAL],
        &[
            ("fragments_are_what_they_should_be_on_the_wire", NEEDS, on_the_wire),
            ("outer_fragments_are_made_where_they_are_asked_for", NEEDS, outside),
            ("with_drop_nothing_is_cut", NEEDS, dropped),
        ],
    ));
    tests
}

fn inside(shape: Shape) -> anyhow::Result<()> {
    for ipv6_underlay in [false, true] {
        let scene = Scene::new(&Options { ipv6_underlay, ..Options::new(shape) })?;
        ping(&scene.left, Scene::RIGHT[0], &["-c3", "-i0.1", "-W2", "-Mdont", "-s", "4000"])?.ok()?;
        // Every size around those that need one fragment more; the sockets of this host leave DF clear.
        scene.left.sysctl("net.ipv4.ip_no_pmtu_disc", "1")?;
        let to = Scene::RIGHT[0].parse()?;
        for sizes in [scene.fits - 40..=scene.fits, 2800..=2860, 8940..=8972] {
            echo(&scene.left, &scene.right, to, sizes)?;
        }
        ensure!(scene.no_outer_fragment()? > 100);
        scene.nothing_was_too_long()?;
        scene.weft.ledger_comes_to_balance()?;
    }
    Ok(())
}

/// The three fragments of a ping, as the far end gets them one by one.
fn on_the_wire(shape: Shape) -> anyhow::Result<()> {
    let scene = Scene::new(&Options { vtep: "gso = \"off\"", ..Options::new(shape) })?;
    ping(&scene.left, Scene::RIGHT[0], &["-c1", "-W2", "-Mdont", "-s", "4000"])?.ok()?;
    let frames = scene.underlay.take()?;
    ensure!(!frames.iter().any(|frame| is_fragment(frame)), "no outer packet is one");
    // Behind Ethernet, IPv4, UDP and VXLAN; of those, the request's.
    let inner = frames.iter().filter_map(|frame| frame.get(14 + 20 + 8 + 8..)).filter(|inner| is_fragment(inner));
    let shapes: Vec<_> = inner
        .map(|inner| {
            let (flags_offset, len) = (u16::from_be_bytes([inner[20], inner[21]]), inner.len() - 34);
            (flags_offset & 0x2000 != 0, usize::from(flags_offset & 0x1fff) * 8, len)
        })
        .collect();
    ensure!(shapes == [(true, 0, 1424), (true, 1424, 1424), (false, 2848, 1160)], "{shapes:?}");
    let totals = scene.weft.ledger_balances()?;
    ensure!(totals["copies"].as_u64() >= Some(2), "{totals:#}");
    Ok(())
}

fn outside(shape: Shape) -> anyhow::Result<()> {
    for ipv6_underlay in [false, true] {
        let scene = Scene::new(&Options { ipv6_underlay, vtep: "oversize = \"outer\"", ..Options::new(shape) })?;
        // What the far bridge passes: its vxlan device and its port take what fits an Ethernet of 9000 bytes.
        let big = payload(1480, Scene::RIGHT[0]);
        ping(&scene.left, Scene::RIGHT[0], &["-c2", "-i0.1", "-W2", "-Mdont", "-s", &big])?;
        eventually("outer fragments reach the far end", std::time::Duration::from_secs(5), || {
            ping(&scene.left, Scene::RIGHT[0], &["-c1", "-W1", "-Mdont", "-s", &big])?;
            Ok(scene.underlay.take()?.iter().filter(|frame| is_fragment(frame)).count() >= 2)
        })?;
        // What may not be fragmented is answered all the same.
        let refused = ping(&scene.left, Scene::RIGHT[0], &["-c1", "-W2", "-Mdo", "-s", &big])?;
        ensure!(refused.stdout.contains(&format!("(mtu = {})", scene.fits)), "{refused}");
        scene.weft.ledger_comes_to_balance()?;
    }
    Ok(())
}

fn dropped(shape: Shape) -> anyhow::Result<()> {
    let scene = Scene::new(&Options { vtep: "oversize = \"drop\"", ..Options::new(shape) })?;
    let output = ping(&scene.left, Scene::RIGHT[0], &["-c2", "-i0.1", "-W0.5", "-Mdont", "-s", "4000"])?;
    ensure!(output.stdout.contains(" 0 received"), "{output}");
    ensure!(scene.weft.dropped("oversize")? == 2, "{:#}", scene.weft.show("drops")?);
    scene.no_outer_fragment()?;
    scene.weft.ledger_comes_to_balance()
}
