//! TCP that is held to segments that fit, for hosts that hear no ICMP.

use std::net::TcpStream;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use weft::{
    lab::Namespace,
    wire::dissect::{L4Kind, dissect},
};
use weft_integration::{
    Needs,
    capture::{Capture, Direction},
    exchange::stream,
    shape::{Shape, in_every_shape, in_shapes},
};

use crate::{
    NEEDS,
    scene::{Options, Scene},
};

/// What goes by TCP.
const STREAM: usize = 1 << 20;

pub(crate) fn tests() -> Vec<Trial> {
    let nft = Needs { programs: &["ping", "ip", "nft"], ..NEEDS };
    let mut tests = in_every_shape(&[("with_mss_clamp_tcp_needs_no_icmp", nft, without_icmp)]);
    tests.extend(in_shapes(&[Shape::USUAL], &[("syns_are_clamped_in_both_directions", NEEDS, syns)]));
    tests
}

/// The maximum segment size in a SYN, and whether it is an answer.
fn offered(frame: &[u8]) -> Option<(u16, bool)> {
    let l4 = dissect(frame).l4.filter(|l4| l4.kind == L4Kind::Tcp)?;
    let tcp = frame.get(usize::from(l4.offset)..)?;
    let (flags, options) = (tcp[13], tcp.get(20..)?);
    // Every kernel writes it first.
    match options {
        [2, 4, high, low, ..] if flags & 0x02 != 0 => Some((u16::from_be_bytes([*high, *low]), flags & 0x10 != 0)),
        _ => None,
    }
}

/// Sets up one connection.
fn connect(client: &Namespace, server: &Namespace, address: &str) -> anyhow::Result<()> {
    let address: std::net::IpAddr = address.parse()?;
    let listener = server.within(|| std::net::TcpListener::bind((address, 0)))??;
    let to = listener.local_addr()?;
    let _stream = client.within(|| TcpStream::connect(to))?.context("connecting")?;
    listener.accept()?;
    Ok(())
}

fn syns(shape: Shape) -> anyhow::Result<()> {
    for ipv6_underlay in [false, true] {
        let options = Options { ipv6_underlay, far_mtu: Some(9000), bridge: "mss_clamp = true", ..Options::new(shape) };
        let scene = Scene::new(&options)?;
        let far = Capture::open(&scene.right, "eth0", Direction::In)?;
        let near = Capture::open(&scene.left, "eth0", Direction::In)?;
        for (address, headers) in Scene::RIGHT.into_iter().zip([40, 60]) {
            connect(&scene.left, &scene.right, address)?;
            let fits = (scene.fits - headers) as u16;
            let syn = far.find(|frame| offered(frame).is_some())?;
            ensure!(offered(&syn) == Some((fits, false)), "{:?} to {address}", offered(&syn));
            let answer = near.find(|frame| offered(frame).is_some())?;
            ensure!(offered(&answer) == Some((fits, true)), "{:?} from {address}", offered(&answer));
        }
        scene.weft.ledger_comes_to_balance()?;
    }
    Ok(())
}

fn without_icmp(shape: Shape) -> anyhow::Result<()> {
    let options = Options { far_mtu: Some(9000), bridge: "mss_clamp = true", ..Options::new(shape) };
    let scene = Scene::new(&options)?;
    for host in [&scene.left, &scene.right] {
        for rule in [
            "add table inet t; add chain inet t in { type filter hook input priority 0; }",
            "add rule inet t in icmp type destination-unreachable drop",
            "add rule inet t in icmpv6 type packet-too-big drop",
        ] {
            host.run(&["nft", rule])?.ok()?;
        }
    }
    for address in Scene::RIGHT {
        stream(&scene.left, &scene.right, address.parse()?, STREAM)?;
    }
    for address in Scene::LEFT {
        stream(&scene.right, &scene.left, address.parse()?, STREAM)?;
    }
    scene.nothing_was_too_long()?;
    scene.no_outer_fragment()?;
    scene.weft.ledger_comes_to_balance()
}
