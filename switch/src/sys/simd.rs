//! Loops compiled a second time, for the wider vectors that the processor at hand may have.
//!
//! A build has to run on every x86-64, so by itself it uses the 16-byte vectors that all of them have. Whether there are
//! 32-byte ones is known only when it runs, and calling code that was compiled for them is unsafe without having looked:
//! that is why this stands here.
#![allow(unsafe_code)]

/// Runs `work` compiled for AVX2. `None`, and `work` not run: the processor has no AVX2.
///
/// Only what the compiler inlines into `work` is compiled anew, so it should be a closure marked `#[inline(always)]` that
/// calls nothing but functions marked so too.
#[inline]
pub fn with_avx2<R>(work: impl FnOnce() -> R) -> Option<R> {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn run<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: what `run` asks for beyond any x86-64 is AVX2, and the line above found that the processor has it and
            // that the kernel saves its registers.
            return Some(unsafe { run(work) });
        }
    }
    None
}
