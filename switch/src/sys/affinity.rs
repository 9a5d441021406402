//! On which CPUs threads may run. No unsafe code is needed for it.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// CPUs have numbers below this: what the kernel is told and tells here are masks of this many bits.
pub const MAX_CPUS: usize = CpuSet::MAX_CPU;

/// The numbers of the CPUs that the calling thread may run on, in order. Never none. A thread that nobody restricted may
/// run on all that its cgroup (`cpuset.cpus`) has.
///
/// # Errors
/// EINVAL on a machine with more than [`MAX_CPUS`].
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..MAX_CPUS).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Lets the calling thread run on these CPUs and on no others. Those of them that it can't have are left out.
///
/// # Errors
/// EINVAL if there is none of them that it can have.
pub fn run_on(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().filter(|&&cpu| cpu < MAX_CPUS).for_each(|&cpu| set.set(cpu));
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_stays_where_it_was_put() {
        let before = allowed().unwrap();
        let last = *before.last().unwrap();
        // In a thread of its own, which takes its affinity along when it ends.
        let inside = thread::spawn(move || {
            run_on(&[last, MAX_CPUS]).unwrap();
            assert!(run_on(&[MAX_CPUS]).is_err() && run_on(&[]).is_err());
            allowed().unwrap()
        });
        assert_eq!(inside.join().unwrap(), [last]);
        assert_eq!(allowed().unwrap(), before);
    }
}
