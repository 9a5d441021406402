//! The only unsafe code.

pub mod netns;
