//! Hints about memory: asking for it before it is needed, and for large pages.

#![allow(unsafe_code)]

/// Tells the processor that `value` will be read soon. Changes nothing but the time that takes; where Rust has no stable way
/// to say it (anything but x86-64), it does nothing.
#[inline(always)]
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: PREFETCHT0 is part of SSE, which every x86-64 processor has; it reads nothing into the program and does
        // not fault, whatever the address. Here the address is a reference's besides.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Bytes of a large page of x86-64; where they are larger, the kernel uses none for what is smaller.
const HUGE_PAGE_LEN: usize = 2 << 20;

/// Asks the kernel to back memory that is read at random with large pages, so that a look-up misses the processor's cache
/// and not its page tables too. For memory smaller than one of them, it does nothing.
pub(crate) fn prefer_huge_pages(words: &mut [u64]) {
    let range = words.as_mut_ptr_range();
    let first = range.start.map_addr(|address| address.next_multiple_of(HUGE_PAGE_LEN));
    let len = range.end.addr().saturating_sub(first.addr()) / HUGE_PAGE_LEN * HUGE_PAGE_LEN;
    if len > 0 {
        // SAFETY: `first..first + len` begins on a page and lies inside of `words`, which nobody else uses meanwhile. The
        // advice changes how the memory is backed and not what it holds. If the kernel has no large pages it says EINVAL, and
        // nothing has changed.
        unsafe { libc::madvise(first.cast(), len, libc::MADV_HUGEPAGE) };
    }
}
