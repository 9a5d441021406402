//! Asking for memory before it is needed.

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
