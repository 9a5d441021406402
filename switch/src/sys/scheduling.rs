//! How threads share processors; sched(7).
#![allow(unsafe_code)]

use std::{io, mem::MaybeUninit, sync::OnceLock, time::Duration};

use rustix::{
    process::{Resource, getpriority_process, getrlimit, setpriority_process},
    thread::{CapabilitySet, capabilities},
};

/// Makes the calling thread a real-time thread of the lowest such priority (SCHED_FIFO, 1), but not the threads that it
/// starts later: whenever it has something to do, it does it at once, before every ordinary thread. It must not spin, since
/// on its processor nothing else would run.
///
/// A high niceness is not the same: it decides who gets how much, and still waits for the other's time slice to end
/// (`kernel/sched/fair.c`, RUN_TO_PARITY), which is milliseconds.
///
/// # Errors
/// Needs CAP_SYS_NICE, or a limit RLIMIT_RTPRIO above zero.
pub fn make_real_time() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 means the calling thread; the kernel reads one `sched_param` from the pointer, which lives that long.
    let result =
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How nice the calling thread is, from -20 to 19.
pub fn nice() -> i8 {
    // It fails for nobody but who asks for another process that is not there.
    getpriority_process(None).ok().and_then(|nice| i8::try_from(nice).ok()).unwrap_or(0)
}

/// Makes the calling thread so nice, -20 to 19: by how much it steps back behind others. The difference of one is a tenth of
/// a processor between two threads that both want all of it.
///
/// # Errors
/// To be less nice needs CAP_SYS_NICE, or a limit RLIMIT_NICE that allows it.
pub fn set_nice(nice: i8) -> io::Result<()> {
    // The manual says "process", and means the calling thread (setpriority(2), "C library/kernel differences").
    Ok(setpriority_process(None, i32::from(nice))?)
}

/// How nice this process was before [`go_first`].
static AT_START: OnceLock<i8> = OnceLock::new();

/// Makes the calling thread go before all ordinary ones, if it may, and with it those that it starts, for the time when nobody
/// here may that any more. Who shall not calls [`step_back`].
pub fn go_first() {
    let before = nice();
    if set_nice(-20).is_ok() {
        let _ = AT_START.set(before);
    }
}

/// How nice this process was when it started.
pub fn nice_at_start() -> i8 {
    AT_START.get().copied().unwrap_or_else(nice)
}

/// Takes [`go_first`] back, for the calling thread and those that it starts from now on.
pub fn step_back() {
    // To be nicer needs no right.
    let _ = set_nice(nice_at_start());
}

/// Whether the calling thread may become so nice from any other niceness, or at least need not ask the limit.
pub fn may_be(nice: i8) -> bool {
    // getrlimit(2): the limit counts from 40, a niceness of -20, down to 1, one of 19.
    let wanted = u64::try_from(20 - i16::from(nice)).unwrap_or(0);
    getrlimit(Resource::Nice).current.is_none_or(|most| most >= wanted)
        || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_NICE))
}

/// Asks for time slices of this length for the calling thread, from 0.1 to 100 milliseconds. It gets no more of a processor for
/// it, nor less, but in smaller pieces: a thread with a shorter slice that wakes up need not wait until the slice of the
/// one that runs is over (`kernel/sched/fair.c`: PREEMPT_SHORT, Linux 6.12; before, nothing happens). No right is needed.
///
/// # Errors
/// What `sched_getattr(2)` and `sched_setattr(2)` say: ENOSYS, or EPERM where a filter forbids them.
pub fn set_slice(slice: Duration) -> io::Result<()> {
    let len = size_of::<libc::sched_attr>() as libc::c_uint;
    let mut attributes = MaybeUninit::<libc::sched_attr>::zeroed();
    // SAFETY: 0 means the calling thread; the kernel writes at most `len` bytes to the pointer, which has as many.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, attributes.as_mut_ptr(), len, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a structure of integers, for which zeros are as good as what the kernel wrote over them.
    let mut attributes = unsafe { attributes.assume_init() };
    if attributes.sched_policy != libc::SCHED_OTHER as u32 && attributes.sched_policy != libc::SCHED_BATCH as u32 {
        return Ok(()); // whoever started weft otherwise knows what for
    }
    attributes.size = len;
    attributes.sched_runtime = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
    // SAFETY: the kernel reads `attributes.size` bytes from the pointer, which is what it has, and keeps none of it.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, thread};

    #[test]
    fn the_calling_thread_alone_becomes_a_real_time_thread() {
        // "policy" of proc_pid_stat(5): the 41st field, the 39th behind the name in parentheses.
        let policy = || -> i32 {
            let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(38).unwrap().parse().unwrap()
        };
        thread::spawn(move || match make_real_time() {
            Ok(()) => {
                assert_eq!(policy(), libc::SCHED_FIFO);
                assert_eq!(thread::spawn(policy).join().unwrap(), libc::SCHED_OTHER);
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EPERM));
                assert_eq!(policy(), libc::SCHED_OTHER);
            }
        })
        .join()
        .unwrap();
        assert_eq!(policy(), libc::SCHED_OTHER);
    }

    #[test]
    fn the_calling_thread_alone_is_as_nice_as_it_was_told_to_be() {
        let before = nice();
        let nicer = (before + 1).min(19);
        thread::spawn(move || {
            set_nice(nicer).unwrap();
            assert_eq!(nice(), nicer);
        })
        .join()
        .unwrap();
        assert_eq!(nice(), before);
    }

    #[test]
    fn whoever_may_be_less_nice_can() {
        thread::spawn(|| {
            let before = nice();
            set_nice(before.saturating_add(1).min(19)).unwrap();
            if before < 19 {
                assert_eq!(set_nice(before).is_ok(), may_be(before));
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn the_calling_thread_has_the_slice_that_it_asked_for() {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
        let version = (numbers.next().unwrap(), numbers.next().unwrap());
        thread::spawn(move || {
            set_slice(Duration::from_micros(300)).unwrap();
            let sched = fs::read_to_string("/proc/thread-self/sched").unwrap_or_default();
            match sched.lines().find(|line| line.starts_with("se.slice")) {
                Some(line) if version >= (6, 12) => assert!(line.ends_with(" 300000"), "{line}"),
                Some(_) | None => println!("this kernel, {version:?}, does not tell"),
            }
        })
        .join()
        .unwrap();
    }
}
