//! What hosts send: pings, bytes over TCP, and frames made by hand.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use weft::{lab::Namespace, offload::VNET_HEADER_LEN, sys::packet_socket};
use weft_integration::weft::eventually;

/// Longer than anything takes that comes at all, also in an emulated machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// EtherType for local experiments (IEEE 802): no stack answers it.
const EXPERIMENT: u16 = 0x88b5;

/// A frame that is made by hand, to everybody, with these tags (protocol identifier and control information, outermost
/// first) and a number that tells it from others. Without tags it is the same frame, but for the tags.
pub(crate) fn numbered(number: u32, tags: &[(u16, u16)]) -> Vec<u8> {
    let mut frame = [[0xff; 6], [2, 0, 0, 0, 0xee, 1]].concat();
    for (tpid, tci) in tags {
        frame.extend(tpid.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    frame.extend(EXPERIMENT.to_be_bytes());
    frame.extend(number.to_be_bytes());
    frame.resize(64 + 4 * tags.len(), 0x5a);
    frame
}

/// The number of a [`numbered`] frame.
pub(crate) fn number_of(frame: &[u8]) -> Option<u32> {
    const MOST_TAGS: usize = 2;
    let type_at =
        (12..=12 + 4 * MOST_TAGS).step_by(4).find(|&at| frame.get(at..at + 2) == Some(&EXPERIMENT.to_be_bytes()))?;
    frame[type_at + 2..].first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Sends raw frames out of an interface.
pub(crate) fn inject(namespace: &Namespace, interface: &str, frames: &[Vec<u8>]) -> anyhow::Result<()> {
    // weft's own socket is good enough for sending: what went out is seen by others. In front goes a virtio-net header of
    // zeros, which asks for nothing.
    let sockets = namespace.within(|| packet_socket::open(interface, 1))??;
    for frame in frames {
        rustix::io::write(&sockets[0], &[&[0; VNET_HEADER_LEN], &frame[..]].concat())?;
    }
    Ok(())
}

/// Pings until the first answer comes: neighbours and whoever learns addresses may need a moment.
pub(crate) fn becomes_reachable(from: &Namespace, to: &str) -> anyhow::Result<()> {
    let what = format!("{to} answers {}", from.name());
    eventually(&what, PATIENCE, || Ok(from.run(&["ping", "-n", "-c", "1", "-W", "1", to])?.success()))
}

/// Three pings of so many bytes, all answered.
pub(crate) fn ping(from: &Namespace, to: &str, payload_len: usize) -> anyhow::Result<()> {
    let size = payload_len.to_string();
    from.run(&["ping", "-n", "-c", "3", "-i", "0.05", "-W", "5", "-s", &size, to])?.ok()?;
    Ok(())
}

/// Pings that nobody may answer.
pub(crate) fn is_unreachable(from: &Namespace, to: &str) -> anyhow::Result<()> {
    let output = from.run(&["ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", to])?;
    ensure!(!output.success(), "{to} answers {}", from.name());
    Ok(())
}

/// Sends so many bytes over TCP and compares what arrives.
pub(crate) fn tcp(from: &Namespace, to: &Namespace, to_address: &str, byte_count: usize) -> anyhow::Result<()> {
    let address: IpAddr = to_address.parse()?;
    let listener = to.within(|| TcpListener::bind(SocketAddr::new(address, 0)))??;
    let address = listener.local_addr()?;
    let sent: Vec<u8> = (0..byte_count).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect();
    let received = thread::scope(|scope| {
        let sending = scope.spawn(|| -> anyhow::Result<()> {
            let mut stream = from.within(|| TcpStream::connect_timeout(&address, PATIENCE))??;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream.write_all(&sent)?)
        });
        let received = scope.spawn(|| -> anyhow::Result<Vec<u8>> {
            let mut stream = accept(&listener)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut received = Vec::with_capacity(byte_count);
            stream.read_to_end(&mut received)?;
            Ok(received)
        });
        let received = received.join().expect("the receiver does not panic");
        sending.join().expect("nor does the sender").and(received)
    });
    let received = received.with_context(|| format!("TCP from {} to {}", from.name(), to.name()))?;
    ensure!(received == sent, "{} bytes of {byte_count} arrived, or they are others", received.len());
    Ok(())
}

/// Waits for a connection, but not for ever.
fn accept(listener: &TcpListener) -> anyhow::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let mut accepted = None;
    eventually("a connection", PATIENCE, || {
        accepted = listener.accept().ok();
        Ok(accepted.is_some())
    })?;
    let (stream, _) = accepted.context("it was there")?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}
