//! Putting filters of system calls onto this process; seccomp(2).
#![allow(unsafe_code)]

use std::io;

use seccompiler::{BpfProgram, sock_filter};

/// Puts a filter onto all threads of this process, for ever: those that it starts and those that they run as well. If `told`, the
/// kernel tells the audit log of what it forbids.
///
/// Without SECCOMP_FILTER_FLAG_SPEC_ALLOW kernels before 5.16 would switch speculative store bypass off for the process, which
/// costs a switch more than the filter does.
///
/// # Errors
/// Needs no-new-privs or CAP_SYS_ADMIN; EINVAL or ENOSYS: the kernel has no filters.
pub fn install(program: &BpfProgram, told: bool) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // libc's `sock_filter` and seccompiler's are one layout: `include/uapi/linux/filter.h`.
    const _: () = assert!(size_of::<sock_filter>() == size_of::<libc::sock_filter>());
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    let told = if told { libc::SECCOMP_FILTER_FLAG_LOG } else { 0 };
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW | told;
    // SAFETY: the kernel reads one `sock_fprog` and as many instructions as it says; both outlive the call, and it copies and
    // checks them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    match result {
        0 => Ok(()),
        // With TSYNC: the thread that could not be synchronized.
        1.. => Err(io::Error::other(format!("thread {result} has another filter"))),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a filter is on the calling thread. Only to be asked where the filter allows prctl(2) to be asked.
pub fn is_on() -> bool {
    // SAFETY: PR_GET_SECCOMP takes no other argument and writes no memory.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP) == libc::SECCOMP_MODE_FILTER.cast_signed() }
}

/// Makes the process ignore a signal, and what it starts.
pub fn ignore(signal: rustix::process::Signal) {
    // SAFETY: SIG_IGN is no handler, so nothing runs when the signal comes; the number is a signal's.
    unsafe { libc::signal(signal.as_raw(), libc::SIG_IGN) };
}
