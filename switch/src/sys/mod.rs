//! The only unsafe code.

pub mod netns;
pub(crate) mod udp;
