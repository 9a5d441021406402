//! The only unsafe code.

pub(crate) mod udp;
