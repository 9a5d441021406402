//! TCP in bulk: one connection that sends as much as it can.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery};
use socket2::{Domain, SockRef, Socket, Type};

use super::{Station, is_timeout, left};
use crate::experiment::error::ExperimentError;

/// How a bulk transfer went.
#[derive(Clone, PartialEq, Debug)]
pub struct Bulk {
    /// Bytes that the sink received.
    pub bytes: u64,
    /// How long the source sent.
    pub elapsed: Duration,
    /// Bytes of a full segment without headers, as the source knew at the end; 0 if there was no connection.
    pub mss: u32,
    /// Whether the connection came to be at all: that takes small packets only.
    pub is_connected: bool,
    /// When the sink had this many bytes: a point for each of its reads, thinned out.
    pub progress: Vec<(Duration, u64)>,
}

/// How much is to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Amount {
    /// As much as can be in the time.
    Endless,
    /// So many bytes; it ends when they have arrived.
    Bytes(u64),
}

/// Whether a sender believes ICMP that says that its packets are too big.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hears {
    /// It does, as TCP is meant to be (RFC 1191).
    Icmp,
    /// It does not, as if a firewall in front of it let none pass. Its namespace must have `net.ipv4.ip_no_pmtu_disc` at 2, with
    /// which the kernel throws such ICMP away (`net/ipv4/icmp.c: icmp_unreach`), and would clear DF if the socket did not ask
    /// for it.
    Nothing,
}

/// Sends from one station to another for so long at most.
///
/// # Errors
/// A socket can't be made. That nothing arrives is no error.
pub fn bulk(
    from: Station<'_>,
    to: Station<'_>,
    time: Duration,
    amount: Amount,
    hears: Hears,
) -> Result<Bulk, ExperimentError> {
    let listener = to.open("listen", || TcpListener::bind((to.address.ip(), 0)))?;
    let target = listener.local_addr().map_err(ExperimentError::step("name a listening socket"))?;
    let started = Instant::now();
    let end = started + time;
    let mut outcome = Bulk { bytes: 0, elapsed: time, mss: 0, is_connected: false, progress: Vec::new() };
    let connect = || -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
        if hears == Hears::Nothing {
            sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO)?;
        }
        socket.connect_timeout(&target.into(), time)?;
        Ok(socket.into())
    };
    let connected = from.namespace.within(connect)?;
    let stream = match connected {
        Ok(stream) => stream,
        Err(error) if is_timeout(&error) || error.kind() == ErrorKind::HostUnreachable => return Ok(outcome),
        Err(error) => return Err(ExperimentError::step("connect to the other station")(error)),
    };
    outcome.is_connected = true;
    let accepted = accept(&listener, end)?;
    let wanted = match amount {
        Amount::Endless => u64::MAX,
        Amount::Bytes(bytes) => bytes,
    };
    let mss = thread::scope(|scope| {
        let source = scope.spawn(|| send(stream, wanted, end));
        if let Some(sink) = accepted {
            receive(sink, wanted, started, end, &mut outcome);
        }
        source.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
    });
    outcome.mss = mss;
    outcome.elapsed = started.elapsed().min(time);
    Ok(outcome)
}

fn accept(listener: &TcpListener, end: Instant) -> Result<Option<TcpStream>, ExperimentError> {
    // Also accept(2) ends with a receive timeout.
    SockRef::from(listener).set_read_timeout(Some(super::SLICE)).map_err(ExperimentError::step("limit accept"))?;
    while Instant::now() < end {
        match listener.accept() {
            Ok((stream, _)) => return Ok(Some(stream)),
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(ExperimentError::step("accept a connection")(error)),
        }
    }
    Ok(None)
}

/// Sends until the time is over, everything is sent, or the other side has enough; gives the segment size.
fn send(mut stream: TcpStream, wanted: u64, end: Instant) -> u32 {
    static PIECE: [u8; 64 << 10] = [0x5a; 64 << 10];
    let mut sent = 0;
    while sent < wanted && Instant::now() < end {
        let piece = PIECE.len().min(usize::try_from(wanted - sent).unwrap_or(usize::MAX));
        // A timeout that can't be set would be a wait without end.
        let written = stream.set_write_timeout(Some(left(end))).and_then(|()| stream.write(&PIECE[..piece]));
        match written {
            Ok(len) => sent += len as u64,
            Err(error) if is_timeout(&error) => {}
            // The sink has ended.
            Err(_) => break,
        }
    }
    let mss = SockRef::from(&stream).tcp_mss().unwrap_or(0);
    if wanted == u64::MAX {
        // What is still in the buffer need not arrive, and must not be sent while the next load runs.
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        return mss;
    }
    // The rest has as long as it takes, within the time: closing at once would throw it away.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    while Instant::now() < end {
        let closed = stream.set_read_timeout(Some(left(end))).and_then(|()| stream.read(&mut [0; 16]));
        match closed {
            Err(error) if is_timeout(&error) => {}
            Ok(_) | Err(_) => break,
        }
    }
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    mss
}

/// Reads until the time is over, everything has come, or the source has closed.
fn receive(mut stream: TcpStream, wanted: u64, started: Instant, end: Instant, outcome: &mut Bulk) {
    /// Points of the progress at most this close to each other.
    const POINT: Duration = Duration::from_millis(20);
    let mut buffer = vec![0; 256 << 10];
    let mut told = Duration::ZERO;
    while outcome.bytes < wanted && Instant::now() < end {
        let read = stream.set_read_timeout(Some(left(end))).and_then(|()| stream.read(&mut buffer));
        match read {
            Ok(0) => break,
            Ok(len) => outcome.bytes += len as u64,
            Err(error) if is_timeout(&error) => continue,
            Err(_) => break,
        }
        let now = started.elapsed();
        if now >= told + POINT || outcome.progress.is_empty() || outcome.bytes == wanted {
            outcome.progress.push((now, outcome.bytes));
            told = now;
        }
    }
}
