//! What a port or a peer sends that no honest one would: addresses without end, frames and datagrams that make no sense.

use std::{fs, time::Duration};

use anyhow::{Context, ensure};
use weft::{
    lab::Namespace,
    offload::{Gso, PartialCsum, VnetHeader},
    wire::MacAddr,
};
use weft_integration::{
    scene::{Pair, Side, Star, port},
    shape::Shape,
    traffic::{EXPERIMENT, Injector, PingTrain, frame, quiet},
    weft::{PATIENCE, Weft, eventually},
};

use crate::{PREFIX, pair_with_locals, ping};

/// Memory that a process has, in bytes.
fn resident(weft: &mut Weft) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", weft.process().id()))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("a process has memory")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse::<u64>()? * 1024)
}

pub(crate) fn address_flood(shape: Shape) -> anyhow::Result<()> {
    const LIMIT: u64 = 5_000;
    let star = Star::in_shape(shape, PREFIX, 3)?;
    let config =
        star.config().replace("name = \"blue\"\n\n", &format!("name = \"blue\"\nfdb_max_learned = {LIMIT}\n\n"));
    let mut weft = Weft::start(&star.switch, &config)?;
    ping(&star.hosts[0], &Star::address(1))?;
    let victims = [star.mac(0)?, star.mac(1)?];
    let before = resident(&mut weft)?;
    let train = PingTrain::start(&star.hosts[0], &Star::address(1))?;

    let mut random = fastrand::Rng::with_seed(7);
    let dst = victims[0].parse()?;
    // To one host: flooding them would only test how fast three queues are.
    let frames: Vec<_> = (0..100_000)
        .map(|_| frame(dst, MacAddr::from_u64(0x0200_0000_0000 | random.u64(..) >> 24), EXPERIMENT))
        .collect();
    let sent = Injector::new(&star.hosts[2], "eth0")?.send_all(&frames, 25_000);
    ensure!(sent == 100_000, "{sent}");
    let bridges = weft.show("bridges")?;
    let learned = bridges[0]["learned"].as_u64().unwrap();
    ensure!((LIMIT - 10..=LIMIT).contains(&learned), "{learned} are learned, {LIMIT} may be");
    for (host, mac) in victims.iter().enumerate() {
        let at = weft.whereabouts("blue", mac)?;
        ensure!(at == Some(star.port_name(host)), "host {host} was pushed out: it is at {at:?}");
    }
    train.stop()?.without_loss()?;
    let grown = resident(&mut weft)?.saturating_sub(before);
    ensure!(grown < 16 << 20, "memory grew by {grown} bytes");
    weft.ledger_balances()?;
    Ok(())
}

/// A template with some bytes changed, inserted or cut off.
fn mutated(random: &mut fastrand::Rng, templates: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = templates[random.usize(..templates.len())].clone();
    for _ in 0..random.usize(1..6) {
        // Headers are where it hurts.
        let reach = if random.bool() { 64 } else { usize::MAX };
        let at = random.usize(..bytes.len().min(reach));
        match random.u8(..8) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes.insert(at, random.u8(..)),
            2 => bytes[at] = [0, 0xff, 0x7f, 0x80][random.usize(..4)],
            3 => bytes[at] ^= 1 << random.u8(..8),
            4 if at + 1 < bytes.len() => bytes[at..at + 2].copy_from_slice(&random.u16(..).to_be_bytes()),
            _ => bytes[at] = random.u8(..),
        }
    }
    bytes
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(((sum & 0xffff) + (sum >> 16)) as u16)).to_be_bytes()
}

/// Frames of every kind that a switch looks into: TCP and UDP over both IPs, with tags, ARP, groups.
fn templates(dst: MacAddr, src: MacAddr, payload_len: usize) -> Vec<Vec<u8>> {
    let ethernet =
        |dst: MacAddr, ether_type: u16| [&dst.octets()[..], &src.octets(), &ether_type.to_be_bytes()].concat();
    let ipv4 = |protocol: u8, body: &[u8]| {
        let len = (20 + body.len() as u16).to_be_bytes();
        let mut header =
            [&[0x45, 0][..], &len, &[0, 0, 0x40, 0, 64, protocol, 0, 0], &[10, 9, 9, 1], &[10, 9, 9, 2]].concat();
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum);
        [&header[..], body].concat()
    };
    let ipv6 = |next: u8, body: &[u8]| {
        let mut header = [&[0x60, 0, 0, 0][..], &(body.len() as u16).to_be_bytes(), &[next, 64]].concat();
        header.extend([0xfd; 16]);
        header.extend([0xfe; 16]);
        [&header[..], body].concat()
    };
    let payload = vec![0x5a; payload_len];
    let tcp = [&[0x30, 0x39, 0, 80][..], &[0; 8], &[0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0], &payload].concat();
    let udp = [&[0x30, 0x39, 0, 53][..], &(8 + payload_len as u16).to_be_bytes(), &[0, 0], &payload].concat();
    let tag = |frame: &[u8]| [&frame[..12], &[0x81, 0, 0x20, 7], &frame[12..]].concat();
    let mut all = vec![
        [ethernet(dst, 0x0800), ipv4(6, &tcp)].concat(),
        [ethernet(dst, 0x0800), ipv4(17, &udp)].concat(),
        [ethernet(dst, 0x86dd), ipv6(6, &tcp)].concat(),
        [ethernet(dst, 0x86dd), ipv6(17, &udp)].concat(),
        [ethernet(MacAddr::BROADCAST, 0x0806), vec![0; 46]].concat(),
        [ethernet(MacAddr::new([1, 0x80, 0xc2, 0, 0, 0xe]), 0x88cc), vec![0; 46]].concat(),
        frame(dst, src, EXPERIMENT),
    ];
    let tagged: Vec<_> = all.iter().map(|frame| tag(frame)).collect();
    all.extend(tagged.iter().map(|frame| tag(frame)));
    all.extend(tagged);
    all
}

pub(crate) fn mutated_frames(shape: Shape) -> anyhow::Result<()> {
    let pair = Pair::in_shape(shape, PREFIX)?;
    let [a, b] = &pair.sides;
    let (plain, trunk) = (quiet(&pair.lab, "plain")?, quiet(&pair.lab, "trunk")?);
    let config = a.config("", "")
        + &port(plain.full_name(), "eth0", "offload = false\naddress = [\"10.0.0.12/24\"]")
        + &format!(
            "[[port]]\nname = \"eth0\"\nnetns = \"{}\"\ntrunk = {{ 7 = \"blue\" }}\nnative = \"blue\"\n{}",
            trunk.full_name(),
            shape.port_line()
        );
    let mut weft = Weft::start(&a.switch, &config)?;
    let mut far = Weft::start(&b.switch, &b.config("", ""))?;
    ping(&b.host, "10.0.0.12")?;
    let train = PingTrain::start(&b.host, "10.0.0.12")?;

    let targets = [MacAddr::BROADCAST, "02:00:00:00:00:02".parse()?, weft_integration::scene::mac(&b.host, "eth0")?];
    let small: Vec<_> = targets.iter().flat_map(|dst| templates(*dst, MacAddr::new([2, 0, 0, 0, 0, 1]), 100)).collect();
    let large: Vec<_> =
        targets.iter().flat_map(|dst| templates(*dst, MacAddr::new([2, 0, 0, 0, 0, 1]), 4000)).collect();
    let rounds = |namespace: &Namespace, seed: u64| -> anyhow::Result<u64> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut injector = Injector::new(namespace, "eth0")?;
        let mut taken = 0;
        for _ in 0..500 {
            let frames: Vec<_> = (0..100).map(|_| mutated(&mut random, &small)).collect();
            taken += injector.send_all(&frames, 50_000);
            // Super-frames with headers that fit them more or less; the kernel hands on what it believes.
            for _ in 0..4 {
                let bytes = mutated(&mut random, &large);
                let csum = Some(PartialCsum { start: [34, 54, 38, 58][random.usize(..4)], offset: 16 });
                let kind = [Gso::Tcp4, Gso::Tcp6, Gso::Udp][random.usize(..3)];
                let vnet = VnetHeader { csum, gso: Some((kind, random.u16(1..3000))), gso_ecn: random.bool() };
                taken += u64::from(injector.send_with(&bytes, vnet));
            }
        }
        Ok(taken)
    };
    let taken = std::thread::scope(|scope| -> anyhow::Result<u64> {
        let from_tap = scope.spawn(|| rounds(&a.host, 1));
        let from_trunk = rounds(&trunk, 2)?;
        Ok(from_trunk + from_tap.join().unwrap()?)
    })?;
    ensure!(taken > 90_000, "the kernel took {taken}");
    train.stop()?.without_gap()?;
    for weft in [&mut weft, &mut far] {
        ensure!(weft.process().is_running(), "{}", weft.log());
        ensure!(!weft.log().contains("panicked"), "{}", weft.log());
        weft.ledger_balances()?;
    }
    // A frame that was taken came in, or found a full queue. Some may still wait.
    eventually("every frame is accounted for", PATIENCE, || {
        let ledger = weft.show("ledger")?;
        let rows = ledger["rows"].as_array().unwrap().iter();
        let lost: u64 = rows.filter_map(|row| row["kernel_drops"].as_u64()).sum();
        Ok(ledger["totals"]["in"].as_u64().unwrap() + lost > taken)
    })?;
    ping(&b.host, "10.0.0.12")
}

pub(crate) fn mutated_datagrams(shape: Shape) -> anyhow::Result<()> {
    let (pair, locals, config) = pair_with_locals(shape)?;
    let [a, b] = &pair.sides;
    let mut weft = Weft::start(&a.switch, &config)?;
    let train = PingTrain::start(&locals[0], "10.0.0.12")?;
    let target = weft_integration::scene::mac(&locals[0], "eth0")?;
    let header = [8, 0, 0, 0, 0, 0, 42, 0];
    let inner =
        [MacAddr::BROADCAST, target].into_iter().flat_map(|dst| templates(dst, MacAddr::new([2, 0, 0, 0, 0, 1]), 100));
    let templates: Vec<_> = inner.map(|frame| [&header[..], &frame].concat()).collect();
    let sent = b.switch.within(|| send_datagrams(b, a, &templates))??;
    ensure!(sent > 90_000, "{sent}");
    train.stop()?.without_gap()?;
    ensure!(weft.process().is_running() && !weft.log().contains("panicked"), "{}", weft.log());
    let accounted = || -> anyhow::Result<u64> {
        let ledger = weft.show("ledger")?;
        let rows = ledger["rows"].as_array().unwrap();
        let underlay = rows.iter().find(|row| row["kind"] == "underlay").context("a row of the underlay")?;
        let vtep = rows.iter().find(|row| row["name"] == "192.0.2.2:4789").context("a row of the VTEP")?;
        let counts = [&underlay["in_frames"], &vtep["in_frames"], &underlay["rcvbuf_errors"]];
        Ok(counts.into_iter().filter_map(serde_json::Value::as_u64).sum())
    };
    // Some may still wait in the socket's buffer.
    eventually("every datagram is accounted for", PATIENCE, || Ok(accounted()? >= sent))
        .with_context(|| format!("{sent} were sent, {:?} are", accounted()))?;
    ensure!(accounted()? == sent, "{sent} were sent, {} are accounted for", accounted()?);
    for reason in ["vxlan_truncated", "vxlan_no_vni_flag", "vni_unknown", "vxlan_reserved_bits", "inner_truncated"] {
        ensure!(weft.dropped(reason)? > 0, "none of them was {reason}");
    }
    weft.ledger_balances()?;
    ping(&locals[0], "10.0.0.12")
}

/// Mutated VXLAN datagrams from one VTEP to another, by the kernel's socket of the first.
fn send_datagrams(from: &Side, to: &Side, templates: &[Vec<u8>]) -> anyhow::Result<u64> {
    let socket = std::net::UdpSocket::bind((from.vtep, 0))?;
    let mut random = fastrand::Rng::with_seed(3);
    let mut sent = 0;
    for count in 0..100_000 {
        let mut datagram = mutated(&mut random, templates);
        if random.u8(..) == 0 {
            datagram.truncate(random.usize(..24));
        }
        sent += u64::from(socket.send_to(&datagram, (to.vtep, 4789)).is_ok());
        if count % 50 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(sent)
}
