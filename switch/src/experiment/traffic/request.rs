//! Requests and responses: a short question, a long answer, one after the other over one TCP connection.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;

use super::{SLICE, Station, is_timeout, left, percentile};
use crate::experiment::error::ExperimentError;

/// Bytes of a question.
const QUESTION_LEN: usize = 64;

/// How the exchange went.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Exchange {
    /// Questions whose answer came whole.
    pub answered: u64,
    /// Questions without: at most one, since nobody asks again before.
    pub unanswered: u64,
    /// Half of the answers were there no later; `None` if none came.
    pub p50: Option<Duration>,
    /// 99 percent were there no later.
    pub p99: Option<Duration>,
    /// How long it went on.
    pub elapsed: Duration,
}

/// Asks from one station to another for so long; an answer has `answer_len` bytes.
///
/// # Errors
/// A socket can't be made. That no answer comes is no error.
pub fn exchange(
    from: Station<'_>,
    to: Station<'_>,
    answer_len: usize,
    time: Duration,
) -> Result<Exchange, ExperimentError> {
    let listener = to.open("listen", || TcpListener::bind((to.address.ip(), 0)))?;
    let target = listener.local_addr().map_err(ExperimentError::step("name a listening socket"))?;
    // Also accept(2) ends with a receive timeout.
    SockRef::from(&listener).set_read_timeout(Some(SLICE)).map_err(ExperimentError::step("limit accept"))?;
    let started = Instant::now();
    let end = started + time;
    let connected = from.namespace.within(|| TcpStream::connect_timeout(&target, time))?;
    let client = match connected {
        Ok(client) => client,
        Err(error) if is_timeout(&error) || error.kind() == ErrorKind::HostUnreachable => {
            return Ok(Exchange { unanswered: 1, elapsed: time, ..Exchange::default() });
        }
        Err(error) => return Err(ExperimentError::step("connect to the other station")(error)),
    };
    thread::scope(|scope| {
        let server = scope.spawn(|| serve(&listener, answer_len, end));
        let exchange = ask(client, answer_len, started, end);
        match server.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked)) {
            Ok(()) => Ok(exchange),
            Err(error) => Err(ExperimentError::step("answer a question")(error)),
        }
    })
}

fn ask(mut stream: TcpStream, answer_len: usize, started: Instant, end: Instant) -> Exchange {
    let mut exchange = Exchange::default();
    let mut times = Vec::new();
    let mut answer = vec![0; answer_len];
    let _ = stream.set_nodelay(true);
    while Instant::now() < end {
        let asked = Instant::now();
        let done = write_until(&mut stream, &[0x3f; QUESTION_LEN], end)
            .and_then(|()| read_until(&mut stream, &mut answer, end));
        match done {
            Ok(()) => times.push(asked.elapsed()),
            Err(_) => {
                exchange.unanswered += 1;
                break;
            }
        }
    }
    // What is still under way need not arrive, and must not be sent while the next load runs.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    times.sort_unstable();
    Exchange {
        answered: times.len() as u64,
        p50: percentile(&times, 50.0),
        p99: percentile(&times, 99.0),
        elapsed: started.elapsed(),
        ..exchange
    }
}

/// Answers the questions of one client until it is gone or the time is over.
fn serve(listener: &TcpListener, answer_len: usize, end: Instant) -> io::Result<()> {
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if is_timeout(&error) && Instant::now() < end => {}
            Err(error) if is_timeout(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    };
    stream.set_nodelay(true)?;
    let answer = vec![0x2a; answer_len];
    let mut question = [0; QUESTION_LEN];
    while read_until(&mut stream, &mut question, end).and_then(|()| write_until(&mut stream, &answer, end)).is_ok() {}
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}

/// Fills `buffer`, or fails when the time is over or the other side has closed.
fn read_until(stream: &mut TcpStream, buffer: &mut [u8], end: Instant) -> io::Result<()> {
    let mut read = 0;
    while read < buffer.len() {
        stream.set_read_timeout(Some(left(end)))?;
        match stream.read(&mut buffer[read..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(len) => read += len,
            Err(error) if is_timeout(&error) && Instant::now() < end => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `bytes`, or fails when the time is over or the other side has closed.
fn write_until(stream: &mut TcpStream, bytes: &[u8], end: Instant) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        stream.set_write_timeout(Some(left(end)))?;
        match stream.write(&bytes[written..]) {
            Ok(len) => written += len,
            Err(error) if is_timeout(&error) && Instant::now() < end => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
