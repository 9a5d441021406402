//! The opener's side: does what is asked, one request after the other, until weft's end of the line closes.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileTypeExt,
    },
    path::Path,
    process::ExitCode,
};

use rustix::net::sockopt;

use super::{
    super::{
        handed_tap, inside,
        inside::{receive, send},
        interface::InterfaceName,
        netns::Netns,
        socket_owner::socket_owner,
        tun, udp,
    },
    Answer, Buffer, MAX_LEN, Refused, Request, TapQueue, change,
    request::SocketKind,
};

/// Answers what comes on standard input until it ends. First it says that it is there, and what it could not take off
/// itself.
pub fn serve(configuration: &Path, socket: &Path, shortcomings: Vec<String>) -> ExitCode {
    let line = io::stdin();
    if say(line.as_fd(), &Answer::Ready(shortcomings), None).is_err() {
        return ExitCode::FAILURE;
    }
    let mut opener = Serving { configuration, socket, made: HashSet::new(), taps: HashSet::new() };
    let mut bytes = vec![0; MAX_LEN];
    loop {
        let (len, descriptors) = match receive(line.as_fd(), &mut bytes) {
            // What was sent along is not there, and must not be taken for not sent.
            Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
                if say(line.as_fd(), &super::refused(&error), None).is_err() {
                    return ExitCode::SUCCESS;
                }
                continue;
            }
            Ok((0, _)) | Err(_) => return ExitCode::SUCCESS,
            Ok(received) => received,
        };
        let answered = match serde_json::from_slice(&bytes[..len]) {
            Ok(request) => opener.answer(request, descriptors),
            Err(error) => Err(io::Error::new(ErrorKind::InvalidInput, format!("no request: {error}"))),
        };
        let (answer, descriptor) = answered.unwrap_or_else(|error| (super::refused(&error), None));
        if say(line.as_fd(), &answer, descriptor).is_err() {
            return ExitCode::SUCCESS;
        }
    }
}

fn say(line: impl AsFd, answer: &Answer, descriptor: Option<OwnedFd>) -> io::Result<()> {
    let bytes = serde_json::to_vec(answer)?;
    let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
    send(line, &bytes, &descriptors)
}

struct Serving<'p> {
    configuration: &'p Path,
    socket: &'p Path,
    made: change::Made,
    /// Taps that were made here, by namespace and name: none else gets a further queue.
    taps: HashSet<(u64, String)>,
}

type Answered = io::Result<(Answer, Option<OwnedFd>)>;

impl Serving<'_> {
    fn answer(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> Answered {
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next();
        let opened = |descriptor: OwnedFd| Ok((Answer::Done, Some(descriptor)));
        let done = || Ok((Answer::Done, None));
        match request {
            Request::Namespace(name) => opened(name.open_here()?.as_fd().try_clone_to_owned()?),
            Request::NewNamespace => opened(namespace_of(next())?.making(inside::namespace)??),
            Request::Socket { kind, nonblocking } => {
                let (family, socket_type, protocol) = kind.arguments();
                let flags = SocketKind::flags(nonblocking);
                opened(namespace_of(next())?.making(|| inside::socket(family, socket_type, flags, protocol))??)
            }
            Request::TapQueue { name, queue } => self.tap_queue(&namespace_of(next())?, &name, queue),
            Request::TapNamespace => opened(handed_tap::namespace_of(&next().ok_or_else(lacks)?)?),
            Request::Change { message } => {
                let netns = namespace_of(Some(next().ok_or_else(lacks)?))?;
                let far = next().map(|far| namespace_of(Some(far))).transpose()?;
                Ok((Answer::Netlink(change::make(&netns, far.as_ref(), &message, &mut self.made)?), None))
            }
            Request::Buffer { of, bytes } => {
                let socket = next().ok_or_else(lacks)?;
                match of {
                    Buffer::Receive => sockopt::set_socket_recv_buffer_size_force(&socket, bytes)?,
                    Buffer::Send => sockopt::set_socket_send_buffer_size_force(&socket, bytes)?,
                }
                done()
            }
            Request::Bind { address } => {
                let socket = next().ok_or_else(lacks)?;
                if !udp::is_udp(&socket) {
                    return Err(io::Error::new(ErrorKind::InvalidInput, "only UDP sockets get an address"));
                }
                rustix::net::bind(&socket, &address)?;
                done()
            }
            Request::Table(table) => {
                let file = namespace_of(next())?.within(|| File::open(table.path()))??;
                opened(file.into())
            }
            Request::SocketOwner { inode } => Ok((Answer::Owner(socket_owner(inode)), None)),
            Request::Configuration => opened(File::open(self.configuration)?.into()),
            Request::RemoveSocket => {
                if !fs::symlink_metadata(self.socket)?.file_type().is_socket() {
                    return Err(io::Error::new(ErrorKind::InvalidInput, "it is no socket any more"));
                }
                fs::remove_file(self.socket)?;
                done()
            }
        }
    }

    fn tap_queue(&mut self, netns: &Netns, name: &str, queue: TapQueue) -> Answered {
        let name = InterfaceName::new(name).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        let tap = (netns.inode(), name.as_str().to_owned());
        if queue == TapQueue::Further && !self.taps.contains(&tap) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "weft's opener has not made this tap"));
        }
        match netns.making(|| tun::queue(&name, queue))? {
            Ok(descriptor) => {
                self.taps.insert(tap);
                Ok((Answer::Done, Some(descriptor)))
            }
            Err(error) => {
                let at_device = error.is_at_device();
                let source = error.into_source();
                let mut refused = Refused::new(&source);
                refused.at_device = at_device;
                Ok((Answer::Refused(refused), None))
            }
        }
    }
}

/// Without a descriptor: the opener's own namespace, which is weft's.
fn namespace_of(descriptor: Option<OwnedFd>) -> io::Result<Netns> {
    match descriptor {
        Some(descriptor) => Netns::from_descriptor(descriptor, "the namespace"),
        None => Netns::own(),
    }
}

fn lacks() -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, "a descriptor is missing")
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpListener};

    use super::*;

    /// What an opener says whose configuration and control socket are both this file.
    fn ask(file: &Path, request: Request, descriptors: Vec<OwnedFd>) -> Answered {
        let mut opener = Serving { configuration: file, socket: file, made: HashSet::new(), taps: HashSet::new() };
        opener.answer(request, descriptors)
    }

    fn refusal(request: Request, descriptors: Vec<OwnedFd>) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        ask(file.path(), request, descriptors).unwrap_err().to_string()
    }

    fn text(answered: Answered) -> String {
        let (answer, descriptor) = answered.unwrap();
        assert_eq!(answer, Answer::Done);
        let mut text = String::new();
        File::from(descriptor.unwrap()).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn it_hands_out_its_configuration_and_the_kernels_tables() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "[switch]\n").unwrap();
        assert_eq!(text(ask(file.path(), Request::Configuration, vec![])), "[switch]\n");
        assert!(text(ask(file.path(), Request::Table(super::super::Table::Snmp), vec![])).contains("Udp:"));
    }

    #[test]
    fn what_weft_does_not_need_is_refused() {
        let further = Request::TapQueue { name: "tap0".to_owned(), queue: TapQueue::Further };
        assert_eq!(refusal(further, vec![]), "weft's opener has not made this tap");
        let named = Request::TapQueue { name: "no name/".to_owned(), queue: TapQueue::First };
        assert!(refusal(named, vec![]).contains("an interface name has no"));
        let tcp: OwnedFd = TcpListener::bind("127.0.0.1:0").unwrap().into();
        let bind = Request::Bind { address: "127.0.0.1:1".parse().unwrap() };
        assert_eq!(refusal(bind, vec![tcp]), "only UDP sockets get an address");
        assert_eq!(refusal(Request::RemoveSocket, vec![]), "it is no socket any more");
        let no_namespace: OwnedFd = File::open("/dev/null").unwrap().into();
        assert_eq!(refusal(Request::NewNamespace, vec![no_namespace]), "the namespace is not a network namespace");
        assert_eq!(refusal(Request::Change { message: vec![] }, vec![]), "a descriptor is missing");
        let own: OwnedFd = File::open("/proc/self/ns/net").unwrap().into();
        assert!(refusal(Request::Change { message: vec![1, 2, 3] }, vec![own]).contains("it can't be read"));
    }

    #[test]
    fn what_is_no_request_is_none() {
        for bytes in [&b""[..], b"{}", b"\"Reboot\"", b"[1]", b"{\"Socket\":{\"kind\":\"Unix\",\"nonblocking\":true}}"]
        {
            assert!(serde_json::from_slice::<Request>(bytes).is_err(), "{bytes:?}");
        }
    }
}
