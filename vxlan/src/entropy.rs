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
    #[inline]
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

    #[inline]
    fn bucket_count(self, count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count.min(usize::from(self.distinct_count()))).unwrap_or(NonZeroUsize::MIN)
    }
}

impl Default for SourcePorts {
    fn default() -> Self {
        Self::RECOMMENDED
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The kernel's lines in other words, in wider arithmetic.
    fn kernel_port(hash: u32, min: u16, max: u16) -> u128 {
        let mixed = u128::from(hash) ^ ((u128::from(hash) << 16) & 0xffff_ffff);
        u128::from(min) + ((mixed * u128::from(max - min)) >> 32)
    }

    fn any_range() -> impl Strategy<Value = SourcePorts> {
        (1..=u16::MAX, 1..=u16::MAX).prop_map(|(a, b)| SourcePorts::new(a.min(b), a.max(b)).unwrap())
    }

    #[test]
    fn ranges_that_begin_at_zero_or_end_early_are_refused() {
        assert_eq!(SourcePorts::new(0, 10), Err(InvalidSourcePorts::Zero));
        assert_eq!(SourcePorts::new(0, 0), Err(InvalidSourcePorts::Zero));
        assert_eq!(SourcePorts::new(11, 10), Err(InvalidSourcePorts::Reversed { min: 11, max: 10 }));
        assert_eq!(SourcePorts::new(49_152, 65_535), Ok(SourcePorts::default()));
    }

    #[test]
    fn the_extreme_hashes_take_the_ends_of_the_range_and_max_is_never_used() {
        let ports = SourcePorts::default();
        // mixing turns these into the smallest and the largest number
        assert_eq!(ports.port(0x0000_0000), 49_152);
        assert_eq!(ports.port(0x0000_ffff), 65_534);
    }

    #[test]
    fn a_range_of_one_port_has_one_bucket() {
        let ports = SourcePorts::new(5000, 5000).unwrap();
        for hash in [0, 1, u32::MAX] {
            assert_eq!(ports.port(hash), 5000);
            assert_eq!(ports.bucket(hash, 16), 0);
        }
        assert_eq!(ports.bucket_ports(0, 16), (5000, 5000));
    }

    #[test]
    fn sixteen_sockets_share_the_default_range_almost_evenly() {
        let ports = SourcePorts::default();
        let sizes: Vec<_> = (0..16).map(|index| ports.bucket_ports(index, 16)).map(|(a, b)| b - a + 1).collect();
        assert_eq!(sizes.iter().sum::<u16>(), 16_383);
        assert!(sizes.iter().all(|&size| size == 1023 || size == 1024), "{sizes:?}");
    }

    #[test]
    fn hashes_spread_over_all_buckets_evenly() {
        let ports = SourcePorts::default();
        let mut hits = [0_u32; 16];
        // a sequence without structure: multiples of an odd constant, 2^32 divided by the golden ratio
        for n in 0..160_000_u32 {
            hits[ports.bucket(n.wrapping_mul(0x9e37_79b9), 16)] += 1;
        }
        assert!(hits.iter().all(|hits| (9_500..10_500).contains(hits)), "{hits:?}");
    }

    proptest! {
        #[test]
        fn the_port_is_the_kernels(hash: u32, ports in any_range()) {
            prop_assert_eq!(u128::from(ports.port(hash)), kernel_port(hash, ports.min(), ports.max()));
        }

        #[test]
        fn the_kernels_port_lies_in_the_bucket_of_its_hash(hash: u32, ports in any_range(), count in 0..70_000_usize) {
            let (first, last) = ports.bucket_ports(ports.bucket(hash, count), count);
            prop_assert!((first..=last).contains(&ports.port(hash)));
        }

        #[test]
        fn as_many_sockets_as_ports_give_each_hash_the_kernels_port(hash: u32, min in 1..=65_000_u16, size in 1..=256_u16) {
            let ports = SourcePorts::new(min, min + size).unwrap();
            let count = usize::from(size);
            let exact = ports.port(hash);
            prop_assert_eq!(ports.bucket_ports(ports.bucket(hash, count), count), (exact, exact));
        }

        #[test]
        fn buckets_follow_each_other_without_gap_or_overlap(ports in any_range(), count in 0..2_000_usize) {
            let count = count.clamp(1, usize::from(ports.distinct_count()));
            let mut next = u32::from(ports.min());
            for index in 0..count {
                let (first, last) = ports.bucket_ports(index, count);
                prop_assert_eq!(u32::from(first), next);
                prop_assert!(last >= first);
                next = u32::from(last) + 1;
            }
            prop_assert_eq!(next, u32::from(ports.min()) + u32::from(ports.distinct_count()));
        }

        #[test]
        fn a_bucket_is_one_of_those_there_are(hash: u32, ports in any_range(), count: usize) {
            prop_assert!(ports.bucket(hash, count) < count.clamp(1, usize::from(ports.distinct_count())));
        }

        #[test]
        fn numbers_without_sense_yield_ports_of_the_range(ports in any_range(), index: usize, count: usize) {
            let (first, last) = ports.bucket_ports(index, count);
            prop_assert!(ports.min() <= first && first <= last && last <= ports.max());
        }
    }
}
