//! System calls: which are left to a running switch, and to its opener; seccomp(2).
//!
//! What is on the list of a filter is made as ever. What is on none fails with EPERM: a library that tries something new goes
//! on without it, or says what it could not do. What no weft ever does and an intruder would begin with ends the process at
//! once, by SIGSYS: to run a program, to look into another process, to get other privileges, to mount, to load code into the
//! kernel ([`FORBIDDEN_KILLS`]). The kernel tells of both in the audit log (`type=SECCOMP`, or the kernel's log without a
//! daemon).
//!
//! A filter is put together of three: the kernel runs all, and takes the strictest answer
//! (`kernel/seccomp.c:seccomp_run_filters`). Calls that all three let pass whatever their arguments are, all those that a frame
//! causes among them, it remembers and asks no more (`seccomp_cache_prepare`, since 5.11).

use std::{collections::BTreeMap, env::consts::ARCH};

use libc::{
    CLONE_NEWNET, CLONE_THREAD, F_DUPFD_CLOEXEC, F_GETFD, F_GETFL, F_SETFD, F_SETFL, FIONBIO, O_CREAT, O_RDWR, O_TRUNC,
    O_WRONLY, PR_SET_NAME, PROT_EXEC, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFNAME, TCGETS, TUNGETIFF, TUNSETIFF,
    TUNSETOFFLOAD, TUNSETSNDBUF, TUNSETVNETHDRSZ,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use crate::sys::seccomp;

/// Whose calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Filter {
    /// A running switch's: it uses what is open, and starts threads.
    Switch,
    /// Its opener's: it also enters network namespaces, opens files and makes sockets.
    Opener,
    /// An opener's without CAP_SYS_ADMIN, which has to run a program to get into a user namespace ([`crate::sys::inside`]): no
    /// list, but what kills stays forbidden, as far as that program can do without.
    RootlessOpener,
}

/// Puts the filter onto this process.
pub(super) fn filter(which: Filter, shortcomings: &mut Vec<String>) {
    match which.programs() {
        Err(error) => shortcomings.push(format!("system calls are not filtered: {error}")),
        Ok(programs) => {
            let installed = programs.iter().try_for_each(|(program, told)| seccomp::install(program, *told));
            if let Err(error) = installed {
                shortcomings.push(format!(
                    "system calls are not filtered: this kernel (CONFIG_SECCOMP_FILTER), or who runs it, refuses ({error})"
                ));
            }
        }
    }
}

impl Filter {
    /// The programs for the kernel, and whether what they forbid is told.
    fn programs(self) -> Result<Vec<(BpfProgram, bool)>, BackendError> {
        let arch: TargetArch = ARCH.try_into()?;
        let compile = |rules: Rules, otherwise, then| -> Result<BpfProgram, BackendError> {
            SeccompFilter::new(rules, otherwise, then, arch)?.try_into()
        };
        let errno = |errno: i32| SeccompAction::Errno(errno.cast_unsigned());
        let kills = FORBIDDEN_KILLS.iter().copied().filter(|call| !self.needs(*call));
        let kills = kills.map(|call| (call, vec![])).collect();
        let mut programs = vec![(compile(kills, SeccompAction::Allow, SeccompAction::KillProcess)?, true)];
        if self == Self::RootlessOpener {
            return Ok(programs);
        }
        // Its flags lie in memory, where a filter can't see them; with this error libraries use clone(2) instead.
        let unknown = BTreeMap::from([(libc::SYS_clone3, vec![])]);
        programs.push((compile(unknown, SeccompAction::Allow, errno(libc::ENOSYS))?, false));
        programs.push((compile(self.allowed()?, errno(libc::EPERM), SeccompAction::Allow)?, true));
        Ok(programs)
    }

    fn needs(self, call: i64) -> bool {
        match self {
            Self::Switch => false,
            Self::Opener => [libc::SYS_setns, libc::SYS_unshare].contains(&call),
            Self::RootlessOpener => [libc::SYS_setns, libc::SYS_unshare, libc::SYS_execve].contains(&call),
        }
    }

    fn allowed(self) -> Result<Rules, BackendError> {
        let mut rules: Rules = BOTH.iter().copied().map(|call| (call, vec![])).collect();
        rules.extend(both_if()?);
        match self {
            Self::Switch => {
                rules.extend(SWITCH.iter().copied().map(|call| (call, vec![])));
                rules.extend(switch_if()?);
            }
            Self::Opener | Self::RootlessOpener => {
                rules.extend(OPENER.iter().copied().map(|call| (call, vec![])));
                rules.extend(opener_if()?);
            }
        }
        Ok(rules)
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Calls that end the process, since only an intruder makes them.
const FORBIDDEN_KILLS: &[i64] = &[
    // programs
    libc::SYS_execve,
    libc::SYS_execveat,
    // other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // other privileges
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capset,
    libc::SYS_personality,
    // namespaces and mounts
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    // the kernel itself
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_open_by_handle_at,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Whatever their arguments are.
const BOTH: &[i64] = &[
    // descriptors that are open
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_bind,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    // what files are, but not what is in them
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    // memory
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // threads and signals; the filter before this one answers for clone3
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    // time and chance
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    // who one is
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_uname,
    libc::SYS_getcpu,
    libc::SYS_capget,
];

const SWITCH: &[i64] = &[
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_accept4,
    libc::SYS_getpeername,
    libc::SYS_shutdown,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_membarrier,
    libc::SYS_sysinfo,
    // its opener's end
    libc::SYS_waitid,
    libc::SYS_wait4,
    // threads that stay on their processors, and go first there
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getattr,
    libc::SYS_sched_setattr,
    libc::SYS_getpriority,
    libc::SYS_setpriority,
];

const OPENER: &[i64] = &[
    libc::SYS_unlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

/// Depending on their arguments, for both.
fn both_if() -> Result<Rules, BackendError> {
    let no_code = |prot| Ok::<_, BackendError>(vec![rule([without(prot, PROT_EXEC)?])?]);
    let fcntls = [F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC];
    // glibc names threads' stacks so, since 2.38.
    const PR_SET_VMA: i32 = 0x5356_4d41;
    Ok(BTreeMap::from([
        (libc::SYS_mmap, no_code(2)?),
        (libc::SYS_mprotect, no_code(2)?),
        // a thread, no process
        (libc::SYS_clone, vec![rule([with(0, CLONE_THREAD)?])?]),
        (libc::SYS_fcntl, one_of(1, &fcntls)?),
        (libc::SYS_prctl, one_of(0, &[PR_SET_NAME, PR_SET_VMA, libc::PR_GET_SECCOMP, libc::PR_GET_NO_NEW_PRIVS])?),
        // abort(3)
        (libc::SYS_tgkill, one_of(0, &[std::process::id().cast_signed()])?),
        // to read a limit, which needs no second value
        (libc::SYS_prlimit64, vec![rule([condition(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?])?]),
    ]))
}

fn switch_if() -> Result<Rules, BackendError> {
    let ioctls = [
        code(FIONBIO),
        code(TCGETS),
        code(TUNGETIFF),
        code(TUNSETVNETHDRSZ),
        code(TUNSETSNDBUF),
        code(TUNSETOFFLOAD),
        TUNATTACHFILTER,
        TUNDETACHFILTER,
        code(SIOCGIFHWADDR),
        code(SIOCGIFINDEX),
        code(SIOCGIFNAME),
        NS_GET_NSTYPE,
    ];
    // Which files may be opened at all is Landlock's to say; where there is none, no more than to read.
    let to_read = rule([without(2, O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)?])?;
    Ok(BTreeMap::from([
        (libc::SYS_ioctl, one_of(1, &ioctls)?),
        (libc::SYS_openat, vec![to_read]),
        // the runtime's own, for signals
        (libc::SYS_socketpair, one_of(0, &[libc::AF_UNIX])?),
    ]))
}

fn opener_if() -> Result<Rules, BackendError> {
    let ioctls = [
        code(FIONBIO),
        code(TCGETS),
        code(TUNSETIFF),
        TUNGETDEVNETNS,
        NS_GET_NSTYPE,
        NS_GET_USERNS,
        NS_GET_OWNER_UID,
        code(SIOCGIFINDEX),
    ];
    let families = [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET];
    // It makes no file, and empties none.
    let existing = rule([without(2, O_CREAT | O_TRUNC)?])?;
    Ok(BTreeMap::from([
        (libc::SYS_ioctl, one_of(1, &ioctls)?),
        (libc::SYS_openat, vec![existing]),
        (libc::SYS_socket, one_of(0, &families)?),
        (libc::SYS_setns, one_of(1, &[CLONE_NEWNET])?),
        (libc::SYS_unshare, one_of(0, &[CLONE_NEWNET])?),
    ]))
}

// include/uapi/linux/if_tun.h: _IOW('T', 213 and 214, struct sock_fprog), _IO('T', 227)
const TUNATTACHFILTER: i32 = code(1 << 30 | (size_of::<libc::sock_fprog>() as libc::Ioctl) << 16 | 0x54d5);
const TUNDETACHFILTER: i32 = code(1 << 30 | (size_of::<libc::sock_fprog>() as libc::Ioctl) << 16 | 0x54d6);
const TUNGETDEVNETNS: i32 = 0x54e3;
// include/uapi/linux/nsfs.h: _IO(0xb7, 1, 3 and 4)
const NS_GET_USERNS: i32 = 0xb701;
const NS_GET_NSTYPE: i32 = 0xb703;
const NS_GET_OWNER_UID: i32 = 0xb704;

/// The kernel looks at the lower 32 bits of a request's number.
const fn code(request: libc::Ioctl) -> i32 {
    request as i32
}

fn rule<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.to_vec())
}

fn condition(
    argument: u8,
    len: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, len, operator, value)
}

/// None of these bits is set.
fn without(argument: u8, bits: i32) -> Result<SeccompCondition, BackendError> {
    let mask = u64::from(bits.cast_unsigned());
    condition(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), 0)
}

/// All of these bits are set.
fn with(argument: u8, bits: i32) -> Result<SeccompCondition, BackendError> {
    let mask = u64::from(bits.cast_unsigned());
    condition(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), mask)
}

/// The argument is one of these.
fn one_of(argument: u8, values: &[i32]) -> Result<Vec<SeccompRule>, BackendError> {
    let equals = |value: &i32| {
        let value = u64::from(value.cast_unsigned());
        rule([condition(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?])
    };
    values.iter().map(equals).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_can_be_compiled() {
        for which in [Filter::Switch, Filter::Opener, Filter::RootlessOpener] {
            let programs = which.programs().unwrap();
            assert_eq!(programs.len(), if which == Filter::RootlessOpener { 1 } else { 3 });
            // BPF_MAXINSNS
            assert!(programs.iter().all(|(program, _)| (10..4096).contains(&program.len())));
        }
    }

    #[test]
    fn nothing_is_allowed_that_kills() {
        for which in [Filter::Switch, Filter::Opener] {
            let allowed = which.allowed().unwrap();
            let both: Vec<_> = FORBIDDEN_KILLS.iter().filter(|call| allowed.contains_key(call)).collect();
            let needed: Vec<_> = FORBIDDEN_KILLS.iter().filter(|call| which.needs(**call)).collect();
            assert_eq!(both, needed, "{which:?}");
        }
    }
}
