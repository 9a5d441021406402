//! Whether what a lab says of itself is so.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use socket2::{Domain, SockAddr, Socket, Type};

use super::RunningLab;
use crate::lab::{LabError, topology::Check};

/// How a check went.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CheckResult {
    /// What was checked.
    pub name: String,
    /// What was done, as one would type it.
    pub did: String,
    /// Whether it is so.
    pub holds: bool,
    /// What was seen.
    pub saw: String,
}

/// How often something that should work is tried: the first packets of a network that was just built may be lost while
/// addresses are asked for and learned.
const ATTEMPTS: u32 = 4;
/// How often a command looks for something, which the other checks may be about to bring about.
const LOOKS: u32 = 15;
/// How long is waited between attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a connection is tried, which tries again by itself.
const CONNECTIONS: u32 = 2;
/// How long it may take to be there: the first packet may be lost, which is sent again after a second.
const CONNECT_PATIENCE: Duration = Duration::from_millis(1200);
/// How long its bytes may take.
const EXCHANGE_PATIENCE: Duration = Duration::from_secs(3);
/// What a TCP connection carries each way: enough for several full segments.
const TCP_BYTES: usize = 64 << 10;

impl RunningLab {
    /// Tries one check.
    ///
    /// # Errors
    /// It can't be tried: a program is missing, a namespace is gone. That it doesn't hold is none.
    pub fn check(&self, check: &Check) -> Result<CheckResult, LabError> {
        // What must fail may not be tried until it happens to work, and need not be tried more often.
        let attempts = match check {
            Check { fails: true, .. } => 1,
            Check { run: Some(_), .. } => LOOKS,
            Check { tcp: Some(_), .. } => CONNECTIONS,
            Check { .. } => ATTEMPTS,
        };
        let mut result = self.attempt(check)?;
        for _ in 1..attempts {
            if result.holds {
                break;
            }
            thread::sleep(PAUSE);
            result = self.attempt(check)?;
        }
        Ok(result)
    }

    /// Tries all checks at once, in the order of the lab's file.
    ///
    /// # Errors
    /// As [`RunningLab::check`].
    pub fn check_all(&self) -> Result<Vec<CheckResult>, LabError> {
        thread::scope(|scope| {
            let tried: Vec<_> = self.topology.checks.iter().map(|check| scope.spawn(|| self.check(check))).collect();
            let join = |tried: thread::ScopedJoinHandle<'_, _>| {
                tried.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
            };
            tried.into_iter().map(join).collect()
        })
    }

    fn attempt(&self, check: &Check) -> Result<CheckResult, LabError> {
        let (did, worked, saw) = if let Some(address) = check.ping {
            self.ping(&check.from, address, check.size)?
        } else if let Some(address) = check.tcp {
            self.tcp(check, address)?
        } else {
            self.shell(check)?
        };
        Ok(CheckResult { name: check.name.clone(), did, holds: worked != check.fails, saw })
    }

    fn ping(&self, from: &str, to: IpAddr, size: Option<u16>) -> Result<(String, bool, String), LabError> {
        let mut command = vec!["ping".to_owned(), "-c1".to_owned(), "-W0.5".to_owned()];
        if let Some(size) = size {
            command.extend(["-Mdo".to_owned(), format!("-s{size}")]);
        }
        command.push(to.to_string());
        let words: Vec<_> = command.iter().map(String::as_str).collect();
        let output = self.host(from)?.run(&words)?;
        // Its answer, or what came instead of one.
        let told = |line: &&str| line.contains("bytes from") || line.starts_with("From ") || line.contains("received");
        let said = format!("{}\n{}", output.stdout, output.stderr);
        let saw = said.lines().find(told).or_else(|| said.lines().rfind(|line| !line.is_empty())).unwrap_or_default();
        Ok((format!("{from}$ {}", command.join(" ")), output.success(), saw.to_owned()))
    }

    fn shell(&self, check: &Check) -> Result<(String, bool, String), LabError> {
        let line = check.run.as_deref().unwrap_or_default();
        let output = self.host(&check.from)?.run(&["sh", "-c", line])?;
        let says = check.says.as_ref().is_none_or(|words| output.stdout.contains(words));
        let saw = match &check.says {
            Some(words) => output.stdout.lines().find(|line| line.contains(words)).unwrap_or(&output.stdout),
            None => output.stdout.lines().next().unwrap_or(&output.stderr),
        };
        Ok((format!("{}$ {line}", check.from), output.success() && says, saw.trim().to_owned()))
    }

    /// A connection that carries bytes both ways; the address of whoever connected, as the other end sees it.
    fn tcp(&self, check: &Check, address: SocketAddr) -> Result<(String, bool, String), LabError> {
        let did = format!("{}$ connect to {address}, {} KiB each way", check.from, TCP_BYTES >> 10);
        let listener_host = match &check.to {
            Some(host) => host.as_str(),
            None => self.topology.holder(address.ip()).map_or("", |host| host.name.as_str()),
        };
        let any = if address.is_ipv4() { "0.0.0.0" } else { "[::]" };
        // Where a destination is translated, the address that is asked for is on no host.
        let port = check.listen.unwrap_or_else(|| address.port());
        let listen = || TcpListener::bind(format!("{any}:{port}"));
        let listener = self.host(listener_host)?.within(listen)?;
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => return Ok((did, false, format!("nobody can listen there: {error}"))),
        };
        let outcome = thread::scope(|scope| {
            let served = scope.spawn(|| serve(&listener));
            let asked = self.host(&check.from)?.within(|| ask(address))?;
            let served = served.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
            Ok::<_, LabError>(asked.and(served))
        })?;
        Ok(match outcome {
            Ok(source) => {
                let says = check.says.as_ref().is_none_or(|begin| source.to_string().starts_with(begin.as_str()));
                (did, says, format!("connected; the other end saw {source}"))
            }
            Err(error) => (did, false, error.to_string()),
        })
    }
}

fn ask(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.connect_timeout(&SockAddr::from(address), CONNECT_PATIENCE)?;
    exchange(socket.into())
}

fn serve(listener: &TcpListener) -> io::Result<SocketAddr> {
    listener.set_nonblocking(true)?;
    // Longer than the other end tries.
    let end = Instant::now() + CONNECT_PATIENCE + CONNECT_PATIENCE / 4;
    loop {
        match listener.accept() {
            Ok((stream, source)) => {
                stream.set_nonblocking(false)?;
                return exchange(stream).map(|()| source);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody connected"));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Sends and receives at once what both ends agree on.
fn exchange(stream: std::net::TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(EXCHANGE_PATIENCE))?;
    stream.set_write_timeout(Some(EXCHANGE_PATIENCE))?;
    let mut writer = stream.try_clone()?;
    let mut reader = stream;
    let (sent, received) = thread::scope(|scope| {
        let sent = scope.spawn(move || writer.write_all(&[0x5a; TCP_BYTES]));
        let mut bytes = vec![0; TCP_BYTES];
        let received = reader.read_exact(&mut bytes);
        (sent.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked)), received)
    });
    let late = |error: io::Error| {
        let late = error.kind() == io::ErrorKind::WouldBlock;
        let why = "connected, but the bytes do not come across";
        if late { io::Error::new(io::ErrorKind::TimedOut, why) } else { error }
    };
    sent.and(received).map_err(late)
}
