//! Traffic between two namespaces, checked octet for octet at its other end.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    ops::RangeInclusive,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, ensure};
use weft::{lab::Namespace, sys::netns::Netns};

/// How long any one step may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a stream may take that only trickles.
const MORE_PATIENCE: Duration = Duration::from_secs(60);

/// Sends one UDP datagram of every size from `client` to `address` in `server`, which sends each back; the client compares.
///
/// # Errors
/// A datagram is lost or comes back different; the error has its size.
pub fn echo(
    client: &Namespace,
    server: &Namespace,
    address: IpAddr,
    sizes: RangeInclusive<usize>,
) -> anyhow::Result<()> {
    let count = sizes.clone().count();
    let answering = server.within(|| UdpSocket::bind(SocketAddr::new(address, 0)))??;
    let any = SocketAddr::new(unspecified(address), 0);
    let asking = client.within(|| UdpSocket::bind(any))??;
    asking.connect(answering.local_addr()?)?;
    asking.set_read_timeout(Some(Duration::from_secs(3)))?;
    answering.set_read_timeout(Some(PATIENCE))?;
    thread::scope(|scope| {
        scope.spawn(move || -> std::io::Result<()> {
            let mut buffer = vec![0; 65_536];
            for _ in 0..count {
                let (len, from) = answering.recv_from(&mut buffer)?;
                answering.send_to(&buffer[..len], from)?;
            }
            Ok(())
        });
        let mut random = fastrand::Rng::with_seed(count as u64);
        let (mut sent, mut back) = (vec![0; 65_536], vec![0; 65_536]);
        for size in sizes {
            random.fill(&mut sent[..size]);
            asking.send(&sent[..size]).with_context(|| format!("sending {size} octets"))?;
            let len = asking.recv(&mut back).with_context(|| format!("{size} octets did not come back"))?;
            ensure!(back[..len] == sent[..size], "{size} octets came back as {len} others");
        }
        Ok(())
    })
}

/// Sends `len` pseudo-random octets by TCP from `client` to `address` in `server`, which compares each.
///
/// # Errors
/// The connection breaks or stalls, or an octet is wrong; the error says which.
pub fn stream(client: &Namespace, server: &Namespace, address: IpAddr, len: usize) -> anyhow::Result<()> {
    stream_within(client.netns(), server.netns(), address, len)
}

/// The same between any two namespaces.
///
/// # Errors
/// As [`stream`].
pub fn stream_within(client: &Netns, server: &Netns, address: IpAddr, len: usize) -> anyhow::Result<()> {
    let listener = server.within(|| TcpListener::bind(SocketAddr::new(address, 0)))??;
    let to = listener.local_addr()?;
    let connect = || TcpStream::connect_timeout(&to, PATIENCE);
    let mut sending = client.within(connect)?.context("connecting")?;
    let (mut receiving, _) = listener.accept()?;
    sending.set_write_timeout(Some(PATIENCE))?;
    receiving.set_read_timeout(Some(PATIENCE))?;
    thread::scope(|scope| {
        let sender = scope.spawn(move || -> std::io::Result<()> {
            let mut source = Octets::default();
            let mut left = len;
            while left > 0 {
                let block = source.next();
                let some = block.len().min(left);
                sending.write_all(&block[..some])?;
                left -= some;
            }
            sending.shutdown(std::net::Shutdown::Write)
        });
        let mut source = Octets::default();
        let mut found = vec![0; Octets::BLOCK];
        let mut done = 0;
        let end = Instant::now() + MORE_PATIENCE;
        while done < len {
            ensure!(Instant::now() < end, "only {done} octets within {MORE_PATIENCE:?}");
            let wanted = source.next();
            let some = wanted.len().min(len - done);
            receiving.read_exact(&mut found[..some]).with_context(|| format!("after {done} octets"))?;
            ensure!(found[..some] == wanted[..some], "something is wrong between octets {done} and {}", done + some);
            done += some;
        }
        ensure!(receiving.read(&mut found)? == 0, "more came than was sent");
        sender.join().map_err(|_| anyhow!("the sender panicked"))?.context("sending")
    })
}

/// The octets of a stream, the same ones each time, without a period that fits segments or blocks.
struct Octets {
    random: fastrand::Rng,
    block: Vec<u8>,
}

impl Default for Octets {
    fn default() -> Self {
        Self { random: fastrand::Rng::with_seed(7348), block: vec![0; Self::BLOCK] }
    }
}

impl Octets {
    const BLOCK: usize = 65_536;

    fn next(&mut self) -> &[u8] {
        self.random.fill(&mut self.block);
        &self.block
    }
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}
