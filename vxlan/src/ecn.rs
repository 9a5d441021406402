//! Explicit congestion notification across the tunnel (RFC 6040).

/// How the outer ECN field follows the inner one on encapsulation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EcnMode {
    /// As the kernel: inner CE becomes outer ECT(0) (`include/net/inet_ecn.h`, `INET_ECN_encapsulate`).
    Kernel,
    /// RFC 6040 normal mode: the inner field is copied, CE too.
    Rfc6040,
}
