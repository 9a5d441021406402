//! The VXLAN header.

/// What a receiver does with a header whose reserved bits are set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReservedBits {
    /// Refuse the packet, as the kernel does.
    Drop,
    /// "MUST be ignored on receipt" (RFC 7348 section 5).
    Ignore,
}
