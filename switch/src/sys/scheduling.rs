//! How threads share processors; sched(7).
#![allow(unsafe_code)]

use std::io;

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
}
