//! Signals of a process with one thread that waits for another one: heard one at a time, in place.
#![allow(unsafe_code)]

use std::{io, mem::MaybeUninit};

use rustix::process::Signal;

/// Signals that are held back and waited for.
#[derive(Debug)]
pub struct Held {
    set: libc::sigset_t,
}

/// A signal that has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    /// Which.
    pub signal: Signal,
    /// Whether a process sent it, to this one. Else the kernel did, and as a rule to others as well: what is typed at a
    /// terminal goes to all processes in its foreground.
    pub is_sent: bool,
}

impl Held {
    /// Holds these signals back from the calling thread, and from threads and processes that it starts: see [`release_all`].
    ///
    /// # Errors
    /// None is known; what `pthread_sigmask(3)` says.
    pub fn new(signals: &[Signal]) -> io::Result<Self> {
        let mut set = empty();
        for signal in signals {
            // SAFETY: `set` is initialized and exclusively borrowed; the number is a signal's.
            unsafe { libc::sigaddset(&raw mut set, signal.as_raw()) };
        }
        mask(libc::SIG_BLOCK, &set)?;
        Ok(Self { set })
    }

    /// Waits for the next one.
    ///
    /// # Errors
    /// What `sigwaitinfo(2)` says; an interruption is none.
    pub fn wait(&self) -> io::Result<Heard> {
        loop {
            let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
            // SAFETY: both pointers are of values that live during the call; the kernel writes one `siginfo_t`.
            let number = unsafe { libc::sigwaitinfo(&raw const self.set, info.as_mut_ptr()) };
            if number < 0 {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error);
            }
            // SAFETY: the call has succeeded, so the kernel has filled it in.
            let info = unsafe { info.assume_init() };
            if let Some(signal) = Signal::from_named_raw(number) {
                // include/uapi/asm-generic/siginfo.h: "true if sent from user"
                return Ok(Heard { signal, is_sent: info.si_code <= 0 });
            }
        }
    }
}

/// Lets all signals come to the calling thread: for a program that was started by one that held some back.
///
/// # Errors
/// None is known; what `pthread_sigmask(3)` says.
pub fn release_all() -> io::Result<()> {
    mask(libc::SIG_SETMASK, &empty())
}

fn empty() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initializes the set behind the pointer, which is exclusively borrowed, and can't fail.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

fn mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the set is initialized and lives during the call; the old one is not asked for.
    match unsafe { libc::pthread_sigmask(how, set, std::ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_is_sent_is_heard_once_it_is_waited_for() {
        // On a thread of its own, whose mask ends with it.
        let heard = std::thread::spawn(|| {
            let held = Held::new(&[Signal::USR1, Signal::USR2]).unwrap();
            // SAFETY: the signal goes to the calling thread, which holds it back.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2) };
            held.wait().unwrap()
        });
        assert_eq!(heard.join().unwrap(), Heard { signal: Signal::USR2, is_sent: true });
    }
}
