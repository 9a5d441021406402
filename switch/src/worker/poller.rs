//! Which of a worker's descriptors can be read: one question to the kernel about all of them.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{event::epoll, io::Errno, time::Timespec};
use weft_vxlan::HeaderFormat;

use crate::ids::PortId;

/// What a descriptor stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// The control plane has a command.
    Commands,
    /// The underlay's socket at the port of a format.
    Underlay(HeaderFormat),
    /// A port's queue.
    Port(PortId),
}

/// Watches descriptors for something to read.
///
/// Level-triggered: a source that was not read to its end is in the next answer too, so a worker may leave it for the
/// sake of others at any time.
pub(super) trait Poller {
    /// Watches a descriptor from now on. One that is watched already stays so.
    ///
    /// # Errors
    /// What the kernel says: EPERM for a descriptor that can't be polled, ENOMEM, ENOSPC.
    fn add(&mut self, fd: BorrowedFd<'_>, source: Source) -> io::Result<()>;

    /// Watches a descriptor no longer.
    ///
    /// # Errors
    /// What the kernel says: ENOENT if it was not watched.
    fn remove(&mut self, fd: BorrowedFd<'_>) -> io::Result<()>;

    /// Puts the sources that can be read into `ready`, in turn if they are many. If there are none, sleeps until there are
    /// or the time is over; no time means for ever. A signal may end it early, with nothing in `ready`.
    ///
    /// # Errors
    /// What the kernel says.
    fn wait(&mut self, ready: &mut Vec<Source>, timeout: Option<Duration>) -> io::Result<()>;
}

/// epoll(7).
pub(super) struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// Sources in one answer. Of more the kernel gives the others next time: a level-triggered source goes to the end of
    /// its list whenever it was told (`fs/eventpoll.c`: ep_send_events).
    const EVENT_COUNT: usize = 64;

    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { fd: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }
}

impl Poller for Epoll {
    fn add(&mut self, fd: BorrowedFd<'_>, source: Source) -> io::Result<()> {
        match epoll::add(&self.fd, fd, source.token(), epoll::EventFlags::IN) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn remove(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.fd, fd)?)
    }

    fn wait(&mut self, ready: &mut Vec<Source>, timeout: Option<Duration>) -> io::Result<()> {
        let mut events = [const { MaybeUninit::uninit() }; Self::EVENT_COUNT];
        // A time that fits no timespec has no end that anybody would see.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match epoll::wait(&self.fd, &mut events, timeout.as_ref()) {
            Ok((events, _)) => ready.extend(events.iter().map(|event| Source::of(event.data))),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

impl Source {
    /// The token of port 0; those before it are the commands' and the formats'.
    const FIRST_PORT: u64 = 1 + HeaderFormat::ALL.len() as u64;

    const fn token(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Self::Commands => 0,
            Self::Underlay(format) => 1 + format.index() as u64,
            Self::Port(PortId(id)) => Self::FIRST_PORT + id as u64,
        })
    }

    fn of(token: epoll::EventData) -> Self {
        match token.u64() {
            0 => Self::Commands,
            format if format < Self::FIRST_PORT => Self::Underlay(HeaderFormat::ALL[format as usize - 1]),
            port => Self::Port(PortId(u16::try_from(port - Self::FIRST_PORT).expect("tokens are made from PortIds"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    fn ready(poller: &mut impl Poller) -> Vec<Source> {
        let mut ready = Vec::new();
        poller.wait(&mut ready, NOW).unwrap();
        ready
    }

    fn readable() -> OwnedFd {
        eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
    }

    #[test]
    fn a_source_is_told_until_it_is_read_or_removed() {
        let (mut poller, one, other) = (Epoll::new().unwrap(), readable(), readable());
        assert_eq!(ready(&mut poller), []);
        let geneve = Source::Underlay(HeaderFormat::Geneve);
        for (fd, source) in [(&one, geneve), (&other, Source::Port(PortId(u16::MAX)))] {
            poller.add(fd.as_fd(), source).unwrap();
            poller.add(fd.as_fd(), source).unwrap();
        }
        for _ in 0..3 {
            assert_eq!(ready(&mut poller), [geneve, Source::Port(PortId(u16::MAX))]);
        }
        rustix::io::read(&one, &mut [0; 8]).unwrap();
        assert_eq!(ready(&mut poller), [Source::Port(PortId(u16::MAX))]);
        poller.remove(other.as_fd()).unwrap();
        assert_eq!(ready(&mut poller), []);
        assert!(poller.remove(other.as_fd()).is_err());
    }

    #[test]
    fn every_source_is_told_by_its_token() {
        let formats = HeaderFormat::ALL.map(Source::Underlay);
        let ports = [0, 1, 2, u16::MAX].map(|id| Source::Port(PortId(id)));
        for source in [Source::Commands].into_iter().chain(formats).chain(ports) {
            assert_eq!(Source::of(source.token()), source);
        }
    }

    #[test]
    fn more_sources_than_an_answer_holds_get_their_turn() {
        let mut poller = Epoll::new().unwrap();
        let descriptors: Vec<_> = (0..3 * Epoll::EVENT_COUNT as u16).map(|id| (id, readable())).collect();
        for (id, fd) in &descriptors {
            poller.add(fd.as_fd(), Source::Port(PortId(*id))).unwrap();
        }
        let told: Vec<_> = (0..3).flat_map(|_| ready(&mut poller)).collect();
        assert!(descriptors.iter().all(|(id, _)| told.contains(&Source::Port(PortId(*id)))));
    }
}
