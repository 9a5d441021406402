//! Which UDP source port an inner flow takes.
//!
//! Routers and network cards of the underlay spread load by hashing the outer addresses and ports. Between two VTEPs only
//! the source port can differ, so it is taken from a hash of the inner flow: one flow keeps one path and its order, many
//! flows use many paths (RFC 7348 section 5).
//!
//! The kernel writes any port into the header. A process has a socket per source port, so only as many ports as sockets:
//! the port range is cut into that many *buckets*, each a run of neighbouring ports, and a flow takes the socket of the
//! bucket in which the kernel's port for it lies:
//!
//! ```text
//! port   min                                                    max - 1
//!        |------ bucket 0 ------|------ bucket 1 ------|-- bucket 2 ..|
//!             ^ its one socket           ^ port that the kernel takes for this hash: bucket 1
//! ```

use std::num::NonZeroUsize;

use thiserror::Error;

/// The range of source ports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SourcePorts {
    min: u16,
    max: u16,
}

/// Two numbers that bound no range of source ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum InvalidSourcePorts {
    /// The range would begin at port 0, which no datagram can be answered to.
    #[error("a range of source ports begins at 1 or above")]
    Zero,
    /// The range ends before it begins.
    #[error("the range of source ports {min}-{max} ends before it begins")]
    Reversed {
        /// The first port.
        min: u16,
        /// The last port.
        max: u16,
    },
}

impl SourcePorts {
    /// The "dynamic/private port range 49152-65535" that RFC 7348 section 5 recommends.
    pub const RECOMMENDED: Self = Self { min: 49_152, max: 65_535 };

    /// The range from `min` to `max`.
    ///
    /// # Errors
    /// `min` is 0, or larger than `max`.
    pub const fn new(min: u16, max: u16) -> Result<Self, InvalidSourcePorts> {
        if min == 0 {
            Err(InvalidSourcePorts::Zero)
        } else if min > max {
            Err(InvalidSourcePorts::Reversed { min, max })
        } else {
            Ok(Self { min, max })
        }
    }

    /// The first port.
    pub const fn min(self) -> u16 {
        self.min
    }

    /// The range's end, which the kernel's formula never yields (unless it is the first port too).
    pub const fn max(self) -> u16 {
        self.max
    }

    /// How many different ports [`SourcePorts::port`] can yield: `max - min`, at least 1. More buckets than this there
    /// can't be.
    pub const fn distinct_count(self) -> u16 {
        if self.min == self.max { 1 } else { self.max - self.min }
    }

    /// The kernel's source port for a flow's hash (`include/net/udp.h:udp_flow_src_port`).
    #[inline]
    pub const fn port(self, hash: u32) -> u16 {
        self.min + self.offset(hash) as u16
    }

    /// How far the port lies behind `min`.
    const fn offset(self, hash: u32) -> u32 {
        // "Since this is being sent on the wire obfuscate hash a bit to minimize possibility that any useful information
        // to an attacker is leaked. Only upper 16 bits are relevant in the computation for 16 bit port value"
        let hash = hash ^ (hash << 16);
        ((hash as u64 * (self.max - self.min) as u64) >> 32) as u32
    }

    /// The bucket, of `count`, that a flow's hash falls into.
    ///
    /// There are at least 1 and at most [`SourcePorts::distinct_count`] buckets, whatever `count` says.
    #[inline]
    pub fn bucket(self, hash: u32, count: usize) -> usize {
        let count = self.bucket_count(count);
        self.offset(hash) as usize * count.get() / usize::from(self.distinct_count())
    }

    /// The first and the last port of bucket `index` of `count`. The buckets share no port, and together they are all ports
    /// that [`SourcePorts::port`] yields.
    ///
    /// `count` is bounded as in [`SourcePorts::bucket`]; an `index` past the last bucket means the last one.
    pub fn bucket_ports(self, index: usize, count: usize) -> (u16, u16) {
        let count = self.bucket_count(count);
        let index = index.min(count.get() - 1);
        // the smallest offset whose bucket is `index`: offset * count / distinct >= index
        let begin = |index: usize| (index * usize::from(self.distinct_count())).div_ceil(count.get()) as u16;
        (self.min + begin(index), self.min + (begin(index + 1) - 1))
    }

    fn bucket_count(self, count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count.min(usize::from(self.distinct_count()))).unwrap_or(NonZeroUsize::MIN)
    }
}

impl Default for SourcePorts {
    fn default() -> Self {
        Self::RECOMMENDED
    }
}
