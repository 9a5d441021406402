//! The underlay's sockets against the kernel, where loopback is not enough: small MTUs, routers, firewalls, full queues and
//! vxlan devices that have the port already.

use std::{
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use weft::{
    bridge::DropReason,
    ids::{BridgeId, VtepId},
    lab::{Lab, Namespace, VxlanOptions},
    underlay::{
        Target, UnderlayBatch, UnderlayEnd,
        events::{ErrorQueues, UnderlayEvent},
        sockets::{DontFragment, Gso, UnderlayError, UnderlaySettings, UnderlaySockets},
        udp::{TxCounts, UdpUnderlay},
    },
};
use weft_integration::{
    Needs, main_with_threads,
    shape::{Shape, in_every_shape},
    trial,
};
use weft_vxlan::{HeaderFormat, Vni};

const PREFIX: &str = "weft-underlay";
const LONG: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let root = Needs::ROOT;
    let mut tests = in_every_shape(&[
        ("what_exceeds_the_mtu_of_the_interface_is_refused_and_the_rest_arrives", root, mtu_of_the_interface),
        ("without_df_what_exceeds_the_mtu_arrives_in_fragments", root, fragments),
        ("with_inherited_df_each_datagram_has_its_own", root, inherited_df),
        ("the_mtu_of_a_router_queues_up_and_is_nothing_to_the_sockets", root, mtu_of_a_router),
        ("no_route_is_unreachable", root, no_route),
        ("what_a_firewall_takes_is_refused", root.programs(&["nft"]), firewall),
        ("a_full_send_buffer_is_a_full_queue_at_once", root.programs(&["tc"]), full_send_buffer),
        ("runs_pass_an_interface_without_offloads", root.programs(&["ethtool"]), no_offloads),
    ]);
    tests.extend([
        trial("a_vxlan_device_on_the_port_is_named", root, vxlan_device_on_the_port),
        trial("a_process_in_another_namespace_is_not_in_the_way", root, other_namespace),
    ]);
    main_with_threads(2, tests)
}

#[derive(Clone, Copy, Debug)]
enum Family {
    V4,
    V6,
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Family {
    fn address(self, network: u8, host: u8) -> IpAddr {
        let text = match self {
            Self::V4 => format!("192.0.{network}.{host}"),
            Self::V6 => format!("2001:db8:{network}::{host}"),
        };
        text.parse().expect("an address")
    }

    fn with_prefix(self, address: IpAddr) -> String {
        format!("{address}/{}", if matches!(self, Self::V4) { 24 } else { 64 })
    }

    /// Bytes of an MTU that a UDP payload can't have.
    fn headers_len(self) -> usize {
        if matches!(self, Self::V4) { 28 } else { 48 }
    }
}

/// host1 - host2, with this MTU between.
fn two_hosts(family: Family, mtu: u32) -> anyhow::Result<(Lab, [Namespace; 2])> {
    let lab = Lab::new(PREFIX);
    let hosts = [lab.namespace("host1")?, lab.namespace("host2")?];
    lab.veth((&hosts[0], "eth0"), (&hosts[1], "eth0"), mtu)?;
    for (number, host) in (1..).zip(&hosts) {
        host.address("eth0", &family.with_prefix(family.address(2, number)))?;
    }
    Ok((lab, hosts))
}

fn mtu_of_the_interface(shape: Shape) -> anyhow::Result<()> {
    for family in FAMILIES {
        let (_lab, [host1, host2]) = two_hosts(family, 1400)?;
        let (mut a, _) = open(shape, &host1, family.address(2, 1), |_| ())?;
        let (mut b, to) = open(shape, &host2, family.address(2, 2), |_| ())?;
        let fits = 1400 - family.headers_len();
        let lens = [fits, fits + 1, fits, 500, fits + 1, fits + 1, fits + 1, 80, 200, 200];
        for (index, len) in lens.into_iter().enumerate() {
            a.reserve(&target(to), 1, len).fill(index as u8);
        }
        let (sent, failures) = flush(&mut a);
        let too_long = failures.iter().map(|failure| failure.1).sum::<u64>();
        ensure!(failures.iter().all(|failure| failure.0 == DropReason::UnderlayMtu), "{family:?}: {failures:?}");
        ensure!((sent, too_long) == (6, 4), "{family:?}: {sent} sent, {too_long} too long");
        let arrived: Vec<_> = receive(&mut b, 6)?.iter().map(|content| (content[0], content.len())).collect();
        let expected = [(0, fits), (2, fits), (3, 500), (7, 80), (8, 200), (9, 200)];
        ensure!(arrived == expected, "{family:?}: {arrived:?}");
        ensure!(a.uses_gso() == shape.offload, "{family:?}: a size is no reason to give up segmentation");
    }
    Ok(())
}

fn fragments(shape: Shape) -> anyhow::Result<()> {
    for family in FAMILIES {
        let (_lab, [host1, host2]) = two_hosts(family, 1400)?;
        let (mut a, _) =
            open(shape, &host1, family.address(2, 1), |settings| settings.dont_fragment = DontFragment::Unset)?;
        let (mut b, to) = open(shape, &host2, family.address(2, 2), |_| ())?;
        let target = Target { dont_fragment: false, ..target(to) };
        let lens = [3000, 3000, 3000, 1000, 1000, 60_000];
        for (index, len) in lens.into_iter().enumerate() {
            a.reserve(&target, 1, len).fill(index as u8);
        }
        let (sent, failures) = flush(&mut a);
        ensure!(sent == 6 && failures.is_empty(), "{family:?}: {sent} sent, {failures:?}");
        // Fragments take longer to put together than what is whole takes to pass.
        let mut arrived: Vec<_> = receive(&mut b, 6)?.iter().map(|content| (content[0], content.len())).collect();
        arrived.sort_unstable();
        let expected: Vec<_> = (0..).zip(lens).collect();
        ensure!(arrived == expected, "{family:?}: {arrived:?}");
        let refused = u64::from(shape.offload);
        ensure!(
            a.uses_gso() == shape.offload && a.tx_counts().refused_runs == refused,
            "{family:?}: {:?}",
            a.tx_counts()
        );
    }
    Ok(())
}

fn inherited_df(shape: Shape) -> anyhow::Result<()> {
    for family in FAMILIES {
        let (_lab, [host1, host2]) = two_hosts(family, 1400)?;
        let (mut a, _) =
            open(shape, &host1, family.address(2, 1), |settings| settings.dont_fragment = DontFragment::Inherit)?;
        let (mut b, to) = open(shape, &host2, family.address(2, 2), |_| ())?;
        for dont_fragment in [true, false] {
            a.reserve(&Target { dont_fragment, ..target(to) }, 1, 2000).fill(u8::from(dont_fragment));
        }
        let (sent, failures) = flush(&mut a);
        ensure!(sent == 1 && failures == [(DropReason::UnderlayMtu, 1)], "{family:?}: {sent} sent, {failures:?}");
        ensure!(receive(&mut b, 1)? == [[0; 2000]], "{family:?}");
    }
    Ok(())
}

/// host1 - 1500 - router - 1400 - host2: the sender's filter takes no datagrams, but the router's errors do reach its queue. They
/// change nothing about what may be sent: whoever forges one must not.
fn mtu_of_a_router(shape: Shape) -> anyhow::Result<()> {
    for family in FAMILIES {
        let lab = Lab::new(PREFIX);
        let (host1, router, host2) = (lab.namespace("host1")?, lab.namespace("router")?, lab.namespace("host2")?);
        lab.veth((&host1, "eth0"), (&router, "eth1"), 1500)?;
        lab.veth((&host2, "eth0"), (&router, "eth2"), 1400)?;
        host1.address("eth0", &family.with_prefix(family.address(1, 1)))?;
        router.address("eth1", &family.with_prefix(family.address(1, 9)))?;
        router.address("eth2", &family.with_prefix(family.address(2, 9)))?;
        host2.address("eth0", &family.with_prefix(family.address(2, 1)))?;
        router.sysctl("net.ipv4.ip_forward", "1")?;
        router.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        let network = |number| family.with_prefix(family.address(number, 0));
        host1.route(&network(2), family.address(1, 9))?;
        host2.route(&network(1), family.address(2, 9))?;

        let (mut a, _) = open(shape, &host1, family.address(1, 1), |_| ())?;
        let (mut b, to) = open(shape, &host2, family.address(2, 1), |_| ())?;
        let deadline = Instant::now() + LONG;
        while !a.were_told_of(1400)? {
            ensure!(Instant::now() < deadline, "{family:?}: nobody tells of the smaller link");
            a.reserve(&target(to), 1, 1450).fill(1);
            ensure!(flush(&mut a) == (1, vec![]), "{family:?}: what fits the interface is sent");
            std::thread::sleep(Duration::from_millis(10));
        }
        a.reserve(&target(to), 1, 1450).fill(1);
        ensure!(flush(&mut a) == (1, vec![]), "{family:?}: what fits the interface is sent, whatever a router said");
        a.reserve(&target(to), 1, 1400 - family.headers_len()).fill(2);
        ensure!(flush(&mut a) == (1, vec![]), "{family:?}: what fits the path is sent");
        ensure!(receive(&mut b, 1)? == [vec![2; 1400 - family.headers_len()]], "{family:?}");
    }
    Ok(())
}

fn no_route(shape: Shape) -> anyhow::Result<()> {
    for family in FAMILIES {
        let (_lab, [host1, host2]) = two_hosts(family, 1500)?;
        let (mut a, _) = open(shape, &host1, family.address(2, 1), |_| ())?;
        let (mut b, to) = open(shape, &host2, family.address(2, 2), |_| ())?;
        let nowhere = target(SocketAddr::new(family.address(77, 1), 4789));
        for _ in 0..3 {
            a.reserve(&nowhere, 1, 100).fill(0);
        }
        a.reserve(&target(to), 1, 100).fill(1);
        let (sent, failures) = flush(&mut a);
        ensure!(sent == 1 && failures == [(DropReason::UnderlayUnreachable, 3)], "{family:?}: {sent}, {failures:?}");
        ensure!(receive(&mut b, 1)? == [[1; 100]], "{family:?}");

        host1.down("eth0")?;
        a.reserve(&target(to), 1, 100).fill(2);
        let (sent, failures) = flush(&mut a);
        ensure!(sent == 0 && failures == [(DropReason::UnderlayUnreachable, 1)], "{family:?}: {sent}, {failures:?}");
    }
    Ok(())
}

fn firewall(shape: Shape) -> anyhow::Result<()> {
    let family = Family::V4;
    let (_lab, [host1, host2]) = two_hosts(family, 1500)?;
    host1.run(&["nft", "add table ip t; add chain ip t out { type filter hook output priority 0; }"])?.ok()?;
    host1.run(&["nft", "add rule ip t out udp length 108 drop"])?.ok()?;
    let (mut a, _) = open(shape, &host1, family.address(2, 1), |_| ())?;
    let (mut b, to) = open(shape, &host2, family.address(2, 2), |_| ())?;
    for len in [200, 100, 90] {
        a.reserve(&Target { tos: len, ..target(to) }, 1, len.into()).fill(len);
    }
    let (sent, failures) = flush(&mut a);
    ensure!(sent == 2 && failures == [(DropReason::UnderlayRefused, 1)], "{sent} sent, {failures:?}");
    ensure!(receive(&mut b, 2)? == [vec![200; 200], vec![90; 90]]);
    Ok(())
}

fn full_send_buffer(shape: Shape) -> anyhow::Result<()> {
    let family = Family::V4;
    let (_lab, [host1, host2]) = two_hosts(family, 1500)?;
    // What waits in the queueing discipline is the socket's memory.
    host1
        .run(&["tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "8kbit", "burst", "2k", "limit", "1g"])?
        .ok()?;
    let (mut a, _) = open(shape, &host1, family.address(2, 1), |settings| settings.source_ports = 1)?;
    let (_b, to) = open(shape, &host2, family.address(2, 2), |_| ())?;
    let started = Instant::now();
    let (mut sent, mut refused) = (0, 0);
    for _ in 0..1000 {
        for _ in 0..44 {
            a.reserve(&target(to), 1, 1450).fill(0);
        }
        let (now_sent, failures) = flush(&mut a);
        sent += now_sent;
        refused += failures.iter().map(|failure| failure.1).sum::<u64>();
        ensure!(failures.iter().all(|failure| failure.0 == DropReason::UnderlayQueueFull), "{failures:?}");
    }
    ensure!(sent + refused == 44_000, "{sent} + {refused}");
    ensure!(sent > 44 && refused > 44, "{sent} sent, {refused} refused");
    ensure!(started.elapsed() < LONG, "it took {:?}", started.elapsed());
    ensure!(a.tx_counts().calls <= 2000, "{:?}", a.tx_counts());
    Ok(())
}

/// Before Linux 6.11 the kernel refused UDP_SEGMENT for a device without checksum offload; then datagrams go singly.
fn no_offloads(shape: Shape) -> anyhow::Result<()> {
    let family = Family::V4;
    let (_lab, [host1, host2]) = two_hosts(family, 1500)?;
    host1.run(&["ethtool", "-K", "eth0", "tx", "off", "sg", "off"])?.ok()?;
    let uses: &[_] = if shape.offload { &[Gso::Auto, Gso::On] } else { &[Gso::Off] };
    for gso in uses {
        let (mut a, _) = open(shape, &host1, family.address(2, 1), |settings| settings.gso = *gso)?;
        let (mut b, to) = open(shape, &host2, family.address(2, 2), |_| ())?;
        for round in 0..2 {
            for index in 0..20 {
                a.reserve(&target(to), 1, 1000).fill(round * 20 + index);
            }
            ensure!(flush(&mut a) == (20, vec![]));
        }
        let arrived: Vec<_> = receive(&mut b, 40)?.iter().map(|content| content[0]).collect();
        ensure!(arrived.iter().copied().eq(0..40), "{arrived:?}");
        let refused = a.tx_counts().refused_runs;
        ensure!(if a.uses_gso() { refused == 0 } else { refused == u64::from(shape.offload) }, "{:?}", a.tx_counts());
    }
    Ok(())
}

fn vxlan_device_on_the_port() -> anyhow::Result<()> {
    for family in FAMILIES {
        let (_lab, [host1, _]) = two_hosts(family, 1500)?;
        let address = family.address(2, 1);
        let vni = Vni::new(42).context("a VNI")?;
        host1.vxlan("vx0", &VxlanOptions::new(vni, address))?;
        let error = host1.within(|| UnderlaySockets::open(&UnderlaySettings::new(address)).err())?;
        let Some(UnderlayError::PortTaken { owner, .. }) = error else {
            anyhow::bail!("{family:?}: {error:?}");
        };
        let owner = owner.unwrap_or_default();
        ensure!(owner == "the kernel (a vxlan device)", "{family:?}: {owner}");
    }
    Ok(())
}

fn other_namespace() -> anyhow::Result<()> {
    let family = Family::V4;
    let (_lab, [host1, host2]) = two_hosts(family, 1500)?;
    let address = family.address(5, 1);
    for host in [&host1, &host2] {
        host.address("eth0", &family.with_prefix(address))?;
    }
    let open = || UnderlaySockets::open(&UnderlaySettings::new(address));
    let _first = host2.within(open)??;
    let error = host2.within(|| open().err())?.context("opened twice in one namespace")?.to_string();
    ensure!(error.starts_with(&format!("{address}:4789 is taken by process {} (", std::process::id())), "{error}");
    let _second = host1.within(open)??;
    Ok(())
}

/// The end of each worker, and what ICMP says of what they send.
struct Ends(Vec<UdpUnderlay>, ErrorQueues);

/// The ends of a weft in this namespace; IPv6 addresses are waited for until they may be used. Without offloads every
/// datagram is handed to the kernel by itself.
fn open(
    shape: Shape,
    host: &Namespace,
    address: IpAddr,
    change: impl FnOnce(&mut UnderlaySettings),
) -> anyhow::Result<(Ends, SocketAddr)> {
    let mut settings = UnderlaySettings::new(address);
    settings.workers = shape.workers;
    settings.gso = if shape.offload { Gso::Auto } else { Gso::Off };
    change(&mut settings);
    let deadline = Instant::now() + LONG;
    loop {
        let opened = host.within(|| UnderlaySockets::open(&settings))?;
        match opened {
            Err(UnderlayError::AddressNotLocal { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            opened => {
                let sockets = opened?;
                let local = sockets.local_address();
                let queues = sockets.error_queues();
                return Ok((Ends(sockets.into_ends(), queues), local));
            }
        }
    }
}

impl Ends {
    /// Of the last worker, which did not open the sockets.
    fn sender(&mut self) -> &mut UdpUnderlay {
        self.0.last_mut().expect("one end a worker")
    }

    fn reserve(&mut self, target: &Target, hash: u32, len: usize) -> &mut [u8] {
        self.sender().reserve(target, hash, len)
    }

    /// Whether some router told of a link with this MTU.
    fn were_told_of(&self, link_mtu: u32) -> anyhow::Result<bool> {
        for queue in (0..self.1.count()).filter_map(|index| self.1.queue(index)) {
            while let Some(event) = queue.next()? {
                if matches!(event, UnderlayEvent::TooBig { mtu, .. } if mtu == link_mtu) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn tx_counts(&mut self) -> TxCounts {
        self.sender().tx_counts()
    }

    fn uses_gso(&mut self) -> bool {
        self.sender().gso().off_count == 0
    }
}

fn target(address: SocketAddr) -> Target {
    let (bridge, vtep) = (BridgeId(1), VtepId(1));
    Target { bridge, vtep, address, tos: 0, ttl: 64, dont_fragment: true, header_len: 8 }
}

/// Frames sent, and reason and frames of each failure; of failures in a row for one reason the sum.
fn flush(ends: &mut Ends) -> (u64, Vec<(DropReason, u64)>) {
    let (mut sent, mut failures) = (0, Vec::<(DropReason, u64)>::new());
    ends.sender().flush(&mut |report| match report.result {
        Ok(()) => sent += report.frames,
        Err(reason) => failures.push((reason, report.frames)),
    });
    failures.dedup_by(|next, last| {
        let same = next.0 == last.0;
        last.1 += if same { next.1 } else { 0 };
        same
    });
    (sent, failures)
}

/// Datagrams, one by one; an error if they do not come.
fn receive(ends: &mut Ends, count: usize) -> anyhow::Result<Vec<Vec<u8>>> {
    let deadline = Instant::now() + LONG;
    let mut batch = UnderlayBatch::new();
    let mut contents = Vec::new();
    while contents.len() < count {
        ensure!(Instant::now() < deadline, "{} of {count} datagrams have come", contents.len());
        for end in &mut ends.0 {
            end.recv(HeaderFormat::Vxlan, &mut batch)?;
            for (arrival, bytes) in batch.iter_mut() {
                contents.extend(bytes.chunks(arrival.stride).map(<[u8]>::to_vec));
            }
        }
    }
    Ok(contents)
}
