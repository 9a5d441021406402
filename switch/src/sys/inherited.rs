//! Descriptors that somebody else opened and weft was started with: `fd:N`, and those of socket activation
//! (`sd_listen_fds(3)`).
//!
//! A number says nothing about what is behind it, and weft opens many descriptors of its own. So what was open is noted before
//! weft opens any ([`note`]), and only that can be named. Each stays open until the end, so that a port can be opened
//! again; programs that weft starts don't get it.
#![allow(unsafe_code)]

use std::{
    env, fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
    sync::OnceLock,
};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};

/// The first number that is not standard input, output or error: SD_LISTEN_FDS_START.
const FIRST: RawFd = 3;

/// As far as is looked for descriptors without a name.
const LAST: RawFd = 1023;

static NOTED: OnceLock<Vec<Noted>> = OnceLock::new();

#[derive(Debug)]
struct Noted {
    number: RawFd,
    /// Of `LISTEN_FDNAMES`.
    name: Option<String>,
}

/// How a descriptor is named: `3`, or a name of `LISTEN_FDNAMES`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Handle {
    /// Its number.
    Number(u16),
    /// Its name.
    Name(String),
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Notes which descriptors are open. To be called before the program opens any, or starts a thread.
pub fn note() {
    NOTED.get_or_init(|| {
        let names = listen_names();
        let is_open = |number: &RawFd| fcntl_getfd(borrow(*number)).is_ok();
        let noted: Vec<_> = (FIRST..=LAST)
            .filter(is_open)
            .map(|number| {
                let name = usize::try_from(number - FIRST).ok().and_then(|index| names.get(index).cloned());
                // If that fails, programs that weft starts have it too, which harms nothing but tidiness.
                let _ = fcntl_setfd(borrow(number), FdFlags::CLOEXEC);
                Noted { number, name }
            })
            .collect();
        noted
    });
}

/// A duplicate of a descriptor that weft was started with.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] if it was started without one of that number or name; the message says with which it was.
pub fn take(handle: &Handle) -> io::Result<OwnedFd> {
    let noted = NOTED.get().map_or(&[][..], Vec::as_slice);
    let is_it = |noted: &&Noted| match handle {
        Handle::Number(number) => noted.number == RawFd::from(*number),
        Handle::Name(name) => noted.name.as_ref() == Some(name),
    };
    match noted.iter().find(is_it) {
        Some(noted) => Ok(fcntl_dupfd_cloexec(borrow(noted.number), FIRST)?),
        None => {
            Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no descriptor {handle}: {}", list(noted))))
        }
    }
}

fn list(noted: &[Noted]) -> String {
    let one = |noted: &Noted| match &noted.name {
        Some(name) => format!("{} ({name})", noted.number),
        None => noted.number.to_string(),
    };
    match noted {
        [] => "weft was started with none".to_owned(),
        _ => format!("weft was started with {}", noted.iter().map(one).collect::<Vec<_>>().join(", ")),
    }
}

/// What the starter calls the descriptors from [`FIRST`] on, if they are meant for this process (`sd_listen_fds(3)`).
fn listen_names() -> Vec<String> {
    let is_ours = env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    if !is_ours {
        return vec![];
    }
    env::var("LISTEN_FDNAMES").map(|names| names.split(':').map(str::to_owned).collect()).unwrap_or_default()
}

fn borrow<'f>(number: RawFd) -> BorrowedFd<'f> {
    // SAFETY: whether it is open is asked of the kernel first, by a call that harms nothing if it is not (F_GETFD); those that
    // are noted stay open until the process ends, since nobody owns them.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Takes over a descriptor whose number this program's starter, which is this program as well, has named to it.
///
/// # Errors
/// There is no such descriptor.
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    let duplicate = fcntl_dupfd_cloexec(borrow(number).as_fd(), FIRST)?;
    // SAFETY: the number is open, as was just seen, and was handed to this process to own; nobody else uses it.
    drop(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number) });
    Ok(duplicate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        assert_eq!(list(&[]), "weft was started with none");
        let noted = [Noted { number: 3, name: Some("blue".into()) }, Noted { number: 7, name: None }];
        assert_eq!(list(&noted), "weft was started with 3 (blue), 7");
        assert_eq!(take(&Handle::Number(60_000)).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
